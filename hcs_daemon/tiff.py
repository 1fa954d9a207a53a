"""Bytes to pixels and tags, and back: the only place that knows tifffile.

A file is read once into memory by whoever calls; everything here works on those bytes. What the file declares is
checked before anything is allocated: a plane costs at most twice `MAX_PLANE_BYTES` beside its own bytes, and a
directory is handed to the library only when it is the only one and its tags fit into the file.
"""

import io
import logging
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from hcs_daemon.records import Pixels
from hcs_daemon.vocabulary import Reason

# tifffile logs what it repairs; we refuse instead, in our own words
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

MAX_PLANE_BYTES = 1 << 26
"""The largest decoded plane accepted: 64 MiB, 33 megapixels of 16 bits, thrice the largest screening camera's."""
HARMONY_TAG, STATISTICS_TAG = 65500, 65520
_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_CODECS = {
    tifffile.COMPRESSION.NONE,
    tifffile.COMPRESSION.LZW,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.DEFLATE,
    tifffile.COMPRESSION.PACKBITS,
    tifffile.COMPRESSION.ZSTD,
}
"""Without loss, and never giving more than is asked for. A JPEG has a size of its own, and raw data is no JPEG."""
_BLOCK_BYTES = 4096
"""What a file system leaves out of an unfinished copy is a multiple of this."""
_LZW_HOLE = b"\0" * 16
"""Never in an LZW stream: an encoder writes the code 0 at most twice in a row, since 00 then has its own."""
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""TIFF 6.0 section 2 and BigTIFF: a tag's type -> bytes of one value."""


class TiffProblem(Exception):  # noqa: N818 (it becomes a Rejection, not an error)
    """These bytes are not one plane of raw data. `may_grow`: the file may still be being written."""

    def __init__(self, reason: Reason, detail: str, hint: str, *, may_grow: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.hint = hint
        self.may_grow = may_grow


@dataclass(frozen=True, slots=True)
class TiffTags:
    """What instruments write beside the pixels; empty or None where absent.

    description: ImageDescription (270). software: 305. harmony: the XML in tag 65500. statistics: the JSON in tag
    65520. least, most: MinSampleValue and MaxSampleValue (280, 281). sample_minimum, sample_maximum: SMinSampleValue
    and SMaxSampleValue (340, 341).
    """

    description: str = ""
    software: str = ""
    harmony: str = ""
    statistics: str = ""
    least: int | None = None
    most: int | None = None
    sample_minimum: int | None = None
    sample_maximum: int | None = None


@dataclass(frozen=True, slots=True)
class DecodedTiff:
    """pixels: (height, width), raw counts in the file's own type, native byte order. compression: by name."""

    pixels: Pixels
    compression: str
    tags: TiffTags


def decode_plane(data: bytes, max_plane_bytes: int = MAX_PLANE_BYTES) -> DecodedTiff:
    """Decode the single plane in a TIFF file's bytes.

    Raises TiffProblem when the bytes are not a TIFF (`not_an_image`), end early (`truncated`), hold something
    other than one grey plane (`wrong_shape`, `wrong_container`) or declare more than `max_plane_bytes`.
    """
    if not data[:4].strip(b"\0") and data.count(0) == len(data):
        raise _truncated(f"{len(data)} bytes, all zero" if data else "the file is empty")
    if data[:4] not in _MAGICS:
        raise _no_tiff(data[:8])
    try:
        _check_directories(data)
        with tifffile.TiffFile(io.BytesIO(data)) as tif:
            page = tif.pages.first
            _check_kind(page)
            _check_size(page, max_plane_bytes)
            _check_strips(page, data)
            pixels = page.asarray(maxworkers=1)  # planes are decoded side by side already
            compression = page.compression.name.lower()
            tags = _tags(page)
    except TiffProblem:
        raise
    except MemoryError as error:
        raise TiffProblem(Reason.UNREADABLE, f"decoding failed: {error!r}", "write the file again") from error
    except Exception as error:  # the codecs raise many types; every one means these bytes do not decode
        raise _truncated(f"does not decode: {type(error).__name__}: {error}") from error
    if compression in {"none", "packbits"}:
        _check_rows(pixels)
    return DecodedTiff(pixels=pixels, compression=compression, tags=tags)


def decode_page(path: Path, page: int, max_plane_bytes: int = MAX_PLANE_BYTES) -> DecodedTiff:
    """Decode one page (from 0) of a file of several; only that page's bytes are read.

    Raises OSError where the file cannot be read, and TiffProblem as `decode_plane` does.
    """
    with _opened(path) as tif:
        try:
            found = tif.pages[page]
        except IndexError as error:
            raise _truncated(f"has {len(tif.pages)} pages, and its metadata promises a page {page + 1}") from error
        size = path.stat().st_size
        _check_kind(found)
        _check_size(found, max_plane_bytes)
        _check_spans(found, size)
        return DecodedTiff(found.asarray(maxworkers=1), found.compression.name.lower(), _tags(found))


def first_tags(path: Path) -> TiffTags:
    """The tags of a file's first page, without its pixels. Raises as `decode_page`."""
    with _opened(path) as tif:
        return _tags(tif.pages.first)


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    with path.open("rb") as stream:
        if (magic := stream.read(4)) not in _MAGICS:
            raise _no_tiff(magic)
        stream.seek(0)
        try:
            with tifffile.TiffFile(stream, name=path.name) as tif:
                yield tif
        except (TiffProblem, OSError):
            raise
        except MemoryError as error:
            raise TiffProblem(Reason.UNREADABLE, f"decoding failed: {error!r}", "write the file again") from error
        except Exception as error:  # the codecs raise many types; every one means these bytes do not decode
            raise _truncated(f"does not decode: {type(error).__name__}: {error}") from error


def _no_tiff(start: bytes) -> TiffProblem:
    return TiffProblem(
        Reason.NOT_AN_IMAGE,
        f"does not begin like a TIFF but with {start!r}",
        "a file of another kind has an image's name; remove it or name it for what it is",
        may_grow=start[:4].strip(b"\0") == b"",
    )


def encode_plane(
    pixels: Pixels,
    *,
    harmony_xml: str | None = None,
    statistics_json: str | None = None,
    software: str = "hcs-daemon simulated instrument",
    photometric: str = "minisblack",
) -> bytes:
    """One LZW plane as an Opera Phenix writes it: tags 340/341, and 65500/65520 when given.

    pixels: (height, width) uint8 or uint16; with `photometric="rgb"` (height, width, 3).
    """
    extratags: list[tuple[int, str | int, int, object, bool]] = [
        (340, "H" if pixels.dtype == np.uint16 else "B", 1, int(pixels.min()), True),
        (341, "H" if pixels.dtype == np.uint16 else "B", 1, int(pixels.max()), True),
    ]
    if harmony_xml is not None:
        encoded = harmony_xml.encode()
        extratags.append((HARMONY_TAG, 1, len(encoded), encoded, True))
    if statistics_json is not None:
        extratags.append((STATISTICS_TAG, 2, 0, statistics_json, True))
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        pixels,
        photometric=photometric,
        compression="lzw",
        rowsperstrip=max(1, min(pixels.shape[0], 262144 // max(1, pixels.shape[1] * pixels.itemsize))),
        metadata=None,
        software=software,
        extratags=extratags,
    )
    return buffer.getvalue()


def encode_pages(
    pages: Sequence[Pixels],
    *,
    description: str = "",
    compression: Literal["none", "lzw", "deflate", "packbits"] = "none",
    software: str = "hcs-daemon simulated instrument",
) -> bytes:
    """A TIFF of one or several planes, with little beside the pixels.

    pages: (height, width) uint8 or uint16 each. description: ImageDescription of the first page, written as UTF-8.
    """
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for number, pixels in enumerate(pages):
            writer.write(
                pixels,
                photometric="minisblack",
                compression={"none": None, "deflate": "adobe_deflate"}.get(compression, compression),
                rowsperstrip=max(1, min(pixels.shape[0], 262144 // max(1, pixels.shape[1] * pixels.itemsize))),
                metadata=None,
                software=software,
                description=description.encode() if description and number == 0 else None,
            )
    return buffer.getvalue()


def harmony_xml(data: bytes) -> str | None:
    """The XML in tag 65500 of a Harmony TIFF, or None where there is none."""
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        return _tags(tif.pages.first).harmony or None


def _tags(page: tifffile.TiffPage) -> TiffTags:
    tags = page.tags
    return TiffTags(
        description=_text(tags.get(270)),
        software=_text(tags.get(305)),
        harmony=_text(tags.get(HARMONY_TAG)),
        statistics=_text(tags.get(STATISTICS_TAG)),
        least=_whole(tags.get(280)),
        most=_whole(tags.get(281)),
        sample_minimum=_whole(tags.get(340)),
        sample_maximum=_whole(tags.get(341)),
    )


def _whole(tag: tifffile.TiffTag | None) -> int | None:
    """A whole number, also where it is written as a float; None for anything else."""
    value = None if tag is None else tag.value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def _text(tag: tifffile.TiffTag | None) -> str:
    if tag is None:
        return ""
    return tag.value.decode("utf-8", errors="replace") if isinstance(tag.value, bytes) else str(tag.value)


def replace_harmony_xml(data: bytes, xml: str) -> bytes:
    """The same file with another text in tag 65500; not one byte of the pixels changes.

    xml: at least 5 bytes. The new text is appended to the file and the directory's entry is pointed at it. Raises
    ValueError for a BigTIFF, whose entries are written otherwise, and KeyError for a file without the tag.
    """
    if data[:4] not in _MAGICS[:2]:
        raise ValueError("not a classic TIFF")
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        tag = tif.pages.first.tags[HARMONY_TAG]
        entry, order = tag.offset, tif.byteorder
    text = xml.encode()
    padded = data + b"\0" * (len(data) % 2)  # value offsets are even (TIFF 6.0, section 2)
    patched = bytearray(padded + text)
    struct.pack_into(order + "II", patched, entry + 4, len(text), len(padded))
    return bytes(patched)


def write_tiff(path: Path, pixels: NDArray[np.generic], **options: object) -> None:
    """Write pixels with tifffile's own options; for pictures and fixtures, not for plates."""
    tifffile.imwrite(path, pixels, **options)


def _truncated(detail: str) -> TiffProblem:
    return TiffProblem(
        Reason.TRUNCATED,
        detail,
        "the file ends early or was damaged; copy it again from the instrument",
        may_grow=True,
    )


def _damaged(detail: str) -> TiffProblem:
    return TiffProblem(Reason.UNREADABLE, detail, "the file is damaged; copy it again from the instrument")


def _check_directories(data: bytes) -> None:
    """One directory, its tags inside the file. Looked at before the library, which would follow every loop."""
    order, big = ("<" if data[:2] == b"II" else ">"), data[2:4] in {b"+\0", b"\0+"}
    try:
        (offset,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        seen: set[int] = set()
        while offset and len(seen) < 1000:
            if offset in seen:
                raise _damaged(f"its directories lead back to the one at {offset}")
            seen.add(offset)
            offset = _next_directory(data, offset, order, big=big)
    except struct.error as error:
        raise _truncated(f"a directory lies past the end ({len(data)} bytes)") from error
    if not seen:
        raise _truncated("the place of its directory is still zero")
    if len(seen) > 1:
        raise TiffProblem(
            Reason.WRONG_SHAPE,
            f"holds {'1000 or more' if offset else len(seen)} pages, expected one plane a file",
            "export one plane a file",
        )


def _next_directory(data: bytes, offset: int, order: str, *, big: bool) -> int:
    """Where the directory after this one is, 0 for none. Raises struct.error past the end."""
    count_format, entry_format, value_format = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    (count,) = struct.unpack_from(order + count_format, data, offset)
    if count == 0:
        raise _truncated(f"its directory at {offset} is empty: the copy has not arrived there yet")
    start, inline = offset + struct.calcsize(count_format), struct.calcsize(value_format)
    entry_bytes = struct.calcsize("=" + entry_format) + inline
    (following,) = struct.unpack_from(order + value_format, data, start + count * entry_bytes)
    total = 0
    for entry in range(start, start + count * entry_bytes, entry_bytes):
        tag, kind, values = struct.unpack_from(order + entry_format, data, entry)
        if tag == kind == 0:
            raise _truncated(f"its directory at {offset} ends in zeros: the copy has not arrived there yet")
        size = values * _VALUE_BYTES.get(kind, 0)
        total += size
        if size > inline:
            (place,) = struct.unpack_from(order + value_format, data, entry + entry_bytes - inline)
            if place + size > len(data):
                raise _truncated(f"a tag of {size} bytes at {place} lies past the end ({len(data)} bytes)")
    if total > len(data):
        raise _damaged(f"its tags claim {total} bytes in a file of {len(data)}")
    return int(following)


def _check_kind(page: tifffile.TiffPage) -> None:
    """One sample a pixel, grey, 8 or 16 bits unsigned, compressed without loss."""
    if not page.shape:
        raise _truncated("its directory gives no width or no height")
    grey = page.photometric == tifffile.PHOTOMETRIC.MINISBLACK or 262 not in page.tags
    if page.samplesperpixel != 1 or len(page.shape) != 2 or 0 in page.shape or not grey:
        raise TiffProblem(
            Reason.WRONG_SHAPE,
            f"shape {'x'.join(map(str, page.shape))}, {page.samplesperpixel} samples a pixel, "
            f"{_name(page.photometric)}",
            "this is a picture for the screen, not raw data: export raw grey planes, without colours",
        )
    if page.dtype is None or page.dtype.kind != "u" or page.bitspersample != 8 * page.dtype.itemsize:
        raise _wrong_container(f"{page.bitspersample} bits a sample, {page.dtype}")
    if page.dtype.itemsize not in (1, 2):
        raise _wrong_container(str(page.dtype))
    if page.compression not in _CODECS:
        raise TiffProblem(
            Reason.WRONG_CONTAINER,
            f"compressed as {_name(page.compression)}",
            "export without loss: uncompressed, or as LZW, deflate, packbits or zstd",
        )


def _wrong_container(found: str) -> TiffProblem:
    return TiffProblem(
        Reason.WRONG_CONTAINER,
        f"pixels are {found}, expected uint8 or uint16",
        "export raw camera counts, not processed or floating-point images",
    )


def _name(value: object) -> str:
    return str(getattr(value, "name", value)).lower()


def _check_size(page: tifffile.TiffPage, max_plane_bytes: int) -> None:
    """The plane, and where it is in tiles a tile, must be one that a camera can have taken."""
    sides = [("pixels", page.shape)]
    if page.is_tiled:
        sides.append(("pixels a tile", (page.tilelength, page.tilewidth)))
    for what, (height, width) in sides:
        declared = int(height) * int(width) * page.dtype.itemsize
        if declared > max_plane_bytes:
            raise TiffProblem(
                Reason.TOO_LARGE,
                f"declares {width} x {height} {what}, {declared} bytes decoded",
                f"no camera plane is larger than {max_plane_bytes} bytes; the header is damaged or hostile",
            )


def _check_strips(page: tifffile.TiffPage, data: bytes) -> None:
    """All strips (or tiles) there must be, inside the file, without holes that a copy has yet to fill."""
    for offset, count in _check_spans(page, len(data)):
        if page.compression == tifffile.COMPRESSION.LZW and data.find(_LZW_HOLE, offset, offset + count) >= 0:
            raise _truncated(f"a strip of {count} bytes at {offset} has a hole: the copy has not arrived there yet")


def _check_spans(page: tifffile.TiffPage, size_bytes: int) -> Sequence[tuple[int, int]]:
    """Where all strips (or tiles) are that there must be, inside the file: offset and bytes of each."""
    spans: Sequence[tuple[int, int]] = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    wanted = math.prod(page.chunked)
    if len(page.dataoffsets) != wanted or len(page.databytecounts) != wanted:
        raise _truncated(f"lists {len(spans)} strips of {wanted}")
    for offset, count in spans:
        if offset == 0 or count == 0 or offset + count > size_bytes:
            raise _truncated(f"a strip of {count} bytes at {offset} lies past the end ({size_bytes} bytes)")
    return spans


def _check_rows(pixels: Pixels) -> None:
    """Rows of zeros, a block's worth, where no other pixel is zero, are rows that a copy has yet to fill.

    A camera's counts have an offset, so that zero is rare or everywhere (a black background), not both.
    """
    filled: NDArray[np.bool_] = np.asarray(pixels.max(axis=1) != 0)
    missing = int(filled.size - np.count_nonzero(filled))
    if missing * pixels.shape[1] * pixels.itemsize < _BLOCK_BYTES:
        return
    whole = filled.copy()  # without the rows beside a hole, which it may begin or end in
    whole[1:] &= filled[:-1]
    whole[:-1] &= filled[1:]
    rest = pixels[whole]
    if rest.size and np.count_nonzero(rest) >= 0.999 * rest.size:
        raise _truncated(f"{missing} of its {pixels.shape[0]} rows are all zero, where hardly another pixel is")
