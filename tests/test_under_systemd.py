"""The real program as systemd runs it: its messages, its sandbox, and what it says when the watchdog ends it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcs_daemon.simulate.instrument import simulate_plate
from machine import ROOT, Machine
from processes import SIMULATED_CHANNELS, Place, make_place, running, stop, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
NOBODY = 65534


class Systemd:
    """Hears what the service says. Its socket is outside the file system, so that no sandbox hides it.

    It holds some ten messages: `heard` must be asked now and then, for the service waits with each as long as it may.
    """

    def __init__(self) -> None:
        self.address = f"@hcs-daemon-{os.getpid()}-{time.monotonic_ns()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:])
        self._socket.setblocking(False)
        self._heard: list[str] = []

    @property
    def heard(self) -> list[str]:
        """All so far."""
        try:
            while True:
                self._heard.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return self._heard

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    """One that wants to hear every eight seconds that all is well."""
    listener = Systemd()
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    monkeypatch.setenv("WATCHDOG_USEC", "8000000")
    yield listener
    listener.close()


def test_it_says_how_it_goes_and_where_it_was_when_the_watchdog_ends_it(tmp_path: Path, systemd: Systemd) -> None:
    place = make_place(tmp_path, SIMULATED_CHANNELS)
    with running(place) as daemon:
        wait_until(lambda: systemd.heard.count("WATCHDOG=1") >= 3, 60.0)
        heard = systemd.heard
        said = [message for message in heard if message.startswith("STATUS=")]  # on a slow machine it asks for time too
        assert said[:2] == ["STATUS=loading the model", "STATUS=reading the results of earlier runs"]
        assert heard.index("READY=1") < heard.index("WATCHDOG=1")
        assert f"STATUS=watching {place.watched}" in said
        daemon.send_signal(signal.SIGABRT)  # WatchdogSignal= of systemd
        assert daemon.wait(60) == -signal.SIGABRT
    log = (tmp_path / "daemon.log").read_text("utf-8")
    assert "Fatal Python error: Aborted" in log
    assert "in _watch_over" in log
    assert log.count("in _run") >= 4  # intake, device, publish, scanner


@pytest.fixture
def machine() -> Iterator[Machine]:
    """In a folder that every user can reach, which pytest's own are not."""
    for tool in ("setpriv", "systemd-analyze"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here")
    with tempfile.TemporaryDirectory(prefix="hcs-daemon-") as name:
        Path(name).chmod(0o755)
        yield Machine(Path(name))


def sandboxed(machine: Machine, *command: object) -> list[str]:
    """What starts a command under the unit's conditions: nothing can be written but results and the service's own."""
    writable = ("/var/lib/results", "/var/lib/hcs-daemon")
    lines = [f"mount --bind {folder} {folder}" for folder in writable]
    spared = "|".join((*writable, "/proc*", "/sys*", "/dev*"))
    lines.append(
        "cut -d' ' -f2 /proc/self/mounts | sort -u | while read -r at; do case $at in "
        f'{spared}) ;; *) mount -o remount,bind,ro "$at" ;; esac; done'
    )
    bare = ("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--clear-groups")
    user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", *bare)
    filtered = (sys.executable, ROOT / "tests" / "sandbox.py")
    return machine.command(*user, *filtered, *command, before="\n".join(lines))


@pytest.mark.slow
def test_a_plate_goes_through_it_in_the_units_sandbox(machine: Machine, systemd: Systemd) -> None:
    outside = make_place(machine.folder / "var" / "lib", SIMULATED_CHANNELS)
    inside = Path("/var/lib")
    outside.config.write_text(outside.config.read_text("utf-8").replace(str(outside.folder), str(inside)), "utf-8")
    for name in ("results", "hcs-daemon", "elsewhere"):
        folder = outside.folder / name
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
    own = inside / "hcs-daemon"
    environment = {**os.environ, "HOME": str(own), "XDG_CACHE_HOME": str(own), "TMPDIR": str(own)}
    environment["PYTHONPATH"] = str(ROOT)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def alone(*command: object) -> int:
        return subprocess.run(
            sandboxed(machine, *command), env=environment, capture_output=True, check=False
        ).returncode

    # the sandbox holds
    assert alone("touch", own / "here") == 0
    assert alone("touch", inside / "elsewhere" / "here") == 1
    assert alone(sys.executable, "-c", "import os; os.chroot('/')") == -signal.SIGSYS

    program = (sys.executable, "-m", "hcs_daemon", "run", "-c", inside / "config.toml")
    log = outside.folder / "hcs-daemon" / "log"
    with log.open("wb") as out:
        daemon = subprocess.Popen(sandboxed(machine, *program), env=environment, stdout=out, stderr=out)
    try:
        wait_until(lambda: outside.is_ready() or daemon.poll() is not None, 120.0)
        assert daemon.poll() is None, log.read_text("utf-8")[-4000:]
        simulate_plate(outside.watched, sleep=time.sleep, wells=6, size_px=270, seed=3)
        wait_until(lambda: bool(systemd.heard) and (drawn(outside) or daemon.poll() is not None), 120.0)
        assert daemon.poll() is None, log.read_text("utf-8")[-4000:]
        assert stop(daemon) == 0
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
    assert {result["status"] for result in outside.wells.values()} == {"complete"}
    assert "READY=1" in systemd.heard
    assert systemd.heard[-1] == "STOPPING=1"


def drawn(place: Place) -> bool:
    """Whether every well has its picture, and the plate its own."""
    return len(list(place.results.glob("*/*/wells/*.png"))) == 6 and bool(list(place.results.glob("*/*/plate.png")))
