"""Results of earlier versions are read; those of a later one are refused by name and left as they are."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from conftest import ROOT
from fakes import FakeDevice, make_settings, no_sleep
from hcs_daemon.__main__ import main
from hcs_daemon.config import known_keys
from hcs_daemon.device.manifest import MANIFEST_NAME, package_folder, read_manifest
from hcs_daemon.errors import NewerResultsError, PackageError, SettingsError
from hcs_daemon.publish.ledger import verify_ledger
from hcs_daemon.publish.schemas import SCHEMAS, PlateFile, WellResult
from hcs_daemon.service import process
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.telemetry import Telemetry
from hcs_daemon.versions import newer
from hcs_daemon.vocabulary import PlateState, WellStatus
from processes import SIMULATED_CHANNELS, make_place, run_program
from wells import Desktop, closed_well, lines, plate_news, rejection

FIXTURES = ROOT / "tests" / "fixtures"
VERSIONS = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())
ACQUISITION = "2024-01-01T00_00_00-Measurement 1"


def copied(version: str, folder: Path) -> Path:
    """The results of a version in `folder/out`, for a program to work on."""
    return shutil.copytree(FIXTURES / version, folder / "out")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file with its bytes, but those that tell whose the folder is."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".hcs-daemon"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


# ---- earlier ones


def test_there_is_a_fixture_of_every_version_of_the_formats() -> None:
    found = {
        json.loads(line)["schema"]
        for path in FIXTURES.rglob("*.json*")
        for line in ([path.read_text("utf-8")] if path.suffix == ".json" else path.read_text("utf-8").splitlines())
    }
    assert {model.model_fields["schema_"].default for model in SCHEMAS.values()} <= found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_start_takes_over_what_an_earlier_version_left_and_changes_nothing_of_it(
    version: str, tmp_path: Path
) -> None:
    results = copied(version, tmp_path)
    before = contents(results)
    with capture_logs() as said:
        desk = Desktop(tmp_path)
    plates = {plate.acquisition.plate: plate for plate in desk.restored.plates}
    assert {plate.state for plate in plates.values()} == {PlateState.ACQUIRING, PlateState.FINISHED}
    assert len(plates["SIM0002"].wells) == 6
    in_progress = {well.well.stem: well.status for well in plates["SIM0001"].wells}
    assert in_progress == {"A01": WellStatus.COMPLETE, "A02": WellStatus.COMPLETE, "A03": WellStatus.REJECTED}
    assert [line.reason.value for line in plates["SIM0001"].rejections] == ["truncated"]
    assert not desk.restored.first_start
    assert [line for line in said if line["log_level"] in {"warning", "error"}] == []
    desk.publisher.close()
    assert contents(results) == before


@pytest.mark.parametrize("version", VERSIONS)
def test_its_ledger_is_intact(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = verify_ledger(FIXTURES / version)
    assert report.broken is None
    assert report.entries >= 9
    assert main(["ledger", "verify", str(FIXTURES / version)]) == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_its_results_can_be_traced_as_far_as_their_images_are_there(
    version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here they are not: the verdict is traced from the recorded logits."""
    result = FIXTURES / version / "SIM0002" / ACQUISITION / "wells" / "B02.json"
    assert main(["trace", str(result), "--root", str(tmp_path), "--json"]) == 4
    *files, verdict = json.loads(capsys.readouterr().out)["steps"]
    assert {step["step"] for step in files} == {"file"}
    assert (verdict["step"], verdict["match"], verdict["detail"]) == ("verdict", "same", "control with 0.9968")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plate_in_progress_is_gone_on_with_and_what_was_there_is_kept(
    version: str, tmp_path: Path, log: io.StringIO
) -> None:
    results = copied(version, tmp_path)
    watched, folder = tmp_path / "in", results / "SIM0001" / ACQUISITION
    for found in results.glob("*/*/plate.json"):  # as if the watched folder lay here then
        found.write_text(found.read_text("utf-8").replace('"/data/incoming"', json.dumps(str(watched))), "utf-8")
    before = contents(results)
    simulate_plate(watched, sleep=no_sleep, plate="SIM0001", wells=6, size_px=64)
    process([watched], make_settings(tmp_path), Telemetry("1"), lambda *_: None, lambda *_: FakeDevice())
    wells = {path.stem: json.loads(path.read_bytes()) for path in (folder / "wells").glob("*.json")}
    assert {stem: result["revision"] for stem, result in wells.items()} == {
        **dict.fromkeys(("A01", "A02", "A03"), 2),
        **dict.fromkeys(("B01", "B02", "B03"), 1),
    }
    assert {result["status"] for result in wells.values()} == {"complete"}
    for stem in ("A01", "A02", "A03"):
        kept = (folder / "revisions" / f"{stem}.r1.json").read_bytes()
        assert kept == before[f"SIM0001/{ACQUISITION}/wells/{stem}.json"]
    assert json.loads((folder / "plate.json").read_bytes())["state"] == "finished"
    assert (results / "ledger.jsonl").read_bytes().startswith(before["ledger.jsonl"])
    assert verify_ledger(results).broken is None
    finished = {name: data for name, data in before.items() if name.startswith("SIM0002")}
    assert {name: data for name, data in contents(results).items() if name in finished} == finished


def test_a_field_that_a_later_program_added_is_passed_over(tmp_path: Path) -> None:
    path = FIXTURES / VERSIONS[0] / "SIM0002" / ACQUISITION / "wells" / "B02.json"
    plain = json.loads(path.read_bytes())
    more = {**plain, "colour": "blue", "model": {**plain["model"], "maker": "Ida"}}
    assert WellResult.read(json.dumps(more).encode(), path) == WellResult.read(path.read_bytes(), path)


# ---- later ones


def test_only_a_greater_number_of_the_same_format_is_later() -> None:
    own = "hcs-daemon/plate/2"
    assert newer(b'{"schema": "hcs-daemon/plate/10"}', own) == "hcs-daemon/plate/10"
    for said in ("hcs-daemon/plate/2", "hcs-daemon/plate/1", "hcs-daemon/ledger/3", "hcs-daemon/plate/x", "3"):
        assert newer(json.dumps({"schema": said}).encode(), own) is None
    for other in (b"", b"[]", b"{}", b'{"schema": 3}', b"\xff"):
        assert newer(other, own) is None


def finished_plate(folder: Path) -> Desktop:
    """A plate of one well with a rejected file, and one that belongs to no plate."""
    desk = Desktop(folder)
    desk.tell(plate_news(), rejection(), rejection("stray.tiff", acquisition=None, plane=None, channel=None))
    desk.publish(closed_well("B03"))
    desk.tell(plate_news(PlateState.FINISHED))
    desk.end()
    return desk


LATER = {
    "P1/a1/wells/B03.json": "well-result",
    "P1/a1/plate.json": "plate",
    "P1/a1/rejected.jsonl": "rejection",
    "rejected.jsonl": "rejection",
    "ledger.jsonl": "ledger",
}


def make_later(results: Path, file: str) -> None:
    """As a later version would have written it, in a way that this one cannot know."""
    path = results / file
    text = path.read_text("utf-8").replace(f"hcs-daemon/{LATER[file]}/1", f"hcs-daemon/{LATER[file]}/2")
    path.write_text(text.replace('"path"', '"place"').replace('"plate"', '"vessel"'), "utf-8")


@pytest.mark.parametrize("file", LATER)
def test_what_a_later_version_wrote_is_refused_by_name_and_left_as_it_is(file: str, tmp_path: Path) -> None:
    desk = finished_plate(tmp_path)
    make_later(desk.results, file)
    before = contents(desk.results)
    with pytest.raises(NewerResultsError) as refused:
        desk.restart(tmp_path)
    assert f"hcs-daemon/{LATER[file]}/2, which a newer hcs-daemon wrote" in refused.value.message
    assert file.rpartition("/")[2] in refused.value.message
    assert refused.value.hint.startswith("upgrade hcs-daemon")
    assert refused.value.exit_code == SettingsError.exit_code == 2
    assert contents(desk.results) == before


def test_the_service_ends_with_2_so_that_it_stays_down_and_says_so_in_a_line(tmp_path: Path) -> None:
    place = make_place(tmp_path, SIMULATED_CHANNELS)
    desk = finished_plate(tmp_path)
    desk.results.rename(place.results)
    make_later(place.results, "P1/a1/wells/B03.json")
    before = contents(place.results)
    ended = run_program("run", "-c", place.config)
    assert ended.returncode == 2
    what, hint = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert what.startswith(f"{place.results}") or "B03.json is hcs-daemon/well-result/2" in what
    assert hint.startswith("upgrade hcs-daemon")
    assert contents(place.results) == before


def test_the_way_back_is_a_results_folder_of_its_own(tmp_path: Path, log: io.StringIO) -> None:
    newer_results = finished_plate(tmp_path).results
    make_later(newer_results, "P1/a1/plate.json")
    before = contents(newer_results)
    simulate_plate(tmp_path / "in", sleep=no_sleep, plate="P1", wells=6, size_px=64)
    settings = make_settings(tmp_path, {"results": {"directory": str(tmp_path / "results-0.1.0")}})
    process([tmp_path / "in"], settings, Telemetry("1"), lambda *_: None, lambda *_: FakeDevice())
    assert len(list((tmp_path / "results-0.1.0" / "P1").glob("*/wells/*.json"))) == 6
    assert contents(newer_results) == before


def test_the_manual_names_commands_and_settings_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "upgrade.md").read_text("utf-8")
    commands = re.findall(r"^    \.venv/bin/hcs-daemon ((?:[a-z]+ ?)+)", page, re.MULTILINE)
    assert {words.strip() for words in commands} == {"check", "ledger verify"}
    for words in (*commands, *re.findall(r"`hcs-daemon ((?:[a-z]+ ?)+)", page)):
        assert main([*words.split(), "--help"]) == 0
    named = set(re.findall(r"`((?:watch|expect|explain|results)\.[a-z_]+)`", page))
    assert named
    assert named <= set(known_keys())


def test_ledger_verify_and_trace_refuse_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = finished_plate(tmp_path)
    make_later(desk.results, "P1/a1/wells/B03.json")
    assert main(["trace", str(desk.results / "P1" / "a1" / "wells" / "B03.json")]) == 2
    assert "well-result/2" in capsys.readouterr().err
    make_later(desk.results, "ledger.jsonl")
    assert main(["ledger", "verify", str(desk.results)]) == 2
    assert "line 1 of ledger.jsonl is hcs-daemon/ledger/2" in capsys.readouterr().err


def test_a_model_package_of_a_later_version_is_refused_by_name(tmp_path: Path) -> None:
    text = (package_folder("demo") / MANIFEST_NAME).read_text("utf-8")
    (tmp_path / MANIFEST_NAME).write_text(text.replace("model-package/1", "model-package/2"), "utf-8")
    with pytest.raises(PackageError) as refused:
        read_manifest(tmp_path)
    assert "is hcs-daemon/model-package/2, which a newer hcs-daemon wrote" in refused.value.message
    assert refused.value.hint.startswith("upgrade hcs-daemon")
    assert refused.value.exit_code == 3


def test_a_file_that_is_merely_wrong_is_not_taken_for_a_later_one(tmp_path: Path) -> None:
    desk = finished_plate(tmp_path)
    plate = json.loads((desk.folder / "plate.json").read_bytes())
    wrong: dict[str, Any] = {**plate, "revisions": "many"}
    with pytest.raises(ValueError, match="revisions"):
        PlateFile.read(json.dumps(wrong).encode(), "plate.json")
    assert lines(desk.results / "ledger.jsonl")
