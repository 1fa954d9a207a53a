"""Pixels that stand at two places of a plate: under two channel names refused, under one name told."""

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hcs_daemon.intake.lookalikes import Lookalikes, is_telling
from hcs_daemon.intake.validation import Expected, examine
from hcs_daemon.records import PlaneMeasures
from hcs_daemon.tiff import encode_plane
from hostile_tiffs import plane
from watched_plates import P1, Watched, name, picture

DNA, ER = name("B03", 1), name("B03", 2)
TWO = "duplicate_channel"


def as_another_file(seed: int, label: str = "another") -> bytes:
    """The pixels of `picture(seed)` in a file of other bytes."""
    data = encode_plane(plane(24, 32, seed=seed), software=label)
    assert data != picture(seed)
    return data


def begun(folder: Path, **given: Any) -> Watched:
    """A plate with one well that is whole."""
    watched = Watched(folder, **given)
    watched.well("B02", seed=50)
    return watched


def spoilt(folder: Path) -> Watched:
    """A plate of two wells; B03's ER has the pixels of its DNA."""
    watched = begun(folder)
    watched.write(DNA, picture(1))
    watched.write(ER, as_another_file(1))
    return watched


def test_the_same_pixels_under_two_channel_names_are_refused_both_and_name_each_other(tmp_path: Path) -> None:
    watched = spoilt(tmp_path)
    watched.run(30)
    assert watched.reasons == {DNA: TWO, ER: TWO}
    assert ER in watched.standing[DNA].detail
    assert "(ER, B03 site 1)" in watched.standing[DNA].detail
    assert DNA in watched.standing[ER].detail
    assert watched.status("B03") == "rejected"
    assert watched.status("B02") == "complete"
    assert not watched.unaccounted()


@pytest.mark.parametrize("order", [*permutations([DNA, ER, name("B02", 2), name("B02", 1)])][::5])
def test_the_order_in_which_they_come_does_not_matter(tmp_path: Path, order: Sequence[str]) -> None:
    data = {DNA: picture(1), ER: as_another_file(1), name("B02", 1): picture(2), name("B02", 2): picture(3)}
    watched = Watched(tmp_path)
    for file in order:
        watched.write(file, data[file])
        watched.run(10)
    watched.run(30)
    assert watched.reasons == {DNA: TWO, ER: TWO}
    assert watched.status("B02") == "complete"
    assert watched.status("B03") == "rejected"


def test_a_published_well_is_revised_when_another_well_brings_its_pixels_under_another_name(tmp_path: Path) -> None:
    watched = begun(tmp_path)
    watched.well("B03")
    watched.run(30)
    assert watched.status("B03") == "complete"
    watched.write(name("B04", 1), picture(70))
    watched.write(name("B04", 2), as_another_file(11))  # B03's DNA
    watched.run(30)
    assert watched.reasons == {DNA: TWO, name("B04", 2): TWO}
    assert watched.status("B03") == "rejected"
    assert watched.revisions["B03"] == 2


def test_when_the_wrong_one_is_written_again_the_right_one_counts(tmp_path: Path) -> None:
    watched = spoilt(tmp_path)
    watched.run(30)
    watched.write(ER, picture(2))
    watched.run(30)
    assert watched.reasons == {}
    assert watched.status("B03") == "complete"
    assert not watched.unaccounted()


def test_when_the_copy_is_removed_the_right_one_counts_once_it_is_written_again(tmp_path: Path) -> None:
    watched = spoilt(tmp_path)
    watched.run(30)
    watched.path(ER).unlink()
    watched.write(DNA, picture(1))
    watched.run(60)
    assert DNA not in watched.reasons
    watched.write(ER, picture(2))
    watched.run(30)
    assert watched.reasons == {}
    assert watched.status("B03") == "complete"


def test_a_file_renamed_to_its_right_channel_is_no_pair(tmp_path: Path) -> None:
    watched = begun(tmp_path)
    watched.write(DNA, picture(1))
    watched.run(30)
    watched.path(DNA).rename(watched.path(ER))
    watched.run(60)
    watched.write(DNA, picture(2))
    watched.run(60)
    assert watched.reasons == {}
    assert watched.status("B03") == "complete"


def test_a_file_renamed_while_nothing_ran_is_no_pair(tmp_path: Path) -> None:
    watched = begun(tmp_path)
    watched.well("B03")
    watched.run(30)
    watched.path(ER).rename(tmp_path / "aside")
    watched.path(DNA).rename(watched.path(ER))
    second = watched.restarted()
    second.run(60)
    assert ER not in second.reasons
    (tmp_path / "aside").rename(second.path(DNA))
    second.run(60)
    assert second.reasons == {}
    assert second.status("B03") == "complete"


def test_a_restart_says_nothing_new_and_takes_what_was_put_right(tmp_path: Path) -> None:
    watched = spoilt(tmp_path)
    watched.run(30)
    said = len(watched.said)
    second = watched.restarted()
    second.run(30)
    assert len(second.said) == said
    assert second.reasons == {DNA: TWO, ER: TWO}
    second.write(ER, picture(2))
    second.run(30)
    assert second.reasons == {}
    assert second.status("B03") == "complete"


def test_a_copy_that_comes_after_a_restart_is_seen(tmp_path: Path) -> None:
    watched = begun(tmp_path)
    watched.well("B03")
    watched.run(30)
    second = watched.restarted()
    second.well("B04", seed=70)
    second.write(name("B04", 2), as_another_file(11))
    second.run(40)
    assert second.reasons == {DNA: TWO, name("B04", 2): TWO}
    assert second.status("B03") == "rejected"


def test_one_side_put_right_while_nothing_ran(tmp_path: Path) -> None:
    watched = spoilt(tmp_path)
    watched.run(30)
    watched.write(ER, picture(2))
    second = watched.restarted()
    second.run(40)
    assert second.reasons == {}
    assert second.status("B03") == "complete"


def test_a_copy_that_was_removed_while_nothing_ran(tmp_path: Path) -> None:
    watched = spoilt(tmp_path)
    watched.run(30)
    watched.path(ER).unlink()
    second = watched.restarted()
    second.run(40)
    assert DNA not in second.reasons
    second.write(ER, picture(2))
    second.run(40)
    assert second.reasons == {}
    assert second.status("B03") == "complete"


def test_a_folder_that_is_complete_is_judged_alike(tmp_path: Path) -> None:
    watched = spoilt(tmp_path)
    finite = Watched(tmp_path, finite=True, clock=watched.clock)
    finite.process()
    assert finite.reasons == {DNA: TWO, ER: TWO}


def test_a_copied_site_is_analysed_and_told(tmp_path: Path) -> None:
    watched = begun(tmp_path)
    watched.run(20)
    watched.well("B03", seed=50)
    watched.run(40)
    assert watched.reasons == {}
    assert watched.status("B03") == "complete"
    told = [words for words in watched.closed["B03"].warnings if "same pixels" in words]
    assert told == [
        f"{channel}: the same pixels at B02 site 1, B03 site 1; all but one are copies" for channel in ("DNA", "ER")
    ]
    assert told == [words for words in watched.news[P1].warnings if "same pixels" in words]


def test_the_same_plane_again_at_its_own_address_is_told_as_no_copy_of_another(tmp_path: Path) -> None:
    watched = begun(tmp_path)
    watched.well("B03")
    watched.write(f"P1__M1/Images/again/{DNA}", as_another_file(11))
    watched.run(30)
    assert watched.status("B03") == "complete"
    assert not [words for words in watched.news[P1].warnings if "same pixels" in words]


def test_a_step_that_repeats_another_is_told(tmp_path: Path) -> None:
    watched = begun(tmp_path, overrides={"expect": {"projection": "max"}})
    for channel in (1, 2):
        watched.write(name("B03", channel, z=1), picture(channel))
        watched.write(name("B03", channel, z=2), as_another_file(channel))
    watched.run(40)
    assert watched.reasons == {}
    assert "DNA: the same pixels at B03 site 1 z 1, B03 site 1 z 2; all but one are copies" in (
        watched.closed["B03"].warnings
    )


def measured(pixels: np.ndarray) -> PlaneMeasures:
    """As a plane that was read, with a digest."""
    found = examine(pixels, Expected())
    assert isinstance(found, PlaneMeasures)
    return replace(found, pixel_digest="0" * 64)


def test_black_but_for_a_few_hot_pixels_is_like_another_by_chance() -> None:
    pixels = np.zeros((64, 64), np.uint16)
    pixels[3, 7], pixels[40, 9] = 17, 31
    assert not is_telling(measured(pixels))
    assert is_telling(measured(plane()))


def test_what_was_never_noted_is_dropped_without_a_word() -> None:
    assert Lookalikes().drop("anything") == ()


def test_touching_a_refused_file_reads_its_pair_again_and_settles(tmp_path: Path) -> None:
    watched = spoilt(tmp_path)
    watched.run(30)
    said = len(watched.said)
    os.utime(watched.path(DNA), ns=(10**18, 10**18))
    watched.run(30)
    assert watched.reasons == {DNA: TWO, ER: TWO}
    assert len(watched.said) == said
    assert watched.intake.pending == 0
