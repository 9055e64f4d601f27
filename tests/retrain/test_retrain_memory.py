"""What a retraining says of its GPU's memory: it is asked of torch, kept beside the speed, and told at a seed's end."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rank_threads import on_ranks
from small_retraining import made, recipe
from toolruns import retrained

from hpcnas.job.log import LiveLine
from hpcnas.retrain import record_file
from hpcnas.retrain.progress import Progress, final_table
from hpcnas.retrain.record import State, Trained
from hpcnas.retrain.record_keeper import Plan, RecordKeeper, _Current


def test_a_training_on_a_cpu_says_nothing_one_on_a_gpu_what_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    (training,) = on_ranks(1, lambda group: made(recipe(), group))
    assert training.peak_memory is None
    training._device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", {training._device: 7}.__getitem__)
    assert training.peak_memory == 7


@pytest.mark.parametrize(
    ("before", "now", "kept"), [(None, None, None), (None, 7, 7), (9, 7, 9), (7, 9, 9), (7, None, 7)]
)
def test_the_most_that_any_of_its_jobs_has_seen_is_kept(
    before: int | None, now: int | None, kept: int | None, tmp_path: Path
) -> None:
    record = record_file.read(retrained(tmp_path / "large", []))
    record.trainings = [Trained(0, State.TRAINING, peak_memory=before)]
    keeper = RecordKeeper(Plan(record.recipe, record.genotype, record.origin, record), SimpleNamespace())  # type: ignore[arg-type]
    training: Any = SimpleNamespace(step=3, seconds=1.0, waited=0.0, history=[], validations=[], peak_memory=now)
    row = keeper._figures(_Current(0, training))
    assert (row.step, row.peak_memory) == (3, kept)


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        (None, "seed 3 is complete: test accuracy 0.9625"),
        (5 * 2**29, "seed 3 is complete: test accuracy 0.9625, at most 2.50 GiB of GPU memory in use"),
    ],
)
def test_it_is_told_at_the_end_of_a_seed(memory: int | None, said: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hpcnas")
    Progress(recipe(), LiveLine("plain")).training_complete(
        Trained(3, State.COMPLETE, test_accuracy=0.9625, peak_memory=memory)
    )
    assert caplog.messages == [said]


def test_the_result_says_of_how_many_images_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hpcnas")
    tested = Trained(3, State.COMPLETE, test_images=1, test_broken=11, test_accuracy=1.0)
    Progress(recipe(), LiveLine("plain")).training_complete(tested)
    assert caplog.messages == ["seed 3 is complete: test accuracy 1.0000 on 1 of 12 images"]
    record = record_file.read(retrained(tmp_path / "large", []))
    record.trainings, record.broken = [tested], ["train/a/1.jpg", *(f"val/a/{number}.jpg" for number in range(11))]
    assert "\n  test images    1 of 12\n" in final_table(record) and final_table(record).endswith("broken images  12")
