"""The maps of explanations lie beside the result that names them, whole, and go with it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fakes import CHANNELS, Easel
from hcs_daemon.plate import SiteId
from hcs_daemon.publish import publisher
from hcs_daemon.publish.files import write_atomic
from hcs_daemon.publish.ledger import verify_ledger
from hcs_daemon.publish.maps import SCHEMA, maps_file, site_map
from hcs_daemon.records import SiteReturned, SiteWanted
from wells import (
    CONTROL,
    FACTS,
    TREATED,
    Desktop,
    answered,
    attribution_of,
    closed_well,
    plate_news,
    predictions_of,
    site_of,
    well_id,
)

WRITE = "hcs_daemon.publish.writing.write_atomic"
SITE = SiteId(well_id(), 1)
WANTED = SiteWanted(SITE, ("a" * 64, "b" * 64), "much_DNA", "control")

SHOWN = {"results": {"pictures": "all"}}


def desk_of(folder: Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Desktop:
    return Desktop(folder, {**SHOWN, **(overrides or {})}, drawing=Easel())


def maps_of(desktop: Desktop, stem: str = "B03") -> dict[str, Any]:
    """What is in a well's file, after its digest was found in the result."""
    path = desktop.folder / "explanations" / f"{stem}.npz"
    assert desktop.result(stem)["explanation"]["maps_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def listed(desktop: Desktop) -> list[str]:
    return sorted(path.name for path in (desktop.folder / "explanations").glob("*"))


def logits(maps: Mapping[str, Any], site: int = 1) -> NDArray[np.float64]:
    return np.asarray(maps[f"heat_{site}"], np.float64) * float(maps[f"unit_{site}"])


# ---- the file


def test_a_map_can_be_read_back_with_the_words_that_belong_to_it(tmp_path: Path) -> None:
    desktop = desk_of(tmp_path)
    heat = np.linspace(-3e-7, 9e-7, len(CHANNELS) * 40 * 70).reshape(len(CHANNELS), 40, 70).astype(np.float32)
    closed = closed_well()
    for wanted in desktop.tell(closed, *predictions_of(closed)):
        desktop.tell(answered(wanted, heat=heat))
    maps, result = maps_of(desktop), desktop.result()
    assert maps["heat_1"].dtype == np.float16
    np.testing.assert_allclose(logits(maps), heat, atol=1e-3 * float(heat.max()))
    assert logits(maps).sum() == pytest.approx(float(heat.sum()), rel=1e-3)
    assert str(maps["schema"]) == SCHEMA
    assert (str(maps["plate"]), str(maps["acquisition"]), str(maps["well"])) == ("P1", "a1", "B03")
    assert maps["sites"].tolist() == [1]
    assert maps["channels"].tolist() == result["channels"]
    assert maps["key_1"].tolist() == result["site_results"][0]["key"]
    assert str(maps["model_sha256"]) == result["model"]["sha256"]
    explained = result["explanation"]
    assert [str(maps[f"{name}_1"]) for name in ("target", "against", "method")] == [
        explained["target"],
        explained["against"],
        explained["method"],
    ]
    assert maps["um_per_px_1"] == FACTS.pixel_size_um
    assert maps["passed_1"]


def test_every_explained_site_has_its_map(tmp_path: Path) -> None:
    desktop = desk_of(tmp_path, {"explain": {"policy": "all"}})
    closed = closed_well(sites=(1, 2, 3))
    for wanted in reversed(desktop.tell(closed, *predictions_of(closed))):
        heat = np.full((len(CHANNELS), 4, 4), wanted.site.site, np.float32)
        desktop.tell(answered(wanted, heat=heat))
    maps = maps_of(desktop)
    assert maps["sites"].tolist() == [1, 2, 3]
    assert [logits(maps, site).mean() for site in (1, 2, 3)] == [1, 2, 3]


def test_an_explanation_that_failed_its_checks_says_so_in_the_file(tmp_path: Path) -> None:
    desktop = desk_of(tmp_path)
    closed = closed_well()
    for wanted in desktop.tell(closed, *predictions_of(closed)):
        checks = replace(attribution_of(wanted).checks, passed=False, failed=("deletion",))
        desktop.tell(answered(wanted, checks=checks))
    assert not maps_of(desktop)["passed_1"]


@given(
    st.integers(1, 3).flatmap(
        lambda channels: arrays(
            np.float32,
            st.tuples(st.just(channels), st.integers(1, 40), st.integers(1, 40)),
            elements=st.floats(-1e3, 1e3, width=32),
        )
    ),
    st.integers(2, 6000),
)
def test_a_large_map_is_summed_in_blocks_until_it_fits_and_its_sum_stays(
    heat: NDArray[np.float32], most_bytes: int
) -> None:
    found = site_map(attribution_of(WANTED, heat=heat), most_bytes)
    assert found.heat.nbytes <= max(most_bytes, 2 * len(heat))
    assert found.heat.shape == (len(heat), *(-(-side // found.bins) for side in heat.shape[1:]))
    assert np.abs(found.heat).max() <= 1
    kept = found.heat.astype(np.float64).sum(axis=(1, 2)) * found.unit
    rounding = found.unit * found.heat[0].size / 2048 + 1e-3
    np.testing.assert_allclose(kept, heat.astype(np.float64).sum(axis=(1, 2)), atol=rounding)


def test_blocks_are_squares_of_neighbours_and_the_pixel_size_grows_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heat = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    found = site_map(attribution_of(WANTED, heat=heat), most_bytes=8)
    assert found.bins == 2
    np.testing.assert_allclose(found.heat[0] * found.unit, [[10, 18], [42, 50]], rtol=1e-3)

    monkeypatch.setattr(publisher, "MOST_BYTES", 2 * len(CHANNELS) * 32 * 32)
    desktop = desk_of(tmp_path)
    desktop.publish(closed_well())
    maps = maps_of(desktop)
    assert maps["heat_1"].shape == (len(CHANNELS), 32, 32)
    assert maps["um_per_px_1"] == 2 * FACTS.pixel_size_um


def test_equal_maps_give_equal_bytes() -> None:
    found = site_map(attribution_of(WANTED))
    assert maps_file(well_id(), FACTS, [found]) == maps_file(well_id(), FACTS, [found])


# ---- its place


def test_a_new_revision_replaces_the_maps(tmp_path: Path) -> None:
    desktop = desk_of(tmp_path)
    desktop.publish(closed_well())
    before = maps_of(desktop)
    desktop.publish(closed_well(edition=2))
    after = maps_of(desktop)
    assert desktop.result()["revision"] == 2
    assert before["key_1"].tolist() != after["key_1"].tolist() == desktop.result()["site_results"][0]["key"]
    assert listed(desktop) == ["B03.npz"]


def test_a_new_revision_without_explanation_removes_them(tmp_path: Path) -> None:
    desktop = desk_of(tmp_path)
    desktop.publish(closed_well())
    closed = closed_well(edition=2)
    for wanted in desktop.tell(closed, *predictions_of(closed)):
        desktop.tell(SiteReturned(wanted, site_of(wanted), None, "its field is too small"))
    assert desktop.result()["explanation"] is None
    assert listed(desktop) == []


def test_without_an_explanation_there_is_no_file(tmp_path: Path) -> None:
    desktop = desk_of(tmp_path, {"explain": {"policy": "none"}})
    desktop.publish(closed_well())
    assert not (desktop.folder / "explanations").exists()


@pytest.mark.parametrize(
    ("pictures", "values", "there"),
    [("all", CONTROL, True), ("hits", CONTROL, False), ("hits", TREATED, True), ("none", TREATED, False)],
)
def test_the_wells_with_a_picture_have_maps(
    tmp_path: Path, pictures: str, values: tuple[float, ...], *, there: bool
) -> None:
    desktop = desk_of(tmp_path, {"results": {"pictures": pictures}})
    desktop.publish(closed_well(), values)
    assert (desktop.result()["explanation"]["maps_sha256"] is not None) == there
    assert (listed(desktop) == ["B03.npz"]) == there


def test_they_outlast_a_restart_and_a_revision_that_only_names_the_compound(tmp_path: Path) -> None:
    desktop = desk_of(tmp_path)
    desktop.publish(closed_well())
    before = maps_of(desktop)
    (desktop.folder / "explanations" / ".B03.npz.0123.tmp").write_bytes(b"half")
    layout = tmp_path / "layout.csv"
    layout.write_text("well,compound,concentration_um,role\nB03,taxol,1,treatment\n", "utf-8")
    again = desktop.restart(tmp_path, {**SHOWN, "expect": {"layout": str(layout)}})
    again.tell(plate_news())
    again.pass_time()
    assert again.result()["revision"] == 2
    assert again.result()["content"]["compound"] == "taxol"
    after = maps_of(again)
    assert listed(again) == ["B03.npz"]
    np.testing.assert_array_equal(before["heat_1"], after["heat_1"])


def test_they_are_written_when_the_disk_takes_them_and_never_later_than_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desktop = desk_of(tmp_path)
    whole = write_atomic

    def refuse_results(path: Path, data: bytes) -> None:
        if path.suffix == ".json":
            raise OSError(28, "no space left on device")
        whole(path, data)

    monkeypatch.setattr(WRITE, refuse_results)
    desktop.publish(closed_well())
    assert listed(desktop) == ["B03.npz"]
    assert not (desktop.folder / "wells" / "B03.json").exists()
    monkeypatch.setattr(WRITE, whole)
    desktop.pass_time(2.0)
    assert maps_of(desktop)["sites"].tolist() == [1]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes() + b"!"),
            "was changed: its SHA-256 is not the one in its result",
        ),
        (Path.unlink, "is not there"),
    ],
)
def test_the_ledgers_check_reaches_the_maps(harm: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    desktop = desk_of(tmp_path)
    desktop.publish(closed_well())
    maps_of(desktop)
    assert verify_ledger(desktop.results).broken is None
    harm(desktop.folder / "explanations" / "B03.npz")
    assert verify_ledger(desktop.results).broken == f"P1/a1/explanations/B03.npz {said}"
