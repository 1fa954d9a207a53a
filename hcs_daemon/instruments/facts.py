"""What metadata says as text, made into facts: XML that is not trusted, numbers, pixel sizes, objectives."""

import math
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring


def xml_root(text: str) -> Element | None:
    """The root of an XML document that holds no entities of its own; None for anything else."""
    if "<" not in text:
        return None
    try:
        root = fromstring(text.strip().strip("\0"))
    except (ParseError, DefusedXmlException, ValueError, LookupError):  # the latter: no such encoding
        return None
    return root if isinstance(root, Element) else None


def local(element: Element) -> str:
    """An element's name without its namespace, whose year is nobody's business."""
    return str(element.tag).rpartition("}")[2]


def positive(text: str | None) -> float | None:
    """A finite number above zero; None for anything else."""
    try:
        value = float(text) if text else 0.0
    except ValueError:
        return None
    return value if value > 0 and math.isfinite(value) else None


def pixel_size(micrometres: float | None) -> float | None:
    """A pixel size that a microscope can have, rounded to a picometre; None for any other."""
    return round(micrometres, 6) if micrometres is not None and 0 < micrometres < 100 else None


def objective(magnification: float | None, aperture: float | None) -> str:
    """An objective in words, `20x, NA 0.4`; empty where nothing is known."""
    parts = [f"{magnification:g}x"] if magnification else []
    return ", ".join(parts + ([f"NA {aperture:g}"] if aperture else []))


def plate_side(text: str | None) -> int | None:
    """How many rows or columns a plate has; None for what no plate has."""
    return int(text) if text and text.isascii() and text.isdecimal() and 0 < int(text[:4]) <= 48 else None
