"""The folder of a retraining as one job after another finds it: its state of training, its lock, its leftovers."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from toolruns import RETRAINED_ON, retrained

from hpcnas.config.options import parse
from hpcnas.config.retraining import RETRAINING
from hpcnas.job.log import LiveLine
from hpcnas.job.status import BROKEN, MORE_TO_DO
from hpcnas.retrain import record_file
from hpcnas.retrain.feed import Appearance
from hpcnas.retrain.keeper import NotKept
from hpcnas.retrain.record import Row, State, Trained, Validation
from hpcnas.retrain.record_keeper import RecordKeeper
from hpcnas.retrain.session import RetrainingRefused, open_retraining, read_plan
from hpcnas.storage import lock
from hpcnas.storage.folder import RunFolder
from hpcnas.training import checkpoints

SAVED = {"seed": 1, "step": 70_000}


def opened(folder: Path, *options: str) -> RecordKeeper:
    return open_retraining(parse(["--run", str(folder), *options], RETRAINING))


def under_way(folder: Path, step: int) -> Path:
    """Seed 0 is complete, seed 1 saved after that step; without its checkpoint."""
    record = record_file.read(retrained(folder, [0.5], settings={"training": {"runs": 2}}))
    record.trainings[1] = dataclasses.replace(record.trainings[1], state=State.TRAINING, step=step)
    record_file.write(folder, record)
    return folder


def checkpoint(folder: Path) -> tuple[Any, str | None]:
    """What seed 1 goes on from, and what is wrong."""

    def check(found: dict[str, Any]) -> None:
        if found["seed"] != 1:
            raise ValueError(f"expected the state of seed 1, got that of {found['seed']}")

    job = opened(folder)
    try:
        return job.checkpoint(1, SimpleNamespace(check=check)), None  # type: ignore[arg-type]
    except NotKept as error:
        return None, str(error)
    finally:
        job.close(MORE_TO_DO)


def test_what_another_job_leaves_is_read_when_that_job_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = under_way(tmp_path / "run", step=100)

    take = lock.take

    def take_lock_when_it_is_free(place: RunFolder, **given: Any) -> lock.Lock:  # the other job saves once more before
        record = record_file.read(place.path)
        record.trainings[1] = dataclasses.replace(record.trainings[1], step=200)
        record_file.write(place.path, record)
        return take(place, **given)

    monkeypatch.setattr(lock, "take", take_lock_when_it_is_free)
    opened(folder).close(MORE_TO_DO)
    assert "steps_done=80200\n" in (folder / "status").read_text()


def test_halves_of_files_that_a_killed_job_has_left_are_removed(tmp_path: Path) -> None:
    folder = under_way(tmp_path / "run", step=100)
    for name in (".checkpoint.pt.4321.tmp", ".weights-1.pt.4321.tmp", "checkpoint.pt"):
        (folder / name).write_bytes(b"")
    read_plan(parse(["--run", str(folder), "--dry-run"], RETRAINING))  # holds no lock: another job may be at work
    assert len(list(folder.glob(".*"))) == 2
    opened(folder).close(MORE_TO_DO)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.pt", "lock", "retrain.h5", "status"]


def test_a_refusal_lets_go_of_the_folder(tmp_path: Path) -> None:
    folder = under_way(tmp_path / "run", step=100)
    with pytest.raises(RetrainingRefused, match="was made with other settings"):
        opened(folder, "--batch-size", "512")
    held = opened(folder)
    with pytest.raises(RetrainingRefused, match="already has a controller: host .*, pid "):
        opened(folder, "--lock-wait", "0")
    held.close(MORE_TO_DO)


def test_a_folder_that_cannot_be_looked_into_is_refused(tmp_path: Path) -> None:
    message = "expected a folder that can be looked into, got .*n: File name too long"
    with pytest.raises(RetrainingRefused, match=message):
        opened(tmp_path / ("n" * 300))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no such file"),
        (b"", "it is damaged: it is empty"),
        (b"checkpoint", "it is damaged: its end is not what is written there"),
        ({"seed": 0}, "ValueError: expected the state of seed 1, got that of 0"),
    ],
    ids=["missing", "empty", "text", "another seed's"],
)
def test_a_state_that_the_record_knows_of_is_not_begun_anew_without(
    content: bytes | dict[str, int] | None, reason: str, tmp_path: Path
) -> None:
    path = under_way(tmp_path / "run", step=70_000) / "checkpoint.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        checkpoints.save(path, content)
    found, problem = checkpoint(tmp_path / "run")
    assert found is None
    assert problem == (
        f"expected {path} to hold the state of seed 1, saved after step 70000, but {reason}; "
        "put it back, or begin that seed anew in a folder of its own (--run, with --seed 1)"
    )
    checkpoints.save(path, SAVED)
    assert checkpoint(tmp_path / "run") == (SAVED, None)


STATE = {"seed": 1, "step": 70_000, "tensors": [torch.arange(600.0).reshape(20, 30), torch.ones(7)], "history": []}


def test_a_bit_that_has_turned_over_is_found_wherever_it_is(tmp_path: Path) -> None:
    """torch alone goes on from two thirds of such files without a word."""
    path, draw = under_way(tmp_path / "run", step=70_000) / "checkpoint.pt", random.Random(0)
    checkpoints.save(path, STATE)
    whole = path.read_bytes()
    job = opened(tmp_path / "run")
    unasked = SimpleNamespace()  # no state reaches the training
    for _ in range(400):
        place = draw.randrange(8 * len(whole))
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(NotKept, match="step 70000, but it is damaged: "):
            job.checkpoint(1, unasked)  # type: ignore[arg-type]
        assert path.read_bytes() == changed
    job.close(MORE_TO_DO)


def test_a_state_of_an_earlier_version_is_gone_on_from_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = under_way(tmp_path / "run", step=70_000) / "checkpoint.pt"
    torch.save(SAVED, path)
    assert checkpoint(tmp_path / "run") == (SAVED, None)
    assert caplog.messages == [
        f"{path}: it carries no checksum: an earlier version has written it; damage that does not show would be "
        "trained on"
    ]


def test_before_its_first_save_a_training_needs_no_state(tmp_path: Path) -> None:
    path = under_way(tmp_path / "run", step=0) / "checkpoint.pt"
    assert checkpoint(tmp_path / "run") == (None, None)
    checkpoints.save(path, {"seed": 0})  # of the training that is complete
    assert checkpoint(tmp_path / "run") == (None, None)
    path.write_bytes(b"half")  # nothing is lost with it
    assert checkpoint(tmp_path / "run") == (None, None)
    assert path.with_name("checkpoint.pt.damaged").read_bytes() == b"half" and not path.exists()
    checkpoints.save(path, SAVED)  # killed between this and the record
    assert checkpoint(tmp_path / "run") == (SAVED, None)


def diverged(folder: Path) -> Path:
    """The only training has ended with a loss that is not finite, after its save of step 100."""
    record = record_file.read(retrained(folder, []))
    skeleton = record.recipe.skeleton(RETRAINED_ON)
    record.inputs = dataclasses.replace(record.inputs, skeleton=skeleton, class_names=tuple("abcdefghij"))
    record.trainings = [Trained(0, State.DIVERGED, 100)]
    record.history = [Row(0, 100, 2.0, 0.1, 0.1, 1.0, 0.0)]
    record.validations = [Validation(0, 100, 500, 0.1, None, 1.0)]
    record_file.write(folder, record)
    checkpoints.save(folder / "checkpoint.pt", {"seed": 0})
    return folder


def test_what_has_diverged_is_trained_anew_with_other_settings(tmp_path: Path) -> None:
    folder = diverged(tmp_path / "run")
    with pytest.raises(RetrainingRefused, match="was made with other settings; .*\n  network.channels: 64 → 8"):
        opened(folder, "--learning-rate", "0.01", "--channels", "8")
    opened(folder).close(MORE_TO_DO)  # the same settings: what is saved may be gone on from
    assert (folder / "checkpoint.pt").exists()
    job = opened(folder, "--learning-rate", "0.01", "--steps", "500", "--cutout", "4")
    job.begin(LiveLine("plain"))
    inputs = job.plan.record.inputs  # type: ignore[union-attr]
    appearance = Appearance(RETRAINED_ON, inputs.class_names, inputs.mean, inputs.std, inputs.resize)
    job.appear(appearance, 1, "none", "cpu", "float32")
    assert not (folder / "checkpoint.pt").exists()
    assert job.checkpoint(0, SimpleNamespace()) is None  # type: ignore[arg-type]
    begun = SimpleNamespace(step=0, seconds=0.0, waited=0.0, validations=[], broken=set())
    job.training_begins(0, begun)  # type: ignore[arg-type]
    job.diverged()
    job.close(BROKEN)
    record = record_file.read(folder)
    assert record.sessions[-1].numbers == "float32"
    assert (record.recipe.training.learning_rate, record.recipe.training.steps) == (0.01, 500)
    assert [(one.state, one.step) for one in record.trainings] == [(State.DIVERGED, 0)]
    assert record.history == record.validations == []
    assert "state=broken" in (folder / "status").read_text()
    assert "the training begins anew, with other settings" in (folder / "log").read_text()


def test_the_settings_of_complete_trainings_stay_theirs(tmp_path: Path) -> None:
    record = record_file.read(diverged(tmp_path / "run"))
    record.trainings.append(Trained(1, State.COMPLETE, 80_000, test_accuracy=0.5))
    record_file.write(tmp_path / "run", record)
    with pytest.raises(RetrainingRefused, match="training.learning_rate: 0.1 → 0.01"):
        opened(tmp_path / "run", "--learning-rate", "0.01")


def test_epochs_mean_the_same_steps_when_a_retraining_goes_on(tmp_path: Path) -> None:
    folder = retrained(tmp_path / "run", [0.5], settings={"training": {"epochs": 2.0}})
    assert record_file.read(folder).recipe.training.steps == 391  # 2 · 50,000 / 256
    for options in ([], ["--epochs", "2"], ["--preset", "cifar-large", "--epochs", "2"]):
        job = opened(folder, *options, "--runs", "3")
        assert job.plan.recipe.training.steps == 391 and job.plan.waiting == (1, 2)
        job.close(MORE_TO_DO)
    assert "steps=1173\n" in (folder / "status").read_text()
    with pytest.raises(RetrainingRefused, match=r"training\.steps: 391 → 781\n  training\.epochs: 2\.0 → 4\.0"):
        opened(folder, "--epochs", "4")
    with pytest.raises(RetrainingRefused, match=r"training\.epochs: 2\.0 → None"):
        opened(folder, "--steps", "391")


def test_of_epochs_the_steps_are_not_known_before_the_data(tmp_path: Path) -> None:
    job = opened(tmp_path / "run", "--preset", "quick", "--epochs", "3")
    job.begin(LiveLine("plain"))
    assert "\nsteps=" not in (tmp_path / "run" / "status").read_text()
    job.appear(Appearance(RETRAINED_ON, tuple("abcdefghij"), (0.0,) * 3, (1.0,) * 3, 32), 1, "MPI", "cpu", "float32")
    job.close(MORE_TO_DO)
    assert "\nsteps=2344\n" in (tmp_path / "run" / "status").read_text()
    assert record_file.read(tmp_path / "run").recipe.training.steps == 2344
