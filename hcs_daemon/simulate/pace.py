"""How fast an instrument writes: files grow under their final names, several at a time. The sleep is handed in."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hcs_daemon.errors import FolderError, SettingsError

PLANES_PER_S = 5.0
"""The nominal pace, at speed 1: what a screening microscope writes with short exposures."""
_CHUNKS = 4
_OPEN_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class FileToWrite:
    """A file and where its bytes come from; `read` is called only when its turn comes.

    whole: written in one piece, over what is there, and never empty in between.
    """

    path: Path
    read: Callable[[], bytes]
    whole: bool = False


def check_speed(speed: float) -> None:
    """Raise SettingsError unless speed is 0 (no pause at all) or a positive factor."""
    if not 0 <= speed < float("inf"):
        raise SettingsError(
            f"speed {speed} is no factor", f"0 is as fast as possible, 1 is {PLANES_PER_S:g} planes a second"
        )


def write_files(files: Iterable[FileToWrite], *, speed: float, sleep: Callable[[float], None]) -> int:
    """Write files in their order and return how many.

    At speed 0 each is written at once. Otherwise up to three are open at a time and each grows in four pieces, a
    piece of one after a piece of another, so that `speed * PLANES_PER_S` files are finished a second.

    Raises FolderError when the destination cannot be written.
    """
    with writing():
        if speed == 0:
            return sum(1 for file in files if _write(file) >= 0)
        return _write_interleaved(iter(files), 1.0 / (speed * PLANES_PER_S * _CHUNKS), sleep)


@contextmanager
def writing() -> Iterator[None]:
    """Raise FolderError for what cannot be written within."""
    try:
        yield
    except OSError as error:
        raise FolderError(
            f"{error.filename or 'the destination'} cannot be written: {error.strerror}",
            "free space or choose another folder; then start again with a new one",
        ) from error


def _write_interleaved(files: Iterator[FileToWrite], pause_s: float, sleep: Callable[[float], None]) -> int:
    growing: deque[Iterator[None]] = deque()
    written = 0
    while True:
        if len(growing) < _OPEN_AT_ONCE:
            file = next(files, None)
            if file is not None:
                growing.append(_grow(file))
        if not growing:
            return written
        current = growing.popleft()
        if next(current, "finished") is None:
            growing.append(current)
            sleep(pause_s)
        else:
            written += 1


def _write(file: FileToWrite) -> int:
    if not file.whole:
        return file.path.write_bytes(file.read())
    with file.path.open("r+b" if file.path.exists() else "wb") as stream:
        size = stream.write(file.read())
        stream.truncate()
    return size


def _grow(file: FileToWrite) -> Iterator[None]:
    """Append a piece at each step. The file is closed in between, as a copy over a share would show it."""
    if file.whole:
        _write(file)
        yield
        return
    data = file.read()
    step = max(1, -(-len(data) // _CHUNKS))
    file.path.write_bytes(b"")
    for start in range(0, len(data), step):
        with file.path.open("ab") as stream:
            stream.write(data[start : start + step])
        yield
