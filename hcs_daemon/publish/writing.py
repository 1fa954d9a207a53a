"""One well revision on its way to the disk."""

from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from hcs_daemon.plate import WellId
from hcs_daemon.publish.desk import Desk
from hcs_daemon.publish.documents import well_json
from hcs_daemon.publish.files import write_atomic
from hcs_daemon.publish.ledger import Ledger, digest
from hcs_daemon.publish.schemas import WellResult
from hcs_daemon.telemetry import Event, get_log


class _Done(IntEnum):
    """How far it came; each step is done once, also when the disk refuses the next."""

    NOTHING = 0
    KEPT = 1
    WRITTEN = 2
    LISTED = 3


class WellWrite:
    """A job for the outbox: keep the present revision, replace it (that commits), list the new one.

    compose: makes the result from its revision number and monotonic seconds. published: told when it is done.
    """

    def __init__(
        self,
        results: Path,
        desk: Desk,
        well: WellId,
        ledger: Ledger,
        compose: Callable[[int, float], WellResult],
        published: Callable[[WellResult, float], None],
    ) -> None:
        self._desk = desk
        self._well = well
        self._ledger = ledger
        self._compose = compose
        self._published = published
        self._path = well_json(desk.folder, well)
        self._name = self._path.relative_to(results).as_posix()
        self._done = _Done.NOTHING
        self._result: WellResult
        self._digest = ""

    def __call__(self, now_s: float) -> None:
        """Do what is left to do. Raises OSError."""
        if self._done < _Done.KEPT:
            keep_present(self._path, self._name, self._ledger)
            self._done = _Done.KEPT
        if self._done < _Done.WRITTEN:
            self._write(now_s)
            self._done = _Done.WRITTEN
        if self._done < _Done.LISTED:
            result = self._result
            self._ledger.append(self._name, result.revision, self._digest, result.timing.published_at)
            self._done = _Done.LISTED
        self._published(self._result, now_s)

    def _write(self, now_s: float) -> None:
        self._result = self._compose(self._next_revision(), now_s)
        data = self._result.text()
        # never beside a result that it does not show; without one, it is drawn at the next start
        self._path.with_suffix(".png").unlink(missing_ok=True)
        write_atomic(self._path, data)
        self._digest = digest(data)
        self._desk.results[self._well] = self._result

    def _next_revision(self) -> int:
        current = self._desk.results.get(self._well)
        return max(max(self._ledger.revisions(self._name), default=0), current.revision if current else 0) + 1


def keep_present(path: Path, name: str, ledger: Ledger) -> None:
    """Copy a well's present revision into `revisions/`; one that is not what was written is moved aside."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    listed = {sha256: revision for revision, sha256 in ledger.revisions(name).items()}
    revision = listed.get(digest(data))
    if revision is None:
        set_aside(path, "its SHA-256 is not in the ledger")
    else:
        write_atomic(path.parent.parent / "revisions" / f"{path.stem}.r{revision}.json", data)


def set_aside(path: Path, problem: str) -> None:
    """Move a damaged result out of the way, so that it is neither believed nor lost. Raises OSError."""
    folder = path.parent.parent / "revisions"
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while (place := folder / f"{path.stem}.damaged-{number}.json").exists():
        number += 1
    path.rename(place)
    get_log().error(
        Event.RESULT_DAMAGED,
        path=path,
        detail=problem,
        kept_as=place.name,
        hint="nobody but the daemon should write here; the well is done again",
    )
