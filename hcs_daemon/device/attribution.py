"""Why the model said what it said: integrated gradients and exact channel Shapley values, each with its checks.

What is explained is the contrast logit(target) - logit(against), from a reference to the site. The reference decides
whether an explanation is true: an absent channel, or an absent part of the picture, is replaced by that of real sites
from the package, of the class that the target is contrasted with. For a hit these are control sites; for a well that
looks like the control they are sites of the runner-up class where the package has them, else control sites.
"""

from math import factorial, inf

import numpy as np
import torch
from captum.attr import IntegratedGradients
from numpy.typing import NDArray

from hcs_daemon.device.package import Package
from hcs_daemon.device.question import Model, Question
from hcs_daemon.device.tiling import Tiler, tiles_at_once
from hcs_daemon.records import COMPLETENESS_LIMIT, EFFICIENCY_LIMIT, Attribution, ExplanationChecks, Site

FIRST_STEPS, MOST_STEPS = 8, 64
"""Steps of the path integral from each reference; doubled until it is complete, or there are so many."""
DELETION_SHARES = tuple(step / 10 for step in range(11))
RANDOM_ORDERS = 4
BLOCKS_ALONG = 9
"""A tile's side is cut into so many blocks, in each channel, for the deletion curve."""
MOST_CHANNELS = 8

Floats = NDArray[np.float64]
Pixel = NDArray[np.float32]


class Explainer:
    """Explains sites for one model on one device."""

    def __init__(self, package: Package, tiler: Tiler, device: torch.device) -> None:
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

    def explain(self, site: Site, target: str, against: str) -> Attribution | str:
        """Explain one site, or say in words why that is not possible. target, against: two different classes."""
        manifest = self._manifest
        problem = _too_many(len(manifest.channels)) or self._tiler.problem(site.pixels.shape, site.pixel_size_um)
        if problem is not None:
            return problem
        source = against if against in self._references else manifest.control_class
        question = self._question(site, target, against, source)
        values = self._coalition_values(question)
        shapley = np.stack([shapley_values(row) for row in values])
        before, after = float(values[:, 0].mean()), float(values[:, -1].mean())
        heat = self._integrated_gradients(question, after - before)
        nearest = self._nearest(question, source)
        names = manifest.references[source]
        return Attribution(
            site=site.id,
            key=site.key,
            method="integrated gradients; exact channel Shapley values",
            target=target,
            against=against,
            reference=f"mean over {len(names)} {source} site{'s' if len(names) > 1 else ''}: {'; '.join(names)}",
            contrast=after,
            reference_contrast=before,
            channel_shapley=dict(zip(manifest.channel_names, shapley.mean(axis=0).tolist(), strict=True)),
            channel_spread=_spread(manifest.channel_names, shapley),
            checks=self._checks(question, heat, nearest, shapley, after - before, seed=int(site.key[0][:16], 16)),
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
        )

    # ---- channels

    def _coalition_values(self, question: Question) -> Floats:
        """(references, 2^channels): the site's contrast with only the channels of each coalition its own.

        Bit c of a coalition's number says whether channel c is the site's; 0 is the reference, the last is the site.
        """
        count = question.tiles.shape[1]
        kept = torch.tensor([[bool(number >> c & 1) for c in range(count)] for number in range(1 << count)])
        kept = kept.to(self._model.device)[:, None, :, None, None]
        values = np.empty((len(question.references), 1 << count))
        coalitions = max(1, self._model.at_once // len(question.tiles))
        with torch.inference_mode():
            for row, reference in zip(values, question.references, strict=True):
                for start in range(0, 1 << count, coalitions):
                    mixed = torch.where(kept[start : start + coalitions], question.tiles, reference)
                    contrast = question.contrast(self._model.logits(mixed.flatten(0, 1))).double()
                    row[start : start + coalitions] = contrast.view(len(mixed), -1).mean(dim=1).cpu().numpy()
        return values

    # ---- places

    def _integrated_gradients(self, question: Question, change: float) -> Pixel:
        """(tiles, channels, tile, tile) float32 logits, the mean over the references; they sum to the change.

        Integrated gradients (Sundararajan et al., ICML 2017) by Gauss-Legendre, with more steps until complete enough.
        """
        steps = FIRST_STEPS
        while True:
            total = torch.stack([self._path_integral(question, tiles, steps) for tiles in question.references]).sum(
                dim=0
            )
            # the site's contrast is the mean over its tiles, the reference the mean over the reference sites
            heat = (total.double() / (len(question.tiles) * len(question.references))).float().cpu().numpy()
            error = _relative(float(heat.sum(dtype=np.float64)) - change, change)
            if error <= COMPLETENESS_LIMIT / 2 or 2 * steps > MOST_STEPS:
                return np.asarray(heat, np.float32)
            steps *= 2

    def _path_integral(self, question: Question, reference: torch.Tensor, steps: int) -> torch.Tensor:
        """(tiles, channels, tile, tile): each tile's integrated gradients from one reference."""
        method = IntegratedGradients(lambda tiles: question.contrast(self._model.outputs(tiles)["logits"]))
        pairs = zip(
            torch.split(question.tiles, self._model.at_once), torch.split(reference, self._model.at_once), strict=True
        )
        found = [
            method.attribute(
                tiles, baselines=base, n_steps=steps, method="gausslegendre", internal_batch_size=self._model.at_once
            )
            for tiles, base in pairs
        ]
        return torch.cat(found)

    # ---- checks

    def _checks(
        self, question: Question, heat: Pixel, nearest: int, shapley: Floats, change: float, *, seed: int
    ) -> ExplanationChecks:
        completeness = _relative(float(heat.sum(dtype=np.float64)) - change, change)
        efficiency = _relative(float(shapley.mean(axis=0).sum()) - change, change)
        deletion, random_deletion = self._deletion(question, heat, nearest, seed=seed)
        whole = completeness <= COMPLETENESS_LIMIT and efficiency <= EFFICIENCY_LIMIT
        return ExplanationChecks(
            completeness_error=completeness,
            efficiency_error=efficiency,
            deletion_auc=deletion,
            random_deletion_auc=random_deletion,
            passed=whole and deletion < random_deletion,
        )

    def _deletion(self, question: Question, heat: Pixel, nearest: int, *, seed: int) -> tuple[float, float]:
        """Areas under the target's probability while blocks of one channel each are replaced by the nearest reference.

        The most attributed first, and at random (mean of some orders); Petsiuk et al., BMVC 2018, who set pixels to 0.
        """
        scores = _block_sums(heat).ravel()
        rng = np.random.default_rng(seed)
        reference = question.references[nearest]
        orders = [rng.permutation(scores.size) for _ in range(RANDOM_ORDERS)]
        return (
            self._area(question, reference, np.argsort(-scores, kind="stable")),
            float(np.mean([self._area(question, reference, order) for order in orders])),
        )

    def _area(self, question: Question, reference: torch.Tensor, order: NDArray[np.intp]) -> float:
        """Mean of the target's probability over the share of blocks replaced, in this order; trapezoids."""
        rank = np.empty(order.size, np.intp)
        rank[order] = np.arange(order.size)
        count, channels, size, _ = question.tiles.shape
        block = torch.from_numpy(np.arange(size) * BLOCKS_ALONG // size)
        ranks = torch.from_numpy(rank.reshape(count, channels, BLOCKS_ALONG, BLOCKS_ALONG))
        by_pixel = ranks[:, :, block[:, None], block[None, :]].to(self._model.device)
        curve = []
        with torch.inference_mode():
            for share in DELETION_SHARES:
                mixed = torch.where(by_pixel < share * order.size, reference, question.tiles)
                shares = self._model.logits(mixed).double().mean(dim=0).softmax(dim=0)
                curve.append(float(shares[question.target]))
        return float(np.trapezoid(curve, DELETION_SHARES))

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


def shapley_values(values: Floats) -> Floats:
    """Exact Shapley values (Shapley 1953) of n players from the values of all 2^n coalitions.

    values: (2^n,), by coalition number, bit i set where player i is in. Returns (n,); they sum to last minus first.
    """
    count = int(values.size).bit_length() - 1
    numbers = np.arange(values.size)
    sizes = np.array([int(number).bit_count() for number in numbers])
    found = np.empty(count)
    for player in range(count):
        without = numbers[(numbers >> player & 1) == 0]
        weights = np.array([factorial(size) * factorial(count - size - 1) for size in sizes[without]]) / factorial(
            count
        )
        found[player] = float(np.sum(weights * (values[without | 1 << player] - values[without])))
    return found


def _too_many(channels: int) -> str | None:
    if channels <= MOST_CHANNELS:
        return None
    return f"exact Shapley values of {channels} channels take 2^{channels} runs; at most {MOST_CHANNELS} are explained"


def _spread(channels: tuple[str, ...], shapley: Floats) -> dict[str, float] | None:
    if len(shapley) < 2:
        return None
    return dict(zip(channels, shapley.std(axis=0, ddof=1).tolist(), strict=True))


def _relative(error: float, change: float) -> float:
    return abs(error) / abs(change) if change else inf


def _block_sums(heat: Pixel) -> Floats:
    """(tiles, channels, blocks, blocks) sums of (tiles, channels, tile, tile)."""
    size = heat.shape[-1]
    starts = [int(np.ceil(block * size / BLOCKS_ALONG)) for block in range(BLOCKS_ALONG)]
    rows = np.add.reduceat(heat.astype(np.float64), starts, axis=2)
    return np.asarray(np.add.reduceat(rows, starts, axis=3))
