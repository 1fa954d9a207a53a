"""The ledger: one line a well revision, each chained to the line before by its SHA-256.

It proves that no result was changed, removed or put in between afterwards; it does not prove who wrote it.
"""

import glob
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from hcs_daemon.publish.files import LineFile, cut_file
from hcs_daemon.publish.names import LEDGER_NAME
from hcs_daemon.publish.schemas import LedgerLine

FIRST = "0" * 64
"""What stands for the line before the first."""


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """entries: lines that were read. broken: the first thing that does not hold, in words, or None."""

    entries: int
    broken: str | None


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@dataclass(slots=True)
class Chain:
    """What a ledger's lines say.

    listed: path -> revision -> SHA-256. began: the time of the first line. torn: bytes after the last newline.
    """

    count: int = 0
    previous: str = FIRST
    listed: dict[str, dict[int, str]] = field(default_factory=dict)
    broken: str | None = None
    began: datetime | None = None
    torn: bytes = b""

    def follow(self, raw: bytes) -> None:
        """Take the next line; what does not fit is noted, and the chain goes on after it."""
        self.count += 1
        problem = self._problem(raw)
        if problem is not None and self.broken is None:
            self.broken = f"line {self.count} {problem}"
        self.previous = digest(raw)

    def _problem(self, raw: bytes) -> str | None:
        try:
            line = LedgerLine.read(raw, f"line {self.count} of {LEDGER_NAME}")
        except ValidationError:
            return "is not a ledger line"
        self.began = self.began or line.time
        revisions = self.listed.setdefault(line.path, {})
        repeated = line.revision in revisions
        revisions.setdefault(line.revision, line.sha256)
        if line.number != self.count:
            return f"has the number {line.number}"
        if line.previous != self.previous:
            return "does not follow from the line before, which was changed, removed or put in"
        return f"lists revision {line.revision} of {line.path} again" if repeated else None


def read_chain(path: Path) -> Chain:
    """Read a ledger; one that is not there is empty. Raises OSError or NewerResultsError."""
    chain = Chain()
    try:
        *lines, chain.torn = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return chain
    for raw in lines:
        chain.follow(raw)
    return chain


class Ledger:
    """Appends to one ledger. Owned by the publish thread, the only writer.

    repaired: in words, what opening it mended, or None.
    """

    def __init__(self, results: Path) -> None:
        self._path = results / LEDGER_NAME
        self._lines = LineFile(self._path)
        self.chain = read_chain(self._path)
        self.repaired = self._mend_tail()

    def revisions(self, path: str) -> dict[int, str]:
        """Revision -> SHA-256 of a well's path."""
        return self.chain.listed.get(path, {})

    def append(self, path: str, revision: int, sha256: str, time: datetime) -> None:
        """List one revision, unless it is listed already. Raises OSError; then nothing is listed."""
        if revision in self.revisions(path):
            return
        line = LedgerLine(
            number=self.chain.count + 1,
            time=time,
            path=path,
            revision=revision,
            sha256=sha256,
            previous=self.chain.previous,
        )
        raw = line.line()
        self._lines.append(raw)
        self.chain.follow(raw)

    def _mend_tail(self) -> str | None:
        """A crash in the middle of an append leaves a part of a line, or a line without its newline."""
        torn, self.chain.torn = self.chain.torn, b""
        if not torn:
            return None
        cut_file(self._path, self._path.stat().st_size - len(torn))
        return f"a torn last line of {len(torn)} bytes was cut off"


def verify_ledger(results: Path) -> LedgerReport:
    """Check the chain, and every well revision in `results` against it. Raises OSError where nothing can be read."""
    report = _verify(results)
    # between two looks a daemon at work may have replaced a file and not yet listed it
    while report.broken is not None and (again := _verify(results)).entries != report.entries:
        report = again
    return report


def _verify(results: Path) -> LedgerReport:
    chain = read_chain(results / LEDGER_NAME)
    if chain.torn and chain.broken is None:
        chain.broken = f"the last line is torn ({len(chain.torn)} bytes without a newline); the next start mends it"
    if chain.broken is not None:
        return LedgerReport(chain.count, chain.broken)
    return LedgerReport(chain.count, next(_broken_files(results, chain), None))


def revision_path(path: str, revision: int, newest: int) -> str:
    """Where a revision of the well at `path` lies, relative to the results folder as `path` is."""
    if revision == newest:
        return path
    folder, _, name = path.rpartition("/wells/")
    return f"{folder}/revisions/{name.removesuffix('.json')}.r{revision}.json"


def _broken_files(results: Path, chain: Chain) -> Iterator[str]:
    known: set[str] = set()
    for path, revisions in chain.listed.items():
        newest = max(revisions)
        for revision, sha256 in sorted(revisions.items()):
            place = revision_path(path, revision, newest)
            known.add(place)
            problem = _file_problem(results / place, sha256)
            if problem is not None:
                yield f"{place} (revision {revision}) {problem}{_set_aside(results, path) if problem == _GONE else ''}"
        yield from _broken_maps(results, path)
        # a crash may leave the newest one's copy, made before its successor was to replace it
        copy = revision_path(path, newest, newest + 1)
        known.add(copy)
        if _file_problem(results / copy, revisions[newest]) == _CHANGED:
            yield f"{copy} (revision {newest}) {_CHANGED}"
    for found in _result_files(results):
        if found not in known:
            yield f"{found} is not in the ledger"


def _broken_maps(results: Path, path: str) -> Iterator[str]:
    """The maps of a well, against the digest in its newest result, which the ledger vouches for."""
    sha256 = _maps_sha256((results / path).read_bytes())
    folder, _, name = path.rpartition("/wells/")
    place = f"{folder}/explanations/{name.removesuffix('.json')}.npz"
    problem = None if sha256 is None else _file_problem(results / place, sha256)
    if problem is not None:
        yield f"{place} {problem.replace('the ledger', 'its result')}"


def _maps_sha256(result: bytes) -> str | None:
    """As the result names it, of whatever version; one that is no result names none."""
    try:
        found = json.loads(result)["explanation"]["maps_sha256"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


_GONE = "is not there"
_CHANGED = "was changed: its SHA-256 is not the one in the ledger"


def _file_problem(path: Path, sha256: str) -> str | None:
    try:
        found = digest(path.read_bytes())
    except FileNotFoundError:
        return _GONE
    return None if found == sha256 else _CHANGED


def _set_aside(results: Path, path: str) -> str:
    """Where the daemon put what it found changed in the place of a well's results, in words."""
    folder, _, name = path.rpartition("/wells/")
    stem = glob.escape(name.removesuffix(".json"))
    kept = results / folder / "revisions"
    found = sorted((*kept.glob(f"{stem}.damaged-*.json"), *kept.glob(f"{stem}.r*.damaged-*.json")))
    names = ", ".join(place.relative_to(results).as_posix() for place in found)
    return f"; what had been changed there was set aside as {names}" if names else ""


def _result_files(results: Path) -> Iterator[str]:
    """Every file that a line should stand for; what was set aside as damaged is none."""
    for pattern, name in (("*/*/wells/*.json", _WELL), ("*/*/revisions/*.json", _REVISION)):
        for path in sorted(results.glob(pattern)):
            if name.fullmatch(path.name):
                yield path.relative_to(results).as_posix()


_WELL = re.compile(r"[^.].*\.json")
_REVISION = re.compile(r"[^.].*\.r\d+\.json")
