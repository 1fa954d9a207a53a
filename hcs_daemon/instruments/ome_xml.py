"""OME-XML, as it stands in OME-TIFF files and beside them: images, their planes in files, plates, channels.

The model is that of https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/specification.html. What changed between
the years is the namespace, `NumPlanes` (now `PlaneCount`) and units, whose defaults are those of the model.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import itemgetter
from xml.etree.ElementTree import Element

from hcs_daemon.instruments.facts import local, objective, pixel_size, positive, xml_root
from hcs_daemon.instruments.own_record import OwnDepth, OwnRecord, range_of
from hcs_daemon.plate import WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags

MAX_PAGES = 1_000_000
MAX_PLANES = 4_000_000
"""More planes than any file, and any plate, has; a document that claims more is damaged or hostile."""
_MICRO = ("\u00b5m", "\u03bcm", "um", "micron", "microns")
_MICROMETRES = {"pm": 1e-6, "\u00c5": 1e-4, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6} | dict.fromkeys(_MICRO, 1.0)
_MILLISECONDS = {"ns": 1e-6, "\u00b5s": 1e-3, "\u03bcs": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4}
_WHOLE = re.compile(r"\d{1,12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TiffData:
    """Planes of an image that follow each other in a file.

    file, uuid: of the file; empty for the one that the document stands in. ifd: the first page; None: not said.
    first: channel, z and time of its plane, from 0. count: how many pages; None: all that the image has left.
    """

    file: str
    uuid: str
    ifd: int | None
    first: tuple[int, int, int]
    count: int | None


@dataclass(frozen=True, slots=True)
class OmePlane:
    """One page. Channel, z and time count from 0."""

    image: "OmeImage"
    channel: int
    z: int
    time: int


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One field of view. order: such as `CZT`, fastest first. sizes: of channel, z and time."""

    id: str
    name: str
    order: str
    sizes: tuple[int, int, int]
    channels: tuple[ChannelFacts, ...]
    data: tuple[TiffData, ...]


@dataclass(frozen=True, slots=True)
class OmePlace:
    """Where on the plate an image is. rank: which of the well's samples, from 1, by their index.

    index: as the document has it, from 0. of: how many samples the well has.
    """

    position: WellPosition
    rank: int
    index: int
    of: int


@dataclass(frozen=True, slots=True)
class OmeDocument:
    """A whole document. places: image id -> place. elsewhere: the file that holds the metadata, if another does."""

    uuid: str
    images: tuple[OmeImage, ...]
    places: Mapping[str, OmePlace] = field(default_factory=dict)
    rows: int | None = None
    columns: int | None = None
    plate: str = ""
    elsewhere: str = ""


def read_ome(text: str) -> OmeDocument | None:
    """The document in a text; None where it is no OME-XML, or contradicts the model."""
    try:
        return parse_ome(text)
    except ValueError:
        return None


@lru_cache(maxsize=2)  # one file's text is asked for several times in a row, and each plate's is large
def parse_ome(text: str) -> OmeDocument:
    """The document in a text. Raises ValueError, in words, where it is no OME-XML or contradicts the model."""
    root = xml_root(text) if "OME" in text else None
    if root is None or local(root) != "OME":
        raise ValueError("its description holds no OME-XML")
    only = root.find("{*}BinaryOnly")
    elements = root.findall("{*}Image")
    ids = [each.get("ID") or f"image {number}" for number, each in enumerate(elements)]
    if len(set(ids)) < len(ids):
        raise ValueError("its OME-XML calls two images alike")
    objectives = {each.get("ID", ""): _objective(each) for each in root.iter() if local(each) == "Objective"}
    plate = root.find("{*}Plate")
    images = tuple(_image(id_, each, objectives) for id_, each in zip(ids, elements, strict=True))
    if sum(_most(each) for each in images) > MAX_PLANES:
        raise ValueError(f"its OME-XML speaks of more than {MAX_PLANES} planes")
    return OmeDocument(
        uuid=root.get("UUID", ""),
        images=images,
        places={} if plate is None else dict(_places(plate)),
        rows=None if plate is None else _number(plate, "Rows", 0) or None,
        columns=None if plate is None else _number(plate, "Columns", 0) or None,
        plate="" if plate is None else plate.get("Name", ""),
        elsewhere="" if only is None else only.get("MetadataFile", "another file"),
    )


def planes_of(image: OmeImage, data: TiffData) -> Iterator[OmePlane]:
    """The planes of a run of pages, in order."""
    sizes = dict(zip("CZT", image.sizes, strict=True))
    first = dict(zip("CZT", data.first, strict=True))
    total = math.prod(image.sizes)
    start, stride = 0, 1
    for axis in image.order:
        if first[axis] >= sizes[axis]:
            raise ValueError(f"its OME-XML says First{axis}={first[axis]} where Size{axis} is {sizes[axis]}")
        start += first[axis] * stride
        stride *= sizes[axis]
    last = total if data.count is None else min(total, start + data.count)
    for number in range(start, last):
        at, rest = {}, number
        for axis in image.order:
            rest, at[axis] = divmod(rest, sizes[axis])
        yield OmePlane(image, at["C"], at["Z"], at["T"])


def pages_of(document: OmeDocument, name: str) -> list[OmePlane | None]:
    """What each page of the file `name` is; None for a page that the document does not speak of.

    Raises ValueError, in words, where it speaks of other files only, or twice of one page.
    """
    mine = _OfFile(document, name)
    pages: dict[int, OmePlane] = {}
    for image in document.images:
        for data in image.data:
            if not mine(data):
                continue
            start = len(pages) if data.ifd is None else data.ifd
            for page, plane in enumerate(planes_of(image, data), start):
                if page >= MAX_PAGES:
                    raise ValueError(f"its OME-XML speaks of more than {MAX_PAGES} pages")
                if page in pages:
                    raise ValueError(f"its OME-XML speaks twice of page {page}")
                pages[page] = plane
    return [pages.get(page) for page in range(max(pages, default=-1) + 1)]


def files_of(document: OmeDocument) -> set[str]:
    """The files that the document names."""
    return {data.file for image in document.images for data in image.data if data.file}


def read_own_record(tags: TiffTags) -> OwnRecord | None:
    """What a plane's tags say of it: the bits that the OME-XML calls significant, where it speaks of one depth only."""
    document = read_ome(tags.description)
    facts = None if document is None else facts_of_all(document)
    bits = None if facts is None else facts.bit_depth
    depth = None if bits is None else OwnDepth("its OME-XML (SignificantBits) says", bits)
    return OwnRecord(depth=depth, range=range_of(tags)).or_none


def facts_of_all(document: OmeDocument) -> ChannelFacts:
    """What is the same for all channels of all images."""
    found = [replace(each, id="", name="") for image in document.images for each in image.channels]
    if not found:
        return ChannelFacts()
    first = found[0]
    differing = [key for key in ChannelFacts.__dataclass_fields__ if len({getattr(each, key) for each in found}) > 1]
    return replace(first, **{key: getattr(ChannelFacts(), key) for key in differing})


class _OfFile:
    """Whether a run of pages is of this file: by the identifier that both carry, else by the file's name."""

    def __init__(self, document: OmeDocument, name: str) -> None:
        everything = [data for image in document.images for data in image.data]
        self._uuid = document.uuid if any(data.uuid == document.uuid for data in everything) else ""
        self._name = name.casefold()
        named = {_file(data) for data in everything if data.file}
        self._alone = len(named) <= 1  # a file that was renamed is still the one its document speaks of
        if not self._uuid and not self._alone and self._name not in named and all(data.file for data in everything):
            raise ValueError(
                f"its OME-XML speaks of other files, such as {min(named)}, and not of this one; was it renamed?"
            )

    def __call__(self, data: TiffData) -> bool:
        if not data.file and not data.uuid:
            return True
        if self._uuid and data.uuid:
            return data.uuid == self._uuid
        return self._alone or _file(data) == self._name


def _file(data: TiffData) -> str:
    return data.file.replace("\\", "/").rpartition("/")[2].casefold()


def _image(id_: str, element: Element, objectives: Mapping[str, str]) -> OmeImage:
    pixels = element.find("{*}Pixels")
    if pixels is None:
        raise ValueError(f"its OME-XML has an image {id_!r} without Pixels")
    settings = element.find("{*}ObjectiveSettings")
    if settings is None:
        settings = element.find("{*}ObjectiveRef")  # before 2012
    lens = objectives.get(settings.get("ID", ""), "") if settings is not None else ""
    sizes = (_number(pixels, "SizeC", 1), _number(pixels, "SizeZ", 1), _number(pixels, "SizeT", 1))
    samples = [_number(each, "SamplesPerPixel", 1) for each in pixels.findall("{*}Channel")]
    if samples and sum(samples) == sizes[0]:
        sizes = (len(samples), *sizes[1:])  # the samples of a colour camera share a page
    if not 0 < math.prod(sizes) <= MAX_PAGES:
        raise ValueError(f"its OME-XML has an image of {' x '.join(map(str, sizes))} channels, z steps and time points")
    order = pixels.get("DimensionOrder", "XYCZT").upper()
    if sorted(order) != sorted("XYCZT"):
        raise ValueError(f"its OME-XML says DimensionOrder={order!r}")
    data = tuple(map(_tiff_data, pixels.findall("{*}TiffData")))
    return OmeImage(
        id=id_,
        name=element.get("Name") or element.findtext("{*}Name") or "",
        order=order.replace("X", "").replace("Y", ""),
        sizes=sizes,
        channels=_channels(pixels, sizes[0], lens),
        data=data or (TiffData("", "", None, (0, 0, 0), None),),
    )


def _most(image: OmeImage) -> int:
    """How many planes its runs of pages hold at most, those that are named twice counted twice."""
    total = math.prod(image.sizes)
    return sum(total if data.count is None else min(total, data.count) for data in image.data)


def _tiff_data(element: Element) -> TiffData:
    uuid = element.find("{*}UUID")
    ifd, count = _optional(element, "IFD"), _optional(element, "PlaneCount")
    if count is None:
        count = _optional(element, "NumPlanes")  # before 2011
    if count is None and ifd is not None:
        count = 1
    return TiffData(
        file="" if uuid is None else uuid.get("FileName", ""),
        uuid="" if uuid is None else (uuid.text or "").strip(),
        ifd=0 if ifd is None and count is not None else ifd,
        first=(_number(element, "FirstC", 0), _number(element, "FirstZ", 0), _number(element, "FirstT", 0)),
        count=count,
    )


def _channels(pixels: Element, count: int, lens: str) -> tuple[ChannelFacts, ...]:
    """One entry a channel; its id is its name where no other has the same, else `C<index>`."""
    written = pixels.findall("{*}Channel")[:count]
    elements: list[Element | None] = [*written, *[None] * (count - len(written))]
    names = ["" if each is None else each.get("Name", "").strip() for each in elements]
    often = Counter(names)
    exposures: dict[int, float | None] = {}
    for plane in pixels.findall("{*}Plane"):
        exposures.setdefault(_number(plane, "TheC", 0), _scaled(plane, "ExposureTime", "s", _MILLISECONDS))
    bits = _number(pixels, "SignificantBits", 0) or None
    size = pixel_size(_scaled(pixels, "PhysicalSizeX", "\u00b5m", _MICROMETRES))
    return tuple(
        ChannelFacts(
            id=name if name and often[name] == 1 else f"C{index}",
            name=name,
            excitation_nm=_nanometres(element, "ExcitationWavelength"),
            emission_nm=_nanometres(element, "EmissionWavelength"),
            exposure_ms=exposures.get(index),
            pixel_size_um=size,
            objective=lens,
            bit_depth=bits,
        )
        for index, (name, element) in enumerate(zip(names, elements, strict=True))
    )


def _places(plate: Element) -> Iterator[tuple[str, OmePlace]]:
    for well in plate.findall("{*}Well"):
        samples = [
            (_number(sample, "Index", count), image.get("ID", ""))
            for count, sample in enumerate(well.findall("{*}WellSample"))
            if (image := sample.find("{*}ImageRef")) is not None
        ]
        if samples:
            position = WellPosition(_number(well, "Row", 0) + 1, _number(well, "Column", 0) + 1)
            for rank, (index, image_id) in enumerate(sorted(samples, key=itemgetter(0)), 1):
                yield image_id, OmePlace(position, rank, index, len(samples))


def _objective(element: Element) -> str:
    return objective(positive(element.get("NominalMagnification")), positive(element.get("LensNA")))


def _nanometres(element: Element | None, name: str) -> float | None:
    found = None if element is None else _scaled(element, name, "nm", _MICROMETRES)
    return None if found is None else round(found * 1e3, 3)


def _scaled(element: Element, name: str, default: str, units: Mapping[str, float]) -> float | None:
    value, factor = positive(element.get(name)), units.get(element.get(f"{name}Unit", default).strip())
    return round(value * factor, 9) if value is not None and factor is not None else None


def _number(element: Element, name: str, default: int) -> int:
    found = _optional(element, name)
    return default if found is None else found


def _optional(element: Element, name: str) -> int | None:
    text = element.get(name)
    if text is None:
        return None
    if not _WHOLE.fullmatch(text.strip()):
        raise ValueError(f"its OME-XML says {name}={text!r}")
    return int(text)
