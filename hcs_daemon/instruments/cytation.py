"""BioTek Cytation and Lionheart, as the Gen5 software writes them.

`B3_02_1_1_DAPI_001.tif`: well, step of the procedure, channel, site, the channel's name, time point; in a stack
`_1_Z0_DAPI_` or, as Gen5 3 writes it, `_1Z0_DAPI_`, where z counts from 0. Names and tags as in Bio-Formats'
BioTekReader.

A step below zero is no reading but what Gen5 computed of one: `Stitched[...]` (no site), `Deconvolved[...]` and
`Tsf[...]` (no raw counts) are no data; `ZProj[DAPI 377,447]` is the instrument's own projection of that channel.
Channels are counted anew in each step: two reading steps that share a folder, a channel number and a site have the same
addresses, and the later one counts, as where a well was imaged again.
"""

import re
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from hcs_daemon.instruments.facts import local, objective, pixel_size, positive, xml_root
from hcs_daemon.instruments.naming import (
    FileKind,
    Grammar,
    OnePlaneAFile,
    PlaneAddress,
    Reading,
    is_no_data,
    measurement_name,
)
from hcs_daemon.plate import PROJECTION_Z, WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags

_PARTS = (
    ("well", r"([A-Z]{1,2}\d{1,2})"),
    ("step", r"_(-?\d{1,3})"),
    ("channel", r"_(\d{1,3})"),
    ("site", r"_(\d{1,5})"),
    ("z step", r"(?:_?Z(\d{1,5}))?"),
    ("channel's name", r"_(.+)"),
    ("time point", r"_(\d{1,6})"),
    ("ending", r"\.tiff?"),
)
_EXAMPLE = "B3_02_1_1_DAPI_001.tif"
_NAME = Grammar("a Cytation", _PARTS, _EXAMPLE)
_COMPUTED = re.compile(r"([A-Za-z]+)\[(.*)\]", re.DOTALL)
_FILTER = re.compile(r"(?:Read \d+_)?(.*?)(?: (\d{3,4}),(\d{3,4}))?", re.DOTALL)
"""A channel's name with, where Gen5 adds them, the reading step and the wavelengths of its light: `GFP 469,525`."""
_NO_PLANES = {".xpt", ".prt", ".xml", ".txt", ".csv", ".json"}


class Cytation(OnePlaneAFile):
    """Names and tags of Cytation and Lionheart."""

    name = "cytation"
    example = _EXAMPLE

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        """What the file at `path` is, by its name alone."""
        if is_no_data(path):
            return Reading(FileKind.NO_DATA)
        groups = _NAME.groups(path.name)
        if groups is None:
            return Reading(FileKind.NO_DATA) if path.suffix.lower() in _NO_PLANES else _NAME.misfit(path.name)
        well, step, channel, site, z, text, time = groups
        computed = _COMPUTED.fullmatch(text)
        projected = computed is not None and computed[1].lower() == "zproj" and "[" not in computed[2]
        if (computed or int(step) < 0) and not projected:
            return Reading(FileKind.NO_DATA)
        try:
            position = WellPosition.parse(well)
        except ValueError as error:
            return Reading(FileKind.UNKNOWN, problem=str(error))
        if min(int(channel), int(site), int(time)) < 1:
            return Reading(FileKind.UNKNOWN, problem="channel, site and time point count from 1 in a Cytation name")
        address = PlaneAddress(
            self.acquisition_of(root_name, path),
            position,
            int(site),
            channel=str(int(channel)),
            z=PROJECTION_Z if computed else int(z or 0) + 1,
            time=int(time),
            channel_name=_channel_name(computed[2] if computed else text, int(channel)),
        )
        return Reading(FileKind.PLANE, address)

    def plane_path(self, address: PlaneAddress) -> PurePosixPath:
        """`<plate>__<acquisition>/B3_02_1_1_DAPI_001.tif`; a channel without a name is called by its number."""
        position, name = address.position, address.channel_name or address.channel
        step, z = "02", "" if address.z == 1 else f"_Z{address.z - 1}"
        if address.z == PROJECTION_Z:
            step, z, name = "-1", "", f"ZProj[{name}]"
        letters = position.name[:-2]
        file = f"{letters}{position.column}_{step}_{address.channel}_{address.site}{z}_{name}_{address.time:03d}.tif"
        return PurePosixPath(measurement_name(address.acquisition), file)

    def read_tags(self, path: PurePosixPath, tags: TiffTags) -> ChannelFacts | None:
        """Channel, exposure, pixel size and objective, from the `BTIImageMetaData` in a description."""
        root = xml_root(tags.description) if "BTIImageMetaData" in tags.description else None
        if root is None:
            return None
        found = next((each for each in root.iter() if local(each) == "ImageAcquisition"), None)
        if found is None:
            return None
        groups = _NAME.groups(path.name)
        return _facts(found, channel=str(int(groups[2])) if groups else "")


def _channel_name(text: str, channel: int) -> str:
    """The channel's name in a file name; empty where there stands but its number."""
    match = _FILTER.fullmatch(text)
    name = match[1] if match else text
    return "" if name == str(channel) else name


def _facts(acquisition: Element, channel: str) -> ChannelFacts:
    """ImageWidthMicrons is the width of the whole image, of PixelWidth pixels."""
    light = acquisition.find("{*}Channel")
    colour = light.get("Color", "") if light is not None else ""
    computed = _COMPUTED.fullmatch(colour)
    match = _FILTER.fullmatch(computed[2] if computed else colour)
    width, pixels = (positive(acquisition.findtext(f"{{*}}{tag}")) for tag in ("ImageWidthMicrons", "PixelWidth"))
    size = acquisition.findtext("{*}DisplayedObjectiveSize") or acquisition.findtext("{*}ObjectiveSize") or ""
    return ChannelFacts(
        id=channel,
        name=match[1] if match else colour,
        excitation_nm=_wavelength(light, "Excitation") or positive(match[2] if match else None),
        emission_nm=_wavelength(light, "Emission") or positive(match[3] if match else None),
        exposure_ms=positive(acquisition.findtext("{*}ShutterSpeedMS")),
        pixel_size_um=pixel_size(width / pixels) if width and pixels else None,
        objective=objective(
            positive(size.strip().rstrip("xX")), positive(acquisition.findtext("{*}NumericalAperture"))
        ),
    )


def _wavelength(light: Element | None, which: str) -> float | None:
    return positive(light.findtext(f"{{*}}{which}Wavelength")) if light is not None else None
