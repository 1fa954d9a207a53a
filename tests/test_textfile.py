"""The metrics as a file, for machines on which no port may be opened."""

import re
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from fakes import make_settings
from hcs_daemon.commands.check import _http
from hcs_daemon.telemetry import Telemetry, parse_metrics
from hcs_daemon.textfile import Textfile
from processes import SIMULATED_CHANNELS, free_port, make_place, running, stop, wait_until

EXPORTER = "prometheus-node-exporter"  # the name that Debian gives it


def figures(path: Path) -> dict[str, float]:
    return parse_metrics(path.read_text("utf-8"))


def make(path: Path, render: Callable[[], bytes] | None = None) -> tuple[Textfile, Telemetry]:
    telemetry = Telemetry("1.2.3")
    return Textfile(path, telemetry, render or telemetry.render, every_s=0.01), telemetry


def test_the_file_says_what_prometheus_would_scrape_and_any_user_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "hcs-daemon.prom"
    textfile, telemetry = make(path)
    telemetry.files_seen.inc(3)
    textfile.write()
    assert figures(path)["hcs_files_seen_total"] == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["hcs-daemon.prom"]


def test_a_folder_that_is_not_there_is_counted_said_once_and_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "later" / "hcs-daemon.prom"
    textfile, _ = make(path)
    textfile.write()
    textfile.write()
    path.parent.mkdir()
    textfile.write()
    textfile.write()
    assert figures(path)["hcs_textfile_failures_total"] == 2
    said = capsys.readouterr().out
    assert said.count("textfile.failed") == said.count("textfile.written") == 1


def test_figures_that_cannot_be_had_now_do_not_end_the_writing(tmp_path: Path) -> None:
    answers: Iterator[bytes | Exception] = iter([RuntimeError("changed during iteration"), b"hcs_ready 1\n"])

    def render() -> bytes:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    path = tmp_path / "hcs-daemon.prom"
    textfile, telemetry = make(path, render)
    textfile.write()
    textfile.write()
    assert figures(path) == {"hcs_ready": 1}
    assert parse_metrics(telemetry.render().decode())["hcs_textfile_failures_total"] == 1


def test_it_is_written_again_and_again_and_a_last_time_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "hcs-daemon.prom"
    textfile, telemetry = make(path)
    textfile.start()
    wait_until(path.exists, 10.0)
    first = figures(path)["hcs_rendered_timestamp_seconds"]
    wait_until(lambda: figures(path)["hcs_rendered_timestamp_seconds"] > first, 10.0)
    telemetry.ready.set(0)
    telemetry.files_seen.inc(7)
    textfile.stop()
    assert figures(path)["hcs_files_seen_total"] == 7


def test_a_disk_that_does_not_answer_does_not_hold_back_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr("hcs_daemon.textfile.STOP_S", 0.1)
    textfile, _ = make(tmp_path / "hcs-daemon.prom", lambda: str(answers.wait(30)).encode())
    textfile.start()
    began = time.monotonic()
    textfile.stop()
    assert time.monotonic() - began < 10
    answers.set()


def test_a_name_that_exporters_do_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not end with \.prom"):
        make_settings(tmp_path, {"http": {"textfile": str(tmp_path / "metrics.txt")}})


def test_nothing_is_written_among_the_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lies inside watch"):
        make_settings(tmp_path, {"http": {"textfile": str(tmp_path / "in" / "hcs.prom")}})


def test_check_says_where_the_file_will_be_and_whether_it_can(tmp_path: Path) -> None:
    def said(path: Path) -> str | list[str]:
        return _http(make_settings(tmp_path, {"http": {"port": 0, "textfile": str(path)}}))

    there, away = said(tmp_path / "hcs.prom"), said(tmp_path / "away" / "hcs.prom")
    assert there[1] == f"the metrics every 15 s in {tmp_path / 'hcs.prom'}"
    assert away[1].endswith("make it so")
    assert isinstance(_http(make_settings(tmp_path)), str)


def test_the_file_and_the_port_say_the_same_and_the_file_tells_of_the_end(tmp_path: Path) -> None:
    place = make_place(tmp_path, SIMULATED_CHANNELS)
    path = tmp_path / "hcs-daemon.prom"
    settings = place.config.read_text("utf-8").replace("[http]", f"[http]\n        textfile = '{path}'")
    place.config.write_text(settings, "utf-8")
    with running(place) as daemon:
        wait_until(path.exists, 30.0)
        assert figures(path).keys() == place.metrics().keys()
        wait_until(lambda: figures(path)["hcs_ready"] == 1, 60.0)
        assert stop(daemon) == 0
    assert figures(path)["hcs_ready"] == 0
    assert time.time() - figures(path)["hcs_rendered_timestamp_seconds"] < 60


@pytest.mark.skipif(shutil.which(EXPORTER) is None, reason=f"{EXPORTER} is not installed")
def test_an_exporter_passes_all_of_it_on(tmp_path: Path) -> None:
    path = tmp_path / "hcs-daemon.prom"
    textfile, telemetry = make(path)
    telemetry.device_info.labels("cuda:0", 'a "card"\\').set(1)
    textfile.write()
    port = free_port()
    command = [EXPORTER, "--collector.disable-defaults", "--collector.textfile"]
    command += [f"--collector.textfile.directory={tmp_path}", f"--web.listen-address=127.0.0.1:{port}"]
    exporter = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def passed_on() -> dict[str, float]:
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                return parse_metrics(answer.read().decode())
        except URLError:
            return {}

    try:
        wait_until(lambda: bool(passed_on()), 30.0)
        found = passed_on()
    finally:
        exporter.terminate()
        exporter.wait(timeout=30)
    assert found["node_textfile_scrape_error"] == 0
    assert {same(name) for name in found if name.startswith("hcs_")} == {same(name) for name in figures(path)}


def same(name: str) -> str:
    """A bound is written 1.0 by one, and 1 by the other."""
    return re.sub(r'le="([^"]*)"', lambda match: f'le="{float(match[1])}"', name)
