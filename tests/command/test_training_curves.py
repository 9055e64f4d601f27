"""The curves of a retraining in `summary`, `plot` and `export csv`: literal numbers, also of one that is under way."""

from __future__ import annotations

import json
import math
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from toolruns import eventful, retrained

from hpcnas.command import export, plot, summary
from hpcnas.errors import Error
from hpcnas.retrain import record_file
from hpcnas.retrain.record import Row, State, Trained, Validation


@pytest.fixture
def underway(tmp_path: Path) -> Path:
    """Two rows of the history of seed 0, two validations of it, the second of them between rows; seed 1 waits."""
    folder = retrained(tmp_path / "large", [], settings={"training": {"runs": 2, "steps": 1000}})
    record = record_file.read(folder)
    record.trainings = [Trained(0, State.TRAINING, 200, 50.0), Trained(1)]
    record.history = [Row(0, 100, 2.25, 0.125, 0.1, 1000.5, 0.25), Row(0, 200, 2.0, 0.25, 0.01, 1100.5, 0.125)]
    record.validations = [Validation(0, 100, 500, 0.5, 1.5, 2.0), Validation(0, 150, 499, 0.625, None, 2.5)]
    record_file.write(folder, record)
    return folder


def as_json(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_summary_tells_the_latest_values(underway: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert summary.main([str(underway)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(underway)
    assert lines[1:3] == ["  state          running", "  genotype       paper, hierarchical space"]
    assert lines[5] == "  training       2 × 1,000 steps of 256 images"
    assert [line.split() for line in lines[9:]] == [
        "0 training 200/1,000 2.0000 0.2500 0.01 1,100 12.5 % 0.6250 150 - 50 s".split(),
        "1 waiting 0/1,000 - - - - - - - - 0 s".split(),
    ]
    assert summary.main([str(underway), str(underway), "--json"]) == 0
    first, second = as_json(capsys)
    assert first == second
    assert first["trainings"][0] == {  # type: ignore[index]
        "seed": 0, "state": "TRAINING", "step": 200, "training_seconds": 50.0, "loss": 2.0, "accuracy": 0.25,
        "learning_rate": 0.01, "images_per_second": 1100.5, "input_wait": 0.125, "validation_step": 150,
        "validation_images": 499, "validation_accuracy": 0.625, "validation_loss": None, "test_images": None,
        "test_accuracy": None, "test_balanced_accuracy": None, "test_macro_f1": None, "test_auroc": None,
        "test_log_loss": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "state"), [("broken", "broken"), ("more", "stopped: there is more to do")]
)
def test_the_state_is_that_of_the_job(
    status: str, state: str, underway: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (underway / "status").write_text(f"state={status}\ntime=2026-01-01T00:00:00+00:00\n")
    (underway / "lock").write_text(f"host {socket.gethostname()}, pid {2**22 + 1}\n")  # of no process
    assert summary.main([str(underway), "--json"]) == 0
    assert as_json(capsys)[0]["state"] == state


def test_what_json_does_not_know_is_null(underway: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = record_file.read(underway)
    record.history[0] = replace(record.history[0], loss=math.inf)
    record_file.write(underway, record)
    assert plot.main([str(underway), "--json"]) == 0
    assert as_json(capsys)[0]["trainings"][0]["history"]["loss"] == [None, 2.0]  # type: ignore[index]


def test_plot_draws_them(underway: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none = retrained(tmp_path / "new", [])
    assert plot.main([str(underway), str(none), "--learning-curves", str(tmp_path / "curves.svg"), "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == f"{none}: no row of its history is saved yet: left out\n"
    assert json.loads(said.out) == [
        {
            "retraining": "large",
            "trainings": [
                {
                    "seed": 0,
                    "history": {
                        "step": [100, 200], "loss": [2.25, 2.0], "accuracy": [0.125, 0.25],
                        "learning_rate": [0.1, 0.01], "images_per_second": [1000.5, 1100.5],
                        "input_wait": [0.25, 0.125],
                    },
                    "validations": {
                        "step": [100, 150], "images": [500, 499], "accuracy": [0.5, 0.625], "loss": [1.5, None],
                        "seconds": [2.0, 2.5],
                    },
                }
            ],
        }
    ]  # fmt: skip
    assert (tmp_path / "curves.svg").read_bytes().startswith(b"<?xml")


def test_a_retraining_has_no_other_picture(
    underway: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        plot.main([str(underway), "--pareto", "p.png"])
    assert left.value.code == 2 and "--pareto: expected folders of searches" in capsys.readouterr().err
    with pytest.raises(Error, match="nothing to draw: no row of a training's history is saved yet"):
        plot.main([str(retrained(tmp_path / "new", []))])
    with pytest.raises(Error, match="expected a .* in .*large"):
        plot.main([str(eventful(tmp_path / "run")), str(underway)])


def test_csv_has_a_row_for_each_step_at_which_there_is_anything(
    underway: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main(["csv", str(underway)]) == 0
    assert capsys.readouterr().out == (
        "seed,step,loss,accuracy,learning_rate,images_per_second,input_wait,"
        "validation_images,validation_accuracy,validation_loss,validation_seconds\n"
        "0,100,2.25,0.125,0.1,1000.5,0.25,500,0.5,1.5,2.0\n"
        "0,150,,,,,,499,0.625,,2.5\n"
        "0,200,2.0,0.25,0.01,1100.5,0.125,,,,\n"
    )
