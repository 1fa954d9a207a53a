"""OME-TIFF: names, what the OME-XML inside says of each page, and what it promises of the plate."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import FileKind, PlaneAddress
from hcs_daemon.instruments.ome import OmeTiff, place_in_names
from hcs_daemon.plate import AcquisitionId, WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags, decode_plane, write_tiff

P1 = AcquisitionId("P1", "M1")
B03 = WellPosition(2, 3)
CHANNELS = '<Channel ID="Channel:0:0" Name="DNA"/><Channel ID="Channel:0:1" Name="ER"/>'


def ome(*content: str, year: str = "2016-06", uuid: str = "") -> str:
    mine = f' UUID="{uuid}"' if uuid else ""
    return f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/{year}"{mine}>{"".join(content)}</OME>'


def image(
    id_: str = "Image:0",
    name: str = "",
    *,
    c: int = 2,
    z: int = 1,
    t: int = 1,
    order: str = "XYCZT",
    more: str = "",
    channels: str = CHANNELS,
    data: str = "<TiffData/>",
) -> str:
    return (
        f'<Image ID="{id_}" Name="{name}"><Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint16" '
        f'SizeX="8" SizeY="8" SizeC="{c}" SizeZ="{z}" SizeT="{t}" {more}>{channels}{data}</Pixels></Image>'
    )


def plate(*wells: tuple[int, int, list[tuple[int, str]]]) -> str:
    """Row and column from 0, and the samples: index and image."""
    written = "".join(
        f'<Well ID="Well:{row}:{column}" Row="{row}" Column="{column}">'
        + "".join(
            f'<WellSample ID="WellSample:{image_id}" Index="{index}"><ImageRef ID="{image_id}"/></WellSample>'
            for index, image_id in samples
        )
        + "</Well>"
        for row, column, samples in wells
    )
    return f'<Plate ID="Plate:0" Name="Plate 7" Rows="8" Columns="12">{written}</Plate>'


def in_file(name: str, **at: int) -> str:
    indices = " ".join(f'{key}="{value}"' for key, value in at.items())
    return f'<TiffData {indices}><UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'


def pages(description: str, name: str = "x.ome.tif") -> Sequence[PlaneAddress | None]:
    return OmeTiff().read_bundle("root", PurePosixPath("P1__M1") / name, TiffTags(description))


def promise(description: str) -> Manifest:
    manifest = OmeTiff().promise_of_bundle(TiffTags(description))
    assert manifest is not None
    return manifest


def at(position: WellPosition, site: int, channel: str, z: int = 1, time: int = 1) -> PlaneAddress:
    return PlaneAddress(P1, position, site, channel, z, time, channel)


def places(description: str, name: str = "x.ome.tif") -> list[tuple[str, int]]:
    found = [(page.position.name, page.site) for page in pages(description, name) if page is not None]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("name", ["P1_B03_s1.ome.tif", "a.OME.TIFF", "run_1_MMStack_B3-Site_0.ome.tif"])
def test_an_ome_tiff_is_a_bundle_of_the_folders_plate(name: str) -> None:
    path = PurePosixPath("P1__M1") / name
    assert OmeTiff().read_name("root", path).kind is FileKind.BUNDLE
    assert OmeTiff().acquisition_of("root", path) == P1
    assert OmeTiff().measurement_folder(path) == PurePosixPath("P1__M1")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("plate.companion.ome", FileKind.METADATA),
        ("run_1_MMStack_Pos0_metadata.txt", FileKind.NO_DATA),
        ("DisplaySettings.json", FileKind.NO_DATA),
        ("P1_thumb.ome.tif", FileKind.NO_DATA),
        ("plain.tif", FileKind.UNKNOWN),
        (".ome.tif", FileKind.NO_DATA),
    ],
)
def test_other_files_are_known_for_what_they_are(name: str, kind: FileKind) -> None:
    assert OmeTiff().read_name("root", PurePosixPath(name)).kind is kind


def test_a_name_that_does_not_fit_says_where() -> None:
    assert "there is no ending" in OmeTiff().read_name("root", PurePosixPath("plain.tif")).problem


def test_a_plate_in_the_ome_xml_tells_well_and_site_of_each_page() -> None:
    description = ome(
        plate((1, 2, [(0, "Image:0"), (1, "Image:1")])),
        image("Image:0", data='<TiffData IFD="0" PlaneCount="2"/>'),
        image("Image:1", data='<TiffData IFD="2" PlaneCount="2"/>'),
    )
    assert list(pages(description)) == [at(B03, 1, "DNA"), at(B03, 1, "ER"), at(B03, 2, "DNA"), at(B03, 2, "ER")]


def test_sites_are_counted_in_the_well_where_the_index_counts_through_the_plate() -> None:
    description = ome(
        plate((0, 0, [(0, "Image:0"), (1, "Image:1")]), (1, 2, [(3, "Image:3"), (2, "Image:2")])),
        *(image(f"Image:{n}", data=f'<TiffData IFD="{n * 2}" PlaneCount="2"/>') for n in range(4)),
    )
    assert places(description) == [("A01", 1), ("A01", 2), ("B03", 1), ("B03", 2)]


def test_the_index_is_the_site_in_a_document_of_one_image() -> None:
    assert places(ome(plate((1, 2, [(4, "Image:0")])), image())) == [("B03", 5)]


def test_an_images_name_tells_the_site_where_a_well_has_one_sample() -> None:
    assert places(ome(plate((1, 2, [(4, "Image:0")])), image(name="Well B-3, Field #2"))) == [("B03", 2)]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("XYCZT", [("DNA", 1, 1), ("ER", 1, 1), ("DNA", 2, 1), ("ER", 2, 1), ("DNA", 1, 2), ("ER", 1, 2)]),
        ("XYZTC", [("DNA", 1, 1), ("DNA", 2, 1), ("DNA", 1, 2), ("DNA", 2, 2), ("ER", 1, 1), ("ER", 2, 1)]),
        ("XYTZC", [("DNA", 1, 1), ("DNA", 1, 2), ("DNA", 2, 1), ("DNA", 2, 2), ("ER", 1, 1), ("ER", 1, 2)]),
    ],
)
def test_pages_follow_the_dimension_order_where_nothing_else_is_said(
    order: str, expected: list[tuple[str, int, int]]
) -> None:
    found = pages(ome(image(z=2, t=2, order=order)), "P1_B03_s1.ome.tif")
    assert len(found) == 8
    assert [(page.channel, page.z, page.time) for page in found[:6] if page is not None] == expected


def test_a_run_of_pages_goes_on_from_its_first_plane() -> None:
    data = '<TiffData IFD="1" FirstC="1" FirstZ="0" PlaneCount="3"/>'
    found = pages(ome(image(z=2, data=data)), "P1_B03_s1.ome.tif")
    assert list(found) == [None, at(B03, 1, "ER", 1), at(B03, 1, "DNA", 2), at(B03, 1, "ER", 2)]


def test_pages_of_other_files_are_not_this_files() -> None:
    data = in_file("x.ome.tif", IFD=0, FirstC=1, PlaneCount=1) + in_file("y.ome.tif", IFD=0, FirstC=0, PlaneCount=1)
    assert list(pages(ome(image(name="B03_s1", data=data)))) == [at(B03, 1, "ER")]


def test_a_file_is_known_by_its_identifier_before_its_name() -> None:
    data = in_file("a.ome.tif", FirstC=0) + in_file("b.ome.tif", FirstC=1)
    description = ome(image(name="B03_s1", data=data), uuid="urn:uuid:b.ome.tif")
    assert list(pages(description, "renamed.ome.tif")) == [at(B03, 1, "ER")]


def test_a_renamed_file_that_is_the_only_one_is_still_read() -> None:
    description = ome(image(name="B03_s1", data=in_file("old.ome.tif", IFD=0, PlaneCount=2)))
    assert list(pages(description, "new.ome.tif")) == [at(B03, 1, "DNA"), at(B03, 1, "ER")]


def test_a_file_of_one_page_is_a_bundle_of_one() -> None:
    assert list(pages(ome(image(c=1)), "P1_B03_s7.ome.tif")) == [at(B03, 7, "DNA")]


def test_older_documents_are_read_alike() -> None:
    data = '<TiffData NumPlanes="2"/>'
    assert places(ome(image(data=data), year="2008-09"), "P1_B03_s1.ome.tif") == [("B03", 1)]


def test_the_samples_of_a_colour_camera_share_a_page() -> None:
    channels = '<Channel Name="RGB" SamplesPerPixel="3"/>'
    assert [page.channel for page in pages(ome(image(c=3, channels=channels)), "P1_B03_s1.ome.tif") if page] == ["RGB"]


@pytest.mark.parametrize(
    ("channels", "ids", "names"),
    [
        ("", ["C0", "C1"], ["", ""]),
        ('<Channel Name="DNA"/>', ["DNA", "C1"], ["DNA", ""]),
        ('<Channel Name="DNA"/><Channel Name="DNA"/>', ["C0", "C1"], ["DNA", "DNA"]),
    ],
)
def test_a_channel_without_a_name_of_its_own_is_known_by_its_index(
    channels: str, ids: list[str], names: list[str]
) -> None:
    found = [page for page in pages(ome(image(channels=channels)), "P1_B03_s1.ome.tif") if page is not None]
    assert [page.channel for page in found] == ids
    assert [page.channel_name for page in found] == names


@pytest.mark.parametrize(
    ("image_name", "file", "place"),
    [
        ("", "P1_B03_s2.ome.tif", ("B03", 2)),
        ("", "B2_C03_s2.ome.tif", ("C03", 2)),
        ("", "well_B03_site4.ome.tif", ("B03", 4)),
        ("", "run_A7_1_MMStack_B3-Site_0.ome.tif", ("B03", 0)),
        ("", "run_1_MMStack_B3-Site_0_1.ome.tif", ("B03", 0)),
        ("B3-Site_2", "run_1_MMStack.ome.tif", ("B03", 2)),
        ("", "P1_B03.ome.tif", ("B03", 1)),
        ("", "P1_AF48_f003.ome.tif", ("AF48", 3)),
        ("", "x_s9_B03_s2.ome.tif", ("B03", 2)),
        ("P7", "P1_B03_s2.ome.tif", ("B03", 2)),
    ],
)
def test_without_a_plate_names_tell_well_and_site(image_name: str, file: str, place: tuple[str, int]) -> None:
    assert places(ome(image(name=image_name)), file) == [place]


def test_several_images_in_a_file_of_one_well_are_counted() -> None:
    description = ome(*(image(f"Image:{n}", data=f'<TiffData IFD="{n * 2}" PlaneCount="2"/>') for n in range(2)))
    assert places(description, "P1_B03.ome.tif") == [("B03", 1), ("B03", 2)]


@pytest.mark.parametrize(
    ("description", "name", "words"),
    [
        ("", "P1_B03_s1.ome.tif", "holds no OME-XML"),
        (ome(image())[:-20], "P1_B03_s1.ome.tif", "holds no OME-XML"),
        ('<!DOCTYPE a [<!ENTITY b "OME">]><OME>&b;</OME>', "P1_B03_s1.ome.tif", "holds no OME-XML"),
        (ome('<BinaryOnly MetadataFile="p.companion.ome"/>'), "P1_B03_s1.ome.tif", "stands in p.companion.ome"),
        (ome(), "P1_B03_s1.ome.tif", "speaks of no page"),
        (ome(image()), "x.ome.tif", "neither a Plate in its OME-XML nor a name in it tells the well; name files like"),
        (ome(image()), "x_T01.ome.tif", "nor a name in it tells the well"),
        (ome(image()), "x_B03_C04.ome.tif", "may mean B03 or C04"),
        (ome(plate((1, 2, [(0, "Image:0")])), image()), "P1_C04_s1.ome.tif", "of well B03, and the file's name of C04"),
        (ome(plate((8, 50, [(0, "Image:0")])), image()), "x.ome.tif", "on no plate"),
        (ome(image(c=0)), "P1_B03_s1.ome.tif", "an image of 0 x 1 x 1"),
        (ome(image(c=100000, z=100000)), "P1_B03_s1.ome.tif", "100000 x 100000 x 1"),
        (ome(image(more='SignificantBits="many"')), "P1_B03_s1.ome.tif", "says SignificantBits='many'"),
        (ome(image(data='<TiffData IFD="-1"/>')), "P1_B03_s1.ome.tif", "says IFD='-1'"),
        (ome(image(data='<TiffData IFD="999999999"/>')), "P1_B03_s1.ome.tif", "more than 1000000 pages"),
        (ome(image(data='<TiffData FirstC="2"/>')), "P1_B03_s1.ome.tif", "says FirstC=2 where SizeC is 2"),
        (ome(image("Image:0"), image("Image:0")), "P1_B03_s1.ome.tif", "calls two images alike"),
        (
            ome(*(image(f"Image:{n}", c=1000, z=1000) for n in range(5))),
            "P1_B03_s1.ome.tif",
            "speaks of more than 4000000 planes",
        ),
        (ome(image()), "B03_s1_B03_s2.ome.tif", "may mean B03 site 1 or B03 site 2"),
        (ome(image(data='<TiffData IFD="0"/><TiffData IFD="0"/>')), "P1_B03_s1.ome.tif", "speaks twice of page 0"),
        (ome(image(order="CZT")), "P1_B03_s1.ome.tif", "says DimensionOrder='CZT'"),
        (ome('<Image ID="Image:0"/>'), "P1_B03_s1.ome.tif", "without Pixels"),
        (
            ome(image(data=in_file("a.ome.tif", FirstC=0) + in_file("b.ome.tif", FirstC=1))),
            "P1_B03_s1.ome.tif",
            "speaks of other files, such as a.ome.tif, and not of this one; was it renamed?",
        ),
        (
            ome(
                image("Image:0", "B03_s1", data='<TiffData IFD="0"/>'),
                image("Image:1", "B03_s1", data='<TiffData IFD="1"/>'),
            ),
            "x.ome.tif",
            "2 images at 1 of the plate's sites",
        ),
    ],
)
def test_a_bundle_that_does_not_say_what_it_holds_is_refused_in_words(description: str, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        pages(description, name)


def test_a_document_of_several_files_promises_the_whole_plate() -> None:
    names = {"Image:0": ("B03", 1), "Image:1": ("B03", 2), "Image:2": ("C04", 1)}
    description = ome(
        plate((1, 2, [(0, "Image:0"), (1, "Image:1")]), (2, 3, [(2, "Image:2")])),
        *(
            image(id_, z=3, data=in_file(f"P1_{well}_s{site}.ome.tif", IFD=0, PlaneCount=6))
            for id_, (well, site) in names.items()
        ),
    )
    steps = frozenset({1, 2, 3})
    found = promise(description)
    assert found.planes == {
        B03: {(site, 1, channel): steps for site in (1, 2) for channel in ("DNA", "ER")},
        WellPosition(3, 4): {(1, 1, channel): steps for channel in ("DNA", "ER")},
    }
    assert (found.may_grow, found.exact_z, found.rows, found.columns, found.plate_id) == (False, True, 8, 12, "Plate 7")


def test_a_document_of_its_own_file_promises_its_wells_and_says_that_more_may_come() -> None:
    description = ome(*(image(f"Image:{n}", f"B3-Site_{n}", t=2) for n in range(2)))
    found = promise(description)
    assert set(found.planes) == {B03}
    assert set(found.planes[B03]) == {
        (site, time, name) for site in (0, 1) for time in (1, 2) for name in ("DNA", "ER")
    }
    assert found.may_grow


def test_a_document_of_one_image_promises_no_planes_for_its_well_may_have_more() -> None:
    found = promise(ome(plate((1, 2, [(0, "Image:0")])), image()))
    assert (found.planes, found.may_grow) == ({}, False)
    assert set(found.channels) == {"DNA", "ER"}


def test_the_facts_of_each_channel_are_told() -> None:
    channels = (
        '<Channel Name="DNA" ExcitationWavelength="405" EmissionWavelength="447"/>'
        '<Channel Name="ER" ExcitationWavelength="0.488" ExcitationWavelengthUnit="\u00b5m"/>'
    )
    planes = '<Plane TheC="0" TheZ="0" TheT="0" ExposureTime="0.05"/>'
    planes += '<Plane TheC="1" TheZ="0" TheT="0" ExposureTime="120" ExposureTimeUnit="ms"/>'
    description = ome(
        '<Instrument ID="I:0"><Objective ID="Objective:0" NominalMagnification="20" LensNA="0.75"/></Instrument>',
        image(
            channels=channels, data="<TiffData/>" + planes, more='PhysicalSizeX="0.598" SignificantBits="12"'
        ).replace("<Pixels", '<ObjectiveSettings ID="Objective:0"/><Pixels'),
    )
    found = promise(description)
    assert found.channels == {
        "DNA": ChannelFacts("DNA", "DNA", 405.0, 447.0, 50.0, 0.598, "20x, NA 0.75", 12),
        "ER": ChannelFacts("ER", "ER", 488.0, None, 120.0, 0.598, "20x, NA 0.75", 12),
    }
    assert found.pixel_size_um == 0.598
    assert OmeTiff().read_tags(PurePosixPath("x.ome.tif"), TiffTags(description)) == ChannelFacts(
        pixel_size_um=0.598, objective="20x, NA 0.75", bit_depth=12
    )


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        ("598", "nm", 0.598),
        ("5.98e-4", "mm", 0.598),
        ("0.598", "\u03bcm", 0.598),
        ("1", "pixel", None),
        ("0", "\u00b5m", None),
        ("nan", "\u00b5m", None),
        ("1", "m", None),
    ],
)
def test_a_pixel_size_has_a_unit_and_may_be_none(size: str, unit: str, expected: float | None) -> None:
    more = f'PhysicalSizeX="{size}" PhysicalSizeXUnit="{unit}"'
    assert promise(ome(image(more=more))).pixel_size_um == expected


@pytest.mark.parametrize("description", ["", "ImageJ=1.53", ome(image())[:-9], ome(image(c=0))])
def test_what_is_no_ome_xml_says_and_promises_nothing(description: str) -> None:
    assert OmeTiff().promise_of_bundle(TiffTags(description)) is None
    assert OmeTiff().read_tags(PurePosixPath("x.ome.tif"), TiffTags(description)) is None


def test_a_companion_file_promises_as_the_files_it_names_would(tmp_path: Path) -> None:
    path = tmp_path / "plate.companion.ome"
    data = in_file("a.ome.tif", IFD=0, FirstC=0) + in_file("b.ome.tif", IFD=0, FirstC=1)
    path.write_text(ome(plate((1, 2, [(0, "Image:0")])), image(data=data)))
    found = OmeTiff().read_metadata(path)
    assert found is not None
    assert found.planes == {B03: {(1, 1, "DNA"): frozenset({1}), (1, 1, "ER"): frozenset({1})}}


def test_a_companion_that_is_broken_or_none_promises_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plate.companion.ome"
    path.write_text(ome(image())[:-9])
    assert OmeTiff().read_metadata(path) is None
    assert OmeTiff().read_metadata(tmp_path / "other.xml") is None
    with pytest.raises(FileNotFoundError):
        OmeTiff().read_metadata(tmp_path / "absent.companion.ome")


def test_a_file_by_another_writer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "P1_B03_s2.ome.tif"
    metadata = {"axes": "YX", "PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "\u00b5m", "Channel": {"Name": ["DNA"]}}
    write_tiff(path, np.zeros((8, 8), np.uint16), ome=True, metadata=metadata)
    tags = decode_plane(path.read_bytes()).tags
    found = OmeTiff().read_bundle("root", PurePosixPath("P1__M1") / path.name, tags)
    assert list(found) == [at(B03, 2, "DNA")]
    facts = OmeTiff().read_tags(PurePosixPath(path.name), tags)
    assert facts is not None
    assert facts.pixel_size_um == 0.65


@given(st.integers(1, 32), st.integers(1, 48), st.integers(0, 99999), st.sampled_from(["P1", "B2", "a b_c", "T01"]))
def test_a_written_name_tells_well_and_site_again(row: int, column: int, site: int, plate_name: str) -> None:
    address = PlaneAddress(AcquisitionId(plate_name, "M1"), WellPosition(row, column), site, "DNA")
    path = OmeTiff().plane_path(address)
    assert OmeTiff().read_name("root", path).kind is FileKind.BUNDLE
    found = OmeTiff().read_bundle("root", path, TiffTags(ome(image())))
    assert {(page.acquisition, page.position, page.site) for page in found if page is not None} == {
        (address.acquisition, address.position, site)
    }


@given(st.text(max_size=60).filter(lambda text: not re.search(r"[A-Za-z]", text)))
def test_a_name_without_letters_tells_no_well(text: str) -> None:
    assert place_in_names(text) == (None, None)
