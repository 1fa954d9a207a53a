"""When a well is closed and a plate finished, and what publish is told then."""

from collections import Counter
from collections.abc import Callable

from hcs_daemon.intake.assembly import ANALYSED_Z, Census, PlateBook, WellBook, site_key
from hcs_daemon.intake.state import IntakeState
from hcs_daemon.records import ExpectedPlate, InputUse, PlateNews, WellClosed
from hcs_daemon.telemetry import Event, get_log
from hcs_daemon.vocabulary import PlaneOutcome, PlateState

REVISE_AFTER_S = 10.0
"""A published well that goes on growing is revised when it was quiet this long, not for each plane."""
SWEEP_S = 0.5
"""Wells that got nothing new are looked at so often, for their time may be up."""


class Closing:
    """Decides about wells and plates. Owned by the intake thread.

    dispatch: told of a well that is closed, whose complete sites must be on their way.
    all_named: every file that there will be has been seen.
    """

    def __init__(self, state: IntakeState, dispatch: Callable[[PlateBook, WellBook], None]) -> None:
        self._state = state
        self._dispatch = dispatch
        self._next_sweep_s = float("-inf")
        self._log = get_log()
        self.all_named = False

    def review(self, now: float, *, over: bool) -> bool:
        """Close the wells that are decided or whose time is up, finish plates, send news.

        over: nothing more will come. Wells that nothing happened to are only compared with the clock, now and then.
        """
        sweep = over or now >= self._next_sweep_s
        touched, self._state.touched = self._state.touched, {}
        worked = False
        for well in list(self._state.open_wells if sweep else touched):
            plate = self._state.plates[well.acquisition]
            book = plate.well(well)
            if over or well in touched or self._is_due(book, now):
                worked |= self._review_well(plate, book, now, over=over)
        if sweep:
            self._next_sweep_s = now + SWEEP_S
            worked |= self._review_plates(now, over=over)
        return worked

    def waited(self, since: float, now: float) -> bool:
        """Whether a well's time is up."""
        return now - since >= self._state.settings.expect.well_timeout_s

    def _is_due(self, book: WellBook, now: float) -> bool:
        quiet = book.sent is not None and now - book.touched_s >= REVISE_AFTER_S
        return quiet or self.waited(book.touched_s, now)

    def _review_well(self, plate: PlateBook, book: WellBook, now: float, *, over: bool) -> bool:
        if book.outstanding:
            return False
        if book.last_plane_at is None:  # all its files went before they were read
            self._state.shut(book.well)
            return False
        per_well = self._state.settings.expect.sites_per_well
        timed_out = over or self.waited(book.touched_s, now)
        census = plate.census(book, self._state.channels, per_well, all_named=self.all_named or timed_out)
        scaled = self._state.pixel_size_um(plate) is not None
        decided = census.decided and scaled
        if not (decided or timed_out):
            return False
        growing = book.sent is not None and now - book.touched_s < REVISE_AFTER_S
        if growing and not timed_out and (book.sent_decided or not decided):
            return False
        self._state.shut(book.well)
        if timed_out and census.expected > plate.learned_sites and not per_well:
            plate.learned_sites = census.expected
            self._touch_all(plate)
        return self._close(plate, book, census, scaled=scaled)

    def _touch_all(self, plate: PlateBook) -> None:
        for well in self._state.open_wells:
            if well.acquisition == plate.acquisition:
                self._state.touched[well] = None

    def _close(self, plate: PlateBook, book: WellBook, census: Census, *, scaled: bool) -> bool:
        ready = {site: site_key(planes) for site, planes in census.complete.items()} if scaled else {}
        inputs = book.inputs(set(ready))
        content = (census, scaled, inputs)
        if content == book.sent or book.first_plane_at is None or book.last_plane_at is None:
            return False
        done_before = book.sent is None and book.published == (ready, inputs)
        book.sent, book.sent_decided = content, census.decided and scaled
        if done_before and len(ready) == census.expected:
            return False  # by an earlier run
        unscaled = () if scaled else tuple(census.complete)
        self._dispatch(plate, book)
        self._state.to_publish.append(
            WellClosed(
                well=book.well,
                expected_sites=census.expected,
                ready=ready,
                missing=tuple(sorted((*census.missing, *unscaled))),
                rejected=census.rejected,
                pending=bool(census.missing or census.unnamed or unscaled),
                inputs=inputs,
                first_plane_at=book.first_plane_at,
                last_plane_at=book.last_plane_at,
                last_plane_s=book.last_plane_s,
                warnings=self._warnings(book, census, inputs, scaled=scaled),
            )
        )
        self._log.info(
            Event.WELL_CLOSED,
            plate=book.well.acquisition.plate,
            well=book.well.stem,
            sites=len(ready),
            expected=census.expected,
        )
        return True

    def _warnings(
        self, book: WellBook, census: Census, inputs: tuple[InputUse, ...], *, scaled: bool
    ) -> tuple[str, ...]:
        said = []
        if not scaled:
            said.append(
                "the pixel size is not known: set expect.pixel_size_um, or copy the instrument's index file too"
            )
        if census.unnamed:
            said.append(f"{census.unnamed} of {census.expected} expected sites never appeared")
        other_z = sum(record.id.z != ANALYSED_Z for record in book.planes.values())
        if other_z:
            said.append(f"{other_z} planes of other z steps were not analysed, only z = {ANALYSED_Z}")
        per_well = self._state.settings.expect.sites_per_well
        if per_well and census.expected > per_well:
            said.append(f"{census.expected} sites were imaged, expect.sites_per_well says {per_well}")
        folders = sorted({self._state.folder_of(use.plane.source.path) for use in inputs})
        if len(folders) > 1:
            said.append(
                f"planes of {len(folders)} folders that claim to be this plate and acquisition were mixed:"
                f" {', '.join(folders)}; rename one of them"
            )
        return tuple(said)

    def _review_plates(self, now: float, *, over: bool) -> bool:
        busy = {well.acquisition for well in self._state.open_wells}
        worked = False
        for plate in self._state.plates.values():
            worked |= self._review_plate(plate, now, over=over, busy=plate.acquisition in busy or bool(plate.undecided))
        acquiring = [plate for plate in self._state.plates.values() if plate.state is PlateState.ACQUIRING]
        self._state.telemetry.plates_stalled.set(sum(self.waited(plate.touched_s, now) for plate in acquiring))
        return worked

    def _review_plate(self, plate: PlateBook, now: float, *, over: bool, busy: bool) -> bool:
        if plate.state is PlateState.ACQUIRING and not busy and (over or self._is_finished(plate, now)):
            plate.state, plate.news_due, plate.news_s = PlateState.FINISHED, True, float("-inf")
        if not plate.news_due or now - plate.news_s < self._state.settings.results.plate_refresh_s:
            return False
        plate.news_due, plate.news_s = False, now
        self._state.to_publish.append(self._news(plate))
        return True

    def _is_finished(self, plate: PlateBook, now: float) -> bool:
        if now - plate.touched_s >= self._state.settings.expect.plate_timeout_s:
            return True
        closed = {well.position for well, book in plate.wells.items() if book.sent_decided}
        expected = plate.expected_wells()
        return bool(expected) and expected <= closed

    def _news(self, plate: PlateBook) -> PlateNews:
        expect = self._state.settings.expect
        return PlateNews(
            acquisition=plate.acquisition,
            state=plate.state,
            root=self._state.root,
            folder=plate.folder,
            instrument=self._state.instrument.name,
            shape=plate.shape,
            pixel_size_um=self._state.pixel_size_um(plate),
            expected=ExpectedPlate(
                source="metadata" if plate.manifest.planes else "settings",
                sites=expect.sites_per_well or plate.learned_sites or None,
            ),
            bit_depth=plate.depth_verdicts(self._state.channels, expect.bit_depth),
            counts={
                **Counter({outcome.value: 0 for outcome in PlaneOutcome}),
                **plate.counts,
                "wells": len(plate.wells),
            },
            instrument_plate_id=plate.manifest.plate_id,
            instrument_measurement_id=plate.manifest.measurement_id,
        )
