"""The rules, alerts and panels of monitoring/, and the expressions in them."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
MONITORING = ROOT / "monitoring"
PROMETHEUS = MONITORING / "prometheus"
_WORDS = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_GRAFANA = {"$__rate_interval": "1m", "$__range": "1h", "$job": ".+", "$instance": ".+"}


def _rules(name: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((PROMETHEUS / name).read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in _rules("alerts.yaml")}
RECORDED: dict[str, str] = {rule["record"]: rule["expr"] for rule in _rules("rules.yaml")}


def _panels() -> list[tuple[str, str]]:
    board = json.loads((MONITORING / "grafana" / "hcs-daemon.json").read_text("utf-8"))
    found = []
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for variable, value in _GRAFANA.items():
                expression = expression.replace(variable, value)
            found.append((f"panel {panel['title']!r} {target['refId']}", expression))
    return found


EXPRESSIONS: list[tuple[str, str]] = [
    *((f"rule {name}", expression) for name, expression in RECORDED.items()),
    *((f"alert {name}", alert["expr"]) for name, alert in ALERTS.items()),
    *_panels(),
]
"""Where it stands, and the expression, with Grafana's variables filled in."""


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression is about."""
    without = re.sub(r'"[^"]*"', "", expression)
    without = re.sub(r"\{[^}]*\}", " ", without)
    without = re.sub(r"\b(?:by|without|on|ignoring|group_right|group_left)\s*\([^)]*\)", " ", without)
    names = {match[0] for match in _WORDS.finditer(without) if without[match.end() : match.end() + 1] != "("}
    return {name for name in names if name.startswith(("hcs", "up"))}


_ENDS = re.compile(r"\s(?:and|or|unless)\s(?:\s*(?:on|ignoring)\s*\([^)]*\))?|\s(?:==|!=|>=|<=|>|<)\s")


def parts(expression: str) -> list[str]:
    """What an alert compares: each side of a comparison and of and, or, unless, but for plain numbers.

    Asked alone, each gives data of a daemon that is well, where the whole gives none.
    """
    expression = expression.strip()
    if expression.startswith("absent("):  # of what is there, it says nothing
        inner, rest = _enclosed(expression, len("absent"))
        return [*parts(inner), *([] if re.fullmatch(r"\s*-\s*\d+", rest) else parts(rest))]
    if expression.startswith("(") and not (around := _enclosed(expression, 0))[1].strip():
        return parts(around[0])
    for match in _ENDS.finditer(expression):
        if expression[: match.start()].count("(") == expression[: match.start()].count(")"):
            return [*parts(expression[: match.start()]), *parts(expression[match.end() :])]
    return [] if re.fullmatch(r"-?[\d.]+", expression) else [expression]


def _enclosed(expression: str, start: int) -> tuple[str, str]:
    """What is inside the parenthesis that opens at `start`, and what follows it."""
    depth = 0
    for place in range(start, len(expression)):
        depth += {"(": 1, ")": -1}.get(expression[place], 0)
        if depth == 0:
            return expression[start + 1 : place], expression[place + 1 :]
    raise ValueError(f"{expression!r} does not close its parenthesis")
