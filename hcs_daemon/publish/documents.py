"""What is written of a well, a plate and a rejection: records into the formats of `schemas`, and back."""

import hashlib
import json
import math
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcs_daemon import __version__
from hcs_daemon.config import Settings
from hcs_daemon.levels import BIN_EDGES
from hcs_daemon.plate import AcquisitionId, PlaneId, SiteId, WellId, WellPosition
from hcs_daemon.publish.schemas import (
    ChangeEntry,
    ChannelEntry,
    ChecksEntry,
    ConditionsEntry,
    ContentEntry,
    ContrastEntry,
    DepthEntry,
    EvidenceEntry,
    ExpectedEntry,
    ExplanationEntry,
    HistogramEntry,
    InputEntry,
    InteractionEntry,
    JudgementEntry,
    LackingEntry,
    LayoutEntry,
    ModelEntry,
    NoveltyEntry,
    PlaneQualityEntry,
    PlateFile,
    PredictionEntry,
    Projection,
    QualityEntry,
    RandomisationEntry,
    RejectionLine,
    SiteExplanationEntry,
    SiteResultEntry,
    SitesEntry,
    StepEntry,
    TimingEntry,
    VersionsEntry,
    WellResult,
)
from hcs_daemon.publish.verdict import WellNovelty, WellVerdict, well_novelty
from hcs_daemon.records import (
    Attribution,
    BlockSteps,
    ChannelDepth,
    InputUse,
    ModelFacts,
    PlaneConditions,
    PlaneEvidence,
    PlaneMeasures,
    PlaneQuality,
    PlaneRecord,
    PlateNews,
    Prediction,
    Randomisation,
    Rejection,
    SourceFile,
    StepRecord,
    WellClosed,
)
from hcs_daemon.vocabulary import FAR_BELOW, PlateState, Used, WellStatus

SATURATED_FLAG = 0.01
"""A channel is flagged when more than this share of its pixels is at full scale: its brightest parts are cut off."""
PACKAGE_WARNS = "the model package warns"
DEMONSTRATION = "demonstration model: it was trained on simulated cells, and its verdicts on real ones mean nothing"
MOST_INTERACTIONS = 10
_NOT_OF_RESULTS = {"directory", "on_plate_finished", "on_plate_finished_timeout_s"}
"""Settings of the section [results] that say nothing of them."""
UNLIKE_WORDS = "this well is unlike anything that the model has seen"
SHED = (
    "explaining fell behind: this well was published before it was explained; it is explained when nothing else waits,"
    " as a new revision"
)
STOPPED = "the daemon was stopped before this well was explained; its next start explains it, as a new revision"


@dataclass(frozen=True, slots=True)
class WellDraft:
    """Everything known of a well before it is written.

    predictions: the usable ones by site. failed: site -> in words why the model gave nothing. attributions: those
    that came. notes: warnings that arose on the way. maps_sha256: of the file with the attributions' maps.
    """

    closed: WellClosed
    verdict: WellVerdict | None
    predictions: Mapping[int, Prediction]
    failed: Mapping[int, str]
    attributions: tuple[Attribution, ...] = ()
    notes: tuple[str, ...] = ()
    maps_sha256: str | None = None

    @property
    def status(self) -> WellStatus:
        """complete: all expected sites analysed; partial: some, or none yet and a plane may come; else rejected."""
        analysed = len(self.predictions)
        if analysed and analysed == self.closed.expected_sites:
            return WellStatus.COMPLETE
        return WellStatus.PARTIAL if analysed or self.closed.pending else WellStatus.REJECTED


def fingerprint(settings: Settings, facts: ModelFacts) -> str:
    """SHA-256 of what decides a result: expectations, model, what is unlike for it, explanation's method.

    How long is waited decides none; nor does what is in the wells, which the model never learns; nor how many sites are
    explained, which every result says of itself. What is left at its default does not count, so that a version that
    adds a setting has no plate done again.
    """
    indifferent = {"well_timeout_s", "plate_timeout_s", "layout"}
    decisive = {
        "expect": settings.expect.model_dump(mode="json", exclude=indifferent, exclude_defaults=True),
        "model": facts.sha256,
        "explain": settings.explain.model_dump(mode="json", include={"method"}, exclude_defaults=True),
    }
    if facts.novelty is not None:  # without it the fingerprint is that of earlier versions
        decisive["novelty"] = facts.novelty.digest
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def well_result(
    draft: WellDraft,
    facts: ModelFacts,
    settings_fingerprint: str,
    *,
    revision: int,
    published_at: datetime,
    latency_s: float,
    projection: Projection | None = None,
    inside: ContentEntry | None = None,
) -> WellResult:
    """The result as it is written.

    latency_s: seconds from the last plane being complete until now. projection: what of a z stack was analysed, by the
    settings. inside: what is in the well, by the plate's layout.
    """
    closed = draft.closed
    return WellResult(
        plate=closed.well.acquisition.plate,
        acquisition=closed.well.acquisition.acquisition,
        well=closed.well.position.name,
        time=closed.well.time,
        content=inside,
        status=draft.status,
        revision=revision,
        supersedes=revision - 1 or None,
        sites=SitesEntry(
            expected=closed.expected_sites,
            analysed=len(draft.predictions),
            missing=sorted(closed.missing),
            rejected=sorted(closed.rejected),
            failed=sorted(draft.failed),
            lacking=_lacking(closed),
        ),
        channels=list(facts.channels),
        projection=projection,
        flatfield=closed.flatfield,
        prediction=_prediction(draft.verdict),
        explanation=_explanation(draft.attributions, draft.maps_sha256),
        quality=_quality(facts.channels, _analysed(closed.inputs, draft.predictions)),
        model=model_entry(facts),
        settings_fingerprint=settings_fingerprint,
        timing=TimingEntry(
            first_plane_at=closed.first_plane_at,
            last_plane_at=closed.last_plane_at,
            published_at=published_at,
            latency_s=round(max(0.0, latency_s), 3),
        ),
        warnings=_warnings(draft, facts),
        classes=list(facts.classes),
        site_results=_site_results(draft, facts),
        inputs=_inputs(draft),
    )


def with_content(
    result: WellResult, inside: ContentEntry | None, *, revision: int, published_at: datetime
) -> WellResult:
    """The next revision of a result of which only what is in the well changed; the latency stays that of its planes."""
    timing = result.timing.model_copy(update={"published_at": published_at})
    changed = {"content": inside, "revision": revision, "supersedes": revision - 1 or None, "timing": timing}
    return result.model_copy(update=changed)


def _lacking(closed: WellClosed) -> list[LackingEntry]:
    return [
        LackingEntry(site=plane.site, channel=plane.channel, z=plane.z, refused=plane.refused)
        for plane in sorted(closed.lacking, key=lambda plane: (plane.site, plane.channel, plane.z))
    ]


def model_entry(facts: ModelFacts) -> ModelEntry:
    """The model as every file names it."""
    return ModelEntry(
        name=facts.name,
        version=facts.version,
        sha256=facts.sha256,
        device=facts.device,
        control_class=facts.control_class,
        demonstration=facts.demonstration,
    )


def content(result: WellResult) -> object:
    """What a result says of which bytes. One that says the same as the published revision is no new revision.

    What is in the well is no part of it: a layout that changed is joined without asking the model again.
    """
    return (
        result.status,
        sorted((entry.path, entry.sha256, entry.used) for entry in result.inputs),
        result.sites,
        [(entry.site, entry.key) for entry in result.site_results],
        result.channels,
        result.model.sha256,
        result.settings_fingerprint,
        owes_explanation(result),
        [words for words in result.warnings if FAR_BELOW in words],
    )


def owes_explanation(result: WellResult) -> bool:
    """Whether the result was written in haste, without the explanation that it should have."""
    return STOPPED in result.warnings or SHED in result.warnings


def draft_content(draft: WellDraft, facts: ModelFacts, settings_fingerprint: str) -> object:
    """The `content` that a draft will have."""
    at = draft.closed.last_plane_at
    return content(well_result(draft, facts, settings_fingerprint, revision=1, published_at=at, latency_s=0.0))


def _prediction(verdict: WellVerdict | None) -> PredictionEntry | None:
    if verdict is None:
        return None
    return PredictionEntry(
        label=verdict.label,
        nearest=verdict.nearest,
        probabilities={name: round(share, 6) for name, share in verdict.probabilities.items()},
        interval=None if verdict.interval is None else (round(verdict.interval[0], 6), round(verdict.interval[1], 6)),
        site_agreement=round(verdict.site_agreement, 4),
        disagreeing_sites=list(verdict.disagreeing),
        novelty=_novelty(verdict.novelty),
        hit=verdict.hit,
        representative_site=verdict.representative,
    )


def _novelty(novelty: WellNovelty | None) -> NoveltyEntry | None:
    if novelty is None:
        return None
    return NoveltyEntry(
        score=_exact(novelty.score),
        threshold=_exact(novelty.threshold),
        false_alarm_rate=novelty.false_alarm_rate,
        unlike=novelty.unlike,
    )


def _explanation(attributions: Sequence[Attribution], maps_sha256: str | None) -> ExplanationEntry | None:
    if not attributions:
        return None
    first = attributions[0]
    return ExplanationEntry(
        method=first.method,
        target=first.target,
        against=first.against,
        reference=first.reference,
        sites=[_site_explanation(attribution) for attribution in attributions],
        maps_sha256=maps_sha256,
    )


def _site_explanation(attribution: Attribution) -> SiteExplanationEntry:
    checks = attribution.checks
    return SiteExplanationEntry(
        site=attribution.site.site,
        channel_shapley={name: _exact(value) for name, value in attribution.channel_shapley.items()},
        channel_spread=_by_channel(attribution.channel_spread),
        channel_error=_by_channel(attribution.channel_error),
        channel_interactions=_interactions(attribution),
        change=ChangeEntry(from_=_exact(attribution.reference_contrast), to=_exact(attribution.contrast)),
        checks=ChecksEntry(
            completeness_error=_finite(checks.completeness_error),
            efficiency_error=_finite(checks.efficiency_error),
            deletion_auc=_finite(checks.deletion_auc),
            random_deletion_auc=_finite(checks.random_deletion_auc),
            passed=checks.passed,
            insertion_auc=_finite(checks.insertion_auc),
            random_insertion_auc=_finite(checks.random_insertion_auc),
            intensity_deletion_auc=_finite(checks.intensity_deletion_auc),
            noise_sensitivity=_finite(checks.noise_sensitivity),
            on_cells=_finite(checks.on_cells),
            cells_area=_finite(checks.cells_area),
            failed=list(checks.failed),
        ),
    )


def _by_channel(values: Mapping[str, float] | None) -> dict[str, float] | None:
    return None if values is None else {name: _exact(value) for name, value in values.items()}


def _interactions(attribution: Attribution) -> list[InteractionEntry]:
    """The largest, of either sign."""
    found = sorted(attribution.interactions.items(), key=lambda pair: -abs(pair[1]))[:MOST_INTERACTIONS]
    return [InteractionEntry(channels=pair, logits=_exact(logits)) for pair, logits in found]


def unusable(prediction: Prediction) -> str | None:
    """Why a prediction cannot be used, in words, or None."""
    finite = np.isfinite(prediction.logits).all() and np.isfinite(prediction.embedding).all()
    return prediction.failure or (None if finite else "the model's output is not finite")


def is_finite(attribution: Attribution) -> bool:
    """Whether an explanation is made of numbers only."""
    ends = (attribution.contrast, attribution.reference_contrast)
    by_channel = (attribution.channel_shapley, attribution.channel_spread or {}, attribution.channel_error or {})
    numbers = [*ends, *attribution.interactions.values(), *(value for found in by_channel for value in found.values())]
    return all(math.isfinite(number) for number in numbers)


def shown_site(result: WellResult) -> int | None:
    """The site that a picture of the well shows: its verdict's, else the one nearest the mean embedding."""
    if result.prediction is not None:
        return result.prediction.representative_site
    if not result.site_results:
        return None
    embeddings = np.array([entry.embedding for entry in result.site_results])
    distances = np.linalg.norm(embeddings - embeddings.mean(axis=0), axis=1)
    return result.site_results[int(distances.argmin())].site


def _exact(value: float) -> float:
    """Nine significant digits hold every float32."""
    return float(f"{value:.9g}")


def _finite(value: float | None) -> float | None:
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _floats(values: NDArray[np.float32]) -> list[float]:
    return [_exact(value) for value in values.tolist()]


def _analysed(inputs: Iterable[InputUse], predictions: Mapping[int, Prediction]) -> list[PlaneRecord]:
    return [use.plane for use in inputs if use.used is Used.ANALYSED and use.plane.id.site.site in predictions]


def _quality(channels: Sequence[str], planes: Sequence[PlaneRecord]) -> QualityEntry:
    """Without flags, which `quality.QualityBook` gives beside the plate's other wells."""
    focus: dict[str, float] = {}
    saturated: dict[str, float] = {}
    for channel in channels:
        measures = [plane.measures for plane in planes if plane.channel == channel]
        sharp = [found.focus for found in measures if math.isfinite(found.focus)]
        if sharp:
            focus[channel] = round(median(sharp), 6)
        if measures:
            saturated[channel] = round(median(found.saturated_fraction for found in measures), 8)
    return QualityEntry(focus=focus, saturated_fraction=saturated, flags=[])


def _warnings(draft: WellDraft, facts: ModelFacts) -> list[str]:
    said = [DEMONSTRATION] if facts.demonstration else []
    said += [f"{PACKAGE_WARNS}: {words}" for words in facts.warnings]
    said += draft.closed.warnings
    said += _doubts(draft, facts)
    said += [f"site {site} could not be analysed: {words}" for site, words in sorted(draft.failed.items())]
    return said + list(draft.notes)


def _doubts(draft: WellDraft, facts: ModelFacts) -> list[str]:
    """What speaks against taking the verdict at its word: a well like none seen, sites that say otherwise."""
    verdict, said = draft.verdict, []
    novelty = well_novelty(facts, draft.predictions)
    if novelty is not None and novelty.unlike:
        leaning = f"; of its classes the model leans to {verdict.nearest}" if verdict is not None else ""
        limit = f"{100 * novelty.false_alarm_rate:g} % of wells like those lie beyond {novelty.threshold:.3g}"
        wanted, here = facts.novelty.sites if facts.novelty else None, len(draft.predictions)
        if wanted not in {None, here}:
            limit += f" (a rate of wells with {wanted} sites each; for this one, with {here}, it does not hold)"
        said.append(f"{UNLIKE_WORDS}: its distance is {novelty.score:.3g}, and no more than {limit}{leaning}")
    if verdict is not None and verdict.disagreeing:
        sites = ", ".join(f"site {site} {verdict.site_labels[site]}" for site in verdict.disagreeing)
        said.append(f"not all sites say {verdict.nearest}: {sites}")
    return said


def _site_results(draft: WellDraft, facts: ModelFacts) -> list[SiteResultEntry]:
    novelty = well_novelty(facts, draft.predictions)
    planes = _analysed(draft.closed.inputs, draft.predictions)
    return [
        SiteResultEntry(
            site=site,
            key=list(prediction.key),
            label=draft.verdict.site_labels[site] if draft.verdict else "",
            logits=_floats(prediction.logits),
            embedding=_floats(prediction.embedding),
            novelty=_exact(novelty.sites[site]) if novelty else None,
            **_site_quality([plane for plane in planes if plane.id.site.site == site]),
            steps=[_step(record) for record in prediction.steps],
        )
        for site, prediction in sorted(draft.predictions.items())
    ]


def _step(record: StepRecord) -> StepEntry:
    return StepEntry(
        step=record.step,
        shape=list(record.shape),
        dtype=record.dtype,
        min=[value if math.isfinite(value) else None for value in record.minimum],
        max=[value if math.isfinite(value) else None for value in record.maximum],
        mean=[value if math.isfinite(value) else None for value in record.mean],
        digest=list(record.digest),
    )


def _site_quality(planes: Sequence[PlaneRecord]) -> dict[str, Any]:
    """By channel, the median over the planes that a site's image was made from."""
    focus: dict[str, float | None] = {}
    saturated: dict[str, float] = {}
    for channel in dict.fromkeys(plane.channel for plane in planes):
        measures = [plane.measures for plane in planes if plane.channel == channel]
        sharp = [found.focus for found in measures if math.isfinite(found.focus)]
        focus[channel] = _finite(median(sharp)) if sharp else None
        saturated[channel] = round(median(found.saturated_fraction for found in measures), 8)
    return {"focus": focus, "saturated_fraction": saturated}


def _inputs(draft: WellDraft) -> list[InputEntry]:
    return [_input(use, used=_used(use, draft)) for use in draft.closed.inputs]


def _used(use: InputUse, draft: WellDraft) -> Used:
    """A plane of a site that the model could not use was not analysed either."""
    failed = use.used is Used.ANALYSED and use.plane.id.site.site not in draft.predictions
    return Used.INCOMPLETE_SITE if failed else use.used


def _input(use: InputUse, used: Used) -> InputEntry:
    plane = use.plane
    return InputEntry(
        path=plane.source.path,
        size_bytes=plane.source.size_bytes,
        mtime_ns=plane.source.mtime_ns,
        sha256=plane.source.sha256,
        channel=plane.channel,
        channel_id=plane.id.channel,
        site=plane.id.site.site,
        z=plane.id.z,
        observed_bits=plane.measures.observed_bits,
        min=plane.measures.minimum,
        max=plane.measures.maximum,
        used=used,
        shape=plane.shape,
        container=plane.container,
        saturated_fraction=round(plane.measures.saturated_fraction, 8),
        focus=_finite(plane.measures.focus),
        sharpness=plane.measures.sharpness,
        quality=PlaneQualityEntry(**asdict(quality)) if (quality := plane.measures.quality) else None,
        evidence=_evidence(plane.measures.evidence),
        oddities=list(plane.measures.oddities),
        conditions=ConditionsEntry(**asdict(plane.conditions)) if plane.conditions else None,
        pixel_digest=plane.measures.pixel_digest,
        seen_at=plane.seen_at,
    )


def _evidence(evidence: PlaneEvidence | None) -> EvidenceEntry | None:
    return None if evidence is None else EvidenceEntry.model_validate(asdict(evidence))


# ---- and back


def well_id(result: WellResult) -> WellId:
    """The well that a result is of. Raises ValueError for a name that is no well's."""
    return WellId(AcquisitionId(result.plate, result.acquisition), WellPosition.parse(result.well), result.time)


def input_uses(result: WellResult) -> tuple[InputUse, ...]:
    """The planes of a result, as intake knew them."""
    well = well_id(result)
    return tuple(InputUse(_plane(entry, well), entry.used) for entry in result.inputs)


def _plane(entry: InputEntry, well: WellId) -> PlaneRecord:
    return PlaneRecord(
        id=PlaneId(SiteId(well, entry.site), entry.channel_id, entry.z),
        channel=entry.channel,
        source=SourceFile(entry.path, entry.size_bytes, entry.mtime_ns, entry.sha256),
        shape=entry.shape,
        container=entry.container,
        measures=PlaneMeasures(
            minimum=entry.min,
            maximum=entry.max,
            observed_bits=entry.observed_bits,
            saturated_fraction=entry.saturated_fraction,
            focus=math.nan if entry.focus is None else entry.focus,
            sharpness=entry.sharpness,
            quality=PlaneQuality(**dict(entry.quality)) if entry.quality else None,
            evidence=_evidence_record(entry.evidence),
            oddities=tuple(entry.oddities),
            pixel_digest=entry.pixel_digest,
        ),
        seen_at=entry.seen_at,
        conditions=PlaneConditions(**dict(entry.conditions)) if entry.conditions else None,
    )


def _evidence_record(entry: EvidenceEntry | None) -> PlaneEvidence | None:
    if entry is None:
        return None
    blocks = tuple(BlockSteps(**dict(block)) for block in entry.blocks)
    return PlaneEvidence(**{**dict(entry), "blocks": blocks, "histogram": tuple(entry.histogram)})


def predictions(result: WellResult) -> dict[SiteId, Prediction]:
    """The sites' predictions, as the device gave them."""
    well = well_id(result)
    return {
        SiteId(well, entry.site): Prediction(
            site=SiteId(well, entry.site),
            key=tuple(entry.key),
            logits=np.array(entry.logits, np.float32),
            embedding=np.array(entry.embedding, np.float32),
            infer_s=0.0,
            steps=tuple(_step_record(step) for step in entry.steps),
        )
        for entry in result.site_results
    }


def _step_record(entry: StepEntry) -> StepRecord:
    return StepRecord(
        step=entry.step,
        shape=tuple(entry.shape),
        dtype=entry.dtype,
        minimum=tuple(math.nan if value is None else value for value in entry.min),
        maximum=tuple(math.nan if value is None else value for value in entry.max),
        mean=tuple(math.nan if value is None else value for value in entry.mean),
        digest=tuple(entry.digest),
    )


# ---- rejections


def rejection_line(rejection: Rejection) -> RejectionLine:
    """A rejection as it is written."""
    plane = rejection.plane
    well = plane.site.well if plane else None
    return RejectionLine(
        at=rejection.at,
        path=rejection.path,
        sha256=rejection.sha256,
        reason=rejection.reason,
        detail=rejection.detail,
        hint=rejection.hint,
        plate=rejection.acquisition.plate if rejection.acquisition else None,
        acquisition=rejection.acquisition.acquisition if rejection.acquisition else None,
        well=well.position.name if well else None,
        time=well.time if well else None,
        site=plane.site.site if plane else None,
        channel=rejection.channel,
        channel_id=plane.channel if plane else None,
        z=plane.z if plane else None,
        size_bytes=rejection.size_bytes,
        mtime_ns=rejection.mtime_ns,
        withdrawn=rejection.withdrawn,
        evidence=_evidence(rejection.evidence),
        pixel_digest=rejection.pixel_digest,
    )


def rejection_record(line: RejectionLine) -> Rejection:
    """A rejection as intake made it. Raises ValueError for a name that is no well's."""
    acquisition = None
    if line.plate is not None and line.acquisition is not None:
        acquisition = AcquisitionId(line.plate, line.acquisition)
    plane = None
    if acquisition and line.well and line.site is not None and line.channel_id is not None:
        well = WellId(acquisition, WellPosition.parse(line.well), line.time or 1)
        plane = PlaneId(SiteId(well, line.site), line.channel_id, 1 if line.z is None else line.z)
    return Rejection(
        at=line.at,
        path=line.path,
        reason=line.reason,
        detail=line.detail,
        hint=line.hint,
        size_bytes=line.size_bytes,
        mtime_ns=line.mtime_ns,
        sha256=line.sha256,
        acquisition=acquisition,
        plane=plane,
        channel=line.channel,
        withdrawn=line.withdrawn,
        evidence=_evidence_record(line.evidence),
        pixel_digest=line.pixel_digest,
    )


# ---- plates


def plate_file(
    news: PlateNews,
    settings: Settings,
    facts: ModelFacts,
    results: Iterable[WellResult],
    *,
    opened_at: datetime,
    finished_at: datetime | None,
    contrast: Mapping[str, tuple[float, float]] | None,
    layout: LayoutEntry | None = None,
    quality: JudgementEntry | None = None,
) -> PlateFile:
    """A plate as it is written. contrast: channel -> (black, white) in raw counts. quality: of all its wells."""
    results = list(results)
    statuses = Counter(result.status for result in results)
    labels = Counter(result.prediction.label for result in results if result.prediction)
    return PlateFile(
        plate=news.acquisition.plate,
        acquisition=news.acquisition.acquisition,
        **_heard(news),
        opened_at=opened_at,
        finished_at=finished_at if news.state is PlateState.FINISHED else None,
        expectations=settings.expect.model_dump(mode="json"),
        projection=settings.expect.projection,
        layout=layout,
        quality=quality,
        settings={
            "model": settings.model.model_dump(mode="json"),
            "explain": settings.explain.model_dump(mode="json"),
            "results": settings.results.model_dump(mode="json", exclude=_NOT_OF_RESULTS),
        },
        settings_fingerprint=fingerprint(settings, facts),
        model=model_entry(facts),
        randomisation=None if facts.randomisation is None else _randomisation(facts.randomisation),
        versions=VersionsEntry(hcs_daemon=__version__, python=platform.python_version(), numpy=np.__version__),
        wells={status: statuses[status] for status in WellStatus},
        revisions=sum(result.revision for result in results),
        verdicts=dict(sorted(labels.items())),
        contrast=None if contrast is None else _contrast(contrast),
    )


def says(plate: PlateFile, news: PlateNews) -> bool:
    """Whether a plate's file holds all that is news; what intake does not know (it may read it yet) is none.

    Of the layout, which may come from elsewhere, nothing is asked here.
    """
    known = {name: value for name, value in _heard(news).items() if value not in (None, "", {}, [])}
    if not set(known.pop("warnings", [])) <= set(plate.warnings):
        return False
    if news.expected.source != "metadata":
        del known["expectations_from"], known["expected"]
    elif not _foretells(plate.expected, known.pop("expected")):
        return False
    return all(getattr(plate, name) == value for name, value in known.items())


def _foretells(written: ExpectedEntry | None, news: ExpectedEntry) -> bool:
    """Whether all that is expected is written; a file of an earlier version, which says nothing of it, is let be."""
    if written is None:
        return True
    return all(getattr(written, name) == value for name, value in news if value is not None)


def _heard(news: PlateNews) -> dict[str, Any]:
    """Intake's part of a plate's file."""
    return {
        "state": news.state,
        "root": str(news.root),
        "folder": news.folder,
        "instrument": news.instrument,
        "instrument_plate_id": news.instrument_plate_id,
        "instrument_measurement_id": news.instrument_measurement_id,
        "expectations_from": news.expected.source,
        "shape": news.shape,
        "pixel_size_um": news.pixel_size_um,
        "sites_per_well": news.expected.sites,
        "expected": ExpectedEntry.model_validate(asdict(news.expected)),
        "channels": {name: ChannelEntry.model_validate(asdict(taken)) for name, taken in sorted(news.taken.items())},
        "flatfield": news.flatfield,
        "problem": news.problem,
        "warnings": list(news.warnings),
        "bit_depth": {name: _depth(depth) for name, depth in news.bit_depth.items()},
        "counts": dict(news.counts),
    }


def _randomisation(found: Randomisation) -> RandomisationEntry:
    return RandomisationEntry(
        maps_alike=[round(alike, 3) if math.isfinite(alike) else None for alike in found.maps_alike],
        named=found.named,
        named_at_random=found.named_at_random,
        problem=found.problem,
    )


def _depth(depth: ChannelDepth) -> DepthEntry:
    return DepthEntry(
        declared=depth.declared,
        verdict=depth.verdict,
        evidence=depth.evidence,
        confidence=depth.confidence,
        planes=depth.planes,
        histogram=HistogramEntry(edges=list(BIN_EDGES), counts=list(depth.histogram)) if depth.histogram else None,
        noise_floor=depth.noise_floor,
    )


def _contrast(contrast: Mapping[str, tuple[float, float]]) -> dict[str, ContrastEntry]:
    return {
        name: ContrastEntry(black=round(black, 2), white=round(white, 2)) for name, (black, white) in contrast.items()
    }


def contrast_of(plate: PlateFile) -> dict[str, tuple[float, float]] | None:
    """The contrast that a plate's pictures were drawn with."""
    if plate.contrast is None:
        return None
    return {name: (entry.black, entry.white) for name, entry in plate.contrast.items()}


def well_json(folder: Path, well: WellId) -> Path:
    """Where the newest revision of a well's result is, in its plate's folder."""
    return folder / "wells" / f"{well.stem}.json"
