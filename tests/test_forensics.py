"""What evidence a plane gives of its encoding, what that proves, and what honest planes next to it do not."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hcs_daemon.intake.forensics import gather, is_piled, oddities, prove
from hcs_daemon.levels import BIN_EDGES
from hcs_daemon.records import Pixels
from hcs_daemon.tiff import decode_plane

Plane = NDArray[np.uint16]


def noise(mean: float = 400, offset: int = 100, shape: tuple[int, int] = (64, 64), seed: int = 1) -> Plane:
    return (offset + np.random.default_rng(seed).poisson(mean, shape)).astype(np.uint16)


def scene(top: float = 3000, shape: tuple[int, int] = (128, 128), seed: int = 1) -> Plane:
    """Bright blobs on a dark ground, with shot noise: neighbours are alike."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter((rng.random(shape) > 0.995).astype(float), 4.0)
    light = 60 + top * blobs / blobs.max()
    found: Plane = (100 + rng.poisson(light)).astype(np.uint16)
    return found


def proven(pixels: Pixels, declared: int = 16) -> str:
    proof = prove(gather(pixels), declared)
    return proof.detail if proof else ""


def odd(pixels: Pixels, declared: int = 16) -> tuple[str, ...]:
    return oddities(gather(pixels), declared)


# ---- the evidence


def test_the_evidence_of_a_small_plane_is_what_one_counts_by_hand() -> None:
    pixels = np.full((8, 8), 10, np.uint16)
    pixels[0] = 16
    pixels[1, 0], pixels[1, 1] = 0, 65535
    found = gather(pixels)
    assert (found.pixels, found.lowest, found.highest, found.ored, found.levels) == (64, 0, 65535, 65535, 4)
    assert found.step == np.gcd.reduce([10, 6, 65535 - 16])
    assert (found.gaps, found.comb_fraction) == (1, (54 + 8) / 64)
    assert (found.zero_fraction, found.full_fraction) == (1 / 64, 1 / 64)
    assert (found.at_top, found.beneath, found.at_bottom, found.above) == (1, 0, 1, 62)


def test_a_plane_of_one_level_has_no_step() -> None:
    found = gather(np.full((5, 7), 77, np.uint16))
    assert (found.levels, found.step, found.gaps, found.grid, found.wrap) == (1, 0, 0, 1.0, 1.0)


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([8, 16]),
    st.integers(0, 16),
    st.integers(0, 999),
)
def test_a_plane_of_any_shape_gives_evidence_that_accounts_for_every_pixel(
    height: int, width: int, container: int, bits: int, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, 1 << min(bits, container), (height, width))
    pixels: Pixels = values.astype(np.uint8) if container == 8 else values.astype(np.uint16)
    found = gather(pixels)
    assert found.pixels == sum(found.histogram) == height * width
    assert BIN_EDGES[found.first_bin] <= found.lowest < BIN_EDGES[found.first_bin + 1]
    last = found.first_bin + len(found.histogram)
    assert BIN_EDGES[last - 1] <= found.highest < BIN_EDGES[last]
    assert (found.levels, found.ored) == (len(np.unique(pixels)), np.bitwise_or.reduce(pixels.ravel()))
    assert (found.byte_order is None) == (container == 8)


def test_a_plane_that_is_counted_in_pieces_is_counted_whole() -> None:
    pixels = noise(mean=9000, shape=(600, 601))
    levels, counts = np.unique(pixels, return_counts=True)
    found = gather(pixels)
    assert (found.levels, found.at_bottom, found.at_top) == (len(levels), counts[0], counts[-1])
    assert found.pixels == sum(found.histogram) == pixels.size


# ---- honest planes are not refused


SIDES = st.integers(1, 90)


@settings(deadline=None, max_examples=200)
@given(st.floats(0.01, 60000), st.integers(0, 5000), st.tuples(SIDES, SIDES), st.floats(0, 20), st.integers(0, 2**32))
@example(9990.0, 2, (1, 2), 0.0, 3)  # two pixels that happen to lie nearer with their bytes exchanged
def test_shot_noise_on_any_offset_is_never_refused_as_16_bits(
    mean: float, offset: int, shape: tuple[int, int], read_noise: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    light = rng.poisson(mean * np.linspace(0.5, 1.5, shape[1]), shape) + read_noise * rng.standard_normal(shape)
    assert proven(np.clip(np.rint(offset + light), 0, 65535).astype(np.uint16)) == ""


@pytest.mark.parametrize("folder", ["opera-phenix-6ch", "operetta-index", "imagexpress-timelapse"])
def test_real_planes_prove_nothing_and_are_not_odd(shared_data: Path, folder: str) -> None:
    paths = [path for path in sorted((shared_data / folder).rglob("*.tif*")) if "_thumb" not in path.name]
    assert paths
    found = {path.name: gather(decode_plane(path.read_bytes()).pixels) for path in paths}
    assert {name: prove(evidence, 16) for name, evidence in found.items() if prove(evidence, 16)} == {}
    assert {name: oddities(evidence, 16) for name, evidence in found.items() if oddities(evidence, 16)} == {}


def test_a_real_plane_of_few_uneven_levels_is_odd_and_not_refused(shared_data: Path) -> None:
    (path,) = (shared_data / "arrayscan-8bit").rglob("*D03f00d2.tif")
    pixels = decode_plane(path.read_bytes()).pixels
    assert "gaps" in odd(pixels, 8)
    assert proven(pixels, 8) == ""


# ---- each proof, and what is nearly one


def test_swapped_bytes_are_told_from_a_rough_plane() -> None:
    assert "bytes of each pixel are swapped" in proven(scene().byteswap())
    assert proven(np.random.default_rng(1).integers(0, 65536, (64, 64)).astype(np.uint16)) == ""


def test_swapped_bytes_of_a_real_plane_are_told(shared_data: Path) -> None:
    for path in sorted((shared_data / "opera-phenix-6ch").rglob("*.tiff")):
        pixels = decode_plane(path.read_bytes()).pixels
        assert "swapped" in proven(pixels.byteswap()), path.name


def test_an_offset_that_wrapped_is_told_from_one_that_stopped_and_from_other_jumps() -> None:
    pixels = scene()
    assert "below zero" in proven(pixels - np.uint16(160))
    stopped = np.maximum(pixels, 160) - np.uint16(160)
    assert (proven(stopped), odd(stopped)) == ("", ("floor",))
    hot = pixels.copy()
    hot[::64, ::64] = 60000
    assert proven(hot) == ""
    framed = noise(mean=60000, shape=(128, 128))
    framed[:, :8] = framed[:, -8:] = 0
    assert gather(framed).wrap < 0.5
    assert proven(framed) == ""
    beads = np.where(pixels > 1000, 65535, pixels).astype(np.uint16)
    assert np.mean(np.abs(np.diff(beads.astype(int))) > 32768) > 0.01
    assert proven(beads) == ""
    assert "below zero" in proven(noise(mean=12, offset=0).astype(np.uint8) - np.uint8(11), 8)


def test_a_common_step_is_told_when_chance_does_not_make_it() -> None:
    twos = np.zeros((64, 64), np.uint16)
    twos[:, ::2] = np.arange(32) * 2
    assert "multiplied by 2" in proven(twos)
    few = np.where(twos > 8, 8, twos)  # five levels: two bits of five is nothing
    assert "multipl" not in proven(few)


@pytest.mark.parametrize("factor", [2, 3, 16, 100, 256, 257])
def test_a_multiple_is_told_and_one_level_off_it_is_not_one(factor: int) -> None:
    pixels = noise(mean=120, offset=20) * np.uint16(factor)
    assert "multipl" in proven(pixels)
    pixels[0, 0] += 1
    assert "multipl" not in proven(pixels)


def test_a_comb_is_told_from_levels_too_sparse_to_leave_none_out() -> None:
    stretched = np.rint(noise(mean=900, shape=(256, 256)) * 1.37).astype(np.uint16)
    assert "teeth of a comb" in proven(stretched)
    sparse = np.rint(noise(mean=20000, shape=(24, 24)) * 1.37).astype(np.uint16)
    assert (proven(sparse), odd(sparse)) == ("", ())


def test_a_camera_whose_converter_prefers_even_levels_leaves_no_comb() -> None:
    rng = np.random.default_rng(1)
    pixels = noise(mean=900, shape=(512, 512))
    uneven = np.where((pixels % 2 == 1) & (rng.random(pixels.shape) < 0.017), pixels - 1, pixels).astype(np.uint16)
    assert (proven(uneven, 12), odd(uneven, 12)) == ("", ())


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_a_pile_at_a_smaller_full_scale_is_told_from_a_plane_that_ends_there(bits: int) -> None:
    full = (1 << bits) - 1
    bright = noise(mean=full, offset=0)
    assert f"the full scale of {bits} bits" in proven(np.minimum(bright, np.uint16(full)))
    ends = noise(mean=full / 2, offset=0)
    ends[0, 0] = full
    assert ends.max() == full
    assert proven(ends) == ""
    assert odd(np.minimum(bright, np.uint16(full)), bits) == ()


@pytest.mark.parametrize("declared", [8, 10, 12, 14])
def test_values_beyond_the_declared_depth_rest_on_the_declaration(declared: int) -> None:
    evidence = gather(noise(mean=1 << declared))
    proof = prove(evidence, declared)
    assert proof is not None
    assert proof.rests_on_declaration
    assert prove(evidence, 16) is None


# ---- each oddity, and what is nearly one


def test_a_ceiling_is_odd_and_a_tail_that_thins_out_is_not() -> None:
    bright = noise(mean=3000)
    assert odd(np.minimum(bright, np.uint16(3010))) == ("ceiling",)
    assert odd(bright) == ()


def test_a_floor_is_odd_and_some_dead_pixels_are_not() -> None:
    pixels = noise(mean=900)
    assert odd(np.maximum(pixels, np.uint16(990))) == ("floor",)
    dead = noise(mean=900, shape=(256, 256))
    dead[0, ::16] = 0
    assert gather(dead).at_bottom == 16
    assert odd(dead) == ()


def test_a_peak_narrower_than_a_tail_has_no_floor() -> None:
    assert odd(noise(mean=0.2, shape=(256, 256))) == ()


def test_the_grid_of_a_jpeg_is_odd_and_the_same_averages_over_other_blocks_are_not() -> None:
    smooth = scene(top=9000, shape=(256, 256)).astype(np.float64)
    offsets = np.random.default_rng(1).normal(0, 200, (32, 32))
    grid = np.kron(offsets, np.ones((8, 8)))
    assert odd(np.clip(smooth + grid + 1000, 0, 65535).astype(np.uint16)) == ("jpeg_grid",)
    shifted = np.roll(grid, (3, 5), axis=(0, 1))
    assert "jpeg_grid" not in odd(np.clip(smooth + shifted + 1000, 0, 65535).astype(np.uint16))


def test_a_grid_that_noise_alone_may_make_in_a_small_plane_is_not_odd() -> None:
    pixels = np.random.default_rng(0).normal(1000, 30, (128, 256)) + np.kron(
        np.random.default_rng(1).normal(0, 60, (16, 32)), np.ones((8, 8))
    )
    assert odd(pixels.astype(np.uint16)) == ("jpeg_grid",)
    assert odd(pixels[:64].astype(np.uint16)) == ("jpeg_grid",)
    assert odd(pixels[:120, :128].astype(np.uint16)) == ()


@pytest.mark.parametrize(("full", "source"), [(255, "8-bit values"), (36000, "counts")])
def test_a_comb_is_put_down_to_8_bits_only_where_it_has_no_more_levels(full: int, source: str) -> None:
    pixels = np.random.default_rng(0).integers(0, full, (1024, 1024))
    proof = prove(gather((pixels * 1.7).astype(np.uint16)), 16)
    assert proof is not None
    assert f"{source} stretched by a factor or a curve" in proof.detail
    assert ("scaling to 8 bits" in proof.hint) == (source == "8-bit values")


def test_signed_values_are_odd_and_a_plane_that_reaches_below_the_middle_is_not() -> None:
    pixels = scene() // np.uint16(2) + np.uint16(32768)
    assert odd(pixels) == ("signed",)
    pixels[0, 0] = 32767
    assert odd(pixels) == ()


def test_a_few_gaps_are_odd_and_not_refused() -> None:
    pixels = noise(mean=900, shape=(128, 128))
    holed = np.where(pixels & 8, pixels & np.uint16(0xFFF0), pixels)  # bit 3 stuck at 0 folds eight levels on others
    few = np.where(pixels < 1000, holed, pixels).astype(np.uint16)
    evidence = gather(few)
    assert 2 <= evidence.gaps < 8
    assert (proven(few), odd(few)) == ("", ("gaps",))


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_pixels_beneath_never_make_a_pile(at: int, beneath: int) -> None:
    assert is_piled(at, beneath) >= is_piled(at, beneath + 1)
    assert is_piled(at + 1, beneath) >= is_piled(at, beneath)
