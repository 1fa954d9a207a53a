"""Whatever a plate is called, its results stay in a folder of their own inside the results folder."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hcs_daemon.plate import AcquisitionId
from hcs_daemon.publish.names import plate_folder, safe_name

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)
HOSTILE = [
    *("", ".", "..", "../../etc/passwd", "/etc", "a/b", "a\\b", "C:\\x", ".hidden", "end.", " "),
    *("a\0b", "a\nb", "$(rm -rf ~)", "'\"", "~", "\udc80", "x" * 4096),
    *("CON", "con.tiff", "LPT1 ", "ledger.jsonl", "Rejected.JSONL"),
]


@given(ANY_TEXT, ANY_TEXT)
@settings(max_examples=200, deadline=None)
def test_no_name_leaves_the_results_folder(plate: str, acquisition: str) -> None:
    _check_stays_inside(plate, acquisition)


@pytest.mark.parametrize("name", HOSTILE)
def test_nor_does_a_hostile_one(name: str) -> None:
    _check_stays_inside(name, name)


def _check_stays_inside(plate: str, acquisition: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        made = plate_folder(results, AcquisitionId(plate, acquisition))
        made.mkdir(parents=True)  # the file system takes the name
        assert made.resolve().parent.parent == results.resolve()
        assert [found.name for found in Path(folder).iterdir()] == ["results"]


@given(ANY_TEXT, ANY_TEXT)
@example("a/b", "a%2Fb")
@example("CON", "%43ON")
@example("", "%")
@example("x" * 400, "x" * 401)
@settings(max_examples=300)
def test_two_names_never_share_a_folder(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


@pytest.mark.parametrize("name", ["BR00143976", "Plate 3 (repeat)", "2026-11-24T10_33_12-Measurement 1", "Größe+1"])
def test_a_plain_name_stays_as_it_is(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize("name", ["ledger.jsonl", "REJECTED.jsonl"])
def test_no_plate_takes_the_place_of_the_results_folders_own_files(name: str) -> None:
    assert safe_name(name).casefold() not in {"ledger.jsonl", "rejected.jsonl"}


def test_a_long_name_is_cut_and_keeps_its_beginning() -> None:
    cut = safe_name("plate " + "é" * 200)
    assert cut.startswith("plate éé")
    assert len(cut.encode()) <= 180
