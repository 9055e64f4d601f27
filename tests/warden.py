"""Ends what tests have started when the test process ends, however that ends: a time-out, kill -9, a closed terminal.

    python warden.py MARK PID     a child of the test process PID; lines on its standard input name folders

What tests start carries the mark in its environment, which children inherit: ranks in sessions of their own, trainers,
daemons. A daemon that has written over its environment is known by its working folder. In order, fixtures end what they
have started; this is for whoever could not. Standard library alone, without a part of this project.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import AnyStr

MARK = "HPCNAS_TEST_SESSION"
LOOKS = 100  # at the most, for those that were just starting others


class Child(subprocess.Popen[AnyStr]):
    """A process that a with block ends where what stands in it fails or is cut off, rather than wait for it."""

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, traceback)  # type: ignore[arg-type]


class Warden:
    """One for this process: from now on nothing that it starts outlives it."""

    def __init__(self) -> None:
        before = {name: value for name, value in os.environ.items() if name != MARK}
        os.environ[MARK] = uuid.uuid4().hex
        self._process = subprocess.Popen(
            [sys.executable, "-S", __file__, os.environ[MARK], str(os.getpid())], env=before, cwd="/",
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def watch(self, folder: Path) -> None:
        """Whoever works in this folder, or below it, is of this process too."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{folder}\n".encode())
        self._process.stdin.flush()


def processes(mark: str, folders: list[str]) -> Iterator[int]:
    """Living processes with the mark, or with one of the folders for their place."""
    sign = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            here = os.readlink(entry / "cwd")
            if any(here == folder or here.startswith(f"{folder}/") for folder in folders):
                yield int(entry.name)
            elif sign in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def main() -> None:
    """Waits for the parent's end, then kills."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mark, parent, text = sys.argv[1], int(sys.argv[2]), b""  # it may have ended before this line
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], 1.0)
        if readable:
            new = os.read(0, 65536)
            text += new
            if not new:  # the parent's last word: it ends
                break
    while os.getppid() == parent:
        time.sleep(0.05)
    while select.select([0], [], [], 1.0)[0] and (new := os.read(0, 65536)):  # said before this process could look
        text += new
    folders = text.decode(errors="surrogateescape").splitlines()
    for _ in range(LOOKS):
        found = [process for process in processes(mark, folders) if process != os.getpid()]
        if not found:
            return
        for process in found:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
