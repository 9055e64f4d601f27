"""What a column of a table in a file is: its name and type, what it means, and which values it may hold.

`allowed` holds values against it; the columns themselves stand with what they describe (`individuals`, `methods`).
Standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

LATEST = 253_402_300_799.0  # the last second of the year 9999, which is as far as clocks and calendars go


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its type, what it means, its unit, the value that stands for "there is none", and what else it may
    hold: numbers within inclusive bounds, always finite; codes of `values`, and 0 where they are `optional`."""

    name: str
    dtype: str
    description: str
    unit: str = ""
    missing: Any = 0
    width: str = ""  # "": one value a row; "edges", "replicates", "hash", "curves", …: that many
    values: type[IntEnum] | None = None
    added: bool = False  # since the first files were written: those without it mean `missing`, or as `run_file` says
    low: float | None = None
    high: float | None = None
    optional: bool = False
    text: bool = True  # of "S": it must be UTF-8, and is not cut off
    of_curves: bool = False  # only runs whose trainings have rungs have it
    of_measures: bool = False  # only runs whose trainings tell all measures have it
    of_objective: bool = False  # only runs that weigh a cost of trained networks have it
    of_waiting: bool = False  # only runs with images that did not fit onto a device have it
    told: bool = False  # nothing is decided by it: a run without it can go on
