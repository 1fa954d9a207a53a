"""Opera Phenix and Operetta, as the Harmony software writes them.

`<measurement>/Images/r03c03f03p01-ch5sk1fk1fl1.tiff`: row, column, site, z, channel, time point, exposure, FLIM.
`Index.idx.xml` (or `Index.xml`, `Index.ref.xml`) may come first, last, grow, be empty, or never come; where all
associated files are exported, `Assaylayout` and `FFC_Profile` stand beside `Images`.
"""

import re
from pathlib import Path, PurePosixPath

from hcs_daemon.instruments import harmony_name
from hcs_daemon.instruments.harmony_index import read_index, read_profiles
from hcs_daemon.instruments.harmony_layout import read_assay_layout
from hcs_daemon.instruments.harmony_name import HarmonyName
from hcs_daemon.instruments.harmony_tags import read_own_record
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import (
    FileKind,
    OnePlaneAFile,
    PlaneAddress,
    Reading,
    is_no_data,
    measurement_name,
)
from hcs_daemon.instruments.own_record import OwnRecord
from hcs_daemon.tiff import TiffTags

_INDEX = re.compile(r"index(\.idx|\.ref)?\.xml", re.IGNORECASE)
_IMAGES, _LAYOUTS, _PROFILES = "images", "assaylayout", "ffc_profile"
"""The folders of a measurement, in lower case."""
_OTHER_METADATA_SUFFIXES = {".xml", ".txt", ".csv", ".json"}


class Harmony(OnePlaneAFile):
    """Names and metadata of Opera Phenix and Operetta."""

    name = "harmony"
    example = harmony_name.EXAMPLE

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        """What the file at `path` is, by its name alone."""
        if is_no_data(path):
            return Reading(FileKind.NO_DATA)
        try:
            said = harmony_name.parse(path.name)
        except ValueError as error:
            return Reading(FileKind.UNKNOWN, problem=str(error))
        if said is None:
            return self._other(path)
        acquisition = self.acquisition_of(root_name, path)
        address = PlaneAddress(acquisition, said.position, said.site, said.channel, said.z, said.time)
        return Reading(FileKind.PLANE, address, _beyond_the_first(said))

    def measurement_folder(self, path: PurePosixPath) -> PurePosixPath:
        """The folder that holds `Images` and what Harmony exports beside it, else the one that holds the file."""
        return path.parent.parent if _folder(path) in {_IMAGES, _LAYOUTS, _PROFILES} else path.parent

    def plane_path(self, address: PlaneAddress) -> PurePosixPath:
        """`<plate>__<acquisition>/Images/r01c01f01p01-ch1sk1fk1fl1.tiff`."""
        name = HarmonyName(address.position, address.site, address.z, address.channel, address.time)
        return PurePosixPath(measurement_name(address.acquisition), "Images", name.text)

    def read_metadata(self, path: Path) -> Manifest | None:
        """What an index, an assay layout or a flat-field profile says; what is broken promises nothing."""
        if _INDEX.fullmatch(path.name):
            return read_index(path)
        if path.suffix.lower() != ".xml":
            return None
        return {_LAYOUTS: read_assay_layout, _PROFILES: read_profiles}.get(_folder(path), _nothing)(path)

    def read_record(self, path: PurePosixPath, tags: TiffTags) -> OwnRecord | None:  # noqa: ARG002 (the tags say it all)
        """The plane's own address, and its pixels' figures as the instrument saw them."""
        return read_own_record(tags)

    def _other(self, path: PurePosixPath) -> Reading:
        suffix = path.suffix.lower()
        if _INDEX.fullmatch(path.name) or (suffix == ".xml" and _folder(path) in {_LAYOUTS, _PROFILES}):
            return Reading(FileKind.METADATA)
        if suffix in _OTHER_METADATA_SUFFIXES:
            return Reading(FileKind.NO_DATA)
        return harmony_name.misfit(path.name)


def _folder(path: Path | PurePosixPath) -> str:
    return path.parent.name.lower()


def _nothing(path: Path) -> Manifest | None:  # noqa: ARG001 (it stands for a file that is not read)
    return None


def _beyond_the_first(said: HarmonyName) -> str:
    if said.is_first:
        return ""
    return f"exposure {said.exposure}, FLIM {said.flim} of a channel of which the first one counts"
