"""One simulated field of view: cells, stains, lens, lamp and camera put together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.plate import WellPosition
from hcs_daemon.simulate.camera import expose, illumination
from hcs_daemon.simulate.cells import map_cells, populate
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.layout import WellPlan
from hcs_daemon.simulate.seeds import generator
from hcs_daemon.simulate.stains import Effect, affected, light, through_lens, weave

PIXEL_SIZE_UM = 1.196
"""Of a 10x lens on a sCMOS of 2160² pixels, binned 2 x 2 (a real Operetta's index says 1.19595e-06 m)."""
CAMERA_PX = 1080


@dataclass(frozen=True, slots=True)
class SimulatedSite:
    """pixels: (5, size, size) uint16, raw counts, in the order of `CHANNELS`.

    mask: (size, size) uint8, bit i set where an effect was planted in channel i; 0 where nothing was.
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


def render_site(plan: WellPlan, site: int, *, plate: str, seed: int, size_px: int) -> SimulatedSite:
    """Make one site. The same arguments give the same pixels, whatever was made before.

    plan: what is in the well. site: counted from 1. size_px: edge of the square picture, at 1.196 µm a pixel. The cells
    depend on seed, plate, well and site alone: another compound changes its own channels and nothing else.
    """
    place = (plate, plan.position.row, plan.position.column, site)
    mood = _WellMood.of(seed, plate, plan.position)
    cells = populate(size_px * PIXEL_SIZE_UM, mood.cells_per_mm2, generator(seed, *place, "cells"))
    maps = map_cells(cells, size_px, PIXEL_SIZE_UM)
    textures = weave(maps.label.shape, generator(seed, *place, "textures"))
    effect = Effect(plan.compound.phenotype, plan.effect_strength)
    pixels = np.empty((len(CHANNELS), size_px, size_px), np.uint16)
    mask = np.zeros((size_px, size_px), np.uint8)
    for index, channel in enumerate(CHANNELS):
        lamp = illumination(size_px, PIXEL_SIZE_UM, generator(seed, plate, channel, "lamp"))
        emitted = light(channel, cells, maps, textures, effect) * np.float32(mood.staining[index])
        seen = through_lens(emitted, channel, mood.blur_px, lamp, textures)
        pixels[index] = expose(seen, generator(seed, *place, channel, "camera"))
        mask |= affected(channel, cells, maps, effect).astype(np.uint8) << index
    return SimulatedSite(pixels, mask)
