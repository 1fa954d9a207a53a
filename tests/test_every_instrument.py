"""What every instrument must keep to. A module that is registered is tested here without another line, but one:
what it can write must stand in `WRITES`."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from hcs_daemon.config import Watch
from hcs_daemon.instruments import INSTRUMENTS
from hcs_daemon.instruments.naming import FileKind, Instrument, PlaneAddress, Reading
from hcs_daemon.instruments.recognition import Auto, recognise
from hcs_daemon.plate import PROJECTION_Z, AcquisitionId, WellPosition
from hcs_daemon.tiff import TiffTags

PAGE = Path(__file__).resolve().parent.parent / "docs" / "instruments.md"
CLAIMED = {FileKind.PLANE, FileKind.BUNDLE, FileKind.METADATA}


def documented() -> Instrument:
    """The example in docs/instruments.md, as whoever follows it would have it."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    namespace: dict[str, object] = {"__name__": "documented"}
    exec(compile(code, str(PAGE), "exec"), namespace)  # noqa: S102 (the page is our own, and must work as it stands)
    made = namespace["Example"]
    assert isinstance(made, type)
    instrument: Instrument = made()
    return instrument


UNDER_TEST = (*INSTRUMENTS, documented())
every_instrument = pytest.mark.parametrize("instrument", UNDER_TEST, ids=[each.name for each in UNDER_TEST])


UP_TO_99, UP_TO_999 = st.integers(1, 99), st.integers(1, 999)


@dataclass(frozen=True, slots=True)
class Writes:
    """The addresses that an instrument can write. channels: their ids as its names have them.

    named: whether a name tells the channel's name too, which then is its id. tags: of a BUNDLE that holds a plane.
    """

    channels: SearchStrategy[str]
    sites: SearchStrategy[int] = UP_TO_999
    z: SearchStrategy[int] = UP_TO_99
    times: SearchStrategy[int] = UP_TO_999
    named: bool = False
    tags: Callable[[PlaneAddress], TiffTags] | None = None


def ome_tags(address: PlaneAddress) -> TiffTags:
    """An OME-XML without a plate, of as many channels, z steps and time points as the address needs."""
    number = int(address.channel.removeprefix("C")) + 1
    channels = "".join(f'<Channel ID="Channel:0:{each}" SamplesPerPixel="1"/>' for each in range(number))
    return TiffTags(
        description=f"""<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels
            ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="8" SizeY="8" SizeC="{number}"
            SizeZ="{address.z}" SizeT="{address.time}">{channels}<TiffData/></Pixels></Image></OME>"""
    )


NUMBERS = UP_TO_99.map(str)
FIRST_ONLY = st.just(1)
NAMES = st.sampled_from(["DAPI", "FITC", "Cy5", "TexasRed", "Brightfield 2", "DAPI - DAPI"])
WRITES = {
    "harmony": Writes(NUMBERS),
    "imagexpress": Writes(NUMBERS.map("w{}".format), z=st.integers(PROJECTION_Z, 99)),
    "cellvoyager": Writes(UP_TO_99.map("C{:02d}".format)),
    "arrayscan": Writes(st.integers(0, 99).map("d{}".format), st.integers(0, 999), z=FIRST_ONLY, times=FIRST_ONLY),
    "cytation": Writes(NUMBERS, z=st.integers(PROJECTION_Z, 99)),
    "scanr": Writes(NAMES, named=True),
    "incell": Writes(NAMES, named=True),
    "ome": Writes(st.integers(0, 3).map("C{}".format), z=st.integers(1, 3), times=st.integers(1, 3), tags=ome_tags),
    "example": Writes(NUMBERS, z=FIRST_ONLY),
}


def writes(instrument: Instrument) -> Writes:
    """Its row, or what to do about a row that is not there."""
    if instrument.name not in WRITES:
        pytest.fail(
            f"{instrument.name} is registered, and this file does not know what it can write: add a row to WRITES with"
            " a strategy of its channel ids, and of sites, z steps and time points where they are not any from 1 on"
        )
    return WRITES[instrument.name]


FOLDER_NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9 .-]{0,10}[A-Za-z0-9])?(_[A-Za-z0-9]{1,4})?", fullmatch=True)
POSITIONS = st.builds(WellPosition, st.integers(1, 32), st.integers(1, 48))


def an_address(data: DataObject, instrument: Instrument) -> PlaneAddress:
    """Any address that the instrument can write."""
    can = writes(instrument)
    channel = data.draw(can.channels)
    return PlaneAddress(
        AcquisitionId(data.draw(FOLDER_NAMES), data.draw(FOLDER_NAMES)),
        data.draw(POSITIONS),
        site=data.draw(can.sites),
        channel=channel,
        z=data.draw(can.z),
        time=data.draw(can.times),
        channel_name=channel if can.named else "",
    )


def addresses_in(instrument: Instrument, path: PurePosixPath, reading: Reading, wanted: PlaneAddress) -> list[object]:
    """What the file holds: the plane that its name says, or those of a bundle that holds the wanted one."""
    if reading.kind is not FileKind.BUNDLE:
        return [reading.address]
    tags = writes(instrument).tags
    assert tags is not None, f"{instrument.name} writes bundles: give its row in WRITES the tags of one"
    return list(instrument.read_bundle("root", path, tags(wanted)))


# ---- names


@every_instrument
@given(data=st.data())
def test_an_address_that_is_written_is_read_again(instrument: Instrument, data: DataObject) -> None:
    address = an_address(data, instrument)
    path = instrument.plane_path(address)
    reading = instrument.read_name("root", path)
    assert address in addresses_in(instrument, path, reading, address), reading
    assert not reading.problem
    assert instrument.acquisition_of("root", path) == address.acquisition


@every_instrument
@given(data=st.data())
def test_no_other_instrument_claims_its_planes(instrument: Instrument, data: DataObject) -> None:
    path = instrument.plane_path(an_address(data, instrument))
    claimed = [each.name for each in UNDER_TEST if each.read_name("root", path).kind in CLAIMED]
    assert claimed == [instrument.name], path


@every_instrument
@given(data=st.data())
def test_auto_reads_its_planes_as_its_own_grammar_does_and_says_whose_they_are(
    instrument: Instrument, data: DataObject
) -> None:
    path = instrument.plane_path(an_address(data, instrument))
    own, reading = instrument.read_name("root", path), Auto(UNDER_TEST).read_name("root", path)
    assert (reading.kind, reading.address, reading.instrument) == (own.kind, own.address, instrument.name)


@every_instrument
def test_its_example_is_one_of_its_names(instrument: Instrument) -> None:
    path = PurePosixPath(instrument.example)
    assert instrument.read_name("root", path).kind in {FileKind.PLANE, FileKind.BUNDLE}


@every_instrument
@given(data=st.data())
def test_thumbnails_hidden_and_temporary_files_are_no_planes(instrument: Instrument, data: DataObject) -> None:
    path = instrument.plane_path(an_address(data, instrument))
    for other in (
        path.with_name(f".{path.name}"),
        path.with_name(f"~{path.name}"),
        path.with_name(f"{path.name}.tmp"),
        path.with_name(f"thumb_{path.name}"),
        path.parent / "thumbs" / path.name,
        PurePosixPath(".snapshot") / path,
    ):
        assert instrument.read_name("root", other).kind is FileKind.NO_DATA, other


@every_instrument
def test_a_capital_letter_or_a_small_one_makes_no_difference(instrument: Instrument) -> None:
    for name in (instrument.example.lower(), instrument.example.upper()):
        assert instrument.read_name("root", PurePosixPath(name)).kind in CLAIMED, name


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)


def anything_like(example: str) -> SearchStrategy[str]:
    """Any text, and an example with something put in the place of a part of it."""
    places = st.integers(0, len(example))
    short = st.one_of(TEXT, st.sampled_from(["0", "00", "99", "Z99", "é", "²", "/", " ", ".", "_"]))
    changed = st.builds(
        lambda one, two, text: example[: min(one, two)] + text + example[max(one, two) :], places, places, short
    )
    return st.one_of(TEXT, changed)


@every_instrument
@given(data=st.data())
def test_any_text_is_read_without_an_error_and_what_is_unknown_says_why(
    instrument: Instrument, data: DataObject
) -> None:
    path = PurePosixPath(data.draw(anything_like(instrument.example)).lstrip("/") or "x")
    reading = instrument.read_name("root", path)
    assert (reading.address is not None) == (reading.kind is FileKind.PLANE)
    if reading.kind is FileKind.UNKNOWN:
        assert reading.problem
        assert 0 <= reading.fits <= len(path.name)
    if reading.kind is FileKind.PLANE:
        assert reading.address is not None
        assert reading.address.time >= 1
        assert reading.address.z >= PROJECTION_Z
        assert reading.address.channel
    assert instrument.acquisition_of("root", path).plate


@every_instrument
@given(data=st.data())
def test_auto_gives_any_text_to_the_one_that_claims_it_and_to_none_of_several(
    instrument: Instrument, data: DataObject
) -> None:
    path = PurePosixPath(data.draw(anything_like(instrument.example)).lstrip("/") or "x")
    claimed = {each.name: reading.kind for each in UNDER_TEST if (reading := each.read_name("r", path)).kind in CLAIMED}
    found = Auto(UNDER_TEST).read_name("r", path)
    if len(claimed) == 1:
        assert {found.instrument: found.kind} == claimed
    else:
        assert found.kind in {FileKind.UNKNOWN, FileKind.NO_DATA}


@every_instrument
@given(data=st.data())
def test_the_measurement_folder_is_one_above_and_the_same_for_all_files_of_a_folder(
    instrument: Instrument, data: DataObject
) -> None:
    path = instrument.plane_path(an_address(data, instrument))
    folder = instrument.measurement_folder(path)
    assert folder in path.parents
    assert instrument.measurement_folder(path.with_name("other.txt")) == folder


@every_instrument
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"<", b"<a></a>", b"{}", b"\xff\xfe\xfa"])
def test_metadata_that_is_broken_promises_nothing(instrument: Instrument, content: bytes, tmp_path: Path) -> None:
    for name in ("Index.idx.xml", "a.HTD", "MeasurementData.mlf", "a.companion.ome", "plate.json", "metadata.ome.xml"):
        path = tmp_path / name
        path.write_bytes(content)
        promised = instrument.read_metadata(path)
        assert promised is None or not promised.planes


@every_instrument
def test_tags_that_say_nothing_are_no_facts(instrument: Instrument) -> None:
    assert instrument.read_tags(PurePosixPath(instrument.example), TiffTags()) is None
    assert instrument.read_record(PurePosixPath(instrument.example), TiffTags()) is None
    assert instrument.promise_of_bundle(TiffTags()) is None
    with pytest.raises(ValueError, match=r"."):
        instrument.read_bundle("root", PurePosixPath(instrument.example), TiffTags())


@every_instrument
def test_the_range_that_any_tiff_may_state_is_read_of_each(instrument: Instrument) -> None:
    record = instrument.read_record(PurePosixPath(instrument.example), TiffTags(least=0, most=4095))
    assert record is not None
    assert (record.range.least, record.range.most) == (0, 4095) if record.range else False


# ---- all of them


def test_the_settings_know_exactly_these_instruments() -> None:
    known = set(get_args(Watch.model_fields["instrument"].annotation))
    assert {each.name for each in INSTRUMENTS} == known - {"auto", "pattern"}


def test_the_manual_has_a_row_for_each() -> None:
    text = PAGE.read_text("utf-8")
    for instrument in INSTRUMENTS:
        assert f"`{instrument.name}`" in text
        assert f"`{instrument.example}`" in text


REAL = {
    "opera-phenix-6ch": ("harmony", 6),
    "operetta-index": ("harmony", 2),
    "imagexpress-z-mix": ("imagexpress", 96),
    "imagexpress-timelapse": ("imagexpress", 12),
    "cv8000-stack": ("cellvoyager", 96),
    "arrayscan-8bit": ("arrayscan", 3),
}


def names_below(folder: Path) -> Sequence[PurePosixPath]:
    return [PurePosixPath(path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*")) if path.is_file()]


@pytest.mark.parametrize(("folder", "instrument", "planes"), [(name, *row) for name, row in REAL.items()], ids=REAL)
def test_every_file_of_a_real_folder_is_known_to_auto(
    folder: str, instrument: str, planes: int, shared_data: Path
) -> None:
    names = names_below(shared_data / folder)
    found = recognise(folder, names, INSTRUMENTS)
    assert found.instruments == (instrument,)
    assert not found.refusal
    auto = Auto(INSTRUMENTS)
    readings = [auto.read_name(folder, name) for name in names]
    assert sum(reading.kind is FileKind.PLANE for reading in readings) == planes
    assert [reading.problem for reading in readings if reading.kind is FileKind.UNKNOWN] == []
    assert {reading.instrument for reading in readings if reading.kind in CLAIMED} == {instrument}
