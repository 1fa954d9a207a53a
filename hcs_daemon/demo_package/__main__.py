"""The command: render, learn, calibrate, export, measure, and write the card."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from hcs_daemon.demo_package.card import Making, card
from hcs_daemon.demo_package.cells import Cells, learning_plan, render, screen_plan
from hcs_daemon.demo_package.figures import explain, judge
from hcs_daemon.demo_package.model import choose_references, learn, make_tiler, manifest_fields
from hcs_daemon.demo_package.seen import know, named
from hcs_daemon.device.manifest import CARD_NAME
from hcs_daemon.device.package import load_package
from hcs_daemon.errors import HcsError
from hcs_daemon.simulate.site import PIXEL_SIZE_UM
from hcs_daemon.training.learning import Recipe, best_temperature, site_logits, threads
from hcs_daemon.training.network import CellNetwork
from hcs_daemon.training.packaging import write_package

TRAINING_PLATES, CALIBRATION_PLATES, TEST_PLATES = 16, 12, 8
"""Only the few wells near the class's border tell the temperature, so many plates serve for it."""
MOST_EXPLAINED = 80
"""Explaining a hit takes longer than all the rest of its well."""
SELFTEST_TILES = 2


def main(
    output: Annotated[Path, typer.Option(help="the package's folder; what it holds of a package is replaced")],
    seed: Annotated[int, typer.Option(min=0, help="of the cells and of the network's start")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes that render; the cells are the same")] = 2,
) -> None:
    """Make the demonstration package: about fifteen minutes on two cores."""
    try:
        make(output, seed, workers)
    except HcsError as error:
        typer.echo(f"{error.message}\n{error.hint}", err=True)
        raise typer.Exit(error.exit_code) from error


def make(output: Path, seed: int, workers: int) -> None:
    """Make the package. Raises PackageError when the network has learned too little."""
    recipe = Recipe()
    with ProcessPoolExecutor(workers) as executor:
        training = render(named("TRAIN", TRAINING_PLATES), learning_plan, seed, executor)
        network = learn(training.labelled, seed, recipe, lambda step, loss: _say_step(step, recipe.steps, loss))
        calibration = render(named("CALIBRATE", CALIBRATION_PLATES), learning_plan, seed, executor)
        temperature = _calibrate(network, calibration, recipe)
        _write(output, network, training)
        test = render(named("TEST", TEST_PLATES), screen_plan, seed, executor)
    package = load_package(output)
    verdicts = judge(package, test)
    reasons = explain(package, test, verdicts, most=MOST_EXPLAINED, report=_say_explained)
    parameters = sum(weights.numel() for weights in network.parameters())
    making = Making(seed, TRAINING_PLATES, CALIBRATION_PLATES, TEST_PLATES, recipe, temperature, parameters)
    text = card(making, output, verdicts, reasons)
    (output / CARD_NAME).write_text(text, "utf-8")
    typer.echo(text)
    with ProcessPoolExecutor(workers) as executor:
        typer.echo(know(output, seed, executor))


def _calibrate(network: CellNetwork, cells: Cells, recipe: Recipe) -> float:
    """Divide the network's logits by the temperature at which these wells' classes are most likely; returns it."""
    with threads(recipe.threads):
        logits = site_logits(network, cells.pixels, make_tiler(), PIXEL_SIZE_UM)
    temperature = best_temperature(logits, cells.labelled.labels)
    network.cool(temperature)
    typer.echo(f"temperature {temperature:.3f}")
    return temperature


def _write(output: Path, network: CellNetwork, training: Cells) -> None:
    references, names = choose_references(network, training)
    write_package(
        output,
        module=network,
        manifest_fields=manifest_fields(names),
        selftest_input=_selftest_input(references),
        references=references,
        card="# The demonstration package\n\nFor demonstration only; not yet measured.\n",
    )


def _selftest_input(references: dict[str, NDArray[np.uint16]]) -> NDArray[np.float32]:
    """The first tile of the first two classes, normalised."""
    tiles = np.stack([tiles[0] for tiles in list(references.values())[:SELFTEST_TILES]])
    return make_tiler().normalised(torch.from_numpy(tiles.astype(np.float32))).numpy()


def _say_step(step: int, steps: int, loss: float) -> None:
    if step % 100 == 0:
        typer.echo(f"step {step} of {steps}: loss {loss:.3f}")


def _say_explained(done: int, hits: int) -> None:
    if done % 20 == 0 or done == hits:
        typer.echo(f"explained {done} of {hits} hits")


if __name__ == "__main__":
    typer.run(main)
