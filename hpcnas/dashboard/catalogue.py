"""Which runs there are: the folders that were given, and what lies in them now. Runs appear, go, and get their keys.

    folders ─► entries: key → folder and kind      again and again, at most every RESCAN seconds
    key ─► the search, followed · the retraining, as last read

What is open is bounded: the search that was asked for last stays, and others as long as all together have at most
MOST_OPEN individuals. A run is opened when it is asked for.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcnas.analysis import retrainings
from hpcnas.analysis.retrainings import Found
from hpcnas.analysis.runs import AnalysisError
from hpcnas.dashboard.followed import PATIENCE, FollowedSearch
from hpcnas.job import terminal
from hpcnas.search import run_file
from hpcnas.storage.folder import StoreError

RESCAN = 2.0  # seconds
DEPTH = 4  # folders below a given one
MOST_RUNS = 2_000
MOST_FOLDERS = 20_000  # that are looked into
MOST_OPEN = 150_000  # individuals, of searches beside the last one


class NoSuchRun(AnalysisError):
    """No run has that key, or no longer."""


@dataclass(frozen=True)
class RunEntry:
    """A run: the word by which addresses name it, and its folder."""

    key: str
    folder: Path
    trained: bool  # it is a retraining


class Catalogue:
    """The runs in some folders. Safe for threads."""

    def __init__(self, roots: Sequence[Path]) -> None:
        """Each root is the folder of a run, or one with runs somewhere in it. Raises AnalysisError where one is not
        there."""
        for root in roots:
            if not root.is_dir():
                raise AnalysisError(f"expected the folder of a run, or one with runs in it, got {root}: there is none")
        self.roots = list(roots)
        self.problems: list[str] = []
        self._lock = threading.Lock()
        self._entries: dict[str, RunEntry] = {}
        self._due = 0.0
        self._open: OrderedDict[Path, _Slot] = OrderedDict()
        self._read: OrderedDict[Path, tuple[tuple[int, int], Found]] = OrderedDict()

    def entries(self) -> list[RunEntry]:
        """All of them, in the order of their keys."""
        with self._lock:
            if time.monotonic() >= self._due:
                self._look_around()
            return list(self._entries.values())

    def _look_around(self) -> None:
        began = time.monotonic()
        self._entries, self.problems = self._scan()
        ended = time.monotonic()
        self._due = ended + max(RESCAN, PATIENCE * (ended - began))  # many folders, or a slow file server

    def find(self, key: str) -> RunEntry:
        """The run of that key. Raises NoSuchRun."""
        with self._lock:
            found = self._entries.get(key)
            if found is None or _kind(found.folder, []) is not found.trained:  # it may have come, or gone
                if found is not None or time.monotonic() >= self._due:
                    self._look_around()
                found = self._entries.get(key)
        if found is None:
            raise NoSuchRun(f"expected a run that is there, got {terminal.one_line(key)[:200]}")
        return found

    def search(self, entry: RunEntry) -> FollowedSearch:
        """The search in its folder, followed from when it was asked for first. Raises AnalysisError."""
        with self._lock:
            slot = self._open.setdefault(entry.folder, _Slot())
            self._open.move_to_end(entry.folder)
        found = slot.opened(entry.folder)
        with self._lock:
            self._let_go()
        return found

    def is_open(self, entry: RunEntry) -> bool:
        """Whether its search is held open."""
        with self._lock:
            return entry.folder in self._open

    def retraining(self, entry: RunEntry) -> Found:
        """The retraining in its folder, as its file is now. Raises AnalysisError."""
        path = entry.folder / "retrain.h5"
        identity = _identity(path)
        with self._lock:
            known = self._read.get(entry.folder)
        if known is not None and known[0] == identity:
            return known[1]
        found = retrainings.load(entry.folder)
        with self._lock:
            self._read[entry.folder] = identity, found
            while len(self._read) > 16:
                self._read.popitem(last=False)
        return found

    def _let_go(self) -> None:
        """Of what was asked for longest ago, until what is left is small enough."""
        sizes = {folder: slot.size for folder, slot in self._open.items()}
        beside = sum(sizes.values()) - next(reversed(sizes.values()), 0)
        for folder in list(self._open)[:-1]:
            if beside <= MOST_OPEN and len(self._open) <= 64:
                return
            beside -= sizes[folder]
            del self._open[folder]

    def _scan(self) -> tuple[dict[str, RunEntry], list[str]]:
        """All runs by their keys, and what could not be looked at."""
        problems: list[str] = []
        found: dict[str, RunEntry] = {}
        for root in self.roots:
            outer = terminal.one_line(root.resolve().name or str(root))
            for folder, trained in _runs_in(root, problems):
                inner = terminal.one_line(folder.relative_to(root).as_posix())
                name = outer if inner == "." else inner if len(self.roots) == 1 else f"{outer}/{inner}"
                key, number = name, 1
                while key in found:
                    number += 1
                    key = f"{name} ({number})"
                found[key] = RunEntry(key, folder, trained)
                if len(found) >= MOST_RUNS:
                    problems.append(f"more than {MOST_RUNS:,} runs: the others are left out; name fewer folders")
                    return found, problems
        return found, problems


class _Slot:
    """A place for a search that is opened once, by whichever thread comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: FollowedSearch | None = None

    @property
    def size(self) -> int:
        """Individuals."""
        return 0 if self._found is None else len(self._found.stored.population)

    def opened(self, folder: Path) -> FollowedSearch:
        """Raises AnalysisError."""
        with self._lock:
            if self._found is None:
                self._found = FollowedSearch(folder)
            return self._found


def _runs_in(root: Path, problems: list[str]) -> Iterator[tuple[Path, bool]]:
    """Folders of runs at or below a root, and whether each holds a retraining; folders in the order of their names.
    What lies within a run is not looked at, nor links below the root."""
    waiting, looked_into = [(root, 0)], 0
    while waiting:
        folder, depth = waiting.pop()
        kind = _kind(folder, problems)
        if kind is not None:
            yield folder, kind
            continue
        looked_into += 1
        if depth >= DEPTH or looked_into > MOST_FOLDERS:
            continue
        try:
            with os.scandir(folder) as inside:
                names = sorted(
                    one.name for one in inside if one.is_dir(follow_symlinks=False) and not one.name.startswith(".")
                )
        except OSError as error:
            problems.append(f"{terminal.one_line(str(folder))}: {error.strerror}")
            continue
        waiting += [(folder / name, depth + 1) for name in reversed(names)]


def _kind(folder: Path, problems: list[str]) -> bool | None:
    """Whether a folder holds a retraining (True) or a search (False); None where neither."""
    tests: tuple[tuple[Callable[[Path], bool], bool], ...] = ((run_file.exists, False), (retrainings.is_one, True))
    for holds, trained in tests:
        try:
            if holds(folder):
                return trained
        except StoreError as error:
            problems.append(terminal.one_line(str(error)))
            return None
    return None


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns
