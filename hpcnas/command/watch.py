"""Shows a run while it goes on: progress, the best so far, every worker, and how busy this host's devices are.

It reads the run's files alone, population.h5 and the journal of what has happened since, changes nothing and takes no
lock: start and end it (Ctrl-C) whenever you like, on any machine that sees the folder. Without a terminal, or with
--once, it prints one picture.

Workers are known by their results: while there is work for all, each has been at work since its last one. Which
individual it has is not recorded; those in flight are listed. Where fewer are in flight than there are workers, which
of them are at work is a guess, with a question mark.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnas.analysis import host_usage, needs
from hpcnas.analysis.snapshot import Snapshot, look
from hpcnas.command import common
from hpcnas.job import terminal
from hpcnas.storage.folder import StoreError

if TYPE_CHECKING:
    from rich.console import Console


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="1")
    parser.add_argument("--once", action="store_true", help="print one picture and leave")
    parser.add_argument("--interval", type=float, default=2.0, metavar="T", help="seconds between looks (default: 2)")
    options = parser.parse_args(arguments)
    if not 0.1 <= options.interval <= 3600:
        parser.error(f"--interval: expected 0.1 to 3600 seconds, got {options.interval}")
    seen = look(options.run, time.time())
    if options.json:
        common.print_json(asdict(seen) | {"host": asdict(host_usage.here(0.2))})
        return 0
    with needs.packages("the view"):
        from hpcnas.command.watch_view import picture, plain_console
    console = plain_console()
    if options.once or not console.is_terminal or os.environ.get("TERM") == "dumb":
        console.print(picture(seen, host_usage.here(0.2), None))
        return 0
    try:
        watch(options.run, seen, console, options.interval)
    except KeyboardInterrupt:
        pass  # the usual way to end it
    return 0


def watch(folder: Path, seen: Snapshot, console: Console, interval: float) -> None:
    """Shows the run again and again, until it is interrupted or the terminal is gone."""
    from rich.live import Live

    from hpcnas.command.watch_view import picture

    host_usage.here(None)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while terminal.lost(sys.stdout) is None:
            live.update(picture(seen, host_usage.here(None), console.height), refresh=True)
            time.sleep(interval)
            try:
                seen = look(folder, time.time())
            except StoreError as error:  # say, a file server that is away for a moment
                seen = replace(seen, time=time.time(), problems=[str(error)])
