"""The device room's door for `trace`: one site once more, as far as its package lets it."""

from pathlib import Path

import torch

from hcs_daemon import __version__
from hcs_daemon.device.inference import Network
from hcs_daemon.device.manifest import Manifest
from hcs_daemon.device.package import load_package
from hcs_daemon.device.tiling import Tiler, tensor_step
from hcs_daemon.records import Site, StepRecord
from hcs_daemon.telemetry import Telemetry


def open_network(folder: Path, recorded_on: str) -> Network:
    """The package on a card, where the result was made on one and one is there, else the CPU. Raises PackageError."""
    device = torch.device("cpu")
    if recorded_on.startswith("cuda") and torch.cuda.is_available():
        device = torch.device("cuda")
        torch.backends.cudnn.allow_tf32 = False  # as the daemon does
    return Network(load_package(folder), device, Telemetry(__version__), explain=False)


def steps_to_tensor(manifest: Manifest, site: Site) -> tuple[StepRecord, ...]:
    """What can be followed without the weights; nothing where the site does not fit the model."""
    tiler = Tiler(manifest, torch.device("cpu"))
    if tiler.problem(site.pixels.shape, site.pixel_size_um) is not None:
        return ()
    steps: list[StepRecord] = []
    with torch.inference_mode():
        tiles = tiler.tiles(site.pixels, site.pixel_size_um, steps)
    return (*steps, tensor_step(tiles))
