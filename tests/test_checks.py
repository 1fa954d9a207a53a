"""Each check of an explanation, on networks and maps whose right answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from hcs_daemon.device.checks import check, foreground, noise_of, share_inside
from hcs_daemon.device.methods import ExpectedGradients, Pixel
from hcs_daemon.device.question import Model, Question
from hcs_daemon.device.shapley import channel_shares
from hcs_daemon.records import ExplanationChecks
from model_packages import ChannelMeans

CPU = torch.device("cpu")
SIDE = 27
METHOD = ExpectedGradients()


class Spot(nn.Module):
    """Two classes; the second speaks of the light of the first channel in one ninth of the tile."""

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, channels, side, side) to logits."""
        light = 8 * tiles[:, 0, :9, :9].mean(dim=(1, 2)) - 4
        return {"logits": torch.stack([torch.zeros_like(light), light], dim=1), "embedding": light[:, None]}


def question(seed: int = 1, before: float = 0.0) -> Question:
    """A noisy bright tile against a noisy dark one, in three channels. before: how bright the dark one is."""
    lots = torch.Generator().manual_seed(seed)
    tiles = 1 + 0.1 * torch.randn(1, 3, SIDE, SIDE, generator=lots)
    dark = before + 0.1 * torch.randn(1, 3, SIDE, SIDE, generator=lots)
    return Question(tiles, (dark,), 1, 0, seed)


def checked(program: nn.Module, asked: Question, heat: Pixel | None = None) -> ExplanationChecks:
    """heat: by expected gradients where it is not given."""
    model = Model(program.requires_grad_(requires_grad=False), 8, CPU)
    own = METHOD.attribute(model, asked) if heat is None else heat
    return check(model, asked, METHOD, own, nearest=0, shares=channel_shares(model, asked))


def test_the_true_map_of_a_network_that_looks_at_one_spot_passes_every_check() -> None:
    found = checked(Spot(), question())
    assert found.failed == ()
    assert found.passed
    assert found.completeness_error < 1e-3
    assert found.deletion_auc < found.random_deletion_auc
    assert found.insertion_auc is not None
    assert found.insertion_auc > found.random_deletion_auc


def test_a_ranking_by_light_does_not_find_the_spot_and_the_map_does() -> None:
    found = checked(Spot(), question())
    assert found.intensity_deletion_auc is not None
    assert found.deletion_auc < found.intensity_deletion_auc


def test_the_map_upside_down_fails_deletion_and_insertion() -> None:
    asked = question()
    true = METHOD.attribute(Model(Spot(), 8, CPU), asked)
    assert {"deletion", "insertion"} <= set(checked(Spot(), asked, -true).failed)


def test_maps_at_random_fail_more_often_than_not_by_their_order_and_always_by_their_sum() -> None:
    rng = np.random.default_rng(7)
    asked = question()
    found = [checked(Spot(), asked, rng.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)) for _ in range(12)]
    assert all("completeness" in one.failed for one in found)
    assert sum(bool({"deletion", "insertion"} & set(one.failed)) for one in found) > len(found) / 2


def test_a_linear_network_is_complete_and_as_sensitive_to_noise_as_its_input() -> None:
    found = checked(ChannelMeans([[0.0, 0.0, 0.0], [2.0, 0.0, -1.0]]), question())
    assert found.completeness_error < 1e-4
    assert found.noise_sensitivity is not None
    assert 0.05 < found.noise_sensitivity < 0.3  # a tenth of the light is noise


def test_a_constant_network_explains_nothing() -> None:
    found = checked(ChannelMeans([[0.0] * 3] * 2), question())
    assert {"change", "completeness", "deletion"} <= set(found.failed)
    assert found.on_cells is None


def test_references_that_are_called_the_target_themselves_explain_nothing() -> None:
    linear = ChannelMeans([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    assert "change" not in checked(linear, question()).failed
    assert "change" in checked(linear, question(before=0.8)).failed


# ---- noise, cells and background


def noisy_cells() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A tile of two channels with a disc of light in the second, and where the disc is."""
    rows, columns = np.mgrid[:64, :64]
    disc = (rows - 30) ** 2 + (columns - 20) ** 2 < 15**2
    tile = np.random.default_rng(3).normal(scale=0.05, size=(1, 2, 64, 64)).astype(np.float32)
    tile[0, 1][disc] += 1.0
    return tile, disc[None]


def test_noise_is_measured_beside_and_under_cells() -> None:
    np.testing.assert_allclose(noise_of(noisy_cells()[0]), 0.05, rtol=0.1)


def test_cells_are_what_stands_above_the_background_of_any_channel() -> None:
    tile, disc = noisy_cells()
    assert (foreground(tile) == disc).mean() > 0.995


def test_a_tile_without_background_is_parted_by_otsu() -> None:
    tile, disc = noisy_cells()
    tile[0, 0] = tile[0, 1] = np.where(disc[0], 1.0, np.linspace(0, 0.3, 64, dtype=np.float32))
    assert (foreground(tile) == disc).mean() > 0.99


def test_the_share_on_cells_is_of_both_signs() -> None:
    tile, disc = noisy_cells()
    heat = np.zeros_like(tile)
    heat[0, 0][disc[0]] = -1.0 / disc.sum()
    heat[0, 1][~disc[0]] = 1.0 / (~disc).sum()
    assert share_inside(heat, disc) == pytest.approx(0.5)
    assert share_inside(np.zeros_like(tile), disc) is None


def test_the_same_question_is_checked_the_same_again() -> None:
    asked = question()
    assert checked(Spot(), asked) == checked(Spot(), replace(asked))
