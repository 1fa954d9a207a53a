"""How unlike all wells seen in training a well is: a distance between embeddings, and the threshold beyond which it is.

The distance is Mahalanobis' to the nearest class mean, with one covariance for all classes (Lee et al., NeurIPS 2018),
shrunk as far as the number of wells asks for (Ledoit and Wolf, J. Multivariate Analysis 88, 2004). The threshold comes
from wells that took no part in that: of wells like them no more than the stated share lies beyond it, on average over
the wells that might have been held out (split conformal prediction: Papadopoulos et al. 2002; Vovk et al., Algorithmic
Learning in a Random World, 2005) or, where a confidence is asked for, with that confidence for those that were (Vovk,
Conditional validity of inductive conformal predictors, ACML 2012).
"""

import hashlib
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]
_FLAT = 1e-9
"""No direction counts as narrower than this share of the mean variance: rounding alone would make wells unlike."""


@dataclass(frozen=True, slots=True)
class Novelty:
    """What a package knows of the wells that its model was made with.

    means: (classes, features), the mean embedding of each class. whitening: (features, features); embeddings times it
    vary within a class by 1 in every direction. threshold: the score beyond which a well is unlike them, dimensionless.
    false_alarm_rate: no more than this share of wells like those held out lies beyond it. fitted, held_out: wells that
    gave the distance, and the threshold. sites: of each well held out, which the rate is one of: means over more vary
    less; None where nobody noted it.
    """

    means: Matrix
    whitening: Matrix
    threshold: float
    false_alarm_rate: float
    fitted: int
    held_out: int
    sites: int | None = None

    @property
    def features(self) -> int:
        """The length of the embeddings that it takes."""
        return len(self.whitening)

    @property
    def digest(self) -> str:
        """SHA-256 of what decides scores and verdicts."""
        numbers = np.array([self.threshold, self.false_alarm_rate])
        return hashlib.sha256(b"".join(each.tobytes() for each in (self.means, self.whitening, numbers))).hexdigest()

    def score(self, embedding: ArrayLike) -> float:
        """The distance of (features,) to the nearest class, in standard deviations: their root mean square.

        About 1 for a well like those seen. Raises ValueError for another length.
        """
        point = np.asarray(embedding, np.float64)
        if point.shape != (self.features,):
            raise ValueError(f"an embedding of {point.shape} was given, {self.features} features are expected")
        return _score(point, self.means, self.whitening)

    def unlike(self, score: float) -> bool:
        """Whether a score lies beyond the threshold."""
        return score > self.threshold

    def save(self, path: Path) -> None:
        """Write it as a NumPy archive, the same bytes for the same content."""
        noted = {} if self.sites is None else {"sites": self.sites}
        with path.open("wb") as file:
            np.savez(
                file,
                means=self.means,
                whitening=self.whitening,
                threshold=self.threshold,
                false_alarm_rate=self.false_alarm_rate,
                fitted=self.fitted,
                held_out=self.held_out,
                **noted,  # type: ignore[arg-type]  # allow_pickle
            )


def load(path: Path) -> Novelty:
    """Read what `Novelty.save` wrote. Raises OSError, and ValueError saying what is wrong with the file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        means, whitening = (np.asarray(held[name], np.float64) for name in ("means", "whitening"))
        threshold, rate = float(held["threshold"]), float(held["false_alarm_rate"])
        sites = int(held["sites"]) if "sites" in held else None
        found = Novelty(means, whitening, threshold, rate, int(held["fitted"]), int(held["held_out"]), sites)
    except (zipfile.BadZipFile, EOFError, AttributeError, TypeError) as error:
        raise ValueError(f"it is no NumPy archive of plain numbers: {error}") from error
    except KeyError as error:
        raise ValueError(f"it lacks what a file of novelty holds: {error}") from error
    if means.ndim != 2 or not means.size or whitening.shape != (means.shape[1],) * 2:
        raise ValueError(f"its means are {means.shape} and its whitening is {whitening.shape}: they do not fit")
    if not (np.isfinite(means).all() and np.isfinite(whitening).all() and math.isfinite(threshold) and 0 < rate < 1):
        raise ValueError("not all its numbers are finite, or its false-alarm rate is none")
    return found


def wells_needed(false_alarm_rate: float, confidence: float | None = None) -> int:
    """How many wells must be held out to promise a false-alarm rate: with fewer, no finite threshold holds it."""
    _check_rate(false_alarm_rate)
    if confidence is None:
        return math.ceil(round(1 / false_alarm_rate, 9)) - 1
    return math.ceil(round(math.log(1 - confidence) / math.log(1 - false_alarm_rate), 9))


def fit(
    embeddings: ArrayLike,
    labels: Sequence[Any] | NDArray[Any] | None = None,
    *,
    false_alarm_rate: float,
    held_out: ArrayLike | None = None,
    confidence: float | None = None,
) -> Novelty:
    """Learn what wells look like, and from which distance on one does not.

    embeddings: (wells, features), each the mean over a well's sites. labels: each well's class; None: one class.
    false_alarm_rate: above 0, below 1. held_out: (wells, features) of wells that took no part in making the network,
    for the threshold. Without them every class gives half its wells for it, chosen by a digest of what they hold and
    so whatever their order; then none of `embeddings` should have taken part in making the network. confidence: with
    which the rate holds, above 0, below 1; None: on average.
    Raises ValueError when there are too few wells for the rate, saying how many are needed, when an embedding is not
    finite, and when all are the same.
    """
    points = _points(embeddings)
    groups = np.zeros(len(points), np.intp) if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1]
    if len(groups) != len(points):
        raise ValueError(f"{len(points)} wells have {len(groups)} labels")
    needed = wells_needed(false_alarm_rate, confidence)
    if held_out is None:
        apart = _every_second(points, groups)
        points, groups, judged = points[~apart], groups[~apart], points[apart]
    else:
        judged = _points(held_out)
        if judged.shape[1] != points.shape[1]:
            raise ValueError(f"wells held out have {judged.shape[1]} features, the others {points.shape[1]}")
    if len(judged) < needed:
        wells = len(judged)
        allowed = 1 / (wells + 1) if confidence is None else 1 - (1 - confidence) ** (1 / wells)
        raise ValueError(
            f"{wells} wells are held out, and a false-alarm rate of {false_alarm_rate:g} takes {needed}: hold out"
            f" more wells, or allow {allowed:.2g}"
        )
    present, groups = np.unique(groups, return_inverse=True)
    if len(points) <= len(present):
        raise ValueError(f"{len(points)} wells of {len(present)} classes do not say how wells of one class differ")
    means = np.stack([points[groups == group].mean(axis=0) for group in range(len(present))])
    whitening = _whitening(shrunk_covariance(points - means[groups], len(points) - len(present)))
    scores = sorted(_score(point, means, whitening) for point in judged)
    threshold = scores[_place(len(scores), false_alarm_rate, confidence) - 1]
    return Novelty(means, whitening, threshold, false_alarm_rate, len(points), len(judged))


def _place(wells: int, rate: float, confidence: float | None) -> int:
    """Which of so many scores, the smallest first and counted from 1, is the threshold."""
    if confidence is None:
        # the (n + 1)-th well is as likely to come at any place among the n: this one leaves the rate above it, at most
        return math.ceil(round((wells + 1) * (1 - rate), 9))
    # as many may lie beyond as would at this rate be so few by chance too rarely to doubt it (binomial)
    each = (math.comb(wells, beyond) * rate**beyond * (1 - rate) ** (wells - beyond) for beyond in range(wells))
    return wells + 1 - sum(chance <= 1 - confidence + 1e-12 for chance in accumulate(each))


def shrunk_covariance(residuals: Matrix, degrees: int) -> Matrix:
    """(features, features): the residuals' covariance, drawn towards equal variances by Ledoit and Wolf's share.

    residuals: (wells, features), from their class means. degrees: of freedom, wells less classes. The share is the
    error that the covariance has from so few wells over what it differs from a multiple of the identity (their lemma
    3.3 and theorem 3.4). Raises ValueError when there is no variance at all.
    """
    wells, features = residuals.shape
    sample = residuals.T @ residuals / wells
    level = float(np.trace(sample)) / features
    if not level > 0:
        raise ValueError("the embeddings of all wells of a class are the same: the network says nothing of its input")
    apart = float(((sample - level * np.eye(features)) ** 2).sum())
    powers = float(((residuals**2).sum(axis=1) ** 2).sum())
    error = min(apart, max(0.0, powers / wells - float((sample**2).sum())) / wells)
    share = error / apart if apart > 0 else 1.0
    drawn = share * level * np.eye(features) + (1 - share) * sample
    return np.asarray(drawn * (wells / degrees))


def _points(embeddings: ArrayLike) -> Matrix:
    points = np.asarray(embeddings, np.float64)
    if points.ndim != 2 or not points.size:
        raise ValueError(f"embeddings are {points.shape}, expected (wells, features)")
    if not np.isfinite(points).all():
        raise ValueError("an embedding is not finite")
    return points


def _check_rate(false_alarm_rate: float) -> None:
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"a false-alarm rate of {false_alarm_rate:g} was asked for; it lies between 0 and 1")


def _every_second(points: Matrix, groups: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(wells,) which are held out: of each class every second one, in the order of their digests."""
    order = sorted(range(len(points)), key=lambda well: hashlib.sha256(points[well].tobytes()).digest())
    apart = np.zeros(len(points), bool)
    for group in range(int(groups.max()) + 1):
        apart[[well for well in order if groups[well] == group][1::2]] = True
    return apart


def _whitening(covariance: Matrix) -> Matrix:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors / np.sqrt(np.maximum(values, _FLAT * values.mean())))


def _score(point: Matrix, means: Matrix, whitening: Matrix) -> float:
    """Root mean square distance to the nearest mean."""
    return math.sqrt(float((((point - means) @ whitening) ** 2).mean(axis=1).min()))
