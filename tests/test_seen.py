"""What the demonstration package knows of its wells: as it ships, and how it is put into a package."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from hcs_daemon.demo_package.cells import Cells, learning_plan, render, screen_plan
from hcs_daemon.demo_package.seen import FALSE_ALARM_RATE, add, embedder, strange, tell, write_section
from hcs_daemon.device.manifest import CARD_NAME, NOVELTY_NAME, WEIGHTS_NAME, package_folder
from hcs_daemon.device.package import load_package

UNSEEN_SEED = 1  # the package that ships was made with seed 0
SMALLEST_PX = 135  # a site of one tile


def noise_wells(plate: str, count: int, seed: int) -> Cells:
    """Wells of a plate whose channels are noise of their own brightness: quick, and all the network needs."""
    plans = (learning_plan(plate, 0) * 2)[:count]
    rng = np.random.default_rng(seed)
    levels = rng.uniform(500, 3000, (count, 5, 1, 1))
    pixels = rng.normal(levels, 100, (count, 5, SMALLEST_PX, SMALLEST_PX)).astype(np.uint16)
    return Cells((plate,) * count, tuple(plans), pixels)


# ---- what ships


def test_the_shipped_package_knows_its_wells_and_tells_strange_ones_from_them() -> None:
    folder = package_folder("demo")
    known = load_package(folder).novelty
    assert known is not None
    assert known.false_alarm_rate == FALSE_ALARM_RATE
    assert known.held_out >= 99
    embed = embedder(folder)
    good = render(["FRESH1"], lambda plate, seed: screen_plan(plate, seed)[:16], UNSEEN_SEED).pixels
    alarms = sum(known.unlike(known.score(found)) for found in embed(good))
    assert alarms <= 2, "of 16 wells at one in a hundred, three or more come once in two thousand times"
    for kind, sites in strange(good, UNSEEN_SEED).items():
        assert np.mean([known.unlike(known.score(found)) for found in embed(sites)]) >= 0.9, kind


@pytest.mark.slow
def test_on_unseen_plates_false_alarms_stay_within_the_stated_rate() -> None:
    folder = package_folder("demo")
    known = load_package(folder).novelty
    assert known is not None
    found = embedder(folder)(render(["FRESH1", "FRESH2", "FRESH3"], screen_plan, UNSEEN_SEED).pixels)
    alarms = sum(known.unlike(known.score(well)) for well in found)
    # 288 wells at 0.01: eight or more come once in a hundred times
    assert alarms <= 7


# ---- how it is put in


def test_it_is_added_to_a_package_whose_network_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(package_folder("demo"), folder)
    before = (folder / WEIGHTS_NAME).read_bytes()
    known = add(folder, noise_wells("TRAIN01", 60, 1), noise_wells("CALIBRATE01", 99, 2))
    loaded = load_package(folder)
    assert loaded.novelty is not None
    assert (loaded.novelty.threshold, loaded.novelty.held_out) == (known.threshold, 99)
    assert (folder / WEIGHTS_NAME).read_bytes() == before
    first = (folder / NOVELTY_NAME).read_bytes()
    add(folder, noise_wells("TRAIN01", 60, 1), noise_wells("CALIBRATE01", 99, 2))
    assert (folder / NOVELTY_NAME).read_bytes() == first


def test_its_card_tells_once_what_was_found(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(package_folder("demo"), folder)
    add(folder, noise_wells("TRAIN01", 60, 1), noise_wells("CALIBRATE01", 99, 2))
    for _ in range(2):
        section = write_section(folder, tell(folder, noise_wells("TEST01", 16, 3), 0))
    text = (folder / CARD_NAME).read_text("utf-8")
    assert text.endswith(section)
    assert text.count("## Wells unlike anything seen") == 1
    assert re.search(r"\| without cells \| \d of 2 = ", text)
    assert "## References" in text


def test_strange_wells_are_strange_in_one_thing() -> None:
    good = noise_wells("TEST01", 2, 3).pixels
    made = strange(good, 0)
    assert all(sites.shape == good.shape and sites.dtype == np.uint16 for sites in made.values())
    exchanged = made["with ER and Mito exchanged"]
    assert (exchanged[:, [0, 4, 2, 3, 1]] == good).all()
    unstained = made["with no stain in Mito"]
    assert (unstained[:, :4] == good[:, :4]).all()
    assert unstained[:, 4].max() < 200
    assert made["out of focus"].std() < good.std()
    assert made["without cells"].max() < 200
