"""Names, HTD files and tags of ImageXpress."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.instruments.imagexpress import ImageXpress
from hcs_daemon.instruments.imagexpress_htd import read_htd
from hcs_daemon.instruments.imagexpress_tags import read_description
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import FileKind, PlaneAddress, Reading
from hcs_daemon.instruments.own_record import OwnAddress, OwnDepth, OwnForm, OwnRecord
from hcs_daemon.plate import PROJECTION_Z, AcquisitionId, WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags, decode_plane

GUID = "11C10327-03CC-448A-9994-016D0DA8E40D"


def read(path: str, root_name: str = "root") -> Reading:
    return ImageXpress().read_name(root_name, PurePosixPath(path))


def address(path: str, root_name: str = "root") -> PlaneAddress:
    reading = read(path, root_name)
    assert reading.kind is FileKind.PLANE, reading.problem
    assert reading.address is not None
    return reading.address


# ---- names


@pytest.mark.parametrize(
    ("name", "well", "site", "channel"),
    [
        ("P_E07_s2_w3.tif", "E07", 2, "w3"),
        (f"P_E07_s2_w3{GUID}.tif", "E07", 2, "w3"),
        (f"P_E07_s12_w1{GUID}.tif", "E07", 12, "w1"),
        (f"P_E07_s2_w3_[{GUID}].tif", "E07", 2, "w3"),
        (f"P_E07_s2{GUID}.tif", "E07", 2, "w1"),
        (f"P_E07_w2{GUID}.TIF", "E07", 1, "w2"),
        (f"P_E07{GUID}.tif", "E07", 1, "w1"),
        ("P_E07_w2.tif", "E07", 1, "w2"),
        ("P_E07_s4.tiff", "E07", 4, "w1"),
        ("P_e7.tif", "E07", 1, "w1"),
        ("P_AF48_s1_w1.tif", "AF48", 1, "w1"),
        ("P_E07_S2_W03.TIF", "E07", 2, "w3"),
    ],
)
def test_site_channel_and_guid_may_be_absent(name: str, well: str, site: int, channel: str) -> None:
    found = address(f"P/{name}")
    assert (found.position.name, found.site, found.channel) == (well, site, channel)
    assert (found.acquisition, found.time) == (AcquisitionId("P", "1"), 1)


@pytest.mark.parametrize(
    ("name", "plate", "well"),
    [
        ("a_b-c_d_E07_s1_w1.tif", "a_b-c_d", "E07"),
        ("Repeat_A01_E07_s1_w1.tif", "Repeat_A01", "E07"),
        ("P_A01_s1_w1_E07_s1_w1.tif", "P_A01_s1_w1", "E07"),
        ("P_A01_W05_s1_w1.tif", "P_A01", "W05"),
        ("P_S05_s1_w1.tif", "P", "S05"),
        ("P_W48.tif", "P", "W48"),
        ("P_A01_s10.tif", "P", "A01"),
        ("P_A01_w10.tif", "P", "A01"),
        ("P_A01_S10_W1.TIF", "P", "A01"),
    ],
)
def test_the_last_well_before_the_suffix_counts(name: str, plate: str, well: str) -> None:
    found = address(f"1334/{name}")
    assert (found.acquisition.plate, found.position.name) == (plate, well)


@pytest.mark.parametrize(
    ("folder", "time", "z"),
    [
        ("", 1, PROJECTION_Z),
        ("TimePoint_3/", 3, PROJECTION_Z),
        ("ZStep_10/", 1, 10),
        ("TimePoint_3/ZStep_10/", 3, 10),
        ("ZStep_10/TimePoint_3/", 3, 10),
        ("timepoint_3/zstep_2/", 3, 2),
    ],
)
def test_folders_say_time_point_and_z_step_and_an_image_in_no_step_is_no_step(folder: str, time: int, z: int) -> None:
    path = f"P/{folder}P_E07_s1_w1.tif"
    assert (address(path).time, address(path).z) == (time, z)
    assert ImageXpress().measurement_folder(PurePosixPath(path)) == PurePosixPath("P")
    assert address(path).acquisition == AcquisitionId("P", "1")


@pytest.mark.parametrize(
    ("path", "plate", "acquisition"),
    [
        ("BR1/P_E07_s1.tif", "BR1", "1"),
        ("BR1__M2/TimePoint_1/P_E07_s1.tif", "BR1", "M2"),
        ("batch/BR1/P_E07_s1.tif", "BR1", "batch"),
        ("P_E07_s1.tif", "root", "1"),
        ("2023-02-21/1334/P_E07_s1.tif", "P", "2023-02-21_1334"),
        ("2023-02-21/1334/TimePoint_2/ZStep_3/P_E07_s1.tif", "P", "2023-02-21_1334"),
        ("2023-02-21/1334/P.HTD", "P", "2023-02-21_1334"),
        ("2023-02-21/1334/TimePoint_1/P.HTD", "P", "2023-02-21_1334"),
        ("2023-02-21/1334/Other_E07_s1.tif", "Other", "2023-02-21_1334"),
        ("P/2023-02-21/1334/P_E07_s1.tif", "P", "2023-02-21_1334"),
        ("screen/2023-02-21/1334/P_E07_s1.tif", "P", "screen_2023-02-21_1334"),
        ("1334/P_E07_s1.tif", "P", "1334"),
        ("BR1/P.HTD", "BR1", "1"),
    ],
)
def test_the_folder_names_the_plate_unless_it_is_a_date_or_a_number(path: str, plate: str, acquisition: str) -> None:
    assert ImageXpress().acquisition_of("root", PurePosixPath(path)) == AcquisitionId(plate, acquisition)


@pytest.mark.parametrize(
    ("root_name", "plate", "acquisition"),
    [("BR1", "BR1", "1"), ("BR1__M2", "BR1", "M2"), ("1334", "P", "1334"), ("2023-02-21", "P", "2023-02-21")],
)
def test_the_watched_folder_may_be_the_measurement(root_name: str, plate: str, acquisition: str) -> None:
    for path in ("P_E07_s1_w1.tif", "TimePoint_1/P_E07_s1_w1.tif"):
        assert address(path, root_name).acquisition == AcquisitionId(plate, acquisition)
    assert ImageXpress().acquisition_of(root_name, PurePosixPath("P.HTD")) == AcquisitionId(plate, acquisition)


@pytest.mark.parametrize(
    "path",
    [
        f"P_E07_s1_w1_thumb{GUID}.tif",
        "P_E07_s1_w1_thumb.tif",
        f"P_E07_s1_w1_Thumb_[{GUID}].tif",
        "notes.txt",
        "plate.xml",
        "MetaXpress.mdb",
        "scan.log",
    ],
)
def test_thumbnails_and_other_files_hold_no_data(path: str) -> None:
    assert read(f"P/ZStep_1/{path}").kind is FileKind.NO_DATA


@pytest.mark.parametrize("name", ["P.HTD", "p.htd"])
def test_an_htd_file_is_metadata(name: str) -> None:
    assert read(f"1334/{name}").kind is FileKind.METADATA


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("image.tif", "at its beginning there is no plate name"),
        ("P_E07_s1_w1_x.tif", "after 'P_E07_s1_w1' there is no ending .tif"),
        ("P_E07_s1_w1.png", "after 'P_E07_s1_w1' there is no ending .tif"),
        ("P_s1_w1.png", "after 'P_s1_' there is no well"),
        ("my_image.tif", "after 'my_' there is no well"),
        ("P_Z07_s0_w1.tif", "count from 1"),
        ("P_E07_s1_w0.tif", "count from 1"),
        ("TimePoint_0/P_E07_s1_w1.tif", "count from 1"),
        ("ZStep_0/P_E07_s1_w1.tif", "count from 1"),
        ("P_E99_s1_w1.tif", "on no plate"),
        ("P_E00_s1_w1.tif", "not a well"),
        ("P_E07_s\u0661_w1.tif", "no ending"),
    ],
)
def test_a_name_that_does_not_fit_says_where(path: str, words: str) -> None:
    reading = read(path)
    assert reading.kind is FileKind.UNKNOWN
    assert words in reading.problem


@given(
    st.text(max_size=60).map(lambda text: text.replace("/", "").replace("\0", "")).filter(lambda text: text.strip("."))
)
def test_any_name_is_read_without_a_fault(name: str) -> None:
    assert read(name).kind in set(FileKind)


PLATES = st.sampled_from(["P", "a_b-c", "Repeat_A01", "x_s1", "x_w1", "P_A01_s1_w1", "123", "2023-02-21"]) | (
    st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9_\-. ]{0,20}[A-Za-z0-9])?", fullmatch=True).filter(
        lambda name: "__" not in name and not re.search("thumb|preview", name, re.IGNORECASE)
    )
)


@given(
    st.builds(
        PlaneAddress,
        st.builds(AcquisitionId, PLATES, st.sampled_from(["1", "M2", "2023-02-21_1334"])),
        st.builds(WellPosition, st.integers(1, 32), st.integers(1, 48)),
        site=st.integers(1, 400),
        channel=st.integers(1, 12).map("w{}".format),
        z=st.integers(PROJECTION_Z, 120),
        time=st.integers(1, 500),
    )
)
def test_a_plane_is_written_where_it_is_read(plane: PlaneAddress) -> None:
    assert address(str(ImageXpress().plane_path(plane))) == plane


# ---- HTD


def htd(**changed: str | None) -> str:
    """A document as MetaXpress writes it, of a 24-well plate; `None` leaves a line out."""
    lines = {
        "HTSInfoFile": "Version 1.0",
        "Description": '"a plate"',
        "PlateType": "6",
        "TimePoints": "1",
        "ZSeries": "FALSE",
        "ZSteps": "1",
        "ZProjection": "FALSE",
        "XWells": "6",
        "YWells": "4",
        "WellsSelection1": "FALSE, FALSE, FALSE, FALSE, FALSE, FALSE",
        "WellsSelection2": "FALSE, FALSE, TRUE, TRUE, FALSE, FALSE",
        "WellsSelection3": "FALSE, FALSE, FALSE, FALSE, FALSE, FALSE",
        "WellsSelection4": "FALSE, FALSE, FALSE, FALSE, FALSE, TRUE",
        "Sites": "TRUE",
        "XSites": "2",
        "YSites": "1",
        "SiteSelection1": "TRUE, TRUE",
        "Waves": "TRUE",
        "NWavelengths": "2",
        "WaveName1": '"DAPI"',
        "WaveName2": '"FITC, long"',
        "WaveCollect1": "1",
        "WaveCollect2": "1",
        "UniquePlateIdentifier": '"{0F8FAD5B-D9CB-469F-A165-70867728950E}"',
        "EndFile": "",
    } | changed
    said = {key: value for key, value in lines.items() if value is not None}
    return "".join(f'"{key}"{", " if value else ""}{value}\r\n' for key, value in said.items())


def promised(tmp_path: Path, text: str) -> Manifest | None:
    path = tmp_path / "BR1.HTD"
    path.write_bytes(text.encode("latin-1"))
    return ImageXpress().read_metadata(path)


def manifest(tmp_path: Path, **changed: str | None) -> Manifest:
    found = promised(tmp_path, htd(**changed))
    assert found is not None
    return found


FLAT = frozenset({PROJECTION_Z})


def test_an_htd_file_promises_the_plate(tmp_path: Path) -> None:
    images = {(site, 1, channel): FLAT for site in (1, 2) for channel in ("w1", "w2")}
    assert manifest(tmp_path) == Manifest(
        planes={WellPosition(2, 3): images, WellPosition(2, 4): images, WellPosition(4, 6): images},
        rows=4,
        columns=6,
        channels={"w1": ChannelFacts("w1", "DAPI"), "w2": ChannelFacts("w2", "FITC, long")},
        plate_id="BR1",
        measurement_id="{0F8FAD5B-D9CB-469F-A165-70867728950E}",
    )


@pytest.mark.parametrize(
    ("changed", "steps", "exact"),
    [
        ({"ZSeries": "TRUE", "ZSteps": "3"}, {1, 2, 3}, False),
        ({"ZSeries": "TRUE", "ZSteps": "3", "ZProjection": "TRUE"}, {0, 1, 2, 3}, False),
        ({"ZSeries": None, "ZSteps": "2"}, {1, 2}, False),
        ({"ZSeries": "TRUE", "ZSteps": "1"}, {0}, True),
        ({"ZSeries": "FALSE", "ZSteps": "3"}, {0}, True),
        ({"ZSeries": None, "ZSteps": None, "ZProjection": None}, {0}, True),
    ],
)
def test_a_stack_is_promised_as_the_most_a_channel_may_have(
    tmp_path: Path, changed: dict[str, str | None], steps: set[int], *, exact: bool
) -> None:
    found = manifest(tmp_path, **changed)
    assert found.exact_z is exact
    assert set(found.planes[WellPosition(2, 3)].values()) == {frozenset(steps)}


@pytest.mark.parametrize(
    ("changed", "sites"),
    [
        (
            {
                "XSites": "3",
                "YSites": "2",
                "SiteSelection1": "FALSE, TRUE, FALSE",
                "SiteSelection2": "TRUE, FALSE, TRUE",
            },
            {1, 2, 3},
        ),
        ({"XSites": "3", "YSites": "2", "SiteSelection1": None}, {1, 2, 3, 4, 5, 6}),
        ({"Sites": "FALSE"}, {1}),
        ({"Sites": None}, {1, 2}),
        ({"Sites": None, "XSites": None, "YSites": None, "SiteSelection1": None}, {1}),
        ({"XSites": "60", "YSites": "1", "SiteSelection1": ", ".join(["TRUE"] * 60)}, set(range(1, 61))),
    ],
)
def test_sites_are_numbered_as_they_are_selected(
    tmp_path: Path, changed: dict[str, str | None], sites: set[int]
) -> None:
    found = manifest(tmp_path, **changed)
    assert {site for site, _, _ in found.planes[WellPosition(2, 3)]} == sites


@pytest.mark.parametrize(
    ("changed", "channels"),
    [
        ({"WaveCollect1": "0"}, {"w2"}),
        ({"WaveCollect1": None, "WaveCollect2": None}, {"w1", "w2"}),
        ({"Waves": "FALSE"}, {"w1"}),
        ({"Waves": None}, {"w1", "w2"}),
        ({"Waves": None, "NWavelengths": None}, {"w1"}),
    ],
)
def test_a_wave_that_is_not_collected_keeps_its_number(
    tmp_path: Path, changed: dict[str, str | None], channels: set[str]
) -> None:
    found = manifest(tmp_path, **changed)
    assert {channel for _, _, channel in found.planes[WellPosition(2, 3)]} == channels
    assert set(found.channels) == channels


def test_every_time_point_is_promised(tmp_path: Path) -> None:
    found = manifest(tmp_path, TimePoints="3")
    assert {time for _, time, _ in found.planes[WellPosition(2, 3)]} == {1, 2, 3}


def test_wells_share_what_is_promised_of_them(tmp_path: Path) -> None:
    first, second, *_ = manifest(tmp_path).planes.values()
    assert first is second


def test_a_description_may_hold_any_character(tmp_path: Path) -> None:
    plain = manifest(tmp_path)
    assert manifest(tmp_path, Description='"5" dish, 10 \xb5M \x85 "EndFile'.replace("EndFile", "x")) == plain
    assert promised(tmp_path, "\xef\xbb\xbf" + htd()) == plain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no such file\r\n",
        htd()[:-20],
        htd(HTSInfoFile=None),
        htd(EndFile=None),
        htd(XWells=None),
        htd(XWells="many"),
        htd(XWells="-6"),
        htd(XWells="7"),
        htd(YWells="5"),
        htd(XWells="6000000"),
        htd(WellsSelection2=None),
        htd(WellsSelection4="TRUE"),
        htd(TimePoints="0"),
        htd(TimePoints="1000000000"),
        htd(NWavelengths="1000000000"),
        htd(XSites="100000", YSites="100000", SiteSelection1=None),
        htd(ZSeries="TRUE", ZSteps="1000000000"),
        htd(YWells="40", **{f"WellsSelection{row}": ", ".join(["TRUE"] * 6) for row in range(1, 41)}),
        htd(Description='"' + "x" * 200_000 + '"'),
        htd() + " " * (1 << 20),
    ],
)
def test_an_empty_cut_or_impossible_htd_file_promises_nothing(tmp_path: Path, text: str) -> None:
    assert promised(tmp_path, text) is None


def test_an_htd_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_htd(tmp_path / "gone.HTD")


# ---- tags

DESCRIPTION = """<MetaData>
<prop id="Description" type="string" value="Plate Name: P&#13;&#10;Exposure: 15 ms&#13;&#10;Binning: 2 x 2&#13;&#10;\
Gain: 12-bit (low noise &#38; high well capacity)&#13;&#10;"/>
<PlaneInfo>
<prop id="bits-per-pixel" type="int" value="16"/>
<prop id="spatial-calibration-state" type="bool" value="on"/>
<prop id="spatial-calibration-x" type="float" value="1.3668"/>
<prop id="spatial-calibration-y" type="float" value="1.3668"/>
<prop id="spatial-calibration-units" type="string" value="um"/>
<prop id="image-name" type="string" value="A &#38; B"/>
<prop id="wavelength" type="float" value="536"/>
<prop id="_IllumSetting_" type="string" value="FITC_05"/>
<prop id="_MagNA_" type="float" value="0.75"/>
<prop id="_MagSetting_" type="string" value="20X Plan Apo Lambda"/>
<custom-prop id="Camera Bit Depth" type="float" value="16"/>
</PlaneInfo>
</MetaData>"""

TOLD = ChannelFacts("w2", "A & B", None, 536.0, 15.0, 1.3668, "20X Plan Apo Lambda, NA 0.75", 12)


def test_tags_say_how_a_plane_was_taken() -> None:
    assert ImageXpress().read_tags(PurePosixPath(f"P/P_E07_s1_w2{GUID}.tif"), TiffTags(DESCRIPTION)) == TOLD


def test_tags_say_what_a_plane_is() -> None:
    label = (
        '<prop id="stage-label" type="string" value="E07 : Site 2"/><prop id="pixel-size-x" type="int" value="512"/>'
    )
    description = DESCRIPTION.replace("<PlaneInfo>", f"<PlaneInfo>{label}").replace(
        "P&#13;", "P&#13;&#10;Timepoint: 4&#13;"
    )
    record = ImageXpress().read_record(PurePosixPath(f"P/P_E07_s2_w2{GUID}.tif"), TiffTags(description))
    assert record == OwnRecord(
        address=OwnAddress("its description (stage-label) says", row=5, column=7, site=2, time=4),
        depth=OwnDepth("its description (Gain) says", 12, is_mode=True),
        form=OwnForm("its description says", width=512, container_bits=16),
        constant={"the name of channel w2": "A & B"},
    )


@pytest.mark.parametrize("label", ["E7", "Position 3", "Z99 : Site 1", "E07 : Site x", ""])
def test_a_stage_label_of_another_kind_says_no_address(label: str) -> None:
    description = DESCRIPTION.replace(
        "<PlaneInfo>", f'<PlaneInfo><prop id="stage-label" type="string" value="{label}"/>'
    )
    record = ImageXpress().read_record(PurePosixPath(f"P/P_E07_s2_w2{GUID}.tif"), TiffTags(description))
    assert record is not None
    assert record.address is None


def test_a_thumbnail_says_nothing_of_the_plane_it_is_of() -> None:
    description = DESCRIPTION.replace("A &#38; B", "HTSThumbHTS")
    assert ImageXpress().read_record(PurePosixPath(f"P/P_E07_s2_w2{GUID}.tif"), TiffTags(description)) is None


@pytest.mark.parametrize(
    ("old", "new", "field", "value"),
    [
        ('value="on"', 'value="off"', "pixel_size_um", None),
        ('value="um"', 'value="\u00b5m"', "pixel_size_um", 1.3668),
        ('value="um"', 'value="pixels"', "pixel_size_um", None),
        ('"1.3668"', '"nan"', "pixel_size_um", None),
        ('"1.3668"', '"0"', "pixel_size_um", None),
        ('"1.3668"', '"1e9"', "pixel_size_um", None),
        ('y" type="float" value="1.3668"', 'y" type="float" value="2.7"', "pixel_size_um", None),
        ("A &#38; B", "A > B", "name", "A > B"),
        ("A &#38; B", "", "name", "FITC_05"),
        ("A &#38; B", "HTSThumbHTS", "name", "FITC_05"),
        ("15 ms", "1.5 s", "exposure_ms", 1500.0),
        ("15 ms", "... ms", "exposure_ms", None),
        ("15 ms", "long", "exposure_ms", None),
        ("12-bit", "16-bit", "bit_depth", 16),
        ("Gain: 12-bit", "Gain: 2", "bit_depth", 16),
        ("Gain: 12-bit", "Gain: 13-bit", "bit_depth", None),
        ('"536"', '"0"', "emission_nm", None),
        ('"0.75"', '"0"', "objective", "20X Plan Apo Lambda"),
    ],
)
def test_what_a_tag_does_not_say_clearly_it_does_not_say(
    old: str, new: str, field: str, value: str | float | None
) -> None:
    assert old in DESCRIPTION
    facts = read_description(DESCRIPTION.replace(old, new), "w2")
    assert facts is not None
    assert getattr(facts, field) == value


@pytest.mark.parametrize(
    "text", ["", "Exposure: 15 ms", "<MetaData>", "<MetaData><prop id=", '{"shape": [10, 10]}', "x" * 10_000_000]
)
def test_another_description_says_nothing(text: str) -> None:
    assert read_description(text, "w1") is None


# ---- the real sets


def read_all(folder: Path) -> Iterator[tuple[Path, Reading]]:
    """Every file of a real set, as it is read where the set's folder is watched."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, ImageXpress().read_name(folder.name, PurePosixPath(path.relative_to(folder).as_posix()))


def facts_of(path: Path) -> ChannelFacts | None:
    return ImageXpress().read_tags(PurePosixPath(path.name), decode_plane(path.read_bytes()).tags)


def test_the_z_mix_is_known_to_the_last_file(shared_data: Path) -> None:
    found = list(read_all(shared_data / "imagexpress-z-mix"))
    thumbs = [path for path, reading in found if reading.kind is FileKind.NO_DATA]
    planes = [(path, reading.address) for path, reading in found if reading.kind is FileKind.PLANE]
    assert len(found) == len(thumbs) + len(planes)
    assert len(thumbs) == len(planes)
    assert all("_thumb" in path.name for path in thumbs)
    assert not any("_thumb" in path.name for path, _ in planes)
    stacks: dict[str, set[int]] = {}
    for path, plane in planes:
        assert plane is not None
        assert plane.acquisition == AcquisitionId("Projection-Mix", "2023-02-21_1334")
        assert plane.time == 1
        assert ("ZStep_" in path.parent.name) == (plane.z != PROJECTION_Z)
        stacks.setdefault(plane.channel, set()).add(plane.z)
    assert stacks == {
        "w1": set(range(11)),
        "w2": set(range(11)),
        "w3": {PROJECTION_Z},
        "w4": {1},
    }
    addresses = {plane for _, plane in planes}
    assert len(addresses) == len(planes) == 2 * 2 * (11 + 11 + 1 + 1)
    assert {plane.position.name for plane in addresses if plane} == {"E07", "E08"}
    assert {plane.site for plane in addresses if plane} == {1, 2}


def test_the_time_lapse_is_known_to_the_last_file(shared_data: Path) -> None:
    found = list(read_all(shared_data / "imagexpress-timelapse"))
    assert {reading.kind for _, reading in found} == {FileKind.PLANE}
    acquisition = AcquisitionId("1well-3C-2S-Zmix-T", "2024-04-22_1697")
    assert {reading.address for _, reading in found} == {
        PlaneAddress(acquisition, WellPosition.parse("C07"), site, channel, PROJECTION_Z, time)
        for site in (1, 2)
        for channel in ("w1", "w2", "w3")
        for time in (1, 2)
    }
    assert len(found) == 12


def test_the_z_mix_says_how_it_was_taken(shared_data: Path) -> None:
    said = {
        plane.address.channel: facts_of(path)
        for path, plane in read_all(shared_data / "imagexpress-z-mix")
        if plane.address is not None and plane.address.z in {PROJECTION_Z, 1}
    }
    assert said == {
        channel: ChannelFacts(channel, name, None, 536.0, 15.0, 1.3668, "20X Plan Apo Lambda, NA 0.75", 16, how)
        for channel, name, how in [
            ("w1", "FITC_05", ""),
            ("w2", "FITC_05-2", ""),
            ("w3", "FITC_05-3", "Maximum"),
            ("w4", "FITC_05-4", ""),
        ]
    }


def test_the_z_mix_says_how_its_projections_were_made(shared_data: Path) -> None:
    said = {
        (plane.address.channel, facts.projection)
        for path, plane in read_all(shared_data / "imagexpress-z-mix")
        if plane.address is not None and plane.address.z == PROJECTION_Z and (facts := facts_of(path)) is not None
    }
    assert said == {("w1", "Maximum"), ("w2", "Best Focus"), ("w3", "Maximum")}


def test_the_time_lapse_says_how_it_was_taken(shared_data: Path) -> None:
    said = {facts_of(path) for path, _ in read_all(shared_data / "imagexpress-timelapse")}
    objective = "4X Plan Apo, NA 0.2"
    assert said == {
        ChannelFacts("w1", "Copy of FITC", None, 536.0, 80.0, 13.5504, objective, 16),
        ChannelFacts("w2", "Copy of Cy3", None, 593.0, 100.0, 13.5504, objective, 16, "Maximum"),
        ChannelFacts("w3", "Copy of Texas Red", None, 624.0, 5.0, 13.5504, objective, 16, "Maximum"),
    }
