"""install.sh: what it refuses, what it says beforehand, and its whole life on a machine of its own."""

import os
import shutil
import stat
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import ROOT, Machine

SCRIPT = ROOT / "systemd" / "install.sh"
UNITS = {"hcs-daemon.service", "hcs-daemon@.service"}
SERVED = "/var/lib/the results"
SETTINGS = """
[watch]
directory = "/var/lib/incoming"
[expect]
bit_depth = 16
channels = { DNA = "1", ER = "2", RNA = "3", AGP = "4", Mito = "5" }
pixel_size_um = 0.6
[model]
package = "demo"
device = "cpu"
[explain]
policy = "none"
[results]
directory = "/var/lib/the results"
min_free_bytes = 0
[http]
port = 0
textfile = "/var/lib/textfiles/hcs-daemon.prom"
"""


def script(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """install.sh, on this very machine: only ever with --root, or to be refused."""
    return subprocess.run(
        ["sh", SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
def test_no_shell_script_of_the_project_has_a_known_trap() -> None:
    scripts = [ROOT / ".ci" / "run", *ROOT.glob("*.sh"), *ROOT.glob("[!.]*/*.sh")]
    assert SCRIPT in scripts
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--faster"], "what is --faster?"),
        (["--results", ""], "--results wants a value"),
        (["--results", "results"], "results is not a whole path"),
        (["--results", '/data/"'], "cannot be named to systemd"),
        (["--instrument", "../etc"], "is no name for a service"),
        (["--instrument", "config"], "would share the settings"),
        (["--wheelhouse", "/nowhere/at/all"], "is not a folder"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    done = script(*arguments, "--root", tmp_path)
    assert done.returncode == 2
    what, hint = done.stderr.splitlines()
    assert complaint in what
    assert hint
    assert list(tmp_path.iterdir()) == []


def test_it_explains_itself() -> None:
    done = script("--help")
    assert done.returncode == 0
    for option in ("--instrument", "--results", "--wheelhouse", "--root", "--dry-run", "uninstall"):
        assert option in done.stdout


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_below_a_folder_it_only_puts_files_and_takes_them_away_again(tmp_path: Path) -> None:
    assert script("--root", tmp_path, "--dry-run").returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert script("install", "--root", tmp_path, "--instrument", "confocal", "--results", "/data/r").returncode == 0
    outside_the_program = {name for name in files(tmp_path) if not name.startswith("opt/")}
    assert outside_the_program == {
        *(f"etc/systemd/system/{unit}" for unit in UNITS),
        "etc/sysusers.d/hcs-daemon.conf",
        "etc/tmpfiles.d/hcs-daemon.conf",
        "etc/hcs-daemon/confocal.toml",
        "usr/local/bin/hcs-daemon",
    }
    settings = tmp_path / "etc/hcs-daemon/confocal.toml"
    written, example = (tomllib.loads(path.read_text("utf-8")) for path in (settings, ROOT / "config.example.toml"))
    assert written["results"].pop("directory") == "/data/r"
    assert written["watch"]["directory"] == example["watch"]["directory"]
    del example["results"]["directory"]
    assert written == example
    assert (tmp_path / "opt/hcs-daemon/hcs_daemon/service.py").read_bytes() == (
        ROOT / "hcs_daemon/service.py"
    ).read_bytes()
    assert script("--root", tmp_path, "--instrument", "confocal", "--results", "/data/r/").returncode == 0
    other = script("--root", tmp_path, "--instrument", "confocal", "--results", "/data/other")
    assert other.returncode == 2
    assert f"{settings} is there, and its results.directory is /data/r, not /data/other" in other.stderr
    settings.write_text("mine")
    assert script("--root", tmp_path, "--instrument", "confocal", "--results", "/data/r").returncode == 2
    assert script("--root", tmp_path, "--instrument", "confocal").returncode == 0
    assert settings.read_text() == "mine"
    done = script("uninstall", "--root", tmp_path)
    assert done.returncode == 0
    assert "settings" in done.stdout
    assert files(tmp_path) == {"etc/hcs-daemon/confocal.toml"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="hcs-daemon-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_without_systemd_it_names_other_ways(folder: Path) -> None:
    machine = Machine(folder, booted=False)
    before = machine.tree()
    done = machine.run("sh", SCRIPT)
    assert (done.returncode, machine.tree()) == (2, before)
    assert "not run by systemd" in done.stderr
    assert "container" in done.stderr


def test_only_root_may_install_and_anybody_may_ask(folder: Path) -> None:
    machine = Machine(folder)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    checkout = machine.checkout()
    before = machine.tree()
    done = machine.run(*nobody, "sh", checkout / "systemd" / "install.sh")
    assert (done.returncode, machine.tree()) == (2, before)
    assert "as root" in done.stderr
    asked = machine.run(*nobody, "sh", checkout / "systemd" / "install.sh", "--dry-run")
    assert (asked.returncode, machine.tree()) == (0, before), asked.stderr
    assert "would copy" in asked.stdout


def test_an_old_python_is_refused(folder: Path) -> None:
    machine = Machine(folder)
    before = machine.tree()
    done = machine.run("sh", SCRIPT, PYTHON="false")
    assert (done.returncode, machine.tree()) == (2, before)
    assert "no Python 3.11" in done.stderr


def test_its_whole_life(folder: Path) -> None:
    machine = Machine(folder)
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("no systemd-sysusers here")
    checkout = machine.checkout()
    install = ("sh", checkout / "systemd" / "install.sh")
    settings, service = folder / "etc/hcs-daemon/config.toml", "hcs-daemon.service"
    (folder / "var/lib/incoming").mkdir()
    (folder / "var/lib/textfiles").mkdir()
    (folder / "var/lib/textfiles").chmod(0o777)

    # first: the example's settings are for somebody to edit, and nothing is started
    first = machine.run(*install, "--results", "/var/lib/the results", "--wheelhouse", "/var")
    assert first.returncode == 0, first.stderr
    assert "installed, not started" in first.stdout
    assert machine.asked() == ["daemon-reload", "daemon-reload"]
    assert (folder / "opt/hcs-daemon/.venv/asked").read_text() == "install --wheelhouse /var"
    assert tomllib.loads(settings.read_text("utf-8"))["results"]["directory"] == "/var/lib/the results"
    (user,) = (line for line in (folder / "etc/passwd").read_text().splitlines() if line.startswith("hcs-daemon:"))
    own = (folder / "var/lib/hcs-daemon").stat()
    assert (stat.S_IMODE(own.st_mode), str(own.st_uid)) == (0o750, user.split(":")[2])
    assert user.endswith(":/var/lib/hcs-daemon:/usr/sbin/nologin")

    mine = settings.stat()
    assert (stat.S_IMODE(mine.st_mode), mine.st_uid, mine.st_gid) == (0o640, 0, own.st_gid)

    # settings that are wrong are said, and nothing is started
    settings.write_text(SETTINGS.replace("bit_depth = 16", "bit_depth = 17"))
    refused = machine.run(*install)
    assert refused.returncode == 1
    assert "bit_depth" in refused.stderr
    assert "start" not in " ".join(machine.asked())

    # settings that pass
    settings.write_text(SETTINGS)
    good = machine.run(*install)
    assert good.returncode == 0, good.stderr + good.stdout
    assert f"checked as {own.st_uid}" in good.stdout
    assert machine.asked()[-2:] == [f"enable {service}", f"restart {service}"]
    results = (folder / "var/lib/the results").stat()
    assert (stat.S_IMODE(results.st_mode), results.st_uid) == (0o750, own.st_uid)
    drop_in = folder / "etc/systemd/system/hcs-daemon.service.d/results.conf"
    opened = [line for line in drop_in.read_text().splitlines() if not line.startswith("#")]
    assert opened == ["[Service]", 'ReadWritePaths="-/var/lib/the results"', 'ReadWritePaths="-/var/lib/textfiles"']
    verified = machine.run("systemd-analyze", "verify", "--man=no", f"/etc/systemd/system/{service}")
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if "hcs-daemon" in line]) == (0, [])

    # again: the same, with the settings as they are now
    before = machine.tree()
    again = machine.run(*install)
    assert again.returncode == 0, again.stderr
    assert machine.tree() == before
    assert machine.asked() == ["daemon-reload", "daemon-reload", f"enable {service}", f"restart {service}"]

    # a share that is away now: one that runs waits for it, a new one is not started
    (folder / "var/lib/incoming").rename(folder / "var/lib/away")
    assert machine.run(*install).returncode == 0
    assert machine.asked()[-1] == f"restart {service}"
    machine.run("systemctl", "stop", service)
    assert machine.run(*install).returncode == 1
    assert "start" not in " ".join(machine.asked())
    (folder / "var/lib/away").rename(folder / "var/lib/incoming")
    assert machine.run(*install).returncode == 0

    # results on a disk that is away: nothing is made, or opened, on the machine's own
    machine.asked()
    results_there, results_away = folder / "var/lib/the results", folder / "var/lib/the results away"
    results_there.rename(results_away)
    before = machine.tree()
    unmade = machine.run(*install)
    assert (unmade.returncode, machine.tree()) == (1, before)
    assert f"{SERVED} was there, and is there no more" in unmade.stderr
    for named, content in {
        "etc/fstab": "nas:/screens /var/lib/the\\040results nfs defaults 0 0\n",
        "etc/systemd/system/nas.mount": f"[Mount]\nWhat=nas:/screens\nWhere={SERVED}\n",
    }.items():
        kept = (folder / named).read_text("utf-8") if (folder / named).exists() else ""
        (folder / named).write_text(content, "utf-8")
        for bare_mount_point in (False, True):
            if bare_mount_point:
                results_there.mkdir()
            unmounted = machine.run(*install)
            assert unmounted.returncode == 1
            assert f"is on {SERVED}, where nothing is mounted" in unmounted.stderr
            assert results_there.exists() == bare_mount_point
        results_there.rmdir()
        (folder / named).write_text(kept, "utf-8")
    assert not any("start" in line for line in machine.asked())
    results_away.rename(results_there)

    # another version: nothing runs while the program is exchanged, and a dry run says so
    machine.asked()
    (checkout / "hcs_daemon" / "new.py").touch()
    (folder / "opt/hcs-daemon/hcs_daemon/old.py").touch()
    before = machine.tree()
    dry = machine.run(*install, "--dry-run")
    assert (dry.returncode, machine.tree(), machine.asked()) == (0, before, [])
    assert f"would run: systemctl stop {service}" in dry.stdout
    assert machine.run(*install).returncode == 0
    asked = machine.asked()
    assert (asked[0], asked[-1]) == (f"stop {service}", f"restart {service}")
    assert {Path(name).name for name in machine.tree().keys() ^ before.keys()} == {"new.py", "old.py"}

    # one that passes and ends at once all the same, as on results of a newer version
    (folder / "bin" / "journalctl").write_text('#!/bin/sh\necho "which a newer hcs-daemon wrote, says $2"\n', "utf-8")
    (folder / "bin" / "journalctl").chmod(0o755)
    (folder / "run/systemd/broken").write_text(f"{service}\n", "utf-8")
    ended = machine.run(*install)
    assert ended.returncode == 1
    assert f"{service} did not start. What it said last:" in ended.stderr
    assert f"which a newer hcs-daemon wrote, says {service}" in ended.stderr
    assert "is started" not in ended.stdout
    (folder / "run/systemd/broken").unlink()
    assert machine.run(*install).returncode == 0
    machine.asked()

    # one that cannot be installed, for want of a network say: the one before is back, and runs
    (checkout / "hcs_daemon" / "newer.py").touch()
    good_bootstrap = (checkout / "bootstrap.py").read_text("utf-8")
    (checkout / "bootstrap.py").write_text(
        "import pathlib, shutil, sys\nshutil.rmtree(pathlib.Path(__file__).parent / '.venv')\nsys.exit('no network')\n"
    )
    before = machine.tree()
    failed = machine.run(*install)
    assert failed.returncode == 1
    assert "no network" in failed.stderr
    assert f"is back, and started again: {service}" in failed.stderr
    assert (machine.tree(), machine.asked()) == (before, [f"stop {service}", f"start {service}"])
    (checkout / "bootstrap.py").write_text(good_bootstrap, "utf-8")
    (checkout / "hcs_daemon" / "newer.py").unlink()

    # a second instrument, and it alone away again; the first goes on
    before = machine.tree()
    second = machine.run(*install, "--instrument", "confocal")
    assert second.returncode == 0, second.stderr + second.stdout
    assert (folder / "etc/hcs-daemon/confocal.toml").exists()
    assert not any(line.startswith(("stop", "restart")) for line in machine.asked())
    assert machine.run(*install[:1], "/opt/hcs-daemon/systemd/install.sh", "uninstall", "--instrument", "confocal")
    assert machine.asked() == ["disable --now hcs-daemon@confocal.service", "daemon-reload"]
    assert machine.tree().keys() - before.keys() == {"etc/hcs-daemon/confocal.toml"}

    # everything away, by the installed copy of the script itself; a dry run first
    before = machine.tree()
    remove = ("sh", "/opt/hcs-daemon/systemd/install.sh", "uninstall")
    dry = machine.run(*remove, "--dry-run")
    assert (dry.returncode, machine.tree(), machine.asked()) == (0, before, [])
    done = machine.run(*remove)
    assert done.returncode == 0, done.stderr
    assert machine.asked() == [f"disable --now {service}", "daemon-reload"]
    left = {name for name in machine.tree() if "hcs-daemon" in name and not name.startswith(("checkout", "var/lib"))}
    assert left == {"etc/hcs-daemon", "etc/hcs-daemon/config.toml", "etc/hcs-daemon/confocal.toml"}
    assert (folder / "var/lib/hcs-daemon").is_dir()
    assert (folder / "var/lib/the results").is_dir()
    assert list((folder / "opt").iterdir()) == []
    assert user in (folder / "etc/passwd").read_text()
