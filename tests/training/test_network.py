"""The plain network: random ones work, the skeleton is the paper's, operations and concatenation by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_expansion import build
from torch import Tensor, nn

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import expand, is_valid
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.mutation import diversified, redraw_until, trivial
from hpcnas.architecture.skeleton import Skeleton, Stage
from hpcnas.architecture.space import FLAT, HIERARCHICAL, Space
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import NetworkSettings as Settings
from hpcnas.config.search import SearchConfig
from hpcnas.training.network import Cell, Network, primitive

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)  # PyTorch's initialisation draws from the global generator


def random_genotypes(space: Space, count: int) -> list[Genotype]:
    generator = np.random.default_rng(0)
    return [redraw_until(lambda: diversified(space, 300, generator), is_valid)[0] for _ in range(count)]


def tiny_network(genotype: Genotype) -> Network:
    return Network(expand(genotype), Skeleton(3, 8, 8, 10, channels=2, cells=(1, 1)))


# Random networks


@pytest.mark.parametrize(("space", "count"), [(HIERARCHICAL, 120), (FLAT, 80)], ids=["hierarchical", "flat"])
def test_random_networks_run_forwards_and_backwards(space: Space, count: int) -> None:
    """Finite scores of the right shape, and a finite gradient for every parameter."""
    images = torch.randn(2, 3, 8, 8)
    for genotype in random_genotypes(space, count):
        network = tiny_network(genotype)
        scores = network(images)
        assert scores.shape == (2, 10)
        assert torch.isfinite(scores).all()
        nn.functional.cross_entropy(scores, torch.tensor([3, 7])).backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), (name, genotype.text())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 9), (13, 13), (28, 28), (32, 32), (9, 13)])
def test_images_of_any_size(channels: int, height: int, width: int) -> None:
    skeleton = Skeleton(channels, height, width, classes=7, channels=2, cells=(1, 1, 1))
    network = Network(expand(named("paper")), skeleton)
    assert network(torch.randn(2, channels, height, width)).shape == (2, 7)


def test_a_network_takes_images_of_another_size_than_the_skeletons() -> None:
    """It trains on crops and is validated on whole images."""
    network = tiny_network(trivial(FLAT))
    assert network(torch.randn(2, 3, 6, 6)).shape == network(torch.randn(2, 3, 12, 9)).shape == (2, 10)


# Skeleton


def test_the_skeleton_of_a_configuration() -> None:
    facts = DataFacts(1, 28, 27, 10, training_images=80, validation_images=20, fingerprint="")
    assert SearchConfig(network=Settings(channels=4, cells_per_group=2, groups=3)).skeleton(facts) == Skeleton(
        image_channels=1, height=28, width=27, classes=10, channels=4, cells=(2, 2, 2)
    )


def test_the_stages_of_the_papers_small_network() -> None:
    assert Skeleton(3, 32, 32, 10, channels=16, cells=(1, 1, 1)).stages() == (
        Stage(channels=16, height=32, width=32, stride=2, next_channels=32),
        Stage(channels=32, height=16, width=16, stride=2, next_channels=64),
        Stage(channels=64, height=8, width=8, stride=1, next_channels=64),  # Figure 2: the last of all keeps its size
    )


def test_the_stages_of_the_papers_large_network() -> None:
    assert Skeleton(3, 32, 32, 10, channels=64, cells=(2, 2, 2)).stages() == (
        Stage(channels=64, height=32, width=32, stride=1, next_channels=64),
        Stage(channels=64, height=32, width=32, stride=2, next_channels=128),
        Stage(channels=128, height=16, width=16, stride=1, next_channels=128),
        Stage(channels=128, height=16, width=16, stride=2, next_channels=256),
        Stage(channels=256, height=8, width=8, stride=1, next_channels=256),
        Stage(channels=256, height=8, width=8, stride=1, next_channels=256),
    )


def test_odd_sizes_are_rounded_up() -> None:
    stages = Skeleton(1, 13, 9, 10, channels=1, cells=(1, 1, 1, 1)).stages()
    assert [(stage.height, stage.width) for stage in stages] == [(13, 9), (7, 5), (4, 3), (2, 2)]


@pytest.mark.parametrize(("side", "cells_per_group"), [(13, 1), (13, 2), (32, 1)])
def test_feature_maps_have_the_sizes_of_the_stages(side: int, cells_per_group: int) -> None:
    skeleton = Skeleton(3, side, side, 10, channels=2, cells=(cells_per_group,) * 3)
    network = Network(expand(named("paper")), skeleton)
    met: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, Cell):
            module.register_forward_hook(lambda _, inputs, output: met.append(tuple(inputs[0].shape[1:])))
    network(torch.randn(2, 3, side, side))
    assert met == [(stage.channels, stage.height, stage.width) for stage in skeleton.stages()]


def test_the_scores_are_linear_in_the_mean_over_all_pixels() -> None:
    network = tiny_network(trivial(FLAT)).eval()
    images = torch.randn(2, 3, 8, 8)
    features = network.blocks(network.stem(images))
    mean = features.flatten(2).sum(dim=2) / (features.shape[2] * features.shape[3])
    torch.testing.assert_close(network(images), mean @ network.classifier.weight.T + network.classifier.bias)


# Cells


def ramp(channels: int = 1) -> Tensor:
    """An image of 3×3 pixels: 0 1 2 / 3 4 5 / 6 7 8, and 10 more in each further channel."""
    return torch.arange(9.0).view(1, 1, 3, 3) + 10 * torch.arange(channels).view(1, -1, 1, 1)


MAXIMUM = [[4.0, 5, 5], [7, 8, 8], [7, 8, 8]]
AVERAGE = [[2.0, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]]  # over the pixels inside of the image: in a corner, over four


def test_inputs_are_concatenated_in_the_order_of_their_predecessors() -> None:
    cell = Cell(expand(build("1x3", ["1-2 max, 2-3 avg, 1-3 id"])), channels=1)
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 0, 0] = 36.0
    assert cell.output_channels == 2
    assert cell(image)[0].tolist() == [
        [[36, 0, 0], [0, 0, 0], [0, 0, 0]],  # 1-3, the identity of the image
        [[36, 24, 18], [24, 16, 12], [18, 12, 9]],  # 2-3, the average of the maximum
    ]


def test_a_concatenation_is_what_the_next_operation_reads() -> None:
    cell = Cell(expand(build("1x4", ["1-2 id, 1-3 id, 2-3 max, 3-4 avg, 1-4 max"])), channels=1)
    output = cell(ramp())[0]
    assert cell.output_channels == 3
    assert output[0].tolist() == MAXIMUM  # 1-4
    assert output[1].tolist() == AVERAGE  # 3-4, its first channel: the image
    assert (
        output[2].tolist()
        == nn.functional.avg_pool2d(torch.tensor([[MAXIMUM]]), 3, stride=1, padding=1, count_include_pad=False)[
            0, 0
        ].tolist()
    )  # 3-4, its second: the maximum of the image


def test_channels_stay_together_in_a_concatenation() -> None:
    cell = Cell(expand(build("1x3", ["1-2 max, 2-3 id, 1-3 id"])), channels=2)
    output = cell(ramp(channels=2))[0]
    image, shifted = ramp(channels=2)[0].tolist()
    maximum = torch.tensor(MAXIMUM)
    assert output.tolist() == [image, shifted, maximum.tolist(), (maximum + 10).tolist()]


def test_a_cell_of_one_identity_gives_its_input() -> None:
    image = torch.randn(2, 3, 5, 4)
    assert torch.equal(Cell(expand(build("1x2", ["1-2 id"])), channels=3)(image), image)


def test_copies_of_a_motif_share_no_weights() -> None:
    once, twice = (
        Cell(expand(build("1x2/1x3", ["1-2 sep"], [cell])), channels=3) for cell in ("1-3 M1", "1-2 M1, 2-3 M1")
    )
    assert len(list(twice.parameters())) == 2 * len(list(once.parameters()))


# Operations


def operation(name: str, inputs: int, cell_channels: int) -> nn.Module:
    """A primitive in evaluation mode, its normalisation the identity."""
    module = primitive(primitives.CODES[name], inputs, cell_channels).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 0.0
    return module


def test_maximum_pooling() -> None:
    assert operation("max", 1, 1)(ramp())[0, 0].tolist() == MAXIMUM


def test_padding_is_never_the_maximum() -> None:
    assert operation("max", 1, 1)(-1.0 - ramp())[0, 0].tolist() == [[-1, -1, -2], [-1, -1, -2], [-4, -4, -5]]


def test_average_pooling_leaves_padding_out() -> None:
    assert operation("avg", 1, 1)(ramp())[0, 0].tolist() == AVERAGE
    assert operation("avg", 1, 1)(torch.ones(1, 1, 4, 5)).eq(1).all()


def test_a_1x1_convolution_mixes_channels_pixel_by_pixel() -> None:
    module = operation("1x1", 2, 3)
    weights = torch.tensor([[1.0, 2.0], [0.0, 1.0], [1.0, -1.0]])
    module[0].weight.data = weights[:, :, None, None]
    first, second = ramp(channels=2)[0]
    expected = torch.stack([first + 2 * second, second, torch.zeros(3, 3)])  # the last negative, before ReLU
    assert torch.equal(module(ramp(channels=2))[0], expected)


def test_a_depthwise_convolution_leaves_channels_apart() -> None:
    module = operation("dw", 2, 5)
    module[0].weight.data[:] = 0
    module[0].weight.data[0, 0, 1, 1] = 3.0  # three times the pixel
    module[0].weight.data[1, 0, 1, 0] = 1.0  # the pixel to the left
    first, second = module(ramp(channels=2))[0]
    assert first.tolist() == (3 * ramp()[0, 0]).tolist()
    assert second.tolist() == [[0, 10, 11], [0, 13, 14], [0, 16, 17]]


def test_a_separable_convolution_is_depthwise_then_pointwise() -> None:
    module = operation("sep", 2, 1)
    module[0].weight.data[:] = 0
    module[0].weight.data[:, 0, 1, 1] = torch.tensor([1.0, -1.0])
    module[1].weight.data = torch.tensor([2.0, 1.0]).view(1, 2, 1, 1)
    first, second = ramp(channels=2)[0]
    assert torch.equal(module(ramp(channels=2))[0, 0], torch.relu(2 * first - second))  # nothing was cut off between


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("1x1", ["Conv2d", "BatchNorm2d", "ReLU"]),
        ("dw", ["Conv2d", "BatchNorm2d", "ReLU"]),
        ("sep", ["Conv2d", "Conv2d", "BatchNorm2d", "ReLU"]),
        ("max", ["MaxPool2d"]),
        ("avg", ["AvgPool2d"]),
        ("id", ["Identity"]),
    ],
)
def test_the_layers_of_a_primitive(name: str, layers: list[str]) -> None:
    parts = [part for part in operation(name, 2, 3).modules() if not isinstance(part, nn.Sequential)]
    assert [type(part).__name__ for part in parts] == layers
    assert all(part.bias is None for part in parts if isinstance(part, nn.Conv2d))


@pytest.mark.parametrize("name", primitives.NAMES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 4), (8, 8)])
def test_primitives_keep_the_resolution_and_give_the_channels_they_say(name: str, height: int, width: int) -> None:
    code = primitives.CODES[name]
    output = operation(name, 5, 3)(torch.randn(2, 5, height, width))
    assert output.shape == (2, primitives.output_channels(code, 5, 3), height, width)


def test_convolutions_alone_change_the_number_of_channels() -> None:
    channels = {name: primitives.output_channels(code, 5, 3) for name, code in primitives.CODES.items()}
    assert channels == {"1x1": 3, "dw": 5, "sep": 3, "max": 5, "avg": 5, "id": 5}


@pytest.mark.parametrize("code", [0, 7])
def test_there_are_no_other_primitives(code: int) -> None:
    with pytest.raises(ValueError, match=f"expected a primitive's code from 1 to 6, got {code}"):
        primitive(code, 2, 2)
