"""The HTD file: what MetaXpress was told to image on a plate.

Lines of a quoted key and its values, the first `"HTSInfoFile"`, the last `"EndFile"`, in the code page of the
instrument's computer. The keys and their meaning are after Bio-Formats (`CellWorxReader`, `MetaxpressTiffReader`) and
the HTD files of the IDR that they read (idr0005, idr0006, idr0008, idr0081):

- `XWells`, `YWells` are the plate's columns and rows, `WellsSelection<row>` has TRUE for each well that is imaged.
- `SiteSelection<row>` has TRUE for each site of the `XSites` x `YSites` grid that is imaged, and the files number those
  only: idr0008 selects 4 of 25, and its files are `_s1` to `_s4`. `"Sites", FALSE` is one site, without `_s`.
- `"Waves", FALSE` is one channel, without `_w`; a wave with `WaveCollect<n>` 0 is not taken and keeps its number.
- `ZSteps` is the longest stack: a wave may be taken at one step only, or be projected and the stack thrown away.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from hcs_daemon.instruments.manifest import ImageKey, Manifest
from hcs_daemon.plate import PROJECTION_Z, WellPosition
from hcs_daemon.records import ChannelFacts

_MAX_BYTES = 1 << 20
"""A 1536-well plate's is 15 kB."""
_MAX_IMAGES = 1 << 20
"""Of one well, without z: more is a damaged number."""
_MAX_STEPS = 10_000

_BYTE_ORDER_MARK = b"\xef\xbb\xbf".decode("latin-1")

_Entries = Mapping[str, tuple[str, ...]]


def read_htd(path: Path) -> Manifest | None:
    """What an HTD file promises; None for a cut or broken one. Raises OSError when the file cannot be read."""
    with path.open("rb") as stream:
        data = stream.read(_MAX_BYTES + 1)
    entries = _entries(data.decode("latin-1")) if len(data) <= _MAX_BYTES else {}
    if "htsinfofile" not in entries or "endfile" not in entries:
        return None
    try:
        return _manifest(path.stem, entries)
    except (ValueError, OverflowError):
        return None


def _entries(text: str) -> dict[str, tuple[str, ...]]:
    """Lower-case key -> its values, without quotes. Each line is read alone: a description may hold a lone quote."""
    found: dict[str, tuple[str, ...]] = {}
    try:
        for line in text.removeprefix(_BYTE_ORDER_MARK).split("\n"):
            key, *values = next(csv.reader([line.strip()], skipinitialspace=True), [""]) or [""]
            found.setdefault(key.strip().lower(), tuple(value.strip() for value in values))
    except csv.Error:  # a field longer than any
        return {}
    return found


def _manifest(plate: str, entries: _Entries) -> Manifest:
    """Raises ValueError for a number that is none."""
    columns, rows = _number(entries, "xwells"), _number(entries, "ywells")
    waves = list(_waves(entries))
    sites, times = _sites(entries), _number(entries, "timepoints", 1)
    if len(waves) * sites * times > _MAX_IMAGES:
        raise ValueError("more images in a well than any instrument takes")
    steps, exact = _steps(entries)
    images: dict[ImageKey, frozenset[int]] = {
        (site, time, f"w{wave}"): steps
        for site in range(1, sites + 1)
        for time in range(1, times + 1)
        for wave in waves
    }
    return Manifest(
        planes={WellPosition(*place): images for place in _chosen(entries, "wellsselection", rows, columns)},
        exact_z=exact,
        rows=rows,
        columns=columns,
        channels={f"w{wave}": ChannelFacts(f"w{wave}", _text(entries, f"wavename{wave}")) for wave in waves},
        plate_id=plate,
        measurement_id=_text(entries, "uniqueplateidentifier") or None,
    )


def _steps(entries: _Entries) -> tuple[frozenset[int], bool]:
    """The z steps of each image at most, and whether it is known to have them all."""
    steps = _number(entries, "zsteps", 1)
    if steps > _MAX_STEPS:
        raise ValueError("more z steps than any instrument takes")
    if steps == 1 or not _flag(entries, "zseries", absent=True):
        return frozenset({PROJECTION_Z}), True
    first = PROJECTION_Z if _flag(entries, "zprojection", absent=False) else PROJECTION_Z + 1
    return frozenset(range(first, steps + 1)), False


def _sites(entries: _Entries) -> int:
    """How many a well has: all of the grid where none is selected, for a grid of one has no selection."""
    if not _flag(entries, "sites", absent="xsites" in entries):
        return 1
    across, down = _number(entries, "xsites", 1), _number(entries, "ysites", 1)
    if across * down > _MAX_IMAGES:
        raise ValueError("more sites than any instrument takes")
    if "siteselection1" not in entries:
        return across * down
    return sum(1 for _ in _chosen(entries, "siteselection", down, across))


def _waves(entries: _Entries) -> Iterator[int]:
    if not _flag(entries, "waves", absent="nwavelengths" in entries):
        yield 1
        return
    for wave in range(1, min(_number(entries, "nwavelengths", 1), _MAX_IMAGES) + 1):
        if _text(entries, f"wavecollect{wave}") not in {"0", "FALSE"}:
            yield wave


def _chosen(entries: _Entries, key: str, rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Row and column of each TRUE in rows of flags. Raises ValueError where a row is missing or too short."""
    for row in range(1, rows + 1):
        flags = entries.get(f"{key}{row}", ())
        if len(flags) < columns:
            raise ValueError(f"{key}{row} has {len(flags)} of {columns} flags")
        for column, flag in enumerate(flags[:columns], start=1):
            if flag.upper() == "TRUE":
                yield row, column


def _flag(entries: _Entries, key: str, *, absent: bool) -> bool:
    value = _text(entries, key).upper()
    return value == "TRUE" if value else absent


def _number(entries: _Entries, key: str, absent: int = 0) -> int:
    """A count from 1. Raises ValueError for anything else, an absent one included where `absent` is none."""
    number = int(_text(entries, key) or absent)
    if number < 1:
        raise ValueError(f"{key} is {number}")
    return number


def _text(entries: _Entries, key: str) -> str:
    values = entries.get(key, ())
    return values[0] if values else ""
