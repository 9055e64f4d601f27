"""What a controller relies on in a store: what is committed is there again, and what does not fit leaves no trace.

    from hpcnas.testing.stores import StoreContract

    class TestMemory(StoreContract):
        def create(self, config):
            return MemoryStore(config)

        def reopen(self, store):
            return store

`search.memory_store` says what a store does; this holds others to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.space import Space
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import COLUMNS, Birth, Individual
from hpcnas.evolution.population import Population
from hpcnas.job.session import Session
from hpcnas.messages import Evaluation, Failure, FailureKind, Place, Result, Stopped
from hpcnas.search.memory_store import MemoryStore
from hpcnas.testing.contract import FACTS, expect

SPACE = Space.parse("2x3/1x3")  # 9 edges
CONFIG: SearchConfig = search_config.build({"search": {"space": "2x3/1x3", "budget": 5}, "training": {"replicates": 2}})
WITH_RUNGS: SearchConfig = search_config.build(
    {"search": {"space": "2x3/1x3", "budget": 5}, "training": {"replicates": 2, "rungs": [0.1, 0.3]}}
)
SESSION = Session(1000.5, "node-1", 4321, 3, {"hpcnas": "0", "numpy": "2"}, FACTS)
PLACE = Place(2, "node-7", "cuda:0")


class StoreContract:
    """Subclass it under a name that begins with Test, and define `create` and `reopen`; `close` may be called by
    `teardown_method`."""

    def create(self, config: SearchConfig) -> MemoryStore:
        """A new, empty store."""
        raise NotImplementedError("expected a suite that defines `create`")

    def reopen(self, store: MemoryStore) -> MemoryStore:
        """The store as it is found after this one has been closed: with all that it committed."""
        raise NotImplementedError("expected a suite that defines `reopen`")

    def test_a_new_store_is_empty(self) -> None:
        """It has its configuration."""
        new = self.create(CONFIG)
        for one in (new, self.reopen(new)):
            expect(one.config == CONFIG, "expected the configuration that it was created with, got another")
            expect(one.sessions == [], f"expected no session, got {one.sessions}")
            expect_same(one.population, population())

    def test_births_and_results_are_in_the_population(self) -> None:
        """At once, and after the store is opened again."""
        new = self.create(CONFIG)
        new.begin(SESSION)
        _add_births(new, 4)
        new.settle(evaluated(2, 0.5, 0.7))
        new.settle(failed(0))
        new.retry(failed(1, "again"))
        expected = population(evaluated(2, 0.5, 0.7), failed(0), births=4)
        expected.retry(failed(1, "again"))
        expect_same(new.population, expected)
        new.commit()
        expect_same(self.reopen(new).population, expected)

    def test_replicates_that_come_one_by_one_make_the_same_individual(self) -> None:
        """And those that are there are not lost with the process, nor by a renewal of the file."""
        new = self.create(CONFIG)
        new.begin(SESSION)
        _add_births(new, 2)
        new.advance(replace(evaluated(1, 0.7), first=1))
        new.commit()
        again = self.reopen(new)
        expect(again.population.missing(1) == [0], "expected replicate 0 of individual 1 to be missing after `advance`")
        expect(again.population.issued == [0, 1], f"expected 0 and 1 in flight, got {again.population.issued}")
        again.compact()
        again = self.reopen(again)
        expect(again.population.accuracies(1) == (0.7,), "expected the replicate that `advance` brought to be kept")
        again.settle(evaluated(1, 0.5))
        again.commit()
        found, expected = self.reopen(again).population, population(evaluated(1, 0.5, 0.7))
        for name in ("accuracies", "fitness", "replicates_trained", "state", "parameters", "started", "finished"):
            _expect_equal(name, found.column(name), expected.column(name))
        trained = float(found.column("training_seconds")[1]), float(found.column("worker_seconds")[1])
        expect(trained == (16.0, 20.0), f"expected the seconds of both parts, 16 and 20, got {trained}")
        counted = found.trainings, found.best
        expect(counted == (2, 1), f"expected 2 trainings in all and 1 as the best, got {counted}")

    def test_learning_curves_and_stopped_individuals_are_kept(self) -> None:
        """Of runs whose trainings have rungs."""
        new = self.create(WITH_RUNGS)
        new.begin(SESSION)
        _add_births(new, 5)
        expected = population(births=5, rungs=WITH_RUNGS.training.rungs)
        for target in (new, expected):
            target.settle(curved(0))
            target.settle(stopped(1, (0.1,), (0.2,)))
            target.retry(failed(2, "again"))
            target.settle(replace(stopped(2, (0.1, 0.2)), attempt=3))
            target.advance(replace(curved(3), outcome=_first_of(curved(3))))
            target.settle(evaluated(4))  # of an evaluator that gives no curves
        expect_same(new.population, expected)
        new.commit()
        again = self.reopen(new)
        expect_same(again.population, expected)
        again.compact()
        again = self.reopen(again)
        expect_same(again.population, expected)
        found = again.population
        for one in (curved(0), stopped(1, (0.1,), (0.2,))):
            kept = found.result(one.individual)
            expect(kept == one, f"expected the result {one}, got {kept}")
        known = [found.stopped_before(view).tolist() for view in (1, 2)]
        expect(known == [[], [1, 2]], f"expected 1 and 2 as stopped before the second evaluation, got {known}")

    def test_wrong_learning_curves_are_refused_and_leave_no_trace(self) -> None:
        """With ValueError, before anything is recorded."""
        new = self.create(WITH_RUNGS)
        new.begin(SESSION)
        _add_births(new, 2)
        for what, refused in (
            ("a stop without a curve", lambda: new.settle(stopped(0))),
            ("curves of more rungs than there are", lambda: new.settle(stopped(0, (0.1, 0.2, 0.3)))),
            ("curves of two lengths", lambda: new.settle(stopped(0, (0.1,), (0.1, 0.2)))),
            ("a stop as an advance", lambda: new.advance(stopped(0, (0.1,)))),
            ("a stop as a failed attempt", lambda: new.retry(stopped(0, (0.1,)))),
            ("more curves than replicates", lambda: new.settle(stopped(0, (0.1,), (0.1,), (0.1,)))),
        ):
            _expect_refused(what, refused)
        new.settle(stopped(1, (0.3,)))
        new.commit()
        expected = population(stopped(1, (0.3,)), rungs=WITH_RUNGS.training.rungs)
        expect_same(new.population, expected)
        expect_same(self.reopen(new).population, expected)

    def test_a_replicate_is_trained_once(self) -> None:
        """What comes twice is refused with ValueError."""
        new = self.create(CONFIG)
        new.begin(SESSION)
        _add_births(new, 1)
        new.advance(replace(evaluated(0, 0.7), first=1))
        _expect_refused("a replicate that is trained already", lambda: new.settle(evaluated(0)))
        expect(new.population.missing(0) == [0], "expected what was refused to leave no trace")

    def test_sessions_are_kept_in_order(self) -> None:
        """Of equal length or not."""
        new = self.create(CONFIG)
        sessions = [SESSION, replace(SESSION, pid=2, software={})]
        for session in sessions:
            new.begin(session)
        new.commit()
        expect(self.reopen(new).sessions == sessions, "expected the sessions in the order of `begin`")

    def test_what_does_not_fit_is_refused_and_leaves_no_trace(self) -> None:
        """With ValueError, before anything is recorded."""
        new = self.create(CONFIG)
        new.begin(SESSION)
        _add_births(new, 2)
        for what, refused in (
            ("a birth of an id that is there", lambda: new.birth(individual(1))),
            ("a birth whose parent is not born", lambda: new.birth(individual(2, parent=2))),
            ("a result of an individual that is not there", lambda: new.settle(evaluated(5))),
            ("more accuracies than replicates", lambda: new.settle(evaluated(0, 0.5, 0.5, 0.5))),
            ("a failure as an advance", lambda: new.advance(failed(0))),
            ("a stop at a rung where there are none", lambda: new.settle(stopped(0, (0.1,)))),
            ("an evaluation as a failed attempt", lambda: new.retry(evaluated(0))),
        ):
            _expect_refused(what, refused)
        new.settle(evaluated(1))
        new.commit()
        expect_same(new.population, population(evaluated(1)))
        expect_same(self.reopen(new).population, population(evaluated(1)))

    def test_compacting_changes_nothing(self) -> None:
        """However often."""
        new = self.create(CONFIG)
        new.begin(SESSION)
        _add_births(new, 3)
        new.compact()
        new.settle(evaluated(2))
        new.compact()
        new.compact()
        new.settle(failed(0))
        new.commit()
        self._expect_two_results(new)

    def test_compacting_aside_changes_nothing(self) -> None:
        """Although it goes on while more is recorded."""
        new = self.create(CONFIG)
        new.begin(SESSION)
        _add_births(new, 3)
        new.compact_aside()
        new.settle(evaluated(2))
        new.compact_aside()
        new.commit()
        new.settle(failed(0))
        new.commit()
        self._expect_two_results(new)

    def test_a_continued_store_takes_what_comes(self) -> None:
        """As often as a search is continued."""
        current = self.create(CONFIG)
        current.begin(SESSION)
        for id in range(5):
            current.birth(individual(id))
            if id % 2:
                current.settle(evaluated(id))
            if id == 3:
                current.compact()
            current.commit()
            current = self.reopen(current)
        expect_same(current.population, population(evaluated(1), evaluated(3), births=5))

    def test_closing_twice_is_closing_once(self) -> None:
        """Programs leave by several ways."""
        new = self.create(CONFIG)
        new.close()
        new.close()

    def _expect_two_results(self, store: MemoryStore) -> None:
        expected = population(evaluated(2), failed(0), births=3)
        expect_same(store.population, expected)
        again = self.reopen(store)
        expect_same(again.population, expected)
        expect(again.sessions == [SESSION], f"expected the session that has begun, got {again.sessions}")


# ── literal individuals and results ─────────────────────────────────────────────────────────────────────────────────
def individual(id: int, parent: int | None = None) -> Individual:
    """Individual `id`: of the initial population, or a mutated `parent`; its genotype differs from its neighbours'."""
    birth = Birth.INITIAL if parent is None else Birth.MUTATION
    return Individual(id, Genotype(SPACE, bytes([id % 3] * 9)), birth, parent, 0, 0, 2000.0 + id)


def evaluated(id: int, *accuracies: float) -> Result:
    """Individual `id` with a fitness: the mean of two accuracies, by default of 0.5 and 0.6."""
    outcome = Evaluation(accuracies or (0.5, 0.6), 1000 + id, 0.25, 8.0, 1.5)
    return Result(id, 1, PLACE, 3000.0 + id, 3010.0 + id, outcome)


def curved(id: int) -> Result:
    """Individual `id` with a fitness and learning curves at two rungs, which were held against floors."""
    outcome = Evaluation((0.5, 0.6), 1000 + id, 0.25, 8.0, 1.5, ((0.2, 0.4), (0.3, 0.5)), 2)
    return Result(id, 1, PLACE, 3000.0 + id, 3010.0 + id, outcome)


def _first_of(result: Result) -> Evaluation:
    """The first replicate of an evaluation."""
    outcome = result.outcome
    assert isinstance(outcome, Evaluation), "evaluated"
    return replace(outcome, accuracies=outcome.accuracies[:1], curves=outcome.curves[:1], judged=1)


def stopped(id: int, *curves: tuple[float, ...]) -> Result:
    """Individual `id`, whose first trainings were ended at a rung."""
    return Result(id, 1, PLACE, 3000.0 + id, 3002.0 + id, Stopped(curves, 1000 + id, 0.25, 1.0, 0.5))


def failed(id: int, message: str = "Traceback\nout of memory") -> Result:
    """Individual `id` without a fitness, at its second attempt."""
    return Result(id, 2, PLACE, 3000.0 + id, 3004.0 + id, Failure(FailureKind.OOM, message))


def population(*results: Result, births: int = 0, rungs: tuple[float, ...] = ()) -> Population:
    """A population of `births` initial individuals, by default as many as the results name, with these results."""
    found = Population(SPACE, 2, rungs)
    for id in range(births or 1 + max((result.individual for result in results), default=-1)):
        found.add(individual(id))
    for result in results:
        found.settle(result)
    return found


def expect_same(found: Population, expected: Population) -> None:
    """Fails unless they are equal in every column (NaN equals NaN) and in everything else that can be asked for."""
    __tracebackhide__ = True
    for column in COLUMNS:
        _expect_equal(column.name, found.column(column.name), expected.column(column.name))
    _expect_equal("evaluated", found.evaluated, expected.evaluated)
    for name in ("issued", "in_flight", "failures", "failed_attempts", "best", "redrawn", "trainings", "stopped"):
        one, other = getattr(found, name), getattr(expected, name)
        expect(one == other, f"expected of the population the {name} {other!r:.300}, got {one!r:.300}")


def _expect_equal(name: str, found: np.ndarray, expected: np.ndarray) -> None:
    __tracebackhide__ = True
    same = np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")
    expect(same, f"expected the column {name} {expected.tolist()!r:.300}, got {found.tolist()!r:.300}")


def _expect_refused(what: str, call: Callable[[], object]) -> None:
    __tracebackhide__ = True
    try:
        call()
    except ValueError:
        return
    raise AssertionError(f"expected ValueError for {what}, but it was taken")


def _add_births(store: MemoryStore, count: int) -> None:
    for id in range(count):
        store.birth(individual(id))
