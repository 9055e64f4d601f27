"""The real trainer child: it trains as its own process what would be trained here, saves, resumes, fails and ends."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Pipe
from pathlib import Path

import psutil
import pytest
import torch
from child_imports import importing_tests
from patience import GUARD
from test_trainer_process import await_end, awaited, children, failure, loaded, outcome
from warden import Child

from hpcnas.architecture.expansion import is_valid
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.space import Space
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.data.datasets import load_training
from hpcnas.job.devices import Binding
from hpcnas.messages import Evaluation, Failure, FailureKind, Task
from hpcnas.storage import durable
from hpcnas.training import checkpoints, profiling, trainer_loop, trainer_process
from hpcnas.training.choice import fastest_method
from hpcnas.training.evaluator import Loaded
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.interpreter import python
from hpcnas.training.method import LossNotFinite, TrainingData
from hpcnas.training.pipe import Assignment, Beat, Remark, Save, Saved
from hpcnas.training.trainer_process import EvaluatorRefused, TrainerEvaluator

torch.set_num_threads(1)

SPACE = Space.parse("2x3/1x3")
GENOTYPE = Genotype(SPACE, bytes([3, 1, 5, 2, 4, 1, 1, 2, 1]))
TASK = Task(individual=4, attempt=1, genotype=GENOTYPE, seeds=(11, 12))
AGAIN = dataclasses.replace(TASK, attempt=2)
SETTINGS = {
    "search": {"space": str(SPACE)},
    "network": {"channels": 4, "groups": 2},
    "training": {"replicates": 2, "steps": 20, "batch_size": 16},
    "data": {"source": "synthetic:400:3x8x8"},
}


def settings(folder: Path, **changes: dict[str, object]) -> SearchConfig:
    return search_config.build(SETTINGS, {"run": {"run": str(folder), "hang_timeout": GUARD}}, changes)


def directly(chosen: SearchConfig) -> FitnessInProgress:
    """The evaluation as it is without a child."""
    cpu = torch.device("cpu")
    data = TrainingData.prepare(load_training(chosen.data.source), chosen.data, cpu)
    skeleton = chosen.skeleton(data.facts)
    method = fastest_method(cpu, 1, chosen.training, skeleton)
    return FitnessInProgress(GENOTYPE, TASK.seeds, skeleton, data, chosen.training, method)


def nothing() -> None:
    """Called back where a test does not care."""


@pytest.fixture(scope="module")
def expected() -> Evaluation:
    """What every evaluation of the task must come to, however often it is cut."""
    assert is_valid(GENOTYPE)
    return directly(settings(Path("nowhere"))).run(nothing, nothing)


def same(found: object, expected: Evaluation) -> bool:
    """Equal but for the time it took."""
    assert isinstance(found, Evaluation), found
    return (found.accuracies, found.parameters) == (expected.accuracies, expected.parameters)


Start = Callable[..., TrainerEvaluator]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts evaluators with a real child in one run folder, and ends them all."""
    started: list[TrainerEvaluator] = []

    def start(
        command: tuple[str, ...] | None = None, gpu: str | None = None, **changes: dict[str, object]
    ) -> TrainerEvaluator:
        started.append(TrainerEvaluator(settings(tmp_path, **changes), Binding(gpu, 1), command))
        return started[-1]

    yield start
    for one in started:
        one.close()


def await_checkpoint(one: TrainerEvaluator, path: Path, finished: int) -> None:
    """Lets the training go on until there is a checkpoint with so many finished replicates."""
    deadline = time.monotonic() + GUARD
    while not path.exists() or len(torch.load(path, weights_only=True)["accuracies"]) < finished:
        assert one.poll(0.005) is None and time.monotonic() < deadline


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


# ── checkpoints, in this process ────────────────────────────────────────────────────────────────────────────────────
@dataclasses.dataclass
class SilentPipe:
    """A worker that says nothing."""

    sent: list[object] = dataclasses.field(default_factory=list)

    def send(self, message: object) -> None:
        self.sent.append(message)

    def poll(self) -> bool:
        return False


def remarks(attendance: trainer_loop.Attendance) -> list[str]:
    """What was said, in order."""
    sent = attendance._pipe.sent  # type: ignore[attr-defined]
    return [message.text for message in sent if isinstance(message, Remark)]


def interrupted(fitness: FitnessInProgress) -> None:
    """Lets an evaluation go on for some steps of its first training, which then has a state of its own."""
    beats = iter(range(5))

    def beat() -> None:
        if next(beats, None) is None:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        fitness.run(beat, nothing)


def attended(folder: Path, interval: float) -> tuple[FitnessInProgress, trainer_loop.Attendance]:
    chosen = settings(folder, run={"checkpoint_interval": interval})
    fitness = directly(chosen)
    return fitness, trainer_loop.Attendance(SilentPipe(), chosen, "4.pt", fitness)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("interval", "finished"),
    [
        (1e6, [1, 2]),
        (0.0, [0] * 21 + [1] * 22 + [2]),  # after 20 steps, a look at the validation images, and each replicate
    ],
)
def test_checkpoints_come_after_every_replicate_and_every_so_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval: float, finished: list[int]
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(torch, "save", lambda state, file: saved.append(len(state["accuracies"])))
    trainer_loop._outcome(*attended(tmp_path, interval))
    assert saved == finished


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:-20],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"no checkpoint",
        lambda whole: bytes(len(whole)),
        lambda whole: whole[:1000] + bytes(3000) + whole[4000:],
    ],
    ids=["empty", "cut", "halved", "text", "zeros", "hole"],
)
def test_a_damaged_checkpoint_is_none(tmp_path: Path, expected: Evaluation, damage: Callable[[bytes], bytes]) -> None:
    fitness, attendance = attended(tmp_path, 1e6)
    assert same(trainer_loop._outcome(fitness, attendance), expected)
    path = tmp_path / "inflight" / "4.pt"
    path.write_bytes(found := damage(path.read_bytes()))
    fitness, attendance = attended(tmp_path, 1e6)
    assert same(trainer_loop._outcome(fitness, attendance), expected)
    (said,) = remarks(attendance)
    assert said.startswith(f"{path} is damaged: ")
    assert said.endswith("; it is kept as 4.pt.damaged, and its evaluation begins anew")
    assert (tmp_path / "inflight" / "4.pt.damaged").read_bytes() == found
    assert checkpoints.load(path)["accuracies"] == list(expected.accuracies)


class Untouched:
    """An evaluation that no state reaches."""

    def resume(self, state: object) -> None:
        raise AssertionError("a damaged state was gone on from")


def test_a_bit_that_has_turned_over_is_found_wherever_it_is(tmp_path: Path) -> None:
    """torch alone goes on from two thirds of such files without a word."""
    fitness, attendance = attended(tmp_path, 1e6)
    interrupted(fitness)
    attendance.save()
    path, draw = tmp_path / "inflight" / "4.pt", random.Random(0)
    whole = path.read_bytes()
    attendance._fitness = Untouched()  # type: ignore[assignment]
    for number in range(1, 401):
        place = draw.randrange(8 * len(whole))
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        attendance._said.clear()
        attendance.resume()
        assert not path.exists() and path.with_name("4.pt.damaged").read_bytes() == changed, f"bit {place}"
        assert len(remarks(attendance)) == number


@pytest.mark.parametrize("state", [[], {}, {"of": "another"}, 3], ids=["list", "empty", "other", "number"])
def test_a_checkpoint_of_something_else_is_none(tmp_path: Path, expected: Evaluation, state: object) -> None:
    (tmp_path / "inflight").mkdir()
    checkpoints.save(tmp_path / "inflight" / "4.pt", state)
    fitness, attendance = attended(tmp_path, 1e6)
    assert same(trainer_loop._outcome(fitness, attendance), expected)
    (said,) = remarks(attendance)
    assert said.startswith(f"checkpoints in {tmp_path}/inflight are not gone on from, their evaluations begin anew: ")


def test_a_checkpoint_without_a_checksum_is_not_gone_on_from_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "inflight").mkdir()
    fitness, attendance = attended(tmp_path, 1e6)
    torch.save(fitness.state() | {"accuracies": [0.75]}, tmp_path / "inflight" / "4.pt")
    attendance.resume()
    assert fitness.state()["accuracies"] == []
    assert remarks(attendance) == [
        f"checkpoints in {tmp_path}/inflight are not gone on from, their evaluations begin anew: they carry no "
        "checksum: an earlier version has written them"
    ]


def test_a_checkpoint_that_cannot_be_read_is_none_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "inflight" / "4.pt").mkdir(parents=True)
    _, attendance = attended(tmp_path, 1e6)
    attendance.resume()
    assert remarks(attendance) == [
        f"checkpoints in {tmp_path}/inflight are not gone on from, their evaluations begin anew: they cannot be read: "
        "Is a directory"
    ]


LOSS = (
    "; an evaluation that is cut off, by the end of the job or a kill, loses its work since its last checkpoint or, "
    "without one, its start"
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (OSError(errno.EROFS, "Read-only file system", "/a/.4.pt.77.tmp"), "Read-only file system"),
        (RuntimeError("[enforce fail] file write failed\nat 0x77"), "RuntimeError: [enforce fail] file write failed"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_costs_no_more_and_is_told_of_once(
    tmp_path: Path, expected: Evaluation, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(path: Path, write: object) -> None:
        raise error

    monkeypatch.setattr(durable, "replace", fail)
    fitness, attendance = attended(tmp_path, 0.0)
    assert same(trainer_loop._outcome(fitness, attendance), expected)
    assert remarks(attendance) == [f"no checkpoints in {tmp_path}/inflight: {words}{LOSS}"]


def test_what_torch_makes_of_a_full_disk_is_called_by_its_name(tmp_path: Path) -> None:
    _, attendance = attended(tmp_path, 1e6)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        attendance.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert remarks(attendance) == [f"no checkpoints in {tmp_path}/inflight: File too large{LOSS}"]
    assert list((tmp_path / "inflight").iterdir()) == []


def test_a_run_that_its_worker_does_not_see_is_told_of(tmp_path: Path) -> None:
    _, attendance = attended(tmp_path / "there", 1e6)
    attendance.save()
    reason = f"the folder {tmp_path}/there is not there on the host of this worker"
    assert remarks(attendance) == [f"no checkpoints in {tmp_path}/there/inflight: {reason}{LOSS}"]


def test_checkpoints_may_lie_on_another_disk_and_a_link_to_nowhere_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "inflight").symlink_to(tmp_path / "fast")
    _, attendance = attended(tmp_path / "run", 1e6)
    attendance.save()
    reason = f"it is a link to {tmp_path}/fast, where no folder is on the host of this worker"
    assert remarks(attendance) == [f"no checkpoints in {tmp_path}/run/inflight: {reason}{LOSS}"]
    (tmp_path / "fast").mkdir()
    attendance.save()
    assert [path.name for path in (tmp_path / "fast").iterdir()] == ["4.pt"]
    assert (tmp_path / "run" / "inflight").is_symlink()


def test_something_else_in_the_place_of_the_checkpoints_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "inflight").touch()
    _, attendance = attended(tmp_path, 1e6)
    attendance.resume()
    attendance.save()
    assert remarks(attendance) == [f"no checkpoints in {tmp_path}/inflight: Not a directory{LOSS}"]


def test_a_full_disk_under_a_real_child(start: Start, tmp_path: Path, expected: Evaluation) -> None:
    one = start(run={"checkpoint_interval": 0.0})
    loaded(one)
    resource.prlimit(children()[0].pid, resource.RLIMIT_FSIZE, (4096, 4096))  # what torch writes is cut there
    assert same(outcome(one, TASK), expected)
    assert [path.name for path in (tmp_path / "inflight").iterdir()] == ["4.pt"]  # the last one is small; no halves
    assert one.warnings() == [f"no checkpoints in {tmp_path}/inflight: File too large{LOSS}"]


def test_what_a_child_warns_of_while_it_loads_reaches_its_worker(start: Start) -> None:
    code = (
        "import logging\n"
        "from hpcnas.training import trainer, trainer_loop\n"
        "load = trainer_loop.load_training\n"
        "def warning(*given, **named):\n"
        "    logging.getLogger('hpcnas.data.image_folder').warning('made %s', 'anew')\n"
        "    return load(*given, **named)\n"
        "trainer_loop.load_training = warning\n"
        "trainer.main()"
    )
    one = start((sys.executable, "-c", code))
    loaded(one)
    assert one.warnings() == ["made anew"]


def test_signs_of_life_come_often_enough_for_the_hang_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for timeout, beats in ((600.0, 3), (2.0, 6)):  # in three seconds
        clock = iter(number * 0.0625 for number in range(100))
        monkeypatch.setattr(trainer_loop.time, "monotonic", lambda clock=clock: next(clock))
        chosen = settings(tmp_path, run={"hang_timeout": timeout, "checkpoint_interval": 1e6})
        pipe = SilentPipe()
        attendance = trainer_loop.Attendance(pipe, chosen, "4.pt", directly(chosen))  # type: ignore[arg-type]
        for _ in range(48):
            attendance.beat()
        assert pipe.sent == [Beat()] * beats


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
from test_trainer import TASK, loaded, settings
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
