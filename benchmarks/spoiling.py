"""Honest planes, and every way of spoiling them that `forensics.py` measures.

A channel is a list of planes, (height, width) uint16, raw counts; a kind makes another channel of it.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, median_filter, zoom

from hcs_daemon.records import Pixels
from hcs_daemon.simulate.camera import COUNTS_PER_ELECTRON, OFFSET_COUNTS, expose
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.layout import plan_plate
from hcs_daemon.simulate.site import render_site
from hcs_daemon.tiff import TiffProblem, decode_plane

Plane = NDArray[np.uint16]
Floats = NDArray[np.float64]
Spoiling = Callable[[Sequence[Plane], np.random.Generator], list[Pixels]]
FULL: Final = 65535
_SIZE_PX, _FIELDS = 384, 6


class Told(StrEnum):
    """From what a kind can be told at all."""

    HONEST = "honest"
    PLANE = "a plane"
    CROWDED = "a crowded plane"
    CHANNEL = "a channel"
    FLAG = "only flagged"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Channel:
    """Planes of one channel of one data set."""

    source: str
    planes: tuple[Plane, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """A way of making planes. missed: why some, or all, are not found. depth: bits declared for them.

    is_listed: it was named before the thresholds were set; the others were tried on them afterwards.
    """

    name: str
    told: Told
    make: Spoiling
    missed: str = ""
    depth: int = 16
    is_listed: bool = True


# ---- where planes come from


def real_channels(folder: Path) -> Iterator[Channel]:
    """The distinct 16-bit planes of real data that hold more than one value, by set and channel; no thumbnails."""
    sets: dict[str, list[Plane]] = {}
    known: set[bytes] = set()
    for path in sorted(folder.rglob("*.tif*")):
        if "_thumb" in path.name:
            continue
        try:
            pixels = decode_plane(path.read_bytes()).pixels
        except TiffProblem:
            continue
        content = pixels.tobytes()
        if pixels.dtype != np.uint16 or content in known or pixels.min() == pixels.max():
            continue
        known.add(content)
        group = path.relative_to(folder).parts[0]
        wave = path.stem.split("_w")[1][:1] if group.startswith("imagexpress") else ""
        sets.setdefault(f"{group} w{wave}" if wave else group, []).append(cast("Plane", pixels))
    for name, planes in sets.items():
        yield Channel(name, tuple(planes))


def eight_bit_planes(folder: Path) -> list[NDArray[np.uint8]]:
    """The real planes that are 8 bits deep."""
    planes = (decode_plane(path.read_bytes()).pixels for path in sorted((folder / "arrayscan-8bit").rglob("*.tif")))
    return [cast("NDArray[np.uint8]", pixels) for pixels in planes if pixels.dtype == np.uint8]


def simulated_channels(seed: int) -> Iterator[Channel]:
    """The simulator's fields in each channel: as they are, dim, bright, empty, saturated, and all of these together."""
    rng = np.random.default_rng(seed)
    wells = plan_plate(96, seed, "FORENSICS")[:: 96 // _FIELDS][:_FIELDS]
    sites = [render_site(well, 1, plate="FORENSICS", seed=seed, size_px=_SIZE_PX).pixels for well in wells]
    for number, name in enumerate(CHANNELS):
        light = [_light_of(site[number]) for site in sites]
        conditions: dict[str, Sequence[float]] = {
            "usual": [1.0] * _FIELDS,
            "dim": [0.03] * _FIELDS,
            "bright": [5.0] * _FIELDS,
            "empty": [0.0] * _FIELDS,
            "saturated": [60.0] * _FIELDS,
            "mixed": [0.0, 0.1, 1.0, 0.3, 3.0, 60.0],
        }
        for condition, factors in conditions.items():
            taken = [expose(seen * factor + 12, rng) for seen, factor in zip(light, factors, strict=True)]
            yield Channel(f"simulated {name}, {condition}", tuple(taken))


def _light_of(plane: Plane) -> NDArray[np.float32]:
    """The electrons a plane was made of, without their noise."""
    smooth = gaussian_filter(plane.astype(np.float32), 1.0)
    return cast("NDArray[np.float32]", (smooth - np.float32(OFFSET_COUNTS)) / np.float32(COUNTS_PER_ELECTRON))


# ---- building blocks


def each(change: Callable[[Plane], NDArray[Any]]) -> Spoiling:
    """A kind that treats each plane alone."""
    return lambda planes, _: [_counts(change(plane)) for plane in planes]


def _counts(values: NDArray[Any]) -> Pixels:
    """Rounded to whole counts in the container, if they are not yet."""
    if values.dtype in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        return cast("Pixels", values)
    return cast("Pixels", np.clip(np.rint(values), 0, FULL).astype(np.uint16))


def _unit(plane: Plane) -> Floats:
    """The plane's own range as 0 to 1."""
    lowest, highest = float(plane.min()), float(plane.max())
    return cast("Floats", (plane - lowest) / max(1.0, highest - lowest))


def _levels(plane: Plane, bits: int) -> Floats:
    """The plane's own range as the levels of so many bits."""
    return cast("Floats", np.rint(_unit(plane) * ((1 << bits) - 1)))


def _with_gain(plane: Plane, gain: float, rng: np.random.Generator) -> Floats:
    """What another camera would have read. The light is spread evenly within a count, so that any gain fits."""
    return cast("Floats", np.floor((plane + rng.random(plane.shape)) * gain))


def _dimmer(gain: float) -> Spoiling:
    """Less light, of the planes that were not saturated themselves, above an offset of 100."""

    def make(planes: Sequence[Plane], rng: np.random.Generator) -> list[Pixels]:
        return [_counts(_with_gain(plane, gain, rng) + 100) for plane in planes if not _is_saturated(plane)]

    return make


def _is_saturated(plane: Plane) -> bool:
    return int(np.count_nonzero(plane == plane.max())) >= 8 and int(plane.max()) == FULL


def _camera(bits: int, saturating: float) -> Spoiling:
    """A camera of so many bits whose brightest share of pixels, over the channel, is saturated.

    0: it reaches 60 % at most, and planes that were saturated themselves are left out.
    """

    def make(planes: Sequence[Plane], rng: np.random.Generator) -> list[Pixels]:
        full = (1 << bits) - 1
        planes = planes if saturating else [plane for plane in planes if not _is_saturated(plane)]
        values = np.concatenate([np.zeros(1, np.uint16), *(plane.ravel() for plane in planes)])
        top = float(np.quantile(values, 1 - saturating)) if saturating else float(values.max()) / 0.6
        gain = min(1.0, full / max(1.0, top))
        return [_counts(np.minimum(_with_gain(plane, gain, rng), full)) for plane in planes]

    return make


def _dithered(bits: int, factor: float) -> Spoiling:
    """The plane's high bits alone, multiplied, with even noise as wide as a step."""

    def make(planes: Sequence[Plane], rng: np.random.Generator) -> list[Pixels]:
        shift = 16 - bits
        return [_counts(np.floor(((plane >> shift) + rng.random(plane.shape)) * factor)) for plane in planes]

    return make


def _jpeg(plane: Plane, quality: int) -> Floats:
    """0 to 255, through an 8-bit JPEG."""
    stream = io.BytesIO()
    Image.fromarray(_levels(plane, 8).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream), np.float64)


def _jpeg_dithered(quality: int) -> Spoiling:
    """Through JPEG and back to the plane's own range, with even noise as wide as a step: no comb is left."""

    def make(planes: Sequence[Plane], rng: np.random.Generator) -> list[Pixels]:
        made = []
        for plane in planes:
            step = (float(plane.max()) - float(plane.min())) / 255
            values = _jpeg(plane, quality) + rng.random(plane.shape) - 0.5
            made.append(_counts(float(plane.min()) + step * values))
        return made

    return make


def _offset(plane: Plane) -> float:
    """An offset that a tenth of the pixels lies below."""
    return float(np.quantile(plane, 0.1))


def _of_three(reduce: Callable[[NDArray[np.uint16]], NDArray[Any]]) -> Spoiling:
    """Each plane with the two after it, made into one."""

    def make(planes: Sequence[Plane], _: np.random.Generator) -> list[Pixels]:
        count = len(planes)
        return [
            _counts(reduce(np.stack([planes[(first + more) % count] for more in range(3)])))
            for first in range(count)
            if all(planes[(first + more) % count].shape == planes[first].shape for more in range(3))
        ]

    return make


def _blocks_of_four(plane: Plane) -> NDArray[np.uint32]:
    height, width = plane.shape[0] // 2, plane.shape[1] // 2
    cut = plane[: 2 * height, : 2 * width].astype(np.uint32)
    return cast("NDArray[np.uint32]", cut.reshape(height, 2, width, 2).sum(axis=(1, 3), dtype=np.uint32))


def _flat_field(plane: Plane) -> Floats:
    y, x = (np.linspace(-1, 1, length) for length in plane.shape)
    return plane / (1 - 0.1 * (y[:, None] ** 2 + x[None, :] ** 2))


def _with_pixels(share: float, value: int) -> Spoiling:
    def make(planes: Sequence[Plane], rng: np.random.Generator) -> list[Pixels]:
        return [np.where(rng.random(plane.shape) < share, np.uint16(value), plane) for plane in planes]

    return make


def _through_bits(plane: Plane, bits: int) -> Floats:
    """Numbers with so many bits of mantissa, as a small floating-point type holds them."""
    mantissa, exponent = np.frexp(plane.astype(np.float64))
    return cast("Floats", np.ldexp(np.rint(mantissa * (1 << bits)) / (1 << bits), exponent))


def _two_slopes(plane: Plane) -> Floats:
    knee = float(np.quantile(plane, 0.7))
    return np.where(plane < knee, 3.0 * plane, 3 * knee + 0.5 * (plane - knee))


def _equalised(plane: Plane) -> Floats:
    below = np.cumsum(np.bincount(plane.ravel(), minlength=FULL + 1))
    return cast("Floats", (below[plane] / plane.size * FULL).astype(np.float64))


def _grey_of_colour(plane: Plane) -> Floats:
    """A blue picture of 8 bits made grey: 0.114 of blue (ITU-R BT.601), times 257."""
    return np.rint(0.114 * _levels(plane, 8)) * 257


def _packed(plane: Plane) -> Plane:
    """Twelve bits a pixel, two pixels in three bytes, read as if each had two."""
    values = (plane[:, : plane.shape[1] // 4 * 4] >> 4).astype(np.uint32)
    pairs = (values[:, ::2] << 12 | values[:, 1::2]).astype(">u4")
    packed = pairs.view(np.uint8).reshape(plane.shape[0], -1, 4)[:, :, 1:]
    return np.ascontiguousarray(packed).reshape(plane.shape[0], -1).view("<u2").astype(np.uint16)


def _one_byte_late(plane: Plane) -> Plane:
    return np.frombuffer(np.roll(np.frombuffer(plane.tobytes(), np.uint8), 1).tobytes(), "<u2").reshape(plane.shape)


def _half_empty(plane: Plane) -> Plane:
    made = plane.copy()
    made[plane.shape[0] // 2 :] = 0
    return made


def _zoomed(plane: Plane, order: int) -> Floats:
    corner = plane[: plane.shape[0] // 2, : plane.shape[1] // 2].astype(np.float64)
    return cast("Floats", zoom(corner, 2, order=order))


def _percentiles(plane: Plane) -> Floats:
    low, high = np.quantile(plane, (0.001, 0.999))
    return cast("Floats", (plane - low) * (FULL / max(1.0, float(high - low))))


def _odd_clip(planes: Sequence[Plane], _: np.random.Generator) -> list[Pixels]:
    """Cut off at one level that is no full scale, which one pixel in a hundred of the channel lies beyond."""
    level = int(np.quantile(np.concatenate([plane.ravel() for plane in planes]), 0.99)) & 0xFFFE  # no full scale
    return [np.minimum(plane, np.uint16(level)) for plane in planes]


def _some(share: float, make: Spoiling) -> Spoiling:
    """Only the first share of the planes spoiled."""

    def made(planes: Sequence[Plane], rng: np.random.Generator) -> list[Pixels]:
        spoiled = islice(make(planes, rng), max(1, round(share * len(planes))))
        return [*spoiled, *planes[max(1, round(share * len(planes))) :]]

    return made


# ---- the kinds

_FEW: Final = "a plane of two to four levels: their common step may be chance"
_SPARSE: Final = "fewer than 8 pixels a level, or a factor next to 1: levels are left out by chance as well"
_COARSE: Final = "too few pixels are so bright that rounding left gaps"
_NO_PILE: Final = "fewer than 8 pixels were cut off, in a broad tail"
_ONE: Final = "one plane saturates, or none: one odd plane decides nothing"
_GAIN: Final = "a camera that never saturates and a dim sample give the same numbers"
_HIDDEN: Final = "noise broader than a block, or few pixels a level, leaves no steps"
_SMOOTH: Final = "levels stay dense; how smooth a picture is needs a baseline of its instrument"
_TOP: Final = "nearly all is saturated: what wrapped lies beside full scale and jumps no further"
_WELL: Final = "above 16383 a camera whose wells are full before its converter is looks the same"
_BLOCKY: Final = "the noise hides the 8 x 8 grid; it is strong evidence where seen, no proof"
_NO_STEP: Final = "no known camera has such a factor, and noise fills every level"
_CURVE: Final = "a smooth curve over dense levels leaves dense levels; offset and light are not known"
_DISTINCT: Final = "each plane has few gaps; only the channel's histogram shows them"
_OFFSET: Final = "a camera without an offset also stops at zero"
_SIGN: Final = "a bright sample has only high values too"
_RAW: Final = "no image is left, and no rule of its own was made for it"
_NARROW: Final = "planes of fewer than three: too few to tell"
_LOWER: Final = "half a plane without light may be the sample"

KINDS: Final = (
    Kind("as it came", Told.HONEST, each(lambda plane: plane)),
    Kind("a lower gain: ÷ 16, plus 100", Told.HONEST, _dimmer(1 / 16)),
    Kind("hardly any light: ÷ 256, plus 100", Told.HONEST, _dimmer(1 / 256)),
    Kind("turned by 90°", Told.HONEST, each(lambda plane: np.ascontiguousarray(np.rot90(plane)))),
    Kind("one hot pixel in 20 000", Told.HONEST, _with_pixels(5e-5, FULL)),
    Kind("one dead pixel in 20 000", Told.HONEST, _with_pixels(5e-5, 0)),
    Kind("maximum of three planes", Told.HONEST, _of_three(lambda stack: np.max(stack, axis=0))),
    Kind("median of three planes", Told.HONEST, _of_three(lambda stack: np.median(stack, axis=0))),
    Kind("mean of two frames", Told.HONEST, _of_three(lambda stack: stack[:2].mean(axis=0))),
    Kind("2 x 2 binned, rounded half to even", Told.HONEST, each(lambda plane: _blocks_of_four(plane) / 4)),
    Kind("2 x 2 binned, summed", Told.HONEST, each(lambda plane: _blocks_of_four(plane).astype(np.float64))),
    Kind("flat-field correction in floating point", Told.HONEST, each(_flat_field)),
    Kind("10-bit camera, saturating, declared 10", Told.HONEST, _camera(10, 0.01), depth=10),
    Kind("12-bit camera, saturating, declared 12", Told.HONEST, _camera(12, 0.01), depth=12),
    Kind("12-bit camera, never saturating, declared 12", Told.HONEST, _camera(12, 0), depth=12),
    Kind("14-bit camera, saturating, declared 14", Told.HONEST, _camera(14, 0.01), depth=14),
    Kind("8 bits, x 257", Told.PLANE, each(lambda plane: _levels(plane, 8) * 257)),
    Kind("8 bits, x 256", Told.PLANE, each(lambda plane: _levels(plane, 8) * 256)),
    Kind("its high byte, x 256", Told.PLANE, each(lambda plane: plane & np.uint16(0xFF00)), _FEW),
    Kind("12 bits shifted left by 4", Told.PLANE, each(lambda plane: plane & np.uint16(0xFFF0))),
    Kind("14 bits shifted left by 2", Told.PLANE, each(lambda plane: plane & np.uint16(0xFFFC))),
    Kind("10 bits shifted left by 6", Told.PLANE, each(lambda plane: plane & np.uint16(0xFFC0)), _FEW),
    Kind("8 bits, contrast stretched (x 13.7 + 120)", Told.PLANE, each(lambda plane: _levels(plane, 8) * 13.7 + 120)),
    Kind("12 bits, x 13.7", Told.PLANE, each(lambda plane: _levels(plane, 12) * 13.7)),
    Kind("12 bits, x 65535 / 4095", Told.PLANE, each(lambda plane: _levels(plane, 12) * (FULL / 4095))),
    Kind("16 bits, x 1.37", Told.CROWDED, each(lambda plane: plane * 1.37), _SPARSE),
    Kind(
        "16 bits, contrast stretched to the full range", Told.CROWDED, each(lambda plane: _unit(plane) * FULL), _SPARSE
    ),
    Kind("gamma 0.45 on 8 bits", Told.PLANE, each(lambda plane: (_levels(plane, 8) / 255) ** 0.45 * FULL)),
    Kind("gamma 0.45 on 16 bits", Told.CROWDED, each(lambda plane: (plane / FULL) ** 0.45 * FULL), _SPARSE),
    Kind("gamma 2.2 on 16 bits", Told.CROWDED, each(lambda plane: _unit(plane) ** 2.2 * FULL), _CURVE),
    Kind("bytes swapped", Told.PLANE, each(lambda plane: plane.byteswap())),
    Kind(
        "offset taken off, wrapping below zero", Told.PLANE, each(lambda plane: plane - np.uint16(_offset(plane))), _TOP
    ),
    Kind("offset taken off, held at zero", Told.FLAG, each(lambda plane: plane - _offset(plane)), _OFFSET),
    Kind("cut off at 255", Told.PLANE, each(lambda plane: np.minimum(plane, np.uint16(255))), _NO_PILE),
    Kind("cut off at 1023", Told.PLANE, each(lambda plane: np.minimum(plane, np.uint16(1023))), _NO_PILE),
    Kind("cut off at 4095", Told.PLANE, each(lambda plane: np.minimum(plane, np.uint16(4095))), _NO_PILE),
    Kind("cut off at 16383", Told.PLANE, each(lambda plane: np.minimum(plane, np.uint16(16383))), _NO_PILE),
    Kind("cut off at some other level", Told.CHANNEL, _odd_clip, _WELL),
    Kind("its high byte, uint8", Told.PLANE, each(lambda plane: (plane >> 8).astype(np.uint8))),
    Kind("contrast stretched, uint8", Told.PLANE, each(lambda plane: _levels(plane, 8).astype(np.uint8))),
    Kind("JPEG, x 257", Told.PLANE, each(lambda plane: _jpeg(plane, 90) * 257)),
    Kind("JPEG of quality 90, back to its range, with noise", Told.FLAG, _jpeg_dithered(90), _BLOCKY),
    Kind("JPEG of quality 75, back to its range, with noise", Told.FLAG, _jpeg_dithered(75), _BLOCKY),
    Kind("10-bit camera, saturating", Told.CHANNEL, _camera(10, 0.01), _ONE),
    Kind("12-bit camera, saturating", Told.CHANNEL, _camera(12, 0.01), _ONE),
    Kind("14-bit camera, saturating", Told.CHANNEL, _camera(14, 0.01), _ONE),
    Kind("10-bit camera, never saturating", Told.NEVER, _camera(10, 0), _GAIN),
    Kind("12-bit camera, never saturating", Told.NEVER, _camera(12, 0), _GAIN),
    Kind("14-bit camera, never saturating", Told.NEVER, _camera(14, 0), _GAIN),
    Kind("12 bits, x 16, with dither", Told.CHANNEL, _dithered(12, 16), _HIDDEN),
    Kind("10 bits, x 64, with dither", Told.CHANNEL, _dithered(10, 64), _HIDDEN),
    Kind("8 bits, x 256, with dither", Told.CHANNEL, _dithered(8, 256), _HIDDEN),
    Kind("8 bits, x 200, with dither", Told.NEVER, _dithered(8, 200), _NO_STEP),
    Kind("enlarged 2 x by cubic interpolation", Told.NEVER, each(lambda plane: _zoomed(plane, 3)), _SMOOTH),
    Kind(
        "smoothed, Gaussian of 1 pixel",
        Told.NEVER,
        each(lambda plane: gaussian_filter(plane.astype(float), 1.0)),
        _SMOOTH,
    ),
    Kind("median of 3 x 3 pixels", Told.NEVER, each(lambda plane: median_filter(plane, 3)), _SMOOTH),
    Kind(
        "8 bits as they are, 0 to 255, in uint16",
        Told.CHANNEL,
        each(lambda plane: _levels(plane, 8)),
        _NARROW,
        is_listed=False,
    ),
    Kind("enlarged 2 x by repetition", Told.NEVER, each(lambda plane: _zoomed(plane, 0)), _SMOOTH, is_listed=False),
    Kind(
        "square root, x 256",
        Told.CROWDED,
        each(lambda plane: np.sqrt(plane.astype(float)) * 256),
        _SPARSE,
        is_listed=False,
    ),
    Kind(
        "logarithm, to the full range",
        Told.CROWDED,
        each(lambda plane: np.log1p(plane.astype(float)) * 5909),
        _SPARSE,
        is_listed=False,
    ),
    Kind("two slopes, 3 and 0.5", Told.PLANE, each(_two_slopes), is_listed=False),
    Kind("histogram equalised", Told.CROWDED, each(_equalised), _SPARSE, is_listed=False),
    Kind("percentiles 0.1 to 99.9 to the full range", Told.CROWDED, each(_percentiles), _SPARSE, is_listed=False),
    Kind(
        "through floating point of 8 bits",
        Told.CROWDED,
        each(lambda plane: _through_bits(plane, 8)),
        _COARSE,
        is_listed=False,
    ),
    Kind(
        "through floating point of 11 bits (half)",
        Told.CROWDED,
        each(lambda plane: _through_bits(plane, 11)),
        _COARSE,
        is_listed=False,
    ),
    Kind("bit 0 stuck at 1", Told.PLANE, each(lambda plane: plane | np.uint16(1)), is_listed=False),
    Kind("bit 3 stuck at 0", Told.PLANE, each(lambda plane: plane & np.uint16(0xFFF7)), _FEW, is_listed=False),
    Kind("bit 6 stuck at 1", Told.CHANNEL, each(lambda plane: plane | np.uint16(0x40)), _DISTINCT, is_listed=False),
    Kind("rounded to eights", Told.PLANE, each(lambda plane: np.rint(plane / 8) * 8), is_listed=False),
    Kind("x 5 on 13 bits", Told.PLANE, each(lambda plane: (plane >> 3) * np.uint16(5)), is_listed=False),
    Kind(
        "int16 read as uint16: ÷ 2, plus 32768",
        Told.FLAG,
        each(lambda p: p // 2 + np.uint16(32768)),
        _SIGN,
        is_listed=False,
    ),
    Kind("sign bit turned", Told.FLAG, each(lambda plane: plane ^ np.uint16(0x8000)), _SIGN, is_listed=False),
    Kind("inverted, 65535 - x", Told.NEVER, each(lambda plane: np.uint16(FULL) - plane), _CURVE, is_listed=False),
    Kind("8-bit colour made grey, x 257", Told.PLANE, each(_grey_of_colour), is_listed=False),
    Kind("12 bits packed, read as 16", Told.NEVER, each(_packed), _RAW, is_listed=False),
    Kind("read one byte late", Told.PLANE, each(_one_byte_late), is_listed=False),
    Kind("lower half all zeros", Told.FLAG, each(_half_empty), _LOWER, is_listed=False),
    Kind(
        "a quarter of the planes 8 bits, x 257",
        Told.PLANE,
        _some(0.25, each(lambda p: _levels(p, 8) * 257)),
        is_listed=False,
    ),
    Kind(
        "a quarter of the planes cut off at 4095",
        Told.PLANE,
        _some(0.25, each(lambda p: np.minimum(p, 4095))),
        is_listed=False,
    ),
)
