"""`hcs-daemon check`: in words, what `run` would do; everything that stands in its way, not only the first."""

import io
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from hcs_daemon import __version__
from hcs_daemon.commands import incoming_words
from hcs_daemon.commands.incoming import look_into
from hcs_daemon.commands.settings_words import settings_words
from hcs_daemon.config import Expect, Http, Settings, load_settings
from hcs_daemon.device.inference import Network, choose_device
from hcs_daemon.device.manifest import (
    Manifest,
    check_covers,
    lacking_references,
    package_folder,
    read_manifest,
    scale_problem,
)
from hcs_daemon.device.package import Package, load_package, run_selftest
from hcs_daemon.device.randomisation import randomised_words
from hcs_daemon.endpoints import Endpoints
from hcs_daemon.errors import FolderError, HcsError, SettingsError
from hcs_daemon.instruments import INSTRUMENTS
from hcs_daemon.intake.arrival import is_network_folder
from hcs_daemon.publish.lock import ResultsLock
from hcs_daemon.publish.owner import other_owner
from hcs_daemon.service import reader_count
from hcs_daemon.telemetry import Telemetry, configure_logging
from hcs_daemon.terminal import counted, say
from hcs_daemon.textfile import WRITE_S


@dataclass(slots=True)
class Findings:
    """What was found so far. Owned by `check_settings`."""

    problems: list[HcsError] = field(default_factory=list)

    def note(self, topic: str, look: Callable[[], str | list[str]]) -> bool:
        """Say what a look found, a line or several, or that it found a problem; whether it found none."""
        try:
            found = look()
            say(f"{topic:<11} {found if isinstance(found, str) else _below(found)}")
        except HcsError as error:
            known = any(problem.message == error.message for problem in self.problems)
            say(f"{topic:<11} {'cannot be told: see above' if known else f'REFUSED: {error.message}'}")
            if not known:
                self.problems.append(error)
            return False
        return True


def check_settings(config: Path) -> int:
    """0 ready; else the exit code that `run` would have ended with. Raises SettingsError for unreadable settings."""
    settings = load_settings(config)
    configure_logging("console", "error", io.StringIO())  # what a stage would log is said here in words
    findings = Findings()
    findings.note("settings", lambda: [f"{config}: complete", *settings_words(settings, config)])
    findings.note("channels", lambda: _channels(settings))
    if findings.note("watch", lambda: _watched(settings)):
        _note_incoming(settings, findings)
    findings.note("model", lambda: _model(settings))
    findings.note("pixels", lambda: _pixels(settings))
    loaded = cache(lambda: load_package(package_folder(settings.model.package)))
    findings.note("device", lambda: _device(settings, loaded))
    findings.note("explain", lambda: _explain(settings, loaded))
    running = ResultsLock(settings.results.directory).holder()
    findings.note("results", lambda: _results(settings, running))
    findings.note("finished", lambda: _finished(settings))
    if running is None:  # else that one has the port
        findings.note("http", lambda: _http(settings))
    owner = other_owner(settings.results.directory)
    return _conclude(findings.problems, running, f"sudo -u {owner} " if owner else "")


def _conclude(problems: list[HcsError], running: str | None, by: str) -> int:
    if not problems:
        say(f"ready: `{by}hcs-daemon run` would start with this{f', once {running} is stopped' if running else ''}")
        return 0
    sys.stdout.flush()
    for problem in problems:
        sys.stderr.write(f"{problem.message}\n{problem.hint}\n")
    return min(problem.exit_code for problem in problems)


def _watched(settings: Settings) -> str:
    folder = settings.watch.directory
    try:
        with os.scandir(folder) as entries:
            empty = next(entries, None) is None
    except FileNotFoundError as error:
        raise FolderError(
            f"watch.directory {folder} is not there", "mount or make it; `run` would wait for it, unready"
        ) from error
    except OSError as error:
        raise FolderError(
            f"watch.directory {folder} cannot be listed: {error.strerror}",
            "let this user read it; `run` would wait, unready",
        ) from error
    polling = settings.watch.polling == "always" or (settings.watch.polling == "auto" and is_network_folder(folder))
    return (
        f"{folder}{', empty now' if empty else ''}; {'by polling' if polling else 'by events'}, a full look every"
        f" {settings.watch.rescan_s:g} s; a file is complete when unchanged for {settings.watch.settle_s:g} s;"
        f" {counted(reader_count(settings), 'reader')}"
    )


def _note_incoming(settings: Settings, findings: Findings) -> None:
    """What is in the folder now, and what would become of it."""
    try:
        expect = _as_used(settings)
        found = look_into(settings.model_copy(update={"expect": expect}), tuple(expect.channels))
    except FolderError as error:
        findings.problems.append(error)
        say(f"{'names':<11} REFUSED: {error.message}")
        return
    findings.note("names", lambda: [_names(settings), *incoming_words.whose(found)])
    findings.note("plates", lambda: incoming_words.plates(found))
    findings.note("expected", lambda: incoming_words.expected(found, expect))
    findings.note("mapping", lambda: incoming_words.mapping(found, expect))
    findings.note("pixel size", lambda: incoming_words.image_size(found, partial(_scale_problem, settings)))
    findings.note("flat field", lambda: incoming_words.flat_field(found, expect))
    findings.note("layout", lambda: incoming_words.layouts(found, expect))
    findings.note("rejected", lambda: incoming_words.rejected(found))


def _scale_problem(settings: Settings, pixel_size_um: float) -> str | None:
    """Why the model cannot be shown such images; a package that cannot be read is a matter of its own."""
    try:
        return scale_problem(_manifest(settings), pixel_size_um)
    except HcsError:
        return None


def _names(settings: Settings) -> str:
    watch = settings.watch
    if watch.instrument == "auto":
        return f"auto: of {', '.join(each.name for each in INSTRUMENTS)} the one whose names they are"
    return f"as {watch.instrument} writes them" + (f": {watch.pattern}" if watch.pattern else "")


def _channels(settings: Settings) -> str:
    expect = settings.expect
    ignored = f"; ignored: {', '.join(expect.ignore_channels)}" if expect.ignore_channels else ""
    sites = f"; {counted(expect.sites_per_well, 'site')} a well" if expect.sites_per_well else ""
    return f"{expect.bit_depth} bits in {expect.dtype}, any other is rejected{ignored}{sites}"


def _manifest(settings: Settings) -> Manifest:
    return read_manifest(package_folder(settings.model.package))


def _as_used(settings: Settings) -> Expect:
    """Without the channels that the model does not use; whole where none of them can be told."""
    try:
        used = settings.expect.only(_manifest(settings).channel_names)
    except HcsError:
        return settings.expect
    return used if used.channels else settings.expect


def _model(settings: Settings) -> str:
    manifest = _manifest(settings)
    check_covers(manifest, settings.expect)
    aside = [name for name in settings.expect.channels if name not in manifest.channel_names]
    fed = ", ".join(f"{name} from {settings.expect.channels[name]}" for name in manifest.channel_names)
    lines = [
        f"{manifest.name} {manifest.version}, channels in order: {fed}",
    ]
    if aside:
        lines.append(f"it has no use for {', '.join(aside)}: ignored, as if expect.ignore_channels named them")
    if manifest.classes:
        lines += [
            f"says one of {', '.join(manifest.classes)}; the control's is {manifest.control_class}",
            f"a well of another class is a hit from a probability of {settings.model.hit_probability:g}",
        ]
    else:
        lines.append("it gives no verdict, only profiles: no well is a hit, and nothing is explained")
    lines += [f"WARNING: {words}" for words in manifest.warnings]
    if manifest.demonstration:
        lines.append("for DEMONSTRATION only: what it says of real cells means nothing")
    return _below(lines)


def _pixels(settings: Settings) -> str:
    manifest, given = _manifest(settings), settings.expect.pixel_size_um
    seen = f"the model sees {manifest.pixel_size_um:g} µm a pixel, in tiles of {manifest.tile_px}"
    if not given:
        return f"{seen}; the images' size is taken from the instrument's metadata, and sites wait for it"
    return f"{seen}; {given:g} µm images are resampled by {manifest.factor(given):.3g}"


def _device(settings: Settings, loaded: Callable[[], Package]) -> str:
    telemetry = Telemetry(__version__)
    device = choose_device(settings.model.device, telemetry)
    package = loaded()
    error = package.selftest_error
    if device.type != "cpu":
        error = run_selftest(package.folder, package.program.to(device), package.selftest, device)
        package.program.to("cpu")
    fallback = device.type == "cpu" and settings.model.device.startswith("cuda")
    return (
        f"{device}{', though a card was asked for and torch sees none' if fallback else ''};"
        f" the self-test passed, largest deviation {error:.1g}"
    )


def _explain(settings: Settings, loaded: Callable[[], Package]) -> str | list[str]:
    policies = {
        "none": "nothing is explained",
        "per_well": "one site of each well",
        "hits": "one site of each hit",
        "all": "every site",
    }
    said, pictures = policies[settings.explain.policy], f"; pictures: {settings.results.pictures}"
    if not _manifest(settings).classes:
        return f"nothing is explained: the model gives no verdict{pictures}"
    if settings.explain.policy == "none":
        return said + pictures
    telemetry = Telemetry(__version__)
    device = choose_device(settings.model.device, telemetry)
    facts = Network(loaded(), device, telemetry, explain=True, method=settings.explain.method).facts
    assert facts.randomisation is not None
    lines = [said + pictures, f"tried with random weights: {randomised_words(facts.randomisation)}"]
    lacking = lacking_references(_manifest(settings))
    return lines if lacking is None else [*lines, lacking]


def _results(settings: Settings, running: str | None) -> list[str]:
    folder, wanted = settings.results.directory, settings.results.min_free_bytes
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    _check_writable(there)
    free = shutil.disk_usage(there).free
    if free < wanted:
        raise FolderError(
            f"results.directory {folder}: {free / 1e9:.1f} GB are free, and results.min_free_bytes asks for"
            f" {wanted / 1e9:.1f} GB",
            "free space, or lower results.min_free_bytes; `run` would wait",
        )
    lines = [f"{folder}{'' if there == folder else ', which it would make'}; {free / 1e9:.1f} GB free"]
    if running is not None:
        lines.append(f"the service is running ({running}) and writes there; what it goes by, `hcs-daemon status` says")
    owner = other_owner(folder)
    if owner is not None:
        lines.append(
            f"tried with root's rights, and it is of {owner}; to try the service's: sudo -u {owner} hcs-daemon check …"
        )
    return lines


def _finished(settings: Settings) -> str:
    words = settings.results.on_plate_finished
    if not words:
        return "no command is run for a finished plate"
    if shutil.which(words[0]) is None:
        raise SettingsError(
            f"results.on_plate_finished: {words[0]} is not there, or may not be run by this user",
            "give the path of a program; `run` would start, and every plate's command fail",
        )
    limit = f"{settings.results.on_plate_finished_timeout_s:g} s"
    return f"each finished plate is told by {shlex.join(words)}, which may take {limit}"


def _check_writable(folder: Path) -> None:
    """Raise FolderError when a file cannot be written into `folder`, which is made if need be."""
    probe = folder / f".hcs-daemon-probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise FolderError(
            f"results.directory {folder} cannot be written: {error.strerror}",
            "give the daemon's user the right to write there, or name another folder",
        ) from error


def _http(settings: Settings) -> str | list[str]:
    answers = _endpoints(settings.http)
    return [answers, _textfile(settings.http.textfile)] if settings.http.textfile else answers


def _textfile(path: Path) -> str:
    problem = "" if os.access(path.parent, os.W_OK) else "; that folder is not there, or not to be written: make it so"
    return f"the metrics every {WRITE_S:g} s in {path}{problem}"


def _endpoints(http: Http) -> str:
    if http.port == 0:
        return "none: http.port is 0, and `hcs-daemon status` cannot ask"
    endpoints = Endpoints(http.host, http.port, bytes, lambda: None, lambda: None)
    endpoints.start()
    endpoints.stop()
    return f"/metrics, /healthz, /readyz at {http.host}:{http.port}"


def _below(lines: list[str]) -> str:
    return ("\n" + " " * 12).join(lines)
