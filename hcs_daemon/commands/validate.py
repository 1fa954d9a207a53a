"""`hcs-daemon validate`: what images are, file by file as JSON or channel by channel as a table and in words."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from statistics import median

from hcs_daemon.config import Expect, load_settings
from hcs_daemon.instruments import INSTRUMENTS, instrument_for
from hcs_daemon.instruments.naming import Instrument, as_text
from hcs_daemon.instruments.recognition import Auto
from hcs_daemon.intake.depth import DepthBook
from hcs_daemon.intake.survey import SurveyedFile, row, survey
from hcs_daemon.publish.documents import SATURATED_FLAG
from hcs_daemon.records import ChannelDepth, PlaneEvidence
from hcs_daemon.terminal import Column, counted, say, show_table
from hcs_daemon.vocabulary import Verdict

READERS = 2
EXAMPLES = 5
"""Rejected files of each reason that are named below the table."""


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
    whose pixels were read: its path, evidence and noise. focus: of each accepted plane. oddities: how many planes each
    is found in.
    """

    planes: int = 0
    ignored: int = 0
    rejected: int = 0
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
        self.rejected += file.refusal is not None
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
        self.focus.append(measures.focus)
        self.oddities.update(measures.oddities)

    def depth(self, expect: Expect | None) -> ChannelDepth | None:
        """The verdict on its bit depth: as expected, else as its tags say, else as its container has.

        None where no pixels were read.
        """
        if not self.seen:
            return None
        wide = any(evidence.byte_order is not None for _, evidence, _ in self.seen)
        said = max(self.depths, default=16 if wide else 8)
        book = DepthBook(expect.bit_depth if expect is not None else said)
        for path, evidence, noise in self.seen:
            book.note(path, evidence, noise)
        return book.verdict()


def validate_files(paths: Sequence[Path], config: Path | None, *, as_json: bool) -> int:
    """0 when every file was accepted and no channel contradicts the settings, else 1.

    Raises SettingsError or FolderError.
    """
    settings = load_settings(config) if config is not None else None
    instrument = instrument_for(settings.watch) if settings is not None else Auto(INSTRUMENTS)
    expect = settings.expect if settings is not None else None
    tallies: dict[tuple[str, str], ChannelTally] = {}
    rejected: Counter[str] = Counter()
    examples: dict[str, list[SurveyedFile]] = {}
    strangers = Strangers()
    with ThreadPoolExecutor(READERS, thread_name_prefix="reader") as readers:
        try:
            for file in survey(paths, instrument, expect, readers):
                plate = file.address.acquisition.plate if file.address else "?"
                tallies.setdefault((plate, file.channel or "?"), ChannelTally()).add(file)
                strangers.add(file, instrument)
                if file.refusal is not None:
                    rejected[file.refusal.reason] += 1
                    if rejected[file.refusal.reason] <= EXAMPLES:
                        examples.setdefault(file.refusal.reason, []).append(file)
                if as_json:
                    say(json.dumps(row(file)))
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
    verdicts = {where: tally.depth(expect) for where, tally in tallies.items()}
    if not as_json:
        _tell(tallies, verdicts, rejected, examples, expect)
        if strangers.files:
            say(f"{counted(strangers.files, 'file')} of no plate, by the name, such as {strangers.example}")
    wrong = expect is not None and any(
        depth is not None and depth.verdict is Verdict.CONTRADICTED for depth in verdicts.values()
    )
    return 0 if tallies and not rejected and not wrong else 1


_Where = tuple[str, str]
"""Plate and channel."""


def _tell(
    tallies: Mapping[_Where, ChannelTally],
    verdicts: Mapping[_Where, ChannelDepth | None],
    rejected: Counter[str],
    examples: Mapping[str, Sequence[SurveyedFile]],
    expect: Expect | None,
) -> None:
    if not tallies:
        say("no image was found: nothing there is a TIFF file, or has a name that is read")
        return
    columns = [
        Column("plate"),
        Column("channel"),
        Column("planes", right=True),
        Column("claims"),
        Column("contains"),
        Column("sure", right=True),
        Column("noise", right=True),
        Column("focus", right=True),
        Column("rejected", right=True),
        Column("verdict"),
    ]
    rows = [
        _row(where, tally, verdicts[where], expect)
        for where, tally in sorted(tallies.items(), key=lambda item: item[0])
    ]
    title = "What the images are" + ("" if expect else " (nothing was expected: -c FILE compares with settings)")
    show_table(title, columns, rows)
    say()
    for (plate, channel), tally in sorted(tallies.items(), key=lambda item: item[0]):
        say(f"{plate} {channel}: {in_words(tally, verdicts[plate, channel], expect)}")
    say()
    for reason, files in examples.items():
        _name(reason, files, rejected[reason])
    reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.most_common())
    say(f"{counted(rejected.total(), 'file')} rejected: {reasons}" if rejected else "all accepted")


def _name(reason: str, files: Sequence[SurveyedFile], count: int) -> None:
    """Some files that were rejected for one reason, and the first one's hint."""
    for file in files:
        say(f"{reason}: {file.name}: {file.refusal.detail if file.refusal else ''}")
    if count > len(files):
        say(f"  … and {count - len(files)} more; --json has a line for each")
    if files[0].refusal is not None:
        say(f"  {files[0].refusal.hint}")


def _row(where: _Where, tally: ChannelTally, depth: ChannelDepth | None, expect: Expect | None) -> list[object]:
    return [
        *where,
        tally.planes,
        _claims(tally, expect),
        _contains(tally),
        f"{depth.confidence:.0%}" if depth is not None and depth.verdict is not Verdict.UNDECIDED else "-",
        "-" if depth is None or depth.noise_floor is None else f"{depth.noise_floor:.3g}",
        f"{median(tally.focus):.3f}" if tally.focus else "-",
        tally.rejected,
        "-" if depth is None else depth.verdict.value,
    ]


def _claims(tally: ChannelTally, expect: Expect | None) -> str:
    """The container, and what the planes' own tags and the settings say."""
    said = [", ".join(sorted(tally.containers))] if tally.containers else []
    said += [f"tags {' or '.join(map(str, sorted(tally.depths)))} bits"] if tally.depths else []
    said += [f"settings {expect.bit_depth} bits"] if expect is not None else []
    return "; ".join(said) or "-"


def _contains(tally: ChannelTally) -> str:
    """From the lowest to the highest value, and the bits that takes."""
    if not tally.seen:
        return "-"
    lowest = min(evidence.lowest for _, evidence, _ in tally.seen)
    highest = max(evidence.highest for _, evidence, _ in tally.seen)
    return f"{lowest} to {highest}, {counted(highest.bit_length(), 'bit')}"


_ODD = {
    "gaps": "leave out values between frequent ones, like a look-up table that is not linear",
    "floor": "pile up at their lowest value, like a background that was cut off",
    "ceiling": "pile up at their highest value, below full scale",
    "jpeg_grid": "have edges between 8 x 8 blocks, like a picture that was a JPEG",
    "signed": "have no value below half of full scale, like signed values taken for unsigned ones",
}


def in_words(tally: ChannelTally, depth: ChannelDepth | None, expect: Expect | None) -> str:
    """The verdict on a channel: what its bit depth is, and why; what is odd or poor about its planes."""
    if tally.ignored:
        return "not analysed: in expect.ignore_channels"
    if depth is None:
        return "no pixels of it could be read"
    whose = (
        "as the settings declare" if expect is not None else "as its tags say" if tally.depths else "as its files have"
    )
    said = {
        Verdict.CONSISTENT: f"{depth.declared} bits, {whose}",
        Verdict.CONTRADICTED: f"not {depth.declared} bits, {whose}",
        Verdict.UNDECIDED: f"whether {depth.declared} bits, {whose}, is undecided",
    }[depth.verdict]
    words = [f"{said}: {depth.evidence}"]
    words += [
        f"{counted(planes, 'plane')} {_ODD[name] if planes > 1 else _singular(_ODD[name])}"
        for name, planes in sorted(tally.oddities.items())
    ]
    if tally.saturated:
        words.append(f"{counted(tally.saturated, 'plane')} saturated")
    return "; ".join(words)


def _singular(words: str) -> str:
    """The sentence of one plane instead of several."""
    verb, rest = words.split(" ", 1)
    return f"{ {'have': 'has'}.get(verb, verb + 's') } {rest.replace('their', 'its')}"
