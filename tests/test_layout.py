"""What is in the wells: concentrations in micromolar, and layouts in the shapes that laboratories keep them in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.layout import concentration_um

# ---- concentrations


@pytest.mark.parametrize(
    ("text", "unit", "micromolar"),
    [
        ("10", "µM", 10.0),
        ("10 µM", "", 10.0),  # the micro sign
        ("10 \u03bcM", "", 10.0),  # the Greek letter
        ("10 \u03bcM", "uM", 10.0),
        ("10uM", "", 10.0),
        ("0.1 nM", "", 1e-4),
        ("250", "pM", 2.5e-4),
        ("3 mM", "", 3000.0),
        ("1e-5 M", "", 10.0),
        ("1E-6", "M", 1.0),
        (" 10 ", " um ", 10.0),
        (".5", "NM", 5e-4),
        ("5 nmol/l", "", 5e-3),
        ("10 µmol/L", "uM", 10.0),
        ("0,5", "µM", 0.5),
        ("0,500", "µM", 0.5),
    ],
)
def test_a_concentration_is_read_with_its_unit(text: str, unit: str, micromolar: float) -> None:
    assert concentration_um(text, unit) == micromolar


@pytest.mark.parametrize("text", ["", "  ", "NA", "n/a", "nan", "-", "\u2014", "NULL"])
def test_a_cell_may_say_nothing(text: str) -> None:
    assert concentration_um(text) is None
    assert concentration_um(text, "µM") is None


@pytest.mark.parametrize("text", ["0", "0.0", "0,0", "0 nM"])
def test_zero_needs_no_unit(text: str) -> None:
    assert concentration_um(text) == 0.0


@pytest.mark.parametrize(
    ("text", "unit", "why"),
    [
        ("10", "", "no unit"),
        ("10 m", "", "not a unit"),  # milli, or molar
        ("10 mg/mL", "", "not a unit"),
        ("0.1 %", "", "not a unit"),
        ("10", "furlongs", "not a unit"),
        ("10 nM", "µM", "another unit"),
        ("-3", "µM", "less than nothing"),
        ("high", "µM", "not a concentration"),
        ("> 10 µM", "", "not a concentration"),
        ("1.2.3", "µM", "not a number"),
        ("1.000,5", "µM", "more than one decimal sign"),
        ("1,000", "µM", "a thousand or a decimal fraction"),
        ("1e999", "µM", "beyond all numbers"),
        ("1e99999999999999999999", "µM", "not a number"),
    ],
)
def test_what_is_not_sure_is_refused_and_never_guessed(text: str, unit: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        concentration_um(text, unit)


def test_where_commas_do_not_separate_they_are_decimal_signs() -> None:
    assert concentration_um("1,000", "µM", decimal_comma=True) == 1.0


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_what_is_written_in_micromolar_comes_back_to_the_last_bit(value: float) -> None:
    assert concentration_um(f"{value!r} µM") == value
