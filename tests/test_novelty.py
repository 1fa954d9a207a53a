"""How unlike the wells of training a well is, and that false alarms stay within what is stated."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hcs_daemon.novelty import Novelty, fit, load, shrunk_covariance, wells_needed

FEATURES = 6
SEEDS = st.integers(0, 2**32 - 1)


def wells(
    seed: int, count: int, *, classes: int = 3, features: int = FEATURES
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Wells of classes that lie well apart, with correlated features of very different spread."""
    rng = np.random.default_rng(seed)
    world = np.random.default_rng(0)
    mixing = world.normal(size=(features, features)) * np.geomspace(1, 30, features)
    centres = world.normal(size=(classes, features)) * 200
    labels = np.arange(count) % classes
    return centres[labels] + rng.normal(size=(count, features)) @ mixing, labels


def fitted(seed: int = 0, count: int = 240, **how: object) -> Novelty:
    points, labels = wells(seed, count)
    return fit(points, labels, false_alarm_rate=0.05, **how)  # type: ignore[arg-type]  # held_out alone


def test_a_well_far_from_every_class_is_unlike_and_one_at_a_class_is_not() -> None:
    novelty = fitted()
    assert not novelty.unlike(novelty.score(novelty.means[1]))
    assert novelty.unlike(novelty.score(novelty.means[1] + 1000))
    between = (novelty.means[0] + novelty.means[1]) / 2
    assert novelty.unlike(novelty.score(between)), "between two classes there was no well either"


def test_distance_is_counted_in_what_wells_of_a_class_vary_by() -> None:
    novelty = fitted(count=2000)
    points, _ = wells(5, 500)
    scores = np.array([novelty.score(point) for point in points])
    assert math.sqrt(float((scores**2).mean())) == pytest.approx(1.0, rel=0.1)


def test_over_many_fits_the_false_alarms_are_what_was_stated() -> None:
    rates = []
    for seed in range(150):
        points, labels = wells(seed, 60)
        novelty = fit(points, labels, false_alarm_rate=0.05, held_out=wells(seed + 10_000, 39)[0])
        fresh, _ = wells(seed + 20_000, 150)
        rates.append(np.mean([novelty.unlike(novelty.score(point)) for point in fresh]))
    # of 39 scores the 38th: a fortieth well lies beyond it twice in forty times
    assert np.mean(rates) == pytest.approx(2 / 40, abs=0.012)


def test_with_a_confidence_few_fits_have_more_false_alarms_than_were_stated() -> None:
    rates: dict[float | None, list[float]] = {None: [], 0.9: []}
    for seed in range(150):
        points, labels = wells(seed, 60)
        held_out, fresh = wells(seed + 10_000, 60)[0], wells(seed + 20_000, 400)[0]
        for confidence, found in rates.items():
            novelty = fit(points, labels, false_alarm_rate=0.1, held_out=held_out, confidence=confidence)
            found.append(np.mean([novelty.unlike(novelty.score(point)) for point in fresh]).item())
    above = {confidence: np.mean(np.array(found) > 0.1) for confidence, found in rates.items()}
    assert above[0.9] < 0.15, "one in ten, and what 400 fresh wells err by"
    assert above[None] > 0.3, "on average says little of one fit"


@given(SEEDS, st.floats(0.02, 0.5))
@settings(max_examples=25, deadline=None)
def test_of_the_held_out_wells_themselves_no_more_than_the_rate_is_unlike(seed: int, rate: float) -> None:
    held_out, _ = wells(seed, wells_needed(rate) + seed % 40)
    points, labels = wells(seed + 1, 40)
    novelty = fit(points, labels, false_alarm_rate=rate, held_out=held_out)
    assert np.mean([novelty.unlike(novelty.score(point)) for point in held_out]) <= rate


@given(SEEDS, st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
@settings(max_examples=25, deadline=None)
def test_the_unit_and_the_zero_of_the_embedding_do_not_matter(seed: int, scale: float, shift: float) -> None:
    points, labels = wells(seed, 120)
    held_out, _ = wells(seed + 1, 60)
    probe = points[0] + 5
    one = fit(points, labels, false_alarm_rate=0.05, held_out=held_out)
    other = fit(scale * (points + shift), labels, false_alarm_rate=0.05, held_out=scale * (held_out + shift))
    assert other.threshold == pytest.approx(one.threshold, rel=1e-4)
    assert other.score(scale * (probe + shift)) == pytest.approx(one.score(probe), rel=1e-4)


@given(SEEDS, st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_wells_does_not_matter(seed: int, random: object) -> None:
    points, labels = wells(seed, 120)
    order = list(range(120))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    one = fit(points, labels, false_alarm_rate=0.05)
    other = fit(points[order], labels[order], false_alarm_rate=0.05)
    assert other.threshold == pytest.approx(one.threshold, rel=1e-9)
    assert (other.fitted, other.held_out) == (one.fitted, one.held_out)


@given(SEEDS, st.integers(4, 12))
@settings(max_examples=25, deadline=None)
def test_fewer_wells_than_features_still_give_a_finite_distance(seed: int, count: int) -> None:
    points, labels = wells(seed, count, features=40)
    held_out, _ = wells(seed + 1, 30, features=40)
    novelty = fit(points, labels, false_alarm_rate=0.1, held_out=held_out)
    assert math.isfinite(novelty.score(held_out[0]))
    assert novelty.score(held_out[0] + 1e5) > novelty.threshold


def test_a_feature_that_never_varied_makes_a_well_unlike_when_it_does() -> None:
    points, labels = wells(0, 240)
    points[:, 2] = 7.0
    novelty = fit(points, labels, false_alarm_rate=0.05)
    probe = novelty.means[0].copy()
    probe[2] += 1000
    assert not novelty.unlike(novelty.score(novelty.means[0]))
    assert novelty.unlike(novelty.score(probe))


def test_without_labels_all_wells_are_of_one_class() -> None:
    points, _ = wells(0, 240)
    novelty = fit(points, false_alarm_rate=0.05)
    assert len(novelty.means) == 1
    assert not novelty.unlike(novelty.score(points.mean(axis=0)))


def test_what_stands_for_the_threshold_takes_no_part_in_the_distance() -> None:
    points, labels = wells(0, 241)
    novelty = fit(points, labels, false_alarm_rate=0.05)
    assert novelty.fitted + novelty.held_out == 241
    assert abs(novelty.fitted - novelty.held_out) <= 3, "half of each class"


@pytest.mark.parametrize(("rate", "needed"), [(0.5, 1), (0.1, 9), (0.05, 19), (0.01, 99), (0.03, 33)])
def test_too_few_wells_for_a_rate_are_refused_saying_how_many_it_takes(rate: float, needed: int) -> None:
    points, labels = wells(0, 60)
    held_out, _ = wells(1, needed)
    assert wells_needed(rate) == needed
    assert math.isfinite(fit(points, labels, false_alarm_rate=rate, held_out=held_out).threshold)
    with pytest.raises(ValueError, match=f"takes {needed}: hold out more" if needed > 1 else "embeddings are"):
        fit(points, labels, false_alarm_rate=rate, held_out=held_out[:-1])


@pytest.mark.parametrize(("rate", "needed"), [(0.05, 45), (0.1, 22), (0.2, 11)])
def test_a_confidence_takes_more_wells(rate: float, needed: int) -> None:
    points, labels = wells(0, 60)
    held_out, _ = wells(1, needed)
    assert wells_needed(rate, 0.9) == needed
    found = fit(points, labels, false_alarm_rate=rate, held_out=held_out, confidence=0.9)
    assert found.threshold == max(found.score(point) for point in held_out)
    with pytest.raises(ValueError, match=f"takes {needed}: hold out more"):
        fit(points, labels, false_alarm_rate=rate, held_out=held_out[:-1], confidence=0.9)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit(wells(0, 60)[0], false_alarm_rate=rate)


def test_what_says_nothing_of_how_wells_differ_is_refused() -> None:
    points, labels = wells(0, 60)
    held_out = points[:40]
    with pytest.raises(ValueError, match="are the same"):
        fit(np.ones((60, 4)), false_alarm_rate=0.05)
    with pytest.raises(ValueError, match="3 wells of 3 classes"):
        fit(points[:3], labels[:3], false_alarm_rate=0.05, held_out=held_out)
    with pytest.raises(ValueError, match="not finite"):
        fit(np.where(np.arange(60)[:, None] == 3, np.nan, points), false_alarm_rate=0.05)
    with pytest.raises(ValueError, match="60 wells have 59 labels"):
        fit(points, labels[1:], false_alarm_rate=0.05)
    with pytest.raises(ValueError, match="held out have 5 features"):
        fit(points, labels, false_alarm_rate=0.05, held_out=held_out[:, :5])


def test_an_embedding_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="6 features are expected"):
        fitted().score(np.zeros(5))


def test_it_is_read_as_it_was_written_and_written_alike_each_time(tmp_path: Path) -> None:
    novelty = fitted()
    novelty.save(tmp_path / "novelty.npz")
    novelty.save(tmp_path / "again.npz")
    found = load(tmp_path / "novelty.npz")
    probe, _ = wells(3, 1)
    assert found.score(probe[0]) == novelty.score(probe[0])
    assert (found.threshold, found.false_alarm_rate) == (novelty.threshold, novelty.false_alarm_rate)
    assert (found.fitted, found.held_out) == (novelty.fitted, novelty.held_out)
    assert (tmp_path / "novelty.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


@pytest.mark.parametrize("sites", [None, 4])
def test_how_many_sites_the_rate_is_of_is_noted_and_decides_nothing(sites: int | None, tmp_path: Path) -> None:
    novelty = replace(fitted(), sites=sites)
    novelty.save(tmp_path / "novelty.npz")
    assert load(tmp_path / "novelty.npz").sites == sites
    assert novelty.digest == fitted().digest
    with np.load(tmp_path / "novelty.npz") as arrays:
        assert ("sites" in arrays.files) is (sites is not None), "a file of earlier versions stays what it was"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"threshold": math.nan}, "finite"),
        ({"false_alarm_rate": 1.5}, "false-alarm rate"),
        ({"whitening": np.eye(3)}, "do not fit"),
        ({"means": np.zeros(6)}, "do not fit"),
        ({"means": None}, "plain numbers|pickle"),
        ({"fitted": np.array("many")}, "many"),
    ],
)
def test_a_damaged_file_is_refused_in_words(tmp_path: Path, spoil: dict[str, object], said: str) -> None:
    novelty = fitted()
    novelty.save(tmp_path / "novelty.npz")
    with np.load(tmp_path / "novelty.npz") as arrays:
        held = dict(arrays) | spoil
    np.savez(tmp_path / "novelty.npz", **held)
    with pytest.raises(ValueError, match=said):
        load(tmp_path / "novelty.npz")


def test_a_file_that_is_no_archive_or_lacks_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "novelty.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"archive|pickle"):
        load(tmp_path / "novelty.npz")
    np.savez(tmp_path / "novelty.npz", means=np.zeros((1, 2)))
    with pytest.raises(ValueError, match="whitening"):
        load(tmp_path / "novelty.npz")
    with pytest.raises(OSError, match="gone"):
        load(tmp_path / "gone.npz")


@given(SEEDS, st.integers(2, 30))
@settings(max_examples=25, deadline=None)
def test_the_covariance_is_drawn_as_ledoit_and_wolf_have_it(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    residuals = rng.normal(size=(count, 4)) * np.array([1.0, 2.0, 5.0, 0.1])
    sample = residuals.T @ residuals / count
    level = np.trace(sample) / 4
    apart = ((sample - level * np.eye(4)) ** 2).sum()
    error = min(apart, sum(((np.outer(row, row) - sample) ** 2).sum() for row in residuals) / count**2)
    expected = error / apart * level * np.eye(4) + (1 - error / apart) * sample
    assert shrunk_covariance(residuals, count) == pytest.approx(expected, rel=1e-6)
