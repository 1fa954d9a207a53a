"""What one plane must be: type, light at all, and nothing in it that proves it to be encoded otherwise than declared.

A dim plane of a 16-bit camera and a plane of a 12-bit one look alike; a plane alone is refused only for what it
can prove (`forensics.prove`). The rest is the judgement of the plate: `depth`.
"""

from dataclasses import dataclass

import numpy as np

from hcs_daemon.config import Expect
from hcs_daemon.intake.forensics import gather, oddities, prove
from hcs_daemon.intake.quality import measure
from hcs_daemon.records import Pixels, PlaneEvidence, PlaneMeasures
from hcs_daemon.vocabulary import Reason

_FOCUS_CROP = 512


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
    """Why a file is not accepted. may_grow: it may still be being written. evidence: of pixels that were decoded."""

    reason: Reason
    detail: str
    hint: str
    may_grow: bool = False
    evidence: PlaneEvidence | None = None


def examine(pixels: Pixels, expected: Expected) -> PlaneMeasures | Refusal:
    """Measure a plane, or say what it proves to be wrong. pixels: (height, width) uint8 or uint16, raw counts."""
    if expected.dtype is not None and pixels.dtype.name != expected.dtype:
        return Refusal(
            Reason.WRONG_CONTAINER,
            f"pixels are {pixels.dtype.name}, expected {expected.dtype}",
            f"export raw {expected.dtype} images, or set expect.bit_depth and expect.container to what is right",
        )
    depth = expected.bit_depth or pixels.dtype.itemsize * 8
    evidence = gather(pixels)
    if evidence.levels == 1:
        return Refusal(
            Reason.BLANK,
            f"every pixel is {evidence.lowest}",
            "no light and no noise: check shutter, lamp and export of this channel",
        )
    proof = prove(evidence, depth)
    if proof is not None and (expected.bit_depth is not None or not proof.rests_on_declaration):
        return Refusal(Reason.BIT_DEPTH, proof.detail, proof.hint, evidence=evidence)
    laplacian, spread = _laplacian_and_spread(pixels)
    return PlaneMeasures(
        minimum=evidence.lowest,
        maximum=evidence.highest,
        observed_bits=evidence.ored.bit_length(),
        saturated_fraction=evidence.at_top / evidence.pixels if evidence.highest == (1 << depth) - 1 else 0.0,
        focus=round(laplacian / spread, 6) if spread else 0.0,
        quality=measure(pixels),
        sharpness=float(f"{laplacian:.6g}"),
        evidence=evidence,
        oddities=oddities(evidence, depth),
    )


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
