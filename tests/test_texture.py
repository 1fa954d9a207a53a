"""The texture statistics, on pictures whose statistics anybody knows."""

import math

import pytest
import torch

from hcs_daemon.training.texture import SCALES, TextureStatistics

SIDE = 128


def noise(channels: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_scale(tiles: torch.Tensor) -> list[torch.Tensor]:
    """The statistics of one tile, one vector a scale, the finest first."""
    statistics = TextureStatistics(tiles.shape[1])
    found = statistics(tiles)
    assert found.shape == (len(tiles), statistics.features)
    return list(torch.chunk(found[0], SCALES))


def test_of_normal_noise_the_statistics_are_those_of_the_normal_distribution() -> None:
    spread, skewness, kurtosis = by_scale(noise(1))[0].tolist()
    # what 1 2 1 in both directions leaves of white noise: 1 - 2 * (1/4) + (6/16)^2 of its variance
    assert spread == pytest.approx(math.log(1 - 2 / 4 + (6 / 16) ** 2) / 2, abs=0.02)
    assert skewness == pytest.approx(0.0, abs=0.05)
    assert kurtosis == pytest.approx(math.log1p(3.0), abs=0.05)


def test_of_bright_dots_the_skewness_and_the_kurtosis_are_high_and_of_holes_the_skewness_is_low() -> None:
    dots = noise(1) * 0.01
    dots[..., ::8, ::8] += 1.0
    (_, skewness, kurtosis), (_, holes, _) = by_scale(dots)[0], by_scale(-dots)[0]
    assert skewness > 1.0
    assert kurtosis > math.log1p(10.0)
    assert holes == pytest.approx(-skewness)


def test_the_scale_of_a_pattern_is_where_its_light_is() -> None:
    checks = noise(1) * 0.01 + torch.kron((torch.arange(SIDE // 4) % 2).double(), torch.ones(4))
    spreads = [float(scale[0]) for scale in by_scale(checks)]
    assert (
        spreads.index(max(spreads)) == 2
    )  # stripes of 4 pixels vanish from the means of 8 x 8, not from those of 4 x 4


def test_a_gain_changes_the_spread_alone() -> None:
    tiles = noise(2)
    for before, after in zip(by_scale(tiles), by_scale(3.0 * tiles), strict=True):
        torch.testing.assert_close(after[:2] - before[:2], torch.full((2,), math.log(3.0)).double(), atol=1e-4, rtol=0)
        torch.testing.assert_close(after[2:], before[2:], atol=1e-4, rtol=0)


def test_what_two_channels_share_is_seen_and_no_channel_changes_anothers_own() -> None:
    one, other = noise(1, 1), noise(1, 2)
    apart = by_scale(torch.cat([one, other], dim=1))[0]
    alike = by_scale(torch.cat([one, one + 0.1 * other], dim=1))[0]
    assert abs(float(apart[-1])) < 0.05
    assert float(alike[-1]) > 0.95
    torch.testing.assert_close(apart[0:6:2], alike[0:6:2])


def test_an_empty_picture_has_finite_statistics_and_an_odd_side_is_taken() -> None:
    assert torch.isfinite(TextureStatistics(3)(torch.zeros(2, 3, 33, 47))).all()
