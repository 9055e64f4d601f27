"""One training of a found network: the same on any number of ranks, continued exactly, and each of its parts at work.

Ranks are threads here (`rank_threads`), numbers are float64, so that a difference of arithmetic is not taken for noise.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from rank_threads import ThreadGroup, on_ranks
from small_retraining import (
    GRAPH,
    REGULARISED,
    STEPS,
    assert_close,
    continued,
    made,
    recipe,
    run,
    trained,
)
from torch import Tensor

from hpcnas.config.data_spec import ImageFacts
from hpcnas.config.retraining import SCHEME
from hpcnas.retrain import regularisation
from hpcnas.retrain.feed import Resident
from hpcnas.retrain.loop import DistributedTraining, numbers
from hpcnas.retrain.pieces import Pieces
from hpcnas.retrain.rates import learning_rate
from hpcnas.training.method import LossNotFinite
from hpcnas.training.network import Network


@pytest.mark.parametrize(
    ("parts", "ranks"),
    [
        pytest.param({}, (2, 3, 4), id="plain"),  # of three ranks, one has 6 images of 16, the others have 5
        pytest.param({"micro_batch": 5}, (3,), id="the last micro-batch has one image"),
        pytest.param(REGULARISED, (3,), id="regularised"),
        pytest.param({"batch_statistics": "micro-batch"}, (2, 3), id="micro-batch"),  # of three, one has two of four
        pytest.param({"batch_statistics": "micro-batch", **REGULARISED}, (3,), id="micro-batch, regularised"),
    ],
)
def test_any_number_of_ranks_computes_the_same(parts: dict[str, object], ranks: tuple[int, ...]) -> None:
    alone, weights = trained(1, recipe(**parts))
    for count in ranks:
        together, other = trained(count, recipe(**parts))
        assert_close(weights, other)
        for one, two in zip(alone.history, together.history, strict=True):
            assert (one.step, one.accuracy) == (two.step, two.accuracy)
            assert one.loss == pytest.approx(two.loss, rel=1e-11)
    assert alone.history[-1].loss != pytest.approx(alone.history[0].loss, rel=1e-3)  # something was learnt


def test_mixed_images_are_the_same_for_any_number_of_ranks_and_after_a_break() -> None:
    mixing = {"augmentation": {"mixup": 0.5}}
    settings = SCHEME.build(SCHEME.settings(recipe(label_smoothing=0.1, class_weights="balanced")), mixing)
    alone, weights = trained(1, settings)
    assert_close(weights, trained(3, settings)[1])
    assert_close(weights, continued(settings))
    assert all(0 <= row.accuracy <= 1 for row in alone.history)
    plain, _ = trained(1, recipe(label_smoothing=0.1, class_weights="balanced"))
    assert plain.history[0].loss != alone.history[0].loss


def test_one_share_mixes_all_images_of_a_step_however_it_is_cut() -> None:
    def share(micro_batch: int, step: int) -> float:
        settings = SCHEME.build(SCHEME.settings(recipe(micro_batch=micro_batch)), {"augmentation": {"mixup": 0.5}})
        feed = Resident(settings, 0, 1, torch.device("cpu"))
        feed.begin(5, step)
        (piece,) = Pieces(settings, 5, feed, 0, 1, torch.device("cpu")).of_step(step)
        parts = piece.labels[(piece.labels > 0) & (piece.labels < 1)]
        (found,) = {round(max(part, 1 - part), 5) for part in parts.tolist()}
        return found

    assert share(2, 0) == share(8, 0) != share(2, 1)


@pytest.mark.parametrize("parts", [{}, REGULARISED], ids=["plain", "regularised"])
def test_feature_maps_that_are_computed_again_change_no_bit(parts: dict[str, object]) -> None:
    def weights(recomputed: bool) -> dict[str, Tensor]:
        def work(group: ThreadGroup) -> dict[str, Tensor]:
            training = made(recipe(**parts), group, recomputed)
            assert run(training)
            return training.weights()

        return on_ranks(3, work)[0]

    kept, again = weights(False), weights(True)
    assert all(torch.equal(value, again[name]) for name, value in kept.items())


def test_a_state_continues_exactly_on_another_number_of_ranks() -> None:
    settings = recipe(**REGULARISED)
    whole, weights = trained(1, settings)

    def first_part(group: ThreadGroup) -> dict[str, Any]:
        training = made(settings, group)
        assert not run(training, until=3)
        assert training.step == 3
        return copy.deepcopy(training.state())

    state = on_ranks(2, first_part)[0]

    def second_part(group: ThreadGroup) -> DistributedTraining:
        training = made(settings, group)
        training.resume(state if group.rank == 0 else None)
        assert run(training)
        return training

    continued = on_ranks(3, second_part)[0]
    assert_close(weights, continued.weights())
    losses = [row.loss for row in whole.history]
    assert [row.loss for row in continued.history] == pytest.approx(losses, rel=1e-11)
    assert [row.step for row in continued.history] == [2, 4, 6]


def test_the_same_ranks_continue_bit_for_bit() -> None:
    settings = recipe(precision="fp32")
    _, weights = trained(1, settings)

    def work(group: ThreadGroup) -> dict[str, Tensor]:
        begun = made(settings, group)
        run(begun, until=4)
        continued = made(settings, group)
        continued.resume(copy.deepcopy(begun.state()))
        run(continued)
        return continued.weights()

    (found,) = on_ranks(1, work)
    assert all(torch.equal(value, found[name]) for name, value in weights.items())


def test_a_state_of_another_training_is_refused() -> None:
    def work(group: ThreadGroup) -> None:
        state = made(recipe(), group).state()
        with pytest.raises(ValueError, match="expected the state of seed 5 of this network, got that of 6"):
            made(recipe(), group).resume(state | {"seed": 6})
        with pytest.raises(ValueError, match="of this network"):
            made(recipe(auxiliary_weight=0.4), group).resume(state)

    on_ranks(1, work)


def test_weights_that_are_kept_are_those_of_the_plain_network_and_were_tested() -> None:
    training, weights = trained(1, recipe(**REGULARISED))
    network = Network(GRAPH, recipe().skeleton(ImageFacts(3, 8, 8, 10))).double()
    network.load_state_dict(weights)
    feed = Resident(recipe(), 0, 1, torch.device("cpu"))
    with torch.no_grad():
        right = sum(
            int((network.eval()(images.double()).argmax(dim=1) == labels).sum()) for images, labels, _ in feed.test()
        )
    tested = training.test()
    assert tested.images == 10 and tested.accuracy == right / 10
    assert tested.top5 is not None and tested.top5 >= tested.accuracy
    assert {int(value) for name, value in weights.items() if name.endswith("num_batches_tracked")} == {STEPS}


def test_averaged_weights_are_the_average_over_all_steps() -> None:
    def work(group: ThreadGroup) -> tuple[list[Tensor], list[Tensor]]:
        training = made(recipe(weight_averaging=0.5), group)
        expected = [torch.zeros_like(value) for value in training._values()]

        def made_step() -> None:
            regularisation.average_in(expected, training._values(), 0.5, training.step)

        training.run(lambda: False, lambda: False, lambda: None, made_step)
        return expected, training._averages

    ((expected, found),) = on_ranks(1, work)
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))


def test_ranks_leave_and_save_together_whoever_wants_it() -> None:
    def work(group: ThreadGroup) -> tuple[int, list[int]]:
        training, saved = made(recipe(), group), []
        complete = training.run(
            leave=lambda: group.rank == 1 and training.step == 3,
            save_due=lambda: group.rank == 0 and training.step == 1,
            save=lambda: saved.append(training.step),
            made_step=lambda: None,
        )
        assert not complete
        return training.step, saved

    assert on_ranks(2, work) == [(4, [2, 4]), (4, [2, 4])]


def test_a_loss_that_is_not_finite_stops_all_ranks() -> None:
    def work(group: ThreadGroup) -> None:
        training = made(recipe(learning_rate=1e18, weight_decay=1e18), group)
        with pytest.raises(LossNotFinite, match=r"seed 5 was not finite at step \d of 6"):
            run(training)

    on_ranks(2, work)


def test_a_network_whose_weights_are_not_finite_is_not_complete() -> None:
    """Every loss was finite, but for that of what the last step has made of the weights."""

    def work(group: ThreadGroup) -> None:
        training = made(recipe(steps=1), group)
        assert run(training, until=1)
        next(training.network.parameters()).data.fill_(float("nan"))
        with pytest.raises(LossNotFinite, match="of seed 5 on the test images was not finite after step 1 of 1"):
            training.test()

    on_ranks(2, work)


def test_the_learning_rate_is_divided_at_milestones_or_falls_along_a_cosine() -> None:
    steps = recipe(steps=8, milestones=(0.5, 0.75, 0.875)).training
    rates = [learning_rate(steps, step) for step in range(8)]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.0001])
    cosine = recipe(steps=8, schedule="cosine").training
    assert [learning_rate(cosine, step) for step in (0, 4)] == pytest.approx([0.1, 0.05])
    warm = recipe(steps=8, schedule="cosine", warm_up=0.75).training
    assert [learning_rate(warm, step) for step in (0, 4, 6)] == pytest.approx(
        [0.1 / 6, 0.05 * 5 / 6, learning_rate(cosine, 6)]
    )


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp64", torch.float64)],
)
def test_numbers_of_feature_maps_on_a_cpu(precision: str, expected: torch.dtype) -> None:
    assert numbers(recipe(precision=precision).training, torch.device("cpu")) is expected
