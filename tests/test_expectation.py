"""What a plate's wells must hold, as metadata, settings and the files themselves say it."""

import pytest

from hcs_daemon.config import Expect
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.intake.expectation import Expectation, WellTime
from hcs_daemon.plate import WellPosition

A1 = WellPosition(1, 1)
NOW: WellTime = (A1, 1)
ONE = frozenset({1})


def expectation() -> Expectation:
    expect = Expect.model_validate({"bit_depth": 16, "channels": {"DNA": "1", "ER": "2"}})
    return Expectation(expect, ("DNA", "ER"))


@pytest.mark.parametrize(("failed", "may_grow"), [(True, True), (False, False)])
def test_a_log_that_names_a_failed_plane_is_no_plan(*, failed: bool, may_grow: bool) -> None:
    """A record of what was not taken has no file, and one of what is still to be taken has none yet."""
    found = expectation()
    found.name_plane(NOW, 1, "DNA", 1)
    found.name_plane(NOW, 2, "DNA", 1)
    other = WellPosition(1, 2)
    never = {other: {(1, 1, "1"): ONE}} if failed else {}
    planes = {A1: {(1, 1, "1"): ONE, (2, 1, "1"): ONE}, other: {(1, 1, "1"): ONE}}
    found.promise("mlf", Manifest(planes, never, may_grow=True, last=NOW))
    assert found.may_grow(NOW) is may_grow


def test_files_that_promise_the_same_are_held_once() -> None:
    """A plate of OME-TIFFs has as many descriptions of itself as files."""
    found = expectation()
    for name in ("a.ome.tif", "b.ome.tif"):
        found.promise(name, Manifest({A1: {(1, 1, "1"): ONE, (1, 1, "2"): ONE}}))
    assert found.manifests["a.ome.tif"] is found.manifests["b.ome.tif"]
    found.promise("a.ome.tif", Manifest({A1: {(2, 1, "1"): ONE, (2, 1, "2"): ONE}}))
    assert found.sites(NOW, final=False)[0] == frozenset({1, 2})
