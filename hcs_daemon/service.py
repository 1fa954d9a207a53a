"""Threads, signals, readiness and exit codes: the stages of `pipeline` set in motion."""

import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from hcs_daemon import __version__
from hcs_daemon.config import Settings, Watch, check_apart
from hcs_daemon.device.batching import Batcher
from hcs_daemon.device.manifest import check_covers, package_folder, read_manifest
from hcs_daemon.endpoints import Endpoints
from hcs_daemon.errands import HASTY_WAITS_S, WAITS_S, Errands
from hcs_daemon.errors import FolderError, HcsError, SettingsError
from hcs_daemon.instruments import instrument_for
from hcs_daemon.instruments.naming import name_of_root
from hcs_daemon.intake.arrival import Hints, Scanner, ScanReport, scan_once, start_hints
from hcs_daemon.intake.intake import Intake
from hcs_daemon.intake.origin import check_origins
from hcs_daemon.pipeline import Device, DeviceStage, IntakeStage, Mail, PublishStage
from hcs_daemon.plate import AcquisitionId
from hcs_daemon.publish.owner import check_owner
from hcs_daemon.publish.publisher import Publisher
from hcs_daemon.pulse import Pulse
from hcs_daemon.records import CommandEnded, FinishedPlate, Restored
from hcs_daemon.reloading import Reloading
from hcs_daemon.systemd import Watchdog, extend, notify, status
from hcs_daemon.telemetry import Event, Telemetry, configure_logging, get_log
from hcs_daemon.textfile import Textfile

DRAIN_S = 18.0
"""Seconds that shutdown gives to what the device and publish hold; wells that are not explained then are written so."""
JOIN_S = 7.0
"""Seconds that the threads then have to end their round."""
CLERK_S = 1.0
"""Seconds that the thread of the plates' command then has."""
STUCK_S = 300.0
"""A stage that for so long has neither come round nor worked is stuck."""
ENDLESS_S = 3600.0
"""So is one that works for so long and does not come round; the slowest explanation on a slow PC takes far less."""
STARTING_S = 10.0
"""Between two looks at whether a start still works; systemd is then asked for six times as long."""
SCAN_ABANDONED_S = 60.0
"""A listing that comes no file further for so long is said to hang."""


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


class Step(Protocol):
    """What a thread of the service does again and again."""

    def step(self, now: float) -> bool:
        """What can be done now (monotonic seconds); whether anything was."""


class StageThread:
    """Runs one stage until told to stop, or until it raises, which is said in the log and kept in `failure`.

    rounds, working: for others to see that nothing is under way. beat_s: when the present round began, monotonic
    seconds. still_s: for how long it had not come round when last looked at, and not worked either. spins: whether it
    may use the processor while it only waits, as for a card.
    """

    def __init__(
        self,
        name: str,
        stage: Step,
        bell: threading.Event,
        wait_s: Callable[[float], float],
        spins: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self.stage = stage
        self.rounds = 0
        self.working = False
        self.beat_s = time.monotonic()
        self.still_s = 0.0
        self.failure: BaseException | None = None
        self._pulse: Pulse | None = None
        self._spins = spins
        self._bell = bell
        self._wait_s = wait_s
        self._orders: deque[Callable[[], None]] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present round."""
        self._stop.set()
        self._bell.set()

    def order(self, what: Callable[[], None]) -> None:
        """Have something done by the thread itself, before its next round."""
        self._orders.append(what)
        self._bell.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def look(self, now: float) -> None:
        """Take its pulse; only ever by one thread."""
        round_s = now - self.beat_s
        still_s = self._pulse.still_s(now) if self._pulse else round_s
        self.still_s = round_s if self._spins() or round_s > ENDLESS_S else min(round_s, still_s)

    def _run(self) -> None:
        self._pulse = Pulse(time.monotonic())
        while not self._stop.is_set():
            self._bell.clear()
            self.working = True
            now = self.beat_s = time.monotonic()
            try:
                while self._orders:
                    self._orders.popleft()()
                wait_s = 0.0 if self.stage.step(now) else self._wait_s(now)
            except Exception as error:  # noqa: BLE001 (whatever it is, the service must end aloud, not limp)
                get_log().error(Event.THREAD_FAILED, stage=self.name, detail=repr(error), exc_info=error)
                self.failure = error  # last: whoever sees it may end the program
                return
            self.working = False
            self.rounds += 1
            if wait_s > 0:
                self._bell.wait(wait_s)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What is made once and used for every folder: telemetry, device, publisher and its memory, the plates' command.

    clerk: the thread that runs the errands.
    """

    settings: Settings
    telemetry: Telemetry
    device: Device
    publisher: Publisher
    restored: Restored
    errands: Errands
    clerk: StageThread


OpenDevice = Callable[[Settings, Telemetry], Device]


def open_network(settings: Settings, telemetry: Telemetry) -> Device:
    """The settings' model on the settings' device. Raises SettingsError or PackageError."""
    check_covers(read_manifest(package_folder(settings.model.package)), settings.expect)
    from hcs_daemon.device.inference import open_device  # noqa: PLC0415 (torch takes two seconds)
    from hcs_daemon.device.memory import allocated_bytes  # noqa: PLC0415

    device = open_device(settings, telemetry)
    telemetry.device_memory_bytes.set_function(allocated_bytes)
    return device


def used_by(device: Device, settings: Settings) -> Settings:
    """The settings as the device uses them: channels that the model does not need are ignored."""
    return settings.model_copy(update={"expect": settings.expect.only(device.facts.channels)})


@contextmanager
def workshop(
    settings: Settings, telemetry: Telemetry, open_device: OpenDevice = open_network, *, live: bool = True
) -> Iterator[Workshop]:
    """Load the model and take the results folder; give both back at the end.

    live: an instrument delivers, so that what is seen is published before what is explained.
    Channels that the model does not use are ignored from here on. Raises SettingsError, PackageError, FolderError,
    NewerResultsError or ResultsHeldError.
    """
    check_owner(settings.results.directory)
    notify(status("loading the model"))
    device = open_device(settings, telemetry)
    notify(status("reading the results of earlier runs"))
    settings = used_by(device, settings)
    get_log().info(
        Event.MODEL_LOADED, model=device.facts.name, version=device.facts.version, device=device.facts.device
    )
    finished: SimpleQueue[FinishedPlate] = SimpleQueue()
    ended: SimpleQueue[CommandEnded] = SimpleQueue()
    waits_s = WAITS_S if live else HASTY_WAITS_S
    errands = Errands(settings.results, telemetry, finished, ended, waits_s, for_ever=live)
    clerk = StageThread("command", errands, threading.Event(), errands.wait_s)
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="drawing") as drawing:
        publisher = Publisher(
            settings,
            device.facts,
            telemetry,
            now_utc=utc_now,
            drawing=drawing,
            live=live,
            finished=finished,
            ended=ended,
        )
        restored = publisher.open(time.monotonic())
        clerk.start()
        try:
            yield Workshop(settings, telemetry, device, publisher, restored, errands, clerk)
        finally:
            clerk.stop()
            if clerk.join(CLERK_S):  # a program on a dead share may never begin
                errands.close()
            publisher.close()


@contextmanager
def more_time() -> Iterator[None]:
    """Ask systemd for more time to start, as long as this thread works; one that hangs may be ended."""
    pulse, done = Pulse(time.monotonic()), threading.Event()

    def ask() -> None:
        while not done.wait(STARTING_S):
            if pulse.still_s(time.monotonic()) < STARTING_S:
                notify(extend(6 * STARTING_S))

    asking = threading.Thread(target=ask, name="starting", daemon=True)
    asking.start()
    try:
        yield
    finally:
        done.set()
        asking.join()


def _quiet(threads: Sequence[StageThread], idle: Callable[[], bool]) -> bool:
    """Whether `idle` holds and none of the threads was in the middle of something while it was asked."""
    rounds = [thread.rounds for thread in threads]
    if any(thread.working for thread in threads) or not idle():
        return False
    return rounds == [thread.rounds for thread in threads] and not any(thread.working for thread in threads)


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
        self.device_stage = DeviceStage(shop.device, batcher, mail, telemetry, live=not finite)
        self.publish_stage = PublishStage(shop.publisher, mail, telemetry)

        def on_card() -> bool:
            return shop.device.facts.device != "cpu"

        self.threads = (
            StageThread("intake", self.intake_stage, mail.intake_bell, lambda _: self.intake.wait_s()),
            StageThread("device", self.device_stage, mail.device_bell, self.device_stage.wait_s, on_card),
            StageThread("publish", self.publish_stage, mail.publish_bell, self._publish_wait_s),
        )

    def start(self) -> None:
        """Start the threads."""
        for thread in self.threads:
            thread.start()

    def apply(self, settings: Settings) -> None:
        """Have every stage go on by these settings, which differ in live ones only, from its next round on."""
        owners = (self.intake_stage.apply, self.device_stage.apply, self.publish_stage.apply)
        for thread, apply in zip(self.threads, owners, strict=True):
            thread.order(partial(apply, settings))

    def stop(self) -> bool:
        """End the threads after their present round; whether nothing of the publish thread's is under way any more."""
        for thread in self.threads:
            thread.stop()
        deadline = time.monotonic() + JOIN_S
        ended = [thread.join(max(0.0, deadline - time.monotonic())) for thread in self.threads]
        return ended[-1] and self.threads[-1].failure is None

    @property
    def failure(self) -> BaseException | None:
        """What ended a thread that should not have ended."""
        return next((thread.failure for thread in self.threads if thread.failure is not None), None)

    def quiet(self, idle: Callable[[], bool]) -> bool:
        """Whether `idle` holds and no thread was in the middle of something while it was asked."""
        return _quiet(self.threads, idle)

    def _publish_wait_s(self, _now: float) -> float:
        """Seconds until publish looks again by itself: a drawing that is finished rings no bell."""
        return 0.25 if self.publish_stage.idle else 0.02

    def all_done(self) -> bool:
        """Whether every file is decided and every result written."""
        return self.intake_stage.idle and self.device_stage.idle and self.publish_stage.idle

    def drained(self) -> bool:
        """Whether everything that was begun is written; files may wait."""
        return not self.intake_stage.serving and self.device_stage.idle and self.publish_stage.idle

    def look(self, now: float) -> None:
        """Take every thread's pulse, for `stuck`; only ever by one thread."""
        for thread in self.threads:
            thread.look(now)

    def stuck(self) -> str | None:
        """The stage that has made no progress for too long, in words."""
        for thread in self.threads:
            if thread.failure is not None:
                return f"{thread.name} failed: {thread.failure!r}"
            if thread.still_s > STUCK_S:
                return f"{thread.name} has made no progress for {thread.still_s:.0f} s"
        return None


def reader_count(settings: Settings) -> int:
    """Threads that read and decode."""
    return settings.watch.readers or min(4, os.cpu_count() or 1)


def readers(settings: Settings) -> ThreadPoolExecutor:
    """The pool that reads and decodes."""
    return ThreadPoolExecutor(reader_count(settings), thread_name_prefix="reader")


class Lookout:
    """The watched folder: file-system events as far as they come, and rescans. Owned by the scanner thread.

    report: takes what is found.
    """

    def __init__(self, watch: Watch, telemetry: Telemetry, report: Callable[[ScanReport], None]) -> None:
        self._watch = watch
        self._hints = Hints(telemetry)
        self._scanner = Scanner(watch.directory, watch.rescan_s, self._hints, telemetry, report)
        self._observer: Stoppable | None = None
        self._listening = False

    @property
    def bell(self) -> threading.Event:
        """Set when an event came."""
        return self._hints.bell

    @property
    def looked(self) -> int:
        """Files looked at so far: while it grows, a listing does not hang."""
        return self._scanner.looked

    @property
    def available(self) -> bool | None:
        """Whether the folder could be listed at the last look; None before the first."""
        return self._scanner.available

    def apply(self, watch: Watch) -> None:
        """Look as often as these settings say, which differ in live ones only, and listen to events anew."""
        if (watch.rescan_s, watch.polling) != (self._watch.rescan_s, self._watch.polling):
            self.close()  # what is missed until it is listened again, a full look finds
            self._scanner.apply(watch.rescan_s, time.monotonic())
        self._watch = watch

    def step(self, now: float) -> bool:
        """Look at what was hinted, and at everything when it is time; never anything that cannot wait."""
        if not self._listening and _is_folder(self._watch.directory):
            # before the first look, so that nothing falls in between; one try, a rescan finds every file all the same
            self._listening = True
            self._observer = start_hints(self._watch.directory, self._watch.polling, self._watch.rescan_s, self._hints)
        self._scanner.step(now)
        if self.available is False:
            self.close()  # events of a folder that went do not come back with it
        return False

    def wait_s(self, now: float) -> float:
        """Seconds until the next look."""
        return min(self._scanner.wait_s(now), 1.0)

    def close(self) -> None:
        """Listen to events no more."""
        observer, self._observer, self._listening = self._observer, None, False
        if observer is not None:
            observer.stop()


class Stoppable(Protocol):
    """Watchdog's observer, as far as it is known here."""

    def stop(self) -> object:
        """End after the present event."""


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a share that hiccups; the rescan says so
        return False


class Patience:
    """Notices a listing that comes no further. Owned by the main thread."""

    def __init__(self) -> None:
        self._looked = -1
        self._since_s = float("inf")

    def standstill_s(self, now: float, *, working: bool, looked: int) -> float:
        """Seconds since a listing that is under way (working) last came a file further (looked); 0 when none is."""
        if not working or looked != self._looked or self._since_s > now:
            self._looked, self._since_s = looked, now
        return now - self._since_s


OpenLookout = Callable[[Watch, Telemetry, Callable[[ScanReport], None]], Lookout]


class Daemon:
    """`hcs-daemon run`: watches until told to stop.

    stop: set by whoever wants the end (a signal handler). open_device, open_lookout: what makes the model and the
    watch. reloading: told by whoever wants the settings read anew. Owns all threads.
    """

    def __init__(
        self,
        settings: Settings,
        stop: threading.Event,
        open_device: OpenDevice = open_network,
        open_lookout: OpenLookout = Lookout,
        reloading: Reloading | None = None,
    ) -> None:
        self._settings = settings
        self._stop = stop
        self._open_device = open_device
        self._open_lookout = open_lookout
        self._reloading = reloading or Reloading(settings, lambda: settings)
        self._telemetry = Telemetry(__version__)
        self._log = get_log()

    def run(self) -> int:
        """Serve until stopped; 0 then, 1 when a thread failed.

        The port is opened when the model is loaded and the results are read. Raises HcsError when that is not possible.
        """
        self._log.info(Event.SERVICE_STARTING, version=__version__, watch=self._settings.watch.directory)
        try:
            with ExitStack() as stack:
                with more_time():
                    shop = stack.enter_context(workshop(self._settings, self._telemetry, self._open_device))
                pool = stack.enter_context(readers(self._settings))
                line = Line(shop, self._settings.watch.directory, shop.restored, pool, finite=False)
                lookout = self._open_lookout(self._settings.watch, self._telemetry, line.mail.scans.put)
                return Service(self._stop, shop, line, lookout, self._reloading).serve()
        finally:
            self._log.info(Event.SERVICE_STOPPED)


class Service:
    """The running service: everything is made, `serve` sets it in motion. Owned by the main thread."""

    def __init__(
        self, stop: threading.Event, shop: Workshop, line: Line, lookout: Lookout, reloading: Reloading
    ) -> None:
        self._settings = settings = shop.settings
        self._folder = settings.watch.directory
        self._stop = stop
        self._shop = shop
        self._line = line
        self._lookout = lookout
        self._reloading = reloading
        self._telemetry = shop.telemetry
        # nobody joins this thread: a listing may hang in a dead share
        self._scanner = StageThread("scanner", lookout, lookout.bell, lookout.wait_s)
        self._patience = Patience()
        self._hangs = False
        self._watchdog = Watchdog(self.trouble)
        self._log = get_log()

    def serve(self) -> int:
        """Open the port, start the threads, watch over them until the end; the exit code."""
        http = self._settings.http
        endpoints = Endpoints(http.host, http.port, self._render, self.trouble, self.not_ready)
        textfile = Textfile(http.textfile, self._telemetry, self._render) if http.textfile else None
        if http.port:
            endpoints.start()
        if textfile:
            textfile.start()
        self._scanner.start()
        self._line.start()
        try:
            notify("READY=1")
            self._watch_over()
            return self._drain()
        finally:
            self._scanner.stop()
            self._line.stop()
            endpoints.stop()
            if textfile:
                textfile.stop()

    def _watch_over(self) -> None:
        said: str | None = "starting"
        while not self._stop.is_set() and self._failure() is None:
            now = time.monotonic()
            self._notice_hanging(now)
            self._line.look(now)
            self._watchdog.step(now)
            if self._reloading.asked:
                self._reload()
            reason = self.not_ready()
            if reason != said:
                self._say(reason)
                said = reason
            # not the event's own wait: a signal handler that sets it must never find its lock taken by this thread
            time.sleep(0.25)

    def _reload(self) -> None:
        """Read the settings anew, and have every owner go on by them."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        before = self._reloading.settings
        settings = self._reloading.take(self._telemetry)
        if settings is not None:
            if settings.log != before.log:
                configure_logging(settings.log.format, settings.log.level)
            self._line.apply(used_by(self._shop.device, settings))
            self._scanner.order(partial(self._lookout.apply, settings.watch))
            self._shop.clerk.order(partial(self._shop.errands.apply, settings.results))
        notify("READY=1")

    def _failure(self) -> BaseException | None:
        return self._line.failure or self._scanner.failure or self._shop.clerk.failure

    def _notice_hanging(self, now: float) -> None:
        """Say once that a listing hangs; the rest goes on, and so does the listing if it ever comes back."""
        standstill_s = self._patience.standstill_s(now, working=self._scanner.working, looked=self._lookout.looked)
        hangs = standstill_s >= SCAN_ABANDONED_S
        if hangs and not self._hangs:
            self._telemetry.watch_available.set(0)
            self._log.error(
                Event.SCAN_ABANDONED,
                folder=self._folder,
                standstill_s=round(standstill_s),
                hint="is the share's server there? What is known is worked on; new files are found when it answers",
            )
        self._hangs = hangs

    def _say(self, reason: str | None) -> None:
        self._telemetry.ready.set(0 if reason else 1)
        if reason is None:
            self._log.info(Event.SERVICE_READY, watch=self._folder)
        else:
            starting = self._lookout.available is None
            (self._log.info if starting else self._log.warning)(Event.SERVICE_NOT_READY, detail=reason)
        notify(status(reason or f"watching {self._folder}"))

    def _drain(self) -> int:
        notify("STOPPING=1")
        line = self._line
        self._log.info(Event.SERVICE_STOPPING, waiting=len(line.mail.device))
        self._telemetry.ready.set(0)
        line.intake.stop_reading()
        line.device_stage.stopping = line.publish_stage.stopping = True
        self._shop.clerk.order(partial(self._shop.errands.stop, time.monotonic()))
        deadline, drained = time.monotonic() + DRAIN_S, False
        while line.failure is None and time.monotonic() < deadline and not (drained := self._drained()):
            time.sleep(0.02)
        if line.failure is None and not drained:
            self._log.warning(
                Event.SERVICE_STOPPING,
                detail=f"not all could be done in {DRAIN_S:g} s; what is predicted is written",
                hint="the next start does the rest",
            )
        if line.stop():
            line.publish_stage.step(time.monotonic())  # what the device put there last
            self._shop.publisher.finish(time.monotonic(), draw=drained)
        self._lookout.close()
        return 0 if self._failure() is None else 1

    def _drained(self) -> bool:
        return not self._shop.errands.busy and self._line.quiet(self._line.drained)

    def _render(self) -> bytes:
        with suppress(OSError):  # away: `/readyz` says so, and the last figure stands
            free = shutil.disk_usage(self._settings.results.directory).free
            self._telemetry.results_free_bytes.set(free)
        return self._telemetry.render()

    def trouble(self) -> str | None:
        """What only a new start can mend, in words; None when all is well."""
        if self._scanner.failure is not None:
            return f"scanner failed: {self._scanner.failure!r}"
        return self._line.stuck()

    def not_ready(self) -> str | None:
        """Why nothing can be worked on now, in words; None when all is well."""
        if self._stop.is_set():
            return "stopping"
        if self._shop.publisher.blocked is not None:
            return self._shop.publisher.blocked
        if self._hangs:
            return f"the watched folder {self._folder} does not answer: a listing hangs"
        if self._lookout.available is None:
            return f"the watched folder {self._folder} is being listed for the first time"
        if not self._lookout.available:
            return f"the watched folder {self._folder} is not there or cannot be listed"
        return None


def process(
    plates: Sequence[Path],
    settings: Settings,
    telemetry: Telemetry,
    progress: Callable[[int, int], None],
    open_device: OpenDevice = open_network,
) -> list[AcquisitionId]:
    """Work through folders that are already complete; the acquisitions found.

    progress: told now and then (planes decided, planes in all) of the present folder. open_device: what makes the
    model. Raises HcsError.
    """
    for plate in plates:
        if not plate.is_dir():
            raise FolderError(f"{plate} is not a folder", "give a plate's folder, or a tree of them")
        try:
            check_apart(plate, settings.results.directory)
        except ValueError as error:
            raise SettingsError(str(error), "give results a folder of their own, with --results") from error
    names = [name_of_root(plate.resolve()) for plate in plates]
    if len(set(names)) != len(names):
        raise SettingsError("two of the folders have the same name, and so the same results", "process them one by one")
    found: list[AcquisitionId] = []
    with workshop(settings, telemetry, open_device, live=False) as shop, readers(settings) as pool:
        looks = {root: scan_once(root) for root in (plate.resolve() for plate in plates)}
        check_origins(looks, instrument_for(settings.watch), shop.restored)
        for root, look in looks.items():
            found.extend(sorted(_process_one(shop, root, look, pool, progress)))
        _run_errands(shop)
        shop.publisher.finish(time.monotonic())
    return found


def _run_errands(shop: Workshop) -> None:
    """Wait until the command of every finished plate has run, and what came of it is written."""
    while True:
        shop.publisher.step(time.monotonic())
        if shop.clerk.failure is not None:
            raise HcsError(f"a stage failed: {shop.clerk.failure!r}", "see the log above") from shop.clerk.failure
        if _quiet((shop.clerk,), lambda: shop.errands.idle) and shop.publisher.idle:
            return
        time.sleep(0.02)


def _process_one(
    shop: Workshop, root: Path, look: ScanReport, pool: Executor, progress: Callable[[int, int], None]
) -> tuple[AcquisitionId, ...]:
    line = Line(shop, root, shop.restored, pool, finite=True)
    line.mail.scans.put(look)
    line.start()
    try:
        while not line.quiet(line.all_done):
            if line.failure is not None:
                raise HcsError(f"a stage failed: {line.failure!r}", "see the log above") from line.failure
            progress(line.intake.awaited - line.intake.pending, line.intake.awaited)
            line.device_stage.draining = line.intake_stage.exhausted  # the last batch need not wait to be full
            time.sleep(0.02)
        progress(line.intake.awaited, line.intake.awaited)
    finally:
        line.stop()
    return line.intake.acquisitions
