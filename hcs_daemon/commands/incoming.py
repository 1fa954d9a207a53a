"""What lies in the watched folder now: whose it is, what it promises, what of it would be analysed. Behind `check`.

All names are read, as the daemon would read them. Of the first plates the metadata is read too, and one plane of each
channel, for its pixel size and its pixels.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from hcs_daemon.config import Settings
from hcs_daemon.errors import FolderError
from hcs_daemon.instruments import INSTRUMENTS, instrument_for
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import FileKind, PlaneAddress, Reading, as_text, name_of_root
from hcs_daemon.instruments.recognition import Auto, Recognition, RollCall
from hcs_daemon.intake import refusals
from hcs_daemon.intake.arrival import list_files
from hcs_daemon.intake.expectation import Expectation
from hcs_daemon.intake.opening import Bundle, open_bundle, read_metadata
from hcs_daemon.intake.reading import Decoded, Refused, read_plane
from hcs_daemon.intake.validation import Expected, Refusal
from hcs_daemon.plate import AcquisitionId, WellPosition, with_page
from hcs_daemon.records import Sighting, StableFile
from hcs_daemon.vocabulary import Reason

PLATES_SHOWN = 10
"""Plates that are looked at closely and named."""


@dataclass(slots=True)
class ChannelSeen:
    """One of an instrument's channels on a plate: how many planes, and the first of them."""

    address: PlaneAddress
    file: StableFile
    planes: int = 0


@dataclass(slots=True)
class PlateSeen:
    """One acquisition by the names of its files. sites: by well. metadata, bundles: by their name below the root.

    expectation: what the settings and the metadata say of it, once that was read. promising, telling: the files that
    promise planes, and those that tell of how it was taken only.
    """

    acquisition: AcquisitionId
    expectation: Expectation
    sites: dict[WellPosition, set[int]] = field(default_factory=dict)
    times: set[int] = field(default_factory=set)
    steps: set[int] = field(default_factory=set)
    channels: dict[str, ChannelSeen] = field(default_factory=dict)
    planes: int = 0
    metadata: dict[PurePosixPath, StableFile] = field(default_factory=dict)
    bundles: dict[PurePosixPath, StableFile] = field(default_factory=dict)
    promising: list[str] = field(default_factory=list)
    telling: list[str] = field(default_factory=list)

    def add(self, address: PlaneAddress, file: StableFile) -> None:
        """One more plane."""
        self.planes += 1
        self.sites.setdefault(address.position, set()).add(address.site)
        self.times.add(address.time)
        self.steps.add(address.z)
        self.channels.setdefault(address.channel, ChannelSeen(address, file)).planes += 1

    def promise(self, path: PurePosixPath, said: Manifest | None) -> None:
        """What one of its files promises."""
        if said is not None:
            (self.promising if said.planes else self.telling).append(path.name)
            self.expectation.promise(str(path), said)

    @property
    def title(self) -> str:
        """Plate and acquisition, in words."""
        return f"{self.acquisition.plate}, acquisition {self.acquisition.acquisition}"


@dataclass(slots=True)
class Refusals:
    """Files that would be rejected for one reason. example: the first, and why."""

    example: str
    refusal: Refusal
    files: int = 0


class Incoming:
    """What was found in the watched folder. Made by `look_into`, and only read afterwards.

    plates: all, in the order of their names; shown: the first of them, whose metadata and tags were read. elsewhere:
    where the settings name an instrument, planes that are another's, by its name.
    """

    def __init__(self, settings: Settings, channels: tuple[str, ...]) -> None:
        self._settings = settings
        self._channels = channels
        self._root = settings.watch.directory
        self._root_name = name_of_root(self._root)
        self._instrument = instrument_for(settings.watch)
        self._roll = RollCall(self._instrument)
        self._plates: dict[AcquisitionId, PlateSeen] = {}
        self._anybody = Auto(INSTRUMENTS)
        self.elsewhere: Counter[str] = Counter()
        self.refused: dict[Reason, Refusals] = {}
        self.unlistable: list[Path] = []
        self.opened = 0

    @property
    def plates(self) -> list[PlateSeen]:
        """Every acquisition with images, in the order of their names."""
        return [
            self._plates[each]
            for each in sorted(self._plates)
            if self._plates[each].channels or self._plates[each].bundles
        ]

    @property
    def shown(self) -> list[PlateSeen]:
        """Those that are looked at closely."""
        return self.plates[:PLATES_SHOWN]

    @property
    def recognition(self) -> Recognition:
        """Whose the files are."""
        return self._roll.recognition()

    # ---- by their names

    def list(self) -> None:
        """Read all names, and once more where two instruments share a folder. Raises OSError."""
        self._read_names()
        if isinstance(self._instrument, Auto) and self._instrument.is_shared:
            self._instrument.start_over()
            self._read_names()

    def _read_names(self) -> None:
        self._roll, self._plates, self.refused, self.unlistable = RollCall(self._instrument), {}, {}, []
        for sighting in list_files(self._root, lambda path, _: self.unlistable.append(path)):
            self._name(self._relative(sighting.path), sighting)

    def _relative(self, path: Path) -> PurePosixPath:
        return PurePosixPath(as_text(path.relative_to(self._root).as_posix()))

    def _name(self, path: PurePosixPath, sighting: Sighting) -> None:
        reading = self._instrument.read_name(self._root_name, path)
        if sighting.is_folder and reading.kind not in {FileKind.PLANE, FileKind.BUNDLE}:
            return
        self._roll.add(path, reading)
        file = StableFile(sighting.path, sighting.size_bytes, sighting.mtime_ns)
        match reading.kind:
            case FileKind.PLANE if reading.address is not None:
                self._plane(path, reading.address, reading, file)
            case FileKind.BUNDLE:
                self._plate(self._instrument.acquisition_of(self._root_name, path)).bundles[path] = file
            case FileKind.METADATA:
                self._plate(self._instrument.acquisition_of(self._root_name, path)).metadata[path] = file
            case FileKind.UNKNOWN:
                self._refuse(str(path), refusals.unknown_name(reading.problem))
                if not isinstance(self._instrument, Auto):
                    self.elsewhere.update(filter(None, [self._anybody.read_name(self._root_name, path).instrument]))

    def _plane(self, path: PurePosixPath, address: PlaneAddress, reading: Reading, file: StableFile) -> None:
        if reading.problem:
            self._refuse(str(path), refusals.one_of_a_series(reading.problem))
        else:
            self._plate(address.acquisition).add(address, file)

    def _plate(self, acquisition: AcquisitionId) -> PlateSeen:
        plate = self._plates.get(acquisition)
        if plate is None:
            plate = self._plates[acquisition] = PlateSeen(
                acquisition, Expectation(self._settings.expect, self._channels)
            )
        return plate

    def _refuse(self, name: str, refusal: Refusal, files: int = 1) -> None:
        self.refused.setdefault(refusal.reason, Refusals(name, refusal)).files += files

    # ---- by what is in them

    def open(self) -> None:
        """Read the metadata of the plates that are shown, one bundle, and one plane of each channel."""
        for plate in self.shown:
            for path, file in plate.metadata.items():
                said = read_metadata(self._instrument, file)
                plate.promise(path, said if isinstance(said, Manifest) else None)
            for path, file in list(plate.bundles.items())[:1]:
                self._unpack(plate, path, file)
            self._open_planes(plate)
            self._judge_channels(plate)

    def _unpack(self, plate: PlateSeen, path: PurePosixPath, file: StableFile) -> None:
        found = open_bundle(self._instrument, self._root_name, path, file)
        if isinstance(found, Refused):
            self._refuse(str(path), found.refusal)
        if not isinstance(found, Bundle):
            return
        plate.promise(path, found.manifest)
        for page, address in enumerate(found.pages):
            if address is not None:
                plate.add(address, StableFile(with_page(file.path, page), file.size_bytes, file.mtime_ns))

    def _open_planes(self, plate: PlateSeen) -> None:
        expected = Expected.of(self._settings.expect)
        for seen in plate.channels.values():
            name = plate.expectation.names.name_of(seen.address)
            if name is None:
                continue
            self.opened += 1
            path = self._relative(seen.file.path)
            facts_of = partial(self._instrument.read_tags, path)
            record_of = partial(self._instrument.read_record, path)
            found = read_plane(seen.file, expected, facts_of, record_of, seen.address)
            if isinstance(found, Refused):
                self._refuse(str(path), found.refusal)
            elif isinstance(found, Decoded) and found.facts is not None:
                plate.expectation.taken[name] = found.facts

    def _judge_channels(self, plate: PlateSeen) -> None:
        names = plate.expectation.names
        for id_, seen in plate.channels.items():
            if names.name_of(seen.address) is None and not names.is_ignored(seen.address):
                called = called_by_instrument(plate, seen)
                refusal = refusals.unknown_channel(id_, self._settings.expect.channels, called)
                self._refuse(str(self._relative(seen.file.path)), refusal, seen.planes)


def look_into(settings: Settings, channels: tuple[str, ...]) -> Incoming:
    """What lies in `watch.directory`. channels: the settings' names that the model needs. Raises FolderError."""
    found = Incoming(settings, channels)
    try:
        found.list()
    except OSError as error:
        raise FolderError(
            f"watch.directory {settings.watch.directory} cannot be listed: {error.strerror}", "let this user read it"
        ) from error
    found.open()
    return found


def called_by_instrument(plate: PlateSeen, seen: ChannelSeen) -> str:
    """The instrument's name for a channel, empty where it has none."""
    facts = plate.expectation.manifest.channels.get(seen.address.channel)
    return seen.address.channel_name or (facts.name if facts else "")
