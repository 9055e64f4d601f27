"""Drawn genotypes and `hpcnas draw`: what stands in the pictures, and that no two things stand in one place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from toolruns import CHAIN, POOLING, empty, eventful

from hpcnas.analysis import runs
from hpcnas.analysis.figures import cells, layout
from hpcnas.analysis.motifs import motifs_in_use
from hpcnas.analysis.runs import AnalysisError, motif_name
from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.mutation import diversified
from hpcnas.architecture.space import Space
from hpcnas.command import draw
from hpcnas.errors import Error

TOOL = Path(__file__).parents[2] / "tools" / "draw.py"
PAPER = named("paper")
ARROW, BOX, NODE = FancyArrowPatch, FancyBboxPatch, Circle


def valid(space: str, seed: int) -> Genotype:
    generator = np.random.default_rng(seed)
    while True:
        found = diversified(Space.parse(space), 200, generator)
        if expansion.is_valid(found):
            return found


# ── layout ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_cell_of_the_paper_has_one_crossing() -> None:
    """The complete graph of five nodes cannot be drawn on two sides with fewer."""
    edges = expansion.live_edges(PAPER)[3, 0]
    sides = layout.page(edges)
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


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────
def count(axes: object, kind: type) -> int:
    return sum(type(patch) is kind for patch in axes.patches)  # type: ignore[attr-defined]


def test_the_papers_cell_and_its_motifs() -> None:
    figure = cells.cell_picture("paper", PAPER)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["paper: the cell", "M1, used 1×", "M3, used 4×", "M4, used 1×", "M5, used 4×"]
    assert [count(axes, ARROW) for axes in figure.axes] == [10, 6, 6, 6, 6]
    assert [count(axes, NODE) for axes in figure.axes] == [5, 4, 4, 4, 4]
    words = Counter(text.get_text() for text in figure.axes[0].texts)
    assert words == Counter({"M5": 4, "M3": 4, "M1": 1, "M4": 1, "1": 1, "2": 1, "3": 1, "4": 1, "5": 1})
    words = Counter(text.get_text() for text in figure.axes[4].texts)
    assert (words["sep"], words["id"]) == (3, 3)
    (legend,) = figure.legends
    assert [text.get_text().split(":")[0] for text in legend.get_texts()] == ["1x1", "dw", "sep", "max", "avg", "id"]


def test_the_papers_expanded_network() -> None:
    figure = cells.expanded_picture("paper", PAPER)
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "paper, expanded: 35 nodes, 70 operations"
    assert (count(axes, NODE), count(axes, ARROW), count(axes, BOX)) == (35, 70, 10)
    words = Counter(text.get_text() for text in axes.texts if text.get_text())
    assert words == Counter({"M5": 4, "M3": 4, "M1": 1, "M4": 1, "in": 1, "out": 1})


def test_a_flat_cell_is_one_panel() -> None:
    genotype = valid("flat", 1)
    figure = cells.cell_picture("flat", genotype)
    (axes,) = figure.axes
    assert count(axes, ARROW) == len(expansion.expand(genotype).edges)


def test_everything_stands_within_the_axes() -> None:
    for genotype in (PAPER, valid("3x3/3x3/1x4", 8)):
        figure = cells.expanded_picture("", genotype)
        figure.draw_without_rendering()
        (axes,) = figure.axes
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        diagram = layout.expanded(genotype)
        assert left < 0.0 and diagram.width < right and low < -diagram.below and diagram.above < high


def test_no_picture_without_a_path() -> None:
    dead = Genotype(CHAIN.space, bytes(9))
    for picture in (cells.cell_picture, cells.expanded_picture):
        with pytest.raises(AnalysisError, match="^dead: no path leads from the source to the sink of the cell"):
            picture("dead", dead)


# ── the tool ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_numbers_of_a_genotype(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(POOLING.text())
    assert draw.main([str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "genotype": "mine",
        "motifs": [
            {"name": "cell", "uses": 1, "edges": ["1-2 M1", "1-3 M2", "2-3 M1"]},
            {"name": "M1", "uses": 2, "edges": ["1-2 id", "2-3 id"]},
            {"name": "M2", "uses": 1, "edges": ["1-2 sep", "1-3 max", "2-3 sep"]},
        ],
        "nodes": 9,
        "edges": 10,
    }
    assert list(tmp_path.iterdir()) == [path]


def test_paper_from_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, TOOL, "paper"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "expanded: 35 nodes, 70 edges\n" in done.stdout
    for name in ("paper-cell.png", "paper-expanded.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / name).stat().st_size > 20_000


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_same_picture_is_the_same_file(tmp_path: Path, suffix: str, start: bytes) -> None:
    source, path = tmp_path / "mine.toml", tmp_path / f"cell.{suffix}"
    source.write_text(POOLING.text())
    assert draw.main([str(source), "--cell", str(path)]) == 0
    first = path.read_bytes()
    assert first.startswith(start)
    assert set(tmp_path.iterdir()) == {source, path}
    assert draw.main([str(source), "--cell", str(path)]) == 0
    assert path.read_bytes() == first


def test_genotypes_of_a_run(tmp_path: Path) -> None:
    run = eventful(tmp_path / "my:1")  # a folder whose name looks like RUN:ID
    assert runs.named_genotype(str(run)) == ("my:1-4", POOLING)
    assert runs.named_genotype(f"{run}:0") == ("my:1-0", CHAIN)
    assert runs.named_genotype("paper") == ("paper", PAPER)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("{run}:5", "{run}:5: expected an individual from 0 to 4, got 5"),
        ("{empty}", "{empty}: no individual has been evaluated yet, so there is no best one"),
        ("{empty}:0", "{empty}:0: no individual has been born yet, so there is no 0"),
        ("{run}/none.toml", "{run}/none.toml: expected a readable file: No such file or directory"),
        ("{run}/bad.toml", '{run}/bad.toml: expected format = "hpcnas genotype 1", got None'),
        ("{run}/dead.toml", "dead: no path leads from the source to the sink of the cell: there is nothing to draw"),
    ],
)
def test_mistakes(tmp_path: Path, argument: str, message: str) -> None:
    places = {"run": eventful(tmp_path / "run"), "empty": empty(tmp_path / "empty")}
    (tmp_path / "run/bad.toml").write_text("")
    (tmp_path / "run/dead.toml").write_text(Genotype(CHAIN.space, bytes(9)).text())
    with pytest.raises(Error) as raised:
        draw.main([argument.format(**places)])
    assert str(raised.value) == message.format(**places)


@pytest.mark.parametrize(
    ("space", "level", "name"), [("flat", 2, "cell"), ("6x4/1x5", 2, "M3"), ("6x4/1x5", 3, "cell")]
)
def test_names_of_motifs(space: str, level: int, name: str) -> None:
    assert motif_name(Space.parse(space), level, 0 if name == "cell" else 2) == name
    assert motif_name(Space.parse("3x3/3x3/1x4"), 3, 1) == "level-3 M2"
