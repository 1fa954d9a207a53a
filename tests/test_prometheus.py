"""Prometheus itself, with the rules and alerts of monitoring/, beside a daemon that works through a spoiled plate."""

import json
import math
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.simulate.replay import replay
from hcs_daemon.simulate.spoil import eight_bit_scaled, truncated
from mixin import ALERTS, EXPRESSIONS, PROMETHEUS, metric_names, parts
from processes import SIMULATED_CHANNELS, Place, everything_accounted_for, free_port, make_place, running, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed"),
]
WELLS = 6
SCALED, CUT = "r01c01f01p01-ch2sk1fk1fl1.tiff", "r02c03f01p01-ch4sk1fk1fl1.tiff"
"""One plane of A01 and one of B03."""


class Watching:
    """A Prometheus that answers on a port."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, page: str, **query: str) -> Any:
        """What its API answers, for a good question."""
        address = f"http://127.0.0.1:{self._port}/api/v1/{page}?{urlencode(query)}"
        with urlopen(address, timeout=30) as answer:
            return json.loads(answer.read())["data"]

    def values(self, expression: str) -> list[float]:
        """What an expression gives now: a number a series."""
        return [float(series["value"][1]) for series in self.ask("query", query=expression)["result"]]

    def alerts(self) -> dict[str, str]:
        """Alert -> its state, of those that are not silent."""
        return {each["labels"]["alertname"]: each["state"] for each in self.ask("alerts")["alerts"]}

    def is_ready(self) -> bool:
        """Whether it answers yet."""
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except (URLError, ConnectionError):
            return False


@contextmanager
def prometheus(folder: Path, target_port: int) -> Iterator[Watching]:
    """Prometheus as the example sets it up, but that it looks each second at another port."""
    settings = yaml.safe_load((PROMETHEUS / "scrape-example.yaml").read_text("utf-8"))
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{target_port}"]
    folder.mkdir()
    for name in settings["rule_files"]:
        shutil.copy(PROMETHEUS / name, folder)
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump(settings), "utf-8")
    watching, port = None, free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            watching = Watching(port)
            wait_until(lambda: watching.is_ready() or process.poll() is not None, 60.0)
            assert process.poll() is None, (folder / "prometheus.log").read_text("utf-8")[-4000:]
            yield watching
        finally:
            process.terminate()
            process.wait(timeout=30)


def spoiled(path: Path, data: bytes) -> bytes:
    if path.name == SCALED:
        return eight_bit_scaled(data)
    return truncated(data) if path.name == CUT else data


def is_done(place: Place) -> bool:
    plates = list(place.results.glob("*/*/plate.json"))
    return len(place.well_files) == WELLS and bool(plates) and '"finished"' in plates[0].read_text("utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("watched"), SIMULATED_CHANNELS)


@pytest.fixture(scope="module")
def watching(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watching]:
    """Prometheus, before the daemon is up."""
    with prometheus(tmp_path_factory.mktemp("prometheus") / "it", place.port) as watching:
        yield watching


@pytest.fixture(scope="module")
def daemon(place: Place, watching: Watching) -> Iterator[subprocess.Popen[bytes]]:
    with running(place) as process:
        yield process


@pytest.fixture(scope="module")
def watched(
    place: Place,
    watching: Watching,
    daemon: subprocess.Popen[bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> Watching:
    """Prometheus, after a plate of which two planes were refused; the daemon is up."""
    folder = tmp_path_factory.mktemp("recorded")
    recorded = simulate_plate(folder, sleep=time.sleep, wells=WELLS, sites=2, size_px=270, seed=3).folder
    wait_until(lambda: bool(watching.values("hcs_ready == 1")), 60.0)
    replay(recorded, place.watched, sleep=time.sleep, speed=10.0, alter=spoiled)
    wait_until(lambda: is_done(place), 120.0)
    everything_accounted_for(place, {"1", "2", "3", "4", "5"})
    assert place.metrics()['hcs_rejections_total{reason="bit_depth"}'] == 1
    wait_until(lambda: watching.values("hcs_plates_finished_total") == [0.0, 1.0], 30.0)
    time.sleep(3.0)  # rules are evaluated each second, upon what was scraped a second before
    return watching


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_an_expression_is_understood_and_names_what_is_there(watched: Watching, where: str, expression: str) -> None:
    watched.values(expression)
    assert metric_names(expression) <= set(watched.ask("label/__name__/values")), where


@pytest.mark.parametrize(
    ("where", "expression"),
    [(where, part) for where, expression in EXPRESSIONS for part in parts(expression)],
)
def test_an_expression_gives_data(watched: Watching, where: str, expression: str) -> None:
    """Of an alert each part by itself: the whole says nothing while all is well."""
    assert any(not math.isnan(value) for value in watched.values(expression)), where


@pytest.mark.parametrize("alert", ["BitDepthRejections", "PlatePartial"])
def test_the_refused_planes_call_somebody(watched: Watching, alert: str) -> None:
    assert watched.alerts()[alert] == "firing"


def test_nothing_else_is_said_of_a_daemon_that_is_well(watched: Watching) -> None:
    firing = {alert for alert, state in watched.alerts().items() if state == "firing"}
    assert firing == {"BitDepthRejections", "PlatePartial"}
    assert firing < ALERTS.keys()


def test_a_daemon_that_is_killed_is_missed(watched: Watching, daemon: subprocess.Popen[bytes]) -> None:
    """The last of all: nobody answers any more."""
    assert "HcsDown" not in watched.alerts()
    daemon.kill()
    wait_until(lambda: watched.alerts().get("HcsDown") == "pending", 30.0)
