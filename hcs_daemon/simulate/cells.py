"""Who lives in a field of view: cells with their shapes, and the maps that say where in which cell a pixel lies.

Lengths are in micrometres; angles in radians. Shapes follow U2OS cells as a 10x lens shows them: nuclei of about 16 µm,
bodies of about 45 µm. Nothing here depends on a compound: a treated well holds the cells it would hold untreated.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_MARGIN_UM = 40.0  # cells centred this far outside still reach into the field
_APART_UM = 21.0  # centres keep this distance: nuclei do not overlap
_HARMONICS = np.array([2, 3, 4, 5, 7])
_ROUGHNESS = np.array([0.17, 0.10, 0.06, 0.045, 0.03])  # share of the radius, by harmonic
_NUCLEOLI = 4


@dataclass(frozen=True, slots=True)
class Population:
    """One row a cell, n cells in all.

    centre_um: (n, 2) y, x of the nucleus, from the field's upper left corner. radius_um: (n,) mean radius of the body.
    wave, phase: (n, 5) amplitude (share of the radius) and phase of the outline's harmonics. nucleus_um: (n, 2)
    semi-axes. nucleus_angle, axis_angle, golgi_angle: (n,). nucleoli: (n, 4, 4) y, x (in semi-axes), radius (µm) and
    height of each, height 0 where there is none. brightness: (n, 5) by channel, 1 on average. dna_content: (n,) 1 (2N)
    to 2 (4N). mitotic: (n,) bool. micronucleus: (n, 3) angle, radius (µm), and the effect from which on it is seen.
    response: (n,) how strongly the cell answers to a compound, 1 on average.
    """

    centre_um: Floats
    radius_um: Floats
    wave: Floats
    phase: Floats
    nucleus_um: Floats
    nucleus_angle: Floats
    axis_angle: Floats
    golgi_angle: Floats
    nucleoli: Floats
    brightness: Floats
    dna_content: Floats
    mitotic: NDArray[np.bool_]
    micronucleus: Floats
    response: Floats

    def __len__(self) -> int:
        return len(self.radius_um)


@dataclass(frozen=True, slots=True)
class CellMaps:
    """Where each pixel lies; all (height, width).

    label: int32, 0 outside, else the cell's row in the population plus 1. rho: 0 in the cell's middle, 1 at its edge,
    large outside. edge_um: distance to the cell's free edge. from_nucleus_um: distance to the nucleus' rim, 0 inside.
    q: 0 in the nucleus' middle, 1 at its rim. across_um: distance from the cell's long axis. nucleolus, golgi: height
    0 to about 1. micronucleus: height where one would be; seen_from: the effect strength from which on it is seen.
    """

    label: NDArray[np.int32]
    rho: Floats
    edge_um: Floats
    from_nucleus_um: Floats
    q: Floats
    across_um: Floats
    nucleolus: Floats
    golgi: Floats
    micronucleus: Floats
    seen_from: Floats


def populate(field_um: float, cells_per_mm2: float, rng: np.random.Generator) -> Population:
    """Sow cells over a square field and its surroundings.

    field_um: edge of the field. cells_per_mm2: aimed at; a crowded field takes fewer, since nuclei do not overlap.
    """
    span = field_um + 2 * _MARGIN_UM
    centre = _scatter(span, int(rng.poisson(cells_per_mm2 * span * span * 1e-6)), rng) - _MARGIN_UM
    n = len(centre)
    size = rng.lognormal(0.0, 0.14, n)
    mitotic = rng.random(n) < 0.025
    content = np.where(rng.random(n) < 0.62, 1.0, rng.uniform(1.1, 2.0, n))
    semi_minor = 7.0 * size**0.5 * content**0.25
    shrink = np.where(mitotic, 0.55, 1.0)
    nucleus = np.stack([semi_minor * rng.uniform(1.05, 1.5, n), semi_minor * shrink], axis=1)
    wave = np.abs(rng.normal(0.0, 1.0, (n, 5))) * _ROUGHNESS
    return Population(
        centre_um=_f32(centre),
        radius_um=_f32(rng.uniform(20.0, 29.0, n) * size * np.where(mitotic, 0.6, 1.0)),
        wave=_f32(wave * np.where(mitotic, 0.2, 1.0)[:, None]),
        phase=_f32(rng.uniform(0, 2 * np.pi, (n, 5))),
        nucleus_um=_f32(nucleus),
        nucleus_angle=_f32(rng.uniform(0, np.pi, n)),
        axis_angle=_f32(rng.uniform(0, np.pi, n)),
        golgi_angle=_f32(rng.uniform(0, 2 * np.pi, n)),
        nucleoli=_nucleoli(n, mitotic, rng),
        brightness=_f32(rng.lognormal(-0.035, 0.26, (n, 1)) * rng.lognormal(-0.02, 0.2, (n, 5))),
        dna_content=_f32(np.where(mitotic, 3.2, content)),
        mitotic=mitotic,
        micronucleus=_f32(np.stack([rng.uniform(0, 2 * np.pi, n), rng.uniform(1.3, 2.3, n), rng.random(n)], axis=1)),
        response=_f32(np.clip(rng.normal(1.0, 0.15, n), 0.5, 1.5)),
    )


def map_cells(cells: Population, size_px: int, pixel_size_um: float) -> CellMaps:
    """Draw the cells; a pixel belongs to the one in which it lies deepest, so that neighbours share a border."""
    shape = (size_px, size_px)
    maps = CellMaps(
        label=np.zeros(shape, np.int32),
        rho=np.full(shape, 9.0, np.float32),
        edge_um=np.zeros(shape, np.float32),
        from_nucleus_um=np.full(shape, 99.0, np.float32),
        q=np.full(shape, 9.0, np.float32),
        across_um=np.zeros(shape, np.float32),
        nucleolus=np.zeros(shape, np.float32),
        golgi=np.zeros(shape, np.float32),
        micronucleus=np.zeros(shape, np.float32),
        seen_from=np.ones(shape, np.float32),
    )
    for index in range(len(cells)):
        _draw(maps, cells, index, pixel_size_um)
    return maps


def _scatter(span_um: float, wanted: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points at random, none nearer to another than `_APART_UM`; those that find no place are left out."""
    kept: NDArray[np.float64] = np.empty((0, 2))
    for dart in rng.uniform(0.0, span_um, (wanted * 3, 2)):
        if len(kept) >= wanted:
            break
        if not len(kept) or ((kept - dart) ** 2).sum(axis=1).min() > _APART_UM**2:
            kept = np.vstack([kept, dart])
    return kept


def _nucleoli(n: int, mitotic: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    angle = rng.uniform(0, 2 * np.pi, (n, 1)) + np.arange(_NUCLEOLI) * 2 * np.pi / _NUCLEOLI
    angle += rng.normal(0.0, 0.35, (n, _NUCLEOLI))
    reach = rng.uniform(0.2, 0.62, (n, _NUCLEOLI))
    count = rng.integers(2, _NUCLEOLI + 1, n)
    there = (np.arange(_NUCLEOLI) < count[:, None]) & ~mitotic[:, None]  # mitosis dissolves them
    radius = rng.uniform(1.2, 2.1, (n, _NUCLEOLI))
    height = there * rng.uniform(0.7, 1.2, (n, _NUCLEOLI))
    return _f32(np.stack([reach * np.sin(angle), reach * np.cos(angle), radius, height], axis=2))


def _draw(maps: CellMaps, cells: Population, index: int, pixel_size_um: float) -> None:
    """Add one cell to the maps, within the square that holds it."""
    centre = cells.centre_um[index]
    reach = float(cells.radius_um[index]) * (1.0 + float(cells.wave[index].sum()))
    window = _window(centre, max(reach, 20.0), maps.label.shape[0], pixel_size_um)
    if window is None:
        return
    rows, columns = window
    dy = (np.arange(rows.start, rows.stop, dtype=np.float32) * pixel_size_um - centre[0])[:, None]
    dx = (np.arange(columns.start, columns.stop, dtype=np.float32) * pixel_size_um - centre[1])[None, :]
    r = np.hypot(dy, dx)
    radius = _outline(cells, index, np.arctan2(dy, dx))
    rho = r / radius
    mine = (rho < 1.0) & (rho < maps.rho[window])
    along, across = _turned(dy, dx, float(cells.nucleus_angle[index]))
    q = np.hypot(along / cells.nucleus_um[index, 0], across / cells.nucleus_um[index, 1])
    _, off_axis = _turned(dy, dx, float(cells.axis_angle[index]))
    _put(maps.label, window, mine, np.int32(index + 1))
    _put(maps.rho, window, mine, rho)
    _put(maps.edge_um, window, mine, radius - r)
    _put(maps.from_nucleus_um, window, mine, r * np.maximum(0.0, 1.0 - 1.0 / np.maximum(q, 1e-3)))
    _put(maps.across_um, window, mine, off_axis)
    # what belongs to the nucleus lies above a neighbour's thin rim
    _put(maps.q, window, q < maps.q[window], q)
    _raise(maps.nucleolus, window, _spots(cells, index, along, across))
    _raise(maps.golgi, window, _golgi(cells, index, dy, dx))
    micro = _micronucleus(cells, index, dy, dx)
    _put(maps.seen_from, window, micro > maps.micronucleus[window], cells.micronucleus[index, 2])
    _raise(maps.micronucleus, window, micro)


def _window(centre: Floats, reach: float, size_px: int, pixel_size_um: float) -> tuple[slice, slice] | None:
    """The part of the field within reach of a cell; None when there is none."""
    first = np.maximum(0, np.floor((centre - reach) / pixel_size_um)).astype(int)
    last = np.minimum(size_px, np.ceil((centre + reach) / pixel_size_um) + 1).astype(int)
    if (last <= first).any():
        return None
    return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))


def _outline(cells: Population, index: int, angle: Floats) -> Floats:
    shape = np.ones_like(angle)
    for harmonic, wave, phase in zip(_HARMONICS, cells.wave[index], cells.phase[index], strict=True):
        turn = 2.0 * cells.axis_angle[index] if harmonic == 2 else phase  # the longest wave runs along the long axis
        shape += wave * np.cos(np.float32(harmonic) * angle - turn)
    outline: Floats = np.maximum(shape, 0.45) * cells.radius_um[index]
    return outline


def _turned(dy: Floats, dx: Floats, angle: float) -> tuple[Floats, Floats]:
    """Coordinates along and across a direction (x towards y)."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return dx * cos + dy * sin, dy * cos - dx * sin


def _spots(cells: Population, index: int, along: Floats, across: Floats) -> Floats:
    """The nucleoli, as smooth hills."""
    hills = np.zeros_like(along)
    for y, x, radius, height in cells.nucleoli[index]:
        if height > 0:
            far = (along - x * cells.nucleus_um[index, 0]) ** 2 + (across - y * cells.nucleus_um[index, 1]) ** 2
            hills += height * np.exp(-far / (2 * radius * radius))
    return hills


def _golgi(cells: Population, index: int, dy: Floats, dx: Floats) -> Floats:
    """A cap beside the nucleus, on one side."""
    angle = float(cells.golgi_angle[index])
    out, side = _turned(dy, dx, angle)
    away = float(cells.nucleus_um[index].mean()) + 1.0
    return np.exp(-((out - away) ** 2) / (2 * 2.0**2) - side**2 / (2 * 3.6**2))


def _micronucleus(cells: Population, index: int, dy: Floats, dx: Floats) -> Floats:
    angle, radius, _ = cells.micronucleus[index]
    away = float(cells.nucleus_um[index].max()) * 1.45 + float(radius)
    far = (dx - away * np.cos(angle)) ** 2 + (dy - away * np.sin(angle)) ** 2
    hill: Floats = np.exp(-((far / (radius * radius)) ** 2))
    return hill


def _put(target: NDArray[np.generic], window: tuple[slice, slice], where: NDArray[np.bool_], value: object) -> None:
    np.copyto(target[window], value, where=where)  # type: ignore[arg-type]


def _raise(target: Floats, window: tuple[slice, slice], value: Floats) -> None:
    np.maximum(target[window], value, out=target[window])


def _f32(values: NDArray[np.float64]) -> Floats:
    return values.astype(np.float32)
