"""Learning from labelled sites, on pictures whose class anybody can see."""

import numpy as np
import pytest
import torch

from hcs_daemon.device.manifest import ChannelEntry, Manifest, Normalisation
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.training import learning
from hcs_daemon.training.learning import LabelledSites, Recipe, best_temperature, site_logits, teach
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
    corners = [site[0, :, row : row + 16, column : column + 16] for row in (0, 8) for column in (0, 8)]
    with torch.inference_mode():
        tiles = torch.stack([tiler().normalised(torch.from_numpy(tile.astype(np.float32))) for tile in corners])
        wanted = network(tiles)["logits"].mean(dim=0).numpy()
    assert site_logits(network, site, tiler(), 1.0)[0] == pytest.approx(wanted, abs=1e-5)


def test_every_site_is_seen_once_a_round() -> None:
    batches = list(learning._batches(10, Recipe(steps=5, batch=4), np.random.default_rng(0)))
    seen = np.concatenate(batches)
    assert [len(batch) for batch in batches] == [4] * 5
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


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
