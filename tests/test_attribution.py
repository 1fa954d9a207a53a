import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from hcs_daemon.device.attribution import Explainer
from hcs_daemon.device.package import Package
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.records import Attribution
from model_packages import ChannelMeans, manifest, package_of, site_of

CPU = torch.device("cpu")
WEIGHTS = [[0.0, 0.0, 0.0], [1.0, 0.0, 3.0], [0.0, 2.0, 0.0]]


def explain(
    package: Package, pixels: NDArray[np.uint16], target: str = "broken", against: str = "control"
) -> Attribution:
    explainer = Explainer(package, Tiler(package.manifest, CPU), CPU)
    found = explainer.explain(site_of(pixels), target, against)
    assert isinstance(found, Attribution), found
    return found


def flat_site(*levels: int, side: int = 36) -> NDArray[np.uint16]:
    return np.stack([np.full((side, side), level, np.uint16) for level in levels])


def noisy_site(side: int = 36) -> NDArray[np.uint16]:
    return np.random.default_rng(5).integers(100, 900, (3, side, side), dtype=np.uint16)


# ---- explanations of networks whose answer is known


def test_a_linear_network_is_explained_exactly() -> None:
    found = explain(package_of(ChannelMeans(WEIGHTS)), flat_site(200, 300, 400))
    # the references are 0.0 and 0.1 in every channel, the site 1, 2 and 3
    np.testing.assert_allclose(list(found.channel_shapley.values()), [0.95, 0.0, 3 * 2.95], rtol=1e-5)
    assert found.contrast == pytest.approx(10.0)
    assert found.reference_contrast == pytest.approx(0.2)
    assert found.channel_spread is not None
    np.testing.assert_allclose(list(found.channel_spread.values()), np.array([0.1, 0, 0.3]) / 2**0.5, rtol=1e-4)
    assert found.checks.completeness_error < 1e-5
    assert found.checks.efficiency_error < 1e-6


def test_the_channel_that_the_network_looks_at_gets_all_of_the_map() -> None:
    only_mito = ChannelMeans([[0.0, 0.0, 0.0], [0.0, 0.0, 4.0], [0.0, 0.0, 0.0]], nn.Tanh())
    found = explain(package_of(only_mito), noisy_site())
    assert found.heat.shape == (3, 36, 36)
    np.testing.assert_allclose(found.heat[:2], 0.0, atol=1e-9)
    assert max(found.channel_shapley, key=lambda name: found.channel_shapley[name]) == "Mito"
    assert found.checks.passed


def test_the_map_sums_to_the_change_also_where_tiles_overlap() -> None:
    found = explain(package_of(ChannelMeans(WEIGHTS, nn.Tanh())), noisy_site(side=50))
    assert found.heat.sum(dtype=np.float64) == pytest.approx(found.contrast - found.reference_contrast, rel=0.01)


def test_shapley_values_sum_to_the_change_in_the_logit() -> None:
    found = explain(package_of(ChannelMeans(WEIGHTS, nn.Tanh())), noisy_site())
    change = found.contrast - found.reference_contrast
    assert sum(found.channel_shapley.values()) == pytest.approx(change, abs=1e-5)


class Steps(nn.Module):
    """Flat everywhere but at its jumps: gradients say nothing of it."""

    def forward(self, means: torch.Tensor) -> torch.Tensor:
        """Whole numbers."""
        return torch.floor(means)


def test_an_explanation_that_is_not_complete_fails_its_checks() -> None:
    found = explain(package_of(ChannelMeans(WEIGHTS, Steps())), flat_site(400, 400, 400))
    assert found.checks.completeness_error == pytest.approx(1.0)
    assert not found.checks.passed


def test_deleting_what_the_map_names_lowers_the_probability_faster_than_chance() -> None:
    found = explain(package_of(ChannelMeans(WEIGHTS)), noisy_site())
    assert found.checks.deletion_auc < found.checks.random_deletion_auc
    assert found.checks.passed


def test_without_a_change_nothing_is_explained() -> None:
    found = explain(package_of(ChannelMeans([[0.0] * 3] * 3)), noisy_site())
    assert found.contrast == found.reference_contrast == 0.0
    assert not found.checks.passed


def test_the_same_site_is_explained_the_same_again() -> None:
    package = package_of(ChannelMeans(WEIGHTS, nn.Tanh()))
    first, again = explain(package, noisy_site()), explain(package, noisy_site())
    assert (first.channel_shapley, first.checks) == (again.channel_shapley, again.checks)


# ---- references


def with_references_of(*classes: str) -> Package:
    rng = np.random.default_rng(3)
    sites = {name: rng.integers(100, 200, (2, 3, 18, 18), dtype=np.uint16) for name in classes}
    names = {name: (f"{name} A01", f"{name} A02") for name in classes}
    return package_of(ChannelMeans(WEIGHTS), manifest(references=names), sites)


def test_a_hit_is_explained_against_control_sites() -> None:
    found = explain(with_references_of("control", "broken"), noisy_site())
    assert found.reference == "mean over 2 control sites: control A01; control A02"
    assert found.reference_name.startswith("control, control A0")


def test_a_control_is_explained_against_sites_of_the_runner_up_where_there_are_some() -> None:
    package = with_references_of("control", "broken")
    assert explain(package, noisy_site(), "control", "broken").reference.startswith("mean over 2 broken sites")


def test_a_control_is_not_explained_against_sites_of_the_control() -> None:
    package = with_references_of("control", "broken")
    explainer = Explainer(package, Tiler(package.manifest, CPU), CPU)
    found = explainer.explain(site_of(noisy_site()), "control", "odd")
    assert found == "the model package has no reference sites of odd to compare control with"


def test_the_reference_that_is_shown_is_the_one_most_like_the_site() -> None:
    package = package_of(ChannelMeans(WEIGHTS))  # flat ones of 100 and of 110 counts
    found = explain(package, flat_site(300, 300, 300))
    assert found.reference_name == "control, control well A02"
    assert np.unique(found.reference_pixels).tolist() == [110]


def test_one_reference_has_no_spread() -> None:
    made = manifest(references={"control": ("control A01",)})
    sites = {"control": np.full((1, 3, 18, 18), 100, np.uint16)}
    found = explain(package_of(ChannelMeans(WEIGHTS), made, sites), noisy_site())
    assert found.channel_spread is None
    assert found.reference == "mean over 1 control site: control A01"


# ---- what cannot be explained


def test_a_site_that_cannot_be_shown_to_the_model_cannot_be_explained() -> None:
    package = package_of(ChannelMeans(WEIGHTS))
    explainer = Explainer(package, Tiler(package.manifest, CPU), CPU)
    found = explainer.explain(site_of(flat_site(1, 2, 3, side=10)), "broken", "control")
    assert isinstance(found, str)
    assert "smaller than the 18 pixels" in found
