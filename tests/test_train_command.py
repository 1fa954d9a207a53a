"""`hcs-daemon train` on a simulated plate: files in, a package out that passes its self-test."""

import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes import make_settings
from hcs_daemon.__main__ import main
from hcs_daemon.config import load_settings
from hcs_daemon.device.manifest import Normalisation, read_manifest
from hcs_daemon.device.package import load_package
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.training.making import Order, make_package, plainest_tile
from hcs_daemon.training.network import CellNetwork, Textured
from hcs_daemon.training.plates import draft
from hcs_daemon.training.texture import SCALES

SIZE_PX = 80
STEPS = 20


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings, a layout and 26 wells of a 96-well plate: 16 controls and 10 references."""
    folder = tmp_path_factory.mktemp("train")
    simulate_plate(
        folder / "incoming",
        sleep=lambda _: None,
        plate="P1",
        wells=96,
        size_px=SIZE_PX,
        layout=folder / "all.csv",
        positions=None,
    )
    (folder / "config.toml").write_text(
        f'[watch]\ndirectory = "{folder / "incoming"}"\n[expect]\nbit_depth = 16\n'
        'channels = { DNA = "1", ER = "2", RNA = "3", AGP = "4", Mito = "5" }\n'
        f'[results]\ndirectory = "{folder / "results"}"\n',
        "utf-8",
    )
    return folder


def arguments(folder: Path, output: str, classes: str = "role") -> list[str]:
    given = ["train", "-c", str(folder / "config.toml"), "--plate", str(folder / "incoming")]
    given += ["--layout", str(folder / "all.csv"), "--classes", classes]
    return [*given, "--output", str(folder / output), "--steps", str(STEPS)]


def test_a_package_comes_of_it_that_passes_its_self_test(plate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(plate, "made")) == 0
    said = capsys.readouterr().out
    assert "wells held out with the right class:" in said
    right = re.search(r"hits held out, at a probability of 0\.9: (\d) of 2 with the right class, falsely \d of 4", said)
    assert right
    assert ("warning: no well held out is a hit" in said) is (right[1] == "0")
    package = load_package(plate / "made")
    assert package.manifest.classes == ("control", "reference")
    assert package.manifest.control_class == "control"
    assert package.manifest.tile_px == SIZE_PX
    assert len(package.references["control"]) == 4
    assert package.novelty is not None
    assert package.novelty.sites == 1
    for wells in package.manifest.references.values():
        assert all(words.endswith((", held out", ", that said when to stop")) for words in wells)
    assert not (plate / "made.training").exists()
    card = (plate / "made" / "card.md").read_text("utf-8")
    for part in ("## Data", "## Confusion", "shuffled labels", "position only", "before calibration", "## Limits"):
        assert part in card
    for number in (1, 2):
        assert (plate / "made" / "pictures" / f"class-{number}.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_copied_plate_is_told_with_its_wells(plate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copies = plate / "copies"
    for folder in (plate / "incoming").iterdir():
        if folder.name.startswith("P1__"):
            shutil.copytree(folder, copies / folder.name.replace("P1__", "P1c__"))
    assert main([*arguments(plate, "copied"), "--plate", str(copies)]) == 0
    said = capsys.readouterr().out
    card = (plate / "copied" / "card.md").read_text("utf-8")
    for words in (said, card):
        assert "52 wells show pictures of other wells (P1 " in words
        assert "26 of those held out are known from learning" in words


def test_a_network_no_better_than_guessing_warns_wherever_it_is_used(
    plate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (plate / "all.csv").read_text("utf-8").splitlines()
    wells = [row.split(",")[0] for row in rows[1:]]
    mixed = np.random.default_rng(0).permutation(len(wells)) % 2
    lines = [f"{well},{'odd' if odd else 'plain'},treatment" for well, odd in zip(wells, mixed, strict=True)]
    (plate / "mixed.csv").write_text("\n".join(["well,phenotype,role", *lines, ""]), "utf-8")
    given = arguments(plate, "guessing", classes="phenotype")
    given[given.index("--layout") + 1] = str(plate / "mixed.csv")
    assert main([*given, "--control", "plain"]) == 0
    said = capsys.readouterr().out
    warning = "it does no better than guessing"
    assert f"warning: {warning}" in said
    assert "always naming " in (plate / "guessing" / "card.md").read_text("utf-8")
    assert any(words.startswith(warning) for words in read_manifest(plate / "guessing").warnings)
    assert main(["model", "show", str(plate / "guessing")]) == 0
    assert f"WARNING      {warning}" in capsys.readouterr().out


@contextmanager
def _silent(_what: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda _done, _total: None


class EndedError(Exception):
    """The process was ended."""


@contextmanager
def _ended(what: str) -> Iterator[Callable[[int, int], None]]:
    def advance(done: int, _total: int) -> None:
        if what == "learning" and done == 6:
            raise EndedError

    yield advance


@pytest.mark.slow
def test_a_training_that_was_ended_gives_the_package_that_it_would_have_given(plate: Path) -> None:
    settings = load_settings(plate / "config.toml", {"model": {"package": "demo"}})

    def make(output: str, bar: Callable[[str], AbstractContextManager[Callable[[int, int], None]]] = _silent) -> None:
        order = Order((plate / "incoming",), plate / "all.csv", "role", plate / output, steps=STEPS)
        with ThreadPoolExecutor(2) as readers:
            make_package(order, settings, readers, bar, lambda _line: None)

    make("whole")
    with pytest.raises(EndedError):
        make("again", _ended)
    assert (plate / "again.training" / "learning.checkpoint").exists()
    make("again")
    whole, again = (load_package(plate / name) for name in ("whole", "again"))
    for name, values in whole.selftest.outputs.items():
        assert np.array_equal(again.selftest.outputs[name], values)
    assert read_manifest(plate / "again").novelty_sha256 == read_manifest(plate / "whole").novelty_sha256


def test_too_few_wells_of_a_class_are_said(plate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(plate, "few", classes="compound")) == 2
    said = capsys.readouterr().err
    assert "too few wells of REF-ACTIN (2 wells)" in said
    assert "6 of each class are needed" in said
    assert not (plate / "few.training").exists()


def test_too_few_wells_are_said_before_a_plane_is_read(
    plate: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a plane was read")

    monkeypatch.setattr("hcs_daemon.training.plates._read", read)
    assert main(arguments(plate, "early", classes="compound")) == 2
    assert "too few wells of REF-ACTIN (2 wells)" in capsys.readouterr().err
    assert not (plate / "early.training").exists()


def test_a_layout_that_is_not_there_is_asked_for_by_its_option(plate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments(plate, "gone")
    given[given.index("--layout") + 1] = str(plate / "incoming")  # a folder that holds no P1.csv
    assert main(given) == 2
    said = capsys.readouterr().err
    assert "P1.csv is not there" in said
    assert "give --layout" in said
    assert not (plate / "gone.training").exists()


@pytest.mark.parametrize("begun", [True, False])
def test_who_ends_it_is_told_whether_it_goes_on(
    begun: bool,  # noqa: FBT001 (a table)
    plate: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def end(order: Order, *_: object) -> None:
        order.work.mkdir()
        if begun:
            (order.work / "learning.checkpoint").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("hcs_daemon.commands.train.make_package", end)
    assert main(arguments(plate, f"ended-{begun}")) == 130
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("ended: the same command ")
    assert ("goes on from where it was" in said) is begun


def test_a_column_that_is_not_there_is_said_with_those_that_are(
    plate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(plate, "none", classes="moa")) == 2
    assert "its columns: well, compound, concentration_um, role" in capsys.readouterr().err


def test_planes_of_another_depth_teach_nothing(plate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (plate / "config.toml").read_text("utf-8").replace("bit_depth = 16", "bit_depth = 12")
    (plate / "twelve.toml").write_text(text, "utf-8")
    given = arguments(plate, "wrong")
    given[2] = str(plate / "twelve.toml")
    assert main(given) == 4
    assert "no labelled well could be read" in capsys.readouterr().err
    assert not (plate / "wrong.training").exists()


def test_the_tile_of_an_example_is_the_one_that_is_lit_like_its_site(tmp_path: Path) -> None:
    plain = Normalisation(kind="linear", offset=0.0, scale=100.0)
    manifest = draft(make_settings(tmp_path), 1.0, 16, [plain] * 5)
    site = np.full((5, 32, 32), 300, np.uint16)
    site[0, :16, :16], site[1, :16, 16:], site[2, 16:, 16:] = 5000, 5000, 100
    site[:, 16:, :16] += np.array([900, 1000, 0, 0, 0], np.uint16)[:, None, None]
    tile = plainest_tile(site, Tiler(manifest, torch.device("cpu")), 1.0)
    assert np.array_equal(tile, site[:, 16:, :16])


def test_a_textured_network_keeps_the_verdict_and_embeds_what_each_channel_looks_like() -> None:
    torch.manual_seed(0)
    network = CellNetwork(2, 3, width=4, features=8)
    network.fold()
    textured = Textured(network, 2)
    tiles = torch.randn(6, 2, 32, 32)
    changed = tiles.clone()
    changed[:, 1] *= 2.0
    with torch.no_grad():
        assert torch.allclose(textured(tiles)["logits"], network(tiles)["logits"])
        textured.measure(textured(tiles)["embedding"])
        before, after = textured(tiles)["embedding"], textured(changed)["embedding"]
    assert before.mean(dim=0).abs().max() < 1e-4
    assert torch.allclose(before.std(dim=0), torch.ones(before.shape[1]), atol=1e-3)
    # a scale's: two spreads, two skewnesses, two kurtoses, one of the pair; the first channel's own do not change
    own = torch.tensor([True, False, True, False, True, False, False] * SCALES)
    torch.testing.assert_close(before[:, own], after[:, own])
    assert not torch.allclose(before[:, ~own], after[:, ~own])
