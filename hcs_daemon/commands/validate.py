"""`hcs-daemon validate`: what images are, file by file as JSON or channel by channel as a table and in words.

Names and what files say of themselves come from outside: what does not print is shown escaped.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from statistics import median

from hcs_daemon.commands.plate_pictures import PlatePictures, title_of
from hcs_daemon.config import Expect, load_settings
from hcs_daemon.instruments import INSTRUMENTS, instrument_for
from hcs_daemon.instruments.naming import Instrument, as_text
from hcs_daemon.instruments.recognition import Auto
from hcs_daemon.intake.depth import DepthBook
from hcs_daemon.intake.survey import SurveyedFile, row, survey
from hcs_daemon.plate import AcquisitionId
from hcs_daemon.publish.documents import SATURATED_FLAG
from hcs_daemon.records import ChannelDepth, PlaneEvidence
from hcs_daemon.terminal import Column, counted, printable, say, show_table
from hcs_daemon.vocabulary import Reason, Verdict

READERS = 2
EXAMPLES = 5
"""Rejected files of each reason that are named below the table, and different hints on one."""


@dataclass(slots=True)
class Strangers:
    """Files that are examined though their names do not say of what they are. example: the first, and why."""

    files: int = 0
    example: str = ""

    def add(self, file: SurveyedFile, instrument: Instrument) -> None:
        """One more file, if it is one of them."""
        if file.address is not None or file.instrument is not None or file.refusal is not None:
            return
        self.files += 1
        if not self.example:
            problem = instrument.read_name("", PurePosixPath(as_text(file.path.name))).problem
            self.example = f"{file.name}: {problem}"


@dataclass(slots=True)
class ChannelTally:
    """What the planes of one channel are.

    containers, depths: the pixel types of its files, and how many bits its planes' own tags say. seen: of each plane
    whose pixels were read: its path, evidence and noise. accepted: lowest and highest value of each accepted plane.
    focus: of each accepted plane. oddities: how many planes each is found in.
    """

    planes: int = 0
    ignored: int = 0
    rejected: Counter[Reason] = field(default_factory=Counter)
    accepted: list[tuple[int, int]] = field(default_factory=list)
    containers: set[str] = field(default_factory=set)
    depths: set[int] = field(default_factory=set)
    seen: list[tuple[str, PlaneEvidence, float | None]] = field(default_factory=list)
    saturated: int = 0
    focus: list[float] = field(default_factory=list)
    oddities: Counter[str] = field(default_factory=Counter)

    def add(self, file: SurveyedFile) -> None:
        """Count one more file."""
        self.planes += 1
        self.ignored += file.ignored
        if file.refusal is not None:
            self.rejected[file.refusal.reason] += 1
        if file.container is not None:
            self.containers.add(file.container)
        if file.record is not None and file.record.depth is not None:
            self.depths.add(file.record.depth.bits)
        measures = file.measures
        evidence = file.refusal.evidence if file.refusal is not None else measures.evidence if measures else None
        if evidence is not None:
            noise = measures.quality.noise if measures is not None and measures.quality is not None else None
            self.seen.append((file.name, evidence, noise))
        if measures is None or file.refusal is not None:
            return
        self.saturated += measures.saturated_fraction > SATURATED_FLAG
        self.accepted.append((measures.minimum, measures.maximum))
        self.focus.append(measures.focus)
        self.oddities.update(measures.oddities)

    def depth(self, expect: Expect | None) -> DepthBook | None:
        """What its planes say of its bit depth: as expected, else as its tags say, else as its container has.

        None where no pixels were read, or none that say anything.
        """
        if not self.seen:
            return None
        wide = any(evidence.byte_order is not None for _, evidence, _ in self.seen)
        said = max(self.depths, default=16 if wide else 8)
        book = DepthBook(expect.bit_depth if expect is not None else said)
        for path, evidence, noise in self.seen:
            book.note(path, evidence, noise)
        return book


_Where = tuple[str, str]
"""Plate and channel."""


@dataclass(slots=True)
class Examples:
    """Some files that were rejected for one reason: what was found, and the different hints."""

    count: int = 0
    found: list[str] = field(default_factory=list)
    hints: dict[str, None] = field(default_factory=dict)

    def add(self, file: SurveyedFile) -> None:
        """One more of them."""
        assert file.refusal is not None
        self.count += 1
        if len(self.found) < EXAMPLES:
            self.found.append(f"{file.name}: {file.refusal.detail}")
        if len(self.hints) < EXAMPLES:
            self.hints[file.refusal.hint] = None


@dataclass(slots=True)
class Survey:
    """All that was seen. pictures: of each acquisition."""

    expect: Expect | None
    channels: dict[_Where, ChannelTally] = field(default_factory=dict)
    rejected: dict[Reason, Examples] = field(default_factory=dict)
    pictures: dict[AcquisitionId, PlatePictures] = field(default_factory=dict)
    strangers: Strangers = field(default_factory=Strangers)

    def add(self, file: SurveyedFile, instrument: Instrument) -> None:
        """One more file."""
        plate = file.address.acquisition.plate if file.address else "?"
        self.channels.setdefault((plate, file.channel or "?"), ChannelTally()).add(file)
        self.strangers.add(file, instrument)
        if file.refusal is not None:
            self.rejected.setdefault(file.refusal.reason, Examples()).add(file)

    def look_at(self, file: SurveyedFile) -> None:
        """Keep what the picture is like, for it is judged beside the plate's others."""
        if file.address is not None:
            self.pictures.setdefault(file.address.acquisition, PlatePictures()).add(file)


def validate_files(paths: Sequence[Path], config: Path | None, *, as_json: bool) -> int:
    """0 when every file was accepted and no channel is contradicted, else 1.

    Without settings only what contradicts itself counts. Raises SettingsError or FolderError.
    """
    settings = load_settings(config) if config is not None else None
    instrument = instrument_for(settings.watch) if settings is not None else Auto(INSTRUMENTS)
    seen = Survey(settings.expect if settings is not None else None)
    with ThreadPoolExecutor(READERS, thread_name_prefix="reader") as readers:
        try:
            for file in survey(paths, instrument, seen.expect, readers):
                seen.add(file, instrument)
                if as_json:
                    say(json.dumps(row(file)))
                else:
                    seen.look_at(file)
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
    books = {where: tally.depth(seen.expect) for where, tally in sorted(seen.channels.items())}
    verdicts = {where: book.verdict() for where, book in books.items() if book is not None}
    if not as_json:
        _tell(seen, books, verdicts)
    wrong = any(
        verdicts[where].verdict is Verdict.CONTRADICTED and (seen.expect is not None or book.contradicts_itself)
        for where, book in books.items()
        if book is not None
    )
    return 0 if seen.channels and not seen.rejected and not wrong else 1


def _tell(seen: Survey, books: Mapping[_Where, DepthBook | None], verdicts: Mapping[_Where, ChannelDepth]) -> None:
    if not books:
        say("no image was found: nothing there is a TIFF file, or has a name that is read")
        return
    columns = [
        Column("plate"),
        Column("channel"),
        Column("planes", right=True),
        Column("claims"),
        Column("contains"),
        Column("sure", right=True),
        Column("noise (counts)", right=True),
        Column("focus", right=True),
        Column("rejected", right=True),
        Column("verdict"),
    ]
    rows = [_row(where, seen.channels[where], verdicts.get(where), seen.expect) for where in books]
    title = "What the images are" + ("" if seen.expect else " (nothing was expected: -c FILE compares with settings)")
    show_table(title, columns, rows)
    say(LEGEND)
    say()
    for where, book in books.items():
        doubt = book.doubt if book is not None else ""
        said = in_words(seen.channels[where], verdicts.get(where), seen.expect, doubt)
        say(printable(f"{_called(where)}: {said}"))
    say()
    for acquisition, pictures in sorted(seen.pictures.items()):
        _tell_pictures(acquisition, pictures)
    for reason, examples in seen.rejected.items():
        _name(reason, examples)
    if seen.strangers.files:
        files = counted(seen.strangers.files, "file")
        say(printable(f"{files} of no plate, by the name, such as {seen.strangers.example}"))
    say(printable(_last_line(seen, verdicts)))


LEGEND = (
    "sure: how many planes bear the verdict out, each halving the doubt; no probability. focus: variance of the"
    " Laplacian over that of the pixels, larger is sharper. See docs/forensics.md and docs/quality.md"
)


def _tell_pictures(acquisition: AcquisitionId, pictures: PlatePictures) -> None:
    """How good a plate's pictures are; nothing of one without an accepted picture."""
    if not pictures.extent:
        return
    lines = list(pictures.words())
    said = "" if lines else " nothing is flagged"
    say(printable(f"{title_of(acquisition)}: picture quality of {pictures.extent}:{said}"))
    for line in lines:
        say(f"  {printable(line)}")
    say()


def _last_line(seen: Survey, verdicts: Mapping[_Where, ChannelDepth]) -> str:
    """How it ended."""
    wrong = [_called(where) for where, depth in verdicts.items() if depth.verdict is Verdict.CONTRADICTED]
    claims = "channel is not what it claims" if len(wrong) == 1 else "channels are not what they claim"
    files = sum(examples.count for examples in seen.rejected.values())
    if not files:
        return f"every file accepted, and {len(wrong)} {claims}: {', '.join(wrong)}" if wrong else "all accepted"
    most = sorted(seen.rejected.items(), key=lambda item: -item[1].count)
    reasons = ", ".join(f"{reason} {examples.count}" for reason, examples in most)
    more = f"; and {len(wrong)} {claims}: {', '.join(wrong)}" if wrong else ""
    return f"{counted(files, 'file')} rejected: {reasons}{more}"


def _called(where: _Where) -> str:
    return " ".join(where)


def _name(reason: Reason, examples: Examples) -> None:
    for words in examples.found:
        say(printable(f"{reason}: {words}"))
    if examples.count > len(examples.found):
        say(f"  … and {examples.count - len(examples.found)} more; --json has a line for each")
    for hint in examples.hints:
        say(printable(f"  {hint}"))


def _row(where: _Where, tally: ChannelTally, depth: ChannelDepth | None, expect: Expect | None) -> list[object]:
    return [
        *map(printable, where),
        tally.planes,
        _claims(tally, expect),
        _contains(tally),
        f"{depth.confidence:.0%}" if depth is not None and depth.verdict is not Verdict.UNDECIDED else "-",
        "-" if depth is None or depth.noise_floor is None else f"{depth.noise_floor:.3g}",
        f"{median(tally.focus):.3f}" if tally.focus else "-",
        tally.rejected.total(),
        "-" if depth is None else depth.verdict.value,
    ]


def _claims(tally: ChannelTally, expect: Expect | None) -> str:
    """The container, and what the planes' own tags and the settings say."""
    said = [", ".join(sorted(tally.containers))] if tally.containers else []
    said += [f"tags {' or '.join(map(str, sorted(tally.depths)))} bits"] if tally.depths else []
    said += [f"settings {expect.bit_depth} bits"] if expect is not None else []
    return "; ".join(said) or "-"


def _contains(tally: ChannelTally) -> str:
    """Of the accepted planes, from the lowest to the highest value, and the bits that takes."""
    if not tally.accepted:
        return "-"
    lowest, highest = min(low for low, _ in tally.accepted), max(high for _, high in tally.accepted)
    return f"{lowest} to {highest}, {counted(highest.bit_length(), 'bit')}"


_ODD = {
    "gaps": "leave out values between frequent ones, like a look-up table that is not linear",
    "floor": "pile up at their lowest value, like a background that was cut off",
    "ceiling": "pile up at their highest value, below full scale",
    "jpeg_grid": "have edges between 8 x 8 blocks, like a picture that was a JPEG",
    "signed": "have no value below half of full scale, like signed values taken for unsigned ones",
}


def in_words(tally: ChannelTally, depth: ChannelDepth | None, expect: Expect | None, doubt: str = "") -> str:
    """The verdict on a channel: what its bit depth is, and why; what is odd or poor about its planes.

    doubt: what makes it doubtful and proves nothing.
    """
    if tally.ignored:
        return "not analysed: in expect.ignore_channels"
    if depth is None:
        return _refused(tally)
    bits = depth.declared
    claim, whose = (
        (f"the settings declare {bits} bits", "as the settings declare")
        if expect is not None
        else (f"its tags say {bits} bits", "as its tags say")
        if tally.depths
        else (f"its files are {bits}-bit", "as its files claim")
    )
    said = {
        Verdict.CONSISTENT: f"{bits} bits, {whose}",
        Verdict.CONTRADICTED: f"{claim}, and it is not {bits} bits",
        Verdict.UNDECIDED: f"{claim}, and whether it is {bits} bits is undecided",
    }[depth.verdict]
    words = [f"{said}: {depth.evidence}", *([doubt] if doubt else [])]
    words += [
        f"{counted(planes, 'plane')} {_ODD[name] if planes > 1 else _singular(_ODD[name])}"
        for name, planes in sorted(tally.oddities.items())
    ]
    if tally.saturated:
        words.append(f"{counted(tally.saturated, 'plane')} saturated")
    return "; ".join(words)


def _refused(tally: ChannelTally) -> str:
    """Of a channel whose planes are all refused and say nothing of its depth."""
    planes = counted(tally.planes, "plane")
    if len(tally.rejected) == 1:
        return f"{planes} refused: {next(iter(tally.rejected))}"
    return f"{planes} refused: {', '.join(f'{count} {reason}' for reason, count in tally.rejected.most_common())}"


def _singular(words: str) -> str:
    """The sentence of one plane instead of several."""
    verb, rest = words.split(" ", 1)
    return f"{ {'have': 'has'}.get(verb, verb + 's') } {rest.replace('their', 'its')}"
