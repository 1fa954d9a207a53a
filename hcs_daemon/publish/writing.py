"""One well revision on its way to the disk."""

from collections.abc import Callable
from pathlib import Path

from hcs_daemon.plate import WellId
from hcs_daemon.publish.desk import Desk
from hcs_daemon.publish.documents import well_json
from hcs_daemon.publish.files import make_folder, remove, write_atomic
from hcs_daemon.publish.ledger import Ledger, digest
from hcs_daemon.publish.maps import maps_path
from hcs_daemon.publish.schemas import WellResult
from hcs_daemon.telemetry import Event, get_log


class WellWrite:
    """Keep the present revision, replace it (that commits), list the new one; to be called until the disk takes it.

    compose: makes the result from its revision number and monotonic seconds. maps: the file of its explanations' maps,
    None where there are none, or those that are there go on to be its own. What was done stays done when the disk
    refuses the next step.
    """

    def __init__(
        self,
        results: Path,
        desk: Desk,
        well: WellId,
        ledger: Ledger,
        compose: Callable[[int, float], WellResult],
        *,
        maps: bytes | None = None,
    ) -> None:
        self._desk = desk
        self._well = well
        self._ledger = ledger
        self._compose = compose
        self._maps = maps
        self._path = well_json(desk.folder, well)
        self._name = self._path.relative_to(results).as_posix()
        self._kept = False
        self._written: tuple[WellResult, str] | None = None

    def __call__(self, now_s: float) -> WellResult:
        """Do what is left to do; what was published. Raises OSError."""
        result, sha256 = self._written = self._written or self._replace(now_s)
        self._ledger.append(self._name, result.revision, sha256, result.timing.published_at)
        return result

    def _replace(self, now_s: float) -> tuple[WellResult, str]:
        if not self._kept:  # later, what lies there may be this revision
            keep_present(self._path, self._name, self._ledger)
            self._kept = True
        result = self._compose(self._next_revision(), now_s)
        data = result.text()
        # never beside a result that it does not show; without one, it is drawn at the next start
        remove(self._path.with_suffix(".png"))
        self._place_maps(result)
        write_atomic(self._path, data)
        self._desk.results[self._well] = result
        return result, digest(data)

    def _place_maps(self, result: WellResult) -> None:
        """Before the result, so that it never names maps that are not there."""
        path = maps_path(self._desk.folder, self._well)
        if self._maps is not None:
            write_atomic(path, self._maps)
        elif result.explanation is None or result.explanation.maps_sha256 is None:
            remove(path)

    def _next_revision(self) -> int:
        current = self._desk.results.get(self._well)
        return max(max(self._ledger.revisions(self._name), default=0), current.revision if current else 0) + 1


def keep_present(path: Path, name: str, ledger: Ledger) -> None:
    """Copy a well's present revision into `revisions/`; what was changed is moved aside. Raises OSError."""
    data = _bytes(path)
    if data is None:
        return
    listed = {sha256: revision for revision, sha256 in ledger.revisions(name).items()}
    revision = listed.get(digest(data))
    if revision is None:
        set_aside(path, "its SHA-256 is not in the ledger")
        return
    copy = path.parent.parent / "revisions" / f"{path.stem}.r{revision}.json"
    there = _bytes(copy)
    if there is not None and there != data:
        set_aside(copy, "it is not the revision that it is named after")
    write_atomic(copy, data)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def set_aside(path: Path, problem: str) -> None:
    """Move a damaged result out of the way, so that it is neither believed nor lost. Raises OSError."""
    folder = path.parent.parent / "revisions"
    make_folder(folder)
    number = 1
    while (place := folder / f"{path.stem}.damaged-{number}.json").exists():
        number += 1
    path.rename(place)
    get_log().error(
        Event.RESULT_DAMAGED,
        path=path,
        detail=problem,
        kept_as=place.name,
        hint="nobody but the daemon should write here; a newest revision is done again",
    )
