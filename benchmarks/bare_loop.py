"""The least that reads a plate and runs a model on it: what `hcs-daemon process` is measured against.

tifffile reads the planes one after another, the same exported program sees the same sites in batches of the same size,
and nothing else happens: nothing is checked, hashed, explained or written. Prints one JSON object, well -> class.

    python benchmarks/bare_loop.py PLATE --package FOLDER --channels 1,2,3,4,5 --pixel-size-um 1.196
"""

import argparse
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

_NAME = re.compile(r"r(\d\d)c(\d\d)f(\d\d)p01-ch(\d+)sk1fk1fl1\.tiff")
Planes = dict[str, Path]
"""Channel id -> file."""


def sites(plate: Path) -> list[tuple[str, Planes]]:
    """(well, files) of every site of a Harmony plate, in the order of their names."""
    found: dict[tuple[str, str, str], Planes] = defaultdict(dict)
    for path in sorted(plate.rglob("Images/*.tiff")):
        if match := _NAME.fullmatch(path.name):
            found[match[1], match[2], match[3]][match[4]] = path
    return [(f"{chr(64 + int(row))}{column}", planes) for (row, column, _), planes in found.items()]


def area_weights(pixels: int, factor: float) -> NDArray[np.float32]:
    """(new, pixels) float32: each new pixel is the mean of the `factor` old ones that it covers."""
    new = int(pixels / factor + 1e-6)
    edges = np.arange(new + 1) * factor
    left, right = edges[:-1, None], edges[1:, None]
    old = np.arange(pixels)
    overlap = np.clip(np.minimum(right, old + 1) - np.maximum(left, old), 0, None)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True), np.float32)


def origins(length: int, tile: int) -> list[int]:
    """Evenly spread places of the fewest tiles that cover a length, in pixels."""
    count = math.ceil(length / tile)
    return [0] if count == 1 else [round(index * (length - tile) / (count - 1)) for index in range(count)]


class Preparation:
    """From raw planes to what the program takes: resampled, normalised, cut into tiles."""

    def __init__(self, manifest: dict[str, Any], pixel_size_um: float) -> None:
        self._tile = int(manifest["tile_px"])
        self._factor = float(manifest["pixel_size_um"]) / pixel_size_um
        self._rules = manifest["normalisation"]
        self._weights: dict[int, torch.Tensor] = {}

    def tiles(self, planes: list[Path]) -> torch.Tensor:
        """(tiles, channels, tile, tile) float32 of one site."""
        site = torch.from_numpy(np.stack([tifffile.imread(path) for path in planes]).astype(np.float32))
        if abs(self._factor - 1) > 1e-6:
            site = self._along(site.shape[1]) @ site @ self._along(site.shape[2]).T
        site = torch.stack([_normalised(plane, rule) for plane, rule in zip(site, self._rules, strict=True)])
        size = self._tile
        return torch.stack(
            [
                site[:, row : row + size, column : column + size]
                for row in origins(site.shape[1], size)
                for column in origins(site.shape[2], size)
            ]
        )

    def _along(self, pixels: int) -> torch.Tensor:
        if pixels not in self._weights:
            self._weights[pixels] = torch.from_numpy(area_weights(pixels, self._factor))
        return self._weights[pixels]


def _normalised(plane: torch.Tensor, rule: dict[str, Any]) -> torch.Tensor:
    scaled = (plane - rule["offset"]) / rule["scale"]
    return torch.asinh(scaled) if rule["kind"] == "asinh" else scaled


def logits(program: torch.nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    """(sites, classes): each site's mean over its tiles, all tiles of the batch in one call."""
    output = program(torch.cat(batch))
    scores = output["logits"] if isinstance(output, dict) else output[0]
    return torch.stack([part.mean(dim=0) for part in scores.split([len(tiles) for tiles in batch])])


def batches(items: list[tuple[str, Planes]], size: int) -> Iterator[list[tuple[str, Planes]]]:
    """The items, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def main() -> None:
    """Read, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plate", type=Path)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--channels", required=True, help="channel ids in the model's order, such as 1,2,3,4,5")
    parser.add_argument("--pixel-size-um", type=float, required=True)
    parser.add_argument("--batch-sites", type=int, default=16)
    given = parser.parse_args()

    manifest = json.loads((given.package / "manifest.json").read_text("utf-8"))
    program = torch.export.load(given.package / "model.pt2").module()
    preparation = Preparation(manifest, given.pixel_size_um)
    channels = given.channels.split(",")
    sums: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        for group in batches(sites(given.plate), given.batch_sites):
            tiles = [preparation.tiles([planes[channel] for channel in channels]) for _, planes in group]
            for (well, _), score in zip(group, logits(program, tiles), strict=True):
                sums[well] = sums.get(well, torch.zeros_like(score)) + score
    classes = manifest["classes"]
    print(json.dumps({well: classes[int(score.argmax())] for well, score in sums.items()}))


if __name__ == "__main__":
    main()
