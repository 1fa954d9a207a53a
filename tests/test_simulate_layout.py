"""Which compound is in which well, and the tables that say so."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from hcs_daemon.plate import PLATE_SHAPES, plate_wells
from hcs_daemon.simulate.compounds import COMPOUNDS, PHENOTYPES
from hcs_daemon.simulate.layout import Role, plan_compounds, plan_plate, write_layout, write_truth


@pytest.mark.parametrize("wells", list(PLATE_SHAPES))
def test_every_well_of_the_plate_is_planned_in_row_order(wells: int) -> None:
    assert [plan.position for plan in plan_plate(wells, 0, "P")] == plate_wells(wells)


@pytest.mark.parametrize("wells", list(PLATE_SHAPES))
def test_a_sixth_is_control_and_every_class_has_a_reference_at_full_effect(wells: int) -> None:
    plans = plan_plate(wells, 0, "P")
    roles = Counter(plan.role for plan in plans)
    assert roles[Role.CONTROL] == wells // 6
    references = [plan for plan in plans if plan.role is Role.REFERENCE]
    if wells > 6:
        assert {plan.class_name for plan in references} == set(PHENOTYPES)
    assert all(plan.effect_strength == 1.0 for plan in references)


def test_controls_lie_all_over_the_plate() -> None:
    controls = [plan.position for plan in plan_plate(96, 3, "P") if plan.role is Role.CONTROL]
    assert {(position.row > 4, position.column > 6) for position in controls} == {
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    }


@pytest.mark.parametrize("wells", list(PLATE_SHAPES))
def test_seed_and_plate_decide_positions_and_never_what_is_on_the_plate(wells: int) -> None:
    plans = [plan_plate(wells, seed, plate) for seed, plate in ((0, "P"), (1, "P"), (0, "Q"))]
    contents = [
        sorted((plan.compound.name, plan.concentration_um, plan.effect_strength) for plan in plan_) for plan_ in plans
    ]
    assert contents[0] == contents[1] == contents[2]
    positions = [tuple(plan.compound.name for plan in plan_) for plan_ in plans]
    if wells > 6:
        assert len(set(positions)) == 3
    assert plan_plate(wells, 0, "P") == plans[0]


def test_a_compound_does_the_same_at_the_same_dose_wherever_it_lies() -> None:
    found: dict[tuple[str, float], float] = {}
    for seed in range(3):
        for plan in plan_plate(384, seed, "P"):
            key = (plan.compound.name, plan.concentration_um)
            assert found.setdefault(key, plan.effect_strength) == plan.effect_strength


def test_a_plan_of_ones_own_repeats_its_contents() -> None:
    plans = plan_compounds(plate_wells(6), [("DMSO", 5.0), ("REF-ER", 30.0)])
    assert [(plan.compound.name, plan.concentration_um, plan.role) for plan in plans[:3]] == [
        ("DMSO", 0.0, Role.CONTROL),
        ("REF-ER", 30.0, Role.REFERENCE),
        ("DMSO", 0.0, Role.CONTROL),
    ]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_layout_says_what_an_experimenter_knows(tmp_path: Path) -> None:
    plans = plan_plate(24, 0, "P")
    write_layout(tmp_path / "tables" / "layout.csv", plans)
    read = rows(tmp_path / "tables" / "layout.csv")
    assert list(read[0]) == ["well", "compound", "concentration_um", "role"]
    for row, plan in zip(read, plans, strict=True):
        assert row["well"] == plan.position.name
        assert COMPOUNDS[row["compound"]] is plan.compound
        assert float(row["concentration_um"]) == plan.concentration_um
        assert row["role"] in {"control", "reference", "treatment"}


def test_the_truth_adds_what_was_planted(tmp_path: Path) -> None:
    plans = plan_plate(96, 0, "P")
    write_truth(tmp_path / "truth.csv", plans)
    read = rows(tmp_path / "truth.csv")
    assert list(read[0]) == [
        "well",
        "compound",
        "concentration_um",
        "role",
        "effect_strength",
        "affected_channels",
        "class",
    ]
    for row, plan in zip(read, plans, strict=True):
        strength = float(row["effect_strength"])
        assert strength == plan.effect_strength
        channels = [channel for channel in row["affected_channels"].split(";") if channel]
        assert bool(channels) == (strength > 0)
        assert row["class"] == "control" or channels == list(PHENOTYPES[row["class"]].channels)
        if row["role"] == "control":
            assert (strength, row["class"]) == (0.0, "control")


def test_a_table_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "layout.csv").write_text("mine")
    with pytest.raises(FileExistsError):
        write_layout(tmp_path / "layout.csv", plan_plate(6, 0, "P"))
