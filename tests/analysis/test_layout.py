"""Where things stand in pictures of genotypes, and that no two stand in one place."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from toolruns import CHAIN

from hpcnas.analysis.figures import layout
from hpcnas.analysis.motifs import motifs_in_use
from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.mutation import diversified
from hpcnas.architecture.space import Space

PAPER = named("paper")


def valid(space: str, seed: int) -> Genotype:
    generator = np.random.default_rng(seed)
    while True:
        found = diversified(Space.parse(space), 200, generator)
        if expansion.is_valid(found):
            return found


def test_the_cell_of_the_paper_has_one_crossing() -> None:
    """The complete graph of five nodes cannot be drawn on two sides with fewer."""
    edges = expansion.live_edges(PAPER)[3, 0]
    sides = layout.choose_sides(edges)
    assert {edge: side for edge, side in sides.items() if edge[1] - edge[0] > 1} == {
        (0, 2): 1,
        (2, 4): 1,
        (1, 4): 1,
        (1, 3): -1,
        (0, 3): -1,
        (0, 4): -1,
    }
    crossings = [
        (a, b) for a, b in combinations(sorted(sides), 2) if sides[a] == sides[b] and a[0] < b[0] < a[1] < b[1]
    ]
    assert crossings == [((0, 2), (1, 4))]


def test_arcs_go_from_node_to_node() -> None:
    found = layout.arcs(((0, 1, 4), (0, 2, 3), (1, 2, 6)), 3, ("1x1", "dw", "sep", "max", "avg", "id"))
    assert [(dot.at, dot.name) for dot in found.dots] == [((0, 0), "1"), ((1, 0), "2"), ((2, 0), "3")]
    assert [edge.operation for edge in found.edges] == ["max", "sep", "id"]
    for edge, (start, end) in zip(found.edges, [(0, 1), (0, 2), (1, 2)], strict=True):
        near = 1.26 * layout.RADIUS
        assert np.hypot(edge.path[0][0] - start, edge.path[0][1]) < near
        assert np.hypot(edge.path[-1][0] - end, edge.path[-1][1]) < near
    assert [edge.middle[1] > 0 for edge in found.edges] == [False, True, False]
    assert found.above == found.edges[1].middle[1]


def test_nodes_on_no_path_are_left_out_and_the_others_keep_their_numbers() -> None:
    found = layout.arcs(((0, 2, 1), (2, 3, 1)), 4, ("1x1",))
    assert [dot.name for dot in found.dots] == ["1", "3", "4"]


@pytest.mark.parametrize("space", ["hierarchical", "flat", "3x3/3x3/1x4", "4x3/1x7", "1x2/1x2"])
def test_the_expanded_layout_is_the_network(space: str) -> None:
    for seed in range(15):
        genotype = valid(space, seed)
        graph, diagram = expansion.expand(genotype), layout.expanded(genotype)
        names = Counter(expansion.primitives.NAMES[edge.operation - 1] for edge in graph.edges)
        assert len(diagram.dots) == graph.nodes
        assert Counter(edge.operation for edge in diagram.edges) == names
        assert len(diagram.boxes) == len(diagram.wires) == sum(motifs_in_use(genotype).values()) - 1


def inside(box: layout.Box, point: layout.Point) -> bool:
    (x, y), (left, low) = point, box.at
    return left < x < left + box.width and low < y < low + box.height


def crosses(start: layout.Point, end: layout.Point, box: layout.Box) -> bool:
    """Whether a horizontal or vertical line goes through a box."""
    (left, low), (right, high) = box.at, (box.at[0] + box.width, box.at[1] + box.height)
    x, y = sorted((start[0], end[0])), sorted((start[1], end[1]))
    return x[0] < right and x[1] > left and y[0] < high and y[1] > low


@pytest.mark.parametrize("space", ["hierarchical", "4x3/1x7"])
def test_boxes_do_not_touch_and_lines_go_round_them(space: str) -> None:
    for seed in range(15):
        diagram = layout.expanded(valid(space, seed))
        for one, other in combinations(diagram.boxes, 2):
            apart_x = one.at[0] + one.width < other.at[0] or other.at[0] + other.width < one.at[0]
            apart_y = one.at[1] + one.height < other.at[1] or other.at[1] + other.height < one.at[1]
            assert apart_x or apart_y
        lines = [(wire.path, wire.path[-1]) for wire in diagram.wires]
        lines += [(edge.path, edge.path[0]) for edge in diagram.edges if not edge.curved]
        for path, home in lines:
            for box in diagram.boxes:
                hits = any(crosses(a, b, box) for a, b in zip(path, path[1:], strict=False))
                assert hits == inside(box, home)  # only the box that it leads to or comes from
        assert all(-diagram.below - 1e-9 < box.at[1] for box in diagram.boxes)
        assert all(box.at[1] + box.height < diagram.above + 1e-9 for box in diagram.boxes)


def test_no_layout_without_a_path() -> None:
    with pytest.raises(expansion.InvalidGenotype):
        layout.expanded(Genotype(CHAIN.space, bytes(9)))
