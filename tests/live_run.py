"""A run that is going on under a launcher: what is on its disk at this moment, and which processes are its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
from mpi import Job
from patience import GUARD

from hpcnas.evolution.population import Population
from hpcnas.search import recovery
from hpcnas.search.run_file import StoredRun
from hpcnas.storage.folder import StoreError


def await_that(condition: Callable[[], object], what: str, ) -> None:
    """Returns when the condition holds; fails where it never does."""
    deadline = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {GUARD:g} s: {what}"
        time.sleep(0.01)


def recorded(folder: Path) -> StoredRun:
    """Everything that is on the disk, read as it stands: the controller may be writing."""
    problems = ["nothing read yet"]
    for _ in range(20):  # between the reading of two files both may have been renewed
        stored, problems = recovery.salvage(folder)
        if not problems:
            return stored
    raise AssertionError(f"{folder}: {problems}")


def evaluations(folder: Path) -> int:
    """How many are on the disk; 0 where there is no run yet."""
    try:
        return len(recorded(folder).population.evaluated)
    except StoreError:
        return 0


def settled(population: Population) -> dict[int, object]:
    """The result of every individual that has one."""
    return {id: population.result(id) for id in range(len(population)) if id not in set(population.issued)}


def ranks(job: Job) -> dict[int, psutil.Process]:
    """The job's ranks by number: their children do not know that there is an MPI."""
    found = {}
    for process in job.processes():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        number = environment.get("PMI_RANK", environment.get("OMPI_COMM_WORLD_RANK"))
        if number is not None:
            found[int(number)] = process
    return found


def trainers(job: Job) -> list[psutil.Process]:
    """The job's living trainer children."""
    return [process for process in job.processes() if is_trainer(_command(process))]


def is_trainer(command: list[str]) -> bool:
    """Whether a command line is that of a trainer, the real one or the scripted one; folders may be called so too."""
    return any("trainer" in part.rpartition("/")[2] for part in command)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def status(folder: Path) -> str:
    """What RUN/status says about the state of the run."""
    return (folder / "status").read_text().split("\n")[0].removeprefix("state=")
