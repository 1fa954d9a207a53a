"""Whether explanations tell the truth: simulated wells whose affected channel and pixels are known, method by method.

    python benchmarks/explanations.py [--sites 48] [--write benchmarks/EXPLANATIONS.md]

The demonstration model explains its clear hits on unseen plates of the simulated screen, and on plates on which half
the cells answer. For the other hard cases small networks learn here, in about a minute: one that knows two effects, in
two channels at once and in places alone, and one that can learn nothing but an artefact. Each method says of the same
sites where the model looks; random numbers and captum's plain defaults stand beside. Ends with 1 where an aim is
missed.
"""

import argparse
import math
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from numpy.typing import NDArray

from hcs_daemon.demo_package.model import TILE_PX, make_tiler, manifest_fields
from hcs_daemon.device.checks import BLOCKS_ALONG, block_sums
from hcs_daemon.device.manifest import package_folder
from hcs_daemon.device.methods import METHODS as OURS
from hcs_daemon.device.package import Package, load_package
from hcs_daemon.device.question import Model, Question
from hcs_daemon.device.shapley import channel_shares
from hcs_daemon.device.tiling import Tiler, tiles_at_once
from hcs_daemon.simulate.compounds import CHANNELS, CONTROL_CLASS
from hcs_daemon.simulate.layout import WellPlan, plan_plate
from hcs_daemon.simulate.scenes import plan_scene
from hcs_daemon.simulate.seeds import generator
from hcs_daemon.simulate.site import PIXEL_SIZE_UM, SimulatedSite, render_site
from hcs_daemon.training.evaluation import share
from hcs_daemon.training.learning import LabelledSites, Recipe, teach
from hcs_daemon.training.network import CellNetwork
from hcs_daemon.training.packaging import write_package

Floats = NDArray[np.float64]
Map = NDArray[np.float32]
SEED = 47
"""No network has seen cells of this seed but those that learn here, from plates of other names."""
CLEAR_EFFECT = 0.75
"""From this effect strength on a right verdict is a clear hit."""
FIRST_AIM = 0.95
WELLS, SITE_PX = 96, 270
REFERENCES = 4
EFFECTS, ARTEFACT = Recipe(steps=200, batch=32), Recipe(steps=80, batch=32)
"""How the small networks learn: two effects, or an artefact, for which less is enough."""
EDGE_SHARE = 0.5
"""A map shows an artefact where at least this share of its positive attribution lies on it."""
BASELINES = ("random numbers", "captum IntegratedGradients", "captum InputXGradient", "captum Saliency")
DEFAULT, SHAPLEY = "expected_gradients", "channel Shapley values"
SHARES = np.linspace(0.0, 1.0, 11)
"""Of the blocks replaced, along a deletion curve."""
_CPU = torch.device("cpu")


# ---- sites whose truth is known


@dataclass(frozen=True, slots=True)
class Well:
    """A site to explain. label: the class that is right for the model."""

    plate: str
    plan: WellPlan
    label: str
    made: SimulatedSite


@dataclass(frozen=True, slots=True)
class Scene:
    """Wells of one kind and who explains them. package: its folder."""

    name: str
    package: Path
    wells: tuple[Well, ...]


def render(wells: Iterable[tuple[str, WellPlan, str]], size_px: int, pool: Executor) -> tuple[Well, ...]:
    """wells: plate, plan and label of each."""
    return tuple(pool.map(partial(_render, size_px=size_px), wells, chunksize=8))


def _render(well: tuple[str, WellPlan, str], size_px: int) -> Well:
    plate, plan, label = well
    return Well(plate, plan, label, render_site(plan, 1, plate=plate, seed=SEED, size_px=size_px))


def screen_wells(most: int) -> list[tuple[str, WellPlan, str]]:
    """So many wells of the screen whose effect is clear, plate after plate, and in no order of compounds."""
    plates = (f"SCREEN{number:02d}" for number in range(1, 99))
    clear = (
        (plate, plan, plan.class_name)
        for plate in plates
        for plan in plan_plate(WELLS, SEED, plate)
        if plan.effect_strength >= CLEAR_EFFECT
    )
    return [well for well, _ in zip(clear, range(most), strict=False)]


def scene_wells(scene: str, plate: str, *, with_controls: bool) -> list[tuple[str, WellPlan, str]]:
    """A plate of a hard case. What its treated wells are called: the phenotype, or where there is none the scene."""
    plans = plan_scene(scene, WELLS, SEED, plate)
    named = [(plate, plan, _called(plan, scene)) for plan in plans]
    return [well for well in named if with_controls or well[2] != CONTROL_CLASS]


def _called(plan: WellPlan, scene: str) -> str:
    if plan.compound.edge_light:
        return scene
    return plan.class_name


# ---- small networks for the hard cases


def learn(folder: Path, name: str, wells: Sequence[Well], recipe: Recipe) -> Path:
    """A package that tells these wells' labels apart, as far as a few steps go."""
    classes = (CONTROL_CLASS, *sorted({well.label for well in wells} - {CONTROL_CLASS}))
    labels = np.array([classes.index(well.label) for well in wells], np.int64)
    pixels = np.stack([well.made.pixels for well in wells])
    torch.manual_seed(SEED)
    network = CellNetwork(len(CHANNELS), len(classes))
    teach(
        network,
        LabelledSites(pixels, labels),
        tiler=make_tiler(),
        tile_px=TILE_PX,
        control=0,
        recipe=recipe,
        rng=generator(SEED, name, "learning"),
        report=lambda _step, _loss: None,
    )
    network.fold()
    controls = np.flatnonzero(labels == 0)[:REFERENCES]
    references = pixels[controls, :, :TILE_PX, :TILE_PX]
    names = tuple(f"well {wells[index].plan.position.name} of {wells[index].plate}" for index in controls)
    tiles = make_tiler().normalised(torch.from_numpy(references[:2].astype(np.float32))).numpy()
    write_package(
        folder,
        module=network,
        manifest_fields=manifest_fields({CONTROL_CLASS: names}) | {"name": name, "classes": classes},
        selftest_input=tiles,
        references={CONTROL_CLASS: references},
        card=f"# {name}\n\nMade by a benchmark, for it alone.\n",
    )
    return folder


# ---- methods


@dataclass(frozen=True, slots=True)
class Case:
    """One site that the model calls by its right name, ready to be explained against control sites."""

    well: Well
    model: Model
    question: Question


@dataclass(frozen=True, slots=True)
class Said:
    """What a method says, None where it says nothing.

    heat: (tiles, channels, tile, tile). channels: (channels,) each one's part.
    """

    heat: Map | None
    channels: Floats | None


def _random(case: Case) -> Said:
    rng = generator(SEED, case.well.plate, case.well.plan.position.name, "random heat")
    return _map(rng.random(tuple(case.question.tiles.shape)).astype(np.float32))


def _map(heat: Map) -> Said:
    return Said(heat, heat.sum(axis=(0, 2, 3), dtype=np.float64))


def _captum_integrated(case: Case) -> Said:
    method = IntegratedGradients(lambda tiles: case.model.outputs(tiles)["logits"])
    found = method.attribute(case.question.tiles, target=case.question.target, internal_batch_size=case.model.at_once)
    return _map(found.float().numpy())


def _captum_saliency(case: Case) -> Said:
    method = Saliency(lambda tiles: case.model.outputs(tiles)["logits"])
    return _map(method.attribute(_with_gradient(case), target=case.question.target).numpy())


def _captum_times_gradient(case: Case) -> Said:
    method = InputXGradient(lambda tiles: case.model.outputs(tiles)["logits"])
    return _map(method.attribute(_with_gradient(case), target=case.question.target).detach().numpy())


def _with_gradient(case: Case) -> torch.Tensor:
    return case.question.tiles.clone().requires_grad_()


def _ours(name: str, case: Case) -> Said:
    heat = OURS[name].attribute(case.model, case.question)
    return Said(heat, None) if name == "grad_cam" else _map(heat)  # which parts it evenly among the channels


def _shapley(case: Case) -> Said:
    return Said(None, channel_shares(case.model, case.question).shapley.mean(axis=0))


METHODS: Mapping[str, Callable[[Case], Said]] = {
    "random numbers": _random,
    "captum IntegratedGradients": _captum_integrated,
    "captum InputXGradient": _captum_times_gradient,
    "captum Saliency": _captum_saliency,
    **{name: partial(_ours, name) for name in OURS},
    SHAPLEY: _shapley,
}


# ---- how true it is


@dataclass(frozen=True, slots=True)
class Score:
    """What became of one method on one site; NaN or None where the method has no such figure.

    first: a truly affected channel ranks first. all_first: all of them rank before all others. pointing: the map's peak
    lies in the mask (Zhang et al., IJCV 2018). mass: the share of the positive attribution in the mask, summed over
    channels first (Kohlbrenner et al., IJCNN 2020). area: the mask's share of the field. deletion: the area under the
    class's probability while the most attributed blocks are replaced by the nearest control's. seconds: its cost.
    """

    scene: str
    method: str
    well: str
    first: bool | None
    all_first: bool | None
    pointing: bool | None
    mass: float
    area: float
    deletion: float
    seconds: float


@cache
def _opened(folder: Path) -> tuple[Package, Tiler, Model]:
    torch.set_num_threads(1)
    package = load_package(folder)
    return package, Tiler(package.manifest, _CPU), Model(package.program, tiles_at_once(_CPU), _CPU)


def scores_of(well: Well, scene: str, folder: Path, methods: Iterable[str]) -> list[Score]:
    """These methods on a well; none where the verdict is wrong. folder: the package's."""
    package, tiler, model = _opened(folder)
    classes = package.manifest.classes
    tiles = tiler.tiles(well.made.pixels, PIXEL_SIZE_UM)
    with torch.inference_mode():
        found = classes[int(model.logits(tiles).mean(dim=0).argmax())]
    if found != well.label or found == CONTROL_CLASS:
        return []
    references = [tiler.tiles(site, PIXEL_SIZE_UM) for site in package.references[CONTROL_CLASS]]
    question = Question(
        tiles,
        tuple(each[torch.arange(len(tiles)) % len(each)] for each in references),
        classes.index(found),
        classes.index(CONTROL_CLASS),
        seed=SEED,
    )
    return [_score(scene, name, Case(well, model, question)) for name in methods]


def _score(scene: str, name: str, case: Case) -> Score:
    begun = time.perf_counter()
    said = METHODS[name](case)
    seconds = time.perf_counter() - begun
    affected = case.well.plan.affected_channels
    first = all_first = None
    if said.channels is not None and affected:
        order = [CHANNELS[index] for index in np.argsort(-said.channels, kind="stable")]
        first, all_first = order[0] in affected, set(order[: len(affected)]) == set(affected)
    truth = case.well.made.mask > 0
    pointing, mass, deletion = None, math.nan, math.nan
    if said.heat is not None:
        place = whole(said.heat, truth.shape).sum(axis=0, dtype=np.float64)
        pointing = bool(truth.ravel()[place.argmax()])
        positive = np.maximum(place, 0.0)
        mass = float(positive[truth].sum() / positive.sum()) if positive.any() else 0.0
        deletion = deletion_area(case, said.heat)
    where = f"{case.well.plate} {case.well.plan.position.name}"
    return Score(scene, name, where, first, all_first, pointing, mass, float(truth.mean()), deletion, seconds)


def whole(heat: Map, shape: tuple[int, ...]) -> Map:
    """A site's map from its tiles; shape: (height, width), multiples of a tile's. Returns (channels, height, width)."""
    rows, columns = (length // TILE_PX for length in shape)
    parts = heat.reshape(rows, columns, heat.shape[1], TILE_PX, TILE_PX)
    return parts.transpose(2, 0, 3, 1, 4).reshape(heat.shape[1], *shape)


def deletion_area(case: Case, heat: Map) -> float:
    """Mean probability of the class while blocks of one channel each give way to the nearest control's; trapezoids."""
    sums = block_sums(heat)
    rank = np.argsort(np.argsort(-sums.ravel(), kind="stable")).reshape(sums.shape)
    blocks = np.arange(TILE_PX) * BLOCKS_ALONG // TILE_PX
    by_pixel = torch.from_numpy(rank[:, :, blocks[:, None], blocks[None, :]])
    reference = case.question.references[_nearest(case)]
    curve = []
    with torch.inference_mode():
        for replaced in SHARES:
            mixed = torch.where(by_pixel < replaced * rank.size, reference, case.question.tiles)
            curve.append(float(case.model.logits(mixed).double().mean(dim=0).softmax(dim=0)[case.question.target]))
    return float(np.trapezoid(curve, SHARES))


def _nearest(case: Case) -> int:
    """The control site whose mean embedding is nearest the site's."""
    with torch.inference_mode():
        site, *controls = (
            case.model.outputs(tiles)["embedding"].double().mean(dim=0)
            for tiles in (case.question.tiles, *case.question.references)
        )
    return int(torch.stack([torch.linalg.vector_norm(each - site) for each in controls]).argmin())


def scores(scenes: Sequence[Scene], most_maps: int, pool: Executor) -> list[Score]:
    """Every method on so many wells of each scene, channel Shapley values alone on those that it has beyond."""
    asked = [
        (well, scene.name, scene.package, tuple(METHODS) if number < most_maps else (SHAPLEY,))
        for scene in scenes
        for number, well in enumerate(scene.wells)
    ]
    return list(chain.from_iterable(pool.map(scores_of, *zip(*asked, strict=True))))


# ---- the page

_INTRODUCTION = (
    "Held against simulated wells whose affected channel and pixels are known, of cells that no network here has "
    f"learned from. Clear hits: an effect strength of at least {CLEAR_EFFECT:g} and the right verdict. Intervals are "
    "of 95 %."
)
_COLUMNS = {
    "affected first": "the affected channel, of several all of them, ranks before the others.",
    "peak in the mask": "the map's highest pixel, summed over channels, lies in an affected cell, or where the effect "
    "is one of nuclei in an affected nucleus (the pointing game of Zhang et al., IJCV 2018).",
    "mass in the mask / its area": "the share of the positive attribution, summed over channels first, that lies "
    "there, over the mask's share of the field (after Kohlbrenner et al., IJCNN 2020). 1 is chance.",
    "deletion area": "under the class's probability while the most attributed blocks of single channels give way to "
    "the nearest control's (after Petsiuk et al., BMVC 2018). Less is better.",
    "s": "median seconds a site, on one core of a machine that had other work too.",
}
_METHODS_ASIDE = (
    f"`{DEFAULT}` is the default map. captum's methods are called as they come: the class's logit, from zero where "
    "there is a baseline. A gap: the method names no channel, or draws no map."
)
_REMARKS = (
    (
        "Where all cells are affected, whatever finds bright cells is right, and a map from zero light does that "
        "without knowing the effect. `mixed_cells` asks more: there a map must tell cells apart."
    ),
    (
        "The width of the default map's smoothing was chosen on other plates. `integrated_gradients` is nearly the "
        "same map without it: from one pixel to the next it changes its sign."
    ),
    (
        "A map's sum over a channel is not the channel's share: with two channels at once the maps often rank a third "
        "one before the second. Read channels from the Shapley values."
    ),
    (
        "Grad-CAM lies on the affected cells best and costs least, but knows no channel, so that deleting what it "
        "names takes much else."
    ),
    (
        "The small networks of `two_channels` and `rearranged` have learned for a minute, and every cell is affected: "
        "there captum's maps lie on cells better than the default."
    ),
)
_SAYS = {
    "screen": "Plates of the simulated screen, explained by the demonstration model. All cells of a field answer, so "
    "that a map that finds cells finds affected ones.",
    "mixed_cells": "Each of the screen's effects with half the cells answering, explained by the demonstration model: "
    "here a map must tell cells apart.",
    "two_channels": "One effect in ER and Mito at once, explained by a small network. Either channel would do for the "
    "verdict; an explanation is faithful that names one alone where the model goes by one alone.",
    "rearranged": "AGP alone, each cell with the very pixel values that it had, in other places; explained by the same "
    "small network.",
    "bright_edge": "A confounded plate: the label goes with stray light at the field's left edge, and nothing happened "
    "to any cell. The network has learned the artefact, since there is nothing else to learn. Here the mask is the "
    "edge: a faithful map lies on it, and says that the model looks at the edge. No channel is affected.",
}


def mean_of(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval (by the normal distribution)."""
    if len(values) < 2:
        return (values[0] if values else math.nan), math.nan
    return float(np.mean(values)), 1.96 * float(np.std(values, ddof=1)) / math.sqrt(len(values))


@dataclass(frozen=True, slots=True)
class Beaten:
    """How far the default map lies before a baseline on the same sites, mean and half width; above 0 is better.

    mass: attribution in the mask over its area. deletion: area.
    """

    baseline: str
    mass: tuple[float, float]
    deletion: tuple[float, float]

    @property
    def holds(self) -> bool:
        """Better at both, and not by chance."""
        return all(middle - half > 0 for middle, half in (self.mass, self.deletion))


def beaten(mine: Sequence[Score], baseline: str) -> Beaten:
    """Pairs of the default map and a baseline."""
    default = {(score.scene, score.well): score for score in mine if score.method == DEFAULT}
    pairs = [(default[score.scene, score.well], score) for score in mine if score.method == baseline]
    return Beaten(
        baseline,
        mean_of([(one.mass - other.mass) / one.area for one, other in pairs]),
        mean_of([other.deletion - one.deletion for one, other in pairs]),
    )


def table(mine: Sequence[Score]) -> list[str]:
    """One scene: a line a method."""
    return [
        f"| {' | '.join(('method', *_COLUMNS))} |",
        "|---|---|---|---|---|---|",
        *(_line(name, [score for score in mine if score.method == name]) for name in METHODS),
        "",
    ]


def _line(name: str, mine: Sequence[Score]) -> str:
    cells = [
        _share([score.all_first for score in mine]),
        _share([score.pointing for score in mine]),
        _mean([score.mass / score.area for score in mine]),
        _mean([score.deletion for score in mine]),
        f"{np.median([score.seconds for score in mine]):.2f}" if mine else "",
    ]
    shown = f"**{name}**" if name in {DEFAULT, SHAPLEY} else name
    return f"| {shown} | {' | '.join(cells)} |"


def _share(values: Sequence[bool | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    found = share(np.array(known, bool))
    low, high = found.interval
    return f"{found.hits} of {found.of} ({low:.2f} to {high:.2f})"


def _mean(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return _pair(mean_of(known)) if known else ""


def _pair(figure: tuple[float, float]) -> str:
    return f"{figure[0]:.2f} ± {figure[1]:.2f}"


@dataclass(frozen=True, slots=True)
class Aim:
    """What should be, what was found, and whether it holds."""

    words: str
    found: str
    holds: bool


def aims(found: Sequence[Score]) -> list[Aim]:
    """What the benchmark ends with 1 for."""
    clear = [score.all_first for score in found if score.method == SHAPLEY and score.scene == "screen"]
    first = share(np.array(clear, bool))
    known = [score for score in found if score.scene in {"screen", "mixed_cells"}]
    edge = [score.mass for score in found if score.method == DEFAULT and score.scene == "bright_edge"]
    shown = share(np.array(edge) >= EDGE_SHARE)
    return [
        Aim(
            f"the affected channel ranks first in at least {FIRST_AIM:.0%} of clear hits, by Shapley values",
            str(first),
            first.value >= FIRST_AIM,
        ),
        *(
            Aim(
                f"the default map beats {each.baseline} on the screen and on mixed fields together",
                f"by {_pair(each.mass)} in mass over area and {_pair(each.deletion)} in deletion area",
                each.holds,
            )
            for each in (beaten(known, baseline) for baseline in BASELINES)
        ),
        Aim(
            f"of maps by default of the confounded plate at least {FIRST_AIM:.0%} say that the model looks at the "
            f"edge: {EDGE_SHARE:.0%} or more of their mass lies there",
            str(shown),
            shown.value >= FIRST_AIM,
        ),
    ]


def page(scenes: Sequence[Scene], found: Sequence[Score], sites: int) -> str:
    """What is written. sites: as asked for on the command line."""
    lines = ["# Explanations", "", *_wrapped(_INTRODUCTION)]
    for name, meaning in _COLUMNS.items():
        lines += textwrap.wrap(f"- *{name}*: {meaning}", 118, subsequent_indent="  ")
    lines += ["", *_wrapped(_METHODS_ASIDE)]
    for scene in scenes:
        mine = [score for score in found if score.scene == scene.name]
        right = f"{len({score.well for score in mine})} of {len(scene.wells)} verdicts are right"
        area = mean_of([score.area for score in mine])[0]
        says = f"{_SAYS[scene.name]} {right}; the masks cover {area:.0%} of a field."
        lines += [f"## {scene.name}", "", *_wrapped(says), *table(mine)]
    lines += ["## What was aimed at", "", "| aim | found | |", "|---|---|---|"]
    lines += [f"| {aim.words} | {aim.found} | {'holds' if aim.holds else 'fell short'} |" for aim in aims(found)]
    lines += ["", *_by_scene(scenes, found), "## How to read it", ""]
    for remark in _REMARKS:
        lines += textwrap.wrap(f"- {remark}", 118, subsequent_indent="  ")
    lines += ["", f"    python benchmarks/explanations.py --sites {sites}", ""]
    lines += [f"On {os.cpu_count()} cores, a process on each; torch {torch.__version__}.", ""]
    return "\n".join(lines)


def _by_scene(scenes: Sequence[Scene], found: Sequence[Score]) -> list[str]:
    """How far the default map lies before each baseline, scene by scene."""
    lines = [
        *_wrapped(
            "How far the default map lies before each baseline on the same sites, in mass over area / in deletion "
            "area. Below zero the baseline is better."
        ),
        f"| scene | {' | '.join(BASELINES)} |",
        "|---" * (1 + len(BASELINES)) + "|",
    ]
    for scene in scenes:
        each = [beaten([score for score in found if score.scene == scene.name], baseline) for baseline in BASELINES]
        lines.append(f"| {scene.name} | {' | '.join(f'{_pair(one.mass)} / {_pair(one.deletion)}' for one in each)} |")
    return [*lines, ""]


def _wrapped(text: str) -> list[str]:
    """A paragraph, and a line between it and the next."""
    return [*textwrap.wrap(text, 118), ""]


def make_scenes(folder: Path, sites: int, pool: Executor) -> list[Scene]:
    """Render the wells, and let the small networks learn. folder: for their packages."""
    halves = max(1, sites // 2)
    demo = package_folder("demo")
    screen = render(screen_wells(4 * sites), SITE_PX, pool)
    mixed = render(scene_wells("mixed_cells", "MIXED", with_controls=False)[:sites], SITE_PX, pool)
    hard = [
        well for scene in ("two_channels", "rearranged") for well in scene_wells(scene, "LEARN", with_controls=True)
    ]
    edge = scene_wells("bright_edge", "LEARN", with_controls=True)
    learning = (
        pool.submit(learn, folder / "effects", "two effects", render(hard, SITE_PX, pool), EFFECTS),
        pool.submit(learn, folder / "artefact", "an artefact", render(edge, TILE_PX, pool), ARTEFACT),
    )
    effects, artefact = (each.result() for each in learning)
    unseen = {
        scene: render(scene_wells(scene, "UNSEEN", with_controls=False)[:most], size_px, pool)
        for scene, most, size_px in (
            ("two_channels", halves, SITE_PX),
            ("rearranged", halves, SITE_PX),
            ("bright_edge", sites, TILE_PX),
        )
    }
    return [
        Scene("screen", demo, screen),
        Scene("mixed_cells", demo, mixed),
        Scene("two_channels", effects, unseen["two_channels"]),
        Scene("rearranged", effects, unseen["rearranged"]),
        Scene("bright_edge", artefact, unseen["bright_edge"]),
    ]


def main() -> int:
    """Measure, print, and write if asked; 1 where an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sites", type=int, default=48, help="sites of a scene with all maps; Shapley values: four times"
    )
    parser.add_argument("--write", type=Path, help="also write the page here")
    given = parser.parse_args()
    with ProcessPoolExecutor() as pool, TemporaryDirectory() as folder:
        scenes = make_scenes(Path(folder), given.sites, pool)
        found = scores(scenes, given.sites, pool)
    text = page(scenes, found, given.sites)
    print(text, end="")
    if given.write is not None:
        given.write.write_text(text, "utf-8")
    return int(not all(aim.holds for aim in aims(found)))


if __name__ == "__main__":
    sys.exit(main())
