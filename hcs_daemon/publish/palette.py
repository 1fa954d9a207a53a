"""The colours: of stains, of classes, of words. The same in every picture.

The five stains keep the colours that Cell Painting is drawn in; all others are from the set of Okabe and Ito ("Color
universal design", 2008), whose colours people with any common colour vision tell apart.
"""

from collections.abc import Sequence

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

PAPER: Colour = (255, 255, 255)
INK: Colour = (31, 35, 43)
FAINT: Colour = (92, 97, 107)
RULE: Colour = (170, 174, 182)
WITHHELD: Colour = (128, 132, 140)
"""Of what is shown and does not hold."""
GOOD: Colour = (20, 110, 70)
WARNING: Colour = (150, 78, 0)
BAD: Colour = (168, 42, 20)
DEMONSTRATION: Colour = (255, 214, 102)
TAG: Colour = (22, 24, 28)
"""Behind words on an image."""
CONTROL_GREY: Colour = (200, 203, 208)

STAINS: dict[str, tuple[Colour, str]] = {
    "dna": ((79, 140, 255), "blue"),
    "er": ((50, 190, 125), "green"),
    "rna": ((240, 220, 60), "yellow"),
    "agp": ((255, 150, 50), "orange"),
    "mito": ((236, 64, 150), "magenta"),
}
"""Channel name in small letters -> its colour and that colour's name."""
OKABE_ITO: tuple[tuple[Colour, str], ...] = (
    ((86, 180, 233), "sky blue"),
    ((213, 94, 0), "vermilion"),
    ((204, 121, 167), "reddish purple"),
    ((0, 158, 115), "bluish green"),
    ((0, 114, 178), "deep blue"),
    ((230, 159, 0), "amber"),
    ((240, 228, 66), "pale yellow"),
    ((140, 140, 140), "grey"),
)
"""Those farthest from the stains' first; the set's black is a grey here, to be seen on black."""


def channel_colours(channels: Sequence[str]) -> list[tuple[Colour, str]]:
    """Each channel's colour and the colour's name; beyond five stains and eight others they come again."""
    others = iter(range(len(channels)))
    return [
        STAINS[channel.casefold()] if channel.casefold() in STAINS else OKABE_ITO[next(others) % len(OKABE_ITO)]
        for channel in channels
    ]
