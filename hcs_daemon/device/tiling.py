"""From a site's raw counts to what the network sees, and back: resampled by area, normalised, cut into tiles."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hcs_daemon.device.manifest import Manifest, scale_problem
from hcs_daemon.records import Pixels, StepRecord
from hcs_daemon.steps import measure


def tiles_at_once(device: torch.device) -> int:
    """How many tiles a call: a card is kept busy, on the CPU what a layer gives stays in its caches."""
    return 256 if device.type == "cuda" else 8


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a site's tiles lie. shape: (height, width) at the model's pixel size. corners: (row, column) of each."""

    shape: tuple[int, int]
    corners: tuple[tuple[int, int], ...]
    tile_px: int

    def assemble(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """(tiles, channels, tile, tile) into the site's frame, (channels, height, width); overlapping tiles add."""
        whole = np.zeros((tiles.shape[1], *self.shape), np.float32)
        for (row, column), tile in zip(self.corners, tiles, strict=True):
            whole[:, row : row + self.tile_px, column : column + self.tile_px] += tile
        return whole


class Tiler:
    """Makes tiles for one model on one device; keeps the resampling weights of the sizes it has seen."""

    def __init__(self, manifest: Manifest, device: torch.device) -> None:
        self._manifest = manifest
        self._device = device
        rules = manifest.normalisation
        self._offset = _column([rule.offset for rule in rules], device)
        self._scale = _column([rule.scale for rule in rules], device)
        self._bent = [(index, _BENDS[rule.kind]) for index, rule in enumerate(rules) if rule.kind != "linear"]
        kinds = {rule.kind for rule in rules}
        self._bend_all = _BENDS.get(kinds.pop()) if len(kinds) == 1 else None
        self._weights: dict[tuple[int, float], torch.Tensor] = {}

    def problem(self, shape: tuple[int, ...], pixel_size_um: float) -> str | None:
        """Why a site of this shape, (channels, height, width), cannot be shown to the model, in words, or None."""
        scale = scale_problem(self._manifest, pixel_size_um)
        if scale is not None:
            return scale
        factor = self._manifest.factor(pixel_size_um)
        height, width = (resampled_length(length, factor) for length in shape[1:])
        if min(height, width) < self._manifest.tile_px:
            return (
                f"it is {width} x {height} pixels at the model's {self._manifest.pixel_size_um:g} µm a pixel, smaller"
                f" than the {self._manifest.tile_px} pixels that the model sees"
            )
        return None

    def layout(self, shape: tuple[int, ...], pixel_size_um: float) -> Layout:
        """Where the tiles of a site of this shape, (channels, height, width), lie."""
        factor = self._manifest.factor(pixel_size_um)
        height, width = (resampled_length(length, factor) for length in shape[1:])
        size = self._manifest.tile_px
        corners = tuple((row, column) for row in origins(height, size) for column in origins(width, size))
        return Layout((height, width), corners, size)

    def tiles(self, pixels: Pixels, pixel_size_um: float, steps: list[StepRecord] | None = None) -> torch.Tensor:
        """What the network sees of a site.

        pixels: (channels, height, width) raw counts in the model's channel order. steps: takes what they were on the
        way, where that is wanted. Returns (tiles, channels, tile, tile) float32 on the device, normalised.
        """
        raw = self.resampled(pixels, pixel_size_um)
        site = self.normalised(raw)
        if steps is not None:
            steps += [measure("resampled", _host(raw), digest=False), measure("normalised", _host(site), digest=False)]
        size = self._manifest.tile_px
        corners = self.layout(pixels.shape, pixel_size_um).corners
        return torch.stack([site[:, row : row + size, column : column + size] for row, column in corners])

    def resampled(self, pixels: Pixels, pixel_size_um: float) -> torch.Tensor:
        """(channels, height, width) float32 raw counts on the device, at the model's pixel size: means over areas."""
        host = torch.from_numpy(pixels)
        if self._device.type == "cuda":
            host = host.pin_memory()
        site = host.to(self._device, non_blocking=True).to(torch.float32)
        factor = self._manifest.factor(pixel_size_um)
        if abs(factor - 1) < 1e-6:
            return site
        if abs(factor - round(factor)) < 1e-6:  # whole pixels: the same means, ten times faster
            return torch.nn.functional.avg_pool2d(site, round(factor))
        rows, columns = (self._along(length, factor) for length in pixels.shape[1:])
        return rows @ site @ columns.T

    def normalised(self, raw: torch.Tensor) -> torch.Tensor:
        """Raw counts (…, channels, height, width) float32 as the network sees them."""
        scaled = (raw - self._offset) / self._scale
        if self._bend_all is not None:
            return self._bend_all(scaled)
        for index, bend in self._bent:
            scaled[..., index, :, :] = bend(scaled[..., index, :, :])
        return scaled

    def _along(self, length: int, factor: float) -> torch.Tensor:
        key = (length, factor)
        if key not in self._weights:
            self._weights[key] = torch.from_numpy(area_weights(length, factor)).to(self._device)
        return self._weights[key]


_BENDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "asinh": torch.asinh,
    "log1p": lambda scaled: torch.log1p(scaled.clamp(min=0.0)),
    "clip": lambda scaled: scaled.clamp(0.0, 1.0),
}
"""What a kind of normalisation does with (x - offset) / scale; nothing, where it is linear."""


def tensor_step(tiles: torch.Tensor) -> StepRecord:
    """The very input of the network, (tiles, channels, tile, tile), measured and hashed."""
    return measure("tensor", [_host(tiles)])


def _host(values: torch.Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = values.detach().cpu().numpy()
    return found


def resampled_length(length: int, factor: float) -> int:
    """How many whole pixels of `factor` old ones fit into a length; what is left over at its end is not seen."""
    return int(length / factor + 1e-6)


def area_weights(length: int, factor: float) -> NDArray[np.float32]:
    """(new, old) float32: each new pixel is the mean of the `factor` old ones that it covers, parts by their share."""
    edges = np.arange(resampled_length(length, factor) + 1) * factor
    left, right = edges[:-1, None], edges[1:, None]
    old = np.arange(length)
    overlap = np.clip(np.minimum(right, old + 1) - np.maximum(left, old), 0, None)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True), np.float32)


def origins(length: int, tile_px: int) -> list[int]:
    """Where the fewest tiles that cover a length begin, evenly spread; neighbours overlap where it is no multiple."""
    count = math.ceil(length / tile_px)
    return [0] if count == 1 else [round(index * (length - tile_px) / (count - 1)) for index in range(count)]


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]
