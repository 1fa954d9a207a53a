"""Where everything stands on a well's page: a pure function from what is known to boxes.

Boxes never overlap and never leave the page, whatever the lengths of names and lists: words are broken, cut with an
ellipsis or counted ("and 12 more"), and the page grows downwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from hcs_daemon.publish import well_words
from hcs_daemon.publish.lettering import ELLIPSIS, MINUS, elide, line_height, width, wrap, wrap_all
from hcs_daemon.publish.page import (
    BODY,
    HEADING,
    SMALL,
    TITLE,
    VERDICT,
    Bar,
    Block,
    Column,
    Image,
    Item,
    Rect,
    Strip,
    Words,
)
from hcs_daemon.publish.palette import (
    BAD,
    DEMONSTRATION,
    FAINT,
    GOOD,
    INK,
    PAPER,
    TAG,
    WARNING,
    WITHHELD,
    Colour,
    channel_colours,
)
from hcs_daemon.publish.schemas import ChecksEntry, SiteExplanationEntry, WellResult
from hcs_daemon.publish.studio import WellPicture

PAGE_WIDTH = 1600
MARGIN = 40
GUTTER = 30
MAIN_PX, MIDDLE_PX, GRID_PX = 560, 400, 500
"""Widths of the three columns: the composite; control and shares; the channels one by one."""
SMALL_IMAGE_PX = 300
LEAST_PX = 120
"""No image is lower or narrower: words stand on it."""
CELL_GAP = 16
FEW_CHANNELS = 8
"""More stand three to a row instead of two."""
COLOUR_BAR_PX = 8
AXIS_INSET_PX = 10
"""From a column's edges to the ends of its axis of probability: a dot at the end stays inside."""
COMPOSITE_CHANNELS = 3
INNER_MASS, OUTER_MASS = 0.3, 0.6
"""What shares of the positive attribution the two outlines hold."""
SMOOTHING_UM = 8.0
"""Standard deviation of the Gaussian that attributions are smoothed with: about the radius of a nucleus."""
SMOOTHING_SHARE = 0.01
"""The same as a share of the field's longest side, where the pixel size is not known."""
ASCENT = 0.93
"""From the top of a line to the foot of its letters, as a share of their size."""
SCALE_ROOM_PX = 60
"""Kept free of other words above the lower edge of an image with a scale bar."""
ROUND = (1, 2, 5)
MOST_LINES = 40
"""Of warnings, and as many of rejections."""
HELD, FAILED = "\N{CHECK MARK} ", "\N{BALLOT X} "
STRIP_PX = 26
NAME_LINES = 2
"""That a channel's name may take."""
ROW_PX = line_height(BODY) + 6


@dataclass(frozen=True, slots=True)
class Page:
    """A well's page.

    composite: the channels, by index, that are put into one picture. outlined: whether contours are drawn. um_per_px:
    micrometres a pixel of the page, in the composite and in the reference; None when the pixel size is not known.
    """

    width: int
    height: int
    items: tuple[Item, ...]
    composite: tuple[int, ...] = ()
    outlined: bool = False
    um_per_px: float | None = None


def lay_out(picture: WellPicture) -> Page:
    """Place everything that a well's page shows."""
    room = PAGE_WIDTH - 2 * MARGIN
    head = Column(MARGIN, MARGIN - 16, room)
    _head(head, picture)
    head.gap(18)
    body = _Body.without_pixels(picture, head.y) if picture.panels is None else _Body.with_pixels(picture, head.y)
    remarks, bottom = _remarks(picture, body)
    foot = Column(MARGIN, bottom + 22, room)
    foot.paragraph("provenance", well_words.provenance(picture.result), SMALL, colour=FAINT)
    return Page(
        PAGE_WIDTH,
        foot.y + MARGIN - 16,
        (*head.items, *body.items, *remarks, *foot.items),
        composite_channels(picture),
        is_outlined(picture),
        page_scale(picture),
    )


def composite_channels(picture: WellPicture) -> tuple[int, ...]:
    """The three channels with the largest share of either sign, largest first; without shares that hold, the first."""
    channels = picture.result.channels
    found = well_words.explained(picture)
    if found is None or fails_checks(picture):
        return tuple(range(len(channels)))[:COMPOSITE_CHANNELS]
    shares = [abs(found.channel_shapley.get(channel, 0.0)) for channel in channels]
    return tuple(sorted(range(len(channels)), key=lambda index: -shares[index])[:COMPOSITE_CHANNELS])


def is_outlined(picture: WellPicture) -> bool:
    """Whether there is an attribution of the site shown that holds its checks and has anything positive."""
    panels, attribution = picture.panels, picture.attribution
    if panels is None or attribution is None or attribution.site != panels.site or fails_checks(picture):
        return False
    return bool((np.nan_to_num(attribution.heat).sum(axis=0) > 0).any())


def fails_checks(picture: WellPicture) -> bool:
    """Whether a check failed of the explanation that is at hand, or of the one in the result."""
    attribution, found = picture.attribution, well_words.explained(picture)
    return (attribution is not None and not attribution.passed) or (found is not None and not found.checks.passed)


def page_scale(picture: WellPicture) -> float | None:
    """Micrometres a pixel of the page, in the composite."""
    panels = picture.panels
    if panels is None or not _is_size(panels.um_per_px):
        return None
    return panels.um_per_px / fit(panels.pixels.shape, MAIN_PX, MAIN_PX)


def fit(shape: Sequence[int], width_px: int, height_px: int) -> float:
    """Factor by which a picture of shape (…, height, width) is shown so that it just fits."""
    return min(width_px / shape[-1], height_px / shape[-2])


def _is_size(um: float) -> bool:
    return isfinite(um) and um > 0


# ---- the head


def _head(head: Column, picture: WellPicture) -> None:
    result = picture.result
    end = well_words.title_end(result)
    lines = wrap(result.plate + end, head.room, TITLE, bold=True)
    if lines[-1].endswith(ELLIPSIS):
        lines = [elide(result.plate, head.room - width(end, TITLE, bold=True), TITLE, bold=True) + end]
    head.say("title", lines, TITLE, bold=True)
    head.paragraph("content", well_words.contents(result), HEADING, most=2)
    prediction = result.prediction
    if prediction is None:
        _no_verdict(head, result)
    else:
        _verdict(head, result)
        head.paragraph("support", well_words.support(result), colour=FAINT)
    head.paragraph("status", well_words.status(result), bold=True, colour=BAD)
    if result.model.demonstration:
        head.gap(8)
        head.say("demonstration", [well_words.DEMONSTRATION_BAND], HEADING, bold=True, fill=DEMONSTRATION, pad=6)


def _verdict(head: Column, result: WellResult) -> None:
    """The label with its probability, and beside it, or below where there is no room, the interval."""
    label, share = well_words.verdict(result)
    number = f"  {share}" if share else ""
    label = elide(label, head.room - width(number, VERDICT, bold=True), VERDICT, bold=True)
    y, wide = head.y, width(label + number, VERDICT, bold=True)
    colour = INK if share else WARNING
    interval = well_words.interval(result) if share else ""
    if wide + GUTTER + width(interval, BODY) > head.room or not interval:
        head.say("verdict", [label + number], VERDICT, bold=True, colour=colour)
        head.paragraph("interval", interval, colour=FAINT)
        return
    rect = Rect(head.x, y, wide, line_height(VERDICT))
    beside = Rect(rect.right + GUTTER, y + round(ASCENT * (VERDICT - BODY)), 0, line_height(BODY))
    beside = replace(beside, width=head.x + head.room - beside.x)
    head.put(
        Words(rect, "verdict", (label + number,), VERDICT, bold=True, colour=colour),
        Words(beside, "interval", (interval,), BODY, colour=FAINT),
    )


def _no_verdict(head: Column, result: WellResult) -> None:
    """Bad news, unless the model gives none to any well."""
    if result.classes or not result.site_results:
        head.say("verdict", ["no verdict" if result.classes else "no profile"], VERDICT, bold=True, colour=BAD)
    else:
        head.say("verdict", ["profile only"], VERDICT, bold=True)
        head.paragraph("support", well_words.support(result), colour=FAINT)


# ---- the body


@dataclass(frozen=True, slots=True)
class _Body:
    """The pictures. left_bottom: where the columns left of the channels end; left_room: how wide they are together."""

    items: tuple[Item, ...]
    left_bottom: int
    left_room: int
    bottom: int

    @classmethod
    def with_pixels(cls, picture: WellPicture, y: int) -> "_Body":
        main = Column(MARGIN, y, MAIN_PX)
        _main(main, picture)
        _sites(main, picture)
        middle = Column(main.x + main.room + GUTTER, y, MIDDLE_PX)
        _reference(middle, picture)
        _shares(middle, picture)
        left = MAIN_PX + GUTTER + MIDDLE_PX if middle.items else MAIN_PX  # without middle, channels take its room
        x = MARGIN + left + GUTTER
        grid = Column(x, y, PAGE_WIDTH - MARGIN - x)
        _grid(grid, picture)
        left_bottom = max(main.y, middle.y)
        items = (*main.items, *middle.items, *grid.items)
        return cls(items, left_bottom, left, max(left_bottom, grid.y))

    @classmethod
    def without_pixels(cls, picture: WellPicture, y: int) -> "_Body":
        column = Column(MARGIN, y, PAGE_WIDTH - 2 * MARGIN)
        column.paragraph("no picture", f"No picture: {well_words.why_no_pixels(picture)}", HEADING, bold=True, most=6)
        chart = Column(MARGIN, column.y + 18, MAIN_PX)
        _shares(chart, picture)
        bottom = chart.y if chart.items else column.y
        return cls((*column.items, *chart.items), bottom, column.room, bottom)


def _main(column: Column, picture: WellPicture) -> None:
    """The composite of the site, with the outlines or with why there are none."""
    panels = picture.panels
    assert panels is not None
    height = round(panels.pixels.shape[1] * fit(panels.pixels.shape, MAIN_PX, MAIN_PX))
    rect = Rect(column.x, column.y, MAIN_PX, max(LEAST_PX, height))
    inside: list[Words | Block] = [*_scale_bar(rect, page_scale(picture))]
    if picture.attribution is not None and fails_checks(picture):
        found = well_words.explained(picture)
        why = well_words.failed_checks(found.checks if found else None)
        free = rect.height - 12 - SCALE_ROOM_PX
        lines = wrap(f"No outlines, {why}", rect.width - 24, BODY, most_lines=max(1, free // line_height(BODY)))
        inside.append(_tag(rect.x + 6, rect.y + 6, "failed check", lines, BODY))
    column.put(Image(rect, "composite", inside=tuple(inside)))
    column.gap(6)
    column.paragraph("composite caption", _composite_caption(picture), SMALL, colour=FAINT, most=3)
    column.paragraph("outline caption", _outline_caption(picture), SMALL, colour=FAINT, most=9)


def _composite_caption(picture: WellPicture) -> str:
    assert picture.panels is not None
    channels, colours = picture.result.channels, channel_colours(picture.result.channels)
    named = ", ".join(f"{channels[index]} {colours[index][1]}" for index in composite_channels(picture))
    if len(channels) <= COMPOSITE_CHANNELS:
        why = "all channels"
    else:
        by_shares = well_words.explained(picture) is not None and not fails_checks(picture)
        why = "the largest shares" if by_shares else "the first three channels"
    return f"Site {picture.panels.site}: {named} ({why})."


def _outline_caption(picture: WellPicture) -> str:
    explanation = picture.result.explanation
    if is_outlined(picture):
        smoothing = f"{SMOOTHING_UM:g} µm" if page_scale(picture) else f"{100 * SMOOTHING_SHARE:g} % of the field"
        contrast = f"“{explanation.target}” against “{explanation.against}”" if explanation else "the verdict"
        return (
            f"{well_words.leaning(picture.result)}Outlined is what speaks for {contrast}: "
            f"the smallest areas with {100 * INNER_MASS:.0f} % (thick) and "
            f"{100 * OUTER_MASS:.0f} % (thin) of the positive attribution over all channels, smoothed by {smoothing}; "
            "islands smaller than a smoothed point are left out. "
            "On empty ground it is what the references have there and this site lacks."
        )
    if picture.attribution is None:
        return "No outlines: this site was not explained."
    if not fails_checks(picture):
        return "No outlines: nothing in this site speaks for the verdict."
    return "No outlines: an explanation that fails its checks may point to the wrong places."


def _sites(column: Column, picture: WellPicture) -> None:
    """Each site's own probability on an axis from 0 to 1, beside the well's and its interval."""
    result, prediction = picture.result, picture.result.prediction
    own = well_words.own_probabilities(result)
    if prediction is None or len(own) < 2:
        return
    column.gap(14)
    column.say("sites heading", [f"Sites ({len(own)})"], HEADING, bold=True)
    column.gap(4)
    axis = _Axis(column.x + AXIS_INSET_PX, column.room - 2 * AXIS_INSET_PX, 0.0, 1.0)
    interval = prediction.interval
    agree = [site.label == prediction.first for site in result.site_results]
    column.put(
        Strip(
            Rect(column.x, column.y, column.room, STRIP_PX),
            (axis.at(interval[0]), axis.at(interval[1])) if interval else None,
            axis.at(prediction.probabilities.get(prediction.first, 0.0)),
            tuple((axis.at(share), agrees) for share, agrees in zip(own, agree, strict=True)),
        )
    )
    column.put(*(axis.tick(value, f"{value:g}", column.y) for value in (0.0, 0.5, 1.0)))
    band = " Grey: its 95 % interval." if interval else ""
    others = well_words.disagreeing(result)
    open_ = f" Open: another class first ({others})." if others else ""
    column.paragraph(
        "sites caption",
        f"Each site's own probability of “{prediction.first}”. Line: the well's.{band}{open_}",
        SMALL,
        colour=FAINT,
        most=6,
    )


def _reference(column: Column, picture: WellPicture) -> None:
    """The control at the scale and contrast of the composite."""
    reference = picture.reference
    if reference is None:
        return
    scale = page_scale(picture)
    known = scale is not None and _is_size(reference.um_per_px)
    shape = reference.pixels.shape
    factor = reference.um_per_px / scale if known and scale else fit(shape, MIDDLE_PX, MIDDLE_PX)
    whole = round(shape[2] * factor), round(shape[1] * factor)
    rect = Rect(column.x, column.y, *(min(MIDDLE_PX, max(LEAST_PX, length)) for length in whole))
    column.put(Image(rect, "reference", inside=_scale_bar(rect, scale if known else None)))
    cut = "its centre, " if max(whole) > MIDDLE_PX else ""
    same = "same scale and contrast" if known else "same contrast, scale not known"
    column.gap(6)
    column.paragraph(
        "reference caption",
        f"{_whose(picture)}: {reference.name} ({cut}same colours, {same}).",
        SMALL,
        colour=FAINT,
        most=6,
    )
    column.gap(16)


def _whose(picture: WellPicture) -> str:
    """Where the reference is from: stained with the site, or on another day."""
    if picture.control is not None:
        return "Nearest control"
    return "No control of this plate is at hand; from the model package"


def _grid(column: Column, picture: WellPicture) -> None:
    """Every channel alone in grey, with its name, its colour and its raw range."""
    channels = picture.result.channels
    few = len(channels) <= FEW_CHANNELS
    across = (2 if few else 3) if column.room <= GRID_PX else (3 if few else 4)
    side = (column.room - (across - 1) * CELL_GAP) // across
    top = column.y
    for index, (channel, (colour, _)) in enumerate(zip(channels, channel_colours(channels), strict=True)):
        row, place = divmod(index, across)
        cell = Rect(column.x + place * (side + CELL_GAP), top + row * (side + CELL_GAP), side, side)
        bar = Block(Rect(cell.x, cell.y, side, COLOUR_BAR_PX), f"colour bar {channel}", colour)
        lines = wrap(channel, side - 8, SMALL, bold=True, most_lines=NAME_LINES) or [""]
        name = _tag(cell.x, bar.rect.bottom, f"name {channel}", lines, SMALL, bold=True)
        raw = elide(well_words.raw_range(picture, index), side - 8, SMALL)
        below = cell.bottom - line_height(SMALL) - 2
        range_ = _tag(cell.x, below, f"range {channel}", [raw], SMALL)
        column.put(Image(cell, "grey", index, (bar, name, range_)))
    column.gap(6)
    column.paragraph("grid caption", _contrast_caption(picture), SMALL, colour=FAINT, most=9)


def _contrast_caption(picture: WellPicture) -> str:
    own = [channel for channel in picture.result.channels if channel not in picture.contrast]
    corners = "in the corners this site's raw range"
    if not own:
        return f"Contrast: the same on the whole plate; {corners}."
    which = "all channels" if len(own) == len(picture.result.channels) else ", ".join(own)
    return f"Contrast: this site's own ({which}); {corners}."


def _tag(x: int, y: int, role: str, lines: Sequence[str], size_px: int, *, bold: bool = False) -> Words:
    """White words on dark, as narrow as they are, to stand on an image."""
    wide = max(width(line, size_px, bold=bold) for line in lines)
    rect = Rect(x, y, wide + 8, len(lines) * line_height(size_px) + 2)
    return Words(rect, role, tuple(lines), size_px, bold, PAPER, TAG, 1, "centre" if len(lines) == 1 else "left")


def _scale_bar(rect: Rect, um_per_px: float | None) -> tuple[Words | Block, ...]:
    """A round length of at most a quarter of the picture (of a small one, a third) in its lower right corner.

    Nothing when the scale is not known.
    """
    if um_per_px is None:
        return ()
    length = _round_below(rect.width * um_per_px / (4 if rect.width > SMALL_IMAGE_PX else 3))
    pixels = round(length / um_per_px)
    words = [f"{length:,g} µm".replace(",", " ")]
    tag = _tag(0, 0, "scale", words, SMALL)
    wide = max(pixels, tag.rect.width)
    x, y = rect.right - 12 - wide, rect.bottom - 14 - 6 - tag.rect.height
    if x < rect.x or pixels < 1:
        return ()
    words_x = x + (wide - tag.rect.width) // 2
    return (
        Words(
            Rect(words_x, y, tag.rect.width, tag.rect.height), "scale", tag.lines, SMALL, False, PAPER, TAG, 1, "centre"
        ),
        Block(Rect(x + (wide - pixels) // 2, rect.bottom - 18, pixels, 8), "scale bar", PAPER, edged=True),
    )


def _round_below(value: float) -> float:
    """The largest of 1, 2, 5, 10, 20, … that is not larger (and so for fractions)."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max(step * power for step in ROUND if step * power <= value * (1 + 1e-9)))


# ---- channel shares


def _shares(column: Column, picture: WellPicture) -> None:
    explanation, found = picture.result.explanation, well_words.explained(picture)
    if explanation is None or found is None:
        return
    holds = not fails_checks(picture)
    heading = "Channel shares" if holds else "Channel shares: checks failed"
    column.say("shares heading", [heading], HEADING, bold=True, colour=INK if holds else BAD)
    whiskers = f"; whiskers: {_spread(found)[1]}" if _spread(found)[0] else ""
    change = well_words.share(found.change.to - found.change.from_, None)
    column.paragraph(
        "shares caption",
        f"{well_words.leaning(picture.result)}What each channel adds to the log-odds of "
        f"“{explanation.target}” against “{explanation.against}”, "
        f"in all {change}{whiskers}.",
        SMALL,
        colour=FAINT,
        most=9,
    )
    column.paragraph("compared with", well_words.compared_with(explanation), SMALL, colour=FAINT, most=4)
    column.gap(8)
    _bars(column, picture, found, holds=holds)
    column.gap(8)
    _checks(column, found.checks, neutral=bool(well_words.leaning(picture.result)))


def _spread(found: SiteExplanationEntry) -> tuple[Mapping[str, float], str]:
    """Each share's whisker to either side, and what it is; empty where none is known."""
    if found.channel_spread is not None:
        return found.channel_spread, "standard deviation over the references"
    return found.channel_error or {}, "standard error of the sampling"


def _checks(column: Column, checks: ChecksEntry, *, neutral: bool) -> None:
    """Whether the explanation holds, and each check with a sign and its numbers. neutral: to hold is no good news."""
    words = "Checks passed" if checks.passed else "Checks FAILED"
    good = INK if neutral else GOOD
    column.say("checks", [words], SMALL, bold=True, colour=good if checks.passed else BAD)
    for said, holds in well_words.checks(checks):
        sign = "" if holds is None else HELD if holds else FAILED
        column.paragraph("checks", sign + said, SMALL, colour=BAD if holds is False else FAINT)
    column.paragraph("on cells", well_words.on_cells(checks), SMALL, colour=FAINT)


def _bars(column: Column, picture: WellPicture, found: SiteExplanationEntry, *, holds: bool) -> None:
    channels = [channel for channel in picture.result.channels if channel in found.channel_shapley]
    colours = dict(zip(picture.result.channels, channel_colours(picture.result.channels), strict=True))
    spread = _spread(found)[0]
    values = {channel: found.channel_shapley[channel] for channel in channels}
    said = {channel: well_words.share(values[channel], spread.get(channel)) for channel in channels}
    names_px = min(column.room * 3 // 10, max((width(name, BODY) for name in channels), default=0))
    said_px = min(column.room * 2 // 5, max((width(words, SMALL) for words in said.values()), default=0))
    axis = _Axis.of(
        column.x + names_px + 12,
        column.room - names_px - said_px - 24,
        [end for name in channels for end in _ends(values[name], spread.get(name, 0.0))],
    )
    names = {channel: _share_name(channel, names_px) for channel in channels}
    for channel in channels:
        y = column.y
        lines, size_px = names[channel]
        row_px = max(ROW_PX, len(lines) * line_height(size_px) + 6)
        low, high = _ends(values[channel], spread.get(channel, 0.0))
        column.put(
            Words(
                Rect(column.x, y, names_px, row_px),
                f"share {channel}",
                lines,
                size_px,
                pad=_to_middle(row_px, size_px, len(lines)),
            ),
            Bar(
                Rect(axis.x, y, axis.room, row_px),
                channel,
                colours[channel][0],
                axis.at(0.0),
                axis.at(values[channel]),
                (axis.at(low), axis.at(high)) if channel in spread else None,
                holds,
            ),
            Words(
                Rect(axis.x + axis.room + 12, y, said_px, row_px),
                f"value {channel}",
                (elide(said[channel], said_px, SMALL),),
                SMALL,
                colour=FAINT if holds else WITHHELD,
                pad=_to_middle(row_px, SMALL),
                align="right",
            ),
        )
    column.put(*axis.ticks(column.y))


def _to_middle(row_px: int, size_px: int, lines: int = 1) -> int:
    """Pixels above lines that stand in the middle of a row."""
    return (row_px - lines * line_height(size_px)) // 2


def _share_name(channel: str, room_px: int) -> tuple[tuple[str, ...], int]:
    """Its lines, and their size: smaller, and several, where one does not take it."""
    if width(channel, BODY) <= room_px:
        return (elide(channel, room_px, BODY),), BODY
    return tuple(wrap(channel, room_px, SMALL, most_lines=NAME_LINES)), SMALL


def _ends(value: float, spread: float) -> tuple[float, float]:
    return value - spread, value + spread


@dataclass(frozen=True, slots=True)
class _Axis:
    """From values to columns of the page: x … x + room - 1 shows low … high."""

    x: int
    room: int
    low: float
    high: float

    @classmethod
    def of(cls, x: int, room: int, values: Sequence[float]) -> "_Axis":
        low, high = min([0.0, *values]), max([0.0, *values])
        return cls(x, room, low, high if high - low > 1e-12 else low + 1.0)

    def at(self, value: float) -> int:
        """The column that shows a value."""
        share = (value / 2 - self.low / 2) / (
            self.high / 2 - self.low / 2
        )  # halves: the span of two floats may overflow
        return self.x + round(share * (self.room - 1))

    def ticks(self, y: int) -> list[Item]:
        """Zero, and a round number on the longer side if it has room."""
        farthest = self.high if self.high >= -self.low else self.low
        step = float(np.copysign(_round_below(abs(farthest)), farthest))
        zero, other = self.tick(0.0, "0", y), self.tick(step, f"{step:+g}".replace("-", MINUS), y)
        return [zero] if zero.rect.overlaps(other.rect) else [zero, other]

    def tick(self, value: float, words: str, y: int) -> Words:
        """Words centred below a value."""
        wide = min(self.room, width(words, SMALL) + 2)
        x = min(max(self.x, self.at(value) - wide // 2), self.x + self.room - wide)
        lines = (elide(words, wide, SMALL),)
        return Words(Rect(x, y, wide, line_height(SMALL)), "tick", lines, SMALL, colour=FAINT, align="centre")


# ---- warnings and rejections


_Section = tuple[str, Sequence[str], Colour]


def _remarks(picture: WellPicture, body: _Body) -> tuple[list[Item], int]:
    """Incomplete sites, rejections, warnings, and where the page's body ends.

    They stand left of the channels where there is room for them, else below everything, side by side.
    """
    sections: list[_Section] = [
        (heading, lines, colour)
        for heading, lines, colour in (
            ("Incomplete sites", well_words.arrivals(picture.result), INK),
            ("Rejected files", picture.rejections, BAD),
            ("Warnings", well_words.warnings(picture), WARNING),
        )
        if lines
    ]
    beside = Column(MARGIN, body.left_bottom + 22, body.left_room)
    for section in sections:
        _section(beside, section)
        beside.gap(10)
    if not sections or beside.y - 10 <= body.bottom:
        return beside.items, body.bottom
    room = (PAGE_WIDTH - 2 * MARGIN - GUTTER * (len(sections) - 1)) // len(sections)
    below = [Column(MARGIN + place * (room + GUTTER), body.bottom + 22, room) for place in range(len(sections))]
    for column, section in zip(below, sections, strict=True):
        _section(column, section)
    return [item for column in below for item in column.items], max(column.y for column in below)


def _section(column: Column, section: _Section) -> None:
    heading, paragraphs, colour = section
    column.say(heading, [f"{heading} ({len(paragraphs)})"], HEADING, bold=True)
    lines = wrap_all(paragraphs, column.room, SMALL, most_lines=MOST_LINES, most_each=MOST_LINES // 2)
    column.say(f"{heading} lines", lines, SMALL, colour=colour)
