"""Tables as CSV, as everything here writes them: a line ends with \\n, and names of any bytes stay what they are."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """The text of a table. None is an empty cell."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in (header, *rows):
        returns = any(isinstance(cell, str) and "\r" in cell for cell in row)  # which Python before 3.13 does not quote
        (quoted if returns else plain).writerow(row)
    return text.getvalue()
