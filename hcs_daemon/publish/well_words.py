"""A well's result in words, as they stand on its page."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from hcs_daemon.publish.documents import DEMONSTRATION
from hcs_daemon.publish.lettering import DASH, MINUS
from hcs_daemon.publish.schemas import ChecksEntry, SiteExplanationEntry, WellResult
from hcs_daemon.publish.studio import WellPicture
from hcs_daemon.records import COMPLETENESS_LIMIT, EFFICIENCY_LIMIT
from hcs_daemon.terminal import counted
from hcs_daemon.vocabulary import Used, WellStatus

DEMONSTRATION_BAND = "DEMONSTRATION MODEL: its verdicts on real cells mean nothing"
MOST_SITES = 8
"""Sites of which the page says what arrived."""


def title_end(result: WellResult) -> str:
    """What follows the plate's name in the title, and is never cut."""
    return f" · {result.well}" + (f" · time point {result.time}" if result.time > 1 else "")


def support(result: WellResult) -> str:
    """What the verdict rests on: the sites, how far they agree, and what is next likely."""
    prediction = result.prediction
    if prediction is None:
        return ""
    count = len(result.site_results)
    said = ["hit"] if prediction.hit else []
    if count <= 1:
        said.append("1 site")
    else:
        agreeing = sum(site.label == prediction.label for site in result.site_results)
        said.append(f"{agreeing} of {count} sites agree")
        own = own_probabilities(result)
        if own:
            said.append(f"the sites' own probabilities {min(own):.2f}{DASH}{max(own):.2f}")
    others = sorted(
        ((share, name) for name, share in prediction.probabilities.items() if name != prediction.label), reverse=True
    )
    if others:
        said.append("next " + ", ".join(f"{name} {share:.2f}" for share, name in others[:2]))
    return " · ".join(said)


def own_probabilities(result: WellResult) -> list[float]:
    """Each site's own probability of the well's label: the softmax of its logits."""
    label = result.prediction.label if result.prediction else None
    if label not in result.classes:
        return []
    found = []
    for site in result.site_results:
        logits = np.asarray(site.logits, np.float64)
        shares = np.exp(logits - logits.max())
        found.append(float(shares[result.classes.index(label)] / shares.sum()))
    return found


def status(result: WellResult) -> str:
    """How much of the well was analysed, and what was not; "" where nothing is to be said."""
    sites = result.sites
    if result.status is WellStatus.COMPLETE and not (sites.missing or sites.rejected or sites.failed):
        return ""
    said = [f"{result.status.value}: {sites.analysed} of {counted(sites.expected, 'site')} analysed"]
    said += [
        f"{words} {_sites(numbers)}"
        for words, numbers in (
            ("planes still missing:", sites.missing),
            ("planes rejected:", sites.rejected),
            ("no usable output of the model:", sites.failed),
        )
        if numbers
    ]
    return "; ".join(said)


def arrivals(result: WellResult) -> list[str]:
    """For each incomplete site, which channels arrived and which did not."""
    sites = result.sites
    incomplete = sorted({*sites.missing, *sites.rejected})
    lines = []
    for number in incomplete[:MOST_SITES]:
        there = {entry.channel for entry in result.inputs if entry.site == number and entry.used is not Used.SUPERSEDED}
        had = [channel for channel in result.channels if channel in there]
        lacks = [channel for channel in result.channels if channel not in there]
        lines.append(
            f"site {number}: accepted {', '.join(had) or 'nothing'}; not there {', '.join(lacks) or 'nothing'}"
        )
    if len(incomplete) > MOST_SITES:
        lines.append(f"and {len(incomplete) - MOST_SITES} more incomplete sites")
    return lines


def why_no_pixels(picture: WellPicture) -> str:
    """Why the page shows no image."""
    if picture.problem:
        return picture.problem
    if picture.result.prediction is None:
        return "no site could be analysed"
    return "the pixels of its site are not at hand"


def explained(picture: WellPicture) -> SiteExplanationEntry | None:
    """The explanation of the site that is shown; without pixels, of the representative or else the first one."""
    explanation = picture.result.explanation
    if explanation is None or not explanation.sites:
        return None
    if picture.panels is not None:
        return next((entry for entry in explanation.sites if entry.site == picture.panels.site), None)
    prediction = picture.result.prediction
    wanted = prediction.representative_site if prediction else None
    return next((entry for entry in explanation.sites if entry.site == wanted), explanation.sites[0])


def checks(found: ChecksEntry) -> str:
    """Whether the explanation holds, with the numbers."""
    deletion = f"deletion {_number(found.deletion_auc)} {_compared(found)} random {_number(found.random_deletion_auc)}"
    return (
        f"Checks {'passed' if found.passed else 'FAILED'}: "
        f"completeness error {_percent(found.completeness_error)} ({_limit(COMPLETENESS_LIMIT)}), "
        f"efficiency error {_percent(found.efficiency_error)} ({_limit(EFFICIENCY_LIMIT)}), {deletion}"
    )


def failed_checks(found: ChecksEntry | None) -> str:
    """Which checks failed, in a few words."""
    if found is None:
        return "its checks failed"
    said = [
        words
        for words, error, limit in (
            ("completeness", found.completeness_error, COMPLETENESS_LIMIT),
            ("efficiency", found.efficiency_error, EFFICIENCY_LIMIT),
        )
        if error is None or error > limit
    ]
    if found.deletion_auc is None or found.random_deletion_auc is None:
        said.append("deletion")
    elif found.deletion_auc >= found.random_deletion_auc:
        said.append("deletion no better than random")
    return f"failed: {', '.join(said)}" if said else "its checks failed"


def warnings(picture: WellPicture) -> list[str]:
    """Warnings, flags and problems, each said once; the demonstration has its own band."""
    result = picture.result
    said = [words for words in result.warnings if words != DEMONSTRATION]
    for flag in result.quality.flags:
        kind, _, channel = flag.partition(":")
        share = result.quality.saturated_fraction.get(channel)
        if kind == "saturated" and share is not None:
            said.append(f"{channel}: {100 * share:.2g} % of the pixels at full scale; their light is not known")
        else:
            said.append(flag)
    problem = picture.problem
    shown_elsewhere = picture.panels is None or not problem or problem in "; ".join(result.warnings)
    return list(dict.fromkeys(said if shown_elsewhere or problem is None else [problem, *said]))


def provenance(result: WellResult) -> str:
    """Model, revision and time: what a picture was made from."""
    model, replaces = result.model, f" (replaces {result.supersedes})" if result.supersedes else ""
    return (
        f"model {model.name} {model.version} · sha256 {model.sha256[:8]} · {model.device} · "
        f"revision {result.revision}{replaces} · latency {result.timing.latency_s:.1f} s · "
        f"published {result.timing.published_at:%Y-%m-%d %H:%M} {result.timing.published_at.tzname() or ''} · "
        f"acquisition {result.acquisition}"
    )


def raw_range(picture: WellPicture, index: int) -> str:
    """A channel's extremes at the site that is shown: of its files, or of the panel where they are not known."""
    assert picture.panels is not None
    channel = picture.result.channels[index]
    found = [
        entry
        for entry in picture.result.inputs
        if entry.site == picture.panels.site and entry.channel == channel and entry.used is Used.ANALYSED
    ]
    if found:
        return f"{min(entry.min for entry in found)}{DASH}{max(entry.max for entry in found)}"
    pixels = picture.panels.pixels[index]
    return f"≈ {int(pixels.min())}{DASH}{int(pixels.max())}"


def share(value: float, spread: float | None) -> str:
    """A share with its sign, and its spread where there is one."""
    number = f"{value:+.2f}" if abs(value) < 1000 else f"{value:+.3g}"
    if spread is None:
        return number.replace("-", MINUS)
    return f"{number} ± {spread:.2f}".replace("-", MINUS)


def _sites(numbers: Sequence[int]) -> str:
    """`1 to 4, 7`, with a dash."""
    ordered = sorted(set(numbers))
    starts = [ordered[0], *(after for before, after in pairwise(ordered) if after != before + 1)]
    ends = [*(before for before, after in pairwise(ordered) if after != before + 1), ordered[-1]]
    said = [str(a) if a == b else f"{a}{DASH}{b}" for a, b in zip(starts, ends, strict=True)]
    return f"{'site' if len(ordered) == 1 else 'sites'} {', '.join(said)}"


def _percent(share_: float | None) -> str:
    if share_ is None:
        return "not a number"
    return f"{100 * share_:.2g} %" if share_ >= 0.0001 else "< 0.01 %"


def _limit(limit: float) -> str:
    return f"at most {100 * limit:g} %"


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.2f}"


def _compared(found: ChecksEntry) -> str:
    if found.deletion_auc is None or found.random_deletion_auc is None:
        return "beside"
    return "below" if found.deletion_auc < found.random_deletion_auc else "not below"
