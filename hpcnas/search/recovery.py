"""A run as its files have it: population.h5, and over it every record of the journal (D1, D3).

    recover   to go on with it: all of it, or StoreError
    salvage   to look at it: as much as can be read, and what is wrong with the rest

Changes nothing and takes no lock.
"""

from __future__ import annotations

import time
from pathlib import Path

from hpcnas.search import records, run_file
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.run_file import StoredRun
from hpcnas.storage import allowed, journal
from hpcnas.storage.folder import StoreError


def apply(record: journal.Record, store: MemoryStore) -> None:
    """Replays one record of the journal; raises an error of `records` or ValueError on what no store has written."""
    kind, data = records.opened(record)
    if kind == "birth":
        store.birth(records.born(data, store.population))
    elif kind == "begin":
        store.begin(records.session(data))
    elif kind == "worker":
        store.join(records.worker(data, len(store.sessions) - 1))
    else:
        {"advance": store.advance, "settle": store.settle, "retry": store.retry}[kind](records.outcome(data))


def recover(folder: Path) -> tuple[StoredRun, int | None]:
    """The run with its journal replayed, and the bytes of the journal's whole lines; None where it ends before
    population.h5 does, so that what followed would be taken for old. Raises StoreError."""
    stored = run_file.read(folder)
    try:
        contents = journal.read(folder / "journal")
    except journal.JournalError as error:
        raise StoreError(str(error)) from None
    replay(stored, contents, folder / "journal")
    behind = contents.base + len(contents.records) < stored.records
    return stored, None if behind else contents.whole


def replay(stored: StoredRun, contents: journal.Contents, path: Path) -> None:
    """Brings a run up to date with its journal. Raises StoreError at the first record that does not fit; those before
    it have been taken in."""
    if contents.run != stored.run:
        raise StoreError(f"{path}: expected the journal of run {stored.run}, got that of {contents.run}")
    if contents.base > stored.records:
        raise StoreError(
            f"{path}: expected it to begin at record {stored.records} or before, but it begins at {contents.base}: "
            "population.h5 is older than its journal"
        )
    replay = MemoryStore(stored.config)
    replay.population, replay.sessions, replay.workers = stored.population, stored.sessions, stored.workers
    for number, record in enumerate(contents.records, start=contents.base + 1):
        if number <= stored.records:
            continue
        try:
            apply(record, replay)
        except records.ERRORS as error:
            raise StoreError(
                f"{path}: record {number} does not fit the run: {allowed.line(error)}; hpcnas verify --repair keeps "
                "what stands before it"
            ) from None
        stored.records = number


def salvage(folder: Path) -> tuple[StoredRun, list[str]]:
    """All of a run that can be read up to its last record, also of a damaged one or one under way, and what is wrong
    with it; changes nothing and takes no lock. Raises StoreError where population.h5 cannot be read."""
    for attempt in range(3):
        stored, problems = _once(folder)
        if not problems:
            break
        time.sleep(0.05 * attempt)  # the files may have been renewed between the reading of one and the other
    return stored, problems


def _once(folder: Path) -> tuple[StoredRun, list[str]]:
    stored, faults = run_file.examine(folder)
    if faults:  # what the journal says follows on what is wrong
        return stored, faults
    try:
        contents, damage = journal.scan(folder / "journal")
        problems = [] if damage is None else [damage]
        replay(stored, contents, folder / "journal")
    except (journal.JournalError, StoreError) as error:
        problems = [str(error)]
    return stored, problems
