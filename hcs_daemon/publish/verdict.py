"""From the sites' logits to the well's verdict, and what is to be explained of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hcs_daemon.config import Settings
from hcs_daemon.records import ModelFacts, Prediction


@dataclass(frozen=True, slots=True)
class WellVerdict:
    """What the model says of a well.

    probabilities: by class, the softmax of the mean over the sites' logits. site_agreement: share of the sites whose
    own first class is the label. representative: the site nearest (Euclid) the mean logits. against: the class that
    the label is contrasted with: the control's, or the second best when the label is the control's. hit: the label is
    not the control's and has at least the probability that the settings ask for.
    """

    label: str
    against: str
    probabilities: Mapping[str, float]
    site_agreement: float
    site_labels: Mapping[int, str]
    representative: int
    hit: bool


def judge(facts: ModelFacts, predictions: Mapping[int, Prediction], hit_probability: float) -> WellVerdict | None:
    """The verdict from usable predictions by site number; None when there are none."""
    if not predictions:
        return None
    sites = sorted(predictions)
    logits = np.stack([predictions[site].logits for site in sites]).astype(np.float64)
    mean = logits.mean(axis=0)
    shares = np.exp(mean - mean.max())
    shares /= shares.sum()
    order = np.argsort(-mean, kind="stable")
    label = facts.classes[int(order[0])]
    own = logits.argmax(axis=1)
    nearest = int(np.argmin(((logits - mean) ** 2).sum(axis=1)))
    control = label == facts.control_class
    return WellVerdict(
        label=label,
        against=facts.classes[int(order[1])] if control and len(order) > 1 else facts.control_class,
        probabilities={name: float(share) for name, share in zip(facts.classes, shares, strict=True)},
        site_agreement=float(np.mean(own == order[0])),
        site_labels={site: facts.classes[int(best)] for site, best in zip(sites, own, strict=True)},
        representative=sites[nearest],
        hit=not control and float(shares[order[0]]) >= hit_probability,
    )


def sites_to_explain(settings: Settings, verdict: WellVerdict) -> tuple[int, ...]:
    """The sites of a well that are explained by the settings' policy."""
    if verdict.label == verdict.against:  # a model of one class has nothing to contrast
        return ()
    match settings.explain.policy:
        case "none":
            return ()
        case "all":
            return tuple(verdict.site_labels)
        case "hits" if not verdict.hit:
            return ()
    return (verdict.representative,)
