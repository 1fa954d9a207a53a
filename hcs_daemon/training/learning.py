"""How a network learns from labelled sites: random views of them, the optimiser, and a temperature at the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from hcs_daemon.device.tiling import Tiler
from hcs_daemon.training.network import CellNetwork

TILES_AT_ONCE = 256
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelledSites:
    """pixels: (sites, channels, height, width) uint16, raw counts at the model's pixel size.

    labels: (sites,) int64, each one's class.
    """

    pixels: NDArray[np.uint16]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and with which changes a network learns.

    steps: batches. batch: tiles in each. peak_rate: the learning rate at its highest (rises for a tenth of the steps,
    then falls to nothing). gain_spread: standard deviation of the logarithm of a channel's gain, drawn for each view.
    offset_spread: standard deviation in counts of what is added to a channel. mixed_share: how often a channel of a
    control's view is replaced by that of another control, which is a control still. camera_offset: counts in the dark.
    threads: torch adds in another order with another number, so the weights depend on it.
    """

    steps: int = 1600
    batch: int = 64
    peak_rate: float = 4e-3
    weight_decay: float = 0.01
    gain_spread: float = 0.25
    offset_spread: float = 4.0
    mixed_share: float = 0.25
    camera_offset: float = 128.0
    threads: int = 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def teach(
    network: CellNetwork,
    sites: LabelledSites,
    *,
    tiler: Tiler,
    tile_px: int,
    control: int,
    recipe: Recipe,
    rng: np.random.Generator,
    report: Callable[[int, float], None],
) -> None:
    """Let a network learn; the same arguments and the same start give the same weights on the same machine.

    tiler: normalises, on the CPU. control: the control's class. report: called after each step with its number (from 1)
    and its loss. The network is left in training mode.
    """
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.peak_rate, weight_decay=recipe.weight_decay)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.peak_rate, total_steps=recipe.steps, pct_start=0.1, cycle_momentum=False
    )
    for step, chosen in enumerate(_batches(len(sites), recipe, rng), start=1):
        labels = sites.labels[chosen]
        views = np.stack([_view(sites.pixels[index], tile_px, recipe, rng) for index in chosen])
        _mix(views, np.flatnonzero(labels == control), recipe.mixed_share, rng)
        with threads(recipe.threads):
            loss = _step(network, optimiser, tiler.normalised(torch.from_numpy(views)), torch.from_numpy(labels))
        rates.step()
        report(step, loss)


def site_logits(program: torch.nn.Module, sites: NDArray[np.uint16], tiler: Tiler, pixel_size_um: float) -> Scores:
    """Each site's logits as the daemon finds them, the mean over its tiles; (sites, classes) float64.

    program: gives logits by name. sites: (sites, channels, height, width), raw counts at the model's pixel size.
    """
    found = []
    with torch.inference_mode():
        for site in sites:
            tiles = torch.split(tiler.tiles(site, pixel_size_um), TILES_AT_ONCE)
            logits = torch.cat([program(part)["logits"] for part in tiles])
            found.append(logits.double().mean(dim=0).numpy())
    return np.stack(found)


def best_temperature(logits: Scores, labels: NDArray[np.int64]) -> float:
    """The temperature at which the sites' logits give the true classes the highest likelihood (Guo et al. 2017)."""

    def surprise(log_temperature: float) -> float:
        scaled = torch.from_numpy(logits / np.exp(log_temperature))
        return torch.nn.functional.cross_entropy(scaled, torch.from_numpy(labels)).item()

    return float(np.exp(minimize_scalar(surprise, bounds=(-4.0, 4.0), method="bounded").x))


def _step(network: CellNetwork, optimiser: torch.optim.Optimizer, tiles: torch.Tensor, labels: torch.Tensor) -> float:
    """One step down the loss of a batch; returns the loss before it."""
    optimiser.zero_grad()
    # channels last: a fifth faster on a CPU
    logits = network(tiles.contiguous(memory_format=torch.channels_last))["logits"]
    loss = torch.nn.functional.cross_entropy(logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]  # torch ships it without types
    optimiser.step()
    return loss.item()


def _batches(sites: int, recipe: Recipe, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Every site once in each round, in a new order; a batch may reach into the next round."""
    waiting = np.empty(0, np.intp)
    for _ in range(recipe.steps):
        while len(waiting) < recipe.batch:
            waiting = np.concatenate([waiting, rng.permutation(sites)])
        yield waiting[: recipe.batch]
        waiting = waiting[recipe.batch :]


def _view(site: NDArray[np.uint16], tile_px: int, recipe: Recipe, rng: np.random.Generator) -> NDArray[np.float32]:
    """A tile at a random place, turned and mirrored, brighter or darker by channel; raw counts, float32."""
    row, column = (int(rng.integers(length - tile_px + 1)) for length in site.shape[1:])
    tile = np.rot90(site[:, row : row + tile_px, column : column + tile_px], int(rng.integers(4)), axes=(1, 2))
    if rng.random() < 0.5:
        tile = tile[:, :, ::-1]
    gain = np.exp(rng.normal(0.0, recipe.gain_spread, len(site)))
    shift = recipe.camera_offset * (1.0 - gain) + rng.normal(0.0, recipe.offset_spread, len(site))
    view = tile.astype(np.float32)
    view *= gain.astype(np.float32)[:, None, None]
    view += shift.astype(np.float32)[:, None, None]
    return view


def _mix(views: NDArray[np.float32], controls: NDArray[np.intp], share: float, rng: np.random.Generator) -> None:
    """Give control views channels of other control views, in place.

    To explain a verdict the daemon shows the network such mixtures; they must mean nothing to it.
    """
    if not len(controls):
        return
    before = views[controls]
    for channel in range(views.shape[1]):
        taken = rng.random(len(controls)) < share
        views[controls[taken], channel] = before[rng.integers(len(controls), size=int(taken.sum())), channel]
