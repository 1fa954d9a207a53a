"""What the package knows of the wells it was made with, and whether it tells strange wells from them.

    python -m hcs_daemon.demo_package.seen --package FOLDER

puts it into a package that does not know yet: the network stays as it is.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from hcs_daemon import novelty
from hcs_daemon.demo_package.cells import Cells, learning_plan, render, screen_plan
from hcs_daemon.device.manifest import CARD_NAME, MANIFEST_NAME, NOVELTY_NAME, read_manifest
from hcs_daemon.device.package import load_package
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.errors import HcsError
from hcs_daemon.novelty import Novelty
from hcs_daemon.simulate.camera import OFFSET_COUNTS
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.seeds import generator
from hcs_daemon.simulate.site import PIXEL_SIZE_UM
from hcs_daemon.training.evaluation import Share, share

FALSE_ALARM_RATE = 0.01
SEEN_PLATES, HELD_OUT_PLATES, TEST_PLATES = 4, 6, 2
"""So many of the plates that the network learned from, of those its temperature comes from, and of unseen ones."""
BLUR_PX = 4.0
_HEADING = "## Wells unlike anything seen"
Sites = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Told:
    """false_alarms: of wells like those seen. strange: kind of strange well -> how many of them are called unlike."""

    known: Novelty
    false_alarms: Share
    strange: dict[str, Share]


def main(
    package: Annotated[Path, typer.Option(help="the package's folder; it gains novelty.npz, its card a section")],
    seed: Annotated[int, typer.Option(min=0, help="that the package was made with")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes that render; the cells are the same")] = 2,
) -> None:
    """Add what a demonstration package knows of its wells: about two minutes on two cores."""
    try:
        with ProcessPoolExecutor(workers) as executor:
            typer.echo(know(package, seed, executor))
    except HcsError as error:
        typer.echo(f"{error.message}\n{error.hint}", err=True)
        raise typer.Exit(error.exit_code) from error


def named(purpose: str, count: int) -> list[str]:
    """The names of so many plates."""
    return [f"{purpose}{number:02d}" for number in range(1, count + 1)]


def know(folder: Path, seed: int, executor: Executor) -> str:
    """Add what a package knows, and to its card how well it tells strange wells; that section."""
    seen = render(named("TRAIN", SEEN_PLATES), learning_plan, seed, executor)
    held_out = render(named("CALIBRATE", HELD_OUT_PLATES), learning_plan, seed, executor)
    add(folder, seen, held_out)
    return write_section(folder, tell(folder, render(named("NOVEL", TEST_PLATES), screen_plan, seed, executor), seed))


def add(folder: Path, seen: Cells, held_out: Cells) -> Novelty:
    """Write what a package knows into it: distances from wells it learned from, the threshold from others."""
    embed = embedder(folder)
    known = novelty.fit(
        embed(seen.pixels),
        seen.labelled.labels,
        false_alarm_rate=FALSE_ALARM_RATE,
        held_out=embed(held_out.pixels),
    )
    known.save(folder / NOVELTY_NAME)
    digest = hashlib.sha256((folder / NOVELTY_NAME).read_bytes()).hexdigest()
    manifest = read_manifest(folder).model_copy(update={"novelty_sha256": digest})
    (folder / MANIFEST_NAME).write_text(manifest.text(), "utf-8", newline="\n")
    return known


def embedder(folder: Path) -> Callable[[Sites], NDArray[np.float64]]:
    """Gives the embeddings, (wells, features), of wells in raw counts, (wells, channels, height, width)."""
    package = load_package(folder)
    tiler = Tiler(package.manifest, torch.device("cpu"))

    def embed(sites: Sites) -> NDArray[np.float64]:
        with torch.inference_mode():
            rows = [
                package.program(tiler.tiles(site, PIXEL_SIZE_UM))["embedding"].double().mean(dim=0) for site in sites
            ]
        return np.asarray(torch.stack(rows).numpy())

    return embed


def tell(folder: Path, test: Cells, seed: int) -> Told:
    """How many unseen wells like those of training are called unlike, and how many that were made strange."""
    package, embed = load_package(folder), embedder(folder)
    known = package.novelty
    assert known is not None  # it was added

    def unlike(sites: Sites) -> Share:
        return share(np.array([known.unlike(known.score(found)) for found in embed(sites)]))

    few = test.pixels[::12]
    return Told(known, unlike(test.pixels), {kind: unlike(sites) for kind, sites in strange(few, seed).items()})


def strange(sites: Sites, seed: int) -> dict[str, Sites]:
    """What goes wrong with wells. sites: (wells, channels, height, width), raw counts, of good ones."""
    noise = generator(seed, "strange wells").normal(OFFSET_COUNTS, 3.0, sites.shape)
    empty = np.clip(noise, 0, None).round().astype(np.uint16)
    blurred = gaussian_filter1d(gaussian_filter1d(sites.astype(np.float32), BLUR_PX, axis=2), BLUR_PX, axis=3)
    exchanged, unstained = sites.copy(), sites.copy()
    er, mito = CHANNELS.index("ER"), CHANNELS.index("Mito")
    exchanged[:, [er, mito]] = sites[:, [mito, er]]
    unstained[:, mito] = empty[:, mito]
    return {
        "without cells": empty,
        "out of focus": blurred.round().astype(np.uint16),
        "with ER and Mito exchanged": exchanged,
        "with no stain in Mito": unstained,
    }


def write_section(folder: Path, told: Told) -> str:
    """Put what was found at the end of the card, where an earlier such section is replaced; the section."""
    rows = "\n".join(f"| {kind} | {found} |" for kind, found in told.strange.items())
    section = f"""{_HEADING}

`{NOVELTY_NAME}` has the distances from {told.known.fitted} wells of the training plates, and a threshold from
{told.known.held_out} wells of the plates kept for the temperature: of wells like those no more than
{100 * told.known.false_alarm_rate:g} % lie beyond it.

    python -m hcs_daemon.demo_package.seen --package FOLDER

Wells of the unseen simulated screen that are called unlike: {told.false_alarms}

| wells of it, made strange | called unlike |
|---|---|
{rows}
"""
    card = folder / CARD_NAME
    before = card.read_text("utf-8").partition(_HEADING)[0].rstrip()
    card.write_text(f"{before}\n\n{section}", "utf-8", newline="\n")
    return section


if __name__ == "__main__":
    typer.run(main)
