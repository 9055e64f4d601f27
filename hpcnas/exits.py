"""How a job ends: exit codes, and the words for them in RUN/status, on which job scripts decide (D5)."""

from __future__ import annotations

COMPLETE, BROKEN, WRONG_USE, MORE_TO_DO = 0, 1, 2, 75  # the last is EX_TEMPFAIL of sysexits.h
STATES = {COMPLETE: "complete", MORE_TO_DO: "more", WRONG_USE: "wrong-use", BROKEN: "broken"}
