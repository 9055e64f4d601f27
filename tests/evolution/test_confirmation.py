"""Confirmation: whom it trains again, the rule by hand, what is the best then, and whole searches with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import PLACE, SPACE, assert_same, individual

from hpcnas.analysis import merging, summary, verification
from hpcnas.architecture.genotype import Genotype
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchSettings
from hpcnas.evolution.budget import evaluations_left, has_room, is_complete
from hpcnas.evolution.confirmation import Confirmation, candidates
from hpcnas.evolution.individuals import COLUMNS, Birth
from hpcnas.evolution.population import Population
from hpcnas.messages import Evaluation, Failure, FailureKind, Result
from hpcnas.search import references, run_file, simulation
from hpcnas.search.progress import final_table
from hpcnas.search.recovery import salvage

CELLS = [bytes([1, 0, code, 0, 0, 0, 1, 0, 1]) for code in (1, 2, 3, 4, 5)]  # of five networks


def result(id: int, *accuracies: float) -> Result:
    return Result(id, 1, PLACE, 0.0, 1.0, Evaluation(accuracies, 1000, 0.0, 1.0, 0.0))


def searched(*rows: tuple[float, ...], replicates: int = 1) -> Population:
    """Evaluated individuals of a search, of networks that differ."""
    found = Population(SPACE, replicates)
    for id, row in enumerate(rows):
        found.add(replace(individual(id), genotype=Genotype(SPACE, CELLS[id])))
        found.settle(result(id, *row))
    return found


def begin(found: Population, confirm: int, **settings: int) -> int | None:
    """Adds what is to be trained next; its parent, None where there is nothing for now."""
    search = SearchSettings(budget=found.searched, confirm=confirm, confirm_trainings=settings.get("trainings"))
    proposal = Confirmation(search, found).next()
    if proposal is None:
        return None
    assert proposal.birth is Birth.CONFIRMATION and proposal.parent is not None
    assert proposal.genotype == found.individual(proposal.parent).genotype
    found.add(proposal.born(len(found), len(found.evaluated), 0.0))
    return proposal.parent


def confirm(found: Population, count: int, truth: dict[int, list[float]], **settings: int) -> list[int]:
    """Trains again until there is nothing left, one after another; the individuals, in order."""
    order = []
    while (parent := begin(found, count, **settings)) is not None:
        found.settle(result(len(found) - 1, truth[parent].pop(0)))
        order.append(parent)
    search = SearchSettings(confirm=count, confirm_trainings=settings.get("trainings"))
    assert Confirmation(search, found).complete
    return order


NOISE = [0.01, -0.01] * 40


def around(middle: float) -> list[float]:
    """Trainings whose mean, of the first two, four, …, is that."""
    return [middle + noise for noise in NOISE]


# ── whom, and how often ─────────────────────────────────────────────────────────────────────────────────────────────
def test_the_fittest_networks_are_chosen_each_once() -> None:
    found = searched((0.7,), (0.9,), (0.8,))
    found.add(replace(individual(3), genotype=Genotype(SPACE, CELLS[1])))  # the network of 1
    found.settle(result(3, 0.95))
    assert candidates(found, 2) == [3, 2]
    assert candidates(found, 9) == [3, 2, 0], "there are no more"


def test_what_a_strategy_expects_chooses_as_long_as_nothing_is_begun() -> None:
    found = searched((0.7,), (0.9,), (0.8,), (0.85,))
    expected = {0: 0.85, 2: 0.86, 1: 0.84}
    assert candidates(found, 2, expected) == [2, 0]
    assert candidates(found, 4, expected) == [2, 0, 1, 3], "what it says nothing about comes last"
    search = SearchSettings(budget=4, confirm=2)
    assert Confirmation(search, found, expected).networks == [2, 0]
    assert begin(found, 2) == 1
    assert Confirmation(search, found, expected).networks == [1, 2]
    assert Confirmation(search, found).networks == [1, 3], "as many, for tools that ask no strategy"


def test_those_that_racing_has_given_up_are_not_chosen() -> None:
    found = searched((0.7, 0.7), (0.9,), (0.8, 0.8), replicates=2)
    assert candidates(found, 3) == [2, 0]


def test_a_round_brings_all_that_are_in_to_as_many_trainings() -> None:
    """s = 0.0107 of 12 and more degrees of freedom: the third is out after two, for the others it takes four."""
    found = searched((0.93,), (0.92,), (0.91,), (0.5,), (0.5,))
    order = confirm(found, 3, {0: around(0.80), 1: around(0.85), 2: around(0.10)}, trainings=1000)
    assert order[:6] == [0, 1, 2, 0, 1, 2]
    assert order[6:12] == [0, 1, 2, 0, 1, 2], "3 degrees of freedom are too few"
    assert order[12:] == []  # 9 degrees of freedom
    assert found.column("fitness")[found.best] == pytest.approx(0.85)
    assert found.individual(found.best).parent == 1


def test_known_noise_decides_sooner_and_close_ones_take_longer() -> None:
    rows = [(0.93, 0.95), (0.92, 0.94), (0.91, 0.93), (0.5, 0.52), (0.5, 0.52)]  # s = 0.0141 of 5
    found = searched(*rows, replicates=2)
    truth = {0: around(0.80), 1: around(0.81), 2: around(0.10)}
    order = confirm(found, 3, truth, trainings=1000)
    assert order[:6] == [0, 1, 2, 0, 1, 2] and set(order[6:]) == {0, 1}
    assert len(order) == 6 + 2 * 14, "0.01 apart, with s = 0.0106: sixteen of each"
    assert found.individual(found.best).parent == 1


def test_its_trainings_are_limited() -> None:
    found = searched((0.93,), (0.92,), (0.91,))
    truth = {id: around(0.8) for id in range(3)}
    assert len(confirm(found, 3, truth)) == 24, "8 for each"
    found = searched((0.93,), (0.92,), (0.91,))
    assert confirm(found, 3, {id: around(0.8) for id in range(3)}, trainings=8) == [0, 1, 2, 0, 1, 2, 0, 1]


def test_nobody_is_judged_while_others_of_the_round_are_under_way() -> None:
    found = searched((0.93,), (0.92,))
    assert [begin(found, 2) for _ in range(5)] == [0, 1, 0, 1, None]
    search = SearchSettings(budget=2, confirm=2)
    assert not Confirmation(search, found).complete and Confirmation(search, found).left == 16
    for id in (5, 3, 2):
        found.settle(result(id, 0.9))
        assert begin(found, 2) is None
    found.settle(result(4, 0.9))
    assert begin(found, 2) == 0


def test_one_network_alone_is_measured_anew() -> None:
    found = searched((0.93,), (0.92,))
    assert confirm(found, 1, {0: [0.8, 0.9]}) == [0, 0]
    assert found.column("fitness")[found.best] == pytest.approx(0.85)


def test_trainings_that_fail_count_as_trained_and_a_network_without_any_is_out() -> None:
    found = searched((0.93,), (0.92,))
    for _ in range(4):
        parent = begin(found, 2)
        id = len(found) - 1
        failure = Result(id, 1, PLACE, 0.0, 1.0, Failure(FailureKind.NAN, "the loss was not finite"))
        found.settle(failure if parent == 0 else result(id, 0.9))
    assert begin(found, 2) is None
    assert Confirmation(SearchSettings(budget=2, confirm=2), found).complete
    assert found.individual(found.best).parent == 1


def test_nothing_evaluated_leaves_nothing_to_confirm() -> None:
    one = Confirmation(SearchSettings(confirm=3), Population(SPACE, 1))
    assert one.complete and one.next() is None and one.left == 0


# ── the best ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_new_trainings_alone_are_the_fitness_and_the_best_is_one_of_the_confirmed() -> None:
    found = searched((0.95, 0.97), (0.94, 0.96), (0.93, 0.95), replicates=2)
    assert found.best == 0
    for id, (parent, accuracy) in enumerate([(0, 0.80), (1, 0.90), (0, 0.84), (1, 0.88)], start=3):
        found.add(replace(individual(id), birth=Birth.CONFIRMATION, parent=parent, repeats=parent))
        found.settle(result(id, accuracy))
    assert found.column("fitness")[3:].tolist() == pytest.approx([0.80, 0.90, 0.82, 0.89])
    assert found.averaged_accuracies(5) == (0.80, 0.84)
    assert found.bests.tolist() == [0, 0, 0, 0, 0, 5, 6]
    assert found.best == 6 and found.fittest() == [6, 5, 2], "2 was measured as 0.94, by luck or not"
    assert (found.searched, found.confirmations, found.averaged, found.trainings) == (3, 4, 0, 10)
    columns = {column.name: found.column(column.name).copy() for column in COLUMNS}
    again = Population.from_columns(SPACE, 2, columns, found.evaluated.copy(), [])
    assert_same(again, found)
    assert again.bests.tolist() == found.bests.tolist() and again.fittest() == found.fittest()


def test_a_network_that_was_out_early_does_not_come_back() -> None:
    """Its two trainings were lucky, if not as lucky as they would have had to be."""
    found = searched((0.95,), (0.94,))
    births = [(0, 0.90), (1, 0.89), (0, 0.90), (1, 0.89), (0, 0.80), (0, 0.80)]
    for id, (parent, accuracy) in enumerate(births, start=2):
        found.add(replace(individual(id), birth=Birth.CONFIRMATION, parent=parent, repeats=parent))
        found.settle(result(id, accuracy))
    assert found.individual(found.best).parent == 0 and found.column("fitness")[found.best] == pytest.approx(0.85)


def test_a_confirmation_has_a_parent_that_it_repeats() -> None:
    found = searched((0.95,))
    for wrong in ({"parent": 0}, {"repeats": 0}):
        with pytest.raises(ValueError, match="^expected a parent that individual 1 repeats, for it confirms one"):
            found.add(replace(individual(1), birth=Birth.CONFIRMATION, **wrong))


def test_the_search_has_its_budget_for_itself() -> None:
    found = searched((0.95,), (0.94,))
    search = SearchSettings(budget=2, trainings=2, confirm=2)
    assert not is_complete(search, found)
    begin(found, 2)
    assert evaluations_left(search, found) == 0 and not has_room(search, found, 0)
    found.settle(result(2, 0.9))
    more = SearchSettings(budget=3, trainings=3, confirm=2)
    assert evaluations_left(more, found) == 1 and has_room(more, found, 0)


# ── whole searches ──────────────────────────────────────────────────────────────────────────────────────────────────
def settings(**search: object) -> search_config.SearchConfig:
    chosen = {"budget": 60, "initial_population": 20, "initial_mutations": 30, "confirm": 4, "space": str(SPACE)}
    return search_config.build(
        {"search": chosen, "training": {"replicates": 2}},
        {"evaluation": {"evaluator": "synthetic", "synthetic_seconds": 40.0, "synthetic_spread": 0.3}},
        {"search": search},
    )


def run(folder: Path, workers: int = 5, walltime: float | None = None, **search: object) -> run_file.StoredRun:
    """A simulated search, perhaps of several jobs, kept in a folder."""
    chosen = settings(**search)
    chosen = replace(chosen, run=replace(chosen.run, grace=5.0, walltime=walltime))
    simulation.simulate(chosen, simulation.Site(workers, startup=1.0, queue=0.0, handling=0.001), folder)
    return salvage(folder)[0]


@pytest.mark.parametrize("search", [
    {"strategy": "tournament"}, {"strategy": "guided", "duplicates": "resample"}, {"duplicates": "average"},
    {"racing": True, "scheduling": "replicate"},
])  # fmt: skip
def test_a_search_is_confirmed_and_every_decision_can_be_checked(tmp_path: Path, search: dict[str, object]) -> None:
    found = run(tmp_path / "run", **search)
    population = found.population
    assert population.searched == 60 and population.in_flight == 0
    assert 8 <= population.confirmations <= 32
    assert is_complete(found.config.search, population)
    assert population.individual(population.best).birth is Birth.CONFIRMATION
    assert list(verification.faults(found)) == [] and verification.overspent(found) is None
    first = int(np.flatnonzero(population.column("birth") == Birth.CONFIRMATION)[0])
    assert first == 60 + len(population.failures), "nothing of the search is born after the first"


@pytest.mark.parametrize("strategy", ["tournament", "guided"])
def test_where_fewer_are_evaluated_than_are_to_be_confirmed_all_of_them_are(tmp_path: Path, strategy: str) -> None:
    """`--trainings` has ended the search after 5 of 60, at two trainings each."""
    found = run(tmp_path / "run", strategy=strategy, trainings=10, confirm=8)
    population = found.population
    assert (population.searched, population.in_flight) == (5, 0)
    again = population.column("birth") == Birth.CONFIRMATION
    assert set(population.column("parent")[again].tolist()) == set(population.evaluated[:5].tolist())
    assert population.individual(population.best).birth is Birth.CONFIRMATION
    assert is_complete(found.config.search, population)
    assert list(verification.faults(found)) == []


def test_where_all_but_one_have_failed_that_one_is_measured_anew() -> None:
    found = searched((0.93,))
    for id in range(1, 5):
        found.add(replace(individual(id), genotype=Genotype(SPACE, CELLS[id])))
        found.settle(Result(id, 1, PLACE, 0.0, 1.0, Failure(FailureKind.NAN, "the loss was not finite")))
    assert confirm(found, 4, {0: around(0.8)}) == [0, 0]
    assert found.individual(found.best).parent == 0


def test_jobs_that_end_in_between_confirm_the_same_networks(tmp_path: Path) -> None:
    whole, cut = run(tmp_path / "whole", workers=1), run(tmp_path / "cut", workers=1, walltime=200.0)
    assert len(cut.sessions) > 10
    for name in ("genotype", "birth", "parent", "repeats", "accuracies", "fitness"):
        np.testing.assert_array_equal(cut.population.column(name), whole.population.column(name), name)
    assert cut.population.best == whole.population.best


def test_what_is_said_of_it(tmp_path: Path) -> None:
    found = run(tmp_path / "run")
    population = found.population
    best, fitness = population.best, population.column("fitness")
    origin = population.individual(best).parent
    told = final_table(population)
    assert f"individual {origin} of the search, with new seeds: {fitness[origin]:.4f} had been measured, " in told
    assert told.splitlines()[0].split() == ["evaluated", "60"]
    facts = summary.facts(tmp_path / "run", found, best=3)
    assert facts["evaluated"] == 60 and facts["confirmations"] == population.confirmations
    assert facts["confirmations_left"] == 0 and facts["best"][0]["id"] == best
    assert facts["best"][0]["mutations"] == sum(
        one.birth is Birth.MUTATION for one in population.lineage(best)
    )
    named = references.several(f"{tmp_path / 'run'}:top2")
    assert named[0].id == best and named[0].genotype == population.individual(best).genotype


def test_merged_runs_leave_confirmations_behind(tmp_path: Path) -> None:
    for seed in (1, 2):
        run(tmp_path / f"{seed}", seed=seed)
    found = merging.merge([tmp_path / "1", tmp_path / "2"], tmp_path / "both")
    assert found.taken == (60, 60) and found.population.confirmations == 0
    assert (found.population.column("repeats") == -1).all()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"confirm": 4, "strategy": "nsga2"}, "^search.confirm: expected a strategy that goes by fitness alone, got"),
        ({"confirm": 61}, "^search.confirm: expected at most as many networks as evaluations, 60, got 61"),
        ({"confirm_trainings": 7}, "^search.confirm_trainings: expected 8 at least, 2 for each network of confirm = 4"),
    ],
)
def test_wrong_use(search: dict[str, object], message: str) -> None:
    with pytest.raises(search_config.ConfigError, match=message):
        settings(**search)


def test_a_confirmation_that_is_not_of_its_parent_is_found(tmp_path: Path) -> None:
    found = run(tmp_path / "run")
    id = len(found.population) - 1
    other = next(cell for cell in CELLS if cell != found.population.individual(id).genotype.codes)
    found.population._columns["genotype"][id] = np.frombuffer(other, dtype=np.uint8)
    assert any(fault.individual == id for fault in verification.faults(found))


def test_single_new_trainings_do_not_make_a_best_and_later_repeats_go_on() -> None:
    found = searched((0.95,), (0.94,))
    for id, (parent, accuracy) in enumerate([(0, 0.99), (1, 0.98)], start=2):
        found.add(replace(individual(id), birth=Birth.CONFIRMATION, parent=parent, repeats=parent))
        found.settle(result(id, accuracy))
    assert found.best == 0 and found.bests.tolist() == [0, 0, 0, 0]
    assert "2 networks were trained again, 2 times in all, which decides nothing yet" in final_table(found)
    found.add(replace(individual(4), repeats=0))  # by `--duplicates average`, after a larger budget
    found.settle(result(4, 0.10))
    assert found.bests.tolist() == [0, 0, 0, 0, 1], "0 is by now the mean of 0.95, 0.99 and 0.10"
    assert found.best == 1


def test_a_search_that_goes_on_is_confirmed_anew() -> None:
    found = searched((0.93,), (0.92,), (0.50,))
    assert sorted(confirm(found, 2, {0: around(0.80), 1: around(0.70)})) == [0] * 8 + [1] * 8
    late = [len(found), len(found) + 1]
    for id, cell, accuracy in zip(late, CELLS[3:], (0.75, 0.97), strict=True):
        found.add(replace(individual(id), genotype=Genotype(SPACE, cell), view=len(found.evaluated)))
        found.settle(result(id, accuracy))
    search = SearchSettings(budget=5, confirm=2)
    assert not Confirmation(search, found).complete and Confirmation(search, found).left == 16
    assert Confirmation(search, found).networks == [late[1], 0], "0.97 as measured, and 0.80 as confirmed, not 0.93"
    order = confirm(found, 2, {late[1]: around(0.90), 0: around(0.80)})
    assert order == [late[1]] * 8, "until it has as many as the other"
    assert found.individual(found.best).parent == late[1]
