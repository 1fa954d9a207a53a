"""What is in monitoring/ agrees with the daemon, with itself and with Grafana's schema."""

import importlib.util
import json
import re
import shutil
import subprocess
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard, VariableModel
from typer.main import get_command

from hcs_daemon.__main__ import app
from hcs_daemon.config import known_keys
from hcs_daemon.telemetry import Event, Telemetry
from mixin import ALERTS, EXPRESSIONS, MONITORING, PROMETHEUS, RECORDED, ROOT, metric_names

RUNBOOKS = ROOT / "docs" / "runbooks"
PROMISED = {
    "HcsDown",
    "HcsRestarting",
    "WatcherStalled",
    "WatchUnavailable",
    "WatchMissedEvents",
    "CannotKeepUp",
    "WellLatencyHigh",
    "RejectionRateHigh",
    "BitDepthRejections",
    "PlateStalled",
    "PlatePartial",
    "DeviceOom",
    "DeviceFallback",
    "PoisonedSites",
    "ExplanationChecksFailing",
    "ControlDrift",
    "ResultWriteFailures",
    "PlateCommandFailing",
    "SettingsRefused",
    "DiskFillingUp",
    "LedgerBroken",
    "ClockSkew",
}
QUESTIONS = ["What it means", "How to look", "What to do", "How to know that it is over"]
BOARD: dict[str, Any] = json.loads((MONITORING / "grafana" / "hcs-daemon.json").read_text("utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def exposed() -> set[str]:
    """Every name of a sample that the daemon gives."""
    telemetry = Telemetry("1")
    telemetry.device_info.labels("cpu", "CPU")
    telemetry.model_info.labels("m", "1", "0")
    return {sample.name for metric in telemetry.registry.collect() for sample in metric.samples}


def run_promtool(*arguments: str | Path, text: bytes | None = None) -> str:
    """What it says; the test fails where it finds fault."""
    done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, input=text, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


@promtool
def test_promtool_finds_no_fault_with_rules_and_alerts() -> None:
    said = run_promtool("check", "rules", "--lint-fatal", "rules.yaml", "alerts.yaml")
    assert f"{len(ALERTS)} rules found" in said


@promtool
def test_promtool_finds_no_fault_with_the_scrape() -> None:
    assert "2 rule files found" in run_promtool("check", "config", "scrape-example.yaml")


@promtool
def test_promtool_finds_no_fault_with_the_metrics() -> None:
    assert run_promtool("check", "metrics", text=Telemetry("1.2.3").render()) == ""


@promtool
def test_each_alert_fires_by_its_cause_and_not_without() -> None:
    files = sorted(PROMETHEUS.glob("tests/*.yaml"))
    assert run_promtool("test", "rules", *files).count("SUCCESS") == len(files)


def test_the_alerts_are_those_that_are_promised() -> None:
    assert ALERTS.keys() == PROMISED


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_says_how_bad_how_long_how_much_and_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert re.fullmatch(r"\d+m", alert["for"])
    assert "$value" in alert["annotations"]["summary"]
    assert "$labels.instance" in alert["annotations"]["summary"]
    assert alert["annotations"]["description"].endswith(".")
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_has_a_rule_test_of_its_cause_and_of_its_silence(name: str) -> None:
    document = yaml.safe_load((PROMETHEUS / "tests" / f"{name}.yaml").read_text("utf-8"))
    asked = [each for test in document["tests"] for each in test["alert_rule_test"]]
    assert {each["alertname"] for each in asked} == {name}
    assert any(each["exp_alerts"] for each in asked)
    assert any(not each["exp_alerts"] for each in asked)


def test_a_normal_week_is_of_all_that_alerts_look_at_and_of_their_silence() -> None:
    (test,) = yaml.safe_load((PROMETHEUS / "tests" / "normal_week.yaml").read_text("utf-8"))["tests"]
    given = {metric_names(series["series"]).pop() for series in test["input_series"]}
    asked = {name for alert in ALERTS.values() for name in metric_names(alert["expr"])}
    asked |= {name for recorded in asked & RECORDED.keys() for name in metric_names(RECORDED[recorded])}
    assert asked - RECORDED.keys() <= given
    silence = test["promql_expr_test"][0]
    assert 'ALERTS{alertstate="firing"}[8d]' in silence["expr"]
    assert silence["exp_samples"] == []


def test_there_is_a_rule_test_for_alerts_only_and_three_for_all_of_them() -> None:
    names = {path.stem for path in PROMETHEUS.glob("tests/*.yaml")}
    assert names == ALERTS.keys() | {"healthy", "normal_week", "old_file"}
    for name in ("healthy", "old_file"):
        document = yaml.safe_load((PROMETHEUS / "tests" / f"{name}.yaml").read_text("utf-8"))
        asked = {each["alertname"] for test in document["tests"] for each in test["alert_rule_test"]}
        assert asked == ALERTS.keys()


def test_a_rule_test_is_of_metrics_that_the_daemon_gives() -> None:
    for path in PROMETHEUS.glob("tests/*.yaml"):
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            named = {metric_names(series["series"]).pop() for series in test["input_series"]}
            assert named <= exposed() | {"up"}, path.name


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_an_expression_names_what_the_daemon_gives_or_a_rule_records(where: str, expression: str) -> None:
    names = metric_names(expression)
    assert names, where
    assert names <= exposed() | RECORDED.keys() | {"up"}, where


def test_every_recorded_rule_is_used() -> None:
    used = {name for _, expression in EXPRESSIONS for name in metric_names(expression)}
    assert RECORDED.keys() <= used


# ---- runbooks


def test_there_is_a_runbook_for_every_alert_and_for_nothing_else() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == ALERTS.keys() | {"README"}


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_a_runbook_answers_the_four_questions_with_what_exists(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text("utf-8")
    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", page, flags=re.MULTILINE) == QUESTIONS
    assert len(page.split()) > 120
    commands = get_command(app).commands  # type: ignore[attr-defined] # it is a group
    used = set(re.findall(r"/bin/hcs-daemon ([a-z]+) ", page, flags=re.MULTILINE))
    assert used <= commands.keys()
    assert set(re.findall(r"hcs_[a-z_]+[a-z]", page)) <= exposed() | HISTOGRAMS
    said = {word for word in re.findall(r"`([a-z]+\.[a-z_]+)`", page) if word.partition(".")[0] in PREFIXES}
    assert said <= {*Event, *known_keys(), *FILES}


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_a_runbooks_commands_work_as_pasted_where_the_service_is_installed(page: Path) -> None:
    """On its page a command names the installed settings, and asks as the user who may."""
    text = page.read_text("utf-8")
    assert re.findall(r"hcs-daemon [a-z]+ .*-c (?!/etc/hcs-daemon/\w+\.toml)\S+", text) == []
    names = "|".join(get_command(app).commands)  # type: ignore[attr-defined] # it is a group
    assert re.findall(rf"(?<!sudo -u hcs-daemon /usr/local/bin/)hcs-daemon (?:{names}) .*", text) == []
    assert re.findall(r"journalctl -u (?!'hcs-daemon\*')\S+", text) == []
    assert re.findall(r"^ +(?:journalctl|systemctl (?:stop|start|restart|reload)).*", text, flags=re.MULTILINE) == []
    lines = [line.strip() for line in text.splitlines()]
    for at, line in enumerate(lines):
        if " process /" in line:
            assert lines[at - 1] == "sudo systemctl stop hcs-daemon"
            assert lines[at + 1] == "sudo systemctl start hcs-daemon"


PREFIXES = {name.partition(".")[0] for name in (*Event, *known_keys())}
FILES = {"quality.html", "plate.json", "plate.png", "ledger.jsonl"}
HISTOGRAMS = {metric.name for metric in Telemetry("1").registry.collect() if metric.type == "histogram"}


def test_the_overview_links_every_runbook_with_its_severity() -> None:
    page = (RUNBOOKS / "README.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| \[([A-Za-z]+)\]\(\1\.md\) \| ([a-z]+) \|", page, flags=re.MULTILINE))
    assert rows == {name: alert["labels"]["severity"] for name, alert in ALERTS.items()}


# ---- the dashboard


def test_the_dashboard_is_what_its_list_of_panels_makes() -> None:
    spec = importlib.util.spec_from_file_location("make_dashboard", MONITORING / "make_dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert json.loads(module.make()) == BOARD, "python monitoring/make_dashboard.py writes it anew"


def test_the_dashboard_keeps_to_grafanas_schema() -> None:
    """By the types that Grafana publishes with its kit: every key is known, and every value of its type."""
    register_default_plugins()
    read = Dashboard.from_json(BOARD)
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == BOARD
    assert misfits(read, Dashboard, "dashboard") == []


def test_a_dashboard_that_does_not_keep_to_the_schema_is_seen() -> None:
    register_default_plugins()
    wrong = json.loads(json.dumps(BOARD))
    wrong["panels"][1]["titel"] = "Ready"
    wrong["panels"][1]["gridPos"]["w"] = "wide"
    read = Dashboard.from_json(wrong)
    assert json.loads(json.dumps(read, cls=JSONEncoder)) != wrong
    assert misfits(read, Dashboard, "dashboard") == ["dashboard.panels.1.grid_pos.w: 'wide' is no int"]


def misfits(value: Any, hint: Any, where: str) -> list[str]:
    """Where a value is not of its declared type, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return min((misfits(value, each, where) for each in arguments), key=len)
    inside: dict[str, tuple[Any, Any]] = {}
    if origin is list and isinstance(value, list):
        inside = {str(at): (item, arguments[0]) for at, item in enumerate(value)}
    elif origin is dict and isinstance(value, dict):
        inside = {key: (item, arguments[1]) for key, item in value.items()}
    elif not fits(value, hint):
        return [f"{where}: {value!r} is no {getattr(hint, '__name__', hint)}"]
    elif hasattr(value, "to_json"):
        inside = {name: (getattr(value, name), each) for name, each in typing.get_type_hints(type(value)).items()}
    return [found for name, pair in inside.items() for found in misfits(*pair, f"{where}.{name}")]


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, what is inside it aside."""
    if hint in {object, Any}:
        return True
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return value in {*hint, *(each.value for each in hint)}
    wanted = (int, float) if hint is float else typing.get_origin(hint) or hint
    return isinstance(value, wanted) and (hint is bool or not isinstance(value, bool))


def test_the_dashboard_belongs_to_no_one_site() -> None:
    assert BOARD.get("uid") is None
    assert BOARD.get("id") is None
    variables = {each["name"]: each for each in BOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance"]
    assert variables["datasource"]["type"] == "datasource"
    sources = re.findall(r'"uid": "([^"]*)"', json.dumps(BOARD))
    assert set(sources) == {"${datasource}"}
    assert len(sources) == len(PANELS) + 2
    assert VariableModel.from_json(variables["job"]).multi


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_in_which_unit_of_the_chosen_instances(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        chosen = target["expr"].count('{job=~"$job",instance=~"$instance"')
        assert chosen == target["expr"].count("{") >= 1
        assert target["legendFormat"]


def test_panels_do_not_lie_upon_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
