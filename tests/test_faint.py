"""Planes far below all others of their channel, and honest ones that are not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hcs_daemon.intake.faint import Levels, far_below
from hcs_daemon.intake.forensics import gather
from hcs_daemon.intake.quality import measure


def light(seed: int, *, mean: float = 2000, offset: int = 128) -> NDArray[np.uint16]:
    """A field with shot noise over its whole area and brighter cells in a corner."""
    rng = np.random.default_rng(seed)
    field = np.full((96, 96), mean)
    field[:30, :30] *= 6
    found: NDArray[np.uint16] = (offset + rng.poisson(field) + rng.normal(0, 3, field.shape)).clip(0).astype(np.uint16)
    return found


def shifted(seed: int, bits: int) -> NDArray[np.uint16]:
    return (light(seed) >> bits).astype(np.uint16)


def found_among(*odd: NDArray[np.uint16], honest: int = 20, mean: float = 2000) -> set[str]:
    planes = {f"honest {seed}": light(seed, mean=mean) for seed in range(honest)}
    planes |= {f"odd {number}": plane for number, plane in enumerate(odd)}
    return set(far_below({path: Levels.of(gather(plane), measure(plane).noise) for path, plane in planes.items()}))


@pytest.mark.parametrize("shift", [6, 8])
def test_planes_of_fewer_bits_among_others_are_found(shift: int) -> None:
    assert found_among(shifted(50, shift), shifted(51, shift)) == {"odd 0", "odd 1"}


def test_an_empty_field_among_bright_ones_keeps_the_camera_s_noise_and_is_none() -> None:
    assert found_among(light(50, mean=0)) == set()


def test_a_field_with_a_twentieth_of_the_light_is_none() -> None:
    assert found_among(light(50, mean=100)) == set()


def test_many_such_planes_are_not_the_odd_ones() -> None:
    assert found_among(*(shifted(50 + number, 8) for number in range(10))) == set()


def test_with_few_planes_to_compare_with_nothing_is_said() -> None:
    assert found_among(shifted(50, 8), honest=7) == set()
    assert found_among() == set()
