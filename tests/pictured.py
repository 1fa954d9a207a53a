"""Results and pixels to be drawn, made by hand."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from fakes import CHANNELS
from hcs_daemon.publish.panels import AttributionPanels, SitePanels
from hcs_daemon.publish.schemas import (
    ChangeEntry,
    ChecksEntry,
    ExplanationEntry,
    InputEntry,
    ModelEntry,
    PlateFile,
    PredictionEntry,
    QualityEntry,
    SiteExplanationEntry,
    SiteResultEntry,
    SitesEntry,
    TimingEntry,
    VersionsEntry,
    WellResult,
)
from hcs_daemon.publish.studio import WellPicture
from hcs_daemon.vocabulary import PlateState, Used, WellStatus

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SHARES = {"DNA": 0.3, "ER": -0.9, "RNA": 0.1, "AGP": 0.2, "Mito": 2.4}
CLASSES = ["control", "mito_fragmented", "er_stress"]


def decoded(png: bytes) -> NDArray[np.uint8]:
    """(height, width, 3) of a PNG file."""
    pixels = np.asarray(imagecodecs.png_decode(png))
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    return pixels


def model(*, demonstration: bool = False) -> ModelEntry:
    """The model of all results here."""
    return ModelEntry(
        name="tiny",
        version="1.0",
        sha256="4f2a9c01" + "0" * 56,
        device="cpu",
        control_class="control",
        demonstration=demonstration,
    )


def well_result(**changed: Any) -> WellResult:
    """A hit in B03 with one site, number 3, not explained; `changed` replaces any field."""
    values: dict[str, Any] = {
        "plate": "P1",
        "acquisition": "a1",
        "well": "B03",
        "status": WellStatus.COMPLETE,
        "revision": 2,
        "supersedes": 1,
        "sites": SitesEntry(expected=1, analysed=1, missing=[], rejected=[], failed=[]),
        "channels": list(CHANNELS),
        "prediction": verdict(),
        "explanation": None,
        "quality": QualityEntry(focus=dict.fromkeys(CHANNELS, 0.5), saturated_fraction={}, flags=[]),
        "model": model(),
        "settings_fingerprint": "0" * 64,
        "timing": TimingEntry(first_plane_at=NOON, last_plane_at=NOON, published_at=NOON, latency_s=0.8),
        "warnings": [],
        "classes": CLASSES,
        "site_results": [site_result(3)],
        "inputs": [plane_of(3, channel) for channel in CHANNELS],
    }
    return WellResult(**{**values, **changed})


def verdict(label: str = "mito_fragmented", probability: float = 0.93, *, hit: bool = True) -> PredictionEntry:
    """The well's verdict; the rest of the probability is the control's."""
    probabilities = {"control": 1 - probability, label: probability}
    return PredictionEntry(label=label, probabilities=probabilities, site_agreement=1.0, hit=hit, representative_site=3)


def site_result(
    site: int, logits: Sequence[float] = (0.0, 3.0, 0.0), label: str = "mito_fragmented"
) -> SiteResultEntry:
    """What the model said of a site."""
    return SiteResultEntry(
        site=site, key=[], label=label, logits=list(logits), embedding=[], focus={}, saturated_fraction={}
    )


def plane_of(
    site: int, channel: str, used: Used = Used.ANALYSED, lowest: int = 174, highest: int = 28340
) -> InputEntry:
    """An accepted plane."""
    return InputEntry(
        path=f"{channel}.tiff",
        size_bytes=1,
        mtime_ns=1,
        sha256="0" * 64,
        channel=channel,
        channel_id=channel,
        site=site,
        z=1,
        observed_bits=15,
        min=lowest,
        max=highest,
        used=used,
        shape=(64, 64),
        container="uint16",
        saturated_fraction=0.0,
        focus=0.5,
        seen_at=NOON,
    )


def explanation(
    shares: Mapping[str, float] = SHARES, spread: Mapping[str, float] | None = None, *, passed: bool = True
) -> ExplanationEntry:
    """Why the well's site 3 looks as it does."""
    checks = ChecksEntry(
        completeness_error=0.003 if passed else 0.12,
        efficiency_error=1e-6,
        deletion_auc=0.21,
        random_deletion_auc=0.48,
        passed=passed,
        failed=[] if passed else ["completeness"],
    )
    entry = SiteExplanationEntry(
        site=3,
        channel_shapley=dict(shares),
        channel_spread=None if spread is None else dict(spread),
        change=ChangeEntry(from_=0.0, to=sum(shares.values())),
        checks=checks,
    )
    return ExplanationEntry(
        method="sums", target="mito_fragmented", against="control", reference="one control site", sites=[entry]
    )


def site_panels_of(channels: int = 5, side: int = 140, level: int = 1000, um_per_px: float = 4.0) -> SitePanels:
    """A site whose every pixel in channel c has (c + 1) times `level` counts."""
    levels = np.arange(1, channels + 1, dtype=np.uint16) * np.uint16(level)
    return SitePanels(3, np.broadcast_to(levels[:, None, None], (channels, side, side)).copy(), um_per_px)


def attribution_of(
    channels: int = 5, *, passed: bool = True, positive: bool = True, name: str = "control, well B11"
) -> AttributionPanels:
    """One bump of attribution in the middle, and a control whose pixels have half of the site's counts."""
    rows, columns = np.mgrid[:70, :70]
    bump = np.exp(-((rows - 35) ** 2 + (columns - 35) ** 2) / 200).astype(np.float32)
    heat = np.zeros((channels, 70, 70), np.float32)
    heat[0] = bump if positive else -bump
    levels = np.arange(1, channels + 1, dtype=np.uint16) * np.uint16(500)
    reference = np.broadcast_to(levels[:, None, None], (channels, 60, 60)).copy()
    return AttributionPanels(3, passed, heat, reference, 4.0, name)


CONTRAST = dict.fromkeys(CHANNELS, (0.0, 10000.0))


def explained_picture(*, passed: bool = True, positive: bool = True, **changed: Any) -> WellPicture:
    """A well with everything: pixels, attribution, control, the plate's contrast."""
    result = well_result(**{"explanation": explanation(passed=passed), **changed})
    attribution = attribution_of(passed=passed, positive=positive)
    return WellPicture(result, (), site_panels_of(), attribution, CONTRAST)


def plate_file(**changed: Any) -> PlateFile:
    """A finished plate; `changed` replaces any field."""
    values: dict[str, Any] = {
        "plate": "P1",
        "acquisition": "a1",
        "state": PlateState.FINISHED,
        "root": "/data/in",
        "folder": "P1__a1",
        "instrument": "harmony",
        "instrument_plate_id": None,
        "instrument_measurement_id": None,
        "opened_at": NOON,
        "finished_at": NOON,
        "expectations": {},
        "expectations_from": "settings",
        "shape": (64, 64),
        "pixel_size_um": 1.0,
        "sites_per_well": 1,
        "settings": {"model": {"hit_probability": 0.9}},
        "settings_fingerprint": "0" * 64,
        "model": model(),
        "versions": VersionsEntry(hcs_daemon="0.1.0", python="3.11", numpy="2"),
        "bit_depth": {},
        "counts": {},
        "wells": {},
        "verdicts": {},
        "contrast": None,
    }
    return PlateFile(**{**values, **changed})
