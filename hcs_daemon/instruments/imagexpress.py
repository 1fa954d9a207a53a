"""ImageXpress, as the MetaXpress software writes it.

`<plate>_E07_s1_w1<GUID>.tif`: well, site, channel. Without `_s` a well has one site, without `_w` one channel; the GUID
may be absent, or stand in brackets: `_[<GUID>]`. The files lie in the measurement's folder or below it in
`TimePoint_<n>` and `ZStep_<n>`. What lies in no `ZStep_<n>` is no step of a stack but a plain image, or the projection
that the instrument made of one: its z is `PROJECTION_Z` either way, for a name does not tell which.

The measurement's folder is often named by a date and a number only (`2023-02-21/1334`), and then says nothing of the
plate; the `<plate>` of the file names does.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from hcs_daemon.instruments.imagexpress_htd import read_htd
from hcs_daemon.instruments.imagexpress_tags import read_description, read_own_record
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import (
    FileKind,
    Grammar,
    OnePlaneAFile,
    PlaneAddress,
    Reading,
    acquisition_from,
    is_no_data,
    measurement_name,
)
from hcs_daemon.instruments.own_record import OwnRecord, range_of
from hcs_daemon.plate import PROJECTION_Z, AcquisitionId, WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags

_GUID = r"[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}"
_SUFFIX = rf"(?:_s(\d{{1,5}}))?(?:_w(\d{{1,3}}))?(?:{_GUID}|_\[{_GUID}\])?\.tiff?"
_WELL = r"(?![SW]\d)(?:[A-Z]\d{1,2}|A[A-F]\d{1,2})"
_EXAMPLE = "Plate_A01_s1_w1.tif"
_NAME = re.compile(rf"(.+)_({_WELL}){_SUFFIX}", re.IGNORECASE | re.ASCII)
"""The last well before the suffix counts, for a plate may be called `Repeat_A01`. `_s1` and `_w1` are none."""
_NAME_IN_ROW_S_OR_W = re.compile(rf"(.+)_((?-i:[SW]\d{{2}})){_SUFFIX}", re.IGNORECASE | re.ASCII)
"""Tried second: a 1536-well plate has rows called S and W, whose wells are written in capitals and two digits."""
_PARTS = Grammar(
    "an ImageXpress",
    (
        ("plate name", r".+_"),
        ("well", _WELL),
        ("site", r"(?:_s\d{1,5})?"),
        ("channel", r"(?:_w\d{1,3})?"),
        ("ending .tif (before it at most _s and a site, _w and a channel, and a GUID)", rf"(?:{_GUID})?\.tiff?"),
    ),
    _EXAMPLE,
)
_STEP_FOLDER = re.compile(r"(TimePoint|ZStep)_(\d{1,6})", re.IGNORECASE | re.ASCII)
_DATE_OR_NUMBER = re.compile(r"\d[\d\-_. ]*", re.ASCII)
_OTHER_SUFFIXES = {".xml", ".txt", ".csv", ".json", ".html", ".xls", ".xlsx", ".mdb", ".nd", ".scan"}


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder as it is read. acquisition: by the measurement's folder; its plate is empty where that says none."""

    measurement: PurePosixPath
    time: int
    z: int
    acquisition: AcquisitionId
    folders: tuple[str, ...]


class ImageXpress(OnePlaneAFile):
    """Names, HTD files and tags of ImageXpress."""

    name = "imagexpress"
    example = _EXAMPLE

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        """What the file at `path` is, by its name and folder."""
        if is_no_data(path):
            return Reading(FileKind.NO_DATA)
        match = _match(path.name)
        if match is None:
            return _other(path)
        plate, well, site, channel = match.groups("1")
        place = _place(root_name, str(path.parent))
        try:
            position = WellPosition.parse(well)
        except ValueError as error:
            return Reading(FileKind.UNKNOWN, problem=str(error), fits=match.end(2))
        numbers = int(site), int(channel), place.time
        if min(numbers) < 1 or place.z < PROJECTION_Z:
            problem = "site, channel, time point and z step count from 1 in ImageXpress names"
            return Reading(FileKind.UNKNOWN, problem=problem, fits=match.end())
        address = PlaneAddress(
            _acquisition(place, plate), position, numbers[0], f"w{numbers[1]}", z=place.z, time=place.time
        )
        return Reading(FileKind.PLANE, address)

    def acquisition_of(self, root_name: str, path: PurePosixPath) -> AcquisitionId:
        """By the measurement folder's name, and where that is a date or a number by the plate in the file's."""
        place = _place(root_name, str(path.parent))
        if place.acquisition.plate:
            return place.acquisition
        match = _match(path.name)
        return _acquisition(place, path.stem if match is None else match[1])

    def measurement_folder(self, path: PurePosixPath) -> PurePosixPath:
        """The folder above all `TimePoint_<n>` and `ZStep_<n>`."""
        return _place("", str(path.parent)).measurement

    def plane_path(self, address: PlaneAddress) -> PurePosixPath:
        """`<plate>__<acquisition>/TimePoint_1/ZStep_1/<plate>_A01_s1_w1.tif`, without `ZStep_` for a projection."""
        folder = PurePosixPath(measurement_name(address.acquisition), f"TimePoint_{address.time}")
        if address.z != PROJECTION_Z:
            folder /= f"ZStep_{address.z}"
        plate, well = address.acquisition.plate, address.position.name
        return folder / f"{plate}_{well}_s{address.site}_{address.channel}.tif"

    def read_metadata(self, path: Path) -> Manifest | None:
        """What an HTD file promises; a broken one promises nothing."""
        return read_htd(path)

    def read_tags(self, path: PurePosixPath, tags: TiffTags) -> ChannelFacts | None:
        """What the MetaSeries description says."""
        match = _match(path.name)
        return read_description(tags.description, "" if match is None else f"w{int(match[4] or 1)}")

    def read_record(self, path: PurePosixPath, tags: TiffTags) -> OwnRecord | None:
        """What the MetaSeries description says of the plane, beside the tags that any TIFF may have."""
        match = _match(path.name)
        said = read_own_record(tags.description, "" if match is None else f"w{int(match[4] or 1)}")
        return replace(said or OwnRecord(), range=range_of(tags)).or_none


def _match(name: str) -> re.Match[str] | None:
    return _NAME.fullmatch(name) or _NAME_IN_ROW_S_OR_W.fullmatch(name)


def _other(path: PurePosixPath) -> Reading:
    suffix = path.suffix.lower()
    if suffix == ".htd":
        return Reading(FileKind.METADATA)
    if suffix in _OTHER_SUFFIXES:
        return Reading(FileKind.NO_DATA)
    return _PARTS.misfit(path.name)


@lru_cache(maxsize=4096)
def _place(root_name: str, folder: str) -> _Place:
    """A folder taken apart; a plate of many planes has few."""
    measurement = PurePosixPath(folder)
    number = {"timepoint": 1, "zstep": PROJECTION_Z}
    while (step := _STEP_FOLDER.fullmatch(measurement.name)) is not None:
        what, count = step[1].lower(), int(step[2])
        number[what] = count or -1  # none is called 0
        measurement = measurement.parent
    return _Place(measurement, number["timepoint"], number["zstep"], *_acquisition_by_folder(root_name, measurement))


def _acquisition_by_folder(root_name: str, measurement: PurePosixPath) -> tuple[AcquisitionId, tuple[str, ...]]:
    by_name = acquisition_from(root_name, measurement)
    folders = measurement.parts or (root_name,)
    split_in_two = by_name.plate != folders[-1]
    if split_in_two or _DATE_OR_NUMBER.fullmatch(folders[-1]) is None:
        return by_name, folders
    return AcquisitionId("", ""), folders


def _acquisition(place: _Place, plate: str) -> AcquisitionId:
    """Where the folders are called by dates and numbers the plate is the file's; a folder called like it adds none."""
    if place.acquisition.plate:
        return place.acquisition
    named = "_".join(folder for folder in place.folders if folder.casefold() != plate.casefold())
    return AcquisitionId(plate, named or "1")
