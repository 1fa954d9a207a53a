"""Models of other people through the whole spine: real packages, real files, real results."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

from fakes import Clock, make_settings
from hcs_daemon.__main__ import main
from hcs_daemon.commands.check import check_settings
from hcs_daemon.commands.trace import trace_result
from hcs_daemon.device.manifest import Normalisation
from hcs_daemon.service import open_network
from hcs_daemon.tiff import decode_plane
from model_packages import ChannelMeans, manifest, write_tiny_package
from spine import Spine
from watched_plates import name, picture

STAINS = {"DNA": "1", "ER": "2", "RNA": "3", "AGP": "4", "Mito": "5", "Lyso": "6"}
WEIGHTS = [[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, -1.0]]


def plate(folder: Path, wells: tuple[str, ...] = ("A01", "A02", "B01"), sites: int = 1) -> Path:
    """A plate of six stains in `folder/in`."""
    images = folder / "in" / "P1__M1" / "Images"
    images.mkdir(parents=True)
    for row, well in enumerate(wells):
        for site in range(1, sites + 1):
            for channel in STAINS.values():
                seed = 100 * row + 10 * site + int(channel)
                (images / name(well, int(channel), site)).write_bytes(picture(seed))
    return images


def spine(folder: Path, package: Path, sites: int = 1, **expect: Any) -> Spine:
    """The daemon's stages over the plate with the package's network, its pictures drawn."""
    found = make_settings(
        folder,
        {
            "expect": {"channels": STAINS, "pixel_size_um": 1.0, "sites_per_well": sites, **expect},
            "model": {"package": str(package), "device": "cpu"},
            "results": {"pictures": "all"},
        },
    )
    return Spine(found, Clock(), finite=True, open_device=open_network)


def raw(images: Path, well: str, stain: str, site: int = 1) -> Any:
    return decode_plane((images / name(well, int(STAINS[stain]), site)).read_bytes()).pixels


def tiles_mean(values: Any, edge: int) -> float:
    """The mean over the four tiles in its corners, which cover it."""
    return float(np.mean([values[rows, columns] for rows in ends(edge) for columns in ends(edge)]))


def ends(edge: int) -> tuple[slice, slice]:
    return slice(0, edge), slice(-edge, None)


def test_a_model_of_three_stains_works_on_a_plate_of_six(tmp_path: Path) -> None:
    images = plate(tmp_path)
    line = spine(tmp_path, write_tiny_package(tmp_path / "three", ChannelMeans(WEIGHTS, nn.Tanh())))
    line.process()
    assert line.statuses() == {f"P1/M1/{well}": "complete" for well in ("A01", "A02", "B01")}
    assert not line.rejections()
    result = line.wells()["P1/M1/A02"]
    assert result["channels"] == ["DNA", "ER", "Mito"]
    assert {entry["channel"] for entry in result["inputs"]} == {"DNA", "ER", "Mito"}
    wanted = [(tiles_mean(raw(images, "A02", stain), 18) - 100.0) / 100.0 for stain in ("DNA", "ER", "Mito")]
    assert result["site_results"][0]["embedding"] == pytest.approx(wanted, rel=1e-4)
    assert result["explanation"]["sites"][0]["channel_shapley"].keys() == {"DNA", "ER", "Mito"}
    assert line.metrics()['hcs_planes_total{outcome="ignored"}'] == 9.0
    assert line.plates()["P1/M1"]["expectations"]["ignore_channels"] == ["3", "4", "6"]
    assert trace_result(tmp_path / "out" / "P1" / "M1" / "wells" / "A02.json", None, None, None, as_json=False) == 0


def test_a_model_with_another_normalisation_sees_what_it_was_made_for(tmp_path: Path) -> None:
    images = plate(tmp_path, ("A01",))
    rules = (
        Normalisation(kind="log1p", offset=100.0, scale=50.0),
        Normalisation(kind="clip", offset=50.0, scale=1000.0),
        Normalisation(kind="asinh", offset=0.0, scale=200.0),
    )
    made = manifest(normalisation=rules)
    line = spine(tmp_path, write_tiny_package(tmp_path / "other", ChannelMeans(WEIGHTS, nn.Tanh()), made))
    line.process()
    dna, er, mito = (raw(images, "A01", stain).astype(np.float64) for stain in ("DNA", "ER", "Mito"))
    seen = [
        np.log1p(np.maximum((dna - 100.0) / 50.0, 0.0)),
        np.clip((er - 50.0) / 1000.0, 0.0, 1.0),
        np.arcsinh(mito / 200.0),
    ]
    wanted = [tiles_mean(values, 18) for values in seen]
    assert line.wells()["P1/M1/A01"]["site_results"][0]["embedding"] == pytest.approx(wanted, rel=1e-4)
    assert line.wells()["P1/M1/A01"]["prediction"] is not None


class Embedding(nn.Module):
    """The channels' means and nothing else."""

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, channels, tile, tile) to the embedding."""
        return {"embedding": tiles.mean(dim=(2, 3))}


def embedding_package(folder: Path) -> Path:
    made = manifest(classes=(), control_class="", references={})
    return write_tiny_package(folder / "embedding", Embedding(), made)


def test_a_model_that_only_embeds_gives_profiles_and_no_verdict(tmp_path: Path) -> None:
    plate(tmp_path, sites=3)
    line = spine(tmp_path, embedding_package(tmp_path), sites=3)
    line.process()
    assert set(line.statuses().values()) == {"complete"}
    out = tmp_path / "out" / "P1" / "M1"
    for result in line.wells().values():
        assert result["prediction"] is None
        assert result["explanation"] is None
        assert result["classes"] == []
        assert result["model"]["control_class"] == ""
        assert not result["warnings"]
        assert [(site["label"], site["logits"], len(site["embedding"])) for site in result["site_results"]] == [
            ("", [], 3)
        ] * 3
    profiles = pq.read_table(out / "profiles.parquet").to_pydict()
    assert profiles["Metadata_Well"] == ["A01", "A02", "B01"]
    assert profiles["Metadata_Label"] == ["", "", ""]
    assert [name for name in profiles if name.startswith(("embedding_", "logit_"))] == [
        "embedding_000",
        "embedding_001",
        "embedding_002",
    ]
    sites = [site["embedding"] for site in line.wells()["P1/M1/A01"]["site_results"]]
    assert profiles["embedding_001"][0] == pytest.approx(np.mean(sites, axis=0)[1])
    for drawn in (out / "wells" / "A01.png", out / "plate.png"):
        with Image.open(io.BytesIO(drawn.read_bytes())) as page:
            assert page.width > 1000
    assert line.plates()["P1/M1"]["verdicts"] == {}
    assert trace_result(out / "wells" / "A01.json", None, None, None, as_json=False) == 0


def test_results_without_verdicts_are_taken_up_after_a_restart(tmp_path: Path) -> None:
    plate(tmp_path)
    package = embedding_package(tmp_path)
    first = spine(tmp_path, package)
    first.process()
    before = first.wells()
    again = spine(tmp_path, package)
    again.process()
    assert again.wells() == before


def config_file(folder: Path, package: Path) -> Path:
    """Settings that name all six stains."""
    config = folder / "config.toml"
    channels = ", ".join(f'{stain} = "{id_}"' for stain, id_ in STAINS.items())
    config.write_text(
        f"""
[watch]
directory = '{(folder / "in").as_posix()}'
[expect]
bit_depth = 16
channels = {{ {channels} }}
pixel_size_um = 1.0
[model]
package = '{package.as_posix()}'
[results]
directory = '{(folder / "out").as_posix()}'
min_free_bytes = 1
[http]
port = 0
""",
        "utf-8",
    )
    return config


def test_check_says_in_words_what_such_models_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plate(tmp_path)
    package = embedding_package(tmp_path)
    config = config_file(tmp_path, package)
    assert check_settings(config) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "it has no use for RNA, AGP, Lyso: ignored" in said
    assert "it gives no verdict, only profiles" in said
    assert "nothing is explained: the model gives no verdict" in said


def test_wells_like_the_control_are_not_explained_by_references_of_the_control_alone(tmp_path: Path) -> None:
    plate(tmp_path, ("A01",))
    package = write_tiny_package(tmp_path / "alone", ChannelMeans([[9.0, 9.0, 9.0], *WEIGHTS[1:]], nn.Tanh()))
    line = spine(tmp_path, package)
    line.process()
    result = line.wells()["P1/M1/A01"]
    assert result["prediction"]["label"] == "control"
    assert result["explanation"] is None
    assert (
        "not explained: the model package has no reference sites of another class to compare control with"
        in result["warnings"]
    )
    assert not [name for name in line.metrics() if name.startswith("hcs_explanations_total") and line.metrics()[name]]


class WithoutMaps(ChannelMeans):
    """Gives no feature map."""

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits and embedding."""
        return {name: output for name, output in super().forward(tiles).items() if name != "feature_map"}


def test_check_and_process_refuse_grad_cam_of_a_package_without_a_feature_map_in_the_same_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = plate(tmp_path, ("A01",))
    config = config_file(tmp_path, write_tiny_package(tmp_path / "three", WithoutMaps(WEIGHTS, nn.Tanh())))
    for method, policy, code in (("grad_cam", "per_well", 3), ("grad_cam", "none", 0), ("auto", "per_well", 0)):
        text = config.read_text("utf-8").partition("[explain]")[0]
        config.write_text(f'{text}[explain]\nmethod = "{method}"\npolicy = "{policy}"\n', "utf-8")
        assert check_settings(config) == code
        said, checked = capsys.readouterr()
        assert main(["process", str(images.parent), "-c", str(config)]) == code
        processed = capsys.readouterr().err
        if policy == "per_well" and not code:
            assert "references of control alone: wells that look like it are not explained" in said
        if code:
            assert "Grad-CAM needs logits that are computed from the feature map; this network gives none" in checked
            assert checked.splitlines()[-2:] == processed.splitlines()[-2:]


def test_the_program_itself_ignores_what_the_model_does_not_use(tmp_path: Path) -> None:
    images = plate(tmp_path, ("A01",))
    (images / name("A01", 4)).write_bytes(b"broken, and of no stain that the model sees")
    package = write_tiny_package(tmp_path / "three", ChannelMeans(WEIGHTS, nn.Tanh()))
    config = config_file(tmp_path, package)
    assert main(["process", str(images.parent), "-c", str(config)]) == 0
    out = tmp_path / "out" / "P1" / "M1"
    result = json.loads((out / "wells" / "A01.json").read_bytes())
    assert (result["status"], result["channels"]) == ("complete", ["DNA", "ER", "Mito"])
    assert json.loads((out / "plate.json").read_bytes())["expectations"]["ignore_channels"] == ["3", "4", "6"]
