"""Standard output and error, as every program here uses them: they take any text, and obey none.

    closed from the beginning     what is said is lost, and no file of the run gets their numbers
    closed by the reader, full    the rest is lost; `lost` says why
    of an encoding that is small  what it lacks is replaced
    control characters            are shown as backslashes and digits: texts come from runs and files of others

`install` comes first in every program. Standard library alone.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import re
import sys
from typing import IO, Any, TextIO

# C0 but tab and newline, DEL, C1; marks and overrides of direction, separators of lines; halves of characters
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ASCII = {"×": "x", "·": "-", "→": "->", "±": "+-", "–": "-", "—": "-", "…": "...", "≥": ">=", "≤": "<="}


def printable(text: str) -> str:
    """The text with backslashes and digits in place of whatever a terminal would obey, but for tabs and newlines."""
    return _OBEYED.sub(lambda found: _escaped(found[0]), text)


def one_line(text: str) -> str:
    """Likewise, and without newlines and tabs."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def indented(text: str) -> str:
    """Lines of which the first alone begins at the margin, so that no text can pass for several entries of a log."""
    first, *others = printable(text).split("\n")
    return "\n".join([first, *(f"  {line}" if line and not line[0].isspace() else line for line in others)])


def install() -> None:
    """Makes standard output and error what this file says. Once; before files are opened."""
    os.environ["PYTHON_COLORS"] = "0"  # Python's own, which would be shown as backslashes and digits
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream: TextIO | None = getattr(sys, name)
        place = number if stream is not None else _device_in_place_of(number)
        if name != "stdin" and not isinstance(stream, Stream):
            setattr(sys, name, Stream.around(stream, place))


def steer(stream: IO[str], text: str) -> None:
    """Writes text that a terminal is to obey."""
    if isinstance(stream, Stream):
        stream.steer(text)
    else:
        stream.write(text)


class Steering:
    """A stream for code that steers the terminal itself, and has made its texts `printable`."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        steer(self._stream, text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lost(stream: IO[str]) -> OSError | None:
    """Why what was written last has not arrived; None where it has."""
    return stream.lost if isinstance(stream, Stream) else None


def arrived(program: str, exit_code: int) -> int:
    """The exit code of a program that has printed all that it had to: another one, and a line on standard error, where
    standard output has taken it not. A reader that has left is none of these."""
    sys.stdout.flush()
    reason = lost(sys.stdout)
    if reason is None or reason.errno == errno.EPIPE:
        return exit_code
    print(f"{program}: expected to write the output: {reason.strerror}", file=sys.stderr)
    return exit_code or 1


class Stream(io.TextIOWrapper):
    """Text for standard output or error, of which nothing raises."""

    lost: OSError | None = None  # why what was written last has not arrived

    @classmethod
    def around(cls, stream: TextIO | None, number: int) -> Stream:
        """In place of the stream that Python has made; None where it found the descriptor closed, and `number` is
        another."""
        encoding = "utf-8" if stream is None else stream.encoding or "utf-8"
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        file = io.BufferedWriter(io.FileIO(number, "w", closefd=False), 1 << 16)
        lines = number == 2 or os.isatty(number)
        return cls(file, encoding, "hpcnas", line_buffering=lines)

    def write(self, text: str) -> int:
        self.steer(printable(text))
        return len(text)

    def steer(self, text: str) -> None:
        """Writes text as it is."""
        try:
            super().write(text)
        except OSError as error:
            self._lose(error)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lose(error)

    def close(self) -> None:
        self.flush()
        super().close()

    def _lose(self, error: OSError) -> None:
        """Notes it; where nothing will ever be read again, lets go of what would be tried again at every write."""
        self.lost = error
        if error.errno not in (errno.EPIPE, errno.EIO, errno.EBADF):  # a disk may have room again
            return
        number = self.fileno()
        device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(device, number)
        os.close(device)
        with contextlib.suppress(OSError):
            super().flush()


def _device_in_place_of(number: int) -> int:
    """A descriptor that takes everything, for one that was closed: that number itself, which the next file would get,
    unless a file has it already."""
    device = os.open(os.devnull, os.O_RDWR)
    with contextlib.suppress(OSError):
        os.fstat(number)
        if device != number:
            return device
    if device != number:
        os.dup2(device, number)
        os.close(device)
    os.set_inheritable(number, True)
    return number


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks: their like in ASCII, else backslashes and digits."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_ASCII.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking), error.end


codecs.register_error("hpcnas", _replaced)
