#!/usr/bin/env python3
"""Tells what is on pictures: classifies image files with a retrained network, or with one exported as ONNX.

NETWORK is a retraining, its folder (of the least seed) or FOLDER:SEED; or a file that `tools/export.py onnx` has
written of one (needs onnxruntime). An image file may be a PNG or JPEG, or whatever pillow reads, of any size: it is
resized and cropped as test images were. Probabilities are the softmax of the class scores.

A file that cannot be read is named, and the others are classified; the exit code is then 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import toolkit
from PIL import Image, UnidentifiedImageError

from hpcnas.analysis import retrainings
from hpcnas.retrain.image_stream import evaluation_view

BATCH = 32  # images at a time


@dataclass(frozen=True)
class Model:
    """A network that takes pixels: float32 (N, channels, height, width), 0 to 255, to class scores (N, classes)."""

    scores: Callable[[np.ndarray], np.ndarray]
    channels: int
    resize: int
    height: int
    width: int
    class_names: tuple[str, ...]


def model(text: str) -> Model:
    """What the user names; ends the tool where there is none."""
    return onnx_model(Path(text)) if text.endswith(".onnx") else retrained_model(text)


def retrained_model(text: str) -> Model:
    """That of a retraining."""
    import torch

    from hpcnas.analysis.classifier import load

    found, training = retrainings.trained(text)
    network = load(found.stored, found.weights(training))

    @torch.inference_mode()
    def scores(pixels: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(pixels)).numpy()

    inputs, skeleton = found.stored.inputs, found.stored.inputs.skeleton
    sizes = inputs.resize, skeleton.height, skeleton.width
    return Model(scores, skeleton.image_channels, *sizes, inputs.class_names)


def onnx_model(file: Path) -> Model:
    """That of an ONNX file."""
    try:
        import onnxruntime
    except ImportError:
        toolkit.fail("expected the package onnxruntime for ONNX files; install it with: pip install onnxruntime")
    if not file.is_file():
        toolkit.fail(f"expected the file {file}, but there is none")
    try:
        session = onnxruntime.InferenceSession(file, providers=onnxruntime.get_available_providers())
        (images,) = session.get_inputs()
        told = session.get_modelmeta().custom_metadata_map
        sizes = int(told["resize"]), int(told["height"]), int(told["width"])
        names = tuple(json.loads(told["classes"]))
    except KeyError:
        toolkit.fail(f"{file}: expected the ONNX file of a retraining, which names its classes and how images are cut")
    except Exception as error:  # onnxruntime has exceptions of its own, without a common base
        toolkit.fail(f"{file}: expected an ONNX file: {str(error).splitlines()[0]}")
    return Model(lambda pixels: session.run(["scores"], {images.name: pixels})[0], images.shape[1], *sizes, names)


def pixels(model: Model, file: Path) -> np.ndarray:
    """What the network sees of an image: float32 (channels, height, width). Raises OSError where it cannot be read."""
    try:
        with Image.open(file) as image:
            shown = image.convert("RGB" if model.channels == 3 else "L")
            return evaluation_view(model.resize, model.height, model.width)(shown).numpy().astype(np.float32)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise OSError(f"not an image that can be read: {error}") from error


def classified(model: Model, files: Sequence[Path], broken: list[Path]) -> Iterator[tuple[Path, np.ndarray]]:
    """Each file with the probabilities of its classes; those that cannot be read are named, and put with the broken."""
    for start in range(0, len(files), BATCH):
        names, views = [], []
        for file in files[start : start + BATCH]:
            try:
                views.append(pixels(model, file))
                names.append(file)
            except OSError as error:
                print(f"{file}: {error.strerror or error}", file=sys.stderr)
                broken.append(file)
        if views:
            yield from zip(names, softmax(model.scores(np.stack(views))), strict=True)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities (N, classes)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def best(model: Model, probabilities: np.ndarray, most: int) -> list[dict[str, Any]]:
    """The most probable classes, first of equals first."""
    order = np.argsort(-probabilities, kind="stable")[:most]
    return [{"class": model.class_names[place], "probability": float(probabilities[place])} for place in order]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = toolkit.parser(__doc__, runs="")
    parser.add_argument("network", metavar="NETWORK", help="folder of a retraining, or FILE.onnx of one")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="how many classes to name (default 3)")
    options = parser.parse_args(arguments)
    if options.top < 1:
        parser.error(f"--top: expected a number from 1, got {options.top}")
    found = model(options.network)
    broken: list[Path] = []
    results = [
        {"file": str(file), "classes": best(found, probabilities, options.top)}
        for file, probabilities in classified(found, options.images, broken)
    ]
    if options.json:
        toolkit.print_json(results)
    elif results:
        print(as_table(results))
    return 1 if broken else 0


def as_table(results: Sequence[dict[str, Any]]) -> str:
    """A line an image: each class with its probability in percent."""
    most = len(results[0]["classes"])
    header = ("image", *(cell for place in range(1, most + 1) for cell in (f"class {place}", "%")))
    rows = [
        (one["file"], *(cell for c in one["classes"] for cell in (c["class"], f"{100 * c['probability']:.1f}")))
        for one in results
    ]
    return toolkit.table(header, rows)


if __name__ == "__main__":
    sys.exit(toolkit.run(main))
