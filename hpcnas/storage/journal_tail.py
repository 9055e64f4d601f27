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
        known, header = self._known, self._known.header + b"\n"
        try:
            with journal.opened(self.path) as file:  # once: another one may take its place meanwhile
                if file.read(len(header)) != header or file.seek(0, os.SEEK_END) < known.whole:
                    raise Replaced
                file.seek(known.whole)
                data = file.read()
        except OSError as error:
            raise JournalError(f"expected a readable journal {self.path}: {error.strerror}") from None
        found, length, damage = journal.commits(data)
        if damage is not None:
            raise JournalError(f"{self.path}, after byte {known.whole}: {damage}")
        self._known = replace(known, base=known.base + len(found), whole=known.whole + length)
        return replace(known, records=found, whole=self._known.whole)
