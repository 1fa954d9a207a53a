"""The command for finished plates: what is run, when again, what is kept of it, and that nobody waits for it."""

import io
import json
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from fakes import Clock, make_settings, said, until
from hcs_daemon.config import load_settings
from hcs_daemon.errands import HASTY_WAITS_S, SAID_BYTES, STOP_S, WAITS_S, Command, Errands, words_for
from hcs_daemon.errors import SettingsError
from hcs_daemon.plate import AcquisitionId
from hcs_daemon.records import CommandEnded, FinishedPlate
from hcs_daemon.telemetry import Telemetry, parse_metrics
from hcs_daemon.vocabulary import CommandResult, PlateState, WellStatus
from processes import SIMULATED_CHANNELS, make_place
from wells import Desktop, closed_well, plate_news

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PLATE = AcquisitionId("P1", "a1")


def python(code: str, *arguments: str) -> list[str]:
    """A command that runs this."""
    return [sys.executable, "-c", code, *arguments]


class Clerk:
    """Errands on a fake clock, with real programs. ended: what it told, in order."""

    def __init__(self, folder: Path, words: list[str], *, timeout_s: float = 3600.0, hasty: bool = False) -> None:
        self.folder = folder
        self.clock = Clock()
        self.telemetry = Telemetry("1")
        self.finished: SimpleQueue[FinishedPlate] = SimpleQueue()
        self._ended: SimpleQueue[CommandEnded] = SimpleQueue()
        self.ended: list[CommandEnded] = []
        waits_s = HASTY_WAITS_S if hasty else WAITS_S
        results = self.results(words, timeout_s)
        self.errands = Errands(results, self.telemetry, self.finished, self._ended, waits_s, for_ever=not hasty)

    def results(self, words: list[str], timeout_s: float = 3600.0) -> Any:
        given = {"on_plate_finished": words, "on_plate_finished_timeout_s": timeout_s}
        return make_settings(self.folder, {"results": given}).results

    def plate(self, name: str = "P1", revisions: int = 1) -> FinishedPlate:
        """A finished plate with a folder of its own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return FinishedPlate(AcquisitionId(name, "a1"), folder, NOON, revisions, WellStatus.COMPLETE)

    def finish(self, *plates: FinishedPlate) -> None:
        for plate in plates:
            self.finished.put(plate)
        self.look()

    def look(self) -> None:
        """One step, and steps until nothing runs: the fake clock stands still meanwhile."""
        self.errands.step(self.clock.now)
        until(self._rests)

    def _rests(self) -> bool:
        self.errands.step(self.clock.now)
        while not self._ended.empty():
            self.ended.append(self._ended.get())
        return not self.errands.busy

    def counts(self) -> tuple[float, float]:
        """Runs that succeeded, and that failed."""
        found = parse_metrics(self.telemetry.render().decode())
        names = ("succeeded", "failed")
        succeeded, failed = (found[f'hcs_plate_commands_total{{result="{name}"}}'] for name in names)
        return succeeded, failed


# ---- what is run


def test_a_finished_plate_has_its_command_run_once_in_its_folder(tmp_path: Path, log: io.StringIO) -> None:
    code = "import os, sys; open('told', 'a').write(repr([os.getcwd(), *sys.argv[1:]]) + '\\n')"
    arguments = ["--dir={plate_dir}", "{plate}/{acquisition}", "{state} {status}", "{finished_at}", "{{as it is}}"]
    clerk = Clerk(tmp_path, python(code, *arguments))
    clerk.finish(clerk.plate("a plate; $(rm -rf .) 'x'"))
    clerk.clock.advance(10_000)
    clerk.look()
    folder = tmp_path / "a plate; $(rm -rf .) 'x'"
    given = [f"--dir={folder}", f"{folder.name}/a1", "finished complete", "2026-01-01T12:00:00+00:00", "{as it is}"]
    assert (folder / "told").read_text() == repr([str(folder), *given]) + "\n"
    assert [each.name for each in folder.iterdir()] == ["told"]
    (ended,) = clerk.ended
    assert (ended.result, ended.tries, ended.exit_code, ended.detail) == (CommandResult.SUCCEEDED, 1, 0, "")
    assert clerk.counts() == (1, 0)
    assert [line["plate"] for line in said(log, "plate.told")] == [folder.name]


def test_a_plate_called_like_a_placeholder_is_only_a_name() -> None:
    plate = FinishedPlate(AcquisitionId("{acquisition}", "a1"), Path("/r"), NOON, 1, WellStatus.PARTIAL)
    assert words_for(["tell", "{plate}", "{status}"], plate) == ["tell", "{acquisition}", "partial"]


def test_a_command_that_reads_its_input_finds_none_and_ends(tmp_path: Path, log: io.StringIO) -> None:
    clerk = Clerk(tmp_path, python("import sys; assert sys.stdin.read() == ''"))
    clerk.finish(clerk.plate())
    assert clerk.ended[0].result is CommandResult.SUCCEEDED


def test_it_gets_nothing_that_is_between_systemd_and_the_daemon_nor_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "HCS_DAEMON__LOG__LEVEL"):
        monkeypatch.setenv(name, "info")
    monkeypatch.setenv("LIMS_SITE", "3")
    clerk = Clerk(tmp_path, python("import json, os; json.dump(dict(os.environ), open('told', 'w'))"))
    clerk.finish(clerk.plate())
    given = json.loads((tmp_path / "P1" / "told").read_text())
    assert given["LIMS_SITE"] == "3"
    assert not [name for name in given if name.startswith(("NOTIFY", "WATCHDOG", "HCS_DAEMON__"))]


def test_plates_are_told_one_after_another(tmp_path: Path, log: io.StringIO) -> None:
    clerk = Clerk(tmp_path, python("open('../told', 'a').write('{plate} ')"))
    clerk.finish(*(clerk.plate(name) for name in ("P1", "P2", "P3")))
    for _ in range(3):
        clerk.look()
    assert (tmp_path / "told").read_text() in {"P1 P2 P3 ", "{plate} {plate} {plate} "}
    assert [each.plate.acquisition.plate for each in clerk.ended] == ["P1", "P2", "P3"]


def test_without_a_command_a_plate_waits_until_there_is_one(tmp_path: Path, log: io.StringIO) -> None:
    clerk = Clerk(tmp_path, [])
    clerk.finish(clerk.plate())
    assert clerk.errands.idle
    assert clerk.counts() == (0, 0)
    clerk.errands.apply(clerk.results(python("")))
    assert not clerk.errands.idle
    clerk.look()
    assert clerk.counts() == (1, 0)


# ---- what goes wrong


def test_a_failure_is_said_counted_and_tried_again_ever_later(tmp_path: Path, log: io.StringIO) -> None:
    clerk = Clerk(tmp_path, python("import sys; sys.exit('the LIMS is down\\n\\x1b[31mcall Ida')"))
    clerk.finish(clerk.plate())
    assert clerk.counts() == (0, 1)
    for number, wait_s in enumerate(WAITS_S, 2):
        clerk.clock.advance(wait_s - 1)
        clerk.look()
        assert clerk.counts() == (0, number - 1)
        assert clerk.ended == []
        clerk.clock.advance(1)
        clerk.look()
        assert clerk.counts() == (0, number)
    lines = said(log, "plate.not_told")
    assert [line["tries"] for line in lines] == [1, 2, 3, 4, 5]
    assert {line["detail"] for line in lines} == {"it ended with 1: the LIMS is down | [31mcall Ida"}
    assert lines[0]["hint"] == "it is tried again in 10 s"
    (ended,) = clerk.ended
    assert (ended.result, ended.tries, ended.exit_code) == (CommandResult.FAILED, 5, 1)


def test_the_last_wait_is_repeated_until_it_succeeds(tmp_path: Path, log: io.StringIO) -> None:
    clerk = Clerk(tmp_path, python("import os, sys; sys.exit(0 if os.path.exists('lims') else 3)"))
    clerk.finish(clerk.plate())
    for wait_s in (*WAITS_S, *[WAITS_S[-1]] * 200):
        clerk.clock.advance(wait_s - 1)
        clerk.errands.step(clerk.clock.now)
        assert not clerk.errands.busy
        clerk.clock.advance(1)
        if said(log, "plate.not_told")[-1]["tries"] == 7:
            (tmp_path / "P1" / "lims").touch()
        clerk.look()
        if clerk.errands.idle:
            break
    results = [(each.result, each.tries, each.exit_code) for each in clerk.ended]
    failed, succeeded = CommandResult.FAILED, CommandResult.SUCCEEDED
    assert results == [(failed, 5, 3), (failed, 6, 3), (failed, 7, 3), (succeeded, 8, 0)]
    assert said(log, "plate.not_told")[-1]["hint"] == "it is tried again in 1800 s"


def test_where_somebody_waits_for_the_end_it_is_left_to_the_next_start(tmp_path: Path, log: io.StringIO) -> None:
    clerk = Clerk(tmp_path, python("import sys; sys.exit(3)"), hasty=True)
    clerk.finish(clerk.plate())
    for wait_s in HASTY_WAITS_S:
        assert not clerk.errands.idle
        clerk.clock.advance(wait_s)
        clerk.look()
    assert [(each.result, each.tries) for each in clerk.ended] == [(CommandResult.FAILED, 3)]
    assert "the next start of the daemon tries again" in said(log, "plate.not_told")[-1]["hint"]
    clerk.clock.advance(1e6)
    clerk.look()
    assert clerk.counts() == (0, 3)
    assert clerk.errands.idle


def test_one_that_succeeds_at_a_later_try_is_told(tmp_path: Path, log: io.StringIO) -> None:
    clerk = Clerk(tmp_path, python("import os, sys; sys.exit(0 if os.path.exists('lims') else 3)"))
    clerk.finish(clerk.plate())
    (tmp_path / "P1" / "lims").touch()
    clerk.clock.advance(WAITS_S[0])
    clerk.look()
    assert [(each.result, each.tries) for each in clerk.ended] == [(CommandResult.SUCCEEDED, 2)]
    assert clerk.counts() == (1, 1)


def test_a_program_that_is_not_there_has_failed_like_any_other(tmp_path: Path, log: io.StringIO) -> None:
    clerk = Clerk(tmp_path, ["/nowhere/told", "{plate_dir}"])
    clerk.finish(clerk.plate())
    assert clerk.counts() == (0, 1)
    assert "/nowhere/told is not there" in said(log, "plate.not_told")[0]["detail"]


@pytest.mark.skipif(os.name == "nt", reason="what may be run is a matter of names there")
def test_a_file_that_is_no_program_has_failed_like_any_other(tmp_path: Path, log: io.StringIO) -> None:
    program = tmp_path / "told"
    program.write_bytes(b"\x00\x01")
    program.chmod(0o755)
    clerk = Clerk(tmp_path, [str(program)])
    clerk.finish(clerk.plate())
    assert "Exec format error" in said(log, "plate.not_told")[0]["detail"]
    assert list((tmp_path / "P1").iterdir()) == []


def test_one_that_takes_too_long_is_ended_with_its_children(tmp_path: Path, log: io.StringIO) -> None:
    child = "import time; open('child', 'w').write('1'); time.sleep(3); open('outlived', 'w')"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(600)"
    clerk = Clerk(tmp_path, python(code), timeout_s=60.0)
    clerk.finished.put(clerk.plate())
    clerk.errands.step(clerk.clock.now)
    until((tmp_path / "P1" / "child").exists)
    clerk.clock.advance(59)
    assert not clerk.errands.step(clerk.clock.now)
    clerk.clock.advance(1)
    assert clerk.errands.step(clerk.clock.now)
    assert said(log, "plate.not_told")[0]["detail"] == "it took too long and was ended"
    time.sleep(3.5)  # a child that was left would have written by now
    assert not (tmp_path / "P1" / "outlived").exists()


def test_of_what_it_says_the_end_is_kept(tmp_path: Path, log: io.StringIO) -> None:
    code = f"import sys; sys.stderr.write('x' * {SAID_BYTES * 50} + '\\nthe end'); sys.exit(2)"
    clerk = Clerk(tmp_path, python(code))
    clerk.finish(clerk.plate())
    (line,) = said(log, "plate.not_told")
    assert line["detail"].endswith("x | the end")
    assert SAID_BYTES - 10 < len(line["detail"]) < SAID_BYTES + 40


def test_one_that_never_stops_talking_is_ended_in_its_time_and_fills_no_disk(tmp_path: Path, log: io.StringIO) -> None:
    code = "import sys\nwhile True: sys.stderr.write('x' * (1 << 20))"
    clerk = Clerk(tmp_path, python(code), timeout_s=60.0)
    clerk.finished.put(clerk.plate())
    clerk.errands.step(clerk.clock.now)
    running = clerk.errands._running
    assert running is not None
    until(lambda: len(running[1]._listener._end) == SAID_BYTES)
    if sys.platform == "linux":
        assert Path(f"/proc/{running[1]._process.pid}/fd/2").readlink().name.startswith("pipe:")
    clerk.clock.advance(60)
    clerk.look()
    (line,) = said(log, "plate.not_told")
    assert line["detail"] == "it took too long and was ended: " + "x" * SAID_BYTES


@pytest.mark.skipif(os.name == "nt", reason="process groups are of POSIX")
@pytest.mark.parametrize("status", [0, 3])
def test_what_a_command_left_in_the_background_ends_with_it(tmp_path: Path, log: io.StringIO, status: int) -> None:
    script = f"(echo the end >&2; exec yes >&2) & echo $! > child; exit {status}"
    clerk = Clerk(tmp_path, ["/bin/sh", "-c", script])
    clerk.finish(clerk.plate())
    assert [clerk.counts(), clerk.ended[:1] != []] == [(1, 0) if status == 0 else (0, 1), status == 0]
    child = int((tmp_path / "P1" / "child").read_text())
    until(lambda: not _runs(child))


def _runs(process: int) -> bool:
    """Whether it is there, and no mere entry that its parent has yet to take note of."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_process_that_it_leaves_behind_holds_up_nobody(tmp_path: Path, log: io.StringIO) -> None:
    child = "import time; time.sleep(20)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)"
    clerk = Clerk(tmp_path, python(code))
    began = time.monotonic()
    clerk.finish(clerk.plate())
    assert clerk.ended[0].result is CommandResult.SUCCEEDED
    assert time.monotonic() - began < 20


@pytest.mark.skipif(os.name == "nt", reason="a broken pipe ends a program of POSIX")
def test_one_that_it_set_apart_finds_nobody_listening_and_fills_no_disk(tmp_path: Path, log: io.StringIO) -> None:
    child = "import os; open('child', 'w').write(str(os.getpid())); os.execlp('yes', 'yes')"
    code = f"""import os, subprocess, sys, time
subprocess.Popen([sys.executable, '-c', {child!r}], stdout=sys.stderr, start_new_session=True)
while not os.path.exists('child') or not open('child').read(): time.sleep(0.01)"""
    clerk = Clerk(tmp_path, python(code))
    clerk.finish(clerk.plate())
    assert clerk.ended[0].result is CommandResult.SUCCEEDED
    writer = int((tmp_path / "P1" / "child").read_text())
    until(lambda: not _runs(writer))


def test_a_plate_that_is_finished_again_meanwhile_is_told_again(tmp_path: Path, log: io.StringIO) -> None:
    clerk = Clerk(tmp_path, python("open('told', 'a').write('1')"))
    first, second = clerk.plate(), clerk.plate(revisions=2)
    clerk.finished.put(first)
    clerk.errands.step(clerk.clock.now)
    clerk.finish(first, second, second)
    clerk.look()
    assert (tmp_path / "P1" / "told").read_text() == "11"
    assert [each.plate.revisions for each in clerk.ended] == [1, 2]


def test_at_the_end_what_runs_has_a_short_while_and_nothing_begins(tmp_path: Path, log: io.StringIO) -> None:
    clerk = Clerk(tmp_path, python("import time; time.sleep(600)"))
    clerk.finished.put(clerk.plate("P1"))
    clerk.errands.step(clerk.clock.now)
    clerk.errands.stop(clerk.clock.now)
    clerk.finished.put(clerk.plate("P2"))
    clerk.clock.advance(STOP_S - 1)
    clerk.errands.step(clerk.clock.now)
    assert clerk.errands.busy
    clerk.clock.advance(1)
    clerk.errands.step(clerk.clock.now)
    clerk.errands.step(clerk.clock.now)
    assert not clerk.errands.busy
    assert clerk.ended == []  # plate.json still says that it waits
    assert said(log, "plate.not_told")[0]["hint"] == "the next start runs it again"


def test_what_runs_when_all_is_over_is_ended(tmp_path: Path, log: io.StringIO) -> None:
    clerk = Clerk(tmp_path, python("import time; time.sleep(600)"))
    clerk.finished.put(clerk.plate())
    clerk.errands.step(clerk.clock.now)
    assert clerk.errands._running is not None
    process = clerk.errands._running[1]._process
    clerk.errands.close()
    assert process.poll() not in {None, 0}
    assert not clerk.errands.busy


def test_a_batch_file_is_not_run_wherever_it_was_found(tmp_path: Path) -> None:
    script = tmp_path / "told.cmd"
    script.write_text("echo")
    script.chmod(0o755)
    with pytest.raises(PermissionError, match="run by a shell"):
        Command([str(script)], tmp_path, 0.0)


# ---- the settings


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([""], "names no program"),
        (["  ", "x"], "names no program"),
        (["told", "{plates}"], "holds {plates}, which stands for nothing"),
        (["told", "{}"], "stands for nothing"),
        (["told", "{plate.__class__}"], "stands for nothing"),
        (["told", "{plate!r}"], "stands for nothing"),
        (["told", "{plate:>9}"], "stands for nothing"),
        (["told", "{"], "has a single brace"),
        (["told", "}"], "has a single brace"),
        (["C:\\lims\\told.BAT"], "is run by a shell"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(words: list[str], problem: str, tmp_path: Path) -> None:
    place = make_place(tmp_path, SIMULATED_CHANNELS)
    with pytest.raises(SettingsError) as refused:
        load_settings(place.config, {"results": {"on_plate_finished": words}})
    assert problem in refused.value.message
    assert "{{" in refused.value.hint or "program" in refused.value.hint


def test_a_programs_path_is_relative_to_the_file_and_a_name_is_looked_for(tmp_path: Path) -> None:
    place = make_place(tmp_path, SIMULATED_CHANNELS)
    text = place.config.read_text("utf-8")

    def program(word: str) -> str:
        line = f"min_free_bytes = 0\non_plate_finished = ['{word}', 'bin/x']"
        place.config.write_text(text.replace("min_free_bytes = 0", line), "utf-8")
        first, second = load_settings(place.config).results.on_plate_finished
        assert second == "bin/x"
        return first

    assert program("told") == "told"
    assert program("bin/told") == str(tmp_path / "bin" / "told")
    assert program("/opt/told") == str(Path("/opt/told"))


def test_the_environment_gives_it_as_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place(tmp_path, SIMULATED_CHANNELS)
    monkeypatch.setenv("HCS_DAEMON__RESULTS__ON_PLATE_FINISHED", '["told", "{plate}"]')
    assert load_settings(place.config).results.on_plate_finished == ["told", "{plate}"]
    monkeypatch.setenv("HCS_DAEMON__RESULTS__ON_PLATE_FINISHED", "told")
    with pytest.raises(SettingsError, match="in JSON"):
        load_settings(place.config)


# ---- plate.json


COMMAND = {"results": {"on_plate_finished": ["told"], "plate_refresh_s": 0.0}}


def finished(folder: Path, overrides: dict[str, Any]) -> Desktop:
    """A plate of one well that is finished, its command not run."""
    desk = Desktop(folder, overrides)
    desk.tell(plate_news())
    desk.publish(closed_well("B03"))
    assert desk.plate()["on_plate_finished"] is None
    desk.tell(plate_news(PlateState.FINISHED))
    desk.pass_time(1)
    return desk


def asked(desk: Desktop) -> list[FinishedPlate]:
    """The plates whose command was asked for since."""
    queue, found = desk.publisher._telling._finished, []
    while not queue.empty():
        found.append(queue.get())
    return found


def tell_end(desk: Desktop, plate: FinishedPlate, result: CommandResult = CommandResult.SUCCEEDED) -> None:
    code = 0 if result is CommandResult.SUCCEEDED else 3
    desk.publisher._telling._ended.put(CommandEnded(plate, result, 2, code, "why"))
    assert not desk.publisher.idle
    desk.pass_time(1)
    desk.pass_time()
    assert desk.publisher.idle


def test_a_finished_plate_says_that_its_command_waits_and_then_how_it_ended(tmp_path: Path) -> None:
    desk = finished(tmp_path, COMMAND)
    assert desk.plate()["state"] == "finished"
    assert desk.plate()["on_plate_finished"]["result"] == "waiting"
    (plate,) = asked(desk)
    assert (plate.acquisition, plate.folder, plate.status) == (PLATE, desk.folder, WellStatus.COMPLETE)
    desk.pass_time(60)
    assert asked(desk) == []
    tell_end(desk, plate)
    entry = desk.plate()["on_plate_finished"]
    assert (entry["result"], entry["tries"], entry["exit_code"], entry["detail"]) == ("succeeded", 2, 0, "why")
    desk.pass_time(60)
    assert asked(desk) == []
    assert desk.plate()["on_plate_finished"] == entry
    assert "told" not in json.dumps(desk.plate()["settings"])


@pytest.mark.parametrize("result", [None, CommandResult.FAILED, CommandResult.SUCCEEDED])
def test_the_next_start_runs_what_did_not_end_well(result: CommandResult | None, tmp_path: Path) -> None:
    desk = finished(tmp_path, COMMAND)
    (plate,) = asked(desk)
    if result is not None:
        tell_end(desk, plate, result)
    again = desk.restart(tmp_path, COMMAND)
    again.pass_time(1)
    assert asked(again) == ([] if result is CommandResult.SUCCEEDED else [plate])
    tell_end(again, plate)
    assert again.plate()["on_plate_finished"]["result"] == "succeeded"
    assert asked(again.restart(tmp_path, COMMAND)) == []


def test_a_plate_that_is_finished_again_has_it_run_again(tmp_path: Path) -> None:
    desk = finished(tmp_path, COMMAND)
    (plate,) = asked(desk)
    tell_end(desk, plate)
    desk.tell(plate_news())
    desk.pass_time(1)
    assert desk.plate()["on_plate_finished"] is None
    desk.publish(closed_well("B04"))
    desk.tell(plate_news(PlateState.FINISHED))
    desk.pass_time(1)
    assert [each.revisions for each in asked(desk)] == [2]
    tell_end(desk, plate)  # of the time before: it says nothing of now
    assert desk.plate()["on_plate_finished"]["result"] == "waiting"


def test_so_has_a_finished_one_whose_wells_are_revised(tmp_path: Path) -> None:
    layout = tmp_path / "layout.csv"
    settings: dict[str, Any] = {**COMMAND, "expect": {"layout": str(layout)}}
    desk = finished(tmp_path, settings)
    (plate,) = asked(desk)
    tell_end(desk, plate)
    layout.write_text("well,compound,concentration_um,role\nB03,Taxol,3,treatment\n", "utf-8")
    again = desk.restart(tmp_path, settings)
    again.tell(plate_news(PlateState.FINISHED))
    again.pass_time(1)
    assert again.result("B03")["revision"] == 2
    assert asked(again) == [replace(plate, revisions=2)]


def test_plates_that_were_finished_before_there_was_a_command_are_let_be(tmp_path: Path) -> None:
    desk = finished(tmp_path, {"results": {"plate_refresh_s": 0.0}})
    again = desk.restart(tmp_path, COMMAND)
    again.tell(plate_news(PlateState.FINISHED))
    again.pass_time(1)
    assert asked(again) == []
    assert again.plate()["on_plate_finished"] is None
