"""Devices that fail at what others can do: only that counts, in a row, device by device."""

from __future__ import annotations

import pytest

from hpcnas.messages import Place
from hpcnas.search.crew import Devices

BAD, GOOD = Place(1, "node-1", "cuda:GPU-a"), Place(2, "node-2", "cuda:GPU-b")


def told(most: int, *events: tuple[str, Place, int]) -> Devices:
    """Devices after `("failed" | "succeeded", where, individual)`."""
    devices = Devices(most)
    for what, where, individual in events:
        getattr(devices, what)(where, individual)
    return devices


@pytest.mark.parametrize(("most", "bad"), [(1, True), (2, True), (3, False)])
def test_so_many_failures_in_a_row_of_what_succeeds_elsewhere(most: int, bad: bool) -> None:
    devices = told(
        most,
        ("failed", BAD, 0),
        ("failed", BAD, 1),
        ("succeeded", GOOD, 1),
        ("succeeded", GOOD, 0),
    )
    assert devices.is_bad(BAD) is bad
    assert not devices.is_bad(GOOD)


def test_failing_alone_is_no_proof() -> None:
    devices = told(1, *(("failed", BAD, id) for id in range(10)), *(("failed", GOOD, id) for id in range(10)))
    assert not devices.is_bad(BAD) and not devices.is_bad(GOOD)


def test_what_has_never_been_tried_there_is_no_proof() -> None:
    assert not told(1, ("failed", BAD, 0), ("succeeded", GOOD, 1)).is_bad(BAD)


def test_a_success_begins_the_row_anew() -> None:
    devices = told(
        2,
        *(("failed", BAD, 0), ("succeeded", GOOD, 0)),
        *(("failed", BAD, 1), ("succeeded", BAD, 2), ("succeeded", GOOD, 1)),
        *(("failed", BAD, 3), ("succeeded", GOOD, 3)),
    )
    assert not devices.is_bad(BAD)


def test_one_individual_counts_once() -> None:
    devices = told(2, ("failed", BAD, 0), ("failed", BAD, 0), ("succeeded", GOOD, 0), ("succeeded", GOOD, 0))
    assert not devices.is_bad(BAD)


def test_ranks_share_a_device_of_one_name_on_one_host() -> None:
    other_rank, other_device, other_host = (
        Place(7, "node-1", "cuda:GPU-a"),
        Place(7, "node-1", "cuda:GPU-c"),
        Place(7, "node-3", "cuda:GPU-a"),
    )
    devices = told(1, ("failed", BAD, 0), ("succeeded", GOOD, 0))
    assert devices.is_bad(other_rank)
    assert not devices.is_bad(other_device) and not devices.is_bad(other_host)
    devices.succeeded(other_rank, 1)
    assert not devices.is_bad(BAD)
