"""`hcs-daemon process`: the daemon's pipeline over folders that are complete already, and a short account of it."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hcs_daemon import __version__
from hcs_daemon.config import Settings, load_settings
from hcs_daemon.plate import AcquisitionId
from hcs_daemon.publish.names import REJECTED_NAME, plate_folder
from hcs_daemon.publish.restore import read_rejections, standing
from hcs_daemon.service import process
from hcs_daemon.telemetry import Telemetry, configure_logging
from hcs_daemon.terminal import counted, progress_bar, say
from hcs_daemon.vocabulary import WellStatus


@dataclass(frozen=True, slots=True)
class Account:
    """What stands in the results of some acquisitions. wells: by status. rejections: files, by reason."""

    wells: Counter[str]
    rejections: Counter[str]

    @property
    def flawless(self) -> bool:
        """Whether there are wells, every one is complete and no file was rejected."""
        return set(self.wells) == {WellStatus.COMPLETE} and not self.rejections


def process_plates(plates: Sequence[Path], config: Path, results: Path | None) -> int:
    """0 when every well is complete, 1 when something was rejected or partial. Raises HcsError."""
    settings = load_settings(config, {"results": {"directory": str(results)}} if results is not None else None)
    with progress_bar("planes", at_end="explaining, writing") as progress:
        # after the bar, which then keeps below the log's lines
        configure_logging(settings.log.format, settings.log.level)
        found = process(plates, settings, Telemetry(__version__), progress)
    account = take_account(settings.results.directory, found, plates)
    _tell(account, settings, found, plates)
    return 0 if account.flawless else 1


def take_account(results: Path, acquisitions: Iterable[AcquisitionId], roots: Sequence[Path]) -> Account:
    """Count the results of `acquisitions`, and the files below `roots` that were rejected and belong to no plate."""
    wells: Counter[str] = Counter()
    rejections: Counter[str] = Counter()
    for acquisition in acquisitions:
        folder = plate_folder(results, acquisition)
        for path in (folder / "wells").glob("*.json"):
            wells[json.loads(path.read_bytes())["status"]] += 1
        rejections.update(found.reason.value for found in standing(read_rejections(folder / REJECTED_NAME)))
    strangers = standing(read_rejections(results / REJECTED_NAME))
    rejections.update(found.reason.value for found in strangers if any((root / found.path).exists() for root in roots))
    return Account(wells, rejections)


def _tell(account: Account, settings: Settings, found: Sequence[AcquisitionId], plates: Sequence[Path]) -> None:
    if not account.wells:
        say(f"no well was found in {', '.join(map(str, plates))}: `hcs-daemon validate` says how its files are read")
    else:
        by_status = ", ".join(f"{account.wells[status]} {status}" for status in WellStatus)
        say(f"{counted(account.wells.total(), 'well')}: {by_status}")
    if account.rejections:
        reasons = ", ".join(f"{reason} {count}" for reason, count in account.rejections.most_common())
        say(f"{counted(account.rejections.total(), 'file')} rejected: {reasons}")
        say(f"  each with its hint in {REJECTED_NAME}")
    for acquisition in dict.fromkeys(found):
        say(f"results: {plate_folder(settings.results.directory, acquisition)}")
