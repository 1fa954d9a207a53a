"""Stand-ins for what a test does not want to wait for: time, threads, the network. All else is the real thing."""

import io
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.config import Settings, Watch
from hcs_daemon.intake.arrival import ScanReport
from hcs_daemon.records import (
    Attribution,
    ExplainTask,
    ExplanationChecks,
    ModelFacts,
    Pixels,
    Prediction,
    Site,
    SiteReturned,
)
from hcs_daemon.service import Lookout
from hcs_daemon.telemetry import Telemetry
from hcs_daemon.vocabulary import ExplanationResult, SiteOutcome

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
"""Those of the simulated instrument; its channel ids count from 1."""
P = ParamSpec("P")
T = TypeVar("T")


def no_sleep(seconds: float) -> None:
    """The sleep of what must not wait at all."""
    raise AssertionError(f"nothing should wait, and {seconds} s were asked for")


class Clock:
    """Time that passes only when told to. now: monotonic seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._began = now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def utc(self) -> datetime:
        """The wall clock: noon of 2026-01-01 when the clock was made."""
        return datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=self.now - self._began)


class InlineExecutor(Executor):
    """Does the work at once, in the thread that asks. done: how many jobs."""

    def __init__(self) -> None:
        self.done = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A future that is finished already."""
        self.done += 1
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 (as a pool does: whoever asks for the result gets it)
            future.set_exception(error)
        return future


class HeldExecutor(Executor):
    """Keeps its work until it is told to do it, in whatever order."""

    def __init__(self) -> None:
        self.done = 0
        self._jobs: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A future that waits for `work`."""
        future: Future[T] = Future()

        def job() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:  # noqa: BLE001 (as a pool does: whoever asks for the result gets it)
                future.set_exception(error)

        self._jobs.append(job)
        return future

    def work(self, which: int = 0) -> None:
        """Do one of the jobs that wait."""
        self.done += 1
        self._jobs.pop(which)()


class Easel(Executor):
    """Does no work: it is told what came of it, the oldest first. asked: the arguments of every job, in order."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self._held: deque[Future[Any]] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:  # noqa: ARG002 (not done)
        """A future that is not finished."""
        future: Future[T] = Future()
        self.asked.append(args)
        self._held.append(future)
        return future

    def finish(self, result: object) -> None:
        """The oldest job is done: with this result, or with this exception."""
        future = self._held.popleft()
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


def make_settings(folder: Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """Settings for the simulated instrument: watch `folder/in`, write `folder/out`, no pictures, no port.

    overrides: section -> key -> value. A file is complete after two seconds, a well waits 900 for its planes.
    """
    values: dict[str, dict[str, Any]] = {
        "watch": {"directory": str(folder / "in"), "settle_s": 2.0},
        "expect": {"bit_depth": 16, "channels": {name: str(id_) for id_, name in enumerate(CHANNELS, 1)}},
        "model": {"package": "demo"},
        "results": {"directory": str(folder / "out"), "min_free_bytes": 0, "pictures": "none"},
        "http": {"port": 0},
    }
    for section, changed in (overrides or {}).items():
        values.setdefault(section, {}).update(changed)
    return Settings.model_validate(values)


class FakeDevice:
    """A model that is a few sums: a class for each channel, whose logit is that channel's mean light.

    Class `much_DNA` has the logit mean(DNA) / 100, the control's class the mean over all channels; the embedding is
    the channels' means. A site without light is the reference, and since all is linear the channels' contributions
    are its Shapley values. predicted, explained: sites it was asked for, in order. batches: how many at a time.
    """

    def __init__(self, telemetry: Telemetry | None = None, channels: tuple[str, ...] = CHANNELS) -> None:
        self._telemetry = telemetry
        self.predicted: list[str] = []
        self.explained: list[str] = []
        self.batches: list[int] = []
        self._weights = np.vstack([np.full(len(channels), 1 / len(channels)), np.eye(len(channels))]) / 100
        classes = ("control", *(f"much_{channel}" for channel in channels))
        self.facts = ModelFacts(
            name="sums",
            version="1",
            sha256="5" * 64,
            device="cpu",
            channels=channels,
            classes=classes,
            control_class="control",
            tile_px=64,
            pixel_size_um=1.196,
            bit_depth=16,
            container="uint16",
            demonstration=False,
            references=classes,
        )

    def predict(self, sites: Sequence[Site]) -> list[Prediction]:
        """One prediction a site, in order."""
        self.batches.append(len(sites))
        self.predicted += [_place(site) for site in sites]
        if self._telemetry is not None:
            self._telemetry.sites.labels(SiteOutcome.PREDICTED).inc(len(sites))
        return [
            Prediction(site.id, site.key, self._logits(site.pixels), light(site.pixels).astype(np.float32), 0.01)
            for site in sites
        ]

    def explain(self, task: ExplainTask) -> SiteReturned:
        """The channels' shares in the contrast, and the same spread evenly over the picture."""
        self.explained.append(_place(task.site))
        if self._telemetry is not None:
            self._telemetry.explanations.labels(ExplanationResult.PASSED).inc()
        return SiteReturned(task.wanted, task.site, self._attribution(task))

    def _logits(self, pixels: Pixels) -> NDArray[np.float32]:
        return np.asarray(self._weights @ light(pixels), np.float32)

    def _attribution(self, task: ExplainTask) -> Attribution:
        target, against = task.wanted.explain_target, task.wanted.explain_against
        assert target is not None
        assert against is not None
        row = {name: self._weights[index] for index, name in enumerate(self.facts.classes)}
        shares = (row[target] - row[against]) * light(task.site.pixels)
        shape = task.site.pixels.shape
        return Attribution(
            site=task.site.id,
            key=task.site.key,
            method="sums",
            target=target,
            against=against,
            reference="a site without light",
            contrast=float(shares.sum()),
            reference_contrast=0.0,
            channel_shapley={name: float(share) for name, share in zip(self.facts.channels, shares, strict=True)},
            checks=ExplanationChecks(0.0, 0.0, 0.2, 0.5, passed=True),
            heat=np.broadcast_to(shares[:, None, None] / (shape[1] * shape[2]), shape).astype(np.float32),
            reference_pixels=np.zeros(shape, np.uint16),
            reference_name="darkness",
            explain_s=0.02,
        )


def light(pixels: Pixels) -> NDArray[np.float64]:
    """Each channel's mean, in raw counts."""
    return np.asarray(pixels.mean(axis=(1, 2), dtype=np.float64))


def _place(site: Site) -> str:
    return f"{site.id.well.stem}/{site.id.site}"


class SlowDevice(FakeDevice):
    """A device that waits with each batch until it may go on. busy: set while it waits."""

    def __init__(self, telemetry: Telemetry | None = None) -> None:
        super().__init__(telemetry)
        self.busy = threading.Event()
        self.may_go_on = threading.Event()

    def predict(self, sites: Sequence[Site]) -> list[Prediction]:
        """As the others, when it may."""
        self.busy.set()
        assert self.may_go_on.wait(60)
        return super().predict(sites)


class EndlessExplainer(FakeDevice):
    """A device that comes to no end with its first explanation. busy: set from then on. may_go_on: ends it at last."""

    def __init__(self, telemetry: Telemetry | None = None) -> None:
        super().__init__(telemetry)
        self.busy = threading.Event()
        self.may_go_on = threading.Event()

    def explain(self, task: ExplainTask) -> SiteReturned:
        """As the others, when it may."""
        self.busy.set()
        assert self.may_go_on.wait(60)
        return super().explain(task)


class SlowExplainer(FakeDevice):
    """A device whose explanations take so many seconds of a clock. done: what it did, in order, and when."""

    def __init__(self, clock: Clock, explain_s: float, telemetry: Telemetry | None = None) -> None:
        super().__init__(telemetry)
        self._clock = clock
        self._explain_s = explain_s
        self.done: list[tuple[str, str, float]] = []

    def predict(self, sites: Sequence[Site]) -> list[Prediction]:
        """As the others."""
        self.done += [("predicted", _place(site), self._clock.now) for site in sites]
        return super().predict(sites)

    def explain(self, task: ExplainTask) -> SiteReturned:
        """As the others, but it takes its time."""
        self._clock.advance(self._explain_s)
        self.done.append(("explained", _place(task.site), self._clock.now))
        return super().explain(task)


class BrokenDevice(FakeDevice):
    """A device with a fault in its program."""

    def predict(self, sites: Sequence[Site]) -> list[Prediction]:  # noqa: ARG002 (the device's form)
        """Fail."""
        raise ZeroDivisionError("in the device")


def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait for what other threads bring about; a minute at most. Only for tests of the threads themselves."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about within a minute"
        threading.Event().wait(0.01)


class DeadShare(Lookout):
    """A watched folder on a share whose server dies when told to (`dead`), and comes back when told to (`back`)."""

    def __init__(self, watch: Watch, telemetry: Telemetry, report: Callable[[ScanReport], None]) -> None:
        super().__init__(watch, telemetry, report)
        self.dead = threading.Event()
        self.back = threading.Event()

    def step(self, now: float) -> bool:
        """A look that hangs while the server is dead."""
        if self.dead.is_set():
            assert self.back.wait(60)
        return super().step(now)


class BrokenLookout(Lookout):
    """A lookout with a fault in its program."""

    def step(self, now: float) -> bool:  # noqa: ARG002 (a stage's form)
        """Fail."""
        raise ZeroDivisionError("in the scanner")


def said(log: io.StringIO, event: str) -> list[dict[str, Any]]:
    """The lines of this event, of what the fixture `log` caught."""
    return [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == event]
