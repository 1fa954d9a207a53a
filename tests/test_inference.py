from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from structlog.testing import capture_logs
from torch import nn

from hcs_daemon.device.inference import Network, choose_device
from hcs_daemon.records import ExplainTask, Randomisation, Site, SiteWanted
from hcs_daemon.telemetry import Telemetry, parse_metrics
from model_packages import ChannelMeans, package_of, site_of

CPU = torch.device("cpu")
WEIGHTS = [[0.0, 0.0, 0.0], [1.0, 0.0, 3.0], [0.0, 2.0, 0.0]]


class ShortOfMemory(nn.Module):
    """A program on a card that is too small: `fits` says which calls it takes."""

    def __init__(self, program: nn.Module, fits: Callable[[torch.Tensor], bool]) -> None:
        super().__init__()
        self.program = program
        self.fits = fits
        self.sizes: list[int] = []

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the program gives, or OutOfMemoryError."""
        self.sizes.append(len(tiles))
        if not self.fits(tiles):
            raise torch.OutOfMemoryError("a card that is too small")
        found: dict[str, torch.Tensor] = self.program(tiles)
        return found


def network(
    program: nn.Module | None = None, *, explain: bool = False
) -> tuple[Network, Callable[[], dict[str, float]]]:
    telemetry = Telemetry("test")
    package = package_of(program or ChannelMeans(WEIGHTS))
    made = Network(package, CPU, telemetry, explain=explain, at_once=256)
    return made, lambda: parse_metrics(telemetry.render().decode())


def site(number: int = 1, side: int = 36) -> Site:
    pixels: NDArray[np.uint16] = np.random.default_rng(number).integers(100, 900, (3, side, side), dtype=np.uint16)
    return site_of(pixels, number)


def test_a_sites_logits_are_the_mean_over_its_tiles() -> None:
    device, _ = network(ChannelMeans(WEIGHTS, nn.Tanh()))
    asked = site()
    (found,) = device.predict([asked])
    by_hand = []
    for row in (0, 18):
        for column in (0, 18):
            means = asked.pixels[:, row : row + 18, column : column + 18].mean(axis=(1, 2), dtype=np.float64)
            by_hand.append(np.array(WEIGHTS) @ np.tanh((means - 100) / 100))
    np.testing.assert_allclose(found.logits, np.mean(by_hand, axis=0), rtol=1e-5)
    assert found.failure is None
    assert found.key == asked.key
    assert found.embedding.shape == (3,)


def test_a_site_gets_the_same_alone_and_in_company() -> None:
    device, _ = network(ChannelMeans(WEIGHTS, nn.Tanh()))
    sites = [site(1), site(2, side=50), site(3)]
    together = device.predict(sites)
    for asked, found in zip(sites, together, strict=True):
        (alone,) = device.predict([asked])
        np.testing.assert_allclose(found.logits, alone.logits, atol=1e-5)
        assert found.site == asked.id


def test_a_site_that_cannot_be_shown_is_left_out_and_says_why() -> None:
    device, metrics = network()
    found = device.predict([site(1), site(2, side=10), site(3)])
    assert [prediction.failure is None for prediction in found] == [True, False, True]
    assert "smaller than the 18 pixels" in str(found[1].failure)
    assert metrics()['hcs_sites_total{outcome="predicted"}'] == 2
    assert metrics()['hcs_sites_total{outcome="rejected"}'] == 1


class NotANumber(nn.Module):
    """What a division by nothing does."""

    def forward(self, means: torch.Tensor) -> torch.Tensor:
        """NaN."""
        return means / 0.0 * 0.0


def test_an_output_that_is_not_finite_is_a_failure_of_that_site() -> None:
    device, metrics = network(ChannelMeans(WEIGHTS, NotANumber()))
    (found,) = device.predict([site()])
    assert found.failure == "the model's output is not finite"
    assert metrics()['hcs_sites_total{outcome="predicted"}'] == 0


def test_a_batch_that_does_not_fit_is_halved_and_the_next_begins_smaller() -> None:
    program = ShortOfMemory(ChannelMeans(WEIGHTS), lambda tiles: len(tiles) <= 8)
    device, metrics = network(program)
    program.sizes.clear()
    found = device.predict([site(number) for number in range(1, 9)])
    assert [prediction.failure for prediction in found] == [None] * 8
    assert program.sizes == [32, 16, 8, 8, 8, 8]
    assert metrics()["hcs_device_oom_total"] == 2
    program.sizes.clear()
    device.predict([site(number) for number in range(1, 5)])
    assert program.sizes == [8, 8]


def test_a_site_that_alone_does_not_fit_thrice_is_poisoned_while_the_self_test_runs() -> None:
    program = ShortOfMemory(ChannelMeans(WEIGHTS), lambda tiles: len(tiles) <= 4)
    device, metrics = network(program)
    program.sizes.clear()
    found = device.predict([site(1), site(2, side=54), site(3)])
    assert [prediction.failure is None for prediction in found] == [True, False, True]
    assert program.sizes.count(9) == 3
    assert metrics()['hcs_sites_total{outcome="poisoned"}'] == 1
    assert metrics()["hcs_device_fallback"] == 0


def test_when_not_even_the_self_test_fits_the_cpu_takes_over_aloud() -> None:
    class UntilMoved(ShortOfMemory):
        def to(self, *args: object, **kwargs: object) -> "UntilMoved":
            self.fits = lambda _tiles: True
            return super().to(*args, **kwargs)  # type: ignore[no-any-return, call-overload]

    program = UntilMoved(ChannelMeans(WEIGHTS), lambda _tiles: True)
    device, metrics = network(program)
    program.fits = lambda _tiles: False
    (found,) = device.predict([site()])
    assert found.failure is None
    assert device.facts.device == "cpu"
    assert metrics()["hcs_device_fallback"] == 1
    assert metrics()["hcs_device_oom_total"] >= 3


def test_the_metrics_name_the_model_and_the_device_from_the_start() -> None:
    _, metrics = network()
    assert metrics()['hcs_device_info{device="cpu",name="CPU"}'] == 1
    assert metrics()[f'hcs_model_info{{name="tiny",sha256="{"0" * 64}",version="1.0"}}'] == 1


def test_an_explanation_answers_what_was_wanted() -> None:
    device, metrics = network(explain=True)
    asked = site()
    wanted = SiteWanted(asked.id, asked.key, "broken", "control")
    answer = device.explain(ExplainTask(wanted, asked))
    assert answer.wanted == wanted
    assert answer.site is asked
    assert answer.problem is None
    assert answer.attribution is not None
    assert answer.attribution.explain_s > 0
    assert metrics()['hcs_explanations_total{result="passed"}'] == 1


def test_what_cannot_be_explained_says_why_and_counts_as_failed() -> None:
    device, metrics = network(explain=True)
    asked = site(side=10)
    answer = device.explain(ExplainTask(SiteWanted(asked.id, asked.key, "broken", "control"), asked))
    assert answer.attribution is None
    assert "smaller than the 18 pixels" in str(answer.problem)
    assert metrics()['hcs_explanations_total{result="failed"}'] == 1


def test_a_card_that_runs_out_of_memory_gives_no_explanation_and_goes_on() -> None:
    program = ShortOfMemory(ChannelMeans(WEIGHTS), lambda _tiles: True)
    device, metrics = network(program, explain=True)
    program.fits = lambda tiles: len(tiles) <= 4
    asked = site()
    answer = device.explain(ExplainTask(SiteWanted(asked.id, asked.key, "broken", "control"), asked))
    assert answer.problem == "the card ran out of memory"
    assert device.predict([asked])[0].failure is None
    assert metrics()["hcs_device_oom_total"] == 1


def test_explanations_of_a_network_that_could_not_be_tried_with_random_weights_do_not_pass() -> None:
    short = [True]
    program = ShortOfMemory(ChannelMeans(WEIGHTS), lambda tiles: not (tiles.requires_grad and short))
    with capture_logs() as logged:
        device, metrics = network(program, explain=True)
    short.clear()
    asked = site()
    answer = device.explain(ExplainTask(SiteWanted(asked.id, asked.key, "broken", "control"), asked))
    assert device.facts.randomisation == Randomisation((), None, None, "could not be tried: the card ran out of memory")
    assert [line["detail"] for line in logged if line["event"] == "explanation.failed"] == [
        "with random weights: could not be tried: the card ran out of memory"
    ]
    assert answer.attribution is not None
    assert answer.attribution.checks.failed == ("randomisation",)
    assert metrics()["hcs_device_oom_total"] == 1
    assert metrics()['hcs_explanations_total{result="failed"}'] == 1
    assert network()[0].facts.randomisation is None


class Unwilling(nn.Module):
    """Gives an answer, and does not let it be followed back."""

    def forward(self, means: torch.Tensor) -> torch.Tensor:
        """The same values, without a way back."""
        return means.detach()


def test_a_network_that_cannot_be_explained_still_predicts_and_says_so() -> None:
    device, metrics = network(ChannelMeans(WEIGHTS, Unwilling()), explain=True)
    asked = site()
    answer = device.explain(ExplainTask(SiteWanted(asked.id, asked.key, "broken", "control"), asked))
    assert answer.attribution is None
    assert "the network raised RuntimeError" in str(answer.problem)
    assert device.facts.randomisation is not None
    assert device.facts.randomisation.problem.startswith("could not be tried: the network raised RuntimeError: ")
    assert device.predict([asked])[0].failure is None
    assert metrics()['hcs_explanations_total{result="failed"}'] == 1


@pytest.mark.parametrize(("wanted", "card"), [("cpu", True), ("auto", False), ("cpu", False)])
def test_the_cpu_is_used_where_it_is_asked_for_or_nothing_else_is_there(wanted: str, *, card: bool) -> None:
    telemetry = Telemetry("test")
    assert choose_device(wanted, telemetry, lambda: card) == CPU
    assert parse_metrics(telemetry.render().decode())["hcs_device_fallback"] == 0


def test_a_card_that_was_asked_for_and_is_not_there_is_said_aloud() -> None:
    telemetry = Telemetry("test")
    assert choose_device("cuda", telemetry, lambda: False) == CPU
    assert parse_metrics(telemetry.render().decode())["hcs_device_fallback"] == 1
