"""Choosing a parent: tournament selection (§3.2).

A tournament of n individuals draws k of them without replacement, and the fittest wins; of equals, the one drawn first.
`tournament` draws the winner itself, exactly so distributed, from the ranking: the fittest of the sample has rank ≥ r
where none of the r fittest of all is in it,

    P(rank ≥ r) = C(n−r, k) / C(n, k) = (n−k)/n · (n−k−1)/(n−1) · … (r factors),

and of those that are equally fit each is as likely. That takes no longer in a population of a million.
`sampled_tournament` draws the sample, as runs did before the winner was drawn: they go on and are replayed by it.
"""

from __future__ import annotations

import numpy as np

from hpcnas.evolution.ranking import Ranking


def tournament_size(evaluated: int, fraction: float) -> int:
    """That share of the evaluated individuals, at least 2 and at most all (PAPER: choice)."""
    return min(evaluated, max(2, round(fraction * evaluated)))


def tournament(ranking: Ranking, fraction: float, generator: np.random.Generator) -> int:
    """The id of the winner of a tournament among all of the ranking, which must not be empty."""
    rank = best_rank(len(ranking), tournament_size(len(ranking), fraction), generator)
    first, last = ranking.equals(rank)
    return ranking[first + int(generator.integers(last - first)) if last - first > 1 else rank]


def best_rank(n: int, k: int, generator: np.random.Generator) -> int:
    """The lowest of k different ranks out of 0 … n−1, 1 ≤ k ≤ n, in at most about √n steps.

    By multiplication alone, so that every machine gives the same answer.
    """
    if k * k < n:  # few of many: (n−k)/(k+1) factors are expected below
        return int(generator.choice(n, size=k, replace=False, shuffle=False).min())
    drawn, rank, reached = generator.random(), 0, (n - k) / n
    while drawn < reached:  # P(rank ≥ r + 1)
        rank += 1
        reached *= (n - k - rank) / (n - rank)
    return rank


def sampled_tournament(ids: np.ndarray, fitness: np.ndarray, fraction: float, generator: np.random.Generator) -> int:
    """The id of the fittest of a random sample of `ids` (int64, shape (n,), n ≥ 1), drawn without replacement.

    `fitness` is indexed by id. Of equals, the one drawn first wins.
    """
    drawn = generator.choice(len(ids), size=tournament_size(len(ids), fraction), replace=False)
    contestants = ids[drawn]
    return int(contestants[np.argmax(fitness[contestants])])
