"""Settings read anew: whole or not at all, only live ones, each taken by its owner."""

import io
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from fakes import Clock, make_settings, said
from hcs_daemon.config import Settings, known_keys, live_keys
from hcs_daemon.device.batching import Batcher
from hcs_daemon.errors import SettingsError
from hcs_daemon.intake.arrival import Hints, Scanner
from hcs_daemon.reloading import Reloading
from hcs_daemon.service import Lookout
from hcs_daemon.telemetry import Telemetry, parse_metrics
from processes import SIMULATED_CHANNELS, Place, json_lines, make_place, running, stop, wait_until
from watched_plates import P1, Watched
from wells import Desktop, answered, closed_well, plate_news, predictions_of

CHANGED = {
    "watch.settle_s": 9.0,
    "watch.rescan_s": 9.0,
    "watch.polling": "never",
    "watch.cache_bytes": 1,
    "expect.well_timeout_s": 9.0,
    "expect.plate_timeout_s": 9.0,
    "model.max_wait_s": 9.0,
    "explain.policy": "hits",
    "explain.max_wait_s": 9.0,
    "results.min_free_bytes": 9,
    "results.pictures": "hits",
    "results.plate_refresh_s": 9.0,
    "results.on_plate_finished": ["told"],
    "results.on_plate_finished_timeout_s": 9.0,
    "log.format": "console",
    "log.level": "debug",
}
"""Every live setting with another value than it has in the tests."""


def reloads(telemetry: Telemetry) -> dict[str, float]:
    found = parse_metrics(telemetry.render().decode())
    names = ("applied", "refused", "failed")
    return {name: found[f'hcs_settings_reloads_total{{result="{name}"}}'] for name in names}


def with_key(settings: Settings, key: str, value: object) -> Settings:
    section, _, name = key.partition(".")
    part = getattr(settings, section).model_copy(update={name: value})
    return settings.model_copy(update={section: part})


# ---- what is taken


def test_every_live_setting_is_tried_here() -> None:
    assert list(CHANGED) == live_keys()


@pytest.mark.parametrize("key", CHANGED)
def test_a_live_setting_is_taken_and_named(key: str, tmp_path: Path, log: io.StringIO) -> None:
    before = make_settings(tmp_path)
    wanted = with_key(before, key, CHANGED[key])
    assert wanted != before
    reloading, telemetry = Reloading(before, lambda: wanted), Telemetry("1")
    assert reloading.take(telemetry) == wanted
    assert reloading.settings == wanted
    assert reloads(telemetry) == {"applied": 1, "refused": 0, "failed": 0}
    assert said(log, "settings.applied")[0]["keys"] == [key]


def test_one_that_needs_a_restart_is_named_and_nothing_of_the_file_is_taken(tmp_path: Path, log: io.StringIO) -> None:
    before = make_settings(tmp_path)
    wanted = with_key(with_key(before, "log.level", "debug"), "model.hit_probability", 0.5)
    reloading, telemetry = Reloading(before, lambda: wanted), Telemetry("1")
    assert reloading.take(telemetry) is None
    assert reloading.settings is before
    assert reloads(telemetry) == {"applied": 0, "refused": 1, "failed": 0}
    (line,) = said(log, "settings.refused")
    assert line["keys"] == ["model.hit_probability"]
    assert "restart" in line["hint"]


@pytest.mark.parametrize("key", sorted(set(known_keys()) - set(live_keys())))
def test_no_other_setting_is_taken(key: str, tmp_path: Path, log: io.StringIO) -> None:
    before = make_settings(tmp_path)
    wanted = with_key(before, key, "another value")
    assert Reloading(before, lambda: wanted).take(Telemetry("1")) is None
    assert said(log, "settings.refused")[0]["keys"] == [key]


def test_a_broken_file_keeps_the_settings_and_says_so(tmp_path: Path, log: io.StringIO) -> None:
    def broken() -> Settings:
        raise SettingsError("the file is not TOML", "mend it")

    before = make_settings(tmp_path)
    reloading, telemetry = Reloading(before, broken), Telemetry("1")
    assert reloading.take(telemetry) is None
    assert reloading.settings is before
    assert reloads(telemetry) == {"applied": 0, "refused": 0, "failed": 1}
    (line,) = said(log, "settings.refused")
    assert (line["detail"], line["hint"]) == ("the file is not TOML", "mend it; the settings stay as they were")


def test_a_daemon_that_began_explaining_nothing_needs_a_restart_to_explain(tmp_path: Path, log: io.StringIO) -> None:
    nothing = make_settings(tmp_path, {"explain": {"policy": "none"}})
    assert Reloading(nothing, lambda: with_key(nothing, "explain.policy", "all")).take(Telemetry("1")) is None
    assert said(log, "settings.refused")[0]["keys"] == ["explain.policy"]


def test_one_that_stopped_explaining_may_begin_again(tmp_path: Path) -> None:
    first = make_settings(tmp_path)
    policies = iter(["none", "all"])
    reloading = Reloading(first, lambda: with_key(first, "explain.policy", next(policies)))
    for policy in ("none", "all"):
        found = reloading.take(Telemetry("1"))
        assert found is not None
        assert found.explain.policy == policy


def test_who_asks_twice_before_it_is_looked_is_answered_once(tmp_path: Path) -> None:
    reloading = Reloading(make_settings(tmp_path), lambda: make_settings(tmp_path))
    assert not reloading.asked
    reloading.ask()
    reloading.ask()
    assert reloading.asked
    reloading.take(Telemetry("1"))
    assert not reloading.asked


# ---- who takes it


def test_intake_waits_for_files_and_wells_as_it_is_now_told(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"sites_per_well": 2, "well_timeout_s": 900.0}})
    for well in ("A01", "B03"):
        watched.well(well)
    watched.run(10)
    assert watched.closed == {}
    settings = with_key(with_key(watched.settings, "expect.well_timeout_s", 20.0), "watch.settle_s", 30.0)
    watched.intake.apply(with_key(settings, "watch.cache_bytes", 0))
    watched.run(30)
    assert watched.status("B03") == "partial"
    assert watched.metrics()["hcs_cache_bytes"] == 0
    watched.well("B04", sites=2)
    watched.run(20)
    assert "B04" not in watched.closed
    assert watched.metrics()["hcs_planes_pending"] == 4
    watched.run(20)
    assert watched.status("B04") == "complete"


def test_a_plate_is_finished_as_soon_as_it_is_now_told(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides={"expect": {"plate_timeout_s": 3600.0}})
    for well in ("A01", "B03"):
        watched.well(well)
    watched.run(60)
    assert watched.news[P1].state == "acquiring"
    watched.intake.apply(with_key(watched.settings, "expect.plate_timeout_s", 90.0))
    watched.run(60)
    assert watched.news[P1].state == "finished"


def test_the_folder_is_looked_at_as_often_as_it_is_now_told(tmp_path: Path) -> None:
    scanner = Scanner(tmp_path, 5.0, Hints(Telemetry("1")), Telemetry("1"), lambda _: None)
    scanner.step(100.0)
    scanner.apply(2.0, 101.0)
    assert scanner.wait_s(101.0) == 2.0
    scanner.step(103.0)
    scanner.apply(60.0, 104.0)
    assert scanner.wait_s(104.0) == 1.0  # the look that was due comes when it was due
    scanner.step(105.0)
    assert scanner.wait_s(105.0) == 60.0


def test_events_are_listened_for_anew_where_that_is_what_changed(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, {"watch": {"polling": "always"}})
    settings.watch.directory.mkdir()
    lookout = Lookout(settings.watch, Telemetry("1"), lambda _: None)
    try:
        lookout.step(1.0)
        polling = lookout._observer
        lookout.apply(with_key(settings, "watch.settle_s", 9.0).watch)
        lookout.step(2.0)
        assert lookout._observer is polling
        lookout.apply(with_key(settings, "watch.polling", "never").watch)
        lookout.step(3.0)
        assert lookout._observer is not polling
    finally:
        lookout.close()


def test_a_batch_waits_as_long_as_it_is_now_told() -> None:
    batcher = Batcher(16, 60.0)
    watched_site: Any = object()
    batcher.add(watched_site, 0.0)
    assert batcher.ready(10.0) == []
    batcher.max_wait_s = 5.0
    assert batcher.ready(10.0) == [watched_site]


def test_wells_are_explained_and_drawn_as_publish_is_now_told(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    settings = make_settings(tmp_path)
    desk.publish(closed_well("B03"))
    assert desk.result("B03")["explanation"] is not None
    desk.publisher.apply(with_key(settings, "explain.policy", "none"))
    desk.publish(closed_well("B04"))
    assert desk.result("B04")["explanation"] is None
    desk.publisher.apply(with_key(settings, "explain.policy", "all"))
    desk.publish(closed_well("B05", sites=(1, 2)))
    assert len(desk.result("B05")["explanation"]["sites"]) == 2
    assert [line["path"].rpartition("/")[2] for line in desk.ledger()] == ["B03.json", "B04.json", "B05.json"]


def test_a_plate_whose_policy_changed_is_not_done_again_at_the_next_start(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    desk.publish(closed_well("B03"))
    desk.pass_time(60)
    (plate,) = desk.restart(tmp_path, {"explain": {"policy": "none"}}).restored.plates
    assert not plate.outdated


def test_a_well_waits_for_its_explanation_as_long_as_publish_is_now_told(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    desk.publisher.apply(make_settings(tmp_path, {"explain": {"max_wait_s": 5.0}}))
    closed = closed_well("B03")
    (wanted,) = desk.tell(closed, *predictions_of(closed))
    desk.pass_time(6.0)
    assert desk.result("B03")["explanation"] is None
    desk.tell(answered(wanted))
    assert desk.result("B03")["revision"] == 2


def test_space_is_kept_free_as_publish_is_now_told(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    desk.publisher.apply(make_settings(tmp_path, {"results": {"min_free_bytes": 1 << 60}}))
    desk.pass_time(5.0)
    assert desk.publisher.blocked is not None
    desk.publisher.apply(make_settings(tmp_path))
    desk.pass_time(5.0)
    assert desk.publisher.blocked is None


def test_plates_and_pictures_are_written_as_publish_is_now_told(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, {"results": {"pictures": "none", "plate_refresh_s": 3600.0}}, clock=Clock())
    desk.tell(plate_news())
    desk.publish(closed_well("B03"))
    desk.publisher.apply(make_settings(tmp_path, {"results": {"pictures": "all", "plate_refresh_s": 1.0}}))
    desk.pass_time(3600.0)
    desk.publish(closed_well("B04"))
    desk.pass_time(2.0)
    assert desk.plate()["wells"]["complete"] == 2
    assert desk.plate()["settings"]["results"]["plate_refresh_s"] == 1.0
    assert not (desk.folder / "explanations" / "B03.npz").exists()
    assert (desk.folder / "explanations" / "B04.npz").exists()


# ---- the program


def changed(place: Place, old: str, new: str) -> None:
    text = place.config.read_text("utf-8")
    assert old in text
    place.config.write_text(text.replace(old, new), "utf-8")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_the_program_takes_live_settings_names_the_others_and_survives_a_broken_file(tmp_path: Path) -> None:
    place = make_place(tmp_path, SIMULATED_CHANNELS)
    whole = place.config.read_text("utf-8")

    def lines(event: str) -> list[dict[str, Any]]:
        return [line for line in json_lines(tmp_path / "daemon.log") if line["event"] == event]

    def again(process: Any, event: str, *, count: int) -> None:
        os.kill(process.pid, signal.SIGHUP)
        wait_until(lambda: len(lines(event)) == count, 20.0)

    with running(place) as process:
        changed(place, 'policy = "per_well"', 'policy = "hits"')
        changed(place, 'format = "json"', 'format = "json"\nlevel = "warning"')
        again(process, "settings.applied", count=1)
        assert lines("settings.applied")[0]["keys"] == ["explain.policy", "log.level"]

        changed(place, f"port = {place.port}", "port = 0")
        changed(place, 'level = "warning"', 'level = "debug"')
        again(process, "settings.refused", count=1)
        assert lines("settings.refused")[0]["keys"] == ["http.port"]

        place.config.write_text("[watch\n", "utf-8")
        again(process, "settings.refused", count=2)
        assert "is not TOML" in lines("settings.refused")[1]["detail"]

        place.config.write_text(whole, "utf-8")
        os.kill(process.pid, signal.SIGHUP)  # the level is `warning` still: what is applied is not said
        wait_until(lambda: place.metrics()['hcs_settings_reloads_total{result="applied"}'] == 2, 20.0)
        found = place.metrics()
        assert found['hcs_settings_reloads_total{result="refused"}'] == 1
        assert found['hcs_settings_reloads_total{result="failed"}'] == 1
        assert stop(process) == 0
    assert lines("service.stopping")  # at `info` again
