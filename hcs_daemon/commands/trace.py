"""`hcs-daemon trace`: every step from a result's files to its verdict, again, beside what was recorded."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hcs_daemon.commands.retracing import Match, Retrace, Step, Values
from hcs_daemon.config import Expect
from hcs_daemon.device.manifest import package_folder
from hcs_daemon.errors import FolderError, SettingsError
from hcs_daemon.publish.names import PLATE_NAME
from hcs_daemon.publish.schemas import Document, PlateFile, WellResult
from hcs_daemon.telemetry import configure_logging
from hcs_daemon.terminal import Column, counted, plain_table, say

_COLUMNS = (
    Column("step"),
    Column("of"),
    Column("shape"),
    Column("dtype"),
    Column("min", right=True),
    Column("max", right=True),
    Column("mean", right=True),
    Column("digest"),
    Column("beside what was recorded"),
)
_WORDS = {
    Match.SAME: "the same",
    Match.ROUNDED: "the same but for rounding",
    Match.DIFFERS: "DIFFERS",
    Match.UNRECORDED: "not recorded",
    Match.UNREACHABLE: "CANNOT BE READ",
    Match.NO_MODEL: "NO MODEL",
}


def trace_result(
    path: Path, site: int | None, root: Path | None = None, package: str | None = None, *, as_json: bool = False
) -> int:
    """0: every step is the same as recorded. 1: one differs. 4: a file cannot be read. 3: the model cannot be used.

    A difference counts before what could not be looked at. root, package: where these were moved to. Raises HcsError.
    """
    result = _read(path, WellResult)
    plate = _read(path.parent.parent / PLATE_NAME, PlateFile)
    sites = _sites(result, site)
    where = package_folder(package or str(plate.settings.get("model", {}).get("package", "")))
    configure_logging("console", "error", io.StringIO())  # what the device would log is said here in words
    retrace = Retrace(result, plate, _expect(plate), root or Path(plate.root), where)
    steps = list(retrace.steps(sites))
    first = _first(steps)
    code = _exit_code(steps)
    if as_json:
        found = {
            "result": str(path),
            "exit_code": code,
            "first": _row(first) if first else None,
            "notes": retrace.notes,
            "steps": [_row(step) for step in steps],
        }
        say(json.dumps(found, indent=1))
        return code
    _tell(result, plate, retrace, where, steps)
    say("\n" + _conclusion(steps, first, sites))
    return code


def _read(path: Path, model: type[Document]) -> Any:
    try:
        return model.read(path.read_bytes(), path)
    except OSError as error:
        raise FolderError(
            f"{path} cannot be read: {error.strerror}",
            "name a result such as RESULTS/<plate>/<acquisition>/wells/B03.json, with plate.json in the folder above",
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(
            f"{path} is no {'result of a well' if model is WellResult else 'plate.json'}: {where}: {first['msg']}",
            "name a file such as wells/B03.json or revisions/B03.r1.json; `ledger verify` finds changed ones",
        ) from error


def _expect(plate: PlateFile) -> Expect:
    try:
        return Expect.model_validate(plate.expectations)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SettingsError(
            f"the expectations in plate.json are refused: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            "they were changed, or written by another version",
        ) from error


def _sites(result: WellResult, site: int | None) -> list[int]:
    analysed = [entry.site for entry in result.site_results]
    if not analysed:
        raise SettingsError(f"no site of {result.well} was analysed", "its warnings and rejected.jsonl say why")
    if site is not None and site not in analysed:
        raise SettingsError(
            f"site {site} of {result.well} was not analysed", f"--site takes {', '.join(map(str, analysed))}"
        )
    return analysed if site is None else [site]


def _first(steps: Sequence[Step]) -> Step | None:
    """The first step that differs; where none does, the first that could not be compared."""
    differs = (step for step in steps if step.match is Match.DIFFERS)
    lacking = (step for step in steps if step.match in {Match.UNREACHABLE, Match.NO_MODEL})
    return next(differs, None) or next(lacking, None)


def _exit_code(steps: Sequence[Step]) -> int:
    found = {step.match for step in steps}
    return 1 if Match.DIFFERS in found else 4 if Match.UNREACHABLE in found else 3 if Match.NO_MODEL in found else 0


def _tell(result: WellResult, plate: PlateFile, retrace: Retrace, package: Path, steps: Sequence[Step]) -> None:
    say(f"{result.plate} {result.acquisition} {result.well}, revision {result.revision}, by {result.model.name}")
    say(f"inputs below {plate.root}; model package {package}")
    for note in retrace.notes:
        say(f"note: {note}")
    for site, group in groupby(steps, key=lambda step: step.site):
        title = "the well" if site is None else f"site {site}"
        say("\n" + plain_table(title, _COLUMNS, [_cells(step) for step in group]))


def _cells(step: Step) -> list[str]:
    now = step.now
    shape = f"{now.size_bytes} bytes" if now.size_bytes is not None else " x ".join(map(str, now.shape or ()))
    said = [_WORDS[step.match], step.detail, step.path if step.name == "file" else ""]
    return [
        step.name,
        step.of,
        shape,
        now.dtype or "",
        *("" if value is None else f"{value:.6g}" for value in (now.minimum, now.maximum, now.mean)),
        (now.digest or "")[:12],
        ": ".join(word for word in said if word),
    ]


def _conclusion(steps: Sequence[Step], first: Step | None, sites: Sequence[int]) -> str:
    if first is None:
        rounded = next((step for step in steps if step.match is Match.ROUNDED), None)
        lacking = any(step.match is Match.UNRECORDED for step in steps)
        said = f"Every step of {counted(len(sites), 'site')} is as it was recorded"
        if rounded is not None:
            said += f", but for rounding from {_place(rounded)} on"
        return said + ("; an older version recorded less." if lacking else ".")
    if first.match is Match.DIFFERS:
        return f"The first step that differs is {_place(first)}: {first.detail}."
    return f"The first step that cannot be followed is {_place(first)}: {first.detail}."


def _place(step: Step) -> str:
    words = [step.name, f"of {step.of}" if step.of else "", f"of site {step.site}" if step.site is not None else ""]
    words.append(f"({step.path})" if step.path else "")
    return " ".join(word for word in words if word)


def _row(step: Step) -> dict[str, Any]:
    """A step as `--json` writes it; the keys are part of the public face."""
    recorded = None if step.recorded is None else _values(step.recorded)
    return {
        "site": step.site,
        "step": step.name,
        "of": step.of,
        "path": step.path or None,
        "match": step.match.value,
        "detail": step.detail,
        "now": _values(step.now),
        "recorded": recorded,
    }


def _values(values: Values) -> dict[str, Any]:
    return {name: value for name, value in asdict(values).items() if value is not None}
