"""Expected gradients (Erion et al., Nature Machine Intelligence 2021): what differs from the reference sites.

The expectation over reference tiles x' and over a in (0, 1) of (x - x') times the gradient at x' + a (x - x'). Each
round pairs the site's tiles with a reference's by lot, so that no one reference's picture is printed on the map, and
draws one `a` in each of some equal parts of the path, which makes the sum complete with few samples: captum's
GradientShap draws `a` anywhere, and adds noise to the site.

From one pixel to the next the gradient changes its sign, so that the map is smoothed: what is left names places of the
size of a cell's parts. `benchmarks/explanations.py` shows what that is worth.
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from hcs_daemon.device.methods.method import Pixel, incomplete, site_heat
from hcs_daemon.device.question import Model, Question
from hcs_daemon.records import COMPLETENESS_LIMIT

FIRST_SAMPLES, MOST_SAMPLES = 8, 64
"""Samples of each tile and reference; as many again until the map is complete enough, or there are so many."""
SMOOTHING = 1 / 45
"""Standard deviation of the Gaussian over a tile's map of a channel, in tile sides; mirrored at the edges."""


class ExpectedGradients:
    """Samples until the map sums to the change, within half of what completeness allows, or is as it is."""

    words = "expected gradients"
    sums_to_change = True

    def __init__(self, most_samples: int = MOST_SAMPLES) -> None:
        """most_samples: of each tile and reference, where the map is not complete before."""
        self._most = most_samples

    def attribute(self, model: Model, question: Question) -> Pixel:
        """(tiles, channels, tile, tile) float32 logits; the same for the same question and seed."""
        change = model.change(question)
        # by lot on the host, so that a card and a processor draw the same
        lots = torch.Generator().manual_seed(question.seed % (1 << 63))
        total, samples, more = torch.zeros_like(question.tiles), 0, FIRST_SAMPLES
        while True:
            for reference in question.references:
                total += _path_samples(model, question, reference, more, lots)
            samples += more
            heat = site_heat(total, samples * len(question.references))
            if incomplete(heat, change) <= COMPLETENESS_LIMIT / 2 or 2 * samples > self._most:
                return _smooth(heat)
            more = samples


def _smooth(heat: Pixel) -> Pixel:
    """(tiles, channels, tile, tile) float32, each channel's sum over a tile kept."""
    width_px = SMOOTHING * heat.shape[-1]
    return np.asarray(gaussian_filter(heat, (0.0, 0.0, width_px, width_px)), np.float32)


def _path_samples(
    model: Model, question: Question, reference: torch.Tensor, samples: int, lots: torch.Generator
) -> torch.Tensor:
    """(tiles, channels, tile, tile): the sum over one sample in each equal part of the path, for each tile."""
    count = len(question.tiles)
    paired = reference[torch.randperm(count, generator=lots).to(reference.device)]
    along = (torch.arange(samples)[:, None] + torch.rand(samples, count, generator=lots)) / samples
    away = question.tiles - paired
    slope = torch.zeros_like(question.tiles)
    for tile, shares in _in_parts(along, model.at_once):
        points = (paired[tile] + shares.to(away.device)[:, None, None, None] * away[tile]).requires_grad_()
        contrast = question.contrast(model.outputs(points)["logits"])
        (gradient,) = torch.autograd.grad(contrast.sum(), points)
        slope.index_add_(0, tile.to(slope.device), gradient)
    return slope * away


def _in_parts(along: torch.Tensor, at_once: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(tile numbers, shares of the path) of at most so many points, over all of (samples, tiles)."""
    tiles = torch.arange(along.shape[1]).expand_as(along)
    yield from zip(torch.split(tiles.flatten(), at_once), torch.split(along.flatten(), at_once), strict=True)
