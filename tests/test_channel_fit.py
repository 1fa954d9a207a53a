"""Channels exchanged within a site are told, and nothing is told of an honest plate."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fakes import CHANNELS, Clock, make_settings
from hcs_daemon.intake.validation import Expected, examine
from hcs_daemon.plate import WellId
from hcs_daemon.publish.channel_fit import SITES, TRAITS, ChannelFit, judge, traits_of
from hcs_daemon.records import PlaneMeasures
from hcs_daemon.simulate.compounds import CHANNELS as STAINS
from hcs_daemon.simulate.layout import plan_plate
from hcs_daemon.simulate.site import render_site
from hcs_daemon.simulate.variation import dimmed, emptied
from hcs_daemon.tiff import encode_plane
from spine import Spine
from watched_plates import P1, name

Floats = NDArray[np.float64]
SIZE_PX, EMPTY_EVERY = 240, 5
PLANS = plan_plate(24, 0, "SIM0001")
PLACES = [(WellId(P1, plan.position), 1) for plan in PLANS]


def fields(index: int, *, varied: bool) -> NDArray[np.uint16]:
    """All channels of a well's site; varied: one well in five is empty, and stains differ tenfold."""
    rng = np.random.default_rng(index)
    pixels = render_site(PLANS[index], 1, plate="SIM0001", seed=0, size_px=SIZE_PX).pixels
    if not varied:
        return pixels
    if index % EMPTY_EVERY == 0:
        return np.stack([emptied(plane, rng) for plane in pixels])
    return np.stack(
        [dimmed(plane, share, rng) for plane, share in zip(pixels, 10 ** rng.uniform(-1, 0, 5), strict=True)]
    )


def measured(pixels: NDArray[np.uint16]) -> PlaneMeasures:
    """As a plane that is read."""
    found = examine(pixels, Expected(16, "uint16"))
    assert isinstance(found, PlaneMeasures)
    return found


@pytest.fixture(scope="module")
def honest() -> Floats:
    """(24, 5, traits): a plate as it should be."""
    made = [fields(index, varied=False) for index in range(len(PLANS))]
    return np.stack([[traits_of(measured(plane)) for plane in site] for site in made])


@pytest.fixture(scope="module")
def varied_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate's folder: a fifth of its wells is empty, its stains differ tenfold."""
    folder = tmp_path_factory.mktemp("varied") / "P1__M1" / "Images"
    folder.mkdir(parents=True)
    for index, plan in enumerate(PLANS):
        for channel, plane in enumerate(fields(index, varied=True), start=1):
            (folder / name(plan.position.name, channel)).write_bytes(encode_plane(plane))
    return folder.parent


def exchanged(traits: Floats, sites: list[int], one: int, other: int) -> Floats:
    """The same plate, two channels of some sites under each other's name."""
    found = traits.copy()
    found[sites, one], found[sites, other] = traits[sites, other], traits[sites, one]
    return found


def told(fit: ChannelFit) -> dict[int, set[str]]:
    """Index of a site -> the channels that look exchanged."""
    index = {well: number for number, (well, _) in enumerate(PLACES)}
    return {index[well]: set(found[0].channels) for well, found in fit.exchanges.items()}


def test_nothing_is_told_of_an_honest_plate(honest: Floats) -> None:
    fit = judge(PLACES, honest, STAINS)
    assert fit.exchanges == {}
    assert fit.sites == len(PLACES)
    assert fit.words == ()


def test_an_exchange_of_channels_that_can_be_told_apart_is_found_wherever_it_is(honest: Floats) -> None:
    fit = judge(PLACES, honest, STAINS)
    assert ("DNA", "ER") in fit.told_apart
    missed = 0
    for one, other in fit.told_apart:
        for site in range(0, len(PLACES), 3):
            spoilt = exchanged(honest, [site], STAINS.index(one), STAINS.index(other))
            found = told(judge(PLACES, spoilt, STAINS))
            assert found in ({}, {site: {one, other}})
            missed += not found
    assert missed <= len(fit.told_apart)  # one site in eight at most


def test_channels_that_look_alike_are_not_told_apart(honest: Floats) -> None:
    alike = np.concatenate([honest[:, :1], honest[:, :1]], axis=1)
    fit = judge(PLACES, alike, ("DNA", "again"))
    assert fit.told_apart == ()
    assert fit.exchanges == {}


def test_a_few_exchanged_sites_do_not_spoil_the_model(honest: Floats) -> None:
    sites = [2, 9, 16]
    spoilt = exchanged(honest, sites, STAINS.index("DNA"), STAINS.index("Mito"))
    assert told(judge(PLACES, spoilt, STAINS)) == {site: {"DNA", "Mito"} for site in sites}


def test_of_too_few_sites_and_of_too_few_wells_nothing_is_said(honest: Floats) -> None:
    spoilt = exchanged(honest, [0], 0, 1)
    few = SITES - 1
    assert judge(PLACES[:few], spoilt[:few], STAINS) == ChannelFit(few)
    one_well = [(PLACES[0][0], site) for site in range(len(PLACES))]
    assert judge(one_well, spoilt, STAINS).told_apart == ()


def test_of_nothing_nothing_is_said() -> None:
    assert judge([], np.empty((0, 5, TRAITS)), STAINS) == ChannelFit()


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(len(PLANS))))
def test_the_order_of_the_sites_does_not_matter(honest: Floats, order: list[int]) -> None:
    spoilt = exchanged(honest, [4], STAINS.index("DNA"), STAINS.index("AGP"))
    shuffled = judge([PLACES[index] for index in order], spoilt[order], STAINS)
    assert shuffled == judge(PLACES, spoilt, STAINS)
    assert told(shuffled) == {4: {"DNA", "AGP"}}


def test_a_field_without_cells_has_no_shape() -> None:
    assert np.isnan(traits_of(measured(fields(0, varied=True)[0]))).all()


def test_how_strong_a_stain_is_hardly_changes_its_shape() -> None:
    plane = fields(1, varied=False)[0]
    weak = dimmed(plane, 0.1, np.random.default_rng(0))
    changed = np.abs(traits_of(measured(weak)) - traits_of(measured(plane)))
    other = np.abs(traits_of(measured(fields(1, varied=False)[3])) - traits_of(measured(plane)))
    assert np.median(changed) < np.median(other) / 3


def spine_over(folder: Path, results: Path, *, finite: bool) -> Spine:
    """The spine over a watched folder."""
    expect: dict[str, Any] = {"channels": {stain: str(id_) for id_, stain in enumerate(STAINS, start=1)}}
    expect |= {"pixel_size_um": 1.196, "sites_per_well": 1}
    given = {"watch": {"directory": str(folder)}, "expect": expect}
    return Spine(make_settings(results, given), Clock(), finite=finite)


def test_empty_wells_and_tenfold_stains_raise_no_rejection_and_no_warning(varied_folder: Path, tmp_path: Path) -> None:
    spine = spine_over(varied_folder.parent, tmp_path, finite=True)
    spine.process()
    assert tuple(CHANNELS) == STAINS
    assert spine.rejections() == []
    assert set(spine.statuses().values()) == {"complete"}
    (plate,) = spine.plates().values()
    assert plate["warnings"] == []
    assert plate["channel_fit"]["sites"] == sum(index % EMPTY_EVERY != 0 for index in range(len(PLANS)))
    assert ["DNA", "ER"] in plate["channel_fit"]["told_apart"]
    assert plate["channel_fit"]["exchanged"] == []
    assert not any("exchanged" in words for well in spine.wells().values() for words in well["warnings"])


def test_an_exchange_in_the_same_plate_is_told_in_the_well_and_in_the_plates_file(
    varied_folder: Path, tmp_path: Path
) -> None:
    last = PLANS[-1].position.name
    files = [name(last, channel) for channel in range(1, 6)]
    images = tmp_path / "in" / varied_folder.name / "Images"
    shutil.copytree(varied_folder, images.parent, ignore=shutil.ignore_patterns(*files))
    spine = spine_over(tmp_path / "in", tmp_path, finite=False)
    spine.run(30)
    for file, source in zip(files, [files[1], files[0], *files[2:]], strict=True):
        shutil.copyfile(varied_folder / "Images" / source, images / file)
    spine.run(60)
    spine.end()
    assert spine.rejections() == []
    (plate,) = spine.plates().values()
    (found,) = plate["channel_fit"]["exchanged"]
    assert (found["well"], found["site"], found["channels"]) == (last, 1, ["DNA", "ER"])
    (words,) = plate["warnings"]
    assert words.startswith(f"{last} site 1: what is called DNA looks like the plate's ER")
    wells = {key.rpartition("/")[2]: well for key, well in spine.wells().items()}
    assert words.removeprefix(f"{last} ") in wells[last]["warnings"]
    assert wells[last]["prediction"] is not None


def test_what_is_said_names_all_sites_of_a_well_at_once(honest: Floats) -> None:
    twice = [*PLACES, *((well, 2) for well, _ in PLACES)]
    spoilt = exchanged(np.concatenate([honest, honest]), [3, 3 + len(PLACES)], STAINS.index("DNA"), STAINS.index("ER"))
    (words,) = judge(twice, spoilt, STAINS).words
    assert words.startswith(f"{PLACES[3][0].stem} sites 1, 2: what is called DNA")
