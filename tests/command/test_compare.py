"""`hpcnas compare`, in literal numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toolruns import empty, steady

from hpcnas.command import compare
from hpcnas.errors import Error


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs of tournament, one twice as fast, and one of random search that has not come as far."""
    return [
        steady(tmp_path / "slow", [0.5, 0.75, 0.625], 3600.0, seed=1),
        steady(tmp_path / "fast", [0.5, 0.5, 1.0], 1800.0, seed=2),
        steady(tmp_path / "other", [0.25, 0.5], 3600.0, seed=1, strategy="random"),
    ]


def test_numbers(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([*map(str, runs), "--json"]) == 0
    wide = pytest.approx(12.706 * 0.125)
    assert json.loads(capsys.readouterr().out) == {
        "common_evaluations": 2,
        "common_fitness": 0.5,
        "groups": [
            {
                "label": "tournament",
                "runs": ["slow", "fast"],
                "evaluations": 3,
                "best": 0.875,
                "best_half": wide,
                "at_common": 0.625,
                "at_common_half": wide,
                "evaluations_to_common": 1,
                "hours_to_common": 1.0,
                "by_evaluations": {"x": [1, 2, 3], "mean": [0.5, 0.625, 0.875], "half": [0.0, wide, wide]},
                "by_hours": {"x": [1.0, 1.5], "mean": [0.5, 0.75], "half": [0.0, pytest.approx(12.706 * 0.25)]},
            },
            {
                "label": "random",
                "runs": ["other"],
                "evaluations": 2,
                "best": 0.5,
                "best_half": None,
                "at_common": 0.5,
                "at_common_half": None,
                "evaluations_to_common": 2,
                "hours_to_common": 2.0,
                "by_evaluations": {"x": [1, 2], "mean": [0.25, 0.5], "half": [None, None]},
                "by_hours": {"x": [1.0, 2.0], "mean": [0.25, 0.5], "half": [None, None]},
            },
        ],
    }


def test_the_table(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([*map(str, runs)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "group       runs  evaluations    best  ± 95 %    at 2  ± 95 %  to 0.5000  GPU hours",
        "tournament     2            3  0.8750  1.5882  0.6250  1.5882          1      1.000",
        "random         1            2  0.5000       -  0.5000       -          2      2.000",
        "best: mean of the best fitness; to 0.5000: evaluations and GPU hours until the mean was as high",
    ]


def test_a_picture_is_written(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([*map(str, runs), "--output", str(tmp_path / "picture.png")]) == 0
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert capsys.readouterr().out.endswith(f"\nwritten: {tmp_path / 'picture.png'}\n")


def test_runs_without_an_evaluation(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none = empty(tmp_path / "empty")
    assert compare.main([str(none), str(runs[0])]) == 0
    assert capsys.readouterr().err == f"{none}: no individual has been evaluated yet: left out\n"
    with pytest.raises(Error, match="^there is nothing to draw$"):
        compare.main([str(none)])
