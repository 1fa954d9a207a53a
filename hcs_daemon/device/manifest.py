"""A model package's manifest: what the network expects, and what it says. No torch here: settings are checked fast.

A package is a folder: `manifest.json`, `model.pt2`, `selftest.npz`, `references.npz`, `card.md`; docs/model-package.md.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hcs_daemon.config import Expect
from hcs_daemon.errors import PackageError, SettingsError

SCHEMA: Literal["hcs-daemon/model-package/1"] = "hcs-daemon/model-package/1"
MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "model.pt2"
SELFTEST_NAME = "selftest.npz"
REFERENCES_NAME = "references.npz"
CARD_NAME = "card.md"
LEAST_FACTOR, MOST_FACTOR = 0.25, 4.0
"""How many of a site's pixels, along a side, may become one of the model's: beyond, its picture is another one."""
_DEMO = Path(__file__).resolve().parent / "demo"

Name = Annotated[str, Field(min_length=1, max_length=80)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ChannelEntry(_Entry):
    """One of the model's channels. stain: what it shows, in words."""

    name: Name
    stain: str = ""


class Normalisation(_Entry):
    """From raw counts x to what the network sees: `linear` (x - offset) / scale, `asinh` asinh of that."""

    kind: Literal["linear", "asinh"]
    offset: float
    scale: float = Field(gt=0.0)


class Manifest(_Entry):
    """`manifest.json`. Channels, normalisation, logits and references are in the order given here.

    tile_px: edge of the square that the network sees, at pixel_size_um micrometres a pixel. references: class -> in
    words, where each of its sites in references.npz comes from.
    """

    schema_: Literal["hcs-daemon/model-package/1"] = Field(SCHEMA, alias="schema")
    name: Name
    version: Name
    demonstration: bool = False
    channels: tuple[ChannelEntry, ...] = Field(min_length=1, max_length=16)
    container: Literal["uint8", "uint16"]
    bit_depth: Literal[8, 10, 12, 14, 16]
    tile_px: int = Field(ge=8, le=4096)
    pixel_size_um: float = Field(gt=0.0, le=100.0)
    normalisation: tuple[Normalisation, ...]
    classes: tuple[Name, ...] = Field(min_length=2, max_length=1000)
    control_class: Name
    references: dict[str, tuple[str, ...]]
    flatfield: Literal["off", "instrument"] = "off"
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The channels in the model's order."""
        return tuple(channel.name for channel in self.channels)

    def text(self) -> str:
        """As it stands in manifest.json."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    def factor(self, pixel_size_um: float) -> float:
        """How many pixels of a site, along a side, become one of the model's."""
        return self.pixel_size_um / pixel_size_um

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        return _no_twins(classes)

    @field_validator("channels")
    @classmethod
    def _distinct_channels(cls, channels: tuple[ChannelEntry, ...]) -> tuple[ChannelEntry, ...]:
        _no_twins(tuple(channel.name for channel in channels))
        return channels

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(self.normalisation) != len(self.channels):
            raise ValueError(f"normalisation has {len(self.normalisation)} entries for {len(self.channels)} channels")
        if self.control_class not in self.classes:
            raise ValueError(f"control_class {self.control_class!r} is not one of the classes")
        if not self.references.get(self.control_class):
            raise ValueError(f"references has no entry for the control class {self.control_class!r}")
        strangers = sorted(set(self.references) - set(self.classes))
        if strangers:
            raise ValueError(f"references has {strangers[0]!r}, which is not one of the classes")
        return self


def _no_twins(names: tuple[str, ...]) -> tuple[str, ...]:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{name!r} stands there {count} times")
    return names


def package_folder(package: str) -> Path:
    """Where a package is: the one that ships with the program for "demo", else the path itself."""
    return _DEMO if package == "demo" else Path(package)


def read_manifest(folder: Path) -> Manifest:
    """Read and check a package's manifest. Raises PackageError, saying what differs."""
    path = folder / MANIFEST_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PackageError(
            f"model package {folder}: {MANIFEST_NAME} cannot be read: {error.strerror}",
            'model.package names a folder with a manifest, or "demo"; docs/model-package.md says what it holds',
        ) from error
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise PackageError(
            f"model package {folder}: {_in_words(error)}",
            "mend manifest.json, or copy the package again; docs/model-package.md explains every key",
        ) from error


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    said = str(first["msg"]).removeprefix("Value error, ")
    return f"{MANIFEST_NAME}: {where + ': ' if where else ''}{said}"


def check_covers(manifest: Manifest, expect: Expect) -> None:
    """Raise SettingsError unless the settings bring just what the model needs."""
    known = ", ".join(expect.channels)
    for channel in manifest.channel_names:
        if channel not in expect.channels:
            raise SettingsError(
                f"the model {manifest.name} needs a channel {channel}, and expect.channels has {known}",
                f'add {channel} = "the instrument\'s channel id"; the model needs {", ".join(manifest.channel_names)}',
            )
    for channel, channel_id in expect.channels.items():
        if channel not in manifest.channel_names:
            raise SettingsError(
                f"expect.channels has {channel}, which the model {manifest.name} does not use",
                f'take it out, and add "{channel_id}" to expect.ignore_channels if it is acquired all the same',
            )
    if expect.bit_depth != manifest.bit_depth or expect.dtype != manifest.container:
        raise SettingsError(
            f"the model {manifest.name} was made for {manifest.bit_depth} bits in {manifest.container}, the settings"
            f" expect {expect.bit_depth} bits in {expect.dtype}",
            "set expect.bit_depth to what the camera gives, and take a model that was made for it",
        )
    if expect.flatfield != manifest.flatfield:
        seen = {"off": "without", "instrument": "with"}
        raise SettingsError(
            f"the model {manifest.name} was trained {seen[manifest.flatfield]} the instrument's flat field taken out,"
            f' and expect.flatfield = "{expect.flatfield}"',
            f'set expect.flatfield = "{manifest.flatfield}", or take a model that was trained on such images',
        )
    if expect.pixel_size_um:
        problem = scale_problem(manifest, expect.pixel_size_um)
        if problem is not None:
            raise SettingsError(
                f"expect.pixel_size_um = {expect.pixel_size_um:g}: {problem}",
                "correct it, or take a model that was made for this magnification",
            )


def scale_problem(manifest: Manifest, pixel_size_um: float) -> str | None:
    """Why a site of this pixel size cannot be shown to the model, in words, or None."""
    factor = manifest.factor(pixel_size_um)
    if LEAST_FACTOR <= factor <= MOST_FACTOR:
        return None
    return (
        f"the model sees {manifest.pixel_size_um:g} µm a pixel, {factor:.3g} times the site's {pixel_size_um:g} µm;"
        f" a factor outside {LEAST_FACTOR:g} to {MOST_FACTOR:g} is refused"
    )
