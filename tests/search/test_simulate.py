"""Simulated searches: the clock by hand, accounts that add up, restarts, and the same again from the same seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hpcnas import seeds
from hpcnas.analysis import replay
from hpcnas.architecture.genotype import named
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.registry import make_strategy
from hpcnas.messages import Evaluation, Left, Ready, Result, Stop, Task
from hpcnas.plugins import PluginFault
from hpcnas.search import run_file, simulate, simulation
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.simulation import Account, Cluster, Site
from hpcnas.search.synthetic import FACTS, Foresight

SITE = Site(workers=2, startup=10.0, queue=5.0, handling=1.0)


def settings(**changes: dict[str, object]) -> SearchConfig:
    """Three initial individuals of ten seconds each, 12 in all."""
    return search_config.build(
        {"search": {"budget": 12, "initial_population": 3, "initial_mutations": 20}, "training": {"replicates": 2}},
        {"evaluation": {"evaluator": "synthetic", "synthetic_seconds": 10.0}, "run": {"grace": 0.0}},
        changes,
    )


def cluster(**changes: dict[str, object]) -> Cluster:
    return Cluster(SITE, Foresight(settings(**changes)))


def task(individual: int) -> Task:
    return Task(individual, 1, named("paper"), (individual, 1000))


# The clock


def test_a_job_waits_then_its_workers_start_together() -> None:
    one = cluster()
    one.begin_job(None, 0.0)
    assert one.now == 5.0
    assert [(worker, type(message)) for worker, message in one.receive(0.2)] == [(1, Ready), (2, Ready)]
    assert one.now == 15.0


def test_the_clock_jumps_to_the_next_result_and_each_task_costs_the_controller_its_time() -> None:
    one = cluster()
    one.begin_job(None, 0.0)
    one.receive(0.2)
    one.send(1, task(0))  # until 16 the controller is busy with it; it ends at 26
    one.send(2, task(1))  # from 17 to 27
    ((worker, result),) = one.receive(0.2)
    assert (worker, one.now) == (1, 26.0)
    assert isinstance(result, Result) and (result.individual, result.started, result.finished) == (0, 16.0, 26.0)
    one.send(1, task(2))
    assert one.now == 27.0
    ((worker, result),) = one.receive(0.2)
    assert (worker, one.now) == (2, 27.0)
    assert one.account == Account(
        jobs=1, in_queue=5.0, busy=20.0, starting=20.0, waiting=4.0, longest_wait=2.0, tasks=3
    )


def test_what_happens_while_the_controller_is_busy_arrives_together() -> None:
    one = Cluster(replace(SITE, handling=30.0), Foresight(settings()))
    one.begin_job(None, 0.0)
    one.receive(0.2)
    one.send(1, task(0))  # 45 to 55
    one.send(2, task(1))  # 75 to 85
    assert [worker for worker, _ in one.receive(0.2)] == [1]
    one.send(1, task(2))  # 105 to 115; meanwhile 2 is done
    assert [worker for worker, _ in one.receive(0.2)] == [2]
    assert one.now == 105.0


def test_a_task_that_comes_ahead_begins_when_the_one_before_it_ends() -> None:
    one = cluster()
    one.begin_job(None, 0.0)
    one.receive(0.2)
    one.send(1, task(0))  # 16 to 26
    one.send(1, task(1))
    ends = [result.finished for _ in range(2) for _, result in one.receive(0.2) if isinstance(result, Result)]
    assert ends == [26.0, 36.0]
    one.send(1, task(2))  # 37 to 47
    one.send(1, task(3))
    one.send(1, Stop(75, 1.0))
    assert one.receive(0.2) == [(1, Left())] and one.receive(0.2) == []
    assert one.account.waiting == 2.0


def test_a_stopped_training_is_saved_and_the_next_job_does_the_rest() -> None:
    one = cluster()
    one.begin_job(20.0, 0.0)
    one.receive(0.2)
    one.send(1, task(0))  # 16 to 26, but at 25 the job ends
    assert one.receive(0.2) == [] and one.now == 25.0
    for worker in (1, 2):
        one.send(worker, Stop(75, 1.0))
    assert [(worker, message) for worker, message in one.receive(0.2)] == [(1, Left()), (2, Left())]
    one.end_job()
    one.begin_job(20.0, 0.0)
    one.receive(0.2)
    one.send(1, task(0))  # 41 to 42
    ((_, result),) = one.receive(0.2)
    assert isinstance(result, Result) and (result.started, result.finished) == (41.0, 42.0)
    assert isinstance(result.outcome, Evaluation) and result.outcome.training_seconds == 10.0
    assert one.account.busy == 10.0 and one.account.in_jobs == 20.0


# Whole searches


def test_one_worker_by_hand() -> None:
    """5 s in the queue, 10 s of starting, then 12 times 1 s of the controller and 10 s of the worker."""
    report = simulation.simulate(settings(), replace(SITE, workers=1))
    assert report.wall_clock == 5 + 10 + 12 * 11
    assert report.worker_seconds == 142.0
    assert report.idle_share == pytest.approx(22 / 142)
    assert report.starting_share == pytest.approx(10 / 142)
    assert report.waiting_share == pytest.approx(12 / 142)
    assert report.ending_share == pytest.approx(0.0, abs=1e-12)
    assert (report.mean_wait, report.longest_wait) == (1.0, 1.0)
    assert report.controller_share == pytest.approx(12 / 142)
    assert (report.evaluated, report.failed, report.jobs) == (12, 0, 1)


def test_shares_add_up_and_more_workers_are_faster() -> None:
    reports = [simulation.simulate(settings(search={"budget": 60}), replace(SITE, workers=w)) for w in (1, 4)]
    for report in reports:
        assert report.idle_share == pytest.approx(report.starting_share + report.waiting_share + report.ending_share)
    assert reports[1].wall_clock < 0.4 * reports[0].wall_clock


def test_a_controller_that_cannot_keep_up_lets_its_workers_wait() -> None:
    """Each task costs it 1 s; eleven workers of 10 s each would be as many as it can feed."""
    report = simulation.simulate(settings(search={"budget": 400}), replace(SITE, workers=22))
    assert report.controller_share > 0.9
    assert 0.45 < report.waiting_share < 0.6


ROUGH: dict[str, dict[str, object]] = {
    "evaluation": {
        **{"synthetic_spread": 0.5, "synthetic_crashes": 0.1, "synthetic_hangs": 0.05, "synthetic_nans": 0.05},
        **{"synthetic_seconds": 10.0, "evaluator": "synthetic"},
    },
    "run": {"walltime": 60.0, "grace": 5.0, "hang_timeout": 20.0},
    "search": {"budget": 60},
}


def test_the_same_seed_gives_the_same_search_and_another_another() -> None:
    first, again = (simulation.simulate(settings(**ROUGH), SITE) for _ in range(2))
    assert first == again
    assert first.jobs > 3 and first.failed > 0 and first.failed_attempts > first.failed
    other = {**ROUGH, "search": {"budget": 60, "seed": 1}}
    assert simulation.simulate(settings(**other), SITE).wall_clock != first.wall_clock


def _unexpected(descriptor: int) -> None:
    raise AssertionError("a simulation waits for the disk")


def test_a_kept_run_is_one_that_a_search_could_have_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = settings(**ROUGH)
    monkeypatch.setattr(os, "fdatasync", _unexpected)
    report = simulation.simulate(kept, SITE, tmp_path / "run")
    assert report == simulation.simulate(kept, SITE)  # a store on the disk changes nothing
    run = run_file.read(tmp_path / "run")
    assert len(run.population.evaluated) == 60 and len(run.sessions) == report.jobs
    assert run.config == kept
    assert list(replay.deviations(run.config, FACTS, run.population)) == []
    assert run.population.column("finished")[run.population.evaluated[-1]] <= report.wall_clock


def test_it_is_the_search_of_the_controller() -> None:
    """The first genotypes are those that the strategy draws from the seed."""
    store, strategy = MemoryStore(settings()), make_strategy(settings(), FACTS)
    expected = [strategy.ask(store.population, id, 0).genotype for id in range(3)]
    seen: list[Task] = []

    class Noted(Cluster):
        def send(self, worker: int, message: object) -> None:
            seen.extend([message] if isinstance(message, Task) else [])
            super().send(worker, message)  # type: ignore[arg-type]

    one = Noted(SITE, Foresight(settings()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "Cluster", lambda site, foresight: one)
        simulation.simulate(settings(), SITE)
    assert [task.genotype for task in seen[:3]] == expected
    assert seen[2].seeds == tuple(seeds.training_seed(0, 2, number) for number in (0, 1))


def test_a_job_too_short_to_get_anywhere_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^expected a walltime of more than 10 s .*, got 10$"):
        simulation.simulate(settings(run={"walltime": 10.0, "grace": 0.0}), SITE)


def test_workers_taken_out_of_use_are_told_and_their_time_counts_apart() -> None:
    rough = settings(
        search={"budget": 30},
        run={"device_failures": 2},
        evaluation={"evaluator": "synthetic", "synthetic_crashes": 0.4, "synthetic_seconds": 10.0},
    )
    report = simulation.simulate(rough, replace(SITE, workers=4))
    assert report.retired_workers == 1 and report.retired_share > 0.05
    shares = report.starting_share + report.waiting_share + report.ending_share + report.retired_share
    assert report.idle_share == pytest.approx(shares)
    assert "taken out of use" in report.text()


# The command


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hpcnas", "simulate", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    done = command("--budget", "20", "--initial-mutations", "10", "--workers", "3", "--synthetic-spread", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("workers               3\nevaluated             20 (0 failed, 0 failed attempts)\n")
    assert "wall clock            7 h 01 min, 0 s of it in the queue\n" in done.stdout
    arguments = ["--budget", "20", "--initial-mutations", "10", "--workers", "3", "--synthetic-spread", "0", "--json"]
    assert simulate.main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["wall_clock"] == pytest.approx(7 * 3600 + 60, abs=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "--workers: expected 1 to 1,000,000, got 0"),
        (["--queue", "-1"], "--queue: expected 0 to 1,000,000,000, got -1.0"),
        (["--handling", "nan"], "--handling: expected 0 to 1,000,000,000, got nan"),
        (["--workers", "many"], "argument --workers: invalid int value: 'many' (see simulate --help)"),
        (["--budgte", "5"], "unrecognized arguments: --budgte 5; did you mean '--budget'? (see --help)"),
        (["--wrokers", "5"], "unrecognized arguments: --wrokers 5; did you mean '--workers'? (see --help)"),
        (["--workers", "1" + 400 * "0"], "--workers: expected 1 to 1,000,000, got 1" + 65 * "0" + " … " + 25 * "0"),
        (["--budget", "10000001"], "--budget: expected 1 to 10,000,000, got 10000001"),
        (["--synthetic-nans", "2"], "evaluation.synthetic_nans: expected a number from 0.0 to 1.0, got 2.0"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate.main(arguments) == 2
    assert capsys.readouterr().err == f"hpcnas simulate: {message}\n"


def test_a_budget_of_trainings_that_is_spent_on_failures_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--preset", "paper", "--workers", "1", "--trainings", "1", "--scheduling", "replicate"]
    assert simulate.main([*options, "--synthetic-nans", "0.5", "--initial-mutations", "5"]) == 1
    assert "the search would stop: the budget is spent, and nothing has been evaluated" in capsys.readouterr().err


def test_a_fault_of_a_plugins_strategy_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*arguments: object) -> None:
        raise PluginFault("strategy 'odd': `ask` raised ValueError: no")

    monkeypatch.setattr(simulation, "make_strategy", faulty)
    assert simulate.main(["--workers", "2"]) == 1
    assert capsys.readouterr().err == "hpcnas simulate: strategy 'odd': `ask` raised ValueError: no\n"


def test_a_search_that_would_break_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--synthetic-nans", "1", "--workers", "2", "--initial-mutations", "5"]) == 1
    assert "the search would stop: 20 individuals in a row have failed" in capsys.readouterr().err
