"""Genotypes: their array, adjacency and text forms, and what is refused and how.

the genotype TINY:   cell  1 ──M1──► 2 ──M2──► 3
                     M1    1 ──1x1──► 2 ──dw──► 3 and 1 ──id──► 3
                     M2    1 ──max──► 2 ──avg──► 3
"""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest

from hpcnas.architecture import genotype, primitives
from hpcnas.architecture.genotype import Genotype, GenotypeError, edge_index, operation_names
from hpcnas.architecture.space import FLAT, HIERARCHICAL, Space

SPACES = ["1x2", "1x4", "2x3/1x3", "6x4/1x5", "2x3/3x4/1x3", "1x11"]

TINY_SPACE = Space.parse("2x3/1x3")
TINY = """\
format = "hpcnas genotype 1"
space = "2x3/1x3"

[level-3]
M1 = ["1-2 M1", "2-3 M2"]

[level-2]
M1 = ["1-2 1x1", "1-3 id", "2-3 dw"]
M2 = ["1-2 max", "2-3 avg"]
"""
TINY_CODES = bytes([1, 6, 2, 4, 0, 5, 1, 0, 2])
TINY_MATRICES = [
    [  # level 2; row i: the operations into node i
        [[0, 0, 0], [1, 0, 0], [6, 2, 0]],
        [[0, 0, 0], [4, 0, 0], [0, 5, 0]],
    ],
    [[[0, 0, 0], [1, 0, 0], [0, 2, 0]]],  # level 3
]


def random_genotype(space: Space, generator: np.random.Generator) -> Genotype:
    """Every entry uniform over what it may be."""
    return Genotype(
        space,
        b"".join(
            generator.integers(
                len(operation_names(space, level)) + 1, size=shape.motifs * shape.edges, dtype=np.uint8
            ).tobytes()
            for level, shape in enumerate(space.levels, start=2)
        ),
    )


def random_genotypes(text: str, count: int = 20) -> list[Genotype]:
    generator = np.random.default_rng(0)
    return [random_genotype(Space.parse(text), generator) for _ in range(count)]


# What edges choose from, and where they stand


def test_operations_are_the_primitives_or_the_motifs_below() -> None:
    space = Space.parse("2x3/4x5/1x6")
    assert operation_names(space, 2) == ("1x1", "dw", "sep", "max", "avg", "id")
    assert operation_names(space, 3) == ("M1", "M2")
    assert operation_names(space, 4) == ("M1", "M2", "M3", "M4")


def test_the_codes_of_primitives() -> None:
    assert primitives.CODES == {"1x1": 1, "dw": 2, "sep": 3, "max": 4, "avg": 5, "id": 6}
    named = {
        "1x1": primitives.CONVOLUTION,
        "dw": primitives.DEPTHWISE,
        "sep": primitives.SEPARABLE,
        "max": primitives.MAX_POOLING,
        "avg": primitives.AVERAGE_POOLING,
        "id": primitives.IDENTITY,
    }
    assert named == primitives.CODES


def test_the_order_of_the_array() -> None:
    motif = [(1, 0), (2, 0), (2, 1)]  # (successor, predecessor)
    places = [(2, 0, *edge) for edge in motif] + [(2, 1, *edge) for edge in motif] + [(3, 0, *edge) for edge in motif]
    assert [edge_index(TINY_SPACE, *place) for place in places] == list(range(9))


@pytest.mark.parametrize("text", SPACES)
def test_every_entry_of_the_array_is_one_edge(text: str) -> None:
    space = Space.parse(text)
    found = [
        edge_index(space, level, motif, successor, predecessor)
        for level in range(2, space.top + 1)
        for motif in range(space.level(level).motifs)
        for successor in range(1, space.level(level).nodes)
        for predecessor in range(successor)
    ]
    assert found == list(range(space.edges))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((1, 0, 1, 0), "expected a level from 2 to 3, got 1"),
        ((4, 0, 1, 0), "expected a level from 2 to 3, got 4"),
        ((2, 2, 1, 0), "level 2: expected motif M1 to M2, got M3"),
        ((3, -1, 1, 0), "level 3: expected motif M1 to M1, got M0"),
        ((2, 0, 3, 0), "level 2: expected nodes 1 to 3, got the edge 1-4"),
        ((2, 0, 1, -1), "level 2: expected nodes 1 to 3, got the edge 0-2"),
        ((2, 1, 0, 2), "level 2, M2: expected an edge from a lower to a higher node, got the backward edge 3-1"),
        ((2, 0, 1, 1), "level 2, M1: expected an edge from a lower to a higher node, got the backward edge 2-2"),
    ],
)
def test_edges_that_the_space_does_not_have(place: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        edge_index(TINY_SPACE, *place)
    assert str(caught.value) == message


# The object


def test_a_genotype_cannot_be_changed() -> None:
    tiny = Genotype(TINY_SPACE, TINY_CODES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny.codes = bytes(9)  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny.space = FLAT  # type: ignore[misc]


def test_equal_codes_of_one_space_are_one_genotype() -> None:
    first, second = Genotype(TINY_SPACE, TINY_CODES), Genotype(Space.parse("2x3/1x3"), bytes(bytearray(TINY_CODES)))
    assert first == second and hash(first) == hash(second)
    assert len({first, second, Genotype(TINY_SPACE, bytes(9))}) == 2


def test_equal_codes_of_two_spaces_are_two_genotypes() -> None:
    assert Genotype(Space.parse("1x4"), bytes(6)) != Genotype(Space.parse("1x3/1x3"), bytes(6))


def test_a_genotype_can_be_sent() -> None:
    tiny = Genotype(TINY_SPACE, TINY_CODES)
    assert pickle.loads(pickle.dumps(tiny)) == tiny


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (bytes(8), "space 2x3/1x3: expected 9 edges in the array form, got 8"),
        (bytes(10), "space 2x3/1x3: expected 9 edges in the array form, got 10"),
        (bytes([7]) + bytes(8), "edge 0 of the array form: expected an operation 0 to 6, got 7"),
        (bytes(8) + bytes([3]), "edge 8 of the array form: expected an operation 0 to 2, got 3"),
        (bytearray(9), "expected the codes as bytes, got bytearray"),
    ],
)
def test_codes_that_are_no_genotype(codes: bytes, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        Genotype(TINY_SPACE, codes)
    assert str(caught.value) == message


# The array form


def test_the_array_form() -> None:
    array = Genotype(TINY_SPACE, TINY_CODES).array()
    assert array.dtype == np.uint8
    assert array.tolist() == [1, 6, 2, 4, 0, 5, 1, 0, 2]


@pytest.mark.parametrize("text", SPACES)
def test_arrays_come_back(text: str) -> None:
    for one in random_genotypes(text):
        assert Genotype.from_array(one.space, one.array()) == one


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint64])
def test_arrays_may_have_any_integer_type(dtype: type) -> None:
    assert Genotype.from_array(TINY_SPACE, np.array(list(TINY_CODES), dtype=dtype)).codes == TINY_CODES


def test_an_array_is_a_copy() -> None:
    tiny = Genotype(TINY_SPACE, TINY_CODES)
    array = tiny.array()
    copied = Genotype.from_array(TINY_SPACE, array)
    array[:] = 0
    assert tiny.codes == copied.codes == TINY_CODES


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(8, np.uint8), "expected 9 edges in the array form, got 8"),
        (np.zeros((3, 3), np.uint8), "expected a flat integer array of 9 edges, got shape (3, 3) of uint8"),
        (np.uint8(0), "expected a flat integer array of 9 edges, got shape () of uint8"),
        (np.zeros(9), "expected a flat integer array of 9 edges, got shape (9,) of float64"),
        (np.zeros(9, bool), "expected a flat integer array of 9 edges, got shape (9,) of bool"),
        (np.array(["id"] * 9), "expected a flat integer array of 9 edges, got shape (9,) of <U2"),
        (np.array([0] * 8 + [-1]), "expected operations 0 to 255, got -1 to 0"),
        (np.array([0] * 8 + [257]), "expected operations 0 to 255, got 0 to 257"),  # not 257 − 256
        (np.array([0] * 8 + [3]), "edge 8 of the array form: expected an operation 0 to 2, got 3"),
        ([[0], [0, 0]], "expected a flat integer array of 9 edges"),
    ],
)
def test_arrays_that_are_no_genotype(array: np.ndarray, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        Genotype.from_array(TINY_SPACE, array)
    assert message in str(caught.value)


# Adjacency matrices


def test_adjacency_matrices() -> None:
    tiny = Genotype.from_adjacency(TINY_SPACE, TINY_MATRICES)
    assert tiny.codes == TINY_CODES
    assert [[tiny.adjacency(2, motif).tolist() for motif in (0, 1)], [tiny.adjacency(3, 0).tolist()]] == TINY_MATRICES
    assert tiny.adjacency(2, 0).dtype == np.uint8


@pytest.mark.parametrize("text", SPACES)
def test_adjacency_matrices_come_back(text: str) -> None:
    for one in random_genotypes(text):
        matrices = [
            [one.adjacency(level, motif) for motif in range(shape.motifs)]
            for level, shape in enumerate(one.space.levels, start=2)
        ]
        assert Genotype.from_adjacency(one.space, matrices) == one


def test_edges_stand_by_successor_and_leave_none_out() -> None:
    tiny = Genotype(TINY_SPACE, TINY_CODES)
    assert list(tiny.edges(2, 0)) == [(0, 1, 1), (0, 2, 6), (1, 2, 2)]
    assert list(tiny.edges(2, 1)) == [(0, 1, 4), (1, 2, 5)]
    assert list(tiny.edges(3, 0)) == [(0, 1, 1), (1, 2, 2)]


EMPTY = [[0, 0, 0]] * 3


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        ([[EMPTY, EMPTY]], "expected motifs of 2 levels (2 to 3), got 1"),
        ([[EMPTY], [EMPTY]], "level 2: expected 2 motifs, got 1"),
        ([[EMPTY, EMPTY], [EMPTY, EMPTY]], "level 3: expected 1 motifs, got 2"),
        ([[EMPTY, [[0, 0]] * 2], [EMPTY]], "level 2, M2: expected a 3×3 integer matrix, got shape (2, 2)"),
        ([[EMPTY, [[0], [0, 0], [0, 0, 0]]], [EMPTY]], "level 2, M2: expected a 3×3 integer matrix"),
        ([[EMPTY, [[0.0] * 3] * 3], [EMPTY]], "M2: expected a 3×3 integer matrix, got shape (3, 3) of float64"),
        ([[[[0, 1, 0], [0] * 3, [0] * 3], EMPTY], [EMPTY]], "level 2, M1: expected an edge from a lower to a higher"),
        ([[[[1, 0, 0], [0] * 3, [0] * 3], EMPTY], [EMPTY]], "got the backward edge 1-1"),
        (
            [[[[0] * 3, [7, 0, 0], [0] * 3], EMPTY], [EMPTY]],
            "level 2, M1, edge 1-2: expected an operation 0 to 6, got 7",
        ),
        (
            [[EMPTY, EMPTY], [[[0] * 3, [0] * 3, [0, -1, 0]]]],
            "level 3, M1, edge 2-3: expected an operation 0 to 2, got -1",
        ),
        (
            [[EMPTY, EMPTY], [[[0] * 3, [0] * 3, [0, 257, 0]]]],
            "level 3, M1, edge 2-3: expected an operation 0 to 2, got 257",
        ),
    ],
)
def test_matrices_that_are_no_genotype(matrices: list, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        Genotype.from_adjacency(TINY_SPACE, matrices)
    assert message in str(caught.value)


# The text form


def test_the_text_form() -> None:
    assert Genotype(TINY_SPACE, TINY_CODES).text() == TINY
    assert Genotype.from_text(TINY).codes == TINY_CODES


@pytest.mark.parametrize("text", SPACES)
def test_texts_come_back(text: str) -> None:
    for one in random_genotypes(text):
        assert Genotype.from_text(one.text()) == one


def test_a_text_edited_by_hand() -> None:
    edited = """
    # my favourite
    space  = "2x3/1x3"
    format = "hpcnas genotype 1"
    [level-2]
    M2 = [ " 2-3   avg ", '1-2\tmax', ]     # any order, any spaces
    M1 = [
        "2-3 dw",
        "1-3 id",  # the short cut
        "1-2 1x1",
    ]
    [level-3]
    M1 = ["2-3 M2", "1-2 M1"]
    """
    assert Genotype.from_text(edited).codes == TINY_CODES


def test_a_text_may_name_its_space() -> None:
    paper = genotype.named("paper")
    assert Genotype.from_text(paper.text().replace('"6x4/1x5"', '"hierarchical"')) == paper


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[level-3]", "[level-3", "expected a genotype in TOML, but it cannot be read: "),
        ("M2 =", "M1 =", "expected a genotype in TOML, but it cannot be read: "),  # the key twice
        ('"2-3 avg"', '"2-3 avg', "expected a genotype in TOML, but it cannot be read: "),
        ('2-3 avg"', f'2-3 avg", {"1" * 5000}', "expected a genotype in TOML, but it cannot be read: "),
        ('format = "hpcnas genotype 1"', "", 'expected format = "hpcnas genotype 1", got None'),
        ("genotype 1", "genotype 2", "expected format = \"hpcnas genotype 1\", got 'hpcnas genotype 2'"),
        ('space = "2x3/1x3"', "", "space: expected hierarchical or flat, or MOTIFSxNODES"),
        ("2x3/1x3", "2x3/2x3", "space: the top level (level 3) is the whole cell and has one motif, got 2"),
        ("2x3/1x3", "2x3/1x2/1x3", "expected the tables ['level-2', 'level-3', 'level-4'], got ['level-2', 'level-3']"),
        ("2x3/1x3", "1x3", "expected the tables ['level-2'], got ['level-2', 'level-3']"),
        ("[level-3]", "[level-9]", "expected the tables ['level-2', 'level-3'], got ['level-2', 'level-9']"),
        (
            "[level-3]",
            "x = 1\n[level-3]",
            "expected the tables ['level-2', 'level-3'], got ['level-2', 'level-3', 'x']",
        ),
        ('M2 = ["1-2 max", "2-3 avg"]', "", "level 2: expected the motifs M1, M2, got {'M1': ["),
        ("M2 =", "M3 =", "level 2: expected the motifs M1, M2, got {'M1': ["),
        ("2x3/1x3", "1x3/1x3", "level 2: expected the motifs M1, got {'M1': ["),
        ("[level-3]\nM1 =", "level-3 =", "level 3: expected the motifs M1, got ['1-2 M1', '2-3 M2']"),
        ('["1-2 max", "2-3 avg"]', '"1-2 max"', "M2: expected a list of edges such as \"1-2 1x1\", got '1-2 max'"),
        ('"1-2 max"', "12", 'level 2, M2: expected an edge such as "1-2 1x1", got 12'),
        ("1-2 max", "1-2", "level 2, M2: expected an edge such as \"1-2 1x1\", got '1-2'"),
        ("1-2 M1", "1 2 M1", "level 3, M1: expected an edge such as \"1-2 M1\", got '1 2 M1'"),
        ("1-2 max", "1-2 max max", "level 2, M2: expected an edge such as \"1-2 1x1\", got '1-2 max max'"),
        ("1-2 max", "1-2 5x5", "level 2, M2, edge 1-2: expected one of 1x1, dw, sep, max, avg, id; got '5x5'"),
        ("1-2 max", "1-2 none", "level 2, M2, edge 1-2: expected one of 1x1, dw, sep, max, avg, id; got 'none'"),
        ("1-2 max", "1-2 M1", "level 2, M2, edge 1-2: expected one of 1x1, dw, sep, max, avg, id; got 'M1'"),
        ("1-2 M1", "1-2 max", "level 3, M1, edge 1-2: expected one of M1, M2; got 'max'"),
        ("1-2 M1", "1-2 M3", "level 3, M1, edge 1-2: expected one of M1, M2; got 'M3'"),
        ("1-2 max", "2-1 max", "M2: expected an edge from a lower to a higher node, got the backward edge 2-1"),
        ("1-2 max", "2-2 max", "M2: expected an edge from a lower to a higher node, got the backward edge 2-2"),
        ("1-2 max", "1-4 max", "level 2: expected nodes 1 to 3, got the edge 1-4"),
        ("1-2 M1", "0-2 M1", "level 3: expected nodes 1 to 3, got the edge 0-2"),
        ("1-2 max", "2-3 max", "level 2, M2: expected every edge once, got 2-3 twice"),
    ],
)
def test_texts_that_are_no_genotype(old: str, new: str, message: str) -> None:
    assert old in TINY
    with pytest.raises(GenotypeError) as caught:
        Genotype.from_text(TINY.replace(old, new, 1))
    assert message in str(caught.value)


# The paper's cell


def test_the_papers_cell_is_that_of_appendix_a() -> None:
    paper = genotype.named("paper")
    assert paper.space == HIERARCHICAL

    def edges(level: int, motif: int) -> str:
        names = operation_names(HIERARCHICAL, level)
        return ", ".join(f"{j + 1}-{i + 1} {names[code - 1]}" for j, i, code in sorted(paper.edges(level, motif)))

    assert edges(3, 0) == "1-2 M5, 1-3 M3, 1-4 M3, 1-5 M4, 2-3 M3, 2-4 M1, 2-5 M5, 3-4 M3, 3-5 M5, 4-5 M5"
    assert [edges(2, motif) for motif in range(6)] == [
        "1-2 max, 1-3 1x1, 1-4 sep, 2-3 dw, 2-4 1x1, 3-4 max",
        "1-2 max, 1-3 dw, 1-4 1x1, 2-3 dw, 2-4 sep, 3-4 sep",
        "1-2 sep, 1-3 dw, 1-4 sep, 2-3 sep, 2-4 id, 3-4 avg",
        "1-2 avg, 1-3 sep, 1-4 id, 2-3 sep, 2-4 max, 3-4 avg",
        "1-2 id, 1-3 sep, 1-4 id, 2-3 id, 2-4 sep, 3-4 sep",
        "1-2 dw, 1-3 max, 1-4 sep, 2-3 max, 2-4 id, 3-4 avg",
    ]


@pytest.mark.parametrize("name", ["Paper", "", "../paper", "paper.toml"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        genotype.named(name)
    assert str(caught.value) == f"expected a named genotype (paper), got {name!r}"


def test_a_genotype_has_primitives_of_its_space_alone() -> None:
    space = Space.parse("1x3:1x1,id")
    genotype = Genotype(space, bytes([6, 0, 1]))
    assert 'space = "1x3:1x1,id"' in genotype.text() and '"2-3 id"' not in genotype.text()
    assert Genotype.from_text(genotype.text()) == genotype
    with pytest.raises(GenotypeError, match=r"edge 2 .* expected none or an operation of the space 1x3:1x1,id, got 3"):
        Genotype(space, bytes([6, 0, 3]))
    with pytest.raises(GenotypeError, match="expected one of 1x1, id; got 'sep'"):
        Genotype.from_text(genotype.text().replace("1-2 id", "1-2 sep"))


@pytest.mark.parametrize("space", ["hierarchical", None])
def test_a_space_that_is_none_is_told(space: Any) -> None:
    for make in (
        lambda: Genotype(space, bytes(46)),
        lambda: Genotype.from_array(space, np.zeros(46, dtype=np.uint8)),
        lambda: Genotype.from_adjacency(space, []),
    ):
        with pytest.raises(TypeError, match=r"^expected a Space, such as Space.parse\('hierarchical'\), got "):
            make()


@pytest.mark.parametrize("text", [b"format", None, 7])
def test_what_is_no_text_is_told(text: Any) -> None:
    with pytest.raises(TypeError, match=f"^expected a genotype's text as str, got {type(text).__name__}$"):
        Genotype.from_text(text)
