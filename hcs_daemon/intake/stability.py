"""When a file is complete: unchanged for `settle_s` by the monotonic clock, whatever its own time says."""

from pathlib import Path

from hcs_daemon.records import Sighting, StableFile


class Settling:
    """Decides when a sighted file is complete. Owned by the intake thread.

    The reader looks once more when it opens the file: one that has changed since comes back here.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._waiting: dict[Path, tuple[Sighting, float]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def see(self, sighting: Sighting, now: float, extra_s: float = 0.0) -> None:
        """Note one look at a file; a changed size or time starts its wait again. extra_s: seconds to wait longer."""
        known = self._waiting.get(sighting.path)
        if known is None or known[0] != sighting:
            # re-inserted at the end, so that the order of the dict is the order of becoming ready
            self._waiting.pop(sighting.path, None)
            self._waiting[sighting.path] = (sighting, now + extra_s)

    def forget(self, path: Path) -> None:
        """The file is gone or of no interest."""
        self._waiting.pop(path, None)

    def ready(self, now: float) -> list[StableFile]:
        """Files unchanged for `settle_s`, oldest first. Each is returned once."""
        due = [path for path, (_, since) in self._waiting.items() if now - since >= self._settle_s]
        seen = [self._waiting.pop(path)[0] for path in due]
        return [StableFile(sighting.path, sighting.size_bytes, sighting.mtime_ns) for sighting in seen]
