"""Going on without dead worker ranks, where the MPI can: Open MPI 5 under `mpirun --with-ft ulfm`."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
from pathlib import Path

import mpi as launcher
import psutil
import pytest
from demand import absent
from live_run import await_that, evaluations
from patience import GUARD

from hpcnas.analysis import replay
from hpcnas.search import run_file

OPTIONS = [
    *("--run", "run", "--evaluator", "synthetic", "--synthetic-seconds", "0.15", "--budget", "120"),
    *("--initial-mutations", "30", "--initial-population", "10", "--compact-interval", "0"),
]


@pytest.fixture
def ulfm() -> launcher.Mpi:
    """Open MPI with its fault tolerance switched on."""
    for mpi in launcher.available():
        if mpi.name == "openmpi":
            version = subprocess.run([mpi.mpirun, "--version"], capture_output=True, text=True).stdout
            if " 5." in version:
                return dataclasses.replace(mpi, flags=(*mpi.flags, "--with-ft", "ulfm"))
    absent("no Open MPI 5 here: `make test` installs it", "HPCNAS_DEMAND_MPI")


def pid_of_rank(job: launcher.Job, rank: int) -> psutil.Process:
    for process in job.processes():
        if process.environ().get("OMPI_COMM_WORLD_RANK") == str(rank):
            return process
    raise AssertionError(f"no rank {rank} among {job.processes()}")


def wait_for_evaluations(folder: Path, count: int) -> None:
    await_that(lambda: evaluations(folder) >= count, f"{count} evaluations")


def test_two_dead_workers_cost_nothing_but_their_time(ulfm: launcher.Mpi, tmp_path: Path) -> None:
    with launcher.start(ulfm, 4, ["-m", "hpcnas", *OPTIONS], cwd=tmp_path) as job:
        wait_for_evaluations(tmp_path / "run", 5)
        pid_of_rank(job, 2).send_signal(signal.SIGKILL)
        wait_for_evaluations(tmp_path / "run", 15)
        pid_of_rank(job, 3).send_signal(signal.SIGKILL)
        stdout, stderr = job.communicate(timeout=GUARD)
        assert "going on without rank 2" in stdout and "going on without rank 3" in stdout, stdout + stderr
        assert "the search is complete" in stdout
        assert job.await_end() == []
    run = run_file.read(tmp_path / "run")
    assert len(run.population.evaluated) == 120 and run.population.in_flight == 0
    assert run.population.failures == {}
    assert list(replay.deviations(run.config, run.sessions[0].facts, run.population)) == []
    assert "state=complete" in (tmp_path / "run" / "status").read_text()


def test_the_death_of_all_workers_leaves_the_run_to_another_job(ulfm: launcher.Mpi, tmp_path: Path) -> None:
    with launcher.start(ulfm, 2, ["-m", "hpcnas", *OPTIONS, "--grace", "2"], cwd=tmp_path) as job:
        wait_for_evaluations(tmp_path / "run", 5)
        pid_of_rank(job, 1).send_signal(signal.SIGKILL)
        stdout, stderr = job.communicate(timeout=GUARD)
    assert "its process has died" in stdout, stdout + stderr
    assert "state=more" in (tmp_path / "run" / "status").read_text()
