"""Which class each well teaches, by a column of the plate's layout, and which of the classes is the control's."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from hcs_daemon.errors import LayoutError
from hcs_daemon.layout import layout_file, read_column, read_layout
from hcs_daemon.plate import PlateLayout, WellPosition
from hcs_daemon.training.plates import WellName

_BY_CONTENT = {"compound", "role"}
"""Columns under which treatments stand too: these are what the model will be asked about, and not what teaches it."""
_TREATMENT, _CONTROL = "treatment", "control"
MOST_NAMED = 8


class Labels:
    """Reads a layout. Owned by the training.

    path: of the layout, as for `layout.read_layout`. column: `compound`, `role`, or a header of one's own. control: the
    control's class; None where the role `control` says it. layouts: of the plates asked for so far, by name.
    """

    def __init__(self, path: Path, column: str, control: str | None) -> None:
        self._path = path
        self._column = column
        self._control = control
        self._found: dict[str, Mapping[WellPosition, str]] = {}
        self.layouts: dict[str, PlateLayout] = {}

    def of(self, plate: str) -> Mapping[WellPosition, str]:
        """The class of each well of a plate that teaches one. Raises LayoutError."""
        if plate not in self._found:
            file = layout_file(self._path, plate)
            if not file.exists():
                raise LayoutError(
                    f"{file} is not there", "give --layout a CSV file, or a folder of one <plate>.csv a plate"
                )
            layout = self.layouts[plate] = read_layout(self._path, plate)
            if self._column.casefold() in _BY_CONTENT:
                wells = layout.wells.items()
                said = {
                    position: well.compound if self._column.casefold() == "compound" else well.role
                    for position, well in wells
                    if well.role != _TREATMENT
                }
            else:
                said = read_column(self._path, plate, self._column)
            self._found[plate] = {position: label for position, label in said.items() if label}
        return self._found[plate]

    def control_class(self, labels: Mapping[WellName, str]) -> str:
        """The class that the others are seen against. Raises LayoutError where it is not clear.

        labels: of the wells that could be read.
        """
        counts = Counter(labels.values())
        if self._control is not None:
            if self._control in counts:
                return self._control
            raise LayoutError(
                f"no well has the class {self._control!r}; the classes are {named(counts)}",
                "give --control one of them",
            )
        found = Counter(label for well, label in labels.items() if self._role(well) == _CONTROL)
        if len(found) == 1:
            return next(iter(found))
        said = f"wells of the role control have the classes {named(found)}" if found else "no well has the role control"
        raise LayoutError(
            f"{said}: it is not clear which class is the untreated control",
            f"name it with --control; the classes are {named(counts)}",
        )

    def _role(self, well: WellName) -> str:
        plate, position = well
        content = self.layouts[plate].wells.get(position)
        return content.role if content is not None else ""


def named(counts: Mapping[str, int]) -> str:
    """`DMSO (64 wells), REF-ER (8 wells) and 3 more`."""
    words = [f"{name} ({count} wells)" for name, count in sorted(counts.items())]
    more = len(words) - MOST_NAMED
    return ", ".join(words[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
