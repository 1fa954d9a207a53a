"""Uneven light, taken out with what the instrument itself says of it: a polynomial, or an image of the light.

Both are frozen and keep no pixels but in one small cache, so that reader threads share them freely.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.records import Pixels
from hcs_daemon.tiff import TiffProblem, decode_plane

_HIGHEST_DEGREE = 12
_LONGEST_TEXT = 1 << 16
_DEEPEST = 10
_BARE_WORD = re.compile(r"[^{}]*?(?=,\s*\"?\w+\"?:\s|\}|\Z)", re.DOTALL)
"""A value in Harmony's text: up to the next `, Key: ` or brace, for a channel's name may hold commas and colons."""
_KEY = re.compile(r"\"?(\w+)\"?:\s*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)

_Value = str | float | list["_Value"] | dict[str, "_Value"]


@dataclass(frozen=True, slots=True)
class PolynomialProfile:
    """Harmony's foreground profile of a channel: the light relative to its mean, by which raw counts are divided.

    coefficients: by degree, `((c00,), (c10, c01), (c20, c11, c02), …)`; the profile at column x and row y, counted
    from 0, is the sum of c[n][k] * u^(n-k) * v^k with u = (x - origin[0]) * scale[0], v = (y - origin[1]) * scale[1].
    dims: (width, height) of the planes it is made for.

    Harmony does not document the formula. That of EinarOlafsson/spacr (`illumination.py`) gives every profile seen (in
    arronsullivan/Operetta_FFC, and the one in `tests/test_flatfield.py`) a mean of 1.0000 over the plane, as a relative
    profile must have and as reading the lists as powers of x and y does not; and it follows the shade in real images
    better than any other order or direction. Harmony's own correction also estimates each image's background and treats
    it apart (the vendor's script in BIOP/biop-operetta-tools, mode `Foreground`), which this does not: background is
    divided with the rest.
    """

    coefficients: tuple[tuple[float, ...], ...]
    dims: tuple[int, int]
    origin: tuple[float, float]
    scale: tuple[float, float]

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read the text of a `FlatfieldProfile`; None for whatever is not wholly understood.

        That is every other type than a polynomial (`Identity` of a channel without a correction), and a profile that
        is not above zero everywhere.
        """
        try:
            profile = _profile(text)
            found = cls(
                coefficients=tuple(_numbers(row) for row in _list(profile["Coefficients"])),
                dims=_pair_of_whole(_numbers(profile["Dims"])),
                origin=_pair(_numbers(profile["Origin"])),
                scale=_pair(_numbers(profile["Scale"])),
            )
        except (KeyError, ValueError):
            return None
        return found if profile.get("Type") == "Polynomial" and found._is_sound() else None

    @property
    def digest(self) -> str:
        """SHA-256 of the numbers."""
        numbers = repr((self.coefficients, self.dims, self.origin, self.scale))
        return hashlib.sha256(f"harmony-polynomial {numbers}".encode()).hexdigest()

    @property
    def words(self) -> str:
        """What it is, in words."""
        return f"divided by Harmony's foreground profile, a polynomial of degree {len(self.coefficients) - 1}"

    def correct(self, pixels: Pixels) -> Pixels:
        """(height, width) raw counts, each divided by the profile, rounded half to even, in the same type.

        Raises ValueError where the profile is made for another size.
        """
        width, height = self.dims
        if pixels.shape != (height, width):
            raise ValueError(
                f"the flat-field profile is made for {width} x {height} pixels, the plane has "
                f"{pixels.shape[1]} x {pixels.shape[0]}"
            )
        profile = self.at(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
        if not profile.min() > 0:
            raise ValueError("the flat-field profile is not above zero everywhere")
        return _counts(np.divide(pixels, profile, out=profile), pixels)

    def at(self, columns: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The profile at each column of each row: (rows, columns) float64.

        A product of two thin matrices and a small one, made again for each plane: half a millisecond for 1080 x 1080.
        """
        u = (columns - self.origin[0]) * self.scale[0]
        v = (rows - self.origin[1]) * self.scale[1]
        terms = len(self.coefficients)
        by_powers = np.zeros((terms, terms))
        for degree, row in enumerate(self.coefficients):
            for k, coefficient in enumerate(row):
                by_powers[k, degree - k] = coefficient
        found: NDArray[np.float64] = (
            np.vander(v, terms, increasing=True) @ by_powers @ np.vander(u, terms, increasing=True).T
        )
        return found

    def _is_sound(self) -> bool:
        """Triangular, finite, of a size that a camera can have, and above zero wherever a coarse grid looks."""
        if not 1 <= len(self.coefficients) <= _HIGHEST_DEGREE + 1 or not all(0 < size < 1 << 16 for size in self.dims):
            return False
        if any(len(row) != degree + 1 for degree, row in enumerate(self.coefficients)):
            return False
        columns, rows = (np.linspace(0, size - 1, 65) for size in self.dims)
        with np.errstate(all="ignore"):  # what overflows is not finite, and refused
            profile = self.at(columns, rows)
        return bool(np.isfinite(profile).all() and profile.min() > 0)


@dataclass(frozen=True, slots=True)
class ImageProfile:
    """An image of the light, as Yokogawa's machines keep one for each channel (`SC_*.tif`).

    shading: a TIFF of an evenly bright field. dark: one without light (`DC_*.tif`), None where there is none. Corrected
    are (raw - dark) * mean(shading - dark) / (shading - dark): the linear model of Model, Curr. Protoc. Cytom. 68
    (2014) 10.14, and of Peng et al., Nat. Commun. 8 (2017) 14836, with the light's mean kept. The images are read when
    they are first needed; each is read again where its size or time changed.
    """

    shading: Path
    dark: Path | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the images' bytes; of their names while one cannot be read, and then nothing is corrected."""
        try:
            return _light(self.shading, self.dark).digest
        except (OSError, ValueError):
            names = "\n".join(path.name for path in (self.shading, self.dark) if path)
            return hashlib.sha256(f"unread {names}".encode()).hexdigest()

    @property
    def words(self) -> str:
        """What it is, in words."""
        less = f", less {self.dark.name}," if self.dark else ""
        return f"divided by the instrument's image of the light {self.shading.name}{less} relative to its mean"

    def correct(self, pixels: Pixels) -> Pixels:
        """(height, width) raw counts, corrected, rounded half to even, in the same type.

        Raises ValueError where the images are of another size or cannot correct, OSError where they cannot be read.
        """
        light = _light(self.shading, self.dark)
        if pixels.shape != light.shading.shape:
            raise ValueError(
                f"{self.shading.name} has {light.shading.shape[1]} x {light.shading.shape[0]} pixels, the plane has "
                f"{pixels.shape[1]} x {pixels.shape[0]}"
            )
        signal, counts = light.shading.astype(np.float64), pixels.astype(np.float64)
        if light.dark is not None:
            signal -= light.dark
            counts -= light.dark
        counts *= light.mean
        counts /= signal
        return _counts(counts, pixels)


@dataclass(frozen=True, slots=True)
class _Light:
    """Decoded images of the light. mean: of shading less dark, in counts."""

    digest: str
    shading: Pixels
    dark: Pixels | None
    mean: float


def _light(shading: Path, dark: Path | None) -> _Light:
    """The images as they are now. Raises OSError, and ValueError in words for what corrects nothing."""
    return _read_light(shading, dark, *(_state(path) for path in (shading, dark) if path))


@lru_cache(maxsize=8)
def _read_light(shading: Path, dark: Path | None, *states: tuple[int, int]) -> _Light:  # noqa: ARG001 (part of the key)
    sha = hashlib.sha256()
    light = _decoded(shading, sha)
    black = _decoded(dark, sha) if dark else None
    if black is not None and black.shape != light.shape:
        raise ValueError(f"{shading.name} and {dark.name if dark else ''} are of different sizes")
    signal = light.astype(np.float64) - (0 if black is None else black)
    lacking = int(np.count_nonzero(signal <= 0))
    if lacking:
        raise ValueError(f"{lacking} pixels of {shading.name} are not brighter than darkness: no image of the light")
    return _Light(sha.hexdigest(), light, black, float(signal.mean()))


def _decoded(path: Path, sha: "hashlib._Hash") -> Pixels:
    data = path.read_bytes()
    sha.update(hashlib.sha256(data).digest())
    try:
        return decode_plane(data).pixels
    except TiffProblem as problem:
        raise ValueError(f"{path.name}: {problem.detail}") from problem


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _counts(corrected: NDArray[np.float64], raw: Pixels) -> Pixels:
    """Rounded half to even, and clipped to what the raw type holds."""
    np.rint(corrected, out=corrected)
    np.clip(corrected, 0, np.iinfo(raw.dtype).max, out=corrected)
    return corrected.astype(np.uint8) if raw.dtype == np.uint8 else corrected.astype(np.uint16)


def _profile(text: str) -> dict[str, _Value]:
    """`Foreground: {… Profile: {…}}` of Harmony's text. Raises ValueError or KeyError where it is not there."""
    value, end = _parse(text[:_LONGEST_TEXT], 0)
    if text[end:].strip():
        raise ValueError("the text goes on")
    return _object(_object(_object(value)["Foreground"])["Profile"])


def _parse(text: str, at: int, depth: int = 0) -> tuple[_Value, int]:
    """A value of Harmony's notation, and where it ends: JSON without quotes. Raises ValueError."""
    at = _after_space(text, at)
    if depth > _DEEPEST:
        raise ValueError("nested too deep")
    if text.startswith("{", at):
        return _parse_object(text, at + 1, depth)
    if text.startswith("[", at):
        with suppress(ValueError):  # a channel's name may begin like a list
            return _parse_list(text, at + 1, depth)
    match = _BARE_WORD.match(text, at)
    if match is None:
        raise ValueError(f"no value at {at}")
    return match[0].strip().strip('"'), match.end()


def _parse_object(text: str, at: int, depth: int) -> tuple[_Value, int]:
    found: dict[str, _Value] = {}
    while not text.startswith("}", at := _after_space(text, at)):
        key = _KEY.match(text, at)
        if key is None or key[1] in found:
            raise ValueError(f"no key at {at}")
        found[key[1]], at = _parse(text, key.end(), depth + 1)
        at = _after_comma(text, at, "}")
    return found, at + 1


def _parse_list(text: str, at: int, depth: int) -> tuple[_Value, int]:
    if depth > _DEEPEST:
        raise ValueError("nested too deep")
    found: list[_Value] = []
    while not text.startswith("]", at := _after_space(text, at)):
        value, at = _parse_item(text, at, depth)
        found.append(value)
        at = _after_comma(text, at, "]")
    return found, at + 1


def _parse_item(text: str, at: int, depth: int) -> tuple[_Value, int]:
    number = _NUMBER.match(text, at)
    if number is not None:
        return float(number[0]), number.end()
    if text.startswith("[", at):
        return _parse_list(text, at + 1, depth + 1)
    raise ValueError(f"neither a number nor a list at {at}")


def _after_comma(text: str, at: int, closing: str) -> int:
    at = _after_space(text, at)
    if text.startswith(",", at):
        return at + 1
    if not text.startswith(closing, at):
        raise ValueError(f"neither a comma nor {closing} at {at}")
    return at


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _object(value: _Value) -> dict[str, _Value]:
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004 (a text that is not understood, not a wrong argument)
    return value


def _list(value: _Value) -> Sequence[_Value]:
    if not isinstance(value, list):
        raise ValueError("no list")  # noqa: TRY004 (a text that is not understood, not a wrong argument)
    return value


def _numbers(value: _Value) -> tuple[float, ...]:
    numbers = tuple(each for each in _list(value) if isinstance(each, float) and math.isfinite(each))
    if len(numbers) != len(_list(value)):
        raise ValueError("not only finite numbers")
    return numbers


def _pair(numbers: Sequence[float]) -> tuple[float, float]:
    first, second = numbers
    return first, second


def _pair_of_whole(numbers: Sequence[float]) -> tuple[int, int]:
    first, second = numbers
    if not (first.is_integer() and second.is_integer()):
        raise ValueError("not whole numbers")
    return int(first), int(second)
