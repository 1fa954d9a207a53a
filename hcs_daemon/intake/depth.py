"""Whether a channel has the bits it should: what all its planes of a plate say together, revised as they come.

The verdict depends on which planes were read, not on their order. Rules and figures stand in docs/forensics.md.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.intake.faint import Levels, far_below
from hcs_daemon.intake.forensics import BLOCK_BITS, FULL_SCALES, cut_at, is_piled, prove
from hcs_daemon.levels import BIN_EDGES
from hcs_daemon.records import ChannelDepth, PlaneEvidence
from hcs_daemon.vocabulary import Verdict

_Key = TypeVar("_Key")
_SUREST: Final = {Verdict.CONSISTENT: 0.99, Verdict.CONTRADICTED: 0.9999, Verdict.UNDECIDED: 0.0}
"""Fewer bits that were scaled up and filled up with noise can hide under broad noise."""
_CAMERAS: Final = (7, 8, 10, 12, 14)
"""Depths below a declared one that its values must go beyond; no camera has 7 bits, half of 8 must be used."""
_FEW_PIXELS = 8
"""Beyond a full scale lies so many pixels at least: a hot one is no evidence."""
_SUPPORT = 2
"""One odd plane among others decides nothing."""
_EIGHT = 8
_STOPPED = 4
"""So many planes whose highest value is a full scale, though none piles up there."""
_SEVERAL = 3
_OUTWEIGHS = 4
"""So many times as many planes speak for a verdict as may speak against it."""
_TELLING_LEVELS = 64
"""A plane of so many distinct values would show a multiple or a comb if it were made like the others."""
_BEYOND_SHARE = 0.2
"""So large a share of planes beyond the declared depth is no accident."""
_BLOCK_RATIO, _BLOCK_SURE = 1.3, 15.0
"""Steps at the edges of blocks so much higher than others, and by so many of their standard deviations."""
_ALIKE = 0.6
"""Ratios within this factor of the highest are as high."""
_NEAR_LEVELS = 16


@dataclass(frozen=True, slots=True)
class _Ruling:
    """planes: how many speak for it, less those that speak against. by_itself: whatever was declared."""

    verdict: Verdict
    evidence: str
    planes: int = 0
    by_itself: bool = False


@dataclass(frozen=True, slots=True)
class _Plane:
    """What is known of a plane. tellings: what it is counted under. evidence: None in results of versions before it."""

    highest: int
    tellings: frozenset[tuple[str, int]]
    evidence: PlaneEvidence | None = None
    noise: float | None = None
    levels: Levels | None = None

    @property
    def is_sound(self) -> bool:
        return ("sound", 0) in self.tellings


@dataclass(slots=True)
class DepthBook:
    """The evidence of one channel's planes, by path. Owned by the intake thread.

    Counts are kept, so that a contradiction is found in the same time however many planes there are.
    """

    declared: int
    _planes: dict[str, _Plane] = field(default_factory=dict)
    _histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(BIN_EDGES) - 1, np.int64))
    _counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    _highest: Counter[int] = field(default_factory=Counter)
    _blocks: Counter[tuple[str, int]] = field(default_factory=Counter)

    def note(self, path: str, evidence: PlaneEvidence, noise: float | None = None) -> None:
        """Count a plane, in place of what was known of its path. noise: counts, None where it was not measured."""
        levels = Levels.of(evidence, noise) if noise is not None else None
        tellings = frozenset(_tellings(evidence, self.declared))
        self._put(path, _Plane(evidence.highest, tellings, evidence, noise, levels))

    def note_highest(self, path: str, highest: int) -> None:
        """Count an accepted plane of which an earlier version recorded its highest value alone."""
        past = {("past", bits) for bits in _CAMERAS if highest >= 1 << bits}
        bits = highest.bit_length()
        stopped = (
            {("stopped", bits)} if bits in FULL_SCALES and bits < self.declared and highest + 1 == 1 << bits else set()
        )
        self._put(path, _Plane(highest, frozenset({("sound", 0), *past, *stopped})))

    def forget(self, path: str) -> None:
        """The bytes of this path count no more."""
        before = self._planes.pop(path, None)
        if before is not None:
            self._tally(before, -1)

    def sound(self) -> Iterator[str]:
        """The paths of planes of which nothing is proven."""
        return (path for path, plane in self._planes.items() if plane.is_sound)

    def far_below(self) -> frozenset[str]:
        """The paths of planes that lie far below all others of the channel: `faint.far_below`."""
        return far_below(
            {path: plane.levels for path, plane in self._planes.items() if plane.is_sound and plane.levels}
        )

    @property
    def contradiction(self) -> str:
        """In words, why the planes so far contradict the declared depth; empty where they do not."""
        ruling = self._against()
        return ruling.evidence if ruling is not None and ruling.verdict is Verdict.CONTRADICTED else ""

    @property
    def contradicts_itself(self) -> bool:
        """Whether they do so whatever was declared."""
        ruling = self._against()
        return ruling is not None and ruling.verdict is Verdict.CONTRADICTED and ruling.by_itself

    @property
    def doubt(self) -> str:
        """In words, that all its values fit into 8 bits though more are declared; empty where they do not.

        It proves nothing, and it is how a 16-bit channel looks that was exported as 8 bits.
        """
        sound = self._counts["sound", 0]
        if self.declared <= _EIGHT or sound < _SEVERAL or self._past((1 << _EIGHT) - 1) or self.contradiction:
            return ""
        return (
            f"none of {len(self._planes)} planes so far has a value beyond 255, though {self.declared} bits are"
            " declared: so look 8-bit values in a 16-bit file, and next to no light;"
            " compare with the camera's own program"
        )

    def verdict(self) -> ChannelDepth:
        """The verdict on all planes so far."""
        ruling = self._against() or self._in_favour()
        noises = [plane.noise for plane in self._planes.values() if plane.noise is not None]
        return ChannelDepth(
            self.declared,
            ruling.verdict,
            ruling.evidence,
            confidence=min(round(1 - 0.5**ruling.planes, 4), _SUREST[ruling.verdict]),
            planes=len(self._planes),
            histogram=tuple(int(count) for count in self._histogram) if self._histogram.any() else (),
            noise_floor=round(median(noises), 3) if noises else None,
        )

    def _put(self, path: str, plane: _Plane) -> None:
        self.forget(path)
        self._planes[path] = plane
        self._tally(plane, 1)

    def _tally(self, plane: _Plane, change: int) -> None:
        for what in plane.tellings:
            _add(self._counts, what, change)
        if plane.is_sound:
            _add(self._highest, plane.highest, change)
        evidence = plane.evidence
        if evidence is None:
            return
        counted = change * np.array(evidence.histogram, np.int64)
        self._histogram[evidence.first_bin : evidence.first_bin + len(counted)] += counted
        for steps in evidence.blocks if plane.is_sound else ():
            _add(self._blocks, ("edges", steps.bits), change * steps.edges)
            _add(self._blocks, ("edge_sum", steps.bits), change * round(steps.edge_sum * 1000))
            _add(self._blocks, ("others", steps.bits), change * steps.others)
            _add(self._blocks, ("other_sum", steps.bits), change * round(steps.other_sum * 1000))

    def _against(self) -> _Ruling | None:
        """What speaks against the declared depth, or keeps it open; the surest first."""
        return self._stopped_short() or self._cut_off() or self._proven() or self._outgrown() or self._filled_up()

    def _in_favour(self) -> _Ruling:
        """What is to be said where nothing speaks against it."""
        if not self._planes:
            return _Ruling(Verdict.UNDECIDED, "no plane yet")
        if not self._counts["sound", 0]:
            words = f"{self._of_all(len(self._planes), 'is', 'are')} refused, so that none is left to judge by"
            return _Ruling(Verdict.UNDECIDED, words)
        fewer = self._next_below()
        reached, top = self._counts["past", fewer], (1 << fewer) - 1
        if reached and (reached >= _SUPPORT or reached == len(self._planes)):
            words = f"{self._of_all(reached, 'has', 'have')} values beyond {top}, more than {fewer} bits hold"
            return _Ruling(Verdict.CONSISTENT, f"{words}; {self._outermost()}", reached)
        if reached:
            words = f"{self._of_all(1, 'has')} values beyond {top}, and one odd plane decides nothing"
        else:
            words = (
                f"{self._of_sound(0)} {_FEW_PIXELS} pixels or more beyond {top}: a dim sample and a {fewer}-bit camera"
                " that never saturates look the same"
            )
        return _Ruling(Verdict.UNDECIDED, f"{words}; {self._outermost()}")

    def _stopped_short(self) -> _Ruling | None:
        """Planes end at a smaller full scale, and (next to) none goes beyond it."""
        for bits in range(self.declared - 1, FULL_SCALES[0] - 1, -1):
            stopped, piled = self._counts["stopped", bits], self._counts["piled", bits]
            past = self._past((1 << bits) - 1) if stopped else 0
            enough = piled >= _SUPPORT or (piled and stopped >= _SEVERAL) or (not past and self._stands_out(bits))
            words = (
                f"{self._of_all(stopped, 'ends', 'end')} at {(1 << bits) - 1}, the full scale of {bits} bits"
                f" ({piled} with a pile of pixels there), and {past or 'none'} beyond it"
            )
            if enough and past * _OUTWEIGHS <= stopped:
                return _Ruling(Verdict.CONTRADICTED, words, stopped - past)
            if piled and past < _OUTWEIGHS * stopped:
                return _Ruling(Verdict.UNDECIDED, f"{words}: too few to decide by")
        return None

    def _stands_out(self, bits: int) -> bool:
        """Whether far more planes end at a full scale than at all the levels just beneath, piled up there or not."""
        top, stopped = (1 << bits) - 1, self._counts["stopped", bits]
        beneath = sum(self._highest[level] for level in range(top - _NEAR_LEVELS, top))
        return stopped >= _STOPPED and stopped > _OUTWEIGHS * beneath

    def _cut_off(self) -> _Ruling | None:
        """Planes pile up at one and the same level, which fewer bits hold, and (next to) none goes beyond it."""
        fewer = self._next_below()
        levels = [
            (planes, level)
            for (what, level), planes in self._counts.items()
            if what == "ceiling" and planes >= _SEVERAL and level < 1 << fewer
        ]
        if not levels:
            return None
        planes, level = max(levels)
        past = self._past(level)
        if past * _OUTWEIGHS > planes:
            return None
        words = (
            f"{self._of_all(planes, 'piles', 'pile')} up at the highest value, {level}, and {past or 'none'} have"
            f" values beyond it: what saturates there gives fewer than {self.declared} bits"
        )
        return _Ruling(Verdict.CONTRADICTED, words, planes - past)

    def _proven(self) -> _Ruling | None:
        """All planes that can tell are proven to be wrong, each by itself."""
        proven = self._counts["proven", 0]
        if proven < _SEVERAL or self._counts["telling", 0]:
            return None
        words = f"{self._of_all(proven, 'is', 'are')} proven to be scaled or changed, and none of the others can tell"
        return _Ruling(Verdict.CONTRADICTED, words, proven, by_itself=True)

    def _outgrown(self) -> _Ruling | None:
        """Too many planes go beyond the declared depth."""
        beyond, full = self._counts["outgrown", 0], self._counts["full", 0]
        if beyond < max(_SEVERAL, _OUTWEIGHS * full, _BEYOND_SHARE * len(self._planes)):
            return None
        words = f"{self._of_all(beyond, 'has', 'have')} values beyond {(1 << self.declared) - 1}"
        return _Ruling(Verdict.CONTRADICTED, words, beyond - full)

    def _filled_up(self) -> _Ruling | None:
        """Their histograms step at the edges of blocks alone: fewer bits, filled up with noise."""
        planes = self._counts["sound", 0]
        ratios = {bits: self._block_ratio(bits) for bits in BLOCK_BITS}
        if planes < _SEVERAL or not any(ratios.values()):
            return None
        # the edges of larger blocks are edges of smaller ones too, and step as high
        bits = next(bits for bits, ratio in ratios.items() if ratio > _ALIKE * max(ratios.values()))
        ratio = ratios[bits]
        words = (
            f"over {planes} planes the histogram's steps at multiples of {1 << bits} are {ratio:.1f} times as high as"
            f" others: values of {self.declared - bits} bits, multiplied by {1 << bits} and filled up with noise"
        )
        return _Ruling(Verdict.CONTRADICTED, words, planes, by_itself=True)

    def _block_ratio(self, bits: int) -> float:
        """How much higher steps are at the edges of blocks, where that cannot be chance; else 0."""
        edges, others = self._blocks["edges", bits], self._blocks["others", bits]
        elsewhere = self._blocks["other_sum", bits]
        if bits >= self.declared or not edges or not elsewhere:
            return 0.0
        ratio = self._blocks["edge_sum", bits] / edges / (elsewhere / others)
        return ratio if ratio >= _BLOCK_RATIO and (ratio - 1) * edges**0.5 >= _BLOCK_SURE else 0.0

    def _past(self, level: int) -> int:
        """How many sound planes go beyond a level."""
        return sum(planes for highest, planes in self._highest.items() if highest > level)

    def _of_all(self, planes: int, verb: str, plural: str = "") -> str:
        if len(self._planes) == 1:
            return f"its one plane {verb}" if planes else f"its one plane {verb} not"
        return f"{planes or 'none'} of {len(self._planes)} planes {plural if planes > 1 and plural else verb}"

    def _of_sound(self, planes: int) -> str:
        sound = self._counts["sound", 0]
        which = "" if sound == len(self._planes) else " that are not refused"
        if sound == 1:
            return f"the one plane{which.replace('are', 'is')} has {'' if planes else 'not'}".rstrip()
        return f"{planes or 'none'} of {sound} planes{which} has"

    def _outermost(self) -> str:
        path = max(self.sound(), key=lambda name: (self._planes[name].highest, name))
        return f"the highest value is {self._planes[path].highest}, in {'/'.join(path.split('/')[-2:])}"

    def _next_below(self) -> int:
        return max(bits for bits in _CAMERAS if bits < self.declared)


def _add(counts: Counter[_Key], key: _Key, change: int) -> None:
    """Like `counts[key] += change`, but what falls to nothing is gone."""
    counts[key] += change
    if not counts[key]:
        del counts[key]


def _tellings(evidence: PlaneEvidence, declared: int) -> set[tuple[str, int]]:
    """What a plane is counted under.

    outgrown: it goes beyond the declared depth. proven: it is wrong otherwise. stopped, piled: it ends at the full
    scale of so many bits, piles up there. sound: nothing is proven. telling: sound, and a scaling would show. past:
    sound, with values beyond so many bits. ceiling: sound, piled up at that level. full: sound, piled up at the
    declared full scale.
    """
    is_piled_up = is_piled(evidence.at_top, evidence.beneath)
    cut = cut_at(evidence, declared)
    proof = prove(evidence, declared)
    if proof is not None and not (cut and is_piled_up and prove(evidence, cut) is None):
        outgrown = evidence.highest >= 1 << declared and prove(evidence, evidence.highest.bit_length()) is None
        return {("outgrown" if outgrown else "proven", 0)}
    stopped = {("stopped", cut)} if cut else set()
    if proof is not None and cut:
        return {*stopped, ("piled", cut)}
    past = {("past", bits) for bits in _CAMERAS if _pixels_past(evidence, bits) >= _FEW_PIXELS}
    telling = {("telling", 0)} if evidence.levels >= _TELLING_LEVELS else set()
    full = {("full", 0)} if is_piled_up and evidence.highest == (1 << declared) - 1 else set()
    ceiling = {("ceiling", evidence.highest)} if is_piled_up and not full else set()
    return {("sound", 0), *stopped, *past, *telling, *full, *ceiling}


def _pixels_past(evidence: PlaneEvidence, bits: int) -> int:
    """How many pixels lie beyond so many bits; each power of two begins a bin."""
    first = BIN_EDGES.index(1 << bits) - evidence.first_bin
    return sum(evidence.histogram[max(0, first) :])


@dataclass(slots=True)
class PlateDepths:
    """The channels of a plate.

    declared: bits. contradicted: channel -> why, of those that are for now. faint: by path, the channel of each plane
    that lies far below all its channel's others, when that was last looked at.
    """

    declared: int
    contradicted: dict[str, str] = field(default_factory=dict)
    faint: dict[str, str] = field(default_factory=dict)
    _is_stale: bool = False
    _books: dict[str, DepthBook] = field(default_factory=dict)
    _channels: dict[str, str] = field(default_factory=dict)

    def note(self, path: str, channel: str, evidence: PlaneEvidence, noise: float | None = None) -> tuple[str, ...]:
        """Count a plane in; the channels whose contradiction it made or ended."""
        turned = self.forget(path) if self._channels.get(path, channel) != channel else ()
        self._channels[path] = channel
        book = self._books.setdefault(channel, DepthBook(self.declared))
        book.note(path, evidence, noise)
        return (*turned, *self._look(channel))

    def note_highest(self, path: str, channel: str, highest: int) -> None:
        """Count an accepted plane in, of which an earlier version recorded its highest value alone."""
        self._channels[path] = channel
        self._books.setdefault(channel, DepthBook(self.declared)).note_highest(path, highest)
        self._look(channel)

    def forget(self, path: str) -> tuple[str, ...]:
        """The bytes of this path count no more; the channels whose contradiction that made or ended."""
        channel = self._channels.pop(path, None)
        if channel is None:
            return ()
        self._books[channel].forget(path)
        return self._look(channel)

    def doubts(self) -> list[str]:
        """Sentences on channels that are not contradicted, and cannot be trusted either."""
        return [f"{channel}: {book.doubt}" for channel, book in sorted(self._books.items()) if book.doubt]

    def look_for_faint(self) -> set[str]:
        """Bring `faint` up to date; the paths that came to it or left."""
        if not self._is_stale:
            return set()
        before, self._is_stale = self.faint, False
        self.faint = {path: channel for channel, book in self._books.items() for path in book.far_below()}
        return self.faint.keys() ^ before.keys()

    def sound(self, channel: str) -> Iterator[str]:
        """The paths of a channel's planes of which nothing is proven."""
        return self._books[channel].sound() if channel in self._books else iter(())

    def verdicts(self, channels: Iterable[str]) -> dict[str, ChannelDepth]:
        """The verdict on each channel so far."""
        return {channel: self._books.get(channel, DepthBook(self.declared)).verdict() for channel in channels}

    def _look(self, channel: str) -> tuple[str, ...]:
        self._is_stale = True
        before, now = channel in self.contradicted, self._books[channel].contradiction
        if now:
            self.contradicted[channel] = now
        else:
            self.contradicted.pop(channel, None)
        return (channel,) if before != bool(now) else ()
