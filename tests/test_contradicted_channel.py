"""A channel whose planes contradict its bit depth together: what was published is revised, what comes is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import Clock, make_settings
from hcs_daemon.config import Settings
from hcs_daemon.tiff import encode_plane
from spine import Spine
from watched_plates import IMAGES, name

SIDE = 64


def settings_of(folder: Path) -> Settings:
    expect = {
        "channels": {"DNA": "1", "ER": "2"},
        "sites_per_well": 1,
        "pixel_size_um": 0.6,
        "well_timeout_s": 600.0,
    }
    return make_settings(folder, {"expect": expect})


def camera(seed: int, *, mean: float, full: int) -> NDArray[np.uint16]:
    """A plane of a camera that saturates at `full`, with shot noise and one bright corner."""
    rng = np.random.default_rng(seed)
    light = np.full((SIDE, SIDE), mean)
    light[:24, :24] *= 3
    found: NDArray[np.uint16] = rng.normal(light, np.sqrt(light) * 4).clip(0, full).astype(np.uint16)
    return found


def encoded(seed: int, *, mean: float, full: int) -> bytes:
    return encode_plane(camera(seed, mean=mean, full=full))


def twelve_bit(seed: int, *, mean: float = 600) -> bytes:
    return encoded(seed, mean=mean, full=4095)


def sixteen_bit(seed: int, *, mean: float = 9000) -> bytes:
    return encoded(seed, mean=mean, full=65535)


def put(folder: Path, well: str, dna: bytes | None, er: bytes | None) -> None:
    for channel, data in ((1, dna), (2, er)):
        if data is not None:
            path = folder / "in" / IMAGES / name(well, channel)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def wells(spine: Spine) -> dict[str, Any]:
    return {path.rpartition("/")[2]: result for path, result in spine.wells().items()}


def depth(spine: Spine, channel: str) -> Any:
    (plate,) = spine.plates().values()
    return plate["bit_depth"][channel]


def refused(spine: Spine) -> dict[str, str]:
    return {line["path"].rpartition("/")[2]: line["detail"] for line in spine.rejections()}


def test_when_a_camera_turns_out_to_have_12_bits_published_wells_lose_their_prediction(tmp_path: Path) -> None:
    spine = Spine(settings_of(tmp_path), Clock())
    for number in range(1, 4):
        put(tmp_path, f"A{number:02d}", twelve_bit(number), sixteen_bit(100 + number))
    spine.run(60)
    assert {result["prediction"] is not None for result in wells(spine).values()} == {True}
    assert depth(spine, "DNA")["verdict"] == "undecided"
    for number in (4, 5):
        put(tmp_path, f"A{number:02d}", twelve_bit(number, mean=2000), sixteen_bit(100 + number))
    spine.run(60)
    put(tmp_path, "A06", twelve_bit(6), sixteen_bit(106))
    spine.run(60)
    verdict = depth(spine, "DNA")
    assert (verdict["verdict"], "4095" in verdict["evidence"]) == ("contradicted", True)
    assert depth(spine, "ER")["verdict"] == "consistent"
    found = wells(spine)
    assert {well: (result["status"], result["prediction"]) for well, result in found.items()} == {
        f"A{number:02d}": ("rejected", None) for number in range(1, 7)
    }
    assert {found[f"A{number:02d}"]["revision"] for number in range(1, 4)} == {2}
    assert all("DNA is not of 16 bits" in " ".join(result["warnings"]) for result in found.values())
    lines = refused(spine)
    assert sorted(lines) == [name("A04", 1), name("A05", 1), name("A06", 1)]
    assert "full scale of 12 bits" in lines[name("A04", 1)]
    assert "DNA is not of 16 bits as declared" in lines[name("A06", 1)]
    spine.end()


def test_the_verdict_outlives_a_restart(tmp_path: Path) -> None:
    spine = Spine(settings_of(tmp_path), Clock())
    for number in range(1, 6):
        put(tmp_path, f"A{number:02d}", twelve_bit(number, mean=2000 if number > 3 else 600), sixteen_bit(100 + number))
    spine.run(90)
    before = depth(spine, "DNA")
    assert before["verdict"] == "contradicted"
    spine.end()
    again = Spine(settings_of(tmp_path), Clock(spine.clock.now))
    put(tmp_path, "A06", twelve_bit(6), sixteen_bit(106))
    again.run(90)
    after = depth(again, "DNA")
    assert (after["verdict"], after["planes"]) == ("contradicted", before["planes"] + 1)
    assert name("A06", 1) in refused(again)
    assert {result["prediction"] for result in wells(again).values()} == {None}
    again.end()


def test_a_run_that_stopped_before_it_revised_its_wells_is_made_good_by_the_next(tmp_path: Path) -> None:
    spine = Spine(settings_of(tmp_path), Clock())
    for number in range(1, 4):
        put(tmp_path, f"A{number:02d}", twelve_bit(number), sixteen_bit(100 + number))
    spine.run(60)
    spine.end()
    out, before = tmp_path / "out", tmp_path / "before"
    shutil.copytree(out, before)
    for number in (4, 5):
        put(tmp_path, f"A{number:02d}", twelve_bit(number, mean=2000), None)
    spine = Spine(settings_of(tmp_path), Clock(spine.clock.now))
    spine.run(60)
    spine.end()
    (lines,) = out.glob("*/*/rejected.jsonl")
    shutil.copy(lines, before / lines.relative_to(out))
    shutil.rmtree(out)
    before.rename(out)
    again = Spine(settings_of(tmp_path), Clock(spine.clock.now))
    again.run(60)
    assert {wells(again)[f"A{number:02d}"]["prediction"] for number in range(1, 4)} == {None}
    again.end()


def test_wells_whose_raw_files_are_gone_get_their_verdict_back_when_a_contradiction_ends_after_a_restart(
    tmp_path: Path,
) -> None:
    spine = Spine(settings_of(tmp_path), Clock())
    dim = [f"A{number:02d}" for number in range(1, 6)]
    for number, well in enumerate(dim):
        put(tmp_path, well, sixteen_bit(number, mean=300), sixteen_bit(100 + number))
    spine.run(60)
    said = {well: result["prediction"] for well, result in wells(spine).items()}
    for well in dim:
        for channel in (1, 2):
            (tmp_path / "in" / IMAGES / name(well, channel)).unlink()
    for number in (6, 7):
        put(tmp_path, f"A{number:02d}", twelve_bit(number, mean=2000), sixteen_bit(100 + number))
    spine.run(60)
    assert {wells(spine)[well]["prediction"] for well in dim} == {None}
    spine.end()
    again = Spine(settings_of(tmp_path), Clock(spine.clock.now))
    again.run(30)
    for number in range(1, 10):
        put(tmp_path, f"B{number:02d}", sixteen_bit(200 + number), sixteen_bit(300 + number))
    again.run(60)
    found = wells(again)
    assert {well: found[well]["prediction"] for well in dim} == said
    assert {found[well]["revision"] for well in dim} == {3}
    again.end()


def test_one_odd_plane_does_not_make_a_12_bit_camera_one_of_16(tmp_path: Path) -> None:
    spine = Spine(settings_of(tmp_path), Clock())
    for number in range(1, 7):
        bright = number > 3
        put(tmp_path, f"A{number:02d}", twelve_bit(number, mean=2000 if bright else 600), sixteen_bit(100 + number))
    put(tmp_path, "B01", sixteen_bit(7), sixteen_bit(107))
    spine.process()
    assert depth(spine, "DNA")["verdict"] in {"contradicted", "undecided"}


def test_a_dim_channel_of_a_16_bit_camera_is_analysed_and_stays_undecided(tmp_path: Path) -> None:
    spine = Spine(settings_of(tmp_path), Clock())
    for number in range(1, 7):
        put(tmp_path, f"A{number:02d}", sixteen_bit(number, mean=300), sixteen_bit(100 + number))
    spine.process()
    assert depth(spine, "DNA")["verdict"] == "undecided"
    assert {result["status"] for result in wells(spine).values()} == {"complete"}
    assert refused(spine) == {}


def test_a_channel_whose_values_fit_into_8_bits_is_analysed_with_a_warning(tmp_path: Path) -> None:
    """Nothing proves that it was exported as 8 bits; nobody is to find out from explanations that make no sense."""
    spine = Spine(settings_of(tmp_path), Clock())
    for number in range(1, 7):
        put(tmp_path, f"A{number:02d}", encoded(number, mean=20, full=255), sixteen_bit(100 + number))
        spine.run(20)
    spine.run(40)
    (plate,) = spine.plates().values()
    assert [warning.partition(":")[0] for warning in plate["warnings"]] == ["DNA"]
    assert "none of 6 planes so far has a value beyond 255" in plate["warnings"][0]
    assert plate["bit_depth"]["DNA"]["verdict"] == "undecided"
    last = wells(spine)["A06"]
    assert (last["status"], "8-bit values in a 16-bit file" in " ".join(last["warnings"])) == ("complete", True)
    spine.end()


def test_one_well_of_8_bit_values_on_a_16_bit_plate_is_warned_of_whenever_it_came(tmp_path: Path) -> None:
    spine = Spine(settings_of(tmp_path), Clock())
    for number in range(1, 13):
        shift = 8 if number == 2 else 0
        planes = [camera(seed + number, mean=mean, full=65535) >> shift for seed, mean in ((0, 9000), (100, 5000))]
        put(tmp_path, f"A{number:02d}", *(encode_plane(pixels.astype(np.uint16)) for pixels in planes))
        spine.run(20)
    spine.run(40)
    warned = {well for well, result in wells(spine).items() if "far below" in " ".join(result["warnings"])}
    assert warned == {"A02"}
    (plate,) = spine.plates().values()
    assert plate["warnings"] == ["far below all other planes of their channel: A02 DNA, A02 ER"]
    spine.end()


@pytest.mark.parametrize("seed", range(4))
def test_honest_planes_refused_for_their_channels_sake_come_back_whatever_the_order(tmp_path: Path, seed: int) -> None:
    """Two planes were cut off at 4095 among honest ones; when they come first, the channel looks contradicted."""
    planes = {f"A{number:02d}": sixteen_bit(number) for number in range(1, 9)}
    planes |= {f"B{number:02d}": twelve_bit(number, mean=2000) for number in (1, 2)}
    order = sorted(planes)
    order = [order[place] for place in np.random.default_rng(seed).permutation(len(order))]
    if seed == 0:
        order = sorted(planes, reverse=True)
    spine = Spine(settings_of(tmp_path), Clock())
    for number, well in enumerate(order):
        put(tmp_path, well, planes[well], sixteen_bit(100 + number))
        spine.run(15)
    spine.run(60)
    assert sorted(refused(spine)) == [name("B01", 1), name("B02", 1)]
    assert {well: result["prediction"] is not None for well, result in wells(spine).items()} == {
        well: well.startswith("A") for well in planes
    }
    assert depth(spine, "DNA")["verdict"] in {"consistent", "undecided"}
    spine.end()
