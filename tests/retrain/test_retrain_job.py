"""What a job of a retraining asks of its ranks before anything is trained: a device each, of one kind."""

from __future__ import annotations

import pytest

from hpcnas.config.retraining import RetrainingConfig
from hpcnas.job.devices import Seat, bind_all
from hpcnas.job.launch import Leave
from hpcnas.job.status import WRONG_USE
from hpcnas.retrain import job


def seat(host: str, gpus: str = "", cards: str = "") -> Seat:
    return Seat(host, tuple(gpus.split()), frozenset({0, 1}), 2, tuple(cards.split()))


def check(*seats: Seat, device: str = "auto") -> None:
    job._check_ranks(RetrainingConfig(), list(seats), bind_all(seats, device, None))


def test_ranks_of_one_kind_are_taken() -> None:
    check(seat("a", "0 1"), seat("a", "0 1"), seat("b", "0"))
    check(seat("a"), seat("b"), seat("b"))
    check(seat("a", "0"), seat("b"), device="cpu")


def test_ranks_with_and_without_a_gpu_cannot_meet() -> None:
    with pytest.raises(Leave, match="for every rank or for none, but ranks on b, d see none and others do") as left:
        check(seat("a", "0"), seat("d"), seat("c", "0"), seat("b"), seat("b"))
    assert left.value.exit_code == WRONG_USE


def test_ranks_that_share_a_card_are_refused() -> None:
    shared = [seat("a", "0 1", "GPU-1 GPU-2")] * 3
    with pytest.raises(Leave, match="3 ranks share 2 on a; start 2 there") as left:
        check(*shared)
    assert left.value.exit_code == WRONG_USE
    check(*shared[1:], seat("b", "0 1", "GPU-3 GPU-4"))


def test_cards_of_one_name_are_told_apart_by_their_uuids() -> None:
    check(seat("a", "0", "GPU-1"), seat("a", "0", "GPU-2"))
    with pytest.raises(Leave, match="2 ranks share 1 on a; start 1 there"):
        check(seat("a", "0", "GPU-1"), seat("a", "0", "GPU-1"))
    check(seat("a", "0"), seat("a", "0"))  # nobody knows
