"""A well's page: what stands on it, and that nothing overlaps or is cut off."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes import CHANNELS
from hcs_daemon.publish.documents import DEMONSTRATION
from hcs_daemon.publish.lettering import line_height, width
from hcs_daemon.publish.page import SMALL, Bar, Block, Image, Item, Rect, Strip, Words
from hcs_daemon.publish.palette import GOOD, INK, WITHHELD
from hcs_daemon.publish.panels import ReferencePanels
from hcs_daemon.publish.schemas import ContentEntry, LackingEntry, QualityEntry, SitesEntry
from hcs_daemon.publish.studio import WellPicture
from hcs_daemon.publish.well_page import MIDDLE_PX, Page, lay_out
from hcs_daemon.records import COMPLETENESS_LIMIT, EFFICIENCY_LIMIT
from hcs_daemon.vocabulary import Used, WellStatus
from pictured import (
    CONTRAST,
    SHARES,
    attribution_of,
    explained_picture,
    explanation,
    model,
    plane_of,
    site_panels_of,
    site_result,
    verdict,
    well_result,
)


def everything(page: Page) -> list[Item]:
    inside = [found for item in page.items if isinstance(item, Image) for found in item.inside]
    return [*page.items, *inside]


def words_of(page: Page, role: str) -> str:
    return " ".join(
        line for item in everything(page) if isinstance(item, Words) and item.role == role for line in item.lines
    )


def all_words(page: Page) -> str:
    return " ".join(line for item in everything(page) if isinstance(item, Words) for line in item.lines)


def image(page: Page, source: str) -> Image:
    return next(item for item in page.items if isinstance(item, Image) and item.source == source)


def bars(page: Page) -> dict[str, Bar]:
    return {item.channel: item for item in page.items if isinstance(item, Bar)}


def overlapping(items: Iterable[Item]) -> list[tuple[Item, Item]]:
    return [(one, other) for one, other in combinations(items, 2) if one.rect.overlaps(other.rect)]


# ---- whatever the lengths

NAMES = st.text(min_size=1, max_size=120)
SHARE = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def any_picture(draw: st.DrawFn) -> WellPicture:
    channels = draw(st.lists(NAMES, min_size=1, max_size=16, unique=True))
    count = len(channels)
    label, against = draw(NAMES), draw(NAMES)
    numbers = draw(st.lists(st.integers(1, 5000), max_size=40))
    found = explanation(
        {channel: draw(SHARE) for channel in channels},
        {channel: abs(draw(SHARE)) for channel in channels} if draw(st.booleans()) else None,
        passed=draw(st.booleans()),
    ).model_copy(update={"target": label, "against": against})
    result = well_result(
        plate=draw(NAMES),
        acquisition=draw(NAMES),
        time=draw(st.sampled_from([1, 12, 123456])),
        channels=channels,
        classes=[label, "another"],
        status=draw(st.sampled_from(WellStatus)),
        content=draw(st.sampled_from([ContentEntry(compound=label, concentration_um=1e-7, role=against), None])),
        projection=draw(st.sampled_from(["best_focus", 12, None])),
        flatfield=draw(st.text(max_size=300)),
        sites=SitesEntry(
            expected=9,
            analysed=1,
            missing=numbers,
            rejected=numbers[:7],
            failed=numbers[:3],
            lacking=[
                LackingEntry(site=number, channel=channels[0], z=z, refused=z == 3)
                for number in numbers[:4]
                for z in range(draw(st.sampled_from([1, 60])))
            ],
        ),
        prediction=draw(st.sampled_from([verdict(label), None])),
        explanation=draw(st.sampled_from([found, None])),
        model=model(demonstration=draw(st.booleans())).model_copy(update={"name": draw(NAMES)}),
        warnings=draw(st.lists(st.text(max_size=400), max_size=40)),
        site_results=[site_result(site, (1.0, 2.0), label) for site in range(draw(st.integers(0, 3)))],
        inputs=[plane_of(3, channel) for channel in channels[:3]],
    )
    side = draw(st.sampled_from([(8, 8), (40, 3), (3, 40), (30, 40)]))
    um = draw(st.sampled_from([1.0, 0.01, 500.0, 0.0, float("nan"), float("inf")]))
    site = replace(site_panels_of(count), pixels=np.zeros((count, *side), np.uint16), um_per_px=um)
    reference = np.zeros((count, *draw(st.sampled_from([(5, 5), (60, 400), (700, 2)]))), np.uint16)
    control = replace(
        attribution_of(count, passed=draw(st.booleans())),
        reference=reference,
        reference_um_per_px=draw(st.sampled_from([1.0, 30.0, 0.0])),
        reference_name=draw(NAMES),
    )
    return WellPicture(
        result,
        tuple(draw(st.lists(st.text(max_size=300), max_size=40))),
        draw(st.sampled_from([site, None])),
        draw(st.sampled_from([control, None])),
        draw(st.sampled_from([dict.fromkeys(channels, (100.0, 9000.0)), {}])),
        draw(st.sampled_from([None, "its files are gone or were changed"])),
    )


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(any_picture())
def test_nothing_overlaps_leaves_the_page_or_is_cut_off(picture: WellPicture) -> None:
    page = lay_out(picture)
    paper = Rect(0, 0, page.width, page.height)
    assert overlapping(page.items) == []
    assert all(paper.holds(item.rect) for item in page.items)
    for item in page.items:
        if isinstance(item, Image):
            assert overlapping(item.inside) == []
            assert all(item.rect.holds(found.rect) for found in item.inside)
        if isinstance(item, Strip):
            columns = [*(item.band or ()), item.well, *(column for column, _ in item.sites)]
            assert all(item.rect.x <= column < item.rect.right for column in columns)
        if isinstance(item, Bar):
            columns = [item.zero, item.end, *(item.whisker or ())]
            assert all(item.rect.x <= column < item.rect.right for column in columns)
    for item in everything(page):
        if isinstance(item, Words):
            assert item.size_px >= SMALL
            assert all(width(line, item.size_px, bold=item.bold) <= item.rect.width for line in item.lines)
            assert len(item.lines) * line_height(item.size_px) + 2 * item.pad <= item.rect.height


# ---- channels


def test_the_composite_is_of_the_channels_with_the_largest_shares_of_either_sign() -> None:
    page = lay_out(explained_picture())
    assert [CHANNELS[index] for index in page.composite] == ["Mito", "ER", "DNA"]
    assert "Mito magenta, ER green, DNA blue (the largest shares)" in words_of(page, "composite caption")


def test_without_an_explanation_the_composite_is_of_the_first_three() -> None:
    page = lay_out(replace(explained_picture(explanation=None), attribution=None))
    assert page.composite == (0, 1, 2)
    assert "DNA blue, ER green, RNA yellow (the first three channels)" in words_of(page, "composite caption")


def test_shares_of_a_site_that_is_not_shown_do_not_choose_the_composite() -> None:
    picture = replace(explained_picture(), panels=replace(site_panels_of(), site=4))
    page = lay_out(picture)
    assert page.composite == (0, 1, 2)
    assert not page.outlined


def test_every_channel_has_its_name_and_the_raw_range_of_its_files() -> None:
    inputs = [plane_of(3, channel, lowest=100 + number) for number, channel in enumerate(CHANNELS)]
    others = [plane_of(3, "DNA", Used.OTHER_Z, lowest=1), plane_of(4, "DNA", lowest=2)]
    page = lay_out(explained_picture(inputs=[*inputs, *others]))
    for number, channel in enumerate(CHANNELS):
        assert words_of(page, f"name {channel}") == channel
        assert words_of(page, f"range {channel}") == f"{100 + number}\N{EN DASH}28340"


def test_a_range_that_is_only_the_panels_says_so() -> None:
    assert words_of(lay_out(explained_picture(inputs=[])), "range ER") == "≈ 2000\N{EN DASH}2000"


def test_a_contrast_that_is_not_the_plates_is_said() -> None:
    known = explained_picture()
    assert "the same on the whole plate" in words_of(lay_out(known), "grid caption")
    less = {channel: limits for channel, limits in CONTRAST.items() if channel != "AGP"}
    assert "this site's own (AGP)" in words_of(lay_out(replace(known, contrast=less)), "grid caption")


# ---- the scale


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    page = lay_out(explained_picture())
    assert page.um_per_px is not None
    assert page.um_per_px == pytest.approx(1.0)  # 140 pixels of 4 µm on 560 pixels of paper
    for source in ("composite", "reference"):
        inside = image(page, source).inside
        bar = next(item for item in inside if isinstance(item, Block))
        said = next(item for item in inside if isinstance(item, Words) and item.role == "scale")
        number, unit = said.lines[0].split()
        assert unit == "µm"
        assert bar.rect.width * page.um_per_px == pytest.approx(float(number), abs=0.5)


@pytest.mark.parametrize("um", [0.0, float("nan"), float("inf")])
def test_there_is_no_scale_bar_where_the_pixel_size_is_not_known(um: float) -> None:
    picture = explained_picture()
    page = lay_out(replace(picture, panels=replace(site_panels_of(), um_per_px=um)))
    assert "µm" not in all_words(page)
    assert "scale not known" in words_of(page, "reference caption")


def test_the_control_has_the_scale_of_the_site() -> None:
    page = lay_out(explained_picture())
    assert image(page, "reference").rect.width == 240  # 60 pixels of 4 µm at 1 µm a pixel of the page
    assert "control, well B11" in words_of(page, "reference caption")


def test_the_reference_is_said_to_be_of_the_plate_or_of_the_package() -> None:
    picture = explained_picture()
    caption = words_of(lay_out(picture), "reference caption")
    assert caption.startswith("No control of this plate is at hand; from the model package: control, well B11 (")
    control = ReferencePanels(site_panels_of().pixels, 4.0, "well C04 of this plate, a control by the layout")
    caption = words_of(lay_out(replace(picture, control=control)), "reference caption")
    assert caption.startswith(
        "Nearest control: well C04 of this plate, a control by the layout (its centre, same colours"
    )


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (
            "mean over 3 control sites: well A02 of simulated plate T1; well A08 of simulated plate T1; well B04 of T2",
            "control, wells A02, A08 of simulated plate T1; well B04 of T2, from the model package.",
        ),
        (
            "mean over 1 er stress site: well A11 of plate P1, as er stress",
            "er stress, well A11 of plate P1, from the model package.",
        ),
        ("mean over 2 control sites: site 1 in r.npz; x", "control, site 1 in r.npz; x, from the model package."),
        ("one control site", "one control site"),
    ],
)
def test_what_the_explanation_compares_with_is_named(reference: str, said: str) -> None:
    found = explanation().model_copy(update={"reference": reference})
    assert words_of(lay_out(explained_picture(explanation=found)), "compared with") == f"Compared with: {said}"


def test_of_a_control_with_a_larger_field_the_centre_is_shown() -> None:
    control = replace(attribution_of(), reference_um_per_px=40.0)
    page = lay_out(replace(explained_picture(), attribution=control))
    assert image(page, "reference").rect.width == MIDDLE_PX
    assert "its centre" in words_of(page, "reference caption")


# ---- the explanation


def test_the_outlines_are_defined_beside_them() -> None:
    page = lay_out(explained_picture())
    assert page.outlined
    caption = words_of(page, "outline caption")
    assert "“mito_fragmented” against “control”" in caption
    assert "30 % (thick) and 60 % (thin) of the positive attribution" in caption
    assert "islands smaller than a smoothed point are left out" in caption


def test_a_failed_check_is_named_where_the_outlines_would_be() -> None:
    page = lay_out(explained_picture(passed=False))
    assert not page.outlined
    assert words_of(page, "failed check") == "No outlines, failed check: completeness"
    checks = words_of(page, "checks")
    assert "Checks FAILED" in checks
    assert "\N{BALLOT X} completeness error 12 % (at most 5 %)" in checks
    assert "\N{CHECK MARK} deletion 0.21 below random 0.48" in checks


def test_an_attribution_that_speaks_against_the_verdict_everywhere_is_not_outlined() -> None:
    page = lay_out(explained_picture(positive=False))
    assert not page.outlined
    assert "nothing in this site speaks for the verdict" in words_of(page, "outline caption")


def test_the_limits_of_the_checks_are_those_of_the_results_format() -> None:
    assert (COMPLETENESS_LIMIT, EFFICIENCY_LIMIT) == (0.05, 0.001)


def test_bars_begin_at_zero_and_are_as_long_as_the_shares() -> None:
    found = bars(lay_out(explained_picture()))
    assert list(found) == list(SHARES)
    assert len({bar.zero for bar in found.values()}) == 1
    per_logit = (found["Mito"].end - found["Mito"].zero) / SHARES["Mito"]
    for channel, share in SHARES.items():
        assert found[channel].end - found[channel].zero == pytest.approx(share * per_logit, abs=1.5)
        assert found[channel].whisker is None


def test_whiskers_span_the_spread_over_the_references() -> None:
    spread = dict.fromkeys(CHANNELS, 0.2)
    page = lay_out(explained_picture(explanation=explanation(spread=spread)))
    mito = bars(page)["Mito"]
    assert mito.whisker is not None
    assert mito.whisker[1] - mito.end == pytest.approx(mito.end - mito.whisker[0], abs=1)
    assert (mito.whisker[1] - mito.whisker[0]) / (mito.end - mito.zero) == pytest.approx(0.4 / 2.4, abs=0.02)
    assert words_of(page, "value Mito") == "+2.40 ± 0.20"
    assert words_of(page, "value ER") == "\N{MINUS SIGN}0.90 ± 0.20"


def test_of_sampled_shares_the_whiskers_are_the_standard_error() -> None:
    found = explanation()
    (entry,) = found.sites
    sampled = entry.model_copy(update={"channel_error": dict.fromkeys(CHANNELS, 0.3)})
    page = lay_out(explained_picture(explanation=found.model_copy(update={"sites": [sampled]})))
    assert words_of(page, "value Mito") == "+2.40 ± 0.30"
    assert bars(page)["Mito"].whisker is not None
    assert "whiskers: standard error of the sampling" in words_of(page, "shares caption")


def test_an_explanation_whose_result_names_a_failed_check_is_not_outlined() -> None:
    picture = replace(explained_picture(passed=False), attribution=attribution_of(passed=True))
    page = lay_out(picture)
    assert not page.outlined
    assert "completeness" in words_of(page, "failed check")


def test_every_failed_check_is_named_on_the_picture() -> None:
    found = explanation(passed=False)
    (entry,) = found.sites
    names = ["completeness", "efficiency", "change", "deletion", "insertion", "randomisation"]
    checks = entry.checks.model_copy(update={"failed": names, "insertion_auc": 0.3})
    page = lay_out(
        explained_picture(
            explanation=found.model_copy(update={"sites": [entry.model_copy(update={"checks": checks})]}),
            passed=False,
        )
    )
    for place in ("failed check", "checks"):
        said = words_of(page, place)
        for words in ("completeness", "efficiency", "explain no change", "deletion", "insertion", "random weights"):
            assert words in said


def test_checks_of_a_version_that_named_none_are_not_marked() -> None:
    found = explanation(passed=False)
    (entry,) = found.sites
    checks = entry.checks.model_copy(update={"failed": []})
    unnamed = found.model_copy(update={"sites": [entry.model_copy(update={"checks": checks})]})
    page = lay_out(explained_picture(explanation=unnamed, passed=False))
    assert "the checks failed" in words_of(page, "failed check")
    assert "\N{BALLOT X}" not in all_words(page)
    assert "\N{CHECK MARK}" not in all_words(page)


def test_shares_of_a_failed_explanation_are_hollow_and_choose_no_channels() -> None:
    page = lay_out(explained_picture(passed=False))
    assert words_of(page, "shares heading") == "Channel shares: checks failed"
    assert not any(bar.holds for bar in bars(page).values())
    greyed = [item for item in page.items if isinstance(item, Words) and item.role == "value Mito"]
    assert [(item.lines, item.colour) for item in greyed] == [(("+2.40",), WITHHELD)]
    assert page.composite == (0, 1, 2)
    assert "the first three channels" in words_of(page, "composite caption")
    held = lay_out(explained_picture())
    assert words_of(held, "shares heading") == "Channel shares"
    assert all(bar.holds for bar in bars(held).values())


def test_an_explanation_of_a_well_unlike_anything_seen_is_said_to_be_no_finding() -> None:
    unlike = verdict().model_copy(update={"label": "unlike", "nearest": "mito_fragmented", "hit": False})
    said = "What the network leans to, mito_fragmented, and no finding about these cells."
    for prediction, is_unlike in ((unlike, True), (verdict(), False)):
        page = lay_out(explained_picture(prediction=prediction))
        for role in ("outline caption", "shares caption"):
            assert words_of(page, role).startswith(said) == is_unlike
        heading = next(item for item in page.items if isinstance(item, Words) and item.role == "checks")
        assert heading.lines == ("Checks passed",)
        assert heading.colour == (INK if is_unlike else GOOD)


def test_arithmetic_is_no_check_of_an_explanation_that_holds() -> None:
    checks = words_of(lay_out(explained_picture()), "checks")
    assert "completeness error" in checks
    assert "efficiency" not in checks


def test_how_much_of_the_map_lies_on_cells_stands_beside_how_much_they_cover() -> None:
    found = explanation()
    (entry,) = found.sites
    checks = entry.checks.model_copy(update={"on_cells": 0.7, "cells_area": 0.6})
    measured = found.model_copy(update={"sites": [entry.model_copy(update={"checks": checks})]})
    page = lay_out(explained_picture(explanation=measured))
    assert words_of(page, "on cells") == "70 % of the map on cells (60 % of the field)"
    assert words_of(lay_out(explained_picture()), "on cells") == ""


def test_a_long_name_of_a_channel_takes_two_lines() -> None:
    name = "Lysosomal membrane"
    channels = [*CHANNELS[:-1], name]
    shares = dict(zip(channels, SHARES.values(), strict=True))
    page = lay_out(explained_picture(channels=channels, explanation=explanation(shares)))
    share = next(item for item in page.items if isinstance(item, Words) and item.role == f"share {name}")
    assert share.lines == ("Lysosomal", "membrane")
    assert bars(page)[name].rect.height == share.rect.height


# ---- the verdict


def strip_of(page: Page) -> Strip:
    return next(item for item in page.items if isinstance(item, Strip))


def test_the_interval_stands_beside_the_verdict_where_there_is_room() -> None:
    certain = verdict().model_copy(update={"interval": (0.81, 0.97)})
    words = "95 % interval over the sites 0.81\N{EN DASH}0.97"
    page = lay_out(explained_picture(prediction=certain))
    found = {item.role: item for item in page.items if isinstance(item, Words)}
    assert words_of(page, "interval") == words
    assert found["interval"].rect.y < found["verdict"].rect.bottom
    long = verdict("a label of very many letters " * 3).model_copy(update={"interval": (0.81, 0.97)})
    page = lay_out(explained_picture(prediction=long))
    found = {item.role: item for item in page.items if isinstance(item, Words)}
    assert words_of(page, "interval") == words
    assert found["interval"].rect.y >= found["verdict"].rect.bottom


def test_the_sites_stand_on_an_axis_of_probability_and_those_that_disagree_are_named() -> None:
    sites = [
        site_result(1, (0.0, 3.0, 0.0)),
        site_result(2, (2.0, 2.0, -50.0)),
        site_result(7, (9.0, 0.0, 0.0), "control"),
    ]
    certain = verdict().model_copy(update={"interval": (0.25, 1.0), "disagreeing_sites": [7]})
    page = lay_out(explained_picture(site_results=sites, prediction=certain))
    strip = strip_of(page)
    assert [agrees for _, agrees in strip.sites] == [True, True, False]
    columns = [column for column, _ in strip.sites]
    assert strip.band is not None
    low, high = strip.band
    per_share = (high - low) / 0.75
    zero = high - per_share
    assert [(column - zero) / per_share for column in columns] == pytest.approx([0.909, 0.5, 0.0], abs=0.01)
    assert (strip.well - zero) / per_share == pytest.approx(0.93, abs=0.01)
    assert "another class first (site 7 control)" in words_of(page, "sites caption")


def test_one_site_and_a_well_without_verdict_have_no_axis() -> None:
    for picture in (
        explained_picture(),
        explained_picture(prediction=None, site_results=[site_result(1), site_result(2)]),
    ):
        assert not [item for item in lay_out(picture).items if isinstance(item, Strip)]


def test_one_site_is_said_to_be_one() -> None:
    page = lay_out(explained_picture())
    assert words_of(page, "verdict") == "mito_fragmented 0.93".replace(" ", "  ")
    assert words_of(page, "support") == "hit · 1 site · next control 0.07"


def test_several_sites_give_the_range_of_their_own_probabilities() -> None:
    sites = [site_result(1, (0.0, 3.0, 0.0)), site_result(2, (2.0, 2.0, -50.0), "control")]
    support = words_of(lay_out(explained_picture(site_results=sites)), "support")
    assert "1 of 2 sites agree" in support
    assert "own probabilities 0.50\N{EN DASH}0.91" in support  # e³ / (e³ + 2)


def test_a_demonstration_is_said_once_and_large() -> None:
    page = lay_out(explained_picture(model=model(demonstration=True), warnings=[DEMONSTRATION]))
    assert words_of(page, "demonstration") == "DEMONSTRATION MODEL: its verdicts on real cells mean nothing"
    assert "Warnings" not in all_words(page)
    assert "DEMONSTRATION" not in all_words(lay_out(explained_picture()))


def test_the_time_point_is_named_from_the_second_on() -> None:
    assert words_of(lay_out(explained_picture()), "title") == "P1 · B03"
    assert words_of(lay_out(explained_picture(time=2)), "title") == "P1 · B03 · time point 2"


@pytest.mark.parametrize(
    ("micromolar", "role", "said"),
    [
        (0.033, "treatment", "Taxol 33 nM · treatment"),
        (10.0, "", "Taxol 10 µM"),
        (2500.0, "reference", "Taxol 2.5 mM · reference"),
        (1e-5, "", "Taxol 10 pM"),
        (0.0, "control", "Taxol 0 µM · control"),
        (None, "control", "Taxol · control"),
    ],
)
def test_what_is_in_the_well_stands_below_its_name(micromolar: float | None, role: str, said: str) -> None:
    content = ContentEntry(compound="Taxol", concentration_um=micromolar, role=role)
    page = lay_out(explained_picture(content=content))
    assert words_of(page, "content") == said
    places = {item.role: item.rect.y for item in page.items if isinstance(item, Words)}
    assert places["title"] < places["content"] < places["verdict"]


def test_without_a_layout_nothing_is_said_of_it() -> None:
    assert words_of(lay_out(explained_picture()), "content") == ""


def test_of_a_stack_the_projection_is_named_and_so_is_the_flat_field() -> None:
    stack = [plane_of(3, channel).model_copy(update={"z": z}) for channel in CHANNELS for z in (1, 2)]
    page = lay_out(explained_picture(inputs=stack, projection="best_focus", flatfield="Harmony's profiles"))
    said = words_of(page, "provenance")
    assert said.startswith("projection best focus of the z stack · flat field: Harmony's profiles · model tiny")
    page = lay_out(explained_picture(inputs=stack, projection=2))
    assert words_of(page, "provenance").startswith("step 2 of the z stack · model tiny")
    assert words_of(lay_out(explained_picture(projection="max")), "provenance").startswith("model tiny")


def test_the_planes_that_a_site_lacks_are_named_with_their_steps() -> None:
    lacking = [
        LackingEntry(site=4, channel="ER", z=2, refused=True),
        LackingEntry(site=4, channel="ER", z=3, refused=False),
        LackingEntry(site=5, channel="Mito", z=1, refused=False),
    ]
    sites = SitesEntry(expected=3, analysed=1, missing=[4, 5], rejected=[], failed=[], lacking=lacking)
    inputs = [plane_of(4, "DNA"), plane_of(4, "ER"), plane_of(5, "DNA")]
    said = all_words(lay_out(explained_picture(sites=sites, status=WellStatus.PARTIAL, inputs=inputs)))
    assert "site 4: accepted DNA; not there ER z 2 (refused), z 3" in said
    assert "site 5: accepted DNA; not there Mito" in said


def test_a_plate_name_of_two_lines_is_not_cut() -> None:
    name = "BR00143976-screening-campaign-2026-phase-2-batch-17-repeat-of-failed-plate-see-journal"
    title = words_of(lay_out(explained_picture(plate=name)), "title")
    assert title.replace(" ", "") == f"{name}·B03"


def test_a_long_plate_name_is_cut_before_the_well() -> None:
    title = words_of(lay_out(explained_picture(plate="plate " * 60)), "title")
    assert title.endswith("… · B03")


def test_the_model_the_revision_and_the_latency_are_on_the_page() -> None:
    said = words_of(lay_out(explained_picture()), "provenance")
    for words in ("model tiny 1.0", "4f2a9c01 ", "cpu", "revision 2 (replaces 1)", "latency 0.8 s", "acquisition a1"):
        assert words in said


# ---- what is missing


def rejected_well() -> WellPicture:
    result = well_result(
        status=WellStatus.REJECTED,
        prediction=None,
        site_results=[],
        sites=SitesEntry(expected=4, analysed=0, missing=[2], rejected=[1, 3, 4], failed=[]),
        inputs=[plane_of(1, "DNA", Used.INCOMPLETE_SITE), plane_of(1, "ER", Used.SUPERSEDED)],
    )
    return WellPicture(result, ("site 1 RNA: bit_depth: 8-bit values; export as 16-bit TIFF",))


def test_a_rejected_well_says_what_is_missing_and_why() -> None:
    page = lay_out(rejected_well())
    assert words_of(page, "verdict") == "no verdict"
    assert words_of(page, "status") == (
        "rejected: 0 of 4 sites analysed; planes still missing: site 2; planes rejected: sites 1, 3\N{EN DASH}4"
    )
    assert "no site could be analysed" in words_of(page, "no picture")
    assert "site 1: accepted DNA; not there ER, RNA, AGP, Mito" in words_of(page, "Incomplete sites lines")
    assert "bit_depth: 8-bit values; export as 16-bit TIFF" in words_of(page, "Rejected files lines")


def test_why_there_are_no_pixels_is_said_and_the_shares_stay() -> None:
    picture = replace(explained_picture(), panels=None, problem="its files are gone or were changed")
    page = lay_out(picture)
    assert words_of(page, "no picture") == "No picture: its files are gone or were changed"
    assert set(bars(page)) == set(CHANNELS)


def test_a_saturated_channel_is_said_in_words() -> None:
    quality = QualityEntry(focus={}, saturated_fraction={"Mito": 0.012}, flags=["saturated:Mito"])
    page = lay_out(explained_picture(quality=quality))
    assert "Mito: 1.2 % of the pixels at full scale" in words_of(page, "Warnings lines")


@pytest.mark.parametrize(("flag", "said"), [("out_of_focus:DNA", "DNA: out of focus"), ("empty", "empty")])
def test_a_flag_is_said_in_words(flag: str, said: str) -> None:
    page = lay_out(explained_picture(quality=QualityEntry(focus={}, saturated_fraction={}, flags=[flag])))
    assert words_of(page, "Warnings lines") == said


def test_a_problem_that_is_a_warning_already_is_not_said_twice() -> None:
    picture = explained_picture(warnings=["site 3 could not be explained: too large"])
    page = lay_out(replace(picture, problem="site 3 could not be explained: too large"))
    assert words_of(page, "Warnings") == "Warnings (1)"
    page = lay_out(replace(picture, problem="the index lies"))
    assert words_of(page, "Warnings") == "Warnings (2)"


def test_fifty_warnings_are_counted_where_they_are_not_told() -> None:
    page = lay_out(explained_picture(warnings=[f"warning {number}" for number in range(50)]))
    assert words_of(page, "Warnings") == "Warnings (50)"
    assert words_of(page, "Warnings lines").endswith("and 11 more")


def test_a_long_warning_is_wrapped_and_not_cut() -> None:
    warning = " ".join(f"word{number}" for number in range(120))
    page = lay_out(explained_picture(warnings=[warning]))
    assert words_of(page, "Warnings lines") == warning


def test_without_control_and_shares_the_channels_take_their_room() -> None:
    explained = lay_out(explained_picture())
    alone = lay_out(replace(explained_picture(explanation=None), attribution=None))
    assert image(alone, "grey").rect.width > image(explained, "grey").rect.width
