"""The JSON Schemas in docs/schemas are those of the code, and every file that is written keeps to them."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from conftest import ROOT
from hcs_daemon.device import manifest
from hcs_daemon.publish.schemas import SCHEMAS, RejectionLine, WellResult, schema_text, write_schemas
from hcs_daemon.vocabulary import PlateState
from wells import Desktop, closed_well, lines, plate_news, rejection

FOLDER = ROOT / "docs" / "schemas"


def schema(stem: str) -> Any:
    return json.loads((FOLDER / f"{stem}.schema.json").read_text(encoding="utf-8"))


def check(stem: str, document: Any) -> None:
    jsonschema.validate(document, schema(stem), format_checker=jsonschema.FormatChecker())
    assert document["schema"] == f"hcs-daemon/{stem}/1"


@pytest.mark.parametrize("stem", SCHEMAS)
def test_the_schemas_in_the_manual_are_current(stem: str) -> None:
    current = schema_text(SCHEMAS[stem])
    assert (FOLDER / f"{stem}.schema.json").read_text(encoding="utf-8") == current, (
        "run python -m hcs_daemon.publish.schemas docs/schemas"
    )


def test_they_are_written_where_one_asks_for_them(tmp_path: Path) -> None:
    write_schemas(tmp_path / "schemas")
    written = {path.name for path in (tmp_path / "schemas").iterdir()}
    assert written == {f"{stem}.schema.json" for stem in SCHEMAS}
    assert written | {manifest.SCHEMA_FILE} == {path.name for path in FOLDER.iterdir()}


def test_the_schema_of_a_model_package_is_current() -> None:
    current = manifest.schema_text()
    assert (FOLDER / manifest.SCHEMA_FILE).read_text(encoding="utf-8") == current, (
        "run python -m hcs_daemon.device.manifest docs/schemas"
    )
    shipped = json.loads((manifest.package_folder("demo") / manifest.MANIFEST_NAME).read_text("utf-8"))
    jsonschema.validate(shipped, json.loads(current))
    with pytest.raises(jsonschema.ValidationError, match="colour"):
        jsonschema.validate(shipped | {"colour": "blue"}, json.loads(current))


def test_the_manual_names_every_key_of_a_manifest() -> None:
    words = set(re.findall(r"\w+", (ROOT / "docs" / "model-package.md").read_text(encoding="utf-8")))
    found = schema("model-package")
    assert {name for model in (found, *found["$defs"].values()) for name in model["properties"]} <= words


def test_every_file_that_is_written_keeps_to_its_schema(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    desk.tell(rejection(), rejection(withdrawn=True))
    desk.tell(rejection("stray.tiff", acquisition=None, plane=None, channel=None, sha256=None))
    desk.publish(closed_well("B03", sites=(1, 2), expected_sites=3, missing=(3,), pending=True))
    desk.publish(closed_well("B03", sites=(1, 2, 3)))
    desk.publish(closed_well("C01", sites=(), expected_sites=1, rejected=(1,)))
    desk.tell(plate_news(PlateState.FINISHED))
    desk.pass_time()
    desk.end()
    found = sorted(path for path in desk.results.rglob("*.json"))
    assert [path.name for path in found] == ["plate.json", "B03.r1.json", "B03.json", "C01.json"]
    for path in found:
        check("plate" if path.name == "plate.json" else "well-result", json.loads(path.read_bytes()))
    for path in (desk.folder / "rejected.jsonl", desk.results / "rejected.jsonl"):
        for line in lines(path):
            check("rejection", line)
    for line in desk.ledger():
        check("ledger", line)


@pytest.mark.parametrize("stem", SCHEMAS)
def test_the_manual_names_every_field(stem: str) -> None:
    words = set(re.findall(r"\w+", (ROOT / "docs" / "results.md").read_text(encoding="utf-8")))
    found = schema(stem)
    fields = {name for model in (found, *found.get("$defs", {}).values()) for name in model.get("properties", {})}
    assert len(fields) > 5
    assert fields <= words | {"schema"}


def test_what_the_schema_does_not_know_is_refused(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.publish(closed_well())
    document = {**desk.result(), "colour": "blue"}
    with pytest.raises(ValidationError, match="colour"):
        WellResult.model_validate(document)
    with pytest.raises(jsonschema.ValidationError, match="colour"):
        check("well-result", document)
    desk.end()


def test_a_well_result_is_json_for_people_an_input_a_line(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.publish(closed_well())
    text = (desk.folder / "wells" / "B03.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "schema": "hcs-daemon/well-result/1",\n  "plate": "P1",\n')
    assert text.endswith("\n}\n")
    assert sum('"sha256"' in line and '"channel"' in line for line in text.splitlines()) == 5
    desk.end()


def test_reasons_are_a_closed_list() -> None:
    with pytest.raises(ValidationError, match="reason"):
        RejectionLine.model_validate({**_line(), "reason": "ugly"})
    RejectionLine.model_validate(_line())


def _line() -> dict[str, Any]:
    return {
        "at": "2026-01-01T12:00:00Z",
        "path": "x.tiff",
        "sha256": None,
        "reason": "blank",
        "detail": "",
        "hint": "",
        "size_bytes": 1,
        "mtime_ns": 1,
    }
