"""The order of a retraining's images: every image once an epoch, and a pure function of seed and place."""

from __future__ import annotations

import numpy as np

from hpcnas import seeds
from hpcnas.retrain.feed import Order


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    order = Order(images=7, seed=3)
    first, second = order(0, 7), order(7, 7)
    assert sorted(first) == sorted(second) == list(range(7))
    assert first.tolist() != second.tolist()


def test_a_place_holds_the_same_image_however_it_is_asked_for() -> None:
    whole = Order(5, seed=1)(0, 40)
    assert np.concatenate([Order(5, seed=1)(start, 8) for start in range(0, 40, 8)]).tolist() == whole.tolist()
    order = Order(5, seed=1)
    assert [int(order(place, 1)[0]) for place in reversed(range(40))] == whole[::-1].tolist()


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert sorted(Order(3, seed=0)(0, 9)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_another_seed_gives_another_order() -> None:
    assert Order(50, seed=0)(0, 50).tolist() != Order(50, seed=1)(0, 50).tolist()


def test_seeds_of_draws_differ_by_purpose_step_and_place() -> None:
    drawn = [seeds.micro_batch_seed(0, 1, 2), seeds.micro_batch_seed(0, 2, 1), seeds.micro_batch_seed(1, 1, 2)]
    drawn += [seeds.image_seed(0, 1), seeds.image_seed(0, 2), seeds.training_seed(0, 1, 2)]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= seed < 2**63 for seed in drawn)
