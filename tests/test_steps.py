"""What is recorded of an image at a step."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hcs_daemon.steps import digest_of, measure


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 1 << 16, shape, dtype=np.uint16)


def test_a_record_has_the_extremes_and_the_mean_of_each_channel() -> None:
    channels = noise((2, 30, 40))
    found = measure("projected", channels)
    assert (found.step, found.shape, found.dtype) == ("projected", (30, 40), "uint16")
    assert found.minimum == tuple(float(channel.min()) for channel in channels)
    assert found.maximum == tuple(float(channel.max()) for channel in channels)
    assert found.mean == pytest.approx([channel.mean(dtype=np.float64) for channel in channels], rel=1e-8)
    assert found.digest == tuple(digest_of(channel) for channel in channels)
    assert measure("resampled", channels, digest=False).digest == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_mean_of_bright_images_does_not_overflow(dtype: type[np.uint8] | type[np.uint16]) -> None:
    full = np.full((3, 1 << 17), np.iinfo(dtype).max, dtype)
    for image in (full, full.T):
        assert measure("projected", [image]).mean == (float(np.iinfo(dtype).max),)


def test_floats_are_recorded_to_the_last_bit() -> None:
    values = np.random.default_rng(1).normal(size=(9, 9)).astype(np.float32)
    found = measure("normalised", [values])
    assert np.float32(found.minimum[0]) == values.min()
    assert np.float32(found.maximum[0]) == values.max()


def test_the_digest_is_what_the_manual_says() -> None:
    image = noise((37, 53))
    data = image.tobytes()
    rows = [data[at : at + 2048] for at in range(0, len(data) - 2047, 2048)]
    words = [[int.from_bytes(row[at : at + 8], "little") for at in range(0, 2048, 8)] for row in rows]
    said = b"".join((sum(column) % 2**64).to_bytes(8, "little") for column in zip(*words, strict=True))
    said += b"".join((sum(row) % 2**64).to_bytes(8, "little") for row in words)
    assert digest_of(image) == hashlib.sha256(said + data[2048 * len(rows) :]).hexdigest()


@given(place=st.integers(0, 64 * 96 - 1), change=st.integers(1, (1 << 16) - 1))
def test_any_one_value_that_changes_is_seen(place: int, change: int) -> None:
    image = noise((64, 96))
    other = image.copy()
    other.reshape(-1)[place] ^= np.uint16(change)
    assert digest_of(image) != digest_of(other)


def test_values_that_move_are_seen() -> None:
    image = noise((64, 96))
    moved = [image[::-1], image[:, ::-1], np.roll(image, 1, axis=1), np.roll(image, 1, axis=0), image.reshape(96, 64).T]
    swapped = image.copy()
    swapped[3, 5], swapped[40, 7] = image[40, 7], image[3, 5]
    assert len({digest_of(each) for each in (image, swapped, *moved)}) == 7


@pytest.mark.parametrize("size", [1, 1023, 1024, 1025])
def test_small_images_have_one_too(size: int) -> None:
    assert len({digest_of(noise((size,), seed)) for seed in range(3)}) == 3


def test_how_an_image_lies_in_memory_makes_no_difference() -> None:
    image = noise((64, 96))
    assert measure("projected", [np.asfortranarray(image)]) == measure("projected", [image])
