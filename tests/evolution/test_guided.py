"""Guided evolution: when it predicts, what it chooses, and that every answer can be given again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from test_strategy import CIFAR10, INITIAL, breeding, failed, grow, individuals, size_of

from hpcnas import plugins
from hpcnas.analysis import verification
from hpcnas.architecture.expansion import expand, is_valid
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.primitives import Primitive
from hpcnas.architecture.space import HIERARCHICAL, Space
from hpcnas.config import search as search_config
from hpcnas.evolution import guided
from hpcnas.evolution.duplicates import resample
from hpcnas.evolution.guided import Guided, ends_of, learned_from, rank_correlation, targets, told_prediction
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.evolution.population import Population
from hpcnas.evolution.registry import make_strategy, prediction
from hpcnas.evolution.tournament import TournamentEvolution
from hpcnas.messages import Evaluation, Outcome
from hpcnas.search import landscape, run_file, simulation
from hpcnas.search.controller import SearchStopped


def strategy(space: Space = HIERARCHICAL, seed: int = 1) -> Guided:
    return Guided(breeding(seed, space), INITIAL, 0.2)


def plain(space: Space = HIERARCHICAL, seed: int = 1) -> TournamentEvolution:
    return TournamentEvolution(breeding(seed, space), INITIAL, 0.2)


def of_landscape(individual: Individual) -> Outcome:
    return Evaluation((landscape.true_fitness(expand(individual.genotype)),), 1000, 0.0, 0.0, 0.0)


@cache
def grown(births: int) -> tuple[Guided, Population]:
    """What has come of so many births of that landscape, for whoever only looks at it, and who has asked for them."""
    made = strategy()
    return made, grow(made, births, of_landscape)


def constant(individual: Individual) -> Outcome:
    return Evaluation((0.5,), 1000, 0.0, 0.0, 0.0)


def diverged(individual: Individual) -> Outcome:
    return Evaluation((math.nan,), 1000, 0.0, 0.0, 0.0)


def test_while_it_knows_too_little_it_is_a_tournament() -> None:
    assert individuals(grow(strategy(), guided.LEAST)) == individuals(grow(plain(), guided.LEAST))


@pytest.mark.parametrize("fate", [constant, diverged])
def test_where_nothing_differs_it_is_a_tournament(fate: object) -> None:
    ours, theirs = grow(strategy(), 50, fate), grow(plain(), 50, fate)  # type: ignore[arg-type]
    assert individuals(ours) == individuals(theirs)
    assert told_prediction(strategy().model(ours, len(ours.evaluated))).startswith("nothing yet")


def test_before_anything_is_evaluated_the_largest_of_five_random_genotypes_is_born() -> None:
    ours, theirs = (individuals(grow(made, 40, failed)) for made in (strategy(), plain()))
    breeds = breeding(1)
    assert ours[:INITIAL] == theirs[:INITIAL]
    for one in ours[INITIAL:]:
        generator, drawn = breeds.generator(one.id), list[Genotype]()
        while not any(map(is_valid, drawn)):
            drawn = [breeds.draw_initial(generator) for _ in range(5)]
        assert one.genotype in drawn and one.birth is Birth.INITIAL and one.parent is None
        assert size_of(one.genotype).flops == max(size_of(other).flops for other in drawn if is_valid(other))


def test_then_it_chooses_children_that_are_fitter_than_those_of_a_tournament() -> None:
    def mean_of_children(*populations: Population) -> float:
        return float(np.mean([population.column("fitness")[60:] for population in populations]))

    ours = mean_of_children(grown(120)[1], grow(strategy(seed=2), 120, of_landscape))
    assert ours > mean_of_children(*(grow(plain(seed=seed), 120, of_landscape) for seed in (1, 2))) + 0.005


def test_children_are_mutants_of_one_that_competes_and_no_copies() -> None:
    made, population = grown(80)
    for one in individuals(population)[INITIAL:]:
        model = made.model(population, one.view)
        if model is None or not model.helps:
            continue
        assert one.birth is Birth.MUTATION and one.parent is not None
        parent = population.individual(one.parent).genotype.codes
        changed = sum(code != other for code, other in zip(one.genotype.codes, parent, strict=True))
        assert 1 <= changed <= 2 * guided.GENERATIONS.start, "the pool's generations, and the birth's own"


def test_children_are_farther_from_their_parents_the_more_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    _, population = grown(80)

    def changed(id: int) -> int:
        proposal = strategy().ask(population, id, 80)
        assert proposal.parent is not None
        parent = population.individual(proposal.parent).genotype.codes
        return sum(code != other for code, other in zip(proposal.genotype.codes, parent, strict=True))

    few = [changed(id) for id in range(80, 96)]
    monkeypatch.setattr(guided, "A_GENERATION", 8)
    many = [changed(id) for id in range(80, 96)]
    assert max(few) <= 2 * guided.GENERATIONS.start and max(many) < 2 * guided.GENERATIONS.stop
    assert sum(few) < sum(many), (few, many)


def test_it_gives_way_where_it_ranks_no_better_than_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided, "tested", lambda table, like: -0.1)
    population = grow(strategy(), 60, of_landscape)
    assert individuals(population) == individuals(grow(plain(), 60, of_landscape))
    assert told_prediction(strategy().model(population, 60)).endswith("births are those of plain evolution")


def test_it_says_how_well_it_predicts() -> None:
    _, population = grown(120)
    model = strategy().model(population, 120)
    assert model is not None and model.correlation is not None and 0.2 < model.correlation < 1.0
    assert told_prediction(model) == f"rank correlation {model.correlation:.2f} with the latest outcomes"
    assert told_prediction(strategy().model(population, 7)) == "nothing yet: too few evaluations, or all equally fit"


def test_features_of_most_variance_are_learned_first_also_those_that_all_networks_have() -> None:
    """Of three networks, all have feature 4, twice with the value 7; feature 2 has another value in each, 0 in one;
    feature 9 is the same in all."""
    numbers, values = np.array([4, 2, 9, 4, 9, 4, 2, 9]), np.array([7, 3, 1, 7, 1, 8, 5, 1])
    spreads = guided._spreads(numbers, values, np.array([2, 4, 9]), 3)
    assert spreads.tolist() == [3 * (9 + 25) - 8**2, 3 * (49 + 49 + 64) - 22**2, 0]
    _, population = grown(120)
    made = strategy()
    model = made.model(population, 120)
    assert model is not None
    assert all(model.columns[made._vocabulary.number(name)] >= 0 for name in ("flops", "parameters"))


def test_the_same_questions_in_any_order_have_the_same_answers() -> None:
    """Also by a strategy that has numbered the features otherwise."""
    (_, population), again = grown(80), strategy()
    for one in reversed(individuals(population)):
        proposal = again.ask(population, one.id, one.view)
        assert (proposal.genotype, proposal.parent) == (one.genotype, one.parent)


def test_where_little_is_kept_the_answers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    _, population = grown(60)
    monkeypatch.setattr(guided, "_KEPT", 3)
    assert individuals(grow(strategy(), 60, of_landscape)) == individuals(population)


@pytest.mark.parametrize("duplicates", ["retrain", "resample", "average"])
def test_a_space_of_few_genotypes_is_no_trouble(duplicates: str) -> None:
    """`1x2` has one genotype for each primitive."""
    chosen = search_config.build(
        {"search": {"strategy": "guided", "space": "1x2", "duplicates": duplicates, "initial_population": 5}},
        {"training": {"replicates": 1}},
    )
    population = grow(make_strategy(chosen, CIFAR10), 40, of_landscape, of_one(chosen.space))
    assert len(population) == 40


def of_one(space: Space) -> Population:
    return Population(space, 1)


def test_a_refused_mutant_is_followed_by_the_next_best() -> None:
    _, population = grown(60)
    best = strategy().ask(population, 60, 60).genotype
    other = Guided(replace(breeding(), allowed=lambda one: one != best), INITIAL, 0.2).ask(population, 60, 60)
    assert other.redrawn == 1 and other.genotype != best and other.parent is not None


def test_a_known_network_is_left_out() -> None:
    again = Guided(replace(breeding(), duplicates=resample), INITIAL, 0.2)
    networks = [one.network for one in individuals(grow(again, 100, of_landscape))]
    assert len(set(networks)) == 100


@pytest.fixture
def dilated() -> Iterator[None]:
    primitive = Primitive("dilated", False, lambda a, b: 9 * a * b, lambda a, b: 9 * a * b, lambda a, b: None)
    with plugins.alone("own", plugins.Plugin(primitives=(primitive,))):
        yield


@pytest.mark.usefixtures("dilated")
def test_primitives_of_plugins_are_learned_as_others_are() -> None:
    space = Space.parse("1x4+dilated")
    population = grow(strategy(space), 80, of_landscape, of_one(space))
    assert strategy(space).model(population, 80) is not None


@pytest.mark.usefixtures("dilated")
def test_a_search_with_a_plugins_primitive_can_be_replayed(tmp_path: Path) -> None:
    run = simulated(tmp_path / "run", space="1x4+dilated", budget=60)
    genotypes = [run.population.individual(id).genotype for id in run.population.evaluated.tolist()]
    assert any("dilated" in genotype.text() for genotype in genotypes)
    assert list(verification.faults(run)) == []
    told = prediction(run.config, run.sessions[0].facts, run.population)
    assert told is not None and told.startswith("rank correlation")


@pytest.mark.parametrize("duplicates", ["retrain", "resample", "average"])
def test_a_space_of_one_genotype_is_no_trouble(tmp_path: Path, duplicates: str) -> None:
    run = simulated(tmp_path / "run", space="1x2:sep", budget=30, duplicates=duplicates, confirm=2)
    population = run.population
    assert (population.searched, population.in_flight) == (30, 0)
    assert {population.individual(id).genotype.codes for id in range(len(population))} == {bytes([3])}
    assert population.individual(population.best).birth is Birth.CONFIRMATION
    assert list(verification.faults(run)) == []


def test_a_search_in_which_all_fails_stops_and_says_so(tmp_path: Path) -> None:
    chosen = search_config.build(
        {"search": {"strategy": "guided", "budget": 40, "initial_population": 8, "confirm": 4, "space": "2x3/1x3"}},
        {"evaluation": {"evaluator": "synthetic", "synthetic_nans": 1.0}},
    )
    with pytest.raises(SearchStopped, match="^20 individuals in a row have failed; "):
        simulation.simulate(chosen, simulation.Site(3, startup=0.0, queue=0.0, handling=0.0), tmp_path / "run")
    run = run_file.read(tmp_path / "run")
    assert (run.population.searched, run.population.confirmations, run.population.best) == (0, 0, None)
    told = prediction(run.config, run.sessions[0].facts, run.population)
    assert told == "nothing yet: too few evaluations, or all equally fit"
    assert list(verification.faults(run)) == []


def simulated(folder: Path, **search: object) -> run_file.StoredRun:
    chosen = search_config.build(
        {"search": {"strategy": "guided", "budget": 130, "initial_population": 20, "initial_mutations": 50, **search}},
        {"evaluation": {"evaluator": "synthetic", "synthetic_seconds": 40.0, "synthetic_spread": 0.3,
                        "synthetic_crashes": 0.05, "synthetic_nans": 0.02}},
        {"run": {"grace": 5.0, "walltime": 400.0}},
    )  # fmt: skip
    simulation.simulate(chosen, simulation.Site(9, startup=1.0, queue=0.0, handling=0.001), folder)
    return run_file.read(folder)


@pytest.mark.parametrize(
    "search",
    [{"duplicates": "resample", "racing": True, "scheduling": "replicate"}, {"duplicates": "average"},
     {"max_parameters": 600_000, "max_flops": 150_000_000}],
)  # fmt: skip
def test_a_search_of_several_jobs_can_be_replayed(tmp_path: Path, search: dict[str, object]) -> None:
    run = simulated(tmp_path / "run", **search)
    assert list(verification.faults(run)) == []
    told = prediction(run.config, run.sessions[0].facts, run.population)
    assert told is not None and told.startswith("rank correlation")
    made = make_strategy(run.config, run.sessions[0].facts)
    expected = made.expected(run.population, len(run.population.evaluated))
    assert run.population.best == max(expected, key=lambda id: expected[id]), "whoever reads the run finds the same"
    assert run.population.fittest()[0] == run.population.best
    assert run.population.expected() == expected


def test_a_search_and_those_who_read_it_have_one_result(tmp_path: Path) -> None:
    chosen = search_config.build(
        {"search": {"strategy": "guided", "budget": 90, "initial_population": 20, "initial_mutations": 50}},
        {"training": {"replicates": 1}, "evaluation": {"evaluator": "synthetic", "synthetic_seconds": 40.0,
                                                       "synthetic_spread": 0.3, "synthetic_noise": 0.02}},
    )  # fmt: skip
    site = simulation.Site(9, startup=1.0, queue=0.0, handling=0.001)
    told = simulation.simulate(chosen, site, tmp_path / "run")
    population = run_file.read(tmp_path / "run").population
    assert told.best_individual == population.best
    noting = simulation.Noting(chosen)
    simulation.searched(chosen, site, store=noting)
    assert len(noting.results) == 90 and noting.results[-1] == population.best
    assert noting.results[: guided.LEAST - 1] == population.bests[: guided.LEAST - 1].tolist()
    assert noting.results != population.bests.tolist()


def noisy(individual: Individual) -> Outcome:
    """Trainings of which the luckiest tells little about its network."""
    luck = 0.01 * np.random.default_rng(individual.id).normal()
    return Evaluation((landscape.true_fitness(expand(individual.genotype)) + luck,), 1000, 0.0, 0.0, 0.0)


def test_what_it_expects_is_nearer_to_the_truth_than_what_was_measured() -> None:
    made = strategy()
    population = grow(made, 300, noisy)
    expected = made.expected(population, 300)
    assert set(expected) >= set(sorted(range(288), key=lambda id: -population.column("fitness")[id])[:200])
    truth = {id: landscape.true_fitness(expand(population.individual(id).genotype)) for id in expected}
    measured = population.column("fitness")

    def error(of: Mapping[int, float]) -> float:
        return math.fsum((of[id] - truth[id]) ** 2 for id in expected)

    assert error(expected) < 0.6 * error({id: float(measured[id]) for id in expected})
    assert truth[max(expected, key=lambda id: expected[id])] >= truth[population.best]


def test_it_expects_nothing_while_it_knows_too_little() -> None:
    made = strategy()
    assert made.expected(grow(made, guided.LEAST - 1, noisy), guided.LEAST - 1) == {}
    assert made.expected(grow(made, 40, diverged), 40) == {}


def test_what_it_predicts_is_fitness() -> None:
    """On an average over what it has learned from, that which it took each to have; and no draw has a share in it."""
    made, population = grown(120)
    fitness = population.column("fitness")[population.evaluated]
    ends = ends_of(fitness)
    assert ends is not None
    low, best = ends
    told = [made.predicted(population, 120, id) for id in range(120)]
    expected = low + (best - low) * float(targets(fitness, low, best).mean())
    assert sum(one for one in told if one is not None) / 120 == pytest.approx(expected, abs=1e-6)
    assert rank_correlation(np.array(told), fitness) > 0.8  # type: ignore[operator]
    again = strategy()
    assert told == [again.predicted(population, 123, id) for id in range(120)]


def test_it_predicts_nothing_where_births_are_of_plain_evolution(monkeypatch: pytest.MonkeyPatch) -> None:
    _, population = grown(60)
    assert strategy().predicted(population, guided.LEAST - 1, 3) is None
    monkeypatch.setattr(guided, "tested", lambda table, like: -0.1)
    assert strategy().predicted(population, 60, 3) is None


def test_targets_are_told_by_the_better_half() -> None:
    def aims(fitness: np.ndarray) -> np.ndarray:
        ends = ends_of(fitness)
        assert ends is not None
        return targets(fitness, *ends)

    fitness = np.array([0.1, 0.85, 0.9, 0.95, 1.0, math.nan])
    assert aims(fitness) == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0, 0.0])
    assert aims(np.array([0.5, math.inf, 0.7, -math.inf])) == pytest.approx([0.0, 1.0, 1.0, 0.0])
    assert ends_of(np.array([0.5, 0.5, math.nan])) is None and ends_of(np.array([math.nan])) is None


def test_it_learns_from_the_youngest_and_the_fittest() -> None:
    ids = np.arange(5000)
    chosen = learned_from(ids, np.where(ids % 7 == 0, 1.0, 0.0))
    assert len(chosen) == guided.MOST and chosen[-512:].tolist() == list(range(4488, 5000))
    assert chosen[:512].tolist() == list(range(0, 7 * 512, 7))
    assert learned_from(ids[:1024], np.zeros(1024)).tolist() == list(range(1024))


def test_rank_correlations() -> None:
    assert rank_correlation(np.array([1, 2, 3]), np.array([0.1, 0.2, 0.7])) == 1.0
    assert rank_correlation(np.array([1, 2, 3]), np.array([0.7, 0.2, 0.1])) == -1.0
    assert rank_correlation(np.array([1, 2, 2, 3]), np.array([1, 2, 3, 4])) == pytest.approx(0.9487, abs=1e-4)
    assert rank_correlation(np.array([1, 1]), np.array([1, 2])) is None
