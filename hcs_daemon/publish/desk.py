"""What publish holds of one plate, and of a well on its way to be written."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from hcs_daemon.plate import AcquisitionId, SiteId, WellId
from hcs_daemon.publish.documents import WellDraft
from hcs_daemon.publish.panels import AttributionPanels, SitePanels
from hcs_daemon.publish.schemas import WellResult
from hcs_daemon.records import Attribution, PlateNews, Prediction, Rejection, SiteWanted, WellClosed
from hcs_daemon.vocabulary import PlateState


@dataclass(slots=True)
class Answers:
    """A well and what came of its explanation. wanted: not answered yet. notes: what went wrong, in words."""

    draft: WellDraft
    wanted: set[SiteWanted] = field(default_factory=set)
    explained: set[int] = field(default_factory=set)
    attributions: list[Attribution] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    panels: SitePanels | None = None
    heat: AttributionPanels | None = None


@dataclass(slots=True)
class Desk:
    """One acquisition. Owned by the publish thread.

    results: the newest published revision of each well. contents: what each well's newest revision, written or
    waiting to be, says of which bytes. waiting: closed wells that lack predictions or explanations. frozen: made under
    other settings and finished; its plate-level files stay as they are unless it grows. pictures_missing: wells whose
    picture an earlier run did not finish.
    """

    acquisition: AcquisitionId
    folder: Path
    results: dict[WellId, WellResult] = field(default_factory=dict)
    contents: dict[WellId, object] = field(default_factory=dict)
    predictions: dict[SiteId, Prediction] = field(default_factory=dict)
    rejections: dict[str, Rejection] = field(default_factory=dict)
    closed: dict[WellId, WellClosed] = field(default_factory=dict)
    explaining: dict[WellId, Answers] = field(default_factory=dict)
    pictures_missing: list[WellId] = field(default_factory=list)
    news: PlateNews | None = None
    opened_at: datetime | None = None
    finished_at: datetime | None = None
    frozen: bool = False
    dirty: bool = False
    written_state: PlateState | None = None
    refresh_s: float = float("-inf")

    @property
    def waiting(self) -> bool:
        """Whether a closed well is not written yet."""
        return bool(self.closed or self.explaining)

    @property
    def state(self) -> PlateState:
        """`finished` once intake says so and every well that it closed is on its way to the disk."""
        finished = self.news is not None and self.news.state is PlateState.FINISHED and not self.waiting
        return PlateState.FINISHED if finished else PlateState.ACQUIRING

    def is_due(self, now_s: float) -> bool:
        """Whether its plate-level files are to be written now."""
        if not self.dirty or self.frozen or self.news is None:
            return False
        return now_s >= self.refresh_s or self.state is PlateState.FINISHED

    def current(self, settings_fingerprint: str) -> list[WellResult]:
        """The results under the present settings, sorted by well: two models never stand side by side."""
        return [
            result for _, result in sorted(self.results.items()) if result.settings_fingerprint == settings_fingerprint
        ]

    def rejected_in(self, well: WellId) -> tuple[str, ...]:
        """The well's rejected files, a line each: what, why, what to do."""
        lines = []
        for rejection in self.rejections.values():
            if rejection.withdrawn or rejection.plane is None or rejection.plane.site.well != well:
                continue
            where = f"site {rejection.plane.site.site} {rejection.channel or rejection.plane.channel}"
            lines.append(f"{where}: {rejection.reason.value}: {rejection.detail}; {rejection.hint}")
        return tuple(sorted(lines))
