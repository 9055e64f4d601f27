"""Clocks that are never set. The wall clock says when something was, never how long it took: people put it back and
forward.

    steady     goes on whatever happens, also while the machine sleeps          when a job ends
    Attentive  goes on only while this process looks at it                      for how long another rank is silent
    Dated      seconds since 1970 that never go back                            what is recorded

Standard library alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def steady() -> float:
    """Seconds since some moment, those in which the machine was suspended included."""
    return time.clock_gettime(_STEADY)


_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Attentive:
    """Seconds in which this process has looked at the clock again and again.

    Between two looks no more than `longest` seconds pass, whatever any other clock says: time in which the process
    itself was stopped or suspended (SIGSTOP, SLURM, a sleeping laptop), and could not have heard an answer, is not
    counted.
    """

    def __init__(self, longest: float, now: Callable[[], float] = time.monotonic) -> None:
        """`longest` is in seconds, and so is what `now` says."""
        self._longest = longest
        self._now = now
        self._looked = now()
        self._seconds = 0.0

    def __call__(self) -> float:
        now = self._now()
        self._seconds += min(max(0.0, now - self._looked), self._longest)
        self._looked = now
        return self._seconds


class Dated:
    """Seconds since 1970, UTC, by the wall clock as it was when this was made, and by `steady` since."""

    def __init__(self) -> None:
        self._offset = time.time() - steady()

    def __call__(self) -> float:
        return steady() + self._offset
