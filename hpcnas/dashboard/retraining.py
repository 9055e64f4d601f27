"""A retraining as JSON, also while it runs: where it stands, its curves, what it says of the test images, its seeds.

Everything is as of the last renewed retrain.h5 (`run.checkpoint_interval`); the predictions of a complete training are
read from their own file, once. Of many classes the confusion matrix has those that are confused most.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpcnas.analysis import confusion, job_state, retraining_snapshot, tested, training_curves
from hpcnas.analysis.confusion import Confusion
from hpcnas.analysis.retraining_snapshot import RetrainingSnapshot
from hpcnas.analysis.retrainings import Found
from hpcnas.analysis.runs import AnalysisError
from hpcnas.dashboard import selection
from hpcnas.dashboard.selection import Query
from hpcnas.job.terminal import one_line
from hpcnas.retrain import predictions, record_file
from hpcnas.retrain.record import Record

MOST_POINTS = 1000  # of a curve
MOST_CLASSES = 24  # of the confusion matrix
MOST_ROWS = 1000  # classes in the table: the worst
MOST_OF_A_NAME = 80  # characters
MOST_OF_A_LINE = 400
PAIRS = 20  # the most confused
BROKEN = 20  # images that could not be read, which are named


def retraining(found: Found, query: Query) -> dict[str, Any]:
    """Accuracies and shares are from 0 to 1, times in seconds; `remaining` is as of `time`, when its file was renewed.
    `seed` in the query chooses whose predictions are told: without it those of all complete trainings together. Raises
    AnalysisError for a seed that is none."""
    saved = job_state.modified(found.folder / record_file.NAME)
    seen = retraining_snapshot.of_record(found, saved, time.time())
    stored = found.stored
    return {
        "name": one_line(found.folder.name),
        "path": one_line(str(found.folder)),
        "run": stored.run,
        "state": seen.state,
        "running": seen.running,
        "time": saved,
        **_standing(seen),
        "facts": _shown(seen.facts | {"retraining": found.folder.name}),
        "curves": [_curves(stored, seed) for seed in training_curves.seeds_with_curves(stored)],
        **_tested(found, query),
        "origin": _shown({name: getattr(stored.origin, name) for name in ("source", "run", "individual", "fitness")}),
        "problems": [one_line(problem) for problem in seen.problems],
        "broken_images": [one_line(line[:MOST_OF_A_LINE]) for line in stored.broken[:BROKEN]],
    }


def _standing(seen: RetrainingSnapshot) -> dict[str, Any]:
    """Where it stands, and how fast it is."""
    remaining = None if seen.remaining is None or not seen.running else seen.time + seen.remaining - seen.saved
    return {
        "began": seen.began,
        "sessions": seen.sessions,
        "steps_done": seen.steps_done,
        "steps": seen.steps,
        "complete": seen.complete,
        "diverged": seen.diverged,
        "remaining": None if remaining is None else round(remaining),
        "images_per_second": seen.images_per_second,
        "input_wait": seen.input_wait,
        "host": one_line(seen.first_host),
        "device": one_line(seen.first_device),
        "ranks": seen.ranks,
        "broken": seen.broken,
    }


def _shown(value: Any) -> Any:
    """Texts as they may be shown, at any depth."""
    if isinstance(value, str):
        return one_line(value if len(value) <= MOST_OF_A_LINE else f"{value[:MOST_OF_A_LINE]} …")
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


# ── curves ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def thinned(count: int, most: int) -> np.ndarray:
    """Places, int64, of at most `most` of so many, evenly, the first and the last among them."""
    return np.arange(count) if count <= most else np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def _curves(stored: Record, seed: int) -> dict[str, Any]:
    """Those of one training, as columns."""
    rows, validations = training_curves.history(stored, seed), training_curves.validations_of(stored, seed)
    return {
        "seed": seed,
        "history": _columns(
            rows, ("step", "loss", "accuracy", "learning_rate", "images_per_second", "input_wait")
        ),
        "validations": _columns(validations, ("step", "accuracy", "loss")),
        "every": math.ceil(max(len(rows), len(validations)) / MOST_POINTS),
    }


def _columns(rows: Sequence[Any], names: Sequence[str]) -> dict[str, list[Any]]:
    chosen = [rows[place] for place in thinned(len(rows), MOST_POINTS).tolist()]
    return {name: [getattr(row, name) for row in chosen] for name in names}


# ── what it says of the test images ─────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class _KeptFiles:
    """Predictions that are kept, by what tells them from others: files and when they were written."""

    folder: Path
    run: str
    files: tuple[tuple[int, float], ...]
    found: Found = field(compare=False)


@functools.lru_cache(maxsize=8)
def _confusions(kept: _KeptFiles) -> dict[int, Confusion]:
    """By seed. Raises AnalysisError where they cannot be read."""
    return {one.seed: one.confusion for one in tested.of(kept.found)}


def _tested(found: Found, query: Query) -> dict[str, Any]:
    """Confusion and class-wise accuracies of one seed or of all; None where no predictions are kept, and `untold` why
    they cannot be read."""
    nothing: dict[str, Any] = {"confusion": None, "class_accuracies": None, "seeds": [], "seed": None, "untold": None}
    files = tuple(
        (one.seed, job_state.modified(predictions.path(found.folder, one.seed))) for one in found.complete
    )
    try:
        confusions = _confusions(_KeptFiles(found.folder, found.stored.run, files, found))
    except AnalysisError as error:
        return nothing | {"untold": one_line(str(error))}
    if not confusions:
        return nothing
    wanted = selection.one(query, "seed")
    if wanted and wanted not in map(str, confusions):
        listing = ", ".join(map(str, confusions))
        raise AnalysisError(f"seed: expected that of a complete training ({listing}), got {one_line(wanted[:40])}")
    counts = confusions[int(wanted)] if wanted else confusion.added(list(confusions.values()))
    names = [one_line(name[:MOST_OF_A_NAME]) for name in found.stored.inputs.class_names]
    return {
        "confusion": _matrix(counts, names),
        "class_accuracies": _classes(counts, names),
        "seeds": list(confusions),
        "seed": int(wanted) if wanted else None,
        "untold": None,
    }


def _matrix(counts: Confusion, names: Sequence[str]) -> dict[str, Any]:
    """Of all classes, or of the MOST_CLASSES that are confused most."""
    chosen = list(range(counts.classes)) if counts.classes <= MOST_CLASSES else counts.most_confused(MOST_CLASSES)
    return {
        "classes": [names[number] for number in chosen],
        "matrix": counts.matrix(chosen),
        "images": counts.images[chosen],
        "all_images": int(counts.counts.sum()),
        "accuracy": float(counts.right.sum() / max(1, counts.counts.sum())),
        "of": counts.classes,
        "shown": len(chosen),
        "pairs": [
            {"label": names[pair.label], "predicted": names[pair.predicted], "images": pair.count, "share": pair.share}
            for pair in counts.pairs(PAIRS)
        ],
    }


def _classes(counts: Confusion, names: Sequence[str]) -> list[dict[str, Any]]:
    """The MOST_ROWS classes of the lowest accuracies, each with the class that it is taken for most often."""
    wrong = np.flatnonzero(counts.labels != counts.predicted)
    order = wrong[np.lexsort((counts.predicted[wrong], -counts.counts[wrong], counts.labels[wrong]))]
    labels, first = np.unique(counts.labels[order], return_index=True)
    taken = dict(zip(labels.tolist(), order[first].tolist(), strict=True))
    images, accuracies = counts.images, counts.accuracies
    return [
        {
            "number": number,
            "class": names[number],
            "images": int(images[number]),
            "accuracy": float(accuracies[number]),
            "taken_for": names[int(counts.predicted[taken[number]])] if number in taken else None,
            "as_often": int(counts.counts[taken[number]]) if number in taken else 0,
        }
        for number in counts.worst(MOST_ROWS)
    ]
