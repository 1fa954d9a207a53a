"""`hcs-daemon demo`: the whole story on a simulated screen.

A plate is simulated, then written again as an instrument would, some of its files spoiled on the way, while the daemon
runs as a service of its own. At the end what it said is laid beside what was planted.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NoReturn

from hcs_daemon.config import ENVIRONMENT_PREFIX
from hcs_daemon.demo.findings import Outcome, Planted, doubts_of, read_outcome, striking_well, tell
from hcs_daemon.errors import FolderError, HcsError, SettingsError
from hcs_daemon.plate import PLATE_SHAPES, WellPosition, plate_wells
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.instrument import SimulatedPlate, simulate_plate
from hcs_daemon.simulate.layout import Role, WellPlan
from hcs_daemon.simulate.replay import replay
from hcs_daemon.simulate.spoil import eight_bit, eight_bit_scaled, other_shape, text, truncated
from hcs_daemon.simulate.workers import workers
from hcs_daemon.telemetry import parse_metrics
from hcs_daemon.terminal import counted, say
from hcs_daemon.vocabulary import Reason

WELLS = 96
SIZE_PX = 270
SEED = 2026
SPEED = 1.5
PATIENCE_S = 300.0
"""Seconds that the daemon has, after the instrument wrote its last file."""
LOOK_S = 0.25
MARK = ".made-by-hcs-daemon-demo"
_OURS = ("recorded", "incoming", "results", "truth_masks", "truth.csv", "layout.csv", "config.toml", "daemon.log")

Sleep = Callable[[float], None]
Spoil = Callable[[bytes], bytes]

SPOILS: tuple[tuple[Reason, str, Spoil], ...] = (
    (Reason.BIT_DEPTH, "8 bits times 257", eight_bit_scaled),
    (Reason.TRUNCATED, "cut off half-way", truncated),
    (Reason.NOT_AN_IMAGE, "a text file named .tiff", text),
    (Reason.WRONG_SHAPE, "another size", other_shape),
    (Reason.WRONG_CONTAINER, "an 8-bit image", eight_bit),
)
"""One plane each, in a treated well each, which then has no prediction."""
ADDED = (Reason.DUPLICATE_PLANE, Reason.UNKNOWN_CHANNEL)
"""And two files too many: the same plane twice, and a channel that nobody expects."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The folders and files of one demonstration."""

    folder: Path

    @property
    def recorded(self) -> Path:
        """The plate as simulated."""
        return self.folder / "recorded"

    @property
    def incoming(self) -> Path:
        """Where the instrument writes, and the daemon watches."""
        return self.folder / "incoming"

    @property
    def results(self) -> Path:
        """Where the daemon writes."""
        return self.folder / "results"

    @property
    def config(self) -> Path:
        """The daemon's settings."""
        return self.folder / "config.toml"

    @property
    def log(self) -> Path:
        """What the daemon said."""
        return self.folder / "daemon.log"


def run_demo(directory: Path, *, sleep: Sleep, wells: int = WELLS, speed: float = SPEED, package: str = "demo") -> int:
    """0 when the story went as told, 1 with words when not. sleep: waits so many seconds. Raises HcsError.

    speed: the instrument's, as in `replay`. package: the model's.
    """
    began = time.monotonic()
    stage = prepare(directory)
    imaged = imaged_wells(wells)
    say(f"1  {len(imaged)} wells of a {wells}-well plate are simulated with planted effects in {stage.recorded}")
    plate = record(stage, wells, imaged, sleep)
    spoils = choose_spoils(plate.plans)
    say(f"2  the daemon starts, watching {stage.incoming}")
    port = _free_port()
    write_settings(stage, port, package)
    with running(stage, port, sleep) as daemon:
        say(
            f"3  the instrument writes {counted(plate.planes + len(ADDED), 'plane')},"
            f" {len(SPOILS)} spoiled on the way and {len(ADDED)} too many"
        )
        replay(plate.folder, stage.incoming, sleep=sleep, speed=speed, alter=_spoiler(spoils))
        _wait_for_results(stage, port, plate, daemon, sleep)
        say("4  the plate is finished; the daemon is stopped")
        stopped = _stop(daemon)
    outcome = read_outcome(stage.results)
    expected = Counter([*(reason for reason, _ in spoils.values()), *ADDED])
    told = Planted(plate.plans, frozenset(spoiled_wells(plate.plans, spoils)), expected)
    tell(told, outcome)
    say()
    say("\n".join(what_to_look_at(stage, told, outcome)))
    say(
        f"it took       {time.monotonic() - began:.0f} s; the model is for demonstration and knows simulated cells only"
    )
    doubts = doubts_of(told, outcome)
    if stopped != 0:
        doubts.append(f"the daemon ended with {stopped}, not 0")
    for doubt in doubts:
        say(f"NOT AS TOLD: {doubt}")
    return 1 if doubts else 0


# ---- before


def prepare(directory: Path) -> Stage:
    """An empty stage. What an earlier demonstration made is removed, and nothing else ever.

    Raises SettingsError for a folder that is not ours, FolderError for one that cannot be written.
    """
    mark = directory / MARK
    try:
        if directory.exists() and not mark.is_file() and (not directory.is_dir() or any(directory.iterdir())):
            raise SettingsError(
                f"{directory} is there and was not made by a demonstration",
                "name an empty or new folder with --directory; nothing was removed",
            )
        directory.mkdir(parents=True, exist_ok=True)
        mark.write_text("hcs-daemon demo replaces what it made in this folder\n", "utf-8")
        for name in _OURS:
            _remove(directory / name)
        (directory / "incoming").mkdir()
    except OSError as error:
        raise FolderError(
            f"{error.filename or directory} cannot be used: {error.strerror}", "name another folder with --directory"
        ) from error
    return Stage(directory.resolve())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def imaged_wells(wells: int) -> list[WellPosition]:
    """The wells of a plate that are imaged: on larger ones not those at its edge, which dry out first."""
    rows, columns = PLATE_SHAPES[wells]
    rim = 1 if wells >= 96 else 0
    return [
        position
        for position in plate_wells(wells)
        if rim < position.row <= rows - rim and rim < position.column <= columns - rim
    ]


def record(stage: Stage, wells: int, imaged: Sequence[WellPosition], sleep: Sleep) -> SimulatedPlate:
    """Simulate the plate, and add the files too many."""
    with workers(len(imaged)) as executor:
        plate = simulate_plate(
            stage.recorded,
            sleep=sleep,
            plate="DEMO",
            wells=wells,
            size_px=SIZE_PX,
            seed=SEED,
            positions=imaged,
            layout=stage.folder / "layout.csv",
            truth=stage.folder / "truth.csv",
            executor=executor,
        )
    images, last = plate.folder / "Images", plate.plans[-1]
    plane = images / plane_name(last, 1)
    shutil.copyfile(plane, plane.with_suffix(".tif"))  # another path, the same address
    shutil.copyfile(plane, images / plane_name(last, 9))
    return plate


def plane_name(plan: WellPlan, channel_id: int) -> str:
    """The name of a well's plane, of its only site."""
    position = plan.position
    return f"r{position.row:02d}c{position.column:02d}f01p01-ch{channel_id}sk1fk1fl1.tiff"


def choose_spoils(plans: Sequence[WellPlan]) -> dict[str, tuple[Reason, Spoil]]:
    """Plane file -> why it will be refused, and how it is spoiled: treated wells, one after the other."""
    treated = [plan for plan in plans if plan.role is Role.TREATMENT]
    step = len(treated) // len(SPOILS)
    return {
        plane_name(treated[index * step], 1 + index % len(CHANNELS)): (reason, spoil)
        for index, (reason, _, spoil) in enumerate(SPOILS)
    }


def _spoiler(spoils: Mapping[str, tuple[Reason, Spoil]]) -> Callable[[Path, bytes], bytes]:
    def alter(path: Path, data: bytes) -> bytes:
        return spoils[path.name][1](data) if path.name in spoils else data

    return alter


def spoiled_wells(plans: Sequence[WellPlan], spoils: Mapping[str, tuple[Reason, Spoil]]) -> Iterator[str]:
    """The wells that lack a plane."""
    for plan in plans:
        if any(plane_name(plan, channel) in spoils for channel in range(1, len(CHANNELS) + 1)):
            yield plan.position.name


def write_settings(stage: Stage, port: int, package: str) -> None:
    """The daemon's settings, as a person would write them."""
    channels = ", ".join(f'{name} = "{number}"' for number, name in enumerate(CHANNELS, 1))
    stage.config.write_text(
        f"""\
[watch]
directory = "incoming"
instrument = "harmony"
settle_s = 0.5
rescan_s = 1.0

[expect]
bit_depth = 16
channels = {{ {channels} }}

[model]
package = '{package}'
max_wait_s = 0.5

[results]
directory = "results"
min_free_bytes = 0
plate_refresh_s = 5.0

[http]
port = {port}

[log]
format = "json"
""",
        "utf-8",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- the daemon


@contextmanager
def running(stage: Stage, port: int, sleep: Sleep) -> Iterator["subprocess.Popen[bytes]"]:
    """The daemon as a service of its own, ready; ended with the block, whatever happens in it."""
    command = [sys.executable, "-m", "hcs_daemon", "run", "-c", str(stage.config)]
    # whatever the person's own daemon is told by the environment is not meant for this one
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows: so that it can be told to stop, and we not
    before = signal.signal(signal.SIGTERM, _leave)  # else the daemon would outlive a demonstration that is ended
    with stage.log.open("wb") as log:
        daemon = subprocess.Popen(  # noqa: S603 (ourselves)
            command, stdout=log, stderr=log, env=environment, creationflags=group
        )
        try:
            deadline = time.monotonic() + PATIENCE_S
            while _ask(port, "/readyz") is None:
                _still_there(daemon, stage, deadline)
                sleep(LOOK_S)
            yield daemon
        finally:
            if daemon.poll() is None:
                daemon.kill()
            daemon.wait()
            signal.signal(signal.SIGTERM, before)


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _still_there(daemon: "subprocess.Popen[bytes]", stage: Stage, deadline: float) -> None:
    if daemon.poll() is not None:
        raise HcsError(f"the daemon ended by itself: {last_words(stage.log)}", f"{stage.log} has all that it said")
    if time.monotonic() > deadline:
        raise HcsError("the daemon took too long", f"{stage.log} has all that it said; is the machine busy?")


def last_words(log: Path) -> str:
    """The last error in a daemon's log, else its last line."""
    lines = log.read_text("utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if '"level": "error"' in line), lines[-1] if lines else "nothing")


def _ask(port: int, page: str) -> str | None:
    """The page's text, or None where there is none yet."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", page)
        answer = connection.getresponse()
        return answer.read().decode("utf-8") if answer.status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def _wait_for_results(
    stage: Stage, port: int, plate: SimulatedPlate, daemon: "subprocess.Popen[bytes]", sleep: Sleep
) -> None:
    """Until the plate is finished and every picture drawn."""
    deadline = time.monotonic() + PATIENCE_S
    while not _is_finished(stage.results, len(plate.plans)) or _pending(port):
        _still_there(daemon, stage, deadline)
        sleep(LOOK_S)


def _is_finished(results: Path, wells: int) -> bool:
    states = [json.loads(path.read_bytes())["state"] for path in results.glob("*/*/plate.json")]
    published = len(list(results.glob("*/*/wells/*.json")))
    return states == ["finished"] and published == wells and len(list(results.glob("*/*/wells/*.png"))) == wells


def _pending(port: int) -> bool:
    return parse_metrics(_ask(port, "/metrics") or "").get("hcs_planes_pending", 1) > 0


def _stop(daemon: "subprocess.Popen[bytes]") -> int:
    """Tell it to stop, as a service manager would; its exit code."""
    daemon.send_signal(getattr(signal, "CTRL_BREAK_EVENT") if os.name == "nt" else signal.SIGTERM)  # noqa: B009 (only there on Windows)
    return daemon.wait(timeout=60)


# ---- after


def what_to_look_at(stage: Stage, planted: Planted, outcome: Outcome) -> list[str]:
    """Where the results are, and what to open first."""
    folder = next(stage.results.glob("*/*/plate.json")).parent
    well = striking_well(planted, outcome)
    return [
        f"pictures      {outcome.pictures} in {folder / 'wells'}",
        f"              the plate at a glance: {folder / 'plate.png'}",
        f"look first    {folder / 'wells' / well}.png, then {well}.json beside it",
        f"and then      {folder / 'rejected.jsonl'}",
        f"planted       {stage.folder / 'truth.csv'}",
        f"the daemon    {stage.config}, {stage.log}",
    ]
