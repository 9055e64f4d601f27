"""The worker's loop: take a task, evaluate it, send the result; stop when told to (§3.2).

It decides nothing: retries, seeds and the order of work are the controller's. It looks for the controller's messages
whatever else it does, and has the training under way saved before it leaves.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import deque
from collections.abc import Callable
from typing import NoReturn

from hpcnas.config.measures import ACCURACY, FitnessMeasure
from hpcnas.job.clocks import Dated
from hpcnas.job.transport import WorkerEnd
from hpcnas.messages import Broke, Left, Outcome, Place, Ready, Refused, Result, Stop, Task, Warned
from hpcnas.plugins import PluginFault
from hpcnas.training.evaluator import Evaluator, EvaluatorRefused, checked, described, warnings

_ATTENTION = 0.05  # seconds between looks at the controller's messages while something else goes on


class _Stopped(Exception):
    """The controller has said Stop."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop


class _Inbox:
    """Tasks that have come and are not begun: the controller sends several where one takes no time."""

    def __init__(self, end: WorkerEnd) -> None:
        self._end = end
        self._tasks: deque[Task] = deque()

    def look(self, timeout: float = 0.0) -> None:
        """Takes in the next message; raises _Stopped, for which nothing waits."""
        message = self._end.receive(timeout)
        if isinstance(message, Stop):
            raise _Stopped(message)
        if message is not None:
            self._tasks.append(message)

    def next(self) -> Task:
        """The task to begin with, as soon as there is one; raises _Stopped."""
        while not self._tasks:
            self.look(timeout=60.0)
        return self._tasks.popleft()

    def wait_for_stop(self) -> NoReturn:
        """Begins nothing more; raises _Stopped."""
        while True:
            self.look(timeout=60.0)


def run(end: WorkerEnd, place: Place, evaluator: Evaluator, measure: FitnessMeasure = ACCURACY) -> int:
    """Serves the controller until it says Stop; returns the exit code that it named. Closes the evaluator. `measure` is
    what the fitness is."""
    inbox, now = _Inbox(end), Dated()
    with contextlib.closing(evaluator):
        try:
            _serve(end, inbox, place, evaluator, measure, now)
        except _Stopped as stopped:
            stop = stopped.stop
            evaluator.save(stop.save_seconds)
            _warn_at_last(end, place, evaluator)
    end.send(Left())
    return stop.exit_code


def _serve(
    end: WorkerEnd, inbox: _Inbox, place: Place, evaluator: Evaluator, measure: FitnessMeasure, now: Callable[[], float]
) -> NoReturn:
    """Evaluates task after task until it is stopped, or as long as the evaluator can; raises _Stopped."""
    try:
        ready = _greeting(end, inbox, place, evaluator)
        end.send(ready)
        _warn(end, place, evaluator)
        while True:
            task, started = inbox.next(), now()
            outcome = _evaluated(end, inbox, place, evaluator, task)
            outcome = checked(outcome, task, described(evaluator), measure, ready.facts.classes)
            result = Result(task.individual, task.attempt, place, started, now(), outcome, task.first)
            _warn(end, place, evaluator)
            end.send(result)
    except EvaluatorRefused as refusal:
        _warn_at_last(end, place, evaluator)
        end.send(Refused(place, str(refusal), refusal.passes))
    except PluginFault as fault:
        end.send(Broke(place, str(fault), "".join(traceback.format_exception(fault))))
    inbox.wait_for_stop()


def _warn(end: WorkerEnd, place: Place, evaluator: Evaluator) -> None:
    """Hands on the evaluator's warnings."""
    for text in warnings(evaluator):
        end.send(Warned(place, text))


def _warn_at_last(end: WorkerEnd, place: Place, evaluator: Evaluator) -> None:
    """Hands on the last of it; a fault in the code of an evaluator that is not needed any longer is ignored."""
    with contextlib.suppress(PluginFault):
        _warn(end, place, evaluator)


def _greeting(end: WorkerEnd, inbox: _Inbox, place: Place, evaluator: Evaluator) -> Ready:
    """What the controller is told when the evaluator is ready. Raises EvaluatorRefused."""
    while (loaded := evaluator.ready(_ATTENTION)) is None:
        _warn(end, place, evaluator)
        inbox.look()
    return Ready(place, loaded.facts, loaded.software, loaded.slower)


def _evaluated(end: WorkerEnd, inbox: _Inbox, place: Place, evaluator: Evaluator, task: Task) -> Outcome:
    """What the evaluator says of a task."""
    evaluator.start(task)
    while (outcome := evaluator.poll(_ATTENTION)) is None:
        _warn(end, place, evaluator)
        inbox.look()
    return outcome
