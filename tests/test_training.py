"""From labelled wells to a package: who teaches, who judges, when it stops, and what is refused."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from hcs_daemon.errors import LayoutError
from hcs_daemon.plate import plate_wells
from hcs_daemon.training.card import Examples, draw
from hcs_daemon.training.controls import dealt_out, guess, places, strata, told_by
from hcs_daemon.training.course import attend, load_checkpoint
from hcs_daemon.training.evaluation import hits
from hcs_daemon.training.labels import Labels
from hcs_daemon.training.learning import Lesson, Recipe
from hcs_daemon.training.plates import Gathered, StoredSite, WellName
from hcs_daemon.training.split import LEAST_WELLS, edge_only, split_wells
from hcs_daemon.training.staining import measure_staining
from test_learning import lesson, sites

SHAPES = {"P1": (8, 12)}


def labels(plates: Mapping[str, Mapping[str, int]]) -> dict[WellName, str]:
    """Plate -> class -> how many wells."""
    found: dict[WellName, str] = {}
    for plate, classes in plates.items():
        positions = iter(plate_wells(96))
        for name, count in classes.items():
            found |= {(plate, next(positions)): name for _ in range(count)}
    return found


# ---- the split


def test_every_well_is_in_one_part_and_every_class_in_each() -> None:
    given = labels({"P1": {"DMSO": 20, "A": 8}})
    split = split_wells(given, seed=3)
    parts = (split.learn, split.validate, split.held_out)
    assert sorted(well for part in parts for well in part) == sorted(given)
    for part in parts:
        assert {given[well] for well in part} == {"DMSO", "A"}
    assert split.plate is None
    assert split_wells(given, seed=3) == split
    assert split_wells(given, seed=4) != split


def test_of_several_plates_one_is_held_out_as_a_whole() -> None:
    given = labels({"P1": {"DMSO": 8, "A": 6}, "P2": {"DMSO": 6, "A": 6}})
    split = split_wells(given, seed=0)
    assert split.plate == "P2"
    assert {plate for plate, _ in split.held_out} == {"P2"}
    assert {plate for plate, _ in (*split.learn, *split.validate)} == {"P1"}


def test_a_plate_without_some_class_is_not_held_out() -> None:
    given = labels({"P1": {"DMSO": 8, "A": 8}, "P2": {"DMSO": 4}})
    split = split_wells(given, seed=0)
    assert split.plate is None
    assert {given[well] for well in split.held_out} == {"DMSO", "A"}


def test_too_few_wells_of_a_class_are_refused_with_how_many_there_are_and_are_needed() -> None:
    with pytest.raises(LayoutError, match=rf"A \(2 wells\).* {LEAST_WELLS} of each class are needed"):
        split_wells(labels({"P1": {"DMSO": 20, "A": 2}}), seed=0)
    with pytest.raises(LayoutError, match="nothing to tell apart"):
        split_wells(labels({"P1": {"DMSO": 20}}), seed=0)


def test_a_class_on_edge_wells_alone_is_named() -> None:
    given = {("P1", position): "A" if position.row == 1 else "B" for position in plate_wells(96)}
    assert edge_only(given, SHAPES) == ("A",)


def test_wells_with_a_picture_in_common_are_twins_also_by_way_of_a_third() -> None:
    one, two, three, four = (("P1", position) for position in plate_wells(96)[:4])
    shown = [(one, "a"), (one, "b"), (two, "b"), (two, "c"), (three, "c"), (four, "d"), (four, "d")]
    sites = tuple(StoredSite("A", well, 0, number, (), picture) for number, (well, picture) in enumerate(shown))
    assert Gathered(sites, [], 1.0, {}, {}, ()).twins == ((one, two, three),)


# ---- the labels


def layout(folder: Path) -> Path:
    path = folder / "layout.csv"
    path.write_text(
        "well,compound,role,Phenotype\nA01,DMSO,control,plain\nA02,REF,reference,odd\nA03,CPD,treatment,odd\n"
        "A04,MOCK,control,\n",
        "utf-8",
    )
    return path


def test_treatments_teach_nothing_unless_a_column_of_ones_own_labels_them(tmp_path: Path) -> None:
    def wells(column: str) -> dict[str, str]:
        return {position.name: label for position, label in Labels(layout(tmp_path), column, None).of("P1").items()}

    assert wells("compound") == {"A01": "DMSO", "A02": "REF", "A04": "MOCK"}
    assert wells("role") == {"A01": "control", "A02": "reference", "A04": "control"}
    assert wells("phenotype") == {"A01": "plain", "A02": "odd", "A03": "odd"}
    with pytest.raises(LayoutError, match="no columns 'moa'; its columns: well, compound, role, Phenotype"):
        wells("moa")


def test_the_control_class_is_that_of_the_role_or_is_asked_for(tmp_path: Path) -> None:
    def control(column: str, asked: str | None = None) -> str:
        found = Labels(layout(tmp_path), column, asked)
        return found.control_class({("P1", position): label for position, label in found.of("P1").items()})

    assert control("phenotype") == "plain"
    assert control("role") == "control"
    assert control("compound", "MOCK") == "MOCK"
    with pytest.raises(LayoutError, match="not clear which class is the untreated control") as refused:
        control("compound")
    assert "--control" in refused.value.hint
    with pytest.raises(LayoutError, match="no well has the class 'water'"):
        control("compound", "water")


# ---- the course


class StoppedError(Exception):
    """The process was ended."""


def course(folder: Path, validation: list[float], stop_at: int | None = None) -> tuple[Lesson, list[int], int]:
    """A training whose validation losses are given; what it has done, and which step's weights it kept."""
    going = lesson(Recipe(steps=40, batch=4), sites(8, seed=0))
    done: list[int] = []

    def judge(module: torch.nn.Module) -> float:
        assert not module.training
        return validation[going.done // 2 - 1]

    def report(step: int) -> None:
        done.append(step)
        if step == stop_at:
            raise StoppedError

    found = attend(going, 40, judge, checkpoint=folder / "c", key="this", report=report)
    return going, done, found.best


def test_it_stops_when_the_validation_wells_get_no_better_and_keeps_the_best_weights(tmp_path: Path) -> None:
    _, done, best = course(tmp_path, [1.0, 0.5, *[0.6] * 18])
    assert best == 4
    assert done[-1] < 40


def test_it_goes_to_the_end_while_they_get_better(tmp_path: Path) -> None:
    _, done, best = course(tmp_path, [1.0 - look / 40 for look in range(20)])
    assert best == done[-1] == 40


def test_what_is_kept_is_the_running_mean_of_the_weights(tmp_path: Path) -> None:
    going, _, _ = course(tmp_path, [1.0 - look / 40 for look in range(20)])
    state = load_checkpoint(tmp_path / "c", "this")
    assert state is not None
    last, mean = state["lesson"]["network"]["head.weight"], state["mean"]["head.weight"]
    assert not torch.equal(last, mean)
    assert torch.equal(going.network.state_dict()["head.weight"], mean)


def test_a_training_that_was_ended_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    losses = [1.0 - look / 40 for look in range(20)]
    whole, _, _ = course(tmp_path, losses)
    ended = tmp_path / "ended"
    ended.mkdir()
    with pytest.raises(StoppedError):
        course(ended, losses, stop_at=21)
    again, done, _ = course(ended, losses)
    assert done[0] == 21  # from the last look on
    for name, weights in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], weights)


def test_a_checkpoint_of_another_training_or_a_broken_one_is_not_taken(tmp_path: Path) -> None:
    course(tmp_path, [1.0] * 20)
    assert load_checkpoint(tmp_path / "c", "this") is not None
    assert load_checkpoint(tmp_path / "c", "another") is None
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:100])
    assert load_checkpoint(tmp_path / "c", "this") is None
    assert load_checkpoint(tmp_path / "none", "this") is None


# ---- the controls


def on_a_plate(choose: NDArray[np.int64]) -> tuple[list[WellName], NDArray[np.float64]]:
    wells: list[WellName] = [("P1", position) for position in plate_wells(96)]
    assert len(choose) == len(wells)
    return wells, places(wells, SHAPES)


def test_position_alone_tells_a_layout_by_columns_and_no_mixed_one() -> None:
    columns = np.array([position.column in {1, 2, 11, 12} for position in plate_wells(96)]).astype(np.int64)
    _, spots = on_a_plate(columns)
    assert guess(columns, told_by(spots, columns, 0), 0).beats_chance
    mixed = np.random.default_rng(5).permutation(columns)
    assert not guess(mixed, told_by(spots, mixed, 0), 0).beats_chance


def test_a_guess_by_the_largest_class_alone_is_chance() -> None:
    true = np.array([0] * 30 + [1] * 3)
    found = guess(true, np.zeros(33, np.int64), 0)
    assert found.balanced == found.chance == 0.5
    assert not found.beats_chance
    assert found.right.value > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_of_wells_that_are_copies_of_learned_ones_are_known_and_of_others_not(seed: int) -> None:
    learn: list[WellName] = [("P1", position) for position in plate_wells(96)[:48]]
    copies: list[WellName] = [("P2", position) for _, position in learn]
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 2, 48)
    classes_of = {well: int(label) for wells in (learn, copies) for well, label in zip(wells, true, strict=True)}

    def by_heart(looks: NDArray[np.float64], twins: list[tuple[WellName, ...]]) -> bool:
        """Whether a network that answers with the nearest well that it learned is found out."""
        dealt = dealt_out(classes_of, learn, twins, seed)
        taught, asked = (np.array([dealt[well] for well in wells]) for wells in (learn, copies))
        nearest = ((looks[:, None] - learned[None]) ** 2).sum(axis=2).argmin(axis=1)
        return guess(asked, taught[nearest], seed).beats_chance

    learned = rng.normal(size=(48, 5))
    assert by_heart(learned, list(zip(learn, copies, strict=True)))
    assert not by_heart(rng.normal(size=(48, 5)), [])


def test_labels_are_dealt_out_over_all_wells_and_each_side_keeps_its_number() -> None:
    wells: list[WellName] = [("P1", position) for position in plate_wells(96)]
    classes_of = {well: int(place % 3 == 0) for place, well in enumerate(wells)}
    dealt = dealt_out(classes_of, wells[:60], [], seed=1)
    for side in (wells[:60], wells[60:]):
        assert sum(dealt[well] for well in side) == sum(classes_of[well] for well in side)
        assert any(dealt[well] != classes_of[well] for well in side)


def test_where_even_all_right_could_be_chance_it_is_not_called_chance() -> None:
    few, more = np.array([0, 0, 0, 0, 1, 1]), np.array([0] * 6 + [1] * 6)
    assert guess(few, few, 0).verdict == "too few wells to tell"
    assert guess(more, more, 0).verdict == "better than chance"
    assert guess(more, 1 - more, 0).verdict == "chance"


def test_hits_are_counted_with_the_right_class_and_falsely() -> None:
    said = np.array([[0.05, 0.95, 0], [0.1, 0.85, 0.05], [0.02, 0.08, 0.9], [0.95, 0.05, 0], [0.1, 0.9, 0]])
    right, falsely = hits(np.array([1, 1, 1, 0, 0]), said, 0.9)
    assert (right.hits, right.of) == (1, 3)
    assert (falsely.hits, falsely.of) == (1, 2)


def test_the_parts_of_a_plate_are_counted_apart() -> None:
    inner = np.array([2 < position.row < 7 and 2 < position.column < 11 for position in plate_wells(96)])
    wells, _ = on_a_plate(inner.astype(np.int64))
    found = strata(wells, inner, SHAPES)
    assert found["inside them"].value == 1.0
    assert found["the two outer rows and columns"].value == 0.0
    assert found["upper half"].of == found["lower half"].of == 48


# ---- the staining


def test_staining_is_measured_from_well_to_well_and_odd_wells_do_not_count() -> None:
    rng = np.random.default_rng(0)
    gains = np.exp(rng.normal(0.0, 0.2, 60))
    plain = rng.gamma(2.0, 300.0, (1, 64, 64))
    wells = [[(100 + gain * plain).astype(np.uint16)] for gain in gains]
    wells[7] = [np.full((1, 64, 64), 60000, np.uint16)]
    found = measure_staining(wells)
    assert found.bright_spread[0] == pytest.approx(0.2, rel=0.35)
    assert 100 < found.dark[0] < 200
    (rule,) = found.normalisation
    assert rule.kind == "asinh"
    assert rule.scale == pytest.approx(found.bright[0] / 3, abs=0.01)


# ---- the examples


def test_an_example_stands_beside_its_wells_name_and_below_its_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tiles = rng.integers(100, 1000, (2, 3, 40, 50)).astype(np.uint16)
    (path,) = draw(tmp_path, [Examples("DMSO", ("P1 A01", "P1 H12"), tiles)], ("DNA", "ER", "Mito")).values()
    sheet = np.asarray(Image.open(tmp_path / path))
    left, top = sheet.shape[1] - 3 * 54, sheet.shape[0] - 2 * 44
    assert left > 30
    for row in range(2):
        assert (sheet[top + row * 44 : top + row * 44 + 40, :left] < 128).any(), "the well's name"
    for column in range(3):
        low, high = np.percentile(tiles[:, column], (1.0, 99.7))
        assert (sheet[:top, left + column * 54 : left + column * 54 + 50] < 128).any(), "the channel's name"
        drawn = sheet[top + 44 : top + 84, left + column * 54 : left + column * 54 + 50]
        wanted = np.clip((tiles[1, column] - low) / (high - low), 0, 1) * 255
        assert np.abs(drawn - wanted).max() <= 1
