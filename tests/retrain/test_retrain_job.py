"""What a job of a retraining looks at before anything is trained: a device for each rank, of one kind; test images."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from toolruns import CHAIN

from hpcnas.architecture.expansion import expand
from hpcnas.config.data_spec import DataError, DataFacts
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.job.devices import Seat, bind_all
from hpcnas.job.launch import Leave
from hpcnas.job.status import BROKEN, WRONG_USE
from hpcnas.job.world import AloneWorld
from hpcnas.retrain import inspection, job
from hpcnas.retrain.feed import Appearance
from hpcnas.retrain.process_group import Group
from hpcnas.retrain.record import Origin, Start
from hpcnas.retrain.trained_weights import UnusableWeights
from hpcnas.training import checkpoints
from hpcnas.training.network import Network


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


def look(
    looks: Iterator[None], broken_tests: set[str], images: int = 12, leaving: bool = False, problem: str | None = None,
    broken: frozenset[str] = frozenset(), max_broken: int | None = 3,
) -> None:  # fmt: skip
    settings = SCHEME.build({} if max_broken is None else {"data": {"max_broken": max_broken}})
    feed = SimpleNamespace(
        look=lambda leave: looks, broken_tests=broken_tests, test_images=images, problem=problem,
        tested_on=f"{images} test images of val", interrupted=problem is not None,
        broken=broken, validation_images=5, validated_on="5 images of validation",
    )  # fmt: skip
    inspection.look(Group(AloneWorld(), torch.device("cpu"), None, lambda: leaving), settings, feed)  # type: ignore[arg-type]


def test_all_test_images_are_looked_at() -> None:
    looks = iter([None] * 5)
    look(looks, {"val/a", "val/b", "val/c"})
    assert list(looks) == []


def test_validation_images_that_cannot_be_read_are_refused_before_the_training() -> None:
    expected = "at most 3 unreadable validation images, got 4 of 5 images of validation, such as validation/0; mend the"
    with pytest.raises(Leave, match=expected) as left:
        look(iter(()), set(), broken=frozenset(f"validation/{number}" for number in range(4)))
    assert left.value.exit_code == WRONG_USE
    with pytest.raises(Leave, match="expected images that can be read, but none of 5 images of validation can"):
        look(iter(()), set(), broken=frozenset(f"validation/{number}" for number in range(5)))


def test_too_many_test_images_that_cannot_be_read_are_refused_before_the_training() -> None:
    expected = "at most 3 unreadable test images, got 4 of 12 test images of val, such as val/a; mend .* --max-broken"
    with pytest.raises(Leave, match=expected) as left:
        look(iter(()), {"val/d", "val/c", "val/b", "val/a"})
    assert left.value.exit_code == WRONG_USE
    with pytest.raises(Leave, match="expected images that can be read, but none of 2 test images of val can"):
        look(iter(()), {"val/a", "val/b"}, images=2)


@pytest.mark.parametrize(("images", "most"), [(99, 0), (199, 1), (5_000, 50), (50_000, 100)])
def test_by_default_one_in_a_hundred_test_images_may_be_unreadable(images: int, most: int) -> None:
    names = {f"val/{number}" for number in range(most + 1)}
    look(iter(()), names - {"val/0"}, images, max_broken=None)
    with pytest.raises(Leave, match=f"expected at most {most} unreadable test images, got {most + 1} of {images} test"):
        look(iter(()), names, images, max_broken=None)
    assert SCHEME.build().data.most_broken() == 100


def test_test_images_that_no_test_can_be_made_with_are_refused() -> None:
    def looks() -> Iterator[None]:
        yield
        raise DataError("expected grey test images")

    with pytest.raises(Leave, match="expected grey test images") as left:
        look(looks(), set())
    assert left.value.exit_code == WRONG_USE


def test_a_job_that_is_to_leave_looks_at_no_more_of_them() -> None:
    looks = iter([None] * 5)
    look(looks, {"val/a", "val/b", "val/c", "val/d"}, leaving=True)
    assert len(list(looks)) == 4


def test_test_images_that_do_not_come_end_the_job_with_the_reason() -> None:
    with pytest.raises(Leave, match=r"expected images within 600 s, got none") as left:
        look(iter(()), set(), problem="expected images within 600 s, got none: rank 0 waits for val/a")
    assert left.value.exit_code == BROKEN


@pytest.mark.parametrize(
    ("classes", "names", "told"),
    [
        (2, ("ape", "bee"), []),
        (2, (), []),
        (2, ("cat", "dog"), ["given.pt are of other classes, as many: the classifier begins with theirs"]),
        (3, ("ape", "bee", "cat"), ["given.pt are not of 2 classes: the classifier begins anew"]),
    ],
)
def test_what_weights_to_start_from_do_not_have_is_told(
    classes: int, names: tuple[str, ...], told: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SCHEME.build({"network": {"channels": 4, "cells": (1,)}})
    facts = DataFacts(1, 8, 8, 2, 10, 0, "0" * 16)
    found = Appearance(facts, ("ape", "bee"), (0.0,), (1.0,), 8)
    given = settings.skeleton(DataFacts(1, 8, 8, classes, 10, 0, "0" * 16))
    checkpoints.save(tmp_path / "given.pt", Network(expand(CHAIN), given).state_dict())
    start = Start(tmp_path / "given.pt", "0" * 16, names)
    orders = job.Orders(settings, CHAIN, Origin("paper", "2x3/1x3"), (0,), start, False)
    with caplog.at_level(logging.WARNING, "hpcnas"):
        weights = job._start(orders, found)
    assert weights is not None and ("classifier.bias" in weights) == (classes == 2)
    assert [line.rpartition("/")[2] for line in caplog.messages] == told
    checkpoints.save(tmp_path / "given.pt", {})
    with pytest.raises(UnusableWeights, match="expected the .* tensors of this cell"):
        job._start(orders, found)
