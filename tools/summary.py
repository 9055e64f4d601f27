#!/usr/bin/env python3
"""What was run and how it stands: the best individuals, failures, worker time, and when it will end.

One run is told at length, several as a table with a line each. All of it is as of the run's last renewed file. With
--table1, RUN are retrainings, and the table is the paper's Table 1: their test error beside the published one.

Worker time is that of attempts whose end is recorded; on GPUs it is GPU hours. The busy share is the time that workers
had something to do, of the time that they were there, over all sessions. The estimated end goes by the pace of the last
session that has evaluated anything. Networks that were evaluated again are counted from the genotypes where the run has
not kept its networks (--duplicates retrain), of up to 20,000 individuals: some seconds.
"""

from __future__ import annotations

import datetime
import statistics
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import toolkit

from hpcnas import text_file
from hpcnas.analysis import retrainings, table1, worker_time
from hpcnas.evolution.budget import evaluations_left, is_complete
from hpcnas.evolution.duplicates import repeats
from hpcnas.evolution.population import Population
from hpcnas.job.log import duration
from hpcnas.messages import Failure
from hpcnas.search import methods
from hpcnas.search.progress import known_networks
from hpcnas.search.run_file import StoredRun

RUNNING = "running or killed"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = toolkit.parser(__doc__)
    parser.add_argument("--best", type=int, default=5, metavar="N", help="how many of the best to list (default 5)")
    parser.add_argument("--table1", action="store_true", help="RUN are retrainings: their errors beside the paper's")
    options = parser.parse_args(arguments)
    if options.best < 1:
        parser.error(f"--best: expected a number from 1, got {options.best}")
    if options.table1:
        rows = table1.rows([retrainings.load(folder) for folder in options.runs])
        if options.json:
            toolkit.print_json(rows)
        else:
            print(beside_the_paper(rows))
        return 0
    found = [facts(folder, toolkit.load(folder), options.best) for folder in options.runs]
    if options.json:
        toolkit.print_json(found)
    elif len(found) == 1:
        print(at_length(found[0]))
    else:
        print(side_by_side(found))
    return 0


def facts(folder: Path, run: StoredRun, best: int) -> dict[str, Any]:
    """Everything there is to say about a run. Fitness from 0 to 1, times in seconds."""
    population, search = run.population, run.config.search
    sessions = worker_time.accounts(run)
    done = len(population.evaluated)
    ended = sessions[-1].ended if sessions else None
    pace = next((account for account in reversed(sessions) if account.evaluated), None)
    left = evaluations_left(search, population)
    remaining = left * (pace.ended - pace.started) / pace.evaluated if pace else None if left else 0.0
    return {
        "run": str(folder),
        "state": state(folder, run),
        "settings": {
            "data": run.config.data.source,
            "space": str(run.config.space),
            "strategy": search.strategy,
            "seed": search.seed,
            "duplicates": search.duplicates,
            "max_parameters": search.max_parameters,
            "max_flops": search.max_flops,
            "evaluator": run.config.evaluation.evaluator,
            "channels": run.config.network.channels,
            "replicates": run.config.training.replicates,
            "steps": run.config.training.steps,
            "batch_size": run.config.training.batch_size,
        },
        "sessions": [
            {
                "started": _iso(account.started),
                "seconds": account.ended - account.started,
                "host": session.host,
                "workers": account.workers,
                "evaluated": account.evaluated,
                "busy_share": worker_time.busy_share([account]),
                "hpcnas": session.software.get("hpcnas"),
            }
            for session, account in zip(run.sessions, sessions, strict=True)
        ],
        "budget": search.budget,
        "evaluated": done,
        "evaluations_left": left,
        "trainings": population.trainings,
        "trainings_limit": search.trainings,
        "failed": len(population.failures),
        "in_flight": population.in_flight,
        "refused_genotypes": population.redrawn,
        "known_networks": population.known,
        "repeated_networks": repeats(population),
        "averaged_in": population.averaged,
        "trained_by": methods.summary(run.workers),
        "best": _best(population, best),
        "failures": _failures(population),
        "on_gpus": worker_time.on_gpus(population),
        "worker_hours": worker_time.Attempts.of(population).seconds() / 3600,
        "busy_share": worker_time.busy_share(sessions),
        "steps_a_second": _steps_a_second(run),
        "last_event": None if ended is None else _iso(ended),
        "remaining_seconds": remaining,
        "estimated_end": None if ended is None or remaining is None else _iso(ended + remaining),
    }


def state(folder: Path, run: StoredRun) -> str:
    """As RUN/status has it; `more` stands there also while a session runs, but then it is older than the session."""
    try:
        lines = text_file.read(folder / "status", 4096).splitlines()
        status = dict(line.split("=", 1) for line in lines)
        written = datetime.datetime.fromisoformat(status["time"]).timestamp()
    except (text_file.Unreadable, ValueError, KeyError):
        status, written = {"state": "more"}, 0.0
    if status.get("state") != "more":
        return status.get("state", RUNNING)
    if is_complete(run.config.search, run.population):
        return "complete"
    return "more to do" if run.sessions and written > run.sessions[-1].started else RUNNING


def _steps_a_second(run: StoredRun) -> float | None:
    """Optimiser steps that a worker makes a second while it trains, all replicates together: the median of all
    evaluations."""
    ids = run.population.evaluated
    seconds, trained = (run.population.column(name)[ids] for name in ("training_seconds", "replicates_trained"))
    if run.config.evaluation.evaluator != "training" or not len(ids) or seconds.min() <= 0:
        return None
    return run.config.training.steps / statistics.median((seconds / trained).tolist())


def _best(population: Population, number: int) -> list[dict[str, Any]]:
    """The fittest of those that compete, first of equals first."""
    fitness, order = population.column("fitness"), population.evaluated.tolist()
    competing = population.competing(len(order)).tolist()
    step = {id: place for place, id in enumerate(order, start=1)}
    found = []
    for id in sorted(competing, key=lambda id: -fitness[id])[:number]:
        accuracies = population.pooled(id)
        found.append(
            {
                "id": id,
                "step": step[id],
                "fitness": float(fitness[id]),
                "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
                "trainings": len(accuracies),
                "parameters": int(population.column("parameters")[id]),
                "mutations": sum(1 for _ in population.lineage(id)) - 1,
                "seconds": float(population.column("worker_seconds")[id]),
            }
        )
    return found


def _failures(population: Population) -> list[dict[str, Any]]:
    """By kind: attempts, individuals given up for it, and the last attempt's message in one line."""
    outcomes = [attempt.outcome for attempt in population.failed_attempts]
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    attempts = Counter(failure.kind for failure in failures)
    given_up = Counter(failure.kind for failure in population.failures.values())
    last = {failure.kind: failure.summary for failure in failures}
    return [
        {"kind": kind.name.lower(), "attempts": number, "individuals": given_up[kind], "last": last[kind]}
        for kind, number in sorted(attempts.items())
    ]


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


# ── for the terminal ────────────────────────────────────────────────────────────────────────────────────────────────
def at_length(run: dict[str, Any]) -> str:
    """One run: what it is, then tables of the best, the failures and the sessions."""
    settings, done = run["settings"], run["evaluated"]
    cost = f"{settings['replicates']} × {settings['steps']} steps of {settings['batch_size']} images"
    if settings["evaluator"] == "synthetic":
        cost = "synthetic: nothing was trained"
    limit = f", under {settings['max_parameters']:,} parameters" if settings["max_parameters"] else ""
    limit += f", under {settings['max_flops']:,} FLOPs" if settings["max_flops"] else ""
    each = f" ({duration(3600 * run['worker_hours'] / done)} an evaluation)" if done else ""
    lines = [
        ("state", run["state"]),
        ("search", f"{settings['strategy']}, {settings['space']} space{limit}, seed {settings['seed']}"),
        ("fitness", f"{settings['data']}, {settings['channels']} channels, {cost}"),
        ("evaluated", f"{done} of {run['budget']}; {run['failed']} failed, {run['in_flight']} in flight"),
        ("trainings", f"{run['trainings']}" + (f" of {run['trainings_limit']}" if run["trainings_limit"] else "")),
        ("refused", f"{run['refused_genotypes']} genotypes drawn again (invalid, or over a constraint)"),
        ("known", _known(run)),
        (worker_time.hours_name(run["on_gpus"]), f"{_hours(run['worker_hours'])}{each}"),
        ("workers busy", _share(run["busy_share"])),
        ("speed", "-" if run["steps_a_second"] is None else f"{run['steps_a_second']:,.1f} steps/s a worker"),
        *(("trained by", line) for line in run["trained_by"]),
        ("last event", run["last_event"] or "none: no worker has been ready yet"),
        ("estimated end", _end(run)),
    ]
    text = "\n".join([run["run"], *(f"  {name:<14} {value}" for name, value in lines)])
    best = [
        (one["id"], f"{one['fitness']:.4f}", "-" if one["std"] is None else f"{one['std']:.4f}",
         one["trainings"], f"{one['parameters']:,}", one["step"], one["mutations"], duration(one["seconds"]))
        for one in run["best"]
    ]  # fmt: skip
    failures = [
        (one["kind"], one["attempts"], one["individuals"], textwrap.shorten(one["last"], 80, placeholder=" …"))
        for one in run["failures"]
    ]
    sessions = [
        (one["started"], duration(one["seconds"]), one["workers"], one["evaluated"], _share(one["busy_share"]),
         one["host"], one["hpcnas"] or "?")
        for one in run["sessions"]
    ]  # fmt: skip
    for header, rows in (
        (("best", "fitness", "std", "trainings", "parameters", "step", "mutations", "time"), best),
        (("failures", "attempts", "individuals", "last message"), failures),
        (("session", "time", "workers", "evaluated", "busy", "host", "hpcnas"), sessions),
    ):
        if rows:
            text += f"\n\n{toolkit.table(header, rows)}"
    return text if done else f"{text}\n\nno individual has been evaluated yet"


def side_by_side(runs: Sequence[dict[str, Any]]) -> str:
    """Several runs, a line each."""
    hours = worker_time.hours_name(any(run["on_gpus"] for run in runs))
    header = ("run", "state", "evaluated", "budget", "failed", "best", "id", hours, "busy", "left")
    rows = []
    for run in runs:
        fitness, id = (f"{run['best'][0]['fitness']:.4f}", run["best"][0]["id"]) if run["best"] else ("-", "-")
        left = "?" if run["remaining_seconds"] is None else duration(run["remaining_seconds"])
        counts = (run["evaluated"], run["budget"], run["failed"])
        rows.append(
            (
                run["run"],
                run["state"],
                *counts,
                fitness,
                id,
                _hours(run["worker_hours"]),
                _share(run["busy_share"]),
                left,
            )
        )
    return toolkit.table(header, rows)


def _known(run: dict[str, Any]) -> str:
    """How often births have met a network that was there."""
    return f"networks: {known_networks(run['known_networks'], run['repeated_networks'], run['averaged_in'])}"


def beside_the_paper(rows: Sequence[dict[str, Any]]) -> str:
    """Table 1, errors in percent."""
    header = ("data", "representation", "search", "c0", "parameters", "seeds", "test error %", "the paper's", "recipe")
    cells = [
        (row["data"], row["representation"], row["search"], row["channels"],
         "-" if row["parameters"] is None else f"{row['parameters']:,}", row["seeds"] or "-", _error(row),
         row["paper"] or "-", row["departures"] or "the paper's")
        for row in rows
    ]  # fmt: skip
    return toolkit.table(header, cells)


def _error(row: dict[str, Any]) -> str:
    if row["error"] is None:
        return "-"
    spread = "" if row["error_std"] is None else f" ± {row['error_std']:.2f}"
    top5 = f" / {row['top5_error']:.1f}" if row["data"] == table1.IMAGENET and row["top5_error"] is not None else ""
    return f"{row['error']:.2f}{spread}{top5}"


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.3f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _end(run: dict[str, Any]) -> str:
    if run["evaluations_left"] == 0:
        return "the budget is spent"
    if run["remaining_seconds"] is None:
        return "unknown: nothing has been evaluated yet"
    left = duration(run["remaining_seconds"])
    if run["state"] == RUNNING:
        return f"{run['estimated_end']} if it runs, {left} after the last event"
    return f"{left} after it is continued"


if __name__ == "__main__":
    sys.exit(toolkit.run(main))
