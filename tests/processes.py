"""The real program as a process, and what must hold of its files whatever happened to it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from hcs_daemon.telemetry import parse_metrics

PROGRAM = Path(sys.executable).with_name("hcs-daemon.exe" if os.name == "nt" else "hcs-daemon")
REAL_CHANNELS = '{ DNA = "5", ER = "2", RNA = "6", AGP = "3", Mito = "4" }'
"""Of the real Opera Phenix site in the shared data; channel 1 is brightfield."""
SIMULATED_CHANNELS = '{ DNA = "1", ER = "2", RNA = "3", AGP = "4", Mito = "5" }'
LOOK_S = 0.1


def run_program(*arguments: object, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    command = [str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Place:
    """Folders and settings of one daemon."""

    folder: Path
    port: int

    @property
    def watched(self) -> Path:
        """Where the instrument writes."""
        return self.folder / "incoming"

    @property
    def results(self) -> Path:
        """Where the daemon writes."""
        return self.folder / "results"

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.folder / "config.toml"

    @property
    def well_files(self) -> list[Path]:
        """The newest revision of every well."""
        return sorted(self.results.glob("*/*/wells/*.json"))

    @property
    def wells(self) -> dict[str, dict[str, Any]]:
        """Well -> its result."""
        return {path.stem: json.loads(path.read_text("utf-8")) for path in self.well_files}

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """Every line of the ledger."""
        return json_lines(self.results / "ledger.jsonl")

    @property
    def rejections(self) -> list[dict[str, Any]]:
        """Every line of every rejected.jsonl."""
        return [line for path in sorted(self.results.rglob("rejected.jsonl")) for line in json_lines(path)]

    def metrics(self) -> dict[str, float]:
        """What Prometheus would scrape now."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return parse_metrics(answer.read().decode())

    def is_ready(self) -> bool:
        """Whether /readyz says so."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=10) as answer:
                return bool(answer.status == 200)
        except (URLError, ConnectionError):
            return False


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one a line; none where there is no file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def make_place(folder: Path, channels: str, *, expect: str = "", explain: str = "per_well") -> Place:
    """Folders and settings with the demonstration model. expect: further lines of that section."""
    place = Place(folder, free_port())
    place.watched.mkdir(parents=True)
    place.config.write_text(
        f"""
        [watch]
        directory = '{place.watched}'
        instrument = "harmony"
        settle_s = 0.5
        rescan_s = 0.5
        [expect]
        bit_depth = 16
        channels = {channels}
        {expect}
        [model]
        package = "demo"
        device = "cpu"
        max_wait_s = 0.2
        [explain]
        policy = "{explain}"
        [results]
        directory = '{place.results}'
        min_free_bytes = 0
        plate_refresh_s = 1.0
        [http]
        port = {place.port}
        [log]
        format = "json"
        """,
        "utf-8",
    )
    return place


@contextmanager
def running(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon, ready, as a process; what is left of it at the end is killed. Its log is in `daemon.log`."""
    with (place.folder / "daemon.log").open("ab") as log:
        process = subprocess.Popen([PROGRAM, "run", "-c", place.config], stdout=log, stderr=log)
        try:
            wait_until(lambda: place.is_ready() or process.poll() is not None, 60.0)
            assert process.poll() is None, (place.folder / "daemon.log").read_text("utf-8")[-4000:]
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def stop(process: subprocess.Popen[bytes]) -> int:
    """End it as a service manager would; its exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=30)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Look until it holds; the test fails where it does not come to hold."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(LOOK_S)


def everything_accounted_for(place: Place, channel_ids: set[str]) -> None:
    """The promise: each file of an expected channel is an input of its well's newest revision, or is rejected.

    channel_ids: the instrument's ids of the expected channels.
    """
    on_disk = {
        path.relative_to(place.watched).as_posix()
        for path in place.watched.rglob("*.tiff")
        if path.name.partition("-ch")[2].partition("sk")[0] in channel_ids
    }
    inputs = [entry["path"] for result in place.wells.values() for entry in result["inputs"]]
    newest = {line["path"]: line for line in place.rejections}
    rejected = {path for path, line in newest.items() if not line["withdrawn"]}
    assert len(inputs) == len(set(inputs)), "a file is an input twice"
    assert not set(inputs) & rejected, "a file is an input and rejected"
    assert on_disk == set(inputs) | (rejected & on_disk)
