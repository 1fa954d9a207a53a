"""What the service costs beside a bare loop, and what explaining and drawing costs.

    python benchmarks/throughput.py [--wells 96] [--sites 4] [--size 270] [--repeats 5] [--write benchmarks/RESULTS.md]

One simulated plate; `hcs-daemon process` and `bare_loop.py` on it in turn, each a whole process from start to exit,
both without explanations and pictures, with the same model, batch size and threads. Medians, so that one disturbed run
does not count; the spread says how far to trust them. Both must name the same class for every well, or it is no figure.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from hcs_daemon.device.manifest import package_folder

HERE = Path(__file__).resolve().parent
CHANNELS = {"DNA": "1", "ER": "2", "RNA": "3", "AGP": "4", "Mito": "5"}
"""What the simulated instrument writes, in the demonstration model's order."""
PIXEL_SIZE_UM = 1.196
"""The simulated instrument's."""
PLATE = "BENCH"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. size_px: side of a plane. threads: of torch and of the readers."""

    wells: int
    sites: int
    size_px: int
    repeats: int
    batch_sites: int
    threads: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Whole processes' times in seconds, one a repeat."""

    process_s: list[float]
    bare_s: list[float]
    explained_s: list[float]

    @property
    def ratio(self) -> float:
        """Median time of `process` over that of the bare loop."""
        return statistics.median(self.process_s) / statistics.median(self.bare_s)

    def explaining_s(self, wells: int) -> float:
        """Seconds a well that explaining and drawing one site of it adds."""
        return (statistics.median(self.explained_s) - statistics.median(self.process_s)) / wells


class Bench:
    """One plate and everything that is run on it. Owns the folder it is given."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder = folder
        self._plan = plan
        self._plate = folder / "incoming"
        # the same number of threads for both, whatever library asks for them
        self._environment = os.environ | {"OMP_NUM_THREADS": str(plan.threads), "MKL_NUM_THREADS": str(plan.threads)}

    def simulate(self) -> None:
        """Make the plate."""
        plan = self._plan
        size = ["--wells", plan.wells, "--sites", plan.sites, "--size", plan.size_px]
        self._timed([*_program(), "simulate", self._plate, "--plate", PLATE, *size, "--seed", 1, "--speed", 0])

    def process_s(self, *, explained: bool) -> float:
        """Seconds of one `hcs-daemon process` into a folder of its own; its wells stay in `results`."""
        results = self._folder / "results"
        shutil.rmtree(results, ignore_errors=True)
        config = self._folder / ("explained.toml" if explained else "plain.toml")
        config.write_text(self._settings(explained=explained), "utf-8")
        return self._timed([*_program(), "process", self._plate, "-c", config, "--results", results])[0]

    def bare(self) -> tuple[float, dict[str, str]]:
        """Seconds of one bare loop, and well -> class."""
        loop = [sys.executable, HERE / "bare_loop.py", self._plate, "--package", package_folder("demo")]
        how = ["--channels", ",".join(CHANNELS.values()), "--pixel-size-um", PIXEL_SIZE_UM]
        seconds, said = self._timed([*loop, *how, "--batch-sites", self._plan.batch_sites])
        return seconds, json.loads(said)

    def labels(self) -> dict[str, str]:
        """Well -> class, as the last `process` published it."""
        files = (self._folder / "results").glob(f"{PLATE}/*/wells/*.json")
        results = [json.loads(path.read_text("utf-8")) for path in files]
        return {result["well"]: result["prediction"]["nearest"] for result in results}

    def _settings(self, *, explained: bool) -> str:
        channels = ", ".join(f'{name} = "{number}"' for name, number in CHANNELS.items())
        return f"""
            [watch]
            directory = '{self._plate}'
            instrument = "harmony"
            readers = {self._plan.threads}
            [expect]
            bit_depth = 16
            channels = {{ {channels} }}
            pixel_size_um = {PIXEL_SIZE_UM}
            sites_per_well = {self._plan.sites}
            [model]
            package = "demo"
            device = "cpu"
            batch_sites = {self._plan.batch_sites}
            [explain]
            policy = "{"per_well" if explained else "none"}"
            [results]
            directory = '{self._folder / "results"}'
            min_free_bytes = 0
            pictures = "{"all" if explained else "none"}"
            [http]
            port = 0
            [log]
            level = "warning"
        """

    def _timed(self, command: Sequence[object]) -> tuple[float, str]:
        began = time.perf_counter()
        done = subprocess.run(
            [str(word) for word in command], env=self._environment, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-4000:]}")
        return seconds, done.stdout


def measure(plan: Plan, folder: Path) -> Figures:
    """Everything `plan.repeats` times, in turn, so that a machine that slows down slows all of it."""
    bench = Bench(folder, plan)
    print(f"simulating {plan.wells} wells …", flush=True)
    bench.simulate()
    figures = Figures([], [], [])
    bench.bare()  # the first run reads the plate from disk, the others from memory
    for repeat in range(plan.repeats):
        print(f"repeat {repeat + 1} of {plan.repeats} …", flush=True)
        figures.process_s.append(bench.process_s(explained=False))
        seconds, labels = bench.bare()
        figures.bare_s.append(seconds)
        if labels != bench.labels():
            raise SystemExit("the bare loop and process name different classes: they do not do the same work")
        figures.explained_s.append(bench.process_s(explained=True))
    return figures


def report(plan: Plan, figures: Figures) -> str:
    """The figures as Markdown."""
    sites = plan.wells * plan.sites
    return f"""# Throughput

| what | figure |
|---|---|
| `hcs-daemon process` to a bare loop, whole processes | **{figures.ratio:.2f}** |
| explaining and drawing one site a well | {figures.explaining_s(plan.wells) * 1000:.0f} ms a well |

| whole process | median | least … most | sites a second |
|---|---|---|---|
{_row("`process`, without explanations and pictures", figures.process_s, sites)}
{_row("bare loop", figures.bare_s, sites)}
{_row("`process`, one site a well explained and drawn", figures.explained_s, sites)}

{plan.repeats} repeats in turn; {plan.wells} wells of {plan.sites} sites, 5 channels of {plan.size_px} x {plan.size_px}
16-bit pixels (LZW), batches of {plan.batch_sites} sites, {plan.threads} threads, CPU, files in memory. The same classes
for all wells.

{_machine()}

    python benchmarks/throughput.py --wells {plan.wells} --sites {plan.sites} --size {plan.size_px} \
--repeats {plan.repeats} --batch-sites {plan.batch_sites}
"""


def _row(name: str, seconds: list[float], sites: int) -> str:
    median = statistics.median(seconds)
    return f"| {name} | {median:.2f} s | {min(seconds):.2f} … {max(seconds):.2f} s | {sites / median:.1f} |"


def _machine() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("hcs-daemon", "torch", "tifffile", "imagecodecs"))
    return (
        f"{_processor()}, {os.cpu_count()} cores; {platform.system()}; Python {platform.python_version()}; {libraries}."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _program() -> list[object]:
    return [Path(sys.executable).with_name("hcs-daemon.exe" if os.name == "nt" else "hcs-daemon")]


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wells", type=int, default=96, help="6, 24, 96, 384 or 1536")
    parser.add_argument("--sites", type=int, default=4, help="sites a well")
    parser.add_argument("--size", type=int, default=270, help="side of a plane in pixels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-sites", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", type=Path, help="a Markdown file for the figures")
    given = parser.parse_args()
    plan = Plan(given.wells, given.sites, given.size, given.repeats, given.batch_sites, given.threads)
    with tempfile.TemporaryDirectory(prefix="hcs-bench-") as folder:
        text = report(plan, measure(plan, Path(folder)))
    print(text)
    if given.write:
        given.write.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
