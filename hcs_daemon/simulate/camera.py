"""The camera: from light to counts, with shot noise, read noise, offset and 16 bits.

A sCMOS with dual gain, binned 2 x 2: 30 000 electrons fill the 16 bits (compare an Andor Zyla 5.5: 0.45 electrons
a count).
"""

import numpy as np
from numpy.typing import NDArray

OFFSET_COUNTS = 128.0
COUNTS_PER_ELECTRON = 2.18
READ_NOISE_ELECTRONS = 2.4
FULL_SCALE = 65535


def expose(electrons: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint16]:
    """What the camera reads for the electrons expected at each pixel.

    electrons: (height, width) float32, mean photoelectrons. Returns (height, width) uint16, raw counts.
    """
    collected = rng.poisson(np.maximum(electrons, 0.0)).astype(np.float32)
    collected += READ_NOISE_ELECTRONS * rng.standard_normal(electrons.shape, dtype=np.float32)
    counts = np.rint(OFFSET_COUNTS + COUNTS_PER_ELECTRON * collected)
    counted: NDArray[np.uint16] = np.clip(counts, 0, FULL_SCALE).astype(np.uint16)
    return counted


def illumination(size_px: int, pixel_size_um: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """How bright the lamp is across the field: 1 at its centre, up to a third less in the corners of the full field.

    rng decides where the centre lies. Returns (size_px, size_px) float32.
    """
    half_field_um = 646.0  # of the whole camera, 1080 pixels of 1.196 µm
    centre = rng.uniform(-150.0, 150.0, size=2)
    axis = (np.arange(size_px, dtype=np.float32) - (size_px - 1) / 2) * pixel_size_um
    y, x = (axis[:, None] - centre[0]) / half_field_um, (axis[None, :] - centre[1]) / half_field_um
    lamp: NDArray[np.float32] = (1.0 - 0.17 * (y * y + x * x)).astype(np.float32)
    return lamp
