"""Which values a column may hold, and what is wrong in a table that was read: files come from damaged disks, from other
programs, and from people trying things out.

What a column allows stands with the column (`columns.Column`); what the columns of a run must say of each other is
`run_values`' business. Arrays are checked as a whole: a million rows take a fraction of a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np

from hpcnas.answers import LARGEST
from hpcnas.config.data_spec import DataFacts
from hpcnas.storage.columns import Column

MOST_SHOWN = 60  # characters of a value in a message
_MOST_FACTS = {  # far more than any data have
    "image_channels": 1 << 16, "height": 1 << 20, "width": 1 << 20, "classes": 1 << 24, "training_images": 1 << 40,
    "validation_images": 1 << 40,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wrong:
    """A value that cannot be: in which table and column, in which row, what was expected and what came."""

    table: str
    column: str
    row: int | None  # None: of the whole
    expected: str
    got: str

    def __str__(self) -> str:
        rows = {"individuals": f"individual {self.row}", "evaluated": f"place {self.row} in the order of evaluations"}
        where = self.table if self.row is None else rows.get(self.table, f"{self.table}, row {self.row}")
        return f"{where}: expected {self.expected}, got {self.got}"


def shown(value: object) -> str:
    """A value in a message: short, and without characters that a terminal obeys."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of 5,000 digits, a list of lists of lists …
        text = f"a {type(value).__name__} too large to be shown"
    text = "".join(character if character.isprintable() else "?" for character in text[: 4 * MOST_SHOWN])
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"


def line(error: Exception) -> str:
    """What an error says, in one line; the key that is missing where that is all it says."""
    text = f"expected a key {error}, but there is none" if isinstance(error, KeyError) else str(error)
    return "".join(character if character.isprintable() else " " for character in text[:400])


def expected(column: Column) -> str:
    """What a column allows, in words."""
    if column.values is not None:
        names = ", ".join(f"{item.name} {item:d}" for item in column.values)
        return f"{column.name} {names}{' or 0' if column.optional else ''}"
    if column.dtype.startswith("S"):
        return f"{column.name} in UTF-8"
    number = "a number" if column.dtype.startswith("f") else "an integer"
    low, high = _limits(column)
    bounds = f"≥ {low:.15g}" if column.high is None and column.low is not None else f"from {low:.15g} to {high:.15g}"
    return f"{column.name} {number} {bounds}"


def _limits(column: Column) -> tuple[float, float]:
    if column.dtype.startswith("f"):
        least, most = -LARGEST, LARGEST
    else:
        least, most = np.iinfo(column.dtype).min, np.iinfo(column.dtype).max
    return least if column.low is None else column.low, most if column.high is None else column.high


def not_allowed(column: Column, values: np.ndarray) -> np.ndarray:
    """Which of a column's values it does not allow: bool, one a row."""
    if column.values is not None:
        codes = [int(item) for item in column.values] + ([0] if column.optional else [])
        known = np.zeros(256, dtype=bool)
        known[codes] = True
        return ~known[values]
    if values.dtype.kind == "S":
        return _not_text(values) if column.text else np.zeros(len(values), dtype=bool)
    low, high = _limits(column)
    if values.dtype.kind in "iu" and column.low is None and column.high is None:
        return np.zeros(len(values), dtype=bool)
    if values.dtype.kind == "f":
        wrong = ~((values >= low) & (values <= high))  # NaN too
        if column.missing != column.missing:
            wrong &= ~np.isnan(values)
    else:
        wrong = (values < low) | (values > high)
        if column.missing < 0:
            wrong &= values != column.missing
    return np.any(wrong, axis=tuple(range(1, wrong.ndim)))


def _not_text(values: np.ndarray) -> np.ndarray:
    found = np.zeros(len(values), dtype=bool)
    for row, value in enumerate(values.tolist()):
        try:
            value.decode()
        except UnicodeDecodeError:
            found[row] = True
    return found


def wrong_shapes(
    table: str, columns: Iterable[Column], values: Mapping[str, np.ndarray], rows: int, widths: Mapping[str, int] = {}
) -> Iterator[Wrong]:
    """Columns of another type, number of rows or width than they must have."""
    for column in columns:
        if column.name in values:
            found, shape = values[column.name], (rows, *((widths[column.width],) if column.width else ()))
            same = found.dtype.kind == "S" if column.dtype == "S" else found.dtype == np.dtype(column.dtype)
            if not same or found.shape != shape:
                what = f"{column.name} as {column.dtype} of shape {shape}"
                yield Wrong(table, column.name, None, what, f"{found.dtype} of shape {found.shape}")


def wrong_values(table: str, columns: Iterable[Column], values: Mapping[str, np.ndarray]) -> Iterator[Wrong]:
    """Values that their columns do not allow, column by column; shapes and types are right."""
    for column in columns:
        if column.name in values:
            yield from told(table, column.name, not_allowed(column, values[column.name]), expected(column), values)


def told(
    table: str, column: str, wrong: np.ndarray, expected: str, values: Mapping[str, np.ndarray]
) -> Iterator[Wrong]:
    """Each of the rows that are marked."""
    for row in np.flatnonzero(wrong).tolist():
        yield Wrong(table, column, row, expected, shown(values[column][row]))


def checked(column: Column, value: Any) -> Any:
    """One value of a column as JSON gives it, None where it may be missing. Raises ValueError."""
    kind = column.dtype[0]
    low, high = (0.0, 0.0) if kind == "S" else _limits(column)
    if kind == "S":
        good = isinstance(value, str)
    elif value is None and column.missing < 0:
        return None
    elif kind == "f":
        good = isinstance(value, int | float) and not isinstance(value, bool)
        good = good and (low <= value <= high or (column.missing != column.missing and value != value))
    else:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    if not good:
        raise ValueError(f"expected {expected(column)}, got {shown(value)}")
    return value


def facts(value: object) -> DataFacts:
    """What was written down of the data. Raises ValueError."""
    names = [item.name for item in fields(DataFacts)]
    needed = {item.name for item in fields(DataFacts) if item.default is MISSING}
    if not isinstance(value, dict) or not needed <= set(value) <= set(names):
        raise ValueError(f"expected of the data {', '.join(names)}, got {shown(value)}")
    for name, most in _MOST_FACTS.items():
        number = value[name]
        least = 0 if name.endswith("_images") else 1
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise ValueError(f"expected of the data {name} an integer from {least} to {most}, got {shown(number)}")
    for name in ("fingerprint", "split"):
        if not isinstance(value.get(name, ""), str):
            raise ValueError(f"expected of the data {name} a text, got {shown(value[name])}")
    told: dict[str, Any] = {name: value[name] for name in names if name in value}
    for name in ("mean", "std"):
        numbers = value.get(name, ())
        if not isinstance(numbers, list | tuple) or not all(map(_is_finite, numbers)):
            raise ValueError(f"expected of the data {name} a list of numbers, got {shown(numbers)}")
        told[name] = tuple(map(float, numbers))
    return DataFacts(**told)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def software(value: object) -> dict[str, str]:
    """Names and versions. Raises ValueError."""
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError(f"expected as software names and versions, got {shown(value)}")
    return value
