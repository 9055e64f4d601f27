"""The plain network of a genotype: one module an edge, concatenation at every node (§2, eq. 2; §4.1).

The reference for what a genotype means; faster forms must compute the same. How it is trained is not its business,
but that a training may join the inputs of nodes in a way of its own (`Join`), with the same weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.sizes import node_channels
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.training import operations

Join = Callable[[int, list[Tensor]], Tensor]
"""How a node's inputs become its value: the node and its inputs (N, C_i, H, W) → (N, ΣC_i, H, W)."""


def concatenated(node: int, inputs: list[Tensor]) -> Tensor:
    """merge of eq. 2, at every node alike."""
    return torch.cat(inputs, dim=1)


@contextlib.contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Modules that are made in this block get the initial weights of a seed, which depend on nothing else.

    PyTorch draws them from the global generator, which is afterwards as it was. Not for several threads at a time.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Cell(nn.Module):
    """A cell of primitives: (N, channels, H, W) → (N, output_channels, H, W), the concatenation at its sink."""

    def __init__(self, graph: CellGraph, channels: int, join: Join = concatenated) -> None:
        super().__init__()
        self.join = join
        width = node_channels(graph, channels)
        self.graph = graph
        self.output_channels = width[-1]
        self.edges = nn.ModuleList(
            operations.build(edge.operation, width[edge.source], channels) for edge in graph.edges
        )

    def forward(self, x: Tensor) -> Tensor:
        """x_j = concatenation of o_ij(x_i) over the edges into j."""
        inputs: list[list[Tensor]] = [[] for _ in range(self.graph.nodes)]
        inputs[0].append(x)
        for edge, operation in zip(self.graph.edges, self.edges, strict=True):
            source = inputs[edge.source]
            if len(source) > 1:  # complete: every edge into it stands before the first edge out of it
                inputs[edge.source] = source = [self.join(edge.source, source)]
            inputs[edge.target].append(operation(source[0]))
        return self.join(self.graph.nodes - 1, inputs[-1])


class Network(nn.Module):
    """The cells of a skeleton with what surrounds them: (N, image channels, H, W) → class scores (N, classes)."""

    def __init__(self, graph: CellGraph, skeleton: Skeleton, join: Join = concatenated) -> None:
        super().__init__()
        channels, stem = skeleton.image_channels, []
        for outputs, stride in skeleton.stem_convolutions():
            stem.append(operations.convolution(channels, outputs, 3, stride))
            channels = outputs
        self.stem = stem[0] if len(stem) == 1 else nn.Sequential(*stem)
        blocks: list[nn.Module] = []
        for stage in skeleton.stages():
            cell = Cell(graph, stage.channels, join)
            blocks += [cell, operations.separable(cell.output_channels, stage.next_channels, stage.stride)]
            channels = stage.next_channels
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, skeleton.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Scores before the softmax; images of any size."""
        return self.classify(self.blocks(self.stem(images)))

    def classify(self, maps: Tensor) -> Tensor:
        """Scores of the last feature maps (N, C, H, W): global average pooling, then the linear layer."""
        scores: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return scores
