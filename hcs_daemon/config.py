"""Every setting: its unit, its default where one is honest, and why a bad one is refused.

A TOML file, the environment over it (`HCS_DAEMON__WATCH__SETTLE_S=1`), and what a command line says over both.
What an experiment decides (folders, bit depth, channels, model) has no default.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from hcs_daemon.errors import SettingsError

ENVIRONMENT_PREFIX = "HCS_DAEMON__"
_NUMBERED = re.compile(r"[a-z]*0*(\d+)")
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]{0,39}")


def canonical_channel(channel_id: str) -> str:
    """The form in which two channel ids are compared: `1`, `w1` and `C01` are one, so are `dapi` and `DAPI`."""
    folded = channel_id.strip().casefold()
    match = _NUMBERED.fullmatch(folded)
    return match[1] if match else folded


def _folder(path: Path) -> Path:
    if not str(path).strip() or path == Path():
        raise ValueError("must name a folder")
    return path.expanduser().absolute()


Folder = Annotated[Path, AfterValidator(_folder)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Watch(_Section):
    """Where the instrument writes, and how it is looked at."""

    directory: Folder = Field(description="the folder that the instrument writes into; only ever read")
    instrument: Literal[
        "auto", "harmony", "imagexpress", "cellvoyager", "incell", "cytation", "arrayscan", "scanr", "ome", "pattern"
    ] = Field("auto", description="how file names are read")
    pattern: str = Field(
        "", description='with instrument = "pattern": a regular expression with the named groups of docs/settings.md'
    )
    settle_s: float = Field(2.0, ge=0.0, le=3600, description="seconds; a file unchanged this long is complete")
    rescan_s: float = Field(5.0, gt=0.0, le=3600, description="seconds between two full looks at the folder")
    polling: Literal["auto", "always", "never"] = Field(
        "auto", description="hints by polling instead of events; auto: on network file systems"
    )
    backlog_h: float = Field(
        24.0, ge=0.0, description="hours; at the first start, plates untouched for longer are left alone"
    )
    cache_bytes: int = Field(
        1 << 30, ge=0, description="bytes of decoded planes kept until their site is complete; beyond, read again"
    )
    readers: int = Field(0, ge=0, le=64, description="threads that read and decode; 0: one for each core, at most four")

    @model_validator(mode="after")
    def _pattern_fits(self) -> Self:
        if self.instrument == "pattern" and not self.pattern:
            raise ValueError('watch.pattern is needed with instrument = "pattern"')
        if self.pattern and self.instrument != "pattern":
            raise ValueError('watch.pattern is only read with instrument = "pattern"')
        return self

    @field_validator("pattern")
    @classmethod
    def _pattern_compiles(cls, pattern: str) -> str:
        if not pattern:
            return pattern
        try:
            groups = set(re.compile(pattern).groupindex)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        known = {"well", "row", "col", "site", "channel", "z", "time", "plate"}
        if groups - known:
            raise ValueError(f"has the group {min(groups - known)!r}; known are {', '.join(sorted(known))}")
        if "channel" not in groups or not ("well" in groups or {"row", "col"} <= groups):
            raise ValueError("needs the named groups channel and well (or row and col)")
        return pattern


class Expect(_Section):
    """What is acceptable on arrival. Wrong data is rejected, never rescaled."""

    bit_depth: Literal[8, 10, 12, 14, 16] = Field(description="bits that carry information: 8, 10, 12, 14 or 16")
    container: Literal["auto", "uint8", "uint16"] = Field(
        "auto", description="the file's pixel type; auto: the smallest that holds bit_depth"
    )
    channels: dict[str, Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]] = (
        Field(
            min_length=1,
            max_length=16,
            description='a table such as { DNA = "1", ER = "2" }: name = the instrument\'s channel id or name',
        )
    )
    ignore_channels: list[
        Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
    ] = Field(default_factory=list, description="channel ids that are acquired and not analysed")
    pixel_size_um: float = Field(
        0.0, ge=0.0, le=100.0, description="micrometres a pixel; 0: from the instrument's metadata"
    )
    sites_per_well: int = Field(
        0, ge=0, le=10000, description="sites a well; 0: from the instrument's metadata, else learned"
    )
    well_timeout_s: float = Field(
        900.0, gt=0.0, description="seconds without a new plane after which a well is published as partial"
    )
    plate_timeout_s: float = Field(
        3600.0, gt=0.0, description="seconds without a new plane after which a plate is finished"
    )

    @property
    def dtype(self) -> Literal["uint8", "uint16"]:
        """The pixel type that files must have."""
        if self.container == "auto":
            return "uint8" if self.bit_depth == 8 else "uint16"
        return self.container

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.container == "uint8" and self.bit_depth > 8:
            raise ValueError(f"expect.container uint8 cannot hold expect.bit_depth {self.bit_depth}")
        for name, channel_id in self.channels.items():
            if not _CHANNEL_NAME.fullmatch(name):
                raise ValueError(f"expect.channels: {name!r} is no channel name (letters, digits, _ + . -, at most 40)")
            if not channel_id.strip():
                raise ValueError(f"expect.channels.{name} names no channel id")
        owner: dict[str, str] = {}
        for name, channel_id in self.channels.items():
            other = owner.setdefault(canonical_channel(channel_id), name)
            if other != name:
                raise ValueError(
                    f"expect.channels: {other} and {name} both name the instrument's channel {channel_id!r}"
                )
        for channel_id in self.ignore_channels:
            if canonical_channel(channel_id) in owner:
                raise ValueError(
                    f"expect.ignore_channels: {channel_id!r} is also {owner[canonical_channel(channel_id)]} in channels"
                )
        return self


class Model(_Section):
    """Which network, on what."""

    package: str = Field(min_length=1, description='a path to a model package, or "demo"')
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    batch_sites: int = Field(16, ge=1, le=4096, description="sites a batch at most")
    max_wait_s: float = Field(1.0, ge=0.0, le=3600, description="seconds that a site waits for its batch to fill")
    hit_probability: float = Field(
        0.9, gt=0.0, le=1.0, description="a well whose class is not the control's with at least this is a hit"
    )


class Explain(_Section):
    """Which sites are explained, and how."""

    policy: Literal["none", "per_well", "hits", "all"] = Field(
        "per_well", description="per_well: the site nearest the well's mean logits"
    )
    method: Literal["auto", "integrated_gradients"] = Field("auto", description="how attributions are made")


class Results(_Section):
    """Where results go."""

    directory: Folder = Field(description="the folder for results; not inside the watched one, nor it inside this")
    min_free_bytes: int = Field(5 << 30, ge=0, description="bytes; with less free, publishing waits")
    pictures: Literal["all", "hits", "none"] = Field("all", description="which wells get a picture")
    plate_refresh_s: float = Field(
        30.0, ge=0.0, description="seconds; plate-level files are rewritten at most this often"
    )


class Http(_Section):
    """Where /metrics, /healthz and /readyz answer."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(9464, ge=0, le=65535, description="port to listen on; 0: none")


class Log(_Section):
    """How the log looks."""

    format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else json")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least level that is written")


class Settings(BaseSettings):
    """All settings, checked one by one and against each other."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    watch: Watch
    expect: Expect
    model: Model
    explain: Explain = Explain()
    results: Results
    http: Http = Http()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (the library's signature)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file; nothing else is read."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _folders_apart(self) -> Self:
        check_apart(self.watch.directory, self.results.directory)
        return self


def check_apart(watched: Path, results: Path) -> None:
    """Raise ValueError when one folder lies inside the other, links followed."""
    watched_real, results_real = watched.resolve(), results.resolve()
    if results_real.is_relative_to(watched_real):
        raise ValueError(
            f"results.directory {results} lies inside the watched folder {watched}: results would be watched as images"
        )
    if watched_real.is_relative_to(results_real):
        raise ValueError(f"watch.directory {watched} lies inside results.directory {results}: give results their own")


def load_settings(path: Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """Settings from a TOML file, the environment over it, `overrides` (section -> key -> value) over both.

    Relative folders in the file are relative to the file. Raises SettingsError naming every bad key.
    """
    tables = _read_toml(path)
    _make_absolute(tables, path.absolute().parent)
    _refuse_unknown_environment()
    environment = {}
    for section, values in (overrides or {}).items():
        tables.setdefault(section, {}).update(values)
        for key in values:
            name = f"{ENVIRONMENT_PREFIX}{section}__{key}".upper()
            environment[name] = os.environ.pop(name, None)
    try:
        return Settings(**tables)
    except ValidationError as error:
        raise _in_words(error, path) from error
    finally:
        os.environ.update({name: value for name, value in environment.items() if value is not None})


def known_keys() -> list[str]:
    """Every setting as `section.key`, in the order of the file."""
    return [
        f"{section}.{key}"
        for section, field in Settings.model_fields.items()
        for key in _section_type(field.annotation).model_fields
    ]


def _section_type(annotation: Any) -> type[BaseModel]:
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    return annotation


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_bytes().decode("utf-8-sig"))  # Windows editors write the mark
    except OSError as error:
        raise SettingsError(
            f"the settings file {path} cannot be read: {error.strerror}",
            "give it with -c; config.example.toml is a start",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the settings file {path} is not TOML: {error}",
            "on Windows, write paths in single quotes: 'D:\\plates'",
        ) from error
    for section, value in tables.items():
        if not isinstance(value, dict):
            raise SettingsError(
                f"{path}: {section} stands outside any section", f"sections are {', '.join(Settings.model_fields)}"
            )
    return tables


def _make_absolute(tables: dict[str, Any], base: Path) -> None:
    for section, key in (("watch", "directory"), ("results", "directory"), ("model", "package")):
        value = tables.get(section, {}).get(key)
        if isinstance(value, str) and value.strip() and not (section == "model" and value in {"demo", "features"}):
            tables[section][key] = str(base / Path(value).expanduser())


def _refuse_unknown_environment() -> None:
    sections = list(Settings.model_fields)
    for name in os.environ:
        if not name.upper().startswith(ENVIRONMENT_PREFIX):
            continue
        section = name[len(ENVIRONMENT_PREFIX) :].split("__")[0].lower()
        if section not in sections:
            raise SettingsError(
                f"the environment sets {name}, and there is no section {section!r}",
                f"{_nearest(section, sections)}; names look like {ENVIRONMENT_PREFIX}WATCH__DIRECTORY",
            )


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"the nearest known is {close[0]}" if close else f"known are {', '.join(known)}"


def _in_words(error: ValidationError, path: Path) -> SettingsError:
    said = [_one_in_words([str(part) for part in item["loc"]], dict(item)) for item in error.errors()]
    said = list(dict.fromkeys(said))
    return SettingsError(f"{path}: " + "; ".join(what for what, _ in said), "; ".join(hint for _, hint in said))


def _one_in_words(loc: list[str], item: dict[str, Any]) -> tuple[str, str]:
    key = ".".join(part for part in loc if not part.startswith("function-"))
    if item["type"] == "extra_forbidden":
        section = _section_type(Settings.model_fields[loc[0]].annotation) if len(loc) > 1 else None
        names = list(section.model_fields) if section else list(Settings.model_fields)
        return f"{key} is no setting", _nearest(loc[-1], names)
    description = _description(loc)
    if item["type"] == "missing":
        return f"{key} is missing", f"{key} is {description}; it has no default" if description else f"add [{key}]"
    what = item["msg"].removeprefix("Value error, ")
    if not key or (len(loc) == 1 and item["type"] == "value_error"):
        return what, "docs/settings.md explains every key"
    return f"{key} = {item['input']!r}: {what[:1].lower()}{what[1:]}", f"{key} is {description}"


def _description(loc: list[str]) -> str:
    field = Settings.model_fields.get(loc[0])
    if field is None or len(loc) < 2:
        return ""
    inner = _section_type(field.annotation).model_fields.get(loc[1])
    return (inner.description or "") if inner else ""
