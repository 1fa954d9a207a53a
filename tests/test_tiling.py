import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.device.manifest import Normalisation
from hcs_daemon.device.tiling import Tiler, area_weights, origins, resampled_length
from model_packages import manifest

CPU = torch.device("cpu")


@given(st.integers(18, 500), st.integers(8, 18))
def test_the_fewest_tiles_cover_every_pixel(length: int, tile_px: int) -> None:
    starts = origins(length, tile_px)
    covered = {pixel for start in starts for pixel in range(start, start + tile_px)}
    assert covered == set(range(length))
    assert len(starts) == -(-length // tile_px)


@given(st.integers(4, 200), st.floats(0.25, 4.0))
def test_every_new_pixel_is_a_mean_of_old_ones(length: int, factor: float) -> None:
    weights = area_weights(length, factor)
    assert weights.shape == (resampled_length(length, factor), length)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)


def test_area_means_share_the_pixels_that_lie_on_a_border() -> None:
    np.testing.assert_allclose(area_weights(3, 1.5), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-7)


@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_whole_factors_give_the_same_means_the_fast_way(factor: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (3, 60, 72), dtype=np.uint16)
    tiler = Tiler(manifest(), CPU)
    fast = tiler.resampled(pixels, 1.0 / factor).numpy()
    rows, columns = area_weights(60, factor), area_weights(72, factor)
    np.testing.assert_allclose(fast, rows @ pixels.astype(np.float32) @ columns.T, rtol=1e-5)


def test_a_site_at_the_models_pixel_size_keeps_its_counts() -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (3, 20, 25), dtype=np.uint16)
    np.testing.assert_array_equal(Tiler(manifest(), CPU).resampled(pixels, 1.0).numpy(), pixels)


@pytest.mark.parametrize("pixel_size_um", [0.31, 0.5, 0.8, 1.0, 2.7])
def test_resampling_keeps_the_level_of_a_flat_site(pixel_size_um: float) -> None:
    pixels = np.full((3, 90, 90), 40000, np.uint16)
    found = Tiler(manifest(), CPU).resampled(pixels, pixel_size_um).numpy()
    np.testing.assert_allclose(found, 40000, rtol=1e-5)


def test_each_channel_is_normalised_by_its_own_rule() -> None:
    rules = (
        Normalisation(kind="linear", offset=100.0, scale=10.0),
        Normalisation(kind="asinh", offset=100.0, scale=10.0),
        Normalisation(kind="linear", offset=0.0, scale=1.0),
    )
    raw = torch.full((3, 2, 2), 130.0)
    found = Tiler(manifest(normalisation=rules), CPU).normalised(raw)
    np.testing.assert_allclose(found[:, 0, 0], [3.0, np.arcsinh(3.0), 130.0], rtol=1e-6)
    assert np.unique(raw.numpy()).tolist() == [130.0]


def test_tiles_are_cut_where_the_layout_says_and_put_back_in_place() -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (3, 36, 54), dtype=np.uint16)
    tiler = Tiler(manifest(normalisation=(Normalisation(kind="linear", offset=0.0, scale=1.0),) * 3), CPU)
    tiles = tiler.tiles(pixels, 1.0).numpy()
    layout = tiler.layout(pixels.shape, 1.0)
    assert tiles.shape == (6, 3, 18, 18)
    np.testing.assert_array_equal(layout.assemble(tiles), pixels)


def test_where_tiles_overlap_their_values_add_so_that_the_sum_stays() -> None:
    tiler = Tiler(manifest(), CPU)
    layout = tiler.layout((3, 20, 18), 1.0)
    tiles = np.ones((2, 3, 18, 18), np.float32)
    whole = layout.assemble(tiles)
    assert whole.shape == (3, 20, 18)
    assert whole.sum() == tiles.sum()
    assert whole[0, :, 0].tolist() == [1.0] * 2 + [2.0] * 16 + [1.0] * 2


@pytest.mark.parametrize(
    ("shape", "pixel_size_um", "said"),
    [
        ((3, 18, 17), 1.0, "17 x 18 pixels at the model's 1 µm a pixel, smaller than the 18"),
        ((3, 35, 36), 0.5, "18 x 17 pixels"),
        ((3, 500, 500), 0.2, "outside 0.25 to 4"),
    ],
)
def test_a_site_that_cannot_be_shown_says_why(shape: tuple[int, ...], pixel_size_um: float, said: str) -> None:
    assert said in str(Tiler(manifest(), CPU).problem(shape, pixel_size_um))


def test_a_site_of_just_one_tile_can_be_shown() -> None:
    assert Tiler(manifest(), CPU).problem((3, 18, 18), 1.0) is None
