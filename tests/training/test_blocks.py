"""Networks as graphs of blocks: the same function as the plain network, and an order that can be run."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from test_cpu_program import batch, flat
from torch import Tensor
from torch.nn import functional

from hpcnas import seeds
from hpcnas.architecture import mutation, sizes
from hpcnas.architecture.expansion import expand, is_valid
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.architecture.space import FLAT, HIERARCHICAL, Space
from hpcnas.training.cuda import block_graph
from hpcnas.training.cuda.block_graph import CudaGraph, CudaKind, CudaOperation, Shape
from hpcnas.training.network import Network

torch.set_num_threads(1)


def scores(graph: CudaGraph, parameters: Tensor, images: Tensor, classes: int) -> Tensor:
    """What a graph means, in plain words: parameters (numbers,), images (B, C, H, W) → scores (B, classes)."""
    neighbours = functional.unfold(images, 3, padding=1).unflatten(1, (images.shape[1], 9)).transpose(1, 2)
    neighbours = neighbours.flatten(1, 2).unflatten(2, images.shape[2:])
    width = graph.blocks[0].shape.channels
    neighbours = functional.pad(neighbours, (0, 0, 0, 0, 0, graph.images * width - neighbours.shape[1]))
    maps: list[Tensor | None] = [None] * len(graph.blocks)
    maps[: graph.images] = neighbours.split(width, dim=1)
    for operation in graph.operations:
        inputs = [maps[number] for number in operation.inputs]
        made = raw(operation, inputs, parameters, graph.blocks[operation.output].shape)
        normalisation = graph.blocks[operation.output].normalisation
        if normalisation is not None:
            scale, shift = (
                parameters[start : start + made.shape[1]] for start in (normalisation.scale, normalisation.shift)
            )
            made = functional.batch_norm(made, None, None, scale, shift, training=True).relu()
        maps[operation.output] = made
    mean = maps[graph.final].mean(dim=(2, 3))
    padded = block_graph.padded(classes)
    weights = parameters[graph.classifier : graph.classifier + mean.shape[1] * padded].reshape(-1, padded)
    return (mean @ weights + parameters[graph.bias : graph.bias + padded])[:, :classes]


def raw(operation: CudaOperation, inputs: list[Tensor], parameters: Tensor, shape: Shape) -> Tensor:
    channels, weights = inputs[0].shape[1], parameters[operation.weights :]
    match operation.kind:
        case CudaKind.POINTWISE:
            together = torch.cat(inputs, dim=1)
            matrix = weights[: together.shape[1] * shape.channels].reshape(together.shape[1], shape.channels)
            return torch.einsum("bchw,cd->bdhw", together, matrix)
        case CudaKind.DEPTHWISE:
            filters = weights[: 9 * channels].reshape(3, 3, channels).permute(2, 0, 1)[:, None]
            return functional.conv2d(inputs[0], filters, stride=operation.stride, padding=1, groups=channels)
        case CudaKind.MAXIMUM:
            return functional.max_pool2d(inputs[0], 3, 1, 1)
        case CudaKind.AVERAGE:
            return functional.avg_pool2d(inputs[0], 3, 1, 1, count_include_pad=False)


def valid(space: Space, number: int) -> Genotype:
    generator = seeds.birth_generator(7, number)
    return mutation.redraw_until(lambda: mutation.diversified(space, 300, generator), is_valid)[0]


def assert_same_function(genotype: Genotype, skeleton: Skeleton) -> None:
    """Scores, and every gradient where `indices` says; whatever is in excess has none."""
    graph = block_graph.build(expand(genotype), skeleton)
    torch.manual_seed(1)
    network = Network(expand(genotype), skeleton).double()
    parameters = torch.zeros(graph.parameters, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter += 0.3 * torch.rand_like(parameter)
            parameters[graph.indices[name]] = parameter
    parameters.requires_grad_()
    images, labels = batch(skeleton, 3, 5, 6)
    expected, found = network(images), scores(graph, parameters, images, skeleton.classes)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    functional.cross_entropy(expected, labels).backward()
    functional.cross_entropy(found, labels).backward()
    rest = parameters.grad.clone()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameters.grad[graph.indices[name]], parameter.grad, rtol=1e-9, atol=1e-9)
        rest[graph.indices[name]] = 0
    assert not rest.any()


@pytest.mark.parametrize("space", [HIERARCHICAL, FLAT, Space.parse("3x3/2x3/1x4")], ids=str)
def test_random_genotypes_compute_what_the_plain_network_computes(space: Space) -> None:
    for number in range(20):
        channels = 1 if space == FLAT else (3, 4, 16, 17)[number % 4]
        assert_same_function(valid(space, number), Skeleton((1, 3)[number % 2], 5, 6, 5, channels, (1, 1)))


def test_cells_of_one_group_follow_each_other_at_one_resolution() -> None:
    assert_same_function(named("paper"), Skeleton(3, 5, 6, 10, 2, (2, 2)))


def test_every_parameter_has_one_place_of_its_own() -> None:
    skeleton = Skeleton(3, 32, 32, 10, 16, (1, 1, 1))
    graph = block_graph.build(expand(named("paper")), skeleton)
    places = np.concatenate([indices.ravel() for indices in graph.indices.values()])
    assert len(np.unique(places)) == len(places) == sizes.size(expand(named("paper")), skeleton).parameters
    assert 0 <= places.min() and places.max() < graph.parameters
    channels = np.concatenate(list(graph.statistics_indices.values()))
    assert len(np.unique(channels)) == len(channels) <= graph.statistics


def test_identities_and_concatenations_cost_nothing_and_equal_poolings_are_one() -> None:
    genotype = flat("1-2 id, 1-3 max, 2-3 max, 1-4 avg, 3-4 id, 3-5 1x1, 4-5 id", 5)
    graph = block_graph.build(expand(genotype), Skeleton(3, 8, 8, 10, 16, (1,)))
    in_cell = [operation.kind for operation in graph.operations if operation.kind is not CudaKind.DEPTHWISE][1:-1]
    assert in_cell == [CudaKind.MAXIMUM, CudaKind.AVERAGE, CudaKind.POINTWISE]
    convolution = next(operation for operation in graph.operations[2:] if operation.kind is CudaKind.POINTWISE)
    assert convolution.inputs == (3, 3)  # the one max-pooling, twice


@pytest.mark.parametrize(("channels", "width"), [(1, 16), (16, 16), (17, 32), (32, 32), (100, 128)])
def test_blocks_are_padded_to_powers_of_two(channels: int, width: int) -> None:
    assert block_graph.padded(channels) == width


def test_levels_hold_what_depends_on_none_of_the_others() -> None:
    graph = block_graph.build(expand(named("paper")), Skeleton(3, 32, 32, 10, 16, (1, 1, 1)))
    levels = block_graph.levels(graph)
    assert sorted(map(id, itertools.chain(*levels))) == sorted(map(id, graph.operations))
    made = set(range(graph.images))
    for level in levels:
        assert all(made >= set(operation.inputs) for operation in level)
        made |= {operation.output for operation in level}
    gathered = {graph.final}
    reading = block_graph.consumers(graph)
    for numbers in block_graph.backward_levels(graph):
        assert all(gathered >= {operation.output for operation, _ in reading[number]} for number in numbers)
        gathered |= set(numbers)
    assert gathered == set(range(len(graph.blocks)))
