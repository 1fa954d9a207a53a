"""What Harmony writes beside the pixels: a plane's own address in its tag, and the index of the measurement."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.plate import WellPosition
from hcs_daemon.simulate.measurement import (
    FILTERS,
    PLANE_S,
    STARTED,
    Image,
    Manner,
    Measurement,
    PlaneInfo,
    Written,
    site_centre_um,
)
from hcs_daemon.tiff import encode_plane

_NAMESPACE = "http://www.perkinelmer.com/PEHH/HarmonyV6"


class HarmonyFiles:
    """LZW planes with their address and statistics in tags; `Index.xml` comes last."""

    manner = Manner("harmony", ("1", "2", "3", "4", "5"))

    def image_files(self, measurement: Measurement, images: Sequence[Image]) -> list[Written]:
        """A file a plane."""
        return [
            Written(
                plane_path(plane, measurement),
                encode_plane(pixels, harmony_xml=tag_xml(plane, measurement), statistics_json=statistics_json(pixels)),
            )
            for plane, pixels in images
        ]

    def metadata_files(self, measurement: Measurement, planes: Sequence[PlaneInfo], done: int) -> Iterator[Written]:
        """The index, once everything is there."""
        if done == len(planes):
            yield Written(measurement.folder / "Images" / "Index.xml", index_xml(measurement, planes))


def plane_path(plane: PlaneInfo, measurement: Measurement) -> PurePosixPath:
    """`<plate>__<measurement>/Images/r02c03f01p01-ch1sk1fk1fl1.tiff`."""
    return Harmony().plane_path(measurement.address(plane, str(plane.channel_id)))


def tag_xml(plane: PlaneInfo, measurement: Measurement) -> str:
    """The text of tag 65500: the plane's own address, in the manner of Harmony V7."""
    position = plane.position
    return f"""\
    <TiffImageInfo xmlns="43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7">
        <MeasurementID>{measurement.identity}</MeasurementID>
        <Image Version="1">
            <Row>{position.row}</Row>
            <Col>{position.column}</Col>
            <FieldID>{plane.site}</FieldID>
            <PlaneID>{plane.z}</PlaneID>
            <TimepointID>{plane.time}</TimepointID>
            <ExposureID>1</ExposureID>
            <RecordID>{plane.channel_id}</RecordID>
            <ChannelID>1</ChannelID>
            <FlimID>1</FlimID>
            <AbsTime>{_clock(plane.taken_at)}</AbsTime>
        </Image>
        <State>ImageRegular</State>
    </TiffImageInfo>
"""


def statistics_json(pixels: NDArray[np.uint16]) -> str:
    """The text of tag 65520: mean, deviation (n - 1), minimum and maximum of the raw counts."""
    return json.dumps(
        {
            "mean": float(pixels.mean(dtype=np.float64)),
            "stddev": float(pixels.std(dtype=np.float64, ddof=1)),
            "min": int(pixels.min()),
            "max": int(pixels.max()),
        },
        separators=(",", ":"),
    )


def index_xml(measurement: Measurement, planes: Iterable[PlaneInfo]) -> bytes:
    """`Index.xml` of the measurement, in the manner of Harmony V6: plate, wells, and an entry for every plane."""
    images = list(planes)
    return "\n".join(
        [*_head(measurement, images), *_images(measurement, images), "</EvaluationInputData>", ""]
    ).encode()


def _head(measurement: Measurement, planes: list[PlaneInfo]) -> Iterator[str]:
    by_well: dict[WellPosition, list[PlaneInfo]] = {}
    for plane in planes:
        by_well.setdefault(plane.position, []).append(plane)
    wells = sorted(by_well)
    plate = escape(measurement.plate)
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield f'<EvaluationInputData xmlns="{_NAMESPACE}" Version="1">'
    yield "  <User>simulated</User>"
    yield "  <InstrumentType>Phenix</InstrumentType>"
    yield "  <Plates>"
    yield "    <Plate>"
    yield f"      <PlateID>{plate}</PlateID>"
    yield f"      <MeasurementID>{measurement.identity}</MeasurementID>"
    yield f"      <MeasurementStartTime>{STARTED.isoformat()}</MeasurementStartTime>"
    yield f"      <Name>{plate}</Name>"
    yield f"      <PlateTypeName>{measurement.wells} wells, simulated</PlateTypeName>"
    yield f"      <PlateRows>{measurement.rows}</PlateRows>"
    yield f"      <PlateColumns>{measurement.columns}</PlateColumns>"
    yield from (f'      <Well id="{_well_id(position)}" />' for position in wells)
    yield "    </Plate>"
    yield "  </Plates>"
    yield "  <Wells>"
    for position in wells:
        yield "    <Well>"
        yield f"      <id>{_well_id(position)}</id>"
        yield f"      <Row>{position.row}</Row>"
        yield f"      <Col>{position.column}</Col>"
        yield from (f'      <Image id="{_image_id(plane)}" />' for plane in by_well[position])
        yield "    </Well>"
    yield "  </Wells>"


def _images(measurement: Measurement, planes: list[PlaneInfo]) -> Iterator[str]:
    yield "  <Images>"
    for plane in planes:
        yield _image(measurement, plane)
    yield "  </Images>"


def _image(measurement: Measurement, plane: PlaneInfo) -> str:
    metres = f"{measurement.pixel_size_um * 1e-6:.10E}"
    y, x = site_centre_um(plane.site, measurement.sites, measurement.field_um)
    excitation, emission = FILTERS[plane.channel]
    return f"""\
    <Image Version="1">
      <id>{_image_id(plane)}</id>
      <State>Ok</State>
      <URL>{plane_path(plane, measurement).name}</URL>
      <Row>{plane.position.row}</Row>
      <Col>{plane.position.column}</Col>
      <FieldID>{plane.site}</FieldID>
      <PlaneID>{plane.z}</PlaneID>
      <TimepointID>{plane.time}</TimepointID>
      <ChannelID>{plane.channel_id}</ChannelID>
      <FlimID>1</FlimID>
      <ChannelName>{plane.channel}</ChannelName>
      <ImageType>Signal</ImageType>
      <AcquisitionType>NonConfocal</AcquisitionType>
      <IlluminationType>Epifluorescence</IlluminationType>
      <ChannelType>Fluorescence</ChannelType>
      <ImageResolutionX Unit="m">{metres}</ImageResolutionX>
      <ImageResolutionY Unit="m">{metres}</ImageResolutionY>
      <ImageSizeX>{measurement.size_px}</ImageSizeX>
      <ImageSizeY>{measurement.size_px}</ImageSizeY>
      <BinningX>2</BinningX>
      <BinningY>2</BinningY>
      <MaxIntensity>65535</MaxIntensity>
      <CameraType>SimulatedCamera</CameraType>
      <PositionX Unit="m">{x * 1e-6:.9f}</PositionX>
      <PositionY Unit="m">{y * 1e-6:.9f}</PositionY>
      <PositionZ Unit="m">{_height(plane, measurement)}</PositionZ>
      <MeasurementTimeOffset Unit="s">{PLANE_S * plane.number:.1f}</MeasurementTimeOffset>
      <AbsTime>{_clock(plane.taken_at)}</AbsTime>
      <MainExcitationWavelength Unit="nm">{excitation}</MainExcitationWavelength>
      <MainEmissionWavelength Unit="nm">{emission}</MainEmissionWavelength>
      <ObjectiveMagnification Unit="">10</ObjectiveMagnification>
      <ObjectiveNA Unit="">0.3</ObjectiveNA>
      <ExposureTime Unit="s">0.1</ExposureTime>
    </Image>"""


def _height(plane: PlaneInfo, measurement: Measurement) -> str:
    above = measurement.height_um(plane)
    return f"{(2.0 + above) * 1e-6:.7f}" if above else "2E-06"


def _clock(moment: datetime) -> str:
    """UTC, as Harmony writes it."""
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def _well_id(position: WellPosition) -> str:
    return f"{position.row:02d}{position.column:02d}"


def _image_id(plane: PlaneInfo) -> str:
    return f"{_well_id(plane.position)}K{plane.time}F{plane.site}P{plane.z}R{plane.channel_id}"
