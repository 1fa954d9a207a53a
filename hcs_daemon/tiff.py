"""Bytes to pixels and tags, and back: the only place that knows tifffile.

A file is read once into memory by whoever calls; everything here works on those bytes. The declared size is
checked before anything is allocated.
"""

import io
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from hcs_daemon.records import Pixels
from hcs_daemon.vocabulary import Reason

# tifffile logs what it repairs; we refuse instead, in our own words
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

MAX_PLANE_BYTES = 1 << 29
"""The largest decoded plane accepted: 512 MiB, sixteen times the largest camera sold for screening."""
HARMONY_TAG = 65500
_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class TiffProblem(Exception):  # noqa: N818 (it becomes a Rejection, not an error)
    """These bytes are not one plane of raw data. `may_grow`: the file may still be being written."""

    def __init__(self, reason: Reason, detail: str, hint: str, *, may_grow: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.hint = hint
        self.may_grow = may_grow


@dataclass(frozen=True, slots=True)
class DecodedTiff:
    """pixels: (height, width), raw counts in the file's own type, native byte order. compression: by name."""

    pixels: Pixels
    compression: str


def decode_plane(data: bytes, max_plane_bytes: int = MAX_PLANE_BYTES) -> DecodedTiff:
    """Decode the single plane in a TIFF file's bytes.

    Raises TiffProblem when the bytes are not a TIFF (`not_an_image`), end early (`truncated`), hold something
    other than one grey plane (`wrong_shape`, `wrong_container`) or declare more than `max_plane_bytes`.
    """
    if not data or not any(data):
        raise TiffProblem(
            Reason.TRUNCATED,
            f"{len(data)} bytes, all zero" if data else "the file is empty",
            "the copy or the export stopped before the first byte; write the file again",
            may_grow=True,
        )
    if data[:4] not in _MAGICS:
        raise TiffProblem(
            Reason.NOT_AN_IMAGE,
            f"does not begin like a TIFF but with {data[:8]!r}",
            "a file of another kind has an image's name; remove it or name it for what it is",
            may_grow=data[:4] == b"\0\0\0\0",
        )
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tif:
            page = _only_page(tif, data, max_plane_bytes)
            pixels = page.asarray()
            compression = page.compression.name.lower()
    except TiffProblem:
        raise
    except (MemoryError, RecursionError) as error:
        raise TiffProblem(Reason.UNREADABLE, f"decoding failed: {error!r}", "write the file again") from error
    except Exception as error:  # the codecs raise many types; every one means these bytes do not decode
        raise _truncated(f"does not decode: {type(error).__name__}: {error}") from error
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return DecodedTiff(pixels=native, compression=compression)


def encode_plane(
    pixels: Pixels,
    *,
    harmony_xml: str | None = None,
    statistics_json: str | None = None,
    software: str = "hcs-daemon simulated instrument",
) -> bytes:
    """One LZW plane as an Opera Phenix writes it: tags 340/341, and 65500/65520 when given.

    pixels: (height, width) uint8 or uint16.
    """
    extratags: list[tuple[int, str | int, int, object, bool]] = [
        (340, "H" if pixels.dtype == np.uint16 else "B", 1, int(pixels.min()), True),
        (341, "H" if pixels.dtype == np.uint16 else "B", 1, int(pixels.max()), True),
    ]
    if harmony_xml is not None:
        encoded = harmony_xml.encode()
        extratags.append((HARMONY_TAG, 1, len(encoded), encoded, True))
    if statistics_json is not None:
        extratags.append((65520, 2, 0, statistics_json, True))
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        pixels,
        photometric="minisblack",
        compression="lzw",
        rowsperstrip=max(1, min(pixels.shape[0], 262144 // max(1, pixels.shape[1] * pixels.itemsize))),
        metadata=None,
        software=software,
        extratags=extratags,
    )
    return buffer.getvalue()


def harmony_xml(data: bytes) -> str | None:
    """The XML in tag 65500 of a Harmony TIFF, or None where there is none."""
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        tag = tif.pages.first.tags.get(HARMONY_TAG)
        if tag is None:
            return None
        return bytes(tag.value).decode("utf-8", errors="replace") if isinstance(tag.value, bytes) else str(tag.value)


def replace_harmony_xml(data: bytes, xml: str) -> bytes:
    """The same file with another text in tag 65500; not one byte of the pixels changes.

    The new text is appended to the file and the directory's entry is pointed at it. Classic TIFF only.
    """
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


def _only_page(tif: tifffile.TiffFile, data: bytes, max_plane_bytes: int) -> tifffile.TiffPage:
    if not tif.pages:
        raise _truncated("its directory lies past the end of the file")
    page = tif.pages.first
    _check_declared(page, max_plane_bytes)
    _check_strips(page, data)
    if len(tif.pages) != 1:
        raise TiffProblem(
            Reason.WRONG_SHAPE,
            f"holds {len(tif.pages)} pages, expected one plane a file",
            "export one plane a file",
        )
    return page


def _check_declared(page: tifffile.TiffPage, max_plane_bytes: int) -> None:
    if page.samplesperpixel != 1 or page.photometric == tifffile.PHOTOMETRIC.PALETTE or len(page.shape) != 2:
        raise TiffProblem(
            Reason.WRONG_SHAPE,
            f"shape {'x'.join(map(str, page.shape))}, {page.samplesperpixel} samples a pixel, {page.photometric.name}",
            "this is a picture for the screen, not raw data: export raw grey planes, without colours",
        )
    if page.dtype is None or page.dtype.kind != "u" or page.dtype.itemsize not in (1, 2):
        raise TiffProblem(
            Reason.WRONG_CONTAINER,
            f"pixels are {page.dtype}, expected uint8 or uint16",
            "export raw camera counts, not processed or floating-point images",
        )
    declared = int(page.shape[0]) * int(page.shape[1]) * page.dtype.itemsize
    if declared > max_plane_bytes:
        raise TiffProblem(
            Reason.TOO_LARGE,
            f"declares {page.shape[1]} x {page.shape[0]} pixels, {declared} bytes decoded",
            f"no camera plane is larger than {max_plane_bytes} bytes; the header is damaged or hostile",
        )


def _check_strips(page: tifffile.TiffPage, data: bytes) -> None:
    """Strips must lie inside the file, and a preallocated copy's last strip of zeros is not data yet."""
    spans: Sequence[tuple[int, int]] = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not spans or len(page.dataoffsets) != len(page.databytecounts):
        raise _truncated("its strips are not listed")
    for offset, count in spans:
        if offset == 0 or count == 0 or offset + count > len(data):
            raise _truncated(f"a strip of {count} bytes at {offset} lies past the end ({len(data)} bytes)")
    offset, count = spans[-1]
    if len(spans) > 1 and not any(data[offset : offset + count]) and any(data[spans[0][0] : sum(spans[0])]):
        raise _truncated("its last strip is all zeros: the copy has not arrived there yet")
