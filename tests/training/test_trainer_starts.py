"""The child of a worker loads: what it cannot load is told, what ends meanwhile is tried again, and counted."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time

import pytest
import scripted_trainer
from patience import GUARD
from trainer_children import Make, awaited, children, done, failure, loaded, outcome, task

from hpcnas.messages import FailureKind
from hpcnas.training.evaluator import EvaluatorRefused
from hpcnas.training.trainer_process import TrainerEvaluator


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("unusable", "there are no images"),
        ("unwell", "CUDA error: uncorrectable ECC error encountered"),
        ("exit", "the trainer ended with exit code 3; its last words: I am leaving"),
        ("kill", "the trainer was ended by SIGKILL; its last words: (it printed nothing)"),
    ],
)
def test_a_child_that_cannot_load_refuses_the_evaluator(make: Make, word: str, reason: str) -> None:
    one = make({"loading": word})
    with pytest.raises(EvaluatorRefused) as caught:
        loaded(one)
    assert str(caught.value).removeprefix("4 starts in vain; the last one: ") == reason
    assert caught.value.passes is (word != "unusable")  # a mistake is a person's, what dies may live the next time
    assert len(one.warnings()) == (0 if word == "unusable" else 3)
    assert children() == []


def await_warning(one: TrainerEvaluator) -> str:
    """What is said of a start in vain; the next one has not begun yet."""
    deadline = time.monotonic() + GUARD
    while not (said := one.warnings()):
        assert one.ready(0.05) is None and time.monotonic() < deadline
    (text,) = said
    return text


def test_a_child_that_dies_while_it_starts_is_started_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make({"loading": "kill"})
    for _ in range(3):
        assert await_warning(one) == (
            "starting a trainer is tried again; the trainer was ended by SIGKILL; its last words: (it printed nothing)"
        )
    monkeypatch.setenv(scripted_trainer.PLAN, "{}")
    loaded(one)
    assert outcome(one, task(1)) == done(1)


def test_starts_in_vain_are_counted_in_a_row(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make({"loading": "exit"})
    for individual in range(3):
        for _ in range(3):
            await_warning(one)
        monkeypatch.setenv(scripted_trainer.PLAN, json.dumps({str(individual): "exit"}))
        assert failure(one, task(individual)).kind is FailureKind.CRASH
        monkeypatch.setenv(scripted_trainer.PLAN, json.dumps({"loading": "exit"}))
        one.start(task(99))


@pytest.mark.parametrize("what", ["subprocess.Popen", "tempfile.TemporaryFile", "socket.socketpair"])
@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_a_process_that_the_system_refuses_is_started_later(
    make: Make, monkeypatch: pytest.MonkeyPatch, what: str, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(f"hpcnas.training.trainer_process.{what}", refuse)
        one = make()
        assert os.strerror(number) in await_warning(one)
        assert len(os.listdir("/proc/self/fd")) == before
        one.start(task(1))  # one that waits
        with pytest.raises(EvaluatorRefused, match="4 starts in vain; .* the trainer's process cannot") as caught:
            awaited(one)
        assert caught.value.passes
        one = make()
    assert outcome(one, task(1)) == done(1)


def test_a_signal_without_a_name_is_told_by_its_number(make: Make) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 3)"
    with pytest.raises(EvaluatorRefused, match=f"the trainer was ended by signal {signal.SIGRTMIN + 3};"):
        loaded(make(command=(sys.executable, "-c", code)))


def test_loading_may_be_silent_for_longer_than_a_training(make: Make) -> None:
    clock = [0.0]
    one = make({"loading": "hang"}, now=lambda: clock[0], hang_timeout=4.0)
    for _ in range(600):
        clock[0] += 1.0
        assert one.ready(0.0) is None
    clock[0] += 1.0
    with pytest.raises(EvaluatorRefused, match="no sign of life for 600 s"):
        one.ready(0.1)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("unusable", "there are no images"),
        ("unwell", "CUDA error: uncorrectable ECC error encountered"),
        ("slower", "it would train the plain network: no compiler"),
        ("exit", "the trainer ended with exit code 3; its last words: I am leaving"),
        ("another", "expected the data of before, .*'scripted'.*, but found .*'another'"),
    ],
)
def test_a_replacement_that_cannot_load_costs_the_worker_and_not_the_evaluation(
    make: Make, monkeypatch: pytest.MonkeyPatch, word: str, reason: str
) -> None:
    one = make({"1": "exit"})
    failure(one, task(1))
    monkeypatch.setenv(scripted_trainer.PLAN, json.dumps({"loading": word}))
    one.start(task(2))
    with pytest.raises(EvaluatorRefused, match=f"4 starts in vain; the last one: {reason}") as caught:
        awaited(one)
    assert caught.value.passes  # it has worked here before
    assert children() == []


def test_a_replacement_that_cannot_load_for_a_while_costs_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make({"1": "exit"})
    failure(one, task(1))
    monkeypatch.setenv(scripted_trainer.PLAN, json.dumps({"loading": "unusable"}))
    one.start(task(2))
    assert "there are no images" in await_warning(one)
    monkeypatch.setenv(scripted_trainer.PLAN, "{}")
    assert awaited(one) == done(2)


def test_a_worker_that_has_always_been_slower_goes_on(make: Make) -> None:
    one = make({"1": "exit", "loading": "slower"})
    assert loaded(one).slower == "no compiler"
    failure(one, task(1))
    assert outcome(one, task(2)) == done(2)


def test_a_replacement_that_hangs_while_it_loads_costs_the_worker(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    one = make({"1": "exit"}, now=lambda: clock[0], hang_timeout=4.0)
    failure(one, task(1))
    monkeypatch.setenv(scripted_trainer.PLAN, json.dumps({"loading": "hang"}))
    one.start(task(2))
    for _ in range(600):
        clock[0] += 1.0
        assert one.poll(0.0) is None
    clock[0] += 1.0
    with pytest.raises(EvaluatorRefused, match="no sign of life for 600 s") as caught:
        one.poll(0.0)
    assert caught.value.passes
