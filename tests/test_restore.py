"""What an earlier run left is believed as far as it is what was written, and nothing of it is silently lost."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hcs_daemon.errors import FolderError
from hcs_daemon.publish.ledger import verify_ledger
from hcs_daemon.records import RestoredPlate
from hcs_daemon.vocabulary import PlateState, WellStatus
from wells import ACQUISITION, NOON, Desktop, closed_well, lines, plate_news, predictions_of, rejection, well_id

OTHER_MODEL = {"explain": {"method": "occlusion"}}
"""Settings that decide a result differently."""


def begun(folder: Path) -> Desktop:
    """A plate that is acquiring, with B03 complete and C01 partial."""
    desk = Desktop(folder)
    desk.tell(plate_news())
    desk.publish(closed_well("B03", sites=(1, 2)))
    desk.publish(closed_well("C01", expected_sites=2, missing=(2,), pending=True))
    desk.pass_time(60)
    return desk


def the_plate(desk: Desktop) -> RestoredPlate:
    (plate,) = desk.restored.plates
    return plate


def wells_of(desk: Desktop) -> list[str]:
    return [found.well.stem for plate in desk.restored.plates for found in plate.wells]


def test_an_empty_folder_is_a_first_start(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    assert desk.restored.first_start
    assert desk.restored.plates == ()
    assert not desk.restart(tmp_path).restored.plates


def test_after_a_rejection_or_a_result_it_is_none(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(rejection("stray.tiff", acquisition=None, plane=None, channel=None))
    again = desk.restart(tmp_path)
    assert not again.restored.first_start
    assert [found.path for found in again.restored.rejections] == ["stray.tiff"]
    again.publish(closed_well())
    assert not again.restart(tmp_path).restored.first_start


def test_intake_gets_every_well_with_its_planes_and_what_was_predicted(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    desk.tell(rejection(), rejection("taken back.tiff"), rejection("taken back.tiff", withdrawn=True))
    plate = the_plate(desk.restart(tmp_path))
    assert plate.acquisition == ACQUISITION
    assert (plate.state, plate.shape, plate.outdated) == (PlateState.ACQUIRING, (64, 64), False)
    complete, partial = plate.wells
    closed = closed_well("B03", sites=(1, 2))
    assert (complete.well, complete.revision, complete.status) == (well_id("B03"), 1, WellStatus.COMPLETE)
    assert complete.inputs == closed.inputs
    assert complete.predicted == closed.ready
    assert (complete.first_plane_at, complete.last_plane_at) == (NOON, NOON)
    assert (partial.well, partial.status) == (well_id("C01"), WellStatus.PARTIAL)
    assert plate.rejections == (rejection(),)


def test_every_time_point_is_restored_and_not_written_again(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    closed = [closed_well("B03", time=time) for time in (1, 2, 11)]
    for each in closed:
        desk.publish(each)
    again = desk.restart(tmp_path)
    found = {well.well: well for well in the_plate(again).wells}
    assert found.keys() == {each.well for each in closed}
    for each in closed:
        assert (found[each.well].inputs, found[each.well].predicted) == (each.inputs, each.ready)
        assert again.tell(each, *predictions_of(each)) == []
    assert len(again.ledger()) == 3


def test_a_finished_plate_is_restored_as_finished(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    desk.tell(plate_news(PlateState.FINISHED))
    desk.pass_time()
    assert the_plate(desk.restart(tmp_path)).state is PlateState.FINISHED


def test_a_plate_is_not_written_again_for_what_another_run_found_of_the_model(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    found = {"maps_alike": [0.5], "named": None, "named_at_random": None, "problem": ""}
    before = json.dumps(desk.plate() | {"randomisation": found})
    (desk.folder / "plate.json").write_text(before, "utf-8")
    again = desk.restart(tmp_path)
    again.tell(plate_news())
    again.pass_time(3600.0)
    assert (again.folder / "plate.json").read_text("utf-8") == before


@pytest.mark.parametrize("torn", [None, b'{"schema": "hcs-dae'])
def test_without_its_plate_file_a_plate_is_known_all_the_same(torn: bytes | None, tmp_path: Path) -> None:
    desk = begun(tmp_path)
    path = desk.folder / "plate.json"
    path.unlink()
    if torn is not None:
        path.write_bytes(torn)
    again = desk.restart(tmp_path)
    assert wells_of(again) == ["B03", "C01"]
    assert the_plate(again).shape == (64, 64)
    again.tell(plate_news())
    again.pass_time()
    assert again.plate()["wells"]["complete"] == 1


def test_a_plate_file_of_another_plate_is_not_believed(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    path = desk.folder / "plate.json"
    path.write_text(path.read_text().replace('"P1"', '"P2"'))
    assert wells_of(desk.restart(tmp_path)) == ["B03", "C01"]


def test_with_rejections_only_a_plate_is_known(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(rejection())
    plate = the_plate(desk.restart(tmp_path))
    assert (plate.acquisition, plate.wells, plate.rejections) == (ACQUISITION, (), (rejection(),))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def edited(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"much_DNA", b"much_ER!"))


def not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def of_another_well(path: Path) -> None:
    path.write_bytes((path.parent / "C01.json").read_bytes())


@pytest.mark.parametrize("harm", [half, emptied, edited, not_text, of_another_well])
def test_a_damaged_result_is_kept_aside_named_and_done_again(harm: Callable[[Path], None], tmp_path: Path) -> None:
    desk = begun(tmp_path)
    path = desk.folder / "wells" / "B03.json"
    harm(path)
    damaged = path.read_bytes()
    with capture_logs() as said:
        again = desk.restart(tmp_path)
    assert [(line["event"], line["path"]) for line in said if line["event"] == "result.damaged"] == [
        ("result.damaged", path)
    ]
    assert wells_of(again) == ["C01"]
    assert (desk.folder / "revisions" / "B03.damaged-1.json").read_bytes() == damaged
    again.publish(closed_well("B03", sites=(1, 2)))
    assert (again.result()["revision"], again.result()["supersedes"]) == (2, 1)
    report = verify_ledger(again.results)
    assert report.broken == (
        "P1/a1/revisions/B03.r1.json (revision 1) is not there; what had been changed there was set aside as"
        " P1/a1/revisions/B03.damaged-1.json"
    )


def test_a_result_changed_while_the_daemon_runs_is_kept_aside_too(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    path = desk.folder / "wells" / "B03.json"
    edited(path)
    damaged = path.read_bytes()
    desk.publish(closed_well("B03", sites=(1, 2), edition=2))
    assert (desk.folder / "revisions" / "B03.damaged-1.json").read_bytes() == damaged
    assert desk.result()["revision"] == 2


def test_a_changed_copy_of_an_older_revision_is_kept_aside_too(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    kept = desk.folder / "revisions" / "B03.r1.json"
    kept.parent.mkdir()
    kept.write_bytes(b"somebody's")
    desk.publish(closed_well("B03", sites=(1, 2), edition=2))
    assert (desk.folder / "revisions" / "B03.r1.damaged-1.json").read_bytes() == b"somebody's"
    assert json.loads(kept.read_bytes())["revision"] == 1
    assert verify_ledger(desk.results).broken is None


def test_an_older_result_put_back_is_not_believed(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    desk.publish(closed_well("B03", sites=(1, 2), edition=2))
    shutil.copy(desk.folder / "revisions" / "B03.r1.json", desk.folder / "wells" / "B03.json")
    assert wells_of(desk.restart(tmp_path)) == ["C01"]


def test_a_line_that_a_crash_kept_from_the_ledger_is_appended_at_the_next_start(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    desk.publish(closed_well("B03", sites=(1, 2), edition=2))
    ledger = desk.results / "ledger.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    with capture_logs() as said:
        again = desk.restart(tmp_path)
    assert [line["path"] for line in said if line["event"] == "ledger.repaired"] == ["P1/a1/wells/B03.json"]
    assert ledger.read_bytes() == whole  # the clock stood still
    assert verify_ledger(again.results).broken is None
    assert wells_of(again) == ["B03", "C01"]
    assert again.metrics()["hcs_ledger_entries_total"] == 1


def test_a_torn_line_of_the_ledger_is_mended(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    ledger = desk.results / "ledger.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-30])
    again = desk.restart(tmp_path)
    before, after = (raw.splitlines() for raw in (whole, ledger.read_bytes()))
    assert after[:-1] == before[:-1]
    assert {**json.loads(after[-1]), "time": 0} == {**json.loads(before[-1]), "time": 0}
    assert wells_of(again) == ["B03", "C01"]


def test_a_ledger_that_is_gone_is_written_again_from_the_results(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    desk.publish(closed_well("B03", sites=(1, 2), edition=2))
    (desk.results / "ledger.jsonl").unlink()
    again = desk.restart(tmp_path)
    assert [(line["path"][-8:], line["revision"]) for line in again.ledger()] == [
        ("B03.json", 1),
        ("B03.json", 2),
        ("C01.json", 1),
    ]
    assert verify_ledger(again.results).broken is None


def test_an_edited_ledger_is_said_and_kept_as_it_is(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    ledger = desk.results / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"number":1', b'"number":5'))
    before = ledger.read_bytes()
    with capture_logs() as said:
        again = desk.restart(tmp_path)
    assert "ledger.broken" in [line["event"] for line in said]
    assert again.metrics()["hcs_ledger_broken"] == 1
    again.publish(closed_well("D04"))
    assert ledger.read_bytes().startswith(before)
    assert verify_ledger(again.results).broken == "line 1 has the number 5"


def test_half_written_files_of_a_crash_are_removed(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    leftovers = [
        desk.results / ".ledger.jsonl.01234567.tmp",
        desk.folder / ".plate.json.01234567.tmp",
        desk.folder / "wells" / ".B03.json.01234567.tmp",
    ]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    desk.restart(tmp_path)
    assert not any(leftover.exists() for leftover in leftovers)


def test_a_torn_rejection_says_nothing_and_spoils_none(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(rejection("one.tiff"), rejection("two.tiff"))
    path = desk.folder / "rejected.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    again = desk.restart(tmp_path)
    assert [found.path for found in the_plate(again).rejections] == ["one.tiff"]
    again.tell(rejection("two.tiff"))
    assert [found.path for found in the_plate(again.restart(tmp_path)).rejections] == ["one.tiff", "two.tiff"]


def test_what_is_known_already_is_not_written_again(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    stray = rejection("stray.tiff", acquisition=None, plane=None, channel=None)
    desk.tell(rejection(), stray)
    again = desk.restart(tmp_path)
    again.tell(rejection(at=NOON.replace(hour=13)), stray)
    assert len(lines(again.folder / "rejected.jsonl")) == 1
    assert len(lines(again.results / "rejected.jsonl")) == 1


def test_a_plate_of_another_model_is_outdated_and_done_again_as_new_revisions(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    before = desk.plate()["settings_fingerprint"]
    again = desk.restart(tmp_path, OTHER_MODEL)
    assert the_plate(again).outdated
    assert wells_of(again) == ["B03", "C01"]
    again.tell(plate_news())
    assert again.plate()["settings_fingerprint"] != before
    assert again.plate()["wells"] == {"complete": 0, "partial": 0, "rejected": 0}
    assert not (again.folder / "sites.parquet").exists()
    again.publish(closed_well("B03", sites=(1, 2)))
    assert again.result()["revision"] == 2
    # cut short: what was not done again yet is not taken for done
    third = again.restart(tmp_path, OTHER_MODEL)
    assert not the_plate(third).outdated
    assert wells_of(third) == ["B03"]


def test_a_finished_plate_of_another_model_stays_as_it_is_until_it_grows(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    desk.tell(plate_news(PlateState.FINISHED))
    desk.pass_time()
    before = {path.name: path.read_bytes() for path in desk.folder.iterdir() if path.is_file()}
    again = desk.restart(tmp_path, OTHER_MODEL)
    assert (the_plate(again).outdated, the_plate(again).state) == (True, PlateState.FINISHED)
    again.tell(plate_news(PlateState.FINISHED))
    again.pass_time(60)
    assert {path.name: path.read_bytes() for path in desk.folder.iterdir() if path.is_file()} == before
    # a plane comes: before the first well is done again, the plate says that it is not finished
    again.publish(closed_well("B03", sites=(1, 2), edition=2))
    third = again.restart(tmp_path, OTHER_MODEL)
    assert (the_plate(third).outdated, the_plate(third).state) == (True, PlateState.ACQUIRING)
    third.tell(plate_news())
    third.pass_time()
    assert third.plate()["wells"]["complete"] == 1


def test_folders_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    shutil.copytree(desk.results / "P1", desk.results / "P1 backup")
    for name in ("notes", ".git", "P1/old"):
        (desk.results / name).mkdir()
    (desk.results / "notes" / "readme.txt").write_text("mine")
    before = sorted(str(path) for path in desk.results.rglob("*"))
    again = desk.restart(tmp_path)
    assert wells_of(again) == ["B03", "C01"]
    assert sorted(str(path) for path in again.results.rglob("*")) == before


def test_a_results_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FolderError, match=r"results\.directory ") as refused:
        Desktop(tmp_path)
    assert refused.value.hint


def test_the_predictions_of_an_earlier_run_serve_a_well_that_is_closed_again(tmp_path: Path) -> None:
    again = begun(tmp_path).restart(tmp_path)
    grown = closed_well("C01", sites=(1, 2))
    (second,) = [found for found in predictions_of(grown) if found.site.site == 2]
    assert again.tell(grown) == []
    assert len(again.tell(second)) == 1  # its explanation, so the first site's prediction was there


def test_the_earliest_trace_says_when_it_first_started(tmp_path: Path) -> None:
    assert Desktop(tmp_path / "new").restored.first_started_at is None
    earlier = datetime(2025, 12, 31, tzinfo=UTC)
    desk = begun(tmp_path)
    assert desk.restart(tmp_path).restored.first_started_at == NOON
    again = desk.restart(tmp_path)
    again.tell(rejection("stray.tiff", acquisition=None, plane=None, channel=None, at=earlier))
    assert again.restart(tmp_path).restored.first_started_at == earlier


def test_a_plate_that_was_moved_away_still_tells_when_it_first_started(tmp_path: Path) -> None:
    desk = begun(tmp_path)
    before = desk.restart(tmp_path)
    before.publisher.close()
    shutil.rmtree(tmp_path / "out" / ACQUISITION.plate)
    first_line = json.loads((tmp_path / "out" / "ledger.jsonl").read_text().splitlines()[0])
    after = before.restart(tmp_path)
    assert after.restored.plates == ()
    assert after.restored.first_started_at == datetime.fromisoformat(first_line["time"])
