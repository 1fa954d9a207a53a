"""Whether a network could have read the plate's layout instead of the cells: how far position alone tells the classes.

A model that is given a well's place and nothing of its cells, and a network that learned labels dealt out anew, must do
no better than chance. Where they do, the network's own figures say less than they seem to.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.training.evaluation import Share, share
from hcs_daemon.training.plates import WellName

FOLDS = 5
DRAWS = 2000
CLEARLY = 0.01
"""What fewer than this share of random assignments reach is not chance."""
_RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class Guess:
    """How well something told wells' classes.

    right: of all wells. balanced: mean of the classes' own shares. chance: what that is for a blind guess. by_chance:
    the share of random assignments of the same answers that do as well. least: what that would be were all right.
    """

    right: Share
    balanced: float
    chance: float
    by_chance: float
    least: float

    @property
    def beats_chance(self) -> bool:
        """Whether it did better than chance lets it."""
        return self.by_chance < CLEARLY

    @property
    def can_tell(self) -> bool:
        """Whether there are wells enough for anything to be clearly better than chance."""
        return self.least < CLEARLY

    @property
    def verdict(self) -> str:
        """In words."""
        if self.beats_chance:
            return "better than chance"
        return "chance" if self.can_tell else "too few wells to tell"


def guess(labels: NDArray[np.int64], found: NDArray[np.int64], seed: int) -> Guess:
    """Judge answers. labels, found: (wells,) the true class and the answer."""
    rng = np.random.default_rng(seed)
    reached = balanced_accuracy(labels, found)
    drawn = np.array([balanced_accuracy(labels, rng.permutation(found)) for _ in range(DRAWS)])
    by_chance = (1 + int((drawn >= reached - 1e-12).sum())) / (1 + DRAWS)
    sizes = np.unique(labels, return_counts=True)[1].tolist()
    least = (1 + DRAWS * math.prod(map(math.factorial, sizes)) / math.factorial(len(labels))) / (1 + DRAWS)
    return Guess(share(found == labels), reached, 1 / len(sizes), by_chance, least)


def dealt_out(
    classes_of: Mapping[WellName, int],
    taught: Collection[WellName],
    twins: Sequence[Sequence[WellName]],
    seed: int,
) -> dict[WellName, int]:
    """The same classes, dealt out anew over all wells: what a network learns of them can be known by heart alone.

    Wells that show the same pictures (`Gathered.twins`) get the same class: a network that saw one of them knows the
    others, and is found out. taught: the wells that it learns from or stops by; classes stay on their side, so that
    each side keeps its number of every class.
    """
    rng = np.random.default_rng([seed, 2])
    paired = {well for group in twins for well in group}
    groups = [*map(tuple, twins), *((well,) for well in sorted(classes_of) if well not in paired)]
    found: dict[WellName, int] = {}
    for side in (True, False):
        own = [group for group in groups if any(well in taught for well in group) is side]
        for group, place in zip(own, rng.permutation(len(own)), strict=True):
            found |= dict.fromkeys(group, classes_of[own[place][0]])
    return found


def balanced_accuracy(labels: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """The mean over the classes of the share of their wells that is found right."""
    sizes = np.bincount(labels)
    right = np.bincount(labels[found == labels], minlength=len(sizes))
    return float((right[sizes > 0] / sizes[sizes > 0]).mean())


def edge_distance(well: WellName, shapes: Mapping[str, tuple[int, int]]) -> int:
    """How many wells lie between it and the plate's edge. shapes: each plate's rows and columns."""
    plate, position = well
    rows, columns = shapes[plate]
    return min(position.row - 1, rows - position.row, position.column - 1, columns - position.column)


def places(wells: Sequence[WellName], shapes: Mapping[str, tuple[int, int]]) -> NDArray[np.float64]:
    """(wells, 3): row and column as shares of the plate, and the distance to its edge in wells."""
    return np.array(
        [
            (well[1].row / shapes[well[0]][0], well[1].column / shapes[well[0]][1], edge_distance(well, shapes))
            for well in wells
        ]
    )


def told_by(facts: NDArray[np.float64], labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """(wells,) what a small model answers of each well that learned from the facts of others.

    Kernel ridge regression with a Gaussian kernel as wide as the median distance, each class of the same weight, in
    five folds of wells. facts: (wells, facts).
    """
    rng = np.random.default_rng(seed)
    folds = np.empty(len(labels), np.intp)
    for number in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == number))
        folds[own] = np.arange(len(own)) % FOLDS
    scaled = (facts - facts.mean(axis=0)) / np.maximum(facts.std(axis=0), 1e-9)
    squares = ((scaled[:, None] - scaled[None]) ** 2).sum(axis=2)
    kernel = np.exp(-squares / max(float(np.median(squares)), 1e-9) * 4)
    wanted = np.eye(int(labels.max()) + 1)[labels]
    found = np.empty(len(labels), np.int64)
    for fold in range(FOLDS):
        asked, known = folds == fold, folds != fold
        # a class of few wells weighs as much as one of many: their errors cost more
        cost = np.bincount(labels[known], minlength=wanted.shape[1])[labels[known]] / known.sum()
        near = kernel[np.ix_(known, known)] + _RIDGE * np.diag(cost * wanted.shape[1])
        centred = wanted[known] - 1 / wanted.shape[1]
        found[asked] = (kernel[np.ix_(asked, known)] @ np.linalg.solve(near, centred)).argmax(axis=1)
    return found


def strata(
    wells: Sequence[WellName], right: NDArray[np.bool_], shapes: Mapping[str, tuple[int, int]]
) -> dict[str, Share]:
    """How often a network was right in each part of the plate."""
    spots = places(wells, shapes)
    parts = {
        "the two outer rows and columns": spots[:, 2] < 2,
        "inside them": spots[:, 2] >= 2,
        "upper half": spots[:, 0] <= 0.5,
        "lower half": spots[:, 0] > 0.5,
        "left half": spots[:, 1] <= 0.5,
        "right half": spots[:, 1] > 0.5,
    }
    return {name: share(right[part]) for name, part in parts.items()}
