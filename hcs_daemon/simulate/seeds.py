"""Where chance comes from: one stream of numbers for every purpose and place, so that no order of work matters."""

from zlib import crc32

import numpy as np


def generator(seed: int, *place: str | int) -> np.random.Generator:
    """The random numbers of one place: the same seed and place always give the same ones.

    place: words and whole numbers, such as plate, row, column, site and what the numbers are for.
    """
    return np.random.default_rng([seed, *(crc32(word.encode()) if isinstance(word, str) else word for word in place)])
