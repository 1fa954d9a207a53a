"""How far a plate's control wells moved while it was acquired: whether the first and the last well can be compared."""

import math
from collections.abc import Iterable

import numpy as np

from hcs_daemon.publish.schemas import WellResult

CONTROL_ROLE = "control"
CONTROLS = 8
"""With fewer control wells nothing is said."""
DRIFTED = 1.0
"""From here on it is said aloud: the controls moved as far as they lie apart."""


def control_drift(results: Iterable[WellResult]) -> float:
    """How far the later half of the control wells lies from the earlier half, in their own scatter; 0 for no drift.

    results: of one plate. Wells count whose layout says that they are controls, in the order in which their last plane
    came, at their first time point. Each is the mean embedding of its sites. The squared distance between the halves'
    means, less what chance alone would make of it, is divided by the variance within the halves, summed over the
    features: Cohen's d (Statistical Power Analysis, 1988) in many dimensions, without its bias. 1: the mean has moved
    as far as a well commonly lies from it. 0 too with fewer than 8 control wells, and where they do not differ.
    """
    controls = sorted(
        (result for result in results if _is_control(result)),
        key=lambda result: (result.timing.last_plane_at, result.well),
    )
    if len(controls) < CONTROLS:
        return 0.0
    points = np.array([np.mean([site.embedding for site in each.site_results], axis=0) for each in controls])
    halves = points[: len(points) // 2], points[len(points) // 2 :]
    within = sum(float(((half - half.mean(axis=0)) ** 2).sum()) for half in halves) / (len(points) - 2)
    if not within > 0:
        return 0.0
    apart = float(((halves[0].mean(axis=0) - halves[1].mean(axis=0)) ** 2).sum())
    by_chance = within * sum(1 / len(half) for half in halves)
    return math.sqrt(max(0.0, apart - by_chance) / within)


def _is_control(result: WellResult) -> bool:
    known = result.content is not None and result.content.role.casefold() == CONTROL_ROLE
    return known and result.time == 1 and bool(result.site_results)
