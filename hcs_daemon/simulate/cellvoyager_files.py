"""What a Yokogawa CellVoyager (CV7000, CV8000) writes beside the pixels, with the attributes of a real CV8000 plate.

`MeasurementData.mlf` grows while the plate is imaged and has a record for each plane, `ERR` for one that failed.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from hcs_daemon.instruments.cellvoyager import CellVoyager
from hcs_daemon.simulate.camera import OFFSET_COUNTS, illumination
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.measurement import (
    EXPOSURE_MS,
    FILTERS,
    STARTED,
    Z_STEP_UM,
    Image,
    Manner,
    Measurement,
    PlaneInfo,
    Written,
    site_centre_um,
)
from hcs_daemon.simulate.seeds import generator
from hcs_daemon.tiff import encode_pages

_SCHEMA = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
_DARK = "DC_SIM#1_CAM1.tif"
_PLATE_TYPE = "simulated.wpp"
_PROTOCOL = "simulated.mes"
_STATES = 8  # of the growing .mlf
_INPUT_LEVEL = 10000
_BAND_NM = 40


class CellVoyagerFiles:
    """Plain planes; protocol, plate and correction images first, the record of planes along the way and at the end."""

    manner = Manner("cellvoyager", ("C01", "C02", "C03", "C04", "C05"))

    def image_files(self, measurement: Measurement, images: Sequence[Image]) -> list[Written]:
        """A file a plane."""
        return [
            Written(plane_path(plane, measurement), encode_pages([pixels], compression="deflate"))
            for plane, pixels in images
        ]

    def metadata_files(self, measurement: Measurement, planes: Sequence[PlaneInfo], done: int) -> Iterator[Written]:
        """What is known at the start; then the growing record; at the end the whole record and when it ended."""
        folder = measurement.folder
        if done == 0:
            yield Written(folder / _PLATE_TYPE, plate_type_xml(measurement).encode())
            yield Written(folder / f"{measurement.plate}.wpi", plate_xml(measurement).encode())
            yield Written(folder / _PROTOCOL, protocol_xml(measurement).encode())
            yield from _corrections(measurement)
        if done in {0, len(planes)}:
            yield Written(folder / "MeasurementDetail.mrf", detail_xml(measurement, planes, done).encode(), whole=True)
        if _next_state(measurement, planes, done):
            text = records_xml(measurement, planes[:done])
            yield Written(folder / "MeasurementData.mlf", text.encode(), whole=True)


def plane_path(plane: PlaneInfo, measurement: Measurement) -> PurePosixPath:
    """`<plate>__<measurement>/<plate>_B03_T0001F001L01A01Z01C01.tif`."""
    return CellVoyager().plane_path(measurement.address(plane, _channel_id(plane.channel_id)))


def records_xml(measurement: Measurement, planes: Sequence[PlaneInfo]) -> str:
    """`MeasurementData.mlf` once these planes have been tried."""
    return _document("MeasurementData", {}, [_record(measurement, plane) for plane in planes])


def detail_xml(measurement: Measurement, planes: Sequence[PlaneInfo], done: int) -> str:
    """`MeasurementDetail.mrf`: the plate's shape, and how each channel is taken; when it ended, once it has."""
    facts: dict[str, object] = {
        "OperatorName": "simulated",
        "Title": measurement.plate,
        "Application": "",
        "BeginTime": STARTED.isoformat(),
        **({"EndTime": planes[-1].taken_at.isoformat()} if done == len(planes) else {}),
        "MeasurementSettingFileName": _PROTOCOL,
        "ColumnCount": measurement.columns,
        "RowCount": measurement.rows,
        "TimePointCount": measurement.time_points,
        "FieldCount": measurement.sites,
        "ZCount": measurement.z_steps,
        "TargetSystem": "CV8000",
        "ReleaseNumber": "simulated",
        "Status": 0,
    }
    plate = {
        "Name": measurement.plate,
        "WellPlateFileName": f"{measurement.plate}.wpi",
        "WellPlateProductFileName": _PLATE_TYPE,
    }
    channels = [_detail_channel(measurement, number) for number in range(1, len(CHANNELS) + 1)]
    return _document("MeasurementDetail", facts, [_tag("MeasurementSamplePlate", plate), *channels])


def protocol_xml(measurement: Measurement) -> str:
    """The `.mes`: which wells and sites are visited, and how each channel is lit and filtered."""
    stack = measurement.z_steps > 1
    action, slices = ("ActionAcquire3D", {"SliceLength": Z_STEP_UM}) if stack else ("ActionAcquire2D", {})
    centres = [_centre(measurement, site) for site in range(1, measurement.sites + 1)]
    lines = [
        "<bts:Timelapse>",
        '<bts:Timeline bts:Name="Time Line 1" bts:InitialTime="0">',
        '<bts:WellSequence bts:IsSelected="true">',
        *(
            _tag("TargetWell", {"Column": position.column, "Row": position.row}, "true")
            for position in measurement.positions
        ),
        "</bts:WellSequence>",
        '<bts:PointSequence bts:Method="FixedPosition">',
        '<bts:FixedPosition bts:IsProportional="false">',
        *(_tag("Point", {"X": f"{x:g}", "Y": f"{y:g}"}) for x, y in centres),
        "</bts:FixedPosition>",
        "</bts:PointSequence>",
        '<bts:ActionList bts:RunMode="sequential">',
        *(
            f"{_tag(action, slices).removesuffix(' />')}><bts:Ch>{number}</bts:Ch></bts:{action}>"
            for number in range(1, len(CHANNELS) + 1)
        ),
        "</bts:ActionList>",
        "</bts:Timeline>",
        "</bts:Timelapse>",
        "<bts:LightSourceList>",
        *(
            _tag("LightSource", {"Name": _light(name), "Type": "Laser", "WaveLength": FILTERS[name][0], "Power": 100})
            for name in CHANNELS
        ),
        "</bts:LightSourceList>",
        "<bts:ChannelList>",
        *(line for number, name in enumerate(CHANNELS, start=1) for line in _protocol_channel(number, name)),
        "</bts:ChannelList>",
    ]
    return _document("MeasurementSetting", {"Columns": measurement.columns, "Rows": measurement.rows}, lines)


def plate_xml(measurement: Measurement) -> str:
    """The `.wpi`: this plate."""
    facts = {
        "Name": measurement.plate,
        "ProductID": "simulated",
        "Usage": "SamplePlate",
        "DensityUnit": "uM",
        "Columns": measurement.columns,
        "Rows": measurement.rows,
    }
    return _document("WellPlate", facts, [])


def plate_type_xml(measurement: Measurement) -> str:
    """The `.wpp`: plates of this kind."""
    facts = {
        "Name": f"{measurement.wells} wells, simulated",
        "ProductID": "simulated",
        "Columns": measurement.columns,
        "Rows": measurement.rows,
    }
    return _document("WellPlateProduct", facts, [])


def _document(name: str, facts: Mapping[str, object], lines: Sequence[str]) -> str:
    root = _tag(name, {"Version": "1.0", **facts}).removesuffix(" />")
    return "\n".join(['<?xml version="1.0" encoding="utf-8"?>', f"{root} {_SCHEMA}>", *lines, f"</bts:{name}>", ""])


def _tag(name: str, facts: Mapping[str, object], text: str | None = None) -> str:
    words = "".join(f" bts:{key}={quoteattr(str(value))}" for key, value in facts.items())
    return f"<bts:{name}{words} />" if text is None else f"<bts:{name}{words}>{escape(text)}</bts:{name}>"


def _channel_id(number: int) -> str:
    return f"C{number:02d}"


def _shading_name(number: int) -> str:
    return f"SC_BP{FILTERS[CHANNELS[number - 1]][1]}-{_BAND_NM}_10x_M01_CH{number:02d}.tif"


def _corrections(measurement: Measurement) -> Iterator[Written]:
    """The lamp's own shape for each channel, on the camera's offset, and the offset alone."""
    for number, channel in enumerate(CHANNELS, start=1):
        rng = generator(measurement.seed, measurement.plate, channel, "lamp")
        lamp = illumination(measurement.size_px, measurement.pixel_size_um, rng)
        counts = np.rint(OFFSET_COUNTS + _INPUT_LEVEL * lamp).astype(np.uint16)
        yield Written(measurement.folder / _shading_name(number), encode_pages([counts], compression="deflate"))
    rng = generator(measurement.seed, measurement.plate, "dark")
    noise = rng.normal(OFFSET_COUNTS, 2.0, (measurement.size_px, measurement.size_px))
    yield Written(measurement.folder / _DARK, encode_pages([np.rint(noise).astype(np.uint16)], compression="deflate"))


def _next_state(measurement: Measurement, planes: Sequence[PlaneInfo], done: int) -> bool:
    """Whether the site just imaged began another share of the plate; so too at the start."""
    before = done - len(CHANNELS) * measurement.z_steps
    return done * _STATES // len(planes) > before * _STATES // len(planes)


def _centre(measurement: Measurement, site: int) -> tuple[float, float]:
    """A site's x and y, in micrometres from the well's centre."""
    y, x = site_centre_um(site, measurement.sites, measurement.field_um)
    return x, y


def _record(measurement: Measurement, plane: PlaneInfo) -> str:
    failed = plane.number in measurement.not_taken
    x, y = _centre(measurement, plane.site)
    facts = {
        "Type": "ERR" if failed else "IMG",
        "Time": plane.taken_at.isoformat(timespec="milliseconds"),
        "Column": plane.position.column,
        "Row": plane.position.row,
        "TimePoint": plane.time,
        "FieldIndex": plane.site,
        "ZIndex": plane.z,
        "TimelineIndex": 1,
        "ActionIndex": plane.channel_id,
        "Action": "3D" if measurement.z_steps > 1 else "2D",
        "X": f"{x:g}",
        "Y": f"{y:g}",
        "Z": f"{measurement.height_um(plane):g}",
        "Ch": plane.channel_id,
    }
    what = "the focus was not found" if failed else plane_path(plane, measurement).name
    return _tag("MeasurementRecord", facts, what)


def _detail_channel(measurement: Measurement, number: int) -> str:
    facts = {
        "Ch": number,
        "HorizontalPixelDimension": f"{measurement.pixel_size_um:g}",
        "VerticalPixelDimension": f"{measurement.pixel_size_um:g}",
        "CameraNumber": 1,
        "InputBitDepth": 16,
        "InputLevel": _INPUT_LEVEL,
        "HorizontalPixels": measurement.size_px,
        "VerticalPixels": measurement.size_px,
        "FilterWheelPosition": 1,
        "FilterPosition": number,
        "ShadingCorrectionSource": _shading_name(number),
        "ObjectiveMagnificationRatio": 1,
    }
    return _tag("MeasurementChannel", facts)


def _protocol_channel(number: int, name: str) -> list[str]:
    facts = {
        "Ch": number,
        "Target": name,
        "Objective": "10x",
        "Magnification": 10,
        "Acquisition": f"BP{FILTERS[name][1]}/{_BAND_NM}",
        "ExposureTime": f"{EXPOSURE_MS:g}",
        "Binning": 2,
        "Kind": "ConfocalFluorescence",
        "InputLevel": _INPUT_LEVEL,
        "Fluorophore": name,
    }
    opened = _tag("Channel", facts).removesuffix(" />")
    return [f"{opened}>", _tag("LightSourceName", {}, _light(name)), "</bts:Channel>"]


def _light(channel: str) -> str:
    return f"{FILTERS[channel][0]}nm"
