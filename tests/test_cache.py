"""Pixels within a budget of bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.intake.cache import ImageId, PixelCache
from hcs_daemon.plate import AcquisitionId, SiteId, WellId, WellPosition
from hcs_daemon.records import Pixels

PLANE_BYTES = 8 * 8 * 2


A, B = frozenset({"a"}), frozenset({"b"})


def address(channel: int) -> ImageId:
    return (SiteId(WellId(AcquisitionId("P", "1"), WellPosition(1, 1)), 1), str(channel))


def pixels(value: int = 0) -> Pixels:
    return np.full((8, 8), value, np.uint16)


def test_what_was_put_is_got_with_its_digest_only() -> None:
    cache = PixelCache(10 * PLANE_BYTES)
    held = pixels(7)
    cache.put(address(1), "a", held)
    assert cache.get(address(1), A) is held
    assert cache.get(address(1), B) is None
    assert cache.get(address(2), A) is None


def test_new_pixels_of_a_plane_replace_the_old() -> None:
    cache = PixelCache(10 * PLANE_BYTES)
    cache.put(address(1), "a", pixels(1))
    cache.put(address(1), "b", pixels(2))
    assert cache.get(address(1), A) is None
    assert cache.held_bytes == PLANE_BYTES


def test_the_oldest_goes_when_space_is_short() -> None:
    cache = PixelCache(2 * PLANE_BYTES)
    for channel in (1, 2, 3):
        cache.put(address(channel), "a", pixels())
    assert [cache.get(address(channel), A) is not None for channel in (1, 2, 3)] == [False, True, True]


def test_what_was_sent_to_the_device_goes_before_what_is_still_needed() -> None:
    cache = PixelCache(2 * PLANE_BYTES)
    cache.put(address(1), "a", pixels())
    cache.put(address(2), "a", pixels())
    cache.release(address(2))
    cache.put(address(3), "a", pixels())
    assert [cache.get(address(channel), A) is not None for channel in (1, 2, 3)] == [True, False, True]


def test_what_was_sent_is_kept_while_there_is_space() -> None:
    cache = PixelCache(2 * PLANE_BYTES)
    cache.put(address(1), "a", pixels())
    cache.release(address(1))
    assert cache.get(address(1), A) is not None


def test_dropped_pixels_give_their_space_back() -> None:
    cache = PixelCache(2 * PLANE_BYTES)
    cache.put(address(1), "a", pixels())
    cache.drop(address(1), "another digest")
    assert cache.held_bytes == PLANE_BYTES
    cache.drop(address(1), "a")
    assert cache.held_bytes == 0
    assert cache.get(address(1), A) is None


def test_a_budget_of_nothing_holds_nothing() -> None:
    cache = PixelCache(0)
    cache.put(address(1), "a", pixels())
    assert cache.get(address(1), A) is None
    assert cache.held_bytes == 0


@given(st.lists(st.tuples(st.sampled_from("pdr"), st.integers(1, 6)), max_size=60), st.integers(0, 4))
def test_the_budget_holds_and_the_bytes_add_up(steps: list[tuple[str, int]], planes: int) -> None:
    cache = PixelCache(planes * PLANE_BYTES)
    for step, channel in steps:
        if step == "p":
            cache.put(address(channel), "a", pixels())
        elif step == "d":
            cache.drop(address(channel), "a")
        else:
            cache.release(address(channel))
        held = [channel for channel in range(1, 7) if cache.get(address(channel), A) is not None]
        assert cache.held_bytes == len(held) * PLANE_BYTES <= planes * PLANE_BYTES


def test_a_stack_is_one_image_and_known_by_all_its_planes() -> None:
    cache = PixelCache(10 * PLANE_BYTES)
    for sha256, value in (("a", 3), ("b", 9), ("c", 4)):
        cache.put(address(1), sha256, pixels(value), "max")
    assert cache.held_bytes == PLANE_BYTES
    assert cache.get(address(1), A) is None
    found = cache.get(address(1), frozenset("abc"))
    assert found is not None
    assert np.array_equal(found, pixels(9))


def test_a_mean_is_rounded_once_at_the_end_and_keeps_its_type() -> None:
    cache = PixelCache(10 * PLANE_BYTES)
    for sha256, value in (("a", 65535), ("b", 65535), ("c", 65533)):
        cache.put(address(1), sha256, pixels(value), "mean")
    found = cache.get(address(1), frozenset("abc"))
    assert found is not None
    assert (found.dtype.name, int(found[0, 0])) == ("uint16", 65534)


def test_a_plane_that_comes_twice_counts_once() -> None:
    cache = PixelCache(10 * PLANE_BYTES)
    for sha256, value in (("a", 1), ("b", 4), ("a", 1)):
        cache.put(address(1), sha256, pixels(value), "mean")
    found = cache.get(address(1), frozenset("ab"))
    assert found is not None
    assert int(found[0, 0]) == 2


def test_a_plane_of_another_size_does_not_spoil_the_image() -> None:
    cache = PixelCache(10 * PLANE_BYTES)
    cache.put(address(1), "a", pixels(3), "max")
    cache.put(address(1), "b", np.zeros((4, 4), np.uint16), "max")
    assert cache.get(address(1), A) is not None


def test_an_image_that_a_dropped_plane_is_part_of_is_gone() -> None:
    cache = PixelCache(10 * PLANE_BYTES)
    cache.put(address(1), "a", pixels(3), "max")
    cache.put(address(1), "b", pixels(5), "max")
    cache.drop(address(1), "b")
    assert cache.held_bytes == 0
