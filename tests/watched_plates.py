"""A watched folder and its intake on a fake clock: write files, let time pass, see what came."""

import os
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fakes import Clock, HeldExecutor, InlineExecutor, make_settings
from hcs_daemon.instruments import instrument_for
from hcs_daemon.intake.arrival import Hints, Scanner, ScanReport, scan_once
from hcs_daemon.intake.intake import Intake
from hcs_daemon.intake.reading import look
from hcs_daemon.plate import AcquisitionId, WellPosition
from hcs_daemon.records import (
    ExplainTask,
    InputUse,
    PlateNews,
    Rejection,
    Restored,
    RestoredPlate,
    RestoredWell,
    Site,
    SiteReturned,
    WellClosed,
)
from hcs_daemon.telemetry import Telemetry, parse_metrics
from hcs_daemon.tiff import encode_plane
from hcs_daemon.vocabulary import PlateState, WellStatus
from hostile_tiffs import plane

CHANNELS = {"DNA": "1", "ER": "2"}
IMAGES = "P1__M1/Images"
P1 = AcquisitionId("P1", "M1")


@cache
def picture(seed: int, height: int = 24, width: int = 32) -> bytes:
    """A plane as an Opera Phenix writes it, another for each seed."""
    return encode_plane(plane(height, width, seed=seed))


def name(well: str, channel: int = 1, site: int = 1, z: int = 1, time: int = 1) -> str:
    """`r02c03f01p01-ch1sk1fk1fl1.tiff`."""
    position = WellPosition.parse(well)
    return f"r{position.row:02d}c{position.column:02d}f{site:02d}p{z:02d}-ch{channel}sk{time}fk1fl1.tiff"


def index_xml(promised: Mapping[str, int], pixel_size_um: float | None = 0.6, *, z_steps: int = 1) -> str:
    """An Index.xml. promised: well -> how many sites."""
    size = f"<ImageResolutionX>{pixel_size_um * 1e-6}</ImageResolutionX>" if pixel_size_um else ""
    images = "".join(
        f"<Image><URL>{name(well, channel, site, z)}</URL><Row>{WellPosition.parse(well).row}</Row>"
        f"<Col>{WellPosition.parse(well).column}</Col><FieldID>{site}</FieldID><PlaneID>{z}</PlaneID>"
        f"<TimepointID>1</TimepointID><ChannelID>{channel}</ChannelID>{size}</Image>"
        for well, sites in promised.items()
        for site in range(1, sites + 1)
        for channel in (1, 2)
        for z in range(1, z_steps + 1)
    )
    return f"<EvaluationInputData><PlateID>BR1</PlateID>{images}</EvaluationInputData>"


class Watched:
    """`folder/in` with its scanner and intake. Two channels, one site a well and a pixel size, unless overridden.

    closed: the newest word on each well. said: every rejection, in order. news: the newest of each plate. sites: those
    sent to the device. returned: answers to what was wanted.
    """

    def __init__(
        self,
        folder: Path,
        *,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        restored: Restored | None = None,
        clock: Clock | None = None,
        root: Path | None = None,
        finite: bool = False,
        readers: InlineExecutor | HeldExecutor | None = None,
    ) -> None:
        given = self._overrides = overrides or {}
        expect = {"channels": CHANNELS, "sites_per_well": 1, "pixel_size_um": 0.6, **given.get("expect", {})}
        self.settings = make_settings(folder, {**given, "expect": expect})
        self.root = root or folder / "in"
        self.root.mkdir(parents=True, exist_ok=True)
        self.clock = clock or Clock()
        self.telemetry = Telemetry("1")
        self.readers = InlineExecutor() if readers is None else readers  # one without work is false
        self.finite = finite
        self.closed: dict[str, WellClosed] = {}
        self.revisions: Counter[str] = Counter()
        self.said: list[Rejection] = []
        self.news: dict[AcquisitionId, PlateNews] = {}
        self.sites: list[Site] = []
        self.tasks: list[ExplainTask] = []
        self._sent: dict[str, dict[int, tuple[str, ...]]] = {}
        self.returned: list[SiteReturned] = []
        self.intake = Intake(
            root=self.root,
            instrument=instrument_for(self.settings.watch),
            settings=self.settings,
            channels=tuple(self.settings.expect.channels),
            telemetry=self.telemetry,
            readers=self.readers,
            reads_at_once=4,
            wake=lambda: None,
            restored=restored or Restored(first_start=False),
            now_utc=self.clock.utc,
            finite=finite,
        )
        self.scanner = Scanner(
            self.root,
            self.settings.watch.rescan_s,
            Hints(self.telemetry),
            self.telemetry,
            lambda report: self.intake.report(report, self.clock.now),
        )

    # ---- what happens to it

    def write(self, file: str, data: bytes, *, mtime: float | None = None) -> Path:
        """Write a file below the watched folder; a bare name goes into the plate's images. mtime: seconds."""
        path = self.path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        stamp = self.clock.utc().timestamp() if mtime is None else mtime
        os.utime(path, ns=(int(stamp * 1e9), int(stamp * 1e9)))
        return path

    def path(self, file: str) -> Path:
        """Where `write` puts a file."""
        return self.root / (file if "/" in file else f"{IMAGES}/{file}")

    def well(self, well: str, *, sites: int = 1, seed: int = 0) -> None:
        """Write all planes of a well."""
        for site in range(1, sites + 1):
            for channel in (1, 2):
                self.write(name(well, channel, site), picture(seed + 10 * site + channel))

    def run(self, seconds: float, *, room: bool = True, tick_s: float = 0.5) -> None:
        """Let so many seconds pass, a tick at a time, looking at the folder when it is time."""
        for _ in range(round(seconds / tick_s)):
            self.scanner.step(self.clock.now)
            self.work(room=room)
            self.clock.advance(tick_s)

    def work(self, *, room: bool = True) -> None:
        """Do what can be done now."""
        while self.intake.step(self.clock.now, room=room):
            self._take()
        self._take()

    def meet(self, *files: str) -> None:
        """Tell intake of these files alone, as the first part of a long listing does."""
        sightings = tuple(look(self.path(file)) for file in files)
        self.intake.report(ScanReport(sightings, finished=False), self.clock.now)
        for _ in range(20):
            self.work()
            self.clock.advance(0.5)

    def process(self) -> None:
        """Work through the folder as one that is complete."""
        self.intake.report(scan_once(self.root), self.clock.now)
        for _ in range(10_000):
            self.work()
            if self.intake.idle:
                return
        raise AssertionError("it does not come to an end")

    def _take(self) -> None:
        while self.intake.to_publish:
            message = self.intake.to_publish.popleft()
            if isinstance(message, Rejection):
                self.said.append(message)
            elif isinstance(message, WellClosed):
                self.closed[message.well.stem] = message
                self.revisions[message.well.stem] += 1
            elif isinstance(message, PlateNews):
                self.news[message.acquisition] = message
            else:
                self.returned.append(message)
        while self.intake.to_device:
            item = self.intake.to_device.popleft()
            if isinstance(item, Site):
                self.sites.append(item)
                self._sent.setdefault(item.id.well.stem, {})[item.id.site] = item.key
            else:
                self.tasks.append(item)

    # ---- what came of it

    @property
    def standing(self) -> dict[str, Rejection]:
        """File name -> its newest line, if that was not taken back."""
        newest = {rejection.path: rejection for rejection in self.said}
        return {Path(path).name: line for path, line in newest.items() if not line.withdrawn}

    @property
    def reasons(self) -> dict[str, str]:
        """File name -> why it is rejected."""
        return {file: line.reason.value for file, line in self.standing.items()}

    def uses(self, well: str) -> dict[str, str]:
        """File name -> what became of it, of the newest word on a well."""
        return {Path(use.plane.source.path).name: use.used.value for use in self.closed[well].inputs}

    def status(self, well: str) -> WellStatus:
        """As publish will see it, when every site can be predicted."""
        closed = self.closed[well]
        if closed.ready and len(closed.ready) == closed.expected_sites:
            return WellStatus.COMPLETE
        return WellStatus.PARTIAL if closed.ready or closed.pending else WellStatus.REJECTED

    def sent_keys(self, well: str) -> dict[int, tuple[str, ...]]:
        """Site -> key of what the device was last given of a well."""
        return dict(self._sent.get(well, {}))

    def metrics(self) -> dict[str, float]:
        """Every metric."""
        return parse_metrics(self.telemetry.render().decode())

    def outcomes(self) -> dict[str, float]:
        """Outcome -> planes counted so, without those that are zero."""
        found = self.metrics()
        names = ("accepted", "rejected", "duplicate", "ignored")
        counted = {each: found[f'hcs_planes_total{{outcome="{each}"}}'] for each in names}
        return {each: number for each, number in counted.items() if number}

    def left_behind(self, *, outdated: bool = False, state: PlateState = PlateState.ACQUIRING) -> Restored:
        """What publish would have written, as the next start reads it."""
        wells = tuple(
            RestoredWell(
                well=closed.well,
                revision=self.revisions[stem],
                status=self.status(stem),
                inputs=closed.inputs,
                predicted=closed.ready,
                first_plane_at=closed.first_plane_at,
                last_plane_at=closed.last_plane_at,
            )
            for stem, closed in self.closed.items()
        )
        lines = {rejection.path: rejection for rejection in self.said}
        standing = [line for line in lines.values() if not line.withdrawn]
        shape = next((use.plane.shape for closed in self.closed.values() for use in closed.inputs), None)
        plate = RestoredPlate(
            P1, state, shape, outdated, wells, tuple(line for line in standing if line.acquisition is not None)
        )
        loose = tuple(line for line in standing if line.acquisition is None)
        return Restored((plate,) if wells or plate.rejections else (), loose, first_start=False)

    def restarted(self) -> "Watched":
        """The next start over the same folder and the same results."""
        restored = self.left_behind()
        second = Watched(self.root.parent, overrides=self._overrides, restored=restored, clock=self.clock)
        second.closed, second.revisions, second.said = self.closed, self.revisions, self.said
        second._sent = {stem: dict(closed.ready) for stem, closed in self.closed.items()}
        return second

    def unaccounted(self) -> list[str]:
        """Image files of expected channels that are not in exactly one of the two places."""
        inputs = [use for closed in self.closed.values() for use in closed.inputs]
        newest = {rejection.path: rejection for rejection in self.said}
        rejected = {path for path, line in newest.items() if not line.withdrawn}
        wrong = []
        for path in sorted(self.root.rglob("r*.tif*")):
            file = path.relative_to(self.root).as_posix()
            if sum(_is_of(use, file) for use in inputs) + (file in rejected) != 1:
                wrong.append(file)
        return wrong


def _is_of(use: InputUse, file: str) -> bool:
    return use.plane.source.path == file
