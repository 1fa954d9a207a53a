"""Every file format of the results folder, and its JSON Schema (`python -m hcs_daemon.publish.schemas docs/schemas`).

Files are written through these models, so that what the schema says and what is written cannot part.
"""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from hcs_daemon.errors import NewerResultsError
from hcs_daemon.versions import UPGRADE, newer, refusal
from hcs_daemon.vocabulary import PlateState, Reason, Used, Verdict, WellStatus

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
LocalTime = Annotated[datetime, WithJsonSchema({"type": "string"})]
"""Without an offset it is no `date-time` of JSON Schema."""
Projection = Literal["max", "mean", "best_focus", "middle"] | Annotated[int, Field(ge=1)]


class Document(BaseModel):
    """What all formats share: nothing else is written, NaN and infinity do not occur."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    @classmethod
    def read(cls, data: bytes, where: object) -> Self:
        """From what any program up to this one wrote, or a later one whose version is the same: keys may be unknown.

        where: which file, for people. Raises NewerResultsError for a newer version, else ValidationError.
        """
        try:
            return cls.model_validate_json(data, extra="ignore")
        except ValidationError:
            own = cls.model_fields["schema_"].default
            if said := newer(data, own):
                raise NewerResultsError(f"{where} {refusal(said, own)}", UPGRADE) from None
            raise

    def line(self) -> bytes:
        """As one line of JSON, without a newline."""
        return self.model_dump_json(by_alias=True).encode()

    def text(self) -> bytes:
        """As JSON for people: a key a line, and an entry a line where a key holds a list of objects."""
        fields = self.model_dump(mode="json", by_alias=True)
        body = ",\n".join(f"  {json.dumps(key)}: {_value(value)}" for key, value in fields.items())
        return f"{{\n{body}\n}}\n".encode()


def _value(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"    {_json(item)}" for item in value) + "\n  ]"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


class LackingEntry(Document):
    """A plane that a site waits for in vain."""

    site: int
    channel: str
    z: Annotated[int, Field(ge=0, description="as in inputs")]
    refused: bool = Field(description="it came and was rejected, or the instrument says that it was not taken")


class SitesEntry(Document):
    """How the sites of a well fared, by the instrument's numbers."""

    expected: Count
    analysed: Count
    missing: list[int] = Field(description="sites without all their planes, which may still come")
    rejected: list[int] = Field(description="sites whose last hope was a rejected plane")
    failed: list[int] = Field(description="sites of which the model gave nothing that can be used")
    lacking: list[LackingEntry] = Field(
        default_factory=list, description="the planes that the missing and the rejected sites lack"
    )


class ContentEntry(Document):
    """What an experimenter put into the well, by the plate's layout; empty or null where that does not say."""

    compound: str
    concentration_um: float | None = Field(description="micromolar")
    role: str = Field(description="control, reference, treatment, or the experimenter's own word")


class NoveltyEntry(Document):
    """How unlike the wells of training a well is: the distance of its mean embedding, as docs/results.md explains."""

    score: float = Field(ge=0.0, description="standard deviations to the nearest class, about 1 for a well like those")
    threshold: float = Field(ge=0.0, description="beyond it a well is unlike them")
    false_alarm_rate: Share = Field(description="no more than this share of wells like them lies beyond it")
    unlike: bool


class PredictionEntry(Document):
    """The well's verdict: softmax of the mean over its sites' logits."""

    label: str = Field(description="a class, or `unlike` where the well is unlike all that the model has seen")
    nearest: str = Field("", description="the class with the highest probability; empty in results before it")
    probabilities: dict[str, Share]
    interval: tuple[Share, Share] | None = Field(
        None, description="95 %, of the nearest class's probability over the sites; null with one site"
    )
    site_agreement: Share = Field(description="share of the analysed sites whose own first class is the nearest")
    disagreeing_sites: list[int] = Field(default_factory=list, description="sites whose own first class is another")
    novelty: NoveltyEntry | None = Field(None, description="null where the model package does not know")
    hit: bool = Field(description="a class, not the control's, with at least model.hit_probability")
    representative_site: int = Field(description="the site nearest (Euclid) the well's mean logits")

    @property
    def first(self) -> str:
        """The class with the highest probability, in results of any version."""
        return self.nearest or self.label


class ChecksEntry(Document):
    """Whether the explanation holds; errors are relative to the change explained. null: not computed, or not finite."""

    completeness_error: float | None
    efficiency_error: float | None
    deletion_auc: float | None
    random_deletion_auc: float | None
    passed: bool
    insertion_auc: float | None = Field(
        None, description="mean probability of the target while the most attributed places take theirs in the reference"
    )
    random_insertion_auc: float | None = Field(None, description="the same at random")
    intensity_deletion_auc: float | None = Field(
        None, description="deletion_auc for the places whose light differs most from the reference's"
    )
    noise_sensitivity: float | None = Field(None, description="relative change of the map under the images' own noise")
    on_cells: float | None = Field(None, description="share of the map that falls on cells")
    cells_area: float | None = Field(None, description="share of the site that cells cover")
    failed: list[str] = Field(default_factory=list, description="the checks that failed")


class ChangeEntry(Document):
    """What is explained: the contrast in logits, from the control reference to the site."""

    from_: float = Field(alias="from")
    to: float


class InteractionEntry(Document):
    """What two channels bring together beyond what each brings: the Shapley interaction index."""

    channels: tuple[str, str]
    logits: float


class SiteExplanationEntry(Document):
    """One explained site."""

    site: int
    channel_shapley: dict[str, float] = Field(description="logits; they sum to change.to - change.from")
    channel_spread: dict[str, float] | None = Field(
        None, description="logits; standard deviation of each over the reference sites, null where there is one only"
    )
    channel_error: dict[str, float] | None = Field(
        None, description="logits; standard error of each where they were sampled, null where they are exact"
    )
    channel_interactions: list[InteractionEntry] = Field(
        default=[], description="the ten largest at most, largest first; none where the values were sampled"
    )
    change: ChangeEntry
    checks: ChecksEntry


class ExplanationEntry(Document):
    """Why the model prefers `target` to `against`."""

    method: str
    target: str
    against: str
    reference: str = Field(description="what an absent channel was replaced by")
    sites: list[SiteExplanationEntry]
    maps_sha256: Sha256 | None = Field(
        None, description="of explanations/<well>.npz; null where results.pictures leaves the well out"
    )


class QualityEntry(Document):
    """Medians over the analysed planes, by channel."""

    focus: dict[str, float] = Field(
        description="variance of the Laplacian over that of the pixels, central 512 x 512 at most; higher is sharper"
    )
    saturated_fraction: dict[str, float] = Field(description="share of pixels at the declared depth's full scale")
    flags: list[str] = Field(
        description="of more than half the analysed sites, by the plate's wells so far; docs/quality.md has them all"
    )


class ModelEntry(Document):
    """The model that gave the verdict, and on what it ran."""

    name: str
    version: str
    sha256: str
    device: str
    control_class: str = Field(
        "", description="the class of untreated cells; empty for a model that only embeds, and in results before it"
    )
    demonstration: bool = False


class RandomisationEntry(Document):
    """What became of the model's maps and answers when its weights were randomised, once, when it was loaded."""

    maps_alike: list[float | None] = Field(
        description="rank correlation with its own maps, as more layers are randomised from the top; null where the"
        " randomised network gives no numbers; empty where it has no weights"
    )
    named: Share | None = Field(
        description="share of the package's reference sites that the model gives their own class; null where they are"
        " too few to tell"
    )
    named_at_random: Share | None = Field(description="the same of the best of its copies with permuted weights")
    problem: str = Field(description="in words, why its explanations are not to be relied upon; empty where they hold")


class PlaneQualityEntry(Document):
    """How good the picture in a plane is, as docs/quality.md explains it."""

    background: float = Field(description="counts, at the middle of the field")
    noise: float = Field(description="counts, standard deviation of one pixel in the dark parts")
    foreground_fraction: Share = Field(description="share of the plane that stands above its background")
    bright: float = Field(description="counts above the background that the brighter parts of the foreground have")
    spots: Count = Field(description="separate bright objects")
    debris_fraction: Share = Field(description="share of the plane in spots far brighter than that")
    unevenness: float = Field(description="share of its light that the background loses across the field")
    power_slope: float | None = Field(
        description="of log power against log frequency; null where nothing stands above the noise"
    )


class BlockStepsEntry(Document):
    """How a histogram steps at the edges of blocks of 2**bits levels, and inside them."""

    bits: int
    edges: Count
    edge_sum: float
    others: Count
    other_sum: float


class EvidenceEntry(Document):
    """What a plane's pixels say of how they were encoded, as docs/forensics.md explains it."""

    pixels: Count
    lowest: Count = Field(description="counts")
    highest: Count = Field(description="counts")
    ored: Count = Field(description="the bitwise OR of all values")
    levels: Count = Field(description="distinct values")
    step: Count = Field(description="greatest common divisor of the steps between them; 0 of a constant plane")
    gaps: Count = Field(description="stretches of values left out between two that are frequent")
    comb_fraction: Share = Field(description="share of pixels on the values beside them")
    zero_fraction: Share
    full_fraction: Share = Field(description="share at the container's full scale")
    at_top: Count = Field(description="pixels at the highest value")
    beneath: Count = Field(description="pixels on the sixteen levels beneath it")
    at_bottom: Count = Field(description="pixels at the lowest value")
    above: Count = Field(description="pixels on the sixteen levels above it")
    byte_order: float | None = Field(description="how rough it is, over how rough with its bytes swapped")
    wrap: float = Field(description="share of the differences left when taken modulo the container")
    grid: float = Field(description="differences across the edges of 8 x 8 blocks over those elsewhere")
    blocks: list[BlockStepsEntry]
    first_bin: Count = Field(description="the first bin that has any pixels, as in plate.json's histograms")
    histogram: list[Count] = Field(description="pixels in each bin from there on")


class ConditionsEntry(Document):
    """How it was at the instrument when the plane was taken; null where it does not say."""

    taken_at: LocalTime | None = Field(
        description="ISO 8601, by the instrument's own clock, with its offset if it says"
    )
    temperature_c: float | None = Field(description="of its stage, in degrees Celsius")


class InputEntry(Document):
    """One accepted plane, and what became of it."""

    path: str = Field(
        description="relative to the watched folder (plate.json: root); with #3 at its end: page 4 of that file"
    )
    size_bytes: Count
    mtime_ns: int
    sha256: Sha256
    channel: str
    channel_id: str = Field(description="as the instrument writes it")
    site: int
    z: int = Field(description="step of a stack, from 1; 0: no step of one, but the instrument's own projection")
    observed_bits: Count
    min: Count
    max: Count
    used: Used
    shape: tuple[int, int] = Field(description="height, width in pixels")
    container: str
    saturated_fraction: float
    focus: float | None
    sharpness: float | None = Field(None, description="variance of the Laplacian, counts²; compares steps of one stack")
    quality: PlaneQualityEntry | None = Field(None, description="null in results of versions before it")
    evidence: EvidenceEntry | None = Field(None, description="null in results of versions before it")
    oddities: list[str] = Field(
        default_factory=list,
        description="what is odd in the evidence and proves nothing, as docs/forensics.md names it",
    )
    conditions: ConditionsEntry | None = Field(None, description="null where the instrument says nothing of them")
    pixel_digest: Sha256 | None = Field(
        None, description="of the pixels, whatever file holds them, as in site_results.steps; null before it was taken"
    )
    seen_at: AwareDatetime


class TimingEntry(Document):
    """Wall clock in UTC; the latency is measured by the monotonic clock."""

    first_plane_at: AwareDatetime
    last_plane_at: AwareDatetime
    published_at: AwareDatetime
    latency_s: float = Field(description="seconds from the last plane being complete to this file")


class StepEntry(Document):
    """What the site's images were at one step of their way into the model, for `hcs-daemon trace`."""

    step: str = Field(description="projected, corrected (flat field), resampled, normalised, tensor")
    shape: list[int] = Field(description="of one channel's image; of the tensor: tiles, channels, height, width")
    dtype: str
    min: list[float | None] = Field(description="a channel each, in channel order; one for the tensor; null: infinite")
    max: list[float | None] = Field(description="as min")
    mean: list[float | None] = Field(description="as min")
    digest: list[Sha256] = Field(description="of the values, as docs/trace.md says; empty where none was taken")


class SiteResultEntry(Document):
    """What the model said of one analysed site."""

    site: int
    key: list[Sha256] = Field(
        description="in channel order: the digest of its plane's file, or of all that its image was made from and how"
    )
    label: str
    logits: list[float]
    embedding: list[float]
    focus: dict[str, float | None]
    saturated_fraction: dict[str, float]
    flags: list[str] = Field(default_factory=list, description="as in quality, of this site")
    novelty: float | None = Field(None, description="the score of its own embedding; null as in prediction")
    steps: list[StepEntry] = Field(
        default_factory=list, description="from planes to tensor; empty in results of versions before it"
    )


class WellResult(Document):
    """One revision of a well's result: `wells/B03.json`, `revisions/B03.r1.json`."""

    schema_: Literal["hcs-daemon/well-result/1"] = Field("hcs-daemon/well-result/1", alias="schema")
    plate: str
    acquisition: str
    well: str
    time: int = Field(1, ge=1, description="time point, counted from 1")
    content: ContentEntry | None = Field(None, description="null where no layout says what is in the well")
    status: WellStatus
    revision: int = Field(ge=1)
    supersedes: int | None
    sites: SitesEntry
    channels: list[str]
    projection: Projection | None = Field(
        None, description="what of a z stack was analysed: a manner, or a step's number"
    )
    flatfield: str = Field("", description="in words, what was taken out of the images before; empty for nothing")
    prediction: PredictionEntry | None
    explanation: ExplanationEntry | None
    quality: QualityEntry
    model: ModelEntry
    settings_fingerprint: Sha256 = Field(description="of expectations, model and explain.method; see plate.json")
    timing: TimingEntry
    warnings: list[str]
    classes: list[str] = Field(description="the order of logits; empty for a model that only embeds")
    site_results: list[SiteResultEntry]
    inputs: list[InputEntry]


class RejectionLine(Document):
    """One rejected file; the newest line of a path counts."""

    schema_: Literal["hcs-daemon/rejection/1"] = Field("hcs-daemon/rejection/1", alias="schema")
    at: AwareDatetime
    path: str
    sha256: Sha256 | None
    reason: Reason
    detail: str
    hint: str
    plate: str | None = None
    acquisition: str | None = None
    well: str | None = None
    time: int | None = None
    site: int | None = None
    channel: str | None = None
    channel_id: str | None = None
    z: int | None = None
    size_bytes: Count
    mtime_ns: int
    withdrawn: bool = False
    evidence: EvidenceEntry | None = Field(None, description="what its pixels said, where they count; as in inputs")
    pixel_digest: Sha256 | None = Field(None, description="where another file has its pixels; as in inputs")


class LedgerLine(Document):
    """One well revision, chained to the line before."""

    schema_: Literal["hcs-daemon/ledger/1"] = Field("hcs-daemon/ledger/1", alias="schema")
    number: int = Field(ge=1)
    time: AwareDatetime
    path: str = Field(description="of the well's newest revision, relative to the results folder")
    revision: int = Field(ge=1)
    sha256: Sha256 = Field(description="of this revision's bytes")
    previous: Sha256 = Field(description="of the line before, without its newline; 64 zeros in the first")


class HistogramEntry(Document):
    """How many pixels lie where: counts[i] of them from edges[i] to below edges[i + 1]."""

    edges: list[Count] = Field(description="raw counts")
    counts: list[Count]


class DepthEntry(Document):
    """What a channel's planes so far say about its declared bit depth."""

    declared: int
    verdict: Verdict
    evidence: str
    confidence: Share = Field(0.0, description="how sure the verdict is, as docs/forensics.md derives it")
    planes: Count = Field(0, description="how many were read")
    histogram: HistogramEntry | None = Field(None, description="of all their pixels; null before the first")
    noise_floor: float | None = Field(None, description="counts, the median of its planes' noise")


class ContrastEntry(Document):
    """The raw counts that pictures of this plate show as black and as white."""

    black: float
    white: float


class ExpectedEntry(Document):
    """What will come, as far as anything says; null where nothing does."""

    source: str = Field(description="metadata (the instrument's), settings, or learned (from wells whose time ran out)")
    wells: int | None
    planes: int | None
    sites: int | None = Field(description="of a well, at most")
    time_points: int | None
    z_steps: int | None = Field(description="the most of any plane; an instrument's own projection is none")
    rows: int | None
    columns: int | None


class ChannelEntry(Document):
    """How the instrument took a channel, as far as it says; empty or null where it does not."""

    id: str = Field(description="as in the file names")
    name: str = Field(description="the instrument's")
    excitation_nm: float | None
    emission_nm: float | None
    exposure_ms: float | None
    pixel_size_um: float | None
    objective: str
    bit_depth: int | None = Field(description="as the instrument declares it")
    projection: str = Field("", description="how the instrument made one image of a stack, in its words")


class ExchangedEntry(Document):
    """Two channels of a site that look like each other's; nothing is refused for it."""

    well: str = Field(description="stem of its result")
    site: int
    channels: tuple[str, str]
    gain: float = Field(description="of exchanging them, in the natural logarithm of the likelihood")


class ChannelFitEntry(Document):
    """Whether the sites' channels are what they are called, by what the plate's others look like: docs/channels.md."""

    sites: Count = Field(description="how many were compared")
    told_apart: list[tuple[str, str]] = Field(description="the pairs of channels of which an exchange would be seen")
    exchanged: list[ExchangedEntry]


class LayoutEntry(Document):
    """The file that says what is in the wells, and why it is refused."""

    source: str
    sha256: Sha256 | None = Field(description="of the file as it was last read; null where it cannot be read")
    problem: str = Field("", description="why it is refused, and what to do; empty where it is joined into the results")


class JudgementEntry(Document):
    """What all pictures of the plate say of each other; the wells' own files say what was known when they came."""

    flags: dict[str, list[str]] = Field(description="by the stem of the well's result; wells without any are left out")
    notes: list[str] = Field(description="of the plate as a whole, in words: drift, edge, temperature")


class CommandEntry(Document):
    """What became of results.on_plate_finished for this plate, as it is now."""

    result: Literal["waiting", "succeeded", "failed"] = Field(
        description="waiting: to be run, or under way; failed: five times or more, or at the last try of process"
    )
    tries: Count = 0
    ended_at: AwareDatetime | None = None
    exit_code: int | None = Field(None, description="null where it did not end by itself")
    detail: str = Field("", description="why it failed, and the end of what it wrote on standard error")


class VersionsEntry(Document):
    """The programs that made the results."""

    hcs_daemon: str
    python: str
    numpy: str


class PlateFile(Document):
    """One acquisition of a plate: `plate.json`."""

    schema_: Literal["hcs-daemon/plate/1"] = Field("hcs-daemon/plate/1", alias="schema")
    plate: str
    acquisition: str
    state: PlateState
    root: str = Field(description="the watched folder that inputs are relative to")
    folder: str = Field(description="the measurement's folder below the root")
    instrument: str
    instrument_plate_id: str | None
    instrument_measurement_id: str | None
    opened_at: AwareDatetime
    finished_at: AwareDatetime | None
    expectations: dict[str, Any]
    expectations_from: str
    shape: tuple[int, int] | None = Field(description="height, width of its planes in pixels")
    pixel_size_um: float | None
    sites_per_well: int | None
    expected: ExpectedEntry | None = None
    channels: dict[str, ChannelEntry] = Field(
        default_factory=dict, description="by the settings' names; one that is not analysed, by its id"
    )
    projection: Projection | None = Field(None, description="as in a well")
    flatfield: str = Field("", description="as in a well")
    layout: LayoutEntry | None = Field(None, description="null where there is none")
    problem: str = Field("", description="why no site of it can be analysed; empty where they can")
    warnings: list[str] = Field(default_factory=list, description="what is odd about the plate as a whole, in words")
    channel_fit: ChannelFitEntry | None = Field(None, description="null in files of versions before it")
    settings: dict[str, Any]
    settings_fingerprint: Sha256
    model: ModelEntry
    randomisation: RandomisationEntry | None = Field(
        None, description="of the model; null where nothing is explained, and in files of versions before it"
    )
    versions: VersionsEntry
    bit_depth: dict[str, DepthEntry]
    quality: JudgementEntry | None = Field(None, description="null in files of versions before it")
    counts: dict[str, int] = Field(description="planes by outcome; wells seen")
    wells: dict[WellStatus, int] = Field(description="results published, by status: a well has one a time point")
    revisions: int = Field(0, description="the wells' revision numbers, summed: how new the tables are")
    verdicts: dict[str, int] = Field(description="results published, by label")
    contrast: dict[str, ContrastEntry] | None = Field(description="raw counts, once pictures are drawn")
    on_plate_finished: CommandEntry | None = Field(
        None, description="null while it is acquiring, and where no command was set when it was finished"
    )


SCHEMAS: dict[str, type[Document]] = {
    "well-result": WellResult,
    "rejection": RejectionLine,
    "ledger": LedgerLine,
    "plate": PlateFile,
}
"""File stem of the schema -> its model."""


def schema_text(model: type[Document]) -> str:
    """The model's JSON Schema, as it stands in docs/schemas."""
    return json.dumps(model.model_json_schema(by_alias=True), indent=1, sort_keys=True) + "\n"


def write_schemas(folder: Path) -> None:
    """Write every JSON Schema into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, model in SCHEMAS.items():
        (folder / f"{stem}.schema.json").write_text(schema_text(model), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
