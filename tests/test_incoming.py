"""What `check` says of a watched folder: whose it is, what it promises, what would become of it."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import make_settings
from hcs_daemon.commands import incoming_words as words
from hcs_daemon.commands.incoming import PLATES_SHOWN, Incoming, look_into
from hcs_daemon.config import Settings
from hcs_daemon.errors import FolderError, LayoutError, SettingsError
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.tiff import write_tiff

SIMULATED = ("harmony", "imagexpress", "cellvoyager", "arrayscan", "cytation", "scanr", "incell", "ome")
NAMES = {"DNA": "DNA", "ER": "ER", "RNA": "RNA", "AGP": "AGP", "Mito": "Mito"}
NUMBERS = {"DNA": "1", "ER": "2", "RNA": "3", "AGP": "4", "Mito": "5"}


def no_sleep(seconds: float) -> None:
    """As fast as possible means without a pause."""
    pytest.fail(f"slept {seconds} s")


def simulated(folder: Path, plate: str = "SIM0001", **options: Any) -> Path:
    """A small plate in the watched folder."""
    return simulate_plate(folder / "in", sleep=no_sleep, plate=plate, wells=6, size_px=32, **options).folder


def settings_of(folder: Path, watched: Path | None = None, **expect: object) -> Settings:
    """As the tests' own, with other expectations. watched: another folder than `in`."""
    overrides: dict[str, Mapping[str, Any]] = {"expect": expect}
    if watched is not None:
        overrides["watch"] = {"directory": str(watched)}
    return make_settings(folder, overrides)


def seen(settings: Settings) -> Incoming:
    return look_into(settings, tuple(settings.expect.channels))


def any_size(pixel_size_um: float) -> str | None:
    """A model that can be shown everything."""
    return None


# ---- whose it is


@pytest.mark.parametrize("instrument", SIMULATED)
def test_a_plate_of_every_instrument_is_recognised_and_described(instrument: str, tmp_path: Path) -> None:
    simulated(tmp_path, instrument=instrument, sites=2)
    channels = NAMES if instrument in {"cytation", "scanr", "incell", "ome"} else NUMBERS
    settings = settings_of(tmp_path, pixel_size_um=1.196, channels=channels)
    found = seen(settings)
    assert found.recognition.instruments == (instrument,)
    (plate,) = words.plates(found)
    assert plate.startswith("SIM0001, acquisition ")
    assert "6 wells, 2 sites a well" in plate or "in the first: 1 well" in plate
    assert not any("no file" in line or "rejected" in line for line in words.mapping(found, settings.expect))
    assert words.image_size(found, any_size) == ["1.196 µm a pixel"]
    assert words.rejected(found) == ["nothing by its name; 5 planes opened, one of each channel that is analysed"]


def test_an_empty_folder_has_nothing_to_say(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    settings = settings_of(tmp_path)
    found = seen(settings)
    assert words.whose(found) == ["no image yet"]
    assert words.plates(found) == ["none yet"]
    assert words.rejected(found) == ["nothing there"]
    assert words.image_size(found, any_size) == ["no image yet"]
    assert words.mapping(found, settings.expect)[0] == 'DNA = "1": no file yet, and sites wait for it'


def test_a_folder_that_is_away_cannot_be_looked_into(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="cannot be listed"):
        seen(settings_of(tmp_path))


def test_two_instruments_in_one_folder_are_refused_with_both_names(tmp_path: Path) -> None:
    images = tmp_path / "in" / "P__M" / "Images"
    images.mkdir(parents=True)
    for name in ("r01c01f01p01-ch1sk1fk1fl1.tiff", "overview_A01.tif"):
        (images / name).write_bytes(b"x")
    with pytest.raises(SettingsError, match=r"harmony \(1.* and of imagexpress \(1") as caught:
        words.whose(seen(settings_of(tmp_path)))
    assert "watch.instrument" in caught.value.hint


def test_a_wrong_instrument_in_the_settings_is_told_whose_the_files_are(tmp_path: Path) -> None:
    simulated(tmp_path, instrument="cellvoyager")
    found = seen(make_settings(tmp_path, {"watch": {"directory": str(tmp_path / "in"), "instrument": "imagexpress"}}))
    lines = words.whose(found)
    assert lines[0].startswith("no name fits; SIM0001__")
    assert 'files as cellvoyager names them: watch.instrument = "cellvoyager" or "auto" would read them' in lines[1]
    assert words.plates(found) == ["none yet"]


def test_a_stray_picture_is_rejected_and_the_plate_is_not(tmp_path: Path) -> None:
    plate = simulated(tmp_path)
    (plate / "Images" / "0_overview_A01.tif").write_bytes(b"x")
    found = seen(settings_of(tmp_path))
    assert words.whose(found)[0].startswith("as harmony: ")
    assert "30 planes" in words.plates(found)[0]
    assert "1 file as unknown_name" in words.rejected(found)[0]
    assert "in a folder with planes of harmony" in words.rejected(found)[0]


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="may read everything")
def test_a_folder_below_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    closed = simulated(tmp_path).parent / "closed"
    closed.mkdir(mode=0)
    assert "1 folder cannot be listed" in words.whose(seen(settings_of(tmp_path)))[1]


def test_the_first_plates_are_named_and_the_others_counted(tmp_path: Path) -> None:
    plate = simulated(tmp_path)
    for number in range(PLATES_SHOWN + 2):
        shutil.copytree(plate, plate.with_name(f"SIM1{number:03d}__M"))
    lines = words.plates(seen(settings_of(tmp_path)))
    assert len(lines) == PLATES_SHOWN + 1
    assert lines[-1] == "and 3 more, of which the names were read: 90 planes"


# ---- what it promises


def test_what_is_expected_is_told_with_its_source(tmp_path: Path) -> None:
    simulated(tmp_path, sites=2, z_steps=3, time_points=2)
    settings = settings_of(tmp_path)
    (line,) = words.expected(seen(settings), settings.expect)
    assert line == (
        "SIM0001: 6 wells, 2 sites a well, 2 time points, 3 z steps, 360 planes to analyse, by Index.xml; 360 are there"
    )


def test_without_metadata_the_settings_tell_else_it_is_learned(tmp_path: Path) -> None:
    (simulated(tmp_path) / "Images" / "Index.xml").unlink()
    said, unsaid = settings_of(tmp_path, sites_per_well=4), settings_of(tmp_path)
    assert words.expected(seen(said), said.expect) == ["SIM0001: 4 sites a well, by expect.sites_per_well"]
    assert "learned, 900 s after" in words.expected(seen(unsaid), unsaid.expect)[0]


def test_channels_are_mapped_by_the_instruments_names_too(tmp_path: Path) -> None:
    simulated(tmp_path)
    settings = settings_of(tmp_path, channels=NAMES)
    assert words.mapping(seen(settings), settings.expect)[0] == 'DNA = "DNA": channel 1 (DNA), 6 planes'


def test_channels_without_files_and_files_without_channels_are_both_told(tmp_path: Path) -> None:
    simulated(tmp_path)
    settings = settings_of(tmp_path, channels={"DNA": "1", "Actin": "9"}, ignore_channels=["2"])
    found = seen(settings)
    lines = words.mapping(found, settings.expect)
    assert 'Actin = "9": no file yet, and sites wait for it' in lines
    assert "channel 2 (ER): ignored, 6 planes" in lines
    assert "channel 3 (RNA): in neither list, 6 planes would be rejected" in lines
    assert words.rejected(found)[0].startswith("18 files as unknown_channel, such as SIM0001__")


def test_a_mapping_that_fits_no_file_is_refused_with_what_is_there(tmp_path: Path) -> None:
    simulated(tmp_path)
    settings = settings_of(tmp_path, channels={"DNA": "DAPI", "ER": "FITC"})
    with pytest.raises(SettingsError, match=r"DAPI, FITC.*channel 1 \(DNA\)"):
        words.mapping(seen(settings), settings.expect)


def test_pixel_sizes_that_differ_by_more_than_two_percent_are_refused(tmp_path: Path) -> None:
    simulated(tmp_path)
    assert words.image_size(seen(settings_of(tmp_path, pixel_size_um=1.21)), any_size) == ["1.21 µm a pixel"]
    with pytest.raises(SettingsError, match=r"SIM0001: expect\.pixel_size_um says 1\.25 .*1\.196"):
        words.image_size(seen(settings_of(tmp_path, pixel_size_um=1.25)), any_size)


def test_a_pixel_size_that_nothing_tells_is_asked_for(shared_data: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, shared_data / "opera-phenix-6ch")
    with pytest.raises(SettingsError, match="nothing says how large a pixel is") as caught:
        words.image_size(seen(settings), any_size)
    assert "set expect.pixel_size_um" in caught.value.hint


def test_a_pixel_size_that_the_model_cannot_see_is_refused(tmp_path: Path) -> None:
    simulated(tmp_path)
    with pytest.raises(SettingsError, match=r"SIM0001: far too large"):
        words.image_size(seen(settings_of(tmp_path)), lambda _: "far too large")


def test_a_flat_field_that_is_asked_for_must_be_there(tmp_path: Path, shared_data: Path) -> None:
    (simulated(tmp_path) / "Images" / "Index.xml").unlink()
    settings = settings_of(tmp_path, flatfield="instrument")
    with pytest.raises(SettingsError, match="flat field of DNA, ER, RNA, AGP, Mito is not there"):
        words.flat_field(seen(settings), settings.expect)
    real = settings_of(tmp_path, shared_data / "operetta-index", channels={"A": "1"}, flatfield="instrument")
    (line,) = words.flat_field(seen(real), real.expect)
    assert line
    off = settings_of(tmp_path, shared_data / "operetta-index", channels={"A": "1"})
    assert words.flat_field(seen(off), off.expect) == ["off, though the instrument's own is there"]


def test_a_layout_is_read_and_must_fit(tmp_path: Path) -> None:
    simulated(tmp_path)
    layout = tmp_path / "layout.csv"
    layout.write_text("well,compound\nA01,DMSO\nA02,Taxol\n", "utf-8")
    settings = settings_of(tmp_path, layout=str(layout))
    found = seen(settings)
    (line,) = words.layouts(found, settings.expect)
    assert line.startswith("SIM0001: 2 wells, by ")
    assert line.endswith("it says nothing of 4 wells with images")
    layout.write_text("well,compound\nH12,DMSO\n", "utf-8")
    with pytest.raises(LayoutError, match="H12"):
        words.layouts(found, settings.expect)


def test_a_layout_that_is_not_there_is_refused_before_a_plate_comes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    settings = settings_of(tmp_path, layout=str(tmp_path / "layout.csv"))
    with pytest.raises(LayoutError, match="is not there"):
        words.layouts(seen(settings), settings.expect)


# ---- what would be rejected


def test_one_plane_of_each_channel_is_opened_and_judged(tmp_path: Path) -> None:
    plate = simulated(tmp_path)
    for path in plate.rglob("*-ch2sk1*.tiff"):
        path.write_bytes(b"text")
    found = seen(settings_of(tmp_path))
    assert found.opened == 5
    assert words.rejected(found)[0].startswith("1 file as not_an_image, such as SIM0001__")


def test_only_the_first_of_a_series_is_analysed(tmp_path: Path) -> None:
    images = simulated(tmp_path) / "Images"
    shutil.copy(images / "r01c01f01p01-ch1sk1fk1fl1.tiff", images / "r01c01f01p01-ch1sk1fk2fl1.tiff")
    assert words.rejected(seen(settings_of(tmp_path)))[0].startswith("1 file as duplicate_channel")


def test_a_bundle_that_does_not_tell_its_planes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_tiff(tmp_path / "in" / "P_B03_s1.ome.tif", np.zeros((8, 8), np.uint16))
    found = seen(settings_of(tmp_path))
    assert words.plates(found)[0].startswith("in, acquisition 1: 1 file of several planes")
    assert "P_B03_s1.ome.tif" in words.rejected(found)[0]


# ---- the real folders


@dataclass(frozen=True, slots=True)
class Real:
    """What is said of a real folder: whose it is, the plate, what is expected, pixel size; channels: the settings'."""

    folder: str
    channels: dict[str, str]
    instrument: str
    plate: str
    expectation: str
    size: str


REAL = [
    Real(
        "operetta-index",
        {"A": "1"},
        "harmony",
        "1 well, 2 sites a well, 2 planes",
        "1 well, 2 sites a well, 2 planes to analyse, by Index.idx.xml; 2 are there",
        "1.19595 µm a pixel",
    ),
    Real(
        "imagexpress-z-mix",
        {"A": "w1", "B": "w2", "C": "w3", "D": "w4"},
        "imagexpress",
        "2 wells, 2 sites a well, 10 z steps, 96 planes",
        "learned",
        "1.3668 µm a pixel",
    ),
    Real(
        "imagexpress-timelapse",
        {"A": "w1", "B": "w2", "C": "w3"},
        "imagexpress",
        "1 well, 2 sites a well, 2 time points, 12 planes",
        "learned",
        "13.5504 µm a pixel",
    ),
    Real(
        "cv8000-stack",
        {"A": "C01", "B": "488"},
        "cellvoyager",
        "3 wells, 4 sites a well, 4 z steps, 96 planes",
        "3 wells, 4 sites a well, 4 z steps, 96 planes to analyse, by MeasurementData.mlf; 96 are there",
        "0.325 µm a pixel",
    ),
]


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.folder)
def test_a_real_folder_is_described(real: Real, shared_data: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, shared_data / real.folder, channels=real.channels)
    found = seen(settings)
    assert words.whose(found)[0].startswith(f"as {real.instrument}: ")
    assert real.plate in words.plates(found)[0]
    assert real.expectation in words.expected(found, settings.expect)[0]
    assert words.image_size(found, any_size) == [real.size]
    assert all("no file" not in line for line in words.mapping(found, settings.expect))
