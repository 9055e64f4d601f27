"""Classifying images with a retrained network, or with one exported as ONNX: class scores and their probabilities.

Images are read, resized and cropped as test images were. Imports torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpcnas.analysis import classifier, needs
from hpcnas.analysis.confusion import Confusion
from hpcnas.analysis.learnt import learnt
from hpcnas.analysis.runs import AnalysisError
from hpcnas.config import data_spec
from hpcnas.config.data_spec import ArrayData, DataError
from hpcnas.data import arrays, class_folders, datasets, image_file
from hpcnas.data.image_file import UnreadableImage
from hpcnas.errors import first_line

BATCH = 32  # images at a time


@dataclass(frozen=True)
class Model:
    """A network that takes pixels as the data have them: float32 (N, channels, height, width), to class scores (N,
    classes)."""

    scores: Callable[[np.ndarray], np.ndarray]
    channels: int
    resize: int
    height: int
    width: int
    class_names: tuple[str, ...]
    remark: str | None = None  # what whoever uses it has to know
    type: str = "uint8"  # of the data's pixels


def model(text: str) -> Model:
    """The network of FILE.onnx, FOLDER or FOLDER:SEED. Raises AnalysisError where there is none."""
    return onnx_model(Path(text)) if text.endswith(".onnx") else retrained_model(text)


def retrained_model(text: str) -> Model:
    """That of a retraining: FOLDER (of the least seed that is complete, else of the one under way) or FOLDER:SEED.
    Raises AnalysisError where there is none."""
    one = learnt(text)
    found, network = one.found, classifier.of_learnt(one)

    @torch.inference_mode()
    def scores(pixels: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(pixels)).numpy()

    inputs, skeleton = found.stored.inputs, found.stored.inputs.skeleton
    sizes = inputs.resize, skeleton.height, skeleton.width
    return Model(scores, skeleton.image_channels, *sizes, inputs.class_names, one.remark, inputs.type)


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
        names, kind = tuple(json.loads(told["classes"])), told.get("type", "uint8")
    except KeyError:
        raise AnalysisError(
            f"{file}: expected the ONNX file of a retraining, which names its classes and how images are cut"
        ) from None
    except Exception as error:  # onnxruntime has exceptions of its own, without a common base
        raise AnalysisError(f"{file}: expected an ONNX file: {first_line(error)}") from error

    def scores(pixels: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(["scores"], {images.name: pixels})[0]
        return found

    return Model(scores, images.shape[1], *sizes, names, type=kind)


@dataclass(frozen=True)
class Picture:
    """A file to be classified, and the class that its folder says it is of, if it does."""

    file: Path
    label: str | None = None


@dataclass(frozen=True)
class Classified:
    """A picture with the probabilities of its classes, float32 (classes,); or the reason why it cannot be read."""

    picture: Picture
    result: np.ndarray | UnreadableImage

    @property
    def problem(self) -> str | None:
        """Why the picture cannot be read, if so."""
        return self.result.reason if isinstance(self.result, UnreadableImage) else None


def pictures(model: Model, named: Sequence[tuple[Path, str]]) -> list[Picture]:
    """These files, and of folders all pictures in them, each with the class that is said of it, if that is not empty.
    Otherwise a picture whose folder is one of the model's classes, directly below the folder that was given, is of that
    class. Raises DataError for a folder without pictures, AnalysisError for what is no class of the model."""
    if model.channels not in (1, 3) or model.type != "uint8":
        raise AnalysisError(
            f"expected --data, since the network takes images of {model.channels} channels of {model.type}, which no "
            "picture files are"
        )
    found, classes = [], frozenset(model.class_names)
    for path, label in named:
        if label and label not in classes:
            raise AnalysisError(f"{path}: expected a class of the network, such as {model.class_names[0]}, got {label}")
        if not os.path.isdir(path):
            found.append(Picture(path, label or None))
            continue
        for name in class_folders.pictures(path):
            folder, inside, _ = name.partition("/")
            found.append(Picture(path / name, label or (folder if inside and folder in classes else None)))
    return found


def pixels(model: Model, file: Path) -> np.ndarray:
    """What the network sees of an image: float32 (channels, height, width). Raises UnreadableImage."""
    shown = image_file.read(file).convert("RGB" if model.channels == 3 else "L")
    seen = image_file.middle(shown, model.resize, model.height, model.width)
    return image_file.pixels(seen).transpose(2, 0, 1).astype(np.float32)


def classified(model: Model, pictures: Sequence[Picture]) -> Iterator[Classified]:
    """Each picture with what came of it, in their order."""
    for start in range(0, len(pictures), BATCH):
        part = pictures[start : start + BATCH]
        views: list[np.ndarray | UnreadableImage] = []
        for picture in part:
            try:
                views.append(pixels(model, picture.file))
            except UnreadableImage as error:
                views.append(error)
            except MemoryError:
                views.append(UnreadableImage(picture.file, "it does not fit into memory"))
        readable = [view for view in views if not isinstance(view, UnreadableImage)]
        scores = iter(softmax(model.scores(np.stack(readable))) if readable else ())
        for picture, view in zip(part, views, strict=True):
            yield Classified(picture, view if isinstance(view, UnreadableImage) else next(scores))


def classified_arrays(model: Model, source: str) -> Iterator[Classified]:
    """The test images of data, or of `arrays:` without such the array `images`, in their order; they are called by
    their numbers, from 0. Raises DataError, also for images that are not as those that the network has learnt."""
    match spec := data_spec.parse(source):
        case ArrayData():
            images, labels, name = arrays.unlabelled(spec.path, spec.layout)
        case _:
            data = datasets.load_test(source)
            images, labels, name = data.images.pixels, data.images.labels, "test"
    shape, kind = (model.height, model.width, model.channels), images.dtype.name
    if (kind, images.shape[1:]) != (model.type, shape):
        got = f"{kind} {images.shape[1:]}"
        raise DataError(f"{source}: expected images of {model.type} {shape}, as for training, got {got}")
    if labels is not None and not 0 <= labels.min() <= labels.max() < len(model.class_names):
        raise DataError(f"{source}: expected labels of {len(model.class_names)} classes, got up to {labels.max()}")
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH].transpose(0, 3, 1, 2).astype(np.float32)
        for number, result in enumerate(softmax(model.scores(part)), start=start):
            label = None if labels is None else model.class_names[labels[number]]
            yield Classified(Picture(Path(f"{name}[{number}]"), label), result)


def confusion_of(model: Model, found: Sequence[Classified]) -> Confusion:
    """What the pictures were taken for, of those that can be read and whose class is known."""
    number = {name: place for place, name in enumerate(model.class_names)}
    labels, predicted = [], []
    for one in found:
        if one.picture.label is not None and not isinstance(one.result, UnreadableImage):
            labels.append(number[one.picture.label])
            predicted.append(int(one.result.argmax()))  # the first of equals, as `best` has it
    return Confusion.of(np.array(labels, dtype=np.int64), np.array(predicted, dtype=np.int64), len(number))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities of class scores, both float (N, classes)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def best(model: Model, probabilities: np.ndarray, most: int) -> list[dict[str, Any]]:
    """The most probable classes by the probabilities (classes,) of one image, first of equals first: the class's name
    and its probability, of each."""
    order = np.argsort(-probabilities, kind="stable")[:most]
    return [{"class": model.class_names[place], "probability": float(probabilities[place])} for place in order]
