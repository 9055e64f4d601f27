"""Confirmation: at the end the best networks are trained again, and their new trainings alone say which is the best
(`--confirm`). Not the paper's.

    K best ─► 2 new trainings of each ─► 4 of each that is still in ─► 8 ─► …
                              └──── out ◄─────────────┴─────────────────┘

Whatever is the best of many measurements owes some of that to luck, and another may truly be better. New trainings have
no share in this luck: their mean is what is reported. The K best are the fittest as measured, or those of which the
strategy expects most (`Expecting`).

A round brings every network that is still in to as many new trainings; then one is out where

    m + t · s · √(2/n) < best m

    m    mean of its first n new trainings, `best m` the highest of those that are in
    s    standard deviation of one training: s² = Σ (a − ā)² / ν, over the new trainings of each network and over the
         individuals of the search that were trained several times
    t    quantile of Student's distribution with ν degrees of freedom, at 1 − ERROR/(K − 1)

so that in one round the truly best of K networks is lost with a probability of ERROR at the most. It ends when one is
left, or when its trainings are spent (`--confirm-trainings`, by default EACH for every network).

A search that has gone on by a larger budget is confirmed anew: the networks are chosen again and the trainings counted
from then on, but what a network has been trained before counts for it.

A new training is an individual, whose parent is the one that it trains again: it has a birth, seeds, a place and a
record like any other. All that is decided here follows from the population, whatever the number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from hpcnas.architecture.network_hash import network_hash
from hpcnas.config.search import LEAST_CONFIRMATIONS, SearchSettings
from hpcnas.evolution.individuals import Birth, State
from hpcnas.evolution.population import NOTHING, Population
from hpcnas.evolution.racing import student_quantile
from hpcnas.evolution.strategy import Proposal
from hpcnas.messages import mean

EACH = 8  # new trainings that a network may take, on an average
ERROR = 0.05
LEAST_FREEDOM = 8  # degrees of freedom from which the noise counts as known


@dataclass(frozen=True, slots=True)
class Trial:
    """A network's new trainings."""

    individual: int  # of the search, that is trained again
    begun: int
    ended: tuple[float | None, ...]  # accuracies in the order of births, None where a training has failed

    def mean(self, count: int) -> float | None:
        """Of the first `count` that have ended; None where none of them was evaluated."""
        found = [accuracy for accuracy in self.ended[:count] if accuracy is not None]
        return mean(found) if found else None


def candidates(population: Population, count: int, expected: Mapping[int, float] = NOTHING) -> list[int]:
    """The individuals of the `count` best networks by what is `expected` of them, else as the search has measured them:
    the best first, of equals the one evaluated first. Individuals that racing has given up are none of them."""
    births, fitness = population.column("birth"), population.column("fitness")
    trained, repeats = population.column("replicates_trained"), population.column("repeats")
    searched = [id for id in population.evaluated.tolist() if births[id] != Birth.CONFIRMATION]
    latest = {int(repeats[id]) if repeats[id] >= 0 else id: id for id in searched}  # of averaged ones, the last
    whole = [id for id in latest.values() if trained[id] == population.replicates_of(id) and math.isfinite(fitness[id])]

    def merit(id: int) -> tuple[float, float]:
        confirmed = population.confirmed.get(int(repeats[id]) if repeats[id] >= 0 else id)
        stands = confirmed[-1] if confirmed else id  # for the network, where it was confirmed before
        return expected.get(stands, -math.inf), float(fitness[stands])

    networks: dict[bytes, int] = {}
    for id in sorted(whole, key=merit, reverse=True):  # of equals the first stays first
        networks.setdefault(network_hash(population.individual(id).genotype), id)
        if len(networks) == count:
            break
    return list(networks.values())


class Confirmation:
    """What is still to be trained again in a population whose search is over."""

    def __init__(self, search: SearchSettings, population: Population, expected: Mapping[int, float] = NOTHING) -> None:
        """`expected` may choose the networks, as long as these are not begun (`Expecting`)."""
        self._population = population
        self._view = population.searched_view
        self._candidates = list(dict.fromkeys(population.column("parent")[self._begun()].tolist()))[: search.confirm]
        if len(self._candidates) < search.confirm:
            others = candidates(population, search.confirm, expected)
            self._candidates = _different(population, [*self._candidates, *others])[: search.confirm]
        self._most = search.confirm_trainings or EACH * len(self._candidates)
        self._searched = _noise(_several(population))

    @property
    def networks(self) -> Sequence[int]:
        """The individuals that are trained again."""
        return self._candidates

    @property
    def most(self) -> int:
        """The trainings that it may take in all."""
        return self._most

    def next(self) -> Proposal | None:
        """The next new training; None while the end of others has to be awaited, and at the end."""
        still, goal = self._round(self._trials())
        if goal is None or len(self._begun()) >= self._most:
            return None
        waiting = [trial for trial in still if trial.begun < goal]
        if not waiting:
            return None
        chosen = self._population.individual(min(waiting, key=lambda trial: trial.begun).individual)
        first = chosen.id if chosen.repeats is None else chosen.repeats
        return Proposal(chosen.genotype, Birth.CONFIRMATION, chosen.id, redrawn=0, repeats=first)

    @property
    def complete(self) -> bool:
        """Whether one is left, or the trainings are spent, and none is under way."""
        trials, begun = self._trials(), self._begun()
        if (self._population.column("state")[begun] == State.ISSUED).any():
            return False
        return len(begun) >= self._most or self._round(trials)[1] is None

    @property
    def left(self) -> int:
        """How many new trainings are to come at the most."""
        if self.complete:
            return 0
        return self._most - int((self._population.column("state")[self._begun()] != State.ISSUED).sum())

    def _begun(self) -> np.ndarray:
        """The new trainings since the search was over: ids, int64, in the order of their births."""
        births, views = self._population.column("birth"), self._population.column("view")
        return np.flatnonzero((births == Birth.CONFIRMATION) & (views >= self._view))

    def _trials(self) -> list[Trial]:
        """Of the candidates, the fittest first."""
        population = self._population
        repeats, state = population.column("repeats"), population.column("state")
        fits = np.flatnonzero(population.column("birth") == Birth.CONFIRMATION)
        found = []
        for id in self._candidates:
            first = int(repeats[id]) if repeats[id] >= 0 else id
            again = fits[repeats[fits] == first].tolist()
            ended = [one for one in again if state[one] != State.ISSUED]
            found.append(Trial(id, len(again), tuple(self._accuracy(one) for one in ended)))
        return found

    def _accuracy(self, id: int) -> float | None:
        return next(iter(self._population.accuracies(id)), None)

    def _round(self, trials: Sequence[Trial]) -> tuple[Sequence[Trial], int | None]:
        """Who is still in, and to how many new trainings each is to come now; None where one is left."""
        still, goal = trials, LEAST_CONFIRMATIONS
        while still and all(len(trial.ended) >= goal for trial in still):
            still = self._survivors(still, goal)
            if len(still) <= 1:
                return still, None
            goal *= 2
        return still, goal if still else None

    def _survivors(self, trials: Sequence[Trial], count: int) -> Sequence[Trial]:
        means = [trial.mean(count) for trial in trials]
        best = max((found for found in means if found is not None), default=None)
        if best is None:
            return []
        measured = [(trial, found) for trial, found in zip(trials, means, strict=True) if found is not None]
        squares, freedom = _noise([trial.ended[:count] for trial in trials])
        squares, freedom = squares + self._searched[0], freedom + self._searched[1]
        if len(measured) < 2 or freedom < LEAST_FREEDOM:
            return [trial for trial, _ in measured]
        quantile = student_quantile(NormalDist().inv_cdf(1.0 - ERROR / (len(self._candidates) - 1)), freedom)
        margin = quantile * math.sqrt(squares / freedom) * math.sqrt(2.0 / count)
        return [trial for trial, found in measured if found + margin >= best]


def _different(population: Population, ids: Sequence[int]) -> list[int]:
    """Those of the ids that have another network than all before them."""
    networks: dict[bytes, int] = {}
    for id in ids:
        networks.setdefault(network_hash(population.individual(id).genotype), id)
    return list(networks.values())


def _several(population: Population) -> Iterator[tuple[float, ...]]:
    """The accuracies of each individual of which several trainings are known."""
    rows = population.column("accuracies")[population.evaluated]
    for row in rows[(~np.isnan(rows)).sum(axis=1) > 1].tolist():
        yield tuple(accuracy for accuracy in row if not math.isnan(accuracy))


def _noise(groups: Iterable[Sequence[float | None]]) -> tuple[float, int]:
    """Σ (a − ā)² over the accuracies of all groups, each with a mean ā of its own, and the degrees of freedom."""
    squares, freedom = list[float](), 0
    for group in groups:
        found = [accuracy for accuracy in group if accuracy is not None]
        if len(found) > 1:
            middle = mean(found)
            squares += [(accuracy - middle) ** 2 for accuracy in found]
            freedom += len(found) - 1
    return math.fsum(squares), freedom
