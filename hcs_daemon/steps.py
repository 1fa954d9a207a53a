"""What an image was at one step of its way into the model, in a few numbers: for the result, and for `trace`."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.records import StepRecord


def measure(step: str, arrays: Iterable[NDArray[np.generic]], *, digest: bool = True) -> StepRecord:
    """The record of a step. arrays: one a channel, of one shape and type. digest: whether their bytes are hashed too.

    A pass for the extremes and the mean takes half a millisecond for 1.2 million pixels, SHA-256 one or two.
    """
    held = [np.ascontiguousarray(array) for array in arrays]
    return StepRecord(
        step=step,
        shape=held[0].shape,
        dtype=held[0].dtype.name,
        minimum=tuple(_nine(array.min()) for array in held),
        maximum=tuple(_nine(array.max()) for array in held),
        mean=tuple(_nine(array.mean(dtype=np.float64)) for array in held),
        sha256=tuple(hashlib.sha256(array.data).hexdigest() for array in held) if digest else (),
    )


def _nine(value: np.generic) -> float:
    """Nine significant digits hold every float32 and every count."""
    return float(f"{float(value):.9g}")
