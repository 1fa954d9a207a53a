"""Names and index of Opera Phenix and Operetta."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.instruments.harmony import Harmony, read_index
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import FileKind, PlaneAddress
from hcs_daemon.plate import AcquisitionId, WellPosition

PLANE = "r03c04f05p06-ch7sk8fk1fl1.tiff"

ONE = frozenset({1})


def kind(path: str) -> FileKind:
    return Harmony().read_name("root", PurePosixPath(path)).kind


def problem(name: str) -> str:
    reading = Harmony().read_name("root", PurePosixPath(name))
    assert reading.kind is FileKind.UNKNOWN
    return reading.problem


def index(*entries: str, head: str = "") -> str:
    images = "".join(f"<Image>{entry}</Image>" for entry in entries)
    return (
        '<?xml version="1.0" encoding="utf-8"?><EvaluationInputData xmlns="http://www.perkinelmer.com/PEHH/HarmonyV6">'
        f"{head}<Images>{images}</Images></EvaluationInputData>"
    )


def image(row: int, column: int, site: int) -> str:
    return f"<Row>{row}</Row><Col>{column}</Col><FieldID>{site}</FieldID>"


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
        (f"Images/{PLANE}", "root", "1"),
        (PLANE, "root", "1"),
    ],
)
def test_the_folder_that_holds_images_names_the_plate(path: str, plate: str, acquisition: str) -> None:
    assert Harmony().acquisition_of("root", PurePosixPath(path)) == AcquisitionId(plate, acquisition)


@pytest.mark.parametrize("name", ["Index.xml", "Index.idx.xml", "Index.ref.xml", "INDEX.XML"])
def test_an_index_is_metadata(name: str) -> None:
    assert kind(f"P1/Images/{name}") is FileKind.METADATA


@pytest.mark.parametrize("name", ["Assaylayout/Unnamed.xml", "kw.txt", "notes.csv", "x.json", "r01_thumb.tiff"])
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


def test_an_index_promises_sites_a_well_and_the_pixel_size(tmp_path: Path) -> None:
    path = tmp_path / "Index.xml"
    head = "<Plates><Plate><PlateID>BR1</PlateID><MeasurementID>77</MeasurementID></Plate></Plates>"
    head += "<Maps><Map><Entry><ImageResolutionX Unit='m'>5.98E-07</ImageResolutionX></Entry></Map></Maps>"
    path.write_text(index(image(1, 2, 1), image(1, 2, 3), image(1, 2, 3), image(16, 24, 1), head=head))
    assert read_index(path) == Manifest(
        pixel_size_um=0.598,
        planes={
            WellPosition(1, 2): {(1, 1, ""): ONE, (3, 1, ""): ONE},
            WellPosition(16, 24): {(1, 1, ""): ONE},
        },
        plate_id="BR1",
        measurement_id="77",
    )


def test_the_real_index_of_an_operetta_is_read(shared_data: Path) -> None:
    images = shared_data / "operetta-index" / "Images"
    manifest = read_index(images / "Index.idx.xml")
    assert manifest is not None
    assert manifest.plate_id == "Test_Sample_BALL"
    assert manifest.pixel_size_um == 1.195952
    on_disk = {
        (address.position, address.site)
        for path in images.glob("*.tiff")
        if (address := Harmony().read_name("P", PurePosixPath(f"Images/{path.name}")).address)
    }
    assert len(on_disk) == 2
    assert all((site, 1, "1") in manifest.planes[position] for position, site in on_disk)


@pytest.mark.parametrize(
    "text",
    [
        "",
        index(image(1, 1, 1))[:-30],
        "no xml at all",
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        '<?xml version="1.0" encoding="utf-7"?><a/>',
        '<?xml version="1.0" encoding="made-up"?><a/>',
    ],
)
def test_an_empty_cut_or_hostile_index_promises_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "Index.xml"
    path.write_text(text)
    assert read_index(path) is None


@pytest.mark.parametrize(
    "entry", ["<Row>1</Row><Col>x</Col><FieldID>1</FieldID>", image(99, 1, 1), "<FieldID>1</FieldID>"]
)
def test_an_entry_without_an_address_promises_nothing(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "Index.xml"
    path.write_text(index(entry, image(1, 2, 1)))
    assert read_index(path) == Manifest(planes={WellPosition(1, 2): {(1, 1, ""): ONE}})


@pytest.mark.parametrize("metres", ["nonsense", "0", "-1", "nan", "inf", "1"])
def test_a_pixel_size_that_cannot_be_is_not_one(tmp_path: Path, metres: str) -> None:
    path = tmp_path / "Index.xml"
    path.write_text(index(image(1, 2, 1), head=f"<ImageResolutionX>{metres}</ImageResolutionX>"))
    manifest = read_index(path)
    assert manifest is not None
    assert manifest.pixel_size_um is None


def test_only_an_index_is_read_for_metadata(tmp_path: Path) -> None:
    other = tmp_path / "Unnamed.xml"
    other.write_text(index(image(1, 1, 1)))
    assert Harmony().read_metadata(other) is None
    with pytest.raises(FileNotFoundError):
        Harmony().read_metadata(tmp_path / "Index.xml")
