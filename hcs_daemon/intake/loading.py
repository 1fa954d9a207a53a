"""Sites on their way: their planes' pixels are brought together, from memory or once more from disk."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hcs_daemon.intake.assembly import PlateBook, WellBook, site_key
from hcs_daemon.intake.cache import PixelCache
from hcs_daemon.intake.reading import Unread, reread_site, stack
from hcs_daemon.intake.state import IntakeState
from hcs_daemon.plate import SiteId
from hcs_daemon.records import ChannelImage, ExplainTask, Pixels, PlaneRecord, Site, SiteReturned, SiteWanted
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import Stage

LOADS_AT_ONCE = 2
"""Sites whose pixels are held outside the cache's budget, on their way to the device."""


@dataclass(slots=True)
class Load:
    """A site whose pixels are to be brought together. wanted: None on its way to be predicted."""

    site: SiteId
    key: tuple[str, ...]
    wanted: SiteWanted | None = None


class Loading:
    """The queue of sites to load. Owned by the intake thread; only rereading is done elsewhere, by `readers`.

    wake: called from a reader's thread when it is done. look_again: told the name of a file that did not give the
    bytes it gave before.
    """

    def __init__(
        self,
        state: IntakeState,
        cache: PixelCache,
        readers: Executor,
        wake: Callable[[], None],
        look_again: Callable[[PlaneRecord], None],
    ) -> None:
        self._state = state
        self._cache = cache
        self._readers = readers
        self._wake = wake
        self._look_again = look_again
        self._queue: deque[Load] = deque()
        self._later: deque[Load] = deque()
        self._finished: deque[tuple[Load, tuple[PlaneRecord, ...], Future[Pixels | Unread]]] = deque()
        self._under_way = 0
        self._log = get_log()

    @property
    def busy(self) -> bool:
        """Whether a site waits or is being loaded."""
        return bool(self._queue or self._later or self._under_way or self._finished)

    def want(self, wanted: SiteWanted) -> None:
        """Bring a site's pixels together once more: before the others where it finishes a well, else after them."""
        if wanted.urgent:
            self._queue.appendleft(Load(wanted.site, wanted.key, None if wanted.predict else wanted))
        else:
            self._later.append(Load(wanted.site, wanted.key, wanted))

    def leave_pictures(self) -> None:
        """Forget what only pictures wait for: the end is near, and the next start asks again."""
        self._later.clear()

    def dispatch(self, plate: PlateBook, book: WellBook, only: int | None = None) -> None:
        """Queue the well's complete sites for the device, each once for the same bytes."""
        if self._state.pixel_size_um(plate) is None:
            return
        for site in sorted(book.sites_named) if only is None else [only]:
            planes = book.site_planes(site, self._state.channels)
            if planes is not None and book.dispatched.get(site) != (key := site_key(planes)):
                book.dispatched[site] = key
                self._queue.append(Load(SiteId(book.well, site), key))

    def start(self, *, room: bool) -> bool:
        """Begin what fits; whether anything was. room: whether the stages after this one take more."""
        started = False
        while room and self._under_way < LOADS_AT_ONCE and len(self._state.to_device) < LOADS_AT_ONCE:
            queue = self._queue or self._later
            if not queue:
                break
            self._start(queue.popleft())
            started = True
        return started

    def take(self) -> bool:
        """Take what the readers finished; whether there was anything."""
        worked = False
        while self._finished:
            load, planes, future = self._finished.popleft()
            self._under_way -= 1
            worked = True
            failure = future.exception()
            found = Unread(planes[0], f"reading failed: {failure!r}") if failure is not None else future.result()
            if isinstance(found, Unread):
                self._fail(load, found.problem)
                self._look_again(found.record)
            else:
                self._send(load, planes, found)
        return worked

    def _start(self, load: Load) -> None:
        plate = self._state.plates.get(load.site.well.acquisition)
        planes = plate.well(load.site.well).site_planes(load.site.site, self._state.channels) if plate else None
        if plate is None or planes is None or site_key(planes) != load.key:
            self._fail(load, "its planes were replaced since")
            return
        if self._state.pixel_size_um(plate) is None:
            self._fail(load, "the pixel size is not known")
            return
        held = {
            position: pixels
            for position, plane in enumerate(planes)
            if (pixels := self._cache.get(plane.id, plane.source.sha256)) is not None
        }
        if len(held) == len(planes):
            with self._state.telemetry.timed(Stage.ASSEMBLE):
                pixels = stack([held[position] for position in range(len(planes))])
            self._send(load, planes, pixels)
            return
        self._state.telemetry.cache_rereads.inc(len(planes) - len(held))
        self._under_way += 1
        paths = [self._state.path_of(plane.source.path) for plane in planes]
        future = self._readers.submit(_reread_timed, self._state.telemetry, list(zip(paths, planes, strict=True)), held)
        future.add_done_callback(partial(self._done, load, planes))

    def _done(self, load: Load, planes: tuple[PlaneRecord, ...], future: Future[Pixels | Unread]) -> None:
        """Called in a reader's thread: hand over and wake, nothing else."""
        self._finished.append((load, planes, future))
        self._wake()

    def _send(self, load: Load, planes: tuple[PlaneRecord, ...], pixels: Pixels) -> None:
        pixel_size_um = self._state.pixel_size_um(self._state.plates[load.site.well.acquisition])
        assert pixel_size_um is not None  # seen at the start of the load, and never forgotten
        site = Site(load.site, tuple(ChannelImage((plane,)) for plane in planes), pixels, pixel_size_um)
        for plane in planes:
            self._cache.release(plane.id)
        if load.wanted is None:
            self._state.to_device.append(site)
        elif load.wanted.explain_target is not None:
            self._state.to_device.append(ExplainTask(load.wanted, site))
        else:
            self._state.to_publish.append(SiteReturned(load.wanted, site))

    def _fail(self, load: Load, problem: str) -> None:
        purpose, hint = _purpose(load.wanted)
        self._log.warning(
            Event.SITE_FAILED,
            plate=load.site.well.acquisition.plate,
            well=load.site.well.stem,
            site=load.site.site,
            detail=f"{purpose}: {problem}",
            hint=hint,
        )
        if load.wanted is not None:
            self._state.to_publish.append(SiteReturned(load.wanted, None, None, problem))
            return
        plate = self._state.plates.get(load.site.well.acquisition)
        if plate is None:
            return
        book = plate.well(load.site.well)
        if book.dispatched.get(load.site.site) == load.key:
            del book.dispatched[load.site.site]


def _reread_timed(
    telemetry: Telemetry, planes: Sequence[tuple[Path, PlaneRecord]], held: dict[int, Pixels]
) -> Pixels | Unread:
    with telemetry.timed(Stage.ASSEMBLE):
        return reread_site(planes, held)


def _purpose(wanted: SiteWanted | None) -> tuple[str, str]:
    """What a site's pixels were to be brought together for, and what becomes of it now."""
    if wanted is None:
        return "to be analysed", "it is done again by itself when its files are whole"
    if wanted.urgent:
        return "to be explained", "its well is written without its explanation, and again when its files are whole"
    return "to be drawn", "the result stands, and its picture says what is missing"
