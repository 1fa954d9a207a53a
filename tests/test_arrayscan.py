"""Names of Cellomics ArrayScan."""

from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.instruments.arrayscan import ArrayScan
from hcs_daemon.instruments.naming import FileKind, PlaneAddress
from hcs_daemon.plate import AcquisitionId, WellPosition
from hcs_daemon.tiff import TiffTags, decode_plane

PLANE = "AS_09125_050116030001_D03f00d1.tif"


def kind(name: str) -> FileKind:
    return ArrayScan().read_name("root", PurePosixPath("P1__M1") / name).kind


def problem(name: str) -> str:
    reading = ArrayScan().read_name("root", PurePosixPath("P1__M1") / name)
    assert reading.kind is FileKind.UNKNOWN
    return reading.problem


def test_a_name_says_well_site_and_channel_and_the_folder_the_plate() -> None:
    reading = ArrayScan().read_name("root", PurePosixPath("P1__M1") / PLANE)
    assert reading.kind is FileKind.PLANE
    assert reading.address == PlaneAddress(AcquisitionId("P1", "M1"), WellPosition(4, 3), site=0, channel="d1")


@pytest.mark.parametrize("ending", [".tif", ".tiff", ".TIF", ".C01", ".c01"])
def test_every_ending_is_a_plane(ending: str) -> None:
    assert kind(PLANE.replace(".tif", ending)) is FileKind.PLANE


@pytest.mark.parametrize("name", ["P.mdb", "P.asc", "Protocol.xml", "P.txt", "Thumbs.db", "run.log"])
def test_databases_and_texts_are_skipped(name: str) -> None:
    assert kind(name) is FileKind.NO_DATA


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("P_D03f00.tif", "after 'P_D03f00' there is no channel"),
        ("P_D03f00o1.tif", "there is no channel"),
        ("D03f00d1.tif", "there is no well"),
        ("P_D03f00d1.png", "there is no ending"),
        ("P_D99f00d1.tif", "on no plate"),
        ("P_BA03f00d1.tif", "rows end at AF"),
    ],
)
def test_a_name_that_does_not_fit_says_where(name: str, words: str) -> None:
    assert words in problem(name)


def test_the_real_planes_of_an_arrayscan_are_known_by_their_names(shared_data: Path) -> None:
    folder = shared_data / "arrayscan-8bit"
    found = {
        path.name: ArrayScan().read_name(folder.name, path.relative_to(folder).relative_to("."))
        for path in map(PurePosixPath, sorted(folder.glob("*.tif")))
    }
    assert {reading.kind for reading in found.values()} == {FileKind.PLANE}
    assert {reading.address for reading in found.values()} == {
        PlaneAddress(AcquisitionId("arrayscan-8bit", "1"), WellPosition(4, 3), site=0, channel=channel)
        for channel in ("d0", "d1", "d2")
    }


def test_the_real_planes_of_an_arrayscan_hold_no_pixel_size(shared_data: Path) -> None:
    for path in sorted((shared_data / "arrayscan-8bit").glob("*.tif")):
        decoded = decode_plane(path.read_bytes())
        assert decoded.pixels.shape == (512, 512)
        assert decoded.pixels.dtype == np.uint8
        assert ArrayScan().read_tags(PurePosixPath(path.name), decoded.tags) is None
        assert ArrayScan().read_metadata(path) is None


@given(
    st.builds(
        PlaneAddress,
        acquisition=st.builds(AcquisitionId, st.sampled_from(["P1", "a b_c", "A_B03f00d0"]), st.just("M1")),
        position=st.builds(WellPosition, st.integers(1, 32), st.integers(1, 48)),
        site=st.integers(0, 9999),
        channel=st.integers(0, 99).map("d{}".format),
    )
)
def test_a_written_name_gives_the_address_back(address: PlaneAddress) -> None:
    assert ArrayScan().read_name("root", ArrayScan().plane_path(address)).address == address


@pytest.mark.parametrize(("channel", "z", "time"), [("d0", 2, 1), ("d0", 0, 1), ("d0", 1, 2), ("DNA", 1, 1)])
def test_what_the_names_cannot_say_is_not_written(channel: str, z: int, time: int) -> None:
    address = PlaneAddress(AcquisitionId("P", "1"), WellPosition(1, 1), 0, channel, z, time)
    with pytest.raises(ValueError, match="says neither z nor time"):
        ArrayScan().plane_path(address)


def test_no_file_of_theirs_is_a_bundle() -> None:
    assert ArrayScan().promise_of_bundle(TiffTags()) is None
    with pytest.raises(ValueError, match="holds one plane"):
        ArrayScan().read_bundle("root", PurePosixPath(PLANE), TiffTags())
