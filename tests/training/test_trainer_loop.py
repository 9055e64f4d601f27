"""What a trainer says before its first task, and while something takes long."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cpu_program import flat

from hpcnas.architecture import primitives
from hpcnas.architecture.primitives import Primitive
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config import search as search_config
from hpcnas.data.datasets import load_training
from hpcnas.messages import Evaluation, Task
from hpcnas.training import probing, trainer_loop
from hpcnas.training.cpu.compiled import CompiledTraining, on_threads
from hpcnas.training.evaluator import Loaded
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.method import TrainingData
from hpcnas.training.pipe import Assignment, Beat, DeviceMemory, Remark, Unusable
from hpcnas.training.plain import PlainTraining
from hpcnas.training.probing import NothingWorks, Way

GUARD = 60.0  # seconds that a condition may take on a busy machine
GENOTYPE = flat("1-2 1x1", 2)


class Pipe:
    """A worker's end: takes what is sent, hands out these tasks, then closes."""

    def __init__(self, *tasks: Task) -> None:
        self.sent: list[object] = []
        self.beaten = threading.Event()
        self._tasks = list(tasks)

    def send(self, message: object) -> None:
        self.sent.append(message)
        if isinstance(message, Beat):
            self.beaten.set()

    def recv(self) -> Task:
        if not self._tasks:
            raise EOFError
        return self._tasks.pop(0)

    def poll(self) -> bool:
        return False

    def said(self) -> list[object]:
        return [message for message in self.sent if not isinstance(message, Beat)]


def assignment(folder: Path) -> Assignment:
    chosen = search_config.build(
        {"search": {"space": "1x2"}, "network": {"channels": 4, "groups": 1}, "data": {"source": "synthetic:50:1x8x8"}},
        {"training": {"steps": 2, "batch_size": 4, "replicates": 1}},
        {"run": {"run": str(folder), "hang_timeout": 0.1}},
    )
    return Assignment(chosen, 1, False, 0)


def serve(pipe: Pipe, folder: Path) -> int:
    return trainer_loop.serve(pipe, assignment(folder))  # type: ignore[arg-type]


def test_compiling_gives_signs_of_life_and_what_is_lived_with_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipe()

    def find(*_: Any) -> Way:
        assert pipe.beaten.wait(GUARD)  # however long a compiler takes
        return Way(PlainTraining, slower="no compiler")

    monkeypatch.setattr(probing, "find", find)
    assert serve(pipe, tmp_path) == 0
    remark, loaded = pipe.said()
    assert remark == Remark("trains the plain network, which can be several times slower: no compiler")
    assert isinstance(loaded, Loaded) and loaded.slower == "no compiler"
    assert loaded.software["training"] == "Training" and loaded.software["threads"] == "1"


def test_a_device_on_which_nothing_works_is_unusable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe()

    def find(*_: Any) -> Way:
        raise NothingWorks("expected a device that can train a network: CUDA error")

    monkeypatch.setattr(probing, "find", find)
    assert serve(pipe, tmp_path) == 2
    assert pipe.said() == [Unusable("expected a device that can train a network: CUDA error", passes=True)]


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_images_that_do_not_fit_on_the_device_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    pipe = Pipe()

    def prepare(*_: Any) -> TrainingData:
        raise error

    monkeypatch.setattr(TrainingData, "prepare", prepare)
    assert serve(pipe, tmp_path) == 2
    (told,) = pipe.said()
    expected = "expected memory for all images, on the device or on its host: "
    assert told == Unusable(expected + (str(error) or "MemoryError"), passes=True)


def evaluated(folder: Path) -> tuple[list[object], Evaluation]:
    """What a trainer says before it is ready and then of one task, and its answer."""
    pipe = Pipe(Task(0, 1, GENOTYPE, (3,)))
    folder.mkdir()
    assert serve(pipe, folder) == 0
    *said, outcome = pipe.said()
    assert isinstance(outcome, Evaluation)
    return said, outcome


@pytest.mark.parametrize("late", [False, True], ids=["measured", "taken by others meanwhile"])
def test_images_for_which_a_device_has_no_memory_stay_on_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    (there,), expected = evaluated(tmp_path / "device")
    assert isinstance(there, Loaded) and expected.waiting_seconds is None
    monkeypatch.setattr(trainer_loop, "_room", lambda device, sharing: 2**40 if late else 4000)
    prepare = TrainingData.prepare

    def first_in_vain(*arguments: Any) -> TrainingData:
        if late and arguments[-1] == 2**40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return prepare(*arguments)

    monkeypatch.setattr(TrainingData, "prepare", first_in_vain)
    (remark, here), found = evaluated(tmp_path / "host")
    assert isinstance(remark, Remark) and remark.text.startswith("images stay on the host, and each batch is copied")
    assert isinstance(here, Loaded) and here.software["training"] == (
        f"{there.software['training']} (images on the host)"
    )
    assert found.accuracies == expected.accuracies and found.measures == expected.measures
    assert found.waiting_seconds is not None and found.waiting_seconds > 0


def test_what_a_device_was_taken_for_is_told_before_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = DeviceMemory(3, 16)
    monkeypatch.setattr(trainer_loop, "_device_memory", lambda device: taken)
    said, _ = evaluated(tmp_path / "run")
    assert said[-1] is taken


def test_the_most_that_a_gpu_has_reserved_is_what_a_task_took(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks, resets, gpu = [7, 5], [], torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: peaks.pop(0))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", resets.append)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4, 16))
    assert [trainer_loop._device_memory(gpu) for _ in range(2)] == [DeviceMemory(7, 16), DeviceMemory(5, 16)]
    assert resets == [gpu, gpu]


def test_workers_of_one_gpu_have_a_part_of_its_memory_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of it is still free when the first of them looks."""
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (12, 16))
    assert [trainer_loop._room(gpu, sharing) for sharing in (1, 2, 4)] == [12, 8, 4]
    assert trainer_loop._room(torch.device("cpu"), 4) is None


def test_what_is_tried_again_is_trained_in_less_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's SIGKILL of a process that took too much tells nobody to take less."""
    monkeypatch.setattr(probing, "find", lambda *_: Way(on_threads(2)))
    outcomes = []
    for attempt in (1, 2):
        (tmp_path / str(attempt)).mkdir()
        pipe = Pipe(Task(0, attempt, GENOTYPE, (3, 4)))
        assert serve(pipe, tmp_path / str(attempt)) == 0
        (outcome,) = [found for found in pipe.said() if isinstance(found, Evaluation)]
        outcomes.append(outcome.accuracies)
        assert [found.text for found in pipe.said() if isinstance(found, Remark)] == [
            "what is tried again is trained on one thread, one replicate at a time: that needs less memory, and is "
            "slower"
        ] * (attempt - 1)
    assert outcomes[0] == outcomes[1]


def test_primitives_of_plugins_are_said_to_be_trained_slower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primitives, "ADDED", [Primitive("dilated", False, *[lambda ins, outs: 0] * 3)])
    one = assignment(tmp_path)
    search = dataclasses.replace(one.config.search, space="1x2+dilated")
    one = dataclasses.replace(one, config=dataclasses.replace(one.config, search=search))
    monkeypatch.setattr(probing, "find", lambda *_: Way(CompiledTraining))
    pipe = Pipe()
    assert trainer_loop.serve(pipe, one) == 0  # type: ignore[arg-type]
    remark, loaded = pipe.said()
    assert remark == Remark(
        "genotypes with primitives of plugins are trained as the plain network, which can be several times slower"
    )
    assert isinstance(loaded, Loaded) and loaded.slower == ""
    assert loaded.software["training"] == "PlannedTraining (with primitives of plugins: Training)"


def test_threads_send_one_after_the_other() -> None:
    """A message is written in parts: two at once would be none."""
    several, inside, together = 4, [0], []

    class Slow:
        recv = poll = None

        def send(self, message: object) -> None:
            inside[0] += 1
            time.sleep(0.002)
            together.append(inside[0])
            inside[0] -= 1

    pipe = trainer_loop._Pipe(Slow())  # type: ignore[arg-type]
    threads = [threading.Thread(target=lambda: [pipe.send(Beat()) for _ in range(3)]) for _ in range(several)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [1] * 12


def test_warnings_that_cannot_be_told_or_are_endless_end_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = Pipe()
    handler = trainer_loop._ToWorker(pipe)  # type: ignore[arg-type]
    for text, arguments in (("%d images", ("no number",)), ("%s", ("x" * 9999,)), ("fine", ())):
        handler.emit(logging.LogRecord("hpcnas", logging.WARNING, __file__, 1, text, arguments, None))
    assert pipe.said() == [Remark("x" * 2000 + " …"), Remark("fine")]
    assert "%d images" in capsys.readouterr().err


def test_what_a_task_compiles_gives_signs_of_life_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe(Task(0, 1, GENOTYPE, (3,)))

    class Slow(PlainTraining):
        def prepare(self) -> None:
            pipe.beaten.clear()
            assert pipe.beaten.wait(GUARD)

    monkeypatch.setattr(probing, "find", lambda *_: Way(Slow))
    assert serve(pipe, tmp_path) == 0
    assert isinstance(pipe.said()[-1], Evaluation)


def test_all_that_is_done_before_steps_is_done_aside() -> None:
    data = TrainingData.prepare(load_training("synthetic:50:1x8x8"), search_config.DataSettings(), torch.device("cpu"))
    told: list[str] = []

    class Aside:
        def __enter__(self) -> None:
            told.append("aside")

        def __exit__(self, *_: object) -> None:
            told.append("back")

    class Told(PlainTraining):
        def prepare(self) -> None:
            told.append("prepared")

        def run(self, beat: Callable[[], None]) -> None:
            told.append("ran")

    settings = search_config.TrainingSettings(replicates=2, steps=1, batch_size=4)
    fitness = FitnessInProgress(GENOTYPE, (1, 2), Skeleton(1, 8, 8, 10, 4, (1,)), data, settings, Told)
    fitness.run(lambda: None, lambda: None, Aside)
    assert told == ["aside", "prepared", "back", "ran"] * 2
