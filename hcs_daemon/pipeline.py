"""THE SPINE: how the stages are joined; the first file a newcomer reads.

    arrival -> stability -> identity -> decode -> validation -> assembly
            -> batching -> inference -> attribution -> publish

Three stages, each a `step(now)` that does what can be done and returns whether it did anything:

    IntakeStage   files to sites and wells          (intake/)
    DeviceStage   sites to predictions, explanations (device/, known here only as a Protocol)
    PublishStage  all of it to result files          (publish/)

Between them are mailboxes. A full one is noticed *before* work is begun (`room`), so nobody ever blocks on another,
and the same objects run in one thread in the tests and in three in the service. Publish may ask intake for a site
once more (`SiteWanted`), which is how an explanation is made for just the site that stands for its well.
"""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from hcs_daemon.config import Settings
from hcs_daemon.device.batching import Batcher
from hcs_daemon.intake.arrival import ScanReport
from hcs_daemon.intake.intake import Intake
from hcs_daemon.intake.state import ToDevice, ToPublish
from hcs_daemon.publish.publisher import Publisher
from hcs_daemon.records import ExplainTask, ModelFacts, Prediction, Site, SiteReturned, SiteWanted
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import Stage

T = TypeVar("T")
LATER_AT_MOST = 4
"""Sites that may wait with their pixels to be explained for a picture."""
PUBLISH_LIMIT = 256
"""Messages that may wait for the publish stage before the stages before it pause."""


class Device(Protocol):
    """What the spine knows of the network. Owned by the device thread; never touches the disk."""

    @property
    def facts(self) -> ModelFacts:
        """The model in use, and on what."""

    def predict(self, sites: Sequence[Site]) -> list[Prediction]:
        """One prediction a site, in order."""

    def explain(self, task: ExplainTask) -> SiteReturned:
        """Why the model prefers `task.wanted.explain_target` for this site."""


class Mailbox(Generic[T]):
    """A queue with a soft bound: producers ask for `room` before they begin work, and putting never blocks.

    bell: set whenever something is put, to wake the one who takes. givers: set when a full box has room again, to wake
    those who put.
    """

    def __init__(self, limit: int, bell: threading.Event, givers: Sequence[threading.Event] = ()) -> None:
        self._limit = limit
        self._items: deque[T] = deque()
        self._bell = bell
        self._givers = givers

    def __len__(self) -> int:
        return len(self._items)

    @property
    def room(self) -> bool:
        """Whether another item should be begun."""
        return len(self._items) < self._limit

    def put(self, item: T) -> None:
        """Add an item at the end."""
        self._items.append(item)
        self._bell.set()

    def take(self) -> T | None:
        """The oldest item, or None."""
        was_full = not self.room
        try:
            item = self._items.popleft()
        except IndexError:
            return None
        if was_full and self.room:
            for giver in self._givers:
                giver.set()
        return item


class Mail:
    """Every mailbox and bell between the stages. site_limit: sites that may wait for the device."""

    def __init__(self, site_limit: int) -> None:
        self.intake_bell = threading.Event()
        self.device_bell = threading.Event()
        self.publish_bell = threading.Event()
        self.scans: Mailbox[ScanReport] = Mailbox(1 << 62, self.intake_bell)
        self.wanted: Mailbox[SiteWanted] = Mailbox(1 << 62, self.intake_bell)
        self.device: Mailbox[ToDevice] = Mailbox(site_limit, self.device_bell, [self.intake_bell])
        self.publish: Mailbox[ToPublish | Prediction] = Mailbox(
            PUBLISH_LIMIT, self.publish_bell, [self.intake_bell, self.device_bell]
        )


class IntakeStage:
    """Hands the scanner's reports to intake, and intake's sites and wells on."""

    def __init__(self, intake: Intake, mail: Mail) -> None:
        self.intake = intake
        self._mail = mail

    def step(self, now: float) -> bool:
        """One round; whether anything was done."""
        worked = False
        while (report := self._mail.scans.take()) is not None:
            self.intake.report(report, now)
            worked = True
        while (wanted := self._mail.wanted.take()) is not None:
            self.intake.want(wanted)
            worked = True
        worked |= self.intake.step(now, room=self._mail.device.room and self._mail.publish.room)
        # predictions must not overtake the news of their plate, so publish is told first
        while self.intake.to_publish:
            self._mail.publish.put(self.intake.to_publish.popleft())
        while self.intake.to_device:
            self._mail.device.put(self.intake.to_device.popleft())
        return worked

    def apply(self, settings: Settings) -> None:
        """Go on by these settings, which differ in live ones only."""
        self.intake.apply(settings)

    @property
    def idle(self) -> bool:
        """Whether every file is decided, and every well closed."""
        return self.intake.idle and not len(self._mail.scans) and not len(self._mail.wanted)

    @property
    def exhausted(self) -> bool:
        """Whether no site is on its way and no file can bring one."""
        return self.intake.exhausted and not self.intake.serving and not len(self._mail.scans)

    @property
    def serving(self) -> bool:
        """Whether something asked for is still on its way."""
        return self.intake.serving or bool(len(self._mail.wanted))


class DeviceStage:
    """Fills batches and runs them.

    live: an instrument delivers, so that predictions go before explanations; else explanations that finish a well go
    first. What only a picture or a published well waits for goes last. draining: batches need not wait to be full.
    stopping: the end is near, so that predictions go first, and pictures are left to the next start.
    """

    def __init__(
        self, device: Device, batcher: Batcher, mail: Mail, telemetry: Telemetry, *, live: bool = True
    ) -> None:
        self._device = device
        self._batcher = batcher
        self._mail = mail
        self._telemetry = telemetry
        self._tasks: deque[ExplainTask] = deque()
        self._later: deque[ExplainTask] = deque()
        self._log = get_log()
        self._live = live
        self.draining = False
        self.stopping = False

    def step(self, now: float) -> bool:
        """One batch or one explanation; whether anything was done."""
        self._take(now)
        self._telemetry.stage_queue_items.labels(Stage.INFER).set(len(self._batcher) + len(self._mail.device))
        self._telemetry.stage_queue_items.labels(Stage.EXPLAIN).set(len(self._tasks) + len(self._later))
        if not self._mail.publish.room:
            return False
        if self.stopping:
            self._later.clear()
        if self._predict_and_explain(now):
            return True
        # what fills the queue of pictures stands before the sites that it keeps from coming in
        return (not len(self._batcher) or self._later_full) and self._explain(self._later)

    def _predict_and_explain(self, now: float) -> bool:
        if self._live or self.stopping:
            return self._predict(now) or self._explain(self._tasks)
        return self._explain(self._tasks) or self._predict(now)

    def _explain(self, tasks: deque[ExplainTask]) -> bool:
        if not tasks:
            return False
        self._mail.publish.put(self._device.explain(tasks.popleft()))
        return True

    def _predict(self, now: float) -> bool:
        batch = self._batcher.flush() if self.draining or self.stopping else self._batcher.ready(now)
        if not batch:
            return False
        for prediction in self._device.predict(batch):
            self._mail.publish.put(prediction)
            self._log_prediction(prediction)
        return True

    def wait_s(self, now: float) -> float:
        """Seconds until the oldest site has waited long enough."""
        return min(0.5, max(0.005, self._batcher.wait_s(now))) if len(self._batcher) else 0.5

    def apply(self, settings: Settings) -> None:
        """Go on by these settings, which differ in live ones only."""
        self._batcher.max_wait_s = settings.model.max_wait_s

    @property
    def idle(self) -> bool:
        """Whether nothing waits for the device."""
        return not (len(self._mail.device) or len(self._batcher) or self._tasks or self._later)

    @property
    def _later_full(self) -> bool:
        return len(self._later) >= LATER_AT_MOST

    def _log_prediction(self, prediction: Prediction) -> None:
        well = prediction.site.well
        self._log.debug(
            Event.SITE_PREDICTED,
            plate=well.acquisition.plate,
            well=well.stem,
            site=prediction.site.site,
            infer_s=round(prediction.infer_s, 4),
        )

    def _take(self, now: float) -> None:
        while not (self._batcher.full or self._later_full) and (item := self._mail.device.take()) is not None:
            if isinstance(item, ExplainTask):
                if item.wanted.urgent:
                    self._tasks.append(item)
                elif not self.stopping:
                    self._later.append(item)
            else:
                self._batcher.add(item, now)


class PublishStage:
    """Hands everything to the publisher, and what it wants back to intake.

    stopping: the end is near, so that pictures are left to the next start.
    """

    def __init__(self, publisher: Publisher, mail: Mail, telemetry: Telemetry) -> None:
        self.publisher = publisher
        self._mail = mail
        self._telemetry = telemetry
        self.stopping = False

    def step(self, now: float) -> bool:
        """Everything that waits, unless the disk does not take it; whether anything was done."""
        worked = False
        if self.stopping:
            self.publisher.rest()
        while self.publisher.blocked is None and (message := self._mail.publish.take()) is not None:
            self._ask(self.publisher.take(message, now))
            worked = True
        self._ask(self.publisher.step(now))
        self._telemetry.stage_queue_items.labels(Stage.PUBLISH).set(len(self._mail.publish))
        return worked

    def apply(self, settings: Settings) -> None:
        """Go on by these settings, which differ in live ones only."""
        self.publisher.apply(settings)

    @property
    def idle(self) -> bool:
        """Whether all that came is written."""
        return self.publisher.idle and not len(self._mail.publish)

    def _ask(self, wanted: list[SiteWanted]) -> None:
        for want in wanted:
            self._mail.wanted.put(want)
