"""What a card brings beside the CPU of the same machine: prediction, explanation, and how far the numbers differ.

    python benchmarks/card.py [--repeats 3] [--write benchmarks/CARD.md]

The demonstration model on simulated sites, as the daemon calls it, without files: from decoded planes to logits, and
from there to an explanation with its checks. Without a card nothing is measured and nothing is written.
"""

import argparse
import hashlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hcs_daemon.device.inference import Network, choose_device
from hcs_daemon.device.manifest import package_folder
from hcs_daemon.device.package import load_package
from hcs_daemon.plate import AcquisitionId, PlaneId, SiteId, WellId, WellPosition
from hcs_daemon.records import (
    Attribution,
    ChannelImage,
    ExplainTask,
    Pixels,
    PlaneMeasures,
    PlaneRecord,
    Site,
    SiteWanted,
    SourceFile,
)
from hcs_daemon.simulate.layout import plan_plate
from hcs_daemon.simulate.site import PIXEL_SIZE_UM, render_site
from hcs_daemon.telemetry import Telemetry

SIDES = ((270, 1.0), (1080, 0.5))
"""Edge of a site in pixels, and their size beside the simulated instrument's."""
BATCHES = (16, 64)
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds a site on each, the median of the repeats."""

    what: str
    cpu_s: float
    card_s: float


def sites(count: int, side_px: int, share: float) -> list[Site]:
    """Sites of a simulated plate. share: of the simulated instrument's pixel size."""
    plans = plan_plate(96, 3, "CARD")[:8]
    made = [render_site(plan, 1, plate="CARD", seed=3, size_px=side_px).pixels for plan in plans]
    return [_site(number, made[number % len(made)], PIXEL_SIZE_UM * share) for number in range(count)]


def _site(number: int, pixels: Pixels, pixel_size_um: float) -> Site:
    """With a record of its planes as far as the device asks for it: their digests."""
    site = SiteId(WellId(AcquisitionId("CARD", "1"), WellPosition(1, 1)), number)
    images = tuple(
        ChannelImage(
            (
                PlaneRecord(
                    id=PlaneId(site, str(channel)),
                    channel=str(channel),
                    source=SourceFile(f"{channel}", plane.nbytes, 0, hashlib.sha256(plane).hexdigest()),
                    shape=(plane.shape[0], plane.shape[1]),
                    container=plane.dtype.name,
                    measures=PlaneMeasures(int(plane.min()), int(plane.max()), 16, 0.0, 1.0),
                    seen_at=datetime(2026, 1, 1, tzinfo=UTC),
                ),
            )
        )
        for channel, plane in enumerate(pixels)
    )
    return Site(site, images, pixels, pixel_size_um)


def measure(repeats: int) -> tuple[list[Row], list[str]]:
    """The table's rows, and in words how far the two agree."""
    telemetry = Telemetry("benchmark")
    package = package_folder("demo")
    cpu = Network(load_package(package), torch.device("cpu"), telemetry, explain=True)
    card = Network(load_package(package), choose_device("cuda", telemetry), telemetry, explain=True)
    rows, said = [], []
    for side, share in SIDES:
        asked = sites(max(BATCHES), side, share)
        size = f"{side} x {side} pixels"
        for batch in BATCHES:
            times = [_median(partial(network.predict, asked[:batch]), repeats) / batch for network in (cpu, card)]
            rows.append(Row(f"predicting, {size}, {batch} sites a batch", *times))
        gaps = [
            float(np.abs(one.logits - other.logits).max())
            for one, other in zip(cpu.predict(asked[:16]), card.predict(asked[:16]), strict=True)
        ]
        said.append(f"logits of 16 sites of {size} differ by {max(gaps):.1e} at most")
        times = [_median(partial(explained, network, asked[1]), repeats) for network in (cpu, card)]
        rows.append(Row(f"explaining one with all checks, {size}", *times))
        apart = _apart(explained(cpu, asked[1]), explained(card, asked[1]))
        said.append(f"channel Shapley values of one site of {size} differ by {apart:.1e} logits at most")
    said.append(f"the card held {torch.cuda.max_memory_allocated() / MIB:.0f} MiB at most")
    return rows, said


def explained(network: Network, site: Site) -> Attribution:
    """One site, by the default method."""
    facts = network.facts
    wanted = SiteWanted(site.id, site.key, facts.classes[1], facts.control_class)
    found = network.explain(ExplainTask(wanted, site)).attribution
    if found is None:
        raise RuntimeError("the site could not be explained")
    return found


def _apart(one: Attribution, other: Attribution) -> float:
    return max(abs(value - other.channel_shapley[name]) for name, value in one.channel_shapley.items())


def _median(what: Callable[[], object], repeats: int) -> float:
    what()  # the first call allocates, and chooses its kernels
    found = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        began = time.perf_counter()
        what()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def page(rows: Sequence[Row], said: Sequence[str]) -> str:
    """The figures, in Markdown."""
    table = "\n".join(
        f"| {row.what} | {1000 * row.cpu_s:.1f} | {1000 * row.card_s:.1f} | {row.cpu_s / row.card_s:.1f} |"
        for row in rows
    )
    lines = "\n".join(f"- {line}" for line in said)
    return f"""# A card beside the CPU

Written by `benchmarks/card.py` on {torch.cuda.get_device_name(0)}, beside {torch.get_num_threads()} threads of the same
machine's CPU; torch {torch.__version__}. The demonstration model, a small network: a larger one gains more.

| a site | CPU, ms | card, ms | ratio |
|---|---|---|---|
{table}

{lines}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", type=Path, help="a Markdown file for the figures")
    asked = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no card here: nothing is measured")
        return 0
    text = page(*measure(asked.repeats))
    print(text)
    if asked.write is not None:
        asked.write.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
