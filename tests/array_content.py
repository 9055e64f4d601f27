"""A small set of arrays, as `--data arrays:` takes them, in each kind of file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

Content = dict[str, Any]


def content(**changes: Any) -> Content:
    """Twelve images of 8×9 with 4 channels, of three classes, in four groups; names with _ in place of /."""
    generator = np.random.default_rng(0)
    found = {
        "train_images": generator.normal(300, 5, (12, 8, 9, 4)).astype(np.float32),
        "train_labels": np.arange(12, dtype=np.uint8) % 3,
        "groups": np.repeat(np.array(["p", "q", "r", "s"]), 3),
        "classes": np.array(["oak", "elm", "ash"]),
        "test_images": generator.normal(300, 5, (3, 8, 9, 4)).astype(np.float32),
        "test_labels": np.arange(3),
    }
    return {name: value for name, value in (found | changes).items() if value is not None}


def in_hdf5(folder: Path, arrays: Content) -> Path:
    path = folder / "data.h5"
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            text = np.asarray(value).dtype.kind == "U"
            chunks = (min(5, len(value)), *value.shape[1:]) if np.ndim(value) == 4 else None
            file.create_dataset(
                name.replace("_", "/"), data=value.tolist() if text else value, chunks=chunks,
                compression=None if chunks is None else "gzip", dtype=h5py.string_dtype() if text else None,
            )  # fmt: skip
    return path


def in_npz(folder: Path, arrays: Content) -> Path:
    np.savez_compressed(folder / "data.npz", **{name.replace("_", "/"): value for name, value in arrays.items()})
    return folder / "data.npz"


def in_folder(folder: Path, arrays: Content) -> Path:
    for name, value in arrays.items():
        path = folder / "data" / f"{name.replace('_', '/')}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, value)
    return folder / "data"
