"""A real Opera Phenix site through `process`, with the demonstration model."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from processes import REAL_CHANNELS, make_place, run_program

CHANNELS = ["DNA", "ER", "RNA", "AGP", "Mito"]


@pytest.fixture(scope="module")
def plate(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the real plate."""
    place = make_place(
        tmp_path_factory.mktemp("real"), REAL_CHANNELS, expect='ignore_channels = ["1"]\npixel_size_um = 0.598'
    )
    done = run_program("process", shared_data / "opera-phenix-6ch", "-c", place.config)
    assert done.returncode == 0, done.stderr
    return place.results / "opera-phenix-6ch" / "1"


@pytest.fixture(scope="module")
def result(plate: Path) -> Any:
    return json.loads((plate / "wells" / "C03.json").read_text("utf-8"))


def test_the_well_is_complete_with_the_five_planes_it_was_made_from(result: Any) -> None:
    assert result["status"] == "complete"
    nothing: dict[str, list[int]] = {"missing": [], "rejected": [], "failed": [], "lacking": []}
    assert result["sites"] == {"expected": 1, "analysed": 1, **nothing}
    # extremes and highest bits as the instrument itself recorded them in its files' tags
    found = {
        entry["channel"]: (entry["min"], entry["max"], entry["observed_bits"], entry["used"])
        for entry in result["inputs"]
    }
    assert found["DNA"] == (174, 28340, 15, "analysed")
    assert {channel: bits for channel, (_, _, bits, _) in found.items()} == {
        "DNA": 15,
        "ER": 15,
        "RNA": 15,
        "AGP": 13,
        "Mito": 16,
    }


def test_every_input_can_be_traced_to_its_bytes(result: Any, shared_data: Path) -> None:
    listed = {
        line.split(maxsplit=1)[1].strip().removeprefix("./"): line.split(maxsplit=1)[0]
        for line in (shared_data / "SHA256SUMS").read_text("utf-8").splitlines()
    }
    for entry in result["inputs"]:
        assert listed[f"opera-phenix-6ch/{entry['path']}"] == entry["sha256"]


def test_the_shapley_values_sum_to_the_change_in_the_logit(result: Any) -> None:
    (site,) = result["explanation"]["sites"]
    assert list(site["channel_shapley"]) == CHANNELS
    change = site["change"]["to"] - site["change"]["from"]
    assert sum(site["channel_shapley"].values()) == pytest.approx(change, abs=1e-4)
    logits = dict(zip(result["classes"], result["site_results"][0]["logits"], strict=True))
    contrast = logits[result["explanation"]["target"]] - logits[result["explanation"]["against"]]
    assert site["change"]["to"] == pytest.approx(contrast, abs=1e-4)
    assert site["checks"]["efficiency_error"] <= 0.001


def test_the_map_is_of_those_planes_and_sums_to_what_it_explains(plate: Path, result: Any) -> None:
    path = plate / "explanations" / "C03.npz"
    explained = result["explanation"]
    (site,) = explained["sites"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == explained["maps_sha256"]
    with np.load(path, allow_pickle=False) as maps:
        assert maps["channels"].tolist() == CHANNELS
        assert maps["sites"].tolist() == [3]
        digests = {entry["channel"]: entry["sha256"] for entry in result["inputs"]}
        assert maps["key_3"].tolist() == [digests[channel] for channel in CHANNELS]
        logits = maps["heat_3"].astype(np.float64) * maps["unit_3"]
        # the field, 1080 pixels of 0.598 µm
        assert logits.shape[2] * maps["um_per_px_3"] == pytest.approx(1080 * 0.598, rel=0.01)
        assert maps["passed_3"] == site["checks"]["passed"]
    change = site["change"]["to"] - site["change"]["from"]
    assert abs(logits.sum() - change) / abs(change) == pytest.approx(site["checks"]["completeness_error"], abs=1e-3)


def test_the_result_says_that_the_model_is_for_demonstration(result: Any) -> None:
    assert result["model"]["demonstration"]
    assert any("demonstration" in warning for warning in result["warnings"])


def test_the_picture_and_the_tables_are_there(plate: Path) -> None:
    with Image.open(plate / "wells" / "C03.png") as picture:
        assert picture.width >= 1000
        assert np.asarray(picture.convert("L")).std() > 10
    with Image.open(plate / "plate.png") as picture:
        assert picture.width >= 600
    profiles = pq.read_table(plate / "profiles.parquet")
    assert profiles.column("Metadata_Well").to_pylist() == ["C03"]
    assert pq.read_table(plate / "sites.parquet").column("Metadata_Site").to_pylist() == [3]
    assert json.loads((plate / "plate.json").read_text("utf-8"))["state"] == "finished"
