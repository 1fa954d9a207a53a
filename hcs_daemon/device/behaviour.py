"""Whether a network behaves: it looks at its input, at each tile by itself, and lets explanations follow it back.

What a self-test cannot find, because it was recorded from the same network.
"""

from collections.abc import Mapping

import torch

from hcs_daemon.device.manifest import Manifest

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
    noise = _noise_like(tiles[:1])
    # backwards, and behind tiles that are nothing like them
    company = torch.cat([10 * noise + 3, torch.zeros_like(noise), tiles.flip(0)])
    given, among = _run(program, tiles), _run(program, company)
    for name in names:
        _check_company(name, given[name], among[name][2:].flip(0))
        if change(among[name][:-1], among[name][-1:], among[name]) <= NOTHING:
            whole = bool((among[name] == among[name].round()).all())
            raise MisbehaviourError(
                f"the network ignores its input: its {name} is the same"
                f"{' whole numbers' if whole else ''} whatever it is shown",
                (
                    "rounding takes away what differs: leave out round, argmax and casts to integers; else "
                    if whole
                    else ""
                )
                + "the weights may be zero or not loaded, or the last layer does not see the ones before it",
            )
    channels = list(range(len(manifest.channels)))
    if manifest.classes:
        gradient = _gradient(program, tiles[:1])
        channels = [channel for channel in channels if not bool(gradient[:, channel].any())]
    return tuple(
        f"the network pays no attention to {manifest.channel_names[channel]}: with noise in its place nothing changes"
        for channel in channels
        if _unheeded(program, tiles[:1], noise, channel, {name: given[name] for name in names})
    )


def _check_company(name: str, given: torch.Tensor, among: torch.Tensor) -> None:
    moved = change(among, given, given)
    if not moved <= SAME:
        raise MisbehaviourError(
            f"the same tile has another {name} among other tiles, by {moved:.2g} of its largest value", COMPANY
        )


def _gradient(program: torch.nn.Module, tiles: torch.Tensor) -> torch.Tensor:
    """Of the logits, at the input: explanations follow it back, and a network must let them."""
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
    return gradient


def _unheeded(
    program: torch.nn.Module, tile: torch.Tensor, noise: torch.Tensor, channel: int, given: Mapping[str, torch.Tensor]
) -> bool:
    """Whether nothing changes with noise in a channel's place."""
    swapped = tile.clone()
    swapped[:, channel] = noise[:, channel]
    found = _run(program, swapped)
    return all(change(found[name], rows[:1], rows) <= NOTHING for name, rows in given.items())


def _noise_like(tiles: torch.Tensor) -> torch.Tensor:
    """The same noise at every start."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(tiles.shape, generator=generator).to(tiles.device)


def _run(program: torch.nn.Module, tiles: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """All in one batch: whether they change each other is the question."""
    with torch.inference_mode():
        found: Mapping[str, torch.Tensor] = program(tiles)
        return found


def change(rows: torch.Tensor, others: torch.Tensor, of: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value of `of`."""
    return float((rows - others).abs().max() / of.abs().max().clamp(min=1e-12))
