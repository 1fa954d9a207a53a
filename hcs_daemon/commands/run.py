"""`hcs-daemon run`: the service, until a signal."""

import signal
import threading
from pathlib import Path

from hcs_daemon.config import load_settings
from hcs_daemon.telemetry import configure_logging


def run_service(config: Path) -> int:
    """Serve until SIGTERM, SIGINT or (Windows) SIGBREAK. A second signal changes nothing.

    Raises HcsError.
    """
    settings = load_settings(config)
    configure_logging(settings.log.format, settings.log.level)
    stop = threading.Event()
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: stop.set())
    from hcs_daemon.service import Daemon  # noqa: PLC0415 (a signal during this slow import is heard already)

    return Daemon(settings, stop).run()
