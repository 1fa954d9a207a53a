"""Which channels the model went by: Shapley values of the channels, and what pairs of them do together.

A channel that is not in a coalition is replaced by a reference site's. Up to `EXACT_CHANNELS` all coalitions are run;
above, those along orders drawn by lot, and the values have a standard error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
import torch
from numpy.typing import NDArray

from hcs_daemon.device.question import Model, Question

EXACT_CHANNELS = 8
LEAST_ORDER_PAIRS = 8

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ChannelShares:
    """What each channel brings, in logits.

    shapley: (references, channels); the rows' mean is the answer. error: (channels,) its standard error where orders
    were drawn, None where it is exact. interactions: (channel, channel) -> logits, none where orders were drawn.
    before, after: the contrast of the references and of the site, the mean over their tiles. words: how it was done.
    """

    shapley: Floats
    error: Floats | None
    interactions: Mapping[tuple[int, int], float]
    before: float
    after: float
    words: str


def channel_shares(model: Model, question: Question) -> ChannelShares:
    """The channels' shares in the change from the references to the site."""
    return _exact(model, question) if question.tiles.shape[1] <= EXACT_CHANNELS else _sampled(model, question)


def _exact(model: Model, question: Question) -> ChannelShares:
    count = question.tiles.shape[1]
    values = coalition_values(model, question, all_coalitions(count))
    return ChannelShares(
        shapley=np.stack([shapley_values(row) for row in values]),
        error=None,
        interactions=shapley_interactions(values.mean(axis=0)),
        before=float(values[:, 0].mean()),
        after=float(values[:, -1].mean()),
        words="exact channel Shapley values",
    )


def _sampled(model: Model, question: Question) -> ChannelShares:
    """Each order drawn is run backwards too, which lowers the error (Mitchell et al., JMLR 2022, antithetic)."""
    count = question.tiles.shape[1]
    rng = np.random.default_rng(question.seed)
    pairs = max(LEAST_ORDER_PAIRS, (1 << EXACT_CHANNELS) // (2 * (count - 1)))
    orders = [order for _ in range(pairs) for order in both_ways(rng.permutation(count))]
    joined = np.concatenate([joining(order) for order in orders])
    coalitions, which = np.unique(joined, axis=0, return_inverse=True)
    values = coalition_values(model, question, coalitions)
    along = values[:, which.ravel()].reshape(len(values), len(orders), count + 1)
    gains = np.empty((len(values), len(orders), count))
    for number, order in enumerate(orders):
        gains[:, number, order] = np.diff(along[:, number], axis=1)
    by_pair = gains.mean(axis=0).reshape(pairs, 2, count).mean(axis=1)
    return ChannelShares(
        shapley=gains.mean(axis=1),
        error=by_pair.std(axis=0, ddof=1) / pairs**0.5,
        interactions={},
        before=float(along[:, 0, 0].mean()),
        after=float(along[:, 0, -1].mean()),
        words=f"channel Shapley values sampled in {len(orders)} orders",
    )


def both_ways(order: NDArray[np.intp]) -> Sequence[NDArray[np.intp]]:
    """An order of joining, and the same backwards."""
    return order, order[::-1]


def joining(order: NDArray[np.intp]) -> Masks:
    """(channels + 1, channels): who is in, from nobody to all, as the channels join in this order."""
    rank = np.empty(order.size, np.intp)
    rank[order] = np.arange(order.size)
    return np.asarray(rank[None, :] < np.arange(order.size + 1)[:, None])


def all_coalitions(count: int) -> Masks:
    """(2^channels, channels): bit c of a coalition's number says whether channel c is in; 0 is nobody."""
    return np.asarray(np.arange(1 << count)[:, None] >> np.arange(count) & 1, np.bool_)


def coalition_values(model: Model, question: Question, coalitions: Masks) -> Floats:
    """(references, coalitions): the site's contrast with only the channels of each coalition its own.

    coalitions: (coalitions, channels), whether each channel is the site's.
    """
    kept = torch.from_numpy(coalitions).to(model.device)[:, None, :, None, None]
    values = np.empty((len(question.references), len(coalitions)))
    together = max(1, model.at_once // len(question.tiles))
    with torch.inference_mode():
        for row, reference in zip(values, question.references, strict=True):
            for start in range(0, len(coalitions), together):
                mixed = torch.where(kept[start : start + together], question.tiles, reference)
                contrast = question.contrast(model.logits(mixed.flatten(0, 1))).double()
                row[start : start + together] = contrast.view(len(mixed), -1).mean(dim=1).cpu().numpy()
    return values


def shapley_values(values: Floats) -> Floats:
    """Exact Shapley values (Shapley 1953) of n players from the values of all 2^n coalitions.

    values: (2^n,), by coalition number, bit i set where player i is in. Returns (n,); they sum to last minus first.
    """
    count, numbers, sizes = _players(values)
    found = np.empty(count)
    for player in range(count):
        without = numbers[(numbers >> player & 1) == 0]
        weights = np.array([factorial(size) * factorial(count - size - 1) for size in sizes[without]]) / factorial(
            count
        )
        found[player] = float(np.sum(weights * (values[without | 1 << player] - values[without])))
    return found


def shapley_interactions(values: Floats) -> dict[tuple[int, int], float]:
    """The Shapley interaction index of each pair (Grabisch and Roubens 1999): what two bring beyond what each brings.

    values: (2^n,) as of `shapley_values`. Positive: they add to each other; negative: one stands for the other.
    """
    count, numbers, sizes = _players(values)
    found = {}
    for one, other in combinations(range(count), 2):
        first, second = 1 << one, 1 << other
        without = numbers[(numbers & (first | second)) == 0]
        weights = np.array([factorial(size) * factorial(count - size - 2) for size in sizes[without]]) / factorial(
            count - 1
        )
        beyond = values[without | first | second] - values[without | first] - values[without | second] + values[without]
        found[one, other] = float(np.sum(weights * beyond))
    return found


def _players(values: Floats) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """How many players, the coalitions' numbers, and how many are in each."""
    numbers = np.arange(values.size, dtype=np.int64)
    return int(values.size).bit_length() - 1, numbers, np.array([int(number).bit_count() for number in numbers])
