"""Whether an explanation holds: each of its claims is tried on the model that it claims to explain.

docs/explanations.md says of every check what it asks, where it is from, its limit, and what it cannot tell.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from hcs_daemon.device.methods import Method, Pixel, relative_error
from hcs_daemon.device.question import Model, Question
from hcs_daemon.device.shapley import ChannelShares
from hcs_daemon.records import (
    CHANGE_LIMIT,
    COMPLETENESS_LIMIT,
    EFFICIENCY_LIMIT,
    INSERTION_LIMIT,
    ExplanationChecks,
)

DELETED = tuple(step / 10 for step in range(11))
"""Shares of the blocks replaced, along a deletion curve."""
RANDOM_ORDERS = 4
BLOCKS_ALONG = 9
"""A tile's side is cut into so many blocks, in each channel, for the deletion curve."""
NOISE_SAMPLES = 2
CELL_SIGMAS = 5.0
"""A pixel so many standard deviations of the noise above a channel's background belongs to a cell."""
MOST_CELLS = 0.95
"""Where so large a share of a channel is above that, no background was found, and Otsu's threshold is taken."""
_LEVELS = 128

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def check(
    model: Model, question: Question, method: Method, heat: Pixel, *, nearest: int, shares: ChannelShares
) -> ExplanationChecks:
    """Try an explanation on its model.

    heat: (tiles, channels, tile, tile) logits, by `method`. nearest: which reference site takes the place of what is
    deleted. shares: the channels', with the contrast before and after.
    """
    rng = np.random.default_rng(question.seed)
    change = shares.after - shares.before
    completeness = relative_error(float(heat.sum(dtype=np.float64)) - change, change)
    efficiency = relative_error(float(shares.shapley.mean(axis=0).sum()) - change, change)
    curves = _Curves(model, question, question.references[nearest])
    by_heat = np.argsort(-block_sums(heat).ravel(), kind="stable")
    light = block_sums((question.tiles - question.references[nearest]).abs().cpu().numpy())
    deletion = curves.area(by_heat)
    # what is inserted first is what the reverse order deletes last; a random order reversed is a random order
    insertion = curves.area(by_heat[::-1])
    chance = float(np.mean([curves.area(rng.permutation(by_heat.size)) for _ in range(RANDOM_ORDERS)]))
    cells = foreground(question.tiles.cpu().numpy())
    held = {
        "completeness": completeness <= COMPLETENESS_LIMIT or not method.sums_to_change,
        "efficiency": efficiency <= EFFICIENCY_LIMIT,
        "change": change > 0 and change >= CHANGE_LIMIT * abs(shares.after),
        "deletion": deletion < chance,
        "insertion": insertion - deletion > INSERTION_LIMIT * curves.fall,
    }
    failed = tuple(name for name, holds in held.items() if not holds)
    return ExplanationChecks(
        completeness_error=completeness,
        efficiency_error=efficiency,
        deletion_auc=deletion,
        random_deletion_auc=chance,
        passed=not failed,
        insertion_auc=insertion,
        random_insertion_auc=chance,
        intensity_deletion_auc=curves.area(np.argsort(-light.ravel(), kind="stable")),
        noise_sensitivity=noise_sensitivity(model, question, method, nearest, rng),
        on_cells=share_inside(heat, cells),
        cells_area=float(cells.mean()),
        failed=failed,
    )


# ---- deletion and insertion


class _Curves:
    """The target's probability while blocks of the site, squares of one channel, become the reference's.

    Petsiuk et al. (BMVC 2018) set pixels to 0, which no cell ever looked like.
    """

    def __init__(self, model: Model, question: Question, reference: torch.Tensor) -> None:
        self._model = model
        self._question = question
        self._reference = reference
        self._site = self._probability(question.tiles)
        self._other = self._probability(reference)

    @property
    def fall(self) -> float:
        """The target's probability of the site less that of the reference; never negative."""
        return max(0.0, self._site - self._other)

    def area(self, order: NDArray[np.intp]) -> float:
        """Mean of the probability over the share of blocks replaced, in this order of them; trapezoids."""
        rank = np.empty(order.size, np.intp)
        rank[order] = np.arange(order.size)
        tiles = self._question.tiles
        count, channels, size, _ = tiles.shape
        block = torch.from_numpy(np.arange(size) * BLOCKS_ALONG // size)
        ranks = torch.from_numpy(rank.reshape(count, channels, BLOCKS_ALONG, BLOCKS_ALONG))
        by_pixel = ranks[:, :, block[:, None], block[None, :]].to(self._model.device)
        between = self._probabilities(
            lambda shares: torch.where(by_pixel < shares * order.size, self._reference, tiles), DELETED[1:-1]
        )
        return float(np.trapezoid([self._site, *between, self._other], DELETED))

    def _probability(self, tiles: torch.Tensor) -> float:
        return self._probabilities(lambda _: tiles[None], (0.0,))[0]

    def _probabilities(self, mixed: Callable[[torch.Tensor], torch.Tensor], shares: Sequence[float]) -> list[float]:
        """The target's probability at each share. mixed: (shares, 1, 1, 1, 1) to (shares, tiles, ...)."""
        found: list[float] = []
        together = max(1, self._model.at_once // len(self._question.tiles))
        with torch.inference_mode():
            for some in torch.split(torch.tensor(shares, dtype=torch.float64, device=self._model.device), together):
                sites = mixed(some[:, None, None, None, None])
                logits = self._model.logits(sites.flatten(0, 1)).double()
                means = logits.view(len(sites), -1, logits.shape[1]).mean(dim=1)
                found += means.softmax(dim=1)[:, self._question.target].tolist()
        return found


def block_sums(heat: Pixel) -> Floats:
    """(tiles, channels, blocks, blocks) sums of (tiles, channels, tile, tile)."""
    size = heat.shape[-1]
    starts = [int(np.ceil(block * size / BLOCKS_ALONG)) for block in range(BLOCKS_ALONG)]
    rows = np.add.reduceat(heat.astype(np.float64), starts, axis=2)
    return np.asarray(np.add.reduceat(rows, starts, axis=3))


# ---- sensitivity to noise


def noise_sensitivity(
    model: Model, question: Question, method: Method, nearest: int, rng: np.random.Generator
) -> float:
    """The largest relative change (Euclid) of the heat when the tiles' own noise is added to them once more.

    Max-sensitivity (Yeh et al., NeurIPS 2019) over a few samples, with noise that occurs in place of a ball, and from
    the nearest reference alone.
    """
    alone = replace(question, references=(question.references[nearest],))
    before = method.attribute(model, alone).astype(np.float64)
    tiles = question.tiles.cpu().numpy()
    sigma = noise_of(tiles)[:, :, None, None]
    changes = []
    for _ in range(NOISE_SAMPLES):
        noisy = torch.from_numpy(tiles + sigma * rng.standard_normal(tiles.shape, np.float32)).to(model.device)
        changes.append(float(np.linalg.norm(method.attribute(model, replace(alone, tiles=noisy)) - before)))
    return relative_error(max(changes), float(np.linalg.norm(before)))


def noise_of(tiles: Pixel) -> Pixel:
    """(tiles, channels) float32: the noise's standard deviation, from the median of |x * N| with Immerkær's mask N.

    Immerkær (Computer Vision and Image Understanding 64, 1996) takes the mean, which edges of cells raise.
    """
    rows = tiles[..., :-2, :] - 2 * tiles[..., 1:-1, :] + tiles[..., 2:, :]
    bends = rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:]
    # 36 is the sum of the mask's squares; 0.6745 the median of a normal variable's absolute value
    return np.asarray(np.median(np.abs(bends), axis=(-2, -1)) / (6 * 0.6745), np.float32)


# ---- cells and background


def share_inside(heat: Pixel, mask: Mask) -> float | None:
    """The share of the attribution, of either sign, inside the mask; None where there is no attribution.

    heat: (tiles, channels, tile, tile). mask: (tiles, tile, tile). After Grad-CAMO (arXiv 2403.17615).
    """
    weights = np.abs(heat).sum(axis=1, dtype=np.float64)
    whole = float(weights.sum())
    return float(weights[mask].sum()) / whole if whole else None


def foreground(tiles: Pixel) -> Mask:
    """(tiles, tile, tile): where any channel shows a cell. tiles: (tiles, channels, tile, tile).

    Above a channel's background by `CELL_SIGMAS` of its noise; where that takes nearly all, above Otsu's
    threshold (IEEE Transactions on Systems, Man and Cybernetics 9, 1979).
    """
    return np.asarray(
        np.any([_above(tiles[:, channel], sigma) for channel, sigma in enumerate(noise_of(tiles).mean(axis=0))], axis=0)
    )


def _above(tiles: Pixel, sigma: float) -> Mask:
    counts, edges = np.histogram(tiles, _LEVELS)
    centres = (edges[:-1] + edges[1:]) / 2
    # the background is the commonest level of the darker half of the range
    found = tiles > centres[counts[: _LEVELS // 2].argmax()] + CELL_SIGMAS * sigma
    if found.mean() > MOST_CELLS:
        found = tiles > _otsu(counts.astype(np.float64), centres)
    return np.asarray(found)


def _otsu(counts: Floats, centres: Floats) -> float:
    """The level that parts a histogram into two with the least variance inside them."""
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    means = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(centres[:-1][np.argmax(below * above * (means[0] - means[1]) ** 2)])
