"""What Windows does otherwise: files that are open are held, and modules of Unix are not there."""

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fakes import CHANNELS, Clock, make_settings, no_sleep
from hcs_daemon.config import Settings
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.vocabulary import Reason
from held_files import HELD, open_in_a_viewer, unreadable
from processes import SIMULATED_CHANNELS, make_place, wait_until
from spine import Spine

ROOT = Path(__file__).parent.parent
SOURCES = [*sorted((ROOT / "hcs_daemon").rglob("*.py")), ROOT / "bootstrap.py"]
UNIX_ONLY = "crypt curses fcntl grp nis posix pty pwd readline resource spwd syslog termios tty"
"""The modules of Python's library that Windows lacks."""
GUARDED = ("sys.platform", "os.name", "hasattr")
UNIX_ATTRIBUTES = {
    "os": """chown chroot fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpriority getuid initgroups
        killpg lchown mkfifo mknod nice openpty pread pwrite sched_getaffinity sched_setaffinity sendfile setegid
        seteuid setgid setgroups setpgid setpriority setsid setuid statvfs sync sysconf uname wait wait3 wait4 O_CLOEXEC
        O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC""",
    "signal": """SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 alarm
        pause pthread_sigmask setitimer sigwait""",
    "socket": "AF_UNIX SO_REUSEPORT",
    "time": "tzset clock_gettime clock_settime",
}
"""What the modules that Windows has do not hold there."""


class Finds(ast.NodeVisitor):
    """Modules and attributes that Windows lacks, where nothing around them asks for the system first."""

    def __init__(self, source: str) -> None:
        self.found: list[str] = []
        self._functions = 0
        self._guarded = 0
        self.visit(ast.parse(source))

    def visit_Import(self, node: ast.Import) -> None:
        self._import(node.lineno, [alias.name for alias in node.names])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._import(node.lineno, [node.module or ""])

    def _import(self, line: int, names: list[str]) -> None:
        if not (self._functions or self._guarded):
            self.found += [f"{line}: import {name}" for name in names if name.partition(".")[0] in UNIX_ONLY.split()]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        guarded, self._guarded = self._guarded, self._guarded + any(map(_asks, node.body))
        self._functions += 1
        self.generic_visit(node)
        self._functions -= 1
        self._guarded = guarded

    def visit_If(self, node: ast.If) -> None:
        self._with_guard(node, asks=_asks_in(node.test))

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._with_guard(node, asks=_asks_in(node.test))

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._with_guard(node, asks=_asks_in(node))

    def _with_guard(self, node: ast.AST, *, asks: bool) -> None:
        self._guarded += asks
        self.generic_visit(node)
        self._guarded -= asks

    def visit_Attribute(self, node: ast.Attribute) -> None:
        module = node.value.id if isinstance(node.value, ast.Name) else ""
        if node.attr in UNIX_ATTRIBUTES.get(module, "").split() and not self._guarded:
            self.found.append(f"{node.lineno}: {module}.{node.attr}")
        self.generic_visit(node)


def _asks(statement: ast.stmt) -> bool:
    """Whether a statement leaves the function where the system is another one."""
    leaves = isinstance(statement, ast.If) and isinstance(statement.body[-1], ast.Return | ast.Raise)
    return leaves and _asks_in(statement.test)  # type: ignore[attr-defined]  # it is an If


def _asks_in(expression: ast.expr) -> bool:
    return any(guard in ast.unparse(expression) for guard in GUARDED)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_used_unasked_that_windows_lacks(path: Path) -> None:
    assert Finds(path.read_text("utf-8")).found == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import fcntl", ["1: import fcntl"]),
        ("from pwd import getpwuid", ["1: import pwd"]),
        ("import os\nos.geteuid()", ["2: os.geteuid"]),
        ("import signal\ndef f():\n    signal.signal(signal.SIGHUP, print)", ["3: signal.SIGHUP"]),
        ("import os, sys\nif sys.platform != 'win32':\n    os.geteuid()", []),
        ("import os\nhasattr(os, 'geteuid') and os.geteuid()", []),
        ("import os\ndef f():\n    if os.name == 'nt':\n        return\n    os.geteuid()", []),
        ("def f():\n    import resource", []),
    ],
)
def test_what_windows_lacks_is_found_where_nobody_asked(source: str, found: list[str]) -> None:
    assert Finds(source).found == found


@pytest.mark.skipif(sys.platform == "win32", reason="there they are not to be looked up")
def test_the_names_that_are_looked_for_exist_somewhere() -> None:
    for module, names in UNIX_ATTRIBUTES.items():
        there = set(dir(__import__(module)))
        assert set(names.split()) <= there


# ---- files that the instrument has not closed


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """For a simulated plate in `in`; results in `out`."""
    channels = {name: str(number) for number, name in enumerate(CHANNELS, start=1)}
    return make_settings(tmp_path, {"expect": {"channels": channels}, "explain": {"policy": "none"}})


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """The planes of six wells."""
    made = simulate_plate(tmp_path / "in", sleep=no_sleep, plate="P1", wells=6, size_px=64)
    return made.folder / "Images"


def stem(result: str) -> str:
    return result.rpartition("/")[2]


def statuses(spine: Spine) -> dict[str, str]:
    return {stem(well): status for well, status in spine.statuses().items()}


def test_a_file_that_is_held_while_it_is_written_is_waited_for_and_never_rejected(
    settings: Settings, images: Path
) -> None:
    plane = min(images.glob("r01c02*ch3*.tiff"))
    spine = Spine(settings, Clock())
    with unreadable(plane):
        spine.run(60)
        assert "A02" not in statuses(spine)
        assert statuses(spine)["A01"] == "complete"
        assert spine.metrics()["hcs_planes_pending"] == 1
    spine.run(30)
    assert set(statuses(spine).values()) == {"complete"}
    assert spine.rejections() == []
    assert list(settings.results.directory.rglob("rejected.jsonl")) == []


def test_a_file_that_is_held_for_long_is_said_once_then_rejected_and_taken_back_when_it_is_let_go(
    settings: Settings, images: Path
) -> None:
    plane = min(images.glob("r01c02*ch3*.tiff"))
    spine = Spine(settings, Clock())
    with unreadable(plane), capture_logs() as lines:
        spine.run(settings.expect.well_timeout_s + 60)
    (said,) = (line for line in lines if line["event"] == "file.held")
    assert said["path"].endswith(plane.name)
    assert HELD in said["detail"]
    (rejection,) = spine.rejections()
    assert rejection["reason"] == Reason.UNREADABLE
    assert rejection["path"].endswith(plane.name)
    assert statuses(spine)["A02"] == "rejected"
    spine.run(4000)
    assert spine.rejections() == []
    assert set(statuses(spine).values()) == {"complete"}


def test_a_stop_while_a_file_is_held_loses_nothing(settings: Settings, images: Path) -> None:
    plane = min(images.glob("r01c02*ch3*.tiff"))
    clock = Clock()
    first = Spine(settings, clock)
    with unreadable(plane):
        first.run(60)
        first.end()
        second = Spine(settings, clock)
        second.run(60)
        assert "A02" not in statuses(second)
    second.run(30)
    second.end()
    assert set(statuses(second).values()) == {"complete"}
    assert second.rejections() == []


def test_a_folder_that_is_complete_is_not_waited_for(settings: Settings, images: Path) -> None:
    plane = min(images.glob("r01c02*ch3*.tiff"))
    spine = Spine(settings, Clock(), finite=True)
    with unreadable(plane):
        spine.process()
    assert [line["reason"] for line in spine.rejections()] == ["unreadable"]


# ---- results that somebody looks at


def written_again(images: Path, pattern: str) -> None:
    """The instrument takes the site anew: other pixels, the same names."""
    for path in images.glob(pattern):
        other = next(images.glob(path.name.replace("r01c02", "r02c03")))
        path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("ending", ["json", "png"])
def test_a_result_that_is_open_in_a_viewer_waits_and_the_others_go_on(
    ending: str, settings: Settings, images: Path
) -> None:
    late = {path: path.read_bytes() for well in ("r01c02", "r02c01") for path in sorted(images.glob(f"{well}*ch5*"))}
    for path in late:
        path.unlink()
    spine = Spine(settings.model_copy(), Clock())
    spine.run(settings.expect.well_timeout_s + 30)
    assert {statuses(spine)[well] for well in ("A02", "B01")} == {"partial"}
    (result,) = settings.results.directory.rglob("wells/A02.json")
    viewed = result.with_suffix(f".{ending}")
    viewed.touch()
    with open_in_a_viewer(viewed), capture_logs() as lines:
        for path, data in late.items():
            path.write_bytes(data)
        spine.run(60)
        assert statuses(spine)["B01"] == "complete"
        assert statuses(spine)["A02"] == "partial"
        assert spine.publisher.blocked is None
        assert not spine.publisher.idle
    (said,) = (line for line in lines if line["event"] == "result.held")
    assert said["path"] == str(viewed)
    spine.run(5)
    assert statuses(spine)["A02"] == "complete"
    assert not list(settings.results.directory.rglob("*.tmp"))
    spine.run(60)
    (plate,) = spine.plates().values()
    assert plate["state"] == "finished"


def test_a_plate_file_that_is_held_stops_no_well_and_a_stop_meanwhile_loses_nothing(
    settings: Settings, images: Path
) -> None:
    late = {path: path.read_bytes() for path in images.glob("r01c02*")}
    for path in late:
        path.unlink()
    clock = Clock()
    spine = Spine(settings, clock)
    spine.run(60)
    (table,) = settings.results.directory.rglob("sites.parquet")
    with open_in_a_viewer(table):
        for path, data in late.items():
            path.write_bytes(data)
        spine.run(60)
        assert statuses(spine)["A02"] == "complete"
        before = table.read_bytes()
        spine.end()
        assert table.read_bytes() == before
    second = Spine(settings, clock)
    second.run(60)
    second.end()
    assert table.read_bytes() != before
    assert second.plates()["P1/" + table.parent.name]["state"] == "finished"


def test_a_list_that_is_held_is_named_and_waited_for(settings: Settings, images: Path) -> None:
    bad = min(images.glob("r01c02*ch3*.tiff"))
    bad.write_bytes(b"no image")
    spine = Spine(settings, Clock())
    spine.run(60)
    (listed,) = settings.results.directory.rglob("rejected.jsonl")
    worse = min(images.glob("r01c03*ch3*.tiff"))
    with unreadable(listed):
        worse.write_bytes(b"no image either")
        spine.run(60)
        assert str(listed) in str(spine.publisher.blocked)
    spine.run(10)
    assert len(spine.rejections()) == 2


# ---- a service wrapper that wants it to stop


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends another signal in place of Windows' own")
def test_ctrl_break_stops_the_service_cleanly(tmp_path: Path) -> None:
    place = make_place(tmp_path, SIMULATED_CHANNELS, explain="none")
    program = (
        "import signal; signal.SIGBREAK = signal.SIGUSR1\n"
        "from hcs_daemon.__main__ import main\n"
        f"raise SystemExit(main(['run', '-c', {str(place.config)!r}]))"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        try:
            wait_until(place.is_ready, 120)
            process.send_signal(signal.SIGUSR1)
            assert process.wait(60) == 0
        finally:
            process.kill()
