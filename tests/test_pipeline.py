"""The whole spine, step by step: real files, real results, no threads, no sleeps, and sums in place of the network."""

import json
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fakes import CHANNELS, Clock, make_settings, no_sleep
from hcs_daemon.pipeline import Mail, Mailbox
from hcs_daemon.plate import WellPosition
from hcs_daemon.records import ExplainTask, Site, SiteReturned, SiteWanted
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.simulate.replay import readdress
from hcs_daemon.simulate.spoil import eight_bit_scaled, truncated
from spine import Spine


def simulate(folder: Path, wells: int = 6, **arguments: Any) -> Path:
    """A small simulated plate P1 in `folder/in`; where its planes are."""
    arguments = {"plate": "P1", "wells": wells, "size_px": 64, **arguments}
    made = simulate_plate(folder / "in", sleep=no_sleep, **arguments)
    return made.folder / "Images"


def plane(well: str, channel: int) -> str:
    position = WellPosition.parse(well)
    return f"r{position.row:02d}c{position.column:02d}f01p01-ch{channel}sk1fk1fl1.tiff"


def as_of(well: str, path: Path) -> bytes:
    """A plane's bytes, with the address of another well inside."""
    return readdress(path.read_bytes(), WellPosition.parse(well))


def acquisition(folder: Path) -> Path:
    """The one acquisition's results."""
    (found,) = (folder / "out" / "P1").iterdir()
    return found


def wells(folder: Path) -> dict[str, Any]:
    """Well -> its result."""
    return {path.stem: json.loads(path.read_bytes()) for path in sorted((acquisition(folder) / "wells").glob("*.json"))}


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def every_file(folder: Path) -> dict[str, bytes]:
    """What the results folder holds, but the lock and what is rewritten now and then."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in {".json", ".jsonl"} and path.name != "plate.json"
    }


def test_a_plate_from_its_files_to_its_results_twice_and_mended(tmp_path: Path) -> None:
    clock, settings_ = Clock(), make_settings(tmp_path)
    images = simulate(tmp_path)
    scaled, cut = images / plane("A02", 1), images / plane("B03", 5)
    whole = {path: path.read_bytes() for path in (scaled, cut)}
    scaled.write_bytes(eight_bit_scaled(whole[scaled]))
    cut.write_bytes(truncated(whole[cut]))

    # ---- the first look: nothing is read before it has settled
    spine = Spine(settings_, clock)
    assert spine.restored.first_start
    assert spine.round()
    assert spine.metrics()["hcs_planes_pending"] == 30
    assert not spine.device.predicted
    spine.run(60)

    # ---- wells: four complete, two without a prediction, each with every input and its own reasons
    found = wells(tmp_path)
    assert {well: result["status"] for well, result in found.items()} == {
        "A01": "complete",
        "A02": "rejected",
        "A03": "complete",
        "B01": "complete",
        "B02": "complete",
        "B03": "rejected",
    }
    for well in ("A01", "A03", "B01", "B02"):
        result = found[well]
        assert result["revision"] == 1
        assert result["sites"] == {
            "expected": 1,
            "analysed": 1,
            "missing": [],
            "rejected": [],
            "failed": [],
            "lacking": [],
        }
        assert [entry["channel"] for entry in result["inputs"]] == sorted(CHANNELS)
        assert {entry["used"] for entry in result["inputs"]} == {"analysed"}
        (explained,) = result["explanation"]["sites"]
        change = explained["change"]["to"] - explained["change"]["from"]
        assert sum(explained["channel_shapley"].values()) == pytest.approx(change, rel=1e-5)
        assert max(result["prediction"]["probabilities"].values()) == pytest.approx(
            result["prediction"]["probabilities"][result["prediction"]["label"]]
        )
    for well in ("A02", "B03"):
        assert found[well]["prediction"] is None
        assert found[well]["sites"]["rejected"] == [1]
        assert {entry["used"] for entry in found[well]["inputs"]} == {"incomplete_site"}
        assert len(found[well]["inputs"]) == 4

    # ---- rejections, ledger, plate
    results = acquisition(tmp_path)
    rejected = {line["well"]: line for line in lines(results / "rejected.jsonl")}
    assert {well: line["reason"] for well, line in rejected.items()} == {"A02": "bit_depth", "B03": "truncated"}
    assert "257" in rejected["A02"]["detail"]
    assert all(line["hint"] and line["path"].endswith(".tiff") for line in rejected.values())
    ledger = lines(tmp_path / "out" / "ledger.jsonl")
    assert sorted(line["path"].rpartition("/")[2] for line in ledger) == [f"{well}.json" for well in sorted(found)]
    plate = json.loads((results / "plate.json").read_bytes())
    assert plate["state"] == "finished"
    assert plate["wells"] == {"complete": 4, "partial": 0, "rejected": 2}
    assert (plate["counts"]["accepted"], plate["counts"]["rejected"]) == (28, 2)
    assert plate["pixel_size_um"] == 1.196

    # ---- metrics say the same as the files
    metrics = spine.metrics()
    assert metrics["hcs_files_seen_total"] == 31  # the index, too
    assert metrics["hcs_planes_pending"] == 0
    assert metrics['hcs_planes_total{outcome="accepted"}'] == 28
    assert metrics['hcs_planes_total{outcome="rejected"}'] == 2
    assert metrics['hcs_rejections_total{reason="bit_depth"}'] == 1
    assert metrics['hcs_rejections_total{reason="truncated"}'] == 1
    assert metrics['hcs_sites_total{outcome="predicted"}'] == 4 == len(spine.device.predicted)
    assert metrics['hcs_explanations_total{result="passed"}'] == 4
    assert metrics['hcs_wells_total{status="complete"}'] == 4
    assert metrics['hcs_wells_total{status="rejected"}'] == 2
    assert metrics["hcs_ledger_entries_total"] == len(ledger) == 6
    assert metrics["hcs_well_latency_seconds_count"] == 6
    assert metrics["hcs_plates_open"] == 0
    spine.end()

    # ---- again, with all objects new: what is done is not done again
    before = every_file(tmp_path / "out")
    spine = Spine(settings_, clock)
    assert not spine.restored.first_start
    spine.run(60)
    assert (spine.device.predicted, spine.device.explained) == ([], [])
    assert spine.readers.done == 1  # the index is read, no plane is
    assert every_file(tmp_path / "out") == before
    assert spine.metrics()["hcs_ledger_entries_total"] == 0

    # ---- the bad files come again, whole: two wells are revised, two lines taken back, the rest stays
    for path, data in whole.items():
        path.write_bytes(data)
    spine.run(60)
    revised = wells(tmp_path)
    assert {well: result["revision"] for well, result in revised.items()} == {
        "A01": 1,
        "A02": 2,
        "A03": 1,
        "B01": 1,
        "B02": 1,
        "B03": 2,
    }
    assert {result["status"] for result in revised.values()} == {"complete"}
    assert sorted(spine.device.predicted) == ["A02/1", "B03/1"]
    assert revised["A02"]["supersedes"] == 1
    kept = json.loads((results / "revisions" / "A02.r1.json").read_bytes())
    assert kept == found["A02"]
    last = {line["well"]: line["withdrawn"] for line in lines(results / "rejected.jsonl")}
    assert last == {"A02": True, "B03": True}
    assert len(lines(tmp_path / "out" / "ledger.jsonl")) == 8
    plate = json.loads((results / "plate.json").read_bytes())
    assert (plate["state"], plate["wells"]) == ("finished", {"complete": 6, "partial": 0, "rejected": 0})
    spine.end()


def test_a_well_that_lacks_a_plane_is_published_as_partial_and_revised_when_it_comes(tmp_path: Path) -> None:
    images = simulate(tmp_path, sites=2, positions=[WellPosition.parse("A01")])
    late = images / "r01c01f02p01-ch3sk1fk1fl1.tiff"
    data = late.read_bytes()
    late.unlink()
    spine = Spine(make_settings(tmp_path, {"expect": {**_expect(), "well_timeout_s": 60.0}}), Clock())
    spine.run(50)
    assert not (acquisition(tmp_path) / "wells").exists()
    spine.run(40)
    first = wells(tmp_path)["A01"]
    assert first["status"] == "partial"
    assert first["sites"] == {
        "expected": 2,
        "analysed": 1,
        "missing": [2],
        "rejected": [],
        "failed": [],
        "lacking": [{"site": 2, "channel": "RNA", "z": 1, "refused": False}],
    }
    assert first["prediction"] is not None
    late.write_bytes(data)
    spine.run(40)
    second = wells(tmp_path)["A01"]
    assert (second["status"], second["revision"], second["supersedes"]) == ("complete", 2, 1)
    assert spine.device.predicted == ["A01/1", "A01/2"]
    spine.end()


def test_a_plane_written_anew_on_a_finished_plate_revises_its_well(tmp_path: Path) -> None:
    images = simulate(tmp_path)
    spine = Spine(make_settings(tmp_path, {"watch": {**_watch(tmp_path), "rescan_s": 5.0}}), Clock())
    spine.run(60)
    assert json.loads((acquisition(tmp_path) / "plate.json").read_bytes())["state"] == "finished"
    for number, source in enumerate(("B03", "B02"), 2):
        (images / plane("A01", 1)).write_bytes(as_of("A01", images / plane(source, 1)))
        spine.run(80)
        assert wells(tmp_path)["A01"]["revision"] == number
        assert spine.publish_stage.idle
    plate = json.loads((acquisition(tmp_path) / "plate.json").read_bytes())
    assert (plate["state"], plate["revisions"]) == ("finished", 8)
    assert spine.device.predicted.count("A01/1") == 3
    spine.end()


def test_a_plane_written_anew_where_somebody_changed_the_result_revises_its_well(tmp_path: Path) -> None:
    images = simulate(tmp_path, sites=2, positions=[WellPosition.parse("A01"), WellPosition.parse("A02")])
    spine = Spine(make_settings(tmp_path, {"watch": {**_watch(tmp_path), "rescan_s": 5.0}}), Clock())
    spine.run(120)
    changed = acquisition(tmp_path) / "wells" / "A01.json"
    changed.write_text(changed.read_text().replace("complete", "COMPLETE"))
    (images / plane("A01", 1)).write_bytes(as_of("A01", images / plane("A02", 1)))
    spine.run(120)
    assert (wells(tmp_path)["A01"]["status"], wells(tmp_path)["A01"]["revision"]) == ("complete", 2)
    assert spine.publish_stage.idle
    spine.end()


def test_a_plate_is_open_until_its_last_result_is_written(tmp_path: Path) -> None:
    simulate(tmp_path)
    spine = Spine(make_settings(tmp_path), Clock())
    open_seen = False
    with capture_logs() as log:
        for _ in range(600):
            spine.round()
            spine.clock.advance(0.1)
            if spine.metrics()["hcs_plates_open"]:
                open_seen = True
            elif open_seen:
                break
    assert len(wells(tmp_path)) == 6
    assert json.loads((acquisition(tmp_path) / "plate.json").read_bytes())["state"] == "finished"
    events = [line["event"] for line in log]
    assert events.count("plate.finished") == 1
    assert "well.published" not in events[events.index("plate.finished") :]
    spine.end()


def test_after_a_stop_before_the_explanations_the_next_start_makes_them(tmp_path: Path) -> None:
    simulate(tmp_path)
    spine = Spine(make_settings(tmp_path), Clock())
    while len(spine.device.predicted) < 6:
        spine.scanner.step(spine.clock.now)
        for stage in (spine.intake_stage, spine.device_stage):
            stage.step(spine.clock.now)
        spine.clock.advance(0.5)
    spine.publish_stage.step(spine.clock.now)  # asks for explanations that do not come any more
    spine.end()
    hasty = wells(tmp_path)
    assert len(hasty) == 6
    assert {result["explanation"] for result in hasty.values()} == {None}
    again = Spine(make_settings(tmp_path), Clock(spine.clock.now))
    again.run(60)
    assert again.device.predicted == []
    assert sorted(again.device.explained) == [f"{well}/1" for well in sorted(hasty)]
    found = wells(tmp_path)
    assert {(result["revision"], result["status"]) for result in found.values()} == {(2, "complete")}
    assert all(result["explanation"] and not result["warnings"] for result in found.values())
    assert json.loads((acquisition(tmp_path) / "plate.json").read_bytes())["state"] == "finished"
    again.end()


def test_when_stopping_predictions_go_first_and_pictures_are_left(tmp_path: Path) -> None:
    simulate(tmp_path)
    spine = Spine(make_settings(tmp_path, {"results": {"pictures": "all"}}), Clock())
    while not len(spine.mail.device):
        spine.scanner.step(spine.clock.now)
        spine.intake_stage.step(spine.clock.now)
        spine.clock.advance(0.5)
    first = spine.mail.device.take()
    assert isinstance(first, Site)
    for urgent in (True, False):
        spine.mail.device.put(ExplainTask(SiteWanted(first.id, first.key, "much_DNA", "control", urgent=urgent), first))
    spine.mail.device.put(first)
    spine.mail.wanted.put(SiteWanted(first.id, first.key, urgent=False))
    spine.intake.stop_reading()
    spine.device_stage.stopping = spine.publish_stage.stopping = True
    spine.device_stage.step(spine.clock.now)
    assert (len(spine.device.predicted) > 0, spine.device.explained) == (True, [])
    spine.run(5)
    assert not spine.intake_stage.serving
    assert spine.device_stage.idle
    assert spine.publish_stage.publisher.idle
    spine.end()


def test_a_file_that_is_still_growing_is_left_alone_until_it_rests(tmp_path: Path) -> None:
    images = simulate(tmp_path, positions=[WellPosition.parse("A01")])
    growing = images / plane("A01", 1)
    data = growing.read_bytes()
    growing.write_bytes(data[:1000])
    spine = Spine(make_settings(tmp_path, {"watch": {**_watch(tmp_path), "rescan_s": 0.5}}), Clock())
    for length in range(1000, len(data), 1000):
        growing.write_bytes(data[:length])
        spine.run(1.5)
    assert spine.metrics()['hcs_planes_total{outcome="accepted"}'] == 4
    growing.write_bytes(data)
    spine.run(15)  # an index that was there from the start of this well alone may still grow for a while
    assert wells(tmp_path)["A01"]["status"] == "complete"
    assert not (acquisition(tmp_path) / "rejected.jsonl").exists()
    spine.end()


def test_while_the_device_has_no_room_nothing_more_is_read(tmp_path: Path) -> None:
    simulate(tmp_path, wells=24)
    spine = Spine(make_settings(tmp_path), Clock(), site_limit=2)
    for _ in range(100):
        spine.scanner.step(spine.clock.now)
        spine.intake_stage.step(spine.clock.now)
        spine.clock.advance(0.5)
    waiting, read = len(spine.mail.device), spine.readers.done
    assert 2 <= waiting <= 4  # a soft bound: what was begun is finished
    assert read < 24 * 5 / 2
    assert spine.metrics()["hcs_planes_pending"] > 24 * 5 / 2
    spine.run(60)
    assert len(wells(tmp_path)) == 24
    assert len(set(spine.device.predicted)) == len(spine.device.predicted) == 24
    spine.end()


def test_while_publish_has_no_room_the_device_begins_nothing(tmp_path: Path) -> None:
    simulate(tmp_path)
    spine = Spine(make_settings(tmp_path), Clock())
    spine.mail.publish._limit = 0
    for _ in range(40):
        for step in (spine.scanner.step, spine.intake_stage.step, spine.device_stage.step):
            step(spine.clock.now)
        spine.clock.advance(0.5)
    assert spine.device.predicted == []
    assert spine.readers.done == 0


def test_with_pixels_evicted_the_results_are_the_same(tmp_path: Path) -> None:
    kept, evicted = tmp_path / "kept", tmp_path / "evicted"
    for folder, budget in ((kept, 1 << 30), (evicted, 0)):
        simulate(folder)
        spine = Spine(make_settings(folder, {"watch": {**_watch(folder), "cache_bytes": budget}}), Clock())
        spine.run(60)
        spine.end()
        assert (spine.metrics()["hcs_cache_rereads_total"] > 0) == (budget == 0)
    assert _said(evicted) == _said(kept)


def test_explanations_that_only_a_picture_waits_for_come_last(tmp_path: Path) -> None:
    simulate(tmp_path)
    spine = Spine(make_settings(tmp_path), Clock())
    for _ in range(8):
        spine.scanner.step(spine.clock.now)
        spine.intake_stage.step(spine.clock.now)
        spine.clock.advance(0.5)
    sites = []
    while (site := spine.mail.device.take()) is not None:
        assert isinstance(site, Site)
        sites.append(site)
    drawn, explained, predicted = sites[0], sites[1], sites[2:]
    for number in range(6):
        wanted = SiteWanted(drawn.id, drawn.key, "much_DNA", "control", urgent=False)
        spine.mail.device.put(ExplainTask(wanted, drawn))
        if number == 1:
            spine.mail.device.put(
                ExplainTask(SiteWanted(explained.id, explained.key, "much_DNA", "control"), explained)
            )
            for site in predicted:
                spine.mail.device.put(site)
    spine.device_stage.draining = True
    done = []
    while spine.device_stage.step(spine.clock.now):
        while (message := spine.mail.publish.take()) is not None:
            done.append(type(message).__name__ if not isinstance(message, SiteReturned) else message.wanted.urgent)
    assert spine.device_stage.idle
    kinds = [kind for kind in done if kind not in {"PlateNews", "WellClosed", "Rejection"}]
    assert kinds == [True, *["Prediction"] * len(predicted), *[False] * 6]
    spine.end()


def test_a_batch_leaves_when_its_oldest_site_has_waited(tmp_path: Path) -> None:
    simulate(tmp_path)
    spine = Spine(make_settings(tmp_path, {"model": {"package": "demo", "batch_sites": 4, "max_wait_s": 5.0}}), Clock())
    spine.run(4)
    assert spine.device.batches == [4]
    assert 0 < spine.device_stage.wait_s(spine.clock.now) <= 0.5
    spine.run(5)
    assert spine.device.batches == [4, 2]
    spine.end()


def test_when_draining_a_batch_leaves_at_once(tmp_path: Path) -> None:
    simulate(tmp_path, positions=[WellPosition.parse("A01")])
    spine = Spine(make_settings(tmp_path, {"model": {"package": "demo", "max_wait_s": 3600.0}}), Clock())
    spine.run(10)
    assert spine.device.batches == []
    assert not spine.device_stage.idle
    spine.device_stage.draining = True
    spine.run(1)
    assert spine.device.batches == [1]
    assert spine.device_stage.idle
    spine.end()


def test_a_full_mailbox_that_has_room_again_wakes_those_who_put() -> None:
    mail = Mail(site_limit=2)
    box: Mailbox[Any] = mail.device
    for item in (1, 2, 3):
        box.put(item)
    assert mail.device_bell.is_set()
    assert not box.room
    assert box.take() == 1
    assert not mail.intake_bell.is_set()
    assert box.take() == 2
    assert box.room
    assert mail.intake_bell.is_set()
    mail.intake_bell.clear()
    assert (box.take(), box.take()) == (3, None)
    assert not mail.intake_bell.is_set()


def test_the_stages_know_when_nothing_is_left(tmp_path: Path) -> None:
    simulate(tmp_path)
    spine = Spine(make_settings(tmp_path), Clock())
    spine.scanner.step(spine.clock.now)
    assert not spine.intake_stage.idle
    spine.run(60)
    assert spine.intake_stage.idle
    assert not spine.intake_stage.serving
    assert spine.device_stage.idle
    assert spine.publish_stage.idle
    spine.end()


@pytest.mark.parametrize("rounds", [1, 5, 6, 7, 8, 9, 10, 12, 16, 24])
def test_after_a_crash_at_any_moment_the_rest_is_done_and_nothing_twice(rounds: int, tmp_path: Path) -> None:
    images = simulate(tmp_path)
    bad = images / plane("B02", 2)
    bad.write_bytes(truncated(bad.read_bytes()))
    settings_ = make_settings(tmp_path, {"model": {"package": "demo", "batch_sites": 1}})
    spine = Spine(settings_, Clock())
    for _ in range(rounds):
        spine.round()
        spine.clock.advance(0.5)
    spine.publisher.close()  # all that the system does for a process that was killed
    written = {well: result["revision"] for well, result in _wells_if_any(tmp_path).items()}
    again = Spine(settings_, Clock(spine.clock.now))
    again.run(60)
    again.end()
    found = wells(tmp_path)
    assert {result["status"] for well, result in found.items() if well != "B02"} == {"complete"}
    assert found["B02"]["status"] == "rejected"
    assert {result["revision"] for result in found.values()} == {1}
    assert not {place.partition("/")[0] for place in again.device.predicted} & set(written)
    ledger = [line["path"] for line in lines(tmp_path / "out" / "ledger.jsonl")]
    assert len(ledger) == len(set(ledger)) == 6
    assert [line["well"] for line in lines(acquisition(tmp_path) / "rejected.jsonl")] == ["B02"]


Said = dict[str, Any]


@given(
    order=st.permutations(range(12)),
    pauses=st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=12, max_size=12),
)
@settings(max_examples=20, deadline=None)
def test_results_do_not_depend_on_the_order_in_which_files_come(order: Sequence[int], pauses: Sequence[float]) -> None:
    assert _story(tuple(order), tuple(pauses)) == _story(tuple(range(12)), (0.0,) * 12)


@cache
def _story(order: tuple[int, ...], pauses: tuple[float, ...]) -> Said:
    """What is said of two wells whose ten planes, a copy of one and a stray file come in this order.

    One plane is truncated. pauses: seconds after each file.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = simulate(folder, positions=[WellPosition.parse("A01"), WellPosition.parse("B02")])
        (images / "Index.xml").unlink()
        files = {path: path.read_bytes() for path in sorted(images.iterdir())}
        files[images / plane("A01", 1).replace(".tiff", ".tif")] = files[images / plane("A01", 1)]
        files[images / plane("B02", 4)] = truncated(files[images / plane("B02", 4)])
        files[images / "notes.tiff"] = b"no image"
        for path in files:
            path.unlink(missing_ok=True)
        expect = {**_expect(), "sites_per_well": 1, "pixel_size_um": 1.196}
        spine = Spine(make_settings(folder, {"expect": expect}), Clock())
        for number, pause in zip(order, pauses, strict=True):
            path = list(files)[number]
            path.write_bytes(files[path])
            spine.run(pause)
        spine.run(60)
        spine.end()
        rejected = lines(acquisition(folder) / "rejected.jsonl") + lines(folder / "out" / "rejected.jsonl")
        return {
            "wells": _without(_said(folder), {"path"}),
            "rejected": sorted(line["reason"] for line in rejected),
            "ledger": len(lines(folder / "out" / "ledger.jsonl")),
        }


def _expect() -> dict[str, Any]:
    return {"bit_depth": 16, "channels": {name: str(id_) for id_, name in enumerate(CHANNELS, 1)}}


def _watch(folder: Path) -> dict[str, Any]:
    return {"directory": str(folder / "in"), "settle_s": 2.0}


def _wells_if_any(folder: Path) -> dict[str, Any]:
    return wells(folder) if (folder / "out" / "P1").is_dir() else {}


def _said(folder: Path) -> dict[str, Any]:
    """The wells' results without the times at which things happened."""
    return {well: _without(result, {"timing", "mtime_ns", "seen_at"}) for well, result in wells(folder).items()}


def _without(value: Any, keys: Iterable[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, keys) for key, item in value.items() if key not in keys}
    return [_without(item, keys) for item in value] if isinstance(value, list) else value
