"""The explanation methods on networks whose answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from hcs_daemon.device.attribution import Explainer
from hcs_daemon.device.manifest import package_folder
from hcs_daemon.device.methods import METHODS, ExpectedGradients, GradCam, IntegratedGradients, Method, Occlusion
from hcs_daemon.device.methods.method import incomplete
from hcs_daemon.device.methods.occlusion import BLOCKS_ALONG
from hcs_daemon.device.package import load_package
from hcs_daemon.device.question import Model, Question
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.errors import PackageError
from hcs_daemon.records import COMPLETENESS_LIMIT, Attribution
from model_packages import ChannelMeans, package_of, site_of, write_tiny_package

CPU = torch.device("cpu")
WEIGHTS = [[0.0, 0.0, 0.0], [0.0, 0.0, 4.0], [0.0, 0.0, 0.0]]
SIDE = 12


class Looks(nn.Module):
    """A small network that ends as Grad-CAM supposes: filters, their mean, a linear layer. It sees channel 1 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(3, 2, 3, padding=1, stride=2, bias=False)
        with torch.no_grad():
            self.filters.weight.zero_()
            self.filters.weight[:, 1] = torch.tensor([[1.0] * 3, [1.0] * 3, [1.0] * 3])
        self.head = nn.Linear(2, 3, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[0.0, 0.0], [2.0, 1.0], [-1.0, 0.0]]))

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, channels, tile, tile) to the three outputs."""
        maps = self.filters(tiles).relu()
        embedding = maps.mean(dim=(2, 3))
        return {"logits": self.head(embedding), "embedding": embedding, "feature_map": maps}


def model_of(network: nn.Module, at_once: int = 8) -> Model:
    return Model(network.requires_grad_(requires_grad=False), at_once, CPU)


def question(*, spot: bool = False, tiles: int = 3, references: int = 2, seed: int = 1) -> Question:
    """Noisy tiles; with a spot, dark ones with light in channel 1, in one corner. The references are dark."""
    rng = np.random.default_rng(4)
    pixels = rng.uniform(0.2, 1, (tiles, 3, SIDE, SIDE)).astype(np.float32) * (not spot)
    if spot:
        pixels[:, 1, :4, :4] = 1
    levels = [torch.full((tiles, 3, SIDE, SIDE), 0.0 if spot else 0.05 * number) for number in range(references)]
    return Question(torch.from_numpy(pixels), tuple(levels), 1, 0, seed)


@pytest.fixture(params=METHODS.values(), ids=list(METHODS))
def method(request: pytest.FixtureRequest) -> Method:
    found: Method = request.param
    return found


# ---- what holds of every method


def test_the_map_has_the_form_of_the_tiles(method: Method) -> None:
    asked = question()
    heat = method.attribute(model_of(Looks()), asked)
    assert heat.shape == tuple(asked.tiles.shape)
    assert heat.dtype == np.float32
    assert np.isfinite(heat).all()


def test_the_map_lies_where_the_light_is(method: Method) -> None:
    heat = method.attribute(model_of(Looks()), question(spot=True)).sum(axis=1)
    assert np.abs(heat[:, :6, :6]).sum() > 0.9 * np.abs(heat).sum()
    assert heat.sum() > 0


def test_many_tiles_are_explained_in_parts_as_they_are_together(method: Method) -> None:
    asked = question(tiles=5)
    few, many = (method.attribute(model_of(Looks(), at_once), asked) for at_once in (2, 64))
    np.testing.assert_allclose(few, many, atol=1e-6)


def test_the_same_question_is_answered_the_same_again(method: Method) -> None:
    first, again = (method.attribute(model_of(Looks()), question()) for _ in range(2))
    np.testing.assert_array_equal(first, again)


# ---- those that sum to the change


@pytest.mark.parametrize("sums", [IntegratedGradients(), ExpectedGradients()])
@pytest.mark.parametrize("bend", [nn.Identity(), nn.Tanh(), nn.Softplus(beta=9)])
def test_the_map_sums_to_the_change_and_names_the_channel(sums: Method, bend: nn.Module) -> None:
    model, asked = model_of(ChannelMeans(WEIGHTS, bend)), question()
    heat = sums.attribute(model, asked)
    assert sums.sums_to_change
    assert incomplete(heat, model.change(asked)) <= COMPLETENESS_LIMIT
    np.testing.assert_allclose(heat[:, :2], 0.0, atol=1e-9)


class Counted(nn.Module):
    """A network that counts the tiles that it was shown."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.tiles = 0

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """As the network within."""
        self.tiles += len(tiles)
        found: dict[str, torch.Tensor] = self.network(tiles)
        return found


class Kink(nn.Module):
    """Flat, and steep in a short piece of the path: few samples meet it."""

    def forward(self, means: torch.Tensor) -> torch.Tensor:
        """Rises from 0 to 1 between 0.30 and 0.31."""
        return ((means - 0.30) * 100).clamp(0, 1)


def test_expected_gradients_sample_more_until_the_map_is_complete_and_no_more_than_needed() -> None:
    easy, hard = (Counted(ChannelMeans(WEIGHTS, bend)) for bend in (nn.Identity(), Kink()))
    for network in (easy, hard):
        ExpectedGradients().attribute(model_of(network), question(references=1))
    assert hard.tiles > easy.tiles


def test_expected_gradients_pair_tiles_and_references_anew_for_another_seed() -> None:
    asked = question(seed=1)
    mixed = tuple(torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(n)) for n in range(2))
    one, other = (
        ExpectedGradients().attribute(
            model_of(Looks()), Question(asked.tiles, mixed, asked.target, asked.against, seed)
        )
        for seed in (1, 2)
    )
    assert not np.allclose(one, other)


def test_a_reference_like_the_site_leaves_nothing_to_explain() -> None:
    asked = question()
    same = Question(asked.tiles, (asked.tiles.clone(),), 1, 0)
    for sums in (IntegratedGradients(), Occlusion()):
        np.testing.assert_array_equal(sums.attribute(model_of(Looks()), same), 0.0)


# ---- Grad-CAM


def test_grad_cam_of_a_network_that_ends_in_a_mean_and_a_linear_layer_sums_to_the_contrast() -> None:
    asked, network = question(spot=True), model_of(Looks())
    heat = GradCam().attribute(network, asked)
    contrast = float(asked.contrast(network.logits(asked.tiles)).mean())
    assert heat.sum() == pytest.approx(contrast, rel=0.02)  # resizing moves a little over the border


def test_grad_cam_gives_every_channel_an_even_part() -> None:
    heat = GradCam().attribute(model_of(Looks()), question())
    np.testing.assert_array_equal(heat[:, 0], heat[:, 1])
    np.testing.assert_array_equal(heat[:, 0], heat[:, 2])


def test_grad_cam_of_logits_beside_the_feature_map_is_refused_in_words() -> None:
    package = package_of(ChannelMeans(WEIGHTS))  # its feature map is a thinned picture that nothing reads
    with pytest.raises(PackageError, match="computed from the feature map") as refused:
        Explainer(package, Tiler(package.manifest, CPU), CPU, "grad_cam")
    assert "another explain.method" in refused.value.hint


class WithoutMaps(Looks):
    """Gives no feature map."""

    def forward(self, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, channels, tile, tile) to the two outputs that a package needs."""
        return {name: output for name, output in super().forward(tiles).items() if name != "feature_map"}


def test_grad_cam_without_a_feature_map_is_refused_in_words() -> None:
    package = package_of(WithoutMaps())
    with pytest.raises(PackageError, match="this network gives none") as refused:
        Explainer(package, Tiler(package.manifest, CPU), CPU, "grad_cam")
    assert "another explain.method" in refused.value.hint


def test_grad_cam_works_on_an_exported_program(tmp_path_factory: pytest.TempPathFactory) -> None:
    package = load_package(write_tiny_package(tmp_path_factory.mktemp("package"), Looks()))
    heat = GradCam().attribute(
        Model(package.program, 8, CPU), Question(torch.ones(2, 3, 18, 18), (torch.zeros(2, 3, 18, 18),), 1, 0)
    )
    assert heat.sum() > 0


# ---- occlusion


def test_occlusion_of_a_sum_gives_each_block_what_it_holds() -> None:
    network = model_of(ChannelMeans([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0]]))
    asked = Question(torch.ones(1, 3, SIDE, SIDE), (torch.zeros(1, 3, SIDE, SIDE),), 1, 0)
    heat = Occlusion().attribute(network, asked)
    assert SIDE % BLOCKS_ALONG == 0
    np.testing.assert_allclose(heat.sum(axis=(0, 2, 3)), [1.0, 2.0, 0.0], atol=1e-5)


# ---- by the settings' name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("auto", "expected gradients"),
        ("integrated_gradients", "integrated gradients"),
        ("grad_cam", "Grad-CAM"),
        ("occlusion", "occlusion by 6 x 6 blocks a tile"),
    ],
)
def test_the_result_says_which_method_made_the_map(name: str, words: str) -> None:
    package = package_of(Looks())
    pixels = np.random.default_rng(5).integers(100, 900, (3, 36, 36), dtype=np.uint16)
    found = Explainer(package, Tiler(package.manifest, CPU), CPU, name).explain(site_of(pixels), "broken", "control")
    assert isinstance(found, Attribution)
    assert found.method == f"{words}; exact channel Shapley values"
    assert "completeness" not in found.checks.failed or METHODS[name].sums_to_change


def test_the_demonstration_package_can_be_explained_by_every_method(method: Method) -> None:
    package = load_package(package_folder("demo"))
    tiler = Tiler(package.manifest, CPU)
    scale_um = package.manifest.pixel_size_um
    hit, control = (tiler.tiles(package.references[name][0], scale_um) for name in ("mito_fragmented", "control"))
    classes = package.manifest.classes
    asked = Question(hit, (control,), classes.index("mito_fragmented"), classes.index("control"))
    heat = method.attribute(Model(package.program, 8, CPU), asked)
    if method is not METHODS["grad_cam"]:
        assert package.manifest.channel_names[int(heat.sum(axis=(0, 2, 3)).argmax())] == "Mito"
