"""How a run stands, a search or a retraining: whether a job is at work in its folder, as the files say. Takes no lock,
changes nothing. `summary`, `watch`, `report` and `import hpcnas` all say what is said here.

RUN/status tells how a job has ended, but not that one was killed: then whoever held the lock is gone or, on another
host, no file of the run has changed for some time.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from pathlib import Path

from hpcnas import text_file
from hpcnas.evolution.budget import is_complete
from hpcnas.job.log import duration
from hpcnas.job.status import BROKEN, COMPLETE, STATES, WRONG_USE
from hpcnas.retrain import file_store, record_file
from hpcnas.retrain.record import Record, State
from hpcnas.search.run_file import StoredRun

RUNNING, STOPPED = "running", "stopped: there is more to do"
_OF_SEARCH = ("population.h5", "journal", "status")  # what a job changes while it goes on
_OF_RETRAINING = (record_file.NAME, "status", "log", file_store.CHECKPOINT)


def of_search(folder: Path, run: StoredRun, now: float) -> tuple[str, bool]:
    """The state of a search in words, and whether a controller is at work on it at the time `now`, in seconds since
    1970."""
    quiet = 60.0 + 3.0 * run.config.run.compact_interval
    return _condition(folder, _OF_SEARCH, quiet, now, complete=is_complete(run.config.search, run.population))


def of_retraining(folder: Path, record: Record, now: float) -> tuple[str, bool]:
    """Likewise of a retraining."""
    quiet = 60.0 + 3.0 * record.recipe.run.checkpoint_interval
    states = {one.seed: one.state for one in record.trainings}
    complete = all(states.get(seed) is State.COMPLETE for seed in record.recipe.seeds)
    return _condition(folder, _OF_RETRAINING, quiet, now, complete=complete)


def _condition(folder: Path, files: Iterable[str], quiet: float, now: float, *, complete: bool) -> tuple[str, bool]:
    """A job changes one of these files at least every `quiet` seconds. `complete`: nothing is left to do, whether or
    not the job that has done it came to say so."""
    said = status(folder)
    if said in (STATES[COMPLETE], STATES[BROKEN], STATES[WRONG_USE]):
        return said, False
    if complete:
        return STATES[COMPLETE], False
    holder = _holder(folder)
    if holder is not None:
        return (RUNNING, True) if holder else (STOPPED, False)
    silent = now - max(modified(folder / name) for name in files)
    if silent <= quiet:
        return RUNNING, True  # or has ended this minute
    return f"no sign of life for {duration(silent)}", False


def modified(path: Path) -> float:
    """When the file was changed last, in seconds since 1970; 0 where that cannot be seen."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def status(folder: Path) -> str:
    """The state that RUN/status gives, as a job has left it; nothing where there is none."""
    try:
        lines = text_file.read(folder / "status", 4096).splitlines()
    except text_file.Unreadable:
        return ""
    return dict(line.partition("=")[::2] for line in lines).get("state", "")


def _holder(folder: Path) -> bool | None:
    """Whether the process that last held the run is still there; None where it was on another host."""
    import psutil  # which opening a run for its numbers does without

    try:
        match = re.fullmatch(r"host (\S+), pid (\d{1,9})\s*", text_file.read(folder / "lock", 4096))
        if match is None or match[1] != socket.gethostname():
            return None
        return psutil.Process(int(match[2])).create_time() <= modified(folder / "lock") + 1.0
    except psutil.NoSuchProcess:
        return False
    except (OSError, text_file.Unreadable, psutil.Error):
        return None
