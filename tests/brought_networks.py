"""Networks that people might bring to `hcs-daemon model export`: good ones, and one for each thing that cannot be."""

import numpy as np
import torch
from torch import nn


class Classifier(nn.Module):
    """Three channels to two classes by a small convolutional network, which gives its logits alone."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2), nn.ReLU()
        )
        self.head = nn.Linear(6, 2)

    def embed(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 3, tile, tile) to maps and embedding."""
        maps = self.features(tiles)
        return maps, maps.mean(dim=(2, 3))

    def forward(self, tiles: torch.Tensor) -> object:
        """The logits."""
        return self.head(self.embed(tiles)[1])


class Named(Classifier):
    """The same, its outputs by name."""

    def forward(self, tiles: torch.Tensor) -> object:
        """Logits, embedding and feature map."""
        maps, embedding = self.embed(tiles)
        return {"logits": self.head(embedding), "embedding": embedding, "feature_map": maps}


class Embedder(Classifier):
    """The same without a verdict."""

    def forward(self, tiles: torch.Tensor) -> object:
        """The embedding."""
        return self.embed(tiles)[1]


class Pair(Classifier):
    """Two outputs without names."""

    def forward(self, tiles: torch.Tensor) -> object:
        """Logits and embedding."""
        embedding = self.embed(tiles)[1]
        return self.head(embedding), embedding


class Deep(Named):
    """An embedding that still has places."""

    def forward(self, tiles: torch.Tensor) -> object:
        """The maps' maxima, (n, 6, 1, 1)."""
        maps, embedding = self.embed(tiles)
        return {"logits": self.head(embedding), "embedding": maps.amax(dim=(2, 3), keepdim=True)}


class Choosing(Named):
    """What it does depends on the pixels."""

    def forward(self, tiles: torch.Tensor) -> object:
        """Brighter tiles are taken at half their brightness."""
        return super().forward(tiles / 2 if tiles.mean() > 1 else tiles)


class Measuring(Named):
    """It takes a number out of a tensor."""

    def forward(self, tiles: torch.Tensor) -> object:
        """One column less where a tile is bright."""
        return super().forward(tiles[..., : 18 - int(tiles.max().item()) % 2])


class ThroughNumpy(Named):
    """It clips by numpy."""

    def forward(self, tiles: torch.Tensor) -> object:
        """Between 0 and 1."""
        return super().forward(torch.from_numpy(np.clip(tiles.numpy(), 0, 1)))


class Three(Named):
    """It works on three tiles, never on another number."""

    def forward(self, tiles: torch.Tensor) -> object:
        """A bias a tile."""
        maps, embedding = self.embed(tiles)
        return {"logits": self.head(embedding) + torch.zeros(3, 2), "embedding": embedding, "feature_map": maps}


class OverTheBatch(Named):
    """It normalises over the tiles of a batch."""

    def forward(self, tiles: torch.Tensor) -> object:
        """As a BatchNorm in training mode does."""
        maps, embedding = self.embed(tiles)
        embedding = nn.functional.batch_norm(embedding, None, None, training=True)
        return {"logits": self.head(embedding), "embedding": embedding, "feature_map": maps}


class Statless(Named):
    """A BatchNorm that never has statistics of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.features[1] = nn.BatchNorm2d(8, track_running_stats=False)


class Dropping(Named):
    """Dropout that is always on."""

    def forward(self, tiles: torch.Tensor) -> object:
        """Half the features, another half each time."""
        maps, embedding = self.embed(tiles)
        embedding = nn.functional.dropout(embedding, 0.5, training=True)
        return {"logits": self.head(embedding), "embedding": embedding, "feature_map": maps}


class Listing(Named):
    """Logits of two heads, not put together."""

    def forward(self, tiles: torch.Tensor) -> object:
        """A list where a tensor should be."""
        embedding = self.embed(tiles)[1]
        return {"logits": [self.head(embedding), self.head(embedding)], "embedding": embedding}


class Counting(Named):
    """Whole numbers for logits."""

    def forward(self, tiles: torch.Tensor) -> object:
        """Cast to integers."""
        embedding = self.embed(tiles)[1]
        return {"logits": self.head(embedding).long(), "embedding": embedding}


class Columns(Named):
    """Logits with an axis too many."""

    def forward(self, tiles: torch.Tensor) -> object:
        """(n, 2, 1)."""
        embedding = self.embed(tiles)[1]
        return {"logits": self.head(embedding)[:, :, None], "embedding": embedding}


class Swapped(Named):
    """Each output by the other's name."""

    def forward(self, tiles: torch.Tensor) -> object:
        """The embedding as logits."""
        embedding = self.embed(tiles)[1]
        return {"logits": embedding, "embedding": self.head(embedding)}


class Rounded(Named):
    """Logits without what comes after the point."""

    def forward(self, tiles: torch.Tensor) -> object:
        """Rounded, which leaves no gradient."""
        embedding = self.embed(tiles)[1]
        return {"logits": (self.head(embedding) / 100).round(), "embedding": embedding}


class Spread(Named):
    """It divides by the spread over the tiles of a batch, of which one tile has none."""

    def forward(self, tiles: torch.Tensor) -> object:
        """Normalised by hand."""
        embedding = self.embed(tiles)[1]
        spread = (embedding - embedding.mean(dim=0)) / (embedding.std(dim=0) + 1e-3)
        return {"logits": self.head(spread), "embedding": embedding}


class Flat(Named):
    """A feature map without places."""

    def forward(self, tiles: torch.Tensor) -> object:
        """The pooled maps for maps."""
        embedding = self.embed(tiles)[1]
        return {"logits": self.head(embedding), "embedding": embedding, "feature_map": embedding}


class Wide(Named):
    """Filters for four channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features[0] = nn.Conv2d(4, 8, 3, stride=2)


def with_channels(count: int) -> nn.Module:
    """A factory that needs to be told something."""
    return nn.Conv2d(count, 1, 1)


def no_network() -> object:
    """A factory of something else."""
    return {"weights": 1}


NUMBER = 3
