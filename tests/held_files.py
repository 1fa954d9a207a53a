"""Files that somebody has open, as Windows treats them: who asks for them is told of a sharing violation."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HELD = "The process cannot access the file because it is being used by another process"
"""Windows' words for its error 32, which Python gives the number EACCES."""


def held(path: Path | str) -> PermissionError:
    """What Windows answers."""
    return PermissionError(errno.EACCES, HELD, str(path))


@contextmanager
def unreadable(*paths: Path) -> Iterator[None]:
    """These files are still open in the program that writes them: they can be listed, and not opened."""
    read_bytes, open_ = Path.read_bytes, Path.open

    def refuse_read(self: Path) -> bytes:
        if self in paths:
            raise held(self)
        return read_bytes(self)

    def refuse_open(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self in paths:
            raise held(self)
        return open_(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse_read)
        patch.setattr(Path, "open", refuse_open)
        yield


@contextmanager
def open_in_a_viewer(*paths: Path) -> Iterator[None]:
    """These files are open in a program that shares them for reading only: they are not replaced, and not removed."""
    replace, unlink = os.replace, Path.unlink

    def refuse_replace(source: Any, target: Any, **kwargs: Any) -> None:
        if Path(target) in paths:
            raise held(target)
        replace(source, target, **kwargs)

    def refuse_unlink(self: Path, *, missing_ok: bool = False) -> None:
        if self in paths and self.exists():
            raise held(self)
        unlink(self, missing_ok=missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", refuse_replace)
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: refuse_unlink(self, missing_ok=missing_ok))
        yield
