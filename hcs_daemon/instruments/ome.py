"""OME-TIFF, Micro-Manager's among them: several planes in a file, and the OME-XML inside says which.

Where it has a plate, its wells and their samples tell the well and the site of each image: the site is the sample's
place in the well by its index, which some writers count through the whole plate. Where it has none, the image's name
tells (`B3-Site_0`, as Micro-Manager calls positions of a plate), else the file's (`Plate1_B03_s1.ome.tif`).
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from hcs_daemon.instruments.manifest import ImageKey, Manifest, both
from hcs_daemon.instruments.naming import (
    FileKind,
    Grammar,
    OnePlaneAFile,
    PlaneAddress,
    Reading,
    is_no_data,
    measurement_name,
)
from hcs_daemon.instruments.ome_xml import (
    OmeDocument,
    OmeImage,
    OmePlane,
    facts_of_all,
    files_of,
    pages_of,
    parse_ome,
    planes_of,
    read_ome,
    read_own_record,
)
from hcs_daemon.instruments.own_record import OwnRecord
from hcs_daemon.plate import AcquisitionId, WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags

_EXAMPLE = "Plate1_B03_s1.ome.tif"
_NAME = Grammar("an OME-TIFF", (("name", r".+?"), ("ending", r"\.ome\.tiff?")), _EXAMPLE)
_COMPANION = re.compile(r".+\.companion\.ome", re.IGNORECASE | re.DOTALL)
_NO_PLANES = {".xml", ".txt", ".csv", ".json", ".ome"}
_BEFORE, _AFTER = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
_WELL = r"((?:A[A-F]|[A-Z])(?:0?[1-9]|[1-3]\d|4[0-8]))"
_SITE = r"(?:(?i:site|field|fov|fld|pos)[ _#-]*|[sf])(\d{1,5})"
_BOTH = re.compile(rf"{_BEFORE}(?:(?i:well)[ _-]?)?{_WELL}[ _-]+{_SITE}{_AFTER}")
_NAMED_WELL = re.compile(rf"{_BEFORE}(?i:well[ _-]?{_WELL}){_AFTER}")
_BARE_WELL = re.compile(rf"{_BEFORE}(?![TZ]\d){_WELL}{_AFTER}")
"""A bare `T01` or `Z01` is a time point or a z step, where neither a site nor the word `well` stands beside it."""
_BARE_SITE = re.compile(rf"{_BEFORE}{_SITE}{_AFTER}")
_REMEDY = (
    "name files like Plate1_B03_s1.ome.tif, or write a Plate into the OME-XML; or export one plane a file and set "
    'watch.instrument = "pattern"'
)

_Place = tuple[WellPosition, int]


class OmeTiff(OnePlaneAFile):
    """Names of OME-TIFF files, and what the OME-XML inside and beside them says."""

    name = "ome"
    example = _EXAMPLE

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:  # noqa: ARG002 (what is inside says the rest)
        """What the file at `path` is, by its name alone: a bundle, whose well is told by what is inside."""
        if is_no_data(path):
            return Reading(FileKind.NO_DATA)
        if _COMPANION.fullmatch(path.name):
            return Reading(FileKind.METADATA)
        if _NAME.groups(path.name) is not None:
            return Reading(FileKind.BUNDLE)
        return Reading(FileKind.NO_DATA) if path.suffix.lower() in _NO_PLANES else _NAME.misfit(path.name)

    def plane_path(self, address: PlaneAddress) -> PurePosixPath:
        """`<plate>__<acquisition>/<plate>_B03_s1.ome.tif`: a file holds all planes of a site."""
        name = f"{address.acquisition.plate}_{address.position.name}_s{address.site}.ome.tif"
        return PurePosixPath(measurement_name(address.acquisition), name)

    def read_metadata(self, path: Path) -> Manifest | None:
        """What a companion file promises; None for one that is broken or no companion."""
        if not _COMPANION.fullmatch(path.name):
            return None
        document = read_ome(path.read_bytes().decode("utf-8", errors="replace"))
        return None if document is None else bundle_manifest(document)

    def read_tags(self, path: PurePosixPath, tags: TiffTags) -> ChannelFacts | None:  # noqa: ARG002 (they are of all pages)
        """What is the same for all channels: pixel size, objective, bit depth."""
        document = read_ome(tags.description)
        return None if document is None else facts_of_all(document)

    def read_record(self, path: PurePosixPath, tags: TiffTags) -> OwnRecord | None:  # noqa: ARG002 (the tags say it all)
        """The significant bits in OME-XML, beside the tags that any TIFF may have."""
        return read_own_record(tags)

    def read_bundle(self, root_name: str, path: PurePosixPath, tags: TiffTags) -> Sequence[PlaneAddress | None]:
        """The address of each page; None for one that the OME-XML does not speak of. Raises ValueError, in words."""
        document = parse_ome(tags.description)
        if document.elsewhere and not document.images:
            raise ValueError(
                f"its OME-XML stands in {document.elsewhere}, and not in this file; write all of it into each file"
            )
        acquisition = self.acquisition_of(root_name, path)
        pages = pages_of(document, path.name)
        images = {page.image.id: page.image for page in pages if page is not None}
        if not images:
            raise ValueError("its OME-XML speaks of no page")
        places = _places_in_file(document, list(images.values()), _label(path.name, acquisition.plate))
        return [None if page is None else _address(acquisition, places[page.image.id], page) for page in pages]

    def promise_of_bundle(self, tags: TiffTags) -> Manifest | None:
        """What the OME-XML promises of the whole acquisition, and how its channels are taken."""
        document = read_ome(tags.description)
        return None if document is None else bundle_manifest(document)


def bundle_manifest(document: OmeDocument) -> Manifest:
    """What a document promises beyond the file that it stands in; of a single image it promises no more than facts.

    One that names several files speaks of the whole plate; another of its own wells only, and more may come.
    """
    channels: dict[str, ChannelFacts] = {}
    for image in document.images:
        for facts in image.channels:
            channels[facts.id] = both(channels[facts.id], facts) if facts.id in channels else facts
    whole = len(files_of(document)) > 1
    planes = _promised(document) if whole or len(document.images) > 1 else {}
    return Manifest(
        planes=planes,
        may_grow=bool(planes) and not whole,
        rows=document.rows,
        columns=document.columns,
        channels=channels,
        pixel_size_um=facts_of_all(document).pixel_size_um,
        plate_id=document.plate or None,
    )


def _promised(document: OmeDocument) -> dict[WellPosition, dict[ImageKey, frozenset[int]]]:
    """Every plane of every image whose well the document tells; nothing where it contradicts itself."""
    planes: dict[WellPosition, dict[ImageKey, frozenset[int]]] = {}
    shared: dict[frozenset[int], frozenset[int]] = {}
    try:
        for image in document.images:
            position, site = _place_by_plate(document, image) or place_in_names(image.name)
            if position is None or site is None:
                continue
            well = planes.setdefault(position, {})
            for key, steps in _steps(image, site).items():
                found = frozenset(steps)
                well[key] = shared.setdefault(found, found)
    except ValueError:
        return {}
    return planes


def _steps(image: OmeImage, site: int) -> dict[ImageKey, set[int]]:
    found: dict[ImageKey, set[int]] = {}
    for data in image.data:
        for plane in planes_of(image, data):
            found.setdefault((site, plane.time + 1, image.channels[plane.channel].id), set()).add(plane.z + 1)
    return found


def _address(acquisition: AcquisitionId, place: _Place, plane: OmePlane) -> PlaneAddress:
    facts = plane.image.channels[plane.channel]
    return PlaneAddress(acquisition, *place, facts.id, z=plane.z + 1, time=plane.time + 1, channel_name=facts.name)


def _place_by_plate(document: OmeDocument, image: OmeImage) -> _Place | None:
    """None where the document has no plate, or the image no well on it."""
    place = document.places.get(image.id)
    if place is None:
        return None
    if place.of > 1:
        return place.position, place.rank
    site = _site(image.name)
    if site is None:  # the index counts sites where the document is of one, else it may count through the plate
        site = place.index + 1 if len(document.places) == 1 else 1
    return place.position, site


def _places_in_file(document: OmeDocument, images: Sequence[OmeImage], label: str) -> dict[str, _Place]:
    """Image id -> well and site, for the images of one file. Raises ValueError where they are not told."""
    found: dict[str, _Place] = {}
    for image in images:
        place = _place_by_plate(document, image)
        if place is None:
            position, site = place_in_names(image.name, label)
            if position is None:
                raise ValueError(f"neither a Plate in its OME-XML nor a name in it tells the well; {_REMEDY}")
            if len(images) > 1:
                site = _site(image.name)  # the file's name tells of all of them
            place = (position, len(found) + 1 if site is None else site)
        found[image.id] = place
    _check(set(found.values()), len(found), label)
    return found


def _check(places: set[_Place], images: int, label: str) -> None:
    if len(places) < images:
        raise ValueError(f"its OME-XML has {images} images at {len(places)} of the plate's sites")
    wells = {position.name for position, _ in places}
    by_file = {WellPosition.parse(match[1]).name for match in _BOTH.finditer(label)}
    if len(wells) == len(by_file) == 1 and wells != by_file:
        raise ValueError(f"its OME-XML speaks of well {wells.pop()}, and the file's name of {by_file.pop()}")


def place_in_names(*texts: str) -> tuple[WellPosition | None, int | None]:
    """Well and site in names such as `Plate1_B03_s1`, `B3-Site_0` or `well_B03_site1`; None for what they lack.

    A well beside a site counts before others, the word `well` before a bare one, and then the first name before the
    second. Raises ValueError for a name in which several wells count alike.
    """
    for pattern in (_BOTH, _NAMED_WELL, _BARE_WELL):
        for text in texts:
            found = {(WellPosition.parse(match[1]), _beside(match)) for match in pattern.finditer(text)}
            if len(found) > 1:
                named = " or ".join(
                    sorted(well.name + ("" if site is None else f" site {site}") for well, site in found)
                )
                raise ValueError(f"its name {text!r} may mean {named}; {_REMEDY}")
            for well, site in found:
                return well, next((each for each in (site, *map(_site, texts)) if each is not None), None)
    return None, None


def _beside(match: re.Match[str]) -> int | None:
    """The site beside a well, where the pattern asks for one."""
    return int(match[2]) if match.re.groups > 1 else None


def _site(text: str) -> int | None:
    sites = {int(match[1]) for match in _BARE_SITE.finditer(text)}
    return sites.pop() if len(sites) == 1 else None


def _label(name: str, plate: str) -> str:
    """What of a file's name may tell well and site: not its ending, the plate's own name, Micro-Manager's prefix."""
    stem = re.sub(r"\.ome\.tiff?$", "", name, flags=re.IGNORECASE)
    return stem.rpartition("_MMStack_")[2].removeprefix(f"{plate}_")
