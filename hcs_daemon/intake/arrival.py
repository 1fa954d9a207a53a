"""What is in the watched folder: a rescan is the truth, file-system events are hints.

The scanner lives in a thread of its own that nobody waits for, since a listing may hang in a dead share. The only
place that knows watchdog.
"""

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from hcs_daemon.errors import FolderError
from hcs_daemon.records import Sighting
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import Stage

CHUNK = 2000
"""Sightings a report, so that a folder of a million files is worked on before it is listed to its end."""
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse", "afs", "lustre", "ceph", "glusterfs", "beegfs")


@dataclass(frozen=True, slots=True)
class ScanReport:
    """New or changed files. finished: this ends a look at the whole folder."""

    sightings: tuple[Sighting, ...]
    finished: bool


class Hints:
    """Paths that events say are worth a look. Filled by watchdog's thread, emptied by the scanner."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._paths: set[str] = set()
        self.bell = threading.Event()

    def add(self, path: str) -> None:
        """One event about a path."""
        self._telemetry.watch_events.inc()
        with self._lock:
            self._paths.add(path)
        self.bell.set()

    def take(self) -> set[str]:
        """All paths since the last call."""
        self.bell.clear()
        with self._lock:
            paths, self._paths = self._paths, set()
        return paths


class _Handler(FileSystemEventHandler):
    """Hands every event's path to the hints."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note where something happened; opening and reading are no news."""
        if event.event_type in {"opened", "closed_no_write", "deleted"}:
            return
        for path in (event.src_path, event.dest_path):
            if path:
                self._hints.add(os.fsdecode(path))


def start_hints(root: Path, polling: str, rescan_s: float, hints: Hints) -> BaseObserver | None:
    """Watch `root` for events; None where that is not possible: the rescan finds every file all the same."""
    use_polling = polling == "always" or (polling == "auto" and is_network_folder(root))
    observer = PollingObserver(timeout=rescan_s) if use_polling else Observer()
    observer.daemon = True
    try:
        observer.schedule(_Handler(hints), str(root), recursive=True)
        observer.start()
    except OSError as error:
        get_log().warning(
            Event.WATCH_HINTS_FAILED, folder=root, detail=str(error), hint="files are found by rescan every rescan_s"
        )
        return None
    return observer


def is_network_folder(folder: Path, mounts: str | None = None) -> bool:
    """Whether a folder lies on a share, where events do not come. mounts: text of /proc/mounts."""
    if str(folder).startswith(("\\\\", "//")):
        return True
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
    best = ("", "")
    for line in mounts.splitlines():
        _, point, kind, *_ = [*line.split(" "), "", "", ""]
        point = point.replace("\\040", " ")
        if folder.is_relative_to(point or "/nowhere") and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1].startswith(_NETWORK_FILE_SYSTEMS)


def list_files(folder: Path) -> Iterator[Sighting]:
    """Every file below a folder; links to folders are not followed, so that a circle cannot trap it.

    Raises OSError when `folder` itself cannot be listed; what vanishes below it meanwhile is left out.
    """
    with os.scandir(folder) as entries:
        listed = list(entries)
    for entry in listed:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from list_files(Path(entry.path))
            else:
                yield _sighting(Path(entry.path), entry)
        except FileNotFoundError:
            continue
        except PermissionError as error:
            get_log().warning(Event.WATCH_UNAVAILABLE, folder=entry.path, detail=str(error))


def _sighting(path: Path, entry: os.DirEntry[str]) -> Sighting:
    try:
        status = entry.stat()
    except OSError:  # a link to nowhere is still a name that somebody may wonder about
        status = entry.stat(follow_symlinks=False)
    return Sighting(path, status.st_size, status.st_mtime_ns)


class Scanner:
    """The last listing of the folder, and what changed since. Owned by the scanner thread.

    report: takes each ScanReport. clock: monotonic seconds.
    """

    def __init__(
        self,
        root: Path,
        rescan_s: float,
        hints: Hints,
        telemetry: Telemetry,
        report: Callable[[ScanReport], None],
    ) -> None:
        self._root = root
        self._rescan_s = rescan_s
        self._hints = hints
        self._telemetry = telemetry
        self._report = report
        self._last: dict[Path, tuple[int, int]] = {}
        self._unhinted: set[Path] = set()
        self._scans = 0
        self._next_scan = float("-inf")
        self.available: bool | None = None

    def step(self, now: float) -> None:
        """Look at what was hinted, and at everything when it is time."""
        hinted = self._hints.take()
        if hinted:
            self._look_at(hinted)
        if now >= self._next_scan:
            self.scan()
            self._next_scan = now + self._rescan_s

    def wait_s(self, now: float) -> float:
        """Seconds until the next rescan."""
        return max(0.0, self._next_scan - now)

    def scan(self) -> None:
        """One look at the whole folder; says so when it is not there, and takes nothing as deleted."""
        began = time.perf_counter()
        changed: list[Sighting] = []
        found: set[Path] = set()
        try:
            for sighting in list_files(self._root):
                if self._is_new(sighting, found):
                    changed.append(sighting)
                if len(changed) >= CHUNK:
                    self._report(ScanReport(tuple(changed), finished=False))
                    changed = []
        except OSError as error:
            self._unavailable(error)
            self._report(ScanReport(tuple(changed), finished=False))
            return
        self._now_available()
        self._count_missed(found)
        self._scans += 1
        self._telemetry.rescan_seconds.observe(time.perf_counter() - began)
        self._telemetry.stage_last_progress.labels(Stage.SCAN).set(time.time())
        self._report(ScanReport(tuple(changed), finished=True))

    def _is_new(self, sighting: Sighting, found: set[Path]) -> bool:
        state = (sighting.size_bytes, sighting.mtime_ns)
        known = self._last.get(sighting.path)
        if known == state:
            return False
        self._last[sighting.path] = state
        if known is None:
            found.add(sighting.path)
        return True

    def _count_missed(self, found: set[Path]) -> None:
        """A file found by two rescans without an event in between was missed; the first scan's are older than us."""
        self._telemetry.watch_missed_events.inc(len(self._unhinted))
        self._unhinted = found if self._scans else set()

    def _look_at(self, paths: Iterable[str]) -> None:
        seen: list[Sighting] = []
        for name in paths:
            path = Path(name)
            self._unhinted.discard(path)
            try:
                status = path.stat()
                folder = stat.S_ISDIR(status.st_mode)
                looks = list(list_files(path)) if folder else [Sighting(path, status.st_size, status.st_mtime_ns)]
            except OSError:  # gone again, or a share that hiccups: the rescan will tell
                continue
            seen.extend(look for look in looks if self._is_new(look, set()))
            self._unhinted.difference_update(look.path for look in looks)
        if seen:
            self._report(ScanReport(tuple(seen), finished=False))

    def _now_available(self) -> None:
        if self.available is not True:
            get_log().info(Event.WATCH_AVAILABLE, folder=self._root)
        self.available = True
        self._telemetry.watch_available.set(1)

    def _unavailable(self, error: OSError) -> None:
        if self.available is not False:
            get_log().warning(
                Event.WATCH_UNAVAILABLE,
                folder=self._root,
                detail=str(error),
                hint="is the share mounted and readable? It is looked for every rescan_s",
            )
        self.available = False
        self._telemetry.watch_available.set(0)


def scan_once(root: Path) -> ScanReport:
    """Every file of a folder that is complete. Raises FolderError when it cannot be listed."""
    try:
        return ScanReport(tuple(list_files(root)), finished=True)
    except OSError as error:
        raise FolderError(
            f"{root} cannot be listed: {error.strerror}", "give a plate's folder, or a tree of them"
        ) from error
