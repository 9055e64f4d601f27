"""A search that is looked at again and again: read once, then followed by its journal (D1).

    population.h5 ─► read, once ─┐
    journal ── what has come ────┴─► the run, up to its last record ─► views

A look costs what has come since the last one. The file is read anew only where the journal does not go on from where
the run stands, which is after a repair, a merge, or a long time without a look. A run that is damaged, or whose file
server is away, stays as it was seen last, with what is wrong as a problem.

Safe for threads where every use is within `looked`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from hpcnas.analysis import job_state
from hpcnas.analysis.runs import AnalysisError
from hpcnas.search import recovery
from hpcnas.search.run_file import StoredRun
from hpcnas.storage import journal
from hpcnas.storage.folder import StoreError
from hpcnas.storage.journal import JournalError
from hpcnas.storage.journal_tail import JournalTail, Replaced

Value = TypeVar("Value")
PATIENCE = 30.0  # a value that took a time is kept for so many times that, and is then made anew


class FollowedSearch:
    """The search in a folder, as its files had it at the last look."""

    def __init__(self, folder: Path) -> None:
        """Reads it. Raises AnalysisError where it cannot be read at all."""
        self.folder = folder
        self.stored: StoredRun
        self.problems: list[str] = []
        self.state, self.running = "", False
        self._lock = threading.RLock()
        self.mutations: dict[int, int] = {}  # individual → how many mutations led to it, which never changes
        self._kept: dict[str, tuple[int, float, float, Any]] = {}  # name → changes, when, how long it took, the value
        self._changes = 0
        self._tail: JournalTail | None = None
        self._file: tuple[int, ...] | None = None
        self._began_reading = self._reading_took = 0.0
        self._read()

    @property
    def version(self) -> str:
        """A word that changes with what the files of the run say."""
        return f"{self.stored.run[:8]}-{self._changes}"

    @contextmanager
    def looked(self) -> Iterator[FollowedSearch]:
        """The run as it is now; nobody else looks meanwhile."""
        with self._lock:
            self._look()
            yield self

    def cached(self, name: str, compute: Callable[[], Value]) -> Value:
        """A value of that name, made anew where the run has changed."""
        return self._value(name, compute, 0.0)

    def lately(self, name: str, compute: Callable[[], Value]) -> Value:
        """Likewise, but what took long is kept for some times that long, so that a page which is open spends a
        thirtieth of the time at most on it. It may be of a time before the last look: ids in it are still those of
        individuals, but it must not have a place for each."""
        return self._value(name, compute, PATIENCE)

    def _value(self, name: str, compute: Callable[[], Value], patience: float) -> Value:
        kept, now = self._kept.get(name), time.monotonic()
        if kept is not None:
            changes, made, took, value = kept
            if changes == self._changes or now - made < patience * took:
                found: Value = value
                return found
        found = compute()
        self._kept[name] = self._changes, time.monotonic(), time.monotonic() - now, found
        return found

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _look(self) -> None:
        try:
            if self._tail is None:
                due = time.monotonic() - self._began_reading > PATIENCE * self._reading_took
                if due and self._file != _identity(self.folder):
                    self._read()
            else:
                self._take_in()
        except (AnalysisError, JournalError, StoreError) as error:
            self._fail(str(error))
        self.state, self.running = job_state.of_search(self.folder, self.stored, time.time())

    def _take_in(self) -> None:
        """What the journal has got since the last look."""
        assert self._tail is not None, "somebody has read the journal"
        try:
            contents = self._tail.more()
        except Replaced:
            self._begin_anew()
            return
        if contents.records:
            recovery.replay(self.stored, contents, self._tail.path)
            self._changes += 1

    def _begin_anew(self) -> None:
        """The journal has begun anew: goes on with it where it goes on from here, else reads the whole run."""
        path = self.folder / "journal"
        contents, damage = journal.scan(path)
        last = contents.base + len(contents.records)
        if damage or contents.run != self.stored.run or not contents.base <= self.stored.records <= last:
            self._read()
            return
        tail = JournalTail(path, contents)
        before = self.stored.records
        recovery.replay(self.stored, contents, path)
        self._tail, self.problems = tail, []
        self._file = _identity(self.folder)
        self._changes += self.stored.records != before

    def _read(self) -> None:
        """All of it."""
        self._file, self._tail, self._began_reading = _identity(self.folder), None, time.monotonic()
        try:
            stored, self.problems = recovery.salvage(self.folder)
        except StoreError as error:
            raise AnalysisError(str(error)) from error
        finally:
            self._reading_took = time.monotonic() - self._began_reading
        self.stored = stored
        self._changes += 1
        self._kept.clear()
        self.mutations.clear()
        if not self.problems:
            try:
                contents, _ = journal.scan(self.folder / "journal")
                last = contents.base + len(contents.records)
                if contents.run == stored.run and contents.base <= stored.records <= last:
                    self._tail = JournalTail(self.folder / "journal", contents)
                    recovery.replay(stored, contents, self.folder / "journal")
            except (JournalError, StoreError) as error:
                self._fail(str(error))
        self.state, self.running = job_state.of_search(self.folder, stored, time.time())

    def _fail(self, problem: str) -> None:
        """The run stays as it was seen last, until its files change."""
        if self.problems != [problem]:
            self.problems = [problem]
            self._changes += 1
        self._tail, self._file = None, _identity(self.folder)


def _identity(folder: Path) -> tuple[int, ...]:
    """Changes when population.h5 or the journal does."""
    found: list[int] = []
    for name in ("population.h5", "journal"):
        try:
            status = os.stat(folder / name)
            found += (status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError:
            found += (0, 0, 0)
    return tuple(found)
