"""docs/troubleshooting.md names whatever can go wrong: reasons, exit codes, the lines of the log that warn."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcs_daemon import errors
from hcs_daemon.config import known_keys
from hcs_daemon.telemetry import Event
from hcs_daemon.vocabulary import Reason, WellStatus

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """First cell -> the others, of the tables below a heading."""
    section = re.split(r"^## ", PAGE.partition(f"## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {first.strip("`"): rest for first, *rest in cells}


def warnings() -> Iterator[Event]:
    """Every event that the code logs as a warning or an error."""
    for path in sorted((ROOT / "hcs_daemon").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args and "Event." in ast.unparse(node.args[0]):
                called = ast.unparse(node.func)
                if "warning" in called or "error" in called:
                    yield Event[ast.unparse(node.args[0]).rpartition(".")[2]]


def test_every_reason_is_explained_in_the_order_of_the_list() -> None:
    found = rows("Files are rejected")
    assert [name for name in found if name in set(Reason)] == [reason.value for reason in Reason]


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.POISONED])
def test_every_reason_says_what_it_means_and_what_to_do(reason: Reason) -> None:
    means, cause, todo = rows("Files are rejected")[reason]
    assert all((means, cause, todo))


def test_every_exit_code_is_explained() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.HcsError)]
    codes = {"0", *(str(kind.exit_code) for kind in kinds)}
    assert codes <= rows("It ends at once").keys()


@pytest.mark.parametrize("event", sorted(set(warnings())))
def test_every_line_of_the_log_that_warns_is_explained(event: Event) -> None:
    if event not in {Event.PLANE_REJECTED, Event.SERVICE_NOT_READY}:  # every reason, and everything that is waited for
        assert f"`{event}`" in PAGE


def test_the_warnings_of_the_code_are_found() -> None:
    assert {Event.RESULTS_UNAVAILABLE, Event.DEVICE_FALLBACK, Event.SERVICE_NOT_READY} <= set(warnings())


def test_a_well_that_is_not_complete_is_explained() -> None:
    assert WellStatus.PARTIAL in PAGE
    assert WellStatus.REJECTED in PAGE


def test_only_settings_and_log_lines_that_exist_are_named() -> None:
    named = set(
        re.findall(r"`((?:plate|channel|file|result|results|watch|scan|device|service|ledger)\.[a-z_]+)`", PAGE)
    )
    files = {"plate.json", "plate.png", "ledger.jsonl"}
    assert named - set(known_keys()) - set(Event) - files == set()
