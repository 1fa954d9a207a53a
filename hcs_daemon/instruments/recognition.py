"""Which instrument wrote a file, where the settings leave it open: all are asked, and between two none is guessed.

A name is what the one grammar that claims it says. A folder belongs to the instrument whose planes outnumber all others
there by `SURE` to one, so that a single stray picture does not cost a plate; in any other mixture no plane is taken.
Planes decide; metadata and the rest follow the folder that they lie in.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import FileKind, Instrument, PlaneAddress, Reading, acquisition_from
from hcs_daemon.instruments.own_record import OwnRecord
from hcs_daemon.plate import AcquisitionId
from hcs_daemon.records import ChannelFacts
from hcs_daemon.tiff import TiffTags

SURE = 8
"""A folder with so many planes of one instrument for each of another is the one's, and the other's are strays."""
TELLING = 4
"""A name that fits a grammar for fewer characters fits it by chance."""
FORMS_KEPT = 1 << 14
PARTS_FOR_METADATA = 3
"""So much of an absolute path a metadata file is known by: its name, and what the two folders above are called."""
_PLANES = frozenset({FileKind.PLANE, FileKind.BUNDLE})
_REMEDY = "set watch.instrument to the right one"
_DIGITS = str.maketrans("123456789", "0" * 9)
_LAST_OF_A_NUMBER = re.compile("0(?!0)")
_GUID = re.compile("[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_NO_GUID = "AAAAAAAA-AAAA-AAAA-AAAA-AAAAAAAAAAAA"
"""Without digits, which would run together with the number before it."""
_PAGE = re.compile("#[0-9]+$")


@dataclass(frozen=True, slots=True)
class _Form:
    """Who says what of all names that differ in their numbers only.

    planes, metadata: who claims them as such. no_data: who knows them as none, if anybody.
    """

    planes: tuple[Instrument, ...]
    metadata: tuple[Instrument, ...]
    no_data: Instrument | None

    @property
    def claimants(self) -> tuple[Instrument, ...]:
        return self.planes + self.metadata


@dataclass(slots=True)
class _Presence:
    """Planes of one instrument in a folder. example: a name. read: names read so far. ahead: names looked at before."""

    example: str
    read: int = 0
    ahead: int = 0

    @property
    def planes(self) -> int:
        """How many there are, as far as is known."""
        return max(self.read, self.ahead)


@dataclass(slots=True)
class _Folder:
    """Whose planes lie in a folder; by the instrument's name."""

    path: str
    present: dict[str, _Presence] = field(default_factory=dict)

    @property
    def owner(self) -> str | None:
        """The instrument it belongs to; None while it has no plane, or those of two in earnest."""
        found = list(self.present.items())  # a copy: another thread may add to it
        if len(found) <= 1:
            return found[0][0] if found else None
        name, most = max(found, key=lambda item: item[1].planes)
        others = sum(each.planes for _, each in found) - most.planes
        return name if most.planes >= SURE * others else None


class Auto:
    """All instruments as one: an `Instrument` whose answers are those of whoever claims the file.

    It remembers whose planes lie in which folder, as names are read. Several threads may ask it at once: each fact is
    one dictionary entry, and a count lost between two of them decides nothing. Owned by the intake thread, whose order
    of reading decides what is known; who compares folders with each other makes another one.

    instruments: those that are asked. example: one name of each, for messages.
    """

    name = "auto"

    def __init__(self, instruments: Sequence[Instrument]) -> None:
        self.instruments = tuple(instruments)
        self._by_name = {each.name: each for each in instruments}
        self._forms: dict[str, _Form] = {}
        self._folders: dict[str, _Folder] = {}
        self._places: dict[tuple[str, str], tuple[_Folder, ...]] = {}
        self.example = ", or ".join(each.example for each in instruments)

    # ---- what a name says

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        """As the one instrument that claims the name; UNKNOWN where two do, or where two share the folder."""
        form = self._form(path)
        claimants = form.planes or form.metadata
        if len(claimants) == 1 and not (form.planes and form.metadata):
            reading = claimants[0].read_name(root_name, path)
            if reading.kind in _PLANES:
                return self._plane(claimants[0], path, reading)
            if reading.kind is FileKind.METADATA:
                return self._metadata([claimants[0]], path)
        elif not claimants and form.no_data is not None:
            reading = form.no_data.read_name(root_name, path)
            if reading.kind is FileKind.NO_DATA:
                return reading
        return self._ask_all(root_name, path)

    def look_ahead(self, paths: Iterable[PurePosixPath]) -> bool:
        """Note whose planes lie where before any name is read, so that its answer does not depend on their order.

        True where a folder is another's than was said: its names are to be read once more.
        """
        changed = False
        for path in paths:
            form = self._form(path)
            if len(form.claimants) == 1 and form.planes:
                places = self._places_of(form.planes[0], path)
                before = [folder.owner for folder in places]
                for presence in self._presences(form.planes[0], path):
                    presence.ahead += 1
                changed |= any(
                    len(folder.present) > 1 and folder.owner != said
                    for said, folder in zip(before, places, strict=True)
                )
        if changed:
            self.start_over()
        return changed

    def start_over(self) -> None:
        """The same names are read once more: what was found the first time is known from the start."""
        for folder in list(self._folders.values()):
            for presence in list(folder.present.values()):
                presence.ahead, presence.read = presence.planes, 0

    def _ask_all(self, root_name: str, path: PurePosixPath) -> Reading:
        said = [(each, each.read_name(root_name, path)) for each in self.instruments]
        planes = [(each, reading) for each, reading in said if reading.kind in _PLANES]
        metadata = [each for each, reading in said if reading.kind is FileKind.METADATA]
        if len(planes) == 1 and not metadata:
            instrument, reading = planes[0]
            return self._plane(instrument, path, reading)
        if planes:
            names = [each.name for each, _ in planes] + [each.name for each in metadata]
            return Reading(FileKind.UNKNOWN, problem=f"{' and '.join(names)} both have names like this: {_REMEDY}")
        if metadata:
            return self._metadata(metadata, path)
        no_data = next((reading for _, reading in said if reading.kind is FileKind.NO_DATA), None)
        return no_data or self._nearest(path, said)

    def _plane(self, instrument: Instrument, path: PurePosixPath, reading: Reading) -> Reading:
        stranger_to = self._note(instrument, path)
        if stranger_to is not None:
            rivals = [name for name in list(stranger_to.present) if name != instrument.name]
            return Reading(
                FileKind.UNKNOWN,
                problem=f"is named as {instrument.name} names planes, in a folder with planes of {' and '.join(rivals)}"
                f" (such as {stranger_to.present[rivals[0]].example}): {_REMEDY}",
            )
        return Reading(reading.kind, reading.address, reading.problem, reading.fits, instrument.name)

    def _metadata(self, claimants: Sequence[Instrument], path: PurePosixPath) -> Reading:
        """Metadata of whoever owns the folder; that of another instrument than its planes' says nothing of them."""
        above = {str(path.parent), *(str(each.measurement_folder(path)) for each in claimants)}
        owners = {owner for at in above if (folder := self._folders.get(at)) and (owner := folder.owner)}
        names = [each.name for each in claimants if not owners or each.name in owners]
        if not names:
            return Reading(FileKind.NO_DATA)
        return Reading(FileKind.METADATA, instrument=names[0] if len(names) == 1 else "")

    def _nearest(self, path: PurePosixPath, said: Sequence[tuple[Instrument, Reading]]) -> Reading:
        """Why it is nobody's: by whose it would be with other numbers, else by the folder's, else by who fits best."""
        others_like_it = self._form(path).claimants
        nearest_of_all = others_like_it[0] if others_like_it else self._of_folder(path)
        for instrument, reading in said:
            if instrument is nearest_of_all:
                return reading
        nearest = max((reading for _, reading in said), key=lambda reading: reading.fits, default=None)
        if nearest is not None and nearest.fits >= TELLING:
            return nearest
        return Reading(FileKind.UNKNOWN, problem=f"no instrument names a plane like this: not {self._all_names}")

    @property
    def _all_names(self) -> str:
        return ", ".join(self._by_name)

    # ---- what else an instrument says

    def acquisition_of(self, root_name: str, path: PurePosixPath) -> AcquisitionId:
        """As the file's instrument says it, else as the folder's; else by the folder's name."""
        instrument = self._of(path)
        if instrument is None:
            return acquisition_from(root_name, self.measurement_folder(path))
        return instrument.acquisition_of(root_name, path)

    def measurement_folder(self, path: PurePosixPath) -> PurePosixPath:
        """As the file's instrument says it, else as the folder's; else the topmost that any takes it for.

        The latter puts a thumbnail in `TimePoint_1` with its plate before a plane told whose it is.
        """
        instrument = self._of(path)
        if instrument is not None:
            return instrument.measurement_folder(path)
        return min((each.measurement_folder(path) for each in self.instruments), key=lambda folder: len(folder.parts))

    def plane_path(self, address: PlaneAddress) -> PurePosixPath:
        """Reads and does not write: raises ValueError."""
        raise ValueError(f'watch.instrument = "auto" does not say how {address} is written')

    def read_metadata(self, path: Path) -> Manifest | None:
        """What the instrument promises whose metadata is called like this; of two that both read it, nothing."""
        claimants = self._claimants_of_metadata(path)
        promised = [said for each in claimants if (said := each.read_metadata(path)) is not None]
        return promised[0] if len(promised) == 1 else None

    def read_tags(self, path: PurePosixPath, tags: TiffTags) -> ChannelFacts | None:
        """As the plane's instrument says it."""
        instrument = self._of(path)
        return None if instrument is None else instrument.read_tags(path, tags)

    def read_record(self, path: PurePosixPath, tags: TiffTags) -> OwnRecord | None:
        """As the plane's instrument says it."""
        instrument = self._of(path)
        return None if instrument is None else instrument.read_record(path, tags)

    def read_bundle(self, root_name: str, path: PurePosixPath, tags: TiffTags) -> Sequence[PlaneAddress | None]:
        """As the bundle's instrument says it. Raises ValueError where there is none."""
        instrument = self._of(path)
        if instrument is None:
            raise ValueError(f"{path} is a bundle of no instrument: not of {self._all_names}")
        return instrument.read_bundle(root_name, path, tags)

    def promise_of_bundle(self, tags: TiffTags) -> Manifest | None:
        """As the one instrument says it that reads such tags."""
        promised = [said for each in self.instruments if (said := each.promise_of_bundle(tags)) is not None]
        return promised[0] if len(promised) == 1 else None

    # ---- who it is

    def instrument_of(self, path: PurePosixPath) -> Instrument | None:
        """Whose file this is, by its name, else by the planes of its folder; None where nothing tells."""
        return self._of(path)

    def why(self, path: PurePosixPath) -> str:
        """In words, for the log: why the plane at `path` is taken for whose it is."""
        claimants = self._form(path).planes
        if len(claimants) != 1:
            return f"no instrument alone has names like {path.name}"
        return f"of {len(self.instruments)} instruments only {claimants[0].name} has names like {path.name}"

    @property
    def is_shared(self) -> bool:
        """Whether planes of several instruments lie in any folder, in earnest or astray."""
        return any(len(folder.present) > 1 for folder in list(self._folders.values()))

    @property
    def mixtures(self) -> list[str]:
        """In words, each folder with planes of several instruments of which none is taken."""
        mixed = [folder for folder in list(self._folders.values()) if len(folder.present) > 1 and folder.owner is None]
        # a measurement's folder and the one of its files are one mixture, and the topmost names it
        mixed.sort(key=lambda folder: len(folder.path))
        said = {
            frozenset((name, each.example) for name, each in folder.present.items()): folder for folder in mixed[::-1]
        }
        return [_mixture_in_words(folder) for folder in reversed(said.values())]

    def _of(self, path: PurePosixPath) -> Instrument | None:
        claimants = self._form(path).claimants
        if len(claimants) == 1:
            return claimants[0]
        return self._of_folder(path)

    def _of_folder(self, path: PurePosixPath) -> Instrument | None:
        """Whose planes lie in the folder of `path`, or in the nearest above that has planes."""
        for above in path.parents:
            folder = self._folders.get(str(above))
            if folder is not None:
                return self._by_name.get(folder.owner or "")
        return None

    def _claimants_of_metadata(self, path: Path) -> list[Instrument]:
        parts = path.parts[-PARTS_FOR_METADATA:]
        for first in reversed(range(len(parts))):
            name = PurePosixPath(*parts[first:])
            found = [each for each in self.instruments if each.read_name("", name).kind is FileKind.METADATA]
            if found:
                return found
        return []

    def _note(self, instrument: Instrument, path: PurePosixPath) -> _Folder | None:
        """Count a plane where it lies; the folder that is not its instrument's, if one is not."""
        for presence in self._presences(instrument, path):
            presence.read += 1
        places = self._places_of(instrument, path)
        if all(len(folder.present) == 1 for folder in places):
            return None
        return next((folder for folder in places if folder.owner != instrument.name), None)

    def _presences(self, instrument: Instrument, path: PurePosixPath) -> Iterator[_Presence]:
        for folder in self._places_of(instrument, path):
            found = folder.present.get(instrument.name)
            yield found or folder.present.setdefault(instrument.name, _Presence(path.name))

    def _places_of(self, instrument: Instrument, path: PurePosixPath) -> tuple[_Folder, ...]:
        """The folder that holds a plane, and its measurement's."""
        at = str(path).rpartition("/")[0]
        places = self._places.get((instrument.name, at))
        if places is None:
            names = dict.fromkeys((at or ".", str(instrument.measurement_folder(path))))
            places = tuple(self._folders.setdefault(name, _Folder(name)) for name in names)
            self._places[instrument.name, at] = places
        return places

    # ---- forms of names

    def _form(self, path: PurePosixPath) -> _Form:
        """Who claims names like this one: a grammar looks at how many digits a number has, and at its range.

        A name is looked at as the others of its form with every number at its least, which is in range.
        """
        text = str(path)
        if "#" in text:
            text = _PAGE.sub("", text)
        if text.count("-") > 3:
            text = _GUID.sub(_NO_GUID, text)
        key = text.translate(_DIGITS)
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) >= FORMS_KEPT:
                self._forms.clear()
            form = self._forms[key] = self._new_form(PurePosixPath(_LAST_OF_A_NUMBER.sub("1", key)))
        return form

    def _new_form(self, typical: PurePosixPath) -> _Form:
        said = [(each, each.read_name("", typical).kind) for each in self.instruments]
        return _Form(
            planes=tuple(each for each, kind in said if kind in _PLANES),
            metadata=tuple(each for each, kind in said if kind is FileKind.METADATA),
            no_data=next((each for each, kind in said if kind is FileKind.NO_DATA), None),
        )


def afresh(instrument: Instrument) -> Instrument:
    """The instrument for another watched folder: what `auto` knows of one is nothing to the other."""
    return Auto(instrument.instruments) if isinstance(instrument, Auto) else instrument


def why(instrument: Instrument, path: PurePosixPath) -> str:
    """In words, for the log: why planes such as the one at `path` are read as they are."""
    if isinstance(instrument, Auto):
        return instrument.why(path)
    return f'watch.instrument = "{instrument.name}"'


def instrument_name(instrument: Instrument, path: PurePosixPath) -> str:
    """Whose file this is, by name; `auto` where nothing tells."""
    found = instrument.instrument_of(path) if isinstance(instrument, Auto) else instrument
    return instrument.name if found is None else found.name


# ---- a folder as a whole


@dataclass(frozen=True, slots=True)
class Recognition:
    """Whose a folder's files are.

    instruments: the names of those with planes there. why: in words. refusal: in words, where two share a folder and
    neither is guessed; else empty.
    """

    instruments: tuple[str, ...]
    why: str
    refusal: str = ""


@dataclass(slots=True)
class _Kept:
    """Of one instrument: how many files are planes (or bundles), how many fit at all, the metadata file met first."""

    planes: int = 0
    fit: int = 0
    metadata: str = ""


class RollCall:
    """Counts readings, and says in the end whose the files are. instrument: whose readings they are."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._kept: dict[str, _Kept] = {}
        self._names = 0
        self._problem = ""

    def add(self, path: PurePosixPath, reading: Reading) -> None:
        """One more file's reading."""
        if reading.kind is FileKind.NO_DATA:
            return
        self._names += 1
        if reading.kind is FileKind.UNKNOWN:
            self._problem = self._problem or f"{path}: {reading.problem}"
            return
        kept = self._kept.setdefault(reading.instrument or self._instrument.name, _Kept())
        kept.fit += 1
        if reading.kind is FileKind.METADATA:
            kept.metadata = kept.metadata or str(path)
        else:
            kept.planes += 1

    def recognition(self) -> Recognition:
        """What all of it says."""
        owners = {name: kept for name, kept in self._kept.items() if kept.planes}
        mixtures = self._instrument.mixtures if isinstance(self._instrument, Auto) else []
        if not owners:
            return Recognition((), self._nothing(), "; ".join(mixtures))
        return Recognition(tuple(owners), _counts_in_words(owners, self._names), "; ".join(mixtures))

    def _nothing(self) -> str:
        metadata = [kept.metadata for kept in self._kept.values() if kept.metadata]
        if metadata:
            return f"no plane yet, and {metadata[0]}"
        return f"no name fits; {self._problem}" if self._problem else "no image yet"


def recognise(root_name: str, paths: Sequence[PurePosixPath], instruments: Sequence[Instrument]) -> Recognition:
    """Whose the files of a folder are, by their names alone. paths: below the folder, which is called `root_name`."""
    auto = Auto(instruments)
    auto.look_ahead(paths)
    roll = RollCall(auto)
    for path in paths:
        roll.add(path, auto.read_name(root_name, path))
    return roll.recognition()


def _counts_in_words(owners: Mapping[str, _Kept], names: int) -> str:
    return "; ".join(
        f"as {name}: {kept.fit} of {names} names fit" + (f", with {kept.metadata}" if kept.metadata else "")
        for name, kept in owners.items()
    )


def _mixture_in_words(folder: _Folder) -> str:
    present = [f"{name} ({each.planes}, such as {each.example})" for name, each in list(folder.present.items())]
    where = "the watched folder itself" if folder.path == "." else folder.path
    return f"{where} holds planes of {' and of '.join(present)}"
