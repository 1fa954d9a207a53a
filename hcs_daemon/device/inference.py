"""The network at work: batches of sites to predictions, and what is done when the card gives up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from hcs_daemon.config import Settings
from hcs_daemon.device.attribution import Explainer
from hcs_daemon.device.manifest import package_folder
from hcs_daemon.device.package import Package, load_package, run_selftest
from hcs_daemon.device.randomisation import randomise, untried
from hcs_daemon.device.tiling import Tiler, tensor_step, tiles_at_once
from hcs_daemon.errors import SettingsError
from hcs_daemon.records import (
    Attribution,
    ExplainTask,
    ModelFacts,
    Prediction,
    Randomisation,
    Site,
    SiteReturned,
    StepRecord,
)
from hcs_daemon.telemetry import Event, Telemetry, get_log
from hcs_daemon.vocabulary import ExplanationResult, SiteOutcome, Stage

TRIES_ALONE = 3
"""So often a site that does not fit is tried alone before it is judged."""


@dataclass(frozen=True, slots=True)
class _Outputs:
    """A site's mean over its tiles, and what its images were on their way into the network."""

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    steps: tuple[StepRecord, ...]


class Network:
    """One model on one device. Owned by the device thread; never touches the disk after it is loaded.

    facts: the model and what it runs on, which changes when the card is given up. explain, method: whether sites are
    explained and how, by the settings' name. at_once: tiles a call, by default what suits the device.
    """

    def __init__(
        self,
        package: Package,
        device: torch.device,
        telemetry: Telemetry,
        *,
        explain: bool,
        method: str = "auto",
        at_once: int | None = None,
    ) -> None:
        self._package = package
        self._wanted_at_once = at_once
        self._telemetry = telemetry
        self._log = get_log()
        self._method = method
        self._explains = explain and bool(package.manifest.classes)  # without classes there is no verdict to explain
        self._most_sites = 1 << 30
        manifest = package.manifest
        self.facts = ModelFacts(
            name=manifest.name,
            version=manifest.version,
            sha256=manifest.weights_sha256,
            device=str(device),
            channels=manifest.channel_names,
            classes=manifest.classes,
            control_class=manifest.control_class,
            tile_px=manifest.tile_px,
            pixel_size_um=manifest.pixel_size_um,
            bit_depth=manifest.bit_depth,
            container=manifest.container,
            demonstration=manifest.demonstration,
            novelty=package.novelty,
            warnings=manifest.warnings,
            references=tuple(package.references),
        )
        self._move_to(device)
        if self._explains:
            self.facts = replace(self.facts, randomisation=self._randomised())
        telemetry.model_info.labels(manifest.name, manifest.version, manifest.weights_sha256).set(1)

    # ---- predictions

    def predict(self, sites: Sequence[Site]) -> list[Prediction]:
        """One prediction a site, in order; one that the model cannot be shown says why in `failure`."""
        began = perf_counter()
        problems = [self._tiler.problem(site.pixels.shape, site.pixel_size_um) for site in sites]
        good = [site for site, problem in zip(sites, problems, strict=True) if problem is None]
        with self._telemetry.timed(Stage.INFER):
            outputs = iter(self._outputs(good))
        seconds = perf_counter() - began
        self._telemetry.batch_sites.observe(len(sites))
        self._telemetry.inference_seconds.observe(seconds)
        share = seconds / max(1, len(sites))
        return [
            self._prediction(site, next(outputs) if problem is None else problem, share)
            for site, problem in zip(sites, problems, strict=True)
        ]

    def _prediction(self, site: Site, found: _Outputs | str, seconds: float) -> Prediction:
        if isinstance(found, str):
            outcome = SiteOutcome.POISONED if found == _POISONED else SiteOutcome.REJECTED
            self._telemetry.sites.labels(outcome).inc()
            self._log.warning(
                Event.SITE_FAILED, well=site.id.well.position.name, site=site.id.site, outcome=outcome, detail=found
            )
            nothing = np.full(len(self.facts.classes), np.nan, np.float32)
            return Prediction(site.id, site.key, nothing, nothing[:0], seconds, failure=found)
        finite = bool(np.isfinite(found.logits).all() and np.isfinite(found.embedding).all())
        self._telemetry.sites.labels(SiteOutcome.PREDICTED if finite else SiteOutcome.REJECTED).inc()
        failure = None if finite else "the model's output is not finite"
        steps = (*site.steps, *found.steps)
        return Prediction(site.id, site.key, found.logits, found.embedding, seconds, failure, steps)

    def _outputs(self, sites: Sequence[Site]) -> list[_Outputs | str]:
        """Each site's outputs, or in words why there are none; a batch that does not fit is halved."""
        found: list[_Outputs | str] = []
        start = 0
        while start < len(sites):
            part = sites[start : start + self._most_sites]
            try:
                found += self._run(part)
            except torch.OutOfMemoryError:
                self._note_out_of_memory(len(part))
                if len(part) == 1:
                    found.append(self._alone(part[0]))
                    start += 1
                continue
            start += len(part)
        return found

    def _run(self, sites: Sequence[Site]) -> list[_Outputs | str]:
        steps: list[list[StepRecord]] = [[] for _ in sites]
        with torch.inference_mode():
            tiles = [
                self._tiler.tiles(site.pixels, site.pixel_size_um, noted)
                for site, noted in zip(sites, steps, strict=True)
            ]
            parts = [self._package.program(part) for part in torch.split(torch.cat(tiles), self._at_once)]
            for noted, seen in zip(steps, tiles, strict=True):  # a card computes meanwhile
                noted.append(tensor_step(seen))
            means = []
            for name in ("logits", "embedding"):
                by_site = torch.split(torch.cat([self._rows(part, name) for part in parts]), [len(t) for t in tiles])
                means.append(torch.stack([part.mean(dim=0) for part in by_site]).float().cpu().numpy())
        return [
            _Outputs(logits, embedding, tuple(noted)) for logits, embedding, noted in zip(*means, steps, strict=True)
        ]

    def _rows(self, outputs: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        """(tiles, features) of an output; (tiles, 0) logits of a model that only embeds."""
        return outputs["embedding"][:, :0] if name == "logits" and not self.facts.classes else outputs[name]

    # ---- when memory is short

    def _note_out_of_memory(self, sites: int) -> None:
        self._telemetry.device_oom.inc()
        self._most_sites = max(1, sites // 2)
        torch.cuda.empty_cache()
        self._log.warning(
            Event.DEVICE_OUT_OF_MEMORY,
            sites=sites,
            hint=f"goes on with {self._most_sites} sites a batch; a smaller model.batch_sites avoids it",
        )

    def _alone(self, site: Site) -> _Outputs | str:
        """A single site does not fit: if the self-test still runs, it is the site's fault, else the card's."""
        for _ in range(TRIES_ALONE - 1):
            try:
                return self._run([site])[0]
            except torch.OutOfMemoryError:
                self._telemetry.device_oom.inc()
                torch.cuda.empty_cache()
        try:
            run_selftest(self._package.folder, self._package.program, self._package.selftest, self._device)
        except torch.OutOfMemoryError:
            self._give_up_card()
            return self._run([site])[0]
        return _POISONED

    def _give_up_card(self) -> None:
        self._telemetry.device_fallback.set(1)
        self._log.error(
            Event.DEVICE_FALLBACK,
            device=self.facts.device,
            hint="not even the self-test fits on the card; the CPU is used until the next start",
        )
        self._move_to(torch.device("cpu"))
        self.facts = replace(self.facts, device="cpu")

    def _move_to(self, device: torch.device) -> None:
        self._device = device
        self._package = replace(self._package, program=self._package.program.to(device))
        self._at_once = self._wanted_at_once or tiles_at_once(device)
        self._tiler = Tiler(self._package.manifest, device)
        self._explainer = Explainer(self._package, self._tiler, device, self._method) if self._explains else None
        self._telemetry.device_info.clear()
        self._telemetry.device_info.labels(str(device), _device_name(device)).set(1)

    # ---- explanations

    def explain(self, task: ExplainTask) -> SiteReturned:
        """Why the model prefers the wanted class for this site; what stands in the way is said in `problem`."""
        began = perf_counter()
        with self._telemetry.timed(Stage.EXPLAIN):
            found = self._explained(task)
        passed = isinstance(found, Attribution) and found.checks.passed
        self._telemetry.explanations.labels(ExplanationResult.PASSED if passed else ExplanationResult.FAILED).inc()
        if not passed:
            self._log.warning(
                Event.EXPLANATION_FAILED,
                well=task.site.id.well.position.name,
                site=task.site.id.site,
                detail=found if isinstance(found, str) else f"its checks: {found.checks}",
            )
        if isinstance(found, str):
            return SiteReturned(task.wanted, task.site, None, found)
        return SiteReturned(task.wanted, task.site, replace(found, explain_s=perf_counter() - began))

    def _explained(self, task: ExplainTask) -> Attribution | str:
        target, against = task.wanted.explain_target, task.wanted.explain_against
        if self._explainer is None or target is None or against is None:
            return "explaining is switched off by explain.policy"
        try:
            return self._doubted(self._explainer.explain(task.site, target, against))
        except torch.OutOfMemoryError:
            self._telemetry.device_oom.inc()
            torch.cuda.empty_cache()
            return "the card ran out of memory"
        except Exception as error:  # noqa: BLE001 (a foreign program may raise anything, and its prediction stands)
            return f"the network raised {type(error).__name__}: {str(error)[:200]}"

    def _randomised(self) -> Randomisation:
        """What becomes of the maps when the weights are randomised; what failed there is held against them."""
        try:
            found = randomise(self._package, self._tiler, self._device)
        except torch.OutOfMemoryError as error:
            self._telemetry.device_oom.inc()
            torch.cuda.empty_cache()
            found = untried(error)
        except Exception as error:  # noqa: BLE001 (as in `_explained`)
            found = untried(error)
        if found.problem:
            self._log.warning(
                Event.EXPLANATION_FAILED,
                detail=f"with random weights: {found.problem}",
                hint="every explanation is marked; docs/explanations.md says what is tried",
            )
        return found

    def _doubted(self, found: Attribution | str) -> Attribution | str:
        """An explanation, marked as failed where the package's explanations do not hold."""
        randomisation = self.facts.randomisation
        if isinstance(found, str) or randomisation is None or not randomisation.problem:
            return found
        failed = (*found.checks.failed, "randomisation")
        return replace(found, checks=replace(found.checks, passed=False, failed=failed))


_POISONED = "the card runs out of memory on this site alone, and on no other"


def open_device(settings: Settings, telemetry: Telemetry) -> Network:
    """The settings' package on the settings' device, self-tested there. Raises PackageError or SettingsError."""
    device = choose_device(settings.model.device, telemetry)
    package = load_package(package_folder(settings.model.package))
    if device.type != "cpu":
        run_selftest(package.folder, package.program.to(device), package.selftest, device)
    explain = settings.explain
    return Network(package, device, telemetry, explain=explain.policy != "none", method=explain.method)


def choose_device(wanted: str, telemetry: Telemetry, is_available: Callable[[], bool] | None = None) -> torch.device:
    """The device to use: `auto` takes a card where there is one; one that was asked for and is not there is said aloud.

    is_available: whether there is a card. Raises SettingsError for a card with a number that is not there.
    """
    there = (is_available or torch.cuda.is_available)()
    if wanted == "cpu" or (wanted == "auto" and not there):
        return torch.device("cpu")
    if not there:
        telemetry.device_fallback.set(1)
        get_log().error(
            Event.DEVICE_FALLBACK,
            device=wanted,
            hint="torch sees no card: check the driver and that this torch was built with CUDA; the CPU is used",
        )
        return torch.device("cpu")
    device = torch.device("cuda" if wanted == "auto" else wanted)
    if (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"model.device = {wanted!r}, and there are {torch.cuda.device_count()} cards",
            'their numbers begin with 0; "auto" takes the first',
        )
    torch.backends.cudnn.allow_tf32 = False  # ten bits of mantissa would fail the self-test
    return device


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
