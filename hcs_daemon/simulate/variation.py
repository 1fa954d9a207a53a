"""Fields as honest as others and yet unlike them: with less light, or without a cell. For tests and benchmarks."""

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.simulate.camera import COUNTS_PER_ELECTRON, FULL_SCALE, OFFSET_COUNTS, READ_NOISE_ELECTRONS, expose

_DARK_PERCENTILE = 2.0


def dimmed(pixels: NDArray[np.uint16], share: float, rng: np.random.Generator) -> NDArray[np.uint16]:
    """The same field as a weaker stain shows it: each electron is kept with the probability `share`.

    pixels: (height, width) uint16, as `camera.expose` gives them. A share of Poisson's electrons is Poisson's again;
    only the read noise that went away with them is put back.
    """
    electrons = np.maximum(np.rint((pixels.astype(np.float64) - OFFSET_COUNTS) / COUNTS_PER_ELECTRON), 0).astype(
        np.int64
    )
    kept = rng.binomial(electrons, share) + READ_NOISE_ELECTRONS * np.sqrt(1 - share) * rng.standard_normal(
        pixels.shape
    )
    counts = np.rint(OFFSET_COUNTS + COUNTS_PER_ELECTRON * kept)
    dimmer: NDArray[np.uint16] = np.clip(counts, 0, FULL_SCALE).astype(np.uint16)
    return dimmer


def emptied(pixels: NDArray[np.uint16], rng: np.random.Generator) -> NDArray[np.uint16]:
    """A field of the same background without cells. pixels: (height, width) uint16, as `camera.expose` gives them."""
    dark = max(1.0, (float(np.percentile(pixels, _DARK_PERCENTILE)) - OFFSET_COUNTS) / COUNTS_PER_ELECTRON)
    return expose(np.full(pixels.shape, dark, np.float32), rng)
