"""How a job ends: exit codes, and the words for them in RUN/status, on which job scripts decide (D5).

Both programs write RUN/status when they begin, now and then, and when they end: as if they ended just then, so that it
is right where they are killed.
"""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Callable
from pathlib import Path

COMPLETE, BROKEN, WRONG_USE, MORE_TO_DO = 0, 1, 2, 75  # the last is EX_TEMPFAIL of sysexits.h
STATES = {COMPLETE: "complete", MORE_TO_DO: "more", WRONG_USE: "wrong-use", BROKEN: "broken"}
_logger = logging.getLogger("hpcnas")


def write_status(path: Path, put: Callable[[str, bytes], object], exit_code: int, **facts: object) -> None:
    """Gives RUN/status, which is `path`, new content: the state as the exit code, facts in their order, the time. `put`
    replaces a file of the run by its name, and raises OSError; a folder that cannot be written to is reported, and no
    more."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        put(path.name, status_text(exit_code, **facts, time=now).encode())
    except OSError as error:
        _logger.error("%s: expected to write it: %s", path, error.strerror)


def status_text(exit_code: int, **facts: object) -> str:
    """What RUN/status says: the state as the exit code, facts in their order, and the word by which a job script knows
    its own start (HPCNAS_START), if there is one."""
    start = os.environ.get("HPCNAS_START", "")
    own = {"start": start} if start.isprintable() and 0 < len(start) <= 200 else {}
    return "".join(f"{key}={value}\n" for key, value in {"state": STATES[exit_code], **facts, **own}.items())
