"""Answers of plugins: their numbers as Python's own numbers, which cross between ranks and go into files; and
other values of theirs in words.

NumPy's scalars, and arrays or tensors without axes, are numbers; truth values, texts and None are not. Standard library
alone: nothing here needs to know NumPy.
"""

from __future__ import annotations

from typing import Any

LARGEST = 1e15
"""Of an amount: what a run can hold (`allowed`) is what may be answered."""


def plain(value: object) -> object:
    """A scalar of NumPy or torch as Python's number; any other value as it is."""
    if getattr(value, "ndim", None) != 0:
        return value
    item: Any = getattr(value, "item", None)
    try:
        return value if item is None else item()
    except Exception:  # not a scalar, although it looked like one
        return value


def told(value: object) -> str:
    """A value in at most 100 characters, for messages. Never raises."""
    try:
        return f"{value!r:.100}"
    except Exception:  # a whole number of 5,000 digits, or code of others
        return f"{type(value).__name__} that cannot be shown"


def real(value: object) -> float | None:
    """A number, finite or not, as a float; None for a value that is no number, or too large for a float."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    try:
        return float(number)
    except OverflowError:
        return None


def amount(value: object) -> float | None:
    """A number from 0 to LARGEST as a float; None for any other value."""
    number = real(value)
    return number if number is not None and 0 <= number <= LARGEST else None


def whole(value: object) -> int | None:
    """A whole number from 0 to 2⁶³ − 1, which files can hold, as an int; None for any other value."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 2**63:
        return None
    return int(number) if number == int(number) else None
