"""Retrainings from Python: `open_retraining(folder)` gives a `Retraining`, and that its trained networks.

Reads the last renewed file of a retraining, also while it goes on; writes nothing. Loads torch when a network is asked
for. Whatever a person can mend is raised as a subclass of `Error`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcnas import plugins
from hpcnas.analysis import job_state, retrainings, tested
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture.genotype import Genotype
from hpcnas.config import retraining as retraining_config
from hpcnas.public.runs import Session
from hpcnas.retrain import record
from hpcnas.text_file import shown

if TYPE_CHECKING:
    from hpcnas.analysis.classifier import Classifier


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a large network, from one seed. What is not known yet is None."""

    seed: int
    state: str  # WAITING, TRAINING, COMPLETE or DIVERGED
    step: int  # steps made
    training_seconds: float
    test_images: int | None  # that could be read
    test_accuracy: float | None  # share of them classified correctly, 0 to 1
    test_top5: float | None  # share whose class is among the five with the highest scores, of more than five classes
    test_loss: float | None  # mean cross-entropy on them
    test_balanced_accuracy: float | None  # of files of older versions not known, as the next two
    test_macro_f1: float | None
    test_auroc: float | None  # None also where there is none, or of too many images and classes


class Retraining:
    """A retraining as its last renewed file has it: `open_retraining` opens it, and again to see more."""

    def __init__(self, folder: Path, stored: record.Record) -> None:
        self._folder = folder
        self._stored = stored

    def __repr__(self) -> str:
        complete = sum(training.state == "COMPLETE" for training in self.trainings)
        return f"<Retraining {str(self._folder)!r}: {complete} of {len(self.trainings)} trainings complete>"

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._folder

    @property
    def name(self) -> str:
        """The retraining's own name, 32 hexadecimal digits."""
        return self._stored.run

    @property
    def state(self) -> str:
        """How it stands at this moment, in the words of `hpcnas summary`, as `Run.state`."""
        return job_state.of_retraining(self._folder, self._stored, time.time())[0]

    @property
    def genotype(self) -> Genotype:
        """What is trained."""
        return self._stored.genotype

    @property
    def parameters(self) -> int:
        """Trainable parameters of its network, without those of an auxiliary head."""
        return self._stored.parameters

    @property
    def flops(self) -> int:
        """FLOPs of one forward pass of one image."""
        return self._stored.flops

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the class scores."""
        return self._stored.inputs.class_names

    @property
    def config(self) -> dict[str, dict[str, Any]]:
        """Every setting of the recipe, section → key → value, as in `configuration` of FORMAT.md."""
        return retraining_config.SCHEME.settings(self._stored.recipe)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The starts of the program, in their order."""
        return tuple(map(Session.of, self._stored.sessions))

    @property
    def trainings(self) -> tuple[Training, ...]:
        """One a seed."""
        return tuple(
            Training(
                seed=one.seed,
                state=one.state.name,
                step=one.step,
                training_seconds=one.training_seconds,
                test_images=one.test_images,
                test_accuracy=one.test_accuracy,
                test_top5=one.test_top5,
                test_loss=one.test_loss,
                test_balanced_accuracy=one.test_balanced_accuracy,
                test_macro_f1=one.test_macro_f1,
                test_auroc=one.test_auroc,
            )
            for one in self._stored.trainings
        )

    def network(self, seed: int | None = None) -> Classifier:
        """The network with the weights that the training of this seed has learnt, by default that of the least seed, in
        evaluation mode, on the CPU: pixels float (N, channels, H, W), 0 to 255 → class scores float (N, classes).

        Its `network` is the one without the normalisation of pixels. Raises Error where that training is not complete,
        or where its weights cannot be read.
        """
        chosen = self._complete(seed, "weights: `saved_network` gives those before the end")
        from hpcnas.analysis.classifier import load  # brings torch

        return load(self._stored, retrainings.Found(self._folder, self._stored).weights(chosen))

    def saved_network(self, seed: int | None = None) -> tuple[Classifier, int]:
        """Likewise of a training that need not be complete, with the weights that would be tested if it ended there,
        and after how many steps that is: those of the last save, read now. By default of the least seed that is
        complete, else of the one under way. Raises Error where nothing is saved, or the training has diverged.
        """
        known = [training.seed for training in self._stored.trainings]
        if seed is not None and seed not in known:
            listing = ", ".join(map(str, known))
            raise AnalysisError(f"{self._folder}: expected the seed of a training ({listing}), got {shown(seed)}")
        from hpcnas.analysis import classifier  # brings torch
        from hpcnas.analysis.learnt import learnt

        one = learnt(str(self._folder) if seed is None else f"{self._folder}:{seed}")
        return classifier.of_learnt(one), one.training.step if one.unfinished is None else one.unfinished.step

    def predictions(self, seed: int | None = None) -> Any:
        """What the training of this seed, by default the least one that is complete, says of each test image that could
        be read: a pandas.DataFrame with the columns of `hpcnas export predictions`; without pandas, its columns as
        NumPy arrays (images,) by their names. Classes are numbers, places in `class_names`; `file` is a path relative
        to the data, empty where images are no files.

        Raises Error where that training is not complete, or has not kept its predictions, as those of before 0.2.
        """
        one = self._tested(seed)
        found = one.predictions
        files = [found.file(row) or "" for row in range(len(found.images))]
        columns: dict[str, np.ndarray] = {
            "image": found.images,
            "file": np.array(files, dtype=object),
            "label": found.labels,
            "label_probability": found.label_probabilities,
        }
        for place in range(found.classes.shape[1]):
            columns[f"class_{place + 1}"] = found.classes[:, place]
            columns[f"probability_{place + 1}"] = found.probabilities[:, place]
        return _framed(columns)

    def confusion(self, seed: int | None = None) -> np.ndarray:
        """How often test images of each class (rows) were taken for each (columns), int64 (classes, classes), in the
        order of `class_names`. `seed` and errors as of `predictions`."""
        return self._tested(seed).confusion.matrix()

    def _tested(self, seed: int | None) -> tested.KeptPredictions:
        found = retrainings.Found(self._folder, self._stored)
        return tested.of_training(found, self._complete(seed, "predictions"))

    def _complete(self, seed: int | None, what: str) -> record.Trained:
        """The complete training of that seed, by default the least. Raises AnalysisError where there is none."""
        seeds = {one.seed: one for one in retrainings.Found(self._folder, self._stored).complete}
        if not seeds:
            raise AnalysisError(f"{self._folder}: no training is complete yet, so there are no {what}")
        if seed is not None and seed not in seeds:
            listing = ", ".join(map(str, seeds))
            raise AnalysisError(
                f"{self._folder}: expected the seed of a complete training ({listing}), got {shown(seed)}"
            )
        return seeds[min(seeds) if seed is None else seed]

    def history(self) -> Any:
        """/history of FORMAT.md: a pandas.DataFrame, a row every so many steps of a training; without pandas, its
        columns as NumPy arrays (rows,) by their names."""
        return _table(record.Row, self._stored.history)

    def validations(self) -> Any:
        """/validations of FORMAT.md, likewise: a row a validation while a training goes on; `loss` is NaN where it is
        not finite."""
        return _table(record.Validation, self._stored.validations)


def _table(kind: type[record.Row] | type[record.Validation], rows: Sequence[Any]) -> Any:
    """Records as a pandas.DataFrame; without pandas, as NumPy arrays by their names."""
    found = {}
    for name in (one.name for one in fields(kind)):
        values = [getattr(row, name) for row in rows]
        found[name] = np.array([np.nan if value is None else value for value in values])
    return _framed(found)


def _framed(columns: dict[str, np.ndarray]) -> Any:
    """A pandas.DataFrame of these columns; without pandas, themselves."""
    try:
        import pandas
    except ImportError:
        return columns
    # names of files stay objects: strings of pandas' own hold no bytes that are not UTF-8
    return pandas.DataFrame({name: pandas.Series(column, dtype=column.dtype) for name, column in columns.items()})


def open_retraining(folder: str | os.PathLike[str]) -> Retraining:
    """The retraining in a folder, which may be under way. Raises Error where there is none that can be read."""
    with plugins.done_without(lambda names: None):  # its genotype needs primitives alone, and says so
        return Retraining(Path(folder), retrainings.load(Path(folder)).stored)
