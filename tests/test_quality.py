"""Flags on poor pictures, each judged beside the plate's others, and what is seen of a plate as a whole."""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcs_daemon.intake.validation import Expected, examine
from hcs_daemon.plate import PLATE_SHAPES, WellPosition, plate_wells
from hcs_daemon.publish.documents import WellDraft, well_result
from hcs_daemon.publish.quality import QualityBook, quality_entry
from hcs_daemon.publish.schemas import WellResult
from hcs_daemon.publish.verdict import judge
from hcs_daemon.records import InputUse, PlaneConditions, PlaneMeasures, PlaneRecord
from hcs_daemon.simulate.camera import expose, illumination
from hcs_daemon.simulate.cells import map_cells, populate
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.seeds import generator
from hcs_daemon.simulate.site import PIXEL_SIZE_UM
from hcs_daemon.simulate.stains import Effect, light, through_lens, weave
from wells import FACTS, NOON, QUALITY, Desktop, closed_well, plate_news, predicted, well_id

Change = Callable[[PlaneRecord, random.Random], PlaneRecord]
GOOD = replace(QUALITY, foreground_fraction=0.3, bright=4000.0, power_slope=-2.5)


def as_it_is(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
    return plane


def measured(plane: PlaneRecord, focus: float | None = None, **quality: Any) -> PlaneRecord:
    """The plane, with other numbers."""
    assert plane.measures.quality is not None
    measures = replace(plane.measures, quality=replace(plane.measures.quality, **quality))
    return replace(plane, measures=measures if focus is None else replace(measures, focus=focus))


def natural(plane: PlaneRecord, rng: random.Random) -> PlaneRecord:
    """A good picture, as pictures of one plate differ."""
    return measured(
        replace(plane, measures=replace(plane.measures, quality=GOOD, sharpness=50000.0)),
        focus=0.1 * 10 ** rng.gauss(0, 0.03),
        bright=GOOD.bright * 10 ** rng.gauss(0, 0.04),
        background=GOOD.background * 10 ** rng.gauss(0, 0.02),
        foreground_fraction=rng.uniform(0.2, 0.4),
        power_slope=-2.5 + rng.gauss(0, 0.08),
        unevenness=rng.uniform(0.05, 0.12),
    )


def a_well(name: str, change: Change = as_it_is, sites: Iterable[int] = (1, 2), **closed: Any) -> WellResult:
    """A well of good pictures, all its planes changed."""
    found = closed_well(name, sites=tuple(sites), **closed)
    rng = random.Random(f"{name} {found.well.time}")  # noqa: S311 (no secret)
    inputs = tuple(InputUse(change(natural(use.plane, rng), rng), use.used) for use in found.inputs)
    predictions = {site: predicted(found, site) for site in found.ready}
    draft = WellDraft(replace(found, inputs=inputs), judge(FACTS, predictions, 0.9), predictions, {})
    return well_result(draft, FACTS, "f" * 64, revision=1, published_at=NOON, latency_s=0.0)


def names(wells: int = 24) -> list[str]:
    return [position.name for position in plate_wells(wells)]


@cache
def good(wells: int = 24) -> tuple[WellResult, ...]:
    return tuple(a_well(name) for name in names(wells))


def beside(change: Change, name: str = "B03") -> tuple[str, ...]:
    """The flags of one well beside a plate of good ones."""
    others = [result for result in good() if result.well != name]
    return QualityBook().judge([*others, a_well(name, change)]).of(well_id(name)).flags


def of_channel(channel: str, **quality: Any) -> Change:
    def change(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
        return measured(plane, **quality) if plane.channel == channel else plane

    return change


def shaded(unevenness: float, foreground: float) -> Change:
    """All channels shaded, and one with so much to be seen in it; the others with more."""

    def change(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
        share = foreground if plane.channel == "Mito" else 0.6
        return measured(plane, unevenness=unevenness, foreground_fraction=share)

    return change


def saturated(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
    share = 0.02 if plane.channel == "ER" else 0.0
    return replace(plane, measures=replace(plane.measures, saturated_fraction=share))


def noisy(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
    """Blurred, and what is left of the Laplacian is noise."""
    plane = measured(plane, focus=0.5, power_slope=-4.0, noise=45.0)
    return replace(plane, measures=replace(plane.measures, sharpness=50000.0))


def test_a_good_plate_has_neither_flags_nor_notes() -> None:
    judged = QualityBook().judge(good())
    assert judged.wells == {}
    assert judged.notes == ()


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        (as_it_is, ()),
        (saturated, ("saturated:ER",)),
        (of_channel("DNA", power_slope=-4.2, focus=0.03), ("out_of_focus:DNA",)),
        (of_channel("DNA", power_slope=-3.6, focus=0.03), ()),
        (of_channel("DNA", power_slope=-2.9, focus=0.03), ()),
        (of_channel("DNA", power_slope=-4.2, focus=0.3), ()),
        (of_channel("DNA", focus=0.01), ()),
        (of_channel("DNA", power_slope=None), ()),
        (of_channel("RNA", foreground_fraction=0.001, power_slope=None), ("blank:RNA",)),
        (of_channel("RNA", foreground_fraction=0.01), ("blank:RNA",)),
        (of_channel("AGP", debris_fraction=0.003), ("debris:AGP",)),
        (of_channel("AGP", debris_fraction=0.001), ()),
        (of_channel("AGP", bright=40000.0), ("debris:AGP",)),
        (shaded(0.4, 0.1), ("uneven:Mito",)),
        (shaded(0.4, 0.5), ()),
        (shaded(0.25, 0.1), ()),
        (of_channel("Mito", unevenness=0.4, foreground_fraction=0.1), ()),
        (of_channel("Mito", bright=200.0), ("dim:Mito",)),
        (of_channel("Mito", bright=2000.0), ()),
    ],
)
def test_a_poor_picture_is_flagged_beside_the_others_of_its_plate(change: Change, flags: tuple[str, ...]) -> None:
    assert beside(change) == flags


def test_a_slight_blur_is_believed_where_half_the_channels_have_it() -> None:
    def blurred(*channels: str) -> Change:
        return lambda plane, _rng: measured(plane, power_slope=-3.5, focus=0.05) if plane.channel in channels else plane

    assert beside(blurred("DNA", "ER")) == ()
    assert beside(blurred("DNA", "ER", "Mito")) == ("out_of_focus:DNA", "out_of_focus:ER", "out_of_focus:Mito")


def test_where_noise_hides_the_laplacian_the_power_slope_decides() -> None:
    assert beside(noisy) == tuple(sorted(f"out_of_focus:{channel}" for channel in FACTS.channels))


def empty(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
    return measured(plane, focus=10.0, foreground_fraction=0.0001, bright=30.0, power_slope=-4.0, unevenness=0.3)


def test_an_empty_well_is_empty_and_nothing_else() -> None:
    assert beside(empty) == ("empty",)


def test_a_plate_mostly_of_empty_wells_says_so_of_them_and_of_no_other() -> None:
    filled = set(names()[::4])
    judged = QualityBook().judge([a_well(name, as_it_is if name in filled else empty) for name in names()])
    flagged = {well.stem: quality.flags for well, quality in judged.wells.items()}
    assert flagged == {name: ("empty",) for name in names() if name not in filled}


def test_only_what_is_poor_by_itself_is_flagged_before_others_have_come() -> None:
    def poor(plane: PlaneRecord, rng: random.Random) -> PlaneRecord:
        return measured(saturated(plane, rng), power_slope=-5.0, focus=0.01, bright=10.0)

    assert QualityBook().judge([a_well("B03", poor)]).of(well_id()).flags == ("saturated:ER",)


def test_a_well_has_the_flags_of_more_than_half_its_sites_and_each_site_has_its_own() -> None:
    def change(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
        sites = {"DNA": {1, 2}, "ER": {1, 2, 3}}.get(plane.channel, set())
        return measured(plane, debris_fraction=0.01 if plane.id.site.site in sites else 0.0)

    found = QualityBook().judge([*good(), a_well("D04", change, sites=(1, 2, 3, 4), time=2)]).of(well_id("D04", 2))
    assert found.flags == ("debris:ER",)
    assert found.sites == {1: ("debris:DNA", "debris:ER"), 2: ("debris:DNA", "debris:ER"), 3: ("debris:ER",)}


def test_one_of_two_sites_is_no_more_than_half() -> None:
    def change(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
        return measured(plane, debris_fraction=0.01 if plane.id.site.site == 1 and plane.channel == "DNA" else 0.0)

    found = QualityBook().judge([*good(), a_well("D04", change, time=2)]).of(well_id("D04", 2))
    assert (found.flags, dict(found.sites)) == ((), {1: ("debris:DNA",)})


def test_of_a_stack_the_sharpest_plane_speaks() -> None:
    result = a_well("B03", of_channel("DNA", power_slope=-6.0, focus=0.001))
    sharp = next(entry for entry in good()[8].inputs if entry.channel == "DNA")
    assert sharp.sharpness is not None
    extra = [sharp.model_copy(update={"z": 2, "site": site, "sharpness": 2 * sharp.sharpness}) for site in (1, 2)]
    both = result.model_copy(update={"inputs": [*result.inputs, *extra]})
    others = [other for other in good() if other.well != "B03"]
    assert QualityBook().judge([*others, result]).of(well_id()).flags == ("out_of_focus:DNA",)
    assert QualityBook().judge([*others, both]).of(well_id()).flags == ()


SIDE_PX = 256


def rendered(number: int, *, cells_per_mm2: float, blur_px: float = 0.65) -> dict[str, PlaneMeasures]:
    """Channel -> what intake measures of a simulated field whose stains differ ten-fold from those of others."""
    rng = generator(5, number)
    cells = populate(SIDE_PX * PIXEL_SIZE_UM, cells_per_mm2, rng)
    maps, textures = map_cells(cells, SIDE_PX, PIXEL_SIZE_UM), weave((SIDE_PX, SIDE_PX), rng)
    found: dict[str, PlaneMeasures] = {}
    for channel in CHANNELS:
        stained = light(channel, cells, maps, textures, Effect(None, 0.0)) * np.float32(10 ** rng.uniform(-1, 0))
        lamp = illumination(SIDE_PX, PIXEL_SIZE_UM, generator(5, channel))
        measures = examine(expose(through_lens(stained, channel, blur_px, lamp, textures), rng), Expected())
        assert isinstance(measures, PlaneMeasures)
        found[channel] = measures
    return found


def simulated(name: str, measures: dict[str, PlaneMeasures]) -> WellResult:
    return a_well(name, lambda plane, _rng: replace(plane, measures=measures[plane.channel]), sites=(1,))


def test_empty_wells_and_stains_ten_fold_apart_raise_no_other_alarm_and_hide_no_blur() -> None:
    empties, blurred = names()[::5], "D04"
    plate = [
        simulated(
            name,
            rendered(
                number,
                cells_per_mm2=0.0 if name in empties else 430.0,
                blur_px=3.0 if name == blurred else 0.65,
            ),
        )
        for number, name in enumerate(names())
    ]
    flags = {well.stem: quality.flags for well, quality in QualityBook().judge(plate).wells.items()}
    assert {name: flags.pop(name) for name in empties} == dict.fromkeys(empties, ("empty",))
    assert flags == {blurred: tuple(sorted(f"out_of_focus:{channel}" for channel in CHANNELS))}


# ---- the order of arrival


@cache
def mixed() -> tuple[WellResult, ...]:
    changes = (empty, noisy, saturated, of_channel("AGP", debris_fraction=0.01), of_channel("DNA", bright=90.0))
    found = [a_well(name, changes[i // 4] if i % 4 == 0 and i < 20 else as_it_is) for i, name in enumerate(names())]
    return (*found, *(a_well(name, time=2) for name in names()[:4]))


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(28)), st.integers(0, 28))
def test_the_order_of_arrival_does_not_change_the_last_judgement(order: list[int], restart: int) -> None:
    everything = mixed()
    final = QualityBook().judge(everything)
    book, seen = QualityBook(), list[WellResult]()
    for count, index in enumerate(order):
        if count == restart:
            book = QualityBook()
        seen.append(everything[index])
        book.judge(seen[-3:])
    assert book.judge(seen) == final
    assert len(final.wells) == 5


def test_a_result_has_the_flags_known_when_it_was_written_and_the_plate_those_known_now() -> None:
    blurred = a_well("A01", of_channel("DNA", power_slope=-4.0, focus=0.01))
    others = [result for result in good() if result.well != "A01"]
    early, late = (QualityBook().flagged(blurred, before) for before in ([], others))
    assert (early.quality.flags, late.quality.flags) == ([], ["out_of_focus:DNA"])
    assert [site.flags for site in late.site_results] == [["out_of_focus:DNA"]] * 2
    entry = quality_entry(QualityBook().judge([early, *others]))
    assert entry.flags == {"A01": ["out_of_focus:DNA"]}


def test_a_new_revision_replaces_what_was_known_of_its_well() -> None:
    book = QualityBook()
    assert book.judge([*good()[1:], a_well("A01", empty)]).of(well_id("A01")).flags == ("empty",)
    assert book.judge(good()).wells == {}
    assert book.flagged(a_well("A01", empty), good()).quality.flags == ["empty"]


def test_results_plate_and_tables_on_the_disk_have_the_flags(tmp_path: Path) -> None:
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    closed = closed_well("B03")
    rng = random.Random(0)  # noqa: S311 (no secret)
    desk.publish(replace(closed, inputs=tuple(InputUse(saturated(use.plane, rng), use.used) for use in closed.inputs)))
    desk.publish(closed_well("C01"))
    desk.pass_time(60)
    result = desk.result()
    assert result["quality"]["flags"] == result["site_results"][0]["flags"] == ["saturated:ER"]
    plate = json.loads((desk.folder / "plate.json").read_bytes())
    assert plate["quality"] == {"flags": {"B03": ["saturated:ER"]}, "notes": []}
    table = pq.read_table(desk.folder / "profiles.parquet")
    assert table["Metadata_Flags"].to_pylist() == ["saturated:ER", ""]


# ---- the plate as a whole


def conditions(plane: PlaneRecord, temperature_c: float | None = 36.9) -> PlaneRecord:
    """Taken a minute a well, in the order of a plate of 96."""
    position = plane.id.site.well.position
    minutes = (position.row - 1) * 12 + position.column
    return replace(plane, conditions=PlaneConditions(NOON + timedelta(minutes=minutes), temperature_c))


def place(plane: PlaneRecord) -> WellPosition:
    return plane.id.site.well.position


def taken(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
    return conditions(plane)


def fading(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
    assert plane.measures.quality is not None
    if plane.channel != "ER":
        return conditions(plane)
    return conditions(measured(plane, bright=plane.measures.quality.bright * 0.93 ** place(plane).row))


def losing_focus(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
    return conditions(measured(plane, power_slope=-2.5 - 0.15 * place(plane).row) if plane.channel == "RNA" else plane)


def drying(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
    assert plane.measures.quality is not None
    at_edge = place(plane).row in {1, 8} or place(plane).column in {1, 12}
    factor = 1.5 if at_edge and plane.channel == "DNA" else 1.0
    return measured(plane, background=plane.measures.quality.background * factor)


def door_opened(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
    return conditions(plane, 34.2 if place(plane).row > 4 else 36.9)


def warming(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
    return conditions(plane, 30.0 + 0.5 * place(plane).row)


@pytest.mark.parametrize(
    ("change", "start", "words"),
    [
        (taken, "", ()),
        (fading, "drift: the brightness of ER falls to ", ("%", "correlation with time -0.")),
        (losing_focus, "drift: RNA becomes more blurred", ("power slope -0.",)),
        (drying, "edge: the background of DNA grows to 1", ("from the inner wells to the outermost",)),
        (door_opened, "temperature: the stage jumps from 36.9 to 34.2 °C between D12 and E01", ()),
        (warming, "temperature: the stage wanders between 30.5 and 34.0 °C", ()),
    ],
)
def test_a_note_says_what_is_seen_of_the_whole_plate(change: Change, start: str, words: tuple[str, ...]) -> None:
    notes = QualityBook().judge([a_well(name, change, sites=(1,)) for name in names(96)]).notes
    assert len(notes) == (1 if start else 0)
    for note in notes:
        assert note.startswith(start)
        assert all(word in note for word in words)


def test_the_outermost_of_the_wells_that_were_used_are_no_edge() -> None:
    inner = [name for name in names(96) if name[0] not in "AH" and name[1:] not in {"01", "12"}]

    def ringed(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
        return measured(plane, background=900.0 if place(plane).row in {2, 7} else 200.0)

    results = [a_well(name, ringed, sites=(1,)) for name in inner]
    assert QualityBook().judge(results).notes == ()
    assert QualityBook().judge(results, PLATE_SHAPES[96]).notes == ()


def test_what_changes_between_time_points_is_no_drift() -> None:
    def growing(plane: PlaneRecord, _rng: random.Random) -> PlaneRecord:
        assert plane.measures.quality is not None
        time = plane.id.site.well.time
        plane = measured(plane, bright=plane.measures.quality.bright * 2**time)
        return replace(plane, conditions=PlaneConditions(NOON + timedelta(hours=time)))

    results = [a_well(name, growing, sites=(1,), time=time) for time in (1, 2, 3) for name in names()]
    assert QualityBook().judge(results).notes == ()
