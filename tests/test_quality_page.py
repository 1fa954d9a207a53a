from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from fakes import CHANNELS, Clock, make_settings, no_sleep
from hcs_daemon.levels import BIN_EDGES
from hcs_daemon.plate import WellPosition, plate_wells
from hcs_daemon.publish.quality_page import FILES_SHOWN, quality_page
from hcs_daemon.publish.schemas import (
    DepthEntry,
    ExpectedEntry,
    HistogramEntry,
    PlaneQualityEntry,
    SitesEntry,
    WellResult,
)
from hcs_daemon.records import Rejection
from hcs_daemon.simulate import spoil
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.vocabulary import PlateState, Reason, Used, Verdict, WellStatus
from pictured import plane_of, plate_file, well_result
from spine import Spine
from wells import Desktop, closed_well, plate_news, rejection

HOSTILE = "<script>alert('x')</script>\u202e\x1b&\""
FINISHED = plate_news(PlateState.FINISHED)
MAPS = ("Focus", "Saturation", "Background", "Cell density")


def page_of(
    results: Sequence[WellResult] = (),
    rejections: Sequence[Rejection] = (),
    flags: Mapping[str, Sequence[str]] | None = None,
    notes: Sequence[str] = (),
    **changed: Any,
) -> str:
    return quality_page(plate_file(**changed), results, rejections, flags or {}, notes)


def tree_of(page: str) -> ET.Element:
    """The page's elements; it is well-formed XML, too."""
    return ET.fromstring(page.removeprefix("<!DOCTYPE html>"))  # noqa: S314 (our own page)


def text_of(page: str) -> str:
    return " ".join(" ".join(tree_of(page).itertext()).split())


def maps_of(page: str) -> dict[tuple[str, str], dict[str, tuple[str, set[str | None]]]]:
    """Channel and figure -> well -> its title, and the kinds of shapes that it is drawn with."""
    found: dict[tuple[str, str], dict[str, tuple[str, set[str | None]]]] = {}
    body = tree_of(page).find("body")
    assert body is not None
    channel = ""
    for part in body:
        if part.tag == "h3":
            channel = "".join(part.itertext())
        for figure in part.iter("figure"):
            name = figure.findtext("figcaption/b") or ""
            wells = found[channel, name] = {}
            for group in figure.iter("g"):
                title = group.findtext("title") or ""
                wells[title.split(":")[0]] = title, {shape.get("class") for shape in group.iter("path")}
    return found


def quality(**changed: Any) -> PlaneQualityEntry:
    values: dict[str, Any] = {
        "background": 400.0,
        "noise": 5.0,
        "foreground_fraction": 0.2,
        "bright": 4000.0,
        "spots": 50,
        "debris_fraction": 0.0,
        "unevenness": 0.05,
        "power_slope": -3.5,
    }
    return PlaneQualityEntry(**{**values, **changed})


def measured(name: str, sites: int = 1, time: int = 1, saturated: float = 0.0, **changed: Any) -> WellResult:
    """A complete well whose planes have these figures."""
    planes = [
        plane_of(site, channel).model_copy(update={"quality": quality(**changed), "saturated_fraction": saturated})
        for site in range(1, sites + 1)
        for channel in CHANNELS
    ]
    return well_result(well=name, time=time, inputs=planes)


def rejected_well(name: str) -> WellResult:
    planes = [plane_of(1, channel, used=Used.INCOMPLETE_SITE) for channel in CHANNELS[1:]]
    sites = SitesEntry(expected=1, analysed=0, missing=[], rejected=[1], failed=[])
    return well_result(
        well=name, status=WellStatus.REJECTED, prediction=None, site_results=[], inputs=planes, sites=sites
    )


def expected(wells: int) -> ExpectedEntry:
    rows, columns = {6: (2, 3), 96: (8, 12), 384: (16, 24), 1536: (32, 48)}[wells]
    return ExpectedEntry(
        source="metadata", wells=wells, planes=None, sites=1, time_points=1, z_steps=1, rows=rows, columns=columns
    )


def depth(verdict: Verdict = Verdict.CONSISTENT, evidence: str = "bit 16 is used", **changed: Any) -> DepthEntry:
    counts = [0] * (len(BIN_EDGES) - 1)
    counts[30] = 4321
    histogram = HistogramEntry(edges=list(BIN_EDGES), counts=counts)
    values: dict[str, Any] = {"confidence": 0.97, "planes": 12, "histogram": histogram}
    return DepthEntry(declared=16, verdict=verdict, evidence=evidence, **{**values, **changed})


# ---- the maps


@pytest.mark.parametrize("wells", [6, 96])
def test_every_well_is_in_every_map_with_its_figure(wells: int) -> None:
    names = [well.name for well in plate_wells(wells)]
    results = [
        measured(
            name, power_slope=number / 2 - 60, background=100.0 + 80 * number, spots=3 * number, saturated=number / 400
        )
        for number, name in enumerate(names)
    ]
    maps = maps_of(page_of(results, expected=expected(wells)))
    assert set(maps) == {(channel, figure) for channel in CHANNELS for figure in MAPS}
    last = len(names) - 1
    for cells in maps.values():
        assert set(cells) == set(names)
        assert cells["A01"][1] == {"c0"}
        assert cells[names[last]][1] == {"c31"}
    said = {figure: maps["RNA", figure][names[last]][0] for figure in MAPS}
    assert said["Focus"] == f"{names[last]}: \N{MINUS SIGN}{60 - last / 2:.2f}"
    assert said["Saturation"] == f"{names[last]}: {last / 4:.3g} %"
    assert said["Background"] == f"{names[last]}: {100 + 80 * last:,} counts"
    assert said["Cell density"] == f"{names[last]}: {3 * last} in a field"


def test_a_well_shows_the_median_over_its_sites() -> None:
    planes = [
        plane_of(site, "DNA").model_copy(update={"quality": quality(background=background)})
        for site, background in ((1, 300.0), (2, 900.0), (3, 350.0))
    ]
    page = page_of([well_result(channels=["DNA"], inputs=planes)])
    assert maps_of(page)["DNA", "Background"]["B03"][0] == "B03: 350 counts"


def test_of_a_stack_the_sharpest_step_counts() -> None:
    planes = [
        plane_of(1, "DNA").model_copy(update={"z": z, "sharpness": sharp, "quality": quality(power_slope=slope)})
        for z, sharp, slope in ((1, 5.0, -6.0), (2, 90.0, -3.0), (3, 4.0, -5.0))
    ]
    page = page_of([well_result(channels=["DNA"], inputs=planes)])
    assert maps_of(page)["DNA", "Focus"]["B03"][0] == "B03: \N{MINUS SIGN}3.00"


def test_rejected_wells_are_hatched_and_wells_without_a_result_have_a_dot() -> None:
    page = page_of([measured("A01"), rejected_well("A02")], expected=expected(6))
    for cells in maps_of(page).values():
        assert cells["A02"] == ("A02: no figure, rejected", {"h"})
        assert cells["A03"] == ("A03: no result", {"n"})
        title, kinds = cells["A01"]
        assert not kinds & {"h", "n", "f"}
        assert "rejected" not in title


def test_a_rejected_file_hatches_its_well_in_its_channel_only() -> None:
    maps = maps_of(page_of([measured("B03"), measured("B04")], [rejection()], expected=expected(96)))
    assert "h" in maps["DNA", "Focus"]["B03"][1]
    assert maps["DNA", "Focus"]["B03"][0].endswith("file rejected")
    assert "h" not in maps["ER", "Focus"]["B03"][1]
    assert "h" not in maps["DNA", "Focus"]["B04"][1]


def test_a_flag_marks_its_well_in_its_channel_and_a_flag_of_the_well_in_all() -> None:
    flags = {"B03": ["out_of_focus:DNA"], "B04": ["edge_effect"]}
    page = page_of([measured("B03"), measured("B04")], flags=flags, expected=expected(96))
    maps = maps_of(page)
    assert {channel for channel in CHANNELS if "f" in maps[channel, "Focus"]["B03"][1]} == {"DNA"}
    assert {channel for channel in CHANNELS if "f" in maps[channel, "Focus"]["B04"][1]} == set(CHANNELS)
    assert "Out of focus in DNA: 1 well (B03)." in text_of(page)


def test_of_several_time_points_the_latest_is_shown() -> None:
    results = [measured("B03", background=300.0), measured("B03", time=2, background=500.0)]
    refused = rejection()  # of the first time point
    cell = maps_of(page_of(results, [refused]))["DNA", "Background"]["B03"]
    assert cell[0] == "B03: 500 counts"
    assert "h" not in cell[1]


def test_a_plane_in_which_nothing_stands_above_the_noise_has_no_focus() -> None:
    cells = maps_of(page_of([measured("B03", power_slope=None), measured("B04")]))["DNA", "Focus"]
    assert cells["B03"] == ("B03: no figure, complete", {"n"})


def test_wells_that_are_alike_look_alike() -> None:
    """The scale is never so narrow that noise looks like a gradient."""
    results = [measured("A01", power_slope=-3.50), measured("A02", power_slope=-3.51)]
    cells = maps_of(page_of(results, expected=expected(6)))["DNA", "Focus"]
    steps = [int((kinds.pop() or "")[1:]) for _, kinds in (cells["A01"], cells["A02"])]
    assert abs(steps[0] - steps[1]) <= 1


def test_one_well_that_lies_far_off_does_not_set_the_scale_and_is_said_to_be_beyond_it() -> None:
    slopes = {f"A{column:02d}": -3.0 - column / 10 for column in range(1, 11)}
    maps = maps_of(page_of([measured(well, power_slope=slope) for well, slope in slopes.items()]))
    page = page_of([measured(well, power_slope=slope) for well, slope in {**slopes, "A11": -30.0}.items()])
    cells = maps_of(page)["DNA", "Focus"]
    assert {well: cells[well][1] for well in slopes} == {
        well: kinds for well, (_, kinds) in maps["DNA", "Focus"].items() if well in slopes
    }
    assert cells["A11"][1] == cells["A10"][1] == {"c0"}
    assert "lowest A11 −30.00" in text_of(page)  # noqa: RUF001 (a minus sign)
    assert "1 well beyond the scale." in text_of(page)


def test_results_of_versions_that_measured_less_have_the_maps_that_they_can() -> None:
    maps = maps_of(page_of([well_result()]))
    assert {figure for _, figure in maps} == {"Focus", "Saturation"}
    assert maps["DNA", "Focus"]["B03"][0] == "B03: 0.5"


# ---- in words


def test_the_summary_says_what_is_wrong_what_is_to_be_looked_at_and_what_is_fine() -> None:
    page = page_of(
        [measured("A01"), rejected_well("A02")],
        [rejection(), rejection("P1__a1/Images/other.tiff", reason=Reason.TRUNCATED)],
        flags={"A01": ["saturated:DNA"]},
        notes=["The background of ER falls over the plate."],
        expected=expected(6),
        counts={"accepted": 1234, "rejected": 2, "duplicate": 0},
        problem="no pixel size is known",
        bit_depth={
            "DNA": depth(),
            "ER": depth(Verdict.UNDECIDED, "all are dim"),
            "RNA": depth(Verdict.CONTRADICTED, "a 12-bit camera"),
        },
    )
    text = text_of(page)
    for words in (
        "1,234 planes were accepted and 2 rejected. 1 of the accepted is of channels that contradict their bit depth.",
        "2 wells of 6 expected published: 1 complete, 1 rejected.",
        "No site can be analysed: no pixel size is known",
        "RNA is not what its declared 16 bits would be: a 12-bit camera.",
        "2 files rejected and not analysed: 1 bit depth, 1 truncated.",
        "4 wells of 6 expected without a result.",
        "1 well rejected as a whole: A02.",
        "The background of ER falls over the plate.",
        "Saturated in DNA: 1 well (A01).",
        "Bit depth undecided, which is no fault: ER.",
        "Bit depth of the accepted planes as declared: DNA (16 bits).",
    ):
        assert words in text
    assert "No file was rejected" not in text
    assert text.index("Wrong") < text.index("To look at") < text.index("Fine") < text.index("Maps of the plate")


def test_sites_that_the_model_could_not_analyse_are_said_with_the_first_reason() -> None:
    sites = SitesEntry(expected=1, analysed=0, missing=[], rejected=[], failed=[3])
    failed = [
        rejected_well(name).model_copy(
            update={"sites": sites, "warnings": ["other words", f"site 3 could not be analysed: {name} is too small"]}
        )
        for name in ("A02", "A01")
    ]
    said = "2 wells with sites that the model could not analyse. In A01 site 3 could not be analysed: A01 is too small."
    assert said in text_of(page_of([*failed, measured("B01")]))


def test_what_is_odd_about_the_plate_or_its_planes_is_to_be_looked_at() -> None:
    odd = [plane_of(1, channel).model_copy(update={"oddities": ["jpeg_grid"]}) for channel in ("ER", "DNA", "ER")]
    text = text_of(page_of([well_result(inputs=odd)], warnings=["C05 lacks a channel that all others have"]))
    assert "C05 lacks a channel that all others have" in text
    assert "Odd, which proves nothing: jpeg grid in DNA, 1 plane." in text
    assert "Odd, which proves nothing: jpeg grid in ER, 2 planes." in text


def test_wells_are_named_in_the_order_of_the_plate() -> None:
    names = ["AA01", "B10", "B09"]
    flags = {name: ["empty"] for name in [*names, "B09.t002"]}
    text = text_of(page_of([rejected_well(name) for name in names], flags=flags))
    assert "3 wells rejected as a whole: B09, B10, AA01." in text
    assert "Empty: 4 wells (B09, B09.t002, B10, AA01)." in text


def test_a_plate_without_fault_says_so() -> None:
    text = text_of(page_of([measured("A01")], bit_depth={"DNA": depth()}))
    assert "Wrong" not in text
    assert "To look at" not in text
    assert "No file was rejected. No well is flagged. Every published well is complete." in text


@pytest.mark.parametrize("verdict", [Verdict.CONTRADICTED, Verdict.CONSISTENT])
def test_that_no_well_is_flagged_is_no_good_news_where_none_could_be(verdict: Verdict) -> None:
    wells = [measured("A01")] if verdict is Verdict.CONTRADICTED else [rejected_well("A01")]
    assert "No well is flagged" not in text_of(page_of(wells, bit_depth={"DNA": depth(verdict)}))


def test_a_plate_of_which_nothing_came_yet_has_a_page() -> None:
    page = page_of(state=PlateState.ACQUIRING, finished_at=None)
    assert "No well is published yet." in text_of(page)
    assert "still acquiring" in text_of(page)
    assert maps_of(page) == {}


def test_each_channels_verdict_stands_over_its_histogram() -> None:
    page = page_of(bit_depth={"DNA": depth(Verdict.CONTRADICTED, "the highest level is 4095"), "ER": depth()})
    text = text_of(page)
    assert "Contradicted (declared: 16 bits, 97 % sure): the highest level is 4095." in text
    for bits in (8, 10, 12, 14, 16):
        assert f"{bits} bits" in text
    first, end = BIN_EDGES[30], BIN_EDGES[31]
    assert f"levels {first} to {end - 1}: 4,321 pixels" in text
    body = tree_of(page)
    (declared, _) = [
        float((line.get("d") or "M")[1:].split()[0]) for line in body.iter("path") if line.get("class") == "d"
    ]
    (bar, _) = [bar for bar in body.iter("rect") if bar.get("class") == "b"]
    assert float(bar.get("x") or 0) + float(bar.get("width") or 0) < declared


def test_a_channel_of_which_no_plane_was_read_has_no_histogram() -> None:
    assert "No pixel was counted yet." in text_of(page_of(bit_depth={"DNA": depth(histogram=None)}))


def test_rejections_are_grouped_by_reason_and_the_first_are_named() -> None:
    many = [rejection(f"P1__a1/Images/bad{number:03d}.tiff") for number in range(FILES_SHOWN + 5)]
    text = text_of(page_of([], [*many, rejection("x.tiff", reason=Reason.TRUNCATED, plane=None, channel=None)]))
    assert f"bit depth: {FILES_SHOWN + 5} files What to do: export as 16-bit TIFF." in text
    assert f"B03 site 1 DNA Images/bad{FILES_SHOWN - 1:03d}.tiff" in text
    assert f"bad{FILES_SHOWN:03d}" not in text
    assert "and 5 more in rejected.jsonl" in text
    assert "truncated: 1 file " in text


def test_what_to_do_stands_beside_each_file_where_it_differs() -> None:
    text = text_of(page_of([], [rejection("a.tiff"), rejection("b.tiff", hint="copy it again")]))
    assert "export as 16-bit TIFF" in text
    assert "copy it again" in text


# ---- safe, valid, small


def test_no_name_becomes_markup() -> None:
    refused = rejection(HOSTILE, detail=HOSTILE, hint=HOSTILE, channel=HOSTILE)
    results = [
        measured("B03").model_copy(update={"channels": [HOSTILE]}),
        measured("B04").model_copy(update={"inputs": [plane_of(1, HOSTILE)]}),
    ]
    page = page_of(
        results,
        [refused, replace(refused, path="\udcff.tiff")],
        flags={"B03": [f"{HOSTILE}:{HOSTILE}"]},
        notes=[HOSTILE],
        plate=HOSTILE,
        acquisition=HOSTILE,
        instrument=HOSTILE,
        problem=HOSTILE,
        bit_depth={HOSTILE: depth(evidence=HOSTILE)},
    )
    assert "<script" not in page.lower()
    assert not any(char in page for char in "\u202e\x1b\udcff")
    assert all(element.tag != "script" for element in tree_of(page).iter())
    assert all(not name.startswith("on") for element in tree_of(page).iter() for name in element.attrib)
    assert "alert('x')" in text_of(page)
    page.encode()


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = page_of([measured("B03")], [rejection()], bit_depth={"DNA": depth()})
    assert "://" not in page
    assert not {"src", "href"} & {name for element in tree_of(page).iter() for name in element.attrib}
    styled = {name for element in tree_of(page).iter() for name in (element.get("class") or "").split()}
    style = tree_of(page).findtext("head/style") or ""
    assert {name for name in styled if f".{name}" not in style} == set()


def test_equal_input_gives_an_equal_page() -> None:
    results = [measured("B03"), measured("B04", background=900.0)]
    refused = [rejection("a.tiff"), rejection("b.tiff")]
    assert page_of(results, refused) == page_of(results[::-1], refused[::-1])


@pytest.mark.parametrize(("wells", "most_bytes"), [(384, 2_000_000), (1536, 6_000_000)])
def test_a_large_plate_stays_small(wells: int, most_bytes: int) -> None:
    """With every well flagged in every channel, and a rejection in each."""
    names = [well.name for well in plate_wells(wells)]
    results = [measured(name, sites=1, background=1000.0 + number) for number, name in enumerate(names)]
    flags = {name: [f"out_of_focus:{channel}" for channel in CHANNELS] for name in names}
    plane = rejection().plane
    assert plane is not None
    refused = []
    for number, name in enumerate(names):
        well = replace(plane.site.well, position=WellPosition.parse(name))
        refused.append(rejection(f"{number}.tiff", plane=replace(plane, site=replace(plane.site, well=well))))
    page = page_of(results, refused, flags, expected=expected(wells))
    assert all(len(cells) == wells for cells in maps_of(page).values())
    assert len(page.encode()) < most_bytes


# ---- in the results folder


def hatched(folder: Path) -> set[str]:
    cells = maps_of((folder / "quality.html").read_text("utf-8"))["DNA", "Focus"]
    return {well for well, (_, kinds) in cells.items() if "h" in kinds}


def test_the_page_follows_a_plate_from_its_files_and_after_a_restart(tmp_path: Path) -> None:
    images = simulate_plate(tmp_path / "in", sleep=no_sleep, plate="P1", wells=6, size_px=64).folder / "Images"
    scaled, late = (images / f"r01c{column:02d}f01p01-ch1sk1fk1fl1.tiff" for column in (2, 3))
    whole, later = scaled.read_bytes(), late.read_bytes()
    scaled.write_bytes(spoil.eight_bit_scaled(whole))
    late.unlink()
    clock = Clock()
    spine = Spine(make_settings(tmp_path), clock)
    spine.run(60)
    (folder,) = (tmp_path / "out" / "P1").iterdir()
    cells = maps_of((folder / "quality.html").read_text("utf-8"))["ER", "Background"]
    published = {well.removeprefix(f"P1/{folder.name}/"): result for well, result in spine.wells().items()}
    for well, result in published.items():
        measures = [entry["quality"] for entry in result["inputs"] if entry["channel"] == "ER"]
        if result["status"] == "complete":
            assert cells[well][0] == f"{well}: {measures[0]['background']:,.0f} counts"
    assert hatched(folder) == {"A02"}
    assert "A03" not in published
    assert cells["A03"][1] == {"n"}

    # ---- stopped, the last plane comes and the spoiled one is mended, and it starts again
    spine.end()
    late.write_bytes(later)
    scaled.write_bytes(whole)
    spine = Spine(make_settings(tmp_path), clock)
    spine.run(60)
    cells = maps_of((folder / "quality.html").read_text("utf-8"))["ER", "Background"]
    assert hatched(folder) == set()
    assert len(cells) == 6
    assert all("counts" in title for title, _ in cells.values())
    spine.end()


def test_the_page_is_rewritten_with_the_plates_other_files(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, {"results": {"plate_refresh_s": 30.0}})
    page = desk.folder / "quality.html"
    desk.tell(plate_news())
    assert "No well is published yet." in page.read_text("utf-8")
    desk.publish(closed_well("B03"))
    desk.tell(rejection())
    desk.pass_time(29)
    assert "No well is published yet." in page.read_text("utf-8")
    desk.pass_time(1)
    assert "1 well published: 1 complete." in text_of(page.read_text("utf-8"))
    assert "Images/bad.tiff" in page.read_text("utf-8")
    desk.publish(closed_well("C04"))
    desk.tell(FINISHED)
    desk.pass_time()
    assert "2 wells published: 2 complete." in text_of(page.read_text("utf-8"))
    assert "finished" in text_of(page.read_text("utf-8"))


def test_a_rejection_that_leaves_the_counts_alike_is_told_too(tmp_path: Path) -> None:
    desk = Desktop(tmp_path, {"results": {"plate_refresh_s": 0.0}})
    news = plate_news(counts={"accepted": 5, "rejected": 1, "duplicate": 0, "ignored": 0, "wells": 1})
    desk.tell(rejection("P1__a1/first.tiff"), news)
    desk.tell(rejection("P1__a1/first.tiff", withdrawn=True), rejection("P1__a1/second.tiff"), news)
    desk.pass_time()
    said = (desk.folder / "quality.html").read_text("utf-8")
    assert "second.tiff" in said
    assert "first.tiff" not in said


def test_a_start_writes_the_page_of_a_finished_plate_that_has_none(tmp_path: Path) -> None:
    """As a version before it left the plate."""
    desk = Desktop(tmp_path)
    desk.tell(plate_news())
    desk.publish(closed_well("B03"))
    desk.tell(rejection(), FINISHED)
    desk.pass_time()
    page = desk.folder / "quality.html"
    before = page.read_bytes()
    page.unlink()
    again = desk.restart(tmp_path)
    again.tell(FINISHED)
    again.pass_time()
    assert page.read_bytes() == before
