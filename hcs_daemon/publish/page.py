"""What a page is made of: boxes on white paper, none over another, all as data that a painter follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hcs_daemon.publish.lettering import line_height, wrap
from hcs_daemon.publish.palette import INK, Colour

TITLE, VERDICT, HEADING, BODY, SMALL = 34, 28, 21, 20, 18
"""Sizes of letters in pixels; the smallest can still be read when the page is shown at half its size."""


@dataclass(frozen=True, slots=True)
class Rect:
    """Whole pixels of the page; right and bottom are the first pixels outside."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column outside."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row outside."""
        return self.y + self.height

    def holds(self, other: "Rect") -> bool:
        """Whether the other lies wholly inside."""
        inside = self.x <= other.x and other.right <= self.right
        return inside and self.y <= other.y and other.bottom <= self.bottom

    def overlaps(self, other: "Rect") -> bool:
        """Whether they share a pixel."""
        beside = other.right <= self.x or self.right <= other.x
        return not (beside or other.bottom <= self.y or self.bottom <= other.y)


@dataclass(frozen=True, slots=True)
class Words:
    """Lines of one size. role: what they say, in a word. fill: the colour behind them, with `pad` pixels around."""

    rect: Rect
    role: str
    lines: tuple[str, ...]
    size_px: int = BODY
    bold: bool = False
    colour: Colour = INK
    fill: Colour | None = None
    pad: int = 0
    align: Literal["left", "centre", "right"] = "left"


@dataclass(frozen=True, slots=True)
class Block:
    """A plain rectangle. edged: its outermost pixels are dark, so that it is seen on any image."""

    rect: Rect
    role: str
    colour: Colour
    edged: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """Pixels on black.

    source: what to draw; channel: which one, of `grey`. inside: what stands on it; nothing there
    overlaps, and all lies inside.
    """

    rect: Rect
    source: Literal["grey", "composite", "reference"]
    channel: int = 0
    inside: tuple[Words | Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """One channel's share. zero, end, whisker (from, to; None where no spread is known): columns of the page.

    holds: whether the explanation does; drawn hollow and grey where not.
    """

    rect: Rect
    channel: str
    colour: Colour
    zero: int
    end: int
    whisker: tuple[int, int] | None
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Strip:
    """A well's sites on an axis of probability, by columns of the page.

    band: from, to of the well's interval; None where there is none. well: the well's own. sites: each site's own, and
    whether its first class is the well's.
    """

    rect: Rect
    band: tuple[int, int] | None
    well: int
    sites: tuple[tuple[int, bool], ...]


Item = Words | Block | Image | Bar | Strip


class Column:
    """Items one below the other, `room` pixels wide. Owned by the call that made it. y: where the next one goes."""

    def __init__(self, x: int, y: int, room: int) -> None:
        self.x, self.y, self.room = x, y, room
        self.items: list[Item] = []

    def gap(self, pixels: int) -> None:
        """Leave white."""
        self.y += pixels

    def put(self, *items: Item) -> None:
        """Take items that were placed at or below y."""
        self.items += items
        self.y = max([self.y, *(item.rect.bottom for item in items)])

    def say(
        self,
        role: str,
        lines: Sequence[str],
        size_px: int = BODY,
        *,
        bold: bool = False,
        colour: Colour = INK,
        fill: Colour | None = None,
        pad: int = 0,
    ) -> None:
        """Lines that were made to fit; nothing where there are none."""
        if lines:
            rect = Rect(self.x, self.y, self.room, len(lines) * line_height(size_px) + 2 * pad)
            self.put(Words(rect, role, tuple(lines), size_px, bold, colour, fill, pad))

    def paragraph(
        self, role: str, words: str, size_px: int = BODY, *, bold: bool = False, colour: Colour = INK, most: int = 3
    ) -> None:
        """A text on at most `most` lines."""
        self.say(role, wrap(words, self.room, size_px, bold=bold, most_lines=most), size_px, bold=bold, colour=colour)
