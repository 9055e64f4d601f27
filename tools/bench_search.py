#!/usr/bin/env python3
"""How soon strategies, ours and others', find the best networks of published tables of real trainings.

Whole searches by the virtual clock, with asynchronous workers, spread durations and measured noise; all begin with the
same networks. The tables are those of a folder: nas-bench-201.csv and nas-bench-macro.csv, which are no part of hpcnas.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hpcnas.analysis import arena, benchmark_tables, peers
from hpcnas.analysis.runs import AnalysisError
from hpcnas.command import common

_QUICK = ("optuna-tpe", "neps-evolution")  # a search of SMAC's takes a minute and more


def main() -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="")
    tables, terms = list(benchmark_tables.LAYOUTS), arena.Terms()
    parser.add_argument("--tables", type=Path, required=True, metavar="DIR", help="folder of the tables")
    parser.add_argument("--benchmarks", nargs="+", choices=tables, default=tables, metavar="NAME",
                        help=f"which of them ({' '.join(tables)})")  # fmt: skip
    parser.add_argument("--contenders", nargs="+", metavar="NAME",
                        help=f"some of {', '.join([*arena.OURS, *peers.PEERS])}, or NAME='OPTIONS OF A SEARCH' "
                        f"(default: ours, and of {', '.join(_QUICK)} those that are installed)")  # fmt: skip
    parser.add_argument("--seeds", type=_count, default=40, metavar="N", help="searches of each contender (40)")
    parser.add_argument("--evaluations", type=_count, default=terms.evaluations, metavar="N",
                        help=f"of each search ({terms.evaluations})")  # fmt: skip
    parser.add_argument("--workers", type=_count, nargs="+", default=[terms.workers], metavar="W",
                        help=f"of each search, also several ({terms.workers})")  # fmt: skip
    parser.add_argument("--processes", type=_count, default=1, metavar="N", help="searches at a time (1)")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write the JSON to this file as well")
    parser.add_argument("--output", type=common.picture_path, metavar="FILE", help="write the picture to this file")
    given = parser.parse_args()
    if given.output:  # before searches of minutes; the table needs no matplotlib
        from hpcnas.analysis.figures import comparisons, style
    given.contenders = given.contenders or _all()
    found = []
    for benchmark in [benchmark_tables.read(benchmark_tables.LAYOUTS[name], given.tables) for name in given.benchmarks]:
        for workers in given.workers:
            found.append(_compared(benchmark, arena.Terms(given.evaluations, workers), given))
    if given.output:
        style.save(comparisons.regret_picture(found), given.output)
    if given.results:
        try:
            given.results.write_text(json.dumps(found, default=lambda array: array.tolist()), encoding="utf-8")
        except OSError as error:
            raise AnalysisError(f"expected to write {given.results}: {error.strerror}") from error
    if given.json:
        common.print_json(found)
    else:
        print("\n\n".join(table(one) for one in found))
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 1,000,000, got {text!r:.100}")
    return int(text)


def _compared(benchmark: benchmark_tables.Benchmark, terms: arena.Terms, given: argparse.Namespace) -> dict[str, Any]:
    """The figures of all contenders with one table."""
    contenders = [arena.contender(text) for text in given.contenders]
    found = arena.standings(benchmark, contenders, given.seeds, terms, given.processes, _say)
    return arena.numbers(benchmark, found, terms)


def _all() -> list[str]:
    """The contenders where none is named."""
    found = [*arena.OURS]
    for name in _QUICK:
        try:
            peers.demand(name)
        except AnalysisError as error:
            _say(f"without {name}: {error}")
        else:
            found.append(name)
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def table(told: dict[str, Any]) -> str:
    """For a person."""
    goals = [f"top {100 * share:g} %" for share in arena.SHARES]
    of_goals = [text for goal in goals for text in (f"to {goal}", "cost", "hits")]
    header = ["contender", "seeds", *of_goals, "regret", "mean"]
    rows = []
    for one in told["contenders"]:
        row = [one["name"], one["seeds"]]
        for goal in one["goals"]:
            row += [_between(*map(_shown, goal[key])) for key in ("evaluations", "cost")]
            row.append(_between(*(f"{100 * share:.0f}" for share in (goal["hits"], *goal["hits_interval"]))))
        ends = [f"{100 * one[key][-1]:.2f}" for key in ("regret", "regret_low", "regret_high")]
        rows.append([*row, _between(*ends), f"{100 * one['final_regret_mean']:.3f}"])
    text = (
        f"{told['table']}: {told['evaluations']} evaluations, {told['workers']} workers. Evaluations and cost (in full "
        "trainings) until what\nwould be returned is truly among the best, hits in percent of the seeds, regret at the "
        "end in percent: medians (95 %), and the mean"
    )
    return f"{text}\n{common.table(header, rows)}"


def _between(middle: str, low: str, high: str) -> str:
    return f"{middle} ({low} to {high})"


def _shown(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(common.run(main))
