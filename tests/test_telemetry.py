"""Metrics exist from the start, and log lines are plain."""

import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from hcs_daemon import telemetry as telemetry_module
from hcs_daemon.telemetry import Event, Telemetry, configure_logging, get_log, parse_metrics
from hcs_daemon.vocabulary import Reason, Stage

PROMISED = [
    "hcs_files_seen_total",
    'hcs_planes_total{outcome="accepted"}',
    'hcs_planes_total{outcome="rejected"}',
    'hcs_planes_total{outcome="duplicate"}',
    'hcs_planes_total{outcome="ignored"}',
    "hcs_planes_pending",
    'hcs_rejections_total{reason="bit_depth"}',
    'hcs_sites_total{outcome="predicted"}',
    'hcs_sites_total{outcome="rejected"}',
    'hcs_sites_total{outcome="poisoned"}',
    'hcs_wells_total{status="complete"}',
    'hcs_wells_total{status="partial"}',
    'hcs_wells_total{status="rejected"}',
    "hcs_plates_open",
    "hcs_plates_stalled",
    'hcs_plates_finished_total{status="complete"}',
    'hcs_plates_finished_total{status="partial"}',
    'hcs_stage_seconds_count{stage="decode"}',
    'hcs_stage_queue_items{stage="infer"}',
    'hcs_stage_last_progress_timestamp_seconds{stage="scan"}',
    "hcs_well_latency_seconds_count",
    "hcs_cache_bytes",
    "hcs_cache_rereads_total",
    "hcs_batch_sites_count",
    "hcs_inference_seconds_count",
    'hcs_explanations_total{result="passed"}',
    'hcs_explanations_total{result="failed"}',
    'hcs_explanations_total{result="shed"}',
    "hcs_device_fallback",
    "hcs_device_memory_bytes",
    "hcs_device_oom_total",
    "hcs_watch_events_total",
    "hcs_watch_missed_events_total",
    "hcs_rescan_seconds_count",
    "hcs_watch_available",
    "hcs_results_write_failures_total",
    "hcs_results_free_bytes",
    "hcs_results_min_free_bytes",
    "hcs_ledger_entries_total",
    "hcs_ledger_broken",
    "hcs_control_drift",
    "hcs_clock_skew_seconds",
    "hcs_textfile_failures_total",
    "hcs_rendered_timestamp_seconds",
    "hcs_start_timestamp_seconds",
    'hcs_build_info{version="1.2.3"}',
    "hcs_ready",
]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def scrape(telemetry: Telemetry) -> dict[str, float]:
    return parse_metrics(telemetry.render().decode())


@pytest.mark.parametrize("name", PROMISED)
def test_a_promised_metric_is_there_from_the_start(name: str) -> None:
    assert name in scrape(Telemetry("1.2.3"))


def test_the_metrics_of_the_contract_are_there_as_it_says(shared_data: Path) -> None:
    """By the contract's own text, where it is at hand: names, and labels with their closed lists."""
    text = (shared_data.parent / "contract.md").read_text(encoding="utf-8")
    promised = re.findall(r"`hcs_([a-z_]+)(?:\{([^}`]*)\})?`", text[text.index("## Metrics") :])
    assert len(promised) > 30
    telemetry = Telemetry("1")
    described = {metric.name: metric for metric in telemetry.registry.collect()}
    named = {f"hcs_{name}".removesuffix("_total"): labels for name, labels in promised}
    assert named.keys() <= described.keys()
    for name, labels in named.items():
        closed = re.fullmatch(r'([a-z]+)="([a-z|]+)"', labels)
        if closed:
            found = {sample.labels[closed[1]] for sample in described[name].samples}
            assert found == set(closed[2].split("|"))
    for kind in re.findall(r"`(hcs_[a-z_]+)(?:\{[a-z]+\})?` \(histogram", text):
        assert described[kind].type == "histogram"
    (stages,) = re.findall(r"`stage` = ([a-z, ]+)\)", text)
    assert stages.split(", ") == [stage.value for stage in Stage]
    (reasons,) = re.findall(r"Reasons, a closed list: ((?:`[a-z_]+`[,.]?\s*)+)", text)
    assert re.findall(r"[a-z_]+", reasons) == [reason.value for reason in Reason]


def test_the_progress_of_a_stage_is_its_start_until_the_first() -> None:
    before = time.time()
    telemetry = Telemetry("1")
    shown = {name: value for name, value in scrape(telemetry).items() if "last_progress" in name}
    assert len(shown) == len(Stage)
    assert all(before <= value <= time.time() for value in shown.values())


def test_the_start_is_told_and_stays() -> None:
    before = time.time()
    telemetry = Telemetry("1")
    first = scrape(telemetry)["hcs_start_timestamp_seconds"]
    assert before <= first <= time.time()
    assert scrape(telemetry)["hcs_start_timestamp_seconds"] == first


def test_every_event_is_used_and_named_as_a_thing_and_what_happened_to_it() -> None:
    package = Path(telemetry_module.__file__).parent
    code = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    assert [event.name for event in Event if f"Event.{event.name}" not in code] == []
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", event) for event in Event)


def test_counters_and_histograms_begin_at_zero() -> None:
    counted = {
        name: value
        for name, value in scrape(Telemetry("1")).items()
        if name.partition("{")[0].endswith(("_total", "_count"))
    }
    assert len(counted) > 40
    assert set(counted.values()) == {0.0}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_count(reason: Reason) -> None:
    telemetry = Telemetry("1")
    telemetry.rejections.labels(reason).inc()
    assert scrape(telemetry)[f'hcs_rejections_total{{reason="{reason}"}}'] == 1


def test_two_telemetries_do_not_share_their_counts() -> None:
    one, other = Telemetry("1"), Telemetry("1")
    one.files_seen.inc()
    assert scrape(other)["hcs_files_seen_total"] == 0


def test_a_timed_stage_is_counted_and_made_progress() -> None:
    telemetry = Telemetry("1")
    progress = 'hcs_stage_last_progress_timestamp_seconds{stage="publish"}'
    telemetry.stage_last_progress.labels(Stage.PUBLISH).set(0)
    with telemetry.timed(Stage.PUBLISH):
        pass
    after = scrape(telemetry)
    assert after['hcs_stage_seconds_count{stage="publish"}'] == 1
    assert after[progress] > 0


def test_a_timed_stage_that_fails_made_no_progress() -> None:
    telemetry = Telemetry("1")
    with pytest.raises(ZeroDivisionError), telemetry.timed(Stage.PUBLISH):
        raise ZeroDivisionError
    assert scrape(telemetry)['hcs_stage_seconds_count{stage="publish"}'] == 0


def test_a_label_is_found_whatever_the_order_of_labels() -> None:
    telemetry = Telemetry("1")
    telemetry.model_info.labels("demo", "1", "abc").set(1)
    assert scrape(telemetry)['hcs_model_info{name="demo",sha256="abc",version="1"}'] == 1


def test_no_metric_is_labelled_by_well_or_plate() -> None:
    labels = {
        label for family in Telemetry("1").registry.collect() for sample in family.samples for label in sample.labels
    }
    assert labels <= {"outcome", "reason", "status", "stage", "result", "version", "le", "device", "name", "sha256"}


def test_a_json_line_is_an_event_with_its_fields() -> None:
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    get_log().info(Event.PLANE_REJECTED, reason=Reason.BLANK, path=Path("a/b"), site=3)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"]) == ("plane.rejected", "info")
    assert (line["reason"], line["path"], line["site"]) == ("blank", str(Path("a/b")), 3)
    assert line["timestamp"].endswith("Z")


def test_without_a_terminal_auto_is_json() -> None:
    stream = io.StringIO()
    configure_logging("auto", "info", stream)
    get_log().info(Event.SERVICE_READY)
    assert json.loads(stream.getvalue())["event"] == "service.ready"


def test_console_lines_are_for_people() -> None:
    stream = io.StringIO()
    configure_logging("console", "info", stream)
    get_log().info(Event.PLANE_REJECTED, reason=Reason.BLANK)
    assert "plane.rejected" in stream.getvalue()
    assert "reason=blank" in stream.getvalue()
    assert "{" not in stream.getvalue()


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    configure_logging("json", "warning", stream)
    get_log().info(Event.SERVICE_READY)
    get_log().warning(Event.WATCH_UNAVAILABLE)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["watch.unavailable"]


def test_an_exception_becomes_part_of_its_line() -> None:
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        get_log().exception(Event.THREAD_FAILED)
    assert len(stream.getvalue().splitlines()) == 1
    assert "ZeroDivisionError" in json.loads(stream.getvalue())["exception"]


def test_every_metric_stands_in_the_manual_with_its_kind_and_labels() -> None:
    page = (Path(__file__).parent.parent / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(hcs_[a-z_]+)(?:\{([a-z0-9,]+)\})?` \| ([a-z]+) \|", page, flags=re.MULTILINE)
    said = {name: (set(labels.split(",")) - {""}, kind) for name, labels, kind in rows}
    telemetry = Telemetry("1")
    telemetry.device_info.labels("cpu", "CPU")
    telemetry.model_info.labels("m", "1", "0")
    there = {}
    for metric in telemetry.registry.collect():
        labels = {label for sample in metric.samples for label in sample.labels} - {"le"}
        there[metric.name + ("_total" if metric.type == "counter" else "")] = (labels, metric.type)
    assert said == there
