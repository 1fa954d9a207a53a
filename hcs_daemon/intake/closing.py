"""When a well is closed and a plate finished, and what publish is told then."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from hcs_daemon.intake.assembly import Census, PlaneKey, PlateBook, WellBook, site_key
from hcs_daemon.intake.state import IntakeState
from hcs_daemon.plate import PROJECTION_Z, WellId
from hcs_daemon.records import ChannelImage, InputUse, LackingPlane, PlateNews, WellClosed
from hcs_daemon.telemetry import Event, get_log
from hcs_daemon.terminal import counted
from hcs_daemon.vocabulary import FAR_BELOW, PlaneOutcome, PlateState, Used

REVISE_AFTER_S = 10.0
"""A published well that goes on growing is revised when it was quiet this long, not for each plane."""
FINISHED_AFTER_S = 30.0
"""A plate whose metadata is a log of what was taken, and no plan, is finished when it was quiet this long."""
SWEEP_S = 0.5
"""Wells that got nothing new are looked at so often, for their time may be up."""


class Closing:
    """Decides about wells and plates. Owned by the intake thread.

    dispatch: told of a well that is closed, and of its complete sites, which must be on their way.
    all_named: every file that there will be has been seen.
    """

    def __init__(
        self, state: IntakeState, dispatch: Callable[[WellBook, Mapping[int, tuple[ChannelImage, ...]]], None]
    ) -> None:
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
        quiet = now - book.touched_s >= REVISE_AFTER_S and book.rested_s != book.touched_s
        return quiet or self.waited(book.touched_s, now)

    def _review_well(self, plate: PlateBook, book: WellBook, now: float, *, over: bool) -> bool:
        if book.outstanding:
            return False
        if book.last_plane_at is None:  # all its files went before they were read
            self._state.shut(book.well)
            return False
        self._look_for_faint(plate)
        quiet = now - book.touched_s >= REVISE_AFTER_S
        if quiet:
            book.rested_s = book.touched_s
        timed_out = over or self.waited(book.touched_s, now)
        census = plate.census(book, final=self.all_named or timed_out, settled=quiet)
        trouble = plate.expectation.problem()
        lacking = plate.expectation.lacking()
        if lacking and not trouble and book.is_as_published:
            self._state.shut(book.well)  # what an earlier run knew is only not known again yet
            return False
        decided = census.decided and (trouble != "" or not lacking)
        if not (decided or timed_out):
            return False
        growing = book.sent is not None and not quiet
        if growing and not timed_out and (book.sent_decided or not decided):
            return False
        self._state.shut(book.well)
        plate.news_due = True  # what is odd about the plate may be another now
        per_well = self._state.settings.expect.sites_per_well
        if timed_out and census.expected > plate.expectation.learned_sites and not per_well:
            plate.expectation.learned_sites = census.expected
            self._touch_all(plate)
        return self._close(plate, book, census, unready=trouble or lacking)

    def _look_for_faint(self, plate: PlateBook) -> None:
        """Look again at wells of which a plane lies far below its channel's others, or does not any more."""
        changed = plate.depths.look_for_faint()
        for book in plate.wells.values() if changed else ():
            if any(record.source.path in changed for record in book.planes.values()):
                self._state.touch(book)

    def _touch_all(self, plate: PlateBook) -> None:
        for well in self._state.open_wells:
            if well.acquisition == plate.acquisition:
                self._state.touched[well] = None

    def _close(self, plate: PlateBook, book: WellBook, census: Census, *, unready: str) -> bool:
        """Tell publish. unready: in words, why no site of the plate can be analysed (yet)."""
        complete = {} if unready else census.complete
        ready = {site: site_key(images) for site, images in complete.items()}
        inputs = book.inputs(complete, plate)
        faint = _faint_in_words(plate, inputs)
        content = (census, unready, inputs, faint)
        if content == book.sent or book.first_plane_at is None or book.last_plane_at is None:
            return False
        done_before = book.sent is None and book.published == (ready, inputs)
        book.sent, book.sent_decided = content, census.decided and not unready
        if done_before and len(ready) == census.expected:
            return False  # by an earlier run
        unanalysed = tuple(census.complete) if unready else ()
        hopeless = unanalysed if plate.expectation.problem() else ()
        waiting = () if hopeless else unanalysed
        self._dispatch(book, complete)
        self._state.to_publish.append(
            WellClosed(
                well=book.well,
                expected_sites=census.expected,
                ready=ready,
                missing=tuple(sorted((*census.missing, *waiting))),
                rejected=tuple(sorted((*census.rejected, *hopeless))),
                pending=bool(census.missing or census.unnamed or waiting),
                inputs=inputs,
                first_plane_at=book.first_plane_at,
                last_plane_at=book.last_plane_at,
                last_plane_s=book.last_plane_s,
                warnings=(*self._warnings(plate, book, census, inputs, unready), *faint),
                lacking=census.lacking,
                flatfield=plate.expectation.flatfield_words(),
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
        self, plate: PlateBook, book: WellBook, census: Census, inputs: tuple[InputUse, ...], unready: str
    ) -> tuple[str, ...]:
        said = [unready] if unready else []
        said += [
            f"nothing of this well is analysed, for {channel} is not of {plate.depths.declared} bits as declared: {why}"
            for channel, why in plate.depths.contradicted.items()
        ]
        said += plate.depths.doubts()
        if census.unnamed:
            said.append(f"{census.unnamed} of {census.expected} expected sites never appeared")
        said += _lacking_in_words(census.lacking, self._reasons(book))
        said += _mixed_in_words(book, census)
        said += _projected_in_words(plate, census)
        said += plate.expectation.short_stacks(book.when)[:LACKING_NAMED]
        said += plate.coverage.of_well(book.well, plate.expectation.channels, self._settled(plate))
        said += plate.lookalikes.copies(book.well)[:LACKING_NAMED]
        other_z = sum(use.used is Used.OTHER_Z for use in inputs)
        if other_z:
            projection = plate.expectation.projection
            said.append(f'{other_z} planes of other z steps were not analysed (expect.projection = "{projection}")')
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

    def _reasons(self, book: WellBook) -> dict[PlaneKey, str]:
        """Why the well's rejected planes are, by their place."""
        files = ((key, self._state.files.get(self._state.path_of(name))) for name, key in book.rejected.items())
        return {key: file.rejection.reason.value for key, file in files if file is not None and file.rejection}

    def _review_plates(self, now: float, *, over: bool) -> bool:
        busy = {well.acquisition for well in self._state.open_wells}
        worked = False
        for plate in self._state.plates.values():
            waits = plate.acquisition in busy or bool(plate.undecided)
            worked |= self._review_plate(plate, now, over=over, busy=waits)
            self._look_for_stall(plate, now, busy=waits)
        self._state.telemetry.plates_stalled.set(sum(plate.stalled for plate in self._state.plates.values()))
        return worked

    def _look_for_stall(self, plate: PlateBook, now: float, *, busy: bool) -> None:
        """Note whether a plate lacks wells or planes and for long got none, and say so when that begins."""
        before, plate.stalled = plate.stalled, False
        if plate.state is not PlateState.ACQUIRING or not self.waited(plate.touched_s, now):
            return
        came = {book.when for book in plate.wells.values() if book.first_plane_at is not None or book.outstanding}
        done = {book.when for book in plate.wells.values() if book.sent_decided or book.is_as_published}
        partial, absent = len(came - done), len(plate.expectation.wells() - came)
        plate.stalled = busy or partial > 0 or absent > 0
        if plate.stalled and not before:
            self._log.warning(
                Event.PLATE_STALLED,
                plate=plate.acquisition.plate,
                acquisition=plate.acquisition.acquisition,
                detail=f"no plane came for {self._state.settings.expect.well_timeout_s:g} s;"
                f" {counted(partial, 'well')} incomplete, {counted(absent, 'expected well')} never came",
                hint="look at the instrument, and at what copies its files; it goes on by itself when they come",
            )

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
        closed = {book.when for book in plate.wells.values() if book.sent_decided}
        expected = plate.expectation.wells()
        rested = not plate.expectation.is_log or now - plate.touched_s >= FINISHED_AFTER_S
        return rested and bool(expected) and expected <= closed

    def _news(self, plate: PlateBook) -> PlateNews:
        return PlateNews(
            acquisition=plate.acquisition,
            state=plate.state,
            root=self._state.root,
            folder=plate.folder,
            instrument=plate.instrument or self._state.instrument.name,
            shape=plate.shape,
            pixel_size_um=plate.expectation.pixel_size_um(),
            expected=plate.expectation.summary(),
            bit_depth=plate.depths.verdicts(self._state.channels),
            counts={
                **Counter({outcome.value: 0 for outcome in PlaneOutcome}),
                **plate.counts,
                "wells": len(plate.wells),
            },
            instrument_plate_id=plate.expectation.manifest.plate_id,
            instrument_measurement_id=plate.expectation.manifest.measurement_id,
            taken=plate.expectation.facts(),
            layout=plate.expectation.manifest.layout,
            flatfield=plate.expectation.flatfield_words(),
            problem=plate.expectation.problem(),
            warnings=(
                *plate.depths.doubts(),
                *_faint_of_plate(plate),
                *plate.coverage.of_plate(plate.expectation.channels, self._settled(plate)),
                *sorted(plate.lookalikes.copies())[:LACKING_NAMED],
            ),
        )

    def _settled(self, plate: PlateBook) -> list[WellId]:
        """The wells of which no more is waited for."""
        waited_for = self._state.open_wells
        return [well for well, book in plate.wells.items() if book.first_plane_at and well not in waited_for]


LACKING_NAMED = 12
"""So many lacking planes are named in a well's warnings; all of them stand in its result."""


def _faint_in_words(plate: PlateBook, inputs: tuple[InputUse, ...]) -> tuple[str, ...]:
    """A sentence on planes of a well that lie far below all others of their channel; none for none."""
    faint = [use.plane for use in inputs if use.plane.source.path in plate.depths.faint]
    if not faint:
        return ()
    named = sorted({f"site {plane.id.site.site} {plane.channel}" for plane in faint})
    more = f" and {len(named) - LACKING_NAMED} more" if len(named) > LACKING_NAMED else ""
    words = (
        f"{', '.join(named[:LACKING_NAMED])}{more}: {FAR_BELOW}, in light and in noise."
        " Values of fewer bits look like this, and so does no light: do not trust the verdict"
    )
    return (words,)


def _faint_of_plate(plate: PlateBook) -> tuple[str, ...]:
    wells = sorted(
        {
            f"{book.well.stem} {record.channel}"
            for book in (plate.wells.values() if plate.depths.faint else ())
            for record in book.planes.values()
            if record.source.path in plate.depths.faint
        }
    )
    if not wells:
        return ()
    more = f" and {len(wells) - LACKING_NAMED} more" if len(wells) > LACKING_NAMED else ""
    return (f"far below all other planes of their channel: {', '.join(wells[:LACKING_NAMED])}{more}",)


def _projected_in_words(plate: PlateBook, census: Census) -> list[str]:
    """Sentences on channels whose `max` is a projection that the instrument made in another way."""
    if plate.expectation.projection != "max":
        return []
    theirs = {
        image.planes[0].channel
        for images in census.complete.values()
        for image in images
        if image.planes[0].id.z == PROJECTION_Z
    }
    return [
        f"{channel}: the instrument's own projection is analysed, and it is no maximum but {method!r}"
        for channel, method in sorted(plate.expectation.projected.items())
        if channel in theirs and not method.casefold().startswith("max")
    ]


def _mixed_in_words(book: WellBook, census: Census) -> list[str]:
    """Sentences on sites of which only some channels were imaged again."""
    again: dict[int, set[str]] = {}
    for site, channel, _ in book.superseded:
        again.setdefault(site, set()).add(channel)
    return [
        f"site {site}: {', '.join(sorted(channels))} imaged again, and the other channels not"
        for site, channels in sorted(again.items())
        if site in census.complete and len(channels) < len(census.complete[site])
    ]


def _lacking_in_words(lacking: tuple[LackingPlane, ...], reasons: Mapping[PlaneKey, str]) -> list[str]:
    """Sentences that name the planes that were refused, those never taken, and those that did not come."""
    refused, others = list[LackingPlane](), list[LackingPlane]()
    for each in lacking:
        (refused if (each.site, each.channel, each.z) in reasons else others).append(each)
    counts = Counter(reasons[each.site, each.channel, each.z] for each in refused)
    why = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    return [
        *_named(refused, f"refused ({why}; rejected.jsonl says more)"),
        *_named([each for each in others if each.refused], "refused or never taken"),
        *_named([each for each in others if not each.refused], "never came"),
    ]


def _named(planes: Sequence[LackingPlane], what: str) -> list[str]:
    """A sentence on what became of some expected planes; none for no plane."""
    if not planes:
        return []
    named = ", ".join(f"site {each.site} {each.channel} z {each.z}" for each in planes[:LACKING_NAMED])
    more = f" and {len(planes) - LACKING_NAMED} more" if len(planes) > LACKING_NAMED else ""
    return [f"{counted(len(planes), 'expected plane')} {what}: {named}{more}"]
