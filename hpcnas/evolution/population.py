"""The population: every individual ever born, as columns (§3.2: nothing is removed).

    add ─► issued ─► advance: some of its replicates are trained ─► settle: evaluated, stopped at a rung, or failed
                  ─► retry: an attempt has failed, and there will be another

The order in which evaluations are recorded is kept. What a birth knows is its view, the first `view` evaluations: so a
run can be replayed (D3). The columns are those of `individuals`. Reads and writes no files, draws no random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from hpcnas.architecture.expansion import InvalidGenotype
from hpcnas.architecture.network_hash import HASH_BYTES, VERSION, network_hash
from hpcnas.architecture.space import Space
from hpcnas.evolution.individuals import Birth, Individual, State
from hpcnas.evolution.ranking import Ranking
from hpcnas.evolution.repeats import Repeats, best_confirmed, bests
from hpcnas.evolution.table import IndividualTable, growth
from hpcnas.messages import Evaluation, Failure, Result, Stopped, mean

NOTHING: Mapping[int, float] = MappingProxyType({})


class Population(IndividualTable):
    """Individuals of one space, and the order in which they were evaluated. Methods raise ValueError for a record that
    does not fit what is there."""

    def __init__(self, space: Space, replicates: int, rungs: tuple[float, ...] = ()) -> None:
        """`rungs`: where trainings are validated on their way, as shares of their steps, rising."""
        super().__init__(space, replicates, rungs)
        self.failed_attempts: list[Result] = []  # all of them, also those after which there was another attempt
        self.redrawn = 0  # genotypes that were refused as not allowed, at all births
        self.known = 0  # genotypes that were refused because their network was known
        self.stopped = 0  # individuals that were stopped at a rung
        self._trained = 0  # replicates that are trained in full, of all individuals
        self._ended_at = [0 for _ in rungs]  # replicates that were stopped at each rung
        self.expects: Callable[[Population, int], Mapping[int, float]] | None = None
        """What the strategy of its search expects of individuals, where that knows more than what was measured
        (`strategy.Expecting`). It follows from the settings and the population; whoever has both sets it."""
        self._evaluated = np.empty(64, dtype=np.int64)
        self._evaluations = 0
        self._issued: set[int] = set()
        self._best: int | None = None
        self._ranking: Ranking | None = None  # of the first `_ranked` evaluations
        self._ranked = 0
        self._repeats = Repeats()
        self._first: dict[int, dict[bytes, int]] = {}  # version of the hash → network → its first individual

    # ── what happens ────────────────────────────────────────────────────────────────────────────────────────────────
    def add(self, individual: Individual) -> None:
        """An individual is born; its id must be the next row."""
        if individual.id != self._length:
            raise ValueError(f"expected the birth of individual {self._length}, got {individual.id}")
        if individual.genotype.space != self.space:
            raise ValueError(f"expected a genotype of space {self.space}, got one of {individual.genotype.space}")
        if individual.network is not None and len(individual.network) != HASH_BYTES:
            raise ValueError(f"expected a hash of {HASH_BYTES} bytes as network, got {individual.network!r}")
        if individual.parent is not None and not 0 <= individual.parent < individual.id:
            raise ValueError(f"expected a parent before individual {individual.id}, got {individual.parent}")
        if individual.repeats is not None:
            self._check_repeated(individual.id, individual.repeats)
        if individual.birth is Birth.CONFIRMATION and (individual.parent is None or individual.repeats is None):
            raise ValueError(f"expected a parent that individual {individual.id} repeats, for it confirms one")
        row = individual.id
        self._append(individual)
        if individual.network is not None and individual.network_version in self._first:
            self._first[individual.network_version].setdefault(individual.network, row)
        if individual.repeats is not None:
            evaluated = bool(self._columns["state"][individual.repeats] == State.EVALUATED)
            self._repeats.join(row, individual.repeats, evaluated, individual.birth is Birth.CONFIRMATION)
        self.redrawn += individual.redrawn
        self.known += individual.known
        self._issued.add(row)

    def _check_repeated(self, id: int, first: int) -> None:
        if not 0 <= first < id or self._columns["repeats"][first] >= 0:
            raise ValueError(f"expected individual {id} to repeat an earlier one that is no repeat itself, got {first}")

    def retry(self, result: Result) -> None:
        """An attempt at an issued individual has failed, and there will be another."""
        if result.individual not in self._issued or not isinstance(result.outcome, Failure):
            raise ValueError(f"expected the failed attempt of an individual in flight, got {result}")
        attempts = self._columns["attempts"]
        attempts[result.individual] = max(attempts[result.individual], result.attempt)
        self.failed_attempts.append(result)

    def advance(self, result: Result) -> None:
        """Some replicates of an issued individual are trained, and there will be more."""
        if result.individual not in self._issued or not isinstance(result.outcome, Evaluation):
            raise ValueError(f"expected replicates of an individual in flight, got {result}")
        self._take_in(result, result.outcome)

    def settle(self, result: Result) -> None:
        """An issued individual is evaluated, by this result of its last replicates, or has failed for good."""
        row, columns, outcome = result.individual, self._columns, result.outcome
        if row not in self._issued:
            raise ValueError(f"expected the result of an individual in flight, got one of {row}")
        if isinstance(outcome, Evaluation):
            self._take_in(result, outcome)
            columns["state"][row] = State.EVALUATED
            whole = len(outcome.accuracies) == self.replicates
            alone = whole and row not in self._repeats
            columns["fitness"][row] = outcome.fitness if alone else mean(self.averaged_accuracies(row))
            columns["attempts"][row] = max(result.attempt, columns["attempts"][row] + 1)
            self._append_evaluated(row)
        elif isinstance(outcome, Stopped):
            self._stop(result, outcome)
        else:
            columns["state"][row] = State.FAILED
            columns["failure"][row] = outcome.kind
            columns["attempts"][row] = max(result.attempt, columns["attempts"][row])
            self.failures[row] = outcome
            self.failed_attempts.append(result)
            self._take_place(result)
        self._issued.discard(row)

    def _stop(self, result: Result, outcome: Stopped) -> None:
        """Records that the first trainings of an individual have ended at a rung. Raises ValueError."""
        row, columns, count = result.individual, self._columns, len(outcome.curves)
        if result.first or not 0 < count <= self.replicates or columns["replicates_trained"][row]:
            raise ValueError(f"individual {row}: expected its first trainings to be stopped, got {count} others")
        if row in self._repeats.first:
            raise ValueError(f"individual {row}: expected no training that repeats a network to be stopped")
        self._check_curves(row, outcome.curves, 1)
        self._take_in_curves(row, 0, outcome.curves)
        self._take_costs(row, outcome, 0)
        self._take_place(result)
        columns["judged"][row] = count
        columns["stopped_after"][row] = self._evaluations
        columns["state"][row] = State.STOPPED
        columns["attempts"][row] = max(result.attempt, columns["attempts"][row] + 1)
        self._count_stopped(outcome.curves)

    def _count_stopped(self, curves: Sequence[Sequence[float]]) -> None:
        self._ended_at[len(curves[0]) - 1] += len(curves)
        self.stopped += 1

    def _take_in(self, result: Result, outcome: Evaluation) -> None:
        """Records the accuracies of replicates, and what they cost. Raises ValueError."""
        row, columns, first = result.individual, self._columns, result.first
        last, most = first + len(outcome.accuracies), self.replicates_of(row)
        accuracies, trained = columns["accuracies"][row], int(columns["replicates_trained"][row])
        if not 0 <= first < last <= most or (trained and not np.isnan(accuracies[first:last]).all()):
            raise ValueError(
                f"individual {row}: expected accuracies of some of its {most} replicates that are not yet "
                f"trained, got {len(outcome.accuracies)} from number {first} on"
            )
        if outcome.curves:
            if len(outcome.curves) != last - first:
                raise ValueError(f"individual {row}: expected a learning curve of each replicate, got {outcome.curves}")
            self._check_curves(row, outcome.curves, len(self.rungs))
        if not 0 <= outcome.judged <= (0 if first else len(outcome.curves)):
            raise ValueError(f"individual {row}: expected the first of its curves to be judged, got {outcome.judged}")
        if outcome.measures:
            self._check_measures(row, last - first, outcome.measures)
            self._take_in_measures(row, first, outcome.measures)
        if outcome.objective is not None:
            value, spread = outcome.objective
            columns["objective"][row], columns["objective_spread"][row] = value, math.nan if spread is None else spread
            self.weighed = True
        if outcome.curves:
            self._take_in_curves(row, first, outcome.curves)
        accuracies[first:last] = outcome.accuracies
        if first == 0:
            columns["judged"][row] = outcome.judged
        self._take_costs(row, outcome, trained)
        self._take_place(result)
        columns["replicates_trained"][row] = trained + last - first
        self._trained += last - first

    def _append_evaluated(self, row: int) -> None:
        if self._evaluations == len(self._evaluated):
            more = np.empty(growth(self._evaluations), dtype=np.int64)
            self._evaluated = np.concatenate([self._evaluated, more])
        self._evaluated[self._evaluations] = row
        replaced = self._repeats.replace(row, self._evaluations)
        self._evaluations += 1
        if replaced is not None and replaced == self._best:
            self._best = self.ranking(self._evaluations)[0]
        elif self._best is None or self._columns["fitness"][row] > self._columns["fitness"][self._best]:
            self._best = row

    # ── what is there ───────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def evaluated(self) -> np.ndarray:
        """Ids in the order in which their evaluations were recorded: int64, shape (evaluations,), read-only."""
        view = self._evaluated[: self._evaluations]
        view.flags.writeable = False
        return view

    @property
    def issued(self) -> list[int]:
        """Ids in flight, in the order of their birth."""
        return sorted(self._issued)

    @property
    def in_flight(self) -> int:
        """How many individuals are in flight."""
        return len(self._issued)

    @property
    def best(self) -> int | None:
        """Id of the individual that is the result of the search by now; None before the first evaluation.

        It is the one of which the strategy expects most, and where that expects nothing the fittest of those that
        compete; of equals the first evaluated. Once networks are confirmed, it is the last confirmation of the best one
        of these (`repeats`)."""
        found = best_confirmed(self.confirmed, self._columns["fitness"]) if self.confirmed else None
        if found is not None:
            return found
        expected = self.expected()
        return max(expected, key=lambda id: expected[id]) if expected else self.measured_best

    @property
    def measured_best(self) -> int | None:
        """Id of the fittest individual of those that compete, as the search has measured them, of equals the first;
        None before the first evaluation. Once networks are confirmed, it is as `best`."""
        return int(self.bests[-1]) if self.confirmed else self._best

    def expected(self, view: int | None = None) -> Mapping[int, float]:
        """The fitness that new trainings of individuals would give, as the strategy expects after the first `view`
        evaluations, or after all of the search; empty where it expects nothing."""
        if self.expects is None:
            return NOTHING
        return self.expects(self, self.searched_view if view is None else view)

    def fittest(self) -> list[int]:
        """Ids of all that compete, the best first: those that are confirmed before all others, then those of which the
        strategy expects something by that, then by fitness, and of equals the first evaluated."""
        best, expected, fitness = self.best, self.expected(), self._columns["fitness"]
        confirmed = {several[-1] for several in self.confirmed.values()}
        ids = self.competing(self._evaluations).tolist()

        def place(id: int) -> tuple[bool, bool, float, float]:
            own = id in confirmed
            return id != best, not own, 0.0 if own else -expected.get(id, -np.inf), -fitness[id]

        return sorted(ids, key=place)

    @property
    def confirmed(self) -> Mapping[int, Sequence[int]]:
        """The first individual of each confirmed network → its evaluated confirmations, in order."""
        return self._repeats.confirmed

    @property
    def confirmations(self) -> int:
        """How many confirmations are evaluated."""
        return self._repeats.confirmations

    @property
    def confirming(self) -> int:
        """How many confirmations are in flight."""
        return len(self._repeats.confirming & self._issued) if self._repeats.confirming else 0

    @property
    def trainings(self) -> float:
        """How many trainings were made, of all individuals: whole ones, and of those that were stopped at a rung the
        share of their steps. An int where none was."""
        return self._trained + self.ended_trainings if self.stopped else self._trained

    @property
    def ended_trainings(self) -> float:
        """What was trained of individuals that were stopped at a rung, in whole trainings."""
        return math.fsum(number * share for number, share in zip(self._ended_at, self.rungs, strict=True))

    @property
    def saved_trainings(self) -> float:
        """What of these would have come after their rungs, in whole trainings."""
        return sum(self._ended_at) - self.ended_trainings

    @property
    def searched(self) -> int:
        """How many individuals are evaluated, without confirmations."""
        return self._evaluations - self.confirmations

    @property
    def searched_view(self) -> int:
        """How many evaluations were known when the search was over, that of the last of its individuals included."""
        if not self.confirmations:
            return self._evaluations
        births = self._columns["birth"][self.evaluated]
        return int(np.flatnonzero(births != Birth.CONFIRMATION)[-1]) + 1 if self.searched else 0

    def ranking(self, view: int) -> Ranking:
        """Those of the first `view` evaluated that compete, from the fittest down; valid until the next call.

        Fast where views grow, as they do in a search and in its replay."""
        known, fitness = self._ranked, self._columns["fitness"]
        if self._ranking is None or not known <= view <= 2 * known + 64:
            ids = self.competing(view)
            self._ranking = Ranking(ids, fitness[ids])
        else:
            for id in self.evaluated[known:view].tolist():
                self._ranking.add(id, float(fitness[id]))
            for id in self._repeats.replaced(known, view):
                self._ranking.remove(id, float(fitness[id]))
        self._ranked = view
        return self._ranking

    def competing(self, view: int, since: int = 0) -> np.ndarray:
        """Ids of the first `view` evaluated, from number `since` on, in the order of evaluation: int64, shape (n,).

        Those whose network was measured again within the view are left out: a repeat competes in their place."""
        ids = self.evaluated[since:view]
        gone = self._repeats.replaced(since, view)
        return ids[~np.isin(ids, gone)] if gone else ids

    def replaced(self, since: int, view: int) -> list[int]:
        """Ids of those that compete no more by evaluations number `since` to `view` − 1: a repeat does."""
        return self._repeats.replaced(since, view)

    @property
    def bests(self) -> np.ndarray:
        """The best individual after each evaluation, as `measured_best` was then: ids, int64, shape (evaluations,)."""
        return bests(self.evaluated, self._columns["fitness"][self.evaluated], self._repeats)

    def best_fitness(self, view: int) -> float:
        """The highest fitness among the first `view` evaluated that compete, view ≥ 1."""
        return float(self._columns["fitness"][self.ranking(view)[0]])

    @property
    def older_hashes(self) -> int:
        """How many individuals carry a hash of an older version than today's."""
        versions = self.column("network_version")
        return int(np.count_nonzero((versions > 0) & (versions < VERSION)))

    def first_with(self, network: bytes, version: int = VERSION) -> int | None:
        """The lowest id of the individuals that have this network, by that version of the hash; None without any.

        Only births that were hashed count. Those of an older version are hashed anew; those of a newer one do not
        count."""
        if version not in self._first:
            found = self._first[version] = {}
            ids, networks = self._networks()
            versions = self._columns["network_version"]
            for id, recorded in zip(ids, networks, strict=True):
                if versions[id] == version:
                    found.setdefault(recorded, id)
                elif versions[id] < version and (renewed := self.network_of(id)) is not None:
                    first = self._repeats.first.get(id, id)
                    if first == id or self.network_of(first) == renewed:  # else it is averaged into another network
                        found.setdefault(renewed, id)
        return self._first[version].get(network)

    def network_of(self, id: int) -> bytes | None:
        """Today's hash of an individual's network, whatever was recorded; None for an invalid genotype."""
        try:
            return network_hash(self.individual(id).genotype)
        except InvalidGenotype:  # in a damaged file
            return None

    def knows(self, network: bytes, id: int, version: int = VERSION) -> bool:
        """Whether an individual born before `id` has this network, by that version of the hash."""
        first = self.first_with(network, version)
        return first is not None and first < id

    @property
    def repeats(self) -> int:
        """How many individuals have the network of an earlier one, among those that were hashed at birth."""
        _, networks = self._networks()
        return len(networks) - len(set(networks))

    @property
    def averaged(self) -> int:
        """How many evaluated individuals are repeats, averaged into the fitness of their network."""
        return int(np.count_nonzero(self.column("repeats")[self.evaluated] >= 0)) - self._repeats.confirmations

    def _networks(self) -> tuple[list[int], list[bytes]]:
        """Ids and hashes of the individuals that were hashed at birth."""
        networks = self._columns["network"][: self._length]
        ids = np.flatnonzero(networks.any(axis=1))
        return ids.tolist(), np.ascontiguousarray(networks[ids]).view(f"V{HASH_BYTES}").ravel().tolist()

    def stopped_before(self, view: int) -> np.ndarray:
        """Ids of those that were stopped at a rung before the evaluation that is number `view` from 1, ordered by when
        that was, then by id: int64, shape (n,). What a birth knows of them follows from its view."""
        ids = np.flatnonzero(self.column("state") == State.STOPPED) if self.stopped else np.empty(0, dtype=np.int64)
        after = self._columns["stopped_after"][ids]
        return ids[np.argsort(after, kind="stable")][: np.count_nonzero(after < view)]

    @property
    def ended_shares(self) -> np.ndarray:
        """The trainings that each individual took which was stopped at a rung, 0 for all others: float64, shape
        (individuals,)."""
        judged, reached = self.column("judged"), (~np.isnan(self.column("curves"))).sum(axis=1)
        found = np.zeros(len(self))
        ids = np.flatnonzero(self.column("state") == State.STOPPED)
        found[ids] = np.array(self.rungs)[reached[ids] // judged[ids] - 1] * judged[ids] if len(ids) else 0.0
        return found

    def sums_of_stopped(self, values: np.ndarray) -> np.ndarray:
        """At each evaluation the sum of values over the individuals that were stopped at a rung before it was recorded:
        float64, shape (evaluations,). `values`: float64, one an individual."""
        ids = self.stopped_before(self._evaluations + 1)
        sums = np.concatenate([[0.0], np.cumsum(values[ids])])
        after = self._columns["stopped_after"][ids]
        return sums[np.searchsorted(after, np.arange(self._evaluations), side="right")]

    def averaged_accuracies(self, id: int) -> tuple[float, ...]:
        """The accuracies whose mean is the fitness of an individual, or would be if it were evaluated now.

        First those of the individuals of its network that were evaluated before it, of a confirmation the confirmations
        alone, in that order, then its own."""
        rows = self._columns["accuracies"][[*self._repeats.before(id), id]]
        return tuple(rows[~np.isnan(rows)].tolist())

    def replicates_of(self, id: int) -> int:
        """How many trainings an individual takes: `replicates`, or one where it is a repeat."""
        return 1 if id in self._repeats.first else self.replicates

    def missing(self, id: int) -> list[int]:
        """The numbers of the replicates of an individual that are not trained, ascending."""
        whole = self.replicates_of(id)
        if not self._columns["replicates_trained"][id]:
            return list(range(whole))
        return np.flatnonzero(np.isnan(self._columns["accuracies"][id, :whole])).tolist()

    # ── as a table ──────────────────────────────────────────────────────────────────────────────────────────────────
    @classmethod
    def from_columns(
        cls,
        space: Space,
        replicates: int,
        columns: Mapping[str, np.ndarray],
        evaluated: np.ndarray,
        failed_attempts: Sequence[Result],
        rungs: tuple[float, ...] = (),
    ) -> Population:
        """The population that a file holds; it keeps these very arrays.

        `columns` are those of COLUMNS, one row an individual; `evaluated` are ids in the order of evaluation, int64.
        Raises ValueError for what no version of this program writes."""
        population = cls(space, replicates, rungs)
        population._load(columns)
        state = columns["state"]
        if not np.array_equal(np.sort(evaluated), np.flatnonzero(state == State.EVALUATED)):
            raise ValueError("expected each evaluated individual once in the order of evaluation")
        failures = {
            attempt.individual: attempt.outcome
            for attempt in failed_attempts
            if isinstance(attempt.outcome, Failure) and state[attempt.individual] == State.FAILED
        }
        if sorted(failures) != np.flatnonzero(state == State.FAILED).tolist():
            raise ValueError("expected the failed attempts of every failed individual")
        population._issued = set(np.flatnonzero(state == State.ISSUED).tolist())
        population.redrawn = int(columns["redrawn"].sum(dtype=np.int64))
        population.known = int(population.column("known").sum(dtype=np.int64))
        population._trained = int(columns["replicates_trained"].sum(dtype=np.int64))
        for id in np.flatnonzero(state == State.STOPPED).tolist():
            curves = population.curves(id)
            population._check_curves(id, curves, 1)
            population._count_stopped(curves)
        population.failures = failures
        population.failed_attempts = list(failed_attempts)
        population._evaluated, population._evaluations = evaluated, len(evaluated)
        population._find_repeats()
        if len(evaluated):
            ids = population.competing(len(evaluated))
            population._best = int(ids[np.argmax(np.nan_to_num(columns["fitness"][ids], nan=-np.inf))])
        return population

    def _find_repeats(self) -> None:
        """Fills `_repeats` from the columns. Raises ValueError."""
        repeats, births = self.column("repeats"), self.column("birth")
        for id in np.flatnonzero(repeats >= 0).tolist():
            self._check_repeated(id, int(repeats[id]))
            self._repeats.join(id, int(repeats[id]), evaluated=False, confirms=births[id] == Birth.CONFIRMATION)
        if self._repeats.first:
            for place, id in enumerate(self.evaluated.tolist()):
                self._repeats.replace(id, place)
