"""Writes that wait their turn, in order, for as long as the disk refuses them."""

import os
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path

from hcs_daemon.publish.files import HeldError, is_temporary
from hcs_daemon.telemetry import Event, Telemetry, get_log

RETRY_S = 1.0
"""A disk that refused a write is asked again no sooner."""

Job = Callable[[float], None]
"""Called with monotonic seconds. May raise OSError; it is then called again later and goes on where it stopped."""


class Outbox:
    """Does jobs in order; one that the disk refuses stops those behind it. Owned by the publish thread.

    A job that says what it is about, and finds a file of that held by somebody, stops only what is about the same.
    check: raises OSError when the folder must not be written into. blocked: why nothing can be written now, in words,
    or None.
    """

    def __init__(
        self, folder: Path, min_free_bytes: int, telemetry: Telemetry, check: Callable[[], None] = lambda: None
    ) -> None:
        self._folder = folder
        self.min_free_bytes = min_free_bytes
        self._telemetry = telemetry
        self._check = check
        self._jobs: deque[tuple[Job, Path | None]] = deque()
        self._held: deque[tuple[Job, Path | None]] = deque()
        self._held_retry_s = float("-inf")
        self._said: set[Path] = set()
        self._retry_s = float("-inf")
        self._look_s = float("-inf")
        self.blocked: str | None = None

    def __len__(self) -> int:
        return len(self._jobs) + len(self._held)

    def add(self, job: Job, about: Path | None = None) -> None:
        """Put a job behind the others. about: what it writes of, a folder for all that is below it."""
        self._jobs.append((job, about))

    def ready(self, now_s: float) -> bool:
        """Whether the disk may be asked: it did not refuse, or long enough ago."""
        return self.blocked is None or now_s >= self._retry_s

    def flush(self, now_s: float) -> None:
        """Do what can be done."""
        if not self.ready(now_s):
            return
        if now_s >= self._held_retry_s:
            self._jobs.extendleft(reversed(self._held))
            self._held.clear()
        try:
            self._look(now_s)
            while self._jobs:
                self._check()
                job, about = self._jobs[0]
                if self._waits_behind(about) or not self._done(job, about, now_s):
                    self._held.append((job, about))
                self._jobs.popleft()
        except OSError as error:
            self.fail(error, now_s)
        else:
            self._recover()

    def _waits_behind(self, about: Path | None) -> bool:
        """Whether something of what a job is about is held."""
        return about is not None and any(held is not None and held.is_relative_to(about) for _, held in self._held)

    def _done(self, job: Job, about: Path | None, now_s: float) -> bool:
        """Do a job; False when somebody holds its file, which is said once."""
        try:
            job(now_s)
        except HeldError as error:
            if about is None:
                raise
            self._held_retry_s = now_s + RETRY_S
            if about not in self._said:
                self._said.add(about)
                self._telemetry.results_write_failures.inc()
                get_log().warning(
                    Event.RESULT_HELD,
                    path=error.filename,
                    detail=_words(error),
                    hint="close it in the program that has it open; the others go on, and it is tried every second",
                )
            return False
        if about is not None:
            self._said.discard(about)
        return True

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
        self._telemetry.results_min_free_bytes.set(self.min_free_bytes)
        self._look_s = now_s + RETRY_S
        if free < self.min_free_bytes:
            raise OSError(None, f"{free} bytes are free, results.min_free_bytes keeps {self.min_free_bytes}")


def _words(error: OSError) -> str:
    """The error without its number, with its file; of a temporary one, another at each try, with its folder."""
    words = error.strerror or str(error)
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return words
    file = Path(os.fsdecode(error.filename))
    return f"{words}: {file.parent if is_temporary(file.name) else file}"
