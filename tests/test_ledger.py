"""The ledger proves that no result was changed, removed or put in between afterwards."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.publish.ledger import FIRST, Ledger, LedgerReport, digest, read_chain, verify_ledger
from wells import NOON, Desktop, closed_well, lines


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A plate with two revisions of B03 and one of C01."""
    desk = Desktop(tmp_path)
    desk.publish(closed_well("B03"))
    desk.publish(closed_well("C01"))
    desk.publish(closed_well("B03", edition=2))
    desk.end()
    return desk.results


def test_a_line_a_revision_each_chained_to_the_one_before(results: Path) -> None:
    raw = (results / "ledger.jsonl").read_bytes().splitlines()
    found = [json.loads(line) for line in raw]
    assert [(line["number"], line["path"], line["revision"]) for line in found] == [
        (1, "P1/a1/wells/B03.json", 1),
        (2, "P1/a1/wells/C01.json", 1),
        (3, "P1/a1/wells/B03.json", 2),
    ]
    assert [line["previous"] for line in found] == [FIRST, *(hashlib.sha256(line).hexdigest() for line in raw[:2])]
    kept = ("revisions/B03.r1.json", "wells/C01.json", "wells/B03.json")
    assert [line["sha256"] for line in found] == [digest((results / "P1" / "a1" / name).read_bytes()) for name in kept]
    assert found[0]["time"] == "2026-01-01T12:00:00Z"


def test_an_untouched_folder_is_intact(results: Path) -> None:
    assert verify_ledger(results) == LedgerReport(3, None)


def test_a_folder_without_results_is_intact(tmp_path: Path) -> None:
    assert verify_ledger(tmp_path) == LedgerReport(0, None)


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"much_DNA", b"much_ER!"))


def remove(path: Path) -> None:
    path.unlink()


def without_line(number: int) -> Callable[[Path], None]:
    def drop(path: Path) -> None:
        raw = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(raw[: number - 1] + raw[number:]))

    return drop


def edited_line(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"revision":1', b'"revision":7', 1))


def swapped_lines(path: Path) -> None:
    one, two, three = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(two + one + three)


def junk(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"junk\n")


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def planted(path: Path) -> None:
    path.write_bytes(b"{}")


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        ("P1/a1/wells/C01.json", change, "P1/a1/wells/C01.json (revision 1) was changed"),
        ("P1/a1/wells/B03.json", remove, "P1/a1/wells/B03.json (revision 2) is not there"),
        ("P1/a1/revisions/B03.r1.json", change, "P1/a1/revisions/B03.r1.json (revision 1) was changed"),
        ("P1/a1/revisions/B03.r1.json", remove, "P1/a1/revisions/B03.r1.json (revision 1) is not there"),
        ("P1/a1/wells/D04.json", planted, "P1/a1/wells/D04.json is not in the ledger"),
        ("P1/a1/revisions/C01.r9.json", planted, "P1/a1/revisions/C01.r9.json is not in the ledger"),
        ("P1/a1/revisions/C01.r1.json", planted, "P1/a1/revisions/C01.r1.json (revision 1) was changed"),
        ("ledger.jsonl", without_line(1), "line 1 has the number 2"),
        ("ledger.jsonl", without_line(2), "line 2 has the number 3"),
        ("ledger.jsonl", without_line(3), "P1/a1/wells/B03.json (revision 1) was changed"),
        ("ledger.jsonl", edited_line, "line 2 does not follow from the line before"),
        ("ledger.jsonl", swapped_lines, "line 1 has the number 2"),
        ("ledger.jsonl", junk, "line 4 is not a ledger line"),
        ("ledger.jsonl", torn, "the last line is torn"),
    ],
)
def test_the_first_break_is_named(name: str, harm: Callable[[Path], None], said: str, results: Path) -> None:
    harm(results / name)
    report = verify_ledger(results)
    assert report.broken is not None
    assert report.broken.startswith(said)


@given(place=st.floats(0, 1, exclude_max=True), change_=st.integers(1, 255))
def test_no_changed_byte_of_a_line_goes_unnoticed(place: float, change_: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder))
        for number in range(3):
            ledger.append(f"P/a/wells/A{number + 1:02d}.json", 1, digest(b"%d" % number), NOON)
        path = Path(folder) / "ledger.jsonl"
        raw = bytearray(path.read_bytes())
        # of the last line, only what it stands for tells
        raw[int(place * (len(raw) - len(raw.splitlines()[-1]) - 1))] ^= change_
        path.write_bytes(bytes(raw))
        assert read_chain(path).broken is not None
        assert verify_ledger(Path(folder)).broken is not None


def test_a_revision_is_listed_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append("P/a/wells/B03.json", 1, "a" * 64, NOON)
    ledger.append("P/a/wells/B03.json", 1, "b" * 64, NOON)
    assert ledger.revisions("P/a/wells/B03.json") == {1: "a" * 64}
    assert len(lines(tmp_path / "ledger.jsonl")) == 1


def test_a_torn_line_is_cut_off_and_the_chain_goes_on(results: Path) -> None:
    torn(results / "ledger.jsonl")
    ledger = Ledger(results)
    assert ledger.repaired is not None
    assert ledger.chain.count == 2
    ledger.append("P1/a1/wells/B03.json", 2, digest((results / "P1/a1/wells/B03.json").read_bytes()), NOON)
    assert verify_ledger(results) == LedgerReport(3, None)


def test_a_broken_ledger_goes_on_after_its_last_line_and_stays_broken(results: Path) -> None:
    edited_line(results / "ledger.jsonl")
    before = (results / "ledger.jsonl").read_bytes()
    ledger = Ledger(results)
    assert ledger.chain.broken is not None
    ledger.append("P1/a1/wells/D04.json", 1, "d" * 64, NOON)
    after = (results / "ledger.jsonl").read_bytes()
    assert after.startswith(before)
    assert ledger.chain.count == 4
    report = verify_ledger(results)
    assert report.entries == 4
    assert report.broken is not None
    assert report.broken.startswith("line 2")
