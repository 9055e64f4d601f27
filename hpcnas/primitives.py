"""The level-1 operations: names, codes and what each does to the number of channels (§2.3).

Names are those of Appendix A as this project writes them. The code is an operation's number in a genotype, 1 to 6 in
the paper's order; 0 is `none`, no edge, at every level. How an operation computes is `operations`' business, not ours.
"""

from __future__ import annotations

NONE = 0

NAMES = ("1x1", "dw", "sep", "max", "avg", "id")
"""1×1 convolution, 3×3 depthwise convolution, 3×3 separable convolution, 3×3 max-pooling, 3×3 average-pooling,
identity; `NAMES[code - 1]`."""

CODES = {name: code for code, name in enumerate(NAMES, start=1)}

CONVOLUTION, DEPTHWISE, SEPARABLE, MAX_POOLING, AVERAGE_POOLING, IDENTITY = range(1, 7)

PROJECTING = frozenset({CONVOLUTION, SEPARABLE})
"""Operations with C output channels; every other one keeps the channels of its input (PAPER: choice)."""


def output_channels(code: int, input_channels: int, cell_channels: int) -> int:
    """Channels that operation `code` gives inside a cell whose input has `cell_channels`."""
    return cell_channels if code in PROJECTING else input_channels
