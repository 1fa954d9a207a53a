"""The bins in which histograms of raw counts are recorded: fine where levels are few, four an octave above."""

from typing import Final

_ALONE = 16


def _edges() -> tuple[int, ...]:
    octaves = (1 << bits for bits in range(_ALONE.bit_length() - 1, 16))
    return (*range(_ALONE), *(octave + quarter * octave // 4 for octave in octaves for quarter in range(4)), 1 << 16)


BIN_EDGES: Final = _edges()
"""Bin i holds the levels from BIN_EDGES[i] to below BIN_EDGES[i + 1]; each power of two begins one."""
