"""Where words go: the terminal's live line, and logs that a person can read at three in the morning.

A log line says time, rank and host, then what happened. Set up by the program's entry, never on import. The
controller's lines also go to RUN/log, and the tracebacks of faults that it tells of there alone.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from typing import IO

from hpcnas.job import terminal

_logger = logging.getLogger("hpcnas")


def duration(seconds: float) -> str:
    """A time in words: 45 s, 3 min, 2 h 05 min, 3 d 4 h; unknown where it is NaN."""
    if seconds != seconds:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def many(count: int, what: str) -> str:
    """1 worker, 2,000 workers."""
    return f"{count:,} {what}{'s' if count != 1 else ''}"


class LiveLine:
    """One line of a terminal that is written over and over; does nothing where it is not wanted."""

    def __init__(self, mode: str, stream: IO[str] | None = None) -> None:
        """`mode` is live, plain, or auto: live on a terminal that no MPI launcher pretends. On standard output unless
        another stream is given."""
        stream = stream or sys.stdout
        pretended = "OMPI_COMM_WORLD_SIZE" in os.environ  # Open MPI gives its ranks a terminal of their own
        on_terminal = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not pretended
        self.live = mode == "live" or (mode == "auto" and on_terminal)
        self._stream = stream

    def show(self, text: str) -> None:
        """Puts the text in place of the line."""
        if self.live:
            import shutil  # seldom needed, and every rank is here

            width = shutil.get_terminal_size().columns - 1
            terminal.steer(self._stream, "\r\x1b[2K")
            self._stream.write(terminal.one_line(text)[:width])
            self._stream.flush()

    def clear(self) -> None:
        """Empties the line, so that other output may follow."""
        if self.live:
            terminal.steer(self._stream, "\r\x1b[2K")
            self._stream.flush()


class _AroundLiveLine(logging.StreamHandler):
    """Writes lines above the live progress line."""

    def __init__(self, line: LiveLine) -> None:
        super().__init__(sys.stdout)
        self.setLevel(logging.INFO)
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line.clear()
        super().emit(record)


class _ToFile(logging.StreamHandler):
    """Leaves out what a full disk does not take: standard output has it, and the journal stops the search."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def configure(rank: int, line: LiveLine) -> logging.Logger:
    """The program's logger, writing to standard output: everything on rank 0, warnings on the others."""
    handler = _AroundLiveLine(line)
    handler.setFormatter(_formatter(rank))
    _logger.setLevel(logging.DEBUG if rank == 0 else logging.WARNING)
    _logger.handlers = [handler]
    _logger.propagate = False
    return _logger


def also_to_file(file: IO[str]) -> None:
    """Appends the program's log on rank 0 to an open file as well."""
    handler = _ToFile(file)
    handler.setFormatter(_formatter(rank=0))
    _logger.addHandler(handler)


def fault(text: str, traceback: str | None) -> None:
    """Tells of a fault, and keeps its traceback, if there is one, in RUN/log."""
    _logger.error("%s", text)
    if traceback is not None:
        _logger.debug("%s", traceback.rstrip())


class _Printable(logging.Formatter):
    """Shows what a terminal would obey, and what no encoding takes, as backslashes and digits; a text of several lines
    stays one entry."""

    def format(self, record: logging.LogRecord) -> str:
        return terminal.indented(super().format(record))


def _formatter(rank: int) -> logging.Formatter:
    where = f"rank {rank} {socket.gethostname()}"
    formatter = _Printable(f"%(asctime)sZ {where} %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    return formatter
