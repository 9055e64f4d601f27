"""When the job ends: what the person said, else what the batch system says (D5). Standard library alone.

One small class a batch system; each answers with the end in seconds since 1970, or says that it does not know it. That
time is asked for once, and then counted by a clock that is never set: a wall clock that is put forward ends no job.
"""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hpcnas.job.clocks import steady
from hpcnas.job.signals import Signals

_PATIENCE = 20.0  # seconds that a batch system's command may take


def _ignore(text: str) -> None:
    pass


@dataclass(frozen=True)
class Slurm:
    """SLURM: SLURM_JOB_END_TIME, else what squeue says; also where the first is past, and may be another job's."""

    environment: Mapping[str, str]

    def end(self, started: float) -> float | str:
        text = self.environment.get("SLURM_JOB_END_TIME", "")
        announced = float(text) if text.isdecimal() else None
        if announced is not None and announced > started:
            return announced
        job = self.environment["SLURM_JOB_ID"]
        printed = _output("squeue", "--noheader", "--format=%e", f"--jobs={job}")
        end = _stamp(printed, "%Y-%m-%dT%H:%M:%S")  # local time; N/A or Unknown where there is no limit
        if end is None:
            end = announced
        return f"SLURM does not say when job {job} ends (squeue: {_shown(printed)})" if end is None else end


@dataclass(frozen=True)
class Pbs:
    """OpenPBS and PBS Pro: what qstat says of start and limit; of what is used, which it hears minutes late; else
    PBS_WALLTIME from now on."""

    environment: Mapping[str, str]

    def end(self, started: float) -> float | str:
        job = self.environment["PBS_JOBID"]
        printed = _output("qstat", "-f", job)
        limit = _clock(printed, "Resource_List.walltime")
        if limit is not None:
            begun = _stamp(_value(printed, "stime") or "", "%a %b %d %H:%M:%S %Y")
            if begun is not None and begun + limit > started:  # not so where the job was suspended
                return begun + limit
            return started + limit - (_clock(printed, "resources_used.walltime") or 0.0)
        announced = self.environment.get("PBS_WALLTIME", "")
        if announced.isdecimal():
            return started + float(announced)
        return f"PBS does not say when job {job} ends (qstat has no walltime of it)"


def job_end(
    walltime: float | None, environment: Mapping[str, str], started: float, warn: Callable[[str], None] = _ignore
) -> float | None:
    """When the job ends, in seconds since 1970; None where that is not known, of which a batch job is warned.

    `walltime` is in seconds from `started`, which is now."""
    if walltime is not None:
        return started + walltime
    system: Slurm | Pbs
    if "SLURM_JOB_ID" in environment:
        system = Slurm(environment)
    elif "PBS_JOBID" in environment:
        system = Pbs(environment)
    else:
        return None
    end = system.end(started)
    if isinstance(end, str):
        warn(f"{end}: unless it has no end, give --walltime, or have it signalled ahead of its end")
        return None
    return end


def reason_to_leave(
    walltime: float | None, grace: float, signals: Signals, warn: Callable[[str], None] = _ignore
) -> Callable[[], str | None]:
    """What is to be asked again and again: why to leave, if a signal has arrived or the job ends within `grace`
    seconds; None while there is no reason. Warns where the end of a batch job cannot be found out."""
    now = time.time()
    end = job_end(walltime, os.environ, now, warn)
    deadline = None if end is None else steady() + (end - now)

    def reason() -> str | None:
        if signals.first is not None:
            return f"{signals.first} received: saving everything; start the same command again to go on"
        if deadline is not None and steady() > deadline - grace:
            return "the job's time is nearly over: saving everything; start the same command again to go on"
        return None

    return reason


def _output(*command: str) -> str:
    """What a command prints; empty if it cannot be run, fails or takes too long."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            stdin=subprocess.DEVNULL,
            check=True,
            env={**os.environ, "SLURM_TIME_FORMAT": "standard"},  # whatever the person's profile wishes to see
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _shown(printed: str) -> str:
    words = " ".join(printed.split())
    return f"{words[:60]!r}" if words else "no answer"


def _stamp(text: str, form: str) -> float | None:
    """Seconds since 1970 of a local time; None where it is not of that form."""
    try:
        return datetime.datetime.strptime(text.strip(), form).timestamp()
    except (ValueError, OverflowError):
        return None


def _value(printed: str, name: str) -> str | None:
    """What stands in a line `name = VALUE`."""
    match = re.search(rf"^[ \t]*{re.escape(name)} = (.*)$", printed, re.MULTILINE)
    return None if match is None else match[1].strip()


def _clock(printed: str, name: str) -> float | None:
    """Seconds of a line `name = [DD:]HH:MM:SS`."""
    value = _value(printed, name)
    if value is None or re.fullmatch(r"\d+(:\d+)*", value) is None:
        return None
    seconds = 0
    units = (1, 60, 3600, 86400)
    for unit, digits in zip(units, reversed(value.split(":")), strict=False):
        seconds += unit * int(digits)
    return float(seconds)
