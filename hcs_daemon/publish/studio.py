"""Drawings on their way: what waits for the plate's contrast, what is being drawn, what must be asked for again.

A plate's pictures share one contrast, so that two wells can be compared by eye. It is taken from the first sites to be
drawn, preferably those of control wells, and then fixed. A result never waits for any of this.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.plate import AcquisitionId, WellId
from hcs_daemon.publish.drift import CONTROL_ROLE
from hcs_daemon.publish.panels import AttributionPanels, ReferencePanels, SitePanels
from hcs_daemon.publish.schemas import WellResult
from hcs_daemon.records import SiteWanted
from hcs_daemon.telemetry import Event, get_log

SAMPLES = 12
"""Sites from which a plate's contrast is taken."""
ENOUGH_CONTROLS = 3
"""With so many control sites among them, only these count."""
BLACK_PERCENTILE, WHITE_PERCENTILE = 1.0, 99.8
PATIENCE_S = 30.0
"""Where no further site comes for so long, the contrast is taken from what is there."""
MOST_CONTROLS = 8
"""Control sites of a plate that are kept to be shown beside others: about 3 MB each."""
MOST_WAITING = 64
"""Beyond this many, the pixels are let go and asked for again later: about 5 MB a drawing."""
AT_ONCE = 4

Contrast = Mapping[str, tuple[float, float]]
"""Channel -> (black, white) in raw counts."""


@dataclass(frozen=True, slots=True)
class WellPicture:
    """Everything that a well's picture shows.

    rejections: in words, a line a rejected file of the well. panels: None when there are no pixels to show; then
    `problem` may say why. contrast: the plate's. control: a site of another well of the plate, stained on the same day.
    """

    result: WellResult
    rejections: tuple[str, ...] = ()
    panels: SitePanels | None = None
    attribution: AttributionPanels | None = None
    contrast: Contrast = field(default_factory=dict)
    problem: str | None = None
    control: ReferencePanels | None = None

    @property
    def reference(self) -> ReferencePanels | None:
        """What the site is shown beside: a control of its plate, else the explanation's reference, of the package."""
        found = self.attribution
        if self.control is not None or found is None:
            return self.control
        return ReferencePanels(found.reference, found.reference_um_per_px, found.reference_name)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finished picture. png: the file's bytes."""

    well: WellId
    revision: int
    png: bytes


@dataclass(slots=True)
class _Plate:
    contrast: Contrast | None = None
    samples: list[tuple[WellResult, dict[str, tuple[float, float]]]] = field(default_factory=list)
    waiting: dict[WellId, WellPicture] = field(default_factory=dict)
    controls: dict[WellId, WellPicture] = field(default_factory=dict)
    with_role: set[WellId] = field(default_factory=set)
    last_s: float = 0.0


class Studio:
    """Hands drawings to the executor and collects them. Owned by the publish thread, which never waits here."""

    def __init__(self, drawing: Executor, control_class: str) -> None:
        self._drawing = drawing
        self._control_class = control_class
        self._plates: dict[AcquisitionId, _Plate] = {}
        self._under_way: dict[Future[bytes], tuple[WellId, int]] = {}
        self._without_pixels: dict[WellId, tuple[WellPicture, SiteWanted]] = {}
        self._asked: dict[SiteWanted, tuple[WellId, WellPicture]] = {}
        self._ready: deque[tuple[WellId, WellPicture]] = deque()
        self._resting = False

    @property
    def idle(self) -> bool:
        """Whether nothing is being drawn or asked for. What waits for its plate's contrast does not count."""
        return not (self._under_way or self._without_pixels or self._asked or self._ready)

    @property
    def drawing(self) -> bool:
        """Whether something is being drawn, or can be."""
        return bool(self._under_way or self._ready)

    def holds(self, acquisition: AcquisitionId) -> bool:
        """Whether pictures of this plate wait for its contrast."""
        return bool(self._plate(acquisition).waiting)

    def close(self, acquisition: AcquisitionId) -> None:
        """Let go of a plate of which nothing more is expected."""
        self._plates.pop(acquisition, None)

    def contrast(self, acquisition: AcquisitionId) -> Contrast | None:
        """The plate's contrast, once it is fixed."""
        return self._plate(acquisition).contrast

    def adopt(self, acquisition: AcquisitionId, contrast: Contrast | None) -> None:
        """Go on with the contrast that an earlier run fixed."""
        self._plate(acquisition).contrast = contrast

    def forget(self, acquisition: AcquisitionId) -> None:
        """Take a new contrast: the plate is done again."""
        self._plate(acquisition).contrast = None

    def add(self, well: WellId, picture: WellPicture, wanted: SiteWanted | None, now_s: float) -> None:
        """Draw a picture when its contrast is known. wanted: how to ask for its pixels again."""
        self.drop(well)
        if picture.panels is None:
            self._ready.append((well, picture))
            return
        plate = self._plate(well.acquisition)
        self._learn_role(plate, well, picture.result)
        self._sample(plate, picture)
        self._keep_control(plate, well, picture)
        plate.last_s = now_s
        if self._waiting >= MOST_WAITING and wanted is not None:
            if not self._resting:
                self._without_pixels[well] = (replace(picture, panels=None), wanted)
        else:
            plate.waiting[well] = picture

    def ask(self, well: WellId, picture: WellPicture, wanted: SiteWanted) -> list[SiteWanted]:
        """A picture whose pixels are yet to come; what to ask for now."""
        self.drop(well)
        if self._resting:
            return []
        self._asked[wanted] = (well, picture)
        return [wanted]

    def rest(self) -> None:
        """Ask for no more pixels, and forget the pictures that lack theirs. Can be called again."""
        self._resting = True
        self._without_pixels.clear()
        self._asked.clear()

    def asked(self, wanted: SiteWanted) -> tuple[WellId, WellPicture] | None:
        """The picture that this was asked for, once."""
        return self._asked.pop(wanted, None)

    def drop(self, well: WellId) -> None:
        """Forget what is not drawn yet of an older revision."""
        self._plate(well.acquisition).waiting.pop(well, None)
        self._without_pixels.pop(well, None)
        for wanted in [wanted for wanted, (owner, _) in self._asked.items() if owner == well]:
            del self._asked[wanted]
        self._ready = deque(item for item in self._ready if item[0] != well)

    def step(self, now_s: float) -> list[SiteWanted]:
        """Start drawings; what is to be asked for again."""
        for plate in self._plates.values():
            if plate.contrast is None and plate.waiting:
                late = now_s - plate.last_s >= PATIENCE_S
                if len(plate.samples) >= SAMPLES or late:
                    self._fix(plate)
            self._release(plate)
        while self._ready and len(self._under_way) < AT_ONCE:
            self._start(*self._ready.popleft())
        return self._ask_again()

    def settle(self, acquisition: AcquisitionId) -> None:
        """Nothing more comes of this plate: its contrast is taken from what is there."""
        plate = self._plate(acquisition)
        if plate.contrast is None and plate.samples:
            self._fix(plate)

    def collect(self) -> Iterator[Drawn]:
        """Pictures that are finished; one that failed is said in the log and left out."""
        for future in [future for future in self._under_way if future.done()]:
            well, revision = self._under_way.pop(future)
            failure = future.exception()
            if failure is None:
                yield Drawn(well, revision, future.result())
            else:
                get_log().error(
                    Event.PICTURE_FAILED,
                    plate=well.acquisition.plate,
                    well=well.stem,
                    detail=repr(failure),
                    hint="the result stands; its picture is tried again at the next start",
                )

    def wait(self) -> None:
        """Wait until what is being drawn is drawn. Only for the end of the program."""
        wait(list(self._under_way))

    @property
    def _waiting(self) -> int:
        held = sum(len(plate.waiting) for plate in self._plates.values())
        return held + len(self._ready) + len(self._under_way)

    def _plate(self, acquisition: AcquisitionId) -> _Plate:
        return self._plates.setdefault(acquisition, _Plate())

    def _sample(self, plate: _Plate, picture: WellPicture) -> None:
        if plate.contrast is not None or len(plate.samples) >= SAMPLES:
            return
        assert picture.panels is not None
        ranges = {
            channel: own_range(pixels)
            for channel, pixels in zip(picture.result.channels, picture.panels.pixels, strict=True)
        }
        plate.samples.append((picture.result, ranges))

    def _learn_role(self, plate: _Plate, well: WellId, result: WellResult) -> None:
        """Whether the layout names roles is known by the wells that come: those kept until then are held against it."""
        if _role(result):
            plate.with_role.add(well)
        else:
            plate.with_role.discard(well)
        for other in [other for other, kept in plate.controls.items() if not self._is_control(plate, kept.result)]:
            del plate.controls[other]

    def _keep_control(self, plate: _Plate, well: WellId, picture: WellPicture) -> None:
        """The newest ones, and never an older revision of a well."""
        plate.controls.pop(well, None)
        if self._is_control(plate, picture.result):
            plate.controls[well] = replace(picture, attribution=None)
            if len(plate.controls) > MOST_CONTROLS:
                del plate.controls[next(iter(plate.controls))]

    def _is_control(self, plate: _Plate, result: WellResult) -> bool:
        """By the layout where it names roles, else by the verdict."""
        if plate.with_role:
            return is_named_control(result)
        return result.prediction is not None and result.prediction.label == self._control_class

    def _with_control(self, well: WellId, picture: WellPicture) -> WellPicture:
        """With the control of another well of the plate that is nearest by the embedding."""
        plate = self._plate(well.acquisition)
        others = {other: found for other, found in plate.controls.items() if other != well}
        if picture.panels is None or not others:
            return picture
        own = _embedding(picture.result)
        nearest = min(others, key=lambda other: float(np.linalg.norm(_embedding(others[other].result) - own)))
        panels = others[nearest].panels
        assert panels is not None
        name = f"well {nearest.stem} of this plate, a control by {'the layout' if plate.with_role else 'its verdict'}"
        return replace(picture, control=ReferencePanels(panels.pixels, panels.um_per_px, name))

    def _fix(self, plate: _Plate) -> None:
        controls = [ranges for result, ranges in plate.samples if self._is_control(plate, result)]
        chosen = controls if len(controls) >= ENOUGH_CONTROLS else [ranges for _, ranges in plate.samples]
        plate.contrast = {
            channel: (
                float(np.median([ranges[channel][0] for ranges in chosen])),
                float(np.median([ranges[channel][1] for ranges in chosen])),
            )
            for channel in chosen[0]
        }
        plate.samples.clear()

    def _release(self, plate: _Plate) -> None:
        if plate.contrast is None:
            return
        for well, picture in plate.waiting.items():
            self._ready.append((well, replace(picture, contrast=plate.contrast)))
        plate.waiting.clear()

    def _start(self, well: WellId, picture: WellPicture) -> None:
        from hcs_daemon.publish.pictures import draw_well  # noqa: PLC0415 (fonts and SciPy, for drawing only)

        future = self._drawing.submit(draw_well, self._with_control(well, picture))
        self._under_way[future] = (well, picture.result.revision)

    def _ask_again(self) -> list[SiteWanted]:
        asked: list[SiteWanted] = []
        while self._without_pixels and self._waiting + len(self._asked) < MOST_WAITING // 2:
            well = next(iter(self._without_pixels))
            picture, wanted = self._without_pixels.pop(well)
            asked += self.ask(well, picture, wanted)
        return asked


def is_named_control(result: WellResult) -> bool:
    """Whether the plate's layout says that the well is a control."""
    return _role(result) == CONTROL_ROLE


def _role(result: WellResult) -> str:
    """By the layout, in small letters; "" where it says none."""
    return "" if result.content is None else result.content.role.casefold()


def _embedding(result: WellResult) -> NDArray[np.float64]:
    """(features,): the mean over the sites."""
    return np.asarray(np.mean([site.embedding for site in result.site_results], axis=0), np.float64)


def own_range(pixels: NDArray[np.uint16]) -> tuple[float, float]:
    """Black and white of one channel of one site, in raw counts. pixels: (height, width)."""
    black, white = np.percentile(pixels, (BLACK_PERCENTILE, WHITE_PERCENTILE))
    return float(black), max(float(white), float(black) + 1.0)
