import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hcs_daemon.device.package import load_package
from hcs_daemon.errors import PackageError
from model_packages import ChannelMeans, write_tiny_package


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_package(tmp_path_factory.mktemp("packages") / "tiny")


@pytest.fixture
def package(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "tiny"))


def change_manifest(package: Path, **changes: object) -> None:
    path = package / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def change_arrays(path: Path, **changes: object) -> None:
    with np.load(path) as arrays:
        fields = {name: arrays[name] for name in arrays.files} | changes
    np.savez(path, allow_pickle=False, **{name: value for name, value in fields.items() if value is not None})


def refusal(package: Path) -> PackageError:
    with pytest.raises(PackageError) as caught:
        load_package(package)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    assert str(package) in caught.value.message
    return caught.value


def test_a_whole_package_loads_and_gives_what_its_self_test_recorded(package: Path) -> None:
    loaded = load_package(package)
    assert loaded.selftest_error < 1e-6
    assert loaded.references["control"].shape == (2, 3, 36, 36)
    assert not any(parameter.requires_grad for parameter in loaded.program.parameters())


@pytest.mark.parametrize("tiles", [1, 2, 7, 300])
def test_a_program_takes_any_number_of_tiles(package: Path, tiles: int) -> None:
    loaded = load_package(package)
    found = loaded.program(torch.zeros(tiles, 3, 18, 18))
    assert found["logits"].shape == (tiles, 3)


def test_a_program_keeps_its_gradients(package: Path) -> None:
    tiles = torch.ones(1, 3, 18, 18, requires_grad=True)
    load_package(package).program(tiles)["logits"][0, 1].backward()
    assert tiles.grad is not None
    assert float(tiles.grad.abs().sum()) > 0


def test_weights_with_another_digest_are_refused_unopened(package: Path) -> None:
    (package / "model.pt2").write_bytes(b"what opening this would do, nobody knows")
    said = refusal(package)
    assert "it was not opened" in said.message
    assert hashlib.sha256(b"what opening this would do, nobody knows").hexdigest()[:16] in said.message


def test_weights_that_cannot_be_loaded_are_refused(package: Path) -> None:
    (package / "model.pt2").write_bytes(b"no program")
    change_manifest(package, weights_sha256=hashlib.sha256(b"no program").hexdigest())
    assert "cannot be loaded" in refusal(package).message


def test_other_weights_fail_the_self_test(package: Path, tmp_path: Path) -> None:
    other = write_tiny_package(tmp_path / "other", ChannelMeans([[0.0] * 3, [0.0, 0.0, 2.1], [1.0, 0, -1]], nn.Tanh()))
    data = (other / "model.pt2").read_bytes()
    (package / "model.pt2").write_bytes(data)
    change_manifest(package, weights_sha256=hashlib.sha256(data).hexdigest())
    said = refusal(package)
    assert "the self-test fails: logits differs by" in said.message
    assert "not the weights that the self-test was recorded with" in said.hint


def test_a_network_that_gives_nan_fails_the_self_test(package: Path) -> None:
    with np.load(package / "selftest.npz") as arrays:
        spoiled = np.full_like(arrays["input"], np.nan)
    change_arrays(package / "selftest.npz", input=spoiled)
    assert "the self-test fails" in refusal(package).message


@pytest.mark.parametrize("name", ["model.pt2", "selftest.npz", "references.npz", "card.md"])
def test_every_file_of_a_package_must_be_there(package: Path, name: str) -> None:
    (package / name).unlink()
    assert f"{name} cannot be read" in refusal(package).message


@pytest.mark.parametrize("name", ["selftest.npz", "references.npz"])
def test_arrays_that_are_damaged_are_refused(package: Path, name: str) -> None:
    data = (package / name).read_bytes()
    (package / name).write_bytes(data[: len(data) // 2])
    assert f"{name} cannot be read" in refusal(package).message


def test_a_manifest_with_another_tile_size_is_refused(package: Path) -> None:
    change_manifest(package, tile_px=20)
    said = refusal(package)
    assert (
        "the self-test's input is (2, 3, 18, 18) float32, by the manifest it is (2 or more, 3, 20, 20)" in said.message
    )


def test_a_manifest_with_another_number_of_classes_is_refused(package: Path) -> None:
    change_manifest(package, classes=["control", "broken", "odd", "new"])
    assert "logits are (2, 3), by the manifest (2, 4)" in refusal(package).message


@pytest.mark.parametrize("name", ["input", "logits", "embedding"])
def test_a_self_test_without_one_of_its_arrays_is_refused(package: Path, name: str) -> None:
    change_arrays(package / "selftest.npz", **{name: None})
    assert f"selftest.npz has no array {name}" in refusal(package).message


@pytest.mark.parametrize(
    "sites",
    [
        np.zeros((3, 3, 36, 36), np.uint16),  # one more than the manifest names
        np.zeros((2, 4, 36, 36), np.uint16),
        np.zeros((2, 3, 17, 36), np.uint16),
        np.zeros((2, 3, 36, 36), np.float32),
        np.zeros((2, 3, 36), np.uint16),
    ],
)
def test_references_that_are_not_sites_in_raw_counts_are_refused(package: Path, sites: object) -> None:
    change_arrays(package / "references.npz", control=sites)
    assert "the references of 'control' are" in refusal(package).message


def test_references_that_the_manifest_names_and_nobody_brought_are_refused(package: Path) -> None:
    change_manifest(package, references={"control": ["A01", "A02"], "broken": ["A03"]})
    assert "references.npz: no sites of 'broken'" in refusal(package).message


def test_a_self_test_without_the_feature_map_that_the_network_gives_is_refused(package: Path) -> None:
    change_arrays(package / "selftest.npz", feature_map=None)
    assert "gives a feature_map, and the self-test has none" in refusal(package).message


class Cut(nn.Module):
    """A bend that no gradient comes back through."""

    def forward(self, means: torch.Tensor) -> torch.Tensor:
        """The same values."""
        return means.detach()


def test_a_network_without_gradients_is_refused(tmp_path: Path) -> None:
    package = write_tiny_package(tmp_path / "cut", ChannelMeans([[0.0] * 3, [0.0, 0.0, 2.0], [1.0, 0, -1]], Cut()))
    said = refusal(package)
    assert "gives no gradient of its logits" in said.message
    assert "detach" in said.hint


class Deep(ChannelMeans):
    """An embedding with places in it."""

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """The embedding is (tiles, channels, 1, 1)."""
        found = super().forward(tiles)
        return found | {"embedding": found["embedding"][:, :, None, None]}


def test_an_embedding_that_is_no_row_of_features_is_refused(tmp_path: Path) -> None:
    package = write_tiny_package(tmp_path / "deep", Deep([[0.0] * 3, [0.0, 0.0, 2.0], [1.0, 0, -1]]))
    assert "the self-test's embedding is (2, 3, 1, 1)" in refusal(package).message
