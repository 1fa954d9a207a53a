"""Opera Phenix and Operetta, as the Harmony software writes them.

`<measurement>/Images/r03c03f03p01-ch5sk1fk1fl1.tiff`: row, column, site, z, channel, time point, exposure, FLIM.
`Index.idx.xml` (or `Index.xml`, `Index.ref.xml`) may come first, last, grow, be empty, or never come.
"""

import re
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from hcs_daemon.instruments.manifest import ImageKey, Manifest
from hcs_daemon.instruments.naming import (
    FileKind,
    Grammar,
    OnePlaneAFile,
    PlaneAddress,
    Reading,
    acquisition_from,
    is_no_data,
    measurement_name,
)
from hcs_daemon.plate import AcquisitionId, WellPosition

_PARTS = (
    ("row", r"r(\d{2})"),
    ("column", r"c(\d{2})"),
    ("site", r"f(\d{2,6})"),
    ("z", r"p(\d{2,6})"),
    ("channel", r"-ch(\d{1,6})"),
    ("time point", r"sk(\d{1,6})"),
    ("exposure", r"fk(\d{1,6})"),
    ("FLIM", r"fl(\d{1,6})"),
    ("ending", r"\.tiff?"),
)
_INDEX = re.compile(r"index(\.idx|\.ref)?\.xml", re.IGNORECASE)
_OTHER_METADATA_SUFFIXES = {".xml", ".txt", ".csv", ".json"}
_EXAMPLE = "r01c01f01p01-ch1sk1fk1fl1.tiff"
_NAME = Grammar("a Harmony", _PARTS, _EXAMPLE)


class Harmony(OnePlaneAFile):
    """Names and index of Opera Phenix and Operetta."""

    name = "harmony"
    example = _EXAMPLE

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        """What the file at `path` is, by its name alone."""
        if is_no_data(path):
            return Reading(FileKind.NO_DATA)
        groups = _NAME.groups(path.name)
        if groups is None:
            return self._other(path)
        row, column, site, z, channel, time, exposure, flim = map(int, groups)
        try:
            position = WellPosition(row, column)
        except ValueError as error:
            return Reading(FileKind.UNKNOWN, problem=str(error))
        if min(site, z, time) < 1:
            return Reading(FileKind.UNKNOWN, problem="site, z and time point count from 1 in a Harmony name")
        acquisition = self.acquisition_of(root_name, path)
        address = PlaneAddress(acquisition, position, site, channel=str(channel), z=z, time=time)
        return Reading(FileKind.PLANE, address, _beyond_the_first(exposure, flim))

    def acquisition_of(self, root_name: str, path: PurePosixPath) -> AcquisitionId:
        """The acquisition by the measurement folder's name."""
        return acquisition_from(root_name, self.measurement_folder(path))

    def measurement_folder(self, path: PurePosixPath) -> PurePosixPath:
        """The folder that holds `Images`, else the one that holds the file."""
        return path.parent.parent if path.parent.name.lower() == "images" else path.parent

    def plane_path(self, address: PlaneAddress) -> PurePosixPath:
        """`<plate>__<acquisition>/Images/r01c01f01p01-ch1sk1fk1fl1.tiff`."""
        row, column = address.position.row, address.position.column
        name = (
            f"r{row:02d}c{column:02d}f{address.site:02d}p{address.z:02d}-ch{address.channel}sk{address.time}fk1fl1.tiff"
        )
        return PurePosixPath(measurement_name(address.acquisition), "Images", name)

    def read_metadata(self, path: Path) -> Manifest | None:
        """Pixel size and the images expected, from an index file; what is broken promises nothing."""
        return read_index(path) if _INDEX.fullmatch(path.name) else None

    def _other(self, path: PurePosixPath) -> Reading:
        if _INDEX.fullmatch(path.name):
            return Reading(FileKind.METADATA)
        if path.suffix.lower() in _OTHER_METADATA_SUFFIXES:
            return Reading(FileKind.NO_DATA)
        return _NAME.misfit(path.name)


def _beyond_the_first(exposure: int, flim: int) -> str:
    if max(exposure, flim) <= 1:
        return ""
    return f"exposure {exposure}, FLIM {flim} of a channel of which the first one counts"


def read_index(path: Path) -> Manifest | None:
    """Read an index of any schema version without holding it in memory; None when it says nothing or is broken.

    ImageResolutionX is in metres. Raises OSError when the file cannot be read.
    """
    planes: dict[WellPosition, dict[ImageKey, frozenset[int]]] = {}
    found: dict[str, str] = {}
    try:
        with path.open("rb") as stream:
            for _, element in iterparse(stream, events=("end",)):
                tag = _local(element)
                if tag == "Image" and element.find("{*}FieldID") is not None:
                    _note_image(element, planes)
                    element.clear()
                elif tag in {"ImageResolutionX", "PlateID", "MeasurementID"} and element.text:
                    found.setdefault(tag, element.text.strip())
    except (ParseError, DefusedXmlException, ValueError, LookupError):  # the latter: no such encoding
        return None
    return Manifest(
        pixel_size_um=_micrometres(found.get("ImageResolutionX")),
        planes=planes,
        plate_id=found.get("PlateID"),
        measurement_id=found.get("MeasurementID"),
    )


def _note_image(image: Element, planes: dict[WellPosition, dict[ImageKey, frozenset[int]]]) -> None:
    try:
        row, column, site = (int(image.findtext(f"{{*}}{tag}") or "") for tag in ("Row", "Col", "FieldID"))
        well = planes.setdefault(WellPosition(row, column), {})
    except ValueError:
        return  # an entry without an address promises nothing
    well[site, 1, image.findtext("{*}ChannelID") or ""] = frozenset({1})


def _micrometres(metres: str | None) -> float | None:
    try:
        size = float(metres) * 1e6 if metres else 0.0
    except ValueError:
        return None
    return round(size, 6) if 0 < size < 100 else None


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]
