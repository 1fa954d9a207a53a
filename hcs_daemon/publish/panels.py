"""Pixels reduced to what a picture shows, so that drawings can wait without holding sites in memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hcs_daemon.records import Attribution, Pixels, Site

PANEL_PX = 560
"""The longest side of a panel of a site; a 2160-pixel plane becomes 20 times smaller."""
HEAT_PX = 200
"""The same of an attribution, whose contours are smooth."""


@dataclass(frozen=True, slots=True)
class SitePanels:
    """One site for display. pixels: (channels, height, width) uint16, raw counts. um_per_px: of these pixels."""

    site: int
    pixels: NDArray[np.uint16]
    um_per_px: float


@dataclass(frozen=True, slots=True)
class AttributionPanels:
    """One explanation for display.

    heat: (channels, height, width) float32, logits a pixel of the panel, over the site's whole field. reference:
    (channels, height, width) uint16, raw counts of the control picture; reference_um_per_px: of its pixels.
    """

    site: int
    passed: bool
    heat: NDArray[np.float32]
    reference: NDArray[np.uint16]
    reference_um_per_px: float
    reference_name: str


@dataclass(frozen=True, slots=True)
class ReferencePanels:
    """What a site is compared with, for display: (channels, height, width) uint16 raw counts; name: in words."""

    pixels: NDArray[np.uint16]
    um_per_px: float
    name: str


def site_panels(site: Site) -> SitePanels:
    """Reduce a site to panels by area mean, never enlarging it."""
    pixels = np.stack([reduce_plane(plane, PANEL_PX) for plane in site.pixels])
    return SitePanels(
        site.id.site,
        np.rint(pixels).astype(np.uint16),
        site.pixel_size_um * site.pixels.shape[2] / pixels.shape[2],
    )


def attribution_panels(attribution: Attribution, model_pixel_size_um: float) -> AttributionPanels:
    """Reduce an explanation to panels; the sum of the heat stays."""
    heat = np.stack([reduce_plane(plane, HEAT_PX) for plane in attribution.heat])
    kept = attribution.heat[0].size / heat[0].size
    reference = np.stack([reduce_plane(plane, PANEL_PX) for plane in attribution.reference_pixels])
    return AttributionPanels(
        site=attribution.site.site,
        passed=attribution.checks.passed,
        heat=heat * np.float32(kept),
        reference=np.rint(reference).astype(np.uint16),
        reference_um_per_px=model_pixel_size_um * attribution.reference_pixels.shape[2] / reference.shape[2],
        reference_name=attribution.reference_name,
    )


def reduce_plane(plane: Pixels | NDArray[np.float32], longest_px: int) -> NDArray[np.float32]:
    """(height, width) float32 with no side longer than `longest_px`: the mean over each new pixel's area."""
    values = np.asarray(plane, np.float32)
    height, width = values.shape
    scale = longest_px / max(height, width)
    if scale >= 1:
        return values
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX), np.float32)
