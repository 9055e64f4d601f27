"""`hpcnas compare` of retrainings, in literal numbers: groups, differences with their intervals, what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from toolruns import CHAIN, POOLING, steady
from whole_retraining import FACTS, kept, recorded

from hpcnas.analysis import confidence, retraining_comparison, retrainings
from hpcnas.analysis.figures import style
from hpcnas.analysis.retraining_comparison import RetrainingGroup
from hpcnas.architecture.genotype import Genotype
from hpcnas.command import compare
from hpcnas.config.data_spec import DataFacts
from hpcnas.errors import Error
from hpcnas.retrain.record import State


def retraining(
    folder: Path, name: str, accuracies: list[float], settings: Mapping[str, Mapping[str, object]] = {},
    genotype: Genotype = CHAIN, facts: DataFacts = FACTS,
) -> Path:  # fmt: skip
    """One of complete trainings with these test accuracies; `name` is a digit of its own name."""
    record = recorded((State.COMPLETE,) * len(accuracies), settings, name * 32, genotype, facts=facts)
    record.trainings = [
        dataclasses.replace(one, test_accuracy=accuracy, test_top5=1.0)
        for one, accuracy in zip(record.trainings, accuracies, strict=True)
    ]
    return kept(folder, record)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """0.25 and 0.5 with one recipe, 0.75, 0.75 and 0.875 with a longer one and another cell."""
    longer = {"training": {"steps": 80, "schedule": "cosine"}}
    return [
        retraining(tmp_path / "short", "1", [0.25, 0.5]),
        retraining(tmp_path / "long", "2", [0.75, 0.75, 0.875], longer, POOLING),
    ]


def groups(*folders: Path) -> list[RetrainingGroup]:
    return retraining_comparison.grouped([retrainings.load(folder) for folder in folders])


# ── intervals ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_students_t() -> None:
    assert [confidence.t_95(freedom) for freedom in (1, 1.9, 2, 30, 31, 59, 60, 1e9)] == [
        12.706, 12.706, 4.303, 2.042, 2.042, 2.042, 2.0, 2.0,
    ]  # fmt: skip
    assert confidence.half_width([0.25, 0.5]) == pytest.approx(12.706 * 0.125)
    assert math.isnan(confidence.half_width([0.5]))


def test_a_difference_has_welchs_interval() -> None:
    apart, half = confidence.difference([3.0, 5.0, 7.0], [1.0, 2.0])
    # variances 4 / 3 and 0.5 / 2; freedom (19/12)² / ((4/3)² / 2 + (1/4)²) = 2.63, taken as 2
    assert (apart, half) == (pytest.approx(3.5), pytest.approx(4.303 * math.sqrt(19 / 12)))
    assert confidence.difference([2.0, 2.0], [1.0, 1.0]) == (1.0, 0.0)
    apart, half = confidence.difference([2.0], [1.0, 3.0])
    assert apart == 0.0 and math.isnan(half)


# ── groups ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_other_seeds_of_one_recipe_are_one_group_and_the_same_seeds_are_none(tmp_path: Path) -> None:
    first = retraining(tmp_path / "a", "1", [0.25, 0.5])
    record = recorded((State.COMPLETE,), {"training": {"seed": 2}}, "2" * 32)
    other = kept(tmp_path / "b", record)
    again = retraining(tmp_path / "c", "3", [0.5, 0.5])
    found = groups(first, other, again)
    assert [(group.label, group.accuracies) for group in found] == [("a, b", [0.25, 0.5, 0.875]), ("c", [0.5, 0.5])]
    assert retraining_comparison.differences(found) == []


def test_epochs_that_come_to_the_same_steps_are_the_same_recipe(tmp_path: Path) -> None:
    batch = recorded((State.COMPLETE,)).recipe.training.batch_size
    epochs = {"training": {"seed": 2, "epochs": 40 * batch / FACTS.training_images}}
    other = kept(tmp_path / "b", recorded((State.COMPLETE,), epochs, "2" * 32))
    assert len(groups(retraining(tmp_path / "a", "1", [0.25]), other)) == 1


def test_what_they_differ_in(two: list[Path], tmp_path: Path) -> None:
    other = dataclasses.replace(FACTS, fingerprint="ffff0000ffff")
    third = retraining(tmp_path / "other", "3", [0.5], {"network": {"cells": (1, 1)}}, facts=other)
    found = groups(*two, third)
    assert retraining_comparison.differences(found) == [
        ("genotype", ["cell.toml", "cell.toml", "cell.toml"]),
        ("cells", ["1", "1", "1 1"]),
        ("steps", ["40", "80", "40"]),
        ("schedule", ["milestones", "cosine", "milestones"]),
        ("data", ["digits (d1917500)", "digits (d1917500)", "digits (ffff0000)"]),
    ]
    assert retraining_comparison.remarks(found) == [
        "the data differ: so may the test images, and then accuracies say nothing of each other",
        "a single training has no interval: --runs trains more seeds",
    ]


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_table(two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([*map(str, two), "--output", str(tmp_path / "p.svg")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    small, large = (retrainings.load(folder).stored for folder in two)
    assert lines[1] == (
        f"short 2 of 2 {small.parameters:,} {small.flops / 1e6:.1f} 37.50 17.68 158.82 - - 100.00 50.00 4 s".split()
    )
    half = confidence.difference([0.75, 0.75, 0.875], [0.25, 0.5])[1]
    assert lines[2] == (
        f"long 3 of 3 {large.parameters:,} {large.flops / 1e6:.1f} 79.17 7.22 17.93 +41.67 {100 * half:.2f} 100.00 "
        "50.00 4 s".split()
    )
    assert ["schedule", "milestones", "cosine"] in lines and ["steps", "40", "80"] in lines
    assert (tmp_path / "p.svg").read_text().count("short") >= 2  # in the legend, and above it


def test_as_json(two: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([*map(str, two), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["validation_step"] == 40
    first, second = said["groups"]
    assert (first["test_accuracy"], first["difference"], first["difference_half"]) == (0.375, None, None)
    assert second["difference"] == pytest.approx(0.41666667)
    assert second["retrainings"] == [str(two[1])] and second["complete"] == 3


def test_while_they_run_diverge_or_have_not_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = kept(tmp_path / "running", recorded((State.COMPLETE, State.TRAINING)))
    broken = kept(tmp_path / "broken", recorded((State.DIVERGED,), {"training": {"learning_rate": 9.0}}, "8" * 32))
    new = kept(tmp_path / "new", recorded((State.WAITING,), {"training": {"momentum": 0.5}}, "9" * 32))
    monkeypatch.setattr(style, "save", lambda figure, path: None)  # another test writes one
    assert compare.main([*map(str, (running, broken, new)), "--output", str(tmp_path / "p.png")]) == 0
    said = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in said.out.splitlines() if line}
    assert rows["running"][1:4] == ["1", "of", "2"]
    assert rows["broken"][1:6] == ["0", "of", "1,", "1", "diverged"] and rows["new"][1:4] == ["0", "of", "1"]
    assert said.err == f"{new}: no row of its history is saved yet: left out\n"
    assert "learning_rate" in rows and "9.0" in rows["learning_rate"]
    with pytest.raises(Error, match="there is nothing to draw"):
        compare.main([str(new), "--output", str(tmp_path / "q.png")])


def test_searches_and_retrainings_are_not_compared(two: list[Path], tmp_path: Path) -> None:
    search = steady(tmp_path / "search", [0.5], 10.0)
    for folders in ([search, two[0]], [two[0], search]):
        with pytest.raises(Error, match="got both: .*search is a search and .*short a retraining, whose accuracies"):
            compare.main([*map(str, folders)])
    with pytest.raises(Error, match="expected a retraining in .*nothing, but there is no retrain.h5"):
        compare.main([str(two[0]), str(tmp_path / "nothing")])
    with pytest.raises(Error, match="expected different retrainings, but .*short and .*short are one retraining"):
        compare.main([str(two[0]), str(two[0])])
