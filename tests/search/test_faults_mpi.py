"""Faults of trainers, ranks and launchers in live jobs: exactly the expected results, and nobody left behind.

HPCNAS_TORTURE=1   1,000 tasks instead of 48, and every signal and kill ten times (`make torture`)
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mpi as launcher
import numpy as np
import psutil
import pytest
import scripted_trainer
from live_run import await_that, evaluations, ranks, recorded, settled, status, trainers
from mpi import Job, Mpi
from patience import GUARD
from trainer_children import lives
from warden import Child

from hpcnas import seeds
from hpcnas.config import options
from hpcnas.evolution.individuals import State
from hpcnas.job.hub import Hub
from hpcnas.job.log import LiveLine
from hpcnas.job.signals import ASKING, Signals
from hpcnas.messages import Evaluation, FailureKind
from hpcnas.search.file_store import FileStore
from hpcnas.search.session import SearchSession

TORTURE = os.environ.get("HPCNAS_TORTURE") == "1"
TASKS = 1000 if TORTURE else 48
ROUNDS = range(10 if TORTURE else 1)
JOB = str(Path(__file__).parents[1] / "scripted_job.py")
OPTIONS = [
    *("--run", "run", "--space", "2x3/1x3", "--initial-mutations", "5", "--initial-population", "6"),
    *("--replicates", "2", "--progress", "plain", "--device", "cpu", "--seed", "3"),
]
BUSY = {str(id): "beat" for id in range(4, 100)}  # after four evaluations all trainers are at work for ever


def plan(script: dict[str, str]) -> dict[str, str]:
    """The environment that tells the trainers what to do."""
    return {scripted_trainer.PLAN: json.dumps(script)}


# ── the acceptance: a third of all tasks misbehave ──────────────────────────────────────────────────────────────────
MISBEHAVIOUR = {  # what the attempts do: the kinds of failure that are recorded of it
    "exit": ["CRASH", "CRASH"],
    "exit done": ["CRASH"],
    "error": ["ERROR"],
    "hang": ["HANG", "HANG"],
    "segv": ["CRASH", "CRASH"],
    "segv error": ["CRASH", "ERROR"],
    "kill exit": ["CRASH", "CRASH"],
    "oom done": ["OOM"],
    "oom": ["OOM", "OOM"],
    "stop done": ["HANG"],
    "nan": ["NAN"],
    "hang beat": ["HANG", "OVERRUN"],
    "kill nan": ["CRASH", "NAN"],
}


def test_a_third_of_the_tasks_misbehaves_and_the_results_are_exactly_the_expected_ones(
    mpi: Mpi, tmp_path: Path
) -> None:
    words = list(MISBEHAVIOUR)
    script = {str(id): words[id // 3 % len(words)] for id in range(1, TASKS - 1, 3)}
    expected = {id: MISBEHAVIOUR.get(script.get(str(id), "done"), []) for id in range(TASKS)}
    fails = {id for id, text in script.items() if not text.endswith("done")}
    arguments = [
        *(JOB, *OPTIONS, "--strategy", "random", "--budget", str(TASKS - len(fails)), "--max-failures", str(TASKS)),
        *("--hang-timeout", "10", "--evaluation-timeout", "15"),
    ]
    workers = 8 if TORTURE else 3
    done = launcher.run(mpi, workers + 1, arguments, cwd=tmp_path, env=plan(script), timeout=2 * GUARD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert status(tmp_path / "run") == "complete"
    population = recorded(tmp_path / "run").population
    assert len(population) == TASKS and population.in_flight == 0
    kinds: dict[int, list[str]] = {id: [] for id in range(TASKS)}
    for attempt in population.failed_attempts:
        kinds[attempt.individual].append(attempt.outcome.kind.name)
        assert attempt.attempt == len(kinds[attempt.individual])
    assert kinds == expected
    for id in range(TASKS):
        found = population.result(id)
        failed = str(id) in fails
        assert found.attempt == len(expected[id]) + (not failed)
        assert population.column("state")[id] == (State.FAILED if failed else State.EVALUATED)
        if not failed:
            drawn = tuple(seeds.training_seed(3, id, replicate) for replicate in (0, 1))
            assert found.outcome == Evaluation(scripted_trainer.accuracies(drawn), 1000 + id, 0.25, 0.5, 0.125)
    assert all(rank in population.column("rank") for rank in range(1, workers + 1))  # every rank lived on
    messages = {failure.message for failure in population.failures.values() if failure.kind is FailureKind.CRASH}
    assert any(message.endswith("ended with exit code 3; its last words:\nI am leaving") for message in messages)


def test_a_retry_is_on_another_rank(mpi: Mpi, tmp_path: Path) -> None:
    arguments = [JOB, *OPTIONS, "--budget", "6"]
    done = launcher.run(mpi, 3, arguments, cwd=tmp_path, env=plan({str(id): "kill done" for id in range(6)}))
    assert done.returncode == 0, done.stdout + done.stderr
    population = recorded(tmp_path / "run").population
    first = {attempt.individual: attempt.place.rank for attempt in population.failed_attempts}
    assert sorted(first) == list(range(6))
    assert all(population.result(id).place.rank == 3 - rank for id, rank in first.items())


# ── signals ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@contextmanager
def busy_job(mpi: Mpi, folder: Path, *options: str, script: dict[str, str] = BUSY) -> Iterator[Job]:
    """Three ranks, four evaluations on the disk, and both trainers at work."""
    arguments = [JOB, *OPTIONS, "--budget", "12", *options]
    with launcher.start(mpi, 3, arguments, cwd=folder, env=plan(script)) as job:
        await_that(lambda: job.poll() is not None or evaluations(folder / "run") == 4, "four evaluations")
        assert job.poll() is None, job.communicate()
        await_that(lambda: recorded(folder / "run").population.in_flight == 2, "two individuals in flight")
        yield job


def send(job: Job, number: signal.Signals, way: str) -> None:
    if way == "launcher":
        job.send_signal(number)
    for rank, process in ranks(job).items():
        if way == "every rank" or (way == "rank 0" and rank == 0):
            process.send_signal(number)


def goes_on(folder: Path) -> None:
    """Another session, of a single rank, spends the budget with the same individuals; nothing recorded is lost."""
    before = recorded(folder / "run").population
    assert before.issued[:2] == [4, 5]
    done = subprocess.run(
        [sys.executable, JOB, *OPTIONS, "--budget", "12"],
        cwd=folder, env={**os.environ, **plan({})}, capture_output=True, text=True, timeout=GUARD,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    after = recorded(folder / "run").population
    assert len(after) == len(after.evaluated) == 12 and after.in_flight == 0
    assert settled(before).items() <= settled(after).items()
    for id in before.issued:
        assert after.individual(id) == before.individual(id)
        drawn = tuple(seeds.training_seed(3, id, replicate) for replicate in (0, 1))
        assert after.column("accuracies")[id].tolist() == list(scripted_trainer.accuracies(drawn))
    assert after.evaluated[4 : 4 + len(before.issued)].tolist() == before.issued  # in the order of birth
    assert status(folder / "run") == "complete"
    assert list((folder / "run" / "inflight").glob("*")) == []


def ended(job: Job) -> tuple[str, str]:
    """What the job has printed; it and all of its processes are gone."""
    printed = job.communicate(timeout=GUARD)
    assert job.await_end() == []
    return printed


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "run" / "inflight").glob("*"))


WAYS = [(number, way) for number in (signal.SIGUSR1, signal.SIGTERM) for way in ("launcher", "every rank", "rank 0")]


@pytest.mark.parametrize(("number", "way"), WAYS if TORTURE else [*WAYS[:4], WAYS[5]])
@pytest.mark.parametrize("repetition", ROUNDS)
def test_a_signal_saves_everything_and_the_next_session_goes_on(
    mpi: Mpi, tmp_path: Path, number: signal.Signals, way: str, repetition: int
) -> None:
    with busy_job(mpi, tmp_path) as job:
        send(job, number, way)
        stdout, stderr = ended(job)
    if (mpi.name, number, way) != ("openmpi", signal.SIGTERM, "launcher"):  # its ranks have less than a second
        assert job.returncode == 75, stdout + stderr
        assert f"{number.name} received" in stdout
        assert saved(tmp_path) == ["4.pt", "5.pt"]
    assert status(tmp_path / "run") == "more"
    goes_on(tmp_path)


def test_an_interrupted_launcher_loses_nothing(mpi: Mpi, tmp_path: Path) -> None:
    with busy_job(mpi, tmp_path) as job:
        job.send_signal(signal.SIGINT)
        ended(job)
    assert status(tmp_path / "run") == "more"
    goes_on(tmp_path)


def test_a_second_interrupt_ends_at_once(mpi: Mpi, tmp_path: Path) -> None:
    """The trainers are stopped: saving them would take the whole grace of an hour."""
    with busy_job(mpi, tmp_path, "--grace", "3600", "--hang-timeout", "3600") as job:
        for child in trainers(job):
            child.suspend()
        send(job, signal.SIGINT, "rank 0")
        log = tmp_path / "run" / "log"
        await_that(lambda: "SIGINT received" in log.read_text() or job.poll() is not None, "the first interrupt")
        send(job, signal.SIGINT, "rank 0")
        ended(job)
    assert status(tmp_path / "run") == "more"
    goes_on(tmp_path)


# ── deaths ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_killed_child_costs_its_attempt_alone(mpi: Mpi, tmp_path: Path) -> None:
    """Both trainers are killed in the middle of their work; what they were at is left for later."""
    with busy_job(mpi, tmp_path) as job:
        before = trainers(job)
        assert len(before) == 2
        for child in before:
            child.kill()
        await_that(lambda: len(recorded(tmp_path / "run").population.failed_attempts) == 2, "two crashes")
        await_that(lambda: len(trainers(job)) == 2 and not set(trainers(job)) & set(before), "two new trainers")
        send(job, signal.SIGUSR1, "rank 0")
        ended(job)
    crashes = recorded(tmp_path / "run").population.failed_attempts
    assert sorted((crash.individual, crash.attempt) for crash in crashes) == [(4, 1), (5, 1)]
    assert all("was ended by SIGKILL" in crash.outcome.message for crash in crashes)
    goes_on(tmp_path)


@pytest.mark.parametrize("repetition", ROUNDS)
def test_a_killed_rank_ends_the_job_and_all_of_its_processes(mpi: Mpi, tmp_path: Path, repetition: int) -> None:
    """A worker's; one trainer is at work, the dead rank's is stopped. For rank 0 see test_kills_mpi."""
    with busy_job(mpi, tmp_path) as job:
        rank = ranks(job)[1]
        (child,) = [one for one in trainers(job) if one.ppid() == rank.pid]
        child.suspend()
        seconds = outlived(rank, child)
        killed = time.monotonic()
        ended(job)
        print(f"{mpi.name}: child gone after {seconds:.3f} s, all after {time.monotonic() - killed:.3f} s")
    assert job.returncode != 0
    assert status(tmp_path / "run") == "more"
    goes_on(tmp_path)


@pytest.mark.parametrize("delay", np.linspace(0.0, 4.0, 20) if TORTURE else [0.5])
def test_a_real_trainer_ends_with_its_rank_whatever_it_does(mpi: Mpi, tmp_path: Path, delay: float) -> None:
    """While Python starts, torch is imported, the data are read, networks are trained."""
    with launcher.start(mpi, 2, ["-m", "hpcnas", "--run", "run", "--steps", "10000"], cwd=tmp_path) as job:
        await_that(lambda: trainers(job), "a trainer")
        time.sleep(delay)
        print(f"{mpi.name}: {delay:.2f} s old, gone after {outlived(ranks(job)[1], trainers(job)[0]):.3f} s")
        ended(job)


def outlived(rank: psutil.Process, child: psutil.Process) -> float:
    """Kills a rank; seconds until its child is gone."""
    assert child.ppid() == rank.pid
    rank.kill()
    killed = time.monotonic()
    while lives(child):
        assert time.monotonic() - killed < GUARD
        time.sleep(0.001)
    return time.monotonic() - killed


REAL = [
    *("-m", "hpcnas", "--strategy", "random", "--budget", "3", "--initial-mutations", "20", "--seed", "1"),
    *("--space", "2x3/1x3", "--channels", "4", "--replicates", "2", "--steps", "300", "--batch-size", "16"),
    *("--threads", "1", "--device", "cpu"),
]


@pytest.mark.parametrize("end", ["signal", "kill"] if TORTURE else ["signal"])
@pytest.mark.parametrize("mpi", ["mpich", "openmpi"] if TORTURE else ["openmpi"], indirect=True)
def test_real_trainings_that_are_cut_end_as_those_that_are_not(mpi: Mpi, tmp_path: Path, end: str) -> None:
    """Begun by two workers, continued by a job of one rank: the accuracies are those of a quiet session."""
    checkpoints = tmp_path / "cut" / "inflight"
    slowly = [*REAL, "--run", "cut", "--checkpoint-interval", "0"]  # a checkpoint after every step
    with launcher.start(mpi, 3, slowly, cwd=tmp_path) as job:
        await_that(lambda: list(checkpoints.glob("*.pt")), "a checkpoint")
        if end == "signal":
            job.send_signal(signal.SIGUSR1)
            printed = ended(job)
            assert job.returncode == 75, printed
    assert list(checkpoints.glob("*.pt"))
    for name in ("cut", "quiet"):
        command = [sys.executable, *REAL, "--run", name, "--checkpoint-interval", "300"]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=GUARD, stdout=subprocess.DEVNULL)
    found, expected = (recorded(tmp_path / name).population for name in ("cut", "quiet"))
    assert len(found.evaluated) == 3 and found.column("attempts").tolist() == [1] * 3
    assert found.column("genotype").tolist() == expected.column("genotype").tolist()
    assert found.column("accuracies").tolist() == expected.column("accuracies").tolist()
    assert list(checkpoints.iterdir()) == []


# ── exit codes, and a job of one rank ───────────────────────────────────────────────────────────────────────────────
@contextmanager
def alone(folder: Path, *options: str, script: dict[str, str] = BUSY) -> Iterator[subprocess.Popen[str]]:
    """A search in one process, without MPI."""
    command = [sys.executable, JOB, *OPTIONS, "--budget", "12", *options]
    environment = {**os.environ, **plan(script)}
    with Child(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        children = []
        try:
            await_that(lambda: process.poll() is not None or evaluations(folder / "run") == 4, "four evaluations")
            children = psutil.Process(process.pid).children() if process.poll() is None else []
            yield process
        finally:
            process.kill()
    await_that(lambda: not any(child.is_running() for child in children), "the end of the trainer")


@pytest.mark.parametrize(
    ("script", "options", "exit_code", "said"),
    [
        ({"loading": "unusable"}, [], 2, None),  # refused: there is no run
        ({"loading": "kill"}, [], 75, "more"),
        ({str(id): "error" for id in range(12)}, ["--max-failures", "3"], 1, "broken"),
    ],
)
def test_the_exit_code_and_the_status_say_the_same(
    mpi: Mpi, tmp_path: Path, script: dict[str, str], options: list[str], exit_code: int, said: str | None
) -> None:
    done = launcher.run(mpi, 3, [JOB, *OPTIONS, "--budget", "12", *options], cwd=tmp_path, env=plan(script))
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert (status(tmp_path / "run") if said else None) == said
    assert FileStore.exists(tmp_path / "run") == (said is not None)


@pytest.mark.parametrize(("word", "exit_code"), [("done", 0), ("unusable", 2), ("kill", 75)])
def test_a_dry_run_says_whether_trainers_can_start(mpi: Mpi, tmp_path: Path, word: str, exit_code: int) -> None:
    done = launcher.run(mpi, 3, [JOB, *OPTIONS, "--dry-run"], cwd=tmp_path, env=plan({"loading": word}))
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert ("was ended by SIGKILL" in done.stderr) is (word == "kill")


def test_the_time_that_slurm_leaves_is_kept(tmp_path: Path) -> None:
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(time.time()) + 4)}
    command = [sys.executable, JOB, *OPTIONS, "--budget", "12", "--grace", "2"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **plan(BUSY), **slurm}, capture_output=True, text=True, timeout=GUARD
    )
    assert done.returncode == 75 and "the job's time is nearly over" in done.stdout
    assert status(tmp_path / "run") == "more"


def test_a_signal_is_heeded_while_no_genotype_is_allowed(tmp_path: Path) -> None:
    """There is none: drawing goes on for minutes before that is given up."""
    command = [sys.executable, JOB, *OPTIONS, "--max-parameters", "1", "--initial-mutations", "30000"]
    environment = {**os.environ, **plan({})}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as job:
        log = tmp_path / "run" / "log"
        await_that(lambda: log.exists() and "data: " in log.read_text(), "the first worker")
        job.send_signal(signal.SIGTERM)
        stdout, _ = job.communicate(timeout=GUARD)
    assert job.returncode == 75 and "SIGTERM received" in stdout
    assert status(tmp_path / "run") == "more"


@pytest.mark.parametrize("number", ASKING)
def test_one_rank_alone_saves_and_leaves(tmp_path: Path, number: signal.Signals) -> None:
    with alone(tmp_path) as process:
        process.send_signal(number)
        stdout, _ = process.communicate(timeout=GUARD)
    assert process.returncode == 75 and f"{number.name} received" in stdout
    assert status(tmp_path / "run") == "more"


def test_a_second_interrupt_ends_one_rank_alone_at_once(tmp_path: Path) -> None:
    with alone(tmp_path, "--grace", "3600", script={**BUSY, "4": "stop"}) as process:
        process.send_signal(signal.SIGINT)
        log = tmp_path / "run" / "log"
        await_that(lambda: "SIGINT received" in log.read_text(), "the first interrupt")
        process.send_signal(signal.SIGINT)
        assert process.wait(GUARD) == 130
    assert evaluations(tmp_path / "run") == 4 and status(tmp_path / "run") == "more"


def test_a_run_that_was_killed_after_its_last_evaluation_is_concluded_at_the_next_start(tmp_path: Path) -> None:
    with alone(tmp_path, script={}) as process:
        assert process.wait(GUARD) == 0
    folder = tmp_path / "run"
    (folder / "best.toml").unlink()
    (folder / "status").write_text("state=more\n")
    done = subprocess.run([sys.executable, JOB, *OPTIONS], cwd=tmp_path, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 0 and re.search("is finished", done.stdout)
    assert status(folder) == "complete" and (folder / "best.toml").exists()


def test_an_exception_in_the_controller_is_a_broken_run(tmp_path: Path) -> None:
    request = options.parse(["--run", str(tmp_path / "run"), "--grace", "0"])
    hub = Hub(1)
    hub.broke(ZeroDivisionError("in the worker"))
    with pytest.raises(ZeroDivisionError):
        SearchSession.open(request).control(hub.controller(), 1, "none", LiveLine("plain"), Signals())
    assert status(tmp_path / "run") == "broken"
    FileStore.open(tmp_path / "run").close()  # nobody holds it


def test_a_controller_that_breaks_with_one_rank_alone_ends_it(tmp_path: Path) -> None:
    """An exception of the controller leaves no worker waiting for ever."""
    broken = (
        "import runpy; from hpcnas.job import log; log.also_to_file = None; runpy.run_path({!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", broken.format(JOB), *OPTIONS, "--budget", "12"]
    environment = {**os.environ, **plan({}), "PYTHONPATH": str(Path(JOB).parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=GUARD)
    assert done.returncode == 1 and b"TypeError" in done.stderr
