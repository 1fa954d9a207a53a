"""A network of random weights, whose self-test passes, is found out; one that has learned is not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hcs_daemon.demo_package.figures import as_site
from hcs_daemon.device.inference import Network
from hcs_daemon.device.manifest import package_folder
from hcs_daemon.device.methods import Pixel
from hcs_daemon.device.package import Package, load_package
from hcs_daemon.device.question import Model, Question
from hcs_daemon.device.randomisation import ALIKE_LIMIT, randomise, randomised_words
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.errors import PackageError
from hcs_daemon.plate import plate_wells
from hcs_daemon.records import ExplainTask, Randomisation, SiteWanted
from hcs_daemon.simulate.compounds import CONTROL_CLASS, CONTROL_COMPOUND
from hcs_daemon.simulate.layout import plan_compounds
from hcs_daemon.simulate.site import render_site
from hcs_daemon.telemetry import Telemetry, parse_metrics
from hcs_daemon.training.network import CellNetwork
from hcs_daemon.training.packaging import write_package
from model_packages import ChannelMeans, package_of

CPU = torch.device("cpu")


def outcome(package: Package) -> Randomisation:
    return randomise(package, Tiler(package.manifest, CPU), CPU)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On a busy machine torch's threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def demo() -> Package:
    return load_package(package_folder("demo"))


def random_network(seed: int) -> CellNetwork:
    """The demonstration's network as it was before it learned."""
    torch.manual_seed(seed)
    made = CellNetwork(5, 6).eval()
    made.fold()
    return made


def rerecorded(demo: Package, folder: Path, seed: int) -> Path:
    """The demonstration's package with random weights, whose self-test was recorded again from them."""
    write_package(
        folder,
        module=random_network(seed),
        manifest_fields=demo.manifest.model_dump(exclude={"weights_sha256", "schema_"}),
        selftest_input=demo.selftest.input,
        references=demo.references,
        card="# random\n",
    )
    return folder


def test_random_weights_are_refused_by_the_self_test_of_the_package(demo: Package, tmp_path: Path) -> None:
    folder = rerecorded(demo, tmp_path / "random", 1)
    (folder / "selftest.npz").write_bytes((demo.folder / "selftest.npz").read_bytes())
    with pytest.raises(PackageError, match="self-test fails"):
        load_package(folder)


def test_random_weights_with_a_self_test_of_their_own_fail_the_checks_of_explanations(
    demo: Package, tmp_path: Path
) -> None:
    package = load_package(rerecorded(demo, tmp_path / "random", 1))
    telemetry = Telemetry("test")
    device = Network(package, CPU, telemetry, explain=True)
    plan = plan_compounds(plate_wells(96)[:1], [(CONTROL_COMPOUND, 0.0)])[0]
    pixels = render_site(plan, 1, plate="P", seed=3, size_px=135).pixels
    site = as_site("P", plan, pixels)
    target = next(name for name in package.manifest.classes if name != CONTROL_CLASS)
    answer = device.explain(ExplainTask(SiteWanted(site.id, site.key, target, CONTROL_CLASS), site))
    assert answer.attribution is not None
    assert not answer.attribution.checks.passed
    assert "randomisation" in answer.attribution.checks.failed
    assert device.facts.randomisation is not None
    assert "do NOT hold" in randomised_words(device.facts.randomisation)
    assert "random weights" in device.facts.randomisation.problem
    assert parse_metrics(telemetry.render().decode())['hcs_explanations_total{result="failed"}'] == 1


@pytest.mark.parametrize("seed", range(2))
def test_a_network_that_learned_nothing_is_found_out_whatever_its_weights(demo: Package, seed: int) -> None:
    found = outcome(replace(demo, program=random_network(seed).requires_grad_(requires_grad=False)))
    assert found.problem


def test_the_demonstration_knows_its_references_and_its_maps_change(demo: Package) -> None:
    before = {name: weights.clone() for name, weights in demo.program.named_parameters()}
    found = outcome(demo)
    assert found.problem == ""
    assert found.named is not None
    assert found.named_at_random is not None
    assert found.named > found.named_at_random
    assert abs(found.maps_alike[-1]) < ALIKE_LIMIT
    assert all(torch.equal(weights, before[name]) for name, weights in demo.program.named_parameters())
    assert outcome(demo) == found


class Light:
    """A map of where there is light, whatever the network says."""

    words = "light"
    sums_to_change = False

    def attribute(self, _model: Model, question: Question) -> Pixel:
        """The tiles themselves, less the reference."""
        return np.asarray((question.tiles - question.references[0]).numpy(), np.float32)


def test_a_map_that_does_not_ask_the_network_is_found_out(demo: Package) -> None:
    found = randomise(demo, Tiler(demo.manifest, CPU), CPU, Light())
    assert found.maps_alike == pytest.approx((1.0,) * len(found.maps_alike))
    assert "its maps hardly change" in found.problem


class Blank(Light):
    """A map that says nothing; after so many calls, of values that are no numbers."""

    def __init__(self, good: float) -> None:
        self._good = good

    def attribute(self, model: Model, question: Question) -> Pixel:
        """All zeros, then all NaN."""
        self._good -= 1
        return np.zeros_like(super().attribute(model, question)) if self._good >= 0 else np.full((1, 5, 9, 9), np.nan)


def test_maps_that_are_blank_or_no_numbers_do_not_count_as_changed(demo: Package) -> None:
    blank = randomise(demo, Tiler(demo.manifest, CPU), CPU, Blank(np.inf))
    assert "its maps hardly change" in blank.problem
    broken = randomise(demo, Tiler(demo.manifest, CPU), CPU, Blank(2))
    assert "its maps cannot be compared" in broken.problem


def test_references_of_the_control_alone_cannot_tell_what_a_network_knows() -> None:
    found = outcome(package_of(ChannelMeans([[0.0] * 3, [1.0, -2.0, 3.0], [0.0, 2.0, 0.0]])))
    assert (found.named, found.named_at_random) == (None, None)
    assert found.problem == ""


class Fixed(nn.Module):
    """No weights at all."""

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """Each channel's mean stands for a class."""
        means = tiles.mean(dim=(2, 3))
        return {"logits": means, "embedding": means, "feature_map": tiles[:, :, ::6, ::6]}


def test_a_network_without_weights_has_none_to_randomise() -> None:
    assert outcome(package_of(Fixed())) == Randomisation((), None, None, "")
