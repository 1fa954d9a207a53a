"""A model package on its way in: the digest first, then the shapes, then the self-test, then how the network behaves.

A mismatch is a refusal.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hcs_daemon import novelty
from hcs_daemon.device import behaviour
from hcs_daemon.device.manifest import (
    CARD_NAME,
    NOVELTY_NAME,
    REFERENCES_NAME,
    SELFTEST_NAME,
    WEIGHTS_NAME,
    Manifest,
    read_manifest,
)
from hcs_daemon.errors import PackageError
from hcs_daemon.novelty import Novelty
from hcs_daemon.records import Pixels

OUTPUTS = ("logits", "embedding", "feature_map")
"""What a network may give. Logits wherever there are classes, an embedding always, a feature map if it has one."""
TOLERANCE = 1e-3
"""How far an output may lie from the recorded one, as a share of the largest recorded value: on another processor or a
card float32 is summed in another order, and differs by about 1e-5; another network differs by about 1."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """input: (n, channels, tile, tile) float32, normalised. outputs: what the network gave for it, by name.

    torch: the version that it was recorded with; empty where nobody noted it.
    """

    input: NDArray[np.float32]
    outputs: Mapping[str, NDArray[np.float32]]
    torch: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """A package that passed.

    program: takes (n, channels, tile, tile) float32 and gives the self-test's outputs by name, with gradients.
    references: class -> (sites, channels, height, width), raw counts at the model's pixel size.
    selftest_error: the largest deviation found, as a share of the largest recorded value. novelty: how unlike its
    training wells a well is; None where it has no novelty.npz. notes: what is odd about it and no ground to refuse it.
    """

    folder: Path
    manifest: Manifest
    program: torch.nn.Module
    selftest: SelfTest
    references: Mapping[str, Pixels]
    selftest_error: float
    novelty: Novelty | None = None
    notes: tuple[str, ...] = ()


def load_package(folder: Path, device: torch.device | None = None) -> Package:
    """Load a package onto a device (the CPU). Raises PackageError saying what differs and what to do.

    The weights are opened only after their SHA-256 was found to be the manifest's: opening may run code in them.
    """
    manifest = read_manifest(folder)
    data = _verified_weights(folder, manifest)
    selftest = _read_selftest(folder, manifest)
    references = _read_references(folder, manifest)
    known = _read_novelty(folder, manifest, selftest)
    _read(folder, CARD_NAME)
    device = device or torch.device("cpu")
    program = _open_program(folder, data).to(device)
    error = run_selftest(folder, program, selftest, device)
    try:
        notes = behaviour.examine(program, torch.from_numpy(selftest.input).to(device), manifest)
    except behaviour.MisbehaviourError as problem:
        raise _refused(folder, problem.what, problem.hint) from problem
    return Package(folder, manifest, program, selftest, references, error, known, notes)


def run_selftest(folder: Path, program: torch.nn.Module, selftest: SelfTest, device: torch.device) -> float:
    """Run the self-test; the largest deviation as a share of the largest recorded value. Raises PackageError."""
    try:
        with torch.inference_mode():
            found = program(torch.from_numpy(selftest.input).to(device))
            again = program(torch.from_numpy(selftest.input).to(device))
            single = program(torch.from_numpy(selftest.input[:1]).to(device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a foreign program raises, it is this package that cannot be used
        raise _refused(
            folder,
            f"the network does not take {len(selftest.input)} and 1 tiles: {_first_line(error)}",
            "export it again with a dynamic batch, for the tile size in the manifest",
        ) from error
    if not isinstance(found, Mapping) or set(selftest.outputs) - set(found):
        named = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        wanted = ", ".join(selftest.outputs)
        raise _refused(folder, f"the network gives {named}", f"it must give {wanted}, by these names")
    if "feature_map" in found and "feature_map" not in selftest.outputs:
        raise _refused(folder, "the network gives a feature_map, and the self-test has none", "record it again")
    worst = 0.0
    for name, recorded in selftest.outputs.items():
        if behaviour.change(again[name], found[name], found[name]) > TOLERANCE:
            raise _refused(
                folder,
                f"the network gives another {name} every time it is shown the same",
                "export it in evaluation mode: no dropout, no noise, no random crops",
            )
        together, alone = (output[name].detach().cpu().numpy() for output in (found, single))
        worst = max(worst, _deviation(folder, name, together, recorded, _another(selftest.torch)))
        worst = max(worst, _deviation(folder, f"{name} of one tile alone", alone, recorded[:1], behaviour.COMPANY))
    return worst


def _deviation(folder: Path, name: str, found: NDArray[np.float32], recorded: NDArray[np.float32], hint: str) -> float:
    if found.shape != recorded.shape:
        raise _refused(folder, f"{name} has the shape {found.shape}, the self-test recorded {recorded.shape}", hint)
    if not np.isfinite(found).all():
        raise _refused(folder, f"the self-test fails: {name} is not finite", _NOT_FINITE)
    scale = max(float(np.abs(recorded).max()), 1e-6)
    error = float(np.abs(found - recorded).max()) / scale
    if not error <= TOLERANCE:  # so that NaN is refused too
        raise _refused(
            folder,
            f"the self-test fails: {name} differs by {error:.2g} of its largest value, more than {TOLERANCE:g}",
            hint,
        )
    return error


_NOT_FINITE = "look for a division by zero, a logarithm of 0 and weights that are not finite; then export it again"


def _another(recorded_with: str) -> str:
    """What to do about a network that gives other numbers than those recorded."""
    here = torch.__version__
    if recorded_with and recorded_with.partition("+")[0] != here.partition("+")[0]:
        return f"it was exported with torch {recorded_with}, and this is torch {here}: export it again with this one"
    return "these are not the weights that the self-test was recorded with; export the package again as a whole"


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
    needed = ("input", *(("logits",) if manifest.classes else ()), "embedding")
    missing = [name for name in needed if name not in arrays]
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
    logits = arrays.get("logits") if manifest.classes else None
    if logits is not None and logits.shape != (len(given), len(manifest.classes)):
        raise _refused(
            folder,
            f"the self-test's logits are {logits.shape}, by the manifest ({len(given)}, {len(manifest.classes)})",
            "the manifest's classes are not the network's",
        )
    for name, axes in (("embedding", 2), ("feature_map", 4)):
        if name in arrays and (arrays[name].ndim != axes or len(arrays[name]) != len(given)):
            raise _refused(
                folder,
                f"the self-test's {name} is {arrays[name].shape}, expected {axes} axes, first {len(given)} tiles",
                "by tile: embedding is (tiles, features), feature_map (tiles, maps, height, width)",
            )
    outputs = {name: _floats(arrays[name]) for name in outputs_of(manifest) if name in arrays}
    return SelfTest(_floats(given), outputs, manifest.torch)


def outputs_of(manifest: Manifest) -> tuple[str, ...]:
    """The outputs that count for a model: no logits where there are no classes."""
    return OUTPUTS if manifest.classes else OUTPUTS[1:]


def _floats(values: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def _read_references(folder: Path, manifest: Manifest) -> dict[str, Pixels]:
    if not manifest.references:
        return {}
    arrays = _read_arrays(folder, REFERENCES_NAME)
    found: dict[str, Pixels] = {}
    for name in manifest.references:
        problem = reference_problem(manifest, name, arrays.get(name))
        if problem is not None:
            raise _refused(
                folder,
                f"{REFERENCES_NAME}: {problem}",
                "references are whole sites in raw counts, at the model's pixel size",
            )
        found[name] = arrays[name]  # type: ignore[assignment]  # its type was compared with the container
    return found


def reference_problem(manifest: Manifest, name: str, sites: NDArray[np.generic] | None) -> str | None:
    """Why an array cannot be the reference sites of a class, in words; None where it can."""
    if sites is None:
        return f"no sites of {name!r}, which the manifest names"
    shape, sources = sites.shape, manifest.references[name]
    count, tile = len(manifest.channels), manifest.tile_px
    fits = sites.ndim == 4 and shape[:2] == (len(sources), count) and min(shape[2:], default=0) >= tile
    if fits and sites.dtype.name == manifest.container:
        return None
    return (
        f"the references of {name!r} are {shape} {sites.dtype}, expected ({len(sources)}, {count}, {tile} or more,"
        f" {tile} or more) {manifest.container}"
    )


def _read_novelty(folder: Path, manifest: Manifest, selftest: SelfTest) -> Novelty | None:
    path = folder / NOVELTY_NAME
    if manifest.novelty_sha256 is None:
        if path.exists():
            raise _refused(
                folder, f"{NOVELTY_NAME} is there, and the manifest does not name its SHA-256", "add it, or take it out"
            )
        return None
    found = hashlib.sha256(_read(folder, NOVELTY_NAME)).hexdigest()
    if found != manifest.novelty_sha256:
        raise _refused(
            folder,
            f"{NOVELTY_NAME} has the SHA-256 {found[:16]}…, the manifest says {manifest.novelty_sha256[:16]}…",
            "the file was changed or damaged: copy the package again from where it was made",
        )
    try:
        known = novelty.load(path)
        known.score(selftest.outputs["embedding"][0])
    except ValueError as error:
        raise _refused(
            folder, f"{NOVELTY_NAME} does not fit: {_first_line(error)}", "make it again from this network's embeddings"
        ) from error
    return known


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
