"""A finished network as a model package: exported, run again from its file, its outputs recorded."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hcs_daemon.device.manifest import (
    CARD_NAME,
    MANIFEST_NAME,
    NOVELTY_NAME,
    REFERENCES_NAME,
    SELFTEST_NAME,
    WEIGHTS_NAME,
    Manifest,
)
from hcs_daemon.device.package import outputs_of
from hcs_daemon.novelty import Novelty
from hcs_daemon.records import Pixels


def export_network(module: torch.nn.Module, example: NDArray[np.float32]) -> bytes:
    """The bytes of `model.pt2`: the module in eval mode, for any number of tiles from 1.

    example: (2 or more, channels, tile_px, tile_px) float32, normalised.
    """
    module.eval()
    stream = io.BytesIO()
    tiles = torch.export.Dim("tiles", min=1)
    program = torch.export.export(module, (torch.from_numpy(example),), dynamic_shapes=({0: tiles},))
    program.example_inputs = None  # else they are saved too, seven times as large as the weights
    torch.export.save(program, stream)
    return stream.getvalue()


def write_package(
    folder: Path,
    *,
    module: torch.nn.Module,
    manifest_fields: Mapping[str, Any],
    selftest_input: NDArray[np.float32],
    references: Mapping[str, Pixels],
    card: str,
    novelty: Novelty | None = None,
) -> Manifest:
    """Write a whole package into a folder, made when it is not there; what it holds of a package is replaced.

    manifest_fields: everything of the manifest but `weights_sha256`. selftest_input: (2 or more, channels, tile_px,
    tile_px) float32, normalised. references: class -> (sites, channels, height, width), raw counts. card: Markdown.
    novelty: how unlike its training wells a well is, by this network's embeddings.
    """
    weights = export_network(module, selftest_input)
    folder.mkdir(parents=True, exist_ok=True)
    digests: dict[str, str | None] = {"weights_sha256": hashlib.sha256(weights).hexdigest(), "novelty_sha256": None}
    if novelty is None:
        (folder / NOVELTY_NAME).unlink(missing_ok=True)
    else:
        novelty.save(folder / NOVELTY_NAME)
        digests["novelty_sha256"] = hashlib.sha256((folder / NOVELTY_NAME).read_bytes()).hexdigest()
    manifest = Manifest(**{**manifest_fields, **digests, "torch": torch.__version__})
    outputs = _recorded(weights, selftest_input, manifest)
    (folder / WEIGHTS_NAME).write_bytes(weights)
    np.savez_compressed(folder / SELFTEST_NAME, input=selftest_input, **outputs)  # type: ignore[arg-type]  # allow_pickle
    if references:
        np.savez_compressed(folder / REFERENCES_NAME, **references)  # type: ignore[arg-type]  # allow_pickle
    else:
        (folder / REFERENCES_NAME).unlink(missing_ok=True)
    (folder / CARD_NAME).write_text(card, "utf-8")
    (folder / MANIFEST_NAME).write_text(manifest.text(), "utf-8")
    return manifest


def _recorded(weights: bytes, tiles: NDArray[np.float32], manifest: Manifest) -> dict[str, NDArray[np.float32]]:
    """What the exported program gives after it was read back, of what counts for the model."""
    program = torch.export.load(io.BytesIO(weights)).module()
    with torch.inference_mode():
        found = program(torch.from_numpy(tiles))
    return {name: found[name].numpy() for name in outputs_of(manifest) if name in found}
