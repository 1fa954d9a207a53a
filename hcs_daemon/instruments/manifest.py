"""What an instrument's metadata promises: the planes to come, how each channel is taken, what is in the wells."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from hcs_daemon.plate import PlateLayout, WellPosition
from hcs_daemon.records import ChannelFacts, Pixels

ImageKey = tuple[int, int, str]
"""Site number, time point, channel id as it stands in the file names."""
Planes = Mapping[WellPosition, Mapping[ImageKey, frozenset[int]]]
"""Well -> image -> its z steps (counted from 1; `PROJECTION_Z` for a projection by the instrument)."""


class FlatField(Protocol):
    """How one channel's uneven illumination is taken out. Frozen; used by reader threads.

    digest: changes when the correction does. words: what it is, for results.
    """

    @property
    def digest(self) -> str:
        """Identifies the correction."""

    @property
    def words(self) -> str:
        """What it is, in words."""

    def correct(self, pixels: Pixels) -> Pixels:
        """(height, width) raw counts, corrected, rounded, in the same type.

        Raises ValueError, in words, where it is made for another size, OSError where its own image cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Manifest:
    """What metadata promises for one acquisition; empty or None where it does not say.

    planes: every plane that is expected. never: those of them that were not taken and will not come.
    exact_z: whether the z steps are those that each channel will have; else a channel may have some of them only.
    may_grow: the file is written while the plate is imaged. last: the end at which it grows, well and time point.
    rows, columns: of the plate. channels: channel id -> facts. flatfields: channel id -> correction.
    layout: what is in the wells. plate_id, measurement_id: the instrument's own names.
    """

    planes: Planes = field(default_factory=dict)
    never: Planes = field(default_factory=dict)
    exact_z: bool = True
    may_grow: bool = False
    last: tuple[WellPosition, int] | None = None
    rows: int | None = None
    columns: int | None = None
    channels: Mapping[str, ChannelFacts] = field(default_factory=dict)
    pixel_size_um: float | None = None
    flatfields: Mapping[str, FlatField] = field(default_factory=dict)
    layout: PlateLayout | None = None
    plate_id: str | None = None
    measurement_id: str | None = None

    @property
    def says_how(self) -> bool:
        """Whether it says the size of a pixel or its bits, which others may deny."""
        each = self.channels.values()
        return self.pixel_size_um is not None or any(facts.pixel_size_um or facts.bit_depth for facts in each)


def merged(said: Iterable[Manifest]) -> Manifest:
    """What several metadata files of one acquisition promise together; where they differ the first counts."""
    files = list(said)
    return Manifest(
        planes=_union(each.planes for each in files),
        never=_union(each.never for each in files),
        exact_z=all(each.exact_z for each in files),
        may_grow=any(each.may_grow for each in files),
        last=next((each.last for each in files if each.last), None),
        rows=next((each.rows for each in files if each.rows), None),
        columns=next((each.columns for each in files if each.columns), None),
        channels=_facts(each.channels for each in files),
        pixel_size_um=next((each.pixel_size_um for each in files if each.pixel_size_um), None),
        flatfields={id_: found for each in reversed(files) for id_, found in each.flatfields.items()},
        layout=next((each.layout for each in files if each.layout), None),
        plate_id=next((each.plate_id for each in files if each.plate_id), None),
        measurement_id=next((each.measurement_id for each in files if each.measurement_id), None),
    )


def both(first: ChannelFacts, second: ChannelFacts) -> ChannelFacts:
    """The facts of the first, and of the second what the first does not say."""
    names = ChannelFacts.__dataclass_fields__
    lacking = {name: getattr(second, name) for name in names if getattr(first, name) in {None, ""}}
    return replace(first, **lacking)


def _union(said: Iterable[Planes]) -> Planes:
    filled = [planes for planes in said if planes]
    if len(filled) <= 1:
        return filled[0] if filled else {}
    found: dict[WellPosition, dict[ImageKey, frozenset[int]]] = {}
    for planes in filled:
        for position, images in planes.items():
            well = found.setdefault(position, {})
            for key, steps in images.items():
                well[key] = well.get(key, frozenset()) | steps
    return found


def _facts(said: Iterable[Mapping[str, ChannelFacts]]) -> dict[str, ChannelFacts]:
    found: dict[str, ChannelFacts] = {}
    for channels in said:
        for id_, facts in channels.items():
            found[id_] = both(found[id_], facts) if id_ in found else facts
    return found
