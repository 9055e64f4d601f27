"""What a tracker is: it gets the numbers of a run as they arise, for people to watch in a program of its own.

    Past (what is known so far) ─► Entry ─► Entry …        one series of steps for a search, one for each seed

A run knows its own past: a search has every evaluation on the disk, a retraining every row of its history up to the
step that it was saved after. So a tracker is told at the start of a job from which step on a series begins anew, and
answers what it has; what it lacks is sent to it again. It is called from one thread, and may raise anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Entry:
    """The numbers of one step of a series, by their names, such as `validation/accuracy`."""

    series: str
    step: int  # from 1; what is counted is the series' own
    time: float  # when they arose: seconds since 1970, UTC
    values: Mapping[str, float]
    last: bool = False  # whether the series ends with it


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a series when a job begins: arrays of shape (rows,), NaN where there is no number."""

    series: str
    step: int  # the last one that stands: numbers of later steps are those of a job that was cut off
    steps: np.ndarray  # int64
    times: np.ndarray  # float64, seconds since 1970, UTC
    values: Mapping[str, np.ndarray]  # float64
    last: bool = False  # whether the series is complete

    def entries(self) -> Iterator[Entry]:
        """Row by row."""
        count = len(self.steps)
        for row in range(count):
            values = {name: float(column[row]) for name, column in self.values.items()}
            last = self.last and row == count - 1
            yield Entry(self.series, int(self.steps[row]), float(self.times[row]), values, last)


@dataclass(frozen=True, slots=True)
class About:
    """What a run is, for trackers that show it beside the curves."""

    run: str  # the run's own name, 32 hexadecimal digits
    name: str  # what people call it
    names: tuple[str, ...]  # of all numbers that its series may have
    settings: Mapping[str, str]  # `section.key` → value

    @classmethod
    def of(
        cls, run: str, name: str, names: tuple[str, ...], facts: Mapping[str, object],
        sections: Mapping[str, Mapping[str, object]],
    ) -> About:  # fmt: skip
        """From facts and from settings by their sections, without those that have no value; in UTF-8, whatever bytes
        names of files have."""
        values = dict(facts)
        for section, settings in sections.items():
            values |= {f"{section}.{key}": value for key, value in settings.items()}
        told = {key: _utf8(str(value)) for key, value in values.items() if value is not None}
        return cls(run, _utf8(name), names, told)


def _utf8(text: str) -> str:
    return text.encode(errors="replace").decode()


class Tracker(Protocol):
    """Where numbers go. Any method may raise, and may take long."""

    name: str  # for messages

    def resume(self, series: str, step: int) -> Mapping[str, int]:
        """Opens a series, which goes on after `step`: what the tracker has of later steps is to be forgotten. Returns
        up to which step it has each number."""
        ...

    def log(self, entries: Sequence[Entry]) -> None:
        """Takes entries of series that are open; they can be seen when it returns. Values are never NaN."""
        ...

    def close(self, complete: bool) -> None:
        """The job ends; `complete`: whether the run does too."""
        ...


def last_steps(known: Mapping[str, int], step: int) -> dict[str, int]:
    """`known` of a tracker that has forgotten what came after `step`."""
    return {name: min(last, step) for name, last in known.items()}
