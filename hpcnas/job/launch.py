"""What the programs that MPI starts have in common: joining the job, rank 0's word at its beginning, and leaving it.

    join ─► rank 0 reads and checks ─► its orders, or an exit code, to all ─► the program's own work ─► leave together

Whatever happens, no rank is left waiting for another. Knows neither a search nor a retraining.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

from hpcnas import plugins
from hpcnas.errors import Error
from hpcnas.job.signals import Signals
from hpcnas.job.status import BROKEN, COMPLETE, MORE_TO_DO, WRONG_USE
from hpcnas.job.world import LaunchError, RanksMissing, World, connect
from hpcnas.text_file import brief

Orders = TypeVar("Orders")
Kept = TypeVar("Kept")


class Leave(Exception):
    """The job ends before it began: what to print, in lines of bounded length where it is a complaint, and the exit
    code."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text if exit_code == COMPLETE else "\n".join(map(brief, text.splitlines())))
        self.exit_code = exit_code


class Abandoned(Exception):
    """Other ranks are gone, so that this one can neither go on nor take leave of them: one line."""


def started_as(module: str) -> str:
    """What messages call this program: the command, such as `hpcnas retrain`, that has started it, else the module that
    `python -m` runs."""
    name = os.path.basename(sys.argv[0])
    return name if name.startswith("hpcnas ") else module


def rank_of(program: str, work: Callable[[World, list[str], Signals], int], signals: Signals) -> int:
    """Plays this rank's part in `work` (world, arguments, signals), from joining to leaving; returns its exit code."""
    try:
        world = connect()
    except LaunchError as error:
        if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")) == "0":
            print(f"{program}: {error}", file=sys.stderr)
        return WRONG_USE
    try:
        exit_code = work(world, sys.argv[1:], signals)
        _take_leave(world, program, exit_code)
        return exit_code
    except BaseException as error:
        name, exit_code = f"{program}: rank {world.rank} on {socket.gethostname()}", BROKEN
        if isinstance(error, Abandoned | plugins.PluginFault):
            exit_code = MORE_TO_DO if isinstance(error, Abandoned) else BROKEN
            print(f"{name}: {error}", file=sys.stderr)
        else:
            print(f"{name} broke:", file=sys.stderr)
            traceback.print_exc()
        sys.stderr.flush()
        time.sleep(0.1)  # a launcher told to abort may drop what it has not read yet
        world.abort(exit_code)
        raise


def _take_leave(world: World, program: str, exit_code: int) -> None:
    """Returns where all ranks are there to finalise MPI together, and no thread of this one waits for others; else ends
    this process, or all of them, with that exit code."""
    try:
        together = world.finish()
    except RanksMissing as missing:  # MPI_Finalize would wait for them, and the launcher for their processes
        print(f"{program}: {missing}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        time.sleep(0.1)  # as above
        world.abort(exit_code)
        os._exit(exit_code)
    if together and not world.waits:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if together:  # else MPI_Finalize may wait for the dead
        world.finalise()
    os._exit(exit_code)


def first_decides(world: World, prepare: Callable[[], tuple[Orders, Kept | None]]) -> tuple[Orders | int, Kept | None]:
    """Rank 0's orders on every rank, and what it alone has opened; where its `prepare` raises Leave, the exit code in
    place of orders, and the text is printed once."""
    orders: Orders | int | None = None
    kept: Kept | None = None
    if world.rank == 0:
        try:
            orders, kept = prepare()
        except Leave as leave:
            print(leave, file=sys.stdout if leave.exit_code == COMPLETE else sys.stderr, flush=True)
            orders = leave.exit_code
    decided: Orders | int = world.broadcast(orders)
    return decided, kept


def together(world: World, action: Callable[[], Kept], exit_code: int = WRONG_USE) -> Kept:
    """What the action gives on this rank; all ranks call it at the same place. Raises Leave on all of them alike where
    the action raises Error on any: with the sentence of the first such rank."""
    problem: str | None = None
    try:
        found = action()
    except plugins.PluginFault:  # it ends the job with its traceback
        raise
    except Error as error:
        problem = str(error)
    for text in world.gather(problem):
        if text is not None:
            raise Leave(text, exit_code)
    return found


def say(text: str) -> None:
    """Tells a person something before the log is there."""
    print(text, file=sys.stderr, flush=True)


def load_plugins(world: World, names: str | None) -> None:
    """Loads the plugins that rank 0 has ordered on every rank. Raises Leave, on all ranks alike, where one cannot."""
    problem = None
    try:
        plugins.load(names)
    except plugins.PluginError as error:
        problem = f"rank {world.rank} on {socket.gethostname()}: {error}"
    if problems := [text for text in world.gather(problem) if text is not None]:
        also = f" (and {len(problems) - 1} other ranks)" if len(problems) > 1 else ""
        raise Leave(f"{problems[0]}{also}", WRONG_USE)
