"""`hcs-daemon simulate` on the command line: it writes what is asked for, and says what the settings need."""

import re
from pathlib import Path

import pytest

from hcs_daemon.__main__ import main
from hcs_daemon.config import load_settings
from hcs_daemon.simulate.vendors import VENDORS

SETTINGS = """
[watch]
directory = "in"
[expect]
bit_depth = 16
channels = {channels}
[model]
package = "demo"
[results]
directory = "out"
"""


def simulate(folder: Path, *options: str) -> int:
    return main(["simulate", str(folder / "in"), "--wells", "6", "--size", "32", *options])


def test_without_an_instrument_the_files_are_those_of_harmony(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [f"30 planes of 6 wells in {next((tmp_path / 'in').iterdir())}"]
    assert len(list(tmp_path.glob("in/*/Images/r0*.tiff"))) == 30


@pytest.mark.parametrize("instrument", sorted(set(VENDORS) - {"arrayscan"}))
def test_z_steps_and_time_points_are_taken_of_every_site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], instrument: str
) -> None:
    assert simulate(tmp_path, "--instrument", instrument, "--z-steps", "2", "--time-points", "2") == 0
    assert capsys.readouterr().out.startswith("120 planes of 6 wells in ")


def test_what_a_grammar_cannot_say_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(tmp_path, "--instrument", "arrayscan", "--z-steps", "2") == 2
    assert capsys.readouterr().err.splitlines() == [
        "file names of arrayscan have no z",
        "choose one z step, or another instrument",
    ]


@pytest.mark.parametrize("option", ["--z-steps", "--time-points"])
@pytest.mark.parametrize("number", ["0", "100"])
def test_a_depth_that_no_file_name_holds_is_refused(tmp_path: Path, option: str, number: str) -> None:
    assert simulate(tmp_path, option, number) == 2
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("instrument", VENDORS)
def test_it_says_how_the_settings_name_channels_that_are_not_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], instrument: str
) -> None:
    simulate(tmp_path, "--instrument", instrument)
    said = re.search(r"expect\.channels = (.*)", capsys.readouterr().out)
    assert (said is not None) == (instrument in {"incell", "scanr", "ome"})
    if said is not None:
        path = tmp_path / "config.toml"
        path.write_text(SETTINGS.format(channels=said[1]), encoding="utf-8")
        assert tuple(load_settings(path).expect.channels.values()) == VENDORS[instrument].manner.channels


def test_it_says_which_files_do_not_tell_their_pixel_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(tmp_path, "--instrument", "arrayscan")
    assert "in the settings: expect.pixel_size_um = 1.196" in capsys.readouterr().out


def test_help_names_every_instrument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--help"]) == 0
    words = set(re.findall(r"[a-z]+", capsys.readouterr().out))
    assert set(VENDORS) <= words
