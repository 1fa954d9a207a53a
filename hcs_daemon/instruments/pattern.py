"""Any other instrument: the user's regular expression says what a name means.

Groups: `channel` and `well` (or `row` and `col`) are needed; `site`, `z`, `time` (each 1 where absent) and `plate`
may be there. An expression that contains `/` is matched with the path below the watched folder, else with the name.
"""

import re
from pathlib import PurePosixPath

from hcs_daemon.instruments.naming import (
    FileKind,
    OnePlaneAFile,
    PlaneAddress,
    Reading,
    acquisition_from,
    is_no_data,
)
from hcs_daemon.plate import AcquisitionId, WellPosition

_IMAGE_SUFFIXES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".c01", ".flex", ".nd2", ".czi"}


class Pattern(OnePlaneAFile):
    """Names by a regular expression."""

    name = "pattern"

    def __init__(self, expression: str) -> None:
        self._expression = re.compile(expression)
        self._on_path = "/" in expression
        self.example = expression

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        """What the file at `path` is, by the expression alone."""
        if is_no_data(path):
            return Reading(FileKind.NO_DATA)
        match = self._match(path)
        if match is None:
            if path.suffix.lower() not in _IMAGE_SUFFIXES:
                return Reading(FileKind.NO_DATA)
            return Reading(FileKind.UNKNOWN, problem=f"watch.pattern {self._expression.pattern!r} does not match")
        groups = {key: value for key, value in match.groupdict().items() if value is not None}
        try:
            address = PlaneAddress(
                acquisition=self.acquisition_of(root_name, path),
                position=_position(groups),
                site=_number(groups, "site"),
                channel=_text(groups, "channel"),
                z=_number(groups, "z"),
                time=_number(groups, "time"),
            )
        except ValueError as error:
            return Reading(FileKind.UNKNOWN, problem=f"watch.pattern matches, but {error}")
        return Reading(FileKind.PLANE, address)

    def acquisition_of(self, root_name: str, path: PurePosixPath) -> AcquisitionId:
        """By the group `plate` where the expression has it, else by the folder's name."""
        by_folder = acquisition_from(root_name, self.measurement_folder(path))
        match = self._match(path)
        plate = match.groupdict().get("plate") if match else None
        if not plate:
            return by_folder
        if by_folder.plate == plate:
            return by_folder
        return AcquisitionId(plate, "_".join(path.parent.parts) or "1")

    def plane_path(self, address: PlaneAddress) -> PurePosixPath:
        """An expression reads names and cannot write them. Raises ValueError."""
        raise ValueError(f"watch.pattern {self._expression.pattern!r} does not say how {address} is written")

    def _match(self, path: PurePosixPath) -> re.Match[str] | None:
        return self._expression.fullmatch(str(path) if self._on_path else path.name)


def _position(groups: dict[str, str]) -> WellPosition:
    if "well" in groups:
        return WellPosition.parse(groups["well"])
    row, column = _text(groups, "row"), _text(groups, "col")
    if row.isdigit():
        return WellPosition(int(row), int(column))
    return WellPosition.parse(f"{row}{column}")


def _text(groups: dict[str, str], key: str) -> str:
    if not groups.get(key):
        raise ValueError(f"its group {key} is empty")
    return groups[key]


def _number(groups: dict[str, str], key: str) -> int:
    value = int(groups.get(key, "1"))
    if value < 1:
        raise ValueError(f"{key} counts from 1, the name says {value}")
    return value
