"""`MeasurementData.mlf`: what a CellVoyager took of a plate, written while it does.

A `MeasurementRecord` of type `IMG` names the plane's file. One of type `ERR` is something that was not taken: a failed
autofocus names row, column and time point and has no `FieldIndex`, `ZIndex` or `Ch`, and its text is no file name but
`AF Error at C14 No. 0 (...)` (fractal-uzh-converters, tests of its Yokogawa readers, after its issue 41; Bio-Formats,
`CV7000Reader`, leaves them out). What such a record does not say is taken from what the plate's other records say.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from hcs_daemon.instruments.cellvoyager_name import NAME, channel_id
from hcs_daemon.instruments.manifest import ImageKey, Manifest, Planes
from hcs_daemon.plate import WellPosition

_RECORD = "MeasurementRecord"
_ROOT = "MeasurementData"
_Images = dict[ImageKey, set[int]]


def read_records(path: Path) -> Manifest | None:
    """The planes recorded so far, without holding the file in memory; None for a file of another kind.

    One that ends early, for it is being written, promises what it names. Raises OSError when it cannot be read.
    """
    log = _Log()
    try:
        with path.open("rb") as stream:
            for record in _records(stream):
                log.note(record)
    except ParseError:
        if log.last is None:
            return None
    except (DefusedXmlException, ValueError, LookupError):  # the latter: no such encoding
        return None
    return log.manifest()


def _records(stream: BinaryIO) -> Iterator[Element]:
    """Each record in turn, gone at the next. Raises ValueError when the root is another, ParseError at broken text."""
    root: Element | None = None
    for event, element in iterparse(stream, events=("start", "end")):
        if root is None:
            root = element
            if not str(element.tag).endswith(_ROOT):
                raise ValueError(f"its root is {element.tag}")
        elif event == "end" and str(element.tag).endswith(_RECORD):
            yield element
            root.clear()


@dataclass(frozen=True, slots=True)
class _Failure:
    """A record of what was not taken; None for what it does not say."""

    position: WellPosition
    time: int | None
    site: int | None
    channel: str | None
    z: int | None


@dataclass(slots=True)
class _Log:
    """All records of a plate. Owned by `read_records`. Equal keys are kept once: a plate repeats them in each well."""

    last: tuple[WellPosition, int] | None = None
    taken: dict[WellPosition, _Images] = field(default_factory=dict)
    failures: list[_Failure] = field(default_factory=list)
    keys: dict[ImageKey, ImageKey] = field(default_factory=dict)
    steps: dict[frozenset[int], frozenset[int]] = field(default_factory=dict)

    def note(self, record: Element) -> None:
        """A record without a well promises nothing."""
        said = _Said(record)
        try:
            if said.text("Type") == "ERR":
                self._fail(said)
            else:
                self._take(said, record.text or "")
        except ValueError:  # on no plate, or no number
            return

    def manifest(self) -> Manifest:
        """What they promise together."""
        never = self._never()
        planes: dict[WellPosition, dict[ImageKey, frozenset[int]]] = {
            position: {
                key: self._shared(steps | never.get(position, {}).get(key, set())) for key, steps in images.items()
            }
            for position, images in self.taken.items()
        }
        for position, images in never.items():
            well = planes.setdefault(position, {})
            for key, steps in images.items():
                well.setdefault(self._key(key), self._shared(steps))
        return Manifest(planes=planes, never=self._frozen(never), may_grow=True, last=self.last)

    def _take(self, said: "_Said", text: str) -> None:
        """By the file's name, which is what will be read, else by the attributes."""
        groups = NAME.groups(text.strip().replace("\\", "/").rpartition("/")[2])
        if groups is not None:
            position = WellPosition.parse(groups[0])
            time, site, z, channel = map(int, groups[1:])
        else:
            position = said.position()
            time, site, z, channel = (said.number(name) or 1 for name in ("TimePoint", "FieldIndex", "ZIndex", "Ch"))
        key = self._key((site, time, channel_id(channel)))
        self.taken.setdefault(position, {}).setdefault(key, set()).add(z)
        self.last = position, time

    def _fail(self, said: "_Said") -> None:
        position, time, channel = said.position(), said.number("TimePoint"), said.number("Ch")
        name = None if channel is None else channel_id(channel)
        self.failures.append(_Failure(position, time, said.number("FieldIndex"), name, said.number("ZIndex")))
        self.last = position, time or 1

    def _never(self) -> dict[WellPosition, _Images]:
        """The planes of the failures that no later record has."""
        found: dict[WellPosition, _Images] = {}
        pattern = _Pattern(self.taken) if self.failures else _Pattern({})
        for failure in self.failures:
            for key, steps in pattern.covered(failure):
                missing = steps - self.taken.get(failure.position, {}).get(key, set())
                if missing:
                    found.setdefault(failure.position, {}).setdefault(key, set()).update(missing)
        return found

    def _frozen(self, wells: Mapping[WellPosition, _Images]) -> Planes:
        return {
            position: {self._key(key): self._shared(steps) for key, steps in images.items()}
            for position, images in wells.items()
        }

    def _key(self, key: ImageKey) -> ImageKey:
        return self.keys.setdefault(key, key)

    def _shared(self, steps: set[int]) -> frozenset[int]:
        frozen = frozenset(steps)
        return self.steps.setdefault(frozen, frozen)


class _Said:
    """A record's attributes, whatever the namespace is called."""

    def __init__(self, record: Element) -> None:
        self._attributes = record.attrib
        self._namespace = str(record.tag)[: -len(_RECORD)]

    def text(self, name: str) -> str:
        return self._attributes.get(self._namespace + name, "")

    def number(self, name: str) -> int | None:
        """A count from 1, None where there is none. Raises ValueError for what is no number."""
        text = self.text(name)
        number = int(text) if text else 0
        return number if number > 0 else None

    def position(self) -> WellPosition:
        """Raises ValueError where it is on no plate."""
        return WellPosition(self.number("Row") or 0, self.number("Column") or 0)


class _Pattern:
    """What is taken of a well, as the wells that were taken show it."""

    def __init__(self, taken: Mapping[WellPosition, _Images]) -> None:
        self._times: set[int] = set()
        self._stacks: dict[tuple[int, str], set[int]] = {}
        for images in taken.values():
            for (site, time, channel), steps in images.items():
                self._times.add(time)
                self._stacks.setdefault((site, channel), set()).update(steps)

    def covered(self, failure: _Failure) -> Iterator[tuple[ImageKey, set[int]]]:
        """The images that a failure speaks of, and their z steps."""
        sites = {failure.site} if failure.site is not None else {site for site, _ in self._stacks}
        channels = {failure.channel} if failure.channel is not None else {channel for _, channel in self._stacks}
        times = {failure.time} if failure.time is not None else self._times
        for site, channel, time in product(sites, channels, times):
            stack = self._stacks.get((site, channel), set())
            if failure.z is not None:
                yield (site, time, channel), {failure.z}
            elif stack:
                yield (site, time, channel), set(stack)
            elif failure.site is not None and failure.channel is not None:
                yield (site, time, channel), {1}
