"""What one plane can prove about itself, on real planes and on real planes spoiled."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hcs_daemon.config import Expect
from hcs_daemon.intake.validation import Expected, Refusal, examine, focus
from hcs_daemon.records import Pixels, PlaneMeasures
from hcs_daemon.tiff import decode_plane
from hcs_daemon.vocabulary import Reason

SIXTEEN, EIGHT = Expected(16, "uint16"), Expected(8, "uint8")
ANYTHING = Expected()
OPERA = ["ch1", "ch2", "ch3", "ch4", "ch5", "ch6"]


def accepted(pixels: Pixels, expected: Expected = SIXTEEN) -> PlaneMeasures:
    found = examine(pixels, expected)
    assert isinstance(found, PlaneMeasures), found
    return found


def refused(pixels: Pixels, expected: Expected = SIXTEEN) -> Refusal:
    found = examine(pixels, expected)
    assert isinstance(found, Refusal), found
    assert found.hint
    return found


def noise(mean: float = 400, offset: int = 100, shape: tuple[int, int] = (64, 64)) -> NDArray[np.uint16]:
    return (offset + np.random.default_rng(1).poisson(mean, shape)).astype(np.uint16)


def opera(shared_data: Path, channel: str) -> NDArray[np.uint16]:
    path = shared_data / "opera-phenix-6ch" / "Images" / f"r03c03f03p01-{channel}sk1fk1fl1.tiff"
    pixels = decode_plane(path.read_bytes()).pixels
    assert pixels.dtype == np.uint16
    found: NDArray[np.uint16] = np.array(pixels, np.uint16)
    return found


def eight_bits_of(pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    span = float(pixels.max()) - float(pixels.min())
    found: NDArray[np.uint16] = np.rint((pixels - float(pixels.min())) * (255 / span)).astype(np.uint16)
    return found


# ---- honest planes


def test_the_real_opera_phenix_planes_are_accepted_with_their_own_extremes(shared_data: Path) -> None:
    found = {channel: accepted(opera(shared_data, channel)) for channel in OPERA}
    assert {channel: measures.observed_bits for channel, measures in found.items()} == {
        "ch1": 16,
        "ch2": 15,
        "ch3": 13,
        "ch4": 16,
        "ch5": 15,
        "ch6": 15,
    }
    assert (found["ch5"].minimum, found["ch5"].maximum) == (174, 28340)


@pytest.mark.parametrize("folder", ["imagexpress-z-mix", "imagexpress-timelapse", "operetta-index"])
def test_real_16_bit_planes_are_accepted(shared_data: Path, folder: str) -> None:
    paths = [path for path in sorted((shared_data / folder).rglob("*.tif*")) if "_thumb" not in path.name]
    assert paths
    refusals = {path.name: examine(decode_plane(path.read_bytes()).pixels, SIXTEEN) for path in paths}
    assert {name: found for name, found in refusals.items() if isinstance(found, Refusal)} == {}


@pytest.mark.parametrize("channel", ["d0", "d1", "d2"])
def test_real_8_bit_planes_are_accepted_as_8_bit_even_with_gaps_between_their_levels(
    shared_data: Path, channel: str
) -> None:
    (path,) = (shared_data / "arrayscan-8bit").rglob(f"*{channel}.tif")
    pixels = decode_plane(path.read_bytes()).pixels
    assert accepted(pixels, EIGHT).observed_bits <= 8
    accepted(pixels, ANYTHING)
    assert refused(pixels, SIXTEEN).reason is Reason.WRONG_CONTAINER


def test_real_planes_without_any_light_are_blank(shared_data: Path) -> None:
    paths = sorted((shared_data / "cv8000-stack").rglob("*_T0001*.tif"))
    assert len(paths) == 96
    assert {refused(decode_plane(path.read_bytes()).pixels).reason for path in paths[::12]} == {Reason.BLANK}


def test_a_dim_plane_of_a_16_bit_camera_is_accepted(shared_data: Path) -> None:
    dim = opera(shared_data, "ch5") // np.uint16(64) + np.uint16(100)
    assert accepted(dim).maximum < 4096


def test_a_dark_frame_with_a_few_hot_pixels_is_accepted() -> None:
    dark = noise(mean=4)
    dark[::16, ::16] = 3000
    dark[5, 5], dark[7, 7] = 65535, 41234
    assert accepted(dark).maximum == 65535


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_a_bright_plane_of_the_declared_depth_is_accepted_with_its_pile_at_full_scale(bits: int) -> None:
    full = (1 << bits) - 1
    bright = np.minimum(noise(mean=full - 20, offset=0), full)
    measures = accepted(bright, Expected(bits, "uint16"))
    assert measures.maximum == full
    assert measures.saturated_fraction == pytest.approx(float(np.mean(bright == full)))


def test_a_plane_of_few_pixels_does_not_look_like_a_comb() -> None:
    accepted(noise(mean=20000, shape=(12, 12)))


# ---- what is proven


def times(factor: int) -> Callable[[NDArray[np.uint16]], NDArray[np.uint16]]:
    return lambda pixels: eight_bits_of(pixels) * np.uint16(factor)


def shifted(bits: int) -> Callable[[NDArray[np.uint16]], NDArray[np.uint16]]:
    return lambda pixels: pixels // np.uint16(1 << bits) * np.uint16(1 << bits)


def stretched(factor: float, offset: int = 0) -> Callable[[NDArray[np.uint16]], NDArray[np.uint16]]:
    return lambda pixels: (np.rint(eight_bits_of(pixels) * factor) + offset).astype(np.uint16)


def gamma(pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return np.rint((eight_bits_of(pixels) / 255.0) ** 0.45 * 65535).astype(np.uint16)


SPOILED: dict[str, tuple[Callable[[NDArray[np.uint16]], NDArray[np.uint16]], str]] = {
    "times 257": (times(257), "8-bit values multiplied by 257 in a 16-bit file"),
    "times 256": (times(256), "the lowest 8 bits are never used"),
    "times 100": (times(100), "multiples of 100"),
    "shifted by 4": (shifted(4), "the lowest 4 bits are never used"),
    "shifted by 1": (shifted(1), "the lowest 1 bit is never used"),
    "shifted, with an offset": (lambda pixels: shifted(4)(pixels // 2) + np.uint16(5), "multiples of 16 plus 5"),
    "times 13.7": (stretched(13.7, 120), "like the teeth of a comb"),
    "gamma on 8 bits": (gamma, "like the teeth of a comb"),
}


@pytest.mark.parametrize("channel", OPERA)
@pytest.mark.parametrize("spoil", SPOILED)
def test_a_real_plane_spoiled_in_a_way_that_pixels_prove_is_refused(
    shared_data: Path, channel: str, spoil: str
) -> None:
    change, words = SPOILED[spoil]
    found = refused(change(opera(shared_data, channel)))
    assert found.reason is Reason.BIT_DEPTH
    assert words in found.detail


@pytest.mark.parametrize("channel", OPERA)
def test_values_beyond_the_declared_depth_are_refused(shared_data: Path, channel: str) -> None:
    found = refused(opera(shared_data, channel), Expected(12, "uint16"))
    assert found.reason is Reason.BIT_DEPTH
    assert "beyond the declared 12 bits (at most 4095)" in found.detail


@given(st.integers(0, 255), st.integers(2, 257), st.integers(0, 50))
def test_multiples_of_any_number_are_refused(seed: int, factor: int, offset: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 250, (32, 32))
    found = refused((levels * factor + offset).astype(np.uint16))
    assert found.reason is Reason.BIT_DEPTH


@given(st.integers(0, 255), st.integers(1, 20000), st.integers(0, 30000))
def test_no_camera_noise_is_refused(seed: int, mean: int, offset: int) -> None:
    counts = offset + np.random.default_rng(seed).poisson(mean, (64, 64))
    accepted(np.minimum(counts, 65535).astype(np.uint16))


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_a_plane_of_one_value_is_blank(value: int) -> None:
    found = refused(np.full((8, 8), value, np.uint16))
    assert found.reason is Reason.BLANK
    assert str(value) in found.detail


def test_another_container_than_expected_is_refused() -> None:
    found = refused(noise().astype(np.uint8))
    assert found.reason is Reason.WRONG_CONTAINER
    assert found.detail == "pixels are uint8, expected uint16"
    assert refused(noise(), EIGHT).reason is Reason.WRONG_CONTAINER


def test_where_nothing_is_expected_only_contradictions_are_refused() -> None:
    accepted(noise(), ANYTHING)
    accepted(noise(mean=50, offset=0).astype(np.uint8), ANYTHING)
    assert refused(noise() * np.uint16(16), ANYTHING).reason is Reason.BIT_DEPTH


def test_the_expectation_follows_the_settings() -> None:
    assert Expected.of(Expect(bit_depth=12, channels={"DNA": "1"})) == Expected(12, "uint16")
    assert Expected.of(Expect(bit_depth=8, channels={"DNA": "1"})) == Expected(8, "uint8")
    assert Expected.of(Expect(bit_depth=8, container="uint16", channels={"DNA": "1"})) == Expected(8, "uint16")


# ---- focus


def test_a_blurred_plane_is_less_in_focus(shared_data: Path) -> None:
    sharp = opera(shared_data, "ch5").astype(np.float64)
    blurred = sum(np.roll(sharp, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)) / 9
    assert focus(np.rint(blurred).astype(np.uint16)) < 0.5 * focus(sharp.astype(np.uint16))


def test_focus_is_the_variance_of_the_laplacian_over_that_of_the_pixels() -> None:
    pixels = noise(shape=(20, 30))
    values = pixels.astype(np.float64)
    laplacian = np.array(
        [
            [
                values[y - 1, x] + values[y + 1, x] + values[y, x - 1] + values[y, x + 1] - 4 * values[y, x]
                for x in range(1, 29)
            ]
            for y in range(1, 19)
        ]
    )
    assert focus(pixels) == pytest.approx(laplacian.var() / values.var(), rel=1e-4)


def test_focus_does_not_change_with_gain_or_offset() -> None:
    pixels = noise()
    assert focus(pixels * np.uint16(3) + np.uint16(50)) == pytest.approx(focus(pixels), rel=1e-4)


def test_only_the_middle_of_a_large_plane_is_measured() -> None:
    pixels = noise(shape=(800, 700))
    middle = pixels[144:656, 94:606]
    assert focus(pixels) == focus(middle)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 9), (9, 2)])
def test_a_plane_too_small_for_a_laplacian_has_no_focus(shape: tuple[int, int]) -> None:
    assert focus(noise(shape=shape)) == 0.0
