"""What every instrument answers: is this file a plane, and of what."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path, PurePosixPath
from typing import Protocol

from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.own_record import OwnRecord, range_of
from hcs_daemon.plate import AcquisitionId, PlaneId, SiteId, WellId, WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags

_NO_DATA_SUFFIXES = {".log", ".db", ".tmp", ".part", ".partial", ".filepart", ".crdownload", ".bak", ".swp", ".lock"}
_NO_DATA_NAMES = {"thumbs.db", "desktop.ini", ".ds_store"}
_PREVIEW_NAME = re.compile(
    r"(.*[_\-. ])?(thumb|thumbnail|preview)([_\-. ].*|[0-9a-f]{8}-.*|$)",  # ImageXpress: _thumb and a GUID
    re.IGNORECASE | re.DOTALL,
)
_PREVIEW_FOLDERS = {"thumbs", "thumbnails", "previews"}


class FileKind(Enum):
    """What a name says of a file before it is opened. BUNDLE: several planes, and what is inside says which."""

    PLANE = auto()
    BUNDLE = auto()
    METADATA = auto()
    NO_DATA = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class PlaneAddress:
    """Where a plane belongs, by its name and folder.

    channel: its id, as the instrument writes it. channel_name: where the name tells that too. z and time count from 1;
    z is `PROJECTION_Z` for a projection that the instrument made.
    """

    acquisition: AcquisitionId
    position: WellPosition
    site: int
    channel: str
    z: int = 1
    time: int = 1
    channel_name: str = ""

    @property
    def plane(self) -> PlaneId:
        """The plane that is there."""
        well = WellId(self.acquisition, self.position, self.time)
        return PlaneId(SiteId(well, self.site), self.channel, self.z)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a name was read.

    problem: in words, why an UNKNOWN name does not fit the grammar, or why a PLANE is only one more image of a
    channel whose first image counts. fits: of an UNKNOWN name, how many of its characters fit, to find the nearest
    grammar. instrument: whose name it is, where several were asked.
    """

    kind: FileKind
    address: PlaneAddress | None = None
    problem: str = ""
    fits: int = 0
    instrument: str = ""


class Instrument(Protocol):
    """One vendor's way of writing. docs/instruments.md shows how to add one.

    name: as in `watch.instrument`. example: a plane's name, for messages.
    """

    name: str
    example: str

    def look_ahead(self, paths: Iterable[PurePosixPath]) -> bool:
        """Names that are there before any of them is read, where what one is depends on the others beside it.

        True where names that were read before would be read otherwise now.
        """

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        """What the file at `path` (relative to the watched folder, which is called `root_name`) is."""

    def acquisition_of(self, root_name: str, path: PurePosixPath) -> AcquisitionId:
        """The acquisition that a file in this place belongs to."""

    def measurement_folder(self, path: PurePosixPath) -> PurePosixPath:
        """The folder of that acquisition, relative to the watched folder."""

    def plane_path(self, address: PlaneAddress) -> PurePosixPath:
        """Where the instrument would write a plane, in a folder called `<plate>__<acquisition>`.

        What `read_name` makes of it again is `address`. For a BUNDLE the file that holds the plane.
        """

    def read_metadata(self, path: Path) -> Manifest | None:
        """What a METADATA file promises; None for one that promises nothing. Raises OSError only."""

    def read_tags(self, path: PurePosixPath, tags: TiffTags) -> ChannelFacts | None:
        """What a plane's own tags say of how it was taken; None where they say nothing."""

    def read_record(self, path: PurePosixPath, tags: TiffTags) -> OwnRecord | None:
        """What a plane's own tags say of that plane: where it was taken, what its pixels were; None for nothing."""

    def read_bundle(self, root_name: str, path: PurePosixPath, tags: TiffTags) -> Sequence[PlaneAddress | None]:
        """The address of each page of a BUNDLE, in order; None for a page that is no data.

        tags: of the first page. Raises ValueError, in words, when the file does not say it.
        """

    def promise_of_bundle(self, tags: TiffTags) -> Manifest | None:
        """What the tags of a BUNDLE's first page promise of the whole acquisition; None where they promise nothing."""


class OnePlaneAFile:
    """What most instruments share: one plane a file, in the measurement's own folder, and nothing beside names."""

    def acquisition_of(self, root_name: str, path: PurePosixPath) -> AcquisitionId:
        """The acquisition by the measurement folder's name."""
        return acquisition_from(root_name, self.measurement_folder(path))

    def measurement_folder(self, path: PurePosixPath) -> PurePosixPath:
        """The folder that holds the file."""
        return path.parent

    def read_metadata(self, path: Path) -> Manifest | None:  # noqa: ARG002 (there is none to read)
        """Nothing: what the images are must stand in the settings."""
        return None

    def look_ahead(self, paths: Iterable[PurePosixPath]) -> bool:  # noqa: ARG002 (nothing is to be done)
        """False: each name stands for itself."""
        return False

    def read_tags(self, path: PurePosixPath, tags: TiffTags) -> ChannelFacts | None:  # noqa: ARG002 (they say nothing)
        """Nothing."""
        return None

    def read_record(self, path: PurePosixPath, tags: TiffTags) -> OwnRecord | None:  # noqa: ARG002 (it is nobody's tag)
        """What the tags say that any TIFF may have, and nothing else."""
        return OwnRecord(range=range_of(tags)).or_none

    def read_bundle(self, root_name: str, path: PurePosixPath, tags: TiffTags) -> Sequence[PlaneAddress | None]:
        """Never asked: no file of theirs is a bundle."""
        raise ValueError(f"{path} in {root_name} holds one plane ({len(tags.description)} characters of description)")

    def promise_of_bundle(self, tags: TiffTags) -> Manifest | None:  # noqa: ARG002 (they promise nothing)
        """Nothing."""
        return None


class Grammar:
    """A file name made of parts, each called what a person calls it, so that a misfit can be named.

    parts: (what, regular expression with at most one group) in order; case does not matter. example: a name that fits.
    """

    def __init__(self, vendor: str, parts: Sequence[tuple[str, str]], example: str) -> None:
        self._vendor = vendor
        self._parts = tuple(parts)
        self._example = example
        self._whole = re.compile("".join(part for _, part in parts), re.IGNORECASE | re.ASCII)

    def groups(self, name: str) -> tuple[str, ...] | None:
        """The groups of a name that fits as a whole (an absent one is empty), else None."""
        match = self._whole.fullmatch(name)
        return None if match is None else match.groups("")

    def misfit(self, name: str) -> Reading:
        """An UNKNOWN reading that says where the name stops being one of this grammar's.

        A part that any text fits, such as a plate's name, is no sign of the grammar and does not count as fitting.
        """
        so_far, where, fits = "", "at its beginning", 0
        for number, (what, part) in enumerate(self._parts):
            match = re.compile(f"{so_far}(?P<part{number}>{part})", re.IGNORECASE | re.ASCII).match(name)
            if match is None:
                return self._unknown(f"{where} there is no {what}", fits)
            so_far = match.re.pattern
            telling = (n for n, (_, each) in enumerate(self._parts[: number + 1]) if not _fits_any_text(each))
            fits = sum(len(match[f"part{n}"]) for n in telling)
            everything = _fits_any_text(part) and match.end() == len(name)
            where = "in it" if everything else f"after {name[: match.end()]!r}"
        return self._unknown(f"this name goes on {where}", fits)

    def _unknown(self, why: str, fits: int) -> Reading:
        return Reading(
            FileKind.UNKNOWN, problem=f"{self._vendor} plane is called like {self._example}, and {why}", fits=fits
        )


def _fits_any_text(part: str) -> bool:
    return ".+" in part


def is_no_data(path: PurePosixPath) -> bool:
    """Whether a file is known never to hold data: logs, thumbnails, hidden and temporary files."""
    text, name = str(path), path.name.lower()  # of the path once: this is asked of every file
    return (
        text.startswith(".")
        or "/." in text
        or name.startswith("~")
        or name in _NO_DATA_NAMES
        or path.suffix.lower() in _NO_DATA_SUFFIXES
        or (("thumb" in name or "preview" in name) and _PREVIEW_NAME.match(name) is not None)
        or text.rpartition("/")[0].rpartition("/")[2].lower() in _PREVIEW_FOLDERS
    )


def as_text(name: str) -> str:
    r"""A name from the disk as text that every file and log can hold: bytes that are none become `\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def name_of_root(root: Path) -> str:
    """What the watched folder is called where a plate is named after it: an `Images` folder says nothing."""
    folder = root.parent if root.name.lower() == "images" and root.parent.name else root
    return as_text(folder.name)


def acquisition_from(root_name: str, measurement: PurePosixPath) -> AcquisitionId:
    """Plate and acquisition by the measurement folder's name.

    The plate is the part before `__`, else the whole name; the acquisition is the part after, else the folders
    between the watched one and the measurement's, else `1`.
    """
    folder = measurement.name or root_name
    plate, mark, acquisition = folder.partition("__")
    if mark and plate and acquisition:
        return AcquisitionId(plate, acquisition)
    between = "_".join(measurement.parts[:-1])
    return AcquisitionId(folder, between or "1")


def measurement_name(acquisition: AcquisitionId) -> str:
    """A measurement folder's name that `acquisition_from` reads as this acquisition."""
    return f"{acquisition.plate}__{acquisition.acquisition}"
