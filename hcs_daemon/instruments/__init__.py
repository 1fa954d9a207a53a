"""How each vendor names files and what its metadata promises; `instrument_for` picks the one to use."""

from hcs_daemon.config import Watch
from hcs_daemon.instruments.arrayscan import ArrayScan
from hcs_daemon.instruments.cellvoyager import CellVoyager
from hcs_daemon.instruments.cytation import Cytation
from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.imagexpress import ImageXpress
from hcs_daemon.instruments.incell import InCell
from hcs_daemon.instruments.naming import Instrument
from hcs_daemon.instruments.ome import OmeTiff
from hcs_daemon.instruments.pattern import Pattern
from hcs_daemon.instruments.recognition import Auto
from hcs_daemon.instruments.scanr import ScanR

INSTRUMENTS: tuple[Instrument, ...] = (
    Harmony(),
    ImageXpress(),
    CellVoyager(),
    ArrayScan(),
    Cytation(),
    ScanR(),
    InCell(),
    OmeTiff(),
)
"""Every instrument whose names are known; `auto` asks them all. docs/instruments.md shows how to add one."""


def instrument_for(watch: Watch) -> Instrument:
    """The instrument that the settings name; for `auto` a new one, which has seen no folder yet."""
    if watch.instrument == "pattern":
        return Pattern(watch.pattern)
    if watch.instrument == "auto":
        return Auto(INSTRUMENTS)
    return next(each for each in INSTRUMENTS if each.name == watch.instrument)
