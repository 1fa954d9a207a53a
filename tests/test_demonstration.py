"""The demonstration package that ships: what it must be, and that its card tells the truth. And how it is made."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from hcs_daemon.demo_package.cells import CLASSES, Cells, learning_plan, render, screen_plan
from hcs_daemon.demo_package.figures import explain, judge
from hcs_daemon.demo_package.model import choose_references, count_nuclei, learn, make_tiler
from hcs_daemon.device.manifest import CARD_NAME, WEIGHTS_NAME, Manifest, package_folder, read_manifest
from hcs_daemon.device.package import Package, load_package
from hcs_daemon.errors import PackageError
from hcs_daemon.simulate.compounds import CHANNELS, PHENOTYPES
from hcs_daemon.simulate.site import PIXEL_SIZE_UM
from hcs_daemon.training.evaluation import share
from hcs_daemon.training.learning import Recipe, site_logits
from hcs_daemon.training.network import CellNetwork

UNSEEN_SEED = 1  # the package that ships was made with seed 0
QUICK = Recipe(steps=2, batch=4, threads=1)


@pytest.fixture(scope="module")
def shipped() -> Package:
    return load_package(package_folder("demo"))


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read_manifest(package_folder("demo"))


@pytest.fixture(scope="module")
def text() -> str:
    return (package_folder("demo") / CARD_NAME).read_text("utf-8")


@pytest.fixture(scope="module")
def few_cells() -> Cells:
    return render(["TRAIN01"], lambda plate, seed: learning_plan(plate, seed, wells=6), 0)


def figure(text: str, name: str) -> tuple[float, float, float]:
    """A share in the card with its interval."""
    match = re.search(rf"{re.escape(name)}: \d+ of \d+ = ([\d.]+) \(95 % interval ([\d.]+) to ([\d.]+)\)", text)
    assert match is not None, name
    return float(match[1]), float(match[2]), float(match[3])


# ---- what ships


def test_the_shipped_weights_are_those_of_its_manifest(manifest: Manifest) -> None:
    weights = (package_folder("demo") / WEIGHTS_NAME).read_bytes()
    assert hashlib.sha256(weights).hexdigest() == manifest.weights_sha256


def test_the_shipped_weights_are_well_under_two_megabytes() -> None:
    assert (package_folder("demo") / WEIGHTS_NAME).stat().st_size < 1_000_000


def test_the_shipped_package_stays_small_as_a_whole() -> None:
    assert sum(path.stat().st_size for path in package_folder("demo").iterdir()) < 5_000_000


def test_the_shipped_package_passes_its_self_test(shipped: Package) -> None:
    assert shipped.selftest_error < 1e-4


def test_the_manifest_says_that_it_is_a_demonstration(manifest: Manifest) -> None:
    assert manifest.demonstration
    assert manifest.channel_names == CHANNELS
    assert manifest.classes == ("control", *PHENOTYPES)


def test_the_card_says_in_its_first_lines_that_it_is_for_demonstration(text: str) -> None:
    assert "for demonstration only" in " ".join(text.splitlines()[:3]).lower()


def test_the_card_reports_a_network_that_is_mostly_right_and_for_the_right_reason(text: str) -> None:
    _, right, _ = figure(text, "Wells with the right class")
    _, first, _ = figure(text, "Affected channel ranked first by exact channel Shapley values")
    assert right > 0.9
    assert first > 0.9


@pytest.mark.parametrize("count", [1, 7])
def test_the_exported_program_takes_any_number_of_tiles(shipped: Package, count: int) -> None:
    tiles = torch.from_numpy(np.resize(shipped.selftest.input, (count, *shipped.selftest.input.shape[1:])))
    with torch.inference_mode():
        outputs = shipped.program(tiles)
    assert outputs["logits"].shape == (count, len(CLASSES))
    assert outputs["embedding"].shape[0] == outputs["feature_map"].shape[0] == count
    assert outputs["embedding"].shape[1] <= 64


def test_every_class_has_references_from_different_wells_that_the_network_calls_by_their_name(shipped: Package) -> None:
    tiler = make_tiler()
    for number, name in enumerate(CLASSES):
        assert len(set(shipped.manifest.references[name])) == 4
        found = site_logits(shipped.program, shipped.references[name].astype(np.uint16), tiler, PIXEL_SIZE_UM)
        assert (found.argmax(axis=1) == number).all(), name


def test_a_real_site_gives_modest_scores(shipped: Package, shared_data: Path) -> None:
    folder = shared_data / "opera-phenix-6ch" / "Images"
    files = [folder / f"r03c03f03p01-ch{channel}sk1fk1fl1.tiff" for channel in (5, 2, 6, 3, 4)]
    site = np.stack([tifffile.imread(file) for file in files])
    logits = site_logits(shipped.program, site[None], make_tiler(), 0.598)
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() < 30


@pytest.mark.slow
def test_on_unseen_plates_the_verdicts_are_as_right_as_the_card_says(shipped: Package, text: str) -> None:
    plates = [f"FRESH{number}" for number in range(1, 5)]
    verdicts = judge(shipped, render(plates, screen_plan, UNSEEN_SEED))
    _, low, _ = figure(text, "Wells with the right class")
    assert share(verdicts.right).value >= low


@pytest.mark.slow
def test_on_an_unseen_plate_the_affected_channel_ranks_first_and_explanations_hold(shipped: Package) -> None:
    cells = render(["FRESH1"], lambda plate, seed: screen_plan(plate, seed)[:48], UNSEEN_SEED)
    reasons = explain(shipped, cells, judge(shipped, cells), most=30, report=ignore)
    assert reasons.first.of >= 10
    assert reasons.first.value >= 0.9
    assert reasons.checked.value >= 0.9


# ---- how it is made


def test_the_same_seed_gives_the_same_cells_and_the_same_weights(few_cells: Cells) -> None:
    again = render(["TRAIN01"], lambda plate, seed: learning_plan(plate, seed, wells=6), 0)
    assert (again.pixels == few_cells.pixels).all()
    first, second = (weights(learn(cells.labelled, 0, QUICK, ignore)) for cells in (few_cells, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_weights(few_cells: Cells) -> None:
    first, second = (weights(learn(few_cells.labelled, seed, QUICK, ignore)) for seed in (0, 1))
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_learning_leaves_torch_as_it_was(few_cells: Cells) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    learn(few_cells.labelled, 0, Recipe(steps=1, batch=2, threads=threads + 1), ignore)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_plate_to_learn_from_has_every_class_and_effects_of_every_strength() -> None:
    plans = learning_plan("TRAIN01", seed=0)
    assert {plan.class_name for plan in plans} == set(CLASSES)
    strengths, _ = np.histogram([plan.effect_strength for plan in plans if plan.effect_strength], range=(0, 1), bins=4)
    assert (strengths > 3).all()


def test_a_network_that_has_learned_nothing_is_given_no_references(few_cells: Cells) -> None:
    network = CellNetwork(len(CHANNELS), len(CLASSES)).eval()
    with pytest.raises(PackageError, match="0 training wells show control clearly"):
        choose_references(network, few_cells)


def test_nuclei_are_counted() -> None:
    y, x = np.mgrid[:135, :135]
    places = [(30, 30), (30, 100), (100, 60)]
    dna = np.full((135, 135), 300.0)
    for row, column in places:
        dna[(y - row) ** 2 + (x - column) ** 2 < 49] = 6000.0
    assert count_nuclei(dna.astype(np.uint16)) == len(places)


def weights(network: CellNetwork) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in network.named_parameters()}


def ignore(_step: int, _figure: float) -> None:
    """Nobody watches."""
