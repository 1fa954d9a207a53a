"""Which pictures are due, of wells and of plates, and where they go. What draws and when is the studio's business."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path

from hcs_daemon.config import Settings
from hcs_daemon.plate import AcquisitionId, SiteId, WellId
from hcs_daemon.publish.desk import Answers, Desk
from hcs_daemon.publish.documents import is_finite, shown_site, well_json
from hcs_daemon.publish.files import write_atomic
from hcs_daemon.publish.names import PLATE_PICTURE_NAME
from hcs_daemon.publish.outbox import Outbox
from hcs_daemon.publish.panels import attribution_panels, site_panels
from hcs_daemon.publish.schemas import PlateFile, WellResult
from hcs_daemon.publish.studio import Contrast, Studio, WellPicture
from hcs_daemon.records import Attribution, ModelFacts, Site, SiteReturned, SiteWanted
from hcs_daemon.telemetry import Event, get_log


@dataclass(frozen=True, slots=True)
class _PlateDrawing:
    folder: Path
    plate: PlateFile
    results: list[WellResult]


class Gallery:
    """Owned by the publish thread. drawing: where pictures are drawn; nothing here waits for it but `wait`."""

    def __init__(self, settings: Settings, facts: ModelFacts, outbox: Outbox, drawing: Executor) -> None:
        self.which = settings.results.pictures
        self._model_pixel_size_um = facts.pixel_size_um
        self._outbox = outbox
        self._drawing = drawing
        self._studio = Studio(drawing, facts.control_class)
        self._plates_due: dict[AcquisitionId, _PlateDrawing] = {}
        self._plates_under_way: dict[Future[bytes], tuple[AcquisitionId, Path]] = {}
        self._log = get_log()

    # ---- which

    def shows(self, *, hit: bool) -> bool:
        """Whether a well gets a picture; `hits` leaves out wells without a verdict, too."""
        return self.which == "all" or (self.which == "hits" and hit)

    def missing(self, folder: Path, results: Mapping[WellId, WellResult]) -> list[WellId]:
        """The wells among these results that should have a picture and have none."""
        return [
            well
            for well, result in results.items()
            if self.shows(hit=result.prediction is not None and result.prediction.hit)
            and not well_json(folder, well).with_suffix(".png").exists()
        ]

    def has_plate_picture(self, folder: Path) -> bool:
        """Whether the plate's picture is there, or none is wanted."""
        return self.which == "none" or (folder / PLATE_PICTURE_NAME).exists()

    # ---- wells

    def show(self, answers: Answers, site: Site | None, attribution: Attribution | None) -> None:
        """Keep of a site's pixels and explanation what its well's picture shows."""
        verdict = answers.draft.verdict
        if verdict is None or not self.shows(hit=verdict.hit):
            return
        answers.panels = site_panels(site) if site else None
        answers.heat = attribution_panels(attribution, self._model_pixel_size_um) if attribution else None

    def published(self, desk: Desk, answers: Answers, result: WellResult, now_s: float) -> list[SiteWanted]:
        """Have a new result drawn; the site whose pixels are wanted for it."""
        prediction, well = result.prediction, answers.draft.closed.well
        if not self.shows(hit=prediction is not None and prediction.hit):
            return []
        problem = "; ".join(answers.notes) or None
        picture = WellPicture(result, desk.rejected_in(well), answers.panels, answers.heat, problem=problem)
        site = shown_site(result)
        if site is None:
            self._studio.add(well, picture, None, now_s)
            return []
        wanted = SiteWanted(SiteId(well, site), _key(result, site), urgent=False)
        if answers.panels is None and site not in answers.explained:
            return self._studio.ask(well, picture, wanted)
        self._studio.add(well, picture, wanted, now_s)
        return []

    def draw_missing(self, desk: Desk, now_s: float) -> list[SiteWanted]:
        """Draw what an earlier run was stopped before drawing; the sites that are wanted for it."""
        missing, desk.pictures_missing = desk.pictures_missing, []
        wanted = []
        for well in missing:
            result = desk.results[well]
            picture = WellPicture(result, desk.rejected_in(well))
            site = shown_site(result)
            if site is None:
                self._studio.add(well, picture, None, now_s)
            else:
                wanted += self._studio.ask(well, picture, _wanted(well, result, site))
        return wanted

    def receive(self, answer: SiteReturned, now_s: float) -> bool:
        """Take the pixels that a picture was waiting for; False when none was."""
        asked = self._studio.asked(answer.wanted)
        if asked is not None:
            well, picture = asked
            self._studio.add(well, self._with_pixels(picture, answer), None, now_s)
        return asked is not None

    def rest(self) -> None:
        """Ask for no more pixels: what lacks them is drawn at the next start."""
        self._studio.rest()

    def drop(self, well: WellId) -> None:
        """Forget what is not drawn yet of a well, of which a newer result comes."""
        self._studio.drop(well)

    def _with_pixels(self, picture: WellPicture, answer: SiteReturned) -> WellPicture:
        attribution = answer.attribution
        if attribution is not None and is_finite(attribution):
            picture = replace(picture, attribution=attribution_panels(attribution, self._model_pixel_size_um))
        if answer.site is not None:
            return replace(picture, panels=site_panels(answer.site))
        return replace(picture, problem=answer.problem or "its files are gone or were changed")

    # ---- plates

    def draw_plate(self, acquisition: AcquisitionId, folder: Path, plate: PlateFile, results: list[WellResult]) -> None:
        """Have a plate drawn as it is now, in place of what was not begun yet."""
        if self.which != "none":
            self._plates_due[acquisition] = _PlateDrawing(folder, plate, results)

    def contrast(self, acquisition: AcquisitionId) -> Contrast | None:
        """The contrast that the plate's pictures share, once it is fixed."""
        return self._studio.contrast(acquisition)

    def adopt(self, acquisition: AcquisitionId, contrast: Contrast | None) -> None:
        """Go on with the contrast that an earlier run fixed."""
        self._studio.adopt(acquisition, contrast)

    def settle(self, acquisition: AcquisitionId) -> None:
        """Nothing more comes of this plate: its contrast is taken from what is there."""
        self._studio.settle(acquisition)

    def holds(self, acquisition: AcquisitionId) -> bool:
        """Whether pictures of this plate wait for its contrast."""
        return self._studio.holds(acquisition)

    def close(self, acquisition: AcquisitionId) -> None:
        """Let go of a plate of which nothing more is expected."""
        self._studio.close(acquisition)

    # ---- all

    @property
    def drawing(self) -> bool:
        """Whether something is being drawn, or can be."""
        return self._studio.drawing or bool(self._plates_due or self._plates_under_way)

    @property
    def idle(self) -> bool:
        """Whether nothing is being drawn or asked for. What waits for its plate's contrast does not count."""
        return self._studio.idle and not (self._plates_due or self._plates_under_way)

    def step(self, desks: Mapping[AcquisitionId, Desk], now_s: float) -> list[SiteWanted]:
        """Put away the drawings that are done and start others; the sites that are wanted once more."""
        self._file_wells(desks)
        self._file_plates()
        self._start_plates()
        return self._studio.step(now_s)

    def wait(self) -> None:
        """Wait until what is being drawn is drawn. Only for the end of the program."""
        self._studio.wait()
        wait(list(self._plates_under_way))

    def _start_plates(self) -> None:
        busy = {acquisition for acquisition, _ in self._plates_under_way.values()}
        for acquisition in [due for due in self._plates_due if due not in busy]:
            from hcs_daemon.publish.plate_picture import draw_plate  # noqa: PLC0415 (matplotlib takes a second)

            due = self._plates_due.pop(acquisition)
            future = self._drawing.submit(draw_plate, due.plate, due.results)
            self._plates_under_way[future] = (acquisition, due.folder)

    def _file_wells(self, desks: Mapping[AcquisitionId, Desk]) -> None:
        for drawn in self._studio.collect():
            desk = desks.get(drawn.well.acquisition)
            result = desk.results.get(drawn.well) if desk else None
            if desk and result and result.revision == drawn.revision:
                self._file(well_json(desk.folder, drawn.well).with_suffix(".png"), drawn.png)

    def _file_plates(self) -> None:
        for future in _done(self._plates_under_way):
            acquisition, folder = self._plates_under_way.pop(future)
            failure = future.exception()
            if failure is not None:
                hint = "the results stand; it is tried again when they change, and at the next start"
                self._log.error(Event.PICTURE_FAILED, plate=acquisition.plate, detail=repr(failure), hint=hint)
            elif acquisition not in self._plates_due:
                self._file(folder / PLATE_PICTURE_NAME, future.result())

    def _file(self, path: Path, png: bytes) -> None:
        self._outbox.add(lambda _now_s: write_atomic(path, png), path.with_suffix(""))


def _done(futures: Iterable[Future[bytes]]) -> list[Future[bytes]]:
    return [future for future in futures if future.done()]


def _key(result: WellResult, site: int) -> tuple[str, ...]:
    return next(tuple(entry.key) for entry in result.site_results if entry.site == site)


def _wanted(well: WellId, result: WellResult, site: int) -> SiteWanted:
    """What a published result's picture shows: this site, explained again if it was explained."""
    explanation = result.explanation
    target = against = None
    if explanation is not None and any(entry.site == site for entry in explanation.sites):
        target, against = explanation.target, explanation.against
    return SiteWanted(SiteId(well, site), _key(result, site), target, against, urgent=False)
