"""How a job ends: exit codes, and the words for them in RUN/status, on which job scripts decide (D5)."""

from __future__ import annotations

import os

COMPLETE, BROKEN, WRONG_USE, MORE_TO_DO = 0, 1, 2, 75  # the last is EX_TEMPFAIL of sysexits.h
STATES = {COMPLETE: "complete", MORE_TO_DO: "more", WRONG_USE: "wrong-use", BROKEN: "broken"}


def status_text(exit_code: int, **facts: object) -> str:
    """What RUN/status says: the state as the exit code, facts in their order, and the word by which a job script knows
    its own start (HPCNAS_START), if there is one."""
    start = os.environ.get("HPCNAS_START", "")
    own = {"start": start} if start.isprintable() and 0 < len(start) <= 200 else {}
    return "".join(f"{key}={value}\n" for key, value in {"state": STATES[exit_code], **facts, **own}.items())
