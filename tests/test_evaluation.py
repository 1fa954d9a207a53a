"""Shares, intervals, confusion and calibration."""

import numpy as np
import pytest

from hcs_daemon.training.evaluation import Share, calibration_error, confusion, share, softmax


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_that_of_the_literature(hits: int, of: int, low: float, high: float) -> None:
    assert Share(hits, of).interval == pytest.approx((low, high), abs=5e-5)


def test_of_nothing_nothing_is_known() -> None:
    assert Share(0, 0).interval == (0.0, 1.0)
    assert np.isnan(Share(0, 0).value)
    assert str(Share(0, 0)) == "0 of 0"


def test_a_share_says_its_interval() -> None:
    assert str(share(np.array([True] * 81 + [False] * 182))) == "81 of 263 = 0.308 (95 % interval 0.255 to 0.366)"


def test_the_true_class_is_the_row_of_the_confusion() -> None:
    counts = confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    assert counts.tolist() == [[1, 1], [0, 1]]


def test_large_logits_give_probabilities_too() -> None:
    assert softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]])).tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_one_who_is_right_as_often_as_he_says_is_calibrated() -> None:
    probabilities = np.array([[0.75, 0.25]] * 4)
    assert calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0.0)


def test_one_who_is_sure_and_wrong_half_of_the_time_is_off_by_a_half() -> None:
    probabilities = np.array([[1.0, 0.0]] * 4)
    assert calibration_error(probabilities, np.array([0, 1, 0, 1])) == pytest.approx(0.5)
