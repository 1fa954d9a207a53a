"""Names of Opera Phenix and Operetta, and which of their files say more."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.naming import FileKind, PlaneAddress
from hcs_daemon.plate import AcquisitionId, WellPosition

PLANE = "r03c04f05p06-ch7sk8fk1fl1.tiff"


def kind(path: str) -> FileKind:
    return Harmony().read_name("root", PurePosixPath(path)).kind


def problem(name: str) -> str:
    reading = Harmony().read_name("root", PurePosixPath(name))
    assert reading.kind is FileKind.UNKNOWN
    return reading.problem


def test_a_name_says_where_a_plane_belongs() -> None:
    reading = Harmony().read_name("root", PurePosixPath("P1__M1/Images") / PLANE)
    assert reading.kind is FileKind.PLANE
    assert reading.problem == ""
    assert reading.address == PlaneAddress(
        AcquisitionId("P1", "M1"), WellPosition(3, 4), site=5, channel="7", z=6, time=8
    )


@pytest.mark.parametrize("name", [PLANE.upper(), PLANE.replace(".tiff", ".tif"), PLANE.replace("ch7", "ch07")])
def test_case_ending_and_leading_zeros_do_not_matter(name: str) -> None:
    address = Harmony().read_name("root", PurePosixPath("P/Images") / name).address
    assert address is not None
    assert (address.position, address.channel) == (WellPosition(3, 4), "7")


@pytest.mark.parametrize(
    ("path", "plate", "acquisition"),
    [
        (f"P1__M1/Images/{PLANE}", "P1", "M1"),
        (f"a/b/P1__M1/Images/{PLANE}", "P1", "M1"),
        (f"a/P1/Images/{PLANE}", "P1", "a"),
        (f"P1/{PLANE}", "P1", "1"),
        ("P1__M1/Images/Index.xml", "P1", "M1"),
        ("P1__M1/Index.idx.xml", "P1", "M1"),
        ("P1__M1/Assaylayout/Unnamed.xml", "P1", "M1"),
        ("P1__M1/FFC_Profile/FFC_Profile_Measurement 1.xml", "P1", "M1"),
        (f"Images/{PLANE}", "root", "1"),
        (PLANE, "root", "1"),
    ],
)
def test_the_folder_that_holds_images_and_what_is_beside_them_names_the_plate(
    path: str, plate: str, acquisition: str
) -> None:
    assert Harmony().acquisition_of("root", PurePosixPath(path)) == AcquisitionId(plate, acquisition)


@pytest.mark.parametrize(
    "name",
    [
        "Images/Index.xml",
        "Images/Index.idx.xml",
        "Index.ref.xml",
        "INDEX.XML",
        "Assaylayout/Unnamed.xml",
        "AssayLayout/Screen 7.XML",
        "FFC_Profile/FFC_Profile_Measurement 1.xml",
    ],
)
def test_indexes_layouts_and_profiles_are_metadata(name: str) -> None:
    assert kind(f"P1/{name}") is FileKind.METADATA


@pytest.mark.parametrize(
    "name", ["Images/other.xml", "Assaylayout/kw.txt", "kw.txt", "notes.csv", "x.json", "r01_thumb.tiff"]
)
def test_other_metadata_and_thumbnails_are_skipped(name: str) -> None:
    assert kind(f"P1/{name}") is FileKind.NO_DATA


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("image.tiff", "at its beginning there is no row"),
        ("r03c04p06-ch7sk8fk1fl1.tiff", "after 'r03c04' there is no site"),
        ("r03c04f05p06-ch7.tiff", "after 'r03c04f05p06-ch7' there is no time point"),
        ("r03c04f05p06-ch7sk8fk1fl1.tiff.bmp", "this name goes on after 'r03c04f05p06-ch7sk8fk1fl1.tiff'"),
        ("r03c04f05p06-ch7sk8fk1fl1.png", "after 'r03c04f05p06-ch7sk8fk1fl1' there is no ending"),
        ("r99c04f05p06-ch7sk8fk1fl1.tiff", "on no plate"),
        ("r03c04f00p06-ch7sk8fk1fl1.tiff", "count from 1"),
        ("r03c04f05p06-ch7sk8fk1fl1\n.tiff", "there is no ending"),
        ("r\u0663\u0663c04f05p06-ch7sk8fk1fl1.tiff", "no row"),
    ],
)
def test_a_name_that_does_not_fit_says_where(name: str, words: str) -> None:
    assert words in problem(name)


@pytest.mark.parametrize("name", [PLANE.replace("fk1", "fk2"), PLANE.replace("fl1", "fl3")])
def test_of_a_series_of_exposures_the_first_is_the_plane(name: str) -> None:
    reading = Harmony().read_name("root", PurePosixPath("P/Images") / name)
    assert reading.kind is FileKind.PLANE
    assert "the first one counts" in reading.problem


@given(
    st.text(max_size=60).map(lambda text: text.replace("/", "").replace("\0", "")).filter(lambda text: text.strip("."))
)
def test_any_name_is_read_without_a_fault(name: str) -> None:
    assert Harmony().read_name("root", PurePosixPath(name)).kind in set(FileKind)


def test_metadata_is_read_by_where_it_lies(tmp_path: Path) -> None:
    text = "<AssayLayout><PlateRows>8</PlateRows><PlateCols>12</PlateCols></AssayLayout>"
    (tmp_path / "Assaylayout").mkdir()
    for path in (tmp_path / "Assaylayout" / "Unnamed.xml", tmp_path / "Unnamed.xml"):
        path.write_text(text, "utf-8")
    layout = Harmony().read_metadata(tmp_path / "Assaylayout" / "Unnamed.xml")
    assert layout is not None
    assert (layout.rows, layout.columns) == (8, 12)
    assert Harmony().read_metadata(tmp_path / "Unnamed.xml") is None
    with pytest.raises(FileNotFoundError):
        Harmony().read_metadata(tmp_path / "Index.xml")


def test_the_real_planes_of_an_opera_phenix_are_told_by_their_names_alone(shared_data: Path) -> None:
    """No metadata lies beside them, and nothing in them says a pixel size."""
    folder = shared_data / "opera-phenix-6ch"
    readings = {
        path.name: Harmony().read_name("in", PurePosixPath("opera-phenix-6ch/Images", path.name))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    assert {reading.kind for reading in readings.values()} == {FileKind.PLANE}
    acquisition = AcquisitionId("opera-phenix-6ch", "1")
    assert [reading.address for reading in readings.values()] == [
        PlaneAddress(acquisition, WellPosition(3, 3), site=3, channel=channel) for channel in "123456"
    ]
