"""docs/first-plate.md runs as it stands: one command after the other, in a folder that holds nothing but `.venv`."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "first-plate.md"


def commands() -> list[str]:
    """The commands of each step."""
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def free_of_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HCS_DAEMON__")}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_every_command_of_the_first_plate_runs_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    steps = commands()
    said = subprocess.run(
        ["bash", "-e", "-c", "\n".join(steps)],
        cwd=tmp_path,
        env=free_of_settings(),
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr[-3000:]
    assert "ready: `hcs-daemon run` would start with this" in said.stdout
    assert "6 wells: 6 complete, 0 partial, 0 rejected" in said.stdout
    assert "as it was recorded" in said.stdout
    assert "intact" in said.stdout
    assert "exit code 1" in said.stdout
    assert said.stdout.count("bit_depth") >= 1
    results = tmp_path / "first-plate" / "results"
    for plate in ("PLATE1", "PLATE2"):
        (state,) = results.glob(f"{plate}/*/plate.json")
        assert json.loads(state.read_bytes())["state"] == "finished"
    assert len(list(results.glob("PLATE1/*/wells/*.png"))) == 6


def test_the_first_plate_shows_every_command_of_a_new_user() -> None:
    shown = " ".join(commands())
    for name in ("simulate", "validate", "check", "process", "trace", "ledger verify", "run", "status"):
        assert f"hcs-daemon {name} " in shown
