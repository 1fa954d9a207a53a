"""Integrated gradients (Sundararajan et al., ICML 2017) from each reference, by Gauss-Legendre; captum's."""

import captum.attr
import torch

from hcs_daemon.device.methods.method import Pixel, incomplete, site_heat
from hcs_daemon.device.question import Model, Question
from hcs_daemon.records import COMPLETENESS_LIMIT

FIRST_STEPS, MOST_STEPS = 8, 64
"""Steps of the path integral from each reference; doubled until it is complete, or there are so many."""


class IntegratedGradients:
    """The mean over the references of the path integral from each."""

    words = "integrated gradients"
    sums_to_change = True

    def attribute(self, model: Model, question: Question) -> Pixel:
        """(tiles, channels, tile, tile) float32 logits."""
        change = model.change(question)
        steps = FIRST_STEPS
        while True:
            paths = [_path_integral(model, question, reference, steps) for reference in question.references]
            heat = site_heat(torch.stack(paths).sum(dim=0), len(paths))
            if incomplete(heat, change) <= COMPLETENESS_LIMIT / 2 or 2 * steps > MOST_STEPS:
                return heat
            steps *= 2


def _path_integral(model: Model, question: Question, reference: torch.Tensor, steps: int) -> torch.Tensor:
    """(tiles, channels, tile, tile): each tile's integrated gradients from one reference."""
    method = captum.attr.IntegratedGradients(lambda tiles: question.contrast(model.outputs(tiles)["logits"]))
    pairs = zip(torch.split(question.tiles, model.at_once), torch.split(reference, model.at_once), strict=True)
    found = [
        method.attribute(
            tiles, baselines=base, n_steps=steps, method="gausslegendre", internal_batch_size=model.at_once
        )
        for tiles, base in pairs
    ]
    return torch.cat(found)
