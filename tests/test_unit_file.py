"""The systemd units are ones that systemd takes and judges safe, and agree with the program and with each other."""

import configparser
import getpass
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hcs_daemon import service
from hcs_daemon.errors import FolderError, HcsError, PackageError, ResultsHeldError, SettingsError

FOLDER = Path(__file__).resolve().parent.parent / "systemd"
UNIT, TEMPLATE = FOLDER / "hcs-daemon.service", FOLDER / "hcs-daemon@.service"
BOTH = pytest.mark.parametrize("path", [UNIT, TEMPLATE], ids=["one instrument", "several"])
PROGRAM = "/opt/hcs-daemon/.venv/bin/hcs-daemon"
WORST = 1.5
"""Of systemd's exposure levels, from 0 (none) to 10."""


def read(path: Path) -> configparser.ConfigParser:
    """A unit; of a key that stands there more than once, the last."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # keys are as systemd writes them
    parser.read(path, "utf-8")
    return parser


@pytest.fixture
def unit() -> configparser.ConfigParser:
    return read(UNIT)


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("no systemd-analyze here")
    return found


@BOTH
def test_systemd_takes_the_unit(path: Path, analyze: str, tmp_path: Path) -> None:
    """Verified with a user and a program that are here: the unit's own exist on an installed machine only."""
    text = path.read_text("utf-8").replace(PROGRAM, sys.executable)
    text = text.replace("User=hcs-daemon", f"User={getpass.getuser()}").replace("Group=hcs-daemon\n", "")
    copy = tmp_path / path.name.replace("@.", "@confocal.")
    copy.write_text(text, "utf-8")
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "hcs-daemon" in line]
    assert complaints == []
    assert done.returncode == 0


@BOTH
def test_systemd_judges_the_unit_safe(path: Path, analyze: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = [analyze, "security", "--offline=true", "--no-pager", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    if not told:
        pytest.skip("this systemd cannot judge a unit that is not installed: 250 or newer can")
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert score is not None
    with capsys.disabled():
        sys.stdout.write(f"\n{path.name}: exposure {score[1]}, at most {WORST} wanted\n")
    assert float(score[1]) <= WORST


def test_the_template_is_the_unit_with_an_instrument_in_its_names() -> None:
    expected = UNIT.read_text("utf-8")
    for of_one, of_several in (
        ("Description=hcs-daemon:", "Description=hcs-daemon for %i:"),
        ("/etc/hcs-daemon/config.toml", "/etc/hcs-daemon/%i.toml"),
        ("StateDirectory=hcs-daemon\n", "StateDirectory=hcs-daemon/%i\n"),
        ("CacheDirectory=hcs-daemon\n", "CacheDirectory=hcs-daemon/%i\n"),
        ("%C/hcs-daemon", "%C/hcs-daemon/%i"),
    ):
        assert of_one in expected
        expected = expected.replace(of_one, of_several)
    assert TEMPLATE.read_text("utf-8") == expected


def test_it_runs_as_a_user_of_its_own_and_says_when_it_is_ready(unit: configparser.ConfigParser) -> None:
    made = (FOLDER / "sysusers.d" / "hcs-daemon.conf").read_text("utf-8")
    assert (unit["Service"]["Type"], unit["Service"]["NotifyAccess"]) == ("notify", "main")
    assert unit["Service"]["ExecStart"] == f"{PROGRAM} run -c /etc/hcs-daemon/config.toml"
    assert f"\nu {unit['Service']['User']} " in made


def test_only_what_a_restart_can_cure_is_restarted_and_for_as_long_as_it_takes(
    unit: configparser.ConfigParser,
) -> None:
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    prevented = {int(code) for code in unit["Service"]["RestartPreventExitStatus"].split()}
    assert prevented == {SettingsError.exit_code, PackageError.exit_code, ResultsHeldError.exit_code}
    assert not prevented & {HcsError.exit_code, FolderError.exit_code}


def test_code_may_be_made_at_run_time_since_torch_does_and_the_card_is_seen(unit: configparser.ConfigParser) -> None:
    assert "MemoryDenyWriteExecute" not in unit["Service"]
    assert "PrivateDevices" not in unit["Service"]
    assert unit["Service"]["DeviceAllow"] == "char-nvidia* rw"


def test_what_the_service_asks_for_is_within_what_systemd_grants(unit: configparser.ConfigParser) -> None:
    granted = {key: int(value) for key, value in unit["Service"].items() if key.endswith("Sec")}
    # the watching thread looks four times a second; whether a stage hangs is its own judgement, not the watchdog's
    assert 10 <= granted["WatchdogSec"] <= service.STUCK_S
    # each time more is asked for than passes until the next
    assert granted["TimeoutStartSec"] > service.STARTING_S


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="no systemd-tmpfiles here")
def test_the_user_and_the_folders_are_made_by_systemd_itself(tmp_path: Path) -> None:
    """Below a folder: nothing of this machine is touched."""
    (tmp_path / "etc").mkdir()
    for tool, entry in (("systemd-sysusers", "sysusers.d"), ("systemd-tmpfiles", "tmpfiles.d")):
        create = ["--create"] if entry == "tmpfiles.d" else []
        command = [tool, *create, f"--root={tmp_path}", str(FOLDER / entry / "hcs-daemon.conf")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "Operation not permitted" in done.stderr:
            pytest.skip("only root can give folders to another user")
        assert done.returncode == 0, done.stderr
    assert "hcs-daemon:" in (tmp_path / "etc" / "passwd").read_text("utf-8")
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("etc/hcs-daemon", "var/lib/hcs-daemon")}
    assert modes == {"etc/hcs-daemon": 0o755, "var/lib/hcs-daemon": 0o750}
