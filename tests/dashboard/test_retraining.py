"""A retraining as JSON: curves, where it stands, and what it says of the test images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from whole_retraining import kept, recorded

from hpcnas.analysis import retrainings, tested
from hpcnas.analysis.runs import AnalysisError
from hpcnas.dashboard import retraining
from hpcnas.dashboard.retraining import thinned
from hpcnas.retrain import predictions
from hpcnas.retrain.predictions import Predictions
from hpcnas.retrain.record import Row, State

TWO = (State.COMPLETE, State.COMPLETE, State.TRAINING)


def told(labels: list[int], predicted: list[int]) -> Predictions:
    count = len(labels)
    classes = ((np.array(predicted)[:, None] + np.arange(5)) % 10).astype(np.int32)
    return Predictions(
        np.arange(count, dtype=np.int64), np.array(labels, dtype=np.int32), np.full(count, 0.5, dtype=np.float32),
        classes, np.full((count, 5), 0.125, dtype=np.float32),
    )  # fmt: skip


def classified(folder: Path) -> Path:
    """Two complete seeds, whose classes are the digits: seed 0 takes two 3s for 8, seed 1 a 3 for 5."""
    record = recorded(TWO)
    kept(folder, record)
    predictions.write(folder, record, 0, told([3, 3, 3, 8, 5], [8, 8, 3, 8, 5]))
    predictions.write(folder, record, 1, told([3, 3, 3, 8, 5], [5, 3, 3, 8, 5]))
    return folder


def test_curves_and_where_it_stands(tmp_path: Path) -> None:
    seen = retraining.retraining(retrainings.load(kept(tmp_path / "run", recorded())), {})
    assert (seen["steps_done"], seen["steps"], seen["complete"], seen["diverged"]) == (60, 120, 1, 0)
    assert [one["seed"] for one in seen["curves"]] == [0, 1]
    first = seen["curves"][0]
    assert first["history"]["step"] == [10, 20, 30, 40] and first["history"]["input_wait"] == [0.125] * 4
    assert first["validations"] == {"step": [20, 40], "accuracy": [0.25, 0.5], "loss": [2.0, 1.5]}
    assert [one["state"] for one in seen["facts"]["trainings"]] == ["COMPLETE", "TRAINING", "WAITING"]
    assert (seen["confusion"], seen["class_accuracies"], seen["seeds"], seen["untold"]) == (None, None, [], None)


def test_confusion_of_all_seeds_and_of_one(tmp_path: Path) -> None:
    found = retrainings.load(classified(tmp_path / "run"))
    seen = retraining.retraining(found, {})
    confusion = seen["confusion"]
    assert (confusion["of"], confusion["shown"], confusion["all_images"], seen["seeds"]) == (10, 10, 10, [0, 1])
    assert confusion["matrix"][3].tolist() == [0, 0, 0, 3, 0, 1, 0, 0, 2, 0]
    assert confusion["accuracy"] == 0.7 and confusion["images"].tolist() == [0, 0, 0, 6, 0, 2, 0, 0, 2, 0]
    assert confusion["pairs"] == [
        {"label": "3", "predicted": "8", "images": 2, "share": 2 / 6},
        {"label": "3", "predicted": "5", "images": 1, "share": 1 / 6},
    ]
    assert seen["class_accuracies"] == [
        {"number": 3, "class": "3", "images": 6, "accuracy": 0.5, "taken_for": "8", "as_often": 2},
        {"number": 5, "class": "5", "images": 2, "accuracy": 1.0, "taken_for": None, "as_often": 0},
        {"number": 8, "class": "8", "images": 2, "accuracy": 1.0, "taken_for": None, "as_often": 0},
    ]
    one = retraining.retraining(found, {"seed": ["1"]})
    assert one["confusion"]["matrix"][3].tolist() == [0, 0, 0, 2, 0, 1, 0, 0, 0, 0] and one["seed"] == 1
    expected = tested.class_table(tested.confusion_of(tested.of(found)), found.stored.inputs.class_names)
    assert "3,6,3,0.5,8,2" in expected, "the table of the analysis says the same"


def test_of_many_classes_the_most_confused_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "MOST_CLASSES", 2)
    confusion = retraining.retraining(retrainings.load(classified(tmp_path / "run")), {})["confusion"]
    assert (confusion["classes"], confusion["of"], confusion["shown"]) == (["3", "8"], 10, 2)
    assert confusion["matrix"].tolist() == [[3, 2], [0, 2]]


def test_another_seed_is_refused(tmp_path: Path) -> None:
    found = retrainings.load(classified(tmp_path / "run"))
    with pytest.raises(AnalysisError, match=r"^seed: expected that of a complete training \(0, 1\), got 2$"):
        retraining.retraining(found, {"seed": ["2"]})


def test_predictions_that_cannot_be_read_spoil_nothing_else(tmp_path: Path) -> None:
    folder = classified(tmp_path / "run")
    predictions.path(folder, 1).write_bytes(b"no HDF5")
    seen = retraining.retraining(retrainings.load(folder), {})
    assert "cannot be read" in seen["untold"] and seen["confusion"] is None and seen["curves"]


def test_names_of_classes_are_shown_as_text(tmp_path: Path) -> None:
    record = recorded(TWO)
    names = ("\x1b[31mred", "<script>", "x" * 500, *map(str, range(3, 10)))
    record.inputs = replace(record.inputs, class_names=names)
    folder = kept(tmp_path / "run", record)
    predictions.write(folder, record, 0, told([0, 1, 2], [1, 1, 2]))
    seen = retraining.retraining(retrainings.load(folder), {})
    assert seen["confusion"]["classes"][:3] == ["\\x1b[31mred", "<script>", "x" * 80]


def test_long_curves_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "MOST_POINTS", 10)
    record = recorded((State.TRAINING,), {"training": {"steps": 4000}})
    record.history = [Row(0, 10 * step, 1.0, 0.5, 0.1, 100.0, 0.0) for step in range(1, 101)]
    (one,) = retraining.retraining(retrainings.load(kept(tmp_path / "run", record)), {})["curves"]
    assert len(one["history"]["step"]) == 10 and one["every"] == 10
    assert (one["history"]["step"][0], one["history"]["step"][-1]) == (10, 1000)
    assert thinned(3, 10).tolist() == [0, 1, 2]
