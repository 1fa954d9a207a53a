"""What a simulated field of view shows, and where a planted effect changes it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hcs_daemon.config import Expect
from hcs_daemon.intake.validation import Expected, Refusal, examine
from hcs_daemon.plate import WellPosition, plate_wells
from hcs_daemon.simulate.cells import map_cells, populate
from hcs_daemon.simulate.compounds import CHANNELS, CONTROL, PHENOTYPES, REFERENCES, Compound, Phenotype
from hcs_daemon.simulate.layout import Role, WellPlan
from hcs_daemon.simulate.seeds import generator
from hcs_daemon.simulate.site import PIXEL_SIZE_UM, SimulatedSite, SimulatedStack, render_site, render_stack

SIZE_PX = 160
REFERENCE = {compound.phenotype: compound for compound in REFERENCES}


def site(compound: Compound = CONTROL, dose_um: float = 30.0, *, seed: int = 0, well: str = "C04") -> SimulatedSite:
    role = Role.CONTROL if compound is CONTROL else Role.REFERENCE
    plan = WellPlan(WellPosition.parse(well), compound, 0.0 if compound is CONTROL else dose_um, role)
    return render_site(plan, 1, plate="P", seed=seed, size_px=SIZE_PX)


def stack(compound: Compound = CONTROL, *, z_steps: int = 1, time: int = 1) -> SimulatedStack:
    role = Role.CONTROL if compound is CONTROL else Role.REFERENCE
    plan = WellPlan(WellPosition.parse("C04"), compound, 0.0 if compound is CONTROL else 30.0, role)
    return render_stack(plan, 1, plate="P", seed=0, size_px=SIZE_PX, z_steps=z_steps, time=time)


def change(treated: SimulatedSite, control: SimulatedSite, channel: int) -> NDArray[np.float64]:
    """How far each pixel of a channel moved, in raw counts."""
    moved: NDArray[np.float64] = np.abs(treated.pixels[channel].astype(np.float64) - control.pixels[channel])
    return moved


def test_the_same_arguments_give_the_same_pixels() -> None:
    one, other = site(), site()
    assert np.array_equal(one.pixels, other.pixels)
    assert np.array_equal(one.mask, other.mask)


def test_seed_and_well_vary_the_cells() -> None:
    pictures = [site(), site(seed=1), site(well="C05")]
    assert not np.array_equal(pictures[0].pixels, pictures[1].pixels)
    assert not np.array_equal(pictures[0].pixels, pictures[2].pixels)


def test_every_plane_is_what_a_16_bit_camera_gives() -> None:
    expected = Expected.of(Expect(bit_depth=16, channels=dict.fromkeys(["DNA"], "1")))
    for seed in range(4):
        pixels = site(seed=seed).pixels
        assert pixels.shape == (5, SIZE_PX, SIZE_PX)
        assert pixels.dtype == np.uint16
        for plane in pixels:
            measures = examine(plane, expected)
            assert not isinstance(measures, Refusal)
            assert measures.minimum >= 100  # the camera's offset
            assert measures.observed_bits >= 13
            assert measures.saturated_fraction < 0.001


def test_nothing_is_planted_in_a_control() -> None:
    assert not site().mask.any()


@pytest.mark.parametrize("phenotype", PHENOTYPES.values(), ids=list(PHENOTYPES))
def test_an_effect_changes_its_own_channels_and_not_one_pixel_of_another(phenotype: Phenotype) -> None:
    treated, control = site(REFERENCE[phenotype.name]), site()
    for index, channel in enumerate(CHANNELS):
        same = np.array_equal(treated.pixels[index], control.pixels[index])
        assert same == (channel not in phenotype.channels)


@pytest.mark.parametrize("name", PHENOTYPES)
def test_the_mask_says_in_which_channel_and_where_an_effect_was_planted(name: str) -> None:
    treated, control = site(REFERENCE[name]), site()
    (channel,) = PHENOTYPES[name].channels
    index = CHANNELS.index(channel)
    assert set(np.unique(treated.mask)) == {0, 1 << index}
    inside = treated.mask > 0
    assert 0.02 < inside.mean() < 0.98
    moved = change(treated, control, index)
    assert moved[inside].mean() > 3 * moved[~inside].mean()


@pytest.mark.parametrize("name", PHENOTYPES)
def test_the_picture_departs_from_the_control_as_the_concentration_grows(name: str) -> None:
    (channel,) = PHENOTYPES[name].channels
    index, control = CHANNELS.index(channel), site()
    moved = [change(site(REFERENCE[name], dose), control, index).mean() for dose in (0.1, 0.3, 1.0, 30.0)]
    assert moved == sorted(moved)
    assert moved[-1] > 1.5 * moved[0]


@pytest.mark.parametrize("name", PHENOTYPES)
def test_an_effect_is_no_mere_change_of_brightness(name: str) -> None:
    (channel,) = PHENOTYPES[name].channels
    index = CHANNELS.index(channel)
    treated, control = site(REFERENCE[name]).pixels[index], site().pixels[index]
    assert treated.mean() == pytest.approx(control.mean(), rel=0.02)


def test_a_dose_without_effect_leaves_the_well_as_it_would_be() -> None:
    treated = site(REFERENCE["er_stress"], 0.001)
    assert np.array_equal(treated.pixels, site().pixels)
    assert not treated.mask.any()


def test_cells_do_not_lie_on_each_other_and_none_is_lost_in_its_map() -> None:
    rng = generator(0, "cells")
    cells = populate(400.0, 430.0, rng)
    gaps = np.hypot(*(cells.centre_um[:, None] - cells.centre_um[None, :]).transpose(2, 0, 1))
    assert gaps[~np.eye(len(cells), dtype=bool)].min() > 20
    maps = map_cells(cells, 334, PIXEL_SIZE_UM)
    inside = ((cells.centre_um > 0) & (cells.centre_um < 333 * PIXEL_SIZE_UM)).all(axis=1)
    at = np.rint(cells.centre_um[inside] / PIXEL_SIZE_UM).astype(int)
    assert np.array_equal(maps.label[at[:, 0], at[:, 1]], np.flatnonzero(inside) + 1)


def test_wells_differ_in_density_as_real_ones_do() -> None:
    dna = [site(well=position.name).pixels[0] for position in plate_wells(96)[:12]]
    filled = [float((plane > 1500).mean()) for plane in dna]
    assert max(filled) > 1.2 * min(filled)


@pytest.mark.parametrize("z_steps", [1, 2, 3, 5])
def test_the_middle_of_a_stack_is_the_site_as_one_step_shows_it(z_steps: int) -> None:
    made = stack(z_steps=z_steps)
    assert made.pixels.shape == (5, z_steps, SIZE_PX, SIZE_PX)
    assert np.array_equal(made.pixels[:, (z_steps - 1) // 2], site().pixels)
    assert np.array_equal(made.mask, site().mask)


def test_a_stack_is_blurred_and_dimmer_the_farther_from_its_middle() -> None:
    pixels = stack(z_steps=5).pixels.astype(np.float64)
    for channel in pixels:
        fine = [float(np.abs(np.diff(step, axis=0)).mean()) for step in channel]
        bright = [float(step.mean()) for step in channel]
        for values in (fine, bright):
            assert values[0] < values[1] < values[2] > values[3] > values[4]


def test_no_two_planes_of_a_lapse_share_their_noise_though_the_cells_stay() -> None:
    first, second, third = (stack(time=time).pixels[0, 0].astype(np.float64) for time in (1, 2, 3))
    for one, other in ((first, second), (second, third), (first, third)):
        assert not np.array_equal(one, other)
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.85


def test_an_effect_is_planted_at_every_time_point() -> None:
    for time in (1, 2):
        assert stack(REFERENCE["er_stress"], time=time).mask.any()
