"""Mean and standard deviation of each channel, which images are normalised by.

Exact for whole numbers, else in float64; a block of images at a time, in one order, so that the same images give the
same numbers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnas.config.data_spec import DataError

log = logging.getLogger(__name__)
_BLOCK = 1 << 20  # bytes of pixels at a time
_EQUAL = 1e-6  # a deviation this small beside the mean may be rounding: nothing is divided by it
_CONSTANT = 1e-9  # and this small, that of the mean
_FAR = 10  # standard deviations
_MOST_TOLD = 5  # channels
_SMALLEST, _LARGEST = 1e-30, 1e30  # deviations that float32 can divide by


def channel_statistics(
    pixels: NDArray[Any], places: NDArray[np.int64] | None = None, whose: str = "training images"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel over all pixels (N, H, W, C), or of those images at the places, int64
    (n,), in their order: (C,) each, in pixel values.

    The deviation of a constant channel is given as 1, never 0, and it is warned of. Raises DataError where all channels
    are constant, and where a deviation is too large or too small for float32; both say of `whose` images.
    """
    if pixels.dtype == np.uint8:
        means, deviations = _of_bytes(pixels, places)
    elif pixels.dtype.kind in "iu":
        means, deviations = _of_integers(pixels, places)
    else:
        means, deviations = _of_floats(pixels, places)
    constant = [
        channel
        for channel, (mean, deviation) in enumerate(zip(means, deviations, strict=True))
        if deviation <= _CONSTANT * abs(mean)
    ]
    if pixels.dtype.kind == "f":
        deviations = [0.0 if one <= _EQUAL * abs(mean) else one for mean, one in zip(means, deviations, strict=True)]
    _refuse_deviations(deviations, whose)
    told = ", ".join(f"{channel} ({means[channel]:g})" for channel in constant[:_MOST_TOLD])
    told += f" and {len(constant) - _MOST_TOLD} more" if len(constant) > _MOST_TOLD else ""
    if len(constant) == len(means):
        raise DataError(f"{whose}: expected values that differ, got constant channels alone: {told}")
    if constant:
        log.warning("%s: constant channels tell a network nothing: %s", whose, told)
    return np.array(means), np.array([one or 1.0 for one in deviations])


def _refuse_deviations(deviations: list[float], whose: str) -> None:
    """Raises DataError where float32 cannot divide by them."""
    for channel, deviation in enumerate(deviations):
        if deviation and not _SMALLEST <= deviation <= _LARGEST:
            raise DataError(
                f"{whose}: expected channel {channel} to have a standard deviation from {_SMALLEST:g} to {_LARGEST:g}, "
                f"got {deviation:g}; scale its values"
            )


def warn_of_padding(means: NDArray[np.float64], deviations: NDArray[np.float64]) -> None:
    """Says so where the value 0, which images are padded by, is none that a channel has: (C,) each."""
    away = np.abs(means) / deviations
    if away.max() > _FAR:
        channel = int(away.argmax())
        log.warning(
            "images are padded by the value 0, which is %.0f standard deviations from the mean of channel %d (%g): "
            "subtract the mean from the data, or leave out --padding", away[channel], channel, means[channel],
        )  # fmt: skip


def _blocks(pixels: NDArray[Any], places: NDArray[np.int64] | None) -> Iterator[NDArray[Any]]:
    images = max(1, min(1024, _BLOCK // max(1, pixels[:1].nbytes)))
    for start in range(0, len(pixels if places is None else places), images):
        part = slice(start, start + images)
        yield pixels[part] if places is None else pixels[places[part]]


def _summed(block: NDArray[Any]) -> NDArray[Any]:
    """Over images, rows and columns, (C,): images first, many values side by side, which is several times as fast."""
    return block.reshape(len(block), -1).sum(axis=0).reshape(-1, block.shape[3]).sum(axis=0)


def _values(pixels: NDArray[Any], places: NDArray[np.int64] | None) -> int:
    """Of each channel."""
    return len(pixels if places is None else places) * pixels.shape[1] * pixels.shape[2]


def _of_sums(count: int, totals: list[int], squares: list[int]) -> tuple[list[float], list[float]]:
    means = [total / count for total in totals]
    pairs = zip(totals, squares, strict=True)
    return means, [math.sqrt((count * square - total**2) / count**2) for total, square in pairs]


def _of_bytes(pixels: NDArray[np.uint8], places: NDArray[np.int64] | None) -> tuple[list[float], list[float]]:
    """Summed in integers, by how often each value occurs."""
    channels = pixels.shape[3]
    histograms = np.zeros((channels, 256), dtype=np.int64)
    for block in _blocks(pixels, places):
        for channel in range(channels):
            histograms[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256)
    totals, squares = ([int(histogram @ values**power) for histogram in histograms] for power in (1, 2))
    return _of_sums(int(histograms[0].sum()), totals, squares)


def _of_integers(pixels: NDArray[Any], places: NDArray[np.int64] | None) -> tuple[list[float], list[float]]:
    """Of 16 bits: the squares of a block of 2²³ values take less than 2⁶³ together."""
    channels = pixels.shape[3]
    totals, squares = [0] * channels, [0] * channels
    for block in _blocks(pixels, places):
        values = block.astype(np.int64)
        totals = [one + more for one, more in zip(totals, _summed(values).tolist(), strict=True)]
        squares = [one + more for one, more in zip(squares, _summed(values * values).tolist(), strict=True)]
    return _of_sums(_values(pixels, places), totals, squares)


def _of_floats(pixels: NDArray[Any], places: NDArray[np.int64] | None) -> tuple[list[float], list[float]]:
    """The mean first, then the deviations from it: without loss where values are far from 0."""
    channels, count = pixels.shape[3], _values(pixels, places)
    sums, squares = np.zeros(channels), np.zeros(channels)
    for block in _blocks(pixels, places):
        sums += _summed(block.astype(np.float64))
    means = sums / count
    for block in _blocks(pixels, places):
        apart = block.astype(np.float64) - means
        squares += _summed(apart * apart)
    return means.tolist(), np.sqrt(squares / count).tolist()
