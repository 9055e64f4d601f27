"""Whether a job is at work in a run's folder, of a search or of a retraining, as its files say. Takes no lock, changes
nothing.

RUN/status tells how a job has ended, but not that one was killed: then whoever held the lock is gone or, on another
host, no file of the run has changed for some time.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from pathlib import Path

import psutil

from hpcnas import text_file
from hpcnas.job.log import duration


def condition(folder: Path, files: Iterable[str], quiet: float, now: float) -> tuple[str, bool]:
    """The state of the run in words, and whether a job is at work on it at the time `now`, in seconds since 1970. A job
    changes one of these files at least every `quiet` seconds."""
    status = _status(folder)
    if status in ("complete", "broken", "wrong-use"):
        return status, False
    holder = _holder(folder)
    if holder is not None:
        return ("running", True) if holder else ("stopped: there is more to do", False)
    silent = now - max(modified(folder / name) for name in files)
    if silent <= quiet:
        return "running", True  # or has ended this minute
    return f"no sign of life for {duration(silent)}", False


def modified(path: Path) -> float:
    """When the file was changed last, in seconds since 1970; 0 where that cannot be seen."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _status(folder: Path) -> str:
    try:
        lines = text_file.read(folder / "status", 4096).splitlines()
    except text_file.Unreadable:
        return ""
    return dict(line.partition("=")[::2] for line in lines).get("state", "")


def _holder(folder: Path) -> bool | None:
    """Whether the process that last held the run is still there; None where it was on another host."""
    try:
        match = re.fullmatch(r"host (\S+), pid (\d{1,9})\s*", text_file.read(folder / "lock", 4096))
        if match is None or match[1] != socket.gethostname():
            return None
        return psutil.Process(int(match[2])).create_time() <= modified(folder / "lock") + 1.0
    except psutil.NoSuchProcess:
        return False
    except (OSError, text_file.Unreadable, psutil.Error):
        return None
