"""The worker's loop: tasks in, results out, always an ear for Stop, and the evaluator closed whatever happens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from examples import FACTS, PLACE, SPACE

from hpcnas.architecture.genotype import Genotype
from hpcnas.job.hub import Hub
from hpcnas.messages import (
    Broke,
    Evaluation,
    Failure,
    FailureKind,
    Left,
    Outcome,
    Ready,
    Refused,
    Result,
    Stop,
    Task,
    Warned,
)
from hpcnas.plugins import PluginFault
from hpcnas.search import worker
from hpcnas.training.evaluator import EvaluatorRefused, Loaded

EVALUATION = Evaluation((0.5, 1.0), 10, 0.0, 1.0, 0.0)
CRASH = Failure(FailureKind.CRASH, "the trainer was ended by SIGSEGV")
SOFTWARE = {"torch": "2"}


def task(individual: int) -> Task:
    return Task(individual, 1, Genotype(SPACE, bytes(9)), (1, 2))


@dataclass
class Scripted:
    """An evaluator that needs some looks to be ready, and some more for each outcome; notes what is done to it."""

    outcomes: list[Outcome] = field(default_factory=list)
    looks: int = 0
    refusal: str | None = None
    meanwhile: Callable[[], None] = lambda: None  # at each look in vain
    notes: list[str] = field(default_factory=list)

    def _wait(self) -> bool:
        self.looks -= 1
        if self.looks >= 0:
            self.meanwhile()
        return self.looks >= 0

    def ready(self, timeout: float) -> Loaded | None:
        if self._wait():
            return None
        if self.refusal is not None:
            raise EvaluatorRefused(self.refusal)
        return Loaded(FACTS, SOFTWARE)

    def start(self, task: Task) -> None:
        self.notes.append(f"start {task.individual}")

    def poll(self, timeout: float) -> Outcome | None:
        return None if self._wait() else self.outcomes.pop(0)

    def save(self, timeout: float) -> None:
        self.notes.append(f"save within {timeout:g}")

    def close(self) -> None:
        self.notes.append("close")


def served(evaluator: Scripted, hub: Hub) -> tuple[int, list[object]]:
    """The exit code of worker 1, which had been sent everything before, and what it said."""
    exit_code = worker.run(hub.worker(1), PLACE, evaluator)
    return exit_code, [message for _, message in hub.controller().receive(timeout=0.0)]


def test_a_worker_evaluates_tasks_until_it_is_stopped() -> None:
    hub, evaluator = Hub(1), Scripted([EVALUATION, CRASH])
    for message in (task(7), task(8), Stop(0, 5.0)):
        hub.controller().send(1, message)
    before = time.time()
    exit_code, said = served(evaluator, hub)
    ready, first, second, left = said
    assert exit_code == 0
    assert ready == Ready(PLACE, FACTS, SOFTWARE)
    assert isinstance(first, Result) and isinstance(second, Result)
    assert (first.individual, first.attempt, first.place, first.outcome) == (7, 1, PLACE, EVALUATION)
    assert (second.individual, second.outcome) == (8, CRASH)
    assert before <= first.started <= first.finished <= second.started <= second.finished <= time.time()
    assert left == Left()
    assert evaluator.notes == ["start 7", "start 8", "save within 5", "close"]


def test_what_an_evaluator_lives_with_is_said_before_the_result_that_it_was_met_in() -> None:
    hub, evaluator = Hub(1), Scripted([EVALUATION])
    remarks = [["no compiler"], ["no room"], ["no room to save"]]
    evaluator.warnings = lambda: remarks.pop(0)  # type: ignore[attr-defined]
    for message in (task(7), Stop(0, 5.0)):
        hub.controller().send(1, message)
    _, (ready, first, second, result, third, left) = served(evaluator, hub)
    assert [first, second, third] == [Warned(PLACE, text) for text in ("no compiler", "no room", "no room to save")]
    assert isinstance(ready, Ready) and isinstance(result, Result) and left == Left()


def test_an_evaluation_is_saved_when_stop_comes_in_its_middle() -> None:
    hub = Hub(1)
    evaluator = Scripted([EVALUATION], looks=3, meanwhile=lambda: hub.controller().send(1, Stop(75, 2.5)))
    hub.controller().send(1, task(7))
    evaluator.ready = lambda timeout: Loaded(FACTS, SOFTWARE)  # type: ignore[method-assign]
    exit_code, said = served(evaluator, hub)
    assert exit_code == 75
    assert said == [Ready(PLACE, FACTS, SOFTWARE), Left()]
    assert evaluator.notes == ["start 7", "save within 2.5", "close"]


@pytest.mark.parametrize(("looks", "told"), [(2, [7, 8, 9]), (3, [])])
def test_tasks_that_come_while_one_is_evaluated_wait_their_turn(looks: int, told: list[int]) -> None:
    """Every look takes in a message; the third would be Stop, after which nothing more is begun."""
    hub, evaluator = Hub(1), Scripted([EVALUATION, CRASH, EVALUATION], looks)
    evaluator.ready = lambda timeout: Loaded(FACTS, SOFTWARE)  # type: ignore[method-assign]
    for message in (task(7), task(8), task(9), Stop(0, 5.0)):
        hub.controller().send(1, message)
    _, said = served(evaluator, hub)
    assert [message.individual for message in said if isinstance(message, Result)] == told
    assert evaluator.notes == [*(f"start {individual}" for individual in told or [7]), "save within 5", "close"]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (EVALUATION, EVALUATION),
        (CRASH, CRASH),
        (
            replace(EVALUATION, accuracies=(0.5, math.nan)),
            Failure(FailureKind.NAN, "expected finite accuracies from the evaluator, got 2: 0.5 nan"),
        ),
        (
            replace(EVALUATION, accuracies=(92.5, 0.5)),
            Failure(
                FailureKind.ERROR,
                "expected 2 accuracies from 0 to 1 from the evaluator, one a seed, got 2: 92.5 0.5",
            ),
        ),
        (
            replace(EVALUATION, accuracies=(0.5,)),
            Failure(FailureKind.ERROR, "expected 2 accuracies from 0 to 1 from the evaluator, one a seed, got 1: 0.5"),
        ),
        (0.5, Failure(FailureKind.ERROR, "expected an Evaluation or a Failure from the evaluator, got float")),
    ],
)
def test_what_is_no_answer_to_the_task_is_a_failure(outcome: Outcome, expected: Outcome) -> None:
    hub = Hub(1)
    hub.controller().send(1, task(7))
    hub.controller().send(1, Stop(0, 5.0))
    _, said = served(Scripted([outcome]), hub)
    assert [message.outcome for message in said if isinstance(message, Result)] == [expected]


def test_a_fault_of_a_plugin_is_told_once_and_the_worker_waits_for_stop() -> None:
    hub, evaluator = Hub(1), Scripted()

    def start(task: Task) -> None:
        hub.controller().send(1, Stop(1, 5.0))
        raise PluginFault("plugin 'x': evaluator 'y': `start` raised ValueError: no (x.py:3)")

    evaluator.start = start  # type: ignore[method-assign]
    hub.controller().send(1, task(7))
    exit_code, (ready, broke, left) = served(evaluator, hub)
    assert exit_code == 1 and isinstance(ready, Ready) and left == Left()
    assert isinstance(broke, Broke) and broke.place == PLACE
    assert broke.reason == "plugin 'x': evaluator 'y': `start` raised ValueError: no (x.py:3)"
    assert broke.traceback.startswith("Traceback") and broke.traceback.rstrip().endswith(broke.reason)
    assert evaluator.notes == ["save within 5", "close"]


def test_a_result_that_stop_crosses_is_sent_first() -> None:
    hub, evaluator = Hub(1), Scripted([EVALUATION])
    hub.controller().send(1, task(7))
    hub.controller().send(1, Stop(75, 2.5))
    _, said = served(evaluator, hub)
    assert [type(message) for message in said] == [Ready, Result, Left]


def test_stop_is_heard_while_the_data_are_loaded() -> None:
    hub, evaluator = Hub(1), Scripted(looks=10**9)
    hub.controller().send(1, Stop(75, 2.5))
    assert served(evaluator, hub) == (75, [Left()])
    assert evaluator.notes == ["save within 2.5", "close"]


def test_a_worker_that_cannot_work_says_why_and_waits_for_stop() -> None:
    hub, evaluator = Hub(1), Scripted(refusal="there are no images")
    hub.controller().send(1, Stop(2, 2.5))
    assert served(evaluator, hub) == (2, [Refused(PLACE, "there are no images"), Left()])


@pytest.mark.parametrize("moment", ["start", "poll"])
def test_a_worker_that_cannot_go_on_says_why_and_begins_nothing_more(moment: str) -> None:
    hub, evaluator = Hub(1), Scripted([EVALUATION])
    remarks: list[list[str]] = [[], [], ["starting a trainer is tried again"], []]
    evaluator.warnings = lambda: remarks.pop(0)  # type: ignore[attr-defined]
    calls = iter([getattr(evaluator, moment)])

    def once(given: object) -> object:
        for call in calls:
            return call(given)
        raise EvaluatorRefused("the GPU has gone", passes=True)

    setattr(evaluator, moment, once)
    for message in (task(7), task(8), task(9), Stop(75, 2.5)):
        hub.controller().send(1, message)
    exit_code, said = served(evaluator, hub)
    assert exit_code == 75
    assert [type(message) for message in said] == [Ready, Result, Warned, Refused, Left]
    assert said[3] == Refused(PLACE, "the GPU has gone", passes=True)
    assert "start 9" not in evaluator.notes and evaluator.notes[-1] == "close"


def test_warnings_that_fail_in_the_end_hide_no_refusal() -> None:
    hub, evaluator = Hub(1), Scripted(refusal="there are no images")

    def warnings() -> list[str]:
        raise PluginFault("odd")

    evaluator.warnings = warnings  # type: ignore[attr-defined]
    hub.controller().send(1, Stop(2, 2.5))
    assert served(evaluator, hub) == (2, [Refused(PLACE, "there are no images"), Left()])


def test_the_evaluator_is_closed_whatever_breaks() -> None:
    hub, evaluator = Hub(1), Scripted()  # has no outcome to give
    hub.controller().send(1, task(7))
    with pytest.raises(IndexError):
        served(evaluator, hub)
    assert evaluator.notes == ["start 7", "close"]
