"""Strategies: what is born when, from whom, and that every answer can be given again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from hpcnas import seeds
from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import expand, is_valid
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.mutation import DrawingStopped, NothingAllowed, diversified, mutate, trivial
from hpcnas.architecture.sizes import Size, size
from hpcnas.architecture.space import HIERARCHICAL, Space
from hpcnas.config import search as search_config
from hpcnas.config.data_spec import DataFacts
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.evolution.population import Population
from hpcnas.evolution.random_search import RandomSearch
from hpcnas.evolution.registry import STRATEGIES, allowance, make_strategy
from hpcnas.evolution.strategy import Breeding, Proposal, Strategy
from hpcnas.evolution.tournament import TournamentEvolution
from hpcnas.messages import Evaluation, Failure, FailureKind, Outcome, Place, Result

CIFAR10 = DataFacts(3, 32, 32, 10, training_images=40_000, validation_images=10_000, fingerprint="")
INITIAL = 8

Fate = Callable[[Individual], Outcome | None]


def fitness_of(genotype: Genotype) -> float:
    """A fitness for these tests: deep in convolutions, half of them separable, a fifth of all edges identities."""
    graph = expand(genotype)
    depth = [0] * graph.nodes
    counts = [0] * 7
    for edge in graph.edges:
        weighted = edge.operation in (primitives.CONVOLUTION, primitives.SEPARABLE, primitives.DEPTHWISE)
        depth[edge.target] = max(depth[edge.target], depth[edge.source] + weighted)
        counts[edge.operation] += 1
    separable = counts[primitives.SEPARABLE] / len(graph.edges)
    identity = counts[primitives.IDENTITY] / len(graph.edges)
    balance = math.exp(-8.0 * (separable - 0.5) ** 2 - 8.0 * (identity - 0.2) ** 2)
    return 0.80 + 0.06 * (1.0 - math.exp(-depth[-1] / 5.0)) + 0.04 * balance


def size_of(genotype: Genotype) -> Size:
    return size(expand(genotype), search_config.SearchConfig().skeleton(CIFAR10))


def breeding(seed: int = 1, space: Space = HIERARCHICAL) -> Breeding:
    return Breeding(space, seed, initial_mutations=50, allowed=is_valid, size=size_of)


def evolution(seed: int = 1, space: Space = HIERARCHICAL) -> TournamentEvolution:
    return TournamentEvolution(breeding(seed, space), initial_population=INITIAL, tournament_fraction=0.2)


def random_search(seed: int = 1) -> RandomSearch:
    return RandomSearch(breeding(seed))


def evaluated(individual: Individual) -> Outcome | None:
    """The fate of most individuals."""
    return Evaluation((fitness_of(individual.genotype),), 1000, 0.0, 0.0, 0.0)


def failed(individual: Individual) -> Outcome | None:
    return Failure(FailureKind.NAN, "the loss was not finite")


def in_flight(individual: Individual) -> Outcome | None:
    return None


def grow(strategy: Strategy, births: int, fate: Fate = evaluated, population: Population | None = None) -> Population:
    """The population after so many births, each asked for when the fate of the one before is known."""
    if population is None:
        population = Population(HIERARCHICAL, replicates=1)
    for _ in range(births):
        id, view = len(population), len(population.evaluated)
        individual = strategy.ask(population, id, view).born(id, view, 0.0)
        population.add(individual)
        outcome = fate(individual)
        if outcome is not None:
            population.settle(Result(id, 1, Place(1, "host", "cpu"), 0.0, 0.0, outcome))
    return population


def individuals(population: Population) -> list[Individual]:
    return [population.individual(id) for id in range(len(population))]


# What is born when


def test_first_come_initial_genotypes_then_mutants() -> None:
    births = [individual.birth for individual in individuals(grow(evolution(), 20))]
    assert births == [Birth.INITIAL] * INITIAL + [Birth.MUTATION] * (20 - INITIAL)


def test_initial_genotypes_have_no_parent_and_mutants_an_evaluated_one() -> None:
    population = grow(evolution(), 40)
    for individual in individuals(population):
        if individual.birth is Birth.INITIAL:
            assert individual.parent is None
        else:
            assert individual.parent in population.evaluated[: individual.view]


def test_a_mutant_differs_from_its_parent_in_one_entry_at_most() -> None:
    population = grow(evolution(), 60)
    differences = []
    for mutant in individuals(population)[INITIAL:]:
        parent = population.individual(mutant.parent)
        pairs = zip(parent.genotype.codes, mutant.genotype.codes, strict=True)
        differences.append(sum(old != new for old, new in pairs))
    assert len(differences) == 60 - INITIAL
    assert set(differences) == {0, 1}


def test_an_initial_genotype_is_a_diversified_one() -> None:
    first = evolution(seed=1).ask(Population(HIERARCHICAL, 1), 3, 0)
    assert first.redrawn == 0
    assert first.genotype == diversified(HIERARCHICAL, 50, seeds.birth_generator(1, 3))


def test_parents_are_winners_of_tournaments() -> None:
    """They are fitter than who merely was there to be chosen."""
    population = grow(evolution(), 100)
    fitness = population.column("fitness")
    mutants = [individual for individual in individuals(population) if individual.parent is not None]
    fitter = sum(fitness[mutant.parent] > fitness[population.evaluated[: mutant.view]].mean() for mutant in mutants)
    assert fitter > 0.8 * len(mutants)


def test_a_tournament_of_the_whole_population_is_won_by_its_best() -> None:
    whole = replace(evolution(), tournament_fraction=1.0)
    population = grow(whole, INITIAL)
    assert whole.ask(population, INITIAL, INITIAL).parent == population.best


@pytest.mark.parametrize("view", [0, 1])
def test_with_nobody_to_compete_births_are_initial(view: int) -> None:
    population = grow(evolution(), INITIAL)
    proposal = evolution().ask(population, INITIAL, view)
    assert (proposal.birth, proposal.parent) == (Birth.INITIAL, None)


def test_the_initial_population_does_not_wait_for_evaluations() -> None:
    population = grow(evolution(), 20, fate=in_flight)
    assert {individual.birth for individual in individuals(population)} == {Birth.INITIAL}


def test_who_failed_is_never_a_parent() -> None:
    population = grow(evolution(), 3 * INITIAL, fate=failed)  # nobody to compete: all initial
    population = grow(evolution(), INITIAL, population=population)
    population = grow(evolution(), 100, lambda one: (failed if one.id % 2 else evaluated)(one), population)
    parents = {individual.parent for individual in individuals(population)} - {None}
    assert len(parents) > 5
    assert parents.isdisjoint(population.failures)
    assert len(population.failures) > 50


def test_who_is_in_flight_is_never_a_parent() -> None:
    population = grow(evolution(), 100, lambda one: (in_flight if one.id % 2 else evaluated)(one))
    parents = {individual.parent for individual in individuals(population)} - {None}
    assert len(parents) > 5
    assert parents.isdisjoint(population.issued)


def test_every_birth_is_valid() -> None:
    """In a space where every fifth genotype is not."""
    space = Space.parse("2x3/1x3")
    population = grow(evolution(space=space), 100, population=Population(space, 1))
    assert all(is_valid(individual.genotype) for individual in individuals(population))
    assert population.redrawn > 0


# Replay


@pytest.mark.parametrize("strategy", [evolution(), random_search()], ids=["evolution", "random"])
def test_the_same_question_has_the_same_answer(strategy: Strategy) -> None:
    population = grow(strategy, 30)
    first = [strategy.ask(population, id, 20) for id in range(50)]
    assert [strategy.ask(population, id, 20) for id in reversed(range(50))] == first[::-1]


def test_later_evaluations_change_no_answer() -> None:
    young = grow(evolution(), 20)
    answers = [evolution().ask(young, id, 20) for id in range(20, 60)]
    old = grow(evolution(), 100, population=young)
    assert [evolution().ask(old, id, 20) for id in range(20, 60)] == answers


def test_more_evaluations_in_view_do() -> None:
    population = grow(evolution(), 60)
    narrow, wide = ([evolution().ask(population, id, view).parent for id in range(60, 90)] for view in (20, 60))
    assert max(narrow) < 20 <= max(wide)


def test_a_recorded_population_can_be_replayed() -> None:
    population = grow(evolution(), 60, lambda one: (failed if one.id % 7 == 3 else evaluated)(one))
    for individual in individuals(population):
        expected = Proposal(individual.genotype, individual.birth, individual.parent, individual.redrawn)
        assert evolution().ask(population, individual.id, individual.view) == expected


def test_asking_changes_nothing() -> None:
    population = grow(evolution(), 20)
    before = individuals(population), population.evaluated.tolist(), population.column("fitness").tolist()
    evolution().ask(population, 20, 20)
    assert (individuals(population), population.evaluated.tolist(), population.column("fitness").tolist()) == before


def test_an_initial_genotype_depends_on_the_seed_and_its_number_alone() -> None:
    empty, full = Population(HIERARCHICAL, 1), grow(evolution(seed=9), 30)
    answers = {id: evolution().ask(empty, id, 0) for id in reversed(range(INITIAL))}
    assert [evolution().ask(full, id, 30) for id in range(INITIAL)] == [answers[id] for id in range(INITIAL)]
    assert len({answer.genotype for answer in answers.values()}) == INITIAL


def test_another_seed_gives_other_genotypes() -> None:
    empty = Population(HIERARCHICAL, 1)
    first, second = ({evolution(seed).ask(empty, id, 0).genotype for id in range(INITIAL)} for seed in (1, 2))
    assert first.isdisjoint(second)


# Random search


def test_random_search_looks_at_nothing() -> None:
    population = grow(random_search(), 30)
    assert {(individual.birth, individual.parent) for individual in individuals(population)} == {(Birth.RANDOM, None)}
    empty = Population(HIERARCHICAL, 1)
    assert [random_search().ask(empty, id, 0).genotype for id in range(30)] == [
        individual.genotype for individual in individuals(population)
    ]


def test_random_search_draws_as_evolution_begins() -> None:
    empty = Population(HIERARCHICAL, 1)
    assert [random_search().ask(empty, id, 0).genotype for id in range(INITIAL)] == [
        evolution().ask(empty, id, 0).genotype for id in range(INITIAL)
    ]


# Constraints


def configured(**search: object) -> search_config.SearchConfig:
    return search_config.build({"search": {"initial_mutations": 50, "initial_population": INITIAL, **search}})


@pytest.mark.parametrize(("limit", "expected"), [(542_137, False), (542_138, False), (542_139, True), (None, True)])
def test_fewer_parameters_than_the_limit_are_allowed(limit: int | None, expected: bool) -> None:
    """The paper's cell has 542,138 in the small network."""
    allowed = allowance(configured(max_parameters=limit), CIFAR10)
    assert allowed(named("paper")) is expected


def test_fewer_flops_than_the_limit_are_allowed() -> None:
    flops = size(expand(named("paper")), configured().skeleton(CIFAR10)).flops
    for limit, expected in ((flops - 1, False), (flops, False), (flops + 1, True)):
        assert allowance(configured(max_flops=limit), CIFAR10)(named("paper")) is expected
        assert not allowance(configured(max_flops=limit, max_parameters=542_138), CIFAR10)(named("paper"))


@pytest.mark.parametrize("limit", [None, 10**9])
def test_an_invalid_genotype_is_never_allowed(limit: int | None) -> None:
    assert not allowance(configured(max_parameters=limit), CIFAR10)(Genotype(HIERARCHICAL, bytes(46)))


@pytest.mark.parametrize(("setting", "limit"), [("max_parameters", 300_000), ("max_flops", 150_000_000)])
@pytest.mark.parametrize("strategy", search_config.STRATEGIES)
def test_all_births_keep_to_the_limit(strategy: str, setting: str, limit: int) -> None:
    settings = configured(strategy=strategy, **{setting: limit})
    skeleton = settings.skeleton(CIFAR10)
    population = grow(make_strategy(settings, CIFAR10), 40)
    sizes = [size(expand(individual.genotype), skeleton) for individual in individuals(population)]
    assert max(getattr(one, setting.removeprefix("max_")) for one in sizes) < limit
    assert population.redrawn > 0  # the limit was felt


@pytest.mark.parametrize("id", [0, INITIAL])
def test_refused_genotypes_are_counted_and_drawn_again_as_a_whole(id: int) -> None:
    """Birth 0 is initial; birth 8 mutates the same parent again."""
    refused: list[Genotype] = []

    def fourth(genotype: Genotype) -> bool:
        refused.append(genotype)
        return len(refused) > 3

    population = grow(evolution(), INITIAL)
    strategy = replace(evolution(), breeding=replace(evolution().breeding, allowed=fourth))
    proposal = strategy.ask(population, id, INITIAL)
    assert proposal.redrawn == 3
    assert len(refused) == 4 and proposal.genotype == refused[-1]
    generator = seeds.birth_generator(1, id)
    if id < INITIAL:
        assert refused == [diversified(HIERARCHICAL, 50, generator) for _ in range(4)]
    else:
        generator.choice(INITIAL, size=2, replace=False, shuffle=False)  # the tournament
        parent = population.individual(proposal.parent).genotype
        assert refused == [mutate(parent, generator) for _ in range(4)]


@pytest.mark.parametrize("strategy", search_config.STRATEGIES)
def test_a_limit_that_allows_nothing_ends_the_search(strategy: str) -> None:
    settings = configured(space="1x2", initial_mutations=1, strategy=strategy, max_parameters=1)
    with pytest.raises(NothingAllowed, match="allow larger networks"):
        make_strategy(settings, CIFAR10).ask(Population(settings.space, 1), 0, 0)


def test_somebody_may_look_at_other_things_while_nothing_that_is_drawn_is_allowed() -> None:
    def attend() -> None:
        looks.append(None)
        if len(looks) == 3:
            raise DrawingStopped("the job's time is over")

    looks: list[None] = []
    settings = configured(space="1x2", initial_mutations=1, max_parameters=1)
    with pytest.raises(DrawingStopped):
        make_strategy(settings, CIFAR10, attend).ask(Population(settings.space, 1), 0, 0)
    assert len(looks) == 3


def test_a_strategy_is_made_as_configured() -> None:
    settings = configured(space="flat", seed=5, tournament_fraction=0.1)
    strategy = make_strategy(settings, CIFAR10)
    assert isinstance(strategy, TournamentEvolution)
    breeding = strategy.breeding
    assert (breeding.space, breeding.seed, breeding.initial_mutations) == (settings.space, 5, 50)
    assert (strategy.initial_population, strategy.tournament_fraction) == (INITIAL, 0.1)
    assert breeding.allowed(trivial(settings.space))
    other = make_strategy(configured(strategy="random", seed=5), CIFAR10)
    assert isinstance(other, RandomSearch)
    assert (other.breeding.space, other.breeding.seed, other.breeding.initial_mutations) == (HIERARCHICAL, 5, 50)


def test_every_strategy_that_the_command_line_knows_is_made() -> None:
    assert tuple(STRATEGIES) == search_config.STRATEGIES
    for name in STRATEGIES:
        make_strategy(configured(strategy=name), CIFAR10).ask(Population(HIERARCHICAL, 1), 0, 0)


# Seeds


def test_every_training_has_a_seed_of_its_own() -> None:
    found = {
        seeds.training_seed(run, individual, replicate)
        for run in range(5)
        for individual in range(50)
        for replicate in range(4)
    }
    assert len(found) == 5 * 50 * 4
    assert min(found) >= 0 and 2**62 < max(found) < 2**63


@pytest.mark.parametrize("run", [0, 1, 2**32 - 1, 2**32, 2**63 - 1])
@pytest.mark.parametrize("individual", [0, 7, 2**32 - 1, 2**32])
def test_the_seeds_of_an_individual_are_those_of_its_trainings(run: int, individual: int) -> None:
    expected = tuple(seeds.training_seed(run, individual, replicate) for replicate in range(5))
    assert seeds.training_seeds(run, individual, 5) == expected


def test_streams_for_different_purposes_are_different() -> None:
    births = [seeds.birth_generator(0, birth).random() for birth in range(20)]
    noises = [seeds.noise_generator(seed).random() for seed in range(20)]
    assert len({*births, *noises}) == 40


# Golden values. They may be updated only together with a change that is meant to change what a seed computes (the draws
# of selection, mutation or initialisation, `fitness_of`, the seeds themselves), or for a numpy whose generators have
# changed. Such a change ends the replay of every older run, and its commit says so.


@pytest.mark.parametrize(
    ("tournament_draw", "parents", "best", "fitness", "digest"),
    [
        (
            "winner",
            [2, 2, 7, 8, 5, 7, 9, 14, 9, 15, 14, 15, 3, 7, 13, 3, 15, 7, 17, 20, 17, 3],
            20, 0.8752593761, "336748e9fac25ae5",
        ),
        (
            "sample",  # as runs did before there was a choice: they must go on to replay
            [7, 8, 7, 10, 3, 12, 7, 3, 15, 13, 15, 16, 13, 19, 19, 16, 23, 22, 15, 19, 15, 18],
            15, 0.8781161881, "013fe2f2f5690afa",
        ),
    ],
)  # fmt: skip
def test_the_golden_trajectory(
    tournament_draw: str, parents: list[int], best: int, fitness: float, digest: str
) -> None:
    """Thirty births."""
    population = grow(replace(evolution(seed=1), tournament_draw=tournament_draw), 30)
    codes = b"".join(individual.genotype.codes for individual in individuals(population))
    assert population.column("parent").tolist() == [-1] * 8 + parents
    assert population.best == best
    assert population.column("fitness")[best] == pytest.approx(fitness, abs=1e-9)
    assert hashlib.sha256(codes).hexdigest()[:16] == digest


def test_the_golden_training_seeds() -> None:
    assert [seeds.training_seed(0, 0, 0), seeds.training_seed(1, 2, 3)] == [2333092236187763913, 2476437179266711362]
