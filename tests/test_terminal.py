"""Tables for people, where no terminal colours them."""

import pytest

from hcs_daemon.terminal import Column, counted, progress_bar, show_table


def test_a_table_is_plain_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(
        "Wells", [Column("well"), Column("planes", right=True), Column("says")], [["B03", 5, "fine"], ["B4", 12, ""]]
    )
    assert capsys.readouterr().out.splitlines() == [
        "Wells",
        "  well  planes  says",
        "  B03        5  fine",
        "  B4        12",
    ]


def test_there_is_no_bar_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("planes") as advance:
        advance(1, 2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("number", "said"), [(0, "0 wells"), (1, "1 well"), (2, "2 wells")])
def test_things_are_counted_as_a_person_would(number: int, said: str) -> None:
    assert counted(number, "well") == said
