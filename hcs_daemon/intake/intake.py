r"""From sightings to complete sites and closed wells: the object that the intake thread owns.

    sighting -> settling -> reader pool -> verdict -> site -> device
                                               \-> well closed -> publish

Nothing here reads a file or lists a folder: the reader pool and the scanner do, and hand their answers back. Here is
the way of a file up to its verdict; `verdicts` puts it into the books, `loading` sends sites, `closing` closes wells
and plates, `history` knows what an earlier run did.
"""

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path, PurePosixPath

from hcs_daemon.config import Settings
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import FileKind, Instrument, Reading, name_of_root
from hcs_daemon.instruments.recognition import why
from hcs_daemon.intake import refusals
from hcs_daemon.intake.arrival import ScanReport
from hcs_daemon.intake.assembly import PlateBook
from hcs_daemon.intake.backlog import Backlog
from hcs_daemon.intake.cache import PixelCache
from hcs_daemon.intake.closing import Closing
from hcs_daemon.intake.expectation import Expectation
from hcs_daemon.intake.history import History
from hcs_daemon.intake.loading import Loading
from hcs_daemon.intake.opening import Answer, Bundle, open_bundle, read_metadata
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
from hcs_daemon.plate import AcquisitionId, split_page, with_page
from hcs_daemon.records import PlaneRecord, Restored, Sighting, SiteWanted, StableFile
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import Stage

PATIENCE = 3
"""So many times a file that does not decode, cannot be opened or is gone is looked at again before it is judged."""
HELD_SAID_S = 30.0
"""A file that somebody holds so long is said."""
HELD_AT_MOST_S = 15.0
"""A file that somebody holds is tried again ever less often, but settle_s and this later at most."""
METADATA_AT_MOST_S = 15.0
"""A metadata file that is appended to all the while is read this often, and not only when it rests."""
TRY_AGAIN_S = 60.0
TRY_AGAIN_AT_MOST_S = 3600.0
"""A refused file that may still grow is tried again even when nothing about it changed, ever less often."""


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
            dispatch_all=self._loading.dispatch_all,
            look_again=self._look_again,
            look_for=self._look_for,
            look_for_first=self._look_for_first,
        )
        self._closing = Closing(state, self._loading.dispatch_counted)
        self._settling = Settling(0.0 if finite else settings.watch.settle_s)
        self._backlog = None if finite else self._backlog_of(restored)
        self._ready: deque[tuple[FileEntry, StableFile]] = deque()
        self._finished_reads: deque[tuple[FileEntry, StableFile, Future[Answer]]] = deque()
        self._reading = 0
        self._unopened: set[Path] = set()  # metadata and bundles, which say what else there is
        self._now = 0.0
        self._stopping = False
        self._all_met = False  # every file that was there when this run began
        self.to_device: deque[ToDevice] = state.to_device
        self.to_publish: deque[ToPublish] = state.to_publish

    # ---- what others tell it

    def apply(self, settings: Settings) -> None:
        """Go on by these settings, which differ in live ones only."""
        self._settings = self._state.settings = settings
        self._cache.resize(settings.watch.cache_bytes)
        self._settling.settle_s = 0.0 if self._finite else settings.watch.settle_s

    def report(self, report: ScanReport, now: float) -> None:
        """Take what the scanner found."""
        self._now = now
        if self._instrument.look_ahead(self._state.relative(each.path) for each in report.sightings):
            self._read_names_anew(now)
        report = replace(report, sightings=tuple(filter(self._concerns_us, report.sightings)))
        for sighting in report.sightings if self._backlog is None else self._backlog.let_through(report):
            self._see(sighting, now)
        if report.finished and not self._all_met:
            self._all_met = True
            self._look_at_the_lonely()
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
        self._telemetry.stage_queue_items.labels(Stage.ASSEMBLE).set(self._loading.waiting)
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
        reading = self._instrument.read_name(self._root_name, self._state.relative(sighting.path))
        return reading.kind in {FileKind.PLANE, FileKind.BUNDLE}

    def _see(self, sighting: Sighting, now: float) -> None:
        file = self._state.files.get(sighting.path)
        if file is None:
            self._meet(sighting, now)
        elif file.sighting != sighting:
            if file.decided and file.plane is not None:
                self._log.info(Event.FILE_CHANGED, path=file.name)
            file.size_bytes, file.mtime_ns, file.tries = sighting.size_bytes, sighting.mtime_ns, 0
            file.held_s = None
            if file.plane is not None:
                self._state.plates[file.acquisition].undecided.pop(file.name, None)
            self._route(file, now)

    def _meet(self, sighting: Sighting, now: float) -> None:
        """A file seen for the first time: what its name says, and what an earlier run said."""
        self._telemetry.files_seen.inc()
        path = self._state.relative(sighting.path)
        self._enter(sighting, path, self._instrument.read_name(self._root_name, path), now)

    def _enter(self, sighting: Sighting, path: PurePosixPath, reading: Reading, now: float) -> None:
        address = reading.address
        file = FileEntry(
            path=sighting.path,
            name=str(path),
            kind=reading.kind,
            size_bytes=sighting.size_bytes,
            mtime_ns=sighting.mtime_ns,
            acquisition=address.acquisition if address else self._instrument.acquisition_of(self._root_name, path),
            problem=reading.problem,
            address=address,
            instrument=reading.instrument,
        )
        self._state.files[file.path] = file
        if address is not None:
            file.plane = address.plane
            plate = self._plate(file, now)
            file.channel = plate.expectation.names.name_of(address)
            plate.coverage.note(file.channel_name, file.plane.site.well)
        if not self._is_as_before(file):
            self._route(file, now)

    def _read_names_anew(self, now: float) -> None:
        """Names mean something else now that others are known: what was made of such a file counts no more."""
        changed = [file for file in self._state.files.values() if self._is_misread(file)]
        bundles = {file.path for file in changed}
        pages = [file for file in self._state.files.values() if split_page(file.path)[0] in bundles - {file.path}]
        for file in changed + pages:
            self._verdicts.disown(file)
        for file in changed:
            self._meet(file.sighting, now)

    def _is_misread(self, file: FileEntry) -> bool:
        if split_page(file.path)[1] is not None:
            return False  # a page is what its bundle says
        reading = self._instrument.read_name(self._root_name, PurePosixPath(file.name))
        return (reading.kind, reading.address) != (file.kind, file.address)

    def _is_as_before(self, file: FileEntry) -> bool:
        """Whether an earlier run decided this very file, so that nothing is left to do."""
        if file.kind not in {FileKind.PLANE, FileKind.UNKNOWN}:
            return False
        before = self._history.recall(file)
        if before is None:
            return False
        file.rejection, file.outcome = before.rejection, before.outcome
        file.decided = (before.size_bytes, before.mtime_ns) == (file.size_bytes, file.mtime_ns)
        self._verdicts.recall_pixels(file)
        return file.decided

    def _route(self, file: FileEntry, now: float) -> None:
        """A file is new or was changed: what is to be done with it."""
        match file.kind:
            case FileKind.NO_DATA:
                file.decided = True
                return
            case FileKind.METADATA | FileKind.BUNDLE:
                self._unopened.add(file.path)
            case FileKind.PLANE:
                plate = self._plate(file, now)
                if self._is_ignored(file):
                    self._verdicts.ignore(file)
                    return
                if self._is_nameless(plate, file):
                    self._wait_for_names(plate, file, now)
                    return
                if plate.outdated:
                    plate = self._redo(plate, now)
                self._state.reopen(plate)
        self._state.await_verdict(file)
        patience_s = METADATA_AT_MOST_S if file.kind is FileKind.METADATA else math.inf
        self._settling.see(file.sighting, now, at_most_s=patience_s)

    def _is_ignored(self, file: FileEntry) -> bool:
        return file.address is not None and self._state.plates[file.acquisition].expectation.names.is_ignored(
            file.address
        )

    def _wait_for_names(self, plate: PlateBook, file: FileEntry, now: float) -> None:
        if not plate.nameless:
            self._log.info(
                Event.PLATE_WAITING,
                plate=plate.acquisition.plate,
                acquisition=plate.acquisition.acquisition,
                detail=f"{file.name}: no metadata says yet which channel that is",
                hint="expect.channels means channels by name: the metadata must come too; ids need no waiting",
            )
        plate.nameless.setdefault(file.name, now)

    def _is_nameless(self, plate: PlateBook, file: FileEntry) -> bool:
        """Whether only metadata that is still to come can say of which channel a plane is."""
        return file.address is not None and file.channel is None and plate.expectation.names.may_be_named(file.address)

    def _plate(self, file: FileEntry, now: float) -> PlateBook:
        plate = self._state.plates.get(file.acquisition)
        if plate is None:
            folder = self._state.folder_of(file.name)
            expectation = Expectation(self._settings.expect, self._state.channels)
            plate = PlateBook(file.acquisition, folder, expectation, touched_s=now)
            self._state.plates[file.acquisition] = plate
            self._history.open(plate, self._state, now)
            self._log.info(Event.PLATE_OPENED, plate=plate.acquisition.plate, acquisition=plate.acquisition.acquisition)
        if not plate.instrument and file.kind is FileKind.PLANE and file.instrument:
            plate.instrument, plate.news_due = file.instrument, True
            self._log.info(
                Event.PLATE_RECOGNISED,
                plate=plate.acquisition.plate,
                acquisition=plate.acquisition.acquisition,
                instrument=file.instrument,
                why=why(self._instrument, PurePosixPath(file.name)),
            )
        return plate

    def _redo(self, plate: PlateBook, now: float) -> PlateBook:
        """A plate finished under other expectations grows: one plate, one model, so all of it is done again."""
        self._history.redo(plate)
        expectation = Expectation(self._settings.expect, self._state.channels)
        fresh = PlateBook(plate.acquisition, plate.folder, expectation, plate.instrument, touched_s=now)
        fresh.coverage = plate.coverage
        for name, manifest in plate.expectation.manifests.items():
            expectation.promise(name, manifest)
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
            return partial(read_metadata, self._instrument)
        path = PurePosixPath(file.name)
        if file.kind is FileKind.BUNDLE:
            return partial(open_bundle, self._instrument, self._root_name, path)
        if file.channel is not None and not file.problem:
            facts_of = partial(self._instrument.read_tags, path)
            record_of = partial(self._instrument.read_record, path)
            reading = partial(read_plane, facts_of=facts_of, record_of=record_of, address=file.address)
            return partial(_read_timed, self._telemetry, self._expected, reading)
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
            stale = file.kind is not FileKind.METADATA and _differ(file, stable)
            if self._state.files.get(file.path) is not file or stale:
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
            case Manifest() | Bundle():
                self._open(file, answer, now)
            case Refused(refusal, sha256):
                self._doubt(file, refusal, sha256, now)
            case NotYet():
                self._not_opened(file, answer, now)
            case Changed(sighting):
                self._see(sighting, now)
            case Gone():
                self._miss(file, now)
            case None if file.kind is FileKind.METADATA:
                self._metadata_read(file)
            case None:
                self._verdicts.refuse(file, self._by_name(file), None, now)

    def _not_opened(self, file: FileEntry, answer: NotYet, now: float) -> None:
        """One that somebody holds is waited for as long as a well is: nothing is wrong with it yet."""
        file.held_s = now if file.held_s is None else file.held_s
        waited_s = now - file.held_s
        if not answer.held or self._finite or waited_s >= self._settings.expect.well_timeout_s:
            self._doubt(file, refusals.not_openable(answer.detail), None, now)
            return
        if waited_s >= HELD_SAID_S and not file.held_said:
            file.held_said = True
            self._log.warning(
                Event.FILE_HELD,
                path=file.name,
                detail=answer.detail,
                waited_s=round(waited_s),
                hint="close it in the program that holds it, or let the daemon's user read it; it is tried again",
            )
        self._settling.see(file.sighting, now, extra_s=min(max(waited_s, 1.0), HELD_AT_MOST_S))

    def _doubt(self, file: FileEntry, refusal: Refusal, sha256: str | None, now: float) -> None:
        """A file that may still be arriving is looked at again some rounds before it is judged, and after that."""
        file.tries += 1
        if refusal.may_grow and not self._finite:
            if file.tries <= PATIENCE:
                self._settling.see(file.sighting, now, extra_s=self._settings.watch.settle_s * file.tries)
                return
            wait_s = min(TRY_AGAIN_S * 2.0 ** (file.tries - PATIENCE - 1), TRY_AGAIN_AT_MOST_S)
            self._settling.see(file.sighting, now, extra_s=wait_s)
        self._unopened.discard(file.path)
        self._verdicts.refuse(file, refusal, sha256, now)

    def _miss(self, file: FileEntry, now: float) -> None:
        """The file was renamed or taken away, or its share was: a scan between two looks reports what is back."""
        file.tries += 1
        if file.tries <= PATIENCE and not self._finite:
            self._settling.see(file.sighting, now, extra_s=self._settings.watch.rescan_s * file.tries)
            return
        self._unopened.discard(file.path)
        self._verdicts.forget(file)

    def _by_name(self, file: FileEntry) -> Refusal:
        """Why a file is refused that was not opened."""
        if file.plane is None:
            return refusals.unknown_name(file.problem)
        if file.channel is None:
            called = file.address.channel_name if file.address else ""
            return refusals.unknown_channel(file.plane.channel, self._settings.expect.channels, called)
        return refusals.one_of_a_series(file.problem)

    def _open(self, file: FileEntry, answer: Manifest | Bundle, now: float) -> None:
        if isinstance(answer, Manifest):
            self._promise(file, answer, now)
        else:
            self._unpack(file, answer, now)

    def _promise(self, file: FileEntry, manifest: Manifest, now: float) -> None:
        """The instrument's metadata came, or came again: wells may be decided by it."""
        plate = self._plate(file, now)
        renamed = plate.expectation.promise(file.name, manifest)
        plate.news_due = True
        if file.kind is FileKind.METADATA:
            if file.rejection is None and (before := self._history.recall(file)) is not None:
                file.rejection = before.rejection
            if (problem := plate.expectation.contradiction()) and manifest.says_how:
                plate.news_s = float("-inf")  # this is said at once
                self._unopened.discard(file.path)
                self._verdicts.refuse(file, refusals.contradiction(problem), None, now)
            else:
                self._metadata_read(file)
        if renamed:
            self._name_channels(plate, now)
        self._loading.dispatch_all(plate)

    def _name_channels(self, plate: PlateBook, now: float) -> None:
        """The metadata says what the channels are called: planes may be of another one than was known."""
        plate.nameless.clear()
        for file in [*self._state.files.values()]:
            if file.address is None or file.acquisition != plate.acquisition:
                continue
            name = plate.expectation.names.name_of(file.address)
            if name != file.channel or (name is None and not file.decided):
                self._verdicts.rename(file, name)
                self._route(file, now)

    def _unpack(self, file: FileEntry, bundle: Bundle, now: float) -> None:
        """A bundle was opened: each of its pages is a plane."""
        self._metadata_read(file)
        if bundle.manifest is not None:
            self._promise(file, bundle.manifest, now)
        for page, address in enumerate(bundle.pages):
            if address is None:
                continue
            path = with_page(file.path, page)
            sighting = Sighting(path, file.size_bytes, file.mtime_ns)
            if path in self._state.files:
                self._see(sighting, now)
            else:
                reading = Reading(FileKind.PLANE, address, instrument=file.instrument)
                self._enter(sighting, self._state.relative(path), reading, now)

    def _metadata_read(self, file: FileEntry) -> None:
        file.decided, file.tries = True, 0
        self._unopened.discard(file.path)
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

    def _look_for(self, plate: PlateBook, name: str) -> None:
        """Look at a file once more, also at one that this run has not met, which may be gone."""
        path = self._state.path_of(name)
        if path in self._state.files or split_page(path)[1] is not None:
            self._look_again(plate, name)
            return
        self._history.distrust(plate.acquisition, name)
        self._meet(Sighting(path, 0, 0), self._now)

    def _look_at_the_lonely(self) -> None:
        """Files that an earlier run refused for others' pixels, and those others are there no longer."""
        for plate in self._state.plates.values():
            for name in [] if plate.outdated else plate.lookalikes.lonely():
                self._look_again(plate, name)

    # ---- wells and plates

    def _review(self, now: float) -> bool:
        if self._finite and self._unopened:
            return False  # it says what to expect, and it is there
        over = self._closing.all_named and self.exhausted
        worked = False
        for plate in self._state.plates.values():
            worked |= self._give_up_names(plate, now, over=over)
            since = next(iter(plate.undecided.values()))[1] if plate.undecided else now
            if plate.undecided and (over or self._closing.waited(since, now)):
                worked |= self._verdicts.settle_shape(plate, now, last_chance=True)
        over = over and self.exhausted
        return self._closing.review(now, over=over) or worked

    def _give_up_names(self, plate: PlateBook, now: float, *, over: bool) -> bool:
        """Planes whose channel no metadata named in time are refused by their ids."""
        due = [name for name, since in plate.nameless.items() if over or self._closing.waited(since, now)]
        for name in due:
            del plate.nameless[name]
            file = self._state.files.get(self._state.path_of(name))
            if file is not None:
                self._state.await_verdict(file)
                self._settling.see(file.sighting, now)
        return bool(due)


def _differ(file: FileEntry, stable: StableFile) -> bool:
    return (file.size_bytes, file.mtime_ns) != (stable.size_bytes, stable.mtime_ns)


def _reading_order(file: FileEntry) -> tuple[bool, bool, tuple[str | int, ...]]:
    if file.plane is None:
        return (file.kind is not FileKind.METADATA, True, (file.name,))
    site, well = file.plane.site, file.plane.site.well
    acquisition, position = well.acquisition, well.position
    place = (position.row, position.column, well.time, site.site)
    return (True, False, (acquisition.plate, acquisition.acquisition, *place, file.plane.z, file.name))


def _read_timed(
    telemetry: Telemetry, expected: Expected, reading: Callable[[StableFile, Expected], Outcome], file: StableFile
) -> Outcome:
    with telemetry.timed(Stage.DECODE):
        return reading(file, expected)
