"""Which images of a step each rank computes, and what is drawn for them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.retrain.draws import ImageDraws
from hpcnas.retrain.shares import micro_batch, micro_batches_of, most_ranks, pieces


def recipe(statistics: str, batch_size: int, size: int) -> RetrainingConfig:
    return SCHEME.build({"training": {"batch_statistics": statistics, "batch_size": batch_size, "micro_batch": size}})


@pytest.mark.parametrize(
    ("statistics", "ranks", "expected"),
    [
        ("micro-batch", 1, [[range(4), range(4, 8), range(8, 12)]]),
        ("micro-batch", 2, [[range(4), range(8, 12)], [range(4, 8)]]),
        ("step", 1, [[range(12)]]),
        ("step", 5, [[range(2)], [range(2, 4)], [range(4, 7)], [range(7, 9)], [range(9, 12)]]),
    ],
)
def test_pieces_by_hand(statistics: str, ranks: int, expected: list[list[range]]) -> None:
    assert [pieces(recipe(statistics, 12, 4), rank, ranks) for rank in range(ranks)] == expected


def test_a_piece_is_of_the_micro_batches_that_it_touches_and_the_last_may_be_smaller() -> None:
    settings = recipe("step", 10, 4)
    assert [list(micro_batches_of(settings, part)) for part in (range(4), range(3, 5), range(5, 10))] == [
        [0], [0, 1], [1, 2],
    ]  # fmt: skip
    assert micro_batch(settings, 2) == range(8, 10)
    assert (most_ranks(settings), most_ranks(recipe("micro-batch", 12, 4))) == (10, 3)


def test_draws_of_an_image_do_not_depend_on_those_beside_it_and_can_be_made_again() -> None:
    def drawn(first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        draws = ImageDraws(torch.device("cpu"))
        generators = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
        draws.begin(generators, [4, 3], slice(first, last))
        numbers = draws.uniform(2)
        state = draws.state()
        chosen = draws.integers(100)
        draws.go_back(state)
        assert torch.equal(draws.integers(100), chosen)
        return numbers, chosen, draws.uniform(1)

    whole = drawn(0, 7)
    assert [tuple(value.shape) for value in whole] == [(2, 7), (7,), (1, 7)]
    for first, last in ((0, 3), (3, 5), (5, 7)):
        for part, all_of_them in zip(drawn(first, last), whole, strict=True):
            assert torch.equal(part, all_of_them[..., first:last])
    alone = torch.Generator().manual_seed(7)
    assert torch.equal(whole[0][:, :4], torch.rand((2, 4), generator=alone))
