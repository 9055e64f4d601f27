"""What a person can mend, as exceptions: the base of all those whose text is one sentence for that person."""

from __future__ import annotations


class Error(Exception):
    """One sentence that says what was expected, what came, and what to do. Programs print it, callers catch it."""
