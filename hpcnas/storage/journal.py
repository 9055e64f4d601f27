"""The write-ahead journal: records that are on the disk before they are acted upon (D1).

    3f1c09aa {"journal": 1, "run": "6e…", "base": 120}      ← header: 120 records went before, into population.h5
    9b2e4410 [{"birth": …}]                                 ← record 121
    0c77d1f3 [{"settle": …}, {"birth": …}]                  ← records 122 and 123, committed together

One line a commit: eight hexadecimal digits of the CRC-32 of the rest, a blank, JSON, a newline. So a commit is there as
a whole or not at all, in whatever order its blocks reach the disk. A broken line can only be the last one, was never
acknowledged, and is cut off when the journal is opened for writing. What records mean is `records`' business.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hpcnas.storage import durable

Record = dict[str, Any]
VERSION = 1


class JournalError(Exception):
    """A journal that cannot be read or written: one line with what was expected, what came and what to do."""


class JournalLost(JournalError):
    """The file is no longer there, or no longer this journal's alone: what happened to it."""


def _line(content: Record | list[Record]) -> bytes:
    body = json.dumps(content, separators=(",", ":"), allow_nan=True).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> Record | list[Record] | None:
    """The content of a line without its newline; None where the frame is broken."""
    if len(line) < 10 or line[8:9] != b" ":
        return None
    body = line[9:]
    if line[:8] != b"%08x" % zlib.crc32(body):
        return None
    try:
        content: Record | list[Record] | None = json.loads(body)
    except (ValueError, RecursionError):  # as it was written: numbers of thousands of digits, lists of lists of lists …
        return {}  # which is no commit
    return {} if content is None else content


@dataclass(frozen=True)
class Contents:
    """A journal as read: the run it belongs to, how many records went before it, its records, the bytes of its whole
    lines, and its first line as it stands there."""

    run: str
    base: int
    records: list[Record]
    whole: int
    header: bytes = b""


def _not_waiting(path: str, flags: int) -> int:
    """An opener that waits for no other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def opened(path: Path) -> IO[bytes]:
    """The file, to be read. Raises OSError, and JournalError where it is none."""
    file = open(path, "rb", opener=_not_waiting)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise JournalError(f"expected a readable journal {path}: it is a pipe or a device")


def commits(data: bytes, first: int = 1) -> tuple[list[Record], int, str | None]:
    """The records of whole lines without a header, up to the first damage; how many bytes these lines have; and what is
    wrong with the next line, where lines are counted from `first` on. A torn last line is no damage and is left out."""
    found: list[Record] = []
    *lines, torn = data.split(b"\n")
    whole, last = 0, first + len(lines) - 1
    if lines and not torn and _parse(lines[-1]) is None:
        lines.pop()  # a newline can reach the disk before what stands before it
    for number, line in enumerate(lines, start=first):
        commit = _parse(line)
        if commit is None:
            return found, whole, f"line {number} of {last} is damaged, and it is not the last one"
        if not isinstance(commit, list):
            return found, whole, f"line {number}: expected a list of records, got {str(commit):.60}"
        found += commit
        whole += len(line) + 1
    return found, whole, None


def scan(path: Path) -> tuple[Contents, str | None]:
    """Reads up to the first damage, without changing anything; says where that is. A torn last line is none and is
    left out. Raises JournalError where there is not even a header."""
    try:
        with opened(path) as file:
            data = file.read()
    except OSError as error:
        raise JournalError(f"expected a readable journal {path}: {error.strerror}") from None
    line, newline, rest = data.partition(b"\n")
    header = _parse(line) if newline else None
    if header is None and rest:
        raise JournalError(f"{path}: line 1 of {data.count(newline)} is damaged, and it is not the last one")
    if not isinstance(header, dict) or header.get("journal") != VERSION:
        raise JournalError(f'{path}: expected a header with "journal": {VERSION}, got {header}')
    run, base = header.get("run"), header.get("base")
    if not isinstance(run, str) or not isinstance(base, int) or isinstance(base, bool) or not 0 <= base < 1 << 62:
        raise JournalError(f'{path}: expected a header with "run" and "base", got {str(header):.200}')
    records, length, damage = commits(rest, first=2)
    return Contents(run, base, records, len(line) + 1 + length, line), damage and f"{path}: {damage}"


def read(path: Path) -> Contents:
    """Reads without changing anything; a torn last line is left out. Raises JournalError on any other damage."""
    contents, damage = scan(path)
    if damage is not None:
        raise JournalError(damage)
    return contents


class Journal:
    """A journal open for appending. Records are collected by `append` and durable once `commit` has returned.

    Another process that writes to the file is found out: by a lock where there is one, else by the file's length.
    """

    def __init__(self, path: Path, size: int, synced: bool = True, at: int | None = None) -> None:
        """`size`: bytes of whole lines; whatever follows is cut off. Without `synced`, a commit survives the end of the
        process, but not that of the machine. `at` as of `durable`. Raises JournalError."""
        self.path = path
        self.synced = synced
        self._at = at
        self._size = size
        self._pending: list[Record] = []
        self._kept: list[bytes] | None = None  # lines since `keep`
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self._descriptor = os.open(durable.place(path, at), flags, dir_fd=at)
        except OSError as error:
            raise JournalError(f"expected to write {path}: {error.strerror}") from None
        try:
            self._lock()
            if os.fstat(self._descriptor).st_size != size:
                os.ftruncate(self._descriptor, size)
                os.fsync(self._descriptor)
        except OSError as error:
            self.close()
            raise JournalError(f"expected to write {path}: {error.strerror}") from None

    def _lock(self) -> None:
        """RUN/lock keeps other jobs out; this one, where there is flock, also those that have removed RUN/lock."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            text = f"{self.path}: another job, whose lock was removed, is at work on the run; end it first"
            raise JournalError(text) from None
        except OSError:  # a file system without
            pass

    @classmethod
    def create(
        cls,
        path: Path,
        run: str,
        base: int,
        lines: bytes = b"",
        synced: bool = True,
        at: int | None = None,
        ready: Callable[[], object] | None = None,
    ) -> Journal:
        """A new journal in place of whatever stands at `path`, with lines of another; `ready` as of `durable.put`.
        Raises JournalError."""
        content = _line({"journal": VERSION, "run": run, "base": base}) + lines
        try:
            durable.put(path, content, at, ready)
        except OSError as error:
            raise JournalError(f"expected to create {path}: {error.strerror}") from None
        return cls(path, len(content), synced, at)

    def keep(self) -> None:
        """From now on, remembers what is committed, for a journal that is to begin here."""
        self._kept = []

    @property
    def kept(self) -> bytes:
        """The lines that were committed since `keep`."""
        return b"".join(self._kept or [])

    @property
    def is_open(self) -> bool:
        """Whether it takes records."""
        return self._descriptor >= 0

    @property
    def pending(self) -> bool:
        """Whether something was collected that is not committed."""
        return bool(self._pending)

    def append(self, record: Record) -> None:
        """Collects a record."""
        self._pending.append(record)

    def check(self) -> None:
        """Raises JournalLost unless the file is where it was and as it was left."""
        own = os.fstat(self._descriptor)
        try:
            found = os.stat(durable.place(self.path, self._at), dir_fd=self._at, follow_symlinks=False)
        except FileNotFoundError:
            raise JournalLost(f"{self.path}: the file has been removed") from None
        if not os.path.samestat(found, own):
            raise JournalLost(f"{self.path}: another file has taken its place")
        if own.st_size != self._size:
            raise JournalLost(f"{self.path}: it was left with {self._size} bytes and now has {own.st_size}")

    def commit(self) -> None:
        """Everything collected is on the disk when this returns: one write and one sync for all. Raises JournalError;
        then nothing of it may be taken as recorded, and the journal takes no more."""
        if self._descriptor < 0:
            raise JournalError(f"{self.path} is closed, or an earlier write failed: it takes no more records")
        if not self._pending:
            return
        data, self._pending = _line(self._pending), []
        try:
            self.check()
            durable.write_all(self._descriptor, data)
            self._size += len(data)
            if self.synced:
                os.fdatasync(self._descriptor)
            if self._kept is not None:
                self._kept.append(data)
        except JournalLost:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise JournalError(
                f"{self.path}: {error.strerror}; nothing acknowledged is lost, make room or mend the folder, "
                "then start the same command again"
            ) from None

    def close(self) -> None:
        """Closes the file; what was not committed is forgotten."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
