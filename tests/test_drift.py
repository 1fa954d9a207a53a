"""How far a plate's control wells moved, and how plates ended."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from hcs_daemon.publish.drift import CONTROLS, DRIFTED, control_drift
from hcs_daemon.publish.schemas import ContentEntry, WellResult
from hcs_daemon.records import ExpectedPlate
from hcs_daemon.vocabulary import PlateState
from pictured import NOON, site_result, well_result
from wells import Desktop, closed_well, plate_news, predicted

FEATURES = 16
"""Unless a test says otherwise."""


def well(place: int, embedding: ArrayLike, role: str = "control", time: int = 1) -> WellResult:
    """The well whose last plane came in this place of the acquisition."""
    came = NOON + timedelta(minutes=place)
    timing = well_result().timing.model_copy(update={"last_plane_at": came})
    site = site_result(1).model_copy(update={"embedding": np.asarray(embedding).tolist()})
    content = ContentEntry(compound="DMSO", concentration_um=0.0, role=role)
    return well_result(well=f"A{place:02}", time=time, timing=timing, site_results=[site], content=content)


def plate(wells: int, shift: float, seed: int, features: int = FEATURES) -> list[WellResult]:
    """Control wells that vary by 1 in every feature; the later half by `shift` of their scatter further on."""
    chance = np.random.default_rng(seed)
    apart = shift * np.sqrt(features) * np.eye(features)[0]
    points = [chance.normal(size=features) + (apart if place >= wells // 2 else 0) for place in range(wells)]
    return [well(place, point) for place, point in enumerate(points)]


@pytest.mark.parametrize("wells", [CONTROLS, 32])
@pytest.mark.parametrize("features", [1, 2, 48])
def test_controls_that_stay_are_as_seldom_said_to_drift_as_is_promised(wells: int, features: int) -> None:
    found = np.array([control_drift(plate(wells, 0.0, seed, features)) for seed in range(400)])
    assert (found > 0).mean() < 0.025  # one in a hundred is promised


@pytest.mark.parametrize("shift", [2.0, 5.0])
def test_controls_that_move_are_seen_to_by_as_much(shift: float) -> None:
    found = [control_drift(plate(24, shift, seed)) for seed in range(20)]
    assert np.median(found) == pytest.approx(shift, rel=0.15)


def test_what_counts_is_when_a_well_came_and_not_where_it_stands() -> None:
    wells = plate(16, 5.0, seed=1)
    assert control_drift(reversed(wells)) == control_drift(wells) > DRIFTED


def test_wells_that_are_no_controls_and_later_time_points_say_nothing() -> None:
    wells = plate(16, 0.0, seed=1)
    treated = [well(50 + place, np.full(FEATURES, 100.0), role="treatment") for place in range(9)]
    later = [well(50 + place, np.full(FEATURES, 100.0), time=2) for place in range(9)]
    assert control_drift([*wells, *treated, *later]) == control_drift(wells)
    assert control_drift([each.model_copy(update={"content": None}) for each in plate(16, 9.0, seed=1)]) == 0


def test_too_few_controls_and_controls_that_are_all_the_same_say_nothing() -> None:
    assert control_drift(plate(CONTROLS - 1, 9.0, seed=1)) == 0
    assert control_drift([well(place, np.zeros(FEATURES)) for place in range(CONTROLS)]) == 0


def acquired(desktop: Desktop, levels: Sequence[float], state: PlateState = PlateState.FINISHED) -> None:
    """A plate of one row, its wells one after another; levels: the embedding of each."""
    expected = ExpectedPlate("settings", sites=1, wells=len(levels))
    desktop.tell(plate_news(expected=expected))
    for place, level in enumerate(levels):
        came = NOON + timedelta(minutes=place)
        closed = closed_well(f"A{place + 1:02}", last_plane_at=came)
        desktop.tell(closed, predicted(closed, 1, embedding=np.full(3, level, np.float32)))
    desktop.tell(plate_news(state, expected=expected))
    desktop.pass_time(60.0)


def controls(folder: Path) -> dict[str, dict[str, object]]:
    layout = folder / "layout.csv"
    rows = [f"A{column:02},DMSO,0,control" for column in range(1, 13)]
    layout.write_text("\n".join(["well,compound,concentration_um,role", *rows]), "utf-8")
    return {"expect": {"layout": str(layout)}, "explain": {"policy": "none"}}


def test_a_plate_whose_controls_drift_is_measured_and_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desktop = Desktop(tmp_path, controls(tmp_path))
    acquired(desktop, [1.0, 1.1, 0.9, 1.0, 1.1, 0.9, 3.0, 3.1, 2.9, 3.0, 3.1, 2.9])
    assert desktop.metrics()["hcs_control_drift"] > DRIFTED
    assert capsys.readouterr().out.count("plate.drifts") == 1


def test_controls_that_stay_are_not_said_to_drift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desktop = Desktop(tmp_path, controls(tmp_path))
    acquired(desktop, [1.0, 1.1, 0.9] * 4)
    assert desktop.metrics()["hcs_control_drift"] < DRIFTED
    assert "plate.drifts" not in capsys.readouterr().out


@pytest.mark.parametrize(("expected", "status"), [(2, "complete"), (3, "partial")])
def test_a_plate_is_counted_once_it_is_finished_by_whether_all_wells_came(
    tmp_path: Path, expected: int, status: str
) -> None:
    desktop = Desktop(tmp_path, {"explain": {"policy": "none"}})
    news = ExpectedPlate("settings", sites=1, wells=expected)
    desktop.tell(plate_news(expected=news))
    for name in ("A01", "A02"):
        closed = closed_well(name)
        desktop.tell(closed, predicted(closed, 1))
    desktop.pass_time(60.0)
    counted = {key: value for key, value in desktop.metrics().items() if key.startswith("hcs_plates_finished")}
    assert sum(counted.values()) == 0
    desktop.tell(plate_news(PlateState.FINISHED, expected=news))
    desktop.pass_time(60.0)
    assert desktop.metrics()[f'hcs_plates_finished_total{{status="{status}"}}'] == 1
    again = desktop.restart(tmp_path, {"explain": {"policy": "none"}})
    again.tell(plate_news(PlateState.FINISHED, expected=news))
    again.pass_time(60.0)
    assert again.metrics()[f'hcs_plates_finished_total{{status="{status}"}}'] == 0


def test_a_well_that_lacks_a_site_makes_its_plate_partial(tmp_path: Path) -> None:
    desktop = Desktop(tmp_path, {"explain": {"policy": "none"}})
    closed = closed_well("A01", expected_sites=2, missing=(2,))
    news = ExpectedPlate("settings", sites=2, wells=1)
    desktop.tell(plate_news(expected=news), closed, predicted(closed, 1))
    desktop.tell(plate_news(PlateState.FINISHED, expected=news))
    desktop.pass_time(60.0)
    assert desktop.metrics()['hcs_plates_finished_total{status="partial"}'] == 1
