"""`hcs-daemon validate`: what images are, file by file as JSON or channel by channel as a table."""

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from statistics import median

from hcs_daemon.config import Expect, Settings, load_settings
from hcs_daemon.instruments import INSTRUMENTS, instrument_for
from hcs_daemon.instruments.naming import Instrument, as_text
from hcs_daemon.instruments.recognition import Auto
from hcs_daemon.intake.survey import SurveyedFile, row, survey
from hcs_daemon.publish.documents import SATURATED_FLAG
from hcs_daemon.terminal import Column, counted, say, show_table

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
    """What the planes of one channel are. bits: highest bit that occurs -> planes. focus: of each accepted plane."""

    planes: int = 0
    ignored: int = 0
    rejected: int = 0
    containers: set[str] = field(default_factory=set)
    bits: Counter[int] = field(default_factory=Counter)
    lowest: int | None = None
    highest: int | None = None
    saturated: int = 0
    focus: list[float] = field(default_factory=list)

    def add(self, file: SurveyedFile) -> None:
        """Count one more file."""
        self.planes += 1
        self.ignored += file.ignored
        self.rejected += file.refusal is not None
        measures = file.measures
        if measures is None or file.container is None or file.refusal is not None:
            return
        self.containers.add(file.container)
        self.bits[measures.observed_bits] += 1
        self.lowest = min(measures.minimum, measures.minimum if self.lowest is None else self.lowest)
        self.highest = max(measures.maximum, self.highest or 0)
        self.saturated += measures.saturated_fraction > SATURATED_FLAG
        self.focus.append(measures.focus)


def validate_files(paths: Sequence[Path], config: Path | None, *, as_json: bool) -> int:
    """0 when every file was accepted, 1 otherwise. Raises SettingsError or FolderError."""
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
    if not as_json:
        _tell(tallies, rejected, examples, settings)
        if strangers.files:
            say(f"{counted(strangers.files, 'file')} of no plate, by the name, such as {strangers.example}")
    return 0 if tallies and not rejected else 1


def _tell(
    tallies: dict[tuple[str, str], ChannelTally],
    rejected: Counter[str],
    examples: dict[str, list[SurveyedFile]],
    settings: Settings | None,
) -> None:
    if not tallies:
        say("no image was found: nothing there is a TIFF file, or has a name that is read")
        return
    columns = [
        Column("plate"),
        Column("channel"),
        Column("planes", right=True),
        Column("container"),
        Column("bits", right=True),
        Column("min", right=True),
        Column("max", right=True),
        Column("focus", right=True),
        Column("rejected", right=True),
        Column("verdict"),
    ]
    expect = settings.expect if settings is not None else None
    rows = [_row(plate, channel, tally, expect) for (plate, channel), tally in sorted(tallies.items())]
    title = "What the images are" + ("" if expect else " (nothing was expected: -c FILE compares with settings)")
    show_table(title, columns, rows)
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


def _row(plate: str, channel: str, tally: ChannelTally, expect: Expect | None) -> list[object]:
    bits = sorted(tally.bits)
    return [
        plate,
        channel,
        tally.planes,
        ", ".join(sorted(tally.containers)) or "-",
        f"{bits[0]}-{bits[-1]}" if len(bits) > 1 else bits[0] if bits else "-",
        "-" if tally.lowest is None else tally.lowest,
        "-" if tally.highest is None else tally.highest,
        f"{median(tally.focus):.3f}" if tally.focus else "-",
        tally.rejected,
        verdict(tally, expect),
    ]


def verdict(tally: ChannelTally, expect: Expect | None) -> str:
    """What the accepted planes say of a channel's bit depth and light, in words."""
    if tally.ignored:
        return "not analysed: in expect.ignore_channels"
    if not tally.bits:
        return "nothing acceptable"
    most = max(tally.bits)
    words = _of_expectation(most, expect) if expect is not None else _of_itself(most, tally)
    if tally.saturated:
        words += f"; {counted(tally.saturated, 'plane')} saturated"
    return words


def _of_expectation(most: int, expect: Expect) -> str:
    if most == expect.bit_depth:
        return f"consistent with {expect.bit_depth} bits"
    return f"undecided: {most} of {expect.bit_depth} bits used, by a dim channel or a camera with fewer"


def _of_itself(most: int, tally: ChannelTally) -> str:
    widest = 8 if tally.containers == {"uint8"} else 16
    camera = next(depth for depth in (8, 10, 12, 14, 16) if most <= depth)
    dim = "" if camera == widest else ", or a dim channel of one with more"
    return f"{most} bits used: {camera}-bit images{dim}"
