"""Triton kernels of a block plan, forward: images, convolutions and poolings (`block_layout` says how blocks lie)."""

from __future__ import annotations

import triton
import triton.language as tl

from hpcnas.training.cuda.block_layout import (
    ALIGNMENT,
    FIRST,
    NORMALISED,
    OPERAND,
    OPERANDS,
    OPERATION,
    RAW,
    STATISTICS,
    UNIT,
    WEIGHTS,
    WINNERS,
    add_column_sums,
    coefficients,
    columns_of_pixels,
    extent,
    filter_row,
    row_of_three,
    seen_by_readers,
)


@triton.jit
def take_images(maps, rows, dataset, order, offsets, normaliser, step, STEPS, BATCH, PIXELS, FULL_HEIGHT, FULL_WIDTH,
                HEIGHT: tl.constexpr, WIDTH: tl.constexpr, COLOURS: tl.constexpr, CHANNELS: tl.constexpr,
                TILE: tl.constexpr):  # fmt: skip
    """The nine pixels around each pixel of the step's crops, normalised; beyond the crop there are zeros.

    dataset (N, FULL_HEIGHT, FULL_WIDTH, COLOURS) of any type that data have; order int32 (R, STEPS, BATCH), places of
    images in it; offsets int16 (R, STEPS, BATCH, 3): row and column where the crop begins, and whether it is mirrored;
    normaliser (2, COLOURS).
    """
    row = rows + tl.program_id(0).to(tl.int64) * OPERATION
    network = tl.program_id(2).to(tl.int64)
    pixels = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = pixels < PIXELS
    columns = tl.arange(0, CHANNELS)
    image, y, x = _place(pixels, HEIGHT, WIDTH)
    drawn = (network * STEPS + tl.load(step)) * BATCH + image
    number = tl.load(order + drawn, mask=inside, other=0).to(tl.int64)
    top = tl.load(offsets + drawn * 3, mask=inside, other=0).to(tl.int32)
    left = tl.load(offsets + drawn * 3 + 1, mask=inside, other=0).to(tl.int32)
    mirrored = tl.load(offsets + drawn * 3 + 2, mask=inside, other=0) != 0
    which = tl.program_id(0) * CHANNELS + columns  # of the nine pixels' colours
    tap, colour = which // COLOURS, which % COLOURS
    above, beside = y[:, None] + (tap // 3 - 1)[None, :], x[:, None] + (tap % 3 - 1)[None, :]
    there = inside[:, None] & (above >= 0) & (above < HEIGHT) & (beside >= 0) & (beside < WIDTH) & (tap < 9)[None, :]
    across = tl.where(mirrored[:, None], WIDTH - 1 - beside, beside)
    place = (number[:, None] * FULL_HEIGHT + top[:, None] + above) * FULL_WIDTH + left[:, None] + across
    value = tl.load(dataset + place * COLOURS + colour[None, :], mask=there, other=0)
    scale, shift = tl.load(normaliser + colour), tl.load(normaliser + COLOURS + colour)
    value = tl.where(there, value.to(scale.dtype) * scale[None, :] + shift[None, :], 0.0)
    target = (
        maps + tl.load(row + RAW) * UNIT + network * PIXELS * CHANNELS + pixels[:, None] * CHANNELS + columns[None, :]
    )
    tl.store(target, value.to(maps.dtype.element_ty), mask=inside[:, None])


@triton.jit
def _finish(acc, output, maps, sums, pixels, columns, inside, network, PIXELS, CHANNELS: tl.constexpr,
            channels_in_all, TRAINING: tl.constexpr):  # fmt: skip
    """Stores a block and adds up its values and their squares, where it is normalised."""
    raw = acc.to(maps.dtype.element_ty)
    place = maps + tl.load(output + RAW) * UNIT + network * PIXELS * CHANNELS
    tl.store(place + pixels[:, None] * CHANNELS + columns[None, :], raw, mask=inside[:, None])
    if TRAINING:
        if tl.load(output + NORMALISED) != 0:
            kept = tl.where(inside[:, None], raw.to(acc.dtype), 0.0)
            place_of_sums = sums + tl.load(output + STATISTICS) * ALIGNMENT
            add_column_sums(place_of_sums, kept, columns)
            add_column_sums(place_of_sums + channels_in_all, kept * kept, columns)


@triton.jit(do_not_specialize=["first"])
def pointwise(maps, sums, parameters, rows, operands, first, PIXELS, parameters_in_all, channels_in_all,
              INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, TILE: tl.constexpr, TRAINING: tl.constexpr):  # fmt: skip
    """1×1 convolutions: raw = Σ seen(input) × weights(input); rows hold (output, first operand, operands)."""
    row = rows + (first + tl.program_id(0)).to(tl.int64) * OPERATION
    network = tl.program_id(2).to(tl.int64)
    pixels = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = pixels < PIXELS
    columns, results = tl.arange(0, INPUTS), tl.arange(0, OUTPUTS)
    sums += network * 4 * channels_in_all
    parameters += network * parameters_in_all
    acc = tl.zeros((TILE, OUTPUTS), sums.dtype.element_ty)
    operand = operands + tl.load(row + FIRST) * OPERAND
    for _ in range(tl.load(row + OPERANDS)):
        a, b, lowest = coefficients(operand, sums, parameters, columns, PIXELS, channels_in_all)
        place = maps + tl.load(operand + RAW) * UNIT + network * PIXELS * INPUTS
        raw = tl.load(place + pixels[:, None] * INPUTS + columns[None, :], mask=inside[:, None], other=0.0)
        seen = seen_by_readers(raw.to(acc.dtype), a, b, lowest).to(raw.dtype)
        weights = tl.load(
            parameters + tl.load(operand + WEIGHTS) * ALIGNMENT + columns[:, None] * OUTPUTS + results[None, :]
        )
        acc = tl.dot(seen, weights.to(raw.dtype), acc, input_precision="ieee", out_dtype=acc.dtype)
        operand += OPERAND
    _finish(acc, row, maps, sums, pixels, results, inside, network, PIXELS, OUTPUTS, channels_in_all, TRAINING)


@triton.jit
def _place(pixels, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Image, row and column of pixels."""
    return pixels // (HEIGHT * WIDTH), pixels // WIDTH % HEIGHT, pixels % WIDTH


@triton.jit(do_not_specialize=["first"])
def strided(maps, sums, parameters, rows, operands, first, PIXELS, SOURCE_PIXELS, parameters_in_all, channels_in_all,
            HEIGHT: tl.constexpr, WIDTH: tl.constexpr, OUT_HEIGHT: tl.constexpr, OUT_WIDTH: tl.constexpr,
            STRIDE: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr, TRAINING: tl.constexpr):  # fmt: skip
    """3×3 depthwise convolutions of stride STRIDE, from HEIGHT × WIDTH pixels to OUT_HEIGHT × OUT_WIDTH."""
    row = rows + (first + tl.program_id(0)).to(tl.int64) * OPERATION
    network = tl.program_id(2).to(tl.int64)
    pixels = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = pixels < PIXELS
    columns = tl.arange(0, CHANNELS)
    sums += network * 4 * channels_in_all
    parameters += network * parameters_in_all
    acc = tl.zeros((TILE, CHANNELS), sums.dtype.element_ty)
    operand = operands + tl.load(row + FIRST) * OPERAND
    a, b, lowest = coefficients(operand, sums, parameters, columns, SOURCE_PIXELS, channels_in_all)
    place = maps + tl.load(operand + RAW) * UNIT + network * SOURCE_PIXELS * CHANNELS
    filters = parameters + tl.load(operand + WEIGHTS) * ALIGNMENT + columns
    image, y, x = _place(pixels, OUT_HEIGHT, OUT_WIDTH)
    for down in range(3):
        for right in tl.static_range(3):
            above, left = y * STRIDE + down - 1, x * STRIDE + right - 1
            there = inside & (above >= 0) & (above < HEIGHT) & (left >= 0) & (left < WIDTH)
            source = (image * HEIGHT + above) * WIDTH + left
            raw = tl.load(place + source[:, None] * CHANNELS + columns[None, :], mask=there[:, None], other=0.0)
            seen = tl.where(there[:, None], seen_by_readers(raw.to(acc.dtype), a, b, lowest), 0.0)
            acc += seen * tl.load(filters + (down * 3 + right) * CHANNELS)[None, :]
    _finish(acc, row, maps, sums, pixels, columns, inside, network, PIXELS, CHANNELS, channels_in_all, TRAINING)


@triton.jit
def _in_image(x, inside, row, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Which of the pixels of `row_of_three` are in the image."""
    there = inside & (row >= 0) & (row < HEIGHT)
    return (there & (x > 0))[:, None], there[:, None], (there & (x < WIDTH - 1))[:, None]


@triton.jit(do_not_specialize=["first"])
def depthwise(maps, sums, parameters, rows, operands, first, PIXELS, COLUMNS, parameters_in_all, channels_in_all,
              HEIGHT: tl.constexpr, WIDTH: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr,
              SPAN: tl.constexpr, TRAINING: tl.constexpr):  # fmt: skip
    """3×3 depthwise convolutions."""
    output = rows + (first + tl.program_id(0)).to(tl.int64) * OPERATION
    network = tl.program_id(2).to(tl.int64)
    start, x, top, inside = columns_of_pixels(COLUMNS, HEIGHT, WIDTH, TILE, SPAN)
    columns = tl.arange(0, CHANNELS)
    sums += network * 4 * channels_in_all
    parameters += network * parameters_in_all
    real = sums.dtype.element_ty
    operand = operands + tl.load(output + FIRST) * OPERAND
    a, b, lowest = coefficients(operand, sums, parameters, columns, PIXELS, channels_in_all)
    source = maps + tl.load(operand + RAW) * UNIT + network * PIXELS * CHANNELS
    target = maps + tl.load(output + RAW) * UNIT + network * PIXELS * CHANNELS
    filters = parameters + tl.load(operand + WEIGHTS) * ALIGNMENT
    f00, f01, f02 = filter_row(filters, columns, CHANNELS, 0)
    f10, f11, f12 = filter_row(filters, columns, CHANNELS, 1)
    f20, f21, f22 = filter_row(filters, columns, CHANNELS, 2)
    upper, middle = tl.zeros((TILE, CHANNELS), real), tl.zeros((TILE, CHANNELS), real)
    total, squares = tl.zeros((TILE, CHANNELS), real), tl.zeros((TILE, CHANNELS), real)
    left, here, right = row_of_three(source, top, x, inside, start - 1, columns, HEIGHT, WIDTH, CHANNELS)
    for step in range(SPAN + 2):
        row = start + step - 1
        next_left, next_here, next_right = row_of_three(
            source, top, x, inside, row + 1, columns, HEIGHT, WIDTH, CHANNELS
        )
        has_left, has_here, has_right = _in_image(x, inside, row, HEIGHT, WIDTH)
        seen_left = tl.where(has_left, seen_by_readers(left.to(real), a, b, lowest), 0.0)
        seen_here = tl.where(has_here, seen_by_readers(here.to(real), a, b, lowest), 0.0)
        seen_right = tl.where(has_right, seen_by_readers(right.to(real), a, b, lowest), 0.0)
        made = (middle + f20 * seen_left + f21 * seen_here + f22 * seen_right).to(maps.dtype.element_ty)
        middle = upper + f10 * seen_left + f11 * seen_here + f12 * seen_right
        upper = f00 * seen_left + f01 * seen_here + f02 * seen_right
        stored = (inside & (step >= 2) & (row <= HEIGHT))[:, None]
        tl.store(target + (top + (row - 1) * WIDTH)[:, None] * CHANNELS + columns[None, :], made, mask=stored)
        if TRAINING:
            kept = tl.where(stored, made.to(real), 0.0)
            total += kept
            squares += kept * kept
        left, here, right = next_left, next_here, next_right
    if TRAINING:
        if tl.load(output + NORMALISED) != 0:
            place = sums + tl.load(output + STATISTICS) * ALIGNMENT
            add_column_sums(place, total, columns)
            add_column_sums(place + channels_in_all, squares, columns)


@triton.jit
def _better(value, number, best, best_number):
    """The larger of two, the first of equal ones, with its number."""
    larger = value > best
    return tl.where(larger, value, best), tl.where(larger, number, best_number)


@triton.jit(do_not_specialize=["first"])
def maximum(maps, winners, sums, parameters, rows, operands, first, PIXELS, COLUMNS, parameters_in_all,
            channels_in_all, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr,
            SPAN: tl.constexpr, TRAINING: tl.constexpr):  # fmt: skip
    """3×3 max-pooling. max(a·x + b, lowest) is monotonous in x, so the largest or, where a < 0, the least x decides.

    `winners` says which of the nine pixels that was, the first of several.
    """
    output = rows + (first + tl.program_id(0)).to(tl.int64) * OPERATION
    network = tl.program_id(2).to(tl.int64)
    start, x, top, inside = columns_of_pixels(COLUMNS, HEIGHT, WIDTH, TILE, SPAN)
    columns = tl.arange(0, CHANNELS)
    sums += network * 4 * channels_in_all
    parameters += network * parameters_in_all
    real = sums.dtype.element_ty
    operand = operands + tl.load(output + FIRST) * OPERAND
    a, b, lowest = coefficients(operand, sums, parameters, columns, PIXELS, channels_in_all)
    sign = tl.where(a < 0, -1.0, 1.0).to(real)[None, :]
    source = maps + tl.load(operand + RAW) * UNIT + network * PIXELS * CHANNELS
    target = maps + tl.load(output + RAW) * UNIT + network * PIXELS * CHANNELS
    chosen = winners + tl.load(output + WINNERS) * UNIT + network * PIXELS * CHANNELS
    # The best of each of the two rows before, and where in its row it stands: 0, 1 or 2.
    before, upper = tl.full((TILE, CHANNELS), float("-inf"), real), tl.full((TILE, CHANNELS), float("-inf"), real)
    before_number, upper_number = tl.zeros((TILE, CHANNELS), tl.int32), tl.zeros((TILE, CHANNELS), tl.int32)
    left, here, right = row_of_three(source, top, x, inside, start - 1, columns, HEIGHT, WIDTH, CHANNELS)
    for step in range(SPAN + 2):
        row = start + step - 1
        next_left, next_here, next_right = row_of_three(
            source, top, x, inside, row + 1, columns, HEIGHT, WIDTH, CHANNELS
        )
        has_left, has_here, has_right = _in_image(x, inside, row, HEIGHT, WIDTH)
        best = tl.where(has_left, left.to(real) * sign, float("-inf"))
        number = tl.zeros((TILE, CHANNELS), tl.int32)
        best, number = _better(tl.where(has_here, here.to(real) * sign, float("-inf")), 1, best, number)
        best, number = _better(tl.where(has_right, right.to(real) * sign, float("-inf")), 2, best, number)
        made, winner = _better(before, before_number + 3, upper, upper_number)
        made, winner = _better(best, number + 6, made, winner)
        upper, upper_number, before, before_number = before, before_number, best, number
        stored = (inside & (step >= 2) & (row <= HEIGHT))[:, None]
        place = (top + (row - 1) * WIDTH)[:, None] * CHANNELS + columns[None, :]
        tl.store(target + place, seen_by_readers(made * sign, a, b, lowest).to(maps.dtype.element_ty), mask=stored)
        if TRAINING:
            tl.store(chosen + place, winner.to(tl.uint8), mask=stored)
        left, here, right = next_left, next_here, next_right


@triton.jit(do_not_specialize=["first"])
def average(maps, sums, parameters, rows, operands, first, PIXELS, COLUMNS, parameters_in_all, channels_in_all,
            HEIGHT: tl.constexpr, WIDTH: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr,
            SPAN: tl.constexpr):  # fmt: skip
    """3×3 average-pooling over the pixels that are in the image."""
    output = rows + (first + tl.program_id(0)).to(tl.int64) * OPERATION
    network = tl.program_id(2).to(tl.int64)
    start, x, top, inside = columns_of_pixels(COLUMNS, HEIGHT, WIDTH, TILE, SPAN)
    columns = tl.arange(0, CHANNELS)
    sums += network * 4 * channels_in_all
    parameters += network * parameters_in_all
    real = sums.dtype.element_ty
    operand = operands + tl.load(output + FIRST) * OPERAND
    a, b, lowest = coefficients(operand, sums, parameters, columns, PIXELS, channels_in_all)
    source = maps + tl.load(operand + RAW) * UNIT + network * PIXELS * CHANNELS
    target = maps + tl.load(output + RAW) * UNIT + network * PIXELS * CHANNELS
    share = (1.0 / extent(x, WIDTH).to(real))[:, None]
    upper, middle = tl.zeros((TILE, CHANNELS), real), tl.zeros((TILE, CHANNELS), real)
    left, here, right = row_of_three(source, top, x, inside, start - 1, columns, HEIGHT, WIDTH, CHANNELS)
    for step in range(SPAN + 2):
        row = start + step - 1
        next_left, next_here, next_right = row_of_three(
            source, top, x, inside, row + 1, columns, HEIGHT, WIDTH, CHANNELS
        )
        has_left, has_here, has_right = _in_image(x, inside, row, HEIGHT, WIDTH)
        across = tl.where(has_left, seen_by_readers(left.to(real), a, b, lowest), 0.0)
        across += tl.where(has_here, seen_by_readers(here.to(real), a, b, lowest), 0.0)
        across += tl.where(has_right, seen_by_readers(right.to(real), a, b, lowest), 0.0)
        made = (middle + across) * share / extent(row - 1, HEIGHT).to(real)
        middle, upper = upper + across, across
        stored = (inside & (step >= 2) & (row <= HEIGHT))[:, None]
        place = target + (top + (row - 1) * WIDTH)[:, None] * CHANNELS + columns[None, :]
        tl.store(place, made.to(maps.dtype.element_ty), mask=stored)
        left, here, right = next_left, next_here, next_right
