"""Planes of a plate with the same pixels. No camera takes one picture twice: its noise is new each time.

Under two channel names, one of them is wrong, and nothing says which. Under one name at two places, one is a copy.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hcs_daemon.intake.validation import Refusal
from hcs_daemon.plate import PROJECTION_Z, PlaneId, WellId
from hcs_daemon.records import PlaneMeasures
from hcs_daemon.vocabulary import Reason

TELLING_PIXELS = 64
"""So many pixels a plane has off its lowest and highest value, or it may be like another by chance: clipped to black
but for a few hot pixels."""
COPIED_HINT = (
    "find out which is right, and write the other one's own image over it; if that is a mere copy, remove it and write"
    " the right one again"
)
_NAMED = 12


@dataclass(frozen=True, slots=True)
class Bearer:
    """A file that bears certain pixels. channel: by the settings' name. stamp: its size and time of change."""

    plane: PlaneId
    channel: str
    stamp: tuple[int, int]
    refused: bool = False

    @property
    def address(self) -> tuple[WellId, int, str, int]:
        """Well, site, channel and z."""
        return (self.plane.site.well, self.plane.site.site, self.channel, self.plane.z)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the plate makes of a plane's pixels.

    refusal: where they stand under another channel's name too. look_again: names of files of which that is news.
    """

    refusal: Refusal | None = None
    look_again: tuple[str, ...] = ()


@dataclass(slots=True)
class Lookalikes:
    """Whose pixels are whose, on one plate. Owned by the intake thread.

    groups: digest of the pixels -> file name -> its bearer. digests: file name -> digest. shared: the digests that
    several files have.
    """

    groups: dict[str, dict[str, Bearer]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    shared: dict[str, None] = field(default_factory=dict)

    def note(self, name: str, digest: str, bearer: Bearer) -> Finding:
        """Count a file in, and judge it. Both of a pair are refused, whichever came first."""
        freed = self.drop(name) if self.digests.get(name, digest) != digest else ()
        group = self.groups.setdefault(digest, {})
        before = group.get(name)
        group[name], self.digests[name] = bearer, digest
        if len(group) > 1:
            self.shared[digest] = None
        if not _is_disputed(group):
            return Finding(None, freed)
        group[name] = Bearer(bearer.plane, bearer.channel, bearer.stamp, refused=True)
        # somebody wrote it once more: perhaps what it was refused for is there no longer
        rewritten = before is not None and before.stamp != bearer.stamp
        others = [each for each, other in group.items() if each != name and (rewritten or not other.refused)]
        return Finding(_refusal(bearer, group), (*freed, *others))

    def drop(self, name: str) -> tuple[str, ...]:
        """The file has these pixels no more; the names of those that are to be looked at again since."""
        digest = self.digests.pop(name, None)
        if digest is None:
            return ()
        group = self.groups[digest]
        was_disputed = _is_disputed(group)
        del group[name]
        if len(group) < 2:
            self.shared.pop(digest, None)
        if not group:
            del self.groups[digest]
        return tuple(group) if was_disputed and not _is_disputed(group) else ()

    def is_disputed(self, name: str) -> bool:
        """Whether a file's pixels stand under another channel's name too."""
        return name in self.digests and _is_disputed(self.groups[self.digests[name]])

    def lonely(self) -> list[str]:
        """The files that were refused, and nothing disputes their pixels."""
        undisputed = (group for group in self.groups.values() if not _is_disputed(group))
        return [name for group in undisputed for name, bearer in group.items() if bearer.refused]

    def copies(self, well: WellId | None = None) -> list[str]:
        """A sentence for each picture that stands at several places under one channel's name; of one well, or all."""
        return list(self._copies(well))

    def _copies(self, well: WellId | None) -> Iterator[str]:
        for digest in self.shared:
            group = self.groups[digest]
            places = {bearer.address: bearer for bearer in group.values()}
            here = well is None or any(bearer.plane.site.well == well for bearer in places.values())
            if here and not _is_disputed(group) and not _is_one_stack(places.values()):
                yield _copies_in_words(list(places.values()))


def is_telling(measures: PlaneMeasures) -> bool:
    """Whether a plane's pixels are like no other's but by copying."""
    evidence = measures.evidence
    if not measures.pixel_digest:
        return False
    return evidence is None or evidence.pixels - max(evidence.at_bottom, evidence.at_top) >= TELLING_PIXELS


def _is_disputed(group: dict[str, Bearer]) -> bool:
    return len({bearer.channel for bearer in group.values()}) > 1


def _is_one_stack(bearers: Iterable[Bearer]) -> bool:
    """Whether they are one plane, and perhaps the instrument's projection of it alone."""
    planes = [bearer.plane for bearer in bearers]
    steps = {plane.z for plane in planes} - {PROJECTION_Z}
    return len({plane.site for plane in planes}) == 1 and len(steps) <= 1


def _refusal(bearer: Bearer, group: dict[str, Bearer]) -> Refusal:
    others = sorted((name, other) for name, other in group.items() if other.channel != bearer.channel)
    named = ", ".join(f"{name} ({other.channel}, {_place(other)})" for name, other in others[:_NAMED])
    return Refusal(
        Reason.DUPLICATE_CHANNEL,
        f"has the pixels of {named}, and is called {bearer.channel}: they cannot be of both channels",
        f"neither is analysed: {COPIED_HINT}",
    )


def _copies_in_words(bearers: list[Bearer]) -> str:
    with_z = len({bearer.plane.z for bearer in bearers}) > 1
    places = sorted(_place(bearer) + (f" z {bearer.plane.z}" if with_z else "") for bearer in bearers)
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    return f"{bearers[0].channel}: the same pixels at {', '.join(places[:_NAMED])}{more}; all but one are copies"


def _place(bearer: Bearer) -> str:
    return f"{bearer.plane.site.well.stem} site {bearer.plane.site.site}"
