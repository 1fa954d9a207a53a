"""Makers of TIFF bytes, whole and broken: the one place where hostile files are built.

`tiff` writes a plain file tag by tag, so that any of it can be made wrong; the others break it in one way each.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from hcs_daemon.records import Pixels

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 277, 278, 279
COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, SAMPLE_FORMAT = 320, 322, 323, 324, 325, 339
NONE, LZW, JPEG, DEFLATE = 1, 5, 7, 8
_FORMATS = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}

_LATER = 0x7EADBEEF  # stands for a place until it is known

Value = tuple[int, Sequence[int]]
"""A tag's type (3: 16 bits, 4: 32 bits, 16: 64 bits) and its values."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a file is laid out. directory_last: as Harmony writes it, behind the pixels."""

    order: str = "<"
    big: bool = False
    directory_last: bool = False
    compression: int = NONE
    rows_per_strip: int = 8


PLAIN = Form()
HARMONY = Form(directory_last=True, compression=LZW)
ONE_STRIP = Form(directory_last=True, compression=LZW, rows_per_strip=1 << 20)
DIRECTORY_FIRST = Form(rows_per_strip=1 << 20)


def plane(height: int = 64, width: int = 96, *, seed: int = 0) -> NDArray[np.uint16]:
    """(height, width) uint16 such as a camera gives: an offset of 100 counts, noise, no zero."""
    noise = np.random.default_rng(seed).poisson(400, (height, width))
    return (100 + noise).astype(np.uint16)


def tiff(
    pixels: Pixels | None = None, form: Form = PLAIN, tags: Mapping[int, Value | None] | None = None, following: int = 0
) -> bytes:
    """A file of one directory.

    pixels: (height, width). tags: put in place of the file's own, or with None left out. following: what stands
    where the next directory's place is written.
    """
    pixels = plane() if pixels is None else pixels
    strips = [
        _packed(pixels[row : row + form.rows_per_strip], form) for row in range(0, len(pixels), form.rows_per_strip)
    ]
    wide = 16 if form.big else 4
    own: dict[int, Value | None] = {
        WIDTH: (4, [pixels.shape[1]]),
        HEIGHT: (4, [pixels.shape[0]]),
        BITS: (3, [8 * pixels.itemsize]),
        COMPRESSION: (3, [form.compression]),
        PHOTOMETRIC: (3, [1]),
        STRIP_OFFSETS: (wide, [0] * len(strips)),
        SAMPLES: (3, [1]),
        ROWS_PER_STRIP: (4, [min(form.rows_per_strip, len(pixels))]),
        STRIP_BYTES: (wide, [len(strip) for strip in strips]),
    }
    before = (16 if form.big else 8) + (
        0 if form.directory_last else len(_directory(own | dict(tags or {}), 0, 0, form))
    )
    places = [before + sum(map(len, strips[:index])) for index in range(len(strips))]
    own[STRIP_OFFSETS] = (wide, places)
    return _assembled(b"".join(strips), own | dict(tags or {}), following, form)


def _packed(rows: Pixels, form: Form) -> bytes:
    raw = rows.astype(rows.dtype.newbyteorder("<" if form.order == "<" else ">")).tobytes()
    if form.compression == LZW:
        return bytes(imagecodecs.lzw_encode(raw))
    return zlib.compress(raw) if form.compression == DEFLATE else raw


def _assembled(body: bytes, tags: Mapping[int, Value | None], following: int, form: Form) -> bytes:
    start = 16 if form.big else 8
    at = start + (len(body) if form.directory_last else 0)
    head = (b"II" if form.order == "<" else b"MM") + struct.pack(form.order + "H", 43 if form.big else 42)
    head += struct.pack(form.order + "HHQ", 8, 0, at) if form.big else struct.pack(form.order + "I", at)
    directory = _directory(tags, at, following, form)
    return head + (body + directory if form.directory_last else directory + body)


def _directory(tags: Mapping[int, Value | None], at: int, following: int, form: Form) -> bytes:
    kept = sorted((number, value) for number, value in tags.items() if value is not None)
    count, wide, entry = ("Q", "Q", "HHQ") if form.big else ("H", "I", "HHI")
    inline = struct.calcsize(wide)
    size = struct.calcsize("=" + count) + len(kept) * (struct.calcsize("=" + entry) + inline) + inline
    entries, values = b"", b""
    for number, (kind, numbers) in kept:
        packed = struct.pack(form.order + _FORMATS[kind] * len(numbers), *numbers)
        entries += struct.pack(form.order + entry, number, kind, len(numbers))
        if len(packed) <= inline:
            entries += packed.ljust(inline, b"\0")
        else:
            entries += struct.pack(form.order + wide, at + size + len(values))
            values += packed + b"\0" * (len(packed) % 2)
    return struct.pack(form.order + count, len(kept)) + entries + struct.pack(form.order + wide, following) + values


def tags_of(data: bytes) -> dict[int, tuple[int, int, bytes]]:
    """Number -> (type, count, bytes of the value) of a classic file's directory."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    found = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        number, kind, values = struct.unpack_from(order + "HHI", data, entry)
        size = values * {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 12: 8}[kind]
        place = entry + 8 if size <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
        found[number] = (kind, values, data[place : place + size])
    return found


def cut(data: bytes, sixteenths: int) -> bytes:
    """The first part of a file: a copy that stopped."""
    return data[: len(data) * sixteenths // 16]


def zero_tail(data: bytes, sixteenths: int) -> bytes:
    """A preallocated copy: the full size, with zeros where bytes are still to come."""
    kept = cut(data, sixteenths)
    return kept + b"\0" * (len(data) - len(kept))


def hole(data: bytes, start: int, size: int) -> bytes:
    """A copy by several streams, one of which is behind: zeros in the middle."""
    return data[:start] + b"\0" * size + data[start + size :]


def loop_to_itself() -> bytes:
    """A directory that names itself as the next."""
    return tiff(following=8)


def loop_of_two() -> bytes:
    """Two directories, each the other's next."""
    first = tiff(following=_LATER)
    second = len(first) + len(first) % 2
    following = first.find(struct.pack("<I", _LATER))
    first = first[:following] + struct.pack("<I", second) + first[following + 4 :]
    return first.ljust(second, b"\0") + _directory({WIDTH: (4, [8])}, second, 8, PLAIN)


def many_pages(pages: int) -> bytes:
    """One plane, and behind it directories that hold nothing but the next one's place."""
    first = tiff(following=_LATER)
    start = len(first) + len(first) % 2
    following = first.find(struct.pack("<I", _LATER))
    first = first[:following] + struct.pack("<I", start) + first[following + 4 :]
    chain = [
        struct.pack("<HHHIII", 1, WIDTH, 4, 1, 8, start + 18 * (page + 1) if page < pages - 2 else 0)
        for page in range(pages - 1)
    ]
    return first.ljust(start, b"\0") + b"".join(chain)


def deflate_bomb(height: int, width: int, inflated: int) -> bytes:
    """One strip that inflates to `inflated` bytes, whatever the size that the file declares."""
    packer = zlib.compressobj(9)
    stream = b"".join(packer.compress(bytes(1 << 20)) for _ in range(inflated >> 20)) + packer.flush()
    tags: dict[int, Value | None] = {
        WIDTH: (4, [width]),
        HEIGHT: (4, [height]),
        COMPRESSION: (3, [DEFLATE]),
        ROWS_PER_STRIP: (4, [height]),
        STRIP_BYTES: (4, [len(stream)]),
    }
    base = tiff(plane(8, 8), tags=tags)
    tags[STRIP_OFFSETS] = (4, [len(base)])
    return tiff(plane(8, 8), tags=tags) + stream


def many_tags(count: int, size: int) -> bytes:
    """Private tags that all claim the same `size` bytes of the file."""
    honest = tiff(tags={40000: (1, [0] * size)})
    place = struct.unpack_from("<I", honest, honest.find(struct.pack("<HHI", 40000, 1, size)) + 8)[0]
    entries = b"".join(struct.pack("<HHII", 40000 + number, 1, size, place) for number in range(count))
    at = len(honest) + len(honest) % 2
    (own,) = struct.unpack_from("<H", honest, 8)
    directory = struct.pack("<H", own - 1 + count) + honest[10 : 10 + 12 * (own - 1)] + entries + struct.pack("<I", 0)
    return (honest[:4] + struct.pack("<I", at) + honest[8:]).ljust(at, b"\0") + directory
