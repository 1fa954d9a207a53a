"""When explaining falls behind: wells are published without, predictions go first, and all is made up for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from fakes import Clock, FakeDevice, SlowExplainer, make_settings, no_sleep
from hcs_daemon.pipeline import Device
from hcs_daemon.plate import SiteId
from hcs_daemon.publish.asking import AT_ONCE
from hcs_daemon.publish.documents import SHED
from hcs_daemon.publish.ledger import verify_ledger
from hcs_daemon.records import ExplainTask, SiteReturned, SiteWanted
from hcs_daemon.simulate.instrument import simulate_plate
from spine import Spine
from wells import Desktop, answered, closed_well, plate_news, predictions_of, site_of, well_id

EXPLAIN_S, MAX_WAIT_S = 10.0, 25.0
WELLS = 6
AT_ONCE_PUBLISHED = {"explain": {"max_wait_s": 0.0}}


def simulate(folder: Path, plate: str = "P1") -> None:
    simulate_plate(folder / "in", sleep=no_sleep, plate=plate, wells=WELLS, size_px=64)


def slow_spine(folder: Path, clock: Clock | None = None, *, finite: bool = False) -> tuple[Spine, SlowExplainer]:
    clock = clock or Clock()
    devices: list[SlowExplainer] = []

    def open_device(_settings: object, telemetry: Any) -> Device:
        devices.append(SlowExplainer(clock, EXPLAIN_S, telemetry))
        return devices[0]

    settings = make_settings(folder, {"explain": {"max_wait_s": MAX_WAIT_S}})
    spine = Spine(settings, clock, open_device=open_device, finite=finite)
    return spine, devices[0]


def run_until(spine: Spine, holds: Callable[[], bool]) -> None:
    """Step by step, to the very round that brings it about."""
    for _ in range(1000):
        if holds():
            return
        if not spine.round():
            spine.clock.advance(0.5)
    raise AssertionError("it never came about")


def owing(spine: Spine) -> list[str]:
    return [well for well, result in spine.wells().items() if result["warnings"] == [SHED]]


def kinds(device: SlowExplainer) -> list[str]:
    return [what for what, _place, _when in device.done]


def revisions(folder: Path) -> list[Any]:
    return [json.loads(path.read_bytes()) for path in sorted((folder / "out").glob("P1/*/revisions/*.json"))]


# ---- the whole spine


def test_no_prediction_waits_for_an_explanation(tmp_path: Path) -> None:
    simulate(tmp_path)
    spine, device = slow_spine(tmp_path)
    spine.run(60)
    assert kinds(device) == ["predicted"] * WELLS + ["explained"] * WELLS
    spine.end()


def test_wells_are_published_in_time_and_revised_when_nothing_else_waits(tmp_path: Path) -> None:
    simulate(tmp_path)
    spine, _device = slow_spine(tmp_path)
    run_until(spine, lambda: len(spine.wells()) == WELLS)
    in_time = MAX_WAIT_S + 2 * EXPLAIN_S
    assert all(result["timing"]["latency_s"] <= in_time for result in spine.wells().values())
    spine.run(120)
    assert spine.metrics()["hcs_well_latency_seconds_count"] == WELLS
    found = spine.wells()
    assert all(result["explanation"] and not result["warnings"] for result in found.values())
    late = [result for result in found.values() if result["revision"] == 2]
    assert 0 < len(late) < WELLS
    assert {result["revision"] for result in found.values()} == {1, 2}
    first = revisions(tmp_path)
    assert [(result["warnings"], result["explanation"]) for result in first] == [([SHED], None)] * len(late)
    assert spine.metrics()['hcs_explanations_total{result="shed"}'] == len(late)
    (plate,) = spine.plates().values()
    assert plate["state"] == "finished"
    assert verify_ledger(tmp_path / "out").broken is None
    spine.end()


def test_a_plate_that_comes_while_explanations_are_owed_goes_first(tmp_path: Path) -> None:
    simulate(tmp_path)
    spine, device = slow_spine(tmp_path)
    run_until(spine, lambda: bool(owing(spine)))
    begun = len(device.done)
    simulate(tmp_path, "P2")
    spine.run(300)
    later = device.done[begun:]
    predicted = [number for number, (what, _place, _when) in enumerate(later) if what == "predicted"]
    assert len(predicted) == WELLS
    # while files settle the device is idle and explains; from the first prediction on it does nothing else
    assert predicted == list(range(predicted[0], predicted[0] + WELLS))
    assert len(device.explained) == 2 * WELLS
    spine.end()


def test_after_a_stop_what_is_owed_is_explained_once_and_nothing_is_predicted_again(tmp_path: Path) -> None:
    simulate(tmp_path)
    spine, _device = slow_spine(tmp_path)
    run_until(spine, lambda: len(spine.wells()) == WELLS)
    owed = owing(spine)
    assert owed
    spine.publish_stage.stopping = spine.device_stage.stopping = True
    spine.publish_stage.step(spine.clock.now)
    spine.end()
    again, device = slow_spine(tmp_path, spine.clock)
    again.run(120)
    assert set(kinds(device)) == {"explained"}
    found = again.wells()
    assert all(result["explanation"] and not result["warnings"] for result in found.values())
    assert {found[well]["revision"] for well in owed} == {2}
    again.end()


def test_a_folder_that_is_complete_waits_for_its_explanations(
    tmp_path: Path,
) -> None:
    simulate(tmp_path)
    spine, _device = slow_spine(tmp_path, finite=True)
    spine.process()
    found = spine.wells()
    assert {(result["revision"], bool(result["explanation"])) for result in found.values()} == {(1, True)}
    assert spine.metrics()['hcs_explanations_total{result="shed"}'] == 0


@pytest.mark.parametrize(("finite", "first"), [(True, "explained"), (False, "predicted")])
def test_predictions_go_first_where_an_instrument_delivers(*, finite: bool, first: str, tmp_path: Path) -> None:
    spine, device = slow_spine(tmp_path, finite=finite)
    site = site_of(SiteWanted(SiteId(well_id(), 1), ("5" * 64,)))
    spine.mail.device.put(ExplainTask(SiteWanted(site.id, site.key, "much_DNA", "control"), site))
    spine.mail.device.put(site)
    spine.device_stage.draining = True
    while spine.device_stage.step(spine.clock.now):
        pass
    assert (sorted(kinds(device)), kinds(device)[0]) == (["explained", "predicted"], first)
    spine.end()


def test_an_explainer_that_keeps_up_sheds_nothing(tmp_path: Path) -> None:
    simulate(tmp_path)
    spine = Spine(make_settings(tmp_path), Clock())
    assert isinstance(spine.device, FakeDevice)
    spine.run(60)
    assert {result["revision"] for result in spine.wells().values()} == {1}
    assert spine.metrics()['hcs_explanations_total{result="shed"}'] == 0
    spine.end()


# ---- the publisher


def shed(desk: Desktop) -> Any:
    """A well that was published without its explanation: what is still wanted of it."""
    closed = closed_well()
    (wanted,) = desk.tell(plate_news(), closed, *predictions_of(closed))
    with capture_logs() as log:
        assert desk.pass_time() == []
    assert [line["event"] for line in log if line["log_level"] == "warning"] == ["explanation.shed"]
    return wanted


def test_with_no_patience_a_well_is_published_at_once_and_its_answer_revises_it(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, AT_ONCE_PUBLISHED)
    wanted = shed(desk)
    assert (desk.result()["warnings"], desk.result()["revision"]) == ([SHED], 1)
    assert not desk.publisher.idle
    desk.tell(answered(wanted))
    assert (desk.result()["warnings"], desk.result()["revision"]) == ([], 2)
    assert desk.result()["explanation"]["target"] == "much_DNA"
    assert desk.publisher.idle


def test_few_explanations_are_under_way_at_once_and_those_owed_come_one_by_one(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, {"explain": {"max_wait_s": 5.0}})
    closed = [closed_well(time=time) for time in range(1, AT_ONCE + 4)]
    asked = [wanted for well in closed for wanted in desk.tell(well, *predictions_of(well))]
    assert len(asked) == AT_ONCE
    desk.pass_time(5)
    late: list[Any] = []
    for wanted in asked:
        late += desk.tell(answered(wanted))
    while late:
        (wanted,) = late
        assert not wanted.urgent
        late = desk.tell(answered(wanted))
    results = [desk.result(path.stem) for path in (desk.folder / "wells").glob("*.json")]
    assert len(results) == len(closed)
    assert all(result["explanation"] and result["revision"] == 2 for result in results)
    assert desk.publisher.idle


def test_a_well_that_owes_and_is_closed_again_is_explained_as_it_is_now(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, AT_ONCE_PUBLISHED)
    old = shed(desk)
    new = closed_well(edition=2)
    (wanted,) = desk.tell(new, *predictions_of(new))
    desk.tell(answered(old))
    assert desk.result()["explanation"] is None
    desk.tell(answered(wanted))
    assert desk.result()["explanation"]["target"] == "much_DNA"
    assert desk.result()["inputs"][0]["mtime_ns"] == 2


def test_a_site_that_cannot_be_explained_later_says_why(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, AT_ONCE_PUBLISHED)
    wanted = shed(desk)
    desk.tell(SiteReturned(wanted, site_of(wanted), None, "the card ran out of memory"))
    (warning,) = desk.result()["warnings"]
    assert warning == "site 1 could not be explained: the card ran out of memory"


@pytest.mark.parametrize("max_wait_s", [0.0, 60.0])
def test_how_long_is_waited_is_no_part_of_what_decides_a_result(max_wait_s: float, tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.publish(closed_well())
    again = desk.restart(tmp_path, {"explain": {"max_wait_s": max_wait_s}})
    assert again.tell(closed_well()) == []
    assert again.result()["revision"] == 1
