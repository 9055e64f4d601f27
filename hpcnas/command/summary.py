"""What was run and how it stands: the best individuals, failures, worker time, and when it will end.

One run is told at length, several as a table with a line each. All of it is as of the run's last renewed file. RUN may
be retrainings: then there is a line for each training, with its latest loss and accuracy on augmented training images,
learning rate, images/s, share of the time spent waiting for images, and validation and test accuracy; of one retraining
also the worst and the best classes and those that are confused most, over all tests. With --table1 the table is the
paper's Table 1: their test error beside the published one.

Worker time is that of attempts whose end is recorded; on GPUs it is GPU hours. The busy share is the time that workers
had something to do, of the time that they were there, over all sessions. The estimated end goes by the pace of the last
session that has evaluated anything, or stopped it early. Networks that were evaluated again are counted from the
genotypes where the run has not kept its networks (--duplicates retrain), of up to 20,000 individuals: some seconds.

For a paper, --csv and --latex give the results as a table with a row for each RUN, --methods a paragraph for each that
says what was done, with every setting that is not the paper's, and BibTeX of what it cites; with --latex for LaTeX.

With --rungs there is a line for each rung, five at the most: the rank correlation (Spearman) of accuracies there with
final ones, of all complete curves, and the standard deviation of final accuracies from the straight line between both.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from hpcnas.analysis import retrainings, runs, tested, training_curves, worker_time
from hpcnas.analysis.job_state import RUNNING
from hpcnas.analysis.rungs import few, percent
from hpcnas.analysis.summary import facts
from hpcnas.command import common, for_papers, retraining_view, table1
from hpcnas.job.log import duration
from hpcnas.search.progress import known_networks, told_stops, told_wait


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__)
    parser.add_argument("--best", type=int, default=5, metavar="N", help="how many of the best to list (default 5)")
    parser.add_argument("--table1", action="store_true", help="RUN are retrainings: their errors beside the paper's")
    for_papers.add_options(parser)
    options = parser.parse_args(arguments)
    if options.best < 1:
        parser.error(f"--best: expected a number from 1, got {options.best}")
    if for_papers.asked_for(parser, options):
        print(for_papers.text(options))
        return 0
    if options.table1:
        table1.show(options.runs, as_json=options.json)
        return 0
    if all(map(retrainings.is_one, options.runs)):
        trained = [retraining_facts(retrainings.load(folder)) for folder in options.runs]
        if options.json:
            common.print_json(trained)
        else:
            print(retraining_view.text(trained))
        return 0
    found = [facts(folder, runs.load(folder), options.best) for folder in options.runs]
    if options.json:
        common.print_json(found)
    elif len(found) == 1:
        print(at_length(found[0]))
    else:
        print(side_by_side(found))
    return 0


def retraining_facts(found: retrainings.Found) -> dict[str, Any]:
    """What there is to say of a retraining, with its worst and best classes."""
    return training_curves.facts(found) | {"classes": tested.facts(found)}


def at_length(run: dict[str, Any]) -> str:
    """One run: what it is, then tables of the best, the failures and the sessions."""
    settings, done = run["settings"], run["evaluated"]
    cost = f"{settings['replicates']} × {settings['steps']} steps of {settings['batch_size']} images"
    if settings["evaluator"] == "synthetic":
        cost = "synthetic: nothing was trained"
    short, judged = ("accuracy", "") if settings["fitness"] == "accuracy" else ("fitness", f"{settings['measure']}; ")
    shown = [run["rungs"][place] for place in few(len(run["rungs"]))]
    limit = f", under {settings['max_parameters']:,} parameters" if settings["max_parameters"] else ""
    limit += f", under {settings['max_flops']:,} FLOPs" if settings["max_flops"] else ""
    what = "individual" if run["stopped"] else "evaluation"
    each = f" ({duration(3600 * run['worker_hours'] / (done + run['stopped']))} an {what})" if done else ""
    lines = [
        ("state", run["state"]),
        ("search", f"{settings['strategy']}, {settings['space']} space{limit}, seed {settings['seed']}"),
        ("fitness", f"{judged}{settings['data']}, {settings['channels']} channels, {cost}"),
        ("evaluated", f"{counted(run)}; {run['failed']} failed, {run['in_flight']} in flight"),
        *(("stopped early", line) for line in stopped_early(run)),
        *((f"rung at {percent(rung['share'])}", said_by(rung, short)) for rung in shown),
        ("trainings", f"{run['trainings']:.0f}" + (f" of {run['trainings_limit']}" if run["trainings_limit"] else "")),
        ("refused", f"{run['refused_genotypes']} genotypes drawn again (invalid, or over a constraint)"),
        ("known", _known(run)),
        *([("predictions", run["predictions"])] if run["predictions"] else []),
        *(("expected", line) for line in run["expected"]),
        *(("confirmed", line) for line in run["confirmed"]),
        (worker_time.hours_name(run["on_gpus"]), f"{_hours(run['worker_hours'])}{each}"),
        ("workers busy", _share(run["busy_share"])),
        ("speed", "-" if run["steps_a_second"] is None else f"{run['steps_a_second']:,.1f} steps/s a worker"),
        *([("waiting", told_wait(run["input_wait"]))] if run["input_wait"] else []),
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
        (one["started"], duration(one["seconds"]), one["workers"], one["evaluated"],
         *([one["stopped"]] if run["stopped"] else []), _share(one["busy_share"]), one["host"], one["hpcnas"] or "?")
        for one in run["sessions"]
    ]  # fmt: skip
    if run["best"] and run["best"][0]["measures"]:
        told = ", ".join(f"{name} {value:.4f}" for name, value in run["best"][0]["measures"].items())
        text += f"\n  {'best is':<14} {told}"
    early = ["stopped"] if run["stopped"] else []
    for header, rows in (
        (("best", "fitness", "std", "trainings", "parameters", "step", "mutations", "time"), best),
        (("failures", "attempts", "individuals", "last message"), failures),
        (("session", "time", "workers", "evaluated", *early, "busy", "host", "hpcnas"), sessions),
    ):
        if rows:
            text += f"\n\n{common.table(header, rows)}"
    return text if done else f"{text}\n\nno individual has been evaluated yet"


def counted(run: dict[str, Any]) -> str:
    """How much of the budget is done: what was stopped early belongs to it."""
    if not run["stopped"]:
        return f"{run['evaluated']} of {run['budget']}"
    done = run["evaluated"] + run["stopped"]
    return f"{run['evaluated']}; with {run['stopped']} stopped early {done} of {run['budget']}"


def stopped_early(run: dict[str, Any]) -> list[str]:
    """At which rungs, and what that has saved; nothing where nothing was stopped."""
    if not run["stopped"]:
        return []
    return [told_stops(((rung["share"], rung["stopped"]) for rung in run["rungs"]), run["trainings_saved"])]


def said_by(rung: dict[str, Any], what: str) -> str:
    """What accuracies, or whatever the fitness is, say at a rung of final ones."""
    curves, line = rung["complete_curves"], rung["line"]
    if rung["rank_correlation"] is None:
        return f"too few complete curves to say anything: {curves}"
    told = f"rank correlation {rung['rank_correlation']:.2f} with the final {what}, of {curves} complete curves"
    return told + (f"; ± {line['deviation']:.4f} from a line" if line else "; no line")


def side_by_side(runs: Sequence[dict[str, Any]]) -> str:
    """Several runs, a line each."""
    hours = worker_time.hours_name(any(run["on_gpus"] for run in runs))
    early = ["stopped"] if any(run["stopped"] for run in runs) else []
    judged = ["fitness"] if any(run["settings"]["fitness"] != "accuracy" for run in runs) else []
    header = ("run", "state", "evaluated", *early, "budget", "failed", *judged, "best", "id", hours, "busy", "left")
    rows = []
    for run in runs:
        fitness, id = (f"{run['best'][0]['fitness']:.4f}", run["best"][0]["id"]) if run["best"] else ("-", "-")
        left = "?" if run["remaining_seconds"] is None else duration(run["remaining_seconds"])
        counts = (run["evaluated"], *(run[name] for name in early), run["budget"], run["failed"])
        rows.append(
            (
                run["run"],
                run["state"],
                *counts,
                *(run["settings"][name] for name in judged),
                fitness,
                id,
                _hours(run["worker_hours"]),
                _share(run["busy_share"]),
                left,
            )
        )
    return common.table(header, rows)


def _known(run: dict[str, Any]) -> str:
    """How often births have met a network that was there."""
    return f"networks: {known_networks(run['known_networks'], run['repeated_networks'], run['averaged_in'])}"


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.3f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _end(run: dict[str, Any]) -> str:
    if run["confirmations_left"]:
        return f"the budget is spent; up to {run['confirmations_left']} new trainings of the best are to come"
    if run["evaluations_left"] == 0:
        return "the budget is spent"
    if run["remaining_seconds"] is None:
        return "unknown: nothing has been evaluated yet"
    left = duration(run["remaining_seconds"])
    if run["state"] == RUNNING:
        return f"{run['estimated_end']}, {left} after the last event"
    return f"{left} after it is continued"
