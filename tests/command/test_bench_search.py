"""tools/bench_search.py: table, JSON and picture of made-up tables, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import bench_search
import pytest
from benchmarks import CELLS, write_cells

from hpcnas.analysis import benchmark_tables
from hpcnas.analysis.runs import AnalysisError


@pytest.fixture(autouse=True)
def small_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_tables, "LAYOUTS", {"cells": CELLS})
    write_cells(tmp_path)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["bench_search.py", *map(str, arguments)])
    return bench_search.main()


def test_table_json_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, results = tmp_path / "found.png", tmp_path / "found.json"
    few = ["--tables", tmp_path, "--contenders", "aging", "random", "--seeds", 3, "--evaluations", 30]
    assert run(monkeypatch, *few, "--workers", 1, 5, "--output", picture, "--results", results) == 0
    shown = capsys.readouterr()
    assert "cells: 30 evaluations, 1 workers" in shown.out and "cells: 30 evaluations, 5 workers" in shown.out
    assert [line.split()[:2] for line in shown.out.splitlines() if line[:5] in ("aging", "rando")] == [
        ["aging", "3"], ["random", "3"],
    ] * 2  # fmt: skip
    assert "cells, random, seed 2: regret" in shown.err
    assert picture.stat().st_size > 10_000
    found = json.loads(results.read_text())
    assert [(one["workers"], len(one["contenders"][0]["regret"])) for one in found] == [(1, 30), (5, 30)]
    assert run(monkeypatch, *few, "--workers", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out) == found[:1]


def test_a_folder_without_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnalysisError, match="expected the table cells, but"):
        run(monkeypatch, "--tables", tmp_path / "nowhere")


@pytest.mark.parametrize("odd", [("--seeds", 0), ("--workers", -1), ("--evaluations", "x"), ("--output", "a")])
def test_odd_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: tuple[object, ...]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "--tables", tmp_path, *odd)
    assert stopped.value.code == 2


def test_results_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ["--tables", tmp_path, "--contenders", "random", "--seeds", 1, "--evaluations", 5]
    with pytest.raises(AnalysisError, match="expected to write"):
        run(monkeypatch, *few, "--results", tmp_path)
