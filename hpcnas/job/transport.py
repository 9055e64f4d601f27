"""Typed messages between one controller and its workers: what the two ends are.

The controller and the workers see only `send` and `receive`; nothing here knows what the messages mean. The ends over
MPI are in `world`, those within one process in `hub`.
"""

from __future__ import annotations

from typing import Protocol

from hpcnas.messages import FromWorker, ToWorker


class ControllerEnd(Protocol):
    """The controller's end. Workers are named by their ranks, 1 and up."""

    def send(self, worker: int, message: ToWorker) -> None:
        """Hands a message over without waiting for the worker to take it."""
        ...

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        """Everything that has arrived, with its sender; waits up to `timeout` seconds for a first message."""
        ...


class WorkerEnd(Protocol):
    """A worker's end."""

    def send(self, message: FromWorker) -> None:
        """Hands a message to the controller."""
        ...

    def receive(self, timeout: float) -> ToWorker | None:
        """The next message; None if none came within `timeout` seconds."""
        ...
