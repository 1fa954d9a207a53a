"""A recorded folder written again: never altered but for the well's address, where that is asked for."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import no_sleep
from hcs_daemon.errors import FolderError, SettingsError
from hcs_daemon.plate import WellPosition, plate_wells
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.simulate.replay import ReplayReport, parse_wells, readdress, replay
from hcs_daemon.tiff import decode_plane, encode_plane, harmony_xml

WELLS = parse_wells("24")
OLD_TAG = """<TiffImageInfo><Plate><Row>1</Row><Col>1</Col></Plate><Image Version="1"><Row>3</Row><Col>3</Col>\
<FieldID>3</FieldID></Image><Well><Row>8</Row><Col>12</Col></Well></TiffImageInfo>"""


def address(data: bytes) -> tuple[int, int]:
    """Row and column in the file's own `<Image>`."""
    xml = harmony_xml(data)
    assert xml is not None
    image = re.search(r"<Image.*?</Image>", xml, re.DOTALL)
    assert image is not None
    row, column = re.search(r"<Row>(\d+)</Row>", image[0]), re.search(r"<Col>(\d+)</Col>", image[0])
    assert row is not None
    assert column is not None
    return int(row[1]), int(column[1])


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A small simulated measurement of two wells and two sites."""
    positions = [WellPosition(1, 2), WellPosition(2, 1)]
    made = simulate_plate(
        tmp_path / "recorded", sleep=no_sleep, plate="P", wells=6, sites=2, size_px=48, positions=positions
    )
    return made.folder


def again(source: Path, destination: Path, **arguments: Any) -> ReplayReport:
    arguments = {"speed": 0.0, "sleep": no_sleep, **arguments}
    return replay(source, destination, **arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def order(source: Path, destination: Path, **arguments: Any) -> list[str]:
    """The names in the order in which files appear."""
    seen: list[str] = []

    def look(_seconds: float) -> None:
        names = {path.name for path in destination.rglob("*") if path.is_file()}
        seen.extend(sorted(names - set(seen)))

    again(source, destination, speed=1.0, sleep=look, **arguments)
    return seen


# ---- as it is


def test_a_folder_is_written_again_byte_by_byte(recorded: Path, tmp_path: Path) -> None:
    report = again(recorded, tmp_path / "deep" / "in")
    assert report.folder == tmp_path / "deep" / "in" / recorded.name
    assert (report.planes, report.others) == (20, 1)
    assert report.wells == (WellPosition(1, 2), WellPosition(2, 1))
    assert contents(report.folder) == contents(recorded)


def test_slowly_it_is_the_same(recorded: Path, tmp_path: Path) -> None:
    waited: list[float] = []
    report = again(recorded, tmp_path / "in", speed=2.0, sleep=waited.append)
    assert contents(report.folder) == contents(recorded)
    assert sum(waited) == pytest.approx(21 / 10)


def test_planes_come_first_and_the_index_last(recorded: Path, tmp_path: Path) -> None:
    names = order(recorded, tmp_path / "in")
    assert names[-1] == "Index.xml"
    assert names[:-1] == sorted(names[:-1])


def test_a_seed_mixes_the_order_always_in_the_same_way(recorded: Path, tmp_path: Path) -> None:
    orders = [order(recorded, tmp_path / f"{number}", seed=seed) for number, seed in enumerate((4, 4, 5))]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    assert orders[0] != sorted(orders[0])
    assert orders[0][-1] == "Index.xml"


def test_folders_of_other_instruments_are_replayed_too(shared_data: Path, tmp_path: Path) -> None:
    report = again(shared_data / "arrayscan-8bit", tmp_path)
    assert (report.planes, report.wells) == (3, ())
    assert contents(report.folder) == contents(shared_data / "arrayscan-8bit")


def test_a_stack_and_a_time_lapse_come_step_after_step_without_failing(shared_data: Path, tmp_path: Path) -> None:
    lapse = again(shared_data / "imagexpress-timelapse", tmp_path)
    assert (lapse.planes, lapse.others) == (12, 0)
    source = shared_data / "imagexpress-z-mix"
    seen: list[str] = []

    def look(_seconds: float) -> None:
        steps = {path.parent.name for path in (tmp_path / "slow").rglob("*") if path.is_file()}
        seen.extend(sorted(steps - set(seen)))

    stack = again(source, tmp_path / "slow", speed=100.0, sleep=look)
    assert (stack.planes, stack.others) == (96, 96)  # a thumbnail a plane
    assert seen == ["1334", *(f"ZStep_{step}" for step in range(1, 11))]


def test_what_an_instrument_writes_before_the_planes_is_replayed_before_them(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "cv8000-stack" / "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack"
    names = order(source, tmp_path / "out")
    planes = [index for index, name in enumerate(names) if "_T0001F" in name]
    assert (again(source, tmp_path / "fast").planes, len(planes)) == (96, 96)
    before, after = names[: planes[0]], names[planes[-1] + 1 :]
    assert {name[:3] for name in before if name.endswith(".tif")} == {"DC_", "SC_"}
    assert {Path(name).suffix for name in before} == {".tif", ".mes", ".wpi", ".wpp"}
    assert {"MeasurementData.mlf", "MeasurementDetail.mrf"} <= set(after)


def test_files_can_be_spoiled_on_the_way(recorded: Path, tmp_path: Path) -> None:
    target = Path("Images") / "r01c02f01p01-ch3sk1fk1fl1.tiff"
    report = again(recorded, tmp_path / "in", alter=lambda path, data: data[:10] if path == target else data)
    changed = contents(report.folder)
    assert changed.pop(target.as_posix()) == contents(recorded)[target.as_posix()][:10]
    assert changed.items() <= contents(recorded).items()


# ---- renamed


def test_one_site_is_spread_over_many_wells_with_its_pixels_untouched(recorded: Path, tmp_path: Path) -> None:
    report = again(recorded, tmp_path / "in", rename=WELLS)
    assert report.wells == tuple(WELLS)
    assert (report.planes, report.others) == (24 * 10, 0)
    source = contents(recorded)
    for name, data in contents(report.folder).items():
        origin = source[re.sub(r"r\d\dc\d\d", "r01c02", name)]
        row, column = int(name[8:10]), int(name[11:13])
        assert address(data) == (row, column)
        assert np.array_equal(decode_plane(data).pixels, decode_plane(origin).pixels)


def test_the_real_site_is_spread_with_every_byte_of_its_pixels(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "opera-phenix-6ch"
    report = again(source, tmp_path / "in", rename=[WellPosition.parse("B07"), WellPosition.parse("P24")])
    assert report.planes == 12
    for path in (report.folder / "Images").iterdir():
        data = path.read_bytes()
        origin = (source / "Images" / re.sub(r"^r\d\dc\d\d", "r03c03", path.name)).read_bytes()
        assert address(data) == (int(path.name[1:3]), int(path.name[4:6]))
        assert np.array_equal(decode_plane(data).pixels, decode_plane(origin).pixels)
        changed = [place for place in range(len(origin)) if origin[place] != data[place]]
        assert len(changed) <= 8  # the directory's entry: where the tag's text lies, and how long it is


def test_renamed_to_its_own_well_the_address_stays(recorded: Path, tmp_path: Path) -> None:
    report = again(recorded, tmp_path / "in", rename=[WellPosition(1, 2)])
    source = contents(recorded)
    for name, data in contents(report.folder).items():
        assert harmony_xml(data) == harmony_xml(source[name])


def test_a_folder_without_harmony_names_cannot_be_renamed(tmp_path: Path) -> None:
    (tmp_path / "recorded").mkdir()
    (tmp_path / "recorded" / "A01.tif").write_bytes(b"x")
    with pytest.raises(SettingsError, match="Harmony name"):
        again(tmp_path / "recorded", tmp_path / "in", rename=WELLS)
    assert not (tmp_path / "in").exists()


def test_only_the_planes_own_address_is_rewritten() -> None:
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    data = readdress(encode_plane(pixels, harmony_xml=OLD_TAG), WellPosition(16, 24))
    changed = OLD_TAG.replace("<Row>3</Row><Col>3</Col>", "<Row>16</Row><Col>24</Col>")
    assert harmony_xml(data) == changed
    assert np.array_equal(decode_plane(data).pixels, pixels)


def test_a_file_without_an_address_stays_as_it_is() -> None:
    data = encode_plane(np.arange(64, dtype=np.uint16).reshape(8, 8))
    assert readdress(data, WellPosition(1, 1)) == data


@pytest.mark.parametrize(
    "tag",
    [
        "<TiffImageInfo></TiffImageInfo>",
        "<T><Image><Row>1</Row></Image></T>",
        "<T><Image><Row>1</Row><Col>1</Col><Col>2</Col></Image></T>",
        "<T><Image><Row>1</Row><Col>1</Col></Image><Image><Row>1</Row><Col>1</Col></Image></T>",
    ],
)
def test_an_address_that_is_not_plain_is_refused(tag: str) -> None:
    data = encode_plane(np.arange(64, dtype=np.uint16).reshape(8, 8), harmony_xml=tag)
    with pytest.raises(SettingsError, match="65500"):
        readdress(data, WellPosition(1, 1))


def test_what_is_no_tiff_is_refused() -> None:
    with pytest.raises(SettingsError, match="classic TIFF"):
        readdress(b"no image", WellPosition(1, 1))


# ---- arguments


@given(st.lists(st.sampled_from(plate_wells(1536)), min_size=1, max_size=9, unique=True))
def test_wells_are_read_by_name(wells: list[WellPosition]) -> None:
    assert parse_wells(",".join(position.name for position in wells)) == wells


@pytest.mark.parametrize(
    ("text", "plate", "count"), [("1", 6, 1), ("24", 24, 24), ("25", 96, 25), ("1536", 1536, 1536)]
)
def test_a_number_means_the_first_wells_of_the_smallest_plate(text: str, plate: int, count: int) -> None:
    assert parse_wells(text) == plate_wells(plate)[:count]


@pytest.mark.parametrize("text", ["", "0", "1537", "B03,", "B03,b3", "Z99", "-4"])
def test_other_wells_are_refused(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_wells(text)
    assert caught.value.hint


def test_nothing_is_overwritten_and_the_source_not_written_into(recorded: Path, tmp_path: Path) -> None:
    again(recorded, tmp_path / "in")
    before = contents(tmp_path / "in")
    with pytest.raises(SettingsError, match="is there already"):
        again(recorded, tmp_path / "in")
    assert contents(tmp_path / "in") == before
    with pytest.raises(SettingsError, match="recorded folder"):
        again(recorded, recorded / "inside")


def test_a_source_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError):
        again(tmp_path / "nothing", tmp_path / "in")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="holds no file"):
        again(tmp_path / "empty", tmp_path / "in")


def test_a_destination_that_cannot_be_written_is_said(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FolderError):
        again(recorded, tmp_path / "file")


def test_a_speed_that_is_no_factor_is_refused(recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        again(recorded, tmp_path / "in", speed=-1.0)
    assert not (tmp_path / "in").exists()
