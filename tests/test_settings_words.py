"""`check` prints every setting, and where it came from."""

import tomllib
from pathlib import Path

import pytest

from hcs_daemon.commands.settings_words import origins, settings_words
from hcs_daemon.config import known_keys, load_settings

LEAST = """\
[watch] # where
directory = '/data/in'

[expect]
bit_depth = 12
channels = { DNA = "5", "ER" = "2" }
ignore_channels = [
    "1",
]

[model]
package = "demo"

[results]
directory = "/data/out"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "screen.toml"
    path.write_text(LEAST, "utf-8")
    return path


def test_each_setting_says_where_it_came_from(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_DAEMON__LOG__LEVEL", "debug")
    monkeypatch.setenv("HCS_DAEMON__EXPECT__BIT_DEPTH", "16")
    found = origins(config)
    assert list(found) == known_keys()
    assert {key: origin for key, origin in found.items() if origin != "default"} == {
        "watch.directory": "screen.toml:2",
        "expect.bit_depth": "HCS_DAEMON__EXPECT__BIT_DEPTH",
        "expect.channels": "screen.toml:6",
        "expect.ignore_channels": "screen.toml:7",
        "model.package": "screen.toml:12",
        "results.directory": "screen.toml:15",
        "log.level": "HCS_DAEMON__LOG__LEVEL",
    }


def test_where_the_line_is_not_sure_it_names_the_file(config: Path) -> None:
    config.write_text("log.format = 'json'\n" + LEAST, "utf-8")
    assert origins(config)["log.format"] == "screen.toml"
    assert origins(config)["watch.directory"] == "screen.toml:3"


def test_a_text_that_looks_like_a_setting_is_not_taken_for_one(config: Path) -> None:
    pattern = "[watch]\ninstrument = 'pattern'\npattern = '''\n(?P<well>x)(?P<channel>y)\nsettle_s = 3\n'''\n"
    config.write_text(LEAST.replace("[watch] # where\n", pattern), "utf-8")
    assert load_settings(config).watch.settle_s == 2.0
    assert origins(config)["watch.settle_s"] == "default"


def test_they_are_printed_by_section_as_toml_that_says_the_same(config: Path) -> None:
    settings = load_settings(config)
    lines = settings_words(settings, config)
    assert lines[0] == "[watch]"
    (depth,) = [line for line in lines if line.startswith("bit_depth = 12 ")]
    assert depth.endswith("  screen.toml:5")
    came_from = set(origins(config).values())
    for line in lines:
        assert line.startswith("[") or any(line.endswith(f"  {origin}") for origin in came_from)
    plain = "\n".join(line if line.startswith("[") else line.rpartition("  ")[0] for line in lines)
    config.write_text(plain, "utf-8")
    assert load_settings(config) == settings
    assert {f"{section}.{key}" for section, table in tomllib.loads(plain).items() for key in table} == set(known_keys())
