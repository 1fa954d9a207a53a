"""How long it takes to say what files are by their names alone.

    python benchmarks/names.py [--names 100000] [--write benchmarks/NAMES.md]

The same number of planes for each instrument, of a 384-well plate with sites, channels and as many plates as it needs,
written as that instrument names them; read in one process, first by its own grammar, then by `auto`, which asks all.
The time is from text to reading, the path's making included.
"""

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice, product
from pathlib import Path, PurePosixPath

from hcs_daemon.instruments import INSTRUMENTS
from hcs_daemon.instruments.naming import FileKind, Instrument, PlaneAddress
from hcs_daemon.instruments.recognition import Auto
from hcs_daemon.plate import AcquisitionId, plate_wells

_PLANES = {FileKind.PLANE, FileKind.BUNDLE}
LIMIT_S = 2.0
"""What 100 000 names may take."""
SITES, CHANNELS = 9, 5
CHANNEL_IDS = {
    "imagexpress": "w{}",
    "cellvoyager": "C{:02d}",
    "arrayscan": "d{}",
}
"""How a channel's id is written, where it is not a bare number."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds that an instrument's names took: by its own grammar, and by `auto`."""

    instrument: str
    example: str
    own_s: float
    auto_s: float


def names_of(instrument: Instrument, wanted: int) -> list[str]:
    """So many planes as the instrument names them, plate after plate."""
    written = CHANNEL_IDS.get(instrument.name, "{}")
    everything = (
        PlaneAddress(
            AcquisitionId(f"BR{plate:08d}", "2024-01-01T10_00_00-Measurement 1"),
            position,
            site,
            channel=written.format(channel),
        )
        for plate in count(1)
        for position, site, channel in product(plate_wells(384), range(1, SITES + 1), range(1, CHANNELS + 1))
    )
    return [str(instrument.plane_path(address)) for address in islice(everything, wanted)]


def seconds(instrument: Instrument, names: Sequence[str]) -> float:
    """Time to read all names. Raises ValueError where one is no plane: then it is no figure."""
    began = time.perf_counter()
    for name in names:
        reading = instrument.read_name("incoming", PurePosixPath(name))
        if reading.kind not in _PLANES:
            raise ValueError(f"{name} is no plane for {instrument.name}: {reading.problem}")
    return time.perf_counter() - began


def measure(wanted: int) -> list[Timed]:
    """Every instrument in turn."""
    found: list[Timed] = []
    for instrument in INSTRUMENTS:
        names = names_of(instrument, wanted)
        found.append(Timed(instrument.name, names[0], seconds(instrument, names), seconds(Auto(INSTRUMENTS), names)))
    return found


def as_text(wanted: int, figures: Sequence[Timed]) -> str:
    """The figures as a page."""
    lines = [
        "# Names",
        "",
        f"Seconds to say of {wanted} names what they are, in one process; at most {LIMIT_S * wanted / 100_000:g}.",
        "",
        "| instrument | by its own grammar | by `auto` | such as |",
        "|---|---|---|---|",
        *(f"| {each.instrument} | {each.own_s:.2f} | {each.auto_s:.2f} | `{each.example}` |" for each in figures),
        "",
        f"{platform.system()}, Python {platform.python_version()}.",
        "",
        f"    python benchmarks/names.py --names {wanted}",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, and write if asked; 1 where a grammar is slower than the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=int, default=100_000)
    parser.add_argument("--write", type=Path, help="also write the page here")
    arguments = parser.parse_args()
    figures = measure(arguments.names)
    text = as_text(arguments.names, figures)
    print(text, end="")
    if arguments.write is not None:
        arguments.write.write_text(text, "utf-8")
    slowest = max(max(each.own_s, each.auto_s) for each in figures)
    return 0 if slowest <= LIMIT_S * arguments.names / 100_000 else 1


if __name__ == "__main__":
    sys.exit(main())
