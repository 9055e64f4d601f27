"""Choosing a parent: tournament selection (§3.2)."""

from __future__ import annotations

import numpy as np


def tournament_size(evaluated: int, fraction: float) -> int:
    """That share of the evaluated individuals, at least 2 and at most all (PAPER: choice)."""
    return min(evaluated, max(2, round(fraction * evaluated)))


def tournament(ids: np.ndarray, fitness: np.ndarray, fraction: float, generator: np.random.Generator) -> int:
    """The id of the fittest of a random sample of `ids` (int64, shape (n,), n ≥ 1), drawn without replacement.

    `fitness` is indexed by id. Of equals, the one drawn first wins.
    """
    drawn = generator.choice(len(ids), size=tournament_size(len(ids), fraction), replace=False)
    contestants = ids[drawn]
    return int(contestants[np.argmax(fitness[contestants])])
