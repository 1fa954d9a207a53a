"""Why the model said what it said: a map by one of the methods and the channels' Shapley values, with their checks.

What is explained is the contrast logit(target) - logit(against), from a reference to the site. The reference decides
whether an explanation is true: an absent channel, or an absent part of the picture, is replaced by that of real sites
from the package, of the class that the target is contrasted with. For a hit these are control sites; for a well that
looks like the control they are sites of the other class that it is contrasted with: control sites would show no change.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from hcs_daemon.device.checks import check
from hcs_daemon.device.methods import METHODS, GradCam
from hcs_daemon.device.package import Package
from hcs_daemon.device.question import Model, Question
from hcs_daemon.device.shapley import channel_shares
from hcs_daemon.device.tiling import Tiler, tiles_at_once
from hcs_daemon.records import Attribution, Site

Floats = NDArray[np.float64]


class Explainer:
    """Explains sites for one model on one device."""

    def __init__(self, package: Package, tiler: Tiler, device: torch.device, method: str = "auto") -> None:
        """method: by the settings' name. Raises PackageError where the package does not give what it needs."""
        self._package = package
        self._tiler = tiler
        self._model = Model(package.program, tiles_at_once(device), device)
        self._manifest = package.manifest
        scale_um = self._manifest.pixel_size_um
        self._references = {
            name: tuple(tiler.tiles(site, scale_um) for site in sites) for name, sites in package.references.items()
        }
        self._looks = {
            name: torch.stack([self._look_of(tiles) for tiles in sites]) for name, sites in self._references.items()
        }
        self._method = METHODS["expected_gradients" if method == "auto" else method]
        if isinstance(self._method, GradCam):
            self._try_method()

    def _try_method(self) -> None:
        """Explain one tile of a control site by the others, and forget it."""
        tiles = self._references[self._manifest.control_class][0][:1]
        self._method.attribute(self._model, Question(tiles, (tiles,), 0, min(1, len(self._manifest.classes) - 1)))

    def explain(self, site: Site, target: str, against: str) -> Attribution | str:
        """Explain one site, or say in words why that is not possible. target, against: two different classes."""
        manifest = self._manifest
        problem = self._tiler.problem(site.pixels.shape, site.pixel_size_um)
        if problem is not None:
            return problem
        source = against if against in self._references else manifest.control_class
        if source == target:
            return f"the model package has no reference sites of {against} to compare {target} with"
        question = self._question(site, target, against, source)
        shares = channel_shares(self._model, question)
        heat = self._method.attribute(self._model, question)
        nearest = self._nearest(question, source)
        names = manifest.references[source]
        return Attribution(
            site=site.id,
            key=site.key,
            method=f"{self._method.words}; {shares.words}",
            target=target,
            against=against,
            reference=f"mean over {len(names)} {source} site{'s' if len(names) > 1 else ''}: {'; '.join(names)}",
            contrast=shares.after,
            reference_contrast=shares.before,
            channel_shapley=self._by_channel(shares.shapley.mean(axis=0)),
            channel_spread=self._by_channel(shares.shapley.std(axis=0, ddof=1)) if len(shares.shapley) > 1 else None,
            channel_error=None if shares.error is None else self._by_channel(shares.error),
            interactions={
                (manifest.channel_names[one], manifest.channel_names[other]): logits
                for (one, other), logits in shares.interactions.items()
            },
            checks=check(self._model, question, self._method, heat, nearest=nearest, shares=shares),
            heat=self._tiler.layout(site.pixels.shape, site.pixel_size_um).assemble(heat),
            reference_pixels=self._package.references[source][nearest],
            reference_name=f"{source}, {names[nearest]}",
            explain_s=0.0,
        )

    def _question(self, site: Site, target: str, against: str, source: str) -> Question:
        tiles = self._tiler.tiles(site.pixels, site.pixel_size_um)
        classes = self._manifest.classes
        return Question(
            tiles,
            # a reference site has its own number of tiles: they are taken in turn
            tuple(tiles_of[torch.arange(len(tiles)) % len(tiles_of)] for tiles_of in self._references[source]),
            classes.index(target),
            classes.index(against),
            seed=int(site.key[0][:16], 16),
        )

    def _by_channel(self, values: Floats) -> dict[str, float]:
        return dict(zip(self._manifest.channel_names, values.tolist(), strict=True))

    def _nearest(self, question: Question, source: str) -> int:
        """The reference site nearest the site, by the distance of their mean embeddings."""
        return int(torch.linalg.vector_norm(self._looks[source] - self._look_of(question.tiles), dim=1).argmin())

    def _look_of(self, tiles: torch.Tensor) -> torch.Tensor:
        """(features,) float64: the mean embedding of a site's tiles."""
        with torch.inference_mode():
            parts = [
                self._model.outputs(part)["embedding"].double() for part in torch.split(tiles, self._model.at_once)
            ]
            return torch.cat(parts).mean(dim=0)
