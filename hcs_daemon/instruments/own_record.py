"""What an instrument wrote into a plane's own tags about that plane, so that the plane can be held against it.

Every part may be absent: only what is said can be contradicted. Figures are kept as they were written, with as many
digits, for they bind to these only.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from hcs_daemon.records import PlaneConditions
from hcs_daemon.tiff import TiffTags

_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,30})?([eE][-+]?\d{1,2})?", re.ASCII)
_LONGEST_JSON = 4096
_ABSOLUTE_ZERO_C = -273.15
_FIGURES = {"min": "minimum", "max": "maximum", "mean": "mean", "stddev": "stddev"}


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """Where a plane was taken. where: the tag that says it. channel: its id, as in the names.

    time: as the tag counts time points, which may differ from the names by what is constant for a plate.
    """

    where: str
    row: int | None = None
    column: int | None = None
    site: int | None = None
    z: int | None = None
    time: int | None = None
    channel: str | None = None


@dataclass(frozen=True, slots=True)
class OwnFigures:
    """What the pixels were, in raw counts. where: the tag that says it. stddev: with n - 1."""

    where: str
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    mean: Decimal | None = None
    stddev: Decimal | None = None


@dataclass(frozen=True, slots=True)
class OwnDepth:
    """How many bits the camera gave. is_mode: it is how the camera was set, and not only the most there can be."""

    where: str
    bits: int
    is_mode: bool = False


@dataclass(frozen=True, slots=True)
class OwnRange:
    """Between which counts every pixel lies; neither need occur."""

    where: str
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class OwnForm:
    """How large the plane was written: pixels across and down, bits of the container."""

    where: str
    width: int | None = None
    height: int | None = None
    container_bits: int | None = None


@dataclass(frozen=True, slots=True)
class OwnRecord:
    """All that a plane's tags say of it.

    constant: topic -> what is said that all planes of the plate must say alike, such as a channel's name. conditions:
    how it was when the plane was taken.
    """

    address: OwnAddress | None = None
    figures: tuple[OwnFigures, ...] = ()
    depth: OwnDepth | None = None
    range: OwnRange | None = None
    form: OwnForm | None = None
    constant: Mapping[str, str] = field(default_factory=dict)
    conditions: PlaneConditions | None = None

    @property
    def or_none(self) -> "OwnRecord | None":
        """None where nothing is said."""
        return None if self == OwnRecord() else self


def conditions_of(taken_at: str, temperature_c: str = "") -> PlaneConditions | None:
    """When a plane was taken (ISO 8601) and its stage's temperature; None where neither is said so that it can be read.

    What is no number or cooler than absolute zero is no temperature.
    """
    try:
        taken = datetime.fromisoformat(taken_at)
    except ValueError:
        taken = None
    temperature = float(temperature_c) if _NUMBER.fullmatch(temperature_c) else None
    if temperature is not None and temperature < _ABSOLUTE_ZERO_C:
        temperature = None
    found = PlaneConditions(taken, temperature)
    return None if found == PlaneConditions() else found


def range_of(tags: TiffTags) -> OwnRange | None:
    """What the tags that every TIFF may have say of the range: MinSampleValue and MaxSampleValue (280, 281)."""
    if tags.least is None and tags.most is None:
        return None
    return OwnRange("its tags 280 and 281 say", tags.least, tags.most)


def figures_of_tags(tags: TiffTags) -> OwnFigures | None:
    """The extremes that SMinSampleValue and SMaxSampleValue (340, 341) say, where they are the plane's own."""
    if tags.sample_minimum is None and tags.sample_maximum is None:
        return None
    low, high = tags.sample_minimum, tags.sample_maximum
    return OwnFigures(
        "its tags 340 and 341 say", None if low is None else Decimal(low), None if high is None else Decimal(high)
    )


def figures_of_json(where: str, text: str) -> OwnFigures | None:
    """The figures in a JSON object of `min`, `max`, `mean` and `stddev`; None where there is none of them."""
    if not text or len(text) > _LONGEST_JSON:
        return None
    try:
        said = json.loads(text.strip("\0 \r\n\t"), parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    found = {
        name: Decimal(value)
        for key, name in _FIGURES.items()
        if isinstance(value := said.get(key), str) and _NUMBER.fullmatch(value)
    }
    return OwnFigures(where, **found) if found else None
