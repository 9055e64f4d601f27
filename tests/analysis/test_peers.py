"""Peers in the arena: that they get what was measured; that one which is missing is told in a line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks import cells, chains
from demand import package

from hpcnas.analysis import arena, peers
from hpcnas.analysis.arena import Terms
from hpcnas.analysis.runs import AnalysisError

TERMS = Terms(evaluations=100, workers=4, initial=6)


@pytest.mark.parametrize("name", peers.SAMPLERS)
def test_a_peer_searches_in_the_same_loop(tmp_path: Path, name: str) -> None:
    package("optuna")
    for table in (cells(tmp_path), chains(tmp_path)):
        found, ours = (arena.race(table, arena.contender(one), 1, TERMS) for one in (name, "random"))
        assert found.fitness[:2] == ours.fitness[:2], "the first networks are the same"
        assert found.fitness[-1] == table.best


def test_a_peer_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(AnalysisError, match=r"^expected optuna for this peer, but .*: pip install 'hpcnas\[peers\]'$"):
        arena.race(cells(tmp_path), arena.contender("optuna-tpe"), 0, TERMS)
