"""Triton kernels of a block plan, backward: the loss, gradients of blocks and of weights, and the update.

A row of a table is a block whose gradient is added to, and the results of those that read it, as operands; then,
whether there is a gradient already, and whether this is the last addition. The last one also adds up the gradients of
shift and scale, which `normalised_back` needs: until then the gradient is that of what readers see, after it of `raw`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hpcnas.training.cuda.block_layout import (
    ALIGNMENT,
    BACKWARD,
    BEGUN,
    FIRST,
    GRADIENT,
    LAST,
    MOMENTUM,
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
    moments,
    row_of_three,
    seen_by_readers,
)


@triton.jit
def _own(row, maps, at, stored, network, PIXELS, CHANNELS: tl.constexpr):
    """The gradient so far, zero at first, and the raw values of a block, which only the last addition needs."""
    here = network * PIXELS * CHANNELS + at
    gradient = tl.load(
        maps + tl.load(row + GRADIENT) * UNIT + here, mask=stored & (tl.load(row + BEGUN) != 0), other=0.0
    )
    needed = (tl.load(row + LAST) != 0) & (tl.load(row + NORMALISED) != 0)
    return gradient, tl.load(maps + tl.load(row + RAW) * UNIT + here, mask=stored & needed, other=0.0)


@triton.jit
def _put(made, row, maps, at, stored, network, PIXELS, CHANNELS: tl.constexpr):
    """Stores a gradient; returns it as it was stored."""
    gradient = made.to(maps.dtype.element_ty)
    place = tl.load(row + GRADIENT)
    tl.store(maps + place * UNIT + network * PIXELS * CHANNELS + at, gradient, mask=stored & (place >= 0))
    return gradient.to(made.dtype)


@triton.jit
def _passed(gradient, raw, a, b, lowest, stored):
    """What of a gradient passes the ReLU."""
    return tl.where((a[None, :] * raw + b[None, :] > lowest) & stored, gradient, 0.0)


@triton.jit
def _add_sums(row, sums, shifts, scales, inverse, columns, channels_in_all):
    """Adds up the gradients of shift and scale; scales: products with raw − mean."""
    if (tl.load(row + LAST) != 0) & (tl.load(row + NORMALISED) != 0):
        place = sums + 2 * channels_in_all + tl.load(row + STATISTICS) * ALIGNMENT
        add_column_sums(place, shifts, columns)
        tl.atomic_add(place + channels_in_all + columns, tl.sum(scales, axis=0) * inverse, sem="relaxed")


@triton.jit
def head(maps, sums, parameters, gradients, rows, order, labels, class_weights, losses, right, said, step,
         STEPS, BATCH, COUNT, classifier, bias, parameters_in_all, channels_in_all, AREA: tl.constexpr,
         ROOM: tl.constexpr, CHANNELS: tl.constexpr, CLASSES: tl.constexpr, PADDED: tl.constexpr, EACH: tl.constexpr,
         WEIGHTED: tl.constexpr, TRAINING: tl.constexpr):  # fmt: skip
    """Mean over the pixels, linear layer, cross-entropy and all of their gradients, or class scores and the count of
    right answers.

    order int32 (R, STEPS, BATCH) and labels int64 (N,) say what is right, class_weights (CLASSES,) how much it counts
    where WEIGHTED; losses (R, STEPS) takes the mean over the
    batch, right (R,) the count and said (R, COUNT, CLASSES) the scores, of COUNT images in all. A program does EACH
    images of AREA pixels; ROOM is the next power of two.
    """
    network = tl.program_id(1).to(tl.int64)
    columns, classes, area = tl.arange(0, CHANNELS), tl.arange(0, PADDED), tl.arange(0, ROOM)
    sums += network * 4 * channels_in_all
    parameters += network * parameters_in_all
    gradients += network * parameters_in_all
    real = sums.dtype.element_ty
    PIXELS = BATCH * AREA
    a, b, lowest = coefficients(rows, sums, parameters, columns, PIXELS, channels_in_all)
    weights = tl.load(parameters + classifier + columns[:, None] * PADDED + classes[None, :])
    biases = tl.load(parameters + bias + classes)
    now = tl.load(step)
    d_weights, d_bias = tl.zeros((CHANNELS, PADDED), real), tl.zeros((PADDED,), real)
    shifts, scales = tl.zeros((ROOM, CHANNELS), real), tl.zeros((ROOM, CHANNELS), real)
    middle, inverse = moments(rows, sums, columns, PIXELS, channels_in_all)
    for number in range(EACH):
        image = tl.program_id(0) * EACH + number
        real_image = (image < BATCH) & (TRAINING | (now * BATCH + image < COUNT))
        pixels = image * AREA + area
        inside = (area < AREA) & real_image
        tile = pixels[:, None] * CHANNELS + columns[None, :]
        place = maps + tl.load(rows + RAW) * UNIT + network * PIXELS * CHANNELS
        raw = tl.load(place + tile, mask=inside[:, None], other=0.0).to(real)
        mean = tl.sum(tl.where(inside[:, None], seen_by_readers(raw, a, b, lowest), 0.0), axis=0) / AREA
        scores = tl.sum(mean[:, None] * weights, axis=0) + biases
        scores = tl.where(classes < CLASSES, scores, float("-inf"))
        chosen = tl.load(order + (network * STEPS + now) * BATCH + image, mask=real_image, other=0)
        label = tl.load(labels + chosen.to(tl.int64))
        most = tl.max(scores, axis=0)
        if TRAINING:
            powers = tl.exp(scores - most)
            total = tl.sum(powers, axis=0)
            own = tl.sum(tl.where(classes == label, scores, 0.0), axis=0)
            loss = tl.where(real_image, (tl.log(total) + most - own) / BATCH, 0.0)
            if WEIGHTED:
                weight = tl.load(class_weights + label).to(real)
                loss = loss * weight
            tl.atomic_add(losses + network * STEPS + now, loss, sem="relaxed")
            d_scores = (powers / total - tl.where(classes == label, 1.0, 0.0)) / BATCH
            if WEIGHTED:
                d_scores = d_scores * weight
            d_scores = tl.where(real_image, d_scores, 0.0)
            d_weights += mean[:, None] * d_scores[None, :]
            d_bias += d_scores
            d_mean = tl.sum(weights * d_scores[None, :], axis=1) / AREA
            acc = tl.where(inside[:, None], d_mean[None, :], 0.0)
            gradient = _put(acc, rows, maps, tile, inside[:, None], network, PIXELS, CHANNELS)
            passed = _passed(gradient, raw, a, b, lowest, inside[:, None])
            shifts += passed
            scales += passed * (raw - middle[None, :])
        else:
            answer = tl.min(tl.where(scores == most, classes, PADDED), axis=0)
            tl.atomic_add(right + network, ((answer == label) & real_image).to(tl.int32), sem="relaxed")
            answers = said + (network * COUNT + chosen) * CLASSES + classes
            tl.store(answers, scores, mask=(classes < CLASSES) & real_image)
    if TRAINING:
        place = gradients + classifier + columns[:, None] * PADDED + classes[None, :]
        tl.atomic_add(place, d_weights, sem="relaxed")
        tl.atomic_add(gradients + bias + classes, d_bias, sem="relaxed")
        _add_sums(rows, sums, shifts, scales, inverse, columns, channels_in_all)


@triton.jit(do_not_specialize=["first"])
def normalised_back(maps, sums, parameters, rows, first, PIXELS, parameters_in_all, channels_in_all,
                    CHANNELS: tl.constexpr, TILE: tl.constexpr):  # fmt: skip
    """Gradients of what readers see become gradients of what was normalised, in place.

    That is p · (gradient where readers saw more than zero) + q · raw + r.
    """
    row = rows + (first + tl.program_id(0)).to(tl.int64) * OPERATION
    network = tl.program_id(2).to(tl.int64)
    pixels = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = (pixels < PIXELS)[:, None]
    columns = tl.arange(0, CHANNELS)
    sums += network * 4 * channels_in_all
    parameters += network * parameters_in_all
    here = network * PIXELS * CHANNELS + pixels[:, None] * CHANNELS + columns[None, :]
    place = maps + tl.load(row + GRADIENT) * UNIT + here
    raw = tl.load(maps + tl.load(row + RAW) * UNIT + here, mask=inside, other=0.0).to(sums.dtype.element_ty)
    gradient = tl.load(place, mask=inside, other=0.0).to(sums.dtype.element_ty)
    mean, inverse = moments(row, sums, columns, PIXELS, channels_in_all)
    a, b, lowest = coefficients(row, sums, parameters, columns, PIXELS, channels_in_all)
    sums += 2 * channels_in_all + tl.load(row + STATISTICS) * ALIGNMENT + columns
    shift_mean, scale_mean = tl.load(sums) / PIXELS, tl.load(sums + channels_in_all) / PIXELS
    q = -a * inverse * scale_mean
    r = -a * shift_mean - q * mean
    made = a[None, :] * _passed(gradient, raw, a, b, lowest, inside) + q[None, :] * raw + r[None, :]
    tl.store(place, made.to(maps.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["first"])
def pointwise_back(maps, sums, parameters, gradients, rows, operands, first, PIXELS, parameters_in_all,
                   channels_in_all, CHANNELS: tl.constexpr, OUTPUTS: tl.constexpr, TILE: tl.constexpr):  # fmt: skip
    """What 1×1 convolutions give back to a block that they read, and the gradients of their weights."""
    row = rows + (first + tl.program_id(0)).to(tl.int64) * BACKWARD
    network = tl.program_id(2).to(tl.int64)
    pixels = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = (pixels < PIXELS)[:, None]
    columns, results = tl.arange(0, CHANNELS), tl.arange(0, OUTPUTS)
    sums += network * 4 * channels_in_all
    parameters += network * parameters_in_all
    gradients += network * parameters_in_all
    real = sums.dtype.element_ty
    at = pixels[:, None] * CHANNELS + columns[None, :]
    own = tl.load(maps + tl.load(row + RAW) * UNIT + network * PIXELS * CHANNELS + at, mask=inside, other=0.0)
    acc, _ = _own(row, maps, at, inside, network, PIXELS, CHANNELS)
    acc = acc.to(real)
    a, b, lowest = coefficients(row, sums, parameters, columns, PIXELS, channels_in_all)
    seen = tl.where(inside, seen_by_readers(own.to(real), a, b, lowest), 0.0).to(own.dtype)
    reader = operands + tl.load(row + FIRST) * OPERAND
    for _ in range(tl.load(row + OPERANDS)):
        place = maps + tl.load(reader + GRADIENT) * UNIT + network * PIXELS * OUTPUTS
        gradient = tl.load(place + pixels[:, None] * OUTPUTS + results[None, :], mask=inside, other=0.0)
        weights = tl.load(reader + WEIGHTS) * ALIGNMENT
        weights += columns[:, None] * OUTPUTS + results[None, :]
        factors = tl.load(parameters + weights).to(own.dtype)
        acc = tl.dot(gradient, tl.trans(factors), acc, input_precision="ieee", out_dtype=real)
        product = tl.dot(tl.trans(seen), gradient, input_precision="ieee", out_dtype=real)
        tl.atomic_add(gradients + weights, product, sem="relaxed")
        reader += OPERAND
    gradient = _put(acc, row, maps, at, inside, network, PIXELS, CHANNELS)
    raw = own.to(real)
    passed = _passed(gradient, raw, a, b, lowest, inside)
    mean, inverse = moments(row, sums, columns, PIXELS, channels_in_all)
    _add_sums(row, sums, passed, passed * (raw - mean[None, :]), inverse, columns, channels_in_all)


@triton.jit
def _gradient_row(place, image, x, inside, row, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
                  STRIDE: tl.constexpr, CHANNELS: tl.constexpr):  # fmt: skip
    """Gradients to the left, here and to the right in a row of the input; of a result of stride 2 only every second
    row and pixel has one."""
    if STRIDE == 1:
        return row_of_three(place, image * (HEIGHT * WIDTH) + x, x, inside, row, columns, HEIGHT, WIDTH, CHANNELS)
    out_height: tl.constexpr = (HEIGHT + 1) // 2
    out_width: tl.constexpr = (WIDTH + 1) // 2
    there = inside & (row >= 0) & (row < HEIGHT) & (row % 2 == 0)
    first = (image * out_height + row // 2) * out_width
    odd = x % 2 == 1
    at_left = place + (first + (x - 1) // 2)[:, None] * CHANNELS + columns[None, :]
    at_here = place + (first + x // 2)[:, None] * CHANNELS + columns[None, :]
    at_right = place + (first + (x + 1) // 2)[:, None] * CHANNELS + columns[None, :]
    left = tl.load(at_left, mask=(there & odd)[:, None], other=0.0)
    here = tl.load(at_here, mask=(there & (x % 2 == 0))[:, None], other=0.0)
    right = tl.load(at_right, mask=(there & odd & (x < WIDTH - 1))[:, None], other=0.0)
    return left, here, right


@triton.jit(do_not_specialize=["first"])
def depthwise_back(maps, sums, parameters, gradients, rows, operands, first, PIXELS, OUT_PIXELS, COLUMNS,
                   parameters_in_all, channels_in_all, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
                   STRIDE: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr, SPAN: tl.constexpr):  # fmt: skip
    """What a depthwise convolution gives back to its block of HEIGHT × WIDTH, and the gradients of its filters."""
    row = rows + (first + tl.program_id(0)).to(tl.int64) * BACKWARD
    network = tl.program_id(2).to(tl.int64)
    start, x, top, inside = columns_of_pixels(COLUMNS, HEIGHT, WIDTH, TILE, SPAN)
    image = top // (HEIGHT * WIDTH)
    columns = tl.arange(0, CHANNELS)
    sums += network * 4 * channels_in_all
    parameters += network * parameters_in_all
    real = sums.dtype.element_ty
    reader = operands + tl.load(row + FIRST) * OPERAND
    a, b, lowest = coefficients(row, sums, parameters, columns, PIXELS, channels_in_all)
    mean, inverse = moments(row, sums, columns, PIXELS, channels_in_all)
    source = maps + tl.load(reader + GRADIENT) * UNIT + network * OUT_PIXELS * CHANNELS
    own = maps + tl.load(row + RAW) * UNIT + network * PIXELS * CHANNELS
    filters = parameters + tl.load(reader + WEIGHTS) * ALIGNMENT
    f00, f01, f02 = filter_row(filters, columns, CHANNELS, 0)
    f10, f11, f12 = filter_row(filters, columns, CHANNELS, 1)
    f20, f21, f22 = filter_row(filters, columns, CHANNELS, 2)
    nothing = tl.zeros((TILE, CHANNELS), real)
    upper, middle, shifts, scales = nothing, nothing, nothing, nothing
    d00, d01, d02, d10, d11, d12, d20, d21, d22 = (
        nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing
    )  # fmt: skip
    above, seen = nothing, nothing  # what readers see in the rows above, and here
    here_at = top[:, None] * CHANNELS + columns[None, :]
    below = tl.load(own + here_at + start * WIDTH * CHANNELS, mask=inside[:, None], other=0.0)  # raw, the row below
    left, here, right = _gradient_row(source, image, x, inside, start - 1, columns, HEIGHT, WIDTH, STRIDE, CHANNELS)
    for step in range(SPAN + 2):
        at = start + step - 1  # the row of the gradients; that of what is made is above it
        next_left, next_here, next_right = _gradient_row(
            source, image, x, inside, at + 1, columns, HEIGHT, WIDTH, STRIDE, CHANNELS
        )
        has_next = inside & (step + 1 < SPAN) & (at + 2 < HEIGHT)
        next_below = tl.load(own + here_at + (at + 2) * WIDTH * CHANNELS, mask=has_next[:, None], other=0.0)
        stored = (inside & (step >= 2) & (at <= HEIGHT))[:, None]
        place = here_at + (at - 1) * WIDTH * CHANNELS
        before, raw = _own(row, maps, place, stored, network, PIXELS, CHANNELS)
        there = inside & (step < SPAN) & (at + 1 < HEIGHT)
        seen_below = tl.where(there[:, None], seen_by_readers(below.to(real), a, b, lowest), 0.0)
        g_left, g_here, g_right = left.to(real), here.to(real), right.to(real)
        d00 += above * g_right
        d01 += above * g_here
        d02 += above * g_left
        d10 += seen * g_right
        d11 += seen * g_here
        d12 += seen * g_left
        d20 += seen_below * g_right
        d21 += seen_below * g_here
        d22 += seen_below * g_left
        made = before.to(real) + middle + f00 * g_right + f01 * g_here + f02 * g_left
        middle = upper + f10 * g_right + f11 * g_here + f12 * g_left
        upper = f20 * g_right + f21 * g_here + f22 * g_left
        gradient = _put(made, row, maps, place, stored, network, PIXELS, CHANNELS)
        passed = _passed(gradient, raw.to(real), a, b, lowest, stored)
        shifts += passed
        scales += passed * (raw.to(real) - mean[None, :])
        above, seen, below = seen, seen_below, next_below
        left, here, right = next_left, next_here, next_right
    _add_sums(row, sums, shifts, scales, inverse, columns, channels_in_all)
    place = gradients + network * parameters_in_all + tl.load(reader + WEIGHTS) * ALIGNMENT
    add_column_sums(place, d00, columns)
    add_column_sums(place + CHANNELS, d01, columns)
    add_column_sums(place + 2 * CHANNELS, d02, columns)
    add_column_sums(place + 3 * CHANNELS, d10, columns)
    add_column_sums(place + 4 * CHANNELS, d11, columns)
    add_column_sums(place + 5 * CHANNELS, d12, columns)
    add_column_sums(place + 6 * CHANNELS, d20, columns)
    add_column_sums(place + 7 * CHANNELS, d21, columns)
    add_column_sums(place + 8 * CHANNELS, d22, columns)


@triton.jit
def _is(winner, which: tl.constexpr, gradient):
    return tl.where(winner == which, gradient, 0.0)


@triton.jit(do_not_specialize=["first"])
def pooling_back(maps, winners, sums, parameters, rows, operands, first, PIXELS, COLUMNS, parameters_in_all,
                 channels_in_all, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, CHANNELS: tl.constexpr,
                 TILE: tl.constexpr, SPAN: tl.constexpr, MAXIMUM: tl.constexpr):  # fmt: skip
    """What a max- or average-pooling gives back to its block."""
    row = rows + (first + tl.program_id(0)).to(tl.int64) * BACKWARD
    network = tl.program_id(2).to(tl.int64)
    start, x, top, inside = columns_of_pixels(COLUMNS, HEIGHT, WIDTH, TILE, SPAN)
    columns = tl.arange(0, CHANNELS)
    sums += network * 4 * channels_in_all
    parameters += network * parameters_in_all
    real = sums.dtype.element_ty
    reader = operands + tl.load(row + FIRST) * OPERAND
    a, b, lowest = coefficients(row, sums, parameters, columns, PIXELS, channels_in_all)
    mean, inverse = moments(row, sums, columns, PIXELS, channels_in_all)
    source = maps + tl.load(reader + GRADIENT) * UNIT + network * PIXELS * CHANNELS
    chosen = winners + tl.load(reader + WINNERS) * UNIT + network * PIXELS * CHANNELS
    by_left = (1.0 / extent(x - 1, WIDTH).to(real))[:, None]
    by_here, by_right = (1.0 / extent(x, WIDTH).to(real))[:, None], (1.0 / extent(x + 1, WIDTH).to(real))[:, None]
    nothing = tl.zeros((TILE, CHANNELS), real)
    upper, middle, shifts, scales = nothing, nothing, nothing, nothing
    left, here, right = row_of_three(source, top, x, inside, start - 1, columns, HEIGHT, WIDTH, CHANNELS)
    for step in range(SPAN + 2):
        at = start + step - 1
        next_left, next_here, next_right = row_of_three(
            source, top, x, inside, at + 1, columns, HEIGHT, WIDTH, CHANNELS
        )
        stored = (inside & (step >= 2) & (at <= HEIGHT))[:, None]
        place = (top + (at - 1) * WIDTH)[:, None] * CHANNELS + columns[None, :]
        before, raw = _own(row, maps, place, stored, network, PIXELS, CHANNELS)
        g_left, g_here, g_right = left.to(real), here.to(real), right.to(real)
        if MAXIMUM:
            w_left, w_here, w_right = row_of_three(chosen, top, x, inside, at, columns, HEIGHT, WIDTH, CHANNELS)
            made = middle + _is(w_right, 0, g_right) + _is(w_here, 1, g_here) + _is(w_left, 2, g_left)
            middle = upper + _is(w_right, 3, g_right) + _is(w_here, 4, g_here) + _is(w_left, 5, g_left)
            upper = _is(w_right, 6, g_right) + _is(w_here, 7, g_here) + _is(w_left, 8, g_left)
        else:
            across = g_left * by_left + g_here * by_here + g_right * by_right
            across = across / tl.maximum(extent(at, HEIGHT), 1).to(real)  # beyond the image all is zero
            made = middle + across
            middle, upper = upper + across, across
        gradient = _put(made + before.to(real), row, maps, place, stored, network, PIXELS, CHANNELS)
        passed = _passed(gradient, raw.to(real), a, b, lowest, stored)
        shifts += passed
        scales += passed * (raw.to(real) - mean[None, :])
        left, here, right = next_left, next_here, next_right
    _add_sums(row, sums, shifts, scales, inverse, columns, channels_in_all)


@triton.jit
def conclude(sums, running, gradients, scales, shifts, counts, parameters_in_all, channels_in_all,
             TILE: tl.constexpr):  # fmt: skip
    """Gradients of scales and shifts from their sums; running mean and variance of every normalised channel; the sums
    are zero afterwards. scales and shifts int64 (channels,): places among the parameters; counts: pixels a channel."""
    network = tl.program_id(1).to(tl.int64)
    channels = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = channels < channels_in_all
    sums += network * 4 * channels_in_all
    gradients += network * parameters_in_all
    running += network * 2 * channels_in_all
    count = tl.load(counts + channels, mask=inside, other=2.0)
    mean = tl.load(sums + channels, mask=inside, other=0.0) / count
    variance = tl.load(sums + channels_in_all + channels, mask=inside, other=0.0) / count - mean * mean
    variance = tl.maximum(variance, 0.0, propagate_nan=tl.PropagateNan.ALL) * count / tl.maximum(count - 1.0, 1.0)
    d_shift = tl.load(sums + 2 * channels_in_all + channels, mask=inside, other=0.0)
    d_scale = tl.load(sums + 3 * channels_in_all + channels, mask=inside, other=0.0)
    tl.store(gradients + tl.load(shifts + channels, mask=inside, other=0), d_shift, mask=inside)
    tl.store(gradients + tl.load(scales + channels, mask=inside, other=0), d_scale, mask=inside)
    for part in tl.static_range(4):
        tl.store(sums + part * channels_in_all + channels, tl.zeros((TILE,), mean.dtype), mask=inside)
    before = tl.load(running + channels, mask=inside)
    tl.store(running + channels, before + MOMENTUM * (mean - before), mask=inside)
    before = tl.load(running + channels_in_all + channels, mask=inside)
    tl.store(running + channels_in_all + channels, before + MOMENTUM * (variance - before), mask=inside)


@triton.jit
def update(parameters, gradients, velocity, rates, step, COUNT, momentum, decay, TILE: tl.constexpr):
    """SGD with momentum and weight decay, as torch.optim.SGD makes it; the gradients are zero afterwards."""
    numbers = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = numbers < COUNT
    value = tl.load(parameters + numbers, mask=inside)
    speed = tl.load(velocity + numbers, mask=inside)
    gradient = tl.load(gradients + numbers, mask=inside)
    speed = momentum * speed + (gradient + decay * value)
    tl.store(velocity + numbers, speed, mask=inside)
    tl.store(parameters + numbers, value - tl.load(rates + tl.load(step)) * speed, mask=inside)
    tl.store(gradients + numbers, tl.zeros((TILE,), gradient.dtype), mask=inside)
