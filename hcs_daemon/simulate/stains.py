"""What light the cells give in each channel, and how a planted effect changes it.

An effect rearranges light within a cell and keeps each cell's total in that channel, so that no effect is a mere change
of brightness; one of `same_values` keeps the value of each pixel and changes their places alone. An effect changes its
own channels only; at strength 0 it changes nothing at all.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hcs_daemon.simulate.cells import CellMaps, Floats, Population
from hcs_daemon.simulate.compounds import CHANNELS, KNOWN_PHENOTYPES, Phenotype

_PEAK_ELECTRONS = {"DNA": 4200.0, "ER": 3400.0, "RNA": 3600.0, "AGP": 2100.0, "Mito": 6500.0}
_EDGE_UM = 8.0  # over which stray light falls off
_BACKGROUND_ELECTRONS = {"DNA": 130.0, "ER": 90.0, "RNA": 70.0, "AGP": 60.0, "Mito": 300.0}


@dataclass(frozen=True, slots=True)
class Effect:
    """What is planted in a site. phenotype: None for nothing. strength: 0 (none) to 1 (full)."""

    phenotype: str | None = None
    strength: float = 0.0


@dataclass(frozen=True, slots=True)
class Textures:
    """Random fields of the whole site, (height, width) float32, mean 0 and deviation 1; fine to coarse."""

    fine: Floats
    middle: Floats
    threads: Floats
    dots: Floats
    bubbles: Floats
    cloud: Floats


def weave(shape: tuple[int, int], rng: np.random.Generator) -> Textures:
    """Draw the site's random fields; their grain is in pixels of 1.196 µm."""
    return Textures(*(_noise(shape, sigma, rng) for sigma in (0.8, 1.3, 1.7, 1.0, 1.9, 12.0)))


def light(channel: str, cells: Population, maps: CellMaps, textures: Textures, effect: Effect) -> Floats:
    """Electrons expected from a channel's stain, without lens, lamp and background; (height, width) float32."""
    answer = _by_cell(maps, np.clip(effect.strength * cells.response, 0.0, 1.0))
    plain = _STAINS[channel](cells, maps, textures, np.zeros_like(answer))
    phenotype = _acting(effect, channel)
    if phenotype is None:
        shaped = plain
    else:
        changed = _STAINS[channel](cells, maps, textures, answer)
        shaped = (_keeping_values if phenotype.same_values else _keeping_totals)(changed, plain, maps)
    brightness = _by_cell(maps, cells.brightness[:, CHANNELS.index(channel)], outside=1.0)
    return (shaped * brightness * _PEAK_ELECTRONS[channel]).astype(np.float32)


def through_lens(emitted: Floats, channel: str, blur_px: float, lamp: Floats, textures: Textures) -> Floats:
    """Electrons at the camera: blurred, with the haze of what is out of focus, background and uneven lamp."""
    haze = gaussian_filter(emitted, 9.0, truncate=2.5)
    sharp = gaussian_filter(emitted, blur_px)
    background = _BACKGROUND_ELECTRONS[channel] * (1.0 + 0.06 * textures.cloud)
    seen: Floats = (0.88 * sharp + 0.12 * haze + background) * lamp
    return seen


def affected(channel: str, cells: Population, maps: CellMaps, effect: Effect) -> NDArray[np.bool_]:
    """Where an effect on this channel is planted: nuclei for DNA and RNA, whole cells else; (height, width) bool."""
    if _acting(effect, channel) is None:
        return np.zeros(maps.label.shape, bool)
    deaf = _by_cell(maps, cells.response == 0) > 0
    if channel == "RNA":
        return (maps.q < 1.0) & ~deaf
    if channel == "DNA":
        answer = _by_cell(maps, np.clip(effect.strength * cells.response, 0.0, 1.0))
        return ((maps.q < _growth(answer)) | ((maps.micronucleus > 0.5) & _seen(maps, answer))) & ~deaf
    return (maps.label > 0) & ~deaf


def edge_light(channel: str, size_px: int, pixel_size_um: float) -> Floats:
    """Stray light that falls off from the left edge of a field, 1 times the stain's brightest at the edge itself.

    Electrons, (size_px, size_px) float32. An artefact: no cell is changed.
    """
    away = np.arange(size_px, dtype=np.float32) * pixel_size_um / _EDGE_UM
    return np.broadcast_to(np.exp(-away * away) * _PEAK_ELECTRONS[channel], (size_px, size_px)).astype(np.float32)


def at_edge(size_px: int, pixel_size_um: float) -> NDArray[np.bool_]:
    """Where stray light is at least a tenth of its most; (size_px, size_px) bool."""
    away = np.arange(size_px) * pixel_size_um
    return np.broadcast_to(away < _EDGE_UM * np.sqrt(np.log(10.0)), (size_px, size_px))


def _dna(cells: Population, maps: CellMaps, textures: Textures, answer: Floats) -> Floats:
    growth = _growth(answer)
    q = maps.q / growth
    content = _by_cell(maps, cells.dna_content, outside=1.0)
    blotches = (1 - answer) * 0.16 * textures.fine + answer * 0.5 * textures.bubbles
    nuclei = _inside(q) * (0.72 + 0.28 * np.sqrt(np.maximum(0.0, 1 - q * q))) * np.maximum(0.25, 1 + blotches)
    micro = 0.9 * maps.micronucleus * _seen(maps, answer)
    faint = 0.012 * _thickness(maps)
    seen: Floats = nuclei * content / growth**2 + micro + faint
    return seen


def _er(cells: Population, maps: CellMaps, textures: Textures, answer: Floats) -> Floats:  # noqa: ARG001 (one form for all)
    body = _thickness(maps) * (0.22 + np.exp(-maps.from_nucleus_um / 9.0)) * (1 - 0.45 * _inside(maps.q))
    net = np.maximum(0.2, 1 + 0.26 * textures.middle)
    cytoplasm = 1 - _inside(maps.q)
    hole = _step((textures.bubbles - 0.55) / 0.15) * cytoplasm
    wall = np.exp(-(((textures.bubbles - 0.35) / 0.28) ** 2)) * cytoplasm
    seen: Floats = body * net * (1 - 0.8 * answer * hole + 1.3 * answer * wall)
    return seen


def _rna(cells: Population, maps: CellMaps, textures: Textures, answer: Floats) -> Floats:  # noqa: ARG001 (one form for all)
    nucleus = _inside(maps.q)
    body = _thickness(maps) * (0.32 + 0.5 * np.exp(-maps.from_nucleus_um / 12.0)) * (1 - 0.35 * nucleus)
    grain = np.maximum(0.3, 1 + 0.12 * textures.middle)
    spots = 1.1 * maps.nucleolus * nucleus
    # what the nucleoli lose, the nucleus gains: the same sum in every cell
    spread = nucleus * _mean_where(spots, nucleus > 0.5, maps)
    seen: Floats = body * grain + (1 - answer) * spots + answer * spread
    return seen


def _agp(cells: Population, maps: CellMaps, textures: Textures, answer: Floats) -> Floats:  # noqa: ARG001 (one form for all)
    inside = maps.label > 0
    body = 0.26 * _thickness(maps) * (1 + 0.1 * textures.middle)
    rim = 0.62 * np.exp(-((maps.edge_um / 2.2) ** 2)) * np.clip(0.75 + 0.5 * textures.bubbles, 0.1, 2.0)
    # fibres 5 µm apart, slightly bent, fading in and out along their way
    bent = maps.across_um + 0.8 * textures.cloud
    fibre = (0.5 + 0.5 * np.cos(2 * np.pi * bent / 5.0)) ** 2 * np.clip(0.8 + 0.4 * textures.bubbles, 0.1, 2.0)
    golgi = maps.golgi * np.clip(1.0 + 0.5 * textures.fine, 0.2, 3.0)
    actin = body * (1 - 0.35 * answer) + rim * (1 - 0.8 * answer) + 0.85 * answer * fibre * np.sqrt(_thickness(maps))
    seen: Floats = inside * actin + 0.9 * golgi
    return seen


def _mito(cells: Population, maps: CellMaps, textures: Textures, answer: Floats) -> Floats:  # noqa: ARG001 (one form for all)
    reach = 11.0 - 4.0 * answer
    zone = np.sqrt(_thickness(maps)) * np.exp(-maps.from_nucleus_um / reach) * (1 - 0.85 * _inside(maps.q))
    net = np.exp(-((textures.threads / 0.35) ** 2))  # where a smooth field passes zero there are threads
    dots = 2.2 * _step((textures.dots - 1.1) / 0.25)
    diffuse = 0.06 * _thickness(maps)
    seen: Floats = zone * (0.12 + (1 - answer) * net + answer * dots) + diffuse
    return seen


_STAINS = {"DNA": _dna, "ER": _er, "RNA": _rna, "AGP": _agp, "Mito": _mito}


def _acting(effect: Effect, channel: str) -> Phenotype | None:
    """What is planted in this channel, if anything is."""
    if effect.strength == 0 or effect.phenotype is None:
        return None
    phenotype = KNOWN_PHENOTYPES[effect.phenotype]
    return phenotype if channel in phenotype.channels else None


def _growth(answer: Floats) -> Floats:
    """How much wider a nucleus is than untreated."""
    grown: Floats = 1 + 0.38 * answer
    return grown


def _seen(maps: CellMaps, answer: Floats) -> NDArray[np.bool_]:
    """Micronuclei come one by one: at full effect two cells in three have one."""
    return maps.seen_from < 0.66 * answer


def _thickness(maps: CellMaps) -> Floats:
    """How thick the cell is, 1 in the middle, 0 at its edge and outside."""
    return np.where(maps.label > 0, np.maximum(0.0, 1 - maps.rho**2) ** 0.6, np.float32(0))


def _inside(q: Floats) -> Floats:
    """1 within a nucleus, 0 outside, with a soft rim."""
    return _step((1.0 - q) / 0.07)


def _step(x: Floats) -> Floats:
    risen: Floats = 0.5 * (1 + np.tanh(0.5 * x))
    return risen


def _by_cell(maps: CellMaps, values: Floats, outside: float = 0.0) -> Floats:
    """Each pixel with its cell's value."""
    return np.concatenate([np.array([outside], np.float32), values.astype(np.float32)])[maps.label]


def _keeping_totals(changed: Floats, plain: Floats, maps: CellMaps) -> Floats:
    """The changed picture, with each cell as bright in sum as it was."""
    before = np.bincount(maps.label.ravel(), weights=plain.ravel())
    after = np.bincount(maps.label.ravel(), weights=changed.ravel())
    factor = np.divide(before, after, out=np.ones_like(before), where=after > 0)
    kept: Floats = (changed * factor[maps.label]).astype(np.float32)
    return kept


def _keeping_values(changed: Floats, plain: Floats, maps: CellMaps) -> Floats:
    """The values of the plain picture within each cell, put where the changed one has its own in the same order."""
    label = maps.label.ravel()
    kept = np.empty(plain.size, np.float32)
    kept[np.lexsort((changed.ravel(), label))] = plain.ravel()[np.lexsort((plain.ravel(), label))]
    return kept.reshape(plain.shape)


def _mean_where(values: Floats, where: NDArray[np.bool_], maps: CellMaps) -> Floats:
    """Each pixel with the mean of its cell's values over `where`."""
    label = np.where(where, maps.label, 0).ravel()
    length = int(maps.label.max()) + 1
    count = np.bincount(label, minlength=length)
    total = np.bincount(label, weights=values.ravel(), minlength=length)
    return np.divide(total, count, out=np.zeros(length), where=count > 0).astype(np.float32)[maps.label]


def _noise(shape: tuple[int, int], sigma_px: float, rng: np.random.Generator) -> Floats:
    """Smoothed white noise, mean 0 and deviation 1 (Gaussian of sigma s keeps 1 / (2 s sqrt(pi)) of the deviation)."""
    rough = rng.standard_normal(shape, dtype=np.float32)
    smooth: Floats = gaussian_filter(rough, sigma_px, mode="wrap", truncate=3.0)
    scaled: Floats = (smooth / smooth.std()).astype(np.float32)
    return scaled
