"""The systemd unit is one that systemd takes, and agrees with the program's exit codes."""

import configparser
import getpass
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hcs_daemon.errors import FolderError, HcsError, PackageError, ResultsHeldError, SettingsError

UNIT = Path(__file__).resolve().parent.parent / "systemd" / "hcs-daemon.service"


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # keys are as systemd writes them
    parser.read(UNIT, "utf-8")
    return parser


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Verified with a user and a program that are here: the unit's own exist on an installed machine only."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    text = UNIT.read_text("utf-8").replace("/opt/hcs-daemon/.venv/bin/hcs-daemon", sys.executable)
    text = text.replace("User=hcs-daemon", f"User={getpass.getuser()}").replace("Group=hcs-daemon\n", "")
    copy = tmp_path / UNIT.name
    copy.write_text(text, "utf-8")
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert complaints == []
    assert done.returncode == 0


def test_it_runs_as_a_user_of_its_own_and_says_when_it_is_ready(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert (service["Type"], service["User"]) == ("notify", "hcs-daemon")
    assert service["ExecStart"] == "/opt/hcs-daemon/.venv/bin/hcs-daemon run -c /etc/hcs-daemon/config.toml"


def test_only_what_a_restart_can_cure_is_restarted(unit: configparser.ConfigParser) -> None:
    assert unit["Service"]["Restart"] == "on-failure"
    prevented = {int(code) for code in unit["Service"]["RestartPreventExitStatus"].split()}
    assert prevented == {SettingsError.exit_code, PackageError.exit_code, ResultsHeldError.exit_code}
    assert not prevented & {HcsError.exit_code, FolderError.exit_code}


def test_code_may_be_made_at_run_time_since_torch_does(unit: configparser.ConfigParser) -> None:
    assert "MemoryDenyWriteExecute" not in unit["Service"]


def test_what_the_device_holds_may_be_finished_within_its_time(unit: configparser.ConfigParser) -> None:
    assert int(unit["Service"]["TimeoutStopSec"]) > 30
