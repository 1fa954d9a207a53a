"""What a name and a folder say, whatever the instrument."""

from pathlib import Path, PurePosixPath

import pytest

from hcs_daemon.config import Watch
from hcs_daemon.instruments import instrument_for
from hcs_daemon.instruments.naming import Grammar, acquisition_from, is_no_data, name_of_root
from hcs_daemon.plate import AcquisitionId


@pytest.mark.parametrize(
    ("measurement", "plate", "acquisition"),
    [
        ("BR00143976__2024-01-01T00_00_00-Measurement 1", "BR00143976", "2024-01-01T00_00_00-Measurement 1"),
        ("batch 1/BR1__M2", "BR1", "M2"),
        ("P1", "P1", "1"),
        ("batch/P1", "P1", "batch"),
        ("2024/batch/P1", "P1", "2024_batch"),
        ("a__b__c", "a", "b__c"),
        ("P1__", "P1__", "1"),
        ("__M1", "__M1", "1"),
        (".", "root", "1"),
    ],
)
def test_plate_and_acquisition_are_in_the_measurement_folders_name(
    measurement: str, plate: str, acquisition: str
) -> None:
    assert acquisition_from("root", PurePosixPath(measurement)) == AcquisitionId(plate, acquisition)


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("/data/P1__M1", "P1__M1"),
        ("/data/P1__M1/Images", "P1__M1"),
        ("/data/P1__M1/images", "P1__M1"),
        ("/Images", "Images"),
        ("/data/P\udcff1", r"P\xff1"),
    ],
)
def test_a_watched_folder_that_is_called_images_is_known_by_its_parent(root: str, name: str) -> None:
    assert name_of_root(Path(root)) == name


@pytest.mark.parametrize(
    "path",
    [
        "Thumbs.db",
        "P/.DS_Store",
        "P/Images/.hidden.tiff",
        ".snapshot/P/r01c01f01p01-ch1sk1fk1fl1.tiff",
        "~r01c01f01p01-ch1sk1fk1fl1.tiff",
        "P/Images/r01c01f01p01-ch1sk1fk1fl1.tiff.tmp",
        "P/Images/r01c01f01p01-ch1sk1fk1fl1.tiff.part",
        "P/acquisition.LOG",
        "P_A01_s1_w1_thumb02EC411E-1FD3-48CE-B03E-69C07E855590.tif",
        "P/thumbs/A01.tif",
        "P/Images/preview.tiff",
        "P/Images/A01_preview.tiff",
        "desktop.ini",
    ],
)
def test_thumbnails_logs_hidden_and_temporary_files_are_no_data(path: str) -> None:
    assert is_no_data(PurePosixPath(path))


@pytest.mark.parametrize("path", ["P/Images/r01c01f01p01-ch1sk1fk1fl1.tiff", "thumbprint/A01.tif", "previews.tif"])
def test_other_files_may_be_data(path: str) -> None:
    assert not is_no_data(PurePosixPath(path))


@pytest.mark.parametrize("instrument", ["auto", "harmony", "imagexpress", "incell", "ome", "pattern"])
def test_the_settings_name_the_instrument(tmp_path: Path, instrument: str) -> None:
    pattern = r"(?P<well>.*)_(?P<channel>.*)" if instrument == "pattern" else ""
    watch = Watch.model_validate({"directory": tmp_path, "instrument": instrument, "pattern": pattern})
    assert instrument_for(watch).name == instrument


def test_each_that_asks_for_auto_gets_one_that_has_seen_nothing(tmp_path: Path) -> None:
    watch = Watch.model_validate({"directory": tmp_path})
    assert instrument_for(watch) is not instrument_for(watch)


def test_a_misfit_says_where_it_ends_and_counts_what_is_telling_only() -> None:
    grammar = Grammar("a", [("plate", ".+_"), ("well", r"([A-H]\d\d)"), ("ending", r"\.tif")], "P_A01.tif")
    for name, words, fits in [
        ("P_A01.png", "after 'P_A01' there is no ending", 3),
        ("P_Q01.tif", "after 'P_' there is no well", 0),
        ("P", "at its beginning there is no plate", 0),
        ("P_A01.tiff", "this name goes on after 'P_A01.tif'", 7),
    ]:
        reading = grammar.misfit(name)
        assert reading.problem == f"a plane is called like P_A01.tif, and {words}"
        assert reading.fits == fits


def test_a_part_that_any_text_fits_hides_nothing() -> None:
    grammar = Grammar("a", [("plate", ".+"), ("well", r"_([A-H]\d\d)")], "P_A01")
    assert grammar.misfit("overview").problem.endswith("and in it there is no well")
