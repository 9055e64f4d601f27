"""The interface of what a worker evaluates with, and the checks of its answers. No implementation.

`trainer_process` trains, in a child process; `synthetic` computes. Ranks load only the one they use (D8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hpcnas import answers
from hpcnas.config.data_spec import DataFacts
from hpcnas.messages import Evaluation, Failure, FailureKind, Outcome, Task

SECONDS = ("setup_seconds", "training_seconds", "validation_seconds")


class EvaluatorRefused(Exception):
    """Evaluations cannot begin, or cannot go on: one line. `passes`: the cause may pass, so another job may succeed;
    else a person must remove it."""

    def __init__(self, reason: str, passes: bool = False) -> None:
        super().__init__(reason)
        self.passes = passes


@dataclass(frozen=True)
class Loaded:
    """The evaluator has its data and its device. Software maps names to versions; `slower` says why it evaluates more
    slowly than it could, and is empty where it does not."""

    facts: DataFacts
    software: Mapping[str, str]
    slower: str = ""


class Evaluator(Protocol):
    """What a worker evaluates tasks with, one at a time."""

    def ready(self, timeout: float) -> Loaded | None:
        """What the evaluations depend on; None if that is not known within `timeout` seconds.

        Raises EvaluatorRefused."""
        ...

    def start(self, task: Task) -> None:
        """Begins an evaluation; the one before must have ended. Raises EvaluatorRefused, as `poll` does."""
        ...

    def poll(self, timeout: float) -> Outcome | None:
        """The outcome of what was started, with an accuracy from 0 to 1 for each of the task's seeds; None if it is
        still running after `timeout` seconds. Raises EvaluatorRefused where this worker cannot evaluate any more: the
        task then goes to another one, as if it had not begun."""
        ...

    def save(self, timeout: float) -> None:
        """Lets what runs be saved, to be continued by another attempt, for `timeout` seconds at most."""
        ...

    def close(self) -> None:
        """Ends whatever runs, at once."""
        ...


def warnings(evaluator: Evaluator) -> list[str]:
    """Faults since the last call that evaluations have gone on in spite of, a line each. An evaluator with such lines
    has a method `warnings`; one of a plugin needs none."""
    take: Callable[[], list[str]] | None = getattr(evaluator, "warnings", None)
    return [] if take is None else take()


def described(evaluator: Evaluator) -> str:
    """What messages about an evaluator's answers call it: its `whose`, if it has one, as those of plugins."""
    return getattr(evaluator, "whose", "the evaluator")


def checked(outcome: Outcome, task: Task, whose: str = "the evaluator") -> Outcome:
    """An evaluator's answer to a task, in Python's numbers; a Failure, which names `whose`, where it is no answer."""
    if isinstance(outcome, Failure):
        kind: object = outcome.kind
        known = FailureKind(kind) if isinstance(kind, int) and kind in set(FailureKind) else FailureKind.ERROR
        message: object = outcome.message
        return Failure(known, message if isinstance(message, str) else answers.told(message))
    if not isinstance(outcome, Evaluation):
        message = f"expected an Evaluation or a Failure from {whose}, got {type(outcome).__name__}"
        return Failure(FailureKind.ERROR, message)
    found, count = _each(outcome.accuracies), len(task.seeds)
    accuracies = [number for one in found if (number := answers.real(one)) is not None]
    if len(found) == len(accuracies) == count and not all(map(math.isfinite, accuracies)):
        return Failure(FailureKind.NAN, f"expected finite accuracies from {whose}, got {_shown(found)}")
    if len(found) != count or len(accuracies) != count or not all(0.0 <= one <= 1.0 for one in accuracies):
        message = f"expected {count} accuracies from 0 to 1 from {whose}, one a seed, got {_shown(found)}"
        return Failure(FailureKind.ERROR, message)
    parameters = answers.whole(outcome.parameters)
    if parameters is None:
        message = f"expected a whole number of parameters from {whose}, got {answers.told(outcome.parameters)}"
        return Failure(FailureKind.ERROR, message)
    seconds = {name: answers.amount(getattr(outcome, name)) for name in SECONDS}
    for name, value in seconds.items():
        if value is None:
            said = answers.told(getattr(outcome, name))
            message = f"expected {name} from 0 to {answers.LARGEST:g} from {whose}, got {said}"
            return Failure(FailureKind.ERROR, message)
    return Evaluation(tuple(accuracies), parameters, *[value for value in seconds.values() if value is not None])


def _each(accuracies: object) -> list[object]:
    """What has been given, one by one; what has no parts is one."""
    try:
        return list(accuracies) if isinstance(accuracies, Iterable) else [accuracies]
    except Exception:  # an array or a tensor without axes, or code of others
        return [accuracies]


def _shown(accuracies: Sequence[object]) -> str:
    plain = map(answers.plain, accuracies[:20])
    texts = (f"{one:g}" if isinstance(one, float) else answers.told(one) for one in plain)
    return f"{len(accuracies)}: {' '.join(texts):.200}"
