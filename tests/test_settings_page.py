"""The tables of docs/settings.md are what the code says of the settings, and what they say is accepted is."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from fakes import make_settings
from hcs_daemon.config import Settings, known_keys, live_keys

DOCS = Path(__file__).resolve().parent.parent / "docs"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_settings", DOCS / "make_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.get(spec.name) or importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows() -> dict[str, list[str]]:
    """Key -> the cells of its row."""
    lines = (line for section in Settings.model_fields for line in script().table(section).splitlines())
    cells = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines)
    return {row[0].strip("`"): row for row in cells if row[0].startswith("`")}


def test_the_page_is_what_its_script_writes() -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    assert script().page(text) == text, "run python docs/make_settings.py"


def test_every_key_has_a_row_in_order() -> None:
    assert list(rows()) == known_keys()


def test_what_a_running_daemon_takes_anew_is_marked() -> None:
    assert [key for key, row in rows().items() if row[-1] == "live"] == live_keys()


def test_a_page_without_its_marks_is_not_written() -> None:
    with pytest.raises(ValueError, match=r"\[watch\]"):
        script().page("# Settings\n")


def bounds() -> Iterator[tuple[str, float, bool]]:
    """Key, a value at or beyond its bounds, whether the page says that it is accepted."""
    for key, row in rows().items():
        found = re.fullmatch(
            r"a (?:whole )?number(?: from (?P<least>\d+)| above (?P<above>\d+))?(?:,? (?:to|at most) (?P<most>\d+))?",
            row[2],
        )
        if found is None:
            continue
        if found["least"]:
            yield from ((key, int(found["least"]), True), (key, int(found["least"]) - 1, False))
        if found["above"]:
            yield key, int(found["above"]), False
        if found["most"]:
            yield from ((key, int(found["most"]), True), (key, int(found["most"]) + 1, False))


def accepts(folder: Path, key: str, value: Any) -> bool:
    section, name = key.split(".")
    try:
        make_settings(folder, {section: {name: value}})
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("key", "value", "accepted"), [*bounds()])
def test_the_bounds_are_where_the_page_says(key: str, value: float, accepted: bool, tmp_path: Path) -> None:  # noqa: FBT001 (what the page says)
    assert accepts(tmp_path, key, value) is accepted


CHOICES = [
    (key, choice)
    for key, row in rows().items()
    for choice in re.findall(r"`([^`]+)`", row[2])
    if not row[2].startswith("a file") and choice not in {"cuda:N", "pattern", "uint8"}
]


@pytest.mark.parametrize(("key", "choice"), CHOICES)
def test_the_words_that_the_page_lists_are_accepted(key: str, choice: str, tmp_path: Path) -> None:
    assert accepts(tmp_path, key, choice)


@pytest.mark.parametrize("key", sorted({key for key, _ in CHOICES}))
def test_other_words_are_not(key: str, tmp_path: Path) -> None:
    assert not accepts(tmp_path, key, "otherwise")
