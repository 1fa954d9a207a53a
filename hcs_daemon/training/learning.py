"""How a network learns from labelled sites: random views of them, the optimiser, and a temperature at the end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from hcs_daemon.device.tiling import Tiler
from hcs_daemon.records import Pixels
from hcs_daemon.training.network import CellNetwork

TILES_AT_ONCE = 256
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelledSites:
    """pixels: (channels, height, width) of each site, raw counts at the model's pixel size.

    labels: (sites,) int64, each one's class.
    """

    pixels: Sequence[Pixels] | Pixels
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
    These three are one number, or one for each channel. threads: torch adds in another order with another number, so
    the weights depend on it. balanced: every class fills as many places of a batch, however many sites it has. device:
    where the network learns; on a card the last digits differ from one training to the next.
    """

    steps: int = 1600
    batch: int = 64
    peak_rate: float = 4e-3
    weight_decay: float = 0.01
    gain_spread: float | tuple[float, ...] = 0.25
    offset_spread: float | tuple[float, ...] = 4.0
    mixed_share: float = 0.25
    camera_offset: float | tuple[float, ...] = 128.0
    threads: int = 1
    balanced: bool = False
    device: str = "cpu"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Lesson:
    """A network that learns step by step; it can be put down (`state`) and taken up again by another (`restore`).

    The same arguments and the same start give the same weights on the same processor, however often it is put down.
    tiler: normalises, on the CPU. tile_px: edge of the views. control: the control's class. Owns the network.
    """

    def __init__(
        self,
        network: CellNetwork,
        sites: LabelledSites,
        *,
        tiler: Tiler,
        tile_px: int,
        control: int,
        recipe: Recipe,
        rng: np.random.Generator,
    ) -> None:
        self.network = network.to(recipe.device)
        self.done = 0
        self._sites = sites
        self._tiler = tiler
        self._tile_px = tile_px
        self._control = control
        self._recipe = recipe
        self._rng = rng
        self._waiting = np.empty(0, np.int64)
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.peak_rate, weight_decay=recipe.weight_decay)
        self._rates = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, recipe.peak_rate, total_steps=recipe.steps, pct_start=0.1, cycle_momentum=False
        )

    def step(self) -> float:
        """One batch; its loss before the step. The network is left in training mode."""
        recipe, sites = self._recipe, self._sites
        self.network.train()
        chosen = self._batch()
        labels = sites.labels[chosen]
        views = np.stack([_view(sites.pixels[index], self._tile_px, recipe, self._rng) for index in chosen])
        _mix(views, np.flatnonzero(labels == self._control), recipe.mixed_share, self._rng)
        with threads(recipe.threads):
            tiles = self._tiler.normalised(torch.from_numpy(views))
            loss = _step(
                self.network, self._optimiser, tiles.to(recipe.device), torch.from_numpy(labels).to(recipe.device)
            )
        self._rates.step()
        self.done += 1
        return loss

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on, of types that torch loads without running code."""
        return {
            "done": self.done,
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "rates": self._rates.state_dict(),
            "rng": self._rng.bit_generator.state,
            "waiting": torch.from_numpy(self._waiting.copy()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where a lesson of the same arguments was put down."""
        self.done = state["done"]
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._rates.load_state_dict(state["rates"])
        self._rng.bit_generator.state = state["rng"]
        self._waiting = state["waiting"].numpy()

    def _batch(self) -> NDArray[np.int64]:
        """Every site once in each round, in a new order; a batch may reach into the next round."""
        while len(self._waiting) < self._recipe.batch:
            self._waiting = np.concatenate([self._waiting, self._round()])
        batch, self._waiting = np.split(self._waiting, [self._recipe.batch])
        return batch

    def _round(self) -> NDArray[np.int64]:
        """All sites; balanced, those of smaller classes so often that every class comes as often as the largest."""
        labels = self._sites.labels
        if not self._recipe.balanced:
            return self._rng.permutation(len(labels))
        most = int(np.bincount(labels).max())
        own = (np.flatnonzero(labels == number) for number in np.unique(labels))
        repeated = [np.resize(self._rng.permutation(places), most) for places in own]
        return self._rng.permutation(np.concatenate(repeated))


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
    """Let a network learn; the same arguments and the same start give the same weights on the same processor.

    tiler: normalises, on the CPU. control: the control's class. report: called after each step with its number (from 1)
    and its loss. The network is left in training mode.
    """
    lesson = Lesson(network, sites, tiler=tiler, tile_px=tile_px, control=control, recipe=recipe, rng=rng)
    while lesson.done < recipe.steps:
        loss = lesson.step()
        report(lesson.done, loss)


def site_logits(
    program: torch.nn.Module, sites: Sequence[Pixels] | Pixels, tiler: Tiler, pixel_size_um: float
) -> Scores:
    """Each site's logits as the daemon finds them, the mean over its tiles; (sites, classes) float64.

    program: gives logits by name, on the CPU or a card. sites: (channels, height, width) each, raw counts at the
    model's pixel size. tiler: normalises, on the CPU.
    """
    return site_outputs(program, sites, tiler, pixel_size_um)[0]


def site_outputs(
    program: torch.nn.Module, sites: Sequence[Pixels] | Pixels, tiler: Tiler, pixel_size_um: float
) -> tuple[Scores, Scores]:
    """The same, and each site's embedding, (sites, features) float64."""
    found: dict[str, list[NDArray[np.float64]]] = {"logits": [], "embedding": []}
    device = next((weights.device for weights in program.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        for site in sites:
            tiles = tiler.tiles(site, pixel_size_um).to(device)
            parts = [program(part) for part in torch.split(tiles, TILES_AT_ONCE)]
            for name, rows in found.items():
                rows.append(torch.cat([part[name] for part in parts]).double().mean(dim=0).cpu().numpy())
    return np.stack(found["logits"]), np.stack(found["embedding"])


def best_temperature(logits: Scores, labels: NDArray[np.int64]) -> float:
    """The temperature at which the sites' logits give the true classes the highest likelihood (Guo et al. 2017)."""
    targets = torch.nn.functional.one_hot(torch.from_numpy(labels), logits.shape[1]).double()
    return _temperature(logits, targets)


def cautious_temperature(logits: Scores, labels: NDArray[np.int64]) -> float:
    """The same for few wells: that all of them are right does not make a verdict certain.

    After n wells that were all right the next one is with (n + 1) / (n + 2): no more than that is what the logits are
    fitted to (Platt, Advances in Large Margin Classifiers, 1999); the rest is shared by the other classes.
    """
    wells, classes = logits.shape
    targets = np.full((wells, classes), 1 / (wells + 2) / (classes - 1))
    targets[np.arange(wells), labels] = (wells + 1) / (wells + 2)
    return _temperature(logits, torch.from_numpy(targets))


def _temperature(logits: Scores, targets: torch.Tensor) -> float:
    def surprise(log_temperature: float) -> float:
        scaled = torch.from_numpy(logits / np.exp(log_temperature))
        return torch.nn.functional.cross_entropy(scaled, targets).item()

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


def _view(site: Pixels, tile_px: int, recipe: Recipe, rng: np.random.Generator) -> NDArray[np.float32]:
    """A tile at a random place, turned and mirrored, brighter or darker by channel; raw counts, float32."""
    row, column = (int(rng.integers(length - tile_px + 1)) for length in site.shape[1:])
    tile = np.rot90(site[:, row : row + tile_px, column : column + tile_px], int(rng.integers(4)), axes=(1, 2))
    if rng.random() < 0.5:
        tile = tile[:, :, ::-1]
    gain = np.exp(rng.normal(0.0, recipe.gain_spread, len(site)))
    shift = np.asarray(recipe.camera_offset) * (1.0 - gain) + rng.normal(0.0, recipe.offset_spread, len(site))
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
