"""One simulated field of view: cells, stains, lens, lamp and camera put together."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hcs_daemon.plate import WellPosition
from hcs_daemon.simulate.camera import expose, illumination
from hcs_daemon.simulate.cells import Population, map_cells, populate
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.layout import WellPlan
from hcs_daemon.simulate.measurement import middle_step
from hcs_daemon.simulate.seeds import generator
from hcs_daemon.simulate.stains import Effect, affected, at_edge, edge_light, light, through_lens, weave

PIXEL_SIZE_UM = 1.196
"""Of a 10x lens on a sCMOS of 2160² pixels, binned 2 x 2 (a real Operetta's index says 1.19595e-06 m)."""
CAMERA_PX = 1080
ARTEFACT_BIT = len(CHANNELS)
"""Of a mask: here lies stray light, which is no effect."""
_BLUR_PX_A_STEP = 0.9
_DIMMER_A_STEP = 0.06
_DRIFT_UM = 1.5  # between two time points, at most, in each direction


@dataclass(frozen=True, slots=True)
class SimulatedSite:
    """pixels: (5, size, size) uint16, raw counts, in the order of `CHANNELS`.

    mask: (size, size) uint8, bit i set where an effect was planted in channel i; 0 where nothing was. `ARTEFACT_BIT`
    is set where stray light lies.
    """

    pixels: NDArray[np.uint16]
    mask: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _WellMood:
    """What differs from well to well: density (cells a mm²), staining (factor a channel), focus (blur in pixels)."""

    cells_per_mm2: float
    staining: NDArray[np.float64]
    blur_px: float

    @classmethod
    def of(cls, seed: int, plate: str, position: WellPosition) -> "_WellMood":
        rng = generator(seed, plate, position.row, position.column, "well")
        density = float(np.clip(rng.normal(430.0, 90.0), 180.0, 700.0))
        return cls(density, rng.lognormal(0.0, 0.07, len(CHANNELS)), float(rng.uniform(0.5, 0.8)))


@dataclass(frozen=True, slots=True)
class SimulatedStack:
    """pixels: (5, z steps, size, size) uint16, raw counts, in the order of `CHANNELS`. mask: as in `SimulatedSite`."""

    pixels: NDArray[np.uint16]
    mask: NDArray[np.uint8]


def render_site(plan: WellPlan, site: int, *, plate: str, seed: int, size_px: int) -> SimulatedSite:
    """Make one site. The same arguments give the same pixels, whatever was made before.

    plan: what is in the well. site: counted from 1. size_px: edge of the square picture, at 1.196 µm a pixel. The cells
    depend on seed, plate, well and site alone: another compound changes its own channels and nothing else.
    """
    made = render_stack(plan, site, plate=plate, seed=seed, size_px=size_px)
    return SimulatedSite(made.pixels[:, 0], made.mask)


def render_stack(
    plan: WellPlan, site: int, *, plate: str, seed: int, size_px: int, z_steps: int = 1, time: int = 1
) -> SimulatedStack:
    """Make a site's z steps at one time point; the middle step is in focus, the others are blurred and dimmer.

    time: counted from 1; later the same cells have drifted a little and the noise is new. The focused step at the first
    time point is what `render_site` makes, to the bit.
    """
    place = (plate, plan.position.row, plan.position.column, site)
    mood = _WellMood.of(seed, plate, plan.position)
    cells = populate(size_px * PIXEL_SIZE_UM, mood.cells_per_mm2, generator(seed, *place, "cells"))
    cells = _drifted(cells, generator(seed, *place, "drift"), time)
    cells = _answering(cells, generator(seed, *place, "responding"), plan.compound.responding)
    maps = map_cells(cells, size_px, PIXEL_SIZE_UM)
    textures = weave(maps.label.shape, generator(seed, *place, "textures"))
    effect = Effect(plan.compound.phenotype, plan.effect_strength)
    pixels = np.empty((len(CHANNELS), z_steps, size_px, size_px), np.uint16)
    mask = np.zeros((size_px, size_px), np.uint8)
    for index, channel in enumerate(CHANNELS):
        lamp = illumination(size_px, PIXEL_SIZE_UM, generator(seed, plate, channel, "lamp"))
        emitted = light(channel, cells, maps, textures, effect) * np.float32(mood.staining[index])
        seen = through_lens(emitted, channel, mood.blur_px, lamp, textures)
        if plan.compound.edge_light:
            seen = seen + plan.compound.edge_light * edge_light(channel, size_px, PIXEL_SIZE_UM)
        for step in range(1, z_steps + 1):
            away = step - middle_step(z_steps)
            noise = generator(seed, *place, channel, "camera", *((time, step) if away or time > 1 else ()))
            pixels[index, step - 1] = expose(_defocused(seen, abs(away)), noise)
        mask |= affected(channel, cells, maps, effect).astype(np.uint8) << index
    if plan.compound.edge_light:
        mask |= at_edge(size_px, PIXEL_SIZE_UM).astype(np.uint8) << ARTEFACT_BIT
    return SimulatedStack(pixels, mask)


def _drifted(cells: Population, rng: np.random.Generator, time: int) -> Population:
    """The cells as they lie at a time point: all moved alike, as a stage does that does not come back exactly."""
    if time == 1:
        return cells
    moved = rng.uniform(-_DRIFT_UM, _DRIFT_UM, (time - 1, 2)).sum(axis=0).astype(np.float32)
    return replace(cells, centre_um=cells.centre_um + moved)


def _answering(cells: Population, rng: np.random.Generator, share: float) -> Population:
    """The cells, of which about this share answers to a compound at all."""
    if share == 1.0:
        return cells
    return replace(cells, response=np.where(rng.random(len(cells)) < share, cells.response, np.float32(0)))


def _defocused(seen: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    """What the camera gets so many steps away from the focus."""
    if steps == 0:
        return seen
    blurred: NDArray[np.float32] = gaussian_filter(seen, _BLUR_PX_A_STEP * steps, truncate=3.0)
    return blurred * np.float32(max(0.4, 1.0 - _DIMMER_A_STEP * steps))
