"""Names and metadata of the IN Cell Analyzer."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.instruments.incell import InCell
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import FileKind, PlaneAddress
from hcs_daemon.plate import AcquisitionId, WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags

PLANE = "A - 01(fld 1 wv DAPI - DAPI).tif"


def image(name: str, wave: int = 0, exposure: str = "200") -> str:
    return (
        f'<Image filename="{name}" thumbnail="t.jpg"><Well label="A - 1"><Row number="1"/><Column number="1"/></Well>'
        f'<Exposure time="{exposure}"/><Identifier field_index="0" time_index="0" wave_index="{wave}" z_index="0"/>'
        "</Image>"
    )


def xdce(*images: str) -> str:
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?><ImageStack PlateID="P7"><UUID value="77"/>'
        '<AutoLeadAcquisitionProtocol name="p"><ObjectiveCalibration magnification="20.0" numerical_aperture="0.45" '
        'pixel_height="0.37" pixel_width="0.37" unit="\u00b5m"/><Plate columns="24" name="384" rows="16"/><Wavelengths>'
        '<Wavelength fusion_wave="false" imaging_mode="2-D" index="0"><ExcitationFilter name="DAPI" wavelength="350"/>'
        '<EmissionFilter name="DAPI" wavelength="455"/></Wavelength>'
        '<Wavelength fusion_wave="false" imaging_mode="3-D" index="1"><ExcitationFilter name="Cy3" wavelength="543"/>'
        '<EmissionFilter name="Cy3" wavelength="605"/></Wavelength></Wavelengths></AutoLeadAcquisitionProtocol>'
        f'<Images number="{len(images)}">{"".join(images)}</Images></ImageStack>'
    )


def read(name: str) -> PlaneAddress:
    reading = InCell().read_name("root", PurePosixPath("P1__M1") / name)
    assert reading.kind is FileKind.PLANE, reading.problem
    assert reading.address is not None
    return reading.address


def kind(name: str) -> FileKind:
    return InCell().read_name("root", PurePosixPath("P1__M1") / name).kind


def problem(name: str) -> str:
    reading = InCell().read_name("root", PurePosixPath("P1__M1") / name)
    assert reading.kind is FileKind.UNKNOWN
    return reading.problem


def test_a_name_says_where_a_plane_belongs() -> None:
    assert read("AF - 48(fld 12 wv Green - dsRed z 3 time 2).tif") == PlaneAddress(
        AcquisitionId("P1", "M1"),
        WellPosition(32, 48),
        site=12,
        channel="Green - dsRed",
        z=3,
        time=2,
        channel_name="Green - dsRed",
    )


@pytest.mark.parametrize(
    ("name", "site", "channel", "z", "time"),
    [
        (PLANE, 1, "DAPI - DAPI", 1, 1),
        ("A - 1(fld 01 wv Green - dsRed z 3).tif", 1, "Green - dsRed", 3, 1),
        ("A - 01(fld 2 wv DAPI - DAPI time 4).tiff", 2, "DAPI - DAPI", 1, 4),
        ("B - 02(fld 01 wv Blue - FITC - time 01 - 0 ms).tif", 1, "Blue - FITC", 1, 1),
        ("B - 02(fld 01 wv Blue - FITC - time 12 - 360000 ms).tif", 1, "Blue - FITC", 1, 12),
        ("F - 001(fld 01 wv TL-Brightfield - DAPI).tif", 1, "TL-Brightfield - DAPI", 1, 1),
        ("a - 01(FLD 1 WV 390 - Blue).TIF", 1, "390 - Blue", 1, 1),
    ],
)
def test_the_forms_that_several_softwares_write_are_read(name: str, site: int, channel: str, z: int, time: int) -> None:
    address = read(name)
    assert (address.site, address.channel, address.z, address.time) == (site, channel, z, time)


def test_a_wave_that_is_taken_twice_is_two_channels_of_one_name() -> None:
    once, again = read("B - 02(fld 01 wv Cy5 - Cy5 wix 4).tif"), read("B - 02(fld 01 wv Cy5 - Cy5 wix 8).tif")
    assert (once.channel, again.channel) == ("Cy5 - Cy5 wix 4", "Cy5 - Cy5 wix 8")
    assert once.channel_name == again.channel_name == "Cy5 - Cy5"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("A - 01(fld 1).tif", "after 'A - 01(fld 1' there is no wave"),
        ("A01(fld 1 wv DAPI - DAPI).tif", "after 'A' there is no column"),
        ("A - 01(fld 1 wv DAPI - DAPI).bmp", "after 'A - 01(fld 1 wv DAPI - DAPI' there is no ending"),
        ("A - 01(fld 1 wv DAPI - DAPI).ome.tif", "there is no ending"),
        ("A - 99(fld 1 wv DAPI - DAPI).tif", "on no plate"),
        ("A - 00(fld 1 wv DAPI - DAPI).tif", "is not a well"),
        ("A - 01(fld 0 wv DAPI - DAPI).tif", "count from 1"),
        ("A - 01(fld 1 wv DAPI - DAPI z 0).tif", "count from 1"),
        ("A - 01(fld 1 wv DAPI - DAPI time 0).tif", "count from 1"),
    ],
)
def test_a_name_that_does_not_fit_says_where(name: str, words: str) -> None:
    assert words in problem(name)


def test_an_xdce_is_metadata() -> None:
    assert kind("Plate 7.xdce") is kind("PLATE.XDCE") is FileKind.METADATA


@pytest.mark.parametrize("name", ["run.xlog", "A - 01(fld 1 wv DAPI - DAPI)_thumb.png", "notes.txt", "Thumbs.db"])
def test_other_files_are_skipped(name: str) -> None:
    assert kind(name) is FileKind.NO_DATA


def test_an_xdce_promises_every_image_and_tells_how_it_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "P.xdce"
    text = xdce(
        image(PLANE),
        image("A - 01(fld 1 wv Cy3 - Cy3 z 1).tif", wave=1, exposure="50"),
        image("A - 01(fld 1 wv Cy3 - Cy3 z 2).tif", wave=1, exposure="50"),
        image(r"Images\\B - 2(fld 3 wv DAPI - DAPI).tif"),
        image("what is this.tif"),
    )
    path.write_bytes(text.encode("latin-1"))
    one = frozenset({1})
    assert InCell().read_metadata(path) == Manifest(
        planes={
            WellPosition(1, 1): {(1, 1, "DAPI - DAPI"): one, (1, 1, "Cy3 - Cy3"): frozenset({1, 2})},
            WellPosition(2, 2): {(3, 1, "DAPI - DAPI"): one},
        },
        rows=16,
        columns=24,
        channels={
            "DAPI - DAPI": ChannelFacts(
                "DAPI - DAPI", "DAPI - DAPI", 350.0, 455.0, 200.0, pixel_size_um=0.37, objective="20x, NA 0.45"
            ),
            "Cy3 - Cy3": ChannelFacts(
                "Cy3 - Cy3", "Cy3 - Cy3", 543.0, 605.0, 50.0, pixel_size_um=0.37, objective="20x, NA 0.45"
            ),
        },
        pixel_size_um=0.37,
        plate_id="P7",
        measurement_id="77",
    )


def test_a_large_plate_shares_what_is_the_same_of_its_images(tmp_path: Path) -> None:
    path = tmp_path / "P.xdce"
    names = [
        f"A - {column}(fld {site} wv DAPI - DAPI z {z}).tif" for column in (1, 2) for site in (1, 2) for z in (1, 2)
    ]
    path.write_bytes(xdce(*map(image, names)).encode("latin-1"))
    manifest = InCell().read_metadata(path)
    assert manifest is not None
    assert len({id(steps) for well in manifest.planes.values() for steps in well.values()}) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        xdce(image(PLANE))[:-30],
        "no xml",
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        '<?xml version="1.0" encoding="made-up"?><a/>',
    ],
)
def test_an_empty_cut_or_hostile_file_promises_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "P.xdce"
    path.write_bytes(text.encode("latin-1"))
    assert InCell().read_metadata(path) is None


def test_only_an_xdce_is_read_for_metadata(tmp_path: Path) -> None:
    assert InCell().read_metadata(tmp_path / "P.xml") is None
    with pytest.raises(FileNotFoundError):
        InCell().read_metadata(tmp_path / "P.xdce")


def test_ome_xml_in_a_description_tells_the_pixel_size() -> None:
    description = '<OME><Image ID="1"><Pixels SizeC="1" PhysicalSizeX="0.37"/></Image></OME>'
    assert InCell().read_tags(PurePosixPath(PLANE), TiffTags(description)) == ChannelFacts(pixel_size_um=0.37)
    assert InCell().read_tags(PurePosixPath(PLANE), TiffTags("no XML")) is None


@given(
    st.sampled_from(["DAPI - DAPI", "Green - dsRed", "390 - Blue", "TL-Brightfield - Cy3"]).flatmap(
        lambda wave: st.builds(
            PlaneAddress,
            acquisition=st.builds(AcquisitionId, st.sampled_from(["P1", "a b_c"]), st.just("M1")),
            position=st.builds(WellPosition, st.integers(1, 32), st.integers(1, 48)),
            site=st.integers(1, 99999),
            channel=st.just(wave),
            z=st.integers(1, 99999),
            time=st.integers(1, 99999),
            channel_name=st.just(wave),
        )
    )
)
def test_a_written_name_gives_the_address_back(address: PlaneAddress) -> None:
    assert InCell().read_name("root", InCell().plane_path(address)).address == address


def test_a_projection_is_not_written() -> None:
    with pytest.raises(ValueError, match="is of one z step"):
        InCell().plane_path(PlaneAddress(AcquisitionId("P", "1"), WellPosition(1, 1), 1, "DAPI - DAPI", z=0))
