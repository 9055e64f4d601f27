"""Parameters and FLOPs in closed form: the paper's cell, one cell by hand, and the networks that are really built."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_expansion import build
from torch import Tensor, nn

from hpcnas.architecture.expansion import CellGraph, expand, is_valid
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.mutation import diversified, redraw_until
from hpcnas.architecture.sizes import Size, node_channels, size
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.architecture.space import FLAT, HIERARCHICAL, Space
from hpcnas.training.network import Network

torch.set_num_threads(1)

SMALL = Skeleton(image_channels=3, height=32, width=32, classes=10, channels=16, cells=(1, 1, 1))
CIFAR = Skeleton(3, 32, 32, 10, channels=64, cells=(2, 2, 2), stem="plain")
IMAGENET = Skeleton(3, 299, 299, 1000, channels=64, cells=(1, 2, 2, 2), stem="strided")
TINY_SKELETONS = [
    Skeleton(image_channels=1, height=8, width=8, classes=2, channels=4, cells=(1,)),
    Skeleton(image_channels=3, height=9, width=13, classes=7, channels=3, cells=(2, 2)),
    Skeleton(image_channels=1, height=13, width=9, classes=10, channels=2, cells=(1, 1, 1, 1)),
    Skeleton(3, 19, 13, 5, channels=4, cells=(1, 2), stem="strided"),
]
SKELETONS = [
    SMALL,
    IMAGENET,
    CIFAR,
    *TINY_SKELETONS,
]


def random_graphs(space: Space, count: int) -> list[CellGraph]:
    generator = np.random.default_rng(0)

    def draw() -> Genotype:
        return diversified(space, 300, generator)

    return [expand(redraw_until(draw, is_valid)[0]) for _ in range(count)]


def built(graph: CellGraph, skeleton: Skeleton) -> Network:
    """The network on the "meta" device: its tensors have shapes and no memory."""
    with torch.device("meta"):
        return Network(graph, skeleton)


def parameters_of(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def flops_of(graph: CellGraph, skeleton: Skeleton) -> int:
    """FLOPs of the convolutions and the linear layer, from the shapes that one image meets on its way."""
    found = 0

    def count(layer: nn.Conv2d | nn.Linear, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal found
        found += 2 * output.numel() * layer.weight[0].numel()

    network = Network(graph, skeleton).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, skeleton.image_channels, skeleton.height, skeleton.width))
    return found


@pytest.mark.parametrize(
    ("channels", "cells_per_group", "parameters"),
    [
        (16, 1, 542_138),
        (64, 2, 15_727_306),  # published: 15.7 M
        (128, 2, 61_896_074),
    ],
)
def test_the_papers_cell(channels: int, cells_per_group: int, parameters: int) -> None:
    skeleton = Skeleton(3, 32, 32, 10, channels=channels, cells=(cells_per_group,) * 3)
    graph = expand(named("paper"))
    assert size(graph, skeleton).parameters == parameters
    assert parameters_of(built(graph, skeleton)) == parameters


def test_the_large_networks_of_the_papers_cell() -> None:
    graph = expand(named("paper"))
    for skeleton, parameters in [
        (CIFAR, 15_727_306),  # published: 15.7 M
        (dataclasses.replace(CIFAR, channels=128), 61_896_074),
        (IMAGENET, 62_832_520),  # published: 64 M
    ]:
        assert size(graph, skeleton).parameters == parameters
        assert parameters_of(built(graph, skeleton)) == parameters


def test_a_strided_stem_leaves_a_quarter_of_the_resolution() -> None:
    assert IMAGENET.stem_convolutions() == ((32, 2), (64, 2))
    stages = IMAGENET.stages()
    assert [(stage.channels, stage.height, stage.stride) for stage in stages] == [
        (64, 75, 2),
        (128, 38, 1), (128, 38, 2),
        (256, 19, 1), (256, 19, 2),
        (512, 10, 1), (512, 10, 1),
    ]  # fmt: skip


def test_a_strided_stem_needs_an_even_number_of_channels() -> None:
    with pytest.raises(ValueError, match="even number of channels for a strided stem, got 5"):
        dataclasses.replace(IMAGENET, channels=5)


def test_a_network_by_hand() -> None:
    """One cell, 1 ──1x1──► 2 ──dw──► 3 with 1 ──id──► 3, on an image of 5×4 pixels, 2 channels in the network."""
    graph = expand(build("1x3", ["1-2 1x1, 2-3 dw, 1-3 id"]))
    skeleton = Skeleton(image_channels=1, height=5, width=4, classes=3, channels=2, cells=(1,))
    stem = 9 * 1 * 2
    convolution = 2 * 2
    depthwise = 9 * 2
    separable = 9 * 4 + 4 * 2  # it reads the concatenation of 2 + 2 channels and gives 2
    linear = 2 * 3
    normalisations = 4 * (2 * 2)
    assert size(graph, skeleton) == Size(
        parameters=stem + convolution + depthwise + separable + linear + 3 + normalisations,
        flops=2 * ((stem + convolution + depthwise + separable) * 20 + linear),
    )


def test_channels_add_up_where_edges_meet() -> None:
    graph = expand(build("1x4", ["1-2 id, 1-3 dw, 2-3 max, 1-4 sep, 2-4 avg, 3-4 id"]))
    assert node_channels(graph, 5) == [5, 5, 10, 20]


def test_a_convolution_gives_the_cells_channels_however_many_it_reads() -> None:
    graph = expand(build("1x4", ["1-2 id, 1-3 id, 2-3 id, 3-4 1x1, 2-4 sep"]))
    assert node_channels(graph, 5) == [5, 5, 10, 10]


BOTH_SPACES = pytest.mark.parametrize("space", [HIERARCHICAL, FLAT], ids=["hierarchical", "flat"])


@BOTH_SPACES
def test_random_networks_have_the_parameters_that_were_counted(space: Space) -> None:
    for number, graph in enumerate(random_graphs(space, 30)):
        skeleton = SKELETONS[number % len(SKELETONS)]
        assert size(graph, skeleton).parameters == parameters_of(built(graph, skeleton))


@BOTH_SPACES
def test_random_networks_have_the_flops_that_were_counted(space: Space) -> None:
    for number, graph in enumerate(random_graphs(space, 15)):
        skeleton = TINY_SKELETONS[number % len(TINY_SKELETONS)]
        assert size(graph, skeleton).flops == flops_of(graph, skeleton)


def test_the_flops_of_the_papers_cell() -> None:
    graph = expand(named("paper"))
    assert size(graph, SMALL).flops == flops_of(graph, SMALL)
