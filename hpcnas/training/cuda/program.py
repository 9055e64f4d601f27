"""A block plan for batches of one shape: where its blocks lie, and the launches of a step (D7).

    take_images ─► forward, level by level ─► head ─► backward, level by level ─► conclude ─► update

A level holds operations that depend on none of the others; those of one kind and shape are one launch. All launches are
of the kernels in `forward` and `backward`, in an order that depends on the genotype and on nothing that is
computed, and nothing is allocated by them: so a step can be captured once as a CUDA graph and replayed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpcnas.training.cuda import backward, block_graph, block_layout, forward
from hpcnas.training.cuda.block_graph import CudaKind, CudaOperation, Shape
from hpcnas.training.cuda.parameters import CudaPlan, Draws, Pixels, Room

TILES: dict[str | tuple[str, int], tuple[int, int]] = {
    "images": (4096, 4),
    "pointwise": (4096, 2),
    "pointwise back": (4096, 2),
    ("pointwise back", 64): (8192, 4),
    "strided": (4096, 4),
    "columns": (512, 4),
    ("columns", 16): (1024, 2),
    "columns back": (256, 2),
    "normalised back": (512, 1),
}
"""Numbers of a block in one program (in one row, of those that go down the rows) and its warps; by kernel, and by
channels where that matters. The fastest of those tried on an H100 with the paper's cell, c0 = 16, four networks."""

SPAN = 24  # rows that one program goes down at the most
_IMAGES_A_PROGRAM = 8  # of the head
_SMALL_TILE = 1024  # of the kernels that run along parameters
_UNIT = block_layout.UNIT.value
Grid = tuple[int, ...]


def available(device: torch.device) -> bool:
    """Whether the kernels run on a device: a GPU, or the CPU where Triton interprets them."""
    return device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"


@dataclass(eq=False)
class Table:
    """Rows of numbers for kernels; once they are complete, `tensor` is int64 (rows, width) on the device."""

    width: int
    rows: list[list[int]] = field(default_factory=list)
    tensor: Tensor | None = None

    def extend(self, rows: Sequence[list[int]]) -> int:
        """Adds rows; returns the number of the first."""
        assert all(len(row) == self.width for row in rows), "a table's rows are of its width"
        self.rows += rows
        return len(self.rows) - len(rows)

    def complete(self, device: torch.device) -> None:
        self.tensor = torch.from_numpy(np.array(self.rows or [[0] * self.width], np.int64)).to(device)


@dataclass(frozen=True)
class Launch:
    """One kernel with all it is given."""

    kernel: Any
    grid: Grid
    arguments: tuple[Any, ...]
    constants: dict[str, Any]

    def __call__(self) -> None:
        arguments = (value.tensor if isinstance(value, Table) else value for value in self.arguments)
        self.kernel[self.grid](*arguments, **self.constants)


class CudaProgram:
    """A plan for batches of one shape, for training or for validation. Programs of one room are never used by turns
    within a step."""

    def __init__(
        self,
        plan: CudaPlan,
        room: Room,
        pixels: Pixels,
        draws: Draws,
        size: tuple[int, int],
        training: bool,
    ) -> None:
        """`size`: height and width of the crops; as many images a batch as `draws` has."""
        self._plan = plan
        self._pixels = pixels
        self._draws = draws
        self._batch = draws.order.shape[2]
        self._training = training
        deepest = max(block.shape.halvings for block in plan.graph.blocks)
        self._sizes = [size]
        for _ in range(deepest):
            self._sizes.append((-(-self._sizes[-1][0] // 2), -(-self._sizes[-1][1] // 2)))
        maps, winners = self._lay_out()
        self._maps = room.take("maps", maps, plan.map_type)
        self._winners = room.take("winners", winners, torch.uint8)
        self._operands = Table(block_layout.OPERAND.value)
        self._rows = Table(block_layout.OPERATION.value)
        self._backward = Table(block_layout.BACKWARD.value)
        self.launches: list[Launch] = []
        self._schedule()
        for table in (self._operands, self._rows, self._backward):
            table.complete(plan.device)

    # ── where blocks lie ────────────────────────────────────────────────────────────────────────────────────────────
    def _count(self, shape: Shape) -> int:
        """Pixels of a block of one network."""
        height, width = self._sizes[shape.halvings]
        return self._batch * height * width

    def _lay_out(self) -> tuple[int, int]:
        """Decides where each block, its gradient and its winners begin, in units; −1 where there is none. Returns how
        many numbers there are of maps (with gradients), and of winners."""
        graph, used, winners = self._plan.graph, 0, 0
        pooled = {operation.output for operation in graph.operations if operation.kind is CudaKind.MAXIMUM}
        self._raw, self._gradient, self._winner = ([-1] * len(graph.blocks) for _ in range(3))
        for number, block in enumerate(graph.blocks):
            units = _ceil(self._plan.networks * self._count(block.shape) * block.shape.channels, _UNIT)
            self._raw[number], used = used, used + units
            if self._training and number >= graph.images:
                self._gradient[number], used = used, used + units
            if self._training and number in pooled:
                self._winner[number], winners = winners, winners + units
        return used * _UNIT, max(1, winners) * _UNIT

    def _fields(self, number: int, weights: int = 0) -> list[int]:
        """A block as `block_layout.OPERAND` says, with the weights that are applied to it."""
        own = self._plan.graph.blocks[number].normalisation
        places = [0, 0, 0] if own is None else [own.statistics, own.scale, own.shift]
        aligned = [place // block_layout.ALIGNMENT.value for place in (*places, weights)]
        return [self._raw[number], self._gradient[number], own is not None, *aligned, max(0, self._winner[number])]

    def _operand(self, operation: CudaOperation, position: int, number: int) -> list[int]:
        """A block with the weights that stand between an operation's result and its input at a position."""
        found, weights = self._plan.graph.blocks, operation.weights
        if operation.kind is CudaKind.POINTWISE:
            weights += position * found[operation.inputs[0]].shape.channels * found[operation.output].shape.channels
        return self._fields(number, weights)

    # ── launches ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _schedule(self) -> None:
        graph = self._plan.graph
        self._take_images(self._rows.extend([[*self._fields(number), 0, 0] for number in range(graph.images)]))
        for level in block_graph.levels(graph):
            for (kind, source, target, stride), operations in _grouped(level, self._kind_and_shapes):
                self._forward(kind, source, target, stride, self._forward_rows(operations), len(operations))
        self._head(self._backward.extend([[*self._fields(graph.final), 0, 0, False, True]]))
        if not self._training:
            return
        self._through_normalisations([graph.final])
        reading = block_graph.consumers(graph)
        for numbers in block_graph.backward_levels(graph):
            turns = {number: _turns(reading[number]) for number in numbers}
            for turn in range(max(len(found) for found in turns.values())):
                now = [(number, turns[number]) for number in numbers if turn < len(turns[number])]
                groups = _grouped([(number, found[turn]) for number, found in now], self._shapes_back)
                for (kind, shape, outputs, stride), members in groups:
                    rows = [
                        self._backward_row(number, readers, turn > 0, turn == len(turns[number]) - 1)
                        for number, readers in members
                    ]
                    self._back(kind, shape, outputs, stride, self._backward.extend(rows), len(rows))
            self._through_normalisations(numbers)
        self._conclude()

    def _kind_and_shapes(self, operation: CudaOperation) -> tuple[CudaKind, Shape, Shape, int]:
        found = self._plan.graph.blocks
        return operation.kind, found[operation.inputs[0]].shape, found[operation.output].shape, operation.stride

    def _forward_rows(self, operations: list[CudaOperation]) -> int:
        rows = []
        for operation in operations:
            operands = [self._operand(operation, *entry) for entry in enumerate(operation.inputs)]
            rows.append([*self._fields(operation.output), self._operands.extend(operands), len(operands)])
        return self._rows.extend(rows)

    def _shapes_back(self, member: tuple[int, list[tuple[CudaOperation, int]]]) -> tuple[CudaKind, Shape, int, int]:
        """(kind of the readers, shape of the block, channels of what they make, stride)."""
        number, readers = member
        found, operation = self._plan.graph.blocks, readers[0][0]
        made = {found[operation.output].shape.channels for operation, _ in readers}
        assert len(made) == 1, "the 1×1 convolutions of one block have outputs of one width"
        return operation.kind, found[number].shape, made.pop(), operation.stride

    def _backward_row(
        self, number: int, readers: list[tuple[CudaOperation, int]], begun: bool, last: bool
    ) -> list[int]:
        operands = [self._operand(operation, position, operation.output) for operation, position in readers]
        return [*self._fields(number), self._operands.extend(operands), len(operands), begun, last]

    def _tile(self, what: str, channels: int) -> dict[str, int]:
        numbers, warps = TILES.get((what, channels)) or TILES[what]
        return {"TILE": numbers // channels, "num_warps": warps}

    def _pixel_grid(self, what: str, members: int, shape: Shape, channels: int) -> tuple[Grid, dict[str, int]]:
        """Grid and tile of a kernel that goes along the pixels of `shape`; `channels`: the widest of its blocks."""
        tile = self._tile(what, channels)
        return (members, _ceil(self._count(shape), tile["TILE"]), self._plan.networks), tile

    def _column_grid(self, what: str, members: int, shape: Shape) -> tuple[Grid, dict[str, int]]:
        """Grid and tile of a kernel that goes down the rows."""
        height, width = self._sizes[shape.halvings]
        tile, spans = self._tile(what, shape.channels), _ceil(height, SPAN)
        tile["SPAN"] = _ceil(height, spans)
        return (members, _ceil(self._batch * width, tile["TILE"]) * spans, self._plan.networks), tile

    def _launch(self, kernel: Any, grid: Grid, *arguments: Any, **constants: Any) -> None:
        self.launches.append(Launch(kernel, grid, arguments, constants))

    def _take_images(self, first: int) -> None:
        assert first == 0, "the images' rows are the first"
        graph, images, draws = self._plan.graph, self._pixels.images, self._draws
        shape = graph.blocks[0].shape
        (height, width), channels = self._sizes[0], shape.channels
        grid, tile = self._pixel_grid("images", graph.images, shape, channels)
        self._launch(
            forward.take_images, grid, self._maps, self._rows, images,
            draws.order if draws.places is None else draws.places, draws.offsets,
            self._pixels.normaliser, draws.step, draws.order.shape[1], self._batch, self._count(shape),
            *images.shape[1:3], HEIGHT=height, WIDTH=width, COLOURS=images.shape[3], CHANNELS=channels, **tile,
        )  # fmt: skip

    def _forward(self, kind: CudaKind, source: Shape, target: Shape, stride: int, first: int, members: int) -> None:
        plan, count, channels = self._plan, self._count(target), source.channels
        (height, width), training = self._sizes[source.halvings], self._training
        given = (plan.sums, plan.parameters, self._rows, self._operands, first, count)
        numbers = (plan.graph.parameters, plan.graph.statistics)
        size = {"HEIGHT": height, "WIDTH": width, "CHANNELS": channels}
        if kind is CudaKind.POINTWISE:
            grid, tile = self._pixel_grid("pointwise", members, target, max(channels, target.channels))
            self._launch(
                forward.pointwise, grid, self._maps, *given, *numbers, INPUTS=channels, OUTPUTS=target.channels,
                TRAINING=training, **tile,
            )  # fmt: skip
            return
        if stride == 2:
            out_height, out_width = self._sizes[target.halvings]
            grid, tile = self._pixel_grid("strided", members, target, channels)
            self._launch(
                forward.strided, grid, self._maps, *given, self._count(source), *numbers, OUT_HEIGHT=out_height,
                OUT_WIDTH=out_width, STRIDE=stride, TRAINING=training, **size, **tile,
            )  # fmt: skip
            return
        grid, tile = self._column_grid("columns", members, source)
        columns = self._batch * width
        match kind:
            case CudaKind.DEPTHWISE:
                self._launch(
                    forward.depthwise, grid, self._maps, *given, columns, *numbers, TRAINING=training, **size,
                    **tile,
                )  # fmt: skip
            case CudaKind.MAXIMUM:
                self._launch(
                    forward.maximum, grid, self._maps, self._winners, *given, columns, *numbers,
                    TRAINING=training, **size, **tile,
                )  # fmt: skip
            case CudaKind.AVERAGE:
                self._launch(forward.average, grid, self._maps, *given, columns, *numbers, **size, **tile)

    def _head(self, first: int) -> None:
        assert first == 0, "the final block's row is the first"
        plan, graph, draws = self._plan, self._plan.graph, self._draws
        shape, classes = graph.blocks[graph.final].shape, graph.indices["classifier.bias"].size
        height, width = self._sizes[shape.halvings]
        weights = self._pixels.class_weights
        self._launch(
            backward.head, (_ceil(self._batch, _IMAGES_A_PROGRAM), plan.networks), self._maps, plan.sums,
            plan.parameters, plan.gradients, self._backward, draws.order, self._pixels.labels,
            plan.parameters if weights is None else weights, draws.losses, draws.right, draws.scores,
            draws.step, draws.order.shape[1], self._batch, len(self._pixels.labels),
            graph.classifier, graph.bias, graph.parameters, graph.statistics, AREA=height * width,
            ROOM=block_graph.power_of_two(height * width),
            CHANNELS=shape.channels, CLASSES=classes, PADDED=block_graph.padded(classes), EACH=_IMAGES_A_PROGRAM,
            WEIGHTED=weights is not None, TRAINING=self._training,
        )  # fmt: skip

    def _back(self, kind: CudaKind, shape: Shape, outputs: int, stride: int, first: int, members: int) -> None:
        plan, count = self._plan, self._count(shape)
        (height, width), channels = self._sizes[shape.halvings], shape.channels
        tables = (self._backward, self._operands, first, count)
        numbers = (plan.graph.parameters, plan.graph.statistics)
        if kind is CudaKind.POINTWISE:
            grid, tile = self._pixel_grid("pointwise back", members, shape, max(channels, outputs))
            self._launch(
                backward.pointwise_back, grid, self._maps, plan.sums, plan.parameters, plan.gradients, *tables,
                *numbers, CHANNELS=channels, OUTPUTS=outputs, **tile,
            )  # fmt: skip
            return
        grid, tile = self._column_grid("columns back", members, shape)
        size = {"HEIGHT": height, "WIDTH": width, "CHANNELS": channels}
        if kind is CudaKind.DEPTHWISE:
            made = self._count(Shape(shape.halvings + (stride == 2), channels))
            self._launch(
                backward.depthwise_back, grid, self._maps, plan.sums, plan.parameters, plan.gradients, *tables,
                made, self._batch * width, *numbers, STRIDE=stride, **size, **tile,
            )  # fmt: skip
        else:
            self._launch(
                backward.pooling_back, grid, self._maps, self._winners, plan.sums, plan.parameters, *tables,
                self._batch * width, *numbers, MAXIMUM=kind is CudaKind.MAXIMUM, **size, **tile,
            )  # fmt: skip

    def _through_normalisations(self, level: list[int]) -> None:
        """Launches for those blocks of a level that are normalised."""
        plan, found = self._plan, self._plan.graph.blocks
        normalised = [number for number in level if found[number].normalisation is not None]
        for shape, members in _grouped(normalised, lambda number: found[number].shape):
            first = self._rows.extend([[*self._fields(number), 0, 0] for number in members])
            grid, tile = self._pixel_grid("normalised back", len(members), shape, shape.channels)
            self._launch(
                backward.normalised_back, grid, self._maps, plan.sums, plan.parameters, self._rows, first,
                self._count(shape), plan.graph.parameters, plan.graph.statistics, CHANNELS=shape.channels, **tile,
            )  # fmt: skip

    def _conclude(self) -> None:
        """Gradients of the normalisations, and running statistics."""
        plan, graph = self._plan, self._plan.graph
        scales, shifts = (np.zeros(graph.statistics, np.int64) for _ in range(2))
        for block in graph.blocks:
            own, channels = block.normalisation, block.shape.channels
            if own is not None:
                part = slice(own.statistics, own.statistics + channels)
                scales[part], shifts[part] = (start + np.arange(channels) for start in (own.scale, own.shift))
        tables = [torch.from_numpy(table).to(plan.device) for table in (scales, shifts)]
        self._launch(
            backward.conclude, (_ceil(graph.statistics, _SMALL_TILE), plan.networks), plan.sums, plan.running,
            plan.gradients, *tables, self._pixels_a_channel(), graph.parameters, graph.statistics, TILE=_SMALL_TILE,
        )  # fmt: skip

    def _pixels_a_channel(self) -> Tensor:
        """Over how many pixels each normalised channel's statistics are taken: real (channels,)."""
        plan = self._plan
        counts = np.zeros(plan.graph.statistics)
        for block in plan.graph.blocks:
            if block.normalisation is not None:
                start = block.normalisation.statistics
                counts[start : start + block.shape.channels] = self._count(block.shape)
        return torch.from_numpy(counts).to(plan.device, plan.sums.dtype)

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def learn(self) -> None:
        """The gradients of the step that `draws` is at, for every network, and its losses."""
        for launch in self.launches:
            launch()

    def update(self, rates: Tensor, momentum: float, decay: float) -> None:
        """SGD with the gradients at hand, at the rate of the step, real (steps,); goes on to the next step."""
        plan, count = self._plan, self._plan.parameters.numel()
        backward.update[(_ceil(count, _SMALL_TILE),)](
            plan.parameters, plan.gradients, plan.velocity, rates, self._draws.step, count, momentum, decay,
            TILE=_SMALL_TILE,
        )  # fmt: skip
        self._draws.step.add_(1)

    def count_right(self) -> None:
        """Adds to `draws.right` what each network classifies correctly with the running statistics, and writes its
        scores to `draws.scores`; goes on to the next batch."""
        plan, counts = self._plan, self._pixels_a_channel()
        mean, variance = plan.running[:, 0], plan.running[:, 1]
        plan.sums[:, 0] = mean * counts
        plan.sums[:, 1] = (variance + mean * mean) * counts
        self.learn()
        plan.sums.zero_()
        self._draws.step.add_(1)


def _turns(readers: list[tuple[CudaOperation, int]]) -> list[list[tuple[CudaOperation, int]]]:
    """What is added to a block's gradient, one after the other: all 1×1 convolutions together, and last."""
    pointwise = [entry for entry in readers if entry[0].kind is CudaKind.POINTWISE]
    others = [[entry] for entry in readers if entry[0].kind is not CudaKind.POINTWISE]
    return others + ([pointwise] if pointwise else [])


def _grouped(members: Sequence[Any], key: Callable[[Any], Any]) -> list[tuple[Any, list[Any]]]:
    """Members with equal keys together, in the order of their first."""
    keys = [key(member) for member in members]
    order = sorted(range(len(members)), key=lambda number: keys.index(keys[number]))
    return [(of, [members[number] for number in same]) for of, same in groupby(order, key=lambda number: keys[number])]


def _ceil(count: int, size: int) -> int:
    return -(-count // size)
