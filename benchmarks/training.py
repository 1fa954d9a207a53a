"""From a simulated plate to a package, and what the package makes of another plate, with a phenotype that it never saw.

    python benchmarks/training.py [--wells 384] [--size 270] [--steps N] [--unseen dna_damage] [--write FILE]

The commands are those that a laboratory gives: simulate, train, process. One phenotype's wells are taken out of the
training plate's layout; on the other plate they must be called unlike all that was seen. Beside it the best linear rule
on mean intensities, learned from the same wells. Ends with 1 where an aim is missed.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.tiff import decode_plane
from hcs_daemon.training.controls import balanced_accuracy
from hcs_daemon.training.evaluation import Share, calibration_error, share
from hcs_daemon.training.making import STEPS

CONTROL = "control"
CLEAR = 0.5
"""From this effect strength on a phenotype is plain to a biologist."""
MOST_TRAINING_S, MOST_ECE, LEAST_FLAGGED = 600.0, 0.05, 0.9
_DARK = 120.0
_SETTINGS = """[watch]
directory = "{incoming}"
[expect]
bit_depth = 16
channels = {{ DNA = "1", ER = "2", RNA = "3", AGP = "4", Mito = "5" }}
[model]
package = "{package}"
device = "cpu"
[explain]
policy = "none"
[results]
directory = "{results}"
min_free_bytes = 0
pictures = "none"
[http]
port = 0
"""


@dataclass(frozen=True, slots=True)
class Plate:
    """A simulated plate. truth: by well, as `simulate --truth` writes it. means: (wells, channels) raw counts."""

    folder: Path
    truth: dict[str, dict[str, str]]
    means: NDArray[np.float64]

    @property
    def classes(self) -> NDArray[np.str_]:
        """(wells,) what was planted."""
        return np.array([row["class"] for row in self.truth.values()])

    @property
    def effects(self) -> NDArray[np.float64]:
        """(wells,) effect strength, 0 to 1."""
        return np.array([float(row["effect_strength"]) for row in self.truth.values()])


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds by the clock, and of the processors."""

    wall_s: float
    cpu_s: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 where every aim is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wells", type=int, default=384)
    parser.add_argument("--size", type=int, default=270)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--unseen", default="dna_damage")
    parser.add_argument("--work", type=Path, help="where plates and package are kept; without, nowhere")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        text, met = measure(given.work or Path(scratch), given.wells, given.size, given.steps, given.unseen)
    print(text)
    if given.write:
        given.write.write_text(text, "utf-8")
    return 0 if met else 1


def measure(work: Path, wells: int, size: int, steps: int, unseen: str) -> tuple[str, bool]:
    """The page, and whether every aim is met. What stands in `work` already is not made again."""
    work.mkdir(parents=True, exist_ok=True)
    learned, asked = (simulated(work, name, wells, size, seed) for name, seed in (("TRAIN1", 1), ("TEST1", 2)))
    package, results = work / "package", work / "results"
    settings = work / "config.toml"
    settings.write_text(_SETTINGS.format(incoming=work / "incoming", package=package, results=results), "utf-8")
    layout = _layout_without(learned, unseen, work / "known.csv")
    command: list[str | Path] = ["train", "-c", settings, "--plate", learned.folder, "--layout", layout]
    training = run(*command, "--classes", "class", "--control", CONTROL, "--output", package, "--steps", str(steps))
    processing = run("process", asked.folder, "-c", settings)
    head = f"one site of {size} x {size} pixels each, was learned from with all wells of `{unseen}` left out;"
    head += f"\nanother plate was then processed. {steps} batches at most."
    return page(learned, asked, work, unseen, (training, processing), head=head)


def simulated(work: Path, name: str, wells: int, size: int, seed: int) -> Plate:
    """A plate of this name, written when it is not there."""
    truth = work / f"{name}.truth.csv"
    if not truth.exists():
        where = ("simulate", work / "incoming", "--plate", name, "--truth", truth)
        run(*where, "--wells", str(wells), "--size", str(size), "--seed", str(seed))
    (folder,) = (work / "incoming").glob(f"{name}__*")
    with truth.open(encoding="utf-8", newline="") as stream:
        rows = {row["well"]: row for row in csv.DictReader(stream)}
    sums: dict[str, list[float]] = {}
    for path in sorted(folder.rglob("*.tiff")):
        well = f"{chr(64 + int(path.name[1:3]))}{int(path.name[4:6]):02d}"
        sums.setdefault(well, []).append(float(decode_plane(path.read_bytes()).pixels.mean()))
    return Plate(folder, rows, np.array([sums[well] for well in rows]))


def run(*arguments: str | Path) -> Timing:
    """One command of the program; what it took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    found = subprocess.run(
        [sys.executable, "-m", "hcs_daemon", *map(str, arguments)], check=False, capture_output=True, text=True
    )
    if found.returncode:
        raise SystemExit(f"{arguments[0]} ended with {found.returncode}: {found.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timing(time.perf_counter() - start, cpu_s)


def _layout_without(plate: Plate, unseen: str, path: Path) -> Path:
    rows = [row for row in plate.truth.values() if row["class"] != unseen]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def by_intensity(known: NDArray[np.float64], classes: NDArray[np.str_], asked: NDArray[np.float64]) -> NDArray[np.str_]:
    """What the best linear rule on log mean intensities (Fisher 1936) says. known, asked: (wells, channels)."""
    names = np.unique(classes)
    points, questions = np.log(known - _DARK), np.log(asked - _DARK)
    means = np.stack([points[classes == name].mean(axis=0) for name in names])
    apart = points - means[np.searchsorted(names, classes)]
    weights = np.linalg.pinv(apart.T @ apart / len(points)) @ means.T
    best = np.argmax(questions @ weights - 0.5 * (means.T * weights).sum(axis=0), axis=1)
    return np.asarray(names[best])


def page(
    learned: Plate, asked: Plate, work: Path, unseen: str, times: tuple[Timing, Timing], *, head: str
) -> tuple[str, bool]:
    """The page in Markdown, and whether every aim is met. times: of training and of processing. head: what was done."""
    training, processing = times
    (folder,) = (work / "results").glob("TEST1/*/wells")
    found = [json.loads((folder / f"{well}.json").read_bytes())["prediction"] for well in asked.truth]
    truth, effects = asked.classes, asked.effects
    known, new = truth != unseen, (truth == unseen) & (effects >= CLEAR)
    names = sorted(found[0]["probabilities"])
    shares = np.array([[each["probabilities"][name] for name in names] for each in found])
    verdicts = np.array(names)[shares.argmax(axis=1)]
    unlike = np.array([each["novelty"]["unlike"] for each in found])
    fits = learned.classes != unseen
    plain = by_intensity(learned.means[fits], learned.classes[fits], asked.means)
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.array([numbers.get(name, -1) for name in truth])
    ece = calibration_error(shares[known], labels[known])
    rate, bound = _rate(work / "package"), share(unlike[known])
    new_share = share(unlike[new])
    aims = {
        "training under ten minutes": training.wall_s <= MOST_TRAINING_S,
        f"calibration error at most {MOST_ECE:g}": ece <= MOST_ECE,
        f"false alarms within {rate:g} (the interval reaches it)": bound.interval[0] <= rate,
        f"{LEAST_FLAGGED:g} of the wells of the unseen phenotype flagged": new_share.value >= LEAST_FLAGGED,
        "better than mean intensities": (verdicts == truth)[known].mean() > (plain == truth)[known].mean(),
    }
    bands = [(0.0, 0.15), (0.15, 0.4), (0.4, 0.7), (0.7, 1.01)]
    rows = [
        f"| {low:g} to {min(high, 1):g} | {_of(verdicts, truth, part)} | {_of(plain, truth, part)} |"
        for low, high in bands
        for part in [known & (effects >= low) & (effects < high)]
    ]
    balanced = [_balanced(answer[known], labels[known], numbers) for answer in (verdicts, plain)]
    text = f"""# From labelled wells to verdicts

Written by `benchmarks/training.py` on {os.cpu_count()} cores. A simulated plate of {len(learned.truth)} wells,
{head}

| | clock, s | processors, s |
|---|---|---|
| `train`, {int(fits.sum())} labelled wells | {training.wall_s:.0f} | {training.cpu_s:.0f} |
| `process`, {len(asked.truth)} wells, no explanations | {processing.wall_s:.0f} | {processing.cpu_s:.0f} |

| on the other plate | the trained package | the best linear rule on mean intensities |
|---|---|---|
| wells with the right class | {_of(verdicts, truth, known)} | {_of(plain, truth, known)} |
| naming `{CONTROL}` always | | {share(np.full(int(known.sum()), CONTROL) == truth[known])} |
| balanced over the classes | {balanced[0]:.3f} | {balanced[1]:.3f} |

By effect strength (the class changes at 0.25, where wells of both kinds look alike):

| effect strength | the trained package | mean intensities |
|---|---|---|
{chr(10).join(rows)}

- Calibration error (ten bins, {int(known.sum())} wells): {ece:.3f}
- Wells of known classes called unlike all seen: {bound}; stated rate {rate:g}
- Wells of `{unseen}` (effect {CLEAR:g} or more), never seen in training, called unlike all seen: {new_share}

| aim | met |
|---|---|
{chr(10).join(f"| {name} | {'yes' if met else 'no'} |" for name, met in aims.items())}
"""
    return text, all(aims.values())


def _rate(package: Path) -> float:
    with np.load(package / "novelty.npz") as held:
        return float(held["false_alarm_rate"])


def _of(answers: NDArray[np.str_], truth: NDArray[np.str_], part: NDArray[np.bool_]) -> Share:
    return share(answers[part] == truth[part])


def _balanced(answers: NDArray[np.str_], labels: NDArray[np.int64], numbers: dict[str, int]) -> float:
    return balanced_accuracy(labels, np.array([numbers[answer] for answer in answers]))


if __name__ == "__main__":
    sys.exit(main())
