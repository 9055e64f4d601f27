"""The plain network of a genotype: one module an edge, concatenation at every node (§2, eq. 2; §4.1).

The reference for what a genotype means; faster forms must compute the same. How it is trained is not its business,
but that a training may join the inputs of nodes in a way of its own (`Join`), with the same weights.

Maps are float, (N, C, H, W). Operations have stride 1 and are padded to keep the resolution. Convolutions have no bias;
a separable one is depthwise 3×3 then pointwise 1×1 with batch normalisation and ReLU once, after the pointwise (P1).
Average-pooling counts only pixels of the image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.sizes import node_channels
from hpcnas.architecture.skeleton import Skeleton


# ── operations (§2.3) ───────────────────────────────────────────────────────────────────────────────────────────────
def _normalised(*convolutions: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(*convolutions, nn.BatchNorm2d(channels), nn.ReLU())


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """k×k convolution, BN, ReLU: (N, inputs, H, W) → (N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
    return _normalised(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False), channels=outputs
    )


def depthwise(channels: int) -> nn.Sequential:
    """3×3 depthwise convolution, BN, ReLU: the shape stays."""
    return _normalised(nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False), channels=channels)


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3×3 separable convolution, BN, ReLU: (N, inputs, H, W) → (N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
    return _normalised(
        nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        channels=outputs,
    )


def primitive(operation: int, inputs: int, cell_channels: int) -> nn.Module:
    """The module of a primitive's code; its output channels are `primitives.output_channels`'."""
    match operation:
        case primitives.CONVOLUTION:
            return convolution(inputs, cell_channels, 1)
        case primitives.DEPTHWISE:
            return depthwise(inputs)
        case primitives.SEPARABLE:
            return separable(inputs, cell_channels)
        case primitives.MAX_POOLING:
            return nn.MaxPool2d(3, stride=1, padding=1)
        case primitives.AVERAGE_POOLING:
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        case primitives.IDENTITY:
            return nn.Identity()
    if (added := primitives.added(operation)) is not None:
        module: nn.Module = added.build(inputs, primitives.output_channels(operation, inputs, cell_channels))
        return module
    raise ValueError(f"expected a primitive's code from 1 to {len(primitives.NAMES)}, got {operation}")


# ── cells and networks ──────────────────────────────────────────────────────────────────────────────────────────────
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
        self.edges = nn.ModuleList(primitive(edge.operation, width[edge.source], channels) for edge in graph.edges)

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
            stem.append(convolution(channels, outputs, 3, stride))
            channels = outputs
        self.stem = stem[0] if len(stem) == 1 else nn.Sequential(*stem)
        blocks: list[nn.Module] = []
        for stage in skeleton.stages():
            cell = Cell(graph, stage.channels, join)
            blocks += [cell, separable(cell.output_channels, stage.next_channels, stage.stride)]
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
