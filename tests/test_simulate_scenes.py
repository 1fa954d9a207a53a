"""Hard cases for whoever explains a verdict: what they change, what they leave, and what their truth says."""

import csv
from pathlib import Path

import numpy as np
import pytest

from hcs_daemon.__main__ import main
from hcs_daemon.errors import SettingsError
from hcs_daemon.plate import WellPosition
from hcs_daemon.simulate.cells import map_cells, populate
from hcs_daemon.simulate.compounds import CHANNELS, CONTROL, FULL_DOSE_UM, PHENOTYPES, REFERENCES, Compound
from hcs_daemon.simulate.layout import Role, WellPlan
from hcs_daemon.simulate.scenes import SCENES, plan_scene
from hcs_daemon.simulate.seeds import generator
from hcs_daemon.simulate.site import ARTEFACT_BIT, PIXEL_SIZE_UM, SimulatedSite, render_site
from hcs_daemon.simulate.stains import Effect, light, weave

SIZE_PX = 160


def site(compound: Compound = CONTROL) -> SimulatedSite:
    role = Role.CONTROL if compound is CONTROL else Role.REFERENCE
    plan = WellPlan(WellPosition.parse("C04"), compound, 0.0 if compound is CONTROL else FULL_DOSE_UM, role)
    return render_site(plan, 1, plate="P", seed=0, size_px=SIZE_PX)


@pytest.mark.parametrize("scene", SCENES)
def test_half_a_plate_is_dmso_and_the_rest_the_case(scene: str) -> None:
    plans = plan_scene(scene, 96, 0, "P")
    assert [plan.position for plan in plans] == sorted({plan.position for plan in plans})
    assert len(plans) == 96
    others = [plan.compound for plan in plans if plan.role is not Role.CONTROL]
    assert len(others) == 48
    assert set(others) == set(SCENES[scene])
    assert plans != plan_scene(scene, 96, 1, "P")


def test_an_unknown_scene_is_refused() -> None:
    with pytest.raises(SettingsError, match="no scene is called 'dark'") as caught:
        plan_scene("dark", 96, 0, "P")
    assert caught.value.hint == "choose one of two_channels, rearranged, mixed_cells, bright_edge"


def test_two_channels_are_changed_at_once_and_no_other() -> None:
    (compound,) = SCENES["two_channels"]
    treated, control = site(compound), site()
    changed = [
        name for name, one, two in zip(CHANNELS, treated.pixels, control.pixels, strict=True) if (one != two).any()
    ]
    assert changed == ["ER", "Mito"]
    assert set(np.unique(treated.mask)) == {0, 1 << 1 | 1 << 4}


def test_rearranged_light_has_the_same_values_in_every_cell_and_lies_elsewhere() -> None:
    rng = generator(0, "cells")
    cells = populate(SIZE_PX * PIXEL_SIZE_UM, 430.0, rng)
    maps, textures = map_cells(cells, SIZE_PX, PIXEL_SIZE_UM), weave((SIZE_PX, SIZE_PX), rng)
    plain = light("AGP", cells, maps, textures, Effect())
    moved = light("AGP", cells, maps, textures, Effect("actin_rearranged", 1.0))
    assert (plain != moved).mean() > 0.3
    for label in np.unique(maps.label):
        here = maps.label == label
        np.testing.assert_array_equal(np.sort(moved[here]), np.sort(plain[here]))


@pytest.mark.parametrize("compound", SCENES["mixed_cells"], ids=lambda compound: compound.name)
def test_in_a_mixed_field_some_cells_answer_and_the_others_stay_as_they_were(compound: Compound) -> None:
    (whole,) = (reference for reference in REFERENCES if reference.phenotype == compound.phenotype)
    mixed, full, control = site(compound), site(whole), site()
    assert not (mixed.mask & ~full.mask).any()
    assert 0.15 < (mixed.mask > 0).sum() / (full.mask > 0).sum() < 0.85
    (channel,) = PHENOTYPES[compound.phenotype or ""].channels
    index = CHANNELS.index(channel)
    away = np.abs(mixed.pixels[index].astype(float) - control.pixels[index])
    spared = (full.mask > 0) & (mixed.mask == 0)
    assert away[mixed.mask > 0].mean() > 2 * away[spared].mean()


def test_a_bright_edge_is_light_at_the_left_and_no_effect() -> None:
    (compound,) = SCENES["bright_edge"]
    lit, control = site(compound), site()
    edge = lit.mask > 0
    assert set(np.unique(lit.mask)) == {0, 1 << ARTEFACT_BIT}
    np.testing.assert_array_equal(edge[:, :8], 1)
    assert not edge[:, 20:].any()
    for one, two in zip(lit.pixels.astype(float), control.pixels.astype(float), strict=True):
        assert (one - two)[:, :4].mean() > 300
        assert abs((one - two)[:, 60:].mean()) < 20  # the camera's noise is drawn anew


def test_the_command_writes_a_scene_and_its_truth_calls_an_artefact_no_effect(tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    options = ("--wells", "6", "--size", "32", "--scene", "bright_edge", "--truth", str(truth))
    assert main(["simulate", str(tmp_path / "in"), *options]) == 0
    with truth.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(row["compound"] for row in rows) == ["DMSO"] * 3 + ["EDGE-LIGHT"] * 3
    assert {(row["effect_strength"], row["affected_channels"], row["class"]) for row in rows} == {("0", "", "control")}


def test_the_command_refuses_a_scene_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(tmp_path / "in"), "--scene", "dark"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "no scene is called 'dark'"
    assert not (tmp_path / "in").exists()
