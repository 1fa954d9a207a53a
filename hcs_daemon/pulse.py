"""Tells a thread that works for long from one that hangs: of the two only the first uses the processor."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

WORK_S = 1.0
"""Seconds of processor time that count as work; one that only waits and looks uses less in an hour."""


class Pulse:
    """Of the thread that makes it, unless told otherwise. Owned by whoever looks.

    processor_s: tells how many seconds of processor time the thread has used. Where the system does not tell (Windows),
    no work is ever seen.
    """

    def __init__(self, now: float, processor_s: Callable[[], float] | None = None) -> None:
        self._processor_s = processor_s or own_processor()
        self._used_s = self._processor_s()
        self._worked = now

    def still_s(self, now: float) -> float:
        """Seconds since a look last saw that the thread had worked; now: monotonic seconds."""
        with suppress(OSError):  # a thread that has ended tells no more
            used_s = self._processor_s()
            if used_s - self._used_s >= WORK_S:
                self._used_s, self._worked = used_s, now
        return now - self._worked


def own_processor() -> Callable[[], float]:
    """What tells, from any thread, the seconds of processor time that this one has used; always 0 where it cannot."""
    if sys.platform == "win32" or not hasattr(time, "pthread_getcpuclockid"):
        return lambda: 0.0
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)
