"""What an IN Cell Analyzer writes: plain planes, and an `.xdce` that names them all.

Elements and attributes as Bio-Formats' InCellReader knows them; row and column are counted from 1, the indices of an
image's `Identifier` from 0.
"""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from xml.sax.saxutils import quoteattr

from hcs_daemon.instruments.incell import InCell
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
    block_edge,
    site_centre_um,
)
from hcs_daemon.tiff import encode_pages


class InCellFiles:
    """Plain planes; the `.xdce` comes at the end."""

    manner = Manner("incell", CHANNELS)

    def image_files(self, measurement: Measurement, images: Sequence[Image]) -> list[Written]:
        """A file a plane."""
        return [Written(plane_path(plane, measurement), encode_pages([pixels])) for plane, pixels in images]

    def metadata_files(self, measurement: Measurement, planes: Sequence[PlaneInfo], done: int) -> Iterator[Written]:
        """The list of images, once everything is there."""
        if done == len(planes):
            text = "\n".join(_lines(measurement, planes))
            yield Written(
                measurement.folder / f"{measurement.plate}.xdce", text.encode("iso-8859-1", "xmlcharrefreplace")
            )


def plane_path(plane: PlaneInfo, measurement: Measurement) -> PurePosixPath:
    """`<plate>__<measurement>/B - 03(fld 1 wv DNA).tif`."""
    return InCell().plane_path(measurement.address(plane, plane.channel))


def _lines(measurement: Measurement, planes: Sequence[PlaneInfo]) -> Iterator[str]:
    edge = block_edge(measurement.sites)
    yield '<?xml version="1.0" encoding="ISO-8859-1" standalone="no"?>'
    yield f"<ImageStack PlateID={quoteattr(measurement.plate)}>"
    yield f'<UUID value="{measurement.identity}"/>'
    yield '<Application name="IN Cell Analyzer, simulated" software_version="simulated"/>'
    yield f'<Creation date="{STARTED:%Y-%m-%d}" time="{STARTED:%H:%M:%S}"/>'
    yield '<AutoLeadAcquisitionProtocol name="simulated">'
    yield '<Microscopy type="Fluorescence"/>'
    yield (
        f'<ObjectiveCalibration magnification="10.0" numerical_aperture="0.3" objective_name="10X/0.3"'
        f' pixel_height="{measurement.pixel_size_um:g}" pixel_width="{measurement.pixel_size_um:g}" unit="um"/>'
    )
    yield '<Camera name="simulated"><Binning value="2 X 2"/>'
    yield f'<Size height="{measurement.size_px}" width="{measurement.size_px}"/></Camera>'
    yield (
        f'<Plate columns="{measurement.columns}" rows="{measurement.rows}"'
        f" name={quoteattr(f'{measurement.wells} wells, simulated')}/>"
    )
    yield "<PlateMap>"
    yield (
        f'<NamingConvention columns="{measurement.columns}" column="Numbers" rows="{measurement.rows}" row="Letters"/>'
    )
    yield f'<FieldOfView fields="{measurement.sites}" columns="{edge}" rows="{-(-measurement.sites // edge)}"/>'
    yield "</PlateMap>"
    yield "<Wavelengths>"
    for index, channel in enumerate(CHANNELS):
        yield from _wavelength(measurement, index, channel)
    yield "</Wavelengths>"
    yield "</AutoLeadAcquisitionProtocol>"
    yield f'<Images number="{len(planes)}" path={quoteattr(measurement.plate)}>'
    for plane in planes:
        yield from _image(measurement, plane)
    yield "</Images>"
    yield "</ImageStack>"


def _wavelength(measurement: Measurement, index: int, channel: str) -> Iterator[str]:
    excitation, emission = FILTERS[channel]
    mode = "3-D" if measurement.z_steps > 1 else "2-D"
    yield (
        f'<Wavelength index="{index}" imaging_mode="{mode}" show="true" z_section="{Z_STEP_UM * measurement.z_steps:g}"'
        f' z_slice="{measurement.z_steps}" z_step="{Z_STEP_UM:g}">'
    )
    yield f'<ExcitationFilter name="{channel}" unit="nm" wavelength="{excitation}"/>'
    yield f'<EmissionFilter name="{channel}" unit="nm" wavelength="{emission}"/>'
    yield f'<Exposure time="{EXPOSURE_MS:g}" unit="ms"/>'
    yield "</Wavelength>"


def _image(measurement: Measurement, plane: PlaneInfo) -> Iterator[str]:
    position = plane.position
    y, x = site_centre_um(plane.site, measurement.sites, measurement.field_um)
    milliseconds = (plane.taken_at - STARTED).total_seconds() * 1000
    yield f'<Image acquisition_time_ms="{milliseconds:.1f}" filename={quoteattr(plane_path(plane, measurement).name)}>'
    yield f'<Well label="{position.name[:-2]} - {position.column}">'
    yield f'<Row number="{position.row}"/><Column number="{position.column}"/></Well>'
    yield f'<FocusPosition unit="um" z="{measurement.height_um(plane):g}"/>'
    yield f'<OffsetFromWellCenter unit="um" x="{x:g}" y="{y:g}"/>'
    yield f'<Exposure time="{EXPOSURE_MS:g}" unit="ms"/>'
    yield f'<EmissionFilter name="{plane.channel}"/><ExcitationFilter name="{plane.channel}"/>'
    yield (
        f'<Identifier field_index="{plane.site - 1}" time_index="{plane.time - 1}"'
        f' wave_index="{plane.channel_id - 1}" z_index="{plane.z - 1}"/>'
    )
    yield "</Image>"
