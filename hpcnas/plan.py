"""A network as a flat plan of steps over preallocated memory, for the CPU (D7).

    graph ─► parameters in one flat array ─► Program for a batch's shape: blocks of feature maps, nodes, steps

A feature map is a list of blocks of a few channels, as many as a vector of the processor holds. Nodes share blocks, so
identity and concatenation cost nothing, and equal poolings of one block are computed once. `kernels.c` runs it. It
computes the same function as `network.Network` and trades parameters with it through the same state_dict.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hpcnas import kernels, primitives
from hpcnas.canonical import CellGraph
from hpcnas.counting import node_channels
from hpcnas.skeleton import Skeleton

_SLAB = 64 << 20  # bytes
_NAMES = {
    primitives.CONVOLUTION: "convolution",
    primitives.DEPTHWISE: "depthwise",
    primitives.SEPARABLE: "separable",
    primitives.MAX_POOLING: "maximum",
    primitives.AVERAGE_POOLING: "average",
}


@dataclass(frozen=True)
class Channels:
    """Channels of a map in blocks: `groups` of `each`, every group filled up with zeros to whole blocks of `lanes`."""

    groups: int
    each: int
    lanes: int

    @property
    def blocks(self) -> int:
        return self.groups * -(-self.each // self.lanes)

    @property
    def room(self) -> int:
        """Numbers a pixel takes."""
        return self.blocks * self.lanes

    @property
    def places(self) -> np.ndarray:
        """Where in that room each channel lies."""
        return np.arange(self.room).reshape(self.groups, -1)[:, : self.each].reshape(-1)


@dataclass(frozen=True)
class Normalisation:
    """Where a batch normalisation's numbers lie: scale, shift, running mean and variance, each (outputs.room,)."""

    name: str  # in the state_dict, such as `stem.1`
    scale: slice
    shift: slice
    mean: slice
    variance: slice


@dataclass(frozen=True)
class Layer:
    """The parameters of one operation: slices of the flat array, and their names in the plain network's state_dict."""

    inputs: Channels
    outputs: Channels
    weights: slice | None = None  # (inputs.room, outputs.room)
    weights_name: str = ""
    filters: slice | None = None  # (9, inputs.room), depthwise
    filters_name: str = ""
    normalisation: Normalisation | None = None
    bias: slice | None = None  # (outputs.room,), of the classifier alone


class Plan:
    """A network's parameters and its structure; `program` makes it run for a shape.

    `parameters`, `gradients` and `velocity` are flat arrays of `real` numbers, `running` the statistics of the
    normalisations. What fills up blocks is zero in them, and stays so.
    """

    def __init__(self, graph: CellGraph, skeleton: Skeleton, functions: kernels.Kernels) -> None:
        self.graph = graph
        self.skeleton = skeleton
        self.functions = functions
        self._parameters = 0  # counted so far
        self._running = 0
        channels = self._channels(1, skeleton.channels)
        self.stem = self._layer(self._channels(1, 9 * skeleton.image_channels), channels, "stem", weights=0)
        self.cells: list[list[Layer | None]] = []  # by stage, by edge
        self.reductions: list[Layer] = []  # the separable convolution after each cell
        for number, stage in enumerate(skeleton.stages()):
            width = [self._channels(count, stage.channels) for count in node_channels(graph, 1)]
            names = (f"blocks.{2 * number}.edges.{edge}" for edge in range(len(graph.edges)))
            self.cells.append(
                [
                    self._operation(edge.operation, width[edge.source], stage.channels, name)
                    for edge, name in zip(graph.edges, names, strict=True)
                ]
            )
            channels = self._channels(1, stage.next_channels)
            name = f"blocks.{2 * number + 1}"
            self.reductions.append(self._layer(width[-1], channels, name, filters=0, weights=1))
        classes = self._channels(1, skeleton.classes)
        weights = self._take(channels.room * classes.room)
        self.classifier = Layer(channels, classes, weights, "classifier", bias=self._take(classes.room))
        self.parameters, self.gradients, self.velocity = (
            kernels.aligned(self._parameters, functions.real) for _ in range(3)
        )
        self.running = kernels.aligned(self._running, functions.real)

    def _channels(self, groups: int, each: int) -> Channels:
        return Channels(groups, each, self.functions.lanes)

    def _take(self, count: int) -> slice:
        self._parameters += count
        return slice(self._parameters - count, self._parameters)

    def _take_running(self, count: int) -> slice:
        self._running += count
        return slice(self._running - count, self._running)

    def _layer(
        self, inputs: Channels, outputs: Channels, name: str, filters: int | None = None, weights: int | None = None
    ) -> Layer:
        """A layer of depthwise filters, 1×1 weights, or both, and its normalisation; numbers are their places in the
        plain network's module."""
        last = max(filters or 0, weights or 0) + 1
        return Layer(
            inputs,
            outputs,
            weights=None if weights is None else self._take(inputs.room * outputs.room),
            weights_name=f"{name}.{weights}",
            filters=None if filters is None else self._take(9 * inputs.room),
            filters_name=f"{name}.{filters}",
            normalisation=Normalisation(
                f"{name}.{last}",
                scale=self._take(outputs.room),
                shift=self._take(outputs.room),
                mean=self._take_running(outputs.room),
                variance=self._take_running(outputs.room),
            ),
        )

    def _operation(self, operation: int, inputs: Channels, cell_channels: int, name: str) -> Layer | None:
        outputs = self._channels(1, cell_channels)
        match operation:
            case primitives.CONVOLUTION:
                return self._layer(inputs, outputs, name, weights=0)
            case primitives.DEPTHWISE:
                return self._layer(inputs, inputs, name, filters=0)
            case primitives.SEPARABLE:
                return self._layer(inputs, outputs, name, filters=0, weights=1)
        return None

    def layers(self) -> list[Layer]:
        """All layers, in the order of the plain network."""
        inner = [layer for cell, last in zip(self.cells, self.reductions, strict=True) for layer in (*cell, last)]
        return [self.stem, *(layer for layer in inner if layer is not None), self.classifier]

    # ── the plain network's state_dict ──────────────────────────────────────────────────────────────────────────────
    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and statistics as `network.Network` names and shapes them: copies."""
        return self._named(self.parameters) | self._statistics()

    def gradient_dict(self) -> dict[str, Tensor]:
        """Gradients, named and shaped as the plain network's parameters: copies."""
        return self._named(self.gradients)

    def _named(self, flat: np.ndarray) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for layer in self.layers():
            rows, columns = layer.inputs.places, layer.outputs.places
            if layer.weights is not None:
                weights = torch.from_numpy(_matrix(flat, layer.weights, layer.outputs)[np.ix_(rows, columns)].T)
                if layer is self.stem:
                    weights = weights.reshape(len(columns), 3, 3, -1).permute(0, 3, 1, 2)
                elif layer is not self.classifier:
                    weights = weights[:, :, None, None]
                found[f"{layer.weights_name}.weight"] = weights.contiguous()
            if layer.filters is not None:
                filters = torch.from_numpy(_matrix(flat, layer.filters, layer.inputs)[:, rows])
                found[f"{layer.filters_name}.weight"] = filters.reshape(3, 3, 1, -1).permute(3, 2, 0, 1).contiguous()
            if layer.normalisation is not None:
                name = layer.normalisation.name
                found[f"{name}.weight"] = torch.from_numpy(flat[layer.normalisation.scale][columns])
                found[f"{name}.bias"] = torch.from_numpy(flat[layer.normalisation.shift][columns])
            if layer.bias is not None:
                found["classifier.bias"] = torch.from_numpy(flat[layer.bias][columns])
        return found

    def _statistics(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for layer in self.layers():
            if (normalisation := layer.normalisation) is not None:
                columns = layer.outputs.places
                mean, variance = self.running[normalisation.mean], self.running[normalisation.variance]
                found[f"{normalisation.name}.running_mean"] = torch.from_numpy(mean[columns])
                found[f"{normalisation.name}.running_var"] = torch.from_numpy(variance[columns])
        return found

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes parameters and statistics of the plain network. Raises KeyError or ValueError if they do not fit."""
        for layer in self.layers():
            rows, columns = layer.inputs.places, layer.outputs.places
            if layer.weights is not None:
                weights = state[f"{layer.weights_name}.weight"]
                if layer is self.stem:
                    weights = weights.permute(0, 2, 3, 1)
                flat = weights.reshape(len(columns), -1).T.numpy()
                _matrix(self.parameters, layer.weights, layer.outputs)[np.ix_(rows, columns)] = flat
            if layer.filters is not None:
                filters = state[f"{layer.filters_name}.weight"].permute(2, 3, 1, 0).reshape(9, -1).numpy()
                _matrix(self.parameters, layer.filters, layer.inputs)[:, rows] = filters
            if (normalisation := layer.normalisation) is not None:
                name = normalisation.name
                self.parameters[normalisation.scale][columns] = state[f"{name}.weight"].numpy()
                self.parameters[normalisation.shift][columns] = state[f"{name}.bias"].numpy()
                self.running[normalisation.mean][columns] = state[f"{name}.running_mean"].numpy()
                self.running[normalisation.variance][columns] = state[f"{name}.running_var"].numpy()
            if layer.bias is not None:
                self.parameters[layer.bias][columns] = state["classifier.bias"].numpy()

    def update(self, rate: float, momentum: float, decay: float) -> None:
        """One step of SGD with the gradients at hand, as torch.optim.SGD makes it."""
        self.functions.update(self.parameters, self.gradients, self.velocity, rate, momentum, decay)


def _matrix(flat: np.ndarray, where: slice, columns: Channels) -> np.ndarray:
    """A view of that part, (rows, columns.room)."""
    return flat[where].reshape(-1, columns.room)


@dataclass
class Node:
    """A feature map: the blocks that it is made of, and the steps that read it."""

    height: int
    width: int
    blocks: list[dict[str, int]] = field(default_factory=list)
    steps: list[dict[str, int]] = field(default_factory=list)


class Program:
    """A plan for batches of one shape: memory, and the tables of nodes and steps. Not for several threads at a time."""

    def __init__(self, plan: Plan, images: int, height: int, width: int, training: bool) -> None:
        self._plan = plan
        self._training = training
        self._images = images
        self._real, self._lanes = plan.functions.real, plan.functions.lanes
        self._kept: list[np.ndarray] = []  # slabs of memory that steps point into
        self._used = 0  # bytes of the last slab
        self._nodes: list[Node] = []
        self._blocks: list[dict[str, int]] = []
        self._build(height, width)
        self._place_maps()
        self._tabulate()

    # ── building ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _room(self, *shape: int, kind: type | np.dtype | None = None) -> np.ndarray:
        """Uninitialised memory, of large slabs: the system maps those in large pages, of which caches hold more."""
        kind = np.dtype(kind or self._real)
        size = int(np.prod(shape)) * kind.itemsize
        padded = -(-size // kernels.ALIGNMENT) * kernels.ALIGNMENT
        if not self._kept or len(self._kept[-1]) - self._used < padded:
            self._kept.append(np.empty(max(padded, _SLAB) + kernels.ALIGNMENT, np.uint8))
            self._used = -self._kept[-1].ctypes.data % kernels.ALIGNMENT
        start, self._used = self._used, self._used + padded
        return self._kept[-1][start : start + size].view(kind).reshape(shape)

    def _vectors(self, count: int) -> int:
        """Address of room for so many vectors."""
        return self._room(count, self._lanes).ctypes.data

    def _node(self, height: int, width: int) -> Node:
        self._nodes.append(Node(height, width))
        return self._nodes[-1]

    def _build(self, height: int, width: int) -> None:
        plan, skeleton = self._plan, self._plan.skeleton
        images = self._node(height, width)
        node = self._node(height, width)
        step = self._step("stem", plan.stem, images, node)
        self._inputs = self._room(self._images * height * width, skeleton.image_channels)
        step["pixels"], step["channels"] = self._inputs.ctypes.data, skeleton.image_channels
        for stage, layers, reduction in zip(skeleton.stages(), plan.cells, plan.reductions, strict=True):
            node = self._cell(layers, node)
            target = self._node(-(-node.height // stage.stride), -(-node.width // stage.stride))
            self._step("separable", reduction, node, target, stride=stage.stride)
            node = target
        self._head(node)

    def _cell(self, layers: list[Layer | None], source: Node) -> Node:
        """The nodes and steps of one cell; returns its sink."""
        graph = self._plan.graph
        into = [sum(edge.target == node for edge in graph.edges) for node in range(graph.nodes)]
        nodes = {0: source}
        pooled: dict[tuple[int, int], dict[str, int]] = {}  # (operation, its block) → the block that it makes
        for edge, layer in zip(graph.edges, layers, strict=True):
            origin = nodes[edge.source]
            if edge.operation == primitives.IDENTITY and into[edge.target] == 1:
                nodes[edge.target] = origin
                continue
            if edge.target not in nodes:
                nodes[edge.target] = self._node(source.height, source.width)
            target = nodes[edge.target]
            if edge.operation == primitives.IDENTITY:
                target.blocks += origin.blocks
            elif layer is not None:
                self._step(_NAMES[edge.operation], layer, origin, target)
            else:
                for use, block in enumerate(origin.blocks):
                    key = (edge.operation, id(block))
                    if key not in pooled:
                        pooled[key] = self._pooling(_NAMES[edge.operation], origin, use)
                    target.blocks.append(pooled[key])
        return nodes[graph.nodes - 1]

    def _made(self, height: int, width: int) -> dict[str, int]:
        """A new block, whose map is yet to be placed."""
        block = {"images": self._images, "pixels": height * width}
        self._blocks.append(block)
        return block

    def _raw_step(self, kind: str, source: Node, results: int, height: int, width: int, stride: int) -> dict[str, int]:
        """A step from a node to the blocks that are made next."""
        step = {"kind": kernels.KINDS.index(kind), "result": len(self._blocks), "results": results}
        step |= {"stride": stride, "height": height, "width": width}
        source.steps.append(step)
        return step

    def _pooling(self, kind: str, source: Node, use: int) -> dict[str, int]:
        """The block that a pooling of one of the source's makes."""
        step = self._raw_step(kind, source, 1, source.height, source.width, stride=1)
        step["use"] = use
        if kind == "maximum":
            step["winners"] = self._vectors(self._images * source.height * -(-source.width // 8))
        return self._made(source.height, source.width)

    def _step(self, kind: str, layer: Layer, source: Node, target: Node, stride: int = 1) -> dict[str, int]:
        """An operation with parameters from a map into the next blocks of another; returns its last step."""
        plan, lanes = self._plan, self._lanes
        blocks, normalisation = layer.outputs.blocks, layer.normalisation
        assert normalisation is not None, "only the classifier has none"
        alone = kind == "depthwise"  # a step a block
        for first in range(0, blocks, 1 if alone else blocks):
            step = self._raw_step(kind, source, 1 if alone else blocks, target.height, target.width, stride)
            step["use"] = first
            if layer.filters is not None:
                step["filters"] = _address(plan.parameters, layer.filters, first * lanes)
                step["d_filters"] = _address(plan.gradients, layer.filters, first * lanes)
                step["filter_row"] = layer.inputs.blocks
            if layer.weights is not None:
                self._weights(step, layer)
            for number in range(first, first + step["results"]):
                block = self._made(target.height, target.width)
                for name, values, where in (
                    ("scale", plan.parameters, normalisation.scale),
                    ("d_scale", plan.gradients, normalisation.scale),
                    ("shift", plan.parameters, normalisation.shift),
                    ("d_shift", plan.gradients, normalisation.shift),
                    ("running_mean", plan.running, normalisation.mean),
                    ("running_variance", plan.running, normalisation.variance),
                ):
                    block[name] = _address(values, where, number * lanes)
                block["constants"] = self._vectors(kernels.CONSTANTS)
                block["totals"] = self._room(2, lanes, kind=np.float64).ctypes.data
                target.blocks.append(block)
        return step

    def _weights(self, step: dict[str, int], layer: Layer) -> None:
        assert layer.weights is not None, "called for layers with weights"
        step["weights"] = _address(self._plan.parameters, layer.weights)
        step["d_weights"] = _address(self._plan.gradients, layer.weights)

    def _head(self, source: Node) -> None:
        plan, images = self._plan, self._images
        blocks, sources = plan.classifier.outputs.blocks, len(source.blocks)
        step = self._raw_step("head", source, blocks, 1, 1, stride=1)
        self._weights(step, plan.classifier)
        assert plan.classifier.bias is not None, "a classifier has a bias"
        step["bias"] = _address(plan.parameters, plan.classifier.bias)
        step["d_bias"] = _address(plan.gradients, plan.classifier.bias)
        step["classes"] = plan.skeleton.classes
        self._labels, self._loss = self._room(images, kind=np.int64), self._room(1)
        self._scores = self._room(blocks, images, self._lanes)
        step["labels"], step["loss"] = self._labels.ctypes.data, self._loss.ctypes.data
        step["scores"], step["d_scores"] = self._scores.ctypes.data, self._vectors(blocks * images)
        step["means"], step["d_means"] = self._vectors(sources * images), self._vectors(sources * images)

    def _results(self, node: Node) -> list[dict[str, int]]:
        """The blocks that a node's steps make."""
        head = kernels.KINDS.index("head")
        return [
            block
            for step in node.steps
            if step["kind"] != head
            for block in self._blocks[step["result"] : step["result"] + step["results"]]
        ]

    def _place_maps(self) -> None:
        """Memory for the blocks. In training all maps are kept for the way back. Gradients, and maps otherwise, are
        needed only from the node that makes them to the last that reads them; then others take their place."""
        free: dict[int, list[int]] = {}  # addresses, by pixels

        def take(block: dict[str, int]) -> int:
            rooms = free.setdefault(block["pixels"], [])
            return rooms.pop() if rooms else self._vectors(self._images * block["pixels"])

        last_reader = {id(block): node for node in self._nodes for block in node.blocks}
        read_last: dict[int, list[dict[str, int]]] = {id(node): [] for node in self._nodes}
        for block in self._blocks:
            read_last[id(last_reader[id(block)])].append(block)
        if self._training:
            for block in self._blocks:
                block["map"] = self._vectors(self._images * block["pixels"])
            for node in reversed(self._nodes):
                for block in read_last[id(node)]:
                    block["d_map"] = take(block)
                for block in self._results(node):
                    free[block["pixels"]].append(block["d_map"])
        else:
            for node in self._nodes:
                for block in self._results(node):
                    block["map"] = take(block)
                for block in read_last[id(node)]:
                    free[block["pixels"]].append(block["map"])

    def _tabulate(self) -> None:
        """The records that the kernels read."""
        number = {id(block): position for position, block in enumerate(self._blocks)}
        nodes: list[dict[str, int]] = []
        uses: list[dict[str, int]] = []
        for node in self._nodes:
            node.steps.sort(key=lambda step: step["kind"] != kernels.KINDS.index("convolution"))
            if self._training:  # transposed weights of the convolutions in one piece
                weighted = [step for step in node.steps if "weights" in step]
                sizes = [step["results"] * self._lanes * len(node.blocks) for step in weighted]
                turned = self._room(sum(sizes), self._lanes)
                for step, start in zip(weighted, itertools.accumulate(sizes, initial=0), strict=False):
                    step["turned"] = turned[start:].ctypes.data
            nodes.append({"images": self._images, "height": node.height, "width": node.width})
            nodes[-1] |= {"uses": len(node.blocks), "first_use": len(uses), "steps": len(node.steps)}
            nodes[-1]["first_step"] = sum(len(before.steps) for before in self._nodes[: len(nodes) - 1])
            uses += [{"block": number[id(block)]} for block in node.blocks]
        backwards = [use for row in reversed(nodes) for use in uses[row["first_use"] :][: row["uses"]]]
        for order, name in ((backwards, "first"), (backwards[::-1], "last")):
            seen: set[int] = set()
            for use in order:
                use[name] = int(use["block"] not in seen)
                seen.add(use["block"])
        steps = [step for node in self._nodes for step in node.steps]
        tables = {
            "nodes": _table(nodes, kernels.NODE),
            "uses": _table(uses, kernels.USE),
            "steps": _table(steps, kernels.STEP),
            "blocks": _table(self._blocks, kernels.BLOCK),
        }
        self._steps, self._tables = tables["steps"], tables
        image = max(node.height * node.width for node in self._nodes)
        read = max(len(node.blocks) for node in self._nodes)
        made = max(len(self._results(node)) for node in self._nodes)
        width = max(node.width for node in self._nodes)
        program = {name: table.ctypes.data for name, table in tables.items()} | {"count": len(nodes)}
        program["active"] = self._vectors(read * image)
        program["middle"] = self._vectors(max(read, self._plan.stem.inputs.blocks) * image)
        program["result"] = self._vectors(made * image)
        program["d_results"] = self._vectors(made * image)
        for name in ("d_active", "d_middle", "spread"):
            program[name] = self._vectors(image)
        program["ranges"] = self._room(2 * read + 2 * made, kind=kernels.RANGE).ctypes.data
        program["lines"] = self._vectors(6 * width)
        self._zeros = kernels.aligned(width * self._lanes, self._real)
        program["zeros"] = self._zeros.ctypes.data
        self._program = _table([program], kernels.PROGRAM)

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _take_in(self, images: Tensor) -> None:
        """Images (B, C, H, W) of real numbers, best channels-last in memory."""
        last = images.permute(0, 2, 3, 1)
        points = last.shape[0] * last.shape[1] * last.shape[2]
        torch.from_numpy(self._inputs)[:points].reshape(last.shape).copy_(last)

    def learn(self, images: Tensor, labels: Tensor) -> float:
        """Mean cross-entropy of a batch; leaves its gradients in the plan. Images (B, C, H, W), labels int64 (B,)."""
        self._take_in(images)
        self._labels[:] = labels.numpy()
        functions = self._plan.functions
        functions.forward(self._program, True)
        self._plan.gradients.fill(0)
        functions.backward(self._program)
        return float(self._loss[0])

    def classify(self, images: Tensor) -> Tensor:
        """Scores (B, classes) of a batch in evaluation mode. B may be less than the program's number of images."""
        self._take_in(images)
        self._plan.functions.forward(self._program, False)
        scores = self._scores[:, : len(images)].transpose(1, 0, 2).reshape(len(images), -1)
        return torch.from_numpy(scores[:, : self._plan.skeleton.classes].copy())


def _address(values: np.ndarray, where: slice, offset: int = 0) -> int:
    """Of the number `offset` in that part of a flat array."""
    return values.ctypes.data + (where.start + offset) * values.itemsize


def _table(rows: list[dict[str, int]], kind: np.dtype) -> np.ndarray:
    """Records with these fields, others zero."""
    return np.array([tuple(row.get(name, 0) for name in kind.names or ()) for row in rows], kind)
