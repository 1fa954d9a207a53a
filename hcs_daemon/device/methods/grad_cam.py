"""Grad-CAM (Selvaraju et al., ICCV 2017) from the package's feature map.

The program is one graph that gives both logits and feature map, so that the gradient of the one by the other is had
from autograd without hooks, as long as the logits are computed from that very tensor.
"""

import numpy as np
import torch

from hcs_daemon.device.methods.method import Pixel, site_heat
from hcs_daemon.device.question import Model, Question
from hcs_daemon.errors import PackageError


class GradCam:
    """Each map weighted by its mean gradient, positive parts only, resized to the tile.

    A place of the feature map has seen all channels, so that the map says nothing of channels: each gets an even part.
    """

    words = "Grad-CAM"
    sums_to_change = False

    def attribute(self, model: Model, question: Question) -> Pixel:
        """(tiles, channels, tile, tile) float32 logits.

        Raises PackageError where there is no feature map, or the logits bypass it.
        """
        tiles = question.tiles
        seen = torch.cat([_seen(model, question, part) for part in torch.split(tiles, model.at_once)])
        size = tiles.shape[-1]
        share = seen.shape[-2] * seen.shape[-1] / size**2 / tiles.shape[1]
        whole = torch.nn.functional.interpolate(seen, size=(size, size), mode="bilinear", align_corners=False) * share
        return np.repeat(site_heat(whole, 1), tiles.shape[1], axis=1)


def _seen(model: Model, question: Question, tiles: torch.Tensor) -> torch.Tensor:
    """(n, 1, height, width): what each place of the feature map adds to the contrast, in logits, where it adds."""
    outputs = model.outputs(tiles.detach().requires_grad_())
    maps = outputs.get("feature_map")
    contrast = question.contrast(outputs["logits"]).sum()
    gradient = None
    if maps is not None and maps.requires_grad:
        gradient = torch.autograd.grad(contrast, maps, allow_unused=True)[0]
    if maps is None or gradient is None:
        how = "gives none" if maps is None else "computes them beside it"
        raise PackageError(
            f"Grad-CAM needs logits that are computed from the feature map; this network {how}",
            "export it with the feature_map that its last layers read, or set another explain.method",
        )
    return (gradient.mean(dim=(2, 3), keepdim=True) * maps.detach()).sum(dim=1, keepdim=True).relu()
