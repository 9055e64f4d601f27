"""Classifying images with a retrained network, or with one exported as ONNX: class scores and their probabilities.

Images are resized and cropped as test images were. Imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from hpcnas.analysis import classifier, needs, retrainings
from hpcnas.analysis.runs import AnalysisError
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
    """The network of FILE.onnx, FOLDER or FOLDER:SEED. Raises AnalysisError where there is none."""
    return onnx_model(Path(text)) if text.endswith(".onnx") else retrained_model(text)


def retrained_model(text: str) -> Model:
    """That of a retraining: FOLDER (of the least seed) or FOLDER:SEED. Raises AnalysisError where there is none."""
    found, training = retrainings.trained(text)
    network = classifier.load(found.stored, found.weights(training))

    @torch.inference_mode()
    def scores(pixels: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(pixels)).numpy()

    inputs, skeleton = found.stored.inputs, found.stored.inputs.skeleton
    sizes = inputs.resize, skeleton.height, skeleton.width
    return Model(scores, skeleton.image_channels, *sizes, inputs.class_names)


def onnx_model(file: Path) -> Model:
    """That of an ONNX file of a retraining. Raises AnalysisError where it is none, or onnxruntime is missing."""
    with needs.packages("ONNX files"):
        import onnxruntime
    if not file.is_file():
        raise AnalysisError(f"expected the file {file}, but there is none")
    try:
        session = onnxruntime.InferenceSession(file, providers=onnxruntime.get_available_providers())
        (images,) = session.get_inputs()
        told = session.get_modelmeta().custom_metadata_map
        sizes = int(told["resize"]), int(told["height"]), int(told["width"])
        names = tuple(json.loads(told["classes"]))
    except KeyError:
        raise AnalysisError(
            f"{file}: expected the ONNX file of a retraining, which names its classes and how images are cut"
        ) from None
    except Exception as error:  # onnxruntime has exceptions of its own, without a common base
        raise AnalysisError(f"{file}: expected an ONNX file: {classifier.first_line(error)}") from error
    return Model(lambda pixels: session.run(["scores"], {images.name: pixels})[0], images.shape[1], *sizes, names)


def pixels(model: Model, file: Path) -> np.ndarray:
    """What the network sees of an image: float32 (channels, height, width). Raises OSError where it cannot be read."""
    try:
        with Image.open(file) as image:
            shown = image.convert("RGB" if model.channels == 3 else "L")
            return evaluation_view(model.resize, model.height, model.width)(shown).numpy().astype(np.float32)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise OSError(f"not an image that can be read: {error}") from error


def classified(model: Model, files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | OSError]]:
    """Each file with the probabilities of its classes, float32 (classes,); or with the reason why it cannot be read."""
    for start in range(0, len(files), BATCH):
        views: list[np.ndarray | OSError] = []
        for file in files[start : start + BATCH]:
            try:
                views.append(pixels(model, file))
            except OSError as error:
                views.append(error)
        readable = [view for view in views if not isinstance(view, OSError)]
        scores = iter(softmax(model.scores(np.stack(readable))) if readable else ())
        for file, view in zip(files[start:], views, strict=False):
            yield file, view if isinstance(view, OSError) else next(scores)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities of class scores, both float (N, classes)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def best(model: Model, probabilities: np.ndarray, most: int) -> list[dict[str, Any]]:
    """The most probable classes by the probabilities (classes,) of one image, first of equals first: the class's name
    and its probability, of each."""
    order = np.argsort(-probabilities, kind="stable")[:most]
    return [{"class": model.class_names[place], "probability": float(probabilities[place])} for place in order]
