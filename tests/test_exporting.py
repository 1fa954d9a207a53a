"""Networks that people bring become packages, or it is said what stands in the way and how to mend it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model

import brought_networks
from conftest import ROOT
from hcs_daemon.__main__ import main
from hcs_daemon.device.package import load_package
from hcs_daemon.errors import FolderError, HcsError, PackageError, SettingsError
from hcs_daemon.training.exporting import Request, export_model, make_network

DRAFT: dict[str, Any] = {
    "name": "brought",
    "version": "1",
    "channels": [{"name": "DNA"}, {"name": "ER"}, {"name": "Mito"}],
    "container": "uint16",
    "bit_depth": 16,
    "tile_px": 18,
    "pixel_size_um": 1.0,
    "normalisation": [{"kind": "asinh", "offset": 100.0, "scale": 50.0}] * 3,
    "classes": ["control", "hit"],
    "control_class": "control",
}


def request(folder: Path, network: str = "Named", **changes: Any) -> Request:
    """Everything that an export asks for, in `folder`; changes: of the draft."""
    torch.manual_seed(0)
    save_model(getattr(brought_networks, network)(), str(folder / "weights.safetensors"))
    (folder / "draft.json").write_text(json.dumps({**DRAFT, **changes}), "utf-8")
    sites = np.random.default_rng(1).integers(100, 400, (2, 3, 36, 36), np.uint16)
    np.savez(folder / "references.npz", control=sites)
    return Request(
        f"brought_networks:{network}",
        folder / "weights.safetensors",
        folder / "draft.json",
        folder / "package",
        folder / "references.npz",
    )


def refused(wanted: Request, kind: type[HcsError]) -> HcsError:
    with pytest.raises(kind) as caught:
        export_model(wanted)
    assert caught.value.hint
    assert not wanted.output.exists()
    assert not [path for path in wanted.output.parent.iterdir() if path.name.endswith(".partial")]
    return caught.value


def test_a_network_with_named_outputs_becomes_a_package_with_its_numbers(tmp_path: Path) -> None:
    wanted = request(tmp_path)
    made, said = export_model(wanted)
    assert not said
    loaded = load_package(wanted.output)
    assert loaded.manifest == made.manifest
    assert loaded.manifest.references == {"control": ("site 1 in references.npz", "site 2 in references.npz")}
    assert loaded.manifest.torch == torch.__version__
    torch.manual_seed(0)
    network: Any = brought_networks.Named().eval()
    tiles = torch.from_numpy(loaded.selftest.input)
    with torch.inference_mode():
        wanted_outputs = network(tiles)
        found = loaded.program(tiles)
    for name in ("logits", "embedding", "feature_map"):
        assert torch.allclose(found[name], wanted_outputs[name], atol=1e-5)
    assert "SHA-256" in (wanted.output / "card.md").read_text("utf-8")


def test_a_classifier_that_gives_logits_alone_is_embedded_before_its_last_layer(tmp_path: Path) -> None:
    wanted = request(tmp_path, "Classifier")
    made, said = export_model(wanted)
    assert said == [
        "its one output is the logits; what its last layer head is given is the embedding, 6 features; no feature map"
    ]
    torch.manual_seed(0)
    network = brought_networks.Classifier().eval()
    tiles = torch.from_numpy(made.selftest.input)
    with torch.inference_mode():
        assert torch.allclose(made.program(tiles)["embedding"], network.embed(tiles)[1], atol=1e-5)
    assert set(made.selftest.outputs) == {"logits", "embedding"}


def test_a_network_that_only_embeds_needs_no_references(tmp_path: Path) -> None:
    wanted = request(tmp_path, "Embedder", classes=[], control_class="")
    alone = Request(wanted.factory, wanted.weights, wanted.manifest, wanted.output)
    made, said = export_model(alone)
    assert said == ["its one output, 6 features, is the embedding"]
    assert set(made.selftest.outputs) == {"embedding"}
    assert not (wanted.output / "references.npz").exists()


@pytest.mark.parametrize(
    ("network", "said", "hint"),
    [
        ("Choosing", "depends on the values of the pixels (brought_networks.py, line ", "torch.where"),
        ("Measuring", "depends on the values of the pixels (brought_networks.py, line ", ".item()"),
        ("ThroughNumpy", "it leaves torch for numpy (brought_networks.py, line ", "torch's own functions"),
        ("Three", "it works for one number of tiles only", "tiles.shape[0]"),
        ("OverTheBatch", "of one tile alone differs by", "BatchNorm in evaluation mode"),
        ("Statless", "the layer features.1 is a BatchNorm without running statistics", "GroupNorm"),
        ("Dropping", "gives another logits every time it is shown the same", "dropout"),
        ("Pair", "gives a tuple of 2", 'return {"logits"'),
        ("Deep", "embedding is (3, 6, 1, 1), expected (3, features) for 3 tiles", ".flatten(1)"),
        ("Listing", "logits is a list of 2, expected one tensor of real numbers (3, 2) for 3 tiles", "torch.cat"),
        ("Counting", "logits is torch.int64, expected one tensor of real numbers (3, 2) for 3 tiles", "no integers"),
        ("Columns", "logits is (3, 2, 1), expected (3, 2) for 3 tiles", ".flatten(1)"),
        ("Swapped", "logits is (3, 6), expected (3, 2) for 3 tiles", "the two seem to be exchanged"),
        ("Rounded", "its logits is the same whole numbers whatever it is shown", "leave out round"),
        ("Spread", "logits is finite for 3 tiles, and not for one of them alone", "never over the batch"),
        ("Flat", "feature_map is (3, 6), expected (3, maps, height, width) for 3 tiles", "before they are pooled"),
        ("Wide", "does not take (3, 3, 18, 18) float32", "tile_px"),
    ],
)
def test_what_cannot_be_a_package_is_named_with_how_to_mend_it(
    tmp_path: Path, network: str, said: str, hint: str
) -> None:
    found = refused(request(tmp_path, network), PackageError)
    assert found.exit_code == 3
    assert said in found.message
    assert hint in found.hint


def test_more_classes_than_logits_are_refused(tmp_path: Path) -> None:
    found = refused(request(tmp_path, classes=["control", "hit", "odd"]), PackageError)
    assert "logits is (3, 2), expected (3, 3)" in found.message
    assert "the manifest has 3 classes (control, hit, odd)" in found.hint


def test_a_draft_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    assert (
        "normalisation has 3 entries for 2"
        in refused(request(tmp_path, channels=[{"name": "a"}, {"name": "b"}]), SettingsError).message
    )
    wanted = request(tmp_path)
    wanted.manifest.write_text("{", "utf-8")
    found = refused(wanted, SettingsError)
    assert "is no JSON" in found.message
    assert found.exit_code == 2


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        (
            np.zeros((2, 3, 36, 36), np.uint8),
            "are (2, 3, 36, 36) uint8, expected (2, 3, 18 or more, 18 or more) uint16",
        ),
        (np.zeros((2, 2, 36, 36), np.uint16), "are (2, 2, 36, 36) uint16, expected (2, 3, "),
        (np.uint16(7), "references has no entry for the control class"),
    ],
)
def test_references_that_do_not_fit_the_manifest_are_what_was_asked(tmp_path: Path, sites: Any, said: str) -> None:
    wanted = request(tmp_path)
    np.savez(tmp_path / "references.npz", control=sites)
    found = refused(wanted, SettingsError)
    assert said in found.message
    assert found.exit_code == 2


def test_references_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    wanted = request(tmp_path)
    (tmp_path / "references.npz").write_bytes(b"PK\x03\x04 cut short")
    assert "references.npz cannot be read" in refused(wanted, SettingsError).message


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_a_pickle_is_refused_unopened(tmp_path: Path, suffix: str) -> None:
    wanted = request(tmp_path)
    pickle = tmp_path / f"weights{suffix}"
    pickle.write_bytes(b"whatever")
    found = refused(Request(wanted.factory, pickle, wanted.manifest, wanted.output, wanted.references), SettingsError)
    assert "runs whatever code" in found.message
    assert "weights_only=True" in found.hint
    assert found.exit_code == 2


def weights(wanted: Request, change: Any) -> Request:
    """With the weights' tensors changed."""
    state = dict(change(brought_networks.Named().state_dict()))
    save_file(state, wanted.weights)
    return wanted


@pytest.mark.parametrize(
    ("change", "said", "hint"),
    [
        (lambda state: {k: v for k, v in state.items() if k != "head.bias"}, "missing: head.bias", "save_model"),
        (lambda state: state | {"tail.bias": torch.zeros(2)}, "not known to it: tail.bias", "save_model"),
        (
            lambda state: {f"module.{k}": v for k, v in state.items()},
            "not known to it: module.",
            'begin with "module."',
        ),
        (lambda state: state | {"head.bias": torch.zeros(5)}, "size mismatch for head.bias", "sizes"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(tmp_path: Path, change: Any, said: str, hint: str) -> None:
    found = refused(weights(request(tmp_path), change), SettingsError)
    assert said in found.message
    assert hint in found.hint


def test_weights_that_are_damaged_or_not_there_are_refused(tmp_path: Path) -> None:
    wanted = request(tmp_path)
    wanted.weights.write_bytes(b"no tensors")
    assert "is no safetensors file" in refused(wanted, SettingsError).message
    wanted.weights.unlink()
    assert "is not there" in refused(wanted, SettingsError).message


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("brought_networks", "is no MODULE:FACTORY"),
        ("brought_networks.py:Named", "is no MODULE:FACTORY"),
        ("no_such_module:make", "no_such_module cannot be imported: ModuleNotFoundError"),
        ("brought_networks:Name", "brought_networks has no function Name"),
        ("brought_networks:NUMBER", "brought_networks has no function NUMBER"),
        ("brought_networks:with_channels", "raised TypeError"),
        ("brought_networks:no_network", "returns dict, no torch.nn.Module"),
    ],
)
def test_a_factory_that_makes_no_network_is_refused(tmp_path: Path, factory: str, said: str) -> None:
    wanted = request(tmp_path)
    found = refused(Request(factory, wanted.weights, wanted.manifest, wanted.output, wanted.references), SettingsError)
    assert said in found.message


def test_an_earlier_package_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    wanted = request(tmp_path)
    export_model(wanted)
    (wanted.output / "novelty.npz").write_bytes(b"of the package before")
    export_model(wanted)
    assert load_package(wanted.output).novelty is None
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.md").write_text("all of it", "utf-8")
    with pytest.raises(FolderError, match="is no model package"):
        export_model(Request(wanted.factory, wanted.weights, wanted.manifest, other, wanted.references))
    assert (other / "chapter.md").exists()


def test_a_model_with_classes_needs_references(tmp_path: Path) -> None:
    wanted = request(tmp_path)
    found = refused(Request(wanted.factory, wanted.weights, wanted.manifest, wanted.output), SettingsError)
    assert "--references" in found.message


def test_the_manuals_example_becomes_a_package_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manual = (ROOT / "docs" / "model-package.md").read_text("utf-8")
    python, manifest = (re.search(rf"```{kind}\n(.*?)```", manual, re.DOTALL) for kind in ("python", "json"))
    assert python
    assert manifest
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_manual_model.py").write_text(python.group(1), "utf-8")
    (tmp_path / "manifest.json").write_text(manifest.group(1), "utf-8")
    save_model(make_network("my_manual_model:make_network"), "weights.safetensors")
    fields = json.loads(manifest.group(1))
    edge = 2 * fields["tile_px"]
    shape = (3, len(fields["channels"]), edge, edge)
    sites = np.random.default_rng(1).integers(200, 900, shape, np.uint16)
    assert 'numpy.savez("references.npz", control=controls, treated=treated)' in manual
    np.savez("references.npz", control=sites, treated=sites[::-1] + 90)
    arguments = "my_manual_model:make_network --weights weights.safetensors --manifest manifest.json"
    assert main(["model", "export", *arguments.split(), "--references", "references.npz", "--output", "mine"]) == 0
    said = capsys.readouterr().out
    assert "classes      control, treated" in said
    assert 'set model.package = "mine"' in said
    assert "references of control alone" not in said
    assert main(["model", "verify", "mine"]) == 0
    assert main(["model", "show", "mine"]) == 0


def test_what_references_of_the_control_alone_lack_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = request(tmp_path)
    given = ["--weights", str(wanted.weights), "--manifest", str(wanted.manifest), "--output", str(wanted.output)]
    assert main(["model", "export", wanted.factory, *given, "--references", str(wanted.references)]) == 0
    exported = capsys.readouterr().out
    assert main(["model", "verify", str(wanted.output)]) == 0
    for said in (exported, capsys.readouterr().out):
        assert "note        references of control alone: wells that look like it are not explained" in said
        assert "such as hit=sites" in said
