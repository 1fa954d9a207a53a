"""What Gen5 writes on a BioTek Cytation: all it says of a plane stands in the plane's own description."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from hcs_daemon.instruments.cytation import Cytation
from hcs_daemon.simulate.measurement import (
    EXPOSURE_MS,
    FILTERS,
    Z_STEP_UM,
    Image,
    Manner,
    Measurement,
    PlaneInfo,
    Written,
    block_edge,
)
from hcs_daemon.tiff import encode_pages


class CytationFiles:
    """LZW planes with a `BTIImageMetaData` in their description."""

    manner = Manner("cytation", ("1", "2", "3", "4", "5"))

    def image_files(self, measurement: Measurement, images: Sequence[Image]) -> list[Written]:
        """A file a plane."""
        return [
            Written(
                Cytation().plane_path(measurement.address(plane, str(plane.channel_id), name=plane.channel)),
                encode_pages([pixels], description=description(plane, measurement), compression="lzw"),
            )
            for plane, pixels in images
        ]

    def metadata_files(self, measurement: Measurement, planes: Sequence[PlaneInfo], done: int) -> Iterator[Written]:  # noqa: ARG002 (there is none)
        """Nothing."""
        return iter(())


def description(plane: PlaneInfo, measurement: Measurement) -> str:
    """The XML of a plane. Elements as Bio-Formats' BioTekReader knows them."""
    excitation, emission = FILTERS[plane.channel]
    edge = block_edge(measurement.sites)
    row, column = divmod(plane.site - 1, edge)
    well = f"{plane.position.name[:-2]}{plane.position.column}"
    return f"""\
<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<BTIImageMetaData Version="29">
  <System><Gen5><Version>simulated</Version></Gen5></System>
  <ImageReference>
    <Date>{plane.taken_at:%m/%d/%y}</Date>
    <Time>{plane.taken_at:%H:%M:%S}</Time>
    <Plate>{escape(measurement.plate)}</Plate>
    <Well>{well}</Well>
    <MeasurementIndex>{plane.time}</MeasurementIndex>
    <HorizontalIndex>{column + 1}</HorizontalIndex>
    <HorizontalTotal>{edge}</HorizontalTotal>
    <VerticalIndex>{row + 1}</VerticalIndex>
    <VerticalTotal>{-(-measurement.sites // edge)}</VerticalTotal>
    <ZStackIndex>{plane.z}</ZStackIndex>
    <ZStackTotal>{measurement.z_steps}</ZStackTotal>
    <ZStackStepSizeMicrons>{Z_STEP_UM:g}</ZStackStepSizeMicrons>
  </ImageReference>
  <ImageAcquisition>
    <ObjectiveSize>10</ObjectiveSize>
    <NumericalAperture>0.3</NumericalAperture>
    <PixelWidth>{measurement.size_px}</PixelWidth>
    <PixelHeight>{measurement.size_px}</PixelHeight>
    <ImageWidthMicrons>{measurement.field_um:.6g}</ImageWidthMicrons>
    <ImageHeightMicrons>{measurement.field_um:.6g}</ImageHeightMicrons>
    <ShutterSpeedMS>{EXPOSURE_MS:g}</ShutterSpeedMS>
    <Channel Color={quoteattr(f"{plane.channel} {excitation},{emission}")}>
      <BrightField>FALSE</BrightField>
      <ExcitationWavelength>{excitation}</ExcitationWavelength>
      <EmissionWavelength>{emission}</EmissionWavelength>
    </Channel>
  </ImageAcquisition>
</BTIImageMetaData>
"""
