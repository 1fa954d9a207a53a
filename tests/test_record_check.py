"""A plane against its instrument's own record: whatever the two say differently is a rejection with both values."""

import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fakes import Clock, make_settings
from hcs_daemon.config import Expect
from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.imagexpress import ImageXpress
from hcs_daemon.instruments.naming import FileKind, Instrument, PlaneAddress
from hcs_daemon.instruments.own_record import OwnAddress, OwnDepth, OwnFigures, OwnForm, OwnRange, OwnRecord
from hcs_daemon.intake.reading import Decoded, Outcome, Refused, look, read_plane
from hcs_daemon.intake.record_check import STDDEV_TOLERANCE, Constants, constants_of, contradiction, moments
from hcs_daemon.intake.survey import survey
from hcs_daemon.intake.validation import Expected, Refusal, examine
from hcs_daemon.plate import AcquisitionId, WellPosition
from hcs_daemon.records import PlaneConditions, PlaneMeasures, StableFile
from hcs_daemon.simulate.harmony_files import statistics_json
from hcs_daemon.simulate.spoil import eight_bit_scaled
from hcs_daemon.tiff import decode_plane, encode_plane, harmony_xml
from hcs_daemon.vocabulary import Reason
from hostile_tiffs import plane
from spine import Spine

SIXTEEN = Expected(16, "uint16")
OPERA, OPERETTA = "opera-phenix-6ch", "operetta-index"
C03 = PlaneAddress(AcquisitionId("P1", "M1"), WellPosition.parse("C03"), 3, "5")


def read(path: Path, root: Path, instrument: Instrument, expected: Expected = SIXTEEN) -> Outcome:
    """A file as the daemon reads it."""
    relative, seen = PurePosixPath(path.relative_to(root).as_posix()), look(path)
    reading = instrument.read_name(root.name, relative)
    assert reading.kind is FileKind.PLANE, reading
    return read_plane(
        StableFile(path, seen.size_bytes, seen.mtime_ns),
        expected,
        record_of=partial(instrument.read_record, relative),
        address=reading.address,
    )


def mismatch(path: Path, root: Path, instrument: Instrument | None = None) -> str:
    """What a file is refused with; it must be as `metadata_mismatch`, with a hint."""
    found = read(path, root, instrument or Harmony())
    assert isinstance(found, Refused), found
    assert found.refusal.reason is Reason.METADATA_MISMATCH, found
    assert found.refusal.hint
    return found.refusal.detail


def statistics_of(data: bytes) -> str:
    """The text of tag 65520 of a Harmony file."""
    return decode_plane(data).tags.statistics


def with_pixels(data: bytes, pixels: NDArray[np.uint16]) -> bytes:
    """A Harmony file with other pixels under the same record, as a program saves it that copies all tags."""
    before, tags = decode_plane(data).pixels, decode_plane(data).tags
    assert before.shape == pixels.shape
    # encode_plane writes tags 340 and 341 itself, from the pixels: only 65500 and 65520 are kept as they were
    return encode_plane(pixels, harmony_xml=tags.harmony, statistics_json=tags.statistics or None)


def swap(first: Path, second: Path) -> None:
    """Two files change names."""
    data = first.read_bytes(), second.read_bytes()
    first.write_bytes(data[1])
    second.write_bytes(data[0])


@pytest.fixture
def opera(shared_data: Path, tmp_path: Path) -> Path:
    """A copy of the real Opera Phenix site, to be spoilt."""
    shutil.copytree(shared_data / OPERA / "Images", tmp_path / "P1__M1" / "Images")
    return tmp_path


def image(root: Path, channel: int) -> Path:
    return root / "P1__M1" / "Images" / f"r03c03f03p01-ch{channel}sk1fk1fl1.tiff"


# ---- real files


@pytest.mark.parametrize(
    ("folder", "instrument", "planes"),
    [
        (OPERA, Harmony(), 6),
        (OPERETTA, Harmony(), 2),
        ("imagexpress-timelapse", ImageXpress(), 12),
        pytest.param("imagexpress-z-mix", ImageXpress(), 96, marks=pytest.mark.slow),
    ],
)
def test_every_honest_real_file_agrees_with_its_own_record(
    folder: str, instrument: Instrument, planes: int, shared_data: Path
) -> None:
    root, constants, found = shared_data / folder, Constants(), Counter[str]()
    for path in sorted(root.rglob("*.tif*")):
        relative = PurePosixPath(path.relative_to(root).as_posix())
        reading = instrument.read_name(root.name, relative)
        if reading.kind is not FileKind.PLANE:
            continue
        outcome = read(path, root, instrument)
        assert isinstance(outcome, Decoded), (path, outcome)
        assert outcome.record is not None
        assert outcome.record.address is not None
        assert constants.note(str(relative), constants_of(outcome.record, reading.address)).refusal is None
        found[folder] += 1
    assert found == {folder: planes}


@pytest.mark.parametrize("channel", range(1, 7))
def test_one_pixel_of_a_real_file_changed_by_one_is_caught(channel: int, opera: Path) -> None:
    path = image(opera, channel)
    pixels = decode_plane(path.read_bytes()).pixels.astype(np.uint16)
    before = int(pixels[500, 700])
    pixels[500, 700] = before + 1 if before < 65535 else before - 1
    path.write_bytes(with_pixels(path.read_bytes(), pixels))
    detail = mismatch(path, opera)
    assert "tag 65520 says mean" in detail
    assert statistics_of(path.read_bytes()).split('"mean":')[1].split(",")[0].rstrip("0") in detail
    assert str(moments(pixels).mean) in detail


@pytest.mark.parametrize("change", ["darker", "brighter"])
def test_a_changed_extreme_of_a_real_file_is_caught_where_there_is_no_mean(change: str, shared_data: Path) -> None:
    path = min((shared_data / OPERETTA / "Images").glob("*.tiff"))
    decoded = decode_plane(path.read_bytes())
    assert decoded.tags.statistics == ""
    pixels = decoded.pixels.astype(np.uint16)
    pixels[0, 0] = 0 if change == "darker" else 65535
    record = Harmony().read_record(PurePosixPath(path.name), decoded.tags)
    assert record is not None
    found = contradiction(record, None, pixels, measured(pixels), SIXTEEN)
    assert found is not None
    assert found.detail == (
        "its tags 340 and 341 say minimum 120, its pixels have minimum 0"
        if change == "darker"
        else "its tags 340 and 341 say maximum 47088, its pixels have maximum 65535"
    )
    assert found.may_grow is (change == "darker")  # zeros may be what a copy has yet to fill


def test_two_real_channels_that_changed_names_are_both_caught(opera: Path) -> None:
    swap(image(opera, 2), image(opera, 5))
    assert mismatch(image(opera, 2), opera) == "its tag 65500 says channel 5, its name channel 2"
    assert mismatch(image(opera, 5), opera) == "its tag 65500 says channel 2, its name channel 5"


def test_two_real_sites_that_changed_names_are_both_caught_in_the_older_tag_of_a_whole_plate(
    shared_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(shared_data / OPERETTA / "Images", tmp_path / "Images")
    first, second = sorted((tmp_path / "Images").glob("*.tiff"))
    swap(first, second)
    assert mismatch(first, tmp_path) == "its tag 65500 says site 2, its name site 1"
    assert mismatch(second, tmp_path) == "its tag 65500 says site 1, its name site 2"


def test_a_real_file_under_the_name_of_another_well_is_caught(opera: Path) -> None:
    renamed = image(opera, 5).with_name("r04c07f03p01-ch5sk1fk1fl1.tiff")
    image(opera, 5).rename(renamed)
    assert mismatch(renamed, opera) == "its tag 65500 says well C03, its name well D07"


def test_two_real_imagexpress_files_that_changed_wells_are_both_caught(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "imagexpress-z-mix" / "2023-02-21" / "1334"
    chosen = [
        next(path for path in sorted(folder.glob(f"*_{well}_s1_w1*.tif")) if "thumb" not in path.name)
        for well in ("E07", "E08")
    ]
    root = tmp_path / "plate"
    root.mkdir()
    first, second = (Path(shutil.copy(path, root / path.name)) for path in chosen)
    swap(first, second)
    assert mismatch(first, root, ImageXpress()) == "its description (stage-label) says well E08, its name well E07"
    assert mismatch(second, root, ImageXpress()) == "its description (stage-label) says well E07, its name well E08"


def test_two_imagexpress_channels_that_changed_names_are_caught_by_the_plate(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "imagexpress-timelapse", tmp_path / "in")
    folder = next((tmp_path / "in").rglob("TimePoint_1"))
    first, second = (
        next(path for path in sorted(folder.glob(f"*_s1_{wave}*.tif")) if "thumb" not in path.name)
        for wave in ("w1", "w2")
    )
    swap(first, second)
    refused = surveyed(tmp_path / "in", ImageXpress())
    assert set(refused) == {first.name, second.name}
    assert refused[first.name].startswith("the name of channel w1 is Copy of Cy3, and Copy of FITC in the 3 planes")


@pytest.mark.parametrize("with_settings", [False, True])
def test_validate_says_the_same_of_a_changed_pixel_and_of_changed_names(with_settings: bool, opera: Path) -> None:  # noqa: FBT001 (a case of the table)
    swap(image(opera, 2), image(opera, 5))
    pixels = decode_plane(image(opera, 3).read_bytes()).pixels.astype(np.uint16)
    pixels[9, 9] += 1
    image(opera, 3).write_bytes(with_pixels(image(opera, 3).read_bytes(), pixels))
    channels = {str(number): str(number) for number in range(1, 7)}
    expect = Expect(bit_depth=16, channels=channels) if with_settings else None
    refused = surveyed(opera, Harmony(), expect)
    assert set(refused) == {image(opera, number).name for number in (2, 3, 5)}


def surveyed(root: Path, instrument: Instrument, expect: Expect | None = None) -> dict[str, str]:
    """What `validate` refuses below a folder: name -> why."""
    with ThreadPoolExecutor(1) as readers:
        files = list(survey([root], instrument, expect, readers))
    assert all(file.refusal is None or file.refusal.reason is Reason.METADATA_MISMATCH for file in files), files
    return {file.path.name: file.refusal.detail for file in files if file.refusal is not None}


def test_what_the_pixels_prove_themselves_is_said_first(opera: Path) -> None:
    path = image(opera, 5)
    scaled = decode_plane(eight_bit_scaled(path.read_bytes())).pixels.astype(np.uint16)
    path.write_bytes(with_pixels(path.read_bytes(), scaled))
    found = read(path, opera, Harmony())
    assert isinstance(found, Refused)
    assert found.refusal.reason is Reason.BIT_DEPTH


# ---- the daemon, with names that are put right, and with time points counted from any number


def spine_over(folder: Path, *, finite: bool = False, clock: Clock | None = None, **expect: Any) -> Spine:
    """The spine over `folder/in`."""
    return Spine(make_settings(folder, {"expect": {"bit_depth": 16, **expect}}), clock or Clock(), finite=finite)


def timed(name: str, tag_time: int, seed: int) -> tuple[str, bytes]:
    """A plane of A01 whose name says one time point and whose tag another."""
    pixels = plane(32, 48, seed=seed)
    xml = (
        "<x><Image><Row>1</Row><Col>1</Col><FieldID>1</FieldID><PlaneID>1</PlaneID>"
        f"<TimepointID>{tag_time}</TimepointID><RecordID>1</RecordID><ChannelID>1</ChannelID></Image></x>"
    )
    return name, encode_plane(pixels, harmony_xml=xml, statistics_json=statistics_json(pixels))


def write(folder: Path, files: Sequence[tuple[str, bytes]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files:
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("offset", [-1, 0, 3])
def test_from_what_number_the_tags_count_time_points_is_learned_from_the_plate(offset: int, tmp_path: Path) -> None:
    files = [timed(f"r01c01f01p01-ch1sk{t}fk1fl1.tiff", t + offset, seed=t) for t in range(1, 6)]
    write(tmp_path / "in" / "P1__M1" / "Images", files)
    assert surveyed(tmp_path / "in", Harmony()) == {}


def test_two_time_points_that_changed_names_are_caught_even_if_they_come_first(tmp_path: Path) -> None:
    of = {t: timed(f"r01c01f01p01-ch1sk{t}fk1fl1.tiff", t - 1, seed=t) for t in range(1, 6)}
    of[1], of[2] = (of[1][0], of[2][1]), (of[2][0], of[1][1])
    folder = tmp_path / "in" / "P1__M1" / "Images"
    write(folder, list(of.values()))
    refused = surveyed(tmp_path / "in", Harmony())
    assert set(refused) == {of[1][0], of[2][0]}
    spine = spine_over(tmp_path, finite=True, channels={"DNA": "1"}, pixel_size_um=0.6)
    spine.process()
    assert {Path(line["path"]).name: line["reason"] for line in spine.rejections()} == dict.fromkeys(
        [of[1][0], of[2][0]], "metadata_mismatch"
    )


def test_the_daemon_refuses_a_swapped_pair_and_takes_it_back_when_the_names_are_right(opera: Path) -> None:
    (opera / "in").mkdir()
    (opera / "P1__M1").rename(opera / "in" / "P1__M1")
    first, second = image(opera / "in", 2), image(opera / "in", 5)
    swap(first, second)
    clock = Clock()
    channels = {"ER": "2", "AGP": "3", "DNA": "5"}
    given: Mapping[str, Any] = {
        "channels": channels,
        "ignore_channels": ["1", "4", "6"],
        "pixel_size_um": 0.598,
        "sites_per_well": 1,
    }
    spine = spine_over(opera, clock=clock, **given)
    spine.run(30)
    assert {line["reason"] for line in spine.rejections()} == {"metadata_mismatch"}
    swap(first, second)
    spine.run(60)
    spine.end()
    assert spine.rejections() == []
    assert set(spine.statuses().values()) == {"complete"}


# ---- each kind of record


def measured(pixels: NDArray[Any], expected: Expected = SIXTEEN) -> PlaneMeasures:
    found = examine(pixels, expected)
    assert isinstance(found, PlaneMeasures), found
    return found


PIXELS = plane(64, 96, seed=1)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (OwnRecord(address=OwnAddress("it says", row=3, column=4)), "it says well C04, its name well C03"),
        (OwnRecord(address=OwnAddress("it says", row=0)), "it says well of row 0, column 3, its name well C03"),
        (
            OwnRecord(address=OwnAddress("it says", site=1, z=2, channel="4")),
            "it says site 1, z 2, channel 4, its name site 3, z 1, channel 5",
        ),
        (OwnRecord(form=OwnForm("it says", 96, 65)), "it says 65 pixels down, the file has 64"),
        (OwnRecord(form=OwnForm("it says", container_bits=8)), "it says 8 bits a pixel, the file has 16"),
        (OwnRecord(range=OwnRange("it says", most=40)), f"it says values up to 40, a pixel has {PIXELS.max()}"),
        (OwnRecord(range=OwnRange("it says", least=60000)), f"it says values from 60000, a pixel has {PIXELS.min()}"),
        (OwnRecord(depth=OwnDepth("it says", 12)), "it says 12 bits, and expect.bit_depth is 16"),
        (OwnRecord(depth=OwnDepth("it says", 12, is_mode=True)), "it says 12 bits, and expect.bit_depth is 16"),
    ],
)
def test_a_difference_is_said_with_both_values(record: OwnRecord, words: str) -> None:
    found = contradiction(record, C03, PIXELS, measured(PIXELS), SIXTEEN)
    assert found is not None
    assert (found.reason, found.detail) == (Reason.METADATA_MISMATCH, words)
    assert found.hint


@pytest.mark.parametrize(
    "record",
    [
        OwnRecord(),
        OwnRecord(address=OwnAddress("it says")),
        OwnRecord(address=OwnAddress("it says", row=3, column=3, site=3, z=1, channel="5", time=7)),
        OwnRecord(address=OwnAddress("it says", row=3)),
        OwnRecord(form=OwnForm("it says", 96, 64, 16)),
        OwnRecord(range=OwnRange("it says", 0, 65535)),
        OwnRecord(depth=OwnDepth("it says", 16, is_mode=True)),
        OwnRecord(figures=(OwnFigures("it says"),)),
    ],
)
def test_what_agrees_or_is_not_said_is_no_difference(record: OwnRecord) -> None:
    assert contradiction(record, C03, PIXELS, measured(PIXELS), SIXTEEN) is None


def test_a_camera_set_to_more_bits_than_expected_contradicts_and_a_larger_container_does_not() -> None:
    dim = np.minimum(PIXELS, 4000)
    twelve = Expected(12, "uint16")
    for is_mode, refused in ((True, True), (False, False)):
        record = OwnRecord(depth=OwnDepth("it says", 16, is_mode=is_mode))
        assert (contradiction(record, C03, dim, measured(dim, twelve), twelve) is not None) is refused


def test_without_settings_a_pixel_beyond_the_declared_bits_contradicts() -> None:
    bits = int(PIXELS.max()).bit_length() - 1
    record = OwnRecord(depth=OwnDepth("it says", bits, is_mode=True))
    found = contradiction(record, None, PIXELS, measured(PIXELS, Expected()), Expected())
    assert found is not None
    assert found.detail == f"it says {bits} bits, so at most {(1 << bits) - 1}, and a pixel has {PIXELS.max()}"


# ---- figures: what a changed value cannot escape, and what can


def figures_of(pixels: NDArray[np.uint16]) -> OwnRecord:
    tags = decode_plane(encode_plane(pixels, statistics_json=statistics_json(pixels))).tags
    record = Harmony().read_record(PurePosixPath("x"), tags)
    assert record is not None
    return record


def against(record: OwnRecord, pixels: NDArray[np.uint16]) -> Refusal | None:
    lowest, highest = int(pixels.min()), int(pixels.max())
    return contradiction(record, None, pixels, PlaneMeasures(lowest, highest, 16, 0.0, 0.0), SIXTEEN)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    row=st.integers(0, 63),
    column=st.integers(0, 95),
    value=st.integers(0, 65535),
    scale=st.sampled_from([1, 3, 16]),
)
def test_whatever_single_value_is_changed_to_whatever_other_is_caught(
    seed: int, row: int, column: int, value: int, scale: int
) -> None:
    pixels = (plane(64, 96, seed=seed) // np.uint16(scale)).astype(np.uint16)
    record = figures_of(pixels)
    assert against(record, pixels) is None
    before = int(pixels[row, column])
    pixels[row, column] = value
    assert (against(record, pixels) is not None) is (value != before)


@settings(max_examples=60)
@given(at=st.lists(st.integers(0, 64 * 96 - 1), min_size=2, max_size=2, unique=True), change=st.integers(1, 500))
def test_two_changes_that_keep_the_mean_escape_only_if_the_deviation_stays_within_its_tolerance(
    at: list[int], change: int
) -> None:
    pixels = plane(64, 96, seed=7)
    record = figures_of(pixels)
    before = moments(pixels)
    low, high = sorted(at, key=lambda place: int(pixels.ravel()[place]))
    changed = pixels.copy().ravel()
    change = min(change, int(changed[low]), 65535 - int(changed[high]))
    changed[high] += np.uint16(change)
    changed[low] -= np.uint16(change)
    spoilt = changed.reshape(pixels.shape)
    kept = (changed.min(), changed.max()) == (pixels.min(), pixels.max())
    moved = abs(moments(spoilt).stddev - before.stddev) > 2 * STDDEV_TOLERANCE * before.stddev
    if moved or not kept:
        assert against(record, spoilt) is not None


def test_values_that_only_change_places_escape_for_no_figure_knows_where_they_are() -> None:
    assert against(figures_of(PIXELS), PIXELS[::-1].copy()) is None


def test_a_mean_binds_to_the_digits_that_are_written() -> None:
    mean = moments(PIXELS).mean
    for digits, caught in ((2, False), (6, True)):
        written = round(Decimal(mean), digits)
        record = OwnRecord(figures=(OwnFigures("it says", mean=written),))
        assert against(record, PIXELS) is None
        changed = PIXELS.copy()
        changed[0, 0] += 1  # the mean by 1 / 6144
        assert (against(record, changed) is not None) is caught


def test_moments_of_many_pixels_are_exact() -> None:
    pixels = np.full((1100, 1000), 65535, np.uint16)
    pixels[0, 0] = 65534
    found = moments(pixels)
    assert found.total == 65535 * 1_100_000 - 1
    assert found.squares == 65535**2 * 1_099_999 + 65534**2


# ---- what the plate makes of constants


def test_of_two_values_the_one_that_most_say_counts_and_what_was_judged_otherwise_is_looked_at_again() -> None:
    constants = Constants()
    assert constants.note("a", {"offset": "+1"}).refusal is None
    first = constants.note("b", {"offset": "+0"})
    assert first.refusal is not None
    assert first.refusal.reason is Reason.METADATA_MISMATCH
    second = constants.note("c", {"offset": "+0"})
    assert (second.refusal, set(second.look_again)) == (None, {"a", "b"})
    again = constants.note("a", {"offset": "+1"}).refusal
    assert again is not None
    assert again.detail == "offset is +1, and +0 in the 2 planes of the plate that agree"
    assert constants.note("b", {"offset": "+0"}).refusal is None
    assert constants.note("a", {"offset": "+0"}).refusal is None  # it was written again


@given(st.lists(st.sampled_from(["x", "y"]), min_size=3, max_size=12))
def test_in_the_end_every_plane_is_judged_by_what_most_say(values: list[str]) -> None:
    constants, verdicts = Constants(), dict[str, bool]()
    said = {f"plane {number}": value for number, value in enumerate(values)}
    waiting = list(said)
    while waiting:
        name = waiting.pop(0)
        ruling = constants.note(name, {"topic": said[name]})
        verdicts[name] = ruling.refusal is None
        waiting += [each for each in ruling.look_again if each not in waiting]
    counts = Counter(values).most_common()
    if len(counts) == 1 or counts[0][1] > counts[1][1]:
        assert verdicts == {name: value == counts[0][0] for name, value in said.items()}
    else:
        assert len({value for name, value in said.items() if verdicts[name]}) == 1


def test_an_address_without_a_time_says_nothing_constant() -> None:
    assert constants_of(OwnRecord(address=OwnAddress("it says", row=1)), C03) == {}
    record = OwnRecord(address=OwnAddress("it says", time=4))
    assert list(constants_of(record, replace(C03, time=2)).values()) == ["+2"]
    assert constants_of(record, None) == constants_of(None, C03) == {}


# ---- reading Harmony's tags


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<Row>3</Row><Col>4</Col>",
        "<Image><Row>1</Row></Image><Image><Row>2</Row></Image>",
        "<Image><Row>x</Row></Image>",
        "<Image><Row>1",
    ],
)
def test_a_tag_without_one_image_of_its_own_says_no_address(xml: str) -> None:
    tags = replace(decode_plane(encode_plane(PIXELS)).tags, harmony=xml, sample_minimum=None, sample_maximum=None)
    assert Harmony().read_record(PurePosixPath("x"), tags) is None


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", "{}", '{"mean":NaN}', '{"mean":"x"}', '{"mean":1e999999}', "[" * 4000, '{"mean":[1]}']
)
def test_statistics_that_are_none_say_nothing(text: str) -> None:
    tags = replace(decode_plane(encode_plane(PIXELS)).tags, statistics=text, sample_minimum=None, sample_maximum=None)
    assert Harmony().read_record(PurePosixPath("x"), tags) is None


def test_the_tags_of_a_real_file_are_read_as_written(shared_data: Path) -> None:
    data = (shared_data / OPERA / "Images" / "r03c03f03p01-ch5sk1fk1fl1.tiff").read_bytes()
    record = Harmony().read_record(PurePosixPath("x"), decode_plane(data).tags)
    assert record == OwnRecord(
        address=OwnAddress("its tag 65500 says", row=3, column=3, site=3, z=1, time=1, channel="5"),
        figures=(
            OwnFigures("its tags 340 and 341 say", Decimal(174), Decimal(28340)),
            OwnFigures(
                "its tag 65520 says",
                Decimal(174),
                Decimal(28340),
                Decimal("998.5032904663923"),
                Decimal("2025.8119269968436"),
            ),
        ),
        conditions=PlaneConditions(datetime(2024, 7, 4, 20, 5, 1, 837200, UTC), 25.16),
    )
    assert re.search("<RecordID>5<", harmony_xml(data) or "")
