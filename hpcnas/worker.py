"""The worker's loop: take a task, evaluate it, send the result; stop when told to (§3.2).

It decides nothing: retries, seeds and the order of work are the controller's. It stays attentive to the controller
while an evaluation runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from hpcnas.evaluator import Evaluator, EvaluatorRefused
from hpcnas.messages import Place, Ready, Refused, Result, Stop, Task
from hpcnas.transport import WorkerEnd

_ATTENTION = 0.1  # seconds between looks at the controller's messages during an evaluation


def run(end: WorkerEnd, place: Place, make_evaluator: Callable[[], Evaluator]) -> int:
    """Serves the controller until it says Stop; returns the exit code that it named."""
    try:
        evaluator = make_evaluator()
    except EvaluatorRefused as refusal:
        end.send(Refused(place, str(refusal)))
        return _wait_for_stop(end)
    try:
        end.send(Ready(place, evaluator.facts, evaluator.software))
        return _serve(end, place, evaluator)
    finally:
        evaluator.close()


def _serve(end: WorkerEnd, place: Place, evaluator: Evaluator) -> int:
    while True:
        message = end.receive(timeout=60.0)
        if isinstance(message, Stop):
            return message.exit_code
        if not isinstance(message, Task):
            continue
        started = time.time()
        evaluator.start(message)
        while (outcome := evaluator.poll(_ATTENTION)) is None:
            interruption = end.receive(timeout=0.0)
            if isinstance(interruption, Stop):
                return interruption.exit_code
        end.send(Result(message.individual, message.attempt, place, started, time.time(), outcome))


def _wait_for_stop(end: WorkerEnd) -> int:
    while True:
        message = end.receive(timeout=60.0)
        if isinstance(message, Stop):
            return message.exit_code
