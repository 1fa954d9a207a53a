"""What an earlier run left: believed for every file that is as it was then, forgotten for every other."""

from dataclasses import dataclass, replace

from hcs_daemon.intake.assembly import PlateBook, restore_rejection, restore_well
from hcs_daemon.intake.state import FileEntry, IntakeState
from hcs_daemon.plate import AcquisitionId
from hcs_daemon.records import Rejection, Restored, RestoredPlate, RestoredWell
from hcs_daemon.telemetry import Event, get_log
from hcs_daemon.vocabulary import PlaneOutcome, PlateState, Reason, WellStatus

_NEVER = -1
"""The size of no file: one that is remembered with it is read again."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A file as an earlier run decided it.

    rejection: its standing line, None where it was accepted. outcome: as it is counted already, None where not.
    """

    size_bytes: int
    mtime_ns: int
    rejection: Rejection | None
    outcome: PlaneOutcome | None = None


class History:
    """The plates and files of an earlier run that were not seen again yet. Owned by the intake thread.

    finite: somebody asked for just these plates, so that also a finished one is done again when it is outdated.
    """

    def __init__(self, restored: Restored, *, finite: bool) -> None:
        self._finite = finite
        self._plates = {plate.acquisition: plate for plate in restored.plates}
        self._files: dict[AcquisitionId, dict[str, Remembered]] = {}
        self._loose = {
            rejection.path: Remembered(rejection.size_bytes, rejection.mtime_ns, rejection)
            for rejection in restored.rejections
        }
        self._log = get_log()

    def open(self, plate: PlateBook, state: IntakeState, now: float) -> None:
        """A plate is met: take over what was done, or, if it was under other expectations, only its rejections."""
        restored = self._plates.pop(plate.acquisition, None)
        if restored is None:
            return
        for rejection in restored.rejections:
            self._remember(plate.acquisition, rejection)
        if restored.outdated and (self._finite or restored.state is PlateState.ACQUIRING):
            self.start_over(plate.acquisition)
            self._say_redone(
                plate, "model or expectations are not the earlier run's; its wells are done again, as new revisions"
            )
            return
        plate.state, plate.shape, plate.outdated = restored.state, restored.shape, restored.outdated
        plate.expectation.remembered_um = restored.pixel_size_um
        self._take_over(plate, restored, state, now)

    def recall(self, file: FileEntry) -> Remembered | None:
        """What an earlier run decided about a file that is met now."""
        if file.is_of_a_plate:
            return self._files.get(file.acquisition, {}).pop(file.name, None)
        return self._loose.pop(file.name, None)

    def keep_line(self, file: FileEntry) -> None:
        """A refused file is gone: should it be back, it is read again, and its standing line is known."""
        if file.rejection is None:
            return
        files = self._files.setdefault(file.acquisition, {}) if file.is_of_a_plate else self._loose
        files[file.name] = Remembered(_NEVER, file.mtime_ns, file.rejection, file.outcome)

    def distrust(self, acquisition: AcquisitionId, name: str) -> None:
        """Have a file read again when it is met; what is said of it stands until then."""
        files = self._files.get(acquisition, {})
        if name in files:
            files[name] = replace(files[name], size_bytes=_NEVER)

    def forget(self, plate: PlateBook, name: str) -> None:
        """A file that was accepted is there no more, and another took its place."""
        before = self._files.get(plate.acquisition, {}).pop(name, None)
        if before is not None and before.outcome is not None:
            plate.counts[before.outcome] -= 1

    def start_over(self, acquisition: AcquisitionId) -> None:
        """Have all files of a plate read again when they are met, and counted anew."""
        files = self._files.get(acquisition, {})
        for name, before in files.items():
            files[name] = replace(before, size_bytes=_NEVER, outcome=None)

    def redo(self, plate: PlateBook) -> None:
        """A plate finished under other expectations grows: one plate, one model, so all of it is done again."""
        self.start_over(plate.acquisition)
        self._say_redone(plate, "a plane came to a plate that was finished under another model or other expectations")

    def _remember(self, acquisition: AcquisitionId, rejection: Rejection) -> None:
        # what could not be opened then may be now, with nothing about it changed
        size = _NEVER if rejection.reason is Reason.UNREADABLE else rejection.size_bytes
        outcome = outcome_of(rejection.reason)
        remembered = Remembered(size, rejection.mtime_ns, rejection, outcome)
        self._files.setdefault(acquisition, {})[rejection.path] = remembered

    def _take_over(self, plate: PlateBook, restored: RestoredPlate, state: IntakeState, now: float) -> None:
        rejected = {rejection.path for rejection in restored.rejections}
        for well in restored.wells:
            _restore(plate, well, state, now)
            for source in (use.plane.source for use in well.inputs):
                if source.path not in rejected:
                    plate.counts[PlaneOutcome.ACCEPTED] += 1
                    remembered = Remembered(source.size_bytes, source.mtime_ns, None, PlaneOutcome.ACCEPTED)
                    self._files.setdefault(plate.acquisition, {})[source.path] = remembered
        for rejection in restored.rejections:
            plate.counts[outcome_of(rejection.reason)] += 1
            touched = restore_rejection(plate, rejection)
            if touched is not None:  # its result, if there is one, was written before
                touched.note_verdict(touched.last_plane_at or rejection.at, now, now)
                state.touch(touched)
        for channel, why in plate.depths.contradicted.items():
            say_contradicted(plate, channel, why)
        for book in plate.wells.values():
            for path in book.orphans():
                self.distrust(plate.acquisition, path)
            if plate.depths.contradicted and book.published is not None:
                state.touch(book)  # that run was stopped before it revised the well

    def _say_redone(self, plate: PlateBook, hint: str) -> None:
        self._log.warning(
            Event.PLATE_REDONE,
            plate=plate.acquisition.plate,
            acquisition=plate.acquisition.acquisition,
            hint=hint,
        )


def _restore(plate: PlateBook, well: RestoredWell, state: IntakeState, now: float) -> None:
    """Fill a well's book; one that is not all done is looked at once more, as far as its planes go or publish does."""
    book = restore_well(plate, well)
    book.touched_s = book.last_plane_s = now
    if well.status is WellStatus.COMPLETE:
        plate.expectation.learned_sites = max(plate.expectation.learned_sites, len(well.predicted))
    if book.published is None:
        state.touch(book)


def outcome_of(reason: Reason) -> PlaneOutcome:
    """How a refused plane is counted."""
    return PlaneOutcome.DUPLICATE if reason is Reason.DUPLICATE_PLANE else PlaneOutcome.REJECTED


def say_contradicted(plate: PlateBook, channel: str, why: str) -> None:
    """The log line on a channel whose planes contradict the declared bit depth."""
    get_log().warning(
        Event.CHANNEL_CONTRADICTED,
        plate=plate.acquisition.plate,
        acquisition=plate.acquisition.acquisition,
        channel=channel,
        declared_bits=plate.depths.declared,
        detail=why,
        hint="its planes are refused and the plate's wells revised without a prediction: correct expect.bit_depth and"
        " restart, or export the raw images again",
    )
