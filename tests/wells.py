"""What intake and the device say of a small plate, made by hand, and a publisher that hears it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fakes import CHANNELS, Clock, FakeDevice, InlineExecutor, make_settings
from hcs_daemon.plate import AcquisitionId, PlaneId, SiteId, WellId, WellPosition
from hcs_daemon.publish.publisher import Message, Publisher
from hcs_daemon.records import (
    Attribution,
    ChannelDepth,
    ChannelImage,
    ExpectedPlate,
    ExplanationChecks,
    InputUse,
    ModelFacts,
    PlaneMeasures,
    PlaneQuality,
    PlaneRecord,
    PlateNews,
    Prediction,
    Rejection,
    Site,
    SiteReturned,
    SiteWanted,
    SourceFile,
    WellClosed,
)
from hcs_daemon.telemetry import Telemetry, parse_metrics
from hcs_daemon.vocabulary import PlateState, Reason, Used, Verdict

ACQUISITION = AcquisitionId("P1", "a1")
FACTS = FakeDevice().facts
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TREATED = (0.0, 4.0, 0.0, 0.0, 0.0, 0.0)
"""Logits of a site whose class is `much_DNA`."""
CONTROL = (4.0, 0.0, 1.0, 0.0, 0.0, 0.0)
"""Logits of a site like the control's; the runner-up is `much_ER`."""


QUALITY = PlaneQuality(200.0, 10.0, 0.25, 4000.0, 60, 0.0, 0.1, -2.5)
"""Of any plane: nothing to remark."""


def well_id(name: str = "B03", time: int = 1, acquisition: AcquisitionId = ACQUISITION) -> WellId:
    """A well of the plate."""
    return WellId(acquisition, WellPosition.parse(name), time)


def plane_record(site: SiteId, channel: str = "DNA", edition: int = 1) -> PlaneRecord:
    """A plane of 64 x 64 pixels; another edition has other bytes under the same name."""
    number = CHANNELS.index(channel) + 1
    name = f"P1__a1/Images/{site.well.stem}_s{site.site}_c{number}.tiff"
    return PlaneRecord(
        id=PlaneId(site, str(number)),
        channel=channel,
        source=SourceFile(name, 8192 + edition, edition, hashlib.sha256(f"{name} {edition}".encode()).hexdigest()),
        shape=(64, 64),
        container="uint16",
        measures=PlaneMeasures(100, 30000 + number, 15, number / 1000, number / 10, QUALITY, sharpness=5000.0),
        seen_at=NOON,
    )


def site_planes(site: SiteId, edition: int = 1) -> tuple[PlaneRecord, ...]:
    """All planes of a site, in channel order."""
    return tuple(plane_record(site, channel, edition) for channel in CHANNELS)


def site_images(site: SiteId, edition: int = 1) -> tuple[ChannelImage, ...]:
    """The same, each an image of its own."""
    return tuple(ChannelImage((plane,)) for plane in site_planes(site, edition))


def closed_well(
    name: str = "B03", sites: Sequence[int] = (1,), edition: int = 1, time: int = 1, **changed: Any
) -> WellClosed:
    """A well whose `sites` have all their planes; `changed` replaces any field."""
    well = well_id(name, time)
    planes = {site: site_planes(SiteId(well, site), edition) for site in sites}
    values: dict[str, Any] = {
        "well": well,
        "expected_sites": len(sites),
        "ready": {site: tuple(plane.source.sha256 for plane in found) for site, found in planes.items()},
        "missing": (),
        "rejected": (),
        "pending": False,
        "inputs": tuple(InputUse(plane, Used.ANALYSED) for found in planes.values() for plane in found),
        "first_plane_at": NOON,
        "last_plane_at": NOON,
        "last_plane_s": 1000.0,
    }
    return WellClosed(**{**values, **changed})


def predictions_of(closed: WellClosed, logits: Sequence[float] = TREATED) -> list[Prediction]:
    """The same logits for every ready site of a well."""
    return [predicted(closed, site, logits) for site in closed.ready]


def predicted(closed: WellClosed, site: int, logits: Sequence[float] = TREATED, **changed: Any) -> Prediction:
    """What the model says of one site; the embedding is its number, thrice."""
    found = Prediction(
        site=SiteId(closed.well, site),
        key=closed.ready[site],
        logits=np.array(logits, np.float32),
        embedding=np.full(3, site / 3, np.float32),
        infer_s=0.01,
    )
    return replace(found, **changed)


def site_of(wanted: SiteWanted, level: int = 100) -> Site:
    """The pixels of a site: a ramp from `level` to ten times as much."""
    ramp = np.linspace(level, 10 * level, 64 * 64).reshape(64, 64).astype(np.uint16)
    return Site(wanted.site, site_images(wanted.site), np.stack([ramp] * len(CHANNELS)), 1.196)


def attribution_of(wanted: SiteWanted, **changed: Any) -> Attribution:
    """An explanation that passed its checks: DNA did it."""
    assert wanted.explain_target is not None
    assert wanted.explain_against is not None
    found = Attribution(
        site=wanted.site,
        key=wanted.key,
        method="sums",
        target=wanted.explain_target,
        against=wanted.explain_against,
        reference="a site without light",
        contrast=4.0,
        reference_contrast=0.0,
        channel_shapley={"DNA": 3.5, "ER": 0.5, "RNA": 0.0, "AGP": 0.0, "Mito": 0.0},
        channel_spread={"DNA": 0.2, "ER": 0.1, "RNA": 0.0, "AGP": 0.0, "Mito": 0.0},
        checks=ExplanationChecks(0.003, 1e-6, 0.2, 0.5, True, 0.8, 0.5, 0.4, 0.1, 0.7, 0.6),
        heat=np.ones((len(CHANNELS), 64, 64), np.float32),
        reference_pixels=np.zeros((len(CHANNELS), 64, 64), np.uint16),
        reference_name="darkness",
        explain_s=0.02,
    )
    return replace(found, **changed)


def answered(wanted: SiteWanted, **changed: Any) -> SiteReturned:
    """The answer to what publish wants, explained where that was asked for; `changed` is of the explanation."""
    attribution = None if wanted.explain_target is None else attribution_of(wanted, **changed)
    return SiteReturned(wanted, site_of(wanted), attribution)


def plate_news(state: PlateState = PlateState.ACQUIRING, **changed: Any) -> PlateNews:
    """Intake's word on the plate."""
    values: dict[str, Any] = {
        "acquisition": ACQUISITION,
        "state": state,
        "root": Path("/data/in"),
        "folder": "P1__a1",
        "instrument": "harmony",
        "shape": (64, 64),
        "pixel_size_um": 1.196,
        "expected": ExpectedPlate("settings", sites=1),
        "bit_depth": {"DNA": ChannelDepth(16, Verdict.UNDECIDED, "the most seen are 15 bits")},
        "counts": {"accepted": 5, "rejected": 0, "duplicate": 0, "ignored": 0, "wells": 1},
    }
    return PlateNews(**{**values, **changed})


def rejection(path: str = "P1__a1/Images/bad.tiff", **changed: Any) -> Rejection:
    """A rejected plane of B03."""
    values: dict[str, Any] = {
        "at": NOON,
        "path": path,
        "reason": Reason.BIT_DEPTH,
        "detail": "8-bit values multiplied by 257 in a 16-bit file",
        "hint": "export as 16-bit TIFF",
        "size_bytes": 8192,
        "mtime_ns": 1,
        "sha256": "a" * 64,
        "acquisition": ACQUISITION,
        "plane": PlaneId(SiteId(well_id(), 1), "1"),
        "channel": "DNA",
    }
    return Rejection(**{**values, **changed})


class Desktop:
    """A publisher on `folder/out` and a clock. restored: what it found there."""

    def __init__(
        self,
        folder: Path,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        facts: ModelFacts = FACTS,
        clock: Clock | None = None,
        drawing: Executor | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.telemetry = Telemetry("1")
        self.results = folder / "out"
        self.folder = self.results / "P1" / "a1"
        self.publisher = Publisher(
            make_settings(folder, overrides),
            facts,
            self.telemetry,
            now_utc=self.clock.utc,
            drawing=InlineExecutor() if drawing is None else drawing,
        )
        self.restored = self.publisher.open(self.clock.now)

    def tell(self, *messages: Message) -> list[SiteWanted]:
        """Hand messages over, in order; what is wanted then."""
        return [wanted for message in messages for wanted in self.publisher.take(message, self.clock.now)]

    def pass_time(self, seconds: float = 0.0) -> list[SiteWanted]:
        """Let time pass, then one step; what is wanted then."""
        self.clock.advance(seconds)
        return self.publisher.step(self.clock.now)

    def publish(self, closed: WellClosed, logits: Sequence[float] = TREATED) -> None:
        """A well from closing to its file: its predictions come, and whatever is asked for is answered."""
        for wanted in self.tell(closed, *predictions_of(closed, logits)):
            self.tell(answered(wanted))

    def restart(self, folder: Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> "Desktop":
        """As after a crash: nothing is finished, the system lets go of the lock, and another process begins."""
        self.publisher.close()
        return Desktop(folder, overrides, clock=self.clock)

    def end(self) -> None:
        """As at the end of the program."""
        self.publisher.finish(self.clock.now)

    def result(self, stem: str = "B03") -> Any:
        """A well's newest result."""
        return json.loads((self.folder / "wells" / f"{stem}.json").read_bytes())

    def plate(self) -> Any:
        """plate.json."""
        return json.loads((self.folder / "plate.json").read_bytes())

    def ledger(self) -> list[Any]:
        """The ledger's lines."""
        return lines(self.results / "ledger.jsonl")

    def metrics(self) -> dict[str, float]:
        """As a scrape would see them."""
        return parse_metrics(self.telemetry.render().decode())


def lines(path: Path) -> list[Any]:
    """A JSON-lines file; empty where it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
