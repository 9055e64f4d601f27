"""Measures of scores and labels (`--fitness`), by scikit-learn's definitions, in float64 on the host.

    balanced accuracy   mean over the classes that have images, of the share of these that is classified correctly
    macro F1            mean over the classes that have images or were predicted, of 2 · right / (images + predicted)
    AUROC               mean over the classes c that have images, but not all, of the probability that an image of c has
                        a higher probability of c than one of another class; equal ones count half
    log loss            mean of −log p of an image's class, with p within ε and 1 − ε, ε that of float64

The class that is predicted is the one of the highest score, of equals the first; probabilities are the softmax of the
scores. Where scikit-learn has no AUROC, since a class has no images, it is the mean over the others. Takes scores once
a training, and at its rungs: none of it is on the way of a step. What measures are called is the business of
`config.measures`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hpcnas import answers, plugins
from hpcnas.config import measures
from hpcnas.config.data_spec import DataError, named_classes

log = logging.getLogger(__name__)
Scores = NDArray[np.float64]
Labels = NDArray[np.int64]


class NoMeasure(ArithmeticError):
    """What a network says of the validation images is not finite, or its measure is not: one line."""


def accuracy(scores: Scores, labels: Labels) -> float:
    """Share of images whose class has the highest score; all functions here take float64 (N, classes), int64 (N,)."""
    return float((scores.argmax(axis=1) == labels).mean())


def class_accuracies(scores: Scores, labels: Labels) -> NDArray[np.float64]:
    """The share of each class's images that is classified correctly: float64 (classes,), NaN where there are none."""
    return recalls(labels, scores.argmax(axis=1), scores.shape[1])


def recalls(labels: Labels, predicted: Labels, classes: int) -> NDArray[np.float64]:
    """Likewise, of predictions, int64 (N,)."""
    images = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predicted == labels], minlength=classes)
    return np.divide(right, images, out=np.full(classes, np.nan), where=images > 0)


def balanced_accuracy(scores: Scores, labels: Labels) -> float:
    """0 to 1."""
    return balanced(labels, scores.argmax(axis=1), scores.shape[1])


def balanced(labels: Labels, predicted: Labels, classes: int) -> float:
    """Balanced accuracy of predictions, int64 (N,)."""
    return float(np.nanmean(recalls(labels, predicted, classes)))


def macro_f1(scores: Scores, labels: Labels) -> float:
    """0 to 1."""
    return f1(labels, scores.argmax(axis=1), scores.shape[1])


def f1(labels: Labels, predicted: Labels, classes: int) -> float:
    """Macro F1 of predictions, int64 (N,)."""
    right = np.bincount(labels[predicted == labels], minlength=classes)
    both = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    return float((2 * right[both > 0] / both[both > 0]).mean())


def auroc(scores: NDArray[np.floating], labels: Labels) -> float:
    """0 to 1, one class against all others; NaN where all images are of one class. Takes a class at a time in float64,
    for scores may be many."""
    most, classes = scores.max(axis=1).astype(np.float64), range(scores.shape[1])
    total = sum(np.exp(scores[:, one] - most) for one in classes)
    images = np.bincount(labels, minlength=len(classes))
    each = [
        _rank_sum(np.exp(scores[:, one] - most) / total, labels == one)
        for one in classes
        if 0 < images[one] < len(labels)
    ]
    return float(np.mean(each)) if each else float("nan")


def _rank_sum(values: Scores, own: NDArray[np.bool_]) -> float:
    """The share of pairs of an own value and another in which the own one is higher: of Mann and Whitney's U, from
    whole numbers."""
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    twice = 2 * np.cumsum(times) - times + 1  # twice the mean rank from 1 of equal values
    count = int(own.sum())
    return (int(twice[place[own]].sum()) - count * (count + 1)) / (2 * count * (len(own) - count))


def log_loss(scores: Scores, labels: Labels) -> float:
    """From 0, in nats."""
    least = np.finfo(np.float64).eps
    own = np.take_along_axis(probabilities(scores), labels[:, None], axis=1)
    return float(-np.log(own.clip(least, 1.0 - least)).mean())


def probabilities(scores: Scores) -> Scores:
    """The softmax of each row."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


_FUNCTIONS: dict[str, Callable[[Scores, Labels], float]] = {
    "accuracy": accuracy,
    "balanced-accuracy": balanced_accuracy,
    "macro-f1": macro_f1,
    "auroc": auroc,
    "log-loss": log_loss,
}
_OVER_CLASSES = ("balanced-accuracy", "macro-f1", "auroc")
_OF_PROBABILITIES = ("auroc", "log-loss")  # there are none of scores that are not finite, but a class is predicted


def fitness(name: str, scores: Scores, labels: Labels) -> float:
    """The measure of that name as a fitness: the larger, the better. Raises NoMeasure, and PluginFault where a plugin's
    function raises or answers no number."""
    if not np.isfinite(scores).all():
        raise NoMeasure(f"the scores of the validation images were not finite: there is no {name}")
    if name in _FUNCTIONS:
        found = _FUNCTIONS[name](scores, labels)
        return -found if name == "log-loss" else found
    measure, whose = plugins.measures()[name], f"{plugins.bringer('measures', name)}: measure {name!r}"
    scores.flags.writeable = labels.flags.writeable = False
    answer: object = plugins.answer(whose, measure.of, scores, labels)
    number = answers.real(answer)
    if number is None or measures.MOST < abs(number) < math.inf:
        most = f"{measures.MOST:,.0f}"
        raise plugins.PluginFault(f"{whose}: expected a number from -{most} to {most}, got {answers.told(answer)}")
    if not math.isfinite(number):
        raise NoMeasure(f"{whose}: expected a finite number, got {number}")
    return number if measure.larger_is_better else -number


def every(scores: Scores, labels: Labels) -> tuple[float | None, ...]:
    """Every measure of `measures.BUILT_IN`, as it is, then the accuracy of each class, unless there are more than
    `measures.MOST_CLASSES`; None where there is no such number, as of a class without images. There is always an
    accuracy, which files tell by that a replicate has measures."""
    finite = bool(np.isfinite(scores).all())
    found = [
        function(scores, labels) if finite or name not in _OF_PROBABILITIES else float("nan")
        for name, function in _FUNCTIONS.items()
    ]
    if scores.shape[1] <= measures.MOST_CLASSES:
        found += class_accuracies(scores, labels).tolist()
    return tuple(None if number != number else number for number in found)


def check(name: str, labels: Labels, classes: Sequence[str]) -> None:
    """Says so where validation images of these labels, int64 (N,), lack a class that the measure is a mean over. Raises
    DataError where no network has this measure on them."""
    if name == "auroc" and len(np.unique(labels)) < 2:
        raise DataError("expected validation images of two classes or more for --fitness auroc, got those of one")
    lacking = np.setdiff1d(np.arange(len(classes)), labels).tolist()
    if lacking and name in _OVER_CLASSES:
        log.warning(
            "--fitness %s is a mean over classes, and there are no validation images of %s", name,
            named_classes(lacking, classes),
        )  # fmt: skip
