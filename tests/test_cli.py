"""The door: every command's words and exit codes. What commands do is specified beside what does it."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import structlog
from numpy.typing import NDArray
from torch import nn

from hcs_daemon import __version__
from hcs_daemon.__main__ import main
from hcs_daemon.config import load_settings
from hcs_daemon.device.manifest import ChannelEntry, Normalisation
from hcs_daemon.endpoints import Endpoints
from hcs_daemon.errors import FolderError
from hcs_daemon.publish.ledger import Ledger
from hcs_daemon.publish.lock import ResultsLock
from hcs_daemon.service import Daemon
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.simulate.spoil import truncated
from hcs_daemon.telemetry import Telemetry
from hcs_daemon.tiff import encode_plane
from model_packages import ChannelMeans, manifest, write_tiny_package
from processes import PROGRAM, free_port, json_lines, wait_until

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
COMMANDS = [
    ["run"],
    ["process"],
    ["check"],
    ["validate"],
    ["demo"],
    ["simulate"],
    ["replay"],
    ["status"],
    ["model", "show"],
    ["model", "verify"],
    ["ledger", "verify"],
]


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


Door = Callable[..., Said]


@pytest.fixture
def door(capsys: pytest.CaptureFixture[str]) -> Iterator[Door]:
    """Runs a command as the program would, in this process."""

    def run(*arguments: object) -> Said:
        code = main([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    yield run
    structlog.reset_defaults()  # a command's log must not outlive it


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of the simulated instrument's channels, that knows nothing of cells."""
    made = manifest(
        channels=tuple(ChannelEntry(name=name, stain=f"{name} stain") for name in CHANNELS),
        normalisation=tuple(Normalisation(kind="asinh", offset=128.0, scale=300.0) for _ in CHANNELS),
    )
    weights = [[0.0] * 5, [1.0, 0, 0, 0, 0], [0, 0, 0, 0, 1.0]]
    return write_tiny_package(tmp_path_factory.mktemp("package"), ChannelMeans(weights, nn.Tanh()), made)


@dataclass(frozen=True, slots=True)
class Lab:
    """Folders and a settings file that go with each other."""

    folder: Path
    package: Path

    @property
    def incoming(self) -> Path:
        return self.folder / "incoming"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def config(self, expect: str = "", port: int = 0) -> Path:
        """Write the settings. expect: more lines of that section."""
        channels = ", ".join(f'{name} = "{number}"' for number, name in enumerate(CHANNELS, 1))
        path = self.folder / "config.toml"
        path.write_text(
            f"""
            [watch]
            directory = "incoming"
            settle_s = 0.2
            rescan_s = 0.5
            [expect]
            bit_depth = 16
            channels = {{ {channels} }}
            {expect}
            [model]
            package = '{self.package}'
            device = "cpu"
            max_wait_s = 0.1
            [explain]
            policy = "none"
            [results]
            directory = "results"
            min_free_bytes = 0
            pictures = "none"
            [http]
            port = {port}
            """,
            "utf-8",
        )
        return path

    def plate(self, wells: int = 6, size_px: int = 64) -> Path:
        """A small simulated plate; its folder."""
        return simulate_plate(self.incoming, sleep=no_sleep, wells=wells, size_px=size_px).folder


@pytest.fixture
def lab(tmp_path: Path, package: Path) -> Lab:
    (tmp_path / "incoming").mkdir()
    return Lab(tmp_path, package)


def no_sleep(seconds: float) -> None:
    """As fast as possible means without a pause."""
    pytest.fail(f"slept {seconds} s")


def is_two_lines(text: str) -> bool:
    """What is wrong, and what to do."""
    return len(text.splitlines()) == 2 and all(text.splitlines())


# ---- the door itself


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(door: Door, command: list[str]) -> None:
    said = door(*command, "--help")
    assert said.code == 0
    assert f"Example: hcs-daemon {' '.join(command)} " in said.out


def test_the_help_names_every_command(door: Door) -> None:
    listed = door("--help").out
    assert all(f"\n  {command[0]} " in listed for command in COMMANDS)


def test_the_version_is_the_packages(door: Door) -> None:
    assert door("--version") == Said(0, f"hcs-daemon {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "command"),
        (["chek"], "check"),
        (["run"], "--config"),
        (["process", "-c", "x.toml"], "PLATE"),
        (["validate"], "PATH"),
        (["simulate", "x", "--wells", "many"], "--wells"),
        (["model"], "command"),
        (["model", "show"], "PACKAGE"),
        (["status", "-c", "x.toml", "--xml"], "--xml"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_refused_in_two_lines(door: Door, arguments: list[str], named: str) -> None:
    said = door(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert is_two_lines(said.err)
    assert named in said.err.splitlines()[0]
    assert "--help" in said.err.splitlines()[1]


@pytest.mark.parametrize("command", [["run"], ["process", "."], ["check"], ["status"], ["validate", "."]], ids=" ".join)
def test_settings_that_are_not_there_are_refused_in_two_lines(door: Door, command: list[str], tmp_path: Path) -> None:
    said = door(*command, "-c", tmp_path / "nothing.toml")
    assert (said.code, said.out) == (2, "")
    assert is_two_lines(said.err)
    assert "nothing.toml" in said.err


def test_what_needs_no_network_never_loads_one(lab: Lab) -> None:
    plate, config = lab.plate(), lab.config(port=free_port())
    Ledger(lab.folder).append("P/1/wells/B03.json", 1, "0" * 64, datetime(2026, 1, 1, tzinfo=UTC))
    commands: list[list[object]] = [
        ["--help"],
        ["--version"],
        ["validate", plate, "-c", config],
        ["simulate", lab.folder / "again", "--wells", 6, "--size", 64],
        ["replay", plate, lab.folder / "copy", "--speed", 0],
        ["status", "-c", config],
        ["ledger", "verify", lab.folder],
        ["model", "show", lab.package],
    ]
    program = f"""
import sys
from hcs_daemon.__main__ import main
for arguments in {[list(map(str, command)) for command in commands]!r}:
    main(arguments)
    found = {{"torch", "captum"}} & set(sys.modules)
    assert not found, (arguments, found)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- process


def test_processing_a_whole_plate_says_where_its_results_are(door: Door, lab: Lab) -> None:
    said = door("process", lab.plate(), "-c", lab.config())
    assert said.code == 0, said.err
    assert "6 wells: 6 complete, 0 partial, 0 rejected" in said.out
    folder = lab.results / "SIM0001" / "2024-01-01T00_00_00-Measurement 1"
    assert str(folder) in said.out
    assert len(list((folder / "wells").glob("*.json"))) == 6


def test_a_refused_file_makes_it_end_with_1_and_is_counted_by_its_reason(door: Door, lab: Lab) -> None:
    plate = lab.plate()
    plane = plate / "Images" / "r01c01f01p01-ch1sk1fk1fl1.tiff"
    plane.write_bytes(truncated(plane.read_bytes()))
    (plate / "Images" / "notes.docx").write_bytes(b"of no plate")
    for _ in range(2):  # and again, when all is done already
        said = door("process", plate, "-c", lab.config(), "--results", lab.folder / "elsewhere")
        assert said.code == 1
        assert "6 wells: 5 complete, 0 partial, 1 rejected" in said.out
        assert "2 files rejected: " in said.out
        assert "truncated 1" in said.out
        assert "unknown_name 1" in said.out
    assert not lab.results.exists()


def test_a_folder_without_wells_is_not_called_complete(door: Door, lab: Lab) -> None:
    said = door("process", lab.incoming, "-c", lab.config(), "--results", lab.folder / "elsewhere")
    assert said.code == 1
    assert "no well was found" in said.out


def test_the_watched_folder_need_not_be_there_for_process(door: Door, lab: Lab) -> None:
    plate = lab.plate().rename(lab.folder / "moved__1")
    lab.incoming.rmdir()
    assert door("process", plate, "-c", lab.config()).code == 0


def test_a_plate_that_is_not_there_cannot_be_processed(door: Door, lab: Lab) -> None:
    said = door("process", lab.folder / "nothing", "-c", lab.config())
    assert said.code == 4
    assert is_two_lines(said.err)


@pytest.fixture
def root_beside(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Root, and a results folder that is another user's."""
    if sys.platform == "win32":
        pytest.skip("there is no root on Windows")
    lab.results.mkdir()
    if os.geteuid() == 0:
        os.chown(lab.results, 12345, 12345)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return lab


def test_root_writes_nothing_into_results_of_another_user(door: Door, root_beside: Lab) -> None:
    said = door("process", root_beside.plate(), "-c", root_beside.config())
    assert said.code == 4
    assert is_two_lines(said.err)
    assert f"`sudo -u {_owner(root_beside.results)} hcs-daemon …`" in said.err
    with pytest.raises(FolderError, match="could not write what root makes there"):
        Daemon(load_settings(root_beside.config()), threading.Event()).run()
    assert list(root_beside.results.iterdir()) == []


def _owner(folder: Path) -> str:
    number = folder.stat().st_uid
    return "'#12345'" if number == 12345 else folder.owner()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a console's Ctrl+C cannot be sent to one process there")
def test_ctrl_c_ends_processing_without_a_traceback_and_what_was_written_stays(lab: Lab) -> None:
    plate = lab.plate(wells=96, size_px=540)
    command = [str(PROGRAM), "process", str(plate), "-c", str(lab.config())]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: next(lab.results.glob("*/*/wells/*.json"), None) is not None, 60.0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    wells = list(lab.results.glob("*/*/wells/*.json"))
    assert 1 <= len(wells) < 96
    assert main(["ledger", "verify", str(lab.results)]) == 0
    assert len(json_lines(lab.results / "ledger.jsonl")) == len(wells)


# ---- run


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM there")
def test_run_waits_for_a_folder_that_is_not_there_and_two_signals_stop_it_cleanly(lab: Lab) -> None:
    lab.incoming.rmdir()
    config = lab.config(port=free_port())
    with subprocess.Popen([PROGRAM, "run", "-c", config], stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: main(["status", "-c", str(config)]) == 1, 60.0)
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in err
    assert "is not there" in err


# ---- check


def test_check_says_what_run_would_do(door: Door, lab: Lab) -> None:
    said = door("check", "-c", lab.config("pixel_size_um = 0.5", port=free_port()))
    assert said.code == 0, said.err
    for words in (
        "events",
        "DNA from 1",
        "Mito from 5",
        "control",
        "resampled by 2",
        "self-test passed",
        "it would make",
    ):
        assert words in said.out
    assert not lab.results.exists()
    assert said.out.splitlines()[-1].startswith("ready")


def test_check_says_where_settings_came_from_and_what_a_finished_plate_has_run(door: Door, lab: Lab) -> None:
    config = lab.config()
    said = door("check", "-c", config)
    assert re.search(r"settle_s = 0\.2 +config\.toml:4\n", said.out)
    assert re.search(r"polling = \"auto\" +default\n", said.out)
    assert "no command is run for a finished plate" in said.out
    command = f"on_plate_finished = ['{sys.executable}', '{{plate}}']"
    config.write_text(
        config.read_text("utf-8").replace("min_free_bytes = 0", f"min_free_bytes = 0\n{command}"), "utf-8"
    )
    assert f"is told by {sys.executable} '{{plate}}', which may take 60 s" in door("check", "-c", config).out
    config.write_text(config.read_text("utf-8").replace(sys.executable, "/nowhere/told"), "utf-8")
    said = door("check", "-c", config)
    assert said.code == 2
    assert "/nowhere/told is not there" in said.err


@pytest.mark.parametrize(("policy", "tried"), [("none", False), ("hits", True)])
def test_check_says_what_became_of_the_model_with_random_weights(
    door: Door, lab: Lab, policy: str, *, tried: bool
) -> None:
    config = lab.config()
    config.write_text(config.read_text("utf-8").replace('policy = "none"', f'policy = "{policy}"'), "utf-8")
    said = door("check", "-c", config)
    assert said.code == 0, said.err
    assert ("tried with random weights: its maps change" in said.out) is tried


def test_check_describes_what_lies_in_the_folder(door: Door, lab: Lab) -> None:
    (lab.plate() / "Images" / "notes.tif").write_bytes(b"text")
    said = door("check", "-c", lab.config())
    assert said.code == 0, said.err
    topics = [line.split("  ")[0] for line in said.out.splitlines() if not line.startswith(" ")]
    assert topics[2:11] == [
        "watch",
        "names",
        "plates",
        "expected",
        "mapping",
        "pixel size",
        "flat field",
        "layout",
        "rejected",
    ]
    for words in (
        "as harmony: 31 of 32 names fit",
        "6 wells, 1 site a well, 30 planes",
        "30 planes to analyse, by Index.xml; 30 are there",
        'DNA = "1": channel 1 (DNA), 6 planes',
        "1.196 µm a pixel",
        "1 file as unknown_name, such as SIM0001__",
    ):
        assert words in said.out


def test_check_ends_with_2_where_the_files_contradict_the_settings(door: Door, lab: Lab) -> None:
    lab.plate()
    said = door("check", "-c", lab.config("pixel_size_um = 1.0"))
    assert said.code == 2
    assert is_two_lines(said.err)
    assert "expect.pixel_size_um says 1 µm" in said.err
    assert "device      cpu" in said.out


def test_check_says_everything_that_is_wrong(door: Door, lab: Lab) -> None:
    lab.incoming.rmdir()
    lab.results.write_bytes(b"a file")
    said = door("check", "-c", lab.config("container = 'uint16'\npixel_size_um = 50.0"))
    assert said.code == 2
    assert len(said.err.splitlines()) == 6
    for words in ("incoming is not there", "expect.pixel_size_um", "results"):
        assert words in said.err


def test_check_names_a_damaged_model_and_ends_with_3(door: Door, lab: Lab) -> None:
    copy = lab.folder / "package"
    copy.mkdir()
    for path in lab.package.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "model.pt2").write_bytes(b"not it")
    said = door("check", "-c", Lab(lab.folder, copy).config())
    assert said.code == 3
    assert is_two_lines(said.err)
    assert "SHA-256" in said.err
    assert door("model", "verify", copy).code == 3


def test_check_ends_with_4_where_the_watched_folder_is_away(door: Door, lab: Lab) -> None:
    lab.incoming.rmdir()
    said = door("check", "-c", lab.config())
    assert said.code == 4
    assert "would wait" in said.err


def test_check_beside_a_running_daemon_says_so_and_goes_on(
    door: Door, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.results.mkdir()
    lock = ResultsLock(lab.results)
    lock.acquire()
    monkeypatch.setattr(ResultsLock, "acquire", None)  # a daemon that starts meanwhile must not find it taken
    try:
        said = door("check", "-c", lab.config())
    finally:
        lock.release()
    assert said.code == 0
    assert f"the service is running (process {os.getpid()} on " in said.out
    assert "finished    no command" in said.out
    assert "http        " not in said.out
    said = door("check", "-c", lab.config())
    assert said.code == 0
    assert "is running" not in said.out
    assert "http        " in said.out


def test_check_by_root_says_whose_rights_it_did_not_try(door: Door, root_beside: Lab) -> None:
    said = door("check", "-c", root_beside.config())
    assert said.code == 0
    assert f"to try the service's: sudo -u {_owner(root_beside.results)} hcs-daemon check" in said.out
    assert f"ready: `sudo -u {_owner(root_beside.results)} hcs-daemon run` would start" in said.out  # root's would not


# ---- validate


def test_validate_tells_of_each_channel_in_a_table(door: Door, lab: Lab) -> None:
    said = door("validate", lab.plate())
    assert said.code == 0
    rows = [line.split() for line in said.out.splitlines() if line.startswith("  SIM0001")]
    assert [row[1:4] for row in rows] == [[str(channel), "6", "uint16"] for channel in range(1, 6)]
    assert "all accepted" in said.out


def test_validate_writes_one_line_of_json_a_file(door: Door, lab: Lab) -> None:
    plate = lab.plate()
    (plate / "Images" / "r01c01f01p01-ch2sk1fk1fl1.tiff").write_bytes(b"text")
    said = door("validate", plate, "--json", "-c", lab.config())
    assert said.code == 1
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert len(lines) == 30
    assert [line["reason"] for line in lines if line["reason"] is not None] == ["not_an_image"]
    assert {line["channel"] for line in lines} == set(CHANNELS)


def test_validate_says_why_and_what_to_do(door: Door, lab: Lab) -> None:
    plate = lab.plate()
    for column in (1, 2, 3):
        (plate / "Images" / f"r01c{column:02d}f01p01-ch2sk1fk1fl1.tiff").write_bytes(b"text")
    said = door("validate", plate)
    assert said.code == 1
    assert said.out.count("does not begin like a TIFF") == 3
    assert said.out.count("remove it or name it for what it is") == 1
    assert "3 files rejected: not_an_image 3" in said.out


def test_validate_reads_the_names_of_any_instrument(door: Door, tmp_path: Path) -> None:
    plate = simulate_plate(tmp_path, sleep=no_sleep, wells=6, size_px=64, instrument="cellvoyager").folder
    said = door("validate", plate, "--json")
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 0
    assert {(line["instrument"], line["plate"]) for line in lines} == {("cellvoyager", "SIM0001")}
    assert {line["channel"] for line in lines} == {f"C{number:02d}" for number in range(1, 6)}


def test_validate_takes_folders_of_different_instruments_at_once(door: Door, tmp_path: Path) -> None:
    plates = [
        simulate_plate(tmp_path / name, sleep=no_sleep, plate=name, wells=6, size_px=64, instrument=name).folder
        for name in ("harmony", "cellvoyager", "arrayscan")
    ]
    said = door("validate", *plates, "--json")
    found = {(line["instrument"], line["plate"]) for line in map(json.loads, said.out.splitlines())}
    assert found == {("harmony", "harmony"), ("cellvoyager", "cellvoyager"), ("arrayscan", "arrayscan")}


def test_validate_says_which_names_do_not_tell_where_a_file_belongs(door: Door, lab: Lab) -> None:
    image = next(lab.plate().rglob("*-ch1sk1*.tiff"))
    image.rename(image.with_name("DNA, first well.tiff"))
    said = door("validate", lab.incoming)
    assert said.code == 0
    assert "1 file of no plate, by the name, such as " in said.out
    assert "DNA, first well.tiff: no instrument names a plane like this" in said.out


def test_validate_of_nothing_says_so(door: Door, tmp_path: Path) -> None:
    said = door("validate", tmp_path)
    assert said.code == 1
    assert "no image was found" in said.out
    assert door("validate", tmp_path / "nothing").code == 4


def camera(seed: int, *, mean: float, full: int, side: int = 64, spread: float = 4) -> NDArray[np.uint16]:
    light = np.full((side, side), mean)
    light[:16] *= 3
    noisy = np.random.default_rng(seed).normal(light, spread * np.sqrt(light)).clip(0, full)
    return noisy.astype(np.uint16)


def channel_of(folder: Path, planes: Iterable[NDArray[np.uint16]]) -> Path:
    """A plate of one channel, a well a plane."""
    images = folder / "P1__M1" / "Images"
    images.mkdir(parents=True)
    for column, pixels in enumerate(planes, 1):
        (images / f"r01c{column:02d}f01p01-ch1sk1fk1fl1.tiff").write_bytes(encode_plane(pixels))
    return folder


def test_validate_says_in_words_what_a_channel_is_and_how_sure_that_is(door: Door, tmp_path: Path) -> None:
    bright = channel_of(tmp_path / "bright", [camera(seed, mean=9000, full=65535) for seed in range(3)])
    said = door("validate", bright)
    assert said.code == 0
    (row,) = [line.split("  ") for line in said.out.splitlines() if line.startswith("  P1")]
    assert [cell.strip() for cell in row if cell][-1] == "consistent"
    assert "88%" in said.out
    assert "P1 1: 16 bits, as its files claim: 3 of 3 planes have values beyond 16383" in said.out


def test_validate_finds_a_camera_with_fewer_bits_than_its_files_and_refuses_it_only_where_more_are_expected(
    door: Door, lab: Lab, tmp_path: Path
) -> None:
    saturating = channel_of(tmp_path / "twelve", [camera(seed, mean=2000, full=4095) for seed in range(3)])
    said = door("validate", saturating)
    assert said.code == 0
    words = "P1 1: its files are 16-bit, and it is not 16 bits: 3 of 3 planes end at 4095, the full scale of 12 bits"
    assert words in said.out
    assert said.out.splitlines()[-1] == "every file accepted, and 1 channel is not what it claims: P1 1"
    expected = door("validate", saturating, "-c", lab.config())
    assert expected.code == 1
    assert "3 files rejected: bit_depth 3" in expected.out


def test_validate_fails_when_only_the_channel_as_a_whole_contradicts_the_settings(
    door: Door, lab: Lab, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    source = [camera(seed, mean=60, full=4095, side=256, spread=0.5) for seed in range(4)]
    filled = [plane * 16 + rng.integers(0, 16, plane.shape, np.uint16) for plane in source]
    folder = channel_of(tmp_path / "filled", filled)
    for arguments in ((folder, "-c", lab.config()), (folder,)):
        said = door("validate", *arguments)
        assert "values of 12 bits, multiplied by 16 and filled up with noise" in said.out
        assert "all accepted" not in said.out
        assert said.out.splitlines()[-1].startswith("every file accepted, and 1 channel is not what it claims: P1 ")
        assert said.code == 1


def test_validate_tells_what_is_odd_about_honest_8_bit_planes(door: Door, shared_data: Path) -> None:
    said = door("validate", shared_data / "arrayscan-8bit")
    assert said.code == 0
    assert "1 plane leaves out values between frequent ones" in said.out


# ---- status


def busy_daemon() -> Telemetry:
    """What a daemon at work would have counted."""
    made = Telemetry("1.2.3")
    made.ready.set(1)
    made.model_info.labels("demo", "1.0", "a" * 64).set(1)
    made.device_info.labels("cpu", "CPU").set(1)
    made.planes_pending.set(7)
    made.wells.labels("complete").inc(3)
    made.rejections.labels("truncated").inc(2)
    return made


@pytest.mark.parametrize(
    ("answers", "code", "words"),
    [
        ((None, None), 0, "ready"),
        ((None, "the watched folder is away"), 1, "NOT READY: the watched folder is away"),
        (("device failed", None), 1, "NOT HEALTHY: device failed"),
    ],
)
def test_status_tells_what_a_daemon_is_doing(
    door: Door, lab: Lab, answers: tuple[str | None, str | None], code: int, words: str
) -> None:
    endpoints = Endpoints("127.0.0.1", 0, busy_daemon().render, lambda: answers[0], lambda: answers[1])
    endpoints.start()
    try:
        said = door("status", "-c", lab.config(port=endpoints.port))
        as_json = door("status", "-c", lab.config(port=endpoints.port), "--json")
    finally:
        endpoints.stop()
    assert (said.code, as_json.code) == (code, code)
    assert said.out.startswith(words)
    for part in ("demo 1.0 on cpu", "7 pending", "3 complete", "2 truncated"):
        assert part in said.out
    found = json.loads(as_json.out)
    assert (found["planes_pending"], found["wells"]["complete"], found["rejections"]) == (7, 3, {"truncated": 2})
    assert found["model"] == {"name": "demo", "version": "1.0", "sha256": "a" * 64}
    assert set(found["last_progress"]) == {"scan", "decode", "assemble", "infer", "explain", "publish"}


def test_status_says_that_nothing_is_running(door: Door, lab: Lab) -> None:
    said = door("status", "-c", lab.config(port=free_port()))
    assert (said.code, said.out) == (6, "")
    assert is_two_lines(said.err)


def test_status_is_not_taken_in_by_another_program(door: Door, lab: Lab) -> None:
    endpoints = Endpoints("127.0.0.1", 0, lambda: b"other_metric 1\n", lambda: None, lambda: None)
    endpoints.start()
    try:
        said = door("status", "-c", lab.config(port=endpoints.port))
    finally:
        endpoints.stop()
    assert said.code == 6
    assert "another program" in said.err


def test_status_needs_a_port(door: Door, lab: Lab) -> None:
    said = door("status", "-c", lab.config(port=0))
    assert said.code == 2
    assert "http.port" in said.err


# ---- ledger


def test_a_ledger_is_intact_until_a_result_is_changed(door: Door, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for well in ("B03", "B04"):
        path = tmp_path / "P" / "1" / "wells" / f"{well}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(well.encode())
        digest = hashlib.sha256(well.encode()).hexdigest()
        ledger.append(f"P/1/wells/{well}.json", 1, digest, datetime(2026, 1, 1, tzinfo=UTC))
    assert door("ledger", "verify", tmp_path).code == 0
    (tmp_path / "P" / "1" / "wells" / "B04.json").write_bytes(b"better")
    said = door("ledger", "verify", tmp_path)
    assert said.code == 1
    assert "B04.json" in said.out


@pytest.mark.parametrize("name", ["", "nothing"])
def test_a_folder_without_a_ledger_is_not_called_intact(door: Door, tmp_path: Path, name: str) -> None:
    said = door("ledger", "verify", tmp_path / name)
    assert (said.code, said.out) == (4, "")
    assert is_two_lines(said.err)


# ---- model


def test_a_package_is_shown_and_verified_in_words(door: Door, package: Path) -> None:
    shown = door("model", "show", package)
    assert shown.code == 0
    for words in ("tiny 1.0", "DNA: DNA stain", "control, broken, odd", "16 bits in uint16", "For tests."):
        assert words in shown.out
    verified = door("model", "verify", package)
    assert verified.code == 0
    assert [line.split()[0] for line in verified.out.splitlines()] == [
        "tiny",
        "manifest",
        "digest",
        "shapes",
        "self-test",
        "behaviour",
        "randomised",
        "note",
    ]
    assert "references of control alone" in verified.out


def test_the_package_that_ships_is_what_it_says(door: Door) -> None:
    assert door("model", "verify", "demo").code == 0
    assert "DEMONSTRATION" in door("model", "show", "demo").out


def test_a_folder_that_is_no_package_is_refused(door: Door, tmp_path: Path) -> None:
    for command in ("show", "verify"):
        said = door("model", command, tmp_path)
        assert (said.code, said.out) == (3, "")
        assert is_two_lines(said.err)


# ---- simulate, replay


def test_simulate_says_what_it_wrote(door: Door, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    said = door("simulate", tmp_path / "a" / "b", "--wells", 6, "--size", 64, "--plate", "P7", "--truth", truth)
    assert said.code == 0
    assert "30 planes of 6 wells" in said.out
    assert len(list((tmp_path / "a" / "b").glob("P7__*/Images/*.tiff"))) == 30
    assert len(truth.read_text("utf-8").splitlines()) == 7


def test_many_sites_are_made_side_by_side_and_are_the_same(door: Door, tmp_path: Path) -> None:
    assert door("simulate", tmp_path / "one", "--wells", 96, "--size", 32).code == 0
    made = simulate_plate(tmp_path / "two", sleep=no_sleep, wells=96, size_px=32).folder
    for path in sorted(made.rglob("*"))[::29]:
        if path.is_file():
            assert (tmp_path / "one" / path.relative_to(tmp_path / "two")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("options", "named"),
    [(["--wells", "7"], "7 wells"), (["--instrument", "camera"], "camera"), (["--speed", "-1"], "speed")],
    ids=str,
)
def test_a_plate_that_cannot_be_simulated_is_refused(
    door: Door, tmp_path: Path, options: list[str], named: str
) -> None:
    said = door("simulate", tmp_path / "in", *options)
    assert (said.code, said.out) == (2, "")
    assert is_two_lines(said.err)
    assert named in said.err


def test_replay_spreads_a_well_and_says_what_it_wrote(door: Door, lab: Lab) -> None:
    copy = lab.folder / "copy"
    said = door("replay", lab.plate(), copy, "--speed", 0, "--rename", "C01,C02,C03", "--seed", 1)
    assert said.code == 0
    assert "15 planes of 3 wells" in said.out
    assert len(list(copy.rglob("r03c*.tiff"))) == 15


def test_a_replay_that_cannot_be_is_refused(door: Door, lab: Lab) -> None:
    assert door("replay", lab.folder / "nothing", lab.folder / "copy").code == 4
    assert door("replay", lab.plate(), lab.folder / "copy", "--rename", "Z99").code == 2
    assert door("replay", lab.incoming, lab.folder / "copy", "--seed", "-3").code == 2
