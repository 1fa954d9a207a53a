"""One file from disk to a measured plane: read once, hashed, decoded from memory. Runs in the reader pool."""

import errno
import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hcs_daemon.instruments.manifest import FlatField
from hcs_daemon.instruments.naming import PlaneAddress
from hcs_daemon.instruments.own_record import OwnRecord
from hcs_daemon.intake.projection import Fold
from hcs_daemon.intake.record_check import contradiction
from hcs_daemon.intake.validation import Expected, Refusal, examine
from hcs_daemon.plate import split_page
from hcs_daemon.records import (
    ChannelFacts,
    ChannelImage,
    Pixels,
    PlaneMeasures,
    PlaneRecord,
    Sighting,
    StableFile,
    StepRecord,
)
from hcs_daemon.steps import digest_of, measure
from hcs_daemon.tiff import MAX_PLANE_BYTES, DecodedTiff, TiffProblem, TiffTags, decode_page, decode_plane
from hcs_daemon.vocabulary import Reason


@dataclass(frozen=True, slots=True)
class Decoded:
    """A good plane. pixels: (height, width), raw counts. facts: what its own tags say of how it was taken.

    record: what they say of the plane itself, which agrees with its pixels and its name as far as one plane can tell.
    """

    sha256: str
    pixels: Pixels
    measures: PlaneMeasures
    facts: ChannelFacts | None = None
    record: OwnRecord | None = None


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
    """The file is there and cannot be opened now. held: somebody has it open, or no right to it was given (yet)."""

    detail: str
    held: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """The file is not there any more."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A good plane with the bytes of the first at its address. gone: the first is on the disk no more."""

    record: PlaneRecord
    first: str
    gone: bool


_HELD = {errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY}
"""Windows' sharing and lock violations (errors 32 and 33) come as EACCES; through a share they come as EBUSY too."""


def not_yet(error: OSError) -> NotYet:
    """What a file is that does not open."""
    return NotYet(f"{type(error).__name__}: {error.strerror}", held=error.errno in _HELD)


Outcome = Decoded | Refused | Changed | NotYet | Gone
FactsOf = Callable[[TiffTags], ChannelFacts | None]
RecordOf = Callable[[TiffTags], OwnRecord | None]


def no_record(tags: TiffTags) -> OwnRecord | None:  # noqa: ARG001 (it stands for an instrument that says nothing)
    """Nothing."""
    return None


def look(path: Path) -> Sighting:
    """One look at a file, or at the bundle that a page is of; at a link itself where it leads to nowhere.

    Raises OSError.
    """
    file, _ = split_page(path)
    try:
        status = file.stat()
    except FileNotFoundError:
        status = file.lstat()
    return Sighting(path, status.st_size, status.st_mtime_ns)


def read_plane(
    file: StableFile,
    expected: Expected,
    facts_of: FactsOf = lambda _: None,
    record_of: RecordOf = no_record,
    address: PlaneAddress | None = None,
) -> Outcome:
    """Read, hash, decode and measure one plane; every way it can go wrong is an answer.

    facts_of, record_of: what an instrument makes of a plane's tags. address: by the file's name.
    """
    path, page = split_page(file.path)
    found = _bytes_of(file) if page is None else _page_of(file, path, page)
    if not isinstance(found, tuple):
        return found
    sha256, decoded = found
    if isinstance(decoded, Refusal):
        return Refused(decoded, sha256)
    measures = examine(decoded.pixels, expected)
    if isinstance(measures, Refusal):
        return Refused(measures, sha256)
    record = record_of(decoded.tags)
    wrong = contradiction(record, address, decoded.pixels, measures, expected) if record is not None else None
    if wrong is not None:
        return Refused(wrong, sha256)
    measures = replace(measures, pixel_digest=digest_of(decoded.pixels))
    return Decoded(sha256, decoded.pixels, measures, facts_of(decoded.tags), record)


def confirm(file: StableFile) -> Outcome | None:
    """Whether a file that will not be read is still there as it was; None when it is."""
    try:
        now = look(file.path)
    except FileNotFoundError:
        return Gone()
    except OSError as error:
        return not_yet(error)
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


@dataclass(frozen=True, slots=True)
class Uncorrectable:
    """The plate's flat field cannot be taken out of its images, and in words why."""

    problem: str


@dataclass(frozen=True, slots=True)
class Layer:
    """One channel of a site to bring together.

    paths: of the image's planes, in order. held: (height, width) pixels that are in memory, before any correction.
    """

    image: ChannelImage
    paths: tuple[Path, ...]
    held: Pixels | None
    flatfield: FlatField | None = None


@dataclass(frozen=True, slots=True)
class Brought:
    """A site's pixels, (channels, height, width) counts, and what they were on the way where that was measured."""

    pixels: Pixels
    steps: tuple[StepRecord, ...] = ()


def bring_together(layers: Sequence[Layer], *, measured: bool = False) -> Brought | Unread | Uncorrectable:
    """A site's pixels: what is held in memory, the rest from disk. measured: whether the steps are recorded.

    Planes are projected first and corrected then, which for one profile a channel is the same as the other way round,
    but for rounding.
    """
    projected: list[Pixels] = []
    for layer in layers:
        pixels = layer.held if layer.held is not None else _read_again(layer)
        if isinstance(pixels, Unread):
            return pixels
        projected.append(pixels)
    corrected: list[Pixels] = []
    for layer, pixels in zip(layers, projected, strict=True):
        try:
            corrected.append(pixels if layer.flatfield is None else layer.flatfield.correct(pixels))
        except (ValueError, OSError) as error:
            channel = layer.image.planes[0].channel
            return Uncorrectable(f"the flat field of {channel} cannot be taken out: {error}")
    steps = [measure("projected", projected)] if measured else []
    if measured and any(layer.flatfield is not None for layer in layers):
        steps.append(measure("corrected", corrected))
    return Brought(np.stack(corrected), tuple(steps))  # type: ignore[arg-type]  # numpy widens the type to generic


def _read_again(layer: Layer) -> Pixels | Unread:
    fold: Fold | None = None
    for path, record in zip(layer.paths, layer.image.planes, strict=True):
        pixels = reread(path, record)
        if isinstance(pixels, Unread):
            return pixels
        if fold is None:
            fold = Fold(layer.image.projection, record.part, pixels)
        else:
            fold.add(record.part, pixels)
    assert fold is not None  # an image has a plane
    return fold.finished()


def reread(path: Path, record: PlaneRecord) -> Pixels | Unread:
    """The pixels of an accepted plane once more, from the file it came from."""
    file, page = split_page(path)
    try:
        data = file.read_bytes() if page is None else b""
        sha256 = hashlib.sha256(data).hexdigest() if page is None else _digests.of(look(file))
        if sha256 != record.source.sha256:
            return Unread(record, f"{record.source.path} has changed since it was checked")
        return (decode_plane(data) if page is None else decode_page(file, page)).pixels
    except OSError as error:
        return Unread(record, f"{record.source.path} cannot be read again: {error.strerror}")
    except TiffProblem as problem:
        return Unread(record, f"{record.source.path}: {problem.detail}")


class _Digests:
    """SHA-256 of bundles, whose bytes are read once for all their pages. Shared by the reader threads, under a lock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[Sighting, str] = {}
        self._lock = threading.Lock()

    def of(self, file: Sighting) -> str:
        """The digest of a file as it was last seen. Raises OSError."""
        with self._lock:
            if file not in self._known:
                with file.path.open("rb") as stream:
                    self._known[file] = hashlib.file_digest(stream, "sha256").hexdigest()
                while len(self._known) > self._most:
                    del self._known[next(iter(self._known))]
            return self._known[file]


_digests = _Digests(64)
_Read = tuple[str, DecodedTiff | Refusal]
"""The file's SHA-256, and what decoding came to."""


def _bytes_of(file: StableFile) -> _Read | Outcome:
    """The whole file, if it is still what settled, before and after reading."""
    try:
        kept_from = confirm(file) or _unfit(file)
        if kept_from is not None:
            return kept_from
        data = file.path.read_bytes()
    except FileNotFoundError:
        return Gone()
    except OSError as error:
        return not_yet(error)
    changed = confirm(file)
    if changed is not None:
        return changed
    try:
        decoded: DecodedTiff | Refusal = decode_plane(data)
    except TiffProblem as problem:
        decoded = refusal_of(problem)
    return hashlib.sha256(data).hexdigest(), decoded


def _page_of(file: StableFile, bundle: Path, page: int) -> _Read | Outcome:
    """One page of a bundle, if the bundle is still what settled, before and after reading."""
    kept_from = confirm(file)
    if kept_from is not None:
        return kept_from
    try:
        sha256 = _digests.of(Sighting(bundle, file.size_bytes, file.mtime_ns))
        decoded: DecodedTiff | Refusal = decode_page(bundle, page)
    except FileNotFoundError:
        return Gone()
    except OSError as error:
        return not_yet(error)
    except TiffProblem as problem:
        decoded = refusal_of(problem)
    return confirm(file) or (sha256, decoded)


def refusal_of(problem: TiffProblem) -> Refusal:
    """Why bytes that do not decode are refused."""
    return Refusal(problem.reason, problem.detail, problem.hint, may_grow=problem.may_grow)


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
