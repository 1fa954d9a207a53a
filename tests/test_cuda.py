"""What a card must give: the CPU's numbers, the same explanations, and an orderly retreat when its memory is short."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hcs_daemon.device.inference import Network, choose_device
from hcs_daemon.device.manifest import package_folder
from hcs_daemon.device.package import load_package
from hcs_daemon.records import Attribution, ExplainTask, Site, SiteWanted
from hcs_daemon.simulate.layout import plan_plate
from hcs_daemon.simulate.site import PIXEL_SIZE_UM, render_site
from hcs_daemon.telemetry import Telemetry, parse_metrics
from hcs_daemon.training.learning import Lesson
from hcs_daemon.training.network import CellNetwork
from model_packages import site_of
from processes import SIMULATED_CHANNELS, make_place, run_program
from test_learning import RECIPE, TILE_PX, sites, tiler

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no card here")
MIB = 1 << 20


def opened(device: str, *, explain: bool = False) -> tuple[Network, Telemetry]:
    telemetry = Telemetry("test")
    chosen = choose_device(device, telemetry)
    return Network(load_package(package_folder("demo")), chosen, telemetry, explain=explain), telemetry


def simulated(count: int, side: int = 270) -> list[Site]:
    plans = plan_plate(96, 5, "CARD")[:count]
    made = [render_site(plan, 1, plate="CARD", seed=5, size_px=side).pixels for plan in plans]
    return [site_of(pixels, number, PIXEL_SIZE_UM) for number, pixels in enumerate(made, 1)]


def test_a_card_gives_the_cpus_numbers() -> None:
    asked = simulated(6)
    for on_card, on_cpu in zip(opened("cuda")[0].predict(asked), opened("cpu")[0].predict(asked), strict=True):
        assert on_card.failure is None
        np.testing.assert_allclose(on_card.logits, on_cpu.logits, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(on_card.embedding, on_cpu.embedding, rtol=1e-3, atol=1e-3)


def test_a_card_explains_as_the_cpu_does() -> None:
    (asked,) = simulated(1)

    def explained(device: str) -> Attribution:
        network, _ = opened(device, explain=True)
        classes = network.facts.classes
        wanted = SiteWanted(asked.id, asked.key, classes[1], network.facts.control_class)
        found = network.explain(ExplainTask(wanted, asked)).attribution
        assert found is not None
        return found

    on_card, on_cpu = explained("cuda"), explained("cpu")
    assert on_card.channel_shapley == pytest.approx(dict(on_cpu.channel_shapley), rel=1e-3, abs=1e-2)
    assert on_card.checks.deletion_auc == pytest.approx(on_cpu.checks.deletion_auc, abs=1e-2)
    assert on_card.checks.failed == on_cpu.checks.failed
    scale = float(np.abs(on_cpu.heat).max())
    np.testing.assert_allclose(on_card.heat, on_cpu.heat, atol=1e-2 * scale)


@pytest.fixture
def short_of_memory() -> Iterator[None]:
    """A card on which this process may take 256 MiB."""
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(256 * MIB / whole)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_batch_that_does_not_fit_on_the_card_is_halved_and_gives_the_same(short_of_memory: None) -> None:
    network, telemetry = opened("cuda")
    few = simulated(8)
    asked = few * 12
    found = network.predict(asked)
    assert [prediction.failure for prediction in found] == [None] * len(asked)
    metrics = parse_metrics(telemetry.render().decode())
    assert metrics["hcs_device_oom_total"] > 0
    assert metrics["hcs_device_fallback"] == 0
    wanted = opened("cpu")[0].predict(few)
    for number, prediction in enumerate(found):
        np.testing.assert_allclose(prediction.logits, wanted[number % 8].logits, rtol=1e-3, atol=1e-3)


def test_a_lesson_on_a_card_learns_and_is_put_down_and_taken_up() -> None:
    def lesson() -> Lesson:
        torch.manual_seed(1)
        network = CellNetwork(2, 2, width=4, features=8)
        recipe = replace(RECIPE, device="cuda")
        rng = np.random.default_rng(3)
        return Lesson(network, given, tiler=tiler(), tile_px=TILE_PX, control=0, recipe=recipe, rng=rng)

    given = sites(16, seed=1)
    whole = lesson()
    losses = [whole.step() for _ in range(30)]
    assert sum(losses[-5:]) < sum(losses[:5])
    begun = lesson()
    first = [begun.step() for _ in range(10)]
    taken_up = lesson()
    taken_up.restore(begun.state())
    assert [*first, *(taken_up.step() for _ in range(5))] == pytest.approx(losses[:15], rel=0.05, abs=0.05)


def test_a_plate_on_the_card_gives_the_cpus_verdicts_and_says_where_it_was_made(tmp_path: Path) -> None:
    verdicts = {}
    for device in ("cuda", "cpu"):
        place = make_place(tmp_path / device, SIMULATED_CHANNELS)
        settings = place.config.read_text("utf-8").replace('device = "cpu"', f'device = "{device}"')
        place.config.write_text(settings, "utf-8")
        made = run_program("simulate", place.watched, "--plate", "CARD", "--wells", 6, "--size", 270, "--speed", 0)
        assert made.returncode == 0, made.stderr
        done = run_program("process", place.watched, "-c", place.config)
        assert done.returncode == 0, done.stderr
        assert {result["model"]["device"].partition(":")[0] for result in place.wells.values()} == {device}
        verdicts[device] = {well: result["prediction"]["label"] for well, result in place.wells.items()}
    assert verdicts["cuda"] == verdicts["cpu"]
    assert len(verdicts["cuda"]) == 6
