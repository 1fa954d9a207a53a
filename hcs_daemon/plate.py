"""The field's own addresses: where on a plate a well, a site and a plane are.

All are frozen, ordered and hashable, so that they serve as keys and sort as a person would.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

_WELL_NAME = re.compile(r"([A-Za-z]{1,2})0*([1-9]\d?)")
PLATE_SHAPES: dict[int, tuple[int, int]] = {
    6: (2, 3),
    24: (4, 6),
    96: (8, 12),
    384: (16, 24),
    1536: (32, 48),
}
"""Wells of a plate -> (rows, columns), ANSI/SLAS 4-2004."""


@dataclass(frozen=True, slots=True, order=True)
class WellPosition:
    """A place on a plate; row and column count from 1. Its name is `B03`, on 1536-well plates also `AF48`."""

    row: int
    column: int

    def __post_init__(self) -> None:
        if not (1 <= self.row <= 32 and 1 <= self.column <= 48):
            raise ValueError(f"row {self.row}, column {self.column} is on no plate (at most 32 rows, 48 columns)")

    @property
    def name(self) -> str:
        """The name people use: letters for the row, two digits for the column."""
        letters = chr(64 + self.row) if self.row <= 26 else "A" + chr(64 + self.row - 26)
        return f"{letters}{self.column:02d}"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read `B03`, `b3` or `AF48`. Raises ValueError for anything else."""
        match = _WELL_NAME.fullmatch(name.strip())
        if match is None:
            raise ValueError(f"{name!r} is not a well such as B03")
        letters = match[1].upper()
        row = ord(letters[-1]) - 64 + (26 if len(letters) == 2 else 0)
        if len(letters) == 2 and letters[0] != "A":
            raise ValueError(f"{name!r} is not a well: rows end at AF")
        return cls(row, int(match[2]))


@dataclass(frozen=True, slots=True, order=True)
class AcquisitionId:
    """One imaging of one plate; its results stand in `RESULTS/<plate>/<acquisition>/`."""

    plate: str
    acquisition: str


@dataclass(frozen=True, slots=True, order=True)
class WellId:
    """A well of one acquisition at one time point (counted from 1)."""

    acquisition: AcquisitionId
    position: WellPosition
    time: int = 1

    @property
    def stem(self) -> str:
        """The stem of its result files: `B03`, from the second time point on `B03.t002`."""
        return self.position.name if self.time == 1 else f"{self.position.name}.t{self.time:03d}"


@dataclass(frozen=True, slots=True, order=True)
class SiteId:
    """One field of view of a well, by the number the instrument gives it."""

    well: WellId
    site: int


PROJECTION_Z = 0
"""The z of a projection that the instrument itself made and wrote beside the stack, or instead of it."""


@dataclass(frozen=True, slots=True, order=True)
class PlaneId:
    """One image of a site: the instrument's channel id and z (counted from 1; `PROJECTION_Z` a projection)."""

    site: SiteId
    channel: str
    z: int = 1


@dataclass(frozen=True, slots=True)
class WellContent:
    """What an experimenter put into a well. concentration_um: micromolar, None where it is not said.

    role: `control`, `reference`, `treatment` or a word of the experimenter's own; empty where it is not said.
    """

    compound: str = ""
    concentration_um: float | None = None
    role: str = ""


@dataclass(frozen=True, slots=True)
class PlateLayout:
    """What is in the wells of one plate. source: the file that says so. sha256: of that file's bytes."""

    source: str
    sha256: str
    wells: Mapping[WellPosition, WellContent]


def plate_wells(wells: int) -> list[WellPosition]:
    """All positions of a plate of 6, 24, 96, 384 or 1536 wells, row by row."""
    rows, columns = PLATE_SHAPES[wells]
    return [WellPosition(row, column) for row in range(1, rows + 1) for column in range(1, columns + 1)]


_TIFF_SUFFIXES = frozenset({".tif", ".tiff"})


def split_page(path: Path) -> tuple[Path, int | None]:
    """A plane's file, and which page of it: `a.ome.tif#3` is the fourth page of `a.ome.tif`; None for a whole file."""
    name, mark, page = path.name.rpartition("#")
    if mark and page.isdecimal() and page.isascii() and PurePosixPath(name).suffix.lower() in _TIFF_SUFFIXES:
        return path.with_name(name), int(page)
    return path, None


def with_page(path: Path, page: int) -> Path:
    """The name of one page of a bundle, as `split_page` takes it apart again."""
    return path.with_name(f"{path.name}#{page}")
