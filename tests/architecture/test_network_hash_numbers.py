"""The hash of a network against what networks compute: numbers, and no graphs.

A cell is computed with numbers for feature maps. All that has weights gets a function from a list that goes by its
operation; functions do not mind the order of what they read. They are given out in all ways, and the least output is
kept: two cells share it where the weights of one can be given to the other so that it computes the same, and nowhere
else, but by an accident of 50 bits. Sums are exact (`math.fsum`), so that not even the last bit depends on an order.

HPCNAS_TORTURE=1   more and larger cells: 100 million pairs instead of a million, in some minutes (`make torture`)
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from test_expansion import build
from test_network_hash import rewritten

from hpcnas.architecture.expansion import CellGraph, expand, is_valid
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.mutation import diversified, mutate
from hpcnas.architecture.network_hash import cell_hash, network_hash
from hpcnas.architecture.primitives import AVERAGE_POOLING, CODES, DEPTHWISE, IDENTITY, MAX_POOLING
from hpcnas.architecture.sizes import size
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.architecture.space import Space

TORTURE = os.environ.get("HPCNAS_TORTURE") == "1"
CELLS = 20_000 if TORTURE else 1500  # of each space
MOST_WAYS = 5040 if TORTURE else 120  # of giving out the functions
SKELETON = Skeleton(3, 32, 32, 10, 16, (1, 1, 1), "plain")
POOLINGS = {MAX_POOLING: 0.3, AVERAGE_POOLING: 1.9}


@functools.cache
def weights(operation: int, number: int) -> tuple[float, float, float]:
    """Those of function `number` in the list of an operation."""
    first, second, third = np.random.default_rng((operation, number)).uniform(0.5, 2.5, 3).tolist()
    return first, second, third


def applied(operation: int, number: int, inputs: Iterable[float]) -> float:
    bias, slope, gain = weights(operation, number)
    return math.sin(bias + gain * math.fsum([math.cos(slope * value + bias) for value in inputs]))


def computed(graph: CellGraph, given: Sequence[int]) -> tuple[float, list[int]]:
    """What a cell gives where the n-th that has weights gets function `given[n]`, and the operations of those that do.
    Where fewer are given than needed, the others get the first."""
    nodes: list[list[float]] = [[] for _ in range(graph.nodes)]
    nodes[0] = [0.4142]
    weighted: list[int] = []
    for edge in graph.edges:
        before = made = nodes[edge.source]
        if edge.operation in POOLINGS:
            made = [math.sin(POOLINGS[edge.operation] + 1.3 * value) for value in before]
        elif edge.operation != IDENTITY:
            made = []
            for inputs in [[value] for value in before] if edge.operation == DEPTHWISE else [before]:
                number = given[len(weighted)] if len(weighted) < len(given) else 0
                made.append(applied(edge.operation, number, inputs))
                weighted.append(edge.operation)
        nodes[edge.target] = nodes[edge.target] + made
    return math.fsum(math.sin(1.7 * value + 0.2) for value in nodes[-1]), weighted


@functools.cache
def least_output(graph: CellGraph) -> float | None:
    """That of all ways to give out the functions; None where there are too many."""
    weighted = computed(graph, ())[1]
    places = [[place for place, one in enumerate(weighted) if one == kind] for kind in sorted(set(weighted))]
    if math.prod(math.factorial(len(them)) for them in places) > MOST_WAYS:
        return None
    least = math.inf
    for orders in itertools.product(*(itertools.permutations(range(len(them))) for them in places)):
        given = [0] * len(weighted)
        for them, order in zip(places, orders, strict=True):
            for place, number in zip(them, order, strict=True):
                given[place] = number
        least = min(least, computed(graph, given)[0])
    return least


def families(text: str, operations: str, count: int) -> list[CellGraph]:
    """That many cells whose least output can be had: random ones of few operations, their mutants, and both written in
    another way. Half of them are different networks."""
    generator, space = np.random.default_rng(0), Space.parse(text)
    lowest = space.level(2).motifs * space.level(2).edges
    codes = np.array([0, *(CODES[name] for name in operations.split())])
    found: list[CellGraph] = []
    while len(found) < count:
        array = np.concatenate(
            [generator.choice(codes, lowest)]
            + [
                generator.integers(space.level(level - 1).motifs + 1, size=shape.motifs * shape.edges)
                for level, shape in enumerate(space.levels[1:], start=3)
            ]
        ) * (generator.random(space.edges) < generator.uniform(0.3, 1.0))
        genotype = Genotype.from_array(space, array)
        for one in (genotype, mutate(genotype, generator)):
            if is_valid(one):
                graphs = {expand(one), expand(rewritten(one, generator))}
                found += [graph for graph in graphs if least_output(graph) is not None]
    return found[:count]


@dataclass(frozen=True)
class Pairs:
    """How often the hash and the numbers agree on pairs of cells that are not written in the same way."""

    pairs: int
    equal: int  # by both
    false_equals: int
    false_differents: int


def compared(cells: Sequence[CellGraph], version: int) -> Pairs:
    """All pairs of these. Equal ones must have equal numbers of parameters too."""
    hashes = {cell: cell_hash(cell, version) for cell in cells}  # of a cell that is there twice: once
    least = {cell: least_output(cell) for cell in hashes}
    sizes = {cell: size(cell, SKELETON) for cell in hashes}

    def within(groups: Iterable[int]) -> int:
        return sum(math.comb(times, 2) for times in groups)

    equal_hash, equal_output, both, sized = (
        within(Counter(keys).values())
        for keys in (
            hashes.values(),
            least.values(),
            zip(hashes.values(), least.values(), strict=True),
            zip(hashes.values(), least.values(), sizes.values(), strict=True),
        )
    )
    assert sized == both
    return Pairs(math.comb(len(hashes), 2), both, equal_hash - both, equal_output - both)


SPACES = [
    ("1x5", "1x1 sep max id"),
    ("1x5", "dw id"),
    ("1x6", "1x1 id"),
    ("2x4/1x4", "1x1 dw max id"),
    ("3x3/1x4", "dw sep id"),
    ("3x3/1x4", "max id"),
    ("1x3/2x3/1x3", "dw sep id"),
]


@pytest.mark.parametrize(("text", "operations"), SPACES)
def test_hashes_are_equal_where_networks_compute_the_same_and_nowhere_else(text: str, operations: str) -> None:
    cells = families(text, operations, CELLS)
    found = compared(cells, version=2)
    print(f"{text} of {operations}: {found}")
    assert (found.false_equals, found.false_differents) == (0, 0)
    assert found.equal > 50  # of pairs that are written differently


def test_version_1_joined_networks_that_differ() -> None:
    """So the test above can fail."""
    found = [compared(families(text, operations, 1500), version=1) for text, operations in SPACES]
    assert sum(one.false_equals for one in found) >= 3
    assert sum(one.false_differents for one in found) == 0


def test_the_numbers_tell_apart_what_they_should() -> None:
    """By hand: twins that meet, and twins that go on side by side."""
    side_by_side, met, renamed = (
        expand(build("1x5", [edges]))
        for edges in (
            "1-2 1x1, 1-3 1x1, 2-5 1x1, 3-5 1x1",
            "1-2 1x1, 1-3 1x1, 2-4 id, 3-4 id, 4-5 1x1",
            "1-3 1x1, 1-4 1x1, 4-5 1x1, 3-5 1x1",
        )
    )
    assert least_output(side_by_side) == least_output(renamed) != least_output(met)


@pytest.mark.parametrize("text", ["hierarchical", "flat", "2x4/1x4", "3x3/1x4"])
def test_equal_hashes_of_larger_networks(text: str) -> None:
    """As searches meet them: a family of a few thousand births. All that has weights gets the first function of its
    list, which takes no time, and by which networks that are the same compute the same."""
    generator, space = np.random.default_rng(7), Space.parse(text)
    seen: dict[bytes, tuple[float, int, int]] = {}
    equal = 0
    population = [diversified(space, 300, generator) for _ in range(20)]
    for birth in range(20_000 if TORTURE else 1000):
        child = mutate(population[int(generator.integers(len(population)))], generator)
        if not is_valid(child):
            continue
        population.append(child)
        graph = expand(child)
        cost = size(graph, SKELETON)
        told = (computed(graph, ())[0], cost.parameters, cost.flops)
        hashed = network_hash(child)
        equal += hashed in seen
        assert seen.setdefault(hashed, told) == told, child.text()
        if birth % 10 == 0:
            assert network_hash(rewritten(child, generator)) == hashed
    print(f"{text}: {equal} births of known networks, none another")
    assert equal > 100
