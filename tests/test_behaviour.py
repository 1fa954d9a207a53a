"""Networks that pass a self-test recorded from themselves, and are not to be trusted all the same."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hcs_daemon import novelty
from hcs_daemon.__main__ import main
from hcs_daemon.device.behaviour import MisbehaviourError, examine
from hcs_daemon.device.package import load_package
from hcs_daemon.errors import PackageError
from model_packages import ChannelMeans, manifest, selftest_input, write_tiny_package

MADE = manifest()
TILES = torch.from_numpy(selftest_input(MADE))
WEIGHTS = [[0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [1.0, 0.0, -1.0]]
Outputs = dict[str, torch.Tensor]


class Bent(nn.Module):
    """The means of the channels, and what a test makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.honest = ChannelMeans(WEIGHTS)

    def bent(self, found: Outputs) -> Outputs:
        """What replaces outputs. found: the honest ones, and the tiles."""
        raise NotImplementedError

    def forward(self, tiles: torch.Tensor) -> Outputs:
        """(n, channels, tile, tile) to the outputs."""
        found = self.honest(tiles)
        return {**found, **self.bent({**found, "tiles": tiles})}


class Constant(Bent):
    """The same logits for whatever it is shown; the gradient is zero, but there."""

    def bent(self, found: Outputs) -> Outputs:
        return {"logits": 0 * found["logits"] + 1.5}


class Blank(Bent):
    """The same embedding for whatever it is shown."""

    def bent(self, found: Outputs) -> Outputs:
        return {"embedding": torch.ones_like(found["embedding"])}


class Competing(Bent):
    """Each tile beside the mean of its batch."""

    def bent(self, found: Outputs) -> Outputs:
        return {"logits": found["logits"] - found["logits"].mean(dim=0)}


class Queueing(Bent):
    """What a tile gives depends on its place in the batch; the first is as if alone."""

    def bent(self, found: Outputs) -> Outputs:
        return {"embedding": found["embedding"] + torch.ones_like(found["embedding"]).cumsum(dim=0) / 2}


class Rounding(Bent):
    """Logits in steps, between which nothing changes."""

    def bent(self, found: Outputs) -> Outputs:
        return {"logits": (found["logits"] * 1000).round()}


class Rooting(Bent):
    """A square root where it is steepest: of 0."""

    def bent(self, found: Outputs) -> Outputs:
        return {"logits": found["logits"] + (0 * found["tiles"].sum(dim=(1, 2, 3))).sqrt()[:, None]}


def test_a_network_that_behaves_is_taken_without_a_word() -> None:
    assert examine(ChannelMeans(WEIGHTS), TILES, MADE) == ()


@pytest.mark.parametrize(
    ("network", "said", "hint"),
    [
        (Constant(), "ignores its input: its logits is the same", "weights may be zero"),
        (Blank(), "ignores its input: its embedding is the same", "weights may be zero"),
        (Competing(), "the same tile has another logits among other tiles", "BatchNorm"),
        (Queueing(), "the same tile has another embedding among other tiles", "must not depend on the tiles beside it"),
        (Rounding(), "the gradient of the network's logits is zero everywhere", "rounding"),
        (Rooting(), "the gradient of the network's logits is not finite", "square roots"),
    ],
)
def test_what_a_network_does_wrong_is_named(network: nn.Module, said: str, hint: str) -> None:
    with pytest.raises(MisbehaviourError) as caught:
        examine(network, TILES, MADE)
    assert said in caught.value.what
    assert hint in caught.value.hint


def test_a_channel_that_makes_no_difference_is_told_and_no_ground_to_refuse() -> None:
    class Deaf(Bent):
        def bent(self, found: Outputs) -> Outputs:
            return {"embedding": found["embedding"][:, 1:], "logits": found["embedding"][:, 1:] @ torch.eye(2)}

    (said,) = examine(Deaf(), TILES, MADE)
    assert said == "the network pays no attention to DNA: with noise in its place nothing changes"


def test_a_model_that_only_embeds_needs_no_gradient() -> None:
    class Cut(Bent):
        def bent(self, found: Outputs) -> Outputs:
            return {"embedding": found["embedding"].detach()}

    assert examine(Cut(), TILES, manifest(classes=(), control_class="", references={})) == ()


# ---- as the daemon and `model verify` meet them


def refusal(folder: Path) -> PackageError:
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("network", [Constant(), Competing(), Queueing()])
def test_such_a_package_is_refused_at_the_start_and_by_verify(
    tmp_path: Path, network: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_package(tmp_path / "bad", network)
    assert str(folder) in refusal(folder).message
    assert main(["model", "verify", str(folder)]) == 3
    assert "model package" in capsys.readouterr().err


def test_verify_tells_of_a_channel_without_attention(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Deaf(Bent):
        def bent(self, found: Outputs) -> Outputs:
            return {"embedding": found["embedding"][:, 1:], "logits": self.honest(found["tiles"] * MASK)["logits"]}

    folder = write_tiny_package(tmp_path / "deaf", Deaf())
    assert main(["model", "verify", str(folder)]) == 0
    assert "note        the network pays no attention to DNA" in capsys.readouterr().out


MASK = torch.tensor([0.0, 1.0, 1.0])[:, None, None]


def test_outputs_that_are_not_finite_are_told_from_other_weights(tmp_path: Path) -> None:
    class Dividing(Bent):
        def bent(self, found: Outputs) -> Outputs:
            return {"logits": found["logits"] / (0 * found["logits"])}

    said = refusal(write_tiny_package(tmp_path / "nan", Dividing()))
    assert "the self-test fails: logits is not finite" in said.message
    assert "division by zero" in said.hint


def test_numbers_of_another_torch_are_told_from_those_of_other_weights(tmp_path: Path) -> None:
    folder = write_tiny_package(tmp_path / "tiny", ChannelMeans(WEIGHTS))
    with np.load(folder / "selftest.npz") as arrays:
        fields = {name: arrays[name] for name in arrays.files}
    np.savez(folder / "selftest.npz", allow_pickle=False, **fields | {"logits": 1.01 * fields["logits"]})
    assert "not the weights that the self-test was recorded with" in refusal(folder).hint
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"torch": "2.5.0"}), "utf-8")
    assert f"exported with torch 2.5.0, and this is torch {torch.__version__}" in refusal(folder).hint


# ---- what its training wells look like


def with_novelty(folder: Path, features: int = 3) -> Path:
    rows = np.random.default_rng(3).normal(size=(60, features))
    known = novelty.fit(rows, false_alarm_rate=0.1)
    return write_tiny_package(folder, ChannelMeans(WEIGHTS), novelty=known)


def test_a_package_knows_what_its_training_wells_look_like(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = with_novelty(tmp_path / "known")
    loaded = load_package(folder)
    assert loaded.novelty is not None
    assert loaded.novelty.false_alarm_rate == 0.1
    assert loaded.manifest.novelty_sha256 == hashlib.sha256((folder / "novelty.npz").read_bytes()).hexdigest()
    assert main(["model", "verify", str(folder)]) == 0
    assert "are unlike them, 10 % by mistake" in capsys.readouterr().out


def test_novelty_that_was_changed_does_not_fit_or_is_not_named_is_refused(tmp_path: Path) -> None:
    folder = with_novelty(tmp_path / "known")
    data = (folder / "novelty.npz").read_bytes()
    (folder / "novelty.npz").write_bytes(data + b" ")
    assert "novelty.npz has the SHA-256" in refusal(folder).message
    (folder / "novelty.npz").unlink()
    assert "novelty.npz cannot be read" in refusal(folder).message
    assert "novelty.npz does not fit" in refusal(with_novelty(tmp_path / "other", features=4)).message
    plain = write_tiny_package(tmp_path / "plain", ChannelMeans(WEIGHTS))
    (plain / "novelty.npz").write_bytes(data)
    assert "the manifest does not name its SHA-256" in refusal(plain).message
