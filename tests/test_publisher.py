"""Everything that is known of a well becomes one file, once, and stays."""

import errno
import json
import math
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from structlog.testing import capture_logs

from fakes import Clock, Easel
from hcs_daemon.errors import ResultsHeldError
from hcs_daemon.plate import SiteId
from hcs_daemon.publish.ledger import verify_ledger
from hcs_daemon.publish.names import LOCK_NAME
from hcs_daemon.publish.publisher import Message
from hcs_daemon.publish.studio import WellPicture
from hcs_daemon.records import ExpectedPlate, ExplanationChecks, InputUse, SiteReturned, SiteWanted
from hcs_daemon.vocabulary import PlateState, Used
from wells import (
    CONTROL,
    TREATED,
    Desktop,
    answered,
    closed_well,
    lines,
    plate_news,
    predicted,
    predictions_of,
    rejection,
    site_of,
    site_planes,
    well_id,
)

NOT_EXPLAINED = {"explain": {"policy": "none"}}
FINISHED = plate_news(PlateState.FINISHED)


def stems(desk: Desktop) -> list[str]:
    return sorted(path.stem for path in (desk.folder / "wells").glob("*.json"))


def block(desk: Desktop) -> Path:
    """As a disk that takes nothing: a file lies where the wells' folder must be. What to remove to mend it."""
    (desk.folder / "wells").parent.mkdir(parents=True, exist_ok=True)
    (desk.folder / "wells").write_text("in the way")
    return desk.folder / "wells"


# ---- a well on its way


def test_a_well_is_written_when_its_sites_are_predicted_and_its_explanation_is_there(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    closed = closed_well(sites=(1, 2))
    first, second = predictions_of(closed)
    assert desk.tell(closed, first) == []
    assert not desk.publisher.idle
    (wanted,) = desk.tell(second)
    assert wanted == SiteWanted(SiteId(well_id(), 1), closed.ready[1], "much_DNA", "control")
    assert stems(desk) == []
    desk.clock.advance(3)
    desk.tell(answered(wanted))
    result = desk.result()
    assert result["status"] == "complete"
    assert result["prediction"]["label"] == "much_DNA"
    assert result["explanation"]["target"] == "much_DNA"
    assert result["explanation"]["against"] == "control"
    assert result["timing"]["latency_s"] == 3.0
    assert result["timing"]["published_at"] == "2026-01-01T12:00:03Z"
    assert desk.publisher.idle


@given(order=st.permutations(range(3)))
@settings(max_examples=6, deadline=None)
def test_in_whatever_order_its_news_comes(order: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    desk = Desktop(tmp_path_factory.mktemp("order"), NOT_EXPLAINED)
    closed = closed_well(sites=(1, 2))
    news: list[Message] = [closed, *predictions_of(closed)]
    desk.tell(*[news[place] for place in order])
    assert desk.result()["sites"]["analysed"] == 2
    desk.end()


def test_a_well_like_the_control_is_explained_against_the_runner_up(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    closed = closed_well()
    (wanted,) = desk.tell(closed, *predictions_of(closed, CONTROL))
    assert (wanted.explain_target, wanted.explain_against) == ("control", "much_ER")


def test_with_the_policy_all_every_site_is_explained_before_the_well_is_written(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, {"explain": {"policy": "all"}})
    closed = closed_well(sites=(1, 2, 3))
    wanted = desk.tell(closed, *predictions_of(closed))
    assert [each.site.site for each in wanted] == [1, 2, 3]
    for each in reversed(wanted):
        assert stems(desk) == []
        desk.tell(answered(each))
    assert [site["site"] for site in desk.result()["explanation"]["sites"]] == [1, 2, 3]


def test_a_prediction_of_other_bytes_is_not_the_wells(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, NOT_EXPLAINED)
    closed = closed_well(edition=2)
    desk.tell(closed, *predictions_of(closed_well(edition=1)))
    assert stems(desk) == []
    desk.tell(*predictions_of(closed))
    assert stems(desk) == ["B03"]


def test_later_time_points_have_files_of_their_own(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.publish(closed_well(time=1))
    desk.publish(closed_well(time=2))
    assert stems(desk) == ["B03", "B03.t002"]
    assert (desk.result("B03.t002")["well"], desk.result("B03.t002")["time"]) == ("B03", 2)
    desk.publish(closed_well(time=2, edition=2))
    assert (desk.result("B03")["revision"], desk.result("B03.t002")["revision"]) == (1, 2)
    assert [path.name for path in (desk.folder / "revisions").iterdir()] == ["B03.t002.r1.json"]
    desk.tell(FINISHED)
    desk.pass_time()
    table = pq.read_table(desk.folder / "profiles.parquet")
    assert (table["Metadata_Time"].to_pylist(), table["Metadata_Revision"].to_pylist()) == ([1, 2], [1, 2])
    assert desk.plate()["wells"]["complete"] == 2


# ---- what could not be explained or predicted


def explain_with(desk: Desktop, answer: Any) -> Any:
    closed = closed_well()
    (wanted,) = desk.tell(closed, *predictions_of(closed))
    desk.tell(answer(wanted))
    return desk.result()


def test_an_explanation_that_failed_its_checks_is_marked_and_warned_of(tmp_path: Path) -> None:
    checks = ExplanationChecks(0.2, 1e-6, 0.5, 0.4, passed=False, failed=("completeness", "deletion"))
    result = explain_with(Desktop(tmp_path), lambda wanted: answered(wanted, checks=checks))
    assert result["explanation"]["sites"][0]["checks"]["passed"] is False
    assert result["explanation"]["sites"][0]["checks"]["failed"] == ["completeness", "deletion"]
    assert result["warnings"] == [
        "the explanation of site 1 failed its checks (completeness, deletion); do not rely on it"
    ]
    assert result["prediction"]["label"] == "much_DNA"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda wanted: SiteReturned(wanted, None, None, "its planes were replaced since"), "replaced since"),
        (lambda wanted: SiteReturned(wanted, site_of(wanted), None, "out of memory"), "out of memory"),
        (lambda wanted: SiteReturned(wanted, site_of(wanted), None), "no reason was given"),
        (lambda wanted: answered(wanted, contrast=math.nan), "not finite"),
        (lambda wanted: answered(wanted, channel_spread={"DNA": math.inf}), "not finite"),
    ],
)
def test_without_an_explanation_the_well_is_written_and_says_why(answer: Any, said: str, tmp_path: Path) -> None:
    result = explain_with(Desktop(tmp_path), answer)
    assert result["explanation"] is None
    assert result["prediction"]["label"] == "much_DNA"
    (warning,) = result["warnings"]
    assert warning.startswith("site 1 could not be explained: ")
    assert said in warning


def test_a_model_that_gives_no_numbers_gets_no_label_and_a_warning(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    closed = closed_well()
    assert desk.tell(closed, predicted(closed, 1, [math.nan] * 6)) == []
    result = desk.result()
    assert (result["status"], result["prediction"], result["explanation"]) == ("rejected", None, None)
    assert result["sites"] == {
        "expected": 1,
        "analysed": 0,
        "missing": [],
        "rejected": [],
        "failed": [1],
        "lacking": [],
    }
    assert result["warnings"] == ["site 1 could not be analysed: the model's output is not finite"]


def test_one_bad_site_does_not_spoil_the_others(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, NOT_EXPLAINED)
    closed = closed_well(sites=(1, 2))
    bad = predicted(closed, 1, embedding=np.full(3, math.inf, np.float32))
    desk.tell(closed, bad, predicted(closed, 2, TREATED))
    assert desk.result()["status"] == "partial"
    assert desk.result()["prediction"]["label"] == "much_DNA"
    desk.tell(plate_news())
    assert pq.read_table(desk.folder / "sites.parquet")["Metadata_Site"].to_pylist() == [2]


def test_a_well_that_waits_for_its_explanation_at_the_end_is_written_without_and_revised_later(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    closed = closed_well()
    assert desk.tell(plate_news(), closed, *predictions_of(closed), FINISHED)
    desk.end()
    result = desk.result()
    assert (result["status"], result["prediction"]["label"], result["explanation"]) == ("complete", "much_DNA", None)
    (warning,) = result["warnings"]
    assert "stopped before this well was explained" in warning
    again = desk.restart(tmp_path)
    (plate,) = again.restored.plates
    assert plate.state is PlateState.ACQUIRING
    assert [well.explained for well in plate.wells] == [False]
    for wanted in again.tell(plate_news(), closed):
        again.tell(answered(wanted))
    again.tell(FINISHED)
    result = again.result()
    assert (result["revision"], result["warnings"]) == (2, [])
    assert result["explanation"]["target"] == "much_DNA"
    again.end()
    (plate,) = again.restart(tmp_path).restored.plates
    assert (plate.state, plate.wells[0].explained) == (PlateState.FINISHED, True)


@pytest.mark.parametrize(
    ("changed", "status"),
    [({"rejected": (1,)}, "rejected"), ({"missing": (1,), "pending": True}, "partial")],
)
def test_a_well_of_one_site_that_lacks_a_channel(changed: dict[str, Any], status: str, tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    planes = site_planes(SiteId(well_id(), 1))[1:]
    inputs = tuple(InputUse(plane, Used.INCOMPLETE_SITE) for plane in planes)
    assert desk.tell(closed_well(sites=(), expected_sites=1, inputs=inputs, **changed)) == []
    result = desk.result()
    assert (result["status"], result["sites"]["analysed"], result["prediction"]) == (status, 0, None)
    assert [entry["used"] for entry in result["inputs"]] == ["incomplete_site"] * 4


# ---- revisions


def test_a_late_plane_makes_a_second_revision_and_the_first_is_kept(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.publish(closed_well(sites=(1,), expected_sites=2, missing=(2,), pending=True))
    first = (desk.folder / "wells" / "B03.json").read_bytes()
    grown = closed_well(sites=(1, 2))
    for wanted in desk.tell(grown, predicted(grown, 2)):
        desk.tell(answered(wanted))
    second = desk.result()
    assert (second["status"], second["revision"], second["supersedes"]) == ("complete", 2, 1)
    assert (desk.folder / "revisions" / "B03.r1.json").read_bytes() == first
    assert [line["revision"] for line in desk.ledger()] == [1, 2]
    assert verify_ledger(desk.results).broken is None


def test_a_site_that_failed_is_remembered_when_its_finished_plate_grows(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, NOT_EXPLAINED)
    closed = closed_well(sites=(1, 2))
    desk.tell(plate_news(), closed, predicted(closed, 1, [math.nan] * 6), predicted(closed, 2), FINISHED)
    desk.pass_time(60)
    assert desk.plate()["state"] == "finished"
    again = replace(closed, ready={**closed.ready, 3: closed_well(sites=(3,)).ready[3]}, expected_sites=3)
    desk.tell(plate_news(), predicted(again, 3), again)
    assert desk.result()["sites"] == {
        "expected": 3,
        "analysed": 2,
        "missing": [],
        "rejected": [],
        "failed": [1],
        "lacking": [],
    }


def test_what_says_nothing_new_is_not_published_again(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.publish(closed_well())
    before = (desk.folder / "wells" / "B03.json").read_bytes()
    desk.clock.advance(100)
    assert desk.tell(closed_well(warnings=("said otherwise",))) == []
    again = desk.restart(tmp_path)
    assert again.tell(closed_well()) == []
    assert (desk.folder / "wells" / "B03.json").read_bytes() == before
    assert len(again.ledger()) == 1


def test_a_well_closed_again_while_it_is_explained_is_published_all_the_same(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    closed = closed_well()
    (asked,) = desk.tell(closed, *predictions_of(closed))
    (again,) = desk.tell(closed_well(warnings=("1 of 2 expected sites never appeared",)))
    desk.tell(answered(asked), answered(again))
    assert desk.result()["warnings"] == ["1 of 2 expected sites never appeared"]
    assert len(desk.ledger()) == 1


def test_a_well_that_changes_and_changes_back_while_it_is_explained_is_published(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    old, new = closed_well(edition=1), closed_well(edition=2)
    (first,) = desk.tell(old, *predictions_of(old))
    assert desk.tell(new) == []
    desk.tell(answered(first))  # of what is not so any more
    assert stems(desk) == []
    (third,) = desk.tell(old)
    desk.tell(answered(third))
    assert desk.result()["inputs"][0]["mtime_ns"] == 1
    assert len(desk.ledger()) == 1


def test_the_same_plane_with_other_bytes_revises_the_well(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    for edition in (1, 2, 3):
        desk.publish(closed_well(edition=edition))
    assert desk.result()["revision"] == 3
    assert sorted(path.name for path in (desk.folder / "revisions").iterdir()) == ["B03.r1.json", "B03.r2.json"]
    assert verify_ledger(desk.results).broken is None


# ---- a disk that refuses


def test_while_the_disk_refuses_nothing_is_lost_and_then_all_goes_on_in_order(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, NOT_EXPLAINED)
    in_the_way = block(desk)
    for name in ("C01", "B03", "A01"):
        desk.publish(closed_well(name))
    desk.tell(rejection())
    assert desk.publisher.blocked is not None
    assert str(desk.results) in desk.publisher.blocked
    assert not desk.publisher.idle
    assert desk.ledger() == []
    desk.pass_time(5)
    assert desk.publisher.blocked is not None
    in_the_way.unlink()
    desk.pass_time(5)
    assert desk.publisher.blocked is None
    assert desk.publisher.idle
    assert [line["path"][-8:-5] for line in desk.ledger()] == ["C01", "B03", "A01"]
    assert len(lines(desk.folder / "rejected.jsonl")) == 1
    assert desk.metrics()["hcs_results_write_failures_total"] >= 2
    assert verify_ledger(desk.results).broken is None


def test_with_less_free_than_is_to_be_kept_it_waits_and_says_so_once(tmp_path: Path) -> None:
    with capture_logs() as said:
        desk = Desktop(tmp_path, {"results": {"min_free_bytes": 1 << 60}, **NOT_EXPLAINED})
        desk.publish(closed_well())
        for _ in range(5):
            desk.pass_time(1)
    assert desk.publisher.blocked is not None
    assert "results.min_free_bytes" in desk.publisher.blocked
    assert [line["event"] for line in said] == ["results.unavailable"]
    desk.publisher._outbox.min_free_bytes = 0  # as if room had been made
    with capture_logs() as said:
        desk.pass_time(1)
    assert [line["event"] for line in said] == ["well.published", "results.available"]
    assert stems(desk) == ["B03"]


def test_a_ledger_that_cannot_be_written_holds_back_the_next_well_and_no_line_is_missing(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, NOT_EXPLAINED)
    ledger = desk.results / "ledger.jsonl"
    ledger.mkdir()
    desk.publish(closed_well("B03"))
    desk.publish(closed_well("C01"))
    assert stems(desk) == ["B03"]  # the rename committed it
    assert desk.publisher.blocked is not None
    ledger.rmdir()
    desk.pass_time(2)
    assert stems(desk) == ["B03", "C01"]
    assert [line["revision"] for line in desk.ledger()] == [1, 1]
    assert verify_ledger(desk.results).broken is None


def test_the_ledger_names_where_a_changed_result_was_set_aside(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, NOT_EXPLAINED)
    desk.publish(closed_well())
    changed = desk.folder / "wells" / "B03.json"
    changed.write_text(changed.read_text().replace("much_DNA", "much_ER"))
    desk.publish(closed_well(edition=2))
    assert (desk.result()["revision"], desk.result()["prediction"]["label"]) == (2, "much_DNA")
    broken = verify_ledger(desk.results).broken
    assert broken is not None
    assert "revisions/B03.r1.json (revision 1) is not there; " in broken
    assert broken.endswith("set aside as P1/a1/revisions/B03.damaged-1.json")


def test_into_a_folder_that_is_not_the_one_it_opened_it_writes_nothing(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, NOT_EXPLAINED)
    desk.tell(plate_news())
    desk.publish(closed_well("A01"))
    away = tmp_path / "away"
    desk.results.rename(away)
    desk.results.mkdir()  # as the bare mount point of a share that went
    with capture_logs() as said:
        desk.publish(closed_well("B03"))
        desk.tell(rejection())
        for _ in range(3):
            desk.pass_time(1)
    assert list(desk.results.iterdir()) == []
    assert desk.publisher.blocked is not None
    assert "not the folder that was opened" in desk.publisher.blocked
    assert [line["event"] for line in said] == ["results.unavailable"]
    desk.results.rmdir()
    away.rename(desk.results)
    desk.pass_time(1)
    assert desk.publisher.blocked is None
    assert stems(desk) == ["A01", "B03"]
    assert len(lines(desk.folder / "rejected.jsonl")) == 1
    assert verify_ledger(desk.results).broken is None


def test_a_folder_that_is_gone_is_waited_for_even_while_there_is_nothing_to_write(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.pass_time(1)
    assert desk.publisher.blocked is None
    desk.results.rename(tmp_path / "away")
    desk.pass_time(1)
    assert desk.publisher.blocked is not None


def test_a_share_that_comes_back_with_other_numbers_is_known_again(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, NOT_EXPLAINED)
    lock, number = desk.results / LOCK_NAME, (desk.results / LOCK_NAME).stat().st_ino
    copy = desk.results / "copy"
    copy.write_bytes(b"")
    copy.replace(lock)
    assert lock.stat().st_ino != number
    desk.publish(closed_well("B03"))
    assert stems(desk) == ["B03"]


def test_a_plate_that_cannot_be_read_now_is_waited_for_and_said_once(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, NOT_EXPLAINED)
    desk.tell(plate_news())
    desk.publish(closed_well())
    desk.tell(FINISHED)
    desk.pass_time()
    plate = desk.folder / "plate.json"
    kept = plate.read_bytes()
    plate.unlink()
    plate.mkdir()
    with capture_logs() as said:
        desk.tell(rejection())
        for _ in range(5):
            desk.pass_time(1)
    assert [line["event"] for line in said] == ["results.unavailable"]
    plate.rmdir()
    plate.write_bytes(kept)
    desk.pass_time(1)
    assert desk.publisher.blocked is None
    assert len(lines(desk.folder / "rejected.jsonl")) == 1


class Killed(BaseException):
    """What kills a process runs no handler of ours."""


class Kernel:
    """The system's fsync and rename, of which one call goes wrong. Nothing waits for a disk.

    error: raised there, once; None: none is. before: whether what was asked for is not done then. calls: how many.
    retried: whether a file whose fsync failed was synced again.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, wrong: int, error: BaseException, before: bool) -> None:
        self._wrong, self._error, self._before = wrong, error, before
        self._failed: set[tuple[int, int]] = set()
        self._kept_open: list[int] = []
        self.calls = 0
        self.retried = False
        replace_ = os.replace
        monkeypatch.setattr(os, "fsync", lambda descriptor: self._call(lambda: None, descriptor))
        monkeypatch.setattr(os, "replace", lambda source, target: self._call(lambda: replace_(source, target)))

    def _call(self, do: Callable[[], None], descriptor: int | None = None) -> None:
        self.calls += 1
        if descriptor is not None:
            found = os.fstat(descriptor)
            is_file = stat.S_ISREG(found.st_mode)
            self.retried |= (found.st_dev, found.st_ino) in self._failed
            if self.calls == self._wrong and is_file:
                self._failed.add((found.st_dev, found.st_ino))
                self._kept_open.append(os.dup(descriptor))  # so that its number is not given to another file
        if self.calls == self._wrong and self._before:
            raise self._error
        do()
        if self.calls == self._wrong:
            raise self._error

    def close(self) -> None:
        for descriptor in self._kept_open:
            os.close(descriptor)


GROWN = closed_well("B03", sites=(1, 2))


def tell_all(desk: Desktop) -> None:
    """A plate from its opening to its end, B03 twice."""
    desk.tell(plate_news(), rejection())
    desk.publish(closed_well("B03", sites=(1,), expected_sites=2, missing=(2,), pending=True))
    desk.publish(closed_well("C01"))
    tell_the_rest(desk)


def tell_the_rest(desk: Desktop) -> None:
    """What intake says at the end, and after a restart again: only what is so now."""
    desk.tell(plate_news(), rejection())
    desk.publish(GROWN)
    desk.publish(closed_well("C01"))
    desk.tell(FINISHED)
    for _ in range(5):
        desk.pass_time(2)
    desk.end()


def check_all_is_told(desk: Desktop) -> None:
    """Every well once, as it is now; nothing half, nothing twice, nothing unlisted."""
    assert [entry["sha256"] for entry in desk.result("B03")["inputs"]] == [
        use.plane.source.sha256 for use in GROWN.inputs
    ]
    assert (desk.result("B03")["status"], desk.result("C01")["status"]) == ("complete", "complete")
    assert desk.result("C01")["revision"] == 1
    assert len(lines(desk.folder / "rejected.jsonl")) == 1
    assert (desk.plate()["state"], desk.plate()["wells"]["complete"]) == ("finished", 2)
    assert pq.read_table(desk.folder / "sites.parquet").num_rows == 3
    assert verify_ledger(desk.results).broken is None
    listed = [(line["path"], line["revision"]) for line in desk.ledger()]
    assert len(listed) == len(set(listed))
    assert not list(desk.results.rglob("*.tmp"))
    assert not list(desk.results.rglob("*damaged*"))


def with_results(folder: Path) -> Path:
    """A folder with one for results in it: without that, it would be refused rather than waited for."""
    (folder / "out").mkdir(parents=True)
    return folder


def untroubled(folder: Path) -> int:
    """How many calls it takes when all goes well."""
    with pytest.MonkeyPatch.context() as patch:
        kernel = Kernel(patch, wrong=0, error=Killed(), before=True)
        desk = Desktop(with_results(folder), NOT_EXPLAINED)
        tell_all(desk)
    check_all_is_told(desk)
    return kernel.calls


def test_killed_at_any_fsync_or_rename_the_next_start_does_the_rest(tmp_path: Path) -> None:
    calls = untroubled(tmp_path)
    assert calls > 30
    for wrong in range(1, calls + 1):
        folder = with_results(tmp_path / str(wrong))
        with pytest.MonkeyPatch.context() as patch:
            Kernel(patch, wrong=wrong, error=Killed(), before=True)
            desk = Desktop(folder, NOT_EXPLAINED)
            with pytest.raises(Killed):
                tell_all(desk)
        with pytest.MonkeyPatch.context() as patch:
            Kernel(patch, wrong=0, error=Killed(), before=True)
            again = desk.restart(folder, NOT_EXPLAINED)
            tell_the_rest(again)
        check_all_is_told(again)


@pytest.mark.parametrize("before", [True, False])
def test_after_any_fsync_or_rename_that_failed_it_goes_on_and_never_syncs_the_same_file_again(
    before: bool,  # noqa: FBT001 (a table)
    tmp_path: Path,
) -> None:
    calls = untroubled(tmp_path)
    for wrong in range(1, calls + 1):
        with pytest.MonkeyPatch.context() as patch:
            kernel = Kernel(patch, wrong=wrong, error=OSError(errno.EIO, os.strerror(errno.EIO)), before=before)
            desk = Desktop(with_results(tmp_path / str(wrong)), NOT_EXPLAINED)
            desk.tell(plate_news(), rejection())
            desk.publish(closed_well("B03", sites=(1,), expected_sites=2, missing=(2,), pending=True))
            desk.pass_time(2)
            tell_the_rest(desk)
        kernel.close()
        check_all_is_told(desk)
        assert not kernel.retried


# ---- rejections


def test_rejections_are_lines_of_their_plate_or_of_the_folder(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(rejection("bad.tiff"), rejection("stray.txt", acquisition=None, plane=None, channel=None))
    assert [line["path"] for line in lines(desk.folder / "rejected.jsonl")] == ["bad.tiff"]
    assert [line["path"] for line in lines(desk.results / "rejected.jsonl")] == ["stray.txt"]


def test_a_rejection_is_taken_back_by_a_later_line_and_may_come_again(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(rejection(), rejection(), rejection(withdrawn=True), rejection(withdrawn=True), rejection())
    assert [line["withdrawn"] for line in lines(desk.folder / "rejected.jsonl")] == [False, True, False]


# ---- the plate


def test_a_plate_says_what_it_is_as_soon_as_it_is_met(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    plate = desk.plate()
    assert (plate["state"], plate["finished_at"]) == ("acquiring", None)
    assert plate["opened_at"] == "2026-01-01T12:00:00Z"
    assert plate["root"] == str(Path("/data/in"))


def test_its_files_are_rewritten_now_and_then_and_when_it_is_finished(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, {"results": {"plate_refresh_s": 30.0}})
    desk.tell(plate_news())
    desk.publish(closed_well("B03"))
    desk.pass_time(29)
    assert desk.plate()["wells"]["complete"] == 0
    desk.pass_time(1)
    assert desk.plate()["wells"]["complete"] == 1
    assert pq.read_table(desk.folder / "profiles.parquet")["Metadata_Well"].to_pylist() == ["B03"]
    desk.publish(closed_well("A01", sites=(1, 2)))
    desk.tell(FINISHED)
    desk.pass_time()
    assert desk.plate()["state"] == "finished"
    assert desk.plate()["finished_at"] == "2026-01-01T12:00:30Z"
    assert pq.read_table(desk.folder / "profiles.parquet")["Metadata_Well"].to_pylist() == ["A01", "B03"]
    assert pq.read_table(desk.folder / "sites.parquet")["Metadata_Site"].to_pylist() == [1, 2, 1]


def test_a_plate_is_finished_when_its_last_closed_well_is_written(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    closed = closed_well()
    desk.tell(plate_news(), closed)
    desk.tell(FINISHED)
    desk.pass_time(60)
    assert desk.plate()["state"] == "acquiring"  # no prediction yet
    (wanted,) = desk.tell(*predictions_of(closed))
    desk.pass_time(60)
    assert desk.plate()["state"] == "acquiring"  # no explanation yet
    desk.tell(answered(wanted))
    desk.pass_time()
    assert desk.plate()["state"] == "finished"


def test_nor_is_it_finished_while_the_disk_refuses_a_well(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, NOT_EXPLAINED)
    desk.tell(plate_news())
    in_the_way = block(desk)
    desk.publish(closed_well())
    desk.tell(FINISHED)
    desk.pass_time(5)
    assert desk.plate()["state"] == "acquiring"
    in_the_way.unlink()
    desk.pass_time(5)
    desk.pass_time(5)
    assert (desk.plate()["state"], desk.plate()["wells"]["complete"]) == ("finished", 1)


def test_a_finished_plate_is_put_away_and_taken_up_again_when_it_grows(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    desk.publish(closed_well("B03"))
    desk.tell(FINISHED)
    desk.pass_time()
    assert desk.publisher._archive.desks == {}
    desk.clock.advance(100)
    desk.publish(closed_well("B03", edition=2))
    desk.tell(plate_news(PlateState.FINISHED, counts={"accepted": 6}))
    desk.pass_time()
    assert desk.result()["revision"] == 2
    plate = desk.plate()
    assert (plate["state"], plate["revisions"], plate["counts"]) == ("finished", 2, {"accepted": 6})
    assert plate["opened_at"] == plate["finished_at"] == "2026-01-01T12:00:00Z"
    assert desk.publisher._archive.desks == {}


def test_a_plate_that_acquires_again_is_finished_anew(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(FINISHED)
    desk.pass_time(100)
    desk.tell(plate_news(PlateState.ACQUIRING))
    desk.pass_time(100)
    assert (desk.plate()["state"], desk.plate()["finished_at"]) == ("acquiring", None)
    desk.tell(FINISHED)
    desk.pass_time()
    assert desk.plate()["finished_at"] == "2026-01-01T12:03:20Z"


def test_a_start_does_not_rewrite_a_finished_plate_that_says_all_of_it(tmp_path: Path) -> None:
    known = {"instrument_plate_id": "BR-1", "expected": ExpectedPlate("metadata", sites=1)}
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    desk.publish(closed_well())
    desk.tell(plate_news(PlateState.FINISHED, **known))
    desk.pass_time()
    files = [path for path in sorted(desk.folder.iterdir()) if path.is_file()]
    before = [(path, path.stat().st_ino) for path in files]
    again = desk.restart(tmp_path)
    again.tell(FINISHED)  # the metadata is not read again yet
    again.pass_time(60)
    again.tell(plate_news(PlateState.FINISHED, **known))
    again.pass_time(60)
    assert [(path, path.stat().st_ino) for path in files] == before
    again.tell(plate_news(PlateState.FINISHED, **{**known, "instrument_plate_id": "BR-2"}))
    again.pass_time(60)
    assert again.plate()["instrument_plate_id"] == "BR-2"


def test_a_start_rewrites_the_tables_of_a_finished_plate_that_was_revised_just_before_the_crash(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    desk.publish(closed_well())
    desk.tell(FINISHED)
    desk.pass_time()
    desk.publish(closed_well(edition=2))
    again = desk.restart(tmp_path)
    again.tell(FINISHED)
    again.pass_time()
    assert pq.read_table(again.folder / "profiles.parquet")["Metadata_Revision"].to_pylist() == [2]


# ---- pictures


ALL_PICTURES = {"results": {"pictures": "all"}}


class Gallery(Desktop):
    """A publisher whose drawings wait on an easel."""

    def __init__(self, folder: Path, overrides: Any = ALL_PICTURES, clock: Clock | None = None) -> None:
        self.easel = Easel()
        super().__init__(folder, overrides, clock=clock, drawing=self.easel)
        self.home, self.overrides = folder, overrides

    def again(self) -> "Gallery":
        """As after a crash."""
        self.publisher.close()
        return Gallery(self.home, self.overrides, self.clock)

    def draw(self) -> list[str]:
        """Finish what is on the easel, and what comes onto it: what was drawn, a well's name or the plate's state."""
        drawn = []
        self.pass_time()
        while len(self.easel):
            for shown, *_ in self.easel.asked[-len(self.easel) :]:
                drawn.append(shown.result.well if isinstance(shown, WellPicture) else shown.state.value)
                self.easel.finish(f"png {drawn[-1]} {len(self.easel.asked)}".encode())
            self.pass_time()
        return drawn

    def pictures(self) -> list[str]:
        return sorted(path.stem for path in (self.folder / "wells").glob("*.png"))


def finished(desk: Gallery, *names: str) -> None:
    """A whole plate of these wells, written and drawn."""
    desk.tell(plate_news())
    for name in names:
        desk.publish(closed_well(name))
    desk.tell(FINISHED)
    desk.draw()


def test_a_result_never_waits_for_its_picture_which_comes_beside_it(tmp_path: Path) -> None:
    desk = Gallery(tmp_path)
    desk.tell(plate_news())
    desk.publish(closed_well())
    assert stems(desk) == ["B03"]
    desk.tell(FINISHED)
    assert not desk.publisher.idle
    assert "B03" in desk.draw()
    assert desk.pictures() == ["B03"]
    assert desk.publisher.idle
    (shown,) = [each[0] for each in desk.easel.asked if isinstance(each[0], WellPicture)]
    assert shown.result.revision == 1
    assert shown.panels is not None
    assert shown.attribution is not None
    assert shown.contrast.keys() == {"DNA", "ER", "RNA", "AGP", "Mito"}


def test_of_a_well_that_is_not_explained_the_pixels_are_asked_for(tmp_path: Path) -> None:
    desk = Gallery(tmp_path, {**ALL_PICTURES, **NOT_EXPLAINED})
    closed = closed_well()
    (wanted,) = desk.tell(closed, *predictions_of(closed))
    assert stems(desk) == ["B03"]
    assert (wanted.site.site, wanted.key, wanted.explain_target) == (1, closed.ready[1], None)
    desk.tell(answered(wanted))
    desk.tell(FINISHED)
    assert "B03" in desk.draw()


def test_without_pixels_the_picture_says_why(tmp_path: Path) -> None:
    desk = Gallery(tmp_path)
    closed = closed_well()
    (wanted,) = desk.tell(closed, *predictions_of(closed))
    desk.tell(rejection(), SiteReturned(wanted, None, None, "its planes were replaced since"))
    desk.pass_time()
    (shown,) = desk.easel.asked[0]
    assert shown.panels is None
    assert "replaced since" in shown.problem


def test_the_picture_of_a_rejected_well_names_its_rejections(tmp_path: Path) -> None:
    desk = Gallery(tmp_path)
    desk.tell(rejection(), rejection("other.tiff", withdrawn=True))
    desk.tell(closed_well(sites=(), expected_sites=1, rejected=(1,)))
    desk.pass_time()
    (shown,) = desk.easel.asked[0]
    assert shown.rejections == (
        "site 1 DNA: bit_depth: 8-bit values multiplied by 257 in a 16-bit file; export as 16-bit TIFF",
    )


def test_no_picture_stays_beside_a_result_that_it_does_not_show(tmp_path: Path) -> None:
    desk = Gallery(tmp_path)
    finished(desk, "B03")
    assert desk.pictures() == ["B03"]
    desk.publish(closed_well(edition=2))
    assert desk.pictures() == []
    desk.pass_time()
    desk.publish(closed_well(edition=3))  # while the second is being drawn
    desk.draw()
    revisions = [each[0].result.revision for each in desk.easel.asked if isinstance(each[0], WellPicture)]
    assert revisions == [1, 2, 3]
    assert desk.pictures() == ["B03"]
    assert (desk.folder / "wells" / "B03.png").read_bytes().startswith(b"png B03 ")


def test_every_time_point_has_a_picture_and_the_plate_shows_the_last(tmp_path: Path) -> None:
    desk = Gallery(tmp_path)
    desk.tell(plate_news())
    for time in (1, 2):
        desk.publish(closed_well("B03", time=time))
    desk.tell(FINISHED)
    desk.draw()
    assert desk.pictures() == ["B03", "B03.t002"]
    (desk.folder / "wells" / "B03.t002.png").unlink()
    again = desk.again()
    (wanted,) = again.tell(FINISHED)
    assert wanted.site.well == well_id("B03", time=2)
    again.tell(answered(wanted))
    again.draw()
    assert again.pictures() == ["B03", "B03.t002"]


def test_with_hits_only_they_are_drawn(tmp_path: Path) -> None:
    desk = Gallery(tmp_path, {"results": {"pictures": "hits"}})
    desk.tell(plate_news())
    desk.publish(closed_well("B03"), (0, 9, 0, 0, 0, 0))
    desk.publish(closed_well("C01"), CONTROL)
    desk.publish(closed_well("D04", sites=(), expected_sites=1, rejected=(1,)))
    desk.tell(FINISHED)
    desk.draw()
    assert desk.pictures() == ["B03"]


def test_with_none_nothing_is_drawn(tmp_path: Path) -> None:
    desk = Gallery(tmp_path, {"results": {"pictures": "none"}})
    finished(desk, "B03")
    assert desk.easel.asked == []
    assert not (desk.folder / "plate.png").exists()


def test_a_start_draws_what_an_earlier_run_did_not(tmp_path: Path) -> None:
    desk = Gallery(tmp_path)
    desk.tell(plate_news())
    closed = closed_well("B03")
    desk.publish(closed)
    desk.publish(closed_well("C01", sites=(), expected_sites=1, rejected=(1,)))
    again = desk.again()
    assert again.tell(plate_news(pixel_size_um=None)) == []  # intake could not load a site yet
    (wanted,) = again.tell(plate_news())
    assert wanted == SiteWanted(SiteId(closed.well, 1), closed.ready[1], "much_DNA", "control", urgent=False)
    again.tell(answered(wanted))
    again.tell(FINISHED)
    again.draw()
    assert again.pictures() == ["B03", "C01"]
    assert len(again.ledger()) == 2
    third = again.again()
    third.tell(FINISHED)
    assert third.draw() == []


def test_a_start_draws_the_missing_pictures_of_a_finished_plate_too(tmp_path: Path) -> None:
    desk = Gallery(tmp_path)
    finished(desk, "B03")
    (desk.folder / "plate.png").unlink()
    (desk.folder / "wells" / "B03.png").unlink()
    again = desk.again()
    (wanted,) = again.tell(FINISHED)
    again.tell(answered(wanted))
    assert sorted(again.draw()) == ["B03", "finished"]
    assert again.pictures() == ["B03"]
    assert (again.folder / "plate.png").exists()


def test_all_pictures_of_a_plate_share_the_contrast_in_its_file(tmp_path: Path) -> None:
    desk = Gallery(tmp_path)
    desk.tell(plate_news())
    desk.publish(closed_well())
    desk.pass_time()
    assert desk.plate()["contrast"] is None
    desk.pass_time(120)  # no further well came
    desk.pass_time(120)
    contrast = desk.plate()["contrast"]
    assert contrast["DNA"]["white"] > contrast["DNA"]["black"] > 0
    again = desk.again()
    (wanted,) = again.tell(plate_news())
    again.tell(SiteReturned(wanted, site_of(wanted, level=5000), None))
    again.draw()
    (shown,) = [each[0] for each in again.easel.asked if isinstance(each[0], WellPicture)]
    assert shown.contrast["DNA"] == (contrast["DNA"]["black"], contrast["DNA"]["white"])
    assert again.plate()["contrast"] == contrast


def test_the_last_picture_of_a_plate_shows_its_end(tmp_path: Path) -> None:
    desk = Gallery(tmp_path, {"results": {"pictures": "all", "plate_refresh_s": 0.0}, **NOT_EXPLAINED})
    desk.tell(plate_news())
    desk.pass_time()
    assert len(desk.easel) == 1  # the plate, and it takes long
    desk.tell(closed_well(sites=(), expected_sites=1, rejected=(1,)))
    desk.pass_time()
    desk.tell(FINISHED)
    assert [drawn for drawn in desk.draw() if drawn != "B03"] == ["acquiring", "finished"]
    assert (desk.folder / "plate.png").read_bytes().startswith(b"png finished")


def test_a_drawing_that_fails_harms_nothing(tmp_path: Path) -> None:
    desk = Gallery(tmp_path)
    desk.tell(plate_news())
    desk.pass_time()
    desk.easel.finish(ValueError("no such colour"))
    with capture_logs() as said:
        desk.pass_time()
    assert [(line["event"], line["plate"]) for line in said] == [("picture.failed", "P1")]
    assert desk.publisher.idle
    assert desk.plate()["state"] == "acquiring"


def test_wells_and_plate_are_really_drawn(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, ALL_PICTURES)
    desk.tell(plate_news())
    desk.publish(closed_well("B03"))
    desk.publish(closed_well("C01", sites=(), expected_sites=1, rejected=(1,)))
    desk.tell(FINISHED)
    desk.end()
    for path in (desk.folder / "wells" / "B03.png", desk.folder / "wells" / "C01.png", desk.folder / "plate.png"):
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert picture.width > 400


# ---- the end, and two of them


def test_at_the_end_the_plate_files_say_all_that_is_known(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    desk.publish(closed_well())
    desk.end()
    assert desk.plate()["wells"]["complete"] == 1
    assert not (desk.results / ".hcs-daemon.pid").exists()
    assert Desktop(tmp_path).restored.plates[0].wells[0].well == well_id()


@pytest.mark.parametrize("time_left", [True, False])
def test_at_the_end_pictures_are_drawn_if_there_is_time(
    time_left: bool,  # noqa: FBT001 (a table)
    tmp_path: Path,
) -> None:
    desk = Desktop(tmp_path, ALL_PICTURES)
    desk.tell(plate_news())
    desk.publish(closed_well())
    desk.publisher.finish(desk.clock.now, draw=time_left)
    assert (desk.folder / "wells" / "B03.png").exists() is time_left
    assert desk.plate()["wells"]["complete"] == 1
    assert desk.plate()["contrast"] is not None  # what is drawn at the next start looks the same
    again = desk.restart(tmp_path, ALL_PICTURES)
    assert len(again.tell(plate_news())) == (0 if time_left else 1)


def test_a_second_publisher_is_refused_and_takes_nothing(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    with pytest.raises(ResultsHeldError, match="process"):
        Desktop(tmp_path)
    desk.publish(closed_well())
    assert stems(desk) == ["B03"]
    desk.end()


def test_metrics_and_log_say_what_was_published(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    with capture_logs() as said:
        desk.publish(closed_well())
        desk.publish(closed_well("C01", sites=(), expected_sites=1, rejected=(1,)))
    assert [(line["event"], line["well"], line["status"]) for line in said] == [
        ("well.published", "B03", "complete"),
        ("well.published", "C01", "rejected"),
    ]
    metrics = desk.metrics()
    assert metrics['hcs_wells_total{status="complete"}'] == metrics['hcs_wells_total{status="rejected"}'] == 1
    assert metrics["hcs_ledger_entries_total"] == 2
    assert metrics["hcs_well_latency_seconds_count"] == 2


@pytest.mark.parametrize("plate", ["../../../escape", "a/b", ".", "CON", "x" * 3000, "new\nline"])
def test_a_hostile_plate_name_stays_inside_the_results_folder(plate: str, tmp_path: Path) -> None:
    desk = Desktop(tmp_path, NOT_EXPLAINED)
    closed = closed_well()
    hostile = replace(closed.well.acquisition, plate=plate)
    well = replace(closed.well, acquisition=hostile)
    moved = replace(closed, well=well)
    desk.tell(plate_news(acquisition=hostile), moved, *predictions_of(moved))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (found,) = desk.results.rglob("B03.json")
    assert json.loads(found.read_bytes())["plate"] == plate
    assert [restored.acquisition for restored in desk.restart(tmp_path).restored.plates] == [hostile]
