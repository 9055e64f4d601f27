"""How `watch` shows a search: a run at one moment as text for the terminal, by rich. Reads nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hpcnas.analysis.host_usage import Host
from hpcnas.analysis.snapshot import Snapshot, WorkerStatus
from hpcnas.command.watch_parts import devices, expected_end, line, problems, progress, since, spark, title
from hpcnas.job.log import duration
from hpcnas.job.terminal import one_line


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
        what = "in flight  " if seen.running else "to be issued again  "
        parts += ["", line((what, "bold"), ("  ".join(ages), ""))]
    if seen.recent and (lines_left is None or len(seen.workers) + 8 <= lines_left):
        parts += ["", _recent(seen)]
    if below:
        parts.append("")
    parts += [line(("✗ ", "red"), (one_line(text), "")) for text in seen.failures]
    parts += problems(seen.problems)
    return Group(*parts)


def _progress(seen: Snapshot) -> RenderableType:
    """Counts, pace, the best, and the course of the search."""
    colour = "green" if seen.running or seen.state == "complete" else "yellow"
    trainings = "" if seen.trainings_limit is None else f" · {seen.trainings:.0f}/{seen.trainings_limit} trainings"
    done = seen.evaluated + seen.stopped
    head = progress(done, done + seen.left, f"{_counted(seen)}{trainings}", colour)
    counts = [f"{seen.in_flight} in flight", f"{seen.failed} failed"]
    if seen.rate is not None:
        counts.append(_pace(seen.rate))
    if seen.running and seen.remaining is not None:
        counts.append(expected_end(seen.time, seen.remaining))
    if seen.began is not None:
        counts.append(since(seen.time, seen.began, seen.sessions, seen.running))
    lines: list[RenderableType] = [head, line((" · ".join(counts), ""))]
    if seen.best is None:
        lines.append(line(("no individual has been evaluated yet", "dim")))
    else:
        best = seen.best
        spread = "" if best["std"] is None else f" ± {best['std']:.4f}"
        judged = f"{seen.measure.name} " if seen.measure.remark else ""
        lines.append(
            line(
                (f"best {judged}", ""), (f"{best['fitness']:.4f}", f"bold {colour}"),
                (f"{spread} · individual {best['id']} · {best['parameters']:,} parameters · "
                 f"{duration(max(0.0, seen.time - best['finished']))} ago", ""),
            )
        )  # fmt: skip
        lines.append(
            line(
                (f"{seen.course[0]:.4f} ", "dim"), (spark(seen.course, 60), "cyan"), (f" {seen.course[-1]:.4f}", "dim")
            )
        )
    over = title(seen.run, seen.state, colour)
    return Panel(Group(*lines), title=over, title_align="left", border_style="bright_black")


def _counted(seen: Snapshot) -> str:
    """How much of the budget is done: what was stopped early belongs to it."""
    if not seen.stopped:
        return f"{seen.evaluated}/{seen.budget} evaluated"
    return f"{seen.evaluated + seen.stopped}/{seen.budget}: {seen.evaluated} evaluated, {seen.stopped} stopped early"


def _pace(rate: float) -> str:
    """Throughput in the unit that reads well."""
    for seconds, unit in ((1.0, "s"), (60.0, "min"), (3600.0, "h")):
        if rate * seconds >= 1 or unit == "h":
            return f"{rate * seconds:,.{0 if rate * seconds >= 100 else 1}f}/{unit}"
    raise AssertionError("hours are always good")


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
    early = ["early"] if seen.stopped else []
    for name in ("usually", "done", *early, "failed", "last"):
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
            *(str(worker.stopped) for _ in early),
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
    if worker.last_stopped:
        return f"{worker.last}: early"
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
    """This host, with the workers of this run that are on it."""
    mine = [worker for worker in seen.workers if worker.host == host.name]
    known = any(worker.host for worker in seen.workers)
    elsewhere = " · no worker of this run is here" if known and not mine else ""
    return devices(
        host, elsewhere, lambda gpu: [worker.rank for worker in mine if gpu.is_device(worker.device)]
    )
