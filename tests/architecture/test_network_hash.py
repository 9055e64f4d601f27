"""The hash of a network: against a search for a one-to-one map of its weights, for thousands of small pairs, and what
equal ones compute."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from test_expansion import build, sparse_genotypes
from torch import Tensor, nn

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import CellGraph, InvalidGenotype, expand, is_valid
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.mutation import diversified, mutate
from hpcnas.architecture.network_hash import HASH_BYTES, TooSymmetric, canonical_form, cell_hash, network_hash, parts
from hpcnas.architecture.primitives import AVERAGE_POOLING, CONVOLUTION, DEPTHWISE, IDENTITY, MAX_POOLING, SEPARABLE
from hpcnas.architecture.sizes import size
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.architecture.space import HIERARCHICAL, Space
from hpcnas.training.network import Cell

torch.set_num_threads(1)

# What a cell computes, told once more and without any cleverness: every stretch of channels as wide as the cell's input
# is a term, ("input",), ("weighted", number), ("max", term) or ("avg", term).
Term = tuple[object, ...]


@dataclass(frozen=True)
class Weighted:
    """Something with weights: its operation, and the terms that it reads in the order of its channels."""

    operation: int
    reads: tuple[Term, ...]


def told(graph: CellGraph) -> tuple[list[Weighted], list[list[int]], list[Term]]:
    """All weighted operations, which of them each edge consists of, and the terms of the output."""
    weighted: list[Weighted] = []
    nodes: list[list[Term]] = [[] for _ in range(graph.nodes)]
    nodes[0] = [("input",)]
    of_edge = []
    for edge in graph.edges:
        terms, numbers = nodes[edge.source], []
        if edge.operation == DEPTHWISE:
            numbers = list(range(len(weighted), len(weighted) + len(terms)))
            weighted += [Weighted(DEPTHWISE, (term,)) for term in terms]
        elif edge.operation in (CONVOLUTION, SEPARABLE):
            numbers = [len(weighted)]
            weighted.append(Weighted(edge.operation, tuple(terms)))
        made: list[Term] = [("weighted", number) for number in numbers]
        if edge.operation in (MAX_POOLING, AVERAGE_POOLING):
            made = [("max" if edge.operation == MAX_POOLING else "avg", term) for term in terms]
        nodes[edge.target] += terms if edge.operation == IDENTITY else made
        of_edge.append(numbers)
    return weighted, of_edge, nodes[-1]


def renamed(term: Term, names: dict[int, int]) -> Term:
    if term[0] == "weighted":
        return ("weighted", names[term[1]])  # type: ignore[index]
    return term if term[0] == "input" else (term[0], renamed(term[1], names))  # type: ignore[arg-type]


def same_by_search(one: CellGraph, other: CellGraph) -> dict[int, int] | None:
    """A map of the weighted operations of one cell onto the other's that makes them the same, if there is any."""
    first, _, output = told(one)
    second, _, other_output = told(other)
    if sorted(item.operation for item in first) != sorted(item.operation for item in second):
        return None
    wanted = [Counter(item.reads) for item in second]
    names: dict[int, int] = {}

    def extend() -> bool:
        number = len(names)
        if number == len(first):
            return Counter(renamed(term, names) for term in output) == Counter(other_output)
        reads = Counter(renamed(term, names) for term in first[number].reads)
        for candidate in range(len(second)):
            if candidate not in names.values() and second[candidate].operation == first[number].operation:
                if wanted[candidate] == reads:
                    names[number] = candidate
                    if extend():
                        return True
                    del names[number]
        return False

    return names if extend() else None


def drawn(text: str, operations: str, count: int) -> list[CellGraph]:
    """Small valid cells in which only some primitives occur, each with one that is written differently and one mutant:
    many are the same or nearly so."""
    generator, space = np.random.default_rng(0), Space.parse(text)
    codes = np.array([0, *(primitives.CODES[name] for name in operations.split())])
    first = space.level(2).motifs * space.level(2).edges
    found = []
    while len(found) < count:
        array = np.concatenate(
            [generator.choice(codes, first)]
            + [
                generator.integers(space.level(level - 1).motifs + 1, size=shape.motifs * shape.edges)
                for level, shape in enumerate(space.levels[1:], start=3)
            ]
        )
        genotype = Genotype.from_array(space, array)
        family = [genotype, rewritten(genotype, generator), rewritten(mutate(genotype, generator), generator)]
        found += [expand(one) for one in family if is_valid(one)]
    return found[:count]


@pytest.mark.parametrize(
    ("text", "operations"),
    [
        ("1x4", "1x1 sep max id"),
        ("1x5", "dw id"),
        ("1x5", "1x1 max id"),
        ("1x6", "dw avg id"),
        ("1x6", "sep"),
        ("2x4/1x3", "1x1 dw max id"),
        ("2x3/1x4", "dw id"),
        ("1x3/2x3/1x3", "dw max id"),
    ],
)
def test_hashes_are_equal_where_weights_can_be_mapped_and_nowhere_else(text: str, operations: str) -> None:
    cells = drawn(text, operations, 90)
    hashes = [cell_hash(cell) for cell in cells]
    equal = different = 0
    for (one, first), (other, second) in itertools.combinations(zip(cells, hashes, strict=True), 2):
        same = same_by_search(one, other) is not None
        assert (first == second) is same, f"{one}\n{other}"
        equal, different = equal + (same and one != other), different + (not same)
    assert equal >= 4 and different > 1000  # the pairs were fit for the test


def rewritten(genotype: Genotype, generator: np.random.Generator) -> Genotype:
    """The same cell with nodes renumbered and motifs renamed at random, and noise in what is not used."""
    space = genotype.space
    renaming: dict[int, np.ndarray] = {}
    codes = np.zeros(space.edges, dtype=np.uint8)
    position = 0
    for level, shape in enumerate(space.levels, start=2):
        renaming[level] = generator.permutation(shape.motifs)
        written = {}
        for motif in range(shape.motifs):
            edges = list(genotype.edges(level, motif))
            order = topological_order(edges, shape.nodes, generator)
            matrix = np.zeros((shape.nodes, shape.nodes), dtype=np.uint8)
            for j, i, operation in edges:
                below = renaming[level - 1][operation - 1] + 1 if level > 2 else operation
                matrix[order[i], order[j]] = below
            written[renaming[level][motif]] = matrix
        for motif in range(shape.motifs):
            for i in range(1, shape.nodes):
                codes[position : position + i] = written[motif][i, :i]
                position += i
    return Genotype.from_array(space, codes)


def topological_order(edges: list[tuple[int, int, int]], nodes: int, generator: np.random.Generator) -> list[int]:
    """New numbers of the nodes: at random, but every edge goes upwards; source and sink stay."""
    left, order = set(range(1, nodes - 1)), [0]
    while left:
        ready = [node for node in sorted(left) if all(j not in left for j, i, _ in edges if i == node)]
        order.append(int(generator.choice(ready)))
        left.remove(order[-1])
    order.append(nodes - 1)
    return [order.index(node) for node in range(nodes)]


@pytest.mark.parametrize("text", ["hierarchical", "1x7", "2x5/2x4/1x3"])
def test_names_of_nodes_and_motifs_do_not_matter(text: str) -> None:
    generator, changed = np.random.default_rng(1), 0
    for genotype in sparse_genotypes(text, 120):
        if not is_valid(genotype):
            continue
        others = [rewritten(genotype, generator) for _ in range(4)]
        assert {network_hash(other) for other in others} == {network_hash(genotype)}
        changed += any(expand(other) != expand(genotype) for other in others)
    assert changed >= 3


def test_a_mutation_that_changes_the_network_changes_the_hash() -> None:
    """On genotypes of the size of the paper's, against the search for a map."""
    generator, same = np.random.default_rng(2), 0
    for _ in range(60):
        parent = diversified(HIERARCHICAL, 1000, generator)
        child = mutate(parent, generator)
        if is_valid(parent) and is_valid(child) and len(told(expand(parent))[0]) < 40:
            equal = network_hash(parent) == network_hash(child)
            assert equal is (same_by_search(expand(parent), expand(child)) is not None)
            same += equal
    assert same > 10


def test_motif_5_of_the_paper_whichever_of_its_two_nodes_carries_the_edges() -> None:
    text = named("paper").text()
    assert 'M5 = ["1-2 id", "1-3 sep", "2-3 id", "1-4 id", "2-4 sep", "3-4 sep"]' in text
    variants = []
    for third, fourth in itertools.product((("sep", "id"), ("id", "sep")), repeat=2):
        edges = f'"1-2 id", "1-3 {third[0]}", "2-3 {third[1]}", "1-4 {fourth[0]}", "2-4 {fourth[1]}", "3-4 sep"'
        variant = text.replace('"1-2 id", "1-3 sep", "2-3 id", "1-4 id", "2-4 sep", "3-4 sep"', edges)
        variants.append(Genotype.from_text(variant))
    assert len(set(variants)) == 4
    assert len({network_hash(variant) for variant in variants}) == 1


# How far "the same" goes


def same(one: str, other: str) -> bool:
    """Of two flat cells of five nodes."""
    return network_hash(build("1x5", [one])) == network_hash(build("1x5", [other]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1-5 sep", "1-2 id, 2-3 id, 3-5 sep"),  # a node with one input, an identity, is its predecessor
        ("1-2 sep, 2-5 1x1", "1-2 sep, 2-4 id, 4-5 1x1"),
        ("1-2 dw, 1-3 sep, 2-5 id, 3-5 id", "1-2 sep, 1-3 dw, 2-5 id, 3-5 id"),
        ("1-2 sep, 1-5 id, 2-5 id", "1-2 sep, 1-3 id, 2-3 id, 3-5 id"),  # a concatenation in a concatenation
        ("1-2 max, 2-3 sep, 2-4 1x1, 3-5 id, 4-5 id", "1-2 max, 1-3 max, 2-4 sep, 3-5 1x1, 4-5 id"),  # equal poolings
        ("1-2 sep, 2-5 max, 1-5 max", "1-2 sep, 1-3 id, 2-3 id, 3-5 max"),  # a pooling of parts, or parts of a pooling
        ("1-2 sep, 2-5 dw, 1-5 dw", "1-2 sep, 1-3 id, 2-3 id, 3-5 dw"),  # filters are of channels
    ],
)
def test_the_same(one: str, other: str) -> None:
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1-5 1x1", "1-5 sep"),
        ("1-5 max", "1-5 avg"),
        ("1-2 max, 2-5 avg", "1-2 avg, 2-5 max"),
        ("1-5 max", "1-2 max, 1-3 max, 2-5 id, 3-5 id"),  # twice the channels
        ("1-2 sep, 2-5 id", "1-2 sep, 1-3 sep, 2-5 id, 3-5 id"),  # two convolutions
        ("1-2 sep, 1-3 sep, 2-5 1x1, 3-5 1x1", "1-2 sep, 2-3 id, 2-5 1x1, 3-5 1x1"),  # two read one, or one each
        ("1-2 sep, 2-5 1x1, 1-5 1x1", "1-2 sep, 1-3 id, 2-3 id, 3-5 1x1"),  # two weights of two, or one of both
        ("1-2 1x1, 2-5 dw", "1-2 dw, 2-5 1x1"),
        ("1-2 1x1, 1-3 1x1, 2-5 1x1, 3-5 1x1", "1-2 1x1, 1-3 1x1, 2-4 id, 3-4 id, 4-5 1x1"),  # twins go on, or meet
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    assert not same(one, other)


def test_twins_that_meet_and_twins_that_go_on_have_other_sizes_and_other_hashes() -> None:
    """Version 1 of the hash joined these, and networks of the paper's spaces alike."""
    skeleton = Skeleton(3, 32, 32, 10, 16, (1, 1, 1), "plain")
    go_on, meet = (
        build("1x5", [edges])
        for edges in ("1-2 1x1, 1-3 1x1, 2-5 1x1, 3-5 1x1", "1-2 1x1, 1-3 1x1, 2-4 id, 3-4 id, 4-5 1x1")
    )
    assert [size(expand(one), skeleton).parameters for one in (go_on, meet)] == [39_162, 31_274]
    assert network_hash(go_on, 1) == network_hash(meet, 1)
    assert network_hash(go_on) != network_hash(meet)
    others = ["1-2 1x1, 1-3 1x1, 2-5 dw, 3-5 dw", "1-2 1x1, 1-3 1x1, 2-4 id, 3-4 id, 4-5 dw"]  # alike: of each part
    assert same(*others)
    deep = [  # after the second convolution, after the first, and before both
        "1-2 sep, 1-3 sep, 2-4 1x1, 3-5 1x1, 4-6 dw, 5-6 dw, 6-7 sep",
        "1-2 sep, 1-3 sep, 2-4 1x1, 3-5 1x1, 4-7 sep, 5-7 sep",
        "1-2 sep, 1-3 sep, 2-4 id, 3-4 id, 4-5 1x1, 5-7 sep",
        "1-2 sep, 1-3 sep, 2-4 1x1, 3-5 1x1, 4-6 id, 5-6 id, 6-7 sep",
        "1-2 sep, 1-3 sep, 2-4 id, 3-4 id, 4-5 1x1, 4-6 1x1, 5-7 sep, 6-7 sep",
    ]
    assert len({network_hash(build("1x7", [edges])) for edges in deep}) == 5


def test_there_is_no_hash_of_no_network() -> None:
    with pytest.raises(InvalidGenotype):
        network_hash(Genotype(HIERARCHICAL, bytes(HIERARCHICAL.edges)))


# Symmetry and size


def star(branches: int, *operations: str) -> Genotype:
    """A cell of that many equal chains side by side."""
    nodes = branches * (len(operations) - 1) + 2
    edges, node = [], 2
    for _ in range(branches):
        path = [1, *range(node, node + len(operations) - 1), nodes]
        edges += [f"{j}-{i} {name}" for (j, i), name in zip(itertools.pairwise(path), operations, strict=True)]
        node += len(operations) - 1
    return build(f"1x{nodes}", [", ".join(edges)])


def test_many_equal_branches_take_no_time() -> None:
    generator = np.random.default_rng(5)
    for one, other in (
        (star(20, "dw", "sep", "1x1"), star(20, "sep", "dw", "1x1")),
        (star(20, "dw", "sep"), star(19, "dw", "sep")),
    ):
        assert canonical_form(parts(expand(one))) != canonical_form(parts(expand(other)))  # and is not too symmetric
        assert network_hash(one) != network_hash(other)
        assert network_hash(rewritten(one, generator)) == network_hash(one)


def test_symmetries_that_are_no_twins_are_found() -> None:
    """Rings of convolutions that two others read each: of six, or two of three, which look alike to refinement."""

    def rings(*lengths: int) -> Genotype:
        count, edges, sinks = sum(lengths), [], []
        start = 2
        for length in lengths:
            ring = range(start, start + length)
            edges += [f"1-{node} sep" for node in ring]
            sinks += [(ring[place], ring[(place + 1) % length]) for place in range(length)]
            start += length
        for number, (one, other) in enumerate(sinks, start=start):
            edges += [f"{one}-{number} id", f"{other}-{number} id", f"{number}-{2 * count + 2} 1x1"]
        return build(f"1x{2 * count + 2}", [", ".join(edges)])

    generator = np.random.default_rng(3)
    one, two = rings(6), rings(3, 3)
    assert len(canonical_form(parts(expand(one)))) == len(canonical_form(parts(expand(two))))
    assert network_hash(one) != network_hash(two)
    for cell in (one, two):
        assert {network_hash(rewritten(cell, generator)) for _ in range(5)} == {network_hash(cell)}


def test_a_cell_too_wide_to_be_taken_apart_is_compared_as_it_is_written() -> None:
    """2^13 depthwise parts at its sink."""
    nodes = 15
    edges = [f"{j}-{i} dw" for i in range(2, nodes + 1) for j in range(1, i)]
    wide, other = (build(f"1x{nodes}", [", ".join(edges[skip:])]) for skip in (0, 1))
    assert len(network_hash(wide)) == HASH_BYTES
    assert network_hash(wide) != network_hash(other)


def full(nodes: int, name: Callable[[int, int], str]) -> Genotype:
    """A cell with every edge that it can have."""
    edges = [f"{j}-{i} {name(j, i)}" for i in range(2, nodes + 1) for j in range(1, i)]
    return build(f"1x{nodes}", [", ".join(edges)])


def test_how_many_parts_there_would_be_is_known_before_they_are_made() -> None:
    """2^21 copies of the input at the last node but one, and a depthwise convolution of each."""
    cell = full(24, lambda j, i: "dw" if (j, i) == (23, 24) else "id")
    graph = expand(cell)
    tracemalloc.start()
    with pytest.raises(TooSymmetric):
        parts(graph)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 1_000_000
    assert network_hash(cell) != network_hash(full(24, lambda j, i: "dw" if (j, i) == (22, 24) else "id"))


def test_maps_of_very_many_poolings_are_compared_as_they_are_written() -> None:
    cell = full(30, lambda j, i: "max" if (i + j) % 2 else "avg")
    with pytest.raises(TooSymmetric):
        parts(expand(cell))
    assert network_hash(cell) == network_hash(full(30, lambda j, i: "max" if (i + j) % 2 else "avg"))


def test_the_hash_of_a_network_is_what_it_always_was() -> None:
    """Kept in the files of runs: were it another, their networks would no longer be known."""
    load = "from hpcnas.architecture import genotype as g, network_hash as h"
    code = f"{load}; print(h.network_hash(g.named('paper')).hex())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == network_hash(named("paper")).hex() == "6e16439200555f6655e0a9677bf60acb"


# What equal ones compute


def outputs(cell: Cell, images: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = cell.double().train()(images)
    return found


def copy_weights(source: Cell, target: Cell, names: dict[int, int], channels: int) -> None:
    """Gives the target the source's weights, weighted operation by weighted operation."""
    weighted, edges, _ = told(source.graph)
    others, other_edges, _ = told(target.graph)
    place = {number: (edge, index) for edge, numbers in enumerate(edges) for index, number in enumerate(numbers)}
    for edge, numbers in enumerate(other_edges):
        for index, number in enumerate(numbers):
            (origin,) = [one for one, other in names.items() if other == number]
            theirs, rows = place[origin], slice(index * channels, (index + 1) * channels)
            from_rows = slice(theirs[1] * channels, (theirs[1] + 1) * channels)
            reads = [renamed(term, names) for term in weighted[origin].reads]
            columns: list[int] = []
            for term in others[number].reads:  # where the source reads what the target reads here
                columns.append(next(p for p, read in enumerate(reads) if read == term and p not in columns))
            inputs = [column * channels + channel for column in columns for channel in range(channels)]
            pairs = zip(layers(source.edges[theirs[0]]), layers(target.edges[edge]), strict=True)
            for one, other in pairs:
                alone = others[number].operation == DEPTHWISE
                for name, parameter in other.named_parameters():
                    values = one.get_parameter(name).data
                    if alone or parameter.dim() == 1:  # of one channel each
                        parameter.data[rows] = values[from_rows]
                    elif parameter.shape[1] == 1 and parameter.shape[0] == len(inputs) and parameter.shape[2] == 3:
                        parameter.data[:] = values[inputs]  # the depthwise filters of a separable convolution
                    else:
                        parameter.data[:] = values[:, inputs]


def layers(module: nn.Module) -> Iterator[nn.Module]:
    return (layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d))


def test_networks_of_equal_hash_compute_the_same_with_their_weights_mapped() -> None:
    generator, channels, compared = np.random.default_rng(4), 2, 0
    images = torch.randn(3, channels, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cells = [*drawn("1x5", "1x1 dw max id", 90), *drawn("2x4/1x3", "sep dw avg id", 90)]
    by_hash: dict[bytes, list[CellGraph]] = {}
    for cell in cells:
        by_hash.setdefault(cell_hash(cell), []).append(cell)
    pairs = [pair for equal in by_hash.values() for pair in itertools.combinations(equal, 2)]
    for genotype in sparse_genotypes("hierarchical", 40):
        if is_valid(genotype) and len(expand(genotype).edges) < 40:
            pairs.append((expand(genotype), expand(rewritten(genotype, generator))))
    for one, other in pairs:
        if one == other:
            continue
        names = same_by_search(one, other)
        assert names is not None
        first, second = Cell(one, channels).double(), Cell(other, channels).double()
        copy_weights(first, second, names, channels)
        expected = [renamed(term, names) for term in told(one)[2]]
        order: list[int] = []
        for term in told(other)[2]:
            order.append(next(p for p, made in enumerate(expected) if made == term and p not in order))
        found = outputs(first, images).unflatten(1, (-1, channels))[:, order].flatten(1, 2)
        torch.testing.assert_close(outputs(second, images), found, rtol=1e-9, atol=1e-11)
        compared += 1
    assert compared > 10
