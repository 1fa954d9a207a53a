"""The card of a trained package: what it learned from, how good it is, and what speaks against trusting it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hcs_daemon import __version__
from hcs_daemon.publish import lettering
from hcs_daemon.records import Pixels
from hcs_daemon.training.controls import Guess, strata
from hcs_daemon.training.course import Course
from hcs_daemon.training.evaluation import Share, calibration_error, confusion, hits, share
from hcs_daemon.training.learning import Recipe
from hcs_daemon.training.plates import PlateDigest, WellName
from hcs_daemon.training.split import Split
from hcs_daemon.training.staining import Staining

PICTURES = "pictures"
"""The folder of the examples, in the package."""
_DARKEST, _BRIGHTEST = 1.0, 99.7
"""Percentiles of the control's examples, which are black and white in all pictures of a channel."""
_GAP_PX, _LETTERS_PX = 4, 11
MOST_NAMED = 8
"""Wells in a warning."""


def well_words(well: WellName) -> str:
    """Plate and well, as `P1 B03`."""
    return f"{well[0]} {well[1].name}"


@dataclass(frozen=True, slots=True)
class Examples:
    """Tiles of a class, one of each of a few wells; tiles: (wells, channels, height, width), raw counts."""

    name: str
    wells: tuple[str, ...]
    tiles: Pixels


@dataclass(frozen=True, slots=True)
class Report:
    """All that a card says but how the learning went.

    labels: (held-out wells,) their class, in the order of the split. before, after: (held-out wells, classes) their
    probabilities, by the raw logits and by calibrated ones; a temperature that served for a well never saw it.
    given: as the package gives them. hit_probability: of the settings. learned_right: of each well that was learned
    from. own: the network itself. by_heart: the network of shuffled labels, asked what it was taught. twins: wells
    that show the same pictures. counts: wells of each class to learn, validate, hold out.
    """

    order_seed: int
    column: str
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    plates: tuple[PlateDigest, ...]
    layouts: Mapping[str, str]
    refused: Mapping[str, int]
    lacking: tuple[WellName, ...]
    twins: tuple[tuple[WellName, ...], ...]
    split: Split
    counts: Mapping[str, tuple[int, int, int]]
    labels: NDArray[np.int64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    learned_right: NDArray[np.bool_]
    temperature: float
    given: NDArray[np.float64]
    hit_probability: float
    novelty: str
    shuffled: Guess
    own: Guess
    by_heart: Guess
    by_place: Guess
    by_light: Guess
    shapes: Mapping[str, tuple[int, int]]
    edge_only: tuple[str, ...]
    staining: Staining
    pixel_size_um: float
    tile_px: int

    @property
    def right(self) -> NDArray[np.bool_]:
        """(held-out wells,) whether the network names their class."""
        return np.asarray(self.before.argmax(axis=1) == self.labels)

    @property
    def shuffled_verdict(self) -> str:
        """What the network of shuffled labels says: nothing, where it does not even know what it was taught."""
        if self.shuffled.verdict == "chance" and not self.by_heart.beats_chance:
            return "cannot tell, it learned nothing by heart"
        return self.shuffled.verdict

    @property
    def hits(self) -> tuple[Share, Share]:
        """Of the wells held out: those with the right class of all but the controls, and false ones of the controls."""
        return hits(self.labels, self.given, self.hit_probability)

    @property
    def largest(self) -> tuple[str, Share]:
        """The class of most wells held out, and how often naming it every time is right."""
        number = int(np.bincount(self.labels).argmax())
        return self.classes[number], share(self.labels == number)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against trusting the package, in words."""
        found = [
            f"all wells of {name} lie at the plate's edge: what the edge does to cells may be taken for {name}"
            for name in self.edge_only
        ]
        if not self.own.can_tell:
            found.append(
                f"{len(self.labels)} wells held out are too few to tell whether it does better than guessing: give more"
                " wells, or another plate"
            )
        elif not self.own.beats_chance:
            name, right = self.largest
            found.append(
                f"it does no better than guessing: {self.own.right} wells held out have the right class, and always"
                f" naming {name} is right in {right.hits}: its verdicts mean nothing"
            )
        if not self.hits[0].hits:
            surest = float(self.given[:, 1:].max())
            found.append(
                f"no well held out is a hit with the right class: none reaches {self.hit_probability:g} (the surest of"
                f" any class but the control's has {surest:.2f}), as few wells make no verdict certain; give more"
                " wells, or lower model.hit_probability"
            )
        if self.by_place.beats_chance:
            found.append(
                "the classes can be told from the wells' places alone: what differs across the plate (edges, dispensing"
                ", time) may have been learned in place of the phenotype; judge by a plate with another layout"
            )
        if self.by_light.beats_chance and not self.by_place.beats_chance:
            found.append(
                "the classes can be told from the wells' dark levels with their places: background may have been"
                " learned, unless the phenotype itself changes it"
            )
        if self.shuffled.beats_chance:
            found.append(
                "a network that learned shuffled labels knows those of wells held out: what it learned from is there"
                " again, and the figures here are too good"
            )
        if self.twins:
            pairs = ", ".join(" = ".join(map(well_words, group)) for group in self.twins[:MOST_NAMED])
            more = " and more" if len(self.twins) > MOST_NAMED else ""
            found.append(
                f"{sum(map(len, self.twins))} wells show pictures of other wells ({pairs}{more}), as where a plate was"
                f" copied: {self._twins_held} of those held out are known from learning, and the figures count them"
            )
        if self.lacking:
            names = ", ".join(map(well_words, self.lacking[:MOST_NAMED]))
            found.append(f"{len(self.lacking)} labelled wells could not be read and were left out: {names}")
        return tuple(found)

    @property
    def _twins_held(self) -> int:
        """How many wells held out show what was learned from, or what said when to stop."""
        held = set(self.split.held_out)
        return sum(len(held & set(group)) for group in self.twins if not held.issuperset(group))


def draw(folder: Path, examples: Sequence[Examples], channels: Sequence[str]) -> dict[str, str]:
    """Write a PNG of each class's examples into the package; class -> its path below the folder.

    A row a well, its name beside it, and a column a channel; contrast is a channel's own and the same for every class.
    examples: the control's come first.
    """
    control = examples[0].tiles
    low, high = np.percentile(control, (_DARKEST, _BRIGHTEST), axis=(0, 2, 3))
    black_white = [*zip(low.tolist(), high.tolist(), strict=True)]
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    for old in (folder / PICTURES).glob("class-*.png"):
        old.unlink()
    paths = {}
    for number, each in enumerate(examples, 1):
        paths[each.name] = f"{PICTURES}/class-{number}.png"
        _sheet(each, channels, black_white).save(folder / paths[each.name])
    return paths


def _sheet(each: Examples, channels: Sequence[str], black_white: Sequence[tuple[float, float]]) -> Image.Image:
    height, width = each.tiles.shape[2:]
    left = max(lettering.width(name, _LETTERS_PX) for name in each.wells) + 2 * _GAP_PX
    top = lettering.line_height(_LETTERS_PX) + 2 * _GAP_PX
    tall, wide = height + _GAP_PX, width + _GAP_PX
    sheet = Image.new("L", (left + len(channels) * wide, top + len(each.wells) * tall), 255)
    letters, font = ImageDraw.Draw(sheet), lettering.font(_LETTERS_PX)
    for column, channel in enumerate(channels):
        words = lettering.elide(channel, width, _LETTERS_PX)
        letters.text((left + column * wide, _GAP_PX), words, fill=0, font=font)
    for row, (well, tile) in enumerate(zip(each.wells, each.tiles, strict=True)):
        letters.text((_GAP_PX, top + row * tall), well, fill=0, font=font)
        for column, (pixels, (black, white)) in enumerate(zip(tile, black_white, strict=True)):
            grey = np.clip((pixels - black) / max(white - black, 1.0), 0, 1) * 255
            sheet.paste(Image.fromarray(np.rint(grey).astype(np.uint8)), (left + column * wide, top + row * tall))
    return sheet


def card(report: Report, course: Course, recipe: Recipe, pictures: Mapping[str, str]) -> str:
    """The card, in Markdown. pictures: class -> its examples' path in the package."""
    warned = "".join(f"- **Warning:** {warning}.\n" for warning in report.warnings)
    ended = "ended early, as it got no better" if course.stopped_early else "went to its end"
    return f"""# {report.column}: {", ".join(report.classes[:6])}{" and more" if len(report.classes) > 6 else ""}

Trained by `hcs-daemon train` {__version__}. All figures are of **wells held out**: no weight, no decision when to stop
and no staining measure comes from them. Intervals are Wilson's, 95 %.

## In short

- Wells held out with the right class: {share(report.right)}; always naming {report.largest[0]}, the largest class, \
is right in {report.largest[1].value:.3f}
- Balanced accuracy, the mean of the classes' own shares: {report.own.balanced:.3f}; of a blind guess \
{report.own.chance:.3f}; {report.own.by_chance:.2g} of random assignments do as well: {report.own.verdict}
- Calibration error (expected, ten bins): {calibration_error(report.before, report.labels):.3f} before calibration, \
{calibration_error(report.after, report.labels):.3f} after, over {len(report.labels)} wells
- Hits at a probability of {report.hit_probability:g} (`model.hit_probability`), wells held out: with the right class, \
of all but the controls, {report.hits[0]}; falsely, of the controls, {report.hits[1]}
- Wells unlike all seen: {report.novelty}
{warned}
## Data

{_plates(report)}
{_layouts(report)}
{_refused(report)}
Channels {", ".join(report.channels)}, at {report.pixel_size_um:g} µm a pixel. Classes by the layout's column
`{report.column}`; the first is the control.

| class | to learn from | to say when to stop | held out |
|---|---|---|---|
{_rows((name, *report.counts[name]) for name in report.classes)}

A well is in one part with all its sites. {_held_plate(report)}

Held out: {_named(report.split.held_out)}.

To say when to stop: {_named(report.split.validate)}.

## Learning

{recipe.steps} batches at most of {recipe.batch} views; it {ended}, and the weights of batch {course.best} were kept.
Learned on {recipe.device}. Views are turned, mirrored and cut at random; gain and offset of each channel vary as they
do between control wells:

| channel | dark level | its spread | brightness | its spread, of the logarithm |
|---|---|---|---|---|
{_staining(report)}

Wells learned from with the right class: {share(report.learned_right)}. Far more than of those held out means learning
by heart. Seed {report.order_seed}. The logits are divided by {report.temperature:.3f} (temperature scaling, Guo et al.
2017, towards Platt's targets for few wells); for the figure above each half of the wells was calibrated by the other.

| batch | loss while learning | loss of the validation wells |
|---|---|---|
{_rows((look.step, f"{look.train:.3f}", f"{look.validation:.3f}") for look in course.looks)}

## Confusion

True class (row) and verdict (column), wells held out:

| | {" | ".join(report.classes)} |
|---|{"---|" * len(report.classes)}
{_confusion(report)}

## Does it read the layout?

| told by | balanced accuracy | by chance | random assignments that do as well |
|---|---|---|---|
| the same network, learned from **shuffled labels** | {_guess(report.shuffled, report.shuffled_verdict)} |
| **position only**: row, column, distance to the edge | {_guess(report.by_place, report.by_place.verdict)} |
| position and the well's dark levels | {_guess(report.by_light, report.by_light.verdict)} |

All three should be chance. The first is of the wells held out, by labels dealt out over all wells; it says something as
far as that network knows by heart what it was taught: of the wells that it learned from {report.by_heart.right}.

The others are of all wells, each by a model that learned from other wells. The network itself, by where on the plate
the wells held out lie:

| part of the plate | wells with the right class |
|---|---|
{_strata(report)}

## Examples

A row a well, a column a channel; the contrast of a channel is the same in all pictures.
The wells are the most usual of their class, of those that taught only where no others are left; of each the tile whose
light is nearest its site's mean: no network was asked. Explanations compare with these; `manifest.json` names them.

{_pictures(pictures)}

## Limits

- It knows these classes only, on cells, stains and a microscope like these. Calibration and the false-alarm rate hold
  for plates that were made like those above; another line, lot or lens is another thing to measure.
- A class of few wells has a wide interval, whatever its figure.
- It says which class a well resembles, not why cells look so.
"""


def _rows(rows: object) -> str:
    assert hasattr(rows, "__iter__")
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def _plates(report: Report) -> str:
    lines = ["| plate | wells | sites | SHA-256 of its files' digests |", "|---|---|---|---|"]
    lines += [f"| {plate.plate} | {plate.wells} | {plate.sites} | `{plate.sha256}` |" for plate in report.plates]
    return "\n".join(lines) + "\n"


def _layouts(report: Report) -> str:
    return "\n".join(
        f"Layout `{Path(source).name}`, SHA-256 `{digest}`.\n" for source, digest in sorted(report.layouts.items())
    )


def _refused(report: Report) -> str:
    counts = {reason: count for reason, count in report.refused.items() if count}
    if not counts:
        return "No file was refused.\n"
    return "Files refused, as the daemon would: " + ", ".join(f"{n} {reason}" for reason, n in counts.items()) + ".\n"


def _held_plate(report: Report) -> str:
    if report.split.plate is not None:
        return f"The plate {report.split.plate} is held out as a whole."
    if len(report.plates) > 1:
        return "**No plate could be held out as a whole: none has two wells of each class and leaves enough.**"
    return "There is one plate: how well it does on another one is not measured here."


def _named(wells: Sequence[WellName]) -> str:
    plates: dict[str, list[str]] = {}
    for plate, position in wells:
        plates.setdefault(plate, []).append(position.name)
    return "; ".join(f"{plate} {' '.join(names)}" for plate, names in plates.items())


def _staining(report: Report) -> str:
    found = report.staining
    columns = zip(report.channels, found.dark, found.dark_spread, found.bright, found.bright_spread, strict=True)
    return _rows(
        (name, f"{dark:.0f}", f"{spread:.1f}", f"{bright:.0f}", f"{gain:.3f}")
        for name, dark, spread, bright, gain in columns
    )


def _confusion(report: Report) -> str:
    counts = confusion(report.labels, np.asarray(report.before.argmax(axis=1), np.int64), len(report.classes))
    return _rows((name, *row) for name, row in zip(report.classes, counts.tolist(), strict=True))


def _guess(found: Guess, words: str) -> str:
    verdict = words if words == "chance" else f"**{words}**"
    return f"{found.balanced:.3f} | {found.chance:.3f} | {found.by_chance:.2g}: {verdict}"


def _strata(report: Report) -> str:
    parts = strata(report.split.held_out, report.right, report.shapes)
    return _rows((name, found) for name, found in parts.items())


def _pictures(pictures: Mapping[str, str]) -> str:
    return "\n\n".join(f"{name}:\n\n![{name}]({path})" for name, path in pictures.items())
