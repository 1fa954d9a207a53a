"""At the very first start: plates that were finished long before are left alone, until something comes to them."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from hcs_daemon.intake.arrival import ScanReport
from hcs_daemon.records import Sighting
from hcs_daemon.telemetry import Event, get_log


class Backlog:
    """Holds everything until the folder was seen once, then what belongs to old plates. Owned by the intake thread.

    backlog_h: hours; a plate whose newest file is older is left alone. A time of zero says nothing of its age.
    """

    def __init__(self, backlog_h: float, now_utc: Callable[[], datetime]) -> None:
        self._backlog_h = backlog_h
        self._now_utc = now_utc
        self._held: list[Sighting] = []
        self._left_alone: dict[str, dict[Path, Sighting]] = {}
        self.holding = True

    def let_through(self, report: ScanReport, folder_of: Callable[[Path], str]) -> list[Sighting]:
        """The sightings to work on now. folder_of: a file's measurement folder."""
        if not self.holding:
            return [each for sighting in report.sightings for each in self._sort(sighting, folder_of)]
        self._held.extend(report.sightings)
        if not report.finished:
            return []
        self.holding = False
        held, self._held = self._held, []
        return self._without_old_plates(held, folder_of)

    def _sort(self, sighting: Sighting, folder_of: Callable[[Path], str]) -> list[Sighting]:
        left = self._left_alone.get(folder_of(sighting.path)) if self._left_alone else None
        if left is None:
            return [sighting]
        if left.get(sighting.path) == sighting:
            return []  # seen again as it was
        del self._left_alone[folder_of(sighting.path)]
        left[sighting.path] = sighting
        return list(left.values())

    def _without_old_plates(self, held: list[Sighting], folder_of: Callable[[Path], str]) -> list[Sighting]:
        plates: dict[str, dict[Path, Sighting]] = {}
        for sighting in held:
            plates.setdefault(folder_of(sighting.path), {})[sighting.path] = sighting
        limit_ns = (self._now_utc().timestamp() - self._backlog_h * 3600) * 1e9
        taken: list[Sighting] = []
        for folder, files in plates.items():
            if 0 < max(sighting.mtime_ns for sighting in files.values()) < limit_ns:
                self._left_alone[folder] = files
                get_log().info(
                    Event.PLATE_LEFT_ALONE,
                    folder=folder,
                    hint="untouched for longer than watch.backlog_h; `hcs-daemon process` takes it",
                )
            else:
                taken.extend(files.values())
        return taken
