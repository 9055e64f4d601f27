"""A sound retraining is called so, whatever its trainings are doing; every planted fault is found and said."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from toolruns import CHAIN, POOLING, eventful, origin_of
from whole_retraining import kept, recorded

from hpcnas.analysis import retraining_files, retraining_verification
from hpcnas.analysis.retraining_verification import RetrainingVerification, faults, verify
from hpcnas.architecture import expansion
from hpcnas.command import verify as command
from hpcnas.errors import Error
from hpcnas.retrain import predictions, record_file, underway
from hpcnas.retrain.predictions import Predictions
from hpcnas.retrain.record import Origin, Record, State
from hpcnas.training import checkpoints
from hpcnas.training.network import Network


def weights(record: Record) -> dict[str, Any]:
    return Network(expansion.expand(record.genotype), record.inputs.skeleton).state_dict()


def state(record: Record, seed: int) -> dict[str, Any]:
    """As a checkpoint of that training holds it after its last saved step."""
    training = underway.without_images(record, seed)
    training.step = next(one.step for one in record.trainings if one.seed == seed)
    training.history = [row for row in record.history if row.seed == seed]
    return training.state()


def predicted(right: int) -> Predictions:
    """Of 360 images of class 3, so many right."""
    classes = np.full((360, 5), [3, 0, 1, 2, 4], dtype=np.int32)
    classes[right:, 0] = 5
    shares = np.full((360, 5), 0.125, dtype=np.float32)
    return Predictions(np.arange(360), np.full(360, 3, np.int32), np.full(360, 0.125, np.float32), classes, shares)


def whole(folder: Path, record: Record) -> Path:
    """Its folder with all files, and the file of its genotype."""
    source = folder.with_name("cell.toml")
    source.write_text(CHAIN.text())
    record.origin = dataclasses.replace(record.origin, source=str(source))
    kept(folder, record)
    (folder / "genotype.toml").write_text(record.genotype.text())
    (folder / "status").write_text("state=more\ntime=2026-01-01T00:00:00+00:00\n")
    for one in record.trainings:
        if one.state is State.COMPLETE:
            checkpoints.save(record_file.weights_path(folder, one.seed), weights(record))
            predictions.write(folder, record, one.seed, predicted(270))
        if one.state is State.TRAINING:
            checkpoints.save(folder / "checkpoint.pt", state(record, one.seed))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole(tmp_path_factory.mktemp("sound") / "large", recorded())


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "large"))


def found(folder: Path, record: Record) -> RetrainingVerification:
    record.origin = record_file.read(folder).origin
    record_file.write(folder, record)
    return verify(folder)


# ── sound ones ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_sound_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(folder)]) == 0
    assert capsys.readouterr().out == (
        f"{folder}: sound (3 trainings, 1 waiting, 1 training, 1 complete, 0 diverged)\n"
    )


@pytest.mark.parametrize(
    "states",
    [
        (State.WAITING,),
        (State.DIVERGED, State.WAITING),
        (State.DIVERGED, State.TRAINING),
    ],
)
def test_those_that_are_not_complete(states: tuple[State, ...], tmp_path: Path) -> None:
    seen = verify(whole(tmp_path / "large", recorded(states)))
    assert (seen.problems, seen.notes) == ([], [])


def test_one_of_the_version_before(folder: Path) -> None:
    """Without the group of validations and the columns that were added, seals, predictions and genotype.toml."""
    record = dataclasses.replace(recorded(), validations=[], origin=record_file.read(folder).origin)
    unvalidated = dataclasses.replace(record.facts, validation_images=0)
    record.sessions = [dataclasses.replace(record.sessions[0], facts=unvalidated)]
    record_file.write(folder, record)
    with h5py.File(folder / record_file.NAME, "r+") as file:
        for name in ("validations", "sessions/numbers", "trainings/test_broken", "origin/birth"):
            del file[name]
    for name in ("predictions-0.h5", "genotype.toml"):
        (folder / name).unlink()
    for name in ("weights-0.pt", "checkpoint.pt"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-96])  # without its seal
    seen = verify(folder)
    assert seen.problems == []
    assert seen.notes == [
        "there is no predictions-0.h5: an earlier version has tested seed 0, or it was taken away",
        "weights-0.pt carries no checksum: an earlier version has written it",
        "checkpoint.pt carries no checksum: an earlier version has written it",
    ]


def test_a_checkpoint_may_be_ahead_of_the_record(folder: Path) -> None:
    ahead = state(recorded(), 1) | {"step": 30}
    checkpoints.save(folder / "checkpoint.pt", ahead)
    assert verify(folder).sound


def test_what_a_job_renews_meanwhile_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, read = recorded(), record_file.read
    times = []

    def renewed(path: Path) -> Record:
        """Read before a save and, the second time, after it."""
        times.append(path)
        before = read(path)
        if len(times) == 1:
            (folder / "checkpoint.pt").unlink()
            record_file.write(folder, whole_later)
        return before

    whole_later = recorded((State.COMPLETE, State.COMPLETE, State.WAITING))
    checkpoints.save(record_file.weights_path(folder, 1), weights(record))
    predictions.write(folder, record, 1, predicted(180))
    monkeypatch.setattr(record_file, "read", renewed)
    seen = retraining_verification.verify(folder)
    assert (seen.problems, len(times)) == ([], 2)


# ── faults of the record ────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("place", "changed", "expected"),
    [
        (("trainings", 0), {"step": 39}, "seed 0: expected 40 steps, got 39"),
        (("trainings", 1), {"step": 41}, "seed 1: expected 40 steps at the most, got 41"),
        (("trainings", 2), {"step": 10}, "seed 2: expected no step of a training that waits, got 10"),
        (("trainings", 1), {"test_accuracy": 0.5}, "seed 1: expected no test before the training is complete"),
        (("trainings", 0), {"test_accuracy": 0.7501}, "seed 0: expected test_accuracy a share of 360 images"),
        (("trainings", 0), {"test_top5": 0.5}, "seed 0: expected test_top5 at least the test_accuracy of 0.75"),
        (("trainings", 0), {"input_wait": 1.5}, "seed 0: expected input_wait a share from 0 to 1, got 1.5"),
        (("trainings", 2), {"state": State.TRAINING}, "trainings: expected one under way at the most, got seeds 1, 2"),
        (("history", 1), {"step": 10}, "got one after step 10 in place of 20"),
        (("history", 1), {"step": 50}, "seed 0: expected 4 rows of the history, one every 10 steps up to 40, got one"),
        (("history", 1), {"loss": float("inf")}, "seed 0: history, step 20: expected a finite loss, got inf"),
        (("history", 3), {"learning_rate": 0.1}, "history, step 40: expected the learning rate 0.0001 of the schedule"),
        (("history", 0), {"images_per_second": -1.0}, "step 10: expected images_per_second a number ≥ 0, got -1.0"),
        (("history", 0), {"seed": 9}, "history: expected rows of trainings alone, got some of seed 9"),
        (("validations", 1), {"step": 20}, "validation after step 20: expected a step from 21 to 40, got 20"),
        (("validations", 2), {"step": 30}, "seed 1: validation after step 30: expected a step from 1 to 20, got 30"),
        (("validations", 0), {"images": 145}, "expected at most the 144 validation images of the data, got 145"),
        (("validations", 0), {"accuracy": 0.2501}, "expected a share of 144 images, got 0.2501"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(place: tuple[str, int], changed: dict[str, Any], expected: str) -> None:
    record = recorded()
    rows: list[Any] = getattr(record, place[0])
    rows[place[1]] = dataclasses.replace(rows[place[1]], **changed)
    seen = list(faults(record))
    assert [told for told in seen if expected in told], seen


def test_faults_of_the_whole() -> None:
    record = recorded()
    assert list(faults(dataclasses.replace(record, parameters=5, flops=6))) == [
        f"network: expected {record.parameters} parameters and {record.flops} FLOPs of its genotype, got 5 and 6"
    ]
    inputs = dataclasses.replace(record.inputs, skeleton=dataclasses.replace(record.inputs.skeleton, height=9))
    assert "expected that of the recipe" in " ".join(list(faults(dataclasses.replace(record, inputs=inputs))))
    few = dataclasses.replace(record, trainings=record.trainings[:2])
    assert list(faults(few)) == ["trainings: expected a row for each of 3 seeds, got none for 2"]
    unstarted = list(faults(dataclasses.replace(record, sessions=[])))
    assert "sessions: expected one before the first training, got none" in unstarted
    both = recorded((State.COMPLETE, State.COMPLETE))
    both.trainings[1] = dataclasses.replace(both.trainings[1], test_broken=3)
    assert "expected the same test images for every seed, got 360 and 363" in " ".join(list(faults(both)))
    last = dataclasses.replace(record, validations=record.validations[:1])
    assert list(faults(last)) == ["seed 0: expected the last validation after step 40, got it after step 20"]


def test_every_value_that_no_retraining_writes_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(folder / record_file.NAME, "r+") as file:
        file["trainings/state"][0] = 77
        file["history/accuracy"][2] = 1.5
    assert command.main([str(folder)]) == 1
    out = capsys.readouterr().out
    assert "trainings, row 0: expected state WAITING 1," in out and "history, row 2: expected accuracy a number" in out
    assert out.endswith(f"{folder}: NOT SOUND\n")


# ── faults of the files beside it ───────────────────────────────────────────────────────────────────────────────────
def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damaged_files(folder: Path) -> None:
    flip(folder / "weights-0.pt")
    flip(folder / "checkpoint.pt")
    (folder / "predictions-0.h5").write_bytes(b"half a file")
    (folder / "genotype.toml").write_text("format = 7")
    told = " ".join(verify(folder).problems)
    assert "weights-0.pt is damaged: its checksum does not fit" in told
    assert "checkpoint.pt is damaged: its checksum does not fit" in told
    assert "predictions-0.h5: expected predictions for test images, but they cannot be read" in told
    assert "genotype.toml: expected the genotype of retrain.h5, but it cannot be read" in told


def test_missing_files(folder: Path) -> None:
    (folder / "weights-0.pt").unlink()
    (folder / "checkpoint.pt").unlink()
    assert verify(folder).problems == [
        f"{folder}/weights-0.pt: expected the weights of seed 0, but there is no such file",
        f"{folder}/checkpoint.pt: expected the state of seed 1, but there is no such file",
    ]


def test_files_of_others(folder: Path) -> None:
    record = recorded()
    other = recorded(genotype=POOLING)
    checkpoints.save(folder / "weights-0.pt", weights(other))
    checkpoints.save(folder / "checkpoint.pt", state(recorded((State.TRAINING,)), 0))
    predictions.write(folder, record, 0, predicted(269))
    (folder / "genotype.toml").write_text(POOLING.text())
    told = " ".join(verify(folder).problems)
    assert "weights-0.pt: expected a state_dict of this network" in told
    assert "checkpoint.pt: expected the state of seed 1, but expected the state of seed 1 of this network, got" in told
    assert "predictions-0.h5: expected 270 images classified correctly, got 269" in told
    assert "genotype.toml: expected the genotype of retrain.h5, got another one" in told


def test_numbers_that_are_not_finite_and_a_checkpoint_behind(folder: Path) -> None:
    bad = weights(recorded())
    name = next(name for name, value in bad.items() if value.is_floating_point())
    bad[name].view(-1)[0] = float("nan")
    checkpoints.save(folder / "weights-0.pt", bad)
    checkpoints.save(folder / "checkpoint.pt", state(recorded(), 1) | {"step": 10})
    assert verify(folder).problems == [
        f"{folder}/weights-0.pt: expected finite numbers, but {name} has others",
        f"{folder}/checkpoint.pt: expected the state after step 20 or a later one, got step 10",
    ]
    checkpoints.save(folder / "checkpoint.pt", state(recorded(), 1) | {"history": []})
    assert "expected the history of retrain.h5, got another one" in verify(folder).problems[1]
    checkpoints.save(folder / "checkpoint.pt", {"nonsense": 1})
    assert "checkpoint.pt: expected the state of seed 1, but 'seed'" in verify(folder).problems[1]


def test_a_status_that_is_too_early(folder: Path) -> None:
    (folder / "status").write_text("state=complete\ntime=2026-01-01T00:00:00+00:00\n")
    told = "expected more to do, for seed 1 is not complete, got complete"
    assert verify(folder).problems == [f"{folder}/status: {told}"]


def test_what_is_left_over_is_noted(folder: Path) -> None:
    shutil.copy(folder / "weights-0.pt", folder / "weights-2.pt")
    seen = found(folder, recorded((State.COMPLETE, State.WAITING, State.WAITING)))
    assert seen.problems == []
    assert seen.notes == [
        "weights-2.pt is that of no complete training",
        "checkpoint.pt is there, though no training is under way that has saved a step",
    ]


def test_without_torch_weights_are_not_looked_at_and_that_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(folder / "weights-0.pt")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    seen = verify(folder)
    assert seen.problems == []
    assert seen.notes == ["weights and checkpoint are not looked at, since torch is not installed"]


# ── where the genotype comes from ───────────────────────────────────────────────────────────────────────────────────
def test_the_genotype_is_that_of_the_search_it_comes_from(tmp_path: Path) -> None:
    run = eventful(tmp_path / "run")
    origin = origin_of(run, 4)
    told: list[str] = []
    assert list(retraining_verification._wrong_origin(origin, POOLING, told)) == []
    assert list(retraining_verification._wrong_origin(origin, CHAIN, told)) == [
        f"origin: expected the genotype of individual 4 of {run}, got another one"
    ]
    assert told == []
    other = dataclasses.replace(origin, run="9" * 32)
    assert list(retraining_verification._wrong_origin(other, CHAIN, told)) == []
    gone = dataclasses.replace(origin, source=f"{tmp_path}/gone:4")
    assert list(retraining_verification._wrong_origin(gone, CHAIN, told)) == []
    assert f"{run} holds another one" in told[0] and "there is no population.h5" in told[1]


def test_the_genotype_is_the_papers_or_that_of_its_file(tmp_path: Path) -> None:
    told: list[str] = []
    assert list(retraining_verification._wrong_origin(Origin("paper", "2x3/1x3"), CHAIN, told)) == [
        "origin: expected the paper's genotype, got another one"
    ]
    file = tmp_path / "cell.toml"
    file.write_text(POOLING.text())
    assert list(retraining_verification._wrong_origin(Origin(str(file), "2x3/1x3"), CHAIN, told)) == []
    assert told == [f"{file} holds another genotype by now"]


def test_other_weights_to_start_from_are_noted(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "start.pt"
    record = recorded(settings={"network": {"weights": str(file)}})
    record.weights = "0" * 16
    assert "start.pt: expected a file of weights or a retraining that can be read" in found(folder, record).notes[0]
    checkpoints.save(file, weights(record))
    assert found(folder, record).notes == [
        f"{file} holds other weights by now than those that trainings have started from"
    ]


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_findings_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "weights-0.pt").unlink()
    assert command.main([str(folder), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["sound"], said["trainings"], said["complete"], len(said["problems"])) == (False, 3, 1, 1)


def test_nothing_to_check_and_nothing_to_repair(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command.main([str(folder), "--repair", str(folder) + "2"])
    assert left.value.code == 2 and "--repair: expected a search" in capsys.readouterr().err
    (folder / record_file.NAME).write_bytes(b"half a file")
    with pytest.raises(Error, match="expected a whole file of a retraining"):
        command.main([str(folder)])


def test_stamps_leave_out_what_says_nothing(tmp_path: Path) -> None:
    for name in ("log", "lock", "status"):
        (tmp_path / name).write_text("x")
    assert [name for name, _, _ in retraining_files.stamps(tmp_path)] == ["status"]
