"""Sealed files: the last bytes of one say how long the rest is and what its checksum is, so that damage is found.

    content, of any form │ hpcnas-seal 1 LENGTH DIGEST\\n        96 bytes: LENGTH in 16 hexadecimal digits, DIGEST in 64

The seal stands at the end because readers of the content need not know of it: torch.load, zip and NumPy's readers pass
over what follows. DIGEST is BLAKE2b, 32 bytes, of LENGTH and of the BLAKE2b, 32 bytes, of each 4 MiB of the content:
several threads can compute it, and none has to hold more than that. A file without a seal is another thing than a
damaged one; what it is only its reader can say. Standard library alone.

Measured (x86 virtual machine beside other work, file in the page cache, n = 5): 0.79 to 0.82 GiB a second of a
processor's time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

_BLOCK = 4 << 20  # bytes of content under one inner digest
_THREADS = 8  # at the most: more than a disk gives
_FORM = re.compile(rb"hpcnas-seal 1 ([0-9a-f]{16}) ([0-9a-f]{64})\n")
SEAL_BYTES = 96
DAMAGED = ".damaged"  # at the end of a name: kept aside, for a person who wants to know what has happened to it
_KEPT = 4  # damaged files of one kind in a folder


class Damaged(Exception):
    """A file that is not what was written, or not all of it: what is wrong, without the file's name."""


class Sealing:
    """What a sealed file is written through: counts and digests on the way, and ends with the seal.

    `error` is the first OSError of a write: torch.save makes something else of it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._length = 0
        self._digests: list[bytes] = []
        self._block = _digest()
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Appends all of the data, of whatever shape; returns how many bytes that were. Raises OSError."""
        view = memoryview(data).cast("B")
        try:
            self._file.write(view)
        except OSError as error:
            self.error = self.error or error
            raise
        done = 0
        while done < len(view):
            part = view[done : done + _BLOCK - self._length % _BLOCK]
            self._block.update(part)
            done += len(part)
            self._length += len(part)
            if self._length % _BLOCK == 0:
                self._end_block()
        return done

    def _end_block(self) -> None:
        self._digests.append(self._block.digest())
        self._block = _digest()

    def flush(self) -> None:
        """As files have it."""
        self._file.flush()

    def seal(self) -> None:
        """The content is complete. Raises OSError."""
        if self._length % _BLOCK:
            self._end_block()
        self._file.write(_seal(self._length, self._digests))
        self._file.flush()


def write(path: Path, fill: Callable[[Sealing], object]) -> None:
    """Makes a sealed file of what `fill` writes, which is on the disk when this returns, under a free name. Raises
    OSError, also where `fill` raises something else because of one."""
    with open(path, "xb") as file:  # not through a link
        sealing = Sealing(file)
        try:
            fill(sealing)
        except Exception:
            if sealing.error is not None:
                raise sealing.error from None
            raise
        sealing.seal()
        os.fsync(file.fileno())


def opened(path: Path) -> IO[bytes]:
    """A plain file, to be read. Raises OSError, Damaged for what is none: a pipe would wait for its other end."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Damaged("it is no plain file")
    return file


def content_length(file: IO[bytes]) -> int | None:
    """How many bytes of an open file are its content, after all of them were looked at; None where there is no seal.

    Raises Damaged where content and seal do not fit, OSError where the file cannot be read. Moves the file's position
    nowhere.
    """
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    if size == 0:
        raise Damaged("it is empty")
    length = size - SEAL_BYTES
    seal = os.pread(descriptor, SEAL_BYTES, length) if length >= 0 else b""
    if not (found := _FORM.fullmatch(seal)):
        return None
    if int(found[1], 16) != length:
        raise Damaged(f"it was written with {int(found[1], 16)} bytes and now has {length}")
    if _seal(length, _digests_of(descriptor, length)) != seal:
        raise Damaged(f"its checksum does not fit its {length} bytes")
    return length


def _digests_of(descriptor: int, length: int) -> Iterator[bytes]:
    """The digest of each block, by as many threads as this process has processors for."""

    def digest(start: int) -> bytes:
        found, block = _digest(), min(_BLOCK, length - start)
        while block:
            data = os.pread(descriptor, block, start)
            if not data:
                raise Damaged("it became shorter while it was read")
            found.update(data)
            start, block = start + len(data), block - len(data)
        return found.digest()

    blocks = range(0, length, _BLOCK)
    threads = min(_THREADS, len(blocks), len(os.sched_getaffinity(0)))
    if threads < 2:
        yield from map(digest, blocks)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(digest, blocks)


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=32)


def _seal(length: int, digests: Iterator[bytes] | list[bytes]) -> bytes:
    whole = _digest()
    whole.update(b"%016x" % length)
    for digest in digests:
        whole.update(digest)
    return b"hpcnas-seal 1 %016x %s\n" % (length, whole.hexdigest().encode())


def set_aside(path: Path) -> Path:
    """Gives a damaged file another name beside it, which is returned. Of those set aside before, whose names
    differ from it in numbers alone, the latest few stay. Raises OSError."""
    aside = path.with_name(path.name + DAMAGED)
    os.replace(path, aside)
    form = re.compile(re.sub(r"\d+", r"\\d+", re.escape(aside.name)))
    with contextlib.suppress(OSError):
        others = [other for other in path.parent.iterdir() if other != aside and form.fullmatch(other.name)]
        for old in sorted(others, key=lambda other: other.lstat().st_ctime_ns)[: 1 - _KEPT]:
            old.unlink()
    return aside
