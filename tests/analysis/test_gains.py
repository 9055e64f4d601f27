"""Gains of small and large networks over the first random genotype."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from figure4 import gains_of, of, retrainings_of
from toolruns import RETRAINED_ON, eventful, origin_of, retrained, steady

from hpcnas.analysis.figures.search import gain_picture
from hpcnas.analysis.gains import Gain
from hpcnas.analysis.runs import AnalysisError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Evaluated are 0, 2, 1, 4 in this order, with the fitness 0.5625, 0.625, 0.75, 0.8125."""
    return eventful(tmp_path / "run")


@pytest.fixture
def retrainings(run: Path, tmp_path: Path) -> list[Path]:
    return retrainings_of(run, tmp_path)


def test_gains_are_over_the_first_evaluated_in_the_order_of_steps(run: Path, retrainings: list[Path]) -> None:
    found = of(run, retrainings)
    assert found.points == (
        Gain(0, 1, 0.0, 0.0, pytest.approx(0.125 * 2**0.5), 2),
        Gain(4, 4, 0.25, 0.25, pytest.approx(0.125), 3),
    )
    assert found.best_small.tolist() == [0.0, 0.0625, 0.1875, 0.25]


def test_of_a_single_training_there_is_no_deviation(run: Path, tmp_path: Path) -> None:
    assert of(run, [retrained(tmp_path / "zero", [0.5], origin_of(run, 0))]).points[0].large_std is None


def test_what_diverged_is_counted_and_not_averaged(run: Path, tmp_path: Path) -> None:
    found = of(run, [retrained(tmp_path / "zero", [0.5], origin_of(run, 0), diverged=2)])
    assert found.points == (Gain(0, 1, 0.0, 0.0, None, 1, 2),)
    (axes,) = gain_picture([found]).axes
    assert "large network (2 diverged, left out)" in axes.get_legend_handles_labels()[1]


def test_the_title_says_what_the_gains_are_over(run: Path, retrainings: list[Path]) -> None:
    def title(*firsts: str) -> str:
        return str(gain_picture([replace(found, first=first) for first in firsts]).axes[0].get_title("left"))

    found = of(run, retrainings)
    assert found.first == "one architecture drawn with space 2x3/1x3"
    random, given = "one random architecture", "one given architecture"
    assert title(random, random) == "Gain in accuracy over the first random genotype"
    assert title(given) == "Gain in accuracy over the first genotype:\none given architecture"
    assert title(random, given) == (
        "Gain in accuracy over the first genotype of each run\n"
        "run: one random architecture\nrun: one given architecture"
    )


def test_figure_4(run: Path, retrainings: list[Path]) -> None:
    (axes,) = gain_picture([of(run, retrainings)]).axes
    lines = {line.get_label(): np.array(line.get_data()).T.tolist() for line in axes.get_lines()}
    assert lines["small network, best so far"] == [[1, 0.0], [2, 0.0625], [3, 0.1875], [4, 0.25]]
    assert lines["small network"] == [[1, 0.0], [4, 0.25]]
    (bars,) = axes.containers
    assert bars.get_label() == "large network"
    assert np.array(bars.lines[0].get_data()).T.tolist() == [[1, 0.0], [4, 0.25]]
    assert axes.get_ylabel() == "gain (percentage points)" and axes.yaxis.get_major_formatter()(0.25, 0) == "25"


def test_several_runs_share_the_figure(run: Path, retrainings: list[Path], tmp_path: Path) -> None:
    other = steady(tmp_path / "other", [0.5, 0.25], 1.0)
    found = gains_of([run, other], [*retrainings, retrained(tmp_path / "r", [0.5], origin_of(other, 0))])
    (axes,) = gain_picture(found).axes
    labels = axes.get_legend_handles_labels()[1]
    assert len(labels) == 6 and {label.split(":")[0] for label in labels} == {"run", "other"}


def refused(run: Path, retrainings: list[Path]) -> str:
    with pytest.raises(AnalysisError) as raised:
        gains_of([run], retrainings)
    return str(raised.value)


def test_without_the_first_individual_there_is_nothing_to_compare_with(run: Path, retrainings: list[Path]) -> None:
    said = refused(run, retrainings[:1])
    assert "run: expected a retraining of individual 0, the first that was evaluated" in said
    assert f"python -m hpcnas.retrain --genotype {run}:0" in said


def test_what_is_no_retraining_of_these_runs(run: Path, tmp_path: Path) -> None:
    paper = retrained(tmp_path / "paper", [0.5])
    said = refused(run, [paper])
    assert f"{paper}: expected a retraining of an individual of run; it is one of paper" in said
    strange = retrained(tmp_path / "strange", [0.5], replace(origin_of(run, 0), individual=3))
    zero = retrained(tmp_path / "zero", [0.5], origin_of(run, 0))
    assert "expected retrainings of evaluated individuals, got one of 3" in refused(run, [zero, strange])


def test_networks_that_were_trained_differently(run: Path, retrainings: list[Path], tmp_path: Path) -> None:
    other = retrained(tmp_path / "short", [0.5], origin_of(run, 1), {"training": {"steps": 500}})
    said = refused(run, [*retrainings, other])
    assert f"{other}: expected the recipe of {retrainings[0]}, but training.steps: 80000 → 500" in said


def test_networks_that_learnt_other_data(run: Path, retrainings: list[Path], tmp_path: Path) -> None:
    moved = retrained(tmp_path / "moved", [0.5], origin_of(run, 1), {"data": {"source": "cifar10:elsewhere"}})
    assert len(of(run, [*retrainings, moved]).points) == 3
    facts = replace(RETRAINED_ON, fingerprint="0123456789abcdef")
    other = retrained(tmp_path / "o", [0.5], origin_of(run, 1), {"data": {"source": "imagefolder:own"}}, facts=facts)
    said = refused(run, [*retrainings, other])
    assert f"{other}: expected the data of {retrainings[0]}, cifar10:data (fingerprint c1fa410000000000)" in said
    assert "got imagefolder:own (fingerprint 0123456789abcdef)" in said
