"""Both ends of the transport within one process, for a run without MPI and for tests."""

from __future__ import annotations

import queue
from dataclasses import dataclass

from hpcnas.messages import Died, FromWorker, ToWorker


class Hub:
    """Both ends, and one queue each way for every worker."""

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
