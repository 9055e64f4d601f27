"""`hpcnas lineage`, of individuals in a run made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toolruns import curved, empty, eventful

from hpcnas.command import lineage as command
from hpcnas.errors import Error


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return eventful(tmp_path / "run")


def test_a_mutation_that_brought_a_gain(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "run": str(run),
        "individual": 4,
        "lineage": [
            {
                "id": 1,
                "step": 3,
                "birth": "initial",
                "fitness": 0.75,
                "gain": None,
                "gain_error": None,
                "parameters": 3000,
                "children": 1,
                "mutation": None,
                "same_network": None,
                "stopped_at": None,
            },
            {
                "id": 4,
                "step": 4,
                "birth": "mutation",
                "fitness": 0.8125,
                "gain": 0.0625,
                "gain_error": pytest.approx(0.0625),  # (0.875 − 0.75) / 2, and none of the parent
                "parameters": 2500,
                "children": 0,
                "mutation": ["M2 1-3: none → max"],
                "same_network": False,
                "stopped_at": None,
            },
        ],
    }


def test_the_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([f"{run}:2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "id  step  fitness     gain       ±  parameters  children  mutation",
        " 0     1   0.5625        -       -       1,000         1  drawn at random",
        " 2     2   0.6250  +0.0625  0.0625       2,000         1  M2 2-3: sep → 1x1 (same network)",
        "1 mutation, 1 without a change of the network; gain +0.0625 in all, +0.0625 a mutation, "
        "most by M2 2-3: sep → 1x1 (same network)",
    ]


def test_one_without_ancestors(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([f"{run}:0"]) == 0
    assert capsys.readouterr().out.endswith("\nit has no ancestors\n")


@pytest.mark.parametrize("name", ["tree.png", "tree.svg"])
def test_a_picture_is_written(run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(run), "--output", str(tmp_path / name)]) == 0
    assert (tmp_path / name).stat().st_size > 10_000
    assert capsys.readouterr().out.endswith(f"\nwritten: {tmp_path / name}\n")


def test_a_run_without_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(Error, match="no individual has been evaluated yet, so there is no best one"):
        command.main([str(empty(tmp_path / "run"))])


def test_one_that_was_stopped_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = curved(tmp_path / "run")
    assert command.main([f"{run}:3"]) == 0
    *_, row, last = capsys.readouterr().out.splitlines()
    assert row.split()[:7] == ["3", "-", "-", "-", "-", "2,000", "0"]
    assert last == "individual 3 was stopped early at 25 % of the steps: it has no fitness"
