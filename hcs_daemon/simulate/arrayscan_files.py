"""What a Cellomics ArrayScan writes: planes without a word beside the pixels, and no metadata that anybody reads."""

from collections.abc import Iterator, Sequence

from hcs_daemon.instruments.arrayscan import ArrayScan
from hcs_daemon.simulate.measurement import Image, Manner, Measurement, PlaneInfo, Written
from hcs_daemon.tiff import encode_pages


class ArrayScanFiles:
    """Plain planes, uncompressed; their names know neither z nor time.

    A real plate's channels are counted from d0; d1 to d5 are written, so that they have the numbers of the others.
    """

    manner = Manner("arrayscan", ("d1", "d2", "d3", "d4", "d5"), stacks=False, lapses=False, pixel_size=False)

    def image_files(self, measurement: Measurement, images: Sequence[Image]) -> list[Written]:
        """A file a plane."""
        return [
            Written(
                ArrayScan().plane_path(measurement.address(plane, f"d{plane.channel_id}")),
                encode_pages([pixels], software=""),
            )
            for plane, pixels in images
        ]

    def metadata_files(self, measurement: Measurement, planes: Sequence[PlaneInfo], done: int) -> Iterator[Written]:  # noqa: ARG002 (there is none)
        """Nothing."""
        return iter(())
