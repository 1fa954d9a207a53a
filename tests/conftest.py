"""What all tests share: the slow rows' switch, and the real images where they are."""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from debian_tree import copy_project, make_tree, make_wheelhouse, need
from hcs_daemon.telemetry import configure_logging

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads spin else, while others hold the cores

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked slow unless HCS_ALL=1."""
    if os.environ.get("HCS_ALL") == "1":
        return
    skip = pytest.mark.skip(reason="slow: runs with HCS_ALL=1")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged, one JSON object a line."""
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    yield stream
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images: beside the repository, or where HCS_SHARED says."""
    folder = Path(os.environ.get("HCS_SHARED", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} is not there (HCS_SHARED names another)")
    return folder


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a clone would have it, the same for all tests that install it."""
    folder = tmp_path_factory.mktemp("project") / "hcs-daemon"
    copy_project(ROOT, folder)
    return folder


@pytest.fixture(scope="session")
def wheelhouse(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every wheel that an install needs, made once for all tests and removed after them."""
    folder = tmp_path_factory.mktemp("wheels") / "wheelhouse"
    make_wheelhouse(project, folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def debian_tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh Debian, made once for all tests and removed after them; a test works in a copy of it."""
    need("debootstrap", "unshare", "ip")
    folder = tmp_path_factory.mktemp("debian") / "tree"
    make_tree(folder)
    yield folder
    shutil.rmtree(folder)
