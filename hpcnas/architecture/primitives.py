"""The level-1 operations: names, codes and what each does to the number of channels (§2.3).

Names are those of Appendix A as this project writes them. The code is an operation's number in a genotype, 1 to 6 in
the paper's order; 0 is `none`, no edge, at every level. `training.network` says how one computes.

Plugins add others (`plugins`). Theirs are numbered from 7 as they are loaded: a number means something within a process
only, and what is kept goes by names (`space`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NONE = 0

NAMES = ("1x1", "dw", "sep", "max", "avg", "id")
"""1×1 convolution, 3×3 depthwise convolution, 3×3 separable convolution, 3×3 max-pooling, 3×3 average-pooling,
identity; `NAMES[code - 1]`."""

CODES = {name: code for code, name in enumerate(NAMES, start=1)}

CONVOLUTION, DEPTHWISE, SEPARABLE, MAX_POOLING, AVERAGE_POOLING, IDENTITY = range(1, 7)

PROJECTING = frozenset({CONVOLUTION, SEPARABLE})
"""Operations with C output channels; every other one keeps the channels of its input (P1)."""


@dataclass(frozen=True)
class Primitive:
    """An operation that a plugin adds: stride 1, and the resolution stays.

    Its output has the cell's C channels, or as many as its input where `keeps_channels`. The three functions are called
    with the numbers of input and output channels. `parameters` counts trainable numbers, those of normalisations
    included, `multiply_adds` counts multiply-adds an output pixel, and `build` makes the torch module, from (N, input
    channels, H, W) to (N, output channels, H, W); it alone may import torch.
    """

    name: str  # of letters, digits and hyphens
    keeps_channels: bool
    parameters: Callable[[int, int], int]
    multiply_adds: Callable[[int, int], int]
    build: Callable[[int, int], Any]


ADDED: list[Primitive] = []
"""Primitives of the plugins that this process has loaded; their codes begin at 7."""


def added(code: int) -> Primitive | None:
    """The primitive of a plugin that has this code; None for any other code."""
    return ADDED[code - len(NAMES) - 1] if len(NAMES) < code <= len(NAMES) + len(ADDED) else None


def name(code: int) -> str:
    """The name of the operation with this code."""
    own = added(code)
    return NAMES[code - 1] if own is None else own.name


def code_of(name: str) -> int:
    """The code that an operation has in this process. Raises KeyError for an unknown name."""
    if name in CODES:
        return CODES[name]
    for code, primitive in enumerate(ADDED, start=len(NAMES) + 1):
        if primitive.name == name:
            return code
    raise KeyError(name)


def output_channels(code: int, input_channels: int, cell_channels: int) -> int:
    """Output channels of operation `code` in a cell whose input has `cell_channels`."""
    if code <= len(NAMES):
        return cell_channels if code in PROJECTING else input_channels
    return input_channels if ADDED[code - len(NAMES) - 1].keeps_channels else cell_channels
