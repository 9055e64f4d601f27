"""Which failed tasks are tried again, and who is spared them: literal cases."""

from __future__ import annotations

import pytest

from hpcnas.messages import Failure, FailureKind, Place, Result
from hpcnas.search import retries

A, B = ("node-1", "cuda:GPU-a"), ("node-1", "cuda:GPU-b")
HERE = Place(1, *A)


def result(kind: str, attempt: int = 1, individual: int = 7, first: int = 0, place: Place = HERE) -> Result:
    return Result(individual, attempt, place, 0.0, 1.0, Failure(FailureKind[kind], "why"), first)


def able(*devices: tuple[str, str]) -> dict[int, Place]:
    """Workers 1, 2, … on these devices."""
    return {rank: Place(rank, *device) for rank, device in enumerate(devices, 1)}


@pytest.mark.parametrize("kind", ["CRASH", "OOM", "HANG"])
@pytest.mark.parametrize(("attempt", "most", "again"), [(1, 1, False), (1, 2, True), (2, 2, False), (2, 3, True)])
def test_what_may_have_come_from_the_place_is_tried_again(kind: str, attempt: int, most: int, again: bool) -> None:
    assert retries.wanted(result(kind, attempt), [result(kind)], most, able(A)) is again


@pytest.mark.parametrize("kind", ["OVERRUN", "ERROR"])
def test_what_would_come_again_is_not(kind: str) -> None:
    assert not retries.wanted(result(kind), [], 100, able(A, B))


@pytest.mark.parametrize(
    ("before", "devices", "again"),
    [
        ([], [A, B], True),
        ([], [A, A], False),  # ranks that share one device
        ([], [A], False),
        ([result("NAN", place=Place(2, *B))], [A, B], False),  # it was not finite there either
        ([result("CRASH", place=Place(2, *B))], [A, B], True),
        ([result("NAN", individual=6)], [A, B], True),  # another network
        ([result("NAN", first=2)], [A, B], True),  # other replicates
    ],
)
def test_a_loss_that_is_not_finite_is_tried_once_on_another_device(
    before: list[Result], devices: list[tuple[str, str]], again: bool
) -> None:
    assert retries.wanted(result("NAN", attempt=2), before, 100, able(*devices)) is again
    assert not retries.wanted(result("NAN", attempt=2), before, 2, able(*devices))


@pytest.mark.parametrize(
    ("devices", "spared"),
    [
        ([A], {1}),
        ([A, B], {1}),
        ([A, A, B], {1, 2}),  # another device first
        ([A, A, A], {1}),  # then another worker
        ([], {1}),
    ],
)
def test_another_device_is_preferred_and_then_another_worker(devices: list[tuple[str, str]], spared: set[int]) -> None:
    assert retries.avoided(1, HERE, able(*devices)) == spared


def test_a_worker_that_is_out_of_use_is_spared_with_its_device() -> None:
    assert retries.avoided(1, HERE, {2: Place(2, *A), 3: Place(3, *B)}) == {1, 2}
