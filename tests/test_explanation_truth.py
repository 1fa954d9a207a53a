"""The demonstration model's explanations held against what was planted: which channel ranks first, and which cells."""

import numpy as np
import pytest
import torch

from hcs_daemon.demo_package.figures import as_site
from hcs_daemon.device.attribution import Explainer
from hcs_daemon.device.manifest import package_folder
from hcs_daemon.device.package import Package, load_package
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.plate import plate_wells
from hcs_daemon.records import Attribution
from hcs_daemon.simulate.compounds import CONTROL_CLASS, FULL_DOSE_UM, Compound
from hcs_daemon.simulate.layout import Role, WellPlan
from hcs_daemon.simulate.scenes import SCENES
from hcs_daemon.simulate.site import PIXEL_SIZE_UM, SimulatedSite, render_site
from hcs_daemon.training.learning import site_logits, threads

UNSEEN_SEED = 1  # the package that ships was made with seed 0
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shipped() -> Package:
    return load_package(package_folder("demo"))


def explained_hit(package: Package, compound: Compound) -> tuple[WellPlan, SimulatedSite, Attribution]:
    """The first of some small sites that the model calls by its right name."""
    tiler = Tiler(package.manifest, CPU)
    for position in plate_wells(24):
        plan = WellPlan(position, compound, FULL_DOSE_UM, Role.REFERENCE)
        made = render_site(plan, 1, plate="TRUTH", seed=UNSEEN_SEED, size_px=package.manifest.tile_px)
        (logits,) = site_logits(package.program, made.pixels[None], tiler, PIXEL_SIZE_UM)
        if package.manifest.classes[logits.argmax()] == plan.class_name:
            found = Explainer(package, tiler, CPU).explain(
                as_site("TRUTH", plan, made.pixels), plan.class_name, CONTROL_CLASS
            )
            assert isinstance(found, Attribution)
            return plan, made, found
    raise AssertionError(f"the model calls no site of {compound.name} by its name")


@pytest.mark.parametrize("compound", SCENES["mixed_cells"], ids=lambda compound: compound.name)
def test_of_a_hit_the_affected_channel_ranks_first_and_the_map_lies_on_the_cells_that_answered(
    shipped: Package, compound: Compound
) -> None:
    with threads(1):
        plan, made, found = explained_hit(shipped, compound)
    shares = found.channel_shapley
    assert (max(shares, key=lambda channel: shares[channel]),) == plan.affected_channels
    affected = made.mask > 0
    positive = np.maximum(found.heat.sum(axis=0, dtype=np.float64), 0.0)
    assert positive[affected].sum() / positive.sum() > affected.mean()
