"""Guided evolution: of many mutants of tournament winners, a model of this run's fitness chooses the one to evaluate.

    first `view` evaluations ─► features and fitness ─► Bayesian linear model
    model ─► some draws of its weights ─► of each 24 candidates: the pool of all births that know this model
    birth ─► a draw of its own ─► the pool's best by that, 12 to 50 candidates more ─► the best that is not refused

Candidates are mutants of tournament winners, mutants of the best of these, and so on (`candidates`).

One Thompson draw a birth: what is uncertain is tried as often as it may be the best, and births that are in flight
together differ by their draws, so that no worker waits for another (Kandasamy et al. 2018, Parallelised Bayesian
Optimisation via Thompson Sampling).

Births after the initial population that begin before anything is evaluated, as there are where workers outnumber it,
are the largest of AMONG random genotypes: of networks of which nothing else is known, those with more FLOPs are better
as a rule (White et al. 2022, A Deeper Look at Zero-Cost Proxies). It is plain evolution, as `tournament`, while fewer
than LEAST are evaluated or all are equally fit, and while the model does not help: trained on the earlier three
quarters of what it learns from, it must rank the last quarter better than by chance, by Spearman's rank correlation.
That correlation is what the run reports.

The model is a function of the first `view` evaluations, rounded down so that it is made anew after every 32nd part of
them at the most. It learns from at most MOST individuals: half are the youngest, half the fittest of the older ones;
and WIDTH features, those of most variance.
Individuals that were stopped at a rung are among them, by what their fitness would have been (`learning_curves`).
Answers are the same on every machine: see `bayesian_ridge`. Mutants whose live edges are those of a parent are left
out.

What is measured best is partly luck; what the model says of a network is none, but knows little of what is particular
to it. Both together (`expectation`) say what the result of the search is, and which networks are confirmed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hpcnas import seeds
from hpcnas.architecture.expansion import InvalidGenotype, bare, expand
from hpcnas.architecture.features import Features, Vocabulary
from hpcnas.architecture.genotype import Genotype
from hpcnas.config.search import SearchSettings
from hpcnas.evolution import bayesian_ridge, expectation
from hpcnas.evolution.bayesian_ridge import Posterior
from hpcnas.evolution.candidates import Candidate, Nursery, Pool
from hpcnas.evolution.expectation import Measured
from hpcnas.evolution.learning_curves import outcomes
from hpcnas.evolution.population import Population
from hpcnas.evolution.ranking import Ranking
from hpcnas.evolution.strategy import Breeding, Proposal, renewal, rounded
from hpcnas.evolution.tournament import draw_winner
from hpcnas.messages import mean

AMONG = 5  # random genotypes, of which the largest is born while nothing is known
LEAST = 8  # evaluations before it predicts
MOST = 1024  # individuals that it learns from
WIDTH = 128  # features that it learns
POOLED = 24  # candidates of a pool by one draw
SHARING = 16  # draws of a pool, at the most
CANDIDATES = range(12, 51)  # of a birth: fewer where cells are large, and features take longer
GENERATIONS = range(3, 13)  # of the candidates by one draw
A_GENERATION = 100  # evaluations for which there is one more of them: the more is known, the farther a model sees
_EDGES = 600  # of all candidates of a birth, at the most, if each had all that its space allows
CONSIDERED = 256  # fittest individuals whose true fitness is estimated
_TESTED = 5  # individuals that a rank correlation needs
_KEPT = 8192  # genotypes whose features are kept


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a model learns from: features (n, d), whole numbers in float64, and targets (n,) from 0 to 1, in the order
    of evaluation. `columns` (features that have a number,) tells the column of each, or −1; int64. `low` is the fitness
    that the target 0 stands for, `span` what lies between the targets 0 and 1."""

    features: np.ndarray
    targets: np.ndarray
    columns: np.ndarray
    low: float
    span: float


@dataclass(frozen=True, slots=True)
class FitnessModel:
    """What is known of fitness after some evaluations."""

    posterior: Posterior
    columns: np.ndarray  # as in Lessons
    span: float  # likewise
    weights: np.ndarray  # those that the posterior expects
    base: float  # the fitness that it expects where the score by these is 0
    correlation: float | None  # of predictions with outcomes, −1 to 1; None while too few could be tested

    @property
    def helps(self) -> bool:
        """Whether its predictions are better than chance, as far as that has been tested."""
        return self.correlation is None or self.correlation > 0.0

    def score(self, weights: np.ndarray, row: Features) -> int:
        """Higher is better; `weights` are those of the posterior."""
        columns, values = self._learned(row)
        return int((weights[columns] * values).sum())

    def matrix(self, rows: Sequence[Features]) -> np.ndarray:
        """These features as it has learned them: whole numbers, int64, shape (rows, features that it learns)."""
        found = np.zeros((len(rows), len(self.weights)), np.int64)
        for place, row in enumerate(rows):
            columns, values = self._learned(row)
            found[place, columns] = values
        return found

    def _learned(self, row: Features) -> tuple[np.ndarray, np.ndarray]:
        """Those of the features that it learns: their columns, and their values."""
        known = row.numbers < len(self.columns)
        columns = self.columns[row.numbers[known]]
        learned = columns >= 0
        return columns[learned], row.values[known][learned]

    def predicted(self, row: Features) -> float:
        """The fitness that it expects, which need not lie between 0 and 1."""
        return self.base + self.score(self.weights, row) * self.posterior.unit * self.span

    @property
    def variance(self) -> float:
        """Of what was measured, by what it does not explain: (fitness)²."""
        return self.span * self.span / self.posterior.beta


@dataclass(frozen=True, slots=True)
class _Latest:
    """The model of the first `known` evaluations of a population, and what has been found out by it."""

    population: Population
    known: int
    model: FitnessModel | None
    rows: dict[int, Features | None]  # of individuals; these do not change, and the next model takes them over
    seen: dict[int, _Seen | None] = field(default_factory=dict)  # individuals; None for those that cannot be the result
    fittest: list[int] = field(default_factory=list)  # those of them that were considered first
    expected: dict[int, Mapping[int, float]] = field(default_factory=dict)  # the last view → what it expects then
    shared: list[Pool] = field(default_factory=list)  # one, once there is a birth that knows so much


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is known of an individual: its network, its predicted fitness, and the accuracies that its fitness is of."""

    codes: bytes
    predicted: float
    accuracies: tuple[float, ...]


class Guided:
    """Strategy `guided`."""

    def __init__(self, breeding: Breeding, initial_population: int, tournament_fraction: float) -> None:
        self._breeding = breeding
        self._initial_population = initial_population
        self._fraction = tournament_fraction
        self._candidates = min(max(CANDIDATES.start, _EDGES // breeding.space.largest_cell), CANDIDATES.stop - 1)
        self._vocabulary = Vocabulary()  # no answer depends on which number a feature has
        self._rows: dict[bytes, Features | None] = {}  # codes → features, None without a network
        self._nursery = Nursery(breeding, self._row)
        self._carried: _Latest | None = None

    @classmethod
    def of(cls, search: SearchSettings, breeding: Breeding) -> Guided:
        """As configured."""
        return cls(breeding, search.initial_population, search.tournament_fraction)

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """The mutant that a draw of the model likes best; else as `tournament`, or the largest of a few."""
        if id < self._initial_population:
            return self._breeding.initial(population, id)
        if view < 2:
            return self._breeding.largest(population, id, AMONG)
        generator, now = self._breeding.generator(id), self._latest(population, view)
        if now.model is None or not now.model.helps:
            parent = draw_winner(population.ranking(view), self._fraction, generator)
            return self._breeding.mutant(population, id, parent, generator)
        pool, ranking = self._shared(population, now, now.model), population.ranking(view)
        bred = self._bred(population, ranking, now, now.model, self._candidates, generator, pool)
        return self._breeding.chosen(
            population, id, [(one.parent, one.genotype) for one in bred],
            lambda: draw_winner(ranking, self._fraction, generator), generator,
        )  # fmt: skip

    def expected(self, population: Population, view: int) -> Mapping[int, float]:
        """What new trainings would give (`expectation`), for the CONSIDERED fittest when the model was made and those
        that were evaluated since; without those that racing has given up. Fitness, from 0 to 1."""
        now = self._latest(population, view)
        if now.model is None or not now.model.helps:
            return {}
        latest = now.expected
        if view not in latest:
            found = self._expected(population, view, now, now.model)
            latest.clear()
            latest[view] = found
        return latest[view]

    def _expected(self, population: Population, view: int, now: _Latest, model: FitnessModel) -> Mapping[int, float]:
        if not now.seen:
            ids, fitness = population.competing(now.known), population.column("fitness")
            fittest = ids[np.argsort(np.nan_to_num(-fitness[ids], nan=np.inf), kind="stable")[:CONSIDERED]]
            now.seen.update((id, self._seen(population, id, model)) for id in fittest.tolist())
            now.fittest.extend(fittest.tolist())
        gone, networks = set(population.replaced(now.known, view)), dict[bytes, list[int]]()
        for id in (*now.fittest, *population.competing(view, now.known).tolist()):
            if id not in now.seen:
                now.seen[id] = self._seen(population, id, model)
            seen = now.seen[id]
            if seen is not None and id not in gone:
                networks.setdefault(seen.codes, []).append(id)
        if not networks:
            return {}
        several = [[one for id in ids if (one := now.seen[id]) is not None] for ids in networks.values()]
        found = expectation.expected(
            [Measured.of(group[0].predicted, [one for each in group for one in each.accuracies]) for group in several],
            model.variance,
        )
        return {id: value for ids, value in zip(networks.values(), found, strict=True) for id in ids}

    def _seen(self, population: Population, id: int, model: FitnessModel) -> _Seen | None:
        """None for an individual that was given up, or of which nothing can be said."""
        accuracies = population.averaged_accuracies(id)
        needed = bare(population.individual(id).genotype)
        row = self._row(needed)  # one of a damaged file may have no network
        whole = population.column("replicates_trained")[id] == population.replicates_of(id)
        if row is None or not whole or not math.isfinite(mean(accuracies)):
            return None
        return _Seen(needed.codes, model.predicted(row), accuracies)

    def predicted(self, population: Population, view: int, id: int) -> float | None:
        """The fitness that the model says of an individual by its network alone, whether measured or not; None where
        births that knew so much were those of plain evolution. It need not lie between 0 and 1."""
        model = self.model(population, view)
        row = None if model is None or not model.helps else self._row(bare(population.individual(id).genotype))
        return None if model is None or row is None else model.predicted(row)

    def bar(self, population: Population, view: int) -> float | None:
        """The best fitness, as in `tournament`."""
        return population.best_fitness(view) if view else None

    def model(self, population: Population, view: int) -> FitnessModel | None:
        """What it knows after so many evaluations; None where that is too little, or nothing differs."""
        return self._latest(population, view).model

    def _latest(self, population: Population, view: int) -> _Latest:
        known = rounded(view)
        carried = self._carried
        if carried is None or carried.population is not population or carried.known != known:
            rows = carried.rows if carried is not None and carried.population is population else {}
            model = self._learned(population, known, rows) if known >= LEAST else None
            carried = self._carried = _Latest(population, known, model, rows)
        return carried

    def _shared(self, population: Population, now: _Latest, model: FitnessModel) -> Pool:
        """The candidates that the births share which know this model: by as many draws of it as there are evaluations
        until the next model, so that a birth pays for no more than one of them; by SHARING at the most."""
        if not now.shared:
            generator = seeds.pool_generator(self._breeding.seed, now.known)
            ranking, found = population.ranking(now.known), dict[bytes, Candidate]()
            for _ in range(min(renewal(now.known), SHARING)):
                bred = self._bred(population, ranking, now, model, POOLED, generator)
                found |= {one.needed: one for one in bred}
            pool = list(found.values())
            now.shared.append(Pool(pool, model.matrix([one.row for one in pool])))
        return now.shared[0]

    def _bred(
        self, population: Population, ranking: Ranking, now: _Latest, model: FitnessModel, count: int,
        generator: np.random.Generator, pool: Pool | None = None,
    ) -> list[Candidate]:  # fmt: skip
        """Candidates by one draw of the model, the best first."""
        weights = model.posterior.drawn(generator)
        return self._nursery.bred(
            population,
            lambda: draw_winner(ranking, self._fraction, generator),
            lambda row: model.score(weights, row),
            generator,
            count,
            min(GENERATIONS.start + now.known // A_GENERATION, GENERATIONS.stop - 1),
            () if pool is None else pool.best(weights),
        )

    def _row(self, genotype: Genotype) -> Features | None:
        """The features of a genotype without dead edges and unused motifs; None where it has no network."""
        if genotype.codes not in self._rows:
            if len(self._rows) >= _KEPT:
                self._rows.clear()
            self._rows[genotype.codes] = self._looked_at(genotype)
        return self._rows[genotype.codes]

    def _looked_at(self, genotype: Genotype) -> Features | None:
        try:
            return self._vocabulary.features(genotype, expand(genotype), self._breeding.size(genotype))
        except InvalidGenotype:
            return None

    def _learned(
        self, population: Population, view: int, looked_at: dict[int, Features | None]
    ) -> FitnessModel | None:
        table = self._table(population, view, looked_at)
        posterior = None if table is None else bayesian_ridge.fit(table.features, table.targets)
        if table is None or posterior is None:
            return None
        weights = posterior.expected()
        scores = table.features.astype(np.int64) @ weights
        base = table.low + table.span * (mean(table.targets.tolist()) - mean(scores.tolist()) * posterior.unit)
        return FitnessModel(posterior, table.columns, table.span, weights, base, tested(table, posterior))

    def _table(self, population: Population, view: int, looked_at: dict[int, Features | None]) -> Lessons | None:
        """What it learns from; None where nothing differs. `looked_at`: features of individuals, which it adds to."""
        ids, fitness = outcomes(population, view)
        rows, kept = list[Features](), list[int]()
        if len(looked_at) >= _KEPT:
            looked_at.clear()
        for place in learned_from(np.arange(len(ids)), fitness).tolist():
            id = int(ids[place])
            if id not in looked_at:
                looked_at[id] = self._row(bare(population.individual(id).genotype))
            if (row := looked_at[id]) is not None:  # an individual of a damaged file may have no network
                rows.append(row)
                kept.append(place)
        ends = ends_of(fitness[kept])
        if ends is None:
            return None
        numbers, values = (np.concatenate([getattr(row, name) for row in rows]) for name in ("numbers", "values"))
        places = np.repeat(np.arange(len(rows)), [len(row.numbers) for row in rows])
        there, first = np.unique(numbers, return_index=True)
        order = np.lexsort((first, -_spreads(numbers, values, there, len(rows))))[: 4 * WIDTH]
        columns = np.full(len(self._vocabulary), -1, dtype=np.int64)
        columns[there[order]] = np.arange(len(order))
        matrix, inside = np.zeros((len(rows), len(order))), columns[numbers] >= 0
        matrix[places[inside], columns[numbers[inside]]] = values[inside]
        chosen = varying(matrix)[:WIDTH]
        columns[:] = -1
        columns[there[order[chosen]]] = np.arange(len(chosen))
        aims = targets(fitness[kept], *ends)
        return Lessons(np.ascontiguousarray(matrix[:, chosen]), aims, columns, ends[0], ends[1] - ends[0])


def _spreads(numbers: np.ndarray, values: np.ndarray, there: np.ndarray, rows: int) -> np.ndarray:
    """The variance of each feature `there` over all rows, times their number squared: int64. `numbers` and `values` are
    those that are not zero; `there` is sorted."""
    place = np.searchsorted(there, numbers)
    sums, squares = np.zeros(len(there), np.int64), np.zeros(len(there), np.int64)
    np.add.at(sums, place, values)
    np.add.at(squares, place, values * values)
    return rows * squares - sums * sums


def told_prediction(model: FitnessModel | None) -> str:
    """How well it predicts, in words."""
    if model is None:
        return "nothing yet: too few evaluations, or all equally fit"
    if model.correlation is None:
        return "not tested yet"
    helps = "" if model.helps else ": it does not help, and births are those of plain evolution"
    return f"rank correlation {model.correlation:.2f} with the latest outcomes{helps}"


def learned_from(ids: np.ndarray, fitness: np.ndarray) -> np.ndarray:
    """Those of the ids, int64, that a model learns from, in their order: MOST at the most."""
    if len(ids) <= MOST:
        return ids
    older = len(ids) - MOST // 2
    fittest = np.argsort(np.nan_to_num(-fitness[:older], nan=np.inf), kind="stable")[: MOST - MOST // 2]
    return np.concatenate([ids[np.sort(fittest)], ids[older:]])


def targets(fitness: np.ndarray, low: float, best: float) -> np.ndarray:
    """Fitness, float64 of shape (n,), as numbers from 0 to 1: 1 is the best, 0 what is not above `low`, or NaN."""
    return np.clip((np.nan_to_num(fitness, nan=low, posinf=best, neginf=low) - low) / (best - low), 0.0, 1.0)


def ends_of(fitness: np.ndarray) -> tuple[float, float] | None:
    """The fitness, of several in float64 of shape (n,), that is as far below the median as the best is above it, or the
    lowest if that is nearer; and the best. None where nothing differs."""
    finite = np.sort(fitness[np.isfinite(fitness)])
    if not len(finite):
        return None
    lowest, middle, best = finite[0], finite[len(finite) // 2], finite[-1]
    low = max(lowest, middle - (best - middle)) if middle < best else lowest
    return (float(low), float(best)) if low < best else None


def varying(matrix: np.ndarray) -> np.ndarray:
    """The columns, int64, that are not constant."""
    return np.flatnonzero((matrix != matrix[0]).any(axis=0))


def tested(table: Lessons, like: Posterior) -> float | None:
    """How predictions of the last quarter by a model of the others go with what was measured: Spearman's rank
    correlation, or None where too few could be tested."""
    count = len(table.targets) - len(table.targets) // 4
    if len(table.targets) - count < _TESTED:
        return None
    earlier = table.features[:count]
    columns = varying(earlier)
    posterior = bayesian_ridge.fit(np.ascontiguousarray(earlier[:, columns]), table.targets[:count], like)
    if posterior is None:
        return None
    scores = table.features[count:, columns].astype(np.int64) @ posterior.expected()
    return rank_correlation(scores, table.targets[count:])


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's, of two arrays of shape (n,), equals having their mean rank; None where all of one are equal."""
    first, second = _centred_ranks(one), _centred_ranks(other)
    squares = int((first * first).sum()) * int((second * second).sum())
    return int((first * second).sum()) / squares**0.5 if squares else None


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Twice the rank of each, less the mean of all: int64."""
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((2 * (np.cumsum(times) - times) + times)[place] - len(values), dtype=np.int64)
