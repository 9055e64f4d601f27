"""How often a trainer may fail to start before its worker gives up, and how long the worker waits in between.

    no process, or it dies before it is ready ─► pause ─► another start ─► … ─► given up

The cause of a failure may pass: a signal, too many processes, memory that others hold, a file system that is away.
"""

from __future__ import annotations

from collections.abc import Callable

PAUSES = (1.0, 4.0, 16.0)  # seconds before the second start in a row, the third, …; after the last it is given up


class Starts:
    """Counts failed starts in a row."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` gives seconds."""
        self._now = now
        self.in_vain = 0
        self._due = now()

    def failed(self) -> bool:
        """Counts a failed start; returns whether there is to be another one."""
        self.in_vain += 1
        if self.in_vain > len(PAUSES):
            return False
        self._due = self._now() + PAUSES[self.in_vain - 1]
        return True

    def succeeded(self) -> None:
        """A trainer is ready: the next failure is the first of a row."""
        self.in_vain = 0

    @property
    def pause(self) -> float:
        """Seconds until the next start; 0 or less when it is due."""
        return self._due - self._now()
