"""Flags on poor pictures, and what is seen of a whole plate; each with the plate's other pictures beside it.

A flagged picture is analysed all the same. Every threshold is relative to the plate's own distribution and has an
absolute floor; docs/quality.md says where each comes from, and how often the flags miss and mislead.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.plate import PLATE_SHAPES, WellId
from hcs_daemon.publish.documents import SATURATED_FLAG, well_id
from hcs_daemon.publish.schemas import InputEntry, JudgementEntry, WellResult
from hcs_daemon.vocabulary import Used

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.void]

CONTEXT = 12
"""So many pictures of a channel that are not empty must be there before one is held against the others."""
EMPTY_FRACTION, EMPTY_SHARE = 0.002, 0.05
"""A picture with less foreground is empty; or with less than this share of the plate's upper quartile."""
BLUR_SLOPE, BLUR_SPREADS = 0.7, 4.0
NOISE_SHARE = 0.3
"""From this share of the Laplacian's variance on that is noise, it tells nothing of the focus."""
LAPLACIAN_OF_NOISE = 20.0
"""The variance of the Laplacian of white noise over the noise's own: the sum of the kernel's squares."""
DEBRIS_FRACTION, DEBRIS_TIMES = 0.0005, 4.0
ARTEFACT_LOG, ARTEFACT_SPREADS = math.log10(5), 6.0
UNEVENNESS, UNEVEN_MORE, UNEVEN_SPREADS, UNEVEN_FOREGROUND = 0.2, 0.1, 5.0, 0.5
DIM_LOG, DIM_SPREADS = math.log10(5), 4.0
TREND_WELLS, TREND_Z = 20, 4.0
"""Trends are looked for from so many wells on, and believed from so many standard deviations on."""
TREND_LOG, TREND_SLOPE = math.log10(1.2), 0.5
"""What is less than a fifth of the light, or so much of the power slope, is not worth a note."""
EDGE_WELLS = 8
JUMP_C, JUMP_TIMES, RANGE_C = 1.0, 6.0, 2.0

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
    """The flags of a well, of half its analysed sites or more; and of its sites, those that have any."""

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
        by_well = {well_id(result): result for result in results}
        wells = sorted(by_well)
        if not wells:
            return PlateQuality()
        tables = [self._rows(well, by_well[well]) for well in wells]
        rows = np.concatenate(tables)
        owner = np.repeat(np.arange(len(wells)), [len(table) for table in tables])
        channels = by_well[wells[0]].channels
        flags, empty = _flags(rows, channels)
        found = _by_well(rows, owner, flags, channels)
        notes = _notes(_Plate(wells, owner, rows, empty, channels), shape)
        return PlateQuality({wells[index]: quality for index, quality in found.items()}, notes)

    def flagged(self, result: WellResult, others: Iterable[WellResult]) -> WellResult:
        """The result with the flags that its pictures deserve beside those of the plate's other wells so far."""
        well = well_id(result)
        found = self.judge([*(other for other in others if well_id(other) != well), result]).of(well)
        quality = result.quality.model_copy(update={"flags": list(found.flags)})
        sites = [
            site.model_copy(update={"flags": list(found.sites.get(site.site, ()))}) for site in result.site_results
        ]
        return result.model_copy(update={"quality": quality, "site_results": sites})

    def _rows(self, well: WellId, result: WellResult) -> Rows:
        kept = self._wells.get(well)
        if kept is None or kept[0] is not result.inputs:
            index = {channel: number for number, channel in enumerate(result.channels)}
            rows = [_row(site, index[channel], entry) for (site, channel), entry in sorted(pictures(result).items())]
            kept = self._wells[well] = (result.inputs, np.array(rows, _ROW))
        return kept[1]


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


def _row(site: int, channel: int, entry: InputEntry) -> tuple[Any, ...]:
    quality, conditions = entry.quality, entry.conditions
    known = () if quality is None else (quality.foreground_fraction, _log(quality.bright), _log(quality.background))
    more = () if quality is None else (quality.debris_fraction, quality.unevenness, _or_nan(quality.power_slope))
    noise = math.nan if quality is None else LAPLACIAN_OF_NOISE * quality.noise**2
    return (
        site,
        channel,
        entry.saturated_fraction,
        _log(entry.focus),
        noise / entry.sharpness if entry.sharpness else math.nan,
        *(known or (math.nan,) * 3),
        *(more or (math.nan,) * 3),
        _seconds(conditions.taken_at if conditions else None),
        _or_nan(conditions.temperature_c if conditions else None),
    )


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


def _flags(rows: Rows, channels: Sequence[str]) -> tuple[dict[str, Mask], Mask]:
    """Flag -> the pictures that have it, and which pictures are empty."""
    empty = np.zeros(len(rows), bool)
    flags: dict[str, Mask] = {}
    for number, channel in enumerate(channels):
        mine = rows["channel"] == number
        found = _flags_of_channel(rows[mine])
        for flag, where in found.items():
            flags[f"{flag}:{channel}"] = _spread_out(where, mine)
        empty[mine] = found["blank"]
    return flags, empty


def _spread_out(where: Mask, mine: Mask) -> Mask:
    whole = np.zeros(len(mine), bool)
    whole[mine] = where
    return whole


def _flags_of_channel(rows: Rows) -> dict[str, Mask]:
    """A channel's pictures, each held against the others that are not empty."""
    foreground = rows["foreground"]
    known = foreground[np.isfinite(foreground)]
    upper = float(np.percentile(known, 75)) if len(known) >= CONTEXT else 0.0
    empty = foreground < max(EMPTY_FRACTION, EMPTY_SHARE * upper)
    filled = np.isfinite(foreground) & ~empty
    return {
        "saturated": rows["saturated"] > SATURATED_FLAG,
        "out_of_focus": filled & _blurred(rows, filled),
        "blank": empty,
        "debris": _debris(rows, filled),
        "uneven": _uneven(rows, filled),
        "dim": filled & _beyond(-rows["bright"], filled, DIM_LOG, DIM_SPREADS),
    }


def _blurred(rows: Rows, filled: Mask) -> Mask:
    """The power slope says so, and the Laplacian does not deny it: it is smaller, too, or is made of noise."""
    typical, _ = _typical(rows["focus"], filled)
    by_laplacian = (rows["focus"] < typical) | (rows["noisy"] > NOISE_SHARE)
    return _beyond(-rows["slope"], filled, BLUR_SLOPE, BLUR_SPREADS) & by_laplacian


def _debris(rows: Rows, filled: Mask) -> Mask:
    """Spots far brighter than the cells around them; or so large that all that is bright is theirs."""
    reference = rows["debris"][filled]
    usual = float(np.percentile(reference, 90)) if len(reference) >= CONTEXT else 0.0
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


def _by_well(
    rows: Rows, owner: NDArray[np.intp], flags: Mapping[str, Mask], channels: Sequence[str]
) -> dict[int, WellQuality]:
    """Index of a well with flags -> its quality."""
    sites_of: dict[int, set[int]] = {}
    of_site: dict[tuple[int, int], dict[str, None]] = {}
    for well, site in zip(owner.tolist(), rows["site"].tolist(), strict=True):
        sites_of.setdefault(well, set()).add(site)
    for flag, where in flags.items():
        for index in np.flatnonzero(where).tolist():
            of_site.setdefault((int(owner[index]), int(rows["site"][index])), {})[flag] = None
    named = {place: _named(list(found), channels) for place, found in sorted(of_site.items())}
    wells: dict[int, dict[int, tuple[str, ...]]] = {}
    for (well, site), found in named.items():
        wells.setdefault(well, {})[site] = found
    return {well: WellQuality(_of_most(sites, len(sites_of[well])), sites) for well, sites in wells.items()}


def _named(flags: list[str], channels: Sequence[str]) -> tuple[str, ...]:
    """A site that is empty in most channels is `empty`, and not blank in each."""
    blank = [flag for flag in flags if flag.startswith("blank:")]
    if 2 * len(blank) <= len(channels):
        return tuple(sorted(flags))
    return ("empty", *sorted(set(flags) - set(blank)))


def _of_most(sites: Mapping[int, tuple[str, ...]], count: int) -> tuple[str, ...]:
    every = [flag for found in sites.values() for flag in found]
    return tuple(flag for flag in dict.fromkeys(sorted(every)) if 2 * every.count(flag) >= count)


# ---- the plate as a whole


@dataclass(frozen=True, slots=True)
class _Plate:
    """All pictures of a plate. owner: of each the index of its well."""

    wells: Sequence[WellId]
    owner: NDArray[np.intp]
    rows: Rows
    empty: Mask
    channels: Sequence[str]

    def medians(self, values: Floats, among: Mask) -> Floats:
        """A well's median of what is known; NaN where nothing is."""
        known = among & np.isfinite(values)
        order = np.argsort(self.owner[known], kind="stable")
        owners, sorted_values = self.owner[known][order], values[known][order]
        found = np.full(len(self.wells), np.nan)
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        for start, end in pairwise([*starts.tolist(), len(owners)]):
            found[owners[start]] = np.median(sorted_values[start:end])
        return found


@dataclass(frozen=True, slots=True)
class _Trait:
    """A number whose trends are looked for. least: a change worth a note. words: how a change is said."""

    name: str
    least: float
    words: Callable[[str, float], str]


def _times(what: str, change: float) -> str:
    return f"{what} {'grows' if change > 0 else 'falls'} to {100 * 10**change:.0f} %"


_TRAITS = (
    _Trait("bright", TREND_LOG, lambda channel, change: _times(f"the brightness of {channel}", change)),
    _Trait("background", TREND_LOG, lambda channel, change: _times(f"the background of {channel}", change)),
    _Trait(
        "slope",
        TREND_SLOPE,
        lambda channel, change: (
            f"{channel} becomes {'sharper' if change > 0 else 'more blurred'} (power slope {change:+.1f})"
        ),
    ),
)


def _notes(plate: _Plate, shape: tuple[int | None, int | None]) -> tuple[str, ...]:
    everything = np.ones(len(plate.rows), bool)
    taken_s = plate.medians(plate.rows["taken_s"], everything)
    edge = _edge(plate.wells, shape)
    notes: list[str] = []
    for number, channel in enumerate(plate.channels):
        mine = plate.rows["channel"] == number
        for trait in _TRAITS:
            among = mine if trait.name == "background" else mine & ~plate.empty
            values = _centred(plate.medians(plate.rows[trait.name], among), plate.wells)
            if (change := _drift(values, _centred(taken_s, plate.wells))) and abs(change[0]) >= trait.least:
                notes.append(
                    f"drift: {trait.words(channel, change[0])} from the first third of the acquisition to the last"
                    f" (rank correlation with time {change[1]:+.2f})"
                )
            if edge is not None and abs(change_at := _step(values, edge)) >= trait.least:
                notes.append(f"edge: {trait.words(channel, change_at)} from the inner wells to the outermost")
    return (*notes, *_temperature(plate, taken_s))


def _centred(values: Floats, wells: Sequence[WellId]) -> Floats:
    """Each time point's wells around their median: what changes between time points is no drift."""
    times = np.array([well.time for well in wells])
    found = values.copy()
    for time in np.unique(times):
        among = (times == time) & np.isfinite(values)
        found[among] -= np.median(values[among]) if among.any() else 0.0
    return found


def _drift(values: Floats, taken_s: Floats) -> tuple[float, float] | None:
    """The change from the first third to the last, and Spearman's rank correlation; None where chance explains it.

    Without a trend the correlation times the root of n - 1 is as good as normal (Kendall, Rank Correlation Methods).
    """
    known = np.isfinite(values) & np.isfinite(taken_s)
    values, taken_s = values[known], taken_s[known]
    if len(values) < TREND_WELLS or np.ptp(values) == 0 or np.ptp(taken_s) == 0:
        return None
    rho = float(np.corrcoef(_ranks(values), _ranks(taken_s))[0, 1])
    if abs(rho) * math.sqrt(len(values) - 1) < TREND_Z:
        return None
    early, late = np.quantile(taken_s, (1 / 3, 2 / 3))
    return float(np.median(values[taken_s >= late]) - np.median(values[taken_s <= early])), rho


def _step(values: Floats, edge: Mask) -> float:
    """How much more the outermost wells have than the inner; 0 where chance explains it (Mann and Whitney 1947)."""
    known = np.isfinite(values)
    outer, inner = values[known & edge], values[known & ~edge]
    m, n = len(outer), len(inner)
    if min(m, n) < EDGE_WELLS or m + n < TREND_WELLS:
        return 0.0
    rank_sum = float(_ranks(np.concatenate([outer, inner]))[:m].sum())
    z = (rank_sum - m * (m + n + 1) / 2) / math.sqrt(m * n * (m + n + 1) / 12)
    return float(np.median(outer) - np.median(inner)) if abs(z) >= TREND_Z else 0.0


def _ranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing their mean."""
    ordered, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    shared = ends - (counts - 1) / 2
    return np.asarray(shared[inverse], np.float64).reshape(len(values)) if len(ordered) else np.empty(0)


def _edge(wells: Sequence[WellId], shape: tuple[int | None, int | None]) -> Mask | None:
    """Which wells are outermost on the plate; None where nothing says how large it is."""
    row, column = (np.array([getattr(well.position, name) for well in wells]) for name in ("row", "column"))
    rows, columns = shape
    if rows is None or columns is None:
        rows, columns = int(row.max()), int(column.max())
        if (rows, columns) not in PLATE_SHAPES.values():
            return None
    return np.asarray((row == 1) | (row == rows) | (column == 1) | (column == columns))


def _temperature(plate: _Plate, taken_s: Floats) -> tuple[str, ...]:
    """A jump of the stage's temperature from one well to the next, or how far it wandered."""
    warm = plate.medians(plate.rows["temperature_c"], np.ones(len(plate.rows), bool))
    known = np.flatnonzero(np.isfinite(warm) & np.isfinite(taken_s))
    order = known[np.argsort(taken_s[known], kind="stable")]
    warm = warm[order]
    if len(order) < 2:
        return ()
    steps = np.diff(warm)
    largest = int(np.abs(steps).argmax())
    if abs(steps[largest]) >= max(JUMP_C, JUMP_TIMES * float(np.median(np.abs(steps)))):
        before, after = (plate.wells[order[index]].stem for index in (largest, largest + 1))
        jump = f"from {warm[largest]:.1f} to {warm[largest + 1]:.1f} °C between {before} and {after}"
        return (f"temperature: the stage jumps {jump}",)
    if np.ptp(warm) >= RANGE_C:
        return (f"temperature: the stage wanders between {warm.min():.1f} and {warm.max():.1f} °C",)
    return ()
