"""A retraining of one process that is killed at any moment of its life, and started again: it ends as if nothing had
been.

HPCNAS_TORTURE=1   every moment, and each time that a file is put into its place (`make torture`), instead of one
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from patience import GUARD
from test_expansion import build

from hpcnas.retrain import predictions, record_file
from hpcnas.retrain.record import State

TORTURE = os.environ.get("HPCNAS_TORTURE") == "1"
KILLED = """
import importlib, os, signal, sys
program, module, name, at = sys.argv[1:5]
del sys.argv[1:5]
owner = importlib.import_module(module)
*path, last = name.split(".")
for part in path:
    owner = getattr(owner, part)
real, calls = getattr(owner, last), []
def fatal(*arguments, **options):
    calls.append(1)
    if len(calls) == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)
setattr(owner, last, fatal)
sys.exit(importlib.import_module(program).main())
"""
RETRAIN = "hpcnas.retrain.__main__"
OPTIONS = [
    *("--genotype", "cell.toml", "--channels", "2", "--cells", "1", "--steps", "6", "--batch-size", "8", "--seed", "3"),
    *("--data", "synthetic:40:3x8x8", "--history-every", "2", "--validation-fraction", "0.2", "--validate-every", "3"),
    *("--checkpoint-interval", "0", "--threads", "1", "--progress", "plain", "--run", "run"),
]
MOMENTS = {
    "start-up": ("os", "rename", 1),
    "loading": ("hpcnas.retrain.feed", "Resident.begin", 1),
    "a step": ("hpcnas.retrain.loop", "DistributedTraining._run_piece", 4),
    "a save": ("hpcnas.retrain.record_keeper", "RecordKeeper.save", 3),
    "a validation": ("hpcnas.retrain.scoring", "Scorer.validate", 2),
    "the test": ("hpcnas.retrain.scoring", "Scorer.test", 1),
    "the end": ("hpcnas.retrain.record_keeper", "RecordKeeper.training_complete", 1),
}


def retrained(folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    (folder / "cell.toml").write_text(build("1x3", ["1-2 sep, 2-3 dw, 1-3 max"]).text())
    command = [sys.executable, *(before or ("-m", "hpcnas.retrain")), *OPTIONS]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=GUARD)


def killed(folder: Path, module: str, name: str, at: int) -> bool:
    """Whether the moment has come."""
    done = retrained(folder, "-c", KILLED, RETRAIN, module, name, str(at))
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    return done.returncode != 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    done = retrained(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def goes_on(folder: Path, whole: Path) -> None:
    done = retrained(folder)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    one, two = (record_file.read(place) for place in (whole, folder / "run"))
    assert two.trainings[0].state is State.COMPLETE
    assert one.test_accuracies == two.test_accuracies
    assert [(row.step, row.loss, row.accuracy) for row in one.history] == [
        (row.step, row.loss, row.accuracy) for row in two.history
    ]
    assert [(row.step, row.accuracy) for row in one.validations] == [
        (row.step, row.accuracy) for row in two.validations
    ]
    ours, theirs = (torch.load(place / "weights-3.pt", weights_only=True) for place in (folder / "run", whole))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert predictions.path(folder / "run", 3).exists()
    assert sorted(path.name for path in (folder / "run").iterdir()) == sorted(path.name for path in whole.iterdir())


@pytest.mark.parametrize("moment", list(MOMENTS) if TORTURE else ["a save"])
def test_killed_it_goes_on_as_if_nothing_had_been(moment: str, tmp_path: Path, whole: Path) -> None:
    assert killed(tmp_path, *MOMENTS[moment])
    goes_on(tmp_path, whole)


def test_killed_when_a_file_is_put_into_its_place(tmp_path: Path, whole: Path) -> None:
    for at in range(1, 1000) if TORTURE else [12]:
        folder = tmp_path / str(at)
        folder.mkdir()
        if not killed(folder, "os", "rename", at):
            assert at > 12
            break
        goes_on(folder, whole)


@pytest.mark.parametrize("kind", ["weights", "module"] if TORTURE else ["module"])
def test_an_export_that_is_killed_leaves_what_was_there(kind: str, tmp_path: Path, whole: Path) -> None:
    output = tmp_path / "out"
    output.write_text("older")
    export = ["export", kind, str(whole), "--output", str(output)]
    command = [sys.executable, "-c", KILLED, "hpcnas.command.__main__", "os", "rename", "1", *export]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == -signal.SIGKILL and output.read_text() == "older"
    done = subprocess.run([sys.executable, "-m", "hpcnas.command", *export], timeout=GUARD)
    assert done.returncode == 0 and output.read_bytes() != b"older"
