"""The ranking: who has which rank, kept up while individuals come, across blocks, with equals in order of arrival."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpcnas.evolution import ranking
from hpcnas.evolution.ranking import Ranking


def of(*fitness: float) -> Ranking:
    """Individuals 10, 11, … of that fitness."""
    return Ranking(np.arange(10, 10 + len(fitness)), np.array(fitness))


def listed(found: Ranking) -> list[int]:
    return [found[rank] for rank in range(len(found))]


def test_the_fittest_comes_first_and_of_equals_the_first_evaluated() -> None:
    assert listed(of(0.2, 0.9, 0.5, 0.9, 0.2, 0.2)) == [11, 13, 12, 10, 14, 15]


def test_equals_are_a_range_of_ranks() -> None:
    found = of(0.2, 0.9, 0.5, 0.9, 0.2, 0.2)
    assert [found.equals(rank) for rank in range(6)] == [(0, 2), (0, 2), (2, 3), (3, 6), (3, 6), (3, 6)]


def test_what_is_added_finds_its_place() -> None:
    found = of()
    for id, fitness in enumerate([0.2, 0.9, 0.5, 0.9, 0.2, 0.2], start=10):
        found.add(id, fitness)
    assert listed(found) == [11, 13, 12, 10, 14, 15]
    assert found.equals(5) == (3, 6)


def test_what_is_no_number_comes_last() -> None:
    found = of(math.nan, 0.1)
    found.add(12, math.nan)
    found.add(13, 0.05)
    assert listed(found) == [11, 13, 10, 12]


@pytest.mark.parametrize("rank", [-1, 2])
def test_there_are_as_many_ranks_as_individuals(rank: int) -> None:
    with pytest.raises(IndexError, match=f"^expected a rank from 0 to 1, got {rank}$"):
        of(0.1, 0.2)[rank]


@pytest.mark.parametrize("known", [0, 1, 7, 150, 400])
@pytest.mark.parametrize("values", [3, 40, 10_000])  # few: equals fill whole blocks
def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch, known: int, values: int) -> None:
    """Blocks of four individuals against one sorted list."""
    monkeypatch.setattr(ranking, "_MOST", 4)
    fitness = np.random.default_rng(values).integers(values, size=400) / values
    found = Ranking(np.arange(known), fitness[:known])
    for id in range(known, 400):
        found.add(id, float(fitness[id]))
    order = sorted(range(400), key=lambda id: (-fitness[id], id))
    assert listed(found) == order
    for rank, id in enumerate(order):
        first, last = found.equals(rank)
        assert first <= rank < last
        assert {fitness[order[other]] for other in range(first, last)} == {fitness[id]}
        assert last - first == np.count_nonzero(fitness == fitness[id])


def test_who_is_removed_leaves_the_others_in_order() -> None:
    found = of(0.2, 0.9, 0.5, 0.9, 0.2, math.nan)
    for id, fitness in ((13, 0.9), (10, 0.2), (15, math.nan)):
        found.remove(id, fitness)
    assert listed(found) == [11, 12, 14]
    for id, fitness in ((11, 0.5), (10, 0.2), (12, 0.1)):
        with pytest.raises(KeyError, match=f"expected an individual of fitness {fitness} in the ranking, but {id} is"):
            found.remove(id, fitness)
    for id, fitness in ((11, 0.9), (14, 0.2), (12, 0.5)):
        found.remove(id, fitness)
    found.add(20, 0.3)
    assert (listed(found), found.equals(0)) == ([20], (0, 1))


@pytest.mark.parametrize("values", [1, 3, 10_000])
def test_removals_and_additions_across_blocks(monkeypatch: pytest.MonkeyPatch, values: int) -> None:
    """Blocks of four individuals against one sorted list, of which half leave while others come."""
    monkeypatch.setattr(ranking, "_MOST", 4)
    generator = np.random.default_rng(values)
    fitness = generator.integers(values, size=300) / values
    found, present = Ranking(np.arange(100), fitness[:100]), set(range(100))
    for id in range(100, 300):
        for gone in generator.choice(sorted(present), size=min(2, len(present) - 1), replace=False).tolist():
            found.remove(gone, float(fitness[gone]))
            present.discard(gone)
        found.add(id, float(fitness[id]))
        present.add(id)
        assert len(found) == len(present)
    assert listed(found) == sorted(present, key=lambda id: (-fitness[id], id))
    for rank, id in enumerate(listed(found)):
        first, last = found.equals(rank)
        assert first <= rank < last
        assert last - first == sum(fitness[other] == fitness[id] for other in present)
