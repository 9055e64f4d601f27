"""The folder of a retraining that is moved, taken apart or not its own: nobody else's is written to, and no step that
was made is lost."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from stored import no_space
from toolruns import retrained

from hpcnas.config.options import parse
from hpcnas.config.retraining import RETRAINING
from hpcnas.job.status import BROKEN, MORE_TO_DO, WRONG_USE
from hpcnas.retrain import predictions, record_file
from hpcnas.retrain.keeper import NotKept
from hpcnas.retrain.predictions import Predictions
from hpcnas.retrain.record import State
from hpcnas.retrain.record_keeper import RecordKeeper, _Current
from hpcnas.retrain.scoring import Tested as Score
from hpcnas.retrain.session import RetrainingRefused, open_retraining, read_plan
from hpcnas.storage.folder import RunFolder, StoreError


def opened(folder: Path, *options: str) -> RecordKeeper:
    return open_retraining(parse(["--run", str(folder), "--lock-wait", "0", *options], RETRAINING))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seed 0 is complete, seed 1 under way and saved after step 100."""
    path = retrained(tmp_path / "run", [0.5], settings={"training": {"runs": 2}})
    record = record_file.read(path)
    record.trainings[1] = dataclasses.replace(record.trainings[1], state=State.TRAINING, step=100)
    record_file.write(path, record)
    torch.save({"seed": 1, "step": 100}, path / "checkpoint.pt")
    return path


def training(step: int) -> Any:
    return SimpleNamespace(
        broken=set(), step=step, seconds=1.0, waited=0.0, peak_memory=None, history=[], validations=[],
        state=lambda: {"seed": 1, "step": step},
    )  # fmt: skip


def at_step(job: RecordKeeper, step: int) -> RecordKeeper:
    job._current = _Current(1, training(step))
    return job


def leaves(job: RecordKeeper) -> str | None:
    """What stops a job that leaves after step 200, as a training does where its folder is `lost`."""
    job.store._looked = -1e9
    job.save_due()
    assert job.lost is not None
    job.save()
    try:
        job.left(None)
    except NotKept as error:
        return str(error)
    finally:
        job.close(BROKEN)
    return None


def saved(folder: Path) -> tuple[int, int, str]:
    """The last step by the record and by the checkpoint, and the state by RUN/status."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    status = (folder / "status").read_text().splitlines()[0] if (folder / "status").exists() else ""
    return record_file.read(folder).trainings[1].step, state["step"], status


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_moved_is_saved_where_it_is_by_now(folder: Path, tmp_path: Path) -> None:
    job = at_step(opened(folder), 200)
    folder.rename(tmp_path / "old")
    other = retrained(folder, [0.7])
    before = contents(other)
    assert leaves(job) == (
        f"{folder} was moved to {tmp_path}/old while this job was at work on it; step 200 is saved in {tmp_path}/old"
    )
    assert contents(other) == before
    assert saved(tmp_path / "old") == (200, 200, "state=broken")


def test_without_its_lock_it_saves_and_ends(folder: Path) -> None:
    job = at_step(opened(folder), 200)
    (folder / "lock").unlink()
    assert leaves(job) == f"{folder}/lock was removed; step 200 is saved in {folder}"
    assert saved(folder) == (200, 200, "state=broken")


def test_what_another_job_has_taken_is_left_to_it(folder: Path) -> None:
    job = at_step(opened(folder), 200)
    (folder / "lock").unlink()
    second = opened(folder)
    before = contents(folder)
    problem = leaves(job)
    assert problem is not None and "where step 100 is the last one saved" in problem
    assert "lock was replaced: another job may be at work there" in problem
    assert contents(folder) == before
    second.close(MORE_TO_DO)


def test_a_test_whose_predictions_find_no_room_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares, classes = np.ones((2, 4), np.float32), np.zeros((2, 4), np.int32)
    said = Predictions(np.arange(2), classes[:, 0], shares[:, 0], classes, shares)
    score = Score(2, 1.0, None, 0.0, 0, 1.0, 1.0, None, said)
    job = at_step(opened(folder), 200)
    job._progress = SimpleNamespace(training_complete=lambda found: None)  # type: ignore[assignment]
    made = training(200)
    made.weights = dict
    with monkeypatch.context() as full:
        full.setattr(predictions, "write", no_space)
        with pytest.raises(NotKept, match="No space left on device"):
            job.training_complete(1, made, score)
    assert record_file.read(folder).trainings[1].state is State.TRAINING and (folder / "checkpoint.pt").exists()
    job.training_complete(1, made, score)
    record = record_file.read(folder)
    kept = predictions.read(folder, record, 1)
    assert record.trainings[1].state is State.COMPLETE and kept is not None and kept.right.all()
    assert not (folder / "checkpoint.pt").exists()
    job.close(MORE_TO_DO)


def test_the_record_of_another_retraining_is_not_written_over(folder: Path, tmp_path: Path) -> None:
    job = at_step(opened(folder), 200)
    other = retrained(tmp_path / "other", [0.7])
    record_file.write(folder, dataclasses.replace(record_file.read(other), run="7" * 32))
    before = contents(folder)
    problem = leaves(job)
    assert problem is not None and "retrain.h5 is that of another retraining by now" in problem
    assert contents(folder) == before


@pytest.mark.parametrize("where", ["status", "open"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_hiccup_of_the_file_server_ends_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int
) -> None:
    job = at_step(opened(folder), 200)

    def fails(self: RunFolder, name: str, *given: object) -> None:
        raise (StoreError(f"expected to look at {name}") if where == "status" else OSError(number, os.strerror(number)))

    with monkeypatch.context() as broken:
        broken.setattr(RunFolder, where, fails)
        job.store._looked = -1e9
        job.save_due()
        job.save()
    assert job.lost is None and job._unsaved is not None
    job.save()
    assert job._unsaved is None and saved(folder)[:2] == (200, 200)
    job.close(MORE_TO_DO)


def test_the_record_is_read_again_only_where_it_is_another_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, reads, real = at_step(opened(folder), 200), list[str](), RunFolder.read
    monkeypatch.setattr(RunFolder, "read", lambda self, name: (reads.append(name), real(self, name))[1])
    for _ in range(3):
        job.store.look()
    assert reads == ["retrain.h5"]
    record_file.write(folder, dataclasses.replace(record_file.read(folder), run="7" * 32))
    for _ in range(2):
        with pytest.raises(StoreError, match="another retraining by now"):
            job.store.look()
    job.close(MORE_TO_DO)


def test_a_folder_that_was_removed_does_not_come_back(folder: Path) -> None:
    job = at_step(opened(folder), 200)
    shutil.rmtree(folder)
    problem = leaves(job)
    assert problem is not None and f"{folder} was removed while this job was at work on it" in problem
    assert not folder.exists()


@pytest.mark.parametrize("name", ["retrain.h5", "checkpoint.pt", "genotype.toml", "status", "log", "lock"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_not_its_own_is_refused_in_words(folder: Path, tmp_path: Path, name: str, kind: str) -> None:
    path = folder / name
    if path.exists():
        path.rename(tmp_path / "mine")
    else:
        (tmp_path / "mine").write_text("mine")
    before = (tmp_path / "mine").read_bytes()
    {"link": lambda: path.symlink_to("../mine"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    message = rf"/{name}: expected a file of the run's own or nothing, but it is a {kind}"
    with pytest.raises(RetrainingRefused, match=message):
        opened(folder, *(["--seed", "0"] if name != "retrain.h5" or kind == "link" else ["--preset", "quick"]))
    assert (tmp_path / "mine").read_bytes() == before


def test_a_lock_that_is_somebodys_file_is_not_written_over(folder: Path) -> None:
    (folder / "lock").write_text("notes\n")
    message = "lock: expected the lock of a run, which says who holds it, but it is another"
    with pytest.raises(RetrainingRefused, match=message):
        opened(folder)
    assert (folder / "lock").read_text() == "notes\n"


def test_halves_of_others_stay(folder: Path) -> None:
    names = [".thesis.tex.7.tmp", ".weights-.pt.7.tmp", ".retrain.h5.7.tmp", ".weights-3.pt.7.tmp", ".log.7.tmp"]
    names.append(".predictions-3.h5.7.tmp")
    for name in names:
        (folder / name).touch()
    opened(folder).close(MORE_TO_DO)
    assert [name for name in names if (folder / name).exists()] == names[:2]


@pytest.mark.parametrize("status", ["state=more\nsteps_done=100\n", None])
def test_a_start_that_is_refused_leaves_the_status(folder: Path, status: str | None) -> None:
    if status is not None:
        (folder / "status").write_text(status)
    before = contents(folder)
    job = opened(folder)
    job.write_status(MORE_TO_DO)
    job.close(WRONG_USE)  # its data were not found, say
    (folder / "lock").unlink()
    assert contents(folder) == before


def test_a_new_folder_is_not_there_after_a_refused_start(tmp_path: Path) -> None:
    job = opened(tmp_path / "new", "--preset", "quick")
    job.write_status(MORE_TO_DO)
    job.close(WRONG_USE)
    assert not (tmp_path / "new").exists()


def test_who_waits_for_a_folder_that_is_taken_away_begins_it(tmp_path: Path) -> None:
    first = opened(tmp_path / "new", "--preset", "quick")
    request = parse(["--run", str(tmp_path / "new"), "--preset", "quick", "--lock-wait", "60"], RETRAINING)
    second = open_retraining(request, say=lambda text: first.close(WRONG_USE))
    assert (tmp_path / "new" / "lock").exists()
    second.close(WRONG_USE)
    assert not (tmp_path / "new").exists()


def test_a_dry_run_changes_nothing(folder: Path) -> None:
    (folder / ".checkpoint.pt.7.tmp").touch()
    before = {path.name: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}
    for options in (["--run", str(folder)], ["--run", str(folder.parent / "other"), "--preset", "quick"]):
        read_plan(parse([*options, "--dry-run"], RETRAINING))
    assert {path.name: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]} == before
    assert not (folder.parent / "other").exists()
