"""What is in the watched folder: a rescan is the truth, events are hints."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from watchdog.events import (
    DirCreatedEvent,
    DirModifiedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileClosedNoWriteEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileOpenedEvent,
    FileSystemEvent,
)

from fakes import until
from hcs_daemon.errors import FolderError
from hcs_daemon.intake import arrival
from hcs_daemon.intake.arrival import Hints, Scanner, ScanReport, is_network_folder, list_files, scan_once, start_hints
from hcs_daemon.records import Sighting
from hcs_daemon.telemetry import Telemetry, parse_metrics

NOT_ON_WINDOWS = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files, or needs a right to make them")


class Watched:
    """A folder and its scanner. reports: what it said, in order."""

    def __init__(self, root: Path, rescan_s: float = 5.0) -> None:
        self.root = root
        self.telemetry = Telemetry("1")
        self.hints = Hints(self.telemetry)
        self.reports: list[ScanReport] = []
        self.scanner = Scanner(root, rescan_s, self.hints, self.telemetry, self.reports.append)

    def write(self, name: str, text: str = "x") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def news(self) -> list[str]:
        """Names of what was reported since the last call."""
        found = [each.path.relative_to(self.root).as_posix() for report in self.reports for each in report.sightings]
        self.reports.clear()
        return sorted(found)

    def metric(self, name: str) -> float:
        return parse_metrics(self.telemetry.render().decode())[name]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def names(folder: Path) -> set[str]:
    return {sighting.path.relative_to(folder).as_posix() for sighting in list_files(folder)}


# ---- listing


def test_every_file_at_any_depth_is_listed_with_its_size_and_time(watched: Watched) -> None:
    path = watched.write("a/b/c/x.tiff", "four")
    watched.write("y.tiff")
    listed = {sighting.path: sighting for sighting in list_files(watched.root)}
    assert set(listed) == {path, watched.root / "y.tiff"}
    assert listed[path] == Sighting(path, 4, path.stat().st_mtime_ns)


def test_a_folder_that_ends_like_an_image_is_named_beside_what_is_in_it(watched: Watched) -> None:
    watched.write("P/x.TIFF/y.tiff")
    watched.write("P.tiffs/z.tiff")
    expected = {"P/x.TIFF": True, "P/x.TIFF/y.tiff": False, "P.tiffs/z.tiff": False}
    assert {
        sighting.path.relative_to(watched.root).as_posix(): sighting.is_folder for sighting in list_files(watched.root)
    } == expected
    watched.scanner.step(0.0)
    assert set(watched.news()) == set(expected)
    watched.write("new.tif/y.tiff")
    watched.hints.add(str(watched.root / "new.tif"))
    watched.scanner.step(1.0)
    assert set(watched.news()) == {"new.tif", "new.tif/y.tiff"}


@NOT_ON_WINDOWS
def test_links_to_folders_are_named_and_not_followed(watched: Watched) -> None:
    watched.write("a/x.tiff")
    (watched.root / "a" / "round").symlink_to(watched.root)
    assert names(watched.root) == {"a/x.tiff", "a/round"}


@NOT_ON_WINDOWS
def test_links_to_nowhere_and_pipes_are_named(watched: Watched) -> None:
    (watched.root / "a.tiff").symlink_to(watched.root / "none")
    (watched.root / "b.tiff").symlink_to(watched.root / "b.tiff")
    os.mkfifo(watched.root / "c.tiff")
    assert names(watched.root) == {"a.tiff", "b.tiff", "c.tiff"}


@NOT_ON_WINDOWS
def test_a_tree_deeper_than_calls_can_nest_is_listed(watched: Watched) -> None:
    depth, usual = 450, sys.getrecursionlimit()
    for length in range(1, depth + 1):
        (watched.root / Path(*["d"] * length)).mkdir()
    (watched.root / Path(*["d"] * depth) / "x").write_text("x")
    sys.setrecursionlimit(400)
    try:
        assert names(watched.root) == {"d/" * depth + "x"}
    finally:
        sys.setrecursionlimit(usual)
        _unnest(watched.root, depth)


def _unnest(root: Path, depth: int) -> None:
    """Remove what the library's recursive removal could not."""
    (root / Path(*["d"] * depth) / "x").unlink()
    for length in range(depth, 0, -1):
        (root / Path(*["d"] * length)).rmdir()


def test_a_file_that_vanishes_while_it_is_listed_is_left_out(watched: Watched) -> None:
    for name in ("a", "b"):
        watched.write(f"{name}/x.tiff")
    listing = list_files(watched.root)
    first = next(listing).path
    (other,) = {watched.root / "a" / "x.tiff", watched.root / "b" / "x.tiff"} - {first}
    other.unlink()
    other.parent.rmdir()
    assert list(listing) == []


@NOT_ON_WINDOWS
def test_a_folder_below_that_cannot_be_listed_is_told_and_the_rest_goes_on(watched: Watched) -> None:
    watched.write("z.tiff")
    parts = ["n" * 250] * 17  # longer than any path may be, so it is made step by step
    handles = [os.open(watched.root, os.O_RDONLY)]
    try:
        for part in parts:
            os.mkdir(part, dir_fd=handles[-1])
            handles.append(os.open(part, os.O_RDONLY, dir_fd=handles[-1]))
        told: list[Path] = []
        listed = [sighting.path.name for sighting in list_files(watched.root, lambda path, _: told.append(path))]
        assert listed == ["z.tiff"]
        assert len(told) == 1
    finally:
        for depth in reversed(range(len(handles) - 1)):
            os.rmdir(parts[depth], dir_fd=handles[depth])
        for handle in handles:
            os.close(handle)


# ---- scanning


def test_the_first_look_reports_everything_and_the_next_only_what_is_new_or_changed(watched: Watched) -> None:
    watched.write("a.tiff")
    changed = watched.write("b.tiff")
    watched.scanner.scan()
    assert [report.finished for report in watched.reports] == [True]
    assert watched.news() == ["a.tiff", "b.tiff"]
    watched.write("c.tiff")
    changed.write_text("longer")
    watched.scanner.scan()
    assert watched.news() == ["b.tiff", "c.tiff"]
    watched.scanner.scan()
    assert watched.news() == []


def test_a_new_time_alone_is_a_change(watched: Watched) -> None:
    path = watched.write("a.tiff")
    watched.scanner.scan()
    watched.news()
    os.utime(path, ns=(1, 1))
    watched.scanner.scan()
    assert watched.news() == ["a.tiff"]


def test_a_large_folder_is_reported_in_parts_of_which_the_last_says_so(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "CHUNK", 2)
    for number in range(5):
        watched.write(f"{number}.tiff")
    watched.scanner.scan()
    assert [len(report.sightings) for report in watched.reports] == [2, 2, 1]
    assert [report.finished for report in watched.reports] == [False, False, True]


def test_it_looks_at_everything_every_rescan_s(watched: Watched) -> None:
    watched.scanner.step(now=100.0)
    watched.write("a.tiff")
    watched.scanner.step(now=104.9)
    assert watched.news() == []
    assert watched.scanner.wait_s(104.9) == pytest.approx(0.1)
    watched.scanner.step(now=105.0)
    assert watched.news() == ["a.tiff"]


def test_a_deleted_file_is_not_reported_and_one_that_is_back_is(watched: Watched) -> None:
    path = watched.write("a.tiff")
    stamp = path.stat().st_mtime_ns
    watched.scanner.scan()
    path.unlink()
    watched.news()
    watched.scanner.scan()
    assert watched.news() == []
    watched.write("a.tiff")
    os.utime(path, ns=(stamp, stamp))
    watched.scanner.scan()
    assert watched.news() == ["a.tiff"]


def test_a_folder_that_is_not_there_is_waited_for_and_said_once(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "in")
    with capture_logs() as log:
        watched.scanner.step(0.0)
        watched.scanner.step(10.0)
    assert [line["event"] for line in log] == ["watch.unavailable"]
    assert watched.scanner.available is False
    assert watched.metric("hcs_watch_available") == 0
    watched.write("a.tiff")
    with capture_logs() as log:
        watched.scanner.step(20.0)
        watched.scanner.step(30.0)
    assert [line["event"] for line in log] == ["watch.available"]
    assert watched.metric("hcs_watch_available") == 1
    assert watched.news() == ["a.tiff"]


def test_after_a_share_was_away_all_of_it_is_reported_again(watched: Watched) -> None:
    watched.write("a.tiff")
    watched.scanner.scan()
    away = watched.root.with_name("away")
    watched.root.rename(away)
    watched.news()
    watched.scanner.scan()
    assert watched.news() == []
    away.rename(watched.root)
    watched.scanner.scan()
    assert watched.news() == ["a.tiff"]


def test_after_a_share_came_back_empty_all_of_it_is_reported_again(watched: Watched) -> None:
    watched.write("P/a.tiff")
    watched.scanner.scan()
    (watched.root / "P").rename(watched.root.with_name("away"))
    watched.scanner.scan()
    watched.root.with_name("away").rename(watched.root / "P")
    watched.news()
    watched.scanner.scan()
    assert watched.news() == ["P/a.tiff"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may list everything")
def test_a_folder_below_without_permission_is_said_once_and_again_only_after_it_was_readable(watched: Watched) -> None:
    watched.write("a/x.tiff")
    watched.write("b/y.tiff")
    (watched.root / "a").chmod(0)
    try:
        with capture_logs() as log:
            watched.scanner.scan()
            watched.scanner.scan()
        assert [(line["event"], line["folder"].name) for line in log][:1] == [("watch.unavailable", "a")]
        assert sum(line["event"] == "watch.unavailable" for line in log) == 1
        assert watched.news() == ["b/y.tiff"]
    finally:
        (watched.root / "a").chmod(0o700)
    watched.scanner.scan()
    assert watched.news() == ["a/x.tiff"]


def test_a_fault_of_the_program_makes_it_unready_aloud_and_is_tried_again(tmp_path: Path) -> None:
    faults = [ValueError("no such thing"), ValueError("no such thing")]
    taken: list[ScanReport] = []

    def take(report: ScanReport) -> None:
        if faults:
            raise faults.pop()
        taken.append(report)

    telemetry = Telemetry("1")
    scanner = Scanner(tmp_path, 5.0, Hints(telemetry), telemetry, take)
    (tmp_path / "a.tiff").write_text("x")
    with capture_logs() as log:
        scanner.step(0.0)
        assert scanner.available is False
        scanner.step(5.0)
        scanner.step(10.0)
    assert [line["event"] for line in log] == ["thread.failed", "watch.available"]
    assert scanner.available is True
    assert [sighting.path.name for report in taken for sighting in report.sightings] == ["a.tiff"]


# ---- hints


def events(path: str, other: str) -> list[tuple[FileSystemEvent, set[str]]]:
    return [
        (FileCreatedEvent(path), {path}),
        (FileModifiedEvent(path), {path}),
        (FileClosedEvent(path), {path}),
        (FileMovedEvent(path, other), {path, other}),
        (DirCreatedEvent(path), {path}),
        (DirMovedEvent(path, other), {path, other}),
        (FileDeletedEvent(path), set()),
        (FileOpenedEvent(path), set()),
        (FileClosedNoWriteEvent(path), set()),
        (DirModifiedEvent(path), set()),
    ]


@pytest.mark.parametrize("number", range(10))
def test_an_event_is_a_hint_if_a_file_may_be_new_by_it(number: int) -> None:
    event, expected = events("/in/a", "/in/b")[number]
    hints = Hints(Telemetry("1"))
    arrival._Handler(hints).on_any_event(event)
    assert hints.bell.is_set() == bool(expected)
    assert hints.take() == expected
    assert hints.take() == set()
    assert not hints.bell.is_set()


def test_a_hinted_file_is_looked_at_at_once(watched: Watched) -> None:
    watched.scanner.step(0.0)
    path = watched.write("a.tiff")
    watched.hints.add(str(path))
    watched.scanner.step(1.0)
    assert watched.news() == ["a.tiff"]
    watched.hints.add(str(path))
    watched.scanner.step(2.0)
    assert watched.news() == []
    assert watched.metric("hcs_watch_events_total") == 2


def test_a_hinted_folder_is_looked_at_with_all_that_is_in_it(watched: Watched) -> None:
    watched.scanner.step(0.0)
    watched.write("P1/Images/a.tiff")
    watched.write("P1/Images/b.tiff")
    watched.hints.add(str(watched.root / "P1"))
    watched.scanner.step(1.0)
    assert watched.news() == ["P1/Images/a.tiff", "P1/Images/b.tiff"]


def test_a_hint_of_what_is_gone_says_nothing(watched: Watched) -> None:
    watched.scanner.step(0.0)
    watched.hints.add(str(watched.root / "a.tiff"))
    watched.scanner.step(1.0)
    assert watched.news() == []


@NOT_ON_WINDOWS
def test_a_hinted_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.tiff").write_text("x")
    watched = Watched(tmp_path / "in")
    watched.root.mkdir()
    watched.scanner.step(0.0)
    (watched.root / "link").symlink_to(tmp_path / "outside")
    watched.hints.add(str(watched.root / "link"))
    watched.scanner.step(1.0)
    assert watched.news() == []


def missed(watched: Watched) -> float:
    return watched.metric("hcs_watch_missed_events_total")


def test_a_file_that_a_rescan_found_and_no_event_named_was_missed(watched: Watched) -> None:
    watched.write("old.tiff")
    watched.scanner.scan()
    watched.scanner.scan()
    assert missed(watched) == 0, "what was there at the start is older than the watching"
    watched.write("a.tiff")
    watched.write("b.tiff")
    watched.scanner.scan()
    assert missed(watched) == 0, "its event may still be on its way"
    watched.hints.add(str(watched.root / "b.tiff"))
    watched.scanner.step(0.0)
    assert missed(watched) == 1
    watched.scanner.scan()
    assert missed(watched) == 1


def test_a_file_that_was_hinted_was_not_missed(watched: Watched) -> None:
    watched.scanner.step(0.0)
    watched.hints.add(str(watched.write("a.tiff")))
    watched.scanner.step(1.0)
    for now in (5.0, 10.0, 15.0):
        watched.scanner.step(now)
    assert missed(watched) == 0


def test_what_a_share_brings_back_was_not_missed(watched: Watched) -> None:
    watched.write("a.tiff")
    watched.scanner.scan()
    away = watched.root.with_name("away")
    watched.root.rename(away)
    watched.scanner.scan()
    away.rename(watched.root)
    watched.scanner.scan()
    watched.scanner.scan()
    assert missed(watched) == 0


@pytest.mark.parametrize("polling", ["never", "always"])
def test_a_real_observer_hints_at_a_new_file(tmp_path: Path, polling: str) -> None:
    hints = Hints(Telemetry("1"))
    observer = start_hints(tmp_path, polling, 0.05, hints)
    assert observer is not None
    try:
        path = tmp_path / "a.tiff"
        path.write_text("x")
        until(lambda: str(path) in hints.take(), "the hint")
    finally:
        observer.stop()
        observer.join()


def test_a_folder_that_cannot_be_observed_is_found_by_rescan_and_said(tmp_path: Path) -> None:
    with capture_logs() as log:
        assert start_hints(tmp_path / "none", "never", 5.0, Hints(Telemetry("1"))) is None
    assert [line["event"] for line in log] == ["watch.hints_failed"]


# ---- where events do not come

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/vol /mnt/share nfs4 rw 0 0
//nas/screens /mnt/two\\040words cifs rw 0 0
/dev/sdb1 /mnt/share/local xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "network"),
    [
        ("/data", False),
        ("/mnt/share", True),
        ("/mnt/share/P1", True),
        ("/mnt/shared", False),
        ("/mnt/share/local/P1", False),
        ("/mnt/two words/P1", True),
        ("//nas/screens", True),
    ],
)
def test_a_share_is_known_by_its_mount(folder: str, *, network: bool) -> None:
    assert is_network_folder(Path(folder), MOUNTS) is network


# ---- clocks and progress


def test_the_clock_is_compared_with_the_newest_file_that_came_since_the_first_look(watched: Watched) -> None:
    os.utime(watched.write("old.tiff"), (1_000_000_000, 1_000_000_000))
    watched.scanner.scan()
    assert watched.metric("hcs_clock_skew_seconds") == 0
    ahead, now = watched.write("ahead.tiff"), time.time()
    os.utime(watched.write("behind.tiff"), (now - 500, now - 500))
    os.utime(ahead, (now + 3600, now + 3600))
    watched.scanner.scan()
    assert watched.metric("hcs_clock_skew_seconds") == pytest.approx(3600, abs=60)
    watched.scanner.scan()
    assert watched.metric("hcs_clock_skew_seconds") == pytest.approx(3600, abs=60)


def test_a_time_of_zero_says_nothing_of_a_clock(watched: Watched) -> None:
    watched.scanner.scan()
    os.utime(watched.write("a.tiff"), (0, 0))
    watched.scanner.scan()
    assert watched.metric("hcs_clock_skew_seconds") == 0


def test_every_file_looked_at_is_progress(watched: Watched) -> None:
    for name in "abc":
        watched.write(f"{name}.tiff")
    for looked in (3, 6):
        watched.scanner.scan()
        assert watched.scanner.looked == looked


# ---- folders that are complete


def test_a_complete_folder_is_listed_once(watched: Watched) -> None:
    watched.write("a/x.tiff")
    report = scan_once(watched.root)
    assert report.finished
    assert [sighting.path.name for sighting in report.sightings] == ["x.tiff"]


@pytest.mark.parametrize("make", [Path.exists, Path.touch], ids=["nothing", "a file"])
def test_what_is_no_folder_is_an_error_with_a_hint(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "P")
    with pytest.raises(FolderError, match="cannot be listed") as caught:
        scan_once(tmp_path / "P")
    assert "a tree of them" in caught.value.hint
