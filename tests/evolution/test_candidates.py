"""The candidates of guided evolution: where they come from, and that none is there twice."""

from __future__ import annotations

import numpy as np
from test_strategy import INITIAL, breeding, grow

from hpcnas.architecture.expansion import InvalidGenotype, bare, expand
from hpcnas.architecture.features import Features
from hpcnas.architecture.genotype import Genotype
from hpcnas.evolution.candidates import BEST, KEPT, Candidate, Nursery, Pool
from hpcnas.evolution.tournament import TournamentEvolution

NUMBERS = np.array([0])


def looked_at(genotype: Genotype) -> Features | None:
    """The number of edges of the cell, as feature 0."""
    try:
        return Features(NUMBERS, np.array([len(expand(genotype).edges)]))
    except InvalidGenotype:
        return None


def edges(row: Features) -> int:
    return int(row.values[0])


POPULATION = grow(TournamentEvolution(breeding(), INITIAL, 0.2), INITIAL)
NURSERY = Nursery(breeding(), looked_at)


def bred(count: int, generations: int, known: tuple[Candidate, ...] = (), seed: int = 0) -> list[Candidate]:
    generator = np.random.default_rng(seed)
    return NURSERY.bred(
        POPULATION, lambda: int(generator.integers(INITIAL)), edges, generator, count, generations, known
    )


def distance(one: Candidate) -> int:
    parent = POPULATION.individual(one.parent).genotype.codes
    return sum(code != other for code, other in zip(one.genotype.codes, parent, strict=True))


def test_each_is_there_once_the_best_first_and_none_is_a_parent() -> None:
    found = bred(60, 4)
    assert [one.score for one in found] == sorted((edges(one.row) for one in found), reverse=True)
    needed = [one.needed for one in found]
    assert len(set(needed)) == len(found) > 30 and needed == [bare(one.genotype).codes for one in found]
    origins = {one.parent: one.origin for one in found}
    assert origins == {id: bare(POPULATION.individual(id).genotype).codes for id in origins}
    assert not set(needed) & set(origins.values())


def test_later_generations_are_farther_from_the_parents_and_better() -> None:
    one, several = bred(60, 1), bred(60, 6)
    assert max(map(distance, one)) == 1 < max(map(distance, several)) <= 6
    assert several[0].score > one[0].score


def test_where_some_are_known_mutants_of_the_best_of_these_come_first() -> None:
    known = tuple(bred(60, 2))
    found = bred(20, 1, known, seed=1)
    assert {one.needed for one in known} < {one.needed for one in found}
    new = [one for one in found if one not in known]
    assert new and {one.parent for one in new} <= {one.parent for one in known[:BEST]}
    assert not {one.needed for one in new} & {one.origin for one in known}, "a mutation back is no candidate"


def test_a_pool_gives_its_best_by_any_weights() -> None:
    candidates = bred(60, 3)
    features = np.array([[edges(one.row), number] for number, one in enumerate(candidates)])
    pool = Pool(candidates, features)
    assert len(candidates) > KEPT
    assert [one.needed for one in pool.best(np.array([0, -1]))] == [one.needed for one in candidates[:KEPT]]
    assert [one.score for one in pool.best(np.array([0, 2]))][:2] == [2 * len(candidates) - 2, 2 * len(candidates) - 4]
    assert pool.best(np.array([0, 0])) == [Candidate(0, *rest(one)) for one in candidates[:KEPT]]


def rest(one: Candidate) -> tuple[int, Genotype, bytes, bytes, Features]:
    return one.parent, one.genotype, one.needed, one.origin, one.row
