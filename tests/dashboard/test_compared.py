"""Runs compared: groups and bands as `hpcnas compare` has them, settings that differ, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from followed_stand import followed
from toolruns import empty, retrained, steady
from whole_retraining import kept, recorded

from hpcnas.analysis import comparison as analysed
from hpcnas.analysis import curves, retrainings
from hpcnas.analysis.runs import AnalysisError
from hpcnas.dashboard import comparison
from hpcnas.dashboard.comparison import turning_points
from hpcnas.retrain import record_file
from hpcnas.retrain.record import State


def compared(**folders: Path) -> dict[str, Any]:
    return comparison.searches([comparison.course(key, followed(folder)) for key, folder in folders.items()])


def test_groups_and_bands_are_those_of_the_analysis(tmp_path: Path) -> None:
    runs = {
        "a": steady(tmp_path / "a", [0.5, 0.5, 0.75, 0.25, 0.75], 10.0, seed=1),
        "b": steady(tmp_path / "b", [0.25, 0.625, 0.5, 0.875], 20.0, seed=2),
        "c": steady(tmp_path / "c", [0.5, 0.5625], 10.0, strategy="random"),
    }
    seen = compared(**runs)
    expected = analysed.numbers(analysed.grouped(curves.of_runs(list(runs.values()))))
    assert (seen["common_evaluations"], seen["common_fitness"]) == (2, expected["common_fitness"])
    assert [(one["name"], one["runs"]) for one in seen["groups"]] == [("tournament", ["a", "b"]), ("random", ["c"])]
    for one, other in zip(seen["groups"], expected["groups"], strict=True):
        for name in ("evaluations", "best", "at_common", "evaluations_to_common", "hours_to_common"):
            assert one[name] == pytest.approx(other[name]), name
        for name, band in (("by_evaluations", other["by_evaluations"]), ("by_hours", other["by_hours"])):
            assert one[name]["x"] == pytest.approx(band["x"]) and one[name]["mean"] == pytest.approx(band["mean"])
            half = (one[name]["high"] - one[name]["low"]) / 2
            assert half == pytest.approx(band["half"], nan_ok=True)
    first = seen["curves"][0]
    assert (first["step"].tolist(), first["best"].tolist()) == ([1, 3, 5], [0.5, 0.75, 0.75])
    assert first["hours"] == pytest.approx(np.array([10, 30, 50]) / 3600)


def test_the_settings_that_differ_and_the_table(tmp_path: Path) -> None:
    seen = compared(
        a=steady(tmp_path / "a", [0.5], 10.0, seed=1), b=steady(tmp_path / "b", [0.75, 0.5], 10.0, budget=9)
    )
    assert seen["settings"]["columns"] == ["a", "b"]
    rows = {row["name"]: row["values"] for row in seen["settings"]["rows"]}
    assert rows == {"search.seed": ["1", "0"], "search.budget": ["6", "9"]}
    one, other = seen["table"]
    assert (one["key"], one["evaluated"], one["best"], one["best_id"], one["seed"]) == ("a", 1, 0.5, 0, 1)
    assert (other["evaluated"], other["best_id"], other["parameters"]) == (2, 0, 1000)
    assert other["hours"] == pytest.approx(20 / 3600)


def test_a_run_without_an_evaluation_is_in_the_table(tmp_path: Path) -> None:
    seen = compared(a=steady(tmp_path / "a", [0.5], 10.0), new=empty(tmp_path / "new"))
    assert [row["evaluated"] for row in seen["table"]] == [1, 0] and len(seen["groups"]) == 1
    assert seen["problems"] == ["new: nothing is evaluated yet"]
    alone = compared(new=empty(tmp_path / "newer"))
    assert (alone["groups"], alone["common_fitness"]) == ([], None)


def test_other_measures_and_one_run_twice_are_refused(tmp_path: Path) -> None:
    one, other = (followed(steady(tmp_path / name, [0.5], 10.0)) for name in "ab")
    course = comparison.course("b", other)
    log_loss = followed(steady(tmp_path / "c", [0.5], 10.0))
    measured = comparison.course("c", log_loss)
    object.__setattr__(measured, "measure", comparison.FitnessMeasure("log-loss", "negative log loss", -1.0, 0.0))
    words = r"^expected runs whose fitness is of one measure, got accuracy \(b\), log-loss \(c\)$"
    with pytest.raises(AnalysisError, match=words):
        comparison.searches([course, measured])
    with pytest.raises(AnalysisError, match="are one run$"):
        comparison.searches([comparison.course("a", one), comparison.course("again", one)])


def test_a_long_course_is_thinned_and_keeps_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert turning_points(np.array([1.0, 1.0, 2.0, 2.0])).tolist() == [0, 2, 3]
    assert turning_points(np.empty(0)).tolist() == [] and turning_points(np.ones(1)).tolist() == [0]
    found = turning_points(np.arange(10_000.0))
    assert len(found) == comparison.MOST_POINTS and (found[0], found[-1]) == (0, 9_999)


# ── retrainings ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_retrainings_by_their_recipes(tmp_path: Path) -> None:
    given = {
        "small": retrained(tmp_path / "small", [0.5, 0.75]),
        "wide": retrained(tmp_path / "wide", [0.875], settings={"network": {"channels": 32}}),
    }
    record = record_file.read(given["wide"])
    record.run = "6" * 32
    record_file.write(given["wide"], record)
    seen = comparison.retrained([(key, retrainings.load(folder)) for key, folder in given.items()])
    small, wide = seen["groups"]
    assert (small["name"], small["runs"], small["test_accuracy"], small["complete"]) == ("small", ["small"], 0.625, 2)
    assert (wide["test_accuracy"], wide["difference"]) == (0.875, 0.25)
    assert {"name": "channels", "values": ["64", "32"]} in seen["settings"]["rows"]
    assert seen["problems"] == ["a single training has no interval: --runs trains more seeds"]


def test_curves_of_trainings_and_their_band(tmp_path: Path) -> None:
    states = (State.COMPLETE, State.TRAINING, State.DIVERGED, State.WAITING)
    folder = kept(tmp_path / "run", recorded(states))
    seen = comparison.retrained([("run", retrainings.load(folder))])
    assert [one["seed"] for one in seen["curves"]] == [0, 1, 2]
    assert seen["curves"][1]["validation_step"] == [20] and seen["curves"][1]["step"] == [10, 20]
    (group,) = seen["groups"]
    assert group["validated"] == {"step": [20], "mean": [0.25], "low": [0.25], "high": [0.25], "trainings": 2}
