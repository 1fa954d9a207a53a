"""What quality.html draws: the plate's maps of a channel's figures, and the histogram behind its bit depth; as SVG.

All text comes through `said`, so that no name in a file becomes markup.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from hcs_daemon.plate import WellPosition
from hcs_daemon.publish.lettering import MINUS
from hcs_daemon.publish.plate_picture import latest
from hcs_daemon.publish.quality import pictures
from hcs_daemon.publish.schemas import DepthEntry, HistogramEntry, InputEntry, WellResult
from hcs_daemon.terminal import counted
from hcs_daemon.vocabulary import WellStatus

STEPS = 32
"""Colours of a map's scale; `c0` to `c31` in the page's style."""
MAP_PX, CELL_PX = 240, 36
"""A map is at most so wide, and a well in it: four stand side by side on a page of 1200 pixels."""
OUTERMOST = 0.02
"""So large a share of the wells at each end, and one at least, does not set a scale where it lies far off."""
FEW_WELLS = 6
"""Of fewer wells none is far off."""
ROW_LABELS_PX, COLUMN_LABELS_PX, LEGEND_PX = 24, 16, 34
LETTER_PX, DIGITS_PX = 11, 17
"""What a row's letter takes of height, and a column's number of width."""
PLOT_WIDTH, PLOT_HEIGHT = 430, 170
PLOT_LEFT, PLOT_TOP, PLOT_BELOW = 44, 24, 34
OCTAVE_PX = PLOT_WIDTH / 17
"""A doubling of the level on a histogram's axis; the first is level 0's."""
FULL_SCALES = (8, 10, 12, 14, 16)
"""Bits of the cameras and formats that a histogram's end may tell of."""


def said(text: object) -> str:
    """Text for a page: its markup escaped, and what does not print (or turns the reading direction) as U+FFFD."""
    words = str(text)
    if not words.isprintable():
        words = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in words)
    return escape(words)


# ---- the figures


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that is mapped.

    of: its value in one plane, None where there is none. show: a value with its unit. least, least_share: the scale's
    smallest span, a number or a share of the middle figure, so that wells that are alike look alike. from_zero: the
    scale begins there.
    """

    name: str
    meaning: str
    of: Callable[[InputEntry], float | None]
    show: Callable[[float], str]
    least: float
    least_share: float = 0.0
    from_zero: bool = False


def _decimals(value: float) -> str:
    return f"{value:.2f}".replace("-", MINUS)


def _percent(value: float) -> str:
    return "under 0.001 %" if 0 < value < 1e-5 else f"{100 * value:.3g} %"


def _whole(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _counts(value: float) -> str:
    return f"{_whole(value)} counts"


SHARPNESS = Figure(
    "Focus",
    "slope of the power spectrum; nearer to zero is sharper, lower is more blurred",
    lambda plane: plane.quality.power_slope if plane.quality else None,
    _decimals,
    least=0.5,
)
LAPLACIAN = Figure(
    "Focus",
    "variance of the Laplacian over the picture's own; higher is sharper, noise alone counts as sharp",
    lambda plane: plane.focus,
    lambda value: f"{value:.3g}",
    least=0.0,
    least_share=0.2,
)
"""In results of versions that measured nothing else."""
SATURATION = Figure(
    "Saturation",
    "share of the pixels at full scale",
    lambda plane: plane.saturated_fraction,
    _percent,
    least=0.01,
    from_zero=True,
)
BACKGROUND = Figure(
    "Background",
    "light beside the cells, in raw counts",
    lambda plane: plane.quality.background if plane.quality else None,
    _counts,
    least=1.0,
    least_share=0.2,
)
DENSITY = Figure(
    "Cell density",
    "bright objects in a field; in a nuclear stain about the number of nuclei",
    lambda plane: float(plane.quality.spots) if plane.quality else None,
    lambda value: f"{value:,.0f} in a field",
    least=10.0,
    from_zero=True,
)


def figures_of(results: Sequence[WellResult]) -> tuple[Figure, ...]:
    """What can be mapped: results of versions before the others were measured have two figures."""
    if results and not any(plane.quality for result in results for plane in result.inputs):
        return (LAPLACIAN, SATURATION)
    return (SHARPNESS, SATURATION, BACKGROUND, DENSITY)


Medians = Mapping[str, Mapping[str, Mapping[WellPosition, float]]]
"""Channel -> name of the figure -> well -> the median over its analysed sites."""


def medians_of(results: Sequence[WellResult], figures: Sequence[Figure]) -> Medians:
    """The figures of every well at its latest time point."""
    found: dict[str, dict[str, dict[WellPosition, float]]] = {}
    for well, result in latest(results).items():
        planes: dict[str, list[InputEntry]] = {}
        for (_, channel), plane in pictures(result).items():
            planes.setdefault(channel, []).append(plane)
        for channel, entries in planes.items():
            by_figure = found.setdefault(channel, {figure.name: {} for figure in figures})
            for figure in figures:
                values = [value for value in map(figure.of, entries) if value is not None and math.isfinite(value)]
                if values:
                    by_figure[figure.name][well] = median(values)
    return found


# ---- the map of a plate


@dataclass(frozen=True, slots=True)
class Marks:
    """What a map of one channel shows beside its colours. statuses: of the wells that have a result."""

    shape: tuple[int, int]
    statuses: Mapping[WellPosition, WellStatus]
    refused: frozenset[WellPosition]
    flagged: frozenset[WellPosition]


def limits_of(figure: Figure, values: Sequence[float]) -> tuple[float, float]:
    """The scale's ends: the figures', moved apart where they are nearer than the least span.

    The outermost wells do not set it where they lie further off than all the others lie apart.
    """
    ordered = sorted(values) or [0.0]
    span = max(figure.least, figure.least_share * abs(median(ordered)), 1e-9)
    low, high = ordered[0], ordered[-1]
    if len(ordered) >= FEW_WELLS:
        few = math.ceil(OUTERMOST * len(ordered))
        inner_low, inner_high = ordered[few], ordered[-1 - few]
        far = max(span, inner_high - inner_low)
        low = next(value for value in ordered if value >= inner_low - far)
        high = next(value for value in reversed(ordered) if value <= inner_high + far)
    if figure.from_zero:
        return 0.0, max(high, figure.least)
    missing = max(0.0, span - (high - low)) / 2
    return low - missing, high + missing


def plate_map(figure: Figure, values: Mapping[WellPosition, float], marks: Marks) -> str:
    """A `figure` element: the map, its scale, and its ends in words."""
    rows, columns = marks.shape
    cell = min(CELL_PX, MAP_PX // columns)
    wide, high = ROW_LABELS_PX + max(columns * cell, 160), COLUMN_LABELS_PX + rows * cell + LEGEND_PX
    limits = limits_of(figure, list(values.values()))
    foot = COLUMN_LABELS_PX + rows * cell + 6
    scale = _scale(figure, limits, foot, max(columns * cell, 160)) if values else ""
    cells = "".join(
        _cell(WellPosition(row, column), figure, values, marks, limits=limits, cell=cell)
        for row in range(1, rows + 1)
        for column in range(1, columns + 1)
    )
    return (
        f"<figure><figcaption><b>{said(figure.name)}</b>: {said(figure.meaning)}</figcaption>\n"
        f'<svg width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" role="img" '
        f'aria-label="{said(figure.name)} of every well">{_labels(marks.shape, cell)}\n{cells}\n'
        f"{scale}</svg>\n"
        f"<p>{said(_ends(figure, values, limits))}</p></figure>\n"
    )


def _cell(
    well: WellPosition,
    figure: Figure,
    values: Mapping[WellPosition, float],
    marks: Marks,
    *,
    limits: tuple[float, float],
    cell: int,
) -> str:
    x, y = ROW_LABELS_PX + (well.column - 1) * cell, COLUMN_LABELS_PX + (well.row - 1) * cell
    side = cell - 1
    value, status = values.get(well), marks.statuses.get(well)
    hatched = status is WellStatus.REJECTED or well in marks.refused
    shapes = []
    if value is not None:
        low, high = limits
        step = min(STEPS - 1, max(0, int((value - low) / (high - low) * STEPS)))
        shapes.append(_square(f"c{step}", x, y, side))
    elif not hatched:
        dot = max(2, side // 3)
        shapes.append(_square("n", x + (side - dot) // 2, y + (side - dot) // 2, dot))
    if hatched:
        shapes.append(_square("h", x, y, side))
    if well in marks.flagged:
        dot = max(2, side // 4)
        shapes.append(_square("f", x + (side - dot) // 2, y + (side - dot) // 2, dot))
    words = f"{well.name}: {_words(figure, value, status)}" + (", file rejected" if well in marks.refused else "")
    if well in marks.flagged:
        words += ", flagged"
    return f"<g><title>{said(words)}</title>{''.join(shapes)}</g>"


def _words(figure: Figure, value: float | None, status: WellStatus | None) -> str:
    if value is not None:
        return figure.show(value) + ("" if status is WellStatus.COMPLETE else f", {status}")
    return "no result" if status is None else f"no figure, {status}"


def _square(kind: str, x: int, y: int, side: int) -> str:
    return f'<path class="{kind}" d="M{x} {y}h{side}v{side}h-{side}z"/>'


def _labels(shape: tuple[int, int], cell: int) -> str:
    """Rows' letters and columns' numbers, as many as have room."""
    rows, columns = shape
    down, across = -(-LETTER_PX // cell), -(-DIGITS_PX // cell)
    letters = "".join(
        f'<text class="e" x="{ROW_LABELS_PX - 4}" y="{COLUMN_LABELS_PX + row * cell + cell // 2 + 3}">'
        f"{WellPosition(row + 1, 1).name[:-2]}</text>"
        for row in range(0, rows, down)
    )
    numbers = "".join(
        f'<text class="m" x="{ROW_LABELS_PX + column * cell + cell // 2}" y="{COLUMN_LABELS_PX - 4}">'
        f"{column + 1}</text>"
        for column in range(0, columns, across)
    )
    return letters + numbers


def _scale(figure: Figure, limits: tuple[float, float], y: int, wide: int) -> str:
    """The colours from the lowest to the highest, with both in words."""
    low, high = limits
    return (
        f'<rect x="{ROW_LABELS_PX}" y="{y}" width="{wide}" height="9" fill="url(#scale)"/>'
        f'<text x="{ROW_LABELS_PX}" y="{y + 22}">{said(figure.show(low))}</text>'
        f'<text class="e" x="{ROW_LABELS_PX + wide}" y="{y + 22}">{said(figure.show(high))}</text>'
    )


def _ends(figure: Figure, values: Mapping[WellPosition, float], limits: tuple[float, float]) -> str:
    """The middle figure and the two outermost, with their wells; and how many wells lie beyond the scale."""
    if not values:
        return "No well has this figure."
    lowest, highest = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    middle = f"Median of {len(values)} wells {figure.show(median(values.values()))}"
    if values[lowest] == values[highest]:
        return f"{middle}; all are alike."
    beyond = sum(not limits[0] <= value <= limits[1] for value in values.values())
    off = f" {counted(beyond, 'well')} beyond the scale." if beyond else ""
    return (
        f"{middle}; lowest {lowest.name} {figure.show(values[lowest])}, highest {highest.name} "
        f"{figure.show(values[highest])}.{off}"
    )


# ---- the histogram of a channel


def histogram_plot(depth: DepthEntry, channel: str) -> str:
    """An SVG of a channel's histogram, log-log, with the full scales of cameras; nothing where no pixel was counted."""
    found = depth.histogram
    if found is None or not any(found.counts):
        return "<p>No pixel was counted yet.</p>"
    densities = _densities(found)
    low = math.floor(min(math.log10(density) for density in densities.values()))
    high = max(low + 1, math.ceil(max(math.log10(density) for density in densities.values())))
    wide, tall = PLOT_LEFT + PLOT_WIDTH + 28, PLOT_TOP + PLOT_HEIGHT + PLOT_BELOW
    bars = "".join(_bar(found, place, density, low, high) for place, density in densities.items())
    return (
        f'<svg width="{wide}" height="{tall}" viewBox="0 0 {wide} {tall}" role="img" '
        f'aria-label="Histogram of {said(channel)}">{_decades(low, high)}{bars}{_full_scales(depth.declared)}'
        f"{_levels()}</svg>\n"
    )


def _densities(found: HistogramEntry) -> dict[int, float]:
    """Bin -> pixels a level, of the bins that have any."""
    widths = [found.edges[place + 1] - found.edges[place] for place in range(len(found.counts))]
    return {place: count / widths[place] for place, count in enumerate(found.counts) if count}


def _level_x(level: int) -> float:
    """Where a level is: level 0 takes the first octave's room, 1 begins the second."""
    return PLOT_LEFT + OCTAVE_PX * (1 + math.log2(level) if level else 0)


def _bar(found: HistogramEntry, place: int, density: float, low: int, high: int) -> str:
    first, end = found.edges[place], found.edges[place + 1]
    left, right = _level_x(first), _level_x(end)
    top = PLOT_TOP + PLOT_HEIGHT * (high - math.log10(density)) / (high - low)
    top = min(top, PLOT_TOP + PLOT_HEIGHT - 1)  # the rarest is seen, too
    levels = f"level {first}" if end == first + 1 else f"levels {first} to {end - 1}"
    return (
        f'<rect class="b" x="{left + 0.3:.1f}" y="{top:.1f}" width="{right - left - 0.6:.1f}" '
        f'height="{PLOT_TOP + PLOT_HEIGHT - top:.1f}"><title>{levels}: {found.counts[place]:,} pixels</title></rect>'
    )


def _decades(low: int, high: int) -> str:
    """The upward axis: pixels a level, at most six lines of it."""
    every = -(-(high - low) // 5)
    lines = ""
    for decade in range(low, high + 1, every):
        y = PLOT_TOP + PLOT_HEIGHT * (high - decade) / (high - low)
        power = f'10<tspan dy="-4" font-size="8">{decade}</tspan>'.replace(">-", f">{MINUS}")
        lines += (
            f'<path class="g" d="M{PLOT_LEFT} {y:.1f}h{PLOT_WIDTH}"/>'
            f'<text class="e" x="{PLOT_LEFT - 5}" y="{y + 4:.1f}">{power}</text>'
        )
    return lines + f'<text x="2" y="{PLOT_TOP - 10}">pixels a level</text>'


def _full_scales(declared: int) -> str:
    """Where cameras of so many bits end; the declared one thicker."""
    drawn = ""
    for bits in sorted({*FULL_SCALES, declared}):
        x = _level_x(1 << bits)
        kind = "d" if bits == declared else "s"
        drawn += (
            f'<path class="{kind}" d="M{x:.1f} {PLOT_TOP - 6}v{PLOT_HEIGHT + 6}"/>'
            f'<text class="m{" w" if bits == declared else ""}" x="{x:.1f}" y="{PLOT_TOP - 10}">{bits} bits</text>'
        )
    return drawn


def _levels() -> str:
    """The axis along the foot: raw counts."""
    foot = PLOT_TOP + PLOT_HEIGHT
    places = {level: _level_x(level) for level in (1, 10, 100, 1000, 10000)}
    marks = "".join(
        f'<path class="t" d="M{x:.1f} {foot}v4"/><text class="m" x="{x:.1f}" y="{foot + 15}">{level:,}</text>'
        for level, x in {0: _level_x(0) + OCTAVE_PX / 2, **places}.items()
    )
    return (
        f'<path class="t" d="M{PLOT_LEFT} {foot}h{PLOT_WIDTH}"/>{marks}'
        f'<text class="m" x="{PLOT_LEFT + PLOT_WIDTH // 2}" y="{foot + 29}">raw counts</text>'
    )
