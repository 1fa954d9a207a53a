"""What every instrument answers: is this file a plane, and of what."""

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path, PurePosixPath
from typing import Protocol

from hcs_daemon.plate import AcquisitionId, WellPosition

_NO_DATA_SUFFIXES = {".log", ".db", ".tmp", ".part", ".partial", ".filepart", ".crdownload", ".bak", ".swp", ".lock"}
_NO_DATA_NAMES = {"thumbs.db", "desktop.ini", ".ds_store"}
_PREVIEW_NAME = re.compile(
    r"(.*[_\-. ])?(thumb|thumbnail|preview)([_\-. ].*|[0-9a-f]{8}-.*|$)",  # ImageXpress: _thumb and a GUID
    re.IGNORECASE | re.DOTALL,
)
_PREVIEW_FOLDERS = {"thumbs", "thumbnails", "previews"}


class FileKind(Enum):
    """What a name says of a file before it is opened."""

    PLANE = auto()
    METADATA = auto()
    NO_DATA = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class PlaneAddress:
    """Where a plane belongs, by its name and folder. channel: as the instrument writes it."""

    acquisition: AcquisitionId
    position: WellPosition
    site: int
    channel: str
    z: int = 1
    time: int = 1


@dataclass(frozen=True, slots=True)
class Reading:
    """How a name was read.

    problem: in words, why an UNKNOWN name does not fit the nearest grammar, or why a PLANE is only one more image of a
    channel whose first image counts.
    """

    kind: FileKind
    address: PlaneAddress | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an instrument's metadata promises for one acquisition.

    pixel_size_um: micrometres a pixel, None where it is not said. sites: well -> its site numbers, empty where
    unknown. plate_id, measurement_id: the instrument's own names.
    """

    pixel_size_um: float | None = None
    sites: dict[WellPosition, frozenset[int]] = field(default_factory=dict)
    plate_id: str | None = None
    measurement_id: str | None = None


class Instrument(Protocol):
    """One vendor's way of writing."""

    name: str

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        """What the file at `path` (relative to the watched folder, which is called `root_name`) is."""

    def acquisition_of(self, root_name: str, path: PurePosixPath) -> AcquisitionId:
        """The acquisition that a file in this place belongs to."""

    def measurement_folder(self, path: PurePosixPath) -> PurePosixPath:
        """The folder of that acquisition, relative to the watched folder."""

    def read_metadata(self, path: Path) -> Manifest | None:
        """What a METADATA file promises; None for one that promises nothing. Raises OSError only."""


def is_no_data(path: PurePosixPath) -> bool:
    """Whether a file is known never to hold data: logs, thumbnails, hidden and temporary files."""
    name = path.name.lower()
    return (
        any(part.startswith(".") for part in path.parts)
        or name.startswith("~")
        or name in _NO_DATA_NAMES
        or path.suffix.lower() in _NO_DATA_SUFFIXES
        or _PREVIEW_NAME.match(name) is not None
        or path.parent.name.lower() in _PREVIEW_FOLDERS
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
