"""Settings that are read anew while the daemon runs: whole or not at all, and only those that are live."""

from collections.abc import Callable
from queue import SimpleQueue

from hcs_daemon.config import Settings, changed_keys, live_keys
from hcs_daemon.errors import HcsError
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import ReloadResult


class Reloading:
    """Reads the settings anew when somebody asked for it. Owned by the main thread; `ask` may be called by a signal.

    settings: those in force, as they were read. load: reads and checks all of them; raises HcsError.
    """

    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        self.settings = settings
        self._load = load
        self._asked: SimpleQueue[None] = SimpleQueue()  # unlike an event, a signal may set it at any instant
        self._no_explainer = settings.explain.policy == "none"

    def ask(self) -> None:
        """The settings are to be read anew."""
        self._asked.put(None)

    @property
    def asked(self) -> bool:
        """Whether somebody asked, and `take` has not looked since."""
        return not self._asked.empty()

    def take(self, telemetry: Telemetry) -> Settings | None:
        """Read the settings; those to be in force from now on, or None: then nothing changes, and the log says why."""
        while self.asked:
            self._asked.get()
        found = self._read()
        result = found if isinstance(found, ReloadResult) else ReloadResult.APPLIED
        telemetry.settings_reloads.labels(result).inc()
        if isinstance(found, ReloadResult):
            return None
        self.settings = found
        return found

    def _read(self) -> Settings | ReloadResult:
        try:
            wanted = self._load()
        except HcsError as error:
            get_log().error(
                Event.SETTINGS_REFUSED,
                detail=error.message,
                hint=f"{error.hint}; the settings stay as they were",
            )
            return ReloadResult.FAILED
        changed = changed_keys(self.settings, wanted)
        fixed = [key for key in changed if key not in live_keys() or self._needs_explainer(key, wanted)]
        if fixed:
            get_log().error(
                Event.SETTINGS_REFUSED,
                keys=fixed,
                detail=f"{', '.join(fixed)} cannot change while the daemon runs",
                hint="restart the daemon, or take them back; until then nothing of the file is taken",
            )
            return ReloadResult.REFUSED
        get_log().info(Event.SETTINGS_APPLIED, keys=changed)
        return wanted

    def _needs_explainer(self, key: str, wanted: Settings) -> bool:
        """A daemon that was started to explain nothing has not loaded what explains."""
        return key == "explain.policy" and self._no_explainer and wanted.explain.policy != "none"
