"""Every setting: its unit, its default where one is honest, and why a bad one is refused.

A TOML file, the environment over it (`HCS_DAEMON__WATCH__SETTLE_S=1`), and what a command line says over both.
What an experiment decides (folders, bit depth, channels, model) has no default.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from hcs_daemon.errors import SettingsError

ENVIRONMENT_PREFIX = "HCS_DAEMON__"
LIVE: dict[str, JsonValue] = {"live": True}
"""In a setting's schema: a running daemon takes it from the file anew when it is told to (SIGHUP).

Such a setting decides when something is done, or how much of it, and never what a result says.
"""
_NUMBERED = re.compile(r"(?:[a-z]|ch|channel)?0*([0-9]+)")
"""Not any letters: `Cy5` is a dye, and no other way to write 5."""
_SHORT_NAMES = {"demo", "features"}
"""Packages that are asked for by name, not by path."""
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]{0,39}")


class _RefusedError(ValueError):
    """A value is refused, and `hint` says what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def canonical_channel(channel_id: str) -> str:
    """The form in which two channel ids are compared: `1`, `w1` and `C01` are one, so are `dapi` and `DAPI`."""
    folded = channel_id.strip().casefold()
    match = _NUMBERED.fullmatch(folded)
    return match[1] if match else folded


def _folder(path: Path) -> Path:
    if not str(path).strip() or path == Path():
        raise ValueError("should name a folder")
    return Path(_from_home(path)).absolute()


def _device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
        raise ValueError("should be auto, cpu, cuda or cuda:N")
    return device


def _number_as_text(value: object) -> object:
    """A channel id such as 5, written without quotes."""
    return str(value) if type(value) is int else value


def _text_as_number(value: object) -> object:
    """A whole number as the environment gives it."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _folder_or_none(path: Path | None) -> Path | None:
    return None if path is None else _folder(path)


Folder = Annotated[Path, AfterValidator(_folder)]
OptionalFile = Annotated[Path | None, BeforeValidator(_none_if_empty), AfterValidator(_folder_or_none)]
ChannelId = Annotated[str, BeforeValidator(_number_as_text)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _not_a_truth_value(cls, value: object) -> object:
        """No setting is a yes or no, and `true` would otherwise pass for the number 1."""
        if isinstance(value, bool):
            raise ValueError("is true or false, and no setting is")  # noqa: TRY004 (the library wants ValueError)
        return value


class Watch(_Section):
    """Where the instrument writes, and how it is looked at."""

    directory: Folder = Field(description="the folder that the instrument writes into; only ever read")
    instrument: Literal[
        "auto", "harmony", "imagexpress", "cellvoyager", "incell", "cytation", "arrayscan", "scanr", "ome", "pattern"
    ] = Field("auto", description="how file names are read")
    pattern: str = Field(
        "", description='with instrument = "pattern": a regular expression with the named groups of docs/settings.md'
    )
    settle_s: float = Field(
        2.0, ge=0.0, le=3600, description="seconds; a file unchanged this long is complete", json_schema_extra=LIVE
    )
    rescan_s: float = Field(
        5.0, gt=0.0, le=3600, description="seconds between two full looks at the folder", json_schema_extra=LIVE
    )
    polling: Literal["auto", "always", "never"] = Field(
        "auto", description="hints by polling instead of events; auto: on network file systems", json_schema_extra=LIVE
    )
    backlog_h: float = Field(
        24.0, ge=0.0, description="hours; at the first start, plates untouched for longer are left alone"
    )
    cache_bytes: int = Field(
        1 << 30,
        ge=0,
        description="bytes of decoded planes kept until their site is complete; beyond, read again",
        json_schema_extra=LIVE,
    )
    readers: int = Field(0, ge=0, le=64, description="threads that read and decode; 0: one for each core, at most four")

    @model_validator(mode="after")
    def _pattern_fits(self) -> Self:
        if self.instrument == "pattern" and not self.pattern:
            raise _RefusedError(
                'watch.pattern is empty, and watch.instrument = "pattern" needs it',
                "give a regular expression for the file names; docs/settings.md has an example",
            )
        if self.pattern and self.instrument != "pattern":
            raise _RefusedError(
                f'watch.pattern is set, and only read with watch.instrument = "pattern", not {self.instrument!r}',
                'set watch.instrument = "pattern", or leave watch.pattern out',
            )
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

    bit_depth: Annotated[Literal[8, 10, 12, 14, 16], BeforeValidator(_text_as_number)] = Field(
        description="bits that carry information: 8, 10, 12, 14 or 16"
    )
    container: Literal["auto", "uint8", "uint16"] = Field(
        "auto", description="the file's pixel type; auto: the smallest that holds bit_depth"
    )
    channels: dict[str, ChannelId] = Field(
        min_length=1,
        max_length=16,
        description='a table such as { DNA = "1", ER = "2" }: name = the instrument\'s channel id or name',
    )
    ignore_channels: list[ChannelId] = Field(
        default_factory=list, description='a list such as ["1"]: channel ids that are acquired and not analysed'
    )
    pixel_size_um: float = Field(
        0.0, ge=0.0, le=100.0, description="micrometres a pixel; 0: from the instrument's metadata"
    )
    sites_per_well: int = Field(
        0, ge=0, le=10000, description="sites a well; 0: from the instrument's metadata, else learned"
    )
    z_steps: int = Field(
        0,
        ge=0,
        le=1000,
        description="z steps a channel; 0: from the instrument's metadata, else those of the plate's files",
    )
    projection: Literal["max", "mean", "best_focus", "middle"] | Annotated[int, Field(ge=1)] = Field(
        "max", description="what of a z stack is analysed: max, mean, best_focus, middle, or the number of a step"
    )
    flatfield: Literal["off", "instrument"] = Field(
        "off", description="instrument: uneven light is taken out with the instrument's own profile of each channel"
    )
    layout: OptionalFile = Field(
        None, description="a CSV file that says what is in the wells, or a folder with one <plate>.csv for each plate"
    )
    well_timeout_s: float = Field(
        900.0,
        gt=0.0,
        description="seconds without a new plane after which a well is published as partial",
        json_schema_extra=LIVE,
    )
    plate_timeout_s: float = Field(
        3600.0,
        gt=0.0,
        description="seconds without a new plane after which a plate is finished",
        json_schema_extra=LIVE,
    )

    @property
    def dtype(self) -> Literal["uint8", "uint16"]:
        """The pixel type that files must have."""
        if self.container == "auto":
            return "uint8" if self.bit_depth == 8 else "uint16"
        return self.container

    def only(self, names: Collection[str]) -> "Expect":
        """With just these of its channels analysed, and the others ignored, as if ignore_channels named them."""
        kept = {name: channel_id for name, channel_id in self.channels.items() if name in names}
        aside = [channel_id for name, channel_id in self.channels.items() if name not in names]
        return self.model_copy(update={"channels": kept, "ignore_channels": [*self.ignore_channels, *aside]})

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.container == "uint8" and self.bit_depth > 8:
            raise _RefusedError(
                f'expect.container = "uint8" cannot hold expect.bit_depth = {self.bit_depth}',
                'set expect.container = "auto"; it then follows from the bit depth',
            )
        for name, channel_id in self.channels.items():
            _check_channel(name, channel_id)
        owner = _owners(self.channels)
        for channel_id in self.ignore_channels:
            if not channel_id.strip():
                raise _RefusedError("expect.ignore_channels holds an empty channel id", "take it out")
            if canonical_channel(channel_id) in owner:
                raise _RefusedError(
                    f"expect.ignore_channels holds {channel_id!r}, which expect.channels calls "
                    f"{owner[canonical_channel(channel_id)]}",
                    "a channel is analysed or ignored, not both; " + _SAME_CHANNEL,
                )
        return self


_SAME_CHANNEL = "a leading letter and zeros do not count: 1, w1 and C01 are the same channel"


def _check_channel(name: str, channel_id: str) -> None:
    if not _CHANNEL_NAME.fullmatch(name):
        raise _RefusedError(
            f"expect.channels: {name!r} is no channel name",
            "use letters, digits and _ + . - (at most 40, a letter or digit first)",
        )
    if not channel_id.strip():
        raise _RefusedError(
            f"expect.channels.{name} is empty", "give the instrument's channel id or name, as it stands in file names"
        )


def _owners(channels: Mapping[str, str]) -> dict[str, str]:
    """Canonical channel id -> channel name. Raises where two names claim one channel."""
    owner: dict[str, str] = {}
    for name, channel_id in channels.items():
        other = owner.setdefault(canonical_channel(channel_id), name)
        if other != name:
            raise _RefusedError(
                f"expect.channels: {other} = {channels[other]!r} and {name} = {channel_id!r} are the same channel",
                "give each its own; " + _SAME_CHANNEL,
            )
    return owner


class Model(_Section):
    """Which network, on what."""

    package: str = Field(min_length=1, description='a path to a model package, or "demo"')
    device: Annotated[str, AfterValidator(_device)] = Field("auto", description="where the model runs")
    batch_sites: int = Field(16, ge=1, le=4096, description="sites a batch at most")
    max_wait_s: float = Field(
        1.0, ge=0.0, le=3600, description="seconds that a site waits for its batch to fill", json_schema_extra=LIVE
    )
    hit_probability: float = Field(
        0.9, gt=0.0, le=1.0, description="a well whose class is not the control's with at least this is a hit"
    )


class Explain(_Section):
    """Which sites are explained, and how."""

    policy: Literal["none", "per_well", "hits", "all"] = Field(
        "per_well",
        description="which sites are explained; per_well: the one nearest the well's mean logits",
        json_schema_extra=LIVE,
    )
    method: Literal["auto", "integrated_gradients", "expected_gradients", "grad_cam", "occlusion"] = Field(
        "auto", description="how maps are made; auto: expected gradients, what differs from the control sites"
    )
    max_wait_s: float = Field(
        60.0,
        ge=0.0,
        le=3600.0,
        description="seconds a well waits for its explanation; then it is published without, and explained when idle",
        json_schema_extra=LIVE,
    )


class Results(_Section):
    """Where results go."""

    directory: Folder = Field(description="the folder for results; not inside the watched one, nor it inside this")
    min_free_bytes: int = Field(
        5 << 30, ge=0, description="bytes; with less free, publishing waits", json_schema_extra=LIVE
    )
    pictures: Literal["all", "hits", "none"] = Field(
        "all", description="which wells get a picture", json_schema_extra=LIVE
    )
    plate_refresh_s: float = Field(
        30.0, ge=0.0, description="seconds; plate-level files are rewritten at most this often", json_schema_extra=LIVE
    )
    on_plate_finished: list[str] = Field(
        [],
        description='a program and its arguments, as ["/opt/lims/told", "{plate_dir}"], run for each finished plate',
        json_schema_extra=LIVE,
    )
    on_plate_finished_timeout_s: float = Field(
        60.0,
        gt=0.0,
        le=86400.0,
        description="seconds after which that program is ended, with its children, and counts as failed",
        json_schema_extra=LIVE,
    )

    @field_validator("on_plate_finished")
    @classmethod
    def _can_be_run(cls, words: list[str]) -> list[str]:
        if words:
            _check_program(words[0])
        for word in words[1:]:
            _check_argument(word)
        return words


PLACEHOLDERS = ("plate_dir", "plate", "acquisition", "state", "status", "finished_at")
"""What stands in braces in the arguments of results.on_plate_finished."""


def _check_program(program: str) -> None:
    if not program.strip() or "\0" in program:
        raise _RefusedError("results.on_plate_finished names no program", "its first word is a program's name or path")
    if program.casefold().endswith((".bat", ".cmd")):
        raise _RefusedError(
            f"results.on_plate_finished: {program} is run by a shell, and a plate may be called like a command",
            'name the program itself, such as ["C:\\Windows\\py.exe", "told.py", "{plate_dir}"]',
        )


def _check_argument(word: str) -> None:
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    try:
        parts = list(Formatter().parse(word))
    except ValueError as error:
        raise _RefusedError(
            f"results.on_plate_finished: {word!r} has a single brace", "write {{ for { and }} for }"
        ) from error
    for _, name, form, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or form or conversion):
            raise _RefusedError(
                f"results.on_plate_finished: {word!r} holds {{{name}}}, which stands for nothing",
                f"there are {known}; write {{{{ for a brace itself",
            )


class Http(_Section):
    """Where /metrics, /healthz and /readyz answer, and the file with the same metrics."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(9464, ge=0, le=65535, description="port to listen on; 0: none")
    textfile: OptionalFile = Field(
        None, description="a .prom file with what /metrics answers, for a node exporter; empty: none"
    )

    @field_validator("textfile")
    @classmethod
    def _as_exporters_ask(cls, path: Path | None) -> Path | None:
        if path is not None and path.suffix != ".prom":
            raise _RefusedError(
                f"http.textfile {path} does not end with .prom", "an exporter reads no other: name it hcs-daemon.prom"
            )
        return path


class Log(_Section):
    """How the log looks."""

    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, else json", json_schema_extra=LIVE
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least level that is written", json_schema_extra=LIVE
    )


class Settings(BaseSettings):
    """All settings, checked one by one and against each other. `load_settings` makes them."""

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
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is handed in and nothing else: `load_settings` lays file, environment and overrides together."""
        return (init_settings,)

    @model_validator(mode="after")
    def _folders_apart(self) -> Self:
        check_apart(self.watch.directory, self.results.directory)
        return self

    @model_validator(mode="after")
    def _nothing_among_the_images(self) -> Self:
        textfile, watched = self.http.textfile, _real("watch.directory", self.watch.directory)
        if textfile is not None and _real("http.textfile", textfile).is_relative_to(watched):
            raise _RefusedError(
                f"http.textfile {textfile} lies inside watch.directory {self.watch.directory}",
                "give the folder that the exporter reads; nothing is ever written among the images",
            )
        return self


def check_apart(watched: Path, results: Path) -> None:
    """Raise ValueError when one folder lies inside the other or cannot be followed, links resolved."""
    watched_real, results_real = _real("watch.directory", watched), _real("results.directory", results)
    if results_real == watched_real:
        raise _RefusedError(
            f"results.directory and watch.directory are one folder, {watched}", "give results a folder of their own"
        )
    if results_real.is_relative_to(watched_real):
        raise _RefusedError(
            f"results.directory {results} lies inside watch.directory {watched}",
            "give results a folder of their own: here they would be taken for images",
        )
    if watched_real.is_relative_to(results_real):
        raise _RefusedError(
            f"watch.directory {watched} lies inside results.directory {results}",
            "give results a folder of their own, beside the images' and not above it",
        )


def load_settings(path: Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """Settings from a TOML file, the environment over it, `overrides` (section -> key -> value) over both.

    A key of a later source replaces the whole value of an earlier one, tables and lists too. Relative folders in
    the file are relative to the file, others to the working directory. Raises SettingsError naming every bad key.
    """
    environment = _read_environment()
    merged: dict[str, dict[str, Any]] = {}
    for tables, base in (
        (_read_toml(path), path.absolute().parent),
        (environment, Path.cwd()),
        (overrides, Path.cwd()),
    ):
        for section, values in (tables or {}).items():
            merged.setdefault(section, {}).update(_absolute(section, values, base))
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        from_environment = {f"{section}.{key}" for section, values in environment.items() for key in values}
        from_environment -= {f"{section}.{key}" for section, values in (overrides or {}).items() for key in values}
        raise _in_words(error, path, from_environment) from error


def known_keys() -> list[str]:
    """Every setting as `section.key`, in the order of the file."""
    return [f"{section}.{key}" for section in Settings.model_fields for key in _section(section).model_fields]


def live_keys() -> list[str]:
    """Those settings, as `section.key`, that a running daemon takes from the file anew when it is told to."""
    return [key for key in known_keys() if _field(key).json_schema_extra == LIVE]


def changed_keys(before: Settings, after: Settings) -> list[str]:
    """The settings, as `section.key`, whose values differ."""
    return [key for key in known_keys() if _value(before, key) != _value(after, key)]


def _value(settings: Settings, key: str) -> object:
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)


def _field(key: str) -> FieldInfo:
    section, _, name = key.partition(".")
    return _section(section).model_fields[name]


def _section(name: str) -> type[BaseModel]:
    annotation = Settings.model_fields[name].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    return annotation


def _real(key: str, path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a link that leads to itself, a name with a zero byte
        raise _RefusedError(
            f"{key} {str(path)!r} cannot be followed: {error}", "name a folder that can be there"
        ) from error


def _read_toml(path: Path) -> dict[str, dict[str, Any]]:
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise SettingsError(f"the settings {path} are no regular file", "name a TOML file with -c")
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Windows editors write the mark
    except OSError as error:
        raise SettingsError(
            f"the settings file {path} cannot be read: {error.strerror}",
            "name it with -c; config.example.toml is a start",
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"the settings file {path} is not UTF-8 text", "save it again as UTF-8") from error
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        hint = (
            "write Windows paths in single quotes: 'D:\\plates'"
            if "\\" in text
            else "config.example.toml shows how every key is written"
        )
        raise SettingsError(f"the settings file {path} is not TOML: {error}", hint) from error
    for section, value in tables.items():
        if not isinstance(value, dict):
            raise SettingsError(
                f"{path}: {section} stands outside any section",
                f"put it below the section it belongs to; sections are {', '.join(Settings.model_fields)}",
            )
    return tables


def _read_environment() -> dict[str, dict[str, Any]]:
    """Section -> key -> text, or for tables and lists their JSON."""
    for name, value in os.environ.items():
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            _check_environment(name, value)
    return dict(EnvSettingsSource(Settings)())


_IN_JSON = {
    "expect.channels": '{"DNA": "5", "ER": "2"}',
    "expect.ignore_channels": '["1"]',
    "results.on_plate_finished": '["/opt/lims/told", "{plate_dir}"]',
}
"""Tables and lists, with how one is written in the environment."""


def _check_environment(name: str, value: str) -> None:
    parts = name[len(ENVIRONMENT_PREFIX) :].lower().split("__")
    section, key, rest = parts[0], ".".join(parts[:2]), parts[2:]
    if key not in known_keys():
        raise SettingsError(
            f"the environment sets {name}, and there is no setting {key}",
            f"{_nearest_key(key)}; names look like {ENVIRONMENT_PREFIX}WATCH__SETTLE_S",
        )
    if key in _IN_JSON:
        whole = f"{ENVIRONMENT_PREFIX}{section}__{parts[1]}".upper()
        example = _IN_JSON[key]
        if rest or not _is_json(value):
            raise SettingsError(
                f"{name} in the environment is not {key} as a whole, in JSON", f"write {whole}='{example}'"
            )
    elif rest:
        raise SettingsError(f"the environment sets {name}, and {key} has no parts", f"set {'__'.join(parts[:2])} alone")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


_PATHS: dict[str, tuple[str, ...]] = {
    "watch": ("directory",),
    "expect": ("layout",),
    "results": ("directory",),
    "model": ("package",),
    "http": ("textfile",),
}


def _absolute(section: str, values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The values with their folders made absolute; a package's short name is no folder."""
    found = dict(values)
    for key in _PATHS.get(section, ()):
        value = found.get(key)
        if (
            not isinstance(value, str | Path)
            or not str(value).strip()
            or (section == "model" and value in _SHORT_NAMES)
        ):
            continue
        found[key] = str(base / _from_home(Path(value)))
    command = found.get("on_plate_finished")
    if section == "results" and isinstance(command, list) and command and isinstance(command[0], str):
        found["on_plate_finished"] = [_program(command[0], base), *command[1:]]
    return found


def _program(name: str, base: Path) -> str:
    """A program's path made absolute; a name alone is looked for where programs are."""
    return name if Path(name).name == name else str(base / _from_home(Path(name)))


def _from_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # ~name of nobody: then it is a folder's own name, and absent
        return path


def _nearest_key(key: str) -> str:
    """The nearest known setting, in words: in its own section first, then by the same name in another."""
    section, _, name = key.partition(".")
    if section in Settings.model_fields:
        known = list(_section(section).model_fields)
        near = [f"{section}.{key}" for key in difflib.get_close_matches(name, known, n=1)]
        elsewhere = [other for other in known_keys() if other.partition(".")[2] == name]
        if near or elsewhere:
            return f"the nearest known is {(near or elsewhere)[0]}"
        return f"[{section}] has {', '.join(known)}"
    close = difflib.get_close_matches(section, Settings.model_fields, n=1, cutoff=0.5)
    if close:
        return f"the nearest known section is [{close[0]}]"
    return f"sections are {', '.join(Settings.model_fields)}"


def _in_words(error: ValidationError, path: Path, from_environment: set[str]) -> SettingsError:
    """One problem as it is; several as pairs of lines, each what is wrong and below it what would be right."""
    found = [_one_in_words([str(part) for part in item["loc"]], dict(item)) for item in error.errors()]
    problems = [
        (f"{what} (set by {_variable(key)})" if key in from_environment else what, hint)
        for key, what, hint in dict.fromkeys(found)
    ]
    if len(problems) == 1:
        what, hint = problems[0]
        return SettingsError(f"{path}: {what}", hint)
    lines = [f"  {what}\n      {hint}" for what, hint in problems]
    return SettingsError(
        f"{path}: {len(problems)} settings are refused:\n" + "\n".join(lines),
        "correct each; docs/settings.md explains every key",
    )


def _variable(key: str) -> str:
    return ENVIRONMENT_PREFIX + key.replace(".", "__").upper()


def _one_in_words(loc: list[str], item: dict[str, Any]) -> tuple[str, str, str]:
    """The setting (`section.key`, or empty), what is wrong with it, and what would be right."""
    parts = [part for part in loc if not part.startswith("function-")]
    name, key = ".".join(parts), ".".join(parts[:2])
    if item["type"] == "extra_forbidden":
        return key, f"{name} is no setting", _nearest_key(name)
    if item["type"] == "missing":
        return key, f"{name} is missing", _what_is_missing(parts)
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, _RefusedError):
        return key, str(cause), cause.hint
    return key, f"{name} = {item['input']!r}: {_plainly(item)}", f"{key}: {_description(parts)}"


def _what_is_missing(parts: list[str]) -> str:
    if len(parts) > 1:
        return f"it has no default: {_description(parts)}"
    required = [key for key, field in _section(parts[0]).model_fields.items() if field.is_required()]
    return f"add a section [{parts[0]}] with {', '.join(required)}"


_PLAIN = {
    "dict_type": "should be a table",
    "list_type": "should be a list",
    "string_type": "should be text, in quotes",
    "path_type": "should be a path, in quotes",
    "too_short": "is empty",
    "string_too_short": "is empty",
}


def _plainly(item: dict[str, Any]) -> str:
    """The library's words, where they say more than an engineer wants, in ours."""
    said = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return _PLAIN.get(item["type"], said[:1].lower() + said[1:])


def _description(parts: list[str]) -> str:
    return _section(parts[0]).model_fields[parts[1]].description or ""
