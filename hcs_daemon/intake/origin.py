"""Whether folders that are to be worked through have the results of a plate to themselves.

A plate and its acquisition are known by name. Where two folders claim one name, the wells of the second would become
revisions of the first's, and the inputs of the others would be looked for where they never were.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from hcs_daemon.errors import SettingsError
from hcs_daemon.instruments.naming import FileKind, Instrument, as_text, name_of_root
from hcs_daemon.instruments.recognition import afresh
from hcs_daemon.intake.arrival import ScanReport
from hcs_daemon.plate import AcquisitionId, split_page
from hcs_daemon.records import Restored, RestoredPlate, Sighting, SourceFile


def check_origins(roots: Mapping[Path, ScanReport], instrument: Instrument, restored: Restored) -> None:
    """Raise SettingsError where two of `roots`, or one of them and an earlier run's, claim one plate and acquisition.

    A folder that was moved, or whose share is mounted elsewhere now, may go on: every input is there as it was.
    """
    before = {plate.acquisition: plate for plate in restored.plates}
    if len(roots) < 2 and not before:
        return  # nothing to be mixed with: no name needs to be read
    claimed: dict[AcquisitionId, Path] = {}
    for root, report in roots.items():
        files = {as_text(found.path.relative_to(root).as_posix()): found for found in report.sightings}
        for acquisition in _acquisitions(root, files, instrument):
            if acquisition in claimed:
                raise _refusal(acquisition, claimed[acquisition], root)
            claimed[acquisition] = root
            plate = before.get(acquisition)
            if plate is not None and plate.root not in {None, str(root)} and not _holds_inputs(files, plate):
                raise _refusal(acquisition, Path(str(plate.root)), root)


def _acquisitions(root: Path, names: Iterable[str], instrument: Instrument) -> list[AcquisitionId]:
    """Those that planes are of, in the order of their first file."""
    name, paths, instrument = name_of_root(root), [PurePosixPath(each) for each in names], afresh(instrument)
    instrument.look_ahead(paths)
    readings = ((path, instrument.read_name(name, path)) for path in paths)
    held = (
        reading.address.acquisition if reading.address is not None else instrument.acquisition_of(name, path)
        for path, reading in readings
        if reading.kind in {FileKind.PLANE, FileKind.BUNDLE}
    )
    return list(dict.fromkeys(held))


def _holds_inputs(files: Mapping[str, Sighting], plate: RestoredPlate) -> bool:
    sources = (use.plane.source for well in plate.wells for use in well.inputs)
    named = ((split_page(Path(source.path))[0].as_posix(), source) for source in sources)
    return all(name in files and _is_as_before(files[name], source) for name, source in named)


def _is_as_before(found: Sighting, source: SourceFile) -> bool:
    """Whether a file is the one that was read; a copy may bear another time."""
    if found.size_bytes != source.size_bytes:
        return False
    if found.mtime_ns == source.mtime_ns:
        return True
    try:
        with found.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == source.sha256
    except OSError:
        return False


def _refusal(acquisition: AcquisitionId, first: Path, second: Path) -> SettingsError:
    return SettingsError(
        f"{first} and {second} both hold plate {acquisition.plate}, acquisition {acquisition.acquisition}, with files "
        "that differ in name or content; their results would be mixed",
        "give one of them a results folder of its own with --results, or rename its measurement folder",
    )
