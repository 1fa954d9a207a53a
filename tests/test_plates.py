"""How plates arrive: real ones of each machine, late and missing planes, wells imaged again; over the spine."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import CHANNELS, Clock, make_settings, no_sleep
from hcs_daemon.plate import WellPosition
from hcs_daemon.simulate.imagexpress_files import htd_text
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.simulate.measurement import PlaneInfo
from hcs_daemon.tiff import decode_plane, encode_plane
from hcs_daemon.vocabulary import Reason
from hostile_tiffs import plane
from spine import Spine

A01, A02 = WellPosition.parse("A01"), WellPosition.parse("A02")
NUMBERS = {name: str(id_) for id_, name in enumerate(CHANNELS, 1)}
NAMES = {name: name for name in CHANNELS}
CHANNEL_IDS = {
    "harmony": NUMBERS,
    "imagexpress": NUMBERS,
    "cellvoyager": NUMBERS,
    "arrayscan": NUMBERS,
    "cytation": NUMBERS,
    "scanr": NAMES,
    "incell": NAMES,
    "ome": NAMES,
}
SILENT = {"arrayscan", "scanr"}
"""Those whose files hold no pixel size."""
FOUR = {"DNA": "w1", "ER": "w2", "RNA": "w3", "AGP": "w4"}


def spine_over(folder: Path, *, finite: bool = False, clock: Clock | None = None, **expect: Any) -> Spine:
    """The spine over `folder/in`."""
    given = {"bit_depth": 16, "channels": NUMBERS, **expect}
    return Spine(make_settings(folder, {"expect": given}), clock or Clock(), finite=finite)


def lay(folder: Path, source: Path, name: str = "") -> Path:
    """A copy of a real folder where the spine watches."""
    target = folder / "in" / name if name else folder / "in"
    shutil.copytree(source, target)
    return target


def simulate(folder: Path, instrument: str = "harmony", **arguments: Any) -> Path:
    """A simulated plate P1 of six wells (or `positions`); its measurement folder."""
    given = {"plate": "P1", "wells": 6, "size_px": 64, "instrument": instrument, **arguments}
    return simulate_plate(folder / "in", sleep=no_sleep, **given).folder


def expect_of(instrument: str) -> dict[str, Any]:
    """The settings that a simulated plate of this instrument needs."""
    return {"channels": CHANNEL_IDS[instrument], "pixel_size_um": 1.196 if instrument in SILENT else 0.0}


def kept(folder: Path, *files: Path) -> list[bytes]:
    """The bytes of files that are taken away for now."""
    data = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    return data


# ---- the real plates


def test_an_imagexpress_plate_without_a_htd_is_what_is_there_by_its_projections(
    shared_data: Path, tmp_path: Path
) -> None:
    lay(tmp_path, shared_data / "imagexpress-z-mix")
    spine = spine_over(tmp_path, finite=True, channels=FOUR)
    spine.process()
    wells = spine.wells()
    assert spine.statuses() == dict.fromkeys(
        (f"Projection-Mix/2023-02-21_1334/{well}" for well in ("E07", "E08")), "complete"
    )
    for result in wells.values():
        used = Counter((entry["channel"], entry["used"]) for entry in result["inputs"])
        assert used == {(name, "analysed"): 2 for name in FOUR} | {(name, "other_z"): 20 for name in ("DNA", "ER")}
        analysed = {(entry["channel"], entry["z"]) for entry in result["inputs"] if entry["used"] == "analysed"}
        assert analysed == {("DNA", 0), ("ER", 0), ("RNA", 0), ("AGP", 1)}
        (said,) = (words for words in result["warnings"] if "no maximum" in words)
        assert "ER" in said
        assert "Best Focus" in said
    (plate,) = spine.plates().values()
    assert plate["pixel_size_um"] == pytest.approx(1.3668)
    assert plate["instrument"] == "imagexpress"
    assert spine.rejections() == []


def test_the_sharpest_step_of_a_real_stack_is_one_with_cells(shared_data: Path, tmp_path: Path) -> None:
    lay(tmp_path, shared_data / "imagexpress-z-mix")
    spine = spine_over(
        tmp_path, finite=True, channels={"DNA": "w1", "ER": "w2"}, ignore_channels=["w3", "w4"], projection="best_focus"
    )
    spine.process()
    for result in spine.wells().values():
        for site in (1, 2):
            for channel in ("DNA", "ER"):
                stack = [
                    each
                    for each in result["inputs"]
                    if (each["site"], each["channel"]) == (site, channel) and each["z"]
                ]
                (taken,) = (each for each in stack if each["used"] == "analysed")
                # the far ends are out of focus: hardly anything stands above the noise there
                assert taken["max"] > 0.5 * max(each["max"] for each in stack)


def test_with_a_htd_the_same_planes_are_complete_without_a_timeout(shared_data: Path, tmp_path: Path) -> None:
    folder = lay(tmp_path, shared_data / "imagexpress-z-mix") / "2023-02-21" / "1334"
    htd = htd_text(
        rows=16,
        columns=24,
        wells=[WellPosition.parse("E07"), WellPosition.parse("E08")],
        sites=2,
        waves=["FITC", "TexasRed", "Cy5", "DAPI"],
        z_steps=10,
        projection=True,
    )
    (folder / "Projection-Mix.HTD").write_bytes(htd.encode("latin-1"))
    spine = spine_over(tmp_path, channels=FOUR)
    spine.run(30)  # a well waits 900 seconds for planes
    spine.end()
    assert set(spine.statuses().values()) == {"complete"}
    (plate,) = spine.plates().values()
    assert (plate["state"], plate["expected"]["source"], plate["expected"]["wells"]) == ("finished", "metadata", 2)
    assert {name: entry["name"] for name, entry in plate["channels"].items()} == {
        "DNA": "FITC",
        "ER": "TexasRed",
        "RNA": "Cy5",
        "AGP": "DAPI",
    }


def test_each_time_point_is_a_result_of_its_own(shared_data: Path, tmp_path: Path) -> None:
    lay(tmp_path, shared_data / "imagexpress-timelapse")
    spine = spine_over(tmp_path, finite=True, channels={"DNA": "w1", "ER": "w2", "RNA": "w3"})
    spine.process()
    assert spine.statuses() == dict.fromkeys(
        (f"1well-3C-2S-Zmix-T/2024-04-22_1697/{stem}" for stem in ("C07", "C07.t002")), "complete"
    )
    assert [result["time"] for result in spine.wells().values()] == [1, 2]


def test_a_plate_of_black_planes_gives_its_manifest_and_a_rejection_each(shared_data: Path, tmp_path: Path) -> None:
    lay(tmp_path, shared_data / "cv8000-stack")
    spine = spine_over(tmp_path, finite=True, channels={"DNA": "C01", "ER": "C02"})
    spine.process()
    assert Counter(line["reason"] for line in spine.rejections()) == {Reason.BLANK: 96}
    assert set(spine.statuses().values()) == {"rejected"}
    (plate,) = spine.plates().values()
    assert plate["expected"] == {
        "source": "metadata",
        "wells": 3,
        "planes": 96,
        "sites": 4,
        "time_points": 1,
        "z_steps": 4,
        "rows": 8,
        "columns": 12,
    }
    assert plate["pixel_size_um"] == 0.325
    assert {name: (entry["excitation_nm"], entry["emission_nm"]) for name, entry in plate["channels"].items()} == {
        "DNA": (405, 445),
        "ER": (488, 525),
    }
    assert plate["instrument_plate_id"] == "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack"


def test_an_operetta_plate_is_known_by_its_index(shared_data: Path, tmp_path: Path) -> None:
    lay(tmp_path, shared_data / "operetta-index", "Test__1")
    spine = spine_over(tmp_path, finite=True, channels={"DNA": "Fluorescein (FITC)"})
    spine.process()
    assert spine.statuses() == {"Test/1/C03": "complete"}
    (plate,) = spine.plates().values()
    assert plate["pixel_size_um"] == pytest.approx(1.195952)
    assert (plate["expected"]["rows"], plate["expected"]["columns"], plate["expected"]["sites"]) == (16, 24, 2)
    assert plate["channels"]["DNA"]["objective"].startswith("10x")


def test_an_arrayscan_plate_needs_the_pixel_size_and_says_so(shared_data: Path, tmp_path: Path) -> None:
    lay(tmp_path, shared_data / "arrayscan-8bit", "AS")
    given: dict[str, Any] = {"bit_depth": 8, "channels": {"DNA": "d0", "ER": "d1", "RNA": "d2"}}
    spine = spine_over(tmp_path, finite=True, **given)
    spine.process()
    (result,) = spine.wells().values()
    assert result["prediction"] is None
    assert any("expect.pixel_size_um" in said for said in result["warnings"])
    told = tmp_path / "told"
    lay(told, shared_data / "arrayscan-8bit", "AS")
    again = spine_over(told, finite=True, pixel_size_um=0.645, **given)
    again.process()
    assert again.statuses() == {"AS/1/D03": "complete"}


# ---- simulated plates of every instrument


@pytest.mark.parametrize("instrument", sorted(CHANNEL_IDS))
def test_a_plate_of_every_instrument_goes_through_by_its_own_name(instrument: str, tmp_path: Path) -> None:
    simulate(tmp_path, instrument, positions=[A01, A02], sites=2)
    spine = spine_over(tmp_path, finite=True, **expect_of(instrument))
    spine.process()
    assert sorted(spine.statuses().values()) == ["complete"] * 2
    (plate,) = spine.plates().values()
    assert plate["instrument"] == instrument
    assert plate["pixel_size_um"] == pytest.approx(1.196, rel=1e-3)
    assert spine.rejections() == []


def stacked(folder: Path, instrument: str) -> dict[str, Any]:
    """Well -> its result, of two wells with a stack of three at two time points."""
    simulate(folder, instrument, positions=[A01, A02], z_steps=3, time_points=2)
    spine = spine_over(folder, finite=True, **expect_of(instrument))
    spine.process()
    return {stem.rpartition("/")[2]: result for stem, result in spine.wells().items()}


@pytest.fixture(scope="module")
def by_harmony(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return stacked(tmp_path_factory.mktemp("harmony"), "harmony")


@pytest.mark.parametrize("instrument", sorted(set(CHANNEL_IDS) - {"arrayscan"}))
def test_the_same_stacks_give_the_same_results_whoever_wrote_them(
    instrument: str, by_harmony: dict[str, Any], tmp_path: Path
) -> None:
    wells = stacked(tmp_path, instrument)
    assert {stem: result["status"] for stem, result in wells.items()} == dict.fromkeys(
        ("A01", "A01.t002", "A02", "A02.t002"), "complete"
    )
    # every plane has come to its own channel, step and time point: the device's embedding is their mean light
    assert {stem: result["site_results"][0]["embedding"] for stem, result in wells.items()} == {
        stem: result["site_results"][0]["embedding"] for stem, result in by_harmony.items()
    }
    assert len({tuple(result["site_results"][0]["embedding"]) for result in wells.values()}) == 4
    assert all(result["projection"] == "max" for result in wells.values())


@pytest.mark.parametrize("instrument", ["harmony", "imagexpress", "cellvoyager", "incell", "ome"])
def test_what_the_metadata_promises_is_not_waited_for_any_longer(instrument: str, tmp_path: Path) -> None:
    simulate(tmp_path, instrument, positions=[A01, A02], sites=2)
    spine = spine_over(tmp_path, **expect_of(instrument))
    spine.run(20)  # a well waits 900 seconds for planes, a plate 3600
    assert sorted(spine.statuses().values()) == ["complete"] * 2
    spine.run(40)
    spine.end()
    assert sorted(spine.statuses().values()) == ["complete"] * 2
    (plate,) = spine.plates().values()
    assert (plate["expected"]["source"], plate["expected"]["sites"]) == ("metadata", 2)
    assert plate["state"] == "finished"


# ---- what is missing, late, or taken again


def harmony_plane(well: str, channel: int, site: int = 1, z: int = 1) -> str:
    position = WellPosition.parse(well)
    return f"Images/r{position.row:02d}c{position.column:02d}f{site:02d}p{z:02d}-ch{channel}sk1fk1fl1.tiff"


def test_a_missing_plane_is_named_when_its_time_is_up(tmp_path: Path) -> None:
    folder = simulate(tmp_path, positions=[A01, A02], z_steps=2)
    (folder / harmony_plane("A02", 3, z=2)).unlink()
    spine = spine_over(tmp_path, well_timeout_s=60.0)
    spine.run(20)
    assert list(spine.statuses().values()) == ["complete"]
    spine.run(60)
    spine.end()
    (missing,) = (result for result in spine.wells().values() if result["well"] == "A02")
    assert (missing["status"], missing["prediction"]) == ("partial", None)
    assert missing["sites"]["lacking"] == [{"site": 1, "channel": "RNA", "z": 2, "refused": False}]
    assert any("site 1 RNA z 2" in said for said in missing["warnings"])


def test_a_late_plane_completes_its_well_at_once(tmp_path: Path) -> None:
    folder = simulate(tmp_path, positions=[A01, A02])
    late = folder / harmony_plane("A01", 5)
    (data,) = kept(tmp_path, late)
    spine = spine_over(tmp_path)
    spine.run(300)
    assert list(spine.statuses().values()) == ["complete"]
    late.write_bytes(data)
    spine.run(12)  # a look at the folder, and two seconds of rest
    spine.end()
    assert list(spine.statuses().values()) == ["complete"] * 2


def test_a_plane_that_was_not_taken_is_given_up_at_once(tmp_path: Path) -> None:
    def failed(plane: PlaneInfo) -> bool:
        return plane.position == A01 and plane.site == 2 and plane.channel == "ER"

    simulate(tmp_path, "cellvoyager", positions=[A01, A02], sites=2, not_taken=failed)
    spine = spine_over(tmp_path)
    spine.run(30)
    spine.end()
    found = {result["well"]: result for result in spine.wells().values()}
    assert {well: result["status"] for well, result in found.items()} == {"A01": "partial", "A02": "complete"}
    assert (found["A01"]["sites"]["rejected"], found["A01"]["sites"]["missing"]) == ([2], [])
    assert found["A01"]["sites"]["lacking"] == [{"site": 2, "channel": "ER", "z": 1, "refused": True}]


def test_a_log_that_never_rests_is_read_while_it_grows(tmp_path: Path) -> None:
    folder = simulate(tmp_path, "cellvoyager", positions=[A01, A02], sites=2)
    log = folder / "MeasurementData.mlf"
    records, end = log.read_text("utf-8").rsplit("</bts:MeasurementData>", 1)
    spine = spine_over(tmp_path)
    for second in range(60):
        log.write_text(f"{records}<!--{' ' * second}--></bts:MeasurementData>{end}", "utf-8")
        spine.run(1)
    spine.end()
    assert list(spine.statuses().values()) == ["complete"] * 2


def test_a_well_imaged_again_in_the_same_folder_is_revised_and_both_are_in_the_ledger(tmp_path: Path) -> None:
    folder = simulate(tmp_path, "imagexpress", positions=[A01, A02])
    clock = Clock()
    spine = spine_over(tmp_path, clock=clock)
    spine.run(30)
    first = dict(spine.wells())
    simulate_plate(
        tmp_path / "again",
        sleep=no_sleep,
        plate="P1",
        wells=6,
        size_px=64,
        seed=1,
        instrument="imagexpress",
        positions=[A01],
    )
    later = int((clock.utc().timestamp() + 60) * 1e9)
    for path in (tmp_path / "again").rglob("*_A01*.tif"):
        copy = folder / path.name
        shutil.copyfile(path, copy)
        os.utime(copy, ns=(later, later))
    spine.run(60)
    spine.end()
    found = {result["well"]: result for result in spine.wells().values()}
    assert (found["A01"]["revision"], found["A02"]["revision"]) == (2, 1)
    used = Counter(entry["used"] for entry in found["A01"]["inputs"])
    assert used == {"analysed": 5, "superseded": 5}
    ledger = (tmp_path / "out" / "ledger.jsonl").read_text("utf-8").splitlines()
    assert len(ledger) == len(first) + 1


def test_a_site_of_which_one_channel_was_imaged_again_says_so(tmp_path: Path) -> None:
    folder = simulate(tmp_path, "imagexpress", positions=[A01, A02])
    again = next(folder.rglob("*_A02_s1_w1*.tif"))
    newer = folder / "TimePoint_1" / "P1_A01_s1_w100000000-0000-4000-8000-000000000000.tif"
    shutil.copyfile(again, newer)
    os.utime(newer, ns=(2 * 10**18, 2 * 10**18))
    spine = spine_over(tmp_path, finite=True)
    spine.process()
    found = {result["well"]: result for result in spine.wells().values()}
    assert any("site 1: DNA imaged again, and the other channels not" in said for said in found["A01"]["warnings"])
    assert not any("imaged again" in said for said in found["A02"]["warnings"])


def test_a_plate_imaged_again_is_another_acquisition(tmp_path: Path) -> None:
    folder = simulate(tmp_path, positions=[A01])
    shutil.copytree(folder, folder.with_name("P1__second"))
    spine = spine_over(tmp_path)
    spine.run(30)
    spine.end()
    assert sorted(spine.statuses()) == [f"P1/{name}/A01" for name in ("2024-01-01T00_00_00-Measurement 1", "second")]
    assert set(spine.statuses().values()) == {"complete"}


def test_plates_that_are_written_side_by_side_at_any_depth_are_kept_apart(tmp_path: Path) -> None:
    made = [
        simulate_plate(
            tmp_path / "in" / below,
            sleep=no_sleep,
            plate=plate,
            wells=6,
            size_px=64,
            instrument=instrument,
            positions=[A01],
        ).folder
        for below, plate, instrument in (
            ("", "P1", "harmony"),
            ("2026/week 3", "P2", "cellvoyager"),
            ("a/b/c", "P3", "imagexpress"),
        )
    ]
    files = sorted(
        (path for folder in made for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name
    )
    data = kept(tmp_path, *files)
    spine = spine_over(tmp_path)
    for path, content in zip(files, data, strict=True):  # mixed by name
        path.write_bytes(content)
        spine.run(0.5)
    spine.run(60)
    spine.end()
    assert {stem.partition("/")[0]: status for stem, status in spine.statuses().items()} == dict.fromkeys(
        ("P1", "P2", "P3"), "complete"
    )
    assert {plate["plate"]: plate["instrument"] for plate in spine.plates().values()} == {
        "P1": "harmony",
        "P2": "cellvoyager",
        "P3": "imagexpress",
    }


def test_a_plate_copied_in_whole_with_its_old_times_is_worked_through(tmp_path: Path) -> None:
    made = simulate_plate(
        tmp_path / "elsewhere", sleep=no_sleep, plate="P1", wells=6, size_px=64, positions=[A01, A02]
    ).folder
    for path in made.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))  # 2001
    (tmp_path / "in").mkdir()
    spine = spine_over(tmp_path)
    spine.run(10)
    shutil.copytree(made, tmp_path / "in" / made.name)
    spine.run(30)
    spine.end()
    assert list(spine.statuses().values()) == ["complete"] * 2


def test_two_reading_steps_that_number_their_channels_alike_are_not_mixed(tmp_path: Path) -> None:
    folder = simulate(tmp_path, "cytation", positions=[A01])
    first = next(path for path in folder.rglob("*.tif") if "_1_1_DNA_" in path.name)
    bright = first.with_name(first.name.replace("_DNA_", "_Bright Field_"))
    bright.write_bytes(encode_plane(plane(64, 64, seed=1)))
    spine = spine_over(tmp_path, finite=True)
    spine.process()
    (line,) = spine.rejections()
    assert line["reason"] == "duplicate_channel"
    assert "DNA" in line["detail"]
    assert "Bright Field" in line["detail"]


def test_a_stray_that_comes_before_its_folders_planes_costs_none_of_them(tmp_path: Path) -> None:
    folder = simulate(tmp_path, positions=[A01, A02], sites=2)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    data = kept(tmp_path, *files)
    spine = spine_over(tmp_path)
    stray = folder / "Images" / "overview_A01.tif"  # an ImageXpress plane by its name
    shutil.copyfile(lay_plane(tmp_path), stray)
    spine.run(10)
    for path, content in zip(files, data, strict=True):
        path.write_bytes(content)
        spine.run(3)
    spine.run(60)
    spine.end()
    assert list(spine.statuses().values()) == ["complete"] * 2
    assert [(Path(line["path"]).name, line["reason"]) for line in spine.rejections()] == [
        ("overview_A01.tif", "unknown_name")
    ]
    used = Counter(entry["used"] for result in spine.wells().values() for entry in result["inputs"])
    assert used == {"analysed": 20}


def lay_plane(folder: Path) -> Path:
    """A good plane of the simulated size, outside the watched folder."""
    path = folder / "plane.tif"
    path.write_bytes(encode_plane(np.random.default_rng(3).integers(100, 60000, (64, 64), dtype=np.uint16)))
    return path


# ---- z


@pytest.mark.parametrize("projection", ["max", "mean", "best_focus", "middle", 3])
def test_what_the_device_is_given_of_a_stack_is_as_the_settings_say(projection: str | int, tmp_path: Path) -> None:
    folder = simulate(tmp_path, positions=[A01], z_steps=4)
    spine = spine_over(tmp_path, finite=True, projection=projection)
    spine.process()
    (result,) = spine.wells().values()
    assert result["status"] == "complete"
    sharp = {entry["z"]: entry["sharpness"] for entry in result["inputs"] if entry["channel"] == "DNA"}
    stack = np.stack([decode_plane((folder / harmony_plane("A01", 1, z=z)).read_bytes()).pixels for z in range(1, 5)])
    seen = {
        "max": stack.max(axis=0),
        "mean": np.rint(stack.mean(axis=0)),
        "best_focus": stack[max(sharp, key=lambda z: sharp[z]) - 1],
        "middle": stack[1],
        3: stack[2],
    }[projection]
    # the device's embedding is the mean light of each channel
    assert result["site_results"][0]["embedding"][0] == pytest.approx(float(seen.mean()), rel=1e-5)
    analysed = {entry["z"] for entry in result["inputs"] if entry["used"] == "analysed"}
    assert len(analysed) == (4 if projection in {"max", "mean"} else 1 if projection != "best_focus" else len(analysed))


@pytest.mark.parametrize("projection", ["mean", "middle"])
def test_a_step_that_was_lost_is_named_where_only_the_most_is_promised(projection: str, tmp_path: Path) -> None:
    folder = simulate(tmp_path, "imagexpress", positions=[A01, A02], sites=2, z_steps=3)
    for path in folder.rglob("ZStep_2/*_A01_s1_w1*.tif"):  # and its thumbnail
        path.unlink()
    spine = spine_over(tmp_path, finite=True, projection=projection)
    spine.process()
    found = {result["well"]: result for result in spine.wells().values()}
    assert {well: result["status"] for well, result in found.items()} == {"A01": "partial", "A02": "complete"}
    assert found["A01"]["sites"]["lacking"] == [{"site": 1, "channel": "DNA", "z": 2, "refused": False}]


def test_a_mean_counts_steps_of_equal_bytes_each(tmp_path: Path) -> None:
    folder = simulate(tmp_path, positions=[A01], z_steps=3)
    first = decode_plane((folder / harmony_plane("A01", 1, z=1)).read_bytes()).pixels
    alike = encode_plane(first)  # without an address of its own
    for z in (1, 2):
        (folder / harmony_plane("A01", 1, z=z)).write_bytes(alike)
    for cache_bytes in (1 << 30, 0):
        place = tmp_path / str(cache_bytes)
        shutil.copytree(tmp_path / "in", place / "in")
        given = {"expect": {"bit_depth": 16, "channels": NUMBERS, "projection": "mean"}}
        overrides = {**given, "watch": {"directory": str(place / "in"), "cache_bytes": cache_bytes}}
        spine = Spine(make_settings(place, overrides), Clock(), finite=True)
        spine.process()
        (result,) = spine.wells().values()
        stack = [decode_plane((folder / harmony_plane("A01", 1, z=z)).read_bytes()).pixels for z in (1, 1, 3)]
        mean = float(np.rint(np.mean(stack, axis=0)).mean())
        assert result["site_results"][0]["embedding"][0] == pytest.approx(mean, rel=1e-5)


def test_a_stack_holds_one_image_a_channel_in_memory(tmp_path: Path) -> None:
    folder = simulate(tmp_path, positions=[A01], z_steps=6)
    last = folder / harmony_plane("A01", 5, z=6)
    kept(tmp_path, last)
    spine = spine_over(tmp_path)
    spine.run(10)
    assert spine.metrics()['hcs_planes_total{outcome="accepted"}'] == 29
    assert spine.metrics()["hcs_cache_bytes"] == 5 * 64 * 64 * 2


# ---- channels, scale, light


def test_channels_may_be_meant_by_the_instruments_names_which_come_last(tmp_path: Path) -> None:
    folder = simulate(tmp_path, positions=[A01, A02])
    index = folder / "Images" / "Index.xml"
    (data,) = kept(tmp_path, index)
    spine = spine_over(tmp_path, channels=NAMES)
    spine.run(60)
    assert spine.wells() == {}
    assert spine.rejections() == []
    index.write_bytes(data)
    spine.run(30)
    spine.end()
    assert list(spine.statuses().values()) == ["complete"] * 2
    assert {entry["channel"]: entry["channel_id"] for entry in next(iter(spine.wells().values()))["inputs"]} == NUMBERS


def test_channels_that_nothing_names_in_time_are_refused(tmp_path: Path) -> None:
    folder = simulate(tmp_path, positions=[A01])
    (folder / "Images" / "Index.xml").unlink()
    spine = spine_over(tmp_path, channels=NAMES, well_timeout_s=60.0)
    spine.run(90)
    spine.end()
    assert Counter(line["reason"] for line in spine.rejections()) == {Reason.UNKNOWN_CHANNEL: 5}
    assert spine.wells() == {}


def test_a_pixel_size_that_the_metadata_denies_is_refused_until_it_is_corrected(tmp_path: Path) -> None:
    simulate(tmp_path, positions=[A01, A02])
    clock = Clock()
    spine = spine_over(tmp_path, clock=clock, pixel_size_um=1.3)
    spine.run(30)
    spine.end()
    assert set(spine.statuses().values()) == {"rejected"}
    assert all(result["prediction"] is None for result in spine.wells().values())
    (line,) = spine.rejections()
    assert (line["reason"], Path(line["path"]).name) == ("metadata_mismatch", "Index.xml")
    assert "1.3" in line["detail"]
    (plate,) = spine.plates().values()
    assert "1.196" in plate["problem"]
    again = spine_over(tmp_path, clock=clock, pixel_size_um=1.2)
    again.run(60)
    again.end()
    assert again.rejections() == []
    assert set(again.statuses().values()) == {"complete"}


@pytest.mark.parametrize(
    ("instrument", "metadata", "said", "fewer"),
    [
        ("harmony", "Index.xml", "<MaxIntensity>65535<", "<MaxIntensity>4095<"),
        ("cellvoyager", "MeasurementDetail.mrf", 'InputBitDepth="16"', 'InputBitDepth="12"'),
    ],
)
def test_metadata_that_declares_fewer_bits_than_expected_stops_the_plate_and_says_both(
    instrument: str, metadata: str, said: str, fewer: str, tmp_path: Path
) -> None:
    folder = simulate(tmp_path, instrument, positions=[A01])
    path = next(folder.rglob(metadata))
    assert said in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(said, fewer), "utf-8")
    spine = spine_over(tmp_path, finite=True, **expect_of(instrument))
    spine.process()
    (line,) = spine.rejections()
    assert (line["reason"], Path(line["path"]).name) == ("metadata_mismatch", metadata)
    assert "declares 12 bits for" in line["detail"]
    assert "expect.bit_depth is 16" in line["detail"]
    (plate,) = spine.plates().values()
    assert "correct expect.bit_depth" in plate["problem"]
    assert set(spine.statuses().values()) == {"rejected"}


def test_a_camera_set_to_fewer_bits_than_expected_is_refused_by_each_planes_own_words(tmp_path: Path) -> None:
    folder = simulate(tmp_path, "imagexpress", positions=[A01])
    for path in folder.rglob("*.tif"):
        path.write_bytes(path.read_bytes().replace(b"Gain: 16-bit", b"Gain: 12-bit"))
    spine = spine_over(tmp_path, finite=True, **expect_of("imagexpress"))
    spine.process()
    assert Counter(line["reason"] for line in spine.rejections()) == {Reason.METADATA_MISMATCH: 5}
    said = {line["detail"] for line in spine.rejections()}
    assert said == {"its description (Gain) says 12 bits, and expect.bit_depth is 16"}


def test_a_plane_whose_own_tags_deny_the_pixel_size_is_refused(tmp_path: Path) -> None:
    simulate(tmp_path, "imagexpress", positions=[A01])
    spine = spine_over(tmp_path, finite=True, pixel_size_um=0.65)
    spine.process()
    assert Counter(line["reason"] for line in spine.rejections()) == {Reason.METADATA_MISMATCH: 5}
    assert set(spine.statuses().values()) == {"rejected"}


FLATFIELD = (
    "{Background: {}, Channel: 1, ChannelName: x, Foreground: {Character: NonFlat, Profile: {Coefficients: [[1.1],"
    " [0.2, -0.1]], Dims: [64, 64], Origin: [31.5, 31.5], Scale: [0.015625, 0.015625], Type: Polynomial}}}"
)


def with_profiles(folder: Path, channels: range) -> None:
    """Write flat-field profiles into the simulated index, as Harmony does."""
    index = folder / "Images" / "Index.xml"
    entries = "".join(
        f'<Entry ChannelID="{id_}"><FlatfieldProfile>{FLATFIELD}</FlatfieldProfile></Entry>' for id_ in channels
    )
    text = index.read_text("utf-8")
    index.write_text(text.replace("  <Images>", f"  <Maps><Map>{entries}</Map></Maps>\n  <Images>", 1), "utf-8")


def test_uneven_light_is_taken_out_with_the_instruments_profile_and_the_result_says_so(tmp_path: Path) -> None:
    folder = simulate(tmp_path, positions=[A01])
    with_profiles(folder, range(1, 6))
    spine = spine_over(tmp_path, finite=True, flatfield="instrument")
    spine.process()
    (result,) = spine.wells().values()
    assert "polynomial" in result["flatfield"].lower()
    raw = decode_plane((folder / harmony_plane("A01", 1)).read_bytes()).pixels
    at = (np.arange(64) - 31.5) / 64
    profile = 1.1 + 0.2 * at[None, :] - 0.1 * at[:, None]
    assert result["site_results"][0]["embedding"][0] == pytest.approx(float(np.rint(raw / profile).mean()), rel=1e-4)
    assert result["site_results"][0]["key"][0] != result["inputs"][0]["sha256"]


def test_without_a_profile_of_every_channel_nothing_is_analysed_as_if_it_were_even(tmp_path: Path) -> None:
    folder = simulate(tmp_path, positions=[A01])
    with_profiles(folder, range(1, 5))
    spine = spine_over(tmp_path, finite=True, flatfield="instrument")
    spine.process()
    (result,) = spine.wells().values()
    assert result["prediction"] is None
    assert any("flat field of Mito" in said for said in result["warnings"])


def test_a_profile_made_for_another_size_condemns_the_plate_and_not_the_service(tmp_path: Path) -> None:
    folder = simulate(tmp_path, positions=[A01, A02], size_px=80)
    with_profiles(folder, range(1, 6))
    spine = spine_over(tmp_path, flatfield="instrument")
    spine.run(60)
    spine.end()
    assert set(spine.statuses().values()) == {"rejected"}
    (plate,) = spine.plates().values()
    assert "64" in plate["problem"]


# ---- several planes in a file


def test_a_page_that_is_wrong_is_refused_and_the_others_of_its_file_are_not(tmp_path: Path) -> None:
    folder = simulate(tmp_path, "ome", positions=[A01, A02])
    (bundle,) = folder.rglob("*A01*.ome.tif")
    data = bytearray(bundle.read_bytes())
    spine = spine_over(tmp_path, **expect_of("ome"))
    spine.run(30)
    assert list(spine.statuses().values()) == ["complete"] * 2
    bundle.write_bytes(bytes(data[: len(data) - 3000]))
    os.utime(bundle, ns=(2 * 10**18, 2 * 10**18))
    spine.run(200)
    spine.end()
    refused = {line["path"].rpartition("#")[2] for line in spine.rejections()}
    assert refused
    assert len(refused) < 5


def test_a_restart_reads_no_page_of_a_bundle_again(tmp_path: Path) -> None:
    simulate(tmp_path, "ome", positions=[A01, A02])
    clock = Clock()
    spine = spine_over(tmp_path, clock=clock, **expect_of("ome"))
    spine.run(30)
    spine.end()
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("wells/*.json")}
    again = spine_over(tmp_path, clock=clock, **expect_of("ome"))
    again.run(30)
    again.end()
    assert again.device.predicted == []
    assert again.metrics()['hcs_planes_total{outcome="accepted"}'] == 0
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("wells/*.json")} == before


@pytest.mark.parametrize("instrument", sorted(CHANNEL_IDS))
def test_a_restart_over_a_finished_plate_leaves_every_result_as_it_is(instrument: str, tmp_path: Path) -> None:
    simulate(tmp_path, instrument, positions=[A01, A02], sites=2)
    clock = Clock()
    first = spine_over(tmp_path, clock=clock, well_timeout_s=20.0, plate_timeout_s=30.0, **expect_of(instrument))
    first.run(80)
    first.end()
    before = first.wells()
    assert {result["status"] for result in before.values()} == {"complete"}
    for _ in range(2):
        again = spine_over(tmp_path, clock=clock, well_timeout_s=20.0, plate_timeout_s=30.0, **expect_of(instrument))
        again.run(80)
        again.end()
        assert again.wells() == before


def test_a_bundle_that_names_no_well_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "in" / "P1").mkdir(parents=True)
    (tmp_path / "in" / "P1" / "image.ome.tif").write_bytes(encode_plane(np.eye(32, dtype=np.uint16) * 9))
    spine = spine_over(tmp_path, finite=True)
    spine.process()
    (line,) = spine.rejections()
    assert (line["path"], line["reason"]) == ("P1/image.ome.tif", "unknown_name")
    assert json.loads((tmp_path / "out" / "rejected.jsonl").read_text("utf-8"))["path"] == "P1/image.ome.tif"
