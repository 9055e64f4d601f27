"""A folder as the disk has it, call by call, and a process that stops at one of its calls: killed, or without power.

    child                                      parent
    script ─► call k ✂  the folder is left as  looks at what is left on the disk
              the disk would have it

Folders may stand in folders. `crash_points` enumerates all calls of a script with all ways in which each can be its
last one.
"""

from __future__ import annotations

import os
import shutil
import stat
import traceback
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from hpcnas.storage import durable


class Ending(Enum):
    """What becomes of the last call, and of what the machine had not yet brought to the disk."""

    KILLED = "the process is killed before the call"
    KILLED_HALFWAY = "the process is killed when half of the bytes are written"
    POWER_LOST = "the machine stops: only what was synced is left, under the names that were synced"
    POWER_LOST_AFTER_NAMES = "the machine stops: all names are as they were last, of the bytes only what was synced"
    POWER_LOST_HALFWAY = "the machine stops: all names are as they were last, with half of the bytes not synced"


CALLS = ("open", "mkdir", "write", "ftruncate", "fsync", "fdatasync", "chown", "chmod", "rename", "unlink", "rmdir")
REAL = {name: getattr(os, name) for name in CALLS}
STOPPED, BROKEN = 3, 4  # exit codes of the child
Tree = dict[str, Any]  # name → bytes of a file, or Tree of a folder
Say = Callable[[str], None]


class Disk:
    """The folder `root`, which need not be there yet; ends the process at call number `last`; tells `note` of calls."""

    def __init__(self, root: Path, last: int, ending: Ending, note: Say) -> None:
        self._root, self._last, self._ending, self._note = root, last, ending, note
        self._calls = 0
        self._bytes: dict[int, bytes] = {}  # inode → what is synced
        self._names: dict[int, dict[str, int]] = {}  # inode of a folder → its synced names
        self._held: list[int] = []  # no other file gets the inode of one of these
        for folder, _, files in os.walk(root):
            for path in (folder, *(os.path.join(folder, file) for file in files)):
                self._sync(os.open(path, os.O_RDONLY))
        for name in CALLS:
            setattr(os, name, self._numbered(name))
        Path.write_bytes = write_bytes  # type: ignore[method-assign, assignment]

    def end(self) -> NoReturn:
        """The process and perhaps the machine stop here."""
        for name, call in REAL.items():
            setattr(os, name, call)
        if self._ending not in (Ending.KILLED, Ending.KILLED_HALFWAY):
            left = self._left(self._root.stat().st_ino, self._root) if self._root.exists() else {}
            shutil.rmtree(self._root, ignore_errors=True)
            _lay_out(self._root, left)
        os._exit(STOPPED)

    def _numbered(self, name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if name == "open" and not given[1] & os.O_CREAT:
                return REAL["open"](*given, **named)
            self._calls += 1
            self._note(name)
            if self._calls == self._last:
                if name == "write" and self._ending is Ending.KILLED_HALFWAY:
                    REAL["write"](given[0], given[1][: len(given[1]) // 2])
                self.end()
            result = REAL[name](*given, **named)
            if name in ("fsync", "fdatasync"):
                self._sync(os.dup(given[0]))
            return result

        return call

    def _sync(self, descriptor: int) -> None:
        self._held.append(descriptor)
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(f"/proc/self/fd/{descriptor}") as entries:
                self._names[status.st_ino] = {entry.name: entry.inode() for entry in entries}
        else:
            self._bytes[status.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def _left(self, inode: int, now: Path) -> Tree | bytes:
        """What is left of a file or folder; `now` is where it stands with all names that it has, synced or not."""
        if self._ending is not Ending.POWER_LOST:
            if now.is_dir():
                return {entry.name: self._left(entry.inode(), now / entry.name) for entry in os.scandir(now)}
            synced = self._bytes.get(inode, b"")
            return synced if self._ending is Ending.POWER_LOST_AFTER_NAMES else _half(synced, now.read_bytes())
        if inode not in self._names:  # a file, or a folder whose names were never synced
            return self._bytes.get(inode, {} if self._is_folder(inode) else b"")
        return {name: self._left(other, now) for name, other in self._names[inode].items()}

    def _is_folder(self, inode: int) -> bool:
        return any(os.stat(folder).st_ino == inode for folder, _, _ in os.walk(self._root))


def _half(synced: bytes, now: bytes) -> bytes:
    return now[: (len(synced) + len(now)) // 2] if now.startswith(synced) else now


def _lay_out(path: Path, left: Tree | bytes) -> None:
    if isinstance(left, bytes):
        path.write_bytes(left)
        return
    path.mkdir()
    for name, content in left.items():
        _lay_out(path / name, content)


def write_bytes(path: Path, data: bytes) -> None:
    """Path.write_bytes, but by calls that are numbered."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    durable.write_all(descriptor, data)
    os.close(descriptor)


def crash(script: Callable[[Say], None], root: Path, last: int, ending: Ending) -> list[str]:
    """Runs the script in a child that stops at its call number `last`, or at its end; returns what was said, in order:
    `call NAME` for each call, and what the script said."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)

            def say(text: str) -> None:
                REAL["write"](writing, f"{text}\n".encode())

            disk = Disk(root, last, ending, lambda name: say(f"call {name}"))
            script(say)
            disk.end()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(BROKEN)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == STOPPED, f"the script broke at call {last} ({ending.value}): see its standard error"
    return said


def calls(said: Iterable[str]) -> list[str]:
    """The names of the calls, in order."""
    return [line.removeprefix("call ") for line in said if line.startswith("call ")]


def crash_points(calls: list[str], endings: Iterable[Ending] = Ending) -> Iterator[tuple[int, Ending]]:
    """Every call and the end of the script, with every one of the endings that makes a difference there."""
    for number, name in enumerate([*calls, "end"], start=1):
        for ending in endings:
            if name == "write" or ending is not Ending.KILLED_HALFWAY:
                yield number, ending
