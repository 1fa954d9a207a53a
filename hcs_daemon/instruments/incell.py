"""IN Cell Analyzer (GE, Cytiva): `A - 01(fld 1 wv DAPI - DAPI z 1 time 1).tif`.

Well, field, the wave as it is called (`<excitation> - <emission>`), z and time point, all counted from 1. Some software
adds ` wix 3` where a wave is taken more than once, which makes another channel of it, or writes the time point as
` - time 01 - 0 ms`.

`<plate>.xdce` lists every image with its file's name, and how each wave is taken (Bio-Formats' InCellReader reads the
same elements). In it waves count from 0; pixel size is in micrometres, exposure in ms.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from hcs_daemon.instruments.facts import local, objective, pixel_size, plate_side, positive
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
from hcs_daemon.instruments.ome_xml import facts_of_all, read_ome, read_own_record
from hcs_daemon.instruments.own_record import OwnRecord
from hcs_daemon.plate import PROJECTION_Z, WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags

_PARTS = (
    ("row", r"([A-Z]{1,2})"),
    ("column", r" - (\d{1,3})"),
    ("field", r"\(fld (\d{1,5})"),
    ("wave", r" wv ((?:(?!(?: wix| z|(?: -)? time) \d)[^()])+)"),
    ("number of the wave", r"( wix \d{1,3})?"),
    ("z step", r"(?: z (\d{1,5}))?"),
    ("time point", r"(?:(?: -)? time (\d{1,6})(?: - \d+ ?ms)?)?"),
    ("ending", r"\)\.tiff?"),
)
_EXAMPLE = "A - 01(fld 1 wv DAPI - DAPI).tif"
_NAME = Grammar("an IN Cell", _PARTS, _EXAMPLE)
_NO_PLANES = {".xlog", ".xml", ".txt", ".csv", ".json", ".png", ".jpg"}
_WIX = re.compile(r" wix \d+$", re.IGNORECASE)


class InCell(OnePlaneAFile):
    """Names and metadata of the IN Cell Analyzer."""

    name = "incell"
    example = _EXAMPLE

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        """What the file at `path` is, by its name alone."""
        if is_no_data(path):
            return Reading(FileKind.NO_DATA)
        if path.suffix.lower() == ".xdce":
            return Reading(FileKind.METADATA)
        groups = _NAME.groups(path.name)
        if groups is None:
            return Reading(FileKind.NO_DATA) if path.suffix.lower() in _NO_PLANES else _NAME.misfit(path.name)
        row, column, site, wave, wix, z, time = groups
        try:
            position = WellPosition.parse(f"{row}{int(column)}")
        except ValueError as error:
            return Reading(FileKind.UNKNOWN, problem=str(error))
        if min(int(site), int(z or 1), int(time or 1)) < 1:
            return Reading(FileKind.UNKNOWN, problem="field, z and time point count from 1 in an IN Cell name")
        acquisition = self.acquisition_of(root_name, path)
        address = PlaneAddress(acquisition, position, int(site), wave + wix, int(z or 1), int(time or 1), wave)
        return Reading(FileKind.PLANE, address)

    def plane_path(self, address: PlaneAddress) -> PurePosixPath:
        """`<plate>__<acquisition>/A - 01(fld 1 wv DAPI - DAPI z 2 time 2).tif`; z and time where they are not 1.

        Raises ValueError for a projection, which no such name means.
        """
        if address.z == PROJECTION_Z:
            raise ValueError(f"an IN Cell name is of one z step: {address}")
        position = address.position
        z = f" z {address.z}" if address.z > 1 else ""
        time = f" time {address.time}" if address.time > 1 else ""
        name = f"{position.name[:-2]} - {position.column:02d}(fld {address.site} wv {address.channel}{z}{time}).tif"
        return PurePosixPath(measurement_name(address.acquisition), name)

    def read_metadata(self, path: Path) -> Manifest | None:
        """Every image listed, pixel size and waves, from a `.xdce`; what is broken promises nothing."""
        if path.suffix.lower() != ".xdce":
            return None
        listed = _Listed()
        try:
            with path.open("rb") as stream:
                for _, element in iterparse(stream, events=("end",)):
                    listed.see(element)
        except (ParseError, DefusedXmlException, ValueError, LookupError):  # the latter: no such encoding
            return None
        return listed.manifest()

    def read_tags(self, path: PurePosixPath, tags: TiffTags) -> ChannelFacts | None:  # noqa: ARG002 (they are one plane's)
        """What OME-XML in a description says, where there is one."""
        document = read_ome(tags.description)
        return None if document is None else facts_of_all(document)


@dataclass(slots=True)
class _Listed:
    """What a `.xdce` has said so far. Owned by the reading of one file.

    ids: wave's index -> channel id, as in the names of its files. exposures: wave's index -> ms.
    """

    planes: dict[WellPosition, dict[ImageKey, frozenset[int]]] = field(default_factory=dict)
    waves: dict[str, ChannelFacts] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    exposures: dict[str, float] = field(default_factory=dict)
    plate: Mapping[str, str] = field(default_factory=dict)
    lens: Mapping[str, str] = field(default_factory=dict)
    plate_id: str = ""
    measurement_id: str = ""
    shared: dict[frozenset[int], frozenset[int]] = field(default_factory=dict)

    def read_record(self, path: PurePosixPath, tags: TiffTags) -> OwnRecord | None:  # noqa: ARG002 (the tags say it all)
        """The significant bits in OME-XML, beside the tags that any TIFF may have."""
        return read_own_record(tags)

    def see(self, element: Element) -> None:
        """Note one element that has ended."""
        tag = local(element)
        if tag == "Image":
            self._image(element)
            element.clear()
        elif tag == "Wavelength":
            wave = _wave(element)
            self.waves[element.get("index", str(len(self.waves)))] = wave
        elif tag == "Plate":
            self.plate = dict(element.attrib)
        elif tag == "ObjectiveCalibration":
            self.lens = dict(element.attrib)
        elif tag == "UUID":
            self.measurement_id = element.get("value", "")
        elif tag == "ImageStack":
            self.plate_id = element.get("PlateID", "")

    def manifest(self) -> Manifest:
        """What it says as a whole."""
        size = pixel_size(positive(self.lens.get("pixel_width")))
        lens = objective(positive(self.lens.get("magnification")), positive(self.lens.get("numerical_aperture")))
        channels = {
            id_: replace(
                self.waves.get(index, ChannelFacts()),
                id=id_,
                name=_WIX.sub("", id_),
                exposure_ms=self.exposures.get(index),
                pixel_size_um=size,
                objective=lens,
            )
            for index, id_ in self.ids.items()
        }
        return Manifest(
            planes=self.planes,
            rows=plate_side(self.plate.get("rows")),
            columns=plate_side(self.plate.get("columns")),
            channels=channels,
            pixel_size_um=size,
            plate_id=self.plate_id or None,
            measurement_id=self.measurement_id or None,
        )

    def _image(self, image: Element) -> None:
        name = PureWindowsPath(image.get("filename", "")).name  # either slash
        address = InCell().read_name("", PurePosixPath(name)).address if name else None
        if address is None:
            return  # an entry without an address promises nothing
        well = self.planes.setdefault(address.position, {})
        key = (address.site, address.time, address.channel)
        steps = well.get(key, frozenset()) | {address.z}
        well[key] = self.shared.setdefault(steps, steps)
        identifier, exposure = image.find("{*}Identifier"), image.find("{*}Exposure")
        index = "" if identifier is None else identifier.get("wave_index", "")
        self.ids.setdefault(index or address.channel, address.channel)
        time = None if exposure is None else positive(exposure.get("time"))
        if time is not None:
            self.exposures.setdefault(index or address.channel, time)


def _wave(element: Element) -> ChannelFacts:
    light = {local(child): positive(child.get("wavelength")) for child in element}
    return ChannelFacts(excitation_nm=light.get("ExcitationFilter"), emission_nm=light.get("EmissionFilter"))
