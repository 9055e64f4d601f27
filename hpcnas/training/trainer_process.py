"""The worker's side of a training: starts the trainer child, feeds it, watches it and ends it (D4).

The child holds torch, the device and the data, and is kept for many evaluations. Whatever happens to it costs its own
evaluation: the rank goes on with a new child. Nothing here imports torch, and no call waits longer than it was told to.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.job.clocks import Attentive
from hpcnas.job.devices import Binding, device_variables
from hpcnas.job.signals import signal_name
from hpcnas.messages import Evaluation, Failure, FailureKind, Outcome, Stopped, Task
from hpcnas.training.evaluator import EvaluatorRefused, Loaded
from hpcnas.training.interpreter import python
from hpcnas.training.pipe import (
    COORDINATED,
    STACK_SIGNAL,
    Assignment,
    DeviceMemory,
    FromChild,
    Remark,
    Save,
    Saved,
    Unusable,
)
from hpcnas.training.starts import Starts

TRAINER = "from hpcnas.training import trainer; sys.exit(trainer.main())"

_LAUNCHER_PREFIXES = ("OMPI_", "PMI", "PMIX_", "PRTE_", "HYDRA_", "MPI_")  # the child is no rank
_LAST_WORDS = 1500  # bytes of a child's output that go into its failure
_LOADING_PATIENCE = 600.0  # seconds without a word while a child imports torch and reads the data, at the least
_LONGEST_LOOK = 1.0  # seconds that pass between two looks at a child, at the most: the rest this process stood still
_LONGEST_WAIT = 1e6  # seconds; the system takes no more at a time
_DYING_PATIENCE = 5.0  # seconds; a process that hangs in a driver cannot even be killed


class TrainerEvaluator:
    """Evaluator that trains networks in a child process, started at once."""

    def __init__(
        self,
        config: SearchConfig,
        binding: Binding,
        command: Sequence[str] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._binding = binding
        self._command = python(TRAINER) if command is None else command
        self._now = now
        limits = [config.run.hang_timeout, config.run.evaluation_timeout or math.inf]
        self._patience_clock = Attentive(min(_LONGEST_LOOK, *(limit / 4 for limit in limits)), now)
        self._task: Task | None = None  # running, or waiting for its child
        self._warnings: list[str] = []
        self._known: DataFacts | None = None  # what the first child that was ready had read
        self._fast = False  # whether a child has trained in the fastest way
        self.device_memory: DeviceMemory | None = None  # that the last evaluation took, of a GPU
        self._starts = Starts(now)
        self._begin_child()

    def _begin_child(self) -> None:
        """Starts a child; there is none where that fails. Raises EvaluatorRefused after too many failures."""
        self._ready: Loaded | None = None
        self._heard = self._patience_clock()
        self._child: _Child | None = None
        try:
            self._child = _Child(self._command, self._config, self._binding)
        except OSError as error:  # too many processes, too little memory, no temporary folder
            self._count_failed_start(f"the trainer's process cannot be started: {error}")

    def _count_failed_start(self, reason: str) -> None:
        """Counts a failed start; another follows after a pause. Raises EvaluatorRefused after too many."""
        self.close()
        self._child, last = None, Failure(FailureKind.CRASH, reason).summary
        if not self._starts.failed():
            raise EvaluatorRefused(f"{self._starts.in_vain} starts in vain; the last one: {last}", passes=True)
        self._warnings.append(f"starting a trainer is tried again; {last}")

    def ready(self, timeout: float) -> Loaded | None:
        if self._ready is None:
            outcome = self._listen(timeout)
            assert outcome is None, "an outcome before the first task"
        return self._ready

    def start(self, task: Task) -> None:
        if self._child is not None and not self._child.alive:
            self._child.close()
            self._begin_child()
        self._task = task
        self._started = self._heard = self._patience_clock()
        if self._child is not None and self._ready is not None:
            self._child.send(task)

    def poll(self, timeout: float) -> Outcome | None:
        outcome = self._listen(timeout)
        if outcome is not None:
            self._task = None
        return outcome

    def _listen(self, timeout: float) -> Outcome | None:
        """Handles the child's messages for `timeout` seconds, or until an outcome or the child's readiness."""
        end = self._now() + timeout
        while True:
            if self._child is None:
                if (pause := self._starts.pause) > 0:
                    time.sleep(min(pause, timeout))
                    return None
                self._begin_child()
                continue
            try:
                message = self._child.receive(max(0.0, end - self._now()))
            except EOFError:
                how = self._child.how_it_ended()
                if self._ready is None:
                    self._count_failed_start(how)
                    continue
                return self._give_up(self._child, self._child.kind_of_death(), how)
            if message is None:
                return self._check_patience(self._child)
            self._heard = self._patience_clock()
            match message:
                case Evaluation() | Stopped():
                    return message
                case Failure():  # the next evaluation gets a child of its own: this one may be broken for good
                    return self._give_up(self._child, message.kind, message.message)
                case Unusable():
                    if message.passes:
                        self._count_failed_start(message.reason)
                    else:
                        self._refuse_start(message.reason, message.of_data)
                case Remark():
                    self._warnings.append(message.text)
                case DeviceMemory():
                    self.device_memory = message
                case Loaded():
                    if self._known not in (None, message.facts):
                        self._refuse_start(f"expected the data of before, {self._known}, but found {message.facts}")
                        continue
                    if self._fast and message.slower:  # what a run tells of its workers was said once, and must hold
                        self._count_failed_start(f"it would train the plain network: {message.slower}")
                        continue
                    self._ready, self._known, self._fast = message, message.facts, not message.slower
                    self._starts.succeeded()
                    if self._task is None:
                        return None
                    self._started = self._heard
                    self._child.send(self._task)

    def _refuse_start(self, reason: str, of_data: bool = False) -> None:
        """A child cannot be used. If none has worked before, a person must remove the cause: raises EvaluatorRefused.
        Else another start may succeed, and follows."""
        if self._known is not None:
            self._count_failed_start(reason)
        else:
            self.close()
            raise EvaluatorRefused(reason, of_data=of_data)

    def warnings(self) -> list[str]:
        """The child's remarks since the last call."""
        found, self._warnings = self._warnings, []
        return found

    def _check_patience(self, child: _Child) -> Failure | None:
        """The failure of a child that is silent, or busy, for too long while this process could have heard it. Raises
        EvaluatorRefused where it never was ready: starting has then taken long enough."""
        run, now = self._config.run, self._patience_clock()
        waits = self._task is not None or self._ready is None
        patience = run.hang_timeout if self._ready is not None else max(run.hang_timeout, _LOADING_PATIENCE)
        if waits and now - self._heard > patience:
            silent = f"no sign of life for {patience:g} s (--hang-timeout); where it was:\n{child.stacks()}"
            failure = self._give_up(child, FailureKind.HANG, silent)
            if self._ready is None:
                raise EvaluatorRefused(failure.summary, passes=True)
            return failure
        if self._task is not None and self._ready is not None and run.evaluation_timeout is not None:
            if now - self._started > run.evaluation_timeout:
                message = f"not done after {run.evaluation_timeout:g} s (--evaluation-timeout)"
                return self._give_up(child, FailureKind.OVERRUN, message)
        return None

    @staticmethod
    def _give_up(child: _Child, kind: FailureKind, message: str) -> Failure:
        """The failure that ends a child."""
        child.close()
        return Failure(kind, message)

    def save(self, timeout: float) -> None:
        if self._task is None or self._ready is None or self._child is None or not self._child.alive:
            return
        end = self._now() + timeout
        self._child.send(Save())
        with contextlib.suppress(EOFError):
            while (left := end - self._now()) > 0:
                message = self._child.receive(left)
                if isinstance(message, Remark):
                    self._warnings.append(message.text)
                elif isinstance(message, Saved | Outcome):
                    return

    def memory_peak(self) -> int:
        """The most bytes of the host's memory that the child has taken so far; 0 where the system does not say."""
        return 0 if self._child is None else self._child.memory_peak()

    def close(self) -> None:
        if self._child is not None:
            self._child.close()


class _Child:
    """One trainer process, from its start to its end; it reads its assignment first. Raises OSError where there is no
    room for it."""

    def __init__(self, command: Sequence[str], config: SearchConfig, binding: Binding) -> None:
        self._kills_before = _out_of_memory_kills()
        with contextlib.ExitStack() as opened:  # closed where something fails
            self._output: IO[bytes] = opened.enter_context(tempfile.TemporaryFile())
            ours, theirs = socket.socketpair()
            self._pipe = opened.enter_context(Connection(ours.detach()))
            with theirs:
                self._process = self._start(command, binding, theirs.fileno())
            opened.pop_all()
        self.send(Assignment(config, binding.threads, binding.gpu is not None, os.getpid(), binding.sharing))

    def _start(self, command: Sequence[str], binding: Binding, pipe: int) -> subprocess.Popen[bytes]:
        # Blocked signals stay blocked in the child until it ignores them: one sent to the whole job must not end it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, COORDINATED)
        try:
            return subprocess.Popen(
                [*command, str(pipe)],
                pass_fds=(pipe,),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,
                env=_child_environment(binding),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

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

    def memory_peak(self) -> int:
        """Bytes; 0 where the system does not say."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return 0

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
            how = f"was ended by {signal_name(-code)}"
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
        **device_variables(binding.gpu),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        # Large tensors stay in the allocator instead of going back to the system: 0.64 to 0.76 of the wall time.
        "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    }
    return environment
