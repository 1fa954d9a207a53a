"""A model package on its way in: the digest first, then the shapes, then the self-test. A mismatch is a refusal."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hcs_daemon.device.manifest import (
    CARD_NAME,
    REFERENCES_NAME,
    SELFTEST_NAME,
    WEIGHTS_NAME,
    Manifest,
    read_manifest,
)
from hcs_daemon.errors import PackageError
from hcs_daemon.records import Pixels

OUTPUTS = ("logits", "embedding", "feature_map")
TOLERANCE = 1e-3
"""How far an output may lie from the recorded one, as a share of the largest recorded value: on another processor or a
card float32 is summed in another order, and differs by about 1e-5; another network differs by about 1."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """input: (n, channels, tile, tile) float32, normalised. outputs: what the network gave for it, by name."""

    input: NDArray[np.float32]
    outputs: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Package:
    """A package that passed.

    program: takes (n, channels, tile, tile) float32 and gives the three outputs by name, with gradients.
    references: class -> (sites, channels, height, width), raw counts at the model's pixel size.
    selftest_error: the largest deviation found, as a share of the largest recorded value.
    """

    folder: Path
    manifest: Manifest
    program: torch.nn.Module
    selftest: SelfTest
    references: Mapping[str, Pixels]
    selftest_error: float


def load_package(folder: Path, device: torch.device | None = None) -> Package:
    """Load a package onto a device (the CPU). Raises PackageError saying what differs and what to do.

    The weights are opened only after their SHA-256 was found to be the manifest's: opening may run code in them.
    """
    manifest = read_manifest(folder)
    data = _verified_weights(folder, manifest)
    selftest = _read_selftest(folder, manifest)
    references = _read_references(folder, manifest)
    _read(folder, CARD_NAME)
    program = _open_program(folder, data).to(device or torch.device("cpu"))
    error = run_selftest(folder, program, selftest, device or torch.device("cpu"))
    _check_gradient(folder, program, selftest, device or torch.device("cpu"))
    return Package(folder, manifest, program, selftest, references, error)


def run_selftest(folder: Path, program: torch.nn.Module, selftest: SelfTest, device: torch.device) -> float:
    """Run the self-test; the largest deviation as a share of the largest recorded value. Raises PackageError."""
    try:
        with torch.inference_mode():
            found = program(torch.from_numpy(selftest.input).to(device))
            single = program(torch.from_numpy(selftest.input[:1]).to(device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a foreign program raises, it is this package that cannot be used
        raise _refused(
            folder,
            f"the network does not take {len(selftest.input)} and 1 tiles: {_first_line(error)}",
            "export it again with a dynamic batch, for the tile size in the manifest",
        ) from error
    if not isinstance(found, Mapping) or set(OUTPUTS) - set(found):
        named = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise _refused(folder, f"the network gives {named}", f"it must give {', '.join(OUTPUTS)}, by these names")
    worst = 0.0
    for name in OUTPUTS:
        recorded = selftest.outputs[name]
        for output, wanted in ((found[name], recorded), (single[name], recorded[:1])):
            worst = max(worst, _deviation(folder, name, output.detach().cpu().numpy(), wanted))
    return worst


def _check_gradient(folder: Path, program: torch.nn.Module, selftest: SelfTest, device: torch.device) -> None:
    """Explanations follow the logits back to the input; refuse a network that does not let them."""
    tiles = torch.from_numpy(selftest.input[:1]).to(device).requires_grad_()
    try:
        (gradient,) = torch.autograd.grad(program(tiles)["logits"].sum(), tiles)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # as above
        raise _refused(folder, f"the network gives no gradient of its logits: {_first_line(error)}", _KEEP) from error
    if not bool(torch.isfinite(gradient).all()):
        raise _refused(folder, "the gradient of the network's logits is not finite", _KEEP)


def _deviation(folder: Path, name: str, found: NDArray[np.float32], recorded: NDArray[np.float32]) -> float:
    if found.shape != recorded.shape:
        raise _refused(
            folder, f"{name} has the shape {found.shape}, the self-test recorded {recorded.shape}", _ANOTHER_NETWORK
        )
    scale = max(float(np.abs(recorded).max()), 1e-6)
    error = float(np.abs(found - recorded).max()) / scale
    if not error <= TOLERANCE:  # so that NaN is refused too
        raise _refused(
            folder,
            f"the self-test fails: {name} differs by {error:.2g} of its largest value, more than {TOLERANCE:g}",
            _ANOTHER_NETWORK,
        )
    return error


_KEEP = "explanations need it: export the network without no_grad, detach and rounding, and look for divisions by zero"
_ANOTHER_NETWORK = "these are not the weights that the self-test was recorded with; export the package again as a whole"


def _verified_weights(folder: Path, manifest: Manifest) -> bytes:
    data = _read(folder, WEIGHTS_NAME)
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.weights_sha256:
        raise _refused(
            folder,
            f"{WEIGHTS_NAME} has the SHA-256 {found[:16]}…, the manifest says {manifest.weights_sha256[:16]}…; it was"
            " not opened",
            "the file was changed or damaged: copy the package again from where it was made",
        )
    return data


def _open_program(folder: Path, data: bytes) -> torch.nn.Module:
    try:
        return torch.export.load(io.BytesIO(data)).module().requires_grad_(requires_grad=False)
    except Exception as error:  # torch raises many types here; every one means that it cannot be loaded
        raise _refused(
            folder,
            f"{WEIGHTS_NAME} cannot be loaded: {_first_line(error)}",
            f"export it again with torch {torch.__version__.partition('+')[0]}",
        ) from error


def _read_selftest(folder: Path, manifest: Manifest) -> SelfTest:
    arrays = _read_arrays(folder, SELFTEST_NAME)
    missing = [name for name in ("input", *OUTPUTS) if name not in arrays]
    if missing:
        raise _refused(folder, f"{SELFTEST_NAME} has no array {missing[0]}", "record the self-test again")
    given = arrays["input"]
    wanted = (len(manifest.channels), manifest.tile_px, manifest.tile_px)
    if given.ndim != 4 or given.shape[1:] != wanted or len(given) < 2 or given.dtype != np.float32:
        raise _refused(
            folder,
            f"the self-test's input is {given.shape} {given.dtype}, by the manifest it is (2 or more, "
            f"{', '.join(map(str, wanted))}) float32",
            "the manifest's channels or tile_px are not the network's; correct them and record the self-test again",
        )
    logits = arrays["logits"]
    if logits.shape != (len(given), len(manifest.classes)):
        raise _refused(
            folder,
            f"the self-test's logits are {logits.shape}, by the manifest ({len(given)}, {len(manifest.classes)})",
            "the manifest's classes are not the network's",
        )
    for name, axes in (("embedding", 2), ("feature_map", 4)):
        if arrays[name].ndim != axes or len(arrays[name]) != len(given):
            raise _refused(
                folder,
                f"the self-test's {name} is {arrays[name].shape}, expected {axes} axes, first {len(given)} tiles",
                "by tile: embedding is (tiles, features), feature_map (tiles, maps, height, width)",
            )
    return SelfTest(_floats(given), {name: _floats(arrays[name]) for name in OUTPUTS})


def _floats(values: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def _read_references(folder: Path, manifest: Manifest) -> dict[str, Pixels]:
    arrays = _read_arrays(folder, REFERENCES_NAME)
    found: dict[str, Pixels] = {}
    for name, sources in manifest.references.items():
        sites = arrays.get(name)
        if sites is None:
            raise _refused(folder, f"{REFERENCES_NAME} has no sites of {name!r}", "add them, or correct the manifest")
        shape, count, tile = sites.shape, len(manifest.channels), manifest.tile_px
        fits = sites.ndim == 4 and shape[:2] == (len(sources), count) and min(shape[2:], default=0) >= tile
        if not fits or sites.dtype.name != manifest.container:
            raise _refused(
                folder,
                f"the references of {name!r} are {shape} {sites.dtype}, expected ({len(sources)}, {count}, {tile} or"
                f" more, {tile} or more) {manifest.container}",
                "references are whole sites in raw counts, at the model's pixel size",
            )
        found[name] = sites  # type: ignore[assignment]  # its type was compared with the container above
    return found


def _read_arrays(folder: Path, name: str) -> dict[str, NDArray[np.generic]]:
    data = _read(folder, name)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise _refused(folder, f"{name} cannot be read: {_first_line(error)}", "copy the package again") from error


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise _refused(folder, f"{name} cannot be read: {error.strerror}", "copy the whole package folder") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _refused(folder: Path, what: str, hint: str) -> PackageError:
    return PackageError(f"model package {folder}: {what}", hint)
