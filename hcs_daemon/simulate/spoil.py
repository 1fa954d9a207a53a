"""Files damaged on purpose, for tests and the demo: the bytes of a good plane in, those of a bad one out.

Where the result is still an image it keeps tag 65500, so that only what is meant to be wrong is wrong.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.records import Pixels
from hcs_daemon.tiff import decode_plane, encode_plane, harmony_xml


def truncated(data: bytes, share: float = 0.5) -> bytes:
    """The first `share` (0 to 1) of the file: a copy that broke off."""
    return data[: int(len(data) * share)]


def eight_bit(data: bytes) -> bytes:
    """The plane stretched over 8 bits, uint8: an export for the screen."""
    return _again(data, _stretched(data))


def eight_bit_scaled(data: bytes) -> bytes:
    """The plane stretched over 8 bits, then multiplied by 257 in uint16: looks like 16 bits and is not."""
    scaled: NDArray[np.uint16] = _stretched(data).astype(np.uint16) * np.uint16(257)
    return _again(data, scaled)


def shifted_12_bit(data: bytes) -> bytes:
    """The twelve high bits of the plane alone: a 12-bit camera's values shifted left by four, in uint16."""
    return _again(data, _pixels(data).astype(np.uint16) & np.uint16(0xFFF0))


def other_shape(data: bytes) -> bytes:
    """The upper left quarter of the plane: another binning or another camera."""
    pixels = _pixels(data)
    return _again(data, pixels[: pixels.shape[0] // 2, : pixels.shape[1] // 2])


def rgb(data: bytes) -> bytes:
    """The plane as a grey picture of three colours, (height, width, 3) uint8: a screenshot."""
    return _again(data, np.repeat(_stretched(data)[..., None], 3, axis=2), photometric="rgb")


def text(data: bytes) -> bytes:
    """Words instead of a plane; of the file only its length is told."""
    return f"Measurement exported without errors.\nBytes expected: {len(data)}\n".encode()


def _pixels(data: bytes) -> Pixels:
    return decode_plane(data).pixels


def _stretched(data: bytes) -> NDArray[np.uint8]:
    """The plane's own range spread over 0 to 255."""
    pixels = _pixels(data).astype(np.float64)
    span = max(1.0, float(pixels.max() - pixels.min()))
    return cast("NDArray[np.uint8]", np.rint((pixels - pixels.min()) * (255.0 / span)).astype(np.uint8))


def _again(data: bytes, pixels: Pixels, photometric: str = "minisblack") -> bytes:
    return encode_plane(pixels, harmony_xml=harmony_xml(data), photometric=photometric)
