"""The simulated screen's compounds: made-up names, known effects, the same whatever the seed."""

import itertools

import pytest

from hcs_daemon.simulate.compounds import (
    CHANNELS,
    CLASS_EFFECT,
    COMPOUNDS,
    CONTROL,
    DOSES_UM,
    FULL_DOSE_UM,
    PHENOTYPES,
    REFERENCES,
    SMALLEST_EFFECT,
    TREATMENTS,
    Compound,
)


def test_every_phenotype_acts_on_known_channels_and_every_channel_has_one() -> None:
    acted_on = [channel for phenotype in PHENOTYPES.values() for channel in phenotype.channels]
    assert sorted(acted_on) == sorted(CHANNELS)


def test_every_phenotype_has_one_reference_that_is_full_at_the_full_dose() -> None:
    assert [compound.phenotype for compound in REFERENCES] == list(PHENOTYPES)
    assert all(compound.effect_at(FULL_DOSE_UM) == 1.0 for compound in REFERENCES)


def test_some_treatments_act_on_every_class_and_some_are_inert() -> None:
    classes = [compound.phenotype for compound in TREATMENTS]
    assert set(classes) == {*PHENOTYPES, None}
    assert classes.count(None) == 5


def test_no_two_compounds_share_a_name() -> None:
    assert len(COMPOUNDS) == 1 + len(REFERENCES) + len(TREATMENTS)


@pytest.mark.parametrize("compound", [*REFERENCES, *TREATMENTS], ids=lambda compound: compound.name)
def test_effects_grow_with_the_concentration_and_stay_between_none_and_full(compound: Compound) -> None:
    strengths = [compound.effect_at(dose) for dose in sorted(DOSES_UM)]
    assert all(0.0 <= strength <= 1.0 for strength in strengths)
    if compound.phenotype is None:
        assert set(strengths) == {0.0}
    else:
        assert all(low < high or low == high == 0.0 for low, high in itertools.pairwise(strengths) if high < 0.99)
        assert strengths[-1] >= CLASS_EFFECT


def test_half_the_effect_is_reached_at_the_ec50() -> None:
    compound = Compound("X", "er_stress", ec50_um=0.7, hill=1.6, top=0.9)
    assert compound.effect_at(0.7) == pytest.approx(0.45)
    assert compound.effect_at(1e9) == pytest.approx(0.9)


def test_an_effect_too_weak_to_matter_is_none_at_all() -> None:
    compound = Compound("X", "er_stress", ec50_um=1.0, hill=1.0, top=1.0)
    assert compound.effect_at(0.019) == 0.0
    assert compound.effect_at(0.03) >= SMALLEST_EFFECT


@pytest.mark.parametrize("concentration", [0.0, -1.0])
def test_nothing_in_the_well_does_nothing(concentration: float) -> None:
    assert REFERENCES[0].effect_at(concentration) == 0.0


def test_the_control_does_nothing() -> None:
    assert CONTROL.effect_at(FULL_DOSE_UM) == 0.0
