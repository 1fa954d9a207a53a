"""The spine on a fake clock: the stages as the service makes them, real files and results, sums for the network.

Or a real network, where a test brings one.
"""

import json
from typing import Any

from fakes import Clock, FakeDevice, InlineExecutor
from hcs_daemon.config import Settings
from hcs_daemon.device.batching import Batcher
from hcs_daemon.instruments import instrument_for
from hcs_daemon.intake.arrival import Hints, Scanner, scan_once
from hcs_daemon.intake.intake import Intake
from hcs_daemon.pipeline import Device, DeviceStage, IntakeStage, Mail, PublishStage
from hcs_daemon.publish.publisher import Publisher
from hcs_daemon.service import OpenDevice
from hcs_daemon.telemetry import Telemetry, parse_metrics


class Spine:
    """The three stages and a scanner, as the service makes them, in one thread and on a fake clock."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        site_limit: int = 32,
        finite: bool = False,
        open_device: OpenDevice | None = None,
    ) -> None:
        self.clock = clock
        self.telemetry = Telemetry("1")
        channels = tuple(settings.expect.channels)
        self.device = FakeDevice(self.telemetry, channels)
        used: Device = self.device
        if open_device is not None:
            used = open_device(settings, self.telemetry)
            channels = used.facts.channels
            settings = settings.model_copy(update={"expect": settings.expect.only(channels)})
        self.settings = settings
        self.publisher = Publisher(
            settings, used.facts, self.telemetry, now_utc=clock.utc, drawing=InlineExecutor(), live=not finite
        )
        self.restored = self.publisher.open(clock.now)
        self.mail = Mail(site_limit=site_limit)
        self.readers = InlineExecutor()
        self.intake = Intake(
            root=settings.watch.directory,
            instrument=instrument_for(settings.watch),
            settings=settings,
            channels=channels,
            telemetry=self.telemetry,
            readers=self.readers,
            reads_at_once=4,
            wake=lambda: None,
            restored=self.restored,
            now_utc=clock.utc,
            finite=finite,
        )
        self.scanner = Scanner(
            settings.watch.directory,
            settings.watch.rescan_s,
            Hints(self.telemetry),
            self.telemetry,
            self.mail.scans.put,
        )
        self.intake_stage = IntakeStage(self.intake, self.mail)
        self.device_stage = DeviceStage(
            used,
            Batcher(settings.model.batch_sites, settings.model.max_wait_s),
            self.mail,
            self.telemetry,
            live=not finite,
        )
        self.publish_stage = PublishStage(self.publisher, self.mail, self.telemetry)

    def round(self) -> bool:
        """One step of everything; whether anything was done."""
        self.scanner.step(self.clock.now)
        stages = (self.intake_stage, self.device_stage, self.publish_stage)
        worked = [stage.step(self.clock.now) for stage in stages]
        return any(worked)

    def run(self, seconds: float) -> None:
        """Let so many seconds pass, half a second at a time, each until nothing more is done."""
        for _ in range(round(seconds / 0.5)):
            while self.round():
                pass
            self.clock.advance(0.5)

    def process(self) -> None:
        """Work through the folder as one that is complete."""
        self.mail.scans.put(scan_once(self.settings.watch.directory))
        for _ in range(600):
            for stage in (self.intake_stage, self.device_stage, self.publish_stage):
                while stage.step(self.clock.now):
                    pass
            self.clock.advance(0.5)
        assert self.intake.idle
        self.end()

    def wells(self) -> dict[str, Any]:
        """`<plate>/<acquisition>/<well>` -> its newest result."""
        out = self.settings.results.directory
        found = {}
        for path in sorted(out.glob("*/*/wells/*.json")):
            plate, acquisition = path.relative_to(out).parts[:2]
            found[f"{plate}/{acquisition}/{path.stem}"] = json.loads(path.read_bytes())
        return found

    def statuses(self) -> dict[str, str]:
        """`<plate>/<acquisition>/<well>` -> its status."""
        return {well: str(result["status"]) for well, result in self.wells().items()}

    def rejections(self) -> list[Any]:
        """Every line that stands, of all plates and of none."""
        lines = [
            json.loads(line)
            for path in sorted(self.settings.results.directory.rglob("rejected.jsonl"))
            for line in path.read_text("utf-8").splitlines()
        ]
        newest = {line["path"]: line for line in lines}
        return [line for line in newest.values() if not line["withdrawn"]]

    def plates(self) -> dict[str, Any]:
        """`<plate>/<acquisition>` -> its plate.json."""
        out = self.settings.results.directory
        return {
            path.parent.relative_to(out).as_posix(): json.loads(path.read_bytes())
            for path in sorted(out.glob("*/*/plate.json"))
        }

    def metrics(self) -> dict[str, float]:
        """Every metric."""
        return parse_metrics(self.telemetry.render().decode())

    def end(self) -> None:
        """As at the end of the service."""
        self.publisher.finish(self.clock.now)
