"""Images that do not come to some rank, or cannot be read: all ranks know, leave together and test alike."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from rank_threads import ThreadGroup, on_ranks
from small_retraining import (
    STEPS,
    made,
    recipe,
    run,
)

from hpcnas.config.retraining import SCHEME
from hpcnas.retrain.feed import Batch, PlacedBatch, Resident, never
from hpcnas.retrain.loop import DistributedTraining
from hpcnas.retrain.scoring import ImagesMissing, TooManyBroken


class WithoutImages(Resident):
    """Has none from some step on."""

    def __init__(self, known: Resident, step: int, problem: str | None) -> None:
        self.__dict__ |= known.__dict__
        self._step, self._problem = step, problem

    def next(self, step: int, micro_batch: int, generator: torch.Generator) -> Batch:
        images, labels = super().next(step, micro_batch, generator)
        if step < self._step:
            return images, labels
        self.interrupted, self.problem = True, self._problem
        return torch.full_like(images, math.nan), labels

    def test(self, leave: Callable[[], bool] = never) -> Iterator[PlacedBatch]:
        yield next(super().test())
        self.interrupted, self.problem = True, self._problem


@pytest.mark.parametrize("statistics", ["micro-batch", "step"])
@pytest.mark.parametrize("problem", [None, "rank 1 waits for a.jpg"])
def test_where_one_rank_has_no_images_all_leave_with_the_step_before(statistics: str, problem: str | None) -> None:
    settings = recipe(batch_statistics=statistics)

    def work(group: ThreadGroup) -> tuple[dict[str, Any], int, str]:
        training, saved, said = made(settings, group), [], ""
        training._feed.waits = True
        if group.rank == 1:
            without: Any = WithoutImages(training._feed, 3, problem)  # type: ignore[arg-type]
            training._feed = training._scorer._feed = training._pieces._feed = without
        parts: Any = {"leave": lambda: False, "save_due": lambda: False, "made_step": lambda: None}
        try:
            assert not training.run(save=lambda: saved.append(copy.deepcopy(training.state())), **parts)
        except ImagesMissing as missing:
            said = str(missing)
        return saved[-1], len(saved), said

    def undisturbed(group: ThreadGroup) -> dict[str, Any]:
        training = made(settings, group)
        run(training, until=3)
        return training.state()

    expected = on_ranks(4, undisturbed)[0]
    for state, saves, said in on_ranks(4, work):
        assert (state["step"], saves, said) == (3, 1, problem or "")
        assert all(torch.equal(one, two) for one, two in zip(state["tensors"], expected["tensors"], strict=True))
        assert [row["step"] for row in state["history"]] == [2]


@pytest.mark.parametrize("problem", [None, "rank 1 waits for a.jpg"])
def test_where_one_rank_has_no_test_images_all_know(problem: str | None) -> None:
    def work(group: ThreadGroup) -> str:
        training = made(recipe(), group)
        training._feed.waits = True
        assert run(training)
        if group.rank == 1:
            training._feed = training._scorer._feed = WithoutImages(training._feed, STEPS, problem)  # type: ignore[arg-type]
        try:
            assert training.test() is None
        except ImagesMissing as missing:
            return str(missing)
        return ""

    assert on_ranks(2, work) == [problem or ""] * 2


def with_broken_images(training: DistributedTraining, names: dict[int, set[str]]) -> DistributedTraining:
    """Its rank meets these in these steps, from 0."""
    feed, given = training._feed, training._feed.next

    def next(step: int, micro_batch: int, generator: torch.Generator) -> Batch:
        feed.broken |= names.get(step, set())
        return given(step, micro_batch, generator)

    feed.next = next  # type: ignore[method-assign]
    return training


def test_a_broken_image_counts_once_whichever_ranks_meet_it_and_all_of_them_know() -> None:
    settings = SCHEME.build(SCHEME.settings(recipe()), {"data": {"max_broken": 2}})
    met: list[dict[int, set[str]]] = [{0: {"a"}, 3: {"b"}}, {1: {"b"}, 2: {"a"}}]

    def work(group: ThreadGroup) -> dict[str, Any]:
        training = with_broken_images(made(settings, group), met[group.rank])
        assert not run(training, until=5)
        return training.state()

    states = on_ranks(2, work)
    assert [state["broken"] for state in states] == [["a", "b"], ["a", "b"]]

    def continued(group: ThreadGroup) -> set[str]:
        training = with_broken_images(made(settings, group), {4: {"a"}, 5: {"c"} if group.rank == 1 else {"b"}})
        training.resume(states[0] if group.rank == 0 else None)
        with pytest.raises(TooManyBroken, match="expected at most 2 unreadable images, got 3; mend the data, or"):
            run(training)
        return training.broken

    assert on_ranks(3, continued) == [{"a", "b", "c"}] * 3


def with_tests(training: DistributedTraining, *batches: PlacedBatch, broken: int = 0) -> DistributedTraining:
    """Its rank is tested on these; so many more cannot be read."""
    training._feed.test = lambda leave=never: iter(batches)  # type: ignore[method-assign,misc]
    training._feed.broken_tests = {f"val/{training._group.rank}-{number}" for number in range(broken)}
    return training


def test_too_many_unreadable_test_images_make_no_test() -> None:
    settings = SCHEME.build(SCHEME.settings(recipe(steps=1)), {"data": {"max_broken": 3}})
    images, labels = torch.zeros(2, 3, 8, 8, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)

    def work(group: ThreadGroup) -> int:
        batch = images, labels, np.array([group.rank, 2 + group.rank])
        training = with_tests(made(settings, group), batch, broken=1 + group.rank)
        tested = training.test()
        assert tested is not None and tested.images == 4
        training.network.train()
        with_tests(training, batch, broken=2)
        with pytest.raises(TooManyBroken, match="at most 3 unreadable test images, got 4 of 8; mend the data, or"):
            training.test()
        return 0

    on_ranks(2, work)
