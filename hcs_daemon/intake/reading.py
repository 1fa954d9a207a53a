"""One file from disk to a measured plane: read once, hashed, decoded from memory. Runs in the reader pool."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hcs_daemon.intake.validation import Expected, Refusal, examine
from hcs_daemon.records import Pixels, PlaneMeasures, PlaneRecord, Sighting, StableFile
from hcs_daemon.tiff import MAX_PLANE_BYTES, TiffProblem, decode_plane
from hcs_daemon.vocabulary import Reason


@dataclass(frozen=True, slots=True)
class Decoded:
    """A good plane. pixels: (height, width), raw counts."""

    sha256: str
    pixels: Pixels
    measures: PlaneMeasures


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that must not be analysed. sha256 is None where it was not read."""

    refusal: Refusal
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """The file is not what it was when it settled."""

    sighting: Sighting


@dataclass(frozen=True, slots=True)
class NotYet:
    """The file is there and cannot be opened now: on Windows, because it is still being written."""

    detail: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The file is not there any more."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A good plane with the bytes of the first at its address. gone: the first is on the disk no more."""

    record: PlaneRecord
    first: str
    gone: bool


Outcome = Decoded | Refused | Changed | NotYet | Gone


def look(path: Path) -> Sighting:
    """One look at a file; at a link itself where it leads to nowhere. Raises OSError."""
    try:
        status = path.stat()
    except FileNotFoundError:
        status = path.lstat()
    return Sighting(path, status.st_size, status.st_mtime_ns)


def read_plane(file: StableFile, expected: Expected) -> Outcome:
    """Read, hash, decode and measure one file; every way it can go wrong is an answer."""
    data = _bytes_of(file)
    if not isinstance(data, bytes):
        return data
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        decoded = decode_plane(data)
    except TiffProblem as problem:
        return Refused(Refusal(problem.reason, problem.detail, problem.hint, may_grow=problem.may_grow), sha256)
    measures = examine(decoded.pixels, expected)
    if isinstance(measures, Refusal):
        return Refused(measures, sha256)
    return Decoded(sha256, decoded.pixels, measures)


def confirm(file: StableFile) -> Outcome | None:
    """Whether a file that will not be read is still there as it was; None when it is."""
    try:
        now = look(file.path)
    except FileNotFoundError:
        return Gone()
    except OSError as error:
        return NotYet(f"{type(error).__name__}: {error.strerror}")
    if (now.size_bytes, now.mtime_ns) != (file.size_bytes, file.mtime_ns):
        return Changed(now)
    return None


def look_for_first(record: PlaneRecord, twin: Path, name: str, first: Path) -> Twin:
    """Whether the first of two files with the same bytes is still there. name: the first's, below the watched folder.

    Where even the twin is not, the share is away and nothing is known.
    """
    try:
        first.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Twin(record, name, gone=twin.exists())
    except OSError:
        return Twin(record, name, gone=False)
    return Twin(record, name, gone=_is_respelled(first, twin))


def _is_respelled(first: Path, twin: Path) -> bool:
    """Whether it is one file, whose old name still finds it where capital letters do not matter."""
    try:
        return str(first).casefold() == str(twin).casefold() and first.samefile(twin)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Unread:
    """A plane that did not give the pixels it gave before, and in words why."""

    record: PlaneRecord
    problem: str


def reread(path: Path, record: PlaneRecord) -> Pixels | Unread:
    """The pixels of an accepted plane once more, from the file it came from."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Unread(record, f"{record.source.path} cannot be read again: {error.strerror}")
    if hashlib.sha256(data).hexdigest() != record.source.sha256:
        return Unread(record, f"{record.source.path} has changed since it was checked")
    try:
        return decode_plane(data).pixels
    except TiffProblem as problem:
        return Unread(record, f"{record.source.path}: {problem.detail}")


def reread_site(planes: Sequence[tuple[Path, PlaneRecord]], held: dict[int, Pixels]) -> Pixels | Unread:
    """A site's pixels, (channels, height, width): those held in memory by position, the rest from disk."""
    found: list[Pixels] = []
    for position, (path, record) in enumerate(planes):
        pixels = held[position] if position in held else reread(path, record)
        if isinstance(pixels, Unread):
            return pixels
        found.append(pixels)
    return stack(found)


def stack(planes: Sequence[Pixels]) -> Pixels:
    """(channels, height, width) of planes of one shape and type."""
    return np.stack(planes)  # type: ignore[return-value]  # numpy widens the type to generic


def _bytes_of(file: StableFile) -> bytes | Outcome:
    """The whole file, if it is still what settled, before and after reading."""
    kept_from = confirm(file) or _unfit(file)
    if kept_from is not None:
        return kept_from
    try:
        data = file.path.read_bytes()
    except FileNotFoundError:
        return Gone()
    except OSError as error:
        return NotYet(f"{type(error).__name__}: {error.strerror}")
    return confirm(file) or data


def _unfit(file: StableFile) -> Refused | None:
    """A file that must not even be opened."""
    if not file.path.is_file():
        return Refused(
            Refusal(
                Reason.NOT_AN_IMAGE,
                "is no regular file",
                "a folder, a link to nowhere or a device has an image's name; remove it",
            )
        )
    if file.size_bytes > 2 * MAX_PLANE_BYTES:
        return Refused(
            Refusal(
                Reason.TOO_LARGE, f"{file.size_bytes} bytes", "no single plane is that large; export one plane a file"
            )
        )
    return None
