"""SIGKILL of the controller at random moments of a live run: nothing acknowledged is lost, nothing doubled.

Jobs take turns at training whole fitnesses and replicates of their own: what one has begun another brings to its end.

HPCNAS_TORTURE=1   500 kills in all instead of 8 (`make torture`); HPCNAS_KILLS says another number
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import mpi as launcher
import numpy as np
from live_run import await_that, evaluations, ranks, recorded, settled, status
from mpi import Job, Mpi
from patience import GUARD

from hpcnas import seeds
from hpcnas.analysis import replay
from hpcnas.messages import Task
from hpcnas.search.run_file import StoredRun
from hpcnas.search.synthetic import SyntheticEvaluator
from hpcnas.storage.folder import StoreError

TORTURE = os.environ.get("HPCNAS_TORTURE") == "1"
KILLS = int(os.environ.get("HPCNAS_KILLS", "500" if TORTURE else "8")) // 2  # under each MPI
PER_KILL = 40  # evaluations at most
BUDGET = 60 + PER_KILL * KILLS
OPTIONS = [
    *("--run", "run", "--evaluator", "synthetic", "--synthetic-seconds", "0.02", "--budget", str(BUDGET)),
    *("--initial-population", "20", "--initial-mutations", "50", "--replicates", "2", "--seed", "5"),
    *("--compact-interval", "0.2", "--progress", "plain"),
]


def test_a_killed_controller_loses_nothing_that_was_acknowledged(mpi: Mpi, tmp_path: Path) -> None:
    generator = np.random.default_rng(20)
    folder, acknowledged, seconds = tmp_path / "run", set(), []
    for number in range(KILLS):
        scheduling = ("--scheduling", ("replicate", "fitness")[number % 2])
        with launcher.start(mpi, 4, ["-m", "hpcnas", *OPTIONS, *scheduling], cwd=tmp_path) as job:
            if generator.random() < 0.2:  # while it starts, replays or has just begun
                await_that(lambda: 0 in ranks(job), "rank 0")
                time.sleep(generator.uniform(0.0, 1.0))
            else:
                await_evaluations(job, folder, evaluations(folder) + int(generator.integers(1, PER_KILL)))
            before = read(folder)
            ranks(job)[0].kill()
            killed = time.monotonic()
            job.communicate(timeout=GUARD)
            assert job.await_end() == []
            seconds.append(time.monotonic() - killed)
            assert job.returncode != 0
        after = read(folder)
        if before is not None:
            assert after is not None
            acknowledged |= set(before.population.evaluated.tolist())
            assert_continues(before, after)
            assert status(folder) == "more"
    done = launcher.run(mpi, 4, ["-m", "hpcnas", *OPTIONS], cwd=tmp_path, timeout=2 * GUARD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert status(folder) == "complete"
    assert_sound(recorded(folder))
    print(
        f"{mpi.name}: {KILLS} kills, {len(acknowledged)} evaluations seen before one of them, none lost, none doubled; "
        f"all processes gone after {np.median(seconds):.2f} s (median), {max(seconds):.2f} s (most)"
    )


def await_evaluations(job: Job, folder: Path, count: int) -> None:
    await_that(lambda: job.poll() is not None or evaluations(folder) >= count, f"{count} evaluations")
    assert job.poll() is None, job.communicate()


def read(folder: Path) -> StoredRun | None:
    """What is on the disk; None before there is a run."""
    try:
        return recorded(folder)
    except StoreError:
        assert not (folder / "population.h5").exists()
        return None


def assert_continues(before: StoredRun, after: StoredRun) -> None:
    """All that was on the disk is there, and what was in flight is still to be done or done."""
    old, new = before.population, after.population
    assert (after.run, after.records >= before.records) == (before.run, True)
    assert new.evaluated[: len(old.evaluated)].tolist() == old.evaluated.tolist()
    assert settled(old).items() <= settled(new).items()
    for id in old.issued:
        assert new.individual(id) == old.individual(id)
        known = ~np.isnan(old.column("accuracies")[id])  # of replicates that were trained
        assert new.column("accuracies")[id][known].tolist() == old.column("accuracies")[id][known].tolist()


def assert_sound(run: StoredRun) -> None:
    """The budget is spent to the last evaluation; every genotype and every fitness is what it must be."""
    population = run.population
    assert len(population) == len(population.evaluated) == len(set(population.evaluated.tolist())) == BUDGET
    assert population.in_flight == 0 and population.failed_attempts == []
    assert set(population.column("attempts")) == {1}
    assert list(replay.deviations(run.config, run.sessions[0].facts, population)) == []
    settings = dataclasses.replace(run.config.evaluation, synthetic_seconds=0.0)
    evaluator = SyntheticEvaluator(dataclasses.replace(run.config, evaluation=settings))
    for id in range(BUDGET):
        drawn = tuple(seeds.training_seed(5, id, replicate) for replicate in (0, 1))
        evaluator.start(Task(id, 1, population.individual(id).genotype, drawn))
        outcome = population.result(id).outcome
        assert outcome == dataclasses.replace(evaluator.poll(0.0), training_seconds=0.02)
