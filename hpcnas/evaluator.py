"""The worker's side of a training: starts the trainer child, feeds it, watches it and ends it (D4).

The child holds torch, the device and the data, and is kept for many evaluations. Whatever happens to it costs its own
evaluation: the rank goes on with a new child. Nothing here imports torch, and no call waits longer than it was told to.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from hpcnas.config import Config
from hpcnas.evaluation import EvaluatorRefused, Loaded
from hpcnas.jobenv import Binding
from hpcnas.messages import Evaluation, Failure, FailureKind, Outcome, Task

TRAINER = (sys.executable, "-m", "hpcnas.trainer")
STACK_SIGNAL = signal.SIGUSR2  # makes a child print where its threads are
COORDINATED = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)  # signals that the ranks act upon, never a child

_LAUNCHER_PREFIXES = ("OMPI_", "PMI", "PMIX_", "PRTE_", "HYDRA_", "MPI_")  # the child is no rank
_LAST_WORDS = 1500  # bytes of a child's output that go into its failure
_LOADING_PATIENCE = 600.0  # seconds without a word while a child imports torch and reads the data, at the least
_LONGEST_WAIT = 1e6  # seconds; the system takes no more at a time
_DYING_PATIENCE = 5.0  # seconds; a process that hangs in a driver cannot even be killed


# ── what crosses the pipe to the child and back, beside Task and Outcome ────────────────────────────────────────────
@dataclass(frozen=True)
class Assignment:
    """The first message to a child: what every later task has in common."""

    config: Config
    threads: int
    cuda: bool
    parent: int  # process id of the worker: the child ends when it is gone


@dataclass(frozen=True)
class Unusable:
    """The child cannot start: one line for a person."""

    reason: str


@dataclass(frozen=True)
class Beat:
    """A sign of life."""


@dataclass(frozen=True)
class Save:
    """To the child: write a checkpoint of what runs, answer Saved, and end."""


@dataclass(frozen=True)
class Saved:
    """The child has nothing unsaved."""


@dataclass(frozen=True)
class Remark:
    """Something that the child lives with and a person should know: one line."""

    text: str


FromChild = Outcome | Loaded | Unusable | Beat | Saved | Remark


class TrainerEvaluator:
    """Evaluator that trains networks in a child process, started at once."""

    def __init__(
        self,
        config: Config,
        binding: Binding,
        command: tuple[str, ...] = TRAINER,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._binding = binding
        self._command = command
        self._now = now
        self._task: Task | None = None  # running, or waiting for its child
        self._warnings: list[str] = []
        self._child = self._new_child()

    def _new_child(self) -> _Child:
        self._ready: Loaded | None = None
        self._heard = self._now()
        return _Child(self._command, self._config, self._binding)

    def ready(self, timeout: float) -> Loaded | None:
        failure = None if self._ready is not None else self._listen(timeout)
        if failure is not None:
            self.close()
            assert isinstance(failure, Failure), "an evaluation before the first task"
            raise EvaluatorRefused(failure.message)
        return self._ready

    def start(self, task: Task) -> None:
        if not self._child.alive:
            self._child.close()
            self._child = self._new_child()
        self._task = task
        self._started = self._heard = self._now()
        if self._ready is not None:
            self._child.send(task)

    def poll(self, timeout: float) -> Outcome | None:
        outcome = self._listen(timeout)
        if outcome is not None:
            self._task = None
        return outcome

    def _listen(self, timeout: float) -> Outcome | None:
        """Takes the child's messages for `timeout` seconds or to the end of what it does."""
        end = self._now() + timeout
        while True:
            try:
                message = self._child.receive(max(0.0, end - self._now()))
            except EOFError:
                return self._given_up(self._child.kind_of_death(), self._child.how_it_ended())
            if message is None:
                return self._overdue()
            self._heard = self._now()
            match message:
                case Evaluation():
                    return message
                case Failure():  # the next evaluation gets a child of its own: this one may be broken for good
                    return self._given_up(message.kind, message.message)
                case Unusable():
                    return self._given_up(FailureKind.ERROR, message.reason)
                case Remark():
                    self._warnings.append(message.text)
                case Loaded():
                    self._ready = message
                    if self._task is None:
                        return None
                    self._started = self._now()
                    self._child.send(self._task)

    def warnings(self) -> list[str]:
        """What the child has said since the last look that it can live with."""
        found, self._warnings = self._warnings, []
        return found

    def _overdue(self) -> Failure | None:
        """The failure of a child that is silent, or busy, for too long."""
        run, now = self._config.run, self._now()
        waits = self._task is not None or self._ready is None
        patience = run.hang_timeout if self._ready is not None else max(run.hang_timeout, _LOADING_PATIENCE)
        if waits and now - self._heard > patience:
            silent = f"no sign of life for {patience:g} s (--hang-timeout); where it was:"
            return self._given_up(FailureKind.HANG, f"{silent}\n{self._child.stacks()}")
        if self._task is not None and self._ready is not None and run.evaluation_timeout is not None:
            if now - self._started > run.evaluation_timeout:
                message = f"not done after {run.evaluation_timeout:g} s (--evaluation-timeout)"
                return self._given_up(FailureKind.OVERRUN, message)
        return None

    def _given_up(self, kind: FailureKind, message: str) -> Failure:
        """The failure that ends a child."""
        self._child.close()
        return Failure(kind, message)

    def save(self, timeout: float) -> None:
        if self._task is None or self._ready is None or not self._child.alive:
            return
        end = self._now() + timeout
        self._child.send(Save())
        with contextlib.suppress(EOFError):
            while (left := end - self._now()) > 0:
                message = self._child.receive(left)
                if isinstance(message, Remark):
                    self._warnings.append(message.text)
                elif isinstance(message, Saved | Evaluation | Failure):
                    return

    def close(self) -> None:
        self._child.close()


class _Child:
    """One trainer process, from its start to its end; it reads its assignment first."""

    def __init__(self, command: tuple[str, ...], config: Config, binding: Binding) -> None:
        ours, theirs = socket.socketpair()
        self._pipe = Connection(ours.detach())
        self._output: IO[bytes] = tempfile.TemporaryFile()
        self._kills_before = _out_of_memory_kills()
        # Blocked signals stay blocked in the child until it ignores them: one sent to the whole job must not end it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, COORDINATED)
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,
                env=_child_environment(binding),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
        self.send(Assignment(config, binding.threads, binding.gpu is not None, os.getpid()))

    @property
    def alive(self) -> bool:
        return not self._pipe.closed and self._process.poll() is None

    def send(self, message: object) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its death shows at the next receive
            self._pipe.send(message)

    def receive(self, timeout: float) -> FromChild | None:
        """The next message; None after `timeout` seconds. Raises EOFError when the child is gone."""
        try:
            if not self._pipe.poll(min(timeout, _LONGEST_WAIT)):
                return None
            message: FromChild = self._pipe.recv()
            return message
        except OSError:  # reset by a dying child
            raise EOFError from None

    def kind_of_death(self) -> FailureKind:
        """Out of memory where the kernel's killer took it, which sends SIGKILL; else a crash. Waits for the end."""
        killed = self._wait() == -signal.SIGKILL
        return FailureKind.OOM if killed and _out_of_memory_kills() > self._kills_before else FailureKind.CRASH

    def how_it_ended(self) -> str:
        """The exit code or signal, and the last lines that the child printed."""
        code = self._wait()
        if code is None:
            how = "closed its pipe but did not end"
        elif code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code}"
        return f"the trainer {how}; its last words:\n{self._printed()}"

    def stacks(self) -> str:
        """Where the child's threads are, as far as it can still say."""
        size = self._output.seek(0, os.SEEK_END)
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(STACK_SIGNAL)
            _wait_until(lambda: self._output.seek(0, os.SEEK_END) > size or not self.alive, 0.5)
            time.sleep(0.05)  # for the rest of what it writes
        self._output.seek(size)
        return _text(self._output.read()[:_LAST_WORDS]) or self._printed()

    def _wait(self) -> int | None:
        try:
            return self._process.wait(timeout=_DYING_PATIENCE)
        except subprocess.TimeoutExpired:
            return None

    def _printed(self) -> str:
        """The end of what the child printed; of the stacks of a fatal error, which begin with the innermost call, the
        beginning."""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - 20 * _LAST_WORDS))
        printed = self._output.read()
        fatal = printed.rfind(b"Fatal Python error")
        words = printed[-_LAST_WORDS:] if fatal < 0 else printed[fatal : fatal + _LAST_WORDS]
        return _text(words) or "(it printed nothing)"

    def close(self) -> None:
        """Ends the child and everything it started, and lets go of its pipe."""
        if self._pipe.closed:
            return
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its group outlives it where it has left processes behind
        self._wait()
        self._output.close()


def _text(printed: bytes) -> str:
    return printed.decode(errors="replace").strip()


def _wait_until(condition: Callable[[], bool], timeout: float) -> None:
    end = time.monotonic() + timeout
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


def _out_of_memory_kills() -> int:
    """How many processes the kernel has killed for lack of memory; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _child_environment(binding: Binding) -> dict[str, str]:
    """This process's environment without the launcher's variables, and with the device and threads of the binding."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHER_PREFIXES)}
    threads = str(binding.threads)
    environment |= {
        "CUDA_VISIBLE_DEVICES": binding.gpu or "",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        # Large tensors stay in the allocator instead of going back to the system: 0.64 to 0.76 of the wall time.
        "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    }
    package = str(Path(__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, environment.get("PYTHONPATH"))))
    return environment
