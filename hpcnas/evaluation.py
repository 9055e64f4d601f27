"""What a worker evaluates with: the interface, and nothing that an implementation needs.

`evaluator` trains, in a child process; `synthetic` computes. Ranks load only the one they use (D8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hpcnas.messages import DataFacts, Outcome, Task


class EvaluatorRefused(Exception):
    """Evaluations cannot begin for a reason that a person must mend: one line."""


@dataclass(frozen=True)
class Loaded:
    """The evaluator has its data and its device. Software maps names to versions."""

    facts: DataFacts
    software: Mapping[str, str]


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
        """The outcome of what was started; None if it is still running after `timeout` seconds."""
        ...

    def save(self, timeout: float) -> None:
        """Lets what runs be saved, to be continued by another attempt, for `timeout` seconds at most."""
        ...

    def close(self) -> None:
        """Ends whatever runs, at once."""
        ...
