"""What a search relies on in a strategy: `ask` is a pure function, its genotypes have networks, its bar is a fitness.

    from hpcnas.testing.strategies import StrategyContract
    from climbing import plugin

    class TestClimbing(StrategyContract):
        plugin = plugin

Plays short searches whose evaluations end out of order, some with a failure or stopped early. Trains nothing.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hpcnas.architecture import expansion
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import COLUMNS, Birth
from hpcnas.evolution.population import Population
from hpcnas.evolution.registry import make_strategy
from hpcnas.evolution.strategy import Proposal, Strategy
from hpcnas.messages import Evaluation, Failure, FailureKind, Outcome, Place, Result, Stopped
from hpcnas.plugins import Plugin
from hpcnas.testing.contract import FACTS, TESTED, expect, loaded, only, stir

PURE = (
    "`ask` may depend on nothing but the run's seed, the id, the first `view` evaluations and the genotypes of those "
    "born before; breeding.generator(id) gives all randomness of a birth"
)
RUNGS = (0.1, 0.3)  # of the search in which some are stopped early
_IN_FLIGHT = 3  # individuals at a time
_FIELDS = ("genotype", "birth", "parent", "redrawn", "known", "network", "repeats")


class StrategyContract:
    """Subclass it under a name that begins with Test, and set `plugin`."""

    plugin: Plugin
    name: str = ""  # of the strategy; may be left out where the plugin brings one
    settings: Mapping[str, object] = {}  # of [search], over the program's own
    births: int = 40  # of the search that is played: 3 or more

    def test_it_is_made_of_the_settings(self) -> None:
        """`ask` is there; what it is made from is checked as a search checks it."""
        with self._made() as (_, make):
            make()

    def test_each_genotype_has_a_network(self) -> None:
        """A search trains whatever it gets."""
        with self._made() as (config, make):
            play(make(), config, self.births)

    def test_mutants_have_a_parent_and_others_none(self) -> None:
        """By which lineages are told."""
        with self._made() as (config, make):
            population = play(make(), config, self.births)
            for id in range(len(population)):
                one = population.individual(id)
                expect(
                    (one.parent is not None) == (one.birth is Birth.MUTATION),
                    f"birth {id}: expected a parent of a birth of the kind MUTATION and of no other, got the parent "
                    f"{one.parent} of a birth {one.birth.name}",
                )

    def test_the_same_question_has_the_same_answer(self) -> None:
        """Also later, when there are more individuals and evaluations, and by whatever has been asked in between."""
        with self._made() as (config, make):
            strategy = make()
            stir(1)
            population = play(strategy, config, self.births)
            for id in range(len(population)):
                stir(100 + id)
                expect_same(population, id, strategy.ask(population, id, population.individual(id).view))

    def test_another_process_gives_the_same_answers(self) -> None:
        """A replay, or the search when it is continued: the strategy is made anew, and asked in any order."""
        with self._made() as (config, make):
            population, again = play(make(), config, self.births), make()
            for id in reversed(range(len(population))):
                expect_same(population, id, again.ask(population, id, population.individual(id).view))

    def test_asking_changes_nothing(self) -> None:
        """The population is the controller's."""
        with self._made() as (config, make):
            strategy = make()
            population = play(strategy, config, self.births)
            before = {column.name: population.column(column.name).copy() for column in COLUMNS}
            strategy.ask(population, len(population), len(population.evaluated))
            for name, values in before.items():
                same = np.array_equal(values, population.column(name), equal_nan=values.dtype.kind == "f")
                expect(same, f"expected `ask` to leave the population as it is, but the column {name} is another")

    def test_births_come_before_evaluations(self) -> None:
        """On many ranks all of the first individuals are in flight, and on few some views are small."""
        with self._made() as (config, make):
            strategy, population = make(), Population(config.space, config.training.replicates, config.training.rungs)
            for id in range(self.births):
                _add(population, id, strategy.ask(population, id, 0), 0)
            _settle(population, self.births - 1, failed=True)
            for view in (1, 2):
                _settle(population, view, failed=False)
                strategy.ask(population, self.births, view)

    def test_the_bar_is_the_fitness_of_one_that_competes(self) -> None:
        """`--racing` measures others by it. Strategies without `bar` go without racing."""
        with self._made() as (config, make):
            strategy = make()
            population = play(strategy, config, self.births)
            if not callable(getattr(getattr(strategy, "inner", strategy), "bar", None)):
                return
            for view in range(len(population.evaluated) + 1):
                bar = strategy.bar(population, view)
                known = population.column("fitness")[population.competing(view)].tolist()
                expect(
                    bar is None or bar in known,
                    f"view {view}: expected as bar the fitness of one of those that compete, or None, got {bar}",
                )
                expect(
                    strategy.bar(population, view) == bar,
                    f"view {view}: expected the same bar at the same view, got {strategy.bar(population, view)} "
                    f"after {bar}",
                )

    def test_those_that_were_measured_again_are_no_parents(self) -> None:
        """With `--duplicates average` they have left the competition."""
        with self._made(space="1x3", duplicates="average") as (config, make):
            population = play(make(), config, self.births)
            for id in range(len(population)):
                one = population.individual(id)
                if one.parent is None or one.parent not in population.evaluated[: one.view]:
                    continue
                expect(
                    one.parent in population.competing(one.view),
                    f"birth {id}: expected a parent of population.competing({one.view}), got {one.parent}, whose "
                    "network has been measured again; population.evaluated holds those too",
                )

    def test_those_that_were_stopped_early_are_no_parents(self) -> None:
        """With `--early-stopping` they have a learning curve and no fitness; births are a pure function of them too."""
        with self._made(rungs=RUNGS) as (config, make):
            population, again = play(make(), config, self.births, stops=True), make()
            for id in reversed(range(len(population))):
                one = population.individual(id)
                expect(
                    one.parent is None or one.parent in population.evaluated[: one.view],
                    f"birth {id}: expected a parent of population.evaluated[:{one.view}], got {one.parent}",
                )
                expect_same(population, id, again.ask(population, id, one.view))

    @contextlib.contextmanager
    def _made(
        self, rungs: Sequence[float] = (), **search: object
    ) -> Iterator[tuple[SearchConfig, Callable[[], Strategy]]]:
        """The configuration, and what makes the strategy anew."""
        with loaded(self.plugin):
            expect(self.births >= 3, f"expected `births` of 3 or more in the suite, got {self.births}")
            name = only(self.name, self.plugin.strategies, "strategy")
            own: dict[str, Any] = {"initial_population": 5, "initial_mutations": 100}
            chosen = {**own, **search, **self.settings, "strategy": name, "plugins": TESTED}
            config = search_config.build({"search": chosen, "training": {"replicates": 2, "rungs": list(rungs)}})
            yield config, lambda: make_strategy(config, FACTS)


def play(strategy: Strategy, config: SearchConfig, births: int, stops: bool = False) -> Population:
    """A search of so many births: three are in flight, which do not end in their order, and every ninth fails; with
    `stops`, every third is stopped at the first rung. Fails the test at a genotype that has no network."""
    population, in_flight = Population(config.space, config.training.replicates, config.training.rungs), list[int]()
    for id in range(births):
        view = len(population.evaluated)
        proposal = strategy.ask(population, id, view)
        expect(
            expansion.is_valid(proposal.genotype),
            f"birth {id}: expected a genotype with a path from the source to the sink of its cell, got one without; "
            "breeding.initial and breeding.mutant draw until there is one that is allowed",
        )
        _add(population, id, proposal, view)
        in_flight.append(id)
        if len(in_flight) == _IN_FLIGHT:
            settled, stopped = in_flight.pop(id % _IN_FLIGHT), stops and id % 3 == 2
            _settle(population, settled, failed=id % 9 == 4, stopped=stopped)
    return population


def expect_same(population: Population, id: int, found: Proposal) -> None:
    """Fails unless the answer is the one on record."""
    __tracebackhide__ = True
    recorded = population.individual(id)
    for name in _FIELDS:
        expect(
            getattr(found, name) == getattr(recorded, name),
            f"birth {id}: expected the same answer to the same question, got another {name}: {PURE}",
        )


def _add(population: Population, id: int, proposal: Proposal, view: int) -> None:
    population.add(proposal.born(id, view, float(id)))


def _settle(population: Population, id: int, *, failed: bool, stopped: bool = False) -> None:
    codes = population.individual(id).genotype.codes
    accuracies = tuple(
        zlib.crc32(codes, number + id % 2) / 2**32 for number in range(len(population.missing(id)))
    )  # of equal genotypes not always equal
    curves = tuple((accuracy / 2,) * len(population.rungs) for accuracy in accuracies) if population.rungs else ()
    outcome: Outcome = Evaluation(accuracies, 1000, 0.0, 1.0, 0.0, curves)
    if failed:
        outcome = Failure(FailureKind.CRASH, "made up")
    elif stopped:
        outcome = Stopped(tuple(curve[:1] for curve in curves), 1000, 0.0, 1.0, 0.0)
    population.settle(Result(id, 1, Place(1, "host", "cpu"), float(id), id + 1.0, outcome))
