"""The blocks of a network as the GPU has them (D7): how wide each is, and where its numbers lie. No torch.

    blocks.take_apart ─► build ─► CudaGraph ─► `parameters`, `program`

Every operation makes one block: a depthwise convolution is one of each block, and a separable one is a depthwise one
without normalisation, then a 1×1 convolution. The stem is a 1×1 convolution of the nine pixels around each pixel.

A block that a normalised convolution has made is kept as it was before the normalisation; whatever reads it applies
that and the ReLU. Blocks are as wide as a power of two, 16 at the least: the channels in excess have zero weights, and
stay zero. Parameters lie in one flat array; `indices` says where each number of the plain network's state_dict is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.training.blocks import BlockGraph, Operation, OperationKind, take_apart

NARROWEST = 16  # channels of a block at the least: what matrix units multiply
_ALIGNMENT = 16  # numbers


class CudaKind(IntEnum):
    """What makes a block."""

    POINTWISE = 1  # 1×1 convolution of several blocks
    DEPTHWISE = 2  # 3×3
    MAXIMUM = 3  # 3×3 max-pooling
    AVERAGE = 4  # 3×3 average-pooling


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a block: how often the resolution was halved (rounding up) on the way to it, and its channels."""

    halvings: int
    channels: int


@dataclass(frozen=True, slots=True)
class CudaNormalisation:
    """Where a block's batch normalisation has its numbers: scale and shift among the parameters, statistics apart."""

    scale: int
    shift: int
    statistics: int


@dataclass(frozen=True, slots=True)
class CudaBlock:
    """A feature map of one block's width; what readers see is normalised and rectified, if it has a normalisation."""

    shape: Shape
    normalisation: CudaNormalisation | None


@dataclass(frozen=True, slots=True)
class CudaOperation:
    """Makes a block of others. `weights` is where its parameters begin: (inputs, channels, outputs) of a pointwise one,
    (9, channels) of a depthwise one; poolings have none."""

    kind: CudaKind
    inputs: tuple[int, ...]
    output: int
    weights: int = 0
    stride: int = 1


@dataclass(frozen=True)
class CudaGraph:
    """Blocks, in an order in which each comes after those it is made of, and the operations that make them.

    The first `images` blocks are not made but given: the nine pixels around each pixel, all channels of the first, then
    of the second …, for the stem. `final` is what the classifier averages.
    """

    blocks: tuple[CudaBlock, ...]
    operations: tuple[CudaOperation, ...]
    images: int
    final: int
    parameters: int  # numbers in the flat array
    statistics: int  # channels that are normalised
    classifier: int  # weights of the classifier among the parameters: (final channels, padded classes)
    bias: int  # (padded classes,)
    indices: dict[str, NDArray[np.int64]]  # state_dict name of a parameter → positions, in the plain shape
    statistics_indices: dict[str, NDArray[np.int64]]  # name of a normalisation → positions of its channels


def power_of_two(count: int) -> int:
    """The smallest that is not less."""
    return 1 << (count - 1).bit_length()


def padded(channels: int) -> int:
    """The power of two that holds so many, 16 at the least."""
    return max(NARROWEST, power_of_two(channels))


def build(graph: CellGraph, skeleton: Skeleton) -> CudaGraph:
    """The network of a cell's graph as blocks. Raises ValueError for a primitive of a plugin."""
    return _LayoutBuilder(take_apart(graph, skeleton), skeleton).build()


class _LayoutBuilder:
    def __init__(self, parts: BlockGraph, skeleton: Skeleton) -> None:
        self._parts = parts
        self._skeleton = skeleton
        self._blocks: list[CudaBlock] = []
        self._operations: list[CudaOperation] = []
        self._parameters = 0
        self._statistics = 0
        self._indices: dict[str, NDArray[np.int64]] = {}
        self._statistics_indices: dict[str, NDArray[np.int64]] = {}

    def build(self) -> CudaGraph:
        parts, skeleton = self._parts, self._skeleton
        inputs, width = 9 * skeleton.image_channels, padded(skeleton.channels)
        images = [self._block(Shape(0, width)) for _ in range(-(-inputs // width))]
        numbers: dict[int, int] = {}  # of blocks here, by their numbers among the parts
        for operation in parts.operations:
            origin = [numbers[block] for block in operation.inputs]
            numbers |= zip(operation.outputs, self._made(operation, origin, images), strict=True)
        (final,) = parts.maps[parts.final].blocks
        channels, classes = parts.blocks[final].channels, padded(skeleton.classes)
        classifier, bias = self._take(padded(channels) * classes), self._take(classes)
        rows, columns = np.ogrid[: skeleton.classes, :channels]
        self._indices["classifier.weight"] = classifier + columns * classes + rows
        self._indices["classifier.bias"] = bias + np.arange(skeleton.classes)
        return CudaGraph(
            blocks=tuple(self._blocks),
            operations=tuple(self._operations),
            images=len(images),
            final=numbers[final],
            parameters=self._parameters,
            statistics=self._statistics,
            classifier=classifier,
            bias=bias,
            indices=self._indices,
            statistics_indices=self._statistics_indices,
        )

    # ── operations ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _made(self, operation: Operation, origin: list[int], images: list[int]) -> list[int]:
        """The blocks that an operation makes of others."""
        name, made = operation.name, self._parts.blocks[operation.outputs[0]]
        shape = Shape(made.halvings, padded(made.channels))
        match operation.kind:
            case OperationKind.STEM:
                return [self._stem(images)]
            case OperationKind.MAXIMUM:
                return [self._pooling(CudaKind.MAXIMUM, *origin)]
            case OperationKind.AVERAGE:
                return [self._pooling(CudaKind.AVERAGE, *origin)]
            case OperationKind.CONVOLUTION:
                channels = self._parts.blocks[operation.inputs[0]].channels
                return [self._pointwise(f"{name}.0", f"{name}.1", origin, channels, made.channels, made.halvings)]
            case OperationKind.DEPTHWISE:
                outputs = self._normalised(shape, f"{name}.1", len(origin), made.channels)
                return self._depthwise(f"{name}.0", origin, outputs, made.channels, operation.stride)
            case OperationKind.SEPARABLE:
                channels = self._parts.blocks[operation.inputs[0]].channels
                between = [self._block(Shape(made.halvings, padded(channels))) for _ in origin]
                middle = self._depthwise(f"{name}.0", origin, between, channels, operation.stride)
                return [self._pointwise(f"{name}.1", f"{name}.2", middle, channels, made.channels, made.halvings)]

    def _stem(self, images: list[int]) -> int:
        """3×3 convolution of the images, as a pointwise one of the pixels' neighbourhoods."""
        count, channels = self._skeleton.image_channels, self._skeleton.channels
        output = self._normalised(Shape(0, padded(channels)), "stem.1", 1, channels)[0]
        width = padded(channels)
        weights = self._take(len(images) * width * width)
        outputs, inputs, rows, columns = np.ogrid[:channels, :count, :3, :3]
        self._indices["stem.0.weight"] = weights + ((rows * 3 + columns) * count + inputs) * width + outputs
        self._operations.append(CudaOperation(CudaKind.POINTWISE, tuple(images), output, weights))
        return output

    def _pooling(self, kind: CudaKind, block: int) -> int:
        output = self._block(self._blocks[block].shape)
        self._operations.append(CudaOperation(kind, (block,), output))
        return output

    def _depthwise(self, name: str, origin: list[int], outputs: list[int], channels: int, stride: int) -> list[int]:
        width = padded(channels)
        starts = np.array([self._take(9 * width) for _ in origin])
        blocks, inner, rows, columns = np.ogrid[: len(origin), :channels, :3, :3]
        places = starts[blocks] + (rows * 3 + columns) * width + inner
        self._indices[f"{name}.weight"] = places.reshape(len(origin) * channels, 1, 3, 3)
        for block, output, start in zip(origin, outputs, starts, strict=True):
            self._operations.append(CudaOperation(CudaKind.DEPTHWISE, (block,), output, int(start), stride))
        return outputs

    def _pointwise(
        self, name: str, normalisation: str, origin: list[int], channels: int, outputs: int, halvings: int
    ) -> int:
        width, wide = padded(channels), padded(outputs)
        output = self._normalised(Shape(halvings, wide), normalisation, 1, outputs)[0]
        weights = self._take(len(origin) * width * wide)
        result, blocks, inner = np.ogrid[:outputs, : len(origin), :channels]
        places = weights + (blocks * width + inner) * wide + result
        self._indices[f"{name}.weight"] = places.reshape(outputs, len(origin) * channels, 1, 1)
        self._operations.append(CudaOperation(CudaKind.POINTWISE, tuple(origin), output, weights))
        return output

    # ── blocks and numbers ──────────────────────────────────────────────────────────────────────────────────────────
    def _block(self, shape: Shape, normalisation: CudaNormalisation | None = None) -> int:
        self._blocks.append(CudaBlock(shape, normalisation))
        return len(self._blocks) - 1

    def _normalised(self, shape: Shape, name: str, count: int, channels: int) -> list[int]:
        """Blocks that share one batch normalisation of the plain network, `channels` of it each."""
        found, scales, shifts, statistics = [], [], [], []
        for _ in range(count):
            scales.append(self._take(shape.channels))
            shifts.append(self._take(shape.channels))
            statistics.append(self._statistics)
            self._statistics += shape.channels
            found.append(self._block(shape, CudaNormalisation(scales[-1], shifts[-1], statistics[-1])))
        self._indices[f"{name}.weight"] = _places(scales, channels)
        self._indices[f"{name}.bias"] = _places(shifts, channels)
        self._statistics_indices[name] = _places(statistics, channels)
        return found

    def _take(self, count: int) -> int:
        """Room for so many parameters, aligned."""
        start = self._parameters
        self._parameters += -(-count // _ALIGNMENT) * _ALIGNMENT
        return start


def _places(starts: Sequence[int], count: int) -> NDArray[np.int64]:
    """`count` positions from each start, one after the other."""
    return (np.array(starts, np.int64)[:, None] + np.arange(count)).reshape(-1)


def levels(graph: CudaGraph) -> list[list[CudaOperation]]:
    """Operations in groups that can run at the same time, one group after the other."""
    level = [0] * len(graph.blocks)
    grouped: list[list[CudaOperation]] = []
    for operation in graph.operations:
        depth = max(level[block] for block in operation.inputs)
        level[operation.output] = depth + 1
        if depth == len(grouped):
            grouped.append([])
        grouped[depth].append(operation)
    return grouped


def consumers(graph: CudaGraph) -> list[list[tuple[CudaOperation, int]]]:
    """Of every block: the operations that read it, with the number of the input that it is."""
    found: list[list[tuple[CudaOperation, int]]] = [[] for _ in graph.blocks]
    for operation in graph.operations:
        for number, block in enumerate(operation.inputs):
            found[block].append((operation, number))
    return found


def backward_levels(graph: CudaGraph) -> list[list[int]]:
    """Blocks, but for the final one, in groups whose gradients can be gathered at the same time, in that order."""
    level = {graph.final: 0}
    grouped: list[list[int]] = []
    reading = consumers(graph)
    for block in reversed(range(len(graph.blocks))):
        if block == graph.final:
            continue
        depth = 1 + max(level[operation.output] for operation, _ in reading[block])
        level[block] = depth
        while len(grouped) < depth:
            grouped.append([])
        grouped[depth - 1].append(block)
    return grouped
