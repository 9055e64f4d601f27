"""What is done where a step does not fit into memory: the same bits with more time, else another result, said aloud."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from toolruns import CHAIN

from hpcnas.analysis import table1
from hpcnas.architecture.expansion import expand
from hpcnas.architecture.sizes import size, step_memory
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.job.signals import Signals
from hpcnas.job.world import AloneWorld
from hpcnas.retrain import fitting, job, record_file
from hpcnas.retrain.fitting import Fit, RankRoom, choose

TIGHT, LESS = RankRoom(1, 24, 7 * 2**29, 23, 24), RankRoom(2, 24, 3 * 2**29, 9, 10)
AMPLE = RankRoom(0, 24, 2**40, 900, 2000)


def recipe(batch_size: int = 48, recompute: str = "auto", smaller: str = "auto", micro: int = 0) -> RetrainingConfig:
    cut = {"micro_batch": micro, "batch_statistics": "micro-batch"} if micro else {}
    return SCHEME.build(
        {"training": {"batch_size": batch_size, **cut}, "run": {"recompute": recompute, "smaller_batches": smaller}}
    )


def chosen(rooms: list[RankRoom], settings: RetrainingConfig, begins: bool = True) -> Fit:
    return choose(rooms, settings, begins, speaks=True)


@pytest.mark.parametrize(
    ("rooms", "settings", "expected"),
    [
        ([AMPLE], recipe(), Fit(False)),
        ([AMPLE], recipe(recompute="always"), Fit(True)),
        ([AMPLE, LESS], recipe(recompute="never"), Fit(False)),
        ([AMPLE, TIGHT], recipe(), Fit(True, None, 12)),
        ([AMPLE, TIGHT, LESS], recipe(), Fit(True, 8, 4)),  # divisors of 48: 2 3 4 6 8 12 16
        ([AMPLE, LESS], recipe(recompute="always"), Fit(True, 8, 4)),
        ([AMPLE, LESS], recipe(50), Fit(True, 10, 5)),
        ([AMPLE, LESS], recipe(smaller="never"), Fit(True, None, 12)),
        ([RankRoom(0, 24, 0, 0, 0)], recipe(), Fit(True, 2, 1)),
        ([RankRoom(0, 47, 0, 0, 0)], recipe(47), Fit(True, None, 23)),  # a prime number cannot be cut
        ([RankRoom(0, 16, 2**20, 3, 6)], recipe(micro=16), Fit(True, 6, 3)),
    ],
)
def test_what_fits_by_hand(rooms: list[RankRoom], settings: RetrainingConfig, expected: Fit) -> None:
    assert choose(rooms, settings, begins=True, speaks=True, pixels=0.5) == expected


def test_what_is_done_about_memory_is_told_once_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    assert not choose([AMPLE], recipe(), True, speaks=True).recomputed and caplog.messages == []
    assert choose([AMPLE, LESS], recipe(), True, speaks=False) == Fit(True, 8, 8) and caplog.messages == []
    chosen([AMPLE, TIGHT], recipe())
    (line,) = caplog.messages
    assert "of 24 images take more memory than 3.5 GiB, which are free on rank 1: they are computed again" in line
    caplog.clear()
    chosen([AMPLE, LESS], recipe())
    first, second = caplog.messages
    assert "24 images do not fit into 1.5 GiB, which are free on rank 2, also where" in second
    assert "BATCH STATISTICS ARE OF 8 IMAGES instead of all 48 of a step, which changes the result" in second
    assert "start more ranks" in second and "--smaller-batches never" in second and "run out" not in second
    caplog.clear()
    chosen([RankRoom(0, 24, 0, 0, 0)], recipe())
    assert "OF 2 IMAGES" in caplog.messages[1] and "--run, and memory may run out all the same" in caplog.messages[1]
    caplog.clear()
    assert chosen([AMPLE, LESS], recipe(), begins=False) == Fit(True, None, 24)
    assert "stay those of all 48 of a step, as when it began, and memory may run out" in caplog.messages[1]


def test_the_room_of_a_rank_is_what_is_left_beside_its_weights() -> None:
    graph, skeleton = expand(CHAIN), Skeleton(3, 8, 8, 10, 4, (9,))
    memory, weights = step_memory(graph, skeleton), 3 * 4 * size(graph, skeleton).parameters
    free = weights + 7 * round(1.2 * memory.bytes(4)) + 100
    found = fitting.room(1, recipe(), graph, skeleton, 24, 4, free)
    assert (found.rank, found.images, found.free, found.whole) == (1, 24, free, 7) and found.again > 7
    assert fitting.room(1, recipe(), graph, skeleton, 24, 4, weights - 1).again == 0
    of_one_cell = fitting.room(1, recipe(), graph, replace(skeleton, cells=(1,)), 24, 4, free)
    assert of_one_cell.whole == of_one_cell.again  # gradients and maps of a cell are there at once


def test_a_retraining_that_was_cut_stays_so_and_table_1_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cell.toml").write_text(CHAIN.text())
    options = [
        *("--genotype", str(tmp_path / "cell.toml"), "--channels", "4", "--cells", "1", "--steps", "2"),
        *("--batch-size", "24", "--micro-batch", "12", "--data", "synthetic:60:3x8x8", "--threads", "1"),
        *("--run", str(tmp_path / "run")),
    ]
    handlers = logging.getLogger("hpcnas").handlers[:]

    def trained(free: int, *more: str) -> str:
        monkeypatch.setattr(fitting, "free_memory", lambda: free)
        try:
            assert job.run(AloneWorld(), [*options, *more], Signals()) == 0
        finally:
            logging.getLogger("hpcnas").handlers[:] = handlers
        return capsys.readouterr().out

    assert "BATCH STATISTICS ARE OF 2 IMAGES instead of all 24 of a step" in trained(0)
    begun = record_file.read(tmp_path / "run")
    assert (begun.micro_batch, begun.recipe.training.batch_statistics) == (2, "step")
    assert "batch statistics of 2 images" in table1.departures(begun, "cifar-large")
    assert "BATCH STATISTICS" not in trained(2**40, "--runs", "2")
    log = (tmp_path / "run" / "log").read_text()
    assert log.count("batches of 24, batch statistics of 2\n") == 2
    again = record_file.read(tmp_path / "run")
    assert again.micro_batch == 2 and len(again.test_accuracies) == 2 and record_file.faults(tmp_path / "run") == []
