"""One daemon a results folder, whatever became of the one before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hcs_daemon.errors import FolderError, ResultsHeldError
from hcs_daemon.publish.lock import ResultsLock

HOLD = """
import os, sys
from pathlib import Path
from hcs_daemon.publish.lock import ResultsLock
lock = ResultsLock(Path(sys.argv[1]))
lock.acquire()
print(os.getpid(), flush=True)
sys.stdin.readline()
os._exit(9)  # as one that is killed: nothing is let go of
"""


def test_a_second_daemon_is_refused_by_name_and_let_in_once_the_first_was_killed(tmp_path: Path) -> None:
    lock = ResultsLock(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        pid = first.stdout.readline().strip()
        with pytest.raises(ResultsHeldError) as refused:
            lock.acquire()
        assert refused.value.exit_code == 5
        assert f"process {pid} on " in refused.value.message
        assert str(tmp_path) in refused.value.message
        lock.release()  # of one that was never held: the first is still named
        with pytest.raises(ResultsHeldError, match=f"process {pid}"):
            ResultsLock(tmp_path).acquire()
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.wait(60) == 9
    lock.acquire()
    assert f"process {os.getpid()} on " in (tmp_path / ".hcs-daemon.pid").read_text()
    lock.release()
    lock.release()
    assert not (tmp_path / ".hcs-daemon.pid").exists()
    ResultsLock(tmp_path).acquire()


def test_the_holder_is_told_without_trying_the_lock_and_not_once_it_was_killed(tmp_path: Path) -> None:
    lock, other = ResultsLock(tmp_path), ResultsLock(tmp_path)
    assert other.holder() is None
    lock.acquire()
    own = other.holder()
    assert own is not None
    assert own.startswith(f"process {os.getpid()} on ")
    lock.release()
    assert other.holder() is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        pid = killed.stdout.readline().strip()
        assert (other.holder() or "").startswith(f"process {pid} on ")
        killed.communicate("\n", timeout=60)
    if sys.platform != "win32":
        assert other.holder() is None
    pid_file = tmp_path / ".hcs-daemon.pid"
    pid_file.write_text(f"process {pid} on another.example")
    assert other.holder() == f"process {pid} on another.example"
    pid_file.write_text("half a li")
    assert other.holder() is None


def test_a_folder_that_cannot_be_locked_is_said(tmp_path: Path) -> None:
    (tmp_path / ".hcs-daemon.lock").mkdir()
    with pytest.raises(FolderError) as refused:
        ResultsLock(tmp_path).acquire()
    assert refused.value.exit_code == 4
    assert refused.value.hint
