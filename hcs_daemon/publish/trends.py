"""What is seen of a plate as a whole: drift over the acquisition, edge wells that differ, and a stage's temperature."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.plate import PLATE_SHAPES, WellId

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.void]

TREND_WELLS, TREND_Z = 20, 4.0
"""Trends are looked for from so many wells on, and believed from so many standard deviations on."""
TREND_LOG, TREND_SLOPE = math.log10(1.2), 0.5
"""What is less than a fifth of the light, or so much of the power slope, is not worth a note."""
EDGE_WELLS = 8
JUMP_C, JUMP_TIMES, RANGE_C = 1.0, 6.0, 2.0


@dataclass(frozen=True, slots=True)
class PlateNumbers:
    """All pictures of a plate. owner: of each the index of its well."""

    wells: Sequence[WellId]
    owner: NDArray[np.intp]
    rows: Rows
    empty: Mask
    channels: Sequence[str]

    def medians(self, values: Floats, among: Mask) -> Floats:
        """A well's median of what is known; NaN where nothing is."""
        known = among & np.isfinite(values)
        order = np.lexsort((values[known], self.owner[known]))
        ordered = values[known][order]
        wells, starts, counts = np.unique(self.owner[known][order], return_index=True, return_counts=True)
        found = np.full(len(self.wells), np.nan)
        found[wells] = (ordered[starts + (counts - 1) // 2] + ordered[starts + counts // 2]) / 2
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


def notes_on(plate: PlateNumbers, shape: tuple[int | None, int | None]) -> tuple[str, ...]:
    """A sentence for each trend that is too strong for chance. shape: rows and columns of the plate, if known."""
    if not plate.wells:
        return ()
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


def _temperature(plate: PlateNumbers, taken_s: Floats) -> tuple[str, ...]:
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
