"""`hcs-daemon train`: from labelled wells to a model package, and a short account of how good it is."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hcs_daemon.config import load_settings
from hcs_daemon.service import reader_count
from hcs_daemon.telemetry import configure_logging
from hcs_daemon.terminal import progress_bar, say
from hcs_daemon.training.evaluation import calibration_error, share
from hcs_daemon.training.making import Made, Order, make_package


def train_package(order: Order, config: Path) -> int:
    """0 when the package is written and passes its self-test. Raises HcsError."""
    # model.package is not read: what stands there may be what is to be made
    settings = load_settings(config, {"model": {"package": "demo"}})
    configure_logging(settings.log.format, "warning")
    with ThreadPoolExecutor(reader_count(settings), thread_name_prefix="reader") as readers:
        try:
            made = make_package(order, settings, readers, progress_bar, say)
        except KeyboardInterrupt:
            again = "goes on from where it was" if order.goes_on else "begins anew, as nothing was learned yet"
            say(f"\nended: the same command {again}")
            raise
    _tell(made, order)
    return 0


def _tell(made: Made, order: Order) -> None:
    report = made.report
    say(f"wells held out with the right class: {share(report.right)}")
    name, largest = report.largest
    say(f"always naming {name}: {largest.value:.3f}; balanced accuracy {report.own.balanced:.3f}: {report.own.verdict}")
    before, after = (calibration_error(values, report.labels) for values in (report.before, report.after))
    say(f"calibration error: {before:.3f} before, {after:.3f} after calibration")
    right, falsely = report.hits
    words = f"{right.hits} of {right.of} with the right class, falsely {falsely.hits} of {falsely.of} controls"
    say(f"hits held out, at a probability of {report.hit_probability:g}: {words}")
    say(f"shuffled labels: {report.shuffled_verdict}")
    say(f"position only: {report.by_place.verdict}")
    for warning in report.warnings:
        say(f"warning: {warning}")
    say(f"package: {order.output}; read its card.md, or `hcs-daemon model show {order.output}`")
