"""What the parts of intake share: the files it knows, the books of the plates, and the two ways out."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

from hcs_daemon.config import Settings
from hcs_daemon.instruments.naming import FileKind, Instrument, PlaneAddress, as_text
from hcs_daemon.intake.assembly import PlateBook, WellBook
from hcs_daemon.plate import AcquisitionId, PlaneId, WellId, split_page
from hcs_daemon.records import ExplainTask, PlateNews, Rejection, Sighting, Site, SiteReturned, WellClosed
from hcs_daemon.telemetry import Telemetry
from hcs_daemon.vocabulary import PlaneOutcome, PlateState

ToDevice = Site | ExplainTask
ToPublish = Rejection | WellClosed | PlateNews | SiteReturned


@dataclass(slots=True)
class FileEntry:
    """What intake knows of one file.

    name: its path below the watched folder, as text. problem: why its name alone refuses it. plane and channel are None
    for a file that is no plane of an expected channel. tries: reads that came to nothing since it last changed.
    held_s: monotonic seconds since which somebody holds it; None when nobody does. held_said: whether that was said.
    complete_s: monotonic seconds at which it had settled. rejection: its standing line. outcome: as it is counted.
    address: of a plane, as its name or its bundle says it. instrument: whose name it bears.
    """

    path: Path
    name: str
    kind: FileKind
    size_bytes: int
    mtime_ns: int
    acquisition: AcquisitionId
    problem: str = ""
    plane: PlaneId | None = None
    channel: str | None = None
    decided: bool = False
    tries: int = 0
    held_s: float | None = None
    held_said: bool = False
    complete_s: float = 0.0
    rejection: Rejection | None = None
    outcome: PlaneOutcome | None = None
    address: PlaneAddress | None = None
    instrument: str = ""

    @property
    def channel_name(self) -> str:
        """Its channel by the settings' name, else as the instrument calls it; empty for no plane."""
        named = self.address.channel_name if self.address else ""
        return self.channel or named or (self.plane.channel if self.plane else "")

    @property
    def is_of_a_plate(self) -> bool:
        """Whether what is said of it stands with its plate: planes, and metadata."""
        return self.plane is not None or self.kind is FileKind.METADATA

    @property
    def sighting(self) -> Sighting:
        """As it was last seen."""
        return Sighting(self.path, self.size_bytes, self.mtime_ns)


@dataclass(slots=True)
class IntakeState:
    """Owned by the intake thread.

    root: the watched folder. instrument: whose files they are. channels: names in the model's order. open_wells: not
    yet closed, oldest first. touched: those of them to be looked at now. pending: planes of expected channels that are
    seen and not yet decided. awaited: how many ever were, each time that one was to be read.
    """

    root: Path
    instrument: Instrument
    settings: Settings
    channels: tuple[str, ...]
    telemetry: Telemetry
    now_utc: Callable[[], datetime]
    files: dict[Path, FileEntry] = field(default_factory=dict)
    plates: dict[AcquisitionId, PlateBook] = field(default_factory=dict)
    open_wells: dict[WellId, None] = field(default_factory=dict)
    touched: dict[WellId, None] = field(default_factory=dict)
    pending: int = 0
    awaited: int = 0
    to_device: deque[ToDevice] = field(default_factory=deque)
    to_publish: deque[ToPublish] = field(default_factory=deque)
    _spelled_otherwise: dict[str, Path] = field(default_factory=dict)

    def relative(self, path: Path) -> PurePosixPath:
        """The path below the root, as text that every file and log can hold."""
        given = path.relative_to(self.root).as_posix()
        text = as_text(given)
        if text != given:
            self._spelled_otherwise[text] = path
        return PurePosixPath(text)

    def path_of(self, name: str) -> Path:
        """Where the file is that `relative` gave this name."""
        return self._spelled_otherwise.get(name) or self.root / name

    def folder_of(self, name: str) -> str:
        """The measurement folder of a file, both below the root."""
        file, _ = split_page(Path(name))
        return str(self.instrument.measurement_folder(PurePosixPath(file.as_posix())))

    def book_of(self, file: FileEntry) -> WellBook | None:
        """The well that a plane of an expected channel belongs to."""
        if file.plane is None or file.channel is None:
            return None
        return self.plates[file.acquisition].well(file.plane.site.well)

    def await_verdict(self, file: FileEntry) -> None:
        """The file is to be read: its well waits for the verdict."""
        file.decided = False
        book = self.book_of(file)
        if book is None or file.plane is None:
            return
        if file.name not in book.outstanding:
            book.outstanding.add(file.name)
            self.pending += 1
            self.awaited += 1
        site, z = file.plane.site.site, file.plane.z
        assert file.channel is not None  # it has a book
        self.plates[file.acquisition].expectation.name_plane(book.when, site, file.channel, z)
        self.open_wells[book.well] = None

    def settle_account(self, file: FileEntry) -> None:
        """The well waits for this file no longer."""
        book = self.book_of(file)
        if book is None:
            return
        if file.name in book.outstanding:
            book.outstanding.discard(file.name)
            self.pending -= 1
        self.touch(book)

    def touch(self, book: WellBook) -> None:
        """Something about the well is new: look whether it can be closed."""
        self.open_wells[book.well] = None
        self.touched[book.well] = None

    def shut(self, well: WellId) -> None:
        """The well is not open any more, nor is it to be looked at, whatever another taught it since."""
        self.open_wells.pop(well, None)
        self.touched.pop(well, None)

    def reopen(self, plate: PlateBook) -> None:
        """A plane came to a plate; a finished one acquires again."""
        if plate.state is PlateState.FINISHED:
            plate.state, plate.news_due, plate.news_s = PlateState.ACQUIRING, True, float("-inf")
