"""Wells and plates as they fill."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.config import Expect
from hcs_daemon.instruments.manifest import ImageKey, Manifest
from hcs_daemon.intake.assembly import Census, PlateBook, WellBook, key_of, restore_rejection, restore_well, site_key
from hcs_daemon.intake.expectation import Expectation
from hcs_daemon.plate import AcquisitionId, PlaneId, SiteId, WellId, WellPosition
from hcs_daemon.records import (
    InputUse,
    PlaneMeasures,
    PlaneRecord,
    Rejection,
    RestoredWell,
    SourceFile,
)
from hcs_daemon.vocabulary import Reason, Used, WellStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)
A01 = WellId(AcquisitionId("P", "1"), WellPosition(1, 1))
A02 = WellId(AcquisitionId("P", "1"), WellPosition(1, 2))
CHANNELS = ("DNA", "ER")


def record(
    path: str, channel: str = "DNA", site: int = 1, *, z: int = 1, mtime: int = 0, sha256: str = "", bits: int = 12
) -> PlaneRecord:
    return PlaneRecord(
        id=PlaneId(SiteId(A01, site), channel, z),
        channel=channel,
        source=SourceFile(path, 10, mtime, sha256 or f"sha of {path}"),
        shape=(8, 8),
        container="uint16",
        measures=PlaneMeasures(0, 1, bits, 0.0, 0.0),
        seen_at=NOW,
    )


def filled(plate: PlateBook, *records: PlaneRecord) -> WellBook:
    book = plate.well(A01)
    for each in records:
        plate.expectation.name_plane(book.when, each.id.site.site, each.channel, each.id.z)
        book.place(each)
    return book


def plate_of(**expect: Any) -> PlateBook:
    """A plate of two channels, its pixel size known."""
    given = {"bit_depth": 16, "channels": {"DNA": "1", "ER": "2"}, "pixel_size_um": 0.6, **expect}
    return PlateBook(A01.acquisition, "P", Expectation(Expect(**given), CHANNELS))


def counted(plate: PlateBook, book: WellBook, *, final: bool = False) -> Census:
    return plate.census(book, final=final)


def uses_of(plate: PlateBook, book: WellBook) -> dict[str, str]:
    """Path -> what became of it."""
    complete = counted(plate, book).complete
    return {use.plane.source.path: use.used.value for use in book.inputs(complete, plate)}


@pytest.fixture
def plate() -> PlateBook:
    return plate_of()


# ---- one address


def test_a_site_is_complete_with_every_channel_in_the_order_asked_for(plate: PlateBook) -> None:
    book = filled(plate, record("e", "ER"))
    assert plate.site_images(book, 1) is None
    book.place(record("d", "DNA"))
    images = plate.site_images(book, 1)
    assert images is not None
    assert site_key(images) == ("sha of d", "sha of e")


def test_equal_bytes_at_the_same_address_make_the_second_a_duplicate_of_the_first(plate: PlateBook) -> None:
    book = plate.well(A01)
    assert book.place(record("a", sha256="x")) is None
    assert book.place(record("b", sha256="x", mtime=9)) == "a"
    assert book.inputs({}, plate) == (InputUse(record("a", sha256="x"), Used.INCOMPLETE_SITE),)


def test_equal_bytes_at_another_address_are_no_duplicate() -> None:
    book = WellBook(A01)
    assert book.place(record("a", sha256="x")) is None
    assert book.place(record("b", channel="ER", sha256="x")) is None


def test_a_copy_is_an_orphan_when_no_file_at_its_address_has_its_bytes() -> None:
    book = WellBook(A01)
    book.place(record("a", sha256="x"))
    book.place(record("b", sha256="x"))
    assert book.orphans() == []
    book.place(record("a", sha256="y"))
    assert book.orphans() == ["b"]
    assert book.orphans() == []


def test_a_superseded_original_still_has_its_copies() -> None:
    book = WellBook(A01)
    book.place(record("a", sha256="x", mtime=1))
    book.place(record("b", sha256="x", mtime=2))
    book.place(record("c", sha256="y", mtime=3))
    assert book.orphans() == []


def test_a_file_that_becomes_a_copy_gives_up_what_it_was(plate: PlateBook) -> None:
    book = plate.well(A01)
    book.place(record("a", sha256="x", mtime=1))
    book.place(record("b", sha256="y", mtime=2))
    assert book.place(record("b", sha256="x", mtime=3)) == "a"
    assert [*uses_of(plate, book)] == ["a"]


@given(st.permutations([record("a", mtime=1), record("b", mtime=3), record("c", mtime=2), record("d", mtime=3)]))
def test_the_latest_file_counts_whatever_order_they_came_in(order: list[PlaneRecord]) -> None:
    plate = plate_of(sites_per_well=1)
    book = filled(plate, record("e", "ER"))
    for each in order:
        assert book.place(each) is None
    uses = uses_of(plate, book)
    assert uses == {"d": "analysed", "a": "superseded", "b": "superseded", "c": "superseded", "e": "analysed"}


def test_when_the_latest_is_removed_the_one_before_counts_again() -> None:
    book = WellBook(A01)
    for each in (record("a", mtime=1), record("b", mtime=2), record("c", mtime=3)):
        book.place(each)
    key = key_of(record("c"))
    book.remove(key, "c")
    assert book.planes[key].source.path == "b"
    book.remove(key, "a")
    assert book.superseded == {}
    book.remove(key, "b")
    assert book.planes == {}


def test_a_file_is_held_as_the_one_that_counts_or_as_superseded() -> None:
    book = WellBook(A01)
    book.place(record("a", mtime=1))
    book.place(record("b", mtime=2))
    key = key_of(record("a"))
    assert [book.holds(key, path) for path in "abc"] == [True, True, False]


def test_inputs_say_what_became_of_each_plane() -> None:
    plate = plate_of(projection=1)
    book = filled(
        plate, record("1d"), record("1e", "ER"), record("2d", site=2), record("1z", z=2), record("1o", mtime=-1)
    )
    assert uses_of(plate, book) == {
        "1d": "analysed",
        "1e": "analysed",
        "1z": "other_z",
        "2d": "incomplete_site",
        "1o": "superseded",
    }


def test_a_verdict_notes_the_first_and_the_last_moment() -> None:
    book, later = WellBook(A01), datetime(2026, 1, 2, tzinfo=UTC)
    book.note_verdict(NOW, complete_s=5.0, now=6.0)
    book.note_verdict(later, complete_s=3.0, now=9.0)
    assert (book.first_plane_at, book.last_plane_at) == (NOW, later)
    assert (book.last_plane_s, book.touched_s) == (5.0, 9.0)


# ---- a well counted


def test_with_a_number_from_the_settings_a_well_is_decided_when_that_many_sites_are() -> None:
    plate = plate_of(sites_per_well=2)
    book = filled(plate, record("d"), record("e", "ER"))
    census = counted(plate, book)
    assert (sorted(census.complete), census.unnamed, census.expected, census.decided) == ([1], 1, 2, False)
    filled(plate, record("2d", site=2), record("2e", "ER", site=2))
    assert counted(plate, book).decided


def test_sites_that_other_wells_have_are_the_ones_that_are_missing() -> None:
    plate = plate_of(sites_per_well=2)
    plate.expectation.name_plane(plate.well(A02).when, 7, "DNA", 1)
    book = filled(plate, record("d"), record("e", "ER"))
    census = counted(plate, book)
    assert (census.missing, census.unnamed) == ((7,), 0)


def test_without_any_word_on_sites_nothing_is_decided_until_all_are_named(plate: PlateBook) -> None:
    book = filled(plate, record("d"), record("e", "ER"))
    assert not counted(plate, book).decided
    assert counted(plate, book, final=True).decided
    plate.expectation.name_plane(plate.well(A02).when, 2, "DNA", 1)
    assert counted(plate, book, final=True).missing == (2,)


def test_what_was_learned_counts_where_nothing_is_promised(plate: PlateBook) -> None:
    plate.expectation.learned_sites = 2
    book = filled(plate, record("d"), record("e", "ER"))
    assert counted(plate, book).expected == 2
    plate.expectation.promise("Index.xml", Manifest(planes={A01.position: sites(1)}))
    assert counted(plate, book).decided


def test_a_site_is_given_up_only_when_every_plane_it_lacks_was_rejected() -> None:
    plate = plate_of(sites_per_well=1)
    book = filled(plate, record("d"))
    assert counted(plate, book).missing == (1,)
    book.rejected["e"] = (1, "ER", 1)
    census = counted(plate, book)
    assert (census.rejected, census.missing, census.decided) == ((1,), (), True)
    book.rejected["other"] = (2, "DNA", 1)
    book.remove(key_of(record("d")), "d")
    assert counted(plate, book).missing == (1,)


# ---- a plate


def sites(*numbers: int) -> dict[ImageKey, frozenset[int]]:
    """What a manifest says of a well with these sites and one channel."""
    return {(number, 1, "5"): frozenset({1}) for number in numbers}


def test_what_several_metadata_files_promise_is_added_up(plate: PlateBook) -> None:
    first, second = WellPosition(1, 1), WellPosition(1, 2)
    plate.expectation.promise("Index.xml", Manifest(pixel_size_um=0.5, planes={first: sites(1)}, plate_id="BR1"))
    plate.expectation.promise(
        "Index.ref.xml", Manifest(planes={first: sites(2), second: sites(1)}, measurement_id="77")
    )
    assert plate.expectation.manifest == Manifest(
        pixel_size_um=0.5, planes={first: sites(1, 2), second: sites(1)}, plate_id="BR1", measurement_id="77"
    )
    assert plate.expectation.wells() == {(first, 1), (second, 1)}


def test_a_metadata_file_that_comes_again_replaces_what_it_said(plate: PlateBook) -> None:
    plate.expectation.promise("Index.xml", Manifest(pixel_size_um=0.5, planes={WellPosition(1, 1): sites(1, 2)}))
    plate.expectation.promise("Index.xml", Manifest(pixel_size_um=0.7, planes={WellPosition(1, 1): sites(1)}))
    assert plate.expectation.manifest == Manifest(pixel_size_um=0.7, planes={WellPosition(1, 1): sites(1)})


def test_three_planes_of_a_shape_settle_it_and_at_the_last_chance_the_most(plate: PlateBook) -> None:
    assert plate.vote(last_chance=True) is None
    plate.undecided = {path: (record(path), 0.0) for path in "ab"}
    assert plate.vote(last_chance=False) is None
    assert plate.vote(last_chance=True) == (8, 8)
    plate.undecided["c"] = (record("c"), 0.0)
    assert plate.vote(last_chance=False) == (8, 8)


# ---- what an earlier run left


def rejection(path: str, reason: Reason, *, channel: str | None = "DNA", z: int = 1) -> Rejection:
    return Rejection(
        at=NOW,
        path=path,
        reason=reason,
        detail="",
        hint="",
        size_bytes=1,
        mtime_ns=1,
        sha256="x",
        acquisition=A01.acquisition,
        plane=PlaneId(SiteId(A01, 1), "1", z),
        channel=channel,
    )


def restored(plate: PlateBook) -> WellBook:
    uses = (
        InputUse(record("d", mtime=2), Used.ANALYSED),
        InputUse(record("e", "ER"), Used.ANALYSED),
        InputUse(record("o", mtime=1), Used.SUPERSEDED),
    )
    key = ("sha of d", "sha of e")
    return restore_well(plate, RestoredWell(A01, 1, WellStatus.COMPLETE, uses, {1: key}, NOW, NOW))


def test_a_restored_well_is_as_it_was() -> None:
    plate = plate_of(sites_per_well=1)
    book = restored(plate)
    assert uses_of(plate, book) == {
        "d": "analysed",
        "e": "analysed",
        "o": "superseded",
    }
    assert book.dispatched == {1: ("sha of d", "sha of e")}
    assert counted(plate, book).decided


def test_a_line_newer_than_the_result_takes_its_file_out(plate: PlateBook) -> None:
    book = restored(plate)
    assert restore_rejection(plate, rejection("d", Reason.TRUNCATED)) is book
    assert book.planes[key_of(record("d"))].source.path == "o"
    assert book.rejected == {"d": (1, "DNA", 1)}


def test_a_line_that_the_result_knows_of_is_no_news(plate: PlateBook) -> None:
    book = restored(plate)
    assert restore_rejection(plate, rejection("copy", Reason.DUPLICATE_PLANE)) is None
    assert restore_rejection(plate, rejection("series", Reason.DUPLICATE_CHANNEL)) is None
    assert book.rejected == {}
    assert set(book.copies) == {"copy"}


def test_a_line_of_a_well_without_a_result_is_news(plate: PlateBook) -> None:
    book = restore_rejection(plate, rejection("d", Reason.TRUNCATED))
    assert book is plate.well(A01)
    assert plate.expectation.named_sites(book.when) == [1]


def test_a_line_of_an_unknown_channel_says_nothing_of_a_well(plate: PlateBook) -> None:
    assert restore_rejection(plate, rejection("d", Reason.UNKNOWN_CHANNEL, channel=None)) is None
    assert plate.wells == {}
