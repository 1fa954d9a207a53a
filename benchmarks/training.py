"""From a simulated plate to a package, and what the package makes of another plate, with a phenotype that it never saw.

    python benchmarks/training.py [--wells 384] [--size 270] [--steps N] [--unseen dna_damage …] [--write FILE]

The commands are those that a laboratory gives: simulate, train, process. One phenotype's wells are taken out of the
training plate's layout; on the other plate they must be called unlike all that was seen. So with each phenotype in
turn. Beside it the best linear rule on mean intensities, learned from the same wells. Ends with 1 where an aim is
missed.
"""

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.simulate.compounds import PHENOTYPES
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


@dataclass(frozen=True, slots=True)
class Trial:
    """One training without one phenotype, and what became of the other plate.

    right, plain: (wells,) whether the package, and the rule on mean intensities, named the class. shares: (wells,
    classes), labels: (wells,) which is right, -1 where none is. unlike, hit: (wells,). known: (wells,), of a class that
    was learned. new: (wells,), clearly of the phenotype that was not. balanced: accuracy of both over the learned
    classes. rate: of false alarms, as the package states it. fits: how many wells were learned from.
    """

    unseen: str
    fits: int
    training: Timing
    processing: Timing
    right: NDArray[np.bool_]
    plain: NDArray[np.bool_]
    shares: NDArray[np.float64]
    labels: NDArray[np.int64]
    unlike: NDArray[np.bool_]
    hit: NDArray[np.bool_]
    known: NDArray[np.bool_]
    new: NDArray[np.bool_]
    balanced: tuple[float, float]
    rate: float

    @property
    def calibration(self) -> float:
        """Expected calibration error over the known wells."""
        return calibration_error(self.shares[self.known], self.labels[self.known])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 where every aim is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wells", type=int, default=384)
    parser.add_argument("--size", type=int, default=270)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--unseen", nargs="+", choices=list(PHENOTYPES), default=list(PHENOTYPES))
    parser.add_argument("--work", type=Path, help="where plates and packages are kept; without, nowhere")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        learned, asked = (
            simulated(work, name, given.wells, given.size, seed) for name, seed in (("TRAIN1", 1), ("TEST1", 2))
        )
        trials = []
        for unseen in given.unseen:
            trials.append(tried(learned, asked, work, unseen, given.steps))
            print(row(trials[-1]), flush=True)
    text, met = page(asked, trials, size=given.size, steps=given.steps)
    print(text)
    if given.write:
        given.write.write_text(text, "utf-8")
    return 0 if met else 1


def tried(learned: Plate, asked: Plate, work: Path, unseen: str, steps: int) -> Trial:
    """Train without one phenotype, and process the other plate."""
    package, results = work / f"package-{unseen}", work / f"results-{unseen}"
    settings = work / f"{unseen}.toml"
    settings.write_text(_SETTINGS.format(incoming=work / "incoming", package=package, results=results), "utf-8")
    layout = _layout_without(learned, unseen, work / f"without-{unseen}.csv")
    command: list[str | Path] = ["train", "-c", settings, "--plate", learned.folder, "--layout", layout]
    training = run(*command, "--classes", "class", "--control", CONTROL, "--output", package, "--steps", str(steps))
    processing = run("process", asked.folder, "-c", settings)
    (folder,) = results.glob("TEST1/*/wells")
    found = [json.loads((folder / f"{well}.json").read_bytes())["prediction"] for well in asked.truth]
    truth = asked.classes
    names = sorted(found[0]["probabilities"])
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.array([numbers.get(name, -1) for name in truth])
    shares = np.array([[each["probabilities"][name] for name in names] for each in found])
    fits, known = learned.classes != unseen, truth != unseen
    answers = (
        np.array(names)[shares.argmax(axis=1)],
        by_intensity(learned.means[fits], learned.classes[fits], asked.means),
    )
    one, other = (_balanced(answer[known], labels[known], numbers) for answer in answers)
    return Trial(
        unseen=unseen,
        fits=int(fits.sum()),
        training=training,
        processing=processing,
        right=answers[0] == truth,
        plain=answers[1] == truth,
        shares=shares,
        labels=labels,
        unlike=np.array([each["novelty"]["unlike"] for each in found]),
        hit=np.array([each["hit"] for each in found]),
        known=known,
        new=~known & (asked.effects >= CLEAR),
        balanced=(one, other),
        rate=_rate(package),
    )


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


def row(trial: Trial) -> str:
    """A line of the table."""
    known = trial.known
    return (
        f"| `{trial.unseen}` | {share(trial.right[known])} | {trial.balanced[0]:.3f} | {share(trial.plain[known])} | "
        f"{trial.balanced[1]:.3f} | {trial.calibration:.3f} | {share(trial.unlike[known])} | "
        f"{share(trial.unlike[trial.new])} |"
    )


def page(asked: Plate, trials: Sequence[Trial], *, size: int, steps: int) -> tuple[str, bool]:
    """The page in Markdown, and whether every aim is met. size: of a plane, in pixels. steps: batches at most."""
    rates = {trial.rate for trial in trials}
    rate = max(rates)
    alarms = share(np.concatenate([trial.unlike[trial.known] for trial in trials]))
    errors = [trial.calibration for trial in trials]
    right, plain = (
        share(np.concatenate([getattr(trial, answer)[trial.known] for trial in trials]))
        for answer in ("right", "plain")
    )
    aims = {
        "every training under ten minutes": max(trial.training.wall_s for trial in trials) <= MOST_TRAINING_S,
        f"calibration error at most {MOST_ECE:g} in every training": max(errors) <= MOST_ECE,
        f"false alarms within {rate:g} (the interval reaches it)": alarms.interval[0] <= rate,
        f"{LEAST_FLAGGED:g} of the wells of each unseen phenotype flagged": all(
            share(trial.unlike[trial.new]).value >= LEAST_FLAGGED for trial in trials
        ),
        "better than mean intensities": right.value > plain.value,
    }
    bands = [(0.0, 0.15), (0.15, 0.4), (0.4, 0.7), (0.7, 1.01)]
    rows = [
        f"| {low:g} to {min(high, 1):g} | {_within(asked, trials, low, high, 'right')} | "
        f"{_within(asked, trials, low, high, 'plain')} |"
        for low, high in bands
    ]
    lines = chr(10).join(row(trial) for trial in trials)
    text = f"""# From labelled wells to verdicts

Written by `benchmarks/training.py` on {os.cpu_count()} cores. A simulated plate of {len(asked.truth)} wells,
one site of {size} x {size} pixels each, was learned from with all wells of one phenotype left out, each in turn;
another plate was then processed. {steps} batches at most.

*Right*: the known wells whose class was named, by the trained package and by the best linear rule on mean
intensities; *balanced*: the mean over the classes. *Calibration*: the error over the known wells, in ten bins.
*Falsely unlike*: known wells called unlike all seen. *Unseen and unlike*: wells of the phenotype left out, with an
effect of {CLEAR:g} or more, that were called so. Intervals are of 95 %.

| left out | right | balanced | intensities right | balanced | calibration | falsely unlike | unseen and unlike |
|---|---|---|---|---|---|---|---|
{lines}

By effect strength, over all trainings (the class changes at 0.25, where wells of both kinds look alike):

| effect strength | the trained packages | mean intensities |
|---|---|---|
{chr(10).join(rows)}

| | clock, s | processors, s |
|---|---|---|
| `train`, {trials[0].fits} labelled wells, median | {_median([trial.training for trial in trials])} |
| `process`, {len(asked.truth)} wells, no explanations, median | {_median([trial.processing for trial in trials])} |

- Right: {right}; by mean intensities {plain}; naming `{CONTROL}` always {_always(asked, trials)}
- Calibration error: {np.mean(errors):.3f} in the mean of the trainings, {max(errors):.3f} at most
- Falsely unlike: {alarms}; stated rate {rate:g}
- Hits among wells with an effect below 0.15, at the default probability: {_hits(asked, trials, 0.0, 0.15)}
- Hits of the right class among known wells with an effect of 0.7 or more: {_hits(asked, trials, 0.7, 1.01)}

| aim | met |
|---|---|
{chr(10).join(f"| {name} | {'yes' if met else 'no'} |" for name, met in aims.items())}
"""
    return text, all(aims.values())


def _within(asked: Plate, trials: Sequence[Trial], low: float, high: float, answer: str) -> Share:
    """How many of the known wells of these effect strengths were named rightly."""
    part = (asked.effects >= low) & (asked.effects < high)
    return share(np.concatenate([getattr(trial, answer)[trial.known & part] for trial in trials]))


def _hits(asked: Plate, trials: Sequence[Trial], low: float, high: float) -> Share:
    """How many of the known wells of these effect strengths are hits, of a treated class with the right one."""
    part = (asked.effects >= low) & (asked.effects < high)
    treated = asked.classes != CONTROL
    return share(np.concatenate([(t.hit & (t.right | ~treated))[t.known & part] for t in trials]))


def _always(asked: Plate, trials: Sequence[Trial]) -> Share:
    return share(np.concatenate([(asked.classes == CONTROL)[trial.known] for trial in trials]))


def _median(times: Sequence[Timing]) -> str:
    return " | ".join(f"{statistics.median(each):.0f}" for each in zip(*map(astuple, times), strict=True))


def _rate(package: Path) -> float:
    with np.load(package / "novelty.npz") as held:
        return float(held["false_alarm_rate"])


def _balanced(answers: NDArray[np.str_], labels: NDArray[np.int64], numbers: dict[str, int]) -> float:
    return balanced_accuracy(labels, np.array([numbers[answer] for answer in answers]))


if __name__ == "__main__":
    sys.exit(main())
