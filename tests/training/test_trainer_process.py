"""The worker's side of a training: whatever its child does, each evaluation has an outcome and the next one a child."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import scripted_trainer
from child_imports import importing_tests
from patience import GUARD
from trainer_children import Make, await_end, children, done, failure, loaded, outcome, task
from warden import Child

from hpcnas.config import search as search_config
from hpcnas.job.devices import Binding
from hpcnas.messages import Failure, FailureKind
from hpcnas.training import starts, trainer_process
from hpcnas.training.evaluator import EvaluatorRefused, Loaded
from hpcnas.training.pipe import DeviceMemory
from hpcnas.training.trainer_process import TrainerEvaluator


# ── evaluations ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_it_is_ready_when_the_child_has_its_data(make: Make) -> None:
    one = make()
    assert loaded(one) == Loaded(scripted_trainer.FACTS, {"script": "1"})
    assert one.ready(0.0) is not None  # and stays so


def test_one_child_makes_many_evaluations(make: Make) -> None:
    one = make()
    loaded(one)
    (child,) = children()
    assert [outcome(one, task(individual)) for individual in (3, 1, 2)] == [done(3), done(1), done(2)]
    assert children() == [child]


def test_a_task_may_come_before_the_child_is_ready(make: Make) -> None:
    assert outcome(make(), task(5)) == done(5)


def test_polling_waits_no_longer_than_it_was_told_to(make: Make) -> None:
    one = make({"7": "beat"})
    one.start(task(7))
    assert one.poll(0.0) is None and one.poll(0.2) is None


def test_what_a_child_lives_with_is_kept_until_it_is_asked_for(make: Make) -> None:
    one = make({"4": "remark"})
    assert [outcome(one, task(individual)) for individual in (4, 5)] == [done(4), done(5)]
    assert one.warnings() == ["individual 4 is odd"]
    assert one.warnings() == []


def test_what_memory_of_a_gpu_an_evaluation_took_is_known_beside_it(make: Make) -> None:
    one = make({"4": "gpu"})
    assert outcome(one, task(3)) == done(3) and one.device_memory is None
    assert outcome(one, task(4)) == done(4) and one.device_memory == DeviceMemory(3 * 2**30, 16 * 2**30)


def test_what_a_child_prints_disturbs_nobody(make: Make) -> None:
    assert outcome(make({"1": "babble"}), task(1)) == done(1)


# ── failures ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("word", "run", "kind", "begin", "end"),
    [
        ("exit", {}, "CRASH", "the trainer ended with exit code 3; its last words:\n", "I am leaving"),
        ("segv", {}, "CRASH", "the trainer was ended by SIGSEGV; its last words:\nFatal Python error", "modules"),
        ("kill", {}, "CRASH", "the trainer was ended by SIGKILL; its last words:\n", "(it printed nothing)"),
        ("half", {}, "CRASH", "the trainer ended with exit code 5; its last words:\n", "(it printed nothing)"),
        ("error", {}, "ERROR", "Traceback (most recent call last):\n", "division by zero"),
        ("nan", {}, "NAN", "the loss was not finite", "by step 50 of 60"),
        ("oom", {}, "OOM", "Traceback", "MemoryError"),
        ("hang", {"hang_timeout": 3.0}, "HANG", "no sign of life for 3 s (--hang-timeout)", "<module>"),
        ("stop", {"hang_timeout": 3.0}, "HANG", "no sign of life for 3 s (--hang-timeout)", "(it printed nothing)"),
        ("beat", {"evaluation_timeout": 3.0}, "OVERRUN", "not done after 3 s (--evaluation-timeout)", ""),
    ],
)
def test_each_misfortune_is_a_failure_of_its_kind_and_the_child_is_replaced(
    make: Make, word: str, run: dict[str, float], kind: str, begin: str, end: str
) -> None:
    one = make({"1": word}, **run)
    loaded(one)
    before = children()
    found = failure(one, task(1))
    assert found.kind is FailureKind[kind]
    assert found.message.startswith(begin) and end in found.message.splitlines()[-1]
    assert children() == []
    assert outcome(one, task(2)) == done(2)
    assert children() != before and len(children()) == 1


def test_a_hang_tells_where_the_child_was(make: Make) -> None:
    message = failure(make({"1": "hang"}, hang_timeout=3.0), task(1)).message
    assert 'scripted_trainer.py", line' in message and "in misbehave" in message


def test_only_the_end_of_what_a_child_printed_is_kept(make: Make) -> None:
    code = "print('first'); print('x' * 10_000 + ' last')"
    with pytest.raises(EvaluatorRefused) as caught:
        loaded(make(command=(sys.executable, "-c", code)))
    assert str(caught.value).endswith("xxx last") and "first" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(("word", "kind"), [("kill", "OOM"), ("segv", "CRASH")])
def test_a_kill_by_the_kernel_for_lack_of_memory_is_no_crash(
    make: Make, monkeypatch: pytest.MonkeyPatch, word: str, kind: str
) -> None:
    kills = iter(range(100))  # the count of the kernel's kills grows
    monkeypatch.setattr(trainer_process, "_out_of_memory_kills", lambda: next(kills))
    assert failure(make({"1": word}), task(1)).kind is FailureKind[kind]


DEEP = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import scripted_trainer
from child_imports import importing_tests
def deeper(depth, word):
    return scripted_trainer_misbehave(word) if depth == 0 else deeper(depth - 1, word)
scripted_trainer_misbehave = scripted_trainer.misbehave
scripted_trainer.misbehave = lambda word: deeper(100, word)
scripted_trainer.main()
"""


@pytest.mark.parametrize(("word", "kind"), [("segv", "CRASH"), ("hang", "HANG")])
def test_the_innermost_calls_are_kept_of_a_deep_stack(make: Make, word: str, kind: str) -> None:
    command = (sys.executable, "-c", DEEP.format(tests=str(Path(__file__).parents[1])))
    found = failure(make({"1": word}, command, hang_timeout=3.0), task(1))
    assert found.kind is FailureKind[kind]
    assert "in misbehave" in found.message and "in deeper" in found.message and "<module>" not in found.message


def test_a_second_attempt_is_told_to_the_child(make: Make) -> None:
    one = make({"1": "exit done"})
    assert isinstance(outcome(one, task(1)), Failure)
    assert outcome(one, task(1, attempt=2)) == done(1)


def test_many_failures_in_a_row(make: Make) -> None:
    one = make({str(individual): word for individual, word in enumerate(("exit", "kill", "error", "segv", "oom"))})
    kinds = [failure(one, task(individual)).kind.name for individual in range(5)]
    assert kinds == ["CRASH", "CRASH", "ERROR", "CRASH", "OOM"]
    assert outcome(one, task(5)) == done(5)


def test_a_child_that_dies_between_two_tasks_costs_nothing(make: Make) -> None:
    one = make()
    loaded(one)
    (child,) = children()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a killed process dies thread by thread
    assert outcome(one, task(1)) == done(1)


def test_a_child_that_nobody_wants_anything_from_may_be_silent(make: Make) -> None:
    clock = [0.0]
    one = make(now=lambda: clock[0], hang_timeout=5.0)
    loaded(one)
    clock[0] = 10_000.0
    assert one.ready(0.0) is not None
    assert outcome(one, task(1)) == done(1)


def test_signs_of_life_are_counted_from_the_last_one(make: Make) -> None:
    clock = [0.0]
    one = make({"1": "slow"}, now=lambda: clock[0], hang_timeout=5.0)
    loaded(one)
    clock[0] = 100.0
    one.start(task(1))
    clock[0] = 104.9
    assert one.poll(0.0) is None
    assert outcome(one, task(1)) == done(1)


def test_an_evaluation_that_beats_for_ever_overruns_by_the_clock(make: Make) -> None:
    clock = [0.0]
    one = make({"1": "beat"}, now=lambda: clock[0], evaluation_timeout=1000.0, hang_timeout=1e6)
    loaded(one)
    clock[0] = 500.0
    one.start(task(1))
    for _ in range(999):
        clock[0] += 1.0
        assert one.poll(0.0) is None
    deadline = time.monotonic() + GUARD
    while (found := one.poll(0.0)) is None:  # beats come in between
        assert time.monotonic() < deadline
        clock[0] += 0.1
    assert clock[0] >= 1500.0
    assert found == Failure(FailureKind.OVERRUN, "not done after 1000 s (--evaluation-timeout)")


def test_time_in_which_the_job_stood_still_counts_for_no_timeout(make: Make) -> None:
    """Rank and child are stopped for hours: the rank sees a clock that has gone on, and a child as silent as before."""
    clock = [0.0]
    one = make({"1": "hang"}, now=lambda: clock[0], hang_timeout=10.0, evaluation_timeout=100.0)
    loaded(one)
    one.start(task(1))
    for _ in range(9):
        clock[0] += 3600.0
        assert one.poll(0.0) is None
    found = None
    for _ in range(2):  # of its own time, it has looked for ten seconds
        clock[0] += 1.0
        found = found or one.poll(0.0)
    assert isinstance(found, Failure) and found.kind is FailureKind.HANG


STOPPED = """
import os, signal, sys, threading, time
from hpcnas.config import search
from hpcnas.training.trainer_process import TrainerEvaluator
from hpcnas.job.devices import Binding
from trainer_children import awaited, done, loaded, task
from scripted_trainer import COMMAND
settings = search.build({"run": {"hang_timeout": 6.0, "evaluation_timeout": 6.0}})
one = TrainerEvaluator(settings, Binding(None, 1), COMMAND)
loaded(one)
one.start(task(1))
print("started", one._child._process.pid, flush=True)
print(awaited(one) == done(1), flush=True)
"""


def test_a_rank_and_its_child_may_be_stopped_for_longer_than_their_timeouts() -> None:
    environment = importing_tests({**os.environ, scripted_trainer.PLAN: json.dumps({"1": "slow"})})
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, env=environment) as rank:
        assert rank.stdout is not None
        child = int(rank.stdout.readline().split()[1])
        for number, wait in ((signal.SIGSTOP, 7.0), (signal.SIGCONT, 0.0)):
            for process in (rank.pid, child):
                os.kill(process, number)
            time.sleep(wait)  # longer than both
        assert rank.stdout.readline() == b"True\n"


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_saving_lets_the_child_end_by_itself(make: Make) -> None:
    one = make({"1": "beat"})
    loaded(one)
    one.start(task(1))
    (child,) = children()
    one.save(1e18)  # more than the system can be told to wait
    await_end([child])


def test_saving_gives_up_on_a_child_that_does_not_answer(make: Make) -> None:
    one = make({"1": "stop"})
    loaded(one)
    one.start(task(1))
    one.poll(0.2)
    one.save(0.2)
    assert len(children()) == 1
    one.close()
    assert children() == []


def test_saving_nothing_returns_at_once(make: Make) -> None:
    one = make({"loading": "hang"})
    one.save(1e9)  # still loading
    one = make()
    loaded(one)
    one.save(1e9)  # idle
    outcome(one, task(1))
    one.save(1e9)
    one.close()
    one.save(1e9)


@pytest.mark.parametrize("word", ["hang", "stop", "beat"])
def test_closing_ends_the_child_whatever_it_does(make: Make, word: str) -> None:
    one = make({"1": word})
    loaded(one)
    one.start(task(1))
    one.poll(0.2)
    one.close()
    one.close()
    assert children() == []


def test_what_a_dead_child_had_started_ends_too(make: Make) -> None:
    one = make({"1": "orphan"})
    loaded(one)
    session = children()[0].pid
    assert "exit code 4" in failure(one, task(1)).message
    await_end([process for process in psutil.process_iter() if session_of(process) == session])


def session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


# ── the child's surroundings ────────────────────────────────────────────────────────────────────────────────────────
def test_a_child_is_no_rank_and_knows_its_device_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "PRTE_X", "HYDRA_CONTROL_FD", "MPI_LOCALRANKID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    code = (
        "import os; print(sorted(name for name in os.environ if name.startswith(('PMI', 'OMPI', 'PRTE', 'HYDRA', 'MPI'"
        "))), *(os.environ[name] for name in ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS', 'SLURM_JOB_ID')), sep='|')"
    )
    monkeypatch.setattr(starts, "PAUSES", ())
    one = TrainerEvaluator(search_config.SearchConfig(), Binding("GPU-6f1c", 3), (sys.executable, "-c", code))
    with pytest.raises(EvaluatorRefused) as caught:
        loaded(one)
    assert str(caught.value).endswith("its last words: []|GPU-6f1c|3|77")


RANK = """
import sys, time
from hpcnas.config import search
from hpcnas.training.trainer_process import TrainerEvaluator
from hpcnas.job.devices import Binding
from trainer_children import loaded, task
from scripted_trainer import COMMAND
one = TrainerEvaluator(search.SearchConfig(), Binding(None, 1), COMMAND)
loaded(one)
one.start(task(1))
print("started", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("word", "number"),
    [
        *(("beat", signal.SIGKILL), ("hang", signal.SIGKILL), ("stop", signal.SIGKILL)),
        *(("beat", signal.SIGSEGV), ("stop", signal.SIGTERM)),
    ],
)
def test_no_child_outlives_its_rank(word: str, number: signal.Signals) -> None:
    environment = importing_tests({**os.environ, scripted_trainer.PLAN: json.dumps({"1": word})})
    with Child([sys.executable, "-c", RANK], stdout=subprocess.PIPE, env=environment) as rank:
        assert rank.stdout is not None and rank.stdout.readline() == b"started\n"
        (child,) = psutil.Process(rank.pid).children()
        rank.send_signal(number)
        rank.wait(GUARD)
        await_end([child])
