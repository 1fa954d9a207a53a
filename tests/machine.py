"""A machine of its own for tests that install: this one's files, but /etc, /opt and /var/lib are copies or empty.

Made of a mount namespace, so that nothing of it is seen outside. systemd is a script that writes down what it is told.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SYSTEMCTL = """#!/bin/sh
# remembers what is asked of it, and which units are up; those in `broken` end at their start
echo "$*" >>/run/systemd/asked
for unit; do :; done # the last word
case $1 in
    list-units) cat /run/systemd/up ;;
    start | restart) ! grep -qsx "$unit" /run/systemd/broken || exit 1
        grep -q "^$unit " /run/systemd/up || echo "$unit loaded active running" >>/run/systemd/up ;;
    stop | disable) grep -v "^$unit " /run/systemd/up >/run/systemd/still || true
        mv /run/systemd/still /run/systemd/up ;;
esac
"""
BOOTSTRAP = """#!/usr/bin/env python3
# stands in for the project's own, which takes minutes: an environment that is the tests', and of the program the
# quickest part of `check`
import pathlib, sys
here = pathlib.Path(__file__).parent / ".venv" / "bin"
here.mkdir(parents=True, exist_ok=True)
(here.parent / "asked").write_text(" ".join(sys.argv[1:]))
(here / "check.py").write_text('''
import os, pathlib, sys
from hcs_daemon.config import load_settings
assert sys.argv[1:3] == ["check", "-c"]
settings = load_settings(pathlib.Path(sys.argv[3]))
print("checked as", os.geteuid())
watched, results = settings.watch.directory, settings.results.directory
sys.exit(0 if os.access(watched, os.R_OK) and os.access(results, os.W_OK) else 4)
''')
for name, first in {"python": "", "hcs-daemon": here / "check.py"}.items():
    (here / name).write_text(f"#!/bin/sh\\nPYTHONPATH=%(root)s exec %(python)s {first} \\"$@\\"\\n")
    (here / name).chmod(0o755)
"""


class Machine:
    """folder: where its own parts lie, and can be looked at from outside. Raises pytest's skip where that cannot be."""

    def __init__(self, folder: Path, *, booted: bool = True) -> None:
        if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
            pytest.skip("a machine of its own needs root and unshare")
        self.folder = folder
        for part in ("opt", "var/lib", "bin", "usr/local/bin", "run/systemd"):
            (folder / part).mkdir(parents=True)
        shutil.copytree("/etc", folder / "etc", symlinks=True)
        (folder / "etc" / "systemd" / "system").mkdir(parents=True, exist_ok=True)
        (folder / "bin" / "systemctl").write_text(SYSTEMCTL, "utf-8")
        (folder / "bin" / "systemctl").chmod(0o755)
        for name in ("asked", "up"):
            (folder / "run" / "systemd" / name).touch()
        if booted:
            (folder / "run" / "systemd" / "system").mkdir()
        if self.run("true").returncode != 0:
            pytest.skip("no mount namespace can be made here")

    def checkout(self) -> Path:
        """The project as somebody would fetch it, with a bootstrap.py that takes no time."""
        place = self.folder / "checkout"
        skip = shutil.ignore_patterns("__pycache__", "pictures", "schemas")
        for name in ("hcs_daemon", "systemd", "docs", "monitoring"):
            shutil.copytree(ROOT / name, place / name, ignore=skip)
        for name in ("pyproject.toml", "constraints.txt", "config.example.toml", "Makefile"):
            shutil.copy(ROOT / name, place)
        for name in ("README.md", "CHANGELOG.md", "LICENSE"):
            shutil.copy(ROOT / name, place)
        (place / "bootstrap.py").write_text(BOOTSTRAP % {"root": ROOT, "python": sys.executable}, "utf-8")
        return place

    def asked(self) -> list[str]:
        """What systemctl was asked since the last look, but for which units are up."""
        log = self.folder / "run" / "systemd" / "asked"
        asked = log.read_text("utf-8").splitlines()
        log.write_text("")
        return [line for line in asked if not line.startswith("list-units")]

    def tree(self) -> dict[str, tuple[int, int, int, bytes]]:
        """Every file and folder of its own: mode, owner, group, content."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            state = path.lstat()
            content = b""
            if path.is_symlink():
                content = os.fsencode(path.readlink())
            elif path.is_file():
                content = path.read_bytes()
            if "__pycache__" not in path.parts and path.parts[len(self.folder.parts)] != "run":
                found[str(path.relative_to(self.folder))] = (state.st_mode, state.st_uid, state.st_gid, content)
        return found

    def run(self, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """One command on it, as root, to its end."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            self.command(*command),
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
            env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", **environment},
        )

    def command(self, *command: object, before: str = "") -> list[str]:
        """What starts a command on it. before: shell lines for when the machine's parts are in place."""
        lines = ["set -e", *self._reachable()]
        for part in ("etc", "opt", "var/lib", "usr/local/bin", "run/systemd"):
            target = f"/{part}"
            if not Path(target).is_dir():  # /run/systemd, where systemd is not installed
                lines.append(f"mount -t tmpfs none /run; mkdir -p {target}")
            lines.append(f"mount --bind '{self.folder / part}' {target}")
        lines += [before, 'exec "$@"']
        alone = ("unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines), "sh")
        return [*alone, *map(str, command)]

    def _reachable(self) -> list[str]:
        """Shell lines that let every user reach the program and its Python, even where they lie in root's home."""
        home = Path("/root")
        needed = {ROOT, Path(sys.prefix), Path(sys.base_prefix), Path(self.folder)}
        hidden = sorted(path for path in needed if path.is_relative_to(home))
        tops = [path for path in hidden if not any(other in path.parents for other in hidden)]
        if not tops:
            return []
        lines = ["mount -t tmpfs none /mnt"]
        for number, path in enumerate(tops):
            lines.append(f"mkdir /mnt/{number}; mount --bind '{path}' /mnt/{number}")
        lines.append("mount -t tmpfs -o mode=755 none /root")
        lines += [f"mkdir -p '{path}'; mount --move /mnt/{number} '{path}'" for number, path in enumerate(tops)]
        return [*lines, "umount /mnt"]
