"""How the trainings of a retraining go, also while it runs: their curves as numbers and as CSV, and where they stand.

All of it is as of the last renewed retrain.h5 (`run.checkpoint_interval`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hpcnas.analysis import csv_text, job_state
from hpcnas.analysis.retrainings import Found
from hpcnas.analysis.runs import AnalysisError
from hpcnas.retrain.record import Record, Row, Trained, Validation


def facts(found: Found, now: float | None = None) -> dict[str, Any]:
    """Everything there is to say about a retraining, with the latest values of each training. Accuracies and shares are
    from 0 to 1, times in seconds; what is not known is None. `now` is in seconds since 1970."""
    stored, recipe = found.stored, found.stored.recipe
    return {
        "retraining": str(found.folder),
        "state": job_state.of_retraining(found.folder, stored, time.time() if now is None else now)[0],
        "genotype": stored.origin.source,
        "space": stored.origin.space,
        "parameters": stored.parameters,
        "settings": {
            "data": recipe.data.source,
            "channels": recipe.network.channels,
            "cells": list(recipe.network.cells),
            "runs": recipe.training.runs,
            "steps": recipe.training.steps,
            "batch_size": recipe.training.batch_size,
            "validate_every": recipe.run.validate_every,
        },
        "training_images": stored.facts.training_images if stored.sessions else None,
        "validation_images": stored.facts.validation_images if stored.sessions else None,
        "trainings": [_latest(stored, one) for one in stored.trainings],
    }


def _latest(stored: Record, training: Trained) -> dict[str, Any]:
    """Where a training stands."""
    row = next((row for row in reversed(stored.history) if row.seed == training.seed), None)
    validation = stored.last_validation(training.seed)
    return {
        "seed": training.seed,
        "state": training.state.name,
        "step": training.step,
        "training_seconds": training.training_seconds,
        "loss": None if row is None else row.loss,
        "accuracy": None if row is None else row.accuracy,
        "learning_rate": None if row is None else row.learning_rate,
        "images_per_second": None if row is None else row.images_per_second,
        "input_wait": None if row is None else row.input_wait,
        "validation_step": None if validation is None else validation.step,
        "validation_images": None if validation is None else validation.images,
        "validation_accuracy": None if validation is None else validation.accuracy,
        "validation_loss": None if validation is None else validation.loss,
        "test_images": training.test_images,
        "test_accuracy": training.test_accuracy,
        "test_balanced_accuracy": training.test_balanced_accuracy,
        "test_macro_f1": training.test_macro_f1,
        "test_auroc": training.test_auroc,
        "test_log_loss": training.test_loss,
    }


def numbers(found: Found) -> dict[str, Any]:
    """The curves of a retraining: of each training that has any the columns of /history and /validations of FORMAT.md,
    as lists."""
    trainings = []
    for seed in seeds_with_curves(found.stored):
        rows, validations = history(found.stored, seed), validations_of(found.stored, seed)
        trainings.append(
            {"seed": seed, "history": _columns(Row, rows), "validations": _columns(Validation, validations)}
        )
    return {"retraining": found.folder.name, "trainings": trainings}


def seeds_with_curves(stored: Record) -> list[int]:
    """Seeds of the trainings that have a row of the history or a validation, in their order."""
    known = {row.seed for row in stored.history} | {one.seed for one in stored.validations}
    return [one.seed for one in stored.trainings if one.seed in known]


def history(stored: Record, seed: int) -> list[Row]:
    """The rows of a training, in the order of steps."""
    return [row for row in stored.history if row.seed == seed]


def validations_of(stored: Record, seed: int) -> list[Validation]:
    """Likewise its validations."""
    return [one for one in stored.validations if one.seed == seed]


def require_curves(found: Sequence[Found]) -> list[Found]:
    """Those that have any curve. Raises AnalysisError where none has."""
    some = [one for one in found if seeds_with_curves(one.stored)]
    if not some:
        raise AnalysisError("there is nothing to draw: no row of a training's history is saved yet")
    return some


def csv_table(stored: Record) -> str:
    """The curves of all trainings as CSV, a row for each step at which there is anything: the columns of /history of
    FORMAT.md, then those of /validations with `validation_` before them. What there is not at a step is empty."""
    rows = {(row.seed, row.step): row for row in stored.history}
    validations = {(one.seed, one.step): one for one in stored.validations}
    of_rows, of_validations = _names(Row), _names(Validation)
    return csv_text.table(
        ["seed", "step", *of_rows, *(f"validation_{name}" for name in of_validations)],
        [
            [*key, *_cells(rows.get(key), of_rows), *_cells(validations.get(key), of_validations)]
            for key in sorted(rows.keys() | validations.keys())
        ],
    )


def _names(kind: type[Row] | type[Validation]) -> list[str]:
    return [one.name for one in fields(kind) if one.name not in ("seed", "step")]


def _columns(kind: type[Row] | type[Validation], rows: Sequence[Row] | Sequence[Validation]) -> dict[str, list[Any]]:
    return {name: [getattr(row, name) for row in rows] for name in ("step", *_names(kind))}


def _cells(row: Row | Validation | None, names: Sequence[str]) -> list[object]:
    values = [None if row is None else getattr(row, name) for name in names]
    return ["" if value is None else value for value in values]


def name(found: Found, others: Sequence[Found]) -> str:
    """What a retraining is called beside others: the name of its folder, or its path where two have one name."""
    path = Path(found.folder)
    alone = sum(Path(other.folder).name == path.name for other in others) == 1
    return path.name if alone and path.name else str(path)
