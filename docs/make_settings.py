"""Writes the tables of docs/settings.md from the settings themselves: `python docs/make_settings.py`.

Between the marks of a section stands its table; all else on the page is written by hand and stays.
"""

import json
import re
import sys
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hcs_daemon.config import ChannelId, Settings, live_keys

PAGE = Path(__file__).with_name("settings.md")
UNITS = {"_s": "seconds", "_h": "hours", "_bytes": "bytes", "_um": "µm", "bit_depth": "bits"}
"""By the end of a key."""
BY_RULE = {
    "watch.pattern": "a regular expression",
    "expect.layout": "a file or a folder; empty: none",
    "http.textfile": "a file whose name ends with `.prom`; empty: none",
    "model.device": "`auto`, `cpu`, `cuda`, `cuda:N`",
}
"""What is accepted where a rule of its own says it, and no type."""
KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a folder",
    list[ChannelId]: "a list of text",
    list[str]: "a list of text",
}
BEGIN, END = "<!-- [{}]: python docs/make_settings.py writes this table -->", "<!-- end of [{}] -->"


def section_model(name: str) -> type[BaseModel]:
    """The model of a section."""
    model = Settings.model_fields[name].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return model


def table(section: str) -> str:
    """The keys of a section, one a line."""
    head = "| key | meaning | accepted | unit | default | anew |\n|---|---|---|---|---|---|\n"
    return head + "".join(f"{_row(section, *item)}\n" for item in section_model(section).model_fields.items())


def page(text: str) -> str:
    """The page with every table as it should be. Raises ValueError where the marks of a section are missing."""
    for section in Settings.model_fields:
        begin, end = BEGIN.format(section), END.format(section)
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"docs/settings.md must hold once each: {begin} and {end}")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{table(section)}\n{end}{rest.partition(end)[2]}"
    return text


def _row(section: str, name: str, field: FieldInfo) -> str:
    key = f"{section}.{name}"
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
    meaning = (field.description or "").removeprefix(f"{unit}; ")
    meaning = re.sub(r"<\w+>\.csv", r"`\g<0>`", meaning)
    accepted = BY_RULE.get(key) or _accepted(field.annotation, field.metadata)
    anew = "live" if key in live_keys() else "restart"
    return f"| `{key}` | {meaning} | {accepted} | {unit} | {_default(field)} | {anew} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps('' if value is None else value)}`"


def _accepted(annotation: Any, rules: list[Any]) -> str:
    """What a value must be, in words."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if get_origin(annotation) is Annotated:
        return _accepted(arguments[0], [*arguments[1:], *rules])
    if get_origin(annotation) in {Union, UnionType}:
        return ", or ".join(_accepted(one, rules) for one in arguments)
    if get_origin(annotation) is dict:
        return f"a table, {_bound(rules, MinLen)} to {_bound(rules, MaxLen)} entries"
    return f"{KINDS[annotation]}{_range(rules)}"


def _range(rules: list[Any]) -> str:
    least, above, most = (_bound(rules, kind) for kind in (Ge, Gt, Le))
    words = "" if least is None else f" from {least:g}"
    words += "" if above is None else f" above {above:g}"
    joint = " to" if least is not None else ", at most"
    words += "" if most is None else f"{joint} {most:g}"
    return words + (", not empty" if _bound(rules, MinLen) else "")


def _bound(rules: list[Any], kind: type) -> Any:
    """The bound that a rule of this kind sets, or None. Rules of a nested Field count too."""
    flat = [one for rule in rules for one in (rule.metadata if isinstance(rule, FieldInfo) else [rule])]
    names = {Ge: "ge", Gt: "gt", Le: "le", MinLen: "min_length", MaxLen: "max_length"}
    return next((getattr(rule, names[kind]) for rule in flat if isinstance(rule, kind)), None)


def main() -> int:
    """Write the page; 0."""
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
