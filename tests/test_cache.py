"""Pixels within a budget of bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.intake.cache import PixelCache
from hcs_daemon.plate import AcquisitionId, PlaneId, SiteId, WellId, WellPosition
from hcs_daemon.records import Pixels

PLANE_BYTES = 8 * 8 * 2


def address(channel: int) -> PlaneId:
    return PlaneId(SiteId(WellId(AcquisitionId("P", "1"), WellPosition(1, 1)), 1), str(channel))


def pixels(value: int = 0) -> Pixels:
    return np.full((8, 8), value, np.uint16)


def test_what_was_put_is_got_with_its_digest_only() -> None:
    cache = PixelCache(10 * PLANE_BYTES)
    held = pixels(7)
    cache.put(address(1), "a", held)
    assert cache.get(address(1), "a") is held
    assert cache.get(address(1), "b") is None
    assert cache.get(address(2), "a") is None


def test_new_pixels_of_a_plane_replace_the_old() -> None:
    cache = PixelCache(10 * PLANE_BYTES)
    cache.put(address(1), "a", pixels(1))
    cache.put(address(1), "b", pixels(2))
    assert cache.get(address(1), "a") is None
    assert cache.held_bytes == PLANE_BYTES


def test_the_oldest_goes_when_space_is_short() -> None:
    cache = PixelCache(2 * PLANE_BYTES)
    for channel in (1, 2, 3):
        cache.put(address(channel), "a", pixels())
    assert [cache.get(address(channel), "a") is not None for channel in (1, 2, 3)] == [False, True, True]


def test_what_was_sent_to_the_device_goes_before_what_is_still_needed() -> None:
    cache = PixelCache(2 * PLANE_BYTES)
    cache.put(address(1), "a", pixels())
    cache.put(address(2), "a", pixels())
    cache.release(address(2))
    cache.put(address(3), "a", pixels())
    assert [cache.get(address(channel), "a") is not None for channel in (1, 2, 3)] == [True, False, True]


def test_what_was_sent_is_kept_while_there_is_space() -> None:
    cache = PixelCache(2 * PLANE_BYTES)
    cache.put(address(1), "a", pixels())
    cache.release(address(1))
    assert cache.get(address(1), "a") is not None


def test_dropped_pixels_give_their_space_back() -> None:
    cache = PixelCache(2 * PLANE_BYTES)
    cache.put(address(1), "a", pixels())
    cache.drop(address(1), "another digest")
    assert cache.held_bytes == PLANE_BYTES
    cache.drop(address(1), "a")
    assert cache.held_bytes == 0
    assert cache.get(address(1), "a") is None


def test_a_budget_of_nothing_holds_nothing() -> None:
    cache = PixelCache(0)
    cache.put(address(1), "a", pixels())
    assert cache.get(address(1), "a") is None
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
        held = [channel for channel in range(1, 7) if cache.get(address(channel), "a") is not None]
        assert cache.held_bytes == len(held) * PLANE_BYTES <= planes * PLANE_BYTES
