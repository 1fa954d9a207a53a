r"""From sightings to complete sites and closed wells: the object that the intake thread owns.

    sighting -> settling -> reader pool -> accepted | rejected -> site -> device
                                                    \-> well closed -> publish

Nothing here reads a file or lists a folder: the reader pool and the scanner do, and hand their answers back.
"""

from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from functools import partial
from pathlib import Path, PurePosixPath

from hcs_daemon.config import Settings, canonical_channel
from hcs_daemon.instruments.naming import FileKind, Instrument, Manifest, PlaneAddress
from hcs_daemon.intake.arrival import ScanReport
from hcs_daemon.intake.assembly import (
    ANALYSED_Z,
    Census,
    PlateBook,
    WellBook,
    restore_rejection,
    restore_well,
)
from hcs_daemon.intake.cache import PixelCache
from hcs_daemon.intake.reading import (
    Changed,
    Decoded,
    Gone,
    NotYet,
    Outcome,
    Refused,
    confirm,
    read_plane,
    reread_site,
    stack,
)
from hcs_daemon.intake.stability import Settling
from hcs_daemon.intake.validation import Expected, Refusal
from hcs_daemon.plate import AcquisitionId, PlaneId, SiteId, WellId
from hcs_daemon.records import (
    ExplainTask,
    Pixels,
    PlaneRecord,
    PlateNews,
    Rejection,
    Restored,
    RestoredPlate,
    Sighting,
    Site,
    SiteReturned,
    SiteWanted,
    SourceFile,
    StableFile,
    WellClosed,
)
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import PlaneOutcome, PlateState, Reason, Stage

REVISE_AFTER_S = 10.0
"""A published well that goes on growing is revised when it was quiet this long, not for each plane."""
PATIENCE = 3
"""So many times a file that does not decode, or cannot be opened, is looked at again before it is judged."""
TRY_UNREADABLE_S = 60.0
"""A file that cannot be opened is tried again after so long, even when nothing about it changed."""
LOADS_AT_ONCE = 2
SWEEP_S = 0.5
"""Wells that got nothing new are looked at so often, for their time may be up."""

ToDevice = Site | ExplainTask
ToPublish = Rejection | WellClosed | PlateNews | SiteReturned


class _State(Enum):
    PENDING = auto()  # settling, waiting for a reader, being read, or waiting for the plate's shape
    ACCEPTED = auto()
    REJECTED = auto()
    IGNORED = auto()


@dataclass(slots=True)
class _File:
    """What intake knows of one file. plane and channel are None for a file that is no plane of an expected channel."""

    path: Path
    name: str
    kind: FileKind
    size_bytes: int
    mtime_ns: int
    acquisition: AcquisitionId
    problem: str = ""
    plane: PlaneId | None = None
    channel: str | None = None
    state: _State = _State.PENDING
    tries: int = 0
    complete_s: float = 0.0
    rejection: Rejection | None = None


@dataclass(slots=True)
class _Load:
    """A site whose pixels are to be brought together. wanted: None on its way to be predicted."""

    site: SiteId
    key: tuple[str, ...]
    wanted: SiteWanted | None = None


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
        self._root = root
        self._instrument = instrument
        self._settings = settings
        self._expected = Expected.of(settings.expect)
        self._channels = channels
        self._channel_names = {canonical_channel(id_): name for name, id_ in settings.expect.channels.items()}
        self._ignored = {canonical_channel(id_) for id_ in settings.expect.ignore_channels}
        self._telemetry = telemetry
        self._readers = readers
        self._reads_at_once = reads_at_once
        self._wake = wake
        self._now_utc = now_utc
        self._finite = finite
        self._log = get_log()
        self._settling = Settling(0.0 if finite else settings.watch.settle_s)
        self._cache = PixelCache(settings.watch.cache_bytes)
        self._files: dict[str, _File] = {}
        self._by_path: dict[Path, str] = {}
        self._plates: dict[AcquisitionId, PlateBook] = {}
        self._restored = {plate.acquisition: plate for plate in restored.plates}
        self._restored_files: dict[tuple[AcquisitionId, str], tuple[int, int, Rejection | None]] = {}
        self._loose_rejections = {rejection.path: rejection for rejection in restored.rejections}
        self._holding: list[Sighting] | None = [] if restored.first_start and not finite else None
        self._left_alone: dict[PurePosixPath, list[Sighting]] = {}
        self._ready: deque[tuple[_File, StableFile]] = deque()
        self._finished_reads: deque[tuple[_File, StableFile, Future[Outcome | Manifest | None]]] = deque()
        self._reading = 0
        self._loads: deque[_Load] = deque()
        self._finished_loads: deque[tuple[_Load, tuple[PlaneRecord, ...], Future[Pixels | str]]] = deque()
        self._loading = 0
        self._open: dict[WellId, None] = {}
        self._all_named = False
        self._stopping = False
        self._touched: set[WellId] = set()
        self._next_sweep_s = float("-inf")
        self.pending = 0
        self.to_device: deque[ToDevice] = deque()
        self.to_publish: deque[ToPublish] = deque()

    # ---- what others tell it

    def report(self, report: ScanReport, now: float) -> None:
        """Take what the scanner found."""
        if self._holding is not None:
            self._holding.extend(report.sightings)
            if report.finished:
                held, self._holding = self._holding, None
                self._leave_backlog(held)
                self._see_all(held, now)
            return
        self._see_all(report.sightings, now)
        if report.finished and self._finite:
            self._all_named = True

    def want(self, wanted: SiteWanted) -> None:
        """Bring a site's pixels together once more, to be explained or drawn."""
        self._loads.appendleft(_Load(wanted.site, wanted.key, wanted))  # it finishes a well

    def stop_reading(self) -> None:
        """No new files from now on; what publish still wants is served."""
        self._stopping = True

    # ---- its own work

    def step(self, now: float, *, room: bool) -> bool:
        """Do what can be done now; whether anything was. room: whether the stages after this one take more."""
        worked = self._take_reads(now)
        worked |= self._take_loads()
        worked |= self._start_loads(room=room)
        if not self._stopping:
            self._queue_ready(now)
            worked |= self._start_reads(room=room)
            worked |= self._review(now)
        self._telemetry.planes_pending.set(self.pending)
        self._telemetry.cache_bytes.set(self._cache.held_bytes)
        self._telemetry.stage_queue_items.labels(Stage.DECODE).set(len(self._ready))
        return worked

    @property
    def exhausted(self) -> bool:
        """Whether every file that is known has been decided."""
        return not (self._ready or self._reading or self._finished_reads or len(self._settling) or self._holding)

    @property
    def idle(self) -> bool:
        """Whether nothing at all waits here."""
        loads = self._loads or self._loading or self._finished_loads
        return self.exhausted and not (loads or self._open or self.to_device or self.to_publish)

    @property
    def serving(self) -> bool:
        """Whether sites are on their way to the device or to publish."""
        return bool(self._loads or self._loading or self._finished_loads or self.to_device or self.to_publish)

    @property
    def acquisitions(self) -> tuple[AcquisitionId, ...]:
        """The acquisitions seen so far."""
        return tuple(self._plates)

    def wait_s(self) -> float:
        """Seconds until it should be asked again, if nothing wakes it."""
        return 0.05 if len(self._settling) or self._ready else 0.5

    # ---- arrival and identity

    def _leave_backlog(self, held: list[Sighting]) -> None:
        newest: dict[PurePosixPath, int] = {}
        for sighting in held:
            folder = self._instrument.measurement_folder(self._relative(sighting.path))
            newest[folder] = max(newest.get(folder, 0), sighting.mtime_ns)
        limit = self._now_utc().timestamp() - self._settings.watch.backlog_h * 3600
        for folder, mtime_ns in newest.items():
            if 0 < mtime_ns < limit * 1e9:
                self._left_alone[folder] = []
                self._log.info(
                    Event.PLATE_LEFT_ALONE,
                    folder=str(folder),
                    hint="untouched for longer than watch.backlog_h; `hcs-daemon process` takes it",
                )

    def _see_all(self, sightings: tuple[Sighting, ...] | list[Sighting], now: float) -> None:
        for sighting in sightings:
            self._see(sighting, now)

    def _see(self, sighting: Sighting, now: float) -> None:
        path = self._relative(sighting.path)
        if self._left_alone:
            folder = self._instrument.measurement_folder(path)
            if folder in self._left_alone:
                if self._now_utc().timestamp() - sighting.mtime_ns / 1e9 > self._settings.watch.backlog_h * 3600:
                    self._left_alone[folder].append(sighting)
                    return
                for held in self._left_alone.pop(folder):
                    self._see(held, now)
        name = str(path)
        file = self._files.get(name)
        if file is None:
            file = self._meet(sighting, path)
            self._files[name] = file
            self._by_path[sighting.path] = name
            self._telemetry.files_seen.inc()
        elif (file.size_bytes, file.mtime_ns) == (sighting.size_bytes, sighting.mtime_ns):
            return
        else:
            if file.state in {_State.ACCEPTED, _State.REJECTED}:
                self._log.info(Event.FILE_CHANGED, path=name)
            file.size_bytes, file.mtime_ns, file.tries = sighting.size_bytes, sighting.mtime_ns, 0
        self._route(file, sighting, now)

    def _meet(self, sighting: Sighting, path: PurePosixPath) -> _File:
        """A file seen for the first time: what its name says."""
        reading = self._instrument.read_name(self._root.name, path)
        acquisition = self._instrument.acquisition_of(self._root.name, path)
        file = _File(
            sighting.path,
            str(path),
            reading.kind,
            sighting.size_bytes,
            sighting.mtime_ns,
            acquisition,
            problem=reading.problem,
        )
        if reading.address is not None:
            file.plane, file.channel = _plane_of(reading.address), self._name_of(reading.address.channel)
        return file

    def _name_of(self, channel_id: str) -> str | None:
        return self._channel_names.get(canonical_channel(channel_id))

    def _route(self, file: _File, sighting: Sighting, now: float) -> None:
        if file.kind is FileKind.NO_DATA:
            file.state = _State.IGNORED
            return
        if file.kind is FileKind.PLANE:
            plate = self._plate(file, now)
            if file.plane is not None and file.channel is None and self._is_ignored(file.plane.channel):
                self._ignore(file, plate)
                return
            if self._known_from_before(file, now):
                return
            self._await(file, self._plate(file, now))
        elif file.kind is FileKind.UNKNOWN and self._still_rejected(file, self._loose_rejections.get(file.name)):
            return
        if file.state is not _State.PENDING:
            self._set_pending(file)
        self._settling.see(sighting, now)

    def _is_ignored(self, channel_id: str) -> bool:
        return canonical_channel(channel_id) in self._ignored

    def _ignore(self, file: _File, plate: PlateBook) -> None:
        if file.state is not _State.IGNORED:
            file.state = _State.IGNORED
            self._count(plate, PlaneOutcome.IGNORED)

    def _await(self, file: _File, plate: PlateBook) -> None:
        """A plane of the plate was seen: its well waits for the verdict."""
        if file.plane is None:
            return
        if file.channel is not None:
            book = plate.well(file.plane.site.well)
            if file.name not in book.outstanding:
                book.outstanding.add(file.name)
                self.pending += 1
            plate.name_site(book, file.plane.site.site)
            self._open[book.well] = None
        if plate.state is PlateState.FINISHED:
            plate.state, plate.news_due = PlateState.ACQUIRING, True

    def _set_pending(self, file: _File) -> None:
        file.state = _State.PENDING

    # ---- what an earlier run left

    def _plate(self, file: _File, now: float) -> PlateBook:
        plate = self._plates.get(file.acquisition)
        if plate is None:
            folder = self._instrument.measurement_folder(PurePosixPath(file.name))
            plate = PlateBook(file.acquisition, str(folder), touched_s=now)
            self._plates[file.acquisition] = plate
            restored = self._restored.pop(file.acquisition, None)
            if restored is not None:
                self._adopt(plate, restored, now)
            self._log.info(Event.PLATE_OPENED, plate=plate.acquisition.plate, acquisition=plate.acquisition.acquisition)
        return plate

    def _adopt(self, plate: PlateBook, restored: RestoredPlate, now: float) -> None:
        """Take over what an earlier run did, or, if it was done under other expectations, only its rejections."""
        redo = restored.outdated and restored.state is PlateState.ACQUIRING
        for rejection in restored.rejections:
            known = (-1, -1) if redo else (rejection.size_bytes, rejection.mtime_ns)
            self._restored_files[(plate.acquisition, rejection.path)] = (*known, rejection)
        if redo:
            self._log.warning(
                Event.PLATE_REDONE,
                plate=plate.acquisition.plate,
                acquisition=plate.acquisition.acquisition,
                hint="model or expectations changed before it was finished; its wells are done again, as new revisions",
            )
            return
        plate.state, plate.shape, plate.outdated = restored.state, restored.shape, restored.outdated
        for well in restored.wells:
            book = restore_well(plate, well)
            book.touched_s = book.last_plane_s = now
            for use in well.inputs:
                source = use.plane.source
                plate.counts[PlaneOutcome.ACCEPTED] += 1
                self._restored_files[(plate.acquisition, source.path)] = (source.size_bytes, source.mtime_ns, None)
            if well.status != "complete":
                self._open[well.well] = None
        for rejection in restored.rejections:
            plane = restore_rejection(plate, rejection)
            plate.counts[PlaneOutcome.REJECTED] += 1
            if plane is not None and plate.well(plane.site.well).last_plane_at is None:
                book = plate.well(plane.site.well)
                book.touch(rejection.at, now, now)
                self._open[book.well] = None

    def _known_from_before(self, file: _File, now: float) -> bool:
        """Whether an earlier run decided this very file, so that nothing is left to do."""
        before = self._restored_files.pop((file.acquisition, file.name), None)
        if before is not None:
            size_bytes, mtime_ns, file.rejection = before
            if (size_bytes, mtime_ns) == (file.size_bytes, file.mtime_ns):
                file.state = _State.REJECTED if file.rejection else _State.ACCEPTED
                return True
        plate = self._plates[file.acquisition]
        if plate.outdated:
            self._redo(plate, now)
        return False

    def _still_rejected(self, file: _File, before: Rejection | None) -> bool:
        if before is None or (before.size_bytes, before.mtime_ns) != (file.size_bytes, file.mtime_ns):
            return False
        file.rejection, file.state = before, _State.REJECTED
        return True

    def _redo(self, plate: PlateBook, now: float) -> None:
        """A plate finished under other expectations grows: one plate, one model, so all of it is done again."""
        self._log.warning(
            Event.PLATE_REDONE,
            plate=plate.acquisition.plate,
            acquisition=plate.acquisition.acquisition,
            hint="a plane came to a plate that was finished under another model or other expectations",
        )
        fresh = PlateBook(plate.acquisition, plate.folder, manifest=plate.manifest, touched_s=now)
        self._plates[plate.acquisition] = fresh
        for well in plate.wells:
            self._open.pop(well, None)
        for key in [key for key in self._restored_files if key[0] == plate.acquisition]:
            rejection = self._restored_files[key][2]
            self._restored_files[key] = (-1, -1, rejection)
        for file in self._files.values():
            if file.acquisition == plate.acquisition and file.state in {_State.ACCEPTED, _State.REJECTED}:
                self._await(file, fresh)
                self._set_pending(file)
                self._settling.see(Sighting(file.path, file.size_bytes, file.mtime_ns), now)

    # ---- reading

    def _queue_ready(self, now: float) -> None:
        due: list[tuple[_File, StableFile]] = []
        for stable in self._settling.ready(now):
            file = self._files[self._by_path[stable.path]]
            if not file.tries:
                file.complete_s = now
            due.append((file, stable))
        # sites fill one after the other, so that few pixels wait; metadata first, since it says what to expect
        due.sort(key=lambda item: (item[0].kind is not FileKind.METADATA, _reading_order(item[0])))
        self._ready.extend(due)

    def _start_reads(self, *, room: bool) -> bool:
        started = False
        while room and self._ready and self._reading < self._reads_at_once:
            file, stable = self._ready.popleft()
            self._reading += 1
            future = self._readers.submit(self._job(file), stable)
            future.add_done_callback(partial(self._read_done, file, stable))
            started = True
        return started

    def _job(self, file: _File) -> Callable[[StableFile], Outcome | Manifest | None]:
        if file.kind is FileKind.METADATA:
            return partial(_read_metadata, self._instrument)
        if file.kind is FileKind.PLANE and file.channel is not None:
            return partial(_read_timed, self._telemetry, self._expected)
        return confirm

    def _read_done(self, file: _File, stable: StableFile, future: Future[Outcome | Manifest | None]) -> None:
        """Called in a reader's thread: hand over and wake, nothing else."""
        self._finished_reads.append((file, stable, future))
        self._wake()

    def _take_reads(self, now: float) -> bool:
        worked = False
        while self._finished_reads:
            file, stable, future = self._finished_reads.popleft()
            self._reading -= 1
            worked = True
            failure = future.exception()
            if failure is not None:
                self._refuse(file, _unexpected(failure), None, now)
            else:
                self._take_read(file, stable, future.result(), now)
        return worked

    def _take_read(self, file: _File, stable: StableFile, outcome: Outcome | Manifest | None, now: float) -> None:
        match outcome:
            case Decoded():
                self._accept(file, stable, outcome, now)
            case Refused(refusal, sha256):
                self._doubt(file, stable, refusal, sha256, now)
            case NotYet(detail):
                self._doubt(file, stable, _not_openable(detail), None, now)
            case Changed(sighting):
                file.size_bytes, file.mtime_ns = sighting.size_bytes, sighting.mtime_ns
                self._settling.see(sighting, now)
            case Gone():
                self._forget(file, now)
            case Manifest():
                self._promise(file, outcome, now)
            case None if file.kind is FileKind.METADATA:
                file.state = _State.IGNORED
            case None:
                self._refuse(file, self._by_name(file), None, now)

    def _doubt(self, file: _File, stable: StableFile, refusal: Refusal, sha256: str | None, now: float) -> None:
        """A file that may still be arriving is looked at again some rounds before it is judged."""
        file.tries += 1
        sighting = Sighting(stable.path, stable.size_bytes, stable.mtime_ns)
        if refusal.may_grow and file.tries <= PATIENCE and not self._finite:
            self._settling.see(sighting, now, extra_s=self._settings.watch.settle_s * file.tries)
            return
        self._refuse(file, refusal, sha256, now)
        if refusal.reason is Reason.UNREADABLE and not self._finite:
            self._settling.see(sighting, now, extra_s=TRY_UNREADABLE_S)

    def _forget(self, file: _File, now: float) -> None:
        """The file went before it was read: renamed, or taken away."""
        self._settle_account(file, now)
        self._files.pop(file.name, None)
        self._by_path.pop(file.path, None)

    def _promise(self, file: _File, manifest: Manifest, now: float) -> None:
        """The instrument's metadata came, or came again: wells may be decided by it."""
        file.state = _State.IGNORED
        plate = self._plate(file, now)
        plate.manifest, plate.news_due = manifest, True
        for book in plate.wells.values():
            self._open[book.well] = None
            self._dispatch_ready(plate, book)

    def _by_name(self, file: _File) -> Refusal:
        """Why a file is refused that was not opened."""
        if file.kind is FileKind.UNKNOWN or file.plane is None:
            return Refusal(
                Reason.UNKNOWN_NAME,
                file.problem,
                "if it is an image, set watch.instrument or watch.pattern; if not, keep it out of the watched folder",
            )
        known = ", ".join(f'{name} = "{id_}"' for name, id_ in self._settings.expect.channels.items())
        return Refusal(
            Reason.UNKNOWN_CHANNEL,
            f"channel {file.plane.channel} is in neither list (expect.channels: {known})",
            f'if it is not to be analysed, add "{file.plane.channel}" to expect.ignore_channels',
        )

    # ---- verdicts

    def _accept(self, file: _File, stable: StableFile, decoded: Decoded, now: float) -> None:
        assert file.plane is not None
        assert file.channel is not None
        height, width = decoded.pixels.shape
        record = PlaneRecord(
            id=file.plane,
            channel=file.channel,
            source=SourceFile(file.name, stable.size_bytes, stable.mtime_ns, decoded.sha256),
            shape=(height, width),
            container=decoded.pixels.dtype.name,
            measures=decoded.measures,
            seen_at=self._now_utc(),
        )
        plate = self._plates[file.acquisition]
        self._cache.put(record.id, decoded.sha256, decoded.pixels)
        if plate.shape is None:
            plate.undecided.append((file.name, record, now))
            self._settle_shape(plate, now, last_chance=False)
        else:
            self._place(file, plate, record, now)

    def _settle_shape(self, plate: PlateBook, now: float, *, last_chance: bool) -> bool:
        shape = plate.vote(last_chance=last_chance)
        if shape is None:
            return False
        plate.shape, plate.news_due = shape, True
        held, plate.undecided = plate.undecided, []
        for name, record, _ in held:
            file = self._files.get(name)
            if file is not None:
                self._place(file, plate, record, now)
        return True

    def _place(self, file: _File, plate: PlateBook, record: PlaneRecord, now: float) -> None:
        if record.shape != plate.shape:
            self._refuse(file, _wrong_shape(record.shape, plate.shape), record.source.sha256, now)
            return
        book = plate.well(record.id.site.well)
        twin = book.place(record)
        if twin is not None:
            self._refuse(file, _duplicate(twin), record.source.sha256, now)
            return
        self._withdraw(file)
        book.rejected.pop(file.name, None)
        file.state = _State.ACCEPTED
        plate.note_bits(record)
        self._count(plate, PlaneOutcome.ACCEPTED)
        self._settle_account(file, now)
        self._dispatch_ready(plate, book, record.id.site.site)

    def _refuse(self, file: _File, refusal: Refusal, sha256: str | None, now: float) -> None:
        """Reject a file: one line, one log line, one count; the plate goes on."""
        if file.plane is not None and file.channel is not None:
            self._take_back(file, refusal)
        self._settle_account(file, now)
        file.state = _State.REJECTED
        rejection = Rejection(
            at=self._now_utc(),
            path=file.name,
            reason=refusal.reason,
            detail=refusal.detail,
            hint=refusal.hint,
            size_bytes=file.size_bytes,
            mtime_ns=file.mtime_ns,
            sha256=sha256,
            acquisition=file.acquisition if file.plane is not None else None,
            plane=file.plane,
            channel=file.channel,
        )
        before, file.rejection = file.rejection, rejection
        if before is not None and (before.reason, before.sha256) == (rejection.reason, rejection.sha256):
            return  # the same file judged the same again: its line stands
        self.to_publish.append(rejection)
        self._telemetry.rejections.labels(refusal.reason).inc()
        if file.plane is not None:
            duplicate = refusal.reason is Reason.DUPLICATE_PLANE
            outcome = PlaneOutcome.DUPLICATE if duplicate else PlaneOutcome.REJECTED
            self._count(self._plates[file.acquisition], outcome)
        self._log.warning(
            Event.PLANE_REJECTED,
            path=file.name,
            reason=refusal.reason,
            detail=refusal.detail,
            hint=refusal.hint,
            plate=file.acquisition.plate if file.plane is not None else None,
            well=file.plane.site.well.position.name if file.plane is not None else None,
        )

    def _take_back(self, file: _File, refusal: Refusal) -> None:
        """A plane of a well will not come, or is there no more."""
        assert file.plane is not None
        assert file.channel is not None
        book = self._plates[file.acquisition].well(file.plane.site.well)
        book.remove(file.name)
        if refusal.reason is not Reason.DUPLICATE_PLANE and file.plane.z == ANALYSED_Z:
            book.rejected[file.name] = (file.plane.site.site, file.channel)

    def _withdraw(self, file: _File) -> None:
        if file.rejection is None:
            return
        taken_back = Rejection(
            at=self._now_utc(),
            path=file.name,
            reason=file.rejection.reason,
            detail=file.rejection.detail,
            hint="the file is whole now and was accepted",
            size_bytes=file.size_bytes,
            mtime_ns=file.mtime_ns,
            sha256=file.rejection.sha256,
            acquisition=file.acquisition,
            plane=file.plane,
            channel=file.channel,
            withdrawn=True,
        )
        file.rejection = None
        self.to_publish.append(taken_back)
        self._log.info(Event.REJECTION_WITHDRAWN, path=file.name, reason=taken_back.reason)

    def _settle_account(self, file: _File, now: float) -> None:
        """The file is decided: its well waits for it no longer."""
        if file.plane is None or file.channel is None:
            return
        plate = self._plates[file.acquisition]
        book = plate.well(file.plane.site.well)
        if file.name in book.outstanding:
            book.outstanding.discard(file.name)
            self.pending -= 1
        book.touch(self._now_utc(), file.complete_s or now, now)
        plate.touched_s = now
        self._open[book.well] = None
        self._touched.add(book.well)

    def _count(self, plate: PlateBook, outcome: PlaneOutcome) -> None:
        plate.counts[outcome] += 1
        plate.news_due = True
        self._telemetry.planes.labels(outcome).inc()

    # ---- sites on their way

    def _dispatch_ready(self, plate: PlateBook, book: WellBook, only: int | None = None) -> None:
        """Send the well's complete sites to the device, each once."""
        if self._pixel_size(plate) is None:
            return
        for site in sorted(book.sites_named) if only is None else [only]:
            planes = book.site_planes(site, self._channels)
            key = _key(planes) if planes else None
            if key and book.dispatched.get(site) != key:
                book.dispatched[site] = key
                self._loads.append(_Load(SiteId(book.well, site), key))

    def _start_loads(self, *, room: bool) -> bool:
        worked = False
        while room and self._loads and self._loading < LOADS_AT_ONCE and len(self.to_device) < LOADS_AT_ONCE:
            self._start_load(self._loads.popleft())
            worked = True
        return worked

    def _start_load(self, load: _Load) -> None:
        book = self._plates[load.site.well.acquisition].well(load.site.well)
        planes = book.site_planes(load.site.site, self._channels)
        if planes is None or _key(planes) != load.key:
            self._load_failed(load, "its planes were replaced since")
            return
        held = {
            position: pixels
            for position, plane in enumerate(planes)
            if (pixels := self._cache.get(plane.id, plane.source.sha256)) is not None
        }
        if len(held) == len(planes):
            self._send(load, planes, stack([held[position] for position in range(len(planes))]))
            return
        self._telemetry.cache_rereads.inc(len(planes) - len(held))
        self._loading += 1
        future = self._readers.submit(reread_site, self._root, planes, held)
        future.add_done_callback(partial(self._load_done, load, planes))

    def _load_done(self, load: _Load, planes: tuple[PlaneRecord, ...], future: Future[Pixels | str]) -> None:
        """Called in a reader's thread: hand over and wake, nothing else."""
        self._finished_loads.append((load, planes, future))
        self._wake()

    def _take_loads(self) -> bool:
        worked = False
        while self._finished_loads:
            load, planes, future = self._finished_loads.popleft()
            self._loading -= 1
            worked = True
            failure = future.exception()
            pixels = f"reading failed: {failure!r}" if failure is not None else future.result()
            if isinstance(pixels, str):
                self._load_failed(load, pixels)
            else:
                self._send(load, planes, pixels)
        return worked

    def _send(self, load: _Load, planes: tuple[PlaneRecord, ...], pixels: Pixels) -> None:
        plate = self._plates[load.site.well.acquisition]
        pixel_size_um = self._pixel_size(plate)
        assert pixel_size_um is not None
        site = Site(load.site, planes, pixels, pixel_size_um)
        for plane in planes:
            self._cache.release(plane.id)
        if load.wanted is None:
            self.to_device.append(site)
            with self._telemetry.timed(Stage.ASSEMBLE):
                pass
        elif load.wanted.explain_target is not None:
            self.to_device.append(ExplainTask(load.wanted, site))
        else:
            self.to_publish.append(SiteReturned(load.wanted, site))

    def _load_failed(self, load: _Load, problem: str) -> None:
        self._log.warning(Event.SITE_FAILED, well=load.site.well.position.name, site=load.site.site, detail=problem)
        if load.wanted is not None:
            self.to_publish.append(SiteReturned(load.wanted, None, None, problem))
            return
        book = self._plates[load.site.well.acquisition].well(load.site.well)
        if book.dispatched.get(load.site.site) == load.key:
            del book.dispatched[load.site.site]

    def _pixel_size(self, plate: PlateBook) -> float | None:
        return self._settings.expect.pixel_size_um or plate.manifest.pixel_size_um

    # ---- wells and plates

    def _review(self, now: float) -> bool:
        """Close the wells that are decided or whose time is up, finish plates, send news."""
        over = self._finite and self._all_named and self.exhausted
        sweep = over or now >= self._next_sweep_s
        wells = list(self._open) if sweep else [well for well in self._touched if well in self._open]
        self._touched.clear()
        worked = self._settle_late_shapes(now, over=over) if sweep else False
        for well in wells:
            worked |= self._review_well(self._plates[well.acquisition], well, now, over=over)
        if sweep:
            self._next_sweep_s = now + SWEEP_S
            worked |= self._review_plates(now, over=over)
        return worked

    def _settle_late_shapes(self, now: float, *, over: bool) -> bool:
        worked = False
        for plate in self._plates.values():
            if plate.undecided and (over or self._waited(plate.undecided[0][2], now)):
                worked |= self._settle_shape(plate, now, last_chance=True)
        return worked

    def _review_plates(self, now: float, *, over: bool) -> bool:
        busy = {well.acquisition for well in self._open}
        worked = False
        for plate in self._plates.values():
            worked |= self._review_plate(plate, now, over=over, busy=plate.acquisition in busy)
        acquiring = [plate for plate in self._plates.values() if plate.state is PlateState.ACQUIRING]
        stalled = sum(self._waited(plate.touched_s, now) for plate in acquiring)
        self._telemetry.plates_open.set(len(acquiring))
        self._telemetry.plates_stalled.set(stalled)
        return worked

    def _waited(self, since: float, now: float) -> bool:
        return now - since >= self._settings.expect.well_timeout_s

    def _review_well(self, plate: PlateBook, well: WellId, now: float, *, over: bool) -> bool:
        book = plate.well(well)
        if book.outstanding or book.last_plane_at is None:
            return False
        per_well = self._settings.expect.sites_per_well
        timed_out = over or self._waited(book.touched_s, now)
        census = plate.census(book, self._channels, per_well, all_named=self._all_named or timed_out)
        scaled = self._pixel_size(plate) is not None
        if not ((census.decided and scaled) or timed_out):
            return False
        growing = book.sent is not None and now - book.touched_s < REVISE_AFTER_S
        if growing and not timed_out and not (census.decided and not book.sent[0]):  # type: ignore[index]
            return False
        del self._open[well]
        if timed_out and not per_well:
            plate.learned_sites = max(plate.learned_sites, census.expected)
        return self._close(plate, book, census, scaled=scaled)

    def _close(self, plate: PlateBook, book: WellBook, census: Census, *, scaled: bool) -> bool:
        ready = {site: _key(planes) for site, planes in census.complete.items()} if scaled else {}
        inputs = book.inputs(set(ready))
        content = (census.decided and scaled, census, tuple(ready.items()), inputs)
        if content == book.sent or book.first_plane_at is None or book.last_plane_at is None:
            return False
        book.sent = content
        unscaled = () if scaled else tuple(census.complete)
        self._dispatch_ready(plate, book)
        self.to_publish.append(
            WellClosed(
                well=book.well,
                expected_sites=census.expected,
                ready=ready,
                missing=tuple(sorted((*census.missing, *unscaled))),
                rejected=census.rejected,
                pending=bool(census.missing or census.unnamed or unscaled),
                inputs=inputs,
                first_plane_at=book.first_plane_at,
                last_plane_at=book.last_plane_at,
                last_plane_s=book.last_plane_s,
                warnings=self._warnings(book, census, scaled=scaled),
            )
        )
        self._log.info(
            Event.WELL_CLOSED,
            plate=book.well.acquisition.plate,
            well=book.well.stem,
            sites=len(ready),
            expected=census.expected,
        )
        return True

    def _warnings(self, book: WellBook, census: Census, *, scaled: bool) -> tuple[str, ...]:
        said = []
        if not scaled:
            said.append(
                "the pixel size is not known: set expect.pixel_size_um, or copy the instrument's index file too"
            )
        if census.unnamed:
            said.append(f"{census.unnamed} of {census.expected} expected sites never appeared")
        other_z = sum(record.id.z != ANALYSED_Z for record in book.planes.values())
        if other_z:
            said.append(f"{other_z} planes of other z steps were not analysed, only z = {ANALYSED_Z}")
        per_well = self._settings.expect.sites_per_well
        if per_well and census.expected > per_well:
            said.append(f"{census.expected} sites were imaged, expect.sites_per_well says {per_well}")
        return tuple(said)

    def _review_plate(self, plate: PlateBook, now: float, *, over: bool, busy: bool) -> bool:
        busy = busy or bool(plate.undecided)
        if plate.state is PlateState.ACQUIRING and not busy and (over or self._is_finished(plate, now)):
            plate.state, plate.news_due, plate.news_s = PlateState.FINISHED, True, float("-inf")
            self._log.info(
                Event.PLATE_FINISHED, plate=plate.acquisition.plate, acquisition=plate.acquisition.acquisition
            )
        if not plate.news_due or now - plate.news_s < self._settings.results.plate_refresh_s:
            return False
        plate.news_due, plate.news_s = False, now
        self.to_publish.append(self._news(plate))
        return True

    def _is_finished(self, plate: PlateBook, now: float) -> bool:
        if now - plate.touched_s >= self._settings.expect.plate_timeout_s:
            return True
        closed = {well.position for well, book in plate.wells.items() if book.sent is not None and book.sent[0]}
        expected = plate.expected_wells()
        return bool(expected) and expected <= closed

    def _news(self, plate: PlateBook) -> PlateNews:
        expect = self._settings.expect
        return PlateNews(
            acquisition=plate.acquisition,
            state=plate.state,
            root=self._root,
            folder=plate.folder,
            instrument=self._instrument.name,
            shape=plate.shape,
            pixel_size_um=self._pixel_size(plate),
            sites_per_well=expect.sites_per_well or plate.learned_sites or None,
            expectations_from="metadata" if plate.manifest.sites else "settings",
            bit_depth=plate.depth_verdicts(self._channels, expect.bit_depth),
            counts={
                **Counter({outcome.value: 0 for outcome in PlaneOutcome}),
                **plate.counts,
                "wells": len(plate.wells),
            },
            instrument_plate_id=plate.manifest.plate_id,
            instrument_measurement_id=plate.manifest.measurement_id,
        )

    def _relative(self, path: Path) -> PurePosixPath:
        """The path below the root, as text that every file and log can hold."""
        text = path.relative_to(self._root).as_posix()
        return PurePosixPath(text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def _plane_of(address: PlaneAddress) -> PlaneId:
    well = WellId(address.acquisition, address.position, address.time)
    return PlaneId(SiteId(well, address.site), address.channel, address.z)


def _reading_order(file: _File) -> tuple[bool, PlaneId | str]:
    return (file.plane is None, file.plane if file.plane is not None else file.name)


def _key(planes: tuple[PlaneRecord, ...]) -> tuple[str, ...]:
    return tuple(plane.source.sha256 for plane in planes)


def _read_timed(telemetry: Telemetry, expected: Expected, file: StableFile) -> Outcome:
    with telemetry.timed(Stage.DECODE):
        return read_plane(file, expected)


def _read_metadata(instrument: Instrument, file: StableFile) -> Manifest | Outcome | None:
    changed = confirm(file)
    if changed is not None:
        return changed
    try:
        return instrument.read_metadata(file.path)
    except OSError as error:
        return NotYet(f"{type(error).__name__}: {error.strerror}")


def _unexpected(failure: BaseException) -> Refusal:
    return Refusal(
        Reason.UNREADABLE,
        f"reading it failed: {failure!r}",
        "write the file again; if it stays so, report it with the file",
    )


def _not_openable(detail: str) -> Refusal:
    return Refusal(
        Reason.UNREADABLE,
        f"cannot be opened: {detail}",
        "let the daemon's user read it, or close it in the program that holds it; it is tried again",
        may_grow=True,
    )


def _wrong_shape(shape: tuple[int, int], expected: tuple[int, int] | None) -> Refusal:
    wanted = f"{expected[1]} x {expected[0]}" if expected else "another shape"
    return Refusal(
        Reason.WRONG_SHAPE,
        f"is {shape[1]} x {shape[0]} pixels, the plate's planes are {wanted}",
        "one plate, one camera setting: image this well again with the plate's binning and crop",
    )


def _duplicate(path: str) -> Refusal:
    return Refusal(
        Reason.DUPLICATE_PLANE,
        f"the same bytes at the same address as {path}",
        "the first one counts; remove the copy",
    )
