"""What files are, without a model: bit depth, channels, sharpness. Behind `hcs-daemon validate`.

With settings every file is judged as the daemon would. Without, nothing is expected: names are read as any
instrument's, a TIFF file of another name is still examined, and only what contradicts itself is refused: a depth that
the pixels belie, a blank plane, the same plane twice, two sizes or two pixel types in one channel of a plate.
"""

import os
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath

from hcs_daemon.config import Expect
from hcs_daemon.errors import FolderError
from hcs_daemon.instruments.naming import FileKind, Instrument, PlaneAddress, as_text, name_of_root
from hcs_daemon.instruments.own_record import OwnRecord
from hcs_daemon.instruments.recognition import afresh
from hcs_daemon.intake import refusals
from hcs_daemon.intake.arrival import list_files
from hcs_daemon.intake.assembly import VOTES_FOR_A_SHAPE
from hcs_daemon.intake.channels import ChannelNames
from hcs_daemon.intake.lookalikes import COPIED_HINT, Bearer, Lookalikes, is_telling
from hcs_daemon.intake.opening import Bundle, open_bundle
from hcs_daemon.intake.reading import Changed, Decoded, Gone, NotYet, RecordOf, Refused, look, no_record, read_plane
from hcs_daemon.intake.record_check import Constants, constants_of
from hcs_daemon.intake.validation import Expected, Refusal
from hcs_daemon.plate import AcquisitionId, with_page
from hcs_daemon.records import PlaneMeasures, Sighting, StableFile
from hcs_daemon.vocabulary import Reason

READ_AHEAD = 8
"""Files that are read before their turn: so many planes may be in memory, whatever the folder holds."""
_TIFF_SUFFIXES = {".tif", ".tiff"}

_Form = tuple[tuple[int, int], str]
"""(height, width) and pixel type."""


@dataclass(frozen=True, slots=True)
class SurveyedFile:
    """One file, looked at.

    instrument: whose name it bears; None where none is known. address: by its name. channel: the settings' name for it,
    else the instrument's id. shape: (height, width). ignored: its channel is not analysed, so it was not opened.
    record: what its tags say of the plane itself. refusal: why it is rejected, None when accepted.
    """

    path: Path
    instrument: str | None = None
    address: PlaneAddress | None = None
    channel: str | None = None
    container: str | None = None
    shape: tuple[int, int] | None = None
    measures: PlaneMeasures | None = None
    sha256: str | None = None
    record: OwnRecord | None = None
    ignored: bool = False
    refusal: Refusal | None = None

    @property
    def name(self) -> str:
        """Its path, with `/`, as text."""
        return as_text(self.path.as_posix())


def row(file: SurveyedFile) -> dict[str, str | int | None]:
    """The file as `validate --json` writes it; the keys are part of the public face."""
    address, measures, refusal = file.address, file.measures, file.refusal
    return {
        "path": file.name,
        "instrument": file.instrument,
        "plate": address.acquisition.plate if address else None,
        "well": address.position.name if address else None,
        "site": address.site if address else None,
        "channel": file.channel,
        "z": address.z if address else None,
        "time": address.time if address else None,
        "container": file.container,
        "observed_bits": measures.observed_bits if measures else None,
        "min": measures.minimum if measures else None,
        "max": measures.maximum if measures else None,
        "reason": refusal.reason.value if refusal else None,
        "detail": refusal.detail if refusal else "not analysed: in expect.ignore_channels" if file.ignored else None,
        "hint": refusal.hint if refusal else None,
    }


def survey(
    paths: Sequence[Path], instrument: Instrument, expect: Expect | None, readers: Executor
) -> Iterator[SurveyedFile]:
    """Every plane file and every rejected one below `paths`, folder by folder, in the order of their names.

    paths: files or folders (a plate, its `Images`, a tree). expect: None where nothing is expected. readers: reads a
    few files ahead. Known non-data gives nothing. Raises FolderError for a path that is not there or cannot be listed.
    """
    for path in paths:
        try:
            path.stat()
        except OSError as error:
            raise FolderError(f"{path} cannot be looked at: {error.strerror}", "name files or folders") from error
    seen: set[str] = set()
    named = chain.from_iterable(_named(path, instrument, expect, seen) for path in paths)
    opened = _opened(named, Expected() if expect is None else Expected.of(expect), readers)
    # nothing expected: channels may differ in size and type by right, and only the planes of one must agree
    return _one_form(_no_lookalikes(_no_twins(_like_the_plate(opened))), by_channel=expect is None)


# ---- by their names


@dataclass(frozen=True, slots=True)
class _ToOpen:
    """A file that its name does not decide. record_of: what its instrument makes of its tags."""

    file: SurveyedFile
    sighting: Sighting
    record_of: RecordOf = no_record


def _named(
    path: Path, instrument: Instrument, expect: Expect | None, seen: set[str]
) -> Iterator[SurveyedFile | _ToOpen]:
    asked_for = not path.is_dir()
    root = path.parent if asked_for else path
    unlistable: list[SurveyedFile] = []
    sightings = [look(path)] if asked_for else _listing(path, unlistable)
    view = _View(root, afresh(instrument), expect)
    if not asked_for:
        view.learn(sightings)
    for sighting in sightings:
        real = os.path.realpath(sighting.path)
        if real in seen:
            continue  # below two of the paths, or linked to
        seen.add(real)
        yield from view.files(sighting, asked_for=asked_for)
    yield from unlistable


def _listing(folder: Path, unlistable: list[SurveyedFile]) -> list[Sighting]:
    def note(path: Path, error: OSError) -> None:
        detail = f"the folder cannot be listed: {error.strerror}"
        unlistable.append(SurveyedFile(path, refusal=Refusal(Reason.UNREADABLE, detail, "let this user read it")))

    try:
        return sorted(list_files(folder, note), key=lambda sighting: str(sighting.path))
    except OSError as error:
        raise FolderError(f"{folder} cannot be listed: {error.strerror}", "let this user read it") from error


class _View:
    """One folder's names, read as the daemon reads them. expect: None where nothing is expected."""

    def __init__(self, root: Path, instrument: Instrument, expect: Expect | None) -> None:
        self._root = root
        self._root_name = name_of_root(root)
        self._instrument = instrument
        self._expect = expect
        self._names: dict[AcquisitionId, ChannelNames] = {}

    def learn(self, sightings: Sequence[Sighting]) -> None:
        """Look at all names, and read the metadata where channels may be meant by names that stand only there."""
        self._instrument.look_ahead(self._relative(sighting.path) for sighting in sightings)
        if self._expect is None or not ChannelNames(self._expect).has_words:
            return
        for sighting in sightings:
            path = self._relative(sighting.path)
            if self._instrument.read_name(self._root_name, path).kind is FileKind.METADATA:
                with suppress(OSError):  # it promises nothing; where it is needed, its channels are said to be unknown
                    manifest = self._instrument.read_metadata(sighting.path)
                    if manifest is not None and manifest.channels:
                        acquisition = self._instrument.acquisition_of(self._root_name, path)
                        self._channels(acquisition).learn(manifest.channels)

    def files(self, sighting: Sighting, *, asked_for: bool) -> Iterator[SurveyedFile | _ToOpen]:
        """What is to be said of a file, or of each plane in it; nothing of known non-data."""
        path = self._relative(sighting.path)
        reading = self._instrument.read_name(self._root_name, path)
        name = reading.instrument or self._instrument.name
        if reading.kind is FileKind.PLANE and reading.address is not None:
            file = SurveyedFile(sighting.path, name, reading.address, reading.address.channel)
            yield self._by_channel(file, sighting, reading.problem)
        elif reading.kind is FileKind.BUNDLE and not sighting.is_folder:
            yield from self._pages(sighting, path, name)
        elif sighting.is_folder:
            return  # its name is no plane's
        elif reading.kind is FileKind.UNKNOWN and self._expect is not None:
            yield SurveyedFile(sighting.path, refusal=refusals.unknown_name(reading.problem))
        elif asked_for or (reading.kind is FileKind.UNKNOWN and sighting.path.suffix.lower() in _TIFF_SUFFIXES):
            yield _ToOpen(SurveyedFile(sighting.path), sighting)

    def _pages(self, sighting: Sighting, path: PurePosixPath, name: str) -> Iterator[SurveyedFile | _ToOpen]:
        stable = StableFile(sighting.path, sighting.size_bytes, sighting.mtime_ns)
        opened = open_bundle(self._instrument, self._root_name, path, stable)
        if isinstance(opened, Bundle):
            for page, address in enumerate(opened.pages):
                if address is not None:
                    each = replace(sighting, path=with_page(sighting.path, page))
                    yield self._by_channel(SurveyedFile(each.path, name, address, address.channel), each, "")
        elif isinstance(opened, Refused):
            yield SurveyedFile(sighting.path, name, refusal=opened.refusal)
        elif isinstance(opened, NotYet):
            yield SurveyedFile(sighting.path, name, refusal=refusals.not_openable(opened.detail))

    def _by_channel(self, file: SurveyedFile, sighting: Sighting, problem: str) -> SurveyedFile | _ToOpen:
        assert file.address is not None
        wanted = _ToOpen(file, sighting, partial(self._instrument.read_record, self._relative(sighting.path)))
        if self._expect is None:
            return wanted
        names = self._channels(file.address.acquisition)
        if names.is_ignored(file.address):
            return replace(file, ignored=True)
        name = names.name_of(file.address)
        if name is None:
            called = file.address.channel_name
            return replace(file, refusal=refusals.unknown_channel(file.address.channel, self._expect.channels, called))
        named = replace(file, channel=name)
        return replace(named, refusal=refusals.one_of_a_series(problem)) if problem else replace(wanted, file=named)

    def _channels(self, acquisition: AcquisitionId) -> ChannelNames:
        assert self._expect is not None
        if acquisition not in self._names:
            self._names[acquisition] = ChannelNames(self._expect)
        return self._names[acquisition]

    def _relative(self, path: Path) -> PurePosixPath:
        return PurePosixPath(as_text(path.relative_to(self._root).as_posix()))


# ---- by their pixels


def _opened(files: Iterable[SurveyedFile | _ToOpen], expected: Expected, readers: Executor) -> Iterator[SurveyedFile]:
    """The files in their order, each read by `readers` where its name does not decide it."""
    ahead: deque[SurveyedFile | Future[SurveyedFile | None]] = deque()
    for file in files:
        ahead.append(readers.submit(_open, file, expected) if isinstance(file, _ToOpen) else file)
        if len(ahead) > READ_AHEAD:
            yield from _finished(ahead.popleft())
    while ahead:
        yield from _finished(ahead.popleft())


def _finished(file: SurveyedFile | Future[SurveyedFile | None]) -> Iterator[SurveyedFile]:
    found = file.result() if isinstance(file, Future) else file
    if found is not None:
        yield found


def _open(wanted: _ToOpen, expected: Expected) -> SurveyedFile | None:
    """The file with what its pixels say; None when it is gone. Runs in a reader."""
    file, sighting = wanted.file, wanted.sighting
    stable = StableFile(file.path, sighting.size_bytes, sighting.mtime_ns)
    outcome = read_plane(stable, expected, record_of=wanted.record_of, address=file.address)
    match outcome:
        case Decoded(sha256, pixels, measures, _, record):
            height, width = pixels.shape
            found = replace(file, container=pixels.dtype.name, shape=(height, width), measures=measures)
            return replace(found, sha256=sha256, record=record)
        case Refused(refusal, sha256):
            return replace(file, refusal=refusal, sha256=sha256)
        case NotYet(detail):
            return replace(file, refusal=refusals.not_openable(detail))
        case Changed():
            detail = "changed while it was read: it is still being written"
            return replace(file, refusal=Refusal(Reason.TRUNCATED, detail, "look again when it is finished"))
        case Gone():
            return None


# ---- against each other


def _no_twins(files: Iterable[SurveyedFile]) -> Iterator[SurveyedFile]:
    """Refuse a plane whose bytes were there already, at the same address."""
    first: dict[tuple[PlaneAddress, str], Path] = {}
    for file in files:
        if file.address is None or file.sha256 is None or file.refusal is not None:
            yield file
            continue
        twin = first.setdefault((file.address, file.sha256), file.path)
        yield file if twin == file.path else replace(file, refusal=refusals.duplicate(as_text(twin.as_posix())))


def _no_lookalikes(files: Iterable[SurveyedFile]) -> Iterator[SurveyedFile]:
    """Refuse a plane whose pixels were there already under another channel's name; the first is through by then."""
    plates: defaultdict[AcquisitionId, Lookalikes] = defaultdict(Lookalikes)
    for file in files:
        address, measures = file.address, file.measures
        telling = file.refusal is None and measures is not None and is_telling(measures)
        if not telling or address is None or file.channel is None or measures is None or measures.pixel_digest is None:
            yield file
            continue
        bearer = Bearer(address.plane, file.channel, (0, 0))
        finding = plates[address.acquisition].note(file.name, measures.pixel_digest, bearer)
        yield file if finding.refusal is None else replace(file, refusal=replace(finding.refusal, hint=_ONE_OF_TWO))


_ONE_OF_TWO = f"the daemon would reject the other one, too, which stands here as accepted: {COPIED_HINT}"


def _like_the_plate(files: Iterable[SurveyedFile]) -> Iterator[SurveyedFile]:
    """Refuse planes whose tags say otherwise than most of their plate what must be alike, as the daemon does it."""
    plates: defaultdict[AcquisitionId, Constants] = defaultdict(Constants)
    waiting: defaultdict[AcquisitionId, list[SurveyedFile]] = defaultdict(list)
    for file in files:
        said = _said(file)
        if file.address is None or file.refusal is not None or not said:
            yield file
            continue
        acquisition = file.address.acquisition
        constants, held = plates[acquisition], waiting[acquisition]
        constants.note(file.name, said)
        held.append(file)
        if constants.is_settled(said, VOTES_FOR_A_SHAPE):
            yield from (
                _judged(each, constants) for each in held if constants.is_settled(_said(each), VOTES_FOR_A_SHAPE)
            )
            held[:] = [each for each in held if not constants.is_settled(_said(each), VOTES_FOR_A_SHAPE)]
    for acquisition, held in waiting.items():
        yield from (_judged(each, plates[acquisition]) for each in held)


def _said(file: SurveyedFile) -> dict[str, str]:
    return constants_of(file.record, file.address)


def _judged(file: SurveyedFile, constants: Constants) -> SurveyedFile:
    refusal = constants.note(file.name, _said(file)).refusal
    return file if refusal is None else replace(file, refusal=refusal)


def _one_form(files: Iterable[SurveyedFile], *, by_channel: bool) -> Iterator[SurveyedFile]:
    """Refuse planes of another size or type than their plate's, which is settled by vote, as the daemon does it.

    by_channel: each channel of a plate has a size and a type of its own.
    """
    settled: dict[object, _Form] = {}
    waiting: dict[object, list[SurveyedFile]] = {}
    for file in files:
        if file.address is None or file.shape is None or file.refusal is not None:
            yield file
            continue
        group = (file.address.acquisition, file.address.channel if by_channel else None)
        if group in settled:
            yield _fit(file, settled[group])
            continue
        waiting.setdefault(group, []).append(file)
        form, votes = _vote(waiting[group])
        if votes >= VOTES_FOR_A_SHAPE:
            settled[group] = form
            yield from (_fit(held, form) for held in waiting.pop(group))
    for group_files in waiting.values():
        form, _ = _vote(group_files)
        yield from (_fit(held, form) for held in group_files)


def _vote(files: Iterable[SurveyedFile]) -> tuple[_Form, int]:
    forms = Counter((file.shape, file.container) for file in files if file.shape and file.container)
    return forms.most_common(1)[0]


def _fit(file: SurveyedFile, form: _Form) -> SurveyedFile:
    shape, container = form
    if file.shape is not None and file.shape != shape:
        return replace(file, refusal=refusals.wrong_shape(file.shape, shape))
    if file.container == container:
        return file
    detail = f"pixels are {file.container}, those of the channel's other planes {container}"
    return replace(file, refusal=Refusal(Reason.WRONG_CONTAINER, detail, "export all planes of a channel alike"))
