"""What an image was at one step of its way into the model, in a few numbers: for the result, and for `trace`."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.records import StepRecord

_WORDS_A_ROW = 256


def measure(step: str, arrays: Iterable[NDArray[np.generic]], *, digest: bool = True) -> StepRecord:
    """The record of a step. arrays: one a channel, of one shape and type. digest: whether their bytes are taken too.

    It takes a quarter of a millisecond for a plane of 1080 x 1080, where SHA-256 alone would take one and a half.
    """
    held = [np.ascontiguousarray(array) for array in arrays]
    return StepRecord(
        step=step,
        shape=held[0].shape,
        dtype=held[0].dtype.name,
        minimum=tuple(_nine(float(array.min())) for array in held),
        maximum=tuple(_nine(float(array.max())) for array in held),
        mean=tuple(_nine(_mean(array)) for array in held),
        digest=tuple(digest_of(array) for array in held) if digest else (),
    )


def digest_of(array: NDArray[np.generic]) -> str:
    """What tells two arrays apart, in 64 hexadecimal digits.

    The bytes, as they lie in memory, are taken for 64-bit numbers in rows of 256; SHA-256 is that of the columns' sums,
    then the rows' sums (both modulo 2^64), then the bytes that fill no row. Any one value that changes, or moves, is
    seen. Changes that leave every sum as it was are not: whom that protects against is the ledger's business.
    """
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = data.size - data.size % (8 * _WORDS_A_ROW)
    words = data[:whole].view(np.uint64).reshape(-1, _WORDS_A_ROW)
    found = hashlib.sha256(words.sum(axis=0).data)
    found.update(words.sum(axis=1).data)
    found.update(data[whole:].data)
    return found.hexdigest()


def _mean(array: NDArray[np.generic]) -> float:
    if not np.issubdtype(array.dtype, np.unsignedinteger):
        return float(array.mean(dtype=np.float64))
    # by columns, which is six times faster; so many counts of 16 bits fit into 32
    narrow = np.uint32 if array.dtype.itemsize <= 2 and len(array) <= 1 << 16 else np.uint64
    return int(array.sum(axis=0, dtype=narrow).sum(dtype=np.uint64)) / array.size


def _nine(value: float) -> float:
    """Nine significant digits hold every float32 and every count."""
    return float(f"{value:.9g}")
