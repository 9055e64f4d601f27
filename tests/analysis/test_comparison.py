"""Means and confidence bands of a few short runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toolruns import empty, eventful, steady

from hpcnas.analysis.comparison import Band, grouped
from hpcnas.analysis.curves import Curves
from hpcnas.analysis.figures.comparisons import comparison_picture
from hpcnas.analysis.runs import AnalysisError


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs of tournament, one twice as fast, and one of random search that has not come as far."""
    return [
        steady(tmp_path / "slow", [0.5, 0.75, 0.625], 3600.0, seed=1),
        steady(tmp_path / "fast", [0.5, 0.5, 1.0], 1800.0, seed=2),
        steady(tmp_path / "other", [0.25, 0.5], 3600.0, seed=1, strategy="random"),
    ]


def step(x: list[float], y: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(x, dtype=float), np.array(y, dtype=float)


def test_a_mean_where_all_functions_are() -> None:
    found = Band.of([step([1, 2, 4], [0, 2, 4]), step([0, 3, 9], [1, 3, 5])])
    assert found.x.tolist() == [1, 2, 3, 4]  # from the last beginning to the first end
    assert found.mean.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert found.half == pytest.approx([6.353, 6.353, 6.353, 6.353])  # 12.706 · 0.7071 / √2
    assert found.at(2.5) == (1.5, pytest.approx(6.353))
    assert found.reaches(1.6) == 3.0


def test_places_where_nothing_changes_are_left_out() -> None:
    found = Band.of([step([1, 2, 3, 4, 5], [1, 1, 2, 2, 2])])
    assert (found.x.tolist(), found.mean.tolist()) == ([1, 3, 5], [1, 2, 2])
    assert np.isnan(found.half).all()


def test_a_band_of_five() -> None:
    found = Band.of([step([0], [value]) for value in (1, 2, 3, 4, 5)])
    assert found.half == pytest.approx([2.776 * 2.5**0.5 / 5**0.5])


def test_one_that_ends_before_another_begins() -> None:
    found = Band.of([step([1, 2], [1, 3]), step([7, 8], [5, 6])])
    assert (found.x.tolist(), found.mean.tolist()) == ([7], [4])


def test_runs_that_differ_in_their_seed_are_a_group(runs: list[Path], tmp_path: Path) -> None:
    groups = grouped([Curves.of(run) for run in runs])
    assert [(group.label, [run.name for run in group.runs]) for group in groups] == [
        ("tournament", ["slow", "fast"]),
        ("random", ["other"]),
    ]
    constrained = steady(tmp_path / "small", [0.5], 1.0, max_parameters=5000, seed=1)
    groups = grouped([Curves.of(run) for run in (*runs, constrained)])
    assert [group.label for group in groups] == [
        "tournament, max_parameters None",
        "random, max_parameters None",
        "tournament, max_parameters 5000",
    ]
    (group,) = grouped([Curves.of(runs[0])])
    assert group.label == "tournament"


def test_a_run_is_compared_once(runs: list[Path]) -> None:
    with pytest.raises(AnalysisError, match=r"^expected different runs, but .*slow and .*slow are one run$"):
        grouped([Curves.of(folder) for folder in (runs[0], runs[1], runs[0])])


def test_the_picture(runs: list[Path]) -> None:
    figure = comparison_picture(grouped([Curves.of(run) for run in runs]))
    left, right = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["evaluations", "GPU hours"]
    for axes in figure.axes:
        assert len(axes.get_lines()) == 4  # two runs and two means
        assert len(axes.collections) == 2  # the bands
    means = {line.get_label(): line for line in left.get_lines() if not line.get_label().startswith("_")}
    assert list(means) == ["tournament (2 runs)", "random (1 run)"]
    assert means["tournament (2 runs)"].get_ydata().tolist() == [0.5, 0.625, 0.875]
    assert right.get_lines()[2].get_xdata().tolist() == [1.0, 1.5]


def test_runs_without_an_evaluation_are_in_no_group(runs: list[Path], tmp_path: Path) -> None:
    none = Curves.of(empty(tmp_path / "empty"))
    (group,) = grouped([none, Curves.of(runs[0])])
    assert [run.name for run in group.runs] == ["slow"]
    with pytest.raises(AnalysisError, match="^there is nothing to draw$"):
        grouped([none])


def test_failed_attempts_cost_time_too(tmp_path: Path) -> None:
    (group,) = grouped([Curves.of(eventful(tmp_path / "run"))])
    assert group.by_time.x.tolist() == [200.0, 300.0, 360.0, 440.0]
