"""What an experimenter put into the wells, from the files that laboratories keep, and concentrations in micromolar."""

import re
from decimal import Decimal

_POWERS = {"m": 6, "mm": 3, "um": 0, "nm": -3, "pm": -6, "fm": -9}
"""Unit, folded -> the power of ten that makes it micromolar."""
_LITRE = re.compile(r"(.?)mol(?:es?)?(?:/l|[ .·]?l(?:\^?-1|⁻¹))", re.IGNORECASE)
_AMOUNT = re.compile(r"([+-]?(?:\d[\d.,]*|[.,]\d+)(?:[eE][+-]?\d+)?)\s*(\D.*)?", re.DOTALL)
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+")
_NOT_SAID = {"", "-", "\u2013", "\u2014", "na", "n/a", "n.a.", "nan", "none", "null", "#n/a"}
KNOWN_UNITS = "M, mM, µM, uM, nM, pM"


def concentration_um(text: str, unit: str = "", *, decimal_comma: bool = False) -> float | None:
    """A concentration in micromolar from what a cell says (`10`, `10 µM`, `1e-5 M`), None where it says none.

    unit: of the cell's column, empty where that has none; a unit of the cell's own must be the same. Zero needs none.
    decimal_comma: whether a comma is sure to be a decimal sign; else `1,000` may be a thousand, and is refused.
    Raises ValueError, in words, for what is no amount, for a unit that is not molar, and where no unit is said.
    """
    text = text.strip()
    if text.casefold() in _NOT_SAID:
        return None
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a concentration such as 10 µM")
    amount = _number(match[1], decimal_comma=decimal_comma)
    power = _common_power(text, (match[2] or "").strip(), unit.strip())
    if power is None:
        if amount:
            raise ValueError(f"{text!r} has no unit, and nothing beside it says one")
        return 0.0
    return float(amount.scaleb(power))


def unit_power(unit: str) -> int:
    """The power of ten that makes a unit micromolar: 3 for mM. Upper and lower case are one, save a lone `m`.

    Raises ValueError, in words, for what is no molar unit.
    """
    plain = unit.strip().replace("µ", "u").replace("μ", "u")
    folded = _LITRE.sub(r"\1m", plain).casefold()
    if plain == "m" or folded not in _POWERS:
        raise ValueError(f"{unit.strip()!r} is not a unit of concentration known here ({KNOWN_UNITS})")
    return _POWERS[folded]


def _common_power(text: str, own: str, column: str) -> int | None:
    powers = {unit_power(unit) for unit in (own, column) if unit}
    if len(powers) > 1:
        raise ValueError(f"{text!r} is in another unit than the {column} beside it")
    return powers.pop() if powers else None


def _number(text: str, *, decimal_comma: bool) -> Decimal:
    if text.startswith("-"):
        raise ValueError(f"{text!r} is less than nothing")
    if not decimal_comma and _THOUSANDS.fullmatch(text):
        raise ValueError(f"{text!r} may be a thousand or a decimal fraction")
    if text.count(",") > 1 or ("," in text and "." in text):
        raise ValueError(f"{text!r} has more than one decimal sign")
    try:
        amount = Decimal(text.replace(",", "."))
        finite = float(amount.scaleb(6)) < float("inf")
    except ArithmeticError as error:
        raise ValueError(f"{text!r} is not a number") from error
    if not finite:
        raise ValueError(f"{text!r} is beyond all numbers")
    return amount
