"""config.example.toml holds every key, and what it shows as a default is the code's."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from hcs_daemon.config import Settings, known_keys, load_settings

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "config.example.toml"
DECIDED_BY_THE_EXPERIMENT = {
    "watch.directory",
    "expect.bit_depth",
    "expect.channels",
    "model.package",
    "results.directory",
}
FILLED_IN = DECIDED_BY_THE_EXPERIMENT | {"expect.ignore_channels"}


def shown() -> dict[str, Any]:
    tables = tomllib.loads(EXAMPLE.read_text("utf-8"))
    return {f"{section}.{key}": value for section, table in tables.items() for key, value in table.items()}


def default_of(name: str) -> Any:
    section, key = name.split(".")
    annotation = Settings.model_fields[section].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    return annotation.model_fields[key].default


def test_the_example_is_accepted() -> None:
    settings = load_settings(EXAMPLE)
    assert settings.expect.channels == {"DNA": "5", "ER": "2", "RNA": "6", "AGP": "3", "Mito": "4"}
    assert settings.expect.ignore_channels == ["1"]


def test_the_example_holds_every_key_in_order_and_no_other() -> None:
    assert list(shown()) == known_keys()


@pytest.mark.parametrize("name", [name for name in known_keys() if name not in FILLED_IN])
def test_what_the_example_shows_is_the_default(name: str) -> None:
    assert (shown()[name] or None) == (default_of(name) or None)  # TOML has no word for nothing


def test_only_what_the_experiment_decides_is_marked_as_required() -> None:
    section, marked = "", set()
    for line in EXAMPLE.read_text("utf-8").splitlines():
        if header := re.match(r"\[(\w+)\]", line):
            section = header[1]
        elif line.partition("=")[0].strip() and "# required" in line:
            marked.add(f"{section}.{line.partition('=')[0].strip()}")
    assert marked == DECIDED_BY_THE_EXPERIMENT


def test_every_key_of_the_example_has_a_comment() -> None:
    uncommented = [
        line
        for line in EXAMPLE.read_text("utf-8").splitlines()
        if re.match(r"\w+ = ", line) and "#" not in line and not line.startswith("pattern")
    ]
    assert uncommented == []


def test_the_manual_explains_every_key() -> None:
    manual = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert [name for name in known_keys() if f"`{name}`" not in manual] == []
