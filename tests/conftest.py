"""What all tests share: the slow rows' switch, and the real images where they are."""

import os
from pathlib import Path

import pytest

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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images: beside the repository, or where HCS_SHARED says."""
    folder = Path(os.environ.get("HCS_SHARED", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} is not there (HCS_SHARED names another)")
    return folder
