"""Planes far below all others of their channel: what one well looks like that was exported as 8 bits among 16-bit ones.

A camera adds an offset to every pixel, and its noise has a floor; a plane below both was changed, or got no light.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from hcs_daemon.levels import BIN_EDGES
from hcs_daemon.records import PlaneEvidence

_OTHERS = 8
"""So many other planes must be there to compare with."""
_MOST = 0.2
"""A larger share of planes is not the odd one."""
_TIMES = 8
"""So many times lie the others' darkest pixels above its median, and their noise above its noise."""
_QUIET = 2.0
"""Counts. A 16-bit camera in the dark is louder: the real planes have 6.8 at least; docs/forensics.md."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Where a plane's pixels lie: `levels.BIN_EDGES` bins. noise: counts."""

    middle_bin: int
    darkest_bin: int
    noise: float

    @classmethod
    def of(cls, evidence: PlaneEvidence, noise: float) -> "Levels":
        """The median's bin, and that of the darkest 0.1 %."""
        return cls(_quantile_bin(evidence, 0.5), _quantile_bin(evidence, 0.001), noise)


def far_below(planes: Mapping[str, Levels]) -> frozenset[str]:
    """The paths of planes whose median is an eighth of the darkest pixels of all others at most, and quiet.

    planes: by path, of sound planes of one channel.
    """
    names = sorted(planes, key=lambda path: (planes[path].middle_bin, path))
    known = [planes[path] for path in names]
    darkest_of_rest = _running_least([BIN_EDGES[each.darkest_bin] for each in known])
    for count in range(min(int(_MOST * len(known)), len(known) - _OTHERS), 0, -1):
        highest_middle = BIN_EDGES[known[count - 1].middle_bin + 1] - 1
        if highest_middle * _TIMES < darkest_of_rest[count]:
            usual = median(each.noise for each in known[count:])
            return frozenset(
                path
                for path, each in zip(names[:count], known, strict=False)
                if each.noise < _QUIET and each.noise * _TIMES < usual
            )
    return frozenset()


def _quantile_bin(evidence: PlaneEvidence, share: float) -> int:
    """The bin in which so large a share of the pixels is reached."""
    reached = 0
    for place, pixels in enumerate(evidence.histogram):
        reached += pixels
        if reached >= share * evidence.pixels:
            return evidence.first_bin + place
    return evidence.first_bin + len(evidence.histogram) - 1


def _running_least(values: list[int]) -> list[int]:
    """At each place the least of the values from there on."""
    found = list(values)
    for place in range(len(found) - 2, -1, -1):
        found[place] = min(found[place], found[place + 1])
    return found
