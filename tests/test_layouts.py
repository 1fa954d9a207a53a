"""What is in the wells stands in results and tables and follows its file; one that is refused takes nothing away."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from structlog.testing import capture_logs

from fakes import Easel
from hcs_daemon.plate import PlateLayout, WellContent, WellPosition
from hcs_daemon.publish.ledger import verify_ledger
from hcs_daemon.publish.studio import WellPicture
from hcs_daemon.records import ExpectedPlate
from hcs_daemon.vocabulary import PlateState
from wells import Desktop, answered, closed_well, plate_news, predictions_of

TAXOL = {"compound": "Taxol", "concentration_um": 10.0, "role": "treatment"}
DMSO = {"compound": "DMSO", "concentration_um": None, "role": "control"}
FINISHED = plate_news(PlateState.FINISHED)
SMALL = ExpectedPlate("metadata", sites=1, rows=2, columns=3)


class Bench:
    """A publisher and the file that its settings name. Its mtime is its age, so that no clock is waited for."""

    def __init__(self, folder: Path, **results: Any) -> None:
        self.folder, self.path = folder, folder / "layout.csv"
        self.overrides = {"expect": {"layout": str(self.path)}, "results": results}
        self._age = 0

    def write(self, *lines: str) -> str:
        """Another version of the file; its SHA-256."""
        data = "\n".join(["well,compound,concentration_um,role", *lines, ""]).encode()
        return self.write_bytes(data)

    def write_bytes(self, data: bytes) -> str:
        self.path.write_bytes(data)
        self._age += 1
        os.utime(self.path, ns=(0, self._age))
        return hashlib.sha256(data).hexdigest()

    def open(self) -> Desktop:
        return Desktop(self.folder, self.overrides)

    def restart(self, desk: Desktop) -> Desktop:
        return desk.restart(self.folder, self.overrides)


def begun(bench: Bench) -> Desktop:
    """A plate under way with B03 and C04, explained."""
    bench.write("B03,Taxol,10,treatment", "C04,DMSO,,control")
    desk = bench.open()
    desk.tell(plate_news())
    desk.publish(closed_well("B03"))
    desk.publish(closed_well("C04"))
    return desk


def finish(desk: Desktop) -> None:
    desk.tell(FINISHED)
    desk.pass_time()


def columns_of(desk: Desktop, table: str = "profiles") -> list[tuple[str, float | None, str]]:
    found = pq.read_table(desk.folder / f"{table}.parquet")
    names = ("Metadata_Compound", "Metadata_Concentration", "Metadata_Role")
    return list(zip(*(found[name].to_pylist() for name in names), strict=True))


def snapshot(desk: Desktop) -> dict[str, tuple[int, bytes]]:
    """Every file with its inode, which another write changes."""
    files = [path for path in desk.results.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path): (path.stat().st_ino, path.read_bytes()) for path in files}


def revisions(desk: Desktop) -> list[tuple[str, int]]:
    return [(Path(line["path"]).stem, line["revision"]) for line in desk.ledger()]


# ---- joined


def test_what_is_in_a_well_stands_in_its_result_and_in_the_tables(tmp_path: Path) -> None:
    desk = begun(Bench(tmp_path))
    finish(desk)
    assert (desk.result("B03")["content"], desk.result("C04")["content"]) == (TAXOL, DMSO)
    for table in ("profiles", "sites"):
        assert columns_of(desk, table) == [("Taxol", 10.0, "treatment"), ("DMSO", None, "control")]
    assert revisions(desk) == [("B03", 1), ("C04", 1)]


def test_the_plate_names_the_layout_by_its_digest(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    sha256 = bench.write("B03,Taxol,10,treatment")
    desk = bench.open()
    desk.tell(plate_news())
    assert desk.plate()["layout"] == {"source": str(bench.path), "sha256": sha256, "problem": ""}


def test_a_well_that_the_layout_does_not_name_has_no_content(tmp_path: Path) -> None:
    desk = begun(Bench(tmp_path))
    desk.publish(closed_well("D05"))
    finish(desk)
    assert desk.result("D05")["content"] is None
    assert columns_of(desk)[2] == ("", None, "")


def test_without_a_layout_the_columns_are_there_and_empty(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    desk.publish(closed_well())
    finish(desk)
    assert columns_of(desk) == [("", None, "")]
    assert pq.read_schema(desk.folder / "profiles.parquet").field("Metadata_Concentration").type == "double"
    assert (desk.result()["content"], desk.plate()["layout"]) == (None, None)


def by_instrument(name: str = "B03", compound: str = "Nocodazole") -> PlateLayout:
    said = {WellPosition.parse(name): WellContent(compound, 1.0)}
    return PlateLayout("Assaylayout/P1.xml", hashlib.sha256(compound.encode()).hexdigest(), said)


def test_without_a_setting_the_instruments_own_layout_counts(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news(layout=by_instrument()))
    desk.publish(closed_well())
    assert desk.result()["content"] == {"compound": "Nocodazole", "concentration_um": 1.0, "role": ""}
    assert desk.plate()["layout"]["source"] == "Assaylayout/P1.xml"


def test_the_settings_layout_wins(tmp_path: Path) -> None:
    desk = begun(Bench(tmp_path))
    desk.tell(plate_news(layout=by_instrument()))
    desk.pass_time(60)
    assert desk.result()["content"] == TAXOL
    assert revisions(desk) == [("B03", 1), ("C04", 1)]


def test_an_instruments_layout_that_comes_late_is_joined_then_and_stays_when_it_is_not_said_again(
    tmp_path: Path,
) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    desk.publish(closed_well())
    finish(desk)
    assert desk.publisher._archive.desks == {}
    desk.tell(plate_news(PlateState.FINISHED, layout=by_instrument()))
    desk.pass_time()
    assert desk.result()["content"]["compound"] == "Nocodazole"
    before = snapshot(desk)
    again = desk.restart(tmp_path)
    for news in (FINISHED, plate_news(PlateState.FINISHED, layout=by_instrument())):
        again.tell(news)
        again.pass_time(60)
    assert snapshot(again) == before


def test_every_time_point_of_a_well_has_what_is_in_it(tmp_path: Path) -> None:
    desk = begun(Bench(tmp_path))
    desk.publish(closed_well("B03", time=2))
    assert desk.result("B03.t002")["content"] == TAXOL


# ---- changed


def test_when_the_file_changes_the_wells_that_it_says_otherwise_are_revised_and_the_model_is_not_asked(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    desk = begun(bench)
    before = desk.result("B03")
    sha256 = bench.write("B03,Taxol,3,treatment", "C04,DMSO,,control")
    assert desk.pass_time(29) == []
    assert desk.result("B03") == before
    assert desk.pass_time(1) == []
    assert desk.pass_time(30) == []
    after = desk.result("B03")
    assert after["content"] == {**TAXOL, "concentration_um": 3.0}
    assert (after["revision"], after["supersedes"]) == (2, 1)
    changed = {"content", "revision", "supersedes", "timing"}
    assert {key for key in after if after[key] != before[key]} == changed
    assert after["timing"] == {**before["timing"], "published_at": "2026-01-01T12:00:30Z"}
    assert revisions(desk) == [("B03", 1), ("C04", 1), ("B03", 2)]
    assert (desk.folder / "revisions" / "B03.r1.json").exists()
    assert verify_ledger(desk.results).broken is None
    assert columns_of(desk)[0] == ("Taxol", 3.0, "treatment")
    assert desk.plate()["layout"]["sha256"] == sha256


def test_a_well_that_is_being_explained_gets_what_is_in_it_when_it_is_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    desk = begun(bench)
    closed = closed_well("D05")
    desk.tell(closed, *predictions_of(closed))
    bench.write("B03,Taxol,10,treatment", "C04,DMSO,,control", "D05,Taxol,10,treatment")
    desk.pass_time(60)
    desk.end()  # written without its explanation
    assert desk.result("D05")["content"] == TAXOL
    assert revisions(desk) == [("B03", 1), ("C04", 1), ("D05", 1)]


def test_a_changed_layout_is_not_a_changed_expectation(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    desk = begun(bench)
    finish(desk)
    bench.overrides["expect"]["layout"] = str(tmp_path / "other.csv")
    again = bench.restart(desk)
    assert not again.restored.plates[0].outdated


def test_a_layout_that_comes_after_the_plate_was_finished_is_joined_at_the_next_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    desk = begun(bench)
    finish(desk)
    ended = desk.plate()["finished_at"]
    bench.write("B03,Taxol,3,treatment", "C04,DMSO,,control")
    again = bench.restart(desk)
    again.clock.advance(3600)
    finish(again)
    assert revisions(again) == [("B03", 1), ("C04", 1), ("B03", 2)]
    assert columns_of(again)[0] == ("Taxol", 3.0, "treatment")
    assert (again.plate()["state"], again.plate()["finished_at"], again.plate()["revisions"]) == ("finished", ended, 3)
    assert again.publisher._archive.desks == {}


def test_a_finished_plate_of_other_settings_is_let_be(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    desk = begun(bench)
    finish(desk)
    before = snapshot(desk)
    bench.write("B03,Taxol,3,treatment")
    desk.publisher.close()
    again = Desktop(tmp_path, {**bench.overrides, "explain": {"method": "occlusion"}}, clock=desk.clock)
    finish(again)
    again.pass_time(60)
    assert snapshot(again) == before


@pytest.mark.parametrize("ended", [True, False])
def test_a_restart_with_an_unchanged_layout_writes_nothing(ended: bool, tmp_path: Path) -> None:  # noqa: FBT001 (a table)
    bench = Bench(tmp_path)
    desk = begun(bench)
    desk.pass_time(60)
    if ended:
        finish(desk)
    before = snapshot(desk)
    again = bench.restart(desk)
    news = FINISHED if ended else plate_news()
    again.tell(news)
    for closed in (closed_well("B03"), closed_well("C04")):
        again.tell(closed)
    for _ in range(3):
        again.tell(news)
        again.pass_time(60)
    again.end()
    assert snapshot(again) == before


def test_a_plate_put_away_that_grows_before_its_news_keeps_what_is_in_its_wells(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    desk = begun(bench)
    finish(desk)
    desk.publish(closed_well("B03", edition=2))
    assert desk.result("B03")["content"] == TAXOL
    finish(desk)
    assert revisions(desk) == [("B03", 1), ("C04", 1), ("B03", 2)]


def test_a_revised_wells_picture_is_drawn_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path, pictures="all")
    easel = Easel()
    bench.write("B03,Taxol,10,treatment")
    desk = Desktop(tmp_path, bench.overrides, drawing=easel)
    desk.tell(plate_news())
    desk.publish(closed_well("B03"))
    picture = desk.folder / "wells" / "B03.png"
    picture.write_bytes(b"of the first revision")
    bench.write("B03,Taxol,3,treatment")
    (wanted,) = desk.pass_time(30)
    assert not picture.exists()
    assert (wanted.urgent, wanted.explain_target, wanted.explain_against) == (False, "much_DNA", "control")
    desk.tell(answered(wanted))
    desk.pass_time(60)
    shown = [job[0].result for job in easel.asked if isinstance(job[0], WellPicture)]
    assert shown[-1].revision == 2
    assert shown[-1].content is not None
    assert shown[-1].content.concentration_um == 3.0


def test_while_the_disk_refuses_no_revision_is_lost_or_doubled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = os.replace
    for wrong in range(1, 9):
        folder = tmp_path / str(wrong)
        folder.mkdir()
        bench = Bench(folder)
        desk = begun(bench)
        desk.pass_time(60)
        calls = iter(range(1, 1000))

        def refuse(source: Any, target: Any, wrong: int = wrong, calls: Any = calls) -> None:
            if next(calls) == wrong:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(source, target)

        bench.write("B03,Taxol,3,treatment", "C04,water,,control")
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", refuse)
            for _ in range(5):
                desk.pass_time(30)
        assert revisions(desk) == [("B03", 1), ("C04", 1), ("B03", 2), ("C04", 2)]
        assert columns_of(desk) == [("Taxol", 3.0, "treatment"), ("water", None, "control")]
        assert verify_ledger(desk.results).broken is None
        desk.end()


# ---- refused


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("well,compound\nZ99,Taxol\n", "line 2: row 26, column 99 is on no plate"),
        ("well,conc\nB03,10\n", "line 2: '10' has no unit"),
        ("hello", "is in no shape of a plate layout"),
    ],
)
def test_a_layout_that_cannot_be_read_is_refused_once_and_results_go_on(
    said: str, problem: str, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    sha256 = bench.write_bytes(said.encode())
    desk = bench.open()
    with capture_logs() as log:
        for _ in range(3):
            desk.tell(plate_news())
            desk.pass_time(60)
    desk.publish(closed_well())
    assert desk.result()["content"] is None
    found = desk.plate()["layout"]
    assert problem in found["problem"]
    assert found["sha256"] == sha256
    (line,) = [line for line in log if line["event"] == "layout.refused"]
    assert (line["log_level"], line["plate"], line["detail"]) == ("error", "P1", found["problem"])


def test_a_layout_that_is_not_there_is_said_and_joined_when_it_comes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    desk = bench.open()
    desk.tell(plate_news())
    desk.publish(closed_well())
    assert desk.plate()["layout"]["sha256"] is None
    assert "layout.csv is not there" in desk.plate()["layout"]["problem"]
    bench.write("B03,Taxol,10,treatment")
    desk.pass_time(30)
    assert desk.result()["content"] == TAXOL
    assert desk.plate()["layout"]["problem"] == ""


def test_wells_that_the_plate_lacks_refuse_the_layout_with_the_list(tmp_path: Path) -> None:
    desk = Bench(tmp_path)
    desk.write("A01,Taxol,10,treatment", "C04,DMSO,,control")
    found = desk.open()
    found.tell(plate_news(expected=SMALL))
    found.publish(closed_well("A01"))
    assert found.result("A01")["content"] is None
    assert "names wells that a plate of 2 x 3 lacks: C04; " in found.plate()["layout"]["problem"]


def test_nothing_of_it_stays_when_the_size_of_the_plate_becomes_known_later(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    desk = begun(bench)
    desk.tell(plate_news(expected=SMALL))
    desk.pass_time(60)
    assert (desk.result("B03")["content"], desk.result("C04")["content"]) == (None, None)
    assert columns_of(desk) == [("", None, ""), ("", None, "")]
    assert "lacks: C04; " in desk.plate()["layout"]["problem"]


def test_after_a_start_it_stays_refused_while_the_metadata_is_not_read_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    desk = begun(bench)
    desk.tell(plate_news(expected=SMALL))
    desk.pass_time(60)
    before = revisions(desk)
    again = bench.restart(desk)
    for _ in range(2):
        again.tell(plate_news())
        again.pass_time(60)
    again.publish(closed_well("A01"))
    assert again.result("A01")["content"] is None
    again.tell(plate_news(expected=SMALL))
    again.pass_time(60)
    assert revisions(again) == [*before, ("A01", 1)]
    assert "lacks: C04; " in again.plate()["layout"]["problem"]


def test_a_file_that_cannot_be_read_any_more_takes_nothing_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    desk = begun(bench)
    bench.path.unlink()
    desk.pass_time(60)
    desk.publish(closed_well("B03", edition=2))
    assert desk.result("B03")["content"] == TAXOL
    assert "is not there" in desk.plate()["layout"]["problem"]
    again = bench.restart(desk)
    again.tell(plate_news())
    again.publish(closed_well("B03", edition=3))
    again.pass_time(60)
    assert (again.result("B03")["content"], again.result("C04")["content"]) == (TAXOL, DMSO)
    bench.write("B03,Taxol,3,treatment", "C04,DMSO,,control")
    again.pass_time(60)
    assert again.result("B03")["content"]["concentration_um"] == 3.0
    assert revisions(again)[-1] == ("B03", 4)


def test_a_layout_that_is_refused_is_not_refused_anew_at_every_start_in_the_files(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write_bytes(b"hello")
    desk = bench.open()
    desk.tell(plate_news())
    desk.publish(closed_well())
    finish(desk)
    before = snapshot(desk)
    again = bench.restart(desk)
    finish(again)
    again.pass_time(60)
    assert snapshot(again) == before


def test_of_a_folder_each_plate_has_its_file(tmp_path: Path) -> None:
    (tmp_path / "layouts").mkdir()
    (tmp_path / "layouts" / "P1.csv").write_text("well,compound\nB03,Taxol\n")
    desk = Desktop(tmp_path, {"expect": {"layout": str(tmp_path / "layouts")}})
    desk.tell(plate_news())
    desk.publish(closed_well())
    assert desk.result()["content"]["compound"] == "Taxol"


def test_the_log_says_which_layout_was_joined(tmp_path: Path) -> None:
    with capture_logs() as log:
        begun(Bench(tmp_path))
    (line,) = [line for line in log if line["event"] == "layout.joined"]
    assert (line["plate"], line["wells"], line["path"]) == ("P1", 2, str(tmp_path / "layout.csv"))
