"""Which wells teach, which tell when to stop, and which judge. A well is in one of them, with all its sites."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hcs_daemon.errors import LayoutError
from hcs_daemon.training.labels import named
from hcs_daemon.training.plates import WellName

LEAST_LEARNED, LEAST_VALIDATED, LEAST_HELD_OUT = 3, 1, 2
LEAST_WELLS = LEAST_LEARNED + LEAST_VALIDATED + LEAST_HELD_OUT
"""Wells of a class without which nothing can be said of it."""
VALIDATED, HELD_OUT = 0.15, 0.25
"""Shares of each class's wells."""


@dataclass(frozen=True, slots=True)
class Split:
    """The wells of a training.

    learn: the network's weights come from these. validate: these say which weights are kept. held_out: these took part
    in neither; calibration, the novelty threshold and every figure come from them. plate: the one that is held out as a
    whole, None where there is none.
    """

    learn: tuple[WellName, ...]
    validate: tuple[WellName, ...]
    held_out: tuple[WellName, ...]
    plate: str | None


def split_wells(labels: Mapping[WellName, str], seed: int) -> Split:
    """Split labelled wells, each class for itself. The same labels and seed give the same split.

    Of several plates one is held out as a whole: the smallest that has enough wells of each class and leaves enough.
    Raises LayoutError when a class has too few wells, saying how many it has and how many are needed.
    """
    check_enough(labels)
    rng = np.random.default_rng(seed)
    plate = _plate_to_hold_out(labels)
    left = [well for well in sorted(labels) if well[0] != plate]
    learn: list[WellName] = []
    validate: list[WellName] = []
    held_out = [well for well in sorted(labels) if well[0] == plate]
    for name in sorted(set(labels.values())):
        wells = [well for well in left if labels[well] == name]
        mixed = [wells[place] for place in rng.permutation(len(wells))]
        held = 0 if plate is not None else max(LEAST_HELD_OUT, round(len(mixed) * HELD_OUT))
        validated = max(LEAST_VALIDATED, round(len(mixed) * VALIDATED))
        held_out += mixed[:held]
        validate += mixed[held : held + validated]
        learn += mixed[held + validated :]
    return Split(tuple(sorted(learn)), tuple(sorted(validate)), tuple(sorted(held_out)), plate)


def check_enough(labels: Mapping[WellName, str]) -> None:
    """Raise LayoutError unless there are two classes of enough wells each."""
    counts = Counter(labels.values())
    if len(counts) < 2:
        raise LayoutError(
            f"there is nothing to tell apart: the labelled wells are {named(counts) or 'none'}",
            "name a column that gives wells two classes or more; with compound or role, treatments do not teach",
        )
    scarce = {name: count for name, count in counts.items() if count < LEAST_WELLS}
    if scarce:
        raise LayoutError(
            f"too few wells of {named(scarce)}: {LEAST_WELLS} of each class are needed ({LEAST_LEARNED} to learn from,"
            f" {LEAST_VALIDATED} to say when to stop, {LEAST_HELD_OUT} to judge by)",
            "give more plates, or leave the class out of the column",
        )


def edge_only(labels: Mapping[WellName, str], shapes: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """The classes whose wells all lie at the edge of their plate. shapes: each plate's rows and columns."""

    def at_edge(well: WellName) -> bool:
        rows, columns = shapes[well[0]]
        return well[1].row in {1, rows} or well[1].column in {1, columns}

    return tuple(
        name
        for name in sorted(set(labels.values()))
        if all(at_edge(well) for well, label in labels.items() if label == name)
    )


def _plate_to_hold_out(labels: Mapping[WellName, str]) -> str | None:
    plates = Counter(well[0] for well in labels)
    fit = [plate for plate in plates if len(plates) > 1 and _can_be_held_out(labels, plate)]
    return min(fit, key=lambda plate: (plates[plate], plate), default=None)


def _can_be_held_out(labels: Mapping[WellName, str], plate: str) -> bool:
    own = _counts(label for well, label in labels.items() if well[0] == plate)
    rest = _counts(label for well, label in labels.items() if well[0] != plate)
    return all(
        own[name] >= LEAST_HELD_OUT and rest[name] >= LEAST_LEARNED + LEAST_VALIDATED for name in set(labels.values())
    )


def _counts(labels: Iterable[str]) -> Counter[str]:
    return Counter(labels)
