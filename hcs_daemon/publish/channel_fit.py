"""Whether a site's channels are what they are called, by what the plate's other sites look like. Refuses nothing.

Each channel's pictures are described by their shape alone: how fine their structure is, how much of the field they
fill, and how their light is spread over it. How strong a stain is plays no part. Two channels of a site are told to be
exchanged where both pictures fit the other's channel far better than their own, and where the plate shows that the two
can be told apart at all; docs/channels.md has the figures.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.levels import BIN_EDGES
from hcs_daemon.plate import WellId
from hcs_daemon.publish.documents import well_id
from hcs_daemon.publish.quality import EMPTY_FRACTION, LAPLACIAN_OF_NOISE, pictures
from hcs_daemon.publish.schemas import ChannelFitEntry, ExchangedEntry, InputEntry, WellResult
from hcs_daemon.records import PlaneMeasures

Floats = NDArray[np.float64]
Model = tuple[Floats, Floats]
"""Of a channel: the median of each trait, and its spread; NaN for a trait that it does not have."""

SITES, WELLS = 16, 6
"""So many sites, of so many wells, must show both channels before one is held against the others."""
BOTH, EACH = 12.0, 4.0
"""What an exchange must gain in the logarithm of the likelihood: the two pictures together, and each by itself."""
TOLD_APART = 0.8
"""Of so many of the plate's sites an exchange would be seen, or the two channels look alike."""
LIKE_OTHERS = 0.5
"""Each picture gains at least so much of what one of that channel usually loses under the other's name; one that is
merely blurred gains less."""
ORDINARY = 3.5
"""So many standard deviations off, on average, a picture may be in the channel that it is said to be of."""
_FAR = 6.0
_FREEDOM = 4.0
"""Student's t with so few degrees of freedom lets no single trait decide (Lange et al., JASA 84 (1989) 881)."""
_TONES = (0.5, 0.75, 0.9, 0.97)
_TOP, _DARKEST = 0.995, 0.003
FLOORS = np.array([0.15, 0.075, 0.075, 0.075, *(0.06 for _ in _TONES)])
"""A channel's pictures are never taken to be more alike than this: power slope, then decadic logarithms."""
TRAITS = len(FLOORS)
_ENOUGH_TRAITS = 6


@dataclass(frozen=True, slots=True)
class Exchange:
    """Two channels of a site that look like each other's. gain: in the logarithm of the likelihood."""

    site: int
    channels: tuple[str, str]
    gain: float


@dataclass(frozen=True, slots=True)
class ChannelFit:
    """What the pictures of a plate say of their names. told_apart: the pairs that do not look alike."""

    sites: int = 0
    told_apart: tuple[tuple[str, str], ...] = ()
    exchanges: Mapping[WellId, tuple[Exchange, ...]] = field(default_factory=dict)

    def of(self, well: WellId) -> tuple[str, ...]:
        """A well's exchanges, in words."""
        by_pair: dict[tuple[str, str], list[int]] = {}
        for exchange in self.exchanges.get(well, ()):
            by_pair.setdefault(exchange.channels, []).append(exchange.site)
        return tuple(_in_words(pair, sites) for pair, sites in by_pair.items())

    @property
    def words(self) -> tuple[str, ...]:
        """All exchanges of the plate, in words."""
        return tuple(f"{well.stem} {words}" for well in sorted(self.exchanges) for words in self.of(well))

    @property
    def entry(self) -> ChannelFitEntry:
        """As it is written in the plate's file."""
        found = [
            ExchangedEntry(well=well.stem, site=each.site, channels=each.channels, gain=round(each.gain, 1))
            for well, exchanges in sorted(self.exchanges.items())
            for each in exchanges
        ]
        return ChannelFitEntry(sites=self.sites, told_apart=list(self.told_apart), exchanged=found)


class ChannelFits:
    """Judges a plate's channels, keeping of each well what judging needs. Owned by the publish thread."""

    def __init__(self) -> None:
        self._wells: dict[WellId, tuple[Sequence[InputEntry], tuple[list[int], Floats]]] = {}

    def judge(self, results: Iterable[WellResult]) -> ChannelFit:
        """Judge all wells, each beside the others; their order plays no part."""
        by_well = {well_id(result): result for result in results}
        if not by_well:
            return ChannelFit()
        wells = sorted(by_well)
        found = [self._traits(well, by_well[well]) for well in wells]
        places = [(well, site) for well, (sites, _) in zip(wells, found, strict=True) for site in sites]
        return judge(places, np.concatenate([traits for _, traits in found]), by_well[wells[0]].channels)

    def warned(self, result: WellResult, others: Iterable[WellResult]) -> WellResult:
        """The result with a warning of what looks exchanged in it, beside the plate's other wells so far."""
        well = well_id(result)
        said = self.judge([*(other for other in others if well_id(other) != well), result]).of(well)
        return result.model_copy(update={"warnings": [*result.warnings, *said]}) if said else result

    def _traits(self, well: WellId, result: WellResult) -> tuple[list[int], Floats]:
        kept = self._wells.get(well)
        if kept is None or kept[0] is not result.inputs:
            shown = pictures(result)
            sites = sorted({site for site, _ in shown})
            nothing = np.full(TRAITS, np.nan)
            rows = [
                [
                    traits_of(shown[site, channel]) if (site, channel) in shown else nothing
                    for channel in result.channels
                ]
                for site in sites
            ]
            traits = np.array(rows, np.float64).reshape(len(sites), len(result.channels), TRAITS)
            kept = self._wells[well] = (result.inputs, (sites, traits))
        return kept[1]


def traits_of(measured: InputEntry | PlaneMeasures) -> Floats:
    """A picture's shape, (traits,) float64; all NaN where nothing is to be seen in it, or it was not measured.

    The power slope; and as decadic logarithms: the Laplacian's variance, without what noise gives it, over the square
    of the brightness; the odds of the foreground; the number of spots; and the levels below which 50, 75, 90 and 97 %
    of the pixels lie, above the background, over that of 99.5 %.
    """
    quality, evidence = measured.quality, measured.evidence
    found = np.full(TRAITS, np.nan)
    if quality is None or evidence is None or quality.bright <= 0 or quality.foreground_fraction < EMPTY_FRACTION:
        return found
    *tones, top = _levels(evidence.first_bin, evidence.histogram) - quality.background
    if top <= 0:
        return found
    texture = (measured.sharpness or 0.0) - LAPLACIAN_OF_NOISE * quality.noise**2
    share = min(quality.foreground_fraction, 0.999)
    found[:4] = (
        math.nan if quality.power_slope is None else quality.power_slope,
        math.log10(texture / quality.bright**2) if texture > 0 else math.nan,
        math.log10(share / (1 - share)),
        math.log10(1 + quality.spots),
    )
    found[4:] = np.log10(np.maximum(np.array(tones) / top, _DARKEST))
    return found


def _levels(first_bin: int, histogram: Sequence[int]) -> Floats:
    """The levels below which the shares `_TONES` and `_TOP` of the pixels lie; within a bin evenly spread."""
    counts = np.array(histogram, np.float64)
    below = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    edges = np.array(BIN_EDGES[first_bin : first_bin + len(counts) + 1], np.float64)
    return np.asarray(np.interp((*_TONES, _TOP), below, edges))


def judge(places: Sequence[tuple[WellId, int]], traits: Floats, channels: Sequence[str]) -> ChannelFit:
    """Judge sites. places: well and site of each; traits: (sites, channels, traits) float64, NaN where not known.

    A channel's model is the median of each trait over all sites, and their median deviation, no less than the floor:
    sites that are exchanged move neither while they are few.
    """
    known = np.isfinite(traits).sum(axis=2) >= _ENOUGH_TRAITS
    models = {
        index: _model(traits[known[:, index], index])
        for index in range(len(channels))
        if known[:, index].sum() >= SITES
    }
    pairs: list[tuple[str, str]] = []
    found: list[tuple[float, int, tuple[int, int]]] = []
    for one, other in combinations(models, 2):
        shown = known[:, one] & known[:, other]
        if shown.sum() < SITES or len({places[index][0] for index in np.flatnonzero(shown).tolist()}) < WELLS:
            continue
        first = _held_against(traits[:, one], models[one], models[other])
        second = _held_against(traits[:, other], models[other], models[one])
        gains = np.stack([first[0], second[0]])
        if _would_show(-gains)[shown].mean() < TOLD_APART:
            continue
        usual = np.median(-gains[::-1, shown], axis=1, keepdims=True)
        pairs.append((channels[one], channels[other]))
        ordinary = (first[1] <= ORDINARY) & (second[1] <= ORDINARY)
        convincing = _would_show(gains) & (gains >= LIKE_OTHERS * usual).all(axis=0)
        exchanged = np.flatnonzero(shown & ordinary & convincing).tolist()
        found += [(float(gains[:, index].sum()), index, (one, other)) for index in exchanged]
    return ChannelFit(int(known.any(axis=1).sum()), tuple(pairs), _by_well(found, places, channels))


def _held_against(traits: Floats, own: Model, other: Model) -> tuple[Floats, Floats]:
    """What pictures gain by being of another channel, in log likelihood, and how far they then are off, on average.

    traits: (sites, traits) float64. Both answers (sites,) float64; the second in standard deviations.
    """
    here, there = ((traits - middle) / spread for middle, spread in (own, other))
    gains = _log_t(there) - np.log(other[1]) - _log_t(here) + np.log(own[1])
    off = np.where(np.isfinite(gains), np.minimum(np.abs(there), _FAR), np.nan)
    number = np.maximum(np.isfinite(off).sum(axis=1), 1)
    return np.asarray(np.nansum(gains, axis=1)), np.sqrt(np.nansum(off * off, axis=1) / number)


def _log_t(off: Floats) -> Floats:
    """The logarithm of Student's density but for a constant. off: in spreads."""
    return np.asarray(-(_FREEDOM + 1) / 2 * np.log1p(off * off / _FREEDOM))


def _model(traits: Floats) -> Model:
    """Median and spread of each trait over pictures; NaN for one that fewer than half of them have."""
    middle, spread = np.full(TRAITS, np.nan), np.ones(TRAITS)
    for trait in range(TRAITS):
        values = traits[np.isfinite(traits[:, trait]), trait]
        if 2 * len(values) >= len(traits):
            middle[trait] = np.median(values)
            spread[trait] = np.hypot(1.4826 * np.median(np.abs(values - middle[trait])), FLOORS[trait])
    return middle, spread


def _would_show(gains: Floats) -> NDArray[np.bool_]:
    """Whether an exchange shows. gains: (2, sites) float64, of both pictures."""
    return np.asarray((gains.sum(axis=0) >= BOTH) & (gains.min(axis=0) >= EACH))


def _by_well(
    found: list[tuple[float, int, tuple[int, int]]], places: Sequence[tuple[WellId, int]], channels: Sequence[str]
) -> dict[WellId, tuple[Exchange, ...]]:
    """The exchanges that gain most, no channel of a site twice."""
    taken: set[tuple[int, int]] = set()
    kept: list[tuple[int, Exchange]] = []
    for gain, index, pair in sorted(found, key=lambda each: (-each[0], each[1:])):
        if not taken & {(index, channel) for channel in pair}:
            taken |= {(index, channel) for channel in pair}
            kept.append((index, Exchange(places[index][1], (channels[pair[0]], channels[pair[1]]), gain)))
    by_well: dict[WellId, tuple[Exchange, ...]] = {}
    for index, exchange in _in_order(kept):
        well = places[index][0]
        by_well[well] = (*by_well.get(well, ()), exchange)
    return by_well


def _in_order(kept: list[tuple[int, Exchange]]) -> Iterator[tuple[int, Exchange]]:
    return iter(sorted(kept, key=lambda each: (each[0], each[1].channels)))


def _in_words(pair: tuple[str, str], sites: list[int]) -> str:
    one, other = pair
    where = f"site {sites[0]}" if len(sites) == 1 else f"sites {', '.join(map(str, sites))}"
    return (
        f"{where}: what is called {one} looks like the plate's {other}, and what is called {other} like its {one};"
        " they may be exchanged"
    )
