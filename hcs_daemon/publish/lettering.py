"""Words that fit: how wide they are, where they break, and where they end in an ellipsis."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
from PIL import ImageFont

ELLIPSIS = "…"
DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
_NARROWEST_SHARE = 0.2
"""No letter of the font that takes room is narrower than this share of its size."""


@lru_cache(maxsize=2)
def font_path(*, bold: bool = False) -> Path:
    """DejaVu Sans, which comes with matplotlib: no machine is assumed to have fonts of its own."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(mpl.get_data_path()) / "fonts" / "ttf" / name


@lru_cache(maxsize=32)
def font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The letters of one size."""
    return ImageFont.truetype(str(font_path(bold=bold)), size_px, layout_engine=ImageFont.Layout.BASIC)


def line_height(size_px: int) -> int:
    """Pixels from one line to the next."""
    return round(size_px * 1.32)


@lru_cache(maxsize=8192)
def width(words: str, size_px: int, *, bold: bool = False) -> int:
    """Pixels that a line takes, rounded up."""
    return int(-(-font(size_px, bold=bold).getlength(words) // 1)) + 1


def clean(words: str) -> str:
    """One line of printable characters; what cannot be drawn becomes a space."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())


def elide(words: str, room_px: int, size_px: int, *, bold: bool = False) -> str:
    """The words if they fit into `room_px`, else their beginning and an ellipsis; "" where not even that fits."""
    whole = clean(words)
    words = whole[: _most_letters(room_px, size_px)]
    if words == whole and width(words, size_px, bold=bold) <= room_px:
        return words
    fitting = _fitting(words, room_px - width(ELLIPSIS, size_px, bold=bold), size_px, bold=bold)
    if fitting or width(ELLIPSIS, size_px, bold=bold) <= room_px:
        return words[:fitting].rstrip() + ELLIPSIS
    return ""


def wrap(words: str, room_px: int, size_px: int, *, bold: bool = False, most_lines: int = 3) -> list[str]:
    """The words on lines of at most `room_px`; a longer word is broken, the last line may end in an ellipsis."""
    whole = clean(words)
    left = whole[: _most_letters(room_px, size_px) * most_lines]
    if left != whole:
        left += ELLIPSIS
    lines: list[str] = []
    while left and len(lines) < most_lines - 1:
        end = _line_end(left, room_px, size_px, bold=bold)
        lines.append(left[:end].rstrip())
        left = left[end:].lstrip()
    if left:
        lines.append(elide(left, room_px, size_px, bold=bold))
    return lines


def wrap_all(
    paragraphs: Sequence[str], room_px: int, size_px: int, *, most_lines: int, most_each: int = 3
) -> list[str]:
    """Paragraphs one below the other on at most `most_lines`; what has no room is counted: `and 12 more`."""
    lines: list[str] = []
    for index, paragraph in enumerate(paragraphs):
        added = wrap(paragraph, room_px, size_px, most_lines=most_each)
        last = index == len(paragraphs) - 1
        if len(lines) + len(added) > most_lines - (0 if last else 1):
            return [*lines, elide(f"and {len(paragraphs) - index} more", room_px, size_px)]
        lines += added
    return lines


def _most_letters(room_px: int, size_px: int) -> int:
    return int(max(0, room_px) / (size_px * _NARROWEST_SHARE)) + 1


def _fitting(words: str, room_px: int, size_px: int, *, bold: bool) -> int:
    """How many letters from the beginning fit."""
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if width(words[:middle], size_px, bold=bold) <= room_px:
            low = middle
        else:
            high = middle - 1
    return low


def _line_end(words: str, room_px: int, size_px: int, *, bold: bool) -> int:
    """Where the first line ends: at a space if there is one, else after a hyphen or the like, never at 0."""
    fitting = _fitting(words, room_px, size_px, bold=bold)
    if fitting == len(words):
        return fitting
    space = words.rfind(" ", 0, fitting + 1)
    if space > 0:
        return space
    joint = max(words.rfind(sign, 0, fitting) for sign in "-_/")
    return joint + 1 if joint > 0 else max(1, fitting)
