"""The results folder as it is found, and the plates that are being worked on."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from hcs_daemon.config import Settings
from hcs_daemon.plate import AcquisitionId, WellId
from hcs_daemon.publish.desk import Desk
from hcs_daemon.publish.documents import contrast_of, fingerprint, predictions, says
from hcs_daemon.publish.files import LineFile, remove_leftovers
from hcs_daemon.publish.gallery import Gallery
from hcs_daemon.publish.layouts import Layouts
from hcs_daemon.publish.ledger import Ledger
from hcs_daemon.publish.names import LEDGER_NAME, QUALITY_NAME, REJECTED_NAME, plate_folder
from hcs_daemon.publish.outbox import Outbox
from hcs_daemon.publish.restore import (
    PlateFolder,
    is_outdated,
    plate_folders,
    read_plate_folder,
    read_rejections,
    restored_plate,
    standing,
)
from hcs_daemon.publish.schemas import PlateFile, WellResult
from hcs_daemon.publish.writing import set_aside
from hcs_daemon.records import ModelFacts, PlateNews, Rejection, Restored, RestoredPlate
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import PlateState


class Archive:
    """What is on the disk, and a desk for every plate under way. Owned by the publish thread.

    results: the folder. ledger: there once it was read. desks: plates that are worked on; a finished one is put away
    and read again when something new comes of it. untold: finished plates whose command an earlier run did not bring to
    a good end. loose: the newest line of every rejected file that belongs to no plate.
    """

    def __init__(
        self,
        settings: Settings,
        facts: ModelFacts,
        telemetry: Telemetry,
        outbox: Outbox,
        gallery: Gallery,
        *,
        layouts: Layouts,
        now_utc: Callable[[], datetime],
    ) -> None:
        self.results = settings.results.directory
        self._fingerprint = fingerprint(settings, facts)
        self._model_sha256 = facts.sha256
        self._telemetry = telemetry
        self._outbox = outbox
        self._gallery = gallery
        self._layouts = layouts
        self._now_utc = now_utc
        self._log = get_log()
        self.ledger: Ledger
        self.desks: dict[AcquisitionId, Desk] = {}
        self._settled: dict[AcquisitionId, PlateFile] = {}
        self.untold: list[PlateFile] = []
        self.loose: dict[str, Rejection] = {}
        self.loose_file = LineFile(self.results / REJECTED_NAME)

    def read(self) -> Restored:
        """Everything that an earlier run left; plates that are acquiring get their desks. Raises OSError.

        Lines that a crash kept from the ledger go into the outbox; a damaged result is moved into `revisions/`.
        """
        first_start = not (self.results / LEDGER_NAME).exists()
        remove_leftovers(self.results)
        self.ledger = Ledger(self.results)
        self.loose = read_rejections(self.results / REJECTED_NAME)
        plates = tuple(self._read_plates())
        self._say_ledger()
        return Restored(
            plates=plates,
            rejections=standing(self.loose),
            first_start=first_start and not plates and not self.loose,
            first_started_at=self._first_trace(plates),
        )

    def desk(self, acquisition: AcquisitionId) -> Desk:
        """The plate's desk; of a plate that was put away, from what is on the disk. Raises OSError."""
        desk = self.desks.get(acquisition)
        if desk is None:
            folder = plate_folder(self.results, acquisition)
            read = self._read_folder(folder) if folder.is_dir() else None
            desk = self._furnish(read) if read is not None else Desk(acquisition, folder, self._fingerprint)
            # what is damaged at the start intake never hears of, and does again by itself
            desk.damaged = frozenset(path for path, _ in read.damaged) if read is not None else frozenset()
            self.desks[acquisition] = desk
            self._settled.pop(acquisition, None)
        return desk

    def is_old(self, news: PlateNews) -> bool:
        """Whether this was said already of a plate that is finished and put away."""
        plate = self._settled.get(news.acquisition)
        if plate is None or not says(plate, news):
            return False
        return plate.settings_fingerprint != self._fingerprint or self._layouts.is_current(plate, news.layout)

    def put_away(self) -> None:
        """Let go of plates that are finished and written."""
        for acquisition, desk in list(self.desks.items()):
            finished = desk.written is not None and desk.written.state is PlateState.FINISHED
            done = desk.frozen or (finished and not (desk.stale or desk.refreshing))
            if done and not desk.expecting and not self._gallery.holds(acquisition):
                del self.desks[acquisition]
                self._gallery.close(acquisition)
                if desk.written is not None:
                    self._settled[acquisition] = desk.written

    def _first_trace(self, plates: Sequence[RestoredPlate]) -> datetime | None:
        """The ledger outlives a plate's folder that was moved away to have the plate done again."""
        moments = [rejection.at for rejection in self.loose.values()]
        for plate in plates:
            moments += [rejection.at for rejection in plate.rejections]
            moments += [well.first_plane_at for well in plate.wells]
        if self.ledger.chain.began is not None:
            moments.append(self.ledger.chain.began)
        return min(moments, default=None)

    def _read_plates(self) -> Iterator[RestoredPlate]:
        for folder in plate_folders(self.results):
            read = self._read_folder(folder)
            if read is None:
                continue
            plate = restored_plate(read, self._fingerprint)
            if read.plate is not None and _owes_command(read.plate):
                self.untold.append(read.plate)
            if plate.state is PlateState.ACQUIRING:
                self.desks[plate.acquisition] = self._furnish(read)
            elif read.plate is not None and self._is_settled(read):
                self._settled[plate.acquisition] = read.plate
            yield plate

    def _is_settled(self, read: PlateFolder) -> bool:
        """Whether a finished plate's tables, pages, pictures and layout are those of now, or its settings are not."""
        if is_outdated(read, self._fingerprint):
            return True
        made_now = self._made_now(read)
        current = read.plate is not None and read.plate.revisions == sum(found.revision for found in made_now.values())
        current = current and read.plate is not None and self._layouts.is_current(read.plate, None)
        current = current and (read.folder / QUALITY_NAME).exists()
        pictures = self._gallery.has_plate_picture(read.folder) and not self._gallery.missing(read.folder, made_now)
        return current and pictures

    def _made_now(self, read: PlateFolder) -> dict[WellId, WellResult]:
        return {well: result for well, result in read.wells.items() if result.settings_fingerprint == self._fingerprint}

    def _read_folder(self, folder: Path) -> PlateFolder | None:
        for place in (folder, folder / "wells", folder / "explanations", folder / "revisions"):
            remove_leftovers(place)
        read = read_plate_folder(self.results, folder, self.ledger)
        if read is not None:
            for path, problem in read.damaged:
                set_aside(path, problem)
            for name, revision, sha256 in read.unlisted:
                self._outbox.add(partial(self._list_late, name, revision, sha256))
        return read

    def _furnish(self, read: PlateFolder) -> Desk:
        desk = Desk(
            read.acquisition,
            read.folder,
            self._fingerprint,
            results=read.wells,
            rejections=read.rejections,
            opened_at=read.plate.opened_at if read.plate else None,
            written=read.plate,
        )
        for result in (read.wells | read.earlier).values():
            if result.model.sha256 == self._model_sha256:
                desk.predictions.update(predictions(result))
        desk.pictures_missing = self._gallery.missing(read.folder, self._made_now(read))
        if read.plate and not is_outdated(read, self._fingerprint):
            self._gallery.adopt(read.acquisition, contrast_of(read.plate))
        return desk

    def _list_late(self, path: str, revision: int, sha256: str, _now_s: float) -> None:
        self.ledger.append(path, revision, sha256, self._now_utc())
        self._telemetry.ledger_entries.inc()
        self._log.warning(Event.LEDGER_REPAIRED, path=path, revision=revision, detail="its line was missing")

    def _say_ledger(self) -> None:
        broken = self.ledger.chain.broken
        self._telemetry.ledger_broken.set(0 if broken is None else 1)
        if broken is not None:
            self._log.error(
                Event.LEDGER_BROKEN,
                detail=broken,
                hint="somebody changed it; it is kept as it is and goes on after its last line",
            )
        if self.ledger.repaired is not None:
            self._log.warning(Event.LEDGER_REPAIRED, detail=self.ledger.repaired)


def _owes_command(plate: PlateFile) -> bool:
    told = plate.on_plate_finished
    return plate.finished_at is not None and told is not None and told.result != "succeeded"
