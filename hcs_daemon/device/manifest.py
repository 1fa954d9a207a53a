"""A model package's manifest: what the network expects, and what it says. No torch here: settings are checked fast.

A package is a folder: `manifest.json`, `model.pt2`, `selftest.npz`, `references.npz`, `card.md`, and `novelty.npz`
where it knows what it was trained on; docs/model-package.md.
`python -m hcs_daemon.device.manifest docs/schemas` writes the JSON Schema.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hcs_daemon.config import Expect
from hcs_daemon.errors import PackageError, SettingsError
from hcs_daemon.versions import newer, refusal
from hcs_daemon.vocabulary import UNLIKE

SCHEMA: Literal["hcs-daemon/model-package/1"] = "hcs-daemon/model-package/1"
MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "model.pt2"
SELFTEST_NAME = "selftest.npz"
REFERENCES_NAME = "references.npz"
NOVELTY_NAME = "novelty.npz"
CARD_NAME = "card.md"
SCHEMA_FILE = "model-package.schema.json"
LEAST_FACTOR, MOST_FACTOR = 0.25, 4.0
"""How many of a site's pixels, along a side, may become one of the model's: beyond, its picture is another one."""
_DEMO = Path(__file__).resolve().parent / "demo"

Name = Annotated[str, Field(min_length=1, max_length=80)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ChannelEntry(_Entry):
    """One of the model's channels. stain: what it shows, in words."""

    name: Name
    stain: str = ""


class Normalisation(_Entry):
    """From raw counts x to what the network sees, with y = (x - offset) / scale.

    `linear` is y, `asinh` the asinh of y, `log1p` ln(1 + y) where y is above 0 and 0 below, `clip` y between 0 and 1.
    """

    kind: Literal["linear", "asinh", "log1p", "clip"] = Field(
        description="linear: y = (x - offset) / scale; asinh: asinh(y); log1p: ln(1 + max(y, 0)); clip: y within 0 to 1"
    )
    offset: float = Field(description="raw counts")
    scale: float = Field(gt=0.0, description="raw counts")


class Manifest(_Entry):
    """`manifest.json`. Channels, normalisation, logits and references are in the order given here.

    tile_px: edge of the square that the network sees, at pixel_size_um micrometres a pixel. classes: empty for a model
    that only embeds; it has no control class and no references then. references: class -> in words, where each of its
    sites in references.npz comes from. torch: the version that exported it. warnings: of its maker.
    """

    schema_: Literal["hcs-daemon/model-package/1"] = Field(SCHEMA, alias="schema")
    name: Name
    version: Name
    demonstration: bool = Field(default=False, description="true: every result warns that its verdicts mean nothing")
    channels: tuple[ChannelEntry, ...] = Field(
        min_length=1,
        max_length=16,
        description="that the network sees, in its order; named as in expect.channels",
    )
    container: Literal["uint8", "uint16"]
    bit_depth: Literal[8, 10, 12, 14, 16] = Field(description="bits that carry information")
    tile_px: int = Field(ge=8, le=4096, description="edge of the square that the network sees, pixels")
    pixel_size_um: float = Field(gt=0.0, le=100.0, description="micrometres a pixel at which it sees")
    normalisation: tuple[Normalisation, ...] = Field(description="one a channel, in their order")
    classes: tuple[Name, ...] = Field((), max_length=1000, description="in the order of logits; none: it only embeds")
    control_class: Annotated[str, Field(max_length=80)] = Field(
        "", description="which of the classes is the untreated control; empty where there are none"
    )
    references: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="class -> where each of its sites in references.npz comes from, in words"
    )
    flatfield: Literal["off", "instrument"] = Field(
        "off", description="whether it was trained on images whose uneven light the instrument's profiles took out"
    )
    warnings: tuple[str, ...] = Field((), description="what speaks against trusting it, in words; in every result too")
    torch: str = Field("", max_length=80, description="the version that exported it; empty where nobody noted it")
    weights_sha256: Digest = Field(description="of model.pt2")
    novelty_sha256: Digest | None = Field(None, description="of novelty.npz; null where there is none")

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
        if len(classes) == 1:
            raise ValueError("one class is no choice: give two or more, or none for a model that only embeds")
        if UNLIKE in classes:
            raise ValueError(f"{UNLIKE!r} is the label of wells that are of no class: give the class another name")
        return _no_twins(classes) if classes else classes

    @field_validator("channels")
    @classmethod
    def _distinct_channels(cls, channels: tuple[ChannelEntry, ...]) -> tuple[ChannelEntry, ...]:
        _no_twins(tuple(channel.name for channel in channels))
        return channels

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(self.normalisation) != len(self.channels):
            raise ValueError(f"normalisation has {len(self.normalisation)} entries for {len(self.channels)} channels")
        if not self.classes:
            return self._only_embeds()
        if self.control_class not in self.classes:
            raise ValueError(f"control_class {self.control_class!r} is not one of the classes")
        if not self.references.get(self.control_class):
            raise ValueError(f"references has no entry for the control class {self.control_class!r}")
        strangers = sorted(set(self.references) - set(self.classes))
        if strangers:
            raise ValueError(f"references has {strangers[0]!r}, which is not one of the classes")
        return self

    def _only_embeds(self) -> Self:
        if self.control_class:
            raise ValueError(f"control_class {self.control_class!r} has no place in a model without classes")
        if self.references:
            raise ValueError("references have no place in a model without classes: it has no verdict to explain")
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
        if said := newer(data, SCHEMA):
            raise PackageError(
                f"model package {folder}: {MANIFEST_NAME} {refusal(said, SCHEMA)}",
                "upgrade hcs-daemon, or export the package again",
            ) from error
        raise PackageError(
            f"model package {folder}: {_in_words(error)}",
            "mend manifest.json, or copy the package again; docs/model-package.md explains every key",
        ) from error


def lacking_references(manifest: Manifest) -> str | None:
    """What cannot be explained for want of references of a second class, and how to add them; None where it can."""
    if set(manifest.references) - {manifest.control_class} or not manifest.classes:
        return None
    other = next(name for name in manifest.classes if name != manifest.control_class)
    return (
        f"references of {manifest.control_class} alone: wells that look like it are not explained, and too few are"
        f" there to tell what the model knows; add sites of another class to references.npz, such as {other}=sites,"
        " and export it again"
    )


def read_draft(path: Path) -> dict[str, Any]:
    """What somebody wrote for a package that is to be made: a manifest without digests. Raises SettingsError."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", _DRAFT) from error
    except ValueError as error:
        raise SettingsError(f"{path} is no JSON: {error}", _DRAFT) from error
    if not isinstance(found, dict):
        raise SettingsError(f"{path} holds no object", _DRAFT)
    return {name: value for name, value in found.items() if name not in {"weights_sha256", "novelty_sha256", "torch"}}


def check_draft(path: Path, draft: Mapping[str, Any]) -> Manifest:
    """The manifest that a draft will be, its digest not known yet. Raises SettingsError."""
    try:
        return Manifest.model_validate_json(json.dumps({"schema": SCHEMA, **draft, "weights_sha256": "0" * 64}))
    except ValidationError as error:
        raise SettingsError(f"{path}: {_in_words(error)}", _DRAFT) from error


_DRAFT = "docs/model-package.md explains every key, and has one to begin with"


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    said = str(first["msg"]).removeprefix("Value error, ")
    return f"{MANIFEST_NAME}: {where + ': ' if where else ''}{said}"


def check_covers(manifest: Manifest, expect: Expect) -> None:
    """Raise SettingsError unless the settings bring what the model needs; channels beyond are left aside."""
    known = ", ".join(expect.channels)
    for channel in manifest.channel_names:
        if channel not in expect.channels:
            raise SettingsError(
                f"the model {manifest.name} needs a channel {channel}, and expect.channels has {known}",
                f'add {channel} = "the instrument\'s channel id"; the model needs {", ".join(manifest.channel_names)}',
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


def schema_text() -> str:
    """The manifest's JSON Schema, as it stands in docs/schemas."""
    return json.dumps(Manifest.model_json_schema(by_alias=True), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) / SCHEMA_FILE).write_text(schema_text(), encoding="utf-8", newline="\n")
