"""Class scores become probabilities, and what cannot be read leaves the others as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hpcnas.analysis.prediction import BATCH, Model, Picture, best, classified, pictures, softmax


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
    found = list(classified(MODEL, [Picture(file) for file in files]))
    assert [one.picture.file for one in found] == files
    assert [one.picture.file for one in found if one.problem is not None] == [files[1], files[BATCH]]
    named = [best(MODEL, one.result, 1)[0]["class"] for one in found if isinstance(one.result, np.ndarray)]
    assert named == [("dark", "light")[number % 2] for number in range(BATCH + 3) if number not in (1, BATCH)]


def test_folders_below_the_one_given_are_labels_where_they_are_classes(tmp_path: Path) -> None:
    names = ("dark/1.png", "dark/deep/light/2.avif", "light/3.JPG", "dim/4.png", "5.gif", ".light/6.png", "notes.txt")
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "light" / "up").symlink_to("..")
    found = pictures(MODEL, [(tmp_path, ""), (tmp_path / "notes.txt", "")])
    assert [(str(one.file.relative_to(tmp_path)), one.label) for one in found] == [
        ("5.gif", None),
        ("dark/1.png", "dark"),
        ("dark/deep/light/2.avif", "dark"),
        ("dim/4.png", None),
        ("light/3.JPG", "light"),
        ("notes.txt", None),
    ]
