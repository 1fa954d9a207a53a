"""How far a plate's control wells moved while it was acquired: whether the first and the last well can be compared."""

import math
from collections.abc import Iterable

import numpy as np
from scipy.special import fdtri

from hcs_daemon.publish.schemas import WellResult

CONTROL_ROLE = "control"
CONTROLS = 8
"""With fewer control wells nothing is said."""
SURE = 0.99
"""The share of plates without drift that are said to have none at all."""
DRIFTED = 1.0
"""From here on it is said aloud: the controls moved as far as they lie apart."""


def control_drift(results: Iterable[WellResult]) -> float:
    """How far the later half of the control wells lies from the earlier half at least, in their own scatter.

    results: of one plate. Wells count whose layout says that they are controls, in the order in which their last plane
    came, at their first time point. Each is the mean embedding of its sites. The squared distance between the halves'
    means, less what chance alone stays below in 99 of 100 plates, is divided by the variance within the halves, summed
    over the features: Cohen's d (Statistical Power Analysis, 1988) in many dimensions. 1: the mean has moved as far as
    a well commonly lies from it. By chance the distance has an F distribution, with as many degrees of freedom as the
    scatter has dimensions (Satterthwaite, Biometrics Bulletin 2, 1946; Box, Ann. Math. Statist. 25, 1954). 0 too with
    fewer than 8 control wells, and where they do not differ.
    """
    controls = sorted(
        (result for result in results if _is_control(result)),
        key=lambda result: (result.timing.last_plane_at, result.well),
    )
    if len(controls) < CONTROLS:
        return 0.0
    points = np.array([np.mean([site.embedding for site in each.site_results], axis=0) for each in controls])
    halves = np.split(points, [len(points) // 2])
    apart = float(((halves[0].mean(axis=0) - halves[1].mean(axis=0)) ** 2).sum())
    around = np.concatenate([half - half.mean(axis=0) for half in halves])
    total, freedom = float((around**2).sum()), len(points) - 2
    if not total > 0:
        return 0.0
    scatter = total / freedom
    dimensions = total**2 / float(((around @ around.T) ** 2).sum())
    by_chance = scatter * sum(1 / len(half) for half in halves)
    beyond = apart - by_chance * float(fdtri(dimensions, dimensions * freedom, SURE))
    return math.sqrt(max(0.0, beyond) / scatter)


def _is_control(result: WellResult) -> bool:
    known = result.content is not None and result.content.role.casefold() == CONTROL_ROLE
    return known and result.time == 1 and bool(result.site_results)
