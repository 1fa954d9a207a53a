"""One daemon a results folder."""

import os
import re
import socket
import sys
from contextlib import suppress
from pathlib import Path

import filelock

from hcs_daemon.errors import FolderError, ResultsHeldError
from hcs_daemon.publish.names import LOCK_NAME

PID_NAME = ".hcs-daemon.pid"
"""Beside the lock, because taking a lock empties the lock's own file, whoever then gets it."""


class ResultsLock:
    """Holds the results folder for this process; the operating system lets go of it when the process dies."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._lock = filelock.FileLock(str(results / LOCK_NAME), thread_local=False)
        self._pid = results / PID_NAME
        self._said = f"process {os.getpid()} on {socket.gethostname()}"
        self._taken: tuple[int, int] | None = None

    def acquire(self) -> None:
        """Take it. Raises ResultsHeldError naming the process that has it, or FolderError."""
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise ResultsHeldError(
                f"another daemon ({self._holder()}) writes into {self._results}",
                "stop it, or give this one a results folder of its own",
            ) from error
        except (OSError, NotImplementedError) as error:
            raise FolderError(
                f"results.directory {self._results} cannot be locked: {error}",
                "give the daemon's user the right to write there; a share must support file locks",
            ) from error
        with suppress(OSError):  # the number is a courtesy; the lock is what counts
            self._pid.write_text(self._said, encoding="utf-8")
        with suppress(OSError):
            self._taken = self._identity()

    def check(self) -> None:
        """Raise OSError when the folder is another one than was taken: its share went, and an empty folder is there.

        A share that is mounted anew may number its files anew; what this process wrote into it is there, though.
        """
        with suppress(OSError):
            if self._taken is None or self._identity() == self._taken or self._pid.read_text("utf-8") == self._said:
                return
        raise OSError(None, "it is not the folder that was opened at the start; is its share mounted?")

    def release(self) -> None:
        """Let go. Can be called twice."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._pid.unlink(missing_ok=True)
            self._lock.release()

    def holder(self) -> str | None:
        """The process that has it, by what it wrote beside the lock; None where there is none, or it lives no more.

        The lock is not tried: a daemon that starts just then must not find it taken.
        """
        with suppress(OSError, UnicodeError):
            said = self._pid.read_text(encoding="utf-8").strip()
            return said if _lives(said) else None
        return None

    def _identity(self) -> tuple[int, int]:
        found = Path(self._lock.lock_file).stat()
        return found.st_dev, found.st_ino

    def _holder(self) -> str:
        with suppress(OSError):
            return self._pid.read_text(encoding="utf-8").strip() or "unknown process"
        return "unknown process"


def _lives(said: str) -> bool:
    """Whether a process that said so of itself is there; one of another computer is taken to be."""
    match = re.fullmatch(r"process (\d+) on (.+)", said)
    if match is None:
        return False
    if sys.platform == "win32" or match[2] != socket.gethostname():
        return True
    try:
        os.kill(int(match[1]), 0)  # asks, and sends nothing
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
