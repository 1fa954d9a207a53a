"""Plates that were finished long before the very first start are left alone, until something comes to them."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from hcs_daemon.intake.arrival import ScanReport
from hcs_daemon.records import Sighting
from hcs_daemon.telemetry import Event, get_log


class Backlog:
    """Holds everything until the folder was seen once, then what belongs to old plates. Owned by the intake thread.

    before: UTC; a plate whose newest file is older is left alone. A file time of zero says nothing of its age.
    folder_of: a file's measurement folder. is_known: whether an earlier run took the file's plate, however old it is.
    """

    def __init__(self, before: datetime, folder_of: Callable[[Path], str], is_known: Callable[[Path], bool]) -> None:
        self._before_ns = before.timestamp() * 1e9
        self._folder_of = folder_of
        self._is_known = is_known
        self._held: list[Sighting] = []
        self._left_alone: dict[str, dict[Path, Sighting]] = {}
        self.holding = True

    def let_through(self, report: ScanReport) -> list[Sighting]:
        """The sightings to work on now."""
        if not self.holding:
            return [each for sighting in report.sightings for each in self._sort(sighting)]
        self._held.extend(report.sightings)
        if not report.finished:
            return []
        self.holding = False
        held, self._held = self._held, []
        return self._without_old_plates(held)

    def _sort(self, sighting: Sighting) -> list[Sighting]:
        folder = self._folder_of(sighting.path) if self._left_alone else ""
        left = self._left_alone.get(folder)
        if left is None:
            return [sighting]
        if left.get(sighting.path) == sighting:
            return []  # seen again as it was
        del self._left_alone[folder]
        left[sighting.path] = sighting
        return list(left.values())

    def _without_old_plates(self, held: list[Sighting]) -> list[Sighting]:
        plates: dict[str, dict[Path, Sighting]] = {}
        for sighting in held:
            plates.setdefault(self._folder_of(sighting.path), {})[sighting.path] = sighting
        taken: list[Sighting] = []
        for folder, files in plates.items():
            old = 0 < max(sighting.mtime_ns for sighting in files.values()) < self._before_ns
            if old and not self._is_known(next(iter(files))):
                self._left_alone[folder] = files
                get_log().info(
                    Event.PLATE_LEFT_ALONE,
                    folder=folder,
                    hint="untouched for longer than watch.backlog_h; `hcs-daemon process` takes it",
                )
            else:
                taken.extend(files.values())
        return taken
