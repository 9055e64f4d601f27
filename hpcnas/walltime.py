"""When the job ends: what the person said, else what the batch system says (D5). Standard library alone.

One small class a batch system; each answers with the end in seconds since 1970, or None if it does not know.
"""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hpcnas.signals import Signals

_PATIENCE = 20.0  # seconds that a batch system's command may take


@dataclass(frozen=True)
class Slurm:
    """SLURM: SLURM_JOB_END_TIME, else what squeue says."""

    environment: Mapping[str, str]

    def end(self, started: float) -> float | None:
        announced = self.environment.get("SLURM_JOB_END_TIME", "")
        if announced.isdigit():
            return float(announced)
        printed = _output("squeue", "--noheader", "--format=%e", f"--jobs={self.environment['SLURM_JOB_ID']}")
        try:  # local time; N/A or Unknown where there is no limit
            return datetime.datetime.fromisoformat(printed.split()[0]).timestamp()
        except (IndexError, ValueError):
            return None


@dataclass(frozen=True)
class Pbs:
    """OpenPBS and PBS Pro: what qstat says is left, else PBS_WALLTIME from now on."""

    environment: Mapping[str, str]

    def end(self, started: float) -> float | None:
        printed = _output("qstat", "-f", self.environment["PBS_JOBID"])
        limit = _clock(printed, "Resource_List.walltime")
        if limit is not None:
            return started + limit - (_clock(printed, "resources_used.walltime") or 0.0)
        announced = self.environment.get("PBS_WALLTIME", "")
        return started + float(announced) if announced.isdigit() else None


def job_end(walltime: float | None, environment: Mapping[str, str], started: float) -> float | None:
    """When the job ends, in seconds since 1970; None where nobody knows. `walltime` is in seconds from `started`."""
    if walltime is not None:
        return started + walltime
    if "SLURM_JOB_ID" in environment:
        return Slurm(environment).end(started)
    if "PBS_JOBID" in environment:
        return Pbs(environment).end(started)
    return None


def reason_to_leave(walltime: float | None, grace: float, signals: Signals) -> Callable[[], str | None]:
    """What is to be asked again and again: why to leave, if a signal has arrived or the job ends within `grace`
    seconds; None while there is no reason."""
    end = job_end(walltime, os.environ, started=time.time())

    def reason() -> str | None:
        if signals.first is not None:
            return f"{signals.first} received: saving everything; start the same command again to go on"
        if end is not None and time.time() > end - grace:
            return "the job's time is nearly over: saving everything; start the same command again to go on"
        return None

    return reason


def _output(*command: str) -> str:
    """What a command prints; empty if it cannot be run, fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _clock(printed: str, name: str) -> float | None:
    """Seconds of a line `name = [DD:]HH:MM:SS`."""
    match = re.search(rf"^\s*{re.escape(name)} = ([\d:]+)\s*$", printed, re.MULTILINE)
    if match is None:
        return None
    seconds = 0
    units = (1, 60, 3600, 86400)
    for unit, digits in zip(units, reversed(match[1].split(":")), strict=False):
        seconds += unit * int(digits)
    return float(seconds)
