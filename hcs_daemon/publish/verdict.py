"""From the sites' logits to the well's verdict, and what is to be explained of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp, stdtrit

from hcs_daemon.config import Settings
from hcs_daemon.records import ModelFacts, Prediction
from hcs_daemon.vocabulary import UNLIKE

INTERVAL = 0.95
"""What share of intervals, over many wells, would hold the probability that endless sites of the well would give."""


@dataclass(frozen=True, slots=True)
class WellNovelty:
    """How unlike the wells of training a well is, as `Novelty` has it; of its sites' mean embedding.

    unlike: the score lies beyond the threshold. sites: each site's own score, for comparison; the threshold is one of
    wells.
    """

    score: float
    threshold: float
    false_alarm_rate: float
    unlike: bool
    sites: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class WellVerdict:
    """What the model says of a well.

    label: the nearest class, or `UNLIKE` where the well is unlike all that the model has seen. nearest: the class with
    the highest probability. probabilities: by class, the softmax of the mean over the sites' logits. interval: of the
    nearest class's probability over the sites (`interval_over_sites`). site_agreement: share of the sites whose own
    first class is the nearest; disagreeing: the others. representative: the site nearest (Euclid) the mean logits.
    against: the class that the nearest is contrasted with: the control's, or when the nearest is the control's the best
    other one that the package has reference sites of; the nearest itself where there is none. hit: the label is a
    class, not the control's, and has at least the probability that the settings ask for.
    """

    label: str
    nearest: str
    against: str
    probabilities: Mapping[str, float]
    interval: tuple[float, float] | None
    site_agreement: float
    site_labels: Mapping[int, str]
    representative: int
    hit: bool
    novelty: WellNovelty | None

    @property
    def disagreeing(self) -> tuple[int, ...]:
        """The sites whose own first class is another than the well's nearest."""
        return tuple(site for site, label in self.site_labels.items() if label != self.nearest)


def judge(facts: ModelFacts, predictions: Mapping[int, Prediction], hit_probability: float) -> WellVerdict | None:
    """The verdict from usable predictions by site number; None when there are none, or the model only embeds."""
    if not predictions or not facts.classes:
        return None
    sites = sorted(predictions)
    logits = np.stack([predictions[site].logits for site in sites]).astype(np.float64)
    mean = logits.mean(axis=0)
    shares = np.exp(mean - mean.max())
    shares /= shares.sum()
    order = np.argsort(-mean, kind="stable")
    nearest, novelty = facts.classes[int(order[0])], well_novelty(facts, predictions)
    unlike = novelty is not None and novelty.unlike
    own = logits.argmax(axis=1)
    middle = int(np.argmin(((logits - mean) ** 2).sum(axis=1)))
    control = nearest == facts.control_class
    others = (facts.classes[int(place)] for place in order[1:])
    return WellVerdict(
        label=UNLIKE if unlike else nearest,
        nearest=nearest,
        against=next((name for name in others if control and name in facts.references), facts.control_class),
        probabilities={name: float(share) for name, share in zip(facts.classes, shares, strict=True)},
        interval=interval_over_sites(logits, int(order[0])),
        site_agreement=float(np.mean(own == order[0])),
        site_labels={site: facts.classes[int(best)] for site, best in zip(sites, own, strict=True)},
        representative=sites[middle],
        hit=not (control or unlike) and float(shares[order[0]]) >= hit_probability,
        novelty=novelty,
    )


def interval_over_sites(logits: NDArray[np.float64], label: int) -> tuple[float, float] | None:
    """The 95 % interval of a class's probability, as far as sites of one well differ; None with one site.

    logits: (sites, classes). label: the class's place. Student's t interval (Student 1908) of the log odds of the
    label against all other classes together, which are linear in the logits near their mean (the delta method); then
    brought back to a probability. It holds the softmax of the mean logits.
    """
    count = len(logits)
    if count < 2 or logits.shape[1] < 2:
        return None
    logits = logits - logits.mean(axis=0).max()  # digits are for differences
    mean = logits.mean(axis=0)
    others = np.delete(np.arange(logits.shape[1]), label)
    together = float(logsumexp(mean[others]))
    weights = np.exp(mean[others] - together)
    contrasts = logits[:, label] - logits[:, others] @ weights
    half = float(stdtrit(count - 1, (1 + INTERVAL) / 2) * contrasts.std(ddof=1) / np.sqrt(count))
    middle = float(mean[label]) - together
    return float(expit(middle - half)), float(expit(middle + half))


def well_novelty(facts: ModelFacts, predictions: Mapping[int, Prediction]) -> WellNovelty | None:
    """How unlike all that the model has seen a well is; None where there is no site, or the package does not know."""
    known = facts.novelty
    if known is None or not predictions:
        return None
    embeddings = {site: predictions[site].embedding.astype(np.float64) for site in sorted(predictions)}
    score = known.score(np.mean(list(embeddings.values()), axis=0))
    return WellNovelty(
        score=score,
        threshold=known.threshold,
        false_alarm_rate=known.false_alarm_rate,
        unlike=known.unlike(score),
        sites={site: known.score(embedding) for site, embedding in embeddings.items()},
    )


def sites_to_explain(settings: Settings, verdict: WellVerdict) -> tuple[int, ...]:
    """The sites of a well that are explained by the settings' policy: why the network leans to the nearest class.

    So too of a well that is unlike all that the model has seen, to show what misled it; it is no hit.
    """
    if verdict.nearest == verdict.against:  # see `why_unexplained`
        return ()
    match settings.explain.policy:
        case "none":
            return ()
        case "all":
            return tuple(verdict.site_labels)
        case "hits" if not verdict.hit:
            return ()
    return (verdict.representative,)


def why_unexplained(settings: Settings, verdict: WellVerdict) -> str | None:
    """Why a well that the policy asks for is not explained, in words; None where it is, or is not asked for."""
    if verdict.nearest != verdict.against or settings.explain.policy not in {"per_well", "all"}:
        return None
    return f"not explained: the model package has no reference sites of another class to compare {verdict.nearest} with"
