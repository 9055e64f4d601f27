"""Figure 4 of `hpcnas plot`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from figure4 import of, retrainings_of
from toolruns import eventful, origin_of, retrained

from hpcnas.command import plot


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Evaluated are 0, 2, 1, 4 in this order, with the fitness 0.5625, 0.625, 0.75, 0.8125."""
    return eventful(tmp_path / "run")


@pytest.fixture
def retrainings(run: Path, tmp_path: Path) -> list[Path]:
    return retrainings_of(run, tmp_path)


def test_as_a_command(run: Path, retrainings: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "figure4.png"
    words = [str(run), "--figure4", str(picture), "--retrainings", *map(str, retrainings)]
    assert plot.main(words) == 0
    assert capsys.readouterr().out == f"written: {picture}\n"
    assert picture.stat().st_size > 10_000
    assert plot.main([*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [(point["individual"], point["large"]) for point in found["gains"]] == [(0, 0.0), (4, 0.25)]
    assert found["first_architecture"] == "one architecture drawn with space 2x3/1x3"


def test_a_retraining_that_goes_on_is_left_out(
    run: Path, retrainings: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = retrained(tmp_path / "begun", [], origin_of(run, 1))
    assert [point.individual for point in of(run, [*retrainings, other]).points] == [0, 4]
    assert plot.main([str(run), "--json", "--retrainings", *map(str, [*retrainings, other])]) == 0
    assert capsys.readouterr().err == f"{other}: no training is complete yet: left out\n"
    lost = retrained(tmp_path / "lost", [], origin_of(run, 1), diverged=1)
    assert plot.main([str(run), "--json", "--retrainings", *map(str, [*retrainings, lost])]) == 0
    assert capsys.readouterr().err == f"{lost}: no training is complete, some have diverged: left out\n"


def test_the_figure_needs_retrainings(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        plot.main([str(run), "--figure4", "never.png"])
    assert "--figure4: expected --retrainings DIR" in capsys.readouterr().err
