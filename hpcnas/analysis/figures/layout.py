"""Where the nodes and edges of a genotype stand in a picture: plain geometry, nothing is drawn here.

Nodes stand from left to right in topological order, on one line; edges between neighbours run along it, all others
above or below it, on the side where they cross fewer. Two layouts:

    arcs       one motif, an edge an arc                 1 ──► 2 ──► 3
                                                          ╰─────────╯
    expanded   the whole cell: an edge is a box that       ┌────┐
               holds its motif, laid out in the same way,  │ M3 │
               and boxes lie over one another such that   ╭┴────┴╮
               no two touch                               1 ─M5─ 2

A unit is the distance of two neighbours in a motif.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hpcnas.architecture import expansion, primitives
from hpcnas.architecture.expansion import InvalidGenotype, LiveEdges
from hpcnas.architecture.genotype import Genotype, operation_names

Point = tuple[float, float]
RADIUS = 0.13  # of a node
MARGIN, GUTTER, TITLE = 0.3, 0.7, 0.35  # inside a box, beside it, and its name's height


@dataclass(frozen=True)
class Dot:
    """A node: a feature map."""

    at: Point
    name: str = ""


@dataclass(frozen=True)
class DrawnEdge:
    """An operation along a path: four points of a Bézier curve, or the corners of a line."""

    path: tuple[Point, ...]
    operation: str
    middle: Point
    curved: bool


@dataclass(frozen=True)
class Wire:
    """A line along which a feature map is handed on as it is: the corners."""

    path: tuple[Point, ...]


@dataclass(frozen=True)
class Box:
    """One use of a motif: its lower left corner, its size and the motif's name."""

    at: Point
    width: float
    height: float
    name: str


@dataclass
class Diagram:
    """What stands where. The source is at (0, 0), the sink at (width, 0); nothing is higher than `above`, or lower than
    −`below`."""

    width: float
    above: float
    below: float
    dots: list[Dot] = field(default_factory=list)
    edges: list[DrawnEdge] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)

    def take_in(self, other: Diagram, at: Point) -> None:
        """Adds what another diagram holds, with its source at a point."""
        self.dots += [replace(dot, at=_moved(dot.at, at)) for dot in other.dots]
        self.wires += [Wire(_all_moved(wire.path, at)) for wire in other.wires]
        self.boxes += [replace(box, at=_moved(box.at, at)) for box in other.boxes]
        for edge in other.edges:
            self.edges.append(replace(edge, path=_all_moved(edge.path, at), middle=_moved(edge.middle, at)))


def _moved(point: Point, by: Point) -> Point:
    return point[0] + by[0], point[1] + by[1]


def _all_moved(path: Iterable[Point], by: Point) -> tuple[Point, ...]:
    return tuple(_moved(point, by) for point in path)


# ── one motif ───────────────────────────────────────────────────────────────────────────────────────────────────────
def arcs(edges: LiveEdges, nodes: int, names: tuple[str, ...]) -> Diagram:
    """A motif of `nodes` nodes; those on no path are left out, the others keep their numbers. `names` are those of the
    operations."""
    used = _used(edges)
    diagram = Diagram(width=float(nodes - 1), above=RADIUS, below=RADIUS)
    diagram.dots = [Dot((float(node), 0.0), str(node + 1)) for node in used]
    sides = choose_sides(edges)
    for j, i, operation in edges:
        lift = sides[j, i] * (0.0 if i - j == 1 else 0.42 + 0.46 * (i - j - 1))
        first, last = (j + 0.33, lift), (i - 0.33, lift)
        path = (_towards((j, 0.0), first), first, last, _towards((i, 0.0), last))
        height = (path[0][1] + 6 * lift + path[3][1]) / 8  # of the curve's middle
        diagram.edges.append(DrawnEdge(path, names[operation - 1], ((j + i) / 2, height), curved=True))
        diagram.above, diagram.below = max(diagram.above, height), max(diagram.below, -height)
    return diagram


def _used(edges: LiveEdges) -> list[int]:
    return sorted({node for j, i, _ in edges for node in (j, i)})


def _towards(node: Point, point: Point) -> Point:
    """Where a line from a node's middle to a point leaves the node."""
    dx, dy = point[0] - node[0], point[1] - node[1]
    share = 1.25 * RADIUS / (dx * dx + dy * dy) ** 0.5
    return node[0] + share * dx, node[1] + share * dy


def choose_sides(edges: LiveEdges) -> dict[tuple[int, int], int]:
    """For every edge (predecessor, successor) the side it runs on, 1 above and −1 below: short ones choose first, the
    side where they cross fewer, or else that with less on it."""
    sides: dict[tuple[int, int], int] = {}
    for j, i in sorted(((j, i) for j, i, _ in edges), key=lambda edge: (edge[1] - edge[0], edge)):

        def cost(side: int, j: int = j, i: int = i) -> tuple[int, int]:
            there = [other for other, taken in sides.items() if taken == side and other[1] - other[0] > 1]
            crossed = sum(a < j < b < i or j < a < i < b for a, b in there)
            return crossed, sum(b - a for a, b in there)

        sides[j, i] = min((1, -1), key=cost)
    return sides


# ── the whole cell ──────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class _BoxedEdge:
    """An edge of a motif above level 2, between two nodes (from 0): the motif that it holds, laid out already."""

    predecessor: int
    successor: int
    name: str
    inside: Diagram

    @property
    def ends(self) -> tuple[int, int]:
        """Its predecessor and its successor, by which a motif has one edge at the most."""
        return self.predecessor, self.successor


def expanded(genotype: Genotype) -> Diagram:
    """The cell with every motif in its place: a dot a node of `expansion.expand`, an edge an edge.

    Raises InvalidGenotype where no path leads from source to sink.
    """
    live, space = expansion.live_edges(genotype), genotype.space
    if not live[space.top, 0]:
        raise InvalidGenotype("expected a path from the source to the sink of the cell, but there is none")

    def assemble(level: int, motif: int) -> Diagram:
        names = operation_names(space, level)
        edges = _closed_up(live[level, motif])
        if level == 2:
            found = arcs(edges, edges[-1][1] + 1, names)
            found.dots = [replace(dot, name="") for dot in found.dots]
            return found
        following = primitives.NAMES[(primitives.CONVOLUTION if level == 3 else primitives.IDENTITY) - 1]
        return _boxes([_BoxedEdge(j, i, names[m - 1], assemble(level - 1, m - 1)) for j, i, m in edges], following)

    found = assemble(space.top, 0)
    ends = {(0.0, 0.0): "in", (found.width, 0.0): "out"}
    found.dots = [replace(dot, name=ends.get(dot.at, "")) for dot in found.dots]
    return found


def _closed_up(edges: LiveEdges) -> LiveEdges:
    """The same edges between nodes without gaps in their numbers."""
    place = {node: number for number, node in enumerate(_used(edges))}
    return tuple((place[j], place[i], operation) for j, i, operation in edges)


def _boxes(edges: list[_BoxedEdge], following: str) -> Diagram:
    """A motif whose edges are boxes, each followed by the operation `following`."""
    stacked, above, below = _stack(edges)
    places = _node_places(edges, [column for column, _ in stacked])
    diagram = Diagram(places[-1], above, below)
    diagram.dots = [Dot((x, 0.0)) for x in places]
    for edge, (column, y) in zip(edges, stacked, strict=True):
        inside = edge.inside
        left = (places[column] + places[column + 1] - inside.width) / 2
        size = inside.width + 2 * MARGIN, inside.above + inside.below + 2 * MARGIN + TITLE
        diagram.boxes.append(Box((left - MARGIN, y - inside.below - MARGIN), *size, edge.name))
        source, sink = (left, y), (left + inside.width, y)
        start, end = (places[edge.predecessor], 0.0), (places[edge.successor] - 1.25 * RADIUS, 0.0)
        away, home = start[0] + 0.35 * GUTTER, places[edge.successor] - 0.55 * GUTTER
        into = (start, source) if y == 0.0 else (start, (away, 0.0), (away, y), source)
        out = (sink, end) if y == 0.0 else (sink, (home, y), (home, 0.0), end)
        diagram.wires.append(Wire(into))
        diagram.take_in(replace(inside, dots=inside.dots[1:]), at=source)  # whose source is a node of ours
        diagram.edges.append(DrawnEdge(out, following, ((sink[0] + home) / 2, y), curved=False))
    return diagram


def _stack(edges: list[_BoxedEdge]) -> tuple[list[tuple[int, float]], float, float]:
    """Column and height of every edge's box; and how high and how low the boxes reach.

    Between two neighbouring nodes there is a column of boxes. An edge may put its box into any column that it passes,
    and takes the one where it comes nearest to the line of nodes. Short edges choose first.
    """
    columns = max(edge.successor for edge in edges)
    sides = choose_sides(tuple((edge.predecessor, edge.successor, 1) for edge in edges))
    taken = {1: [0.0] * columns, -1: [0.0] * columns}  # how far from the line of nodes, above and below
    stacked: dict[tuple[int, int], tuple[int, float]] = {}
    for edge in sorted(edges, key=lambda edge: (edge.successor - edge.predecessor, edge.ends)):
        up, down = edge.inside.above + MARGIN + TITLE, edge.inside.below + MARGIN
        if edge.successor - edge.predecessor == 1:
            stacked[edge.ends] = edge.predecessor, 0.0
            taken[1][edge.predecessor], taken[-1][edge.predecessor] = up, down
            continue
        side, passed = sides[edge.ends], range(*edge.ends)
        near, far = (down, up) if side == 1 else (up, down)
        heights = {
            column: max(taken[side][other] + MARGIN + (near if other == column else 0.0) for other in passed)
            for column in passed
        }
        column = min(passed, key=lambda one: (heights[one], abs(2 * one + 1 - sum(edge.ends))))
        stacked[edge.ends] = column, side * heights[column]
        for other in passed:
            taken[side][other] = heights[column] + (far if other == column else 0.0)
    return [stacked[edge.ends] for edge in edges], max(RADIUS, *taken[1]), max(RADIUS, *taken[-1])


def _node_places(edges: list[_BoxedEdge], columns: list[int]) -> list[float]:
    """Where every node stands on the line, so that each box has room in its column."""
    widths = [1.0] * max(edge.successor for edge in edges)
    for edge, column in zip(edges, columns, strict=True):
        widths[column] = max(widths[column], edge.inside.width + 2 * MARGIN)
    places = [0.0]
    for width in widths:
        places.append(places[-1] + width + 2 * GUTTER)
    return places
