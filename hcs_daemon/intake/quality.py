"""How good the picture in a plane is: background, noise, foreground, debris, light and sharpness. Rejects nothing.

All but noise and sharpness is measured on a picture made smaller by averaging, so that it costs a fraction of decoding.
What the numbers mean, where they come from and what they cannot tell stands in docs/quality.md.
"""

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from hcs_daemon.records import Pixels, PlaneQuality

Floats = NDArray[np.float32]

_SMALL_PX = 288
"""The small picture's shorter edge is at most this long: 270 of a 1080 x 1080 plane."""
_GRID = 8
"""The background is looked for in 8 x 8 tiles of it."""
_ABOVE = 6.0
"""Foreground lies so many standard deviations above the background."""
_FAR_ABOVE = 3.0
"""Debris is so many times as bright as the foreground's 95th percentile; measured, docs/quality.md."""
_SPOT_PX, _DEBRIS_PX = 3, 6
"""So many pixels of the small picture a spot has at least."""
_BLOCK_PX = 16
_PATCH_PX, _PATCHES = 128, 4
"""Spectra are taken of 4 x 4 patches at most, of 128 x 128 pixels, spread over the plane."""
_LOWEST_HZ, _HIGHEST_HZ, _WHITE_HZ, _RINGS = 0.02, 0.25, 0.55, 10
"""Cycles a pixel: where the slope is fitted, in ten rings of equal ratio; and from where on there is noise alone."""


def measure(pixels: Pixels) -> PlaneQuality:
    """Measure a plane. pixels: (height, width) uint8 or uint16, raw counts; as small as it may be."""
    small = shrunken(pixels)
    level, spread = background_of(small)
    above = small - level
    foreground = above > _ABOVE * spread
    values = above[foreground]
    bright = float(np.percentile(values, 95)) if values.size >= _SPOT_PX else 0.0
    patches = _patches(pixels)
    return PlaneQuality(
        background=round(float(np.median(level)), 2),
        noise=round(noise_of(patches), 3),
        foreground_fraction=round(values.size / small.size, 6),
        bright=round(bright, 2),
        spots=len(_spot_sizes(above > bright / 2, _SPOT_PX)) if bright else 0,
        debris_fraction=round(int(_spot_sizes(above > _FAR_ABOVE * bright, _DEBRIS_PX).sum()) / small.size, 6)
        if bright
        else 0.0,
        unevenness=round(_unevenness(level), 4),
        power_slope=power_slope(patches),
    )


def shrunken(pixels: Pixels) -> Floats:
    """The plane averaged over squares; (height, width) float32, counts. What does not fill a square is left out."""
    factor = max(1, math.ceil(min(pixels.shape) / _SMALL_PX))
    height, width = (length // factor * factor for length in pixels.shape)
    rows = pixels[0:height:factor, :width].astype(np.uint32)
    for offset in range(1, factor):
        rows += pixels[offset:height:factor, :width]
    squares = rows[:, ::factor].astype(np.float32)
    for offset in range(1, factor):
        squares += rows[:, offset::factor]
    squares /= np.float32(factor * factor)
    return squares


def background_of(small: Floats) -> tuple[Floats, float]:
    """The background at each pixel, and its standard deviation; counts.

    A quadratic surface under the dark parts of 8 x 8 tiles: light that falls off towards the edges is no foreground.
    """
    tiles, rows, columns = _tiles(small)
    places = [int(share * (tiles.shape[1] - 1)) for share in (0.05, 0.2)]
    low, high = np.partition(tiles, places, axis=1)[:, places].T.astype(np.float64)
    # between these percentiles lie 0.80 standard deviations of a normal distribution
    spread = max(float(np.percentile((high - low) / 0.803, 25)), 1e-3)
    y, x = (each.ravel() for each in np.meshgrid(rows, columns, indexing="ij"))
    terms = np.stack(_quadratic(y, x), axis=1)
    weights = np.ones_like(high)
    surface = np.zeros(6)
    for _ in range(6):
        surface = np.linalg.lstsq(terms * weights[:, None], high * weights, rcond=None)[0]
        over = np.maximum(high - terms @ surface, 0.0) / (3 * spread)
        weights = 1.0 / (1.0 + over * over)  # tiles full of cells lie above, never below
    down, across = (_field(np.arange(length), length) for length in small.shape)
    fitted = sum(c * term for c, term in zip(surface, _quadratic(down[:, None], across[None, :]), strict=True))
    # from the 20th percentile to the middle of a normal distribution
    level = np.asarray(fitted, np.float32) + np.float32(0.842 * spread)
    return np.clip(level, small.min(), small.max()), spread


def noise_of(patches: Floats) -> float:
    """Standard deviation of one pixel in the darkest parts, in counts: of differences between neighbours, over root 2.

    patches: (n, height, width). The lowest tenth of blocks of 16 x 16 tells, where the least else is to be seen.
    """
    steps = np.diff(patches, axis=2)
    count, height, width = steps.shape
    side = min(_BLOCK_PX, height, width)
    if side == 0:
        return 0.0
    rows, columns = height // side, width // side
    blocks = np.square(steps[:, : rows * side, : columns * side]).reshape(count, rows, side, columns, side)
    return float(np.sqrt(np.percentile(blocks.mean(axis=(2, 4)), 10) / 2))


def power_slope(patches: Floats) -> float | None:
    """The slope of log power against log frequency, after Bray et al., J Biomol Screen 17 (2012) 266.

    patches: (n, height, width), square. Power is the mean on a ring, the median over the patches after each is made
    alike in sum. White noise, seen in the spectrum's corners where no lens passes anything, is taken out first:
    with it a dim picture would look sharp. None where too little is above it.
    """
    side = min(patches.shape[1:])
    if side < 32:
        return None
    members, starts, sizes, frequencies, window = _rings(side)
    square = patches[:, :side, :side]
    flat = (square - square.mean(axis=(1, 2), keepdims=True)) * window
    power = np.square(np.abs(scipy.fft.rfft2(flat))).reshape(len(flat), -1)
    found = np.add.reduceat(power[:, members], starts, axis=1) / sizes
    by_ring, noise = found[:, :-1], found[:, -1:]
    signal = by_ring - noise
    seen = (signal > 0.5 * noise).sum(axis=1) >= 4
    if not seen.any():
        return None
    floor = np.maximum(0.05 * noise[seen], 1e-6 * by_ring[seen].max(axis=1, keepdims=True))
    logs = np.log10(np.maximum(signal[seen], floor))
    typical = np.median(logs - logs.mean(axis=1, keepdims=True), axis=0)
    return round(float(np.polyfit(np.log10(frequencies), typical, 1)[0]), 4)


def _tiles(small: Floats) -> tuple[Floats, NDArray[np.float64], NDArray[np.float64]]:
    """Tiles of the small picture, (tiles, pixels), and the rows and columns of their centres in the field."""
    height, width = small.shape
    rows, columns = min(_GRID, height), min(_GRID, width)
    tall, wide = height // rows, width // columns
    cut = small[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide).swapaxes(1, 2)
    down, across = np.arange(rows) * tall + (tall - 1) / 2, np.arange(columns) * wide + (wide - 1) / 2
    return cut.reshape(rows * columns, tall * wide), _field(down, height), _field(across, width)


def _field(place: NDArray[np.int_] | NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Places in pixels as places in the field, which reaches from -1 to 1."""
    return np.asarray(place, np.float64) / max(1, length - 1) * 2 - 1


def _quadratic(y: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """The six terms of a quadratic surface."""
    return np.ones_like(x), x, y, x * x, x * y, y * y


def _unevenness(level: Floats) -> float:
    """What share of its light the background loses over the middle nine tenths of the field."""
    top, left = (length // 20 for length in level.shape)
    inner = level[top : level.shape[0] - top, left : level.shape[1] - left]
    highest = float(inner.max())
    return 1.0 - float(inner.min()) / highest if highest > 0 else 0.0


def _spot_sizes(where: NDArray[np.bool_], least_px: int) -> NDArray[np.intp]:
    """The sizes of connected spots, in pixels, of those that have at least so many."""
    labels, count = ndimage.label(where)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return np.asarray(sizes[sizes >= least_px])


def _patches(pixels: Pixels) -> Floats:
    """Square pieces of the plane at full resolution, spread evenly; (n, side, side) float32."""
    side = min(_PATCH_PX, *pixels.shape)
    along = [
        np.linspace(0, length - side, min(_PATCHES, max(1, length // side))).astype(int) for length in pixels.shape
    ]
    return np.stack([pixels[y : y + side, x : x + side] for y in along[0] for x in along[1]]).astype(np.float32)


@lru_cache(maxsize=8)
def _rings(side: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats, NDArray[np.float64], Floats]:
    """For patches of a side: which places of a half spectrum lie on each ring and (last) in its corners.

    The places one ring after the other, where each begins among them, how many it has; the rings' frequencies in cycles
    a pixel; the window. No product of matrices: its threads would wait for the other readers'.
    """
    y, x = np.meshgrid(scipy.fft.fftfreq(side), scipy.fft.rfftfreq(side), indexing="ij")
    radius = np.hypot(y, x).ravel()
    edges = np.geomspace(max(_LOWEST_HZ, 1.5 / side), _HIGHEST_HZ, _RINGS + 1)
    on_ring = [np.flatnonzero((radius >= low) & (radius < high)) for low, high in pairwise(edges)]
    filled = [members for members in on_ring if members.size]
    frequencies = np.array([np.exp(np.log(radius[members]).mean()) for members in filled])
    groups = [*filled, np.flatnonzero(radius >= _WHITE_HZ)]
    sizes = np.array([members.size for members in groups])
    window = np.outer(np.hanning(side), np.hanning(side)).astype(np.float32)
    return np.concatenate(groups), np.cumsum(sizes) - sizes, sizes.astype(np.float32), frequencies, window
