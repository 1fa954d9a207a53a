"""What files are, without a model."""

import os
from pathlib import Path

import numpy as np
import pytest

from fakes import InlineExecutor, make_settings
from hcs_daemon.config import Expect
from hcs_daemon.errors import FolderError
from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.naming import Instrument
from hcs_daemon.instruments.pattern import Pattern
from hcs_daemon.intake.survey import READ_AHEAD, SurveyedFile, row, survey
from hcs_daemon.records import Pixels
from hcs_daemon.simulate.spoil import eight_bit, eight_bit_scaled, other_shape, rgb, shifted_12_bit, text, truncated
from hcs_daemon.tiff import decode_plane, encode_plane
from hostile_tiffs import plane

KEYS = [
    *("path", "instrument", "plate", "well", "site", "channel", "z", "time", "container"),
    *("observed_bits", "min", "max", "reason", "detail", "hint"),
]


def name(channel: int = 1, site: int = 1, well: str = "r02c03") -> str:
    return f"{well}f{site:02d}p01-ch{channel}sk1fk1fl1.tiff"


def picture(seed: int = 0, height: int = 64, width: int = 96) -> bytes:
    """An honest plane that uses all 16 bits."""
    pixels = plane(height, width, seed=seed)
    pixels[0, 0] = 40000 + seed
    return encode_plane(pixels)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """The `Images` folder of a plate."""
    folder = tmp_path / "BR1__M1" / "Images"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def expect(tmp_path: Path) -> Expect:
    """16 bits in channels DNA = "1" and ER = "2"; "9" is ignored."""
    channels = {"channels": {"DNA": "1", "ER": "2"}, "ignore_channels": ["9"]}
    return make_settings(tmp_path, {"expect": channels}).expect


def looked_at(*paths: Path, expect: Expect | None = None, instrument: Instrument | None = None) -> list[SurveyedFile]:
    return list(survey(paths, instrument or Harmony(), expect, InlineExecutor()))


def reasons(files: list[SurveyedFile]) -> dict[str, str | None]:
    return {file.path.name: file.refusal.reason.value if file.refusal else None for file in files}


def test_a_plane_is_described_by_its_name_and_its_pixels(images: Path) -> None:
    pixels: Pixels = plane()
    (images / name(channel=5, site=3)).write_bytes(encode_plane(pixels))
    (found,) = looked_at(images.parent)
    described = row(found)
    assert list(described) == KEYS
    assert described == {
        "path": (images / name(channel=5, site=3)).as_posix(),
        "instrument": "harmony",
        "plate": "BR1",
        "well": "B03",
        "site": 3,
        "channel": "5",
        "z": 1,
        "time": 1,
        "container": "uint16",
        "observed_bits": int(np.bitwise_or.reduce(pixels, axis=None)).bit_length(),
        "min": int(pixels.min()),
        "max": int(pixels.max()),
        "reason": None,
        "detail": None,
        "hint": None,
    }


def test_a_file_a_plate_its_images_and_a_tree_name_the_same_plate(images: Path) -> None:
    (images / name()).write_bytes(picture())
    for path in (images / name(), images, images.parent, images.parent.parent):
        (found,) = looked_at(path)
        assert found.address is not None
        assert found.address.acquisition.plate == "BR1"


def test_nothing_is_expected_without_settings(images: Path) -> None:
    twelve = (plane() % 4096).astype(np.uint16)
    (images / name(channel=1)).write_bytes(encode_plane(twelve))
    (images / name(channel=2)).write_bytes(eight_bit(picture()))
    (images / name(channel=77)).write_bytes(picture())
    assert set(reasons(looked_at(images)).values()) == {None}


def test_what_contradicts_itself_is_refused_without_settings(images: Path) -> None:
    contents = {
        name(1): eight_bit_scaled(picture()),
        name(2): shifted_12_bit(picture()),
        name(3): truncated(picture()),
        name(4): text(picture()),
        name(5): rgb(picture()),
        name(6): encode_plane(np.full((64, 96), 300, np.uint16)),
    }
    for file_name, data in contents.items():
        (images / file_name).write_bytes(data)
    assert reasons(looked_at(images)) == {
        name(1): "bit_depth",
        name(2): "bit_depth",
        name(3): "truncated",
        name(4): "not_an_image",
        name(5): "wrong_shape",
        name(6): "blank",
    }


def test_the_same_plane_twice_is_refused_once(images: Path) -> None:
    (images / name()).write_bytes(picture())
    (images / name()).with_suffix(".tif").write_bytes(picture())
    (images / name(site=2)).write_bytes(picture())  # the same bytes elsewhere are no copy of this plane
    assert sorted(map(str, reasons(looked_at(images)).values())) == ["None", "None", "duplicate_plane"]


def test_the_same_pixels_under_another_channels_name_are_refused_and_the_other_is_named(images: Path) -> None:
    (images / name(1)).write_bytes(picture())
    (images / name(2)).write_bytes(encode_plane(decode_plane(picture()).pixels, software="another"))
    files = looked_at(images)
    (refused,) = (file for file in files if file.refusal is not None)
    (other,) = (file for file in files if file.refusal is None)
    assert refused.refusal is not None
    assert refused.refusal.reason == "duplicate_channel"
    assert other.path.name in refused.refusal.detail


def test_a_file_below_two_of_the_paths_is_looked_at_once(images: Path) -> None:
    (images / name()).write_bytes(picture())
    assert reasons(looked_at(images, images.parent, images / name())) == {name(): None}
    assert len(looked_at(images, images.parent, images / name())) == 1


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_links_that_lead_nowhere_or_in_a_circle_are_refused(images: Path) -> None:
    (images / name(1)).symlink_to(images / "nothing")
    (images / name(2)).symlink_to(images / name(2))
    (images.parent / "circle").symlink_to(images.parent, target_is_directory=True)
    assert reasons(looked_at(images.parent)) == {name(1): "not_an_image", name(2): "unreadable"}


def test_one_plane_of_another_size_is_refused_even_when_it_is_the_first(images: Path) -> None:
    for site in range(1, 6):
        (images / name(site=site)).write_bytes(picture(site))
    (images / name(site=1)).write_bytes(other_shape(picture(1)))
    found = reasons(looked_at(images))
    assert found.pop(name(site=1)) == "wrong_shape"
    assert set(found.values()) == {None}


def test_channels_of_different_sizes_contradict_the_settings_and_not_themselves(images: Path, expect: Expect) -> None:
    for site in range(1, 4):
        (images / name(channel=1, site=site)).write_bytes(picture(site))
    (images / name(channel=2)).write_bytes(picture(9, height=32, width=48))
    assert set(reasons(looked_at(images)).values()) == {None}
    assert reasons(looked_at(images, expect=expect))[name(channel=2)] == "wrong_shape"


def test_two_pixel_types_in_one_channel_contradict_each_other(images: Path) -> None:
    for site in range(1, 6):
        (images / name(site=site)).write_bytes(picture(site))
    (images / name(site=4)).write_bytes(eight_bit(picture(4)))
    found = reasons(looked_at(images))
    assert found.pop(name(site=4)) == "wrong_container"
    assert set(found.values()) == {None}


def test_a_tiff_of_another_name_is_examined_when_nothing_is_expected(tmp_path: Path, expect: Expect) -> None:
    (tmp_path / "scan_17.tif").write_bytes(picture())
    (found,) = looked_at(tmp_path)
    described = row(found)
    assert described["instrument"] is described["plate"] is described["well"] is described["channel"] is None
    assert (described["container"], described["observed_bits"], described["reason"]) == ("uint16", 16, None)
    (refused,) = looked_at(tmp_path, expect=expect)
    assert row(refused)["reason"] == "unknown_name"


def test_what_is_no_data_gives_nothing(images: Path, expect: Expect) -> None:
    for file_name in ("Index.xml", "Thumbs.db", ".hidden.tiff", "scan_thumb.tif", "run.log"):
        (images / file_name).write_bytes(b"something")
    (images / "notes.docx").write_bytes(b"something")
    assert looked_at(images) == []
    assert reasons(looked_at(images, expect=expect)) == {"notes.docx": "unknown_name"}


@pytest.mark.skipif(os.name == "nt", reason="Windows names are text")
def test_a_name_that_is_no_text_is_told_as_the_daemon_does(tmp_path: Path, expect: Expect) -> None:
    folder = tmp_path / os.fsdecode(b"P\xff__M1")
    try:
        folder.mkdir()
        for file_name in (os.fsdecode(b"bad\xff.tiff"), name(), name().replace(".tiff", ".tif")):
            (folder / file_name).write_bytes(picture())
    except OSError:
        pytest.skip("this file system does not take such a name")
    bad, kept, copy = map(row, sorted(looked_at(tmp_path, expect=expect), key=lambda file: file.path.name))
    assert bad["path"] == f"{tmp_path.as_posix()}/P\\xff__M1/bad\\xff.tiff"
    assert (copy["plate"], copy["reason"], kept["reason"]) == ("P\\xff", "duplicate_plane", None)
    for told in (bad, kept, copy):
        for value in told.values():
            str(value).encode()


def test_a_folder_that_is_called_like_a_plane_is_refused(images: Path, expect: Expect) -> None:
    (images / name()).mkdir()
    (images / "stack.tiff").mkdir()
    assert reasons(looked_at(images)) == {name(): "not_an_image"}
    assert reasons(looked_at(images, expect=expect)) == {name(): "not_an_image"}


def test_a_file_that_is_asked_for_by_name_is_always_looked_at(tmp_path: Path) -> None:
    (tmp_path / "notes.docx").write_bytes(b"something")
    assert reasons(looked_at(tmp_path / "notes.docx")) == {"notes.docx": "not_an_image"}


def test_with_settings_a_file_is_judged_as_the_daemon_would(images: Path, expect: Expect) -> None:
    series = name(channel=2).replace("fk1", "fk2")
    contents = {
        name(1): picture(),
        name(2): eight_bit(picture()),
        name(3): picture(),
        name(9): b"never opened",
        series: picture(),
    }
    for file_name, data in contents.items():
        (images / file_name).write_bytes(data)
    found = looked_at(images, expect=expect)
    assert reasons(found) == {
        name(1): None,
        name(2): "wrong_container",
        name(3): "unknown_channel",
        name(9): None,
        series: "duplicate_channel",
    }
    assert {file.path.name: file.channel for file in found if file.path.name != series} == {
        name(1): "DNA",
        name(2): "ER",
        name(3): "3",
        name(9): "9",
    }
    (ignored,) = (file for file in found if file.ignored)
    assert "ignore_channels" in str(row(ignored)["detail"])


def test_names_are_read_by_the_settings_pattern(tmp_path: Path, expect: Expect) -> None:
    (tmp_path / "B07_s2_w1.tif").write_bytes(picture())
    pattern = Pattern(r"(?P<well>[A-P]\d\d)_s(?P<site>\d+)_w(?P<channel>\d)\.tif")
    (found,) = looked_at(tmp_path, expect=expect, instrument=pattern)
    described = row(found)
    assert (described["instrument"], described["well"], described["site"], described["channel"]) == (
        "pattern",
        "B07",
        2,
        "DNA",
    )


def test_a_path_that_is_not_there_is_said_before_anything_is_read(images: Path) -> None:
    (images / name()).write_bytes(picture())
    with pytest.raises(FolderError, match="cannot be looked at"):
        looked_at(images, images / "nothing.tiff")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to root, or on Windows so")
def test_a_folder_below_that_cannot_be_listed_is_refused_and_the_rest_goes_on(images: Path) -> None:
    (images / name()).write_bytes(picture())
    closed = images.parent / "closed"
    closed.mkdir(mode=0)
    assert reasons(looked_at(images.parent)) == {name(): None, "closed": "unreadable"}


def test_few_files_are_read_ahead(images: Path) -> None:
    """So that memory does not grow with the folder."""
    for site in range(1, 31):
        (images / name(site=site)).write_bytes(picture(site))
    readers = InlineExecutor()
    files = survey([images], Harmony(), None, readers)
    seen = 0
    for _ in files:
        seen += 1
        assert readers.done <= seen + READ_AHEAD + 3  # three more wait until the plate's size is settled
    assert seen == 30


def test_real_planes_of_every_kind_are_described(shared_data: Path) -> None:
    found = {file.channel: row(file) for file in looked_at(shared_data / "opera-phenix-6ch")}
    assert set(found) == {"1", "2", "3", "4", "5", "6"}
    assert (found["5"]["min"], found["5"]["max"], found["5"]["observed_bits"]) == (174, 28340, 15)
    (eight, *_) = looked_at(shared_data / "arrayscan-8bit")
    assert (eight.container, eight.refusal) == ("uint8", None)
