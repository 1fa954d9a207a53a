"""What the demonstration network is: its manifest, how it learns, and the sites that explanations refer to."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label

from hcs_daemon.demo_package.cells import CLASSES, Cells
from hcs_daemon.device.manifest import ChannelEntry, Manifest, Normalisation
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.errors import PackageError
from hcs_daemon.simulate.camera import OFFSET_COUNTS
from hcs_daemon.simulate.compounds import CHANNELS, CONTROL_CLASS, FULL_DOSE_UM
from hcs_daemon.simulate.seeds import generator
from hcs_daemon.simulate.site import PIXEL_SIZE_UM
from hcs_daemon.training.learning import LabelledSites, Recipe, teach
from hcs_daemon.training.network import CellNetwork

TILE_PX = 135
CLEAR_PROBABILITY = 0.9
FEWEST_NUCLEI = 5
REFERENCE_TILES = 4
_STAINS = {
    "DNA": "Hoechst 33342: nuclei (simulated)",
    "ER": "concanavalin A: endoplasmic reticulum (simulated)",
    "RNA": "SYTO 14: nucleoli and cytoplasmic RNA (simulated)",
    "AGP": "phalloidin and wheat germ agglutinin: actin, Golgi, plasma membrane (simulated)",
    "Mito": "MitoTracker Deep Red: mitochondria (simulated)",
}


def manifest_fields(references: Mapping[str, tuple[str, ...]]) -> dict[str, object]:
    """The manifest without the weights' digest. references: class -> where each of its tiles comes from."""
    return {
        "name": "demo",
        "version": "1.0.0",
        "demonstration": True,
        "channels": tuple(ChannelEntry(name=name, stain=_STAINS[name]) for name in CHANNELS),
        "container": "uint16",
        "bit_depth": 16,
        "tile_px": TILE_PX,
        "pixel_size_um": PIXEL_SIZE_UM,
        "normalisation": tuple(Normalisation(kind="asinh", offset=OFFSET_COUNTS, scale=300.0) for _ in CHANNELS),
        "classes": CLASSES,
        "control_class": CONTROL_CLASS,
        "references": dict(references),
    }


def make_tiler() -> Tiler:
    """Makes tiles as they will be made of the finished package, on the CPU."""
    fields = manifest_fields({CONTROL_CLASS: ("to be chosen",)})
    return Tiler(Manifest.model_validate(fields | {"weights_sha256": "0" * 64}), torch.device("cpu"))


def learn(training: LabelledSites, seed: int, recipe: Recipe, report: Callable[[int, float], None]) -> CellNetwork:
    """A network that has learned from these sites, folded, its logits not yet calibrated.

    report: called after each step with its number and its loss.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CellNetwork(len(CHANNELS), len(CLASSES))
    teach(
        network,
        training,
        tiler=make_tiler(),
        tile_px=TILE_PX,
        control=CLASSES.index(CONTROL_CLASS),
        recipe=recipe,
        rng=generator(seed, "learning"),
        report=report,
    )
    network.fold()
    return network


def choose_references(
    network: torch.nn.Module, cells: Cells
) -> tuple[dict[str, NDArray[np.uint16]], dict[str, tuple[str, ...]]]:
    """For each class the first wells of DMSO, or of full effect, with a clear tile: class -> tiles, class -> wells.

    Clear: the network gives the class at least `CLEAR_PROBABILITY`, and the tile shows at least `FEWEST_NUCLEI` nuclei.
    Raises PackageError when there are too few.
    """
    tiles: dict[str, NDArray[np.uint16]] = {}
    names: dict[str, tuple[str, ...]] = {}
    tiler = make_tiler()
    for number, name in enumerate(CLASSES):
        clear = [
            (f"well {plan.position.name} of simulated plate {plate}", tile)
            for plate, plan, site in zip(cells.plates, cells.plans, cells.pixels, strict=True)
            if plan.class_name == name and plan.concentration_um in {0.0, FULL_DOSE_UM}
            for tile in _first_clear_tile(network, site, tiler, number)
        ][:REFERENCE_TILES]
        if len(clear) < REFERENCE_TILES:
            raise PackageError(
                f"{len(clear)} training wells show {name} clearly, {REFERENCE_TILES} are needed as references",
                "train for more steps or on more plates",
            )
        names[name] = tuple(said for said, _ in clear)
        tiles[name] = np.stack([tile for _, tile in clear])
    return tiles, names


def count_nuclei(dna: NDArray[np.uint16]) -> int:
    """How many bright patches of at least a nucleus' size a DNA picture shows. dna: (height, width), raw counts."""
    smooth = gaussian_filter(dna.astype(np.float32), 1.5)
    dark, bright = np.percentile(smooth, (10, 99))
    patches, _ = label(smooth > dark + 0.3 * (bright - dark))
    return int((np.bincount(patches.ravel())[1:] >= 50).sum())


def _first_clear_tile(
    network: torch.nn.Module, site: NDArray[np.uint16], tiler: Tiler, wanted: int
) -> Iterator[NDArray[np.uint16]]:
    """One tile, raw counts, or none."""
    with torch.inference_mode():
        probabilities = network(tiler.tiles(site, PIXEL_SIZE_UM))["logits"].softmax(dim=1)[:, wanted]
    corners = tiler.layout(site.shape, PIXEL_SIZE_UM).corners
    for (row, column), probability in zip(corners, probabilities.tolist(), strict=True):
        tile = site[:, row : row + TILE_PX, column : column + TILE_PX]
        if probability >= CLEAR_PROBABILITY and count_nuclei(tile[CHANNELS.index("DNA")]) >= FEWEST_NUCLEI:
            yield tile
            return
