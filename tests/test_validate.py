"""What `hcs-daemon validate` says below its table: of channels, pictures and names that are not as they should be."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hcs_daemon.commands.validate import validate_files
from hcs_daemon.tiff import encode_plane

Capture = pytest.CaptureFixture[str]


def sample(seed: int, *, light: float = 3000.0, side: int = 128) -> NDArray[np.uint16]:
    """Cells on a background, with a camera's noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    picture = np.full((side, side), 100.0)
    for row, column in rng.uniform(8, side - 8, (12, 2)):
        picture += light * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 18)
    return rng.poisson(picture).clip(0, 65535).astype(np.uint16)


def scaled_up(pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """What becomes of it by way of 8 bits."""
    return ((pixels >> 4) * 257).astype(np.uint16)


def plate_of(folder: Path, planes: Mapping[tuple[int, int], NDArray[np.uint16]], name: str = "P1") -> Path:
    """A plate's files. planes: by well of the first twelve columns, from 0, and channel."""
    images = folder / f"{name}__M1" / "Images"
    images.mkdir(parents=True)
    for (well, channel), pixels in planes.items():
        where = f"r{well // 12 + 1:02d}c{well % 12 + 1:02d}f01p01-ch{channel}sk1fk1fl1.tiff"
        (images / where).write_bytes(encode_plane(pixels))
    return folder


def words_of(folder: Path, capsys: Capture) -> tuple[int, list[str]]:
    code = validate_files([folder], None, as_json=False)
    return code, capsys.readouterr().out.splitlines()


def test_both_what_is_refused_and_what_is_contradicted_stand_in_the_last_line(tmp_path: Path, capsys: Capture) -> None:
    def cut(seed: int) -> NDArray[np.uint16]:
        return sample(seed, light=9000.0).clip(0, 4095).astype(np.uint16)

    planes = {(well, channel): cut(10 * well + channel) for well in range(4) for channel in (1, 2)}
    planes[4, 3] = np.full((128, 128), 7, np.uint16)
    code, lines = words_of(plate_of(tmp_path, planes), capsys)
    assert lines[-1] == "1 file rejected: blank 1; and 2 channels are not what they claim: P1 1, P1 2"
    assert code == 1


def test_a_channel_of_refused_planes_is_said_by_their_reasons(tmp_path: Path, capsys: Capture) -> None:
    planes = {(well, 1): np.full((128, 128), 7, np.uint16) for well in range(3)}
    folder = plate_of(tmp_path, planes)
    assert "P1 1: 3 planes refused: blank" in words_of(folder, capsys)[1]
    next(folder.rglob("*.tiff")).write_bytes(b"text")
    assert "P1 1: 3 planes refused: 2 blank, 1 not_an_image" in words_of(folder, capsys)[1]


def test_what_a_channel_contains_is_told_from_accepted_planes_only(tmp_path: Path, capsys: Capture) -> None:
    planes = {(well, 1): sample(well) for well in range(3)}
    planes[3, 1] = scaled_up(sample(3))
    planes[3, 2] = scaled_up(sample(4))
    _, lines = words_of(plate_of(tmp_path, planes), capsys)
    accepted = [planes[well, 1] for well in range(3)]
    rows = {line.split()[1]: line for line in lines if line.startswith("  P1  ")}
    assert f"{min(each.min() for each in accepted)} to {max(each.max() for each in accepted)}, " in rows["1"]
    assert " to " not in rows["2"]


def test_each_hint_of_a_reason_stands_there_once(tmp_path: Path, capsys: Capture) -> None:
    planes = {(well, 1): sample(well) for well in range(4)}
    planes |= {(well, 1): scaled_up(sample(well)) for well in (4, 5)}
    planes[6, 1] = sample(6).byteswap()
    _, lines = words_of(plate_of(tmp_path, planes), capsys)
    assert sum(line.startswith("  export the raw camera images") for line in lines) == 1
    assert sum("mixed up big-endian and little-endian" in line for line in lines) == 1


def test_values_that_all_fit_into_8_bits_are_told(tmp_path: Path, capsys: Capture) -> None:
    planes = {(well, 1): sample(well, light=20.0) for well in range(3)}
    _, lines = words_of(plate_of(tmp_path, planes), capsys)
    (words,) = [line for line in lines if line.startswith("P1 1: ")]
    assert words.startswith("P1 1: its files are 16-bit, and whether it is 16 bits is undecided: ")
    assert "has a value beyond 255" in words


def test_names_cannot_steer_a_terminal(tmp_path: Path, capsys: Capture) -> None:
    folder = plate_of(tmp_path, {(0, 1): sample(0)})
    (folder / "P1__M1" / "Images" / "a\x1b[2J\nb.tiff").write_bytes(b"text")
    _, lines = words_of(folder, capsys)
    assert any("a\\x1b[2J\\nb.tiff" in line for line in lines)
    assert "\x1b" not in "".join(lines)


def test_the_other_one_of_copied_pixels_is_said_to_be_in_doubt_too(tmp_path: Path, capsys: Capture) -> None:
    planes = {(well, channel): sample(10 * well + channel) for well in range(3) for channel in (1, 2)}
    planes[1, 2] = planes[1, 1]
    code, lines = words_of(plate_of(tmp_path, planes), capsys)
    assert lines[-1] == "1 file rejected: duplicate_channel 1"
    assert any("the daemon would reject the other one, too" in line for line in lines)
    assert code == 1


def test_poor_pictures_are_told_and_the_exit_code_does_not_depend_on_them(tmp_path: Path, capsys: Capture) -> None:
    planes = {(well, 1): sample(well) for well in range(24)}
    for well in (3, 5):
        planes[well, 1] = sample(well, light=40.0)
        planes[well, 1][40:60, 40:60] = 65535
    code, lines = words_of(plate_of(tmp_path, planes), capsys)
    (start,) = [index for index, line in enumerate(lines) if line.startswith("P1 M1: picture quality of 24 wells")]
    assert "  saturated:1: 2 wells (A04, A06)" in lines[start + 1 :]
    assert code == 0


def test_pictures_with_nothing_wrong_are_said_to_be_so(tmp_path: Path, capsys: Capture) -> None:
    _, lines = words_of(plate_of(tmp_path, {(well, 1): sample(well) for well in range(24)}), capsys)
    assert "P1 M1: picture quality of 24 wells, beside each other: nothing is flagged" in lines


def test_channels_that_look_exchanged_are_told(tmp_path: Path, capsys: Capture) -> None:
    def haze(seed: int) -> NDArray[np.uint16]:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:128, :128]
        row, column = rng.uniform(50, 78, 2)
        shape = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 1500)
        return np.asarray(rng.poisson(100 + 3000 * shape), np.uint16)

    planes = {(well, 1): sample(well) for well in range(24)} | {(well, 2): haze(100 + well) for well in range(24)}
    planes[7, 1], planes[7, 2] = planes[7, 2], planes[7, 1]
    _, lines = words_of(plate_of(tmp_path, planes), capsys)
    told = [line for line in lines if "may be exchanged" in line]
    assert [line.split()[0] for line in told] == ["A08"]


def test_nothing_but_lines_of_json_is_written_where_they_are_asked_for(tmp_path: Path, capsys: Capture) -> None:
    folder = plate_of(tmp_path, {(well, 1): sample(well) for well in range(3)})
    assert validate_files([folder], None, as_json=True) == 0
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 3
