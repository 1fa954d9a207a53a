"""The simulated wells that the network learns from, is calibrated on and is measured on."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.plate import plate_wells
from hcs_daemon.simulate.compounds import CONTROL_CLASS, CONTROL_COMPOUND, FULL_DOSE_UM, PHENOTYPES, REFERENCES
from hcs_daemon.simulate.layout import WellPlan, plan_compounds, plan_plate
from hcs_daemon.simulate.seeds import generator
from hcs_daemon.simulate.site import render_site
from hcs_daemon.training.learning import LabelledSites

CLASSES = (CONTROL_CLASS, *PHENOTYPES)
SITE_PX = 270
WELLS = 96


@dataclass(frozen=True, slots=True)
class Cells:
    """Wells of simulated plates, one site each. pixels: (wells, 5, height, width) uint16, raw counts.

    plates, plans: of each well, its plate's name and what is in it.
    """

    plates: tuple[str, ...]
    plans: tuple[WellPlan, ...]
    pixels: NDArray[np.uint16]

    @property
    def labelled(self) -> LabelledSites:
        """With each well's true class."""
        labels = [CLASSES.index(plan.class_name) for plan in self.plans]
        return LabelledSites(self.pixels, np.array(labels, np.int64))

    @property
    def effects(self) -> NDArray[np.float64]:
        """(wells,) effect strength, 0 to 1."""
        return np.array([plan.effect_strength for plan in self.plans])


def learning_plan(plate: str, seed: int, wells: int = WELLS) -> list[WellPlan]:
    """A plate to learn from: a quarter DMSO, a quarter full effects, half effects of every strength in between."""
    rng = generator(seed, plate, "what to learn from")
    contents: list[tuple[str, float]] = []
    for _ in range(wells):
        lot, compound = rng.random(), REFERENCES[rng.integers(len(REFERENCES))]
        # a fifth to ten times the dose of half the effect: strengths from 0.04 to 0.99
        weaker = float(np.exp(rng.uniform(np.log(0.2), np.log(10.0)))) * compound.ec50_um
        if lot < 0.25:
            contents.append((CONTROL_COMPOUND, 0.0))
        else:
            contents.append((compound.name, FULL_DOSE_UM if lot < 0.5 else weaker))
    return plan_compounds(plate_wells(WELLS)[:wells], contents)


def screen_plan(plate: str, seed: int) -> list[WellPlan]:
    """A plate as the simulated screen has it."""
    return plan_plate(WELLS, seed, plate)


def render(
    plates: Iterable[str],
    plan: Callable[[str, int], Sequence[WellPlan]],
    seed: int,
    executor: Executor | None = None,
) -> Cells:
    """One site of each well. plan: what is on a plate, by its name and the seed. executor: renders side by side."""
    wells = [(plate, well) for plate in plates for well in plan(plate, seed)]
    one = partial(_render, seed=seed)
    sites = executor.map(one, wells, chunksize=16) if executor is not None else map(one, wells)
    return Cells(tuple(plate for plate, _ in wells), tuple(well for _, well in wells), np.stack(list(sites)))


def _render(well: tuple[str, WellPlan], *, seed: int) -> NDArray[np.uint16]:
    plate, plan = well
    return render_site(plan, 1, plate=plate, seed=seed, size_px=SITE_PX).pixels
