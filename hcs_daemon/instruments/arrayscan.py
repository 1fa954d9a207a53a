"""Cellomics ArrayScan and CellInsight: `<plate>_D03f00d0.tif` is well, site (counted from 0) and channel.

Names as in Bio-Formats' CellomicsReader. A `.C01` file may be a TIFF or Cellomics' own container, which is refused when
it is read. The database beside the images (`.mdb`) is not read: nothing tells how many planes will come.
"""

import re
from pathlib import PurePosixPath

from hcs_daemon.instruments.naming import (
    FileKind,
    Grammar,
    OnePlaneAFile,
    PlaneAddress,
    Reading,
    is_no_data,
    measurement_name,
)
from hcs_daemon.plate import WellPosition

_PARTS = (
    ("plate's name", r".+"),
    ("well", r"_([A-Z]{1,2}\d{2})"),
    ("site", r"f(\d{2,4})"),
    ("channel", r"d(\d{1,2})"),
    ("ending", r"\.(?:tiff?|c01)"),
)
_EXAMPLE = "Plate1_B03f00d0.tif"
_NAME = Grammar("an ArrayScan", _PARTS, _EXAMPLE)
_CHANNEL = re.compile(r"d(?:0|[1-9]\d?)")
_NO_PLANES = {".mdb", ".asc", ".xml", ".txt", ".csv", ".json"}


class ArrayScan(OnePlaneAFile):
    """Names of ArrayScan and CellInsight."""

    name = "arrayscan"
    example = _EXAMPLE

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        """What the file at `path` is, by its name alone."""
        if is_no_data(path):
            return Reading(FileKind.NO_DATA)
        groups = _NAME.groups(path.name)
        if groups is None:
            return Reading(FileKind.NO_DATA) if path.suffix.lower() in _NO_PLANES else _NAME.misfit(path.name)
        well, site, channel = groups
        try:
            position = WellPosition.parse(well)
        except ValueError as error:
            return Reading(FileKind.UNKNOWN, problem=str(error))
        address = PlaneAddress(self.acquisition_of(root_name, path), position, int(site), channel=f"d{int(channel)}")
        return Reading(FileKind.PLANE, address)

    def plane_path(self, address: PlaneAddress) -> PurePosixPath:
        """`<plate>__<acquisition>/<plate>_B03f00d0.tif`. Raises ValueError for what these names cannot say."""
        if (address.z, address.time) != (1, 1) or not _CHANNEL.fullmatch(address.channel):
            raise ValueError(f"an ArrayScan name says neither z nor time, and its channels are d0 to d99: {address}")
        name = f"{address.acquisition.plate}_{address.position.name}f{address.site:02d}{address.channel}.tif"
        return PurePosixPath(measurement_name(address.acquisition), name)
