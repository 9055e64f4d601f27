"""What the views of searches and of retrainings are made of: lines, bars, curves, this host, and the console. By rich;
reads nothing.
"""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpcnas.analysis.host_usage import Gpu, Host
from hpcnas.job import terminal
from hpcnas.job.log import duration
from hpcnas.job.terminal import one_line

BLOCKS = "▁▂▃▄▅▆▇█"


def line(*parts: tuple[str, str]) -> Text:
    """Texts and their styles as one line, which is cut where it does not fit."""
    return Text.assemble(*parts, overflow="ellipsis", no_wrap=True)


def title(text: str, state: str, colour: str) -> Text:
    """Over the view: what is watched, and its state."""
    return line((one_line(text), "bold"), (" ─ ", "dim"), (state, f"bold {colour}"))


def progress(done: int, total: int, told: str, colour: str) -> Table:
    """A bar, and beside it how far that is in words."""
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1)
    head.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(total=max(1, total), completed=done, complete_style=colour, finished_style=colour)
    head.add_row(bar, told)
    return head


def expected_end(now: float, remaining: float) -> str:
    """In how many seconds, and when; `now` in seconds since 1970."""
    at = f" ({datetime.datetime.fromtimestamp(now + remaining):%a %H:%M})" if remaining < 6 * 86400 else ""
    return f"ETA {duration(remaining)}{at}"


def since(now: float, began: float, sessions: int, running: bool) -> str:
    """For how long a job has been running, or when the last one began."""
    number = f", session {sessions}" if sessions > 1 else ""
    return f"{'for' if running else 'began'} {duration(now - began)}{'' if running else ' ago'}{number}"


def spark(values: Sequence[float], width: int) -> str:
    """A curve in block characters, `width` of them at most; flat where all values are equal."""
    width = min(width, len(values))
    chosen = [values[math.ceil((number + 1) * len(values) / width) - 1] for number in range(width)]
    low, high = min(values), max(values)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in chosen)


def devices(host: Host, remark: str, ranks: Callable[[Gpu], Sequence[int]]) -> Table:
    """This host: a line for its cores, with a remark, and one a GPU, with the ranks that are on it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        line((one_line(host.name), "bold")),
        _bar(host.use),
        f"{host.use:.0f} % of {host.cores} cores",
        _bar(100 * host.memory / host.memory_total),
        f"{host.memory:.1f} of {host.memory_total:.1f} GiB{remark}",
    )
    for gpu in host.gpus:
        on_it = [str(rank) for rank in ranks(gpu)]
        details = [_quantity(gpu.temperature, "°C"), _quantity(gpu.power, "W")]
        details += [f"rank{'s' if len(on_it) > 1 else ''} {', '.join(on_it)}"] if on_it else []
        share, memory = None, ""
        if gpu.memory is not None and gpu.memory_total:
            share = 100 * gpu.memory / gpu.memory_total
            memory = f"{gpu.memory / 1024:.1f} of {gpu.memory_total / 1024:.1f} GiB"
        grid.add_row(
            line((one_line(f"GPU {gpu.index} {gpu.name}"), "")),
            _bar(gpu.use),
            _quantity(gpu.use, "%"),
            _bar(share),
            " · ".join(text for text in (memory, *details) if text),
        )
    return grid


def _quantity(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.0f} {unit}"


def _bar(percent: float | None) -> RenderableType:
    return "" if percent is None else ProgressBar(total=100, completed=percent, width=12, complete_style="cyan")


def problems(texts: Sequence[str]) -> list[RenderableType]:
    """What a person should know, a line each."""
    return [line(("! ", "bold yellow"), (one_line(text), "yellow")) for text in texts]


def plain_console(**options: Any) -> Console:
    """One that shows texts as they are."""
    file: Any = terminal.Steering(sys.stdout)
    return Console(**({"file": file} | options), highlight=False, emoji=False, markup=False)
