"""The worker's loop: take a task, evaluate it, send the result; stop when told to (§3.2).

It decides nothing: retries, seeds and the order of work are the controller's. It stays attentive to the controller
whatever else it does, and lets what runs be saved before it leaves.
"""

from __future__ import annotations

import contextlib
import time

from hpcnas.evaluation import Evaluator, EvaluatorRefused
from hpcnas.messages import Left, Place, Ready, Refused, Result, Stop, Task
from hpcnas.transport import WorkerEnd

_ATTENTION = 0.05  # seconds between looks at the controller's messages while something else goes on


class _Stopped(Exception):
    """The controller has said Stop."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop


def run(end: WorkerEnd, place: Place, evaluator: Evaluator) -> int:
    """Serves the controller until it says Stop; returns the exit code that it named. Closes the evaluator."""
    with contextlib.closing(evaluator):
        try:
            end.send(_greeting(end, place, evaluator))
            while True:
                task = _next_task(end)
                end.send(_evaluated(end, place, evaluator, task))
        except _Stopped as stopped:
            stop = stopped.stop
            evaluator.save(stop.save_seconds)
    end.send(Left())
    return stop.exit_code


def _greeting(end: WorkerEnd, place: Place, evaluator: Evaluator) -> Ready | Refused:
    """What the controller is told when the evaluator is ready, or cannot be."""
    try:
        while (loaded := evaluator.ready(_ATTENTION)) is None:
            _look_for_stop(end)
    except EvaluatorRefused as refusal:
        return Refused(place, str(refusal))
    return Ready(place, loaded.facts, loaded.software)


def _next_task(end: WorkerEnd) -> Task:
    while True:
        message = end.receive(timeout=60.0)
        if isinstance(message, Stop):
            raise _Stopped(message)
        if message is not None:
            return message


def _evaluated(end: WorkerEnd, place: Place, evaluator: Evaluator, task: Task) -> Result:
    """The result of a task."""
    started = time.time()
    evaluator.start(task)
    while (outcome := evaluator.poll(_ATTENTION)) is None:
        _look_for_stop(end)
    return Result(task.individual, task.attempt, place, started, time.time(), outcome)


def _look_for_stop(end: WorkerEnd) -> None:
    message = end.receive(timeout=0.0)
    if isinstance(message, Stop):
        raise _Stopped(message)
