"""Networks taken apart into blocks: small cells, one property each; what plans compute with them is tested there."""

from __future__ import annotations

import pytest
from test_cpu_program import flat

from hpcnas.architecture.expansion import CellGraph, Edge, expand
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.training.blocks import Block, BlockGraph, Map, Operation, OperationKind, take_apart


def apart(edges: str, nodes: int, cells: tuple[int, ...] = (1,)) -> BlockGraph:
    return take_apart(expand(flat(edges, nodes)), Skeleton(3, 8, 8, 10, 4, cells))


def test_a_cell_of_one_convolution() -> None:
    assert apart("1-2 1x1", 2) == BlockGraph(
        blocks=(Block(0, 4), Block(0, 4), Block(0, 4)),
        maps=(Map(0, ()), Map(0, (0,)), Map(0, (1,)), Map(0, (2,))),
        operations=(
            Operation(OperationKind.STEM, 0, (), (0,), "stem"),
            Operation(OperationKind.CONVOLUTION, 1, (0,), (1,), "blocks.0.edges.0"),
            Operation(OperationKind.SEPARABLE, 2, (1,), (2,), "blocks.1"),
        ),
        final=3,
    )


def test_an_identity_alone_makes_no_map() -> None:
    found = apart("1-2 id", 2)
    assert [each.source for each in found.operations] == [0, 1]  # the stem, and the reduction of what the stem makes
    assert len(found.maps) == 3


def test_a_concatenation_lists_the_blocks_of_its_inputs_in_order() -> None:
    found = apart("1-2 1x1, 1-3 id, 2-3 id", 3)
    assert found.operations[-1].inputs == (0, 1)


def test_a_depthwise_convolution_makes_as_many_blocks_as_it_reads() -> None:
    found = apart("1-2 1x1, 1-3 id, 2-3 id, 3-4 dw", 4)
    (depthwise,) = (each for each in found.operations if each.kind is OperationKind.DEPTHWISE)
    assert (depthwise.inputs, depthwise.outputs) == ((0, 1), (2, 3))


def test_equal_poolings_of_a_block_are_one() -> None:
    found = apart("1-2 max, 1-3 max, 1-4 avg, 2-4 id, 3-4 id", 4)
    assert [each.kind.name for each in found.operations[1:-1]] == ["MAXIMUM", "AVERAGE"]
    assert found.operations[-1].inputs == (2, 1, 1)


def test_resolutions_halve_and_channels_double_from_group_to_group() -> None:
    found = apart("1-2 1x1", 2, (2, 1))
    reductions = [each for each in found.operations if each.kind is OperationKind.SEPARABLE]
    assert [each.stride for each in reductions] == [1, 2, 1]
    assert [found.blocks[each.outputs[0]] for each in reductions] == [Block(0, 4), Block(1, 8), Block(1, 8)]
    assert [each.name for each in reductions] == ["blocks.1", "blocks.3", "blocks.5"]


def test_a_primitive_of_a_plugin_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a primitive's code from 1 to 6, got 7"):
        take_apart(CellGraph(2, (Edge(0, 1, 7),)), Skeleton(3, 8, 8, 10, 4, (1,)))
