"""Class scores become probabilities, and what cannot be read leaves the others as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hpcnas.analysis.prediction import BATCH, Model, best, classified, softmax


def brightness(pixels: np.ndarray) -> np.ndarray:
    """Two classes: dark and light, by the mean of the pixels; scores far apart are sure."""
    mean = pixels.mean(axis=(1, 2, 3))
    return np.stack([127.5 - mean, mean - 127.5], axis=1)


MODEL = Model(brightness, channels=1, resize=4, height=4, width=4, class_names=("dark", "light"))


def test_softmax() -> None:
    assert softmax(np.array([[0.0, 0.0], [1000.0, 0.0]])).tolist() == [[0.5, 0.5], [1.0, 0.0]]


def test_files_come_in_their_order_over_several_batches(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(BATCH + 3)]
    for number, file in enumerate(files):
        Image.new("L", (4, 4), 255 * (number % 2)).save(file)
    files[1].write_text("no image")
    files[BATCH] = tmp_path / "nowhere.png"
    found = list(classified(MODEL, files))
    assert [file for file, _ in found] == files
    assert [file for file, result in found if isinstance(result, OSError)] == [files[1], files[BATCH]]
    named = [best(MODEL, result, 1)[0]["class"] for _, result in found if not isinstance(result, OSError)]
    assert named == [("dark", "light")[number % 2] for number in range(BATCH + 3) if number not in (1, BATCH)]
