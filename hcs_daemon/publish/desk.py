"""What publish holds of one plate, and of a well on its way to be written."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from hcs_daemon.plate import AcquisitionId, SiteId, WellId
from hcs_daemon.publish.channel_fit import ChannelFit, ChannelFits
from hcs_daemon.publish.documents import WellDraft, content
from hcs_daemon.publish.files import LineFile
from hcs_daemon.publish.layouts import LayoutWord
from hcs_daemon.publish.maps import SiteMap
from hcs_daemon.publish.names import REJECTED_NAME
from hcs_daemon.publish.panels import AttributionPanels, SitePanels
from hcs_daemon.publish.quality import PlateQuality, QualityBook
from hcs_daemon.publish.schemas import PlateFile, WellResult
from hcs_daemon.records import Attribution, PlateNews, Prediction, Rejection, SiteWanted, WellClosed
from hcs_daemon.vocabulary import PlateState


@dataclass(slots=True)
class Answers:
    """A well and what came of its explanation.

    wanted: not answered yet. due_s: until when the well waits, monotonic seconds. late: it was published already.
    notes: what went wrong, in words.
    """

    draft: WellDraft
    wanted: set[SiteWanted] = field(default_factory=set)
    explained: set[int] = field(default_factory=set)
    attributions: list[Attribution] = field(default_factory=list)
    maps: list[SiteMap] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    panels: SitePanels | None = None
    heat: AttributionPanels | None = None
    due_s: float = float("inf")
    late: bool = False


@dataclass(slots=True)
class Desk:
    """One acquisition. Owned by the publish thread.

    fingerprint: of the present settings. results: the newest published revision of each well. A closed well goes from
    `closed` (lacks predictions) to `explaining` (lacks answers) to `unwritten` (waits for the disk; its `content`) to
    `results`. owed: published before they were explained, and to be revised when they are. unused: sites whose
    prediction no result holds: their well is not closed yet, or the model failed. damaged: where results lay that
    somebody changed while this plate was put away. pictures_missing: wells whose picture an earlier run did not finish.
    written: plate.json as it is on the disk. stale: something came since the plate-level files were last compared with
    it. untold: there is a rejection that quality.html does not tell. refreshing: they wait for the disk. refresh_s:
    when they may be written next, monotonic seconds. layout: what is in the wells; look_s: when its file is looked at
    next. plate_shape: rows and columns, the last that were said: after a start, metadata may be read again late. book:
    judges their pictures. fits: judges their channels. drifts: it was said that its controls do.
    called: as of when and of which revisions its command was asked for.
    """

    acquisition: AcquisitionId
    folder: Path
    fingerprint: str
    results: dict[WellId, WellResult] = field(default_factory=dict)
    predictions: dict[SiteId, Prediction] = field(default_factory=dict)
    unused: set[SiteId] = field(default_factory=set)
    damaged: frozenset[Path] = frozenset()
    rejections: dict[str, Rejection] = field(default_factory=dict)
    closed: dict[WellId, WellClosed] = field(default_factory=dict)
    explaining: dict[WellId, Answers] = field(default_factory=dict)
    owed: dict[WellId, Answers] = field(default_factory=dict)
    unwritten: dict[WellId, object] = field(default_factory=dict)
    pictures_missing: list[WellId] = field(default_factory=list)
    news: PlateNews | None = None
    opened_at: datetime | None = None
    written: PlateFile | None = None
    stale: bool = False
    untold: bool = False
    refreshing: bool = False
    refresh_s: float = float("-inf")
    layout: LayoutWord = field(default_factory=LayoutWord)
    look_s: float = float("-inf")
    plate_shape: tuple[int | None, int | None] = (None, None)
    book: QualityBook = field(default_factory=QualityBook)
    fits: ChannelFits = field(default_factory=ChannelFits)
    drifts: bool = False
    called: tuple[datetime | None, int] | None = None
    rejected_file: LineFile = field(init=False)

    def __post_init__(self) -> None:
        self.rejected_file = LineFile(self.folder / REJECTED_NAME)
        if self.written is not None and self.written.expected is not None:
            self.plate_shape = (self.written.expected.rows, self.written.expected.columns)

    def hear(self, news: PlateNews) -> None:
        """Take intake's word."""
        self.news, self.stale = news, True
        if news.expected.rows is not None and news.expected.columns is not None:
            self.plate_shape = (news.expected.rows, news.expected.columns)

    @property
    def waiting(self) -> bool:
        """Whether a closed well is not written yet, or not as it should be."""
        return bool(self.closed or self.explaining or self.owed or self.unwritten)

    @property
    def expecting(self) -> bool:
        """Whether what is held here is still needed: by a closed well, or by one that intake may close."""
        return self.waiting or bool(self.unused)

    @property
    def state(self) -> PlateState:
        """`finished` once intake says so and every well that it closed is written."""
        finished = self.news is not None and self.news.state is PlateState.FINISHED and not self.waiting
        return PlateState.FINISHED if finished else PlateState.ACQUIRING

    @property
    def is_open(self) -> bool:
        """Whether a result or plate.json's word `finished` is still to be written."""
        finished = self.written is not None and self.written.state is PlateState.FINISHED
        acquiring = self.news is not None and (self.news.state is PlateState.ACQUIRING or not finished)
        return acquiring or self.waiting

    @property
    def made_otherwise(self) -> bool:
        """Whether it was finished under other settings than the present ones."""
        written = self.written
        if written is None or written.state is not PlateState.FINISHED:
            return False
        return written.settings_fingerprint != self.fingerprint

    @property
    def frozen(self) -> bool:
        """Made otherwise, and nothing new came: its plate-level files stay as they are."""
        grows = self.news is not None and self.news.state is PlateState.ACQUIRING
        return self.made_otherwise and not (grows or self.waiting)

    def is_due(self, now_s: float) -> bool:
        """Whether its plate-level files are to be looked at now."""
        if not self.stale or self.refreshing or self.news is None or self.frozen:
            return False
        first = self.written is None or self.written.settings_fingerprint != self.fingerprint
        return first or now_s >= self.refresh_s or self.state is PlateState.FINISHED

    def newest_content(self, well: WellId) -> object:
        """What the newest revision of a well says, written or on its way to the disk; None where there is none."""
        if well in self.unwritten:
            return self.unwritten[well]
        result = self.results.get(well)
        return None if result is None else content(result)

    def current(self) -> list[WellResult]:
        """The results under the present settings, sorted by well: two models never stand side by side."""
        return [result for _, result in sorted(self.results.items()) if result.settings_fingerprint == self.fingerprint]

    def quality(self) -> PlateQuality:
        """What the pictures of all current results say of each other."""
        return self.book.judge(self.current(), self.plate_shape)

    def channel_fit(self) -> ChannelFit:
        """Whether the channels of all current results are what they are called."""
        return self.fits.judge(self.current())

    def rejected_in(self, well: WellId) -> tuple[str, ...]:
        """The well's rejected files, a line each: what, why, what to do."""
        lines = []
        for rejection in self.rejections.values():
            if rejection.withdrawn or rejection.plane is None or rejection.plane.site.well != well:
                continue
            where = f"site {rejection.plane.site.site} {rejection.channel or rejection.plane.channel}"
            lines.append(f"{where}: {rejection.reason.value}: {rejection.detail}; {rejection.hint}")
        return tuple(sorted(lines))
