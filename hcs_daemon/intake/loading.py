"""Sites on their way: their planes' pixels are brought together, from memory or once more from disk."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial

from hcs_daemon.intake.assembly import PlateBook, WellBook, key_of, site_key
from hcs_daemon.intake.cache import PixelCache
from hcs_daemon.intake.reading import Brought, Layer, Uncorrectable, Unread, bring_together
from hcs_daemon.intake.state import IntakeState
from hcs_daemon.plate import SiteId
from hcs_daemon.records import ChannelImage, ExplainTask, PlaneRecord, Site, SiteReturned, SiteWanted
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import Stage

_Answer = Brought | Unread | Uncorrectable
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
        self._finished: deque[tuple[Load, tuple[ChannelImage, ...], Future[_Answer]]] = deque()
        self._under_way = 0
        self._log = get_log()

    @property
    def busy(self) -> bool:
        """Whether a site waits or is being loaded."""
        return bool(self._queue or self._later or self._under_way or self._finished)

    @property
    def waiting(self) -> int:
        """Sites that wait to be brought together."""
        return len(self._queue) + len(self._later)

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
        if not plate.is_ready:
            return
        for site in plate.expectation.named_sites(book.when) if only is None else [only]:
            images = plate.site_images(book, site)
            if images is not None:
                self._queue_site(book, site, images)

    def dispatch_counted(self, book: WellBook, complete: Mapping[int, tuple[ChannelImage, ...]]) -> None:
        """The same, of a well that was just counted."""
        for site, images in complete.items():
            self._queue_site(book, site, images)

    def dispatch_all(self, plate: PlateBook) -> None:
        """What a plate waited for is known now."""
        for book in plate.wells.values():
            self._state.touch(book)
            self.dispatch(plate, book)

    def _queue_site(self, book: WellBook, site: int, images: tuple[ChannelImage, ...]) -> None:
        if book.dispatched.get(site) != (key := site_key(images)):
            book.dispatched[site] = key
            book.images[site] = images
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
            load, images, future = self._finished.popleft()
            self._under_way -= 1
            worked = True
            failure = future.exception()
            first = images[0].planes[0]
            found = Unread(first, f"reading failed: {failure!r}") if failure is not None else future.result()
            if isinstance(found, Unread):
                self._fail(load, found.problem)
                self._look_again(found.record)
            elif isinstance(found, Uncorrectable):
                self._fail(load, found.problem)
                self._condemn(load, found.problem)
            else:
                self._send(load, images, found)
        return worked

    def _start(self, load: Load) -> None:
        plate = self._state.plates.get(load.site.well.acquisition)
        images = self._images(plate, load) if plate else None
        if plate is None or images is None:
            self._fail(load, "its planes were replaced since")
            return
        if not plate.is_ready:
            self._fail(load, plate.expectation.lacking() or plate.expectation.problem())
            return
        layers = [self._layer(plate, load.site, image) for image in images]
        predicted = load.wanted is None
        if all(layer.held is not None and layer.flatfield is None for layer in layers):
            with self._state.telemetry.timed(Stage.ASSEMBLE):
                found = bring_together(layers, measured=predicted)
            assert not isinstance(found, Unread | Uncorrectable)  # nothing was read
            self._send(load, images, found)
            return
        self._state.telemetry.cache_rereads.inc(sum(len(each.paths) for each in layers if each.held is None))
        self._under_way += 1
        future = self._readers.submit(_bring_timed, self._state.telemetry, layers, measured=predicted)
        future.add_done_callback(partial(self._done, load, images))

    def _images(self, plate: PlateBook, load: Load) -> tuple[ChannelImage, ...] | None:
        """The images that the key stands for, if all their planes still count."""
        book = plate.well(load.site.well)
        images = book.images.get(load.site.site)
        if images is None or site_key(images) != load.key:
            images = plate.site_images(book, load.site.site, settled=True)
        if images is None or site_key(images) != load.key:
            return None
        planes = [plane for image in images for plane in image.planes]
        return images if all(book.planes.get(key_of(plane)) == plane for plane in planes) else None

    def _layer(self, plate: PlateBook, site: SiteId, image: ChannelImage) -> Layer:
        channel = image.planes[0].channel
        members = frozenset(plane.part for plane in image.planes)
        return Layer(
            image=image,
            paths=tuple(self._state.path_of(plane.source.path) for plane in image.planes),
            held=self._cache.get((site, channel), members),
            flatfield=plate.expectation.flatfields.get(channel),
        )

    def _done(self, load: Load, images: tuple[ChannelImage, ...], future: Future[_Answer]) -> None:
        """Called in a reader's thread: hand over and wake, nothing else."""
        self._finished.append((load, images, future))
        self._wake()

    def _send(self, load: Load, images: tuple[ChannelImage, ...], found: Brought) -> None:
        pixel_size_um = self._state.plates[load.site.well.acquisition].expectation.pixel_size_um()
        assert pixel_size_um is not None  # seen at the start of the load, and never forgotten
        site = Site(load.site, images, found.pixels, pixel_size_um, found.steps)
        for image in images:
            self._cache.release((load.site, image.planes[0].channel))
        if load.wanted is None:
            self._state.to_device.append(site)
        elif load.wanted.explain_target is not None:
            self._state.to_device.append(ExplainTask(load.wanted, site))
        else:
            self._state.to_publish.append(SiteReturned(load.wanted, site))

    def _condemn(self, load: Load, problem: str) -> None:
        """What was promised of the whole plate does not fit its images: no site of it can be analysed."""
        plate = self._state.plates.get(load.site.well.acquisition)
        if plate is None or plate.expectation.trouble:
            return
        plate.expectation.trouble, plate.news_due = problem, True
        for book in plate.wells.values():
            self._state.touch(book)

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


def _bring_timed(telemetry: Telemetry, layers: Sequence[Layer], *, measured: bool) -> _Answer:
    with telemetry.timed(Stage.ASSEMBLE):
        return bring_together(layers, measured=measured)


def _purpose(wanted: SiteWanted | None) -> tuple[str, str]:
    """What a site's pixels were to be brought together for, and what becomes of it now."""
    if wanted is None:
        return "to be analysed", "it is done again by itself when its files are whole"
    if wanted.urgent:
        return "to be explained", "its well is written without its explanation, and again when its files are whole"
    return "to be drawn", "the result stands, and its picture says what is missing"
