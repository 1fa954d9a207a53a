"""Harmony's index: every image of a measurement, how each channel is taken, how even its light is.

    EvaluationInputData > Plates > Plate > PlateID, MeasurementID, PlateRows, PlateColumns
                        > Maps > Map > Entry[ChannelID] > FlatfieldProfile; from V6 on the channel's facts too
                        > Images > Image > State, URL, Row, Col, FieldID, …; in V5 the channel's facts too

The schemas (V5, V6, V7) differ in namespace and in where the facts stand; both places are looked at in each. It is read
as a stream: that of 1536 wells holds more than a hundred megabytes. What is known of them beside the real files of the
tests is from readers of others: `OperettaReader` of ome/bioformats, EinarOlafsson/spacr, pyphenix.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from hcs_daemon.instruments import harmony_name
from hcs_daemon.instruments.facts import objective, pixel_size, positive
from hcs_daemon.instruments.flatfield import PolynomialProfile
from hcs_daemon.instruments.harmony_name import HarmonyName
from hcs_daemon.instruments.manifest import ImageKey, Manifest, Planes, both
from hcs_daemon.plate import WellPosition
from hcs_daemon.records import ChannelFacts

PIXEL_SIZES_AGREE = 0.02
"""Channels whose pixel sizes differ by at most this share have one in common."""
_HEAD = {"PlateID", "MeasurementID", "PlateRows", "PlateColumns"}
_ADDRESS = {"Row", "Col", "FieldID", "PlaneID", "TimepointID", "ChannelID", "RecordID", "ExposureID", "FlimID"}
_UNITS = {
    "ImageResolutionX": "m",
    "ExposureTime": "s",
    "MainExcitationWavelength": "nm",
    "MainEmissionWavelength": "nm",
}
"""The unit in which a value is understood; a value in another is left out."""
_FACTS = {"ChannelName", "MaxIntensity", "ObjectiveMagnification", "ObjectiveNA", *_UNITS}
_WANTED = {"URL", "State", "FlatfieldProfile", *_HEAD, *_ADDRESS, *_FACTS}
_PIECE_BYTES = 1 << 18
_LONGEST_TEXT = 1 << 16
"""Characters of one value that are looked at; the longest real one, a flat-field profile, has a thousand."""
_Found = dict[WellPosition, dict[ImageKey, set[int]]]


def read_index(path: Path) -> Manifest | None:
    """What an index of any schema promises, under the numbers of the file names; None when it is empty or broken.

    An image is where the file name in its URL says. Where that is none, its own numbers count: the channel is the
    RecordID where there is one; time points are moved as in the entries with names, else so that 0 is called 1. An
    entry without a file was not taken if its State is not `Ok`, or if others have files. The pixel size is one only
    where all channels agree (`PIXEL_SIZES_AGREE`); a flat field counts that is understood and of one channel.
    Raises OSError when the file cannot be read.
    """
    document = _read(path)
    if document is None or document.says_nothing:
        return None
    images, head = document.images, document.head
    planes, never = images.settled()
    channels = document.facts()
    return Manifest(
        planes=planes,
        never=never,
        may_grow=True,
        last=images.last(),
        rows=_whole(head.get("PlateRows"), 32),
        columns=_whole(head.get("PlateColumns"), 48),
        channels=channels,
        pixel_size_um=_in_common(channels.values()),
        flatfields=dict(document.flatfields(images.names)),
        plate_id=head.get("PlateID") or None,
        measurement_id=head.get("MeasurementID") or None,
    )


def read_profiles(path: Path) -> Manifest | None:
    """The corrections in `FFC_Profile/*.xml`, whose channel ids are those of the file names.

    None when it is broken or holds none that is understood. Raises OSError when it cannot be read.
    """
    document = _read(path)
    if document is None:
        return None
    found = dict(document.flatfields({id_: {id_} for id_ in document.entries}))
    return Manifest(flatfields=found) if found else None


def _read(path: Path) -> "_Document | None":
    document = _Document()
    parser = DefusedXMLParser(target=document, forbid_dtd=True)
    values = _Values(document, vars(parser)["parser"])
    try:
        with path.open("rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                parser.feed(piece)
                values.cut()
        parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError):  # the latter: no such encoding
        return None
    return document


class _Values:
    """Takes the wanted values out of a running expat parser, without making an object of each element."""

    def __init__(self, document: "_Document", expat: Any) -> None:
        self._document = document
        self._expat = expat
        self._names: dict[str, str] = {}
        self._pieces: list[str] = []
        self._fields = document.head
        self._entry = ""
        expat.ordered_attributes = False
        expat.DefaultHandlerExpand = None
        expat.StartElementHandler = self._start
        expat.EndElementHandler = self._end

    def cut(self) -> None:
        """Keep no more of an endless text than counts."""
        if len(self._pieces) > 1:
            self._pieces[:] = ["".join(self._pieces)[:_LONGEST_TEXT]]

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = self._names.get(tag)
        if name is None:
            name = self._names[tag] = tag.rpartition("}")[2]
        if name in _WANTED:
            self._pieces.clear()
            if name not in _UNITS or attributes.get("Unit", _UNITS[name]) == _UNITS[name]:
                self._expat.CharacterDataHandler = self._pieces.append
        elif name in {"Image", "Entry"}:
            self._fields = {}
            self._entry = attributes.get("ChannelID", "")

    def _end(self, tag: str) -> None:
        name = self._names[tag]
        if name in _WANTED:
            self._expat.CharacterDataHandler = None
            self._fields.setdefault(name, "".join(self._pieces)[:_LONGEST_TEXT].strip())
        elif name == "Image":
            if self._fields:  # a well's list of its images' ids has none
                self._document.note_image(self._fields)
            self._fields = self._document.head
        elif name == "Entry":
            self._document.note_entry(self._entry, self._fields)
            self._fields = self._document.head


class _Document:
    """What has been read so far. head: the plate's values. entries: ChannelID -> what Maps say of it."""

    def __init__(self) -> None:
        self.head: dict[str, str] = {}
        self.images = _Images()
        self.entries: dict[str, dict[str, str]] = {}
        self._taken: dict[str, ChannelFacts] = {}

    @property
    def says_nothing(self) -> bool:
        """Whether it holds neither an image nor a word on the plate or its channels."""
        return not (self.head or self.entries or self.images.names)

    def note_image(self, fields: dict[str, str]) -> None:
        channel = self.images.note(fields)
        if channel and channel not in self._taken:
            self._taken[channel] = _facts(channel, fields)

    def note_entry(self, channel_id: str, fields: dict[str, str]) -> None:
        known = self.entries.setdefault(_plain(channel_id), {})
        known.update({name: text for name, text in fields.items() if name not in known})

    def facts(self) -> dict[str, ChannelFacts]:
        """Channel id -> its facts, by its first image and by the entry that is of it alone."""
        found = dict(self._taken)
        for channel, fields in _of_one_channel(self.entries, self.images.names):
            found[channel] = both(found[channel], _facts(channel, fields))
        return {channel: facts for channel, facts in found.items() if facts != ChannelFacts(id=channel)}

    def flatfields(self, names: Mapping[str, set[str]]) -> Iterator[tuple[str, PolynomialProfile]]:
        """The corrections that are understood, by channel id. names: ChannelID -> channel ids in file names."""
        for channel, fields in _of_one_channel(self.entries, names):
            profile = PolynomialProfile.parse(fields.get("FlatfieldProfile", ""))
            if profile is not None:
                yield channel, profile

    def close(self) -> None:
        """Nothing: the parser says that the document has ended."""


def _of_one_channel(
    entries: Mapping[str, dict[str, str]], names: Mapping[str, set[str]]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Channel id in the file names -> entry, where the entry is of one channel only and the channel of one entry."""
    claims = Counter(channel for id_ in entries for channel in names.get(id_, ()))
    for id_, fields in entries.items():
        channels = names.get(id_, set())
        if id_ and len(channels) == 1 and all(claims[channel] == 1 for channel in channels):
            yield next(iter(channels)), fields


@dataclass(frozen=True, slots=True)
class _Unnamed:
    """An image without a file name: what its own numbers say. name: all but its time, which is still TimepointID."""

    name: HarmonyName
    was_taken: bool
    lacks_file: bool


class _Images:
    """The images of a document. names: ChannelID -> channel ids in the file names."""

    def __init__(self) -> None:
        self.names: defaultdict[str, set[str]] = defaultdict(set)
        self._named: _Found = {}
        self._unnamed: list[_Unnamed] = []
        self._offsets: set[int] = set()
        self._last: HarmonyName | None = None
        self._last_is_named = False

    def note(self, fields: Mapping[str, str]) -> str:
        """Take an image in; the channel id of its name, empty where it is none that counts."""
        url = fields.get("URL", "")
        name, unnamed = _file_name(url), None
        if name is None:
            unnamed = _by_numbers(fields)
            if unnamed is None:
                return ""
            name = unnamed.name
        if not name.is_first:
            return ""
        if unnamed is None:
            _add(self._named, name)
            self._note_offset(name, fields)
        else:
            self._unnamed.append(unnamed)
        self.names[_plain(fields.get("ChannelID", ""))].add(name.channel)
        self._last, self._last_is_named = name, unnamed is None
        return name.channel

    def settled(self) -> tuple[Planes, Planes]:
        """Every plane, and those of them that were not taken."""
        some_have_files, offset = bool(self._named), self._offset()
        planes, never = self._named, _Found()
        waited_for = [
            image for image in self._unnamed if image.was_taken and not (image.lacks_file and some_have_files)
        ]
        for image in waited_for:
            _add(planes, image.name, offset)
        for image in self._unnamed:
            if _add(planes, image.name, offset):  # else it was taken after all, as another entry says
                _add(never, image.name, offset)
        return _shared(planes), _shared(never)

    def last(self) -> tuple[WellPosition, int] | None:
        """Well and time point of the last image in the document."""
        if self._last is None:
            return None
        return self._last.position, self._last.time + (0 if self._last_is_named else self._offset())

    def _note_offset(self, name: HarmonyName, fields: Mapping[str, str]) -> None:
        number = fields.get("TimepointID", "")
        if _is_number(number):
            self._offsets.add(name.time - int(number))

    def _offset(self) -> int:
        """What makes a TimepointID the name's time point: as where both are known, else 1 where they start at 0."""
        if len(self._offsets) == 1:
            return next(iter(self._offsets))
        return 1 if min((image.name.time for image in self._unnamed), default=1) == 0 else 0


def _file_name(url: str) -> HarmonyName | None:
    if not url:
        return None
    try:
        return harmony_name.parse(url.replace("\\", "/").rpartition("/")[2])
    except ValueError:
        return None


def _by_numbers(fields: Mapping[str, str]) -> _Unnamed | None:
    """None for an entry without an address: it promises nothing."""
    number = {name: int(fields[name]) for name in _ADDRESS & fields.keys() if _is_number(fields[name])}
    channel = number.get("RecordID", number.get("ChannelID"))
    if channel is None or not {"Row", "Col", "FieldID"} <= number.keys():
        return None
    try:
        position = WellPosition(number["Row"], number["Col"])
    except ValueError:
        return None
    name = HarmonyName(
        position,
        site=number["FieldID"],
        z=number.get("PlaneID", 1),
        channel=str(channel),
        time=number.get("TimepointID", 1),
        exposure=number.get("ExposureID", 1),
        flim=number.get("FlimID", 1),
    )
    if min(name.site, name.z) < 1:
        return None
    was_taken = fields.get("State", "").lower() in {"", "ok"}
    return _Unnamed(name, was_taken=was_taken, lacks_file=fields.get("URL") == "")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 6


def _plain(channel_id: str) -> str:
    """A ChannelID as `1`, whether it is written `1` or `01`."""
    return str(int(channel_id)) if _is_number(channel_id) else channel_id


def _add(found: _Found, name: HarmonyName, offset: int = 0) -> bool:
    """Whether it was not there yet."""
    steps = found.setdefault(name.position, {}).setdefault((name.site, name.time + offset, name.channel), set())
    if name.z in steps:
        return False
    steps.add(name.z)
    return True


def _shared(found: _Found) -> Planes:
    """The same, in which equal keys and equal z steps are one object: most wells of a plate are alike."""
    keys: dict[ImageKey, ImageKey] = {}
    steps: dict[frozenset[int], frozenset[int]] = {}
    return {
        position: {
            keys.setdefault(key, key): steps.setdefault(each, each)
            for key, each in ((key, frozenset(of)) for key, of in well.items())
        }
        for position, well in found.items()
    }


def _facts(channel: str, fields: Mapping[str, str]) -> ChannelFacts:
    metres, exposure_s = positive(fields.get("ImageResolutionX")), positive(fields.get("ExposureTime"))
    return ChannelFacts(
        id=channel,
        name=fields.get("ChannelName", ""),
        excitation_nm=positive(fields.get("MainExcitationWavelength")),
        emission_nm=positive(fields.get("MainEmissionWavelength")),
        exposure_ms=round(exposure_s * 1e3, 6) if exposure_s else None,
        pixel_size_um=pixel_size(metres * 1e6) if metres else None,
        objective=objective(positive(fields.get("ObjectiveMagnification")), positive(fields.get("ObjectiveNA"))),
        bit_depth=_bits(fields.get("MaxIntensity", "")),
    )


def _bits(largest: str) -> int | None:
    """The bits of a largest value that is all ones: 4095 has 12."""
    value = int(largest) if _is_number(largest) else 0
    return value.bit_length() if value > 0 and value & (value + 1) == 0 else None


def _whole(text: str | None, largest: int) -> int | None:
    value = int(text) if text and _is_number(text) else 0
    return value if 1 <= value <= largest else None


def _in_common(channels: Iterable[ChannelFacts]) -> float | None:
    sizes = [facts.pixel_size_um for facts in channels if facts.pixel_size_um]
    if not sizes or max(sizes) > min(sizes) * (1 + PIXEL_SIZES_AGREE):
        return None
    return sizes[0]
