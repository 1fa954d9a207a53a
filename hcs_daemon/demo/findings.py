"""What the daemon said of a simulated plate, beside what was planted in it."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from hcs_daemon.publish.ledger import verify_ledger
from hcs_daemon.simulate.compounds import CLASS_EFFECT, CONTROL_CLASS, PHENOTYPES
from hcs_daemon.simulate.layout import WellPlan
from hcs_daemon.terminal import Column, counted, say, show_table
from hcs_daemon.vocabulary import Reason, WellStatus

STRONG_EFFECT = 0.75
BANDS = {
    "none": "no effect",
    "weak": f"below {CLASS_EFFECT:g}",
    "medium": f"to {STRONG_EFFECT:g}",
    "strong": "above",
}
"""Effect strengths, and how the table calls them. A weak one cannot be seen: the control's class is right."""
FAIR_SHARE = 0.9
"""Of the wells with a strong effect, and of those with none, so many must be named rightly."""


@dataclass(frozen=True, slots=True)
class Planted:
    """The truth. spoiled: wells that lack a plane. rejections: files that must be refused, by reason."""

    plans: Sequence[WellPlan]
    spoiled: frozenset[str]
    rejections: Counter[Reason]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the daemon left. wells: name -> result. rejections: lines that stand. broken: of the ledger, or None."""

    wells: Mapping[str, Mapping[str, Any]]
    rejections: Sequence[Mapping[str, Any]]
    pictures: int
    broken: str | None


def read_outcome(results: Path) -> Outcome:
    """What stands in a results folder."""
    wells = {path.stem: json.loads(path.read_bytes()) for path in sorted(results.glob("*/*/wells/*.json"))}
    newest: dict[str, dict[str, Any]] = {}
    for path in sorted(results.rglob("rejected.jsonl")):
        newest.update((line["path"], line) for line in map(json.loads, path.read_text("utf-8").splitlines()))
    rejections = [line for line in newest.values() if not line["withdrawn"]]
    pictures = len(list(results.glob("*/*/wells/*.png")))
    return Outcome(wells, rejections, pictures, verify_ledger(results).broken)


def tell(planted: Planted, outcome: Outcome) -> None:
    """Verdicts, rejections and speed, in tables and words."""
    by_status = Counter(result["status"] for result in outcome.wells.values())
    said = ", ".join(f"{by_status[status]} {status}" for status in WellStatus)
    say(f"\n{counted(len(outcome.wells), 'well')}: {said}\n")
    numbers = ("wells", "right", *BANDS.values(), "planted channel first")
    columns = [Column("planted"), *(Column(name, right=True) for name in numbers)]
    show_table("Verdicts against what was planted, by effect strength", columns, verdict_rows(planted.plans, outcome))
    say(f"  (an effect below {CLASS_EFFECT:g} cannot be seen: there the control's verdict is the right one)\n")
    rows = [(line["path"].rpartition("/")[2], line["reason"], line["hint"]) for line in outcome.rejections]
    show_table("Rejected files", [Column("file"), Column("reason"), Column("what to do")], sorted(rows))
    say()
    say("\n".join(throughput(outcome)))
    say(f"explained     {checks_in_words(outcome)}")
    say(f"ledger        {outcome.broken or 'intact: every result is as it was written'}")


def verdict_rows(plans: Sequence[WellPlan], outcome: Outcome) -> list[list[str]]:
    """For each planted phenotype (and none): wells with a verdict, right ones in all and by band, and explanations."""
    rows = []
    for name in (CONTROL_CLASS, *PHENOTYPES):
        mine = [plan for plan in plans if _planted(plan) == name and _label(plan, outcome) is not None]
        bands = [[plan for plan in mine if _band(plan) == band] for band in BANDS]
        shown = "nothing" if name == CONTROL_CLASS else name
        rows.append(
            [shown, str(len(mine)), _share(mine, outcome), *(_share(b, outcome) for b in bands), _named(mine, outcome)]
        )
    return rows


def _planted(plan: WellPlan) -> str:
    return plan.compound.phenotype or CONTROL_CLASS if plan.effect_strength else CONTROL_CLASS


def _band(plan: WellPlan) -> str:
    strength = plan.effect_strength
    if strength >= CLASS_EFFECT:
        return "strong" if strength >= STRONG_EFFECT else "medium"
    return "weak" if strength else "none"


def _label(plan: WellPlan, outcome: Outcome) -> str | None:
    prediction = outcome.wells.get(plan.position.name, {}).get("prediction")
    return prediction["label"] if prediction else None


def _is_right(plan: WellPlan, outcome: Outcome) -> bool:
    return _label(plan, outcome) == plan.class_name


def _share(plans: Sequence[WellPlan], outcome: Outcome) -> str:
    return f"{sum(_is_right(plan, outcome) for plan in plans)}/{len(plans)}" if plans else "-"


def _named(plans: Iterable[WellPlan], outcome: Outcome) -> str:
    """Of the wells that were named rightly as not the control's: those whose planted channel has the largest share."""
    found = [plan for plan in plans if plan.class_name != CONTROL_CLASS and _is_right(plan, outcome)]
    hits = 0
    for plan in found:
        explanation = outcome.wells[plan.position.name]["explanation"]
        shares: dict[str, float] = explanation["sites"][0]["channel_shapley"] if explanation else {}
        hits += bool(shares) and max(shares, key=shares.__getitem__) in plan.affected_channels
    return f"{hits}/{len(found)}" if found else "-"


def throughput(outcome: Outcome) -> list[str]:
    """How fast it went, from the results' own times."""
    times = [result["timing"] for result in outcome.wells.values()]
    first = min(datetime.fromisoformat(timing["first_plane_at"]) for timing in times)
    last = max(datetime.fromisoformat(timing["published_at"]) for timing in times)
    seconds = max((last - first).total_seconds(), 1e-9)
    planes = sum(len(result["inputs"]) for result in outcome.wells.values())
    latencies = sorted(timing["latency_s"] for timing in times)
    speed = f"{planes / seconds:.1f} planes/s, {len(times) / seconds:.1f} wells/s, from the first plane to the last"
    latency = (
        f"latency       {median(latencies):.1f} s from a well's last plane to its result, in half of the wells;"
        f" {latencies[-1]:.1f} s at most"
    )
    return [f"throughput    {speed} result; each well explained and drawn", latency]


def checks_in_words(outcome: Outcome) -> str:
    """How many wells are explained, and how many explanations hold."""
    explanations = [result["explanation"] for result in outcome.wells.values() if result["explanation"]]
    passed = sum(site["checks"]["passed"] for explanation in explanations for site in explanation["sites"])
    return f"{counted(len(explanations), 'well')}; {passed} explanations passed their checks, the others say so"


def striking_well(planted: Planted, outcome: Outcome) -> str:
    """The well with the most certain right verdict that is not the control's; else the first there is."""
    plans = planted.plans
    found = [plan.position.name for plan in plans if plan.class_name != CONTROL_CLASS and _is_right(plan, outcome)]
    return max(
        found,
        key=lambda well: max(outcome.wells[well]["prediction"]["probabilities"].values()),
        default=next(iter(outcome.wells), "-"),
    )


def doubts_of(planted: Planted, outcome: Outcome) -> list[str]:
    """What did not go as told, in words."""
    doubts = [*_doubts_of_wells(planted, outcome), *_doubts_of_rejections(planted, outcome)]
    for band in ("none", "strong"):
        mine = [plan for plan in planted.plans if _band(plan) == band and _label(plan, outcome) is not None]
        right = sum(_is_right(plan, outcome) for plan in mine)
        if right < FAIR_SHARE * len(mine):
            effect = "a strong effect" if band == "strong" else "no effect"
            doubts.append(f"of {len(mine)} wells with {effect} only {right} were named rightly")
    if outcome.broken is not None:
        doubts.append(f"the ledger: {outcome.broken}")
    return doubts


def _doubts_of_wells(planted: Planted, outcome: Outcome) -> Iterator[str]:
    for plan in planted.plans:
        well = plan.position.name
        status = outcome.wells.get(well, {}).get("status", "absent")
        expected = WellStatus.REJECTED if well in planted.spoiled else WellStatus.COMPLETE
        if status != expected:
            yield f"well {well} is {status}, expected {expected}"


def _doubts_of_rejections(planted: Planted, outcome: Outcome) -> Iterator[str]:
    found = Counter(Reason(line["reason"]) for line in outcome.rejections)
    for reason in sorted(planted.rejections.keys() | found.keys()):
        if planted.rejections[reason] != found[reason]:
            yield f"{found[reason]} files were rejected as {reason}, expected {planted.rejections[reason]}"
