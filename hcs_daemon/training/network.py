"""The small network: each channel is looked at by filters of its own, then all are joined, place by place."""

from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hcs_daemon.training.texture import TextureStatistics


class Stage(nn.Module):
    """Convolution, batch norm, SiLU. Smooth throughout, so that path integrals of its gradient converge.

    groups: the channels are split into so many groups that do not see each other.
    """

    def __init__(self, given: int, made: int, *, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        padding = kernel // 2
        self.filters = nn.Conv2d(given, made, kernel, stride=stride, padding=padding, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(made)
        self.bend = nn.SiLU()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, given, h, w) to (n, made, h / stride, w / stride), rounded up."""
        return cast("torch.Tensor", self.bend(self.norm(self.filters(maps))))

    def fold(self) -> None:
        """Put the batch norm into the filters: the same numbers with less work. The stage is then in eval mode."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.eval()
            self.filters = fuse_conv_bn_eval(self.filters, self.norm)
            self.norm = nn.Identity()


class CellNetwork(nn.Module):
    """From tiles to class scores.

    Up to `join` no channel sees another, so what one shows is not mistaken for what another shows. The embedding is the
    mean of the joined maps over the tile, and the logits are linear in it: any tile size gives scores that compare.
    """

    def __init__(self, channels: int, classes: int, *, width: int = 8, features: int = 48) -> None:
        """width: filters a channel in the first stage, twice as many after. features: length of the embedding."""
        super().__init__()
        first, later = channels * width, channels * width * 2
        self.looks = nn.Sequential(
            Stage(channels, first, kernel=5, stride=2, groups=channels),
            Stage(first, later, kernel=3, stride=2, groups=channels),
            Stage(later, later, kernel=3, stride=2, groups=channels),
        )
        self.join = Stage(later, features, kernel=1)
        self.head = nn.Linear(features, classes)

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """tiles: (n, channels, height, width) float32, normalised.

        Returns logits (n, classes), embedding (n, features) and feature_map (n, features, height / 8, width / 8).
        """
        maps = self.join(self.looks(tiles))
        embedding = maps.mean(dim=(2, 3))
        return {"logits": self.head(embedding), "embedding": embedding, "feature_map": maps}

    def fold(self) -> None:
        """Make it ready for use: eval mode, batch norms folded into the filters before them."""
        self.eval()
        for module in self.modules():
            if isinstance(module, Stage):
                module.fold()

    def cool(self, temperature: float) -> None:
        """Divide all logits by a temperature (Guo et al., ICML 2017), for good."""
        with torch.no_grad():
            self.head.weight.div_(temperature)
            self.head.bias.div_(temperature)


class Textured(nn.Module):
    """A finished network whose embedding says how each channel looks, whatever that means for the verdict.

    The maps that are joined keep what tells the classes apart that were learned; of a phenotype that was never seen
    they may keep nothing, and so may all that was learned. So the embedding is that of `TextureStatistics`.
    """

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: CellNetwork, channels: int) -> None:
        """network: folded. Until `measure` was called the embedding is as it comes."""
        super().__init__()
        self.network = network
        self.texture = TextureStatistics(channels)
        self.register_buffer("centre", torch.zeros(self.texture.features))
        self.register_buffer("scale", torch.ones(self.texture.features))

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """As `CellNetwork`, but for the embedding: standard scores over the wells that were measured.

        No gradient flows through it, so that explaining a verdict does not pay for it.
        """
        outputs = self.network(tiles)
        embedding = (self.texture(tiles.detach()) - self.centre) / self.scale
        return {"logits": outputs["logits"], "embedding": embedding, "feature_map": outputs["feature_map"]}

    def measure(self, embeddings: torch.Tensor) -> None:
        """Take (wells, features) as they come for the zero and the unit of each feature."""
        self.centre.copy_(embeddings.mean(dim=0))
        self.scale.copy_(embeddings.std(dim=0).clamp_min(1e-6))
