"""A run in progress with four workers, in literal numbers, for tests of snapshots and of what `watch` shows of them.

Times are in seconds since 1970; every evaluation takes 10 s.
"""

from __future__ import annotations

import dataclasses

import examples

from hpcnas.analysis import snapshot
from hpcnas.messages import Evaluation, Place, Result
from hpcnas.search.file_store import FileStore

NOW = 3100.0
FOUR = dataclasses.replace(examples.SESSION, ranks=5)  # four workers


def evaluated(id: int, rank: int, finished: float, *accuracies: float, host: str = "node-7") -> Result:
    outcome = Evaluation(accuracies or (0.5, 0.6), 1000, 0.25, 8.0, 1.5)
    return Result(id, 1, Place(rank, host, f"cuda:{rank - 1}"), finished - 10.0, finished, outcome)


def fill(store: FileStore, births: int, *results: Result, session=FOUR) -> FileStore:
    """Begins a session, with births and results that only the journal knows."""
    store.begin(session)
    for id in range(births):
        store.birth(examples.individual(id, parent=0 if id else None))
    for result in results:
        store.settle(result)
    store.commit()
    return store


def look(store: FileStore, now: float = NOW) -> snapshot.Snapshot:
    return snapshot.look(store.folder, now)


def states(seen: snapshot.Snapshot) -> dict[int, str]:
    return {worker.rank: worker.state for worker in seen.workers}
