"""What the Triton kernels of a block plan have in common: how a block is described, and what readers see of it.

A block of R networks is (R, pixels, channels) in one large array, channels last; pixels are those of all images. A
launch runs many operations on blocks of one shape:

    program (operation, tile of pixels, network)      operations of one tile are neighbours: they share what they read

Maps are bfloat16 or float32; sums and parameters are float32, a product's operands are of the maps' type (all float64
in tests). What a normalised block shows to its readers is computed as they read it: max(a·raw + b, 0), a and b from the
sums that its maker has left. `sums` is (R, 4, channels): of raw and raw² on the way forward, and the gradients of shift
and scale on the way back.

Kernels are compiled once for a shape, never for a genotype: which blocks an operation reads stands in tables of int64.
"""

from __future__ import annotations

import triton
import triton.language as tl

UNIT = tl.constexpr(128)
"""Blocks begin at multiples of so many numbers, and tables count in units of it: thus the compiler knows that a load
may be wide."""
ALIGNMENT = tl.constexpr(16)  # likewise of statistics and parameters

# A block as its users see it: OPERAND numbers, in this order.
RAW = tl.constexpr(0)  # where it begins, in units
GRADIENT = tl.constexpr(1)  # likewise its gradient; −1: it has none
NORMALISED = tl.constexpr(2)  # whether it is
STATISTICS = tl.constexpr(3)  # where its channels' statistics are, and its
SCALE = tl.constexpr(4)
SHIFT = tl.constexpr(5)
WEIGHTS = tl.constexpr(6)  # where the weights are that its user applies to it
WINNERS = tl.constexpr(7)  # where those of a max-pooling are, in units
OPERAND = tl.constexpr(8)
# A row of a table: the block that an operation makes (OPERATION numbers), or whose gradient is added to (BACKWARD).
FIRST = tl.constexpr(8)  # its first operand, in the table of operands
OPERANDS = tl.constexpr(9)  # and how many it has
OPERATION = tl.constexpr(10)
BEGUN = tl.constexpr(10)  # whether there is a gradient already
LAST = tl.constexpr(11)  # whether this is the last addition
BACKWARD = tl.constexpr(12)
EPSILON = tl.constexpr(1e-5)  # PyTorch's default of batch normalisation
MOMENTUM = tl.constexpr(0.1)  # likewise, of running statistics


@triton.jit
def moments(operand, sums, columns, count, channels_in_all):
    """Mean and 1/deviation of a block's channels; 0 and about 1/√ε where it is not normalised."""
    present = (columns >= 0) & (tl.load(operand + NORMALISED) != 0)
    place = sums + tl.load(operand + STATISTICS) * ALIGNMENT + columns
    mean = tl.load(place, mask=present, other=0.0) / count
    variance = tl.load(place + channels_in_all, mask=present, other=0.0) / count - mean * mean
    return mean, 1.0 / tl.sqrt(tl.maximum(variance, 0.0, propagate_nan=tl.PropagateNan.ALL) + EPSILON)


@triton.jit
def coefficients(operand, sums, parameters, columns, count, channels_in_all):
    """What readers see is max(a · raw + b, lowest)."""
    normalised = tl.load(operand + NORMALISED) != 0
    present = (columns >= 0) & normalised
    mean, inverse = moments(operand, sums, columns, count, channels_in_all)
    scale = tl.load(parameters + tl.load(operand + SCALE) * ALIGNMENT + columns, mask=present, other=1.0)
    shift = tl.load(parameters + tl.load(operand + SHIFT) * ALIGNMENT + columns, mask=present, other=0.0)
    a = tl.where(normalised, scale * inverse, 1.0)
    return a, shift - mean * a, tl.where(normalised, 0.0, float("-inf"))


@triton.jit
def seen_by_readers(raw, a, b, lowest):
    """Values of a block as its readers see them; NaN stays NaN."""
    return tl.maximum(a[None, :] * raw + b[None, :], lowest, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def add_column_sums(place, values, columns):
    tl.atomic_add(place + columns, tl.sum(values, axis=0), sem="relaxed")


# ── going down the rows ─────────────────────────────────────────────────────────────────────────────────────────────
# Kernels that look at neighbours go down the images row by row. A tile is of columns of pixels, one an image and x; a
# program has SPAN rows of each. Of every row it reads the pixels to the left, here, and to the right, once, and adds
# them to the three rows of the result that need them: `upper` belongs to the row below the one that was read, `middle`
# to that row itself; what is complete is the row above it.
@triton.jit
def columns_of_pixels(COLUMNS, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr, SPAN: tl.constexpr):
    """First row of this program; and of every column: its x, its topmost pixel, and whether there is one."""
    spans: tl.constexpr = (HEIGHT + SPAN - 1) // SPAN
    column = tl.program_id(1) // spans * TILE + tl.arange(0, TILE)
    x = column % WIDTH
    return tl.program_id(1) % spans * SPAN, x, column // WIDTH * (HEIGHT * WIDTH) + x, column < COLUMNS


@triton.jit
def row_of_three(place, top, x, inside, row, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
                 CHANNELS: tl.constexpr):  # fmt: skip
    """The pixels to the left, here and to the right in a row; zero beyond the image."""
    there = inside & (row >= 0) & (row < HEIGHT)
    at = place + (top + row * WIDTH)[:, None] * CHANNELS + columns[None, :]
    left = tl.load(at - CHANNELS, mask=(there & (x > 0))[:, None], other=0.0)
    here = tl.load(at, mask=there[:, None], other=0.0)
    right = tl.load(at + CHANNELS, mask=(there & (x < WIDTH - 1))[:, None], other=0.0)
    return left, here, right


@triton.jit
def filter_row(place, columns, CHANNELS: tl.constexpr, ROW: tl.constexpr):
    """A row of three filters, (1, channels) each."""
    place += ROW * 3 * CHANNELS + columns
    first, second, third = tl.load(place), tl.load(place + CHANNELS), tl.load(place + 2 * CHANNELS)
    return first[None, :], second[None, :], third[None, :]


@triton.jit
def extent(position, SIZE: tl.constexpr):
    """How many of three neighbours along one side of the image are in it."""
    return tl.minimum(position + 1, SIZE - 1) - tl.maximum(position - 1, 0) + 1
