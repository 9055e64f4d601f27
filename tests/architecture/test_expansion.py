"""The canonical graph: what is pruned, how motifs are copied and joined, the order of nodes and edges."""

from __future__ import annotations

import numpy as np
import pytest
from test_genotype import random_genotype

from hpcnas.architecture import expansion
from hpcnas.architecture.expansion import CellGraph, Edge, InvalidGenotype, expand, is_valid, live_edges
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.mutation import trivial
from hpcnas.architecture.primitives import AVERAGE_POOLING, CONVOLUTION, DEPTHWISE, IDENTITY, MAX_POOLING, SEPARABLE
from hpcnas.architecture.space import FLAT, HIERARCHICAL, Space


def build(space: str, *levels: list[str]) -> Genotype:
    """A genotype from the edges of its motifs, lowest level first: `build("1x3", ["1-2 id, 2-3 id"])`."""
    text = f'format = "hpcnas genotype 1"\nspace = "{space}"\n'
    for level, motifs in enumerate(levels, start=2):
        text += f"[level-{level}]\n"
        for number, edges in enumerate(motifs, start=1):
            text += f"M{number} = {[edge.strip() for edge in edges.split(',') if edge]}\n"
    return Genotype.from_text(text)


def sparse_genotypes(text: str, count: int = 100) -> list[Genotype]:
    """Random genotypes of which about half of the edges are none: many dead ends, many invalid ones."""
    generator = np.random.default_rng(0)
    space = Space.parse(text)
    return [
        Genotype.from_array(space, random_genotype(space, generator).array() * (generator.random(space.edges) < 0.6))
        for _ in range(count)
    ]


def matrix_of(edges: tuple[tuple[int, int, int], ...], nodes: int) -> np.ndarray:
    """The adjacency matrix of a list of edges."""
    matrix = np.zeros((nodes, nodes), dtype=int)
    for j, i, operation in edges:
        matrix[i, j] = operation
    return matrix


# Pruning


def test_an_edge_into_a_dead_end_does_not_count() -> None:
    genotype = build("1x4", ["1-2 1x1, 2-3 sep, 1-4 dw"])
    assert live_edges(genotype) == {(2, 0): ((0, 3, DEPTHWISE),)}
    assert expand(genotype) == CellGraph(2, (Edge(0, 1, DEPTHWISE),))


def test_an_edge_from_a_node_that_nothing_reaches_does_not_count() -> None:
    genotype = build("1x4", ["2-3 1x1, 3-4 sep, 2-4 max, 1-4 dw"])
    assert live_edges(genotype) == {(2, 0): ((0, 3, DEPTHWISE),)}
    assert expand(genotype) == CellGraph(2, (Edge(0, 1, DEPTHWISE),))


def test_what_lies_on_a_path_counts() -> None:
    genotype = build("1x4", ["1-2 1x1, 1-3 dw, 2-3 sep, 1-4 id, 2-4 max, 3-4 avg"])
    assert len(live_edges(genotype)[2, 0]) == 6


def test_a_motif_without_a_path_is_none_to_the_level_above() -> None:
    genotype = build("2x3/1x3", ["1-2 sep", "1-3 max"], ["1-2 M2, 2-3 M1, 1-3 M2"])
    assert live_edges(genotype) == {(2, 0): (), (2, 1): ((0, 2, MAX_POOLING),), (3, 0): ((0, 2, 2),)}


def test_a_cell_that_rests_on_a_motif_without_a_path_is_invalid() -> None:
    genotype = build("2x3/1x3", ["1-2 sep, 2-3 id", "1-2 id"], ["1-2 M1, 2-3 M2"])
    assert not is_valid(genotype)
    with pytest.raises(InvalidGenotype, match="expected a path from the source to the sink of the cell"):
        expand(genotype)


def test_a_motif_without_a_path_does_no_harm_where_it_is_not_used() -> None:
    assert is_valid(build("2x3/1x3", ["1-2 sep, 2-3 id", "1-2 id"], ["1-2 M1, 2-3 M1"]))


def test_a_break_at_the_bottom_is_felt_at_the_top() -> None:
    whole, broken = (build("1x3/1x2/1x2", [edges], ["1-2 M1"], ["1-2 M1"]) for edges in ("1-3 id", "1-2 id"))
    assert is_valid(whole)
    assert live_edges(broken) == {(2, 0): (), (3, 0): (), (4, 0): ()}


@pytest.mark.parametrize("space", [FLAT, HIERARCHICAL])
def test_a_cell_without_edges_is_invalid(space: Space) -> None:
    assert not is_valid(Genotype(space, bytes(space.edges)))


@pytest.mark.parametrize("text", ["1x6", "3x4/1x4", "2x3/2x4/1x3"])
def test_live_edges_are_those_on_a_walk_from_source_to_sink(text: str) -> None:
    """Against powers of the adjacency matrices, in which a dead motif is no edge."""
    pruned = 0
    for genotype in sparse_genotypes(text):
        live = live_edges(genotype)
        works: dict[tuple[int, int], bool] = {}
        for level, motif in live:
            nodes = genotype.space.level(level).nodes
            adjacency = np.eye(nodes, dtype=int)
            candidates = [edge for edge in genotype.edges(level, motif) if level == 2 or works[level - 1, edge[2] - 1]]
            for j, i, _ in candidates:
                adjacency[i, j] = 1
            walks = np.linalg.matrix_power(adjacency, nodes)
            works[level, motif] = walks[-1, 0] > 0
            expected = tuple(edge for edge in candidates if walks[edge[0], 0] and walks[-1, edge[1]])
            assert live[level, motif] == expected
            pruned += len(list(genotype.edges(level, motif))) - len(expected)
        assert is_valid(genotype) == works[genotype.space.top, 0]
    assert pruned > 100  # the genotypes were fit for the test


@pytest.mark.parametrize("text", ["1x6", "3x4/1x4", "2x3/2x4/1x3"])
def test_a_bare_genotype_is_the_same_cell_and_has_no_more_than_that(text: str) -> None:
    for genotype in sparse_genotypes(text):
        bare = expansion.bare(genotype)
        if is_valid(genotype):
            assert expand(bare) == expand(genotype)
        for position, code in enumerate(bare.codes):
            assert code in (0, genotype.codes[position])
            if code and is_valid(genotype):  # whatever is left matters
                fewer = Genotype(bare.space, bare.codes[:position] + b"\0" + bare.codes[position + 1 :])
                assert not is_valid(fewer) or expand(fewer) != expand(genotype)


# Expansion


def test_a_flat_cell_is_its_own_graph() -> None:
    genotype = build("1x4", ["1-2 1x1, 1-3 dw, 2-3 sep, 1-4 id, 2-4 max, 3-4 avg"])
    assert expand(genotype) == CellGraph(
        4,
        (
            Edge(0, 1, CONVOLUTION),
            Edge(0, 2, DEPTHWISE),
            Edge(1, 2, SEPARABLE),
            Edge(0, 3, IDENTITY),
            Edge(1, 3, MAX_POOLING),
            Edge(2, 3, AVERAGE_POOLING),
        ),
    )


def test_nodes_are_renumbered_without_gaps() -> None:
    genotype = build("1x5", ["1-2 1x1, 1-3 dw, 3-5 sep"])
    assert expand(genotype) == CellGraph(3, (Edge(0, 1, DEPTHWISE), Edge(1, 2, SEPARABLE)))


def test_a_level_2_motif_is_followed_by_a_1x1_convolution() -> None:
    genotype = build("1x3/1x2", ["1-2 sep, 2-3 max"], ["1-2 M1"])
    assert expand(genotype) == CellGraph(4, (Edge(0, 1, SEPARABLE), Edge(1, 2, MAX_POOLING), Edge(2, 3, CONVOLUTION)))


def test_a_level_3_motif_is_followed_by_nothing() -> None:
    genotype = build("1x2/1x2/1x2", ["1-2 sep"], ["1-2 M1"], ["1-2 M1"])
    assert expand(genotype) == CellGraph(4, (Edge(0, 1, SEPARABLE), Edge(1, 2, CONVOLUTION), Edge(2, 3, IDENTITY)))


def test_every_use_of_a_motif_is_a_copy() -> None:
    """Two copies of M1 (one dw), one of M2 (max, avg).

    0 ──dw──► 1 ──1x1──► 2 ──dw──► 5 ──1x1──► 6
    └───max──► 3 ──avg──► 4 ───────1x1────────┘
    """
    genotype = build("2x3/1x3", ["1-3 dw", "1-2 max, 2-3 avg"], ["1-2 M1, 1-3 M2, 2-3 M1"])
    assert expand(genotype) == CellGraph(
        7,
        (
            Edge(0, 1, DEPTHWISE),
            Edge(1, 2, CONVOLUTION),
            Edge(0, 3, MAX_POOLING),
            Edge(3, 4, AVERAGE_POOLING),
            Edge(2, 5, DEPTHWISE),
            Edge(4, 6, CONVOLUTION),  # concatenated in the order of predecessors in the cell: M2 starts at the source
            Edge(5, 6, CONVOLUTION),
        ),
    )


def test_the_trivial_cell_is_a_chain() -> None:
    motif = (IDENTITY,) * 3 + (CONVOLUTION,)
    operations = motif * 4
    edges = tuple(Edge(node, node + 1, operation) for node, operation in enumerate(operations))
    assert expand(trivial(HIERARCHICAL)) == CellGraph(17, edges)


def test_the_papers_cell_has_ten_motifs_of_six_edges() -> None:
    graph = expand(named("paper"))
    assert len(graph.edges) == 10 * (6 + 1)
    assert graph.nodes == 1 + 10 * 3 + 4


def random_graphs(text: str) -> list[tuple[Genotype, CellGraph]]:
    """The valid ones of many random genotypes, sparse and dense, with their graphs."""
    generator = np.random.default_rng(1)
    dense = [random_genotype(Space.parse(text), generator) for _ in range(100)]
    found = [(genotype, expand(genotype)) for genotype in dense + sparse_genotypes(text) if is_valid(genotype)]
    assert len(found) > 50  # enough to mean something
    return found


RANDOM_SPACES = ["1x11", "6x4/1x5", "2x3/3x4/1x3"]


@pytest.mark.parametrize("text", RANDOM_SPACES)
def test_nodes_are_in_topological_order(text: str) -> None:
    for _, graph in random_graphs(text):
        assert all(0 <= edge.source < edge.target < graph.nodes for edge in graph.edges)


@pytest.mark.parametrize("text", RANDOM_SPACES)
def test_edges_stand_by_target(text: str) -> None:
    for _, graph in random_graphs(text):
        targets = [edge.target for edge in graph.edges]
        assert targets == sorted(targets)


@pytest.mark.parametrize("text", RANDOM_SPACES)
def test_every_node_is_on_a_path(text: str) -> None:
    for _, graph in random_graphs(text):
        assert {edge.target for edge in graph.edges} == set(range(1, graph.nodes))
        assert {edge.source for edge in graph.edges} == set(range(graph.nodes - 1))


@pytest.mark.parametrize("text", RANDOM_SPACES)
def test_a_graph_has_the_edges_of_every_copy(text: str) -> None:
    """A use of a motif costs its own edges and, above level 2, one more for the joint after each lower motif."""
    for genotype, graph in random_graphs(text):
        cost: dict[tuple[int, int], int] = {}
        for (level, motif), edges in live_edges(genotype).items():
            cost[level, motif] = len(edges)
            if level > 2:
                cost[level, motif] += sum(cost[level - 1, operation - 1] for _, _, operation in edges)
        assert len(graph.edges) == cost[genotype.space.top, 0]


@pytest.mark.parametrize("space", ["1x11", "6x4/1x5"])
def test_without_what_is_pruned_the_graph_is_the_same(space: str) -> None:
    changed = 0
    for genotype, graph in random_graphs(space):
        live = live_edges(genotype)
        kept = [
            [matrix_of(live[level, motif], shape.nodes) for motif in range(shape.motifs)]
            for level, shape in enumerate(genotype.space.levels, start=2)
        ]
        pruned = Genotype.from_adjacency(genotype.space, kept)
        changed += pruned != genotype
        assert expand(pruned) == graph
    assert changed > 20
