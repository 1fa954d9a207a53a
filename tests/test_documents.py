"""What is written of a well, a plate and a rejection, and that it can be read back as it was."""

import hashlib
import json
import math
from dataclasses import replace
from datetime import UTC
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import make_settings
from hcs_daemon.levels import BIN_EDGES
from hcs_daemon.plate import PROJECTION_Z, PlaneId, SiteId
from hcs_daemon.publish.documents import (
    DEMONSTRATION,
    WellDraft,
    content,
    draft_content,
    fingerprint,
    input_uses,
    is_finite,
    plate_file,
    predictions,
    rejection_line,
    rejection_record,
    says,
    unusable,
    well_id,
    well_result,
    with_content,
)
from hcs_daemon.publish.schemas import ContentEntry, PlateFile, RejectionLine, WellResult
from hcs_daemon.publish.verdict import judge
from hcs_daemon.records import (
    BlockSteps,
    ChannelDepth,
    ChannelFacts,
    ChannelImage,
    ExpectedPlate,
    InputUse,
    LackingPlane,
    ModelFacts,
    PlaneConditions,
    PlaneEvidence,
    PlaneQuality,
    Prediction,
    Randomisation,
    Rejection,
    SiteWanted,
    WellClosed,
)
from hcs_daemon.vocabulary import PlateState, Used, Verdict, WellStatus
from wells import (
    FACTS,
    NOON,
    attribution_of,
    closed_well,
    plate_news,
    predicted,
    rejection,
)
from wells import well_id as a_well


def draft_of(closed: WellClosed, failed: dict[int, str] | None = None, **changed: Any) -> WellDraft:
    failed = failed or {}
    found = {site: predicted(closed, site) for site in closed.ready if site not in failed}
    return replace(WellDraft(closed, judge(FACTS, found, 0.9), found, failed), **changed)


def result_of(draft: WellDraft, facts: ModelFacts = FACTS, revision: int = 1) -> WellResult:
    return well_result(
        draft, facts, "f" * 64, revision=revision, published_at=NOON, latency_s=0.8124, projection="max", inside=TAXOL
    )


TAXOL = ContentEntry(compound="Taxol", concentration_um=10.0, role="treatment")


def written(draft: WellDraft, **arguments: Any) -> Any:
    return json.loads(result_of(draft, **arguments).text())


def explained(**changed: Any) -> Any:
    closed = closed_well()
    wanted = SiteWanted(predicted(closed, 1).site, closed.ready[1], "much_DNA", "control")
    return attribution_of(wanted, **changed)


# ---- a well


@pytest.mark.parametrize(
    ("closed", "failed", "status"),
    [
        (closed_well(sites=(1, 2)), {}, WellStatus.COMPLETE),
        (closed_well(sites=(1,), expected_sites=2, missing=(2,), pending=True), {}, WellStatus.PARTIAL),
        (closed_well(sites=(1,), expected_sites=2, rejected=(2,)), {}, WellStatus.PARTIAL),
        (closed_well(sites=(1, 2)), {2: "not finite"}, WellStatus.PARTIAL),
        (closed_well(sites=(), expected_sites=1, missing=(1,), pending=True), {}, WellStatus.PARTIAL),
        (closed_well(sites=(), expected_sites=1, rejected=(1,)), {}, WellStatus.REJECTED),
        (closed_well(sites=(1,)), {1: "not finite"}, WellStatus.REJECTED),
    ],
)
def test_status_says_how_much_was_analysed(closed: WellClosed, failed: dict[int, str], status: WellStatus) -> None:
    found = written(draft_of(closed, failed))
    assert found["status"] == status
    assert (found["prediction"] is None) == (found["sites"]["analysed"] == 0)


def test_a_result_has_every_field_of_the_contract() -> None:
    found = written(draft_of(closed_well(), attributions=(explained(),)))
    assert found["schema"] == "hcs-daemon/well-result/1"
    assert (found["plate"], found["acquisition"], found["well"]) == ("P1", "a1", "B03")
    assert (found["revision"], found["supersedes"]) == (1, None)
    assert found["sites"].items() >= {"expected": 1, "analysed": 1, "missing": [], "rejected": []}.items()
    assert found["channels"] == ["DNA", "ER", "RNA", "AGP", "Mito"]
    assert found["prediction"].keys() >= {"label", "probabilities", "site_agreement"}
    assert found["explanation"].keys() >= {"method", "target", "reference", "sites"}
    (site,) = found["explanation"]["sites"]
    assert site["channel_shapley"]["DNA"] == 3.5
    assert site["channel_spread"]["DNA"] == 0.2
    assert sum(site["channel_shapley"].values()) == site["change"]["to"] - site["change"]["from"]
    assert site["checks"] == {
        "completeness_error": 0.003,
        "efficiency_error": 1e-6,
        "deletion_auc": 0.2,
        "random_deletion_auc": 0.5,
        "passed": True,
        "insertion_auc": 0.8,
        "random_insertion_auc": 0.5,
        "intensity_deletion_auc": 0.4,
        "noise_sensitivity": 0.1,
        "on_cells": 0.7,
        "cells_area": 0.6,
        "failed": [],
    }
    assert found["quality"].keys() >= {"focus", "saturated_fraction", "flags"}
    assert found["model"].items() >= {"name": "sums", "version": "1", "sha256": "5" * 64, "device": "cpu"}.items()
    (dna, *_) = found["inputs"]
    assert (
        dna.items()
        >= {
            "path": "P1__a1/Images/B03_s1_c1.tiff",
            "size_bytes": 8193,
            "mtime_ns": 1,
            "channel": "DNA",
            "site": 1,
            "z": 1,
            "observed_bits": 15,
            "min": 100,
            "max": 30001,
            "used": "analysed",
        }.items()
    )
    assert len(dna["sha256"]) == 64
    assert found["timing"] == {
        "first_plane_at": "2026-01-01T12:00:00Z",
        "last_plane_at": "2026-01-01T12:00:00Z",
        "published_at": "2026-01-01T12:00:00Z",
        "latency_s": 0.812,
    }
    assert found["warnings"] == []
    assert found["content"] == {"compound": "Taxol", "concentration_um": 10.0, "role": "treatment"}
    assert (found["projection"], found["flatfield"]) == ("max", "")


def test_what_was_taken_out_of_the_images_is_stated() -> None:
    found = written(draft_of(closed_well(flatfield="Harmony's profile of each channel")))
    assert found["flatfield"] == "Harmony's profile of each channel"


def test_the_planes_that_a_site_lacks_are_named_in_order() -> None:
    lacking = (LackingPlane(3, "ER", 2), LackingPlane(2, "RNA", 1, refused=True), LackingPlane(3, "ER", 1))
    closed = closed_well(expected_sites=3, missing=(3,), rejected=(2,), pending=True, lacking=lacking)
    assert written(draft_of(closed))["sites"]["lacking"] == [
        {"site": 2, "channel": "RNA", "z": 1, "refused": True},
        {"site": 3, "channel": "ER", "z": 1, "refused": False},
        {"site": 3, "channel": "ER", "z": 2, "refused": False},
    ]


def test_a_site_whose_images_are_projections_has_the_median_quality_of_their_planes() -> None:
    closed = closed_well()
    use = closed.inputs[0]
    steps = tuple(
        replace(
            use,
            plane=replace(
                use.plane,
                id=replace(use.plane.id, z=z),
                measures=replace(use.plane.measures, focus=focus, saturated_fraction=z / 10),
            ),
        )
        for z, focus in ((1, 0.5), (2, 0.9), (3, math.nan))
    )
    (site,) = written(draft_of(replace(closed, inputs=(*steps, *closed.inputs[1:]))))["site_results"]
    assert site["focus"]["DNA"] == 0.7
    assert site["saturated_fraction"]["DNA"] == 0.2
    assert site["focus"]["ER"] == 0.2


def test_the_key_of_an_image_follows_from_the_result_as_the_manual_says() -> None:
    closed = closed_well()
    first = closed.inputs[0].plane
    pages = tuple(
        replace(first, id=replace(first.id, z=z), source=replace(first.source, path=f"x.ome.tif#{page}"))
        for z, page in ((1, 3), (2, 4))
    )
    image = ChannelImage(pages, "max", "c" * 64)
    closed = replace(
        closed,
        ready={1: (image.key, *closed.ready[1][1:])},
        inputs=(*(InputUse(page, Used.ANALYSED) for page in pages), *closed.inputs[1:]),
    )
    found = written(draft_of(closed))
    (key, *others) = found["site_results"][0]["key"]
    inputs = [entry for entry in found["inputs"] if entry["channel"] == "DNA"]
    lines = ["max", "c" * 64, *(f"{entry['sha256']}#{entry['path'].partition('#')[2]}" for entry in inputs)]
    assert key == hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert others == [entry["sha256"] for entry in found["inputs"] if entry["channel"] != "DNA"]


def test_a_later_revision_names_the_one_before() -> None:
    found = written(draft_of(closed_well()), revision=3)
    assert (found["revision"], found["supersedes"]) == (3, 2)


def test_a_demonstration_model_says_so_first_in_every_result() -> None:
    facts = replace(FACTS, demonstration=True)
    found = written(draft_of(closed_well(warnings=("something else",))), facts=facts)
    assert found["warnings"] == [DEMONSTRATION, "something else"]
    assert found["model"]["demonstration"] is True


def test_what_its_package_warns_of_stands_in_every_result() -> None:
    facts = replace(FACTS, warnings=("it does no better than guessing",))
    found = written(draft_of(closed_well(warnings=("something else",))), facts=facts)
    assert found["warnings"] == ["the model package warns: it does no better than guessing", "something else"]


def test_a_site_of_which_the_model_gave_nothing_is_named_and_its_planes_were_not_analysed() -> None:
    found = written(draft_of(closed_well(sites=(1, 2)), {2: "the model's output is not finite"}))
    assert found["sites"]["failed"] == [2]
    assert found["warnings"] == ["site 2 could not be analysed: the model's output is not finite"]
    assert {entry["site"]: entry["used"] for entry in found["inputs"]} == {1: "analysed", 2: "incomplete_site"}
    assert [entry["site"] for entry in found["site_results"]] == [1]


@pytest.mark.parametrize("field", ["logits", "embedding"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_prediction_that_is_not_finite_is_unusable(field: str, bad: float) -> None:
    prediction = predicted(closed_well(), 1)
    assert unusable(prediction) is None
    values = getattr(prediction, field).copy()
    values[0] = bad
    assert unusable(replace(prediction, **{field: values})) == "the model's output is not finite"
    assert unusable(replace(prediction, failure="the device said so")) == "the device said so"


@pytest.mark.parametrize(
    "bad",
    [
        {"contrast": math.nan},
        {"reference_contrast": math.inf},
        {"channel_shapley": {"DNA": math.nan}},
        {"channel_spread": {"DNA": math.nan}},
        {"channel_error": {"DNA": math.nan}},
        {"interactions": {("DNA", "ER"): math.inf}},
    ],
)
def test_an_explanation_that_is_not_finite_is_known(bad: dict[str, Any]) -> None:
    assert is_finite(explained())
    assert not is_finite(explained(**bad))


def test_the_largest_interactions_of_channels_are_written_the_largest_first() -> None:
    pairs = list(combinations(["DNA", "ER", "RNA", "AGP", "Mito", "Actin"], 2))
    many = {pair: (-1) ** number * float(number) for number, pair in enumerate(pairs)}
    (site,) = written(draft_of(closed_well(), attributions=(explained(interactions=many),)))["explanation"]["sites"]
    assert site["channel_interactions"][0] == {"channels": ["Mito", "Actin"], "logits": 14.0}
    assert [abs(entry["logits"]) for entry in site["channel_interactions"]] == [14 - rank for rank in range(10)]


def test_sampled_shares_are_written_with_their_error_and_exact_ones_without() -> None:
    for error in ({"DNA": 0.25}, None):
        found = written(draft_of(closed_well(), attributions=(explained(channel_error=error),)))
        assert found["explanation"]["sites"][0]["channel_error"] == error


def test_a_check_that_is_not_finite_is_null() -> None:
    checks = replace(explained().checks, completeness_error=math.nan, passed=False)
    found = written(draft_of(closed_well(), attributions=(explained(checks=checks, channel_spread=None),)))
    (site,) = found["explanation"]["sites"]
    assert site["checks"]["completeness_error"] is None
    assert site["checks"]["passed"] is False
    assert site["channel_spread"] is None


def test_quality_is_the_median_over_the_analysed_planes() -> None:
    closed = closed_well(sites=(1, 2, 3))
    bright = tuple(
        replace(use, plane=replace(use.plane, measures=replace(use.plane.measures, saturated_fraction=0.02)))
        if use.plane.channel == "ER"
        else use
        for use in closed.inputs
    )
    found = written(draft_of(replace(closed, inputs=bright)))["quality"]
    assert found["saturated_fraction"]["ER"] == 0.02
    assert found["focus"] == pytest.approx({"DNA": 0.1, "ER": 0.2, "RNA": 0.3, "AGP": 0.4, "Mito": 0.5})


# ---- the same, or something new


def test_what_is_said_of_the_same_bytes_is_the_same_whenever_it_is_said() -> None:
    draft = draft_of(closed_well())
    later = well_result(draft, FACTS, "f" * 64, revision=4, published_at=NOON.replace(hour=13), latency_s=99.0)
    assert content(later) == draft_content(draft, FACTS, "f" * 64)


@pytest.mark.parametrize(
    "changed",
    [
        closed_well(edition=2),
        closed_well(sites=(1, 2)),
        closed_well(expected_sites=2, missing=(2,), pending=True),
        closed_well(inputs=closed_well().inputs[1:]),
        closed_well(lacking=(LackingPlane(1, "ER", 2),)),
    ],
)
def test_other_bytes_or_other_sites_are_something_new(changed: WellClosed) -> None:
    first = draft_content(draft_of(closed_well()), FACTS, "f" * 64)
    assert draft_content(draft_of(changed), FACTS, "f" * 64) != first


def test_what_is_in_the_well_makes_a_revision_of_the_same_and_nothing_else() -> None:
    first = result_of(draft_of(closed_well()))
    next_ = with_content(first, None, revision=2, published_at=NOON.replace(hour=13))
    assert content(next_) == content(first)
    assert (next_.content, next_.revision, next_.supersedes) == (None, 2, 1)
    assert next_.timing == first.timing.model_copy(update={"published_at": NOON.replace(hour=13)})
    assert next_.explanation == first.explanation
    assert next_.inputs == first.inputs


def test_another_model_or_other_expectations_are_something_new() -> None:
    draft = draft_of(closed_well())
    first = draft_content(draft, FACTS, "f" * 64)
    assert draft_content(draft, replace(FACTS, sha256="6" * 64), "f" * 64) != first
    assert draft_content(draft, FACTS, "e" * 64) != first


def test_the_fingerprint_is_of_what_decides_a_result(tmp_path: Path) -> None:
    plain = make_settings(tmp_path)
    first = fingerprint(plain, FACTS)
    expect = plain.expect.model_dump()
    assert fingerprint(make_settings(tmp_path, {"expect": {**expect, "well_timeout_s": 5.0}}), FACTS) == first
    assert fingerprint(make_settings(tmp_path, {"results": {"pictures": "hits"}}), FACTS) == first
    assert fingerprint(make_settings(tmp_path, {"expect": {**expect, "layout": "/data/P1.csv"}}), FACTS) == first
    assert fingerprint(make_settings(tmp_path, {"expect": {**expect, "projection": "mean"}}), FACTS) != first
    assert fingerprint(make_settings(tmp_path, {"expect": {**expect, "flatfield": "instrument"}}), FACTS) != first
    assert fingerprint(plain, replace(FACTS, device="cuda:0")) == first
    assert fingerprint(make_settings(tmp_path, {"expect": {**expect, "bit_depth": 12}}), FACTS) != first
    assert fingerprint(make_settings(tmp_path, {"explain": {"method": "occlusion"}}), FACTS) != first
    assert fingerprint(make_settings(tmp_path, {"explain": {"policy": "all"}}), FACTS) == first
    assert fingerprint(plain, replace(FACTS, sha256="6" * 64)) != first


# ---- and back


def test_a_result_gives_back_the_planes_and_the_well(tmp_path: Path) -> None:
    closed = closed_well("AF48", sites=(1, 2), time=2)
    closed = replace(closed, inputs=(replace(closed.inputs[0], used=Used.OTHER_Z), *closed.inputs[1:]))
    back = WellResult.model_validate_json(result_of(draft_of(closed)).text())
    assert well_id(back) == closed.well == a_well("AF48", 2)
    assert input_uses(back) == closed.inputs


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SHARES = st.floats(0, 1)
COUNTS = st.integers(0, 1 << 60)
BLOCKS = st.builds(BlockSteps, bits=COUNTS, edges=COUNTS, edge_sum=FLOATS, others=COUNTS, other_sum=FLOATS)
EVIDENCE = st.builds(
    PlaneEvidence,
    pixels=COUNTS,
    lowest=COUNTS,
    highest=COUNTS,
    ored=COUNTS,
    levels=COUNTS,
    step=COUNTS,
    gaps=COUNTS,
    comb_fraction=SHARES,
    zero_fraction=SHARES,
    full_fraction=SHARES,
    at_top=COUNTS,
    beneath=COUNTS,
    at_bottom=COUNTS,
    above=COUNTS,
    byte_order=st.none() | FLOATS,
    wrap=FLOATS,
    grid=FLOATS,
    blocks=st.lists(BLOCKS, max_size=3).map(tuple),
    first_bin=COUNTS,
    histogram=st.lists(COUNTS, max_size=5).map(tuple),
)
QUALITY = st.builds(
    PlaneQuality,
    background=FLOATS,
    noise=FLOATS,
    foreground_fraction=SHARES,
    bright=FLOATS,
    spots=COUNTS,
    debris_fraction=SHARES,
    unevenness=FLOATS,
    power_slope=st.none() | FLOATS,
)
CONDITIONS = st.builds(
    PlaneConditions,
    taken_at=st.none() | st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    temperature_c=st.none() | FLOATS,
)


@given(st.none() | EVIDENCE, st.none() | QUALITY, st.none() | CONDITIONS)
def test_what_was_measured_of_a_plane_comes_back_to_the_last_bit(
    evidence: PlaneEvidence | None, quality: PlaneQuality | None, conditions: PlaneConditions | None
) -> None:
    closed = closed_well()
    plane = closed.inputs[0].plane
    measures = replace(plane.measures, evidence=evidence, quality=quality, oddities=("floor", "jpeg_grid"))
    plane = replace(plane, measures=measures, conditions=conditions)
    closed = replace(closed, inputs=(replace(closed.inputs[0], plane=plane), *closed.inputs[1:]))
    back = WellResult.model_validate_json(result_of(draft_of(closed)).text())
    assert input_uses(back) == closed.inputs


@given(EVIDENCE)
def test_what_the_pixels_of_a_rejected_plane_said_comes_back_to_the_last_bit(evidence: PlaneEvidence) -> None:
    line = rejection_line(rejection(evidence=evidence)).line()
    assert rejection_record(RejectionLine.model_validate_json(line)) == rejection(evidence=evidence)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=6, max_size=6))
def test_logits_and_embeddings_come_back_to_the_last_bit(values: list[float]) -> None:
    closed = closed_well()
    prediction = predicted(closed, 1, values, embedding=np.array(values[::-1], np.float32))
    draft = WellDraft(closed, judge(FACTS, {1: prediction}, 0.9), {1: prediction}, {})
    back = predictions(WellResult.model_validate_json(result_of(draft).text()))[prediction.site]
    assert isinstance(back, Prediction)
    assert back.key == prediction.key
    assert back.logits.tolist() == prediction.logits.tolist()
    assert back.embedding.tolist() == prediction.embedding.tolist()


@pytest.mark.parametrize(
    "found",
    [
        rejection(),
        rejection(withdrawn=True),
        rejection("stray.tiff", acquisition=None, plane=None, channel=None, sha256=None),
        rejection('new\nline "quoted" \\ …'),
        rejection("no name.tiff", plane=None, channel=None),
        rejection("projection.tiff", plane=PlaneId(SiteId(a_well(time=3), 1), "1", PROJECTION_Z)),
    ],
)
def test_a_rejection_is_one_line_and_comes_back_as_it_was(found: Rejection) -> None:
    line = rejection_line(found).line()
    assert b"\n" not in line
    assert rejection_record(RejectionLine.model_validate_json(line)) == found


def test_a_rejection_of_an_earlier_version_is_read() -> None:
    line = json.loads(rejection_line(rejection()).line())
    del line["evidence"]
    assert rejection_record(RejectionLine.model_validate_json(json.dumps(line))) == rejection()


def test_a_rejection_line_has_every_field_of_the_contract() -> None:
    assert (
        json.loads(rejection_line(rejection()).line()).items()
        >= {
            "schema": "hcs-daemon/rejection/1",
            "at": "2026-01-01T12:00:00Z",
            "path": "P1__a1/Images/bad.tiff",
            "sha256": "a" * 64,
            "reason": "bit_depth",
            "detail": "8-bit values multiplied by 257 in a 16-bit file",
            "hint": "export as 16-bit TIFF",
            "well": "B03",
            "site": 1,
            "channel": "DNA",
            "withdrawn": False,
        }.items()
    )


# ---- a plate


def test_a_plate_says_what_it_was_made_with_and_how_far_it_is(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    results = [result_of(draft_of(closed_well("B03")), revision=2), result_of(draft_of(closed_well("C01")))]
    found = plate_file(
        plate_news(PlateState.FINISHED, instrument_plate_id="BR-1"),
        settings,
        FACTS,
        results,
        opened_at=NOON,
        finished_at=NOON,
        contrast={"DNA": (1.234, 99.999)},
    )
    said = json.loads(found.text())
    assert said["state"] == "finished"
    assert said["finished_at"] == said["opened_at"] == "2026-01-01T12:00:00Z"
    assert said["expectations"]["bit_depth"] == 16
    assert said["settings"]["model"]["package"] == "demo"
    assert said["model"]["sha256"] == FACTS.sha256
    assert said["versions"].keys() == {"hcs_daemon", "python", "numpy"}
    assert said["bit_depth"]["DNA"] == {
        "declared": 16,
        "verdict": "undecided",
        "evidence": "the most seen are 15 bits",
        "confidence": 0.0,
        "planes": 0,
        "histogram": None,
        "noise_floor": None,
    }
    assert said["counts"]["accepted"] == 5
    assert said["wells"] == {"complete": 2, "partial": 0, "rejected": 0}
    assert said["verdicts"] == {"much_DNA": 2}
    assert said["revisions"] == 3
    assert said["instrument_plate_id"] == "BR-1"
    assert said["contrast"] == {"DNA": {"black": 1.23, "white": 100.0}}


def test_a_plate_says_what_became_of_the_model_with_random_weights(tmp_path: Path) -> None:
    found = Randomisation((0.5, math.nan), 0.25, 0.5, "it knows nothing")
    facts = replace(FACTS, randomisation=found)
    plate = plate_file(
        plate_news(), make_settings(tmp_path), facts, [], opened_at=NOON, finished_at=None, contrast=None
    )
    assert json.loads(plate.text())["randomisation"] == {
        "maps_alike": [0.5, None],
        "named": 0.25,
        "named_at_random": 0.5,
        "problem": "it knows nothing",
    }
    assert plate_said(tmp_path).randomisation is None


def plate_said(tmp_path: Path, **news: Any) -> PlateFile:
    return plate_file(
        plate_news(**news), make_settings(tmp_path), FACTS, [], opened_at=NOON, finished_at=None, contrast=None
    )


def test_a_plate_says_how_sure_a_channels_bit_depth_is_and_from_which_histogram(tmp_path: Path) -> None:
    depth = ChannelDepth(16, Verdict.CONSISTENT, "seen", 0.99, 45, tuple(range(len(BIN_EDGES) - 1)), 6.8)
    said = json.loads(
        plate_said(tmp_path, bit_depth={"DNA": depth, "ER": ChannelDepth(16, Verdict.UNDECIDED, "none")}).text()
    )
    assert said["bit_depth"]["DNA"] == {
        "declared": 16,
        "verdict": "consistent",
        "evidence": "seen",
        "confidence": 0.99,
        "planes": 45,
        "histogram": {"edges": list(BIN_EDGES), "counts": list(depth.histogram)},
        "noise_floor": 6.8,
    }
    assert said["bit_depth"]["ER"]["histogram"] is None


def test_a_plate_says_what_is_expected_and_how_each_channel_was_taken(tmp_path: Path) -> None:
    facts = ChannelFacts("1", "HOECHST 33342", 375.0, 456.0, 40.0, 1.196, "20x, NA 0.4", 16)
    said = json.loads(
        plate_said(
            tmp_path,
            expected=ExpectedPlate("metadata", 96, 69120, 9, 2, 5, 8, 12),
            taken={"DNA": facts, "6": ChannelFacts("6")},
            flatfield="Harmony's profile of each channel",
            problem="no pixel size is known",
            warnings=("two channels have the same pixels",),
        ).text()
    )
    assert said["expected"] == {
        "source": "metadata",
        "wells": 96,
        "planes": 69120,
        "sites": 9,
        "time_points": 2,
        "z_steps": 5,
        "rows": 8,
        "columns": 12,
    }
    assert (said["expectations_from"], said["sites_per_well"]) == ("metadata", 9)
    assert said["channels"]["DNA"] == {
        "id": "1",
        "name": "HOECHST 33342",
        "excitation_nm": 375.0,
        "emission_nm": 456.0,
        "exposure_ms": 40.0,
        "pixel_size_um": 1.196,
        "objective": "20x, NA 0.4",
        "bit_depth": 16,
        "projection": "",
    }
    assert said["channels"]["6"]["exposure_ms"] is None
    assert said["flatfield"] == "Harmony's profile of each channel"
    assert said["problem"] == "no pixel size is known"
    assert said["warnings"] == ["two channels have the same pixels"]
    assert said["projection"] == "max"


METADATA = ExpectedPlate("metadata", wells=96, sites=9, rows=8, columns=12)


@pytest.mark.parametrize(
    ("news", "said"),
    [
        ({}, True),
        (
            {"expected": METADATA, "taken": {"DNA": ChannelFacts("1")}, "flatfield": "a profile", "problem": "none"},
            True,
        ),
        ({"expected": replace(METADATA, wells=None)}, True),
        ({"expected": replace(METADATA, wells=95)}, False),
        ({"expected": replace(METADATA, planes=4)}, False),
        ({"expected": ExpectedPlate("learned", wells=1)}, True),
        ({"taken": {"DNA": ChannelFacts("1", "DAPI")}}, False),
        ({"flatfield": "another"}, False),
        ({"problem": "another"}, False),
        ({"warnings": ("another",)}, False),
        ({"state": PlateState.FINISHED}, False),
    ],
)
def test_news_is_what_a_plates_file_does_not_say(news: dict[str, Any], said: bool, tmp_path: Path) -> None:  # noqa: FBT001 (a table)
    known = {"expected": METADATA, "taken": {"DNA": ChannelFacts("1")}, "flatfield": "a profile", "problem": "none"}
    written = plate_said(tmp_path, **known)
    nothing: dict[str, Any] = {"expected": ExpectedPlate("settings")}
    assert says(written, plate_news(**{**nothing, **news})) is said


def test_a_plates_file_of_an_earlier_version_is_not_news_for_what_it_could_not_say(tmp_path: Path) -> None:
    before = plate_said(tmp_path, expected=METADATA).model_copy(update={"expected": None})
    assert says(before, plate_news(expected=METADATA))


def test_results_and_plates_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    result = json.loads(result_of(draft_of(closed_well())).text())
    for added in ("content", "projection", "flatfield"):
        del result[added]
    del result["sites"]["lacking"]
    for added in ("quality", "evidence", "oddities", "conditions"):
        del result["inputs"][0][added]
    read = WellResult.model_validate_json(json.dumps(result))
    assert (read.content, read.projection, read.flatfield, read.sites.lacking) == (None, None, "", [])
    first = input_uses(read)[0].plane
    assert (first.measures.quality, first.measures.evidence, first.conditions) == (None, None, None)
    plate = json.loads(plate_said(tmp_path).text())
    for added in ("expected", "channels", "projection", "flatfield", "layout", "problem", "quality", "warnings"):
        del plate[added]
    for added in ("confidence", "planes", "histogram", "noise_floor"):
        del plate["bit_depth"]["DNA"][added]
    assert PlateFile.model_validate_json(json.dumps(plate)).channels == {}


def test_a_plate_that_acquires_again_has_no_end(tmp_path: Path) -> None:
    found = plate_file(
        plate_news(), make_settings(tmp_path), FACTS, [], opened_at=NOON, finished_at=NOON, contrast=None
    )
    assert found.finished_at is None
