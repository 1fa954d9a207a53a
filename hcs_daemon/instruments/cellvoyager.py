"""Yokogawa CellVoyager: CV7000 and CV8000.

`<plate>_D08_T0001F001L01A01Z01C01.tif`: well, time point, site, time line, action, z, channel. The plate in the name is
often the kind of plate it is, so the folder's name counts. Time line and action say when in the protocol a plane was
taken and are no part of its address: a projection has a channel of its own, as has each setting of the light.
`DC_*.tif` and `SC_*.tif` are what the instrument corrects images with. `MeasurementData.mlf` has a record of each plane
that was taken or failed, `MeasurementDetail.mrf` and the protocol, `*.mes`, say how.
"""

from pathlib import Path, PurePosixPath

from hcs_daemon.instruments.cellvoyager_name import EXAMPLE, NAME, channel_id
from hcs_daemon.instruments.cellvoyager_records import read_records
from hcs_daemon.instruments.cellvoyager_settings import read_detail, read_plate, read_protocol
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import (
    FileKind,
    OnePlaneAFile,
    PlaneAddress,
    Reading,
    is_no_data,
    measurement_name,
)
from hcs_daemon.plate import WellPosition

_READERS = {
    ".mlf": read_records,
    ".mrf": read_detail,
    ".mes": read_protocol,
    ".wpi": read_plate,
    ".wpp": read_plate,
}
_CORRECTIONS = ("dc_", "sc_")
_OTHER_SUFFIXES = {".xml", ".txt", ".csv", ".json", ".ppf", ".html", ".pdf"}


class CellVoyager(OnePlaneAFile):
    """Names and measurement files of CV7000 and CV8000."""

    name = "cellvoyager"
    example = EXAMPLE

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        """What the file at `path` is, by its name alone."""
        if is_no_data(path):
            return Reading(FileKind.NO_DATA)
        groups = NAME.groups(path.name)
        if groups is None:
            return _other(path)
        well = groups[0]
        time, site, z, channel = map(int, groups[1:])
        try:
            position = WellPosition.parse(well)
        except ValueError as error:
            return Reading(FileKind.UNKNOWN, problem=str(error))
        if min(time, site, z, channel) < 1:
            return Reading(FileKind.UNKNOWN, problem="T, F, Z and C count from 1 in a CellVoyager name")
        acquisition = self.acquisition_of(root_name, path)
        return Reading(FileKind.PLANE, PlaneAddress(acquisition, position, site, channel_id(channel), z=z, time=time))

    def measurement_folder(self, path: PurePosixPath) -> PurePosixPath:
        """The folder that holds the file, or holds the `Image` folder it is in."""
        folder = path.parent
        return folder.parent if folder.name.lower() in {"image", "images"} else folder

    def plane_path(self, address: PlaneAddress) -> PurePosixPath:
        """`<plate>__<acquisition>/<plate>_A01_T0001F001L01A01Z01C01.tif`, with an action for each channel."""
        plate, well, channel = address.acquisition.plate, address.position.name, int(address.channel[1:])
        place = f"T{address.time:04d}F{address.site:03d}L01A{channel:02d}Z{address.z:02d}{channel_id(channel)}"
        return PurePosixPath(measurement_name(address.acquisition), f"{plate}_{well}_{place}.tif")

    def read_metadata(self, path: Path) -> Manifest | None:
        """What one of the measurement's files promises; a broken one promises nothing."""
        read = _READERS.get(path.suffix.lower())
        return None if read is None else read(path)


def _other(path: PurePosixPath) -> Reading:
    suffix = path.suffix.lower()
    if suffix in _READERS:
        return Reading(FileKind.METADATA)
    if suffix in _OTHER_SUFFIXES or (suffix in {".tif", ".tiff"} and path.name.lower().startswith(_CORRECTIONS)):
        return Reading(FileKind.NO_DATA)
    return NAME.misfit(path.name)
