"""How often the picture flags miss and mislead: on simulated plates, and on real planes where they are at hand.

    python benchmarks/quality.py [--data ../shared/data] [--write benchmarks/QUALITY.md]

Two plates of 96 wells are simulated: one as `hcs-daemon simulate` makes it, compounds and all, and one on which a fifth
of the wells is empty and staining differs ten-fold from well to well. A quarter of their sites is also made a second
time with something wrong, before the camera. At most an eighth of a plate's sites is spoiled at a time.

Real planes are cut into fields, and all fields of a channel are a plate; what is wrong is done to their counts. And of
a real stack the steps beside the sharpest are judged beside the sharpest ones.
"""

import argparse
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby, product
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.imagexpress import ImageXpress
from hcs_daemon.instruments.naming import FileKind, Instrument
from hcs_daemon.intake.validation import Expected, examine
from hcs_daemon.plate import WellPosition, plate_wells
from hcs_daemon.publish.quality import QualityBook
from hcs_daemon.publish.schemas import ConditionsEntry, InputEntry, PlaneQualityEntry, WellResult
from hcs_daemon.records import Pixels, PlaneMeasures
from hcs_daemon.simulate.camera import FULL_SCALE, expose, illumination
from hcs_daemon.simulate.cells import map_cells, populate
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.layout import plan_plate
from hcs_daemon.simulate.seeds import generator
from hcs_daemon.simulate.site import PIXEL_SIZE_UM
from hcs_daemon.simulate.stains import Effect, light, through_lens, weave
from hcs_daemon.tiff import decode_plane
from hcs_daemon.vocabulary import Used

Light = NDArray[np.float32]
SIDE_PX, SITES, WELLS, SEED = 432, 2, 96, 23
FLAGS = ("saturated", "out_of_focus", "empty", "blank", "debris", "uneven", "dim")
FIELD_PX = 256
"""Real planes are cut into fields of at least this edge."""
LEAST_CELLS = 0.01
"""A real field with less foreground counts as empty."""


# ---- what is done to a picture


def _axes(picture: Light) -> tuple[Light, Light]:
    y, x = (np.arange(length, dtype=np.float32) / length for length in picture.shape)
    return y[:, None], x[None, :]


def _clump(picture: Light, times: float) -> Light:
    """A round clump of 0.3 % of the field, so many times as bright as the brightest cells."""
    y, x = _axes(picture)
    round_here = (np.hypot(y - 0.6, x - 0.3) < 0.03).astype(np.float32)
    return np.asarray(picture + times * np.percentile(picture, 99.5) * round_here, np.float32)


def _fibre(picture: Light, times: float) -> Light:
    """A thread across the whole field."""
    y, x = _axes(picture)
    thread = (np.abs(y - 0.4 - 0.3 * x + 0.05 * np.sin(9 * x)) < 0.004).astype(np.float32)
    return np.asarray(picture + times * np.percentile(picture, 99.5) * gaussian_filter(thread, 1.5), np.float32)


SPOILERS: Mapping[str, tuple[str, Callable[[Light], Light]]] = {
    "blurred by a Gaussian of 1 pixel": ("out_of_focus", partial(gaussian_filter, sigma=1.0)),
    "blurred by 2 pixels": ("out_of_focus", partial(gaussian_filter, sigma=2.0)),
    "blurred by 5 pixels": ("out_of_focus", partial(gaussian_filter, sigma=5.0)),
    "a clump 5 times as bright as cells": ("debris", partial(_clump, times=5.0)),
    "a fibre 6 times as bright as cells": ("debris", partial(_fibre, times=6.0)),
    "light falling to 40 % across the field": ("uneven", lambda picture: picture * (1 - 0.6 * _axes(picture)[1])),
    "a thirtieth of the light": ("dim", lambda picture: picture * np.float32(1 / 30)),
    "3 % of the pixels beyond full scale": ("saturated", lambda picture: picture * _to_full_scale(picture)),
}
"""What was done -> the flag that it should raise, and how; on light before the camera."""


def _to_full_scale(picture: Light) -> np.float32:
    return np.float32(1.02 * FULL_SCALE / 2.18 / max(1.0, float(np.percentile(picture, 97))))


# ---- pictures


@dataclass(frozen=True, slots=True)
class Field:
    """A site, measured: as it was, and spoiled; channel -> measures."""

    well: WellPosition
    site: int
    empty: bool
    honest: Mapping[str, PlaneMeasures]
    spoiled: Mapping[str, Mapping[str, PlaneMeasures]]


@dataclass(frozen=True, slots=True)
class RealPlane:
    """A real plane's file, and what it is of."""

    channel: str
    site: str
    z: int
    path: Path


@dataclass(frozen=True, slots=True)
class Recipe:
    """A simulated plate. folds: by how much staining differs from well to well; 0: as the simulator has it."""

    name: str
    folds: float
    empty_share: float


PLATES = (
    Recipe("as simulated, with all its compounds", 0.0, 0.0),
    Recipe("a fifth of the wells empty, staining ten-fold apart", 10.0, 0.2),
)


def measured(pixels: Pixels) -> PlaneMeasures:
    """What intake finds. Raises TypeError where it refuses the plane: a poor picture is no wrong one."""
    found = examine(pixels, Expected())
    if not isinstance(found, PlaneMeasures):
        raise TypeError(f"refused: {found.detail}")
    return found


def simulated_field(recipe: Recipe, index: int, site: int) -> Field:
    """One site of a simulated plate."""
    plan = plan_plate(WELLS, SEED, "quality")[index]
    rng = generator(SEED, recipe.name, index)
    empty = index % round(1 / recipe.empty_share) == 1 if recipe.empty_share else False
    staining = recipe.folds ** rng.uniform(-1.0, 0.0, 5) if recipe.folds else rng.lognormal(0.0, 0.07, 5)
    density = 0.0 if empty else float(np.clip(rng.normal(430.0, 90.0), 180.0, 700.0))
    here = generator(SEED, recipe.name, index, site)
    cells = populate(SIDE_PX * PIXEL_SIZE_UM, density, here)
    maps, textures = map_cells(cells, SIDE_PX, PIXEL_SIZE_UM), weave((SIDE_PX, SIDE_PX), here)
    effect = Effect(plan.compound.phenotype, plan.effect_strength)
    honest, spoiled = dict[str, PlaneMeasures](), {name: dict[str, PlaneMeasures]() for name in SPOILERS}
    for number, channel in enumerate(CHANNELS):
        lamp = illumination(SIDE_PX, PIXEL_SIZE_UM, generator(SEED, recipe.name, channel, "lamp"))
        emitted = light(channel, cells, maps, textures, effect) * np.float32(staining[number])
        seen = through_lens(emitted, channel, 0.65, lamp, textures)
        honest[channel] = measured(expose(seen, generator(SEED, index, site, channel)))
        if (index + site) % 4 == 0 and not empty:
            for name, (_, spoil) in SPOILERS.items():
                spoiled[name][channel] = measured(expose(spoil(seen), generator(SEED, index, site, channel, name)))
    return Field(plan.position, site, empty, honest, {name: each for name, each in spoiled.items() if each})


def real_planes(data: Path, *, stacks: bool) -> Iterator[RealPlane]:
    """Every real fluorescence plane with light in it; of stacks, or of what is none."""
    sources: tuple[tuple[str, Instrument, str], ...] = (
        ("opera-phenix-6ch", Harmony(), "1"),
        ("operetta-index", Harmony(), ""),
        ("imagexpress-z-mix", ImageXpress(), ""),
    )
    for folder, instrument, brightfield in sources:
        for path in sorted((data / folder).rglob("*.tif*")):
            name = PurePosixPath(path.relative_to(data / folder).as_posix())
            reading = instrument.read_name(folder, name)
            if reading.kind is FileKind.PLANE and reading.address is not None and ("ZStep_" in str(name)) == stacks:
                where = reading.address
                if where.channel != brightfield:
                    site = f"{where.position.name} {where.site}"
                    yield RealPlane(f"{folder} {where.channel}", site, where.z, path)


def real_plates(data: Path) -> list[list[RealPlane]]:
    """The planes of each channel of each measurement."""
    planes = sorted(real_planes(data, stacks=False), key=lambda plane: plane.channel)
    return [list(group) for _, group in groupby(planes, key=lambda plane: plane.channel)]


def cut(path: Path) -> list[Pixels]:
    """A plane's fields, row by row."""
    pixels = decode_plane(path.read_bytes()).pixels
    rows, columns = (max(1, length // FIELD_PX) for length in pixels.shape)
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    places = product(range(rows), range(columns))
    return [
        as_pixels(pixels[row * height : (row + 1) * height, column * width : (column + 1) * width], pixels.dtype)
        for row, column in places
    ]


def as_pixels(values: NDArray[Any], dtype: np.dtype[Any]) -> Pixels:
    """As counts of a camera."""
    return values.astype(np.uint8) if dtype == np.uint8 else values.astype(np.uint16)


def spoiled_counts(pixels: Pixels, spoil: Callable[[Light], Light], noise: float, rng: np.random.Generator) -> Pixels:
    """Counts made worse: the light above the darkest is changed, and the camera's noise put back where it was lost."""
    offset = np.float32(np.percentile(pixels, 0.1))
    changed = spoil(pixels.astype(np.float32) - offset) + offset
    smoothed = np.abs(np.diff(changed, axis=1)).mean() < 0.9 * np.abs(np.diff(pixels.astype(np.float32), axis=1)).mean()
    noisy = changed + rng.normal(0.0, noise, changed.shape) if smoothed else changed
    return as_pixels(np.clip(np.rint(noisy), 0, np.iinfo(pixels.dtype).max), pixels.dtype)


def real_plate(planes: Sequence[RealPlane]) -> list[Field]:
    """A channel's planes as a plate of wells with one site and one channel."""
    pieces = [piece for plane in planes for piece in cut(plane.path)]
    fields: list[Field] = []
    for number, (position, piece) in enumerate(zip(plate_wells(WELLS), pieces, strict=False)):
        honest = measured(piece)
        spoiled: dict[str, dict[str, PlaneMeasures]] = {}
        if has_cells(honest) and honest.quality is not None:
            for name, (flag, spoil) in SPOILERS.items():
                rng = generator(SEED, planes[0].channel, number, name)
                if flag != "saturated":
                    spoiled[name] = {"plane": measured(spoiled_counts(piece, spoil, honest.quality.noise, rng))}
        fields.append(Field(position, 1, not has_cells(honest), {"plane": honest}, spoiled))
    return fields


def has_cells(measures: PlaneMeasures) -> bool:
    """Whether there is something in a real field that a flag can be about."""
    return measures.quality is not None and measures.quality.foreground_fraction > LEAST_CELLS


# ---- judging


def results_of(fields: Iterable[tuple[WellPosition, int, Mapping[str, PlaneMeasures]]]) -> list[WellResult]:
    """What publish would have of these sites, as far as judging needs it."""
    inputs: dict[WellPosition, list[InputEntry]] = {}
    channels: list[str] = []
    for position, site, by_channel in fields:
        channels = list(by_channel)
        inputs.setdefault(position, []).extend(_entry(site, channel, each) for channel, each in by_channel.items())
    return [_well(position, channels, entries) for position, entries in inputs.items()]


def _well(position: WellPosition, channels: Sequence[str], inputs: Sequence[InputEntry]) -> WellResult:
    known: dict[str, Any] = {
        "plate": "P",
        "acquisition": "1",
        "well": position.name,
        "time": 1,
        "channels": channels,
        "inputs": inputs,
    }
    return WellResult.model_construct(**known)


def _entry(site: int, channel: str, measures: PlaneMeasures) -> InputEntry:
    known: dict[str, Any] = {
        "site": site,
        "channel": channel,
        "z": 1,
        "used": Used.ANALYSED,
        "saturated_fraction": measures.saturated_fraction,
        "focus": measures.focus,
        "sharpness": measures.sharpness,
        "quality": PlaneQualityEntry.model_validate(measures.quality, from_attributes=True),
        "conditions": None,
    }
    return InputEntry.model_construct(**known)


def flags_of(fields: Sequence[tuple[WellPosition, int, Mapping[str, PlaneMeasures]]]) -> list[dict[str, set[str]]]:
    """Of each site, channel -> its flags; `empty` is each channel's."""
    judged = QualityBook().judge(results_of(fields))
    by_well = {well.position: quality.sites for well, quality in judged.wells.items()}
    found: list[dict[str, set[str]]] = []
    for position, site, by_channel in fields:
        said = by_well.get(position, {}).get(site, ())
        pairs = [flag.partition(":") for flag in said]
        found.append({channel: {flag for flag, _, of in pairs if of in {"", channel}} for channel in by_channel})
    return found


@dataclass(slots=True)
class Tally:
    """Sites and pictures, and how many of them have each flag; a site has those of any of its pictures."""

    sites: int = 0
    pictures: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    of_sites: Counter[str] = field(default_factory=Counter)

    def add(self, found: Mapping[str, set[str]]) -> None:
        """Count a site."""
        self.sites += 1
        self.pictures += len(found)
        self.flags.update(flag for flags in found.values() for flag in flags)
        self.of_sites.update(set().union(*found.values()))

    def pour(self, other: "Tally") -> None:
        """Count what another counted."""
        self.sites += other.sites
        self.pictures += other.pictures
        self.flags.update(other.flags)
        self.of_sites.update(other.of_sites)

    def share(self, flag: str) -> float:
        """Of the pictures."""
        return self.flags[flag] / max(1, self.pictures)


def honest_tallies(fields: Sequence[Field]) -> tuple[Tally, Tally]:
    """Of a plate as it is: its filled sites, and its empty ones."""
    filled, empty = Tally(), Tally()
    for each, found in zip(fields, flags_of([(f.well, f.site, f.honest) for f in fields]), strict=True):
        (empty if each.empty else filled).add(found)
    return filled, empty


def spoiled_tallies(fields: Sequence[Field]) -> dict[str, Tally]:
    """What was done -> flags of the sites that it was done to; an eighth of the sites at a time at most."""
    tallies = {name: Tally() for name in SPOILERS}
    for name, tally in tallies.items():
        candidates = [index for index, each in enumerate(fields) if name in each.spoiled]
        turns = math.ceil(8 * len(candidates) / len(fields))
        for turn in range(turns):
            chosen = set(candidates[turn::turns])
            sites = [
                (each.well, each.site, each.spoiled[name] if index in chosen else each.honest)
                for index, each in enumerate(fields)
            ]
            for index, found in enumerate(flags_of(sites)):
                if index in chosen:
                    tally.add(found)
    return tallies


# ---- trends


def notes_with(fields: Sequence[Field], change: Callable[[WellPosition], float]) -> list[str]:
    """The plate's notes when the first channel's brightness is changed by a factor that depends on the well."""
    first = next(iter(fields[0].honest))
    sites = []
    for each in fields:
        measures = each.honest[first]
        assert measures.quality is not None
        brighter = replace(measures.quality, bright=measures.quality.bright * change(each.well))
        sites.append((each.well, each.site, {**each.honest, first: replace(measures, quality=brighter)}))
    results = results_of(sites)
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    timed = []
    for result in results:
        position = WellPosition.parse(result.well)
        taken = ConditionsEntry(
            taken_at=noon + timedelta(minutes=12 * position.row + position.column), temperature_c=None
        )
        inputs = [entry.model_copy(update={"conditions": taken}) for entry in result.inputs]
        timed.append(result.model_copy(update={"inputs": inputs}))
    return list(QualityBook().judge(timed).notes)


def fading(position: WellPosition, to: float) -> float:
    """From 1 at the first row to `to` at the last."""
    return float(to ** ((position.row - 1) / 7))


def ringed(position: WellPosition, to: float) -> float:
    """`to` in the outermost wells."""
    return to if position.row in {1, 8} or position.column in {1, 12} else 1.0


TRENDS: Mapping[str, Callable[[WellPosition], float]] = {
    "nothing": lambda _position: 1.0,
    "fades to 70 % from the first row to the last": partial(fading, to=0.7),
    "fades to 50 %": partial(fading, to=0.5),
    "70 % in the outermost wells": partial(ringed, to=0.7),
    "50 % in the outermost wells": partial(ringed, to=0.5),
}


# ---- real stacks


def stack_tallies(planes: Iterable[RealPlane]) -> dict[str, dict[int, Tally]]:
    """Channel -> steps away from the sharpest -> flags of its fields; the plate is of the sharpest alone."""
    found: dict[str, dict[int, Tally]] = {}
    for channel, group in groupby(
        sorted(planes, key=lambda each: (each.channel, each.site)), lambda each: each.channel
    ):
        sites: dict[str, dict[int, list[PlaneMeasures]]] = {}
        for plane in group:
            sites.setdefault(plane.site, {})[plane.z] = [measured(piece) for piece in cut(plane.path)]
        if max(map(len, sites.values())) > 1:
            found[channel] = _around_the_sharpest(channel, sites)
    return found


def _around_the_sharpest(channel: str, sites: Mapping[str, Mapping[int, list[PlaneMeasures]]]) -> dict[int, Tally]:
    tallies: dict[int, Tally] = {}
    best = {
        site: max(steps, key=lambda z: sum(each.sharpness or 0.0 for each in steps[z])) for site, steps in sites.items()
    }
    places = [(site, piece) for site, z in best.items() for piece in range(len(sites[site][z]))]
    wells = dict(zip(places, plate_wells(WELLS), strict=False))
    plate = {
        (site, piece): (wells[site, piece], 1, {channel: sites[site][best[site]][piece]}) for site, piece in places
    }
    for index, (site, piece) in enumerate(places):
        if not has_cells(sites[site][best[site]][piece]):
            continue
        for z, pieces in sites[site].items():
            changed = {**plate, (site, piece): (wells[site, piece], 1, {channel: pieces[piece]})}
            tallies.setdefault(abs(z - best[site]), Tally()).add(flags_of(list(changed.values()))[index])
    return dict(sorted(tallies.items()))


# ---- the page


def percent(share: float) -> str:
    """In per cent."""
    return "none" if share == 0 else f"{100 * share:.1f}"


def both(tally: Tally, flag: str) -> str:
    """Of pictures, and of sites."""
    if not tally.pictures:
        return ""
    of_sites = tally.of_sites[flag] / tally.sites
    return f"{percent(tally.share(flag))} / {percent(of_sites)}" if of_sites else "none"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


Plates = Mapping[str, Sequence[Field]]


def simulate(pool: Executor) -> Plates:
    """Both plates, by name."""
    wells, sites = zip(*product(range(WELLS), range(1, SITES + 1)), strict=True)
    return {recipe.name: list(pool.map(partial(simulated_field, recipe), wells, sites)) for recipe in PLATES}


def false_alarms(plates: Plates, real: Sequence[Sequence[Field]]) -> list[str]:
    """The flags of what is as it should be."""
    tallies: dict[str, Tally] = {}
    for name, fields in plates.items():
        tallies[name], tallies[f"{name}: the empty ones"] = honest_tallies(fields)
    tallies["real planes, in fields"], tallies["real fields that are nearly empty"] = filled, empty = Tally(), Tally()
    for fields in real:
        for pooled, tally in zip((filled, empty), honest_tallies(fields), strict=True):
            pooled.pour(tally)
    rows = (
        [name, str(tally.pictures), *(percent(tally.share(flag)) for flag in FLAGS)]
        for name, tally in tallies.items()
        if tally.pictures
    )
    head = ["## False alarms", "", "Nothing was done to these. Only the empty ones deserve a flag: `empty`.", ""]
    return [*head, *table(("plate", "pictures", *(f"`{flag}`" for flag in FLAGS)), rows), ""]


def hits(plates: Plates, real: Sequence[Sequence[Field]]) -> list[str]:
    """The flags of what was spoiled."""
    columns = {name: spoiled_tallies(fields) for name, fields in plates.items()}
    if real:
        pooled = columns["real planes"] = {name: Tally() for name in SPOILERS}
        for fields in real:
            for name, tally in spoiled_tallies(fields).items():
                pooled[name].pour(tally)
    rows = (
        [
            name,
            f"`{flag}`",
            *(both(tallies[name], flag) for tallies in columns.values()),
        ]
        for name, (flag, _) in SPOILERS.items()
    )
    head = [
        "## Found",
        "",
        "Pictures with something wrong that have the flag for it / sites of which any picture has it.",
        "",
    ]
    return [*head, *table(("what is wrong", "flag", *columns), rows), ""]


def trends(plates: Plates) -> list[str]:
    """The notes on plates with a trend, and without."""
    rows = (
        [name, *("; ".join(notes_with(fields, change)) or "none" for fields in plates.values())]
        for name, change in TRENDS.items()
    )
    head = ["## Trends", "", "The notes on a plate when the brightness of its first channel is changed.", ""]
    return [*head, *table(("change", *plates), rows), ""]


def real_stacks(data: Path) -> list[str]:
    """How far from the focus a real picture must be to be flagged."""
    tallies = stack_tallies(real_planes(data, stacks=True))
    away = sorted({step for by_step in tallies.values() for step in by_step})
    rows = (
        [channel, *(percent(by_step[step].share("out_of_focus")) if step in by_step else "" for step in away)]
        for channel, by_step in tallies.items()
    )
    words = "Fields of a real stack that are flagged `out_of_focus`, by steps away from the sharpest."
    return ["## A real stack", "", words, "", *table(("channel", *map(str, away)), rows), ""]


def page(data: Path | None) -> str:
    """Measure, and tell it."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        plates = simulate(pool)
        real = [] if data is None else list(pool.map(real_plate, real_plates(data)))
    lines = ["# Picture flags", "", "In per cent of pictures, each a channel of a site.", ""]
    lines += false_alarms(plates, real) + hits(plates, real) + trends(plates)
    lines += [] if data is None else real_stacks(data)
    return "\n".join([*lines, "    python benchmarks/quality.py"]) + "\n"


def main() -> int:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--write", type=Path, help="also write the page here")
    arguments = parser.parse_args()
    text = page(arguments.data if arguments.data.is_dir() else None)
    print(text, end="")
    if arguments.write is not None:
        arguments.write.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
