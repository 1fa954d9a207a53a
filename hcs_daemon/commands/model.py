"""`hcs-daemon model show|verify|export`: a model package in words, whether it is what it says, and how one is made."""

from pathlib import Path
from typing import TYPE_CHECKING

from hcs_daemon.device.manifest import (
    CARD_NAME,
    WEIGHTS_NAME,
    Manifest,
    lacking_references,
    package_folder,
    read_manifest,
)
from hcs_daemon.errors import PackageError
from hcs_daemon.terminal import say

if TYPE_CHECKING:
    from hcs_daemon.device.package import Package

_BELOW = "\n" + " " * 13


def show_package(package: str) -> int:
    """Manifest and card; the network itself is not opened. Raises PackageError."""
    folder = package_folder(package)
    manifest = read_manifest(folder)
    card = _read_card(folder)
    say("\n".join(describe(manifest, folder)))
    say(f"\n{card.strip()}")
    return 0


def verify_package(package: str) -> int:
    """Everything that a start of the daemon checks, and what came out. Raises PackageError."""
    folder = package_folder(package)
    manifest = read_manifest(folder)
    say(f"{manifest.name} {manifest.version} in {folder}")
    say("manifest    complete")
    from hcs_daemon.device.package import TOLERANCE, load_package  # noqa: PLC0415 (torch takes two seconds)

    loaded = load_package(folder)
    _say_verified(loaded, TOLERANCE)
    return 0


def export_package(
    factory: str, *, weights: Path, manifest: Path, output: Path, references: Path | None, card: Path | None
) -> int:
    """Make a package from a torch module, and say what it expects. Raises SettingsError, PackageError, FolderError."""
    from hcs_daemon.device.package import TOLERANCE  # noqa: PLC0415 (torch takes two seconds)
    from hcs_daemon.training.exporting import Request, export_model  # noqa: PLC0415

    made, said = export_model(Request(factory, weights, manifest, output, references, card))
    say("\n".join(describe(made.manifest, output)))
    for words in said:
        say(f"outputs      {words}")
    _say_verified(made, TOLERANCE)
    say(f'\nit is ready: set model.package = "{output}", and see with hcs-daemon check what it would do')
    return 0


def _say_verified(loaded: "Package", tolerance: float) -> None:
    manifest = loaded.manifest
    tiles, *shape = loaded.selftest.input.shape
    say(f"digest      {WEIGHTS_NAME} is the one that the manifest names, {manifest.weights_sha256[:16]}…")
    features = loaded.selftest.outputs["embedding"].shape[1]
    classes = f"{len(manifest.classes)} classes and " if manifest.classes else ""
    compared = f", references of {', '.join(loaded.references)}" if loaded.references else ""
    say(f"shapes      {' x '.join(map(str, shape))} in, {classes}{features} features out{compared}")
    say(f"self-test   {tiles} tiles: largest deviation {loaded.selftest_error:.1g}, at most {tolerance:g} is allowed")
    say(
        f"behaviour   it looks at its input, at each tile by itself{', and has a gradient' if manifest.classes else ''}"
    )
    if loaded.novelty is not None:
        rate, least = loaded.novelty.false_alarm_rate, loaded.novelty.threshold
        say(f"novelty     wells further than {least:.3g} from its own are unlike them, {100 * rate:g} % by mistake")
    if manifest.classes:
        say(f"randomised  {_randomised(loaded)}")
    lacking = lacking_references(manifest)
    for note in loaded.notes if lacking is None else (*loaded.notes, lacking):
        say(f"note        {note}")


def _randomised(loaded: "Package") -> str:
    """What becomes of its answers and maps on the CPU when its weights are randomised."""
    import torch  # noqa: PLC0415 (two seconds)

    from hcs_daemon.device.randomisation import randomise, randomised_words, untried  # noqa: PLC0415
    from hcs_daemon.device.tiling import Tiler  # noqa: PLC0415

    device = torch.device("cpu")
    try:
        return randomised_words(randomise(loaded, Tiler(loaded.manifest, device), device))
    except Exception as error:  # noqa: BLE001 (a foreign program may raise anything; a start would say so of each map)
        return randomised_words(untried(error))


def describe(manifest: Manifest, folder: Path) -> list[str]:
    """The manifest, line by line."""
    edge_um = manifest.tile_px * manifest.pixel_size_um
    references = [f"{len(sources)} of {name}" for name, sources in manifest.references.items()]
    lines = [
        f"model        {manifest.name} {manifest.version}, in {folder}",
        f"channels     {_BELOW.join(_channel_words(manifest))}",
        f"images       {manifest.bit_depth} bits in {manifest.container}",
        f"sees         tiles of {manifest.tile_px} pixels ({edge_um:.0f} µm), {manifest.pixel_size_um:g} µm a pixel",
        *_class_lines(manifest, references),
        f"weights      SHA-256 {manifest.weights_sha256}",
    ]
    lines += [f"WARNING      {words}" for words in manifest.warnings]
    if manifest.demonstration:
        lines.insert(1, "             for DEMONSTRATION only: what it says of real cells means nothing")
    return lines


def _class_lines(manifest: Manifest, references: list[str]) -> list[str]:
    if not manifest.classes:
        return ["classes      none: it gives profiles, and no verdict"]
    return [
        f"classes      {', '.join(manifest.classes)}",
        f"control      {manifest.control_class}",
        f"references   {', '.join(references)}",
    ]


def _channel_words(manifest: Manifest) -> list[str]:
    return [
        channel.name + (f": {channel.stain}" if channel.stain else "") + f"; {_FORMULAS[rule.kind].format(rule)}"
        for channel, rule in zip(manifest.channels, manifest.normalisation, strict=True)
    ]


_FORMULAS = {
    "linear": "(x - {0.offset:g}) / {0.scale:g}",
    "asinh": "asinh((x - {0.offset:g}) / {0.scale:g})",
    "log1p": "ln(1 + (x - {0.offset:g}) / {0.scale:g}), from 0",
    "clip": "(x - {0.offset:g}) / {0.scale:g}, cut to 0 to 1",
}
"""How raw counts x become what the network sees."""


def _read_card(folder: Path) -> str:
    try:
        return (folder / CARD_NAME).read_text("utf-8", errors="replace")
    except OSError as error:
        raise PackageError(
            f"model package {folder}: {CARD_NAME} cannot be read: {error.strerror}", "copy the whole package folder"
        ) from error
