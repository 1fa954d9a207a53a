"""Names and measurement files of CellVoyager."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.instruments.cellvoyager import CellVoyager
from hcs_daemon.instruments.flatfield import ImageProfile
from hcs_daemon.instruments.manifest import Manifest, merged
from hcs_daemon.instruments.naming import FileKind, PlaneAddress, Reading
from hcs_daemon.plate import AcquisitionId, WellPosition
from hcs_daemon.records import ChannelFacts

PLANE = "Kind_D08_T0002F003L01A05Z04C06.tif"
D08, E03 = WellPosition(4, 8), WellPosition(5, 3)
ONE = frozenset({1})


def read(path: str, root_name: str = "root") -> Reading:
    return CellVoyager().read_name(root_name, PurePosixPath(path))


def address(path: str) -> PlaneAddress:
    reading = read(path)
    assert reading.kind is FileKind.PLANE, reading.problem
    assert reading.address is not None
    return reading.address


def promised(path: Path) -> Manifest:
    found = CellVoyager().read_metadata(path)
    assert found is not None
    return found


# ---- names


def test_a_name_says_where_a_plane_belongs() -> None:
    assert address(f"P1__M1/{PLANE}") == PlaneAddress(AcquisitionId("P1", "M1"), D08, 3, "C06", z=4, time=2)


@pytest.mark.parametrize(
    "name",
    [
        PLANE.upper(),
        PLANE.lower(),
        PLANE.replace(".tif", ".tiff"),
        PLANE.replace("D08", "D8"),
        PLANE.replace("Kind", "Kind_A01_T0001"),
        PLANE.replace("L01A05", "L02A11"),
        PLANE.replace("Kind", "SC_1"),
    ],
)
def test_case_ending_plate_time_line_and_action_do_not_matter(name: str) -> None:
    assert address(f"P/{name}") == address(f"P/{PLANE}")


def test_rows_beyond_z_are_read() -> None:
    assert address(f"P/{PLANE.replace('D08', 'AF48')}").position == WellPosition(32, 48)


@pytest.mark.parametrize(
    ("path", "plate", "acquisition"),
    [
        (f"P1__M1/{PLANE}", "P1", "M1"),
        (f"batch/P1/{PLANE}", "P1", "batch"),
        (f"batch/P1/Image/{PLANE}", "P1", "batch"),
        (PLANE, "root", "1"),
        ("P1__M1/MeasurementData.mlf", "P1", "M1"),
    ],
)
def test_the_folder_names_the_plate(path: str, plate: str, acquisition: str) -> None:
    assert CellVoyager().acquisition_of("root", PurePosixPath(path)) == AcquisitionId(plate, acquisition)


@pytest.mark.parametrize("name", ["MeasurementData.mlf", "MEASUREMENTDETAIL.MRF", "x.mes", "P.wpi", "1_#P96.wpp"])
def test_what_describes_the_measurement_is_metadata(name: str) -> None:
    assert read(f"P/{name}").kind is FileKind.METADATA


@pytest.mark.parametrize(
    "name",
    [
        "DC_DCAM#1_CAM3.tif",
        "SC_BP445-45_20x v2_M01_CH01.tif",
        "sc_x.tiff",
        "geometry_parameter.xml",
        "PostProcess.ppf",
        "trace.log",
    ],
)
def test_correction_images_and_other_files_hold_no_data(name: str) -> None:
    assert read(f"P/{name}").kind is FileKind.NO_DATA


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("image.tif", "at its beginning there is no plate name"),
        ("P_image.tif", "after 'P_' there is no well"),
        ("P_D08_T0001F001.tif", "after 'P_D08_T0001F001' there is no time line"),
        (PLANE.replace(".tif", ".png"), "there is no ending"),
        (PLANE.replace("D08", "D99"), "on no plate"),
        (PLANE.replace("D08", "D00"), "not a well"),
        (PLANE.replace("F003", "F000"), "count from 1"),
        (PLANE.replace("C06", "C\u0660\u0666"), "there is no channel"),
        ("DC_DCAM.png", "there is no well"),
    ],
)
def test_a_name_that_does_not_fit_says_where(name: str, words: str) -> None:
    reading = read(name)
    assert reading.kind is FileKind.UNKNOWN
    assert words in reading.problem


@given(
    st.text(max_size=60).map(lambda text: text.replace("/", "").replace("\0", "")).filter(lambda text: text.strip("."))
)
def test_any_name_is_read_without_a_fault(name: str) -> None:
    assert read(name).kind in set(FileKind)


@given(
    st.builds(
        PlaneAddress,
        st.builds(
            AcquisitionId,
            st.sampled_from(["P", "a_b-c", "P_A01", "P_A01_T0001F001L01A01Z01C01", "SC_1", "1"]),
            st.sampled_from(["1", "2023-09-18_1", "M 2"]),
        ),
        st.builds(WellPosition, st.integers(1, 32), st.integers(1, 48)),
        site=st.integers(1, 2000),
        channel=st.integers(1, 120).map("C{:02d}".format),
        z=st.integers(1, 300),
        time=st.integers(1, 20_000),
    )
)
def test_a_plane_is_written_where_it_is_read(plane: PlaneAddress) -> None:
    assert address(str(CellVoyager().plane_path(plane))) == plane


# ---- MeasurementData.mlf

HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<bts:MeasurementData bts:Version="1.0" xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0">\n'
)
TAIL = "</bts:MeasurementData>\n"


def record(kind: str = "IMG", text: str = "", **said: int) -> str:
    attributes = "".join(f' bts:{name}="{value}"' for name, value in said.items())
    return f'<bts:MeasurementRecord bts:Type="{kind}"{attributes}>{text}</bts:MeasurementRecord>\n'


def taken(well: WellPosition, site: int, channel: int, z: int = 1, time: int = 1) -> str:
    name = f"Kind_{well.name}_T{time:04d}F{site:03d}L01A01Z{z:02d}C{channel:02d}.tif"
    return record(
        text=name,
        Column=well.column,
        Row=well.row,
        TimePoint=time,
        FieldIndex=site,
        ZIndex=z,
        Ch=channel,
    )


def failed(well: WellPosition, **said: int) -> str:
    text = f"AF Error at {well.name} No. 0 (SAMPLE_PLATE_000000_000000)"
    return record("ERR", text, Column=well.column, Row=well.row, **said)


def log(tmp_path: Path, *records: str, tail: str = TAIL) -> Manifest:
    path = tmp_path / "MeasurementData.mlf"
    path.write_text(HEAD + "".join(records) + tail)
    return promised(path)


def test_records_promise_their_planes_and_say_where_the_instrument_is(tmp_path: Path) -> None:
    found = log(tmp_path, taken(D08, 1, 1), taken(D08, 1, 1, z=2), taken(D08, 1, 2), taken(E03, 1, 1, time=3))
    assert found == Manifest(
        planes={D08: {(1, 1, "C01"): frozenset({1, 2}), (1, 1, "C02"): ONE}, E03: {(1, 3, "C01"): ONE}},
        may_grow=True,
        last=(E03, 3),
    )


@pytest.mark.parametrize(
    "text", ["Image/Kind_D08_T0001F002L01A01Z03C04.tif", r"Image\Kind_D08_T0001F002L01A01Z03C04.tif", "other.png", ""]
)
def test_a_record_is_read_by_its_files_name_else_by_its_attributes(tmp_path: Path, text: str) -> None:
    found = log(tmp_path, record(text=text, Column=8, Row=4, TimePoint=1, FieldIndex=2, ZIndex=3, Ch=4))
    assert found.planes == {D08: {(2, 1, "C04"): frozenset({3})}}


def test_a_record_without_a_z_is_of_the_only_one(tmp_path: Path) -> None:
    found = log(tmp_path, record(Column=8, Row=4, TimePoint=1, FieldIndex=2, Ch=4))
    assert found.planes == {D08: {(2, 1, "C04"): ONE}}


@pytest.mark.parametrize("said", [{}, {"Row": 4}, {"Row": 99, "Column": 1}])
def test_a_record_without_a_well_promises_nothing(tmp_path: Path, said: dict[str, int]) -> None:
    whole = log(tmp_path, record("IMG", "", **said), record("ERR", "", **said), taken(D08, 1, 1))
    assert whole == log(tmp_path, taken(D08, 1, 1))


def test_a_plane_that_was_not_taken_is_expected_and_will_never_come(tmp_path: Path) -> None:
    found = log(tmp_path, taken(D08, 1, 1), failed(D08, TimePoint=1, FieldIndex=2, ZIndex=1, Ch=1), taken(D08, 3, 1))
    assert found.planes == {D08: {(1, 1, "C01"): ONE, (2, 1, "C01"): ONE, (3, 1, "C01"): ONE}}
    assert found.never == {D08: {(2, 1, "C01"): ONE}}


def test_a_step_that_was_not_taken_is_one_of_its_stack(tmp_path: Path) -> None:
    found = log(tmp_path, taken(D08, 1, 1), failed(D08, TimePoint=1, FieldIndex=1, ZIndex=2, Ch=1))
    assert found.planes == {D08: {(1, 1, "C01"): frozenset({1, 2})}}
    assert found.never == {D08: {(1, 1, "C01"): frozenset({2})}}


def test_a_failed_focus_costs_a_well_all_that_others_have(tmp_path: Path) -> None:
    others = [taken(D08, site, channel, z) for site in (1, 2) for channel in (1, 2) for z in (1, 2)]
    found = log(tmp_path, failed(E03, TimePoint=1), *others)
    assert found.never[E03] == found.planes[E03] == found.planes[D08]
    assert D08 not in found.never
    assert found.last == (D08, 1)


def test_a_failed_focus_costs_a_site_all_that_others_have(tmp_path: Path) -> None:
    found = log(tmp_path, *(taken(D08, 1, channel) for channel in (1, 2)), failed(D08, TimePoint=1, FieldIndex=1))
    assert found.never == {}
    found = log(tmp_path, *(taken(D08, site, 1) for site in (1, 2)), taken(E03, 1, 1), failed(E03, FieldIndex=2))
    assert found.never == {E03: {(2, 1, "C01"): ONE}}


def test_what_is_taken_after_all_is_not_lost(tmp_path: Path) -> None:
    found = log(tmp_path, failed(D08, TimePoint=1), taken(D08, 1, 1), taken(D08, 2, 1), taken(E03, 1, 1))
    assert found.never == {}
    found = log(tmp_path, failed(D08, TimePoint=1), taken(D08, 1, 1), taken(E03, 1, 1), taken(E03, 2, 1))
    assert found.never == {D08: {(2, 1, "C01"): ONE}}


def test_a_failure_of_which_no_record_says_what_it_cost_is_only_where_the_instrument_is(tmp_path: Path) -> None:
    assert log(tmp_path, failed(D08, TimePoint=2)) == Manifest(may_grow=True, last=(D08, 2))


def test_a_log_that_is_being_written_promises_what_it_names(tmp_path: Path) -> None:
    whole = log(tmp_path, taken(D08, 1, 1))
    for cut in ("", taken(D08, 2, 1)[:-30], "<bts:Measu"):
        assert log(tmp_path, taken(D08, 1, 1), tail=cut) == whole


def test_a_log_without_a_record_yet_may_grow(tmp_path: Path) -> None:
    assert log(tmp_path) == Manifest(may_grow=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no xml",
        HEAD,
        "<other/>",
        '<?xml version="1.0" encoding="made-up"?><MeasurementData/>',
        f'<!DOCTYPE a [<!ENTITY b "c">]>{HEAD.partition("?>")[2]}&b;{TAIL}',
    ],
)
@pytest.mark.parametrize("name", ["MeasurementData.mlf", "MeasurementDetail.mrf", "x.mes", "x.wpi", "x.wpp"])
def test_an_empty_broken_or_hostile_file_promises_nothing(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert CellVoyager().read_metadata(path) is None


def test_equal_keys_are_kept_once(tmp_path: Path) -> None:
    found = log(tmp_path, *(taken(well, 1, 1, z) for well in (D08, E03) for z in (1, 2)))
    (first, first_steps), (second, second_steps) = (next(iter(found.planes[well].items())) for well in (D08, E03))
    assert first is second
    assert first_steps is second_steps


@pytest.mark.parametrize("name", ["MeasurementData.mlf", "MeasurementDetail.mrf", "x.mes", "x.wpi"])
def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        CellVoyager().read_metadata(tmp_path / name)
    assert CellVoyager().read_metadata(tmp_path / "notes.xml") is None


# ---- how a plate was taken


def written(path: Path, root: str, inside: str = "", **said: str) -> Manifest:
    attributes = "".join(f' bts:{name}="{value}"' for name, value in said.items())
    namespace = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
    path.write_text(f"<bts:{root} {namespace}{attributes}>{inside}</bts:{root}>", encoding="utf-8-sig")
    return promised(path)


def element(name: str, inside: str = "", **said: str) -> str:
    attributes = "".join(f' bts:{key}="{value}"' for key, value in said.items())
    return f"<bts:{name}{attributes}>{inside}</bts:{name}>"


def detail(tmp_path: Path, **said: str) -> Manifest:
    channel = element("MeasurementChannel", **({"Ch": "1"} | said))
    return written(tmp_path / "MeasurementDetail.mrf", "MeasurementDetail", channel, RowCount="16", ColumnCount="24")


@pytest.mark.parametrize(
    ("across", "down", "size"),
    [("0.65", "0.65", 0.65), ("0.65", "", 0.65), ("0.65", "1.3", None), ("0", "0", None), ("x", "x", None)],
)
def test_pixels_are_square_or_of_no_size(tmp_path: Path, across: str, down: str, size: float | None) -> None:
    found = detail(tmp_path, HorizontalPixelDimension=across, VerticalPixelDimension=down, InputBitDepth="14")
    assert found.pixel_size_um == size
    assert found.channels == {"C01": ChannelFacts("C01", pixel_size_um=size, bit_depth=14)}
    assert (found.rows, found.columns) == (16, 24)


def test_channels_of_two_pixel_sizes_have_none_in_common(tmp_path: Path) -> None:
    channels = "".join(
        element("MeasurementChannel", Ch=str(number), HorizontalPixelDimension=str(number)) for number in (1, 2)
    )
    found = written(tmp_path / "x.mrf", "MeasurementDetail", channels)
    assert found.pixel_size_um is None
    assert [facts.pixel_size_um for facts in found.channels.values()] == [1.0, 2.0]


def test_a_channel_is_corrected_by_its_light_and_its_cameras_darkness(tmp_path: Path) -> None:
    (tmp_path / "DC_DCAM#1_CAM3.tif").touch()
    (tmp_path / "DC_DCAM#2_CAM13.tif").touch()
    found = detail(tmp_path, ShadingCorrectionSource="SC_1.tif", CameraNumber="3")
    assert found.flatfields == {"C01": ImageProfile(tmp_path / "SC_1.tif", tmp_path / "DC_DCAM#1_CAM3.tif")}
    found = detail(tmp_path, ShadingCorrectionSource=r"..\..\SC_1.tif", CameraNumber="4")
    assert found.flatfields == {"C01": ImageProfile(tmp_path / "SC_1.tif", None)}
    assert detail(tmp_path, ShadingCorrectionSource="", CameraNumber="3").flatfields == {}


LIGHTS = element(
    "LightSourceList",
    element("LightSource", Name="405nm", WaveLength="405")
    + element("LightSource", Name="640nm", WaveLength="640")
    + element("LightSource", Name="Lamp", WaveLength="0"),
)


def protocol(tmp_path: Path, *lights: str, actions: str = "", **said: str) -> Manifest:
    shining = "".join(element("LightSourceName", light) for light in lights)
    channel = element("Channel", shining, **({"Ch": "7"} | said))
    inside = f"<bts:ActionList>{actions}</bts:ActionList>{LIGHTS}<bts:ChannelList>{channel}</bts:ChannelList>"
    return written(tmp_path / "x.mes", "MeasurementSetting", inside, Rows="8", Columns="12")


@pytest.mark.parametrize(
    ("lights", "said", "facts"),
    [
        ((), {}, ChannelFacts("C07")),
        (("405nm",), {}, ChannelFacts("C07", excitation_nm=405)),
        (("405nm", "640nm"), {}, ChannelFacts("C07")),
        (("Lamp",), {}, ChannelFacts("C07")),
        (("lost",), {}, ChannelFacts("C07")),
        ((), {"Target": "Mito"}, ChannelFacts("C07", name="Mito")),
        ((), {"Target": "Mito", "Fluorophore": "Cy5"}, ChannelFacts("C07", name="Cy5")),
        ((), {"Acquisition": "BP447/45(Dual)"}, ChannelFacts("C07", emission_nm=447)),
        ((), {"Acquisition": "LP700"}, ChannelFacts("C07")),
        ((), {"ExposureTime": "12.5"}, ChannelFacts("C07", exposure_ms=12.5)),
        ((), {"Objective": "20x v2", "Magnification": "20"}, ChannelFacts("C07", objective="20x v2")),
        ((), {"Magnification": "20"}, ChannelFacts("C07", objective="20x")),
    ],
)
def test_a_protocol_says_how_a_channel_is_seen(
    tmp_path: Path, lights: tuple[str, ...], said: dict[str, str], facts: ChannelFacts
) -> None:
    found = protocol(tmp_path, *lights, **said)
    assert found == Manifest(rows=8, columns=12, channels={"C07": facts})


@pytest.mark.parametrize(("number", "channels"), [("7", {"C07"}), ("8", set())])
def test_a_channel_that_no_action_takes_is_left_out(tmp_path: Path, number: str, channels: set[str]) -> None:
    for action in ("ActionAcquire", "ActionAcquire3D", "ActionAcquireBF"):
        actions = element(action, element("Ch", number))
        assert set(protocol(tmp_path, actions=actions).channels) == channels


def test_the_plates_own_files_say_its_shape_and_its_name(tmp_path: Path) -> None:
    said = {"Name": "BR1", "Rows": "16", "Columns": "24"}
    assert written(tmp_path / "x.wpi", "WellPlate", **said) == Manifest(rows=16, columns=24, plate_id="BR1")
    assert written(tmp_path / "x.wpp", "WellPlateProduct", **said) == Manifest(rows=16, columns=24)
    assert written(tmp_path / "x.wpp", "WellPlateProduct", Rows="-1", Columns="x") == Manifest()


# ---- the real set


@pytest.fixture(scope="module")
def stack(shared_data: Path) -> Path:
    return shared_data / "cv8000-stack" / "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack"


def read_all(folder: Path) -> Iterator[tuple[Path, Reading]]:
    for path in sorted(folder.iterdir()):
        yield path, CellVoyager().read_name("cv8000-stack", PurePosixPath(folder.name, path.name))


def test_the_stack_is_known_to_the_last_file(stack: Path) -> None:
    found = list(read_all(stack))
    named = {path.name: reading.kind for path, reading in found if reading.kind is not FileKind.PLANE}
    assert named == {
        "1009680001_Cellvis_#P96-1.5H-N.wpp": FileKind.METADATA,
        "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack.wpi": FileKind.METADATA,
        "MeasurementData.mlf": FileKind.METADATA,
        "MeasurementDetail.mrf": FileKind.METADATA,
        "Minimal-3C3W2S-FP2-stack.mes": FileKind.METADATA,
        "DC_DCAM#1_CAM3.tif": FileKind.NO_DATA,
        "DC_DCAM#2_CAM4.tif": FileKind.NO_DATA,
        "SC_BP445-45_20x v2_M01_CH01.tif": FileKind.NO_DATA,
        "SC_BP525-50_20x v2_M01_CH02.tif": FileKind.NO_DATA,
        "SC_BP600-37_20x v2_M01_CH03.tif": FileKind.NO_DATA,
        "SC_BP676-29_20x v2_M01_CH04.tif": FileKind.NO_DATA,
        "crosstalk_parameter.xml": FileKind.NO_DATA,
        "geometry_parameter.xml": FileKind.NO_DATA,
    }
    acquisition = AcquisitionId("CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack", "1")
    assert len(found) == 96 + len(named)
    assert {reading.address for _, reading in found if reading.kind is FileKind.PLANE} == {
        PlaneAddress(acquisition, WellPosition.parse(well), site, channel, z)
        for well in ("D08", "E03", "F08")
        for site in (1, 2, 3, 4)
        for channel in ("C01", "C02")
        for z in (1, 2, 3, 4)
    }


def test_the_stacks_records_are_its_files(stack: Path) -> None:
    found = promised(stack / "MeasurementData.mlf")
    recorded = {
        (position, site, time, channel, z)
        for position, images in found.planes.items()
        for (site, time, channel), steps in images.items()
        for z in steps
    }
    addresses = [reading.address for _, reading in read_all(stack) if reading.address is not None]
    assert recorded == {(each.position, each.site, each.time, each.channel, each.z) for each in addresses}
    assert len(recorded) == 96
    assert found.never == {}
    assert found.exact_z
    assert found.last == (WellPosition.parse("F08"), 1)


def test_the_stacks_files_say_together_how_it_was_taken(stack: Path) -> None:
    files = [path for path, reading in read_all(stack) if reading.kind is FileKind.METADATA]
    found = merged(promised(path) for path in files)
    title = "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack"
    assert (found.rows, found.columns, found.plate_id, found.measurement_id) == (8, 12, title, title)
    assert found.pixel_size_um == 0.325
    assert {id_: found.channels[id_] for id_ in ("C01", "C02")} == {
        "C01": ChannelFacts("C01", "405", 405.0, 445.0, 100.0, 0.325, "20x v2", 16),
        "C02": ChannelFacts("C02", "488", 488.0, 525.0, 100.0, 0.325, "20x v2", 16),
    }
    assert dict(corrections(found)) == {
        "C01": ("SC_BP445-45_20x v2_M01_CH01.tif", "DC_DCAM#1_CAM3.tif"),
        "C02": ("SC_BP525-50_20x v2_M01_CH02.tif", "DC_DCAM#1_CAM3.tif"),
        "C03": ("SC_BP600-37_20x v2_M01_CH03.tif", "DC_DCAM#2_CAM4.tif"),
        "C04": ("SC_BP676-29_20x v2_M01_CH04.tif", "DC_DCAM#2_CAM4.tif"),
    }


def corrections(manifest: Manifest) -> Iterator[tuple[str, tuple[str, str]]]:
    """Channel id and the names of its images of the light and of darkness."""
    for id_, profile in manifest.flatfields.items():
        assert isinstance(profile, ImageProfile)
        assert profile.dark is not None
        yield id_, (profile.shading.name, profile.dark.name)


def test_the_stacks_protocol_takes_two_of_its_four_channels(stack: Path) -> None:
    assert set(promised(stack / "Minimal-3C3W2S-FP2-stack.mes").channels) == {"C01", "C02"}
    assert set(promised(stack / "MeasurementDetail.mrf").channels) == {"C01", "C02", "C03", "C04"}
