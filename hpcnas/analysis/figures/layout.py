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
    sides = page(edges)
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


def page(edges: LiveEdges) -> dict[tuple[int, int], int]:
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
        return _boxes([(j, i, names[m - 1], assemble(level - 1, m - 1)) for j, i, m in edges], following)

    found = assemble(space.top, 0)
    ends = {(0.0, 0.0): "in", (found.width, 0.0): "out"}
    found.dots = [replace(dot, name=ends.get(dot.at, "")) for dot in found.dots]
    return found


def _closed_up(edges: LiveEdges) -> LiveEdges:
    """The same edges between nodes without gaps in their numbers."""
    place = {node: number for number, node in enumerate(_used(edges))}
    return tuple((place[j], place[i], operation) for j, i, operation in edges)


def _boxes(edges: list[tuple[int, int, str, Diagram]], following: str) -> Diagram:
    """A motif whose edges (predecessor, successor, name, inside) are boxes, each followed by an operation.

    Between two neighbouring nodes there is a column of boxes. An edge may put its box into any column that it passes,
    and takes the one where it comes nearest to the line of nodes.
    """
    last = max(i for _, i, _, _ in edges)
    sides = page(tuple((j, i, 1) for j, i, _, _ in edges))
    sky = {1: [0.0] * last, -1: [0.0] * last}  # how far each column is taken, above and below
    placed: list[tuple[int, float]] = []  # column and height of every edge
    order = sorted(range(len(edges)), key=lambda number: (edges[number][1] - edges[number][0], edges[number][:2]))
    where: dict[int, tuple[int, float]] = {}
    for number in order:
        j, i, _, inside = edges[number]
        up, down = inside.above + MARGIN + TITLE, inside.below + MARGIN
        if i - j == 1:
            where[number] = (j, 0.0)
            sky[1][j], sky[-1][j] = up, down
            continue
        side = sides[j, i]
        near, far = (down, up) if side == 1 else (up, down)

        def height(column: int, j: int = j, i: int = i, near: float = near, side: int = side) -> float:
            return max(sky[side][g] + MARGIN + (near if g == column else 0.0) for g in range(j, i))

        column = min(range(j, i), key=lambda g: (height(g), abs(2 * g + 1 - j - i)))
        y = height(column)
        where[number] = (column, side * y)
        for g in range(j, i):
            sky[side][g] = y + (far if g == column else 0.0)
    placed = [where[number] for number in range(len(edges))]

    widths = [1.0] * last
    for (column, _), (_, _, _, inside) in zip(placed, edges, strict=True):
        widths[column] = max(widths[column], inside.width + 2 * MARGIN)
    places = [0.0]
    for width in widths:
        places.append(places[-1] + width + 2 * GUTTER)
    diagram = Diagram(places[-1], max(RADIUS, *sky[1]), max(RADIUS, *sky[-1]))
    diagram.dots = [Dot((x, 0.0)) for x in places]
    for (column, y), (j, i, name, inside) in zip(placed, edges, strict=True):
        left = (places[column] + places[column + 1] - inside.width) / 2
        size = inside.width + 2 * MARGIN, inside.above + inside.below + 2 * MARGIN + TITLE
        diagram.boxes.append(Box((left - MARGIN, y - inside.below - MARGIN), *size, name))
        away, home = places[j] + 0.35 * GUTTER, places[i] - 0.55 * GUTTER
        start, source = (places[j], 0.0), (left, y)
        sink, end = (left + inside.width, y), (places[i] - 1.25 * RADIUS, 0.0)
        into = (start, source) if y == 0.0 else (start, (away, 0.0), (away, y), source)
        out = (sink, end) if y == 0.0 else (sink, (home, y), (home, 0.0), end)
        diagram.wires.append(Wire(into))
        diagram.take_in(replace(inside, dots=inside.dots[1:]), at=(left, y))  # its source is our node
        diagram.edges.append(DrawnEdge(out, following, ((sink[0] + home) / 2, y), curved=False))
    return diagram
