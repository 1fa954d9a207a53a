"""Whether explanations tell of what a network has learned: its weights are randomised, and it is asked again.

Two questions. Do the maps change when the weights are randomised from the top (Adebayo et al., NeurIPS 2018)? And does
the network name its own reference sites better than itself with its weights permuted? The second finds what
the first cannot: a random network's maps change like any other's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy.stats import binom, spearmanr

from hcs_daemon.device.methods import ExpectedGradients, Method, Pixel
from hcs_daemon.device.package import Package
from hcs_daemon.device.question import Model, Question
from hcs_daemon.device.tiling import Tiler, tiles_at_once
from hcs_daemon.records import Randomisation

ALIKE_LIMIT = 0.5
"""A map's rank correlation with that of the randomised network may be so large."""
CHANCE_LIMIT = 0.01
"""So improbable must it be to name so many reference sites rightly by guessing."""
STAGES = 3
"""The layers are randomised in so many steps from the top, each `DRAWS` times, and `MAPS` tiles are explained."""
DRAWS, MAPS = 2, 2
COPIES = 19
"""So many copies have their weights permuted; a random network names its references best of all once in 20 times."""
SAMPLES = 8
"""Of a map: it need not be complete to be compared."""
MOST_TILES = 12
"""Of reference sites, over all classes, one a site."""
_SEED = 2018

Layer = list[torch.nn.Parameter]


def randomise(package: Package, tiler: Tiler, device: torch.device, method: Method | None = None) -> Randomisation:
    """Randomise a package's network, say what became of its answers and its maps, and put its weights back.

    Nobody else may use the program meanwhile. The package has classes and references. method: makes the maps; by
    default expected gradients. The same package gives the same again.
    """
    model = Model(package.program, tiles_at_once(device), device)
    layers = _layers(model.program)
    references = _references(package, tiler)
    questions = _questions(package, references, model)
    alike = _maps_alike(model, layers, questions, method or ExpectedGradients(SAMPLES))
    named, by_copies, chance = _names_references(model, layers, references)
    problems = []
    if alike and not np.isfinite(alike[-1]):
        problems.append("its maps cannot be compared: with random weights they are not finite")
    elif alike and alike[-1] > ALIKE_LIMIT:
        problems.append(f"its maps hardly change when its weights are randomised: rank correlation {alike[-1]:.2f}")
    if named is not None and by_copies is not None and (named <= by_copies or chance > CHANCE_LIMIT):
        problems.append(
            f"it names {named:.0%} of its own reference sites rightly, and networks of random weights up to"
            f" {by_copies:.0%}"
        )
    return Randomisation(maps_alike=alike, named=named, named_at_random=by_copies, problem="; ".join(problems))


def untried(error: Exception) -> Randomisation:
    """Of a network that could not be asked: its explanations are not to be relied upon either."""
    out_of_memory = isinstance(error, torch.OutOfMemoryError)
    why = "the card ran out of memory" if out_of_memory else f"the network raised {type(error).__name__}: {error}"
    return Randomisation(maps_alike=(), named=None, named_at_random=None, problem=f"could not be tried: {why[:300]}")


def randomised_words(found: Randomisation) -> str:
    """What was found, in a line."""
    if found.problem:
        return f"its explanations do NOT hold: {found.problem}"
    maps = f"its maps change (rank correlation {found.maps_alike[-1]:.2f})" if found.maps_alike else "it has no weights"
    if found.named is None or found.named_at_random is None:
        return f"{maps}; its references are too few to tell what it knows"
    return (
        f"{maps}; it names {found.named:.0%} of its references, with random weights at most {found.named_at_random:.0%}"
    )


# ---- weights


def _layers(program: torch.nn.Module) -> list[Layer]:
    """The weights by the operation that uses them, the last first; tied ones where they are used first."""
    named = {name: weights for name, weights in program.named_parameters() if weights.is_floating_point()}
    if not isinstance(program, torch.fx.GraphModule):
        return [[weights] for weights in named.values()][::-1]
    layers, used = [], set()
    for node in program.graph.nodes:
        mine = [str(given.target) for given in node.all_input_nodes if given.op == "get_attr"]
        fresh = [name for name in dict.fromkeys(mine) if name in named and name not in used]
        used.update(fresh)
        if fresh:
            layers.append([named[name] for name in fresh])
    return layers[::-1]


@contextmanager
def _put_back(layers: Sequence[Layer]) -> Iterator[None]:
    """Afterwards the weights are as they were."""
    kept = [(weights, weights.detach().clone()) for layer in layers for weights in layer]
    try:
        yield
    finally:
        with torch.no_grad():
            for weights, before in kept:
                weights.copy_(before)


def _draw(layers: Sequence[Layer], lots: torch.Generator) -> None:
    """New weights of the same size (root mean square), normal, as Adebayo et al. draw them anew."""
    with torch.no_grad():
        for weights in (weights for layer in layers for weights in layer):
            size = float(weights.double().square().mean().sqrt())
            weights.copy_(size * torch.randn(weights.shape, generator=lots))


def _permute(layers: Sequence[Layer], lots: torch.Generator) -> None:
    """The same weights in another order, each tensor in itself: for a random network that changes nothing."""
    with torch.no_grad():
        for weights in (weights for layer in layers for weights in layer):
            order = torch.randperm(weights.numel(), generator=lots).to(weights.device)
            weights.copy_(weights.flatten()[order].view_as(weights))


# ---- what the network knows


def _references(package: Package, tiler: Tiler) -> dict[int, torch.Tensor]:
    """Class number -> (sites, channels, tile, tile): the first tile of some reference sites of each class."""
    manifest = package.manifest
    most = max(2, MOST_TILES // len(package.references))
    return {
        manifest.classes.index(name): torch.stack(
            [tiler.tiles(site, manifest.pixel_size_um)[0] for site in sites[:most]]
        )
        for name, sites in package.references.items()
    }


def _names_references(
    model: Model, layers: Sequence[Layer], references: Mapping[int, torch.Tensor]
) -> tuple[float | None, float | None, float]:
    """The share of reference sites that get their own class; the best of the permuted copies; how probable by guessing.

    None where even a network that is always right could not be told from one that guesses.
    """
    tiles = torch.cat(list(references.values()))
    labels = torch.cat([torch.full((len(sites),), label) for label, sites in references.items()]).to(model.device)
    count, guess = len(tiles), 1 / len(references)
    if guess**count > CHANCE_LIMIT:
        return None, None, 1.0

    def right() -> int:
        with torch.inference_mode():
            return int((model.logits(tiles).argmax(dim=1) == labels).sum())

    own, lots = right(), torch.Generator().manual_seed(_SEED)
    by_copies = []
    for _ in range(COPIES):
        with _put_back(layers):
            _permute(layers, lots)
            by_copies.append(right())
    return own / count, max(by_copies) / count, float(binom.sf(own - 1, count, guess))


# ---- maps


def _questions(package: Package, references: Mapping[int, torch.Tensor], model: Model) -> list[Question]:
    """Sites of other classes, each against a control site; where there are none, the self-test's."""
    control = package.manifest.classes.index(package.manifest.control_class)
    against = references[control][:1]
    others = [(label, sites[:1]) for label, sites in references.items() if label != control]
    if others:
        return [Question(site, (against,), label, control) for label, site in others[:MAPS]]
    tiles = torch.from_numpy(package.selftest.input[:MAPS]).to(model.device)
    with torch.no_grad():
        logits = model.logits(tiles)
    logits[:, control] = -torch.inf
    targets = logits.argmax(dim=1).tolist()
    return [
        Question(tile, (against,), target, control) for tile, target in zip(torch.split(tiles, 1), targets, strict=True)
    ]


def _maps_alike(
    model: Model, layers: Sequence[Layer], questions: Sequence[Question], method: Method
) -> tuple[float, ...]:
    """The rank correlation with the network's own maps, as more of its layers are randomised from the top.

    The mean over the maps and the draws, for each step; the last has every layer randomised.
    """
    own = [method.attribute(model, question) for question in questions]
    steps = [part.tolist() for part in np.array_split(np.arange(len(layers)), STAGES) if part.size]
    found = np.zeros((DRAWS, len(steps)))
    lots = torch.Generator().manual_seed(_SEED)
    for draw in range(DRAWS):
        with _put_back(layers):
            for step, numbers in enumerate(steps):
                _draw([layers[number] for number in numbers], lots)
                maps = [method.attribute(model, question) for question in questions]
                found[draw, step] = np.mean([_alike(one, other) for one, other in zip(own, maps, strict=True)])
    return tuple(found.mean(axis=0).tolist())


def _alike(one: Pixel, other: Pixel) -> float:
    """Spearman's correlation of two maps; 0 where one is the same everywhere, 1 where both are; NaN of no numbers."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("nan")
    flat = [np.ptp(each) == 0 for each in (one, other)]
    if any(flat):
        return float(all(flat))
    return float(spearmanr(one.ravel(), other.ravel()).statistic)
