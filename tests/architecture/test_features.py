"""The features of cells: literal small ones."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import pytest

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import bare, expand
from hpcnas.architecture.features import MOST, Vocabulary, quarter_octaves
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.mutation import diversified
from hpcnas.architecture.sizes import Size
from hpcnas.architecture.space import FLAT, HIERARCHICAL, Space

NOTHING = Size(0, 0)
ONE, SEP = primitives.CONVOLUTION, primitives.SEPARABLE


def features(genotype: Genotype, size: Size) -> Mapping[Hashable, int]:
    """By what they are."""
    vocabulary = Vocabulary()
    return vocabulary.named(vocabulary.features(genotype, expand(genotype), size))


def chain() -> Genotype:
    """1 ──1x1──► 2 ──sep──► 3"""
    return Genotype(Space.parse("1x3"), bytes([ONE, 0, SEP]))


def test_a_chain() -> None:
    assert features(chain(), NOTHING) == {
        ONE: 1, SEP: 1, "edges": 2, "nodes": 3,
        ("degrees", 0, 1): 1, ("degrees", 1, 1): 1, ("degrees", 1, 0): 1,
        (ONE, SEP): 1,
        ("around", (), (ONE,)): 1, ("around", (ONE,), (SEP,)): 1, ("around", (SEP,), ()): 1,
        "longest": 2, "shortest": 2, "weighted": 2, ("deepest", 2): 1,
        ("path", (ONE, SEP)): 1,
        ("place", 0, ONE): 1, ("place", 2, SEP): 1, ("pair", (0, ONE), (2, SEP)): 1,
    }  # fmt: skip


def test_a_second_path_is_counted() -> None:
    both = features(Genotype(Space.parse("1x3"), bytes([ONE, ONE, SEP])), NOTHING)
    assert both["path", (ONE,)] == both["path", (ONE, SEP)] == 1
    assert both["paths"] == 4  # twice as many as one: a quarter octave each
    assert (both["longest"], both["shortest"]) == (2, 1)


def test_the_size_is_told_in_quarter_octaves() -> None:
    found = features(chain(), Size(1024, 3))
    assert (found["parameters"], found["flops"]) == (40, 6)


@pytest.mark.parametrize(("number", "expected"), [(0, 0), (1, 0), (2, 4), (3, 6), (15_731_274, 95)])
def test_logarithms_are_whole(number: int, expected: int) -> None:
    assert quarter_octaves(number) == expected


def test_a_feature_keeps_its_number_and_what_was_met_before_changes_nothing_of_a_cell() -> None:
    vocabulary, alone = Vocabulary(), features(chain(), NOTHING)
    both = Genotype(Space.parse("1x3"), bytes([ONE, ONE, SEP]))
    first = vocabulary.features(both, expand(both), NOTHING)
    known = len(vocabulary)
    second = vocabulary.features(chain(), expand(chain()), NOTHING)
    assert list(vocabulary.named(second).items()) == list(alone.items())
    assert known == len(first.numbers) and len(set(first.numbers) | set(second.numbers)) == len(vocabulary)


def test_a_cell_with_many_paths_tells_none_of_them() -> None:
    dense = Genotype(Space.parse("1x7"), bytes([ONE] * 21))
    found = features(dense, NOTHING)
    assert found["paths"] == 20 and not any(isinstance(key, tuple) and key[0] == "path" for key in found)
    assert found["around", (ONE,) * 3, (ONE,) * 3] == found["degrees", 3, 3] == 1 and found[ONE, ONE] == 35


@pytest.mark.parametrize("space", [FLAT, HIERARCHICAL, Space.parse("1x2"), Space.parse("2x3/2x3/1x3")])
def test_values_are_whole_numbers_in_their_range(space: Space) -> None:
    for seed in range(20):
        genotype = bare(diversified(space, 200, np.random.default_rng(seed)))
        if any(genotype.codes):
            values = features(genotype, Size(10**15, 10**18)).values()
            assert all(type(value) is int and 1 <= value <= MOST for value in values)


def test_of_motifs_no_places_are_told() -> None:
    """Whichever of two equal motifs the cell is made of, its features are those of the graph."""
    space = Space.parse("2x3/1x3")
    first, second = (bytes([ONE, 0, SEP, ONE, 0, SEP, *upper]) for upper in ([1, 0, 2], [2, 0, 1]))
    found = features(Genotype(space, first), NOTHING)
    assert found == features(Genotype(space, second), NOTHING)
    assert found[SEP] == 2 and not any(isinstance(key, tuple) and "place" in key for key in found)


def test_the_papers_cell() -> None:
    found = features(bare(named("paper")), NOTHING)
    assert 30 < len(found) < 300 and found["edges"] == sum(found.get(code, 0) for code in range(1, 7))
