"""`jobs/pbs.sh` under a stand-in for PBS: from `qsub` through walltimes to a complete run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jobscripts
import live_run
import mpi as launcher
import pbs
import pytest
from jobscripts import STEP_A_JOB, assert_complete, evaluations, launch_line, places, read, status
from patience import GUARD

from hpcnas.retrain import record_file

LAUNCHES = {"mpich": ("mpirun",), "openmpi": ("mpirun", "OVERSUBSCRIBE")}


@dataclass(frozen=True)
class Pbs:
    """The stand-in, installed in a folder; its jobs are submitted from there."""

    folder: Path
    env: dict[str, str]

    def ask(self, *command: str) -> str:
        """What one of the commands prints."""
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=GUARD)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, mpi: str, *options: str, walltime: int, **variables: str) -> str:
        """Submits pbs.sh with two workers, five evaluations a second; returns the job."""
        return self.ask("qsub", str(self.search(mpi, *options, walltime=walltime, **variables)))

    def search(self, mpi: str, *options: str, walltime: int, **variables: str) -> Path:
        """That script."""
        values = places(self.folder / "run", "--synthetic-seconds", "0.4", *options)
        values |= {"SCRATCH": "", "LAUNCH": launch_line("pbs.sh", *LAUNCHES[mpi])}
        return self.edited("pbs.sh", values | variables, mpi, walltime)

    def edited(self, script: str, values: Mapping[str, str | Sequence[str]], mpi: str, walltime: int) -> Path:
        """A script for two nodes."""
        return jobscripts.edited(
            script,
            self.folder / script,
            values,
            {"-l walltime": f"=00:00:{walltime:02}", "-l select": "=2:ncpus=1:mpiprocs=1"},
            jobscripts.launcher(mpi),
        )

    def chain(self, *options: str) -> str:
        """Submits a search, with these options, and a retraining in two jobs of what it finds; returns what is said."""
        values = jobscripts.retraining(self.folder / "large", self.folder / "run", "--steps", "2", *STEP_A_JOB)
        values["LAUNCH"] = launch_line("pbs_retrain.sh", "mpirun")
        scripts = {
            "SEARCH": str(self.search("mpich", *options, walltime=59)),
            "RETRAIN": str(self.edited("pbs_retrain.sh", values, "mpich", 59)),
        }
        return self.ask(str(jobscripts.edited("pbs_chain.sh", self.folder / "chain.sh", scripts)))

    def jobs(self) -> list[str]:
        """All jobs so far, in their order."""
        return [f"{number}.standin" for number in range(1, len(list(self.folder.glob("*.standin"))) + 1)]

    def failed(self) -> list[str]:
        """The logs of the jobs that have ended with another exit code than 0."""
        return [self.ended(job)[1] for job in self.jobs() if read(self.folder / job / "exit") not in ("", "0")]

    def ended(self, job: str) -> tuple[int, str]:
        """Waits for the job's end; returns its exit code and its log."""
        live_run.await_that(lambda: read(self.folder / job / "state") == "F", f"the end of {job}")
        name = json.loads(read(self.folder / job / "attributes"))["name"]
        return int(read(self.folder / job / "exit")), read(self.folder / f"{name}.o{job.split('.')[0]}")


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Pbs]:
    """The stand-in. Everything that it starts carries the mark of a process that lives as long, and ends with it."""
    bin = pbs.install(tmp_path)
    with launcher.start_command(["sleep", "infinity"], cwd=tmp_path, env={}) as process:
        path = os.pathsep.join((str(bin), os.environ["PATH"]))
        yield Pbs(tmp_path, {**os.environ, "PATH": path, launcher.MARK: process.mark})


@pytest.mark.parametrize("mpi", LAUNCHES)
def test_a_job_that_asks_pbs_for_its_end_is_submitted_again_until_the_search_is_complete(mpi: str, batch: Pbs) -> None:
    run, data = batch.folder / "run", batch.folder / "data"
    data.mkdir()
    (batch.folder / "scratch").mkdir()
    (data / "image").touch()
    scratch = str(batch.folder / "scratch")
    batch.submit(mpi, "--grace", "15", "--budget", "180", walltime=40, DATA=f"imagefolder:{data}", SCRATCH=scratch)
    live_run.await_that(lambda: status(run).get("state") == "complete" or batch.failed(), "a complete run")
    assert not batch.failed()
    *cut, last = batch.jobs()
    assert cut
    for job in cut:
        exit_code, log = batch.ended(job)
        assert exit_code == 0 and "the job's time is nearly over" in log and "SIG" not in log
    exit_code, log = batch.ended(last)
    assert exit_code == 0 and "the search is complete" in log
    stored = assert_complete(run, budget=180)
    assert len(stored.sessions) == len(cut) + 1
    assert stored.config.data.source == f"imagefolder:{scratch}/hpcnas-{last}"
    told = [f"{socket.gethostname()} cp -ru {data}/. {scratch}/hpcnas-{job}" for job in batch.jobs()]
    assert [line for line in read(batch.folder / "tmrsh").splitlines() if " cp " in line] == told
    assert os.listdir(scratch) == []


def test_resubmission_ends_with_the_restarts_that_are_allowed(batch: Pbs) -> None:
    batch.submit("mpich", "--walltime", "20", "--grace", "2", "--budget", "1000", walltime=59, RESTARTS="1")
    assert batch.ended("1.standin")[0] == 0
    exit_code, log = batch.ended("2.standin")
    assert exit_code == 1 and "it has been 1 times, the most that RESTARTS allows" in log
    assert batch.jobs() == ["1.standin", "2.standin"]


@pytest.mark.parametrize(("end", "mpi"), [("walltime", "openmpi"), ("qdel", "mpich")])
def test_a_job_that_is_killed_loses_nothing_and_stays_away_until_it_is_submitted(
    mpi: str, end: str, batch: Pbs
) -> None:
    run = batch.folder / "run"
    job = batch.submit(mpi, "--grace", "0", "--budget", "300", walltime=30 if end == "walltime" else 59)
    if end == "qdel":
        live_run.await_that(lambda: evaluations(run) >= 5, "evaluations")
        batch.ask("qdel", job)
    exit_code, log = batch.ended(job)
    assert exit_code != 0 and batch.jobs() == [job]
    known = live_run.settled(live_run.recorded(run).population)
    assert 0 < len(known) < 300, log
    again = batch.submit(mpi, "--budget", "300", "--synthetic-seconds", "0", walltime=59)
    assert batch.ended(again)[0] == 0
    after = live_run.settled(assert_complete(run, budget=300).population)
    assert {id: after[id] for id in known} == known


def test_a_chain_retrains_when_the_search_is_complete_and_not_before_in_as_many_jobs_as_it_takes(batch: Pbs) -> None:
    said = batch.chain("--walltime", "20", "--grace", "2", "--budget", "150")
    assert said == "2.standin is the search, 1.standin the retraining after it"
    exit_code, log = batch.ended("1.standin")
    assert exit_code == 0 and "the job's time is nearly over" in log, log
    retrained, *searches, again = batch.jobs()
    assert len(searches) >= 2, "the search was not submitted again: it was too quick"
    stored = assert_complete(batch.folder / "run", budget=150)
    last_end = (batch.folder / searches[-1] / "exit").stat().st_mtime
    assert float(read(batch.folder / retrained / "began")) >= last_end
    exit_code, log = batch.ended(again)
    assert exit_code == 0 and status(batch.folder / "large")["state"] == "complete", log
    found = record_file.read(batch.folder / "large")
    assert (found.origin.run, found.origin.individual) == (stored.run, stored.population.best)
    assert [session.ranks for session in found.sessions] == [2, 2]


def test_without_a_complete_search_nothing_is_retrained(batch: Pbs) -> None:
    batch.chain("--budget", "0")
    live_run.await_that(lambda: read(batch.folder / "1.standin" / "state") == "F", "the end of the retraining")
    assert not (batch.folder / "1.standin" / "began").exists() and batch.jobs() == ["1.standin", "2.standin"]
    alone = batch.ask("qsub", str(batch.folder / "pbs_retrain.sh"))
    exit_code, log = batch.ended(alone)
    large, run = batch.folder / "large", batch.folder / "run"
    assert exit_code == 1 and log == f"{large} is not begun: the search {run} is not complete (it has no status)\n"
