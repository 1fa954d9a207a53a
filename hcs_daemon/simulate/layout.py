"""Which compound is in which well, and the two tables that say so: the layout and the truth."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hcs_daemon.plate import WellPosition, plate_wells
from hcs_daemon.simulate.compounds import (
    CLASS_EFFECT,
    COMPOUNDS,
    CONTROL,
    CONTROL_CLASS,
    DOSES_UM,
    FULL_DOSE_UM,
    KNOWN_PHENOTYPES,
    REFERENCES,
    TREATMENTS,
    Compound,
)
from hcs_daemon.simulate.seeds import generator


class Role(StrEnum):
    """What a well is for."""

    CONTROL = "control"
    REFERENCE = "reference"
    TREATMENT = "treatment"


@dataclass(frozen=True, slots=True)
class WellPlan:
    """What is in a well. concentration_um: micromolar, 0 in a control."""

    position: WellPosition
    compound: Compound
    concentration_um: float
    role: Role

    @property
    def effect_strength(self) -> float:
        """0 (none) to 1 (full)."""
        return self.compound.effect_at(self.concentration_um)

    @property
    def affected_channels(self) -> tuple[str, ...]:
        """The channels whose pixels differ from what the control would have shown; none at strength 0."""
        phenotype = self.compound.phenotype
        return KNOWN_PHENOTYPES[phenotype].channels if phenotype is not None and self.effect_strength > 0 else ()

    @property
    def class_name(self) -> str:
        """The phenotype from `CLASS_EFFECT` on, else `control`: DMSO, inert compounds, effects too weak to be seen."""
        phenotype = self.compound.phenotype
        return phenotype if phenotype is not None and self.effect_strength >= CLASS_EFFECT else CONTROL_CLASS


def plan_plate(wells: int, seed: int, plate: str) -> list[WellPlan]:
    """The plan of a whole plate of 6, 24, 96, 384 or 1536 wells, in row order.

    A sixth of the wells are DMSO, one in every stretch of six wells down the columns, so that no corner is without;
    two wells in 96 (at least one) are each class's reference at full effect; the rest are dose series of treatments.
    seed and plate decide the positions, never what is on the plate.
    """
    rng = generator(seed, plate, "layout")
    positions = sorted(plate_wells(wells), key=lambda position: (position.column, position.row))
    stretches = [positions[start : start + 6] for start in range(0, wells, 6)]
    controls = [stretch[rng.integers(len(stretch))] for stretch in stretches]
    free = [position for position in positions if position not in set(controls)]
    order = [free[index] for index in rng.permutation(len(free))]
    plans = [WellPlan(position, CONTROL, 0.0, Role.CONTROL) for position in controls]
    contents = _contents(wells, len(free))
    plans += [
        WellPlan(position, compound, dose, role)
        for position, (compound, dose, role) in zip(order, contents, strict=True)
    ]
    return sorted(plans, key=lambda plan: plan.position)


def plan_compounds(positions: Sequence[WellPosition], contents: Sequence[tuple[str, float]]) -> list[WellPlan]:
    """A plan of one's own, for training and tests: (compound's name, concentration in micromolar) well by well.

    Fewer contents than positions are repeated in turn.
    """
    plans = []
    for index, position in enumerate(positions):
        name, dose = contents[index % len(contents)]
        compound = COMPOUNDS[name]
        role = _role_of(compound)
        plans.append(WellPlan(position, compound, 0.0 if role is Role.CONTROL else dose, role))
    return plans


def write_layout(path: Path, plans: Sequence[WellPlan]) -> None:
    """Write `well, compound, concentration_um, role`: what an experimenter knows."""
    _write_table(path, [_layout_row(plan) for plan in plans])


def write_truth(path: Path, plans: Sequence[WellPlan]) -> None:
    """Write the layout with `effect_strength`, `affected_channels` (joined by `;`) and `class` beside it."""
    rows = [
        _layout_row(plan)
        | {
            "effect_strength": f"{plan.effect_strength:g}",
            "affected_channels": ";".join(plan.affected_channels),
            "class": plan.class_name,
        }
        for plan in plans
    ]
    _write_table(path, rows)


def _contents(wells: int, free: int) -> list[tuple[Compound, float, Role]]:
    replicates = max(1, wells // 48)
    references = [(compound, FULL_DOSE_UM, Role.REFERENCE) for compound in REFERENCES for _ in range(replicates)]
    left = free - len(references)
    # seven doses where at least ten compounds fit, else every third of them
    doses = DOSES_UM if left >= 10 * len(DOSES_UM) else DOSES_UM[1::2]
    number = max(1, min(len(TREATMENTS), left // len(doses)))
    series = [(compound, dose, Role.TREATMENT) for compound in TREATMENTS[:number] for dose in doses]
    return references + [series[index % len(series)] for index in range(left)]


def _role_of(compound: Compound) -> Role:
    if compound is CONTROL:
        return Role.CONTROL
    return Role.REFERENCE if compound in REFERENCES else Role.TREATMENT


def _layout_row(plan: WellPlan) -> dict[str, str]:
    return {
        "well": plan.position.name,
        "compound": plan.compound.name,
        "concentration_um": f"{plan.concentration_um:g}",
        "role": plan.role.value,
    }


def _write_table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
