"""Repeats that are averaged in: what a fitness is then, who competes in which view, and searches that do so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from examples import CONFIG, PLACE, SESSION, SPACE, assert_same, failed, individual
from scripted_crew import Crew, Numbered, Search, settings
from test_budget import trained
from test_duplicates import CELLS, RENAMED, one_after_another
from test_strategy import breeding, configured, evolution, grow, in_flight, individuals
from test_verify import plant

from hpcnas import seeds
from hpcnas.analysis import verification
from hpcnas.architecture.expansion import is_valid
from hpcnas.architecture.network_hash import network_hash
from hpcnas.config import search as search_config
from hpcnas.evolution.aging import AgingEvolution
from hpcnas.evolution.duplicates import Drawn, average
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.evolution.initial import GivenFirst
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Proposal
from hpcnas.messages import Evaluation, Result, mean
from hpcnas.search import run_file, simulation
from hpcnas.search.file_store import FileStore
from hpcnas.search.progress import final_table

LUCKY, REPEAT, AGAIN, OTHER = 0, 2, 3, 1


def result(id: int, *accuracies: float) -> Result:
    return Result(id, 1, PLACE, 0.0, 1.0, Evaluation(accuracies, 1000, 0.0, 1.0, 0.0))


def born() -> Population:
    """Four replicates a fitness; individuals 2 and 3 repeat 0."""
    found = Population(SPACE, replicates=4)
    for id in range(4):
        found.add(replace(individual(id), repeats=LUCKY if id in (REPEAT, AGAIN) else None))
    return found


def corrected() -> Population:
    """Individual 0 was lucky, by 0.80 against 0.76; its repeats say 0.70 and 0.94."""
    found = born()
    found.settle(result(LUCKY, 0.80, 0.80, 0.80, 0.80))
    found.settle(result(OTHER, 0.76, 0.76, 0.76, 0.76))
    found.settle(result(REPEAT, 0.50))
    found.settle(result(AGAIN, 0.94))
    return found


FITNESS = [0.80, 0.76, 0.74, 4.64 / 6]  # of LUCKY, OTHER, REPEAT, AGAIN


def ranked(found: Population, view: int) -> list[int]:
    ranking = found.ranking(view)
    return [ranking[rank] for rank in range(len(ranking))]


# By hand


def test_a_lucky_fitness_is_corrected_when_its_network_is_measured_again() -> None:
    found = corrected()
    assert found.column("fitness").tolist() == pytest.approx(FITNESS, abs=1e-15)
    assert found.averaged_accuracies(REPEAT) == (0.80, 0.80, 0.80, 0.80, 0.50)
    assert found.averaged_accuracies(LUCKY) == found.accuracies(LUCKY)
    assert found.accuracies(AGAIN) == (0.94,)
    assert found.bests.tolist() == [LUCKY, LUCKY, OTHER, AGAIN]
    assert (found.best, found.trainings, found.averaged) == (AGAIN, 10, 2)


def test_every_view_keeps_its_competition_whatever_was_asked_before() -> None:
    expected = [[], [LUCKY], [LUCKY, OTHER], [OTHER, REPEAT], [AGAIN, OTHER]]
    for views in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 1, 3, 3]):
        found = corrected()
        assert [ranked(found, view) for view in views] == [expected[view] for view in views]
    assert [corrected().competing(view).tolist() for view in range(5)] == [
        [], [LUCKY], [LUCKY, OTHER], [OTHER, REPEAT], [OTHER, AGAIN],
    ]  # fmt: skip
    assert corrected().competing(4, since=3).tolist() == [AGAIN]


def test_a_hundred_individuals_of_ten_networks_are_as_the_definition_says() -> None:
    """Births, evaluations and failures in any order; then every view, from the population and from its columns."""
    generator = np.random.default_rng(5)
    found, waiting, networks = Population(SPACE, replicates=2), list[int](), list[int]()
    while len(found.evaluated) < 100:
        if generator.random() < 0.5 or not waiting:
            networks.append(int(generator.integers(10)))
            id, first = len(found), networks.index(networks[-1])
            found.add(replace(individual(id), repeats=None if first == id else first))
            waiting.append(id)
        else:
            id = waiting.pop(int(generator.integers(len(waiting))))
            accuracies = generator.integers(5, size=len(found.missing(id))) / 4
            found.settle(failed(id) if generator.random() < 0.1 else result(id, *accuracies.tolist()))
    order, fitness = found.evaluated.tolist(), found.column("fitness")
    columns = {name: found.column(name).copy() for name in found._columns}
    again = Population.from_columns(SPACE, 2, columns, found.evaluated.copy(), found.failed_attempts)
    for view in [*range(1, 101), *generator.permutation(np.arange(1, 101)).tolist()]:
        last = {networks[id]: place for place, id in enumerate(order[:view])}
        expected = sorted(last.values(), key=lambda place: (-fitness[order[place]], place))
        id = order[view - 1]
        its = [one for one in order[:view] if networks[one] == networks[id]]
        pooled = [accuracy for one in its for accuracy in found.accuracies(one)]
        assert fitness[id] == mean(pooled)
        for one in (found, again):
            assert ranked(one, view) == [order[place] for place in expected]
            assert one.bests[view - 1] == order[expected[0]]
            assert one.averaged_accuracies(id) == tuple(pooled)
    assert found.best == again.best == ranked(again, 100)[0]


def test_a_repeat_that_is_evaluated_before_the_first_is_replaced_by_it() -> None:
    found = born()
    found.settle(result(REPEAT, 0.9))
    assert (found.best, float(found.column("fitness")[REPEAT])) == (REPEAT, 0.9)
    found.settle(result(LUCKY, 0.4, 0.5, 0.5, 0.6))
    assert found.averaged_accuracies(LUCKY) == (0.9, 0.4, 0.5, 0.5, 0.6)
    assert float(found.column("fitness")[LUCKY]) == pytest.approx(0.58)
    assert (found.best, ranked(found, 2), ranked(found, 1)) == (LUCKY, [LUCKY], [REPEAT])


def test_what_fails_is_in_no_mean() -> None:
    found = born()
    found.settle(failed(LUCKY))
    found.settle(result(REPEAT, 0.7))
    found.settle(failed(AGAIN))
    assert found.averaged_accuracies(REPEAT) == (0.7,)
    assert (ranked(found, 1), found.best) == ([REPEAT], REPEAT)


@pytest.mark.parametrize("repeats", [-1, 2, 4, 9])  # no individual, a repeat, itself, nobody yet
def test_repeated_is_an_earlier_individual_that_repeats_nobody(repeats: int) -> None:
    with pytest.raises(ValueError, match=f"^expected individual 4 to repeat an earlier one that .*, got {repeats}$"):
        born().add(replace(individual(4), repeats=repeats))


def test_a_repeat_has_one_replicate() -> None:
    found = born()
    assert (found.missing(REPEAT), found.missing(LUCKY)) == ([0], [0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"expected accuracies of some of its 1 replicates .* got 2 from number 0 on"):
        found.settle(result(REPEAT, 0.5, 0.6))


def test_the_final_table_names_all_trainings() -> None:
    text = final_table(corrected())
    assert "0.7733 ± 0.1451 (mean ± std over 6 trainings)" in text


def test_those_who_left_do_not_compete_among_the_youngest() -> None:
    strategy = AgingEvolution(breeding(), initial_population=1, alive=3, sample=1)
    assert [strategy.bar(corrected(), view) for view in (2, 3, 4)] == pytest.approx([0.80, 0.76, FITNESS[AGAIN]])


# Births


def test_a_known_network_becomes_a_repeat_of_the_first_however_it_is_written() -> None:
    some = Population(SPACE, replicates=4)
    for id, genotype in enumerate((CELLS[0], CELLS[1], RENAMED)):
        drawn = average(one_after_another(genotype), is_valid, some, id)
        assert drawn == Drawn(genotype, 0, 0, network_hash(genotype), repeats=0 if id == 2 else None)
        some.add(Individual(id, genotype, Birth.INITIAL, None, 0, 0, 0.0, network=drawn.network, repeats=drawn.repeats))
    assert average(one_after_another(RENAMED), is_valid, some, 3).repeats == 0, "in flight, all of them"
    assert average(one_after_another(CELLS[1]), is_valid, some, 1).repeats is None, "asked again, at replay"


def test_what_is_given_is_known_too() -> None:
    its = replace(breeding(), duplicates=average)
    genotypes = [replace(evolution(), breeding=its).ask(Population(its.space, 1), id, 0).genotype for id in (0, 1)]
    strategy = GivenFirst((*genotypes, genotypes[0]), its, evolution())
    some = grow(strategy, 3, fate=in_flight)
    assert [one.repeats for one in individuals(some)] == [None, None, 0]


# The controller


class EveryOther(Numbered):
    """Every other individual repeats the first."""

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        return replace(super().ask(population, id, view), repeats=0 if id % 2 else None)


@pytest.mark.parametrize(("scheduling", "whole"), [("fitness", [4]), ("replicate", [1, 1, 1, 1])])
def test_a_repeat_is_one_training_however_a_fitness_is_divided(scheduling: str, whole: list[int]) -> None:
    chosen = settings(search={"budget": 4, "scheduling": scheduling}, training={"replicates": 4})
    search = Search(Crew(3, trained), chosen, strategy=EveryOther)
    search.run()
    tasks = [task for _, task in search.crew.tasks]
    assert [[len(task.seeds) for task in tasks if task.individual == id] for id in range(4)] == [whole, [1], whole, [1]]
    assert [task.seeds for task in tasks if task.individual == 3] == [(seeds.training_seeds(9, 3, 4)[0],)]
    assert search.population.trainings == 10
    assert search.population.averaged_accuracies(3)[-1] == 0.53
    assert search.listener.results[-1].individual in range(4) and len(search.listener.results) == 4


def test_trainings_that_are_few_allow_as_many_repeats() -> None:
    chosen = settings(search={"budget": 9, "trainings": 6}, training={"replicates": 4})
    search = Search(Crew(1, trained), chosen, strategy=EveryOther)
    search.run()
    assert (search.population.trainings, len(search.population)) == (9, 3), "4, 1, and 4 that began with 5 spent"


# Files


@pytest.mark.parametrize("kept", ["journal", "population.h5"])
@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_a_run_that_ends_anywhere_comes_back(tmp_path: Path, kept: str, done: int) -> None:
    four = replace(CONFIG, training=replace(CONFIG.training, replicates=4))
    store, whole = FileStore.create(tmp_path, four), corrected()
    store.begin(SESSION)
    for id in range(4):
        store.birth(whole.individual(id))
    for id in whole.evaluated[:done].tolist():
        store.settle(whole.result(id))
    (store.commit if kept == "journal" else store.compact)()
    store.close()
    found = FileStore.open(tmp_path)
    assert_same(found.population, store.population)
    views = range(done + 1)
    assert [ranked(found.population, view) for view in views] == [ranked(whole, view) for view in views]
    for id in whole.evaluated[done:].tolist():
        found.settle(whole.result(id))
    assert_same(found.population, whole)
    found.close()


def test_a_file_from_before_there_were_repeats_comes_back(tmp_path: Path) -> None:
    four = replace(CONFIG, training=replace(CONFIG.training, replicates=4))
    store = FileStore.create(tmp_path, four)
    store.begin(SESSION)
    store.birth(individual(0))
    store.settle(result(0, 0.5, 0.6, 0.7, 0.8))
    store.compact()
    store.close()
    with h5py.File(tmp_path / "population.h5", "r+") as file:
        del file["individuals/repeats"]
    found = FileStore.open(tmp_path)
    assert_same(found.population, store.population)
    assert found.population.individual(0).repeats is None
    found.close()


def test_a_file_in_which_a_repeat_repeats_a_repeat_is_refused() -> None:
    whole = corrected()
    columns = {name: whole.column(name).copy() for name in whole._columns}
    columns["repeats"][AGAIN] = REPEAT
    message = "expected individual 3 to repeat an earlier one that is no repeat itself, got 2"
    with pytest.raises(ValueError, match=message):
        Population.from_columns(SPACE, 4, columns, whole.evaluated.copy(), [])


# Searches


def averaging(**search: object) -> search_config.SearchConfig:
    return search_config.build(
        {"search": {"budget": 90, "initial_population": 5, "initial_mutations": 20, "duplicates": "average", **search}},
        {"evaluation": {"evaluator": "synthetic", "synthetic_seconds": 10.0, "synthetic_spread": 0.5}},
        {"run": {"grace": 5.0, "walltime": 40.0}},
    )


@pytest.mark.parametrize(
    ("strategy", "draw"),
    [("tournament", "winner"), ("tournament", "sample"), ("aging", "winner"), ("random", "winner")],
)
def test_a_search_that_averages_is_sound_and_planted_faults_are_found(tmp_path: Path, strategy: str, draw: str) -> None:
    chosen = averaging(strategy=strategy, tournament_draw=draw, initial_mutations=2)
    simulation.simulate(chosen, simulation.Site(7, 1.0, 0.0, 0.0), tmp_path / "run")
    run = run_file.read(tmp_path / "run")
    population = run.population
    repeats = np.flatnonzero(population.column("repeats") >= 0)
    assert len(run.sessions) >= 2 and len(repeats) == population.averaged == population.repeats > 5
    assert set(population.column("replicates_trained")[repeats]) == {1}
    assert population.trainings == 90 * 4 - 3 * len(repeats)
    assert list(verification.faults(run)) == []
    assert list(verification.faults(verification.sound_part(run))) == []
    assert f"{len(repeats)} evaluated again, {len(repeats)} of them averaged in" in final_table(population)
    one = int(repeats[0])
    population._columns["fitness"][one] = mean(population.accuracies(one))
    assert any(f"individual {one}: expected as fitness the mean" in str(fault) for fault in verification.faults(run))
    plant(tmp_path / "run", "individuals/repeats", one, -1)
    run = run_file.read(tmp_path / "run")
    assert any(f"individual {one}: expected repeats" in str(fault) for fault in verification.faults(run))


@pytest.mark.parametrize("other", [{"strategy": "nsga2"}, {"racing": True}])
def test_what_does_not_go_together_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(search_config.ConfigError, match=r"^search.duplicates: expected retrain or resample with "):
        configured(duplicates="average", **other)
