"""Whether workers are still there: each says so now and then, whatever it does; the controller counts their silence.

    Audible      the worker's end of the transport: says Alive where nothing else has been said for a while
    Attention    the controller's ear: which workers that owe something have been silent for longer than `patience`

Nothing else tells that a rank is stopped, swapped out or cut off: MPI goes on waiting for it. Silence is counted
in time in which the controller was listening (`clocks.Attentive`), so that a job that was suspended as a whole, or a
controller that alone stood still, takes no worker for silent. What follows from silence is the controller's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from hpcnas.job.clocks import Attentive
from hpcnas.job.transport import WorkerEnd
from hpcnas.messages import Alive, FromWorker, ToWorker

_LEAST = 30.0  # seconds; a rank that ends a trainer which does not end by itself may be silent for half as long
_LONGEST_LOOK = 1.0  # seconds counted between two looks, at most: for the rest of them the controller stood still


def patience(hang_timeout: float) -> float:
    """Seconds that a worker may say nothing, for that --hang-timeout."""
    return max(hang_timeout, _LEAST)


class Audible:
    """WorkerEnd of a worker that looks for messages often while it works, and says that it is alive as it does."""

    def __init__(self, end: WorkerEnd, patience: float, now: Callable[[], float] = time.monotonic) -> None:
        """`patience` is the controller's, in seconds."""
        self._end = end
        self._every = patience / 4
        self._now = now
        self._spoke = now()

    def send(self, message: FromWorker) -> None:
        self._spoke = self._now()
        self._end.send(message)

    def receive(self, timeout: float) -> ToWorker | None:
        if self._now() - self._spoke >= self._every:
            self.send(Alive())
        return self._end.receive(timeout)


class Attention:
    """Which workers are silent. A worker that is heard is silent no longer."""

    def __init__(self, workers: Iterable[int], patience: float, now: Callable[[], float] = time.monotonic) -> None:
        """`patience` is in seconds; where it is infinite, no worker is ever silent."""
        self.patience = patience
        self.silent: set[int] = set()
        self._clock = Attentive(min(_LONGEST_LOOK, patience / 8), now)
        self._since = dict.fromkeys(workers, 0.0)  # when a worker was heard, or began to owe an answer
        self._looked = 0.0

    def heard(self, worker: int) -> bool:
        """Something has come from the worker; whether it had been silent."""
        self._since[worker] = self._clock()
        if worker not in self.silent:
            return False
        self.silent.discard(worker)
        return True

    def expect(self, worker: int) -> None:
        """A worker that had nothing to say is given something to do."""
        self._since[worker] = self._clock()

    def due(self) -> bool:
        """Whether it is time for another look; to be asked at every turn, since time passes by this alone."""
        return self._clock() - self._looked >= self.patience / 8

    def look(self, owing: Iterable[int]) -> list[int]:
        """Those of the workers that owe something which have just become silent, in order."""
        self._looked = now = self._clock()
        new = sorted(
            worker for worker in owing if worker not in self.silent and now - self._since[worker] > self.patience
        )
        self.silent.update(new)
        return new
