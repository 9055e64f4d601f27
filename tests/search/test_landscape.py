"""The synthetic landscape: its terms by hand, its hills by enumeration."""

from __future__ import annotations

import hashlib
import itertools
import math

import numpy as np
import pytest
from test_expansion import build

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import CellGraph, Edge, expand, is_valid
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.mutation import diversified
from hpcnas.architecture.primitives import Primitive
from hpcnas.architecture.space import HIERARCHICAL, Space
from hpcnas.search.landscape import balance, depth, fit, true_fitness

CODES = {name: code for code, name in enumerate(primitives.NAMES, start=1)}


def drawn(into: str, out: str) -> float:
    """The number of a node with these operations, as the documentation says."""
    before, after = (bytes(sorted(CODES[name] for name in names.split())) for names in (into, out))
    digest = hashlib.blake2b(before + b"\0" + after, digest_size=4).hexdigest()
    return int(digest, 16) / 0xFFFFFFFF * 2 - 1


@pytest.mark.parametrize(
    ("edges", "longest", "separable", "identity"),
    [
        ("1-3 id", 0, 0, 1),
        ("1-3 sep", 1, 1, 0),
        ("1-3 avg", 0, 0, 0),
        ("1-2 1x1, 2-3 dw", 2, 0, 0),
        ("1-2 sep, 2-3 sep, 1-3 id", 2, 2 / 3, 1 / 3),
        ("1-2 sep, 2-3 max, 1-3 1x1", 1, 1 / 3, 0),
    ],
)
def test_depth_and_balance_by_hand(edges: str, longest: int, separable: float, identity: float) -> None:
    graph = expand(build("1x3", [edges]))
    assert depth(graph) == pytest.approx(1 - math.exp(-longest / 4), rel=1e-12)
    assert balance(graph) == pytest.approx(math.exp(-8 * (separable - 0.5) ** 2 - 8 * (identity - 0.2) ** 2), rel=1e-12)


def test_what_suits_what_by_hand() -> None:
    graph = expand(build("1x3", ["1-2 sep, 2-3 max, 1-3 1x1"]))
    expected = (drawn("", "sep 1x1") + drawn("sep", "max") + drawn("max 1x1", "")) / 3
    assert fit(graph) == pytest.approx(expected, rel=1e-12)


def test_a_primitive_of_a_plugin_goes_by_its_name_whatever_number_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (
        Primitive(name, True, lambda inputs, outputs: 0, lambda inputs, outputs: 0, lambda inputs, outputs: None)
        for name in "ab"
    )
    found = []
    for order, code in (([a, b], 7), ([b, a], 8)):
        monkeypatch.setattr(primitives, "ADDED", order)
        found.append(true_fitness(CellGraph(3, (Edge(0, 1, code), Edge(1, 2, 3)))))
        found.append(true_fitness(CellGraph(3, (Edge(0, 1, 15 - code), Edge(1, 2, 3)))))
    assert found[:2] == found[2:] and found[0] != found[1]


def test_the_fitness_is_the_sum_of_its_terms() -> None:
    graph = expand(named("paper"))
    expected = 0.82 + 0.05 * depth(graph) + 0.03 * balance(graph) + 0.04 * fit(graph)
    assert true_fitness(graph) == pytest.approx(expected, rel=1e-12)
    assert true_fitness(graph) == pytest.approx(0.9039605494, abs=1e-9)  # may change when the landscape is meant to


def test_the_numbering_of_nodes_does_not_matter() -> None:
    """Two nodes between source and sink, in either order."""
    one = CellGraph(4, (Edge(0, 1, 3), Edge(0, 2, 6), Edge(2, 3, 1), Edge(1, 3, 4)))
    other = CellGraph(4, (Edge(0, 1, 6), Edge(0, 2, 3), Edge(1, 3, 1), Edge(2, 3, 4)))
    assert true_fitness(one) == true_fitness(other)


def test_random_cells_differ_and_have_what_the_page_says() -> None:
    generator = np.random.default_rng(0)
    genotypes = (diversified(HIERARCHICAL, 300, generator) for _ in range(200))
    found = [true_fitness(expand(genotype)) for genotype in genotypes if is_valid(genotype)]
    assert 0.83 < min(found) < 0.86 and 0.89 < max(found) < 0.91
    assert len(set(found)) > 190


def test_there_are_better_and_worse_cells_and_hills_of_different_heights() -> None:
    """All 330 valid cells of three nodes: a hill is a cell that every single mutation makes worse."""
    space, fitness = Space.parse("1x3"), {}
    for codes in itertools.product(range(7), repeat=3):
        genotype = Genotype(space, bytes(codes))
        if is_valid(genotype):
            fitness[codes] = true_fitness(expand(genotype))
    neighbours = {
        codes: [(*codes[:place], code, *codes[place + 1 :]) for place in range(3) for code in range(7)]
        for codes in fitness
    }
    hills = [
        codes
        for codes in fitness
        if all(fitness.get(other, 0.0) < fitness[codes] for other in neighbours[codes] if other != codes)
    ]
    assert len(fitness) == 330
    assert sorted(hills) == [(2, 3, 2), (2, 4, 3), (3, 1, 5), (3, 5, 1), (5, 3, 1)]
    assert max(fitness, key=lambda codes: fitness[codes]) == (2, 4, 3)
    assert len({round(fitness[codes], 3) for codes in hills}) == 5
