"""The last lines of a run's log, as a page shows them: of a search or a retraining, whatever the size of the file.

Reads the end of RUN/log alone. Texts of a log may be anybody's: what a terminal would obey is shown as backslashes and
digits, and long lines are cut.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from hpcnas.dashboard import selection
from hpcnas.dashboard.selection import Query
from hpcnas.job.terminal import printable

NAME = "log"
MOST_LINES = 2000
MOST_BYTES = 2**19  # of the file that are read
MOST_OF_A_LINE = 2000  # characters
LINES = 200  # unless a query says another number


def log(folder: Path, query: Query) -> dict[str, Any]:
    """The last `lines` lines (1 to MOST_LINES) and the size of the file in bytes; `why` says why there are none. Raises
    AnalysisError for another number."""
    count = selection.whole(query, "lines", 1, MOST_LINES, LINES)
    try:
        data, size = _end(folder / NAME)
    except FileNotFoundError:
        return {"lines": [], "size": 0, "why": "there is no log yet"}
    except OSError as error:
        return {"lines": [], "size": 0, "why": f"the log cannot be read: {error.strerror}"}
    text = data.decode("utf-8", "replace")
    lines = text.split("\n")
    if size > len(data):  # the first one is the end of a line
        lines = lines[1:] or [text]
    if lines and not lines[-1]:
        lines.pop()
    return {"lines": [_shown(line) for line in lines[-count:]], "size": size, "why": None}


def _end(path: Path) -> tuple[bytes, int]:
    """The last bytes of a regular file, and its size. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "expected a regular file")
        file.seek(max(0, status.st_size - MOST_BYTES))
        return file.read(MOST_BYTES), status.st_size


def _shown(line: str) -> str:
    """A line as it may be shown: cut where it is long."""
    cut = line[:MOST_OF_A_LINE] + " …" if len(line) > MOST_OF_A_LINE else line
    return printable(cut.rstrip("\r"))
