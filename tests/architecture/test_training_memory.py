"""What a training step keeps of an image: against what autograd saves for the backward pass of real networks."""

from __future__ import annotations

import pytest
import torch
from test_sizes import TINY_SKELETONS, random_graphs
from torch import Tensor

from hpcnas.architecture.expansion import CellGraph, expand
from hpcnas.architecture.genotype import named
from hpcnas.architecture.sizes import step_memory
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.architecture.space import HIERARCHICAL
from hpcnas.training.network import Network

torch.set_num_threads(1)


def kept_by(graph: CellGraph, skeleton: Skeleton) -> int:
    """Bytes of feature maps that autograd keeps of two images, less those of one: so without weights."""
    sizes = []
    for images in (2, 3):
        network = Network(graph, skeleton)
        weights = {parameter.data_ptr() for parameter in network.parameters()}
        found: dict[int, int] = {}

        def keep(tensor: Tensor, weights: set[int] = weights, found: dict[int, int] = found) -> Tensor:
            if tensor.data_ptr() not in weights:
                found[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            scores = network(torch.zeros(images, skeleton.image_channels, skeleton.height, skeleton.width))
        sizes.append(sum(found.values()))
        del scores
    return sizes[1] - sizes[0]


def test_what_a_training_step_keeps_of_an_image() -> None:
    for number, graph in enumerate([expand(named("paper")), *random_graphs(HIERARCHICAL, 3)]):
        skeleton = TINY_SKELETONS[1 + number % 3]
        assert step_memory(graph, skeleton).bytes(4) == pytest.approx(kept_by(graph, skeleton), rel=0.05)
