"""`hcs-daemon run`: the service, until a signal."""

import faulthandler
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from hcs_daemon.config import load_settings
from hcs_daemon.reloading import Reloading
from hcs_daemon.telemetry import configure_logging


def run_service(config: Path) -> int:
    """Serve until SIGTERM, SIGINT or (Windows) SIGBREAK; a second one changes nothing. SIGHUP reads settings anew.

    Raises HcsError.
    """
    if sys.__stderr__ is not None:  # a service of Windows may have none
        faulthandler.enable(sys.__stderr__)  # a watchdog, or a codec that crashes: every thread's place is said
    settings = load_settings(config)
    configure_logging(settings.log.format, settings.log.level)
    stop = threading.Event()
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        _on(name, stop.set)
    config = config.absolute()
    reloading = Reloading(settings, lambda: load_settings(config))
    _on("SIGHUP", reloading.ask)
    from hcs_daemon.service import Daemon  # noqa: PLC0415 (a signal during this slow import is heard already)

    return Daemon(settings, stop, reloading=reloading).run()


def _on(name: str, act: Callable[[], None]) -> None:
    """Have a signal act, where the system has it."""
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), lambda *_: act())
