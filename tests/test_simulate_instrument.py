"""A simulated plate on the disk: what an Opera Phenix would have written, and never over anything."""

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fakes import no_sleep
from hcs_daemon.errors import FolderError, SettingsError
from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.naming import FileKind
from hcs_daemon.plate import AcquisitionId, WellPosition, plate_wells
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.instrument import SimulatedPlate, simulate_plate
from hcs_daemon.simulate.layout import plan_compounds
from hcs_daemon.tiff import decode_plane


def simulate(folder: Path, **arguments: Any) -> SimulatedPlate:
    arguments = {"plate": "P", "wells": 6, "size_px": 48, "sleep": no_sleep, **arguments}
    return simulate_plate(folder, **arguments)


def written(plate: SimulatedPlate) -> dict[str, bytes]:
    """Every file of the measurement, by its path."""
    return {
        path.relative_to(plate.folder).as_posix(): path.read_bytes()
        for path in sorted(plate.folder.rglob("*"))
        if path.is_file()
    }


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return {row["well"]: row for row in csv.DictReader(stream)}


def test_the_folder_is_laid_out_as_harmony_does(tmp_path: Path) -> None:
    plate = simulate(tmp_path / "deep" / "in", sites=2)
    assert plate.folder == tmp_path / "deep" / "in" / "P__2024-01-01T00_00_00-Measurement 1"
    expected = {
        f"Images/r{row:02d}c{column:02d}f{site:02d}p01-ch{channel}sk1fk1fl1.tiff"
        for row in (1, 2)
        for column in (1, 2, 3)
        for site in (1, 2)
        for channel in range(1, 6)
    }
    assert set(written(plate)) == expected | {"Images/Index.xml"}
    assert plate.planes == len(expected)
    assert plate.wells == tuple(plate_wells(6))


def test_the_same_seed_gives_the_same_bytes_side_by_side_or_one_after_the_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        plates = [
            simulate(tmp_path / "one", seed=7),
            simulate(tmp_path / "two", seed=7, executor=pool),
            simulate(tmp_path / "slow", seed=7, speed=2.0, sleep=lambda _: None),
        ]
    assert written(plates[0]) == written(plates[1]) == written(plates[2])


@pytest.mark.parametrize("other", [{"seed": 8}, {"plate": "Q"}])
def test_another_seed_or_plate_has_other_cells(tmp_path: Path, other: dict[str, Any]) -> None:
    one, two = written(simulate(tmp_path / "one", seed=7)), written(simulate(tmp_path / "two", **{"seed": 7, **other}))
    assert one.keys() == two.keys()
    assert not [name for name in one if one[name] == two[name]]


def test_a_few_wells_of_a_plate_are_as_they_are_in_the_whole(tmp_path: Path) -> None:
    whole = written(simulate(tmp_path / "whole"))
    part = written(simulate(tmp_path / "part", positions=[WellPosition.parse("B02")]))
    del part["Images/Index.xml"]
    assert len(part) == 5
    assert {name: _pixels(data) for name, data in part.items()} == {name: _pixels(whole[name]) for name in part}


def _pixels(data: bytes) -> bytes:
    """Without the tags: the time of a plane depends on what is imaged before."""
    return decode_plane(data).pixels.tobytes()


@pytest.mark.parametrize(("wells", "last"), [(6, "B03"), (96, "H12"), (384, "P24"), (1536, "AF48")])
def test_names_read_back_to_the_wells_of_every_plate(tmp_path: Path, wells: int, last: str) -> None:
    corner = WellPosition.parse(last)
    plate = simulate(tmp_path, wells=wells, positions=[corner])
    for name in written(plate):
        reading = Harmony().read_name("in", PurePosixPath(plate.folder.name, name))
        if name == "Images/Index.xml":
            assert reading.kind is FileKind.METADATA
            continue
        assert reading.kind is FileKind.PLANE
        assert reading.address is not None
        assert reading.address.position == corner
        assert reading.address.acquisition == AcquisitionId("P", "2024-01-01T00_00_00-Measurement 1")


def test_the_index_promises_every_site_and_the_pixel_size(tmp_path: Path) -> None:
    plate = simulate(tmp_path, sites=3)
    promised = Harmony().read_metadata(plate.folder / "Images" / "Index.xml")
    assert promised is not None
    assert promised.pixel_size_um == 1.196
    assert set(promised.planes) == set(plate_wells(6))
    assert {site for well in promised.planes.values() for site, _, _ in well} == {1, 2, 3}
    assert promised.plate_id == "P"


def test_planes_are_lzw_and_carry_their_address_and_their_own_statistics(tmp_path: Path) -> None:
    for name, data in written(simulate(tmp_path, positions=[WellPosition.parse("B02")])).items():
        if name.endswith(".tiff"):
            decoded = decode_plane(data)
            assert decoded.compression.lower() == "lzw"
            assert decoded.pixels.dtype == np.uint16
            assert b"<Row>2</Row>" in data
            assert b"<Col>2</Col>" in data
            assert f'"min":{decoded.pixels.min()},"max":{decoded.pixels.max()}'.encode() in data


def test_wells_come_along_the_rows_forth_and_back_and_the_index_last(tmp_path: Path) -> None:
    looks = []

    def look(_seconds: float) -> None:
        looks.append({path.name for path in (tmp_path / "in").rglob("*") if path.is_file()})

    simulate(tmp_path / "in", speed=100.0, sleep=look)
    first_seen: list[str] = []
    for names in looks:
        first_seen += sorted({name[:6] for name in names} - set(first_seen))
    assert first_seen == ["r01c01", "r01c02", "r01c03", "r02c03", "r02c02", "r02c01", "Index."]


def test_layout_and_truth_are_written_with_masks_beside(tmp_path: Path) -> None:
    plate = simulate(
        tmp_path / "in",
        wells=24,
        layout=tmp_path / "layout.csv",
        truth=tmp_path / "made" / "truth.csv",
        sites=2,
    )
    layout, truth = rows(tmp_path / "layout.csv"), rows(tmp_path / "made" / "truth.csv")
    assert layout.keys() == truth.keys() == {position.name for position in plate_wells(24)}
    assert plate.masks == tmp_path / "made" / "truth_masks"
    assert len(list(plate.masks.iterdir())) == 48
    for well, row in truth.items():
        bits = np.bitwise_or.reduce(np.asarray(Image.open(plate.masks / f"{well}_s2.png")), axis=None)
        planted = [channel for index, channel in enumerate(CHANNELS) if bits >> index & 1]
        assert planted == [channel for channel in row["affected_channels"].split(";") if channel]


def test_the_truth_is_the_same_whatever_the_seed(tmp_path: Path) -> None:
    def contents(seed: int) -> list[tuple[str, ...]]:
        simulate(tmp_path / f"{seed}", wells=24, seed=seed, size_px=32, truth=tmp_path / f"truth{seed}.csv")
        return sorted(tuple(row.values())[1:] for row in rows(tmp_path / f"truth{seed}.csv").values())

    assert contents(1) == contents(2)


def test_training_brings_its_own_plan(tmp_path: Path) -> None:
    plans = plan_compounds(plate_wells(6), [("DMSO", 0.0), ("REF-ER", 30.0)])
    plate = simulate(tmp_path, plans=plans)
    assert plate.plans == tuple(plans)


@pytest.mark.parametrize(
    "refused",
    [
        {"wells": 12},
        {"sites": 0},
        {"sites": 100},
        {"size_px": 16},
        {"size_px": 2160},
        {"seed": -1},
        {"speed": -1.0},
        {"speed": float("inf")},
        {"plate": ""},
        {"plate": "a__b"},
        {"plate": ".."},
        {"plate": "a/b"},
        {"positions": []},
        {"positions": [WellPosition.parse("C01")]},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path: Path, refused: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        simulate(tmp_path / "in", **refused)
    assert caught.value.hint
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("name", ["layout", "truth"])
def test_tables_inside_the_watched_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="watched folder"):
        simulate(tmp_path / "in", **{name: tmp_path / "in" / "table.csv"})


@pytest.mark.parametrize("name", ["layout", "truth"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text("mine")
    with pytest.raises(SettingsError, match="is there already"):
        simulate(tmp_path / "in", **{name: table})
    assert table.read_text() == "mine"
    plate = written(simulate(tmp_path / "in"))
    with pytest.raises(SettingsError, match="is there already"):
        simulate(tmp_path / "in", seed=1)
    assert written(SimulatedPlate(next((tmp_path / "in").iterdir()), "P", (), 0, None)) == plate


@pytest.mark.parametrize("name", ["layout", "truth"])
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FolderError):
        simulate(tmp_path / "file" / "in")
    with pytest.raises(FolderError):
        simulate(tmp_path / "in", **{name: tmp_path / "file" / "table.csv"})
