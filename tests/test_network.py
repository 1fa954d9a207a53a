"""The small network."""

import torch

from hcs_daemon.training.network import CellNetwork


def network() -> CellNetwork:
    """One whose batch norms have seen something."""
    torch.manual_seed(0)
    made = CellNetwork(3, 4, width=4, features=6)
    made(tiles())
    return made.eval()


def tiles() -> torch.Tensor:
    return torch.randn(3, 3, 33, 33, generator=torch.Generator().manual_seed(1))


def test_the_logits_are_linear_in_the_embedding_which_is_the_mean_of_the_map() -> None:
    made = network()
    outputs = made(tiles())
    torch.testing.assert_close(outputs["embedding"], outputs["feature_map"].mean(dim=(2, 3)))
    torch.testing.assert_close(outputs["logits"], made.head(outputs["embedding"]))


def test_before_the_join_no_channel_sees_another() -> None:
    made = network()
    changed = tiles()
    changed[:, 1] = 0
    difference = (made.looks(changed) - made.looks(tiles())).abs().amax(dim=(0, 2, 3)).reshape(3, -1)
    assert (difference[[0, 2]] == 0).all()
    assert (difference[1] > 0).any()


def test_folding_changes_the_work_and_not_the_result() -> None:
    made = network()
    before = made(tiles())
    made.fold()
    assert not [module for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    after = made(tiles())
    for name, values in before.items():
        torch.testing.assert_close(after[name], values)


def test_a_temperature_divides_the_logits_and_leaves_the_rest() -> None:
    made = network()
    before = made(tiles())
    made.cool(2.0)
    after = made(tiles())
    torch.testing.assert_close(after["logits"], before["logits"] / 2)
    torch.testing.assert_close(after["embedding"], before["embedding"])


def test_it_is_smooth_so_that_its_gradient_can_be_integrated() -> None:
    """The second derivative along a path exists everywhere: halving the step halves the change in slope."""
    made = network().double()
    start, way = tiles().double(), torch.ones(1, 3, 33, 33, dtype=torch.float64)

    def slope(at: float) -> torch.Tensor:
        place = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(made(start + place * way)["logits"][:, 0].sum(), place)
        return found

    changes = [float((slope(0.3 + step) - slope(0.3)).abs()) for step in (1e-4, 5e-5)]
    assert abs(changes[0] / changes[1] - 2) < 0.01
