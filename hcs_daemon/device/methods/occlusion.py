"""Occlusion (Zeiler and Fergus, ECCV 2014): what the contrast loses when a block of one channel is a reference's."""

import captum.attr
import torch

from hcs_daemon.device.methods.method import Pixel, site_heat
from hcs_daemon.device.question import Model, Question

BLOCKS_ALONG = 6
"""A tile's side is cut into so many blocks, in each channel."""


class Occlusion:
    """Each block is replaced alone, by the same block of a reference; the references take turns over the tiles.

    Slow: the tile runs once for each block and channel. captum's feature ablation.
    """

    words = f"occlusion by {BLOCKS_ALONG} x {BLOCKS_ALONG} blocks a tile"
    sums_to_change = False

    def attribute(self, model: Model, question: Question) -> Pixel:
        """(tiles, channels, tile, tile) float32 logits, a block's spread evenly over its pixels."""
        method = captum.attr.FeatureAblation(lambda tiles: question.contrast(model.outputs(tiles)["logits"]))
        tiles = question.tiles
        turns = torch.arange(len(tiles)) % len(question.references)
        replaced = torch.stack([question.references[turn][tile] for tile, turn in enumerate(turns.tolist())])
        blocks = _blocks(tiles.shape[1], tiles.shape[-1]).to(tiles.device)
        pairs = zip(torch.split(tiles, model.at_once), torch.split(replaced, model.at_once), strict=True)
        with torch.inference_mode():
            lost = torch.cat(
                [
                    method.attribute(
                        part,
                        baselines=base,
                        feature_mask=blocks,
                        perturbations_per_eval=max(1, model.at_once // len(part)),
                    )
                    for part, base in pairs
                ]
            )
            return site_heat(lost / torch.bincount(blocks.flatten())[blocks], 1)


def _blocks(channels: int, size: int) -> torch.Tensor:
    """(1, channels, tile, tile): the number of each pixel's block."""
    along = torch.arange(size) * BLOCKS_ALONG // size
    channel = torch.arange(channels)[:, None, None]
    return ((channel * BLOCKS_ALONG + along[:, None]) * BLOCKS_ALONG + along[None, :])[None]
