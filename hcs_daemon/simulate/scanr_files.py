"""What an Olympus ScanR writes: plain planes in `data`, the experiment's descriptor, and OME-XML that lists the files.

The descriptor is LabVIEW's list of names and values, with the names that Bio-Formats' ScanrReader looks for.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import PurePosixPath
from xml.sax.saxutils import escape

from hcs_daemon.instruments.scanr import ScanR
from hcs_daemon.plate import WellPosition
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.measurement import EXPOSURE_MS, Image, Manner, Measurement, PlaneInfo, Written
from hcs_daemon.simulate.ome_xml import Run, SiteImage, ome_xml
from hcs_daemon.tiff import encode_pages


class ScanRFiles:
    """Plain planes; the descriptor comes first, the list of files last."""

    manner = Manner("scanr", CHANNELS)

    def image_files(self, measurement: Measurement, images: Sequence[Image]) -> list[Written]:
        """A file a plane."""
        return [Written(plane_path(plane, measurement), encode_pages([pixels])) for plane, pixels in images]

    def metadata_files(self, measurement: Measurement, planes: Sequence[PlaneInfo], done: int) -> Iterator[Written]:
        """The descriptor before anything is taken; the list of files once everything is there."""
        if done == 0:
            text = descriptor_xml(measurement)
            yield Written(measurement.folder / "experiment_descriptor.xml", text.encode("latin-1", "xmlcharrefreplace"))
        if done == len(planes):
            yield Written(measurement.folder / "data" / "metadata.ome.xml", files_xml(measurement, planes).encode())


def plane_path(plane: PlaneInfo, measurement: Measurement) -> PurePosixPath:
    """`<plate>__<measurement>/data/B3--W00015--P00001--Z00000--T00000--DNA.tif`."""
    return ScanR().plane_path(measurement.address(plane, plane.channel))


def descriptor_xml(measurement: Measurement) -> str:
    """`experiment_descriptor.xml`: plate, pixel size, and a cluster a channel."""
    facts = {
        "plate name": measurement.plate,
        "conversion factor um/pixel": f"{measurement.pixel_size_um:g}",
        "# slices": measurement.z_steps,
        "timeloop count": measurement.time_points - 1,
    }
    channels = (
        f"<Cluster><Name>channel</Name>{_value('name', channel)}{_value('exposure time', f'{EXPOSURE_MS:g}')}</Cluster>"
        for channel in CHANNELS
    )
    lines = [
        "<?xml version='1.0' standalone='yes' ?>",
        "<LVData>",
        "<Cluster><Name>experiment</Name>",
        *(_value(name, value) for name, value in facts.items()),
        "<Cluster><Name>format typedef</Name>",
        *(_value(name, value) for name, value in {"Rows": measurement.rows, "Columns": measurement.columns}.items()),
        "</Cluster>",
        *channels,
        "</Cluster>",
        "</LVData>",
        "",
    ]
    return "\n".join(lines)


def files_xml(measurement: Measurement, planes: Sequence[PlaneInfo]) -> str:
    """`metadata.ome.xml`: which file holds what."""
    own = f"urn:uuid:{measurement.guid('metadata.ome.xml').lower()}"
    ordered = sorted(planes, key=_place)
    images = []
    for (position, site), group in groupby(ordered, _place):
        of_site = tuple(group)
        runs = tuple(Run(plane_path(plane, measurement).name, own, plane=plane) for plane in of_site)
        images.append(SiteImage(position, site, runs, of_site))
    return ome_xml(measurement, own, images)


def _place(plane: PlaneInfo) -> tuple[WellPosition, int]:
    return plane.position, plane.site


def _value(name: str, value: object) -> str:
    return f"<String><Name>{name}</Name><Val>{escape(str(value))}</Val></String>"
