"""Numbers that the code of others has given, as Python's own: what crosses between ranks and goes into files; and
other values of theirs in words.

NumPy's scalars, and arrays or tensors without axes, are numbers; truth values, texts and None are not. Standard library
alone: nothing here needs to know NumPy.
"""

from __future__ import annotations

from typing import Any

LARGEST = 1e15
"""Of an amount: what a run can hold (`allowed`) is what may be answered."""


def plain(value: object) -> object:
    """A number of NumPy or of torch as Python's; everything else as it is."""
    if getattr(value, "ndim", None) != 0:
        return value
    item: Any = getattr(value, "item", None)
    try:
        return value if item is None else item()
    except Exception:  # not what it looked like
        return value


def told(value: object) -> str:
    """A value in at most 100 characters, for messages; whatever it is, this raises nothing."""
    try:
        return f"{value!r:.100}"
    except Exception:  # a whole number of 5,000 digits, or code of others
        return f"{type(value).__name__} that cannot be shown"


def real(value: object) -> float | None:
    """A number, finite or not, as a float; None for what is none, or is too large for one."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    try:
        return float(number)
    except OverflowError:
        return None


def amount(value: object) -> float | None:
    """A number from 0 to LARGEST as a float; None for anything else."""
    number = real(value)
    return number if number is not None and 0 <= number <= LARGEST else None


def whole(value: object) -> int | None:
    """A whole number from 0 that files can hold as an int; None for anything else."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 2**63:
        return None
    return int(number) if number == int(number) else None
