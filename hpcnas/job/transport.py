"""Typed messages between one controller and its workers: the two ends, and both of them within one process.

The controller and the workers see only `send` and `receive`; nothing here knows what the messages mean. The ends over
MPI are in `world`.
"""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import Protocol

from hpcnas.messages import Died, FromWorker, ToWorker


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


class Hub:
    """Both ends within one process, for a run without MPI and for tests."""

    def __init__(self, workers: int) -> None:
        self._to_controller: queue.SimpleQueue[tuple[int, FromWorker] | BaseException] = queue.SimpleQueue()
        self._to_worker: dict[int, queue.SimpleQueue[ToWorker]] = {
            worker: queue.SimpleQueue() for worker in range(1, workers + 1)
        }

    def controller(self) -> HubControllerEnd:
        """The controller's end."""
        return HubControllerEnd(self._to_controller, self._to_worker)

    def worker(self, rank: int) -> HubWorkerEnd:
        """The end of worker `rank`, 1 and up."""
        return HubWorkerEnd(rank, self._to_controller, self._to_worker[rank])

    def broke(self, error: BaseException) -> None:
        """Notes that a worker has broken: the controller's next `receive` raises its exception, later ones
        report that all are dead."""
        self._to_controller.put(error)
        for worker in self._to_worker:
            self._to_controller.put((worker, Died()))


@dataclass(frozen=True)
class HubControllerEnd:
    """ControllerEnd within one process."""

    _inbox: queue.SimpleQueue[tuple[int, FromWorker] | BaseException]
    _outboxes: dict[int, queue.SimpleQueue[ToWorker]]

    def send(self, worker: int, message: ToWorker) -> None:
        self._outboxes[worker].put(message)

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        arrived: list[tuple[int, FromWorker]] = []
        while True:
            try:
                item = self._inbox.get(block=not arrived and timeout > 0, timeout=timeout)
            except queue.Empty:
                return arrived
            if isinstance(item, BaseException):
                raise item
            arrived.append(item)


@dataclass(frozen=True)
class HubWorkerEnd:
    """WorkerEnd within one process."""

    rank: int
    _outbox: queue.SimpleQueue[tuple[int, FromWorker] | BaseException]
    _inbox: queue.SimpleQueue[ToWorker]

    def send(self, message: FromWorker) -> None:
        self._outbox.put((self.rank, message))

    def receive(self, timeout: float) -> ToWorker | None:
        try:
            return self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None
