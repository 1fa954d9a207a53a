"""The one recipe that sets the project up: `python bootstrap.py demo|test|install|bench|wheelhouse`.

Standard library only, so that it runs on a bare Python, on Linux and on Windows (`py bootstrap.py demo`). The
Makefile's targets call it. Everything is installed into `.venv` beside this file, nothing anywhere else.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    ("card.py", "CARD.md"),
)
"""In `benchmarks/`: the script, and the page that it writes."""
WHEEL_LIST = "requirements.txt"
"""In a wheelhouse: which wheels there are, with the SHA-256 of each, as `pip install --require-hashes` reads it."""
GLIBC = 28
"""The newest glibc (2.28) that wheels for another Linux may ask for: Debian 10, RHEL 8 and later have it."""
OTHER_MACHINES = {
    "win_amd64": (
        ("win_amd64",),
        {"os_name": "nt", "sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64"},
    ),
    "linux_x86_64": (
        ("manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in range(5, GLIBC + 1))),
        {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    ),
}
"""Machines that a wheelhouse can be made for elsewhere: pip's names of the wheels that run there, and what the
conditions in packages' metadata are to be told (PEP 508), since pip itself always tells them of its own machine."""
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
    """Whether `venv` holds the installation `wanted`; one with the test tools, or of a wheelhouse, serves too."""
    return _stamp(venv)[:2] in ([wanted, "test"], [wanted, "test" if test else "plain"])


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
    if _run([*_pip("install"), "-c", "constraints.txt", "-e", what]) != 0:
        raise SetupError("pip could not install the project", "its last lines above say why; docs/install.md may help")
    (VENV / STAMP).write_text(f"{wanted} {'test' if test else 'plain'}\n", "utf-8")


@dataclass(frozen=True, slots=True)
class Wheelhouse:
    """A folder with every wheel that an install needs, and what its list says of them.

    python: its version (3.12), platform: win_amd64, linux_x86_64; source: the digest of the code it was made from;
    wheels: file -> SHA-256; digest: that of the list itself.
    """

    folder: Path
    python: str
    platform: str
    source: str
    wheels: Mapping[str, str]
    digest: str


def make_wheelhouse(folder: Path, platform: str, python: str) -> int:
    """Fill `folder` with every wheel that an install needs on that platform and Python, and list them.

    Raises SetupError for a folder that holds something else, and where a wheel is not to be had.
    """
    check_python(tuple(map(int, python.split("."))))
    if folder.exists() and any(folder.iterdir()) and not (folder / WHEEL_LIST).is_file():
        raise SetupError(f"{folder} is not empty, and no wheelhouse", "name a new folder, or an older wheelhouse")
    if not _runs(VENV):
        _make_venv()
    folder.mkdir(parents=True, exist_ok=True)
    for old in (folder / WHEEL_LIST, *folder.glob("*.whl")):
        old.unlink(missing_ok=True)
    print(f"collecting wheels for Python {python} on {platform} in {folder} (some minutes) …", flush=True)
    own = _own_wheel(folder)
    if (platform, python) == (this_platform(), this_python()):
        _download(folder, [own])
    else:
        _download_for(folder, platform, python)
    listed = write_wheel_list(folder, platform, python)
    size = sum((folder / name).stat().st_size for name in listed.wheels)
    print(f"{len(listed.wheels)} wheels, {size / 1e6:.0f} MB; the list's SHA-256: {listed.digest}")
    print(f"copy the project's folder with it to the other machine; there: bootstrap.py install --wheelhouse {folder}")
    return 0


def write_wheel_list(folder: Path, platform: str, python: str) -> Wheelhouse:
    """List the wheels of a folder with their digests; the list is there whole or not at all."""
    about = json.dumps({"python": python, "platform": platform, "source": source_digest(ROOT)})
    lines = [f"# {about}"]
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name}=={version} --hash=sha256:{_sha256(wheel)}  # {wheel.name}")
    unfinished = folder / f"{WHEEL_LIST}.part"
    unfinished.write_text("\n".join([*lines, ""]), "utf-8", newline="\n")
    unfinished.replace(folder / WHEEL_LIST)
    return read_wheel_list(folder)


def read_wheel_list(folder: Path) -> Wheelhouse:
    """What a wheelhouse says of itself. Raises SetupError for a folder that is none."""
    try:
        text = (folder / WHEEL_LIST).read_text("utf-8")
        about = json.loads(text.partition("\n")[0].removeprefix("#"))
        wheels = re.findall(r"--hash=sha256:([0-9a-f]{64})  # ([^\s/\\]+\.whl)$", text, re.MULTILINE)
        return Wheelhouse(
            folder,
            str(about["python"]),
            str(about["platform"]),
            str(about["source"]),
            {name: digest for digest, name in wheels},
            hashlib.sha256(text.encode()).hexdigest(),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(
            f"{folder} is no wheelhouse: its {WHEEL_LIST} is missing or damaged",
            "make one where there is a network: python3 bootstrap.py wheelhouse FOLDER",
        ) from error


def check_wheelhouse(house: Wheelhouse, platform: str, python: str) -> None:
    """Raise SetupError for a wheelhouse of another machine or version, or with a wheel that is not as listed."""
    if (house.python, house.platform) != (python, platform):
        raise SetupError(
            f"{house.folder} is for Python {house.python} on {house.platform}; this is Python {python} on {platform}",
            f"make one for this machine: bootstrap.py wheelhouse FOLDER --for {platform} --python {python}",
        )
    if house.source != source_digest(ROOT):
        raise SetupError(
            f"{house.folder} was made from another version of the project than {ROOT}",
            "copy the project's folder and its wheelhouse together, or make the wheelhouse anew",
        )
    for name, digest in house.wheels.items():
        wheel = house.folder / name
        if not wheel.is_file():
            raise SetupError(f"{wheel} is missing", "copy the wheelhouse again, with all its files")
        if _sha256(wheel) != digest:
            raise SetupError(
                f"{wheel} is not the file that was listed: its SHA-256 differs", "copy the wheelhouse again"
            )


def install_from(folder: Path) -> None:
    """Make `.venv` anew with what a wheelhouse holds and nothing else, without a network; at once when that is done."""
    house = read_wheel_list(folder)
    check_wheelhouse(house, this_platform(), this_python())
    wanted = [fingerprint(ROOT, sys.version + str(VENV)), "plain", house.digest]
    if _stamp(VENV) == wanted and _runs(VENV):
        return
    (VENV / STAMP).unlink(missing_ok=True)
    _make_venv()
    print(f"installing from {folder} into {VENV} …", flush=True)
    pip = [*_pip("install"), "--isolated", "--no-index", "--find-links", folder, "--no-deps", "--require-hashes"]
    if _run([*pip, "-r", folder / WHEEL_LIST], PIP_CONFIG_FILE=os.devnull) != 0:
        raise SetupError(f"pip could not install from {folder}", "its last lines above say why")
    (VENV / STAMP).write_text(" ".join([*wanted, "\n"]), "utf-8")


def this_python() -> str:
    """The running Python's version: 3.12."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def this_platform() -> str:
    """This machine as wheels name it: linux_x86_64, win_amd64."""
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def source_digest(root: Path) -> str:
    """A hash of the program and all that decides what it needs, the same whatever ends its lines."""
    digest = hashlib.sha256()
    for path in (root / "pyproject.toml", root / "constraints.txt", *sorted((root / "hcs_daemon").rglob("*.py"))):
        digest.update(f"{path.relative_to(root).as_posix()}\n{path.read_text('utf-8')}\n".encode())
    return digest.hexdigest()


def only_install(wheelhouse: Path | None = None) -> int:
    """Install, from a wheelhouse alone if one is named, and say where the program is."""
    if wheelhouse is None:
        install(test=False)
    else:
        install_from(wheelhouse.resolve())
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
    """Do one of the five things; the exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        check_python(sys.version_info[:2])
        if chosen.target == "wheelhouse":
            return make_wheelhouse(chosen.folder.resolve(), chosen.platform, chosen.python)
        if chosen.target == "install":
            return only_install(chosen.wheelhouse)
        return {"demo": demo, "test": test, "bench": bench}[chosen.target]()
    except SetupError as error:
        print(f"{error}\n{error.hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bootstrap.py", description=__doc__.splitlines()[0])
    targets = parser.add_subparsers(dest="target", required=True)
    targets.add_parser("demo", help="install, and run the demonstration")
    targets.add_parser("test", help="install the test tools too, and run every check and test")
    installing = targets.add_parser("install", help="install the program into .venv")
    installing.add_argument(
        "--wheelhouse", type=Path, metavar="DIR", help="take everything from this folder, no network"
    )
    targets.add_parser("bench", help="install, and measure")
    making = targets.add_parser("wheelhouse", help="a folder with every wheel that an install without a network needs")
    making.add_argument("folder", type=Path, nargs="?", default=Path("wheelhouse"), metavar="DIR")
    making.add_argument("--for", dest="platform", choices=sorted({*OTHER_MACHINES, this_platform()}))
    making.add_argument("--python", metavar="3.12", type=_version)
    making.set_defaults(platform=this_platform(), python=this_python())
    return parser


def _version(text: str) -> str:
    if re.fullmatch(r"3\.\d+", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a version such as 3.12")
    return text


def _own_wheel(folder: Path) -> Path:
    """Build the project's own wheel, which is the same for every machine, into a folder."""
    if _run([*_pip("wheel"), "--no-deps", "--wheel-dir", folder, ROOT]) != 0:
        raise SetupError("pip could not build the project's own wheel", "its last lines above say why")
    return next(folder.glob("hcs_daemon-*.whl"))


def _download(folder: Path, wanted: Iterable[str | Path], *options: str) -> None:
    download = [*_pip("download"), "--only-binary", ":all:", "-c", "constraints.txt", "--dest", folder]
    if _run([*download, *options, *wanted]) != 0:
        raise SetupError("pip could not get every wheel", "its last lines above name the one, and say why")


def _download_for(folder: Path, platform: str, python: str) -> None:
    """What the wheel in a folder needs on another machine, step by step; pip judges conditions by its own machine."""
    tags, environment = OTHER_MACHINES[platform]
    options = ["--no-deps", "--python-version", python, *(part for tag in tags for part in ("--platform", tag))]
    environment = {**environment, "python_version": python, "python_full_version": f"{python}.0"}
    asked: set[str] = set()
    read: set[Path] = set()
    while unread := set(folder.glob("*.whl")) - read:
        needed = {need for wheel in unread for need in _needs(wheel, environment)}
        read |= unread
        if needed - asked:
            _download(folder, sorted(needed - asked), *options)
        asked |= needed


def _needs(wheel: Path, environment: Mapping[str, str]) -> set[str]:
    """What a wheel's metadata asks for where the conditions in it find that environment."""
    sys.path.append(sysconfig.get_path("purelib", "venv", {"base": str(VENV)}))  # pip, where this Python has none
    from pip._vendor.packaging.requirements import Requirement  # noqa: PLC0415

    told = {**environment, "extra": ""}
    requires = next(iter(importlib.metadata.distributions(path=[str(wheel)]))).requires or []
    needed = [need for need in map(Requirement, requires) if need.marker is None or need.marker.evaluate(told)]
    return {f"{need.name}{need.specifier}" for need in needed}


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


def _pip(verb: str) -> list[str | Path]:
    return [program(VENV, "python"), "-m", "pip", verb, "--quiet", "--disable-pip-version-check"]


def _stamp(venv: Path) -> list[str]:
    """What was installed last into `venv`; nothing where that is not known."""
    try:
        return (venv / STAMP).read_text("utf-8").split()
    except (OSError, ValueError):
        return []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(command: Sequence[str | Path], **environment: str) -> int:
    return subprocess.run(command, cwd=ROOT, check=False, env={**os.environ, **environment}).returncode


if __name__ == "__main__":
    sys.exit(main())
