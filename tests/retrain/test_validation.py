"""Validation while a network trains: the training is that on fewer images, bit for bit; ranks and an early end change
nothing about the curve; test images stay unread."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rank_threads import ThreadGroup, on_ranks
from small_retraining import REGULARISED, STEPS, assert_close, made, trained
from small_retraining import recipe as plain
from test_record_file import RECORD

from hpcnas.config.data_spec import DataError
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.data.datasets import DataSet, Images, load_training
from hpcnas.job.log import LiveLine
from hpcnas.retrain import feed as feeds
from hpcnas.retrain.feed import Batch
from hpcnas.retrain.held_out import held_out
from hpcnas.retrain.loop import DistributedTraining
from hpcnas.retrain.progress import Progress, final_table
from hpcnas.retrain.record import Validation
from hpcnas.retrain.scoring import ImagesMissing


def recipe(fraction: float = 0.24, **training: object) -> RetrainingConfig:
    """12 of 50 images held out."""
    layer = {"data": {"validation_fraction": fraction}, "run": {"validate_every": 2}}
    return SCHEME.build(SCHEME.settings(plain(**training)), layer)


def run(training: DistributedTraining, leave: Callable[[], bool] = lambda: False) -> bool:
    return training.run(leave, lambda: False, lambda: None, lambda: None)


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads a test image fails."""
    monkeypatch.setattr(feeds, "load_test", lambda *given, **named: pytest.fail("test images are read"))


def of_fewer_images(settings: RetrainingConfig) -> Callable[..., DataSet]:
    """`load_training` without the images that these settings hold out."""

    def load(source: str, *, download: bool = False) -> DataSet:
        found = load_training(source, download=download)
        kept = ~held_out(settings, found.images.labels)
        return dataclasses.replace(found, images=Images(found.images.pixels[kept], found.images.labels[kept]))

    return load


def test_the_training_is_that_on_the_other_images_bit_for_bit(monkeypatch: pytest.MonkeyPatch, untested: None) -> None:
    regularised = {"precision": "fp32", **REGULARISED}
    validated, weights = trained(1, recipe(**regularised))
    assert [row.images for row in validated.validations] == [12, 12, 12]
    monkeypatch.setattr(feeds, "load_training", of_fewer_images(recipe()))
    fewer, expected = trained(1, recipe(0.0, **regularised))
    assert fewer.validations == []
    assert all(torch.equal(value, weights[name]) for name, value in expected.items())
    assert [(row.step, row.loss, row.accuracy) for row in validated.history] == [
        (row.step, row.loss, row.accuracy) for row in fewer.history
    ]


def test_any_number_of_ranks_validates_on_the_same_images(untested: None) -> None:
    alone, weights = trained(1, recipe(**REGULARISED))
    together, others = trained(3, recipe(**REGULARISED))
    assert_close(weights, others)
    assert [(row.step, row.images) for row in alone.validations] == [(2, 12), (4, 12), (6, 12)]
    for one, two in zip(alone.validations, together.validations, strict=True):
        assert (one.step, one.images, one.accuracy) == (two.step, two.images, two.accuracy)
        assert one.loss == pytest.approx(two.loss, rel=1e-5)  # summed in float32


def test_the_last_validation_is_of_the_weights_that_are_kept() -> None:
    training, _ = trained(1, recipe(**REGULARISED))
    training._feed.test = training._feed.validate  # type: ignore[method-assign]
    tested, last = training.test(), training.validations[-1]
    assert (last.step, last.images, last.accuracy, last.loss) == (STEPS, tested.images, tested.accuracy, tested.loss)


def test_a_validation_that_leaving_cuts_short_is_made_when_the_training_goes_on() -> None:
    whole, weights = trained(1, recipe())
    for last in (4, STEPS):  # the step after which it is cut short

        def first_part(group: ThreadGroup, last: int = last) -> dict[str, Any]:
            training = made(recipe(), group)
            validate, validating = training._feed.validate, []

            def noted(called: Callable[[], bool]) -> Any:
                validating.append(training.step)
                return validate(called)

            training._feed.validate = noted  # type: ignore[method-assign]
            assert not run(training, lambda: group.rank == 1 and validating[-1:] == [last])
            assert training.step == last
            return copy.deepcopy(training.state())

        state = on_ranks(2, first_part)[0]
        assert [row["step"] for row in state["validations"]] == list(range(2, last, 2))

        def second_part(group: ThreadGroup, state: dict[str, Any] = state) -> DistributedTraining:
            training = made(recipe(), group)
            training.resume(state if group.rank == 0 else None)
            assert run(training)
            return training

        continued = on_ranks(3, second_part)[0]
        assert_close(weights, continued.weights())
        expected = [(row.seed, row.step, row.images, row.accuracy) for row in whole.validations]
        assert [(row.seed, row.step, row.images, row.accuracy) for row in continued.validations] == expected


def test_a_state_of_an_earlier_version_goes_on_with_validations() -> None:
    def work(group: ThreadGroup) -> list[int]:
        begun = made(recipe(), group)
        run(begun, lambda: begun.step == 3)
        state = {name: value for name, value in begun.state().items() if name != "validations"}
        continued = made(recipe(), group)
        continued.resume(state)
        run(continued)
        return [row.step for row in continued.validations]

    assert on_ranks(1, work) == [[4, 6]]


def test_unreadable_images_are_left_out_and_none_that_can_be_read_is_an_error() -> None:
    def work(group: ThreadGroup) -> None:
        training = made(recipe(steps=2), group)
        training._feed.validate = lambda leave: iter(())  # type: ignore[method-assign]
        training._feed.broken = {f"validation/{group.rank}"}
        with pytest.raises(DataError, match="that can be read, but none of 12 held-out training images can$"):
            run(training)
        assert training.broken == {"validation/0", "validation/1"}

    on_ranks(2, work)


@pytest.mark.parametrize("problem", [None, "rank 1 waits for validation/a.jpg"])
def test_where_one_rank_has_no_validation_images_all_leave_with_the_step_saved(problem: str | None) -> None:
    def work(group: ThreadGroup) -> tuple[int, str]:
        training, saved, said = made(recipe(), group), [], ""
        training._feed.waits = True

        def nothing_comes(leave: Callable[[], bool]) -> Iterator[Batch]:
            training._feed.interrupted, training._feed.problem = True, problem
            return iter(())

        if group.rank == 1:
            training._feed.validate = nothing_comes  # type: ignore[method-assign]
        try:
            assert not training.run(lambda: False, lambda: False, lambda: saved.append(training.step), lambda: None)
        except ImagesMissing as missing:
            said = str(missing)
        assert training.validations == []
        return saved[-1], said

    assert on_ranks(2, work) == [(2, problem or "")] * 2


def test_a_validation_is_told_once_and_the_result_says_on_how_many_images(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hpcnas")
    training: Any = SimpleNamespace(step=1000, seconds=1.0, waited=0.0, history=[])
    training.validations = [Validation(3, 500, 1500, 0.25, 2.0, 1.0)]
    progress = Progress(plain(), LiveLine("plain"))
    progress.training_began(RECORD, 3, training)
    training.validations.append(Validation(3, 1000, 1500, 0.5, 1.5, 1.0))
    progress.stepped(training)
    progress.stepped(training)
    assert [line for line in caplog.messages if "on 1,500" in line] == [
        "step 1,000: validation accuracy 0.5000 on 1,500 images"
    ]
    assert "· validation 0.5000" in caplog.messages[-1]
    table = final_table(RECORD)
    assert "validation accuracy  37.50 % (one run)" in table and "validation images    499" in table
