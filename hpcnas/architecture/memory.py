"""What a training step of a network keeps in memory until it goes backwards, without building it and without torch.

An estimate, within a few percent of what autograd keeps of the plain network (a test holds it).
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.sizes import node_channels
from hpcnas.architecture.skeleton import Skeleton


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What a training step keeps of one image until it goes backwards: values of feature maps, and places of maxima, 8
    bytes each. An estimate: libraries keep workspaces besides."""

    values: int
    places: int

    def bytes(self, width: int) -> int:
        """In so many bytes a value."""
        return self.values * width + 8 * self.places


def step_memory(graph: CellGraph, skeleton: Skeleton) -> StepMemory:
    """What the plain network keeps: each convolution's result before and after its normalisation and ReLU, a separable
    one's between its two convolutions, concatenations, and where maxima were."""
    height, pixels_wide = skeleton.height, skeleton.width
    values, places = skeleton.image_channels * height * pixels_wide, 0
    for channels, stride in skeleton.stem_convolutions():
        height, pixels_wide = -(-height // stride), -(-pixels_wide // stride)
        values += 2 * channels * height * pixels_wide
    width = node_channels(graph, 1)  # in multiples of a stage's channels
    of_cell, maxima = 0, 0  # likewise
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
    for stage in skeleton.stages():
        pixels = stage.height * stage.width
        after = -(-stage.height // stage.stride) * -(-stage.width // stage.stride)
        values += of_cell * stage.channels * pixels
        places += maxima * stage.channels * pixels
        values += (width[-1] * stage.channels + 2 * stage.next_channels) * after
    return StepMemory(values, places)
