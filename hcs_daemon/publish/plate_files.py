"""plate.json, quality.html, sites.parquet and profiles.parquet: what is written of a plate as a whole, now and then."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from hcs_daemon.config import Settings
from hcs_daemon.publish.desk import Desk
from hcs_daemon.publish.documents import plate_file
from hcs_daemon.publish.drift import DRIFTED, control_drift
from hcs_daemon.publish.files import remove, write_atomic
from hcs_daemon.publish.gallery import Gallery
from hcs_daemon.publish.names import PLATE_NAME, PLATE_PICTURE_NAME, PROFILES_NAME, QUALITY_NAME, SITES_NAME
from hcs_daemon.publish.outbox import Outbox
from hcs_daemon.publish.quality import quality_entry
from hcs_daemon.publish.quality_page import quality_page
from hcs_daemon.publish.restore import standing
from hcs_daemon.publish.schemas import CommandEntry, PlateFile, WellResult
from hcs_daemon.publish.tables import profile_table, site_table
from hcs_daemon.records import CommandEnded, ModelFacts
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import PlateState, WellStatus


class PlateFiles:
    """Writes the plate-level files of every desk. Owned by the publish thread."""

    def __init__(
        self,
        settings: Settings,
        facts: ModelFacts,
        telemetry: Telemetry,
        outbox: Outbox,
        gallery: Gallery,
        *,
        now_utc: Callable[[], datetime],
    ) -> None:
        self.settings = settings
        self._facts = facts
        self._telemetry = telemetry
        self._outbox = outbox
        self._gallery = gallery
        self._now_utc = now_utc

    def refresh(self, desk: Desk, now_s: float) -> None:
        """Have the files written, unless they say all of it already. Nothing is said of a plate without news."""
        if desk.news is None:
            return
        desk.stale = False
        if desk.state is PlateState.FINISHED:
            self._gallery.settle(desk.acquisition)
        if self._is_current(desk):
            return
        desk.refreshing = True
        desk.refresh_s = now_s + self.settings.results.plate_refresh_s
        self._outbox.add(lambda _now_s: self._write(desk), desk.folder)

    def reopen(self, desk: Desk) -> None:
        """A plate that was finished under other settings is done again, and says so before its first well does.

        Killed in the middle of it, it is then done again at the next start. Raises OSError.
        """
        if desk.made_otherwise and desk.written is not None:
            opened = {"state": PlateState.ACQUIRING, "finished_at": None, "on_plate_finished": None}
            self._save(desk, desk.written.model_copy(update=opened))

    def note(self, desk: Desk, ended: CommandEnded) -> None:
        """Write what came of a plate's command, unless the plate is another since. Raises OSError."""
        plate, told = desk.written, ended.plate
        if plate is None or (plate.finished_at, plate.revisions) != (told.finished_at, told.revisions):
            return
        entry = CommandEntry(
            result=ended.result.value,
            tries=ended.tries,
            ended_at=self._now_utc(),
            exit_code=ended.exit_code,
            detail=ended.detail,
        )
        self._save(desk, plate.model_copy(update={"on_plate_finished": entry}))

    def _write(self, desk: Desk) -> None:
        """plate.json is last: it may say `finished`, and how many revisions the tables hold."""
        results = desk.current()
        judged = desk.quality()
        tables = ((SITES_NAME, site_table), (PROFILES_NAME, profile_table))
        for name, table in tables:
            if results:
                write_atomic(desk.folder / name, table(results, judged))
            else:  # made with another model: the plate is done again
                remove(desk.folder / name)
        plate = self._compose(desk)
        if plate.state is PlateState.FINISHED:
            # never beside a finished plate that it does not show; without one, it is drawn at the next start
            remove(desk.folder / PLATE_PICTURE_NAME)
        flags = {well.stem: found.flags for well, found in judged.wells.items()}
        page = quality_page(plate, results, standing(desk.rejections), flags, judged.notes)
        write_atomic(desk.folder / QUALITY_NAME, page.encode())
        desk.untold = False
        before = desk.written
        self._save(desk, plate)
        desk.refreshing = False
        self._look_at_controls(desk, results)
        if plate.state is PlateState.FINISHED and (before is None or before.state is not PlateState.FINISHED):
            status = status_of(plate)
            self._telemetry.plates_finished.labels(status).inc()
            get_log().info(Event.PLATE_FINISHED, plate=plate.plate, acquisition=plate.acquisition, status=status)
        self._gallery.draw_plate(desk.acquisition, desk.folder, plate, results)

    def _look_at_controls(self, desk: Desk, results: Sequence[WellResult]) -> None:
        """How far the controls moved, and once aloud if that is far."""
        drift = control_drift(results)
        self._telemetry.control_drift.set(drift)
        if drift > DRIFTED and not desk.drifts:
            desk.drifts = True
            get_log().warning(
                Event.PLATE_DRIFTS,
                plate=desk.acquisition.plate,
                acquisition=desk.acquisition.acquisition,
                drift=round(drift, 2),
                hint="its early and its late wells are not alike where they should be; see its quality.html",
            )

    def _save(self, desk: Desk, plate: PlateFile) -> None:
        write_atomic(desk.folder / PLATE_NAME, plate.text())
        desk.written = plate

    def _is_current(self, desk: Desk) -> bool:
        """Whether what would be written is written; which programs wrote it, and what they found, does not count."""
        if desk.written is None or desk.untold or not self._gallery.has_plate_picture(desk.folder):
            return False
        if not (desk.folder / QUALITY_NAME).exists():
            return False
        same = {"versions": desk.written.versions, "randomisation": desk.written.randomisation}
        return self._compose(desk).model_copy(update=same) == desk.written

    def _compose(self, desk: Desk) -> PlateFile:
        assert desk.news is not None
        assert desk.opened_at is not None
        finished_at = None
        if desk.state is PlateState.FINISHED:
            before = desk.written.finished_at if desk.written and not desk.made_otherwise else None
            finished_at = before or self._now_utc()
        layout = desk.layout.entry
        if layout is None and desk.written is not None:  # an instrument may say it again later
            layout = desk.written.layout
        plate = plate_file(
            replace(desk.news, state=desk.state),
            self.settings,
            self._facts,
            desk.current(),
            opened_at=desk.opened_at,
            finished_at=finished_at,
            contrast=self._gallery.contrast(desk.acquisition),
            layout=layout,
            quality=quality_entry(desk.quality()),
        )
        fit = desk.channel_fit()
        return plate.model_copy(
            update={
                "warnings": [*plate.warnings, *fit.words],
                "channel_fit": fit.entry,
                "on_plate_finished": self._command(desk.written, finished_at, plate.revisions),
            }
        )

    def _command(self, before: PlateFile | None, finished_at: datetime | None, revisions: int) -> CommandEntry | None:
        """What plate.json says of its command: to be run where it is finished, or holds other results, since."""
        if finished_at is None:
            return None
        if before is not None and (before.finished_at, before.revisions) == (finished_at, revisions):
            return before.on_plate_finished
        return CommandEntry(result="waiting") if self.settings.results.on_plate_finished else None


def status_of(plate: PlateFile) -> WellStatus:
    """Whether every expected well is there with all its sites: `complete`, or else `partial`."""
    complete, every = plate.wells[WellStatus.COMPLETE], sum(plate.wells.values())
    expected = plate.expected.wells if plate.expected is not None else None
    is_complete = complete == every and (expected is None or complete >= expected)
    return WellStatus.COMPLETE if is_complete else WellStatus.PARTIAL
