"""What a plate's wells must hold: by the instrument's metadata, else by the settings, else as learned."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hcs_daemon.config import Expect
from hcs_daemon.instruments.manifest import FlatField, Manifest, Planes, merged
from hcs_daemon.intake.channels import ChannelNames
from hcs_daemon.intake.projection import required_steps
from hcs_daemon.plate import PROJECTION_Z, WellPosition
from hcs_daemon.records import ChannelFacts, ExpectedPlate

WellTime = tuple[WellPosition, int]
"""A well and the time point (from 1)."""
Steps = dict[int, dict[str, frozenset[int]]]
"""Site -> channel, by the settings' name -> z steps."""
PIXEL_SIZE_TOLERANCE = 0.02
"""Two sources that differ by more than this share do not speak of the same images."""


@dataclass(slots=True)
class Named:
    """The planes of one well of which a file was seen, good or bad: site -> channel -> z steps."""

    steps: dict[int, dict[str, set[int]]] = field(default_factory=dict)


class Expectation:
    """What one acquisition should bring. Owned by the intake thread.

    channels: the settings' names, in the model's order. manifests: what each metadata file promises; manifest: all of
    it together. learned_sites: how many sites wells had whose time ran out. taken: what the planes' own tags say of
    each channel, by the settings' name. projected: how the instrument made its projections of a channel, in its words.
    remembered_um: the pixel size as an earlier run knew it, from tags that are not
    read again. trouble: in words, why no site of the plate can be analysed, found on the way.
    """

    def __init__(self, expect: Expect, channels: tuple[str, ...]) -> None:
        self._expect = expect
        self.channels = channels
        self.names = ChannelNames(expect)
        self.manifests: dict[str, Manifest] = {}
        self.manifest = Manifest()
        self.learned_sites = 0
        self.taken: dict[str, ChannelFacts] = {}
        self.projected: dict[str, str] = {}
        self.remembered_um: float | None = None
        self.trouble = ""
        self.flatfields: dict[str, FlatField] = {}
        self.sites_named: set[int] = set()
        self._steps_named: dict[str, set[int]] = {}
        self._usual: dict[str, set[int]] = {}
        self._named: dict[WellTime, Named] = {}
        self._promised: dict[WellTime, Steps] = {}
        self._never: dict[WellTime, Steps] = {}
        self._mentioned: set[str] = set()
        self._ids_promised: set[str] = set()
        self._is_plan = False

    @property
    def bit_depth(self) -> int:
        """The bits that carry information, as declared."""
        return self._expect.bit_depth

    # ---- what it is told

    def promise(self, name: str, manifest: Manifest) -> bool:
        """A metadata file came, or came again; whether it taught a channel's name. What several say is added up.

        Each file of a set of OME-TIFFs says the same of all: it is held once, and taken apart once.
        """
        if name not in self.manifests and (same := next((m for m in self.manifests.values() if m == manifest), None)):
            self.manifests[name] = same
            return False
        self.manifests[name] = manifest
        self.manifest = merged(self.manifests[each] for each in sorted(self.manifests))
        renamed = self.names.learn(self.manifest.channels)
        self._ids_promised = {id_ for images in self.manifest.planes.values() for _, _, id_ in images}
        self._promised = self._by_well(self.manifest.planes)
        self._never = self._by_well(self.manifest.never)
        self._mentioned = {channel for steps in self._promised.values() for site in steps.values() for channel in site}
        self._is_plan = self._is_plan or self._is_ahead()
        if self._expect.flatfield == "instrument":
            found = ((self.names.name_of_id(id_), each) for id_, each in self.manifest.flatfields.items())
            self.flatfields = {name: each for name, each in found if name is not None}
        return renamed

    def name_plane(self, well: WellTime, site: int, channel: str, z: int) -> None:
        """A file of this plane was seen, good or bad."""
        self.sites_named.add(site)
        self._usual.pop(channel, None)
        self._steps_named.setdefault(channel, set()).add(z)
        named = self._named.setdefault(well, Named())
        named.steps.setdefault(site, {}).setdefault(channel, set()).add(z)

    def unname_plane(self, well: WellTime, site: int, channel: str, z: int) -> None:
        """No file of this plane is there after all."""
        channels = self._named[well].steps[site]
        self._usual.pop(channel, None)
        channels[channel].discard(z)
        if not channels[channel]:
            del channels[channel]
        if not channels:
            del self._named[well].steps[site]
        every = [sites for named in self._named.values() for sites in named.steps.values()]
        self._steps_named[channel] = {step for sites in every for step in sites.get(channel, ())}
        self.sites_named = {number for named in self._named.values() for number in named.steps}

    # ---- which planes

    @property
    def projection(self) -> str | int:
        """What of a stack is analysed."""
        return self._expect.projection

    def sites(self, well: WellTime, *, final: bool) -> tuple[frozenset[int], int, bool]:
        """The sites of a well by number, how many more it should have, and whether that is known.

        final: all names there will be were seen, or the well's time is up.
        """
        promised = self._promised.get(well)
        per_well = self._expect.sites_per_well
        number = per_well or (0 if promised else self.learned_sites)
        expected = set(self._named[well].steps) if well in self._named else set()
        if promised and not per_well:
            expected |= set(promised)
        if final and not number and not promised:
            expected |= self.sites_named
        if number:
            expected |= set(sorted(self.sites_named - expected)[: max(0, number - len(expected))])
        return frozenset(expected), max(0, number - len(expected)), bool(number or promised or final)

    def named_sites(self, well: WellTime) -> list[int]:
        """The sites of a well of which a file was seen."""
        return sorted(self._named[well].steps) if well in self._named else []

    @property
    def is_log(self) -> bool:
        """Whether the metadata says what was taken so far, not what is to come."""
        return self.manifest.may_grow and not self._is_plan

    def may_grow(self, well: WellTime) -> bool:
        """Whether the metadata may still promise more of this well.

        It stands where the file is appended to, and no other well has just as many planes.
        """
        if not self.is_log or self.manifest.last != well:
            return False
        size = self._size(well)
        return not any(self._size(other) == size for other in self._promised if other != well)

    def _size(self, well: WellTime) -> int:
        return sum(len(steps) for channels in self._promised.get(well, {}).values() for steps in channels.values())

    def required(self, well: WellTime, site: int, channel: str, *, settled: bool = False) -> frozenset[int]:
        """The z steps without which a channel of a site cannot be analysed.

        settled: nothing came to the well for a while, so that where only the most there can be is known, what is
        there is all.
        """
        return required_steps(self._expect.projection, self._steps(well, site, channel, settled=settled))

    def will_never_come(self, well: WellTime, site: int, channel: str, z: int) -> bool:
        """Whether the instrument says that it did not take this plane, or takes none of this channel there."""
        if z in self._never.get(well, {}).get(site, {}).get(channel, ()):
            return True
        promised = self._promised.get(well)
        listed = promised is not None and site in promised and channel in self._mentioned
        return listed and promised is not None and channel not in promised[site]

    def wells(self) -> set[WellTime]:
        """The wells and time points that metadata promises, empty where it says nothing."""
        return set(self._promised)

    def _steps(self, well: WellTime, site: int, channel: str, *, settled: bool) -> frozenset[int]:
        here = self._named[well].steps.get(site, {}).get(channel, set()) if well in self._named else set()
        promised = self._promised.get(well, {}).get(site, {}).get(channel)
        if promised is not None and self.manifest.exact_z:
            return promised | here if self.is_log else promised
        seen = frozenset(self._steps_named.get(channel, ()))
        at_most = promised or frozenset(range(1, self._expect.z_steps + 1))
        if settled and here:
            return frozenset(here | self._usual_steps(channel))
        if not at_most or settled:
            return seen or at_most or frozenset({1})
        return frozenset(here | at_most)

    def _usual_steps(self, channel: str) -> set[int]:
        """The steps that more than half of the plate's sites have of a channel: one that lacks them has lost some."""
        if channel not in self._usual:
            stacks = [
                sites[channel] for named in self._named.values() for sites in named.steps.values() if channel in sites
            ]
            times = Counter(step for stack in stacks for step in stack)
            self._usual[channel] = {step for step, number in times.items() if 2 * number > len(stacks)}
        return self._usual[channel]

    def short_stacks(self, well: WellTime) -> list[str]:
        """In words, the channels of a well with fewer steps than elsewhere on the plate, where nothing is promised."""
        if self.manifest.planes and self.manifest.exact_z:
            return []
        stacks = {channel: len(steps - {PROJECTION_Z}) for channel, steps in self._steps_named.items()}
        sites = self._named[well].steps if well in self._named else {}
        return [
            f"site {site} {channel} has {len(steps - {PROJECTION_Z})} of the {stacks[channel]} z steps that were seen"
            for site, channels in sorted(sites.items())
            for channel, steps in channels.items()
            if len(steps - {PROJECTION_Z}) < stacks[channel]
        ]

    # ---- how they were taken

    def pixel_size_um(self) -> float | None:
        """Micrometres a pixel: by the settings, the metadata, the planes' tags, or an earlier run, in this order."""
        return next((size for _, size in self._pixel_sizes()), self.remembered_um)

    def contradiction(self) -> str:
        """In words, what two sources say differently about the size of a pixel or its bits; empty where they agree."""
        return self._sizes_differ() or self._depths_differ()

    def _sizes_differ(self) -> str:
        sizes = list(self._pixel_sizes())
        for where, size in sizes[1:]:
            first, known = sizes[0]
            if differs(size, known):
                return f"{first} says {known:g} µm a pixel, {where} {size:g}"
        return ""

    def _depths_differ(self) -> str:
        """The metadata says the most bits there can be: fewer than are expected contradict, more do not."""
        for name, facts in self._by_name().items():
            if name in self.channels and facts.bit_depth and facts.bit_depth < self._expect.bit_depth:
                return (
                    f"the instrument's metadata declares {facts.bit_depth} bits for {name}, "
                    f"and expect.bit_depth is {self._expect.bit_depth}"
                )
        return ""

    def lacking(self) -> str:
        """In words, what must still be known before a site can be analysed; empty when nothing."""
        if self.pixel_size_um() is None:
            return "the pixel size is not known: set expect.pixel_size_um, or copy the instrument's index file too"
        missing = [name for name in self.channels if name not in self.flatfields]
        if self._expect.flatfield == "instrument" and missing:
            return (
                f"the instrument's flat field of {', '.join(missing)} is not known: copy its metadata too, or set "
                'expect.flatfield = "off" with a model that was trained without'
            )
        return ""

    def problem(self) -> str:
        """In words, why no site of the plate can be analysed whatever comes; empty when one can."""
        if said := self._sizes_differ():
            return f"{said}: find out which is right, and correct expect.pixel_size_um"
        if said := self._depths_differ():
            return f"{said}: find out which is right, and correct expect.bit_depth"
        return self.trouble

    def correction(self, channel: str) -> str:
        """The digest of the flat field that is taken out of a channel, empty for none."""
        flatfield = self.flatfields.get(channel)
        return flatfield.digest if flatfield is not None else ""

    def flatfield_words(self) -> str:
        """What is taken out of the images, empty for nothing."""
        said = dict.fromkeys(self.flatfields[name].words for name in self.channels if name in self.flatfields)
        return "; ".join(said)

    def facts(self) -> dict[str, ChannelFacts]:
        """How each channel was taken, by the settings' name, else by its id."""
        found = {name: ChannelFacts(id=id_) for name, id_ in self.names.met.items()}
        found |= {
            name: replace(facts, id=facts.id or self.names.met.get(name, "")) for name, facts in self.taken.items()
        }
        for id_, facts in self.manifest.channels.items():
            if not self._ids_promised or id_ in self._ids_promised:
                found[self.names.name_of_id(id_) or id_] = facts
        return {name: replace(facts, projection=self.projected.get(name, "")) for name, facts in found.items()}

    def summary(self) -> ExpectedPlate:
        """What will come, as a plate's file says it."""
        rows, columns = self.manifest.rows, self.manifest.columns
        if self._promised:
            sites = [site for steps in self._promised.values() for site in steps.values()]
            stacks = [steps for site in sites for steps in site.values()]
            return ExpectedPlate(
                source="metadata",
                wells=len({position for position, _ in self._promised}),
                planes=sum(len(steps) for steps in stacks),
                sites=self._expect.sites_per_well or max(len(steps) for steps in self._promised.values()),
                time_points=len({time for _, time in self._promised}),
                z_steps=max((len(steps - {PROJECTION_Z}) for steps in stacks), default=None),
                rows=rows,
                columns=columns,
            )
        learned = self.learned_sites if not self._expect.sites_per_well else 0
        return ExpectedPlate(
            source="learned" if learned else "settings",
            sites=self._expect.sites_per_well or learned or None,
            z_steps=self._expect.z_steps or None,
            rows=rows,
            columns=columns,
        )

    def _pixel_sizes(self) -> Iterator[tuple[str, float]]:
        if self._expect.pixel_size_um:
            yield "expect.pixel_size_um", self._expect.pixel_size_um
        if self.manifest.pixel_size_um:
            yield "the instrument's metadata", self.manifest.pixel_size_um
        for source, channels in (("metadata", self._by_name()), ("images' own tags", self.taken)):
            for name, facts in channels.items():
                if name in self.channels and facts.pixel_size_um:
                    yield f"the {source} for {name}", facts.pixel_size_um

    def _by_name(self) -> dict[str, ChannelFacts]:
        return {self.names.name_of_id(id_) or id_: facts for id_, facts in self.manifest.channels.items()}

    # ---- the metadata's words in ours

    def _by_well(self, planes: Planes) -> dict[WellTime, Steps]:
        names: dict[str, str | None] = {}
        found: dict[WellTime, Steps] = {}
        for position, images in planes.items():
            for (site, time, id_), steps in images.items():
                if id_ not in names:
                    names[id_] = self.names.name_of_id(id_)
                channels = found.setdefault((position, time), {}).setdefault(site, {})
                if (name := names[id_]) in self.channels and name is not None:
                    channels[name] = steps
        return found

    def _is_ahead(self) -> bool:
        """Whether the metadata names a plane of which no file was seen: it is a plan, and no log of what was taken.

        A log names planes that failed, and of those there is no file; and it may be a moment ahead at its end.
        """
        return any(
            not steps <= self._seen(well, site, channel) | self._failed(well, site, channel)
            for well, sites in self._promised.items()
            if well != self.manifest.last
            for site, channels in sites.items()
            for channel, steps in channels.items()
        )

    def _seen(self, well: WellTime, site: int, channel: str) -> set[int]:
        named = self._named.get(well)
        return named.steps.get(site, {}).get(channel, set()) if named else set()

    def _failed(self, well: WellTime, site: int, channel: str) -> frozenset[int]:
        return self._never.get(well, {}).get(site, {}).get(channel, frozenset())


def differs(one: float, other: float) -> bool:
    """Whether two pixel sizes are not of the same images."""
    return abs(one - other) > PIXEL_SIZE_TOLERANCE * other
