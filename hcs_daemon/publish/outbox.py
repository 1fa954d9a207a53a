"""Writes that wait their turn, in order, for as long as the disk refuses them."""

import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path

from hcs_daemon.telemetry import Event, Telemetry, get_log

RETRY_S = 1.0
"""A disk that refused a write is asked again no sooner."""

Job = Callable[[float], None]
"""Called with monotonic seconds. May raise OSError; it is then called again later and goes on where it stopped."""


class Outbox:
    """Does jobs in order; one that the disk refuses stops those behind it. Owned by the publish thread.

    check: raises OSError when the folder must not be written into. blocked: why nothing can be written now, in words,
    or None.
    """

    def __init__(
        self, folder: Path, min_free_bytes: int, telemetry: Telemetry, check: Callable[[], None] = lambda: None
    ) -> None:
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._telemetry = telemetry
        self._check = check
        self._jobs: deque[Job] = deque()
        self._retry_s = float("-inf")
        self._look_s = float("-inf")
        self.blocked: str | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Put a job behind the others."""
        self._jobs.append(job)

    def ready(self, now_s: float) -> bool:
        """Whether the disk may be asked: it did not refuse, or long enough ago."""
        return self.blocked is None or now_s >= self._retry_s

    def flush(self, now_s: float) -> None:
        """Do what can be done."""
        if not self.ready(now_s):
            return
        try:
            self._look(now_s)
            while self._jobs:
                self._check()
                self._jobs[0](now_s)
                self._jobs.popleft()
        except OSError as error:
            self.fail(error, now_s)
        else:
            self._recover()

    def fail(self, error: OSError, now_s: float) -> None:
        """Note that the results folder cannot be used now."""
        self._retry_s = now_s + RETRY_S
        self._look_s = float("-inf")
        self._telemetry.results_write_failures.inc()
        if self.blocked is None:
            get_log().error(
                Event.RESULTS_UNAVAILABLE,
                folder=self._folder,
                detail=_words(error),
                hint="nothing is lost: make room, or make the folder writable again; it is tried every second",
            )
        self.blocked = f"the results folder {self._folder} takes nothing: {_words(error)}"

    def _recover(self) -> None:
        if self.blocked is not None:
            self.blocked = None
            get_log().info(Event.RESULTS_AVAILABLE, folder=self._folder)

    def _look(self, now_s: float) -> None:
        """Raise OSError when the folder is not the one, or less is free than is to be kept; looked at once a second."""
        if now_s < self._look_s:
            return
        self._check()
        free = shutil.disk_usage(self._folder).free
        self._telemetry.results_free_bytes.set(free)
        self._look_s = now_s + RETRY_S
        if free < self._min_free_bytes:
            raise OSError(None, f"{free} bytes are free, results.min_free_bytes keeps {self._min_free_bytes}")


def _words(error: OSError) -> str:
    """The error without its number."""
    return error.strerror or str(error)
