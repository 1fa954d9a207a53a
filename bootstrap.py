"""The one recipe that sets the project up: `python bootstrap.py demo|test|install|bench`.

Standard library only, so that it runs on a bare Python, on Linux and on Windows (`py bootstrap.py demo`). The
Makefile's targets call it. Everything is installed into `.venv` beside this file, nothing anywhere else.
"""

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = "hcs-daemon.stamp"
OLDEST = (3, 11)
BENCHMARKS = (
    ("throughput.py", "RESULTS.md"),
    ("names.py", "NAMES.md"),
    ("manifest.py", "MANIFEST.md"),
    ("quality.py", "QUALITY.md"),
    ("forensics.py", "FORENSICS.md"),
    ("channels.py", "CHANNELS.md"),
    ("explanations.py", "EXPLANATIONS.md"),
    ("training.py", "TRAINING.md"),
)
"""In `benchmarks/`: the script, and the page that it writes."""
CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy",),
    ("mypy", "--platform", "win32", "--cache-dir", ".mypy_cache/win32", "hcs_daemon", "bootstrap.py"),
    ("lint-imports",),
    ("pytest",),
)


class SetupError(Exception):
    """The set-up cannot go on: what is wrong, and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def program(venv: Path, name: str) -> Path:
    """Where a program stands in a virtual environment: `bin/NAME`, on Windows `Scripts/NAME.exe`."""
    return venv / "Scripts" / f"{name}.exe" if os.name == "nt" else venv / "bin" / name


def fingerprint(root: Path, version: str) -> str:
    """A hash of all that decides what is installed: pyproject.toml, constraints.txt and the Python version."""
    digest = hashlib.sha256(version.encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def check_python(version: tuple[int, ...]) -> None:
    """Raise SetupError for a Python that is too old."""
    if version < OLDEST:
        raise SetupError(
            f"this is Python {'.'.join(map(str, version))}",
            f"take {'.'.join(map(str, OLDEST))} or newer: make PYTHON=python3.12 …, or py -3.12 bootstrap.py …",
        )


def is_current(venv: Path, wanted: str, *, test: bool) -> bool:
    """Whether `venv` holds the installation `wanted`; one with the test tools serves for both."""
    try:
        stamp = (venv / STAMP).read_text("utf-8").split()
    except (OSError, ValueError):
        return False
    return stamp in ([wanted, "test"], [wanted, "test" if test else "plain"])


def install(*, test: bool) -> None:
    """Make `.venv` and install the program into it, with the test tools if asked; at once when that is done."""
    wanted = fingerprint(ROOT, sys.version + str(VENV))
    if is_current(VENV, wanted, test=test):
        return
    if not _runs(VENV):
        _make_venv()
    (VENV / STAMP).unlink(missing_ok=True)
    what = ".[test]" if test else "."
    print(f"installing {what} into {VENV} (the first time some minutes) …", flush=True)
    pip: list[str | Path] = [program(VENV, "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if _run([*pip, "-c", "constraints.txt", "-e", what]) != 0:
        raise SetupError("pip could not install the project", "its last lines above say why; docs/install.md may help")
    (VENV / STAMP).write_text(f"{wanted} {'test' if test else 'plain'}\n", "utf-8")


def only_install() -> int:
    """Install, and say where the program is."""
    install(test=False)
    print(f"installed: {program(VENV, 'hcs-daemon')}")
    return 0


def demo() -> int:
    """Install, and run the demonstration."""
    install(test=False)
    return _run([program(VENV, "hcs-daemon"), "demo"])


def test() -> int:
    """Install the test tools too, run every check, and say which failed. HCS_ALL=1 adds the slow tests."""
    install(test=True)
    failed = [" ".join(check) for check in CHECKS if not _passes(check)]
    for name in failed:
        print(f"FAILED: {name}")
    return 1 if failed else 0


def bench() -> int:
    """Install, and measure; the figures go to the pages beside the benchmarks, above all RESULTS.md."""
    install(test=False)
    folder = Path("benchmarks")
    done = [_run([program(VENV, "python"), folder / name, "--write", folder / page]) for name, page in BENCHMARKS]
    return max(done)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one of the four things; the exit status."""
    parser = argparse.ArgumentParser(prog="bootstrap.py", description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=["demo", "test", "install", "bench"])
    target = parser.parse_args(arguments).target
    try:
        check_python(sys.version_info[:2])
        return {"demo": demo, "test": test, "install": only_install, "bench": bench}[target]()
    except SetupError as error:
        print(f"{error}\n{error.hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _make_venv() -> None:
    if importlib.util.find_spec("ensurepip") is None:
        _install_ensurepip()
    print(f"making {VENV} …", flush=True)
    if _run([sys.executable, "-m", "venv", "--clear", VENV]) != 0 or not _runs(VENV):
        raise SetupError(f"{VENV} could not be made", "is the folder writable, and the disk not full?")


def _install_ensurepip() -> None:
    """Debian and Ubuntu ship Python without ensurepip, which a virtual environment needs."""
    package = f"python3.{sys.version_info.minor}-venv"
    hint = f"install the package that has it: sudo apt-get install {package}"
    if not (hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get")):
        raise SetupError("this Python has no ensurepip, so no virtual environment can be made", hint)
    _run(["apt-get", "update", "--quiet"])  # an old list may do: the next command tells
    if _run(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", package]) != 0:
        raise SetupError("this Python has no ensurepip, and apt-get could not install it", hint)


def _runs(venv: Path) -> bool:
    """Whether the environment's own Python is this version and has pip; a half-made or moved one has not."""
    python = program(venv, "python")
    if not python.exists():
        return False
    asked = "import pip, sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    return done.stdout.strip() == f"{sys.version_info.major}.{sys.version_info.minor}"


def _passes(check: Sequence[str]) -> bool:
    print(f"== {' '.join(check)}", flush=True)
    return _run([program(VENV, check[0]), *check[1:]]) == 0


def _run(command: Sequence[str | Path]) -> int:
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
