"""All runs in a line each: how it stands, what is best, what it has cost.

A run that does not change costs a look at its files. What is under way is followed.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from hpcnas import __version__
from hpcnas.analysis import retraining_snapshot
from hpcnas.analysis.runs import AnalysisError
from hpcnas.dashboard import search_state
from hpcnas.dashboard.catalogue import Catalogue, RunEntry
from hpcnas.job import terminal
from hpcnas.storage.folder import StoreError

_FILES = ("population.h5", "journal", "retrain.h5", "status", "lock", "log")
BUDGET = 1.0  # seconds of reading in one look, or a run more: who looks at many runs looks again
AGAIN = 60.0  # seconds after which a run that is neither complete nor at work is looked at again


class Overview:
    """The rows of the runs of a catalogue, each kept until its files change. Safe for threads."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._rows: dict[Path, tuple[tuple[int, ...], float, dict[str, Any]]] = {}

    def now(self) -> dict[str, Any]:
        """As JSON has it."""
        entries = self._catalogue.entries()
        with self._lock:
            there = {entry.folder for entry in entries}
            self._rows = {folder: row for folder, row in self._rows.items() if folder in there}
            enough = time.monotonic() + BUDGET
            rows = [self._row(entry, enough) for entry in entries]
        return {
            "time": time.time(),
            "version": __version__,
            "roots": [terminal.one_line(str(root)) for root in self._catalogue.roots],
            "problems": self._catalogue.problems,
            "runs": rows,
        }

    def _row(self, entry: RunEntry, enough: float) -> dict[str, Any]:
        """What is known of a run. From the time `enough` on nothing is read: a row stays as it was, or says that it is
        to come."""
        identity, now = _identity(entry.folder), time.monotonic()
        known = self._rows.get(entry.folder)
        if now > enough:
            return _to_come(entry) if known is None else known[2]
        if known is not None and known[0] == identity:
            row = known[2]
            if not row["running"] and (row["state"] == "complete" or now - known[1] < AGAIN):
                return row
        row = {"key": entry.key} | (self._retraining(entry) if entry.trained else self._search(entry))
        self._rows[entry.folder] = identity, now, row
        return row

    def _search(self, entry: RunEntry) -> dict[str, Any]:
        try:
            with self._catalogue.search(entry).looked() as run:
                return {"kind": "search"} | search_state.row(run)
        except (AnalysisError, StoreError) as error:
            return _damaged(entry, str(error))

    def _retraining(self, entry: RunEntry) -> dict[str, Any]:
        try:
            seen = retraining_snapshot.look(entry.folder, time.time())
        except (AnalysisError, StoreError) as error:
            return _damaged(entry, str(error))
        tested = seen.test_accuracies
        spent = [one["training_seconds"] or 0.0 for one in seen.facts["trainings"]]
        return {
            "kind": "retraining",
            "name": terminal.one_line(entry.folder.resolve().name),
            "path": terminal.one_line(str(entry.folder)),
            "state": seen.state,
            "running": seen.running,
            "time": seen.time,
            "done": seen.steps_done,
            "total": seen.steps,
            "best": sum(tested) / len(tested) if tested else None,
            "best_id": None,
            "measure": {"name": "test accuracy", "words": "test accuracy", "remark": "", "percent": True},
            "hours": sum(spent) * max(1, seen.ranks) / 3600,
            "failed": seen.diverged,
            "in_flight": 0,
            "rate": None,
            "remaining": seen.remaining,
            "began": seen.began,
            "modified": seen.saved,
            "problems": [terminal.one_line(problem) for problem in seen.problems],
        }


def _damaged(entry: RunEntry, problem: str) -> dict[str, Any]:
    """A run that cannot be read: what is wrong with it, and nothing else."""
    return _bare(entry, "damaged", "cannot be read", [terminal.one_line(problem)])


def _to_come(entry: RunEntry) -> dict[str, Any]:
    """A run that is not read yet."""
    return {"key": entry.key} | _bare(entry, "retraining" if entry.trained else "search", "being read", [])


def _bare(entry: RunEntry, kind: str, state: str, problems: list[str]) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": terminal.one_line(entry.folder.name),
        "path": terminal.one_line(str(entry.folder)),
        "state": state,
        "running": False,
        "time": time.time(),
        "problems": problems,
    }


def _identity(folder: Path) -> tuple[int, ...]:
    """Changes when a file of the run does."""
    found: list[int] = []
    for name in _FILES:
        try:
            status = os.stat(folder / name)
            found += (status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError:
            found.append(0)
    return tuple(found)
