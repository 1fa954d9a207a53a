"""quality.html: how good a plate's pictures are and what was refused, on one page for the people who made them.

The page needs nothing beside itself: no script, no font, no address elsewhere. It says in words first what is wrong and
what is fine, then shows it; colours are for all kinds of colour vision, and each is said in words, too.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from hcs_daemon.plate import WellId, WellPosition
from hcs_daemon.publish.documents import well_id
from hcs_daemon.publish.names import REJECTED_NAME
from hcs_daemon.publish.palette import BAD, FAINT, GOOD, INK, PAPER, RULE, WARNING, Colour, channel_colours
from hcs_daemon.publish.plate_picture import latest, plate_shape, shade
from hcs_daemon.publish.quality_figures import STEPS, Marks, figures_of, histogram_plot, medians_of, plate_map, said
from hcs_daemon.publish.schemas import DepthEntry, PlateFile, WellResult
from hcs_daemon.records import Rejection
from hcs_daemon.terminal import counted
from hcs_daemon.vocabulary import PlateState, Verdict, WellStatus

FILES_SHOWN = 20
"""So many files are named of each reason; the others are counted."""
WELLS_NAMED = 12
"""So many wells are named in a sentence."""

Flags = Mapping[str, Sequence[str]]
"""Stem of a well's result -> its flags, such as `saturated:DNA`."""


def quality_page(
    plate: PlateFile, results: Sequence[WellResult], rejections: Iterable[Rejection], flags: Flags, notes: Sequence[str]
) -> str:
    """The page, HTML. results: of the plate's wells, in any order. rejections: those that stand.

    Of a well with several time points the maps show the latest. notes: on the plate as a whole, a sentence each. Equal
    input gives equal text.
    """
    refused = sorted(rejections, key=lambda found: (found.reason, found.path))
    results = sorted(results, key=well_id)
    flags = {stem: flags[stem] for stem in sorted(flags, key=_place_of) if flags[stem]}
    parts = (
        _head(plate),
        _summary(plate, results, refused, flags, notes),
        _maps(plate, results, refused, flags),
        _depths(plate.bit_depth, list(dict.fromkeys(name for result in results for name in result.channels))),
        _flag_table(flags),
        _rejection_tables(plate.folder, refused),
        _foot(),
    )
    return "\n".join(part for part in parts if part)


def _place_of(stem: str) -> tuple[WellPosition, str]:
    return WellPosition.parse(stem.partition(".")[0]), stem


# ---- the frame


def _css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _style() -> str:
    fills = "".join(f".c{step}{{fill:{_css(shade(step / (STEPS - 1)))}}}" for step in range(STEPS))
    return f"""
*{{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
body{{font:15px/1.45 "DejaVu Sans",Verdana,Arial,sans-serif;color:{_css(INK)};background:{_css(PAPER)};
max-width:1225px;margin:1.5em auto;padding:0 1.5em}}
h1{{font-size:1.7em;margin:0;overflow-wrap:anywhere}}h2{{margin:1.6em 0 .3em;border-bottom:1px solid {_css(RULE)}}}
h3{{margin:1.2em 0 .3em}}p,ul{{margin:.3em 0}}.faint,figcaption,figure p{{color:{_css(FAINT)};font-size:.85em}}
.bad b{{color:{_css(BAD)}}}.look b{{color:{_css(WARNING)}}}.fine b{{color:{_css(GOOD)}}}
figure,.card{{display:inline-block;vertical-align:top;margin:0 8px 1em 0;width:268px;break-inside:avoid}}
.card{{width:510px}}h2,h3,.lead{{break-after:avoid}}
@page{{size:landscape}}@media print{{body{{zoom:.75;margin:0;padding:0}}}}
figcaption{{min-height:4.4em}}figcaption b{{color:{_css(INK)}}}
.chip{{display:inline-block;width:.8em;height:.8em;border:1px solid {_css(INK)};margin-right:.4em}}
table{{border-collapse:collapse;margin:.4em 0;font-size:.85em}}td,th{{text-align:left;vertical-align:top;
padding:.15em .9em .15em 0;border-bottom:1px solid {_css(RULE)};overflow-wrap:anywhere}}
svg{{max-width:100%;height:auto}}svg text{{font-size:11px;fill:{_css(FAINT)}}}.e{{text-anchor:end}}
.m{{text-anchor:middle}}svg .w{{font-weight:bold;fill:{_css(INK)}}}.n{{fill:{_css(RULE)}}}.h{{fill:url(#hatch)}}
.f{{fill:{_css(PAPER)};stroke:{_css(INK)};stroke-width:.8}}.b{{fill:{_css(FAINT)}}}
.g,.s,.d,.t{{fill:none;stroke:{_css(RULE)}}}.g{{stroke-dasharray:1 3}}.s{{stroke-dasharray:4 3}}
.d,.t{{stroke:{_css(INK)}}}.d{{stroke-width:2}}{fills}
"""


def _definitions() -> str:
    """What all drawings of the page use: the scale's colours, and the hatching of what was rejected."""
    stops = "".join(
        f'<stop offset="{step / (STEPS - 1):.3f}" stop-color="{_css(shade(step / (STEPS - 1)))}"/>'
        for step in range(STEPS)
    )
    return (
        f'<svg width="0" height="0" aria-hidden="true"><defs><linearGradient id="scale">{stops}</linearGradient>'
        '<pattern id="hatch" width="4" height="4" patternUnits="userSpaceOnUse">'
        f'<path d="M0 4L4 0M-1 1L1 -1M3 5L5 3" stroke="{_css(PAPER)}" stroke-width="2.2"/>'
        f'<path d="M0 4L4 0M-1 1L1 -1M3 5L5 3" stroke="{_css(BAD)}" stroke-width="1.1"/></pattern></defs></svg>'
    )


def _head(plate: PlateFile) -> str:
    title = said(f"{plate.plate} · image quality")
    state = "finished" if plate.state is PlateState.FINISHED else "still acquiring: this page grows with it"
    words = said(f"acquisition {plate.acquisition} · instrument {plate.instrument} · {state}")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<meta name="viewport" content="width=device-width"/>
<title>{title}</title><style>{_style()}</style></head><body>
{_definitions()}
<h1>{title}</h1><p class="faint">{words}</p>"""


def _foot() -> str:
    return (
        '<p class="faint">The same in numbers: plate.json, wells/*.json and rejected.jsonl in this folder. '
        "What each figure and flag means stands in the daemon's docs/quality.md and docs/forensics.md.</p>\n"
        "</body></html>\n"
    )


def _section(heading: str, body: str) -> str:
    return f"<h2>{heading}</h2>\n{body}" if body else ""


def _wells(names: Sequence[str]) -> str:
    """`B03, B04 and 7 more`."""
    shown = ", ".join(names[:WELLS_NAMED])
    return shown + (f" and {len(names) - WELLS_NAMED} more" if len(names) > WELLS_NAMED else "")


# ---- in words


def _summary(
    plate: PlateFile, results: Sequence[WellResult], refused: Sequence[Rejection], flags: Flags, notes: Sequence[str]
) -> str:
    lists = (
        ("bad", "✗ Wrong", _wrong(plate, results, refused)),
        ("look", "! To look at", _to_look_at(plate, results, flags, notes)),
        ("fine", "✓ Fine", _fine(plate.bit_depth, results, refused, flags)),
    )
    return f"<p>{said(_lead(plate, results))}</p>\n" + "\n".join(
        f'<div class="{kind}"><b>{heading}</b><ul>{"".join(f"<li>{said(line)}</li>" for line in lines)}</ul></div>'
        for kind, heading, lines in lists
        if lines
    )


def _lead(plate: PlateFile, results: Sequence[WellResult]) -> str:
    """How much there is."""
    counts = {name: plate.counts.get(name, 0) for name in ("accepted", "rejected", "duplicate")}
    arrived = (
        f"{counts['accepted']:,} planes were accepted and {counts['rejected']:,} rejected"
        + (f"; {counts['duplicate']:,} came twice" if counts["duplicate"] else "")
        + "."
    )
    wrong = _contradicted(plate.bit_depth)
    doubtful = len({plane.path for result in results for plane in result.inputs if plane.channel in wrong})
    if doubtful:
        is_or_are = "is" if doubtful == 1 else "are"
        arrived += f" {doubtful:,} of the accepted {is_or_are} of channels that contradict their bit depth."
    statuses = Counter(result.status for result in results)
    if not statuses:
        return f"{arrived} No well is published yet."
    each = ", ".join(f"{statuses[status]} {status}" for status in WellStatus if statuses[status])
    of = f" of {plate.expected.wells} expected" if plate.expected is not None and plate.expected.wells else ""
    wells = len({result.well for result in results})
    times = "" if wells == len(results) else f" at {max(result.time for result in results)} time points"
    return f"{arrived} {counted(wells, 'well')}{of}{times} published: {each}."


def _wrong(plate: PlateFile, results: Sequence[WellResult], refused: Sequence[Rejection]) -> list[str]:
    lines = [f"No site can be analysed: {plate.problem}"] if plate.problem else []
    lines += [
        f"{channel} is not what its declared {depth.declared} bits would be: {depth.evidence.rstrip('.')}."
        for channel, depth in sorted(plate.bit_depth.items())
        if depth.verdict is Verdict.CONTRADICTED
    ]
    if refused:
        reasons = Counter(_reason_words(found) for found in refused)
        each = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        lines.append(f"{counted(len(refused), 'file')} rejected and not analysed: {each}. They are listed below.")
    expected = plate.expected.wells if plate.expected is not None and plate.expected.wells else 0
    lacking = expected - len({result.well for result in results})
    if plate.state is PlateState.FINISHED and lacking > 0:
        lines.append(f"{counted(lacking, 'well')} of {expected} expected without a result.")
    for status, words in ((WellStatus.REJECTED, "rejected as a whole"), (WellStatus.PARTIAL, "partial")):
        stems = [well_id(result).stem for result in results if result.status is status]
        if stems:
            lines.append(f"{counted(len(stems), 'well')} {words}: {_wells(stems)}.")
    return lines + _failures(results)


def _failures(results: Sequence[WellResult]) -> list[str]:
    """Wells with sites of which the model gave nothing, and why, as the first of them says."""
    failed = [result for result in results if result.sites.failed]
    if not failed:
        return []
    first = min(failed, key=well_id)
    start = f"site {first.sites.failed[0]} "
    why = next((f" In {well_id(first).stem} {words}." for words in first.warnings if words.startswith(start)), "")
    return [f"{counted(len(failed), 'well')} with sites that the model could not analyse.{why}"]


def _to_look_at(plate: PlateFile, results: Sequence[WellResult], flags: Flags, notes: Sequence[str]) -> list[str]:
    by_flag: dict[str, list[str]] = {}
    for stem, found in flags.items():
        for flag in found:
            by_flag.setdefault(flag, []).append(stem)
    ordered = sorted(by_flag.items(), key=lambda item: (-len(item[1]), item[0]))
    lines = [*plate.warnings, *notes]
    lines += [
        f"{_capital(_flag_words(flag))}: {counted(len(stems), 'well')} ({_wells(stems)})." for flag, stems in ordered
    ]
    odd = Counter(f"{name}:{plane.channel}" for result in results for plane in result.inputs for name in plane.oddities)
    lines += [f"Odd, which proves nothing: {_flag_words(name)}, {counted(odd[name], 'plane')}." for name in sorted(odd)]
    undecided = sorted(channel for channel, depth in plate.bit_depth.items() if depth.verdict is Verdict.UNDECIDED)
    if undecided:
        lines.append(f"Bit depth undecided, which is no fault: {', '.join(undecided)}.")
    return lines


def _fine(
    depths: Mapping[str, DepthEntry], results: Sequence[WellResult], refused: Sequence[Rejection], flags: Flags
) -> list[str]:
    sound = [
        f"{channel} ({depth.declared} bits)"
        for channel, depth in sorted(depths.items())
        if depth.verdict is Verdict.CONSISTENT
    ]
    lines = [f"Bit depth of the accepted planes as declared: {', '.join(sound)}."] if sound else []
    if not refused:
        lines.append("No file was rejected.")
    judged = any(result.status is not WellStatus.REJECTED for result in results)
    if judged and not flags and not _contradicted(depths):
        lines.append("No well is flagged.")
    if results and all(result.status is WellStatus.COMPLETE for result in results):
        lines.append("Every published well is complete.")
    return lines


def _contradicted(depths: Mapping[str, DepthEntry]) -> set[str]:
    return {channel for channel, depth in depths.items() if depth.verdict is Verdict.CONTRADICTED}


def _flag_words(flag: str) -> str:
    """`saturated:DNA` -> `saturated in DNA`."""
    kind, _, channel = flag.partition(":")
    return kind.replace("_", " ") + (f" in {channel}" if channel else "")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


# ---- the maps


def _maps(plate: PlateFile, results: Sequence[WellResult], refused: Sequence[Rejection], flags: Flags) -> str:
    shown = latest(results)
    placed = [(found, well) for found in refused if (well := _place(found, shown)) is not None]
    if not shown and not placed:
        return ""
    figures, medians = figures_of(results), medians_of(results, figures_of(results))
    channels = list(dict.fromkeys([*(name for result in results for name in result.channels), *sorted(medians)]))
    shape = plate_shape([*shown, *(well for _, well in placed)], plate.expected)
    statuses = {well: result.status for well, result in shown.items()}
    drawn = ""
    for channel, (colour, _) in zip(channels, channel_colours(channels), strict=True):
        marks = Marks(
            shape,
            statuses,
            refused=frozenset(well for found, well in placed if channel in {found.channel, None}),
            flagged=frozenset(
                well
                for well, result in shown.items()
                if any(flag.partition(":")[2] in {channel, ""} for flag in flags.get(well_id(result).stem, ()))
            ),
        )
        found = medians.get(channel, {})
        maps = "".join(plate_map(figure, found.get(figure.name, {}), marks) for figure in figures)
        drawn += f"<h3>{_chip(colour)}{said(channel)}</h3>\n<div>{maps}</div>\n"
    return _section("Maps of the plate, by channel", _key() + drawn)


def _place(rejection: Rejection, shown: Mapping[WellPosition, WellResult]) -> WellPosition | None:
    """The well of the maps that a rejected plane belongs to; None where it is of another time point or of no well."""
    if rejection.plane is None:
        return None
    well: WellId = rejection.plane.site.well
    result = shown.get(well.position)
    return well.position if result is None or result.time == well.time else None


def _key() -> str:
    def box(kind: str, side: int) -> str:
        start = (12 - side) // 2
        return (
            '<svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true">'
            f'<rect width="12" height="12" class="{"n" if kind == "f" else ""}" fill="none"/>'
            f'<path class="{kind}" d="M{start} {start}h{side}v{side}h-{side}z"/></svg>'
        )

    return (
        '<p class="faint lead">Each square is a well: the median over its analysed sites. Rest the pointer on one to '
        "read it. Dark blue is low, yellow is high; each map has its own scale below it. "
        f"{box('n', 4)} grey dot: no figure. {box('h', 12)} hatched: the well, or a file of this channel in it, was "
        f"rejected. {box('f', 4)} white dot: flagged.</p>\n"
    )


def _chip(colour: Colour) -> str:
    return f'<span class="chip" style="background:{_css(colour)}"></span>'


# ---- bit depth


_VERDICTS = {
    Verdict.CONSISTENT: ("fine", "✓ As declared"),
    Verdict.UNDECIDED: ("look", "? Undecided"),
    Verdict.CONTRADICTED: ("bad", "✗ Contradicted"),
}
"""Verdict -> its colour's class in the style, and how it is said."""


def _depths(depths: Mapping[str, DepthEntry], channels: Sequence[str]) -> str:
    """A card a channel, in the order of `channels`, then the others."""
    cards = ""
    for channel in dict.fromkeys([*(name for name in channels if name in depths), *sorted(depths)]):
        depth = depths[channel]
        kind, verdict = _VERDICTS[depth.verdict]
        sure = f", {_sure(depth.confidence)}" if depth.confidence else ""
        cards += (
            f'<div class="card {kind}"><h3>{said(channel)}</h3><p><b>{verdict}</b> (declared: {depth.declared} bits'
            f"{sure}): {said(depth.evidence.rstrip('.'))}.</p>\n{histogram_plot(depth, channel)}</div>\n"
        )
    lead = (
        '<p class="faint lead">All pixels of the channel by their level, both axes logarithmic: the height is a bar\'s '
        "pixels over its number of levels. A camera of so many bits cannot go beyond its dashed line; the thick line "
        "is what was declared. A step up just before a line means that light was cut off there.</p>\n"
    )
    return _section("Bit depth, by channel", cards and f"{lead}<div>{cards}</div>")


def _sure(confidence: float) -> str:
    """Nothing is ever quite sure."""
    return "over 99 % sure" if confidence > 0.99 else f"{100 * confidence:.0f} % sure"


# ---- flags and rejections


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{said(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{said(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table>\n"


def _flag_table(flags: Flags) -> str:
    rows = [(stem, ", ".join(map(_flag_words, found))) for stem, found in flags.items()]
    return _section("Flags, by well", _table(("well", "flags"), rows) if rows else "")


def _rejection_tables(folder: str, refused: Sequence[Rejection]) -> str:
    """A table a reason. folder: the measurement's, whose name is left out of its files'."""
    tables = "".join(_of_reason(words, list(group), folder) for words, group in groupby(refused, _reason_words))
    return _section("Rejected files", tables)


def _of_reason(words: str, found: Sequence[Rejection], folder: str) -> str:
    """The first files; what is to be done once, where it is the same for all."""
    hints = {rejection.hint for rejection in found}
    rows = [
        (_where(rejection), rejection.path.removeprefix(f"{folder}/"), rejection.detail, rejection.hint)
        for rejection in found[:FILES_SHOWN]
    ]
    head = ("where", "file", "what was found", "what to do")
    if len(hints) == 1:
        table = f"<p>What to do: {said(*hints)}.</p>\n" + _table(head[:3], [row[:3] for row in rows])
    else:
        table = _table(head, rows)
    more = len(found) - FILES_SHOWN
    rest = f"<p>and {more:,} more in {REJECTED_NAME}</p>\n" if more > 0 else ""
    return f"<h3>{said(words)}: {counted(len(found), 'file')}</h3>\n{table}{rest}"


def _reason_words(rejection: Rejection) -> str:
    return rejection.reason.value.replace("_", " ")


def _where(rejection: Rejection) -> str:
    """`B03 site 1 DNA`; "" where the name said nothing."""
    if rejection.plane is None:
        return ""
    site = rejection.plane.site
    return f"{site.well.stem} site {site.site} {rejection.channel or rejection.plane.channel}"
