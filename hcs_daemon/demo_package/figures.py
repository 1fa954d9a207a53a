"""What a package makes of simulated wells whose truth is known: whether it is right, and for the right reason."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch
from numpy.typing import NDArray

from hcs_daemon.demo_package.cells import CLASSES, Cells
from hcs_daemon.device.attribution import Explainer
from hcs_daemon.device.package import Package
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.plate import AcquisitionId, PlaneId, SiteId, WellId
from hcs_daemon.records import ChannelImage, Pixels, PlaneMeasures, PlaneRecord, Site, SourceFile
from hcs_daemon.simulate.compounds import CHANNELS, CONTROL_CLASS
from hcs_daemon.simulate.layout import WellPlan
from hcs_daemon.simulate.site import PIXEL_SIZE_UM
from hcs_daemon.training.evaluation import Share, share
from hcs_daemon.training.learning import site_logits

CLEAR_EFFECT = 0.5
"""From this effect strength on a right verdict is a clear hit, whose affected channel should rank first."""
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Verdicts:
    """logits: (wells, classes) float64. labels, effects: (wells,) the true class and the effect strength."""

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    effects: NDArray[np.float64]

    @property
    def found(self) -> NDArray[np.int64]:
        """(wells,) the predicted class."""
        return np.asarray(self.logits.argmax(axis=1), np.int64)

    @property
    def right(self) -> NDArray[np.bool_]:
        """(wells,) whether it is the true one."""
        return np.asarray(self.found == self.labels)

    @property
    def clear_hits(self) -> NDArray[np.intp]:
        """The wells that are clear hits."""
        hit = self.found != CLASSES.index(CONTROL_CLASS)
        return np.flatnonzero(self.right & hit & (self.effects >= CLEAR_EFFECT))


@dataclass(frozen=True, slots=True)
class Reasons:
    """Of explained clear hits: how often the affected channel ranks first, and how often all checks pass."""

    first: Share
    checked: Share


def judge(package: Package, cells: Cells) -> Verdicts:
    """Each well's verdict, from its one site."""
    logits = site_logits(package.program, cells.pixels, Tiler(package.manifest, _CPU), PIXEL_SIZE_UM)
    return Verdicts(logits, cells.labelled.labels, cells.effects)


def explain(
    package: Package, cells: Cells, verdicts: Verdicts, *, most: int, report: Callable[[int, int], None]
) -> Reasons:
    """Explain clear hits as the daemon does. most: if there are more, so many of them, evenly spread over the plates.

    report: called with how many are done, of how many.
    """
    explainer = Explainer(package, Tiler(package.manifest, _CPU), _CPU)
    hits = _spread(verdicts.clear_hits, most)
    first, checked = np.zeros(len(hits), bool), np.zeros(len(hits), bool)
    for number, well in enumerate(hits):
        plan, target = cells.plans[well], CLASSES[verdicts.found[well]]
        attribution = explainer.explain(as_site(cells.plates[well], plan, cells.pixels[well]), target, CONTROL_CLASS)
        assert not isinstance(attribution, str), attribution  # said of sites that do not fit the package
        shapley = attribution.channel_shapley
        first[number] = max(shapley, key=lambda channel: shapley[channel]) in plan.affected_channels
        checked[number] = attribution.checks.passed
        report(number + 1, len(hits))
    return Reasons(share(first), share(checked))


def _spread(wells: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """At most so many of them, evenly spread."""
    return wells if len(wells) <= most else wells[np.arange(most) * len(wells) // most]


def as_site(plate: str, plan: WellPlan, pixels: Pixels) -> Site:
    """A rendered site as it would come from files. pixels: (5, height, width), raw counts."""
    site = SiteId(WellId(AcquisitionId(plate, "simulated"), plan.position), 1)
    planes = (
        PlaneRecord(
            id=PlaneId(site, channel),
            channel=channel,
            source=SourceFile(f"{channel}.tiff", plane.nbytes, 0, hashlib.sha256(plane.tobytes()).hexdigest()),
            shape=(plane.shape[0], plane.shape[1]),
            container=plane.dtype.name,
            measures=PlaneMeasures(int(plane.min()), int(plane.max()), 16, 0.0, 0.0),
            seen_at=datetime.fromtimestamp(0, UTC),
        )
        for channel, plane in zip(CHANNELS, pixels, strict=True)
    )
    return Site(site, tuple(ChannelImage((plane,)) for plane in planes), pixels, PIXEL_SIZE_UM)
