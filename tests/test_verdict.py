"""From the sites' logits to the well's verdict: means, agreement, what stands for the well, what is explained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from scipy.stats import ttest_1samp

from fakes import make_settings
from hcs_daemon.plate import SiteId
from hcs_daemon.publish.verdict import WellVerdict, interval_over_sites, judge, sites_to_explain, why_unexplained
from hcs_daemon.records import ModelFacts, Prediction
from wells import FACTS, well_id

Logits = dict[int, tuple[float, ...]]


def verdict_of(logits: Logits, hit_probability: float = 0.9, facts: ModelFacts = FACTS) -> WellVerdict:
    found = {
        site: Prediction(SiteId(well_id(), site), (), np.array(row, np.float32), np.zeros(1, np.float32), 0.0)
        for site, row in logits.items()
    }
    verdict = judge(facts, found, hit_probability)
    assert verdict is not None
    return verdict


def test_a_well_is_judged_by_the_mean_of_its_sites_logits() -> None:
    logits: Logits = {1: (0, 5, 0, 0, 0, 0), 4: (0, 3, 1, 0, 0, 0), 7: (6, 2, 0, 0, 0, 0)}
    verdict = verdict_of(logits)
    mean = np.mean(list(logits.values()), axis=0)
    assert verdict.label == "much_DNA"
    assert dict(verdict.probabilities) == pytest.approx(dict(zip(FACTS.classes, softmax(mean), strict=True)))
    assert verdict.site_labels == {1: "much_DNA", 4: "much_DNA", 7: "control"}
    assert verdict.site_agreement == pytest.approx(2 / 3)
    assert verdict.representative == 4  # the nearest to (2, 3.33, 0.33, 0, 0, 0)


def test_a_class_other_than_the_controls_is_contrasted_with_it() -> None:
    assert verdict_of({1: (1, 5, 4, 0, 0, 0)}).against == "control"


def test_the_controls_class_is_contrasted_with_the_runner_up() -> None:
    verdict = verdict_of({1: (5, 0, 4, 0, 0, 0)})
    assert (verdict.label, verdict.against) == ("control", "much_ER")
    some = replace(FACTS, references=("control", "much_DNA"))
    assert verdict_of({1: (5, 0, 4, 0, 0, 0)}, facts=some).against == "much_DNA"


@pytest.mark.parametrize(
    ("policy", "row", "sites", "said"),
    [
        ("per_well", (5, 0, 4, 0, 0, 0), (), True),
        ("all", (5, 0, 4, 0, 0, 0), (), True),
        ("hits", (5, 0, 4, 0, 0, 0), (), False),
        ("none", (5, 0, 4, 0, 0, 0), (), False),
        ("per_well", (0, 0, 9, 0, 0, 0), (1,), False),
        ("hits", (0, 0, 9, 0, 0, 0), (1,), False),
    ],
)
def test_with_references_of_the_control_alone_only_other_classes_are_explained(
    policy: str,
    row: tuple[float, ...],
    sites: tuple[int, ...],
    said: bool,  # noqa: FBT001 (a table)
    tmp_path: Path,
) -> None:
    verdict = verdict_of({1: row}, facts=replace(FACTS, references=("control",)))
    assert sites_to_explain(settings(tmp_path, policy), verdict) == sites
    why = why_unexplained(settings(tmp_path, policy), verdict)
    wanted = "not explained: the model package has no reference sites of another class to compare control with"
    assert why == (wanted if said else None)


@pytest.mark.parametrize(
    ("logits", "hit"),
    [((0, 9, 0, 0, 0, 0), True), ((0, 0.5, 0, 0, 0, 0), False), ((9, 0, 0, 0, 0, 0), False)],
)
def test_a_hit_is_sure_and_not_the_control(logits: tuple[float, ...], hit: bool) -> None:  # noqa: FBT001 (a table)
    assert verdict_of({1: logits}).hit is hit


def test_without_a_usable_site_there_is_no_verdict() -> None:
    assert judge(FACTS, {}, 0.9) is None


@given(
    st.dictionaries(
        st.integers(1, 99), st.tuples(*[st.floats(-(2.0**100), 2.0**100, width=32)] * 6), min_size=1, max_size=9
    )
)
def test_any_finite_logits_give_probabilities(logits: Logits) -> None:
    verdict = verdict_of(logits)
    assert sum(verdict.probabilities.values()) == pytest.approx(1)
    assert verdict.probabilities[verdict.label] == max(verdict.probabilities.values())
    assert verdict.representative in logits
    assert 0 <= verdict.site_agreement <= 1
    assert verdict.against != verdict.label
    if verdict.interval is None:
        assert len(logits) == 1
    else:
        low, high = verdict.interval
        assert 0 <= low <= verdict.probabilities[verdict.label] + 1e-9
        assert verdict.probabilities[verdict.label] - 1e-9 <= high <= 1


def test_the_interval_of_two_classes_is_students_of_the_sites_log_odds() -> None:
    log_odds = np.array([0.5, 1.5, 2.5])
    found = interval_over_sites(np.column_stack([log_odds, np.zeros(3)]), 0)
    expected = ttest_1samp(log_odds, 0.0).confidence_interval(0.95)
    assert found == pytest.approx(expit([expected.low, expected.high]))


def test_sites_that_agree_give_a_point_and_one_site_gives_none() -> None:
    logits = np.array([[2.0, 0.0, 1.0]])
    assert interval_over_sites(logits, 0) is None
    share = float(softmax(logits[0])[0])
    assert interval_over_sites(np.repeat(logits, 4, axis=0), 0) == pytest.approx((share, share))


def test_the_interval_holds_what_endless_sites_would_say_in_19_of_20_wells() -> None:
    rng = np.random.default_rng(7)
    middle, wells = np.array([1.0, 0.4, 0.0, -1.0]), 2000
    truth = float(softmax(middle)[0])
    sites = middle + rng.normal(scale=0.3, size=(wells, 6, 4))
    intervals = [interval_over_sites(logits, 0) for logits in sites]
    inside = np.mean([low <= truth <= high for low, high in filter(None, intervals)])
    assert inside == pytest.approx(0.95, abs=0.02)


def test_more_sites_of_the_same_kind_make_it_narrower() -> None:
    logits = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    few, many = interval_over_sites(logits, 0), interval_over_sites(np.tile(logits, (5, 1)), 0)
    assert few is not None
    assert many is not None
    assert few[0] < many[0] < many[1] < few[1]


def test_the_sites_that_disagree_are_those_of_another_class() -> None:
    assert verdict_of({1: (0, 5, 0, 0, 0, 0), 4: (0, 3, 1, 0, 0, 0), 7: (6, 2, 0, 0, 0, 0)}).disagreeing == (7,)


@pytest.mark.parametrize(
    ("policy", "hit", "expected"),
    [
        ("none", True, ()),
        ("per_well", False, (2,)),
        ("hits", False, ()),
        ("hits", True, (2,)),
        ("all", False, (1, 2, 3)),
    ],
)
def test_the_policy_says_which_sites_are_explained(
    policy: str,
    hit: bool,  # noqa: FBT001 (a table)
    expected: tuple[int, ...],
    tmp_path: Path,
) -> None:
    high = 9.0 if hit else 1.0
    verdict = verdict_of({1: (0, high - 1, 0, 0, 0, 0), 2: (0, high, 0, 0, 0, 0), 3: (0, high + 1, 0, 0, 0, 0)})
    assert sites_to_explain(settings(tmp_path, policy), verdict) == expected


def settings(tmp_path: Path, policy: str) -> Any:
    return make_settings(tmp_path, {"explain": {"policy": policy}})
