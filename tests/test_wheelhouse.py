"""A wheelhouse holds every wheel that an install needs, and one that does not fit is refused at once."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from debian_tree import ROOT, load_bootstrap


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    return load_bootstrap()


def wheel(folder: Path, name: str, *, tag: str = "py3-none-any", requires: tuple[str, ...] = ()) -> Path:
    """A wheel with no code in it."""
    path = folder / f"{name}-1.0-{tag}.whl"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}"
        )
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def house(bootstrap: ModuleType, tmp_path: Path) -> Path:
    """A wheelhouse for this machine, of two wheels."""
    wheel(tmp_path, "first")
    wheel(tmp_path, "second")
    bootstrap.write_wheel_list(tmp_path, bootstrap.this_platform(), bootstrap.this_python())
    return tmp_path


def refused(*words: object) -> list[str]:
    """What the recipe prints where it refuses to go on."""
    done = subprocess.run(
        [sys.executable, ROOT / "bootstrap.py", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_the_list_says_what_it_is_for_and_names_every_wheel(bootstrap: ModuleType, house: Path) -> None:
    listed = bootstrap.read_wheel_list(house)
    assert (listed.python, listed.platform) == (bootstrap.this_python(), bootstrap.this_platform())
    assert set(listed.wheels) == {"first-1.0-py3-none-any.whl", "second-1.0-py3-none-any.whl"}
    bootstrap.check_wheelhouse(listed, bootstrap.this_platform(), bootstrap.this_python())


def test_a_wheel_that_was_changed_is_refused(house: Path) -> None:
    with (house / "first-1.0-py3-none-any.whl").open("ab") as file:
        file.write(b"!")
    what, hint = refused("install", "--wheelhouse", house)
    assert "first-1.0-py3-none-any.whl" in what
    assert "SHA-256" in what
    assert "again" in hint


def test_a_wheel_that_is_missing_is_refused(house: Path) -> None:
    (house / "second-1.0-py3-none-any.whl").unlink()
    what, hint = refused("install", "--wheelhouse", house)
    assert "second-1.0-py3-none-any.whl is missing" in what
    assert "copy" in hint


@pytest.mark.parametrize(("key", "other"), [("python", "3.99"), ("platform", "win_arm64")])
def test_a_wheelhouse_for_another_machine_is_refused_with_how_to_make_one(
    bootstrap: ModuleType, house: Path, key: str, other: str
) -> None:
    first, _, rest = (house / "requirements.txt").read_text("utf-8").partition("\n")
    about = json.loads(first.removeprefix("#")) | {key: other}
    (house / "requirements.txt").write_text(f"# {json.dumps(about)}\n{rest}", "utf-8")
    what, hint = refused("install", "--wheelhouse", house)
    assert other in what
    assert f"--for {bootstrap.this_platform()} --python {bootstrap.this_python()}" in hint


def test_a_wheelhouse_of_another_version_of_the_project_is_refused(house: Path) -> None:
    text = (house / "requirements.txt").read_text("utf-8")
    (house / "requirements.txt").write_text(re.sub(r'"source": "\w+"', '"source": "0"', text), "utf-8")
    what, hint = refused("install", "--wheelhouse", house)
    assert "another version" in what
    assert "anew" in hint


@pytest.mark.parametrize("text", [None, "", "# {}\n", "# []\n", "numpy==1\n"])
def test_a_folder_without_a_list_is_no_wheelhouse(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "requirements.txt").write_text(text, "utf-8")
    what, hint = refused("install", "--wheelhouse", tmp_path)
    assert f"{tmp_path} is no wheelhouse" in what
    assert "bootstrap.py wheelhouse" in hint


def test_a_folder_of_somebody_else_is_not_made_a_wheelhouse(tmp_path: Path) -> None:
    kept = wheel(tmp_path, "precious")
    what, _ = refused("wheelhouse", tmp_path)
    assert f"{tmp_path} is not empty" in what
    assert kept.is_file()


@pytest.mark.parametrize(("words", "named"), [(["--python", "3"], "3.12"), (["--for", "amiga"], "win_amd64")])
def test_machines_it_does_not_know_are_refused_with_those_it_does(tmp_path: Path, words: list[str], named: str) -> None:
    assert named in refused("wheelhouse", tmp_path, *words)[-1]


def test_a_python_that_is_too_old_is_refused(tmp_path: Path) -> None:
    what, _ = refused("wheelhouse", tmp_path, "--for", "win_amd64", "--python", "3.10")
    assert "3.10" in what


def test_the_source_is_the_same_whatever_ends_its_lines(bootstrap: ModuleType, tmp_path: Path) -> None:
    """A checkout on Windows ends them otherwise than the one where its wheelhouse was made."""
    found = []
    for folder, end in (("unix", "\n"), ("windows", "\r\n")):
        (tmp_path / folder / "hcs_daemon").mkdir(parents=True)
        for name in ("pyproject.toml", "constraints.txt", "hcs_daemon/plate.py"):
            (tmp_path / folder / name).write_bytes(f"one{end}two{end}".encode())
        found.append(bootstrap.source_digest(tmp_path / folder))
    assert found[0] == found[1]
    (tmp_path / "unix" / "hcs_daemon" / "plate.py").write_text("other\n", "utf-8")
    assert bootstrap.source_digest(tmp_path / "unix") != found[0]


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("win_amd64", {"first-1.0-py3-none-any.whl", "forwindows-1.0-py3-none-win_amd64.whl"}),
        ("linux_x86_64", {"first-1.0-py3-none-any.whl", "forlinux-1.0-py3-none-manylinux_2_28_x86_64.whl"}),
    ],
)
def test_another_machine_gets_what_its_own_conditions_ask_for(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, expected: set[str]
) -> None:
    """Step by step: what the second wheel needs is found too; what another Python or system needs is not."""
    shelf, folder = tmp_path / "shelf", tmp_path / "house"
    shelf.mkdir()
    folder.mkdir()
    wheel(shelf, "forwindows", tag="py3-none-win_amd64")
    wheel(shelf, "forlinux", tag="py3-none-manylinux_2_28_x86_64")
    conditions = ('forwindows>=1; sys_platform == "win32"', 'forlinux; platform_system == "Linux"')
    wheel(shelf, "first", requires=(*conditions, 'old; python_version < "3.12"', 'more; extra == "test"'))
    wheel(folder, "own", requires=("first==1.0",))
    monkeypatch.setattr(bootstrap, "VENV", Path(sys.prefix))
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(shelf)), ("PIP_CONFIG_FILE", os.devnull)):
        monkeypatch.setenv(name, value)
    bootstrap._download_for(folder, platform, "3.12")
    assert {path.name for path in folder.glob("*.whl")} == expected | {"own-1.0-py3-none-any.whl"}


def test_what_is_not_to_be_had_is_an_error(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path, "own", requires=("first==1.0",))
    monkeypatch.setattr(bootstrap, "VENV", Path(sys.prefix))
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(tmp_path)), ("PIP_CONFIG_FILE", os.devnull)):
        monkeypatch.setenv(name, value)
    with pytest.raises(bootstrap.SetupError, match="could not get every wheel"):
        bootstrap._download_for(tmp_path, "win_amd64", "3.12")


@pytest.mark.slow
def test_what_is_collected_step_by_step_is_what_pip_collects_for_this_machine(
    bootstrap: ModuleType, wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bootstrap.this_platform() not in bootstrap.OTHER_MACHINES:
        pytest.skip(f"no wheelhouse is made elsewhere for {bootstrap.this_platform()}")
    own = next(wheelhouse.glob("hcs_daemon-*.whl"))
    (tmp_path / own.name).write_bytes(own.read_bytes())
    monkeypatch.setattr(bootstrap, "VENV", Path(sys.prefix))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheelhouse))
    bootstrap._download_for(tmp_path, bootstrap.this_platform(), bootstrap.this_python())
    found = {path.name for path in tmp_path.glob("*.whl")}
    assert found == set(bootstrap.read_wheel_list(wheelhouse).wheels)


@pytest.mark.slow
def test_a_windows_pc_gets_its_wheels_from_here(
    bootstrap: ModuleType, wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same packages but for colorama, which typer asks for there."""
    monkeypatch.setattr(bootstrap, "VENV", Path(sys.prefix))
    assert bootstrap.main(["wheelhouse", str(tmp_path / "house"), "--for", "win_amd64", "--python", "3.12"]) == 0
    listed = bootstrap.read_wheel_list(tmp_path / "house")
    assert (listed.platform, listed.python) == ("win_amd64", "3.12")
    names = {name.partition("-")[0] for name in listed.wheels}
    assert names - {name.partition("-")[0] for name in bootstrap.read_wheel_list(wheelhouse).wheels} == {"colorama"}
    assert any(re.fullmatch(r"torch-2\.13\.0.*-cp312-cp312-win_amd64\.whl", name) for name in listed.wheels)
    assert not any("linux" in name for name in listed.wheels)
