"""Threads, signals, readiness and exit codes: the stages of `pipeline` set in motion."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from hcs_daemon import __version__
from hcs_daemon.config import Settings, check_apart
from hcs_daemon.device.batching import Batcher
from hcs_daemon.device.manifest import check_covers, package_folder, read_manifest
from hcs_daemon.endpoints import Endpoints
from hcs_daemon.errors import FolderError, HcsError, SettingsError
from hcs_daemon.instruments import instrument_for
from hcs_daemon.intake.arrival import Hints, Scanner, scan_once, start_hints
from hcs_daemon.intake.intake import Intake
from hcs_daemon.pipeline import Device, DeviceStage, IntakeStage, Mail, PublishStage
from hcs_daemon.plate import AcquisitionId
from hcs_daemon.publish.publisher import Publisher
from hcs_daemon.records import Restored
from hcs_daemon.telemetry import Event, Telemetry, get_log

DRAIN_S = 25.0
"""Seconds that shutdown gives to what the device and publish hold."""
STUCK_S = 300.0
"""A stage that has not come round for so long is stuck; the slowest batch on a slow PC takes far less."""
SCAN_ABANDONED_S = 60.0
"""A listing that takes longer is said to hang."""


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


class _Stage(Protocol):
    def step(self, now: float) -> bool: ...

    @property
    def idle(self) -> bool: ...


class StageThread:
    """Runs one stage until told to stop. rounds and working: for others to see that nothing is under way."""

    def __init__(self, name: str, stage: _Stage, bell: threading.Event, wait_s: Callable[[float], float]) -> None:
        self.name = name
        self.stage = stage
        self.rounds = 0
        self.working = False
        self.beat_s = time.monotonic()
        self.failure: BaseException | None = None
        self._bell = bell
        self._wait_s = wait_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present round."""
        self._stop.set()
        self._bell.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._bell.clear()
            self.working = True
            now = self.beat_s = time.monotonic()
            try:
                worked = self.stage.step(now)
            except Exception as error:  # noqa: BLE001 (whatever it is, the service must end aloud, not limp)
                self.failure = error
                get_log().error(Event.THREAD_FAILED, stage=self.name, detail=repr(error), exc_info=error)
                return
            self.working = False
            self.rounds += 1
            if not worked:
                self._bell.wait(self._wait_s(now))


@dataclass(frozen=True, slots=True)
class Workshop:
    """What is made once and used for every folder: telemetry, device, publisher and its memory."""

    settings: Settings
    telemetry: Telemetry
    device: Device
    publisher: Publisher
    restored: Restored


@contextmanager
def workshop(settings: Settings, telemetry: Telemetry) -> Iterator[Workshop]:
    """Load the model and take the results folder; give both back at the end.

    Raises SettingsError, PackageError, FolderError or ResultsHeldError.
    """
    manifest = read_manifest(package_folder(settings.model.package))
    check_covers(manifest, settings.expect)
    check_writable(settings.results.directory)
    from hcs_daemon.device.inference import open_device  # noqa: PLC0415 (torch takes two seconds)

    device = open_device(settings, telemetry)
    get_log().info(
        Event.MODEL_LOADED, model=device.facts.name, version=device.facts.version, device=device.facts.device
    )
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="drawing") as drawing:
        publisher = Publisher(settings, device.facts, telemetry, now_utc=utc_now, drawing=drawing)
        restored = publisher.open(time.monotonic())
        try:
            yield Workshop(settings, telemetry, device, publisher, restored)
        finally:
            publisher.close()


def check_writable(folder: Path) -> None:
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


class Line:
    """The three stages and their threads, over one watched folder."""

    def __init__(self, shop: Workshop, root: Path, restored: Restored, readers: Executor, *, finite: bool) -> None:
        settings, telemetry = shop.settings, shop.telemetry
        mail = Mail(site_limit=min(64, 2 * settings.model.batch_sites))
        self.mail = mail
        self.intake = Intake(
            root=root,
            instrument=instrument_for(settings.watch),
            settings=settings,
            channels=shop.device.facts.channels,
            telemetry=telemetry,
            readers=readers,
            reads_at_once=2 * reader_count(settings),
            wake=mail.intake_bell.set,
            restored=restored,
            now_utc=utc_now,
            finite=finite,
        )
        self.intake_stage = IntakeStage(self.intake, mail)
        batcher = Batcher(settings.model.batch_sites, settings.model.max_wait_s)
        self.device_stage = DeviceStage(shop.device, batcher, mail, telemetry)
        self.publish_stage = PublishStage(shop.publisher, mail, telemetry)
        self.threads = (
            StageThread("intake", self.intake_stage, mail.intake_bell, lambda _: self.intake.wait_s()),
            StageThread("device", self.device_stage, mail.device_bell, self.device_stage.wait_s),
            StageThread("publish", self.publish_stage, mail.publish_bell, lambda _: 0.25),
        )

    def start(self) -> None:
        """Start the threads."""
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """End the threads after their present round."""
        for thread in self.threads:
            thread.stop()
        for thread in self.threads:
            thread.join(DRAIN_S)

    @property
    def failure(self) -> BaseException | None:
        """What ended a thread that should not have ended."""
        return next((thread.failure for thread in self.threads if thread.failure is not None), None)

    def quiet(self, idle: Callable[[], bool]) -> bool:
        """Whether `idle` holds and no thread was in the middle of something while it was asked."""
        rounds = [thread.rounds for thread in self.threads]
        if any(thread.working for thread in self.threads) or not idle():
            return False
        return rounds == [thread.rounds for thread in self.threads] and not any(
            thread.working for thread in self.threads
        )

    def all_done(self) -> bool:
        """Whether every file is decided and every result written."""
        return self.intake_stage.idle and self.device_stage.idle and self.publish_stage.idle

    def drained(self) -> bool:
        """Whether everything that was begun is written; files may wait."""
        return not self.intake_stage.serving and self.device_stage.idle and self.publish_stage.idle

    def stuck(self, now: float) -> str | None:
        """The stage that has not come round for too long, in words."""
        for thread in self.threads:
            if thread.failure is not None:
                return f"{thread.name} failed: {thread.failure}"
            if now - thread.beat_s > STUCK_S:
                return f"{thread.name} has made no progress for {now - thread.beat_s:.0f} s"
        return None


def reader_count(settings: Settings) -> int:
    """Threads that read and decode."""
    return settings.watch.readers or min(4, os.cpu_count() or 1)


def readers(settings: Settings) -> ThreadPoolExecutor:
    """The pool that reads and decodes."""
    return ThreadPoolExecutor(reader_count(settings), thread_name_prefix="reader")


class Daemon:
    """`hcs-daemon run`: watches until told to stop.

    stop: set by whoever wants the end (a signal handler). Owns all threads.
    """

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._settings = settings
        self._stop = stop
        self._telemetry = Telemetry(__version__)
        self._telemetry.ready.set(0)
        self._line: Line | None = None
        self._scanner: Scanner | None = None
        self._shop: Workshop | None = None
        self._log = get_log()

    def run(self) -> int:
        """Serve until stopped; 0 when all that was begun is written, 1 when a thread failed."""
        self._log.info(Event.SERVICE_STARTING, version=__version__, watch=self._settings.watch.directory)
        http = self._settings.http
        endpoints = Endpoints(http.host, http.port, self._render, self._health, self.not_ready)
        if http.port:
            endpoints.start()
        try:
            with workshop(self._settings, self._telemetry) as shop, readers(self._settings) as pool:
                self._shop = shop
                return self._serve(shop, pool)
        finally:
            if http.port:
                endpoints.stop()
            self._log.info(Event.SERVICE_STOPPED)

    def _serve(self, shop: Workshop, pool: Executor) -> int:
        root = self._settings.watch.directory
        line = self._line = Line(shop, root, shop.restored, pool, finite=False)
        self._start_scanner(line)
        line.start()
        notify("READY=1")
        said: str | None = "starting"
        while not self._stop.is_set() and line.failure is None:
            reason = self.not_ready()
            if reason != said:
                self._say(reason)
                said = reason
            self._stop.wait(0.25)
        return self._drain(shop, line)

    def _say(self, reason: str | None) -> None:
        self._telemetry.ready.set(0 if reason else 1)
        if reason is None:
            self._log.info(Event.SERVICE_READY, watch=self._settings.watch.directory)
        else:
            self._log.warning(Event.SERVICE_NOT_READY, detail=reason)
        notify(f"STATUS={reason or 'watching ' + str(self._settings.watch.directory)}")

    def _drain(self, shop: Workshop, line: Line) -> int:
        notify("STOPPING=1")
        self._log.info(Event.SERVICE_STOPPING, waiting=len(line.mail.device))
        self._telemetry.ready.set(0)
        line.intake.stop_reading()
        line.device_stage.draining = True
        deadline = time.monotonic() + DRAIN_S
        while line.failure is None and time.monotonic() < deadline and not line.quiet(line.drained):
            time.sleep(0.02)
        line.stop()
        shop.publisher.finish(time.monotonic())
        return 0 if line.failure is None else 1

    def _start_scanner(self, line: Line) -> None:
        watch = self._settings.watch
        hints = Hints(self._telemetry)
        scanner = self._scanner = Scanner(watch.directory, watch.rescan_s, hints, self._telemetry, line.mail.scans.put)

        def look() -> None:
            observer = None
            while not self._stop.is_set():
                if observer is None and scanner.available:
                    observer = start_hints(watch.directory, watch.polling, watch.rescan_s, hints)
                scanner.step(time.monotonic())
                hints.bell.wait(min(scanner.wait_s(time.monotonic()), 1.0))

        # a daemon thread that nobody joins: a listing may hang in a dead share
        threading.Thread(target=look, name="scanner", daemon=True).start()

    def _render(self) -> bytes:
        folder = self._settings.results.directory
        if folder.is_dir():
            self._telemetry.results_free_bytes.set(shutil.disk_usage(folder).free)
        return self._telemetry.render()

    def _health(self) -> str | None:
        return self._line.stuck(time.monotonic()) if self._line is not None else None

    def not_ready(self) -> str | None:
        """Why nothing can be worked on now, in words; None when all is well."""
        if self._stop.is_set():
            return "stopping"
        if self._shop is None or self._line is None or self._scanner is None:
            return "the model is being loaded"
        if self._shop.publisher.blocked is not None:
            return self._shop.publisher.blocked
        if not self._scanner.available:
            return f"the watched folder {self._settings.watch.directory} is not there or cannot be listed"
        return None


def process(
    plates: Sequence[Path],
    settings: Settings,
    telemetry: Telemetry,
    progress: Callable[[int, int], None],
) -> list[AcquisitionId]:
    """Work through folders that are already complete; the acquisitions found.

    progress: told now and then (planes decided, planes in all) of the present folder. Raises HcsError.
    """
    for plate in plates:
        if not plate.is_dir():
            raise FolderError(f"{plate} is not a folder", "give a plate's folder, or a tree of them")
        try:
            check_apart(plate, settings.results.directory)
        except ValueError as error:
            raise SettingsError(str(error), "give results a folder of their own, with --results") from error
    names = [plate.resolve().name for plate in plates]
    if len(set(names)) != len(names):
        raise SettingsError("two of the folders have the same name, and so the same results", "process them one by one")
    found: list[AcquisitionId] = []
    with workshop(settings, telemetry) as shop, readers(settings) as pool:
        for plate in plates:
            found.extend(_process_one(shop, plate.resolve(), pool, progress))
        shop.publisher.finish(time.monotonic())
    return found


def _process_one(
    shop: Workshop, root: Path, pool: Executor, progress: Callable[[int, int], None]
) -> tuple[AcquisitionId, ...]:
    line = Line(shop, root, shop.restored, pool, finite=True)
    line.mail.scans.put(scan_once(root))
    line.device_stage.draining = False
    line.start()
    total = 0
    try:
        while not line.quiet(line.all_done):
            if line.failure is not None:
                raise HcsError(f"a stage failed: {line.failure!r}", "see the log above") from line.failure
            total = max(total, line.intake.pending)
            progress(total - line.intake.pending, total)
            time.sleep(0.02)
        progress(total, total)
    finally:
        line.stop()
    return line.intake.acquisitions


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); nothing where it did not start us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(address)
        channel.sendall(state.encode())
