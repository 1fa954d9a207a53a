"""What all planes of a channel say together of their depth, in whatever order they come."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hcs_daemon.intake.depth import DepthBook
from hcs_daemon.intake.forensics import gather
from hcs_daemon.records import ChannelDepth
from hcs_daemon.vocabulary import Verdict

Plane = NDArray[np.uint16]
SHAPE = (64, 64)


def noise(mean: float, seed: int, offset: int = 100) -> Plane:
    found: Plane = np.minimum(offset + np.random.default_rng(seed).poisson(mean, SHAPE), 65535).astype(np.uint16)
    return found


def saturated(bits: int, seed: int) -> Plane:
    """A bright plane of a camera of so many bits."""
    full = (1 << bits) - 1
    return np.minimum(noise(full, seed), np.uint16(full))


def below(bits: int, seed: int) -> Plane:
    """A plane of a camera of so many bits, far from its full scale."""
    return noise((1 << bits) / 3, seed, offset=0)


def verdict_of(planes: Sequence[Plane], declared: int = 16) -> ChannelDepth:
    book = DepthBook(declared)
    for number, pixels in enumerate(planes):
        book.note(f"Images/{number}.tiff", gather(pixels))
    found = book.verdict()
    assert bool(book.contradiction) == (found.verdict is Verdict.CONTRADICTED)
    return found


# ---- what is not decided


def test_no_plane_is_undecided() -> None:
    assert verdict_of([]) == ChannelDepth(16, Verdict.UNDECIDED, "no plane yet", confidence=0.0, planes=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.floats(1, 3000), st.integers(0, 99))
def test_dim_planes_of_a_true_16_bit_camera_are_never_contradicted(count: int, mean: float, seed: int) -> None:
    assert verdict_of([noise(mean, 100 * seed + number) for number in range(count)]).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_camera_of_fewer_bits_that_never_saturates_stays_undecided(bits: int) -> None:
    found = verdict_of([below(bits, seed) for seed in range(12)])
    assert (found.verdict, found.confidence) == (Verdict.UNDECIDED, 0.0)
    assert "look the same" in found.evidence


def test_one_odd_plane_does_not_make_dim_ones_consistent() -> None:
    found = verdict_of([*(noise(500, seed) for seed in range(6)), noise(30000, 6)])
    assert found.verdict is Verdict.UNDECIDED
    assert "one odd plane decides nothing" in found.evidence


# ---- what is contradicted


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([10, 12, 14]),
    st.integers(2, 6),
    st.integers(0, 6),
    st.sampled_from([20000.0, 40000.0, 90000.0]),
    st.randoms(use_true_random=False),
)
def test_a_camera_of_fewer_bits_that_saturates_is_never_consistent_for_one_odd_plane(
    bits: int, bright: int, dim: int, odd: float, order: Random
) -> None:
    planes = [saturated(bits, seed) for seed in range(bright)] + [below(bits, 50 + seed) for seed in range(dim)]
    assert verdict_of(planes).verdict is Verdict.CONTRADICTED
    planes.append(noise(odd, 99))
    order.shuffle(planes)
    found = verdict_of(planes)
    assert found.verdict is (Verdict.CONTRADICTED if bright >= 4 else Verdict.UNDECIDED)


def test_one_saturated_plane_of_a_camera_of_fewer_bits_is_not_enough() -> None:
    found = verdict_of([saturated(12, 1), below(12, 2), below(12, 3)])
    assert found.verdict is Verdict.UNDECIDED
    assert "full scale of 12 bits" in found.evidence


def test_many_planes_that_end_at_a_full_scale_without_a_pile_contradict_too() -> None:
    def ending(seed: int) -> Plane:
        pixels = below(12, seed)
        pixels[0, 0] = 4095
        return pixels

    assert verdict_of([ending(seed) for seed in range(3)]).verdict is Verdict.UNDECIDED
    assert verdict_of([ending(seed) for seed in range(4)]).verdict is Verdict.CONTRADICTED


def test_some_clipped_planes_among_honest_ones_contradict_nothing() -> None:
    honest = [noise(30000, seed) for seed in range(8)]
    clipped = [saturated(12, 20 + seed) for seed in range(2)]
    found = verdict_of([*honest, *clipped])
    assert (found.verdict, found.planes) == (Verdict.CONSISTENT, 10)


@pytest.mark.parametrize("bits", [4, 6])
def test_fewer_bits_filled_up_with_noise_are_contradicted_and_the_same_light_without_is_not(bits: int) -> None:
    rng = np.random.default_rng(1)
    light = [(100 + rng.poisson(1000, (256, 256))).astype(np.uint16) for _ in range(6)]
    filled = [(plane >> bits << bits) + rng.integers(0, 1 << bits, plane.shape, np.uint16) for plane in light]
    found = verdict_of(filled)
    assert found.verdict is Verdict.CONTRADICTED
    assert f"multiples of {1 << bits}" in found.evidence
    assert verdict_of(light).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("offset", [96, 97, 98, 101, 128])
@pytest.mark.parametrize("read_noise", [0.8, 1.2, 2.0])
def test_a_narrow_background_with_bright_cells_on_it_is_not_taken_for_blocks(offset: int, read_noise: float) -> None:
    def plane(seed: int) -> Plane:
        rng = np.random.default_rng(seed)
        cells = (rng.random((256, 256)) < 0.2) * rng.exponential(300, (256, 256))
        found: Plane = np.rint(offset + cells + read_noise * rng.standard_normal((256, 256))).astype(np.uint16)
        return found

    assert verdict_of([plane(seed) for seed in range(6)]).verdict is Verdict.UNDECIDED


def test_planes_that_are_each_proven_to_be_scaled_contradict_together() -> None:
    scaled = [noise(100, seed) * np.uint16(257) for seed in range(3)]
    assert verdict_of(scaled[:2]).verdict is Verdict.UNDECIDED
    assert verdict_of(scaled).verdict is Verdict.CONTRADICTED
    assert verdict_of([*scaled, noise(30000, 9), noise(30000, 10)]).verdict is Verdict.CONSISTENT


def test_twelve_bits_declared_of_a_camera_of_sixteen_are_contradicted() -> None:
    found = verdict_of(
        [*(noise(9000, seed) for seed in range(4)), *(noise(900, seed) for seed in range(4))], declared=12
    )
    assert found.verdict is Verdict.CONTRADICTED
    assert "beyond 4095" in found.evidence
    assert verdict_of([saturated(12, seed) for seed in range(4)], declared=12).verdict is Verdict.CONSISTENT


def test_a_common_odd_ceiling_contradicts_and_the_same_height_without_a_pile_does_not() -> None:
    cut = [np.minimum(noise(3000, seed), np.uint16(3111)) for seed in range(4)]
    found = verdict_of(cut)
    assert found.verdict is Verdict.CONTRADICTED
    assert "3111" in found.evidence
    assert verdict_of([noise(3000, seed) for seed in range(4)]).verdict is Verdict.UNDECIDED
    assert verdict_of([*cut[:2], *(noise(3000, 9 + seed) for seed in range(2))]).verdict is Verdict.UNDECIDED


# ---- what is consistent, and how sure


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_confidence_halves_its_distance_to_certainty_with_every_plane(bits: int) -> None:
    found = verdict_of([saturated(bits, seed) for seed in range(3)], declared=bits)
    assert (found.verdict, found.confidence, found.planes) == (Verdict.CONSISTENT, 1 - 0.5**3, 3)
    assert sum(found.histogram) == 3 * SHAPE[0] * SHAPE[1]


def test_the_noise_floor_is_the_middle_one_of_those_measured() -> None:
    book = DepthBook(16)
    for number, floor in enumerate([3.0, None, 5.0, 100.0]):
        book.note(str(number), gather(noise(500, number)), floor)
    assert book.verdict().noise_floor == 5.0


# ---- order does not matter

POOL = [
    gather(pixels)
    for pixels in (
        noise(300, 1),
        noise(30000, 2),
        saturated(12, 3),
        saturated(12, 4),
        saturated(14, 5),
        noise(100, 6) * np.uint16(257),
        np.minimum(noise(3000, 7), np.uint16(3111)),
        saturated(16, 8),
    )
]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-1, len(POOL) - 1)), max_size=24),
    st.sampled_from([12, 16]),
    st.randoms(use_true_random=False),
)
def test_the_verdict_depends_on_the_planes_and_not_on_how_they_came(
    story: list[tuple[int, int]], declared: int, order: Random
) -> None:
    told, last = DepthBook(declared), dict[int, int]()
    for path, which in story:
        if which < 0:
            told.forget(str(path))
            last.pop(path, None)
        else:
            told.note(str(path), POOL[which], float(which))
            last[path] = which
    items = list(last.items())
    order.shuffle(items)
    afresh = DepthBook(declared)
    for path, which in items:
        afresh.note(str(path), POOL[which], float(which))
    assert told.verdict() == afresh.verdict()
    assert told.contradiction == afresh.contradiction


# ---- what an earlier version recorded


def test_planes_of_which_only_the_highest_value_is_known_are_evidence_too() -> None:
    """Two clipped planes do not outweigh many honest ones that an earlier version read."""
    book = DepthBook(16)
    for number in range(18):
        book.note_highest(f"honest {number}", 31682 + number)
    for number in range(2):
        book.note(f"clipped {number}", gather(saturated(12, number)))
    assert book.contradiction == ""
    assert book.verdict().verdict is not Verdict.CONTRADICTED


def test_planes_that_an_earlier_version_read_can_contradict_by_where_they_end() -> None:
    book = DepthBook(16)
    for number in range(8):
        book.note_highest(f"plane {number}", 4095)
    assert "4095" in book.contradiction
    for number in range(8):
        book.forget(f"plane {number}")
    assert book.contradiction == ""
    assert book.verdict().evidence == "no plane yet"


def test_a_quiet_dim_channel_whose_maxima_happen_to_lie_at_a_full_scale_is_not_contradicted() -> None:
    book = DepthBook(16)
    for number, highest in enumerate([255] * 31 + [254] * 10):
        book.note_highest(f"plane {number}", highest)
    assert book.contradiction == ""


def test_what_is_said_of_a_channel_whose_planes_are_all_refused_blames_no_dim_sample() -> None:
    found = verdict_of([np.asarray(noise(3000, seed) * np.uint16(16)) for seed in range(2)])
    assert found.verdict is Verdict.UNDECIDED
    assert found.evidence == "2 of 2 planes are refused, so that none is left to judge by"
