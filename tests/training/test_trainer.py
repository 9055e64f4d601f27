"""The real trainer child: it trains as its own process what would be trained here, saves, resumes, fails and ends."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import resource
import signal
import subprocess
import sys
from multiprocessing.connection import Pipe
from pathlib import Path

import psutil
import pytest
import torch
from child_imports import importing_tests
from patience import GUARD
from trainer_children import await_end, awaited, children, failure, loaded, outcome
from trainer_runs import (
    AGAIN,
    TASK,
    SilentPipe,
    Start,
    attended,
    await_checkpoint,
    directly,
    nothing,
    same,
    settings,
)
from warden import Child

from hpcnas.messages import Evaluation, Failure, FailureKind, Stopped
from hpcnas.training import checkpoints, profiling, trainer_loop, trainer_process
from hpcnas.training.evaluator import Loaded, checked
from hpcnas.training.interpreter import python
from hpcnas.training.method import LossNotFinite
from hpcnas.training.pipe import Assignment, Beat, Save, Saved
from hpcnas.training.trainer_process import EvaluatorRefused

torch.set_num_threads(1)


# ── a fitness, whole and in pieces ──────────────────────────────────────────────────────────────────────────────────
def test_a_child_finds_what_training_here_finds_and_signals_to_the_job_are_not_its_own(
    start: Start, expected: Evaluation
) -> None:
    one = start()
    (child,) = children()
    signals = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
    for number in signals:  # while Python is still starting
        child.send_signal(number)
    found = loaded(one)
    assert found.facts.training_images == 320 and found.software["torch"] == torch.__version__
    one.start(TASK)
    for number in signals:
        child.send_signal(number)
    assert same(awaited(one), expected)
    assert same(outcome(one, TASK), expected)  # whatever ran before: this goes on from the last checkpoint
    assert children() == [child]


def test_a_child_killed_in_the_middle_costs_the_steps_since_its_checkpoint(
    start: Start, tmp_path: Path, expected: Evaluation
) -> None:
    one = start(run={"checkpoint_interval": 0.0})
    one.start(TASK)
    await_checkpoint(one, tmp_path / "inflight" / "4.pt", finished=1)
    children()[0].kill()
    found = awaited(one)
    assert isinstance(found, Failure) and found.kind is FailureKind.CRASH
    assert same(outcome(one, AGAIN), expected)


def test_what_was_saved_is_not_done_again(start: Start, tmp_path: Path, expected: Evaluation) -> None:
    one = directly(settings(tmp_path))
    states: list[dict] = []
    one.run(nothing, lambda: states.append(one.state()))
    (tmp_path / "inflight").mkdir()
    checkpoints.save(tmp_path / "inflight" / "4.pt", {**states[0], "accuracies": [0.75]})
    found = outcome(start(), TASK)
    assert isinstance(found, Evaluation)
    assert found.accuracies == (0.75, expected.accuracies[1])
    assert found.training_seconds > states[0]["seconds"]["training"]


def test_a_child_saves_when_told_to_and_another_goes_on(start: Start, tmp_path: Path) -> None:
    path, longer = tmp_path / "inflight" / "4.pt", {"training": {"replicates": 2, "steps": 1000, "batch_size": 16}}
    one = start(**longer)
    one.start(TASK)
    await_checkpoint(one, path, finished=1)
    (child,) = children()
    one.save(GUARD)
    await_end([child])
    state = torch.load(path, weights_only=True)
    assert len(state["accuracies"]) == 1 and 0 < state["trainings"]["step"] < 1000
    assert same(outcome(start(**longer), AGAIN), directly(settings(tmp_path, **longer)).run(nothing, nothing))


CLIMBING: dict[str, dict[str, object]] = {
    "training": {"replicates": 2, "steps": 20, "batch_size": 16, "rungs": (0.25, 0.5)}
}


def test_a_child_stops_what_is_below_a_floor(start: Start, tmp_path: Path) -> None:
    """The first of two replicates on its one thread, also from a checkpoint; what is next is evaluated as ever."""
    floors, chosen = (-math.inf, 1.01), settings(tmp_path, **CLIMBING)
    judged, climbing = (dataclasses.replace(AGAIN, rungs=2, floors=them) for them in (floors, ()))
    stopped, whole = directly(chosen, floors).run(nothing, nothing), directly(chosen).run(nothing, nothing)
    assert isinstance(stopped, Stopped) and isinstance(whole, Evaluation)
    one = start(run={"checkpoint_interval": 0.0}, **CLIMBING)
    found = outcome(one, judged)
    assert isinstance(found, Stopped)
    assert (found.curves, found.parameters) == (stopped.curves, stopped.parameters)
    assert found.curves == (whole.curves[0],) and checked(found, judged) == found
    assert (tmp_path / "inflight" / "4.pt").exists()
    again = outcome(one, judged)
    assert isinstance(again, Stopped) and again.curves == stopped.curves
    (tmp_path / "inflight" / "4.pt").unlink()
    last = outcome(one, climbing)
    assert same(last, whole) and isinstance(last, Evaluation) and last.curves == whole.curves
    assert checked(last, climbing, classes=10) == last


def test_a_child_saves_what_rungs_found_and_another_goes_on(start: Start, tmp_path: Path) -> None:
    chosen = settings(tmp_path, **CLIMBING)
    whole = directly(chosen, floors := (0.0, 0.0)).run(nothing, nothing)
    assert isinstance(whole, Evaluation) and whole.judged == 1
    task, path = dataclasses.replace(TASK, rungs=2, floors=floors), tmp_path / "inflight" / "4.pt"
    one = start(run={"checkpoint_interval": 0.0}, **CLIMBING)
    one.start(task)
    await_checkpoint(one, path, finished=1)
    children()[0].kill()
    assert isinstance(awaited(one), Failure)
    found = outcome(one, dataclasses.replace(task, attempt=2))
    assert same(found, whole) and isinstance(found, Evaluation)
    assert (found.curves, found.judged) == (whole.curves, 1)


def test_the_first_evaluation_of_a_run_is_traced_when_wanted(
    start: Start, tmp_path: Path, expected: Evaluation
) -> None:
    path = tmp_path / "profile.json"
    assert same(outcome(start(run={"profile": True}), TASK), expected)
    trace = path.read_bytes()
    assert any(event.get("name") == "aten::randperm" for event in json.loads(trace)["traceEvents"])
    assert same(outcome(start(run={"profile": True}), AGAIN), expected)
    assert path.read_bytes() == trace


def test_a_trace_that_cannot_be_written_costs_no_evaluation(
    tmp_path: Path, expected: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "gone" / "profile.json"
    with profiling.Trace(nowhere) as trace:
        found = trainer_loop._outcome(*attended(tmp_path, 1e6), trace)
    assert same(found, expected)
    assert f"no trace {nowhere}" in capsys.readouterr().err


# ── failures ────────────────────────────────────────────────────────────────────────────────────────────────────────
LATE = """
import sys, torch
from hpcnas.training import trainer_loop
assert "torch._dynamo" not in sys.modules
trainer_loop._import_late_parts()
before = set(sys.modules)
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1).step()
print(sorted(set(sys.modules) - before))
"""


def test_no_task_waits_in_silence_for_what_torch_imports_late() -> None:
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_loss_that_is_not_finite_is_a_failure(tmp_path: Path) -> None:
    chosen = settings(tmp_path, training={"replicates": 2, "steps": 20, "batch_size": 16, "learning_rate": 1e18})
    fitness = directly(chosen)
    attendance = trainer_loop.Attendance(SilentPipe(), chosen, "4.pt", fitness)  # type: ignore[arg-type]
    attendance.save()
    found = trainer_loop._outcome(fitness, attendance)
    assert isinstance(found, Failure) and found.kind is FailureKind.NAN
    assert found.message == "the loss was not finite by step 20 of 20"
    assert list((tmp_path / "inflight").iterdir()) == []  # another device does not go on from there


def test_a_python_error_is_a_failure_with_its_traceback(start: Start) -> None:
    code = (
        "from hpcnas.training import single, trainer\n"
        "def broken(self): raise ZeroDivisionError('of all things')\n"
        "single.SingleTraining._batch = broken\n"
        "trainer.main()"
    )
    found = failure(start((sys.executable, "-c", code)), TASK)
    assert found.kind is FailureKind.ERROR
    assert found.message.startswith("Traceback") and found.message.endswith("ZeroDivisionError: of all things\n")


def test_a_network_that_does_not_fit_into_memory_is_out_of_memory(start: Start) -> None:
    one = start(network={"channels": 16384, "groups": 1})  # one 1×1 convolution: 1 GiB
    loaded(one)
    (child,) = children()
    limit = child.memory_info().vms + 2**29
    resource.prlimit(child.pid, resource.RLIMIT_AS, (limit, limit))
    found = failure(one, TASK)
    assert found.kind is FailureKind.OOM and found.message.startswith("Traceback")


class Raising:
    """An evaluation that ends with an exception."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def run(self, beat: object, replicate_done: object, aside: object) -> Evaluation:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [  # the rest is in test_causes
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), "OOM"),
        (RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"), "CRASH"),
        (LossNotFinite("the loss was not finite by step 50 of 60"), "NAN"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "ERROR"),
    ],
)
def test_exceptions_are_failures_of_their_kind(tmp_path: Path, error: Exception, kind: str) -> None:
    _, attendance = attended(tmp_path, 1e6)
    found = trainer_loop._outcome(Raising(error), attendance)  # type: ignore[arg-type]
    assert isinstance(found, Failure) and found.kind is FailureKind[kind]


def test_a_child_whose_worker_is_gone_says_nothing(tmp_path: Path) -> None:
    _, attendance = attended(tmp_path, 1e6)
    with pytest.raises(SystemExit):
        trainer_loop._outcome(Raising(BrokenPipeError()), attendance)  # type: ignore[arg-type]


# ── beginning and end ───────────────────────────────────────────────────────────────────────────────────────────────
def test_data_that_are_not_there_refuse_the_worker_in_one_line(start: Start) -> None:
    with pytest.raises(EvaluatorRefused) as caught:
        loaded(start(data={"source": "cifar10:/nowhere"}))
    assert "cifar10:/nowhere" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_torch_cannot_use_refuses_the_worker_in_one_line(start: Start) -> None:
    with pytest.raises(EvaluatorRefused, match=r"expected the GPU GPU-6f1c to be usable, but torch .* sees none"):
        loaded(start(gpu="GPU-6f1c"))


def popen(parent: int) -> tuple[subprocess.Popen[bytes], object]:
    """A trainer that takes process `parent` for its worker, and the worker's end of its pipe."""
    ours, theirs = Pipe()
    with theirs:
        command = [*python(trainer_process.TRAINER), str(theirs.fileno())]
        process = Child(command, pass_fds=(theirs.fileno(),), stderr=subprocess.DEVNULL)
    ours.send(Assignment(settings(Path("nowhere")), 1, False, parent))
    return process, ours


def test_a_child_of_another_parent_ends_by_itself() -> None:
    process, pipe = popen(parent=1)
    with process:
        assert process.wait(GUARD) == 1
    del pipe


def test_a_child_ends_with_its_pipe() -> None:
    process, pipe = popen(os.getpid())
    pipe.close()  # type: ignore[attr-defined]
    with process:
        assert process.wait(GUARD) != 0  # it had wanted to say that it is ready


def test_an_idle_child_has_nothing_to_save() -> None:
    process, pipe = popen(os.getpid())
    with process:
        heard = [pipe.recv()]  # type: ignore[attr-defined]
        while not isinstance(heard[-1], Loaded):  # signs of life while it compiles
            heard.append(pipe.recv())  # type: ignore[attr-defined]
        assert set(heard[:-1]) <= {Beat()}
        pipe.send(Save())  # type: ignore[attr-defined]
        assert pipe.recv() == Saved()  # type: ignore[attr-defined]
        assert process.wait(GUARD) == 0


RANK = """
import sys, time
from pathlib import Path
from hpcnas.training.trainer_process import TrainerEvaluator
from hpcnas.job.devices import Binding
from trainer_runs import TASK, settings
from trainer_children import loaded
one = TrainerEvaluator(settings(Path(sys.argv[2])), Binding(None, 1))
if sys.argv[1] == "training":
    loaded(one)
    one.start(TASK)
    one.poll(1.0)
print("started", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("when", ["importing", "training"])
def test_a_child_ends_with_its_rank(when: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RANK, when, str(tmp_path)]
    with Child(command, stdout=subprocess.PIPE, env=importing_tests()) as rank:
        assert rank.stdout is not None and rank.stdout.readline() == b"started\n"
        (child,) = psutil.Process(rank.pid).children()
        rank.kill()
        rank.wait(GUARD)
        await_end([child])
