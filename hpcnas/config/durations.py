"""Durations as people and batch systems write them: 43200, 12:00:00, 1-12:00:00, 4h, 90m, 1h30m. In seconds."""

from __future__ import annotations

import re

FORMS = "seconds, or a time such as 12:00:00, 1-12:00:00, 4h, 90m or 1h30m"

_CLOCK = re.compile(r"(?:(?P<d>\d+)-)?(?P<h>\d+):(?P<m>[0-5]?\d):(?P<s>[0-5]?\d)")
_DAYS = re.compile(r"(?P<d>\d+)-(?P<h>\d+)(?::(?P<m>[0-5]?\d))?")
_NUMBER = r"\d+(?:\.\d+)?"
_UNITS = re.compile(
    rf"(?:(?P<d>{_NUMBER})d)?(?:(?P<h>{_NUMBER})h)?(?:(?P<m>{_NUMBER})m(?:in)?)?(?:(?P<s>{_NUMBER})s)?"
)
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def seconds(text: str) -> float:
    """The seconds of a duration. Raises ValueError for a text that is none, or that has two meanings: 12:30."""
    written = text.strip().lower()
    try:
        return float(written)
    except ValueError:
        pass
    for form in (_CLOCK, _DAYS, _UNITS):
        match = form.fullmatch("".join(written.split()))
        if match is not None and written:
            return sum(_SECONDS[unit] * float(number) for unit, number in match.groupdict().items() if number)
    also = " (hours and minutes as 12:30:00, minutes and seconds as 0:12:30)" if written.count(":") == 1 else ""
    raise ValueError(f"expected {FORMS}{also}, got {text[:60]!r}")
