"""The pictures of each plate that `hcs-daemon validate` sees, judged beside each other as the daemon judges them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hcs_daemon.intake.survey import SurveyedFile
from hcs_daemon.plate import AcquisitionId, WellId
from hcs_daemon.publish import channel_fit, quality
from hcs_daemon.publish.channel_fit import TRAITS, Floats, traits_of
from hcs_daemon.publish.quality import CONTEXT, PictureRow, picture_row, picture_table
from hcs_daemon.terminal import counted

WELLS_NAMED = 12
"""So many wells are named of each flag."""


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture's numbers. rank: of a stack the step of the highest speaks for it."""

    rank: tuple[float, int]
    row: PictureRow
    traits: Floats


@dataclass(slots=True)
class PlatePictures:
    """One acquisition's accepted pictures; of each its numbers alone are kept."""

    _pictures: dict[tuple[WellId, int, int], _Picture] = field(default_factory=dict)
    _channels: dict[str, int] = field(default_factory=dict)

    def add(self, file: SurveyedFile) -> None:
        """Count a file in, if it is an accepted plane."""
        measures = file.measures
        if file.address is None or file.channel is None or measures is None or file.refusal is not None:
            return
        plane = file.address.plane
        channel = self._channels.setdefault(file.channel, len(self._channels))
        where = (plane.site.well, plane.site.site, channel)
        rank = (measures.sharpness or 0.0, -plane.z)
        if where not in self._pictures or rank > self._pictures[where].rank:
            conditions = file.record.conditions if file.record is not None else None
            row = picture_row(plane.site.site, channel, measures, conditions)
            self._pictures[where] = _Picture(rank, row, traits_of(measures))

    def words(self) -> Iterator[str]:
        """A line for each flag, with its wells; for each trend of the plate; for channels that look exchanged."""
        rows: dict[WellId, list[PictureRow]] = {}
        for (well, _, _), picture in sorted(self._pictures.items(), key=lambda item: item[0]):
            rows.setdefault(well, []).append(picture.row)
        channels = list(self._channels)
        judged = quality.judge({well: picture_table(found) for well, found in rows.items()}, channels)
        by_flag: dict[str, list[str]] = {}
        for well, found in sorted(judged.wells.items()):
            for flag in found.flags:
                by_flag.setdefault(flag, []).append(well.stem)
        yield from (f"{flag}: {counted(len(wells), 'well')} ({_named(wells)})" for flag, wells in by_flag.items())
        yield from judged.notes
        yield from self._exchanged(channels)

    def _exchanged(self, channels: list[str]) -> tuple[str, ...]:
        places = sorted({(well, site) for well, site, _ in self._pictures})
        traits = np.full((len(places), len(channels), TRAITS), np.nan)
        index = {place: number for number, place in enumerate(places)}
        for (well, site, channel), picture in self._pictures.items():
            traits[index[well, site], channel] = picture.traits
        return channel_fit.judge(places, traits, channels).words

    @property
    def extent(self) -> str:
        """How many wells have an accepted picture; empty for none."""
        wells = len({well for well, _, _ in self._pictures})
        sites = len({(well, site) for well, site, _ in self._pictures})
        how = "too few to hold against each other" if sites < CONTEXT else "beside each other"
        return f"{counted(wells, 'well')}, {how}" if wells else ""


def title_of(acquisition: AcquisitionId) -> str:
    """`P1 M1`."""
    return f"{acquisition.plate} {acquisition.acquisition}"


def _named(wells: list[str]) -> str:
    """`B03, B04, and 7 more`."""
    more = f", and {len(wells) - WELLS_NAMED} more" if len(wells) > WELLS_NAMED else ""
    return ", ".join(wells[:WELLS_NAMED]) + more
