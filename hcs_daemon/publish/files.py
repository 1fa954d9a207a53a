"""Files written whole or not at all, lines appended whole or not at all."""

import errno
import io
import os
import secrets
from contextlib import suppress
from pathlib import Path

_TEMPORARY = ".tmp"


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a crash, sees the old file or the new one and nothing between.

    A temporary file of a new name in the same folder, fsync, rename, fsync of the folder. Makes the folder. Raises
    OSError, and then leaves no temporary file where that can be helped.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 (the call that commits, under the name by which it is known)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def append_line(path: Path, line: bytes) -> None:
    """Append a line and fsync it. A torn line at the end is ended first, so that it spoils no other.

    line: without newline. Raises OSError, and then the file is as long as before where that can be helped.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:  # unbuffered: what was not written must not be written at close
        before = file.seek(0, os.SEEK_END)
        try:
            _write_all(file, (b"\n" if _is_torn(file, before) else b"") + line + b"\n")
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise
    if not before:
        _sync_folder(path.parent)


def _write_all(file: io.FileIO, data: bytes) -> None:
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file.name))


def _is_torn(file: io.FileIO, size_bytes: int) -> bool:
    if not size_bytes:
        return False
    file.seek(size_bytes - 1)
    return file.read(1) != b"\n"


def cut_file(path: Path, size_bytes: int) -> None:
    """Shorten a file to `size_bytes` and fsync it."""
    with path.open("r+b") as file:
        file.truncate(size_bytes)
        os.fsync(file.fileno())


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a crash left in `folder`; only for the holder of the results' lock."""
    for leftover in folder.glob(f".*{_TEMPORARY}"):
        with suppress(OSError):
            leftover.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename last. Windows cannot open a folder, and needs no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
