"""A plate's pictures share one contrast, wait in bounded memory, and never hold back a result."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from fakes import CHANNELS, Easel
from hcs_daemon.plate import SiteId, WellId, WellPosition
from hcs_daemon.publish.documents import WellDraft, well_result
from hcs_daemon.publish.panels import SitePanels
from hcs_daemon.publish.schemas import ContentEntry, WellResult
from hcs_daemon.publish.studio import (
    AT_ONCE,
    ENOUGH_CONTROLS,
    MOST_CONTROLS,
    MOST_WAITING,
    PATIENCE_S,
    SAMPLES,
    Studio,
    WellPicture,
)
from hcs_daemon.publish.verdict import judge
from hcs_daemon.records import SiteWanted
from pictured import attribution_of
from wells import ACQUISITION, CONTROL, FACTS, NOON, TREATED, closed_well, predicted

WELLS = [WellPosition(row, column).name for row in range(1, 9) for column in range(1, 13)]


def result_of(name: str, *, control: bool = False, revision: int = 1) -> WellResult:
    closed = closed_well(name)
    found = {1: predicted(closed, 1, CONTROL if control else TREATED)}
    draft = WellDraft(closed, judge(FACTS, found, 0.9), found, {})
    return well_result(draft, FACTS, "f" * 64, revision=revision, published_at=NOON, latency_s=1.0)


def picture(name: str, level: int = 100, *, control: bool = False, revision: int = 1) -> WellPicture:
    """A picture whose pixels are all `level` but for one in a hundred, which is ten times as bright."""
    pixels = np.full((len(CHANNELS), 20, 20), level, np.uint16)
    pixels[:, 0, :4] = 10 * level
    return WellPicture(result_of(name, control=control, revision=revision), panels=SitePanels(1, pixels, 1.0))


def without_pixels(name: str) -> WellPicture:
    return WellPicture(result_of(name))


def well(name: str) -> WellId:
    return WellId(ACQUISITION, WellPosition.parse(name))


def wanted(name: str) -> SiteWanted:
    return SiteWanted(SiteId(well(name), 1), ("a" * 64,))


class Room:
    """A studio and its easel."""

    def __init__(self) -> None:
        self.easel = Easel()
        self.studio = Studio(self.easel, "control")
        self.wanted: list[SiteWanted] = []

    def add(self, name: str, shown: WellPicture, now_s: float = 0.0) -> None:
        self.studio.add(well(name), shown, wanted(name), now_s)

    def drawn_with(self) -> list[Any]:
        """The contrast of DNA in every drawing begun, None where it had none."""
        return [shown.contrast.get("DNA") for (shown,) in self.easel.asked]

    def draw_all(self, now_s: float = 0.0) -> list[tuple[str, int, bytes]]:
        """Do what is begun and what follows from it."""
        done = []
        self.wanted += self.studio.step(now_s)
        while self.studio.drawing:
            while len(self.easel):
                self.easel.finish(b"png")
            done += [(drawn.well.stem, drawn.revision, drawn.png) for drawn in self.studio.collect()]
            self.wanted += self.studio.step(now_s)
        return done


def test_pictures_wait_until_enough_sites_tell_the_contrast() -> None:
    room = Room()
    for name in WELLS[: SAMPLES - 1]:
        room.add(name, picture(name))
    room.studio.step(1.0)
    assert room.studio.contrast(ACQUISITION) is None
    assert len(room.easel) == 0
    assert room.studio.holds(ACQUISITION)
    assert room.studio.idle
    room.add("D12", picture("D12"))
    room.studio.step(1.0)
    assert room.studio.contrast(ACQUISITION) == dict.fromkeys(CHANNELS, (100.0, 1000.0))
    assert not room.studio.holds(ACQUISITION)
    assert not room.studio.idle
    assert len(room.draw_all()) == SAMPLES
    assert set(room.drawn_with()) == {(100.0, 1000.0)}
    assert room.studio.idle


def test_a_plate_that_stays_small_is_drawn_after_a_while() -> None:
    room = Room()
    room.add("A01", picture("A01"), now_s=5.0)
    room.studio.step(5.0 + PATIENCE_S - 1)
    assert len(room.easel) == 0
    room.studio.step(5.0 + PATIENCE_S)
    assert len(room.easel) == 1


def test_a_plate_of_which_nothing_more_comes_is_drawn_at_once() -> None:
    room = Room()
    room.add("A01", picture("A01"))
    room.studio.settle(ACQUISITION)
    room.studio.step(0.0)
    assert room.drawn_with() == [(100.0, 1000.0)]


def test_the_controls_give_the_contrast_when_there_are_enough() -> None:
    room = Room()
    for number, name in enumerate(WELLS[:SAMPLES]):
        control = number < ENOUGH_CONTROLS
        room.add(name, picture(name, 100 if control else 500, control=control))
    room.studio.step(0.0)
    assert room.studio.contrast(ACQUISITION) == dict.fromkeys(CHANNELS, (100.0, 1000.0))


def test_without_enough_controls_all_sites_do() -> None:
    room = Room()
    for number, name in enumerate(WELLS[:SAMPLES]):
        room.add(name, picture(name, 100 if number == 0 else 500, control=number == 0))
    room.studio.step(0.0)
    assert room.studio.contrast(ACQUISITION) == dict.fromkeys(CHANNELS, (500.0, 5000.0))


def test_once_fixed_the_contrast_stays() -> None:
    room = Room()
    room.studio.adopt(ACQUISITION, {"DNA": (7.0, 77.0)})
    for name in WELLS[: SAMPLES + 1]:
        room.add(name, picture(name))
    room.draw_all()
    assert set(room.drawn_with()) == {(7.0, 77.0)}


def test_a_picture_without_pixels_waits_for_nothing() -> None:
    room = Room()
    room.add("A01", without_pixels("A01"))
    room.studio.step(0.0)
    assert room.drawn_with() == [None]


def test_only_few_are_drawn_at_once() -> None:
    room = Room()
    for name in WELLS[:20]:
        room.add(name, without_pixels(name))
    room.studio.step(0.0)
    assert len(room.easel) == AT_ONCE
    room.easel.finish(b"png")
    assert [drawn.well.stem for drawn in room.studio.collect()] == ["A01"]
    room.studio.step(0.0)
    assert len(room.easel) == AT_ONCE


def test_beyond_a_bound_pixels_are_let_go_and_asked_for_again() -> None:
    room = Room()
    room.studio.adopt(ACQUISITION, dict.fromkeys(CHANNELS, (100.0, 1000.0)))
    for name in WELLS:
        room.add(name, picture(name))
    assert room.studio.step(0.0) == []
    room.draw_all()
    assert len(room.easel.asked) == MOST_WAITING
    assert not room.studio.idle
    assert 0 < len(room.wanted) <= MOST_WAITING
    assert room.wanted == [wanted(name) for name in WELLS[MOST_WAITING:]]
    for want in room.wanted:
        found = room.studio.asked(want)
        assert found is not None
        assert found[1].panels is None
        room.studio.add(found[0], picture(found[0].stem), None, 0.0)
    room.draw_all()
    assert sorted(shown.result.well for (shown,) in room.easel.asked) == sorted(WELLS)
    assert room.studio.idle


def test_what_was_asked_for_is_answered_once() -> None:
    room = Room()
    assert room.studio.asked(wanted("A01")) is None
    assert room.studio.ask(well("A01"), without_pixels("A01"), wanted("A01")) == [wanted("A01")]
    assert not room.studio.idle
    assert room.studio.asked(wanted("A01")) == (well("A01"), without_pixels("A01"))
    assert room.studio.asked(wanted("A01")) is None
    assert room.studio.idle


@pytest.mark.parametrize("stage", ["waiting", "without pixels", "asked", "ready"])
def test_of_an_older_revision_nothing_is_drawn_any_more(stage: str) -> None:
    room = Room()
    if stage == "waiting":
        room.add("A01", picture("A01"))
    elif stage == "asked":
        room.studio.ask(well("A01"), without_pixels("A01"), wanted("A01"))
    elif stage == "ready":
        room.add("A01", without_pixels("A01"))
    else:
        for name in WELLS[1 : MOST_WAITING + 1]:
            room.add(name, picture(name))
        room.add("A01", picture("A01"))
    room.studio.drop(well("A01"))
    room.studio.settle(ACQUISITION)
    room.draw_all()
    assert room.wanted == []
    assert room.studio.asked(wanted("A01")) is None
    assert "A01" not in [shown.result.well for (shown,) in room.easel.asked]


def test_a_drawing_that_fails_is_said_and_the_others_go_on() -> None:
    room = Room()
    for name in ("A01", "A02"):
        room.add(name, without_pixels(name))
    room.studio.step(0.0)
    room.easel.finish(ValueError("no font"))
    room.easel.finish(b"png")
    with capture_logs() as said:
        drawn = list(room.studio.collect())
    assert [found.well.stem for found in drawn] == ["A02"]
    assert [(line["event"], line["well"]) for line in said] == [("picture.failed", "A01")]
    assert "no font" in said[0]["detail"]
    assert room.studio.idle


def test_a_drawing_names_the_revision_that_it_shows() -> None:
    room = Room()
    room.add("A01", picture("A01", revision=2))
    room.studio.settle(ACQUISITION)
    assert room.draw_all() == [("A01", 2, b"png")]


def controls_beside(room: Room) -> dict[str, str | None]:
    """Well -> the name of the control that its drawing shows."""
    return {
        shown.result.well: shown.control.name if shown.control is not None else None for (shown,) in room.easel.asked
    }


def looking(shown: WellPicture, look: float) -> WellPicture:
    """The same with this embedding."""
    sites = [site.model_copy(update={"embedding": [look, 0.0, 0.0]}) for site in shown.result.site_results]
    return replace(shown, result=shown.result.model_copy(update={"site_results": sites}))


def test_a_well_that_was_not_explained_is_shown_beside_the_nearest_control_of_its_plate() -> None:
    room = Room()
    room.add("A01", looking(picture("A01", 100, control=True), 0.0))
    room.add("A02", looking(picture("A02", 200, control=True), 5.0))
    room.add("B03", looking(picture("B03"), 4.0))
    room.studio.settle(ACQUISITION)
    room.draw_all()
    # a control is not its own control
    assert controls_beside(room) == {
        "A01": "well A02 of this plate, a control by its verdict",
        "A02": "well A01 of this plate, a control by its verdict",
        "B03": "well A02 of this plate, a control by its verdict",
    }
    beside = next(shown.control for (shown,) in room.easel.asked if shown.result.well == "B03")
    assert int(beside.pixels.min()) == 200


@pytest.mark.parametrize("known", [True, False])
def test_an_explained_well_is_shown_beside_its_plate_s_control_and_for_want_of_one_the_package_s(
    *, known: bool
) -> None:
    room = Room()
    room.add("A01", picture("A01", control=known))
    room.add("B03", replace(picture("B03"), attribution=attribution_of()))
    room.studio.settle(ACQUISITION)
    room.draw_all()
    (shown,) = next(asked for asked in room.easel.asked if asked[0].result.well == "B03")
    assert (shown.control is not None) == known
    found = "well A01 of this plate, a control by its verdict" if known else "control, well B11"
    assert shown.reference.name == found


def in_role(shown: WellPicture, role: str) -> WellPicture:
    """The same with this role by the plate's layout."""
    content = ContentEntry(compound="", concentration_um=None, role=role)
    return replace(shown, result=shown.result.model_copy(update={"content": content}))


def test_where_the_layout_names_roles_it_says_which_wells_are_controls() -> None:
    room = Room()
    room.add("A01", picture("A01", control=True))  # nothing is known of the layout yet
    room.add("A02", in_role(picture("A02", control=True), "treatment"))
    room.add("B03", in_role(picture("B03"), "treatment"))
    room.add("C04", in_role(picture("C04", 300), "Control"))  # the model calls it something else
    room.studio.settle(ACQUISITION)
    room.draw_all()
    beside = "well C04 of this plate, a control by the layout"
    assert controls_beside(room) == {"A01": beside, "A02": beside, "B03": beside, "C04": None}


def test_where_the_layout_names_controls_they_give_the_contrast() -> None:
    room = Room()
    for number, name in enumerate(WELLS[:SAMPLES]):
        named = number < ENOUGH_CONTROLS
        shown = picture(name, 100 if named else 500, control=not named)
        room.add(name, in_role(shown, "control" if named else "treatment"))
    room.studio.step(0.0)
    assert room.studio.contrast(ACQUISITION) == dict.fromkeys(CHANNELS, (100.0, 1000.0))


def test_a_well_that_is_no_control_any_more_is_not_shown_as_one() -> None:
    room = Room()
    room.add("A01", picture("A01", control=True))
    room.add("A01", picture("A01", revision=2))
    room.add("B03", picture("B03"))
    room.studio.settle(ACQUISITION)
    room.draw_all()
    assert controls_beside(room)["B03"] is None


def test_the_newest_controls_are_kept_and_only_so_many() -> None:
    room = Room()
    names = WELLS[: MOST_CONTROLS + 1]
    for place, name in enumerate(names):
        room.add(name, looking(picture(name, control=True), float(place)))
    room.add("H12", looking(picture("H12"), 0.0))
    room.studio.settle(ACQUISITION)
    room.draw_all()
    assert controls_beside(room)["H12"] == f"well {names[1]} of this plate, a control by its verdict"


def test_plates_have_a_contrast_each() -> None:
    room = Room()
    room.add("A01", picture("A01"))
    room.studio.settle(ACQUISITION)
    room.studio.close(ACQUISITION)
    assert room.studio.contrast(ACQUISITION) is None
