"""The command for finished plates: run without a shell, one plate at a time, with a time limit, again when it fails.

What is to be run comes from publish, and what came of it goes back there: plate.json keeps it. Nobody waits for this.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

from hcs_daemon.config import ENVIRONMENT_PREFIX, Results
from hcs_daemon.plate import AcquisitionId
from hcs_daemon.records import CommandEnded, FinishedPlate
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import CommandResult, PlateState

WAITS_S = (10.0, 60.0, 300.0, 1800.0)
"""Seconds before each further try; the last wait is repeated for ever."""
HASTY_WAITS_S = (1.0, 5.0)
"""The same where somebody waits for the end, as `process` does; after the last it is left to the next start."""
STOP_S = 5.0
"""Seconds that a running command has to end by itself when the daemon is to end."""
SAID_BYTES = 2000
"""Of the end of what a command wrote on standard error, so much is kept."""
HEAR_S = 1.0
"""Seconds that the end of what it wrote may take to arrive, once it has ended."""
_LOOK_S, _REST_S = 0.05, 0.25
"""Seconds between two looks, while a command runs and else."""


class Command:
    """One run of a program, begun when it is made. Raises OSError where it cannot be begun.

    words: program and arguments. folder: it runs there. until_s: monotonic seconds; then it is ended.
    """

    def __init__(self, words: Sequence[str], folder: Path, until_s: float) -> None:
        self.until_s = until_s
        program = shutil.which(words[0])
        if program is None:
            raise FileNotFoundError(f"{words[0]} is not there, or may not be run by this user")
        if program.casefold().endswith((".bat", ".cmd")):
            raise PermissionError(f"{program} is run by a shell, and a plate may be called like a command")
        self._process = subprocess.Popen(  # noqa: S603 (the settings' own program, without a shell)
            [program, *words[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=_environment(os.environ),
            start_new_session=os.name != "nt",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        assert self._process.stderr is not None
        self._listener = _Listener(self._process.stderr)
        self._listener.start()

    def look(self, now: float) -> tuple[int | None, str] | None:
        """Its exit status (None where it was ended) and in words what came of it; None while it runs."""
        code = self._process.poll()
        if code is not None:
            return code, self.end("" if code == 0 else _ended_with(code))
        if now >= self.until_s:
            return None, self.end("it took too long and was ended")
        return None

    def end(self, why: str) -> str:
        """End it, with all that it started and did not set apart; why, with the end of what it said."""
        if sys.platform != "win32":
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        elif self._process.returncode is None:  # a tree is found by its root alone
            tree = ["taskkill", "/T", "/F", "/PID", str(self._process.pid)]
            subprocess.run(tree, capture_output=True, timeout=STOP_S, check=False)  # noqa: S603
        with suppress(subprocess.TimeoutExpired):  # one that hangs in a dead share cannot be ended
            self._process.wait(STOP_S)
        lines = self._listener.close().decode("utf-8", "replace").splitlines()
        shown = " | ".join(filter(None, ("".join(filter(str.isprintable, line)).strip() for line in lines)))
        return ": ".join(filter(None, (why, shown)))


class _Listener(threading.Thread):
    """Reads what a command writes and keeps the end of it, in memory alone: what it writes fills no disk."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(name="command-said", daemon=True)
        self._pipe = pipe
        self._end = b""
        self._over = False

    def run(self) -> None:
        with self._pipe:
            while not self._over and (piece := os.read(self._pipe.fileno(), 1 << 16)):
                self._end = (self._end + piece)[-SAID_BYTES:]

    def close(self) -> bytes:
        """The end of what was written; a process that was set apart and writes more finds nobody listening."""
        self.join(HEAR_S)
        self._over = True
        return self._end


def _ended_with(code: int) -> str:
    return f"it ended with {code}" if code >= 0 else f"it was ended by signal {-code}"


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Ours without what is between systemd and us, and without our settings."""
    systemd = {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}
    return {
        name: value
        for name, value in ours.items()
        if name not in systemd and not name.upper().startswith(ENVIRONMENT_PREFIX)
    }


def words_for(words: Sequence[str], plate: FinishedPlate) -> list[str]:
    """The program and its arguments for one plate."""
    values = {
        "plate_dir": str(plate.folder),
        "plate": plate.acquisition.plate,
        "acquisition": plate.acquisition.acquisition,
        "state": PlateState.FINISHED.value,
        "status": plate.status.value,
        "finished_at": plate.finished_at.isoformat(),
    }
    return [words[0], *(word.format_map(values) for word in words[1:])]


@dataclass(slots=True)
class _Errand:
    plate: FinishedPlate
    tries: int = 0
    due_s: float = float("-inf")


class Errands:
    """Runs the command of `results` for the plates that come. Owned by its own thread.

    finished: the plates; a newer word on a plate replaces the one that waits. ended: where it is told what came of the
    last of `waits_s`, and of each try after it. waits_s: seconds before each further try. for_ever: the last of them is
    repeated, as a system that is down over a weekend needs. busy: a command runs.
    """

    def __init__(
        self,
        results: Results,
        telemetry: Telemetry,
        finished: SimpleQueue[FinishedPlate],
        ended: SimpleQueue[CommandEnded],
        waits_s: Sequence[float] = WAITS_S,
        *,
        for_ever: bool = True,
    ) -> None:
        self._results = results
        self._telemetry = telemetry
        self._finished = finished
        self._ended = ended
        self._waits_s = waits_s
        self._for_ever = for_ever
        self._waiting: dict[AcquisitionId, _Errand] = {}
        self._running: tuple[_Errand, Command] | None = None
        self._stopping = False
        self._log = get_log()

    @property
    def busy(self) -> bool:
        """Whether a command runs."""
        return self._running is not None

    @property
    def idle(self) -> bool:
        """Whether no plate waits for its command, or none can have it."""
        waits = bool(self._results.on_plate_finished) and (bool(self._waiting) or not self._finished.empty())
        return not (self.busy or waits)

    def apply(self, results: Results) -> None:
        """Go on by these settings."""
        self._results = results

    def step(self, now: float) -> bool:
        """Look at what runs, begin what is due; whether a command ended. now: monotonic seconds."""
        self._take()
        worked = self._running is not None and self._look(*self._running, now)
        due = next((errand for errand in self._waiting.values() if errand.due_s <= now), None)
        if due is not None and self._running is None and not self._stopping and self._results.on_plate_finished:
            self._begin(due, now)
        return worked

    def wait_s(self, _now: float) -> float:
        """Seconds until it is to be looked again."""
        return _LOOK_S if self.busy else _REST_S

    def stop(self, now: float) -> None:
        """Begin nothing more; what runs has a short while. What is not done plate.json says, for the next start."""
        self._stopping = True
        if self._running is not None:
            self._running[1].until_s = min(self._running[1].until_s, now + STOP_S)

    def close(self) -> None:
        """End what runs."""
        if self._running is not None:
            errand, command = self._running
            self._running = None
            self._say_failure(
                errand, command.end("the daemon ended, and the command with it"), "the next start runs it again"
            )

    def _take(self) -> None:
        with suppress(Empty):
            while True:
                plate = self._finished.get_nowait()
                known = self._waiting.get(plate.acquisition)
                under_way = self._running is not None and self._running[0].plate == plate
                if not (under_way or (known is not None and known.plate == plate)):
                    self._waiting[plate.acquisition] = _Errand(plate)

    def _begin(self, errand: _Errand, now: float) -> None:
        errand.tries += 1
        try:
            words = words_for(self._results.on_plate_finished, errand.plate)
            command = Command(words, errand.plate.folder, now + self._results.on_plate_finished_timeout_s)
        except (OSError, ValueError) as error:  # ValueError: a zero byte
            self._settle(errand, None, f"it could not be started: {error}", now)
            return
        del self._waiting[errand.plate.acquisition]
        self._running = (errand, command)

    def _look(self, errand: _Errand, command: Command, now: float) -> bool:
        end = command.look(now)
        if end is None:
            return False
        self._settle(errand, *end, now)
        self._running = None
        return True

    def _settle(self, errand: _Errand, code: int | None, detail: str, now: float) -> None:
        """Note how a try ended; a newer word on the plate, which came meanwhile, stands."""
        plate, acquisition = errand.plate, errand.plate.acquisition
        result = CommandResult.SUCCEEDED if code == 0 else CommandResult.FAILED
        self._telemetry.plate_commands.labels(result).inc()
        if result is CommandResult.SUCCEEDED:
            where = {"plate": acquisition.plate, "acquisition": acquisition.acquisition}
            self._log.info(Event.PLATE_TOLD, **where, tries=errand.tries)
        elif self._stopping:
            self._say_failure(errand, detail, "the next start runs it again")
            return
        elif self._for_ever or errand.tries <= len(self._waits_s):
            wait_s = self._waits_s[min(errand.tries, len(self._waits_s)) - 1]
            errand.due_s = now + wait_s
            self._waiting.setdefault(acquisition, errand)
            self._say_failure(errand, detail, f"it is tried again in {wait_s:g} s")
            if errand.tries <= len(self._waits_s):
                return
        else:
            self._waiting = {key: waiting for key, waiting in self._waiting.items() if waiting is not errand}
            self._say_failure(
                errand, detail, "mend results.on_plate_finished; the next start of the daemon tries again"
            )
        self._ended.put(CommandEnded(plate, result, errand.tries, code, detail))

    def _say_failure(self, errand: _Errand, detail: str, hint: str) -> None:
        acquisition = errand.plate.acquisition
        self._log.error(
            Event.PLATE_NOT_TOLD,
            plate=acquisition.plate,
            acquisition=acquisition.acquisition,
            tries=errand.tries,
            detail=detail,
            hint=hint,
        )
