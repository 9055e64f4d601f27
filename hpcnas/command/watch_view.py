"""How `watch` looks: a run at one moment as text for the terminal, by rich. Reads nothing."""

from __future__ import annotations

import datetime
import math
import re
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpcnas.analysis.host_usage import Host
from hpcnas.analysis.snapshot import Snapshot, WorkerStatus
from hpcnas.job import terminal
from hpcnas.job.log import duration
from hpcnas.job.terminal import one_line

BLOCKS = "▁▂▃▄▅▆▇█"


def picture(seen: Snapshot, host: Host, height: int | None) -> RenderableType:
    """The whole view; `height` lines at most, where it is given."""
    parts: list[RenderableType] = [_progress(seen), "", _devices(seen, host)]
    below = len(seen.failures) + len(seen.problems)
    lines_left = None if height is None else max(3, height - 15 - len(host.gpus) - below)
    if seen.workers:
        shown = seen.workers
        if lines_left is not None and len(shown) > lines_left:
            shown = sorted(seen.workers, key=lambda worker: worker.since)[: lines_left - 1]
        parts += ["", _workers(seen, shown)]
    if seen.flying:
        ages = [f"{id} ({duration(seconds)})" if seen.running else str(id) for id, seconds in seen.flying[:100]]
        title = "in flight  " if seen.running else "to be issued again  "
        parts += ["", _line((title, "bold"), ("  ".join(ages), ""))]
    if seen.recent and (lines_left is None or len(seen.workers) + 8 <= lines_left):
        parts += ["", _recent(seen)]
    if below:
        parts.append("")
    parts += [_line(("✗ ", "red"), (one_line(text), "")) for text in seen.failures]
    parts += [_line(("! ", "bold yellow"), (one_line(text), "yellow")) for text in seen.problems]
    return Group(*parts)


def _line(*parts: tuple[str, str]) -> Text:
    return Text.assemble(*parts, overflow="ellipsis", no_wrap=True)


def _progress(seen: Snapshot) -> RenderableType:
    """Counts, pace, the best, and the course of the search."""
    colour = "green" if seen.running or seen.state == "complete" else "yellow"
    trainings = "" if seen.trainings_limit is None else f" · {seen.trainings:.0f}/{seen.trainings_limit} trainings"
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1)
    head.add_column(justify="right", no_wrap=True)
    head.add_row(
        ProgressBar(
            total=max(1, seen.evaluated + seen.stopped + seen.left),
            completed=seen.evaluated + seen.stopped,
            complete_style=colour,
            finished_style=colour,
        ),
        f"{seen.evaluated}/{seen.budget} evaluated{trainings}",
    )
    counts = [f"{seen.in_flight} in flight", f"{seen.failed} failed"]
    if seen.stopped:
        counts.insert(0, f"{seen.stopped} stopped early")
    if seen.rate is not None:
        counts.append(_pace(seen.rate))
    if seen.running and seen.remaining is not None:
        soon = seen.remaining < 6 * 86400
        at = f" ({datetime.datetime.fromtimestamp(seen.time + seen.remaining):%a %H:%M})" if soon else ""
        counts.append(f"ETA {duration(seen.remaining)}{at}")
    if seen.began is not None:
        number = f", session {seen.sessions}" if seen.sessions > 1 else ""
        counts.append(f"{'for' if seen.running else 'began'} {duration(seen.time - seen.began)}"
                      f"{'' if seen.running else ' ago'}{number}")  # fmt: skip
    lines: list[RenderableType] = [head, _line((" · ".join(counts), ""))]
    if seen.best is None:
        lines.append(_line(("no individual has been evaluated yet", "dim")))
    else:
        best = seen.best
        spread = "" if best["std"] is None else f" ± {best['std']:.4f}"
        lines.append(
            _line(
                ("best ", ""), (f"{best['fitness']:.4f}", f"bold {colour}"),
                (f"{spread} · individual {best['id']} · {best['parameters']:,} parameters · "
                 f"{duration(max(0.0, seen.time - best['finished']))} ago", ""),
            )
        )  # fmt: skip
        lines.append(
            _line(
                (f"{seen.course[0]:.4f} ", "dim"), (spark(seen.course, 60), "cyan"), (f" {seen.course[-1]:.4f}", "dim")
            )
        )
    title = _line((one_line(seen.run), "bold"), (" ─ ", "dim"), (seen.state, f"bold {colour}"))
    return Panel(Group(*lines), title=title, title_align="left", border_style="bright_black")


def _pace(rate: float) -> str:
    """Throughput in the unit that reads well."""
    for seconds, unit in ((1.0, "s"), (60.0, "min"), (3600.0, "h")):
        if rate * seconds >= 1 or unit == "h":
            return f"{rate * seconds:,.{0 if rate * seconds >= 100 else 1}f}/{unit}"
    raise AssertionError("hours are always good")


def spark(values: Sequence[float], width: int) -> str:
    """A curve in block characters, `width` of them at most; flat where all values are equal."""
    width = min(width, len(values))
    chosen = [values[math.ceil((number + 1) * len(values) / width) - 1] for number in range(width)]
    low, high = min(values), max(values)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in chosen)


def _workers(seen: Snapshot, shown: Sequence[WorkerStatus]) -> Table:
    """A row a worker."""
    busy = min(seen.in_flight, len(seen.workers)) if seen.running else 0
    left_out = f", the longest at it; {len(seen.workers) - len(shown)} more" if len(shown) < len(seen.workers) else ""
    table = Table(
        title=f"workers: {busy} of {len(seen.workers)} at work{left_out}", title_justify="left", title_style="bold",
        box=None, header_style="dim", pad_edge=False,
    )  # fmt: skip
    for name in ("rank", "host", "device"):
        table.add_column(name, justify="right" if name == "rank" else "left", no_wrap=True, overflow="ellipsis")
    table.add_column("state", no_wrap=True)
    table.add_column("at it for", no_wrap=True)
    for name in ("usually", "done", "failed", "last"):
        table.add_column(name, justify="right", no_wrap=True)
    for worker in shown:
        table.add_row(
            str(worker.rank),
            one_line(worker.host),
            _short(worker.device),
            Text(worker.state, style={"at work": "green", "at work?": "green"}.get(worker.state, "yellow")),
            _meter(seen.time - worker.since, worker.typical) if worker.state.startswith("at work") else "",
            "" if worker.typical is None else duration(worker.typical),
            str(worker.evaluated),
            Text(str(worker.failed), style="red" if worker.failed else "dim"),
            _last(worker),
        )
    return table


def _meter(elapsed: float, typical: float | None) -> Text:
    """How far an evaluation of typical duration would be."""
    elapsed = max(0.0, elapsed)
    if not typical:
        return Text(duration(elapsed))
    full = min(8, round(8 * elapsed / typical))
    style = "yellow" if elapsed > 2 * typical else "green"
    return Text.assemble(("━" * full, style), ("┄" * (8 - full), "dim"), f" {duration(elapsed)}")


def _short(device: str) -> str:
    """A device with as much of a GPU's UUID as tells it from others."""
    return re.sub(r"(GPU-[0-9a-f]{8})-[-0-9a-f]+", r"\1…", one_line(device))


def _last(worker: WorkerStatus) -> str:
    if worker.last is None:
        return ""
    return f"{worker.last}: {'failed' if worker.last_fitness is None else format(worker.last_fitness, '.4f')}"


def _recent(seen: Snapshot) -> Table:
    """The last evaluations."""
    table = Table(
        title="last evaluated", title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False
    )
    for name in ("individual", "fitness", "parent", "gain", "parameters", "took", "rank", "ago"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in seen.recent:
        gain = one["gain"]
        table.add_row(
            str(one["id"]),
            f"{one['fitness']:.4f}",
            "" if one["parent"] is None else str(one["parent"]),
            Text("" if gain is None else f"{gain:+.4f}", style="green" if gain is not None and gain > 0 else "dim"),
            f"{one['parameters']:,}",
            duration(one["seconds"]),
            str(one["rank"]),
            duration(max(0.0, seen.time - one["finished"])),
        )
    return table


def _devices(seen: Snapshot, host: Host) -> RenderableType:
    """This host: a line for its cores, and one a GPU."""
    mine = [worker for worker in seen.workers if worker.host == host.name]
    known = any(worker.host for worker in seen.workers)
    elsewhere = " · no worker of this run is here" if known and not mine else ""
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        _line((one_line(host.name), "bold")),
        _bar(host.use),
        f"{host.use:.0f} % of {host.cores} cores",
        _bar(100 * host.memory / host.memory_total),
        f"{host.memory:.1f} of {host.memory_total:.1f} GiB{elsewhere}",
    )
    for gpu in host.gpus:
        ranks = [str(worker.rank) for worker in mine if gpu.is_device(worker.device)]
        details = [_quantity(gpu.temperature, "°C"), _quantity(gpu.power, "W")]
        details += [f"rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)}"] if ranks else []
        share, memory = None, ""
        if gpu.memory is not None and gpu.memory_total:
            share = 100 * gpu.memory / gpu.memory_total
            memory = f"{gpu.memory / 1024:.1f} of {gpu.memory_total / 1024:.1f} GiB"
        grid.add_row(
            _line((one_line(f"GPU {gpu.index} {gpu.name}"), "")),
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


def plain_console(**options: Any) -> Console:
    """One that shows texts as they are."""
    file: Any = terminal.Steering(sys.stdout)
    return Console(**({"file": file} | options), highlight=False, emoji=False, markup=False)
