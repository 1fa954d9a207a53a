"""OME-XML, as it stands in OME-TIFF files and beside those of a ScanR.

The text follows the OME schema of 2016-06 (docs.openmicroscopy.org/ome-model).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.sax.saxutils import quoteattr

from hcs_daemon.plate import WellPosition
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.measurement import EXPOSURE_MS, FILTERS, STARTED, Z_STEP_UM, Measurement, PlaneInfo

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


@dataclass(frozen=True, slots=True)
class Run:
    """Pages of a file that follow each other.

    uuid: of the file. page: the first one, from 0. plane: what that shows; None: the site's first plane.
    """

    file: str
    uuid: str
    page: int = 0
    count: int = 1
    plane: PlaneInfo | None = None


@dataclass(frozen=True, slots=True)
class SiteImage:
    """A site. runs: where its pages are, z steps first, then channels, then time points. planes: those described."""

    position: WellPosition
    site: int
    runs: Sequence[Run]
    planes: Sequence[PlaneInfo]


def ome_xml(measurement: Measurement, uuid: str, images: Sequence[SiteImage]) -> str:
    """A document. uuid: of the file that it stands in. images: those of a well one after the other."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<OME xmlns="{_SCHEMA}" UUID="{uuid}" Creator="hcs-daemon simulated instrument">',
        *_plate(measurement, images),
        '<Instrument ID="Instrument:0">',
        '<Objective ID="Objective:0" NominalMagnification="10" LensNA="0.3"/>',
        "</Instrument>",
        *(line for number, image in enumerate(images) for line in _image(measurement, number, image)),
        "</OME>",
        "",
    ]
    return "\n".join(lines)


def _plate(measurement: Measurement, images: Sequence[SiteImage]) -> Iterator[str]:
    yield (
        f'<Plate ID="Plate:0" Name={quoteattr(measurement.plate)} Rows="{measurement.rows}"'
        f' Columns="{measurement.columns}" RowNamingConvention="letter" ColumnNamingConvention="number">'
    )
    for position, samples in groupby(enumerate(images), lambda image: image[1].position):
        row, column = position.row - 1, position.column - 1
        yield f'<Well ID="Well:{row}:{column}" Row="{row}" Column="{column}">'
        for number, _ in samples:
            yield f'<WellSample ID="WellSample:{number}" Index="{number}"><ImageRef ID="Image:{number}"/></WellSample>'
        yield "</Well>"
    yield "</Plate>"


def _image(measurement: Measurement, number: int, image: SiteImage) -> Iterator[str]:
    size, pixel = measurement.size_px, f"{measurement.pixel_size_um:g}"
    yield f'<Image ID="Image:{number}" Name="{image.position.name} site {image.site}">'
    yield f"<AcquisitionDate>{STARTED:%Y-%m-%dT%H:%M:%S}</AcquisitionDate>"
    yield '<InstrumentRef ID="Instrument:0"/><ObjectiveSettings ID="Objective:0"/>'
    yield (
        f'<Pixels ID="Pixels:{number}" DimensionOrder="XYZCT" Type="uint16" BigEndian="false" SizeX="{size}"'
        f' SizeY="{size}" SizeZ="{measurement.z_steps}" SizeC="{len(CHANNELS)}" SizeT="{measurement.time_points}"'
        f' PhysicalSizeX="{pixel}" PhysicalSizeXUnit="µm" PhysicalSizeY="{pixel}" PhysicalSizeYUnit="µm"'
        f' PhysicalSizeZ="{Z_STEP_UM:g}" PhysicalSizeZUnit="µm">'
    )
    for index, channel in enumerate(CHANNELS):
        excitation, emission = FILTERS[channel]
        yield (
            f'<Channel ID="Channel:{number}:{index}" Name="{channel}" SamplesPerPixel="1"'
            f' ExcitationWavelength="{excitation}" ExcitationWavelengthUnit="nm"'
            f' EmissionWavelength="{emission}" EmissionWavelengthUnit="nm"/>'
        )
    yield from map(_tiff_data, image.runs)
    yield from (
        f'<Plane TheZ="{plane.z - 1}" TheC="{plane.channel_id - 1}" TheT="{plane.time - 1}"'
        f' ExposureTime="{EXPOSURE_MS:g}" ExposureTimeUnit="ms" PositionZ="{measurement.height_um(plane):g}"'
        ' PositionZUnit="µm"/>'
        for plane in image.planes
    )
    yield "</Pixels></Image>"


def _tiff_data(run: Run) -> str:
    plane = run.plane
    first = (
        f' FirstZ="{plane.z - 1}" FirstC="{plane.channel_id - 1}" FirstT="{plane.time - 1}"'
        if plane is not None
        else ""
    )
    return (
        f'<TiffData IFD="{run.page}" PlaneCount="{run.count}"{first}>'
        f"<UUID FileName={quoteattr(run.file)}>{run.uuid}</UUID></TiffData>"
    )
