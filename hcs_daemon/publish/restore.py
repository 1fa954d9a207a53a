"""What an earlier run left in the results folder. Nothing here writes but the move of a damaged result."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from hcs_daemon.plate import AcquisitionId, WellId
from hcs_daemon.publish.documents import input_uses, owes_explanation, rejection_record, well_id, well_json
from hcs_daemon.publish.ledger import Ledger, digest
from hcs_daemon.publish.names import PLATE_NAME, REJECTED_NAME, plate_folder
from hcs_daemon.publish.schemas import PlateFile, RejectionLine, WellResult
from hcs_daemon.records import Rejection, RestoredPlate, RestoredWell
from hcs_daemon.vocabulary import PlateState


@dataclass(slots=True)
class PlateFolder:
    """One acquisition's folder, read.

    wells: the newest results. earlier: where the newest one analysed nothing of planes that the revision before it did,
    that revision: what the model said of them holds, should the reason go. unlisted: (path in the ledger, revision,
    SHA-256) of revisions that the ledger lacks, in order. damaged: result files that are not what was written, and why;
    they still lie where they lay.
    """

    acquisition: AcquisitionId
    folder: Path
    plate: PlateFile | None = None
    wells: dict[WellId, WellResult] = field(default_factory=dict)
    earlier: dict[WellId, WellResult] = field(default_factory=dict)
    rejections: dict[str, Rejection] = field(default_factory=dict)
    unlisted: list[tuple[str, int, str]] = field(default_factory=list)
    damaged: list[tuple[Path, str]] = field(default_factory=list)


def read_rejections(path: Path) -> dict[str, Rejection]:
    """The newest line of every path; a torn or foreign one says nothing. Raises OSError, NewerResultsError."""
    newest: dict[str, Rejection] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return newest
    for raw in lines:
        try:
            rejection = rejection_record(RejectionLine.read(raw, path))
        except ValueError:  # ValidationError is one
            continue
        newest[rejection.path] = rejection
    return newest


def standing(rejections: dict[str, Rejection]) -> tuple[Rejection, ...]:
    """Those that were not taken back."""
    return tuple(rejection for rejection in rejections.values() if not rejection.withdrawn)


def read_plate_folder(results: Path, folder: Path, ledger: Ledger) -> PlateFolder | None:
    """Read one acquisition's folder; None where nothing in it says whose it is.

    Raises OSError, and NewerResultsError where a newer version of the program wrote there.
    """
    plate = _read_plate_file(folder / PLATE_NAME)
    rejections = read_rejections(folder / REJECTED_NAME)
    bytes_of = {path: path.read_bytes() for path in _json_files(folder / "wells")}
    found = {path: _parse_well(path, data) for path, data in bytes_of.items()}
    acquisition = next(
        (said for said in _whose(plate, found, rejections) if plate_folder(results, said) == folder), None
    )
    if acquisition is None:
        return None
    if plate is not None and AcquisitionId(plate.plate, plate.acquisition) != acquisition:
        plate = None  # another folder's
    read = PlateFolder(acquisition, folder, plate, rejections=rejections)
    for path, result in found.items():
        problem = result if isinstance(result, str) else _misplaced(result, acquisition, path)
        if problem is None and isinstance(result, WellResult):
            problem = _check_ledger(results, path, result, ledger, read, found=digest(bytes_of[path]))
        if problem is None and isinstance(result, WellResult):
            read.wells[well_id(result)] = result
            if (before := _analysed_before(folder, path.stem, result)) is not None:
                read.earlier[well_id(result)] = before
        else:
            read.damaged.append((path, str(problem)))
    return read


def restored_plate(read: PlateFolder, settings_fingerprint: str) -> RestoredPlate:
    """What intake needs to know of a plate.

    A plate that owes an explanation is not finished. A well that was not yet done again when a redo was cut short is
    left out, so that it is done then.
    """
    outdated = is_outdated(read, settings_fingerprint)
    wells = [
        result for result in read.wells.values() if outdated or result.settings_fingerprint == settings_fingerprint
    ]
    state = read.plate.state if read.plate else PlateState.ACQUIRING
    if not outdated and any(owes_explanation(result) for result in wells):
        state = PlateState.ACQUIRING
    shape = read.plate.shape if read.plate else next((use.shape for well in wells for use in well.inputs), None)
    return RestoredPlate(
        acquisition=read.acquisition,
        state=state,
        shape=shape,
        outdated=outdated,
        wells=tuple(_restored_well(result, read.earlier.get(well_id(result))) for result in wells),
        rejections=standing(read.rejections),
        root=read.plate.root if read.plate else None,
        pixel_size_um=read.plate.pixel_size_um if read.plate else None,
    )


def is_outdated(read: PlateFolder, settings_fingerprint: str) -> bool:
    """Whether the plate was made with another model or other expectations than the present ones."""
    if read.plate is not None:
        return read.plate.settings_fingerprint != settings_fingerprint
    return any(result.settings_fingerprint != settings_fingerprint for result in read.wells.values())


def plate_folders(results: Path) -> Iterator[Path]:
    """Every folder that may hold an acquisition."""
    for plate in sorted(results.iterdir()):
        if plate.is_dir() and not plate.name.startswith("."):
            yield from (folder for folder in sorted(plate.iterdir()) if folder.is_dir())


def _analysed_before(folder: Path, stem: str, result: WellResult) -> WellResult | None:
    """The revision before one that analysed nothing, where that analysed planes that are all there still."""
    if result.site_results or result.supersedes is None:
        return None
    try:
        kept = folder / "revisions" / f"{stem}.r{result.supersedes}.json"
        before = _parse_well(kept, kept.read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(before, WellResult) or before.settings_fingerprint != result.settings_fingerprint:
        return None
    here = {(entry.path, entry.sha256) for entry in result.inputs}
    return before if all((entry.path, entry.sha256) in here for entry in before.inputs) else None


def _restored_well(result: WellResult, earlier: WellResult | None) -> RestoredWell:
    return RestoredWell(
        well=well_id(result),
        revision=result.revision,
        status=result.status,
        inputs=input_uses(result),
        predicted={entry.site: tuple(entry.key) for entry in (earlier or result).site_results},
        first_plane_at=result.timing.first_plane_at,
        last_plane_at=result.timing.last_plane_at,
        explained=not owes_explanation(result),
    )


def _json_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if path.is_file() and not path.name.startswith("."))


def _read_plate_file(path: Path) -> PlateFile | None:
    """A plate.json that cannot be read is as one that is not there: all it says is written anew."""
    try:
        return PlateFile.read(path.read_bytes(), path)
    except (FileNotFoundError, ValidationError):
        return None


def _parse_well(path: Path, data: bytes) -> WellResult | str:
    """The result, or in words why it is none."""
    try:
        return WellResult.read(data, path)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"is no well result: {where + ': ' if where else ''}{first['msg']}"


def _whose(
    plate: PlateFile | None, wells: dict[Path, WellResult | str], rejections: dict[str, Rejection]
) -> Iterator[AcquisitionId]:
    """Whose folder it is, by all that lies in it."""
    if plate is not None:
        yield AcquisitionId(plate.plate, plate.acquisition)
    for result in wells.values():
        if isinstance(result, WellResult):
            yield AcquisitionId(result.plate, result.acquisition)
    for rejection in rejections.values():
        if rejection.acquisition is not None:
            yield rejection.acquisition


def _misplaced(result: WellResult, acquisition: AcquisitionId, path: Path) -> str | None:
    try:
        well = well_id(result)
    except ValueError as error:
        return str(error)
    if well.acquisition != acquisition or well_json(path.parent.parent, well) != path:
        return f"says it is {result.plate} {result.acquisition} {well.stem}, and lies elsewhere"
    return None


def _check_ledger(
    results: Path, path: Path, result: WellResult, ledger: Ledger, read: PlateFolder, *, found: str
) -> str | None:
    """Compare a result with its line; one that was committed without its line is noted to be listed. found: SHA-256."""
    name = path.relative_to(results).as_posix()
    listed = ledger.revisions(name)
    newest = max(listed, default=0)
    if result.revision < newest:
        return f"is revision {result.revision}, and the ledger lists {newest}"
    if result.revision in listed:
        return None if listed[result.revision] == found else "was changed: its SHA-256 is not the one in the ledger"
    for revision in range(newest + 1, result.revision):
        older = read.folder / "revisions" / f"{path.stem}.r{revision}.json"
        if older.is_file():
            read.unlisted.append((name, revision, digest(older.read_bytes())))
    read.unlisted.append((name, result.revision, found))
    return None
