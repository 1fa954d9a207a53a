"""Every metric and every log event, declared in one place; the only place that knows prometheus_client.

Labels come from closed lists only: wells and plates are fields of a log line, never labels of a metric.
"""

import logging
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, TextIO

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.parser import text_string_to_metric_families

from hcs_daemon.vocabulary import (
    PLATE_STATUSES,
    CommandResult,
    ExplanationResult,
    PlaneOutcome,
    Reason,
    ReloadResult,
    SiteOutcome,
    Stage,
    WellStatus,
)

# no `_created` beside every counter: no such name is promised
disable_created_metrics()  # type: ignore[no-untyped-call] # the library leaves it without types
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Event(StrEnum):
    """Every log event."""

    SERVICE_STARTING = "service.starting"
    SERVICE_READY = "service.ready"
    SERVICE_NOT_READY = "service.not_ready"
    SERVICE_STOPPING = "service.stopping"
    SERVICE_STOPPED = "service.stopped"
    THREAD_FAILED = "thread.failed"
    MODEL_LOADED = "model.loaded"
    DEVICE_FALLBACK = "device.fallback"
    DEVICE_OUT_OF_MEMORY = "device.out_of_memory"
    WATCH_AVAILABLE = "watch.available"
    WATCH_UNAVAILABLE = "watch.unavailable"
    WATCH_HINTS_FAILED = "watch.hints_failed"
    SCAN_ABANDONED = "scan.abandoned"
    PLATE_OPENED = "plate.opened"
    PLATE_RECOGNISED = "plate.recognised"
    PLATE_WAITING = "plate.waiting"
    PLATE_STALLED = "plate.stalled"
    PLATE_FINISHED = "plate.finished"
    PLATE_DRIFTS = "plate.drifts"
    PLATE_TOLD = "plate.told"
    PLATE_NOT_TOLD = "plate.not_told"
    PLATE_LEFT_ALONE = "plate.left_alone"
    PLATE_MOVED = "plate.moved"
    PLATE_REDONE = "plate.redone"
    PLATE_AMBIGUOUS = "plate.ambiguous"
    CHANNEL_CONTRADICTED = "channel.contradicted"
    CHANNEL_RECONSIDERED = "channel.reconsidered"
    FILE_CHANGED = "file.changed"
    FILE_HELD = "file.held"
    PLANE_REJECTED = "plane.rejected"
    REJECTION_WITHDRAWN = "rejection.withdrawn"
    SITE_PREDICTED = "site.predicted"
    SITE_FAILED = "site.failed"
    EXPLANATION_FAILED = "explanation.failed"
    EXPLANATION_SHED = "explanation.shed"
    WELL_CLOSED = "well.closed"
    WELL_PUBLISHED = "well.published"
    PICTURE_FAILED = "picture.failed"
    RESULTS_UNAVAILABLE = "results.unavailable"
    RESULTS_AVAILABLE = "results.available"
    RESULT_HELD = "result.held"
    TEXTFILE_FAILED = "textfile.failed"
    TEXTFILE_WRITTEN = "textfile.written"
    RESULT_DAMAGED = "result.damaged"
    SETTINGS_APPLIED = "settings.applied"
    SETTINGS_REFUSED = "settings.refused"
    LAYOUT_JOINED = "layout.joined"
    LAYOUT_REFUSED = "layout.refused"
    LEDGER_BROKEN = "ledger.broken"
    LEDGER_REPAIRED = "ledger.repaired"


class Telemetry:
    """All metrics in a registry of their own. Thread-safe, as prometheus_client is; owned by nobody."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=buckets)

        seconds = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
        self.files_seen = counter("hcs_files_seen", "Files seen for the first time in the watched folder")
        self.planes = counter("hcs_planes", "Plane files decided, by outcome", "outcome")
        self.planes_pending = gauge("hcs_planes_pending", "Plane files seen and not yet decided")
        self.rejections = counter("hcs_rejections", "Files rejected, by reason", "reason")
        self.sites = counter("hcs_sites", "Sites the device was given, by outcome", "outcome")
        self.wells = counter("hcs_wells", "Well revisions published, by status", "status")
        self.plates_open = gauge("hcs_plates_open", "Plates that are acquiring")
        self.plates_stalled = gauge(
            "hcs_plates_stalled", "Plates that lack wells or planes, and are long without a new plane"
        )
        self.plates_finished = counter("hcs_plates_finished", "Plates finished, by status", "status")
        self.stage_seconds = histogram("hcs_stage_seconds", "Time a stage works on one item", "stage", buckets=seconds)
        self.stage_queue_items = gauge("hcs_stage_queue_items", "Items that wait for a stage", "stage")
        self.stage_last_progress = gauge(
            "hcs_stage_last_progress_timestamp_seconds", "When a stage last made progress", "stage"
        )
        self.well_latency = histogram(
            "hcs_well_latency_seconds",
            "From a well's last plane being complete to its result being visible",
            buckets=(0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0),
        )
        self.cache_bytes = gauge("hcs_cache_bytes", "Bytes of decoded planes held")
        self.cache_rereads = counter("hcs_cache_rereads", "Planes read again because they were evicted")
        self.batch_sites = histogram("hcs_batch_sites", "Sites a batch", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))
        self.inference_seconds = histogram("hcs_inference_seconds", "Time a batch on the device", buckets=seconds)
        self.explanations = counter("hcs_explanations", "Sites explained, by result", "result")
        self.device_info = gauge("hcs_device_info", "The device in use", "device", "name")
        self.device_fallback = gauge("hcs_device_fallback", "1 on the CPU though a card was asked for")
        self.device_memory_bytes = gauge("hcs_device_memory_bytes", "Memory allocated on the card")
        self.device_oom = counter("hcs_device_oom", "Times the card ran out of memory")
        self.model_info = gauge("hcs_model_info", "The model in use", "name", "version", "sha256")
        self.watch_events = counter("hcs_watch_events", "File-system events received")
        self.watch_missed_events = counter("hcs_watch_missed_events", "Files found by rescan and not by event")
        self.rescan_seconds = histogram("hcs_rescan_seconds", "Time a full rescan", buckets=seconds)
        self.watch_available = gauge("hcs_watch_available", "1 while the watched folder can be listed")
        self.results_write_failures = counter("hcs_results_write_failures", "Writes to the results folder that failed")
        self.results_free_bytes = gauge("hcs_results_free_bytes", "Bytes free where the results are")
        self.results_min_free_bytes = gauge("hcs_results_min_free_bytes", "With fewer bytes free, publishing waits")
        self.ledger_entries = counter("hcs_ledger_entries", "Lines appended to the ledger")
        self.ledger_broken = gauge("hcs_ledger_broken", "1 when the ledger's chain does not hold")
        self.control_drift = gauge("hcs_control_drift", "How far a plate's controls moved meanwhile, in their scatter")
        self.clock_skew_seconds = gauge("hcs_clock_skew_seconds", "Newest file's time minus this machine's clock")
        self.textfile_failures = counter("hcs_textfile_failures", "Writes of the file of metrics that failed")
        self.started = gauge("hcs_start_timestamp_seconds", "When this daemon started")
        self.rendered = gauge("hcs_rendered_timestamp_seconds", "When these figures were put together")
        self.plate_commands = counter("hcs_plate_commands", "Runs of the command for finished plates", "result")
        self.settings_reloads = counter("hcs_settings_reloads", "Settings read anew, by result", "result")
        self.build_info = gauge("hcs_build_info", "The program's version", "version")
        self.ready = gauge("hcs_ready", "1 when model and folders are ready")
        self._start_with_zeros(version)

    def _start_with_zeros(self, version: str) -> None:
        for outcome in PlaneOutcome:
            self.planes.labels(outcome)
        for reason in Reason:
            self.rejections.labels(reason)
        for site_outcome in SiteOutcome:
            self.sites.labels(site_outcome)
        for status in WellStatus:
            self.wells.labels(status)
        for result in ExplanationResult:
            self.explanations.labels(result)
        for plate_status in PLATE_STATUSES:
            self.plates_finished.labels(plate_status)
        for command_result in CommandResult:
            self.plate_commands.labels(command_result)
        for reload_result in ReloadResult:
            self.settings_reloads.labels(reload_result)
        started = time.time()
        self.started.set(started)
        for stage in Stage:
            self.stage_seconds.labels(stage)
            self.stage_queue_items.labels(stage).set(0)
            self.stage_last_progress.labels(stage).set(started)
        self.build_info.labels(version).set(1)

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Time one item of a stage; when it ends well, the stage has made progress."""
        began = time.perf_counter()
        yield
        self.stage_seconds.labels(stage).observe(time.perf_counter() - began)
        self.stage_last_progress.labels(stage).set(time.time())

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        self.rendered.set(time.time())
        return generate_latest(self.registry)


def parse_metrics(text: str) -> dict[str, float]:
    """A scrape as {`name{label="value"}`: value}, labels sorted, for `status` and tests."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def get_log() -> Any:
    """The program's log. Events are members of `Event`; everything else is a field."""
    return structlog.get_logger()


def configure_logging(form: str, level: str, stream: TextIO | None = None) -> None:
    """Log to `stream` (standard error): `console` for a person, `json` a line an event, `auto` by terminal."""
    stream = stream or sys.stderr
    console = form == "console" or (form == "auto" and stream.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty()) if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _plain_values,
            structlog.processors.format_exc_info if not console else _unchanged,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )


def _plain_values(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Enums and paths as text, so that both renderers show them alike."""
    for key, value in event.items():
        if not isinstance(value, str | int | float | bool | list | tuple | dict | type(None) | BaseException):
            event[key] = str(value)
        elif isinstance(value, StrEnum):
            event[key] = value.value
    return event


def _unchanged(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return event
