"""The publisher: everything that is known of a well becomes one file, once, and stays.

    plate news, rejections, closed wells, predictions, explanations -> wells/*.json, ledger, pictures, tables

A closed well waits for the predictions of its sites, then (by policy) for an explanation, and is written. Writes go
through an outbox that keeps them in order while the disk refuses them; drawings go to an executor and never hold back
a result.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from hcs_daemon.config import Settings
from hcs_daemon.errors import FolderError
from hcs_daemon.plate import AcquisitionId, SiteId, WellId
from hcs_daemon.publish.desk import Answers, Desk
from hcs_daemon.publish.documents import (
    WellDraft,
    content,
    contrast_of,
    draft_content,
    fingerprint,
    is_finite,
    plate_file,
    predictions,
    rejection_line,
    well_json,
    well_result,
)
from hcs_daemon.publish.files import append_line, remove_leftovers, write_atomic
from hcs_daemon.publish.ledger import Ledger
from hcs_daemon.publish.lock import ResultsLock
from hcs_daemon.publish.names import LEDGER_NAME, REJECTED_NAME, plate_folder
from hcs_daemon.publish.outbox import Outbox
from hcs_daemon.publish.panels import attribution_panels, site_panels
from hcs_daemon.publish.restore import (
    PlateFolder,
    is_outdated,
    plate_folders,
    read_plate_folder,
    read_rejections,
    restored_plate,
    standing,
)
from hcs_daemon.publish.schemas import PlateFile, WellResult
from hcs_daemon.publish.studio import Studio, WellPicture
from hcs_daemon.publish.tables import profile_table, site_table
from hcs_daemon.publish.verdict import judge, picture_wanted, sites_to_explain
from hcs_daemon.publish.writing import WellWrite, set_aside
from hcs_daemon.records import (
    ModelFacts,
    PlateNews,
    Prediction,
    Rejection,
    Restored,
    RestoredPlate,
    SiteReturned,
    SiteWanted,
    WellClosed,
)
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import PlateState, Stage

Message = PlateNews | Rejection | WellClosed | Prediction | SiteReturned


class Publisher:
    """The only writer of the results folder. Owned by the publish thread.

    now_utc: the wall clock. drawing: where pictures are drawn. `now_s` is everywhere monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        facts: ModelFacts,
        telemetry: Telemetry,
        *,
        now_utc: Callable[[], datetime],
        drawing: Executor,
    ) -> None:
        self._settings = settings
        self._facts = facts
        self._telemetry = telemetry
        self._now_utc = now_utc
        self._drawing = drawing
        self._results = settings.results.directory
        self._fingerprint = fingerprint(settings, facts)
        self._lock = ResultsLock(self._results)
        self._outbox = Outbox(self._results, settings.results.min_free_bytes, telemetry)
        self._studio = Studio(drawing, facts.control_class)
        self._ledger: Ledger
        self._desks: dict[AcquisitionId, Desk] = {}
        self._loose: dict[str, Rejection] = {}
        self._inbox: deque[Message] = deque()
        self._wanted: list[SiteWanted] = []
        self._plate_drawings: dict[Future[bytes], Desk] = {}
        self._log = get_log()

    # ---- the public face

    @property
    def blocked(self) -> str | None:
        """Why nothing can be written now, in words, or None."""
        return self._outbox.blocked

    @property
    def idle(self) -> bool:
        """Whether nothing waits here: no well, no write, no drawing under way."""
        busy = self._inbox or len(self._outbox) or any(desk.waiting for desk in self._desks.values())
        return not (busy or self._plate_drawings) and self._studio.idle

    def open(self, now_s: float) -> Restored:
        """Make and take the results folder, and read what is there.

        Lines that a crash kept from the ledger are appended; a damaged result is moved into `revisions/` and counts as
        not there. Raises FolderError, or ResultsHeldError naming the process that has the folder.
        """
        try:
            self._results.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            return self._read(now_s)
        except OSError as error:
            self.close()
            raise FolderError(
                f"results.directory {self._results} cannot be used: {error.strerror or error}",
                "give the daemon's user the right to read and write there, or name another folder",
            ) from error
        except BaseException:
            self.close()
            raise

    def take(self, message: Message, now_s: float) -> list[SiteWanted]:
        """Take one message; sites whose pixels or explanation are wanted now."""
        self._inbox.append(message)
        self._work(now_s)
        return self._hand_out()

    def step(self, now_s: float) -> list[SiteWanted]:
        """Try again what the disk refused, collect drawings, rewrite plate-level files that are due."""
        self._work(now_s)
        for desk in self._desks.values():
            if desk.is_due(now_s):
                self._refresh(desk, now_s)
        self._wanted += self._studio.step(now_s)
        self._file_drawings()
        self._outbox.flush(now_s)
        self._put_away()
        return self._hand_out()

    def finish(self, now_s: float) -> list[SiteWanted]:
        """Draw and write everything that can be, and let the folder go. What is left is done at the next start."""
        self._work(now_s)
        for desk in self._desks.values():
            self._studio.settle(desk.acquisition)
            if desk.dirty and not desk.frozen and desk.news:
                self._refresh(desk, now_s)
        self._outbox.flush(now_s)
        self._studio.step(now_s)
        while self._studio.drawing or self._plate_drawings:
            self._studio.wait()
            wait(list(self._plate_drawings))
            self._file_drawings()
            self._studio.step(now_s)
        self._outbox.flush(now_s)
        self.close()
        return []

    def close(self) -> None:
        """Let the folder go. Can be called twice."""
        self._lock.release()

    # ---- messages

    def _hand_out(self) -> list[SiteWanted]:
        wanted, self._wanted = self._wanted, []
        return wanted

    def _work(self, now_s: float) -> None:
        self._outbox.flush(now_s)
        while self._inbox:
            try:
                self._handle(self._inbox[0], now_s)
            except OSError as error:  # what an earlier run wrote of this plate cannot be read now
                self._outbox.fail(error, now_s)
                return
            self._inbox.popleft()
        self._outbox.flush(now_s)

    def _handle(self, message: Message, now_s: float) -> None:
        match message:
            case PlateNews():
                self._hear(self._desk(message.acquisition), message, now_s)
            case Rejection():
                self._reject(message)
            case WellClosed():
                desk = self._desk(message.well.acquisition)
                self._thaw(desk)
                desk.explaining.pop(message.well, None)
                desk.closed[message.well] = message
                self._try(desk, message.well)
            case Prediction():
                desk = self._desk(message.site.well.acquisition)
                desk.predictions[message.site] = message
                self._try(desk, message.site.well)
            case SiteReturned():
                self._receive(self._desk(message.wanted.site.well.acquisition), message, now_s)

    def _hear(self, desk: Desk, news: PlateNews, now_s: float) -> None:
        if news.state is PlateState.ACQUIRING:
            self._thaw(desk)
        desk.news = news
        if desk.frozen:
            return
        desk.opened_at = desk.opened_at or self._now_utc()
        desk.dirty = True
        if desk.written_state is None:
            self._refresh(desk, now_s)
        if news.pixel_size_um is not None:
            self._draw_missing(desk, now_s)

    def _thaw(self, desk: Desk) -> None:
        """A plate that was made under other settings is done again."""
        if desk.frozen:
            desk.frozen, desk.dirty, desk.written_state = False, True, None
            self._studio.forget(desk.acquisition)

    def _reject(self, rejection: Rejection) -> None:
        desk = self._desk(rejection.acquisition) if rejection.acquisition else None
        book = desk.rejections if desk else self._loose
        before = book.get(rejection.path)
        if before is not None and replace(before, at=rejection.at) == rejection:
            return
        book[rejection.path] = rejection
        path = (desk.folder if desk else self._results) / REJECTED_NAME
        line = rejection_line(rejection).line()
        self._outbox.add(lambda _now_s: append_line(path, line))
        if desk:
            desk.dirty = True

    # ---- a well on its way

    def _try(self, desk: Desk, well: WellId) -> None:
        """Go on with a closed well if the predictions of all its sites are here."""
        closed = desk.closed.get(well)
        draft = self._draft(desk, closed) if closed else None
        if draft is None:
            return
        del desk.closed[well]
        desk.dirty = True
        found = draft_content(draft, self._facts, self._fingerprint)
        if desk.contents.get(well) == found:
            return
        desk.contents[well] = found
        wanted = self._explanations(draft)
        if wanted:
            desk.explaining[well] = Answers(draft, set(wanted))
            self._wanted += wanted
        else:
            self._commit(desk, Answers(draft))

    def _draft(self, desk: Desk, closed: WellClosed) -> WellDraft | None:
        usable: dict[int, Prediction] = {}
        failed: dict[int, str] = {}
        for site, key in closed.ready.items():
            prediction = desk.predictions.get(SiteId(closed.well, site))
            if prediction is None or prediction.key != key:
                return None
            failure = prediction.failure or _not_finite(prediction)
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
            SiteWanted(SiteId(draft.closed.well, site), draft.predictions[site].key, verdict.label, verdict.against)
            for site in sites_to_explain(self._settings, verdict)
        ]

    def _receive(self, desk: Desk, answer: SiteReturned, now_s: float) -> None:
        asked = self._studio.asked(answer.wanted)
        if asked is not None:
            well, picture = asked
            self._studio.add(well, self._with_pixels(picture, answer), None, now_s)
            return
        well = answer.wanted.site.well
        waiting = desk.explaining.get(well)
        if waiting is None or answer.wanted not in waiting.wanted:
            return  # the well was closed anew since
        waiting.wanted.discard(answer.wanted)
        waiting.explained.add(answer.wanted.site.site)
        self._note(waiting, answer)
        if not waiting.wanted:
            del desk.explaining[well]
            self._commit(desk, waiting)

    def _note(self, waiting: Answers, answer: SiteReturned) -> None:
        """Take what came of a site's explanation, its pixels only as far as they are shown."""
        site, attribution = answer.wanted.site.site, answer.attribution
        if attribution is None or not is_finite(attribution):
            problem = answer.problem or ("it is not finite" if attribution else "no reason was given")
            waiting.notes.append(f"site {site} could not be explained: {problem}")
            attribution = None
        elif not attribution.checks.passed:
            waiting.notes.append(f"the explanation of site {site} failed its checks; do not rely on it")
        verdict = waiting.draft.verdict
        if verdict is not None and site == verdict.representative and self._pictures_of(waiting.draft):
            waiting.panels = site_panels(answer.site) if answer.site else None
            waiting.heat = attribution_panels(attribution, self._facts.pixel_size_um) if attribution else None
        if attribution is not None:
            nothing = np.empty((0, 0, 0), np.float32)
            waiting.attributions.append(replace(attribution, heat=nothing, reference_pixels=nothing.astype(np.uint16)))

    def _pictures_of(self, draft: WellDraft) -> bool:
        return picture_wanted(self._settings, draft.verdict)

    # ---- writing a well

    def _commit(self, desk: Desk, answers: Answers) -> None:
        draft = replace(
            answers.draft,
            attributions=tuple(sorted(answers.attributions, key=lambda found: found.site)),
            notes=tuple(answers.notes),
        )
        well = draft.closed.well
        self._studio.drop(well)

        def compose(revision: int, now_s: float) -> WellResult:
            return well_result(
                draft,
                self._facts,
                self._fingerprint,
                revision=revision,
                published_at=self._now_utc(),
                latency_s=now_s - draft.closed.last_plane_s,
            )

        write = WellWrite(self._results, desk, well, self._ledger, compose, partial(self._published, desk, answers))

        def job(now_s: float) -> None:
            with self._telemetry.timed(Stage.PUBLISH):
                write(now_s)

        self._outbox.add(job)

    def _published(self, desk: Desk, answers: Answers, result: WellResult, now_s: float) -> None:
        """A result is on the disk and in the ledger."""
        desk.dirty = True
        self._telemetry.ledger_entries.inc()
        self._telemetry.wells.labels(result.status).inc()
        self._telemetry.well_latency.observe(result.timing.latency_s)
        self._log.info(
            Event.WELL_PUBLISHED,
            plate=result.plate,
            well=answers.draft.closed.well.stem,
            status=result.status,
            revision=result.revision,
            label=result.prediction.label if result.prediction else None,
            latency_s=result.timing.latency_s,
        )
        if self._pictures_of(answers.draft):
            self._picture(desk, answers, result, now_s)

    def _picture(self, desk: Desk, answers: Answers, result: WellResult, now_s: float) -> None:
        well = answers.draft.closed.well
        picture = WellPicture(
            result, desk.rejected_in(well), answers.panels, answers.heat, problem="; ".join(answers.notes) or None
        )
        if result.prediction is None:
            self._studio.add(well, picture, None, now_s)
            return
        site = result.prediction.representative_site
        wanted = SiteWanted(SiteId(well, site), answers.draft.predictions[site].key)
        if answers.panels is None and site not in answers.explained:
            self._wanted.append(self._studio.ask(well, picture, wanted))
        else:
            self._studio.add(well, picture, wanted, now_s)

    # ---- pictures

    def _with_pixels(self, picture: WellPicture, answer: SiteReturned) -> WellPicture:
        attribution = answer.attribution
        if attribution is not None and is_finite(attribution):
            picture = replace(picture, attribution=attribution_panels(attribution, self._facts.pixel_size_um))
        if answer.site is not None:
            return replace(picture, panels=site_panels(answer.site))
        return replace(picture, problem=answer.problem or "its files are gone or were changed")

    def _draw_missing(self, desk: Desk, now_s: float) -> None:
        """Draw what an earlier run was stopped before drawing."""
        missing, desk.pictures_missing = desk.pictures_missing, []
        for well in missing:
            result = desk.results[well]
            picture = WellPicture(result, desk.rejected_in(well))
            if result.prediction is None:
                self._studio.add(well, picture, None, now_s)
                continue
            site = result.prediction.representative_site
            key = next(tuple(entry.key) for entry in result.site_results if entry.site == site)
            explanation = result.explanation
            explained = explanation is not None and any(entry.site == site for entry in explanation.sites)
            target, against = (explanation.target, explanation.against) if explanation and explained else (None, None)
            self._wanted.append(self._studio.ask(well, picture, SiteWanted(SiteId(well, site), key, target, against)))

    def _file_drawings(self) -> None:
        for drawn in self._studio.collect():
            desk = self._desks.get(drawn.well.acquisition)
            result = desk.results.get(drawn.well) if desk else None
            if desk and result and result.revision == drawn.revision:
                path = well_json(desk.folder, drawn.well).with_suffix(".png")
                self._outbox.add(lambda _now_s, path=path, png=drawn.png: write_atomic(path, png))
        for future in [future for future in self._plate_drawings if future.done()]:
            desk = self._plate_drawings.pop(future)
            failure = future.exception()
            if failure is None:
                path, png = desk.folder / "plate.png", future.result()
                self._outbox.add(lambda _now_s, path=path, png=png: write_atomic(path, png))
            else:
                self._log.error(Event.PICTURE_FAILED, plate=desk.acquisition.plate, detail=repr(failure))

    # ---- plate-level files

    def _refresh(self, desk: Desk, now_s: float) -> None:
        """Write plate.json and the tables, and have the plate drawn. plate.json is last: it may say `finished`."""
        desk.dirty = False
        desk.refresh_s = now_s + self._settings.results.plate_refresh_s
        self._outbox.add(lambda _now_s: self._write_plate(desk))

    def _write_plate(self, desk: Desk) -> None:
        results = desk.current(self._fingerprint)
        if results:
            write_atomic(desk.folder / "sites.parquet", site_table(results))
            write_atomic(desk.folder / "profiles.parquet", profile_table(results))
        plate = self._plate_file(desk, results)
        write_atomic(desk.folder / "plate.json", plate.text())
        desk.written_state = plate.state
        if self._settings.results.pictures != "none" and desk not in self._plate_drawings.values():
            from hcs_daemon.publish.plate_picture import draw_plate  # noqa: PLC0415 (matplotlib takes a second)

            self._plate_drawings[self._drawing.submit(draw_plate, plate, results)] = desk

    def _plate_file(self, desk: Desk, results: list[WellResult]) -> PlateFile:
        assert desk.news is not None
        assert desk.opened_at is not None
        if desk.state is PlateState.FINISHED:
            desk.finished_at = desk.finished_at or self._now_utc()
        return plate_file(
            replace(desk.news, state=desk.state),
            self._settings,
            self._facts,
            results,
            opened_at=desk.opened_at,
            finished_at=desk.finished_at,
            contrast=self._studio.contrast(desk.acquisition),
        )

    # ---- what an earlier run left

    def _read(self, now_s: float) -> Restored:
        first_start = not (self._results / LEDGER_NAME).exists()
        self._ledger = Ledger(self._results)
        remove_leftovers(self._results)
        self._loose = read_rejections(self._results / REJECTED_NAME)
        plates: list[RestoredPlate] = []
        for folder in plate_folders(self._results):
            read = self._read_folder(folder)
            if read is None:
                continue
            plates.append(restored_plate(read, self._fingerprint))
            if plates[-1].state is PlateState.ACQUIRING:
                self._adopt(read)
        self._say_ledger()
        self._outbox.flush(now_s)
        return Restored(
            plates=tuple(plates),
            rejections=standing(self._loose),
            first_start=first_start and not plates and not self._loose,
        )

    def _read_folder(self, folder: Path) -> PlateFolder | None:
        for place in (folder, folder / "wells", folder / "revisions"):
            remove_leftovers(place)
        read = read_plate_folder(self._results, folder, self._ledger)
        if read is not None:
            for path, problem in read.damaged:
                set_aside(path, problem)
            for path, revision, sha256 in read.unlisted:
                self._outbox.add(partial(self._list_late, path, revision, sha256))
        return read

    def _list_late(self, path: str, revision: int, sha256: str, _now_s: float) -> None:
        self._ledger.append(path, revision, sha256, self._now_utc())
        self._telemetry.ledger_entries.inc()
        self._log.warning(Event.LEDGER_REPAIRED, path=path, revision=revision, detail="its line was missing")

    def _say_ledger(self) -> None:
        broken = self._ledger.chain.broken
        self._telemetry.ledger_broken.set(0 if broken is None else 1)
        if broken is not None:
            self._log.error(
                Event.LEDGER_BROKEN,
                detail=broken,
                hint="somebody changed it; it is kept as it is and goes on after its last line",
            )
        if self._ledger.repaired is not None:
            self._log.warning(Event.LEDGER_REPAIRED, detail=self._ledger.repaired)

    def _desk(self, acquisition: AcquisitionId) -> Desk:
        """The plate's desk; a finished plate is read from the disk again when something new comes of it."""
        desk = self._desks.get(acquisition)
        if desk is None:
            folder = plate_folder(self._results, acquisition)
            read = self._read_folder(folder) if folder.is_dir() else None
            desk = self._adopt(read) if read is not None else Desk(acquisition, folder)
            self._desks[acquisition] = desk
        return desk

    def _adopt(self, read: PlateFolder) -> Desk:
        outdated = is_outdated(read, self._fingerprint)
        state = read.plate.state if read.plate else None
        desk = Desk(
            read.acquisition,
            read.folder,
            results=read.wells,
            contents={well: content(result) for well, result in read.wells.items()},
            rejections=read.rejections,
            opened_at=read.plate.opened_at if read.plate else None,
            finished_at=read.plate.finished_at if read.plate else None,
            frozen=outdated and state is PlateState.FINISHED,
            written_state=None if outdated and state is not PlateState.FINISHED else state,
        )
        for well, result in read.wells.items():
            if result.model.sha256 == self._facts.sha256:
                desk.predictions.update(predictions(result))
            if result.settings_fingerprint == self._fingerprint and self._lacks_picture(read, well, result):
                desk.pictures_missing.append(well)
        if read.plate and not outdated:
            self._studio.adopt(read.acquisition, contrast_of(read.plate))
        self._desks[read.acquisition] = desk
        return desk

    def _lacks_picture(self, read: PlateFolder, well: WellId, result: WellResult) -> bool:
        pictures = self._settings.results.pictures
        hit = result.prediction is not None and result.prediction.hit
        wanted = pictures == "all" or (pictures == "hits" and hit)
        return wanted and not well_json(read.folder, well).with_suffix(".png").exists()

    def _put_away(self) -> None:
        """Let go of plates that are finished and written; `_desk` reads them again when needed."""
        if not self.idle:
            return
        for acquisition, desk in list(self._desks.items()):
            done = desk.frozen or (desk.written_state is PlateState.FINISHED and not desk.dirty)
            if done and not self._studio.holds(acquisition):
                del self._desks[acquisition]
                self._studio.close(acquisition)


def _not_finite(prediction: Prediction) -> str | None:
    finite = np.isfinite(prediction.logits).all() and np.isfinite(prediction.embedding).all()
    return None if finite else "the model's output is not finite"
