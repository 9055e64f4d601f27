"""What a network costs, in closed form, without building it and without torch: parameters, FLOPs, and memory of a step.

Parameters are equal to those of `training.network`, to the last one (a test holds it). A convolution of k×k from a to b
channels has k²ab weights and its batch normalisation 2b; a depthwise one 9a and 2a; a separable one 9a + ab and 2b; no
biases. FLOPs are those of one forward pass of one image: two a multiply-add of the convolutions and the linear layer.
Memory is an estimate, within a few percent of what autograd keeps of the plain network (a test holds it).

What a process took beside what it had, its maximum over a step of the paper's cell, c0 = 16, 24×24 pixels, on a CPU
(torch 2.13, glibc), in feature maps that are kept: 1.08 to 1.32 of them; where they are computed again, 1.53 to 1.73
for 16 to 256 images, cells 1, 1 1 1, 3 1 1 and 2 2 2. The rest are gradients, which are there with all maps of one
cell, and workspaces. A test takes a fifth of that for an image of as many pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.skeleton import Skeleton

_WHOLE, _AGAIN = 1.2, 1.75  # what a step takes, in feature maps that it keeps, at the most


@dataclass(frozen=True, slots=True)
class Size:
    """Trainable parameters of a network, and FLOPs of one forward pass of one image."""

    parameters: int
    flops: int


def node_channels(graph: CellGraph, channels: int) -> list[int]:
    """Channels of every node's feature map, (nodes,), in a cell whose input has `channels`."""
    width = [0] * graph.nodes
    width[0] = channels
    for edge in graph.edges:
        width[edge.target] += primitives.output_channels(edge.operation, width[edge.source], channels)
    return width


def size(graph: CellGraph, skeleton: Skeleton) -> Size:
    """Parameters and FLOPs of the network that `skeleton` makes of the cell."""
    parameters = flops = 0
    final, height, width_of_map = skeleton.image_channels, skeleton.height, skeleton.width
    for channels, stride in skeleton.stem_convolutions():
        height, width_of_map = -(-height // stride), -(-width_of_map // stride)
        parameters += 9 * final * channels + 2 * channels
        flops += 2 * 9 * final * channels * height * width_of_map
        final = channels
    width = node_channels(graph, 1)  # in multiples of a stage's channels
    dense, depthwise, outputs = 0, 0, 0  # inputs of 1×1 and of 3×3 depthwise weights; channels that are normalised
    added: list[tuple[primitives.Primitive, int, int]] = []  # primitives of plugins, with inputs and outputs
    for edge in graph.edges:
        inputs = width[edge.source]
        if edge.operation == primitives.CONVOLUTION:
            dense, outputs = dense + inputs, outputs + 1
        elif edge.operation == primitives.DEPTHWISE:
            depthwise, outputs = depthwise + inputs, outputs + inputs
        elif edge.operation == primitives.SEPARABLE:
            dense, depthwise, outputs = dense + inputs, depthwise + inputs, outputs + 1
        elif (primitive := primitives.added(edge.operation)) is not None:
            added.append((primitive, inputs, primitives.output_channels(edge.operation, inputs, 1)))
    for stage in skeleton.stages():
        weights = dense * stage.channels**2 + 9 * depthwise * stage.channels
        parameters += weights + 2 * outputs * stage.channels
        flops += 2 * weights * stage.height * stage.width
        for primitive, before, behind in added:
            sizes = before * stage.channels, behind * stage.channels
            parameters += primitive.parameters(*sizes)
            flops += 2 * primitive.multiply_adds(*sizes) * stage.height * stage.width
        inputs, after = width[-1] * stage.channels, stage.next_channels
        parameters += 9 * inputs + inputs * after + 2 * after
        pixels_after = -(-stage.height // stage.stride) * -(-stage.width // stage.stride)
        flops += 2 * (9 * inputs + inputs * after) * pixels_after
        final = after
    parameters += final * skeleton.classes + skeleton.classes
    flops += 2 * final * skeleton.classes
    return Size(parameters, flops)


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What a training step keeps of one image for its backward pass: values of feature maps, and the positions of
    maxima, 8 bytes each. An estimate: libraries keep workspaces besides."""

    values: int
    places: int
    between: int  # of the values, those between blocks: cells, and what follows them
    largest: tuple[int, int]  # values and places within the cell that has most of them

    def bytes(self, width: int) -> int:
        """Bytes an image, where a value takes `width` bytes."""
        return self.values * width + 8 * self.places

    def bytes_recomputed(self, width: int) -> int:
        """Likewise where what is within a block is not kept, but computed again."""
        values, places = self.largest
        return (self.between + values) * width + 8 * places

    def taken(self, width: int) -> float:
        """Bytes an image that a step takes at the most, gradients and workspaces included."""
        return max(_WHOLE * self.bytes(width), self.taken_recomputed(width))  # the latter in networks of few cells

    def taken_recomputed(self, width: int) -> float:
        """Likewise where what is within a block is not kept, but computed again."""
        return _AGAIN * self.bytes_recomputed(width)


def step_memory(graph: CellGraph, skeleton: Skeleton) -> StepMemory:
    """What the plain network keeps of an image: each convolution's result before and after its normalisation and ReLU,
    that between the two convolutions of a separable one, concatenations, and the positions of maxima."""
    height, pixels_wide = skeleton.height, skeleton.width
    values, places, largest = skeleton.image_channels * height * pixels_wide, 0, (0, 0)
    for channels, stride in skeleton.stem_convolutions():
        height, pixels_wide = -(-height // stride), -(-pixels_wide // stride)
        values += 2 * channels * height * pixels_wide
    width = node_channels(graph, 1)  # in multiples of a stage's channels
    of_cell, maxima = 0, 0  # values, and positions of maxima, in the same multiples
    into: dict[int, list[int]] = {}
    for edge in graph.edges:
        inputs = width[edge.source]
        into.setdefault(edge.target, []).append(edge.operation)
        if edge.operation == primitives.CONVOLUTION:
            of_cell += 2
        elif edge.operation == primitives.DEPTHWISE:
            of_cell += 2 * inputs
        elif edge.operation == primitives.SEPARABLE:
            of_cell += inputs + 2
        elif edge.operation == primitives.MAX_POOLING:
            maxima += inputs
    pools = (primitives.MAX_POOLING, primitives.AVERAGE_POOLING)
    for node, operations in into.items():
        if len(operations) > 1 or node == graph.nodes - 1 or operations[0] in pools:
            of_cell += width[node]
    between = values
    for stage in skeleton.stages():
        pixels = stage.height * stage.width
        after = -(-stage.height // stage.stride) * -(-stage.width // stage.stride)
        largest = max(largest, (of_cell * stage.channels * pixels, maxima * stage.channels * pixels))
        between += width[-1] * stage.channels * pixels + stage.next_channels * after
        values += of_cell * stage.channels * pixels
        places += maxima * stage.channels * pixels
        values += (width[-1] * stage.channels + 2 * stage.next_channels) * after
    return StepMemory(values, places, between, largest)
