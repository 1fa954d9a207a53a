"""From files to verdicts, sites and closed wells."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from structlog.typing import EventDict

from fakes import Clock, HeldExecutor
from hcs_daemon.intake.arrival import ScanReport, scan_once
from hcs_daemon.plate import AcquisitionId
from hcs_daemon.records import Restored, RestoredPlate, Sighting, SiteWanted
from hcs_daemon.simulate.spoil import eight_bit, eight_bit_scaled, other_shape, rgb, shifted_12_bit, text, truncated
from hcs_daemon.tiff import encode_plane
from hcs_daemon.vocabulary import PlateState, Reason, Used, WellStatus
from watched_plates import CHANNELS, IMAGES, P1, Watched, index_xml, name, picture

A01 = name("A01")
LEARNED = {"expect": {"sites_per_well": 0}}
BY_INDEX = {"expect": {"sites_per_well": 0, "pixel_size_um": 0.0}}


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ---- a good plate


def test_a_well_is_closed_with_its_site_as_soon_as_its_planes_have_settled(watched: Watched) -> None:
    for well in ("A01", "A02"):
        watched.well(well)
    watched.run(1)
    assert watched.metrics()["hcs_planes_pending"] == 4
    assert not watched.closed
    watched.run(3)
    closed = watched.closed["A01"]
    key = (sha256(picture(11)), sha256(picture(12)))
    assert (closed.expected_sites, closed.ready, closed.pending) == (1, {1: key}, False)
    assert [use.used for use in closed.inputs] == [Used.ANALYSED] * 2
    assert [use.plane.channel for use in closed.inputs] == ["DNA", "ER"]
    assert watched.sent_keys("A01") == {1: key}
    (site, _) = watched.sites
    assert site.pixels.shape == (2, 24, 32)
    assert site.pixel_size_um == 0.6
    assert watched.metrics()["hcs_planes_pending"] == 0
    assert watched.outcomes() == {"accepted": 4}
    assert watched.unaccounted() == []


def test_planes_stand_in_the_models_order_whatever_their_channel_ids(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"channels": {"DNA": "2", "ER": "1"}}})
    watched.well("A01")
    watched.well("A02")
    watched.run(4)
    assert watched.closed["A01"].ready == {1: (sha256(picture(12)), sha256(picture(11)))}


def test_a_record_says_where_its_bytes_came_from(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(4)
    source = watched.closed["A01"].inputs[0].plane.source
    path = watched.path(A01)
    assert (source.path, source.size_bytes) == (f"{IMAGES}/{A01}", path.stat().st_size)
    assert (source.mtime_ns, source.sha256) == (path.stat().st_mtime_ns, sha256(path.read_bytes()))


def test_thumbnails_and_metadata_are_skipped_without_a_word(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    for file in ("Thumbs.db", "A01_thumb.tiff", "kw.txt", "Unnamed.xml", ".DS_Store", A01 + ".tmp"):
        watched.write(file, b"not an image")
    watched.write("Index.xml", b"")
    watched.run(20)
    assert watched.said == []
    assert watched.outcomes() == {"accepted": 4}
    assert watched.metrics()["hcs_files_seen_total"] == 11


def test_an_ignored_channel_is_counted_and_never_opened(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"ignore_channels": ["3"]}})
    for well in ("A01", "A02"):
        watched.well(well)
        watched.write(name(well, channel=3), b"brightfield")
    watched.run(4)
    assert watched.said == []
    assert watched.outcomes() == {"accepted": 4, "ignored": 2}
    assert watched.readers.done == 4


# ---- bad input

BAD: list[tuple[str, Callable[[bytes], bytes], Reason]] = [
    ("truncated", truncated, Reason.TRUNCATED),
    ("text", text, Reason.NOT_AN_IMAGE),
    ("8-bit", eight_bit, Reason.WRONG_CONTAINER),
    ("8-bit times 257", eight_bit_scaled, Reason.BIT_DEPTH),
    ("12-bit shifted", shifted_12_bit, Reason.BIT_DEPTH),
    ("another shape", other_shape, Reason.WRONG_SHAPE),
    ("a picture for the screen", rgb, Reason.WRONG_SHAPE),
    ("blank", lambda _: encode_plane(np.full((24, 32), 100, np.uint16)), Reason.BLANK),
]


@pytest.mark.parametrize(("make", "reason"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_plane_is_rejected_once_with_a_hint_and_the_plate_goes_on(
    watched: Watched, make: Callable[[bytes], bytes], reason: Reason
) -> None:
    for well in ("A01", "A02", "A03"):
        watched.well(well)
    watched.write(A01, make(picture(11)))
    with capture_logs() as log:
        watched.run(40)
    (said,) = watched.said
    assert (said.reason, said.path, said.channel, said.withdrawn) == (reason, f"{IMAGES}/{A01}", "DNA", False)
    assert said.detail
    assert said.hint
    assert said.sha256 == sha256(make(picture(11)))
    assert said.plane is not None
    assert said.plane.site.well.stem == "A01"
    lines = [line for line in log if line["event"] == "plane.rejected"]
    assert [(line["reason"], line["well"], line["hint"]) for line in lines] == [(reason, "A01", said.hint)]
    assert watched.metrics()[f'hcs_rejections_total{{reason="{reason.value}"}}'] == 1
    assert watched.outcomes() == {"accepted": 5, "rejected": 1}
    assert {well: watched.status(well).value for well in watched.closed} == {
        "A01": "rejected",
        "A02": "complete",
        "A03": "complete",
    }
    assert watched.closed["A01"].rejected == (1,)
    assert watched.unaccounted() == []


def test_a_channel_in_neither_list_is_rejected_unread_and_the_well_is_complete(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.write(name("A01", channel=7), picture(70))
    watched.run(10)
    (said,) = watched.said
    assert (said.reason, said.sha256, said.channel) == (Reason.UNKNOWN_CHANNEL, None, None)
    assert said.detail == 'channel 7 is in neither list (expect.channels: DNA = "1", ER = "2")'
    assert 'add "7" to expect.ignore_channels' in said.hint
    assert said.acquisition == P1
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.outcomes() == {"accepted": 4, "rejected": 1}


def test_the_same_plane_twice_counts_once_and_the_copy_is_rejected(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    copy = A01.replace(".tiff", ".tif")
    watched.write(copy, picture(11))
    watched.run(20)
    assert watched.reasons == {copy: "duplicate_plane"}
    assert A01 in watched.standing[copy].detail
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.revisions["A01"] == 1
    assert watched.outcomes() == {"accepted": 4, "duplicate": 1}
    assert watched.unaccounted() == []


def test_a_file_of_unknown_name_belongs_to_no_plate(watched: Watched) -> None:
    watched.write("image 1.tiff", picture(1))
    watched.write("notes.docx", b"words")
    watched.run(10)
    assert watched.reasons == {"image 1.tiff": "unknown_name", "notes.docx": "unknown_name"}
    assert all(line.acquisition is None and line.plane is None for line in watched.said)
    assert "no instrument names a plane like this" in watched.standing["image 1.tiff"].detail
    assert watched.metrics()['hcs_rejections_total{reason="unknown_name"}'] == 2
    assert watched.outcomes() == {}
    assert watched.intake.acquisitions == ()


def test_of_an_exposure_series_the_first_image_is_the_plane(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    second = A01.replace("fk1", "fk2")
    watched.write(second, picture(99))
    watched.run(10)
    assert watched.reasons == {second: "duplicate_channel"}
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.unaccounted() == []


def test_while_only_later_images_of_a_series_are_there_the_first_may_still_come(watched: Watched) -> None:
    watched.well("A02")
    watched.well("A03")
    watched.write(A01.replace("fk1", "fk2"), picture(99))
    watched.write(name("A01", 2), picture(12))
    watched.run(950)
    closed = watched.closed["A01"]
    assert (closed.missing, closed.rejected, closed.pending) == ((1,), (), True)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_what_is_no_file_but_is_called_like_a_plane_is_rejected(watched: Watched) -> None:
    watched.well("A02")
    os.mkfifo(watched.path(A01))
    watched.path(name("A01", 2)).symlink_to(watched.root / "none")
    watched.run(60)
    assert watched.reasons == {A01: "not_an_image", name("A01", 2): "not_an_image"}
    assert len(watched.said) == 2


def test_a_folder_that_is_called_like_a_plane_is_rejected_once_and_what_is_in_it_is_read(watched: Watched) -> None:
    watched.well("A02")
    watched.path(A01).mkdir()
    watched.path("stack.tiff").mkdir()
    watched.path("A01_thumb.tiff").mkdir()
    watched.write(name("A01", 2), picture(12))
    watched.run(10)
    watched.write(f"{IMAGES}/{A01}/notes.docx", b"words")
    watched.run(20)
    assert watched.reasons == {A01: "not_an_image", "notes.docx": "unknown_name"}
    assert len(watched.said) == 2
    assert watched.standing[A01].plane is not None
    assert watched.metrics()["hcs_files_seen_total"] == 5
    assert watched.outcomes() == {"accepted": 3, "rejected": 1}


def test_a_folder_that_makes_way_for_the_plane_it_was_called_like_is_forgiven(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.path(A01).unlink()
    watched.path(A01).mkdir()
    watched.run(10)
    watched.path(A01).rmdir()
    watched.write(A01, picture(11))
    watched.run(20)
    assert watched.standing == {}
    assert watched.status("A01") is WellStatus.COMPLETE


@pytest.mark.parametrize(
    "folder", ["P\n1__M\t1/Images", 'it\'s "$(rm)" 100%__x;y/Images', "CON/Images", os.fsdecode(b"P\xff__\xfe/Images")]
)
def test_odd_folder_names_are_carried_as_text_and_their_files_are_read_again(tmp_path: Path, folder: str) -> None:
    watched = Watched(tmp_path, overrides={"watch": {"cache_bytes": 0}})
    try:
        for well in ("A01", "A02"):
            for channel in (1, 2):
                watched.write(f"{folder}/{name(well, channel)}", picture(channel))
    except OSError:
        pytest.skip("this file system does not take such a name")
    watched.run(5)
    assert watched.said == []
    assert len(watched.sites) == 2
    (acquisition,) = watched.intake.acquisitions
    (acquisition.plate + acquisition.acquisition).encode()
    watched.closed["A01"].inputs[0].plane.source.path.encode()


# ---- wells that lack something


def test_a_missing_channel_is_waited_for_and_then_said_to_be_missing(watched: Watched) -> None:
    watched.well("A02")
    watched.well("A03")
    watched.write(A01, picture(11))
    watched.run(800)
    assert "A01" not in watched.closed
    watched.run(150)
    closed = watched.closed["A01"]
    assert (closed.missing, closed.rejected, closed.pending, closed.ready) == ((1,), (), True, {})
    assert watched.status("A01") is WellStatus.PARTIAL
    assert watched.uses("A01") == {A01: "incomplete_site"}


def test_a_late_plane_completes_a_well_that_was_closed_without_it(watched: Watched) -> None:
    watched.well("A02")
    watched.well("A03")
    watched.write(A01, picture(11))
    watched.run(950)
    watched.write(name("A01", 2), picture(12))
    watched.run(8)
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.revisions["A01"] == 2
    assert watched.sent_keys("A01") == {1: (sha256(picture(11)), sha256(picture(12)))}


def test_a_well_whose_lacking_planes_may_still_come_is_not_given_up_for_a_rejected_one(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"channels": {**CHANNELS, "RNA": "3"}}})
    for well in ("A02", "A03"):
        watched.well(well)
        watched.write(name(well, 3), picture(3))
    watched.write(A01, truncated(picture(11)))
    watched.write(name("A01", 2), picture(12))
    watched.run(950)
    closed = watched.closed["A01"]
    assert (closed.missing, closed.rejected, closed.pending) == ((1,), (), True)


def test_of_several_sites_those_that_can_be_are_analysed(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"sites_per_well": 3}})
    watched.well("A01", sites=3)
    watched.write(name("A01", 1, site=2), truncated(picture(21)))
    watched.path(name("A01", 2, site=3)).unlink()
    watched.run(950)
    closed = watched.closed["A01"]
    assert (sorted(closed.ready), closed.rejected, closed.missing) == ([1], (2,), (3,))
    assert closed.expected_sites == 3
    assert "1 expected plane refused (1 truncated; rejected.jsonl says more): site 2 DNA z 1" in closed.warnings
    assert "1 expected plane never came: site 3 ER z 1" in closed.warnings
    assert watched.uses("A01")[name("A01", 2, site=2)] == "incomplete_site"
    assert watched.status("A01") is WellStatus.PARTIAL


def test_sites_that_never_appeared_are_said(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"sites_per_well": 4}})
    watched.well("A01", sites=2)
    watched.run(950)
    closed = watched.closed["A01"]
    assert (closed.expected_sites, sorted(closed.ready), closed.pending) == (4, [1, 2], True)
    assert "2 of 4 expected sites never appeared" in closed.warnings


def test_more_sites_than_expected_are_analysed_and_said(watched: Watched) -> None:
    watched.well("A01", sites=2)
    watched.run(20)
    closed = watched.closed["A01"]
    assert sorted(closed.ready) == [1, 2]
    assert closed.warnings == ("2 sites were imaged, expect.sites_per_well says 1",)


def test_other_z_steps_are_accepted_listed_and_not_analysed(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"projection": 1}})
    watched.well("A01")
    watched.well("A02")
    for channel in (1, 2):
        watched.write(name("A01", channel, z=2), picture(100 + channel))
    watched.run(20)
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.uses("A01")[name("A01", z=2)] == "other_z"
    assert watched.closed["A01"].warnings == ('2 planes of other z steps were not analysed (expect.projection = "1")',)
    assert watched.unaccounted() == []


def test_a_rejected_plane_of_another_z_step_does_not_cost_the_well(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"projection": 1}})
    watched.well("A01")
    watched.well("A02")
    watched.write(name("A01", z=2), truncated(picture(1)))
    watched.run(40)
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.unaccounted() == []


def test_each_time_point_is_a_well_of_its_own(watched: Watched) -> None:
    watched.well("A01")
    for channel in (1, 2):
        watched.write(name("A01", channel, time=2), picture(50 + channel))
    watched.run(5)
    assert set(watched.closed) == {"A01", "A01.t002"}


# ---- the plate's shape


def test_one_odd_first_plane_does_not_condemn_the_rest(watched: Watched) -> None:
    watched.write(A01, picture(1, 12, 16))
    watched.run(5)
    assert watched.said == []
    for well in ("A02", "A03"):
        watched.well(well)
    watched.run(5)
    assert watched.reasons == {A01: "wrong_shape"}
    assert "is 16 x 12 pixels, the plate's planes are 32 x 24" in watched.standing[A01].detail


def test_a_plate_of_fewer_planes_than_a_vote_needs_is_settled_when_its_time_is_up(watched: Watched) -> None:
    watched.well("A01")
    watched.run(800)
    assert not watched.closed
    watched.run(150)
    assert watched.status("A01") is WellStatus.COMPLETE


def test_a_plane_rewritten_while_the_shape_was_open_has_one_vote(watched: Watched) -> None:
    for seed in range(4):
        watched.write(A01, picture(seed, 12, 16))
        watched.run(6)
    watched.well("A02")
    watched.well("A03")
    watched.run(20)
    assert watched.reasons == {A01: "wrong_shape"}


def test_a_plane_being_rewritten_has_no_vote_and_is_not_placed_as_it_was(watched: Watched) -> None:
    watched.write(A01, picture(11))
    watched.run(5)
    watched.well("A02")
    watched.write(name("A03"), picture(31))
    watched.scanner.scan()
    watched.run(1.5)
    watched.write(A01, picture(77))
    watched.scanner.scan()
    watched.run(20)
    assert watched.outcomes() == {"accepted": 4}


# ---- the same address again


def test_a_plane_rewritten_in_place_revises_its_well(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    watched.write(A01, picture(77))
    watched.run(40)
    key = (sha256(picture(77)), sha256(picture(12)))
    assert watched.closed["A01"].ready == {1: key}
    assert watched.sent_keys("A01") == {1: key}
    assert watched.revisions == {"A01": 2, "A02": 1}
    assert watched.uses("A01") == {A01: "analysed", name("A01", 2): "analysed"}
    assert watched.news[P1].counts["accepted"] == 4


def test_a_plane_overwritten_by_a_bad_one_and_back_is_rejected_and_withdrawn(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    watched.write(A01, eight_bit_scaled(picture(11)))
    watched.run(20)
    assert watched.reasons == {A01: "bit_depth"}
    assert watched.status("A01") is WellStatus.REJECTED
    assert A01 not in watched.uses("A01")
    watched.write(A01, picture(11))
    watched.run(20)
    assert watched.standing == {}
    assert [line.withdrawn for line in watched.said] == [False, True]
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.closed["A01"].ready == watched.sent_keys("A01")
    assert watched.unaccounted() == []


def test_a_file_rejected_for_another_reason_gets_a_new_line(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.write(A01, eight_bit(picture(11)))
    watched.run(5)
    watched.write(A01, eight_bit_scaled(picture(11)))
    watched.run(40)
    assert [line.reason.value for line in watched.said] == ["wrong_container", "bit_depth"]
    assert watched.news[P1].counts["rejected"] == 1


def test_a_touched_file_of_the_same_bytes_changes_nothing(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.write(name("A01", 7), picture(1))
    watched.run(5)
    sent = len(watched.sites)
    for file in (A01, name("A01", 7)):
        os.utime(watched.path(file), (5, 5))
    watched.run(20)
    assert len(watched.sites) == sent
    assert len(watched.said) == 1
    assert watched.status("A01") is WellStatus.COMPLETE


def test_a_well_imaged_again_counts_the_later_files_and_lists_the_earlier(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    again = A01.replace(".tiff", ".tif")
    watched.write(again, picture(77))
    watched.run(20)
    assert watched.uses("A01") == {again: "analysed", name("A01", 2): "analysed", A01: "superseded"}
    assert watched.closed["A01"].ready == {1: (sha256(picture(77)), sha256(picture(12)))}
    assert watched.unaccounted() == []


def test_a_later_file_that_came_first_still_counts(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    again = A01.replace(".tiff", ".tif")
    watched.write(again, picture(77), mtime=1.0)
    watched.run(20)
    assert watched.uses("A01") == {A01: "analysed", name("A01", 2): "analysed", again: "superseded"}


def test_when_the_later_file_turns_bad_the_earlier_counts_again(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    again = A01.replace(".tiff", ".tif")
    watched.run(5)
    watched.write(again, picture(77))
    watched.run(20)
    watched.write(again, eight_bit(picture(77)))
    watched.run(20)
    assert watched.uses("A01") == {A01: "analysed", name("A01", 2): "analysed"}
    assert watched.closed["A01"].ready == watched.sent_keys("A01") == {1: (sha256(picture(11)), sha256(picture(12)))}
    assert watched.reasons == {again: "wrong_container"}


def test_a_superseded_file_that_is_rewritten_counts_once(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    again = A01.replace(".tiff", ".tif")
    watched.run(5)
    watched.write(again, picture(77))
    watched.run(20)
    watched.write(A01, picture(78))
    watched.run(20)
    assert watched.uses("A01") == {A01: "analysed", name("A01", 2): "analysed", again: "superseded"}
    assert len(watched.closed["A01"].inputs) == 3


def test_a_copy_counts_when_its_original_does_not_any_more(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    copy = A01.replace(".tiff", ".tif")
    watched.run(5)
    watched.write(copy, picture(11))
    watched.run(10)
    watched.write(A01, text(b""))
    watched.run(60)
    assert watched.reasons == {A01: "not_an_image"}
    assert watched.uses("A01") == {copy: "analysed", name("A01", 2): "analysed"}
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.unaccounted() == []


def test_a_copy_of_bytes_that_were_rewritten_is_a_copy_no_more(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    copy = A01.replace(".tiff", ".tif")
    watched.run(5)
    watched.write(copy, picture(11))
    watched.run(10)
    watched.write(A01, picture(77))
    watched.run(30)
    assert watched.standing == {}
    assert watched.uses("A01") == {A01: "analysed", name("A01", 2): "analysed", copy: "superseded"}


def test_a_published_file_that_is_renamed_is_the_same_under_its_new_name(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(40)
    renamed = A01.replace(".tiff", ".tif")
    watched.path(A01).rename(watched.path(renamed))
    watched.run(40)
    assert watched.said == []
    assert watched.uses("A01") == {renamed: "analysed", name("A01", 2): "analysed"}
    assert watched.closed["A01"].ready == watched.sent_keys("A01")
    assert len(watched.sites) == 2
    assert watched.news[P1].counts["accepted"] == 4
    assert watched.unaccounted() == []


def test_a_file_renamed_there_and_back_is_the_same_under_its_old_name(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(40)
    renamed = A01.replace(".tiff", ".tif")
    watched.path(A01).rename(watched.path(renamed))
    watched.run(40)
    watched.path(renamed).rename(watched.path(A01))
    watched.run(40)
    assert watched.said == []
    assert watched.uses("A01") == {A01: "analysed", name("A01", 2): "analysed"}
    assert watched.unaccounted() == []


def test_a_file_renamed_while_nothing_ran_is_the_same_under_its_new_name(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(40)
    renamed = A01.replace(".tiff", ".tif")
    watched.path(A01).rename(watched.path(renamed))
    second = again(watched)
    second.run(40)
    assert second.said == []
    assert second.uses("A01") == {renamed: "analysed", name("A01", 2): "analysed"}
    assert second.sites == []
    assert second.news[P1].counts["accepted"] == 4


def test_a_copy_whose_original_was_removed_counts_once_it_is_written_again(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    copy = A01.replace(".tiff", ".tif")
    watched.run(5)
    watched.write(copy, picture(11))
    watched.run(10)
    watched.path(A01).unlink()
    watched.run(60)
    assert "if the first is gone from the disk, write this one again" in watched.standing[copy].hint
    watched.write(copy, picture(11))
    watched.run(20)
    assert watched.standing == {}
    assert watched.uses("A01") == {copy: "analysed", name("A01", 2): "analysed"}
    assert watched.unaccounted() == []


def test_a_complete_folder_is_not_done_before_a_copy_is_judged(tmp_path: Path) -> None:
    readers = HeldExecutor()
    watched = Watched(tmp_path, finite=True, readers=readers)
    copy = A01.replace(".tiff", ".tif")
    watched.well("A01")
    watched.write(copy, picture(11))
    watched.intake.report(scan_once(watched.root), watched.clock.now)
    watched.work()
    while len(readers):
        assert not watched.intake.idle
        readers.work()
        watched.work()
    assert watched.intake.idle
    assert len(watched.said) == 1
    assert watched.status("A01") is WellStatus.COMPLETE


# ---- two folders of one name

OTHER_IMAGES = "elsewhere/P1__M1/Images"
MIXED = "planes of 2 folders that claim to be this plate and acquisition were mixed: P1__M1, elsewhere/P1__M1"


def ambiguous(log: list[EventDict]) -> list[tuple[str, list[str]]]:
    return [(line["log_level"], line["folders"]) for line in log if line["event"] == "plate.ambiguous"]


def test_planes_of_two_folders_of_one_name_are_mixed_aloud(watched: Watched) -> None:
    for well in ("A01", "A02", "A03"):
        watched.well(well)
    watched.run(5)
    with capture_logs() as log:
        for well in ("A01", "A02"):
            for channel in (1, 2):
                watched.write(f"{OTHER_IMAGES}/{name(well, channel)}", picture(80 + channel))
        watched.run(40)
    assert ambiguous(log) == [("warning", ["P1__M1", "elsewhere/P1__M1"])]
    assert {well: any(MIXED in line for line in closed.warnings) for well, closed in watched.closed.items()} == {
        "A01": True,
        "A02": True,
        "A03": False,
    }
    assert watched.closed["A01"].ready == watched.sent_keys("A01") == {1: (sha256(picture(81)), sha256(picture(82)))}
    assert watched.unaccounted() == []


def test_two_folders_of_one_name_that_share_no_well_are_said_too(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02", seed=50)
    with capture_logs() as log:
        watched.run(5)
        for channel in (1, 2):
            watched.write(f"{OTHER_IMAGES}/{name('A03', channel)}", picture(30 + channel))
        watched.run(10)
    assert ambiguous(log) == [("warning", ["P1__M1", "elsewhere/P1__M1"])]
    assert {closed.warnings for closed in watched.closed.values()} == {()}


def test_a_plate_copied_in_again_is_said_once_and_mixes_nothing(watched: Watched) -> None:
    for seed, well in enumerate(("A01", "A02")):
        watched.well(well, seed=50 * seed)
    watched.run(5)
    with capture_logs() as log:
        shutil.copytree(watched.root / "P1__M1", watched.root / "elsewhere" / "P1__M1")
        watched.run(40)
    assert ambiguous(log) == [("warning", ["P1__M1", "elsewhere/P1__M1"])]
    assert [line.reason for line in watched.said] == [Reason.DUPLICATE_PLANE] * 4
    assert {closed.warnings for closed in watched.closed.values()} == {()}
    assert watched.revisions == {"A01": 1, "A02": 1}


def test_a_plate_that_is_moved_is_the_same_in_its_new_place(watched: Watched) -> None:
    for seed, well in enumerate(("A01", "A02")):
        watched.well(well, seed=50 * seed)
    watched.run(40)
    with capture_logs() as log:
        (watched.root / "elsewhere").mkdir()
        (watched.root / "P1__M1").rename(watched.root / "elsewhere" / "P1__M1")
        watched.run(10)
        for channel in (1, 2):
            watched.write(f"{OTHER_IMAGES}/{name('A03', channel)}", picture(30 + channel))
        watched.run(40)
    assert ambiguous(log) == []
    assert watched.said == []
    assert watched.news[P1].folder == "elsewhere/P1__M1"
    assert {closed.warnings for closed in watched.closed.values()} == {()}
    assert watched.unaccounted() == []


# ---- files that are not whole


def test_a_growing_file_is_not_read_before_it_is_whole(watched: Watched) -> None:
    watched.well("A02")
    watched.well("A03")
    watched.write(name("A01", 2), picture(12))
    for sixteenths in range(1, 17):
        watched.write(A01, picture(11)[: len(picture(11)) * sixteenths // 16])
        watched.run(2)
    watched.run(20)
    assert watched.said == []
    assert watched.status("A01") is WellStatus.COMPLETE


def test_a_file_that_stalls_half_way_is_rejected_and_taken_back_when_it_has_grown_whole(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.write(A01, truncated(picture(11)))
    watched.run(60)
    assert watched.reasons == {A01: "truncated"}
    watched.write(A01, picture(11))
    watched.run(20)
    assert [line.withdrawn for line in watched.said] == [False, True]
    assert watched.status("A01") is WellStatus.COMPLETE


def test_a_preallocated_file_waits_some_rounds_before_it_is_judged(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.write(A01, bytes(len(picture(11))), mtime=5.0)
    watched.run(12)
    assert watched.said == []
    watched.write(A01, picture(11), mtime=5.0)
    watched.run(20)
    assert watched.said == []
    assert watched.status("A01") is WellStatus.COMPLETE


def test_a_preallocated_file_that_is_filled_unseen_after_it_was_judged_is_taken_back(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.write(A01, bytes(len(picture(11))), mtime=5.0)
    watched.run(60)
    assert watched.reasons == {A01: "truncated"}
    watched.write(A01, picture(11), mtime=5.0)
    watched.run(120)
    assert watched.standing == {}
    assert watched.status("A01") is WellStatus.COMPLETE


def test_a_file_that_grows_with_pauses_is_given_its_time_anew_each_time(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    for sixteenths in (4, 8, 12, 16):
        watched.write(A01, picture(11)[: len(picture(11)) * sixteenths // 16])
        watched.run(15)
    assert watched.said == []
    assert watched.status("A01") is WellStatus.COMPLETE


def test_what_was_read_of_a_file_that_changed_meanwhile_is_not_used(tmp_path: Path) -> None:
    readers = HeldExecutor()
    watched = Watched(tmp_path, readers=readers)
    watched.well("A01")
    watched.well("A02")
    watched.run(4)
    while len(readers):
        readers.work()
    watched.write(A01, picture(77))
    watched.scanner.scan()
    for _ in range(20):
        watched.work()
        watched.clock.advance(0.5)
        while len(readers):
            readers.work()
    assert watched.outcomes() == {"accepted": 4}
    assert watched.revisions["A01"] == 1
    assert watched.closed["A01"].ready == {1: (sha256(picture(77)), sha256(picture(12)))}


def test_a_file_that_stays_bad_is_read_ever_less_often(watched: Watched) -> None:
    watched.well("A02")
    watched.well("A03")
    watched.write(A01, truncated(picture(11)))
    watched.run(100)
    before = watched.readers.done
    watched.run(2 * 3600)
    assert watched.readers.done - before < 10
    assert len(watched.said) == 1


def test_damage_that_more_waiting_cannot_cure_is_judged_at_once_and_not_read_again(watched: Watched) -> None:
    watched.well("A02")
    watched.well("A03")
    watched.write(A01, text(b""))
    watched.run(4)
    assert watched.reasons == {A01: "not_an_image"}
    before = watched.readers.done
    watched.run(3600)
    assert watched.readers.done == before


@pytest.mark.skipif(os.name == "nt", reason="Windows needs a right to make links")
def test_a_file_that_cannot_be_opened_is_waited_for_and_then_rejected(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    path = watched.path(A01)
    path.unlink()
    path.symlink_to(path)
    watched.run(12)
    assert watched.said == []
    watched.run(200)
    (said,) = watched.said
    assert (said.reason, said.sha256) == (Reason.UNREADABLE, None)
    assert "it is tried again" in said.hint
    path.unlink()
    watched.write(A01, picture(11))
    watched.run(20)
    assert watched.standing == {}
    assert watched.status("A01") is WellStatus.COMPLETE


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_becomes_readable_unseen_is_taken_back(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.path(A01).chmod(0)
    watched.run(960)
    assert watched.reasons == {A01: "unreadable"}
    watched.path(A01).chmod(0o600)
    watched.run(120)
    assert watched.standing == {}
    assert watched.status("A01") is WellStatus.COMPLETE


def test_a_file_renamed_before_it_was_read_leaves_no_trace(watched: Watched) -> None:
    watched.well("A02")
    watched.well("A03")
    watched.write(f"staging/{A01}", picture(11))
    watched.run(1)
    watched.path("staging/x").parent.joinpath(A01).rename(watched.path(A01))
    watched.write(name("A01", 2), picture(12))
    watched.run(1000)
    assert watched.said == []
    assert set(watched.closed) == {"A01", "A02", "A03"}
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.metrics()["hcs_planes_pending"] == 0


@pytest.mark.parametrize("away_s", [3.0, 120.0])
def test_files_of_a_share_that_was_away_while_they_were_to_be_read_are_not_lost(
    watched: Watched, away_s: float
) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(1)
    away = watched.root.with_name("away")
    watched.root.rename(away)
    watched.run(away_s)
    assert watched.said == []
    away.rename(watched.root)
    watched.run(60)
    assert {well: watched.status(well) for well in watched.closed} == dict.fromkeys(("A01", "A02"), WellStatus.COMPLETE)
    assert watched.metrics()["hcs_planes_pending"] == 0


@pytest.mark.parametrize("file", [A01, "image 1.tiff"])
def test_the_line_of_a_file_that_was_away_when_it_was_tried_again_is_still_its_own(watched: Watched, file: str) -> None:
    watched.well("A01")
    watched.well("A02")
    path = watched.write(f"{IMAGES}/{file}", truncated(picture(11)))
    watched.run(60)
    assert set(watched.reasons) == {file}
    data = path.read_bytes()
    path.unlink()
    watched.intake.report(ScanReport((Sighting(path, 1, 1),), finished=False), watched.clock.now)
    watched.run(200)
    watched.write(f"{IMAGES}/{file}", data, mtime=7.0)
    watched.run(60)
    assert len(watched.said) == 1, "it is the same file, refused for the same reason"
    assert watched.news[P1].counts["rejected"] == (file == A01)
    watched.write(A01, picture(11))
    watched.run(60)
    assert set(watched.reasons) == {file} - {A01}
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.news[P1].counts["rejected"] == 0


def test_nothing_is_taken_as_deleted(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    shutil.rmtree(watched.root / "P1__M1")
    watched.run(1000)
    assert watched.revisions == {"A01": 1, "A02": 1}
    assert watched.status("A01") is WellStatus.COMPLETE


# ---- how many sites a well has


def test_without_an_index_the_number_of_sites_is_learned_from_a_well_whose_time_is_up(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=LEARNED)
    watched.well("A01", sites=2)
    watched.run(890)
    assert not watched.closed
    watched.run(30)
    assert watched.closed["A01"].expected_sites == 2
    assert watched.status("A01") is WellStatus.COMPLETE
    watched.well("A02", sites=2)
    watched.run(5)
    assert watched.status("A02") is WellStatus.COMPLETE
    watched.well("A03", sites=1)
    watched.run(100)
    assert "A03" not in watched.closed
    watched.run(850)
    assert (watched.closed["A03"].missing, watched.closed["A03"].expected_sites) == ((2,), 2)


def test_what_one_well_taught_closes_the_others_that_waited_for_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=LEARNED)
    watched.well("A01", sites=2)
    watched.run(400)
    watched.well("A02", sites=2)
    watched.run(520)
    assert {well: watched.status(well) for well in watched.closed} == dict.fromkeys(("A01", "A02"), WellStatus.COMPLETE)


def test_wells_whose_time_is_up_together_are_all_closed_with_what_they_have(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"sites_per_well": 0, "well_timeout_s": 30.0}})
    wells = [f"A{column:02d}" for column in range(1, 7)]
    for well in wells:
        watched.write(name(well), picture(1))
    watched.run(60)
    assert {well: watched.closed[well].missing for well in watched.closed} == dict.fromkeys(wells, (1,))
    assert set(watched.revisions.values()) == {1}
    for well in wells:
        watched.write(name(well, 2), picture(2))
    watched.run(20)
    assert {watched.status(well) for well in wells} == {WellStatus.COMPLETE}


def test_an_index_says_how_many_sites_and_how_large_a_pixel_is(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=BY_INDEX)
    watched.write("Index.xml", index_xml({"A01": 2, "A02": 1}, pixel_size_um=0.75).encode())
    watched.well("A01", sites=2)
    watched.well("A02", sites=1)
    watched.run(45)
    assert {well: closed.expected_sites for well, closed in watched.closed.items()} == {"A01": 2, "A02": 1}
    assert {site.pixel_size_um for site in watched.sites} == {0.75}
    assert watched.closed["A01"].ready == watched.sent_keys("A01")
    news = watched.news[P1]
    assert (news.pixel_size_um, news.expected.source, news.instrument_plate_id) == (0.75, "metadata", "BR1")


def test_an_index_that_comes_last_decides_the_wells_that_waited_for_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=BY_INDEX)
    watched.well("A01", sites=2)
    watched.run(60)
    assert not watched.closed
    assert not watched.sites
    watched.write("Index.xml", index_xml({"A01": 2}).encode())
    watched.run(10)
    assert watched.status("A01") is WellStatus.COMPLETE
    assert len(watched.sites) == 2


def test_an_index_that_grows_revises_what_was_decided_by_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=BY_INDEX)
    watched.write("Index.xml", index_xml({"A01": 1}).encode())
    watched.well("A01", sites=2)
    watched.path(name("A01", 2, site=2)).unlink()
    watched.well("A02", sites=2)
    watched.run(5)
    watched.write("Index.xml", index_xml({"A01": 2, "A02": 2}).encode())
    watched.run(10)
    assert watched.status("A02") is WellStatus.COMPLETE
    watched.write(name("A01", 2, site=2), picture(22))
    watched.run(30)
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.closed["A01"].expected_sites == 2


@pytest.mark.parametrize("later", ["", index_xml({"A01": 2})[:-40], index_xml({}, pixel_size_um=None)])
def test_an_empty_or_broken_second_index_takes_nothing_back(tmp_path: Path, later: str) -> None:
    watched = Watched(tmp_path, overrides=BY_INDEX)
    watched.write("Index.xml", index_xml({"A01": 2}).encode())
    watched.well("A01", sites=2)
    watched.write("Index.ref.xml", later.encode())
    watched.run(15)
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.said == []


def test_an_index_overwritten_by_a_broken_one_still_stands(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=BY_INDEX)
    watched.write("Index.xml", index_xml({"A01": 1, "A02": 1}).encode())
    watched.well("A01")
    watched.run(10)
    watched.write("Index.xml", index_xml({"A01": 1})[:-40].encode())
    watched.run(10)
    watched.well("A02")
    watched.run(10)
    assert watched.status("A02") is WellStatus.COMPLETE


def test_the_settings_have_the_last_word_on_pixel_size_and_sites(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"sites_per_well": 1, "pixel_size_um": 0.5}})
    watched.write("Index.xml", index_xml({"A01": 2, "A02": 2}, pixel_size_um=0.505).encode())
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.sites[0].pixel_size_um == 0.5


def test_where_nothing_says_the_pixel_size_nothing_is_guessed(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"pixel_size_um": 0.0}})
    watched.well("A01")
    watched.well("A02")
    watched.run(950)
    closed = watched.closed["A01"]
    assert (closed.ready, closed.missing, closed.pending) == ({}, (1,), True)
    assert "the pixel size is not known" in closed.warnings[0]
    assert watched.sites == []
    watched.write("Index.xml", index_xml({"A01": 1, "A02": 1}).encode())
    watched.run(20)
    assert watched.status("A01") is WellStatus.COMPLETE
    assert watched.closed["A01"].ready == watched.sent_keys("A01")


# ---- when a well is revised, and a plate finished


def test_a_published_well_that_goes_on_growing_is_revised_once_it_is_quiet(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    for site in range(2, 8):
        for channel in (1, 2):
            watched.write(name("A01", channel, site), picture(10 * site + channel))
        watched.run(6)
    assert watched.revisions["A01"] == 1
    watched.run(30)
    assert watched.revisions["A01"] == 2
    assert len(watched.closed["A01"].ready) == 7


def test_a_plate_is_finished_when_every_promised_well_is_closed(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=BY_INDEX)
    watched.write("Index.xml", index_xml({"A01": 1, "A02": 1}).encode())
    watched.well("A01")
    watched.run(60)
    assert watched.news[P1].state is PlateState.ACQUIRING
    watched.well("A02")
    watched.run(45)
    assert watched.news[P1].state is PlateState.FINISHED


def test_a_plate_is_finished_when_nothing_came_for_long_and_acquires_again_when_something_does(
    watched: Watched,
) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(3500)
    assert watched.news[P1].state is PlateState.ACQUIRING
    watched.run(200)
    assert watched.news[P1].state is PlateState.FINISHED
    watched.well("A03")
    watched.run(40)
    assert watched.news[P1].state is PlateState.ACQUIRING
    assert watched.status("A03") is WellStatus.COMPLETE


def test_a_plate_without_an_index_whose_wells_are_all_complete_does_not_stall(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    with capture_logs() as log:
        watched.run(3500)
    assert watched.news[P1].state is PlateState.ACQUIRING
    assert watched.metrics()["hcs_plates_stalled"] == 0
    assert "plate.stalled" not in {line["event"] for line in log}


def test_a_plate_with_a_partial_well_stalls_until_its_plane_comes(watched: Watched) -> None:
    watched.well("A01")
    watched.write(name("A02", 1), picture(3))
    watched.run(890)
    assert watched.metrics()["hcs_plates_stalled"] == 0
    with capture_logs() as log:
        watched.run(2000)
    assert watched.status("A02") is WellStatus.PARTIAL
    assert watched.metrics()["hcs_plates_stalled"] == 1
    (line,) = [line for line in log if line["event"] == "plate.stalled"]
    assert (line["plate"], line["acquisition"]) == (P1.plate, P1.acquisition)
    assert line["detail"] == "no plane came for 900 s; 1 well incomplete, 0 expected wells never came"
    watched.write(name("A02", 2), picture(4))
    watched.run(40)
    assert watched.metrics()["hcs_plates_stalled"] == 0
    watched.run(1500)  # and does not again: it lacks nothing
    assert watched.metrics()["hcs_plates_stalled"] == 0


def test_a_plate_of_which_an_expected_well_is_missing_stalls_until_it_is_finished(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=BY_INDEX)
    watched.write("Index.xml", index_xml({"A01": 2, "A02": 1}).encode())
    watched.well("A01", sites=2)
    with capture_logs() as log:
        watched.run(2000)
    assert watched.metrics()["hcs_plates_stalled"] == 1
    details = [line["detail"] for line in log if line["event"] == "plate.stalled"]
    assert details == ["no plane came for 900 s; 0 wells incomplete, 1 expected well never came"]
    watched.run(2000)
    assert watched.news[P1].state is PlateState.FINISHED
    assert watched.metrics()["hcs_plates_stalled"] == 0


def test_the_news_of_a_plate_count_files_as_they_stand(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"ignore_channels": ["3"]}})
    watched.well("A01")
    watched.well("A02")
    watched.write(name("A01", 3), b"")
    watched.write(name("A02", 1), text(b""))
    watched.write(A01.replace(".tiff", ".tif"), picture(11))
    watched.run(50)
    expected = {"accepted": 3, "rejected": 1, "duplicate": 1, "ignored": 1, "wells": 2}
    assert dict(watched.news[P1].counts) == expected
    watched.write(name("A02", 1), picture(11))
    watched.run(50)
    assert dict(watched.news[P1].counts) == {**expected, "accepted": 4, "rejected": 0}


def test_what_a_channel_shows_of_its_depth_is_told(watched: Watched) -> None:
    for column in (1, 2):
        watched.well(f"A{column:02d}", seed=50 * column)
        bright = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) + np.uint16(60000 + column)
        watched.write(name(f"A{column:02d}", 2), encode_plane(bright))
    watched.run(40)
    depth = watched.news[P1].bit_depth
    assert (depth["DNA"].verdict.value, depth["ER"].verdict.value) == ("undecided", "consistent")
    assert "a dim sample and a 14-bit camera that never saturates look the same" in depth["DNA"].evidence


# ---- memory


@pytest.mark.parametrize("budget", [0, 24 * 32 * 2 * 2])
def test_with_too_little_memory_planes_are_read_again_and_all_is_done(tmp_path: Path, budget: int) -> None:
    watched = Watched(tmp_path, overrides={"watch": {"cache_bytes": budget}})
    for column in range(1, 9):
        watched.well(f"A{column:02d}", seed=100 * column)
    watched.run(10)
    assert len(watched.sites) == 8
    assert {watched.status(well) for well in watched.closed} == {WellStatus.COMPLETE}
    assert watched.metrics()["hcs_cache_bytes"] <= budget
    if not budget:
        assert watched.metrics()["hcs_cache_rereads_total"] == 16


def test_memory_is_for_what_will_be_analysed(watched: Watched) -> None:
    watched.write(A01, picture(11))
    for z in (2, 3, 4):
        watched.write(name("A01", 1, z=z), picture(z))
    watched.write(name("A02", 1), picture(5, 12, 16))
    watched.run(5)
    assert watched.outcomes() == {"accepted": 4, "rejected": 1}
    assert watched.metrics()["hcs_cache_bytes"] == 24 * 32 * 2


def test_nothing_is_begun_while_the_stages_after_have_no_room(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(10, room=False)
    assert watched.readers.done == 0
    watched.run(10)
    assert len(watched.sites) == 2


def evicted(tmp_path: Path, *, finite: bool = False) -> Watched:
    """A plate whose sites wait for room, so that their pixels must be read again."""
    watched = Watched(tmp_path, overrides={"watch": {"cache_bytes": 0}}, finite=finite)
    watched.well("A01")
    watched.well("A02")
    return watched


def hold_back(watched: Watched) -> None:
    """Have every plane read, and no site loaded: as if the device were busy."""
    watched.scanner.step(watched.clock.now)
    for _ in range(12):
        watched.clock.advance(0.5)
        watched.intake.step(watched.clock.now, room=watched.readers.done < 4)
    assert watched.readers.done == 4
    watched.clock.advance(0.5)


def test_an_evicted_plane_that_changed_unseen_is_a_new_revision_and_not_a_quiet_replacement(tmp_path: Path) -> None:
    watched = evicted(tmp_path)
    hold_back(watched)
    path = watched.path(A01)
    stamp = path.stat().st_mtime
    other = picture(77)[: path.stat().st_size].ljust(path.stat().st_size, b"\0")
    watched.write(A01, other, mtime=stamp)
    with capture_logs() as log:
        watched.run(30)
    assert "site.failed" in [line["event"] for line in log]
    assert watched.closed["A01"].ready == watched.sent_keys("A01")
    assert all(site.images[0].key != sha256(picture(11)) for site in watched.sites if site.id.well.stem == "A01")
    assert watched.unaccounted() == []


def test_an_evicted_plane_that_turned_bad_is_rejected(tmp_path: Path) -> None:
    watched = evicted(tmp_path)
    hold_back(watched)
    watched.write(A01, eight_bit(picture(11)))
    watched.run(40)
    assert watched.reasons == {A01: "wrong_container"}
    assert watched.status("A01") is WellStatus.REJECTED
    assert watched.status("A02") is WellStatus.COMPLETE


def test_an_evicted_plane_that_is_gone_is_missing(tmp_path: Path) -> None:
    watched = evicted(tmp_path)
    hold_back(watched)
    watched.path(A01).unlink()
    watched.run(1000)
    assert watched.closed["A01"].missing == (1,)
    assert watched.uses("A01") == {name("A01", 2): "incomplete_site"}
    assert watched.metrics()["hcs_planes_pending"] == 0


# ---- what publish asks for


def test_a_site_is_brought_once_more_to_be_explained_or_drawn(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    site = watched.sites[0]
    watched.intake.want(SiteWanted(site.id, site.key, "a", "b"))
    watched.intake.want(SiteWanted(site.id, site.key))
    watched.work()
    (task,), (answer,) = watched.tasks, watched.returned
    assert np.array_equal(task.site.pixels, site.pixels)
    assert answer.site is not None
    assert answer.site.key == site.key


def test_a_site_that_is_not_what_it_was_is_not_brought(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    site = watched.sites[0]
    watched.intake.want(SiteWanted(site.id, ("another", "key")))
    watched.work()
    (answer,) = watched.returned
    assert (answer.site, answer.problem) == (None, "its planes were replaced since")


def test_a_site_of_an_unseen_plate_is_not_brought(watched: Watched) -> None:
    other = Watched(watched.root.parent / "other")
    other.well("A01")
    other.well("A02")
    other.run(5)
    watched.intake.want(SiteWanted(other.sites[0].id, other.sites[0].key))
    watched.work()
    assert watched.returned[0].site is None


def test_a_site_wanted_before_the_index_is_read_again_is_answered(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=BY_INDEX)
    watched.write("Index.xml", index_xml({"A01": 2}).encode())
    watched.well("A01", sites=2)
    watched.run(15)
    second = Watched(tmp_path, overrides=BY_INDEX, restored=watched.left_behind(), clock=watched.clock)
    second.meet(A01)
    second.intake.want(SiteWanted(watched.sites[0].id, watched.sites[0].key))
    second.work()
    (answer,) = second.returned
    assert answer.problem is not None
    assert answer.problem.startswith("the pixel size is not known")


def test_after_it_was_told_to_stop_it_serves_and_reads_nothing_new(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    watched.intake.stop_reading()
    watched.well("A03")
    site = watched.sites[0]
    watched.intake.want(SiteWanted(site.id, site.key))
    watched.run(20)
    assert len(watched.returned) == 1
    assert "A03" not in watched.closed
    assert not watched.intake.serving


# ---- folders that are complete


def finite(tmp_path: Path, root: Path | None = None) -> Watched:
    return Watched(tmp_path, overrides=LEARNED, finite=True, root=root)


def test_in_a_complete_folder_what_is_not_there_is_missing_at_once(tmp_path: Path) -> None:
    watched = finite(tmp_path)
    watched.well("A01", sites=2)
    watched.well("A02", sites=1)
    watched.write(A01.replace("c01", "c03"), truncated(picture(1)))
    watched.process()
    assert watched.status("A01") is WellStatus.COMPLETE
    assert (watched.closed["A02"].missing, watched.closed["A02"].expected_sites) == ((2,), 2)
    assert watched.closed["A03"].missing == (1, 2)
    assert watched.reasons == {name("A03"): "truncated"}
    assert set(watched.revisions.values()) == {1}
    assert watched.news[P1].state is PlateState.FINISHED
    assert watched.unaccounted() == []


def test_a_single_well_of_one_site_is_complete_with_all_its_channels(tmp_path: Path) -> None:
    watched = finite(tmp_path)
    watched.well("A01")
    watched.process()
    assert watched.status("A01") is WellStatus.COMPLETE


def test_in_a_complete_folder_the_index_is_read_before_a_well_is_closed(tmp_path: Path) -> None:
    watched = finite(tmp_path)
    watched.well("A01")
    watched.write("Index.xml", index_xml({"A01": 2}).encode())
    watched.process()
    assert watched.closed["A01"].missing == (2,)
    assert watched.revisions["A01"] == 1


def test_in_a_complete_folder_an_index_that_is_read_last_is_waited_for(tmp_path: Path) -> None:
    readers = HeldExecutor()
    watched = Watched(tmp_path, overrides=LEARNED, finite=True, readers=readers)
    watched.well("A01")
    watched.well("A02")
    watched.write("Index.xml", index_xml({"A01": 2, "A02": 1}).encode())
    watched.intake.report(scan_once(watched.root), watched.clock.now)
    watched.work()
    while len(readers):
        readers.work(-1)
        watched.work()
    assert watched.revisions == {"A01": 1, "A02": 1}
    assert watched.closed["A01"].missing == (2,)


def test_a_stray_picture_of_another_instruments_name_is_refused_and_the_plate_is_not(tmp_path: Path) -> None:
    watched = finite(tmp_path)
    stray = watched.write("overview_A01.tif", picture(1))
    for column in range(1, 6):
        watched.well(f"A{column:02d}")
    found = sorted(scan_once(watched.root).sightings, key=lambda sighting: sighting.path != stray)
    watched.intake.report(ScanReport(tuple(found), finished=True), watched.clock.now)
    while not watched.intake.idle:
        watched.work()
    assert watched.reasons == {"overview_A01.tif": "unknown_name"}
    assert {watched.status(f"A{column:02d}") for column in range(1, 6)} == {WellStatus.COMPLETE}


def test_planes_of_two_instruments_in_one_folder_are_all_refused(tmp_path: Path) -> None:
    watched = finite(tmp_path)
    watched.well("A01")
    for number in range(1, 3):
        watched.write(f"P_A01_s1_w{number}.tif", picture(number))
    watched.process()
    assert set(watched.reasons.values()) == {"unknown_name"}
    assert len(watched.reasons) == 4
    assert watched.closed == {}


def test_an_empty_folder_is_done_at_once(tmp_path: Path) -> None:
    watched = finite(tmp_path)
    watched.process()
    assert watched.closed == {}


@pytest.mark.parametrize(
    ("root", "images", "plate"),
    [
        ("tree", "batch/P1__M1/Images", P1),
        ("tree", "a/b/c/P1/Images", AcquisitionId("P1", "a_b_c")),
        ("P1__M1", "Images", P1),
        ("P1", "Images", AcquisitionId("P1", "1")),
        ("P1__M1/Images", ".", P1),
        ("opera-phenix-6ch", "Images", AcquisitionId("opera-phenix-6ch", "1")),
    ],
)
def test_a_plate_is_found_at_any_depth_and_named_by_its_folder(
    tmp_path: Path, root: str, images: str, plate: AcquisitionId
) -> None:
    watched = finite(tmp_path, root=tmp_path / root)
    for channel in (1, 2):
        watched.write(f"{images}/{A01}", picture(11))
        watched.write(f"{images}/{name('A01', channel)}", picture(channel))
    watched.process()
    assert watched.intake.acquisitions == (plate,)
    assert watched.status("A01") is WellStatus.COMPLETE


def test_several_plates_of_a_tree_are_kept_apart(tmp_path: Path) -> None:
    watched = finite(tmp_path)
    for plate in ("P1__M1", "P1__M2", "P2__M1"):
        for channel in (1, 2):
            watched.write(f"{plate}/Images/{name('A01', channel)}", picture(channel))
    watched.process()
    assert set(watched.news) == {P1, AcquisitionId("P1", "M2"), AcquisitionId("P2", "M1")}
    assert watched.said == []


def test_a_complete_folder_comes_to_an_end_though_files_vanish(tmp_path: Path) -> None:
    watched = evicted(tmp_path, finite=True)
    watched.well("A03")
    gone = watched.path(name("A03", 2))
    watched.intake.report(scan_once(watched.root), watched.clock.now)
    gone.unlink()
    for _ in range(1000):
        watched.work()
        if watched.intake.idle:
            break
    assert watched.intake.idle
    assert watched.closed["A03"].missing == (1,)


def test_a_well_whose_every_file_vanished_is_no_well(tmp_path: Path) -> None:
    watched = finite(tmp_path)
    watched.well("A01")
    watched.well("A02")
    watched.intake.report(scan_once(watched.root), watched.clock.now)
    for channel in (1, 2):
        watched.path(name("A02", channel)).unlink()
    for _ in range(100):
        watched.work()
    assert watched.intake.idle
    assert set(watched.closed) == {"A01"}


def test_in_a_complete_folder_an_evicted_plane_that_changed_is_judged_anew(tmp_path: Path) -> None:
    watched = evicted(tmp_path, finite=True)
    watched.intake.report(scan_once(watched.root), watched.clock.now)
    while watched.readers.done < 4:
        watched.intake.step(watched.clock.now, room=True)
    watched.write(A01, picture(77))
    watched.path(name("A02")).unlink()
    for _ in range(1000):
        watched.work()
        if watched.intake.idle:
            break
    assert watched.intake.idle
    assert watched.closed["A01"].ready == watched.sent_keys("A01") == {1: (sha256(picture(77)), sha256(picture(12)))}
    assert watched.closed["A02"].missing == (1,)


def test_the_real_plate_without_an_index_is_one_complete_well(tmp_path: Path, shared_data: Path) -> None:
    channels = {"DNA": "5", "ER": "2", "RNA": "6", "AGP": "3", "Mito": "4"}
    watched = Watched(
        tmp_path,
        overrides={
            "expect": {"channels": channels, "ignore_channels": ["1"], "pixel_size_um": 0.598, "sites_per_well": 0}
        },
        finite=True,
        root=shared_data / "opera-phenix-6ch",
    )
    watched.process()
    closed = watched.closed["C03"]
    assert closed.well.acquisition == AcquisitionId("opera-phenix-6ch", "1")
    assert list(closed.ready) == [3]
    measured = {use.plane.channel: use.plane.measures for use in closed.inputs}
    dna = measured["DNA"]
    assert (dna.minimum, dna.maximum, dna.observed_bits) == (174, 28340, 15)
    assert len(measured) == 5
    assert watched.outcomes() == {"accepted": 5, "ignored": 1}


def test_the_real_index_says_sites_and_pixel_size_of_its_well(tmp_path: Path, shared_data: Path) -> None:
    expect = {"channels": {"DNA": "1"}, "pixel_size_um": 0.0, "sites_per_well": 0}
    watched = Watched(tmp_path, overrides={"expect": expect}, finite=True, root=shared_data / "operetta-index")
    watched.process()
    (closed,) = watched.closed.values()
    assert {site.pixel_size_um for site in watched.sites} == {1.195952}
    assert sorted(closed.ready) == [1, 2]
    news = next(iter(watched.news.values()))
    assert news.instrument_plate_id == "Test_Sample_BALL"


def test_real_files_of_another_vendor_are_read_by_the_users_own_expression(tmp_path: Path, shared_data: Path) -> None:
    pattern = r"(?P<plate>.+)_(?P<well>[A-Z]\d\d)_s(?P<site>\d)_w(?P<channel>\d)[0-9A-F-]+\.tif"
    expect = {"channels": {"DNA": "w1", "ER": "w2", "RNA": "w3"}, "pixel_size_um": 1.3, "sites_per_well": 0}
    watched = Watched(
        tmp_path,
        overrides={"watch": {"instrument": "pattern", "pattern": pattern}, "expect": expect},
        finite=True,
        root=shared_data / "imagexpress-timelapse",
    )
    watched.process()
    plate = "1well-3C-2S-Zmix-T"
    assert set(watched.intake.acquisitions) == {
        AcquisitionId(plate, f"2024-04-22_1697_TimePoint_{time}") for time in (1, 2)
    }
    assert watched.said == []
    assert sorted(watched.closed["C07"].ready) == [1, 2]
    assert len(watched.sites) == 4


# ---- the first start, and the next


def days(number: float) -> float:
    return Clock().utc().timestamp() - number * 86400


def first_start(tmp_path: Path) -> Watched:
    return Watched(tmp_path, restored=Restored(first_start=True))


def test_at_the_first_start_plates_untouched_for_long_are_left_alone_with_one_line(tmp_path: Path) -> None:
    watched = first_start(tmp_path)
    for well in ("A01", "A02"):
        for channel in (1, 2):
            watched.write(f"OLD__1/Images/{name(well, channel)}", picture(channel), mtime=days(3))
            watched.write(name(well, channel), picture(channel))
    with capture_logs() as log:
        watched.run(20)
    assert [line["folder"] for line in log if line["event"] == "plate.left_alone"] == ["OLD__1"]
    assert watched.intake.acquisitions == (P1,)
    assert len(watched.sites) == 2


def test_a_plate_that_was_left_alone_is_taken_as_a_whole_when_something_comes_to_it(tmp_path: Path) -> None:
    watched = first_start(tmp_path)
    for well in ("A01", "A02"):
        for channel in (1, 2):
            watched.write(name(well, channel), picture(channel), mtime=days(3))
    watched.run(20)
    assert not watched.closed
    watched.well("A03")
    watched.run(10)
    assert set(watched.closed) == {"A01", "A02", "A03"}


def test_a_plate_whose_files_say_no_time_is_taken(tmp_path: Path) -> None:
    watched = first_start(tmp_path)
    for well in ("A01", "A02"):
        for channel in (1, 2):
            watched.write(name(well, channel), picture(channel), mtime=0)
    watched.run(10)
    assert set(watched.closed) == {"A01", "A02"}


def test_what_was_left_alone_at_the_first_start_is_left_alone_at_the_next(tmp_path: Path) -> None:
    clock = Clock()
    for plate, age in (("OLD__1", 3), ("KNOWN__1", 3), ("SINCE__1", -0.5)):
        maker = Watched(tmp_path, clock=clock)
        for well in ("A01", "A02"):
            for channel in (1, 2):
                maker.write(f"{plate}/Images/{name(well, channel)}", picture(channel), mtime=days(age))
    known = RestoredPlate(AcquisitionId("KNOWN", "1"), PlateState.ACQUIRING, (24, 32), outdated=False)
    started = clock.utc()
    clock.advance(5 * 86400)
    second = Watched(tmp_path, clock=clock, restored=Restored((known,), first_start=False, first_started_at=started))
    second.run(20)
    assert {acquisition.plate for acquisition in second.intake.acquisitions} == {"KNOWN", "SINCE"}


def test_where_nothing_says_when_it_first_started_there_is_no_backlog(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    for well in ("A01", "A02"):
        for channel in (1, 2):
            watched.write(name(well, channel), picture(channel), mtime=days(3))
    watched.run(10)
    assert set(watched.closed) == {"A01", "A02"}


def again(watched: Watched, *, outdated: bool = False, state: PlateState = PlateState.ACQUIRING) -> Watched:
    """The next start over the same folder."""
    restored = watched.left_behind(outdated=outdated, state=state)
    return Watched(watched.root.parent, restored=restored, clock=watched.clock)


def test_a_restart_does_nothing_twice(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.write(name("A02"), eight_bit(picture(11)))
    watched.write("other.tiff", picture(1))
    watched.write(A01.replace(".tiff", ".tif"), picture(11))
    watched.run(60)
    second = again(watched)
    second.run(60)
    assert second.readers.done == 0
    assert second.said == []
    assert second.sites == []
    assert [closed.inputs for closed in second.closed.values()] == [watched.closed["A02"].inputs]
    assert dict(second.news[P1].counts) == dict(watched.news[P1].counts)


def test_a_restart_does_not_forget_what_was_not_done(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.write(name("A03", 1), picture(31))
    watched.run(5)
    second = again(watched)
    second.write(name("A03", 2), picture(32))
    second.well("A04")
    second.run(10)
    assert {well: second.status(well) for well in second.closed} == dict.fromkeys(("A03", "A04"), WellStatus.COMPLETE)


def test_a_partial_well_of_an_earlier_run_is_completed_by_what_came_since(watched: Watched) -> None:
    watched.well("A02")
    watched.well("A03")
    watched.write(A01, picture(11))
    watched.run(950)
    second = again(watched)
    second.write(name("A01", 2), picture(12))
    second.run(10)
    assert second.status("A01") is WellStatus.COMPLETE
    assert second.sent_keys("A01") == {1: (sha256(picture(11)), sha256(picture(12)))}


def test_a_file_rewritten_while_nothing_ran_is_done_again(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    watched.write(A01, picture(77))
    second = again(watched)
    second.run(20)
    assert set(second.closed) == {"A01"}
    assert second.closed["A01"].ready == second.sent_keys("A01") == {1: (sha256(picture(77)), sha256(picture(12)))}
    assert second.news[P1].counts["accepted"] == 4


def test_a_rejected_file_mended_while_nothing_ran_is_taken_back(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.write(A01, eight_bit(picture(11)))
    watched.run(5)
    watched.write(A01, picture(11))
    second = again(watched)
    second.run(40)
    (said,) = second.said
    assert said.withdrawn
    assert second.status("A01") is WellStatus.COMPLETE
    assert second.news[P1].counts["rejected"] == 0


def test_a_line_written_before_a_crash_kept_the_well_from_being_revised_still_counts(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    before = watched.closed["A01"]
    watched.write(A01, eight_bit(picture(11)))
    watched.run(20)
    watched.closed["A01"] = before  # the crash came between the two
    second = again(watched)
    second.run(20)
    assert second.status("A01") is WellStatus.REJECTED
    assert second.uses("A01") == {name("A01", 2): "incomplete_site"}
    assert second.said == []


def test_a_copy_whose_original_turned_bad_while_nothing_ran_counts(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    copy = A01.replace(".tiff", ".tif")
    watched.write(copy, picture(11))
    watched.run(10)
    watched.write(A01, eight_bit(picture(11)))
    second = again(watched)
    second.run(40)
    assert second.reasons == {A01: "wrong_container"}
    assert second.uses("A01") == {copy: "analysed", name("A01", 2): "analysed"}


def test_a_copy_met_after_its_original_turned_bad_counts(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    copy = A01.replace(".tiff", ".tif")
    watched.write(copy, picture(11))
    watched.run(10)
    watched.write(A01, eight_bit(picture(11)))
    second = again(watched)
    second.meet(A01)
    second.run(40)
    assert second.reasons == {A01: "wrong_container"}
    assert second.uses("A01") == {copy: "analysed", name("A01", 2): "analysed"}


def test_a_copy_whose_original_was_refused_just_before_a_crash_counts(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    before = watched.closed["A01"]
    copy = A01.replace(".tiff", ".tif")
    watched.write(copy, picture(11))
    watched.run(10)
    watched.write(A01, eight_bit(picture(11)))
    watched.run(40)
    watched.said, watched.closed["A01"] = watched.said[:2], before  # the crash came here
    assert watched.reasons == {A01: "wrong_container", copy: "duplicate_plane"}
    second = again(watched)
    second.run(40)
    assert [(Path(line.path).name, line.withdrawn) for line in second.said] == [(copy, True)]
    assert second.uses("A01") == {copy: "analysed", name("A01", 2): "analysed"}


def test_a_plane_of_an_earlier_run_that_changed_unseen_is_judged_anew(watched: Watched) -> None:
    watched.well("A02")
    watched.well("A03")
    path = watched.write(A01, picture(11))
    watched.run(950)
    stamp, size = path.stat().st_mtime, path.stat().st_size
    changed = next(picture(seed) for seed in range(100, 200) if len(picture(seed)) == size)
    watched.write(A01, changed, mtime=stamp)
    second = again(watched)
    second.write(name("A01", 2), picture(12))
    second.meet(name("A01", 2))
    assert second.sites == []
    second.run(30)
    assert second.closed["A01"].ready == second.sent_keys("A01") == {1: (sha256(changed), sha256(picture(12)))}


def test_what_was_learned_of_sites_is_known_at_the_next_start(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=LEARNED)
    watched.well("A01", sites=2)
    watched.run(950)
    second = Watched(tmp_path, overrides=LEARNED, restored=watched.left_behind(), clock=watched.clock)
    second.well("A02", sites=2)
    second.run(10)
    assert second.status("A02") is WellStatus.COMPLETE


def test_an_index_that_grew_while_nothing_ran_revises_a_complete_well(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=BY_INDEX)
    watched.write("Index.xml", index_xml({"A01": 1, "A02": 1}).encode())
    watched.well("A01")
    watched.well("A02")
    watched.run(20)
    watched.write("Index.xml", index_xml({"A01": 2, "A02": 1}).encode())
    second = Watched(tmp_path, overrides=BY_INDEX, restored=watched.left_behind(), clock=watched.clock)
    second.run(950)
    assert set(second.closed) == {"A01"}
    assert second.closed["A01"].missing == (2,)


def test_wells_of_an_earlier_run_count_when_a_plate_is_finished(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=BY_INDEX)
    watched.write("Index.xml", index_xml({"A01": 1, "A02": 1}).encode())
    watched.well("A01")
    watched.write(name("A02"), eight_bit(picture(21)))
    watched.write(name("A02", 2), picture(22))
    watched.run(20)
    second = Watched(tmp_path, overrides=BY_INDEX, restored=watched.left_behind(), clock=watched.clock)
    second.write(name("A02"), picture(21))
    second.run(60)
    assert second.news[P1].state is PlateState.FINISHED
    assert set(second.closed) == {"A02"}


@pytest.mark.skipif(os.name == "nt", reason="Windows needs a right to make links")
def test_what_could_not_be_opened_is_tried_at_the_next_start(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    path = watched.path(A01)
    path.unlink()
    path.symlink_to(path)
    watched.run(60)
    assert watched.reasons == {A01: "unreadable"}
    second = again(watched)
    second.run(60)
    assert second.readers.done > 0
    assert second.said == []


def test_under_other_settings_an_unfinished_plate_is_done_again_as_a_whole(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.write(name("A02"), eight_bit(picture(11)))
    watched.run(20)
    second = again(watched, outdated=True)
    with capture_logs() as log:
        second.run(40)
    assert "plate.redone" in [line["event"] for line in log]
    assert set(second.closed) == {"A01", "A02"}
    assert len(second.sites) == 1
    assert second.said == [], "the line of a file that is refused again stands"
    assert second.news[P1].counts["rejected"] == 1


def test_under_other_settings_a_finished_plate_is_left_until_something_comes_to_it(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(20)
    second = again(watched, outdated=True, state=PlateState.FINISHED)
    second.run(20)
    assert second.closed == {}
    assert second.readers.done == 0
    second.well("A03")
    second.run(20)
    assert set(second.closed) == {"A01", "A02", "A03"}
    assert len(second.sites) == 3


def test_a_finished_plate_that_is_asked_for_is_done_again_under_other_settings(watched: Watched) -> None:
    watched.well("A01")
    watched.well("A02")
    watched.run(20)
    restored = watched.left_behind(outdated=True, state=PlateState.FINISHED)
    second = Watched(watched.root.parent, restored=restored, clock=watched.clock, finite=True)
    second.run(20)
    assert set(second.closed) == {"A01", "A02"}
    assert len(second.sites) == 2


def test_a_line_of_a_channel_that_is_ignored_now_is_taken_back(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.well("A01")
    watched.well("A02")
    watched.write(name("A01", 3), picture(3))
    watched.run(10)
    assert watched.reasons == {name("A01", 3): "unknown_channel"}
    second = Watched(
        tmp_path,
        overrides={"expect": {"ignore_channels": ["3"]}},
        restored=watched.left_behind(outdated=True),
        clock=watched.clock,
    )
    second.run(10)
    (said,) = second.said
    assert said.withdrawn
    assert said.hint == "the settings ignore its channel now"


# ---- any order, any interleaving

FILES = {
    name("A01", 1): [picture(11), picture(77), truncated(picture(11))],
    name("A01", 2): [picture(12), eight_bit(picture(12))],
    A01.replace(".tiff", ".tif"): [picture(13), picture(11)],
    name("A02", 1): [picture(21)],
    name("A02", 2): [picture(22), text(b"")],
    name("A03", 1): [picture(31)],
    name("A03", 2): [picture(32)],
    name("A03", 2, z=2): [picture(33)],
    name("A03", 9): [picture(34)],
}
"""File -> what it may hold."""
EVENTS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(sorted(FILES)), st.integers(0, 2)),
    st.tuples(st.just("delete"), st.sampled_from(sorted(FILES)), st.just(0)),
    st.tuples(st.sampled_from(["wait", "full", "away"]), st.just(""), st.integers(1, 40)),
    st.tuples(st.just("restart"), st.just(""), st.just(0)),
)


def happen(watched: Watched, what: str, file: str, number: int) -> Watched:
    """One event: a file written or deleted, ticks, ticks without room, a share that is away, a restart."""
    match what:
        case "write":
            watched.write(file, FILES[file][number % len(FILES[file])])
            watched.clock.advance(0.5)
        case "delete":
            watched.path(file).unlink(missing_ok=True)
        case "wait":
            watched.run(number)
        case "full":
            watched.run(number, room=False)
        case "away":
            away = watched.root.with_name("away")
            watched.root.rename(away)
            watched.run(number)
            away.rename(watched.root)
        case "restart":
            return watched.restarted()
    return watched


def outcome(watched: Watched) -> object:
    """What a plate came to, times aside."""
    wells = {
        well: (
            dict(closed.ready),
            closed.missing,
            closed.rejected,
            closed.pending,
            {(Path(use.plane.source.path).name, use.plane.source.sha256, use.used) for use in closed.inputs},
        )
        for well, closed in watched.closed.items()
    }
    return wells, watched.reasons


def wait_out(watched: Watched) -> None:
    """Until nothing more can happen."""
    watched.run(60)
    watched.run(2000, tick_s=10)


@given(
    events=st.lists(EVENTS, max_size=25),
    last=st.permutations(sorted(FILES)),
    cache_bytes=st.sampled_from([0, 24 * 32 * 2 * 3, 1 << 30]),
    sites_per_well=st.sampled_from([0, 1]),
)
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happened_the_files_that_are_there_in_the_end_decide(
    events: list[tuple[str, str, int]], last: list[str], cache_bytes: int, sites_per_well: int
) -> None:
    expect = {"expect": {"sites_per_well": sites_per_well}}
    with tempfile.TemporaryDirectory() as folder, capture_logs():
        watched = Watched(Path(folder) / "any", overrides={"watch": {"cache_bytes": cache_bytes}, **expect})
        for event in events:
            watched = happen(watched, *event)
        later = watched.clock.utc().timestamp() + 100
        for place, file in enumerate(last):
            watched.write(file, FILES[file][0], mtime=later + sorted(FILES).index(file))
            if place % 3 == 0:
                watched.run(3)
        wait_out(watched)
        assert watched.unaccounted() == []
        assert watched.metrics()["hcs_planes_pending"] == 0
        for well, closed in watched.closed.items():
            assert closed.ready.items() <= watched.sent_keys(well).items()
        plain = Watched(Path(folder) / "plain", overrides=expect)
        for file in FILES:
            plain.write(file, FILES[file][0], mtime=later + sorted(FILES).index(file))
        wait_out(plain)
        assert outcome(watched) == outcome(plain)
