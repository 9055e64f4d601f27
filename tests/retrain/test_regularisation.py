"""Regularisation, part by part: which values come out, how often, and that nothing happens unless it is asked for."""

from __future__ import annotations

import math

import pytest
import torch
from test_mutation import assert_share, assert_uniform
from torch import Tensor, nn

from hpcnas.architecture.expansion import CellGraph, Edge, expand
from hpcnas.architecture.genotype import named
from hpcnas.architecture.primitives import CONVOLUTION, IDENTITY
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.retrain.draws import ImageDraws
from hpcnas.retrain.regularisation import AuxiliaryHead, DropPath, WithAuxiliaryHead, cutout, loss
from hpcnas.training.network import Network, concatenated

torch.set_num_threads(1)

SKELETON = Skeleton(3, 8, 8, 10, channels=2, cells=(1, 1, 1))
# 0 ─→ 1 ⇉ 2: node 1 has one input, node 2 three: two convolutions and, in WITH_IDENTITY, an identity between them.
FORK = CellGraph(3, (Edge(0, 1, CONVOLUTION), *[Edge(1, 2, CONVOLUTION)] * 3))
WITH_IDENTITY = CellGraph(
    3, (Edge(0, 1, CONVOLUTION), Edge(1, 2, CONVOLUTION), Edge(1, 2, IDENTITY), Edge(1, 2, CONVOLUTION))
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawing(generator: torch.Generator, images: int) -> ImageDraws:
    draws = ImageDraws(torch.device("cpu"))
    draws.begin([generator], [images], slice(0, images))
    return draws


# Cutout


def blank(image: Tensor) -> list[tuple[int, int]]:
    """(row, column) of the pixels that are 0 in all channels."""
    return [(row, column) for row, column in (image == 0).all(dim=0).nonzero().tolist()]


@pytest.mark.parametrize("side", [1, 2, 3, 4, 20])
def test_a_square_around_the_drawn_centre_is_blank(side: int) -> None:
    generator, twin = seeded(3), seeded(3)
    images = cutout(torch.ones(40, 2, 5, 6), side, generator)
    rows, columns = (torch.randint(size, (40, 1), generator=twin).flatten().tolist() for size in (5, 6))
    for image, row, column in zip(images, rows, columns, strict=True):
        expected = [
            (r, c)
            for r in range(row - side // 2, row - side // 2 + side)
            for c in range(column - side // 2, column - side // 2 + side)
            if 0 <= r < 5 and 0 <= c < 6
        ]
        assert blank(image) == expected
        assert image.unique().tolist() in ([0.0, 1.0], [0.0])
    assert torch.equal(generator.get_state(), twin.get_state())


def test_every_pixel_is_the_centre_equally_often() -> None:
    images = cutout(torch.ones(9_000, 1, 3, 3), 1, seeded())
    assert_uniform([blank(image)[0] for image in images], [(row, column) for row in range(3) for column in range(3)])


def test_a_square_without_a_side_is_none() -> None:
    images = torch.randn(4, 3, 5, 6, generator=seeded())
    assert torch.equal(cutout(images, 0, seeded()), images)


# Drop-path


def joined(graph: CellGraph, probability: float, node: int, inputs: int, images: int) -> Tensor:
    """What drop-path makes of inputs of one channel and one pixel, all 1: (images, inputs)."""
    path = DropPath(graph, drawing(seeded(), images))
    path.probability = probability
    return path(node, [torch.ones(images, 1, 1, 1)] * inputs)[:, :, 0, 0]


@pytest.mark.parametrize(
    ("graph", "survival"),
    [
        pytest.param(FORK, [0.6 + 0.4**3 / 3] * 3, id="one survives"),
        pytest.param(WITH_IDENTITY, [0.6, 1.0, 0.6], id="the identity stays"),
    ],
)
def test_inputs_are_missing_as_often_as_they_should_and_keep_their_expectation(
    graph: CellGraph, survival: list[float]
) -> None:
    values = joined(graph, 0.4, node=2, inputs=3, images=20_000)
    assert (values.amax(dim=1) > 0).all()
    for column, share in enumerate(survival):
        there = values[:, column] > 0
        assert_share(int(there.sum()), 20_000, share)
        assert values[there, column].unique().tolist() == pytest.approx([1 / share])


def test_inputs_are_missing_independently() -> None:
    values = joined(WITH_IDENTITY, 0.4, node=2, inputs=3, images=20_000) == 0
    assert_share(int((values[:, 0] & values[:, 2]).sum()), 20_000, 0.4**2)


def test_whole_inputs_are_missing_of_single_images() -> None:
    path = DropPath(FORK, drawing(seeded(1), 50))
    path.probability = 0.5
    value = path(2, [torch.full((50, channels, 2, 3), 1.0) for channels in (2, 1, 3)])
    parts = value.split([2, 1, 3], dim=1)
    for part in parts:
        of_image = part.flatten(1)
        assert (of_image == of_image[:, :1]).all()  # all channels and pixels, or none
        assert 0 < (of_image[:, 0] == 0).sum() < 50


def test_a_nodes_only_input_stays() -> None:
    assert joined(FORK, 0.9, node=1, inputs=1, images=100).unique().tolist() == [1.0]


@pytest.mark.parametrize("off", ["probability 0", "evaluation"])
def test_switched_off_it_is_the_plain_network_with_the_plain_networks_weights(off: str) -> None:
    graph, generator = expand(named("paper")), seeded()
    before = generator.get_state()
    torch.manual_seed(0)
    path = DropPath(graph, drawing(generator, 4))
    plain, network = Network(graph, SKELETON), Network(graph, SKELETON, path)
    network.load_state_dict(plain.state_dict())
    assert list(network.state_dict()) == list(plain.state_dict())
    if off == "evaluation":
        path.probability = 0.5
        plain.eval(), network.eval()
    images = torch.randn(4, 3, 8, 8)
    assert torch.equal(network(images), plain(images))
    assert torch.equal(generator.get_state(), before)


def test_in_training_it_changes_the_network_as_its_generator_says() -> None:
    graph, generator = expand(named("paper")), seeded()
    torch.manual_seed(0)
    path = DropPath(graph, drawing(generator, 4))
    network, images = Network(graph, SKELETON, path), torch.randn(4, 3, 8, 8)
    path.probability = 0.3
    first, second = network(images), network(images)
    generator.manual_seed(0)
    assert torch.equal(network(images), first) and not torch.equal(first, second)
    first.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def test_the_plain_networks_are_concatenated() -> None:
    inputs = [torch.zeros(2, 1, 1, 1), torch.ones(2, 2, 1, 1)]
    assert concatenated(5, inputs)[:, :, 0, 0].tolist() == [[0.0, 1.0, 1.0]] * 2


@pytest.mark.parametrize("probability", [1.0, -0.1, float("nan")])
def test_what_is_no_probability_is_refused(probability: float) -> None:
    path = DropPath(FORK, drawing(seeded(), 1))
    with pytest.raises(ValueError, match="expected a probability from 0 to less than 1"):
        path.probability = probability
    assert path.probability == 0


# Labels


def test_smoothed_labels_by_hand() -> None:
    scores = torch.tensor([[math.log(6.0), math.log(3.0), 0.0]])  # shares 0.6, 0.3, 0.1
    expected = -(0.7 + 0.1) * math.log(0.6) - 0.1 * math.log(0.3) - 0.1 * math.log(0.1)
    assert loss(scores, torch.tensor([0]), smoothing=0.3).item() == pytest.approx(expected)
    assert loss(scores, torch.tensor([0])).item() == pytest.approx(-math.log(0.6))


# The second classifier


@pytest.mark.parametrize("side", [1, 3, 6, 8, 19])
def test_the_head_takes_feature_maps_of_any_size(side: int) -> None:
    head = AuxiliaryHead(5, classes=7)
    assert head(torch.randn(2, 5, side, side)).shape == (2, 7)
    sizes = [parameter.numel() for parameter in head.parameters() if parameter.ndim > 1]
    assert sizes == [5 * 128, 4 * 128 * 768, 768 * 7]


@pytest.mark.parametrize(
    ("cells_per_group", "groups", "blocks", "channels"), [(1, 1, 2, 2), (1, 3, 4, 8), (2, 3, 8, 8), (1, 4, 6, 16)]
)
def test_the_head_stands_two_thirds_of_the_way_up(
    cells_per_group: int, groups: int, blocks: int, channels: int
) -> None:
    skeleton = Skeleton(3, 8, 8, 10, 2, (cells_per_group,) * groups)
    network = Network(CellGraph(2, (Edge(0, 1, CONVOLUTION),)), skeleton)
    reached: list[int] = []
    both = WithAuxiliaryHead(network, skeleton)
    both.auxiliary.register_forward_hook(lambda _, inputs, __: reached.append(inputs[0].shape[1]))
    _, auxiliary = both(torch.randn(2, 3, 8, 8))
    assert auxiliary.shape == (2, 10) and reached == [channels]
    auxiliary.sum().backward()
    with_gradient = [any(p.grad is not None for p in block.parameters()) for block in network.blocks]
    assert with_gradient == [number < blocks for number in range(len(network.blocks))]


def test_the_network_under_the_head_is_itself() -> None:
    torch.manual_seed(0)
    network = Network(expand(named("paper")), SKELETON)
    both = WithAuxiliaryHead(network, SKELETON).eval()
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(both(images)[0], network(images))
    assert isinstance(both.network, nn.Module) and both.network is network
