"""Worker ranks that are stopped in live jobs: the search ends as if they had never been, and no job waits for them."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import mpi as launcher
import pytest
from live_run import GUARD, await_that, evaluations, ranks, recorded, status

from hpcnas.analysis import verification

OPTIONS = [
    *("--run", "run", "--evaluator", "synthetic", "--synthetic-seconds", "0.1", "--initial-mutations", "30"),
    *("--initial-population", "10", "--progress", "plain", "--hang-timeout", "1", "--compact-interval", "0"),
]


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_stopped_worker_rank_costs_nothing_but_its_time(mpi: launcher.Mpi, tmp_path: Path, goes_on: bool) -> None:
    """It is stopped for good; or let go on, whose result then comes too late."""
    run = tmp_path / "run"
    with launcher.start(mpi, 3, ["-m", "hpcnas", *OPTIONS, "--budget", "60"], cwd=tmp_path) as job:
        await_that(lambda: evaluations(run) >= 5, "five evaluations")
        worker = ranks(job)[2]
        worker.send_signal(signal.SIGSTOP)
        if goes_on:
            await_that(lambda: "nothing heard for 30 s of rank 2" in (run / "log").read_text(), "a warning")
            worker.send_signal(signal.SIGCONT)
        stdout, stderr = job.communicate(timeout=GUARD)
        if goes_on:  # else all ranks are aborted, and the exit code may be that of a killed one
            assert job.returncode == 0, stdout + stderr
        assert job.await_end() == []
    assert "nothing heard for 30 s of rank 2" in stdout
    assert "the search is complete" in stdout
    assert ("rank 2 did not answer at the end of the job" in stderr) is not goes_on
    assert status(run) == "complete"
    stored = recorded(run)
    assert len(stored.population.evaluated) == 60 and stored.population.in_flight == 0
    assert stored.population.column("attempts").tolist() == [1] * 60
    assert list(verification.faults(stored)) == []


def test_a_job_that_is_stopped_as_a_whole_takes_nobody_for_silent(mpi: launcher.Mpi, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with launcher.start(mpi, 3, ["-m", "hpcnas", *OPTIONS, "--budget", "20"], cwd=tmp_path) as job:
        await_that(lambda: evaluations(run) >= 5, "five evaluations")
        all_ranks = ranks(job).values()
        for rank in all_ranks:
            rank.send_signal(signal.SIGSTOP)
        time.sleep(31.0)  # longer than a rank may be silent
        for rank in all_ranks:
            rank.send_signal(signal.SIGCONT)
        stdout, stderr = job.communicate(timeout=GUARD)
        assert job.returncode == 0, stdout + stderr
        assert job.await_end() == []
    assert "nothing heard" not in stdout
    assert status(run) == "complete"
