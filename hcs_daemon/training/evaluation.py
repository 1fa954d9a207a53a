"""How good a network is: shares with their intervals, confusion, calibration. Plain numbers; no network needed."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

_Z_95 = 1.959964
"""The normal distribution's 97.5 % quantile."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """0 to 1; of nothing it is NaN."""
        return self.hits / self.of if self.of else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % score interval (Wilson 1927); of nothing it is 0 to 1."""
        if not self.of:
            return 0.0, 1.0
        z2 = _Z_95 * _Z_95 / self.of
        middle = (self.value + z2 / 2) / (1 + z2)
        half = _Z_95 / (1 + z2) * sqrt(self.value * (1 - self.value) / self.of + z2 / (4 * self.of))
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        """Such as `370 of 384 = 0.964 (95 % interval 0.940 to 0.978)`."""
        if not self.of:
            return "0 of 0"
        low, high = self.interval
        return f"{self.hits} of {self.of} = {self.value:.3f} (95 % interval {low:.3f} to {high:.3f})"


def share(right: NDArray[np.bool_]) -> Share:
    """How many are true."""
    return Share(int(right.sum()), len(right))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, classes) probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def hits(labels: NDArray[np.int64], probabilities: NDArray[np.float64], least: float) -> tuple[Share, Share]:
    """How many wells are hits: with the right class of those that are no controls, and falsely of the controls.

    labels: (wells,), 0 the control's class. probabilities: (wells, classes). least: of a hit.
    """
    found, control = probabilities.argmax(axis=1), labels == 0
    hit = (found != 0) & (probabilities.max(axis=1) >= least)
    return share((hit & (found == labels))[~control]), share(hit[control])


def confusion(labels: NDArray[np.int64], found: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(classes, classes): how often the true class (row) was found as another (column)."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, found), 1)
    return counts


def calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int = 10) -> float:
    """Expected calibration error (Guo et al., ICML 2017): how far confidence lies from accuracy, in equal bins.

    probabilities: (n, classes). The mean over all samples, 0 to 1.
    """
    confidence, found = probabilities.max(axis=1), probabilities.argmax(axis=1)
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float((found[here] == labels[here]).mean() - confidence[here].mean())) * float(here.mean())
        for here in (places == place for place in range(bins))
        if here.any()
    ]
    return sum(gaps)
