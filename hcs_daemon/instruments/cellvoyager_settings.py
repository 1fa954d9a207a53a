"""How a CellVoyager took a plate: the measurement's detail (`.mrf`), its protocol (`.mes`), the plate (`.wpi`, `.wpp`).

All are small XML files whose attributes bear the namespace of Yokogawa's BTS schema. Pixel sizes are in micrometres in
the specimen, exposures in milliseconds, and an emission filter such as `BP445/45` is a centre and a width in nanometres
(as Bio-Formats, `CV7000Reader`, and faim-ipa read them).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import parse

from hcs_daemon.instruments.cellvoyager_name import channel_id
from hcs_daemon.instruments.facts import local, pixel_size, positive
from hcs_daemon.instruments.flatfield import ImageProfile
from hcs_daemon.instruments.manifest import FlatField, Manifest
from hcs_daemon.records import ChannelFacts

_BAND = re.compile(r"BP(\d{3,4}(?:\.\d+)?)/", re.IGNORECASE)
_ACQUIRE = "ActionAcquire"
"""What the actions of a protocol that take images begin with: `ActionAcquire3D`, `ActionAcquireBF`."""
_SAME = 0.02


def read_detail(path: Path) -> Manifest | None:
    """Plate shape, pixel size, bit depth and correction images from a `.mrf`; None for a broken one.

    Raises OSError when the file cannot be read.
    """
    root = _root(path, "MeasurementDetail")
    if root is None:
        return None
    said = _said(root)
    plate = next((_said(child) for child in root if local(child) == "MeasurementSamplePlate"), {})
    channels = dict(_by_channel(child for child in root if local(child) == "MeasurementChannel"))
    facts = {id_: _taken_with(id_, channel) for id_, channel in channels.items()}
    sizes = {each.pixel_size_um for each in facts.values()}
    return Manifest(
        rows=_count(said.get("RowCount")),
        columns=_count(said.get("ColumnCount")),
        channels=facts,
        pixel_size_um=sizes.pop() if len(sizes) == 1 else None,
        flatfields=dict(_flatfields(path.parent, channels)),
        plate_id=plate.get("Name") or None,
        measurement_id=said.get("Title") or None,
    )


def read_protocol(path: Path) -> Manifest | None:
    """Names, filters, light, exposure and objective of the channels that a `.mes` takes; None for a broken one.

    Raises OSError when the file cannot be read.
    """
    root = _root(path, "MeasurementSetting")
    if root is None:
        return None
    said = _said(root)
    lights = {
        light.get("Name", ""): positive(light.get("WaveLength"))
        for light in (_said(element) for element in root.iter() if local(element) == "LightSource")
    }
    taken = {number for number in map(_count, _taken(root)) if number is not None}
    channels = {
        id_: _seen_with(id_, channel, lights)
        for element in root.iter()
        if local(element) == "Channel"
        for id_, channel in _by_channel([element])
        if not taken or _count(channel["Ch"]) in taken
    }
    return Manifest(rows=_count(said.get("Rows")), columns=_count(said.get("Columns")), channels=channels)


def read_plate(path: Path) -> Manifest | None:
    """The plate's shape from a `.wpi` or `.wpp`, and its name from a `.wpi`; None for a broken one.

    Raises OSError when the file cannot be read.
    """
    root = _root(path, "WellPlate", "WellPlateProduct")
    if root is None:
        return None
    said = _said(root)
    return Manifest(
        rows=_count(said.get("Rows")),
        columns=_count(said.get("Columns")),
        plate_id=said.get("Name") or None if local(root) == "WellPlate" else None,  # a product's name is a kind's
    )


def _taken_with(id_: str, said: Mapping[str, str]) -> ChannelFacts:
    across, down = (positive(said.get(f"{side}PixelDimension")) for side in ("Horizontal", "Vertical"))
    square = across is None or down is None or abs(across - down) <= _SAME * across
    return ChannelFacts(
        id=id_,
        pixel_size_um=pixel_size(across) if square else None,
        bit_depth=_count(said.get("InputBitDepth")),
    )


def _seen_with(id_: str, said: Mapping[str, str], lights: Mapping[str, float | None]) -> ChannelFacts:
    """Facts of a channel of the protocol; excitation only where one light of one wavelength shines."""
    band = _BAND.match(said.get("Acquisition", ""))
    shining = said.get("LightSourceName", "").split("\n")
    magnification = positive(said.get("Magnification"))
    return ChannelFacts(
        id=id_,
        name=said.get("Fluorophore") or said.get("Target") or "",
        excitation_nm=lights.get(shining[0]) if len(shining) == 1 else None,
        emission_nm=positive(band[1]) if band else None,
        exposure_ms=positive(said.get("ExposureTime")),
        objective=said.get("Objective") or (f"{magnification:g}x" if magnification else ""),
    )


def _flatfields(folder: Path, channels: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, FlatField]]:
    """The image of the light that the detail names for each channel, and beside it the darkness of its camera.

    The light may come later, for it is read when a plane is corrected; the darkness must be there to be known.
    """
    dark = {
        match[1]: found
        for found in sorted(folder.glob("[Dd][Cc]_*"))
        if (match := re.search(r"_CAM0*(\d+)\.tiff?$", found.name, re.IGNORECASE))
    }
    for id_, said in channels.items():
        name = PureWindowsPath(said.get("ShadingCorrectionSource", "")).name
        if name:
            yield id_, ImageProfile(folder / name, dark.get(said.get("CameraNumber", "").lstrip("0")))


def _taken(root: Element) -> Iterator[str]:
    """The channel numbers in the protocol's actions."""
    for action in root.iter():
        if local(action).startswith(_ACQUIRE):
            yield from (channel.text or "" for channel in action if local(channel) == "Ch")


def _by_channel(elements: Iterator[Element] | list[Element]) -> Iterator[tuple[str, dict[str, str]]]:
    """Channel id and what its element says; one without a number is none."""
    for element in elements:
        said = _said(element)
        number = _count(said.get("Ch"))
        if number is not None:
            yield channel_id(number), said


def _said(element: Element) -> dict[str, str]:
    """An element's attributes without their namespace, and the text of its children, one a line."""
    said = {name.rpartition("}")[2]: value.strip() for name, value in element.attrib.items()}
    for child in element:
        if text := (child.text or "").strip():
            name = local(child)
            said[name] = f"{said[name]}\n{text}" if name in said else text
    return said


def _root(path: Path, *names: str) -> Element | None:
    """The root of an XML file if it is called by one of the names; None for any other file."""
    try:
        with path.open("rb") as stream:
            root = parse(stream).getroot()
    except (ParseError, DefusedXmlException, ValueError, LookupError):  # the latter: no such encoding
        return None
    return root if isinstance(root, Element) and local(root) in names else None


def _count(text: str | None) -> int | None:
    """A number from 1; None for anything else."""
    value = (text or "").strip()
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 9 and int(value) > 0 else None
