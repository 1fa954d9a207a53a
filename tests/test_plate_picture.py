"""A plate's picture: the true shape, verdicts by colour, and marks for what is not there."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from hcs_daemon.plate import PLATE_SHAPES, WellPosition, plate_wells
from hcs_daemon.publish.palette import BAD, CONTROL_GREY, DEMONSTRATION, INK, Colour
from hcs_daemon.publish.plate_picture import (
    LABEL_PX,
    MARGIN,
    VERDICT_PX,
    class_colours,
    doubts,
    draw_plate,
    hits_by_compound,
    latest,
    legend_entries,
    pale,
    plate_shape,
)
from hcs_daemon.publish.schemas import ContentEntry, ExpectedEntry, LayoutEntry, WellResult
from hcs_daemon.vocabulary import WellStatus
from pictured import decoded, explanation, model, plate_file, verdict, well_result

CONTROL = verdict("control", 0.95, hit=False)


def plate_of(wells: int, **changed: Any) -> list[WellResult]:
    """A plate of control wells."""
    base = well_result(prediction=CONTROL, **changed)
    return [base.model_copy(update={"well": position.name}) for position in plate_wells(wells)]


def with_well(results: list[WellResult], name: str, **changed: Any) -> list[WellResult]:
    return [found.model_copy(update=changed) if found.well == name else found for found in results]


def pixels_of(results: list[WellResult], **changed: Any) -> NDArray[np.uint8]:
    return decoded(draw_plate(plate_file(**changed), results))


def patches(pixels: NDArray[np.uint8], colour: Colour) -> list[tuple[int, int, int]]:
    """(area, row, column) of every connected patch of a colour, the largest first; row, column: of its centre."""
    found, count = ndimage.label((pixels == colour).all(axis=2))
    return sorted(
        (
            (int((found == number).sum()), *(round(place) for place in ndimage.center_of_mass(found == number)))
            for number in range(1, count + 1)
        ),
        reverse=True,
    )


# ---- what is shown


@pytest.mark.parametrize("wells", PLATE_SHAPES)
def test_the_shape_is_the_smallest_that_holds_the_wells(wells: int) -> None:
    assert plate_shape(plate_wells(wells)) == PLATE_SHAPES[wells]
    assert plate_shape([plate_wells(wells)[-1]]) == PLATE_SHAPES[wells]


def test_one_well_beyond_a_plate_makes_it_the_next_larger() -> None:
    assert plate_shape([WellPosition(1, 1), WellPosition(9, 1)]) == PLATE_SHAPES[384]
    assert plate_shape([WellPosition(32, 48)]) == (32, 48)


def expected(rows: int | None, columns: int | None) -> ExpectedEntry:
    values = dict.fromkeys(("wells", "planes", "sites", "time_points", "z_steps"))
    return ExpectedEntry(source="metadata", rows=rows, columns=columns, **values)


def test_the_shape_is_the_expected_one_where_it_has_the_wells() -> None:
    wells = [WellPosition(2, 2)]
    assert plate_shape(wells, expected(16, 24)) == (16, 24)
    assert plate_shape(wells, expected(1, 24)) == PLATE_SHAPES[6]
    assert plate_shape(wells, expected(None, None)) == PLATE_SHAPES[6]
    assert plate_shape([], expected(999, 999)) == (32, 48)


def test_a_well_is_shown_at_its_latest_time_point() -> None:
    results = [well_result(well=name, time=time) for name, time in (("A02", 3), ("A02", 1), ("A01", 2), ("A02", 2))]
    assert [(found.well, found.time) for found in latest(results).values()] == [("A01", 2), ("A02", 3)]


def test_twenty_classes_have_twenty_colours() -> None:
    names = ["control", *(f"class {number}" for number in range(19))]
    colours = class_colours(names, "control")
    assert colours["control"] == CONTROL_GREY
    assert len(set(colours.values())) == 20


def hit(well: str, compound: str, dose: float | None, label: str = "mito_fragmented") -> WellResult:
    content = ContentEntry(compound=compound, concentration_um=dose, role="treatment")
    return well_result(well=well, content=content, prediction=verdict(label))


def test_hits_are_named_by_compound_those_of_most_wells_first() -> None:
    results = [
        hit("B01", "Taxol", 0.01),
        hit("B02", "Nocodazole", None),
        hit("B03", "Nocodazole", 5.0),
        hit("B04", "Nocodazole", 0.3),
        *(hit(f"C{column:02d}", "Rotenone", 1.0, "er_stress") for column in range(1, 9)),
        well_result(well="D01"),  # a hit of which nothing is known
        hit("D02", "DMSO", None).model_copy(update={"prediction": CONTROL}),
    ]
    assert hits_by_compound(results) == [
        "Rotenone 1 µM: er_stress (C01, C02, C03, C04, C05, C06 and 2 more)",
        "Nocodazole 300 nM to 5 µM: mito_fragmented (B02, B03, B04)",
        "Taxol 10 nM: mito_fragmented (B01)",
    ]


# ---- by its pixels


@pytest.mark.parametrize("name", ["A01", "B03", "H12"])
def test_a_well_stands_where_it_is_on_the_plate(name: str) -> None:
    results = with_well(plate_of(96), name, prediction=verdict())
    position = WellPosition.parse(name)
    colour = class_colours(["mito_fragmented"], "control")["mito_fragmented"]
    _, row, column = patches(pixels_of(results), colour)[0]
    cell = (VERDICT_PX - LABEL_PX) / 12
    assert column == pytest.approx(MARGIN + LABEL_PX + (position.column - 0.5) * cell, abs=2)
    first = patches(pixels_of(with_well(plate_of(96), "A01", prediction=verdict())), colour)[0][1]
    assert row - first == pytest.approx((position.row - 1) * cell, abs=2)


def test_every_control_well_is_grey() -> None:
    assert len([area for area, *_ in patches(pixels_of(plate_of(24)), CONTROL_GREY) if area > 5000]) == 24


def test_partial_rejected_and_missing_wells_look_different() -> None:
    whole = plate_of(24)
    partial = with_well(whole, "B03", status=WellStatus.PARTIAL)
    rejected = with_well(whole, "B03", status=WellStatus.REJECTED, prediction=None)
    missing = [found for found in whole if found.well != "B03"]
    pictures = [pixels_of(found)[:780, :980] for found in (whole, partial, rejected, missing)]
    areas = [len([area for area, *_ in patches(found, CONTROL_GREY) if area > 15000]) for found in pictures]
    assert areas == [24, 23, 23, 23]  # a stroke parts the partial well in two
    reds = [int((found[:, MARGIN + LABEL_PX :] == BAD).all(axis=2).sum()) for found in pictures]
    assert reds[2] > reds[0] + 100
    assert reds[1] == reds[3] == reds[0]
    assert len({found.tobytes() for found in pictures}) == 4


def test_a_well_unlike_anything_seen_has_a_diamond_and_no_class_s_colour() -> None:
    whole = plate_of(24)
    unlike = with_well(whole, "B03", prediction=verdict().model_copy(update={"label": "unlike", "hit": False}))
    named = with_well(whole, "B03", prediction=verdict())
    pictures = [pixels_of(found)[:780, :980] for found in (unlike, named)]
    colour = class_colours(well_result().classes, "control")["mito_fragmented"]
    coloured = [len([area for area, *_ in patches(found, colour) if area > 200]) for found in pictures]
    assert coloured[0] == 0 < coloured[1], "neither in the map nor in the legend"
    assert len([area for area, *_ in patches(pictures[0], CONTROL_GREY) if area > 5000]) == 23
    empty = pixels_of(with_well(whole, "B03", prediction=None))[:500, MARGIN + LABEL_PX : 980]
    inked = [int((found == INK).all(axis=2).sum()) for found in (pictures[0][:500, MARGIN + LABEL_PX :], empty)]
    assert inked[0] > inked[1], "the diamond"


def test_only_hits_have_their_class_s_colour_and_the_whole_of_their_well() -> None:
    whole = plate_of(24)
    full = class_colours(well_result().classes, "control")["mito_fragmented"]
    sizes = {}
    for is_hit, colour in ((True, full), (False, pale(full))):
        pixels = pixels_of(with_well(whole, "B03", prediction=verdict(probability=0.6, hit=is_hit)))
        sizes[is_hit] = patches(pixels[:780, :980], colour)[0]
        assert is_hit or not [area for area, *_ in patches(pixels[:780, :980], full) if area > 2000]
    assert sizes[False][0] < 0.5 * sizes[True][0]  # seen without colour too
    assert sizes[False][1:] == sizes[True][1:]


def test_a_well_that_the_layout_names_a_control_has_a_ring_whatever_its_verdict() -> None:
    for found in (CONTROL, verdict(), None):
        plain = with_well(plate_of(24), "B03", prediction=found)
        named = with_well(plain, "B03", content=ContentEntry(compound="DMSO", concentration_um=None, role="Control"))
        one, other = (pixels_of(results)[:700] for results in (plain, named))
        rows, columns = np.nonzero((one != other).any(axis=2))
        assert rows.size
        assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=2)
        assert np.ptp(rows) < 40


def legend_of(results: list[WellResult], least: float | None = 0.9) -> list[str]:
    colours = class_colours(["control", "mito_fragmented"], "control")
    return [words for words, _ in legend_entries(latest(results), colours, "control", (4, 6), least)]


def test_the_legend_counts_hits_what_is_none_and_the_layout_s_controls() -> None:
    results = plate_of(24, content=ContentEntry(compound="DMSO", concentration_um=None, role="control"))
    results = with_well(results, "A01", prediction=verdict())
    results = with_well(results, "A02", prediction=verdict(probability=0.51, hit=False), content=None)
    said = legend_of(results)
    assert said[:5] == [
        "22 control",
        "2 mito_fragmented",
        "1 hit (probability at least 0.90)",
        "1 no hit (small and pale)",
        "23 control wells by the layout (a ring)",
    ]
    assert "1 hit" in legend_of(results, None)


def test_failed_explanations_and_sites_that_disagree_are_counted_and_named() -> None:
    failed = [well_result(well=f"A{column:02d}", explanation=explanation(passed=False)) for column in range(1, 9)]
    torn = well_result(well="B02", prediction=verdict().model_copy(update={"disagreeing_sites": [2, 4]}))
    assert doubts([*failed, torn, well_result(explanation=explanation())]) == [
        "8 explanations failed their checks: A01, A02, A03, A04, A05, A06 and 2 more",
        "1 well with sites that disagree: B02",
    ]
    assert doubts([failed[0]]) == ["1 explanation failed its checks: A01"]
    assert doubts(plate_of(6)) == []
    held = [found.model_copy(update={"explanation": None}) for found in failed]
    assert (pixels_of(failed)[700:] != 255).sum() > (pixels_of(held)[700:] != 255).sum()


def test_hits_of_known_compounds_are_listed_below_the_map() -> None:
    without = pixels_of([well_result()])
    listed = pixels_of([hit("B03", "Taxol", 1.0)])
    assert (without[:900] == listed[:900]).all()
    assert (listed[900:] != 255).sum() > (without[900:] != 255).sum()


def test_what_keeps_a_plate_from_its_results_is_said_in_red() -> None:
    plain = (pixels_of(plate_of(6))[:200] == BAD).all(axis=2).sum()
    refused = LayoutEntry(source="layout.csv", sha256=None, problem="it is not there")
    for changed in ({"problem": "no pixel size is known"}, {"layout": refused}):
        assert (pixels_of(plate_of(6), **changed)[:200] == BAD).all(axis=2).sum() > plain + 100


def test_a_plate_of_several_time_points_says_which_one_is_shown() -> None:
    first = pixels_of(plate_of(6))
    last = pixels_of([*plate_of(6), *plate_of(6, time=2)])
    assert last.shape[0] > first.shape[0]  # a line more


def test_a_demonstration_is_banded() -> None:
    assert patches(pixels_of(plate_of(6), model=model(demonstration=True)), DEMONSTRATION)[0][0] > 20000
    assert patches(pixels_of(plate_of(6)), DEMONSTRATION) == []


@pytest.mark.parametrize("wells", PLATE_SHAPES)
def test_nothing_reaches_the_border_whatever_the_names(wells: int) -> None:
    results = [
        found.model_copy(
            update={
                "prediction": verdict(f"class {number % 20} " + "of a long name " * 6),
                "time": 3,
                "content": ContentEntry(compound=f"{number % 30}" + "x" * 200, concentration_um=1.0, role=""),
            }
        )
        for number, found in enumerate(plate_of(wells))
    ]
    refused = LayoutEntry(source="layout.csv", sha256=None, problem="wells " * 300)
    pixels = pixels_of(
        results, plate="P" * 300, acquisition="a " * 300, instrument="i" * 200, problem="why " * 300, layout=refused
    )
    assert pixels.shape[1] == 1600
    for edge in (pixels[:16], pixels[-12:], pixels[:, :32], pixels[:, -32:]):
        assert (edge == 255).all()


def test_a_dollar_in_a_name_is_a_dollar() -> None:
    results = [well_result(prediction=verdict(r"$\frac{1}{2$"))]
    assert pixels_of(results, plate="$x^2$").shape != pixels_of([], plate="$x$").shape


def test_a_plate_without_wells_says_so() -> None:
    assert (pixels_of([]) != 255).any()


def test_wells_without_a_focus_can_be_drawn() -> None:
    base = plate_of(6)[0]
    bare = base.quality.model_copy(update={"focus": {}})
    assert pixels_of([base.model_copy(update={"quality": bare, "channels": []})]).size
    assert pixels_of([base.model_copy(update={"quality": bare})]).size


def test_equal_input_in_any_order_gives_equal_bytes() -> None:
    results = plate_of(24)
    assert draw_plate(plate_file(), results) == draw_plate(plate_file(), results[::-1])


def test_a_class_has_its_colour_whatever_else_is_on_the_plate() -> None:
    classes = ["control", "first", "second"]
    colour = class_colours(classes, "control")["second"]
    alone = with_well(plate_of(96, classes=classes), "B03", prediction=verdict("second", 0.95))
    together = with_well(alone, "C04", prediction=verdict("first", 0.95))
    assert patches(pixels_of(alone), colour)[0] == patches(pixels_of(together), colour)[0]
