"""Olympus (Evident) ScanR: `B3--W00015--P00001--Z00000--T00000--DAPI.tif`.

Well, its number on the plate, position, z step and time point (both counted from 0), and the channel's name. Where the
well's name is missing (`--W00015--P...`) its number alone counts the wells row by row over a plate whose width the name
does not say (Bio-Formats' ScanrReader and fractal-uzh-converters take it from elsewhere): such a plane is not guessed.

Images lie in `data/`, `experiment_descriptor.xml` beside it, `metadata.ome.xml` (newer software) within. The first is
LabVIEW's list of names and values, known to us from Bio-Formats' ScanrReader, which corrects the counts it gives by the
files it finds: so it tells pixel size, plate and channels, and promises no plane. The second lists every file.
"""

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from hcs_daemon.instruments.facts import pixel_size, plate_side, positive, xml_root
from hcs_daemon.instruments.manifest import ImageKey, Manifest
from hcs_daemon.instruments.naming import (
    FileKind,
    Grammar,
    OnePlaneAFile,
    PlaneAddress,
    Reading,
    is_no_data,
    measurement_name,
)
from hcs_daemon.instruments.ome_xml import OmeDocument, facts_of_all, read_ome, read_own_record
from hcs_daemon.instruments.own_record import OwnRecord
from hcs_daemon.plate import PLATE_SHAPES, PROJECTION_Z, WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags

_PARTS = (
    ("well", r"(?:([A-Z]{1,2}\d{1,2})?--)?"),
    ("number of the well", r"W(\d{5})"),
    ("position", r"--P(\d{5})"),
    ("z step", r"--Z(\d{5})"),
    ("time point", r"--T(\d{5})"),
    ("channel", r"--(.+)"),
    ("ending", r"(?<!\.ome)\.tiff?"),
)
_EXAMPLE = "B3--W00015--P00001--Z00000--T00000--DAPI.tif"
_NAME = Grammar("a ScanR", _PARTS, _EXAMPLE)
_DESCRIPTOR = "experiment_descriptor.xml"
_OME = "metadata.ome.xml"
_NO_PLANES = {".xml", ".dat", ".txt", ".csv", ".json", ".ini"}
_DECLARATION = re.compile(r"^\s*<\?xml.*?\?>", re.DOTALL)


class ScanR(OnePlaneAFile):
    """Names and metadata of ScanR."""

    name = "scanr"
    example = _EXAMPLE

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        """What the file at `path` is, by its name alone."""
        if is_no_data(path):
            return Reading(FileKind.NO_DATA)
        if path.name.lower() in {_DESCRIPTOR, _OME}:
            return Reading(FileKind.METADATA)
        groups = _NAME.groups(path.name)
        if groups is None:
            return Reading(FileKind.NO_DATA) if path.suffix.lower() in _NO_PLANES else _NAME.misfit(path.name)
        well, number, site, z, time, channel = groups
        try:
            position = _position(well, number, int(site))
        except ValueError as error:
            return Reading(FileKind.UNKNOWN, problem=str(error))
        acquisition = self.acquisition_of(root_name, path)
        address = PlaneAddress(acquisition, position, int(site), channel, int(z) + 1, int(time) + 1, channel)
        return Reading(FileKind.PLANE, address)

    def measurement_folder(self, path: PurePosixPath) -> PurePosixPath:
        """The folder that holds `data`, else the one that holds the file."""
        return path.parent.parent if path.parent.name.lower() == "data" else path.parent

    def plane_path(self, address: PlaneAddress) -> PurePosixPath:
        """`<plate>__<acquisition>/data/B3--W00015--P00001--Z00000--T00000--DAPI.tif`.

        Raises ValueError for a projection, which no such name means.
        """
        if address.z == PROJECTION_Z:
            raise ValueError(f"a ScanR name is of one z step: {address}")
        position = address.position
        shapes = sorted(PLATE_SHAPES[wells] for wells in (96, 384, 1536))
        columns = next(width for rows, width in shapes if position.row <= rows and position.column <= width)
        name = (
            f"{position.name[:-2]}{position.column}--W{(position.row - 1) * columns + position.column:05d}"
            f"--P{address.site:05d}--Z{address.z - 1:05d}--T{address.time - 1:05d}--{address.channel}.tif"
        )
        return PurePosixPath(measurement_name(address.acquisition), "data", name)

    def read_metadata(self, path: Path) -> Manifest | None:
        """Pixel size, plate and channels from the descriptor; from OME-XML all planes too; None for what is broken."""
        if path.name.lower() == _DESCRIPTOR:
            return _descriptor(path.read_bytes())
        if path.name.lower() != _OME:
            return None
        document = read_ome(path.read_bytes().decode("utf-8", errors="replace"))
        return None if document is None else self._promise(document)

    def read_tags(self, path: PurePosixPath, tags: TiffTags) -> ChannelFacts | None:  # noqa: ARG002 (they are one plane's)
        """What OME-XML in a description says of all channels."""
        document = read_ome(tags.description)
        return None if document is None else facts_of_all(document)

    def read_record(self, path: PurePosixPath, tags: TiffTags) -> OwnRecord | None:  # noqa: ARG002 (the tags say it all)
        """The significant bits in OME-XML, beside the tags that any TIFF may have."""
        return read_own_record(tags)

    def _promise(self, document: OmeDocument) -> Manifest:
        """Every file listed whose name says where it belongs."""
        planes: dict[WellPosition, dict[ImageKey, frozenset[int]]] = {}
        channels: dict[str, ChannelFacts] = {}
        shared: dict[frozenset[int], frozenset[int]] = {}
        for image in document.images:
            for data in image.data:
                address = self.read_name("", PurePosixPath(data.file.replace("\\", "/"))).address if data.file else None
                if address is None:
                    continue
                well = planes.setdefault(address.position, {})
                key = (address.site, address.time, address.channel)
                steps = well.get(key, frozenset()) | {address.z}
                well[key] = shared.setdefault(steps, steps)
                if address.channel not in channels and data.first[0] < len(image.channels):
                    channels[address.channel] = replace(image.channels[data.first[0]], id=address.channel)
        return Manifest(planes=planes, channels=channels, pixel_size_um=facts_of_all(document).pixel_size_um)


def _position(well: str, number: str, site: int) -> WellPosition:
    if site < 1:
        raise ValueError("positions count from 1 in a ScanR name")
    if not well:
        raise ValueError(
            f"this ScanR name lacks the well's name: W{number} counts wells row by row, and the name does not say how "
            "wide the plate is; let ScanR write the wells' names into those of the files"
        )
    return WellPosition.parse(well)


def _descriptor(data: bytes) -> Manifest | None:
    """What experiment_descriptor.xml says; it declares no encoding and is written in Latin-1."""
    root = xml_root(_DECLARATION.sub("", data.decode("latin-1"), count=1))
    if root is None:
        return None
    values: dict[str, str] = {}
    for element in root.iter():
        values.setdefault(*_pair(element))
    layout = next((each for each in root.iter("Cluster") if each.findtext("Name") == "format typedef"), None)
    shape = dict(map(_pair, layout.iter())) if layout is not None else {}
    found = [channel for element in root.iter("Cluster") if (channel := _channel(element))]
    return Manifest(
        channels={channel.id: channel for channel in found},
        pixel_size_um=pixel_size(positive(values.get("conversion factor um/pixel"))),
        rows=plate_side(shape.get("Rows")),
        columns=plate_side(shape.get("Columns")),
        plate_id=values.get("plate name") or None,
    )


def _pair(element: Element) -> tuple[str, str]:
    """The name and the value of one LabVIEW value; empty for anything else."""
    return (element.findtext("Name") or "").strip(), (element.findtext("Val") or "").strip()


def _channel(cluster: Element) -> ChannelFacts | None:
    """A channel that is acquired: a cluster with a name and an exposure time (in ms), not idle, not the autofocus."""
    values = dict(map(_pair, cluster))
    name = values.get("name", "")
    if not name or "exposure time" not in values or values.get("idle", "0") != "0" or name == "Autofocus":
        return None
    return ChannelFacts(id=name, name=name, exposure_ms=positive(values["exposure time"]))
