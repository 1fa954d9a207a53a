"""Hard cases for whoever explains a verdict: half a plate of DMSO, half of wells that a wrong explanation misreads.

The truth says what they are: of `bright_edge` it says that nothing was planted, whatever the layout's names suggest.
"""

from hcs_daemon.errors import SettingsError
from hcs_daemon.plate import plate_wells
from hcs_daemon.simulate.compounds import CONTROL, FULL_DOSE_UM, PHENOTYPES, Compound
from hcs_daemon.simulate.layout import Role, WellPlan
from hcs_daemon.simulate.seeds import generator

SCENES = {
    "two_channels": (Compound("REF-TWO", "er_and_mito_stress", ec50_um=0.3, hill=2.0, top=1.0),),
    "rearranged": (Compound("REF-REARRANGED", "actin_rearranged", ec50_um=0.3, hill=2.0, top=1.0),),
    "mixed_cells": tuple(
        Compound(f"HALF-{name.partition('_')[0].upper()}", name, ec50_um=0.3, hill=2.0, top=1.0, responding=0.5)
        for name in PHENOTYPES
    ),
    "bright_edge": (Compound("EDGE-LIGHT", None, edge_light=0.5),),
}
"""Each with what lies in its wells beside DMSO, in turn.

two_channels: one effect in two channels at once. rearranged: no pixel of a cell is brighter or darker than before, only
elsewhere. mixed_cells: half the cells answer. bright_edge: no effect at all, but stray light at the field's left edge,
so that a label and an artefact go together.
"""


def plan_scene(scene: str, wells: int, seed: int, plate: str) -> list[WellPlan]:
    """The plan of a plate of 6, 24, 96, 384 or 1536 wells, in row order; seed and plate decide the positions.

    Raises SettingsError for a scene that is none.
    """
    if scene not in SCENES:
        raise SettingsError(f"no scene is called {scene!r}", f"choose one of {', '.join(SCENES)}")
    positions = plate_wells(wells)
    order = generator(seed, plate, "scene").permutation(wells)
    plans = [WellPlan(positions[place], CONTROL, 0.0, Role.CONTROL) for place in order[: wells // 2]]
    acting = SCENES[scene]
    plans += [
        WellPlan(positions[place], acting[number % len(acting)], FULL_DOSE_UM, Role.REFERENCE)
        for number, place in enumerate(order[wells // 2 :])
    ]
    return sorted(plans, key=lambda plan: plan.position)
