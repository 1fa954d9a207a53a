"""What Harmony writes beside the pixels: a plane's own address in its tag, and the index of the measurement."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.plate import PLATE_SHAPES, WellPosition

MEASUREMENT = "2024-01-01T00_00_00-Measurement 1"
_STARTED = datetime(2024, 1, 1, tzinfo=UTC)
_PLANE_S = 0.2
_NAMESPACE = "http://www.perkinelmer.com/PEHH/HarmonyV6"
# the wavelengths of the usual Cell Painting filters, nm: (excitation, emission)
_FILTERS = {"DNA": (375, 456), "ER": (475, 525), "RNA": (490, 570), "AGP": (550, 600), "Mito": (630, 708)}


@dataclass(frozen=True, slots=True)
class PlaneInfo:
    """A plane as the instrument knows it. channel_id: counted from 1. number: its place in the measurement, from 0."""

    position: WellPosition
    site: int
    channel_id: int
    channel: str
    number: int

    @property
    def file_name(self) -> str:
        """`r02c03f01p01-ch1sk1fk1fl1.tiff`."""
        position = self.position
        return f"r{position.row:02d}c{position.column:02d}f{self.site:02d}p01-ch{self.channel_id}sk1fk1fl1.tiff"

    @property
    def taken_at(self) -> str:
        """UTC, as Harmony writes it. The simulated clock starts with 2024."""
        return (_STARTED + timedelta(seconds=_PLANE_S * self.number)).isoformat(timespec="milliseconds")[:-6] + "Z"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One imaging of a plate: its name, wells on the plate, edge of a picture in pixels, pixel size in micrometres."""

    plate: str
    wells: int
    sites: int
    size_px: int
    pixel_size_um: float
    identity: UUID


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
            <PlaneID>1</PlaneID>
            <TimepointID>1</TimepointID>
            <ExposureID>1</ExposureID>
            <RecordID>{plane.channel_id}</RecordID>
            <ChannelID>1</ChannelID>
            <FlimID>1</FlimID>
            <AbsTime>{plane.taken_at}</AbsTime>
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
    rows, columns = PLATE_SHAPES[measurement.wells]
    wells = sorted({plane.position for plane in planes})
    plate = escape(measurement.plate)
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield f'<EvaluationInputData xmlns="{_NAMESPACE}" Version="1">'
    yield "  <User>simulated</User>"
    yield "  <InstrumentType>Phenix</InstrumentType>"
    yield "  <Plates>"
    yield "    <Plate>"
    yield f"      <PlateID>{plate}</PlateID>"
    yield f"      <MeasurementID>{measurement.identity}</MeasurementID>"
    yield f"      <MeasurementStartTime>{_STARTED.isoformat()}</MeasurementStartTime>"
    yield f"      <Name>{plate}</Name>"
    yield f"      <PlateTypeName>{measurement.wells} wells, simulated</PlateTypeName>"
    yield f"      <PlateRows>{rows}</PlateRows>"
    yield f"      <PlateColumns>{columns}</PlateColumns>"
    yield from (f'      <Well id="{_well_id(position)}" />' for position in wells)
    yield "    </Plate>"
    yield "  </Plates>"
    yield "  <Wells>"
    for position in wells:
        yield "    <Well>"
        yield f"      <id>{_well_id(position)}</id>"
        yield f"      <Row>{position.row}</Row>"
        yield f"      <Col>{position.column}</Col>"
        yield from (f'      <Image id="{_image_id(plane)}" />' for plane in planes if plane.position == position)
        yield "    </Well>"
    yield "  </Wells>"


def _images(measurement: Measurement, planes: list[PlaneInfo]) -> Iterator[str]:
    yield "  <Images>"
    for plane in planes:
        yield _image(measurement, plane)
    yield "  </Images>"


def _image(measurement: Measurement, plane: PlaneInfo) -> str:
    metres = f"{measurement.pixel_size_um * 1e-6:.10E}"
    y, x = site_centre_um(plane.site, measurement.sites, measurement.size_px * measurement.pixel_size_um)
    excitation, emission = _FILTERS[plane.channel]
    return f"""\
    <Image Version="1">
      <id>{_image_id(plane)}</id>
      <State>Ok</State>
      <URL>{plane.file_name}</URL>
      <Row>{plane.position.row}</Row>
      <Col>{plane.position.column}</Col>
      <FieldID>{plane.site}</FieldID>
      <PlaneID>1</PlaneID>
      <TimepointID>1</TimepointID>
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
      <PositionZ Unit="m">2E-06</PositionZ>
      <MeasurementTimeOffset Unit="s">{_PLANE_S * plane.number:.1f}</MeasurementTimeOffset>
      <AbsTime>{plane.taken_at}</AbsTime>
      <MainExcitationWavelength Unit="nm">{excitation}</MainExcitationWavelength>
      <MainEmissionWavelength Unit="nm">{emission}</MainEmissionWavelength>
      <ObjectiveMagnification Unit="">10</ObjectiveMagnification>
      <ObjectiveNA Unit="">0.3</ObjectiveNA>
      <ExposureTime Unit="s">0.1</ExposureTime>
    </Image>"""


def site_centre_um(site: int, sites: int, field_um: float) -> tuple[float, float]:
    """A site's centre from the well's, in micrometres (y up, x to the right); sites lie in a square block."""
    edge = 1
    while edge * edge < sites:
        edge += 1
    row, column = divmod(site - 1, edge)
    return (edge - 1) / 2 * field_um - row * field_um, column * field_um - (edge - 1) / 2 * field_um


def _well_id(position: WellPosition) -> str:
    return f"{position.row:02d}{position.column:02d}"


def _image_id(plane: PlaneInfo) -> str:
    return f"{_well_id(plane.position)}K1F{plane.site}P1R{plane.channel_id}"
