"""The demonstration package's card. Every figure in it is computed where the package is made."""

from dataclasses import dataclass
from pathlib import Path

import torch

from hcs_daemon.demo_package.cells import CLASSES, SITE_PX, WELLS
from hcs_daemon.demo_package.figures import CLEAR_EFFECT, Reasons, Verdicts
from hcs_daemon.demo_package.model import CLEAR_PROBABILITY, FEWEST_NUCLEI, REFERENCE_TILES, TILE_PX
from hcs_daemon.device.manifest import WEIGHTS_NAME
from hcs_daemon.simulate.compounds import CHANNELS, CLASS_EFFECT, CONTROL_CLASS
from hcs_daemon.simulate.site import PIXEL_SIZE_UM
from hcs_daemon.training.evaluation import calibration_error, confusion, share, softmax
from hcs_daemon.training.learning import Recipe

_BANDS = (
    ("0 (DMSO, inert, far too low a dose)", 0.0, 0.001),
    ("above 0, below 0.15", 0.001, 0.15),
    (f"0.15 to {CLASS_EFFECT:g}: not yet the class", 0.15, CLASS_EFFECT),
    (f"{CLASS_EFFECT:g} to 0.4: only just the class", CLASS_EFFECT, 0.4),
    ("0.4 to 0.7", 0.4, 0.7),
    ("0.7 to 1", 0.7, 1.01),
)


@dataclass(frozen=True, slots=True)
class Making:
    """How a package was made. training, calibration, test: plates. temperature: what the logits were divided by."""

    seed: int
    training: int
    calibration: int
    test: int
    recipe: Recipe
    temperature: float
    parameters: int


def card(making: Making, folder: Path, verdicts: Verdicts, reasons: Reasons) -> str:
    """The card, in Markdown. folder: the package, written but for its card."""
    recipe = making.recipe
    size = (folder / WEIGHTS_NAME).stat().st_size
    return f"""# The demonstration package

**For demonstration only.** This network has seen simulated cells and nothing else. What it says of real cells means
nothing, and nothing may be decided by it. It shows that the program works, and what its results look like.

## Data

Made-up cells (`hcs_daemon.simulate`) in five channels ({", ".join(CHANNELS)}), 16 bits, {PIXEL_SIZE_UM:g} µm a pixel;
plates of {WELLS} wells, one site of {SITE_PX} x {SITE_PX} pixels a well. Split by whole plates; no plate serves twice:

| for | plates | wells and sites | what is on them |
|---|---|---|---|
| training | {making.training} | {making.training * WELLS} | DMSO, full effects, effects of every strength |
| the temperature | {making.calibration} | {making.calibration * WELLS} | the same mixture |
| the figures below | {making.test} | {making.test * WELLS} | the simulated screen: doses, DMSO, inert compounds |

The true class is the planted phenotype from an effect strength of {CLASS_EFFECT:g} on, below it `{CONTROL_CLASS}`.

## Making

    python -m hcs_daemon.demo_package --output FOLDER --seed {making.seed}

- {recipe.steps} batches of {recipe.batch} tiles of {TILE_PX} x {TILE_PX} pixels, turned, mirrored, brighter or darker
  by channel
- {making.parameters} parameters; `{WEIGHTS_NAME}` has {size} bytes
- the logits are divided by {making.temperature:.3f}, the temperature (Guo et al. 2017) at which the classes of the
  plates kept for it are most likely
- torch {torch.__version__.partition("+")[0]}, threads: {recipe.threads}

Floats add up otherwise on another processor: made there, the weights' digest may differ, and the figures stay within
their intervals.

## Figures on unseen simulated plates

A well has one site, so its verdict is its site's. Intervals are Wilson's, 95 %.

- Wells with the right class: {share(verdicts.right)}
- Affected channel ranked first by exact channel Shapley values: {reasons.first}
- Explanations that pass all their checks: {reasons.checked}
- Expected calibration error, ten bins: {calibration_error(softmax(verdicts.logits), verdicts.labels):.3f}
- Largest logit: {abs(verdicts.logits).max():.1f}

The second and the third are of {reasons.first.of} wells, evenly spread over the {len(verdicts.clear_hits)}
with an effect of {CLEAR_EFFECT:g} or more that were given their right class.

| effect strength | wells with the right class |
|---|---|
{_bands(verdicts)}

At {CLASS_EFFECT:g} the true class changes, not the cells: the wells just below and just above it look nearly the same.

True class (row) and verdict (column), wells:

| | {" | ".join(CLASSES)} |
|---|{"---|" * len(CLASSES)}
{_confusion(verdicts)}

## References

`references.npz` has {REFERENCE_TILES} tiles a class from as many wells of the training plates: the first wells,
in plate order, of DMSO or of full effect that have a tile which shows at least {FEWEST_NUCLEI} nuclei and to which
the network gives its class with a probability of at least {CLEAR_PROBABILITY:g}; of each the first such tile.
The manifest names the wells.
"""


def _bands(verdicts: Verdicts) -> str:
    rows = [
        f"| {name} | {share(verdicts.right[(verdicts.effects >= low) & (verdicts.effects < high)])} |"
        for name, low, high in _BANDS
    ]
    return "\n".join(rows)


def _confusion(verdicts: Verdicts) -> str:
    counts = confusion(verdicts.labels, verdicts.found, len(CLASSES))
    return "\n".join(
        f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(CLASSES, counts.tolist(), strict=True)
    )
