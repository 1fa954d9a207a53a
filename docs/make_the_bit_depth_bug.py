"""What a network says of the same cells when their pixels arrive encoded wrongly; writes the page and its pictures.

    python docs/make_the_bit_depth_bug.py [--folder docs]

Wells of a simulated plate are spoiled in each of the ways below. The daemon's own check is asked of every plane; then,
here alone, its answer is ignored and the wrong pixels are shown to the demonstration network, which is asked for its
verdict and its explanation by the daemon's own code. Some seven minutes on one core.
"""

import argparse
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage, stats

from hcs_daemon.demo_package.figures import as_site
from hcs_daemon.device.inference import Network
from hcs_daemon.device.manifest import package_folder
from hcs_daemon.device.package import Package, load_package
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.intake.depth import DepthBook
from hcs_daemon.intake.validation import Expected, Refusal, examine
from hcs_daemon.publish.lettering import MINUS, font, line_height, width, wrap
from hcs_daemon.publish.palette import BAD, FAINT, GOOD, INK, OKABE_ITO, PAPER, RULE, Colour, channel_colours
from hcs_daemon.publish.pictures import blend, stretch
from hcs_daemon.publish.plate_picture import class_colours
from hcs_daemon.publish.studio import own_range
from hcs_daemon.publish.verdict import WellVerdict, judge
from hcs_daemon.records import (
    COMPLETENESS_LIMIT,
    Attribution,
    ExplainTask,
    Pixels,
    PlaneMeasures,
    SiteWanted,
)
from hcs_daemon.simulate.compounds import CHANNELS, CONTROL_CLASS
from hcs_daemon.simulate.layout import Role, WellPlan, plan_plate
from hcs_daemon.simulate.site import render_site
from hcs_daemon.telemetry import Telemetry
from hcs_daemon.vocabulary import UNLIKE, Verdict

PLATE, WELLS, SEED, SIZE_PX = "BIT-DEPTH", 384, 2026, 270
DOSE_UM, CONTROLS = 10.0, 5
"""The wells: one of each compound that acts, at this dose, and so many of DMSO."""
EXPECTED = Expected(bit_depth=16, dtype="uint16")
SHOWN = 0
"""The well of the pictures: the first compound's."""
TOP_SHARE = 0.1
PAGE, PICTURES = "the-bit-depth-bug.md", ("pictures/bit-depth-pixels.png", "pictures/bit-depth-verdicts.png")

Answer = PlaneMeasures | Refusal


@dataclass(frozen=True, slots=True)
class Case:
    """A way in which pixels arrive. how: in words. spoil: of one plane, (height, width) uint16, right raw counts."""

    name: str
    how: str
    spoil: Callable[[NDArray[np.uint16]], Pixels]


@dataclass(frozen=True, slots=True)
class Told:
    """What was said of every well in one case, in the order of the wells.

    pixels: (wells, channels, height, width). answers: the daemon's, for each plane. attributions: empty where no
    explanation was asked for.
    """

    case: Case
    pixels: Pixels
    answers: tuple[tuple[Answer, ...], ...]
    verdicts: tuple[WellVerdict, ...]
    attributions: tuple[Attribution, ...]


def _high_byte(plane: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return (plane >> 8).astype(np.uint8)


def _stretched(plane: NDArray[np.uint16]) -> NDArray[np.uint16]:
    lowest, span = float(plane.min()), float(plane.max()) - float(plane.min())
    return np.asarray(np.rint((plane - lowest) * (65535.0 / span)), np.uint16)


CASES = (
    Case("right", "The pixels as the camera gave them: 16 bits in a `uint16` file.", lambda plane: plane),
    Case(
        "8-bit",
        "An export scaled 16 bits down to 8, divided by 256, into a `uint8` file.",
        _high_byte,
    ),
    Case(
        "8-bit values, 16-bit file",
        "The same 8-bit values, then saved as `uint16` by a script that did not look: 0 to 255 in a 16-bit file.",
        lambda plane: _high_byte(plane).astype(np.uint16),
    ),
    Case(
        "8-bit times 257",
        "The same 8-bit values, spread over 16 bits as many an image library does it: multiplied by 257.",
        lambda plane: _high_byte(plane) * np.uint16(257),
    ),
    Case(
        "8-bit times 256",
        "The same 8-bit values shifted up by eight bits.",
        lambda plane: _high_byte(plane) * np.uint16(256),
    ),
    Case(
        "contrast stretched",
        "Auto-contrast was saved into the file: each plane's own darkest pixel is 0, its own brightest 65535.",
        _stretched,
    ),
    Case(
        "clipped at 4095",
        "A converter believed in 12 bits: everything above 4095 became 4095.",
        lambda plane: np.minimum(plane, np.uint16(4095)),
    ),
    Case(
        "byte-swapped",
        "The two bytes of each pixel were read in the wrong order, big-endian for little-endian.",
        lambda plane: plane.byteswap(),
    ),
)


# ---- measuring


def choose_wells() -> list[WellPlan]:
    """The first well of each acting compound at `DOSE_UM`, in the compounds' order, then the first wells of DMSO."""
    plans = plan_plate(WELLS, SEED, PLATE)
    acting: dict[str, WellPlan] = {}
    for plan in plans:
        if plan.role is Role.TREATMENT and plan.concentration_um == DOSE_UM and plan.class_name != CONTROL_CLASS:
            acting.setdefault(plan.compound.name, plan)
    controls = [plan for plan in plans if plan.role is Role.CONTROL]
    return [*(acting[name] for name in sorted(acting)), *controls[:CONTROLS]]


def render(plans: Sequence[WellPlan]) -> NDArray[np.uint16]:
    """(wells, channels, height, width) raw counts, the first site of each."""
    return np.stack([render_site(plan, 1, plate=PLATE, seed=SEED, size_px=SIZE_PX).pixels for plan in plans])


def ask(case: Case, plans: Sequence[WellPlan], right: NDArray[np.uint16], network: Network, *, explain: bool) -> Told:
    """What the daemon's check says of the spoiled planes, and what the network says of them all the same."""
    pixels = np.stack([np.stack([case.spoil(plane) for plane in site]) for site in right])
    answers = tuple(tuple(examine(plane, EXPECTED) for plane in site) for site in pixels)
    sites = [as_site(PLATE, plan, site) for plan, site in zip(plans, pixels, strict=True)]
    verdicts: list[WellVerdict] = []
    attributions: list[Attribution] = []
    for site, prediction in zip(sites, network.predict(sites), strict=True):
        verdict = judge(network.facts, {site.id.site: prediction}, hit_probability=0.5)
        assert verdict is not None
        verdicts.append(verdict)
        if explain:
            wanted = SiteWanted(site.id, site.key, verdict.nearest, verdict.against)
            attribution = network.explain(ExplainTask(wanted, site)).attribution
            assert attribution is not None
            attributions.append(attribution)
    return Told(case, pixels, answers, tuple(verdicts), tuple(attributions))


def ask_all(*, explain: bool) -> tuple[list[WellPlan], list[Told]]:
    """The wells, and every case in turn. explain: also explain each verdict, nearly all of the time."""
    torch.set_num_threads(1)  # more would add up in another order
    plans = choose_wells()
    right = render(plans)
    network = Network(load_package(package_folder("demo")), torch.device("cpu"), Telemetry("1"), explain=explain)
    return plans, [ask(case, plans, right, network, explain=explain) for case in CASES]


def rightly(plans: Sequence[WellPlan], told: Told) -> NDArray[np.bool_]:
    """(wells,) whether the network's verdict, the nearest class, is what was planted."""
    return np.array([plan.class_name == verdict.nearest for plan, verdict in zip(plans, told.verdicts, strict=True)])


def given(told: Told) -> NDArray[np.float64]:
    """(wells,) the probability that the network gives to its verdict."""
    return np.array([verdict.probabilities[verdict.nearest] for verdict in told.verdicts])


def unlike(told: Told) -> NDArray[np.bool_]:
    """(wells,) whether the daemon would call the well unlike all that the network has seen, whatever it answers."""
    return np.array([verdict.label == UNLIKE for verdict in told.verdicts])


def refusals(told: Told) -> list[Refusal]:
    """Every plane's that is refused."""
    return [answer for site in told.answers for answer in site if isinstance(answer, Refusal)]


def planes_of(told: Told) -> int:
    """How many planes there are."""
    return sum(len(site) for site in told.answers)


def kept_out(told: Told) -> int:
    """The wells whose site would never reach the network, for it lacks a plane."""
    return sum(any(isinstance(answer, Refusal) for answer in site) for site in told.answers)


@dataclass(frozen=True, slots=True)
class Reasons:
    """Of the treated wells' explanations. first, complete, passed: wells. ranks, overlap: means over the wells.

    first: the channel with the largest share is the planted one. ranks: Spearman's correlation of the channel shares
    with the right ones. overlap: of the tenth of places (channel, pixel) that speak most for the verdict, the share
    that is among the right tenth. complete: the parts sum to the whole. passed: so they do, and the other checks hold.
    """

    first: int
    ranks: float
    overlap: float
    complete: int
    passed: int
    of: int


def reasons(plans: Sequence[WellPlan], told: Told, right: Told) -> Reasons:
    """How far the explanations are those of the right pixels."""
    treated = [number for number, plan in enumerate(plans) if plan.class_name != CONTROL_CLASS]
    first, complete, passed, ranks, overlap = 0, 0, 0, [], []
    for number in treated:
        mine, other = told.attributions[number], right.attributions[number]
        shares = mine.channel_shapley
        first += max(shares, key=lambda channel: shares[channel]) in plans[number].affected_channels
        complete += is_complete(mine)
        passed += mine.checks.passed
        pair = [[each.channel_shapley[channel] for channel in CHANNELS] for each in (mine, other)]
        ranks.append(float(stats.spearmanr(*pair).statistic))
        tops = [each.heat >= np.quantile(each.heat, 1 - TOP_SHARE) for each in (mine, other)]
        overlap.append(float((tops[0] & tops[1]).sum() / tops[1].sum()))
    return Reasons(first, float(np.mean(ranks)), float(np.mean(overlap)), complete, passed, len(treated))


def is_complete(attribution: Attribution) -> bool:
    """Whether the parts sum to the whole, as far as the daemon asks for it."""
    return attribution.checks.completeness_error <= COMPLETENESS_LIMIT


# ---- the page


def verdict_table(plans: Sequence[WellPlan], everything: Sequence[Told]) -> str:
    """The network's verdicts, their probability, how many planes the daemon refuses, and how many wells are unlike."""
    heads = (
        "the pixels",
        "right verdicts",
        "probability given, mean",
        "the same, where wrong",
        "commonest verdict",
        "planes refused",
        "wells kept from the network",
        "wells called `unlike`",
    )
    rows = []
    for told in everything:
        hits, sure = rightly(plans, told), given(told)
        label, times = Counter(verdict.nearest for verdict in told.verdicts).most_common(1)[0]
        rows.append(
            (
                told.case.name,
                f"{hits.sum()} of {len(hits)}",
                f"{sure.mean():.3f}",
                "-" if hits.all() else f"{sure[~hits].mean():.3f}",
                f"`{label}`, {times}",
                f"{len(refusals(told))} of {planes_of(told)}",
                f"{kept_out(told)} of {len(hits)}",
                f"{unlike(told).sum()} of {len(hits)}",
            )
        )
    return _table(heads, rows)


def reason_table(plans: Sequence[WellPlan], everything: Sequence[Told]) -> str:
    """How far the explanations go wrong."""
    heads = (
        "the pixels",
        "planted channel first",
        "channel shares rank as they should",
        "places as they should",
        "complete",
        "all checks passed",
    )
    rows = []
    for told in everything:
        found = reasons(plans, told, everything[0])
        rows.append(
            (
                told.case.name,
                f"{found.first} of {found.of}",
                f"{found.ranks:.2f}",
                f"{found.overlap:.2f}",
                f"{found.complete} of {found.of}",
                f"{found.passed} of {found.of}",
            )
        )
    return _table(heads, rows)


def answer_blocks(plans: Sequence[WellPlan], told: Told) -> list[str]:
    """The daemon's words to one case: of the pictured well's planted channel, and how often each reason fell."""
    index = CHANNELS.index(plans[SHOWN].affected_channels[0])
    answer = told.answers[SHOWN][index]
    counts = Counter(refusal.reason for refusal in refusals(told))
    said = ", ".join(f"{times} as `{reason}`" for reason, times in counts.most_common()) or "none"
    if isinstance(answer, Refusal):
        quoted = f"> **refused, `{answer.reason}`**: {answer.detail}.\n>\n> What to do: {answer.hint}."
    else:
        book = channel_book(told, index)
        depth = book.verdict()
        quoted = (
            f"> **accepted**: values from {answer.minimum} to {answer.maximum}, {answer.observed_bits} bits used.\n>\n"
            f"> Over the channel's {depth.planes} planes, 16 bits are **{depth.verdict}**: {depth.evidence}."
        )
        if book.doubt:
            quoted += f"\n>\n> **Warning**: {book.doubt}."
    return [f"### {told.case.name[:1].upper()}{told.case.name[1:]}", told.case.how, quoted, f"Planes refused: {said}."]


def channel_book(told: Told, index: int) -> DepthBook:
    """What the daemon makes of all planes of a channel together. index: of the channel."""
    book = DepthBook(16)
    for well, site in enumerate(told.answers):
        evidence = site[index].evidence
        if evidence is not None:
            book.note(f"{well}", evidence)
    return book


def page(plans: Sequence[WellPlan], everything: Sequence[Told]) -> str:
    """The whole page, Markdown."""
    blocks = [
        *_story(plans),
        "## What the network says",
        verdict_table(plans, everything),
        _verdicts_in_words(plans, everything),
        *_unlike_in_words(plans, everything),
        "## What the explanation says",
        *_explanations(plans, everything),
        "## What the daemon says",
        f"To the pictured well's {plans[SHOWN].affected_channels[0]} plane, where 16 bits in `uint16` are expected:",
        *(block for told in everything for block in answer_blocks(plans, told)),
        "## What one plane cannot prove",
        *_limits(everything),
        "## Made by a script",
        "    python docs/make_the_bit_depth_bug.py",
        _filled(
            "writes this page, its figures and its pictures. The network is the demonstration's: it knows simulated",
            "cells only, and another network will go wrong in another way.",
        ),
    ]
    return "\n\n".join(blocks) + "\n"


def _story(plans: Sequence[WellPlan]) -> list[str]:
    shown = plans[SHOWN]
    return [
        "# The bit-depth bug",
        _filled(
            "A team spent weeks on explanations that made no sense. In the end somebody looked at the numbers in the",
            "files: the images had been taken for 8-bit, and they were 16-bit. Nothing had failed. Everything ran,",
            "and nothing was right.",
        ),
        "hcs-daemon was made so that this does not happen again. This page does it once more, on purpose.",
        "## The same cells, right and wrong",
        _filled(
            f"A plate of {WELLS} wells is simulated, in five Cell Painting channels, as a 16-bit camera sees them.",
            f"{len(plans)} wells are looked at: {len(plans) - CONTROLS} with one compound each at {DOSE_UM:g} µM,",
            f"whose effect is planted and so known, and {CONTROLS} with DMSO. Their pixels are then encoded wrongly,",
            "each time in another way. The daemon refuses most of what follows. Here the script ignores that and",
            "shows the pixels to the demonstration network all the same: this is what you would get without it.",
        ),
        f"![One well, right and wrong: as a viewer shows it, its values, as the network sees it]({PICTURES[0]})",
        _filled(
            f"*Well {shown.position.name}, {shown.compound.name}, planted: `{shown.class_name}`; its",
            f"{shown.affected_channels[0]} channel. Left: a viewer that sets its contrast by itself (1st to 99.8th",
            "percentile). Middle: how many pixels have each value, both axes logarithmic. Right: what the network",
            "sees after its normalisation, always at the contrast of the right pixels.*",
        ),
        _filled(
            "The left column is the trap. A viewer adapts itself to whatever range it is given, and cells look like",
            "cells; only swapped bytes look broken. A network does not adapt: its normalisation was fixed when it was",
            "trained.",
        ),
    ]


def _verdicts_in_words(plans: Sequence[WellPlan], everything: Sequence[Told]) -> str:
    harmed, spared = _harmed_and_spared(plans, everything)
    lines = []
    for told in harmed:
        wrong = ~rightly(plans, told)
        lines.append(
            _filled(
                f"- **{told.case.name}**: {wrong.sum()} of {len(plans)} wrong, at a mean probability of",
                f"{given(told)[wrong].mean():.3f}; called `unlike` of these: {(unlike(told) & wrong).sum()}.",
            )
        )
    if spared:
        lines.append(
            _filled(
                f"- **{', '.join(told.case.name for told in spared)}**: no verdict changes. This network is not",
                "misled here. Its normalisation grows like a logarithm, so that the coarse steps of bright pixels",
                "hardly count, and these cells are bright. That is luck.",
            )
        )
    return "\n".join(lines)


def _unlike_in_words(plans: Sequence[WellPlan], everything: Sequence[Told]) -> Iterator[str]:
    right, (_, spared) = everything[0], _harmed_and_spared(plans, everything)
    rates = {verdict.novelty.false_alarm_rate for verdict in right.verdicts if verdict.novelty is not None}
    yield _filled(
        "A verdict here is the network's: the class with the highest probability. Behind the check of the planes the",
        "daemon has a second net: a well too far from those of training is called `unlike` and is no hit",
        "([results.md](results.md#a-well-unlike-anything-seen)). The last column says how many wells would be.",
    )
    bullets: list[tuple[str, ...]] = [
        (
            f"- **Right pixels**: {(unlike(right) & rightly(plans, right)).sum()} of {len(plans)} called `unlike`",
            "although the pixels and the network's verdict are right, a false alarm; the threshold is made for no more",
            f"than {', '.join(_percent(rate) for rate in sorted(rates))} of wells like those of training.",
        )
    ]
    if spared:
        strange = " and ".join(str((unlike(told) & rightly(plans, told)).sum()) for told in spared)
        bullets.append(
            (
                f"- **{', '.join(told.case.name for told in spared)}**: {strange} of {len(plans)} called `unlike`",
                "although the network's verdict is right; the rest of the wells would pass for good ones.",
            )
        )
    yield "\n".join(_filled(*bullet) for bullet in bullets)
    yield _filled(
        "This is no proof. `unlike` does not say why a well looks otherwise: bad focus, bad staining and a phenotype",
        "that is truly new give the same word. A well that is not called so may still have wrong pixels. And a model",
        "package need not have what it takes, `novelty.npz`.",
    )


def _explanations(plans: Sequence[WellPlan], everything: Sequence[Told]) -> list[str]:
    bullets = (
        ("- *planted channel first*: the channel that the compound changes has the largest share;",),
        (
            "- *channel shares rank as they should*: Spearman's correlation with the shares of the right pixels,",
            "mean; 1 is the same order, 0 is chance;",
        ),
        (
            "- *places as they should*: of the tenth of all places that speak most for the verdict, the share that is",
            f"also in the tenth of the right pixels, mean; {TOP_SHARE:.2f} is chance;",
        ),
        (f"- *complete*: the parts sum to the whole, to {_percent(COMPLETENESS_LIMIT)};",),
        (
            "- *all checks passed*: and so do the channels' shares; the well speaks for the verdict more than the",
            "reference pictures do; taking away what was named changes the verdict sooner than taking away places at",
            "random, and putting it in first brings the verdict back sooner than putting it in last.",
        ),
    )
    return [
        f"![The same well: the verdict, the share of each channel, where it lies, the daemon's answer]({PICTURES[1]})",
        _filled(
            "*From the left: the probability of each class, the planted one bold; the share of each channel in the",
            "verdict (exact Shapley values, logits); where in the picture it lies (expected gradients, summed over",
            "the channels): orange speaks for the verdict, blue against it, each at its own strength.*",
        ),
        _filled(
            "In the two 8-bit rows the same picture stands four times. The network sees next to nothing of this well.",
            "What is left to explain are the cells of the reference pictures that the well is compared with, once for",
            "each of its four tiles.",
        ),
        _filled(
            f"Each verdict on the {len(plans) - CONTROLS} treated wells is explained as the daemon explains it:",
            "against the control, and a verdict `control` against the second best.",
        ),
        reason_table(plans, everything),
        "\n".join(_filled(*bullet) for bullet in bullets),
        *_reasons_in_words(plans, everything),
    ]


def _reasons_in_words(plans: Sequence[WellPlan], everything: Sequence[Told]) -> Iterator[str]:
    harmed, spared = _harmed_and_spared(plans, everything)
    wrong = [
        attribution
        for told in harmed
        for plan, attribution, right in zip(plans, told.attributions, rightly(plans, told), strict=True)
        if plan.class_name != CONTROL_CLASS and not right
    ]
    complete, passed = sum(map(is_complete, wrong)), sum(each.checks.passed for each in wrong)
    yield _filled(
        f"Of the {len(wrong)} wrong verdicts on treated wells, {complete} have a complete explanation, and {passed}",
        "one that passes every check. The checks ask whether an explanation is true to the network. They cannot ask",
        "whether the network was shown the cells.",
    )
    if spared:
        moved = ((told.case.name, 1 - reasons(plans, told, everything[0]).overlap) for told in spared)
        yield _filled(
            "Where the verdicts stand, the explanations move all the same. Of the places that should speak most for",
            f"the verdict, so many are others: {'; '.join(f'{name}: {_percent(share)}' for name, share in moved)}.",
        )


def _limits(everything: Sequence[Told]) -> Iterator[str]:
    accepted = [told for told in everything[1:] if len(refusals(told)) < planes_of(told)]
    for told in accepted:
        books = [channel_book(told, index) for index in range(len(CHANNELS))]
        depths = Counter(book.verdict().verdict for book in books)
        said = ", ".join(f"`{verdict}` in {channels}" for verdict, channels in depths.most_common())
        yield _filled(
            f"**{told.case.name}**: {planes_of(told) - len(refusals(told))} of {planes_of(told)} planes are accepted.",
            f"Over the plate 16 bits are {said} of {len(books)} channels; the daemon warns of",
            f"{sum(bool(book.doubt) for book in books)}. With this package {unlike(told).sum()} of",
            f"{len(told.verdicts)} wells are called `unlike`; with one that has no `novelty.npz` the warning is all.",
        )
    if accepted:
        yield _filled(
            "Small values without gaps are also what a dim sample gives to a good camera. A daemon that refused those",
            "would refuse honest plates, so a plane alone passes, and the channel is judged over the plate. Where",
            "that says `contradicted`, the channel's planes are refused. Where it says `undecided`, the wells are",
            "analysed, and `plate.json` says so. A channel that keeps within 8 bits is warned of there and in each",
            "well's result: read the warning before you believe a plate on which nothing happens.",
        )
    yield "A site that lacks a plane is not analysed: one refused plane is enough to keep it from a wrong verdict."


def _harmed_and_spared(plans: Sequence[WellPlan], everything: Sequence[Told]) -> tuple[list[Told], list[Told]]:
    """The cases in which a verdict is wrong that is right of the right pixels, and the others."""
    right = rightly(plans, everything[0])
    harmed = [told for told in everything[1:] if (right & ~rightly(plans, told)).any()]
    return harmed, [told for told in everything[1:] if told not in harmed]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, *rows)).replace(
        "|\n", f"|\n|{'---|' * len(heads)}\n", 1
    )


def _filled(*words: str) -> str:
    return textwrap.fill(
        " ".join(words), 124, subsequent_indent="  " if words[0].startswith("- ") else "", break_on_hyphens=False
    )


def _signed(share: float) -> str:
    return f"{round(share, 1) + 0.0:+.1f}".replace("-", MINUS)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


# ---- the pictures

PICTURE_PX, MARGIN, GAP, ROW_PX, SIDE_PX = 1000, 12, 16, 168, 150
"""Of a picture: its width, its margins, between columns, a row of a case, the side of a view of the cells."""
NAME_PX, LETTERS, SMALL_LETTERS = 150, 15, 13
COLOURS = 256
"""Of a picture: all that a palette holds."""
HEAT = {True: OKABE_ITO[1][0], False: OKABE_ITO[4][0]}
"""What speaks for the verdict, and what against it."""
TICKS = (0, 15, 255, 4095, 65535)
HEAT_SMOOTHING_PX = 3.0


class _Sheet:
    """White paper with a row for each case. Owned by one call."""

    def __init__(self, heads: Sequence[tuple[int, str]], rows: Sequence[Told]) -> None:
        self.top = MARGIN + line_height(SMALL_LETTERS) + 8
        self.paper = Image.new("RGB", (PICTURE_PX, self.top + ROW_PX * len(rows)), PAPER)
        self.pen = ImageDraw.Draw(self.paper)
        for x, words in heads:
            self.write(x, MARGIN, words, SMALL_LETTERS, colour=FAINT)
        for number, told in enumerate(rows):
            y = self.row(number)
            self.pen.line((MARGIN, y - 9, PICTURE_PX - MARGIN, y - 9), RULE)
            for line in wrap(told.case.name, NAME_PX, LETTERS, bold=True):
                self.write(MARGIN, y, line, LETTERS, bold=True)
                y += line_height(LETTERS)

    def row(self, number: int) -> int:
        """Where a row's contents begin."""
        return self.top + ROW_PX * number + 9

    def write(
        self, x: int, y: int, words: str, size: int, *, bold: bool = False, colour: Colour = INK, right: bool = False
    ) -> None:
        """One line from its upper left corner, or (right) its upper right one."""
        left = x - width(words, size, bold=bold) if right else x
        self.pen.text((left, y), words, colour, font(size, bold=bold))

    def show(self, x: int, y: int, rgb: NDArray[np.uint8]) -> None:
        """A view of the site. rgb: (height, width, 3)."""
        self.paper.paste(Image.fromarray(rgb).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX), (x, y))

    def png(self) -> bytes:
        """The file's bytes."""
        few = self.paper.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        file = BytesIO()
        few.save(file, "png", optimize=True)
        return file.getvalue()


def draw_pixels(plans: Sequence[WellPlan], everything: Sequence[Told], package: Package) -> bytes:
    """What a viewer shows, the values in the file, what the network sees, all of the planted channel: a PNG file."""
    viewer = MARGIN + NAME_PX + GAP
    values = viewer + SIDE_PX + GAP
    seen = PICTURE_PX - MARGIN - SIDE_PX
    channel = plans[SHOWN].affected_channels[0]
    heads = ((viewer, "a viewer shows"), (values, "the file holds"), (seen, "the network sees"))
    sheet = _Sheet(heads, everything)
    tiler = Tiler(package.manifest, torch.device("cpu"))
    index = CHANNELS.index(channel)
    tensors = [
        tiler.normalised(torch.from_numpy(told.pixels[SHOWN].astype(np.float32))).numpy()[index] for told in everything
    ]
    fixed = own_range(tensors[0])
    for number, (told, tensor) in enumerate(zip(everything, tensors, strict=True)):
        y, plane = sheet.row(number), told.pixels[SHOWN, index]
        sheet.show(viewer, y, blend([stretch(plane, *own_range(plane))], [PAPER]))
        sheet.show(seen, y, blend([stretch(tensor, *fixed)], [PAPER]))
        _draw_values(sheet, values, y, seen - GAP - values, plane)
    return sheet.png()


def _draw_values(sheet: _Sheet, x: int, y: int, room: int, plane: Pixels) -> None:
    """How many pixels have each value: a line a value, both axes logarithmic; ticks at the full scales."""
    levels, counts = np.unique(plane, return_counts=True)
    base = y + SIDE_PX - line_height(SMALL_LETTERS) - 4
    left, span, height = x + 6, room - 50, base - y
    for level, count in zip(levels.tolist(), counts.tolist(), strict=True):
        at = left + round(np.log2(level + 1) / 16 * span)
        tall = round(height * np.log10(1 + count) / np.log10(1 + plane.size))
        sheet.pen.line((at, base - tall, at, base), INK)
    sheet.pen.line((left, base, left + span, base), FAINT)
    for tick in TICKS:
        at = left + round(np.log2(tick + 1) / 16 * span)
        sheet.pen.line((at, base, at, base + 4), FAINT)
        sheet.write(at - width(str(tick), SMALL_LETTERS) // 2, base + 5, str(tick), SMALL_LETTERS, colour=FAINT)


def draw_verdicts(plans: Sequence[WellPlan], everything: Sequence[Told], package: Package) -> bytes:
    """The verdict, the channels' shares, where they lie, what the daemon says: a PNG file."""
    verdicts = MARGIN + NAME_PX + GAP
    shares = verdicts + 290 + GAP
    places = shares + 190 + GAP
    answers = places + SIDE_PX + GAP
    heads = (
        (verdicts, "the network says (probability)"),
        (shares, "because of (logits)"),
        (places, "in these places"),
        (answers, "the daemon says"),
    )
    sheet = _Sheet(heads, everything)
    planted = plans[SHOWN]
    index = CHANNELS.index(planted.affected_channels[0])
    colours = class_colours(package.manifest.classes, CONTROL_CLASS)
    for number, told in enumerate(everything):
        y = sheet.row(number)
        _draw_verdict(sheet, (verdicts, y), told.verdicts[SHOWN], planted.class_name, colours)
        _draw_shares(sheet, shares, y, told.attributions[SHOWN])
        sheet.show(places, y, _heat(told.attributions[SHOWN].heat))
        answer, book = told.answers[SHOWN][index], channel_book(told, index)
        if isinstance(answer, Refusal):
            words = ["refused:", str(answer.reason)]
        else:
            words = ["accepted", "16 bits over the", f"plate: {book.verdict().verdict}"]
            if book.doubt:
                words.append("with a warning")
        caught = isinstance(answer, Refusal) or book.verdict().verdict is Verdict.CONTRADICTED
        good = caught is (number > 0)
        for line in words:
            sheet.write(answers, y, line, SMALL_LETTERS, bold=line == words[0], colour=GOOD if good else BAD)
            y += line_height(SMALL_LETTERS)
    return sheet.png()


def _draw_verdict(
    sheet: _Sheet, corner: tuple[int, int], verdict: WellVerdict, planted: str, colours: Mapping[str, Colour]
) -> None:
    """A bar for each class; the planted one's name is bold."""
    (x, y), step, names = corner, SIDE_PX // len(verdict.probabilities), 136
    zero = x + names + 8
    for row, (name, probability) in enumerate(verdict.probabilities.items()):
        top = y + row * step
        sheet.write(x + names, top + 3, name, SMALL_LETTERS, bold=name == planted, right=True)
        if probability >= 0.005:
            end = zero + round(probability * 110)
            sheet.pen.rectangle((zero, top + 3, end, top + step - 5), colours[name], INK)
            sheet.write(end + 5, top + 3, f"{probability:.2f}", SMALL_LETTERS)
    sheet.pen.line((zero, y, zero, y + SIDE_PX), FAINT)


def _draw_shares(sheet: _Sheet, x: int, y: int, attribution: Attribution) -> None:
    """A bar for each channel, to the right what speaks for the verdict."""
    most = max(abs(share) for share in attribution.channel_shapley.values())
    step, zero, room = SIDE_PX // len(CHANNELS), x + 92, 50
    for row, (channel, (colour, _)) in enumerate(zip(CHANNELS, channel_colours(CHANNELS), strict=True)):
        share, top = attribution.channel_shapley[channel], y + row * step
        sheet.write(x, top + 6, channel, SMALL_LETTERS)
        end = zero + round(share / most * room)
        sheet.pen.rectangle((min(zero, end), top + 5, max(zero, end), top + step - 7), colour, INK)
        sheet.write(x + 190, top + 6, _signed(share), SMALL_LETTERS, right=True)
    sheet.pen.line((zero, y, zero, y + SIDE_PX), FAINT)


def _heat(heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(height, width, 3): the sum over the channels, smoothed, on white; full colour at its own 99.5th percentile."""
    total = np.asarray(ndimage.gaussian_filter(heat.sum(axis=0), HEAT_SMOOTHING_PX))
    strength = np.clip(np.abs(total) / max(float(np.quantile(np.abs(total), 0.995)), 1e-30), 0, 1)[:, :, None]
    colour = np.where((total > 0)[:, :, None], np.array(HEAT[True]), np.array(HEAT[False]))
    return np.asarray(np.rint(255 + strength * (colour - 255.0)), np.uint8)


def main() -> int:
    """Ask, and write the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).resolve().parent, help="where the page is written"
    )
    folder: Path = parser.parse_args().folder
    plans, everything = ask_all(explain=True)
    package = load_package(package_folder("demo"))
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for name, draw in zip(PICTURES, (draw_pixels, draw_verdicts), strict=True):
        (folder / name).write_bytes(draw(plans, everything, package))
    (folder / PAGE).write_text(page(plans, everything), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
