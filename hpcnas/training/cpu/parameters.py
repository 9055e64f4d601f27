"""A network's parameters as flat arrays that `kernels.c` reads, for the CPU (D7).

    blocks.take_apart ─► CpuPlan: parameters ─► CpuProgram: blocks, nodes and steps for one batch's shape

The channels of a block of the graph are filled up to whole vectors of the processor. The plan takes and gives
parameters as `network.Network` does, by its state_dict.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.training.blocks import Operation, OperationKind, take_apart
from hpcnas.training.cpu import kernels


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
class CpuNormalisation:
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
    normalisation: CpuNormalisation | None = None
    bias: slice | None = None  # (outputs.room,), of the classifier alone


class CpuPlan:
    """A network's structure and its parameters; `program` makes it run for a shape.

    `parameters`, `gradients` and `velocity` are arrays (numbers,) of the kernels' `real`, float32 or float64; so is
    `running`, the statistics of the normalisations. The numbers that fill up vectors are zero, and stay so.
    """

    def __init__(self, graph: CellGraph, skeleton: Skeleton, functions: kernels.Kernels) -> None:
        self.parts = take_apart(graph, skeleton)
        self.skeleton = skeleton
        self.functions = functions
        self._parameters = 0  # counted so far
        self._running = 0
        self.layers = [self._layer_of(operation) for operation in self.parts.operations]  # of each operation
        (final,) = self.parts.maps[self.parts.final].blocks
        channels = self._channels(1, self.parts.blocks[final].channels)
        classes = self._channels(1, skeleton.classes)
        weights = self._take(channels.room * classes.room)
        self.classifier = Layer(channels, classes, weights, "classifier", bias=self._take(classes.room))
        self.parameters, self.gradients, self.velocity = (
            kernels.aligned(self._parameters, functions.real) for _ in range(3)
        )
        self.running = kernels.aligned(self._running, functions.real)

    def twin(self) -> CpuPlan:
        """The same network with parameters and statistics of its own, a copy, for programs that validate."""
        found = copy.copy(self)
        for name in ("parameters", "running"):
            array: np.ndarray = getattr(self, name)
            own = kernels.aligned(len(array), self.functions.real)
            own[:] = array
            setattr(found, name, own)
        return found

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
            normalisation=CpuNormalisation(
                f"{name}.{last}",
                scale=self._take(outputs.room),
                shift=self._take(outputs.room),
                mean=self._take_running(outputs.room),
                variance=self._take_running(outputs.room),
            ),
        )

    def _layer_of(self, operation: Operation) -> Layer | None:
        """The parameters of an operation; None for a pooling, which has none."""
        if operation.kind is OperationKind.STEM:
            inputs = self._channels(1, 9 * self.skeleton.image_channels)
        else:
            inputs = self._channels(len(operation.inputs), self.parts.blocks[operation.inputs[0]].channels)
        outputs = self._channels(len(operation.outputs), self.parts.blocks[operation.outputs[0]].channels)
        match operation.kind:
            case OperationKind.STEM | OperationKind.CONVOLUTION:
                return self._layer(inputs, outputs, operation.name, weights=0)
            case OperationKind.DEPTHWISE:
                return self._layer(inputs, outputs, operation.name, filters=0)
            case OperationKind.SEPARABLE:
                return self._layer(inputs, outputs, operation.name, filters=0, weights=1)
            case OperationKind.MAXIMUM | OperationKind.AVERAGE:
                return None

    @property
    def stem(self) -> Layer:
        """The first layer, which reads the images."""
        layer = self.layers[0]
        assert layer is not None, "the stem has parameters"
        return layer

    def _all(self) -> list[Layer]:
        """All layers, in the order of the plain network."""
        return [*(layer for layer in self.layers if layer is not None), self.classifier]

    # ── the plain network's state_dict ──────────────────────────────────────────────────────────────────────────────
    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and statistics as `network.Network` names and shapes them: copies."""
        return self._named(self.parameters) | self._statistics()

    def gradient_dict(self) -> dict[str, Tensor]:
        """Gradients, named and shaped as the plain network's parameters: copies."""
        return self._named(self.gradients)

    def _named(self, flat: np.ndarray) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for layer in self._all():
            rows, columns = layer.inputs.places, layer.outputs.places
            if layer.weights is not None:
                weights = torch.from_numpy(_matrix(flat, layer.weights, layer.outputs)[np.ix_(rows, columns)].T)
                if layer is self.layers[0]:
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
        for layer in self._all():
            if (normalisation := layer.normalisation) is not None:
                columns = layer.outputs.places
                mean, variance = self.running[normalisation.mean], self.running[normalisation.variance]
                found[f"{normalisation.name}.running_mean"] = torch.from_numpy(mean[columns])
                found[f"{normalisation.name}.running_var"] = torch.from_numpy(variance[columns])
        return found

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes parameters and statistics of the plain network. Raises KeyError or ValueError if they do not fit."""
        for layer in self._all():
            rows, columns = layer.inputs.places, layer.outputs.places
            if layer.weights is not None:
                weights = state[f"{layer.weights_name}.weight"]
                if layer is self.layers[0]:
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
