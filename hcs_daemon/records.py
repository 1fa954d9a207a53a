"""The frozen records that flow from stage to stage; no behaviour.

    Sighting -> StableFile -> PlaneId -> Plane | Rejection -> Site -> Prediction -> Attribution -> WellResult

Arrays inside records are read-only by agreement: whoever makes one hands it over and forgets it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.novelty import Novelty
from hcs_daemon.plate import AcquisitionId, PlaneId, PlateLayout, SiteId, WellId, split_page
from hcs_daemon.vocabulary import CommandResult, PlateState, Reason, Used, Verdict, WellStatus

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""(height, width) or (channels, height, width), raw counts."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One look at a file. is_folder: it is none, and only has an image's name."""

    path: Path
    size_bytes: int
    mtime_ns: int
    is_folder: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class StableFile:
    """A file the instrument has finished writing.

    size_bytes and mtime_ns are those seen on two looks at least `settle_s` apart.
    """

    path: Path
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """The very bytes a plane came from. `path` is relative to the watched folder, with `/`."""

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PlaneQuality:
    """How good the picture in a plane is; measured by `intake.quality`, explained in docs/quality.md.

    background: raw counts, at the middle of the field. noise: raw counts, standard deviation of one pixel in the dark
    parts. foreground_fraction: share of the plane that stands above its background. bright: raw counts above the
    background that the brighter parts of the foreground have. spots: how many separate bright objects there are; of a
    nuclear stain a proxy of the number of cells. debris_fraction: share of the plane in spots far brighter than that.
    unevenness: share of its light that the background loses from its brightest to its darkest part of the field.
    power_slope: of log power against log frequency, white noise taken out (dimensionless, steeper is more blurred);
    None where nothing stands above the noise.
    """

    background: float
    noise: float
    foreground_fraction: float
    bright: float
    spots: int
    debris_fraction: float
    unevenness: float
    power_slope: float | None


@dataclass(frozen=True, slots=True)
class BlockSteps:
    """How a plane's histogram steps from level to level, at the edges of blocks of 2**bits levels and inside them.

    A step's height is squared and divided by what chance gives it, the sum of both levels' pixels. edges, others: how
    many steps. edge_sum, other_sum: of their heights, dimensionless. What was multiplied by 2**bits and filled up with
    noise steps at the edges alone.
    """

    bits: int
    edges: int
    edge_sum: float
    others: int
    other_sum: float


@dataclass(frozen=True, slots=True)
class PlaneEvidence:
    """What a plane's pixels say of how they were encoded; gathered by `intake.forensics`, told in docs/forensics.md.

    lowest, highest: raw counts. pixels, levels: how many, and how many distinct values. ored: the bitwise OR of all
    values. step: the greatest common divisor of the steps between the values that occur, 0 of a constant plane.
    gaps: how many stretches of values are left out between two values so frequent that chance does not leave any out;
    comb_fraction: share of pixels on the values beside such gaps.
    zero_fraction, full_fraction: share at zero and at the container's full scale. at_top, beneath: pixels at the
    highest value, and on the sixteen levels beneath it; at_bottom, above: likewise at the lowest. byte_order: how
    rough the plane is over how rough it would be with its bytes swapped, None of single bytes. wrap: the share of
    the differences between neighbours below full scale that is left when they are taken modulo the container; 1 unless
    many jump by more than half of it. grid: how much larger the differences across the edges of 8 x 8 blocks are than
    elsewhere, as a ratio. blocks: for sources of fewer bits that were filled up with noise. histogram: pixels in each
    of the bins of `levels.BIN_EDGES` from first_bin on, to the last that has any.
    """

    pixels: int
    lowest: int
    highest: int
    ored: int
    levels: int
    step: int
    gaps: int
    comb_fraction: float
    zero_fraction: float
    full_fraction: float
    at_top: int
    beneath: int
    at_bottom: int
    above: int
    byte_order: float | None
    wrap: float
    grid: float
    blocks: tuple[BlockSteps, ...]
    first_bin: int
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlaneConditions:
    """How it was at the instrument when a plane was taken, as far as it says; None where it does not.

    taken_at: its own clock. temperature_c: of its stage, in degrees Celsius.
    """

    taken_at: datetime | None = None
    temperature_c: float | None = None


@dataclass(frozen=True, slots=True)
class PlaneMeasures:
    """What one pass over a plane's pixels found.

    minimum, maximum: raw counts. observed_bits: the highest bit that occurs, counted from 1.
    saturated_fraction: share of pixels at the declared depth's full scale.
    focus: variance of the Laplacian over the variance of the pixels (dimensionless, higher is sharper),
    on the central crop; after Pech-Pacheco et al., ICPR 2000. sharpness: the variance of the Laplacian alone, counts²:
    of planes of one scene the sharpest has most, and not the emptiest; None in results of versions before it.
    quality, evidence: likewise. oddities: what is odd in the evidence and proves nothing, by short names that
    docs/forensics.md explains (`gaps`, `floor`, `ceiling`, `jpeg_grid`, `signed`). pixel_digest: of the pixels alone,
    whatever file holds them (`steps.digest_of`); None in results of versions before it.
    """

    minimum: int
    maximum: int
    observed_bits: int
    saturated_fraction: float
    focus: float
    quality: PlaneQuality | None = None
    sharpness: float | None = None
    evidence: PlaneEvidence | None = None
    oddities: tuple[str, ...] = ()
    pixel_digest: str | None = None


@dataclass(frozen=True, slots=True)
class PlaneRecord:
    """An accepted plane without its pixels: enough to read them again and know that they are the same.

    channel: the name from the settings (`DNA`). shape: (height, width). seen_at: UTC wall clock.
    conditions: None where the instrument says nothing of them in the file.
    """

    id: PlaneId
    channel: str
    source: SourceFile
    shape: tuple[int, int]
    container: str
    measures: PlaneMeasures
    seen_at: datetime
    conditions: PlaneConditions | None = None

    @property
    def content(self) -> str:
        """The SHA-256 of its file; of a page of a bundle, whose pages all have that, with the page's number."""
        _, page = split_page(Path(self.source.path))
        return self.source.sha256 if page is None else f"{self.source.sha256}#{page}"

    @property
    def part(self) -> str:
        """What it is of its channel's image: two steps of equal bytes are two."""
        return f"z{self.id.z} {self.content}"


@dataclass(frozen=True, slots=True)
class Plane:
    """An accepted plane. pixels: (height, width), raw counts in the container's own type."""

    record: PlaneRecord
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Rejection:
    """A file that must not be analysed, why, and what a person can do about it.

    `path` is relative to the watched folder. `plane` is None where the name said nothing.
    `withdrawn`: takes an earlier rejection of the same path back. `evidence`: what its pixels said, where
    they were read and count for their channel's bit depth. `pixel_digest`: where it is refused because another file has
    its pixels.
    """

    at: datetime
    path: str
    reason: Reason
    detail: str
    hint: str
    size_bytes: int
    mtime_ns: int
    sha256: str | None = None
    acquisition: AcquisitionId | None = None
    plane: PlaneId | None = None
    channel: str | None = None
    withdrawn: bool = False
    evidence: PlaneEvidence | None = None
    pixel_digest: str | None = None


@dataclass(frozen=True, slots=True)
class ChannelImage:
    """What is analysed of one channel of a site: a plane, or several made into one image.

    planes: by z. projection: how several are made one: `max` or `mean`; empty for a single one. correction: the digest
    of the flat field taken out of it, empty for none.
    """

    planes: tuple[PlaneRecord, ...]
    projection: str = ""
    correction: str = ""

    @property
    def key(self) -> str:
        """What the image is made of: the SHA-256 of its file, or of all that it was made from and how."""
        contents = [plane.content for plane in self.planes]
        if contents == [self.planes[0].source.sha256] and not self.correction:
            return contents[0]
        return hashlib.sha256("\n".join([self.projection, self.correction, *contents]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What a site's images were at one step of their way into the model, as `trace` compares it.

    step: `projected` and `corrected` (counts), `resampled` and `normalised`: an image a channel, in the model's order;
    `tensor`: all its tiles as one array. shape, dtype: of one of them. minimum, maximum, mean: of each, to nine digits.
    digest: of each one's bytes (`steps.digest_of`), empty where none was taken.
    """

    step: str
    shape: tuple[int, ...]
    dtype: str
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    mean: tuple[float, ...]
    digest: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """All channels of one field of view, ready for the device.

    images: in the model's channel order. pixels: (channels, height, width), counts, the same order. pixel_size_um: of
    these pixels. steps: what they were so far; only of a site that is to be predicted.
    """

    id: SiteId
    images: tuple[ChannelImage, ...]
    pixels: Pixels
    pixel_size_um: float
    steps: tuple[StepRecord, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """`ChannelImage.key` of each channel, in order: what a prediction of this site stands for."""
        return tuple(image.key for image in self.images)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one site.

    key: `Site.key` of the pixels it saw. logits: (classes,) float32. embedding: (features,) float32.
    infer_s: this site's share of the batch's time, in seconds. failure: in words, when the model gave
    nothing that can be used (not finite); then logits and embedding are as they came. steps: what its images were,
    from the projected planes to the tensor.
    """

    site: SiteId
    key: tuple[str, ...]
    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    infer_s: float
    failure: str | None = None
    steps: tuple[StepRecord, ...] = ()


COMPLETENESS_LIMIT, EFFICIENCY_LIMIT = 0.05, 0.001
"""An explanation whose errors are larger fails its checks."""
CHANGE_LIMIT = 0.5
"""So large a part of the site's contrast must be the change from the references, or nothing is explained."""
INSERTION_LIMIT = 0.05
"""So much larger than the deletion area must the insertion area be, as a share of the fall in probability."""


@dataclass(frozen=True, slots=True)
class ExplanationChecks:
    """Whether an explanation holds. Errors are relative to the change in the logit contrast explained.

    completeness_error: |sum of attributions - change| / |change| (Sundararajan et al. 2017).
    efficiency_error: the same of the Shapley values. deletion_auc, random_deletion_auc: mean probability of
    the target while the most (or randomly chosen) attributed blocks are replaced by the reference;
    intensity_deletion_auc: those whose light differs most from the reference's. insertion_auc, random_insertion_auc:
    while the most (or randomly chosen) attributed blocks take their place in the reference. noise_sensitivity: relative
    change of the map under noise. on_cells: share of the attribution on cells; cells_area: their share of the site.
    None: not computed. failed: the names of the checks that failed; passed when there are none.
    """

    completeness_error: float
    efficiency_error: float
    deletion_auc: float
    random_deletion_auc: float
    passed: bool
    insertion_auc: float | None = None
    random_insertion_auc: float | None = None
    intensity_deletion_auc: float | None = None
    noise_sensitivity: float | None = None
    on_cells: float | None = None
    cells_area: float | None = None
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attribution:
    """Why the model said what it said of one site.

    target: the class explained; against: the class it is contrasted with; what is explained is
    logit(target) - logit(against), from `reference_contrast` (the control) to `contrast` (the site).
    reference: in words, what an absent channel was replaced by. channel_shapley: Shapley value by
    channel, in logits, the mean over the reference sites; channel_spread: its standard deviation over them (n - 1),
    None where there is one only; channel_error: its standard error where it was sampled, None where it is exact.
    interactions: what each pair of channels brings beyond what each brings, in logits (Shapley interaction index),
    empty where it was not computed. heat: (channels, height, width) float32 logits a pixel, by `method`, at the
    model's pixel size, in the site's own frame. reference_pixels: (channels, height, width) raw counts, one control
    picture at the model's pixel size, for display.
    """

    site: SiteId
    key: tuple[str, ...]
    method: str
    target: str
    against: str
    reference: str
    contrast: float
    reference_contrast: float
    channel_shapley: Mapping[str, float]
    checks: ExplanationChecks
    heat: NDArray[np.float32]
    reference_pixels: Pixels
    reference_name: str
    explain_s: float
    channel_spread: Mapping[str, float] | None = None
    channel_error: Mapping[str, float] | None = None
    interactions: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Randomisation:
    """What became of a network's maps and answers when its weights were randomised, once, when it was loaded.

    maps_alike: rank correlation with its own maps, as more layers are randomised from the top; empty where it has no
    weights. named: the share of its package's reference sites that it gives their own class; named_at_random: the
    best of its copies with permuted weights; None where the references are too few to tell. problem: in words, why its
    explanations are not to be relied upon; empty where they hold.
    """

    maps_alike: tuple[float, ...]
    named: float | None
    named_at_random: float | None
    problem: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the rest of the house may know about the model in use.

    classes: empty, and control_class too, for a model that only embeds: its wells have no verdict. novelty: how unlike
    its training wells a well is; None where its package does not know. randomisation: whether its explanations tell of
    what it learned; None where nothing is explained. warnings: of its package. references: the classes that it has
    reference sites of, with which a verdict of another class is compared.
    """

    name: str
    version: str
    sha256: str
    device: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    control_class: str
    tile_px: int
    pixel_size_um: float
    bit_depth: int
    container: str
    demonstration: bool
    novelty: Novelty | None = None
    randomisation: Randomisation | None = None
    warnings: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputUse:
    """An accepted plane and what became of it."""

    plane: PlaneRecord
    used: Used


@dataclass(frozen=True, slots=True)
class LackingPlane:
    """A plane that a site waits for in vain.

    channel: the settings' name. refused: it came and was rejected, or the instrument says that it was not taken.
    """

    site: int
    channel: str
    z: int
    refused: bool = False


@dataclass(frozen=True, slots=True)
class WellClosed:
    """Intake's word on a well: these planes are all there is for now.

    expected_sites: how many the well should have. ready: site number -> `Site.key` of every site with all
    channels. missing: site numbers without all their planes, that may still come; rejected: site numbers
    whose last hope was a rejected plane. pending: True if a missing plane may still come.
    last_plane_s: monotonic seconds at which the last plane was complete. lacking: the planes that the missing and the
    rejected sites lack. flatfield: in words, what was taken out of the images; empty for nothing.
    """

    well: WellId
    expected_sites: int
    ready: Mapping[int, tuple[str, ...]]
    missing: tuple[int, ...]
    rejected: tuple[int, ...]
    pending: bool
    inputs: tuple[InputUse, ...]
    first_plane_at: datetime
    last_plane_at: datetime
    last_plane_s: float
    warnings: tuple[str, ...] = ()
    lacking: tuple[LackingPlane, ...] = ()
    flatfield: str = ""


@dataclass(frozen=True, slots=True)
class ChannelDepth:
    """What a channel's planes so far say about its declared bit depth.

    evidence: in words. confidence: how sure the verdict is, from 0 to 1, as docs/forensics.md derives it. planes: how
    many were read. histogram: of all their pixels, a count for each bin of `levels.BIN_EDGES`, empty before the first.
    noise_floor: counts, the median of its planes' noise; None where none was measured.
    """

    declared: int
    verdict: Verdict
    evidence: str
    confidence: float = 0.0
    planes: int = 0
    histogram: tuple[int, ...] = ()
    noise_floor: float | None = None


@dataclass(frozen=True, slots=True)
class ExpectedPlate:
    """What will come, as far as anything says. The first two: how many wells and planes, None where unknown.

    source: `metadata` (the instrument's), `settings`, `learned` (from wells whose time ran out). sites: a well at
    most. time_points, z_steps: as many as any plane has; z_steps does not count an instrument's projection.
    rows, columns: of the plate.
    """

    source: str
    wells: int | None = None
    planes: int | None = None
    sites: int | None = None
    time_points: int | None = None
    z_steps: int | None = None
    rows: int | None = None
    columns: int | None = None


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """How an instrument took a channel, as far as it says; None and empty where it does not.

    Wavelengths are in nm, exposure in ms, pixel size in micrometres. id: as in the file names. name: the instrument's,
    such as `HOECHST 33342`. objective: such as `20x, NA 0.4`. bit_depth: as declared. projection: how the instrument
    made one image of a stack, in its words.
    """

    id: str = ""
    name: str = ""
    excitation_nm: float | None = None
    emission_nm: float | None = None
    exposure_ms: float | None = None
    pixel_size_um: float | None = None
    objective: str = ""
    bit_depth: int | None = None
    projection: str = ""


@dataclass(frozen=True, slots=True)
class PlateNews:
    """Intake's word on a plate, sent when it opens, now and then, and when it finishes.

    root: the watched folder that inputs are relative to. shape: (height, width) of its planes or None.
    counts: planes accepted, rejected, duplicate, ignored so far; wells seen. taken: the settings' channel name (of a
    channel that is not analysed, its id) -> how it was taken. layout: what is in the wells, by the instrument.
    flatfield: in words, what is taken out of the images. problem: in words, why no site of it can be analysed.
    warnings: in words, what is odd about the plate as a whole.
    """

    acquisition: AcquisitionId
    state: PlateState
    root: Path
    folder: str
    instrument: str
    shape: tuple[int, int] | None
    pixel_size_um: float | None
    expected: ExpectedPlate
    bit_depth: Mapping[str, ChannelDepth]
    counts: Mapping[str, int]
    instrument_plate_id: str | None = None
    instrument_measurement_id: str | None = None
    taken: Mapping[str, ChannelFacts] = field(default_factory=dict)
    layout: PlateLayout | None = None
    flatfield: str = ""
    problem: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SiteWanted:
    """Publish asks intake for a site's pixels once more: to be explained (target given), or only drawn.

    predict: the device is to predict it anew instead, for what it said of this key was lost; no answer comes but the
    prediction. urgent: a well waits for it to be written; otherwise only a picture does.
    """

    site: SiteId
    key: tuple[str, ...]
    explain_target: str | None = None
    explain_against: str | None = None
    predict: bool = False
    urgent: bool = True


@dataclass(frozen=True, slots=True)
class SiteReturned:
    """The answer to `SiteWanted`.

    site is None when its files are gone or changed. attribution is None when none was asked for or it was not
    possible; then `problem` says why.
    """

    wanted: SiteWanted
    site: Site | None
    attribution: Attribution | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ExplainTask:
    """A loaded site on its way to be explained."""

    wanted: SiteWanted
    site: Site


@dataclass(frozen=True, slots=True)
class FinishedPlate:
    """A plate for which results.on_plate_finished is to be run.

    folder: of its results. revisions: its wells' revision numbers, summed: of what it is told. status: whether every
    expected well is complete.
    """

    acquisition: AcquisitionId
    folder: Path
    finished_at: datetime
    revisions: int
    status: WellStatus


@dataclass(frozen=True, slots=True)
class CommandEnded:
    """What came of the command for a plate, after its last try. exit_code: None where it did not end by itself."""

    plate: FinishedPlate
    result: CommandResult
    tries: int
    exit_code: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class RestoredWell:
    """A well as an earlier run published it.

    predicted: site number -> `Site.key` of what was analysed. explained: False where that run was stopped before.
    """

    well: WellId
    revision: int
    status: WellStatus
    inputs: tuple[InputUse, ...]
    predicted: Mapping[int, tuple[str, ...]]
    first_plane_at: datetime
    last_plane_at: datetime
    explained: bool = True


@dataclass(frozen=True, slots=True)
class RestoredPlate:
    """What the results folder says of a plate. rejections: the newest line a path, not withdrawn.

    root: the folder that its inputs are relative to, where plate.json says it. pixel_size_um: as it was known then.
    outdated: it was made with another model or other expectations. One that is still acquiring is then done
    again as a whole; a finished one is left, unless a new plane comes.
    """

    acquisition: AcquisitionId
    state: PlateState
    shape: tuple[int, int] | None
    outdated: bool
    wells: tuple[RestoredWell, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    root: str | None = None
    pixel_size_um: float | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """Everything the results folder says. rejections: of files that belong to no plate.

    first_started_at: the earliest moment, UTC, of which an earlier run left a trace; None where it left none.
    """

    plates: tuple[RestoredPlate, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    first_start: bool = True
    first_started_at: datetime | None = None
