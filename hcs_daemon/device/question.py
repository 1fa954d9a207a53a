"""What is explained and which model answers: what the explanation methods and their checks share."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Question:
    """One site, one contrast: logit(target) - logit(against).

    tiles: (tiles, channels, tile, tile) float32. references: by reference site, the tiles that replace the site's, of
    the same shape. target, against: numbers of two classes. seed: of whatever is drawn by lot, so that the same site is
    explained the same again.
    """

    tiles: torch.Tensor
    references: tuple[torch.Tensor, ...]
    target: int
    against: int
    seed: int = 0

    def contrast(self, logits: torch.Tensor) -> torch.Tensor:
        """(tiles,) logits: the contrast of each tile, from (tiles, classes)."""
        return logits[:, self.target] - logits[:, self.against]


@dataclass(frozen=True, slots=True)
class Model:
    """The package's program on one device, which takes so many tiles at once. Gradients flow through it."""

    program: torch.nn.Module
    at_once: int
    device: torch.device

    def outputs(self, tiles: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """The program's outputs for (n, channels, tile, tile) tiles, n at most `at_once`, by name."""
        found: Mapping[str, torch.Tensor] = self.program(tiles)
        return found

    def logits(self, tiles: torch.Tensor) -> torch.Tensor:
        """(n, classes) logits of any number of tiles, run in parts of `at_once`."""
        return torch.cat([self.outputs(part)["logits"] for part in torch.split(tiles, self.at_once)])

    def change(self, question: Question) -> float:
        """What is explained: the site's contrast, the mean over its tiles, less the references' mean, in logits."""
        with torch.inference_mode():
            site, *references = (
                float(question.contrast(self.logits(tiles)).double().mean())
                for tiles in (question.tiles, *question.references)
            )
        return site - sum(references) / len(references)
