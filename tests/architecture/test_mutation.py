"""Mutation (eq. 4) by counting what many draws give, and initialisation (§3.2).

Frequencies are held against their expectation within five standard deviations; seeds are fixed.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
from test_expansion import build
from test_genotype import random_genotype

from hpcnas.architecture.expansion import is_valid
from hpcnas.architecture.genotype import Genotype, edge_index, operation_names
from hpcnas.architecture.mutation import (
    INITIAL_MUTATIONS,
    NothingAllowed,
    diversified,
    draw_mutation,
    mutate,
    redraw_until,
    trivial,
)
from hpcnas.architecture.space import FLAT, HIERARCHICAL, Space

DEEP = Space.parse("3x4/2x5/1x3")  # L = 4, another number of everything at each level
SPACES = {"hierarchical": HIERARCHICAL, "flat": FLAT, "deep": DEEP}
DRAWS = 30_000


def assert_share(count: int, total: int, probability: float) -> None:
    """Fails unless `count` of `total` draws fits the probability, within five standard deviations."""
    deviation = math.sqrt(total * probability * (1 - probability))
    assert abs(count - total * probability) <= 5 * deviation, f"{count} of {total}, expected a share of {probability}"


def assert_uniform(drawn: Iterable[object], values: Iterable[object]) -> None:
    """Fails unless each of `values`, and nothing else, was drawn about equally often."""
    counts, expected = Counter(drawn), set(values)
    assert set(counts) == expected
    for value in expected:
        assert_share(counts[value], counts.total(), 1 / len(expected))


Mutation = tuple[int, int, int, int, int]  # level, motif, successor, predecessor, operation; counted from 0


@functools.cache
def drawn(name: str) -> list[Mutation]:
    """Many mutations of a space, taken apart."""
    space, generator = SPACES[name], np.random.default_rng(0)
    places = {
        edge_index(space, level, motif, successor, predecessor): (level, motif, successor, predecessor)
        for level, shape in enumerate(space.levels, start=2)
        for motif in range(shape.motifs)
        for successor in range(1, shape.nodes)
        for predecessor in range(successor)
    }
    draws = (draw_mutation(space, generator) for _ in range(DRAWS))
    return [(*places[index], operation) for index, operation in draws]


# What a mutation draws


@pytest.mark.parametrize("name", SPACES)
def test_the_level_is_uniform(name: str) -> None:
    assert_uniform((level for level, *_ in drawn(name)), range(2, SPACES[name].top + 1))


@pytest.mark.parametrize("name", SPACES)
def test_the_motif_is_uniform_in_its_level(name: str) -> None:
    for number, level in enumerate(SPACES[name].levels, start=2):
        assert_uniform((draw[1] for draw in drawn(name) if draw[0] == number), range(level.motifs))


@pytest.mark.parametrize("name", SPACES)
def test_the_successor_is_uniform_over_all_nodes_but_the_first(name: str) -> None:
    """So edges are not: of 11 nodes the edge 1-2 is drawn in one of 10 mutations, each edge into 11 in one of 100."""
    for number, level in enumerate(SPACES[name].levels, start=2):
        assert_uniform((draw[2] for draw in drawn(name) if draw[0] == number), range(1, level.nodes))


@pytest.mark.parametrize("name", SPACES)
def test_the_predecessor_is_uniform_over_the_nodes_before_its_successor(name: str) -> None:
    for number, level in enumerate(SPACES[name].levels, start=2):
        for successor in range(1, level.nodes):
            chosen = (draw[3] for draw in drawn(name) if draw[0] == number and draw[2] == successor)
            assert_uniform(chosen, range(successor))


@pytest.mark.parametrize("name", SPACES)
def test_the_operation_is_uniform_over_the_level_below_and_none(name: str) -> None:
    for number in range(2, SPACES[name].top + 1):
        operations = range(len(operation_names(SPACES[name], number)) + 1)
        assert_uniform((draw[4] for draw in drawn(name) if draw[0] == number), operations)


def test_the_draws_do_not_depend_on_each_other() -> None:
    """Place and operation together, in a space so small that every pair is drawn often."""
    generator = np.random.default_rng(0)
    space = Space.parse("1x3")
    counts = Counter(draw_mutation(space, generator) for _ in range(DRAWS))
    assert set(counts) == set(itertools.product(range(3), range(7)))
    for (index, _), count in counts.items():
        assert_share(count, DRAWS, (1 / 2, 1 / 4, 1 / 4)[index] / 7)  # edges 1-2, 1-3, 2-3


# What a mutation gives


@pytest.mark.parametrize("name", SPACES)
def test_a_child_differs_in_one_entry_at_most(name: str) -> None:
    generator = np.random.default_rng(0)
    parent = random_genotype(SPACES[name], generator)
    changes = [
        sum(old != new for old, new in zip(parent.codes, mutate(parent, generator).codes, strict=True))
        for _ in range(2000)
    ]
    assert set(changes) == {0, 1}


def test_a_child_may_equal_its_parent() -> None:
    """The new operation is drawn from all seven, the old one among them."""
    generator = np.random.default_rng(0)
    parent = random_genotype(HIERARCHICAL, generator)
    assert_share(sum(mutate(parent, generator) == parent for _ in range(5000)), 5000, 1 / 7)


def test_mutation_leaves_the_parent_alone() -> None:
    parent = trivial(HIERARCHICAL)
    before = bytes(bytearray(parent.codes))
    children = {mutate(parent, np.random.default_rng(seed)) for seed in range(20)}
    assert len(children) > 10
    assert parent.codes == before == trivial(HIERARCHICAL).codes


def test_the_same_generator_gives_the_same_child() -> None:
    parent = trivial(HIERARCHICAL)
    first, second = np.random.default_rng(3), np.random.default_rng(3)
    assert [mutate(parent, first) for _ in range(20)] == [mutate(parent, second) for _ in range(20)]


# Where evolution starts


def test_the_trivial_hierarchical_genotype() -> None:
    chain = "1-2 id, 2-3 id, 3-4 id"
    assert trivial(HIERARCHICAL) == build("6x4/1x5", [chain] * 6, ["1-2 M1, 2-3 M1, 3-4 M1, 4-5 M1"])


def test_the_trivial_flat_genotype() -> None:
    chain = "1-2 id, 2-3 id, 3-4 id, 4-5 id, 5-6 id, 6-7 id, 7-8 id, 8-9 id, 9-10 id, 10-11 id"
    assert trivial(FLAT) == build("1x11", [chain])


def test_the_trivial_genotype_of_four_levels() -> None:
    expected = build("2x3/2x2/1x3", ["1-2 id, 2-3 id"] * 2, ["1-2 M1"] * 2, ["1-2 M1, 2-3 M1"])
    assert trivial(expected.space) == expected


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_diversifying_is_mutating_many_times(space: Space) -> None:
    first, second = np.random.default_rng(5), np.random.default_rng(5)
    genotype = trivial(space)
    for _ in range(100):
        genotype = mutate(genotype, first)
    assert diversified(space, 100, second) == genotype


def test_no_mutations_leave_the_trivial_genotype() -> None:
    assert diversified(HIERARCHICAL, 0, np.random.default_rng(0)) == trivial(HIERARCHICAL)


def test_the_papers_thousand_mutations_leave_no_trace_of_the_chains() -> None:
    assert INITIAL_MUTATIONS == 1000
    generator = np.random.default_rng(0)
    genotypes = [diversified(HIERARCHICAL, INITIAL_MUTATIONS, generator) for _ in range(100)]
    assert_uniform((code for genotype in genotypes for code in genotype.codes), range(7))


# How many of them are invalid


def broken_share(nodes: int, missing: float) -> float:
    """Probability that no path leads through a motif each of whose edges is missing with this probability."""
    pairs = [(j, i) for i in range(1, nodes) for j in range(i)]
    share = 0.0
    for present in itertools.product((True, False), repeat=len(pairs)):
        reached = {0}
        for (j, i), there in zip(pairs, present, strict=True):
            if there and j in reached:
                reached.add(i)
        if nodes - 1 not in reached:
            share += math.prod(1 - missing if there else missing for there in present)
    return share


def invalid_share(space: Space) -> float:
    """Exact share of invalid ones among genotypes of three levels with every entry uniform: sum over dead motifs."""
    lower, upper = space.levels
    dead = broken_share(lower.nodes, 1 / 7)
    return sum(
        math.comb(lower.motifs, count)
        * dead**count
        * (1 - dead) ** (lower.motifs - count)
        * broken_share(upper.nodes, (1 + count) / (lower.motifs + 1))
        for count in range(lower.motifs + 1)
    )


def test_the_share_of_invalid_initial_genotypes() -> None:
    space, generator = Space.parse("2x3/1x3"), np.random.default_rng(0)
    assert invalid_share(space) == pytest.approx(0.2161, abs=1e-4)
    invalid = sum(not is_valid(diversified(space, 150, generator)) for _ in range(1500))
    assert_share(invalid, 1500, invalid_share(space))


def test_the_share_of_invalid_genotypes_in_the_papers_space() -> None:
    generator = np.random.default_rng(0)
    assert invalid_share(HIERARCHICAL) == pytest.approx(0.0027, abs=1e-4)
    invalid = sum(not is_valid(random_genotype(HIERARCHICAL, generator)) for _ in range(20_000))
    assert_share(invalid, 20_000, invalid_share(HIERARCHICAL))


# Drawing until it fits


def test_redrawing_gives_the_first_allowed_genotype_and_counts_the_others() -> None:
    stream = [Genotype(Space.parse("1x2"), bytes([code])) for code in (0, 1, 2, 3, 4)]
    draws = iter(stream)
    assert redraw_until(lambda: next(draws), lambda genotype: genotype.codes[0] >= 3) == (stream[3], 3)
    assert next(draws) == stream[4]  # nothing was drawn for nothing


def test_what_is_allowed_at_once_is_not_redrawn() -> None:
    assert redraw_until(lambda: trivial(FLAT), is_valid) == (trivial(FLAT), 0)


def test_redrawing_ends() -> None:
    tries: list[Genotype] = []

    def refuse(genotype: Genotype) -> bool:
        tries.append(genotype)
        return False

    with pytest.raises(NothingAllowed, match="none of 25 drawn was; allow larger networks"):
        redraw_until(lambda: trivial(FLAT), refuse, most=25)
    assert len(tries) == 25


def test_a_space_that_chooses_primitives_draws_these_alone() -> None:
    space, generator = Space.parse("1x4:sep,id"), np.random.default_rng(0)
    parent = trivial(space)
    assert {code for _ in range(300) for code in mutate(parent, generator).codes} == {0, 3, 6}
    assert {code for _ in range(9) for code in diversified(space, 50, generator).codes} == {0, 3, 6}


def test_where_identity_is_left_out_the_first_primitive_begins() -> None:
    assert trivial(Space.parse("1x3:sep,max")).codes == bytes([3, 0, 3])
    assert trivial(Space.parse("1x3:max,id")).codes == bytes([6, 0, 6])
