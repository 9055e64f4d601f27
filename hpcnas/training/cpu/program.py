"""A plan made to run for batches of one shape: memory, and the tables of what `kernels.c` does with it (D7).

    of the plan (`training.blocks`)     map      operation                     block
    of `kernels.c`                      node     step, or one a block          as many blocks as its channels need

The blocks of `kernels.c` are of a few channels, as many as a vector of the processor holds. Nodes share them, so
identity and concatenation cost nothing. It computes the same function as `network.Network`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hpcnas.training.cpu import kernels
from hpcnas.training.cpu.parameters import CpuPlan, Layer

_SLAB = 64 << 20  # bytes


@dataclass
class Node:
    """A feature map: the blocks that it is made of, and the steps that read it."""

    height: int
    width: int
    blocks: list[dict[str, int]] = field(default_factory=list)
    steps: list[dict[str, int]] = field(default_factory=list)


class CpuProgram:
    """A plan for batches of one shape: memory, and the tables of nodes and steps. Not for several threads at a time."""

    def __init__(
        self,
        plan: CpuPlan,
        images: int,
        height: int,
        width: int,
        training: bool,
        class_weights: Tensor | None = None,
    ) -> None:
        """`class_weights` in the loss: real (classes,)."""
        self._plan = plan
        self._class_weights = class_weights
        self._training = training
        self._images = images
        self._real, self._lanes = plan.functions.real, plan.functions.lanes
        self._kept: list[np.ndarray] = []  # slabs of memory that steps point into
        self._used = 0  # bytes of the last slab
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

    def _build(self, height: int, width: int) -> None:
        """The nodes, blocks and steps of images of that size."""
        plan, skeleton, parts = self._plan, self._plan.skeleton, self._plan.parts
        sizes = [(height, width)]  # by halvings
        for _ in range(parts.maps[parts.final].halvings):
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        self._nodes = [Node(*sizes[feature_map.halvings]) for feature_map in parts.maps]
        vectors: dict[int, list[dict[str, int]]] = {}  # the blocks here, by the plan's block that they are parts of
        for operation, layer in zip(parts.operations, plan.layers, strict=True):
            kind, source = operation.kind.name.lower(), self._nodes[operation.source]
            if layer is None:
                (block,) = operation.inputs
                share = len(vectors[block])  # blocks here for one of the plan's
                first = parts.maps[operation.source].blocks.index(block) * share
                made = [self._pooling(kind, source, use) for use in range(first, first + share)]
            else:
                size = sizes[parts.blocks[operation.outputs[0]].halvings]
                made = self._layer(kind, layer, source, *size, operation.stride)
                share = len(made) // len(operation.outputs)
            vectors |= {output: made[number * share :][:share] for number, output in enumerate(operation.outputs)}
        (step,) = self._nodes[0].steps
        self._inputs = self._room(self._images * height * width, skeleton.image_channels)
        step["pixels"], step["channels"] = self._inputs.ctypes.data, skeleton.image_channels
        for node, feature_map in zip(self._nodes, parts.maps, strict=True):
            node.blocks = [part for block in feature_map.blocks for part in vectors[block]]
        self._head(self._nodes[parts.final])

    def _made(self, height: int, width: int) -> dict[str, int]:
        """A new block, whose map is yet to be placed."""
        block = {"images": self._images, "pixels": height * width}
        self._blocks.append(block)
        return block

    def _step_from(self, kind: str, source: Node, results: int, height: int, width: int, stride: int) -> dict[str, int]:
        """A step from a node to the blocks that are made next."""
        step = {"kind": kernels.KINDS.index(kind), "result": len(self._blocks), "results": results}
        step |= {"stride": stride, "height": height, "width": width}
        source.steps.append(step)
        return step

    def _pooling(self, kind: str, source: Node, use: int) -> dict[str, int]:
        """The block that a pooling of the source's block number `use` makes."""
        step = self._step_from(kind, source, 1, source.height, source.width, stride=1)
        step["use"] = use
        if kind == "maximum":
            step["winners"] = self._vectors(self._images * source.height * -(-source.width // 8))
        return self._made(source.height, source.width)

    def _layer(
        self, kind: str, layer: Layer, source: Node, height: int, width: int, stride: int
    ) -> list[dict[str, int]]:
        """The blocks, of height × width pixels, that an operation with parameters makes of a map."""
        plan, lanes = self._plan, self._lanes
        blocks, normalisation = layer.outputs.blocks, layer.normalisation
        assert normalisation is not None, "only the classifier has none"
        alone = kind == "depthwise"  # a step a block
        made: list[dict[str, int]] = []
        for first in range(0, blocks, 1 if alone else blocks):
            step = self._step_from(kind, source, 1 if alone else blocks, height, width, stride)
            step["use"] = first
            if layer.filters is not None:
                step["filters"] = _address(plan.parameters, layer.filters, first * lanes)
                step["d_filters"] = _address(plan.gradients, layer.filters, first * lanes)
                step["filter_row"] = layer.inputs.blocks
            if layer.weights is not None:
                self._weights(step, layer)
            for number in range(first, first + step["results"]):
                block = self._made(height, width)
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
                made.append(block)
        return made

    def _weights(self, step: dict[str, int], layer: Layer) -> None:
        assert layer.weights is not None, "called for layers with weights"
        step["weights"] = _address(self._plan.parameters, layer.weights)
        step["d_weights"] = _address(self._plan.gradients, layer.weights)

    def _head(self, source: Node) -> None:
        plan, images = self._plan, self._images
        blocks, sources = plan.classifier.outputs.blocks, len(source.blocks)
        step = self._step_from("head", source, blocks, 1, 1, stride=1)
        self._weights(step, plan.classifier)
        assert plan.classifier.bias is not None, "a classifier has a bias"
        step["bias"] = _address(plan.parameters, plan.classifier.bias)
        step["d_bias"] = _address(plan.gradients, plan.classifier.bias)
        step["classes"] = plan.skeleton.classes
        self._labels, self._loss = self._room(images, kind=np.int64), self._room(1)
        self._scores = self._room(blocks, images, self._lanes)
        step["labels"], step["loss"] = self._labels.ctypes.data, self._loss.ctypes.data
        if self._class_weights is not None:
            weights = self._room(plan.skeleton.classes)
            weights[:] = self._class_weights.numpy()
            step["class_weights"] = weights.ctypes.data
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

    def _place_turned(self, node: Node) -> None:
        """Room for transposed weights, those of the node's convolutions in one piece."""
        weighted = [step for step in node.steps if "weights" in step]
        sizes = [step["results"] * self._lanes * len(node.blocks) for step in weighted]
        turned = self._room(sum(sizes), self._lanes)
        for step, start in zip(weighted, itertools.accumulate(sizes, initial=0), strict=False):
            step["turned"] = turned[start:].ctypes.data

    def _tabulate(self) -> None:
        """The records that the kernels read."""
        number = {id(block): position for position, block in enumerate(self._blocks)}
        nodes: list[dict[str, int]] = []
        uses: list[dict[str, int]] = []
        steps: list[dict[str, int]] = []
        for node in self._nodes:
            node.steps.sort(key=lambda step: step["kind"] != kernels.KINDS.index("convolution"))
            if self._training:
                self._place_turned(node)
            row = {"images": self._images, "height": node.height, "width": node.width}
            row |= {
                "uses": len(node.blocks),
                "first_use": len(uses),
                "steps": len(node.steps),
                "first_step": len(steps),
            }
            nodes.append(row)
            uses += [{"block": number[id(block)]} for block in node.blocks]
            steps += node.steps
        backwards = [use for row in reversed(nodes) for use in uses[row["first_use"] :][: row["uses"]]]
        for order, name in ((backwards, "first"), (backwards[::-1], "last")):
            seen: set[int] = set()
            for use in order:
                use[name] = int(use["block"] not in seen)
                seen.add(use["block"])
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
        """Mean cross-entropy of a batch, by the weights of its classes; leaves its gradients in the plan. Images
        (B, C, H, W), labels int64 (B,)."""
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
