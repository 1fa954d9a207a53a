"""When a batch leaves: full, or when its oldest site has waited long enough."""

from collections import deque

from hcs_daemon.records import Site


class Batcher:
    """Sites that wait for the device. Owned by the device thread; `now` is monotonic seconds.

    max_wait_s: may change.
    """

    def __init__(self, batch_sites: int, max_wait_s: float) -> None:
        self._batch_sites = batch_sites
        self.max_wait_s = max_wait_s
        self._waiting: deque[tuple[float, Site]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether a whole batch waits."""
        return len(self._waiting) >= self._batch_sites

    def add(self, site: Site, now: float) -> None:
        """A site begins to wait."""
        self._waiting.append((now, site))

    def ready(self, now: float) -> list[Site]:
        """A batch if one is full or its oldest site is due, else nothing; sites leave in the order they came."""
        return self.flush() if self._waiting and (self.full or self.wait_s(now) <= 0) else []

    def flush(self) -> list[Site]:
        """What waits now, a batch at most."""
        return [self._waiting.popleft()[1] for _ in range(min(self._batch_sites, len(self._waiting)))]

    def wait_s(self, now: float) -> float:
        """Seconds until the oldest site is due; 0 at least. For ever where none waits."""
        return max(0.0, self._waiting[0][0] + self.max_wait_s - now) if self._waiting else float("inf")
