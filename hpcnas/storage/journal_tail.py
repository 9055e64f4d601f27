"""The end of a journal, for who looks at a run while it goes on: what has been committed since the last look.

    look ─► nothing · whole lines that have come ─► their records · another journal in its place ─► `Replaced`

A line without its newline is still being written and is left for the next look. Changes nothing and takes no lock.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from hpcnas.storage import journal
from hpcnas.storage.journal import Contents, JournalError


class Replaced(Exception):
    """The journal has begun anew, or is shorter than it was: it has to be read from its beginning."""


class JournalTail:
    """A journal of which all is known that `contents` says; `scan` has read it, or the last look."""

    def __init__(self, path: Path, contents: Contents) -> None:
        self.path = path
        self._known = replace(contents, base=contents.base + len(contents.records), records=[])

    def more(self) -> Contents:
        """What has been committed since the last look, as a journal that begins there. Raises Replaced, and
        JournalError where the file cannot be read or a whole line is damaged."""
        try:
            size = os.stat(self.path).st_size
        except OSError as error:
            raise JournalError(f"expected a readable journal {self.path}: {error.strerror}") from None
        known, header = self._known, self._known.header
        if size < known.whole or _read(self.path, 0, len(header) + 1) != header + b"\n":
            raise Replaced
        if size == known.whole:
            return known
        found, length, damage = journal.commits(_read(self.path, known.whole, size - known.whole))
        if damage is not None:
            raise JournalError(f"{self.path}: {damage}")
        self._known = replace(known, base=known.base + len(found), whole=known.whole + length)
        return replace(known, records=found, whole=known.whole + length)


def _read(path: Path, start: int, count: int) -> bytes:
    """Up to `count` bytes from `start` on. Raises JournalError."""
    try:
        with journal.opened(path) as file:
            file.seek(start)
            return file.read(count)
    except OSError as error:
        raise JournalError(f"expected a readable journal {path}: {error.strerror}") from None
