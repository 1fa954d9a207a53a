"""What systemd hears: messages on a real socket, and the watchdog on a fake clock."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcs_daemon.systemd import Watchdog, extend, notify, status

if not hasattr(socket, "AF_UNIX"):
    pytest.skip("no systemd and none of its sockets on this system", allow_module_level=True)


class Listener:
    """The end of the socket that systemd holds."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """Every message since the last look."""
        messages = []
        try:
            while True:
                messages.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return messages

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """A socket in a folder, and one outside the file system."""
    if request.param == "abstract" and not Path("/proc/net/unix").exists():
        pytest.skip("only Linux has sockets outside the file system")
    address = str(tmp_path / "notify") if request.param == "path" else f"@hcs-daemon-test-{os.getpid()}"
    listener = Listener(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    yield listener
    listener.close()


def test_each_state_is_a_line_of_one_message(systemd: Listener) -> None:
    notify("READY=1", status("watching"))
    notify("STOPPING=1")
    assert systemd.heard() == ["READY=1\nSTATUS=watching", "STOPPING=1"]


def test_whoever_is_not_started_by_systemd_tells_nobody(systemd: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")
    assert systemd.heard() == []


def test_a_systemd_that_is_gone_or_does_not_read_ends_nothing(
    systemd: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hcs_daemon.systemd.SEND_S", 0.01)
    with Path("/proc/sys/net/unix/max_dgram_qlen").open("rb") as limit:
        queue = int(limit.read())
    for _ in range(queue + 2):
        notify("WATCHDOG=1")
    assert systemd.heard() == ["WATCHDOG=1"] * (queue + 1)
    systemd.close()
    notify("WATCHDOG=1")


def test_a_folder_of_any_name_cannot_add_a_line_to_a_status(systemd: Listener) -> None:
    notify(status("watching a\nWATCHDOG=1\udcff"))
    assert systemd.heard() == ["STATUS=watching a WATCHDOG=1\\udcff"]


def test_more_time_is_asked_for_in_microseconds() -> None:
    assert extend(1.5) == "EXTEND_TIMEOUT_USEC=1500000"


def dog(trouble: list[str], **environment: str) -> Watchdog:
    return Watchdog(lambda: trouble[0] if trouble else None, environment)


def test_the_watchdog_hears_four_times_in_its_time(systemd: Listener) -> None:
    watchdog = dog([], WATCHDOG_USEC="60000000", WATCHDOG_PID=str(os.getpid()))
    heard = []
    for now in range(100, 131):
        watchdog.step(float(now))
        heard += [now for _ in systemd.heard()]
    assert heard == [100, 115, 130]


def test_the_watchdog_hears_nothing_while_something_hangs_and_again_at_once_when_not(systemd: Listener) -> None:
    trouble: list[str] = []
    watchdog = dog(trouble, WATCHDOG_USEC="4000000")
    watchdog.step(0.0)
    trouble.append("device has made no progress")
    for now in (1.0, 2.0, 3.0):
        watchdog.step(now)
    assert systemd.heard() == ["WATCHDOG=1"]
    trouble.clear()
    watchdog.step(3.1)
    assert systemd.heard() == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}],
)
def test_no_watchdog_is_fed_that_was_not_asked_for(systemd: Listener, environment: dict[str, str]) -> None:
    watchdog = dog([], **environment)
    watchdog.step(0.0)
    watchdog.step(100.0)
    assert systemd.heard() == []
