"""What `summary` says of retrainings: one at length, or a table of several; their trainings are lines of a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from hpcnas.command import common
from hpcnas.job.log import duration

TRAINING = ("seed", "state", "step", "loss", "accuracy", "learning rate", "images/s", "waiting", "validation",
            "at step", "test", "time")  # fmt: skip


def text(retrainings: Sequence[dict[str, Any]]) -> str:
    """What `analysis.training_curves.facts` has found of each, for the terminal."""
    if len(retrainings) == 1:
        return f"{at_length(retrainings[0])}\n\n{common.table(TRAINING, rows(retrainings[0]))}"
    all_rows = [(one["retraining"], *row) for one in retrainings for row in rows(one)]
    return common.table(("retraining", *TRAINING), all_rows)


def at_length(one: dict[str, Any]) -> str:
    """What a retraining is, and how it stands."""
    settings = one["settings"]
    trained = "" if one["training_images"] is None else f", {one['training_images']:,} training images"
    validated = "nothing: --validation-fraction, or a folder validation/, asks for it"
    if one["validation_images"]:
        validated = f"{one['validation_images']:,} images, every {settings['validate_every']:,} steps"
    lines = [
        ("state", one["state"]),
        ("genotype", f"{one['genotype']}, {one['space']} space"),
        ("network", f"{one['parameters']:,} parameters, {settings['channels']} channels, cells "
                    f"{' '.join(map(str, settings['cells']))}"),
        ("data", f"{settings['data']}{trained}"),
        ("training", f"{settings['runs']} × {settings['steps']:,} steps of {settings['batch_size']} images"),
        ("validated on", validated),
        *_measures(one["trainings"]),
        *_classes(one.get("classes")),
    ]  # fmt: skip
    return "\n".join([one["retraining"], *(f"  {name:<14} {value}" for name, value in lines)])


def _measures(trainings: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """What the test images say beside accuracy, the mean of all trainings that know it; nothing before a test."""
    names = {"balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "auroc": "AUROC", "log_loss": "log loss"}
    said = []
    for key, words in names.items():
        known = [each[f"test_{key}"] for each in trainings if each[f"test_{key}"] is not None]
        said += [f"{words} {statistics.fmean(known):.4f}"] if known else []
    return [("tested", ", ".join(said))] if said else []


def _classes(told: dict[str, Any] | None) -> list[tuple[str, str]]:
    """The worst and the best classes, and which are confused; nothing where no predictions are kept."""
    if told is None:
        return []
    if "problem" in told:
        return [("classes", told["problem"])]
    lines = [
        (f"{which} classes", ", ".join(f"{each['class']} ({100 * each['accuracy']:.1f} %)" for each in told[which]))
        for which in ("worst", "best")
    ]
    confused = [f"{each['label']} as {each['predicted']} ({100 * each['share']:.1f} %)" for each in told["confused"]]
    return [*lines, ("confused most", ", ".join(confused) or "none: every image is classified correctly")]


def rows(one: dict[str, Any]) -> list[tuple[object, ...]]:
    """Of each training the latest values."""
    steps = one["settings"]["steps"]
    return [
        (each["seed"], each["state"].lower(), f"{each['step']:,}/{steps:,}", _number(each["loss"]),
         _number(each["accuracy"]), "-" if each["learning_rate"] is None else f"{each['learning_rate']:g}",
         "-" if each["images_per_second"] is None else f"{each['images_per_second']:,.0f}",
         "-" if each["input_wait"] is None else f"{100 * each['input_wait']:.1f} %",
         _number(each["validation_accuracy"]),
         "-" if each["validation_step"] is None else f"{each['validation_step']:,}",
         _number(each["test_accuracy"]), duration(each["training_seconds"]))
        for each in one["trainings"]
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
