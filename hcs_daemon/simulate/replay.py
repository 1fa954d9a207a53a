"""A recorded folder written again, as an instrument would write it: slowly, several files at a time, never altered."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from hcs_daemon.errors import FolderError, SettingsError
from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.naming import FileKind, is_no_data
from hcs_daemon.plate import PLATE_SHAPES, WellPosition, plate_wells
from hcs_daemon.simulate.pace import FileToWrite, check_speed, write_files
from hcs_daemon.tiff import harmony_xml, replace_harmony_xml

_NAME_ADDRESS = re.compile(r"r\d{2}c\d{2}(?=f)", re.IGNORECASE)
_IMAGE = re.compile(r"<Image(?:\s[^>]*)?>.*?</Image>", re.DOTALL)
_ROW, _COLUMN = re.compile(r"(<Row>)\s*\d+\s*(</Row>)"), re.compile(r"(<Col>)\s*\d+\s*(</Col>)")
_CLASSIC_TIFF = (b"II*\0", b"MM\0*")
_NUMBER = re.compile(r"(\d+)")
_WRITTEN_FIRST = re.compile(
    r".+\.(htd|mes|wpi|wpp)|experiment_descriptor\.xml|[sd]c_.+\.tif", re.IGNORECASE | re.DOTALL
)
"""What instruments write before they take a plane: what they will do, on which plate, and how they correct it."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What was written.

    folder: the copy's top. planes: image files other than thumbnails and correction images. others: files. wells: those
    of planes with Harmony names, in order.
    """

    folder: Path
    planes: int
    others: int
    wells: tuple[WellPosition, ...]


@dataclass(frozen=True, slots=True)
class _Copy:
    """A file to copy. target: relative to the copy's top. position: set when the well is written into the file."""

    source: Path
    target: Path
    plane: bool
    position: WellPosition | None = None

    @property
    def turn(self) -> int:
        """0: before the images. 1: an image. 2: after them."""
        if _WRITTEN_FIRST.fullmatch(self.target.name):
            return 0
        return 1 if _is_image(self.target) else 2


def replay(
    source: Path,
    destination: Path,
    *,
    sleep: Callable[[float], None],
    speed: float = 1.0,
    rename: Sequence[WellPosition] | None = None,
    seed: int | None = None,
    alter: Callable[[Path, bytes], bytes] | None = None,
) -> ReplayReport:
    """Write a recorded folder again under `destination/<source's name>/`.

    Images come in the order of their names, numbers counted as such. Before them comes what an instrument writes before
    it takes a plane (an HTD, a CellVoyager's protocol, its correction images), everything else last.

    Args:
        source: the recorded folder, of any instrument; read only.
        destination: the folder that a daemon watches; made, with its parents, when it is not there.
        sleep: waits so many seconds; called only at a speed above 0.
        speed: 0 writes as fast as possible; else a factor on the nominal pace of 5 planes a second, files growing.
        rename: Harmony names only: the planes of the source's first well are written once for each of these wells, with
            the new row and column in the file's name and in the `<Image>` of tag 65500; no other byte of a file
            changes. Whatever else lies in the source tells of other wells and is not copied.
        seed: mixes the order of the images; None keeps that of their names, well by well.
        alter: for spoiling files on the way: given a file's path below the copy's top and its bytes, returns the bytes
            to write.

    Raises:
        SettingsError: an argument is refused, or the copy is there already.
        FolderError: the source cannot be read or the destination cannot be written.
    """
    check_speed(speed)
    folder = destination / source.resolve().name
    _check_folders(source, folder)
    copies = _copies(source) if rename is None else _renamed(_copies(source), rename)
    first, images, last = ([copy for copy in copies if copy.turn == turn] for turn in range(3))
    if seed is not None:
        images = [images[index] for index in np.random.default_rng(seed).permutation(len(images))]
    write_files(_files([*first, *images, *last], folder, alter), speed=speed, sleep=sleep)
    wells = {position for copy in images if (position := _position(copy)) is not None}
    planes = sum(copy.plane for copy in copies)
    return ReplayReport(folder, planes, len(copies) - planes, tuple(sorted(wells)))


def parse_wells(text: str) -> list[WellPosition]:
    """Read `B03,B04` (these wells), or `24` (the first wells, row by row, of the smallest plate that has so many).

    Raises SettingsError for anything else, and for a well named twice.
    """
    if text.strip().isdecimal():
        return _first_wells(int(text))
    try:
        wells = [WellPosition.parse(name) for name in text.split(",")]
    except ValueError as error:
        raise SettingsError(str(error), "write wells such as B03,B04, or a number of wells such as 24") from error
    if len(set(wells)) != len(wells):
        raise SettingsError(f"{text!r} names a well twice", "name each well once")
    return wells


def readdress(data: bytes, position: WellPosition) -> bytes:
    """A Harmony file's bytes with another well in tag 65500; a file without that tag is returned as it is.

    Only `<Row>` and `<Col>` of the file's own `<Image>` change: an older tag also describes the plate, other wells
    included. Raises SettingsError where the tag has no such address.
    """
    if data[:4] not in _CLASSIC_TIFF:
        raise SettingsError("a file is not a classic TIFF, its address cannot be rewritten", "replay without renaming")
    xml = harmony_xml(data)
    if xml is None:
        return data
    images = list(_IMAGE.finditer(xml))
    if len(images) != 1:
        raise SettingsError(
            f"a file's tag 65500 describes {len(images)} images, expected its own", "replay without renaming"
        )
    start, stop = images[0].span()
    image, rows = _ROW.subn(rf"\g<1>{position.row}\g<2>", xml[start:stop])
    image, columns = _COLUMN.subn(rf"\g<1>{position.column}\g<2>", image)
    if (rows, columns) != (1, 1):
        raise SettingsError("a file's tag 65500 holds no row and column of its own", "replay without renaming")
    return replace_harmony_xml(data, xml[:start] + image + xml[stop:])


def _first_wells(count: int) -> list[WellPosition]:
    for wells in PLATE_SHAPES:
        if 1 <= count <= wells:
            return plate_wells(wells)[:count]
    raise SettingsError(f"no plate has {count} wells", f"choose 1 to {max(PLATE_SHAPES)}")


def _check_folders(source: Path, folder: Path) -> None:
    if not source.is_dir():
        raise FolderError(f"{source} is no folder", "name the recorded folder to write again")
    if folder.exists():
        raise SettingsError(f"{folder} is there already", "choose another destination; nothing was overwritten")
    if folder.resolve().is_relative_to(source.resolve()):
        raise SettingsError(f"{folder} would lie in the recorded folder {source}", "choose a destination outside of it")


def _copies(source: Path) -> list[_Copy]:
    """Every file of the source, by name, `ZStep_2` before `ZStep_10`."""
    files = sorted((path.relative_to(source) for path in source.rglob("*") if path.is_file()), key=_by_number)
    if not files:
        raise SettingsError(f"{source} holds no file", "name a folder with images")
    return [_Copy(source / path, path, plane=_is_plane(path)) for path in files]


def _by_number(path: Path) -> list[list[tuple[int, str]]]:
    """For sorting: each part of a path as words and numbers in turn."""
    return [[(int(word), "") if word.isdecimal() else (0, word) for word in _NUMBER.split(part)] for part in path.parts]


def _is_plane(path: Path) -> bool:
    aside = is_no_data(PurePosixPath(path.as_posix())) or _WRITTEN_FIRST.fullmatch(path.name) is not None
    return _is_image(path) and not aside


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in {".tif", ".tiff", ".c01"}


def _renamed(copies: Sequence[_Copy], wells: Sequence[WellPosition]) -> list[_Copy]:
    """The first well's planes, once for each of the wells."""
    positions = {copy: position for copy in copies if (position := _position(copy)) is not None}
    if not positions:
        raise SettingsError(
            "no file of the recorded folder has a Harmony name",
            "rename works for names like r01c01f01p01-ch1sk1fk1fl1.tiff",
        )
    first = min(positions.values())
    return [
        _Copy(copy.source, copy.target.with_name(_new_name(copy.target.name, well)), plane=True, position=well)
        for well in wells
        for copy, position in positions.items()
        if position == first
    ]


def _position(copy: _Copy) -> WellPosition | None:
    """The well by the file's name, None where it is no Harmony plane."""
    reading = Harmony().read_name("source", PurePosixPath(copy.target.as_posix()))
    return reading.address.position if reading.kind is FileKind.PLANE and reading.address is not None else None


def _new_name(name: str, position: WellPosition) -> str:
    return _NAME_ADDRESS.sub(f"r{position.row:02d}c{position.column:02d}", name, count=1)


def _files(
    copies: Sequence[_Copy], folder: Path, alter: Callable[[Path, bytes], bytes] | None
) -> Iterator[FileToWrite]:
    for copy in copies:
        path = folder / copy.target
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderError(f"{path.parent} cannot be made: {error.strerror}", "choose another folder") from error
        yield FileToWrite(path, lambda copy=copy: _read(copy, alter))  # type: ignore[misc]  # mypy: default in a lambda


def _read(copy: _Copy, alter: Callable[[Path, bytes], bytes] | None) -> bytes:
    try:
        data = copy.source.read_bytes()
    except OSError as error:
        raise FolderError(f"{copy.source} cannot be read: {error.strerror}", "give read access to it") from error
    if copy.position is not None:
        data = readdress(data, copy.position)
    return data if alter is None else alter(copy.target, data)
