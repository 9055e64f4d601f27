"""The ranks of the job, and how they talk: over MPI, or one rank alone.

    connect ─► MpiWorld | AloneWorld ── controller(), worker() ──► ends of the transport
                     └─ broadcast, gather, send, next, finish, abort

The only file that imports mpi4py, and only when `connect` is called. Receiving sleeps between polls, in growing steps,
so that a waiting rank leaves its core to those that compute. Knows what no message means.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpcnas.errors import Error
from hpcnas.job.clocks import Attentive
from hpcnas.messages import Died, FromWorker, ToWorker

_SHORTEST, _LONGEST = 0.00005, 0.02  # seconds between polls: quick while messages flow, cheap while they do not
FAREWELL = 30.0  # seconds that rank 0 waits, at the end, for another rank to be done, after the last one was
_LOOK = 0.5  # seconds between two looks at what `hears` has to say
_LAST_WORD = 600.0  # seconds that a rank waits for rank 0 to conclude the job
_TAG = 1


class LaunchError(Error):
    """The launcher and the MPI library do not belong together, or there are too few ranks: one line."""


class RanksMissing(Exception):
    """Ranks do not come to the end of the job, so that MPI cannot be finalised: one line."""

    def __init__(self, ranks: list[int]) -> None:
        which = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"
        super().__init__(f"{which} did not answer at the end of the job (stopped, or cut off?): ending all ranks")


class _Done:
    """To rank 0: this rank has nothing more to say."""


def _poll(ready: Callable[[], bool], timeout: float, expected: float = 0.0) -> bool:
    """Whether `ready` became true within `timeout` seconds; sleeps between looks, at first for a small part of the time
    that the waiting is expected to take."""
    deadline, pause = time.monotonic() + timeout, min(max(_SHORTEST, expected / 16), _LONGEST)
    while not ready() and not ready():  # a first look makes MPI fetch what a second one sees
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST)
    return True


Hears = Callable[[], object]
"""What a rank calls again and again while it waits for others in `broadcast` and `gather`; it may raise, which then
ends its waiting, and after which the job can only end."""


def _nothing() -> None:
    pass


class MpiWorld:
    """All ranks of the job. Rank 0 is the controller; each method is called from one thread only.

    An MPI that can go on without a dead rank (Open MPI 5 under `mpirun --with-ft ulfm`) says so by an error, which
    rank 0 turns into a message; every other MPI ends the job.
    """

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        self._comm = mpi.COMM_WORLD.Dup()
        self._unfinished: list[Any] = []
        self._waited = 0.0  # seconds until the last message came: the next may take as long
        self._many = 64  # unfinished requests at which those that are done are let go
        self._dead: set[int] = set()
        self._deaths: deque[int] = deque()  # not yet reported
        self._finished: set[int] = set()  # ranks that are done, on rank 0
        self.waits = False  # whether a thread of this rank may be waiting for others, which nothing but its end stops
        self.hears: Hears = _nothing
        self.rank: int = self._comm.Get_rank()
        self._sources: list[int] = [mpi.ANY_SOURCE if self.rank == 0 else 0]  # whom a message may come from
        self.size: int = self._comm.Get_size()
        self.library: str = " ".join(mpi.Get_library_version().split("\n")[0].strip("\0").split())

    # Not MPI's own collectives: a rank that waits in those keeps its core busy, and hears nothing.
    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.rank > 0:
            return self._wait()[1]
        for rank in range(1, self.size):
            self.send(rank, value)
        return value

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in rank order, on every rank."""
        values = {0: value}
        if self.rank > 0:
            self.send(0, value)
        else:
            values |= dict(self._wait() for _ in range(1, self.size))
        gathered: list[Any] = self.broadcast([values[rank] for rank in sorted(values)])
        return gathered

    def _wait(self) -> tuple[int, Any]:
        while (message := self.next(_LOOK)) is None:
            self.hears()
        return message

    def finalise(self) -> None:
        """Leaves MPI, with all other ranks; no other method may follow."""
        self._mpi.Finalize()

    def abort(self, exit_code: int) -> None:
        """Ends every rank of the job at once."""
        self._comm.Abort(exit_code)

    def controller(self) -> MpiControllerEnd:
        """The controller's end, on rank 0."""
        return MpiControllerEnd(self)

    def worker(self) -> MpiWorkerEnd:
        """This rank's end, on rank 1 and up."""
        return MpiWorkerEnd(self)

    def send(self, rank: int, message: object) -> None:
        """Sends without waiting for the receiver."""
        if len(self._unfinished) >= self._many:
            self._unfinished = [request for request in self._unfinished if not self._done(request)]
            self._many = 2 * len(self._unfinished) + 64
        if rank not in self._dead:
            try:
                self._unfinished.append(self._comm.isend(message, dest=rank, tag=_TAG))
            except self._mpi.Exception as error:
                self._note_deaths(error)

    def _done(self, request: Any) -> bool:
        """Whether a message has left, or never will."""
        try:
            return bool(request.Test())
        except self._mpi.Exception as error:
            self._note_deaths(error)
            return True

    def next(self, timeout: float) -> tuple[int, Any] | None:
        """The next message, or the news of a death, with its sender; None if there is none within `timeout` seconds.

        What the dead have said goes before the news, as far as it is here.
        """
        status = self._mpi.Status()
        began = time.monotonic()
        if not _poll(lambda: self._probe(status) or bool(self._deaths), timeout, self._waited):
            return None
        if timeout > 0:
            self._waited = time.monotonic() - began
        if self._deaths and not self._probe(status):
            return self._deaths.popleft(), Died()
        sender = status.Get_source()
        try:
            message = self._comm.recv(source=sender, tag=_TAG)
        except self._mpi.Exception as error:  # it died while its message was under way, which may show for ever
            self._note_deaths(error)
            self._sources = [rank for rank in range(1, self.size) if rank not in self._dead]
            return self.next(0.0)
        if not isinstance(message, _Done):
            return sender, message
        self._finished.add(sender)
        return self.next(timeout) if math.isinf(timeout) else None

    def _probe(self, status: Any) -> bool:
        """Whether a message is there; `status` then tells its sender."""
        try:
            return any(self._comm.Iprobe(source=source, tag=_TAG, status=status) for source in self._sources)
        except self._mpi.Exception as error:
            self._note_deaths(error)
            return False

    def _note_deaths(self, error: Exception) -> None:
        """Notes the ranks that have died, on rank 0; raises the error if it is about anything else."""
        failed = [getattr(self._mpi, name, None) for name in ("ERR_PROC_FAILED", "ERR_PROC_FAILED_PENDING")]
        if self.rank > 0 or error.Get_error_class() not in failed:  # type: ignore[attr-defined]
            raise error
        self._comm.Ack_failed()
        group = self._comm.Get_failed()
        ranks = self._mpi.Group.Translate_ranks(group, list(range(group.Get_size())), self._comm.Get_group())
        self._deaths.extend(rank for rank in ranks if rank not in self._dead)
        self._dead.update(ranks)
        self._sources = [source for source in self._sources if source not in self._dead]

    def finish(self) -> bool:
        """The last word, called by every rank: waits until everything sent has left. Whether all ranks are there to
        finalise MPI together, which rank 0 alone can say. Raises RanksMissing on rank 0."""
        if self.rank > 0:
            self.send(0, _Done())
            self._let_all_leave()
            clock, word = Attentive(1.0), None
            while not isinstance(word, bool) and clock() < _LAST_WORD:  # what else comes was broken off
                _, word = self.next(0.5) or (0, None)
            return word is True
        self._await_all()
        all_there = not self._dead
        for rank in range(1, self.size):
            self.send(rank, all_there)
        self._let_all_leave()
        return all_there

    def _await_all(self) -> None:
        """On rank 0: returns when every rank that lives is done. Raises RanksMissing where no more come to that."""
        clock, others = Attentive(1.0), set(range(1, self.size))
        since, missing = clock(), others - self._finished - self._dead
        while missing and clock() - since < FAREWELL:
            self.next(0.5)  # what else comes is too late
            left = others - self._finished - self._dead
            if left != missing:
                since, missing = clock(), left
        if missing:
            raise RanksMissing(sorted(missing))

    def _let_all_leave(self) -> None:
        _poll(lambda: all(self._done(request) for request in self._unfinished), math.inf)


@dataclass(frozen=True)
class MpiControllerEnd:
    """ControllerEnd over MPI."""

    world: MpiWorld

    def send(self, worker: int, message: ToWorker) -> None:
        self.world.send(worker, message)

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        arrived: list[tuple[int, FromWorker]] = []
        while (message := self.world.next(0.0 if arrived else timeout)) is not None:
            arrived.append(message)
        return arrived


@dataclass(frozen=True)
class MpiWorkerEnd:
    """WorkerEnd over MPI."""

    world: MpiWorld

    def send(self, message: FromWorker) -> None:
        self.world.send(0, message)

    def receive(self, timeout: float) -> ToWorker | None:
        message = self.world.next(timeout)
        return None if message is None else message[1]


class AloneWorld:
    """A job of one rank, without MPI: the same calls, and no other rank."""

    rank, size, library = 0, 1, "none"
    waits = False

    def __init__(self) -> None:
        self.hears: Hears = _nothing

    def broadcast(self, value: Any) -> Any:
        """The value itself."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """The value alone."""
        return [value]

    def finalise(self) -> None:
        """There is nothing to leave."""

    def abort(self, exit_code: int) -> None:
        """Ends the process at once."""
        os._exit(exit_code)

    def finish(self) -> bool:
        """Nothing is under way, and all ranks are there."""
        return True


World = MpiWorld | AloneWorld

_LAUNCHED = (  # set by Hydra and its kin, PMIx and Open MPI, MVAPICH, Cray
    *("PMI_RANK", "PMI_SIZE", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "HYDRA_CONTROL_FD"),
    *("MPI_LOCALRANKID", "MV2_COMM_WORLD_RANK", "PALS_RANKID"),
)


def connect() -> World:
    """The job that this process was started in: MPI's under a launcher, else one of a single rank.

    Raises LaunchError where there is no MPI library, or where the launcher started more ranks than it sees: the two are
    not of one kind.
    """
    if not _under_launcher():
        return AloneWorld()
    import mpi4py

    mpi4py.rc.recv_mprobe = False  # matched probes fail on some networks, and one thread a rank needs none
    mpi4py.rc.thread_level = "funneled"
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # the library that it was not built with, but looks for
        raise LaunchError(
            f"mpi4py: {': '.join(str(error).splitlines()[:2])}; load the module of the MPI that this launcher belongs "
            "to, or name its library: export MPI4PY_LIBMPI=/path/to/libmpi.so"
        ) from None

    world = MpiWorld(MPI)
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"):
        announced = os.environ.get(name, "")
        if announced.isdigit() and int(announced) != world.size:
            raise LaunchError(
                f"the launcher started {announced} ranks ({name}), but the MPI library ({world.library}) sees "
                f"{world.size}: mpirun and the library that mpi4py loads must be of one MPI"
            )
    return world


_SRUNS = frozenset({"PMI_RANK", "PMI_SIZE", "PMIX_RANK"})  # set by srun, too, for whatever it starts


def _under_launcher() -> bool:
    """Whether an MPI launcher has started this process, and not merely the shell that it was started from: in one that
    `srun --pty` has made, there is no other process that MPI could find."""
    found = {name for name in _LAUNCHED if name in os.environ}
    if found - _SRUNS:
        return True
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    several = any(number.isdecimal() and int(number) > 1 for number in (tasks, os.environ.get("PMI_SIZE", "")))
    if several:
        return not _in_a_shell()
    return bool(found) and not tasks.isdecimal()


def _in_a_shell() -> bool:
    """Whether this is a terminal that srun has made for the first of its tasks, and that task is not this process."""
    environment = os.environ
    if "SLURM_PTY_PORT" not in environment or environment.get("SLURM_TASK_PID") == str(os.getpid()):
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:  # started by an srun from within such a shell
        return False
    return True
