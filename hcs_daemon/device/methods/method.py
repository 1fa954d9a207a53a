"""What a method is, and what methods share."""

from math import inf
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from hcs_daemon.device.question import Model, Question

Pixel = NDArray[np.float32]


class Method(Protocol):
    """One way to say where the model looks."""

    @property
    def words(self) -> str:
        """What the result calls it."""

    @property
    def sums_to_change(self) -> bool:
        """Whether its maps promise to sum to the change explained; then completeness is asked of them."""

    def attribute(self, model: Model, question: Question) -> Pixel:
        """(tiles, channels, tile, tile) float32 logits, each tile's share of the site's mean over its tiles.

        Raises PackageError where the package does not give what the method needs.
        """


def site_heat(total: torch.Tensor, parts: int) -> Pixel:
    """The site's map from the sum over its tiles, and over `parts` samples of each tile; on the host."""
    return np.asarray((total.double() / (len(total) * parts)).float().cpu().numpy(), np.float32)


def relative_error(error: float, change: float) -> float:
    """|error| as a share of |change|; infinite where nothing changed."""
    return abs(error) / abs(change) if change else inf


def incomplete(heat: Pixel, change: float) -> float:
    """How far a map's sum lies from the change, as a share of it."""
    return relative_error(float(heat.sum(dtype=np.float64)) - change, change)
