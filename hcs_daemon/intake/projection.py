"""What of a z stack is analysed: which steps must be there, and how they become one image.

`max` takes the instrument's own projection where there is one, else the brightest of all steps at each pixel; `mean`
their mean, rounded; `best_focus` the one step that is sharpest by `PlaneMeasures.sharpness`; `middle` the middle one
(of an even number the lower); a number that step. A channel with one step only is used as it is.
"""

from collections.abc import Sequence

import numpy as np

from hcs_daemon.plate import PROJECTION_Z
from hcs_daemon.records import ChannelImage, Pixels, PlaneRecord

Projection = str | int
FOLDED = {"max", "mean"}
"""Those that make several planes into one image."""


def required_steps(projection: Projection, steps: frozenset[int]) -> frozenset[int]:
    """Of the steps that a channel has, those without which it cannot be analysed."""
    stack = sorted(steps - {PROJECTION_Z})
    if projection == "max" and PROJECTION_Z in steps:
        return frozenset({PROJECTION_Z})
    if len(stack) <= 1:
        return frozenset(stack) or steps
    if isinstance(projection, int):
        return frozenset({projection})
    if projection == "middle":
        return frozenset({stack[(len(stack) - 1) // 2]})
    return frozenset(stack)


def channel_image(projection: Projection, planes: Sequence[PlaneRecord], correction: str) -> ChannelImage:
    """The image of a channel whose required planes, by z, these are. correction: digest of its flat field."""
    if len(planes) > 1 and projection == "best_focus":
        return ChannelImage((max(planes, key=_sharpest_first),), "", correction)
    return ChannelImage(tuple(planes), str(projection) if len(planes) > 1 else "", correction)


def _sharpest_first(plane: PlaneRecord) -> tuple[float, int]:
    """Within one stack the variance of the Laplacian alone: as a share of the pixels' own it is highest for noise."""
    return (plane.measures.sharpness or 0.0, -plane.id.z)


class Fold:
    """One image a channel, made of planes as they come; never the stack.

    Until `finished` the pixels are counts of the plane's type for `max`, and sums in uint32 for `mean`.
    """

    def __init__(self, projection: str, part: str, pixels: Pixels) -> None:
        self.projection = projection
        self.members = frozenset({part})
        self._pixels = pixels
        self._sum = None if projection != "mean" else pixels.astype(np.uint32)

    @property
    def nbytes(self) -> int:
        """What it holds."""
        return self._pixels.nbytes if self._sum is None else self._sum.nbytes

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width)."""
        return self._pixels.shape

    def add(self, part: str, pixels: Pixels) -> None:
        """Take one more plane of the same shape and type in; pixels: (height, width) raw counts."""
        self.members |= {part}
        if self._sum is None:
            self._pixels = np.maximum(self._pixels, pixels)
        else:
            self._sum += pixels

    def finished(self) -> Pixels:
        """(height, width) counts in the planes' own type; a mean is rounded half to even."""
        if self._sum is None or len(self.members) == 1:
            return self._pixels
        mean = np.rint(self._sum / len(self.members))
        return mean.astype(self._pixels.dtype)  # type: ignore[return-value]  # numpy widens the type to generic
