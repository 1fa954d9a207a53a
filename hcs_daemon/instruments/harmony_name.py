"""How Harmony calls a plane's file: `r03c03f03p01-ch5sk1fk1fl1.tiff`."""

from dataclasses import dataclass

from hcs_daemon.instruments.naming import Grammar, Reading
from hcs_daemon.plate import WellPosition

EXAMPLE = "r01c01f01p01-ch1sk1fk1fl1.tiff"
_PARTS = (
    ("row", r"r(\d{2})"),
    ("column", r"c(\d{2})"),
    ("site", r"f(\d{2,6})"),
    ("z", r"p(\d{2,6})"),
    ("channel", r"-ch(\d{1,6})"),
    ("time point", r"sk(\d{1,6})"),
    ("exposure", r"fk(\d{1,6})"),
    ("FLIM", r"fl(\d{1,6})"),
    ("ending", r"\.tiff?"),
)
_GRAMMAR = Grammar("a Harmony", _PARTS, EXAMPLE)


@dataclass(frozen=True, slots=True)
class HarmonyName:
    """What a name says, all counted from 1. channel: without leading zeros. exposure, flim: of several of one plane."""

    position: WellPosition
    site: int
    z: int
    channel: str
    time: int
    exposure: int = 1
    flim: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the first exposure and the first FLIM image, the one that counts."""
        return max(self.exposure, self.flim) <= 1

    @property
    def text(self) -> str:
        """The file's name."""
        row, column = self.position.row, self.position.column
        place = f"r{row:02d}c{column:02d}f{self.site:02d}p{self.z:02d}"
        return f"{place}-ch{self.channel}sk{self.time}fk{self.exposure}fl{self.flim}.tiff"


def parse(name: str) -> HarmonyName | None:
    """What a file's name says; None for one that is no plane's. Raises ValueError, in words, for one on no plate."""
    groups = _GRAMMAR.groups(name)
    if groups is None:
        return None
    row, column, site, z, channel, time, exposure, flim = map(int, groups)
    position = WellPosition(row, column)
    if min(site, z, time) < 1:
        raise ValueError("site, z and time point count from 1 in a Harmony name")
    return HarmonyName(position, site, z, str(channel), time, exposure, flim)


def misfit(name: str) -> Reading:
    """An UNKNOWN reading that says where the name stops being a plane's."""
    return _GRAMMAR.misfit(name)
