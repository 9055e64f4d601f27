"""Texts that come from outside: reading files of a bounded size, and quoting values in messages of one line.

Opens regular files only: reading a pipe would wait, and reading a device might never end. Standard library alone.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

MOST_BYTES = 2**24  # of a text that a person writes: a thousand times the largest useful one
MOST_SHOWN = 400  # characters of a message

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Unreadable(Exception):
    """A file cannot be read as a text: the reason, in a few words."""


def require_regular(path: Path) -> None:
    """Raises Unreadable where the path leads to no regular file, to nothing, or cannot be a path."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # a name with a null character in it, say
        raise Unreadable((error.strerror if isinstance(error, OSError) else None) or str(error)) from None
    if not stat.S_ISREG(mode):
        raise Unreadable(f"expected a regular file, got {_KINDS.get(stat.S_IFMT(mode), 'something else')}")


def is_file(path: Path) -> bool:
    """Whether the path leads to something other than a folder: a file, or something that `read` refuses."""
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def read(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a regular file in UTF-8. Raises Unreadable, also for a file of more than `most` bytes."""
    require_regular(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # it may be a pipe by now
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable("expected a regular file")
            data = file.read(most + 1)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    if len(data) > most:
        raise Unreadable(f"expected at most {most:,} bytes of text, got more")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("it is not UTF-8 text") from None


def brief(text: str, most: int = MOST_SHOWN) -> str:
    """The text in about `most` characters, with its middle left out if it is longer, and with unprintable characters
    written as escape sequences of Python."""
    if len(text) > most:
        text = f"{text[: most * 2 // 3]} … {text[-(most // 4) :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object, most: int = 100) -> str:
    """A value from outside, as a message quotes it, in about `most` characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # lists a thousand deep, a number of 5,000 digits
        return f"a {type(value).__name__} that cannot be shown"
    return brief(text, most)
