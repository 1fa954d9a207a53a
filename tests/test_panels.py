"""Panels: pixels reduced to what a picture shows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.plate import SiteId
from hcs_daemon.publish.panels import HEAT_PX, PANEL_PX, attribution_panels, reduce_plane, site_panels
from hcs_daemon.records import Site, SiteWanted
from wells import attribution_of, site_images, well_id

SITE = SiteId(well_id(), 1)
WANTED = SiteWanted(SITE, ("0" * 64,), "much_DNA", "control")


def site_with(height: int, width: int) -> Site:
    rows = np.arange(height, dtype=np.uint16)[:, None] * np.uint16(10)
    planes = np.broadcast_to(rows, (5, height, width))
    return Site(SITE, site_images(SITE), planes, pixel_size_um=0.5)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90))
def test_no_side_is_longer_than_asked_and_none_vanishes(height: int, width: int, longest: int) -> None:
    reduced = reduce_plane(np.zeros((height, width), np.uint16), longest)
    assert max(reduced.shape) <= max(longest, 1)
    assert min(reduced.shape) >= 1


def test_a_small_plane_is_not_enlarged() -> None:
    plane = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert np.array_equal(reduce_plane(plane, 100), plane)


def test_a_new_pixel_is_the_mean_over_its_area() -> None:
    plane = np.arange(16, dtype=np.uint16).reshape(4, 4)
    assert reduce_plane(plane, 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_a_site_keeps_its_shape_its_counts_and_its_size_in_micrometres() -> None:
    panels = site_panels(site_with(2 * PANEL_PX, 4 * PANEL_PX))
    assert panels.pixels.shape == (5, PANEL_PX // 2, PANEL_PX)
    assert panels.pixels.dtype == np.uint16
    assert panels.pixels[0, 0, 0] == 15  # the mean of rows 0 to 3
    assert panels.um_per_px * panels.pixels.shape[2] == pytest.approx(0.5 * 4 * PANEL_PX)


def test_the_sum_of_the_heat_stays() -> None:
    rng = np.random.default_rng(0)
    heat = rng.normal(0.1, 1.0, (5, 3 * HEAT_PX, 3 * HEAT_PX)).astype(np.float32)
    panels = attribution_panels(attribution_of(WANTED, heat=heat), model_pixel_size_um=1.0)
    assert panels.heat.shape == (5, HEAT_PX, HEAT_PX)
    assert panels.heat.sum(axis=(1, 2)) == pytest.approx(heat.sum(axis=(1, 2)), rel=1e-4)


def test_the_control_keeps_its_size_in_micrometres() -> None:
    reference = np.zeros((5, 2 * PANEL_PX, 2 * PANEL_PX), np.uint16)
    panels = attribution_panels(attribution_of(WANTED, reference_pixels=reference), model_pixel_size_um=1.2)
    assert panels.reference.shape == (5, PANEL_PX, PANEL_PX)
    assert panels.reference_um_per_px == pytest.approx(2.4)
    assert panels.reference_name == "darkness"


@pytest.mark.parametrize("passed", [True, False])
def test_whether_the_checks_passed_is_kept(passed: bool) -> None:  # noqa: FBT001 (pytest hands it over by position)
    found = attribution_of(WANTED)
    found = replace(found, checks=replace(found.checks, passed=passed))
    assert attribution_panels(found, 1.0).passed is passed
