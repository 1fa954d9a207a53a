"""Flags on poor pictures, and what is seen of a whole plate; each with the plate's other pictures beside it.

A flagged picture is analysed all the same. Every threshold is relative to the plate's own distribution and has an
absolute floor; docs/quality.md says where each comes from, and how often the flags miss and mislead.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.plate import WellId
from hcs_daemon.publish.documents import SATURATED_FLAG, well_id
from hcs_daemon.publish.schemas import ConditionsEntry, InputEntry, JudgementEntry, WellResult
from hcs_daemon.publish.trends import Floats, Mask, PlateNumbers, Rows, notes_on
from hcs_daemon.records import PlaneConditions, PlaneMeasures
from hcs_daemon.vocabulary import Used

CONTEXT = 12
"""So many pictures of a channel that are not empty must be there before one is held against the others."""
EMPTY_FRACTION, EMPTY_SHARE = 0.002, 0.05
"""A picture with less foreground is empty; or with less than this share of the plate's upper quartile."""
BLUR_SLOPE, BLUR_SLOPE_ALONE, BLUR_SPREADS = 0.7, 1.4, 4.0
NOISE_SHARE = 0.3
"""From this share of the Laplacian's variance on that is noise, it tells nothing of the focus."""
LAPLACIAN_OF_NOISE = 20.0
"""The variance of the Laplacian of white noise over the noise's own: the sum of the kernel's squares."""
DEBRIS_FRACTION, DEBRIS_TIMES = 0.002, 4.0
ARTEFACT_LOG, ARTEFACT_SPREADS = math.log10(5), 6.0
UNEVENNESS, UNEVEN_MORE, UNEVEN_SPREADS, UNEVEN_FOREGROUND = 0.3, 0.1, 4.0, 0.5
DIM_LOG, DIM_SPREADS = math.log10(5), 4.0

_ROW = np.dtype(
    [
        ("site", np.int64),
        ("channel", np.int64),
        *(
            (name, np.float64)
            for name in (
                "saturated",
                "focus",
                "noisy",
                "foreground",
                "bright",
                "background",
                "debris",
                "unevenness",
                "slope",
                "taken_s",
                "temperature_c",
            )
        ),
    ]
)
"""One picture: a channel of a site. focus, bright, background: decadic logarithms. noisy: share of the Laplacian's
variance that noise alone explains. NaN: not known."""


@dataclass(frozen=True, slots=True)
class WellQuality:
    """The flags of a well, of more than half its analysed sites; and of its sites, those that have any."""

    flags: tuple[str, ...] = ()
    sites: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlateQuality:
    """What all pictures of a plate say. wells: those with flags. notes: in words, of the plate as a whole."""

    wells: Mapping[WellId, WellQuality] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, well: WellId) -> WellQuality:
        """A well's flags."""
        return self.wells.get(well, WellQuality())


class QualityBook:
    """Judges a plate's pictures, keeping of each well what judging needs. Owned by the publish thread."""

    def __init__(self) -> None:
        self._wells: dict[WellId, tuple[Sequence[InputEntry], Rows]] = {}

    def judge(self, results: Iterable[WellResult], shape: tuple[int | None, int | None] = (None, None)) -> PlateQuality:
        """Judge all wells, each beside the others; their order plays no part. shape: rows and columns of the plate."""
        return judge(*self._tables(results), shape)

    def flagged(self, result: WellResult, others: Iterable[WellResult]) -> WellResult:
        """The result with the flags that its pictures deserve beside those of the plate's other wells so far."""
        well = well_id(result)
        beside = (other for other in others if well_id(other) != well)
        found = _held_together(*self._tables([*beside, result]))[1].get(well, WellQuality())
        quality = result.quality.model_copy(update={"flags": list(found.flags)})
        sites = [
            site.model_copy(update={"flags": list(found.sites.get(site.site, ()))}) for site in result.site_results
        ]
        return result.model_copy(update={"quality": quality, "site_results": sites})

    def _tables(self, results: Iterable[WellResult]) -> tuple[dict[WellId, Rows], Sequence[str]]:
        """The pictures of each well, and the channels' names."""
        by_well = {well_id(result): result for result in results}
        channels = by_well[min(by_well)].channels if by_well else []
        return {well: self._rows(well, result) for well, result in by_well.items()}, channels

    def _rows(self, well: WellId, result: WellResult) -> Rows:
        kept = self._wells.get(well)
        if kept is None or kept[0] is not result.inputs:
            index = {channel: number for number, channel in enumerate(result.channels)}
            rows = [
                picture_row(site, index[channel], entry, entry.conditions)
                for (site, channel), entry in sorted(pictures(result).items())
            ]
            kept = self._wells[well] = (result.inputs, picture_table(rows))
        return kept[1]


def judge(
    tables: Mapping[WellId, Rows], channels: Sequence[str], shape: tuple[int | None, int | None] = (None, None)
) -> PlateQuality:
    """Judge a plate's pictures. tables: of each well its `picture_table`. shape: rows and columns of the plate."""
    numbers, wells = _held_together(tables, channels)
    return PlateQuality(wells, notes_on(numbers, shape))


def _held_together(
    tables: Mapping[WellId, Rows], channels: Sequence[str]
) -> tuple[PlateNumbers, dict[WellId, WellQuality]]:
    """The numbers of all pictures, and the wells with flags."""
    wells = sorted(tables)
    rows = np.concatenate([np.empty(0, _ROW), *(tables[well] for well in wells)])
    owner = np.repeat(np.arange(len(wells)), [len(tables[well]) for well in wells])
    places, place = np.unique(np.stack([owner, rows["site"]], axis=1), axis=0, return_inverse=True)
    flags = _flags(rows, place.reshape(-1))
    numbers = PlateNumbers(wells, owner, rows, flags.get("blank", np.zeros(0, bool)), channels)
    return numbers, _by_well(numbers, flags, np.bincount(places[:, 0], minlength=len(wells)))


def quality_entry(judged: PlateQuality) -> JudgementEntry:
    """What is written of it in the plate's file."""
    flags = {well.stem: list(found.flags) for well, found in sorted(judged.wells.items()) if found.flags}
    return JudgementEntry(flags=flags, notes=list(judged.notes))


def pictures(result: WellResult) -> dict[tuple[int, str], InputEntry]:
    """Site and channel -> the analysed plane that speaks for it: of a stack the sharpest."""
    found: dict[tuple[int, str], InputEntry] = {}
    for entry in result.inputs:
        if entry.used is not Used.ANALYSED:
            continue
        best = found.setdefault((entry.site, entry.channel), entry)
        if (entry.sharpness or 0.0, -entry.z) > (best.sharpness or 0.0, -best.z):
            found[entry.site, entry.channel] = entry
    return found


PictureRow = tuple[Any, ...]
"""A picture's numbers, in the order of `_ROW`."""


def picture_row(
    site: int,
    channel: int,
    measured: InputEntry | PlaneMeasures,
    conditions: ConditionsEntry | PlaneConditions | None = None,
) -> PictureRow:
    """A picture's numbers. channel: its index among the plate's. conditions: None where they are not known."""
    quality = measured.quality
    known = () if quality is None else (quality.foreground_fraction, _log(quality.bright), _log(quality.background))
    more = () if quality is None else (quality.debris_fraction, quality.unevenness, _or_nan(quality.power_slope))
    noise = math.nan if quality is None else LAPLACIAN_OF_NOISE * quality.noise**2
    return (
        site,
        channel,
        measured.saturated_fraction,
        _log(measured.focus),
        noise / measured.sharpness if measured.sharpness else math.nan,
        *(known or (math.nan,) * 3),
        *(more or (math.nan,) * 3),
        _seconds(conditions.taken_at if conditions else None),
        _or_nan(conditions.temperature_c if conditions else None),
    )


def picture_table(rows: Sequence[PictureRow]) -> Rows:
    """The numbers of a well's pictures, as `judge` takes them."""
    return np.array(rows, _ROW)


def _log(value: float | None) -> float:
    return math.log10(value) if value is not None and value > 0 else math.nan


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _seconds(taken: datetime | None) -> float:
    """One instrument's clock; without an offset any will do, for times are only compared with each other."""
    if taken is None:
        return math.nan
    return (taken if taken.tzinfo else taken.replace(tzinfo=UTC)).timestamp()


# ---- flags


def _flags(rows: Rows, place: NDArray[np.intp]) -> dict[str, Mask]:
    """Flag -> the pictures that have it. place: of each picture the number of its site."""
    found: dict[str, Mask] = {}
    for channel in np.unique(rows["channel"]):
        mine = rows["channel"] == channel
        for flag, where in _flags_of_channel(rows[mine]).items():
            found.setdefault(flag, np.zeros(len(rows), bool))[mine] = where
    if found:
        found["out_of_focus"] &= found.pop("far") | _in_half(found["out_of_focus"], ~found["blank"], place)
        rank = _by_emptiness(np.where(found["blank"], np.nan, rows["foreground"]), place)
        found["uneven"] &= (rank == 0) & _is_shaded_too(found.pop("shaded"), rank == 1, place)
    return found


def _in_half(where: Mask, among: Mask, place: NDArray[np.intp]) -> Mask:
    """Whether it is so of half the site's pictures: a lens blurs all channels, a compound may smooth one of them."""
    so, all_of_it = np.bincount(place, where & among), np.bincount(place, among)
    return np.asarray((2 * so >= all_of_it)[place], np.bool_)


def _by_emptiness(foreground: Floats, place: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of each picture how many of its site have more background to be seen; -1 where nothing is known of it."""
    order = np.lexsort((foreground, place))
    first = np.searchsorted(place[order], place[order])
    rank = np.empty(len(place), np.intp)
    rank[order] = np.arange(len(place)) - first
    return np.where(np.isfinite(foreground), rank, -1)


def _is_shaded_too(shaded: Mask, beside: Mask, place: NDArray[np.intp]) -> Mask:
    """Whether the site's picture beside is shaded, too, where there is one: a lamp shades all channels alike."""
    so, there_is = np.bincount(place, beside & shaded), np.bincount(place, beside)
    return np.asarray((so == there_is)[place], np.bool_)


def _flags_of_channel(rows: Rows) -> dict[str, Mask]:
    """A channel's pictures, each held against the others that are not empty."""
    foreground = rows["foreground"]
    known = foreground[np.isfinite(foreground)]
    upper = float(np.percentile(known, 75)) if len(known) >= CONTEXT else 0.0
    empty = foreground < max(EMPTY_FRACTION, EMPTY_SHARE * upper)
    filled = np.isfinite(foreground) & ~empty
    return {
        "saturated": rows["saturated"] > SATURATED_FLAG,
        "out_of_focus": filled & _blurred(rows, filled, BLUR_SLOPE),
        "far": _blurred(rows, filled, BLUR_SLOPE_ALONE),
        "blank": empty,
        "debris": _debris(rows, filled),
        "uneven": _uneven(rows, filled),
        "shaded": _beyond(rows["unevenness"], filled, UNEVEN_MORE, 0.0),
        "dim": filled & _beyond(-rows["bright"], filled, DIM_LOG, DIM_SPREADS),
    }


def _blurred(rows: Rows, filled: Mask, least: float) -> Mask:
    """The power slope says so, and the Laplacian does not deny it: it is smaller, too, or is made of noise."""
    typical, _ = _typical(rows["focus"], filled)
    by_laplacian = (rows["focus"] < typical) | (rows["noisy"] > NOISE_SHARE)
    return _beyond(-rows["slope"], filled, least, BLUR_SPREADS) & by_laplacian


def _debris(rows: Rows, filled: Mask) -> Mask:
    """Spots far brighter than the cells around them; or so large that all that is bright is theirs."""
    reference = rows["debris"][filled]
    usual = float(np.percentile(reference, 75)) if len(reference) >= CONTEXT else 0.0
    spots = rows["debris"] > max(DEBRIS_FRACTION, DEBRIS_TIMES * usual)
    return spots | _beyond(rows["bright"], filled, ARTEFACT_LOG, ARTEFACT_SPREADS)


def _uneven(rows: Rows, filled: Mask) -> Mask:
    """Only where enough of the background is seen: in a dense layer of cells it is a guess."""
    seen = filled & (rows["foreground"] < UNEVEN_FOREGROUND)
    more = _beyond(rows["unevenness"], seen, UNEVEN_MORE, UNEVEN_SPREADS)
    return seen & (rows["unevenness"] > UNEVENNESS) & more


def _beyond(values: Floats, among: Mask, least: float, spreads: float) -> Mask:
    """Larger than usual by at least so much, and by so many standard deviations."""
    usual, spread = _typical(values, among)
    return values > usual + max(least, spreads * spread)


def _typical(values: Floats, among: Mask) -> tuple[float, float]:
    """Median and spread (1.4826 times the median deviation, a normal distribution's standard deviation); else NaN."""
    known = values[among & np.isfinite(values)]
    if len(known) < CONTEXT:
        return math.nan, math.nan
    middle = float(np.median(known))
    return middle, 1.4826 * float(np.median(np.abs(known - middle)))


def _by_well(numbers: PlateNumbers, flags: Mapping[str, Mask], sites_of: NDArray[np.intp]) -> dict[WellId, WellQuality]:
    """The wells with flags. sites_of: of each well, how many sites it has."""
    rows, owner, channels = numbers.rows, numbers.owner, numbers.channels
    of_site: dict[tuple[int, int], list[str]] = {}
    for flag, where in flags.items():
        for index in np.flatnonzero(where).tolist():
            name = f"{flag}:{channels[rows['channel'][index]]}"
            of_site.setdefault((int(owner[index]), int(rows["site"][index])), []).append(name)
    named = {place: _named(found, channels) for place, found in sorted(of_site.items())}
    wells: dict[int, dict[int, tuple[str, ...]]] = {}
    for (well, site), found in named.items():
        wells.setdefault(well, {})[site] = found
    return {
        numbers.wells[well]: WellQuality(_of_most(sites, int(sites_of[well])), sites) for well, sites in wells.items()
    }


def _named(flags: list[str], channels: Sequence[str]) -> tuple[str, ...]:
    """A site that is empty in most channels is `empty`, and not blank in each."""
    blank = [flag for flag in flags if flag.startswith("blank:")]
    if 2 * len(blank) <= len(channels):
        return tuple(sorted(flags))
    return ("empty", *sorted(set(flags) - set(blank)))


def _of_most(sites: Mapping[int, tuple[str, ...]], count: int) -> tuple[str, ...]:
    every = [flag for found in sites.values() for flag in found]
    return tuple(flag for flag in dict.fromkeys(sorted(every)) if 2 * every.count(flag) > count)
