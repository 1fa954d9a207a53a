"""How a tile looks, channel by channel and in pairs, in numbers that no verdict has shaped."""

from itertools import combinations

import torch
from torch import nn

SCALES = 4
"""Each half as fine as the one before; the finest shows what is a pixel or two wide."""
_FLAT = 1e-6
"""Added to a band's spread, so that an empty picture has one."""


class TextureStatistics(nn.Module):
    """Spread, skewness and kurtosis of each channel's bands, and how the bands of two channels go together.

    The bands are those of a Laplacian pyramid (Burt and Adelson, IEEE Trans. Communications 31, 1983), smoothed by
    1 2 1 in both directions; the statistics are among those by which Portilla and Simoncelli (Int. J. Computer Vision
    40, 2000) tell textures apart. Nothing in it is learned, so that a phenotype which no network was taught changes
    them as much as one that was. The finest band is looked at in the middle quarter of the tile: that has as many
    places as the next one, and the whole would cost more than all the others.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = SCALES * (3 * channels + channels * (channels - 1) // 2)
        pairs = list(combinations(range(channels), 2))
        self._one, self._other = [one for one, _ in pairs], [other for _, other in pairs]

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) float32, normalised, of at least 16 pixels a side, to (n, features)."""
        height, width = tiles.shape[2:]
        middle = tiles[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4]
        found = [self._of_band(middle - _smooth(middle))]
        coarse = nn.functional.avg_pool2d(tiles, 2)
        for _ in range(SCALES - 1):
            smooth = _smooth(coarse)
            found.append(self._of_band(coarse - smooth))
            coarse = nn.functional.avg_pool2d(smooth, 2)
        return torch.cat(found, dim=1)

    def _of_band(self, band: torch.Tensor) -> torch.Tensor:
        """(n, features of one scale); compressed, since third and fourth powers run far."""
        flat = band.flatten(2)
        flat = flat - flat.mean(dim=2, keepdim=True)
        products = flat @ flat.transpose(1, 2) / flat.shape[2]
        spread = products.diagonal(dim1=1, dim2=2).sqrt() + _FLAT
        squares = flat * flat
        skewness = ((squares * flat).mean(dim=2) / spread**3).asinh()
        kurtosis = ((squares * squares).mean(dim=2) / spread**4).log1p()
        together = products[:, self._one, self._other] / (spread[:, self._one] * spread[:, self._other])
        return torch.cat([spread.log(), skewness, kurtosis, together], dim=1)


def _smooth(maps: torch.Tensor) -> torch.Tensor:
    """By 1 2 1 along rows and columns, mirrored at the edges."""
    padded = nn.functional.pad(maps, (1, 1, 1, 1), mode="reflect")
    rows = (padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]) / 4
    return (rows[..., :-2, :] + 2 * rows[..., 1:-1, :] + rows[..., 2:, :]) / 4
