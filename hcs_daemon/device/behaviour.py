"""Whether a network behaves: it looks at its input, at each tile by itself, and lets explanations follow it back.

What a self-test cannot find, because it was recorded from the same network.
"""

from collections.abc import Mapping

import torch

from hcs_daemon.device.manifest import Manifest
from hcs_daemon.device.tiling import tiles_at_once

SAME = 1e-3
"""A tile's outputs may change by so much of the largest value with the tiles beside it: sums in another order."""
NOTHING = 1e-6
"""An output that changes by less, as a share of its largest value, does not change."""
COMPANY = (
    "a tile's answer must not depend on the tiles beside it: put every BatchNorm in evaluation mode, normalise over a"
    " tile and never over the batch, and export it again"
)
_KEEP = "explanations need it: export the network without no_grad, detach, rounding and argmax"


class MisbehaviourError(Exception):
    """Why a network cannot be used. what: in words. hint: what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


def examine(program: torch.nn.Module, tiles: torch.Tensor, manifest: Manifest) -> tuple[str, ...]:
    """What is odd about a network and no ground to refuse it, in words. Raises MisbehaviourError for what is.

    tiles: (2 or more, channels, tile, tile) float32, normalised, on the program's device.
    """
    names = ("logits", "embedding") if manifest.classes else ("embedding",)
    noise = _noise_like(tiles)
    _check_company(program, tiles, noise, names)
    shown = torch.cat([tiles, noise, torch.zeros_like(tiles[:1])])
    outputs = {name: rows for name, rows in _run(program, shown).items() if name in names}
    for name, rows in outputs.items():
        if change(rows, rows[:1], rows) <= NOTHING:
            raise MisbehaviourError(
                f"the network ignores its input: its {name} is the same whatever it is shown",
                "the weights may be zero or not loaded, or the last layer does not see the ones before it",
            )
    if manifest.classes:
        _check_gradient(program, tiles)
    return _unheeded(program, tiles, noise, outputs, manifest)


def _check_company(program: torch.nn.Module, tiles: torch.Tensor, noise: torch.Tensor, names: tuple[str, ...]) -> None:
    """Each tile in the order given and backwards, and the first one behind tiles that are nothing like it."""
    given = _run(program, tiles)
    backwards, behind = _run(program, tiles.flip(0)), _run(program, torch.cat([10 * noise + 3, tiles[:1]]))
    for name in names:
        rows = given[name]
        moved = max(change(backwards[name].flip(0), rows, rows), change(behind[name][-1:], rows[:1], rows))
        if not moved <= SAME:
            raise MisbehaviourError(
                f"the same tile has another {name} among other tiles, by {moved:.2g} of its largest value", COMPANY
            )


def _check_gradient(program: torch.nn.Module, tiles: torch.Tensor) -> None:
    """Explanations follow the logits back to the input; a network must let them."""
    seen = tiles.clone().requires_grad_()
    try:
        logits = program(seen)["logits"]
        # each class has a weight of its own: the sum of logits may be constant by right
        weights = torch.arange(1.0, logits.shape[1] + 1, device=logits.device, dtype=logits.dtype)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), seen)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a foreign program raises, it is this network that cannot be explained
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise MisbehaviourError(f"the network gives no gradient of its logits: {said}", _KEEP) from error
    if not bool(torch.isfinite(gradient).all()):
        raise MisbehaviourError(
            "the gradient of the network's logits is not finite",
            "explanations need it: look for divisions by zero, and square roots and logarithms of 0",
        )
    if not bool(gradient.any()):
        raise MisbehaviourError("the gradient of the network's logits is zero everywhere", _KEEP)


def _unheeded(
    program: torch.nn.Module,
    tiles: torch.Tensor,
    noise: torch.Tensor,
    outputs: Mapping[str, torch.Tensor],
    manifest: Manifest,
) -> tuple[str, ...]:
    """Sentences on channels that may be exchanged for noise and nothing changes."""
    count = len(manifest.channels)
    swapped = tiles[:1].repeat(count, 1, 1, 1)
    swapped[range(count), range(count)] = noise[0]
    found = _run(program, swapped)
    return tuple(
        f"the network pays no attention to {channel}: with noise in its place nothing changes"
        for index, channel in enumerate(manifest.channel_names)
        if all(change(found[name][index : index + 1], rows[:1], rows) <= NOTHING for name, rows in outputs.items())
    )


def _noise_like(tiles: torch.Tensor) -> torch.Tensor:
    """As many tiles of the same noise at every start."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(tiles.shape, generator=generator).to(tiles.device)


def _run(program: torch.nn.Module, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        parts = [program(part) for part in torch.split(tiles, tiles_at_once(tiles.device))]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def change(rows: torch.Tensor, others: torch.Tensor, of: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value of `of`."""
    return float((rows - others).abs().max() / of.abs().max().clamp(min=1e-12))
