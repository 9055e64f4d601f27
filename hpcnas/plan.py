"""A network as a flat plan of steps over preallocated memory, for the CPU (D7).

    graph ─► parameters in one flat array ─► Program for a batch's shape: feature maps, gradients, a table of steps

Every node's feature map is one buffer and every operation writes its slice of it, so concatenation costs nothing; a
lone identity is the buffer itself; equal poolings of one map are computed once. `kernels.c` runs the table. It computes
the same function as `network.Network` and trades parameters with it through the same state_dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hpcnas import kernels, primitives
from hpcnas.canonical import CellGraph
from hpcnas.counting import node_channels
from hpcnas.skeleton import Skeleton

_KIND = {name: number for number, name in enumerate(kernels.KINDS)}
_SLAB = 64 << 20  # bytes
_NAMES = {
    primitives.CONVOLUTION: "convolution",
    primitives.DEPTHWISE: "depthwise",
    primitives.SEPARABLE: "separable",
    primitives.MAX_POOLING: "maximum",
    primitives.AVERAGE_POOLING: "average",
    primitives.IDENTITY: "copy",
}


@dataclass(frozen=True)
class Normalisation:
    """Where a batch normalisation's numbers lie: scale, shift, running mean and variance, each (channels,)."""

    name: str  # in the state_dict, such as `stem.1`
    scale: slice
    shift: slice
    running: slice  # of the running statistics: first the mean, then the variance


@dataclass(frozen=True)
class Layer:
    """The parameters of one operation: slices of the flat array, and their names in the plain network's state_dict."""

    weights: slice | None = None  # (inputs, outputs)
    weights_name: str = ""
    filters: slice | None = None  # (9, channels), depthwise
    filters_name: str = ""
    normalisation: Normalisation | None = None
    bias: slice | None = None  # (outputs,), of the classifier alone


class Plan:
    """A network's parameters and its structure; `program` makes it run for a shape.

    `parameters`, `gradients` and `velocity` are flat arrays of `real` numbers, `running` the statistics of the
    normalisations.
    """

    def __init__(self, graph: CellGraph, skeleton: Skeleton, functions: kernels.Kernels) -> None:
        self.graph = graph
        self.skeleton = skeleton
        self.functions = functions
        self._parameters = 0  # counted so far
        self._running = 0
        self.stem = self._layer(
            9 * skeleton.image_channels, skeleton.channels, weights="stem.0", normalisation="stem.1"
        )
        self.cells: list[list[Layer]] = []  # by stage, by edge
        self.reductions: list[Layer] = []  # the separable convolution after each cell
        channels = skeleton.channels
        for number, stage in enumerate(skeleton.stages()):
            width = node_channels(graph, stage.channels)
            names = (f"blocks.{2 * number}.edges.{edge}" for edge in range(len(graph.edges)))
            self.cells.append(
                [
                    self._operation(edge.operation, width[edge.source], stage.channels, name)
                    for edge, name in zip(graph.edges, names, strict=True)
                ]
            )
            name = f"blocks.{2 * number + 1}"
            self.reductions.append(self._operation(primitives.SEPARABLE, width[-1], stage.next_channels, name))
            channels = stage.next_channels
        weights = self._take(channels * skeleton.classes)
        self.classifier = Layer(weights, "classifier", bias=self._take(skeleton.classes))
        self.final_channels = channels
        self.parameters, self.gradients, self.velocity = (np.zeros(self._parameters, functions.real) for _ in range(3))
        self.running = np.zeros(self._running, functions.real)

    def _take(self, count: int) -> slice:
        self._parameters += count
        return slice(self._parameters - count, self._parameters)

    def _layer(self, inputs: int, outputs: int, weights: str = "", filters: str = "", normalisation: str = "") -> Layer:
        """A layer of 1×1 weights, depthwise filters, or both, with its normalisation."""
        filters_slice = self._take(9 * inputs) if filters else None
        weights_slice = self._take(inputs * outputs) if weights else None
        channels = outputs if weights else inputs
        scale, shift = self._take(channels), self._take(channels)
        self._running += 2 * channels
        running = slice(self._running - 2 * channels, self._running)
        return Layer(
            weights_slice, weights, filters_slice, filters, Normalisation(normalisation, scale, shift, running)
        )

    def _operation(self, operation: int, inputs: int, cell_channels: int, name: str) -> Layer:
        match operation:
            case primitives.CONVOLUTION:
                return self._layer(inputs, cell_channels, weights=f"{name}.0", normalisation=f"{name}.1")
            case primitives.DEPTHWISE:
                return self._layer(inputs, inputs, filters=f"{name}.0", normalisation=f"{name}.1")
            case primitives.SEPARABLE:
                return self._layer(
                    inputs, cell_channels, filters=f"{name}.0", weights=f"{name}.1", normalisation=f"{name}.2"
                )
        return Layer()

    def layers(self) -> list[Layer]:
        """All layers, in the order of the plain network."""
        inner = [layer for cell, last in zip(self.cells, self.reductions, strict=True) for layer in (*cell, last)]
        return [self.stem, *inner, self.classifier]

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
            if layer.weights is not None:
                outputs = len(self._width(layer))
                weights = torch.from_numpy(flat[layer.weights].copy()).reshape(-1, outputs).T
                if layer is self.stem:
                    weights = weights.reshape(outputs, 3, 3, -1).permute(0, 3, 1, 2)
                elif layer is not self.classifier:
                    weights = weights[:, :, None, None]
                found[f"{layer.weights_name}.weight"] = weights.contiguous()
            if layer.filters is not None:
                filters = torch.from_numpy(flat[layer.filters].copy()).reshape(3, 3, 1, -1)
                found[f"{layer.filters_name}.weight"] = filters.permute(3, 2, 0, 1).contiguous()
            if layer.normalisation is not None:
                found[f"{layer.normalisation.name}.weight"] = torch.from_numpy(flat[layer.normalisation.scale].copy())
                found[f"{layer.normalisation.name}.bias"] = torch.from_numpy(flat[layer.normalisation.shift].copy())
            if layer.bias is not None:
                found["classifier.bias"] = torch.from_numpy(flat[layer.bias].copy())
        return found

    def _width(self, layer: Layer) -> np.ndarray:
        """The slice that has one number an output channel."""
        return self.parameters[layer.bias or layer.normalisation.scale]  # type: ignore[union-attr]

    def _statistics(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for layer in self.layers():
            if layer.normalisation is not None:
                mean, variance = np.split(self.running[layer.normalisation.running], 2)
                found[f"{layer.normalisation.name}.running_mean"] = torch.from_numpy(mean.copy())
                found[f"{layer.normalisation.name}.running_var"] = torch.from_numpy(variance.copy())
        return found

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes parameters and statistics of the plain network. Raises KeyError or ValueError if they do not fit."""
        for layer in self.layers():
            if layer.weights is not None:
                weights = state[f"{layer.weights_name}.weight"]
                if layer is self.stem:
                    weights = weights.permute(0, 2, 3, 1)
                self.parameters[layer.weights] = weights.reshape(len(weights), -1).T.reshape(-1).numpy()
            if layer.filters is not None:
                filters = state[f"{layer.filters_name}.weight"].permute(2, 3, 1, 0)
                self.parameters[layer.filters] = filters.reshape(-1).numpy()
            if layer.normalisation is not None:
                name = layer.normalisation.name
                self.parameters[layer.normalisation.scale] = state[f"{name}.weight"].numpy()
                self.parameters[layer.normalisation.shift] = state[f"{name}.bias"].numpy()
                both = (state[f"{name}.running_mean"].numpy(), state[f"{name}.running_var"].numpy())
                self.running[layer.normalisation.running] = np.concatenate(both)
            if layer.bias is not None:
                self.parameters[layer.bias] = state["classifier.bias"].numpy()

    def update(self, rate: float, momentum: float, decay: float) -> None:
        """One step of SGD with the gradients at hand, as torch.optim.SGD makes it."""
        self.functions.update(self.parameters, self.gradients, self.velocity, rate, momentum, decay)


@dataclass
class Node:
    """A feature map, (images · height · width, channels), with its gradient in training, and the steps that read it."""

    value: np.ndarray
    gradient: np.ndarray | None
    height: int
    width: int
    outs: list[dict[str, int]]
    ins: list[dict[str, int]]  # the steps into it that end with a normalisation
    filled: int = 0  # channels that have been given to steps


class Program:
    """A plan for batches of one shape: memory, and the tables of nodes and steps. Not for several threads at a time."""

    def __init__(self, plan: Plan, images: int, height: int, width: int, training: bool) -> None:
        self._plan = plan
        self._training = training
        self._images = images
        self._kept: list[np.ndarray] = []  # slabs of memory that steps point into
        self._used = 0  # bytes of the last slab
        self._nodes: list[Node] = []
        self._build(height, width)
        steps = [step for node in self._nodes for step in node.outs]
        number = {id(step): position for position, step in enumerate(steps)}
        self._steps = _table(steps, kernels.STEP)
        self._ins = np.array([number[id(step)] for node in self._nodes for step in node.ins], np.int64)
        self._table = np.zeros(len(self._nodes), kernels.NODE)
        first_out = first_in = 0
        for row, node in zip(self._table, self._nodes, strict=True):
            row["images"], row["pixels"], row["channels"] = images, node.height * node.width, node.value.shape[1]
            row["outs"], row["first_out"] = len(node.outs), first_out
            row["ins"], row["first_in"] = len(node.ins), first_in
            row["map"] = node.value.ctypes.data
            row["d_map"] = 0 if node.gradient is None else node.gradient.ctypes.data
            first_out += len(node.outs)
            first_in += len(node.ins)

    # ── building ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _room(self, *shape: int, kind: type | np.dtype | None = None) -> np.ndarray:
        """Uninitialised memory, of large slabs: the system maps those in large pages, of which caches hold more."""
        kind = np.dtype(kind or self._plan.functions.real)
        size = -(-int(np.prod(shape)) * kind.itemsize // 64) * 64
        if not self._kept or len(self._kept[-1]) - self._used < size:
            self._kept.append(np.empty(max(size, _SLAB) + 64, np.uint8))
            self._used = -self._kept[-1].ctypes.data % 64
        self._used += size
        return (
            self._kept[-1][self._used - size : self._used][: int(np.prod(shape)) * kind.itemsize]
            .view(kind)
            .reshape(shape)
        )

    def _node(self, height: int, width: int, channels: int, trained: bool = True) -> Node:
        points = self._images * height * width
        gradient = self._room(points, channels) if trained and self._training else None
        node = Node(self._room(points, channels), gradient, height, width, [], [])
        self._nodes.append(node)
        return node

    def _build(self, height: int, width: int) -> None:
        plan, skeleton, real = self._plan, self._plan.skeleton, self._plan.functions.real
        widths = [channels for stage in skeleton.stages() for channels in node_channels(plan.graph, stage.channels)]
        most = max(*widths, plan.final_channels, 9 * skeleton.image_channels)
        widest = max(skeleton.classes, *(stage.next_channels for stage in skeleton.stages()))
        self._zeros, self._lowest = np.zeros(most, real), np.full(most, -np.inf, real)
        self._transposed = self._room(most * max(most, widest))
        self._d_image = self._room(height * width * max(most, widest))  # two gradients of one image at a time
        self._d_middle = self._room(height * width * most)

        images = self._node(height, width, skeleton.image_channels, trained=False)
        node = self._node(height, width, skeleton.channels)
        self._step("stem", plan.stem, images, node, skeleton.channels)
        for stage, layers, reduction in zip(skeleton.stages(), plan.cells, plan.reductions, strict=True):
            node = self._cell(layers, stage.channels, node)
            sizes = (-(-node.height // stage.stride), -(-node.width // stage.stride))
            target = self._node(*sizes, stage.next_channels)
            self._step("separable", reduction, node, target, stage.next_channels, stage.stride)
            node = target
        self._inputs = images.value
        self._head(node)

    def _cell(self, layers: list[Layer], channels: int, source: Node) -> Node:
        """The nodes and steps of one cell; returns its sink."""
        graph = self._plan.graph
        width = node_channels(graph, channels)
        into = [sum(edge.target == node for edge in graph.edges) for node in range(graph.nodes)]
        nodes = {0: source}
        pooled: dict[tuple[int, int], dict[str, int]] = {}  # (operation, its source) → the step that computes it
        for edge, layer in zip(graph.edges, layers, strict=True):
            origin = nodes[edge.source]
            if edge.operation == primitives.IDENTITY and into[edge.target] == 1:
                nodes[edge.target] = origin
                continue
            if edge.target not in nodes:
                nodes[edge.target] = self._node(source.height, source.width, width[edge.target])
            target = nodes[edge.target]
            outputs = primitives.output_channels(edge.operation, width[edge.source], channels)
            name = _NAMES[edge.operation]
            if name not in ("maximum", "average"):
                self._step(name, layer, origin, target, outputs)
            elif (same := pooled.get((edge.operation, id(origin)))) is None:
                pooled[edge.operation, id(origin)] = self._step(name, layer, origin, target, outputs)
            else:  # computed already: a copy of that slice
                copy = self._step("copy", layer, origin, target, outputs)
                copy["source"], copy["d_source"], copy["source_row"] = same["target"], same["d_target"], same["row"]
        return nodes[graph.nodes - 1]

    def _step(
        self, name: str, layer: Layer, source: Node, target: Node, outputs: int, stride: int = 1
    ) -> dict[str, int]:
        """An operation from a map into the next `outputs` channels of another."""
        plan, real = self._plan, self._plan.functions.real
        inputs, offset = source.value.shape[1], target.filled * real.itemsize
        target.filled += outputs
        step = {
            "kind": _KIND[name],
            "images": self._images,
            "height": source.height,
            "width": source.width,
            "channels": inputs,
            "outputs": outputs,
            "stride": stride,
            "out_height": target.height,
            "out_width": target.width,
            "row": target.value.shape[1],
            "source_row": inputs,
            "source": source.value.ctypes.data,
            "d_source": 0 if source.gradient is None else source.gradient.ctypes.data,
            "target": target.value.ctypes.data + offset,
            "d_target": 0 if target.gradient is None else target.gradient.ctypes.data + offset,
            "zeros": self._zeros.ctypes.data,
            "lowest": self._lowest.ctypes.data,
            "room": self._transposed.ctypes.data,
            "d_raw": self._d_image.ctypes.data,
            "d_middle": self._d_middle.ctypes.data,
        }
        for field, where in (("weights", layer.weights), ("filters", layer.filters)):
            if where is not None:
                step[field] = plan.parameters[where].ctypes.data
                step[f"d_{field}"] = plan.gradients[where].ctypes.data
        points = len(target.value)
        normalisation = layer.normalisation
        if normalisation is not None:
            for field, where in (("scale", normalisation.scale), ("shift", normalisation.shift)):
                step[field] = plan.parameters[where].ctypes.data
                step[f"d_{field}"] = plan.gradients[where].ctypes.data
            running = plan.running[normalisation.running]
            step["running_mean"], step["running_variance"] = running.ctypes.data, running[outputs:].ctypes.data
            step["statistics"] = self._room(2, outputs).ctypes.data
            step["totals"] = self._room(2, outputs, kind=np.float64).ctypes.data
            step["sums"] = self._room(2, outputs).ctypes.data
            step["raw"] = self._room(points, outputs).ctypes.data
            target.ins.append(step)
        if name == "maximum":
            step["winners"] = self._room(points, inputs, kind=np.uint8).ctypes.data
        elif name in ("separable", "stem"):
            step["middle"] = self._room(points, inputs * (9 if name == "stem" else 1)).ctypes.data
        source.outs.append(step)
        return step

    def _head(self, source: Node) -> None:
        plan, classes = self._plan, self._plan.skeleton.classes
        self._labels = self._room(self._images, kind=np.int64)
        self._loss = self._room(1)
        scores = Node(self._room(self._images, classes), None, 1, 1, [], [])
        step = self._step("head", plan.classifier, source, scores, classes)
        assert plan.classifier.bias is not None, "a classifier has a bias"
        step["shift"] = plan.parameters[plan.classifier.bias].ctypes.data
        step["d_shift"] = plan.gradients[plan.classifier.bias].ctypes.data
        step["raw"] = scores.value.ctypes.data
        step["middle"] = self._room(self._images, source.value.shape[1]).ctypes.data
        step["d_middle"] = self._room(self._images, source.value.shape[1]).ctypes.data
        step["labels"] = self._labels.ctypes.data
        step["loss"] = self._loss.ctypes.data
        self._scores = scores.value

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
        functions.forward(self._table, self._steps, self._ins, True)
        self._plan.gradients.fill(0)
        functions.backward(self._table, self._steps, self._ins)
        return float(self._loss[0])

    def classify(self, images: Tensor) -> Tensor:
        """Scores (B, classes) of a batch in evaluation mode: a view that the next call overwrites. B may be less than
        the program's number of images."""
        self._take_in(images)
        self._plan.functions.forward(self._table, self._steps, self._ins, False)
        return torch.from_numpy(self._scores[: len(images)])


def _table(rows: list[dict[str, int]], kind: np.dtype) -> np.ndarray:
    """Records with these fields, others zero."""
    table = np.zeros(len(rows), kind)
    for number, row in enumerate(rows):
        for name, value in row.items():
            table[number][name] = value
    return table
