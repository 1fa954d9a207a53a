"""A well's result in words, as they stand on its page."""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from hcs_daemon.publish.documents import DEMONSTRATION, shown_site
from hcs_daemon.publish.lettering import DASH, MINUS
from hcs_daemon.publish.schemas import ChecksEntry, ExplanationEntry, SiteExplanationEntry, WellResult
from hcs_daemon.publish.studio import WellPicture
from hcs_daemon.records import COMPLETENESS_LIMIT, EFFICIENCY_LIMIT
from hcs_daemon.terminal import counted
from hcs_daemon.vocabulary import UNLIKE, Used, WellStatus

DEMONSTRATION_BAND = "DEMONSTRATION MODEL: its verdicts on real cells mean nothing"
MOST_SITES = 8
"""Sites of which the page says what arrived."""


def title_end(result: WellResult) -> str:
    """What follows the plate's name in the title, and is never cut."""
    return f" · {result.well}" + (f" · time point {result.time}" if result.time > 1 else "")


def contents(result: WellResult) -> str:
    """What is in the well; "" where no layout says it."""
    found = result.content
    if found is None:
        return ""
    dose = "" if found.concentration_um is None else amount(found.concentration_um)
    return " · ".join(words for words in (f"{found.compound} {dose}".strip(), found.role) if words)


def amount(micromolar: float) -> str:
    """A concentration in the unit that people would give it."""
    for unit, least in (("mM", 1e3), ("µM", 1.0), ("nM", 1e-3)):
        if micromolar >= least:
            return f"{micromolar / least:.4g} {unit}"
    return f"{micromolar * 1e6:.4g} pM" if micromolar else "0 µM"


def support(result: WellResult) -> str:
    """What the verdict rests on: the sites, how far they agree, and what is next likely."""
    prediction = result.prediction
    count = len(result.site_results)
    if prediction is None:
        return (
            ""
            if result.classes or not count
            else f"the model gives no verdict · {counted(count, 'site')} in the profile"
        )
    said = ["hit"] if prediction.hit else []
    said += [words for words in (novelty(result),) if words]
    if count <= 1:
        said.append("1 site")
    else:
        agreeing = sum(site.label == prediction.first for site in result.site_results)
        said.append(f"{agreeing} of {count} sites agree")
        own = own_probabilities(result)
        if own:
            said.append(f"the sites' own probabilities {min(own):.2f}{DASH}{max(own):.2f}")
    others = sorted(
        ((share, name) for name, share in prediction.probabilities.items() if name != prediction.first), reverse=True
    )
    if others:
        said.append("next " + ", ".join(f"{name} {share:.2f}" for share, name in others[:2]))
    return " · ".join(said)


def verdict(result: WellResult) -> tuple[str, str]:
    """The verdict and its probability; no probability where the well is unlike all that the model has seen."""
    prediction = result.prediction
    if prediction is None:
        return "", ""
    if prediction.label == UNLIKE:
        return "unlike anything seen", ""
    return prediction.label, f"{prediction.probabilities.get(prediction.label, 0.0):.2f}"


def interval(result: WellResult) -> str:
    """Within what the probability lies, as far as sites of one well differ; "" with one site."""
    found = result.prediction.interval if result.prediction else None
    return "" if found is None else f"95 % interval over the sites {found[0]:.2f}{DASH}{found[1]:.2f}"


def novelty(result: WellResult) -> str:
    """What a well that is unlike all that the model has seen is nearest to, and how far it is; "" for any other."""
    prediction = result.prediction
    if prediction is None or prediction.novelty is None or not prediction.novelty.unlike:
        return ""
    found, share = prediction.novelty, prediction.probabilities.get(prediction.first, 0.0)
    distance = f"distance {found.score:.3g}, the threshold is {found.threshold:.3g}"
    return f"nearest {prediction.first} {share:.2f} · {distance}"


def leaning(result: WellResult) -> str:
    """What an explanation of a well that is unlike all that the model has seen is worth; "" for any other."""
    prediction = result.prediction
    if prediction is None or prediction.label != UNLIKE:
        return ""
    return f"What the network leans to, {prediction.first}, and no finding about these cells. "


def own_probabilities(result: WellResult) -> list[float]:
    """Each site's own probability of the well's nearest class: the softmax of its logits."""
    label = result.prediction.first if result.prediction else None
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
    """For each incomplete site, which channels arrived and which did not; of a stack, which steps."""
    sites = result.sites
    incomplete = sorted({*sites.missing, *sites.rejected})
    lines = []
    for number in incomplete[:MOST_SITES]:
        there = {entry.channel for entry in result.inputs if entry.site == number and entry.used is not Used.SUPERSEDED}
        lacks = _lacks(result, number) or {channel: "" for channel in result.channels if channel not in there}
        had = [channel for channel in result.channels if channel in there and channel not in lacks]
        lacks = {channel: channel + words for channel, words in lacks.items()}
        lines.append(
            f"site {number}: accepted {', '.join(had) or 'nothing'}; not there {', '.join(lacks.values()) or 'nothing'}"
        )
    if len(incomplete) > MOST_SITES:
        lines.append(f"and {len(incomplete) - MOST_SITES} more incomplete sites")
    return lines


def _lacks(result: WellResult, site: int) -> dict[str, str]:
    """Channel -> which of its planes a site lacks, in words; "" for the only one."""
    lacking = [entry for entry in result.sites.lacking if entry.site == site]
    steps = {entry.z for entry in lacking} | {entry.z for entry in result.inputs if entry.site == site}
    found: dict[str, str] = {}
    for channel in dict.fromkeys(entry.channel for entry in lacking):
        own = [entry for entry in lacking if entry.channel == channel]
        words = [(f" z {entry.z}" if len(steps) > 1 else "") + (" (refused)" if entry.refused else "") for entry in own]
        found[channel] = ",".join(words)
    return found


def why_no_pixels(picture: WellPicture) -> str:
    """Why the page shows no image."""
    if picture.problem:
        return picture.problem
    if shown_site(picture.result) is None:
        return "no site could be analysed"
    return "the pixels of its site are not at hand"


def explained(picture: WellPicture) -> SiteExplanationEntry | None:
    """The explanation of the site that is shown; without pixels, of the representative or else the first one."""
    explanation = picture.result.explanation
    if explanation is None or not explanation.sites:
        return None
    if picture.panels is not None:
        return next((entry for entry in explanation.sites if entry.site == picture.panels.site), None)
    wanted = shown_site(picture.result)
    return next((entry for entry in explanation.sites if entry.site == wanted), explanation.sites[0])


def compared_with(explanation: ExplanationEntry) -> str:
    """Which sites of the model package stand for what is absent: their wells counted up, plate by plate."""
    said = _MEAN_OVER.fullmatch(explanation.reference)
    if said is None:  # the wording of another version
        return f"Compared with: {explanation.reference}"
    wells: dict[str, list[str]] = {}
    for name in said["names"].split("; "):
        found = _WELL_OF.fullmatch(name.removesuffix(f", as {said['class']}"))
        wells.setdefault(found["plate"] if found else name, []).extend([found["well"]] if found else [])
    places = [
        f"{'wells' if len(names) > 1 else 'well'} {', '.join(names)} of {plate}" if names else plate
        for plate, names in wells.items()
    ]
    return f"Compared with: {said['class']}, {'; '.join(places)}, from the model package."


_MEAN_OVER = re.compile(r"mean over \d+ (?P<class>.+?) sites?: (?P<names>.+)")
_WELL_OF = re.compile(r"well (?P<well>\S+) of (?P<plate>.+)")


def checks(found: ChecksEntry) -> list[tuple[str, bool | None]]:
    """Each check with its numbers, and whether it holds; None where a version before did not name those that failed.

    The efficiency error is among them only where it fails.
    """
    failed = set(found.failed)
    said = [
        ("completeness", f"completeness error {_percent(found.completeness_error)} ({_limit(COMPLETENESS_LIMIT)})"),
        (
            "deletion",
            f"deletion {_number(found.deletion_auc)} {_compared(found)} random {_number(found.random_deletion_auc)}",
        ),
    ]
    if found.insertion_auc is not None:
        beside = "hardly above" if "insertion" in failed else "above"
        words = f"insertion {_number(found.insertion_auc)} {beside} deletion {_number(found.deletion_auc)}"
        said.append(("insertion", words))
    if "efficiency" in failed:  # arithmetic that holds by construction says nothing for an explanation
        words = f"efficiency error {_percent(found.efficiency_error)} ({_limit(EFFICIENCY_LIMIT)})"
        said.insert(1, ("efficiency", words))
    numbered = {name for name, _ in said}
    said += [(name, _FAILED.get(name, name)) for name in found.failed if name not in numbered]
    unnamed = not (found.passed or failed)
    return [(words, None if unnamed else name not in failed) for name, words in said]


def on_cells(found: ChecksEntry) -> str:
    """How much of the map falls on cells; "" where it was not measured."""
    if found.on_cells is None or found.cells_area is None:
        return ""
    return f"{100 * found.on_cells:.0f} % of the map on cells ({100 * found.cells_area:.0f} % of the field)"


def disagreeing(result: WellResult) -> str:
    """Which sites another class comes first in; "" where there is none."""
    prediction = result.prediction
    others = [site for site in result.site_results if prediction is not None and site.label != prediction.first]
    said = [f"site {site.site} {site.label}" for site in others[:MOST_SITES]]
    said += [f"and {len(others) - MOST_SITES} more"] if len(others) > MOST_SITES else []
    return ", ".join(said)


def failed_checks(found: ChecksEntry | None) -> str:
    """That checks failed and which, in a few words."""
    if found is None or not found.failed:  # a result of a version that did not name them
        return "the checks failed"
    many = "checks" if len(found.failed) > 1 else "check"
    return f"failed {many}: {'; '.join(_FAILED.get(name, name) for name in found.failed)}"


_FAILED = {
    "change": "the references explain no change",
    "deletion": "deletion no better than random",
    "insertion": "insertion hardly better than deletion",
    "randomisation": "the model was not told from random weights",
}


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
            said.append(f"{channel}: {kind.replace('_', ' ')}" if channel else kind)
    problem = picture.problem
    shown_elsewhere = picture.panels is None or not problem or problem in "; ".join(result.warnings)
    return list(dict.fromkeys(said if shown_elsewhere or problem is None else [problem, *said]))


def provenance(result: WellResult) -> str:
    """Model, revision and time: what a picture was made from."""
    model, replaces = result.model, f" (replaces {result.supersedes})" if result.supersedes else ""
    made = f"{_projected(result)}{f'flat field: {result.flatfield} · ' if result.flatfield else ''}"
    return made + (
        f"model {model.name} {model.version} · sha256 {model.sha256[:8]} · {model.device} · "
        f"revision {result.revision}{replaces} · latency {result.timing.latency_s:.1f} s · "
        f"published {result.timing.published_at:%Y-%m-%d %H:%M} {result.timing.published_at.tzname() or ''} · "
        f"acquisition {result.acquisition}"
    )


def _projected(result: WellResult) -> str:
    """What of a stack was analysed, where there is one."""
    if result.projection is None or len({entry.z for entry in result.inputs}) < 2:
        return ""
    chosen = f"step {result.projection}" if isinstance(result.projection, int) else f"projection {result.projection}"
    return f"{chosen.replace('_', ' ')} of the z stack · "


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
    return f"{100 * share_:.2g} %" if share_ >= 0.001 else "< 0.1 %"


def _limit(limit: float) -> str:
    return f"at most {100 * limit:g} %"


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.2f}"


def _compared(found: ChecksEntry) -> str:
    if found.deletion_auc is None or found.random_deletion_auc is None:
        return "beside"
    return "below" if found.deletion_auc < found.random_deletion_auc else "not below"
