"""A well's picture, by its pixels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fakes import CHANNELS
from hcs_daemon.publish.page import Bar, Block, Image, Rect, Strip, Words
from hcs_daemon.publish.palette import BAD, CONTROL_GREY, DEMONSTRATION, INK, WITHHELD, channel_colours
from hcs_daemon.publish.pictures import blend, draw_well, mass_levels, outline, stretch, without_specks
from hcs_daemon.publish.studio import WellPicture
from hcs_daemon.publish.well_page import Page, lay_out
from hcs_daemon.vocabulary import WellStatus
from pictured import (
    CONTRAST,
    attribution_of,
    decoded,
    explained_picture,
    model,
    site_panels_of,
    site_result,
    verdict,
    well_result,
)

Rgb = NDArray[np.uint8]
COLOURS = dict(zip(CHANNELS, (colour for colour, _ in channel_colours(CHANNELS)), strict=True))


def cut(pixels: Rgb, rect: Rect) -> Rgb:
    return pixels[rect.y : rect.bottom, rect.x : rect.right]


def place(page: Page, source: str, channel: int = 0) -> Rect:
    return next(
        item.rect
        for item in page.items
        if isinstance(item, Image) and item.source == source and item.channel == channel
    )


def middle(pixels: Rgb, rect: Rect) -> list[int]:
    part = cut(pixels, rect)
    return [int(value) for value in part[part.shape[0] // 2, part.shape[1] // 2]]


def composite(picture: WellPicture) -> Rgb:
    return cut(decoded(draw_well(picture)), place(lay_out(picture), "composite"))


# ---- the sheet


def test_a_picture_is_as_large_as_its_page_with_a_white_border() -> None:
    picture = explained_picture(plate="plate " * 60, warnings=["a warning " * 40] * 30)
    page, pixels = lay_out(picture), decoded(draw_well(picture))
    assert pixels.shape == (page.height, page.width, 3)
    for edge in (pixels[:16], pixels[-16:], pixels[:, :32], pixels[:, -32:]):
        assert (edge == 255).all()


def test_equal_pictures_give_equal_bytes() -> None:
    assert draw_well(explained_picture()) == draw_well(explained_picture())


def test_all_words_are_drawn_in_their_colour() -> None:
    picture = explained_picture(status=WellStatus.PARTIAL)
    page, pixels = lay_out(picture), decoded(draw_well(picture))
    words = [item for item in page.items if isinstance(item, Words)]
    assert {"title", "verdict", "status", "support", "provenance", "checks"} <= {item.role for item in words}
    for item in words:
        assert (cut(pixels, item.rect) == item.colour).all(axis=2).any(), item.role
    status = next(item for item in words if item.role == "status")
    assert status.colour == BAD


def test_a_demonstration_has_a_band_across_the_page() -> None:
    pixels = decoded(draw_well(explained_picture(model=model(demonstration=True))))
    band = (pixels == DEMONSTRATION).all(axis=2)
    assert band.any(axis=0).sum() == pixels.shape[1] - 80
    assert not (decoded(draw_well(explained_picture())) == DEMONSTRATION).all(axis=2).any()


def test_a_well_without_pixels_gets_a_page_too() -> None:
    pixels = decoded(draw_well(WellPicture(well_result(prediction=None, status=WellStatus.REJECTED))))
    assert (pixels == BAD).all(axis=2).any()


def test_panels_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="4 panels, but 5 channels"):
        draw_well(replace(explained_picture(), panels=site_panels_of(4)))


def test_a_site_that_disagrees_is_an_open_dot_and_the_interval_a_band() -> None:
    sites = [site_result(1, (0.0, 2.0, 0.0)), site_result(2, (2.0, 1.0, 0.0), "control")]
    certain = verdict().model_copy(update={"interval": (0.4, 0.9)})
    picture = explained_picture(site_results=sites, prediction=certain)
    strip = next(item for item in lay_out(picture).items if isinstance(item, Strip))
    pixels = decoded(draw_well(picture))
    middle_row = strip.rect.y + strip.rect.height // 2
    (agreeing, _), (open_, _) = strip.sites
    assert tuple(pixels[middle_row, agreeing]) == INK
    assert tuple(pixels[middle_row, open_]) == (255, 255, 255)
    assert (cut(pixels, strip.rect) == BAD).all(axis=2).any()
    assert strip.band is not None
    assert tuple(pixels[strip.rect.y, sum(strip.band) // 2]) == CONTROL_GREY


# ---- channels


def test_every_channel_has_a_bar_of_its_colour() -> None:
    picture = explained_picture()
    page, pixels = lay_out(picture), decoded(draw_well(picture))
    blocks = [found for item in page.items if isinstance(item, Image) for found in item.inside]
    for channel, colour in COLOURS.items():
        bar = next(item for item in blocks if isinstance(item, Block) and item.role == f"colour bar {channel}")
        assert (cut(pixels, bar.rect) == colour).all()


def test_channels_are_grey_at_the_plates_contrast() -> None:
    picture = explained_picture()
    page, pixels = lay_out(picture), decoded(draw_well(picture))
    for index in range(5):
        # (index + 1) x 1000 counts, where 0 is black and 10000 white
        assert middle(pixels, place(page, "grey", index)) == pytest.approx([25.5 * (index + 1)] * 3, abs=1)


def test_one_bright_speck_does_not_change_how_the_rest_is_shown() -> None:
    picture = explained_picture()
    panels = site_panels_of()
    panels.pixels[:, 5, 5] = 65535
    page = lay_out(picture)
    before, after = (decoded(draw_well(found)) for found in (picture, replace(picture, panels=panels)))
    assert middle(before, place(page, "grey")) == middle(after, place(page, "grey"))


@pytest.mark.parametrize("shares", [(3.0, 2.0, 1.0, 0.0, 0.0), (0.0, 0.1, -2.0, 3.0, 1.0)])
def test_the_composite_mixes_the_channels_with_the_largest_shares(shares: tuple[float, ...]) -> None:
    picture = explained_picture(positive=False)
    assert picture.result.explanation is not None
    entry = picture.result.explanation.sites[0].model_copy(
        update={"channel_shapley": dict(zip(CHANNELS, shares, strict=True))}
    )
    explained = picture.result.explanation.model_copy(update={"sites": [entry]})
    picture = replace(picture, result=picture.result.model_copy(update={"explanation": explained}))
    largest = sorted(range(5), key=lambda index: -abs(shares[index]))[:3]
    light = [1 - np.prod([1 - (i + 1) / 10 * COLOURS[CHANNELS[i]][c] / 255 for i in largest]) for c in range(3)]
    assert composite(picture)[280, 280] == pytest.approx(255 * np.array(light), abs=1)


def test_the_control_is_shown_at_the_contrast_of_the_site() -> None:
    picture = explained_picture(positive=False)
    control = attribution_of(positive=False)
    same = replace(control, reference=np.ascontiguousarray(site_panels_of().pixels[:, :60, :60]))
    page = lay_out(picture)
    assert picture.contrast == CONTRAST
    for contrast in (CONTRAST, {}):
        pixels = decoded(draw_well(replace(picture, attribution=same, contrast=contrast)))
        assert middle(pixels, place(page, "reference")) == middle(pixels, place(page, "composite"))
    darker = decoded(draw_well(picture))
    assert sum(middle(darker, place(page, "reference"))) < sum(middle(darker, place(page, "composite")))


# ---- outlines


def test_without_an_explanation_a_control_of_the_plate_is_shown_alike() -> None:
    explained = explained_picture()
    reference = explained.reference
    alone = replace(explained, attribution=None, control=reference)
    assert reference is not None
    one, other = (cut(decoded(draw_well(shown)), place(lay_out(shown), "reference")) for shown in (explained, alone))
    np.testing.assert_array_equal(one, other)
    assert reference.name in " ".join(
        line
        for item in lay_out(alone).items
        if isinstance(item, Words) and item.role == "reference caption"
        for line in item.lines
    )


def test_an_explanation_that_holds_is_outlined_in_white_around_its_place() -> None:
    shown, plain = composite(explained_picture()), composite(explained_picture(positive=False))
    changed = (shown != plain).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert (shown[changed] == 255).all(axis=1).any()
    assert (rows.mean(), columns.mean()) == pytest.approx((284, 284), abs=6)  # the bump at 35 of 70, on 560 pixels
    assert changed.mean() < 0.1


def test_an_explanation_that_fails_its_checks_is_not_outlined() -> None:
    failed = explained_picture(passed=False)
    # the same channels in the composite, and no outlines
    plain = replace(explained_picture(explanation=None), attribution=None)
    inside = next(
        item.inside for item in lay_out(failed).items if isinstance(item, Image) and item.source == "composite"
    )
    tag = next(item.rect for item in inside if isinstance(item, Words) and item.role == "failed check")
    where = place(lay_out(failed), "composite")
    differs = (composite(failed) != composite(plain)).any(axis=2)
    rows, columns = np.nonzero(differs)
    assert differs.any()  # what failed is said in words,
    assert Rect(tag.x - where.x, tag.y - where.y, tag.width, tag.height).holds(
        Rect(columns.min(), rows.min(), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
    )  # and nothing else is drawn


def test_bars_of_an_explanation_that_fails_have_no_colour() -> None:
    for passed in (True, False):
        picture = explained_picture(passed=passed)
        page, pixels = lay_out(picture), decoded(draw_well(picture))
        for bar in (item for item in page.items if isinstance(item, Bar)):
            box = cut(pixels, bar.rect)
            assert (box == COLOURS[bar.channel]).all(axis=2).any() == passed, bar.channel
            assert (box == WITHHELD).all(axis=2).any() != passed, bar.channel


POSITIVE = arrays(np.float32, (6, 7), elements=st.floats(0, 100, width=32))


@given(POSITIVE, st.floats(0.05, 0.95))
def test_a_level_holds_its_mass_in_the_smallest_area(field: NDArray[np.float32], mass: float) -> None:
    field[0, 0] += np.float32(1.0)
    (level,) = mass_levels(field, (mass,))
    values = field.astype(np.float64)
    wanted = mass * values.sum() * (1 - 1e-9)
    assert values[values >= level].sum() >= wanted
    assert values[values > level].sum() <= mass * values.sum() * (1 + 1e-9)


def test_an_outline_runs_along_its_level_and_is_as_thick_as_asked() -> None:
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32), (10, 40))
    line = outline(ramp, 20.0, 3.0, ramp >= 20.0)
    assert line[5].sum() == pytest.approx(3.0)
    assert np.argmax(line[5] > 0) == 19
    flat = np.full((10, 10), 2.0, np.float32)
    assert outline(flat, 2.0, 3.0, flat >= 2.0).sum() == 0


def test_islands_smaller_than_a_smoothed_point_have_no_outline() -> None:
    rows, columns = np.mgrid[:60, :60]
    sigma, mass = 4.0, 0.6
    radius = sigma * np.sqrt(-2 * np.log(1 - mass))  # within it a Gaussian holds its 60 %
    large, small = (np.hypot(rows - y, columns - y) <= size * radius for y, size in ((18, 1.15), (45, 0.85)))
    assert (without_specks(large | small, mass, sigma) == large).all()
    assert (without_specks(small, mass, sigma) == small).all(), "the largest stays whatever its size"
    assert not without_specks(large & small, mass, sigma).any()


def test_a_faint_speck_beside_the_place_is_not_outlined() -> None:
    picture = explained_picture()
    assert picture.attribution is not None
    speck = picture.attribution.heat.copy()
    speck[0, 5, 5] = 4.0  # smoothed to 0.64, above the level of the thin line, 0.40
    shown, plain = composite(replace(picture, attribution=replace(picture.attribution, heat=speck))), composite(picture)
    assert (plain == 255).all(axis=2).any()
    assert not (shown[:80, :80] == 255).all(axis=2).any()


@given(arrays(np.uint16, (4, 4)), st.floats(0, 65535), st.floats(0, 65535))
def test_stretched_counts_stay_between_black_and_white(pixels: NDArray[np.uint16], black: float, white: float) -> None:
    grey = stretch(pixels, black, white)
    assert ((grey >= 0) & (grey <= 1)).all()
    assert (grey[pixels <= black] == 0).all()


def test_light_of_all_colours_is_never_more_than_white() -> None:
    full = np.ones((2, 2), np.float32)
    assert blend([full] * 2, [(255, 0, 0), (0, 128, 255)])[0, 0].tolist() == [255, 128, 255]
    assert (blend([full] * 3, [(255, 255, 255)] * 3) == 255).all()
