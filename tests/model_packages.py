"""Small model packages for tests: networks whose answers can be worked out by hand, and one written to a folder."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hcs_daemon.device.manifest import ChannelEntry, Manifest, Normalisation
from hcs_daemon.device.package import Package, SelfTest
from hcs_daemon.novelty import Novelty
from hcs_daemon.plate import AcquisitionId, PlaneId, SiteId, WellId, WellPosition
from hcs_daemon.records import ChannelImage, Pixels, PlaneMeasures, PlaneRecord, Site, SourceFile
from hcs_daemon.training.packaging import write_package

CHANNELS = ("DNA", "ER", "Mito")
CLASSES = ("control", "broken", "odd")
TILE_PX = 18


class ChannelMeans(nn.Module):
    """logits = weights @ (mean of each channel), through a bend of one's choice; embedding the means themselves."""

    def __init__(self, weights: Sequence[Sequence[float]], bend: nn.Module | None = None) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float32))
        self.bend = bend or nn.Identity()

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, channels, tile, tile) to the three outputs."""
        means = tiles.mean(dim=(2, 3))
        return {"logits": self.bend(means) @ self.weights.T, "embedding": means, "feature_map": tiles[:, :, ::6, ::6]}


def manifest(**changes: object) -> Manifest:
    """Three channels, three classes, 18-pixel tiles at 1 µm, nothing normalised away."""
    fields: dict[str, object] = {
        "name": "tiny",
        "version": "1.0",
        "channels": tuple(ChannelEntry(name=name, stain=f"{name} stain") for name in CHANNELS),
        "container": "uint16",
        "bit_depth": 16,
        "tile_px": TILE_PX,
        "pixel_size_um": 1.0,
        "normalisation": tuple(Normalisation(kind="linear", offset=100.0, scale=100.0) for _ in CHANNELS),
        "classes": CLASSES,
        "control_class": "control",
        "references": {"control": ("control well A01", "control well A02")},
        "weights_sha256": "0" * 64,
    }
    return Manifest.model_validate(fields | changes)


def package_of(
    program: nn.Module, made: Manifest | None = None, references: Mapping[str, Pixels] | None = None
) -> Package:
    """A package in memory, as if it had been loaded. references: by default flat control sites of 100 and 110."""
    made = made or manifest()
    flat = np.stack([np.full((len(made.channels), made.tile_px, made.tile_px), level) for level in (100, 110)])
    given = selftest_input(made)
    with torch.inference_mode():
        outputs = {name: value.numpy() for name, value in program(torch.from_numpy(given)).items()}
    return Package(
        folder=Path("tiny"),
        manifest=made,
        program=program.requires_grad_(requires_grad=False),
        selftest=SelfTest(given, outputs),
        references=references or {"control": flat.astype(np.uint16)},
        selftest_error=0.0,
    )


def selftest_input(made: Manifest) -> NDArray[np.float32]:
    """Two noisy tiles."""
    shape = (2, len(made.channels), made.tile_px, made.tile_px)
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def write_tiny_package(
    folder: Path, program: nn.Module | None = None, made: Manifest | None = None, novelty: Novelty | None = None
) -> Path:
    """Export a package to `folder`, as anybody would."""
    made = made or manifest()
    rng = np.random.default_rng(2)
    shape = (2, len(made.channels), 2 * made.tile_px, 2 * made.tile_px)
    write_package(
        folder,
        module=program or ChannelMeans([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, -1.0]], nn.Tanh()),
        manifest_fields=made.model_dump(exclude={"weights_sha256", "schema_"}),
        selftest_input=selftest_input(made),
        references={name: rng.integers(100, 120, shape, dtype=np.uint16) for name in made.references},
        card="# tiny\n\nFor tests.\n",
        novelty=novelty,
    )
    return folder


def site_of(pixels: Pixels, number: int = 1, pixel_size_um: float = 1.0) -> Site:
    """A site of well B03 with these (channels, height, width) pixels."""
    site = SiteId(WellId(AcquisitionId("PLATE", "1"), WellPosition(2, 3)), number)
    images = tuple(ChannelImage((_record(site, str(index), plane),)) for index, plane in enumerate(pixels))
    return Site(site, images, pixels, pixel_size_um)


def _record(site: SiteId, channel: str, plane: Pixels) -> PlaneRecord:
    digest = hashlib.sha256(plane.tobytes()).hexdigest()
    return PlaneRecord(
        id=PlaneId(site, channel),
        channel=channel,
        source=SourceFile(f"{channel}.tiff", plane.nbytes, 1, digest),
        shape=(plane.shape[0], plane.shape[1]),
        container=plane.dtype.name,
        measures=PlaneMeasures(int(plane.min()), int(plane.max()), 16, 0.0, 1.0),
        seen_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
