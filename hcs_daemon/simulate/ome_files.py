"""OME-TIFF: one file a well and site, with all its channels, z steps and time points, and OME-XML that says which.

As the OME-TIFF specification wants it of a set of files, the XML of each describes them all, and so promises the plate;
where there are more than `_MOST_IMAGES` that would be too much, and each describes itself.
"""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from hcs_daemon.instruments.ome import OmeTiff
from hcs_daemon.plate import WellPosition
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.measurement import Image, Manner, Measurement, PlaneInfo, Written
from hcs_daemon.simulate.ome_xml import Run, SiteImage, ome_xml
from hcs_daemon.tiff import encode_pages

_MOST_IMAGES = 400


class OmeFiles:
    """Deflated pages, z steps first, then channels, then time points."""

    manner = Manner("ome", CHANNELS, lapse_in_a_file=True)

    def image_files(self, measurement: Measurement, images: Sequence[Image]) -> list[Written]:
        """One file; none where no plane was taken."""
        if not images:
            return []
        first = images[0][0]
        text = description(measurement, first.position, first.site, [plane for plane, _ in images])
        data = encode_pages([pixels for _, pixels in images], description=text, compression="deflate")
        return [Written(file_path(measurement, first.position, first.site), data)]

    def metadata_files(self, measurement: Measurement, planes: Sequence[PlaneInfo], done: int) -> Iterator[Written]:  # noqa: ARG002 (there is none)
        """Nothing: it is all in the files."""
        return iter(())


def file_path(measurement: Measurement, position: WellPosition, site: int) -> PurePosixPath:
    """The file of a well and site."""
    return OmeTiff().plane_path(measurement.address(PlaneInfo(position, site, 1, CHANNELS[0], 0), CHANNELS[0]))


def description(measurement: Measurement, position: WellPosition, site: int, taken: Sequence[PlaneInfo]) -> str:
    """The OME-XML of one site's file. taken: its pages in order; of the other files all planes are announced."""
    own = (position, site)
    places = [(well, number) for well in measurement.positions for number in range(1, measurement.sites + 1)]
    if len(places) > _MOST_IMAGES:
        places = [own]
    images = [_image(measurement, *place, taken if place == own else ()) for place in places]
    return ome_xml(measurement, _uuid(measurement, position, site), images)


def _image(measurement: Measurement, position: WellPosition, site: int, taken: Sequence[PlaneInfo]) -> SiteImage:
    file, uuid = file_path(measurement, position, site).name, _uuid(measurement, position, site)
    pages = measurement.z_steps * len(CHANNELS) * measurement.time_points
    if len(taken) in {0, pages}:
        return SiteImage(position, site, (Run(file, uuid, count=pages),), taken)
    return SiteImage(
        position, site, tuple(Run(file, uuid, page=page, plane=plane) for page, plane in enumerate(taken)), taken
    )


def _uuid(measurement: Measurement, position: WellPosition, site: int) -> str:
    return f"urn:uuid:{measurement.guid(position.name, site).lower()}"
