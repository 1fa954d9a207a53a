"""What becomes of a file that was read: a plane in its well's book, or a line in `rejected.jsonl`."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from hcs_daemon.instruments.own_record import OwnRecord
from hcs_daemon.intake import refusals
from hcs_daemon.intake.assembly import PlaneKey, PlateBook, WellBook, key_of, site_key
from hcs_daemon.intake.cache import PixelCache
from hcs_daemon.intake.expectation import differs
from hcs_daemon.intake.history import History, outcome_of, say_contradicted
from hcs_daemon.intake.lookalikes import Bearer
from hcs_daemon.intake.reading import Decoded, Twin
from hcs_daemon.intake.record_check import constants_of
from hcs_daemon.intake.state import FileEntry, IntakeState
from hcs_daemon.intake.validation import Refusal
from hcs_daemon.plate import PROJECTION_Z
from hcs_daemon.records import ChannelFacts, Pixels, PlaneEvidence, PlaneRecord, Rejection, SourceFile, StableFile
from hcs_daemon.telemetry import Event, get_log
from hcs_daemon.vocabulary import PlaneOutcome, Reason

_SAYS_NOTHING_OF_ITS_PLANE = {Reason.DUPLICATE_PLANE, Reason.DUPLICATE_CHANNEL}
"""Refused for another file's sake: the plane itself may still be there, or come."""


class Verdicts:
    """Accepts and refuses. Owned by the intake thread.

    dispatch: told of a site that got a plane. dispatch_all: told of a plate whose pixel size is known now. look_again:
    told the name of a file whose verdict may be another now. look_for: likewise, and it may be gone. look_for_first:
    told of a file with the bytes of another at its address, and that one's name; answered by `pair`.
    """

    def __init__(
        self,
        state: IntakeState,
        cache: PixelCache,
        history: History,
        *,
        dispatch: Callable[[PlateBook, WellBook, int], None],
        dispatch_all: Callable[[PlateBook], None],
        look_again: Callable[[PlateBook, str], None],
        look_for: Callable[[PlateBook, str], None],
        look_for_first: Callable[[FileEntry, PlaneRecord, str], None],
    ) -> None:
        self._state = state
        self._cache = cache
        self._history = history
        self._dispatch = dispatch
        self._dispatch_all = dispatch_all
        self._look_again = look_again
        self._look_for = look_for
        self._look_for_first = look_for_first
        self._log = get_log()

    def accept(self, file: FileEntry, stable: StableFile, decoded: Decoded, now: float) -> None:
        """A good plane: into its well, as soon as the plate's shape is settled."""
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
            seen_at=self._state.now_utc(),
            conditions=decoded.record.conditions if decoded.record else None,
        )
        plate = self._state.plates[file.acquisition]
        if (doubt := self._doubt_of_scale(plate, record.channel, decoded.facts)) is not None:
            self.refuse(file, doubt, decoded.sha256, now)
            return
        if (doubt := self._against_the_plate(file, plate, decoded.record)) is not None:
            self.refuse(file, doubt, decoded.sha256, now)
            return
        self._keep(plate, record, decoded.pixels)
        if plate.shape is None:
            plate.undecided[file.name] = (record, now)
            self.settle_shape(plate, now, last_chance=False)
        else:
            self._place(file, plate, record, plate.shape, now)

    def _doubt_of_scale(self, plate: PlateBook, channel: str, facts: ChannelFacts | None) -> Refusal | None:
        """Learn how the channel was taken from the plane's own tags; a refusal where they contradict what is known."""
        if facts is None:
            return None
        known, said = plate.expectation.pixel_size_um(), facts.pixel_size_um
        if known and said and differs(said, known):
            return refusals.other_pixel_size(said, known)
        if facts.projection:
            plate.expectation.projected.setdefault(channel, facts.projection)
        if channel not in plate.expectation.taken:
            plate.expectation.taken[channel] = facts
            plate.news_due = True
            if known is None and said is not None:
                self._dispatch_all(plate)
        return None

    def _against_the_plate(self, file: FileEntry, plate: PlateBook, record: OwnRecord | None) -> Refusal | None:
        """Count what the plane's tags say alike with the plate's others; a refusal where most say otherwise."""
        ruling = plate.constants.note(file.name, constants_of(record, file.address))
        for name in ruling.look_again:
            self._look_again(plate, name)
        return ruling.refusal

    def _doubt_of_depth(self, plate: PlateBook, record: PlaneRecord) -> Refusal | None:
        """Count what the plane's pixels say of its channel's bit depth; a refusal while all together contradict it."""
        self._reconsider(plate, plate.note_depth(record))
        why, evidence = plate.depths.contradicted.get(record.channel), record.measures.evidence
        if why is None or evidence is None:
            return None
        return refusals.contradicted_channel(record.channel, plate.depths.declared, why, evidence)

    def _count_depth(self, file: FileEntry, evidence: PlaneEvidence | None) -> None:
        """Count what a refused plane's pixels say, if anything; what was counted of its file before counts no more."""
        if file.plane is None:
            return
        plate = self._state.plates[file.acquisition]
        if evidence is None or file.channel is None:
            self._reconsider(plate, plate.depths.forget(file.name))
        else:
            self._reconsider(plate, plate.depths.note(file.name, file.channel, evidence))

    def _reconsider(self, plate: PlateBook, channels: Iterable[str]) -> None:
        """The contradiction of these channels began or ended: each of the plate's wells is another now."""
        for channel in channels:
            why = plate.depths.contradicted.get(channel)
            if why is None:
                self._log.warning(
                    Event.CHANNEL_RECONSIDERED,
                    plate=plate.acquisition.plate,
                    acquisition=plate.acquisition.acquisition,
                    channel=channel,
                    hint="its planes contradict the bit depth no more; those refused for its sake are read again",
                )
            else:
                say_contradicted(plate, channel, why)
            plate.news_due = True
            if why is None:
                self._look_at(plate, self._refused_for_their_channel(plate, channel))
            self._dispatch_all(plate)

    def _refused_for_their_channel(self, plate: PlateBook, channel: str) -> list[str]:
        """The files of a channel of which nothing is proven; of those that were not met yet also accepted ones."""
        found = []
        for name in plate.depths.sound(channel):
            file = self._state.files.get(self._state.path_of(name))
            if file is None or (file.rejection is not None and file.rejection.reason is Reason.BIT_DEPTH):
                found.append(name)
        return found

    def _keep(self, plate: PlateBook, record: PlaneRecord, pixels: Pixels) -> None:
        """Hold the pixels of a plane that will be analysed, as one image a channel."""
        well = record.id.site.well
        steps = plate.expectation.required((well.position, well.time), record.id.site.site, record.channel)
        projection = plate.expectation.projection
        if record.id.z not in steps or (projection == "best_focus" and len(steps) > 1):
            return  # which step is sharpest is known when all are there; it is read again then
        fold = str(projection) if record.id.z != PROJECTION_Z else ""
        self._cache.put((record.id.site, record.channel), record.part, pixels, fold)

    def settle_shape(self, plate: PlateBook, now: float, *, last_chance: bool) -> bool:
        """Decide the plate's shape if enough planes agree, or whatever they say at the last chance."""
        shape = plate.vote(last_chance=last_chance)
        if shape is None:
            return False
        plate.shape, plate.news_due = shape, True
        held, plate.undecided = plate.undecided, {}
        for name, (record, _) in held.items():
            file = self._state.files[self._state.path_of(name)]
            self._place(file, plate, record, shape, now)
        return True

    def refuse(
        self, file: FileEntry, refusal: Refusal, sha256: str | None, now: float, *, pixel_digest: str | None = None
    ) -> None:
        """Reject a file: one line, one log line, one count; the plate goes on.

        The same file judged the same again has its line already, and is no news of its well. pixel_digest: where it is
        refused because another file has its pixels.
        """
        before = file.rejection
        same = before is not None and (before.reason, before.sha256) == (refusal.reason, sha256)
        if same and file.decided:
            return
        file.decided = True
        if pixel_digest is None:
            self._let_pixels_go(file)
        another_may_come = pixel_digest is None and refusal.reason in _SAYS_NOTHING_OF_ITS_PLANE
        self._take_back(file, refusal.reason, another_may_come=another_may_come)
        self._note_verdict(file, now)
        self._count_depth(file, refusal.evidence)
        rejection = Rejection(
            at=self._state.now_utc(),
            path=file.name,
            reason=refusal.reason,
            detail=refusal.detail,
            hint=refusal.hint,
            size_bytes=file.size_bytes,
            mtime_ns=file.mtime_ns,
            sha256=sha256,
            acquisition=file.acquisition if file.is_of_a_plate else None,
            plane=file.plane,
            channel=file.channel,
            pixel_digest=pixel_digest,
            evidence=refusal.evidence,
        )
        file.rejection = rejection
        if same:
            self._recount(file, outcome_of(refusal.reason))
            return
        self._state.to_publish.append(rejection)
        self._state.telemetry.rejections.labels(refusal.reason).inc()
        self._count(file, outcome_of(refusal.reason))
        self._log.warning(
            Event.PLANE_REJECTED,
            path=file.name,
            reason=refusal.reason,
            detail=refusal.detail,
            hint=refusal.hint,
            plate=file.acquisition.plate if file.plane is not None else None,
            well=file.plane.site.well.stem if file.plane is not None else None,
        )

    def ignore(self, file: FileEntry) -> None:
        """A plane of a channel that is not analysed; one that was refused under other settings is that no more."""
        self.withdraw(file, "the settings ignore its channel now")
        file.decided = True
        if file.outcome is not PlaneOutcome.IGNORED:
            self._count(file, PlaneOutcome.IGNORED)

    def disown(self, file: FileEntry) -> None:
        """The file is not what it was taken for: as if it had never been met."""
        self.rename(file, None)
        self.withdraw(file, "its name is read otherwise, now that the others beside it are known")
        self._recount(file, None)
        if file.plane is not None:
            plate = self._state.plates[file.acquisition]
            plate.coverage.drop(file.channel_name, file.plane.site.well)
            plate.undecided.pop(file.name, None)
            plate.nameless.pop(file.name, None)
        del self._state.files[file.path]

    def rename(self, file: FileEntry, name: str | None) -> None:
        """The plane is of another channel than was known: what was made of it under that name counts no more."""
        book, key = self._state.book_of(file), _key(file)
        self._let_pixels_go(file)
        self._count_depth(file, None)
        if book is not None and key is not None:
            self._state.settle_account(file)
            plate = self._state.plates[file.acquisition]
            self._remove(plate, book, key, file)
            book.rejected.pop(file.name, None)
            book.copies.pop(file.name, None)
            alike = (other.plane == file.plane for other in self._state.files.values() if other is not file)
            if not any(alike):
                plate.expectation.unname_plane(book.when, *key)
        before, file.channel = file.channel_name, name
        if file.plane is not None:
            coverage = self._state.plates[file.acquisition].coverage
            coverage.drop(before, file.plane.site.well)
            coverage.note(file.channel_name, file.plane.site.well)

    def withdraw(self, file: FileEntry, why: str) -> None:
        """Take the file's standing line back, if it has one."""
        before, file.rejection = file.rejection, None
        if before is None:
            return
        self._state.to_publish.append(
            replace(
                before,
                at=self._state.now_utc(),
                hint=why,
                size_bytes=file.size_bytes,
                mtime_ns=file.mtime_ns,
                withdrawn=True,
            )
        )
        self._log.info(Event.REJECTION_WITHDRAWN, path=file.name, reason=before.reason)

    def forget(self, file: FileEntry) -> None:
        """The file is gone. What was analysed of it stays; what was not will not be. Its line stands."""
        self._state.settle_account(file)
        del self._state.files[file.path]
        if file.plane is not None:
            self._forget_plane(file)
        self._history.keep_line(file)

    def _forget_plane(self, file: FileEntry) -> None:
        plate = self._state.plates[file.acquisition]
        plate.undecided.pop(file.name, None)
        book, key = self._state.book_of(file), _key(file)
        disputed = plate.lookalikes.is_disputed(file.name)
        if disputed or file.rejection is not None:
            self._let_pixels_go(file)
        if book is None or key is None or file.rejection is not None or plate.depths.contradicted:
            return
        images = plate.site_images(book, key[0])
        if images is None or disputed or book.dispatched.get(key[0]) != site_key(images):
            self._remove(plate, book, key, file)
            self._recount(file, None)

    def pair(self, file: FileEntry, twin: Twin, now: float) -> None:
        """A plane whose bytes are at its address already: a copy, or the first one itself under another name."""
        plate = self._state.plates[file.acquisition]
        if plate.shape is None:
            return  # all of the plate is done again since, and this file too
        book, key = plate.well(twin.record.id.site.well), key_of(twin.record)
        if not book.holds(key, twin.first):
            self._place(file, plate, twin.record, plate.shape, now)
        elif twin.gone:
            self._log.info(Event.FILE_CHANGED, path=file.name, detail=f"was {twin.first}")
            book.remove(key, twin.first)
            self._drop(plate, twin.first)
            if self._state.folder_of(twin.first) == plate.folder:
                plate.folder = self._state.folder_of(file.name)
            self._place(file, plate, twin.record, plate.shape, now)
        else:
            self._note_folder(plate, file)
            self.refuse(file, refusals.duplicate(twin.first), twin.record.source.sha256, now)

    def _drop(self, plate: PlateBook, name: str) -> None:
        """A file has another name now; should the old one come back, it is met anew."""
        file = self._state.files.pop(self._state.path_of(name), None)
        if file is None:
            self._history.forget(plate, name)
            return
        self._count_depth(file, None)
        self._state.settle_account(file)
        self._recount(file, None)

    def _place(
        self, file: FileEntry, plate: PlateBook, record: PlaneRecord, shape: tuple[int, int], now: float
    ) -> None:
        if record.shape != shape:
            self._cache.drop((record.id.site, record.channel), record.part)
            self.refuse(file, refusals.wrong_shape(record.shape, shape), record.source.sha256, now)
            return
        book = plate.well(record.id.site.well)
        if (other := self._other_channel(book, file)) is not None:
            self.refuse(file, refusals.two_channels(*other), record.source.sha256, now)
            return
        finding = plate.note_pixels(record)
        self._look_at(plate, finding.look_again)
        if finding.refusal is not None:
            self._cache.drop((record.id.site, record.channel), record.part)
            digest = record.measures.pixel_digest
            self.refuse(file, finding.refusal, record.source.sha256, now, pixel_digest=digest)
            return
        if (doubt := self._doubt_of_depth(plate, record)) is not None:
            self._cache.drop((record.id.site, record.channel), record.part)
            self.refuse(file, doubt, record.source.sha256, now)
            return
        twin = book.place(record)
        if twin is not None:
            self._look_for_first(file, record, twin)
            return
        self.withdraw(file, "the file is whole now and was accepted")
        file.decided, file.tries = True, 0
        self._note_folder(plate, file)
        self._count(file, PlaneOutcome.ACCEPTED)
        self._note_verdict(file, now)
        self._free_copies(plate, book)
        self._dispatch(plate, book, record.id.site.site)

    def recall_pixels(self, file: FileEntry) -> None:
        """An earlier run refused the file, which is there still, for its pixels, whatever they are by now."""
        digest = file.rejection.pixel_digest if file.rejection else None
        if file.plane is None or file.channel is None or digest is None:
            return
        plate = self._state.plates[file.acquisition]
        assert file.rejection is not None
        stamp = (file.rejection.size_bytes, file.rejection.mtime_ns)
        bearer = Bearer(file.plane, file.channel, stamp, refused=True)
        self._look_at(plate, plate.lookalikes.note(file.name, digest, bearer).look_again)

    def _let_pixels_go(self, file: FileEntry) -> None:
        if file.plane is not None:
            plate = self._state.plates[file.acquisition]
            self._look_at(plate, plate.lookalikes.drop(file.name))

    def _look_at(self, plate: PlateBook, names: Iterable[str]) -> None:
        for name in names:
            self._look_for(plate, name)

    def _other_channel(self, book: WellBook, file: FileEntry) -> tuple[str, str, str] | None:
        """A plane at this address whose name calls its channel otherwise: path, its channel's name, and this one's."""
        key = _key(file)
        record = book.planes.get(key) if key else None
        there = self._state.files.get(self._state.path_of(record.source.path)) if record else None
        if there is None or there is file or there.address is None or file.address is None:
            return None
        names = (there.address.channel_name, file.address.channel_name)
        return (there.name, *names) if all(names) and names[0] != names[1] else None

    def _note_folder(self, plate: PlateBook, file: FileEntry) -> None:
        """Say it, once a plate, when planes come from a second folder that claims to be it."""
        folder = self._state.folder_of(file.name)
        if folder == plate.folder or plate.ambiguous:
            return
        plate.ambiguous = True
        self._log.warning(
            Event.PLATE_AMBIGUOUS,
            plate=plate.acquisition.plate,
            acquisition=plate.acquisition.acquisition,
            folders=[plate.folder, folder],
            hint="both claim to be this plate and acquisition, and of two planes the later counts: rename one of them",
        )

    def _take_back(self, file: FileEntry, reason: Reason, *, another_may_come: bool) -> None:
        """A plane of a well will not come, or is there no more."""
        book, key = self._state.book_of(file), _key(file)
        if book is None or key is None:
            return
        plate = self._state.plates[file.acquisition]
        self._remove(plate, book, key, file)
        if another_may_come:
            book.rejected.pop(file.name, None)
        else:
            book.rejected[file.name] = key
        if reason is not Reason.DUPLICATE_PLANE:
            book.copies.pop(file.name, None)

    def _remove(self, plate: PlateBook, book: WellBook, key: PlaneKey, file: FileEntry) -> None:
        book.remove(key, file.name)
        self._free_copies(plate, book)

    def _free_copies(self, plate: PlateBook, book: WellBook) -> None:
        """A copy counts when its original does not any more."""
        for name in book.orphans():
            self._look_again(plate, name)

    def _note_verdict(self, file: FileEntry, now: float) -> None:
        """The file is decided: its well waits for it no longer."""
        self._state.settle_account(file)
        book = self._state.book_of(file)
        if book is None:
            return
        plate = self._state.plates[file.acquisition]
        plate.touched_s = now
        self._state.reopen(plate)
        book.note_verdict(self._state.now_utc(), file.complete_s or now, now)

    def _count(self, file: FileEntry, outcome: PlaneOutcome) -> None:
        if file.plane is None:
            return
        self._state.telemetry.planes.labels(outcome).inc()
        self._recount(file, outcome)

    def _recount(self, file: FileEntry, outcome: PlaneOutcome | None) -> None:
        """The plate's counts are of files as they stand, not of verdicts."""
        if file.plane is None:
            return
        plate = self._state.plates[file.acquisition]
        for which, change in ((file.outcome, -1), (outcome, 1)):
            if which is not None:
                plate.counts[which] += change
        file.outcome, plate.news_due = outcome, True


def _key(file: FileEntry) -> PlaneKey | None:
    if file.plane is None or file.channel is None:
        return None
    return (file.plane.site.site, file.channel, file.plane.z)
