"""What is in a plate's wells: which layout counts, whether it can be used, and whether it changed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hcs_daemon.errors import LayoutError
from hcs_daemon.layout import check_fits, layout_file, parse_layout, read_bytes
from hcs_daemon.plate import PlateLayout, WellPosition
from hcs_daemon.publish.schemas import ContentEntry, LayoutEntry, PlateFile

Stamp = tuple[str, int, int]
"""A file as it was when it was looked at: path, bytes, ns since 1970; -1 twice for one that is not there."""


@dataclass(frozen=True, slots=True)
class LayoutWord:
    """What is known of a plate's layout.

    stamp: of the settings' file when it was last looked at. read: what it says (or the instrument), whether that fits
    or not. joined: what results hold. decided: whether what is published has to agree with it; not before a layout
    could be read, so that a file which cannot be read now takes nothing away. entry: as plate.json says it, None for
    nothing.
    """

    stamp: Stamp | None = None
    read: PlateLayout | None = None
    joined: PlateLayout | None = None
    decided: bool = False
    entry: LayoutEntry | None = None

    def content(self, position: WellPosition) -> ContentEntry | None:
        """What is in a well, as its result says it."""
        said = self.joined.wells.get(position) if self.joined else None
        if said is None:
            return None
        return ContentEntry(compound=said.compound, concentration_um=said.concentration_um, role=said.role)


class Layouts:
    """Reads the settings' layouts; without any, an instrument's own counts. Owned by the publish thread."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._digest: tuple[Stamp, str] | None = None

    def look(
        self, before: LayoutWord, plate: str, by_instrument: PlateLayout | None, rows: int | None, columns: int | None
    ) -> LayoutWord:
        """What is known now; `before` itself where nothing changed. A file is read only when it changed.

        rows, columns: of the plate, as far as they are known.
        """
        word = before
        if self._path is not None:
            word = self._look_at_file(before, plate)
        elif by_instrument is not None and by_instrument != before.read:
            word = LayoutWord(read=by_instrument)
        return word if word.read is None else _judged(word, word.read, rows, columns)

    def is_current(self, plate: PlateFile, by_instrument: PlateLayout | None) -> bool:
        """Whether a plate's file speaks of the layout that counts now, by its digest."""
        known = plate.layout.sha256 if plate.layout else None
        if self._path is None:
            return by_instrument is None or by_instrument.sha256 == known
        return plate.layout is not None and self._sha256(layout_file(self._path, plate.plate)) == known

    def _look_at_file(self, before: LayoutWord, plate: str) -> LayoutWord:
        assert self._path is not None
        file = layout_file(self._path, plate)
        stamp = _stamp(file)
        if stamp == before.stamp:
            return before
        sha256 = None
        try:
            data = read_bytes(file)
            sha256 = hashlib.sha256(data).hexdigest()
            found = parse_layout(file, data, plate)
        except LayoutError as error:
            entry = LayoutEntry(source=str(file), sha256=sha256, problem=_words(error))
            return LayoutWord(stamp, None, before.joined, before.decided, entry)
        return LayoutWord(stamp, found)

    def _sha256(self, file: Path) -> str | None:
        stamp = _stamp(file)
        if self._digest is None or self._digest[0] != stamp:
            try:
                self._digest = (stamp, hashlib.sha256(read_bytes(file)).hexdigest())
            except LayoutError:
                return None
        return self._digest[1]


def _judged(word: LayoutWord, found: PlateLayout, rows: int | None, columns: int | None) -> LayoutWord:
    """The word in the light of the plate's size, which may become known later."""
    joined: PlateLayout | None = found
    entry = LayoutEntry(source=found.source, sha256=found.sha256)
    if rows is not None and columns is not None:
        try:
            check_fits(found, rows, columns)
        except LayoutError as error:
            joined, entry = None, entry.model_copy(update={"problem": _words(error)})
    if joined is word.joined and entry == word.entry:
        return word
    return LayoutWord(word.stamp, found, joined, True, entry)


def _words(error: LayoutError) -> str:
    return f"{error.message}; {error.hint}"


def _stamp(file: Path) -> Stamp:
    try:
        found = file.stat()
    except OSError:
        return str(file), -1, -1
    return str(file), found.st_size, found.st_mtime_ns
