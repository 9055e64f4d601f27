"""What a person can mend, as exceptions: the base of all those whose text is one sentence for that person; and one
line about any other exception."""

from __future__ import annotations


class Error(Exception):
    """One sentence that says what was expected, what came, and what to do. Programs print it, callers catch it."""


def first_line(error: BaseException) -> str:
    """Of an exception's text, for messages of one line; the kind of exception where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)
