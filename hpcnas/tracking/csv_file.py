"""CSV: RUN/metrics.csv, one row an entry, for spreadsheets and pandas.

    series,step,time,NAME,NAME,…        time in seconds since 1970, UTC; empty where there is no number

Rows are appended. Where a series goes on after a kill, the file is written anew without the rows that are made again,
and without a row that the kill has torn.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import IO

from hpcnas.errors import Error
from hpcnas.storage.folder import RunFolder
from hpcnas.tracking.tracker import About, Entry

NAME = "metrics.csv"
FIRST = ("series", "step", "time")  # columns


class NotOurs(Error):
    """RUN/metrics.csv is another file than this program's: one sentence."""


class CsvFile:
    """A tracker."""

    name = NAME

    def __init__(self, place: RunFolder, about: About) -> None:
        self._place, self._names = place, about.names
        self._file: IO[str] | None = None

    def resume(self, series: str, step: int) -> Mapping[str, int]:
        """As of a Tracker. Raises OSError, StoreError, NotOurs."""
        self.close(complete=False)
        self._place.tidy(lambda name: name == NAME, useless=lambda name: False)
        found = self._place.read(NAME) or b""
        content, known = self._kept(found, series, step)
        if content != found:
            self._place.put(NAME, content)
        self._place.own(NAME)
        descriptor = self._place.open(NAME, os.O_WRONLY | os.O_APPEND)
        self._file = os.fdopen(descriptor, "a", encoding="utf-8", newline="")
        return known

    def _kept(self, content: bytes, series: str, step: int) -> tuple[bytes, dict[str, int]]:
        """The file without rows of later steps of a series, and without a last row that is torn; and the last step that
        it has of each number of the series. Raises NotOurs."""
        kept, known = io.StringIO(), dict[str, int]()
        writer = csv.DictWriter(kept, [*FIRST, *self._names], restval="", lineterminator="\n")
        writer.writeheader()
        try:
            whole = content[: content.rfind(b"\n") + 1].decode("utf-8")
            if content and not whole:  # ours has its first line from the beginning
                raise ValueError("it has no whole line")
            reader = csv.DictReader(io.StringIO(whole, newline=""), restkey="")  # with more values than the header has
            names = tuple(reader.fieldnames or FIRST)
            if names[:3] != FIRST or not set(names[3:]) <= set(self._names):
                raise ValueError(f"its first line is {','.join(names):.200}")
            for row in reader:
                mine, number = row["series"] == series, int(row["step"])
                if not mine or number <= step:
                    writer.writerow(row)
                if mine and number <= step:
                    known |= {name: max(number, known.get(name, 0)) for name in self._names if row.get(name)}
        except (ValueError, TypeError, csv.Error) as error:
            raise NotOurs(
                f"{self._place.path / NAME}: expected a file that this program has written, with the columns "
                f"{', '.join(FIRST)}, …, but {error}; move it away"
            ) from None
        return kept.getvalue().encode(), known

    def log(self, entries: Sequence[Entry]) -> None:
        """As of a Tracker. Raises OSError."""
        assert self._file is not None, "a series is open"
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        for entry in entries:
            values = [repr(entry.values[name]) if name in entry.values else "" for name in self._names]
            if any(values):
                writer.writerow([entry.series, entry.step, f"{entry.time:.3f}", *values])
        self._file.write(lines.getvalue())
        self._file.flush()

    def close(self, complete: bool) -> None:
        """As of a Tracker."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
