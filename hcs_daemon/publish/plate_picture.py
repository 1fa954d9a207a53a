"""A plate at a glance: verdicts, probability and focus on the plate's true shape, and how many there are of each.

Everything is placed in pixels on one sheet, with matplotlib's own objects and none of its global state, so that several
threads can draw.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import imagecodecs
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from hcs_daemon.plate import PLATE_SHAPES, WellPosition
from hcs_daemon.publish.lettering import elide, font_path, line_height, wrap, wrap_all
from hcs_daemon.publish.page import BODY, HEADING, SMALL, TITLE, Rect
from hcs_daemon.publish.palette import BAD, CONTROL_GREY, DEMONSTRATION, FAINT, INK, OKABE_ITO, PAPER, RULE, Colour
from hcs_daemon.publish.schemas import ExpectedEntry, PlateFile, WellResult
from hcs_daemon.publish.studio import is_named_control
from hcs_daemon.publish.well_words import DEMONSTRATION_BAND, amount
from hcs_daemon.terminal import counted
from hcs_daemon.vocabulary import UNLIKE, WellStatus

DPI = 100
SHEET_WIDTH = 1600
MARGIN, GUTTER = 40, 50
VERDICT_PX, FIGURE_PX = 940, 530
"""Widths of the map of verdicts and of the two maps beside it."""
LABEL_PX = 34
"""Left of and above a map, for its rows' letters and its columns' numbers."""
CLASSES_BY_COLOUR = 7
"""So many classes besides the control's can be told apart by colour alone; with more, wells get their letters too."""
LEGEND_COLUMNS = 2
HIT_LINES, HIT_WELLS = 10, 6
"""So many compounds are named among the hits, and so many wells of each; the others are counted."""
SMALLER = 0.19
"""Left free on each side of a verdict that is no hit, as a share of its well's edge."""
PALE = 0.5
"""White in the colour of such a verdict."""
RING, RING_PX = 0.24, 12.0
"""Radius of a control's ring, as a share of its well's edge, and at most; a letter has room in it."""
MOST_ROWS, MOST_COLUMNS = PLATE_SHAPES[1536]
DARK = 300
"""A colour whose red, green and blue sum to no more is written on in white."""

_CLASS_COLOURS = tuple(colour for colour, _ in OKABE_ITO[:CLASSES_BY_COLOUR])
_TINTS = ((0.0, 0.0), (255.0, 0.5), (0.0, 0.45))
"""Mixed into the colours when they come again: (grey value, share)."""


def draw_plate(plate: PlateFile, results: Sequence[WellResult]) -> bytes:
    """The plate as a PNG file: RGB, `SHEET_WIDTH` pixels wide. results: of its wells, in any order.

    Of a well with several time points the latest is shown. Equal input gives equal bytes.
    """
    wells = latest(results)
    figure = Figure(dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    sheet = _Sheet(figure)
    y = _head(sheet, plate, results)
    bottom = _body(sheet, wells, plate, y) if wells else _nothing_yet(sheet, y)
    sheet.close(bottom + MARGIN // 2)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib has not typed it
    rgba = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]  # nor this
    pixels = np.ascontiguousarray(rgba[:, :, :3])
    return bytes(imagecodecs.png_encode(pixels, level=4))


def latest(results: Sequence[WellResult]) -> dict[WellPosition, WellResult]:
    """The latest time point of each well, sorted as a person would."""
    ordered = sorted(results, key=lambda result: (WellPosition.parse(result.well), result.time))
    return {WellPosition.parse(result.well): result for result in ordered}


def plate_shape(wells: Sequence[WellPosition], expected: ExpectedEntry | None = None) -> tuple[int, int]:
    """(rows, columns) as they are expected, if such a plate has all these wells; else of the smallest that has."""
    rows, columns = max((well.row for well in wells), default=1), max((well.column for well in wells), default=1)
    if expected is not None and expected.rows is not None and expected.columns is not None:
        shape = min(expected.rows, MOST_ROWS), min(expected.columns, MOST_COLUMNS)
        if rows <= shape[0] and columns <= shape[1]:
            return shape
    return next(shape for shape in PLATE_SHAPES.values() if rows <= shape[0] and columns <= shape[1])


def class_colours(classes: Sequence[str], control: str) -> dict[str, Colour]:
    """The control's class light grey, the others from Okabe and Ito, then lighter, then darker."""
    others = [name for name in classes if name != control]
    colours = {name: _tinted(number) for number, name in enumerate(others)}
    return {name: colours.get(name, CONTROL_GREY) for name in classes}


def _tinted(number: int) -> Colour:
    again, place = divmod(number, CLASSES_BY_COLOUR)
    grey, share = _TINTS[again % len(_TINTS)]
    red, green, blue = (round(part * (1 - share) + grey * share) for part in _CLASS_COLOURS[place])
    return red, green, blue


# ---- the sheet


class _Sheet:
    """White paper, measured in pixels from its upper left corner. Owned by one call of `draw_plate`."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure
        self.axes: Axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.axes.set_axis_off()
        self._fonts = {bold: FontProperties(fname=str(font_path(bold=bold))) for bold in (False, True)}

    def close(self, height: int) -> None:
        """Cut the paper."""
        self._figure.set_size_inches(SHEET_WIDTH / DPI, height / DPI)
        self._figure.set_facecolor("white")
        self.axes.set_xlim(0, SHEET_WIDTH)
        self.axes.set_ylim(height, 0)

    def write(
        self,
        x: float,
        y: float,
        words: str,
        size_px: int = BODY,
        *,
        bold: bool = False,
        colour: Colour = INK,
        across: str = "left",
        down: str = "top",
    ) -> None:
        """One line; `across` and `down` say which of its sides is at x and at y."""
        self.axes.text(
            x,
            y,
            words,
            fontproperties=self._fonts[bold],
            color=_unit(colour),
            ha=across,
            va=down,
            parse_math=False,  # a dollar in a name is a dollar
        ).set_fontsize(size_px * 72 / DPI)

    def fill(self, rects: Sequence[Rect], colours: Sequence[Colour], edge: Colour | None = None) -> None:
        """Rectangles, each in its colour."""
        if rects:
            self.axes.add_collection(
                PolyCollection(
                    [_polygon(rect) for rect in rects],
                    facecolors=[_unit(colour) for colour in colours],
                    edgecolors="none" if edge is None else [_unit(edge)],
                    linewidths=0.0 if edge is None else 0.8,
                    antialiased=edge is not None,
                ),
                autolim=False,
            )

    def lines(self, segments: Sequence[Sequence[tuple[float, float]]], colour: Colour, width_px: float) -> None:
        """Straight lines."""
        if segments:
            found = LineCollection(segments, colors=[_unit(colour)], linewidths=width_px * 72 / DPI)
            self.axes.add_collection(found, autolim=False)


def _unit(colour: Colour) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def _polygon(rect: Rect) -> list[tuple[float, float]]:
    return [(rect.x, rect.y), (rect.right, rect.y), (rect.right, rect.bottom), (rect.x, rect.bottom)]


# ---- the head


def _head(sheet: _Sheet, plate: PlateFile, results: Sequence[WellResult]) -> int:
    """The title, what keeps the plate from its results, and what they were made with; returns where the body begins."""
    room = SHEET_WIDTH - 2 * MARGIN
    y = MARGIN - 16
    sheet.write(MARGIN, y, _title(plate, room), TITLE, bold=True)
    y += line_height(TITLE)
    for words in _problems(plate):
        for line in wrap(words, room, BODY, most_lines=3):
            sheet.write(MARGIN, y, line, BODY, colour=BAD)
            y += line_height(BODY)
    for words in _made_with(plate, results):
        for line in wrap(words, room, SMALL, most_lines=2):
            sheet.write(MARGIN, y, line, SMALL, colour=FAINT)
            y += line_height(SMALL)
    if plate.model.demonstration or any(result.model.demonstration for result in results):
        band = Rect(MARGIN, y + 8, room, line_height(HEADING) + 12)
        sheet.fill([band], [DEMONSTRATION])
        sheet.write(MARGIN + 8, band.y + 10, DEMONSTRATION_BAND, HEADING, bold=True)
        y = band.bottom
    return y + 24


def _title(plate: PlateFile, room: int) -> str:
    """The plate's name, cut where it is too long, and its state, which never is."""
    end = f" · {plate.state.value}"
    # all letters of a bold font are at most as wide as their size: enough for the state's few
    return elide(plate.plate, room - len(end) * TITLE, TITLE, bold=True) + end


def _problems(plate: PlateFile) -> list[str]:
    said = [f"No site can be analysed: {plate.problem}"] if plate.problem else []
    if plate.layout is not None and plate.layout.problem:
        said.append(f"What is in the wells is not known: {plate.layout.problem}")
    return said


def _made_with(plate: PlateFile, results: Sequence[WellResult]) -> list[str]:
    model, versions = plate.model, plate.versions
    last = max((result.time for result in results), default=1)
    said = [f"acquisition {plate.acquisition} · instrument {plate.instrument}"]
    if last > 1:
        said.append(f"each well at its latest time point (the last is {last})")
    if plate.layout is not None and plate.layout.sha256 and not plate.layout.problem:
        said.append(f"layout {plate.layout.source} · sha256 {plate.layout.sha256[:8]}")
    said.append(
        f"model {model.name} {model.version} · sha256 {model.sha256[:8]} · {model.device} · "
        f"hcs-daemon {versions.hcs_daemon} · python {versions.python} · numpy {versions.numpy}"
    )
    return said


def _nothing_yet(sheet: _Sheet, y: int) -> int:
    sheet.write(MARGIN, y, "No well is published yet.", HEADING, bold=True)
    return y + line_height(HEADING)


# ---- the body


@dataclass(frozen=True, slots=True)
class PlateMap:
    """A plate's grid on the sheet. cell_px: edge of a well."""

    x: int
    y: int
    rows: int
    columns: int
    cell_px: float

    @classmethod
    def of(cls, x: int, y: int, room: int, shape: tuple[int, int]) -> "PlateMap":
        """The grid that fits into `room` pixels with its labels."""
        return cls(x + LABEL_PX, y + LABEL_PX, *shape, (room - LABEL_PX) / shape[1])

    @property
    def bottom(self) -> int:
        """The first row of the sheet below it."""
        return round(self.y + self.rows * self.cell_px) + 1

    def well(self, position: WellPosition, gap: float = 0.08) -> Rect:
        """Where a well is, with `gap` (a share of its edge) left free around."""
        left, top = (self.x + (position.column - 1) * self.cell_px, self.y + (position.row - 1) * self.cell_px)
        inset = min(5.0, max(0.5, gap * self.cell_px))
        x, y = round(left + inset), round(top + inset)
        return Rect(x, y, round(left + self.cell_px - inset) - x, round(top + self.cell_px - inset) - y)

    def positions(self) -> list[WellPosition]:
        """All its wells, row by row."""
        return [WellPosition(row, column) for row in range(1, self.rows + 1) for column in range(1, self.columns + 1)]


def _body(sheet: _Sheet, wells: Mapping[WellPosition, WellResult], plate: PlateFile, y: int) -> int:
    """The three maps, the legend and the hits; returns where they end."""
    shape, control = plate_shape(list(wells), plate.expected), plate.model.control_class
    least = plate.settings.get("model", {}).get("hit_probability")
    labels = {result.prediction.label for result in wells.values() if result.prediction} - {UNLIKE}
    known = list(dict.fromkeys([*(name for result in wells.values() for name in result.classes), *sorted(labels)]))
    # by the model's classes, not by those seen so far: a colour means the same on every plate of a model
    every = class_colours(known, control)
    classes = sorted(labels, key=lambda name: (name != control, known.index(name)))
    colours = {name: every[name] for name in classes}
    left = PlateMap.of(MARGIN, y + line_height(HEADING), VERDICT_PX, shape)
    embeds = not any(result.classes for result in wells.values())  # a model without classes gives no verdict
    sheet.write(MARGIN, y, "Profiles" if embeds else "Verdict", HEADING, bold=True)
    _verdicts(sheet, left, wells, colours, control)
    bottom = _legend(
        sheet, Rect(MARGIN, left.bottom + 18, VERDICT_PX, 0), legend_entries(wells, colours, control, shape, least)
    )
    bottom = _doubts(sheet, bottom + 6, wells)
    bottom = _hits(sheet, bottom + 14, hits_by_compound(wells.values()))
    x = SHEET_WIDTH - MARGIN - FIGURE_PX
    below = y - 30
    if not embeds:
        below = _values(
            sheet,
            x,
            y,
            shape=shape,
            heading="Probability of the verdict",
            values=_probabilities(wells),
            limits=(0.0, 1.0),
        )
    channel = next((result.channels[0] for result in wells.values() if result.channels), None)
    if channel is not None:
        focus = {
            well: result.quality.focus[channel] for well, result in wells.items() if channel in result.quality.focus
        }
        low, high = min(focus.values(), default=0.0), max(focus.values(), default=1.0)
        below = _values(
            sheet,
            x,
            below + 30,
            shape=shape,
            heading=f"Focus of {channel} (higher is sharper)",
            values=focus,
            limits=(low, high) if high > low else (0.0, high or 1.0),
        )
    return max(bottom, below)


def _probabilities(wells: Mapping[WellPosition, WellResult]) -> dict[WellPosition, float]:
    return {
        well: result.prediction.probabilities.get(result.prediction.label, 0.0)
        for well, result in wells.items()
        if result.prediction is not None and result.prediction.label != UNLIKE
    }


def _only_profile(result: WellResult) -> bool:
    """Whether a model that only embeds analysed the well."""
    return not result.classes and bool(result.site_results)


def _letters(classes: Sequence[str], control: str) -> dict[str, str]:
    """A letter for each class but the control's, where there are too many for colours alone."""
    others = [name for name in classes if name != control]
    if len(others) <= CLASSES_BY_COLOUR:
        return {}
    return {name: chr(ord("a") + number % 26) for number, name in enumerate(others)}


def _axes(sheet: _Sheet, grid: PlateMap) -> None:
    """Rows' letters and columns' numbers, as many as have room."""
    size = max(11, min(SMALL, round(grid.cell_px * 0.7)))
    down, across = -(-size // grid.cell_px), -(-1.7 * size // grid.cell_px)
    for row in range(0, grid.rows, max(1, int(down))):
        name = WellPosition(row + 1, 1).name[:-2]
        middle = grid.y + (row + 0.5) * grid.cell_px
        sheet.write(grid.x - 7, middle, name, size, colour=FAINT, across="right", down="center")
    for column in range(0, grid.columns, max(1, int(across))):
        middle = grid.x + (column + 0.5) * grid.cell_px
        sheet.write(middle, grid.y - 5, str(column + 1), size, colour=FAINT, across="center", down="bottom")


def _verdicts(
    sheet: _Sheet,
    grid: PlateMap,
    wells: Mapping[WellPosition, WellResult],
    colours: Mapping[str, Colour],
    control: str,
) -> None:
    """Hits large in full colour; verdicts of a class that are no hits small and pale; the control's grey."""
    _axes(sheet, grid)
    letters = _letters(list(colours), control)
    predictions = {well: result.prediction for well, result in wells.items() if result.prediction}
    called = []
    for well, prediction in predictions.items():
        if prediction.label == UNLIKE:
            continue
        rect, colour = grid.well(well), colours[prediction.label]
        whole = prediction.hit or prediction.label == control
        called.append((rect, prediction.label, colour) if whole else (_smaller(rect), prediction.label, pale(colour)))
    sheet.fill([rect for rect, _, _ in called], [colour for _, _, colour in called])
    _mark_unlike(sheet, [grid.well(well) for well, found in predictions.items() if found.label == UNLIKE])
    profiles = [grid.well(well) for well, result in wells.items() if _only_profile(result)]
    sheet.fill(profiles, [CONTROL_GREY] * len(profiles))
    for rect, label, colour in called:
        if label in letters:
            size = max(7, min(SMALL, round(rect.height * 0.7)))
            x, y = rect.x + rect.width / 2, rect.y + rect.height / 2
            ink = INK if sum(colour) > DARK else PAPER
            sheet.write(x, y, letters[label], size, colour=ink, across="center", down="center")
    for status in (WellStatus.PARTIAL, WellStatus.REJECTED):
        _mark(sheet, [grid.well(well) for well, result in wells.items() if result.status is status], status)
    _mark(sheet, [grid.well(well) for well in grid.positions() if well not in wells], None)
    _mark_controls(sheet, [grid.well(well) for well, result in wells.items() if is_named_control(result)])


def pale(colour: Colour) -> Colour:
    """Half of it white."""
    red, green, blue = (round(part * (1 - PALE) + 255 * PALE) for part in colour)
    return red, green, blue


def _smaller(rect: Rect) -> Rect:
    inset = max(1, round(SMALLER * rect.width))
    return Rect(rect.x + inset, rect.y + inset, rect.width - 2 * inset, rect.height - 2 * inset)


def _mark_controls(sheet: _Sheet, rects: Sequence[Rect]) -> None:
    """A ring: the layout names it a control, whatever its verdict."""
    thick = max([1.0, *(min(2.0, rect.width / 14) for rect in rects[:1])])
    sheet.lines([_ring(rect) for rect in rects], INK, thick)


def _ring(rect: Rect) -> list[tuple[float, float]]:
    x, y, radius = rect.x + rect.width / 2, rect.y + rect.height / 2, min(RING_PX, RING * rect.width)
    return [(x + radius * np.cos(turn), y + radius * np.sin(turn)) for turn in np.linspace(0, 2 * np.pi, 33)]


def _mark(sheet: _Sheet, rects: Sequence[Rect], status: WellStatus | None) -> None:
    """partial: a frame and a stroke; rejected: a frame and a cross; no result: a dot."""
    thick = max([1.0, *(min(2.5, rect.width / 12) for rect in rects[:1])])
    up = [[(rect.x, rect.bottom), (rect.right, rect.y)] for rect in rects]
    match status:
        case None:
            dots = [_dot(rect) for rect in rects]
            sheet.fill(dots, [RULE] * len(dots))
        case WellStatus.PARTIAL:
            sheet.lines([*up, *(_frame(rect) for rect in rects)], INK, thick)
        case WellStatus.REJECTED:
            across = [[(rect.x, rect.y), (rect.right, rect.bottom)] for rect in rects]
            sheet.lines([*up, *across, *(_frame(rect) for rect in rects)], BAD, thick)
        case WellStatus.COMPLETE:
            pass


def _mark_unlike(sheet: _Sheet, rects: Sequence[Rect]) -> None:
    """A diamond on paper, of no class's colour: unlike all that the model has seen."""
    thick = max([1.0, *(min(2.5, rect.width / 12) for rect in rects[:1])])
    sheet.lines([_diamond(rect) for rect in rects], INK, thick)


def _diamond(rect: Rect) -> list[tuple[float, float]]:
    x, y = rect.x + rect.width / 2, rect.y + rect.height / 2
    return [(x, rect.y), (rect.right, y), (x, rect.bottom), (rect.x, y), (x, rect.y)]


def _frame(rect: Rect) -> list[tuple[float, float]]:
    return [*_polygon(rect), (rect.x, rect.y)]


def _dot(rect: Rect) -> Rect:
    """In the middle, a fifth as wide as the well but no more than a dot."""
    side = max(1, min(7, round(rect.width / 5)))
    return Rect(rect.x + (rect.width - side) // 2, rect.y + (rect.height - side) // 2, side, side)


_Sign = Literal["hit", "no hit", "unlike", "control"] | WellStatus | Colour | None
"""What stands before the words of a legend; None: the dot of a well without a result."""


def legend_entries(
    wells: Mapping[WellPosition, WellResult],
    colours: Mapping[str, Colour],
    control: str,
    shape: tuple[int, int],
    least: float | None,
) -> list[tuple[str, _Sign]]:
    """What colours and marks mean, and how many wells each has. least: the least probability of a hit, if known."""
    predictions = [result.prediction for result in wells.values() if result.prediction]
    counts = Counter(prediction.label for prediction in predictions)
    statuses = Counter(result.status for result in wells.values())
    letters = _letters(list(colours), control)
    entries: list[tuple[str, _Sign]] = [
        (_class_words(name, counts[name], letters.get(name), control=name == control), colours[name])
        for name in colours
    ]
    hits = sum(prediction.hit for prediction in predictions)
    if set(colours) - {control}:
        known = "" if least is None else f" (probability at least {least:.2f})"
        entries.append((f"{counted(hits, 'hit')}{known}", "hit"))
    if doubtful := sum(counts[name] for name in colours if name != control) - hits:
        entries.append((f"{doubtful} no hit{'' if doubtful == 1 else 's'} (small and pale)", "no hit"))
    if counts[UNLIKE]:
        entries.append((f"{counts[UNLIKE]} unlike anything seen (a diamond)", "unlike"))
    if controls := sum(map(is_named_control, wells.values())):
        entries.append((f"{counted(controls, 'control well')} by the layout (a ring)", "control"))
    if profiles := sum(map(_only_profile, wells.values())):
        entries.append((f"{profiles} with a profile and no verdict", CONTROL_GREY))
    return [
        *entries,
        (f"{statuses[WellStatus.COMPLETE]} complete (no frame)", WellStatus.COMPLETE),
        (f"{statuses[WellStatus.PARTIAL]} partial (framed, a stroke)", WellStatus.PARTIAL),
        (f"{statuses[WellStatus.REJECTED]} rejected (crossed out)", WellStatus.REJECTED),
        (f"{shape[0] * shape[1] - len(wells)} without a result (a dot)", None),
    ]


def _legend(sheet: _Sheet, place: Rect, entries: Sequence[tuple[str, _Sign]]) -> int:
    """Signs and words in columns; returns where it ends."""
    room = place.width // LEGEND_COLUMNS
    row_px = line_height(BODY) + 4
    for index, (words, sign) in enumerate(entries):
        row, column = divmod(index, LEGEND_COLUMNS)
        box = Rect(place.x + column * room, place.y + row * row_px, 22, 22)
        match sign:
            case "hit":
                sheet.fill([box], [FAINT])
            case "no hit":
                sheet.fill([_smaller(box)], [pale(FAINT)])
            case "unlike":
                _mark_unlike(sheet, [box])
            case "control":
                _mark_controls(sheet, [box])
            case None | WellStatus():
                _mark(sheet, [box], sign)
            case _:
                sheet.fill([box], [sign])
        sheet.write(box.right + 10, box.y + 11, elide(words, room - 22 - 26, SMALL), SMALL, down="center")
    return place.y + -(-len(entries) // LEGEND_COLUMNS) * row_px


def doubts(wells: Iterable[WellResult]) -> list[str]:
    """Explanations that failed their checks, and wells whose sites disagree: how many, and which; none where none."""
    found = list(wells)
    failed = [
        result.well
        for result in found
        if result.explanation is not None and not all(site.checks.passed for site in result.explanation.sites)
    ]
    torn = [result.well for result in found if result.prediction is not None and result.prediction.disagreeing_sites]
    said = []
    if failed:
        whose = "its" if len(failed) == 1 else "their"
        said.append(f"{counted(len(failed), 'explanation')} failed {whose} checks: {_first(failed)}")
    if torn:
        said.append(f"{counted(len(torn), 'well')} with sites that disagree: {_first(torn)}")
    return said


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:HIT_WELLS]) + (f" and {len(names) - HIT_WELLS} more" if len(names) > HIT_WELLS else "")


def _doubts(sheet: _Sheet, y: int, wells: Mapping[WellPosition, WellResult]) -> int:
    for line in doubts(wells.values()):
        sheet.write(MARGIN, y, elide(line, VERDICT_PX, SMALL), SMALL)
        y += line_height(SMALL)
    return y


def _class_words(name: str, count: int, letter: str | None, *, control: bool) -> str:
    """The count first: it is never cut."""
    return f"{count} {f'({letter}) ' if letter else ''}{name}{' (control)' if control and name != 'control' else ''}"


def hits_by_compound(results: Iterable[WellResult]) -> list[str]:
    """The hits of which a layout says what they are, a line a compound and class, most wells first."""
    wells: dict[tuple[str, str], list[WellResult]] = {}
    for result in results:
        if result.prediction is not None and result.prediction.hit and result.content and result.content.compound:
            wells.setdefault((result.content.compound, result.prediction.label), []).append(result)
    ordered = sorted(wells.items(), key=lambda item: (-len(item[1]), item[0]))
    return [_hit_words(compound, label, found) for (compound, label), found in ordered]


def _hit_words(compound: str, label: str, found: Sequence[WellResult]) -> str:
    doses = sorted(
        {
            result.content.concentration_um
            for result in found
            if result.content is not None and result.content.concentration_um is not None
        }
    )
    ends = list(dict.fromkeys(amount(dose) for dose in (doses[:1] + doses[-1:])))
    dose = f" {' to '.join(ends)}" if ends else ""
    return f"{compound}{dose}: {label} ({_first([result.well for result in found])})"


def _hits(sheet: _Sheet, y: int, lines: Sequence[str]) -> int:
    """Which compounds the hits are; nothing where no layout says so. Returns where they end."""
    if not lines:
        return y
    sheet.write(MARGIN, y, "Hits by compound", HEADING, bold=True)
    y += line_height(HEADING)
    for line in wrap_all(lines, VERDICT_PX, SMALL, most_lines=HIT_LINES, most_each=1):
        sheet.write(MARGIN, y, line, SMALL)
        y += line_height(SMALL)
    return y


def _values(
    sheet: _Sheet,
    x: int,
    y: int,
    *,
    shape: tuple[int, int],
    heading: str,
    values: Mapping[WellPosition, float],
    limits: tuple[float, float],
) -> int:
    """A map of numbers with its scale; wells without one have a dot. Returns where it ends."""
    sheet.write(x, y, elide(heading, FIGURE_PX, HEADING, bold=True), HEADING, bold=True)
    grid = PlateMap.of(x, y + line_height(HEADING), FIGURE_PX, shape)
    _axes(sheet, grid)
    low, high = limits
    shares = {well: (value - low) / (high - low) for well, value in values.items()}
    sheet.fill([grid.well(well) for well in shares], [shade(share) for share in shares.values()])
    _mark(sheet, [grid.well(well) for well in grid.positions() if well not in shares], None)
    top, steps = grid.bottom + 12, 64
    wide = (FIGURE_PX - LABEL_PX) / steps
    edges = [round(grid.x + step * wide) for step in range(steps + 1)]
    bars = [Rect(left, top, right - left, 12) for left, right in pairwise(edges)]
    sheet.fill(bars, [shade(step / (steps - 1)) for step in range(steps)])
    sheet.write(edges[0], top + 16, f"{low:.3g}", SMALL, colour=FAINT)
    sheet.write(edges[-1], top + 16, f"{high:.3g}", SMALL, colour=FAINT, across="right")
    return top + 16 + line_height(SMALL)


def shade(share: float) -> Colour:
    """Dark blue (low) to yellow (high): cividis (Nunez et al., PLOS ONE 2018), made for all kinds of colour vision."""
    red, green, blue, _ = colormaps["cividis"](min(1.0, max(0.0, share)), bytes=True)
    return int(red), int(green), int(blue)
