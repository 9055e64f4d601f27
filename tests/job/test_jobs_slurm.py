"""`jobs/slurm.sh` and `jobs/slurm_array.sh` under a real SLURM: from `sbatch` to a complete run, come what may.

All jobs are submitted together and go on beside each other; every test waits for its own. One node is only for the job
that it is taken from.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jobscripts
import pytest
import wheel
from demand import absent
from jobscripts import STEP_A_JOB, assert_complete, evaluations, launch_line, places, read, status
from slurm import CHEAPEST, Cluster, pmix_missing

from hpcnas.retrain import record_file

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
SMALL = {
    "--nodes": "=2",
    "--ntasks-per-node": "=1",
    "--gpus-per-node": None,
    "--cpus-per-task": "=1",
    "--time": "=10",
    "--signal": None,
    "--exclude": f"={CHEAPEST}",
}
HALF = ("--synthetic-seconds", "0.5")  # four evaluations a second on two workers
LEAVE_SOON = ("--walltime", "24", "--grace", "6")  # time enough to get somewhere on a busy machine

# MPI, words of its LAUNCH line, tasks on a node. SLURM's PMIx takes no more of them than the machine has cores.
LAUNCHES = {
    "mpirun-mpich": ("mpich", ("mpirun",), 2),
    "mpirun-openmpi": ("openmpi", ("mpirun", "OVERSUBSCRIBE"), 2),
    "srun-mpich": ("mpich", ("srun", "pmi2"), 2),
    "srun-openmpi": ("openmpi", ("srun", "pmix"), 1),
}


@dataclass(frozen=True)
class Submitted:
    """A job of an edited script, in a folder of its own."""

    cluster: Cluster
    number: int
    folder: Path
    run: Path

    @property
    def log(self) -> str:
        """What all starts of the job have printed."""
        return "".join(read(path) for path in sorted(self.folder.glob("hpcnas-*.log")))

    def ended(self, expected: str) -> dict[str, str]:
        """Waits for the job's end; returns what SLURM says about it."""
        state = self.cluster.await_state(self.number, *ENDED)
        assert state == expected, f"{state}\n{self.log}"
        return self.cluster.show(self.number)

    def evaluates(self, count: int) -> None:
        """Waits for so many evaluations."""
        self.cluster.until(lambda: evaluations(self.run) >= count, f"{count} evaluations: {self.log}")


@dataclass(frozen=True)
class Submitter:
    """Submits edited scripts: small jobs, under MPICH's mpirun where nothing else is said."""

    cluster: Cluster
    folder: Path

    def __call__(
        self,
        name: str,
        *options: str,
        launch: str = "mpirun-mpich",
        script: str = "slurm.sh",
        directives: Mapping[str, str | None] = {},
        **variables: str | Sequence[str],
    ) -> Submitted:
        folder = self.folder / name
        folder.mkdir()
        mpi, words, _ = LAUNCHES[launch]
        values = places(folder / "run", *options) | {"SCRATCH": "", "LAUNCH": launch_line(script, *words), **variables}
        module = jobscripts.launcher(mpi)
        edited = jobscripts.edited(script, folder / script, values, SMALL | dict(directives), module)
        return Submitted(self.cluster, self.cluster.submit(edited, self.env), folder, folder / "run")

    @property
    def env(self) -> dict[str, str]:
        """What jobs find in their environment."""
        return {"PATH": os.pathsep.join((str(self.folder / "bin"), os.environ["PATH"]))}

    def chain(
        self,
        name: str,
        *options: str,
        then: Sequence[str] = (),
        directives: Mapping[str, str | None] = {},
        **retraining: str | Sequence[str],
    ) -> tuple[Submitted, Submitted]:
        """Submits a search, with these options, and the retraining of what it finds, `then` with these, by
        slurm_chain.sh."""
        folder, module = self.folder / name, jobscripts.launcher("mpich")
        folder.mkdir()
        values = places(folder / "run", *HALF, *options) | {"SCRATCH": "", "LAUNCH": launch_line("slurm.sh", "mpirun")}
        after = jobscripts.retraining(folder / "large", folder / "run", *then)
        after["LAUNCH"] = launch_line("slurm_retrain.sh", "mpirun")
        scripts = {}
        for variable, script, edits, lines in (
            ("SEARCH", "slurm.sh", values, SMALL | dict(directives)),
            ("RETRAIN", "slurm_retrain.sh", after | retraining, SMALL),
        ):
            scripts[variable] = str(jobscripts.edited(script, folder / script, edits, lines, module))
        chain = jobscripts.edited("slurm_chain.sh", folder / "chain.sh", scripts)
        said = self.cluster.ask(str(chain), cwd=folder, env=self.env)
        numbers = re.fullmatch(r"Submitted batch job (\d+), a search, and (\d+), a retraining after it\n", said)
        assert numbers is not None, said
        first, second = (int(number) for number in numbers.groups())
        return (
            Submitted(self.cluster, first, folder, folder / "run"),
            Submitted(self.cluster, second, folder, folder / "large"),
        )


@pytest.fixture(scope="module")
def submit(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Submitter:
    """Submits jobs whose `cp` only writes down what it was told on which node: all nodes are one machine."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "bin").mkdir()
    (folder / "bin/cp").write_text(f'#!/bin/sh\necho "$SLURMD_NODENAME" "$@" >>{folder}/copied\n')
    (folder / "bin/cp").chmod(0o755)
    return Submitter(slurm, folder)


@pytest.fixture(scope="module")
def jobs(submit: Submitter) -> dict[str, Submitted]:
    """The jobs, by what becomes of them. Whoever is to be struck in the middle is struck here, while it is there."""
    jobs = {
        "node dies": submit(  # a copy of the data on each node: removing it waits for the dead one
            *("node", *HALF, "--budget", "60"),
            directives={"--exclude": None},
            DATA="imagefolder:data",
            SCRATCH="/scratch",
        ),
        "requeued": submit("requeued", *HALF, "--budget", "60", launch="srun-mpich"),
        "cancelled": submit("cancelled", *HALF, "--budget", "1000", launch="srun-mpich"),
        "signalled": submit(  # 15 to 45 s after its start
            *("signalled", *HALF, "--budget", "170", "--grace", "5"),
            directives={"--time": "=1", "--signal": "=B:USR1@15"},
        ),
        "deadline": submit(  # 35 s after its start
            *("deadline", *HALF, "--budget", "180", "--grace", "85"),
            launch="mpirun-openmpi",
            directives={"--time": "=2"},
        ),
        "resubmitted": submit(
            *("resubmitted", *HALF, *LEAVE_SOON, "--budget", "1000"),
            directives={"--requeue": None, "--no-requeue": ""},
            RESTARTS="1",
        ),
        "stuck": submit("stuck", "--synthetic-seconds", "100", *LEAVE_SOON, "--budget", "10"),
        "array": submit(
            *("array", *HALF, *LEAVE_SOON, "--budget", "60"),
            script="slurm_array.sh",
            directives={"--nodes": "=1", "--array": "=3,5"},
            RUN=f"{submit.folder}/array/run$SEED",
            DATA="imagefolder:data",
            SCRATCH="/scratch",
        ),
    }
    jobs["requeued"].evaluates(10)
    submit.cluster.ask("scontrol", "requeue", str(jobs["requeued"].number))
    jobs["node dies"].evaluates(10)
    submit.cluster.kill_node(CHEAPEST)
    jobs["cancelled"].evaluates(10)
    submit.cluster.ask("scancel", str(jobs["cancelled"].number))
    for name in ("requeued", "node dies"):
        assert evaluations(jobs[name].run) < 60, "it was struck too late"
    return jobs


@pytest.fixture(scope="module", autouse=True)
def chains(submit: Submitter, jobs: dict[str, Submitted]) -> dict[str, tuple[Submitted, Submitted]]:
    """Searches, which need more than one job, and the retraining behind each, the first one's in two jobs. Submitted
    before the first test, when all that is to be struck has been."""
    play = jobscripts.played(submit.folder)
    return {
        "requeued": submit.chain("chain", *LEAVE_SOON, "--budget", "100", then=("--steps", "2", *STEP_A_JOB)),
        "submitted anew": submit.chain(
            *("chain-anew", *LEAVE_SOON, "--budget", "100"),
            directives={"--requeue": None, "--no-requeue": ""},
            LAUNCH=[str(play)],
        ),
        "stuck": submit.chain("chain-stuck", "--synthetic-seconds", "100", *LEAVE_SOON, LAUNCH=[str(play)]),
    }


@pytest.mark.parametrize("launch", LAUNCHES)
def test_every_worker_on_two_nodes_gets_a_gpu_of_its_own_and_data_near_it(
    submit: Submitter, jobs: dict[str, Submitted], launch: str
) -> None:
    if launch == "srun-openmpi" and (reason := pmix_missing()):
        absent(reason, "HPCNAS_DEMAND_SLURM")
    tasks = LAUNCHES[launch][2]
    job = submit(
        *(launch, *HALF, "--budget", "30", "--device", "cuda"),
        launch=launch,
        directives={"--ntasks-per-node": f"={tasks}", "--gpus-per-node": f"={tasks}"},
        DATA="imagefolder:data",
        SCRATCH="/scratch",
    )
    job.ended("COMPLETED")
    stored = assert_complete(job.run, budget=30)
    copy_of = f"/scratch/hpcnas-{job.number}"
    assert stored.config.data.source == f"imagefolder:{copy_of}"
    population = stored.population
    ranks, hosts, devices = (population.column(name) for name in ("rank", "host", "device"))
    workers = {rank: (host, device) for rank, host, device in zip(ranks, hosts, devices, strict=True)}
    assert sorted(workers) == list(range(1, 2 * tasks + 1))
    assert len(set(workers.values())) == 2 * tasks and len(set(hosts)) == 2
    assert all(re.fullmatch(rb"cuda:[0-3]", device) for device in devices)
    copied = [line for line in read(submit.folder / "copied").splitlines() if line.endswith(copy_of)]
    assert sorted(copied) == sorted(f"{host.decode()} -ru data/. {copy_of}" for host in set(hosts))


def test_a_job_told_of_its_end_requeues_itself_until_the_search_is_complete(jobs: dict[str, Submitted]) -> None:
    job = jobs["signalled"]
    said = job.ended("COMPLETED")
    assert int(said["Restarts"]) >= 1
    assert "SIGUSR1 received" in job.log
    stored = assert_complete(job.run, budget=170)
    assert 2 <= len(stored.sessions) <= int(said["Restarts"]) + 1  # none where the end came before the workers
    assert stored.population.failures == {}


def test_a_job_that_asks_slurm_for_its_end_leaves_before_it(jobs: dict[str, Submitted]) -> None:
    job = jobs["deadline"]
    said = job.ended("COMPLETED")
    assert int(said["Restarts"]) >= 1
    assert "the job's time is nearly over" in job.log and "SIG" not in job.log
    assert 2 <= len(assert_complete(job.run, budget=180).sessions) <= int(said["Restarts"]) + 1


def test_a_job_requeued_in_the_middle_goes_on(jobs: dict[str, Submitted]) -> None:
    said = jobs["requeued"].ended("COMPLETED")
    assert said["Restarts"] == "1"
    assert len(assert_complete(jobs["requeued"].run, budget=60).sessions) == 2


def test_a_job_whose_node_dies_goes_on_on_another(jobs: dict[str, Submitted]) -> None:
    job = jobs["node dies"]
    said = job.ended("COMPLETED")
    assert int(said["Restarts"]) >= 1
    stored = assert_complete(job.run, budget=60)
    assert CHEAPEST.encode() in stored.population.column("host")
    assert CHEAPEST not in job.cluster.ask("scontrol", "show", "hostnames", said["NodeList"])
    assert "Submitted batch job" not in job.log  # SLURM has requeued it, or it itself: once is enough


def test_a_job_that_must_not_be_requeued_is_submitted_again_but_not_too_often(jobs: dict[str, Submitted]) -> None:
    first = jobs["resubmitted"]
    first.ended("COMPLETED")
    number = re.search(r"Submitted batch job (\d+)", first.log)
    assert number is not None, first.log
    second = Submitted(first.cluster, int(number[1]), first.folder, first.run)
    second.ended("FAILED")
    assert second.log.count("Submitted batch job") == 1
    assert "is not started again: it has been 1 times, the most that RESTARTS allows" in second.log
    assert status(first.run)["state"] == "more" and int(status(first.run)["evaluated"]) > 0


def test_a_job_that_gets_nowhere_is_not_requeued(jobs: dict[str, Submitted]) -> None:
    job = jobs["stuck"]
    assert job.ended("FAILED")["Restarts"] == "0"
    assert "is not started again: this job has not brought it any further" in job.log


def test_a_cancelled_job_saves_and_stays_away(jobs: dict[str, Submitted]) -> None:
    job = jobs["cancelled"]
    assert job.ended("CANCELLED")["Restarts"] == "0"
    assert "SIGTERM received" in job.log or "SIGUSR1 received" in job.log
    assert status(job.run)["state"] == "more"
    assert "Submitted batch job" not in job.log


def test_an_array_searches_with_several_seeds_and_copies_the_data_for_each(jobs: dict[str, Submitted]) -> None:
    job = jobs["array"]
    job.ended("COMPLETED")
    for seed in (3, 5):
        run = job.folder / f"run{seed}"
        job.cluster.until(lambda run=run: status(run).get("state") == "complete", f"seed {seed}: {job.log}")
        stored = assert_complete(run, budget=60)
        assert stored.config.search.seed == seed and len(stored.sessions) >= 2
        assert stored.config.data.source.startswith("imagefolder:/scratch/hpcnas-")
    assert "told to end" not in job.log  # by another seed's requeuing, say


def test_a_script_that_an_installed_hpcnas_has_written_needs_no_repository(submit: Submitter) -> None:
    folder = submit.folder / "installed"
    folder.mkdir()
    commands = wheel.install(wheel.build(folder), folder / "environment")
    subprocess.run([commands / "hpcnas", "jobs", "jobs"], cwd=folder, env=wheel.elsewhere(), check=True)
    values = places(folder / "run", *HALF, "--budget", "12") | {"SCRATCH": ""}
    values["LAUNCH"] = launch_line("slurm.sh", "mpirun")
    del values["JOBS"], values["PYTHON"]  # it knows them
    script = folder / "jobs/slurm.sh"
    jobscripts.edited("slurm.sh", script, values, SMALL, jobscripts.launcher("mpich"), jobs=script.parent)
    number = submit.cluster.submit(script, submit.env | {"PYTHONPATH": ""})
    job = Submitted(submit.cluster, number, script.parent, folder / "run")
    job.ended("COMPLETED")
    assert_complete(job.run, budget=12)


def test_a_chain_retrains_the_best_cell_of_a_search_that_was_requeued_as_the_retraining_is(
    chains: dict[str, tuple[Submitted, Submitted]],
) -> None:
    search, then = chains["requeued"]
    said = then.ended("COMPLETED")
    before = search.ended("COMPLETED")
    assert int(before["Restarts"]) >= 1 and said["Restarts"] == "1" and said["StartTime"] >= before["EndTime"]
    stored = assert_complete(search.run, budget=100)
    assert status(then.run)["state"] == "complete"
    found = record_file.read(then.run)
    assert (found.origin.run, found.origin.individual) == (stored.run, stored.population.best)
    assert [session.ranks for session in found.sessions] == [2, 2]


def test_a_chain_waits_for_the_last_job_of_a_search_that_submits_itself_anew(
    chains: dict[str, tuple[Submitted, Submitted]],
) -> None:
    search, then = chains["submitted anew"]
    said = then.ended("COMPLETED")
    numbers = [search.number, *map(int, re.findall(r"Submitted batch job (\d+)\n", search.log))]
    assert len(numbers) >= 2, search.log
    assert said["StartTime"] >= search.cluster.show(numbers[-1])["EndTime"]
    assert_complete(search.run, budget=100)


def test_a_retraining_behind_a_search_that_failed_is_taken_away(chains: dict[str, tuple[Submitted, Submitted]]) -> None:
    search, then = chains["stuck"]
    search.ended("FAILED")
    then.ended("CANCELLED")
    assert not then.run.exists()
