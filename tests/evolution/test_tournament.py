"""Tournament selection: its size, and who wins how often: with the sample drawn, and with the winner drawn."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from test_mutation import assert_share, assert_uniform

from hpcnas.evolution.ranking import Ranking
from hpcnas.evolution.tournament import draw_best_rank, draw_winner, tournament_size, winner_of_sample


@pytest.mark.parametrize(
    ("evaluated", "size"),
    [(1, 1), (2, 2), (10, 2), (39, 2), (40, 2), (49, 2), (51, 3), (60, 3), (200, 10), (7000, 350)],
)
def test_a_tournament_has_five_percent_of_the_population_and_at_least_two(evaluated: int, size: int) -> None:
    assert tournament_size(evaluated, 0.05) == size


@pytest.mark.parametrize(
    ("evaluated", "fraction", "size"), [(10, 0.2, 2), (10, 0.5, 5), (10, 1.0, 10), (10, 0.0, 2), (1, 0.0, 1)]
)
def test_the_share_can_be_set(evaluated: int, fraction: float, size: int) -> None:
    assert tournament_size(evaluated, fraction) == size


Tournament = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], int]


def ranked_tournament(ids: np.ndarray, fitness: np.ndarray, fraction: float, generator: np.random.Generator) -> int:
    """`draw_winner` among individuals `ids`, evaluated in that order; `fitness` is indexed by id."""
    return draw_winner(Ranking(ids, fitness[ids]), fraction, generator)


@pytest.fixture(params=[winner_of_sample, ranked_tournament])
def winner(request: pytest.FixtureRequest) -> Tournament:
    """One way to hold a tournament after the other."""
    return request.param


@pytest.fixture
def winners(winner: Tournament) -> Callable[..., list[int]]:
    """Winners of many tournaments among all individuals 0, 1, … of that fitness."""

    def drawn(fitness: list[float], fraction: float, count: int = 3000) -> list[int]:
        generator = np.random.default_rng(0)
        ids, values = np.arange(len(fitness)), np.array(fitness)
        return [winner(ids, values, fraction, generator) for _ in range(count)]

    return drawn


Winners = Callable[..., list[int]]


def test_the_fittest_of_all_wins_where_all_take_part(winners: Winners) -> None:
    assert set(winners([0.1, 0.9, 0.5, 0.3], fraction=1.0, count=50)) == {1}


def test_nobody_takes_part_twice(winners: Winners) -> None:
    """Else the less fit of two would win every fourth time."""
    assert set(winners([0.5, 0.4], fraction=0.05, count=50)) == {0}


def test_the_least_fit_never_wins(winners: Winners) -> None:
    assert_uniform({*winners([0.1, 0.2, 0.3, 0.4], fraction=0.5)}, {1, 2, 3})


def test_each_wins_as_often_as_it_is_the_fittest_of_a_random_pair(winners: Winners) -> None:
    """Of the ten pairs out of five the fittest wins four, the next three, …"""
    won = winners([0.3, 0.5, 0.1, 0.4, 0.2], fraction=0.4)
    for individual, pairs in {1: 4, 3: 3, 0: 2, 4: 1, 2: 0}.items():
        assert_share(won.count(individual), len(won), pairs / 10)


@pytest.mark.parametrize(("individuals", "size"), [(40, 2), (200, 10), (300, 15)])
def test_the_best_wins_whenever_it_is_drawn(winners: Winners, individuals: int, size: int) -> None:
    fitness = np.random.default_rng(1).permutation(individuals) / individuals
    won = winners(fitness.tolist(), fraction=0.05)
    assert_share(won.count(int(fitness.argmax())), len(won), size / individuals)


def test_a_tournament_draws_from_the_whole_population(winners: Winners) -> None:
    """All equally fit: each of 60 wins as often as it is drawn first."""
    assert_uniform(winners([0.5] * 60, fraction=0.05, count=6000), range(60))


def test_only_the_given_individuals_take_part(winner: Tournament) -> None:
    """Fitness is indexed by id: others may be fitter, or have none."""
    fitness = np.array([0.99, math.nan, 0.2, 0.1, math.nan, 0.3])
    generator = np.random.default_rng(0)
    assert {winner(np.array([3, 5, 2]), fitness, 0.05, generator) for _ in range(100)} == {2, 5}


def test_a_single_individual_wins(winner: Tournament) -> None:
    assert winner(np.array([3]), np.array([0.1] * 4), 0.05, np.random.default_rng(0)) == 3


def test_the_same_generator_gives_the_same_winner(winner: Tournament) -> None:
    ids, fitness = np.arange(100), np.random.default_rng(0).random(100)
    first, second = (
        [winner(ids, fitness, 0.05, generator) for _ in range(20)]
        for generator in map(np.random.default_rng, (4, 4))
    )
    assert first == second and len(set(first)) > 1


# ── the winner, drawn by itself, against the sample ─────────────────────────────────────────────────────────────────


class Scripted:
    """A generator that returns what the test wants."""

    def __init__(self, number: float = 0.0, integer: int = 0, sample: tuple[int, ...] = ()) -> None:
        self.number, self.integer, self.sample = number, integer, sample

    def random(self) -> float:
        return self.number

    def integers(self, bound: int) -> int:
        return self.integer % bound

    def choice(self, n: int, size: int, replace: bool, shuffle: bool) -> np.ndarray:
        assert len(self.sample) == size and max(self.sample) < n and not replace
        return np.array(self.sample)


def shares_of_ranks(n: int, k: int) -> list[Fraction]:
    """The exact probability of every rank: `draw_best_rank` is asked in the middle of each of C(n, k) equal parts of
    what `random` can return, or for each of the C(n, k) samples that `choice` can."""
    parts = math.comb(n, k)
    generators = (
        (Scripted(sample=sample) for sample in itertools.combinations(range(n), k))
        if k * k < n
        else (Scripted((part + 0.5) / parts) for part in range(parts))
    )
    found = Counter(draw_best_rank(n, k, generator) for generator in generators)  # type: ignore[arg-type]
    return [Fraction(found[rank], parts) for rank in range(n)]


@pytest.mark.parametrize(("n", "k"), [(n, k) for n in range(1, 13) for k in range(1, n + 1)])
def test_a_rank_wins_in_as_many_of_all_samples_as_it_is_the_best_of(n: int, k: int) -> None:
    """Every sample of k out of n is listed: no statistics."""
    best = Counter(min(sample) for sample in itertools.combinations(range(n), k))
    assert shares_of_ranks(n, k) == [Fraction(best[rank], math.comb(n, k)) for rank in range(n)]


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("fitness", [(3, 2, 2, 1, 1, 1, 0), (1, 1, 1, 1, 1, 1, 1), (5, 5, 4, 3, 2, 2, 2)])
def test_equals_win_as_often_as_one_of_them_is_drawn_before_the_others(fitness: tuple[int, ...], k: int) -> None:
    """Every ordered sample is listed; of equals, the first of it wins, as in `winner_of_sample`."""
    won = Counter(max(sample, key=lambda id: fitness[id]) for sample in itertools.permutations(range(7), k))
    expected = [Fraction(won[id], math.perm(7, k)) for id in range(7)]
    ranking, found = Ranking(np.arange(7), np.array(fitness, dtype=float)), [Fraction(0)] * 7
    for rank, share in enumerate(shares_of_ranks(7, k)):
        first, last = ranking.equals(rank)
        assert last - first == fitness.count(fitness[ranking[rank]])
        for place in range(first, last):
            found[ranking[place]] += share / (last - first)
    assert found == expected


def test_among_equals_the_draw_decides() -> None:
    ranking = Ranking(np.arange(4), np.array([0.5, 0.9, 0.9, 0.9]))
    drawn = [draw_winner(ranking, 0.5, Scripted(0.999, integer)) for integer in range(3)]  # type: ignore[arg-type]
    assert drawn == [1, 2, 3]


def test_a_tournament_of_a_million_is_that_of_the_formula() -> None:
    """50,000 of 1,000,000: the best wins every twentieth, rank 1 every twentieth of the rest, …"""
    n, k, count = 1_000_000, 50_000, 20_000
    generator = np.random.default_rng(3)
    found = Counter(draw_best_rank(n, k, generator) for _ in range(count))
    share = 1.0
    for rank in range(20):
        wins = share * k / (n - rank)
        assert_share(found[rank], count, wins)
        share -= wins


def test_a_tournament_draws_one_number() -> None:
    """So that a birth's other draws are the same whatever the population."""
    for n in (400, 5000):
        one, other = np.random.default_rng(1), np.random.default_rng(1)
        draw_winner(Ranking(np.arange(n), np.arange(n) / n), 0.05, one)
        other.random()
        assert one.random() == other.random()
