"""What the pixels prove: every corruption made of real and simulated planes, and what becomes of it.

    python benchmarks/forensics.py [--data ../shared/data] [--seed 1] [--write benchmarks/FORENSICS.md]

Each kind of `spoiling.py` is made of every distinct real plane and of simulated ones. Each plane is judged alone, as it
would be on arrival, and all planes of a channel together. Ends with 1 where an honest plane is refused or an honest
channel contradicted.
"""

import argparse
import io
import math
import os
import platform
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile
from spoiling import KINDS, Channel, Kind, Told, eight_bit_planes, real_channels, simulated_channels

from hcs_daemon.intake.depth import _BLOCK_RATIO, _BLOCK_SURE, DepthBook
from hcs_daemon.intake.forensics import (
    _CHANCE_BITS,
    _COMB,
    _GAPS,
    _ROUGHER,
    _WRAPPED,
    BLOCK_BITS,
    GRIDDED,
    _blocks,
    _grid,
    _histogram,
    _roughness,
    gather,
    oddities,
    prove,
)
from hcs_daemon.intake.validation import Expected, Refusal, examine
from hcs_daemon.records import Pixels, PlaneEvidence
from hcs_daemon.tiff import decode_plane, encode_plane
from hcs_daemon.vocabulary import Verdict

AIM = 0.25
"""What gathering the evidence may take of the time of decoding the same plane."""
_ALSO_EXAMINED = 7
"""Every so many planes the whole examination must say the same."""
_ROUNDS = 25
_VERDICTS = (Verdict.CONTRADICTED, Verdict.UNDECIDED, Verdict.CONSISTENT)
_WORDS = {
    "bytes of each pixel": "swapped",
    "below zero": "wrapped",
    "beyond the declared": "beyond",
    "teeth of a comb": "comb",
    "pile up": "pile",
    "multipl": "multiple",
    "pixels are": "container",
}
"""What a refusal's detail holds -> the word for it in the table."""


@dataclass(slots=True)
class Found:
    """What became of one kind. planes, channels: how many came to which end. missed: by source. words: of refusals."""

    kind: Kind
    planes: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    channels: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    evidence: list[PlaneEvidence] = field(default_factory=list)
    blocks: list[tuple[float, float]] = field(default_factory=list)

    @property
    def alarms(self) -> int:
        """How many honest planes were refused and honest channels contradicted."""
        honest = self.kind.told is Told.HONEST
        return self.planes["refused"] + self.channels[Verdict.CONTRADICTED] if honest else 0


def judge(pixels: Pixels, depth: int) -> tuple[str, str, PlaneEvidence | None]:
    """A plane by itself, as `examine` does it, without focus and quality: its end, a word or oddities, the evidence."""
    if pixels.dtype != np.uint16:
        return "refused", "container", None
    evidence = gather(pixels)
    if evidence.levels == 1:
        return "blank", "", None
    proof = prove(evidence, depth)
    if proof is not None:
        return "refused", next(word for sign, word in _WORDS.items() if sign in proof.detail), evidence
    odd = oddities(evidence, depth)
    return ("flagged", ", ".join(odd), evidence) if odd else ("accepted", "", evidence)


def agrees(pixels: Pixels, depth: int, end: str) -> bool:
    """Whether the whole examination says the same."""
    found = examine(pixels, Expected(depth, "uint16"))
    if isinstance(found, Refusal):
        return end in {"refused", "blank"}
    return end == ("flagged" if found.oddities else "accepted")


def try_kind(kind: Kind, channels: Sequence[Channel], seed: int) -> Found:
    """Make a kind of all channels and judge it. Raises SystemExit where the examination does not say the same."""
    found = Found(kind)
    for channel in channels:
        made = kind.make(channel.planes, np.random.default_rng(seed))
        book, sound, changed = DepthBook(kind.depth), [], 0
        for index, pixels in enumerate(made):
            end, word, evidence = judge(pixels, kind.depth)
            if index % _ALSO_EXAMINED == 0 and not agrees(pixels, kind.depth, end):
                raise SystemExit(f"{kind.name}, {channel.source}: the examination does not say {end}")
            if evidence is not None:
                book.note(str(index), evidence)
            if evidence is not None and end != "refused":
                sound.append(evidence)
            if kind.told is not Told.HONEST and np.array_equal(pixels, channel.planes[index]):
                found.planes["unchanged"] += 1
                continue
            changed += 1
            _count(found, channel.source, end, word, evidence)
        depth = book.verdict()
        if changed and depth.planes:
            found.channels[depth.verdict] += 1
            found.blocks.append(block_steps(sound, kind.depth))
            if kind.told is Told.CHANNEL and depth.verdict is not Verdict.CONTRADICTED:
                found.missed[f"{channel.source}: {depth.verdict}"] += 1
    return found


def _count(found: Found, source: str, end: str, word: str, evidence: PlaneEvidence | None) -> None:
    found.planes[end] += 1
    if word:
        found.words[word] += 1
    if evidence is not None:
        found.evidence.append(evidence)
    if found.kind.told in {Told.PLANE, Told.CROWDED} and end in {"flagged", "accepted"}:
        found.missed[source] += 1


# ---- margins


def block_steps(planes: Sequence[PlaneEvidence], depth: int) -> tuple[float, float]:
    """How much higher a channel's steps are at the edges of blocks, and how sure that is; the surest of all blocks.

    In standard deviations of the mean of so many steps.
    """
    best = (0.0, 0.0)
    for number, bits in enumerate(BLOCK_BITS):
        steps = [evidence.blocks[number] for evidence in planes]
        edges, others = sum(step.edges for step in steps), sum(step.others for step in steps)
        elsewhere = sum(step.other_sum for step in steps)
        if bits >= depth or not edges or not elsewhere:
            continue
        ratio = sum(step.edge_sum for step in steps) / edges / (elsewhere / others)
        if ratio >= _BLOCK_RATIO:
            best = max(best, ((ratio - 1) * math.sqrt(edges), ratio))
    return best


def _chance(evidence: PlaneEvidence) -> float:
    drawn = evidence.levels - 1 + (evidence.lowest % evidence.step == 0)
    return drawn * math.log2(evidence.step)


def _pile(evidence: PlaneEvidence) -> float:
    usual = evidence.beneath / 16
    return evidence.at_top / (3 * usual + 5 * math.sqrt(usual)) if usual else 0.0


@dataclass(frozen=True, slots=True)
class Margin:
    """A number that decides. of: what it is for a plane, None where it says nothing. is_above: spoiled planes are."""

    name: str
    threshold: float
    of: Callable[[PlaneEvidence], float | None]
    kinds: tuple[str, ...]
    is_above: bool = True


MARGINS = (
    Margin(
        "`byte_order`", _ROUGHER, lambda e: e.byte_order if e.step % 256 else None, ("bytes swapped", "one byte late")
    ),
    Margin("`wrap`", _WRAPPED, lambda e: e.wrap, ("wrapping",), is_above=False),
    Margin(
        "`step`, bits of chance against it",
        _CHANCE_BITS,
        lambda e: _chance(e) if e.step > 1 else None,
        ("shifted left", "x 257", "8 bits, x 256", "high byte, x 256", "bit 0 stuck", "x 5 on"),
    ),
    Margin("`gaps`", _GAPS, lambda e: e.gaps, ("x 13.7", "x 65535", "x 1.37", "gamma 0.45", "square root")),
    Margin(
        "`comb_fraction`",
        _COMB,
        lambda e: e.comb_fraction,
        ("x 13.7", "x 65535", "x 1.37", "gamma 0.45", "square root"),
    ),
    Margin(
        "pile at the top, of the least that counts",
        1.0,
        lambda e: _pile(e) if e.at_top >= 8 and e.highest < (1 << 16) - 1 else None,
        ("cut off",),
    ),
    Margin("`grid`", GRIDDED, lambda e: e.grid if e.levels > 16 else None, ("JPEG of quality",)),
)


def _margins(found: Sequence[Found]) -> str:
    head = "| number | refused | honest extreme | spoiled: the weakest | median | beyond |"
    return "\n".join([head, "|---|---|---|---|---|---|", *_margin_rows(found)])


def _margin_rows(found: Sequence[Found]) -> Iterator[str]:
    for margin in MARGINS:
        honest = [
            (value, result.kind.name)
            for result in found
            for value in _values(margin, result)
            if result.kind.told is Told.HONEST and result.kind.depth == 16
        ]
        spoiled = [
            value
            for result in found
            if any(name in result.kind.name for name in margin.kinds)
            for value in _values(margin, result)
        ]
        pick, other = (max, min) if margin.is_above else (min, max)
        beyond = sum((value > margin.threshold) == margin.is_above for value in spoiled)
        extreme = "none" if not honest else f"{pick(honest)[0]:.3g} ({pick(honest)[1]})"
        yield (
            f"| {margin.name} | {'above' if margin.is_above else 'below'} {margin.threshold:g} | {extreme}"
            f" | {other(spoiled):.3g} | {statistics.median(spoiled):.3g} | {beyond} of {len(spoiled)} |"
        )
    honest_blocks = [
        (pair, result.kind.name) for result in found for pair in result.blocks if result.kind.told is Told.HONEST
    ]
    spoiled_blocks = [
        pair[0]
        for result in found
        if result.kind.told is Told.CHANNEL and "with dither" in result.kind.name
        for pair in result.blocks
    ]
    (sure, _), name = max(honest_blocks)
    beyond = sum(value >= _BLOCK_SURE for value in spoiled_blocks)
    yield (
        f"| `blocks` of a channel, deviations, where the ratio is {_BLOCK_RATIO} at least | above {_BLOCK_SURE:g}"
        f" | {sure:.3g} ({name}) | {min(spoiled_blocks):.3g} | {statistics.median(spoiled_blocks):.3g}"
        f" | {beyond} of {len(spoiled_blocks)} |"
    )


def _values(margin: Margin, result: Found) -> Iterator[float]:
    for evidence in result.evidence:
        value = margin.of(evidence)
        if value is not None:
            yield value


# ---- cost


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one plane, in ms of processor time, medians. share: of the decoding, the median over rounds."""

    name: str
    decode: float
    gather: float
    share: float
    parts: dict[str, float]


def cost_of(path: Path) -> Cost:
    """Time one plane as LZW: as it is, or encoded again in memory where it is not."""
    data = path.read_bytes()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        is_lzw = file.pages[0].compression == tifffile.COMPRESSION.LZW
    pixels = decode_plane(data).pixels
    data = data if is_lzw else encode_plane(pixels)
    histogram = _histogram(pixels)
    lowest, highest = int(pixels.min()), int(pixels.max())
    works: dict[str, Callable[[], object]] = {
        "decode": lambda: tifffile.imread(io.BytesIO(data)),
        "gather": lambda: gather(pixels),
        "histogram of all levels": lambda: _histogram(pixels),
        "byte order and wrapping": lambda: _roughness(pixels),
        "JPEG's grid": lambda: _grid(pixels),
        "steps at blocks": lambda: _blocks(histogram[lowest : highest + 1], lowest),
    }
    rounds = [{name: _ms(work) for name, work in works.items()} for _ in range(_ROUNDS)]
    middle = {name: statistics.median(times[name] for times in rounds) for name in works}
    share = statistics.median(times["gather"] / times["decode"] for times in rounds)
    parts = {name: middle[name] for name in list(works)[2:]}
    parts["all from the histogram, and the rest"] = max(0.0, middle["gather"] - sum(parts.values()))
    return Cost(path.name + ("" if is_lzw else " (encoded again)"), middle["decode"], middle["gather"], share, parts)


def _ms(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e3


# ---- the page

IMPOSSIBLE = """\
No test can tell these apart, because both give the same bits, or the same distribution of them. The daemon then says
`undecided` and why, or accepts.

- **16 bits shifted down and up again, and 12 bits shifted up**: the same numbers. Both are refused as multiples.
- **8 bits times 256, and bytes of 0 to 255 swapped**: the same numbers. Refused; the words name both.
- **Cut off at 4095, and a saturated 12-bit camera**: the same pile at the same place. Refused; the words name both.
- **A 10-, 12- or 14-bit camera that never saturates, and a dim sample on a 16-bit one**: division by a power of two is
  only a lower gain. The channel stays `undecided` until a plane saturates, or goes beyond.
- **A ceiling above 16383, and a camera whose wells are full before its converter is**: flagged `ceiling`.
- **A smooth curve, or a factor with noise as wide as its step**: every level is filled, and what the light was is
  unknown.
- **A corruption that changes no pixel**: nothing above 4095, cut off at 4095. Nothing is lost either.
- **A constant plane**: it has one level, and no encoding. It is refused as `blank`.
- **Whether 8 bits arose in the camera or at export**: a declared depth of 8 is believed, one of 16 is not.
"""


def report(channels: Sequence[Channel], found: Sequence[Found], eight: Counter[str], costs: Sequence[Cost]) -> str:
    """The figures as a page."""
    honest = [result for result in found if result.kind.told is Told.HONEST]
    listed = [result for result in found if result.kind.told is not Told.HONEST and result.kind.is_listed]
    unlisted = [result for result in found if not result.kind.is_listed]
    return f"""# Forensics

What becomes of honest planes and of spoiled ones. {_sources_in_words(channels)}
A plane is judged alone, on arrival; then all planes of a channel together. What is looked at, and why, stands in
[docs/forensics.md](../docs/forensics.md).

- **False alarms: {sum(result.alarms for result in honest)}**, of {_judged(honest)} honest planes and \
{sum(result.channels.total() for result in honest)} honest channels.
- Of what one plane proves, {_share(found, Told.PLANE)} are refused at once.
- Of what one plane proves only where its levels are crowded, {_share(found, Told.CROWDED)}.
- {eight.total()} real 8-bit planes, declared 8 bits: {eight["refused"]} refused, {eight["flagged"]} flagged.

## Honest

{_table(honest)}

## Spoiled

*Unchanged*: the corruption changes no pixel of this plane. *Blank*: it leaves one level, and is refused as such.
*Told from*: what can tell it at all. A *crowded* plane has eight pixels or more on most levels; *a channel* is several
planes.

{_table(listed)}

## Spoiled in ways that were not thought of before

Tried after the thresholds were set.

{_table(unlisted)}

## Missed, and why

Planes that were not refused though a plane can tell; channels that were not contradicted though a channel can.

{_missed([*listed, *unlisted])}

## Margins

How far honest planes declared 16 bits stay from each threshold, and spoiled ones beyond it. `gaps` and `comb_fraction`
refuse together only, `grid` only flags.

{_margins(found)}

## What cannot be told

{IMPOSSIBLE}
## Cost

{_costs(costs)}

{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}, \
tifffile {tifffile.__version__}.

    python benchmarks/forensics.py
"""


def _sources_in_words(channels: Sequence[Channel]) -> str:
    real = [channel for channel in channels if not channel.source.startswith("simulated")]
    planes, all_planes = (sum(len(channel.planes) for channel in group) for group in (real, channels))
    return (
        f"Every kind is made of {planes} distinct real 16-bit planes\n({len(real)} channels) and of"
        f" {all_planes - planes} simulated ones ({len(channels) - len(real)}"
        " channels: usual, dim, bright, empty, saturated, mixed)."
    )


def _judged(found: Sequence[Found]) -> int:
    return sum(result.planes[end] for result in found for end in ("refused", "flagged", "accepted"))


def _share(found: Sequence[Found], told: Told) -> str:
    of_these = [result for result in found if result.kind.told is told]
    refused, judged = sum(result.planes["refused"] for result in of_these), _judged(of_these)
    return f"{refused} of {judged} planes ({100 * refused / max(1, judged):.1f} %)"


def _costs(costs: Sequence[Cost]) -> str:
    if not costs:
        return "Not measured: there are no real planes."
    share = statistics.median(cost.share for cost in costs)
    planes = "\n".join(
        f"| {cost.name} | {cost.decode:.1f} | {cost.gather:.2f} | {100 * cost.share:.0f} % |" for cost in costs
    )
    parts = "\n".join(
        f"| {part} | {statistics.median(cost.parts[part] for cost in costs):.2f} |" for part in costs[0].parts
    )
    return f"""Gathering the evidence takes **{100 * share:.0f} %** of tifffile's decoding of the same LZW plane; \
the aim is {100 * AIM:.0f} % (processor time, medians).

| plane | decode, ms | evidence, ms | share |
|---|---|---|---|
{planes}

| part | ms, median |
|---|---|
{parts}"""


def _table(found: Sequence[Found]) -> str:
    head = ("kind", "told from", "refused", "flagged", "accepted", "blank", "unchanged")
    rows = [(*head, *(f"channels {verdict}" for verdict in _VERDICTS), "as"), ("---",) * (len(head) + 4)]
    for result in found:
        ends = (result.planes[end] for end in head[2:])
        words = "; ".join(f"{word} {count}" for word, count in result.words.most_common(4))
        rows.append((result.kind.name, result.kind.told, *map(str, ends), *_channels(result), words))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _channels(result: Found) -> tuple[str, ...]:
    return tuple(str(result.channels[verdict]) for verdict in _VERDICTS)


def _missed(found: Sequence[Found]) -> str:
    rows = ["| kind | missed | of them | why |", "|---|---|---|---|"]
    for result in found:
        if not result.missed:
            continue
        is_channel = result.kind.told is Told.CHANNEL
        missed, of = result.missed.total(), result.channels.total() if is_channel else _judged([result])
        count = f"{missed} of {of} {'channels' if is_channel else 'planes'}"
        rows.append(
            f"| {result.kind.name} | {count} | {_sources(result.missed)} | {result.kind.missed or 'not known'} |"
        )
    return "\n".join(rows)


def _sources(missed: Counter[str]) -> str:
    """Where they are from, simulated ones by their condition."""
    grouped: Counter[str] = Counter()
    for source, count in missed.items():
        grouped[re.sub(r"simulated \w+, (\w+)", r"simulated \1", source)] += count
    words = [f"{count} {source}" for source, count in grouped.most_common(4)]
    rest = grouped.total() - sum(count for _, count in grouped.most_common(4))
    return ", ".join([*words, *([f"{rest} more"] if rest else [])])


def main() -> int:
    """Make everything, judge it, print the page and write it if asked; 1 after a false alarm or a missed aim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("HCS_SHARED", root.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=folder, help="a folder of real planes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help="also write the page here")
    given = parser.parse_args()
    if not given.data.is_dir():
        print(f"no real images: {given.data} is not there (--data or HCS_SHARED names another)")
        return 0
    channels = [*real_channels(given.data), *simulated_channels(given.seed)]
    found = [try_kind(kind, channels, given.seed) for kind in KINDS]
    eight: Counter[str] = Counter()
    for pixels in eight_bit_planes(given.data):
        result = examine(pixels, Expected(8, "uint8"))
        eight["refused" if isinstance(result, Refusal) else "flagged" if result.oddities else "accepted"] += 1
    costs = [cost_of(path) for path in sorted((given.data / "opera-phenix-6ch").rglob("*.tif*"))]
    text = report(channels, found, eight, costs)
    print(text, end="")
    if given.write:
        given.write.write_text(text, "utf-8")
    alarms = sum(result.alarms for result in found) + eight["refused"]
    return 1 if alarms or statistics.median(cost.share for cost in costs) > AIM else 0


if __name__ == "__main__":
    sys.exit(main())
