"""Processes that make sites side by side."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

FEW_SITES = 24
"""So many are made before the processes would have started."""


@contextmanager
def workers(sites: int) -> Iterator[Executor | None]:
    """An executor for so many sites, a process a core; None where one process is as fast."""
    cores = os.cpu_count() or 1
    if sites <= FEW_SITES or cores == 1:
        yield None
        return
    # spawned, not forked: whoever asks may have threads. Ctrl+C is for the parent, which then ends them
    with ProcessPoolExecutor(
        min(cores, 61),  # the most that Windows takes
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
