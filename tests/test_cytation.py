"""Names and tags of BioTek Cytation."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.instruments.cytation import Cytation
from hcs_daemon.instruments.naming import FileKind, PlaneAddress
from hcs_daemon.plate import PROJECTION_Z, AcquisitionId, WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags

PLANE = "B3_02_1_1_DAPI_001.tif"
TAGS = """<?xml version="1.0" encoding="UTF-8"?><BTIImageMetaData Version="29">
  <System><Gen5><Version>3.09.07</Version></Gen5></System>
  <ImageReference><Plate>Plate 1</Plate><Well>B3</Well></ImageReference>
  <ImageAcquisition>
    <PixelWidth>1224</PixelWidth><PixelHeight>904</PixelHeight>
    <ImageWidthMicrons>790.704</ImageWidthMicrons><ImageHeightMicrons>584</ImageHeightMicrons>
    <ObjectiveSize>10</ObjectiveSize><NumericalAperture>0.3</NumericalAperture>
    <Channel Color="DAPI 377,447"/><ShutterSpeedMS>100</ShutterSpeedMS>
  </ImageAcquisition></BTIImageMetaData>"""


def read(name: str) -> PlaneAddress:
    reading = Cytation().read_name("root", PurePosixPath("P1__M1") / name)
    assert reading.kind is FileKind.PLANE, reading.problem
    assert reading.address is not None
    return reading.address


def kind(name: str) -> FileKind:
    return Cytation().read_name("root", PurePosixPath("P1__M1") / name).kind


def problem(name: str) -> str:
    reading = Cytation().read_name("root", PurePosixPath("P1__M1") / name)
    assert reading.kind is FileKind.UNKNOWN
    return reading.problem


def tags(description: str) -> ChannelFacts | None:
    return Cytation().read_tags(PurePosixPath(PLANE), TiffTags(description=description))


def test_a_name_says_where_a_plane_belongs() -> None:
    assert read("B3_02_4_7_DAPI_009.tif") == PlaneAddress(
        AcquisitionId("P1", "M1"), WellPosition(2, 3), site=7, channel="4", time=9, channel_name="DAPI"
    )


@pytest.mark.parametrize(
    ("name", "channel_name"),
    [
        ("AF48_02_1_1_Texas Red_001.tiff", "Texas Red"),
        ("B3_02_1_1_GFP 469,525_001.tif", "GFP"),
        ("B3_02_1_1_Read 2_GFP 469,525_001.tif", "GFP"),
        ("B3_02_1_1_My_stain_001.tif", "My_stain"),
        ("B3_02_1_1_1_001.tif", ""),
    ],
)
def test_a_channel_has_a_number_and_a_name(name: str, channel_name: str) -> None:
    address = read(name)
    assert (address.channel, address.channel_name) == ("1", channel_name)


@pytest.mark.parametrize(
    ("name", "z"),
    [
        (PLANE, 1),
        ("B3_02_1_1_Z0_DAPI_001.tif", 1),
        ("B3_02_1_1Z0_DAPI_001.tif", 1),
        ("E5_01_4_1Z12_Confocal CY5_001.tif", 13),
        ("b3_02_1_1_z2_dapi_001.TIF", 3),
    ],
)
def test_z_steps_count_from_zero_in_names(name: str, z: int) -> None:
    assert read(name).z == z


def test_a_projection_by_the_instrument_is_a_plane_of_its_channel() -> None:
    address = read("C6_-1_2_1_ZProj[Texas Red 586,647]_003.tif")
    assert (address.channel, address.channel_name, address.z, address.time) == ("2", "Texas Red", PROJECTION_Z, 3)


@pytest.mark.parametrize(
    "name",
    [
        "B3_-1_1_1_Stitched[DAPI 377,447]_001.tif",
        "H4_-3_1_1_Stitched[Read 1_GFP 469,525]_001.tif",
        "A1_-2_1_1_Tsf[Stitched[DAPI 377,447]]_001.tif",
        "C6_-3_1_1_ZProj[Stitched[Deconvolved[Texas Red 586,647]]]_001.tif",
        "B3_-1_1_1_Deconvolved[DAPI 377,447]_001.tif",
        "B3_-1_1_1_DAPI_001.tif",
        "Plate.xpt",
        "Thumbs.db",
    ],
)
def test_what_was_computed_of_images_is_no_data(name: str) -> None:
    assert kind(name) is FileKind.NO_DATA


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("A1ROI1_02_1_1_GFP_001.tif", "after 'A1' there is no step"),
        ("B3_02_1_DAPI_001.tif", "after 'B3_02_1' there is no site"),
        ("B3_02_1_1_DAPI.tif", "there is no time point"),
        ("B3_02_1_1_DAPI_001.ome.tif", "there is no ending"),
        ("B99_02_1_1_DAPI_001.tif", "on no plate"),
        ("B0_02_1_1_DAPI_001.tif", "is not a well"),
        ("B3_02_1_0_DAPI_001.tif", "count from 1"),
        ("B3_02_0_1_DAPI_001.tif", "count from 1"),
        ("B3_02_1_1_DAPI_000.tif", "count from 1"),
    ],
)
def test_a_name_that_does_not_fit_says_where(name: str, words: str) -> None:
    assert words in problem(name)


def test_the_tags_say_how_the_channel_was_taken() -> None:
    assert tags(TAGS) == ChannelFacts(
        id="1",
        name="DAPI",
        excitation_nm=377.0,
        emission_nm=447.0,
        exposure_ms=100.0,
        pixel_size_um=0.646,
        objective="10x, NA 0.3",
    )


def test_the_tags_may_stand_inside_ome_xml_and_give_wavelengths_of_their_own() -> None:
    inside = TAGS.partition("?>")[2].replace(
        '<Channel Color="DAPI 377,447"/>',
        '<Channel Color="GFP"><EmissionWavelength>525</EmissionWavelength>'
        "<ExcitationWavelength>469</ExcitationWavelength></Channel>",
    )
    found = tags(f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Value>{inside}</Value></OME>')
    assert found is not None
    assert (found.name, found.excitation_nm, found.emission_nm, found.pixel_size_um) == ("GFP", 469.0, 525.0, 0.646)


@pytest.mark.parametrize(
    "description",
    [
        "",
        "ImageJ=1.53",
        TAGS[:200],
        "<BTIImageMetaData/>",
        '<!DOCTYPE a [<!ENTITY b "c">]><BTIImageMetaData>&b;</BTIImageMetaData>',
    ],
)
def test_absent_cut_or_hostile_tags_say_nothing(description: str) -> None:
    assert tags(description) is None


@pytest.mark.parametrize("width", ["0", "-5", "nan", "inf", "wide", "1e9"])
def test_a_pixel_size_that_cannot_be_is_not_one(width: str) -> None:
    found = tags(TAGS.replace("790.704", width))
    assert found is not None
    assert found.pixel_size_um is None


def test_there_is_no_metadata_to_read(tmp_path: Path) -> None:
    assert Cytation().read_metadata(tmp_path / "Plate.xpt") is None


@given(
    st.builds(
        PlaneAddress,
        acquisition=st.builds(AcquisitionId, st.sampled_from(["P1", "a b_c"]), st.just("M1")),
        position=st.builds(WellPosition, st.integers(1, 32), st.integers(1, 48)),
        site=st.integers(1, 99999),
        channel=st.integers(1, 99).map(str),
        z=st.integers(0, 9999),
        time=st.integers(1, 99999),
        channel_name=st.sampled_from(["", "DAPI", "Texas Red", "Bright Field"]),
    )
)
def test_a_written_name_gives_the_address_back(address: PlaneAddress) -> None:
    assert Cytation().read_name("root", Cytation().plane_path(address)).address == address
