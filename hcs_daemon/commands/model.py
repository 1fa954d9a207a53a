"""`hcs-daemon model show|verify`: a model package in words, and whether it is what it says."""

from pathlib import Path

from hcs_daemon.device.manifest import CARD_NAME, WEIGHTS_NAME, Manifest, package_folder, read_manifest
from hcs_daemon.errors import PackageError
from hcs_daemon.terminal import say

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
    tiles, *shape = loaded.selftest.input.shape
    say(f"digest      {WEIGHTS_NAME} is the one that the manifest names, {manifest.weights_sha256[:16]}…")
    say(
        f"shapes      {' x '.join(map(str, shape))} in, {len(manifest.classes)} classes out, references of "
        f"{', '.join(loaded.references)}"
    )
    say(f"self-test   {tiles} tiles: largest deviation {loaded.selftest_error:.1g}, at most {TOLERANCE:g} is allowed")
    return 0


def describe(manifest: Manifest, folder: Path) -> list[str]:
    """The manifest, line by line."""
    edge_um = manifest.tile_px * manifest.pixel_size_um
    references = [f"{len(sources)} of {name}" for name, sources in manifest.references.items()]
    lines = [
        f"model        {manifest.name} {manifest.version}, in {folder}",
        f"channels     {_BELOW.join(_channel_words(manifest))}",
        f"images       {manifest.bit_depth} bits in {manifest.container}",
        f"sees         tiles of {manifest.tile_px} pixels ({edge_um:.0f} µm), {manifest.pixel_size_um:g} µm a pixel",
        f"classes      {', '.join(manifest.classes)}",
        f"control      {manifest.control_class}",
        f"references   {', '.join(references)}",
        f"weights      SHA-256 {manifest.weights_sha256}",
    ]
    if manifest.demonstration:
        lines.insert(1, "             for DEMONSTRATION only: what it says of real cells means nothing")
    return lines


def _channel_words(manifest: Manifest) -> list[str]:
    return [channel.name + (f": {channel.stain}" if channel.stain else "") for channel in manifest.channels]


def _read_card(folder: Path) -> str:
    try:
        return (folder / CARD_NAME).read_text("utf-8", errors="replace")
    except OSError as error:
        raise PackageError(
            f"model package {folder}: {CARD_NAME} cannot be read: {error.strerror}", "copy the whole package folder"
        ) from error
