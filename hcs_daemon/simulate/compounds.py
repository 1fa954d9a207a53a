"""The simulated screen's compounds: what each does and at which concentration. The same whatever the seed.

The names are made up, and so are the potencies: no real substance is meant.
"""

from dataclasses import dataclass

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
"""The stains, in the order of the instrument's channel ids 1 to 5 (Cell Painting, Bray et al. 2016)."""
CONTROL_CLASS = "control"
CONTROL_COMPOUND = "DMSO"
SMALLEST_EFFECT = 0.02
"""A weaker effect is planted as none at all: it would lie far below what differs between two cells."""
CLASS_EFFECT = 0.25
"""From this strength on the truth names the phenotype's class; below, `control`: the eye sees no difference there."""
FULL_DOSE_UM = 30.0
DOSES_UM = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)


@dataclass(frozen=True, slots=True)
class Phenotype:
    """A planted change. channels: the only ones whose pixels it changes.

    same_values: each cell keeps the very values of its pixels, in other places; else only their sum.
    """

    name: str
    channels: tuple[str, ...]
    description: str
    same_values: bool = False


PHENOTYPES = {
    phenotype.name: phenotype
    for phenotype in (
        Phenotype(
            "mito_fragmented", ("Mito",), "the mitochondrial network breaks into dots and draws near the nucleus"
        ),
        Phenotype("actin_stress", ("AGP",), "actin leaves the cell's edge and forms parallel fibres across it"),
        Phenotype("nucleolar_stress", ("RNA",), "nucleoli dissolve, their RNA spreads through the nucleus"),
        Phenotype("er_stress", ("ER",), "the endoplasmic reticulum swells: dark bubbles with bright walls"),
        Phenotype("dna_damage", ("DNA",), "nuclei grow, chromatin becomes blotchy, micronuclei appear"),
    )
}
HARD_PHENOTYPES = {
    phenotype.name: phenotype
    for phenotype in (
        Phenotype("er_and_mito_stress", ("ER", "Mito"), "er_stress and mito_fragmented in one cell"),
        Phenotype("actin_rearranged", ("AGP",), "actin_stress of the same pixel values, in other places", True),
    )
}
"""Found in no screen: what `scenes.py` shows beside them."""
KNOWN_PHENOTYPES = PHENOTYPES | HARD_PHENOTYPES


@dataclass(frozen=True, slots=True)
class Compound:
    """What a compound does.

    phenotype: its class, None for an inert one. ec50_um: micromolar at half its own effect. hill: slope of the curve.
    top: effect strength it tends to, 0 to 1. responding: the share of the cells that answer to it at all. edge_light:
    an artefact and no effect: stray light along the field's left edge, in shares of a stain's brightest.
    """

    name: str
    phenotype: str | None
    ec50_um: float = 1.0
    hill: float = 1.0
    top: float = 0.0
    responding: float = 1.0
    edge_light: float = 0.0

    def effect_at(self, concentration_um: float) -> float:
        """Effect strength, 0 (none) to 1 (full), by Hill's equation (Hill 1910), to three decimals."""
        if self.phenotype is None or concentration_um <= 0:
            return 0.0
        strength = self.top / (1.0 + (self.ec50_um / concentration_um) ** self.hill)
        return round(strength, 3) if strength >= SMALLEST_EFFECT else 0.0


def _treatments() -> tuple[Compound, ...]:
    """Twenty compounds: of every four, three act (class after class) and one is inert."""
    classes = tuple(PHENOTYPES)
    found, acting = [], 0
    for number in range(1, 21):
        name = f"CPD-{number:02d}"
        if number % 4 == 0:
            found.append(Compound(name, None))
            continue
        # 0.25 to 4 µM, and not all reach the full effect: some curves show a plateau, some only their beginning
        potency, top = (0.25, 1.0, 4.0)[acting // 5], (1.0, 0.95, 0.85)[acting // 5]
        found.append(Compound(name, classes[acting % 5], ec50_um=potency, hill=1.0 + 0.25 * (acting % 4), top=top))
        acting += 1
    return tuple(found)


CONTROL = Compound(CONTROL_COMPOUND, None)
REFERENCES = tuple(
    Compound(f"REF-{name.partition('_')[0].upper()}", name, ec50_um=0.3, hill=2.0, top=1.0) for name in PHENOTYPES
)
"""One known compound a class; at `FULL_DOSE_UM` its effect is full."""
TREATMENTS = _treatments()
COMPOUNDS = {compound.name: compound for compound in (CONTROL, *REFERENCES, *TREATMENTS)}
