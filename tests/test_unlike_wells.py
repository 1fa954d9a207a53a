"""How far to trust a verdict, from the sites' numbers to the files: wells like none seen, sites that disagree."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fakes import Clock, FakeDevice, make_settings
from hcs_daemon.config import Settings
from hcs_daemon.novelty import Novelty
from hcs_daemon.publish import well_words
from hcs_daemon.publish.documents import fingerprint
from hcs_daemon.publish.schemas import PredictionEntry, WellResult
from hcs_daemon.publish.verdict import WellVerdict, judge, sites_to_explain, well_novelty
from hcs_daemon.telemetry import Telemetry
from hcs_daemon.tiff import write_tiff
from hcs_daemon.vocabulary import PlateState
from spine import Spine
from wells import CONTROL, FACTS, TREATED, Desktop, answered, closed_well, plate_news, predicted

SEEN = Novelty(np.full((1, 3), 1 / 3), np.eye(3), threshold=2.0, false_alarm_rate=0.05, fitted=50, held_out=50)
"""Wells like the site 1 of these tests, whose embedding is a third, thrice; site 30's is ten."""
KNOWING = replace(FACTS, novelty=SEEN)


def verdict_of(sites: tuple[int, ...], facts: Any = KNOWING, logits: tuple[float, ...] = TREATED) -> WellVerdict:
    closed = closed_well(sites=sites)
    found = judge(facts, {site: predicted(closed, site, logits) for site in sites}, 0.9)
    assert found is not None
    return found


def published(folder: Path, sites: tuple[int, ...], facts: Any = KNOWING) -> Desktop:
    """A plate of one treated well."""
    desk = Desktop(folder, facts=facts)
    desk.tell(plate_news())
    desk.publish(closed_well(sites=sites))
    desk.tell(plate_news(PlateState.FINISHED))
    desk.end()
    return desk


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    return list(pq.read_table(io.BytesIO((folder / name).read_bytes())).to_pylist())


# ---- the verdict


def test_a_well_beyond_the_threshold_is_called_unlike_and_is_no_hit() -> None:
    near, far = verdict_of((1, 2)), verdict_of((30,))
    assert (near.label, near.nearest, near.hit) == ("much_DNA", "much_DNA", True)
    assert (far.label, far.nearest, far.hit) == ("unlike", "much_DNA", False)
    assert far.probabilities == near.probabilities
    assert far.novelty is not None
    assert far.novelty.score == pytest.approx(10 - 1 / 3)


def test_a_well_is_measured_by_its_sites_mean_and_every_site_by_its_own() -> None:
    found = verdict_of((1, 16)).novelty
    assert found is not None
    assert found.score == pytest.approx(7.5 / 3)
    assert found.sites == pytest.approx({1: 0.0, 16: 5.0}, abs=1e-6)


def test_without_what_the_package_knows_no_well_is_unlike() -> None:
    verdict = verdict_of((30,), FACTS)
    assert (verdict.label, verdict.novelty) == ("much_DNA", None)
    assert well_novelty(KNOWING, {}) is None


@pytest.mark.parametrize(("policy", "expected"), [("per_well", (30,)), ("hits", ()), ("all", (30, 31))])
def test_an_unlike_well_is_explained_as_what_it_is_nearest_to_and_not_as_a_hit(
    policy: str, expected: tuple[int, ...], tmp_path: Path
) -> None:
    settings = make_settings(tmp_path, {"explain": {"policy": policy}})
    assert sites_to_explain(settings, verdict_of((30, 31))) == expected
    assert verdict_of((30, 31)).against == "control"


# ---- the files


def test_an_unlike_well_says_so_in_every_file(tmp_path: Path) -> None:
    desk = published(tmp_path, (30, 31))
    result = desk.result()
    said = result["prediction"]
    assert (said["label"], said["nearest"], said["hit"]) == ("unlike", "much_DNA", False)
    assert said["novelty"] == {
        "score": pytest.approx(30.5 / 3 - 1 / 3),
        "threshold": 2.0,
        "false_alarm_rate": 0.05,
        "unlike": True,
    }
    assert said["probabilities"]["much_DNA"] > 0.8
    assert (result["explanation"]["target"], result["explanation"]["against"]) == ("much_DNA", "control")
    (warning,) = [words for words in result["warnings"] if "unlike anything" in words]
    assert warning.endswith("5 % of wells like those lie beyond 2; of its classes the model leans to much_DNA")
    assert desk.plate()["verdicts"] == {"unlike": 1}
    (profile,) = table(desk.folder, "profiles.parquet")
    assert (profile["Metadata_Label"], profile["Metadata_Nearest"]) == ("unlike", "much_DNA")
    assert profile["Metadata_Probability"] == pytest.approx(said["probabilities"]["much_DNA"])
    assert profile["Metadata_Novelty"] == pytest.approx(said["novelty"]["score"])
    assert profile["Metadata_NoveltyThreshold"] == 2.0
    sites = table(desk.folder, "sites.parquet")
    assert [site["Metadata_Novelty"] for site in sites] == pytest.approx([29 / 3, 30 / 3])
    assert [site["Metadata_SiteLabel"] for site in sites] == ["much_DNA", "much_DNA"]


def test_a_well_like_those_seen_says_how_far_it_is_and_warns_of_nothing(tmp_path: Path) -> None:
    result = published(tmp_path, (1, 2)).result()
    assert result["prediction"]["label"] == "much_DNA"
    assert result["prediction"]["novelty"]["unlike"] is False
    assert result["explanation"] is not None
    assert result["warnings"] == []


def test_a_package_that_does_not_know_says_nothing_of_it(tmp_path: Path) -> None:
    desk = published(tmp_path, (30,), FACTS)
    assert desk.result()["prediction"]["novelty"] is None
    assert [site["novelty"] for site in desk.result()["site_results"]] == [None]
    (profile,) = table(desk.folder, "profiles.parquet")
    assert (profile["Metadata_Novelty"], profile["Metadata_NoveltyThreshold"]) == (None, None)


def test_a_model_that_only_embeds_warns_of_a_well_unlike_those_seen(tmp_path: Path) -> None:
    facts = replace(KNOWING, classes=(), control_class="")
    desk = Desktop(tmp_path, facts=facts)
    closed = closed_well(sites=(30,))
    desk.tell(plate_news(), closed, predicted(closed, 30, ()))
    assert desk.result()["prediction"] is None
    assert "unlike anything" in desk.result()["warnings"][0]
    assert desk.result()["site_results"][0]["novelty"] == pytest.approx(29 / 3)


@pytest.mark.parametrize(("sites", "said"), [(2, False), (4, True), (None, False)])
def test_of_a_well_with_other_sites_than_those_of_the_rate_the_warning_says_so(
    sites: int | None,
    said: bool,  # noqa: FBT001 (a table)
    tmp_path: Path,
) -> None:
    desk = published(tmp_path, (30, 31), replace(FACTS, novelty=replace(SEEN, sites=sites)))
    (warning,) = [words for words in desk.result()["warnings"] if "unlike anything" in words]
    assert ("a rate of wells with 4 sites each; for this one, with 2, it does not hold" in warning) is said


def test_sites_that_disagree_are_named(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, facts=KNOWING)
    closed = closed_well(sites=(1, 2, 3))
    for wanted in desk.tell(closed, *(predicted(closed, s, CONTROL if s == 2 else TREATED) for s in (1, 2, 3))):
        desk.tell(answered(wanted))
    result = desk.result()
    assert result["prediction"]["disagreeing_sites"] == [2]
    assert result["prediction"]["site_agreement"] == pytest.approx(2 / 3, abs=1e-4)
    assert result["warnings"] == ["not all sites say much_DNA: site 2 control"]
    low, high = result["prediction"]["interval"]
    assert 0 < low < result["prediction"]["probabilities"]["much_DNA"] < high < 1


def test_a_well_of_one_site_has_no_interval(tmp_path: Path) -> None:
    desk = published(tmp_path, (1,))
    assert desk.result()["prediction"]["interval"] is None
    assert desk.result()["prediction"]["disagreeing_sites"] == []
    (profile,) = table(desk.folder, "profiles.parquet")
    assert (profile["Metadata_ProbabilityLow"], profile["Metadata_ProbabilityHigh"]) == (None, None)


def test_results_survive_a_restart_and_are_redone_when_what_is_known_changes(tmp_path: Path) -> None:
    desk = published(tmp_path, (30,))
    written = (desk.folder / "wells" / "B03.json").read_bytes()
    again = Desktop(tmp_path, facts=KNOWING)
    assert not again.restored.plates[0].outdated
    again.end()
    assert (again.folder / "wells" / "B03.json").read_bytes() == written
    other = Desktop(tmp_path, facts=replace(FACTS, novelty=replace(SEEN, threshold=3.0)))
    assert other.restored.plates[0].outdated
    other.end()


def test_without_it_the_fingerprint_is_that_of_earlier_versions(tmp_path: Path) -> None:
    settings: Settings = make_settings(tmp_path)
    assert fingerprint(settings, FACTS) != fingerprint(settings, KNOWING)
    assert fingerprint(settings, KNOWING) == fingerprint(settings, replace(FACTS, novelty=replace(SEEN)))


def test_a_result_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    result = published(tmp_path, (1, 2), FACTS).result()
    for name in ("nearest", "interval", "disagreeing_sites", "novelty"):
        del result["prediction"][name]
    for site in result["site_results"]:
        del site["novelty"]
    found = WellResult.model_validate_json(json.dumps(result))
    assert found.prediction is not None
    assert (found.prediction.first, found.prediction.interval) == ("much_DNA", None)
    assert well_words.verdict(found) == ("much_DNA", f"{found.prediction.probabilities['much_DNA']:.2f}")
    assert "2 of 2 sites agree" in well_words.support(found)


# ---- in words


def test_the_page_names_no_class_for_an_unlike_well(tmp_path: Path) -> None:
    found = WellResult.model_validate(published(tmp_path, (30, 31)).result())
    assert well_words.verdict(found) == ("unlike anything seen", "")
    words = well_words.support(found)
    assert words.startswith("nearest much_DNA 0.9")
    assert "distance 9.83, the threshold is 2" in words
    assert "2 of 2 sites agree" in words


def test_the_page_says_the_interval(tmp_path: Path) -> None:
    found = WellResult.model_validate(published(tmp_path, (1, 2)).result())
    assert isinstance(found.prediction, PredictionEntry)
    assert found.prediction.interval is not None
    assert well_words.interval(found).startswith("95 % interval over the sites 0.9")
    assert well_words.novelty(found) == ""


# ---- through the spine


def test_through_the_spine_a_well_brighter_than_any_seen_is_unlike(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, {"expect": {"sites_per_well": 1, "pixel_size_um": 1.196}})
    seen = Novelty(
        np.full((1, 5), 1000.0), np.eye(5) / 300, threshold=2.0, false_alarm_rate=0.05, fitted=9, held_out=19
    )

    def device(_settings: Settings, telemetry: Telemetry) -> FakeDevice:
        made = FakeDevice(telemetry)
        made.facts = replace(made.facts, novelty=seen)
        return made

    images = settings.watch.directory / "P1__a1" / "Images"
    images.mkdir(parents=True)
    for row, level in ((2, 1000), (3, 9000)):
        for channel in range(1, 6):
            pixels = np.random.default_rng(channel).integers(level - 200, level + 200, (64, 64)).astype(np.uint16)
            write_tiff(images / f"r{row:02d}c03f01p01-ch{channel}sk1fk1fl1.tiff", pixels)
    spine = Spine(settings, Clock(), finite=True, open_device=device)
    spine.process()
    folder = settings.results.directory / "P1" / "a1" / "wells"
    labels = {
        stem: json.loads((folder / f"{stem}.json").read_bytes())["prediction"]["label"] for stem in ("B03", "C03")
    }
    assert labels["B03"] != "unlike"
    assert labels["C03"] == "unlike"
