"""Shows a run while it goes on, a search or a retraining, and how busy this host's devices are.

Of a search: progress, the best so far, and every worker. Of a retraining, as of its last save: every training with its
latest loss, accuracies, learning rate and pace, the expected end, and the curves of the one under way.

It reads the run's files alone, changes nothing and takes no lock: start and end it (Ctrl-C) whenever you like, on any
machine that sees the folder. Without a terminal, or with --once, it prints one picture.

Workers are known by their results: while there is work for all, each has been at work since its last one. Which
individual it has is not recorded; those in flight are listed. Where fewer are in flight than there are workers, which
of them are at work is a guess, with a question mark.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcnas.analysis import host_usage, needs, retraining_snapshot, retrainings, snapshot
from hpcnas.command import common
from hpcnas.job import terminal
from hpcnas.storage.folder import StoreError

if TYPE_CHECKING:
    from rich.console import Console

Look = Callable[[Path, float], Any]  # a folder at a time, in seconds since 1970 → a snapshot
Picture = Callable[[Any, host_usage.Host, int | None], Any]  # a snapshot, this host, lines at most → what rich shows


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="1")
    parser.add_argument("--once", action="store_true", help="print one picture and leave")
    parser.add_argument("--interval", type=float, default=2.0, metavar="T", help="seconds between looks (default: 2)")
    options = parser.parse_args(arguments)
    if not 0.1 <= options.interval <= 3600:
        parser.error(f"--interval: expected 0.1 to 3600 seconds, got {options.interval}")
    trained = retrainings.is_one(options.run)
    look: Look = retraining_snapshot.look if trained else snapshot.look
    seen = look(options.run, time.time())
    if options.json:
        common.print_json(asdict(seen) | {"host": asdict(host_usage.here(0.2))})
        return 0
    with needs.packages("the view"):
        from hpcnas.command import retraining_watch, watch_view
        from hpcnas.command.watch_parts import plain_console
    picture: Picture = retraining_watch.picture if trained else watch_view.picture
    console = plain_console()
    if options.once or not console.is_terminal or os.environ.get("TERM") == "dumb":
        console.print(picture(seen, host_usage.here(0.2), None))
        return 0
    try:
        watch(lambda: look(options.run, time.time()), seen, picture, console, options.interval)
    except KeyboardInterrupt:
        pass  # the usual way to end it
    return 0


def watch(again: Callable[[], Any], seen: Any, picture: Picture, console: Console, interval: float) -> None:
    """Shows what is `seen`, again and again, until it is interrupted or the terminal is gone."""
    from rich.live import Live

    host_usage.here(None)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while terminal.lost(sys.stdout) is None:
            live.update(picture(seen, host_usage.here(None), console.height), refresh=True)
            time.sleep(interval)
            try:
                seen = again()
            except StoreError as error:  # say, a file server that is away for a moment
                seen = replace(seen, time=time.time(), problems=[str(error)])
