"""Shapley values of channels, their sampling, and what pairs of channels do together."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from hcs_daemon.device.attribution import Explainer
from hcs_daemon.device.manifest import ChannelEntry, Normalisation
from hcs_daemon.device.question import Model, Question
from hcs_daemon.device.shapley import channel_shares, shapley_interactions, shapley_values
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.records import EFFICIENCY_LIMIT, Attribution
from model_packages import ChannelMeans, manifest, package_of, site_of

CPU = torch.device("cpu")
Floats = NDArray[np.float64]
MANY = 10


def by_definition(values: Floats) -> list[float]:
    """The mean of each player's contribution over all orders of joining."""
    count = int(values.size).bit_length() - 1
    total = np.zeros(count)
    orders = list(permutations(range(count)))
    for order in orders:
        coalition = 0
        for player in order:
            total[player] += values[coalition | 1 << player] - values[coalition]
            coalition |= 1 << player
    return list(total / len(orders))


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.floats(-9, 9), min_size=2**n, max_size=2**n)))
def test_shapley_values_are_the_mean_contribution_over_all_orders(values: list[float]) -> None:
    game = np.array(values)
    np.testing.assert_allclose(shapley_values(game), by_definition(game), atol=1e-9)


@given(st.lists(st.floats(-9, 9), min_size=32, max_size=32))
def test_shapley_values_sum_to_what_all_players_gain(values: list[float]) -> None:
    assert shapley_values(np.array(values)).sum() == pytest.approx(values[-1] - values[0], abs=1e-9)


def test_who_adds_nothing_gets_nothing_and_equals_get_the_same() -> None:
    game = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 2.0, 1.0, 2.0])  # players 0 and 2 bring 1 each, player 1 brings nothing
    np.testing.assert_allclose(shapley_values(game), [1.0, 0.0, 1.0])


# ---- pairs


def game(value: Callable[[int, int, int], float]) -> Floats:
    """The values of all coalitions of three players, from a function of who is in."""
    return np.array([value(number & 1, number >> 1 & 1, number >> 2 & 1) for number in range(8)])


def test_players_that_only_add_up_have_no_interaction() -> None:
    found = shapley_interactions(game(lambda a, b, c: 2 * a + 3 * b - c))
    assert set(found) == {(0, 1), (0, 2), (1, 2)}
    assert list(found.values()) == pytest.approx([0, 0, 0])


def test_two_that_need_each_other_interact_and_two_that_stand_for_each_other_interact_negatively() -> None:
    assert shapley_interactions(game(lambda a, b, _c: 5 * a * b)) == pytest.approx({(0, 1): 5, (0, 2): 0, (1, 2): 0})
    assert shapley_interactions(game(lambda a, b, _c: 5 * max(a, b)))[0, 1] == pytest.approx(-5)


def test_a_player_who_matters_only_with_both_others_is_shared_among_the_pairs() -> None:
    # of the two coalitions of the third player, one has the effect
    assert list(shapley_interactions(game(lambda a, b, c: a * b * c)).values()) == pytest.approx([0.5, 0.5, 0.5])


# ---- of many channels


class Products(nn.Module):
    """The first two channels matter by their product, the third alone; the rest do not."""

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, channels, tile, tile) to the logits of two classes."""
        means = tiles.mean(dim=(2, 3))
        return {"logits": torch.stack([means[:, 0] * 0, means[:, 0] * means[:, 1] + means[:, 2]], dim=1)}


def question_of(channels: int, seed: int = 1) -> Question:
    return Question(torch.ones(2, channels, 6, 6), (torch.zeros(2, channels, 6, 6),), 1, 0, seed)


def test_many_channels_are_sampled_and_come_near_what_is_exact_within_the_error_said() -> None:
    found = channel_shares(Model(Products(), 8, CPU), question_of(MANY))
    exact = np.array([0.5, 0.5, 1.0] + [0.0] * (MANY - 3))
    assert found.error is not None
    assert np.all(np.abs(found.shapley.mean(axis=0) - exact) <= 4 * found.error + 1e-9)
    assert found.interactions == {}
    assert found.words == "channel Shapley values sampled in 28 orders"


def test_an_order_and_its_reverse_settle_a_pair_that_needs_each_other() -> None:
    found = channel_shares(Model(Products(), 8, CPU), question_of(MANY))
    assert found.error is not None
    # whoever of the two joins last gets all, and each joins last once in an order and its reverse
    np.testing.assert_allclose(found.error, 0.0, atol=1e-6)


class Bent(nn.Module):
    """All channels together, bent."""

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, channels, tile, tile) to the logits of two classes."""
        means = tiles.mean(dim=(2, 3))
        weights = torch.arange(1.0, means.shape[1] + 1) / 10
        return {"logits": torch.stack([means[:, 0] * 0, torch.relu((means * weights).sum(dim=1) - 3)], dim=1)}


def test_the_error_said_is_that_of_other_lots() -> None:
    model = Model(Bent(), 8, CPU)
    rounds = [channel_shares(model, question_of(MANY, seed)) for seed in range(12)]
    seen = np.std([found.shapley[0] for found in rounds], axis=0, ddof=1)
    said = np.mean([found.error for found in rounds if found.error is not None], axis=0)
    assert 0.5 < float(np.linalg.norm(seen) / np.linalg.norm(said)) < 2


def test_sampled_values_sum_to_the_change_as_exact_ones_do() -> None:
    found = channel_shares(Model(Bent(), 8, CPU), question_of(MANY))
    assert found.shapley.mean(axis=0).sum() == pytest.approx(found.after - found.before, rel=EFFICIENCY_LIMIT)


def test_eight_channels_are_exact_and_nine_are_sampled() -> None:
    model = Model(Bent(), 8, CPU)
    assert channel_shares(model, question_of(8)).error is None
    assert channel_shares(model, question_of(9)).error is not None


def test_a_site_of_nine_channels_is_explained_with_a_standard_error() -> None:
    made = manifest(
        channels=tuple(ChannelEntry(name=f"C{number}") for number in range(9)),
        normalisation=(Normalisation(kind="linear", offset=0.0, scale=100.0),) * 9,
    )
    package = package_of(ChannelMeans([[0.0] * 9, [0.0] * 8 + [1.0], [0.0] * 9], nn.Tanh()), made)
    pixels = np.random.default_rng(1).integers(100, 900, (9, 36, 36), dtype=np.uint16)
    found = Explainer(package, Tiler(made, CPU), CPU).explain(site_of(pixels), "broken", "control")
    assert isinstance(found, Attribution)
    assert max(found.channel_shapley, key=lambda name: found.channel_shapley[name]) == "C8"
    assert found.channel_error is not None
    assert set(found.channel_error) == set(made.channel_names)
    assert found.interactions == {}
