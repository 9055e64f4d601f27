"""Folders of drawn pictures, for tests of what is read of them. PNG, so what is read must equal what was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hpcnas.data import datasets


def draw(seed: int, height: int = 8, width: int = 10, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(path)


def write_folder(root: Path, *, channels: int = 3) -> Path:
    """Classes `cat` and `dog` of 3 images; the training image n is draw(n), the test image n is draw(1000 + n)."""
    for split, first in (("train", 0), ("test", 1000)):
        for number in range(6):
            name = ("cat", "dog")[number // 3]
            save(root / split / name / f"{number:04}.png", draw(first + number, channels=channels))
    return root


def drawn(*seeds: int, channels: int = 3) -> np.ndarray:
    return np.stack([draw(seed, channels=channels) for seed in seeds])


def pixels_of(root: Path) -> np.ndarray:
    return datasets.load_training(f"imagefolder:{root}").images.pixels


def caches(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))
