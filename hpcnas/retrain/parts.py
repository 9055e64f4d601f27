"""Concatenations that are not made: while a network is trained, a node's value stays the list of its inputs, its parts.

    pooling, identity   of each part
    depthwise           of each part, with its slice of the weights
    1×1 convolution     the sum of those of the parts, each with its slice of the weights

The same weights give the same function, up to the order of additions. What needs all of a node at once, such as the
normalisation after a depthwise convolution, or a plugin's primitive, joins the parts.

On a CPU (virtual Xeon, torch 2.13, one thread, the paper's cell, c0 = 16, cells 1 1 1, 64 images of 24×24) a step kept
26 % fewer bytes than with concatenations, whose copies stand beside what is copied, and took 7 and 4 % less processor
time (5 to 11, 0 to 7, by 31 turns each, beside other work). ReLUs that write into slices of one map in place of a copy
keep 18 % fewer bytes, but took 4 % more time (−2 to 7, by 25 turns). A compiler spares these copies by itself. On a GPU
nothing was measured. What fits into memory (`fitting`) is judged by the plain network, which keeps more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpcnas.architecture import primitives
from hpcnas.training.network import Cell, Network

Parts = list[Tensor]  # (N, C_i, H, W) each: the value (N, ΣC_i, H, W) of a node
_MOST = 8  # parts of a node; more of them are joined, since each costs calls of its own


def leave_apart(network: Network) -> None:
    """From now on the blocks of the network do so in training mode. A cell then gives parts to what follows it."""
    for block in network.blocks:
        form: Callable[[Any], Tensor | Parts]
        if isinstance(block, Cell):
            form = functools.partial(_cell, block)
        else:
            assert isinstance(block, nn.Sequential), "the separable convolution after a cell"
            form = functools.partial(_separable_after, block)
        block.forward = form  # type: ignore[method-assign]


def _cell(cell: Cell, maps: Tensor) -> Tensor | Parts:
    if not cell.training:
        return Cell.forward(cell, maps)
    values: list[Parts] = [[] for _ in range(cell.graph.nodes)]
    values[0].append(maps)
    for edge, operation in zip(cell.graph.edges, cell.edges, strict=True):
        if len(values[edge.source]) > _MOST:  # complete: every edge into it stands before the first edge out of it
            values[edge.source] = [_joined(values[edge.source])]
        values[edge.target] += _applied(edge.operation, operation, values[edge.source])
    return values[-1]


def _separable_after(block: nn.Sequential, maps: Tensor | Parts) -> Tensor:
    if isinstance(maps, Tensor):
        found: Tensor = nn.Sequential.forward(block, maps)
        return found
    return _separable(block, maps)


def _applied(code: int, operation: nn.Module, parts: Parts) -> Parts:
    """The parts that a primitive makes of a node's."""
    match code:
        case primitives.IDENTITY:
            return parts
        case primitives.MAX_POOLING | primitives.AVERAGE_POOLING:
            return [operation(part) for part in parts]
    if code in (primitives.CONVOLUTION, primitives.DEPTHWISE, primitives.SEPARABLE):
        assert isinstance(operation, nn.Sequential)
        if code == primitives.SEPARABLE:
            return [_separable(operation, parts)]
        first = _dense if code == primitives.CONVOLUTION else _depthwise_joined
        return [_finished(operation, 1, first(operation[0], parts))]
    return [operation(_joined(parts))]


def _separable(operation: nn.Sequential, parts: Parts) -> Tensor:
    return _finished(operation, 2, _dense(operation[1], _depthwise(operation[0], parts)))


def _finished(operation: nn.Sequential, made: int, maps: Tensor) -> Tensor:
    """What is left of it, after so many modules."""
    for number in range(made, len(operation)):
        maps = operation[number](maps)
    return maps


def _dense(convolution: nn.Module, parts: Parts) -> Tensor:
    """A 1×1 convolution of all parts."""
    assert isinstance(convolution, nn.Conv2d)
    first, *others = zip(parts, convolution.weight.split([part.shape[1] for part in parts], dim=1), strict=True)
    found = functional.conv2d(*first)
    for part, weight in others:
        found += functional.conv2d(part, weight)
    return found


def _depthwise(convolution: nn.Module, parts: Parts) -> Parts:
    assert isinstance(convolution, nn.Conv2d)
    weights = convolution.weight.split([part.shape[1] for part in parts])
    return [
        functional.conv2d(part, weight, stride=convolution.stride, padding=convolution.padding, groups=part.shape[1])
        for part, weight in zip(parts, weights, strict=True)
    ]


def _depthwise_joined(convolution: nn.Module, parts: Parts) -> Tensor:
    return _joined(_depthwise(convolution, parts))


def _joined(parts: Parts) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
