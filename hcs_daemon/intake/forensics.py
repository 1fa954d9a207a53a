"""How a plane was encoded: evidence from one pass over its pixels, and what that evidence proves.

A container's type says nothing of its contents. What can be proven, what only many planes can, what nothing can, and
where each threshold comes from stands in docs/forensics.md.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.levels import BIN_EDGES
from hcs_daemon.records import BlockSteps, Pixels, PlaneEvidence

FULL_SCALES = tuple(range(8, 16))
"""Depths, in bits, of cameras and exports that may hide in a deeper file."""
BLOCK_BITS = (2, 4, 6, 8)
"""Fewer bits by so many: a 14-, 12-, 10- or 8-bit source filled up to 16."""

_CROWDED = 8
"""So many pixels a level beside a gap has at least: chance leaves out a level between two such once in 3000 times."""
_NEAR = 16
_ROWS = 64
"""Differences between neighbours are taken on about so many rows, spread over the plane."""
_GRID_PX, _GRID_CROP = 8, 256
_GRID_PIXELS = 128 * 128
"""In a smaller plane noise alone makes such a grid now and then."""
_CHANCE_BITS = 20
"""A common step is believed when chance makes it once in 2**20 planes."""
_GAPS, _COMB = 8, 0.1
_ROUGHER, _ORDER_PIXELS = 2.0, 256
"""Rougher by so much than with its bytes exchanged; among fewer pixels chance alone makes a plane so now and then."""
_WRAPPED, _HOT = 0.5, 0.001
"""What a smaller share than the second does is left to hot and dead pixels."""
_FEWEST = 8
"""A pile has so many pixels at least."""
_PIECE = 1 << 17
_STEEPEST = 25.0
"""A step of the histogram counts as five standard deviations at most: a narrow peak has steep flanks anywhere."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What is proven to be wrong with a plane's encoding, and what a person can do about it.

    rests_on_declaration: wrong only for what was declared; by itself it could be right.
    """

    detail: str
    hint: str
    rests_on_declaration: bool = False


def gather(pixels: Pixels) -> PlaneEvidence:
    """The evidence of a plane. pixels: (height, width) uint8 or uint16, raw counts; of any size but none."""
    histogram = _histogram(pixels)
    levels = np.flatnonzero(histogram > 0)
    lowest, highest = int(levels[0]), int(levels[-1])
    filled = histogram[levels]
    steps = np.diff(levels)
    improbable = (steps > 1) & (np.minimum(filled[1:], filled[:-1]) >= _CROWDED)
    beside = np.concatenate(([False], improbable)) | np.concatenate((improbable, [False]))
    size = int(pixels.size)
    binned = _binned(histogram)
    held = np.flatnonzero(binned)
    byte_order, wrap = _roughness(pixels)
    return PlaneEvidence(
        pixels=size,
        lowest=lowest,
        highest=highest,
        ored=int(np.bitwise_or.reduce(levels)),
        levels=len(levels),
        step=int(np.gcd.reduce(steps)) if len(steps) else 0,
        gaps=int(improbable.sum()),
        comb_fraction=round(float(filled[beside].sum()) / size, 6),
        zero_fraction=round(float(histogram[0]) / size, 9),
        full_fraction=round(float(histogram[-1]) / size, 9),
        at_top=int(histogram[highest]),
        beneath=int(histogram[max(0, highest - _NEAR) : highest].sum()),
        at_bottom=int(histogram[lowest]),
        above=int(histogram[lowest + 1 : lowest + 1 + _NEAR].sum()),
        byte_order=byte_order,
        wrap=wrap,
        grid=_grid(pixels),
        blocks=_blocks(histogram[lowest : highest + 1], lowest),
        first_bin=int(held[0]),
        histogram=tuple(int(count) for count in binned[held[0] : held[-1] + 1]),
    )


def prove(evidence: PlaneEvidence, declared: int) -> Proof | None:
    """What the evidence alone proves against a declared depth, in bits; None where nothing.

    The surest explanation comes first: swapped bytes also lie beyond a depth, and multiples also leave gaps.
    """
    return (
        _swapped(evidence)
        or _wrapped(evidence)
        or _beyond(evidence, declared)
        or _multiple(evidence)
        or _combed(evidence, declared)
        or _clipped(evidence, declared)
    )


def oddities(evidence: PlaneEvidence, declared: int) -> tuple[str, ...]:
    """Names of what is odd and proves nothing: the plane is analysed, and flagged."""
    odd = {
        "gaps": evidence.gaps >= 2 and evidence.comb_fraction > _COMB / 2,
        "floor": evidence.highest - evidence.lowest > _NEAR
        and evidence.at_bottom > evidence.pixels * _HOT
        and is_piled(evidence.at_bottom, evidence.above),
        "ceiling": evidence.highest + 1 < 1 << declared and is_piled(evidence.at_top, evidence.beneath),
        "jpeg_grid": evidence.levels > _NEAR and evidence.pixels >= _GRID_PIXELS and evidence.grid > GRIDDED,
        "signed": evidence.byte_order is not None and evidence.lowest >= 1 << (declared - 1) and declared == 16,
    }
    return tuple(name for name, found in odd.items() if found)


GRIDDED = 1.1
"""Differences across the edges of 8 x 8 blocks so much larger than others are JPEG's; measured, docs/forensics.md."""


def is_piled(at: int, beside: int) -> bool:
    """Whether the outermost level holds more pixels than a tail that thins out can: something was cut off there."""
    usual = beside / _NEAR
    return at >= _FEWEST and at > 3 * usual + 5 * math.sqrt(usual)


def cut_at(evidence: PlaneEvidence, declared: int) -> int | None:
    """The bits of a smaller full scale that is the plane's highest value; None where it is not one."""
    bits = evidence.highest.bit_length()
    return bits if bits in FULL_SCALES and bits < declared and evidence.highest == (1 << bits) - 1 else None


_RAW_HINT = "export the raw camera images, without scaling to 8 bits on the way; then write the file again"
_STRETCHED_HINT = (
    "export the raw camera images, without a gain, a gamma or another scale on the way; then write the file again"
)
_DEPTH_HINT = "set expect.bit_depth to what the camera gives, or find out what changed the values"


def _swapped(evidence: PlaneEvidence) -> Proof | None:
    if evidence.pixels < _ORDER_PIXELS or evidence.byte_order is None or evidence.byte_order <= _ROUGHER:
        return None
    if evidence.step % 256 == 0:
        return None  # bytes of nothing but zeros look the same as a multiple of 256
    return Proof(
        "the bytes of each pixel are swapped: neighbours differ"
        f" {evidence.byte_order:.3g} times as much as they would the other way round",
        "whatever wrote this file mixed up big-endian and little-endian: write it again with the right byte order",
    )


def _wrapped(evidence: PlaneEvidence) -> Proof | None:
    full = 255 if evidence.byte_order is None else 65535
    if evidence.wrap >= _WRAPPED or evidence.lowest > full // 64 or evidence.highest < full - full // 64:
        return None  # what wraps goes on from zero to full scale; a bright plane with a black border does not
    return Proof(
        f"values went below zero and came out at the top, near {evidence.highest}: neighbours jump across all levels",
        "something subtracted an offset without stopping at zero: export the raw camera images",
    )


def _beyond(evidence: PlaneEvidence, declared: int) -> Proof | None:
    if evidence.highest < 1 << declared:
        return None
    return Proof(
        f"values up to {evidence.highest}, beyond the declared {declared} bits (at most {(1 << declared) - 1})",
        _DEPTH_HINT,
        rests_on_declaration=True,
    )


def _multiple(evidence: PlaneEvidence) -> Proof | None:
    step, offset = evidence.step, evidence.lowest % evidence.step if evidence.step else 0
    drawn = evidence.levels - 1 + (offset == 0)
    if step <= 1 or drawn * math.log2(step) < _CHANCE_BITS:
        return None
    return Proof(_step_in_words(step, offset, evidence.levels), _RAW_HINT)


def _step_in_words(step: int, offset: int, distinct: int) -> str:
    if step == 257 and offset == 0:
        return "8-bit values multiplied by 257 in a 16-bit file"
    if step & (step - 1) == 0 and offset == 0:
        bits = step.bit_length() - 1
        never = "bits are never used" if bits > 1 else "bit is never used"
        swapped = ", or 8-bit values with their two bytes swapped" if step == 256 else ""
        return f"the lowest {bits} {never}: values shifted left, multiplied by {step}{swapped}"
    beyond = f" plus {offset}" if offset else ""
    return f"all {distinct} distinct values are multiples of {step}{beyond}: scaled from fewer bits"


def _combed(evidence: PlaneEvidence, declared: int) -> Proof | None:
    if declared <= 8 or evidence.gaps < _GAPS or evidence.comb_fraction <= _COMB:
        return None
    source, hint = ("8-bit values", _RAW_HINT) if evidence.levels <= 256 else ("counts", _STRETCHED_HINT)
    return Proof(
        f"only {evidence.levels} distinct values between {evidence.lowest} and {evidence.highest}, with {evidence.gaps}"
        f" gaps between frequent ones, like the teeth of a comb: {source} stretched by a factor or a curve",
        hint,
    )


def _clipped(evidence: PlaneEvidence, declared: int) -> Proof | None:
    bits = cut_at(evidence, declared)
    if bits is None or not is_piled(evidence.at_top, evidence.beneath):
        return None
    return Proof(
        f"{evidence.at_top} pixels pile up at {evidence.highest}, the full scale of {bits} bits, and none lies beyond:"
        f" a saturated {bits}-bit camera, or values cut off there",
        _DEPTH_HINT,
        rests_on_declaration=True,
    )


def _histogram(pixels: Pixels) -> NDArray[np.intp]:
    """How many pixels each level has. In pieces: counting needs eight bytes a pixel, which then stay in the cache."""
    flat = pixels.ravel()
    counts = np.zeros(1 << (8 * pixels.itemsize), np.intp)
    for start in range(0, flat.size, _PIECE):
        piece = np.bincount(flat[start : start + _PIECE])
        counts[: len(piece)] += piece
    return counts


def _binned(histogram: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.asarray(np.add.reduceat(histogram, _edges(len(histogram))))


@cache
def _edges(levels: int) -> NDArray[np.intp]:
    """Where the bins begin in a histogram of so many levels."""
    return np.array([edge for edge in BIN_EDGES if edge < levels])


def _roughness(pixels: Pixels) -> tuple[float | None, float]:
    """`byte_order` and `wrap` of `PlaneEvidence`, from differences between neighbours in a row."""
    rows = pixels[:: max(1, pixels.shape[0] // _ROWS)]
    wide = rows.astype(np.int32)
    steps: NDArray[np.int32] = wide[:, 1:] - wide[:, :-1]
    plain = float(np.abs(steps).sum(dtype=np.int64))
    if plain == 0:
        return (None if pixels.itemsize == 1 else 0.0), 1.0
    wrap = _wrap(rows, steps)
    if pixels.itemsize == 1:
        return None, wrap
    swapped = float(np.abs(np.diff(rows.byteswap().astype(np.int32), axis=1)).sum(dtype=np.int64))
    return (round(plain / swapped, 6) if swapped else 0.0), wrap


def _wrap(rows: Pixels, steps: NDArray[np.int32]) -> float:
    """`wrap` of `PlaneEvidence`. What is saturated also jumps to full scale, and is left out."""
    full, fewest = (1 << (8 * rows.itemsize)) - 1, max(_FEWEST, steps.size * _HOT)
    if np.count_nonzero(np.abs(steps) > full // 2) <= fewest:
        return 1.0
    below = rows < full
    steps = steps[below[:, 1:] & below[:, :-1]]
    sizes = np.abs(steps)
    if np.count_nonzero(sizes > full // 2) <= fewest:
        return 1.0
    around = np.abs(steps.astype(np.int8 if rows.itemsize == 1 else np.int16).astype(np.int32))
    return round(float(around.sum(dtype=np.int64)) / float(sizes.sum(dtype=np.int64)), 6)


def _grid(pixels: Pixels) -> float:
    """`grid` of `PlaneEvidence`, over both directions, on a crop that begins at the edge of a block.

    Large differences are those of the picture and count as twice the usual one at most.
    """
    top, left = (max(0, (length - _GRID_CROP) // 2) // _GRID_PX * _GRID_PX for length in pixels.shape)
    crop = pixels[top : top + _GRID_CROP, left : left + _GRID_CROP].astype(np.float32)
    by_phase = np.zeros(_GRID_PX)
    for axis in (0, 1):
        steps = np.abs(np.diff(crop, axis=axis))
        whole = steps.shape[axis] // _GRID_PX * _GRID_PX
        if whole and steps.size:
            means = np.minimum(steps, 2 * steps.mean()).mean(axis=1 - axis)
            by_phase += means[:whole].reshape(-1, _GRID_PX).mean(axis=0)
    usual = float(np.median(by_phase[:-1]))
    return round(float(by_phase[-1]) / usual, 4) if usual else 1.0


def _blocks(stretch: NDArray[np.intp], lowest: int) -> tuple[BlockSteps, ...]:
    """`blocks` of `PlaneEvidence`. stretch: the histogram from the lowest value to the highest."""
    both = stretch[1:] + stretch[:-1]
    crowded = np.flatnonzero(both >= _CROWDED)
    heights = np.minimum(np.square(np.diff(stretch)[crowded]) / both[crowded], _STEEPEST)
    places = crowded + (lowest + 1)
    whole, count = float(heights.sum()), len(places)
    found = []
    for bits in BLOCK_BITS:  # the edges of wider blocks are among those of narrower ones
        at_edges = places & ((1 << bits) - 1) == 0
        places, heights = places[at_edges], heights[at_edges]
        total = float(heights.sum())
        found.append(BlockSteps(bits, len(places), round(total, 3), count - len(places), round(whole - total, 3)))
    return tuple(found)
