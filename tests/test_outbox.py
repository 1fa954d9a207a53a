"""Writes wait their turn while the disk refuses them; none is lost, none overtakes another."""

import errno
from functools import partial
from pathlib import Path

from hcs_daemon.publish.outbox import RETRY_S, Outbox
from hcs_daemon.telemetry import Telemetry, parse_metrics


class Desk:
    """Jobs that write into a folder, and an outbox for them."""

    def __init__(self, folder: Path, min_free_bytes: int = 0) -> None:
        self.telemetry = Telemetry("1")
        self.folder = folder / "results"
        self.folder.mkdir()
        self.place = self.folder / "wells"
        self.place.mkdir()
        self.outbox = Outbox(self.folder, min_free_bytes, self.telemetry)

    def put(self, name: str) -> None:
        def job(_now_s: float) -> None:
            (self.place / name).write_text(name)

        self.outbox.add(job)

    def refuse(self) -> None:
        """Put a file where the folder was: nothing can be written there."""
        self.place.rmdir()
        self.place.write_text("in the way")

    def allow(self) -> None:
        self.place.unlink()
        self.place.mkdir()

    def written(self) -> list[str]:
        return sorted(path.name for path in self.place.iterdir())

    def metric(self, name: str) -> float:
        return parse_metrics(self.telemetry.render().decode())[name]


def test_jobs_are_done_in_order(tmp_path: Path) -> None:
    done: list[int] = []
    outbox = Outbox(tmp_path, 0, Telemetry("1"))
    for number in range(3):
        outbox.add(partial(_note, done, number))
    assert len(outbox) == 3
    outbox.flush(0.0)
    assert done == [0, 1, 2]
    assert len(outbox) == 0


def _note(done: list[int], number: int, _now_s: float) -> None:
    done.append(number)


def test_a_refused_job_stops_those_behind_it_and_says_why(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.put("first")
    desk.refuse()
    desk.put("second")
    desk.outbox.flush(0.0)
    assert len(desk.outbox) == 2
    assert desk.outbox.blocked is not None
    assert str(desk.folder) in desk.outbox.blocked
    assert "Not a directory" in desk.outbox.blocked or "cannot find" in desk.outbox.blocked
    assert desk.metric("hcs_results_write_failures_total") == 1


def test_of_a_temporary_file_that_is_refused_the_folder_is_named(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    def refused(_now_s: float) -> None:
        raise PermissionError(
            errno.EACCES, "Permission denied", str(tmp_path / "P1" / "a1" / ".plate.json.0a1b2c3d.tmp")
        )

    desk.outbox.add(refused)
    desk.outbox.flush(0.0)
    assert desk.outbox.blocked is not None
    assert desk.outbox.blocked.endswith(f"takes nothing: Permission denied: {tmp_path / 'P1' / 'a1'}")


def test_it_is_tried_again_after_a_second_and_goes_on_by_itself(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.refuse()
    desk.put("first")
    desk.put("second")
    desk.outbox.flush(0.0)
    desk.allow()
    desk.outbox.flush(RETRY_S / 2)
    assert not desk.outbox.ready(RETRY_S / 2)
    assert desk.written() == []
    desk.outbox.flush(RETRY_S)
    assert desk.written() == ["first", "second"]
    assert desk.outbox.blocked is None


def test_below_the_bytes_to_keep_free_nothing_is_begun(tmp_path: Path) -> None:
    desk = Desk(tmp_path, min_free_bytes=1 << 62)
    desk.put("first")
    desk.outbox.flush(0.0)
    assert desk.written() == []
    assert desk.outbox.blocked is not None
    assert f"results.min_free_bytes keeps {1 << 62}" in desk.outbox.blocked
    assert desk.metric("hcs_results_free_bytes") > 0
    desk.outbox.min_free_bytes = 0  # as if room had been made
    desk.outbox.flush(RETRY_S)
    assert desk.written() == ["first"]
    assert desk.outbox.blocked is None


def test_a_results_folder_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.place.rmdir()
    desk.folder.rmdir()
    desk.put("first")
    desk.outbox.flush(0.0)
    assert desk.outbox.blocked is not None
    desk.place.mkdir(parents=True)
    desk.outbox.flush(RETRY_S)
    assert desk.written() == ["first"]
