"""Names by the user's regular expression."""

from pathlib import Path, PurePosixPath

import pytest

from hcs_daemon.instruments.naming import FileKind, PlaneAddress
from hcs_daemon.instruments.pattern import Pattern
from hcs_daemon.plate import AcquisitionId, WellPosition

IMAGEXPRESS = r"(?P<plate>.+)_(?P<well>[A-Z]{1,2}\d{2})_s(?P<site>\d+)_w(?P<channel>\d)[0-9A-F-]*\.tif"


def read(expression: str, path: str) -> PlaneAddress:
    reading = Pattern(expression).read_name("root", PurePosixPath(path))
    assert reading.kind is FileKind.PLANE, reading.problem
    assert reading.address is not None
    return reading.address


def problem(expression: str, path: str) -> str:
    reading = Pattern(expression).read_name("root", PurePosixPath(path))
    assert reading.kind is FileKind.UNKNOWN
    return reading.problem


def test_the_groups_say_where_a_plane_belongs() -> None:
    address = read(
        r"(?P<well>[A-H]\d\d)-(?P<site>\d)-(?P<channel>\w+)-z(?P<z>\d)-t(?P<time>\d)\.tif", "B03-2-dapi-z4-t5.tif"
    )
    assert address == PlaneAddress(AcquisitionId("root", "1"), WellPosition(2, 3), site=2, channel="dapi", z=4, time=5)


def test_site_z_and_time_are_one_where_the_expression_does_not_have_them() -> None:
    address = read(r"(?P<well>[A-H]\d\d)_(?P<channel>\d)\.tif", "B03_7.tif")
    assert (address.site, address.z, address.time) == (1, 1, 1)


@pytest.mark.parametrize("name", ["r2c3_1.tif", "rBc03_1.tif", "rbc3_1.tif"])
def test_row_and_column_may_be_two_groups(name: str) -> None:
    assert read(r"r(?P<row>\w)c(?P<col>\d+)_(?P<channel>\d)\.tif", name).position == WellPosition(2, 3)


def test_the_group_plate_names_the_plate() -> None:
    path = "2024-01-01/17/P7_B03_s1_w21D5F8F51-3E85.tif"
    assert read(IMAGEXPRESS, path).acquisition == AcquisitionId("P7", "2024-01-01_17")
    assert read(IMAGEXPRESS, "P7_B03_s1_w2.tif").acquisition == AcquisitionId("P7", "1")


def test_a_folder_with_the_plates_own_name_says_the_acquisition() -> None:
    assert read(IMAGEXPRESS, "P7__second/P7_B03_s1_w2.tif").acquisition == AcquisitionId("P7", "second")


def test_an_expression_with_a_slash_is_matched_with_the_path() -> None:
    address = read(r".*/(?P<well>[A-H]\d\d)/(?P<channel>\w+)\.tif", "run/B03/dapi.tif")
    assert (address.position, address.channel) == (WellPosition(2, 3), "dapi")


def test_real_imagexpress_names_are_read(shared_data: Path) -> None:
    folder = shared_data / "imagexpress-timelapse"
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.tif"))]
    found = {(each.position.name, each.site, each.channel) for each in (read(IMAGEXPRESS, name) for name in names)}
    assert found == {("C07", site, channel) for site in (1, 2) for channel in "123"}


def test_an_image_that_does_not_match_is_unknown() -> None:
    assert "does not match" in problem(IMAGEXPRESS, "other.tif")


def test_other_files_that_do_not_match_are_no_data() -> None:
    reading = Pattern(IMAGEXPRESS).read_name("root", PurePosixPath("plate.HTD"))
    assert reading.kind is FileKind.NO_DATA


def test_thumbnails_are_no_data_even_where_the_expression_matches() -> None:
    reading = Pattern(r"(?P<well>[A-H]\d\d)_(?P<channel>.*)\.tif").read_name("root", PurePosixPath("B03_1_thumb.tif"))
    assert reading.kind is FileKind.NO_DATA


@pytest.mark.parametrize(
    ("expression", "name", "words"),
    [
        (r"(?P<well>\w+)_(?P<channel>\d)\.tif", "Z99_1.tif", "on no plate"),
        (r"(?P<well>\w+)_(?P<channel>\d)\.tif", "well_1.tif", "is not a well"),
        (r"(?P<well>\w+)_s(?P<site>\d)_(?P<channel>\d)\.tif", "B03_s0_1.tif", "site counts from 1, the name says 0"),
        (r"(?P<well>\w+)_(?P<channel>\d*)\.tif", "B03_.tif", "its group channel is empty"),
        (r"(?P<row>[A-Z])?(?P<col>\d+)_(?P<channel>\d)\.tif", "03_1.tif", "its group row is empty"),
        (r"(?P<row>.)(?P<col>..)_(?P<channel>\d)\.tif", "2xx_1.tif", "invalid literal"),
    ],
)
def test_a_name_that_matches_and_makes_no_sense_is_unknown_and_says_why(expression: str, name: str, words: str) -> None:
    assert words in problem(expression, name)


def test_there_is_no_metadata_to_read(tmp_path: Path) -> None:
    assert Pattern(IMAGEXPRESS).read_metadata(tmp_path / "Index.xml") is None
