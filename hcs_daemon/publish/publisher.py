"""The publisher: everything that is known of a well becomes one file, once, and stays.

    plate news, rejections, closed wells, predictions, explanations -> wells/*.json, ledger, pictures, tables

A closed well waits for the predictions of its sites, then (by policy) for an explanation, and is written. Writes go
through an outbox that keeps them in order while the disk refuses them; drawings go to an executor and never hold back
a result.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from math import inf
from queue import SimpleQueue

import numpy as np

from hcs_daemon.config import Settings
from hcs_daemon.errors import FolderError
from hcs_daemon.plate import SiteId, WellId
from hcs_daemon.publish.archive import Archive
from hcs_daemon.publish.asking import Asking
from hcs_daemon.publish.desk import Answers, Desk
from hcs_daemon.publish.documents import (
    SHED,
    STOPPED,
    WellDraft,
    content,
    draft_content,
    fingerprint,
    is_finite,
    rejection_line,
    unusable,
    well_json,
    well_result,
    with_content,
)
from hcs_daemon.publish.files import make_folder
from hcs_daemon.publish.gallery import Gallery
from hcs_daemon.publish.layouts import Layouts, LayoutWord
from hcs_daemon.publish.ledger import digest
from hcs_daemon.publish.lock import ResultsLock
from hcs_daemon.publish.maps import MOST_BYTES, maps_file, site_map
from hcs_daemon.publish.outbox import Outbox
from hcs_daemon.publish.plate_files import PlateFiles
from hcs_daemon.publish.schemas import ContentEntry, WellResult
from hcs_daemon.publish.telling import Telling
from hcs_daemon.publish.verdict import judge, sites_to_explain, why_unexplained
from hcs_daemon.publish.writing import WellWrite
from hcs_daemon.records import (
    CommandEnded,
    FinishedPlate,
    ModelFacts,
    PlateNews,
    Prediction,
    Rejection,
    Restored,
    SiteReturned,
    SiteWanted,
    WellClosed,
)
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import ExplanationResult, PlateState, Stage

Message = PlateNews | Rejection | WellClosed | Prediction | SiteReturned


class Publisher:
    """The only writer of the results folder. Owned by the publish thread.

    now_utc: the wall clock. drawing: where pictures are drawn. live: an instrument delivers, so that no well waits
    longer for its explanation than the settings say. finished: plates whose command is to be run. ended: what came of
    that. `now_s` is everywhere monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        facts: ModelFacts,
        telemetry: Telemetry,
        *,
        now_utc: Callable[[], datetime],
        drawing: Executor,
        live: bool = True,
        finished: SimpleQueue[FinishedPlate] | None = None,
        ended: SimpleQueue[CommandEnded] | None = None,
    ) -> None:
        self._settings = settings
        self._live = live
        self._patience_s = settings.explain.max_wait_s if live else inf
        self._asking = Asking()
        self._facts = facts
        self._telemetry = telemetry
        self._now_utc = now_utc
        self._results = settings.results.directory
        self._fingerprint = fingerprint(settings, facts)
        self._lock = ResultsLock(self._results)
        self._outbox = Outbox(self._results, settings.results.min_free_bytes, telemetry, self._lock.check)
        self._gallery = Gallery(settings, facts, self._outbox, drawing)
        self._plates = PlateFiles(settings, facts, telemetry, self._outbox, self._gallery, now_utc=now_utc)
        self._layouts = Layouts(settings.expect.layout)
        self._archive = Archive(
            settings, facts, telemetry, self._outbox, self._gallery, layouts=self._layouts, now_utc=now_utc
        )
        self._telling = Telling(
            self._archive,
            self._plates,
            self._gallery,
            self._outbox,
            finished=SimpleQueue() if finished is None else finished,
            ended=SimpleQueue() if ended is None else ended,
        )
        self._inbox: deque[Message] = deque()
        self._wanted: list[SiteWanted] = []
        self._log = get_log()

    # ---- the public face

    @property
    def blocked(self) -> str | None:
        """Why nothing can be written now, in words, or None."""
        return self._outbox.blocked

    @property
    def idle(self) -> bool:
        """Whether nothing waits here: no well, no write, no drawing under way."""
        wells = any(desk.waiting for desk in self._archive.desks.values())
        return not (self._inbox or len(self._outbox) or wells) and self._gallery.idle and self._telling.idle

    def open(self, now_s: float) -> Restored:
        """Make and take the results folder, and read what is there.

        Lines that a crash kept from the ledger are appended; a damaged result is moved into `revisions/` and counts as
        not there. Raises FolderError, NewerResultsError, or ResultsHeldError naming the process that has the folder.
        """
        try:
            make_folder(self._results)
            self._lock.acquire()
            restored = self._archive.read()
            self._outbox.flush(now_s)
            if self._live:
                self._telling.recall()
        except OSError as error:
            self.close()
            raise FolderError(
                f"results.directory {self._results} cannot be used: {error.strerror or error}",
                "give the daemon's user the right to read and write there, or name another folder",
            ) from error
        except BaseException:
            self.close()
            raise
        return restored

    def apply(self, settings: Settings) -> None:
        """Go on by these settings, which differ in live ones only."""
        self._settings = settings
        self._patience_s = settings.explain.max_wait_s if self._live else inf
        self._outbox.min_free_bytes = settings.results.min_free_bytes
        self._gallery.which = settings.results.pictures
        self._plates.settings = settings

    def take(self, message: Message, now_s: float) -> list[SiteWanted]:
        """Take one message; sites whose pixels or explanation are wanted now."""
        self._inbox.append(message)
        self._work(now_s)
        return self._hand_out()

    def step(self, now_s: float) -> list[SiteWanted]:
        """Try again what the disk refused, collect drawings, rewrite plate-level files that are due."""
        self._work(now_s)
        self._shed_explanations(now_s)
        self._wanted += self._gallery.step(self._archive.desks, now_s)
        for desk in self._archive.desks.values():
            self._notice_contrast(desk)
            if desk.news is not None and now_s >= desk.look_s:
                self._look_at_layout(desk, now_s)
            if desk.is_due(now_s):
                self._plates.refresh(desk, now_s)
        self._outbox.flush(now_s)
        self._telling.step()
        self._telemetry.plates_open.set(sum(desk.is_open for desk in self._archive.desks.values()))
        if self.idle:
            self._archive.put_away()
        return self._hand_out()

    def rest(self) -> None:
        """The end is near: wells that are not published come first; pictures and explanations owed are left."""
        self._gallery.rest()
        for desk in self._archive.desks.values():
            desk.owed.clear()

    def finish(self, now_s: float, *, draw: bool = True) -> list[SiteWanted]:
        """Write everything that can be, and let the folder go. What is left is done at the next start.

        Wells that wait for nothing but their explanation are written without it, and explained at the next start.

        draw: whether there is time to draw what can be drawn.
        """
        self._work(now_s)
        self._forgo_explanations()
        self._outbox.flush(now_s)
        for desk in self._archive.desks.values():
            self._gallery.settle(desk.acquisition)
            self._notice_contrast(desk)
            if desk.news is not None:
                self._look_at_layout(desk, now_s)
            if desk.stale and not (desk.frozen or desk.refreshing):
                self._plates.refresh(desk, now_s)
        self._outbox.flush(now_s)
        if draw:
            self._draw_all(now_s)
            self._outbox.flush(now_s)
        self.close()
        return []

    def close(self) -> None:
        """Let the folder go. Can be called twice."""
        self._lock.release()

    def _draw_all(self, now_s: float) -> None:
        self._gallery.step(self._archive.desks, now_s)
        while self._gallery.drawing:
            self._gallery.wait()
            self._gallery.step(self._archive.desks, now_s)

    # ---- messages

    def _hand_out(self) -> list[SiteWanted]:
        wanted, self._wanted = self._wanted, []
        return wanted + self._asking.due(self._stands)

    def _work(self, now_s: float) -> None:
        if not self._outbox.ready(now_s):
            return
        while self._inbox:
            try:
                self._lock.check()
                self._handle(self._inbox[0], now_s)
            except OSError as error:  # what an earlier run wrote of this plate cannot be read now, or is away
                self._outbox.fail(error, now_s)
                return
            self._inbox.popleft()
        self._outbox.flush(now_s)

    def _handle(self, message: Message, now_s: float) -> None:
        match message:
            case PlateNews():
                if not self._archive.is_old(message):
                    self._hear(self._archive.desk(message.acquisition), message, now_s)
            case Rejection():
                self._reject(message)
            case WellClosed():
                desk = self._archive.desk(message.well.acquisition)
                desk.explaining.pop(message.well, None)
                desk.owed.pop(message.well, None)
                desk.closed[message.well] = message
                self._try(desk, message.well, now_s)
                self._predict_again(desk, message)
            case Prediction():
                desk = self._archive.desk(message.site.well.acquisition)
                desk.predictions[message.site] = message
                desk.unused.add(message.site)
                self._try(desk, message.site.well, now_s)
            case SiteReturned():
                self._asking.answered(message.wanted)
                if not self._gallery.receive(message, now_s):
                    self._receive(self._archive.desk(message.wanted.site.well.acquisition), message)

    def _hear(self, desk: Desk, news: PlateNews, now_s: float) -> None:
        self._notice_move(desk, news)
        desk.hear(news)
        desk.opened_at = desk.opened_at or self._now_utc()
        if news.state is PlateState.FINISHED:
            # every well is closed with the predictions that it uses; what failed is needed if its well is closed again
            desk.unused = {site for site in desk.unused if unusable(desk.predictions[site]) is not None}
        self._look_at_layout(desk, now_s)
        if desk.is_due(now_s):
            self._plates.refresh(desk, now_s)
        if news.pixel_size_um is not None and not desk.frozen:
            self._wanted += self._gallery.draw_missing(desk, now_s)

    def _notice_move(self, desk: Desk, news: PlateNews) -> None:
        before = desk.written.root if desk.written is not None else str(news.root)
        if before != str(news.root) and not desk.news:
            self._log.warning(
                Event.PLATE_MOVED,
                plate=news.acquisition.plate,
                acquisition=news.acquisition.acquisition,
                before=before,
                now=str(news.root),
                hint="its inputs are looked for in the folder of now; if it is another plate, rename its folder",
            )

    def _look_at_layout(self, desk: Desk, now_s: float) -> None:
        """Read what is in the wells where that is new, and revise the results that say otherwise."""
        if desk.frozen:
            return
        desk.look_s = now_s + self._settings.results.plate_refresh_s
        before, by_instrument = desk.layout, desk.news.layout if desk.news else None
        desk.layout = self._layouts.look(before, desk.acquisition.plate, by_instrument, *desk.plate_shape)
        if desk.layout is before:
            return
        desk.stale = True
        self._say_layout(desk, before)
        if desk.layout.decided:
            for well, result in desk.results.items():
                made_now = result.settings_fingerprint == self._fingerprint and well not in desk.unwritten
                if made_now and result.content != desk.layout.content(well.position):
                    self._join(desk, well)

    def _say_layout(self, desk: Desk, before: LayoutWord) -> None:
        entry, plate = desk.layout.entry, desk.acquisition.plate
        problem = entry.problem if entry else ""
        if entry is not None and problem and (before.entry is None or problem != before.entry.problem):
            hint = "results go on without it; it is read again when it changes"
            self._log.error(Event.LAYOUT_REFUSED, plate=plate, path=entry.source, detail=problem, hint=hint)
        elif entry is not None and not problem and desk.layout.joined is not None:
            wells = len(desk.layout.joined.wells)
            self._log.info(Event.LAYOUT_JOINED, plate=plate, path=entry.source, wells=wells)

    def _notice_contrast(self, desk: Desk) -> None:
        """What the pictures were drawn with is to stand in plate.json, also when it was fixed last of all."""
        written = desk.written
        if written is not None and written.contrast is None and not desk.frozen:
            desk.stale = desk.stale or self._gallery.contrast(desk.acquisition) is not None

    def _reject(self, rejection: Rejection) -> None:
        desk = self._archive.desk(rejection.acquisition) if rejection.acquisition else None
        book = desk.rejections if desk else self._archive.loose
        before = book.get(rejection.path)
        if before is not None and replace(before, at=rejection.at) == rejection:
            return
        book[rejection.path] = rejection
        if desk is not None:
            desk.untold = True
        file = desk.rejected_file if desk else self._archive.loose_file
        line = rejection_line(rejection).line()
        self._outbox.add(lambda _now_s: file.append(line))

    # ---- a well on its way

    def _try(self, desk: Desk, well: WellId, now_s: float) -> None:
        """Go on with a closed well if the predictions of all its sites are here."""
        closed = desk.closed.get(well)
        draft = self._draft(desk, closed) if closed else None
        if draft is None:
            return
        del desk.closed[well]
        desk.unused -= {SiteId(well, site) for site in draft.predictions}
        if desk.newest_content(well) == draft_content(draft, self._facts, self._fingerprint):
            return
        wanted = self._explanations(draft)
        if wanted:
            desk.explaining[well] = Answers(draft, set(wanted), due_s=now_s + self._patience_s)
            self._asking.want(wanted)
        else:
            why = why_unexplained(self._settings, draft.verdict) if draft.verdict is not None else None
            self._commit(desk, Answers(draft, notes=[] if why is None else [why]))

    def _predict_again(self, desk: Desk, closed: WellClosed) -> None:
        """Predictions that were lost with a damaged result do not come by themselves: intake holds them for done."""
        if closed.well in desk.closed and well_json(desk.folder, closed.well) in desk.damaged:
            for site, key in closed.ready.items():
                if not _is_of(desk.predictions.get(SiteId(closed.well, site)), key):
                    self._wanted.append(SiteWanted(SiteId(closed.well, site), key, predict=True))

    def _draft(self, desk: Desk, closed: WellClosed) -> WellDraft | None:
        usable: dict[int, Prediction] = {}
        failed: dict[int, str] = {}
        for site, key in closed.ready.items():
            prediction = desk.predictions.get(SiteId(closed.well, site))
            if prediction is None or not _is_of(prediction, key):
                return None
            failure = unusable(prediction)
            if failure is None:
                usable[site] = prediction
            else:
                failed[site] = failure
        verdict = judge(self._facts, usable, self._settings.model.hit_probability)
        return WellDraft(closed, verdict, usable, failed)

    def _explanations(self, draft: WellDraft) -> list[SiteWanted]:
        verdict = draft.verdict
        if verdict is None:
            return []
        return [
            SiteWanted(SiteId(draft.closed.well, site), draft.predictions[site].key, verdict.nearest, verdict.against)
            for site in sites_to_explain(self._settings, verdict)
        ]

    def _receive(self, desk: Desk, answer: SiteReturned) -> None:
        well = answer.wanted.site.well
        held = desk.owed if well in desk.owed else desk.explaining
        waiting = held.get(well)
        if waiting is None or answer.wanted not in waiting.wanted:
            return  # the well was closed anew since
        waiting.wanted.discard(answer.wanted)
        waiting.explained.add(answer.wanted.site.site)
        self._note(waiting, answer)
        if not waiting.wanted:
            del held[well]
            self._commit(desk, waiting)

    def _stands(self, wanted: SiteWanted) -> bool:
        """Whether a well still wants what it asked for."""
        desk = self._archive.desks.get(wanted.site.well.acquisition)
        held = (desk.explaining, desk.owed) if desk is not None else ()
        return any(wanted in wells[wanted.site.well].wanted for wells in held if wanted.site.well in wells)

    def _shed_explanations(self, now_s: float) -> None:
        """Publish the wells that waited long enough for their explanation; it comes later, as a revision."""
        for desk in self._archive.desks.values():
            for well in [well for well, waiting in desk.explaining.items() if now_s >= waiting.due_s]:
                waiting = desk.explaining.pop(well)
                self._publish_owing(desk, waiting, SHED)
                waiting.wanted = self._asking.put_off(waiting.wanted)
                waiting.late = True
                desk.owed[well] = waiting
                self._telemetry.explanations.labels(ExplanationResult.SHED).inc(len(waiting.wanted))
                hint = "it is explained when nothing else waits; explain.policy hits explains fewer wells"
                self._log.warning(
                    Event.EXPLANATION_SHED,
                    plate=well.acquisition.plate,
                    well=well.stem,
                    sites=len(waiting.wanted),
                    hint=hint,
                )

    def _forgo_explanations(self) -> None:
        for desk in self._archive.desks.values():
            for well in list(desk.explaining):
                self._publish_owing(desk, desk.explaining.pop(well), STOPPED)

    def _publish_owing(self, desk: Desk, waiting: Answers, note: str) -> None:
        """Have a well written without what it waits for, unless the newest revision says as much."""
        done, maps = list(waiting.attributions), list(waiting.maps)
        hasty = replace(waiting, attributions=done, maps=maps, notes=[*waiting.notes, note])
        draft = replace(hasty.draft, notes=(note,))
        if desk.newest_content(draft.closed.well) != draft_content(draft, self._facts, self._fingerprint):
            self._commit(desk, hasty)

    def _note(self, waiting: Answers, answer: SiteReturned) -> None:
        """Take what came of a site's explanation, its pixels only as far as they are shown."""
        site, attribution = answer.wanted.site.site, answer.attribution
        if attribution is None or not is_finite(attribution):
            problem = answer.problem or ("it is not finite" if attribution else "no reason was given")
            waiting.notes.append(f"site {site} could not be explained: {problem}")
            attribution = None
        elif not attribution.checks.passed:
            names = f" ({', '.join(attribution.checks.failed)})" if attribution.checks.failed else ""
            waiting.notes.append(f"the explanation of site {site} failed its checks{names}; do not rely on it")
        verdict = waiting.draft.verdict
        if verdict is not None and site == verdict.representative:
            self._gallery.show(waiting, answer.site, attribution)
        if attribution is not None:
            if verdict is not None and self._gallery.shows(hit=verdict.hit):
                sites = len(waiting.explained) + len(waiting.wanted)
                waiting.maps.append(site_map(attribution, MOST_BYTES // sites))
            nothing = np.empty((0, 0, 0), np.float32)
            waiting.attributions.append(replace(attribution, heat=nothing, reference_pixels=nothing.astype(np.uint16)))

    # ---- writing a well

    def _commit(self, desk: Desk, answers: Answers) -> None:
        """Have a well written when those before it are."""
        well = answers.draft.closed.well
        mapped = sorted(answers.maps, key=lambda found: found.site)
        maps = maps_file(well, self._facts, mapped) if mapped else None
        draft = replace(
            answers.draft,
            attributions=tuple(sorted(answers.attributions, key=lambda found: found.site)),
            notes=tuple(answers.notes),
            maps_sha256=None if maps is None else digest(maps),
        )
        said = desk.unwritten[well] = draft_content(draft, self._facts, self._fingerprint)
        self._gallery.drop(well)

        def compose(revision: int, now_s: float) -> WellResult:
            result = well_result(
                draft,
                self._facts,
                self._fingerprint,
                revision=revision,
                published_at=self._now_utc(),
                latency_s=now_s - draft.closed.last_plane_s,
                projection=self._settings.expect.projection,
                inside=self._inside(desk, well, now_s),
            )
            others = desk.current()
            return desk.fits.warned(desk.book.flagged(result, others), others)

        def published(result: WellResult, now_s: float) -> None:
            if not answers.late:
                self._telemetry.well_latency.observe(result.timing.latency_s)
            self._wanted += self._gallery.published(desk, answers, result, now_s)

        self._write(desk, well, said, compose, published, maps=maps)

    def _inside(self, desk: Desk, well: WellId, now_s: float) -> ContentEntry | None:
        """What is in a well that is being written; as before where no layout could be read since the start."""
        if desk.layout == LayoutWord():
            self._look_at_layout(desk, now_s)
        before = desk.results.get(well)
        return before.content if before is not None and not desk.layout.decided else desk.layout.content(well.position)

    def _join(self, desk: Desk, well: WellId) -> None:
        """Have a published well written once more, with what is in it now; the model is not asked again."""
        said = desk.unwritten[well] = content(desk.results[well])
        self._gallery.drop(well)

        def compose(revision: int, _now_s: float) -> WellResult:
            inside = desk.layout.content(well.position)
            return with_content(desk.results[well], inside, revision=revision, published_at=self._now_utc())

        def published(_result: WellResult, now_s: float) -> None:
            desk.pictures_missing += self._gallery.missing(desk.folder, {well: desk.results[well]})
            if desk.news is not None and desk.news.pixel_size_um is not None:
                self._wanted += self._gallery.draw_missing(desk, now_s)

        self._write(desk, well, said, compose, published)

    def _write(
        self,
        desk: Desk,
        well: WellId,
        said: object,
        compose: Callable[[int, float], WellResult],
        published: Callable[[WellResult, float], None],
        *,
        maps: bytes | None = None,
    ) -> None:
        """Have a revision written when those before it are. said: its `content`. published: called once it is."""
        write = WellWrite(self._results, desk, well, self._archive.ledger, compose, maps=maps)

        def job(now_s: float) -> None:
            with self._telemetry.timed(Stage.PUBLISH):
                self._plates.reopen(desk)
                result = write(now_s)
            if desk.unwritten.get(well) is said:
                del desk.unwritten[well]
            desk.stale = True
            self._note_published(well, result)
            published(result, now_s)

        self._outbox.add(job, well_json(desk.folder, well).with_suffix(""))

    def _note_published(self, well: WellId, result: WellResult) -> None:
        """A result is on the disk and in the ledger."""
        self._telemetry.ledger_entries.inc()
        self._telemetry.wells.labels(result.status).inc()
        self._log.info(
            Event.WELL_PUBLISHED,
            plate=result.plate,
            well=well.stem,
            status=result.status,
            revision=result.revision,
            label=result.prediction.label if result.prediction else None,
            latency_s=result.timing.latency_s,
        )


def _is_of(prediction: Prediction | None, key: tuple[str, ...]) -> bool:
    return prediction is not None and prediction.key == key
