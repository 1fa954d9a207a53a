"""How bright each channel is and how much that varies from well to well, measured in the control wells.

A well's dark level is a low percentile of its pixels, its brightness what a high one has above that. What differs
between untreated wells is staining, light and cell number; a verdict must not hang on it, so views are varied by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.device.manifest import Normalisation
from hcs_daemon.records import Pixels

DARK, BRIGHT = 2.0, 95.0
"""Percentiles of a site's pixels."""
LEAST_GAIN, MOST_GAIN = 0.05, 0.5
"""Bounds of the spread of the logarithm of a channel's brightness: plates stained on other days differ by that much."""
LEAST_OFFSET = 1.0
_SIGMA = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True, slots=True)
class Staining:
    """What was measured of each channel.

    dark, dark_spread, bright: counts. bright_spread: standard deviation of the logarithm of the brightness.
    """

    dark: tuple[float, ...]
    dark_spread: tuple[float, ...]
    bright: tuple[float, ...]
    bright_spread: tuple[float, ...]

    @property
    def normalisation(self) -> tuple[Normalisation, ...]:
        """Asinh about the dark level: linear up to a third of the brightness, logarithmic beyond."""
        return tuple(
            Normalisation(kind="asinh", offset=round(dark, 2), scale=round(bright / 3, 2))
            for dark, bright in zip(self.dark, self.bright, strict=True)
        )


def levels(sites: Sequence[Pixels]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A well's dark level and its brightness above it, each (channels,) in counts, the median over its sites.

    sites: (channels, height, width) raw counts each.
    """
    found = np.stack([np.percentile(site, (DARK, BRIGHT), axis=(1, 2)) for site in sites])
    dark, bright = np.median(found, axis=0)
    return dark, np.maximum(bright - dark, 1.0)


def measure_staining(wells: Sequence[Sequence[Pixels]]) -> Staining:
    """Measure it in control wells, each the sites of one; robust against a few odd ones."""
    found = [levels(sites) for sites in wells]
    dark = np.stack([each for each, _ in found])
    bright = np.stack([each for _, each in found])
    return Staining(
        dark=_floats(np.median(dark, axis=0)),
        dark_spread=_floats(np.maximum(_spread(dark), LEAST_OFFSET)),
        bright=_floats(np.median(bright, axis=0)),
        bright_spread=_floats(np.clip(_spread(np.log(bright)), LEAST_GAIN, MOST_GAIN)),
    )


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(_SIGMA * np.median(np.abs(values - np.median(values, axis=0)), axis=0))


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
