"""What is in the watched folder: a rescan is the truth, file-system events are hints.

The scanner lives in a thread of its own that nobody waits for, since a listing may hang in a dead share. The only
place that knows watchdog.
"""

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
_IMAGE_ENDINGS = (".tif", ".tiff", ".c01")
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
        """Note where something happened; opening and reading are no news.

        A folder is "modified" by every file made in it, which has an event of its own: to list it each time would be
        to list it as often as it has files.
        """
        if event.event_type in {"opened", "closed_no_write", "deleted"}:
            return
        if event.is_directory and event.event_type == "modified":
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


def list_files(folder: Path, unlistable: Callable[[Path, OSError], None] | None = None) -> Iterator[Sighting]:
    """Every file below a folder; links to folders are not followed, so that a circle cannot trap it.

    A folder below that ends like an image is named too, beside what is in it: somebody may take it for one.
    unlistable: told of folders below that are there and cannot be listed. What vanishes meanwhile is left out. Raises
    OSError when `folder` itself cannot be listed.
    """
    for name, size_bytes, mtime_ns, is_folder in _walk(folder, unlistable):
        yield Sighting(Path(name), size_bytes, mtime_ns, is_folder)


def _walk(folder: Path, unlistable: Callable[[Path, OSError], None] | None) -> Iterator[tuple[str, int, int, bool]]:
    """As `list_files`: path, size, time, whether it is a folder.

    Most files of a rescan are known, and a Path takes longer than a look.
    """
    with os.scandir(folder) as entries:
        listed = list(entries)
    waiting = [iter(listed)]  # a stack, for trees can be deeper than calls
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            if not is_folder or _is_called_like_an_image(entry.name):
                status = _status(entry)
                yield entry.path, status.st_size, status.st_mtime_ns, is_folder
            if not is_folder:
                continue
            with os.scandir(entry.path) as entries:
                waiting.append(iter(list(entries)))
        except FileNotFoundError:
            continue
        except OSError as error:
            if unlistable is not None:
                unlistable(Path(entry.path), error)


def _is_called_like_an_image(name: str) -> bool:
    return name.lower().endswith(_IMAGE_ENDINGS)


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError:  # a link to nowhere is still a name that somebody may wonder about
        return entry.stat(follow_symlinks=False)


class Scanner:
    """The last listing of the folder, and what changed since. Owned by the scanner thread.

    report: takes each ScanReport. looked: files looked at so far; while it grows, a listing does not hang.
    What a full look does not find is forgotten here, and so reported again when it is back; what that means is for
    intake to say, which takes nothing as deleted.
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
        self._last: dict[str, tuple[int, int]] = {}
        self._hinted: set[str] = set()
        self._unhinted: set[str] = set()
        self._unlistable: set[Path] = set()
        self._failure = ""
        self._next_scan = float("-inf")
        self.available: bool | None = None
        self.looked = 0

    def apply(self, rescan_s: float, now: float) -> None:
        """Look at everything so often from now on."""
        self._rescan_s = rescan_s
        self._next_scan = min(self._next_scan, now + rescan_s)

    def step(self, now: float) -> None:
        """Look at what was hinted, and at everything when it is time."""
        try:
            hinted = self._hints.take()
            if hinted:
                self._look_at(hinted)
            if now >= self._next_scan:
                self._next_scan = now + self._rescan_s
                self.scan()
        except Exception as error:  # noqa: BLE001 (a scanner that died would leave a daemon that sees nothing)
            self._fail(error)

    def wait_s(self, now: float) -> float:
        """Seconds until the next rescan."""
        return max(0.0, self._next_scan - now)

    def scan(self) -> None:
        """One look at the whole folder; says so when it is not there, and takes nothing as deleted."""
        began = time.perf_counter()
        changed: list[Sighting] = []
        listing: dict[str, tuple[int, int]] = {}
        unlistable: set[Path] = set()
        try:
            for name, size_bytes, mtime_ns, is_folder in _walk(
                self._root, lambda path, error: self._skip(path, error, unlistable)
            ):
                self.looked += 1
                listing[name] = (size_bytes, mtime_ns)
                if self._last.get(name) != (size_bytes, mtime_ns):
                    changed.append(Sighting(Path(name), size_bytes, mtime_ns, is_folder))
                if len(changed) >= CHUNK:
                    self._tell(changed, finished=False)
                    changed = []
        except OSError as error:
            self._unavailable(error)
            return
        self._tell(changed, finished=True)
        self._count_missed(listing)
        self._last, self._unlistable = listing, unlistable
        self._now_available()
        self._failure = ""
        self._telemetry.rescan_seconds.observe(time.perf_counter() - began)
        self._telemetry.stage_last_progress.labels(Stage.SCAN).set(time.time())

    def _tell(self, sightings: Sequence[Sighting], *, finished: bool) -> None:
        """Report, and compare clocks; what lay there before we looked says nothing of them, nor does a time of zero."""
        newest = max((sighting.mtime_ns for sighting in sightings), default=0)
        if newest and self.available:
            self._telemetry.clock_skew_seconds.set(newest / 1e9 - time.time())
        self._report(ScanReport(tuple(sightings), finished=finished))

    def _skip(self, folder: Path, error: OSError, unlistable: set[Path]) -> None:
        """A folder below that cannot be listed: said once, until it can be."""
        unlistable.add(folder)
        if folder not in self._unlistable:
            get_log().warning(
                Event.WATCH_UNAVAILABLE,
                folder=folder,
                detail=str(error),
                hint="let the daemon's user read it; the rest goes on, and it is tried again every rescan_s",
            )

    def _count_missed(self, listing: Mapping[str, tuple[int, int]]) -> None:
        """A file that two looks found without an event before the second was missed.

        What the first look finds, and the first after the folder was away, is older than our watching.
        """
        self._telemetry.watch_missed_events.inc(len((self._unhinted - self._hinted) & listing.keys()))
        new = listing.keys() - self._last.keys() if self.available else set()
        self._unhinted = new - self._hinted
        self._hinted = set()

    def _look_at(self, paths: Iterable[str]) -> None:
        seen: list[Sighting] = []
        for path in map(Path, paths):
            try:
                status = path.stat()
                if stat.S_ISDIR(status.st_mode) and path.is_symlink():
                    continue  # not followed; the rescan names it
                is_folder = stat.S_ISDIR(status.st_mode)
                looks = list(list_files(path)) if is_folder else []
                if not is_folder or _is_called_like_an_image(path.name):
                    looks.append(Sighting(path, status.st_size, status.st_mtime_ns, is_folder))
            except OSError:  # gone again, or a share that hiccups: the rescan will tell
                continue
            self.looked += len(looks)
            for look in looks:
                hinted, state = str(look.path), (look.size_bytes, look.mtime_ns)
                self._hinted.add(hinted)
                if self._last.get(hinted) != state:
                    self._last[hinted] = state
                    seen.append(look)
        if seen:
            self._tell(seen, finished=False)

    def _fail(self, error: Exception) -> None:
        """Whatever it was: said once, shown as unready, and tried again at the next rescan."""
        if repr(error) != self._failure:
            self._failure = repr(error)
            get_log().error(Event.THREAD_FAILED, stage=Stage.SCAN, detail=repr(error), exc_info=error)
        self.available = False
        self._telemetry.watch_available.set(0)

    def _now_available(self) -> None:
        if self.available is not True:
            get_log().info(Event.WATCH_AVAILABLE, folder=self._root)
        self.available = True
        self._telemetry.watch_available.set(1)

    def _unavailable(self, error: OSError) -> None:
        """The folder is away. Files that were sought meanwhile were not found: all is reported again afterwards."""
        self._last = {}
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
