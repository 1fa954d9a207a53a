"""What one plane can prove about itself: type, declared bit depth, blankness. Whatever is proven wrong is refused.

A dim plane of a 16-bit camera and a plane of a 12-bit one look alike; a plane alone is refused only for what it
can prove (a comb, a shift, a multiple, values beyond the declared depth). The rest is the plate's judgement.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.config import Expect
from hcs_daemon.intake.quality import measure
from hcs_daemon.records import Pixels, PlaneMeasures
from hcs_daemon.vocabulary import Reason

_FOCUS_CROP = 512
_COMB_PIXELS = 8
"""So many pixels a level there must be on average: with fewer, any levels stand apart."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a plane must be. None: nothing is expected, only contradictions are refused."""

    bit_depth: int | None = None
    dtype: str | None = None

    @classmethod
    def of(cls, expect: Expect) -> "Expected":
        """From the settings."""
        return cls(expect.bit_depth, expect.dtype)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a file is not accepted. may_grow: it may still be being written."""

    reason: Reason
    detail: str
    hint: str
    may_grow: bool = False


def examine(pixels: Pixels, expected: Expected) -> PlaneMeasures | Refusal:
    """Measure a plane, or say what it proves to be wrong. pixels: (height, width) uint8 or uint16, raw counts."""
    if expected.dtype is not None and pixels.dtype.name != expected.dtype:
        return Refusal(
            Reason.WRONG_CONTAINER,
            f"pixels are {pixels.dtype.name}, expected {expected.dtype}",
            f"export raw {expected.dtype} images, or set expect.bit_depth and expect.container to what is right",
        )
    depth = expected.bit_depth or pixels.dtype.itemsize * 8
    histogram = np.bincount(pixels.ravel(), minlength=1 << depth)
    levels = np.flatnonzero(histogram)
    lowest, highest = int(levels[0]), int(levels[-1])
    if lowest == highest:
        return Refusal(
            Reason.BLANK,
            f"every pixel is {lowest}",
            "no light and no noise: check shutter, lamp and export of this channel",
        )
    proven = _wrong_depth(histogram, levels, depth)
    if proven is not None:
        return proven
    laplacian, spread = _laplacian_and_spread(pixels)
    return PlaneMeasures(
        minimum=lowest,
        maximum=highest,
        observed_bits=int(np.bitwise_or.reduce(levels)).bit_length(),
        saturated_fraction=float(histogram[(1 << depth) - 1]) / pixels.size,
        focus=round(laplacian / spread, 6) if spread else 0.0,
        quality=measure(pixels),
        sharpness=float(f"{laplacian:.6g}"),
    )


def _wrong_depth(histogram: NDArray[np.intp], levels: NDArray[np.intp], depth: int) -> Refusal | None:
    highest = int(levels[-1])
    if highest >= 1 << depth:
        return Refusal(
            Reason.BIT_DEPTH,
            f"values up to {highest}, beyond the declared {depth} bits (at most {(1 << depth) - 1})",
            "set expect.bit_depth to what the camera gives, or find out what changed the values",
        )
    step = int(np.gcd.reduce(np.diff(levels)))
    if step > 1:
        return Refusal(Reason.BIT_DEPTH, _step_in_words(step, int(levels[0]), len(levels)), _RAW_HINT)
    comb = depth > 8 and len(levels) <= 256 and histogram.sum() >= _COMB_PIXELS * len(levels)
    if comb and _share_on_teeth(histogram, levels) > 0.5:
        return Refusal(
            Reason.BIT_DEPTH,
            f"only {len(levels)} distinct values between {int(levels[0])} and {highest}, standing apart like the teeth"
            " of a comb: 8-bit values stretched into a 16-bit file",
            _RAW_HINT,
        )
    return None


_RAW_HINT = "export the raw camera images, without scaling to 8 bits on the way; then write the file again"


def _step_in_words(step: int, lowest: int, distinct: int) -> str:
    offset = lowest % step
    if step == 257 and offset == 0:
        return "8-bit values multiplied by 257 in a 16-bit file"
    if step & (step - 1) == 0 and offset == 0:
        bits = step.bit_length() - 1
        never = "bits are never used" if bits > 1 else "bit is never used"
        return f"the lowest {bits} {never}: values shifted left, multiplied by {step}"
    beyond = f" plus {offset}" if offset else ""
    return f"all {distinct} distinct values are multiples of {step}{beyond}: scaled from fewer bits"


def _share_on_teeth(histogram: NDArray[np.intp], levels: NDArray[np.intp]) -> float:
    """The share of pixels on levels whose neighbours on both sides never occur."""
    gaps = np.diff(levels) > 1
    alone = np.concatenate(([True], gaps)) & np.concatenate((gaps, [True]))
    return float(histogram[levels[alone]].sum() / histogram.sum())


def focus(pixels: Pixels) -> float:
    """Variance of the Laplacian over the variance of the pixels, on the central 512 x 512 at most.

    Dimensionless, higher is sharper; after Pech-Pacheco et al., ICPR 2000.
    """
    laplacian, spread = _laplacian_and_spread(pixels)
    return round(laplacian / spread, 6) if spread else 0.0


def _laplacian_and_spread(pixels: Pixels) -> tuple[float, float]:
    """The variances of the Laplacian and of the pixels; 0 for both where there is nothing to compare."""
    height, width = pixels.shape
    top, left = max(0, (height - _FOCUS_CROP) // 2), max(0, (width - _FOCUS_CROP) // 2)
    crop = pixels[top : top + _FOCUS_CROP, left : left + _FOCUS_CROP].astype(np.float32)
    spread = float(crop.var())
    if min(crop.shape) < 3 or spread == 0:
        return 0.0, 0.0
    laplacian = crop[:-2, 1:-1] + crop[2:, 1:-1] + crop[1:-1, :-2] + crop[1:-1, 2:] - 4 * crop[1:-1, 1:-1]
    return float(laplacian.var()), spread
