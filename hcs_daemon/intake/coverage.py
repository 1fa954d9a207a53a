"""Which channels were imaged in which wells of a plate: a well that lacks one, or has one that others lack."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from hcs_daemon.plate import WellId

_NAMED = 12


@dataclass(slots=True)
class Coverage:
    """Files met, good or bad, by channel and well. Owned by the intake thread.

    files: channel -> well -> how many; a channel that the settings do not name goes by what the instrument calls it.
    """

    files: dict[str, Counter[WellId]] = field(default_factory=dict)

    def note(self, channel: str, well: WellId) -> None:
        """A file was met."""
        self.files.setdefault(channel, Counter())[well] += 1

    def drop(self, channel: str, well: WellId) -> None:
        """It is of another channel than was thought, or of none."""
        self.files[channel][well] -= 1

    def of_well(self, well: WellId, analysed: Collection[str], settled: Collection[WellId]) -> list[str]:
        """Sentences on one well. analysed: channels. settled: the wells of which no more is waited for."""
        said = []
        for channel in analysed:
            having = self._having(channel)
            if having and well not in having:
                wells = "1 other well has it" if len(having) == 1 else f"{len(having)} other wells have it"
                said.append(f"no plane of {channel} was taken in this well, and {wells}")
        for channel in self._more(analysed):
            having = self._having(channel)
            lacking = set(settled) - having - {well}
            if well in having and lacking:
                said.append(
                    f"channel {channel}, which is not analysed, was taken here; wells that lack it: {len(lacking)}"
                )
        return said

    def of_plate(self, analysed: Collection[str], settled: Collection[WellId]) -> list[str]:
        """Sentences on the wells that are settled: each channel that some of them have, and some lack."""
        wells = set(settled)
        said = []
        for channel in (*analysed, *self._more(analysed)):
            having = self._having(channel) & wells
            lacking = wells - having
            if having and lacking:
                which = f"only in {_named(having)}" if len(having) <= len(lacking) else f"not in {_named(lacking)}"
                said.append(f"channel {channel} was imaged in {len(having)} of {len(wells)} wells, {which}")
        return said

    def _having(self, channel: str) -> set[WellId]:
        return {well for well, number in self.files.get(channel, {}).items() if number}

    def _more(self, analysed: Collection[str]) -> Iterator[str]:
        return (channel for channel in sorted(self.files) if channel not in analysed)


def _named(wells: Collection[WellId]) -> str:
    stems = [well.stem for well in sorted(wells)]
    more = f" and {len(stems) - _NAMED} more" if len(stems) > _NAMED else ""
    return f"{', '.join(stems[:_NAMED])}{more}"
