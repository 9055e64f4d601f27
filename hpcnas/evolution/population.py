"""The population: every individual ever born, as columns (§3.2: nothing is removed).

An individual is issued when it is born and later either evaluated or failed; in between, some of its replicates may be
trained already. The order in which evaluations were recorded is kept: a tournament's view is the first `view` of them,
which is what makes a run replayable (D3).

Kept as columns (`individuals`). Nothing here touches files or random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hpcnas.architecture.expansion import InvalidGenotype
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.network_hash import HASH_BYTES, VERSION, network_hash
from hpcnas.architecture.space import Space
from hpcnas.evolution.individuals import COLUMNS, Birth, Individual, State
from hpcnas.evolution.ranking import Ranking
from hpcnas.evolution.repeats import Repeats, bests
from hpcnas.messages import Evaluation, Failure, Place, Result, mean
from hpcnas.storage.columns import Column


class Population:
    """Individuals of one space. Methods raise ValueError when a record does not fit what is already there."""

    def __init__(self, space: Space, replicates: int) -> None:
        self.space = space
        self.replicates = replicates
        self.failures: dict[int, Failure] = {}  # of failed individuals
        self.failed_attempts: list[Result] = []  # all of them, also those that were repeated
        self.redrawn = 0  # genotypes refused at all births, as not allowed
        self.known = 0  # and as known
        self.trainings = 0  # replicates trained of all individuals
        self._length = 0
        self._evaluated = np.empty(64, dtype=np.int64)
        self._evaluations = 0
        self._issued: set[int] = set()
        self._best: int | None = None
        self._ranking: Ranking | None = None  # of the view that was asked for last
        self._ranked = 0  # that view
        self._repeats = Repeats()
        self._first: dict[int, dict[bytes, int]] = {}  # version of the hash that was asked for → network → first of it
        self._columns = {column.name: self._blank(column, 64) for column in COLUMNS}

    def _blank(self, column: Column, rows: int) -> np.ndarray:
        width = {
            "": (),
            "edges": (self.space.edges,),
            "replicates": (self.replicates,),
            "hash": (HASH_BYTES,),
        }[column.width]
        return np.full((rows, *width), column.missing, dtype=column.dtype)

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
        if self._length == len(self._columns["state"]):
            for column in COLUMNS:
                old = self._columns[column.name]
                self._columns[column.name] = np.concatenate([old, self._blank(column, _growth(len(old)))])
        row, columns = individual.id, self._columns
        columns["birth"][row] = individual.birth
        columns["parent"][row] = -1 if individual.parent is None else individual.parent
        columns["view"][row] = individual.view
        columns["redrawn"][row] = individual.redrawn
        columns["genotype"][row] = np.frombuffer(individual.genotype.codes, dtype=np.uint8)
        columns["born"][row] = individual.born
        columns["known"][row] = individual.known
        if individual.network is not None:
            columns["network"][row] = np.frombuffer(individual.network, dtype=np.uint8)
            columns["network_version"][row] = individual.network_version
            if individual.network_version in self._first:
                self._first[individual.network_version].setdefault(individual.network, row)
        if individual.repeats is not None:
            columns["repeats"][row] = individual.repeats
            evaluated = bool(columns["state"][individual.repeats] == State.EVALUATED)
            self._repeats.join(row, individual.repeats, evaluated)
        columns["state"][row] = State.ISSUED
        self.redrawn += individual.redrawn
        self.known += individual.known
        self._issued.add(row)
        self._length += 1

    def _check_repeated(self, id: int, first: int) -> None:
        if not 0 <= first < id or self._columns["repeats"][first] >= 0:
            raise ValueError(f"expected individual {id} to repeat an earlier one that repeats nobody, got {first}")

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
        """The last word on an issued individual: its last replicates, and it is evaluated, or it has failed."""
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
        else:
            columns["state"][row] = State.FAILED
            columns["failure"][row] = outcome.kind
            columns["attempts"][row] = max(result.attempt, columns["attempts"][row])
            self.failures[row] = outcome
            self.failed_attempts.append(result)
            self._take_place(result)
        self._issued.discard(row)

    def _take_in(self, result: Result, outcome: Evaluation) -> None:
        """Replicates that are trained: their accuracies, and what they cost. Raises ValueError."""
        row, columns, first = result.individual, self._columns, result.first
        last, most = first + len(outcome.accuracies), self.replicates_of(row)
        accuracies, trained = columns["accuracies"][row], int(columns["replicates_trained"][row])
        if not 0 <= first < last <= most or (trained and not np.isnan(accuracies[first:last]).all()):
            raise ValueError(
                f"individual {row}: expected accuracies of some of its {most} replicates that are not yet "
                f"trained, got {len(outcome.accuracies)} from number {first} on"
            )
        accuracies[first:last] = outcome.accuracies
        columns["parameters"][row] = outcome.parameters
        for name in ("setup_seconds", "training_seconds", "validation_seconds"):
            columns[name][row] = getattr(outcome, name) + (columns[name][row] if trained else 0.0)
        self._take_place(result)
        columns["replicates_trained"][row] = trained + last - first
        self.trainings += last - first

    def _take_place(self, result: Result) -> None:
        """When and where something of an individual has run, which may be a part of its fitness."""
        row, columns = result.individual, self._columns
        seconds = result.finished - result.started
        if columns["replicates_trained"][row]:  # and now more of them, or the failure of more of them
            columns["started"][row] = min(columns["started"][row], result.started)
            columns["finished"][row] = max(columns["finished"][row], result.finished)
            columns["worker_seconds"][row] += seconds
        else:
            columns["started"][row] = result.started
            columns["finished"][row] = result.finished
            columns["worker_seconds"][row] = seconds
        columns["rank"][row] = result.place.rank
        columns["host"][row] = result.place.host.encode()[:64]
        columns["device"][row] = result.place.device.encode()[:64]

    def _append_evaluated(self, row: int) -> None:
        if self._evaluations == len(self._evaluated):
            more = np.empty(_growth(self._evaluations), dtype=np.int64)
            self._evaluated = np.concatenate([self._evaluated, more])
        self._evaluated[self._evaluations] = row
        replaced = self._repeats.replace(row, self._evaluations)
        self._evaluations += 1
        if replaced is not None and replaced == self._best:
            self._best = self.ranking(self._evaluations)[0]
        elif self._best is None or self._columns["fitness"][row] > self._columns["fitness"][self._best]:
            self._best = row

    # ── what is there ───────────────────────────────────────────────────────────────────────────────────────────────
    def __len__(self) -> int:
        return self._length

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
        """Id of the individual of highest fitness of those that compete, the first of equals; None while nobody is
        evaluated."""
        return self._best

    def ranking(self, view: int) -> Ranking:
        """Those of the first `view` evaluated that compete, from the fittest down. Quick where views grow, as they do
        in a search and in its replay; what it returns is valid until the next call."""
        known, fitness = self._ranked, self._columns["fitness"]
        if self._ranking is None or not known <= view <= 2 * known + 64:
            ids = self.competing(view)
            self._ranking = Ranking(ids, fitness[ids])
        else:
            for id in self.evaluated[known:view].tolist():
                self._ranking.add(id, float(fitness[id]))
            for id in self._repeats.gone(known, view):
                self._ranking.remove(id, float(fitness[id]))
        self._ranked = view
        return self._ranking

    def competing(self, view: int, since: int = 0) -> np.ndarray:
        """Ids of the first `view` evaluated, from number `since` on, that stand for their network, in the order of
        evaluation: all but those whose network was measured again by then. int64, shape (competing,)."""
        ids = self.evaluated[since:view]
        gone = self._repeats.gone(since, view)
        return ids[~np.isin(ids, gone)] if gone else ids

    @property
    def bests(self) -> np.ndarray:
        """Who was the best after each evaluation: ids, int64, shape (evaluations,)."""
        return bests(self.evaluated, self._columns["fitness"][self.evaluated], self._repeats)

    def best_fitness(self, view: int) -> float:
        """The highest fitness among the first `view` evaluated, at least one."""
        return float(self._columns["fitness"][self.ranking(view)[0]])

    def hash_version(self, id: int) -> int:
        """The version of the hash by which birth `id` looks at networks, or has looked at them."""
        recorded = int(self._columns["network_version"][id]) if id < self._length else 0
        return recorded or VERSION

    @property
    def older_hashes(self) -> int:
        """How many individuals carry a hash of an older version than today's."""
        versions = self.column("network_version")
        return int(np.count_nonzero((versions > 0) & (versions < VERSION)))

    def first_with(self, network: bytes, version: int = VERSION) -> int | None:
        """The lowest id of those that have this network, by that version of the hash, as far as their networks were
        looked at: births of an older version too, but none of a newer one."""
        if version not in self._first:
            found = self._first[version] = {}
            ids, networks = self._networks()
            versions = self._columns["network_version"]
            for id, recorded in zip(ids, networks, strict=True):
                if versions[id] == version:
                    found.setdefault(recorded, id)
                elif versions[id] < version and (renewed := self.network_of(id)) is not None:
                    first = self._repeats.first.get(id, id)
                    if first == id or self.network_of(first) == renewed:  # else it is pooled with another network
                        found.setdefault(renewed, id)
        return self._first[version].get(network)

    def network_of(self, id: int) -> bytes | None:
        """The hash of today of an individual's network, whatever was recorded; None where it has none."""
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
        """How many individuals have the network of an earlier one, as far as their networks were looked at."""
        _, networks = self._networks()
        return len(networks) - len(set(networks))

    @property
    def averaged(self) -> int:
        """How many repeats are averaged into the fitness of their network."""
        return int(np.count_nonzero(self.column("repeats")[self.evaluated] >= 0))

    def _networks(self) -> tuple[list[int], list[bytes]]:
        """Ids and networks of those whose network was looked at."""
        networks = self._columns["network"][: self._length]
        ids = np.flatnonzero(networks.any(axis=1))
        return ids.tolist(), np.ascontiguousarray(networks[ids]).view(f"V{HASH_BYTES}").ravel().tolist()

    def column(self, name: str) -> np.ndarray:
        """One column of all individuals, read-only; see COLUMNS for types and units."""
        view = self._columns[name][: self._length]
        view.flags.writeable = False
        return view

    def accuracies(self, id: int) -> tuple[float, ...]:
        """Of the replicates of an individual that are trained, in their order."""
        row = self._columns["accuracies"][id]
        return tuple(row[~np.isnan(row)].tolist())

    def averaged_accuracies(self, id: int) -> tuple[float, ...]:
        """The accuracies whose mean the fitness of an individual is, or would be now: those of its network that was
        evaluated before it, in the order of evaluation, and its own."""
        rows = self._columns["accuracies"][[*self._repeats.before(id), id]]
        return tuple(rows[~np.isnan(rows)].tolist())

    def replicates_of(self, id: int) -> int:
        """How many trainings an individual takes: a repeat is one more of its network."""
        return 1 if id in self._repeats.first else self.replicates

    def missing(self, id: int) -> list[int]:
        """Numbers of the replicates of an individual that are not trained."""
        whole = self.replicates_of(id)
        if not self._columns["replicates_trained"][id]:
            return list(range(whole))
        return np.flatnonzero(np.isnan(self._columns["accuracies"][id, :whole])).tolist()

    def individual(self, id: int) -> Individual:
        """What was fixed at the birth of an individual. Raises IndexError for an unknown id."""
        self._check(id)
        columns = self._columns
        parent = int(columns["parent"][id])
        return Individual(
            id=id,
            genotype=Genotype(self.space, columns["genotype"][id].tobytes()),
            birth=Birth(int(columns["birth"][id])),
            parent=None if parent < 0 else parent,
            view=int(columns["view"][id]),
            redrawn=int(columns["redrawn"][id]),
            born=float(columns["born"][id]),
            known=int(columns["known"][id]),
            network=columns["network"][id].tobytes() if columns["network"][id].any() else None,
            repeats=self._repeats.first.get(id),
            network_version=self.hash_version(id),
        )

    def result(self, id: int) -> Result:
        """What became of a settled individual. Raises IndexError for an unknown id, ValueError for one in flight."""
        self._check(id)
        columns, outcome = self._columns, self.failures.get(id)
        state = State(int(columns["state"][id]))
        if state is State.ISSUED:
            raise ValueError(f"individual {id} is in flight: there is no result yet")
        return Result(
            individual=id,
            attempt=int(columns["attempts"][id]),
            place=Place(
                int(columns["rank"][id]),
                columns["host"][id].decode(errors="replace"),
                columns["device"][id].decode(errors="replace"),
            ),
            started=float(columns["started"][id]),
            finished=float(columns["finished"][id]),
            outcome=outcome
            or Evaluation(
                accuracies=self.accuracies(id),
                parameters=int(columns["parameters"][id]),
                setup_seconds=float(columns["setup_seconds"][id]),
                training_seconds=float(columns["training_seconds"][id]),
                validation_seconds=float(columns["validation_seconds"][id]),
            ),
        )

    def lineage(self, id: int) -> Iterator[Individual]:
        """The individual, its parent, the parent's parent, … to one without a parent."""
        current: int | None = id
        while current is not None:
            individual = self.individual(current)
            yield individual
            current = individual.parent

    def _check(self, id: int) -> None:
        if not 0 <= id < self._length:
            raise IndexError(f"expected an individual from 0 to {self._length - 1}, got {id}")

    # ── as a table ──────────────────────────────────────────────────────────────────────────────────────────────────
    @classmethod
    def from_columns(
        cls,
        space: Space,
        replicates: int,
        columns: Mapping[str, np.ndarray],
        evaluated: np.ndarray,
        failed_attempts: Sequence[Result],
    ) -> Population:
        """The population that a file holds, of these very arrays. Raises ValueError on what cannot have been written by
        this program."""
        population = cls(space, replicates)
        rows = len(columns["state"])
        for column in COLUMNS:
            expected, absent = population._columns[column.name], column.added and column.name not in columns
            found = population._blank(column, rows) if absent else columns[column.name]
            if found.shape != (rows, *expected.shape[1:]) or found.dtype != expected.dtype:
                raise ValueError(
                    f"column {column.name}: expected {expected.dtype} of shape {(rows, *expected.shape[1:])}, "
                    f"got {found.dtype} of {found.shape}"
                )
            population._columns[column.name] = found
        state = columns["state"]
        if not np.isin(state, list(State)).all():
            raise ValueError(f"column state: expected {State.ISSUED:d} to {State.FAILED:d} everywhere")
        if not np.array_equal(np.sort(evaluated), np.flatnonzero(state == State.EVALUATED)):
            raise ValueError("expected each evaluated individual once in the order of evaluation")
        failures = {
            attempt.individual: attempt.outcome
            for attempt in failed_attempts
            if isinstance(attempt.outcome, Failure) and state[attempt.individual] == State.FAILED
        }
        if sorted(failures) != np.flatnonzero(state == State.FAILED).tolist():
            raise ValueError("expected the failed attempts of every failed individual")
        population._length = rows
        population._issued = set(np.flatnonzero(state == State.ISSUED).tolist())
        population.redrawn = int(columns["redrawn"].sum(dtype=np.int64))
        population.known = int(population.column("known").sum(dtype=np.int64))
        population.trainings = int(columns["replicates_trained"].sum(dtype=np.int64))
        population.failures = failures
        population.failed_attempts = list(failed_attempts)
        population._evaluated, population._evaluations = evaluated, len(evaluated)
        population._pool()
        if len(evaluated):
            ids = population.competing(len(evaluated))
            population._best = int(ids[np.argmax(np.nan_to_num(columns["fitness"][ids], nan=-np.inf))])
        return population

    def _pool(self) -> None:
        """Finds out who shares a network. Raises ValueError."""
        repeats = self.column("repeats")
        for id in np.flatnonzero(repeats >= 0).tolist():
            self._check_repeated(id, int(repeats[id]))
            self._repeats.join(id, int(repeats[id]), evaluated=False)
        if self._repeats.first:
            for place, id in enumerate(self.evaluated.tolist()):
                self._repeats.replace(id, place)


def _growth(length: int) -> int:
    """How many more rows a full table of that length gets: little enough to waste none, enough to seldom move it."""
    return max(64, length // 8)
