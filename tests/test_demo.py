"""The demonstration: what it may remove, what it plants, and what it makes of what comes out."""

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from hcs_daemon.config import load_settings
from hcs_daemon.demo.findings import (
    Outcome,
    Planted,
    checks_in_words,
    doubts_of,
    read_outcome,
    striking_well,
    throughput,
    verdict_rows,
)
from hcs_daemon.demo.story import (
    ADDED,
    MARK,
    SPOILS,
    choose_spoils,
    imaged_wells,
    last_words,
    plane_name,
    prepare,
    run_demo,
    spoiled_wells,
    write_settings,
)
from hcs_daemon.errors import FolderError, SettingsError
from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.plate import plate_wells
from hcs_daemon.simulate.layout import Role, WellPlan, plan_compounds, plan_plate

# ---- the folder


def test_an_empty_or_new_folder_is_taken(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "new" / "one"):
        stage = prepare(folder)
        assert stage.incoming.is_dir()
        assert (folder / MARK).is_file()


def test_a_folder_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(SettingsError, match="was not made by a demonstration"):
        prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingsError):
        prepare(tmp_path / "file")
    with pytest.raises(FolderError):
        prepare(tmp_path / "file" / "below")


def test_what_an_earlier_demonstration_made_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    stage = prepare(tmp_path / "demo")
    (stage.incoming / "old.tiff").write_bytes(b"old")
    stage.config.write_text("old")
    (stage.folder / "thesis.txt").write_text("mine")
    prepare(stage.folder)
    assert list(stage.incoming.iterdir()) == []
    assert not stage.config.exists()
    assert (stage.folder / "thesis.txt").read_text() == "mine"


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "plate.tiff").write_bytes(b"mine")
    stage = prepare(tmp_path / "demo")
    stage.results.symlink_to(tmp_path / "archive")
    prepare(stage.folder)
    assert not stage.results.exists()
    assert (tmp_path / "archive" / "plate.tiff").read_bytes() == b"mine"


def test_its_settings_are_settings(tmp_path: Path) -> None:
    stage = prepare(tmp_path)
    write_settings(stage, 9999, "demo")
    settings = load_settings(stage.config)
    assert settings.watch.directory == stage.incoming
    assert settings.results.directory == stage.results
    assert settings.model.package == "demo"
    assert settings.http.port == 9999


def test_the_last_error_explains_a_daemon_that_ended(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    log.write_text('{"event": "a", "level": "error"}\n{"event": "b", "level": "info"}\n')
    assert '"a"' in last_words(log)
    log.write_text("model package demo: damaged\ncopy it again\n")
    assert last_words(log) == "copy it again"
    log.write_text("")
    assert last_words(log) == "nothing"


# ---- what is planted


def test_five_treated_wells_lose_a_plane_each_in_another_way() -> None:
    plans = plan_plate(96, 2026, "DEMO")
    spoils = choose_spoils(plans)
    assert Counter(reason for reason, _ in spoils.values()) == Counter(reason for reason, _, _ in SPOILS)
    spoiled = set(spoiled_wells(plans, spoils))
    assert len(spoiled) == len(SPOILS)
    assert {plan.role for plan in plans if plan.position.name in spoiled} == {Role.TREATMENT}


def test_the_edge_of_a_large_plate_is_not_imaged() -> None:
    assert len(imaged_wells(24)) == 24
    inner = imaged_wells(96)
    assert len(inner) == 60
    assert (inner[0].name, inner[-1].name) == ("B02", "G11")


def test_planes_are_named_as_the_instrument_names_them() -> None:
    (plan, *_) = plan_plate(96, 0, "DEMO")
    reading = Harmony().read_name("DEMO", PurePosixPath(plane_name(plan, 3)))
    assert reading.address is not None
    assert (reading.address.position, reading.address.site, reading.address.channel) == (plan.position, 1, "3")


# ---- what is made of it


PLANS = plan_compounds(
    plate_wells(6), [("DMSO", 0.0), ("REF-MITO", 30.0), ("REF-MITO", 0.3), ("REF-MITO", 0.1), ("REF-ACTIN", 30.0)]
)[:5]
"""A control, then effects of 1, 0.5, 0.1 in Mito, and 1 in AGP: A01, A02, A03, B01, B02."""


def result(label: str, largest: str = "Mito", probability: float = 0.9) -> dict[str, Any]:
    shares = {"AGP": 0.1, "Mito": 0.1} | {largest: 0.9}
    return {
        "status": "complete",
        "prediction": {"label": label, "probabilities": {label: probability}},
        "explanation": {"sites": [{"channel_shapley": shares, "checks": {"passed": largest == "Mito"}}]},
        "inputs": [{}] * 5,
        "timing": {
            "first_plane_at": "2026-01-01T12:00:00Z",
            "published_at": "2026-01-01T12:00:05Z",
            "latency_s": probability,
        },
    }


WELLS: dict[str, dict[str, Any]] = {
    "A01": result("control"),
    "A02": result("mito_fragmented", probability=0.99),
    "A03": result("mito_fragmented", largest="AGP"),
    "B01": result("control"),
    "B02": result("actin_stress", largest="AGP", probability=0.8),
}
OUTCOME = Outcome(WELLS, [], 5, None)


def planted(plans: list[WellPlan] = PLANS, spoiled: frozenset[str] = frozenset()) -> Planted:
    return Planted(plans, spoiled, Counter())


def test_the_plans_are_what_the_tests_below_say() -> None:
    assert [plan.position.name for plan in PLANS] == list(WELLS)
    assert [plan.class_name for plan in PLANS] == [
        "control",
        "mito_fragmented",
        "mito_fragmented",
        "control",
        "actin_stress",
    ]


def test_verdicts_are_counted_by_phenotype_and_strength() -> None:
    rows = {row[0]: row[1:] for row in verdict_rows(PLANS, OUTCOME)}
    #                                wells right  none  weak medium strong  channel first
    assert rows["nothing"] == ["1", "1/1", "1/1", "-", "-", "-", "-"]
    assert rows["mito_fragmented"] == ["3", "3/3", "-", "1/1", "1/1", "1/1", "1/2"]
    assert rows["actin_stress"] == ["1", "1/1", "-", "-", "-", "1/1", "1/1"]
    assert rows["er_stress"] == ["0", "-", "-", "-", "-", "-", "-"]


def test_wells_without_a_verdict_are_not_counted() -> None:
    outcome = replace(OUTCOME, wells=WELLS | {"A02": result("control") | {"prediction": None}})
    rows = {row[0]: row[1:] for row in verdict_rows(PLANS, outcome)}
    assert rows["mito_fragmented"][:2] == ["2", "2/2"]


def test_the_most_certain_right_verdict_is_looked_at_first() -> None:
    assert striking_well(planted(), OUTCOME) == "A02"
    wrong = replace(OUTCOME, wells={well: result("control") for well in WELLS})
    assert striking_well(planted(), wrong) == "A01"


def test_explanations_that_failed_their_checks_are_not_hidden() -> None:
    unexplained = replace(OUTCOME, wells=WELLS | {"A01": result("control") | {"explanation": None}})
    assert checks_in_words(OUTCOME).startswith("5 wells; 3 explanations passed")
    assert checks_in_words(unexplained).startswith("4 wells; 2 explanations passed")


def test_speed_is_that_of_the_results_own_times() -> None:
    speed, latency = throughput(OUTCOME)
    assert "5.0 planes/s, 1.0 wells/s" in speed
    assert "0.9 s" in latency


def test_a_story_that_went_as_told_leaves_no_doubt() -> None:
    assert doubts_of(planted(), OUTCOME) == []


@pytest.mark.parametrize(
    ("changed", "doubt"),
    [
        ({"wells": WELLS | {"A02": result("control")}}, "of 2 wells with a strong effect only 1"),
        ({"wells": WELLS | {"A01": result("er_stress")}}, "of 1 wells with no effect only 0"),
        ({"wells": WELLS | {"B01": result("control") | {"status": "partial"}}}, "well B01 is partial"),
        ({"wells": {well: WELLS[well] for well in ("A01", "A02", "A03", "B02")}}, "well B01 is absent"),
        ({"rejections": [{"reason": "blank"}]}, "1 files were rejected as blank, expected 0"),
        ({"broken": "line 3 is not a ledger line"}, "the ledger: line 3"),
    ],
)
def test_whatever_went_otherwise_is_said(changed: dict[str, Any], doubt: str) -> None:
    (said,) = doubts_of(planted(), replace(OUTCOME, **changed))
    assert doubt in said


def test_a_spoiled_well_must_be_rejected() -> None:
    told = planted(spoiled=frozenset({"A02"}))
    assert doubts_of(told, OUTCOME) == ["well A02 is complete, expected rejected"]
    rejected = result("", "Mito") | {"status": "rejected", "prediction": None}
    assert doubts_of(told, replace(OUTCOME, wells=WELLS | {"A02": rejected})) == []


def test_rejections_that_were_taken_back_do_not_stand(tmp_path: Path) -> None:
    lines = [
        {"path": "a.tiff", "reason": "truncated", "withdrawn": False},
        {"path": "b.tiff", "reason": "blank", "withdrawn": False},
        {"path": "a.tiff", "reason": "truncated", "withdrawn": True},
    ]
    (tmp_path / "rejected.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [line["path"] for line in read_outcome(tmp_path).rejections] == ["b.tiff"]


# ---- the whole story


@pytest.mark.slow
def test_the_story_goes_as_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_demo(tmp_path / "demo", sleep=time.sleep, wells=24, speed=8.0)
    said = capsys.readouterr().out
    assert code == 0, said
    assert "24 wells: 19 complete, 0 partial, 5 rejected" in said
    outcome = read_outcome(tmp_path / "demo" / "results")
    assert Counter(line["reason"] for line in outcome.rejections) == Counter([*(spoil[0] for spoil in SPOILS), *ADDED])
    assert all(line["hint"] in said for line in outcome.rejections)
    assert outcome.pictures == 24
