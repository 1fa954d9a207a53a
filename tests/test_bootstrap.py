"""The recipe that sets the project up, as far as it can be seen without installing anything."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[project]\n", "utf-8")
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\n", "utf-8")
    return tmp_path


def stamp(venv: Path, text: str) -> None:
    venv.mkdir(exist_ok=True)
    (venv / "hcs-daemon.stamp").write_text(text, "utf-8")


def test_it_needs_nothing_but_the_standard_library() -> None:
    """-I -S: no installed package can be imported."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "bootstrap.py", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout


@pytest.mark.parametrize("words", [[], ["tset"], ["test", "demo"]])
def test_words_it_does_not_know_are_refused_with_those_it_does(words: list[str]) -> None:
    done = subprocess.run([sys.executable, ROOT / "bootstrap.py", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "demo" in done.stderr


def test_every_target_of_the_makefile_is_one_of_the_recipe() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    assert phony[1].split() == ["demo", "test", "install", "bench", "wheelhouse"]


def test_every_benchmark_of_the_recipe_is_there(bootstrap: ModuleType) -> None:
    scripts = {name for name, _ in bootstrap.BENCHMARKS}
    assert scripts <= {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    assert ("throughput.py", "RESULTS.md") in bootstrap.BENCHMARKS


@pytest.mark.skipif(os.name == "nt", reason="no executable bit on Windows")
def test_the_ci_script_is_executable_and_runs_the_slow_rows_too() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text("utf-8").splitlines()[-1] == "HCS_ALL=1 make test"


def test_a_finished_installation_is_not_done_again(bootstrap: ModuleType, project: Path) -> None:
    wanted = bootstrap.fingerprint(project, "3.11")
    stamp(project / ".venv", f"{wanted} plain\n")
    assert bootstrap.is_current(project / ".venv", wanted, test=False)


def test_test_tools_are_added_to_one_without(bootstrap: ModuleType, project: Path) -> None:
    wanted = bootstrap.fingerprint(project, "3.11")
    stamp(project / ".venv", f"{wanted} plain\n")
    assert not bootstrap.is_current(project / ".venv", wanted, test=True)
    stamp(project / ".venv", f"{wanted} test\n")
    assert bootstrap.is_current(project / ".venv", wanted, test=True)
    assert bootstrap.is_current(project / ".venv", wanted, test=False)


def test_what_a_wheelhouse_installed_serves_where_there_is_no_network(bootstrap: ModuleType, project: Path) -> None:
    wanted = bootstrap.fingerprint(project, "3.11")
    stamp(project / ".venv", f"{wanted} plain {'0' * 64}\n")
    assert bootstrap.is_current(project / ".venv", wanted, test=False)
    assert not bootstrap.is_current(project / ".venv", wanted, test=True)


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_again(bootstrap: ModuleType, project: Path, name: str) -> None:
    before = bootstrap.fingerprint(project, "3.11")
    (project / name).write_text("# changed\n", "utf-8")
    assert bootstrap.fingerprint(project, "3.11") != before


def test_another_python_is_installed_for_anew(bootstrap: ModuleType, project: Path) -> None:
    assert bootstrap.fingerprint(project, "3.11") != bootstrap.fingerprint(project, "3.12")


@pytest.mark.parametrize("text", ["", "\n", "wanted", "wanted other", "else plain"])
def test_a_damaged_stamp_counts_as_none(bootstrap: ModuleType, project: Path, text: str) -> None:
    stamp(project, text)
    assert not bootstrap.is_current(project, "wanted", test=False)


def test_an_old_python_is_refused_in_words(bootstrap: ModuleType) -> None:
    bootstrap.check_python((3, 11))
    with pytest.raises(bootstrap.SetupError, match=r"3\.10") as caught:
        bootstrap.check_python((3, 10))
    assert "3.11" in str(caught.value.hint)


def test_programs_stand_where_the_system_puts_them(bootstrap: ModuleType, tmp_path: Path) -> None:
    expected = tmp_path / "Scripts" / "ruff.exe" if os.name == "nt" else tmp_path / "bin" / "ruff"
    assert bootstrap.program(tmp_path, "ruff") == expected


def test_the_oldest_python_is_the_same_everywhere(bootstrap: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    oldest = ".".join(map(str, bootstrap.OLDEST))
    assert project["project"]["requires-python"] == f">={oldest}"
    assert project["tool"]["mypy"]["python_version"] == oldest
    assert project["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines)}


def test_constraints_pin_public_releases_and_nothing_else() -> None:
    for name, version in constraints().items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert re.fullmatch(r"(\d+!)?[0-9.]+", version), f"{name}=={version} is not a public release"


def test_constraints_pin_everything_that_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {re.split(r"[<>=!~\[; ]", line)[0].lower() for line in asked}
    assert names - constraints().keys() == set()


def test_torch_is_pinned_exactly_in_both_places() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert "torch==2.13.0" in project["dependencies"]
    assert constraints()["torch"] == "2.13.0"
