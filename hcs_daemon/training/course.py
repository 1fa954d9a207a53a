"""One training from its first step to the weights that are kept: early stopping, and a checkpoint to go on from.

What is looked at and kept are the weights' running means (Polyak and Juditsky, SIAM J. Control Optim. 30, 1992): the
weights of a single step leap while the learning rate is high, and a few validation wells leap with them.
"""

import copy
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hcs_daemon.training.learning import Lesson

LOOKS = 20
"""How often in a whole training the validation wells are looked at."""
PATIENCE = 7
"""After so many looks that were no better than the best, more learning is only learning by heart."""
_BETTER = 1e-3
_MEMORY = 0.98
"""What of the running mean stays at each step; at first less, so that the start is forgotten."""


@dataclass(frozen=True, slots=True)
class Look:
    """The network at one step. train: mean loss of the batches since the look before. validation: of those wells."""

    step: int
    train: float
    validation: float


@dataclass(frozen=True, slots=True)
class Course:
    """How a training went. best: the step whose weights were kept."""

    looks: tuple[Look, ...]
    best: int

    @property
    def stopped_early(self) -> bool:
        """Whether it ended because the validation wells were told apart no better."""
        return len(self.looks) < LOOKS


def attend(
    lesson: Lesson,
    steps: int,
    validation: Callable[[torch.nn.Module], float],
    *,
    checkpoint: Path,
    key: str,
    report: Callable[[int], None],
) -> Course:
    """Let a lesson go on to its end, or until it gets no better; the network is left on the CPU with its best weights.

    The weights are folded. steps: of the lesson's recipe. validation: the loss of the validation wells, the network in
    eval mode. checkpoint: a file that is written at every look; one of the same key is gone on from, and the result is
    the same. key: of all that the training depends on. report: called with the number of each step that is done.
    """
    every = max(1, steps // LOOKS)
    looks: list[Look] = []
    best: dict[str, Any] = {}
    mean = copy.deepcopy(lesson.network).eval()
    found = load_checkpoint(checkpoint, key)
    if found is not None:
        lesson.restore(found["lesson"])
        looks, best = [Look(*look) for look in found["looks"]], found["best"]
        mean.load_state_dict(found["mean"])
    while lesson.done < steps and not _is_over(looks):
        losses: list[float] = []
        while len(losses) < every and lesson.done < steps:
            losses.append(lesson.step())
            _follow(mean, lesson.network, min(_MEMORY, lesson.done / (lesson.done + 10)))
            report(lesson.done)
        looks.append(Look(lesson.done, float(np.mean(losses)), validation(mean)))
        if _best(looks) == len(looks) - 1:
            best = {name: values.clone() for name, values in mean.state_dict().items()}
        lines = [(look.step, look.train, look.validation) for look in looks]
        state = {"lesson": lesson.state(), "mean": mean.state_dict(), "looks": lines, "best": best}
        save_checkpoint(checkpoint, key, state)
    lesson.network.load_state_dict(best)
    lesson.network.cpu().fold()
    return Course(tuple(looks), looks[_best(looks)].step)


def _follow(mean: torch.nn.Module, network: torch.nn.Module, memory: float) -> None:
    """Move the running mean of all weights a step towards those of the network; counts are taken as they are."""
    now = network.state_dict()
    with torch.no_grad():
        for name, values in mean.state_dict().items():
            if values.is_floating_point():
                values.lerp_(now[name], 1 - memory)
            else:
                values.copy_(now[name])


def well_loss(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean cross-entropy, every class counting alike. logits: (wells, classes)."""
    weights = 1.0 / np.bincount(labels, minlength=logits.shape[1]).clip(1)
    return torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), weight=torch.from_numpy(weights)
    ).item()


def save_checkpoint(path: Path, key: str, state: Mapping[str, Any]) -> None:
    """Write it whole or not at all."""
    beside = path.with_name(path.name + ".part")
    torch.save({"key": key, **state}, beside)
    beside.replace(path)


def load_checkpoint(path: Path, key: str) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, of the same key; None where there is none that can be used. Runs no code in it."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError):
        return None
    return found if isinstance(found, dict) and found.get("key") == key else None


def _best(looks: list[Look]) -> int:
    """The look whose validation loss is lowest; one that is no clearly lower does not take the place of an earlier."""
    best = 0
    for place, look in enumerate(looks):
        if look.validation < looks[best].validation - _BETTER:
            best = place
    return best


def _is_over(looks: list[Look]) -> bool:
    return len(looks) - 1 - _best(looks) >= PATIENCE if looks else False
