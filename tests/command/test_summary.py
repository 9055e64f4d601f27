"""The command `summary`: literal numbers of runs made by hand."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from examples import PLACE, SESSION
from toolruns import CHAIN, created, curved, empty, eventful, steady

from hpcnas.analysis import export, runs, snapshot
from hpcnas.analysis.curves import Curves
from hpcnas.command import compare, summary, verify
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.messages import Evaluation, Result
from hpcnas.search import run_file

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return eventful(tmp_path / "run")


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[dict[str, object]]:
    assert summary.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_everything_there_is_to_say(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = as_json(capsys, run, "--best", "2")
    assert found == {
        "run": str(run),
        "state": "running",
        "settings": {
            "data": "digits",
            "space": "2x3/1x3",
            "strategy": "tournament",
            "seed": 0,
            "duplicates": "retrain",
            "max_parameters": None,
            "max_flops": None,
            "evaluator": "training",
            "channels": 16,
            "replicates": 2,
            "steps": 5000,
            "batch_size": 256,
            "fitness": "accuracy",
            "measure": "validation accuracy",
        },
        "sessions": [
            {
                "started": "1970-01-01T00:16:40+00:00",
                "seconds": 200.0,
                "host": "node-1",
                "workers": 2,
                "evaluated": 3,
                "stopped": 0,
                "busy_share": 1.0,
                "hpcnas": "0",
            },
            {
                "started": "1970-01-01T00:33:20+00:00",
                "seconds": 100.0,
                "host": "node-1",
                "workers": 1,
                "evaluated": 1,
                "stopped": 0,
                "busy_share": 0.8,
                "hpcnas": "0",
            },
        ],
        "budget": 6,
        "evaluated": 4,
        "stopped": 0,
        "evaluations_left": 2,
        "confirmations": 0,
        "confirmations_left": 0,
        "confirmed": [],
        "expected": [],
        "trainings": 8,
        "trainings_limit": None,
        "trainings_saved": 0.0,
        "rungs": [],
        "failed": 1,
        "in_flight": 0,
        "refused_genotypes": 3,
        "known_networks": 0,
        "repeated_networks": 2,
        "averaged_in": 0,
        "predictions": None,
        "trained_by": ["Training on 1 worker: SLOWER THAN IT MIGHT BE, no compiler"],
        "best": [
            {
                "id": 4,
                "step": 4,
                "fitness": 0.8125,
                "expected": None,
                "std": 0.08838834764831845,
                "trainings": 2,
                "parameters": 2500,
                "mutations": 1,
                "seconds": 80.0,
                "measures": None,
            },
            {
                "id": 1,
                "step": 3,
                "fitness": 0.75,
                "expected": None,
                "std": 0.0,
                "trainings": 2,
                "parameters": 3000,
                "mutations": 0,
                "seconds": 100.0,
                "measures": None,
            },
        ],
        "failures": [
            {"kind": "oom", "attempts": 1, "individuals": 0, "last": "torch.OutOfMemoryError: 1 GiB too much"},
            {"kind": "nan", "attempts": 1, "individuals": 1, "last": "the loss was not finite"},
        ],
        "on_gpus": True,
        "worker_hours": 440 / 3600,
        "busy_share": 0.96,
        "steps_a_second": 5000.0,
        "input_wait": None,
        "last_event": "1970-01-01T00:35:00+00:00",
        "remaining_seconds": 200.0,
        "estimated_end": "1970-01-01T00:38:20+00:00",
    }


def test_one_run_for_people(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert summary.main([str(run)]) == 0
    text = capsys.readouterr().out
    for line in (
        "  evaluated      4 of 6; 1 failed, 0 in flight",
        "  GPU hours      0.122 (2 min an evaluation)",
        "  known          networks: 0 drawn again, 2 evaluated again",
        "  workers busy   96.0 %",
        "  speed          5,000.0 steps/s a worker",
        "  trained by     Training on 1 worker: SLOWER THAN IT MIGHT BE, no compiler",
        "  estimated end  1970-01-01T00:38:20+00:00, 3 min after the last event",
        "   4   0.8125  0.0884          2       2,500     4          1  80 s",
        "oom              1            0  torch.OutOfMemoryError: 1 GiB too much",
        "1970-01-01T00:33:20+00:00  2 min        1          1  80.0 %   node-1  0",
    ):
        assert line.split() in [found.split() for found in text.splitlines()]


def test_a_repeat_shows_the_fitness_of_all_trainings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = created(tmp_path / "run", duplicates="average")
    store.begin(SESSION)
    for id, accuracies in enumerate([(0.875, 0.875), (0.75, 0.75), (0.5,)]):
        network, repeats = bytes([id % 2 + 1] * 16), 0 if id == 2 else None
        store.birth(Individual(id, CHAIN, Birth.INITIAL, None, 0, 0, 1000.0, network=network, repeats=repeats))
        outcome = Evaluation(accuracies, 1000, 1.0, 2.0, 3.0)
        store.settle(Result(id, 1, PLACE, 1000.0, 1000.0 + len(accuracies), outcome))
    store.compact()
    store.close()
    (found,) = as_json(capsys, tmp_path / "run")
    assert [(one["id"], one["fitness"], one["trainings"]) for one in found["best"]] == [(1, 0.75, 2), (2, 0.75, 3)]
    assert (found["repeated_networks"], found["averaged_in"]) == (1, 1)
    stored = run_file.read(tmp_path / "run")
    assert runs.spread(stored.population).tolist() == pytest.approx([0.0, 0.0, 0.21651], abs=1e-5)
    assert export.fitness(stored, 2) == "0.7500 ± 0.2165 (validation accuracy; trainings: 3)"
    seen = snapshot.look(tmp_path / "run", 1100.0)
    assert (seen.course, seen.best["id"]) == ([0.875, 0.875, 0.75], 1)
    assert [(one["id"], one["fitness"]) for one in seen.recent] == [(2, 0.75), (1, 0.75), (0, 0.875)]
    assert Curves.of(tmp_path / "run").best.tolist() == seen.course
    assert summary.main([str(tmp_path / "run")]) == 0
    assert "networks: 0 drawn again, 1 evaluated again, 1 of them averaged in" in capsys.readouterr().out


def test_several_runs_a_line_each(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = steady(tmp_path / "other", [0.5, 0.25], 1800.0, budget=2)
    assert summary.main([str(run), str(other), str(empty(tmp_path / "empty"))]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == "run state evaluated budget failed best id GPU hours busy left".split()
    assert [row.split()[1:] for row in rows] == [
        "running 4 6 1 0.8125 4 0.122 96.0 % 3 min".split(),
        "complete 2 2 0 0.5000 0 1.000 100.0 % 0 s".split(),
        "running 0 6 0 - - 0.000 - ?".split(),
    ]


@pytest.mark.parametrize(
    ("status", "held", "expected"),
    [
        (None, True, "running"),
        ("state=more\n", True, "running"),  # jobs say so now and then
        ("state=more\n", False, "stopped: there is more to do"),
        ("state=broken\n", False, "broken"),
        ("not a status", True, "running"),
    ],
)
def test_state(run: Path, status: str | None, held: bool, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    holder = os.getpid() if held else 2**22 + 1  # no process has that number
    if status is not None:
        (run / "status").write_text(status)
    (run / "lock").write_text(f"host {socket.gethostname()}, pid {holder}\n")
    assert as_json(capsys, run)[0]["state"] == snapshot.look(run, time.time()).state == expected


def test_where_the_trainings_are_spent_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = steady(tmp_path / "ended", [0.5, 0.25], 1800.0, budget=100, trainings=4)
    half = steady(tmp_path / "half", [0.5, 0.25], 1800.0, budget=100, trainings=8)
    assert [run["remaining_seconds"] for run in as_json(capsys, ended, half)] == [0.0, 3600.0]
    assert summary.main([str(ended)]) == 0
    text = capsys.readouterr().out
    assert "estimated end  the budget is spent" in text and "trainings      4 of 4" in text


def test_a_run_without_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert summary.main([str(empty(tmp_path / "run"))]) == 0
    text = capsys.readouterr().out
    assert "no individual has been evaluated yet" in text
    assert "none: no worker has been ready yet" in text
    assert "unknown: nothing has been evaluated yet" in text


def test_a_run_in_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = created(tmp_path / "run")
    store.begin(SESSION)
    store.birth(Individual(0, CHAIN, Birth.INITIAL, None, 0, 0, 1001.5))
    store.compact()
    (found,) = as_json(capsys, tmp_path / "run")  # while its controller holds it
    store.close()
    assert (found["evaluated"], found["in_flight"], found["estimated_end"]) == (0, 1, None)
    assert found["busy_share"] == 0.5  # one of two workers has something to do
    assert found["last_event"] == "1970-01-01T00:16:41+00:00"


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, TOOLS / "summary.py", tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"summary: expected a run in {tmp_path}, but there is no population.h5\n"


def test_tables_need_no_matplotlib() -> None:
    code = "import sys, summary, lineage, compare; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=TOOLS).returncode == 0


def test_what_was_stopped_early_belongs_to_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = curved(tmp_path / "run")
    (found,) = as_json(capsys, run)
    told = ("evaluated", "stopped", "budget", "evaluations_left", "trainings", "trainings_saved", "failed", "in_flight")
    assert [found[name] for name in told] == [2, 2, 8, 4, 5.5, 2.5, 0, 1]
    nothing = {"complete_curves": 2, "rank_correlation": None, "line": None}
    assert found["rungs"] == [{"share": 0.25, "stopped": 1, **nothing}, {"share": 0.5, "stopped": 1, **nothing}]
    assert found["remaining_seconds"] == 4 * 150.0 / 4, "both kinds are the pace"
    assert found["worker_hours"] == (50.0 + 100.0 + 25.0 + 100.0) / 3600
    (session,) = found["sessions"]
    assert (session["evaluated"], session["stopped"], session["busy_share"]) == (2, 2, 1.0)
    assert summary.main([str(run)]) == 0
    text = capsys.readouterr().out
    for line in (
        "  evaluated      2; with 2 stopped early 4 of 8; 0 failed, 1 in flight\n",
        "  stopped early  1 at 25 %, 1 at 50 % of the steps, which saved 2 trainings\n",
        "  rung at 25 %   too few complete curves to say anything: 2\n",
        "  trainings      6\n",
        "  GPU hours      0.076 (69 s an individual)\n",
    ):
        assert line in text
    assert summary.main([str(run), str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[2:5] == ["2", "2", "8"]


def test_what_a_rung_says(capsys: pytest.CaptureFixture[str]) -> None:
    rung = {"share": 0.1, "stopped": 3, "complete_curves": 24, "rank_correlation": 0.875, "line": {"deviation": 0.01}}
    assert summary.said_by(rung, "accuracy") == (
        "rank correlation 0.88 with the final accuracy, of 24 complete curves; ± 0.0100 from a line"
    )
    assert summary.said_by({**rung, "line": None}, "accuracy").endswith("of 24 complete curves; no line")


def test_a_search_says_what_it_has_stopped_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its final table, RUN/status and the other commands by one number."""
    run = tmp_path / "run"
    words = "--evaluator synthetic --space 2x3/1x3 --budget 90 --initial-population 30 --rungs 0.1 0.3 --early-stopping"
    done = subprocess.run(
        [sys.executable, "-m", "hpcnas", *words.split(), "--run", run], capture_output=True, text=True, check=True
    )
    (found,) = as_json(capsys, run)
    stopped = found["stopped"]
    assert isinstance(stopped, int) and stopped > 0 and found["evaluations_left"] == 0
    lines = (run / "status").read_text().splitlines()
    assert lines[:4] == ["state=complete", f"evaluated={90 - stopped}", "budget=90", f"stopped={stopped}"]
    assert f"  stopped early      {stopped}\n" in done.stdout + done.stderr
    assert verify.main([str(run)]) == 0
    counts = f"90 individuals, {90 - stopped} evaluated, {stopped} stopped early, 0 failed, 0 in flight"
    assert capsys.readouterr().out == f"{run}: sound ({counts})\n"
    assert compare.main([str(run)]) == 0
    assert "evaluations leave out what was stopped early; worker hours count it\n" in capsys.readouterr().out
