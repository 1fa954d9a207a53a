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

    A band is what a picture has beyond the same picture at half the resolution, as in a Laplacian pyramid (Burt and
    Adelson, IEEE Trans. Communications 31, 1983), here with means of 2 x 2 pixels. The statistics are among those by
    which Portilla and Simoncelli (Int. J. Computer Vision 40, 2000) tell textures apart. Nothing in it is learned, so
    that a phenotype which no network was taught changes them as much as one that was.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = SCALES * (3 * channels + channels * (channels - 1) // 2)
        pairs = list(combinations(range(channels), 2))
        self._one, self._other = [one for one, _ in pairs], [other for _, other in pairs]

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) float32, normalised, of at least 16 pixels a side, to (n, features)."""
        found = []
        for _ in range(SCALES):
            coarse = nn.functional.avg_pool2d(tiles, 2)
            even = tiles[:, :, : 2 * coarse.shape[2], : 2 * coarse.shape[3]]
            found.append(self._of_band(even - nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest")))
            tiles = coarse
        return torch.cat(found, dim=1)

    def _of_band(self, band: torch.Tensor) -> torch.Tensor:
        """(n, features of one scale); compressed, since third and fourth powers run far. A band's mean is 0."""
        flat = band.flatten(2)
        products = flat @ flat.transpose(1, 2) / flat.shape[2]
        spread = products.diagonal(dim1=1, dim2=2).sqrt() + _FLAT
        squares = flat * flat
        skewness = ((squares * flat).mean(dim=2) / spread**3).asinh()
        kurtosis = ((squares * squares).mean(dim=2) / spread**4).log1p()
        together = products[:, self._one, self._other] / (spread[:, self._one] * spread[:, self._other])
        return torch.cat([spread.log(), skewness, kurtosis, together], dim=1)
