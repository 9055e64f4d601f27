"""Peers in the arena: that they get what was measured; that one which is missing is told in a line."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest
from benchmarks import cells, chains
from demand import absent, package

from hpcnas.analysis import arena, peers
from hpcnas.analysis.arena import Terms
from hpcnas.analysis.benchmark_tables import Benchmark
from hpcnas.analysis.runs import AnalysisError

TERMS = Terms(evaluations=100, workers=4, initial=6)


@pytest.mark.parametrize("name", [name for name in peers.PEERS if name != "smac"])
def test_a_peer_searches_in_the_same_loop(tmp_path: Path, name: str) -> None:
    found_or_skipped(name)
    for table in (cells(tmp_path), chains(tmp_path)):
        found, ours = (arena.race(table, arena.contender(one), 1, TERMS) for one in (name, "random"))
        assert found.fitness[:2] == ours.fitness[:2], "the first networks are the same"
        assert found.fitness[-1] == table.best
    assert found == arena.race(table, arena.contender(name), 1, TERMS), "its random numbers are its own"


def test_smac_never_asks_for_a_network_again(tmp_path: Path) -> None:
    found_or_skipped("smac")
    table = cells(tmp_path)
    first = arena.race(table, arena.contender("random"), 1, Terms(evaluations=6, workers=2, initial=6))
    found = arena.race(table, arena.contender("smac"), 1, Terms(evaluations=8, workers=2, initial=6))
    assert found.fitness[:6] == first.fitness
    assert found.fitness[-1] >= first.fitness[-1]
    with pytest.raises(AnalysisError, match="expected a network that SMAC has not asked for before, but it finds none"):
        arena.race(chains(tmp_path), arena.contender("smac"), 1, TERMS)  # which has four networks


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_is_told_what_it_asked_for_and_what_it_did_not(tmp_path: Path, name: str) -> None:
    found_or_skipped(name)
    before = random.getstate()
    table = cells(tmp_path)
    peer = peers.PEERS[name](table.layout, 3, 5)
    asked = [peer.ask()]
    for digits in ([2, 0, 1], [0, 1, 2], [2, 2, 2]):
        peer.add(digits, fitness(table, digits))
    asked += [peer.ask() for _ in range(2)]
    for question, digits in reversed(asked):
        assert len(digits) == 3 and set(digits) <= {0, 1, 2}
        peer.tell(question, fitness(table, digits))
    assert random.getstate() == before, "the random numbers of the process are left alone"


def test_neps_mutates_what_it_was_told(tmp_path: Path) -> None:
    found_or_skipped("neps-evolution")
    peer = peers.PEERS["neps-evolution"](cells(tmp_path).layout, 3, 5)
    for _ in range(20):
        peer.add([1, 1, 1], 0.5)
    asked = [peer.ask()[1] for _ in range(20)]
    assert all(digits.count(1) >= 2 for digits in asked), "one digit is mutated; random search changes two as a rule"
    assert any(digits != [1, 1, 1] for digits in asked)


def fitness(table: Benchmark, digits: list[int]) -> float:
    return float(table.truth[table.row(table.genotype(digits))])


def found_or_skipped(name: str) -> None:
    if name == "neps-evolution" and importlib.util.find_spec("neps") is None:
        absent("NePS wants an older pandas than hpcnas[dev] has: make test-peers", "HPCNAS_DEMAND_NEPS")
    package(name.partition("-")[0])


@pytest.mark.parametrize(("name", "module"), [("optuna-tpe", "optuna"), ("neps-evolution", "neps"), ("smac", "smac")])
def test_a_peer_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = rf"^expected {module} for this peer, but .*: pip install 'hpcnas\[peers\]'$"
    with pytest.raises(AnalysisError, match=message):
        peers.PEERS[name](cells(tmp_path).layout, 3, 5)
    with pytest.raises(AnalysisError, match=message):
        arena.contender(name)
