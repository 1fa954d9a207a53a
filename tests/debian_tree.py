"""A fresh Debian to install into: the tree that debootstrap makes, commands inside it, and what it installs from."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ca-certificates", "git", "make", "python3", "python3-venv", "sudo", "systemd")
"""What the manual takes to be there."""
PUBLIC_MIRROR = "http://deb.debian.org/debian"


def load_bootstrap() -> ModuleType:
    """The recipe as a module; it stands in no package."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bootstrap"] = module
    spec.loader.exec_module(module)
    return module


def need(*tools: str) -> None:
    """Skip the test where one of these programs is not here, or where nobody may use them."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here")
    if os.geteuid() != 0:
        pytest.skip("a tree of its own needs root")


def copy_project(source: Path, folder: Path) -> None:
    """The project as a clone would have it, without what was built in the source."""
    built = [".venv", ".*_cache", ".hypothesis", "__pycache__", "hcs-demo", "wheelhouse", "site", "dist", "build"]
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".git", *built), symlinks=True)


def make_wheelhouse(project: Path, folder: Path) -> None:
    """Every wheel that this Python needs for a project; skips where pip reaches no index to take them from."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder.parent)]
    if subprocess.run([*download, "hatchling"], capture_output=True, check=False).returncode != 0:
        pytest.skip("pip reaches no package index here")
    (project / ".venv").symlink_to(sys.prefix)  # its pip does
    subprocess.run([sys.executable, project / "bootstrap.py", "wheelhouse", folder], check=True, capture_output=True)


def make_tree(folder: Path) -> None:
    """A minimal Debian of this machine's release, from the mirror that this machine installs from."""
    lines = Path("/etc/os-release").read_text("utf-8").replace('"', "").splitlines()
    release = dict(line.split("=", 1) for line in lines if "=" in line)
    if release.get("ID") != "debian":
        pytest.skip("a tree is made of the Debian it is made on")
    suite = release["VERSION_CODENAME"]
    packages = f"--include={','.join(PACKAGES)}"
    command: list[str] = ["debootstrap", "--variant=minbase", packages, suite, str(folder), _mirror(suite)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    for unneeded in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(folder / unneeded)
    (folder / "dev" / "shm").chmod(0o1777)  # as in every machine that has started


def _mirror(suite: str) -> str:
    ask = ["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    found = [line.split()[2] for line in done.stdout.splitlines() if line.startswith(f"{suite} main ")]
    return found[0] if found else PUBLIC_MIRROR


def inside(tree: Path, script: str, *, user: str, timeout_s: float = 600.0) -> subprocess.CompletedProcess[str]:
    """Run shell commands in the tree as one of its users, in that user's home, with no network but loopback.

    What it mounts and starts is gone when it ends.
    """
    alone = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    up = ["sh", "-c", 'ip link set lo up && exec unshare --root "$0" --mount-proc "$@"', str(tree)]
    command = [*alone, *up, "/usr/sbin/runuser", "--login", user, "--command", script]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False
    )
