"""Finished plates: whose command is to be run, and what came of it. plate.json holds both, so that a restart knows."""

from functools import partial
from queue import SimpleQueue

from hcs_daemon.plate import AcquisitionId
from hcs_daemon.publish.archive import Archive
from hcs_daemon.publish.gallery import Gallery
from hcs_daemon.publish.names import plate_folder
from hcs_daemon.publish.outbox import Outbox
from hcs_daemon.publish.plate_files import PlateFiles, status_of
from hcs_daemon.publish.schemas import PlateFile
from hcs_daemon.records import CommandEnded, FinishedPlate


class Telling:
    """Owned by the publish thread. finished: where plates are put; ended: where it is told what came of them."""

    def __init__(
        self,
        archive: Archive,
        plates: PlateFiles,
        gallery: Gallery,
        outbox: Outbox,
        *,
        finished: SimpleQueue[FinishedPlate],
        ended: SimpleQueue[CommandEnded],
    ) -> None:
        self._archive = archive
        self._plates = plates
        self._gallery = gallery
        self._outbox = outbox
        self._finished = finished
        self._ended = ended

    @property
    def idle(self) -> bool:
        """Whether all that was told is on its way to the disk."""
        return self._ended.empty()

    def recall(self) -> None:
        """Ask for the commands that an earlier run owes."""
        for plate in self._archive.untold:
            self._ask(plate)
        self._archive.untold.clear()

    def step(self) -> None:
        """Ask for the command of every plate that is finished with its pictures, write what came of others."""
        for desk in self._archive.desks.values():
            plate = desk.written
            if plate is None or plate.on_plate_finished is None or plate.on_plate_finished.result != "waiting":
                continue
            as_of = (plate.finished_at, plate.revisions)
            if as_of != desk.called and not self._gallery.holds(desk.acquisition):
                desk.called = as_of
                self._ask(plate)
        while not self._ended.empty():
            ended = self._ended.get()
            self._outbox.add(partial(self._note, ended), ended.plate.folder)

    def _ask(self, plate: PlateFile) -> None:
        assert plate.finished_at is not None
        acquisition = AcquisitionId(plate.plate, plate.acquisition)
        folder = plate_folder(self._archive.results, acquisition)
        told = FinishedPlate(acquisition, folder, plate.finished_at, plate.revisions, status_of(plate))
        self._finished.put(told)

    def _note(self, ended: CommandEnded, _now_s: float) -> None:
        self._plates.note(self._archive.desk(ended.plate.acquisition), ended)
