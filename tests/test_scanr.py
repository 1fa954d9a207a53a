"""Names and metadata of Olympus ScanR."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import FileKind, PlaneAddress
from hcs_daemon.instruments.scanr import ScanR
from hcs_daemon.plate import AcquisitionId, WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags

PLANE = "B3--W00015--P00002--Z00003--T00004--Alexa 488.tif"


def named(value: str, name: str) -> str:
    return f"<String><Name>{name}</Name><Val>{value}</Val></String>"


def channel(name: str, exposure: str, idle: str = "0") -> str:
    values = named(name, "name") + named(exposure, "exposure time") + named(idle, "idle")
    return f"<Cluster><Name>channel</Name>{values}</Cluster>"


DESCRIPTOR = (
    '<?xml version="1.0" standalone="yes"?><LVData><Cluster><Name>experiment</Name>'
    + named("Pl\u00e4tte 7", "plate name")
    + named("0.645", "conversion factor um/pixel")
    + f"<Cluster><Name>format typedef</Name>{named('8', 'Rows')}{named('12', 'Columns')}</Cluster>"
    + channel("DAPI", "50")
    + channel("Cy5", "120.5")
    + channel("Cy3", "10", idle="1")
    + channel("Autofocus", "5")
    + named("7", "# slices")
    + "</Cluster></LVData>"
)


def kind(path: str) -> FileKind:
    return ScanR().read_name("root", PurePosixPath(path)).kind


def problem(name: str) -> str:
    reading = ScanR().read_name("root", PurePosixPath("P/data") / name)
    assert reading.kind is FileKind.UNKNOWN
    return reading.problem


def test_a_name_says_where_a_plane_belongs() -> None:
    reading = ScanR().read_name("root", PurePosixPath("P1__M1/data") / PLANE)
    assert reading.kind is FileKind.PLANE
    assert reading.address == PlaneAddress(
        AcquisitionId("P1", "M1"),
        WellPosition(2, 3),
        site=2,
        channel="Alexa 488",
        z=4,
        time=5,
        channel_name="Alexa 488",
    )


@pytest.mark.parametrize(
    ("path", "plate", "acquisition"),
    [
        (f"P1__M1/data/{PLANE}", "P1", "M1"),
        (f"P1__M1/Data/{PLANE}", "P1", "M1"),
        (f"a/P1/data/{PLANE}", "P1", "a"),
        (f"P1/{PLANE}", "P1", "1"),
        (f"data/{PLANE}", "root", "1"),
    ],
)
def test_the_folder_that_holds_data_names_the_plate(path: str, plate: str, acquisition: str) -> None:
    assert ScanR().acquisition_of("root", PurePosixPath(path)) == AcquisitionId(plate, acquisition)


@pytest.mark.parametrize(
    "name", ["--W00015--P00001--Z00000--T00000--dapi.tif", "W00015--P00001--Z00000--T00000--dapi.tif"]
)
def test_a_wells_number_alone_is_not_guessed_into_a_well(name: str) -> None:
    assert "lacks the well's name: W00015 counts wells row by row" in problem(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("B3--W00015--P00001--T00000--dapi.tif", "after 'B3--W00015--P00001' there is no z step"),
        ("B3--W00015--P00001--Z00000--T00000--dapi.png", "there is no ending"),
        ("B3--W00015--P00001--Z00000--T00000--dapi.ome.tif", "there is no ending"),
        ("B3--W15--P1--Z0--T0--dapi.tif", "there is no number of the well"),
        ("B99--W00015--P00001--Z00000--T00000--dapi.tif", "on no plate"),
        ("B3--W00015--P00000--Z00000--T00000--dapi.tif", "count from 1"),
    ],
)
def test_a_name_that_does_not_fit_says_where(name: str, words: str) -> None:
    assert words in problem(name)


@pytest.mark.parametrize("path", ["P/experiment_descriptor.xml", "P/data/metadata.ome.xml"])
def test_two_files_are_metadata(path: str) -> None:
    assert kind(path) is FileKind.METADATA


@pytest.mark.parametrize("name", ["experiment_descriptor.dat", "AcquisitionLog.dat", "other.xml", "Thumbs.db"])
def test_other_files_are_skipped(name: str) -> None:
    assert kind(f"P/{name}") is FileKind.NO_DATA


def test_the_descriptor_tells_pixel_size_plate_and_channels_and_promises_no_plane(tmp_path: Path) -> None:
    path = tmp_path / "experiment_descriptor.xml"
    path.write_bytes(DESCRIPTOR.encode("latin-1"))
    assert ScanR().read_metadata(path) == Manifest(
        rows=8,
        columns=12,
        channels={
            "DAPI": ChannelFacts(id="DAPI", name="DAPI", exposure_ms=50.0),
            "Cy5": ChannelFacts(id="Cy5", name="Cy5", exposure_ms=120.5),
        },
        pixel_size_um=0.645,
        plate_id="Pl\u00e4tte 7",
    )


@pytest.mark.parametrize("text", ["", DESCRIPTOR[:-20], "no xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'])
@pytest.mark.parametrize("name", ["experiment_descriptor.xml", "metadata.ome.xml"])
def test_an_empty_cut_or_hostile_file_promises_nothing(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    assert ScanR().read_metadata(path) is None


def test_ome_xml_beside_the_images_promises_every_file_it_lists(tmp_path: Path) -> None:
    def data(well: str, position: int, name: str, index: int, z: int) -> str:
        file = f"{well}--P{position:05d}--Z{z:05d}--T00000--{name}.tif"
        return f'<TiffData FirstC="{index}" FirstZ="{z}" IFD="0"><UUID FileName="{file}">urn:uuid:{z}</UUID></TiffData>'

    def image(well: str, position: int) -> str:
        listed = "".join(data(well, position, *each, z) for each in (("DAPI", 0), ("Cy5", 1)) for z in (0, 1))
        return (
            f'<Image ID="Image:{well}P{position}"><Pixels DimensionOrder="XYZTC" SizeC="2" SizeZ="2" SizeT="1" '
            'PhysicalSizeX="0.5"><Channel Name="DAPI" EmissionWavelength="447"/><Channel Name="Cy5"/>'
            f"{listed}</Pixels></Image>"
        )

    path = tmp_path / "metadata.ome.xml"
    images = image("B3--W00015", 1) + image("B3--W00015", 2) + image("--W00016", 1)
    path.write_text(f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{images}</OME>')
    steps = frozenset({1, 2})
    manifest = ScanR().read_metadata(path)
    assert manifest is not None
    assert manifest.planes == {
        WellPosition(2, 3): {(site, 1, name): steps for site in (1, 2) for name in ("DAPI", "Cy5")}
    }
    assert manifest.pixel_size_um == 0.5
    assert manifest.channels["DAPI"] == ChannelFacts(id="DAPI", name="DAPI", emission_nm=447.0, pixel_size_um=0.5)


def test_only_its_own_metadata_is_read(tmp_path: Path) -> None:
    other = tmp_path / "other.xml"
    other.write_text(DESCRIPTOR)
    assert ScanR().read_metadata(other) is None
    with pytest.raises(FileNotFoundError):
        ScanR().read_metadata(tmp_path / "experiment_descriptor.xml")


def test_ome_xml_in_a_description_tells_the_pixel_size() -> None:
    description = '<OME><Image ID="1"><Pixels SizeC="1" PhysicalSizeX="650" PhysicalSizeXUnit="nm"/></Image></OME>'
    assert ScanR().read_tags(PurePosixPath(PLANE), TiffTags(description)) == ChannelFacts(pixel_size_um=0.65)
    assert ScanR().read_tags(PurePosixPath(PLANE), TiffTags("NI IMAQ")) is None


@given(
    st.builds(
        PlaneAddress,
        acquisition=st.builds(AcquisitionId, st.sampled_from(["P1", "a b_c"]), st.just("M1")),
        position=st.builds(WellPosition, st.integers(1, 32), st.integers(1, 48)),
        site=st.integers(1, 99999),
        channel=st.just("Alexa 488"),
        z=st.integers(1, 99999),
        time=st.integers(1, 99999),
        channel_name=st.just("Alexa 488"),
    )
)
def test_a_written_name_gives_the_address_back(address: PlaneAddress) -> None:
    assert ScanR().read_name("root", ScanR().plane_path(address)).address == address


def test_wells_are_counted_row_by_row_in_written_names() -> None:
    def number(row: int, column: int) -> str:
        address = PlaneAddress(AcquisitionId("P", "1"), WellPosition(row, column), 1, "DAPI")
        return ScanR().plane_path(address).name.split("--")[1]

    assert [number(2, 3), number(2, 13), number(17, 1)] == ["W00015", "W00037", "W00769"]


def test_a_projection_is_not_written() -> None:
    with pytest.raises(ValueError, match="is of one z step"):
        ScanR().plane_path(PlaneAddress(AcquisitionId("P", "1"), WellPosition(1, 1), 1, "DAPI", z=0))
