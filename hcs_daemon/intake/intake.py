r"""From sightings to complete sites and closed wells: the object that the intake thread owns.

    sighting -> settling -> reader pool -> verdict -> site -> device
                                               \-> well closed -> publish

Nothing here reads a file or lists a folder: the reader pool and the scanner do, and hand their answers back. Here is
the way of a file up to its verdict; `verdicts` puts it into the books, `loading` sends sites, `closing` closes wells
and plates, `history` knows what an earlier run did.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from hcs_daemon.config import Settings, canonical_channel
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import FileKind, Instrument, PlaneAddress, name_of_root
from hcs_daemon.intake import refusals
from hcs_daemon.intake.arrival import ScanReport
from hcs_daemon.intake.assembly import PlateBook
from hcs_daemon.intake.backlog import Backlog
from hcs_daemon.intake.cache import PixelCache
from hcs_daemon.intake.closing import Closing
from hcs_daemon.intake.history import History
from hcs_daemon.intake.loading import Loading
from hcs_daemon.intake.reading import (
    Changed,
    Decoded,
    Gone,
    NotYet,
    Outcome,
    Refused,
    Twin,
    confirm,
    look_for_first,
    read_plane,
)
from hcs_daemon.intake.stability import Settling
from hcs_daemon.intake.state import FileEntry, IntakeState, ToDevice, ToPublish
from hcs_daemon.intake.validation import Expected, Refusal
from hcs_daemon.intake.verdicts import Verdicts
from hcs_daemon.plate import AcquisitionId, PlaneId, SiteId, WellId
from hcs_daemon.records import PlaneRecord, Restored, Sighting, SiteWanted, StableFile
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import Stage

PATIENCE = 3
"""So many times a file that does not decode, cannot be opened or is gone is looked at again before it is judged."""
TRY_AGAIN_S = 60.0
TRY_AGAIN_AT_MOST_S = 3600.0
"""A refused file that may still grow is tried again even when nothing about it changed, ever less often."""

Answer = Outcome | Twin | Manifest | None
"""What reading a file came to. None: it is there as it was seen, and nothing more was to be known of it."""


class Intake:
    """Settling, cache and assembly; owned by the intake thread.

    root: the watched folder. channels: names in the model's order. readers: where files are read. wake: called (from
    any thread) when a reader has finished. finite: the folder is complete and `report` is called once: nothing is
    waited for, and what is missing is missing.
    """

    def __init__(
        self,
        *,
        root: Path,
        instrument: Instrument,
        settings: Settings,
        channels: tuple[str, ...],
        telemetry: Telemetry,
        readers: Executor,
        reads_at_once: int,
        wake: Callable[[], None],
        restored: Restored,
        now_utc: Callable[[], datetime],
        finite: bool,
    ) -> None:
        self._root_name = name_of_root(root)
        self._instrument = instrument
        self._settings = settings
        self._expected = Expected.of(settings.expect)
        self._channel_names = {canonical_channel(id_): name for name, id_ in settings.expect.channels.items()}
        self._ignored = {canonical_channel(id_) for id_ in settings.expect.ignore_channels}
        self._telemetry = telemetry
        self._readers = readers
        self._reads_at_once = reads_at_once
        self._wake = wake
        self._finite = finite
        self._log = get_log()
        self._state = state = IntakeState(root, instrument, settings, channels, telemetry, now_utc)
        self._cache = PixelCache(settings.watch.cache_bytes)
        self._history = History(restored, finite=finite)
        self._loading = Loading(state, self._cache, readers, wake, self._reread_failed)
        self._verdicts = Verdicts(
            state,
            self._cache,
            self._history,
            dispatch=self._loading.dispatch,
            look_again=self._look_again,
            look_for_first=self._look_for_first,
        )
        self._closing = Closing(state, self._loading.dispatch)
        self._settling = Settling(0.0 if finite else settings.watch.settle_s)
        self._backlog = None if finite else self._backlog_of(restored)
        self._ready: deque[tuple[FileEntry, StableFile]] = deque()
        self._finished_reads: deque[tuple[FileEntry, StableFile, Future[Answer]]] = deque()
        self._reading = 0
        self._metadata_awaited: set[Path] = set()
        self._now = 0.0
        self._stopping = False
        self.to_device: deque[ToDevice] = state.to_device
        self.to_publish: deque[ToPublish] = state.to_publish

    # ---- what others tell it

    def report(self, report: ScanReport, now: float) -> None:
        """Take what the scanner found."""
        self._now = now
        report = replace(report, sightings=tuple(filter(self._concerns_us, report.sightings)))
        for sighting in report.sightings if self._backlog is None else self._backlog.let_through(report):
            self._see(sighting, now)
        if report.finished and self._finite:
            self._closing.all_named = True

    def want(self, wanted: SiteWanted) -> None:
        """Bring a site's pixels together once more, to be explained or drawn."""
        self._loading.want(wanted)

    def stop_reading(self) -> None:
        """No new files from now on; what publish still wants for a result is served."""
        self._stopping = True

    # ---- its own work

    def step(self, now: float, *, room: bool) -> bool:
        """Do what can be done now; whether anything was. room: whether the stages after this one take more."""
        self._now = now
        worked = self._take_reads(now)
        worked |= self._loading.take()
        if self._stopping:
            self._loading.leave_pictures()
        worked |= self._loading.start(room=room)
        if not self._stopping:
            self._queue_ready(now)
            worked |= self._start_reads(room=room)
            worked |= self._review(now)
        self._telemetry.planes_pending.set(self.pending)
        self._telemetry.cache_bytes.set(self._cache.held_bytes)
        self._telemetry.stage_queue_items.labels(Stage.DECODE).set(len(self._ready))
        return worked

    @property
    def pending(self) -> int:
        """Planes of expected channels that are seen and not yet decided."""
        return self._state.pending

    @property
    def awaited(self) -> int:
        """Planes that ever were pending; a file that changed counts anew."""
        return self._state.awaited

    @property
    def exhausted(self) -> bool:
        """Whether every file that is known has been decided."""
        holding = self._backlog is not None and self._backlog.holding
        return not (self._ready or self._reading or self._finished_reads or len(self._settling) or holding)

    @property
    def idle(self) -> bool:
        """Whether nothing at all waits here."""
        return self.exhausted and not (self.serving or self._state.open_wells)

    @property
    def serving(self) -> bool:
        """Whether sites are on their way to the device or to publish."""
        return bool(self._loading.busy or self.to_device or self.to_publish)

    @property
    def acquisitions(self) -> tuple[AcquisitionId, ...]:
        """The acquisitions seen so far."""
        return tuple(self._state.plates)

    def wait_s(self) -> float:
        """Seconds until it should be asked again, if nothing wakes it."""
        if self._ready:
            return 0.05
        return min(0.5, max(0.01, self._settling.due_s - self._now))

    # ---- arrival and identity

    def _backlog_of(self, restored: Restored) -> Backlog | None:
        """What lay there long before the very first start is left alone at the next ones too."""
        started = self._state.now_utc() if restored.first_start else restored.first_started_at
        if started is None:
            return None
        known = {plate.acquisition for plate in restored.plates}
        return Backlog(
            started - timedelta(hours=self._settings.watch.backlog_h),
            lambda path: self._state.folder_of(str(self._state.relative(path))),
            lambda path: self._instrument.acquisition_of(self._root_name, self._state.relative(path)) in known,
        )

    def _concerns_us(self, sighting: Sighting) -> bool:
        """Whether it is a file, or a folder that has the very name of a plane."""
        if not sighting.is_folder:
            return True
        return self._instrument.read_name(self._root_name, self._state.relative(sighting.path)).kind is FileKind.PLANE

    def _see(self, sighting: Sighting, now: float) -> None:
        file = self._state.files.get(sighting.path)
        if file is None:
            self._meet(sighting, now)
        elif file.sighting != sighting:
            if file.decided and file.plane is not None:
                self._log.info(Event.FILE_CHANGED, path=file.name)
            file.size_bytes, file.mtime_ns, file.tries = sighting.size_bytes, sighting.mtime_ns, 0
            if file.plane is not None:
                self._state.plates[file.acquisition].undecided.pop(file.name, None)
            self._route(file, now)

    def _meet(self, sighting: Sighting, now: float) -> None:
        """A file seen for the first time: what its name says, and what an earlier run said."""
        path = self._state.relative(sighting.path)
        reading = self._instrument.read_name(self._root_name, path)
        address = reading.address
        file = FileEntry(
            path=sighting.path,
            name=str(path),
            kind=reading.kind,
            size_bytes=sighting.size_bytes,
            mtime_ns=sighting.mtime_ns,
            acquisition=address.acquisition if address else self._instrument.acquisition_of(self._root_name, path),
            problem=reading.problem,
        )
        if address is not None:
            file.plane = _plane_of(address)
            file.channel = self._channel_names.get(canonical_channel(address.channel))
        self._state.files[file.path] = file
        self._telemetry.files_seen.inc()
        if not self._is_as_before(file, now):
            self._route(file, now)

    def _is_as_before(self, file: FileEntry, now: float) -> bool:
        """Whether an earlier run decided this very file, so that nothing is left to do."""
        if file.kind not in {FileKind.PLANE, FileKind.UNKNOWN}:
            return False
        if file.plane is not None:
            self._plate(file, now)
        before = self._history.recall(file)
        if before is None:
            return False
        file.rejection, file.outcome = before.rejection, before.outcome
        file.decided = (before.size_bytes, before.mtime_ns) == (file.size_bytes, file.mtime_ns)
        return file.decided

    def _route(self, file: FileEntry, now: float) -> None:
        """A file is new or was changed: what is to be done with it."""
        match file.kind:
            case FileKind.NO_DATA:
                file.decided = True
                return
            case FileKind.METADATA:
                self._metadata_awaited.add(file.path)
            case FileKind.PLANE:
                plate = self._plate(file, now)
                if self._is_ignored(file):
                    self._verdicts.ignore(file)
                    return
                if plate.outdated:
                    plate = self._redo(plate, now)
                self._state.reopen(plate)
        self._state.await_verdict(file)
        self._settling.see(file.sighting, now)

    def _is_ignored(self, file: FileEntry) -> bool:
        return file.plane is not None and canonical_channel(file.plane.channel) in self._ignored

    def _plate(self, file: FileEntry, now: float) -> PlateBook:
        plate = self._state.plates.get(file.acquisition)
        if plate is None:
            folder = self._state.folder_of(file.name)
            plate = self._state.plates[file.acquisition] = PlateBook(file.acquisition, folder, touched_s=now)
            self._history.open(plate, self._state, now)
            self._log.info(Event.PLATE_OPENED, plate=plate.acquisition.plate, acquisition=plate.acquisition.acquisition)
        return plate

    def _redo(self, plate: PlateBook, now: float) -> PlateBook:
        """A plate finished under other expectations grows: one plate, one model, so all of it is done again."""
        self._history.redo(plate)
        fresh = PlateBook(
            plate.acquisition, plate.folder, manifests=plate.manifests, manifest=plate.manifest, touched_s=now
        )
        self._state.plates[plate.acquisition] = fresh
        for well in plate.wells:
            self._state.shut(well)
        for file in self._state.files.values():
            if file.plane is not None and file.acquisition == plate.acquisition:
                file.outcome = None
                if self._is_ignored(file):
                    self._verdicts.ignore(file)
                else:
                    self._state.await_verdict(file)
                    self._settling.see(file.sighting, now)
        return fresh

    # ---- reading

    def _queue_ready(self, now: float) -> None:
        settled = self._settling.ready(now)
        due = [(file, stable) for stable in settled if (file := self._state.files.get(stable.path)) is not None]
        for file, _ in due:
            if not file.tries:
                file.complete_s = now
        # sites fill one after the other, so that few pixels wait; metadata first, since it says what to expect
        due.sort(key=lambda item: _reading_order(item[0]))
        self._ready.extend(due)

    def _start_reads(self, *, room: bool) -> bool:
        started = False
        while room and self._ready and self._reading < self._reads_at_once:
            file, stable = self._ready.popleft()
            self._submit(file, stable, partial(self._job(file), stable))
            started = True
        return started

    def _submit(self, file: FileEntry, stable: StableFile, job: Callable[[], Answer]) -> None:
        self._reading += 1
        self._readers.submit(job).add_done_callback(partial(self._read_done, file, stable))

    def _job(self, file: FileEntry) -> Callable[[StableFile], Answer]:
        if file.kind is FileKind.METADATA:
            return partial(_read_metadata, self._instrument)
        if file.channel is not None and not file.problem:
            return partial(_read_timed, self._telemetry, self._expected)
        return confirm

    def _read_done(self, file: FileEntry, stable: StableFile, future: Future[Answer]) -> None:
        """Called in a reader's thread: hand over and wake, nothing else."""
        self._finished_reads.append((file, stable, future))
        self._wake()

    def _take_reads(self, now: float) -> bool:
        worked = False
        while self._finished_reads:
            file, stable, future = self._finished_reads.popleft()
            self._reading -= 1
            worked = True
            if self._state.files.get(file.path) is not file or _differ(file, stable):
                continue  # it is gone, or changed since and waits anew
            failure = future.exception()
            answer = Refused(refusals.unexpected(failure)) if failure is not None else future.result()
            self._take_answer(file, stable, answer, now)
        return worked

    def _take_answer(self, file: FileEntry, stable: StableFile, answer: Answer, now: float) -> None:
        match answer:
            case Decoded():
                self._verdicts.accept(file, stable, answer, now)
            case Twin():
                self._verdicts.pair(file, answer, now)
            case Refused(refusal, sha256):
                self._doubt(file, refusal, sha256, now)
            case NotYet(detail):
                self._doubt(file, refusals.not_openable(detail), None, now)
            case Changed(sighting):
                self._see(sighting, now)
            case Gone():
                self._miss(file, now)
            case Manifest():
                self._promise(file, answer, now)
            case None if file.kind is FileKind.METADATA:
                self._metadata_read(file)
            case None:
                self._verdicts.refuse(file, self._by_name(file), None, now)

    def _doubt(self, file: FileEntry, refusal: Refusal, sha256: str | None, now: float) -> None:
        """A file that may still be arriving is looked at again some rounds before it is judged, and after that."""
        file.tries += 1
        if refusal.may_grow and not self._finite:
            if file.tries <= PATIENCE:
                self._settling.see(file.sighting, now, extra_s=self._settings.watch.settle_s * file.tries)
                return
            wait_s = min(TRY_AGAIN_S * 2.0 ** (file.tries - PATIENCE - 1), TRY_AGAIN_AT_MOST_S)
            self._settling.see(file.sighting, now, extra_s=wait_s)
        self._metadata_awaited.discard(file.path)
        self._verdicts.refuse(file, refusal, sha256, now)

    def _miss(self, file: FileEntry, now: float) -> None:
        """The file was renamed or taken away, or its share was: a scan between two looks reports what is back."""
        file.tries += 1
        if file.tries <= PATIENCE and not self._finite:
            self._settling.see(file.sighting, now, extra_s=self._settings.watch.rescan_s * file.tries)
            return
        self._metadata_awaited.discard(file.path)
        self._verdicts.forget(file)

    def _by_name(self, file: FileEntry) -> Refusal:
        """Why a file is refused that was not opened."""
        if file.plane is None:
            return refusals.unknown_name(file.problem)
        if file.channel is None:
            return refusals.unknown_channel(file.plane.channel, self._settings.expect.channels)
        return refusals.one_of_a_series(file.problem)

    def _promise(self, file: FileEntry, manifest: Manifest, now: float) -> None:
        """The instrument's metadata came, or came again: wells may be decided by it."""
        self._metadata_read(file)
        plate = self._plate(file, now)
        plate.promise(file.name, manifest)
        plate.news_due = True
        for book in plate.wells.values():
            self._state.touch(book)
            self._loading.dispatch(plate, book)

    def _metadata_read(self, file: FileEntry) -> None:
        file.decided, file.tries = True, 0
        self._metadata_awaited.discard(file.path)
        self._verdicts.withdraw(file, "the file could be read now")

    # ---- files looked at once more

    def _reread_failed(self, record: PlaneRecord) -> None:
        """A plane that was accepted did not give its bytes again: it is judged anew, or is gone."""
        acquisition = record.id.site.well.acquisition
        file = self._state.files.get(self._state.path_of(record.source.path))
        if file is not None:
            self._look_again(self._state.plates[acquisition], file.name)
            return
        book = self._state.plates[acquisition].well(record.id.site.well)
        book.remove((record.id.site.site, record.channel, record.id.z), record.source.path)
        self._history.distrust(acquisition, record.source.path)
        self._state.touch(book)

    def _look_for_first(self, file: FileEntry, record: PlaneRecord, first: str) -> None:
        """A file with the bytes of another one may be that one, renamed."""
        stable = StableFile(file.path, file.size_bytes, file.mtime_ns)
        self._submit(file, stable, partial(look_for_first, record, file.path, first, self._state.path_of(first)))

    def _look_again(self, plate: PlateBook, name: str) -> None:
        file = self._state.files.get(self._state.path_of(name))
        if file is None:
            self._history.distrust(plate.acquisition, name)
            return
        self._state.await_verdict(file)
        self._settling.see(file.sighting, self._now)

    # ---- wells and plates

    def _review(self, now: float) -> bool:
        if self._finite and self._metadata_awaited:
            return False  # it says what to expect, and it is there
        over = self._closing.all_named and self.exhausted
        worked = False
        for plate in self._state.plates.values():
            since = next(iter(plate.undecided.values()))[1] if plate.undecided else now
            if plate.undecided and (over or self._closing.waited(since, now)):
                worked |= self._verdicts.settle_shape(plate, now, last_chance=True)
        return self._closing.review(now, over=over) or worked


def _differ(file: FileEntry, stable: StableFile) -> bool:
    return (file.size_bytes, file.mtime_ns) != (stable.size_bytes, stable.mtime_ns)


def _plane_of(address: PlaneAddress) -> PlaneId:
    well = WellId(address.acquisition, address.position, address.time)
    return PlaneId(SiteId(well, address.site), address.channel, address.z)


def _reading_order(file: FileEntry) -> tuple[bool, bool, tuple[str | int, ...]]:
    if file.plane is None:
        return (file.kind is not FileKind.METADATA, True, (file.name,))
    site, well = file.plane.site, file.plane.site.well
    acquisition, position = well.acquisition, well.position
    place = (position.row, position.column, well.time, site.site)
    return (True, False, (acquisition.plate, acquisition.acquisition, *place, file.plane.z, file.name))


def _read_timed(telemetry: Telemetry, expected: Expected, file: StableFile) -> Outcome:
    with telemetry.timed(Stage.DECODE):
        return read_plane(file, expected)


def _read_metadata(instrument: Instrument, file: StableFile) -> Answer:
    changed = confirm(file)
    if changed is not None:
        return changed
    try:
        return instrument.read_metadata(file.path)
    except FileNotFoundError:
        return Gone()
    except OSError as error:
        return NotYet(f"{type(error).__name__}: {error.strerror}")
