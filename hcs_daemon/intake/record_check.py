"""A plane held against what its instrument wrote of it: address, figures, depth, range and form.

Whatever the two say differently is a `metadata_mismatch` with both values. What only the plate can tell, such as from
what number the tags count time points, is learned from its planes: `Constants`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from hcs_daemon.instruments.naming import PlaneAddress
from hcs_daemon.instruments.own_record import OwnAddress, OwnDepth, OwnFigures, OwnForm, OwnRange, OwnRecord
from hcs_daemon.intake.validation import Expected, Refusal
from hcs_daemon.plate import WellPosition
from hcs_daemon.records import Pixels, PlaneMeasures
from hcs_daemon.vocabulary import Reason

STDDEV_TOLERANCE = 1e-9
"""Relative. Instruments add up squares in floating point; the real files differ by at most 5e-13."""
_BLOCK_PIXELS = 1 << 20
"""So many squares of 16-bit values have a sum below 2**53, which a double holds exactly."""
_SWAPPED = "the file was renamed or changed places with another: give it its own name, or copy it again"
_CHANGED = (
    "something changed the pixels since the instrument wrote them: copy the file again, and find out what saves it"
)
_DEPTH = "correct expect.bit_depth, or set the camera to that depth"


@dataclass(frozen=True, slots=True)
class Moments:
    """Exact: how many pixels, their sum, and the sum of their squares."""

    count: int
    total: int
    squares: int

    @property
    def mean(self) -> float:
        """In counts."""
        return self.total / self.count

    @property
    def stddev(self) -> float:
        """In counts, with n - 1; 0 for a single pixel."""
        scatter = self.squares * self.count - self.total**2
        return math.sqrt(scatter / (self.count * max(1, self.count - 1)))


def moments(pixels: Pixels) -> Moments:
    """Of all pixels, (height, width) uint8 or uint16."""
    flat, total, squares = pixels.ravel(), 0, 0
    for start in range(0, flat.size, _BLOCK_PIXELS):
        block = flat[start : start + _BLOCK_PIXELS].astype(np.float64)
        total += int(block.sum())
        squares += int(np.square(block, out=block).sum())  # not np.dot: BLAS would start threads in each reader
    return Moments(flat.size, total, squares)


def contradiction(
    record: OwnRecord, address: PlaneAddress | None, pixels: Pixels, measures: PlaneMeasures, expected: Expected
) -> Refusal | None:
    """What a plane's own record says otherwise than its pixels, its name or the settings; None where nothing.

    address: by the name; None where it has none.
    """
    found = (
        _wrong_address(record.address, address) if record.address and address else None,
        _wrong_form(record.form, pixels) if record.form else None,
        next((wrong for each in record.figures if (wrong := _wrong_figures(each, pixels, measures))), None),
        _out_of_range(record.range, measures) if record.range else None,
        _wrong_depth(record.depth, measures, expected) if record.depth else None,
    )
    return next((each for each in found if each is not None), None)


def _mismatch(detail: str, hint: str, *, may_grow: bool = False) -> Refusal:
    return Refusal(Reason.METADATA_MISMATCH, detail, hint, may_grow=may_grow)


def _wrong_address(said: OwnAddress, named: PlaneAddress) -> Refusal | None:
    """By all parts but the time, which is counted as the plate counts it."""
    position = named.position
    agrees = said.row in {None, position.row} and said.column in {None, position.column}
    parts: list[tuple[str, object, object]] = [] if agrees else [("well", _well(said, position), position.name)]
    parts += [
        (what, here, there)
        for what, here, there in (
            ("site", said.site, named.site),
            ("z", said.z, named.z),
            ("channel", said.channel, named.channel),
        )
        if here is not None and here != there
    ]
    if not parts:
        return None
    by_tag = ", ".join(f"{what} {here}" for what, here, _ in parts)
    by_name = ", ".join(f"{what} {there}" for what, _, there in parts)
    return _mismatch(f"{said.where} {by_tag}, its name {by_name}", _SWAPPED)


def _well(said: OwnAddress, named: WellPosition) -> str:
    row, column = (
        here if here is not None else there for here, there in ((said.row, named.row), (said.column, named.column))
    )
    try:
        return WellPosition(row, column).name
    except ValueError:
        return f"of row {row}, column {column}"


def _wrong_form(said: OwnForm, pixels: Pixels) -> Refusal | None:
    height, width = pixels.shape
    parts = [
        (what, here, there)
        for what, here, there in (
            ("pixels across", said.width, width),
            ("pixels down", said.height, height),
            ("bits a pixel", said.container_bits, 8 * pixels.itemsize),
        )
        if here is not None and here != there
    ]
    if not parts:
        return None
    by_tag = ", ".join(f"{here} {what}" for what, here, _ in parts)
    by_file = ", ".join(f"{there}" for _, _, there in parts)
    return _mismatch(f"{said.where} {by_tag}, the file has {by_file}", _CHANGED)


def _wrong_figures(said: OwnFigures, pixels: Pixels, measures: PlaneMeasures) -> Refusal | None:
    """The extremes exactly; mean and deviation within the digits that are written, and within float rounding."""
    parts: list[tuple[str, Decimal, object]] = []
    parts += [
        (what, here, there)
        for what, here, there in (
            ("minimum", said.minimum, measures.minimum),
            ("maximum", said.maximum, measures.maximum),
        )
        if here is not None and here != there
    ]
    if said.mean is not None or said.stddev is not None:
        found = moments(pixels)
        if said.mean is not None and not _agree(said.mean, found.mean, 4 * math.ulp(found.mean)):
            parts.append(("mean", said.mean, found.mean))
        if said.stddev is not None and not _agree(said.stddev, found.stddev, STDDEV_TOLERANCE * found.stddev):
            parts.append(("deviation", said.stddev, found.stddev))
    if not parts:
        return None
    by_tag = ", ".join(f"{what} {here}" for what, here, _ in parts)
    by_pixels = ", ".join(f"{what} {there}" for what, _, there in parts)
    holes = measures.minimum == 0 and said.minimum != 0  # zeros may be what a copy has yet to fill
    return _mismatch(f"{said.where} {by_tag}, its pixels have {by_pixels}", _CHANGED, may_grow=holes)


def _agree(said: Decimal, found: float, rounding: float) -> bool:
    exponent = said.as_tuple().exponent
    last_digit = 10.0**exponent if isinstance(exponent, int) else 0.0
    return abs(float(said) - found) <= last_digit / 2 + rounding


def _out_of_range(said: OwnRange, measures: PlaneMeasures) -> Refusal | None:
    if said.most is not None and measures.maximum > said.most:
        return _mismatch(f"{said.where} values up to {said.most}, a pixel has {measures.maximum}", _CHANGED)
    if said.least is not None and measures.minimum < said.least:
        return _mismatch(f"{said.where} values from {said.least}, a pixel has {measures.minimum}", _CHANGED)
    return None


def _wrong_depth(said: OwnDepth, measures: PlaneMeasures, expected: Expected) -> Refusal | None:
    """A camera set to a depth has that depth; where only the most is said, a camera may use less of it."""
    depth = expected.bit_depth
    if depth is not None and (said.bits != depth if said.is_mode else said.bits < depth):
        return _mismatch(f"{said.where} {said.bits} bits, and expect.bit_depth is {depth}", _DEPTH)
    if measures.maximum >> said.bits:
        detail = f"{said.where} {said.bits} bits, so at most {(1 << said.bits) - 1}, and a pixel has {measures.maximum}"
        return _mismatch(detail, _CHANGED)
    return None


# ---- what only the plate can tell


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the plate makes of one plane's constants.

    refusal: where it stands against most others. look_again: names of planes that were judged by what counts no more.
    """

    refusal: Refusal | None = None
    look_again: tuple[str, ...] = ()


@dataclass(slots=True)
class Constants:
    """What all planes of a plate, or of a channel of it, say alike, learned by counting. Owned by the intake thread.

    What most say counts; between two as many the one that was there first. by_topic: topic -> what is said -> the names
    of the planes that say it. standing: topic -> what counts.
    """

    by_topic: dict[str, dict[str, dict[str, None]]] = field(default_factory=dict)
    standing: dict[str, str] = field(default_factory=dict)

    def note(self, name: str, said: Mapping[str, str]) -> Ruling:
        """Count a plane in, and judge it. name: its path. said: as `constants_of`."""
        refusal, again = None, list[str]()
        for topic, value in said.items():
            votes = self.by_topic.setdefault(topic, {})
            before = self.standing.get(topic)
            for names in votes.values():
                names.pop(name, None)
            votes.setdefault(value, {})[name] = None
            now = self.standing[topic] = _most(votes, before)
            if before not in {None, now}:
                again += [each for names in votes.values() for each in names if each != name]
            if value != now and refusal is None:
                refusal = _against_the_plate(topic, value, now, len(votes[now]))
        return Ruling(refusal, tuple(dict.fromkeys(again)))

    def is_settled(self, topics: Iterable[str], votes: int) -> bool:
        """Whether so many planes agree on each of these topics."""
        return all(any(len(names) >= votes for names in self.by_topic.get(topic, {}).values()) for topic in topics)


def constants_of(record: OwnRecord | None, address: PlaneAddress | None) -> dict[str, str]:
    """Topic -> what a plane says that all others of its plate must say too."""
    return dict(_constants(record, address)) if record is not None else {}


def _constants(record: OwnRecord, address: PlaneAddress | None) -> Iterator[tuple[str, str]]:
    yield from record.constant.items()
    if record.address is not None and record.address.time is not None and address is not None:
        yield _TIME_TOPIC, f"{record.address.time - address.time:+d}"


_TIME_TOPIC = "the time point in the tag, less the one in the name,"


def _most(votes: Mapping[str, Mapping[str, None]], standing: str | None) -> str:
    """What most say, of several what stands. votes: not empty."""
    most = max(len(names) for names in votes.values())
    leading = [value for value, names in votes.items() if len(names) == most]
    return standing if standing is not None and standing in leading else leading[0]


def _against_the_plate(topic: str, here: str, there: str, planes: int) -> Refusal:
    return _mismatch(f"{topic} is {here}, and {there} in the {planes} planes of the plate that agree", _SWAPPED)
