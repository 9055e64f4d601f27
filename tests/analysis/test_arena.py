"""The arena: first networks, what counts as reached, intervals by hand, and searches of made-up tables."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from benchmarks import CELLS, cell_rows, cells, chains, rising, write_cells

from hpcnas.analysis import arena, benchmark_tables, peers
from hpcnas.analysis.arena import Contender, Race, Standing, Terms
from hpcnas.analysis.runs import AnalysisError
from hpcnas.evolution.registry import STRATEGIES

TERMS, MANY = Terms(evaluations=40, workers=4, initial=6), Terms(evaluations=150, workers=4, initial=6)


@pytest.mark.parametrize("name", arena.OURS)
def test_our_strategies_find_the_best_of_a_small_table(tmp_path: Path, name: str) -> None:
    for table in (cells(tmp_path), chains(tmp_path)):
        found = arena.race(table, arena.contender(name), 0, MANY)
        assert len(found.fitness) == len(found.cost) == 150
        assert found.fitness[-1] == table.best
        assert 130 < found.cost[-1] < 170, "a training each"
        assert found == arena.race(table, arena.contender(name), 0, MANY), "a pure function of the seed"


def test_all_begin_with_the_same_networks(tmp_path: Path) -> None:
    table = chains(tmp_path)
    given = [arena.settings(table, how, 3, TERMS).search.initial for how in ("--strategy aging", "--strategy random")]
    assert given[0] == given[1] and given[0] is not None and given[0].count("codes:") == 6
    assert given[0] != arena.settings(table, "--strategy aging", 4, TERMS).search.initial


def test_a_table_in_which_all_are_equal_is_no_trouble(tmp_path: Path) -> None:
    write_cells(tmp_path, [f"{row.partition(',')[0]},50" for row in cell_rows()])
    found = arena.race(benchmark_tables.read(CELLS, tmp_path), arena.contender("guided"), 0, TERMS)
    assert found.fitness == [0.5] * 40


def test_what_would_be_returned_is_judged_by_the_truth() -> None:
    race = Race([0.5, 0.9, 0.7, 0.9], [1.0, 2.0, 3.5, 4.0])
    assert (race.reached(0.9), race.reached(0.6), race.reached(0.95)) == (2, 2, None)


def test_figures_of_three_seeds_of_which_one_never_comes_there(tmp_path: Path) -> None:
    table = cells(tmp_path)  # the best has 0.80, and so does the best 0.1 %
    races = [Race([0.6, 0.8], [1.0, 2.0]), Race([0.8, 0.8], [1.5, 2.5]), Race([0.6, 0.7], [1.0, 3.0])]
    told = arena.numbers(table, [Standing(Contender("a", ""), races)], TERMS)
    one = told["contenders"][0]
    assert one["seeds"] == 3
    assert one["goals"][1]["evaluations"] == [2.0, 1.0, None]
    assert one["goals"][1]["cost"] == [2.0, 1.5, None]
    assert one["goals"][1]["hits"] == 2 / 3
    assert np.allclose(one["regret"], [0.2, 0.0]) and np.allclose(one["regret_high"], [0.2, 0.1])
    assert math.isclose(one["final_regret_mean"], 0.1 / 3)


def test_the_interval_of_a_share() -> None:
    assert np.allclose(arena.wilson(9, 10), (0.5958, 0.9821), atol=1e-4)
    assert arena.wilson(0, 5)[0] == 0.0 and arena.wilson(5, 5)[1] == 1.0


def test_several_processes_find_the_same(tmp_path: Path) -> None:
    table, contenders = cells(tmp_path), [arena.contender("tournament"), arena.contender("twice=--replicates 2")]
    told: list[str] = []
    alone = arena.standings(table, contenders, 2, TERMS)
    assert arena.standings(table, contenders, 2, TERMS, processes=2, tell=told.append) == alone
    assert [text.partition(":")[0] for text in told] == [
        f"cells, {name}, seed {seed}" for name in ("tournament", "twice") for seed in (0, 1)
    ]
    assert alone[1].races[0].cost[-1] > 1.6 * alone[0].races[0].cost[-1], "each is trained twice"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unknown", f"expected a contender ({', '.join([*STRATEGIES, *peers.PEERS])}) or NAME="),
        ("odd=--no-such-option", "--no-such-option"),
        ("odd='--racing", "No closing quotation"),
        ("odd=--strategy guided --confirm 5", "expected more evaluations than the 40 that confirming may take, got 40"),
        ("odd=--max-parameters 1 --initial-mutations 2", "--initial-mutations 2: expected a genotype"),
    ],
)
def test_wrong_use_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AnalysisError) as caught:
        arena.race(cells(tmp_path), arena.contender(text), 0, TERMS)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_two_contenders_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="expected contenders of different names"):
        arena.standings(cells(tmp_path), [arena.contender("random")] * 2, 1, TERMS)


EARLY = "--rungs 0.5 --early-stopping"


@pytest.mark.parametrize("replicates", [1, 2])
def test_early_stopping_gets_as_much_training_for_more_individuals(tmp_path: Path, replicates: int) -> None:
    table, how = rising(tmp_path), f"{EARLY} --replicates {replicates}"
    search = arena.settings(table, how, 0, MANY).search
    assert (search.budget, search.trainings) == (300, 150 * replicates)
    assert arena.settings(table, f"--replicates {replicates}", 0, MANY).search.trainings is None
    found = arena.race(table, arena.Contender("early", how), 0, MANY)
    assert len(found.fitness) == len(found.cost)
    assert all(one <= other for one, other in itertools.pairwise(found.cost))
    assert found.cost[-1] < 150 * replicates * 1.1
    assert found == arena.race(table, arena.Contender("early", how), 0, MANY)


def test_what_was_stopped_is_paid_for(tmp_path: Path) -> None:
    table = rising(tmp_path)
    terms = Terms(evaluations=150, workers=1, initial=6, spread=0.0)
    plain = arena.race(table, arena.Contender("plain", ""), 0, terms).cost
    early = arena.race(table, arena.Contender("early", EARLY), 0, terms).cost
    assert plain == pytest.approx(list(range(1, 151)))
    steps = {round(2 * (other - one)) for one, other in itertools.pairwise([0.0, *early])}
    assert min(steps) == 2 and max(steps) > 2, "an evaluation costs one, and the half of each that ended before it"


def test_searches_of_unequal_length_are_compared_by_what_each_returns_in_the_end() -> None:
    races = [Race([0.5, 0.6], [1.0, 2.0]), Race([0.7], [1.0]), Race([0.4, 0.5], [1.0, 2.0])]
    median, low, high = Standing(Contender("a", ""), races).regret(1.0)
    assert np.allclose(median, [0.5, 0.4]) and np.allclose(low, [0.3, 0.3]) and np.allclose(high, [0.6, 0.5])
