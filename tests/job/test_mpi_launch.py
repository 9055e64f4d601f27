"""Each launcher starts one world with its own library, or says that there is none; an abort ends it without a trace."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mpi import Mpi, run, start

HELLO = """
from mpi4py import MPI
world = MPI.COMM_WORLD
library = MPI.Get_library_version().split()[:2]
print("\\n".join(world.gather(f"{world.rank} of {world.size}: {' '.join(library)}") or []), end="")
"""

ABORT_RANK_1 = """
import time
from mpi4py import MPI
MPI.COMM_WORLD.Barrier()
if MPI.COMM_WORLD.rank == 1:
    MPI.COMM_WORLD.Abort(3)
time.sleep(10 ** 6)
"""

SLEEP = """
import time
from mpi4py import MPI
MPI.COMM_WORLD.Barrier()
if MPI.COMM_WORLD.rank == 0:
    print("ready", flush=True)
time.sleep(10 ** 6)
"""

LIBRARY = {"mpich": "MPICH Version:", "openmpi": "Open MPI"}


def test_every_rank_is_in_one_world_of_the_launchers_library(mpi: Mpi, ranks: int, tmp_path: Path) -> None:
    done = run(mpi, ranks, ["-c", HELLO], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{rank} of {ranks}: {LIBRARY[mpi.name]}" for rank in range(ranks)]


def test_an_aborting_rank_ends_the_job_with_its_code(mpi: Mpi, ranks: int, tmp_path: Path) -> None:
    done = run(mpi, ranks, ["-c", ABORT_RANK_1], cwd=tmp_path)  # also holds: none is left
    assert done.returncode == 3, done.stderr  # what the rank printed last may be lost: MPICH, about 1 of 100


def test_a_hang_fails_with_what_was_printed_and_where_the_ranks_are(mpi: Mpi, tmp_path: Path) -> None:
    for seconds in (5, 20, 80, 320):  # until the ranks had begun
        with pytest.raises(AssertionError) as caught:
            run(mpi, 2, ["-c", SLEEP], cwd=tmp_path, timeout=seconds)
        if "--- stdout\nready\n" in str(caught.value):
            break
    assert re.search(rf"(?s)still running after {seconds} s.*ready.*most recent call first", str(caught.value))


@pytest.mark.parametrize(("rank", "printed"), [("0", 1), ("1", 0)])
def test_without_an_mpi_library_one_rank_says_what_to_do(rank: str, printed: int, tmp_path: Path) -> None:
    environment = os.environ | {"MPI4PY_LIBMPI": "/no/libmpi.so", "PMI_RANK": rank, "PMI_SIZE": "2"}
    command = [sys.executable, "-m", "hpcnas", "--run", str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == printed and done.stderr.count("export MPI4PY_LIBMPI=") == printed
    assert done.stderr.count("/no/libmpi.so: cannot open shared object file") == printed


def test_nothing_outlives_a_killed_launcher(mpi: Mpi, tmp_path: Path) -> None:
    with start(mpi, 2, ["-c", SLEEP], cwd=tmp_path) as job:
        assert job.stdout is not None and job.stdout.readline() == "ready\n"
        assert len(job.processes()) >= 3
        job.kill()
    assert job.processes() == []
