"""Learning from labelled sites, on pictures whose class anybody can see."""

import numpy as np
import pytest
import torch

from hcs_daemon.device.manifest import ChannelEntry, Manifest, Normalisation
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.training import learning
from hcs_daemon.training.learning import (
    LabelledSites,
    Lesson,
    Recipe,
    best_temperature,
    cautious_temperature,
    site_logits,
    teach,
)
from hcs_daemon.training.network import CellNetwork

TILE_PX = 16
RECIPE = Recipe(steps=30, batch=8, peak_rate=0.02, camera_offset=100.0, threads=1)


def tiler() -> Tiler:
    made = Manifest(
        schema="hcs-daemon/model-package/1",
        name="stripes",
        version="1",
        channels=(ChannelEntry(name="A"), ChannelEntry(name="B")),
        container="uint16",
        bit_depth=16,
        tile_px=TILE_PX,
        pixel_size_um=1.0,
        normalisation=(Normalisation(kind="asinh", offset=100.0, scale=300.0),) * 2,
        classes=("flat", "striped"),
        control_class="flat",
        references={"flat": ("none",)},
        weights_sha256="0" * 64,
    )
    return Tiler(made, torch.device("cpu"))


def sites(count: int, seed: int) -> LabelledSites:
    """Noise in two channels; every second site has stripes in the second, of the same mean."""
    rng = np.random.default_rng(seed)
    pixels = rng.poisson(800, (count, 2, 24, 24)).astype(np.uint16)
    labels = np.arange(count) % 2
    stripes = np.where(np.arange(24) // 2 % 2, 400, -400)
    pixels[labels == 1, 1] += stripes.astype(np.uint16)  # wraps, and so subtracts
    return LabelledSites(pixels, labels)


def taught(seed: int, losses: list[float] | None = None) -> CellNetwork:
    torch.manual_seed(seed)
    network = CellNetwork(2, 2, width=4, features=8)
    teach(
        network,
        sites(16, seed=0),
        tiler=tiler(),
        tile_px=TILE_PX,
        control=0,
        recipe=RECIPE,
        rng=np.random.default_rng(seed),
        report=lambda _step, loss: (losses if losses is not None else []).append(loss),
    )
    network.fold()
    return network


def test_what_can_be_seen_is_learned() -> None:
    losses: list[float] = []
    network = taught(0, losses)
    unseen = sites(20, seed=1)
    found = site_logits(network, unseen.pixels, tiler(), 1.0).argmax(axis=1)
    assert len(losses) == RECIPE.steps
    assert np.mean(losses[-5:]) < losses[0] / 2
    assert (found == unseen.labels).all()


def test_the_same_start_gives_the_same_weights() -> None:
    first, second = taught(3), taught(3)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_sites_logits_are_the_mean_over_its_tiles() -> None:
    network, site = taught(0), sites(1, seed=2).pixels
    pixels = np.asarray(site[0])
    corners = [pixels[:, row : row + 16, column : column + 16] for row in (0, 8) for column in (0, 8)]
    with torch.inference_mode():
        tiles = torch.stack([tiler().normalised(torch.from_numpy(tile.astype(np.float32))) for tile in corners])
        wanted = network(tiles)["logits"].mean(dim=0).numpy()
    assert site_logits(network, site, tiler(), 1.0)[0] == pytest.approx(wanted, abs=1e-5)


def lesson(recipe: Recipe, given: LabelledSites) -> Lesson:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = CellNetwork(2, 2, width=4, features=8)
    return Lesson(network, given, tiler=tiler(), tile_px=TILE_PX, control=0, recipe=recipe, rng=rng)


def test_every_site_is_seen_once_a_round() -> None:
    going = lesson(Recipe(steps=5, batch=4), sites(10, seed=0))
    batches = [going._batch() for _ in range(5)]
    seen = np.concatenate(batches)
    assert [len(batch) for batch in batches] == [4] * 5
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


def test_a_small_class_is_seen_as_often_as_a_large_one_when_asked_for() -> None:
    given = sites(10, seed=0)
    labels = np.array([0] * 8 + [1] * 2)
    going = lesson(Recipe(steps=5, batch=16, balanced=True), LabelledSites(given.pixels, labels))
    batch = going._batch()
    assert np.bincount(labels[batch]).tolist() == [8, 8]
    assert set(batch) == set(range(10))


def test_a_lesson_that_was_put_down_and_taken_up_gives_the_same_weights() -> None:
    recipe = Recipe(steps=6, batch=4, camera_offset=100.0)
    whole, begun, taken_up = (lesson(recipe, sites(10, seed=0)) for _ in range(3))
    for _ in range(6):
        whole.step()
    for _ in range(3):
        begun.step()
    taken_up.restore(begun.state())
    for _ in range(3):
        taken_up.step()
    for name, weights in whole.network.state_dict().items():
        assert torch.equal(taken_up.network.state_dict()[name], weights)


def test_a_channel_varies_by_its_own_spread_about_its_own_dark_level() -> None:
    recipe = Recipe(gain_spread=(0.0, 0.5), offset_spread=0.0, camera_offset=(0.0, 100.0))
    site = np.full((2, TILE_PX, TILE_PX), 300, np.uint16)
    views = np.stack([learning._view(site, TILE_PX, recipe, np.random.default_rng(seed)) for seed in range(20)])
    assert (views[:, 0] == 300.0).all()
    assert views[:, 1].std() > 20.0
    assert views[:, 1].min() > 100.0  # what is dark stays dark


def test_a_few_wells_that_are_all_right_do_not_make_a_verdict_certain() -> None:
    logits = np.array([[4.0, 0.0], [0.0, 4.0]] * 3)
    labels = np.array([0, 1] * 3)
    temperature = cautious_temperature(logits, labels)
    sure = 1 / (1 + np.exp(-4.0 / temperature))
    assert sure == pytest.approx(7 / 8, abs=1e-3)  # (n + 1) / (n + 2) of six wells


def test_a_mixture_of_controls_takes_each_channel_from_some_control_and_leaves_the_others_alone() -> None:
    views = np.arange(40, dtype=np.float32)[:, None, None, None] + np.zeros((1, 3, 2, 2), np.float32)
    before = views.copy()
    controls = np.arange(0, 40, 2)
    learning._mix(views, controls, 0.5, np.random.default_rng(0))
    assert (views[1::2] == before[1::2]).all()
    assert (views[controls] != before[controls]).any()
    assert np.isin(views[controls], controls).all()


def test_the_best_temperature_is_that_by_which_the_logits_were_too_large() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (4000, 3))
    chances = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1)
    assert best_temperature(true * 3.0, labels) == pytest.approx(3.0, rel=0.1)
