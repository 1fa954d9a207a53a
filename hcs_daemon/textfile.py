"""The figures of /metrics as a file, for a machine on which no port may be opened: an exporter there passes it on."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from hcs_daemon.telemetry import Event, Telemetry, get_log

WRITE_S = 15.0
"""Seconds between two writings: as often as Prometheus commonly asks."""
STOP_S = 2.0
"""A disk that takes the last figures no sooner does not hold back the end."""
_READABLE = 0o644
"""The exporter runs as another user."""


class Textfile:
    """Writes the file, in a thread of its own from `start` to `stop`. Owned by whoever starts it.

    path: ends with `.prom`, as exporters ask; its folder must be there. render: gives the text that Prometheus would
    scrape. The file stays when the daemon ends: its last figures say that it is not ready, and when that was.
    """

    def __init__(self, path: Path, telemetry: Telemetry, render: Callable[[], bytes], every_s: float = WRITE_S) -> None:
        self._path = path
        self._telemetry = telemetry
        self._render = render
        self._every_s = every_s
        self._refused = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="textfile", daemon=True)

    def start(self) -> None:
        """Write now, and again and again."""
        self._thread.start()

    def stop(self) -> None:
        """Write a last time and end. A disk that does not answer is left alone."""
        self._stop.set()
        self._thread.join(STOP_S)

    def write(self) -> None:
        """Put the figures of now in the file's place, whole; a failure is counted, and said when it begins and ends."""
        temporary = self._path.with_name(f".{self._path.name}.tmp")  # of one name: a crash leaves one at most
        try:
            temporary.write_bytes(self._render())
            temporary.chmod(_READABLE)
            os.replace(temporary, self._path)  # noqa: PTH105 (the call that commits, under the name by which it is known)
        except Exception as error:  # noqa: BLE001 (a writer that died would leave figures that look alive)
            self._telemetry.textfile_failures.inc()
            if not self._refused:
                get_log().error(
                    Event.TEXTFILE_FAILED,
                    path=self._path,
                    detail=str(error),
                    hint="make its folder, and let the daemon's user write there; it is tried again every 15 s",
                )
            self._refused = True
        else:
            if self._refused:
                get_log().info(Event.TEXTFILE_WRITTEN, path=self._path)
            self._refused = False

    def _run(self) -> None:
        while not self._stop.is_set():
            self.write()
            self._stop.wait(self._every_s)
        self.write()
