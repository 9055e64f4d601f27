"""Feeds the trackers of a job: each from a queue, in a thread of its own, so that none of them holds up the run.

    resume, log ─► queue ─► thread ─► tracker        a queue holds MOST entries; what comes then is dropped, and said

A tracker that fails costs a warning. What was on its way is sent again after RETRY seconds, until the job ends; then a
tracker has some seconds to take what is left, and is left behind. So one that hangs costs the run that long.
Knows neither searches nor retrainings.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hpcnas.tracking.tracker import Entry, Past, Tracker

MOST = 10_000  # entries that wait for a tracker
BATCH = 500  # entries that it gets at once
PAUSE = 0.5  # seconds between two batches
RETRY = 30.0  # seconds after a failure
PATIENCE = 30.0  # seconds to take what is left at the end of a run
HASTE = 10.0  # likewise where the job ends before it, perhaps because its time is up
LEAST = 2.0  # likewise at the least
_logger = logging.getLogger("hpcnas")


class Trackers:
    """All trackers of a job; there may be none, which costs nothing."""

    def __init__(self, trackers: Sequence[Tracker], grace: float = math.inf) -> None:
        """`grace`: seconds that the job has for its end."""
        self._grace = grace
        self._threads = [_Thread(tracker) for tracker in trackers]

    def __bool__(self) -> bool:
        return bool(self._threads)

    def resume(self, past: Past) -> None:
        """A series begins or goes on: its past is sent to trackers that lack it. To be called before its entries."""
        for thread in self._threads:
            thread.resume(past)

    def log(self, entry: Entry) -> None:
        """Sends an entry; returns at once."""
        for thread in self._threads:
            thread.log(entry)

    def close(self, complete: bool) -> None:
        """Ends all of them, and says what was lost; `complete`: whether the run ends too."""
        deadline = time.monotonic() + patience(complete, self._grace)
        for thread in self._threads:
            thread.end(complete)
        for thread in self._threads:
            thread.wait(max(0.0, deadline - time.monotonic()))
        self._threads = []


def patience(complete: bool, grace: float) -> float:
    """Seconds in which trackers may take what is left: of the time for the job's end no more than half."""
    return min(PATIENCE if complete else HASTE, max(LEAST, grace / 2))


class _Thread:
    """One tracker, its queue and its thread."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._changed = threading.Condition()
        self._waiting: deque[Past | Entry] = deque()
        self._dropped = 0
        self._ending: bool | None = None  # whether the run is complete, once the job ends
        self._last_try = False  # whether what is sent now is sent after that
        self._known: dict[str, Mapping[str, int]] = {}  # series → what the tracker has of it
        self._problem: str | None = None  # what it failed with last
        self._thread = threading.Thread(target=self._run, name=f"tracker {tracker.name}", daemon=True)
        self._thread.start()

    # ── the run's side ──────────────────────────────────────────────────────────────────────────────────────────────
    def resume(self, past: Past) -> None:
        with self._changed:
            self._waiting.append(past)
            self._changed.notify()

    def log(self, entry: Entry) -> None:
        with self._changed:
            dropped = len(self._waiting) >= MOST
            first, self._dropped = dropped and not self._dropped, self._dropped + dropped
            if not dropped:
                self._waiting.append(entry)
                self._changed.notify()
        if first:
            _logger.warning(
                "%s does not keep up: %d entries wait, and what comes now is dropped; the run's own files have it",
                self._tracker.name, MOST,
            )  # fmt: skip

    def end(self, complete: bool) -> None:
        with self._changed:
            self._ending = complete
            self._changed.notify()

    def wait(self, seconds: float) -> None:
        self._thread.join(seconds)
        hangs = " does not answer, and is left behind" if self._thread.is_alive() else ""
        with self._changed:
            left = sum(1 if isinstance(item, Entry) else len(item.steps) for item in self._waiting)
            lost, self._dropped = left + self._dropped, 0
        if hangs or lost:
            told = f": up to {lost:,} entries did not get there" if lost else ""
            _logger.warning("%s%s%s", self._tracker.name, hangs, told)

    # ── the tracker's side ──────────────────────────────────────────────────────────────────────────────────────────
    def _run(self) -> None:
        while self._wait_for_more():
            batch = self._first()
            if not self._try(batch):
                continue
            with self._changed:
                for _ in batch:
                    self._waiting.popleft()
        try:
            self._tracker.close(bool(self._ending))
        except Exception as error:  # a library of others can raise anything
            self._warn(error)

    def _wait_for_more(self) -> bool:
        """Waits until there is something to send; whether there is: not so at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending is not None, RETRY if self._problem is not None else PAUSE)
            self._changed.wait_for(lambda: self._waiting or self._ending is not None)
            given_up = self._problem is not None and self._last_try
            self._last_try = self._ending is not None
            return bool(self._waiting) and not given_up

    def _first(self) -> list[Past | Entry]:
        """The first of what waits: a Past alone, or entries up to the next one."""
        with self._changed:
            found: list[Past | Entry] = []
            for item in self._waiting:
                if len(found) == BATCH or (found and isinstance(item, Past)):
                    break
                found.append(item)
                if isinstance(item, Past):
                    break
            return found

    def _try(self, batch: list[Past | Entry]) -> bool:
        """Sends it; whether that went well."""
        try:
            self._send(batch)
        except Exception as error:  # a library of others can raise anything
            self._warn(error)
            return False
        if self._problem is not None:
            self._problem = None
            _logger.info("%s takes entries again", self._tracker.name)
        return True

    def _send(self, batch: list[Past | Entry]) -> None:
        if isinstance(past := batch[0], Past):
            self._known[past.series] = self._tracker.resume(past.series, past.step)
            self._log(past.entries())
            return
        entries = [item for item in batch if isinstance(item, Entry)]
        if self._problem is not None:  # some of them may have got there
            for series in {entry.series for entry in entries}:
                first = min(entry.step for entry in entries if entry.series == series)
                self._known[series] = self._tracker.resume(series, first - 1)
        self._log(entries)

    def _log(self, entries: Iterable[Entry]) -> None:
        """Sends what the tracker does not have."""
        batch: list[Entry] = []
        for entry in entries:
            known = self._known.get(entry.series, {})
            values = {
                name: value
                for name, value in entry.values.items()
                if not math.isnan(value) and entry.step > known.get(name, 0)
            }
            if values or entry.last:
                batch.append(replace(entry, values=values))
            if len(batch) == BATCH:
                self._tracker.log(batch)
                batch = []
        if batch:
            self._tracker.log(batch)

    def _warn(self, error: Exception) -> None:
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        if problem != self._problem:
            _logger.warning("%s: %s; the run goes on, and this is tried again", self._tracker.name, problem)
        self._problem = problem
