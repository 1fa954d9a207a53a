"""Any torch module as a model package: weights without pickle, outputs by name, and what cannot be exported said."""

import hashlib
import importlib
import io
import logging
import shutil
import sys
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from hcs_daemon.device import behaviour
from hcs_daemon.device.manifest import MANIFEST_NAME, WEIGHTS_NAME, Manifest, check_draft, read_draft
from hcs_daemon.device.package import Package, load_package, outputs_of, reference_problem
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.errors import FolderError, PackageError, SettingsError
from hcs_daemon.records import Pixels
from hcs_daemon.training.packaging import write_package

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
SELFTEST_TILES = 3
HOW_TO_NAME = """write a module around yours that names them, and give its factory:
    class ForWells(torch.nn.Module):
        def __init__(self): super().__init__(); self.body = MyNetwork()
        def forward(self, tiles):
            maps = self.body.features(tiles)
            embedding = maps.mean(dim=(2, 3))
            return {"logits": self.body.head(embedding), "embedding": embedding, "feature_map": maps}
a model without classes leaves out logits, and one without maps feature_map"""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to become a package.

    factory: `MODULE:FACTORY`. weights: a safetensors file. manifest: `manifest.json` without digests. references: an
    NPZ file of raw sites by class, None where there are no classes. card: Markdown; None: one that says what is known.
    """

    factory: str
    weights: Path
    manifest: Path
    output: Path
    references: Path | None = None
    card: Path | None = None


def export_model(request: Request) -> tuple[Package, list[str]]:
    """Write the package, and load it as the daemon does; what was done on the way, in words.

    Nothing is written when it is refused. Raises SettingsError for what was asked, PackageError for what the network
    is, FolderError for the output.
    """
    draft = read_draft(request.manifest)
    references = _references(request, draft)
    manifest = check_draft(request.manifest, draft)
    _check_references(request, manifest, references)
    _check_output(request.output)
    network = make_network(request.factory)
    load_weights(network, request.weights)
    network.to("cpu").eval()
    _check_batch_norms(network)
    tiles = _selftest_tiles(manifest, references)
    named, said = name_outputs(network, torch.from_numpy(tiles), manifest)
    partial = request.output.parent / f".{request.output.name}.partial"
    try:
        card = _card(request, manifest)
        _write(partial, named, manifest=manifest, tiles=tiles, references=references, card=card)
        package = load_package(partial)
        if request.output.exists():
            shutil.rmtree(request.output)
        partial.rename(request.output)
    except PackageError as error:
        raise PackageError(error.message.replace(str(partial), str(request.output)), error.hint) from error
    except OSError as error:
        raise FolderError(
            f"{request.output} cannot be written: {error.strerror}", "name a folder that this user may write"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return package, said


# ---- the module and its weights


def make_network(factory: str) -> nn.Module:
    """What `MODULE:FACTORY` makes, the module looked for in the current folder too. Raises SettingsError."""
    module_name, colon, name = factory.partition(":")
    if not colon or not name or module_name.endswith(".py"):
        raise SettingsError(
            f"{factory!r} is no MODULE:FACTORY",
            "for a function make_network in my_model.py in this folder, write my_model:make_network",
        )
    make = _find(module_name, name)
    try:
        network = make()
    except Exception as error:
        raise SettingsError(
            f"{factory}() raised {type(error).__name__}: {_first_line(error)}{_where(error)}",
            "it is called without arguments: write a function that gives your class the ones it needs",
        ) from error
    if not isinstance(network, nn.Module):
        raise SettingsError(
            f"{factory}() returns {type(network).__name__}, no torch.nn.Module", "return the network itself"
        )
    return network


def _find(module_name: str, name: str) -> Callable[[], object]:
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise SettingsError(
            f"{module_name} cannot be imported: {type(error).__name__}: {_first_line(error)}{_where(error)}",
            "run this where the module lies, with what it imports installed beside hcs-daemon",
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    found: Callable[[], object] | None = getattr(module, name, None)
    if not callable(found):
        near = get_close_matches(name, [each for each, value in vars(module).items() if callable(value)], n=1)
        raise SettingsError(
            f"{module_name} has no function {name}",
            f"it has {near[0]}" if near else "name a function or class of it that makes the network",
        )
    return found


def load_weights(network: nn.Module, path: Path) -> None:
    """Put a safetensors file's tensors into a network: all that it has, and no others. Raises SettingsError."""
    if path.suffix != ".safetensors":
        raise _no_safetensors(path)
    try:
        missing, unexpected = load_model(network, path, strict=False)
    except FileNotFoundError as error:
        raise SettingsError(f"{path} is not there", "name the safetensors file with the weights") from error
    except (OSError, SafetensorError) as error:
        raise SettingsError(
            f"{path} is no safetensors file: {_first_line(error)}", "save the weights again with safetensors.torch"
        ) from error
    except RuntimeError as error:
        raise SettingsError(
            f"the weights in {path.name} are of other shapes: {_shapes(error)}",
            "make the network in the factory with the sizes that it was trained with",
        ) from error
    if missing or unexpected:
        raise SettingsError(
            f"the weights in {path.name} are not this network's: {_names('missing', missing)}"
            f"{'; ' if missing and unexpected else ''}{_names('not known to it', unexpected)}",
            _prefix_hint(network, missing, unexpected),
        )


def _no_safetensors(path: Path) -> SettingsError:
    if path.suffix in PICKLES:
        return SettingsError(
            f"{path.name} is a pickle, and opening one runs whatever code somebody put into it: it was not opened",
            'where you trust it, convert it once: python -c "import torch, safetensors.torch as st; '
            f"st.save_file(torch.load('{path.name}', weights_only=True), '{path.stem}.safetensors')\"",
        )
    return SettingsError(
        f"{path.name} is no safetensors file by its name",
        "save the weights with safetensors.torch.save_model(network, 'weights.safetensors')",
    )


def _shapes(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
    return "; ".join(lines[:3]) or _first_line(error)


def _names(what: str, names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{what}: {', '.join(sorted(names)[:4])}{more}" if names else ""


def _prefix_hint(network: nn.Module, missing: list[str], unexpected: list[str]) -> str:
    """Weights saved of a wrapped network have its names with one more in front."""
    own = set(network.state_dict())
    for name in unexpected:
        prefix, _, rest = name.partition(".")
        if rest in own and rest in missing:
            return (
                f'the names in the file begin with "{prefix}.": save the state of the network inside, or wrap yours so'
            )
    return "save the weights of the very network that the factory makes, with safetensors.torch.save_model"


def _check_batch_norms(network: nn.Module) -> None:
    for name, layer in network.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is None:  # noqa: SLF001
            raise PackageError(
                f"the layer {name} is a BatchNorm without running statistics: it normalises over the tiles of a batch",
                "a tile's answer must not depend on others: train with track_running_stats=True, or use GroupNorm",
            )


# ---- its outputs


class OnlyEmbedding(nn.Module):
    """A network that gives one tensor, (tiles, features): the embedding of a model without classes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """(tiles, channels, tile, tile) to the embedding."""
        return {"embedding": self.network(tiles)}


class BeforeLast(nn.Module):
    """A classifier that gives logits alone: what its last layer is given is the embedding."""

    def __init__(self, network: nn.Module, last: str) -> None:
        super().__init__()
        self.network = network
        self._last = last

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """(tiles, channels, tile, tile) to logits and embedding."""
        given: list[torch.Tensor] = []
        layer = self.network.get_submodule(self._last)
        hook = layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        try:
            logits = self.network(tiles)
        finally:
            hook.remove()
        return {"logits": logits, "embedding": given[-1]}


def name_outputs(network: nn.Module, tiles: torch.Tensor, manifest: Manifest) -> tuple[nn.Module, list[str]]:
    """The network with its outputs named, and in words what was done for it. Raises PackageError saying how to."""
    try:
        with torch.inference_mode():
            found = network(tiles)
    except Exception as error:
        raise PackageError(
            f"the network does not take {tuple(tiles.shape)} float32: {type(error).__name__}: {_first_line(error)}"
            f"{_where(error)}",
            "by the manifest that is (tiles, channels, tile_px, tile_px): correct its channels and tile_px, or the"
            " factory",
        ) from error
    if isinstance(found, Mapping):
        _check_named(found, manifest, len(tiles))
        _check_alone(network, tiles, found)
        return network, []
    count = len(manifest.classes)
    if isinstance(found, torch.Tensor) and found.ndim == 2:
        if not count:
            return OnlyEmbedding(network), [f"its one output, {found.shape[1]} features, is the embedding"]
        last = _last_layer(network, tiles, found) if found.shape[1] == count else None
        if last is not None:
            width = network.get_submodule(last).in_features
            words = f"its one output is the logits; what its last layer {last} is given is the embedding"
            return BeforeLast(network, last), [f"{words}, {width} features; no feature map"]
    raise PackageError(f"the network gives {_kind(found)}, and a package needs its outputs by name", HOW_TO_NAME)


def _check_named(found: Mapping[str, Any], manifest: Manifest, count: int) -> None:
    """Raise PackageError unless each output that counts is a tensor of the form that the manifest asks for."""
    classes = len(manifest.classes)
    needed = ("logits", "embedding") if classes else ("embedding",)
    for name in needed:
        if name not in found:
            raise PackageError(f"the network gives {', '.join(map(str, found))}, and no {name}", HOW_TO_NAME)
    for name in (name for name in outputs_of(manifest) if name in found):
        wanted = _WANTED[name].format(count, classes)
        output = found[name]
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            what = output.dtype if isinstance(output, torch.Tensor) else _kind(output)
            raise PackageError(
                f"the network's {name} is {what}, expected one tensor of real numbers {wanted} for {count} tiles",
                "give the tensor itself, made one by torch.cat or torch.stack where it is several, and no integers",
            )
        given = tuple(output.shape)
        axes = 4 if name == "feature_map" else 2
        if len(given) != axes or given[0] != count or (name == "logits" and given[1] != classes):
            raise PackageError(
                f"the network's {name} is {given}, expected {wanted} for {count} tiles", _reshape(name, found, manifest)
            )


_WANTED = {"logits": "({0}, {1})", "embedding": "({0}, features)", "feature_map": "({0}, maps, height, width)"}
"""Shapes, for so many tiles and classes."""


def _reshape(name: str, found: Mapping[str, Any], manifest: Manifest) -> str:
    """How to give an output the form that it should have."""
    given, classes = tuple(found[name].shape), len(manifest.classes)
    if name == "feature_map":
        return "give the maps before they are pooled, or leave feature_map out"
    other = found["embedding" if name == "logits" else "logits"] if classes else None
    if name == "logits" and isinstance(other, torch.Tensor) and len(given) == 2 and other.shape[1:] == (classes,):
        return f"the embedding has the {classes} values that logits should have: the two seem to be exchanged"
    if len(given) != 2:
        return "a row of numbers a tile: .flatten(1), or .squeeze where an axis is 1 long"
    if name == "logits" and given[1] != classes:
        names = ", ".join(manifest.classes)
        return f"the manifest has {classes} classes ({names}): correct them, or the size of the network's last layer"
    return "the first axis is the tiles: keep tiles.shape[0]"


def _check_alone(network: nn.Module, tiles: torch.Tensor, found: Mapping[str, torch.Tensor]) -> None:
    """Raise PackageError where an output is not finite for one tile alone, and is for several."""
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a spread over one tile
            alone = network(tiles[:1])
    except Exception:  # noqa: BLE001 (the export says better what is wrong with one number of tiles only)
        return
    for name in ("logits", "embedding"):
        if name in found and bool(torch.isfinite(found[name]).all()) and not bool(torch.isfinite(alone[name]).all()):
            raise PackageError(
                f"the network's {name} is finite for {len(tiles)} tiles, and not for one of them alone",
                behaviour.COMPANY,
            )


def _last_layer(network: nn.Module, tiles: torch.Tensor, logits: torch.Tensor) -> str | None:
    """The name of the linear layer that gives just these logits, if there is one."""
    outputs: dict[str, torch.Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        return lambda _layer, _given, made: outputs.update({name: made})

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear) and name]
    hooks = [layer.register_forward_hook(note(name)) for name, layer in layers]
    try:
        with torch.inference_mode():
            network(tiles)
    finally:
        for hook in hooks:
            hook.remove()
    same = [name for name, made in outputs.items() if made.shape == logits.shape and torch.equal(made, logits)]
    return same[-1] if same else None


def _kind(found: object) -> str:
    if isinstance(found, torch.Tensor):
        return f"one tensor {tuple(found.shape)}"
    if isinstance(found, tuple | list):
        return f"a {type(found).__name__} of {len(found)}"
    return type(found).__name__


# ---- the export


def _write(
    folder: Path,
    network: nn.Module,
    *,
    manifest: Manifest,
    tiles: NDArray[np.float32],
    references: Mapping[str, Pixels],
    card: str,
) -> None:
    try:
        with _quiet():
            write_package(
                folder,
                module=network,
                manifest_fields=manifest.model_dump(exclude={"weights_sha256", "schema_"}),
                selftest_input=tiles,
                references=references,
                card=card,
            )
    except OSError:
        raise
    except Exception as error:  # torch.export raises many types, each for something in the network's code
        what, hint = _why_not(error)
        raise PackageError(
            f"the network cannot be exported: {what}{_where(error)}: {_first_line(error)}", hint
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's own words on an export that fails, which are for its developers."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _why_not(error: Exception) -> tuple[str, str]:
    """What in the code stands in the way, and how to mend it."""
    said = f"{type(error).__name__} {error}".lower()
    for words, what, hint in _OBSTACLES:
        if any(word in said for word in words):
            return what, hint
    return (
        "something in its forward is not made of tensor operations",
        "keep forward to torch operations on the tiles; move what prints, logs, counts or converts out of it",
    )


_OBSTACLES = (
    (
        ("numpy", "non-tensor", "functionaltensor"),
        "it leaves torch for numpy",
        "write it with torch's own functions: a program holds no Python, and gradients end at numpy",
    ),
    (
        ("data-dependent", "datadependent", "data dependent", "guardon", ".item()", "_local_scalar_dense"),
        "what it does depends on the values of the pixels",
        "replace if and while on values by torch.where, and .item() by tensors; torch.cond where two ways must stay",
    ),
    (
        ("constraint", "specializ", "dynamic"),
        "it works for one number of tiles only",
        "take the number from tiles.shape[0], and write flatten(1) and reshape(tiles.shape[0], …), no fixed number",
    ),
)
"""Words of torch's complaint, what it means, and what helps; the first that fits."""


def _where(error: BaseException) -> str:
    """The last line of the user's own code that an error came through."""
    library = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent), sys.prefix, sys.base_prefix, "<")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(library)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


# ---- what goes with it


def _references(request: Request, draft: dict[str, Any]) -> dict[str, Pixels]:
    """The arrays; where the draft does not say where their sites come from, the file's name does."""
    if request.references is None:
        if draft.get("classes"):
            raise SettingsError(
                "a model with classes needs --references, and none were named",
                "numpy.savez('references.npz', control=sites) with a few control sites, (sites, channels, height,"
                " width) raw counts at the manifest's pixel_size_um; explanations compare with them",
            )
        return {}
    try:
        with np.load(io.BytesIO(request.references.read_bytes()), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SettingsError(
            f"{request.references} cannot be read: {_first_line(error)}", "write it with numpy.savez, a class an array"
        ) from error
    source = request.references.name
    draft.setdefault(
        "references",
        {name: [f"site {n} in {source}" for n in range(1, (*sites.shape, 0)[0] + 1)] for name, sites in found.items()},
    )
    return found


def _check_references(request: Request, manifest: Manifest, found: Mapping[str, Pixels]) -> None:
    for name in manifest.references:
        problem = reference_problem(manifest, name, found.get(name))
        if problem is not None:
            raise SettingsError(f"{request.references}: {problem}", "whole sites in raw counts, as the manifest says")


def _selftest_tiles(manifest: Manifest, references: Mapping[str, Pixels]) -> NDArray[np.float32]:
    """(3, channels, tile, tile) normalised: real ones where there are references of a fitting size, else noise."""
    shape = (SELFTEST_TILES, len(manifest.channels), manifest.tile_px, manifest.tile_px)
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    tiler = Tiler(manifest, torch.device("cpu"))
    for index, site in enumerate([site for sites in references.values() for site in sites][: SELFTEST_TILES - 1]):
        fits = site.ndim == 3 and len(site) == shape[1] and min(site.shape[1:]) >= manifest.tile_px
        if fits and site.dtype.name == manifest.container:
            noise[index] = tiler.tiles(site, manifest.pixel_size_um)[0].numpy()
    return noise


def _card(request: Request, manifest: Manifest) -> str:
    if request.card is not None:
        try:
            return request.card.read_text("utf-8")
        except (OSError, ValueError) as error:
            raise SettingsError(f"{request.card} cannot be read: {_first_line(error)}", "name a text file") from error
    digest = hashlib.sha256(request.weights.read_bytes()).hexdigest()
    return (
        f"# {manifest.name} {manifest.version}\n\n"
        f"Made from `{request.factory}` with the weights in `{request.weights.name}` (SHA-256 {digest}).\n\n"
        "What it was trained on, how it was split, how well it does and where it fails is not written here: whoever\n"
        "brought it knows. Give `model export` a text with `--card FILE`.\n"
    )


def _check_output(output: Path) -> None:
    """An earlier package may be replaced, and nothing else."""
    if output.exists() and not (output / MANIFEST_NAME).exists() and not (output / WEIGHTS_NAME).exists():
        if output.is_dir() and not any(output.iterdir()):
            return
        raise FolderError(f"{output} is there, and is no model package", "name a folder that is not there yet")
    if not output.parent.is_dir():
        raise FolderError(f"{output.parent} is not there", "make it first")
