"""docs/the-bit-depth-bug.md is what its script writes: the words of the daemon, the figures, the pictures."""

import importlib.util
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import imagecodecs
import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("make_the_bit_depth_bug", DOCS / "make_the_bit_depth_bug.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for themselves there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def verdicts(script: ModuleType) -> tuple[Any, Any]:
    """The wells, and what is said of each case, without explanations: those take minutes."""
    plans, everything = script.ask_all(explain=False)
    return plans, everything


@pytest.fixture(scope="module")
def page(script: ModuleType) -> str:
    text: str = (DOCS / script.PAGE).read_text("utf-8")
    return text


def said_in(page: str, block: str) -> bool:
    """Whether a block of the page says the same: floats add up otherwise on another processor, in their last digits."""
    return any(alike(block, other) for other in page.rstrip("\n").split("\n\n"))


def alike(one: str, other: str) -> bool:
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (one, other)]
    return NUMBER.sub("#", one) == NUMBER.sub("#", other) and all(
        math.isclose(mine, theirs, rel_tol=0.01, abs_tol=0.011) for mine, theirs in zip(*numbers, strict=True)
    )


def test_the_daemon_says_to_each_case_what_the_page_says(
    script: ModuleType, verdicts: tuple[Any, Any], page: str
) -> None:
    plans, everything = verdicts
    for told in everything:
        section = page.partition(f"### {told.case.name[:1].upper()}{told.case.name[1:]}\n")[2].partition("\n#")[0]
        for block in script.answer_blocks(plans, told)[1:]:
            assert said_in(section.strip("\n"), block), f"run python docs/make_the_bit_depth_bug.py: {block}"


def test_the_network_gives_the_verdicts_of_the_page(script: ModuleType, verdicts: tuple[Any, Any], page: str) -> None:
    assert said_in(page, script.verdict_table(*verdicts)), "run python docs/make_the_bit_depth_bug.py"


def test_right_pixels_are_judged_rightly_and_none_is_refused(script: ModuleType, verdicts: tuple[Any, Any]) -> None:
    plans, everything = verdicts
    assert script.rightly(plans, everything[0]).all()
    assert script.refusals(everything[0]) == []


def test_a_well_called_unlike_keeps_the_verdict_of_the_network(script: ModuleType, verdicts: tuple[Any, Any]) -> None:
    _, everything = verdicts
    called = [told for told in everything if script.unlike(told).any()]
    assert called
    for told in called:
        highest = [max(verdict.probabilities.values()) for verdict in told.verdicts]
        assert script.given(told).tolist() == highest


def test_figures_that_differ_are_told_from_figures_that_are_rounded() -> None:
    assert alike("12 of 20, 0.966", "12 of 20, 0.967")
    assert not alike("12 of 20, 0.966", "13 of 20, 0.966")
    assert not alike("12 of 20, 0.966", "12 in 20, 0.966")


def test_the_pictures_are_there_and_small(script: ModuleType, page: str) -> None:
    for name in script.PICTURES:
        assert f"]({name})" in page
        file = (DOCS / name).read_bytes()
        assert len(file) < 300_000
        assert imagecodecs.png_decode(file).shape[1] == script.PICTURE_PX


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_page_is_what_the_script_writes(script: ModuleType, page: str) -> None:
    """Where the network is saturated, a check is passed or failed by 1e-8: how many pass is not compared."""
    written = script.page(*script.ask_all(explain=True))
    wanted = page.rstrip("\n").split("\n\n")
    other = [block for block in written.rstrip("\n").split("\n\n") if not said_in(page, block)]
    by_a_hair = [block for block in other if re.search(r"all checks passed|every check", block)]
    assert [block for block in other if block not in by_a_hair] == []
    assert all(NUMBER.sub("#", block) in [NUMBER.sub("#", each) for each in wanted] for block in by_a_hair)
