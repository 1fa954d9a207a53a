"""How often exchanged channels are found, and how often a warning is raised where none should be.

    python benchmarks/channels.py [--seeds 3] [--data ../shared/data] [--write benchmarks/CHANNELS.md]

Simulated plates, and real planes cut into fields; every pair of channels is exchanged in each site in turn.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.intake.validation import Expected, Refusal, examine
from hcs_daemon.plate import AcquisitionId, WellId, plate_wells
from hcs_daemon.publish.channel_fit import TRAITS, ChannelFit, judge, traits_of
from hcs_daemon.records import Pixels
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.layout import plan_plate
from hcs_daemon.simulate.measurement import middle_step
from hcs_daemon.simulate.site import render_stack
from hcs_daemon.simulate.variation import dimmed, emptied
from hcs_daemon.tiff import decode_plane

Traits = NDArray[np.float64]

WELLS, SIZE_PX = 48, 320
FIRST_SEED = 100
"""The thresholds were set on plates of the seeds 0 to 5."""
EMPTY_SHARE, WEAKEST, BLURRED_SHARE = 0.2, 0.1, 0.2
_STEPS = 5
_PLATE = AcquisitionId("BENCH", "1")
_OPERA = {"5": "DNA", "2": "ER", "6": "RNA", "3": "AGP", "4": "Mito", "1": "brightfield"}


@dataclass(frozen=True, slots=True)
class Plate:
    """A plate measured. traits: (sites, channels, traits) float64, NaN where nothing is to be seen."""

    name: str
    channels: tuple[str, ...]
    traits: Traits

    @property
    def shown(self) -> NDArray[np.bool_]:
        """Whether a picture has a shape; (sites, channels)."""
        return np.asarray(np.isfinite(self.traits).any(axis=2))


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of exchanging a pair in every site of a plate that shows both, one at a time."""

    plate: str
    pair: tuple[str, str]
    told_apart: bool
    found: int
    wrong: int
    tried: int


def judged(plate: Plate, traits: Traits) -> ChannelFit:
    """The plate with these traits, each site a well of its own."""
    wells = [WellId(_PLATE, position) for position in plate_wells(384)]
    return judge([(wells[index], 1) for index in range(len(traits))], traits, plate.channels)


def exchanged(traits: Traits, sites: Sequence[int], one: int, other: int) -> Traits:
    """Two channels of some sites under each other's name."""
    found = traits.copy()
    found[sites, one], found[sites, other] = traits[sites, other], traits[sites, one]
    return found


def tallies(plate: Plate) -> list[Tally]:
    """Each pair of a plate."""
    apart = judged(plate, plate.traits).told_apart
    return [_tally(plate, one, other, apart) for one, other in combinations(range(len(plate.channels)), 2)]


def _tally(plate: Plate, one: int, other: int, apart: Sequence[tuple[str, str]]) -> Tally:
    pair = (plate.channels[one], plate.channels[other])
    sites = np.flatnonzero(plate.shown[:, one] & plate.shown[:, other]).tolist()
    found = wrong = 0
    for site in sites:
        fit = judged(plate, exchanged(plate.traits, [site], one, other))
        named = [each.channels for exchanges in fit.exchanges.values() for each in exchanges]
        found += pair in named
        wrong += len(named) - (pair in named)
    return Tally(plate.name, pair, pair in apart, found, wrong, len(sites))


def several(plate: Plate, share: float) -> tuple[int, int, int]:
    """Exchanging every pair that is told apart in so many sites at once: found, wrong, tried."""
    apart = judged(plate, plate.traits).told_apart
    found = wrong = tried = 0
    for pair in apart:
        one, other = (plate.channels.index(each) for each in pair)
        shown = np.flatnonzero(plate.shown[:, one] & plate.shown[:, other])
        sites = shown[:: max(1, round(1 / share))].tolist()
        fit = judged(plate, exchanged(plate.traits, sites, one, other))
        named = [each.channels for exchanges in fit.exchanges.values() for each in exchanges]
        found += named.count(pair)
        wrong += len(named) - named.count(pair)
        tried += len(sites)
    return found, wrong, tried


# ---- plates


def traits_in(pixels: NDArray[np.generic]) -> Traits:
    """As a plane that is read; one that is refused has no shape."""
    measures = examine(cast("Pixels", np.ascontiguousarray(pixels)), Expected())
    return np.full(TRAITS, np.nan) if isinstance(measures, Refusal) else traits_of(measures)


def simulated_site(kind: str, seed: int, index: int) -> Traits:
    """One well's site, (channels, traits). kind: `even`, `varied` (empty wells, weak stains) or `blurred`."""
    plan = plan_plate(96, seed, "BENCH")[2 * index]
    rng = np.random.default_rng((seed, index))
    steps = _STEPS if kind == "blurred" else 1
    stack = render_stack(plan, 1, plate="BENCH", seed=seed, size_px=SIZE_PX, z_steps=steps).pixels
    pixels = stack[:, middle_step(steps) - 1]
    if kind == "varied" and rng.random() < EMPTY_SHARE:
        pixels = np.stack([emptied(plane, rng) for plane in pixels])
    elif kind == "varied":
        shares = WEAKEST ** rng.uniform(0, 1, len(pixels))
        pixels = np.stack([dimmed(plane, share, rng) for plane, share in zip(pixels, shares, strict=True)])
    elif kind == "blurred":
        away = rng.random(len(pixels)) < BLURRED_SHARE
        pixels = np.where(away[:, None, None], stack[:, 0], pixels)
    return np.stack([traits_in(plane) for plane in pixels])


def simulated(seeds: int, pool: ProcessPoolExecutor) -> Iterator[Plate]:
    """Three plates a seed."""
    for kind, seed in (
        (kind, seed) for kind in ("even", "varied", "blurred") for seed in range(FIRST_SEED, FIRST_SEED + seeds)
    ):
        sites = list(pool.map(partial(simulated_site, kind, seed), range(WELLS)))
        yield Plate(kind, CHANNELS, np.stack(sites))


def real(data: Path) -> Iterator[Plate]:
    """The real sets that have several channels, their planes cut into fields; each field stands for a site."""
    images = data / "opera-phenix-6ch" / "Images"
    paths = [next(images.glob(f"*-ch{id_}sk*.tiff")) for id_ in _OPERA]
    yield Plate("Opera Phenix, a site in 25 fields", tuple(_OPERA.values()), _fields([paths], 5))
    folder = data / "imagexpress-z-mix" / "2023-02-21" / "1334"
    sites = [[_one(folder, f"*_{well}_s{site}_w{n}*") for n in (1, 2, 3)] for well in ("E07", "E08") for site in (1, 2)]
    yield Plate("ImageXpress projections, four sites in 9 fields", ("w1", "w2", "w3"), _fields(sites, 3))
    folder = data / "imagexpress-timelapse" / "2024-04-22" / "1697"
    sites = [
        [_one(folder / f"TimePoint_{time}", f"*_s{site}_w{n}*") for n in (1, 2, 3)]
        for time in (1, 2)
        for site in (1, 2)
    ]
    yield Plate("ImageXpress time lapse, four sites in 9 fields", ("w1", "w2", "w3"), _fields(sites, 3))


def _one(folder: Path, pattern: str) -> Path:
    return next(path for path in sorted(folder.glob(f"{pattern}.tif")) if "_thumb" not in path.name)


def _fields(sites: Sequence[Sequence[Path]], cuts: int) -> Traits:
    """sites: paths of each site's channels. (fields, channels, traits)."""
    return np.concatenate([np.stack([_cut(path, cuts) for path in paths], axis=1) for paths in sites])


def _cut(path: Path, cuts: int) -> Traits:
    pixels = decode_plane(path.read_bytes()).pixels
    height, width = (length // cuts for length in pixels.shape)
    places = [(row * height, column * width) for row in range(cuts) for column in range(cuts)]
    return np.stack([traits_in(pixels[top : top + height, left : left + width]) for top, left in places])


# ---- the page

_SAYS = {
    "even": "simulated, as the simulated instrument takes it (treatments of all strengths among it)",
    "varied": "simulated, 20 % of the wells empty, each stain of each well up to ten times weaker",
    "blurred": "simulated, a fifth of the pictures two steps out of focus",
}


def page(plates: Sequence[Plate]) -> str:
    """What is written."""
    names = list(dict.fromkeys(plate.name for plate in plates))
    every = [tally for plate in plates for tally in tallies(plate)]
    lines = [
        "# Exchanged channels",
        "",
        "Two channels of one site under each other's name: how often that is told, for each pair and site in turn,",
        "and how often something is told of a plate on which nothing is exchanged.",
        "",
        "| plates | sites | told although honest | pairs told apart | found, of those pairs | wrong pair named |",
        "|---|---|---|---|---|---|",
        *(_summary(name, [plate for plate in plates if plate.name == name], every) for name in names),
        "",
        "Share of exchanges that are found, by pair; in brackets pairs that some plate does not tell apart, of which",
        "nothing is said there. The thresholds were set on other simulated plates, and after looking at the real ones.",
        "",
    ]
    for name in names:
        lines += [*_table(name, [tally for tally in every if tally.plate == name]), ""]
    lines += ["Exchanged in several sites at once, the pairs that are told apart, on the simulated plates:", ""]
    lines += ["| share of the sites | found | wrong |", "|---|---|---|"]
    for share in (0.05, 0.1, 0.15):
        counts = [several(plate, share) for plate in plates if plate.name in _SAYS]
        found, wrong, tried = (sum(each) for each in zip(*counts, strict=True))
        lines.append(f"| {share:.0%} | {found} of {tried} | {wrong} |")
    lines += [
        "",
        "A real plane in pieces is a hard plate: each piece holds some cells only, and no two look alike.",
        "",
    ]
    lines += ["    python benchmarks/channels.py", ""]
    return "\n".join(lines)


def _summary(name: str, plates: Sequence[Plate], every: Sequence[Tally]) -> str:
    mine = [tally for tally in every if tally.plate == name]
    apart = [tally for tally in mine if tally.told_apart]
    told = sum(len(each) for plate in plates for each in judged(plate, plate.traits).exchanges.values())
    sites = sum(int(plate.shown.any(axis=1).sum()) for plate in plates)
    found = f"{sum(each.found for each in apart)} of {sum(each.tried for each in apart)}" if apart else "none to find"
    wrong = sum(each.wrong for each in mine)
    return f"| {_SAYS.get(name, name)} | {sites} | {told} | {len(apart)} of {len(mine)} | {found} | {wrong} |"


def _table(name: str, mine: Sequence[Tally]) -> list[str]:
    channels = list(dict.fromkeys(channel for tally in mine for channel in tally.pair))
    lines = [f"| {_SAYS.get(name, name)} | {' | '.join(channels[1:])} |", "|---" * len(channels) + "|"]
    for one in channels[:-1]:
        cells = [_cell([tally for tally in mine if tally.pair == (one, other)]) for other in channels[1:]]
        lines.append(f"| {one} | {' | '.join(cells)} |")
    return lines


def _cell(mine: Sequence[Tally]) -> str:
    tried = sum(tally.tried for tally in mine)
    if not tried:
        return ""
    share = f"{sum(tally.found for tally in mine) / tried:.0%}"
    return share if all(tally.told_apart for tally in mine) else f"({share})"


def main() -> int:
    """Measure, print, and write if asked; 1 where something is told of an honest plate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="simulated plates of each kind")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--write", type=Path, help="also write the page here")
    given = parser.parse_args()
    with ProcessPoolExecutor() as pool:
        plates = [*simulated(given.seeds, pool), *(real(given.data) if given.data.is_dir() else ())]
    text = page(plates)
    print(text, end="")
    if given.write is not None:
        given.write.write_text(text, "utf-8")
    return int(any(judged(plate, plate.traits).exchanges for plate in plates))


if __name__ == "__main__":
    sys.exit(main())
