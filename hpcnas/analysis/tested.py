"""What the trainings of a retraining say of the test images: class-wise accuracies, confusion, and both as CSV.

Of complete trainings that have kept their predictions (`retrain.predictions`), which those of earlier versions have
not. Images that could not be read count nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hpcnas.analysis import confusion, csv_text, retrainings
from hpcnas.analysis.confusion import Confusion
from hpcnas.analysis.retrainings import Found
from hpcnas.analysis.runs import AnalysisError
from hpcnas.retrain import predictions
from hpcnas.retrain.predictions import Predictions
from hpcnas.retrain.record import Trained
from hpcnas.storage.folder import StoreError

SHOWN = 3  # classes and pairs that a summary names
_OLDER = "that is not kept: an earlier version has trained it; hpcnas predict classifies a folder of test images anew"


class NoPredictions(AnalysisError):
    """No training is complete yet, or an earlier version has trained it."""


@dataclass(frozen=True, eq=False)
class KeptPredictions:
    """What the training of one seed says of the test images."""

    found: Found
    seed: int
    predictions: Predictions

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of their numbers."""
        return self.found.stored.inputs.class_names

    @property
    def confusion(self) -> Confusion:
        """Of all test images that could be read."""
        return Confusion.of(self.predictions.labels, self.predictions.classes[:, 0], len(self.class_names))


def of(found: Found) -> list[KeptPredictions]:
    """Of all trainings that have kept their predictions, in the order of seeds. Raises AnalysisError where these cannot
    be read."""
    return [one for training in found.complete if (one := _read(found, training)) is not None]


def _read(found: Found, training: Trained) -> KeptPredictions | None:
    """None where none are kept. Raises AnalysisError."""
    try:
        one = predictions.read(found.folder, found.stored, training.seed)
    except StoreError as error:
        raise AnalysisError(str(error)) from error
    return None if one is None else KeptPredictions(found, training.seed, one)


def require(found: Found) -> list[KeptPredictions]:
    """Likewise, at least one. Raises NoPredictions where there is none."""
    kept = of(found)
    if not kept:
        why = "no training is complete yet" if not found.complete else _OLDER
        raise NoPredictions(f"{found.folder}: expected what it says of the test images, but {why}")
    return kept


def named(text: str) -> KeptPredictions:
    """That of the complete training that FOLDER (of the least seed) or FOLDER:SEED names. Raises AnalysisError."""
    return of_training(*retrainings.trained(text))


def of_training(found: Found, training: Trained) -> KeptPredictions:
    """That of a complete training. Raises AnalysisError."""
    if (one := _read(found, training)) is None:
        raise NoPredictions(f"{found.folder}: expected what seed {training.seed} says of the test images, but {_OLDER}")
    return one


def confusion_of(tested: Sequence[KeptPredictions]) -> Confusion:
    """Of all of these trainings, at least one, together."""
    return confusion.added([one.confusion for one in tested])


# ── in words ────────────────────────────────────────────────────────────────────────────────────────────────────────
def facts(found: Found) -> dict[str, Any] | None:
    """The worst and the best classes, and which are confused, over all trainings that have kept their predictions; why
    these cannot be read, if so; None where there are none. Accuracies and shares are from 0 to 1."""
    try:
        tested = of(found)
    except AnalysisError as error:
        return {"problem": str(error)}
    if not tested:
        return None
    return {"trainings": len(tested)} | told(confusion_of(tested), found.stored.inputs.class_names)


def told(counts: Confusion, names: Sequence[str]) -> dict[str, Any]:
    """The worst and the best classes, and which are confused, by their names."""
    accuracies, images = counts.accuracies.tolist(), counts.images.tolist()

    def listed(classes: Iterable[int]) -> list[dict[str, Any]]:
        return [{"class": names[one], "images": images[one], "accuracy": accuracies[one]} for one in classes]

    few = max(1, min(SHOWN, counts.classes // 2))
    confused = [
        {"label": names[pair.label], "predicted": names[pair.predicted], "images": pair.count, "share": pair.share}
        for pair in counts.pairs(SHOWN)
    ]
    return {"worst": listed(counts.worst(few)), "best": listed(counts.best(few)), "confused": confused}


# ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def confusion_table(counts: Confusion, names: Sequence[str]) -> str:
    """The confusion matrix as CSV: a row for each class, named in the first column, and a column for each class that
    its images were taken for, with how many they are."""
    rows = ([name, *row.tolist()] for name, row in zip(names, counts.rows(), strict=True))
    return csv_text.table(["class", *names], rows)


def class_table(counts: Confusion, names: Sequence[str]) -> str:
    """Class-wise accuracies as CSV, a row for each class: its test images, those classified correctly and their share,
    and which other class they are taken for most often, with how many they are. What there is not is empty."""
    rows = []
    for number, (row, accuracy) in enumerate(zip(counts.rows(), counts.accuracies.tolist(), strict=True)):
        images, right = int(row.sum()), int(row[number])
        row[number] = 0
        other = int(row.argmax())
        mistaken = [names[other], int(row[other])] if row[other] else ["", ""]
        rows.append([names[number], images, right, accuracy if images else "", *mistaken])
    return csv_text.table(["class", "images", "correct", "accuracy", "most_often_taken_for", "as_often"], rows)


def table(one: KeptPredictions) -> str:
    """All predictions of a training as CSV, a row for each test image that could be read: `image`, its place in the
    test set from 0; its file, if it is one; its class and the probability of that; then the most probable classes and
    their probabilities, the most probable first."""
    found, names = one.predictions, one.class_names
    kept = found.classes.shape[1]
    columns = [f"{what}_{place}" for place in range(1, kept + 1) for what in ("class", "probability")]
    arrays = found.images, found.labels, found.label_probabilities, found.classes, found.probabilities

    def rows() -> Iterable[list[object]]:
        values = zip(*(array.tolist() for array in arrays), strict=True)
        for row, (image, label, probability, classes, probabilities) in enumerate(values):
            best = (cell for one, share in zip(classes, probabilities, strict=True) for cell in (names[one], share))
            yield [image, found.file(row) or "", names[label], probability, *best]

    return csv_text.table(["image", "file", "label", "label_probability", *columns], rows())
