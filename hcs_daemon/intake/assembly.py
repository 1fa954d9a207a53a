"""Wells and plates as they fill: which planes are there, which are missing, when a well is decided."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hcs_daemon.instruments.manifest import Manifest, merged
from hcs_daemon.plate import AcquisitionId, WellId, WellPosition
from hcs_daemon.records import ChannelDepth, InputUse, PlaneRecord, Rejection, RestoredWell
from hcs_daemon.vocabulary import PlateState, Reason, Used, Verdict, WellStatus

PlaneKey = tuple[int, str, int]
"""Site number, channel name, z."""
ANALYSED_Z = 1
VOTES_FOR_A_SHAPE = 3
"""So many planes of one shape settle the plate's, so that one odd first plane does not condemn the rest."""


@dataclass(frozen=True, slots=True)
class Census:
    """A well counted. complete: site -> its planes in channel order. unnamed: expected sites without a number.

    missing: sites that lack planes which may still come; rejected: those whose lacking planes were all rejected.
    known: whether the number of sites is known at all.
    """

    complete: Mapping[int, tuple[PlaneRecord, ...]]
    missing: tuple[int, ...]
    rejected: tuple[int, ...]
    unnamed: int
    known: bool

    @property
    def expected(self) -> int:
        """How many sites the well should have."""
        return len(self.complete) + len(self.missing) + len(self.rejected) + self.unnamed

    @property
    def decided(self) -> bool:
        """Whether nothing more is waited for."""
        return self.known and not self.missing and not self.unnamed


@dataclass(slots=True)
class WellBook:
    """One well's planes. Owned by the intake thread.

    planes: the ones that count. superseded: by address and path, those that were imaged again since. rejected: path ->
    (site, channel name) of planes that will not come. copies: path -> (address, SHA-256) of files refused because
    another one at their address has the same bytes. outstanding: names of files seen and not yet decided. dispatched:
    site -> key of what the device was given. sent: what publish was last told, to tell it only what is new. published:
    keys and inputs of a complete result of an earlier run that lacks nothing.
    """

    well: WellId
    planes: dict[PlaneKey, PlaneRecord] = field(default_factory=dict)
    superseded: dict[PlaneKey, dict[str, PlaneRecord]] = field(default_factory=dict)
    rejected: dict[str, tuple[int, str]] = field(default_factory=dict)
    copies: dict[str, tuple[PlaneKey, str]] = field(default_factory=dict)
    outstanding: set[str] = field(default_factory=set)
    sites_named: set[int] = field(default_factory=set)
    dispatched: dict[int, tuple[str, ...]] = field(default_factory=dict)
    first_plane_at: datetime | None = None
    last_plane_at: datetime | None = None
    last_plane_s: float = 0.0
    touched_s: float = 0.0
    sent: object = None
    sent_decided: bool = False
    published: tuple[Mapping[int, tuple[str, ...]], tuple[InputUse, ...]] | None = None

    def note_verdict(self, at: datetime, complete_s: float, now: float) -> None:
        """A plane of this well was decided. complete_s: when its file was complete; both monotonic seconds."""
        self.first_plane_at = self.first_plane_at or at
        self.last_plane_at = at
        self.last_plane_s = max(self.last_plane_s, complete_s)
        self.touched_s = now

    def place(self, record: PlaneRecord) -> str | None:
        """Put a plane at its address; the path of an equal plane that is there already, which makes it a duplicate.

        Another path with other bytes: the well was imaged again, and the later file counts.
        """
        key, path = key_of(record), record.source.path
        others = self._others(key, path)
        twin = next((name for name, other in others.items() if other.source.sha256 == record.source.sha256), None)
        self._arrange(key, others if twin is not None else {**others, path: record})
        if twin is not None:
            self.copies[path] = (key, record.source.sha256)
        else:
            self.copies.pop(path, None)
            self.rejected.pop(path, None)
        return twin

    def remove(self, key: PlaneKey, path: str) -> None:
        """The bytes of an accepted file are there no more; an older plane at its address counts again."""
        self._arrange(key, self._others(key, path))

    def holds(self, key: PlaneKey, path: str) -> bool:
        """Whether a file is among the accepted ones of an address."""
        here = self.planes.get(key)
        return path in self.superseded.get(key, {}) or (here is not None and here.source.path == path)

    def orphans(self) -> list[str]:
        """Take out the copies whose original is there no more."""
        found = [path for path, (key, sha256) in self.copies.items() if sha256 not in self._digests(key)]
        for path in found:
            del self.copies[path]
        return found

    def site_planes(self, site: int, channels: tuple[str, ...]) -> tuple[PlaneRecord, ...] | None:
        """The site's planes in channel order, or None while one is lacking."""
        found = [self.planes.get((site, channel, ANALYSED_Z)) for channel in channels]
        return tuple(plane for plane in found if plane is not None) if None not in found else None

    def inputs(self, analysed: set[int]) -> tuple[InputUse, ...]:
        """Every accepted plane and what became of it, in the order of site, channel, z."""
        uses = [InputUse(record, _use(record, analysed)) for _, record in sorted(self.planes.items())]
        older = [takes[path] for _, takes in sorted(self.superseded.items()) for path in sorted(takes)]
        return (*uses, *(InputUse(record, Used.SUPERSEDED) for record in older))

    def _digests(self, key: PlaneKey) -> set[str]:
        return {record.source.sha256 for record in self._others(key, "").values()}

    def _others(self, key: PlaneKey, path: str) -> dict[str, PlaneRecord]:
        takes = dict(self.superseded.get(key, {}))
        if key in self.planes:
            takes[self.planes[key].source.path] = self.planes[key]
        takes.pop(path, None)
        return takes

    def _arrange(self, key: PlaneKey, takes: dict[str, PlaneRecord]) -> None:
        """Of the files at one address the latest counts; whatever order they came in."""
        self.planes.pop(key, None)
        self.superseded.pop(key, None)
        if takes:
            latest = max(takes, key=lambda path: (takes[path].source.mtime_ns, path))
            self.planes[key] = takes.pop(latest)
        if takes:
            self.superseded[key] = takes


def key_of(record: PlaneRecord) -> PlaneKey:
    """The address of a plane within its well."""
    return (record.id.site.site, record.channel, record.id.z)


def site_key(planes: tuple[PlaneRecord, ...]) -> tuple[str, ...]:
    """SHA-256 of a site's planes: what a prediction of it stands for, as `Site.key`."""
    return tuple(plane.source.sha256 for plane in planes)


def _use(record: PlaneRecord, analysed: set[int]) -> Used:
    if record.id.z != ANALYSED_Z:
        return Used.OTHER_Z
    return Used.ANALYSED if record.id.site.site in analysed else Used.INCOMPLETE_SITE


@dataclass(slots=True)
class PlateBook:
    """One acquisition of a plate. Owned by the intake thread.

    manifests: what each metadata file promises; manifest: all of it together. sites_named: site numbers seen in any
    well. learned_sites: how many sites wells had whose time ran out, where nothing else says it. undecided: by path,
    planes that wait until the plate's shape is settled, and since when. level_bits: channel -> the most bits that any
    of its planes showed, and the plane's path. ambiguous: it was said that another folder claims to be this plate too.
    """

    acquisition: AcquisitionId
    folder: str
    manifests: dict[str, Manifest] = field(default_factory=dict)
    manifest: Manifest = field(default_factory=Manifest)
    shape: tuple[int, int] | None = None
    state: PlateState = PlateState.ACQUIRING
    outdated: bool = False
    ambiguous: bool = False
    wells: dict[WellId, WellBook] = field(default_factory=dict)
    undecided: dict[str, tuple[PlaneRecord, float]] = field(default_factory=dict)
    sites_named: set[int] = field(default_factory=set)
    learned_sites: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    level_bits: dict[str, tuple[int, str]] = field(default_factory=dict)
    touched_s: float = 0.0
    news_s: float = float("-inf")
    news_due: bool = True

    def well(self, well: WellId) -> WellBook:
        """The book of one well, opened when first asked for."""
        return self.wells.setdefault(well, WellBook(well))

    def name_site(self, book: WellBook, site: int) -> None:
        """A file of this site was seen, good or bad."""
        book.sites_named.add(site)
        self.sites_named.add(site)

    def promise(self, name: str, manifest: Manifest) -> None:
        """A metadata file came, or came again.

        What several say is added up; where they differ the first name counts.
        """
        self.manifests[name] = manifest
        self.manifest = merged(self.manifests[each] for each in sorted(self.manifests))

    def census(self, book: WellBook, channels: tuple[str, ...], per_well: int, *, all_named: bool) -> Census:
        """Count a well. per_well: sites a well by the settings, 0: unknown. all_named: all names are seen."""
        named = self.sites_named
        promised = {site for site, _, _ in self.manifest.planes.get(book.well.position, {})}
        number = per_well or (0 if promised else self.learned_sites)
        expected = set(book.sites_named) | (set(promised) if promised and not per_well else set())
        if all_named and not number and not promised:
            expected |= named
        if number:
            expected |= set(sorted(named - expected)[: max(0, number - len(expected))])
        complete: dict[int, tuple[PlaneRecord, ...]] = {}
        missing: list[int] = []
        rejected: list[int] = []
        for site in sorted(expected):
            planes = book.site_planes(site, channels)
            if planes is not None:
                complete[site] = planes
            elif self._hopeless(book, site, channels):
                rejected.append(site)
            else:
                missing.append(site)
        known = bool(number or promised or all_named)
        return Census(complete, tuple(missing), tuple(rejected), max(0, number - len(expected)), known)

    def vote(self, *, last_chance: bool) -> tuple[int, int] | None:
        """The shape that enough undecided planes agree on; at the last chance, the most frequent."""
        votes = Counter(record.shape for record, _ in self.undecided.values())
        if not votes:
            return None
        shape, count = votes.most_common(1)[0]
        return shape if last_chance or count >= VOTES_FOR_A_SHAPE else None

    def note_bits(self, record: PlaneRecord) -> None:
        """Remember the plane that shows the most bits of its channel."""
        bits = record.measures.observed_bits
        if bits > self.level_bits.get(record.channel, (0, ""))[0]:
            self.level_bits[record.channel] = (bits, record.source.path)

    def depth_verdicts(self, channels: tuple[str, ...], declared: int) -> dict[str, ChannelDepth]:
        """What the planes so far say of the declared bit depth: reached, or not (yet) shown."""
        verdicts = {}
        for channel in channels:
            bits, path = self.level_bits.get(channel, (0, ""))
            if bits == declared:
                verdicts[channel] = ChannelDepth(declared, Verdict.CONSISTENT, f"{path} uses bit {bits}")
            else:
                said = (
                    f"the most seen are {bits} bits, in {path}; a dim sample looks the same" if bits else "no plane yet"
                )
                verdicts[channel] = ChannelDepth(declared, Verdict.UNDECIDED, said)
        return verdicts

    def expected_wells(self) -> set[WellPosition]:
        """The wells that the instrument's metadata promises, empty where it says nothing."""
        return set(self.manifest.planes)

    def _hopeless(self, book: WellBook, site: int, channels: tuple[str, ...]) -> bool:
        refused = {channel for rejected_site, channel in book.rejected.values() if rejected_site == site}
        lacking = {channel for channel in channels if (site, channel, ANALYSED_Z) not in book.planes}
        return bool(lacking) and lacking <= refused


def restore_well(plate: PlateBook, well: RestoredWell) -> WellBook:
    """Fill a well's book with what an earlier run published."""
    book = plate.well(well.well)
    for record in (use.plane for use in well.inputs):
        plate.name_site(book, record.id.site.site)
        plate.note_bits(record)
        book.place(record)
    book.dispatched.update(well.predicted)
    book.first_plane_at, book.last_plane_at = well.first_plane_at, well.last_plane_at
    if well.status is WellStatus.COMPLETE and well.explained:
        book.published = (dict(well.predicted), book.inputs(set(well.predicted)))
    return book


def restore_rejection(plate: PlateBook, rejection: Rejection) -> WellBook | None:
    """Note an earlier run's rejection in its well; the well, if its result does not know of it.

    The line is newer than a result that still counts the same file.
    """
    plane, channel = rejection.plane, rejection.channel
    if plane is None or channel is None:
        return None
    book = plate.well(plane.site.well)
    plate.name_site(book, plane.site.site)
    key = (plane.site.site, channel, plane.z)
    news = book.last_plane_at is None or book.holds(key, rejection.path)
    book.remove(key, rejection.path)
    if rejection.reason is Reason.DUPLICATE_PLANE:
        book.copies[rejection.path] = (key, rejection.sha256 or "")
    elif rejection.reason is not Reason.DUPLICATE_CHANNEL and plane.z == ANALYSED_Z:
        book.rejected[rejection.path] = (plane.site.site, channel)
    return book if news else None
