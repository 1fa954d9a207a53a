"""Words that fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.publish.lettering import ELLIPSIS, clean, elide, font, width, wrap, wrap_all

WORDS = st.text(max_size=300)
ROOM = st.integers(1, 600)


@given(WORDS, ROOM, st.booleans())
def test_what_is_cut_fits_and_says_so(words: str, room: int, bold: bool) -> None:  # noqa: FBT001 (hypothesis)
    cut = elide(words, room, 18, bold=bold)
    assert not cut or width(cut, 18, bold=bold) <= room
    assert cut in {clean(words), ""} or cut.endswith(ELLIPSIS)


@given(WORDS, st.integers(30, 600), st.integers(1, 5))
def test_every_line_fits_and_there_are_no_more_than_asked(words: str, room: int, most: int) -> None:
    lines = wrap(words, room, 18, most_lines=most)
    assert len(lines) <= most
    assert all(width(line, 18) <= room for line in lines)


@given(st.lists(st.from_regex(r"\A[a-zäµ²]{1,8}\Z"), min_size=1, max_size=30))
def test_nothing_is_lost_where_there_is_room(words: list[str]) -> None:
    assert " ".join(wrap(" ".join(words), 200, 18, most_lines=100)) == " ".join(words)


def test_a_word_longer_than_a_line_is_broken() -> None:
    lines = wrap("a" * 100, 200, 18, most_lines=100)
    assert len(lines) > 1
    assert "".join(lines) == "a" * 100


@given(st.lists(st.text(min_size=1, max_size=80), max_size=40), st.integers(2, 12))
def test_paragraphs_without_room_are_counted(paragraphs: list[str], most: int) -> None:
    lines = wrap_all(paragraphs, 300, 18, most_lines=most)
    assert len(lines) <= most
    assert all(width(line, 18) <= 300 for line in lines)


def test_the_count_is_of_what_is_not_there() -> None:
    assert wrap_all([f"warning {number}" for number in range(30)], 300, 18, most_lines=4) == [
        "warning 0",
        "warning 1",
        "warning 2",
        "and 27 more",
    ]


def test_line_breaks_and_what_cannot_be_printed_become_spaces() -> None:
    assert clean("a\nb\x00c\udc80d\t e") == "a b c d e"


@pytest.mark.parametrize("letter", ["µ", "\N{EN DASH}", "²", "→", "±", "≈", "\N{MINUS SIGN}", "…", "“", "ä", "Ü", "ß"])
def test_the_font_has_the_letters_that_pages_use(letter: str) -> None:
    absent = font(40).getmask("\U000f0000")
    drawn = font(40).getmask(letter)
    assert np.asarray(drawn).any()
    assert (drawn.size, bytes(drawn)) != (absent.size, bytes(absent))


def test_letters_without_width_are_not_lost_in_silence() -> None:
    marks = "a" + 500 * "\N{COMBINING GRAVE ACCENT}"
    assert elide(marks, 60, 18).endswith(ELLIPSIS)
    assert wrap(marks, 60, 18, most_lines=2)[-1].endswith(ELLIPSIS)
