"""When a file is complete: unchanged for `settle_s` by the monotonic clock, whatever its own time says."""

import heapq
import itertools
import math
from pathlib import Path

from hcs_daemon.records import Sighting, StableFile


class Settling:
    """Decides when a sighted file is complete. Owned by the intake thread.

    The reader looks once more when it opens the file: one that has changed since comes back here. settle_s: may be
    changed; what waits already keeps to the one before.
    """

    def __init__(self, settle_s: float) -> None:
        self.settle_s = settle_s
        self._waiting: dict[Path, Sighting] = {}
        self._since: dict[Path, float] = {}
        self._due: list[tuple[float, int, Sighting]] = []
        self._looks = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def due_s(self) -> float:
        """Monotonic seconds at which the next file may be ready; infinite when none waits."""
        return self._due[0][0] if self._due else float("inf")

    def see(self, sighting: Sighting, now: float, extra_s: float = 0.0, at_most_s: float = math.inf) -> None:
        """Note one look at a file; a changed size or time starts its wait again.

        extra_s: seconds to wait longer. at_most_s: seconds after which a file that never rests is ready all the same.
        """
        if self._waiting.get(sighting.path) == sighting:
            return
        self._waiting[sighting.path] = sighting
        since = self._since.setdefault(sighting.path, now)
        due_s = min(now + self.settle_s + extra_s, since + at_most_s)
        heapq.heappush(self._due, (due_s, next(self._looks), sighting))

    def ready(self, now: float) -> list[StableFile]:
        """Files unchanged for `settle_s`, oldest first. Each is returned once."""
        stable = []
        while self._due and self._due[0][0] <= now:
            _, _, sighting = heapq.heappop(self._due)
            if self._waiting.get(sighting.path) is sighting:  # else it changed meanwhile and waits anew
                del self._waiting[sighting.path], self._since[sighting.path]
                stable.append(StableFile(sighting.path, sighting.size_bytes, sighting.mtime_ns))
        return stable
