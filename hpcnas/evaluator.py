"""The worker's side of a training: starts the trainer child, feeds it, watches it and ends it (D4).

The child holds torch, the device and the data, and is kept for many evaluations. Whatever happens to it costs its own
evaluation: the rank goes on with a new child. Nothing here imports torch.
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
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Protocol

from hpcnas.config import Config
from hpcnas.jobenv import Binding
from hpcnas.messages import DataFacts, Evaluation, Failure, FailureKind, Outcome, Task

_LAUNCHER_PREFIXES = ("OMPI_", "PMI", "PMIX_", "PRTE_", "HYDRA_", "MPI_")  # the child is no rank
_LAST_WORDS = 1500  # bytes of a dead child's output that go into its failure


class EvaluatorRefused(Exception):
    """Evaluations cannot begin for a reason that a person must mend: one line."""


class Evaluator(Protocol):
    """What a worker evaluates tasks with, one at a time."""

    facts: DataFacts
    software: Mapping[str, str]

    def start(self, task: Task) -> None:
        """Begins an evaluation; the one before must have ended."""
        ...

    def poll(self, timeout: float) -> Outcome | None:
        """The outcome of what was started; None if it is still running after `timeout` seconds."""
        ...

    def close(self) -> None:
        """Ends whatever runs, at once."""
        ...


# ── what crosses the pipe to the child and back, beside Task and Outcome ────────────────────────────────────────────
@dataclass(frozen=True)
class Assignment:
    """The first message to a child: what every later task has in common."""

    config: Config
    threads: int
    cuda: bool
    parent: int  # process id of the worker: the child ends when it is gone


@dataclass(frozen=True)
class Loaded:
    """The child has its data and its device."""

    facts: DataFacts
    software: Mapping[str, str]


@dataclass(frozen=True)
class Unusable:
    """The child cannot start: one line for a person."""

    reason: str


@dataclass(frozen=True)
class Beat:
    """A sign of life."""


class TrainerEvaluator:
    """Evaluator that trains networks in a child process. Raises EvaluatorRefused where that cannot begin."""

    def __init__(self, config: Config, binding: Binding) -> None:
        self._config = config
        self._binding = binding
        self._child = _Child(config, binding)
        self.facts, self.software = self._child.facts, self._child.software

    def start(self, task: Task) -> None:
        if not self._child.alive:
            self._child.close()
            self._child = _Child(self._config, self._binding)
        self._child.send(task)

    def poll(self, timeout: float) -> Outcome | None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                message = self._child.receive(max(0.0, deadline - time.monotonic()))
            except EOFError:
                failure = Failure(FailureKind.CRASH, self._child.last_words())
                self._child.close()
                return failure
            if message is None:
                return None
            if isinstance(message, Evaluation | Failure):
                return message

    def close(self) -> None:
        self._child.close()


class _Child:
    """One trainer process, from its start to its end. Raises EvaluatorRefused if it does not get ready."""

    def __init__(self, config: Config, binding: Binding) -> None:
        ours, theirs = _duplex_pipe()
        self._output: IO[bytes] = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hpcnas.trainer", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,
                env=_child_environment(binding),
            )
        finally:
            theirs.close()
        self._pipe = ours
        try:
            self.send(Assignment(config, binding.threads, binding.gpu is not None, os.getpid()))
            first = None
            while first is None:
                first = self.receive(timeout=10.0)
        except EOFError:
            reason = self.last_words()
            self.close()
            raise EvaluatorRefused(f"the trainer process did not start: {reason}") from None
        except BaseException:
            self.close()
            raise
        if isinstance(first, Unusable):
            self.close()
            raise EvaluatorRefused(first.reason)
        assert isinstance(first, Loaded), first
        self.facts, self.software = first.facts, first.software

    @property
    def alive(self) -> bool:
        return not self._pipe.closed and self._process.poll() is None

    def send(self, message: object) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its death shows at the next receive
            self._pipe.send(message)

    def receive(self, timeout: float) -> Outcome | Loaded | Unusable | Beat | None:
        """The next message; None after `timeout` seconds. Raises EOFError when the child is gone."""
        try:
            if not self._pipe.poll(timeout):
                return None
            message: Outcome | Loaded | Unusable | Beat = self._pipe.recv()
            return message
        except OSError:  # reset by a dying child
            raise EOFError from None

    def last_words(self) -> str:
        """How the child ended and what it printed last; waits for its end."""
        try:
            code = self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            code = None
        if code is None:
            how = "closed its pipe but did not end"
        elif code < 0:
            how = f"ended by signal {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code}"
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _LAST_WORDS))
        printed = self._output.read().decode(errors="replace").strip()
        return f"the trainer {how}" + (f"; its last words:\n{printed}" if printed else "; it printed nothing")

    def close(self) -> None:
        """Ends the child and everything it started, and lets go of its pipe."""
        self._pipe.close()
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()


def _duplex_pipe() -> tuple[Connection, Connection]:
    ours, theirs = socket.socketpair()
    return Connection(ours.detach()), Connection(theirs.detach())


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
