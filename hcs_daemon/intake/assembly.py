"""Wells and plates as they fill: which planes are there, which are missing, when a well is decided."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hcs_daemon.intake.coverage import Coverage
from hcs_daemon.intake.depth import PlateDepths
from hcs_daemon.intake.expectation import Expectation, WellTime
from hcs_daemon.intake.lookalikes import Bearer, Finding, Lookalikes, is_telling
from hcs_daemon.intake.projection import channel_image
from hcs_daemon.intake.record_check import Constants
from hcs_daemon.plate import AcquisitionId, WellId
from hcs_daemon.records import (
    ChannelImage,
    InputUse,
    LackingPlane,
    PlaneRecord,
    Rejection,
    RestoredWell,
)
from hcs_daemon.vocabulary import PlateState, Reason, Used, WellStatus

PlaneKey = tuple[int, str, int]
"""Site number, channel name, z."""
VOTES_FOR_A_SHAPE = 3
"""So many planes of one shape settle the plate's, so that one odd first plane does not condemn the rest."""


@dataclass(frozen=True, slots=True)
class Census:
    """A well counted. complete: site -> its images in channel order. unnamed: expected sites without a number.

    missing: sites that lack planes which may still come; rejected: those of whose lacking planes none will, and while a
    channel's bit depth is contradicted all that wait for none. lacking: what these two lack. known: whether the number
    of sites is known at all.
    """

    complete: Mapping[int, tuple[ChannelImage, ...]]
    missing: tuple[int, ...]
    rejected: tuple[int, ...]
    lacking: tuple[LackingPlane, ...]
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
    address of planes that will not come. copies: path -> (address, SHA-256) of files refused because another one at
    their address has the same bytes. outstanding: names of files seen and not yet decided. dispatched: site -> key of
    what the device was given; images: what those were. sent: what publish was last told, to tell it only what is new.
    rested_s: the `touched_s` after which it was found quiet.
    published: keys and inputs of a complete result of an earlier run that lacks nothing.
    """

    well: WellId
    planes: dict[PlaneKey, PlaneRecord] = field(default_factory=dict)
    superseded: dict[PlaneKey, dict[str, PlaneRecord]] = field(default_factory=dict)
    rejected: dict[str, PlaneKey] = field(default_factory=dict)
    copies: dict[str, tuple[PlaneKey, str]] = field(default_factory=dict)
    outstanding: set[str] = field(default_factory=set)
    dispatched: dict[int, tuple[str, ...]] = field(default_factory=dict)
    images: dict[int, tuple[ChannelImage, ...]] = field(default_factory=dict)
    first_plane_at: datetime | None = None
    last_plane_at: datetime | None = None
    last_plane_s: float = 0.0
    touched_s: float = 0.0
    rested_s: float = -1.0
    sent: object = None
    sent_decided: bool = False
    published: tuple[Mapping[int, tuple[str, ...]], tuple[InputUse, ...]] | None = None

    @property
    def is_as_published(self) -> bool:
        """Whether a complete result of an earlier run is made of just these planes."""
        if self.published is None:
            return False
        _, inputs = self.published
        now = [*self.planes.values(), *(plane for takes in self.superseded.values() for plane in takes.values())]
        return {use.plane.content for use in inputs} == {plane.content for plane in now}

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

    @property
    def when(self) -> WellTime:
        """The well on the plate, and the time point."""
        return (self.well.position, self.well.time)

    def inputs(self, complete: Mapping[int, tuple[ChannelImage, ...]], plate: "PlateBook") -> tuple[InputUse, ...]:
        """Every accepted plane and what became of it, in the order of site, channel, z."""
        analysed = {id(plane) for images in complete.values() for image in images for plane in image.planes}
        uses = [
            InputUse(record, Used.ANALYSED if id(record) in analysed else plate.idle_use(self, key, complete))
            for key, record in sorted(self.planes.items())
        ]
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


def site_key(images: Iterable[ChannelImage]) -> tuple[str, ...]:
    """What a prediction of a site stands for, as `Site.key`."""
    return tuple(image.key for image in images)


@dataclass(slots=True)
class PlateBook:
    """One acquisition of a plate. Owned by the intake thread.

    expectation: what it should bring. instrument: whose names its files bear. undecided: by path, planes that wait
    until the plate's shape is settled, and since when. nameless: by path, planes of a channel that only metadata could
    name, and since when. depths: what the planes say of each channel's bit depth. ambiguous: it was said that another
    folder claims to be this plate too. constants: what its planes' tags say alike. lookalikes: whose pixels are whose.
    coverage: which channels came in which wells. stalled: it lacks planes, and for long none came.
    """

    acquisition: AcquisitionId
    folder: str
    expectation: Expectation
    instrument: str = ""
    shape: tuple[int, int] | None = None
    state: PlateState = PlateState.ACQUIRING
    stalled: bool = False
    outdated: bool = False
    ambiguous: bool = False
    wells: dict[WellId, WellBook] = field(default_factory=dict)
    undecided: dict[str, tuple[PlaneRecord, float]] = field(default_factory=dict)
    nameless: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    depths: PlateDepths = field(init=False)
    constants: Constants = field(default_factory=Constants)
    lookalikes: Lookalikes = field(default_factory=Lookalikes)
    coverage: Coverage = field(default_factory=Coverage)
    touched_s: float = 0.0
    news_s: float = float("-inf")
    news_due: bool = True

    def __post_init__(self) -> None:
        self.depths = PlateDepths(self.expectation.bit_depth)

    def well(self, well: WellId) -> WellBook:
        """The book of one well, opened when first asked for."""
        return self.wells.setdefault(well, WellBook(well))

    @property
    def is_ready(self) -> bool:
        """Whether all is known that a site's pixels need to be analysed."""
        return not (self.expectation.lacking() or self.expectation.problem() or self.depths.contradicted)

    def site_images(self, book: WellBook, site: int, *, settled: bool = False) -> tuple[ChannelImage, ...] | None:
        """The site's images in channel order, or None while a plane of them is lacking."""
        found = []
        for channel in self.expectation.channels:
            steps = self.expectation.required(book.when, site, channel, settled=settled)
            planes = [plane for z in sorted(steps) if (plane := book.planes.get((site, channel, z))) is not None]
            if not planes or len(planes) < len(steps):
                return None
            found.append(channel_image(self.expectation.projection, planes, self.expectation.correction(channel)))
        return tuple(found)

    def idle_use(self, book: WellBook, key: PlaneKey, complete: Mapping[int, tuple[ChannelImage, ...]]) -> Used:
        """What became of an accepted plane that was not analysed."""
        site, channel, z = key
        needed = self.expectation.required(book.when, site, channel, settled=site in complete)
        return Used.OTHER_Z if site in complete or z not in needed else Used.INCOMPLETE_SITE

    def census(self, book: WellBook, *, final: bool, settled: bool = False) -> Census:
        """Count a well.

        final: all names there will be were seen, or the well's time is up. settled: nothing came to it for a while.
        """
        settled = settled or final
        expected, unnamed, known = self.expectation.sites(book.when, final=final)
        complete: dict[int, tuple[ChannelImage, ...]] = {}
        missing: list[int] = []
        rejected: list[int] = []
        lacking: list[LackingPlane] = []
        for site in sorted(expected):
            images = self.site_images(book, site, settled=settled)
            if images is not None and not self.depths.contradicted:
                complete[site] = images
                continue
            absent = list(self._absent(book, site, settled=settled))
            lacking += absent
            (rejected if all(plane.refused for plane in absent) else missing).append(site)
        known = known and (settled or not self.expectation.may_grow(book.when))
        return Census(complete, tuple(missing), tuple(rejected), tuple(lacking), unnamed, known)

    def _absent(self, book: WellBook, site: int, *, settled: bool) -> Iterator[LackingPlane]:
        refused = set(book.rejected.values())
        for channel in self.expectation.channels:
            for z in sorted(self.expectation.required(book.when, site, channel, settled=settled)):
                key = (site, channel, z)
                if key not in book.planes:
                    never = self.expectation.will_never_come(book.when, site, channel, z)
                    yield LackingPlane(site, channel, z, refused=never or key in refused)

    def vote(self, *, last_chance: bool) -> tuple[int, int] | None:
        """The shape that enough undecided planes agree on; at the last chance, the most frequent."""
        votes = Counter(record.shape for record, _ in self.undecided.values())
        if not votes:
            return None
        shape, count = votes.most_common(1)[0]
        return shape if last_chance or count >= VOTES_FOR_A_SHAPE else None

    def note_depth(self, record: PlaneRecord) -> tuple[str, ...]:
        """Count a plane's evidence in; the channels whose contradiction it made or ended."""
        measures = record.measures
        if measures.evidence is None:
            self.depths.note_highest(record.source.path, record.channel, measures.maximum)
            return ()
        noise = measures.quality.noise if measures.quality else None
        return self.depths.note(record.source.path, record.channel, measures.evidence, noise)

    def note_pixels(self, record: PlaneRecord) -> Finding:
        """Compare a plane's pixels with those of all others."""
        if record.measures.pixel_digest is None or not is_telling(record.measures):
            return Finding(None, self.lookalikes.drop(record.source.path))
        stamp = (record.source.size_bytes, record.source.mtime_ns)
        bearer = Bearer(record.id, record.channel, stamp)
        return self.lookalikes.note(record.source.path, record.measures.pixel_digest, bearer)


def restore_well(plate: PlateBook, well: RestoredWell) -> WellBook:
    """Fill a well's book with what an earlier run published."""
    book = plate.well(well.well)
    for record in (use.plane for use in well.inputs):
        plate.expectation.name_plane(book.when, record.id.site.site, record.channel, record.id.z)
        plate.note_depth(record)
        plate.note_pixels(record)
        book.place(record)
    book.dispatched.update(well.predicted)
    book.first_plane_at, book.last_plane_at = well.first_plane_at, well.last_plane_at
    if well.status is WellStatus.COMPLETE and well.explained:
        book.published = (dict(well.predicted), tuple(well.inputs))
    return book


def restore_rejection(plate: PlateBook, rejection: Rejection) -> WellBook | None:
    """Note an earlier run's rejection in its well; the well, if its result does not know of it.

    The line is newer than a result that still counts the same file.
    """
    plane, channel = rejection.plane, rejection.channel
    if plane is None or channel is None:
        return None
    book = plate.well(plane.site.well)
    plate.expectation.name_plane(book.when, plane.site.site, channel, plane.z)
    if rejection.evidence is not None:
        plate.depths.note(rejection.path, channel, rejection.evidence)
    key = (plane.site.site, channel, plane.z)
    news = book.last_plane_at is None or book.holds(key, rejection.path)
    book.remove(key, rejection.path)
    if rejection.reason is Reason.DUPLICATE_PLANE:
        book.copies[rejection.path] = (key, rejection.sha256 or "")
    elif rejection.reason is not Reason.DUPLICATE_CHANNEL or rejection.pixel_digest:
        book.rejected[rejection.path] = key
    return book if news else None
