"""Statistics of the channels: the same for the same values of any type, and without loss far from 0."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from hpcnas.config.data_spec import DataError
from hpcnas.data import channel_statistics as statistics
from hpcnas.data.channel_statistics import channel_statistics


@pytest.mark.parametrize("kind", ["uint16", "int16", "float16", "float32"])
def test_the_same_values_in_another_type(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 4, 5, 12), dtype=np.uint8)
    mean, deviation = channel_statistics(pixels)
    monkeypatch.setattr(statistics, "_BLOCK", 7 * pixels[:1].nbytes)  # blocks that do not fit the images
    ours = channel_statistics(pixels.astype(kind))
    assert np.array_equal(ours[0], mean)
    np.testing.assert_allclose(ours[1], deviation, rtol=1e-15 if kind.startswith("f") else 0)


def test_values_as_far_from_zero_as_their_type_goes() -> None:
    pixels = np.array([-32768, 32767, -32768, 32767], np.int16).reshape(1, 2, 2, 1)
    mean, deviation = channel_statistics(pixels)
    assert (mean.tolist(), deviation.tolist()) == ([-0.5], [32767.5])
    large = (pixels / 2.0**15 + 1e6).astype(np.float32)  # 1,000,000 ± 1
    mean, deviation = channel_statistics(large)
    assert mean[0] == large.astype(np.float64).mean() and deviation[0] == 1.0


def test_a_channel_of_rounding_alone_is_constant() -> None:
    pixels = np.full((2, 2, 2, 1), 1e6, np.float32)
    pixels[0, 0, 0, 0] += 0.0625
    assert channel_statistics(pixels)[1].tolist() == [1.0]


@pytest.mark.parametrize("kind", ["uint8", "int16", "float32"])
def test_constant_channels_are_warned_of(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (9, 2, 2, 8)).astype(kind)
    pixels[..., 1::2] = 5 if kind != "float32" else 0.1
    with caplog.at_level(logging.WARNING):
        channel_statistics(pixels, whose="birds, training images")
    told = "birds, training images: constant channels tell a network nothing"
    value = "0.1" if kind == "float32" else "5"
    assert caplog.messages == [f"{told}: " + ", ".join(f"{channel} ({value})" for channel in (1, 3, 5, 7))]
    caplog.clear()
    pixels[..., :7] = 5
    with caplog.at_level(logging.WARNING):
        channel_statistics(np.where(np.arange(8) == 7, np.arange(9)[:, None, None, None], pixels).astype(kind))
    assert caplog.messages[0].endswith("0 (5), 1 (5), 2 (5), 3 (5), 4 (5) and 2 more")


def test_channels_that_are_all_constant_are_refused() -> None:
    pixels = np.tile(np.array([1, 7], np.uint8), (4, 2, 2, 1))
    with pytest.raises(DataError) as caught:
        channel_statistics(pixels, whose="birds, training images")
    expected = "birds, training images: expected values that differ, got constant channels alone: 0 (1), 1 (7)"
    assert str(caught.value) == expected


@pytest.mark.parametrize("value", [1e-35, 1e35])
def test_deviations_that_float32_cannot_divide_by(value: float) -> None:
    pixels = np.zeros((1, 2, 2, 3), np.float32)
    pixels[0, 0, 0] = 1, value, 2
    with pytest.raises(DataError, match="expected channel 1 to have a standard deviation from 1e-30 to 1e"):
        channel_statistics(pixels)


def test_padding_far_from_the_values_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        statistics.warn_of_padding(np.array([1.0, 280.0]), np.array([2.0, 5.0]))
        statistics.warn_of_padding(np.array([1.0]), np.array([2.0]))
    (message,) = caplog.messages
    assert "which is 56 standard deviations from the mean of channel 1 (280)" in message
