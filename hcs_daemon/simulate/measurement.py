"""One imaging of a plate, as every simulated instrument knows it, and what it takes to write it in a vendor's way."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Protocol
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.instruments.naming import PlaneAddress
from hcs_daemon.plate import PLATE_SHAPES, AcquisitionId, WellPosition

MEASUREMENT = "2024-01-01T00_00_00-Measurement 1"
STARTED = datetime(2024, 1, 1, tzinfo=UTC)
PLANE_S = 0.2
Z_STEP_UM = 2.0
EXPOSURE_MS = 100.0
OBJECTIVE = "10x, NA 0.3"
FILTERS = {"DNA": (375, 456), "ER": (475, 525), "RNA": (490, 570), "AGP": (550, 600), "Mito": (630, 708)}
"""Of the usual Cell Painting filters, nm: (excitation, emission)."""


@dataclass(frozen=True, slots=True)
class PlaneInfo:
    """A plane as the instrument knows it.

    channel_id, z, time: counted from 1. number: its place in the measurement, from 0.
    """

    position: WellPosition
    site: int
    channel_id: int
    channel: str
    number: int
    z: int = 1
    time: int = 1

    @property
    def taken_at(self) -> datetime:
        """When it was taken. The simulated clock starts with 2024."""
        return STARTED + timedelta(seconds=PLANE_S * self.number)


Image = tuple[PlaneInfo, NDArray[np.uint16]]
"""A plane and its pixels: (size, size) uint16, raw counts."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One imaging of a plate.

    plate: its name. wells: on the plate. size_px: edge of a picture in pixels of `pixel_size_um` micrometres.
    positions: the wells imaged, in their order. not_taken: the numbers of planes that fail, and have no file.
    """

    plate: str
    wells: int
    sites: int
    size_px: int
    pixel_size_um: float
    identity: UUID
    seed: int = 0
    z_steps: int = 1
    time_points: int = 1
    positions: tuple[WellPosition, ...] = ()
    not_taken: Collection[int] = field(default_factory=frozenset)

    @property
    def acquisition(self) -> AcquisitionId:
        """Plate and measurement, as the folder names them."""
        return AcquisitionId(self.plate, MEASUREMENT)

    @property
    def folder(self) -> PurePosixPath:
        """The measurement's own folder."""
        return PurePosixPath(f"{self.plate}__{MEASUREMENT}")

    @property
    def rows(self) -> int:
        """Of the plate."""
        return PLATE_SHAPES[self.wells][0]

    @property
    def columns(self) -> int:
        """Of the plate."""
        return PLATE_SHAPES[self.wells][1]

    @property
    def field_um(self) -> float:
        """Edge of a picture, in micrometres."""
        return self.size_px * self.pixel_size_um

    @property
    def middle(self) -> int:
        """The z step that is in focus."""
        return middle_step(self.z_steps)

    def address(self, plane: PlaneInfo, channel: str, *, z: int | None = None, name: str = "") -> PlaneAddress:
        """A plane's address with the channel's id as an instrument writes it. z: another than the plane's own."""
        step = plane.z if z is None else z
        return PlaneAddress(
            self.acquisition, plane.position, plane.site, channel, z=step, time=plane.time, channel_name=name
        )

    def height_um(self, plane: PlaneInfo) -> float:
        """How far above the focused step a plane was taken, in micrometres."""
        return (plane.z - self.middle) * Z_STEP_UM

    def guid(self, *place: object) -> str:
        """An identifier of something in this measurement, always the same for the same thing."""
        return str(uuid5(self.identity, "/".join(map(str, place)))).upper()


@dataclass(frozen=True, slots=True)
class Written:
    """A file that an instrument writes.

    path: below the folder that a daemon would watch. whole: written in one piece, over an earlier state of it.
    """

    path: PurePosixPath
    data: bytes
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Manner:
    """What sets one vendor's way of writing apart.

    name: as in `watch.instrument`. channels: for each of the simulated channels, in their order, the id or name that
    stands in the file names. stacks, lapses: whether several z steps and several time points can be written.
    lapse_in_a_file: whether all time points of a site stand in one file, and are taken one after the other.
    pixel_size: whether the files tell it.
    """

    name: str
    channels: tuple[str, ...]
    stacks: bool = True
    lapses: bool = True
    lapse_in_a_file: bool = False
    pixel_size: bool = True


class Vendor(Protocol):
    """One vendor's way of writing; without state, since sites are encoded in other processes."""

    manner: Manner

    def image_files(self, measurement: Measurement, images: Sequence[Image]) -> list[Written]:
        """The files of one site, in the order of writing. images: the planes that were taken, in their order."""

    def metadata_files(self, measurement: Measurement, planes: Sequence[PlaneInfo], done: int) -> Iterator[Written]:
        """What is written beside the images once `done` planes are taken; asked at the start, and after each site."""


def middle_step(z_steps: int) -> int:
    """The step of a stack that is in focus, counted from 1."""
    return (z_steps + 1) // 2


def site_centre_um(site: int, sites: int, field_um: float) -> tuple[float, float]:
    """A site's centre from the well's, in micrometres (y up, x to the right); sites lie in a square block."""
    edge = block_edge(sites)
    row, column = divmod(site - 1, edge)
    return (edge - 1) / 2 * field_um - row * field_um, column * field_um - (edge - 1) / 2 * field_um


def block_edge(sites: int) -> int:
    """How many sites lie side by side in the block."""
    edge = 1
    while edge * edge < sites:
        edge += 1
    return edge
