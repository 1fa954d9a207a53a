"""The field's addresses: wells by name and by number, and how they sort."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.plate import PLATE_SHAPES, AcquisitionId, PlaneId, SiteId, WellId, WellPosition, plate_wells

PLATE = AcquisitionId("BR00143976", "1")
POSITIONS = st.builds(WellPosition, st.integers(1, 32), st.integers(1, 48))


@pytest.mark.parametrize(
    ("name", "row", "column"),
    [("A01", 1, 1), ("B03", 2, 3), ("H12", 8, 12), ("P24", 16, 24), ("Z01", 26, 1), ("AA01", 27, 1), ("AF48", 32, 48)],
)
def test_a_well_has_the_name_that_people_use(name: str, row: int, column: int) -> None:
    assert WellPosition(row, column).name == name
    assert WellPosition.parse(name) == WellPosition(row, column)


@pytest.mark.parametrize("name", ["b3", "B3", "b03", " B03 ", "B003"])
def test_case_zeros_and_space_around_a_well_do_not_matter(name: str) -> None:
    assert WellPosition.parse(name) == WellPosition(2, 3)


@pytest.mark.parametrize(
    "name", ["", "B", "3", "B0", "B00", "3B", "B-3", "B3.", "BA01", "AG01", "AAA1", "B٣", "B03B04"]
)
def test_what_is_no_well_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"well|plate"):
        WellPosition.parse(name)


@pytest.mark.parametrize("name", ["A49", "AF49", "A99"])
def test_a_column_on_no_plate_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is on no plate"):
        WellPosition.parse(name)


@pytest.mark.parametrize(("row", "column"), [(0, 1), (1, 0), (33, 1), (1, 49), (-1, 1)])
def test_a_position_on_no_plate_cannot_be_made(row: int, column: int) -> None:
    with pytest.raises(ValueError, match="is on no plate"):
        WellPosition(row, column)


@given(POSITIONS)
def test_a_name_leads_back_to_its_position(position: WellPosition) -> None:
    assert WellPosition.parse(position.name) == position


@given(st.lists(POSITIONS, unique=True))
def test_no_two_positions_share_a_name(positions: list[WellPosition]) -> None:
    assert len({position.name for position in positions}) == len(positions)


@given(st.text(max_size=6))
def test_any_text_is_a_well_or_a_value_error(text: str) -> None:
    try:
        position = WellPosition.parse(text)
    except ValueError:
        return
    assert WellPosition.parse(position.name) == position


def test_wells_sort_row_by_row() -> None:
    names = ["AA01", "B01", "A10", "A02"]
    assert [well.name for well in sorted(map(WellPosition.parse, names))] == ["A02", "A10", "B01", "AA01"]


@pytest.mark.parametrize("wells", PLATE_SHAPES)
def test_a_plate_has_all_its_wells_once_in_order(wells: int) -> None:
    positions = plate_wells(wells)
    assert len(set(positions)) == wells
    assert positions == sorted(positions)
    assert (positions[-1].row, positions[-1].column) == PLATE_SHAPES[wells]


def test_no_plate_has_another_number_of_wells() -> None:
    with pytest.raises(KeyError):
        plate_wells(100)


def test_only_later_time_points_show_in_a_wells_file_name() -> None:
    position = WellPosition(2, 3)
    assert WellId(PLATE, position).stem == "B03"
    assert WellId(PLATE, position, time=2).stem == "B03.t002"


def test_planes_sort_by_well_then_site_then_channel_then_z() -> None:
    well = WellId(PLATE, WellPosition(2, 3))
    planes = [
        PlaneId(SiteId(well, 1), "1", z=1),
        PlaneId(SiteId(well, 1), "1", z=2),
        PlaneId(SiteId(well, 1), "2", z=1),
        PlaneId(SiteId(well, 2), "1", z=1),
        PlaneId(SiteId(WellId(PLATE, WellPosition(2, 4)), 1), "1", z=1),
    ]
    assert sorted(planes[index] for index in (3, 0, 4, 2, 1)) == planes
    assert len(set(planes)) == len(planes)


def test_the_same_well_of_another_acquisition_is_another_well() -> None:
    position = WellPosition(2, 3)
    assert WellId(PLATE, position) != WellId(AcquisitionId("BR00143976", "2"), position)
