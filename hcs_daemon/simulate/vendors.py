"""Whose files the simulated instrument can write."""

from hcs_daemon.errors import SettingsError
from hcs_daemon.simulate.arrayscan_files import ArrayScanFiles
from hcs_daemon.simulate.cellvoyager_files import CellVoyagerFiles
from hcs_daemon.simulate.cytation_files import CytationFiles
from hcs_daemon.simulate.harmony_files import HarmonyFiles
from hcs_daemon.simulate.imagexpress_files import ImageXpressFiles
from hcs_daemon.simulate.incell_files import InCellFiles
from hcs_daemon.simulate.measurement import Vendor
from hcs_daemon.simulate.ome_files import OmeFiles
from hcs_daemon.simulate.scanr_files import ScanRFiles

_ALL: tuple[Vendor, ...] = (
    HarmonyFiles(),
    ImageXpressFiles(),
    CellVoyagerFiles(),
    InCellFiles(),
    CytationFiles(),
    ArrayScanFiles(),
    ScanRFiles(),
    OmeFiles(),
)
VENDORS = {vendor.manner.name: vendor for vendor in _ALL}
"""By the name that `watch.instrument` has for them."""


def vendor_called(name: str) -> Vendor:
    """One vendor's way of writing. Raises SettingsError for a name that nobody has."""
    if name not in VENDORS:
        raise SettingsError(f"no simulated instrument is called {name!r}", f"choose one of {', '.join(VENDORS)}")
    return VENDORS[name]
