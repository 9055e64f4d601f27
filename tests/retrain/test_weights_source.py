"""Which weights `--weights` names, what is refused before a folder is made, and how a retraining remembers them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from toolruns import CHAIN, INPUTS, RETRAINED_ON, retrained

from hpcnas.architecture import genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.options import parse
from hpcnas.config.retraining import RETRAINING, SCHEME
from hpcnas.config.settings import ConfigError
from hpcnas.job.log import LiveLine
from hpcnas.job.status import MORE_TO_DO
from hpcnas.retrain import record_file, weights_source
from hpcnas.retrain.feed import Appearance
from hpcnas.retrain.record import Start, State
from hpcnas.retrain.record_keeper import RecordKeeper
from hpcnas.retrain.session import RetrainingRefused, open_retraining

LARGE = dataclasses.replace(INPUTS, skeleton=Skeleton(3, 8, 8, 4, 64, (2, 2, 2), "plain"))
OF_A = "40f89e395b66422f"  # BLAKE2b of b"a"


def found(text: str, **network: Any) -> Start | None:
    recipe = SCHEME.build(SCHEME.preset("cifar-large"), {"network": {"weights": text, **network}})
    return weights_source.find(recipe, genotype.named("paper"))


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A retraining of the paper's cell whose seeds 0 and 1 are complete."""
    folder = retrained(tmp_path / "given", [0.5, 0.6], inputs=LARGE)
    (folder / "weights-0.pt").write_bytes(b"a")
    (folder / "weights-1.pt").write_bytes(b"b")
    return folder


def test_a_file_a_retraining_or_one_of_its_seeds(given: Path, tmp_path: Path) -> None:
    assert found(str(given / "weights-0.pt")) == Start(given / "weights-0.pt", OF_A)
    assert found(str(given)) == found(f"{given}:0") == Start(given / "weights-0.pt", OF_A, LARGE.class_names)
    other = found(f"{given}:1")
    assert other is not None and other.file.name == "weights-1.pt" and other.fingerprint != OF_A
    (tmp_path / "given:1").write_bytes(b"a")  # what is there goes before the grammar
    assert SCHEME.build().network.weights is None and weights_source.find(SCHEME.build(), CHAIN) is None


@pytest.mark.parametrize(
    ("text", "network", "message"),
    [
        ("nothing.pt", {}, "can be read: No such file or directory"),
        ("n" * 300, {}, "File name too long"),
        (".", {}, "expected a retraining, or a file of weights, but that folder is none"),
        ("pipe", {}, "it is no plain file"),
        ("given:7", {}, r"expected the seed of a complete training \(0, 1\), got 7"),
        ("given", {"channels": 32}, "of a network with --channels 32, got one with --channels 64"),
        ("given", {"cells": (1, 2)}, "of a network with --cells 1 2, got one with --cells 2 2 2"),
        ("given", {"stem": "strided"}, "of a network with --stem strided, got one with --stem plain"),
        ("chain", {}, "expected the weights of this cell, got those of another one, paper"),
        ("waiting", {}, "expected a retraining with a complete training, but none is yet"),
    ],
)
def test_what_cannot_be_started_from(
    text: str, network: dict[str, Any], message: str, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    retrained(tmp_path / "chain", [0.5], found=CHAIN)
    retrained(tmp_path / "waiting", [])
    with pytest.raises(ConfigError, match=f"^--weights {text[:100]}.*: .*{message}"):
        found(text, **network)


# ── how they are remembered ─────────────────────────────────────────────────────────────────────────────────────────
def opened(folder: Path, *options: str) -> RecordKeeper:
    return open_retraining(parse(["--run", str(folder), *options], RETRAINING))


def test_a_retraining_remembers_its_weights_and_takes_no_others(given: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "run", tmp_path / "a.pt"
    file.write_bytes(b"a")
    job = opened(folder, "--preset", "cifar-large", "--weights", str(file))
    job.begin(LiveLine("plain"))
    assert job.plan.start == Start(file, OF_A)
    job.appear(Appearance(RETRAINED_ON, tuple("abcdefghij"), (0.0,) * 3, (1.0,) * 3, 32), 1, "MPI", "cpu", "float32")
    job.close(MORE_TO_DO)
    assert record_file.read(folder).weights == OF_A
    file.rename(tmp_path / "moved.pt")
    with pytest.raises(ConfigError, match="No such file or directory; where they were moved, say where"):
        opened(folder)
    for options in (["--weights", str(tmp_path / "moved.pt")], [], ["--weights", str(given)]):
        job = opened(folder, *options)
        assert job.plan.start is not None and job.plan.start.fingerprint == OF_A
        record_file.write(folder, job.plan.record)  # type: ignore[arg-type]  # as a job that goes on does
        job.close(MORE_TO_DO)
    with pytest.raises(RetrainingRefused, match=rf"network\.weights: {OF_A} → [0-9a-f]{{16}}$"):
        opened(folder, "--weights", f"{given}:1")


def test_weights_are_not_asked_for_again_by_a_training_that_goes_on(tmp_path: Path) -> None:
    folder = retrained(tmp_path / "run", [0.5], settings={"network": {"weights": "gone.pt"}, "training": {"runs": 2}})
    record = record_file.read(folder)
    record.weights = OF_A
    record.trainings[1] = dataclasses.replace(record.trainings[1], state=State.TRAINING, step=70)
    record_file.write(folder, record)
    job = opened(folder)
    assert job.plan.start is None and job.plan.waiting == (1,)
    job.close(MORE_TO_DO)
    with pytest.raises(ConfigError, match="--weights gone.pt"):  # the third one begins
        opened(folder, "--runs", "3")


def test_what_has_diverged_may_begin_anew_with_other_weights(given: Path, tmp_path: Path) -> None:
    folder = retrained(tmp_path / "run", [], diverged=1)
    job = opened(folder, "--weights", f"{given}:0")
    assert job.plan.anew and job.plan.start is not None
    assert job.plan.record is not None and job.plan.record.weights == OF_A
    job.close(MORE_TO_DO)


def test_older_files_start_from_no_weights(tmp_path: Path) -> None:
    assert record_file.read(retrained(tmp_path / "run", [0.5])).weights is None
