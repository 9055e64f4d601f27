#!/usr/bin/env python3
"""Shows a run while it goes on: progress, the best so far, every worker, and how busy this host's devices are.

It reads the run's files alone, population.h5 and the journal of what has happened since, changes nothing and takes no
lock: start and end it (Ctrl-C) whenever you like, on any machine that sees the folder. Without a terminal, or with
--once, it prints one picture.

Workers are known by their results: while there is work for all, each has been at work since its last one. Which
individual it has is not recorded; those in flight are listed. Where fewer are in flight than there are workers, who is
at work is a guess, with a question mark.
"""

from __future__ import annotations

import datetime
import math
import os
import re
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import toolkit
import usage

from hpcnas.individuals import State
from hpcnas.messages import Evaluation, Result
from hpcnas.population import Population
from hpcnas.progress import duration
from hpcnas.runfile import StoredRun, StoreError
from hpcnas.scheduling import evaluations_left
from hpcnas.store import salvage

try:
    from rich.console import Console, Group, RenderableType
    from rich.live import Live
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text
except ImportError as error:
    toolkit.fail(f"expected rich for the view, but {error}: pip install rich")

ROUNDS = 4  # of evaluations by all workers, over which throughput is measured
BLOCKS = "▁▂▃▄▅▆▇█"


# ── what there is to see ────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Worker:
    """A worker, by its results of the present session. `since` is the end of the last one, or the session's start, in
    seconds since 1970; `typical` the median duration of its evaluations in seconds."""

    rank: int
    host: str
    device: str
    state: str
    since: float
    typical: float | None
    evaluated: int
    failed: int
    last: int | None  # individual of its last result
    last_fitness: float | None


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment. Times are in seconds since 1970, durations in seconds."""

    run: str
    time: float
    state: str
    running: bool
    evaluated: int
    budget: int
    left: int  # evaluations to come: an estimate where the trainings are limited
    trainings: int
    trainings_limit: int | None
    failed: int
    in_flight: int
    sessions: int
    began: float | None
    rate: float | None  # evaluations a second, lately
    remaining: float | None
    best: dict[str, Any] | None
    course: list[float]  # best fitness after each evaluation
    workers: list[Worker]
    flying: list[tuple[int, float]]  # individuals in flight, and for how long at most
    recent: list[dict[str, Any]]
    failures: list[str]
    problems: list[str]


def look(folder: Path, now: float) -> Snapshot:
    """The run as its files have it. Raises StoreError."""
    run, problems = salvage(folder)
    population, search = run.population, run.config.search
    left = evaluations_left(search, population)
    began = run.sessions[-1].started if run.sessions else None
    state, running = condition(folder, run, now)
    found = workers(run, running)
    rate = throughput(run, now if running else None)
    born = population.column("born")
    return Snapshot(
        run=str(folder),
        time=now,
        state=state,
        running=running,
        evaluated=len(population.evaluated),
        budget=search.budget,
        left=left,
        trainings=population.trainings,
        trainings_limit=search.trainings,
        failed=len(population.failures),
        in_flight=population.in_flight,
        sessions=len(run.sessions),
        began=began,
        rate=rate,
        remaining=left / rate if rate else None,
        best=None if population.best is None else individual(run, population.best),
        course=population.column("fitness")[population.bests].tolist(),
        workers=found,
        flying=[(id, max(0.0, now - max(born[id], began or 0.0))) for id in population.issued],
        recent=[individual(run, int(id)) for id in population.evaluated[:-6:-1]],
        failures=[str(attempt) for attempt in population.failed_attempts[:-4:-1]],
        problems=problems,
    )


def condition(folder: Path, run: StoredRun, now: float) -> tuple[str, bool]:
    """How the run is, in words, and whether a controller is at work on it."""
    status = _status(folder)
    if status in ("complete", "broken", "wrong-use"):
        return status, False
    holder = _holder(folder)
    if holder is not None:
        return ("running", True) if holder else ("stopped: there is more to do", False)
    quiet = now - max(_modified(folder / name) for name in ("population.h5", "journal", "status"))
    if quiet <= 60.0 + 3.0 * run.config.run.compact_interval:
        return "running", True  # or has ended this minute
    return f"no sign of life for {duration(quiet)}", False


def _status(folder: Path) -> str:
    try:
        lines = (folder / "status").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    return dict(line.partition("=")[::2] for line in lines).get("state", "")


def _holder(folder: Path) -> bool | None:
    """Whether the process that last held the run is there; None where it was another host's."""
    try:
        match = re.fullmatch(r"host (\S+), pid (\d{1,9})\s*", (folder / "lock").read_text(encoding="utf-8"))
        if match is None or match[1] != socket.gethostname():
            return None
        return psutil.Process(int(match[2])).create_time() <= _modified(folder / "lock") + 1.0
    except psutil.NoSuchProcess:
        return False
    except (OSError, ValueError, psutil.Error):
        return None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def individual(run: StoredRun, id: int) -> dict[str, Any]:
    """What is known of an evaluated individual."""
    population, result = run.population, run.population.result(id)
    assert isinstance(result.outcome, Evaluation), "evaluated"
    parent = population.individual(id).parent
    accuracies, fitness = population.pooled(id), population.column("fitness")
    return {
        "id": id,
        "fitness": float(fitness[id]),
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "parameters": result.outcome.parameters,
        "parent": parent,
        "gain": None if parent is None else float(fitness[id] - fitness[parent]),
        "seconds": result.finished - result.started,
        "finished": result.finished,
        "rank": result.place.rank,
    }


def workers(run: StoredRun, running: bool) -> list[Worker]:
    """Those of the last session, by rank."""
    if not run.sessions:
        return []
    population, session = run.population, run.sessions[-1]
    first = 0 if session.software.get("mpi") == "none" else 1  # alone, controller and worker are one process
    results: dict[int, list[Result]] = {rank: [] for rank in range(first, session.ranks + first - 1)}
    settled = np.flatnonzero(population.column("finished") >= session.started)
    for result in [population.result(int(id)) for id in settled] + [
        attempt
        for attempt in population.failed_attempts
        if _is_repeated(run, attempt) and attempt.finished >= session.started
    ]:
        results.setdefault(result.place.rank, []).append(result)
    since = {}
    for rank, its in results.items():
        its.sort(key=lambda result: result.finished)
        since[rank] = its[-1].finished if its else session.started
    states = _states(run, since) if running else dict.fromkeys(since, "-")
    return [_worker(population, rank, its, states[rank], since[rank]) for rank, its in sorted(results.items())]


def _is_repeated(run: StoredRun, attempt: Result) -> bool:
    """Whether a failed attempt was not the last one, which is its individual's result."""
    state = run.population.column("state")[attempt.individual]
    return state != State.FAILED or attempt.attempt < run.population.column("attempts")[attempt.individual]


def _states(run: StoredRun, since: dict[int, float]) -> dict[int, str]:
    """Every worker has something to do as long as there is anything; where it is not enough for all, those without are
    guessed."""
    population, search, count = run.population, run.config.search, run.population.in_flight
    if count >= len(since):
        return dict.fromkeys(since, "at work")
    limit = search.trainings  # of which each in flight takes one more at least
    spent = len(population.evaluated) + count >= search.budget
    spent |= limit is not None and population.trainings + count >= limit
    # then who came last got nothing; else who has been silent is not there
    ranked = sorted(since, key=lambda rank: since[rank], reverse=not spent)
    without = "idle?" if spent else "silent?"
    return {rank: ("at work?" if place < count else without) for place, rank in enumerate(ranked)}


def _worker(population: Population, rank: int, results: list[Result], state: str, since: float) -> Worker:
    evaluations = [result for result in results if isinstance(result.outcome, Evaluation)]
    last = results[-1] if results else None
    return Worker(
        rank=rank,
        host=last.place.host if last else "",
        device=last.place.device if last else "",
        state=state,
        since=since,
        typical=statistics.median(one.finished - one.started for one in evaluations) if evaluations else None,
        evaluated=len(evaluations),
        failed=len(results) - len(evaluations),
        last=last.individual if last else None,
        last_fitness=float(population.column("fitness")[last.individual]) if last in evaluations else None,
    )


def throughput(run: StoredRun, now: float | None) -> float | None:
    """Evaluations a second over the last rounds of the last session, up to `now` or to the last of them."""
    if not run.sessions:
        return None
    session, finished = run.sessions[-1], run.population.column("finished")[run.population.evaluated]
    finished = np.sort(finished[finished >= session.started])
    count = min(len(finished), ROUNDS * max(1, session.ranks - 1))
    if count == 0:
        return None
    since = finished[-count - 1] if len(finished) > count else session.started
    elapsed = (finished[-1] if now is None else max(now, finished[-1])) - since
    return float(count / elapsed) if elapsed > 0 else None


# ── how it looks ────────────────────────────────────────────────────────────────────────────────────────────────────
def picture(seen: Snapshot, host: usage.Host, height: int | None) -> RenderableType:
    """The whole view; `height` lines at most, where it is given."""
    parts: list[RenderableType] = [_progress(seen), "", _devices(seen, host)]
    below = len(seen.failures) + len(seen.problems)
    room = None if height is None else max(3, height - 15 - len(host.gpus) - below)
    if seen.workers:
        shown = seen.workers
        if room is not None and len(shown) > room:
            shown = sorted(seen.workers, key=lambda worker: worker.since)[: room - 1]
        parts += ["", _workers(seen, shown)]
    if seen.flying:
        ages = [f"{id} ({duration(seconds)})" if seen.running else str(id) for id, seconds in seen.flying[:100]]
        title = "in flight  " if seen.running else "to be issued again  "
        parts += ["", _line((title, "bold"), ("  ".join(ages), ""))]
    if seen.recent and (room is None or len(seen.workers) + 8 <= room):
        parts += ["", _recent(seen)]
    if below:
        parts.append("")
    parts += [_line(("✗ ", "red"), (_printable(text), "")) for text in seen.failures]
    parts += [_line(("! ", "bold yellow"), (_printable(text), "yellow")) for text in seen.problems]
    return Group(*parts)


def _line(*parts: tuple[str, str]) -> Text:
    return Text.assemble(*parts, overflow="ellipsis", no_wrap=True)


def _printable(text: str) -> str:
    """Text from a file, without what a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)


def _progress(seen: Snapshot) -> RenderableType:
    """Counts, pace, the best, and the course of the search."""
    colour = "green" if seen.running or seen.state == "complete" else "yellow"
    trainings = "" if seen.trainings_limit is None else f" · {seen.trainings}/{seen.trainings_limit} trainings"
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1)
    head.add_column(justify="right", no_wrap=True)
    head.add_row(
        ProgressBar(
            total=max(1, seen.evaluated + seen.left),
            completed=seen.evaluated,
            complete_style=colour,
            finished_style=colour,
        ),
        f"{seen.evaluated}/{seen.budget} evaluated{trainings}",
    )
    counts = [f"{seen.in_flight} in flight", f"{seen.failed} failed"]
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
        lines.append(_line(("nobody has been evaluated yet", "dim")))
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
    title = _line((_printable(seen.run), "bold"), (" ─ ", "dim"), (seen.state, f"bold {colour}"))
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


def _workers(seen: Snapshot, shown: Sequence[Worker]) -> Table:
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
            _printable(worker.host),
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
    return re.sub(r"(GPU-[0-9a-f]{8})-[-0-9a-f]+", r"\1…", _printable(device))


def _last(worker: Worker) -> str:
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


def _devices(seen: Snapshot, host: usage.Host) -> RenderableType:
    """This host: a line for its cores, and one a GPU."""
    mine = [worker for worker in seen.workers if worker.host == host.name]
    known = any(worker.host for worker in seen.workers)
    elsewhere = " · no worker of this run is here" if known and not mine else ""
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        _line((_printable(host.name), "bold")),
        _bar(host.use),
        f"{host.use:.0f} % of {host.cores} cores",
        _bar(100 * host.memory / host.memory_total),
        f"{host.memory:.1f} of {host.memory_total:.1f} GiB{elsewhere}",
    )
    for gpu in host.gpus:
        ranks = [str(worker.rank) for worker in mine if gpu.is_device(worker.device)]
        details = [_quantity(gpu.temperature, "°C"), _quantity(gpu.power, "W")]
        details += [f"rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)}"] if ranks else []
        share = None if gpu.memory is None or not gpu.memory_total else 100 * gpu.memory / gpu.memory_total
        memory = "" if share is None else f"{gpu.memory / 1024:.1f} of {gpu.memory_total / 1024:.1f} GiB"
        grid.add_row(
            _line((_printable(f"GPU {gpu.index} {gpu.name}"), "")),
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


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────
def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = toolkit.parser(__doc__, runs="1")
    parser.add_argument("--once", action="store_true", help="print one picture and leave")
    parser.add_argument("--interval", type=float, default=2.0, metavar="T", help="seconds between looks (default: 2)")
    options = parser.parse_args(arguments)
    if not 0.1 <= options.interval <= 3600:
        parser.error(f"--interval: expected 0.1 to 3600 seconds, got {options.interval}")
    try:
        seen = look(options.run, time.time())
    except StoreError as error:
        toolkit.fail(str(error))
    if options.json:
        toolkit.print_json(asdict(seen) | {"host": asdict(usage.here(0.2))})
        return 0
    console = plain_console()
    if options.once or not console.is_terminal or os.environ.get("TERM") == "dumb":
        console.print(picture(seen, usage.here(0.2), None))
        return 0
    try:
        watch(options.run, seen, console, options.interval)
    except KeyboardInterrupt:
        pass  # how a person ends it
    return 0


def plain_console(**options: Any) -> Console:
    """One that shows texts as they are."""
    return Console(highlight=False, emoji=False, markup=False, **options)


def watch(folder: Path, seen: Snapshot, console: Console, interval: float) -> None:
    """Looks again and again, until interrupted."""
    usage.here(None)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(picture(seen, usage.here(None), console.height), refresh=True)
            time.sleep(interval)
            try:
                seen = look(folder, time.time())
            except StoreError as error:  # say, a file server that is away for a moment
                seen = replace(seen, time=time.time(), problems=[str(error)])


if __name__ == "__main__":
    sys.exit(main())
