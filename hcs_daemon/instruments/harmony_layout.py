"""Harmony's assay layout, `Assaylayout/*.xml`: what the experimenter wrote into the wells.

    AssayLayout > PlateRows, PlateCols
                > Layer > Name, ValueType, Well > Row, Col, Value

A layer's name is the experimenter's own; those are read that say plainly what they are. Harmony has no field for a
unit, so that of a concentration stands in the layer's name (`Concentration [µM]`) or in the value (`10 nM`).
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.layout import concentration_um, unit_power
from hcs_daemon.plate import PlateLayout, WellContent, WellPosition

_LARGEST_BYTES = 1 << 25
"""A layout of 1536 wells in 20 layers has 5 MB."""
_COMPOUND = {"compound", "compound name", "compound id", "compounds", "substance", "drug"}
_ROLE = {"role", "sample type", "well type", "control", "control type"}
_KNOWN_ROLES = {"control", "reference", "treatment"}
_CONCENTRATION = re.compile(
    r"(?:compound |drug )?conc(?:entration|\.)?\s*(?:in |/ ?)?[\[(]?([^\[\]()]*)[\])]?", re.IGNORECASE
)


def read_assay_layout(path: Path) -> Manifest | None:
    """The plate's shape and what is in its wells; None when it is broken or says neither.

    Raises OSError when the file cannot be read.
    """
    data = path.read_bytes() if path.stat().st_size <= _LARGEST_BYTES else b""
    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return None
    wells = _wells(root)
    rows, columns = (_whole(root.findtext(f".//{{*}}{tag}")) for tag in ("PlateRows", "PlateCols"))
    if not (wells or rows or columns):
        return None
    source = f"{path.parent.name}/{path.name}"
    layout = PlateLayout(source, hashlib.sha256(data).hexdigest(), wells) if wells else None
    return Manifest(rows=rows, columns=columns, layout=layout)


def _wells(root: Element) -> dict[WellPosition, WellContent]:
    """Only wells with content: a concentration of zero alone is what Harmony fills an empty number with."""
    found: dict[WellPosition, dict[str, str]] = {}
    units = {}
    for layer in root.iterfind(".//{*}Layer"):
        what, unit = _meaning(layer.findtext("{*}Name") or "")
        if what and what not in units:
            units[what] = unit
            for position, value in _values(layer):
                found.setdefault(position, {})[what] = value
    contents = {position: _content(said, units.get("concentration", "")) for position, said in sorted(found.items())}
    return {position: content for position, content in contents.items() if content != WellContent()}


def _meaning(layer: str) -> tuple[str, str]:
    """What a layer of this name holds, and its unit; empty for what is not read."""
    name = " ".join(layer.replace("_", " ").split())
    folded = name.casefold()
    if folded in _COMPOUND:
        return "compound", ""
    if folded in _ROLE:
        return "role", ""
    match = _CONCENTRATION.fullmatch(name)
    return ("concentration", match[1]) if match and (not match[1] or _is_unit(match[1])) else ("", "")


def _is_unit(text: str) -> bool:
    try:
        unit_power(text)
    except ValueError:
        return False
    return True


def _values(layer: Element) -> Iterator[tuple[WellPosition, str]]:
    for well in layer.iterfind(".//{*}Well"):
        value = " ".join((well.findtext("{*}Value") or "").split())
        try:
            position = WellPosition(*(int(well.findtext(f"{{*}}{tag}") or "") for tag in ("Row", "Col")))
        except ValueError:
            continue
        if value:
            yield position, value


def _content(said: dict[str, str], unit: str) -> WellContent:
    compound, role = said.get("compound", ""), said.get("role", "")
    try:
        concentration = concentration_um(said.get("concentration", ""), unit)
    except ValueError:
        concentration = None
    if not (compound or role or concentration):
        return WellContent()
    return WellContent(compound, concentration, role.casefold() if role.casefold() in _KNOWN_ROLES else role)


def _whole(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) or None if text.isascii() and text.isdecimal() and len(text) <= 2 else None
