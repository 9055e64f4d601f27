"""A network taken apart into blocks: which feature maps there are and what makes them, for the CPU and the GPU (D7).

Every map of a cell is a concatenation of parts as wide as the cell's input, its *blocks*. Taken apart into them,

    identity and concatenation   are only lists of blocks
    a pooling of a map           is a pooling of each of its blocks, and equal ones are one
    all other operations         read the blocks of a map, and make new ones

Where their numbers lie in memory is for `cpu.parameters` and `cuda.block_graph` to say, each in its way. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.skeleton import Skeleton


class OperationKind(Enum):
    """What makes blocks; convolutions are normalised and rectified."""

    STEM = auto()  # 3×3 convolution of the images
    CONVOLUTION = auto()  # 1×1
    DEPTHWISE = auto()  # 3×3, as many blocks as it reads
    SEPARABLE = auto()  # 3×3
    MAXIMUM = auto()  # 3×3 max-pooling of one block
    AVERAGE = auto()  # 3×3 average-pooling of one block


_KINDS = {
    primitives.CONVOLUTION: OperationKind.CONVOLUTION,
    primitives.DEPTHWISE: OperationKind.DEPTHWISE,
    primitives.SEPARABLE: OperationKind.SEPARABLE,
    primitives.MAX_POOLING: OperationKind.MAXIMUM,
    primitives.AVERAGE_POOLING: OperationKind.AVERAGE,
}
_POOLINGS = (OperationKind.MAXIMUM, OperationKind.AVERAGE)


@dataclass(frozen=True, slots=True)
class Block:
    """As many channels of a map as its cell's input has."""

    halvings: int  # how often the resolution was halved (rounding up) on the way to it
    channels: int


@dataclass(frozen=True, slots=True)
class Map:
    """The concatenation of blocks, all of one shape. The images are a map without blocks."""

    halvings: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """Makes blocks of those of a map."""

    kind: OperationKind
    source: int  # the map
    inputs: tuple[int, ...]  # its blocks, or the one that is pooled
    outputs: tuple[int, ...]  # blocks
    name: str = ""  # of its module in the plain network's state_dict, such as `blocks.0.edges.3`; poolings have none
    stride: int = 1


@dataclass(frozen=True, slots=True)
class BlockGraph:
    """A network: maps and blocks in an order in which each comes after those it is made of, operations in the order of
    the plain network. Map 0 is the images; the classifier averages map `final`."""

    blocks: tuple[Block, ...]
    maps: tuple[Map, ...]
    operations: tuple[Operation, ...]
    final: int


def take_apart(graph: CellGraph, skeleton: Skeleton) -> BlockGraph:
    """The network that `skeleton`, of a plain stem, makes of a cell. Raises ValueError for a primitive of a plugin."""
    builder = _GraphBuilder()
    images = builder.add_map(0)
    current = builder.add_map(0)
    builder.convolve(OperationKind.STEM, images, current, skeleton.channels, "stem")
    halvings = 0
    for number, stage in enumerate(skeleton.stages()):
        sink = builder.add_cell(f"blocks.{2 * number}.edges", graph, current, stage.channels)
        halvings += stage.stride == 2
        current = builder.add_map(halvings)
        name = f"blocks.{2 * number + 1}"
        builder.convolve(OperationKind.SEPARABLE, sink, current, stage.next_channels, name, stage.stride)
    return builder.graph(current)


class _GraphBuilder:
    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._maps: list[tuple[int, list[int]]] = []  # halvings and blocks
        self._operations: list[Operation] = []

    def graph(self, final: int) -> BlockGraph:
        maps = tuple(Map(halvings, tuple(blocks)) for halvings, blocks in self._maps)
        return BlockGraph(tuple(self._blocks), maps, tuple(self._operations), final)

    def add_map(self, halvings: int) -> int:
        """A map without blocks yet."""
        self._maps.append((halvings, []))
        return len(self._maps) - 1

    def _add_block(self, halvings: int, channels: int) -> int:
        self._blocks.append(Block(halvings, channels))
        return len(self._blocks) - 1

    def convolve(
        self, kind: OperationKind, source: int, target: int, channels: int, name: str, stride: int = 1
    ) -> None:
        """Adds to a map what an operation makes of another: one block, or of a depthwise one as many as it reads."""
        inputs, (halvings, made) = self._maps[source][1], self._maps[target]
        count = len(inputs) if kind is OperationKind.DEPTHWISE else 1
        outputs = [self._add_block(halvings, channels) for _ in range(count)]
        self._operations.append(Operation(kind, source, tuple(inputs), tuple(outputs), name, stride))
        made += outputs

    def add_cell(self, prefix: str, graph: CellGraph, source: int, channels: int) -> int:
        """The maps, blocks and operations of a cell; returns the map at its sink."""
        into = [sum(edge.target == node for edge in graph.edges) for node in range(graph.nodes)]
        maps = {0: source}  # by node; where an identity alone leads to a node, the map is that of the node before
        pooled: dict[tuple[OperationKind, int], int] = {}  # the block that a pooling of a block makes
        for number, edge in enumerate(graph.edges):
            origin = maps[edge.source]
            if edge.operation == primitives.IDENTITY and into[edge.target] == 1:
                maps[edge.target] = origin
                continue
            if edge.target not in maps:
                maps[edge.target] = self.add_map(self._maps[source][0])
            target = maps[edge.target]
            kind = _KINDS.get(edge.operation)
            if edge.operation == primitives.IDENTITY:
                self._maps[target][1].extend(self._maps[origin][1])
            elif kind is None:
                raise ValueError(f"expected a primitive's code from 1 to 6, got {edge.operation}")
            elif kind in _POOLINGS:
                made = [self._pool(kind, origin, block, pooled) for block in self._maps[origin][1]]
                self._maps[target][1].extend(made)
            else:
                self.convolve(kind, origin, target, channels, f"{prefix}.{number}")
        return maps[graph.nodes - 1]

    def _pool(self, kind: OperationKind, source: int, block: int, pooled: dict[tuple[OperationKind, int], int]) -> int:
        if (kind, block) not in pooled:
            pooled[kind, block] = self._add_block(self._blocks[block].halvings, self._blocks[block].channels)
            self._operations.append(Operation(kind, source, (block,), (pooled[kind, block],)))
        return pooled[kind, block]
