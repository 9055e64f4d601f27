"""Fixtures for tests that start a real `mpirun`: each runs once under MPICH and once under Open MPI; and a real SLURM.

What tests start ends with the process that runs them (`warden`), and no test has a limit that a busy machine breaks
(`patience`).

HPCNAS_TEST_RANKS     ranks of an MPI test that names no number of its own (3)
HPCNAS_DEMAND_MPI     1: a missing MPI fails its tests instead of skipping them
HPCNAS_TEST_PATIENCE  how many times as long tests wait before they take it that something hangs (1)
HPCNAS_DEMAND_SLURM   1: likewise a missing SLURM; and so on: `.ci/run` sets them all
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from functools import cache

import pytest
import slurm as batch
from demand import absent
from mpi import Mpi, available
from patience import TEST
from warden import Warden

from hpcnas import collector

os.environ.setdefault("PYTEST_TIMEOUT", str(TEST))  # of pytest-timeout, unless --timeout says another
os.environ.setdefault("OMP_NUM_THREADS", "1")  # here and in every child: ranks share few cores
if not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/kfd"))):  # before any module of the tests brings a kernel
    os.environ.setdefault("TRITON_INTERPRET", "1")
for number in (signal.SIGINT, signal.SIGHUP):  # a shell in the background and nohup switch them off, also for children
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


LONGEST = (
    "test_jobs_pbs", "test_retrain_mpi", "test_crash_points", "test_whole_run", "test_cpu_program", "test_bad_values",
    "test_faults_mpi", "test_silent_ranks_mpi", "test_guided", "test_kernels", "test_stacked", "test_jobs_slurm",
    "test_probing", "test_browser", "test_readme", "test_browser_views", "test_jobs_local", "test_search_mpi",
    "test_early_stopping_mpi",
)  # fmt: skip
"""Files of tests that take longest begin first. Those that mostly wait, of PBS, silent ranks and SLURM, have others
between them, which compute meanwhile."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
    for item in items:
        if {"mpi", "one_mpi"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.mpi)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    with collector.spared_imports():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def warden(tmp_path_factory: pytest.TempPathFactory) -> Warden:
    """Sees to it that nothing that tests start outlives this process."""
    found = Warden()
    found.watch(tmp_path_factory.getbasetemp().resolve())
    return found


@cache
def _installed() -> dict[str, Mpi]:
    return {mpi.name: mpi for mpi in available()}


@pytest.fixture(params=["mpich", "openmpi"])
def mpi(request: pytest.FixtureRequest) -> Mpi:
    """One MPI launcher after the other, for `mpi.run` and `mpi.start`."""
    found = _installed().get(request.param)
    if found is None:
        absent(
            f"no {request.param} here: `make test` installs it, HPCNAS_MPI_PREFIXES names other places",
            "HPCNAS_DEMAND_MPI",
        )
    return found


@pytest.fixture
def one_mpi() -> Mpi:
    """The first MPI that there is, for what one launcher shows."""
    if not _installed():
        absent("no mpirun here: `make test` installs one", "HPCNAS_DEMAND_MPI")
    return next(iter(_installed().values()))


@pytest.fixture
def ranks() -> int:
    """The number of ranks to start, controller included."""
    return int(os.environ.get("HPCNAS_TEST_RANKS", "3"))


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[batch.Cluster]:
    """A SLURM of four nodes on this machine, alive while tests run."""
    if reason := batch.missing():
        absent(reason, "HPCNAS_DEMAND_SLURM")
    with batch.start(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster
