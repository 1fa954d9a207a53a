"""Threads, readiness, the end and its exit code: the only tests with real threads. The network is a few sums."""

import contextlib
import http.client
import io
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import (
    BrokenDevice,
    BrokenLookout,
    DeadShare,
    EndlessExplainer,
    FakeDevice,
    SlowDevice,
    make_settings,
    no_sleep,
    said,
    until,
)
from hcs_daemon import errands, service
from hcs_daemon.config import Settings, Watch
from hcs_daemon.errors import FolderError, HcsError, PackageError, ResultsHeldError, SettingsError
from hcs_daemon.intake.arrival import ScanReport
from hcs_daemon.plate import AcquisitionId
from hcs_daemon.pulse import WORK_S
from hcs_daemon.records import ExplainTask, SiteReturned
from hcs_daemon.service import Daemon, Lookout, Patience, StageThread, more_time, process, workshop
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.simulate.spoil import truncated
from hcs_daemon.telemetry import Telemetry, parse_metrics

HOST = "127.0.0.1"


@pytest.fixture
def port() -> int:
    """One that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Running:
    """A daemon in a thread of its own, with a device of the test's. may_open: the model is loaded once this is set."""

    def __init__(self, settings: Settings, device: FakeDevice, may_open: threading.Event | None, **parts: Any) -> None:
        self.settings = settings
        self.device = device
        self.stop = threading.Event()
        self.opening = threading.Event()
        self.code: int | None = None
        self.raised: HcsError | None = None
        self._may_open = may_open
        self._daemon = Daemon(settings, self.stop, self._open, **parts)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _open(self, _settings: Settings, telemetry: Telemetry) -> FakeDevice:
        self.opening.set()
        assert self._may_open is None or self._may_open.wait(60)
        facts = self.device.facts
        telemetry.model_info.labels(facts.name, facts.version, facts.sha256).set(1)
        telemetry.device_info.labels(facts.device, "CPU").set(1)
        return self.device

    def _run(self) -> None:
        try:
            self.code = self._daemon.run()
        except HcsError as error:
            self.raised = error

    def end(self) -> int | None:
        """Stop it; its exit code."""
        self.stop.set()
        return self.wait()

    def wait(self) -> int | None:
        """Wait for its end; its exit code."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.code

    def ask(self, page: str) -> tuple[int, str]:
        """Status and body; status 0 while nobody listens."""
        with contextlib.closing(http.client.HTTPConnection(HOST, self.settings.http.port, timeout=30)) as connection:
            try:
                connection.request("GET", page)
            except ConnectionRefusedError:
                return 0, ""
            response = connection.getresponse()
            return response.status, response.read().decode()

    def metrics(self) -> dict[str, float]:
        status, body = self.ask("/metrics")
        return parse_metrics(body) if status == 200 else {}


Start = Callable[..., Running]


@pytest.fixture
def start(log: io.StringIO) -> Iterator[Start]:
    running: list[Running] = []

    def begin(
        settings: Settings, device: FakeDevice | None = None, may_open: threading.Event | None = None, **parts: Any
    ) -> Running:
        running.append(Running(settings, device or FakeDevice(), may_open, **parts))
        return running[-1]

    yield begin
    for daemon in running:
        daemon.end()


def quick(folder: Path, port: int = 0, **model: Any) -> Settings:
    """Settings under which nothing waits long."""
    return make_settings(
        folder,
        {
            "watch": {"directory": str(folder / "in"), "settle_s": 0.05, "rescan_s": 0.1},
            "model": {"package": "demo", "max_wait_s": 0.05, **model},
            "http": {"host": HOST, "port": port},
        },
    )


def simulate(folder: Path, plate: str = "P1", **arguments: Any) -> Path:
    """Six wells of one site in `folder/in`; the measurement's folder."""
    arguments = {"wells": 6, "size_px": 64, **arguments}
    return simulate_plate(folder / "in", sleep=no_sleep, plate=plate, **arguments).folder


def statuses(folder: Path, plate: str = "P1") -> dict[str, str]:
    """Well -> status."""
    found = sorted((folder / "out" / plate).glob("*/wells/*.json"))
    return {path.stem: json.loads(path.read_bytes())["status"] for path in found}


# ---- run


def test_it_works_on_what_is_there_and_what_comes_and_ends_with_0(tmp_path: Path, port: int, start: Start) -> None:
    simulate(tmp_path)
    daemon = start(quick(tmp_path, port))
    until(lambda: len(statuses(tmp_path)) == 6, "results of what was there")
    simulate(tmp_path, "P2")
    until(lambda: daemon.metrics().get('hcs_wells_total{status="complete"}') == 12, "results of what came")
    until(lambda: daemon.metrics().get("hcs_ready") == 1, "readiness")
    assert daemon.ask("/readyz") == (200, "ok\n")
    assert daemon.ask("/healthz") == (200, "ok\n")
    assert daemon.metrics()["hcs_watch_available"] == 1
    assert daemon.end() == 0
    assert daemon.ask("/healthz") == (0, "")
    assert set(statuses(tmp_path).values()) == set(statuses(tmp_path, "P2").values()) == {"complete"}


def test_the_port_opens_when_the_model_is_loaded_and_every_gauge_is_set(
    tmp_path: Path, port: int, start: Start
) -> None:
    may_open = threading.Event()
    daemon = start(quick(tmp_path, port), may_open=may_open)
    until(daemon.opening.is_set, "the loading")
    assert daemon.ask("/metrics") == (0, "")
    may_open.set()
    until(lambda: daemon.ask("/metrics")[0] == 200, "an answer")
    metrics = daemon.metrics()
    assert metrics[f'hcs_model_info{{name="sums",sha256="{"5" * 64}",version="1"}}'] == 1
    assert metrics['hcs_device_info{device="cpu",name="CPU"}'] == 1
    assert metrics["hcs_results_free_bytes"] > 0


def test_a_watched_folder_that_is_not_there_yet_is_waited_for(tmp_path: Path, port: int, start: Start) -> None:
    daemon = start(quick(tmp_path, port))
    until(lambda: "not there" in daemon.ask("/readyz")[1], "the complaint")
    assert daemon.ask("/readyz") == (503, f"the watched folder {tmp_path / 'in'} is not there or cannot be listed\n")
    assert daemon.ask("/healthz") == (200, "ok\n")
    assert daemon.metrics()["hcs_ready"] == 0
    simulate(tmp_path)
    until(lambda: daemon.ask("/readyz")[0] == 200, "readiness")
    until(lambda: len(statuses(tmp_path)) == 6, "results")
    assert daemon.end() == 0


def test_at_the_end_what_the_device_holds_is_written_and_the_rest_left(
    tmp_path: Path, start: Start, log: io.StringIO
) -> None:
    simulate(tmp_path, wells=24)
    device = SlowDevice()
    daemon = start(quick(tmp_path, batch_sites=2), device)
    until(device.busy.is_set, "the first batch")
    daemon.stop.set()
    until(lambda: said(log, "service.stopping"), "the beginning of the end")
    assert statuses(tmp_path) == {}
    device.may_go_on.set()
    assert daemon.end() == 0
    done = {place.partition("/")[0] for place in device.predicted}
    assert 2 <= len(done) < 24
    assert set(statuses(tmp_path)) <= done
    again = start(quick(tmp_path))
    until(lambda: len(statuses(tmp_path)) == 24, "the rest")
    assert again.end() == 0
    ledger = [json.loads(line)["path"] for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()]
    assert len(ledger) == len(set(ledger)) == 24


def test_a_stop_writes_what_is_predicted_and_the_next_start_explains_it(
    tmp_path: Path, start: Start, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "DRAIN_S", 0.3)
    monkeypatch.setattr(service, "JOIN_S", 0.3)
    simulate(tmp_path)
    device = EndlessExplainer()
    daemon = start(quick(tmp_path), device)
    until(device.busy.is_set, "the first explanation")
    until(lambda: len(said(log, "well.closed")) == 6, "closed wells")
    assert daemon.end() == 0
    device.may_go_on.set()
    predicted = {place.partition("/")[0] for place in device.predicted}
    assert predicted
    assert set(statuses(tmp_path)) == predicted
    until(lambda: "device" not in _threads(), "the end of the device")
    again = start(quick(tmp_path))
    until(lambda: len(statuses(tmp_path)) == len(explained(tmp_path)) == 6, "the explanations")
    assert again.end() == 0


def explained(folder: Path) -> list[str]:
    """Wells with an explanation."""
    found = sorted((folder / "out" / "P1").glob("*/wells/*.json"))
    return [path.stem for path in found if json.loads(path.read_bytes())["explanation"]]


def test_a_stage_that_fails_ends_the_service_aloud_with_1(tmp_path: Path, start: Start, log: io.StringIO) -> None:
    simulate(tmp_path)
    assert start(quick(tmp_path), BrokenDevice()).wait() == 1
    (line,) = said(log, "thread.failed")
    assert (line["stage"], line["level"]) == ("device", "error")
    assert "ZeroDivisionError" in line["exception"]
    assert len(said(log, "service.stopped")) == 1
    assert statuses(tmp_path) == {}
    start(quick(tmp_path))  # nothing holds the folder any more
    until(lambda: len(statuses(tmp_path)) == 6, "results of the next start")


def test_a_scanner_that_fails_ends_the_service_aloud_with_1(tmp_path: Path, start: Start, log: io.StringIO) -> None:
    assert start(quick(tmp_path), open_lookout=BrokenLookout).wait() == 1
    (line,) = said(log, "thread.failed")
    assert line["stage"] == "scanner"


def test_a_stage_that_comes_no_further_fails_the_health_check(
    tmp_path: Path, port: int, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STUCK_S", 2.0)  # the others come round twice a second
    simulate(tmp_path)
    device = SlowDevice()
    daemon = start(quick(tmp_path, port), device)
    until(lambda: daemon.ask("/healthz")[0] == 503, "the complaint")
    assert daemon.ask("/healthz")[1].startswith("device has made no progress for ")
    device.may_go_on.set()
    until(lambda: daemon.ask("/healthz") == (200, "ok\n"), "health")


def test_a_device_that_hangs_does_not_hold_back_the_end(
    tmp_path: Path, start: Start, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "DRAIN_S", 0.3)
    monkeypatch.setattr(service, "JOIN_S", 0.3)
    simulate(tmp_path)
    device = SlowDevice()
    daemon = start(quick(tmp_path), device)
    until(device.busy.is_set, "the first batch")
    assert daemon.end() == 0
    assert [line["level"] for line in said(log, "service.stopping")] == ["info", "warning"]
    device.may_go_on.set()
    until(lambda: "device" not in _threads(), "the end of the device")
    start(quick(tmp_path))
    until(lambda: len(statuses(tmp_path)) == 6, "what was left")


def test_results_that_take_nothing_make_it_unready_and_lose_nothing(
    tmp_path: Path, port: int, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "DRAIN_S", 0.3)
    simulate(tmp_path)
    full = quick(tmp_path, port)
    full = full.model_copy(update={"results": full.results.model_copy(update={"min_free_bytes": 1 << 60})})
    daemon = start(full)
    until(lambda: "min_free_bytes" in daemon.ask("/readyz")[1], "the complaint")
    assert daemon.ask("/readyz")[0] == 503
    assert daemon.ask("/healthz")[0] == 200
    assert daemon.end() == 0
    assert statuses(tmp_path) == {}
    start(quick(tmp_path))
    until(lambda: len(statuses(tmp_path)) == 6, "what was left")


def test_a_listing_that_hangs_is_said_once_and_holds_up_nobody(
    tmp_path: Path, port: int, start: Start, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SCAN_ABANDONED_S", 0.5)
    simulate(tmp_path)
    device, shares = SlowDevice(), list[DeadShare]()

    def lookout(watch: Watch, telemetry: Telemetry, report: Callable[[ScanReport], None]) -> DeadShare:
        shares.append(DeadShare(watch, telemetry, report))
        return shares[0]

    daemon = start(quick(tmp_path, port), device, open_lookout=lookout)
    until(device.busy.is_set, "the first batch")
    shares[0].dead.set()
    until(lambda: "hangs" in daemon.ask("/readyz")[1], "the complaint")
    assert daemon.ask("/readyz") == (503, f"the watched folder {tmp_path / 'in'} does not answer: a listing hangs\n")
    assert daemon.ask("/healthz") == (200, "ok\n")
    until(lambda: daemon.metrics().get("hcs_watch_available") == 0, "the gauge")
    device.may_go_on.set()
    until(lambda: len(statuses(tmp_path)) == 6, "results of what was known")
    shares[0].dead.clear()
    shares[0].back.set()
    until(lambda: daemon.ask("/readyz")[0] == 200, "readiness")
    simulate(tmp_path, "P2")
    until(lambda: len(statuses(tmp_path, "P2")) == 6, "results of what came since")
    assert len(said(log, "scan.abandoned")) == 1


def test_a_listing_that_hangs_does_not_hold_back_the_end(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = list[DeadShare]()

    def lookout(watch: Watch, telemetry: Telemetry, report: Callable[[ScanReport], None]) -> DeadShare:
        shares.append(DeadShare(watch, telemetry, report))
        shares[0].dead.set()
        return shares[0]

    monkeypatch.setattr(service, "DRAIN_S", 60.0)
    daemon = start(quick(tmp_path), open_lookout=lookout)
    until(lambda: shares, "the start")
    assert daemon.end() == 0
    assert "scanner" in _threads()
    shares[0].back.set()
    until(lambda: "scanner" not in _threads(), "the end of the listing")


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_stop_while_the_model_is_loaded_is_heard(tmp_path: Path, start: Start) -> None:
    simulate(tmp_path)
    may_open = threading.Event()
    daemon = start(quick(tmp_path), may_open=may_open)
    until(daemon.opening.is_set, "the loading")
    daemon.stop.set()
    may_open.set()
    assert daemon.end() == 0
    assert daemon.device.predicted == []


def test_systemd_waits_longer_for_the_end_than_the_end_takes() -> None:
    unit = (Path(service.__file__).parent.parent / "systemd" / "hcs-daemon.service").read_text(encoding="utf-8")
    (limit,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(limit) >= service.DRAIN_S + service.JOIN_S + 15  # pictures that are being drawn are finished


def test_a_port_in_use_is_refused_and_the_results_folder_is_let_go(tmp_path: Path, start: Start) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        daemon = start(quick(tmp_path, taken.getsockname()[1]))
        daemon.wait()
    assert isinstance(daemon.raised, SettingsError)
    assert "http.port" in str(daemon.raised)
    with workshop(quick(tmp_path), Telemetry("1"), lambda _settings, telemetry: FakeDevice(telemetry)):
        pass


def test_a_second_daemon_on_the_same_results_is_refused(tmp_path: Path, start: Start) -> None:
    first = start(quick(tmp_path))
    until((tmp_path / "out").is_dir, "the first")
    until(lambda: any((tmp_path / "out").iterdir()), "its hold")
    second = start(quick(tmp_path))
    second.wait()
    assert isinstance(second.raised, ResultsHeldError)
    assert first.end() == 0


def test_results_that_cannot_be_written_are_refused_at_the_start(tmp_path: Path, start: Start) -> None:
    (tmp_path / "out").write_text("a file in the way")
    daemon = start(quick(tmp_path))
    daemon.wait()
    assert isinstance(daemon.raised, FolderError)


def test_systemd_is_told_when_it_is_up_what_it_waits_for_and_that_it_stops(
    tmp_path: Path, port: int, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        daemon = start(quick(tmp_path, port))
        assert systemd.recv(1000) == b"STATUS=loading the model"
        assert systemd.recv(1000) == b"STATUS=reading the results of earlier runs"
        assert systemd.recv(1000) == b"READY=1"
        assert daemon.ask("/healthz")[0] == 200
        while b"not there" not in (told := systemd.recv(1000)):
            assert told.startswith(b"STATUS=")
        (tmp_path / "in").mkdir()
        assert systemd.recv(1000) == f"STATUS=watching {tmp_path / 'in'}".encode()
        assert daemon.end() == 0
        assert systemd.recv(1000) == b"STOPPING=1"


def heard_by_systemd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """The end of the socket that systemd holds; it does not wait."""
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.bind(str(folder / "notify"))
    systemd.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
    return systemd


def hears(systemd: socket.socket, wanted: bytes) -> bool:
    """Whether it has heard that, among whatever else."""
    with contextlib.suppress(BlockingIOError):
        while True:
            if systemd.recv(1000) == wanted:
                return True
    return False


def test_the_watchdog_is_fed_while_all_is_well_and_not_while_a_thread_hangs(
    tmp_path: Path, port: int, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STUCK_S", 2.0)  # the others come round twice a second
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    simulate(tmp_path)
    device = SlowDevice()
    with heard_by_systemd(tmp_path, monkeypatch) as systemd:
        daemon = start(quick(tmp_path, port), device)
        until(lambda: hears(systemd, b"WATCHDOG=1"), "the first word")
        until(device.busy.is_set, "the first batch")
        until(lambda: daemon.ask("/healthz")[0] == 503, "the complaint")
        until(lambda: not hears(systemd, b"WATCHDOG=1"), "what was said before")
        threading.Event().wait(1.5)
        assert not hears(systemd, b"WATCHDOG=1")
        device.may_go_on.set()
        until(lambda: hears(systemd, b"WATCHDOG=1"), "a word when it goes on")


class LongRound:
    """A stage whose round does not end until it is told to. worked: set when it has used a second of the processor."""

    def __init__(self) -> None:
        self.worked = threading.Event()
        self.may_end = threading.Event()

    def step(self, _now: float) -> bool:
        """Compute, then wait."""
        end_s = time.thread_time() + 1.1 * WORK_S
        while time.thread_time() < end_s:
            sum(range(1000))
        self.worked.set()
        self.may_end.wait(60)
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell how long a thread has worked")
@pytest.mark.parametrize("spins", [False, True])
def test_a_long_round_is_no_hang_while_its_thread_computes(*, spins: bool) -> None:
    stage = LongRound()
    thread = StageThread("device", stage, threading.Event(), lambda _: 1.0, lambda: spins)
    thread.start()
    assert stage.worked.wait(60)
    began = thread.beat_s
    thread.look(began + 400)
    assert thread.still_s == pytest.approx(400 if spins else 0)
    thread.look(began + 500)
    assert thread.still_s == pytest.approx(500 if spins else 100)
    thread.look(began + service.ENDLESS_S + 1)
    assert thread.still_s == pytest.approx(service.ENDLESS_S + 1)
    stage.may_end.set()
    thread.stop()
    assert thread.join(60)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell how long a thread has worked")
def test_a_start_that_works_is_given_more_time_and_one_that_hangs_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STARTING_S", 0.2)
    monkeypatch.setattr("hcs_daemon.pulse.WORK_S", 0.02)
    more = b"EXTEND_TIMEOUT_USEC=1200000"
    with heard_by_systemd(tmp_path, monkeypatch) as systemd:
        with more_time():
            threading.Event().wait(1.0)
            assert not hears(systemd, more)
            deadline = time.monotonic() + 60
            while not hears(systemd, more):
                assert time.monotonic() < deadline
                sum(range(100_000))
        assert "starting" not in _threads()


# ---- the watch


def test_events_are_listened_for_before_the_first_look_and_anew_when_the_folder_returns(tmp_path: Path) -> None:
    telemetry, reports = Telemetry("1"), list[ScanReport]()
    watch = quick(tmp_path).watch
    lookout = Lookout(watch, telemetry, reports.append)
    lookout.step(0.0)
    assert lookout.available is False
    for name, now in (("one", 1.0), ("two", 2.0)):
        watch.directory.mkdir()
        lookout.step(now)
        assert lookout.available
        (watch.directory / name).write_bytes(b"x")
        assert lookout.bell.wait(60), "no event came"
        lookout.step(now + 0.01)
        assert [sighting.path.name for sighting in reports[-1].sightings] == [name]
        (watch.directory / name).unlink()
        watch.directory.rmdir()
        lookout.step(now + 0.5)
        assert lookout.available is False
    lookout.close()


def test_a_listing_is_given_up_when_it_comes_no_file_further() -> None:
    patience = Patience()
    assert patience.standstill_s(0.0, working=True, looked=0) == 0
    assert patience.standstill_s(50.0, working=True, looked=0) == 50
    assert patience.standstill_s(70.0, working=True, looked=1) == 0  # slow, but it goes on
    assert patience.standstill_s(90.0, working=True, looked=1) == 20
    assert patience.standstill_s(91.0, working=False, looked=1) == 0
    assert patience.standstill_s(99.0, working=True, looked=1) == 8


def test_a_thread_that_fails_keeps_why(log: io.StringIO) -> None:
    class Faulty:
        def step(self, now: float) -> bool:
            raise KeyError(now)

    thread = StageThread("faulty", Faulty(), threading.Event(), lambda _: 60.0)
    thread.start()
    assert thread.join(60)
    assert isinstance(thread.failure, KeyError)
    assert said(log, "thread.failed")[0]["stage"] == "faulty"


def test_a_thread_that_waits_ends_at_once_when_told_to() -> None:
    class Idle:
        def step(self, now: float) -> bool:  # noqa: ARG002 (a stage's form)
            return False

    thread = StageThread("idle", Idle(), threading.Event(), lambda _: 3600.0)
    thread.start()
    until(lambda: thread.rounds > 0, "a round")
    thread.stop()
    assert thread.join(60)
    assert thread.failure is None


# ---- process


def fake_device(_settings: Settings, telemetry: Telemetry) -> FakeDevice:
    return FakeDevice(telemetry)


def run_process(folder: Path, *plates: Path, open_device: Any = fake_device) -> tuple[list[AcquisitionId], list[Any]]:
    """The acquisitions, and what was told of the progress."""
    told: list[tuple[int, int]] = []
    found = process(
        plates,
        quick(folder, max_wait_s=3600.0),
        Telemetry("1"),
        lambda done, total: told.append((done, total)),
        open_device,
    )
    return found, told


def test_process_works_through_complete_folders_and_ends(tmp_path: Path, log: io.StringIO) -> None:
    plates = [simulate(tmp_path, name) for name in ("P1", "P2")]
    found, told = run_process(tmp_path, *plates)
    assert found == [AcquisitionId(name, plates[0].name.partition("__")[2]) for name in ("P1", "P2")]
    assert statuses(tmp_path).keys() == statuses(tmp_path, "P2").keys()
    assert set(statuses(tmp_path).values()) == {"complete"}
    assert len(statuses(tmp_path)) == 6
    assert told[-1] == (30, 30)


def test_process_waits_for_nothing_that_is_not_there(tmp_path: Path, log: io.StringIO) -> None:
    plate = simulate(tmp_path)
    planes = sorted((plate / "Images").glob("*.tiff"))
    planes[0].unlink()
    planes[7].write_bytes(truncated(planes[7].read_bytes()))
    run_process(tmp_path, plate)
    assert statuses(tmp_path) == {
        "A01": "partial",
        "A02": "rejected",
        "A03": "complete",
        "B01": "complete",
        "B02": "complete",
        "B03": "complete",
    }


def test_process_does_nothing_twice(tmp_path: Path, log: io.StringIO) -> None:
    plate = simulate(tmp_path)
    run_process(tmp_path, plate)
    ledger = (tmp_path / "out" / "ledger.jsonl").read_bytes()
    device = FakeDevice()
    run_process(tmp_path, plate, open_device=lambda _settings, _telemetry: device)
    assert (device.predicted, device.explained) == ([], [])
    assert (tmp_path / "out" / "ledger.jsonl").read_bytes() == ledger


@pytest.mark.parametrize("together", [True, False])
def test_process_refuses_two_trees_with_a_plate_of_one_name(
    tmp_path: Path, log: io.StringIO, *, together: bool
) -> None:
    for tree, seed in (("a", 1), ("b", 2)):
        plate = simulate(tmp_path, seed=seed)
        (tmp_path / tree).mkdir()
        plate.rename(tmp_path / tree / plate.name)
    trees = [tmp_path / "a", tmp_path / "b"]
    if not together:
        run_process(tmp_path, trees[0])
    before = statuses(tmp_path)
    with pytest.raises(SettingsError) as refused:
        run_process(tmp_path, *(trees if together else trees[1:]))
    assert all(str(tree) in str(refused.value) for tree in trees)
    assert "--results" in refused.value.hint
    assert statuses(tmp_path) == before


@pytest.mark.parametrize("touched", [False, True])
def test_process_knows_a_plate_whose_folder_was_moved(tmp_path: Path, log: io.StringIO, *, touched: bool) -> None:
    simulate(tmp_path)
    run_process(tmp_path, tmp_path / "in")
    ledger = (tmp_path / "out" / "ledger.jsonl").read_bytes()
    moved = tmp_path / "elsewhere"
    (tmp_path / "in").rename(moved)
    if touched:
        for path in moved.rglob("*.tiff"):
            os.utime(path, ns=(1, 1))
    run_process(tmp_path, moved)
    assert (tmp_path / "out" / "ledger.jsonl").read_bytes() == ledger
    (line,) = said(log, "plate.moved")
    assert (line["before"], line["now"]) == (str(tmp_path / "in"), str(moved))
    (plate,) = (tmp_path / "out" / "P1").glob("*/plate.json")
    assert json.loads(plate.read_bytes())["root"] == str(moved)


def test_process_takes_a_tree_of_plates(tmp_path: Path, log: io.StringIO) -> None:
    simulate(tmp_path, "P1")
    simulate(tmp_path, "P2")
    found, _ = run_process(tmp_path, tmp_path / "in")
    assert [acquisition.plate for acquisition in found] == ["P1", "P2"]


@pytest.mark.parametrize("loss", ["gone", "cut"])
def test_process_ends_also_when_files_it_has_read_are_lost_meanwhile(
    tmp_path: Path, log: io.StringIO, loss: str
) -> None:
    plate = simulate(tmp_path)

    class Losing(FakeDevice):
        def explain(self, task: ExplainTask) -> SiteReturned:
            for path in (plate / "Images").glob("*-ch5*"):
                if loss == "gone":
                    path.unlink()
                else:
                    path.write_bytes(b"II*\0")
            return super().explain(task)

    settings = quick(tmp_path, batch_sites=1)
    settings = settings.model_copy(update={"watch": settings.watch.model_copy(update={"cache_bytes": 0})})
    process([plate], settings, Telemetry("1"), lambda _done, _total: None, lambda _settings, _telemetry: Losing())
    assert len(statuses(tmp_path)) == 6


def test_process_says_which_stage_failed(tmp_path: Path, log: io.StringIO) -> None:
    with pytest.raises(HcsError, match="ZeroDivisionError"):
        run_process(tmp_path, simulate(tmp_path), open_device=lambda _settings, _telemetry: BrokenDevice())


def test_a_package_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    settings = quick(tmp_path, package=str(tmp_path / "nothing"))
    with pytest.raises(PackageError, match="nothing"):
        process([simulate(tmp_path)], settings, Telemetry("1"), lambda _done, _total: None)
    assert not (tmp_path / "out").exists()


def test_process_refuses_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="is not a folder"):
        run_process(tmp_path, tmp_path / "nothing")


def test_process_refuses_results_inside_a_plate_and_plates_inside_results(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="lies inside"):
        run_process(tmp_path, tmp_path)
    inside = tmp_path / "out" / "plate"
    inside.mkdir(parents=True)
    with pytest.raises(SettingsError, match="lies inside"):
        run_process(tmp_path, inside)


def test_process_refuses_two_folders_of_one_name(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place / "plate").mkdir(parents=True)
    with pytest.raises(SettingsError, match="same name"):
        run_process(tmp_path, tmp_path / "one" / "plate", tmp_path / "two" / "plate")


# ---- the command for finished plates


def with_command(settings: Settings, folder: Path, then: str) -> Settings:
    """Settings whose command notes the plate in `folder/told`, and then does this; a plate is finished after 1 s."""
    code = f"import os, sys, time; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n'); {then}"
    command = [sys.executable, "-c", code, str(folder / "told"), "{plate}"]
    results = settings.results.model_copy(update={"on_plate_finished": command})
    expect = settings.expect.model_copy(update={"plate_timeout_s": 1.0})
    return settings.model_copy(update={"results": results, "expect": expect})


def command_of(folder: Path, plate: str = "P1") -> Any:
    """What plate.json says of it; nothing before there is one."""
    found = [json.loads(path.read_bytes()) for path in (folder / "out" / plate).glob("*/plate.json")]
    return found[0]["on_plate_finished"] if found else None


def test_a_command_that_hangs_holds_nobody_back_and_the_next_start_runs_it_again(
    tmp_path: Path, start: Start, log: io.StringIO
) -> None:
    hangs = "os.path.exists(sys.argv[1] + '.down') and time.sleep(600)"
    settings = with_command(quick(tmp_path), tmp_path, hangs)
    (tmp_path / "told.down").touch()
    simulate(tmp_path)
    daemon = start(settings)
    until((tmp_path / "told").exists)
    simulate(tmp_path, "P2")
    until(lambda: (command_of(tmp_path, "P2") or {}).get("result") == "waiting")
    assert command_of(tmp_path)["result"] == "waiting"
    assert len(statuses(tmp_path, "P2")) == 6
    began = time.monotonic()
    assert daemon.end() == 0
    assert errands.STOP_S - 1 < time.monotonic() - began < service.DRAIN_S
    assert [line["plate"] for line in said(log, "plate.not_told")] == ["P1"]

    (tmp_path / "told.down").unlink()
    daemon = start(settings)
    until(lambda: {command_of(tmp_path, plate)["result"] for plate in ("P1", "P2")} == {"succeeded"})
    assert daemon.end() == 0
    assert sorted((tmp_path / "told").read_text().split()) == ["P1", "P1", "P2"]


def test_process_runs_the_command_too_and_waits_for_it(tmp_path: Path, log: io.StringIO) -> None:
    plate = simulate(tmp_path)
    settings = with_command(quick(tmp_path), tmp_path, "sys.exit('no')")
    process([plate], settings, Telemetry("1"), lambda *_: None, fake_device)
    assert (tmp_path / "told").read_text().split() == ["P1"] * 3
    entry = command_of(tmp_path)
    assert (entry["result"], entry["tries"], entry["detail"]) == ("failed", 3, "it ended with 1: no")
    hints = [line["hint"] for line in said(log, "plate.not_told")]
    assert hints[:2] == ["it is tried again in 1 s", "it is tried again in 5 s"]
