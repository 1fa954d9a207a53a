"""The settings in words, and where each came from."""

import json
import os
import re
import tomllib
from collections import defaultdict
from pathlib import Path

from hcs_daemon.config import ENVIRONMENT_PREFIX, Settings, known_keys

_HEADER = re.compile(r"\s*\[\s*(\w+)\s*\]\s*(?:#.*)?")
_KEY = re.compile(r"\s*(\w+)\s*=")
_WIDEST = 60


def settings_words(settings: Settings, config: Path) -> list[str]:
    """A line a section, and below it a line a setting: `key = value`, as TOML has it, and where that came from."""
    came_from = origins(config)
    shown = {key: f"{key.partition('.')[2]} = {_value(settings, key)}" for key in known_keys()}
    width = min(_WIDEST, max(map(len, shown.values())))
    lines: list[str] = []
    for key, text in shown.items():
        header = f"[{key.partition('.')[0]}]"
        if header not in lines:
            lines.append(header)
        lines.append(f"{text:<{width}}  {came_from[key]}")
    return lines


def origins(config: Path) -> dict[str, str]:
    """Each setting's source: `default`, the file, with the line where that is sure, or the environment's variable.

    config: a file that was accepted.
    """
    text = config.read_bytes().decode("utf-8-sig")
    in_file = {f"{section}.{key}" for section, table in tomllib.loads(text).items() for key in table}
    lines = _lines(text)
    variables = {
        name[len(ENVIRONMENT_PREFIX) :].lower().replace("__", "."): name
        for name in os.environ
        if name.upper().startswith(ENVIRONMENT_PREFIX)
    }

    def origin(key: str) -> str:
        if key in variables:
            return variables[key]
        if key not in in_file:
            return "default"
        return f"{config.name}:{lines[key][0]}" if len(lines[key]) == 1 else config.name

    return {key: origin(key) for key in known_keys()}


def _lines(text: str) -> dict[str, list[int]]:
    """Where `section.key` seems to be set. A text over several lines may hold what looks like it."""
    section = ""
    found: dict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.fullmatch(line):
            section = header[1]
        elif key := _KEY.match(line):
            found[f"{section}.{key[1]}"].append(number)
    return found


def _value(settings: Settings, key: str) -> str:
    section, _, name = key.partition(".")
    return _toml(getattr(getattr(settings, section), name))


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {_toml(each)}' for name, each in value.items())} }}"
    if isinstance(value, int | float | list):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps("" if value is None else str(value), ensure_ascii=False)
