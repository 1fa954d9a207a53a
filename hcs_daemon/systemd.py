"""What systemd is told of the service: sd_notify(3), a datagram to the socket that it names. Elsewhere nobody is told.

The environment says what systemd wants: NOTIFY_SOCKET where to, WATCHDOG_USEC how often it must hear that all is well.
"""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

SEND_S = 5.0
"""Seconds that a message may take where systemd does not read."""


def notify(*states: str) -> None:
    """Tell systemd; each state is a line such as `READY=1`."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or sys.platform == "win32":
        return
    if address.startswith("@"):  # a name outside the file system
        address = "\0" + address[1:]
    # while systemd itself starts anew nobody listens, and that must not end the service
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.settimeout(SEND_S)
        channel.connect(address)
        channel.sendall("\n".join(states).encode(errors="backslashreplace"))


def status(words: str) -> str:
    """The state that `systemctl status` shows; one line, whatever a folder is called."""
    return f"STATUS={' '.join(words.splitlines())}"


def extend(seconds: float) -> str:
    """The state that asks for this much more time to start or to stop."""
    return f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}"


class Watchdog:
    """Says WATCHDOG=1 as often as systemd asks, as long as all is well: without, systemd ends and restarts the service.

    trouble: what is wrong, in words, or None. Owned by the thread that calls `step`.
    """

    def __init__(self, trouble: Callable[[], str | None], environment: Mapping[str, str] | None = None) -> None:
        self._trouble = trouble
        self._pause_s = _watchdog_s(os.environ if environment is None else environment) / 4
        self._next_s = float("-inf")

    def step(self, now: float) -> None:
        """Say so if it is time; now: monotonic seconds."""
        if self._pause_s and now >= self._next_s and self._trouble() is None:
            notify("WATCHDOG=1")
            self._next_s = now + self._pause_s


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """Seconds within which systemd must hear of this process; 0: never."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return int(environment.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return 0.0
