"""What a worker evaluates with: the interface, and nothing that an implementation needs.

`evaluator` trains, in a child process; `synthetic` computes. Ranks load only the one they use (D8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hpcnas.messages import DataFacts, Evaluation, Failure, FailureKind, Outcome, Task


class EvaluatorRefused(Exception):
    """Evaluations cannot begin for a reason that a person must mend: one line."""


@dataclass(frozen=True)
class Loaded:
    """The evaluator has its data and its device. Software maps names to versions; `slower` says why it evaluates in a
    slower way than it might, and is empty where it does not."""

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
        """Begins an evaluation; the one before must have ended."""
        ...

    def poll(self, timeout: float) -> Outcome | None:
        """The outcome of what was started, with an accuracy from 0 to 1 for each of the task's seeds; None if it is
        still running after `timeout` seconds."""
        ...

    def save(self, timeout: float) -> None:
        """Lets what runs be saved, to be continued by another attempt, for `timeout` seconds at most."""
        ...

    def close(self) -> None:
        """Ends whatever runs, at once."""
        ...


def warnings(evaluator: Evaluator) -> list[str]:
    """What has gone wrong since the last look that the evaluations can live with, a line each. An evaluator that has
    such lines has a method `warnings`; those of plugins need none."""
    take: Callable[[], list[str]] | None = getattr(evaluator, "warnings", None)
    return [] if take is None else take()


def checked(outcome: Outcome, task: Task) -> Outcome:
    """What an evaluator has said of a task, or the failure that it is where that is no answer to it."""
    if isinstance(outcome, Failure):
        return outcome
    if not isinstance(outcome, Evaluation):
        message = f"expected an Evaluation or a Failure from the evaluator, got {type(outcome).__name__}"
        return Failure(FailureKind.ERROR, message)
    found, count = outcome.accuracies, len(task.seeds)
    if len(found) == count and any(not math.isfinite(accuracy) for accuracy in found):
        return Failure(FailureKind.NAN, f"expected finite accuracies from the evaluator, got {_shown(found)}")
    if len(found) != count or not all(0.0 <= accuracy <= 1.0 for accuracy in found):
        message = f"expected {count} accuracies from 0 to 1 from the evaluator, one a seed, got {_shown(found)}"
        return Failure(FailureKind.ERROR, message)
    return outcome


def _shown(accuracies: Sequence[float]) -> str:
    return f"{len(accuracies)}: {' '.join(f'{accuracy:g}' for accuracy in accuracies):.200}"
