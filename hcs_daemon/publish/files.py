"""Files written whole or not at all, lines appended whole or not at all."""

import errno
import io
import os
import secrets
from contextlib import suppress
from pathlib import Path

_TEMPORARY = ".tmp"


class HeldError(PermissionError):
    """A file cannot be replaced or removed, though its folder can be written: on Windows, somebody has it open."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a crash, sees the old file or the new one and nothing between.

    A temporary file of a new name in the same folder, fsync, rename, fsync of the folder. Makes the folder. Raises
    OSError, a HeldError where just this file is refused, and then leaves no temporary file where that can be helped.
    """
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")


def _replace(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)  # noqa: PTH105 (the call that commits, under the name by which it is known)
    except PermissionError as error:  # the folder took the temporary file
        raise HeldError(error.errno, error.strerror, str(path)) from error


def remove(path: Path) -> None:
    """Remove a file, if it is there. Raises OSError, a HeldError where just this file is refused."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError as error:
        probe = _temporary(path)
        probe.touch()  # raises where it is the folder that refuses
        probe.unlink()
        raise HeldError(error.errno, error.strerror, str(path)) from error


def is_temporary(name: str) -> bool:
    """Whether a file's name is that of a temporary file, and so another each time."""
    return name.endswith(_TEMPORARY)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each so that it outlasts a loss of power. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


class LineFile:
    """A file that grows by lines, each whole or not there. Owned by the publish thread.

    A file whose fsync failed once is not written to again: what it holds may differ from what the system says it
    holds. Its sound lines go into a new file, under a new name, that takes its place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sound_bytes: int | None = None  # of a file that is to be replaced; None: it may be appended to

    def append(self, line: bytes) -> None:
        """Append a line and fsync it. A torn line at the end is ended first, so that it spoils no other.

        line: without newline. Raises OSError; then nothing is appended.
        """
        if self._sound_bytes is None:
            self._append(line)
            return
        sound = self._path.read_bytes()[: self._sound_bytes] if self._path.exists() else b""
        write_atomic(self._path, sound + _end_of_torn(sound[-1:]) + line + b"\n")
        self._sound_bytes = None

    def _append(self, line: bytes) -> None:
        make_folder(self._path.parent)
        with self._path.open("a+b", buffering=0) as file:  # unbuffered: nothing is left to be written at close
            before = file.seek(0, os.SEEK_END)
            try:
                _write_all(file, _end_of_torn(_last_byte(file, before)) + line + b"\n")
            except OSError:
                self._take_back(file, before)
                raise
            try:
                os.fsync(file.fileno())
                if not before:
                    _sync_folder(self._path.parent)
            except OSError:
                self._sound_bytes = before
                raise

    def _take_back(self, file: io.FileIO, before: int) -> None:
        try:
            file.truncate(before)
        except OSError:
            self._sound_bytes = before


def _write_all(file: io.FileIO, data: bytes) -> None:
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file.name))


def _last_byte(file: io.FileIO, size_bytes: int) -> bytes:
    file.seek(max(0, size_bytes - 1))
    return file.read(1)


def _end_of_torn(last: bytes) -> bytes:
    """What ends a line that a crash left without its newline."""
    return b"" if last in {b"", b"\n"} else b"\n"


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
    """Make a rename last. Windows cannot open a folder, some network shares cannot sync one: they need no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise
    finally:
        os.close(descriptor)


_NO_SUCH_CALL = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS}
