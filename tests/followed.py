"""A tracker that remembers what it was told, for tests of what searches and retrainings tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpcnas.tracking.tracker import Entry, Past
from hpcnas.tracking.trackers import Trackers


class Followed(Trackers):
    """Trackers that send everything to one list at once, in this thread; `known`: up to which step it is there."""

    def __init__(self, known: int = 0) -> None:
        super().__init__([])
        self.known = known
        self.entries: list[Entry] = []
        self.begun: list[tuple[str, int]] = []
        self.closed: bool | None = None

    def __bool__(self) -> bool:
        return True

    def resume(self, past: Past) -> None:
        self.begun.append((past.series, past.step))
        self.entries += [entry for entry in past.entries() if entry.step > self.known]

    def log(self, entry: Entry) -> None:
        self.entries.append(entry)

    def close(self, complete: bool) -> None:
        self.closed = complete

    def curve(self, name: str) -> dict[int, float]:
        """Step → value, without NaN."""
        values: Sequence[tuple[int, Mapping[str, float]]] = [(entry.step, entry.values) for entry in self.entries]
        return {step: row[name] for step, row in values if name in row and row[name] == row[name]}
